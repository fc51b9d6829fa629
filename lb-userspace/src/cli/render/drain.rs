//! What `sluice drain` and `sluice undrain` say: the start, the progress, the receipt.

use std::fmt::Write as _;

use crate::api::types::{AtDeadline, DrainStatus, LiveFlows, RampStatus};
use crate::cli::terminal::Style;

use super::number::{duration, exact, percent, plural};
use super::progress::short;
use super::receipt::{action, ending, not_by_themselves, violations};
use super::text::{clean, cut, wrap};

/// Characters between the brackets of a progress bar.
const BAR: u64 = 20;

/// `30 established, 7 closing`; phases without a flow are left out.
pub fn phases(live: LiveFlows) -> String {
    let phases = [
        (live.half_open, "half-open"),
        (live.established, "established"),
        (live.closing, "closing"),
        (live.udp, "udp"),
    ];
    let named: Vec<_> =
        phases.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{} {name}", exact(*n))).collect();
    named.join(", ")
}

fn phases_in_brackets(live: LiveFlows) -> String {
    let phases = phases(live);
    if phases.is_empty() { phases } else { format!(" ({phases})") }
}

/// The part of the flows at the start that is gone, as `[#####...............]`.
pub fn bar(live: u64, at_start: u64) -> String {
    let left = if live == 0 {
        0
    } else if at_start == 0 {
        BAR
    } else {
        // At least one dot while a flow lives.
        (u128::from(live) * u128::from(BAR)).div_ceil(u128::from(at_start)).min(u128::from(BAR)) as u64
    };
    format!("[{}{}]", "#".repeat((BAR - left) as usize), ".".repeat(left as usize))
}

/// `web-2`, or `web-2 for api`.
pub fn who(drain: &DrainStatus) -> String {
    drain.target().to_string()
}

/// How a drain in force is bounded, as of when the daemon said so: `deadline in 9m40s: reset, lease for 1h59m`.
pub fn bounds(drain: &DrainStatus) -> Option<String> {
    let (order, now) = (drain.order, drain.as_of);
    let deadline = order.deadline.filter(|_| drain.state == "draining").map(|deadline| {
        let passed = duration(now.saturating_sub(deadline));
        match order.at_deadline {
            any if now < deadline => format!("deadline in {}: {}", duration(deadline - now), action(any)),
            AtDeadline::Keep if drain.overdue_since.is_some() => format!("overdue for {passed}: keep"),
            any => format!("deadline passed {passed} ago: {}", action(any)),
        }
    });
    let lease = order.lease.filter(|_| drain.state != "undrained");
    let lease = lease.map(|lease| format!("lease for {}", duration(lease.saturating_sub(now))));
    let bounds: Vec<String> = deadline.into_iter().chain(lease).collect();
    (!bounds.is_empty()).then(|| bounds.join(", "))
}

/// The answer to `drain`, one paragraph a host.
pub fn began(drain: &DrainStatus, style: Style) -> String {
    if drain.state == "drained" && drain.live_flows.total == 0 {
        let lease = bounds(drain).map(|bounds| paragraph(&format!("  {bounds}"), style));
        return receipt(drain, style) + &lease.unwrap_or_default();
    }
    let words = match drain.live_flows.total {
        _ if drain.live_flows.hidden => "how many flows are live is not known yet".to_owned(),
        0 => "no flow is live".to_owned(),
        1 => format!("1 live flow goes on{}", phases_in_brackets(drain.live_flows)),
        n => format!("{} go on{}", plural(n, "live flow"), phases_in_brackets(drain.live_flows)),
    };
    let bounds = bounds(drain).map(|bounds| format!("; {bounds}")).unwrap_or_default();
    let what = match drain.order.share {
        Some(share) => format!("gives up {share}% of its slots, where"),
        None => "gets no new flows;".to_owned(),
    };
    paragraph(&format!("{}: {} (drain {}), {what} {words}{bounds}", who(drain), drain.state, drain.id), style)
}

