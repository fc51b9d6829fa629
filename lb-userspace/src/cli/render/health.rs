//! What `sluice health` says.

use std::fmt::Write as _;

use crate::api::types::{
    CheckOutcome, CheckResult, CheckStatus, HealthReport, HealthTest, PassiveStatus, ServiceHealth,
};
use crate::cli::terminal::Style;
use crate::health::Oper;

use super::number::duration;
use super::text::{Align, Grid, clean, wrap};

use Align::{Left, Right};

const CHECKS: &[(&str, Align)] = &[
    ("HOST", Left),
    ("SERVICE", Left),
    ("STATE", Left),
    ("FOR", Right),
    ("LAST", Left),
    ("NEXT", Right),
    ("CHECK", Left),
    ("WHY", Left),
];

const PASSIVE: &[(&str, Align)] = &[
    ("HOST", Left),
    ("SERVICE", Left),
    ("CLIENTS SAY", Left),
    ("NEW", Right),
    ("UNANSWERED", Right),
    ("SYN AGAIN", Right),
    ("RESET", Right),
    ("ICMP", Right),
    ("WHY", Left),
];

/// All checks, and what services make of it. `is_one`: of one host, with all results.
pub fn report(report: &HealthReport, is_one: bool, style: Style) -> String {
    let now = crate::cli::now();
    let mut out = String::new();
    for service in report.services.iter().filter_map(words) {
        let _ = writeln!(out, "{}", wrap(&clean(&service, style.ascii), usize::from(style.width), 2));
    }
    if !report.passive.is_empty() {
        out += &passive(&report.passive, now, style);
    }
    if report.checks.is_empty() && !report.passive.is_empty() {
        return out;
    }
    if report.checks.is_empty() {
        out += "no checks: see [[services.checks]] in the config\n";
        return out;
    }
    let mut grid = Grid::new(CHECKS, style);
    for check in &report.checks {
        grid.row(row(check, now));
    }
    out += &grid.render();
    if is_one {
        for check in &report.checks {
            let title = format!("{} of {} for {}", check.check, check.host, check.service);
            let _ = writeln!(out, "\n{}", clean(&title, style.ascii));
            for result in &check.results {
                let ago = duration(now.saturating_sub(result.at));
                let _ = writeln!(out, "  {}", clean(&format!("{ago} ago: {}", one(result)), style.ascii));
            }
        }
    }
    out
}

/// How clients fare: of the last moments, as many as had flows enough of each host.
fn passive(states: &[PassiveStatus], now: u64, style: Style) -> String {
    let mut grid = Grid::new(PASSIVE, style);
    for of in states {
        let out_for = of.until.map(|until| duration(until.saturating_sub(now)));
        let state = match (of.oper, out_for) {
            (Oper::Down, Some(left)) => format!("DOWN for {left} more"),
            (Oper::Down, None) => "DOWN".to_owned(),
            _ if !of.suspected.is_empty() => "SUSPECTED".to_owned(),
            _ if of.new_flows == 0 => "too few flows".to_owned(),
            _ => "well".to_owned(),
        };
        let mut whys: Vec<String> = of.suspected.iter().map(|suspected| suspected.why.clone()).collect();
        whys.extend(of.doubt.iter().map(|doubt| format!("it stays in use: {doubt}")));
        if of.oper == Oper::Down {
            whys = vec![of.why.clone()];
        }
        grid.row([
            of.host.clone(),
            of.service.clone(),
            state,
            of.new_flows.to_string(),
            of.unanswered.to_string(),
            of.syns_again.to_string(),
            of.client_resets.to_string(),
            of.unreachables.to_string(),
            whys.join("; "),
        ]);
    }
    grid.render()
}

/// What is not usual about a service.
fn words(service: &ServiceHealth) -> Option<String> {
    let mut parts = Vec::new();
    if service.panic {
        parts.push("PANIC, so few hosts are up that all are used".to_owned());
    }
    if service.standby_in_use {
        parts.push("standby hosts are in use".to_owned());
    }
    let listed = [
        ("get no new flows", &service.ejected),
        ("are down and used all the same (max_ejected)", &service.spared),
        ("stand by", &service.waiting),
    ];
    for (what, hosts) in listed.into_iter().filter(|(_, hosts)| !hosts.is_empty()) {
        parts.push(format!("{} {what}", hosts.join(", ")));
    }
    (!parts.is_empty()).then(|| format!("{}: {}", service.service, parts.join("; ")))
}

