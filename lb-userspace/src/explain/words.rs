//! An explanation in words, for an operator at three in the morning.

use super::why;
use crate::api::types::{ExplainedPin, Explanation, PacketKind, PacketSignal, PacketVerdict, PinChange};

/// What the packet is, in one line.
pub fn title(told: &Explanation) -> String {
    let bytes = format!("{} bytes", told.length);
    let Explanation { kind, protocol: Some(protocol), from: Some(from), to: Some(to), .. } = told else {
        return format!("a frame of {bytes}");
    };
    // Others quote nothing.
    if *kind == PacketKind::Icmp && !protocol.starts_with("icmp") {
        return format!("an ICMP error about {protocol} {from} -> {to}, {bytes}");
    }
    let what = match (kind, told.signal) {
        (PacketKind::Fragment, _) => ", a fragment",
        (_, Some(PacketSignal::Syn)) => ", SYN",
        (_, Some(PacketSignal::Ack)) => ", ACK",
        (_, Some(PacketSignal::Fin)) => ", FIN",
        (_, Some(PacketSignal::Rst)) => ", RST",
        (_, Some(PacketSignal::Stray)) => ", neither the beginning nor the middle of a flow",
        (_, Some(PacketSignal::Datagram) | None) => "",
    };
    format!("{protocol} {from} -> {to}{what}, {bytes}")
}

/// Where it goes, in one sentence.
pub fn outcome(told: &Explanation) -> String {
    let is_answered = told.reason.starts_with("answer_");
    let way = || {
        let by = told.forward.as_deref().filter(|_| !told.is_answer && !is_answered);
        let by = by.map(|mode| format!(" by {mode}")).unwrap_or_default();
        let out = told.out.as_deref().map(|out| format!("out by {out}"));
        let hop = told.next_hop.as_deref().map(|mac| format!("to {mac}"));
        let to = told.destination.as_deref().map(|address| format!("for {address}"));
        let length = told.length_out.map(|length| format!(", {length} bytes"));
        let words: Vec<String> = [out, hop, to].into_iter().flatten().collect();
        format!("{by}: {}{}", words.join(" "), length.unwrap_or_default())
    };
    match told.verdict {
        PacketVerdict::Drop => "It is dropped.".to_owned(),
        PacketVerdict::Pass if told.is_answer && told.frame_out.is_some() => {
            "It goes to its client by this machine's kernel.".to_owned()
        }
        PacketVerdict::Pass => "It goes to this machine's kernel, as it came.".to_owned(),
        _ if is_answered => format!("It is answered{}.", way()),
        _ if told.is_answer => format!("It goes to its client{}.", way()),
        _ => match &told.host {
            Some(host) => format!("It goes to {host}{}.", way()),
            None => format!("It goes on{}.", way()),
        },
    }
}

/// How it came to that: what, and about it.
pub fn details(told: &Explanation) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    let reason = &told.reason;
    let why = why(reason).map_or_else(|| reason.clone(), |why| format!("{why} ({reason})"));
    details.push(("why", why));
    if let Some(mtu) = told.mtu {
        details.push(("way", format!("takes packets of {mtu} bytes at most")));
    }
    if let Some(service) = &told.service {
        let apart =
            told.clients.as_deref().map(|clients| format!("; clients of {clients} are treated apart"));
        details.push(("service", format!("{service}{}", apart.unwrap_or_default())));
    }
    details.extend(slot(told).map(|slot| ("slot", slot)));
    if told.slot.is_some() {
        details.push(("pin", pin(told)));
    }
    if let (Some(host), Some(state)) = (&told.host, &told.host_state)
        && state != "active"
    {
        details.push(("host", format!("{host} is {state}")));
    }
    details
}

fn slot(told: &Explanation) -> Option<String> {
    let ring = told.ring.map(|ring| format!(" of ring {ring}")).unwrap_or_default();
    let owner = match &told.owner {
        Some(owner) => format!("belongs to {owner}"),
        None => "belongs to nobody, as no host is in use".to_owned(),
    };
    let handover = told.handover.as_ref().map(|handover| {
        let from = match &handover.from {
            Some(from) if told.owner.as_ref() == Some(from) => format!("back after a drain of {from}"),
            Some(from) => format!("handed over from {from}"),
            None => "handed over".to_owned(),
        };
        match handover.seconds {
            Some(0) => format!(", {from} (open until no flow of it is elsewhere)"),
            Some(seconds) => match &handover.from {
                Some(host) => {
                    format!(", {from} (open for {seconds} s more, unless {host} is drained before)")
                }
                None => format!(", {from} (open for {seconds} s more)"),
            },
            None => format!(", {from} (open)"),
        }
    });
    Some(format!("{}{ring} {owner}{}", told.slot?, handover.unwrap_or_default()))
}

fn pin(told: &Explanation) -> String {
    let found = match &told.pin {
        None => "none".to_owned(),
        Some(ExplainedPin { host, phase, idle, is_live: true }) => {
            format!("{host}, {phase}, last seen {idle} s ago")
        }
        Some(ExplainedPin { host, phase, idle, is_live: false }) => {
            format!("none that counts: {phase} at {host}, last seen {idle} s ago")
        }
    };
    let phase = told.pin_phase.as_deref().unwrap_or("?");
    match (told.pin_change, &told.pin) {
        (PinChange::NotLookedUp, _) => "not looked up: the service tracks edges".to_owned(),
        (PinChange::None, Some(_)) => format!("{found}; it stays as it is"),
        (PinChange::None, None) => format!("{found}, and none is made"),
        (PinChange::Seen, Some(pin)) if pin.phase == phase => format!("{found}; it would be kept alive"),
        (PinChange::Seen, _) => format!("{found}; it would become {phase}"),
        (PinChange::Made, _) => {
            let host = told.host.as_deref().map(|host| format!(" for {host}")).unwrap_or_default();
            format!("{found}; one would be made{host}, {phase}")
        }
    }
}
