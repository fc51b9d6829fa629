//! Drains for some clients alone: new flows of theirs go to other hosts, those of all others still come, and what lives goes on.

use lb_common::layout::HostId;
use lb_userspace::api::types::{
    AtDeadline, DrainRequest, DrainStatus, KickRequest, Outcome, PlanRequest, ShiftRequest, UndrainRequest,
};

use super::balancer::Balancer;
use super::setup::{Setup, T, name};
use crate::client::{Client, Flags, Service};

const START: u32 = 5000;
const UNIX: u64 = 1_790_000_000;
const RING: u32 = 1009;
const HOST: HostId = 2;
const FLOWS: u16 = 240;
/// In 10.32.0.0/16, of which there are drains, and elsewhere.
const INSIDE: u32 = 0x0a20_0000;
const OUTSIDE: u32 = 0x0a40_0000;
const CLIENTS: &str = "10.32.0.0/16";

fn begin() -> (Balancer, Setup) {
    let (mut balancer, setup) = (Balancer::open(RING, 1024, false), Setup::new(RING, Default::default()));
    balancer.begin(&setup, START, UNIX).expect("it starts");
    (balancer, setup)
}

fn request(clients: &str, service: Option<&str>) -> DrainRequest {
    DrainRequest {
        hosts: vec![name(HOST)],
        clients: Some(clients.to_owned()),
        service: service.map(str::to_owned),
        ..DrainRequest::default()
    }
}

fn drain(balancer: &mut Balancer, request: &DrainRequest) -> DrainStatus {
    balancer.engine().drain(request, "test").expect("it is drained").remove(0)
}

fn undrain(balancer: &mut Balancer, clients: &str) -> Vec<DrainStatus> {
    let (hosts, clients) = (vec![name(HOST)], Some(clients.to_owned()));
    let request = UndrainRequest { hosts, clients, ..UndrainRequest::default() };
    balancer.engine().undrain(&request, "test").expect("it is taken back")
}

fn refusal(balancer: &mut Balancer, request: &DrainRequest) -> String {
    let refused = balancer.engine().drain(request, "test").expect_err("it is refused");
    assert!(refused.hint().is_some(), "{refused}");
    refused.to_string()
}

/// Flows of a service that begin, and where they went.
fn flows(
    balancer: &mut Balancer,
    address: u32,
    service: Service,
    ports: std::ops::Range<u16>,
) -> Vec<(Client, HostId)> {
    let begin = |port: u16| {
        let client = Client { address: address + u32::from(port % 7), port, service };
        if service.is_udp() {
            return (client, balancer.send(&client.packet().payload(b"?")));
        }
        let to = balancer.send(&client.segment(Flags::Syn, 1, false).0);
        assert_eq!(balancer.send(&client.segment(Flags::Ack, 2, false).0), to);
        (client, to)
    };
    ports.map(begin).collect()
}

fn speak(balancer: &mut Balancer, flows: &[(Client, HostId)], flags: Flags) {
    for (client, host) in flows {
        let packet = if client.service.is_udp() {
            client.packet().payload(b"?")
        } else {
            client.segment(flags, 3, false).0
        };
        assert_eq!(balancer.send(&packet), *host, "{client:?}");
    }
}

fn own(flows: &[(Client, HostId)]) -> Vec<(Client, HostId)> {
    flows.iter().filter(|(_, host)| *host == HOST).copied().collect()
}

fn status(balancer: &mut Balancer, clients: &str) -> DrainStatus {
    let all = balancer.engine().drain_statuses(&[name(HOST)], None, Some(clients), None);
    all.expect("it can be asked for").into_iter().next().expect("there is one")
}

fn rings(balancer: &mut Balancer) -> usize {
    balancer.engine().rings().rings.len()
}

fn rounds(balancer: &mut Balancer, count: u32) {
    for _ in 0..count {
        balancer.pass(1);
        balancer.engine().round().expect("a round");
    }
}

