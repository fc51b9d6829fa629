//! Events, one a line.

use std::time::{Duration, UNIX_EPOCH};

use crate::api::types::{Event, Happening, Order};
use crate::cli::terminal::Style;

use super::number::{exact, percent, plural};
use super::text::clean;

/// `2026-01-02T03:04:05Z drained web-3: drained (drain 7, by alice: kernel update)`
pub fn line(event: &Event, style: Style) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(event.at)).unwrap_or(UNIX_EPOCH);
    let (name, words) = (event.happening.name().name(), words(&event.happening));
    let apart = match (event.happening.service(), event.happening.clients()) {
        (Some(service), None) => format!(" for {service}"),
        (None, Some(clients)) => format!(" for clients {clients}"),
        (Some(service), Some(clients)) => format!(" for {service}, clients {clients}"),
        (None, None) => String::new(),
    };
    let host = event.happening.host().map(|host| format!(" {host}{apart}")).unwrap_or_default();
    let colon = if host.is_empty() || words.is_empty() { "" } else { ":" };
    let space = if words.is_empty() { "" } else { " " };
    let line = format!("{} {name}{host}{colon}{space}{words}", humantime::format_rfc3339_seconds(at));
    clean(&line, style.ascii) + "\n"
}

fn words(happening: &Happening) -> String {
    match happening {
        Happening::DrainBegan { drain, by, reason, order, .. } => {
            format!("gets no new flows{} ({})", bounds(order), of(*drain, by, reason))
        }
        Happening::DrainAmended { drain, by, reason, order, .. } => {
            format!("another order{} ({})", bounds(order), of(*drain, by, reason))
        }
        Happening::DrainOverdue { drain, by, reason, left, .. } => {
            format!("{} past the deadline ({})", go_on(*left), of(*drain, by, reason))
        }
        Happening::Deadline { drain, by, reason, at_deadline, left, .. } => {
            let what = match at_deadline {
                crate::api::types::AtDeadline::Keep => "kept",
                crate::api::types::AtDeadline::Move => "moved",
                crate::api::types::AtDeadline::Reset => "reset",
            };
            let is = if *left == 1 { "is" } else { "are" };
            format!("{} {is} {what} ({})", plural(*left, "flow"), of(*drain, by, reason))
        }
        Happening::Drained { drain, by, reason, outcome, .. } => {
            format!("{} ({})", outcome.name(), of(*drain, by, reason))
        }
        Happening::Undrained { drain, by, reason, left, .. }
        | Happening::LeaseOver { drain, by, reason, left, .. } => {
            let left = left.map(|left| format!(" with {} left", plural(left, "flow"))).unwrap_or_default();
            format!("taken back{left} ({})", of(*drain, by, reason))
        }
        Happening::KickBegan { kick, by, reason, chosen, rate, .. } => {
            let asked = asked(by, reason);
            format!(
                "{} to be ended, {}/s (kick {kick}, {asked})",
                plural(*chosen, "flow"),
                exact((*rate).into())
            )
        }
        Happening::KickEnded { kick, by, reason, chosen, kicked, .. } => {
            format!(
                "{} of {} ended (kick {kick}, {})",
                exact(*kicked),
                plural(*chosen, "flow"),
                asked(by, reason)
            )
        }
        Happening::HostUp { service, why, .. } | Happening::HostDown { service, why, .. } => {
            let service = service.as_ref().map(|service| format!("for {service}: ")).unwrap_or_default();
            format!("{service}{why}")
        }
        Happening::HostSuspected { service, why, .. } => format!("for {service}: {why}"),
        Happening::PanicBegan { service, why }
        | Happening::PanicEnded { service, why }
        | Happening::StandbyJoined { service, why }
        | Happening::StandbyLeft { service, why } => format!("{service}: {why}"),
        Happening::HostCleared { service, .. } => format!("for {service}"),
        Happening::HostLeft { .. } | Happening::DaemonStopping => String::new(),
        Happening::ConfigApplied { revision, kind, by, reason, confirm_by } => {
            let until = if confirm_by.is_some() { ", to be confirmed" } else { "" };
            format!("revision {revision}, {kind}{until} ({})", asked(by, reason))
        }
        Happening::ConfigConfirmed { revision, by, reason } => {
            format!("revision {revision} ({})", asked(by, reason))
        }
        Happening::ConfigFailed { revision } => {
            format!("revision {revision}: the config before is in force again")
        }
        Happening::Published { generation } => format!("generation {generation}"),
        Happening::Violation { counter, more } => {
            format!("{counter} moved by {}, and must not", exact(*more))
        }
        Happening::DaemonStarted { version, adopted } => {
            let path = if *adopted { "took over the data path" } else { "new data path" };
            format!("sluice {version}, {path}")
        }
        Happening::SelfDrainBegan { by, reason } => {
            format!("the balancer wants no traffic ({})", asked(by, reason))
        }
        Happening::SelfDrained { by, reason } => {
            format!("little traffic comes any more ({})", asked(by, reason))
        }
        Happening::SelfUndrained { by, reason } => {
            format!("the balancer wants traffic again ({})", asked(by, reason))
        }
        Happening::MaintainBegan { run, name, by, reason, hosts } => {
            format!("run {run}, {name}: {} ({})", plural(*hosts as u64, "host"), asked(by, reason))
        }
        Happening::MaintainStep { run, step, is_back, .. } => {
            let back = if *is_back && step.is_in_work() { ", on its way back" } else { "" };
            format!("{}{back} (run {run})", step.name())
        }
        Happening::MaintainEnded { run, name, outcome, why } => {
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("run {run}, {name}: {}{why}", outcome.name())
        }
        Happening::Shift { shift, service, from, to, state, wanted, why } => {
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let state = state.name().replace('_', " ");
            let sides = format!("from {} to {}", from.join(","), to.join(","));
            format!("shift {shift} of {service}: {} {sides}, {state}{why}", percent(*wanted))
        }
        Happening::TraceBegan { by, reason, filter, bytes } => {
            let bytes = match bytes {
                0 => String::new(),
                bytes => format!(", {bytes} bytes of each frame"),
            };
            format!("{filter}{bytes} ({})", asked(by, reason))
        }
        Happening::TraceEnded { by, reason, filter, shown, wanted } => {
            format!(
                "{filter}: {} of {} shown ({})",
                exact(*shown),
                plural(*wanted, "packet"),
                asked(by, reason)
            )
        }
        Happening::Lost { count: Some(count) } => plural(*count, "event"),
        Happening::Lost { count: None } => "events of an earlier daemon may be missing".to_owned(),
    }
}

