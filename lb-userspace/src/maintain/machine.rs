//! How a run goes on: [`step`].

use super::checks::{cannot_tell, check, end_check, passed};
use super::plan::Task;
use super::state::{
    Action, Checking, Course, Drained, Event, HostRun, Job, JobEnd, JobState, NotWell, Run, World,
};
use super::waits::{is_ill, may_go_back_out, next_waits_for};
use crate::api::types::{HostStep, JobReport, OnFailure, StepTime};

/// So often a command is begun of which nobody knows how it ended.
const MOST_ATTEMPTS: u32 = 3;

/// The next state, and what is to be done once the journal has it. At most one host is begun with, as what the others may depends on it.
pub fn step(mut run: Run, event: &Event, world: &dyn World, now: u64) -> (Run, Vec<Action>) {
    let mut actions = Vec::new();
    if run.is_over() {
        return (run, actions);
    }
    match event {
        Event::Look => {}
        Event::Pause { by, reason } => {
            if matches!(run.course, Course::Forward) {
                run.course = Course::Paused { by: by.clone(), reason: reason.clone(), at: now };
            }
        }
        Event::Resume => {
            if matches!(run.course, Course::Paused { .. }) {
                run.course = Course::Forward;
            }
        }
        Event::Abort { by, reason } => {
            // What failed is told of before who put an end to it.
            if !matches!(run.course, Course::Failed { .. }) {
                run.course = Course::Aborted { by: by.clone(), reason: reason.clone() };
            }
            for host in &mut run.hosts {
                if host.is_in_work() && !host.is_back {
                    host.recalled.get_or_insert_with(|| format!("the run was aborted by {by}"));
                }
            }
        }
        Event::Keep { host, by, reason } => {
            let own = run.author();
            let is_meant = |of: &&mut HostRun| of.host == *host && of.is_in_work();
            let is_own = |drain: Drained| drain.by == own || drain.is_by_ramp;
            if let Some(of) = run.hosts.iter_mut().find(is_meant)
                && world.drain(host).is_some_and(is_own)
            {
                of.kept_out = Some(drained_by(by, reason.as_deref()));
            }
        }
    }
    for index in 0..run.hosts.len() {
        let host = &run.hosts[index];
        match lost(&host.host, world) {
            _ if !host.is_in_work() => {}
            // A command that runs is waited for.
            Some(why) if host.step != HostStep::Working => leave(&mut run, index, why, now, &mut actions),
            _ => go_on(&mut run, index, world, now, &mut actions),
        }
    }
    if matches!(run.course, Course::Failed { .. } | Course::Aborted { .. }) {
        call_back_the_unbegun(&mut run);
    }
    close(&mut run, now);
    begin(&mut run, world, now, &mut actions);
    let is_under_way = matches!(run.course, Course::Forward | Course::Paused { .. }) && run.next().is_some();
    if !is_under_way && !run.hosts.iter().any(HostRun::is_in_work) {
        for host in run.hosts.iter_mut().filter(|host| host.step == HostStep::Waiting) {
            host.step = HostStep::Untouched;
            host.since = now;
        }
        run.ended_at = Some(now);
    }
    (run, actions)
}

fn begin(run: &mut Run, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    let in_work = run.hosts.iter().filter(|host| host.is_in_work()).count();
    let is_full = in_work >= run.plan.at_once || drains_one(actions);
    if run.course != Course::Forward || is_full || next_waits_for(run, world, now).is_some() {
        return;
    }
    let Some(next) = run.next() else { return };
    let host = &mut run.hosts[next];
    // How long it waited is of no interest.
    (host.step, host.since) = (HostStep::Draining, now);
    actions.push(Action::Drain { host: host.host.clone(), is_forced: false });
}

/// With the last window the run is over, but for the hosts in work.
fn close(run: &mut Run, now: u64) {
    let is_open = matches!(run.course, Course::Forward | Course::Paused { .. });
    let waiting = run.hosts.iter().filter(|host| host.step == HostStep::Waiting).count();
    if is_open && waiting > 0 && run.plan.windows.opens_at(now).is_none() {
        let hosts = if waiting == 1 { "host" } else { "hosts" };
        run.course =
            Course::Failed { why: format!("the last window closed with {waiting} {hosts} untouched") };
    }
}

/// What has been drained, and no more, is let go when a host has failed.
fn call_back_the_unbegun(run: &mut Run) {
    if run.hosts.iter().all(|host| host.failures.is_empty()) {
        return;
    }
    let why = match &run.course {
        Course::Failed { why } => why.clone(),
        _ => return,
    };
    for host in &mut run.hosts {
        if host.step == HostStep::Draining && !host.is_back && host.recalled.is_none() {
            host.recalled = Some(why.clone());
        }
    }
}

