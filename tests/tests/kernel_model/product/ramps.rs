//! Ramps: a host comes back share by share, by the clock, whatever becomes of the daemon; and where its new flows fail, it is taken back.

use std::collections::BTreeMap;

use lb_common::layout::{HostId, HostState};
use lb_userspace::api::types::{self, DrainRequest, HostStatus, UndrainRequest};

use super::balancer::Balancer;
use super::setup::{Setup, name};
use crate::client::{Client, Flags, Service};

const START: u32 = 5000;
const UNIX: u64 = 1_790_000_000;
const RING: u32 = 1009;
const HOST: HostId = 2;

fn begin() -> (Balancer, Setup) {
    let (mut balancer, setup) = (Balancer::open(RING, 1024, false), Setup::new(RING, BTreeMap::new()));
    balancer.begin(&setup, START, UNIX).expect("it starts");
    (balancer, setup)
}

fn undrain(balancer: &mut Balancer, ramp: Option<u64>) {
    let request = UndrainRequest { hosts: vec![name(HOST)], ramp, ..UndrainRequest::default() };
    balancer.engine().undrain(&request, "test").expect("it is undrained");
}

fn status(balancer: &mut Balancer) -> HostStatus {
    let hosts = balancer.status().hosts;
    hosts.into_iter().find(|host| host.name == name(HOST)).expect("it is there")
}

/// Its share by the daemon's word; `None`: it has no ramp.
fn share(balancer: &mut Balancer) -> Option<u32> {
    status(balancer).ramp.map(|ramp| (ramp.share * 256.0) as u32)
}

/// The owners of all slots of all services.
fn owners(balancer: &mut Balancer) -> Vec<HostId> {
    balancer.published().slots.values().flatten().map(|slot| slot.owner()).collect()
}

fn count(owners: &[HostId]) -> usize {
    owners.iter().filter(|owner| **owner == HOST).count()
}

#[test]
fn a_ramp_goes_by_the_clock_whatever_becomes_of_the_daemon() {
    let (mut balancer, setup) = begin();
    let settled = owners(&mut balancer);
    balancer.drain(&[HOST].into()).expect("it is drained");
    undrain(&mut balancer, Some(60));
    assert_eq!(share(&mut balancer), Some(8), "the first step is taken at once");
    let mut last = owners(&mut balancer);
    for second in 1..=70 {
        balancer.pass(1);
        match second {
            20 => balancer.restart(&setup).expect("it starts again"),
            40 => balancer.reboot(&setup, 7, UNIX + 40).expect("it starts again"),
            _ => balancer.engine().round().expect("a round"),
        }
        let due = if second >= 60 { 256 } else { 256 * (second / 2 + 1) / 31 };
        assert_eq!(share(&mut balancer), (second < 70).then_some(due), "{second}");
        let published = balancer.published();
        assert_eq!(published.hosts[&HOST], HostState::Up);
        let now = owners(&mut balancer);
        let others = last.iter().zip(&now).filter(|(last, now)| last != now);
        assert!(others.clone().all(|(_, now)| *now == HOST), "{second}: slots of others move");
        let part = count(&now) as f64 / count(&settled) as f64;
        assert!((part - f64::from(due) / 256.0).abs() < 0.12, "{second}: {part} of its slots, {due}");
        last = now;
    }
    assert_eq!(last, settled, "the very ring from before");
}

#[test]
fn a_ramp_ends_by_a_drain_or_another_undrain() {
    let (mut balancer, setup) = begin();
    let settled = owners(&mut balancer);
    balancer.drain(&[HOST].into()).expect("it is drained");
    undrain(&mut balancer, Some(600));
    balancer.pass(60);
    balancer.engine().round().expect("a round");
    balancer.drain(&[HOST].into()).expect("it is drained");
    assert_eq!((share(&mut balancer), status(&mut balancer).admin), (None, types::AdminState::Draining));
    assert_eq!(count(&owners(&mut balancer)), 0);
    balancer.restart(&setup).expect("it starts again");
    assert_eq!((share(&mut balancer), status(&mut balancer).admin), (None, types::AdminState::Draining));

    undrain(&mut balancer, Some(600));
    balancer.pass(300);
    balancer.engine().round().expect("a round");
    let half = share(&mut balancer);
    assert!(half.is_some_and(|half| (120..140).contains(&half)), "{half:?}");
    undrain(&mut balancer, Some(60));
    let other = share(&mut balancer);
    assert!(other.is_some_and(|other| (120..140).contains(&other)), "{other:?}");
    undrain(&mut balancer, None);
    assert_eq!((share(&mut balancer), owners(&mut balancer)), (None, settled.clone()));
    balancer.restart(&setup).expect("it starts again");
    assert_eq!((share(&mut balancer), owners(&mut balancer)), (None, settled));

    // Of a host in use there is nothing to give back.
    undrain(&mut balancer, Some(60));
    assert_eq!(share(&mut balancer), None);
    for (ramp, hint) in [(0, "a longer one"), (86_401, "at most 24h")] {
        let request =
            UndrainRequest { hosts: vec![name(HOST)], ramp: Some(ramp), ..UndrainRequest::default() };
        let refused = balancer.engine().undrain(&request, "test").expect_err("no ramp");
        assert_eq!(refused.code(), "bad_request");
        assert!(refused.hint().is_some_and(|mend| mend.contains(hint)), "{:?}", refused.hint());
    }
}

