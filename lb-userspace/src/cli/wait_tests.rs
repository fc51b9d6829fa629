use super::*;
use crate::api::types::AtDeadline;
use crate::cli::render::fixtures::{NOW, draining, ended};

fn drains(drains: &[DrainStatus]) -> Drains {
    Drains { drains: drains.to_vec() }
}

fn secs(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

fn waiter(progress: Progress, timeout: Option<u64>, began: &[DrainStatus]) -> Waiter {
    let style = Style { control: progress == Progress::Live, height: 24, ..Style::PLAIN };
    Waiter::new(&drains(began), progress, style, timeout.map(Duration::from_secs), "sluice".to_owned())
}

fn goes_on(step: Step) -> String {
    match step {
        Step::Wait(text) => text,
        Step::End(text, result) => panic!("ended: {text:?} {result:?}"),
    }
}

fn ends(step: Step) -> (Exit, String) {
    match step {
        Step::Wait(text) => panic!("goes on: {text:?}"),
        Step::End(_, Ok(())) => (Exit::Done, String::new()),
        Step::End(_, Err(failure)) => (failure.exit, failure.render(Style::PLAIN)),
    }
}

#[test]
fn done_at_once() {
    let done = [ended(7, "a", Outcome::Drained, 0)];
    let mut w = waiter(Progress::Plain, Some(0), &done);
    assert_eq!(ends(w.step(Event::Answer(drains(&done)), secs(0.0))).0, Exit::Done);
}

#[test]
fn drained_with_a_flow_left_is_not_done() {
    let odd = [ended(7, "a", Outcome::Drained, 1)];
    let mut w = waiter(Progress::Plain, None, &odd);
    goes_on(w.step(Event::Answer(drains(&odd)), secs(0.0)));
    assert_eq!(
        ends(w.step(Event::Answer(drains(&[ended(7, "a", Outcome::Drained, 0)])), secs(1.0))).0,
        Exit::Done
    );
}

#[test]
fn draining_without_flows_is_not_done() {
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 5)]);
    goes_on(w.step(Event::Answer(drains(&[draining(7, "a", 0)])), secs(1.0)));
}

#[test]
fn all_hosts_must_be_done() {
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 5), draining(8, "b", 5)]);
    // The order of an answer does not matter.
    let half = drains(&[ended(8, "b", Outcome::Drained, 0), draining(7, "a", 2)]);
    goes_on(w.step(Event::Answer(half), secs(1.0)));
    let all = drains(&[ended(8, "b", Outcome::Drained, 0), ended(7, "a", Outcome::Drained, 0)]);
    assert_eq!(ends(w.step(Event::Answer(all), secs(1.0))).0, Exit::Done);
    assert_eq!(w.last().drains[0].host, "a");
}

#[test]
fn plain_lines_come_on_change_and_at_most_every_two_seconds() {
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 120), draining(8, "b", 120)]);
    let mut at = |a: u64, b: u64, s: f64| {
        goes_on(w.step(Event::Answer(drains(&[draining(7, "a", a), draining(8, "b", b)])), secs(s)))
    };
    assert_eq!(at(120, 120, 0.0), "");
    assert_eq!(at(110, 120, 0.5), "", "too soon");
    assert_eq!(
        at(105, 120, 2.0),
        "2s: a: draining, 105 of 120 flows live (84 established, 21 closing), waiting for 105 live flows\n"
    );
    assert_eq!(at(104, 120, 3.9), "", "too soon after the last");
    let both = at(104, 10, 4.1);
    assert!(
        both.starts_with("4s: a: draining, 104 of") && both.contains("\n4s: b: draining, 10 of"),
        "{both}"
    );
    assert_eq!(at(104, 10, 60.0), "", "nothing changed");
}

#[test]
fn the_timeout_ends_the_waiting_only() {
    let mut w = waiter(Progress::Plain, Some(300), &[draining(7, "a", 120), draining(8, "b", 9)]);
    let answer = drains(&[draining(7, "a", 37), ended(8, "b", Outcome::Drained, 0)]);
    goes_on(w.step(Event::Answer(answer.clone()), secs(299.9)));
    let (exit, words) = ends(w.step(Event::Answer(answer), secs(300.0)));
    assert_eq!(exit, Exit::Deadline);
    assert_eq!(
        words,
        "\
error: not done after 5m00s: a (37 of 120 flows live, waiting for 37 live flows); the drain goes on
hint: wait on with `sluice drain a --wait`
hint: take it back with `sluice undrain a`
"
    );
}

