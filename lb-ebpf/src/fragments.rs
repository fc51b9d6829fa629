//! Fragments other than the first: they have no ports, so they go where their packet's first fragment went.

use lb_common::hash::FlowHash;
use lb_common::layout::{HostId, PLACES, SERVICES, Service, Tuple, Window};
use lb_common::parse::{Packet, Whole};

use crate::backend::{self, Record};
use crate::maps;

/// What the fragments of a packet share, in the form of a tuple: addresses, number of the packet, protocol.
#[inline(always)]
fn key_of(whole: &Whole) -> Tuple {
    Tuple { ports: whole.fragment.id, ..whole.packet.tuple }
}

/// Where the first fragment went: host in bits 0–15, number of the service in bits 16–31.
#[inline(always)]
const fn pack(host: HostId, service: u16) -> u32 {
    host as u32 | (service as u32) << 16
}

/// Notes where a first fragment goes.
#[inline(always)]
pub fn remember(whole: &Whole, host: HostId, service: u16) {
    // A map that refuses lets later fragments be handled as those of an unknown packet.
    let _ = maps::FRAGMENTS.insert(key_of(whole), pack(host, service), 0);
}

/// The backend of a later fragment's packet, if its first one is known and the service still has that backend.
#[inline(always)]
pub fn follow(whole: &Whole) -> Option<Record> {
    let key = key_of(whole);
    // SAFETY: the value is one word.
    let noted = unsafe { *maps::FRAGMENTS.get(key)? };
    let (host, service) = (noted as u16, (noted >> 16) as usize);
    if service >= SERVICES {
        return None;
    }
    let directory = maps::DIRECTORY.get_ptr(0)?;
    // SAFETY: the map's element; the indices are below the lengths.
    let window = unsafe {
        let place = (&raw const (*directory).places).cast::<u16>().add(service).read_volatile();
        let records = (&raw const (*directory).services).cast::<Service>();
        (&raw const (*records.add(place as usize & (PLACES - 1))).window).read_volatile()
    };
    Some(backend::find(directory, Window::unpack(window), host))
}

/// A hash for the outer headers of a packet whose ports are not known.
#[inline(always)]
pub fn hash_of(packet: &Packet) -> FlowHash {
    FlowHash::of(&packet.tuple, maps::key())
}
