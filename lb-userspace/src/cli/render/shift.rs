//! Shifts: the split wanted, that of the slots, and that which was measured.

use std::fmt::Write as _;

use crate::api::types::{ShiftRun, ShiftState};
use crate::cli::terminal::Style;

use super::number::{duration, exact, percent, plural};
use super::text::{clean, cut, wrap};

/// `web: 10.0% from blue to green wanted, 10.2% of the slots, 9.8% of 1,234 new flows`
pub fn split(shift: &ShiftRun) -> String {
    let measured = match shift.measured {
        Some(part) => format!("{} of {}", percent(part), plural(shift.new_flows, "new flow")),
        None => "no new flow yet".to_owned(),
    };
    format!(
        "{}: {} from {} to {} wanted, {} of the slots, {measured}",
        shift.service,
        percent(shift.wanted),
        shift.from.join(","),
        shift.to.join(","),
        percent(shift.slots),
    )
}

/// `shift 3: step 2 of 4; web: …; about 4m00s to go`
pub fn line(shift: &ShiftRun, style: Style) -> String {
    let mut line =
        format!("shift {}: step {} of {}; {}", shift.shift, shift.step + 1, shift.steps.len(), split(shift));
    if let Some(end) = shift.expected_end {
        let _ = write!(line, "; about {} to go", duration(end.saturating_sub(shift.as_of)));
    }
    if let Some(what) = &shift.waits_for {
        let _ = write!(line, "; waits for {what}");
    }
    cut(&clean(&line, style.ascii), usize::from(style.width).saturating_sub(1))
}

/// How it stands, as a whole.
pub fn shift(shift: &ShiftRun, style: Style) -> String {
    let (red, green, yellow, off) =
        if style.control { ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m") } else { ("", "", "", "") };
    let colour = match shift.state {
        ShiftState::Done => green,
        ShiftState::TakenBack | ShiftState::Returning => red,
        ShiftState::Paused | ShiftState::Aborted => yellow,
        ShiftState::Running => "",
    };
    let reason = shift.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let took = shift.ended_at.unwrap_or(shift.as_of).saturating_sub(shift.started_at);
    let time = if shift.ended_at.is_some() { "in" } else { "for" };
    let state = shift.state.name().replace('_', " ");
    let mut out = format!(
        "shift {}: {colour}{state}{off} {time} {} (by {})\n",
        shift.shift,
        duration(took),
        clean(&format!("{}{reason}", shift.by), style.ascii),
    );
    let mut say = |text: &str| {
        out.push_str(&wrap(&clean(text, style.ascii), usize::from(style.width), 2));
        out.push('\n');
    };
    say(&split(shift));
    let step = |(index, part): (usize, &f64)| {
        if index == shift.step { format!("[{}]", percent(*part)) } else { percent(*part) }
    };
    let steps: Vec<String> = shift.steps.iter().enumerate().map(step).collect();
    say(&format!("steps {}, {} each", steps.join(" "), duration(shift.every)));
    if let Some(end) = shift.expected_end {
        say(&format!("expected end: in {}", duration(end.saturating_sub(shift.as_of))));
    }
    if shift.touched > 0 {
        say(&format!("{} went to {} since it began", plural(shift.touched, "new flow"), shift.to.join(",")));
    }
    for condition in &shift.abort_if {
        let seen = match condition.starts_with("errors") {
            true => format!(" ({} of {} so far)", exact(shift.failed), exact(shift.begun)),
            false => String::new(),
        };
        say(&format!("taken back if {condition}{seen}"));
    }
    for (what, why) in [("", &shift.why), ("waits for ", &shift.waits_for)] {
        if let Some(why) = why {
            say(&format!("{what}{why}"));
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn some() -> ShiftRun {
        ShiftRun {
            shift: 3,
            service: "web".to_owned(),
            from: vec!["blue".to_owned()],
            to: vec!["green".to_owned()],
            from_hosts: vec!["b1".to_owned()],
            to_hosts: vec!["g1".to_owned()],
            state: ShiftState::Running,
            why: None,
            waits_for: Some("all to be well: g1: status 500".to_owned()),
            by: "ann".to_owned(),
            reason: Some("release".to_owned()),
            started_at: 10,
            ended_at: None,
            expected_end: Some(400),
            steps: vec![0.01, 0.1, 1.0],
            step: 1,
            since: 130,
            every: 120,
            abort_if: vec!["errors > 1%".to_owned()],
            wanted: 0.1,
            slots: 0.102,
            measured: Some(0.098),
            new_flows: 1234,
            touched: 130,
            begun: 121,
            failed: 1,
            as_of: 160,
        }
    }

    #[test]
    fn it_is_told_what_is_wanted_and_what_was_measured() {
        let expected = "\
shift 3: running for 2m30s (by ann: release)
web: 10.0% from blue to green wanted, 10.2% of the slots, 9.8% of 1,234 new flows
steps 1.0% [10.0%] 100%, 2m00s each
expected end: in 4m00s
130 new flows went to green since it began
taken back if errors > 1% (1 of 121 so far)
waits for all to be well: g1: status 500
";
        assert_eq!(shift(&some(), Style::PLAIN), expected);
        assert!(line(&some(), Style::PLAIN).starts_with("shift 3: step 2 of 3; web: 10.0% from blue"));
    }
}
