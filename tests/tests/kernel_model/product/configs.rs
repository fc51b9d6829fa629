//! Configs that come while the daemon runs, and what becomes of them that cannot be put in force.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use lb_common::layout::{HOST_NONE, HostId};
use lb_userspace::api::types::{ConfirmRequest, SelfDrainRequest, SelfState};
use sluice_tests::packets::DESTINATION_MAC;

use super::balancer::Balancer;
use super::random::RING;
use super::setup::{Setup, TIMEOUTS};
use crate::client::{Client, Service};
use crate::rules::{Moves, Policy};

const START: u32 = 1_000_000;
const UNIX: u64 = 1_800_000_000;
/// Nobody has such an interface.
const NOWHERE: Option<&str> = Some("nowhere0");
/// The host that a config brings.
const NEW: HostId = 5;
/// A host that is drained meanwhile.
const DRAINED: HostId = 4;
/// The start of a drain cannot be noted, which is found out when all is published.
const LATE: &str = "CREATE TRIGGER late BEFORE UPDATE OF counters_at_start ON drains BEGIN SELECT RAISE(ABORT, 'a test'); END";
/// Connections that begin while something is done, at most.
const FLOWS: u32 = 4000;
/// Connections that fit into the flow table several times over.
const MANY: usize = 4000;

fn setup(edges: bool) -> Setup {
    let policy = Policy { edges, client: false, moves: Moves::Never };
    Setup::new(RING, Service::ALL.into_iter().map(|service| (service, policy)).collect())
}

fn without(setup: &Setup, host: HostId) -> Setup {
    let mut setup = setup.clone();
    setup.weights.remove(&host);
    setup
}

/// A balancer on which a config is in force.
fn balancer(setup: &Setup, text: &str) -> Balancer {
    let mut balancer = Balancer::open(RING, 2048, false);
    balancer.begin(setup, START, UNIX).expect("the engine starts");
    balancer.apply(setup, text, None).expect("it can be put in force");
    balancer
}

/// Connections that begin while `work` is done, by the hosts that they began at; clients are numbered from `first` on.
fn while_flows_begin(
    balancer: &mut Balancer,
    first: u32,
    work: impl FnOnce(&mut Balancer),
) -> Vec<(Client, HostId)> {
    let pin = balancer.plane().paths.pins.join("program");
    balancer.plane().program().unwrap().pin(&pin).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flows = scope.spawn(|| {
            let program = Xdp::from_pin(&pin, XdpAttachType::Interface).unwrap();
            let begin = |number: u32| {
                let client = Client { address: 0x0a00_0000 + number, port: 4000, service: Service::Web };
                let packets = [client.packet().syn(1), client.packet().seq(2).ack(1)];
                let hosts = packets.map(|packet| {
                    host_of(&program, &packet.macs([2, 0, 0, 2, 0, 0], DESTINATION_MAC).build())
                });
                assert_eq!(hosts[0], hosts[1], "a handshake");
                (client, hosts[0])
            };
            let mut numbers = first..first + FLOWS;
            let mut flows = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                flows.extend(numbers.by_ref().take(4).map(begin));
                thread::sleep(Duration::from_micros(100));
            }
            flows
        });
        work(balancer);
        is_over.store(true, Ordering::SeqCst);
        std::fs::remove_file(&pin).unwrap();
        flows.join().unwrap()
    })
}

fn host_of(program: &Xdp, frame: &[u8]) -> HostId {
    let mut out = vec![0; frame.len() + 258];
    let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
    let result = program.test_run(options).unwrap();
    if result.return_value == 3 { u16::from_be_bytes([out[4], out[5]]) } else { HOST_NONE }
}

/// A config brings a host, is published, and cannot be put in force all the same: the flows that began meanwhile go on where they began,
/// at the new host and at those whose slots had moved (C1).
#[test]
fn flows_that_began_under_a_config_that_failed_go_on() {
    for edges in [false, true] {
        let setup = setup(edges);
        let mut balancer = balancer(&without(&setup, NEW), "before");
        let journal = rusqlite::Connection::open(balancer.journal()).unwrap();
        let mut flows = Vec::new();
        // The new host has slots for a moment only, in which a busy machine may begin few flows, or none.
        for turn in 0.. {
            journal.execute_batch(LATE).unwrap();
            balancer.drain(&[DRAINED].into()).expect("it is noted, if not its start");
            flows.extend(while_flows_begin(&mut balancer, turn * FLOWS, |balancer| {
                thread::sleep(Duration::from_millis(5));
                balancer.apply(&setup, "after", None).expect_err("nor can it with another config");
            }));
            journal.execute_batch("DROP TRIGGER late").unwrap();
            balancer.engine().round().expect("the way back comes to its end");
            balancer.undrain(&[DRAINED].into()).expect("it is drained");
            if flows.iter().any(|(_, host)| *host == NEW) || flows.len() > MANY {
                break;
            }
        }
        let mut hosts: BTreeMap<HostId, usize> = BTreeMap::new();
        for (client, host) in &flows {
            assert_ne!(*host, HOST_NONE);
            *hosts.entry(*host).or_default() += 1;
            let now = balancer.send(&client.packet().seq(2).ack(1));
            assert_eq!(now, *host, "edges: {edges}, {client:?}, one of {}", flows.len());
        }
        assert!(hosts.contains_key(&NEW), "{hosts:?}");
        // And after a round, in which nothing but what is over may close.
        balancer.pass(1);
        balancer.engine().round().expect("a round goes well");
        for (client, host) in &flows {
            assert_eq!(balancer.send(&client.packet().seq(2).ack(1)), *host, "edges: {edges}, {client:?}");
        }
        let leaving = balancer.status().leaving;
        assert!(leaving.iter().any(|left| left.host == "host-5" && left.live_flows > 0), "{leaving:?}");
        assert!(balancer.status().violations.is_empty());
    }
}

