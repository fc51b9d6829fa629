use super::super::state::Course;
use super::super::*;
use super::world::*;
use crate::api::types::{AtDeadline, HostStep, OnFailure, RunState};

use HostStep::{Done, Draining, Failed, Proving, Returned, Untouched, Waiting, Watching, Working};

#[test]
fn hosts_are_done_one_after_the_other() {
    let (mut sim, mut run) = (Sim::new(3), run(plan(3)));
    sim.second(&mut run);
    assert_eq!(steps(&run), [Draining, Waiting, Waiting]);
    sim.finish(&mut run);
    assert_eq!((steps(&run), sim.most_out), (vec![Done; 3], 1));
    assert_eq!(report(&run, sim.now).state, RunState::Done);
    let done: Vec<&str> = sim.log.iter().filter(|line| line.contains("h2")).map(String::as_str).collect();
    assert_eq!(done, ["drain h2", "begin run-1.h2.run", "forget run-1.h2.run", "undrain h2"]);
    // Draining 3, working 2, proving 2, the ramp 4, watching 3.
    let host = &run.hosts[1];
    let took: Vec<u64> = host.past.iter().map(|step| step.ended - step.began).collect();
    assert_eq!(took, [3, 2, 2, 4, 3]);
    assert_eq!((host.jobs[0].output.as_str(), &host.drains), ("run-1.h2.run\n", &vec![2]));
}

#[test]
fn several_at_once_and_zone_by_zone() {
    let mut plan = plan(5);
    (plan.at_once, plan.by_zone) = (2, true);
    for (index, zone) in ["a", "a", "a", "b", "b"].into_iter().enumerate() {
        plan.hosts[index].zone = Some(zone.to_owned());
    }
    let (mut sim, mut run) = (Sim::new(5), run(plan));
    let mut together = 0;
    while sim.second(&mut run) {
        let in_work: Vec<usize> = (0..5).filter(|&index| run.hosts[index].is_in_work()).collect();
        assert!(in_work.len() <= 2 && (in_work.iter().all(|&n| n < 3) || in_work.iter().all(|&n| n >= 3)));
        together = together.max(in_work.len());
    }
    assert_eq!((steps(&run), together), (vec![Done; 5], 2));
}

#[test]
fn a_command_that_fails_is_rolled_back_and_ends_the_run() {
    let (mut sim, mut run) = (Sim::new(8), run(plan(8)));
    sim.fails.insert("run-1.h3.run".to_owned(), "exit status 1".to_owned());
    sim.finish(&mut run);
    let expected = [Done, Done, Returned, Untouched, Untouched, Untouched, Untouched, Untouched];
    assert_eq!(steps(&run), expected);
    assert!(sim.log.contains(&"begin run-1.h3.rollback".to_owned()), "{:?}", sim.log);
    assert!(sim.hosts.values().all(|host| host.out.is_none()));
    let report = report(&run, sim.now);
    assert_eq!((report.state, report.why.as_deref()), (RunState::Failed, Some("h3: run: exit status 1")));
    assert_eq!((report.done, report.returned, report.untouched), (2, 1, 5));
}

#[test]
fn by_the_other_policy_the_host_stays_as_it_is() {
    let mut plan = plan(3);
    (plan.on_failure, plan.rollback) = (OnFailure::Stop, None);
    let (mut sim, mut run) = (Sim::new(3), run(plan));
    sim.fails.insert("run-1.h2.run".to_owned(), "exit status 1".to_owned());
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Done, Failed, Untouched]);
    assert!(sim.hosts["h2"].out.is_some(), "for somebody to look at");
}

