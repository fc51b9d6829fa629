//! Names by the conventions, and the text of a scrape.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lb_common::reason::{Class, Reason};

use super::{
    Backend, Drain, Ejections, EndedRuns, FAMILIES, Host, Kind, MaintenanceRun, Program, Ring, Service,
    Snapshot, Split, Suspected, Table, encode,
};
use crate::api::types::{
    AdminState, FlowTableStatus, HostStep, InterfaceStatus, LiveFlows, OperState, PathErrors, RunState,
};
use crate::health::passive::Sign;
use crate::health::{CheckId, Figures, Oper, Runs, Target};
use crate::model::{Check, Probe, Through};

/// Of a check of a host for the service web.
fn figures(host: &str, oper: Oper, runs: Runs, ms: u64) -> Figures {
    let check = Check { probe: Probe::Tcp, through: Through::Host, port: Some(80) };
    let id = CheckId { service: "web".to_owned(), host: host.to_owned(), check: check.to_string() };
    let target = Target {
        id,
        check,
        health: Arc::default(),
        address: [10, 0, 0, 1].into(),
        vip: [203, 0, 113, 1].into(),
        instance: String::new(),
        seed: 0,
        is_rst_well: false,
    };
    Figures { target: target.into(), oper, runs, took: Some(Duration::from_millis(ms)) }
}