/// The answer to `undrain`, one paragraph a host.
pub fn undrained(drain: &DrainStatus, style: Style) -> String {
    let mut words = format!("{}: takes new flows again", who(drain));
    if let Some(ramp) = &drain.ramp {
        let _ = write!(words, ", {}", ramping(ramp));
    }
    if let Some(receipt) = &drain.receipt {
        let after = duration(receipt.ended_at.saturating_sub(receipt.started_at));
        let _ = if receipt.outcome.is_taken_back() {
            write!(
                words,
                "; drain {} was taken back after {after} with {} of {} left",
                drain.id,
                exact(receipt.left),
                plural(receipt.flows_at_start, "flow")
            )
        } else {
            write!(words, "; drain {} had been done after {after}", drain.id)
        };
    }
    let violations = drain.receipt.as_ref().map(|receipt| violations(receipt, style));
    paragraph(&words, style) + &violations.unwrap_or_default()
}

/// `ramping up: 37.1%, full in 38s`
pub fn ramping(ramp: &RampStatus) -> String {
    let share = percent(ramp.share);
    match &ramp.paused {
        Some(why) => format!("ramp paused: {share}, {why}"),
        None if ramp.full_in > 0 => format!("ramping up: {share}, full in {}", duration(ramp.full_in)),
        None => format!("ramping up: {share}, watched for {} more", duration(ramp.watched_for)),
    }
}

/// The line of one host that is redrawn on a terminal; never wider than the terminal.
pub fn live_line(drain: &DrainStatus, name_width: usize, elapsed: u64, style: Style) -> String {
    let live = drain.live_flows;
    let mut line = format!(
        "{:<name_width$} {} {} of {} live  {}",
        who(drain),
        if live.hidden {
            format!("[{}]", "?".repeat(BAR as usize))
        } else {
            bar(live.total, drain.flows_at_start)
        },
        if live.hidden { "?".to_owned() } else { exact(live.total) },
        exact(drain.flows_at_start),
        duration(elapsed)
    );
    if live.total > 0 && !live.hidden {
        let _ = write!(line, "  {}", phases(live));
    }
    if drain.state != "draining" {
        let _ = write!(line, "  {}", drain.state);
    }
    if let Some(expected) = short(drain) {
        let _ = write!(line, "  {expected}");
    }
    if let Some(bounds) = bounds(drain) {
        let _ = write!(line, "  {bounds}");
    }
    if let Some(why) = &drain.waiting_for {
        let _ = write!(line, "  waiting for {why}");
    }
    cut(&clean(&line, style.ascii), usize::from(style.width).saturating_sub(1))
}

/// The line of one host in a log.
pub fn plain_line(drain: &DrainStatus, elapsed: u64, style: Style) -> String {
    let live = drain.live_flows;
    let mut line = format!(
        "{}: {}: {}, {} of {} live{}",
        duration(elapsed),
        who(drain),
        drain.state,
        if live.hidden { format!("at least {}", exact(live.total)) } else { exact(live.total) },
        plural(drain.flows_at_start, "flow"),
        phases_in_brackets(drain.live_flows)
    );
    if let Some(expected) = short(drain) {
        let _ = write!(line, ", {expected}");
    }
    if let Some(bounds) = bounds(drain) {
        let _ = write!(line, ", {bounds}");
    }
    if let Some(why) = &drain.waiting_for {
        let _ = write!(line, ", waiting for {why}");
    }
    clean(&line, style.ascii) + "\n"
}

