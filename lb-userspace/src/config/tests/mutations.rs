//! Whatever the text, parsing ends with a model or with problems inside the text; a model survives being written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::limits::{self, next_ring_size};
use super::super::{Machine, check_against_machine, parse};
use super::EXAMPLE;
use crate::api::types::EventName;
use crate::model::{
    Affinity, Api, Check, Family, FlowPolicy, FlowTable, Forward, Fragments, Health, Hooks, Host, Interface,
    Metrics, Model, OuterSource, Percent, Ping, PortRange, Ports, Probe, Protocol, Protocols, Reach,
    Retention, Rules, Service, Timeouts, TlsFiles, Tracking, UdpHandover, Ui, Vip, VipMode, WhenEmpty,
    XdpMode,
};

/// A change to the bytes of a text.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, &'static str),
    Delete(Index, usize),
    CopyLine(Index, Index),
    DeleteLine(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let tokens = select(vec![
        "\"",
        "'",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        "\n",
        "\r\n",
        ".",
        ",",
        "0",
        "-1",
        "1e9",
        "true",
        "#",
        "\\u0000",
        "\u{1b}",
        "\u{0}",
        "ä",
        "\u{feff}",
        "[hosts.x]",
        "[[services]]",
        "hosts = []",
        "99999999999",
        "\"\"\"",
        "1979-05-27",
        "nan",
        "::",
        "web-1",
        "\\",
        "[hosts.web-1.y]",
        "port = \"8000-8010\"",
        "port = [80, \"all\"]",
        "forward = \"nat\"",
        "backend_port = 80",
        "forward = \"gue\"",
        "outer = \"ipv6\"",
        "/24",
        "/0",
        "-",
        "outer_source = [\"10.0.0.0/8\"]",
        "services = 3",
        "zone = \"a\"",
        "groups = [\"a\", \"a\"]",
        "min_healthy = \"101%\"",
        "one_zone_at_a_time = true",
        "[hooks]",
        "on_drained = \"true\"",
        "[api]\nread_group = \"a\"",
        "[announce]\ninterface = \"lo\"",
        "[metrics]\nlisten = \"[::]:1\"",
        "[ui]\nlisten = \"[::]:1\"",
        "certificate = \"/a\"",
    ]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), tokens).prop_map(|(at, token)| Mutation::Insert(at, token)),
        (any::<Index>(), 1..40usize).prop_map(|(at, count)| Mutation::Delete(at, count)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::CopyLine(from, to)),
        any::<Index>().prop_map(Mutation::DeleteLine),
    ]
}