/// With something for every family.
fn full() -> Snapshot {
    Snapshot {
        version: "1.2.3",
        started_at: 1_790_000_000,
        backends: vec![Backend {
            service: "web".to_owned(),
            host: "web-1".to_owned(),
            packets: 7,
            bytes: 420,
            new_flows: 2,
            live: LiveFlows { established: 1, total: 1, ..LiveFlows::default() },
        }],
        hosts: vec![Host {
            name: "web-1".to_owned(),
            admin: AdminState::Draining,
            oper: OperState::Up,
            is_reachable: true,
            weight: 100,
            share: 0.25,
            is_ramping: false,
            is_incomplete: false,
            moved: 1,
            reset: 2,
            silent: 3,
            kicked: 4,
            evicted: 5,
        }],
        drains: vec![Drain {
            host: "web-1".to_owned(),
            deadline: Some(9),
            lease: Some(10),
            live: 3,
            ..Drain::default()
        }],
        runs: vec![MaintenanceRun {
            number: 7,
            state: RunState::Paused,
            steps: vec![HostStep::Done, HostStep::Done, HostStep::Working, HostStep::Waiting],
        }],
        ended_runs: EndedRuns { done: 3, failed: 1, aborted: 2 },
        splits: vec![Split { service: "web".to_owned(), wanted: 0.5, measured: Some(0.25) }],
        services: vec![Service {
            name: "web".to_owned(),
            ejected: 1,
            has_joined: Some(true),
            ejections: Ejections { checks: 6, passive: 2, next_hop: 1 },
            ..Service::default()
        }],
        suspected: vec![Suspected { service: "web".to_owned(), sign: Sign::Resets, hosts: 3 }],
        checks: vec![
            figures("web-1", Oper::Up, Runs { ok: 7, failed: 1, not_run: 0 }, 30),
            figures("web-1", Oper::Down, Runs { ok: 1, failed: 5, not_run: 2 }, 500),
            figures("web-2", Oper::Up, Runs { ok: 9, failed: 0, not_run: 0 }, 40),
        ],
        rings: vec![Ring { number: 0, services: 2, slots: 1009, open: 3, empty: 0 }],
        reasons: Reason::ALL.iter().map(|reason| (*reason, *reason as u64)).collect(),
        tables: vec![Table { name: "pins", used: 1, size: 2 }],
        flow_table: Some(FlowTableStatus {
            pins: 1,
            words: 2,
            live: 1,
            overflow_used: 0,
            overflow_size: 1,
            memory: 128,
            sweep_us: 1500,
        }),
        path_errors: Some(PathErrors::default()),
        interfaces: vec![InterfaceStatus {
            name: "a\"b".to_owned(),
            ifindex: 2,
            mode: "native".to_owned(),
            note: None,
        }],
        program: Some(Program { runs: 10, took: Duration::from_nanos(500) }),
        took: Duration::from_millis(2),
        ..Snapshot::default()
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn every_family_has_samples_of_its_name_and_no_other_name_has() {
    let text = encode(full()).unwrap();
    let told: BTreeSet<&str> = lines(&text).map(|line| line.split(['{', ' ']).next().unwrap()).collect();
    let families: BTreeSet<String> = FAMILIES.iter().map(|family| family.sample_name()).collect();
    assert_eq!(told, families.iter().map(String::as_str).collect());
    assert_eq!(families.len(), FAMILIES.len(), "no name twice");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn names_keep_the_conventions() {
    for family in FAMILIES {
        let name = family.sample_name();
        assert!(name.starts_with("sluice_"));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind() == Kind::Counter, "{name}");
        assert!(!name.contains("_milli") && !name.contains("_micro") && !name.contains("_kilo"), "{name}");
        let help = family.help();
        assert!(help.ends_with('.') && !help.contains(['|', '\n']), "{help}");
        for label in family.labels() {
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}: {label}");
        }
    }
}

#[test]
fn values_are_those_of_the_snapshot() {
    let text = encode(full()).unwrap();
    for line in [
        "sluice_build_info{version=\"1.2.3\"} 1",
        "sluice_forwarded_packets_total{service=\"web\",host=\"web-1\"} 7",
        "sluice_forwarded_bytes_total{service=\"web\",host=\"web-1\"} 420",
        "sluice_live_flows{service=\"web\",host=\"web-1\",phase=\"established\"} 1",
        "sluice_live_flows{service=\"web\",host=\"web-1\",phase=\"udp\"} 0",
        "sluice_ended_flows_total{host=\"web-1\",by=\"kicked\"} 4",
        "sluice_host_state{host=\"web-1\",state=\"draining\"} 1",
        "sluice_host_state{host=\"web-1\",state=\"active\"} 0",
        "sluice_host_share_ratio{host=\"web-1\"} 0.25",
        "sluice_host_up{host=\"web-1\"} 1",
        "sluice_maintenance_run_state{run=\"7\",state=\"paused\"} 1",
        "sluice_maintenance_run_state{run=\"7\",state=\"running\"} 0",
        "sluice_maintenance_hosts{run=\"7\",step=\"done\"} 2",
        "sluice_maintenance_hosts{run=\"7\",step=\"draining\"} 0",
        "sluice_maintenance_runs_total{outcome=\"failed\"} 1",
        "sluice_shift_wanted_ratio{service=\"web\"} 0.5",
        "sluice_shift_measured_ratio{service=\"web\"} 0.25",
        "sluice_health_state{service=\"web\",host=\"web-1\",state=\"down\"} 1",
        "sluice_health_state{service=\"web\",host=\"web-1\",state=\"up\"} 0",
        "sluice_health_state{service=\"web\",host=\"web-2\",state=\"up\"} 1",
        "sluice_check_runs_total{service=\"web\",host=\"web-1\",outcome=\"ok\"} 8",
        "sluice_check_runs_total{service=\"web\",host=\"web-1\",outcome=\"failed\"} 6",
        "sluice_check_runs_total{service=\"web\",host=\"web-1\",outcome=\"not_run\"} 2",
        "sluice_check_duration_seconds{service=\"web\",host=\"web-1\"} 0.5",
        "sluice_service_hosts{service=\"web\",use=\"ejected\"} 1",
        "sluice_service_ejections_total{service=\"web\",by=\"checks\"} 6",
        "sluice_service_ejections_total{service=\"web\",by=\"passive\"} 2",
        "sluice_service_ejections_total{service=\"web\",by=\"next_hop\"} 1",
        "sluice_suspected_hosts{service=\"web\",sign=\"resets\"} 3",
        "sluice_service_panic{service=\"web\"} 0",
        "sluice_service_standby_in_use{service=\"web\"} 1",
        "sluice_drain_live_flows{host=\"web-1\",service=\"\",clients=\"\"} 3",
        "sluice_drain_deadline_time_seconds{host=\"web-1\",service=\"\",clients=\"\"} 9",
        "sluice_ring_open_slots{ring=\"0\"} 3",
        "sluice_interface_attached{interface=\"a\\\"b\",mode=\"native\"} 1",
        "sluice_program_run_time_seconds_total 5e-7",
        "sluice_sweep_duration_seconds 0.0015",
        "sluice_scrape_read_duration_seconds 0.002",
    ] {
        assert!(lines(&text).any(|told| told == line), "{line} is not in\n{text}");
    }
}

/// A packet has one reason, so the sum over them is the number of packets; notes and violations are beside it.
#[test]
fn each_reason_is_told_once() {
    let text = encode(full()).unwrap();
    let count = |name: &str| lines(&text).filter(|line| line.starts_with(&format!("{name}{{"))).count();
    let of = |class: Class| Reason::ALL.iter().filter(|reason| reason.class() == class).count();
    assert_eq!(count("sluice_notes_total"), of(Class::Note));
    assert_eq!(count("sluice_violations_total"), of(Class::Violation));
    assert_eq!(count("sluice_packets_total"), Reason::ALL.len() - of(Class::Note) - of(Class::Violation));
    assert!(text.contains("sluice_packets_total{verdict=\"drop\",reason=\"no_host\"}"));
    assert!(text.contains("sluice_violations_total{violation=\"pin_names_nobody\"}"));
}

#[test]
fn nothing_to_tell_is_no_sample() {
    let text = encode(Snapshot::default()).unwrap();
    for name in [
        "sluice_program_runs",
        "sluice_drain_live_flows",
        "sluice_path_errors",
        "sluice_flow_table",
        "sluice_shift",
        "sluice_maintenance_hosts",
    ] {
        assert!(!lines(&text).any(|line| line.starts_with(name)), "{name}");
    }
    assert!(lines(&text).any(|line| line == "sluice_ready 0"));
}

/// What the text of a scrape costs at the largest site; what the engine needs to read it, `veth_metrics` measures if it is asked to.
#[test]
fn the_largest_site_is_told_in_a_moment() {
    let backend = |number: usize| Backend {
        service: format!("service-{}", number % 10_000),
        host: format!("host-{}", number % 4094),
        packets: number as u64,
        ..Backend::default()
    };
    let mut snapshot = full();
    snapshot.backends = (0..16_384).map(backend).collect();
    let check = |of: &Backend| {
        let mut figures = figures(&of.host, Oper::Up, Runs::default(), 1);
        Arc::make_mut(&mut figures.target).id.service.clone_from(&of.service);
        figures
    };
    snapshot.checks = snapshot.backends.iter().map(check).collect();
    let host = snapshot.hosts[0].clone();
    snapshot.hosts =
        (0..4094).map(|number| Host { name: format!("host-{number}"), ..host.clone() }).collect();
    let began = std::time::Instant::now();
    let text = encode(snapshot).unwrap();
    let (series, took) = (lines(&text).count(), began.elapsed());
    println!("{series} series, {} KiB, encoded in {} ms", text.len() >> 10, took.as_millis());
    assert!(series > 16_384 * 14 + 4094 * 15);
    assert!(text.len() < 32 << 20);
    assert!(took < Duration::from_secs(30), "{took:?}");
}