fn go_on(run: &mut Run, index: usize, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    // A step may be over as soon as it begins.
    for _ in 0..8 {
        let before = (run.hosts[index].step, run.hosts[index].is_back);
        match before.0 {
            HostStep::Draining => draining(run, index, world, now, actions),
            HostStep::Working => working(run, index, world, now, actions),
            HostStep::Proving => proving(run, index, world, now, actions),
            HostStep::Returning => returning(run, index, world, now, actions),
            HostStep::Watching => watching(run, index, world, now, actions),
            _ => return,
        }
        if (run.hosts[index].step, run.hosts[index].is_back) == before {
            return;
        }
    }
}

fn draining(run: &mut Run, index: usize, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    let own = run.author();
    let host = &mut run.hosts[index];
    if !host.is_back
        && let Some(why) = host.recalled.clone()
    {
        return turn_back(run, index, &why, world, now, actions);
    }
    match world.drain(&host.host) {
        Some(drain) if !(is_ours(&drain, host, &own) || host.is_back && drain.is_by_ramp) => {
            if host.is_back || host.drain.is_some() {
                return leave(run, index, &drained_by(&drain.by, drain.reason.as_deref()), now, actions);
            }
            // Somebody was faster.
            (host.step, host.since) = (HostStep::Waiting, now);
        }
        Some(drain) => {
            adopt(host, drain.id);
            if drain.is_done {
                enter(host, HostStep::Working, now, actions);
            } else if let Some(left) = drain.overdue {
                let what = if left > 0 { left.to_string() } else { "perhaps silent".to_owned() };
                fail(
                    run,
                    index,
                    &format!("{what} flows were left at the deadline of the drain"),
                    world,
                    now,
                    actions,
                );
            }
        }
        None if host.drain.is_some() => fail(run, index, TAKEN_BACK, world, now, actions),
        // Nothing is to be undone, and nothing is wrong with it.
        None if host.is_back
            && run.plan.rollback.is_none()
            && !world.is_unseen(&host.host)
            && !is_ill(host, world) =>
        {
            enter(host, HostStep::Returned, now, actions);
        }
        // What this one may depends on the other.
        None if drains_one(actions) => {}
        None if host.is_back => {
            if let Ok(is_forced) = may_go_back_out(host, world, run.plan.min_healthy) {
                actions.push(Action::Drain { host: host.host.clone(), is_forced });
            }
        }
        None => match world.may_drain(&host.host, run.plan.min_healthy) {
            Ok(()) => actions.push(Action::Drain { host: host.host.clone(), is_forced: false }),
            // Between two looks a host has gone; and as nothing was done yet, nothing is to be undone.
            Err(_) => (host.step, host.since) = (HostStep::Waiting, now),
        },
    }
}

fn drains_one(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Drain { .. }))
}

/// Why a run cannot do anything with a host any more.
fn lost(host: &str, world: &dyn World) -> Option<&'static str> {
    match (world.knows(host), world.is_disabled(host)) {
        (false, _) => Some("the config does not name it any more"),
        (true, true) => Some("the config has disabled it"),
        (true, false) => None,
    }
}

const TAKEN_BACK: &str = "somebody has put it to use again while it was in work";