#[test]
fn a_drain_that_is_late_fails_or_ends_its_flows() {
    use AtDeadline::{Keep, Move, Reset};
    use OnFailure::{Rollback, Stop};
    let late =
        [(Keep, Stop, Failed), (Keep, Rollback, Returned), (Move, Stop, Done), (Reset, Rollback, Done)];
    for (at_deadline, on_failure, end) in late {
        let plan = Plan { deadline: Some(5), at_deadline, on_failure, ..plan(1) };
        let (mut sim, mut run) = (Sim::new(1), run(plan));
        sim.drain_takes = 1000;
        sim.finish(&mut run);
        let host = &run.hosts[0];
        assert_eq!((host.step, host.past[0].ended - host.past[0].began), (end, 5), "{host:?}");
        // What was only drained is as it was.
        let begun: Vec<&str> = sim.begun.keys().map(String::as_str).collect();
        assert_eq!(begun, if end == Done { vec!["run-1.h1.run"] } else { vec![] }, "{at_deadline:?}");
        assert_eq!(sim.hosts["h1"].out.is_some(), end == Failed, "for somebody to look at");
        let left = "7 flows were left at the deadline of the drain";
        assert_eq!(host.failures.first().map(String::as_str), (end != Done).then_some(left));
    }
}

#[test]
fn a_rollback_that_fails_leaves_the_host_out() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    for step in ["run", "rollback"] {
        sim.fails.insert(format!("run-1.h1.{step}"), "exit status 9".to_owned());
    }
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Failed, Untouched]);
    assert_eq!(run.hosts[0].failures, ["run: exit status 9", "on its way back: rollback: exit status 9"]);
    assert!(sim.hosts["h1"].out.is_some());
}

#[test]
fn others_in_work_come_to_their_ends() {
    let mut plan = plan(4);
    plan.at_once = 3;
    let (mut sim, mut run) = (Sim::new(4), run(plan));
    sim.second(&mut run);
    assert_eq!(steps(&run), [Draining, Draining, Draining, Waiting]);
    // The third takes long to empty.
    sim.hosts.get_mut("h3").unwrap().out.as_mut().unwrap().2 = NOW + 1000;
    sim.fails.insert("run-1.h1.run".to_owned(), "exit status 1".to_owned());
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Returned, Done, Returned, Untouched]);
    assert!(!sim.begun.contains_key("run-1.h3.run"), "nothing was done to it");
    assert!(!sim.begun.contains_key("run-1.h3.rollback"), "so nothing is undone");
}

#[test]
fn pause_holds_up_the_next_and_abort_takes_back() {
    let (mut sim, mut run) = (Sim::new(3), run(plan(3)));
    sim.second(&mut run);
    sim.tell(&mut run, &Event::Pause { by: "bob".to_owned(), reason: None });
    for _ in 0..50 {
        sim.second(&mut run);
    }
    assert_eq!(steps(&run), [Done, Waiting, Waiting]);
    assert!(waits_for(&run, &sim, sim.now).unwrap().contains("bob has paused it"));
    sim.tell(&mut run, &Event::Resume);
    while run.hosts[1].step != Working {
        sim.second(&mut run);
    }
    sim.tell(&mut run, &Event::Abort { by: "bob".to_owned(), reason: None });
    assert_eq!(run.hosts[1].step, Working, "a command is not cut off");
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Done, Returned, Untouched]);
    assert!(sim.log.contains(&"begin run-1.h2.rollback".to_owned()));
    assert!(matches!(run.course, Course::Aborted { .. }));
    let over = run.clone();
    sim.tell(&mut run, &Event::Resume);
    assert_eq!(run, over, "what is over is over");
}

#[test]
fn one_that_was_only_drained_is_let_go_by_an_abort() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    sim.second(&mut run);
    sim.tell(&mut run, &Event::Abort { by: "bob".to_owned(), reason: None });
    sim.finish(&mut run);
    assert_eq!((steps(&run), sim.begun.len()), (vec![Returned, Untouched], 0));
}

