//! A dry run's record, with names in place of numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::decide::PinAction;
use lb_common::flow::Word;
use lb_common::layout::{DecisionRecord, HOST_NONE, HostId, Side, Slot, Tuple, Way};
use lb_common::parse::{Signal, What};
use lb_common::reason::Reason;

use super::hex;
use crate::api::types::{
    ExplainedHandover, ExplainedPin, Explanation, PacketKind, PacketSignal, PacketVerdict, PinChange,
};
use crate::dataplane::DryRun;
use crate::plan::address_of;

/// What the daemon knows by name.
pub trait Names {
    fn service(&self, number: u16) -> Option<String>;
    fn host(&self, number: HostId) -> Option<String>;
    /// What is wanted of a host, or that it is down for the service: `active`, `draining` …
    fn host_state(&self, service: &str, host: &str) -> Option<String>;
    /// How a service's packets go to its hosts.
    fn forward(&self, service: &str) -> Option<String>;
    /// The clients of a service that are treated apart and that one belongs to, and the number of the ring that it goes by.
    fn ring(&self, service: &str, client: IpAddr) -> (Option<String>, Option<u32>);
    /// Seconds that a slot's handover stays open at least.
    fn stays_open(&self, ring: u32, slot: u32) -> Option<u64>;
    fn interface(&self, number: u32) -> Option<String>;
    /// Second of the data path's clock.
    fn now(&self) -> u32;
}

/// What became of a frame that came in by an interface.
pub fn tell(frame: &[u8], ingress: u32, run: &DryRun, names: &impl Names) -> Explanation {
    let mut told = tell_without_frame(frame, ingress, run, names);
    told.frame_out = (told.length_out.is_some() && run.bytes != frame).then(|| hex(&run.bytes));
    told
}

/// The same without the frame that leaves.
pub fn tell_without_frame(frame: &[u8], ingress: u32, run: &DryRun, names: &impl Names) -> Explanation {
    let record = &run.record;
    let verdict = match run.verdict {
        2 => PacketVerdict::Pass,
        3 => PacketVerdict::Transmit,
        4 => PacketVerdict::Redirect,
        _ => PacketVerdict::Drop,
    };
    let is_passed_on = verdict != PacketVerdict::Drop;
    let is_sent = matches!(verdict, PacketVerdict::Transmit | PacketVerdict::Redirect);
    let side = Side::from_number(record.side);
    let service =
        if side == Side::None { None } else { Some(names.service(record.service).unwrap_or_else(unknown)) };
    let egress = match record.ifindex {
        0 if is_sent => Some(ingress),
        0 => None,
        _ if is_passed_on => Some(record.ifindex),
        _ => None,
    };
    let (mut told, is_flows) = packet(record);
    told = Explanation {
        length: frame.len(),
        verdict,
        reason: Reason::from_number(record.reason).name().to_owned(),
        forward: service.as_deref().filter(|_| is_sent).and_then(|service| names.forward(service)),
        is_answer: side == Side::Backend,
        out: egress.map(|number| names.interface(number).unwrap_or_else(|| format!("interface {number}"))),
        next_hop: if is_sent { run.bytes.get(..6).map(mac) } else { None },
        destination: if is_sent { destination(&run.bytes) } else { None },
        mtu: Some(record.mtu).filter(|mtu| *mtu != 0),
        length_out: is_passed_on.then_some(run.bytes.len()),
        frame_out: None,
        ..told
    };
    if side == Side::Client && is_flows {
        decision(&mut told, record, service.as_deref(), names);
    }
    told.service = service;
    told
}

fn unknown() -> String {
    "?".to_owned()
}

/// What the packet is, and whether it was taken for one of a flow.
fn packet(record: &DecisionRecord) -> (Explanation, bool) {
    let kind = match record.what.checked_sub(1) {
        None => PacketKind::Other,
        Some(what) if what == What::Flow as u8 => PacketKind::Flow,
        Some(what) if what == What::Icmp as u8 => PacketKind::Icmp,
        Some(_) => PacketKind::Fragment,
    };
    let mut told = Explanation { kind, ..Explanation::default() };
    let is_flows = match kind {
        PacketKind::Flow => true,
        // Then it is about the flow that it quotes, which need be none of a service.
        PacketKind::Icmp => matches!(record.tuple.protocol, 6 | 17),
        PacketKind::Other => return (told, false),
        PacketKind::Fragment => false,
    };
    let Tuple { source, destination, protocol, .. } = record.tuple;
    let end = |address: [u64; 2], port: u16| {
        let address = address_of(address);
        if is_flows { SocketAddr::new(address, port).to_string() } else { address.to_string() }
    };
    told.protocol = Some(match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        number => number.to_string(),
    });
    told.from = Some(end(source, record.tuple.source_port()));
    told.to = Some(end(destination, record.tuple.destination_port()));
    (told, is_flows)
}

/// Slot, pin and host of a client's packet.
fn decision(told: &mut Explanation, record: &DecisionRecord, service: Option<&str>, names: &impl Names) {
    told.signal = Some(match Signal::from_bits(record.signal) {
        Signal::Syn => PacketSignal::Syn,
        Signal::Ack => PacketSignal::Ack,
        Signal::Fin => PacketSignal::Fin,
        Signal::Rst => PacketSignal::Rst,
        Signal::Datagram => PacketSignal::Datagram,
        Signal::Stray => PacketSignal::Stray,
    });
    let name = |host: HostId| match host {
        HOST_NONE => None,
        host => Some(names.host(host).unwrap_or_else(unknown)),
    };
    let slot = Slot(record.slot);
    if let Some(service) = service {
        (told.clients, told.ring) = names.ring(service, address_of(record.tuple.source));
    }
    told.slot = Some(record.slot_number);
    told.owner = name(slot.owner());
    if slot.is_open() {
        let seconds = told.ring.and_then(|ring| names.stays_open(ring, record.slot_number));
        told.handover = Some(ExplainedHandover { from: name(slot.previous()), seconds });
    }
    let word = Word(record.word);
    if word.0 != 0 {
        told.pin = Some(ExplainedPin {
            host: names.host(word.host()).unwrap_or_else(unknown),
            phase: word.phase().name().to_owned(),
            idle: u64::from(word.idle(names.now())),
            is_live: record.is_live != 0,
        });
    }
    let way = Way::from_number(record.way);
    let is_decided = way != Way::None;
    let found_no_place = record.reason == Reason::DropNoPlace as u32;
    if way == Way::Edges {
        told.pin_change = PinChange::NotLookedUp;
    } else if is_decided && !found_no_place && record.action != PinAction::Leave as u8 {
        let made = record.action == PinAction::Make as u8;
        told.pin_change = if made { PinChange::Made } else { PinChange::Seen };
        told.pin_phase = Some(lb_common::flow::Phase::from_bits(record.phase).name().to_owned());
    }
    if is_decided {
        told.host = name(record.host);
        let host = service.zip(told.host.as_deref());
        told.host_state = host.and_then(|(service, host)| names.host_state(service, host));
    }
}

fn mac(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}

/// Destination of a frame's outermost IP header.
fn destination(frame: &[u8]) -> Option<String> {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    let mut at = 12;
    while at < 20 && is_tag(at) {
        at += 4;
    }
    match frame.get(at..at + 2)? {
        [0x08, 0x00] => {
            let octets: [u8; 4] = frame.get(at + 18..at + 22)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).to_string())
        }
        [0x86, 0xdd] => {
            let octets: [u8; 16] = frame.get(at + 26..at + 42)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).to_string())
        }
        _ => None,
    }
}