fn working(run: &mut Run, index: usize, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    let id = run.id;
    let host = &mut run.hosts[index];
    let (name, task): (&'static str, Option<&Task>) = match host.is_back {
        false => ("run", Some(&run.plan.work)),
        true => ("rollback", run.plan.rollback.as_ref()),
    };
    let Some(task) = task else { return enter(host, HostStep::Proving, now, actions) };
    let job =
        Job { id: job_id(id, &host.host, name), host: host.host.clone(), step: name, task: task.clone() };
    match world.job(&job.id) {
        JobState::Ended(end) => {
            actions.push(Action::Forget { job: job.id.clone() });
            host.was_worked_on = true;
            let took = end.failure.clone();
            host.jobs.push(report(&job, host.since, now, end));
            match (took, host.recalled.clone()) {
                (took, _) if lost(&host.host, world).is_some() => {
                    let name = took.map(|failure| format!("{name}: {failure}"));
                    host.failures.extend(name);
                    let why = lost(&host.host, world).unwrap_or_default();
                    leave(run, index, why, now, actions);
                }
                (Some(failure), _) => fail(run, index, &format!("{name}: {failure}"), world, now, actions),
                (None, Some(why)) if !host.is_back => turn_back(run, index, &why, world, now, actions),
                (None, _) if world.drain(&host.host).is_none() => {
                    fail(run, index, TAKEN_BACK, world, now, actions)
                }
                (None, _) => enter(host, HostStep::Proving, now, actions),
            }
        }
        JobState::Running if now >= host.since + task.timeout => push(actions, Action::Kill { job: job.id }),
        JobState::Running => {}
        JobState::None if lost(&host.host, world).is_some() => {
            let why = lost(&host.host, world).unwrap_or_default();
            leave(run, index, why, now, actions);
        }
        JobState::None if host.attempts >= MOST_ATTEMPTS => {
            let error = world.job_error(&job.id).unwrap_or_else(|| "nobody knows how it ended".to_owned());
            fail(
                run,
                index,
                &format!("{name}: it was begun {MOST_ATTEMPTS} times: {error}"),
                world,
                now,
                actions,
            );
        }
        JobState::None => {
            // Nobody can tell whether it had begun when the daemon was killed. What begins anew has its time anew.
            host.was_worked_on = true;
            if host.attempts > 0 {
                host.since = now;
            }
            host.attempts += 1;
            push(actions, Action::Begin(job));
        }
    }
}

fn proving(run: &mut Run, index: usize, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    let host = &mut run.hosts[index];
    if !host.is_back
        && let Some(why) = host.recalled.clone()
    {
        return turn_back(run, index, &why, world, now, actions);
    }
    if world.drain(&host.host).is_none() {
        return fail(run, index, TAKEN_BACK, world, now, actions);
    }
    if world.is_unseen(&host.host) {
        return cannot_tell(host, now, actions);
    }
    let checked = check(run, index, world, now, actions);
    let host = &mut run.hosts[index];
    let from = host.since.max(host.checking.told_from);
    // That it is not known to be down is not enough: nobody may have looked since its work ended.
    let passed = passed(host, from, world, now);
    let well = match (world.well_since(&host.host), passed, checked) {
        (Ok(since), Ok(passed), Ok(checked)) => Ok(since.max(passed).max(checked).max(from)),
        (Err(why), ..) => Err(why.into_words()),
        (_, Err(why), _) | (_, _, Err(why)) => Err(why),
    };
    match well {
        Ok(since) if now >= since + run.plan.proof.hold => enter(host, HostStep::Returning, now, actions),
        well if now >= from + run.plan.proof.within => {
            let what = well.err().unwrap_or_else(|| "it was well, but not for long enough".to_owned());
            let within = run.plan.proof.within;
            fail(
                run,
                index,
                &format!("it was not shown to be well within {within} s: {what}"),
                world,
                now,
                actions,
            );
        }
        _ => {}
    }
}

fn returning(run: &mut Run, index: usize, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    let host = &mut run.hosts[index];
    match world.drain(&host.host) {
        Some(drain) if host.drain == Some(drain.id) => {
            if let Some(why) = host.kept_out.clone() {
                return leave(run, index, &why, now, actions);
            }
            // One that was only drained is as it was.
            let ramp = run.plan.ramp.filter(|_| host.was_worked_on);
            push(actions, Action::Undrain { host: host.host.clone(), ramp });
        }
        Some(drain) => fail(run, index, &drained_by(&drain.by, drain.reason.as_deref()), world, now, actions),
        None => match host.recalled.clone() {
            Some(why) if !host.is_back => turn_back(run, index, &why, world, now, actions),
            _ if world.is_ramping(&host.host) => {}
            _ => {
                host.drain = None;
                enter(host, HostStep::Watching, now, actions);
            }
        },
    }
}

fn watching(run: &mut Run, index: usize, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    let host = &mut run.hosts[index];
    if !host.is_back
        && let Some(why) = host.recalled.clone()
    {
        return turn_back(run, index, &why, world, now, actions);
    }
    if host.is_back && !host.was_worked_on {
        return enter(host, HostStep::Returned, now, actions);
    }
    if let Some(drain) = world.drain(&host.host) {
        return fail(run, index, &drained_by(&drain.by, drain.reason.as_deref()), world, now, actions);
    }
    if world.is_unseen(&host.host) {
        return cannot_tell(host, now, actions);
    }
    let checked = check(run, index, world, now, actions);
    let host = &mut run.hosts[index];
    let failed_check = match &host.checking.last {
        Some((_, Err(why))) => Some(why.clone()),
        _ => None,
    };
    let is_unsaid = match (world.well_since(&host.host), failed_check) {
        (Err(NotWell::Ill(why)), _) | (_, Some(why)) => {
            host.is_ill = true;
            return fail(run, index, &why, world, now, actions);
        }
        (well, None) => well.is_err(),
    };
    if is_unsaid {
        // New checks are waited for, and it is watched by them for as long as by any others.
        host.checking.told_from = now;
        return;
    }
    // A check that runs is waited for.
    let is_checked = checked.is_ok() && host.checking.begun.is_none();
    if is_checked && now >= host.since.max(host.checking.told_from) + run.plan.watch {
        let end = if host.is_back { HostStep::Returned } else { HostStep::Done };
        enter(host, end, now, actions);
    }
}