#[test]
fn it_waits_for_rules_for_windows_and_for_others() {
    let mut plan = plan(1);
    plan.windows = window::Windows::parse(&["04:00-05:00".to_owned()], 0, None, None).unwrap();
    let (mut sim, mut run) = (Sim::new(1), run(plan));
    sim.second(&mut run);
    assert_eq!(steps(&run), [Waiting]);
    assert!(waits_for(&run, &sim, sim.now).unwrap().starts_with("its next window"));
    sim.now = NOW + 4 * 3600;
    sim.rule = Some("rules to hold".to_owned());
    sim.second(&mut run);
    assert_eq!(waits_for(&run, &sim, sim.now).as_deref(), Some("rules to hold"));
    sim.rule = None;
    sim.take_out("h1", "bob");
    sim.second(&mut run);
    assert_eq!(
        (steps(&run), waits_for(&run, &sim, sim.now).unwrap()),
        (vec![Waiting], "bob to undrain h1".to_owned())
    );
    sim.hosts.get_mut("h1").unwrap().out = None;
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Done]);
}

#[test]
fn what_an_operator_took_out_stays_out() {
    // While it has its share, or comes to it; and the run fails, or is aborted.
    for (step, is_aborted) in [(HostStep::Returning, false), (Watching, false), (Watching, true)] {
        let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
        while run.hosts[0].step != step || sim.hosts["h1"].out.is_some() {
            sim.second(&mut run);
        }
        sim.take_out("h1", "bob");
        if is_aborted {
            sim.tell(&mut run, &abort());
        }
        sim.finish(&mut run);
        assert_eq!(steps(&run), [Failed, Untouched], "{step:?}");
        assert_eq!(run.hosts[0].failures.last().unwrap(), "it was drained by bob; left so");
        assert_eq!(sim.hosts["h1"].out.as_ref().unwrap().1, "bob");
        assert!(!sim.begun.contains_key("run-1.h1.rollback"), "{:?}", sim.begun);
    }
}

#[test]
fn a_ramp_that_was_taken_back_is_as_good_as_a_drain() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    while run.hosts[0].step != HostStep::Returning || sim.hosts["h1"].out.is_some() {
        sim.second(&mut run);
    }
    sim.take_out("h1", RAMP);
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Returned, Untouched]);
    assert_eq!(sim.log.iter().filter(|line| *line == "drain h1").count(), 1);
}

#[test]
fn a_host_that_is_drained_before_the_run_gets_to_it_is_waited_for() {
    let (mut sim, mut run) = (Sim::new(1), run(plan(1)));
    let (after, _) = step(run, &Event::Look, &sim, sim.now);
    run = after;
    assert_eq!(steps(&run), [Draining], "and the daemon is killed");
    sim.take_out("h1", "bob");
    sim.second(&mut run);
    assert_eq!(steps(&run), [Waiting]);
    assert!(run.hosts[0].drains.is_empty() && sim.begun.is_empty());
}

#[test]
fn a_drain_of_a_host_that_the_run_has_out_is_a_wish() {
    let wish = |reason: Option<&str>| Event::Keep {
        host: "h1".to_owned(),
        by: "bob".to_owned(),
        reason: reason.map(str::to_owned),
    };
    for (fails, failures) in [(false, 1), (true, 2)] {
        let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
        if fails {
            sim.fails.insert("run-1.h1.run".to_owned(), "exit status 1".to_owned());
        }
        while run.hosts[0].step != Working {
            sim.second(&mut run);
        }
        sim.tell(&mut run, &wish(Some("disk")));
        sim.finish(&mut run);
        assert_eq!(steps(&run), [Failed, Untouched]);
        assert_eq!(run.hosts[0].failures.len(), failures, "{:?}", run.hosts[0].failures);
        assert_eq!(run.hosts[0].failures.last().unwrap(), "it was drained by bob: disk; left so");
        assert!(sim.hosts["h1"].out.is_some());
        assert_eq!(sim.begun.contains_key("run-1.h1.rollback"), fails);
    }
    // What is undone by an undrain is no wish any more.
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    while run.hosts[0].step != Working {
        sim.second(&mut run);
    }
    sim.tell(&mut run, &wish(None));
    sim.hosts.get_mut("h1").unwrap().out = None;
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Returned, Untouched]);
}