fn row(check: &CheckStatus, now: u64) -> [String; 8] {
    let state = match (check.oper, check.held_until) {
        (Oper::Unknown, _) => "unknown".to_owned(),
        (Oper::Up, _) => "up".to_owned(),
        (Oper::Down, None) => "DOWN".to_owned(),
        (Oper::Down, Some(until)) => format!("DOWN, held for {}", duration(until.saturating_sub(now))),
    };
    // The latest last, as a line of time.
    let last = check.results.iter().rev().map(|result| match result.outcome {
        CheckOutcome::Ok => '+',
        CheckOutcome::Failed => 'x',
        CheckOutcome::NotRun => '?',
    });
    [
        check.host.clone(),
        check.service.clone(),
        state,
        check.since.map_or_else(|| "-".to_owned(), |since| duration(now.saturating_sub(since))),
        last.collect(),
        check.next_in.map_or_else(|| "now".to_owned(), |seconds| format!("{seconds:.1}s")),
        check.check.clone(),
        check.results.first().map_or_else(|| check.why.clone(), |result| result.why.clone()),
    ]
}

fn one(result: &CheckResult) -> String {
    let outcome = match result.outcome {
        CheckOutcome::Ok => "well",
        CheckOutcome::Failed => "failed",
        CheckOutcome::NotRun => "not asked",
    };
    format!("{outcome} in {:.1} ms: {}", result.took_ms, result.why)
}

/// A test, step by step.
pub fn test(test: &HealthTest, host: &str, vip: bool, style: Style) -> String {
    if test.checks.is_empty() {
        let what = if vip {
            "is in no service whose VIP can be asked: one of TCP, or with a check of UDP"
        } else {
            "has no checks"
        };
        return clean(&format!("{host} {what}"), style.ascii) + "\n";
    }
    let mut out = String::new();
    for check in &test.checks {
        let _ = writeln!(out, "{}", clean(&format!("{} for {}", check.check, check.service), style.ascii));
        for step in &check.steps {
            let _ = writeln!(
                out,
                "{}",
                clean(&format!("{:>10.1} ms  {}", step.after_ms, step.what), style.ascii)
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{CheckStep, TestedCheck};

    fn result(at: u64, outcome: CheckOutcome, why: &str) -> CheckResult {
        CheckResult { at, outcome, why: why.to_owned(), took_ms: 0.52 }
    }

    #[test]
    fn checks_and_what_follows_from_them() {
        let now = crate::cli::now();
        let check = CheckStatus {
            service: "web".to_owned(),
            host: "web-3".to_owned(),
            check: "tcp :80".to_owned(),
            oper: Oper::Down,
            since: Some(now - 5),
            why: "refused".to_owned(),
            streak: 2,
            held_until: None,
            next_in: Some(0.25),
            results: vec![
                result(now, CheckOutcome::Failed, "refused\u{1b}"),
                result(now - 1, CheckOutcome::Ok, "connected"),
            ],
        };
        let service = ServiceHealth {
            service: "web".to_owned(),
            up: Vec::new(),
            down: vec!["web-3".to_owned()],
            unknown: Vec::new(),
            panic: false,
            standby_in_use: false,
            ejected: vec!["web-3".to_owned()],
            spared: Vec::new(),
            waiting: Vec::new(),
        };
        let report = HealthReport { checks: vec![check], services: vec![service], passive: Vec::new() };
        let text = super::report(&report, false, Style::PLAIN);
        assert!(text.starts_with("web: web-3 get no new flows\n"), "{text}");
        assert!(text.contains("web-3") && text.contains("DOWN") && text.contains("+x"), "{text}");
        assert!(text.contains("0.2s") && text.contains("refused\\u{1b}"), "{text}");
        let text = super::report(&report, true, Style::PLAIN);
        assert!(text.contains("1s ago: well in 0.5 ms: connected\n"), "{text}");
    }

    #[test]
    fn each_step_of_a_test_is_a_line() {
        let check = TestedCheck {
            service: "web".to_owned(),
            host: "web-3".to_owned(),
            check: "tcp :80".to_owned(),
            result: result(5, CheckOutcome::Ok, "connected"),
            steps: vec![CheckStep { after_ms: 0.04, what: "connecting".to_owned() }],
        };
        let test = HealthTest { checks: vec![check] };
        let text = super::test(&test, "web-3", false, Style::PLAIN);
        assert_eq!(text, "tcp :80 for web\n       0.0 ms  connecting\n");
        let none = |vip| super::test(&HealthTest { checks: vec![] }, "x", vip, Style::PLAIN);
        assert_eq!(
            (none(false), none(true)),
            (
                "x has no checks\n".to_owned(),
                "x is in no service whose VIP can be asked: one of TCP, or with a check of UDP\n".to_owned()
            )
        );
    }
}
