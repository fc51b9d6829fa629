//! What a drain still waits for, in an operator's words.

use std::time::Duration;

use crate::api::types::LiveFlows;

use super::state::Draining;

/// Why `draining` is not done yet; `live` is the host's gauge now.
pub(super) fn waiting_for(draining: &Draining, live: &LiveFlows) -> String {
    if live.total > 0 {
        return live_flows(live);
    }
    if draining.tally.is_none() {
        return "the rings without this host are being published".to_owned();
    }
    let Some((seen, at)) = &draining.seen else {
        return "no live flow is left; waiting for a sweep of the flow table to confirm it".to_owned();
    };
    if seen.counted > 0 {
        return format!(
            "the gauge reads 0, but the last sweep counted {} live {}; waiting for the next sweep to put the gauge right",
            seen.counted,
            if seen.counted == 1 { "pin" } else { "pins" },
        );
    }
    if draining.sealed || seen.done(draining.drain.order.ends_all(*at)) || seen.gauges.live.total > 0 {
        return "no live flow is left; waiting for the next sweep of the flow table to confirm it".to_owned();
    }
    let more = (seen.idle_timeout + 1).saturating_sub(seen.complete_for());
    format!(
        "no live flow is left; waiting {} more until flows that might have been silent since {} UTC, when {}, must have spoken \
         (idle timeout {})",
        duration(more),
        time_of_day(at.saturating_sub(seen.complete_for())),
        if live.hidden {
            "the drain began of a host that has services with tracking = \"edges\""
        } else {
            "the balancer started or last lost a pin"
        },
        duration(seen.idle_timeout),
    )
}

/// "412 live flows (400 established, 12 closing)"
fn live_flows(live: &LiveFlows) -> String {
    let phases: Vec<String> = [
        (live.half_open, "half-open"),
        (live.established, "established"),
        (live.closing, "closing"),
        (live.udp, "udp"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, phase)| format!("{count} {phase}"))
    .collect();
    let flows = if live.total == 1 { "flow" } else { "flows" };
    if phases.is_empty() {
        format!("{} live {flows}", live.total)
    } else {
        format!("{} live {flows} ({})", live.total, phases.join(", "))
    }
}

fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// `HH:MM:SS` of a Unix time, UTC.
fn time_of_day(unix: u64) -> String {
    let second = unix % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}