#[test]
fn an_operator_who_puts_a_host_to_use_is_noticed() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    while run.hosts[0].step != Proving {
        sim.second(&mut run);
    }
    sim.hosts.get_mut("h1").unwrap().out = None;
    sim.finish(&mut run);
    // It is drained again, as the rollback is no work for a host in use.
    assert_eq!(steps(&run), [Returned, Untouched]);
    assert_eq!(sim.log.iter().filter(|line| *line == "drain h1").count(), 2);
}

#[test]
fn a_host_that_leaves_the_config_ends_the_run() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    sim.second(&mut run);
    sim.hosts.remove("h1");
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Failed, Untouched]);
}

#[test]
fn a_host_that_the_config_disables_ends_the_run_and_stays_out() {
    for step in [Draining, Working, Proving, HostStep::Returning, Watching] {
        for is_aborted in [false, true] {
            let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
            while run.hosts[0].step != step {
                sim.second(&mut run);
            }
            let is_out = sim.hosts["h1"].out.is_some();
            sim.hosts.get_mut("h1").unwrap().is_disabled = true;
            if is_aborted {
                sim.tell(&mut run, &abort());
            }
            sim.finish(&mut run);
            assert_eq!(steps(&run), [Failed, Untouched], "{step:?}");
            assert!(run.hosts[0].failures.last().unwrap().starts_with("the config has disabled it"));
            assert_eq!(sim.hosts["h1"].out.is_some(), is_out, "{step:?}");
        }
    }
    let (mut sim, mut run) = (Sim::new(1), run(plan(1)));
    sim.hosts.get_mut("h1").unwrap().is_disabled = true;
    sim.second(&mut run);
    assert_eq!(steps(&run), [Waiting]);
    assert!(waits_for(&run, &sim, sim.now).unwrap().contains("to enable h1 again"));
}

#[test]
fn a_command_of_a_host_that_leaves_the_config_is_waited_for() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    sim.job_takes = 10;
    while run.hosts[0].step != Working {
        sim.second(&mut run);
    }
    sim.hosts.remove("h1");
    for _ in 0..5 {
        sim.second(&mut run);
    }
    assert!(run.hosts[0].is_in_work(), "no other run may begin over it");
    sim.finish(&mut run);
    assert_eq!((steps(&run), run.hosts[0].jobs.len()), (vec![Failed, Untouched], 1));
    assert!(sim.jobs.is_empty(), "{:?}", sim.jobs);
}

/// Hosts that are watched, three at once, with the fourth of them at its rest.
pub(super) fn watched(plan: Plan) -> (Sim, Run) {
    let (mut sim, mut run) = (Sim::new(4), run(plan));
    sim.drain_takes = 0;
    while run.hosts[..3].iter().any(|host| host.step != Watching) {
        assert!(sim.second(&mut run), "{:?}", steps(&run));
    }
    (sim, run)
}

pub(super) fn at_once(plan: Plan) -> Plan {
    Plan { at_once: 3, watch: 100, ..plan }
}

pub(super) fn abort() -> Event {
    Event::Abort { by: "bob".to_owned(), reason: None }
}

#[test]
fn an_abort_takes_healthy_hosts_back_by_the_rules() {
    let (mut sim, mut run) = watched(at_once(plan(4)));
    (sim.spare, sim.most_out) = (1, 0);
    sim.tell(&mut run, &abort());
    assert_eq!(sim.most_out, 1);
    let waits = waits_for(&run, &sim, sim.now).unwrap();
    assert!(waits.starts_with("rules to hold: ") && waits.ends_with(", to take h2 back"), "{waits}");
    sim.finish(&mut run);
    assert_eq!((steps(&run), sim.most_out), (vec![Returned, Returned, Returned, Untouched], 1));
    assert!((1..=3).all(|n| sim.begun.contains_key(&format!("run-1.h{n}.rollback"))), "{:?}", sim.begun);
}

