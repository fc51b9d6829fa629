//! Whether a host of a run is well: what a plan's command says of it, again and again, beside what the world knows.

use super::machine::{job_id, push};
use super::state::{Action, Checking, HostRun, Job, JobEnd, JobState, Run, World};

/// Seconds between two checks by a command.
const CHECK_EVERY: u64 = 2;

/// What would be seen of the host is this machine's own link: the step neither fails nor is over by it, and has its time anew.
pub(super) fn cannot_tell(host: &mut HostRun, now: u64, actions: &mut Vec<Action>) {
    end_check(host, actions);
    host.checking = Checking { told_from: now, ..Checking::default() };
}

/// The check that runs is of no use any more.
pub(super) fn end_check(host: &mut HostRun, actions: &mut Vec<Action>) {
    if let Some((_, job)) = host.checking.begun.take() {
        push(actions, Action::Kill { job: job.clone() });
        push(actions, Action::Forget { job });
    }
}

/// Since when the balancer's own checks have succeeded, of which each has by a run that began after `from`.
pub(super) fn passed(host: &mut HostRun, from: u64, world: &dyn World, now: u64) -> Result<u64, String> {
    let passed = world.passes(&host.host, from);
    let seen_at = passed.is_ok().then(|| host.checking.passed_at.unwrap_or(now));
    host.checking.passed_at = seen_at;
    passed.map(|since| seen_at.map_or(since, |at| at.max(since)))
}

/// Since when the checks by a command are good, if there are any: 0 where there are none.
pub(super) fn check(
    run: &mut Run,
    index: usize,
    world: &dyn World,
    now: u64,
    actions: &mut Vec<Action>,
) -> Result<u64, String> {
    let id = run.id;
    let host = &mut run.hosts[index];
    // On its way back a host need not be what it was to become.
    let (step, task): (&'static str, _) = match host.is_back {
        false => ("check", &run.plan.proof.check),
        true => ("check-rollback", &run.plan.check_back),
    };
    let Some(task) = task.clone() else { return Ok(0) };
    let job = |at: u64, host: &HostRun| Job {
        id: job_id(id, &host.host, &format!("{step}-{at}")),
        host: host.host.clone(),
        step,
        task: task.clone(),
    };
    if let Some((begun, _)) = host.checking.begun {
        let job = job(begun, host);
        match world.job(&job.id) {
            JobState::Running if now >= begun + task.timeout => push(actions, Action::Kill { job: job.id }),
            JobState::Running => {}
            JobState::None => push(actions, Action::Begin(job)),
            JobState::Ended(JobEnd { failure, output }) => {
                actions.push(Action::Forget { job: job.id });
                host.checking.begun = None;
                let line = output.lines().next().map(|line| format!(" ({line})")).unwrap_or_default();
                match failure {
                    None => {
                        host.checking.good_since.get_or_insert(begun);
                        host.checking.last = Some((now, Ok(())));
                    }
                    Some(failure) => {
                        host.checking.good_since = None;
                        host.checking.last = Some((now, Err(format!("check: {failure}{line}"))));
                    }
                }
            }
        }
    } else if host.checking.last.as_ref().is_none_or(|(at, _)| now >= at + CHECK_EVERY) {
        let job = job(now, host);
        host.checking.begun = Some((now, job.id.clone()));
        actions.push(Action::Begin(job));
    }
    match (&host.checking.good_since, &host.checking.last) {
        (Some(since), _) => Ok(*since),
        (None, Some((_, Err(why)))) => Err(why.clone()),
        (None, _) => Err("its check has not ended yet".to_owned()),
    }
}