#[test]
fn some_clients_go_elsewhere_and_all_others_still_come() {
    let (mut balancer, setup) = begin();
    let settled = balancer.slots();
    let mut before = flows(&mut balancer, INSIDE, Service::Web, 2000..2000 + FLOWS);
    before.extend(flows(&mut balancer, INSIDE, Service::Dns, 2000..2040));
    let others = flows(&mut balancer, OUTSIDE, Service::Web, 2000..2000 + FLOWS);
    for _ in 0..4 {
        balancer.pass(T / 3);
        speak(&mut balancer, &before, Flags::Ack);
        speak(&mut balancer, &others, Flags::Ack);
        balancer.engine().round().expect("a round");
    }
    let mine = own(&before);
    let plan = PlanRequest {
        hosts: vec![name(HOST)],
        clients: Some(CLIENTS.to_owned()),
        service: None,
        share: None,
    };
    let plan = balancer.engine().plan_drain(&plan).expect("it may be drained");
    assert_eq!(plan.hosts[0].live_flows.total, mine.len() as u64);
    assert!(plan.hosts[0].kept == 0 && plan.rules.is_empty() && plan.survivors.len() == 4, "{plan:?}");
    let begun = drain(&mut balancer, &request(CLIENTS, None));
    assert_eq!(begun.clients.map(|clients| clients.to_string()).as_deref(), Some(CLIENTS));
    assert_eq!((begun.flows_at_start, begun.live_flows.total), (mine.len() as u64, mine.len() as u64));
    assert_eq!(balancer.slots(), settled, "the rings of all others stay");
    assert_eq!(balancer.apart(), (Service::ALL.into(), 3));
    assert_eq!(rings(&mut balancer), 4, "services that shared a ring share that of the clients, too");

    // New flows: C2 for those inside, nothing changed for those outside.
    for service in Service::ALL {
        let new = flows(&mut balancer, INSIDE, service, 4000..4100);
        assert!(own(&new).is_empty(), "{service:?}");
        for (client, host) in flows(&mut balancer, OUTSIDE, service, 4000..4100) {
            assert_eq!(settled[&service][setup.slot_of(&client) as usize].owner(), host);
        }
        before.extend(new);
    }
    // What lives stays, over restarts and a lost table, too.
    for round in 0..6 {
        balancer.pass(T / 3);
        if round == 4 {
            let now = u64::from(START) + u64::from(T) * 4;
            crate::table::lose(&mut balancer.plane().maps, now);
            // What C3 promises: TCP flows from before the handover.
            before.retain(|(client, _)| client.service == Service::Web && client.port < 4000);
        }
        speak(&mut balancer, &before, Flags::Ack);
        speak(&mut balancer, &others, Flags::Ack);
        match round {
            1 | 3 => balancer.restart(&setup).expect("it starts again"),
            _ => balancer.engine().round().expect("a round"),
        }
        assert_eq!(status(&mut balancer, CLIENTS).state, "draining");
        assert_eq!(status(&mut balancer, CLIENTS).live_flows.total, own(&before).len() as u64, "{round}");
    }
    speak(&mut balancer, &own(&before), Flags::FinAck);
    for _ in 0..4 * T {
        rounds(&mut balancer, 1);
        if balancer.unix() % 10 == 0 {
            speak(&mut balancer, &others, Flags::Ack);
        }
    }
    let done = status(&mut balancer, CLIENTS);
    let receipt = done.receipt.expect("it is done");
    assert_eq!((done.state.as_str(), receipt.outcome, receipt.left), ("drained", Outcome::Drained, 0));
    assert_eq!((receipt.new_flows, receipt.misrouted, receipt.moved, receipt.reset), (0, 0, 0, 0));
    assert!(receipt.packets > 0 && receipt.ended >= mine.len() as u64, "{receipt:?}");
    balancer.restart(&setup).expect("it starts again");
    assert!(own(&flows(&mut balancer, INSIDE, Service::Web, 5000..5100)).is_empty());
    speak(&mut balancer, &others, Flags::Ack);

    // Back: the very slots, and in the end the very rings.
    undrain(&mut balancer, CLIENTS);
    let back = flows(&mut balancer, INSIDE, Service::Web, 6000..6100);
    for (client, host) in &back {
        assert_eq!(settled[&Service::Web][setup.slot_of(client) as usize].owner(), *host);
    }
    for _ in 0..4 {
        balancer.pass(T + 1);
        balancer.engine().round().expect("a round");
    }
    assert_eq!((balancer.apart(), rings(&mut balancer)), ((Default::default(), 0), 2));
    assert_eq!(balancer.slots(), settled);
    assert_eq!(balancer.status().violations, Default::default());
}