#[test]
fn an_abort_without_a_rollback_leaves_healthy_hosts_in_use() {
    let (mut sim, mut run) = watched(at_once(Plan { rollback: None, ..plan(4) }));
    sim.most_out = 0;
    sim.tell(&mut run, &abort());
    assert_eq!((steps(&run), sim.most_out), (vec![Returned, Returned, Returned, Untouched], 0));
}

#[test]
fn of_hosts_that_are_all_ill_one_stays() {
    let (mut sim, mut run) = watched(at_once(plan(4)));
    sim.spare = 0;
    sim.take_out("h4", "bob");
    sim.hosts.values_mut().for_each(|host| host.ill = Some("ill".to_owned()));
    for _ in 0..15 {
        sim.second(&mut run);
    }
    let in_use = sim.hosts.values().filter(|host| host.out.is_none()).count();
    assert_eq!(
        (
            in_use,
            sim.log.iter().filter(|line| line.starts_with("begin") && line.contains("rollback")).count()
        ),
        (1, 2)
    );
}

#[test]
fn with_its_last_window_a_run_ends() {
    for is_paused in [false, true] {
        let mut plan = plan(3);
        plan.windows = window::Windows::parse(&[], 0, None, Some(NOW + 2)).unwrap();
        let (mut sim, mut run) = (Sim::new(3), run(plan));
        sim.second(&mut run);
        if is_paused {
            sim.tell(&mut run, &Event::Pause { by: "bob".to_owned(), reason: None });
        }
        sim.finish(&mut run);
        assert_eq!(steps(&run), [Done, Untouched, Untouched], "the one in work goes on");
        let report = report(&run, sim.now);
        let why = "the last window closed with 2 hosts untouched";
        assert_eq!((report.state, report.why.as_deref()), (RunState::Failed, Some(why)));
    }
    // All of them are done, or begun with.
    let mut plan = plan(1);
    plan.windows = window::Windows::parse(&[], 0, None, Some(NOW + 2)).unwrap();
    let (mut sim, mut run) = (Sim::new(1), run(plan));
    sim.finish(&mut run);
    assert_eq!(report(&run, sim.now).state, RunState::Done);
}

pub(super) fn run_of(plan: Plan) -> Run {
    run(plan)
}

#[test]
fn what_the_next_daemon_goes_on_with() {
    for id in ["run-7.web.1.run", "run-7.check-1.rollback"] {
        assert!(is_kept(id, &[3, 7]) && !is_kept(id, &[1]), "{id}");
    }
    for id in ["run-7.web-1.check-12", "run-7.web-1.check-rollback-12", "shift-7.condition-0", "run-77.a.run"]
    {
        assert!(!is_kept(id, &[3, 7]), "{id}");
    }
}

#[test]
fn what_failed_is_told_of_before_who_aborted_it() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    sim.fails.insert("run-1.h1.run".to_owned(), "exit status 1".to_owned());
    while !run.hosts[0].is_back {
        sim.second(&mut run);
    }
    assert_eq!(run.takes(&abort()), Err("is ending, and its hosts in work are on their way back"));
    sim.tell(&mut run, &abort());
    sim.finish(&mut run);
    let report = report(&run, sim.now);
    assert_eq!((report.state, report.why.as_deref()), (RunState::Failed, Some("h1: run: exit status 1")));
}

#[test]
fn what_would_change_nothing_is_said() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    let pause = Event::Pause { by: "bob".to_owned(), reason: None };
    let takes = |run: &Run| [&pause, &Event::Resume, &abort()].map(|event| run.takes(event).is_ok());
    assert_eq!(takes(&run), [true, false, true]);
    sim.tell(&mut run, &pause);
    assert_eq!(takes(&run), [false, true, true]);
    sim.tell(&mut run, &abort());
    assert_eq!(takes(&run), [false, false, false]);
}
