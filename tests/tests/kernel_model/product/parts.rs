//! Drains of a part of a host's slots: the host stays in use for the rest, and flows in what it gave up go on until they end.

use std::collections::BTreeMap;

use lb_common::layout::{HostId, HostState};
use lb_userspace::api::types::{AdminState, DrainRequest, DrainStatus, HostStatus, Outcome};

use super::balancer::Balancer;
use super::setup::{Setup, T, name};
use crate::client::{Client, Flags, Service};

const START: u32 = 5000;
const UNIX: u64 = 1_790_000_000;
const RING: u32 = 1009;
const HOST: HostId = 2;
const FLOWS: u16 = 400;

fn begin() -> (Balancer, Setup) {
    let (mut balancer, setup) = (Balancer::open(RING, 1024, false), Setup::new(RING, BTreeMap::new()));
    balancer.begin(&setup, START, UNIX).expect("it starts");
    (balancer, setup)
}

fn request(share: Option<u8>) -> DrainRequest {
    DrainRequest { hosts: vec![name(HOST)], share, ..DrainRequest::default() }
}

fn drain(balancer: &mut Balancer, share: Option<u8>) -> DrainStatus {
    balancer.engine().drain(&request(share), "test").expect("it is drained").remove(0)
}

fn refusal(balancer: &mut Balancer, request: &DrainRequest) -> String {
    let refused = balancer.engine().drain(request, "test").expect_err("it is refused");
    assert_eq!((refused.code(), refused.hint().is_some()), ("bad_request", true), "{refused}");
    refused.to_string()
}

fn status(balancer: &mut Balancer) -> HostStatus {
    let hosts = balancer.status().hosts;
    hosts.into_iter().find(|host| host.name == name(HOST)).expect("it is there")
}

fn owners(balancer: &mut Balancer) -> Vec<HostId> {
    balancer.published().slots.values().flatten().map(|slot| slot.owner()).collect()
}

/// Flows of one service that begin, and where they went.
fn flows(balancer: &mut Balancer, ports: std::ops::Range<u16>) -> Vec<(Client, HostId)> {
    let begin = |port| {
        let client = Client { address: 0x0a20_0000, port, service: Service::Web };
        let to = balancer.send(&client.segment(Flags::Syn, 1, false).0);
        assert_eq!(balancer.send(&client.segment(Flags::Ack, 2, false).0), to);
        (client, to)
    };
    ports.map(begin).collect()
}

/// Every flow says something, or its end, and reaches its host.
fn speak(balancer: &mut Balancer, flows: &[(Client, HostId)], flags: Flags) {
    for (client, host) in flows {
        assert_eq!(balancer.send(&client.segment(flags, 3, false).0), *host, "{client:?}");
    }
}

