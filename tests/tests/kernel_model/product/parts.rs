//! Drains of a part of a host: of its slots, or for one of its services. The host stays in use for the rest, and flows in what it gave up go
//! on until they end.

use std::collections::BTreeMap;

use lb_common::layout::{HostId, HostState};
use lb_userspace::api::types::{
    AdminState, DrainRequest, DrainStatus, HostStatus, Outcome, PlanRequest, UndrainRequest,
};

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
    let plan = PlanRequest { hosts: vec![name(HOST)], service: None, clients: None, share: Some(25) };
    let plan = balancer.engine().plan_drain(&plan).expect("it may be drained");
    let begun = drain(&mut balancer, Some(25));
    assert_eq!((plan.share, plan.hosts[0].live_flows), (Some(25), begun.live_flows));
    assert!(plan.hosts[0].kept > 0 && plan.hosts[0].kept < plan.hosts[0].slots, "{plan:?}");
    assert!(plan.rules.is_empty() && plan.survivors.len() > 1, "{plan:?}");
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
    let ramp = UndrainRequest { hosts: vec![name(HOST)], ramp: Some(60), ..UndrainRequest::default() };
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

fn of_web(deadline: Option<u64>) -> DrainRequest {
    let at_deadline = deadline.map(|_| lb_userspace::api::types::AtDeadline::Move);
    DrainRequest { service: Some("web".to_owned()), deadline, at_deadline, ..request(None) }
}

fn undrain_web(balancer: &mut Balancer) -> Vec<DrainStatus> {
    let hosts = vec![name(HOST)];
    let request = UndrainRequest { hosts, service: Some("web".to_owned()), ..UndrainRequest::default() };
    balancer.engine().undrain(&request, "test").expect("it is taken back")
}

/// What status says of the host for the service.
fn of_service(balancer: &mut Balancer) -> Option<DrainStatus> {
    let services = balancer.status().services;
    let web = services.into_iter().find(|service| service.name == "web").expect("it is there");
    web.backends.into_iter().find(|backend| backend.host == name(HOST)).expect("it is there").drain
}

fn states(balancer: &mut Balancer) -> [HostState; 3] {
    Service::ALL.map(|service| balancer.state(service, HOST))
}

fn rings(balancer: &mut Balancer) -> usize {
    balancer.engine().rings().rings.len()
}

#[test]
fn one_service_is_drained_and_the_others_go_on() {
    let (mut balancer, setup) = begin();
    let settled = balancer.slots();
    assert_eq!(rings(&mut balancer), 2, "web and dns share one");
    let before = flows(&mut balancer, 2000..2000 + FLOWS);
    for _ in 0..4 {
        balancer.pass(T / 3);
        speak(&mut balancer, &before, Flags::Ack);
        balancer.engine().round().expect("a round");
    }
    let own = before.iter().filter(|(_, host)| *host == HOST).count() as u64;
    let service = Some("web".to_owned());
    let plan = PlanRequest { hosts: vec![name(HOST)], service, clients: None, share: None };
    let plan = balancer.engine().plan_drain(&plan).expect("it may be drained");
    let moves: u32 = plan.hosts[0].moves.values().sum();
    let owned = settled[&Service::Web].iter().filter(|slot| slot.owner() == HOST).count();
    assert_eq!((plan.hosts[0].slots, moves, plan.hosts[0].kept), (owned as u32, owned as u32, 0));
    assert_eq!((plan.hosts[0].live_flows.total, plan.survivors.len()), (own, 4));
    let begun = balancer.engine().drain(&of_web(None), "test").expect("it is drained").remove(0);
    assert_eq!((begun.service.as_deref(), begun.flows_at_start), (Some("web"), own));
    let up = HostState::Up;
    assert_eq!(states(&mut balancer), [HostState::Draining, up, up]);
    let slots = balancer.slots();
    for service in [Service::Dns, Service::Api] {
        assert_eq!(slots[&service], settled[&service], "not a slot moves");
    }
    let moved = settled[&Service::Web].iter().zip(&slots[&Service::Web]);
    assert!(moved.clone().all(|(before, after)| before == after || before.owner() == HOST));
    assert!(slots[&Service::Web].iter().all(|slot| slot.owner() != HOST));
    assert_eq!(rings(&mut balancer), 3);
    assert!(flows(&mut balancer, 4000..4100).iter().all(|(_, host)| *host != HOST));

    for round in 0..6 {
        balancer.pass(T / 3);
        speak(&mut balancer, &before, Flags::Ack);
        match round {
            2 => balancer.restart(&setup).expect("it starts again"),
            _ => balancer.engine().round().expect("a round"),
        }
        assert_eq!(states(&mut balancer), [HostState::Draining, up, up]);
        assert_eq!(of_service(&mut balancer).expect("it has one").live_flows.total, own);
    }
    assert_eq!(status(&mut balancer).admin, AdminState::Active);
    for (client, _) in before.iter().filter(|(_, host)| *host == HOST) {
        balancer.send(&client.segment(Flags::FinAck, 3, false).0);
    }
    let mut rounds = 0;
    while of_service(&mut balancer).is_none_or(|drain| drain.state != "drained") {
        balancer.pass(1);
        balancer.engine().round().expect("a round");
        rounds += 1;
        assert!(rounds < 2 * T, "{:?}", of_service(&mut balancer));
    }
    let receipt = of_service(&mut balancer).and_then(|drain| drain.receipt).expect("it is done");
    assert_eq!((receipt.service.as_deref(), receipt.outcome), (Some("web"), Outcome::Drained));
    assert_eq!((receipt.flows_at_start, receipt.ended, receipt.new_flows), (own, own, 0));
    assert_eq!(states(&mut balancer), [HostState::Drained, up, up]);
    balancer.restart(&setup).expect("it starts again");
    assert_eq!(states(&mut balancer), [HostState::Drained, up, up]);

    let back = undrain_web(&mut balancer);
    assert_eq!(back[0].state, "drained", "it had been done");
    assert_eq!(states(&mut balancer), [up; 3]);
    let owners = |slots: &BTreeMap<Service, Vec<lb_common::layout::Slot>>| -> Vec<HostId> {
        slots.values().flatten().map(|slot| slot.owner()).collect()
    };
    assert_eq!(owners(&balancer.slots()), owners(&settled));
    // When its handovers are over, it shares a ring again.
    for _ in 0..4 {
        balancer.pass(T + 1);
        balancer.engine().round().expect("a round");
    }
    assert_eq!(rings(&mut balancer), 2);
    assert_eq!(balancer.slots(), settled);
    assert_eq!(balancer.status().violations, BTreeMap::new());
}