#[test]
fn an_answer_at_the_deadline_that_says_done_is_done() {
    let mut w = waiter(Progress::Plain, Some(5), &[draining(7, "a", 1)]);
    assert_eq!(
        ends(w.step(Event::Answer(drains(&[ended(7, "a", Outcome::Drained, 0)])), secs(5.2))).0,
        Exit::Done
    );
}

#[test]
fn a_deadline_without_an_answer_goes_by_the_last_one() {
    let mut w = waiter(Progress::Plain, Some(5), &[draining(7, "a", 1)]);
    assert_eq!(ends(w.step(Event::Deadline, secs(6.0))).0, Exit::Deadline);
    let mut w = waiter(Progress::Plain, Some(5), &[draining(7, "a", 1)]);
    goes_on(w.step(Event::Unreachable("no socket".to_owned()), secs(4.0)));
    let (exit, words) = ends(w.step(Event::Deadline, secs(5.5)));
    assert_eq!(exit, Exit::Unreachable, "{words}");
}

#[test]
fn ctrl_c_says_that_the_drain_goes_on() {
    let mut w = waiter(Progress::Live, None, &[draining(7, "a", 37), draining(8, "b", 1)]);
    let (exit, words) = ends(w.step(Event::Interrupted, secs(3.0)));
    assert_eq!(exit, Exit::Interrupted);
    assert!(words.starts_with("error: interrupted while waiting for a (37 of 120"), "{words}");
    assert!(words.contains("; the drains go on\n"), "{words}");
    assert!(words.contains("`sluice undrain a b`"), "{words}");
}

#[test]
fn a_drain_taken_back_is_said() {
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 37), draining(8, "b", 1)]);
    let answer = drains(&[ended(7, "a", Outcome::Undrained, 30), draining(8, "b", 1)]);
    let (exit, words) = ends(w.step(Event::Answer(answer), secs(3.0)));
    assert_eq!(exit, Exit::TakenBack);
    assert!(
        words.starts_with(
            "error: drain 7 of a was taken back with 30 flows left; the drain of b is not touched by that\n"
        ),
        "{words}"
    );
}

#[test]
fn a_new_drain_of_the_same_host_is_not_ours() {
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 37)]);
    let (exit, words) = ends(w.step(Event::Answer(drains(&[ended(9, "a", Outcome::Drained, 0)])), secs(3.0)));
    assert_eq!(exit, Exit::TakenBack);
    assert!(words.contains("drain 7 of a was taken back; drain 9 by alice has begun since"), "{words}");
}

#[test]
fn a_host_missing_from_the_answer_fails() {
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 37)]);
    assert_eq!(ends(w.step(Event::Answer(drains(&[])), secs(3.0))).0, Exit::Failed);
}

#[test]
fn a_restart_is_noted_once_and_waited_for() {
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 120)]);
    let gone = || Event::Unreachable("cannot reach the daemon".to_owned());
    assert_eq!(goes_on(w.step(gone(), secs(10.0))), "10s: cannot reach the daemon; trying again for 30s\n");
    assert_eq!(goes_on(w.step(gone(), secs(39.9))), "");
    assert_eq!(
        goes_on(w.step(Event::Answer(drains(&[draining(7, "a", 120)])), secs(39.95))),
        "39s: the daemon answers again after 29s\n"
    );
    // The patience begins anew.
    goes_on(w.step(gone(), secs(60.0)));
    let (exit, words) = ends(w.step(gone(), secs(90.0)));
    assert_eq!(exit, Exit::Unreachable);
    assert!(
        words.starts_with("error: no daemon has answered for 30s; the drain goes on without it"),
        "{words}"
    );
    assert!(words.contains("caused by: cannot reach the daemon\n"), "{words}");
}

