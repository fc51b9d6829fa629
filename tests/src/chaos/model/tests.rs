use super::super::action::Order;
use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn broken(begun: u64, at: u64, host: Option<Host>) -> Event {
    Event::Broken { begun: s(begun), at: s(at), host, why: "connection reset".into() }
}

fn done(model: &mut Model, at: u64, action: Action) {
    model.note(&action, s(at), s(at), Outcome::Done);
}

fn drain(model: &mut Model, at: u64, host: Host, order: Order) {
    model.note(&Action::Drain { host, order }, s(at), s(at), Outcome::Number(at));
}

#[test]
fn by_itself_nothing_is_excused() {
    let mut model = Model::default();
    let host = Some(0);
    let events = [
        broken(1, 2, host),
        broken(1, 2, None),
        Event::Failed { begun: s(1), at: s(2), why: String::new() },
        Event::Lost { begun: s(1), at: s(2), host },
        Event::Moved { begun: s(1), at: s(2), from: host },
        Event::Error { begun: s(1), at: s(2), host, why: String::new() },
    ];
    for event in &events {
        assert!(model.judge(event).is_err(), "{event:?}");
    }
    assert_eq!(model.judge(&Event::Answered { begun: s(1), at: s(2), host: 0, flow: None }), Ok(()));
    assert!(model.excused.is_empty());
}

#[test]
fn a_host_that_is_stopped_or_cut_off_for_a_moment_breaks_no_connection() {
    let mut model = Model::default();
    done(&mut model, 1, Action::Freeze(0));
    done(&mut model, 3, Action::Thaw(0));
    done(&mut model, 5, Action::Cut(Link::Host(0)));
    done(&mut model, 6, Action::Mend(Link::Host(0)));
    assert!(model.judge(&broken(0, 8, Some(0))).is_err());
    assert!(model.judge(&broken(0, 8, None)).is_err());
    let lost = |at, host| Event::Lost { begun: s(0), at: s(at), host: Some(host) };
    assert!(model.judge(&lost(5, 0)).is_ok());
    assert!(model.judge(&lost(5, 1)).is_err(), "another host's link is up");
    assert!(model.judge(&lost(12, 0)).is_err());
    done(&mut model, 20, Action::Cut(Link::Balancer));
    assert!(model.judge(&lost(20, 1)).is_ok(), "this one is everybody's");
    done(&mut model, 21, Action::Mend(Link::Balancer));
    done(&mut model, 40, Action::Freeze(0));
    model.advance(s(43));
    assert!(model.judge(&broken(39, 43, Some(0))).is_err());
    model.advance(s(46));
    assert!(model.judge(&broken(39, 46, Some(0))).is_ok(), "that is too long");
    assert!(model.judge(&broken(39, 46, Some(1))).is_err());
}

#[test]
fn the_connections_of_a_dead_host_are_lost_and_no_others() {
    let mut model = Model::default();
    done(&mut model, 5, Action::Crash(1));
    assert!(model.judge(&broken(1, 6, Some(1))).is_ok());
    assert!(model.judge(&broken(1, 4, Some(1))).is_err(), "before it died");
    assert!(model.judge(&broken(1, 6, Some(0))).is_err(), "another host's");
    assert!(model.judge(&broken(5, 6, None)).is_ok(), "it may have been at the dead one");
    done(&mut model, 8, Action::Revive(1));
    assert!(model.judge(&broken(1, 20, Some(1))).is_ok(), "noticed late");
    assert!(model.judge(&broken(9, 20, Some(1))).is_err(), "begun after it was back");
}

#[test]
fn a_deadline_ends_the_flows_of_its_host_from_then_on() {
    for (action, is_excused) in
        [(AtDeadline::Reset, true), (AtDeadline::Move, true), (AtDeadline::Keep, false)]
    {
        let mut model = Model::default();
        drain(&mut model, 10, 2, Order { deadline: Some((10, action)), ..Order::default() });
        model.advance(s(15));
        assert!(model.judge(&broken(1, 15, Some(2))).is_err());
        model.advance(s(21));
        assert_eq!(model.judge(&broken(1, 21, Some(2))).is_ok(), is_excused);
        assert!(model.judge(&broken(1, 21, Some(1))).is_err());
        let moved = Event::Moved { begun: s(1), at: s(21), from: Some(2) };
        assert_eq!(model.judge(&moved).is_ok(), is_excused);
    }
}

#[test]
fn a_drain_that_is_taken_back_ends_nothing() {
    let mut model = Model::default();
    let order = Order { deadline: Some((10, AtDeadline::Reset)), ..Order::default() };
    drain(&mut model, 10, 2, order);
    done(&mut model, 12, Action::Undrain { host: 2, ramp: None });
    model.advance(s(30));
    assert!(model.judge(&broken(1, 30, Some(2))).is_err());
    assert_eq!(model.expects(2), Use::In);
}