fn of(drain: u64, by: &str, reason: &Option<String>) -> String {
    format!("drain {drain}, {}", asked(by, reason))
}

fn asked(by: &str, reason: &Option<String>) -> String {
    reason.as_ref().map_or_else(|| format!("by {by}"), |reason| format!("by {by}: {reason}"))
}

fn go_on(left: u64) -> String {
    format!("{} {}", plural(left, "flow"), if left == 1 { "goes on" } else { "go on" })
}

fn bounds(order: &Order) -> String {
    let time = |unix: u64| {
        let second = unix % 86_400;
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    };
    let deadline = order.deadline.map(|at| format!(", deadline {}", time(at)));
    let lease = order.lease.map(|at| format!(", lease until {}", time(at)));
    deadline.unwrap_or_default() + &lease.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{AtDeadline, Outcome};

    fn said(happening: Happening) -> String {
        line(&Event { seq: 1, at: 1_790_000_000, happening }, Style::PLAIN)
    }

    #[test]
    fn lines() {
        let (host, by) = ("web-3".to_owned(), "alice".to_owned());
        let reason = Some("kernel\x1b update".to_owned());
        let order = Order { deadline: Some(1_790_000_600), lease: Some(1_790_007_200), ..Order::default() };
        let time = "2026-09-21T14:13:20Z";
        for (happening, words) in [
            (
                Happening::DrainBegan {
                    host: host.clone(),
                    service: None,
                    clients: None,
                    drain: 7,
                    by: by.clone(),
                    reason: reason.clone(),
                    order,
                },
                "drain_began web-3: gets no new flows, deadline 14:23:20, lease until 16:13:20 (drain 7, by alice: kernel\\u{1b} update)",
            ),
            (
                Happening::Drained {
                    host: host.clone(),
                    service: None,
                    clients: None,
                    drain: 7,
                    by: by.clone(),
                    reason: None,
                    outcome: Outcome::Moved,
                },
                "drained web-3: moved (drain 7, by alice)",
            ),
            (
                Happening::Deadline {
                    host: host.clone(),
                    service: None,
                    clients: None,
                    drain: 7,
                    by: by.clone(),
                    reason: None,
                    deadline: 5,
                    at_deadline: AtDeadline::Reset,
                    left: 1200,
                },
                "deadline web-3: 1,200 flows are reset (drain 7, by alice)",
            ),
            (
                Happening::DrainOverdue {
                    host: host.clone(),
                    service: None,
                    clients: None,
                    drain: 7,
                    by: by.clone(),
                    reason: None,
                    deadline: 5,
                    left: 1,
                },
                "drain_overdue web-3: 1 flow goes on past the deadline (drain 7, by alice)",
            ),
            (
                Happening::Undrained {
                    host: host.clone(),
                    service: None,
                    clients: None,
                    drain: 7,
                    by: by.clone(),
                    reason: None,
                    left: Some(3),
                },
                "undrained web-3: taken back with 3 flows left (drain 7, by alice)",
            ),
            (
                Happening::LeaseOver {
                    host: host.clone(),
                    service: None,
                    clients: None,
                    drain: 7,
                    by,
                    reason: None,
                    left: None,
                },
                "lease_over web-3: taken back (drain 7, by alice)",
            ),
            (
                Happening::HostDown {
                    host: host.clone(),
                    service: None,
                    why: "it has no next hop".to_owned(),
                },
                "host_down web-3: it has no next hop",
            ),
            (
                Happening::HostDown {
                    host,
                    service: Some("web".to_owned()),
                    why: "tcp :80: refused".to_owned(),
                },
                "host_down web-3: for web: tcp :80: refused",
            ),
            (Happening::DaemonStopping, "daemon_stopping"),
            (Happening::Published { generation: 8 }, "published generation 8"),
            (Happening::Lost { count: Some(2) }, "lost 2 events"),
        ] {
            assert_eq!(said(happening), format!("{time} {words}\n"));
        }
    }
}