fn drained_by(by: &str, reason: Option<&str>) -> String {
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("it was drained by {by}{reason}")
}

/// Something went wrong with the host: no further one is begun with, and it goes back or stays as it is.
fn fail(run: &mut Run, index: usize, why: &str, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    let host = &mut run.hosts[index];
    let name = host.host.clone();
    if matches!(run.course, Course::Forward | Course::Paused { .. }) {
        run.course = Course::Failed { why: format!("{name}: {why}") };
    }
    if host.is_back {
        host.failures.push(format!("on its way back: {why}"));
        return enter(host, HostStep::Failed, now, actions);
    }
    let is_recalled = host.recalled.is_some();
    if run.plan.on_failure == OnFailure::Stop && !is_recalled {
        host.failures.push(why.to_owned());
        return enter(host, HostStep::Failed, now, actions);
    }
    turn_back(run, index, why, world, now, actions);
}

/// Somebody else has taken the host out, or the config has: it is theirs.
fn leave(run: &mut Run, index: usize, why: &str, now: u64, actions: &mut Vec<Action>) {
    let host = &mut run.hosts[index];
    if matches!(run.course, Course::Forward | Course::Paused { .. }) {
        run.course = Course::Failed { why: format!("{}: {why}; left so", host.host) };
    }
    host.failures.push(format!("{why}; left so"));
    host.recalled = None;
    enter(host, HostStep::Failed, now, actions);
}

fn is_ours(drain: &Drained, host: &HostRun, own: &str) -> bool {
    host.drain == Some(drain.id) || drain.by == own
}

fn adopt(host: &mut HostRun, drain: u64) {
    if host.drain != Some(drain) {
        host.drain = Some(drain);
        host.drains.push(drain);
    }
}

/// The host goes back to where it was before the run.
fn turn_back(run: &mut Run, index: usize, why: &str, world: &dyn World, now: u64, actions: &mut Vec<Action>) {
    let own = run.author();
    let host = &mut run.hosts[index];
    let is_out = world.drain(&host.host);
    match &is_out {
        // For the run a ramp that was taken back is as good as a drain of its own.
        Some(drain) if is_ours(drain, host, &own) || drain.is_by_ramp => adopt(host, drain.id),
        Some(drain) => {
            let by = drained_by(&drain.by, drain.reason.as_deref());
            if why != by {
                host.failures.push(why.to_owned());
            }
            return leave(run, index, &by, now, actions);
        }
        None => (host.drain, host.kept_out) = (None, None),
    }
    host.failures.push(why.to_owned());
    host.recalled = None;
    let next = match (host.was_worked_on, is_out.is_some()) {
        (true, true) => HostStep::Working,
        (true, false) => HostStep::Draining,
        (false, true) => HostStep::Returning,
        (false, false) => HostStep::Returned,
    };
    enter(host, next, now, actions);
    host.is_back = true;
}

fn enter(host: &mut HostRun, step: HostStep, now: u64, actions: &mut Vec<Action>) {
    end_check(host, actions);
    host.past.push(StepTime { step: host.step, is_back: host.is_back, began: host.since, ended: now });
    (host.step, host.since, host.attempts) = (step, now, 0);
    host.checking = Checking::default();
}

/// The same within one step would be done twice.
pub(super) fn push(actions: &mut Vec<Action>, action: Action) {
    if !actions.contains(&action) {
        actions.push(action);
    }
}

pub(super) fn job_id(run: u64, host: &str, step: &str) -> String {
    format!("run-{run}.{host}.{step}")
}

fn report(job: &Job, began: u64, now: u64, end: JobEnd) -> JobReport {
    JobReport {
        id: job.id.clone(),
        step: job.step.to_owned(),
        began,
        ended: now,
        failure: end.failure,
        output: end.output,
    }
}
