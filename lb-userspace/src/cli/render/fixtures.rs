//! API bodies that the tests of the renderers share.

use std::collections::BTreeMap;

use crate::api::types::*;
use crate::model::{PortRange, Ports, Protocol, Protocols};

/// The Unix second at which the fixtures are looked at.
pub const NOW: u64 = 1_800_000_000;

pub fn live(total: u64) -> LiveFlows {
    let closing = total / 5;
    LiveFlows { half_open: 0, established: total - closing, closing, udp: 0, total, hidden: false }
}

pub fn traffic() -> Traffic {
    Traffic {
        packets: 900_000,
        bytes: 80_000_000,
        new_flows: 4000,
        packets_per_second: 1200.0,
        bytes_per_second: 98_000.0,
        new_flows_per_second: 12.5,
    }
}

/// A drain of `host` under way with `total` of 120 flows left.
pub fn draining(id: u64, host: &str, total: u64) -> DrainStatus {
    DrainStatus {
        id,
        host: host.to_owned(),
        service: None,
        clients: None,
        state: "draining".to_owned(),
        started_at: NOW - 187,
        by: "alice".to_owned(),
        reason: Some("kernel update".to_owned()),
        order: Order::default(),
        overdue_since: None,
        as_of: NOW,
        flows_at_start: 120,
        live_flows: live(total),
        waiting_for: Some(format!("{total} live flows")),
        progress: None,
        ramp: None,
        receipt: None,
    }
}

/// How far the drain of `web-1` is, with so many blockers.
pub fn progress(blockers: u64) -> Progress {
    let flow = |number: u64| Flow {
        protocol: "tcp".to_owned(),
        client: format!("198.51.100.7:{}", 50_000 + number),
        vip: "192.0.2.10:443".to_owned(),
        service: "web".to_owned(),
        host: "web-1".to_owned(),
        phase: "established".to_owned(),
        age: 7500,
        idle: 3,
        slot: 1,
    };
    let established = PhaseProgress { live: 30, idle: 4, age_p50: 60, age_max: 7500 };
    Progress {
        phases: [("established".to_owned(), established)].into(),
        idle: 4,
        ended: 83,
        packets_per_second: 1200.0,
        bytes_per_second: 98_000.0,
        expected_end: ExpectedEnd {
            p50: Some(20),
            p90: Some(252),
            p99: Some(900),
            measured: 4000,
            unknown: 0,
        },
        blockers: Some((0..blockers).map(flow).collect()),
    }
}

/// The drain after it has ended in `outcome`, with `left` flows.
pub fn ended(id: u64, host: &str, outcome: Outcome, left: u64) -> DrainStatus {
    DrainStatus {
        state: if outcome.is_taken_back() { "undrained" } else { "drained" }.to_owned(),
        live_flows: live(left),
        waiting_for: None,
        progress: None,
        receipt: Some(Receipt {
            drain: id,
            host: host.to_owned(),
            outcome,
            by: "alice".to_owned(),
            reason: Some("kernel update".to_owned()),
            started_at: NOW - 187,
            ended_at: NOW,
            flows_at_start: 120,
            ended: 120 - left,
            left,
            packets: 48_620,
            bytes: 31_000_000,
            packets_per_second: 260.0,
            bytes_per_second: 165_775.4,
            ..Receipt::default()
        }),
        ..draining(id, host, left)
    }
}

/// Of 60 s, 22 of them gone.
pub fn ramp() -> RampStatus {
    RampStatus {
        share: 95.0 / 256.0,
        started_at: NOW - 22,
        seconds: 60,
        full_in: 38,
        watched_for: 48,
        by: "bob".to_owned(),
        reason: Some("patched".to_owned()),
        paused: None,
    }
}

fn host(name: &str, admin: AdminState, share: f64, drain: Option<DrainStatus>) -> HostStatus {
    HostStatus {
        name: name.to_owned(),
        admin,
        oper: OperState::Up,
        down_for: Vec::new(),
        weight: 100,
        share,
        live_flows: live(37),
        traffic: traffic(),
        drain,
        ramp: None,
    }
}

