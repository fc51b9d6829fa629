//! What is seen of hosts, and what runs make of it: proofs, checks by commands, and times in which nothing can be told.

use super::super::state::Course;
use super::super::*;
use super::cases::{abort, at_once, run_of, watched};
use super::world::*;
use crate::api::types::{HostStep, OnFailure};

use HostStep::{Done, Draining, Failed, Proving, Returned, Untouched, Watching, Working};

#[test]
fn a_host_that_is_not_well_afterwards_goes_back() {
    for ill_after in [6, 12] {
        // While it is to be shown, and while it is watched.
        let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
        for _ in 0..ill_after {
            sim.second(&mut run);
        }
        assert!(matches!(run.hosts[0].step, Proving | Watching | HostStep::Returning), "{:?}", run.hosts[0]);
        sim.hosts.get_mut("h1").unwrap().ill = Some("http: status 500".to_owned());
        while !sim.log.contains(&"begin run-1.h1.rollback".to_owned()) {
            assert!(sim.second(&mut run));
        }
        sim.hosts.get_mut("h1").unwrap().ill = None;
        sim.finish(&mut run);
        assert_eq!(steps(&run), [Returned, Untouched], "{ill_after}");
        assert!(run.hosts[0].failures[0].contains("status 500"), "{:?}", run.hosts[0].failures);
    }
}

/// Its servers die by the work, and nobody has found out yet when it has ended.
#[test]
fn a_host_is_proven_by_checks_that_began_after_its_work() {
    for (is_dead, end) in [(false, Done), (true, Failed)] {
        let mut plan = plan(1);
        (plan.on_failure, plan.rollback, plan.proof.hold) = (OnFailure::Stop, None, 1);
        let (mut sim, mut run) = (Sim::new(1), run(plan));
        sim.interval = 4;
        while run.hosts[0].step != Working {
            sim.second(&mut run);
        }
        if is_dead {
            sim.hosts.get_mut("h1").unwrap().dead_since = Some(sim.now);
        }
        sim.finish(&mut run);
        assert_eq!(steps(&run), [end], "{:?}", run.hosts[0]);
        assert_eq!(sim.hosts["h1"].out.is_some(), is_dead, "{:?}", sim.log);
        if is_dead {
            assert!(run.hosts[0].failures[0].contains("within 20 s: it is down"), "{:?}", run.hosts[0]);
        } else {
            // The first check after the work, and held from then on.
            let proving = &run.hosts[0].past[2];
            assert_eq!((proving.began - NOW, proving.ended - NOW), (5, 9), "{:?}", run.hosts[0].past);
        }
    }
}

/// A daemon that was away has not looked at anybody.
#[test]
fn time_in_which_no_daemon_ran_proves_nothing() {
    for (step, takes) in [(Proving, 2), (Watching, 3)] {
        let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
        while run.hosts[0].step != step {
            sim.second(&mut run);
        }
        sim.now += 15;
        run = serde_json::from_str::<Run>(&serde_json::to_string(&run).unwrap()).unwrap().resumed(sim.now);
        let back_at = sim.now;
        while run.hosts[0].step == step {
            sim.second(&mut run);
        }
        // The second in which it was seen is over by now.
        assert_eq!(sim.now - 1 - back_at, takes, "{step:?}");
        sim.finish(&mut run);
        assert_eq!(steps(&run), [Done, Done]);
    }
}

#[test]
fn commands_have_a_time_and_checks_count() {
    let mut plan = plan(1);
    plan.proof.check = Some(Task { what: What::Command("check".to_owned()), timeout: 5 });
    plan.work.timeout = 4;
    plan.ramp = None;
    let (mut sim, mut late) = (Sim::new(1), run(plan.clone()));
    sim.job_takes = 100;
    while !late.hosts[0].is_back {
        sim.second(&mut late);
    }
    assert_eq!(late.hosts[0].failures, ["run: killed"]);

    let (mut sim, mut good) = (Sim::new(1), run(plan.clone()));
    sim.finish(&mut good);
    assert_eq!(steps(&good), [Done]);
    assert!(sim.begun.keys().any(|id| id.starts_with("run-1.h1.check-")), "{:?}", sim.begun);
    assert!(sim.jobs.keys().all(|id| id.contains("check")), "{:?}", sim.jobs);

    let (mut sim, mut bad) = (Sim::new(1), run(plan));
    for second in 0..100 {
        sim.fails.insert(format!("run-1.h1.check-{}", NOW + second), "exit status 22".to_owned());
    }
    while !bad.hosts[0].is_back {
        sim.second(&mut bad);
    }
    assert!(bad.hosts[0].failures[0].contains("within 20 s: check: exit status 22"), "{:?}", bad.hosts[0]);
}