/// After an upgrade that has made the directory anew a host can leave with its flows, once something was published.
#[test]
fn a_host_with_flows_leaves_after_an_upgrade() {
    let setup = setup(false);
    let mut balancer = balancer(&setup, "before");
    balancer.upgrade(&setup).expect("the engine starts");
    let slots = &balancer.slots()[&Service::Web];
    let slot = slots.iter().position(|slot| slot.owner() == NEW).expect("it has slots");
    let client = Client::in_slot(0x0a01_0000, Service::Web, slot as u32, RING);
    assert_eq!(balancer.send(&client.packet().syn(1)), NEW);
    balancer.apply(&without(&setup, NEW), "after", None).expect("what is published is known");
    assert_eq!(balancer.send(&client.packet().seq(2).ack(1)), NEW);
}

/// A config failed, and the journal could not be told: it is not the one in force, and nothing is built upon it.
#[test]
fn what_the_journal_does_not_know_yet_comes_first() {
    let setup = setup(false);
    let mut balancer = balancer(&setup, "before");
    let journal = rusqlite::Connection::open(balancer.journal()).unwrap();
    let applied = || -> String {
        let query = "SELECT text FROM configs, applied WHERE configs.number = applied.config";
        journal.query_row(query, [], |row| row.get(0)).unwrap()
    };
    journal
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON revisions WHEN NEW.kind = 'failed' BEGIN SELECT RAISE(ABORT, 'a test'); END",
        )
        .unwrap();
    balancer.apply(&without(&setup, NEW), "failed", NOWHERE).expect_err("there is no such interface");
    assert_eq!(applied(), "failed", "it could not be noted");
    balancer.apply(&without(&setup, NEW), "failed", None).expect_err("it is not in force");
    balancer.apply(&without(&setup, 4), "next", None).expect_err("what was in force is not noted");
    assert_eq!(balancer.status().hosts.len(), 5);
    balancer.engine().confirm(&ConfirmRequest::default(), "test").expect_err("nothing waits");
    journal.execute_batch("DROP TRIGGER full").unwrap();
    let done = balancer.apply(&without(&setup, 4), "next", None).expect("the journal can be written");
    assert!(done.revision.is_some());
    balancer.engine().round().expect("a round goes well");
    assert_eq!((applied().as_str(), balancer.status().hosts.len()), ("next", 4));
}

/// What a host gets that has left the config is traffic of this balancer, which is not drained while it comes.
#[test]
fn a_balancer_is_not_quiet_while_a_host_that_has_left_has_traffic() {
    let setup = setup(false);
    let mut balancer = balancer(&setup, "before");
    let slots = &balancer.slots()[&Service::Web];
    let slot = slots.iter().position(|slot| slot.owner() == NEW).expect("it has slots");
    let client = Client::in_slot(0x0a01_0000, Service::Web, slot as u32, RING);
    assert_eq!(balancer.send(&client.packet().syn(1)), NEW);
    balancer.apply(&without(&setup, NEW), "after", None).expect("it can be put in force");
    let asked = SelfDrainRequest { quiet_for: Some(2), ..SelfDrainRequest::default() };
    balancer.engine().drain_self(&asked, "test").expect("it is drained");
    for _ in 0..5 {
        for _ in 0..20 {
            assert_eq!(balancer.send(&client.packet().seq(2).ack(1)), NEW);
        }
        // Rates are by the clock of the machine.
        thread::sleep(Duration::from_secs(1));
        balancer.pass(1);
        balancer.engine().round().expect("a round goes well");
    }
    let status = balancer.engine().self_status();
    assert!(status.packets_per_second.is_some_and(|rate| rate > 10.0), "{:?}", status.packets_per_second);
    assert_eq!(status.state, SelfState::Draining);
}

