//! The decision about a packet in one line.

use crate::api::types::{Explanation, PacketVerdict, PinChange};

/// `forward_pin to web-2 by l2 (service web, slot 1234, pin established)`
pub fn decision(told: &Explanation) -> String {
    let mut words = told.reason.clone();
    // What is dropped goes nowhere, whoever it would have gone to.
    if let Some(host) = told.host.as_ref().filter(|_| told.verdict != PacketVerdict::Drop) {
        words += &format!(" to {host}");
        if let Some(forward) = &told.forward {
            words += &format!(" by {forward}");
        }
    }
    let about = about(told);
    if !about.is_empty() {
        words += &format!(" ({})", about.join(", "));
    }
    words
}

fn about(told: &Explanation) -> Vec<String> {
    let mut about = Vec::new();
    about.extend(told.service.as_ref().map(|service| format!("service {service}")));
    about.extend(told.clients.as_ref().map(|clients| format!("clients {clients}")));
    if let Some(slot) = told.slot {
        about.push(format!("slot {slot}"));
        if let Some(handover) = &told.handover {
            let from = handover.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
            about.push(format!("handed over{from}"));
        }
        about.push(pin(told));
    }
    let state = told.host_state.as_ref().filter(|state| *state != "active");
    about.extend(told.host.as_ref().zip(state).map(|(host, state)| format!("{host} {state}")));
    about.extend(told.mtu.map(|mtu| format!("path takes {mtu} bytes")));
    about
}

/// What was found of the flow's pin, and what became of it.
fn pin(told: &Explanation) -> String {
    let after = told.pin_phase.as_deref();
    let found = told.pin.as_ref().filter(|pin| pin.is_live);
    match (told.pin_change, found, after) {
        (PinChange::NotLookedUp, ..) => "pin not looked up".to_owned(),
        (PinChange::Made, _, Some(after)) => format!("pin made, {after}"),
        (_, Some(pin), Some(after)) if pin.phase != after => format!("pin {}, now {after}", pin.phase),
        (_, Some(pin), _) => format!("pin {}", pin.phase),
        (_, None, _) => "no pin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ExplainedHandover, ExplainedPin};

    fn known() -> Explanation {
        let pin = |phase: &str, is_live| ExplainedPin {
            host: "web-2".to_owned(),
            phase: phase.to_owned(),
            idle: 3,
            is_live,
        };
        Explanation {
            verdict: PacketVerdict::Transmit,
            reason: "forward_pin".to_owned(),
            service: Some("web".to_owned()),
            slot: Some(1234),
            pin: Some(pin("established", true)),
            pin_change: PinChange::Seen,
            pin_phase: Some("established".to_owned()),
            host: Some("web-2".to_owned()),
            host_state: Some("active".to_owned()),
            forward: Some("l2".to_owned()),
            ..Explanation::default()
        }
    }

    #[test]
    fn decisions_in_a_line() {
        assert_eq!(
            decision(&known()),
            "forward_pin to web-2 by l2 (service web, slot 1234, pin established)"
        );
        let closing = Explanation { pin_phase: Some("closing".to_owned()), ..known() };
        assert!(decision(&closing).ends_with("pin established, now closing)"));
        let moving = Explanation {
            handover: Some(ExplainedHandover { from: Some("web-1".to_owned()), seconds: None }),
            host_state: Some("draining".to_owned()),
            ..known()
        };
        let words = "slot 1234, handed over from web-1, pin established, web-2 draining)";
        assert!(decision(&moving).ends_with(words), "{}", decision(&moving));
        let new = Explanation {
            reason: "forward_new".to_owned(),
            pin: None,
            pin_change: PinChange::Made,
            pin_phase: Some("half-open".to_owned()),
            ..known()
        };
        assert_eq!(
            decision(&new),
            "forward_new to web-2 by l2 (service web, slot 1234, pin made, half-open)"
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let passed = Explanation { reason: "pass_not_ip".to_owned(), ..Explanation::default() };
        assert_eq!(decision(&passed), "pass_not_ip");
        let dropped = Explanation {
            verdict: PacketVerdict::Drop,
            reason: "drop_no_place".to_owned(),
            pin: None,
            pin_change: PinChange::None,
            pin_phase: None,
            ..known()
        };
        assert_eq!(decision(&dropped), "drop_no_place (service web, slot 1234, no pin)");
    }
}