fn mutate(text: &str, mutations: &[Mutation]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for mutation in mutations {
        let mut lines: Vec<Vec<u8>> =
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if bytes.is_empty() {
            break;
        }
        match mutation {
            Mutation::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Insert(at, token) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, token.bytes());
            }
            Mutation::Delete(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Mutation::CopyLine(from, to) => {
                let line = lines[from.index(lines.len())].clone();
                lines.insert(to.index(lines.len()), line);
                bytes = lines.concat();
            }
            Mutation::DeleteLine(at) => {
                lines.remove(at.index(lines.len()));
                bytes = lines.concat();
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Parses, prints and checks that problems are inside the text; `true` when the text was accepted.
fn stands(text: &str) -> bool {
    match parse(text, "mutated.toml") {
        Ok(loaded) => {
            let addresses = vec![("eth0".to_owned(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11)))];
            let machine = Machine { addresses, ..Machine::default() };
            if let Err(errors) = check_against_machine(&loaded, &machine) {
                assert!(!errors.to_string().is_empty());
            }
            let written = write(&loaded.model);
            assert_eq!(parse(&written, "written.toml").expect(&written).model, loaded.model);
            true
        }
        Err(errors) => {
            let lines: Vec<&str> = text.split('\n').collect();
            assert!(!errors.problems.is_empty());
            for problem in &errors.problems {
                let line = lines.get(problem.line as usize - 1).expect("the line exists");
                assert!(
                    problem.column >= 1 && problem.column as usize <= line.chars().count() + 1,
                    "{problem:?}"
                );
                assert!(!problem.message.is_empty());
            }
            let printed = errors.to_string();
            assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
            false
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_of_the_example_never_panic(mutations in prop::collection::vec(mutation(), 1..6)) {
        stands(&mutate(EXAMPLE, &mutations));
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,80}") {
        stands(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_model_survives_being_written_and_parsed(model in model()) {
        let toml = write(&model);
        let loaded = parse(&toml, "written.toml").unwrap_or_else(|errors| panic!("{errors}\n{toml}"));
        prop_assert_eq!(loaded.model, model);
    }
}

#[test]
fn the_example_itself_stands() {
    assert!(stands(EXAMPLE));
    assert!(!stands(&EXAMPLE.replace("10.0.0.12", "10.0.0.11")));
}

#[test]
fn deep_nesting_is_refused() {
    assert!(!stands(&"[".repeat(100_000)));
    assert!(!stands(&format!("a = {}", "[".repeat(100_000))));
    assert!(!stands(&format!("a = {}1{}", "[".repeat(50_000), "]".repeat(50_000))));
    assert!(!stands(&format!("a = {}", "{ a = ".repeat(5_000))));
    assert!(!stands(&format!("{}b = 1", "a.".repeat(50_000))));
}

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

fn model() -> impl Strategy<Value = Model> {
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

/// The model as a config file.
fn write(model: &Model) -> String {
    let mut toml = String::new();
    let lower = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let mode = model.interfaces[0].xdp_mode;
    let interface = |Interface { name, xdp_mode }: &Interface| {
        if *xdp_mode == mode {
            format!("{name:?}")
        } else {
            format!("{{ name = {name:?}, xdp_mode = \"{xdp_mode}\" }}")
        }
    };
    let interfaces: Vec<String> = model.interfaces.iter().map(interface).collect();
    writeln!(toml, "interfaces = [{}]\nxdp_mode = \"{mode}\"", interfaces.join(", ")).unwrap();
    writeln!(toml, "vip_mode = {:?}\nping = {:?}", lower(&model.vip_mode), lower(&model.ping)).unwrap();
    if let Some(mss) = model.mss_clamp {
        writeln!(toml, "mss_clamp = {mss}").unwrap();
    }
    let prefixes: Vec<String> = model.outer_source.iter().map(|prefix| prefix.to_string()).collect();
    writeln!(toml, "outer_source = {prefixes:?}\ngue_port = {}", model.gue_port).unwrap();
    writeln!(toml, "ring_size = {}", model.ring_size).unwrap();
    if let Some(key) = model.hash_key {
        writeln!(toml, "hash_key = \"{:032x}\"", u128::from_be_bytes(key)).unwrap();
    }
    let FlowTable { pins, overflow, flood_gate } = model.flow_table;
    writeln!(toml, "[flow_table]\npins = {pins}\noverflow = {overflow}").unwrap();
    writeln!(toml, "flood_gate = {flood_gate}\n[timeouts]").unwrap();
    for (name, timeout) in model.timeouts.named() {
        writeln!(toml, "{name} = \"{}\"", humantime::format_duration(timeout)).unwrap();
    }
    let rules = |Rules { min_healthy, one_zone_at_a_time }: Rules| {
        format!("min_healthy = \"{min_healthy}\"\none_zone_at_a_time = {one_zone_at_a_time}")
    };
    writeln!(toml, "[rules]\n{}", rules(model.rules)).unwrap();
    writeln!(toml, "[health]\n{}", health(&model.health)).unwrap();
    writeln!(toml, "[hooks]\ntimeout = \"{}\"", humantime::format_duration(model.hooks.timeout)).unwrap();
    for (event, command) in &model.hooks.commands {
        // JSON's escapes are TOML's, and Rust's are not all.
        let command = serde_json::to_string(command).unwrap();
        writeln!(toml, "on_{} = {command}", event.name()).unwrap();
    }
    writeln!(toml, "[api]").unwrap();
    for (field, group) in [("read_group", &model.api.read_group), ("change_group", &model.api.change_group)] {
        if let Some(group) = group {
            writeln!(toml, "{field} = {group:?}").unwrap();
        }
    }
    if let Some(listen) = &model.metrics.listen {
        writeln!(toml, "[metrics]\nlisten = \"{listen}\"").unwrap();
    }
    writeln!(toml, "[ui]\nnames = {:?}\ntoken_to_look = {}", model.ui.names, model.ui.token_to_look).unwrap();
    if let Some(listen) = &model.ui.listen {
        writeln!(toml, "listen = \"{listen}\"").unwrap();
    }
    if let Some(TlsFiles { certificate, key }) = &model.ui.tls {
        writeln!(toml, "certificate = {certificate:?}\nkey = {key:?}").unwrap();
    }
    if let Some(file) = &model.ui.token_file {
        writeln!(toml, "token_file = {file:?}").unwrap();
    }
    if let Some(interface) = &model.announce {
        writeln!(toml, "[announce]\ninterface = {interface:?}").unwrap();
    }
    let Retention { keep_for, keep_revisions } = model.journal;
    writeln!(toml, "[journal]\nkeep_for = \"{}s\"\nkeep_revisions = {keep_revisions}", keep_for.as_secs())
        .unwrap();
    for host in model.hosts.values() {
        let addresses = host.ipv4.map(IpAddr::V4).into_iter().chain(host.ipv6.map(IpAddr::V6));
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        writeln!(
            toml,
            "[hosts.{:?}]\naddresses = {addresses:?}\nweight = {}\ndisabled = {}",
            host.name, host.weight, host.disabled
        )
        .unwrap();
        if let Some(zone) = &host.zone {
            writeln!(toml, "zone = {zone:?}\ngroups = {:?}", host.groups.iter().collect::<Vec<_>>()).unwrap();
        }
    }
    for service in &model.services {
        let Service {
            name,
            vip,
            protocols,
            ports,
            forward,
            outer,
            backend_port,
            fragments,
            flows,
            timeouts,
            ..
        } = service;
        let hosts = &service.hosts;
        writeln!(toml, "[[services]]\nname = {name:?}\nvip = \"{vip}\"").unwrap();
        match protocols.single() {
            Some(protocol) => writeln!(toml, "protocol = \"{protocol}\"").unwrap(),
            None => writeln!(toml, "protocol = [\"udp\", \"tcp\"]").unwrap(),
        }
        let port = |range: PortRange| {
            if range.is_single() { range.to_string() } else { format!("\"{range}\"") }
        };
        let ports: Vec<String> = ports.iter().rev().map(port).collect();
        match ports.as_slice() {
            [port] => writeln!(toml, "port = {port}").unwrap(),
            ports => writeln!(toml, "port = [{}]", ports.join(", ")).unwrap(),
        }
        writeln!(toml, "forward = \"{forward}\"\nhosts = {hosts:?}").unwrap();
        if let Some(family) = outer {
            writeln!(toml, "outer = {:?}", lower(family)).unwrap();
        }
        if let Some(port) = backend_port {
            writeln!(toml, "backend_port = {port}").unwrap();
        }
        writeln!(toml, "fragments = {:?}\naffinity = {:?}", lower(fragments), lower(&flows.affinity))
            .unwrap();
        if protocols.has(Protocol::Tcp) {
            writeln!(toml, "tracking = {:?}", lower(&flows.tracking)).unwrap();
        }
        if protocols.has(Protocol::Udp) {
            writeln!(toml, "udp_handover = {:?}", lower(&flows.udp_handover)).unwrap();
        }
        writeln!(toml, "when_empty = \"{}\"\nstandby = {:?}", service.when_empty, service.standby).unwrap();
        if *timeouts != model.timeouts {
            writeln!(toml, "[services.timeouts]").unwrap();
            for (name, timeout) in timeouts.named() {
                writeln!(toml, "{name} = \"{}\"", humantime::format_duration(timeout)).unwrap();
            }
        }
        if service.rules != model.rules {
            writeln!(toml, "[services.rules]\n{}", rules(service.rules)).unwrap();
        }
        if service.health != model.health {
            writeln!(toml, "[services.health]\n{}", health(&service.health)).unwrap();
        }
        for check in &service.checks {
            writeln!(toml, "[[services.checks]]\n{}", check_lines(check)).unwrap();
        }
    }
    toml
}

fn health(health: &Health) -> String {
    let time = humantime::format_duration;
    let ramp = health.ramp.map(|ramp| format!("ramp = \"{}\"\n", time(ramp))).unwrap_or_default();
    format!(
        "interval = \"{}\"\ntimeout = \"{}\"\njitter = \"{}\"\nrise = {}\nfall = {}\ndamping = \"{}\"\ndown_flows = \"{}\"\n\
         down_after = \"{}\"\npanic = \"{}\"\nmax_ejected = \"{}\"\njoin_below = \"{}\"\nleave_at = \"{}\"\n{ramp}\
         passive = {{ action = \"{}\", window = \"{}\", least_flows = {}, failing = \"{}\", hold = \"{}\", longest_hold = \"{}\", max_ejected = \"{}\" }}\n",
        time(health.interval),
        time(health.timeout),
        health.jitter,
        health.rise,
        health.fall,
        time(health.damping),
        health.down_flows,
        time(health.down_after),
        health.panic,
        health.max_ejected,
        health.join_below,
        health.leave_at,
        health.passive.action,
        time(health.passive.window),
        health.passive.least_flows,
        health.passive.failing,
        time(health.passive.hold),
        time(health.passive.longest_hold),
        health.passive.max_ejected,
    )
}

fn check_lines(check: &Check) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: String| writeln!(lines, "{name} = {value}").unwrap();
    match &check.probe {
        Probe::Tcp => line("type", "\"tcp\"".to_owned()),
        Probe::Http(request) | Probe::Https(request) => {
            let is_tls = matches!(check.probe, Probe::Https(_));
            line("type", if is_tls { "\"https\"" } else { "\"http\"" }.to_owned());
            line("path", format!("{:?}", request.path));
            let ranges = request.status.iter().map(|range| format!("\"{}-{}\"", range.start(), range.end()));
            line("status", format!("[{}]", ranges.collect::<Vec<_>>().join(", ")));
            for (name, value) in [("host", &request.host), ("body", &request.body)] {
                value.iter().for_each(|value| line(name, format!("{value:?}")));
            }
        }
        Probe::Udp { send, expect } => {
            line("type", "\"udp\"".to_owned());
            line("send", format!("{send:?}"));
            expect.iter().for_each(|expect| line("expect", format!("{expect:?}")));
        }
        Probe::Command { command } => {
            line("type", "\"command\"".to_owned());
            line("command", format!("{command:?}"));
        }
    }
    if !matches!(check.probe, Probe::Command { .. }) {
        line("through", serde_json::to_string(&check.through).unwrap());
    }
    if let Some(port) = check.port {
        line("port", port.to_string());
    }
    lines
}