#[test]
fn a_deadline_ends_the_flows_of_these_clients_alone() {
    for (action, is_reset) in [(AtDeadline::Move, false), (AtDeadline::Reset, true)] {
        let (mut balancer, setup) = begin();
        let before = own(&flows(&mut balancer, INSIDE, Service::Web, 2000..2000 + FLOWS));
        let others = flows(&mut balancer, OUTSIDE, Service::Web, 2000..2000 + FLOWS);
        let other_service = flows(&mut balancer, INSIDE, Service::Api, 2000..2100);
        let order =
            DrainRequest { deadline: Some(10), at_deadline: Some(action), ..request(CLIENTS, Some("web")) };
        drain(&mut balancer, &order);
        speak(&mut balancer, &before, Flags::Ack);
        // The data path keeps it, also if the daemon is dead.
        balancer.restart(&setup).expect("it starts again");
        balancer.pass(11);
        let (first, silent) = before.split_at(3);
        for (client, _) in first {
            assert_ne!(balancer.send(&client.segment(Flags::Ack, 3, false).0), HOST, "it is ended");
        }
        speak(&mut balancer, &others, Flags::Ack);
        speak(&mut balancer, &other_service, Flags::Ack);
        rounds(&mut balancer, 9);
        let receipt = status(&mut balancer, CLIENTS).receipt.expect("it is done");
        let outcome = if is_reset { Outcome::Reset } else { Outcome::Moved };
        let ends = (receipt.outcome, receipt.moved + receipt.reset, receipt.silent, receipt.left);
        assert_eq!(ends, (outcome, 3, silent.len() as u64, 0), "{receipt:?}");
        assert_eq!((receipt.reset > 0, receipt.flows_at_start), (is_reset, before.len() as u64));
        assert_eq!((receipt.service.as_deref(), receipt.ended), (Some("web"), 0), "{receipt:?}");
        speak(&mut balancer, &others, Flags::Ack);
        speak(&mut balancer, &other_service, Flags::Ack);
        assert_eq!(balancer.status().violations, Default::default());
    }
}