/// The end of a drain in words; without a receipt, its state.
pub fn receipt(drain: &DrainStatus, style: Style) -> String {
    let Some(r) = &drain.receipt else {
        return paragraph(&format!("{}: {} (drain {})", who(drain), drain.state, drain.id), style);
    };
    let mut words = format!("{}: {}", who(drain), ending(r));
    let _ = write!(words, " (drain {}, by {}", r.drain, r.by);
    if let Some(reason) = &r.reason {
        let _ = write!(words, ": {reason}");
    }
    let _ = write!(
        words,
        "). {} at the start, {} ended on the host",
        plural(r.flows_at_start, "flow"),
        exact(r.ended)
    );
    if let Some(causes) = not_by_themselves(r) {
        let _ = write!(words, ", {causes}");
    }
    if r.left > 0 {
        let _ = write!(words, ", {} left", exact(r.left));
    }
    if r.evicted > 0 {
        let _ = write!(words, ", {} lost their pin because the flow table was full", exact(r.evicted));
    }
    let misrouted = plural(r.misrouted, "misrouted packet");
    let _ = match r.order.share {
        None => write!(words, "; {} since, {misrouted}.", plural(r.new_flows, "new flow")),
        // New flows go on in the rest.
        Some(share) => write!(words, "; {misrouted}. It was of {share}% of the slots."),
    };
    if drain.state == "drained" && drain.live_flows.total == 0 {
        words.push_str(if r.order.share.is_none() {
            " No flow is left."
        } else {
            " No flow is left in them."
        });
    }
    paragraph(&words, style) + &violations(r, style)
}

