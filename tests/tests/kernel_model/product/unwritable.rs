//! A journal that takes a change, and then not the rings that follow from it, as one whose disk is full by then: the change is told to be
//! noted and not in force, it comes into force by itself once that can be written, and next hops do not wait for it.

use std::collections::BTreeMap;

use lb_common::layout::{Control, HostId, HostState};
use lb_userspace::api::types::{AtDeadline, DrainRequest};

use super::balancer::Balancer;
use super::random::RING;
use super::setup::{Setup, TIMEOUTS, name};
use crate::client::{Client, Service};

const START: u32 = 5000;
const UNIX: u64 = 1_790_000_000;
/// That leaves the config with a flow.
const LEAVER: HostId = 5;
/// That is drained, and undrained, before.
const BACK: HostId = 1;
/// That is drained.
const HOST: HostId = 2;
/// That has another MAC address.
const OTHER: HostId = 3;
const MAC: [u8; 6] = [2, 0, 0, 9, 9, 9];

fn begin() -> (Balancer, Setup) {
    let (mut balancer, setup) = (Balancer::open(RING, 1024, false), Setup::new(RING, BTreeMap::new()));
    balancer.begin(&setup, START, UNIX).expect("it starts");
    (balancer, setup)
}

/// Its disk is full whenever rings are to be noted.
struct Full(rusqlite::Connection);

impl Full {
    fn begin(balancer: &Balancer) -> Self {
        let journal = rusqlite::Connection::open(balancer.journal()).unwrap();
        let full = "CREATE TRIGGER full BEFORE UPDATE OF generation ON meta BEGIN SELECT RAISE(ABORT, 'a test'); END";
        journal.execute_batch(full).unwrap();
        Full(journal)
    }

    fn end(self) {
        self.0.execute_batch("DROP TRIGGER full").unwrap();
    }
}

fn slots_of(balancer: &mut Balancer, host: HostId) -> usize {
    balancer.slots().values().flatten().filter(|slot| slot.owner() == host).count()
}

fn problems(balancer: &mut Balancer) -> String {
    balancer.status().problems.join("\n")
}

fn round(balancer: &mut Balancer) -> Result<(), lb_userspace::engine::Error> {
    balancer.pass(1);
    balancer.engine().round()
}

/// A client whose flow begins at the host.
fn client_of(balancer: &mut Balancer, host: HostId) -> Client {
    let slots = &balancer.slots()[&Service::Web];
    let slot = slots.iter().position(|slot| slot.owner() == host).expect("it has slots");
    Client::in_slot(0x0a01_0000, Service::Web, slot as u32, RING)
}

#[test]
fn a_change_whose_rings_cannot_be_noted_is_told_to_be_noted_and_not_in_force() {
    let (mut balancer, _) = begin();
    let slots = slots_of(&mut balancer, HOST);
    assert!(slots > 0);
    let full = Full::begin(&balancer);
    // Asked again it is noted already, and not in force still.
    for _ in 0..2 {
        let told = balancer.drain(&[HOST].into()).expect_err("the rings cannot be noted");
        let text = told.to_string();
        assert!(text.starts_with("drain 1 of host-2 is noted, and not in force yet: "), "{text}");
        assert!(!text.contains("nothing was changed"), "{text}");
        assert_eq!((told.code(), told.hint().is_some()), ("internal", true));
        assert_eq!(slots_of(&mut balancer, HOST), slots);
        round(&mut balancer).expect_err("it cannot be published yet");
        assert!(problems(&mut balancer).contains("not published yet"));
    }
    full.end();
    round(&mut balancer).expect("the journal can be written");
    assert_eq!(slots_of(&mut balancer, HOST), 0, "nobody had to ask again");
    assert!(!problems(&mut balancer).contains("not published yet"));

    let full = Full::begin(&balancer);
    let told = balancer.undrain(&[HOST].into()).expect_err("the rings cannot be noted").to_string();
    assert!(told.starts_with("the return of host-2 is noted, and not in force yet: "), "{told}");
    assert_eq!(slots_of(&mut balancer, HOST), 0);
    full.end();
    round(&mut balancer).expect("the journal can be written");
    assert_eq!(slots_of(&mut balancer, HOST), slots);
}