#[test]
fn a_service_has_a_deadline_of_its_own_and_gives_way_to_the_whole_host() {
    let (mut balancer, setup) = begin();
    let before = flows(&mut balancer, 2000..2000 + FLOWS);
    let dns = Client { address: 0x0a20_0000, port: 999, service: Service::Dns };
    balancer.send(&dns.packet());
    balancer.engine().drain(&of_web(Some(10)), "test").expect("it is drained");
    speak(&mut balancer, &before, Flags::Ack);
    balancer.pass(11);
    let own: Vec<_> = before.iter().filter(|(_, host)| *host == HOST).collect();
    let (first, silent) = own.split_first().expect("some");
    assert_ne!(balancer.send(&first.0.segment(Flags::Ack, 3, false).0), HOST, "it is moved");
    for _ in 0..9 {
        balancer.pass(1);
        balancer.engine().round().expect("a round");
    }
    let receipt = of_service(&mut balancer).and_then(|drain| drain.receipt).expect("it is done");
    let ends = (receipt.outcome, receipt.moved, receipt.silent, receipt.left);
    assert_eq!(ends, (Outcome::Moved, 1, silent.len() as u64, 0));
    undrain_web(&mut balancer);

    // The whole host, while one service is under way: that one is taken back for it, in one change.
    let one = balancer.engine().drain(&of_web(None), "test").expect("it is drained").remove(0);
    let refused = refusal(&mut balancer, &request(Some(25)));
    assert!(refused.contains("for some of its services already"), "{refused}");
    let whole = drain(&mut balancer, None);
    assert_eq!((whole.id, whole.service), (one.id + 1, None));
    assert_eq!(states(&mut balancer), [HostState::Draining; 3]);
    let receipt = balancer.engine().receipt(one.id).expect("it is over");
    assert_eq!(receipt.outcome, Outcome::Undrained);
    let refused = refusal(&mut balancer, &of_web(None));
    assert!(refused.contains("as a whole already"), "{refused}");
    balancer.restart(&setup).expect("it starts again");
    assert_eq!(states(&mut balancer), [HostState::Draining; 3]);
    balancer.undrain(&[HOST].into()).expect("it is taken back");
    assert_eq!(states(&mut balancer), [HostState::Up; 3]);

    // An undrain of the host takes its services back, too.
    balancer.engine().drain(&of_web(None), "test").expect("it is drained");
    balancer.undrain(&[HOST].into()).expect("it is taken back");
    assert_eq!(states(&mut balancer), [HostState::Up; 3]);
    // Rules are of the service alone, and names are checked.
    let others = (1..=5).filter(|host| *host != HOST).map(name).collect();
    let rest = DrainRequest { hosts: others, ..of_web(None) };
    balancer.engine().drain(&rest, "test").expect("one is left");
    let last = balancer.engine().drain(&of_web(None), "test").expect_err("none would be left");
    assert_eq!(last.code(), "rule");
    let unknown = DrainRequest { service: Some("webs".to_owned()), ..request(None) };
    let unknown = balancer.engine().drain(&unknown, "test").expect_err("there is none");
    assert_eq!((unknown.code(), unknown.hint().as_deref()), ("not_found", Some("did you mean web?")));
    let stranger = DrainRequest { hosts: vec![name(5)], service: Some("api".to_owned()), ..request(None) };
    assert_eq!(balancer.engine().drain(&stranger, "test").expect_err("it has three").code(), "not_found");
}