fn paragraph(words: &str, style: Style) -> String {
    wrap(&clean(words, style.ascii), usize::from(style.width), 2) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Order, Outcome};
    use crate::cli::render::fixtures::{NOW, draining, ended, live};

    #[test]
    fn bars_are_full_only_without_flows() {
        assert_eq!(bar(120, 120), "[....................]");
        assert_eq!(bar(60, 120), "[##########..........]");
        assert_eq!(bar(1, 1_000_000_000_000), "[###################.]");
        assert_eq!(bar(0, 120), "[####################]");
        assert_eq!(bar(0, 0), "[####################]");
        assert_eq!(bar(5, 0), "[....................]");
        assert_eq!(bar(u64::MAX, 3), "[....................]");
    }

    #[test]
    fn starts() {
        assert_eq!(
            began(&draining(7, "web-1", 37), Style::PLAIN),
            "web-1: draining (drain 7), gets no new flows; 37 live flows go on (30 established, 7 closing)\n"
        );
        assert_eq!(
            began(&draining(7, "web-1", 1), Style::PLAIN),
            "web-1: draining (drain 7), gets no new flows; 1 live flow goes on (1 established)\n"
        );
        assert_eq!(
            began(&draining(7, "web-1", 0), Style::PLAIN),
            "web-1: draining (drain 7), gets no new flows; no flow is live\n"
        );
    }

    #[test]
    fn a_part_is_told_of() {
        let mut drain = draining(7, "web-1", 37);
        drain.order.share = Some(25);
        assert_eq!(
            began(&drain, Style::PLAIN),
            "web-1: draining (drain 7), gives up 25% of its slots, where 37 live flows go on (30 established, 7\n  closing)\n"
        );
        let mut done = ended(7, "web-1", Outcome::Drained, 0);
        done.receipt.as_mut().unwrap().order.share = Some(25);
        let text = receipt(&done, Style { width: 200, ..Style::PLAIN });
        assert!(
            text.ends_with("; 0 misrouted packets. It was of 25% of the slots. No flow is left in them.\n"),
            "{text}"
        );
    }

    #[test]
    fn progress() {
        let mut drain = draining(7, "web-1", 37);
        assert_eq!(
            live_line(&drain, 6, 65, Style { width: 120, ..Style::PLAIN }),
            "web-1  [#############.......] 37 of 120 live  1m05s  30 established, 7 closing  waiting for 37 live flows"
        );
        assert_eq!(live_line(&drain, 6, 65, Style { width: 40, ..Style::PLAIN }).len(), 39);
        assert_eq!(
            plain_line(&drain, 65, Style::PLAIN),
            "1m05s: web-1: draining, 37 of 120 flows live (30 established, 7 closing), waiting for 37 live flows\n"
        );
        drain.progress = Some(crate::cli::render::fixtures::progress(0));
        assert_eq!(
            plain_line(&drain, 65, Style::PLAIN),
            "1m05s: web-1: draining, 37 of 120 flows live (30 established, 7 closing), p90 in 4m12s, \
             waiting for 37 live flows\n"
        );
        assert!(
            live_line(&drain, 6, 65, Style { width: 120, ..Style::PLAIN })
                .contains("closing  p90 in 4m12s  w")
        );
        drain.live_flows = live(1_000_000_000_000);
        assert!(
            live_line(&drain, 6, 0, Style { width: 200, ..Style::PLAIN })
                .contains(" 1,000,000,000,000 of 120 ")
        );
    }

    #[test]
    fn receipts() {
        assert_eq!(
            receipt(&ended(7, "web-1", Outcome::Drained, 0), Style::PLAIN),
            "\
web-1: drained in 3m07s (drain 7, by alice: kernel update). 120 flows at the start, 120 ended on the
  host; 0 new flows since, 0 misrouted packets. No flow is left.
"
        );
        let mut bad = ended(7, "web-1", Outcome::Drained, 0);
        let r = bad.receipt.as_mut().unwrap();
        (r.ended, r.evicted, r.misrouted, r.new_flows) = (118, 2, 1, 3);
        assert_eq!(
            receipt(&bad, Style::PLAIN),
            "\
web-1: drained in 3m07s (drain 7, by alice: kernel update). 120 flows at the start, 118 ended on the
  host, 2 lost their pin because the flow table was full; 3 new flows since, 1 misrouted packet. No
  flow is left.
!!! web-1: 3 new flows during the drain; this must be 0
!!! web-1: 1 misrouted packet during the drain; this must be 0
"
        );
    }

    #[test]
    fn taking_back() {
        assert_eq!(
            undrained(&ended(7, "web-1", Outcome::Undrained, 37), Style::PLAIN),
            "web-1: takes new flows again; drain 7 was taken back after 3m07s with 37 of 120 flows left\n"
        );
        assert_eq!(
            undrained(&ended(7, "web-1", Outcome::Drained, 0), Style::PLAIN),
            "web-1: takes new flows again; drain 7 had been done after 3m07s\n"
        );
    }

    #[test]
    fn bounds_are_told_as_of_the_daemon_s_clock() {
        let mut drain = draining(7, "web-1", 37);
        assert_eq!(bounds(&drain), None);
        drain.order = Order {
            deadline: Some(NOW + 580),
            at_deadline: AtDeadline::Reset,
            lease: Some(NOW + 7140),
            ..Order::default()
        };
        assert_eq!(
            began(&drain, Style::PLAIN),
            "\
web-1: draining (drain 7), gets no new flows; 37 live flows go on (30 established, 7 closing);
  deadline in 9m40s: reset, lease for 1h59m
"
        );
        let words = |drain: &DrainStatus| bounds(drain).unwrap();
        drain.order.lease = None;
        drain.as_of = NOW + 583;
        assert_eq!(words(&drain), "deadline passed 3s ago: reset");
        drain.order.at_deadline = AtDeadline::Keep;
        assert_eq!(words(&drain), "deadline passed 3s ago: keep");
        drain.overdue_since = drain.order.deadline;
        assert_eq!(words(&drain), "overdue for 3s: keep");
        assert_eq!(
            plain_line(&drain, 65, Style::PLAIN),
            "1m05s: web-1: draining, 37 of 120 flows live (30 established, 7 closing), overdue for 3s: keep, \
             waiting for 37 live flows\n"
        );
        let mut done = DrainStatus { order: drain.order, ..ended(7, "web-1", Outcome::Drained, 0) };
        assert_eq!(bounds(&done), None, "a deadline means nothing any more");
        done.order.lease = Some(NOW + 60);
        assert!(began(&done, Style::PLAIN).ends_with(" No flow is left.\n  lease for 1m00s\n"));
        done.state = "undrained".to_owned();
        assert_eq!(bounds(&done), None);
    }

    #[test]
    fn a_receipt_tells_what_ended_flows() {
        let mut drain = ended(7, "web-1", Outcome::Reset, 0);
        let r = drain.receipt.as_mut().unwrap();
        (r.ended, r.reset, r.silent) = (100, 18, 2);
        assert_eq!(
            receipt(&drain, Style::PLAIN),
            "\
web-1: drained in 3m07s, flows were reset (drain 7, by alice: kernel update). 120 flows at the
  start, 100 ended on the host, 18 reset, 2 silent after the deadline, and ended; 0 new flows since,
  0 misrouted packets. No flow is left.
"
        );
    }
}
