//! Receipts: a line each, or one as a whole.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use crate::api::types::{AtDeadline, Outcome, Receipt};
use crate::cli::terminal::Style;

use super::number::{count, duration, exact, memory, plural, rate};
use super::text::{Align, Grid, clean, wrap};

use Align::{Left, Right};

const RECEIPTS: &[(&str, Align)] = &[
    ("ID", Right),
    ("HOST", Left),
    ("OUTCOME", Left),
    ("AGO", Right),
    ("TOOK", Right),
    ("FLOWS", Right),
    ("ENDED", Right),
    ("MOVED", Right),
    ("RESET", Right),
    ("SILENT", Right),
    ("LEFT", Right),
    ("BY", Left),
];

/// One line a drain; `now` is in Unix seconds.
pub fn table(receipts: &[Receipt], now: u64, style: Style) -> String {
    if receipts.is_empty() {
        return "no drain is over yet\n".to_owned();
    }
    let mut grid = Grid::new(RECEIPTS, style);
    for r in receipts {
        grid.row([
            r.drain.to_string(),
            r.target().to_string(),
            r.outcome.name().to_owned(),
            duration(now.saturating_sub(r.ended_at)),
            took(r),
            count(r.flows_at_start),
            count(r.ended),
            count(r.moved),
            count(r.reset),
            count(r.silent),
            count(r.left),
            r.by.clone(),
        ]);
    }
    let mut out = grid.render();
    for receipt in receipts {
        out += &violations(receipt, style);
    }
    out
}

/// All that a receipt says.
pub fn whole(r: &Receipt, style: Style) -> String {
    let mut out = String::new();
    let mut say = |text: &str| {
        out += &wrap(&clean(text, style.ascii), usize::from(style.width), 2);
        out.push('\n');
    };
    say(&format!("drain {} of {}: {}", r.drain, r.target(), ending(r)));
    let reason = r.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    say(&format!("by {}{reason}", r.by));
    let mut times = format!("from {} to {}", moment(r.started_at), moment(r.ended_at));
    if r.generation > 0 {
        let _ = write!(times, ", from generation {} on", r.generation);
    }
    say(&times);
    if let Some(deadline) = r.order.deadline {
        let spread = match r.order.spread {
            0 => String::new(),
            seconds => format!(", over {}", duration(seconds.into())),
        };
        say(&format!("deadline {}: {}{spread}", moment(deadline), action(r.order.at_deadline)));
    }
    if let Some(share) = r.order.share {
        say(&format!("of {share}% of its slots, and the flows in them"));
    }
    if let Some(lease) = r.order.lease {
        say(&format!("lease until {}", moment(lease)));
    }
    say("");
    let rows = [
        (r.flows_at_start, "live at the start", true),
        (r.appeared, "more appeared, whose pin had been evicted or lost", false),
        (r.ended, "ended by themselves", true),
        (r.moved, "moved to another host at the deadline", false),
        (r.reset, "reset", false),
        (r.silent, "silent after the deadline, and ended", false),
        (r.kicked, "kicked by an operator", false),
        (r.evicted, "lost their pin because the flow table was full", false),
        (r.left, "left", r.outcome.is_taken_back()),
    ];
    let rows: Vec<_> = rows.iter().filter(|(n, _, always)| *n > 0 || *always).collect();
    let width = rows.iter().map(|(n, ..)| exact(*n).len()).max().unwrap_or(0);
    for (n, what, _) in rows {
        say(&format!("{:>width$} {} {what}", exact(*n), if *n == 1 { "flow" } else { "flows" }));
    }
    say("");
    if r.unconfirmed > 0 {
        say(&format!("the host could not be told of {}", plural(r.unconfirmed, "reset")));
    }
    say(&format!(
        "{} and {} since, {} and {}/s",
        plural(r.packets, "packet"),
        memory(r.bytes),
        format_args!("{} packets/s", rate(r.packets_per_second)),
        memory(r.bytes_per_second.max(0.0) as u64)
    ));
    if let Some(durations) = r.durations {
        say(&format!(
            "of the flows that ended half had lasted for up to {}, 99 of 100 for up to {}",
            duration(durations.p50),
            duration(durations.p99)
        ));
    }
    say(&format!(
        "{} and {} since: both must be 0",
        plural(r.new_flows, "new flow"),
        plural(r.misrouted, "misrouted packet")
    ));
    out + &violations(r, style)
}

/// How the drain ended, and how long it took.
pub fn ending(r: &Receipt) -> String {
    let took = took(r);
    match r.outcome {
        Outcome::Drained => format!("drained in {took}"),
        Outcome::Moved => format!("drained in {took}, flows were moved to other hosts"),
        Outcome::Reset => format!("drained in {took}, flows were reset"),
        Outcome::Undrained => format!("the drain was taken back after {took}"),
        Outcome::LeaseOver => format!("the lease ran out after {took}"),
    }
}

fn took(r: &Receipt) -> String {
    duration(r.ended_at.saturating_sub(r.started_at))
}

/// The flows that did not end by themselves, `3 reset, 2 silent`; `None` if there were none.
pub fn not_by_themselves(r: &Receipt) -> Option<String> {
    let causes = [
        (r.moved, "moved"),
        (r.reset, "reset"),
        (r.silent, "silent after the deadline, and ended"),
        (r.kicked, "kicked"),
    ];
    let named: Vec<_> =
        causes.iter().filter(|(n, _)| *n > 0).map(|(n, cause)| format!("{} {cause}", exact(*n))).collect();
    (!named.is_empty()).then(|| named.join(", "))
}

