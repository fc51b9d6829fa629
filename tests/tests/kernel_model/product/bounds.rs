//! Bounds of drains: the data path has the deadline in its words, the same over restarts and reboots; a lease brings hosts back; and
//! what says nothing after the deadline is ended.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{AtDeadline, Control, Deadline, HostId, HostState};
use lb_userspace::api::types::{self, DrainRequest, DrainStatus, Outcome};

use super::balancer::Balancer;
use super::random::{RING, roomy};
use super::setup::{Setup, name};
use crate::client::{Client, Service};

const START: u32 = 5000;
const UNIX: u64 = 1_790_000_000;
const HOST: HostId = 2;
/// Few enough that all of them have room in the table.
const FLOWS: u64 = 3;

fn begin() -> (Balancer, Setup) {
    let (mut balancer, setup) = (roomy(), Setup::new(RING, BTreeMap::new()));
    balancer.begin(&setup, START, UNIX).expect("it starts");
    (balancer, setup)
}

fn request() -> DrainRequest {
    DrainRequest { hosts: vec![name(HOST)], ..DrainRequest::default() }
}

fn drain(balancer: &mut Balancer, request: &DrainRequest) -> DrainStatus {
    balancer.engine().drain(request, "test").expect("it is drained").remove(0)
}

/// The words of the host, of all services; they are all the same.
fn word(balancer: &mut Balancer) -> Control {
    let id = balancer.id(HOST);
    let backends = balancer.plane().published_backends();
    let words: BTreeSet<u64> =
        backends.iter().filter(|((_, host), _)| *host == id).map(|(_, b)| b.record.control).collect();
    assert_eq!(words.len(), 1, "{words:?}");
    Control(*words.first().expect("it serves something"))
}

fn status(balancer: &mut Balancer) -> (types::AdminState, DrainStatus) {
    let hosts = balancer.status().hosts;
    let host = hosts.into_iter().find(|host| host.name == name(HOST)).expect("it is there");
    (host.admin, host.drain.expect("it has a drain"))
}

#[test]
fn a_deadline_is_in_the_control_word_whatever_becomes_of_the_daemon() {
    let (mut balancer, setup) = begin();
    let asked =
        DrainRequest { deadline: Some(600), at_deadline: Some(types::AtDeadline::Reset), ..request() };
    let order = drain(&mut balancer, &asked).order;
    assert_eq!(order.deadline, Some(UNIX + 600));
    let at = |at, action| Control::new(HostState::Draining).with_deadline(Deadline { at, action, spread: 0 });
    assert_eq!(word(&mut balancer), at(START + 600, AtDeadline::Reset));
    balancer.pass(100);
    balancer.engine().round().expect("a round");
    balancer.restart(&setup).expect("it starts again");
    assert_eq!(word(&mut balancer), at(START + 600, AtDeadline::Reset));
    // Another boot has another clock; the Unix time is the same.
    balancer.reboot(&setup, 40, UNIX + 200).expect("it starts again");
    assert_eq!(word(&mut balancer), at(440, AtDeadline::Reset));
    assert_eq!(status(&mut balancer).1.order, order);
    // Amended: later, and by another action.
    let asked = DrainRequest { deadline: Some(900), at_deadline: Some(types::AtDeadline::Move), ..request() };
    drain(&mut balancer, &asked);
    assert_eq!(word(&mut balancer), at(940, AtDeadline::Move));
    balancer.restart(&setup).expect("it starts again");
    assert_eq!(word(&mut balancer), at(940, AtDeadline::Move));
    // A boot after the deadline: it has passed, and is not forgotten.
    balancer.reboot(&setup, 30, UNIX + 5000).expect("it starts again");
    assert_eq!(word(&mut balancer), at(1, AtDeadline::Move));
    balancer.undrain(&[HOST].into()).expect("it is taken back");
    assert_eq!(word(&mut balancer), Control::new(HostState::Up));
}

#[test]
fn a_lease_runs_out_at_its_unix_time() {
    let (mut balancer, setup) = begin();
    drain(&mut balancer, &DrainRequest { lease: Some(60), ..request() });
    balancer.pass(59);
    balancer.engine().round().expect("a round");
    assert_eq!(status(&mut balancer).0, types::AdminState::Draining);
    balancer.reboot(&setup, 7, UNIX + 59).expect("it starts again");
    balancer.engine().round().expect("a round");
    assert_eq!(status(&mut balancer).0, types::AdminState::Draining);
    balancer.pass(1);
    balancer.engine().round().expect("a round");
    let (admin, over) = status(&mut balancer);
    assert_eq!((admin, word(&mut balancer)), (types::AdminState::Active, Control::new(HostState::Up)));
    let receipt = over.receipt.expect("it is over");
    assert_eq!((receipt.outcome, receipt.ended_at), (Outcome::LeaseOver, UNIX + 60));
    let drains = balancer.engine().receipts(&Default::default()).expect("readable").receipts;
    assert_eq!(drains, [receipt]);
}

