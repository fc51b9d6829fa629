//! Models that stand, made up at random.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::limits::{self, next_ring_size};
use crate::api::types::EventName;
use crate::model::{
    Affinity, Api, Family, FlowPolicy, FlowTable, Forward, Fragments, Health, Hooks, Host, Interface,
    Metrics, Model, OuterSource, Percent, Ping, PortRange, Ports, Protocol, Protocols, Reach, Retention,
    Rules, Service, Timeouts, TlsFiles, Tracking, UdpHandover, Ui, Vip, VipMode, WhenEmpty, XdpMode,
};

prop_compose! {
    fn host(index: u8)(weight in 1..=u16::MAX, families in 1..=3u8, groups in 0..=3u8) -> Host {
        let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(index) + 1);
        Host {
            name: format!("h_{index}.Rack-{}", index % 3),
            weight,
            disabled: groups == 3,
            // All of them: the rule about zones wants it.
            zone: Some(format!("zone-{}", index % 3)),
            groups: (0..2).filter(|bit| groups >> bit & 1 != 0).map(|bit| format!("group.{bit}")).collect(),
            ipv4: (families & 1 != 0).then(|| Ipv4Addr::new(10, 0, 0, index + 1)),
            ipv6: (families & 2 != 0).then_some(v6),
        }
    }
}

fn timeout() -> impl Strategy<Value = Duration> {
    (1..=86_400u64).prop_map(Duration::from_secs)
}

prop_compose! {
    fn timeouts()(
        half_open in timeout(),
        established in timeout(),
        closing in timeout(),
        udp in timeout(),
        udp_gap in timeout(),
    ) -> Timeouts {
        Timeouts { half_open, established, closing, udp, udp_gap }
    }
}

prop_compose! {
    fn rules()(min_healthy in 0..=100u8, one_zone_at_a_time: bool) -> Rules {
        Rules { min_healthy: Percent(min_healthy), one_zone_at_a_time }
    }
}

/// What a service is to be like, where that fits the rest.
#[derive(Debug, Clone)]
struct Wish {
    is_v6: bool,
    /// Bit 0: TCP, bit 1: UDP.
    protocols: u8,
    ports: Vec<PortRange>,
    /// Bits of the VIP's prefix that are left out.
    short: u8,
    forward: Forward,
    outer: Option<Family>,
    policy: u8,
    backend_port: Option<u16>,
    chosen: Vec<bool>,
    when_empty: WhenEmpty,
}

prop_compose! {
    fn wish()(
        is_v6: bool,
        protocols in 1..=3u8,
        firsts in prop::collection::btree_set(1..=6000u16, 1..5),
        widths in prop::collection::vec(prop_oneof![Just(0u16), 1..10u16], 5),
        is_all in prop::bool::weighted(0.1),
        short in prop_oneof![Just(0u8), 1..6u8],
        forward in select(vec![Forward::L2, Forward::Ipip, Forward::Gue, Forward::Nat]),
        outer in prop::option::of(select(vec![Family::Ipv4, Family::Ipv6])),
        policy: u8,
        backend_port in prop::option::of(1..=u16::MAX),
        chosen in prop::collection::vec(any::<bool>(), 8),
        when_empty in select(vec![WhenEmpty::Reject, WhenEmpty::Pass, WhenEmpty::Last]),
    ) -> Wish {
        // Apart, whatever their widths.
        let range = |(first, width): (u16, u16)| PortRange { first: first * 10, last: first * 10 + width.min(9) };
        let ports = firsts.into_iter().zip(widths).map(range).collect();
        let ports = if is_all { vec![PortRange::ALL] } else { ports };
        Wish { is_v6, protocols, ports, short, forward, outer, policy, backend_port, chosen, when_empty }
    }
}

/// A service on a VIP of its own, or nothing when no host has an address that it could be reached by.
fn service(
    index: u8,
    wish: Wish,
    hosts: &BTreeMap<String, Host>,
    timeouts: [Timeouts; 2],
    rules: [Rules; 2],
    vip_mode: VipMode,
) -> Option<Service> {
    let address = match wish.is_v6 {
        true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(index) << 8)),
        false => IpAddr::V4(Ipv4Addr::new(203, 0, index, 0)),
    };
    let is_single = wish.forward == Forward::Nat || vip_mode == VipMode::Local;
    let whole = if wish.is_v6 { 128 } else { 32 };
    let length = if is_single { whole } else { whole - wish.short };
    let vip = Vip::of(IpNet::new(address, length).unwrap());
    let outer = wish.outer.filter(|_| wish.forward.is_tunnel());
    let reach = Reach::of(vip, wish.forward, outer);
    let fit: Vec<&Host> = hosts.values().filter(|host| reach.address_of(host).is_some()).collect();
    let chosen = fit.iter().zip(wish.chosen);
    let mut names: Vec<String> =
        chosen.filter(|(_, chosen)| *chosen).map(|(host, _)| host.name.clone()).collect();
    if names.is_empty() {
        names.push(fit.first()?.name.clone());
    }
    let (tcp, udp) = (wish.protocols & 1 != 0, wish.protocols & 2 != 0);
    let protocols = Protocols::of(
        [(tcp, Protocol::Tcp), (udp, Protocol::Udp)].into_iter().filter(|(has, _)| *has).map(|(_, p)| p),
    );
    let policy = wish.policy;
    let flows = FlowPolicy {
        tracking: if tcp && policy & 1 != 0 { Tracking::Edges } else { Tracking::Full },
        affinity: if policy & 2 != 0 { Affinity::Client } else { Affinity::None },
        udp_handover: match policy >> 2 & 3 {
            1 if udp => UdpHandover::Gap,
            2 if udp => UdpHandover::Immediate,
            _ => UdpHandover::Pin,
        },
    };
    // With nat ports of one's own on the hosts.
    let ports = if wish.forward == Forward::Nat {
        Ports::from(40_000 + u16::from(index))
    } else {
        Ports::of(wish.ports)
    };
    let backend_port = wish.backend_port.map(|_| 50_000 + u16::from(index));
    Some(Service {
        name: format!("service-{index}"),
        vip,
        protocols,
        ports,
        forward: wish.forward,
        outer,
        backend_port: backend_port.filter(|_| wish.forward == Forward::Nat),
        fragments: if policy & 32 != 0 { Fragments::Pass } else { Fragments::Drop },
        flows,
        timeouts: timeouts[usize::from(policy >> 4 & 1)],
        rules: rules[usize::from(policy >> 6 & 1)],
        when_empty: wish.when_empty,
        checks: Vec::new(),
        health: Health::default(),
        standby: Vec::new(),
        hosts: names,
    })
}