#[test]
fn a_drained_host_answers_no_new_flow() {
    let mut model = Model::default();
    let answered = |begun, at, host| Event::Answered { begun: s(begun), at: s(at), host, flow: None };
    drain(&mut model, 10, 0, Order::default());
    drain(&mut model, 10, 1, Order { share: Some(50), ..Order::default() });
    assert_eq!((model.expects(0), model.expects(1)), (Use::Out, Use::Either));
    assert!(model.judge(&answered(9, 11, 0)).is_ok(), "begun before");
    assert!(model.judge(&answered(11, 12, 0)).is_err());
    assert!(model.judge(&answered(11, 12, 1)).is_ok(), "a part of it is in use");
    done(&mut model, 20, Action::Undrain { host: 0, ramp: None });
    assert!(model.judge(&answered(15, 19, 0)).is_err());
    assert!(model.judge(&answered(15, 21, 0)).is_ok(), "a SYN that was sent again");
    assert!(model.judge(&answered(21, 22, 0)).is_ok());
}

#[test]
fn a_lease_brings_the_host_back() {
    let mut model = Model::default();
    drain(&mut model, 10, 0, Order { lease: Some(5), ..Order::default() });
    assert_eq!(model.expects(0), Use::Out);
    model.advance(s(14));
    assert_eq!(model.expects(0), Use::Either);
    assert!(model.judge(&Event::Answered { begun: s(11), at: s(12), host: 0, flow: None }).is_err());
    assert!(model.judge(&Event::Answered { begun: s(15), at: s(16), host: 0, flow: None }).is_ok());
}

#[test]
fn a_clock_that_is_set_brings_no_deadline_nearer() {
    let mut model = Model::default();
    drain(&mut model, 10, 0, Order { deadline: Some((10, AtDeadline::Reset)), ..Order::default() });
    done(&mut model, 11, Action::MoveClock(3600));
    done(&mut model, 12, Action::KillDaemon);
    done(&mut model, 13, Action::StartDaemon);
    assert_eq!(model.dated_anew, 1, "that daemon says so");
    model.advance(s(16));
    assert!(model.judge(&broken(1, 16, Some(0))).is_err(), "nor does another daemon's start");
    model.advance(s(17));
    assert!(
        model.judge(&broken(1, 17, Some(0))).is_ok(),
        "of 20, with what each of both daemons may be wrong by"
    );
}

#[test]
fn what_is_ordered_after_a_clock_was_set_is_in_no_more_doubt() {
    let mut model = Model::default();
    for (at, seconds) in [(1, 3600), (4, -600)] {
        done(&mut model, at, Action::MoveClock(seconds));
        done(&mut model, at + 1, Action::KillDaemon);
        done(&mut model, at + 2, Action::StartDaemon);
    }
    drain(&mut model, 10, 0, Order { deadline: Some((10, AtDeadline::Reset)), ..Order::default() });
    model.advance(s(17));
    assert!(model.judge(&broken(1, 17, Some(0))).is_err());
    model.advance(s(18));
    assert!(model.judge(&broken(1, 18, Some(0))).is_ok());
}

#[test]
fn what_nobody_was_told_may_be_either_way() {
    let mut model = Model::default();
    let action = Action::DrainAndKill { host: 0, after: 5 };
    model.note(&action, s(5), s(6), Outcome::Unknown);
    assert_eq!(model.expects(0), Use::Either);
    assert!(model.judge(&Event::Answered { begun: s(7), at: s(8), host: 0, flow: None }).is_ok());
    model.note(&action, s(9), s(10), Outcome::Number(4));
    assert_eq!(model.expects(0), Use::Out);
    assert!(model.judge(&Event::Answered { begun: s(11), at: s(12), host: 0, flow: None }).is_err());
    assert_eq!(model.numbers, [4]);
}

#[test]
fn a_balancer_that_reaches_nobody_says_so_until_a_daemon_knows_better() {
    let mut model = Model::default();
    let refused = |at| Event::Failed { begun: s(at), at: s(at), why: REFUSED.into() };
    done(&mut model, 10, Action::Cut(Link::Balancer));
    done(&mut model, 11, Action::Mend(Link::Balancer));
    assert!(model.judge(&refused(12)).is_ok());
    done(&mut model, 13, Action::KillDaemon);
    assert!(model.judge(&refused(30)).is_ok());
    done(&mut model, 31, Action::StartDaemon);
    assert!(model.judge(&refused(32)).is_ok());
    assert!(model.judge(&refused(40)).is_err());
    done(&mut model, 41, Action::KillDaemon);
    done(&mut model, 42, Action::FloodSyns);
    assert!(model.judge(&refused(43)).is_err(), "it had published long ago");
}