pub fn action(at_deadline: AtDeadline) -> &'static str {
    match at_deadline {
        AtDeadline::Keep => "keep",
        AtDeadline::Move => "move",
        AtDeadline::Reset => "reset",
    }
}

/// Loud lines for what the contract rules out; empty on a sound receipt.
pub fn violations(r: &Receipt, style: Style) -> String {
    let (loud, off) = if style.control { ("\x1b[1;37;41m", "\x1b[0m") } else { ("", "") };
    let host = clean(&r.target().to_string(), style.ascii);
    let mut out = String::new();
    for (n, what) in [(r.new_flows, "new flow"), (r.misrouted, "misrouted packet")] {
        if n > 0 {
            let _ =
                writeln!(out, "{loud}!!! {host}: {} during the drain; this must be 0{off}", plural(n, what));
        }
    }
    for (name, n) in &r.violations {
        let name = clean(name, style.ascii);
        let _ = writeln!(
            out,
            "{loud}!!! {host}: {name} grew by {} during the drain; this must be 0{off}",
            exact(*n)
        );
    }
    out
}

/// A Unix time as UTC.
pub fn moment(unix: u64) -> String {
    // The last second of the year 9999.
    const LAST: u64 = 253_402_300_799;
    match unix {
        0..=LAST => humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix)).to_string(),
        _ => unix.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Order, Percentiles};
    use crate::cli::render::fixtures::{NOW, ended};

    fn of(outcome: Outcome, left: u64) -> Receipt {
        ended(7, "web-1", outcome, left).receipt.unwrap()
    }

    #[test]
    fn a_line_each() {
        let undrained = Receipt { drain: 6, ..of(Outcome::Undrained, 37) };
        let reset = Receipt { ended: 100, reset: 18, silent: 2, ..of(Outcome::Reset, 0) };
        assert_eq!(
            table(&[reset, undrained], NOW + 60, Style::PLAIN),
            "\
ID  HOST   OUTCOME      AGO   TOOK  FLOWS  ENDED  MOVED  RESET  SILENT  LEFT  BY
 7  web-1  reset      1m00s  3m07s    120    100      0     18       2     0  alice
 6  web-1  undrained  1m00s  3m07s    120     83      0      0       0    37  alice
"
        );
        assert_eq!(table(&[], NOW, Style::PLAIN), "no drain is over yet\n");
    }

    #[test]
    fn the_whole_in_words() {
        let order = Order {
            deadline: Some(NOW - 7),
            at_deadline: AtDeadline::Reset,
            spread: 3,
            lease: Some(NOW + 7200),
            ..Order::default()
        };
        let receipt = Receipt {
            generation: 12,
            order,
            appeared: 1,
            ended: 101,
            reset: 18,
            silent: 2,
            unconfirmed: 1,
            durations: Some(Percentiles { p50: 3, p99: 140 }),
            ..of(Outcome::Reset, 0)
        };
        assert_eq!(
            whole(&receipt, Style::PLAIN),
            "\
drain 7 of web-1: drained in 3m07s, flows were reset
by alice: kernel update
from 2027-01-15T07:56:53Z to 2027-01-15T08:00:00Z, from generation 12 on
deadline 2027-01-15T07:59:53Z: reset, over 3s
lease until 2027-01-15T10:00:00Z

120 flows live at the start
  1 flow more appeared, whose pin had been evicted or lost
101 flows ended by themselves
 18 flows reset
  2 flows silent after the deadline, and ended

the host could not be told of 1 reset
48,620 packets and 29.6 MiB since, 260 packets/s and 161.9 KiB/s
of the flows that ended half had lasted for up to 3s, 99 of 100 for up to 2m20s
0 new flows and 0 misrouted packets since: both must be 0
"
        );
    }

    #[test]
    fn what_must_not_be_is_loud() {
        let violations = [("violation_x".to_owned(), 3)].into();
        let bad = Receipt { misrouted: 1, violations, ..of(Outcome::LeaseOver, 4) };
        let text = whole(&bad, Style::PLAIN);
        assert!(text.starts_with("drain 7 of web-1: the lease ran out after 3m07s\n"), "{text}");
        assert!(text.contains("\n  4 flows left\n"), "{text}");
        assert!(
            text.ends_with(
                "!!! web-1: 1 misrouted packet during the drain; this must be 0\n\
                 !!! web-1: violation_x grew by 3 during the drain; this must be 0\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn times_that_cannot_be_are_numbers() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn kicked_flows_did_not_end_by_themselves() {
        let kicked = Receipt { ended: 100, kicked: 20, ..of(Outcome::Reset, 0) };
        assert_eq!(not_by_themselves(&kicked).as_deref(), Some("20 kicked"));
        let each =
            Receipt { moved: 1, reset: 2, silent: 4, kicked: 8, ended: 16, evicted: 32, ..kicked.clone() };
        assert_eq!([&kicked, &each].map(Receipt::not_by_themselves), [20, 15]);
        assert_eq!(not_by_themselves(&of(Outcome::Drained, 0)), None);
    }
}