fn hooks() -> impl Strategy<Value = Hooks> {
    let event = select(&EventName::ALL[..EventName::ALL.len() - 1]);
    let commands = prop::collection::btree_map(event, "[ -~]{0,30}[!-~]", 0..4);
    (commands, 1..=86_400u64)
        .prop_map(|(commands, timeout)| Hooks { commands, timeout: Duration::from_secs(timeout) })
}

fn api() -> impl Strategy<Value = Api> {
    let group = || prop::option::of("[a-z_][a-z0-9_-]{0,31}");
    (group(), group()).prop_map(|(read_group, change_group)| Api { read_group, change_group })
}

fn ui() -> impl Strategy<Value = Ui> {
    let names = prop::collection::vec("[a-z0-9][a-z0-9.-]{0,20}", 0..3);
    let path = || "/[a-z]{1,8}/[a-z.]{1,8}";
    let tls = prop::option::of((path(), path()));
    (any::<bool>(), names, tls, prop::option::of(path()), any::<bool>()).prop_map(
        |(listens, names, tls, token_file, token_to_look)| Ui {
            // Elsewhere than on the loopback it takes TLS.
            listen: listens
                .then(|| if tls.is_some() { "[::]:8443" } else { "127.0.0.1:8080" }.parse().unwrap()),
            names,
            tls: tls.map(|(certificate, key)| TlsFiles { certificate: certificate.into(), key: key.into() }),
            token_file: token_file.map(Into::into),
            token_to_look,
        },
    )
}

prop_compose! {
    /// What there is once, but for sizes and timeouts.
    fn general()(
        modes in prop::array::uniform2(select(vec![XdpMode::Auto, XdpMode::Native, XdpMode::Generic])),
        vip_mode in select(vec![VipMode::External, VipMode::Local]),
        ping in select(vec![Ping::Pass, Ping::Answer]),
        mss_clamp in prop::option::of(536..=65_495u16),
        v4 in prop::option::of(8..=31u8),
        v6 in prop::option::of(32..=127u8),
        gue_port in 1..=u16::MAX,
        hooks in hooks(),
        keep in (1..=3650u64, 100..=1_000_000u32),
        api in api(),
        listen in any::<bool>(),
        ui in ui(),
    ) -> Model {
        let [one, other] = modes;
        let v4 = v4.map(|length| Ipv4Net::new(Ipv4Addr::new(100, 0, 0, 0), length).unwrap());
        let v6 = v6.map(|length| Ipv6Net::new(Ipv6Addr::new(0xfd05, 0, 0, 0, 0, 0, 0, 0), length).unwrap());
        Model {
            interfaces: vec![
                Interface { name: "eth0".to_owned(), xdp_mode: one },
                Interface { name: "bond1.7".to_owned(), xdp_mode: other },
            ],
            vip_mode,
            ping,
            mss_clamp,
            outer_source: OuterSource { ipv4: v4, ipv6: v6 },
            gue_port,
            ring_size: 101,
            hash_key: None,
            flow_table: FlowTable { pins: 1024, overflow: 1024, flood_gate: 0 },
            timeouts: limits::default::TIMEOUTS,
            rules: Rules::default(),
            health: Health::default(),
            hooks,
            journal: Retention { keep_for: Duration::from_secs(keep.0 * 86_400), keep_revisions: keep.1 },
            api,
            // The writer of services may have prefixes.
            metrics: Metrics { listen: listen.then(|| "[::1]:9464".parse().unwrap()) },
            ui,
            announce: None,
            hosts: BTreeMap::new(),
            services: Vec::new(),
        }
    }
}

pub fn model() -> impl Strategy<Value = Model> {
    let hosts = (0..8u8).prop_flat_map(|count| (0..count).map(host).collect::<Vec<_>>());
    let numbers = (801..=1_048_573u32, 1024..=16_777_216u32, any::<Option<[u8; 16]>>());
    (
        hosts,
        prop::collection::vec(wish(), 0..10),
        general(),
        numbers,
        [timeouts(), timeouts()],
        [rules(), rules()],
    )
        .prop_map(|(hosts, wishes, general, (size, pins, hash_key), sets, rules)| {
            let hosts: BTreeMap<String, Host> =
                hosts.into_iter().map(|host| (host.name.clone(), host)).collect();
            let wishes = wishes.into_iter().zip(1..);
            let service = |(wish, index)| service(index, wish, &hosts, sets, rules, general.vip_mode);
            let services = wishes.filter_map(service).collect();
            Model {
                ring_size: next_ring_size(size).expect("the range ends with a prime"),
                hash_key,
                flow_table: FlowTable { pins, overflow: 1024 + pins / 10, flood_gate: size % 7 * 1000 },
                timeouts: sets[0],
                rules: rules[0],
                health: Health::default(),
                hosts,
                services,
                ..general
            }
        })
}