#[test]
fn live_lines_are_redrawn_in_place() {
    let mut w = waiter(Progress::Live, None, &[draining(7, "a", 120), draining(8, "bb", 60)]);
    let answer = || Event::Answer(drains(&[draining(7, "a", 120), draining(8, "bb", 60)]));
    let first = goes_on(w.step(answer(), secs(0.0)));
    assert!(first.starts_with("a  [....................] 120 of 120 live  0s"), "{first:?}");
    assert_eq!(first.matches("\x1b[K\n").count(), 2, "{first:?}");
    let second = goes_on(w.step(answer(), secs(0.25)));
    assert!(second.starts_with("\x1b[2A\ra  ["), "{second:?}");
    let away = goes_on(w.step(Event::Unreachable("gone".to_owned()), secs(1.0)));
    assert!(away.contains("gone; trying again, 0s of 30s\x1b[K\n"), "{away:?}");
    let back = goes_on(w.step(answer(), secs(2.0)));
    assert!(back.starts_with("\x1b[3A\r") && back.ends_with("\x1b[J"), "{back:?}");
}

#[test]
fn a_fleet_does_not_scroll() {
    let fleet: Vec<_> = (0..100).map(|i| draining(i, &format!("h{i}"), 5)).collect();
    let mut w = waiter(Progress::Live, None, &fleet);
    let block = goes_on(w.step(Event::Answer(drains(&fleet)), secs(0.0)));
    assert_eq!(block.lines().count(), 16);
    assert!(block.ends_with("... and 85 more, 0 of 100 hosts drained\x1b[K\n"), "{block:?}");
}

#[test]
fn json_is_quiet() {
    let mut w = waiter(Progress::Quiet, None, &[draining(7, "a", 120)]);
    assert_eq!(goes_on(w.step(Event::Answer(drains(&[draining(7, "a", 1)])), secs(9.0))), "");
    assert_eq!(goes_on(w.step(Event::Unreachable("gone".to_owned()), secs(10.0))), "");
}

#[test]
fn flows_that_the_deadline_ended_are_told_by_the_exit_code() {
    let mut reset = ended(7, "a", Outcome::Reset, 0);
    let receipt = reset.receipt.as_mut().unwrap();
    (receipt.ended, receipt.reset, receipt.silent) = (100, 18, 2);
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 20), draining(8, "b", 1)]);
    goes_on(w.step(Event::Answer(drains(&[reset.clone(), draining(8, "b", 1)])), secs(1.0)));
    let (exit, words) =
        ends(w.step(Event::Answer(drains(&[reset, ended(8, "b", Outcome::Drained, 0)])), secs(2.0)));
    assert_eq!(exit, Exit::FlowsEnded);
    assert_eq!(
        words,
        "error: drained, but not all flows ended by themselves: a: 18 reset, 2 silent after the deadline, and ended\n"
    );
}

#[test]
fn waiting_ends_where_a_deadline_keeps_flows() {
    let overdue = |id, host: &str| {
        let mut drain = draining(id, host, 3);
        (drain.order.deadline, drain.order.at_deadline) = (Some(NOW), AtDeadline::Keep);
        drain.overdue_since = Some(NOW);
        drain
    };
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 5), draining(8, "b", 5)]);
    goes_on(w.step(Event::Answer(drains(&[overdue(7, "a"), draining(8, "b", 5)])), secs(1.0)));
    let (exit, words) = ends(w.step(Event::Answer(drains(&[overdue(7, "a"), overdue(8, "b")])), secs(2.0)));
    assert_eq!(exit, Exit::Deadline);
    assert!(words.starts_with("error: the deadline has passed: a (3 of 120 flows live"), "{words}");
    assert!(words.contains("; the drains go on\n"), "{words}");
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 5), draining(8, "b", 5)]);
    let one_done = drains(&[ended(7, "a", Outcome::Drained, 0), overdue(8, "b")]);
    assert_eq!(ends(w.step(Event::Answer(one_done), secs(1.0))).0, Exit::Deadline);
}

#[test]
fn a_lease_that_runs_out_is_no_undrain() {
    let mut w = waiter(Progress::Plain, None, &[draining(7, "a", 37)]);
    let (exit, words) =
        ends(w.step(Event::Answer(drains(&[ended(7, "a", Outcome::LeaseOver, 30)])), secs(3.0)));
    assert_eq!(exit, Exit::LeaseOver);
    assert!(
        words.starts_with("error: drain 7 of a came to the end of its lease with 30 flows left\n"),
        "{words}"
    );
}
