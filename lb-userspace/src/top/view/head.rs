//! The uppermost lines: who this is, how old the figures are, sums, and what must not be overlooked.

use std::time::Duration;

use ratatui::text::{Line, Span};

use crate::api::types::AdminState;
use crate::cli::render::number::{count, duration, exact, percent, plural, rate};
use crate::cli::render::text::{clean, cut};

use super::super::state::Top;
use super::paint::Paint;

/// Figures that are older than this, and than two looks, are old.
const FRESH: Duration = Duration::from_secs(5);
/// Lines of alarms.
const ALARMS: usize = 4;

pub fn lines(top: &Top) -> Vec<Line<'static>> {
    let paint = Paint::of(top);
    let width = usize::from(top.size.0);
    let mut lines = vec![first(top, width, paint), sums(top, width)];
    lines.extend(alarms(top, width, paint).into_iter().take(ALARMS));
    lines
}

/// The age stands at the right end, where nothing cuts it.
fn first(top: &Top, width: usize, paint: Paint) -> Line<'static> {
    let status = &top.look.status;
    let is_old = top.away.is_some() || top.age() > FRESH.max(top.settings.every.saturating_mul(2));
    let age = format!("as of {} ago", duration(top.age().as_secs()));
    let who = format!(
        "sluice {}, instance {}, up {}, revision {}",
        status.version,
        status.instance,
        duration(top.now.unix.saturating_sub(status.started_at)),
        status.revision
    );
    let room = width.saturating_sub(age.len() + 2);
    let who = cut(&clean(&who, top.settings.ascii), room);
    let gap = " ".repeat(width.saturating_sub(who.chars().count() + age.len()));
    let age = Span::styled(age, if is_old { paint.loud() } else { paint.dim() });
    Line::from(vec![Span::styled(who, paint.title()), Span::raw(gap), age])
}

fn sums(top: &Top, width: usize) -> Line<'static> {
    let hosts = top.hosts();
    let states = [
        (AdminState::Active, "active"),
        (AdminState::Draining, "draining"),
        (AdminState::Drained, "drained"),
        (AdminState::Disabled, "disabled"),
    ];
    let counts = states.map(|(state, name)| (top.count(state), name));
    let counts: Vec<String> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, name)| format!("{} {name}", exact(*n as u64)))
        .collect();
    let sum = |of: fn(&crate::api::types::Traffic) -> f64| hosts.iter().map(|host| of(&host.traffic)).sum();
    let (new, packets, bytes): (f64, f64, f64) = (
        sum(|traffic| traffic.new_flows_per_second),
        sum(|traffic| traffic.packets_per_second),
        sum(|traffic| traffic.bytes_per_second),
    );
    let table = &top.look.status.flow_table;
    let filled = if table.pins == 0 { 0.0 } else { table.live as f64 / table.pins as f64 };
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    let hosts = format!("{}: {counts}", plural(hosts.len() as u64, "host"));
    let figures = [
        format!("{} live", count(table.live)),
        format!("{} new/s", rate(new)),
        format!("{} pkt/s", rate(packets)),
        format!("{} B/s", rate(bytes)),
    ];
    Line::raw(fit(&hosts, &figures, &format!("table {} full", percent(filled)), width))
}

/// Whole figures, as many as there is room for; the last part is there in any case.
fn fit(first: &str, figures: &[String], last: &str, width: usize) -> String {
    let some = (1..=figures.len()).rev().map(|n| format!("{first}; {}; {last}", figures[..n].join(", ")));
    some.into_iter().find(|line| line.chars().count() <= width).unwrap_or_else(|| {
        let room = width.saturating_sub(last.chars().count() + 2);
        cut(&format!("{}; {last}", cut(first, room)), width)
    })
}

fn alarms(top: &Top, width: usize, paint: Paint) -> Vec<Line<'static>> {
    let status = &top.look.status;
    let line = |words: String| cut(&clean(&words, top.settings.ascii), width);
    let mut lines = Vec::new();
    if let Some(why) = &top.away {
        let words = format!("no answer for {}: {why}", duration(top.age().as_secs()));
        lines.push(Line::styled(line(words), paint.loud()));
    }
    for (name, n) in &status.violations {
        let words = format!("!!! CONTRACT VIOLATED: {name} is {} and must be 0", exact(*n));
        lines.push(Line::styled(line(words), paint.loud()));
    }
    match status.problems.as_slice() {
        [] => {}
        [one] => lines.push(Line::styled(line(format!("problem: {one}")), paint.warn())),
        [first, more @ ..] => {
            let words = format!("{} (3 shows them): {first}", plural(more.len() as u64 + 1, "problem"));
            lines.push(Line::styled(line(words), paint.warn()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_full_the_table_is_stands_there_however_narrow_it_is() {
        let figures = ["74 live", "25.0 new/s"].map(str::to_owned);
        for (width, expected) in [
            (80, "2 hosts: 2 active; 74 live, 25.0 new/s; table 9% full"),
            (53, "2 hosts: 2 active; 74 live, 25.0 new/s; table 9% full"),
            (52, "2 hosts: 2 active; 74 live; table 9% full"),
            (41, "2 hosts: 2 active; 74 live; table 9% full"),
            (40, "2 hosts: 2 active; table 9% full"),
            (30, "2 hosts: 2 act~; table 9% full"),
            (5, "~; t~"),
        ] {
            let line = fit("2 hosts: 2 active", &figures, "table 9% full", width);
            assert_eq!(line, expected, "{width}");
        }
    }
}