#[test]
fn a_link_that_is_cut_off_tells_nothing_of_hosts() {
    let mut plan = plan(1);
    plan.proof.check = Some(Task { what: What::Command("check".to_owned()), timeout: 5 });
    for step in [Proving, Watching] {
        let (mut sim, mut run) = (Sim::new(1), run(plan.clone()));
        while run.hosts[0].step != step {
            sim.second(&mut run);
        }
        sim.is_cut_off = true;
        (0..200).for_each(|second| {
            sim.fails.insert(format!("run-1.h1.check-{}", sim.now + second), "exit status 7".to_owned());
        });
        for _ in 0..100 {
            sim.second(&mut run);
        }
        assert_eq!(run.hosts[0].step, step, "{:?}", run.hosts[0]);
        sim.is_cut_off = false;
        sim.fails.clear();
        let back_at = sim.now;
        sim.finish(&mut run);
        assert_eq!(steps(&run), [Done], "{:?}", run.hosts[0]);
        assert!(sim.now > back_at + 2, "it is looked at again");
    }
}

/// Checks that a config brings have said nothing at first: a host that is well does not fail by them, and is not done before they have spoken.
#[test]
fn checks_that_have_said_nothing_yet_are_waited_for() {
    let (mut sim, mut run) = watched(at_once(plan(4)));
    sim.hosts.get_mut("h1").unwrap().is_unsaid = true;
    for _ in 0..150 {
        sim.second(&mut run);
    }
    assert_eq!((run.hosts[0].step, &run.course), (Watching, &Course::Forward), "{:?}", run.hosts[0]);
    let said_at = sim.now;
    let of = sim.hosts.get_mut("h1").unwrap();
    (of.is_unsaid, of.well_since) = (false, said_at);
    while run.hosts[0].step == Watching {
        sim.second(&mut run);
    }
    assert_eq!(run.hosts[0].step, Done, "{:?}", run.hosts[0]);
    assert!(sim.now >= said_at + run.plan.watch, "it is watched by the new ones");

    // What they say then counts.
    let (mut sim, mut run) = watched(at_once(plan(4)));
    sim.hosts.get_mut("h1").unwrap().is_unsaid = true;
    for _ in 0..5 {
        sim.second(&mut run);
    }
    sim.hosts.get_mut("h1").unwrap().ill = Some("status 500".to_owned());
    sim.finish(&mut run);
    assert!(run.hosts[0].failures[0].contains("status 500"), "{:?}", run.hosts[0]);
}

/// Both may last for ever.
#[test]
fn what_hosts_in_work_wait_for_is_said() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    while run.hosts[0].step != HostStep::Returning || sim.hosts["h1"].out.is_some() {
        sim.second(&mut run);
        assert_eq!(waits_for(&run, &sim, sim.now), None);
    }
    sim.hosts.get_mut("h1").unwrap().ramp_paused = Some("3 of 4 new flows failed".to_owned());
    for _ in 0..100 {
        sim.second(&mut run);
    }
    let waits = waits_for(&run, &sim, sim.now).unwrap();
    assert_eq!(waits, "the ramp of h1 to go on, which is paused: 3 of 4 new flows failed");
    let h1 = sim.hosts.get_mut("h1").unwrap();
    (h1.ramp_paused, h1.is_unsaid) = (None, true);
    for _ in 0..100 {
        sim.second(&mut run);
    }
    assert_eq!(waits_for(&run, &sim, sim.now).as_deref(), Some("h1: its checks are new"));
    // Where there is a place, another host is begun with beside it.
    run.plan.at_once = 2;
    sim.second(&mut run);
    assert_eq!(steps(&run), [Watching, Draining]);
    assert_eq!(waits_for(&run, &sim, sim.now).as_deref(), Some("h1: its checks are new"));
}

/// And on its way back such a host goes out as the rules allow, and not by force.
#[test]
fn a_host_of_which_nothing_was_said_goes_back_by_the_rules() {
    let (mut sim, mut run) = watched(at_once(plan(4)));
    sim.hosts.get_mut("h1").unwrap().is_unsaid = true;
    sim.rule = Some("min_healthy".to_owned());
    sim.tell(&mut run, &abort());
    for _ in 0..30 {
        sim.second(&mut run);
    }
    assert_eq!((run.hosts[0].step, run.hosts[0].is_back), (Draining, true), "{:?}", run.hosts[0]);
    assert!(sim.hosts["h1"].out.is_none(), "{:?}", sim.log);
    sim.rule = None;
    for _ in 0..10 {
        sim.second(&mut run);
    }
    assert!(sim.hosts["h1"].out.is_some() && run.hosts[0].step != Draining, "{:?}", run.hosts[0]);
}