#[test]
fn a_part_is_given_up_and_its_flows_go_on() {
    let (mut balancer, setup) = begin();
    let settled = owners(&mut balancer);
    let before = flows(&mut balancer, 2000..2000 + FLOWS);
    // Until every flow that might have been there before must have spoken.
    for _ in 0..4 {
        balancer.pass(T / 3);
        speak(&mut balancer, &before, Flags::Ack);
        balancer.engine().round().expect("a round");
    }
    let begun = drain(&mut balancer, Some(25));
    let given_up = owners(&mut balancer);
    let moved = settled.iter().zip(&given_up).filter(|(before, after)| before != after);
    assert!(moved.clone().all(|(before, _)| *before == HOST), "slots of others move");
    let own = settled.iter().filter(|owner| **owner == HOST).count();
    let part = moved.count() as f64 / own as f64;
    assert!((0.18..0.32).contains(&part), "{part} of its slots");
    assert_eq!(balancer.published().hosts[&HOST], HostState::Up);

    // Its flows are in both parts; what the drain is about are those in slots of others.
    let published = balancer.published();
    let owner = |client: &Client| published.slots[&Service::Web][setup.slot_of(client) as usize].owner();
    let (kept, handed): (Vec<_>, Vec<_>) =
        before.iter().filter(|(_, host)| *host == HOST).partition(|(client, _)| owner(client) == HOST);
    assert!(!handed.is_empty() && kept.len() > handed.len(), "{} and {}", handed.len(), kept.len());
    assert_eq!((begun.flows_at_start, begun.live_flows.total), (handed.len() as u64, handed.len() as u64));
    // New flows go by the new slots, and some still to the host.
    let after = flows(&mut balancer, 4000..4000 + FLOWS);
    assert!(after.iter().all(|(client, host)| owner(client) == *host));
    assert!(after.iter().any(|(_, host)| *host == HOST));

    for round in 0..6 {
        balancer.pass(T / 3);
        speak(&mut balancer, &before, Flags::Ack);
        speak(&mut balancer, &after, Flags::Ack);
        match round {
            2 => balancer.restart(&setup).expect("it starts again"),
            _ => balancer.engine().round().expect("a round"),
        }
        assert_eq!(owners(&mut balancer), given_up);
    }
    let host = status(&mut balancer);
    assert_eq!(host.admin, AdminState::Draining, "flows in its slots live");
    assert_eq!(host.drain.map(|drain| drain.live_flows.total), Some(handed.len() as u64));
    for (client, _) in &handed {
        balancer.send(&client.segment(Flags::FinAck, 3, false).0);
    }
    let mut rounds = 0;
    while status(&mut balancer).admin != AdminState::Drained {
        balancer.pass(1);
        if rounds % 10 == 0 {
            let living: Vec<_> = before.iter().filter(|flow| !handed.contains(flow)).copied().collect();
            speak(&mut balancer, &living, Flags::Ack);
            speak(&mut balancer, &after, Flags::Ack);
        }
        balancer.engine().round().expect("a round");
        rounds += 1;
        assert!(rounds < 2 * T, "{:?}", status(&mut balancer).drain);
    }
    let receipt = status(&mut balancer).drain.and_then(|drain| drain.receipt).expect("it is done");
    assert_eq!((receipt.outcome, receipt.order.share, receipt.left), (Outcome::Drained, Some(25), 0));
    assert_eq!(receipt.flows_at_start + receipt.appeared, receipt.ended, "{receipt:?}");
    assert_eq!(receipt.flows_at_start, handed.len() as u64);
    assert_eq!((balancer.published().hosts[&HOST], owners(&mut balancer)), (HostState::Up, given_up.clone()));
    balancer.reboot(&setup, 9, UNIX + 9000).expect("it starts again");
    assert_eq!((balancer.published().hosts[&HOST], owners(&mut balancer)), (HostState::Up, given_up));
    balancer.undrain(&[HOST].into()).expect("it is taken back");
    assert_eq!(owners(&mut balancer), settled);
    assert_eq!(balancer.status().violations, BTreeMap::new());
}

#[test]
fn a_part_becomes_more_less_and_the_whole() {
    let (mut balancer, setup) = begin();
    let settled = owners(&mut balancer);
    let count = |balancer: &mut Balancer| owners(balancer).iter().filter(|owner| **owner == HOST).count();
    let own = count(&mut balancer);
    let id = drain(&mut balancer, Some(25)).id;
    let part = count(&mut balancer);
    assert_eq!(drain(&mut balancer, Some(75)).id, id, "the same drain, amended");
    let small = count(&mut balancer);
    assert!(small < part && part < own, "{small} {part} {own}");
    drain(&mut balancer, Some(25));
    assert_eq!(count(&mut balancer), part);
    let whole = drain(&mut balancer, None);
    assert_eq!((whole.id, whole.order.share, count(&mut balancer)), (id, None, 0));
    assert_eq!(balancer.published().hosts[&HOST], HostState::Draining);
    let refused = refusal(&mut balancer, &request(Some(25)));
    assert!(refused.contains("as a whole already"), "{refused}");

    // From a part by a ramp: from where it is.
    balancer.undrain(&[HOST].into()).expect("it is taken back");
    drain(&mut balancer, Some(50));
    let half = count(&mut balancer);
    let ramp = lb_userspace::api::types::UndrainRequest {
        hosts: vec![name(HOST)],
        ramp: Some(60),
        ..Default::default()
    };
    balancer.engine().undrain(&ramp, "test").expect("it comes back");
    assert!((half..half + own / 8).contains(&count(&mut balancer)));
    let refused = refusal(&mut balancer, &request(Some(25)));
    assert!(refused.contains("on its way back"), "{refused}");
    balancer.undrain(&[HOST].into()).expect("at once");
    assert_eq!(owners(&mut balancer), settled);

    // One that is done gives way to the whole.
    let done = drain(&mut balancer, Some(25)).id;
    for _ in 0..4 {
        balancer.pass(T + 1);
        balancer.engine().round().expect("a round");
    }
    assert_eq!(status(&mut balancer).admin, AdminState::Drained);
    let whole = drain(&mut balancer, None);
    assert_eq!((whole.id, whole.state.as_str()), (done + 1, "draining"));
    balancer.restart(&setup).expect("it starts again");
    assert_eq!(count(&mut balancer), 0);
    assert_eq!(balancer.published().hosts[&HOST], HostState::Draining);
    for (deadline, share) in [(Some(60), Some(25)), (None, Some(0)), (None, Some(100))] {
        let hosts = vec![name(HOST + 1)];
        refusal(&mut balancer, &DrainRequest { deadline, share, hosts, ..DrainRequest::default() });
    }
}