fn backend(host: &str, address: &str) -> BackendStatus {
    BackendStatus {
        host: host.to_owned(),
        address: address.to_owned(),
        live_flows: live(37),
        traffic: traffic(),
        next_hop: "eth0 02:00:00:00:00:01".to_owned(),
        drain: None,
        path_mtu: None,
    }
}

pub fn status() -> Status {
    Status {
        instance: "default".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 4242,
        started_at: NOW - 7500,
        generation: 7,
        revision: 12,
        config: "/etc/sluice.toml".to_owned(),
        config_in_force: ConfigStatus { revision: 2, ..ConfigStatus::default() },
        leaving: Vec::new(),
        vip_mode: "external".to_owned(),
        interfaces: vec![InterfaceStatus {
            name: "eth0".to_owned(),
            ifindex: 2,
            mode: "native".to_owned(),
            note: None,
        }],
        services: vec![ServiceStatus {
            name: "web".to_owned(),
            vip: "192.0.2.10".to_owned(),
            protocols: Protocol::Tcp.into(),
            ports: 443.into(),
            split: None,
            forward: "l2".to_owned(),
            ring: 0,
            live_flows: live(37),
            traffic: traffic(),
            backends: vec![backend("web-1", "10.0.0.1"), backend("web-2", "10.0.0.2")],
        }],
        hosts: vec![
            host("web-1", AdminState::Active, 1.0, None),
            host("web-2", AdminState::Draining, 0.0, Some(draining(7, "web-2", 37))),
        ],
        path_errors: None,
        drains_of_clients: Vec::new(),
        tracers: Vec::new(),
        flow_table: FlowTableStatus {
            pins: 1_000_000,
            words: 2_097_152,
            live: 74,
            overflow_used: 0,
            overflow_size: 40_000,
            memory: 64 << 20,
            sweep_us: 1234,
        },
        reasons: BTreeMap::from([("forwarded".to_owned(), 900_000)]),
        violations: BTreeMap::new(),
        problems: Vec::new(),
    }
}

/// Every figure as wide as it can get in practice, and more.
pub fn widest() -> Status {
    const T: u64 = 1_000_000_000_000;
    let live = LiveFlows {
        half_open: 999_999,
        established: 999_999,
        closing: 999_999,
        udp: 999_999,
        total: T,
        hidden: false,
    };
    let traffic = Traffic {
        packets: T,
        bytes: u64::MAX,
        new_flows: T,
        packets_per_second: 12.3e6,
        bytes_per_second: 12.3e9,
        new_flows_per_second: 12.3e3,
    };
    let mut status = status();
    for host in &mut status.hosts {
        host.name = format!("{}-in-rack-17-of-the-second-hall", host.name);
        (host.live_flows, host.traffic, host.weight, host.share) = (live, traffic, u16::MAX, 0.333);
        if let Some(drain) = &mut host.drain {
            drain.reason = Some("the second of the two power supplies hums ".repeat(6).trim_end().to_owned());
            (drain.flows_at_start, drain.live_flows) = (T, live);
        }
    }
    for service in &mut status.services {
        service.name = "a-service-with-a-long-name".to_owned();
        service.vip = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".to_owned();
        service.protocols = Protocols::of([Protocol::Tcp, Protocol::Udp]);
        let range = |first| PortRange { first, last: first + 1000 };
        service.ports = Ports::of([10_000, 20_000, 30_000].map(range));
        (service.live_flows, service.traffic, service.ring) = (live, traffic, 4095);
        for backend in &mut service.backends {
            backend.address = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".to_owned();
            backend.next_hop =
                "unresolved: no route to 2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff from eth0".to_owned();
            (backend.live_flows, backend.traffic) = (live, traffic);
        }
    }
    status.flow_table.memory = T;
    status.reasons.insert("forwarded".to_owned(), T);
    status.problems = vec!["something is amiss ".repeat(20).trim_end().to_owned()];
    status
}
