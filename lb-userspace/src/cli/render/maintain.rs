//! Maintenance runs: plans, how far they are, and what they did.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use crate::api::types::{HostStep, MaintainHost, MaintainPlan, MaintainRun, OnFailure, RunState};
use crate::cli::terminal::Style;

use super::number::{duration, exact, plural};
use super::text::{Align, Grid, clean, cut, wrap};

use Align::{Left, Right};

const HOSTS: &[(&str, Align)] =
    &[("HOST", Left), ("ZONE", Left), ("STEP", Left), ("FOR", Right), ("TOOK", Right), ("FLOWS", Right)];
const PLANNED: &[(&str, Align)] = &[("TURN", Right), ("HOST", Left), ("ZONE", Left), ("FLOWS", Right)];

/// Columns of the bar.
const BAR: usize = 20;

pub fn plan(plan: &MaintainPlan, style: Style) -> String {
    let mut out = format!(
        "{}: {}, {} at once; if one fails, {}\n",
        clean(&plan.name, style.ascii),
        plural(plan.hosts.len() as u64, "host"),
        plan.at_once,
        match plan.on_failure {
            OnFailure::Stop => "it stays as it is and the run ends",
            OnFailure::Rollback => "it is rolled back and the run ends",
        }
    );
    let mut grid = Grid::new(PLANNED, style);
    for (index, host) in plan.hosts.iter().enumerate() {
        let zone = host.zone.clone().unwrap_or_else(|| "-".to_owned());
        grid.row([(index + 1).to_string(), host.host.clone(), zone, exact(host.live_flows)]);
    }
    out.push_str(&grid.render());
    let wait = plan.opens_at.saturating_sub(plan.as_of);
    if wait > 0 {
        let _ = writeln!(out, "its first window opens in {}", duration(wait));
    } else if let Some(what) = &plan.waits_for {
        let _ = writeln!(out, "now it would wait for {}", clean(what, style.ascii));
    }
    for note in &plan.notes {
        out.push_str(&wrap(&clean(note, style.ascii), usize::from(style.width), 2));
        out.push('\n');
    }
    out
}

pub fn began(run: &MaintainRun, command: &str, style: Style) -> String {
    format!(
        "run {} ({}): {}; `{command} maintain status {}` shows how far it is\n",
        run.run,
        clean(&run.name, style.ascii),
        plural(run.hosts.len() as u64, "host"),
        run.run
    )
}

/// `run 3: 5 of 8 done, web-6 proving 12s; done in about 3m10s`
pub fn line(run: &MaintainRun, style: Style) -> String {
    let in_work = run.hosts.iter().filter(|host| host.step.is_in_work()).map(|host| {
        let back = if host.is_back { " (back)" } else { "" };
        let flows = match host.step {
            HostStep::Draining => format!(", {}", plural(host.live_flows, "flow")),
            _ => String::new(),
        };
        format!(
            "{} {}{back} {}{flows}",
            host.host,
            host.step.name(),
            duration(run.as_of.saturating_sub(host.since))
        )
    });
    let mut line = format!("run {}: {} of {} done", run.run, run.done, run.hosts.len());
    for host in in_work {
        let _ = write!(line, ", {host}");
    }
    if let Some(end) = run.expected_end {
        let _ = write!(line, "; about {} to go", duration(end.saturating_sub(run.as_of)));
    }
    if let Some(what) = &run.waits_for {
        let _ = write!(line, "; waits for {what}");
    }
    cut(&clean(&line, style.ascii), usize::from(style.width).saturating_sub(1))
}

