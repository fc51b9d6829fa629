//! The balancer itself.

use crate::api::types::{SelfDrainStatus, SelfStatus};
use crate::cli::terminal::Style;

use super::number::{duration, plural, rate};
use super::text::clean;

/// After `sluice drain self`.
pub fn began(status: &SelfStatus, style: Style) -> String {
    let announced = match (&status.interface, &status.vips_failed) {
        (_, Some(why)) => format!("its VIPs could NOT be taken off yet, which is tried again: {why}"),
        (Some(interface), None) => format!("its VIPs are off {interface}"),
        (None, None) => "nobody is told where its VIPs are, so that is to be done elsewhere".to_owned(),
    };
    let who = status.drain.as_ref().map(asked).unwrap_or_default();
    clean(
        &format!("the balancer is drained{who}: it is not ready, and {announced}. It forwards what comes"),
        style.ascii,
    ) + "\n"
}

/// One look while it is waited for.
pub fn progress(status: &SelfStatus, style: Style) -> String {
    let Some(drain) = &status.drain else { return String::new() };
    let packets = status.packets_per_second.map_or("-".to_owned(), rate);
    let line = format!(
        "{}: {packets} packets/s, {}; quiet for {} of {}",
        duration(drain.as_of.saturating_sub(drain.started_at)),
        plural(status.live_flows, "live flow"),
        duration(drain.quiet),
        duration(drain.quiet_for),
    );
    let line = clean(&line, style.ascii);
    if style.control { format!("\r\x1b[K{line}") } else { line + "\n" }
}

/// The end of the waiting, when traffic has ebbed.
pub fn ended(status: &SelfStatus, style: Style) -> String {
    let Some(drain) = &status.drain else { return String::new() };
    let took = drain.done_at.unwrap_or(drain.as_of).saturating_sub(drain.started_at);
    let left = match status.live_flows {
        0 => "No flow is left".to_owned(),
        flows => format!(
            "{} may still wake up, and are forwarded as long as nobody detaches",
            plural(flows, "silent flow")
        ),
    };
    let line = format!(
        "the balancer is drained in {}{}: less than {} packets/s for {}. {left}.",
        duration(took),
        asked(drain),
        drain.below,
        duration(drain.quiet_for),
    );
    clean(&line, style.ascii) + "\n"
}

/// After `sluice undrain self`.
pub fn undrained(status: &SelfStatus, style: Style) -> String {
    let line = match (&status.not_ready, &status.interface) {
        (Some(why), _) => format!("the balancer is in use again, and not ready: {why}"),
        (None, Some(interface)) => {
            format!("the balancer is in use again: it is ready, and its VIPs are on {interface}")
        }
        (None, None) => "the balancer is in use again: it is ready".to_owned(),
    };
    clean(&line, style.ascii) + "\n"
}

/// ` (by alice: kernel update)`
fn asked(drain: &SelfDrainStatus) -> String {
    let reason = drain.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!(" (by {}{reason})", drain.by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::SelfState;

    fn draining() -> SelfStatus {
        let drain = SelfDrainStatus {
            started_at: 1000,
            by: "alice".to_owned(),
            reason: Some("kernel\x1b".to_owned()),
            quiet_for: 30,
            below: 1.0,
            quiet: 12,
            done_at: None,
            as_of: 1045,
        };
        SelfStatus {
            state: SelfState::Draining,
            not_ready: Some("this balancer is drained".to_owned()),
            interface: Some("lo".to_owned()),
            vips_failed: None,
            packets_per_second: Some(0.5),
            live_flows: 1,
            drain: Some(drain),
        }
    }

    #[test]
    fn each_state_is_said() {
        let mut status = draining();
        assert_eq!(
            began(&status, Style::PLAIN),
            "the balancer is drained (by alice: kernel\\u{1b}): it is not ready, and its VIPs are off lo. It forwards what comes\n"
        );
        let failed = SelfStatus { vips_failed: Some("no room".to_owned()), ..status.clone() };
        let said = began(&failed, Style::PLAIN);
        assert!(said.contains("could NOT be taken off yet, which is tried again: no room."), "{said}");
        let said = progress(&status, Style::PLAIN);
        assert!(
            said.starts_with("45s: ") && said.ends_with(" packets/s, 1 live flow; quiet for 12s of 30s\n"),
            "{said}"
        );
        status.drain.as_mut().unwrap().done_at = Some(1063);
        assert!(
            ended(&status, Style::PLAIN).contains("drained in 1m03s (by alice"),
            "{}",
            ended(&status, Style::PLAIN)
        );
        let status = SelfStatus { state: SelfState::Active, not_ready: None, drain: None, ..status };
        assert_eq!(
            undrained(&status, Style::PLAIN),
            "the balancer is in use again: it is ready, and its VIPs are on lo\n"
        );
    }
}