/// Clients that come, each with a port of its own.
struct Clients(std::ops::RangeFrom<u16>);

impl Clients {
    /// So many begin; those of hosts that `answers` go on. How many the host was given.
    fn begin(&mut self, balancer: &mut Balancer, flows: u32, answers: impl Fn(HostId) -> bool) -> u64 {
        let mut given = 0;
        for port in self.0.by_ref().take(flows as usize) {
            let client = Client { address: 0x0a20_0000, port, service: Service::Web };
            let to = balancer.send(&client.segment(Flags::Syn, 1, false).0);
            if answers(to) {
                assert_eq!(balancer.send(&client.segment(Flags::Ack, 2, false).0), to);
            }
            given += u64::from(to == HOST);
        }
        given
    }
}

#[test]
fn a_ramp_whose_new_flows_fail_is_paused_and_taken_back() {
    let (mut balancer, setup) = begin();
    balancer.drain(&[HOST].into()).expect("it is drained");
    undrain(&mut balancer, Some(60));
    let (mut clients, mut given, mut paused) = (Clients(1024..), 0, None);
    let (mut seconds, mut restarted) = (0, false);
    while status(&mut balancer).admin == types::AdminState::Active {
        given += clients.begin(&mut balancer, 120, |host| host != HOST);
        balancer.pass(1);
        balancer.engine().round().expect("a round");
        seconds += 1;
        let ramp = status(&mut balancer).ramp;
        if let Some(ramp) = ramp.filter(|ramp| ramp.paused.is_some()) {
            let share = *paused.get_or_insert(ramp.share);
            assert_eq!(ramp.share, share, "paused, it stays");
            if !std::mem::replace(&mut restarted, true) {
                balancer.restart(&setup).expect("it starts again");
            }
        }
        assert!(seconds < 30, "{paused:?}");
    }
    let share = paused.expect("it was paused before");
    println!("taken back after {seconds}s, paused at {share:.2} of its share: {given} flows failed");
    assert!(share < 0.3 && given < 60, "{share}, {given}");
    let drain = status(&mut balancer).drain.expect("it is drained");
    let reason = drain.reason.expect("it is said why");
    assert!(reason.starts_with("ramp taken back: ") && reason.contains("were never established"), "{reason}");
    assert_eq!(drain.by, "sluice");
    assert_eq!(clients.begin(&mut balancer, 500, |_| false), 0);
    // It stays so, and the next ramp begins anew.
    balancer.restart(&setup).expect("it starts again");
    assert_eq!(status(&mut balancer).admin, types::AdminState::Draining);
    undrain(&mut balancer, Some(60));
    assert_eq!(share_of(&mut balancer), (8, false));
}

fn share_of(balancer: &mut Balancer) -> (u32, bool) {
    let ramp = status(balancer).ramp.expect("it has one");
    ((ramp.share * 256.0) as u32, ramp.paused.is_some())
}

#[test]
fn a_ramp_goes_on_while_all_hosts_fail_alike_or_after_a_short_fault() {
    let (mut balancer, _) = begin();
    balancer.drain(&[HOST].into()).expect("it is drained");
    undrain(&mut balancer, Some(40));
    let mut clients = Clients(1024..);
    let mut round = |balancer: &mut Balancer, answers: &dyn Fn(HostId) -> bool| {
        clients.begin(balancer, 120, answers);
        balancer.pass(1);
        balancer.engine().round().expect("a round");
    };
    // A flood: nobody goes on.
    for _ in 0..12 {
        round(&mut balancer, &|_| false);
        assert!(!share_of(&mut balancer).1);
    }
    let mut paused = 0;
    for second in 12..50 {
        round(&mut balancer, &|host| host != HOST || second > 17);
        let Some(ramp) = status(&mut balancer).ramp else { break };
        paused += u64::from(ramp.paused.is_some());
    }
    assert!(paused > 0);
    let ramp = status(&mut balancer).ramp.expect("the pause has moved its end");
    assert_eq!((ramp.paused, ramp.started_at > UNIX), (None, true));
    balancer.pass(40);
    balancer.engine().round().expect("a round");
    assert_eq!(status(&mut balancer).admin, types::AdminState::Active);
}

/// Half a host is more than none: without another host of a service, the ramp is paused and stays.
#[test]
fn the_last_host_is_not_taken_back() {
    let (mut balancer, _) = begin();
    balancer.drain(&[HOST].into()).expect("it is drained");
    let hosts = [1, 3].map(name).to_vec();
    undrain(&mut balancer, Some(60));
    let request = DrainRequest { hosts, force: true, ..DrainRequest::default() };
    balancer.engine().drain(&request, "test").expect("by force");
    let mut clients = Clients(1024..);
    for _ in 0..20 {
        clients.begin(&mut balancer, 100, |host| host != HOST);
        balancer.pass(1);
        balancer.engine().round().expect("a round");
    }
    assert_eq!(status(&mut balancer).admin, types::AdminState::Active);
    assert!(share_of(&mut balancer).1, "paused");
}
