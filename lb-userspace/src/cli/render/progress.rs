//! How far a drain is: when it will be done, and what it waits for.

use std::fmt::Write as _;

use crate::api::types::{DrainStatus, Flow, Progress};
use crate::cli::terminal::Style;

use super::drain::{bar, bounds, phases};
use super::number::{duration, exact, plural, rate};
use super::text::{Align, Grid, clean, wrap};

use Align::{Left, Right};

const BLOCKERS: &[(&str, Align)] =
    &[("CLIENT", Left), ("VIP", Left), ("SERVICE", Left), ("PHASE", Left), ("AGE", Right), ("IDLE", Right)];

/// `p90 in 4m12s`; nothing where no flow is left.
pub fn short(drain: &DrainStatus) -> Option<String> {
    let progress = drain.progress.as_ref().filter(|_| drain.live_flows.total > 0)?;
    Some(match progress.expected_end.p90 {
        Some(p90) => format!("p90 in {}", duration(p90)),
        None => "expected end not known yet".to_owned(),
    })
}

/// `expected end: p50 in 20s, p90 in 4m12s, p99 not known`.
pub fn expected(progress: &Progress) -> String {
    let end = progress.expected_end;
    let all = [("p50", end.p50), ("p90", end.p90), ("p99", end.p99)];
    if all.iter().all(|(_, seconds)| seconds.is_none()) {
        return format!(
            "expected end not known yet: {} ended within the last hour, {} of which too little is known",
            plural(end.measured, "flow"),
            plural(end.unknown, "live flow")
        );
    }
    let known = all.map(|(name, seconds)| match seconds {
        Some(seconds) => format!("{name} in {}", duration(seconds)),
        None => format!("{name} not known"),
    });
    format!("expected end: {}", known.join(", "))
}

/// The flows that a drain waits for, a line each.
pub fn blockers(flows: &[Flow], style: Style) -> String {
    let mut grid = Grid::new(BLOCKERS, style);
    for flow in flows {
        grid.row([
            flow.client.clone(),
            flow.vip.clone(),
            flow.service.clone(),
            flow.phase.clone(),
            duration(flow.age),
            duration(flow.idle),
        ]);
    }
    if grid.is_empty() { String::new() } else { grid.render() }
}

/// Drains in force, a paragraph each; `now` is in Unix seconds.
pub fn drains(drains: &[DrainStatus], now: u64, style: Style) -> String {
    if drains.is_empty() {
        return "no host is out\n".to_owned();
    }
    drains.iter().map(|drain| whole(drain, now, style)).collect::<Vec<_>>().join("\n")
}

/// All that is known of a drain.
fn whole(drain: &DrainStatus, now: u64, style: Style) -> String {
    let mut out = String::new();
    let mut say = |text: &str| {
        out += &wrap(&clean(text, style.ascii), usize::from(style.width), 2);
        out.push('\n');
    };
    let mut head = format!(
        "{}: {} (drain {}, by {}), for {}",
        drain.target(),
        drain.state,
        drain.id,
        drain.by,
        duration(now.saturating_sub(drain.started_at))
    );
    if let Some(reason) = &drain.reason {
        let _ = write!(head, ": {reason}");
    }
    say(&head);
    let live = drain.live_flows;
    if drain.state == "draining" {
        let least = if live.hidden { "at least " } else { "" };
        let mut flows = format!(
            "{} {least}{} of {} live",
            bar(live.total, drain.flows_at_start),
            exact(live.total),
            exact(drain.flows_at_start)
        );
        let named = phases(live);
        if !named.is_empty() {
            let _ = write!(flows, ": {named}");
        }
        if let Some(progress) = &drain.progress {
            let _ = write!(flows, "; {} idle, {} ended", exact(progress.idle), exact(progress.ended));
        }
        say(&flows);
    }
    if let Some(progress) = &drain.progress {
        say(&format!(
            "{} packets/s, {} bytes/s",
            rate(progress.packets_per_second),
            rate(progress.bytes_per_second)
        ));
        if live.total > 0 {
            say(&expected(progress));
        }
    }
    if let Some(bounds) = bounds(drain) {
        say(&bounds);
    }
    if let Some(why) = drain.waiting_for.as_ref().filter(|_| live.total == 0) {
        say(&format!("waiting for: {why}"));
    }
    let flows = drain.progress.as_ref().and_then(|progress| progress.blockers.as_deref());
    if let Some(flows) = flows.filter(|flows| !flows.is_empty()) {
        say(&format!(
            "the oldest {}:",
            if flows.len() == 1 { "flow".to_owned() } else { format!("{} flows", flows.len()) }
        ));
        out += &blockers(flows, style);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ExpectedEnd, Outcome};
    use crate::cli::render::fixtures::{NOW, draining, ended, progress};

    #[test]
    fn what_is_expected_and_what_is_not_known() {
        let mut drain = draining(7, "web-1", 37);
        assert_eq!(short(&drain), None);
        drain.progress = Some(progress(2));
        assert_eq!(short(&drain).unwrap(), "p90 in 4m12s");
        let known = drain.progress.as_mut().unwrap();
        assert_eq!(expected(known), "expected end: p50 in 20s, p90 in 4m12s, p99 in 15m00s");
        known.expected_end.p99 = None;
        assert_eq!(expected(known), "expected end: p50 in 20s, p90 in 4m12s, p99 not known");
        known.expected_end = ExpectedEnd { measured: 12, unknown: 37, ..ExpectedEnd::default() };
        assert_eq!(
            expected(known),
            "expected end not known yet: 12 flows ended within the last hour, 37 live flows of which too little is known"
        );
        assert_eq!(short(&drain).unwrap(), "expected end not known yet");
        drain.live_flows.total = 0;
        assert_eq!(short(&drain), None);
    }

    #[test]
    fn a_drain_reads_like_this() {
        let mut drain = draining(7, "web-1", 37);
        drain.progress = Some(progress(2));
        let done = ended(6, "web-2", Outcome::Drained, 0);
        assert_eq!(
            drains(&[drain, done], NOW, Style::PLAIN),
            "\
web-1: draining (drain 7, by alice), for 3m07s: kernel update
[#############.......] 37 of 120 live: 30 established, 7 closing; 4 idle, 83 ended
1.20k packets/s, 98.0k bytes/s
expected end: p50 in 20s, p90 in 4m12s, p99 in 15m00s
the oldest 2 flows:
CLIENT              VIP             SERVICE  PHASE          AGE  IDLE
198.51.100.7:50000  192.0.2.10:443  web      established  2h05m    3s
198.51.100.7:50001  192.0.2.10:443  web      established  2h05m    3s

web-2: drained (drain 6, by alice), for 3m07s: kernel update
"
        );
        assert_eq!(drains(&[], NOW, Style::PLAIN), "no host is out\n");
    }
}
