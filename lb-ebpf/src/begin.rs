//! The short way for the first packet of a flow: a SYN or a datagram whose flow certainly has no pin yet, and whose bucket has
//! room. Nearly all are such.

use lb_common::flow::Word;
use lb_common::hash::FlowHash;
use lb_common::layout::{Cold, HostState, Overflow};
use lb_common::parse::{Packet, Segment, Signal};
use lb_common::table::{self, Home};

use crate::backend::{Record, stats};
use crate::memory::Memory;
use crate::{gate, maps};

/// Whether the packet may begin a flow, as far as itself tells; what [`begin`] needs is then on its way.
#[inline(always)]
pub fn expect(packet: &Packet, hash: FlowHash) {
    if let Signal::Syn = packet.signal {
        table::expect(&Memory, hash);
    }
}

/// Whether a new flow has begun at the owner of its slot (C2), which is up. If not, `exact` decides.
#[inline(always)]
pub fn begin(begun: Begun, segment: impl FnOnce() -> Segment) -> bool {
    let Begun { packet, hash, home, word, slot_number, service, owner, now } = begun;
    if !matches!(packet.signal, Signal::Syn | Signal::Datagram) {
        return false;
    }
    if owner.state() != HostState::Up || !gate::is_open(now) {
        return false;
    }
    if let Signal::Datagram = packet.signal {
        // Only now it is known that it is a first one.
        table::expect(&Memory, hash);
    }
    let tuple = &packet.tuple;
    if maps::is_no_client(tuple.source) {
        return false;
    }
    let index = owner.get().stats;
    let entry = Overflow {
        word: word.0,
        cold: Cold {
            source: tuple.source,
            destination: tuple.destination,
            ports: tuple.ports,
            kind: tuple.protocol | (service as u32) << 16,
            sequence: segment().sequence,
            start: now,
            stats: index,
            slot: slot_number,
            #[cfg(feature = "layout-next")]
            more: 0,
        },
    };
    if !table::begin(&Memory, hash, home, &entry, now) {
        return false;
    }
    gate::pass(now);
    if let Some(stats) = stats(index) {
        stats.new_flows += 1;
    }
    true
}

/// What is known about the packet by then.
pub struct Begun<'a> {
    pub packet: &'a Packet,
    pub hash: FlowHash,
    pub home: &'a Home,
    /// The pin's: of the owner, in the phase that the flow begins in, seen now.
    pub word: Word,
    pub slot_number: u32,
    pub service: u16,
    pub owner: &'a Record,
    pub now: u32,
}