#[test]
fn a_kick_ends_flows_until_its_last() {
    let mut model = Model::default();
    let kick = Action::Kick { host: 3, rate: 10 };
    model.note(&kick, s(10), s(10), Outcome::Number(30));
    assert!(model.judge(&broken(1, 12, Some(3))).is_ok());
    assert!(model.judge(&broken(1, 12, Some(2))).is_err());
    assert!(model.judge(&broken(1, 60, Some(3))).is_err());
}

fn config(model: &mut Model, at: u64, without: Option<Host>, way: Way) {
    let settings = Settings { without, ..Settings::default() };
    done(model, at, Action::Config { settings, way });
}

#[test]
fn a_host_that_the_config_does_not_name_answers_no_new_flow() {
    let mut model = Model::default();
    let answered = |begun, at| Event::Answered { begun: s(begun), at: s(at), host: 1, flow: None };
    config(&mut model, 10, Some(1), Way::Apply);
    assert!(model.judge(&answered(9, 11)).is_ok(), "begun before");
    assert!(model.judge(&answered(11, 12)).is_err());
    assert!(model.judge(&broken(1, 12, Some(1))).is_err(), "its flows go on");
    config(&mut model, 20, None, Way::Signal);
    assert!(model.judge(&answered(21, 22)).is_ok());
    assert_eq!(model.expects(1), Use::In);
}

#[test]
fn a_config_does_not_undo_a_drain() {
    let mut model = Model::default();
    drain(&mut model, 5, 1, Order::default());
    config(&mut model, 10, Some(1), Way::Apply);
    config(&mut model, 20, None, Way::Apply);
    assert_eq!(model.expects(1), Use::Out);
    assert!(model.judge(&Event::Answered { begun: s(21), at: s(22), host: 1, flow: None }).is_err());
}

#[test]
fn a_config_that_nobody_confirms_goes_by_itself() {
    let mut model = Model::default();
    let answered = |begun, at| Event::Answered { begun: s(begun), at: s(at), host: 1, flow: None };
    let without = Some(Settings { without: Some(1), ..Settings::default() });
    config(&mut model, 10, Some(1), Way::Unconfirmed(10));
    assert_eq!(model.expected_settings(), without);
    assert!(model.judge(&answered(11, 12)).is_err());
    done(&mut model, 15, Action::KillDaemon);
    model.advance(s(19));
    assert_eq!(model.expected_settings(), None, "any moment now");
    model.advance(s(60));
    assert_eq!(model.expected_settings(), None, "there is no daemon to do it");
    done(&mut model, 61, Action::StartDaemon);
    model.advance(s(62));
    assert_eq!(model.expected_settings(), Some(Settings::default()));
    assert!(model.judge(&answered(63, 64)).is_ok());
}

#[test]
fn what_goes_by_itself_goes_in_its_time_though_nobody_looked() {
    let mut model = Model::default();
    let answered = |begun, host| Event::Answered { begun: s(begun), at: s(begun), host, flow: None };
    drain(&mut model, 10, 0, Order { lease: Some(20), ..Order::default() });
    config(&mut model, 11, Some(1), Way::Unconfirmed(20));
    // A daemon that takes its time to start does both before it answers.
    model.advance(s(38));
    for host in [0, 1] {
        assert!(model.judge(&answered(26, host)).is_err());
        assert!(model.judge(&answered(37, host)).is_ok());
    }
}

#[test]
fn a_drain_may_join_a_lease_that_runs_out_just_then() {
    let mut model = Model::default();
    drain(&mut model, 10, 0, Order { lease: Some(5), ..Order::default() });
    model.advance(s(14));
    drain(&mut model, 14, 0, Order::default());
    assert_eq!(model.expects(0), Use::Either);
    drain(&mut model, 18, 0, Order::default());
    assert_eq!(model.expects(0), Use::Out);
}

#[test]
fn a_port_that_is_taken_again_meets_the_host_of_its_pin() {
    let mut model = Model::default();
    let flow = |port| Flow { from: ([10, 0, 0, 1], port).into(), port: 7 };
    let answered =
        |begun, port| Event::Answered { begun: s(begun), at: s(begun), host: 1, flow: Some(flow(port)) };
    drain(&mut model, 13, 1, Order::default());
    for (port, host) in [(1001, Some(1)), (1002, None), (1003, Some(2))] {
        assert!(model.judge(&Event::Gone { flow: flow(port), at: s(14), host }).is_ok());
    }
    assert!(model.judge(&answered(15, 1001)).is_ok());
    assert!(model.judge(&answered(15, 1002)).is_ok(), "none had told it its name");
    assert_eq!(model.excused, [((REUSED, String::new(), Excuse::Pinned), 2)].into());
    assert!(model.judge(&answered(15, 1003)).is_err(), "its pin names another host");
    assert!(model.judge(&answered(15, 1004)).is_err(), "nobody had it before");
    assert!(model.judge(&answered(29, 1001)).is_err(), "no pin stays so long");
}