#[test]
fn prefixes_within_prefixes_add_up() {
    let (mut balancer, _) = begin();
    let before = flows(&mut balancer, INSIDE, Service::Web, 2000..2000 + FLOWS);
    drain(&mut balancer, &request(CLIENTS, None));
    let narrow = DrainRequest { hosts: vec![name(1)], ..request("10.32.0.0/29", Some("web")) };
    drain(&mut balancer, &narrow);
    speak(&mut balancer, &before, Flags::Ack);
    // All of these are in both.
    let new = flows(&mut balancer, INSIDE, Service::Web, 3000..3200);
    assert!(new.iter().all(|(_, host)| *host != HOST && *host != 1), "{new:?}");
    let wide = flows(&mut balancer, INSIDE + 0x100, Service::Web, 3000..3200);
    assert!(own(&wide).is_empty() && wide.iter().any(|(_, host)| *host == 1));
    // A wider one that comes later holds for those within, too.
    let wider = DrainRequest { hosts: vec![name(3)], ..request("10.0.0.0/8", None) };
    drain(&mut balancer, &wider);
    let new = flows(&mut balancer, INSIDE, Service::Web, 4000..4200);
    assert!(new.iter().all(|(_, host)| ![1, HOST, 3].contains(host)), "{new:?}");
    let elsewhere = flows(&mut balancer, OUTSIDE, Service::Web, 4000..4200);
    assert!(elsewhere.iter().all(|(_, host)| *host != 3) && !own(&elsewhere).is_empty());
    speak(&mut balancer, &before, Flags::Ack);
    speak(&mut balancer, &wide, Flags::Ack);
    // The wide one is taken back; the others stay.
    undrain(&mut balancer, CLIENTS);
    let new = flows(&mut balancer, INSIDE, Service::Web, 5000..5200);
    assert!(new.iter().all(|(_, host)| ![1, 3].contains(host)) && !own(&new).is_empty());
    let new = flows(&mut balancer, INSIDE + 0x100, Service::Web, 5000..5200);
    assert!(new.iter().all(|(_, host)| *host != 3) && new.iter().any(|(_, host)| *host == 1));
    speak(&mut balancer, &before, Flags::Ack);
    rounds(&mut balancer, 3);
    // The whole host takes its own place; api would have none, as it has three hosts.
    let api = DrainRequest { hosts: vec![name(1), name(HOST)], ..request("10.64.0.0/16", Some("api")) };
    let refused = balancer.engine().drain(&api, "test").expect_err("none would be left to them");
    assert_eq!(refused.code(), "rule");
    // Nor may the others be drained as a whole, while some clients have only these left.
    let two = DrainRequest { hosts: vec![name(1), name(HOST)], ..DrainRequest::default() };
    let refused = balancer.engine().drain(&two, "test").expect_err("api would have none for some");
    assert_eq!(refused.code(), "rule");
    assert!(
        refused.to_string().contains("without a host") && refused.to_string().contains(", for clients 10."),
        "{refused}"
    );
    balancer.drain(&[1].into()).expect("it is drained");
    let statuses = balancer.engine().drain_statuses(&[name(1)], None, None, None).expect("they are there");
    let states: Vec<_> =
        statuses.iter().map(|drain| (drain.clients.is_some(), drain.state.as_str())).collect();
    assert_eq!(states, [(false, "draining"), (true, "undrained")]);
    speak(&mut balancer, &before, Flags::Ack);
    assert_eq!(balancer.status().violations, Default::default());
}