/// How far a run is.
pub fn status(run: &MaintainRun, style: Style) -> String {
    let (red, green, yellow, off) =
        if style.control { ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m") } else { ("", "", "", "") };
    let colour = match run.state {
        RunState::Done => green,
        RunState::Failed | RunState::Ending => red,
        RunState::Paused | RunState::Aborted => yellow,
        RunState::Running => "",
    };
    let reason = run.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let took = run.ended_at.unwrap_or(run.as_of).saturating_sub(run.started_at);
    let time = if run.ended_at.is_some() { "in" } else { "for" };
    let mut out = format!(
        "run {} ({}): {colour}{}{off} {time} {} (by {})\n",
        run.run,
        clean(&run.name, style.ascii),
        run.state.name(),
        duration(took),
        clean(&format!("{}{reason}", run.by), style.ascii),
    );
    let filled = BAR * run.done / run.hosts.len().max(1);
    let parts = [
        (run.done, "done"),
        (run.in_work, "in work"),
        (run.waiting, "waiting"),
        (run.returned, "returned"),
        (run.failed, "failed"),
        (run.untouched, "untouched"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let _ = writeln!(
        out,
        "[{}{}] {}",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        parts.collect::<Vec<_>>().join(", ")
    );
    if let Some(end) = run.expected_end {
        let _ = writeln!(out, "expected end: in {}", duration(end.saturating_sub(run.as_of)));
    }
    for (what, why) in [("", &run.why), ("waits for ", &run.waits_for)] {
        if let Some(why) = why {
            out.push_str(&wrap(&clean(&format!("{what}{why}"), style.ascii), usize::from(style.width), 2));
            out.push('\n');
        }
    }
    let mut grid = Grid::new(HOSTS, style);
    for host in &run.hosts {
        let back = if host.is_back && host.step.is_in_work() { " (back)" } else { "" };
        let lasts = host.step.is_in_work();
        let since = if lasts { duration(run.as_of.saturating_sub(host.since)) } else { "-".to_owned() };
        grid.row([
            host.host.clone(),
            host.zone.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{}{back}", host.step.name()),
            since,
            took_of(host).map_or_else(|| "-".to_owned(), duration),
            exact(host.live_flows),
        ]);
    }
    out + &grid.render()
}

/// From its first step to the last that is over.
fn took_of(host: &MaintainHost) -> Option<u64> {
    Some(host.steps.last()?.ended.saturating_sub(host.steps.first()?.began))
}

/// All that a run did.
pub fn report(run: &MaintainRun, style: Style) -> String {
    let mut out = status(run, style);
    let words = |text: &str| clean(text, style.ascii);
    for host in run.hosts.iter().filter(|host| !host.steps.is_empty()) {
        let _ = writeln!(out, "\n{}: {}", words(&host.host), host.step.name());
        for step in &host.steps {
            let back = if step.is_back { " (back)" } else { "" };
            let took = duration(step.ended.saturating_sub(step.began));
            let _ = writeln!(out, "  {} {}{back} {took}", time(step.began), step.step.name());
        }
        for receipt in &host.receipts {
            let ended = receipt.ended_at.saturating_sub(receipt.started_at);
            let _ = writeln!(
                out,
                "  drain {}: {} in {}; {} at the start, {} ended, {} moved, {} reset, {} silent, {} new, {} misrouted",
                receipt.drain,
                receipt.outcome.name(),
                duration(ended),
                plural(receipt.flows_at_start, "flow"),
                exact(receipt.ended),
                exact(receipt.moved),
                exact(receipt.reset),
                exact(receipt.silent),
                exact(receipt.new_flows),
                exact(receipt.misrouted),
            );
        }
        for job in &host.jobs {
            let end = job.failure.clone().unwrap_or_else(|| "succeeded".to_owned());
            let took = duration(job.ended.saturating_sub(job.began));
            let _ = writeln!(out, "  {} ({}): {} in {took}", job.step, words(&job.id), words(&end));
            for line in job.output.lines() {
                let _ = writeln!(out, "    | {}", words(line));
            }
        }
        for failure in &host.failures {
            let _ = writeln!(out, "  failed: {}", words(failure));
        }
    }
    out
}

fn time(unix: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(unix)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(at).to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::types::{JobReport, StepTime};

    fn host(name: &str, step: HostStep) -> MaintainHost {
        let past = |step, began, ended| StepTime { step, is_back: false, began, ended };
        MaintainHost {
            host: name.to_owned(),
            zone: None,
            step,
            since: 90,
            is_back: false,
            failures: Vec::new(),
            live_flows: 7,
            steps: vec![past(HostStep::Draining, 10, 20), past(HostStep::Working, 20, 25)],
            jobs: vec![JobReport {
                id: "run-3.a.run".to_owned(),
                step: "run".to_owned(),
                began: 20,
                ended: 25,
                failure: Some("exit status 1".to_owned()),
                output: "no\u{1b}room\n".to_owned(),
            }],
            drains: vec![4],
            receipts: Vec::new(),
        }
    }

    pub(crate) fn some() -> MaintainRun {
        MaintainRun {
            run: 3,
            name: "nginx".to_owned(),
            state: RunState::Ending,
            by: "ann".to_owned(),
            reason: None,
            started_at: 10,
            ended_at: None,
            why: Some("b: run: exit status 1".to_owned()),
            waits_for: None,
            done: 1,
            in_work: 1,
            waiting: 0,
            returned: 0,
            failed: 0,
            untouched: 0,
            expected_end: Some(160),
            hosts: vec![
                host("a", HostStep::Done),
                MaintainHost { is_back: true, ..host("b", HostStep::Proving) },
            ],
            as_of: 100,
        }
    }

    #[test]
    fn how_far_it_is() {
        assert_eq!(
            line(&some(), Style::PLAIN),
            "run 3: 1 of 2 done, b proving (back) 10s; about 1m00s to go"
        );
        let expected = "\
run 3 (nginx): ending for 1m30s (by ann)
[##########..........] 1 done, 1 in work
expected end: in 1m00s
b: run: exit status 1
HOST  ZONE  STEP            FOR  TOOK  FLOWS
a     -     done              -   15s      7
b     -     proving (back)  10s   15s      7
";
        assert_eq!(status(&some(), Style::PLAIN), expected);
    }

    #[test]
    fn a_report_shows_what_commands_wrote_and_no_control_codes() {
        let text = report(&some(), Style::PLAIN);
        assert!(text.contains("  1970-01-01T00:00:10Z draining 10s\n"), "{text}");
        assert!(text.contains("  run (run-3.a.run): exit status 1 in 5s\n    | no\\u{1b}room\n"), "{text}");
    }
}