#[test]
fn on_its_way_back_a_host_need_not_be_what_it_was_to_become() {
    let task = |command: &str| Some(Task { what: What::Command(command.to_owned()), timeout: 5 });
    for check_back in [None, task("is old")] {
        let mut plan = plan(1);
        (plan.proof.check, plan.check_back) = (task("is new"), check_back.clone());
        let (mut sim, mut run) = (Sim::new(1), run(plan));
        (0..1000).for_each(|second| {
            sim.fails.insert(format!("run-1.h1.check-{}", NOW + second), "exit status 1".to_owned());
        });
        sim.finish(&mut run);
        assert_eq!(steps(&run), [Returned], "{:?}", run.hosts[0].failures);
        let is_asked = sim.begun.keys().any(|id| id.starts_with("run-1.h1.check-rollback-"));
        assert_eq!(is_asked, check_back.is_some());
    }
}

#[test]
fn a_host_is_not_done_before_a_check_has_ended_well() {
    let task = Some(Task { what: What::Command("check".to_owned()), timeout: 60 });
    // The check hangs as soon as the host is back.
    for (takes, failure) in [(30, None), (30, Some("exit status 1")), (1000, Some("killed"))] {
        let mut plan = plan(1);
        plan.proof.check = task.clone();
        let (mut sim, mut run) = (Sim::new(1), run(plan));
        while run.hosts[0].step != Watching {
            sim.second(&mut run);
        }
        let begun = sim.begun.len();
        sim.job_takes = takes;
        sim.jobs.clear();
        run.hosts[0].checking = state::Checking::default();
        (0..10).for_each(|second| {
            if let Some(failure) = failure {
                sim.fails.insert(format!("run-1.h1.check-{}", sim.now + second), failure.to_owned());
            }
        });
        for _ in 0..20 {
            sim.second(&mut run);
        }
        assert_eq!(run.hosts[0].step, Watching, "after its time, but its check runs: {:?}", run.hosts[0]);
        assert_eq!(sim.begun.len(), begun + 1, "{:?}", sim.begun);
        while run.hosts[0].step == Watching {
            sim.second(&mut run);
        }
        assert_eq!(run.hosts[0].step == Done, failure.is_none(), "{:?}", run.hosts[0]);
    }
}

#[test]
fn a_command_that_never_tells_its_end_is_not_begun_for_ever() {
    let (mut sim, mut run) = (Sim::new(2), run(plan(2)));
    sim.jobs_fail = Some("no space left".to_owned());
    sim.finish(&mut run);
    assert_eq!(steps(&run), [Failed, Untouched]);
    assert_eq!((sim.begun["run-1.h1.run"], sim.begun["run-1.h1.rollback"]), (3, 3));
    assert_eq!(run.hosts[0].failures[0], "run: it was begun 3 times: no space left");

    // What begins anew has its time anew.
    let (mut sim, mut run) = (Sim::new(1), run_of(plan(1)));
    sim.job_takes = 50;
    while run.hosts[0].step != Working {
        sim.second(&mut run);
    }
    for _ in 0..40 {
        sim.second(&mut run);
    }
    sim.jobs.clear();
    sim.finish(&mut run);
    assert_eq!((steps(&run), sim.begun["run-1.h1.run"]), (vec![Done], 2), "{:?}", run.hosts[0].failures);
}

#[test]
fn a_check_ends_with_its_step() {
    let mut plan = plan(1);
    plan.proof.check = Some(Task { what: What::Command("check".to_owned()), timeout: 60 });
    let (mut sim, mut run) = (Sim::new(1), run(plan));
    while run.hosts[0].step != Watching {
        sim.second(&mut run);
    }
    sim.job_takes = 50;
    while run.hosts[0].checking.begun.is_none() {
        sim.second(&mut run);
    }
    sim.hosts.get_mut("h1").unwrap().ill = Some("ill".to_owned());
    sim.second(&mut run);
    assert_ne!(run.hosts[0].step, Watching);
    assert!(sim.jobs.keys().all(|id| !id.contains("check")), "{:?}", sim.jobs);
    assert!(sim.log.iter().any(|line| line.starts_with("kill run-1.h1.check-")), "{:?}", sim.log);
}