#[test]
fn what_cannot_be_told_apart_is_refused() {
    let (mut balancer, _) = begin();
    drain(&mut balancer, &request(CLIENTS, None));
    for (other, what) in [
        (request("10.32.0.0/24", None), "for some of these clients already"),
        (request("10.0.0.0/8", Some("web")), "for some of these clients already"),
        (
            DrainRequest { clients: None, ..request(CLIENTS, Some("web")) },
            "for some of these clients already",
        ),
        (
            DrainRequest { clients: None, share: Some(25), ..request(CLIENTS, None) },
            "for some of its services",
        ),
        (DrainRequest { share: Some(25), ..request("10.1.0.0/16", None) }, "for all services and clients"),
        (request("10.1.0.0/33", None), "neither an address nor a prefix"),
        (request("::/0", None), "IPv4 addresses in it"),
    ] {
        let refused = refusal(&mut balancer, &other);
        assert!(refused.contains(what), "{refused}");
    }
    // Others may be drained for as well, up to a bound.
    drain(&mut balancer, &request("2001:db8::/32", None));
    let four = |number: u16| DrainRequest {
        hosts: [1, HOST, 3, 4].map(name).to_vec(),
        ..request(&format!("10.{number}.0.0/16"), Some("web"))
    };
    for number in 100..115 {
        balancer.engine().drain(&four(number), "test").expect("they are drained");
    }
    let refused = refusal(&mut balancer, &four(115));
    assert!(refused.contains("64 drains for some clients"), "{refused}");
    // Clients whose hosts have been out, each set of hosts another one, go by rings of their own until the handovers are over.
    let back_and_forth = |balancer: &mut Balancer, clients: &str, host: HostId| {
        let one = DrainRequest { hosts: vec![name(host)], ..request(clients, Some("web")) };
        balancer.engine().drain(&one, "test")?;
        let DrainRequest { hosts, clients, service, .. } = one;
        let back = UndrainRequest { hosts, clients, service, ..UndrainRequest::default() };
        balancer.engine().undrain(&back, "test").map(drop)
    };
    let mut sets = (1u8..32)
        .flat_map(|set| (1..=5).filter(move |host| set >> (host - 1) & 1 == 1).map(move |host| (set, host)));
    let refused = sets.find_map(|(set, host)| {
        back_and_forth(&mut balancer, &format!("10.{}.0.0/16", 120 + set), host).err()
    });
    let refused = refused.expect("there are fewer rings");
    assert!(refused.to_string().contains("as many rings"), "{refused}");
    // A shift that could never be in force does not begin.
    let shift = ShiftRequest {
        service: "web".to_owned(),
        from: [1, HOST].map(name).to_vec(),
        to: [3, 4, 5].map(name).to_vec(),
        steps: vec!["10%".to_owned()],
        every: 60,
        ..ShiftRequest::default()
    };
    let refused = balancer.engine().start_shift(&shift, "test").expect_err("there is no ring for it");
    assert!(refused.to_string().contains("a shift of web would need one more"), "{refused}");
    assert!(balancer.engine().shift_reports().expect("shifts").shifts.is_empty());
    let hosts = vec![name(HOST)];
    let all = UndrainRequest { hosts: hosts.clone(), ..UndrainRequest::default() };
    balancer.engine().undrain(&all, "test").expect("all are taken back");
    let none = UndrainRequest { hosts, clients: Some("10.99.0.0/16".to_owned()), ..all };
    assert_eq!(balancer.engine().undrain(&none, "test").expect_err("there is none").code(), "not_found");
    // Rings are free again when the handovers are over.
    for _ in 0..3 {
        balancer.pass(T + 1);
        balancer.engine().round().expect("a round");
    }
    drain(&mut balancer, &request("10.99.0.0/16", Some("api")));
}

#[test]
fn a_kick_and_a_lease_count_for_the_drain_that_they_concern() {
    let (mut balancer, _) = begin();
    let before = own(&flows(&mut balancer, INSIDE, Service::Web, 2000..2000 + FLOWS));
    let others = own(&flows(&mut balancer, OUTSIDE, Service::Web, 2000..2000 + FLOWS));
    drain(&mut balancer, &DrainRequest { lease: Some(20), ..request(CLIENTS, Some("web")) });
    let kick = KickRequest {
        host: name(HOST),
        clients: Some("10.32.0.3".to_owned()),
        rate: Some(10_000),
        ..KickRequest::default()
    };
    let kicked = balancer.engine().kick(&kick, "test").expect("they are ended").chosen;
    let meant = before.iter().filter(|(client, _)| client.address == INSIDE + 3).count() as u64;
    assert_eq!(kicked, meant);
    for _ in 0..10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        rounds(&mut balancer, 1);
    }
    let left = before.len() as u64 - meant;
    assert_eq!(status(&mut balancer, CLIENTS).live_flows.total, left);
    speak(&mut balancer, &others, Flags::Ack);
    rounds(&mut balancer, 11);
    let over = status(&mut balancer, CLIENTS);
    let receipt = over.receipt.expect("it is over");
    assert_eq!((receipt.outcome, receipt.kicked, receipt.left), (Outcome::LeaseOver, meant, left));
    assert!(!own(&flows(&mut balancer, INSIDE, Service::Web, 4000..4100)).is_empty());
}
