//! A run as the API tells it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::state::{Course, HostRun, Run};
use crate::api::types::{HostStep, MaintainHost, MaintainRun, RunState};

/// How the run stands; live flows and receipts of hosts, and what it waits for, others know.
pub fn report(run: &Run, now: u64) -> MaintainRun {
    let count = |step: HostStep| run.hosts.iter().filter(|host| host.step == step).count();
    let in_work = run.hosts.iter().filter(|host| host.is_in_work()).count();
    let state = match (&run.course, run.is_over()) {
        (Course::Forward, false) => RunState::Running,
        (Course::Paused { .. }, false) => RunState::Paused,
        (Course::Failed { .. } | Course::Aborted { .. }, false) => RunState::Ending,
        (Course::Forward | Course::Paused { .. }, true) => RunState::Done,
        (Course::Failed { .. }, true) => RunState::Failed,
        (Course::Aborted { .. }, true) => RunState::Aborted,
    };
    let because = |reason: &Option<String>| reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    let why = match &run.course {
        Course::Forward => None,
        Course::Paused { by, reason, .. } => Some(format!("paused by {by}{}", because(reason))),
        Course::Failed { why } => Some(why.clone()),
        Course::Aborted { by, reason } => Some(format!("aborted by {by}{}", because(reason))),
    };
    MaintainRun {
        run: run.id,
        name: run.plan.name.clone(),
        state,
        by: run.by.clone(),
        reason: run.reason.clone(),
        started_at: run.started_at,
        ended_at: run.ended_at,
        why,
        waits_for: None,
        done: count(HostStep::Done),
        in_work,
        waiting: count(HostStep::Waiting),
        returned: count(HostStep::Returned),
        failed: count(HostStep::Failed),
        untouched: count(HostStep::Untouched),
        expected_end: expected_end(run, now),
        hosts: run
            .hosts
            .iter()
            .zip(&run.plan.hosts)
            .map(|(host, planned)| of(host, planned.zone.clone()))
            .collect(),
        as_of: now,
    }
}

fn of(host: &HostRun, zone: Option<String>) -> MaintainHost {
    MaintainHost {
        host: host.host.clone(),
        zone,
        step: host.step,
        since: host.since,
        is_back: host.is_back,
        failures: host.failures.clone(),
        live_flows: 0,
        steps: host.past.clone(),
        jobs: host.jobs.clone(),
        drains: host.drains.clone(),
        receipts: Vec::new(),
    }
}

/// Seconds from the host's first step to its last.
fn took(host: &HostRun) -> Option<u64> {
    Some(host.past.last()?.ended.saturating_sub(host.past.first()?.began))
}

/// If those that are left take as long as those that are done, as many at once, each begun when a place is free and a window open. Unknown while
/// none is done, or if no window opens any more for some of them.
fn expected_end(run: &Run, now: u64) -> Option<u64> {
    if run.course != Course::Forward || run.is_over() {
        return None;
    }
    let done: Vec<u64> =
        run.hosts.iter().filter(|host| host.step == HostStep::Done).filter_map(took).collect();
    let each = done.iter().sum::<u64>().checked_div(done.len() as u64)?;
    let in_work = run.hosts.iter().filter(|host| host.is_in_work());
    let begun = in_work.map(|host| host.past.first().map_or(host.since, |first| first.began));
    // One that takes longer than the others may be done at any moment.
    let ends: Vec<u64> = begun.map(|began| (began + each).max(now)).collect();
    let mut last = ends.iter().copied().max().unwrap_or(now);
    let free = run.plan.at_once.clamp(1, run.hosts.len().max(1)).saturating_sub(ends.len());
    let mut places: BinaryHeap<_> =
        ends.into_iter().chain(std::iter::repeat_n(now, free)).map(Reverse).collect();
    let (mut zone, mut zone_from) = (None, 0);
    let planned = run.hosts.iter().zip(&run.plan.hosts);
    for (host, planned) in planned.filter(|(host, _)| host.step != HostStep::Untouched) {
        if run.plan.by_zone && zone.is_some_and(|zone| zone != &planned.zone) {
            zone_from = last;
        }
        zone = Some(&planned.zone);
        if host.step != HostStep::Waiting {
            continue;
        }
        let Reverse(free) = places.pop()?;
        let end = run.plan.windows.opens_at(free.max(zone_from))? + each;
        last = last.max(end);
        places.push(Reverse(end));
    }
    Some(last)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::super::tests::world::{NOW, plan, run};
    use super::super::window::Windows;
    use super::*;
    use crate::api::types::StepTime;

    /// Seconds that are left, if the first hosts are done, after 100 s each, and the next were begun with 30 s ago.
    fn expected(plan: Plan, done: usize, in_work: usize, now: u64) -> Option<u64> {
        let mut run = run(plan);
        for (index, host) in run.hosts.iter_mut().enumerate().take(done + in_work) {
            if index < done {
                host.step = HostStep::Done;
                host.past =
                    vec![StepTime { step: HostStep::Draining, is_back: false, began: NOW, ended: NOW + 100 }];
            } else {
                (host.step, host.since) = (HostStep::Draining, now - 30);
            }
        }
        expected_end(&run, now).map(|end| end - now)
    }

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        let of = |at_once, done, in_work| expected(Plan { at_once, ..plan(8) }, done, in_work, NOW + 1000);
        assert_eq!(of(1, 0, 1), None, "nobody is done");
        assert_eq!(of(1, 2, 0), Some(600));
        assert_eq!(of(1, 2, 1), Some(570), "one is 30 s on its way");
        // Five are left for three places.
        assert_eq!(of(3, 3, 0), Some(200));
        // Of three places two are free: two begin now, and the other three 70 s and 100 s later.
        assert_eq!(of(3, 2, 1), Some(200));
        // The last one needs no round of its own.
        assert_eq!(of(3, 6, 1), Some(100));
        assert_eq!(of(1, 8, 0), Some(0));
    }

    #[test]
    fn who_is_paused_or_over_has_no_end_to_expect() {
        let mut run = run(plan(2));
        run.hosts[0].step = HostStep::Done;
        run.hosts[0].past =
            vec![StepTime { step: HostStep::Draining, is_back: false, began: NOW, ended: NOW + 100 }];
        assert_eq!(expected_end(&run, NOW + 100), Some(NOW + 200));
        run.course = Course::Paused { by: "bob".to_owned(), reason: None, at: NOW };
        assert_eq!(expected_end(&run, NOW + 100), None);
    }

    /// Ten minutes before a window closes that opens again on the next evening.
    #[test]
    fn windows_count() {
        let windows = |last| Windows::parse(&["22:00-04:00".to_owned()], 0, None, last).unwrap();
        let now = NOW + 4 * 3600 - 150;
        let of = |last, done| expected(Plan { windows: windows(last), ..plan(10) }, done, 0, now);
        // Two begin before it closes; the other six 18 hours after that.
        assert_eq!(of(None, 2), Some(150 + 18 * 3600 + 600));
        assert_eq!(of(None, 8), Some(200));
        assert_eq!(of(Some(NOW + 5 * 3600), 2), None, "they will stay untouched");
    }

    #[test]
    fn a_zone_waits_for_the_one_before() {
        let mut plan = Plan { at_once: 2, by_zone: true, ..plan(6) };
        for (planned, zone) in plan.hosts.iter_mut().zip(["a", "a", "a", "a", "b", "b"]) {
            planned.zone = Some(zone.to_owned());
        }
        // The third of its zone is on its way, the fourth begins now: those of the other zone not before both are done.
        assert_eq!(expected(plan, 2, 1, NOW + 1000), Some(200));
    }
}