/// Whoever confirms the config that they have seen does not confirm another one that was put in force meanwhile.
#[test]
fn a_config_is_confirmed_by_its_number() {
    let setup = setup(false);
    let mut balancer = balancer(&setup, "before");
    let applied = balancer.apply_for(&without(&setup, NEW), "after", None, Some(60)).expect("it waits");
    let revision = applied.revision.expect("it is another one");
    let asked = |number| ConfirmRequest { revision: Some(number), ..ConfirmRequest::default() };
    let other = balancer.engine().confirm(&asked(revision - 1), "test").expect_err("it is not that one");
    assert_eq!((other.code(), other.hint().is_some()), ("conflict", true));
    assert!(other.to_string().ends_with(&format!("revision {revision} does")), "{other}");
    assert_eq!(balancer.engine().waiting(), Some(revision));
    let confirmed = balancer.engine().confirm(&asked(revision), "test").expect("that one waits");
    assert_eq!((confirmed.confirmed, balancer.engine().waiting()), (revision, None));
    let nothing = balancer.engine().confirm(&asked(revision), "test").expect_err("nothing waits");
    assert_eq!(nothing.code(), "conflict");
}

/// Why a config could not be taken back at its deadline is told for as long as it waits.
#[test]
fn what_cannot_be_taken_back_is_told() {
    let setup = setup(false);
    let mut balancer = balancer(&setup, "before");
    balancer.apply_for(&without(&setup, NEW), "after", None, Some(60)).expect("it waits");
    let told =
        |balancer: &mut Balancer| balancer.status().problems.iter().any(|it| it.contains("no such door"));
    balancer.engine().note_way_back(Some("no such door".to_owned()));
    assert!(told(&mut balancer));
    balancer.engine().confirm(&ConfirmRequest::default(), "test").expect("it stays");
    assert!(!told(&mut balancer));
    // Nor is the next one that waits.
    balancer.apply_for(&without(&setup, 1), "another", None, Some(60)).expect("it waits");
    assert!(!told(&mut balancer));
}

fn numbers_of_hosts(journal: &rusqlite::Connection) -> BTreeMap<String, u32> {
    let mut query = journal.prepare("SELECT name, id FROM ids WHERE kind = 'host'").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A host that has left the config keeps its number while a flow of it lives or a handover from it is open, and its counters go with it.
#[test]
fn a_number_is_given_back_when_nothing_names_its_host_any_more() {
    let setup = setup(false);
    let mut balancer = balancer(&setup, "before");
    let journal = rusqlite::Connection::open(balancer.journal()).unwrap();
    let has_number = || numbers_of_hosts(&journal).contains_key("host-5");
    let packets = |balancer: &mut Balancer| {
        let status = balancer.status();
        status.hosts.iter().find(|host| host.name == "host-5").expect("it is named").traffic.packets
    };
    balancer.engine().round().expect("a round goes well");
    balancer.pass(3590);
    let slots = &balancer.slots()[&Service::Web];
    let slot = slots.iter().position(|slot| slot.owner() == NEW).expect("it has slots");
    let client = Client::in_slot(0x0a01_0000, Service::Web, slot as u32, RING);
    for packet in [client.packet().syn(1), client.packet().seq(2).ack(1)] {
        assert_eq!(balancer.send(&packet), NEW);
    }
    assert_eq!(packets(&mut balancer), 2);
    balancer.apply(&without(&setup, NEW), "without", None).expect("it can be put in force");
    balancer.pass(11);
    balancer.engine().round().expect("a round goes well");
    assert!(has_number(), "its flow lives");
    for seconds in [TIMEOUTS.established + 1, 1, 3600] {
        balancer.pass(seconds);
        balancer.engine().round().expect("a round goes well");
    }
    assert!(!has_number());
    balancer.apply(&setup, "with", None).expect("it can be put in force");
    assert!(has_number());
    assert_eq!(packets(&mut balancer), 0, "the counters begin anew");
}

/// Numbers are short: those that nobody needs are looked for at once.
#[test]
fn a_config_that_needs_numbers_gets_those_that_are_free() {
    let setup = setup(false);
    let mut balancer = balancer(&without(&setup, NEW), "before");
    let journal = rusqlite::Connection::open(balancer.journal()).unwrap();
    journal.execute("DELETE FROM ids WHERE kind = 'host' AND name = 'host-5'", []).unwrap();
    let taken: Vec<u32> = numbers_of_hosts(&journal).into_values().collect();
    journal.execute_batch("BEGIN").unwrap();
    for number in (1..=4094).filter(|number| !taken.contains(number)) {
        let row = ("host", format!("gone-{number}"), "", number);
        journal.execute("INSERT INTO ids (kind, name, part, id) VALUES (?1, ?2, ?3, ?4)", row).unwrap();
    }
    journal.execute_batch("COMMIT").unwrap();
    balancer.apply(&setup, "after", None).expect("there are numbers");
    let numbers = numbers_of_hosts(&journal);
    assert_eq!(numbers.len(), 5, "{numbers:?}");
}
