//! A shift as the API tells it.

use std::collections::BTreeMap;

use super::{Course, Seen, Shift, Side, waits_for};
use crate::api::types::{ShiftRun, ShiftState};

/// New flows between two readings. Counters begin anew when the machine does.
fn grown(host: &str, before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> u64 {
    let of = |counts: &BTreeMap<String, u64>| counts.get(host).copied().unwrap_or(0);
    let (before, after) = (of(before), of(after));
    if after >= before { after - before } else { after }
}

/// How it stands; `from` and `to` are the hosts. What slots are like others know.
pub fn report(shift: &Shift, from: &[String], to: &[String], seen: &Seen, now: u64) -> ShiftRun {
    let until = shift.flows.end.as_ref().unwrap_or(&seen.flows);
    let sum = |hosts: &[String], since: &BTreeMap<String, u64>| -> u64 {
        hosts.iter().map(|host| grown(host, since, until)).sum()
    };
    let (to_step, from_step) = (sum(to, &shift.flows.step), sum(from, &shift.flows.step));
    let all = to_step + from_step;
    let state = match (&shift.course, shift.is_over()) {
        (Course::Done, _) => ShiftState::Done,
        (Course::Forward, _) => ShiftState::Running,
        (Course::Paused { .. }, _) => ShiftState::Paused,
        (Course::TakenBack { .. } | Course::Aborted { .. }, false) => ShiftState::Returning,
        (Course::TakenBack { .. }, true) => ShiftState::TakenBack,
        (Course::Aborted { .. }, true) => ShiftState::Aborted,
    };
    let because = |reason: &Option<String>| reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    let why = match &shift.course {
        Course::Forward | Course::Done => None,
        Course::Paused { by, reason, .. } => Some(format!("paused by {by}{}", because(reason))),
        Course::TakenBack { why } => Some(why.clone()),
        Course::Aborted { by, reason } => Some(format!("aborted by {by}{}", because(reason))),
    };
    ShiftRun {
        shift: shift.id,
        service: shift.service.clone(),
        from: named(&shift.from),
        to: named(&shift.to),
        from_hosts: from.to_vec(),
        to_hosts: to.to_vec(),
        state,
        why,
        waits_for: if shift.is_over() { None } else { waits_for(shift, seen, now) },
        by: shift.by.clone(),
        reason: shift.reason.clone(),
        started_at: shift.started_at,
        ended_at: shift.ended_at,
        expected_end: shift.expected_end(),
        steps: shift.steps.iter().map(|part| part.of_one()).collect(),
        step: shift.step,
        since: shift.since,
        every: shift.every,
        abort_if: shift.conditions.iter().enumerate().map(|(place, of)| of.shown(place)).collect(),
        wanted: shift.part().of_one(),
        slots: 0.0,
        measured: (all > 0).then(|| to_step as f64 / all as f64),
        new_flows: all,
        touched: sum(to, &shift.flows.start),
        begun: seen.step.to.begun,
        failed: seen.step.to.failed,
        as_of: now,
    }
}

/// As operators name them.
fn named(side: &Side) -> Vec<String> {
    side.0.iter().map(|word| word.strip_prefix('@').unwrap_or(word).to_owned()).collect()
}

/// The sides in words: `blue to green`.
pub fn words(shift: &Shift) -> String {
    format!("{} to {}", named(&shift.from).join(","), named(&shift.to).join(","))
}
