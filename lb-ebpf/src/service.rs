//! The service of a packet.

use lb_common::bits::opaque;
use lb_common::hash::{DestinationHash, FlowHash};
use lb_common::layout::{
    Directory, FEATURE_RANGES, PLACES, Policy, SERVICES, Service, ServiceKey, Tuple, Window,
};
use lb_common::services::{self, NOWHERE};

use crate::maps;

/// A service's record that was found, or none.
pub struct Found {
    pub directory: *const Directory,
    record: *const Service,
    place: u32,
    pub policy: Policy,
    /// Of the packet's own destination, whatever the record is for.
    pub destination: DestinationHash,
}

impl Found {
    #[inline(always)]
    pub fn is_some(&self) -> bool {
        !self.record.is_null()
    }

    /// Two numbers that it is known by, for another step of the whole program.
    #[inline(always)]
    pub fn pack(&self) -> (u32, u64) {
        (self.place | (self.policy.0 as u32) << 24, self.destination.0)
    }

    /// From those numbers.
    #[inline(always)]
    pub fn unpack(directory: *const Directory, place: u32, destination: u64) -> Found {
        let (policy, place) = (Policy((place >> 24) as u8), place & (PLACES as u32 - 1));
        // SAFETY: the map's element; the index is below the length.
        let record = unsafe { (&raw const (*directory).services).cast::<Service>().add(place as usize) };
        Found { directory, record, place, policy, destination: DestinationHash(destination) }
    }

    /// First block of the valid copy of the service's ring, with [`Service::SPLIT`], and where its backends are. The ring before the window: windows widen
    /// before rings name new hosts, so a packet that sees a ring sees its hosts.
    #[inline(always)]
    pub fn ring_and_window(&self) -> (u32, Window) {
        // SAFETY: a record of the map; aligned words, each read once.
        unsafe {
            let block = (&raw const (*self.record).block).read_volatile();
            (block, Window::unpack((&raw const (*self.record).window).read_volatile()))
        }
    }

    /// The same for this client, of a service whose ring has [`Service::SPLIT`].
    #[inline(always)]
    pub fn ring_and_window_of(&self, client: [u64; 2], (block, window): (u32, Window)) -> (u32, Window) {
        match maps::client_ring(self.number(), client) {
            Some(ring) => (ring.block, Window::unpack(ring.window)),
            None => (block & !Service::SPLIT, window),
        }
    }

    /// Number of the service.
    #[inline(always)]
    pub fn number(&self) -> u16 {
        // SAFETY: the map's element; the index is below the length.
        unsafe {
            let numbers = (&raw const (*self.directory).numbers).cast::<u16>();
            numbers.add(self.place as usize & (PLACES - 1)).read_volatile()
        }
    }

    /// Hash that a flow's slot comes from: its own, or its client's.
    #[inline(always)]
    pub fn slot_hash(&self, tuple: &Tuple, hash: FlowHash) -> FlowHash {
        if self.policy.has(Policy::CLIENT) {
            // SAFETY: a record of the map, whose address changes only while no packet may read it.
            FlowHash::of_client(tuple, unsafe { &(*self.record).address }, maps::key())
        } else {
            hash
        }
    }
}

/// Finds the service that a flow is for.
#[inline(always)]
pub fn find(directory: *const Directory, tuple: &Tuple) -> Found {
    find_at(directory, &tuple.destination, tuple.transport())
}

/// Finds the service that answers from where the tuple comes from, if it is a backend's answer to a client (`nat`).
#[inline(always)]
pub fn find_answering(directory: *const Directory, tuple: &Tuple) -> Found {
    let transport = tuple.source_port_raw() as u32 | tuple.protocol << 16 | ServiceKey::REPLY;
    find_at(directory, &tuple.source, transport)
}

#[inline(always)]
fn find_at(directory: *const Directory, address: &[u64; 2], transport: u32) -> Found {
    let destination = DestinationHash::of(address, transport, maps::key());
    // SAFETY: the map's element.
    let sought = unsafe { services::find(directory, address, transport, destination) };
    let mut found =
        Found { directory, record: sought.record, place: sought.place, policy: sought.policy, destination };
    if !found.is_some() && has_wide() {
        let place = find_wide(address[0], address[1], transport);
        if place != NOWHERE {
            // The compiler knows what that function may return, and would leave the bound out, which the verifier does not.
            let place = opaque(place as u64) as u32 & (PLACES as u32 - 1);
            // SAFETY: the map's element; the index is below the length.
            let record = unsafe { (&raw const (*directory).services).cast::<Service>().add(place as usize) };
            // SAFETY: as above.
            let transport = unsafe { (&raw const (*record).transport).read_volatile() };
            (found.record, found.place, found.policy) = (record, place, Policy((transport >> 24) as u8));
        }
    }
    found
}

/// The record that the service with this number is found by from elsewhere than from its packets.
#[inline(always)]
pub fn by_number(directory: *const Directory, number: u16) -> Option<*const Service> {
    if number as usize >= SERVICES {
        return None;
    }
    // SAFETY: the map's element; the indices are below the lengths.
    unsafe {
        let place = (&raw const (*directory).places).cast::<u16>().add(number as usize).read_volatile();
        let records = (&raw const (*directory).services).cast::<Service>();
        Some(records.add(place as usize & (PLACES - 1)))
    }
}

/// Whether there is any range of ports or prefix.
#[inline(always)]
fn has_wide() -> bool {
    maps::features() & FEATURE_RANGES != 0 || maps::prefixes()[0].mask[0] | maps::prefixes()[0].mask[1] != 0
}

/// Place of the record of a service that has a range of ports or a prefix; [`NOWHERE`]. Global functions, this and the next, so that
/// the verifier walks each once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_wide(upper: u64, lower: u64, transport: u32) -> u32 {
    let port = (transport as u16).swap_bytes() as u32;
    services::find_wide(
        &[upper, lower],
        transport,
        maps::features(),
        maps::prefixes(),
        |[upper, lower], transport| find_place(*upper, *lower, transport, port),
    )
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_place(upper: u64, lower: u64, transport: u32, port: u32) -> u32 {
    let Some(directory) = maps::DIRECTORY.get_ptr(0) else { return NOWHERE };
    // SAFETY: the map's element.
    unsafe { services::place_of(directory, &[upper, lower], transport, port as u16, maps::key()) }
}