/// The last flow of a host that has left the config ends meanwhile, which publishes tables: the rings are not forgotten for that.
#[test]
fn a_drain_that_waits_for_the_journal_is_not_forgotten_when_a_host_leaves() {
    let (mut balancer, setup) = begin();
    balancer.apply(&setup, "before", None).expect("it can be put in force");
    // In a slot that is handed over from another host, so the flow is all that keeps its own.
    let before = balancer.slots()[&Service::Web].clone();
    balancer.drain(&[BACK].into()).expect("it is drained");
    let after = balancer.slots()[&Service::Web].clone();
    let mut owners = before.iter().zip(&after).map(|(was, is)| (was.owner(), is.owner()));
    let slot = owners.position(|owners| owners == (BACK, LEAVER)).expect("it has taken one");
    let client = Client::in_slot(0x0a01_0000, Service::Web, slot as u32, RING);
    let speak = |balancer: &mut Balancer| balancer.send(&client.packet().seq(2).ack(1));
    assert_eq!(balancer.send(&client.packet().syn(1)), LEAVER);
    assert_eq!(speak(&mut balancer), LEAVER);
    balancer.undrain(&[BACK].into()).expect("it is undrained");
    let mut without = setup.clone();
    without.weights.remove(&LEAVER);
    balancer.apply(&without, "after", None).expect("it can be put in force");
    for _ in 0..3 {
        balancer.pass(TIMEOUTS.established - 1);
        assert_eq!(speak(&mut balancer), LEAVER);
        balancer.engine().round().expect("a round goes well");
    }
    assert!(!balancer.status().leaving.is_empty());
    let full = Full::begin(&balancer);
    balancer.drain(&[HOST].into()).expect_err("the rings cannot be noted");
    balancer.send(&client.packet().seq(2).rst());
    // Nothing but its pin says where it was, so that is kept for as long as a flow may be silent.
    balancer.pass(TIMEOUTS.established + 1);
    for _ in 0..3 {
        round(&mut balancer).expect_err("the rings still cannot be noted");
        assert!(problems(&mut balancer).contains("not published yet"));
    }
    balancer.drain(&[HOST].into()).expect_err("new flows still reach it");
    assert!(slots_of(&mut balancer, HOST) > 0);
    full.end();
    for _ in 0..2 {
        round(&mut balancer).expect("the journal can be written");
    }
    assert_eq!(slots_of(&mut balancer, HOST), 0);
    assert!(balancer.status().leaving.is_empty(), "the other has left all the same");
}

/// One host cannot be reached any more, so slots should move, and cannot; another one has a new MAC address.
#[test]
fn a_next_hop_is_followed_while_rings_cannot_be_noted() {
    let (mut balancer, _) = begin();
    let slots = balancer.slots();
    let full = Full::begin(&balancer);
    balancer.set_reachable(LEAVER, false);
    balancer.set_mac(OTHER, MAC);
    round(&mut balancer).expect_err("the rings cannot be noted");
    assert_eq!(balancer.mac(Service::Web, OTHER), MAC);
    assert_eq!((balancer.slots(), balancer.state(Service::Web, LEAVER)), (slots.clone(), HostState::Down));
    // It is still to be published, so it is not taken for done.
    balancer.set_mac(OTHER, [2, 0, 0, 9, 9, 8]);
    round(&mut balancer).expect_err("the rings cannot be noted");
    assert_eq!(balancer.mac(Service::Web, OTHER), [2, 0, 0, 9, 9, 8]);
    assert!(problems(&mut balancer).contains("not published yet"));
    full.end();
    round(&mut balancer).expect("the journal can be written");
    assert_eq!(slots_of(&mut balancer, LEAVER), 0);
    assert!(!problems(&mut balancer).contains("not published yet"));
}

/// The deadline of a drain whose rings wait ends no flow that they still send to the host.
#[test]
fn a_bound_waits_for_the_rings_that_keep_new_flows_off() {
    let (mut balancer, _) = begin();
    let client = client_of(&mut balancer, HOST);
    let full = Full::begin(&balancer);
    let asked = DrainRequest {
        hosts: vec![name(HOST)],
        deadline: Some(2),
        at_deadline: Some(AtDeadline::Reset),
        ..DrainRequest::default()
    };
    balancer.engine().drain(&asked, "test").expect_err("the rings cannot be noted");
    assert_eq!(balancer.state(Service::Web, HOST), HostState::Up);
    assert_eq!(balancer.send(&client.packet().syn(1)), HOST);
    balancer.pass(5);
    round(&mut balancer).expect_err("the rings cannot be noted");
    assert_eq!(balancer.send(&client.packet().seq(2).ack(1)), HOST, "new flows come, so they are not reset");
    full.end();
    round(&mut balancer).expect("the journal can be written");
    let id = balancer.id(HOST);
    let backends = balancer.plane().published_backends();
    let words =
        backends.iter().filter(|((_, host), _)| *host == id).map(|(_, of)| Control(of.record.control));
    for word in words {
        assert_eq!((word.state(), word.deadline().at), (HostState::Draining, START + 2));
    }
    assert_ne!(balancer.send(&client.packet().seq(2).ack(1)), HOST, "its time is over");
}
