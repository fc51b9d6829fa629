//! Fragments other than the first: they have no ports, so they go where their packet's first fragment went.

use lb_common::hash::FlowHash;
use lb_common::layout::{HostId, Tuple, Window};
use lb_common::parse::{Packet, Whole};

use crate::hand::Hand;
use crate::{backend, clock, maps, service};

/// What the fragments of a packet share, in the form of a tuple: addresses, number of the packet, and of IPv4 the protocol (RFC 791,
/// 3.2; RFC 8200, 4.5).
#[inline(always)]
fn key_of(whole: &Whole) -> Tuple {
    let protocol = if whole.packet.is_v6 { 0 } else { whole.packet.tuple.protocol };
    Tuple { ports: whole.fragment.id, protocol, ..whole.packet.tuple }
}

/// In place of a host, which has no such number: the packet is a backend's answer to a client.
const REPLY: HostId = 0;

/// Seconds for which a packet's fragments are waited for (`ipfrag_time` of Linux): after that its identification may be another's.
const PATIENCE: u32 = 30;

/// Where the first fragment went: host in bits 0–15, number of the service in bits 16–31, the second in the upper half.
#[inline(always)]
fn pack(host: HostId, service: u16) -> u64 {
    host as u64 | (service as u64) << 16 | (clock::now() as u64) << 32
}

/// Notes where a first fragment goes.
#[inline(always)]
pub fn remember(whole: &Whole, host: HostId, service: u16) {
    if maps::is_dry() {
        return;
    }
    // A map that refuses lets later fragments be handled as those of an unknown packet.
    let _ = maps::FRAGMENTS.insert(key_of(whole), pack(host, service), 0);
}

/// Notes that a first fragment is a backend's answer.
#[inline(always)]
pub fn remember_reply(whole: &Whole, service: u16) {
    remember(whole, REPLY, service);
}

/// Where a later fragment goes.
pub enum Way {
    /// To the backend that is in hand.
    Backend,
    /// To a client, from the service that is in hand.
    Reply,
    /// Its packet's first one is not known.
    Unknown,
}

/// Finds it.
#[inline(always)]
pub fn follow(hand: &mut Hand) -> Way {
    // SAFETY: the value is one word.
    let Some(noted) = (unsafe { maps::FRAGMENTS.get(key_of(&hand.whole)) }) else { return Way::Unknown };
    let (host, number) = (*noted as u16, (*noted >> 16) as u16);
    if clock::now().wrapping_sub((*noted >> 32) as u32) > PATIENCE {
        return Way::Unknown;
    }
    if host == REPLY {
        hand.service = number;
        return Way::Reply;
    }
    let Some(directory) = maps::DIRECTORY.get_ptr(0) else { return Way::Unknown };
    let Some(record) = service::by_number(directory, number) else { return Way::Unknown };
    // SAFETY: a record of the map; an aligned word.
    let window = Window::unpack(unsafe { (&raw const (*record).window).read_volatile() });
    hand.backend = backend::number_of(directory, window, host);
    hand.hash = hash_of(hand.packet());
    Way::Backend
}

/// A hash for the outer headers of a packet whose ports are not known.
#[inline(always)]
fn hash_of(packet: &Packet) -> FlowHash {
    FlowHash::of(&packet.tuple, maps::key())
}