/// Bounds are seconds of a clock that nobody sets. Of the one that people set it is told that it was.
#[test]
fn a_wall_clock_that_is_set_while_the_daemon_runs_moves_no_bound() {
    let (mut balancer, _) = begin();
    let asked = DrainRequest {
        deadline: Some(50),
        at_deadline: Some(types::AtDeadline::Reset),
        lease: Some(60),
        ..request()
    };
    let order = drain(&mut balancer, &asked).order;
    let asked = word(&mut balancer);
    assert_eq!(asked.deadline().at, START + 50);
    // 600 s may be somebody's who has set it right.
    for (by, told) in
        [(7200, Some("was set forward by 7200 s")), (-3600, Some("was set back by 3600 s")), (600, None)]
    {
        balancer.set_wall(by);
        balancer.pass(10);
        balancer.engine().round().expect("a round");
        assert_eq!((word(&mut balancer), status(&mut balancer).1.order), (asked, order), "{by}");
        let problems = balancer.status().problems;
        let found = problems.iter().find(|problem| problem.contains("the wall clock"));
        assert_eq!(found.is_some(), told.is_some(), "{by}: {problems:?}");
        assert!(found.is_none_or(|found| told.is_some_and(|told| found.contains(told))), "{found:?}");
    }
    balancer.set_wall(7200);
    for (seconds, admin) in [(29, types::AdminState::Draining), (1, types::AdminState::Active)] {
        balancer.pass(seconds);
        balancer.engine().round().expect("a round");
        assert_eq!(status(&mut balancer).0, admin);
    }
    assert_eq!(status(&mut balancer).1.receipt.expect("it is over").ended_at, UNIX + 60);
}

#[test]
fn flows_that_say_nothing_after_the_deadline_are_ended() {
    let (mut balancer, _) = begin();
    let mut begun = 0;
    let mut ports = 1024..;
    while begun < FLOWS {
        let port = ports.next().expect("there are more");
        let client = Client { address: 0x0a20_0000, port, service: Service::Web };
        begun += u64::from(balancer.send(&client.packet().syn(1)) == HOST);
    }
    let asked = DrainRequest { deadline: Some(0), at_deadline: Some(types::AtDeadline::Reset), ..request() };
    assert_eq!(drain(&mut balancer, &asked).flows_at_start, FLOWS);
    for _ in 0..5 {
        balancer.engine().round().expect("a round");
        assert_eq!(status(&mut balancer).1.live_flows.total, FLOWS, "they may speak yet");
        balancer.pass(1);
    }
    for _ in 0..3 {
        balancer.engine().round().expect("a round");
    }
    let (admin, done) = status(&mut balancer);
    let receipt = done.receipt.expect("it is done");
    assert_eq!((admin, receipt.outcome), (types::AdminState::Drained, Outcome::Reset));
    assert_eq!((receipt.silent, receipt.ended, receipt.reset, receipt.left), (FLOWS, 0, 0, 0));
}

#[test]
fn an_order_that_one_host_cannot_have_is_given_to_none() {
    let (mut balancer, _) = begin();
    let before = drain(&mut balancer, &DrainRequest { deadline: Some(600), ..request() });
    let both = |at_deadline| DrainRequest {
        hosts: vec![name(HOST), name(HOST + 1)],
        at_deadline: Some(at_deadline),
        ..DrainRequest::default()
    };
    let refused =
        balancer.engine().drain(&both(types::AtDeadline::Reset), "test").expect_err("it has no deadline");
    assert_eq!((refused.code(), refused.to_string().starts_with("host host-3: ")), ("bad_request", true));
    assert_eq!(status(&mut balancer).1.order, before.order);
    let other = balancer.status().hosts.into_iter().find(|host| host.name == name(HOST + 1));
    assert_eq!(other.expect("it is there").admin, types::AdminState::Active);
    let given =
        balancer.engine().drain(&both(types::AtDeadline::Keep), "test").expect("nothing is wrong with it");
    assert_eq!((given[0].order, given[1].order), (before.order, types::Order::default()));

    let missing = |error: lb_userspace::engine::Error| (error.code(), error.hint().is_some());
    let under_way = balancer.engine().receipt(before.id).expect_err("it is under way");
    assert_eq!(missing(under_way), ("not_found", true));
    let unknown = balancer.engine().receipt(99).expect_err("there is none");
    assert_eq!(missing(unknown), ("not_found", true));
    let query = types::ReceiptQuery { host: Some("host-22".to_owned()), limit: None };
    let nobody = balancer.engine().receipts(&query).expect_err("there is no such host");
    assert_eq!(missing(nobody), ("not_found", true));
}

#[test]
fn a_drained_host_can_have_a_lease_yet() {
    let (mut balancer, setup) = begin();
    drain(&mut balancer, &request());
    for _ in 0..3 {
        balancer.pass(super::setup::T + 1);
        balancer.engine().round().expect("a round");
    }
    assert_eq!(status(&mut balancer).0, types::AdminState::Drained);
    let asked = DrainRequest { lease: Some(60), deadline: Some(600), ..request() };
    let order = drain(&mut balancer, &asked).order;
    assert_eq!(
        (order.lease, order.deadline),
        (Some(balancer.unix() + 60), None),
        "no flow is left to be bounded"
    );
    balancer.restart(&setup).expect("it starts again");
    balancer.pass(59);
    balancer.engine().round().expect("a round");
    assert_eq!(status(&mut balancer).0, types::AdminState::Drained);
    balancer.pass(1);
    balancer.engine().round().expect("a round");
    let (admin, last) = status(&mut balancer);
    let outcome = last.receipt.expect("it was done").outcome;
    assert_eq!((admin, outcome), (types::AdminState::Active, Outcome::Drained));
    assert_eq!(word(&mut balancer), Control::new(HostState::Up));
}
