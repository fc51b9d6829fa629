//! Whatever the text, parsing ends with a model or with problems inside the text; a model survives being written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::limits::next_ring_size;
use super::super::{check_against_machine, parse};
use super::EXAMPLE;
use crate::model::{
    Affinity, FlowPolicy, FlowTable, Forward, Host, Model, Protocol, Service, Timeouts, Tracking,
    UdpHandover, VipMode, XdpMode,
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
        "services = 3",
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
            let local = [("eth0".to_owned(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11)))];
            if let Err(errors) = check_against_machine(&loaded, &local, &["eth0".to_owned()]) {
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
    fn host(index: u8)(weight in 1..=u16::MAX, families in 1..=3u8) -> Host {
        let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(index) + 1);
        Host {
            name: format!("h_{index}.Rack-{}", index % 3),
            weight,
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

/// A service on a VIP of its own, or nothing when no host has an address of its family.
fn service(
    index: u8,
    wish: (bool, bool, u16, bool, Vec<bool>),
    hosts: &BTreeMap<String, Host>,
    timeouts: [Timeouts; 2],
) -> Option<Service> {
    let (v6, udp, port, ipip, chosen) = wish;
    let vip = match v6 {
        true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(index))),
        false => IpAddr::V4(Ipv4Addr::new(203, 0, 113, index)),
    };
    let fit: Vec<&Host> = hosts.values().filter(|host| host.address_for(vip).is_some()).collect();
    let mut names: Vec<String> =
        fit.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(host, _)| host.name.clone()).collect();
    if names.is_empty() {
        names.push(fit.first()?.name.clone());
    }
    let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
    let forward = if ipip { Forward::Ipip } else { Forward::L2 };
    let flows = FlowPolicy {
        tracking: if !udp && port & 1 != 0 { Tracking::Edges } else { Tracking::Full },
        affinity: if port & 2 != 0 { Affinity::Client } else { Affinity::None },
        udp_handover: match port >> 2 & 3 {
            1 if udp => UdpHandover::Gap,
            2 if udp => UdpHandover::Immediate,
            _ => UdpHandover::Pin,
        },
    };
    let timeouts = timeouts[usize::from(port >> 4 & 1)];
    Some(Service {
        name: format!("service-{index}"),
        vip,
        protocol,
        port,
        forward,
        flows,
        timeouts,
        hosts: names,
    })
}

fn model() -> impl Strategy<Value = Model> {
    let hosts = (0..8u8).prop_flat_map(|count| (0..count).map(host).collect::<Vec<_>>());
    let wish =
        (any::<bool>(), any::<bool>(), 1..=u16::MAX, any::<bool>(), prop::collection::vec(any::<bool>(), 8));
    let modes = (
        select(vec![XdpMode::Auto, XdpMode::Native, XdpMode::Generic]),
        select(vec![VipMode::External, VipMode::Local]),
    );
    let numbers = (801..=1_048_573u32, 1024..=16_777_216u32, any::<Option<[u8; 16]>>());
    (hosts, prop::collection::vec(wish, 0..10), modes, numbers, [timeouts(), timeouts()]).prop_map(
        |(hosts, wishes, (xdp_mode, vip_mode), (size, pins, hash_key), sets)| {
            let hosts: BTreeMap<String, Host> =
                hosts.into_iter().map(|host| (host.name.clone(), host)).collect();
            let wishes = wishes.into_iter().zip(1..);
            let services = wishes.filter_map(|(wish, index)| service(index, wish, &hosts, sets)).collect();
            Model {
                interfaces: vec!["eth0".to_owned(), "bond1.7".to_owned()],
                xdp_mode,
                vip_mode,
                ring_size: next_ring_size(size).expect("the range ends with a prime"),
                hash_key,
                flow_table: FlowTable { pins, overflow: 1024 + pins / 10, flood_gate: size % 7 * 1000 },
                timeouts: sets[0],
                hosts,
                services,
            }
        },
    )
}

/// The model as a config file.
fn write(model: &Model) -> String {
    let mut toml = String::new();
    let lower = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    writeln!(toml, "interfaces = {:?}", model.interfaces).unwrap();
    writeln!(toml, "xdp_mode = {:?}", lower(&model.xdp_mode)).unwrap();
    writeln!(toml, "vip_mode = {:?}", lower(&model.vip_mode)).unwrap();
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
    for host in model.hosts.values() {
        let addresses = host.ipv4.map(IpAddr::V4).into_iter().chain(host.ipv6.map(IpAddr::V6));
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        writeln!(toml, "[hosts.{:?}]\naddresses = {addresses:?}\nweight = {}", host.name, host.weight)
            .unwrap();
    }
    for service in &model.services {
        let Service { name, vip, protocol, port, forward, flows, timeouts, hosts } = service;
        writeln!(toml, "[[services]]\nname = {name:?}\nvip = \"{vip}\"\nprotocol = \"{protocol}\"").unwrap();
        writeln!(toml, "port = {port}\nforward = \"{forward}\"\nhosts = {hosts:?}").unwrap();
        writeln!(toml, "affinity = {:?}", lower(&flows.affinity)).unwrap();
        match protocol {
            Protocol::Tcp => writeln!(toml, "tracking = {:?}", lower(&flows.tracking)).unwrap(),
            Protocol::Udp => writeln!(toml, "udp_handover = {:?}", lower(&flows.udp_handover)).unwrap(),
        }
        if *timeouts != model.timeouts {
            writeln!(toml, "[services.timeouts]").unwrap();
            for (name, timeout) in timeouts.named() {
                writeln!(toml, "{name} = \"{}\"", humantime::format_duration(timeout)).unwrap();
            }
        }
    }
    toml
}
