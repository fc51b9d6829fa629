//! Finding the service of a packet: open addressing with linear probing in an array of records, because a look-up in a hash
//! map of the kernel's takes as long as all the rest of a packet's way.
//!
//! A search begins at a place that the hash of the destination gives and goes on, place by place, until it meets the
//! service's record or a free place. Words change in one store each, and a record is written whole before the word that makes
//! it valid; one that has gone is used again only when no packet can be reading it.
//!
//! A packet looks for its very address and port first. Where there are ranges of ports or prefixes of addresses, what that
//! search did not find is looked for in them, [`find_wide`]: the longest prefix counts, and in it the port before the range.

use crate::bits::opaque;
use crate::hash::{DestinationHash, Key};
use crate::layout::{
    Directory, FEATURE_RANGES, PLACES, PREFIXES, Policy, PortRange, Prefix, Service, ServiceKey,
};

/// Places that a search visits at most. With the key secret and a third of the places in use, longer searches are rarer than
/// one in 10⁶ tables.
pub const PROBES: u32 = 32;

/// The place after `steps` others.
#[inline(always)]
pub const fn probe(home: u32, steps: u32) -> u32 {
    (home + steps) & (PLACES as u32 - 1)
}

/// A service's record that was found; not an `Option`, for the verifier's sake: see [`crate::table::Found`].
#[derive(Clone, Copy)]
pub struct Sought {
    /// Null: there is none.
    pub record: *const Service,
    pub place: u32,
    pub policy: Policy,
}

impl Sought {
    const NONE: Sought = Sought { record: core::ptr::null(), place: 0, policy: Policy(0) };
}

/// Finds the record of the service with this address and transport, see [`crate::layout::ServiceKey::place`].
///
/// # Safety
/// `directory` is readable.
#[inline(always)]
pub unsafe fn find(
    directory: *const Directory,
    address: &[u64; 2],
    transport: u32,
    hash: DestinationHash,
) -> Sought {
    // SAFETY: the caller's promise.
    unsafe { find_where(directory, address, transport, hash, |_| true) }
}

/// Place of the record with this address and transport, or [`NOWHERE`]; of those of ranges, which have
/// [`ServiceKey::RANGE`], the one whose range has the port, host byte order.
///
/// # Safety
/// As for [`find`].
#[inline(always)]
pub unsafe fn place_of(
    directory: *const Directory,
    address: &[u64; 2],
    transport: u32,
    port: u16,
    key: Key,
) -> u32 {
    let is_range = transport & ServiceKey::RANGE != 0;
    let has_port = |place: u32| {
        // SAFETY: the caller's promise; a place is below the number of places.
        let ranges = unsafe { (&raw const (*directory).ranges).cast::<u32>() };
        // SAFETY: as above.
        !is_range || PortRange(unsafe { ranges.add(place as usize).read_volatile() }).has(port)
    };
    let hash = DestinationHash::of(address, transport, key);
    // SAFETY: the caller's promise.
    let sought = unsafe { find_where(directory, address, transport, hash, has_port) };
    if sought.record.is_null() { NOWHERE } else { sought.place }
}

/// Finds the record of a service that packets to an address and transport are for, and that is not theirs alone: of a range of
/// ports or of a prefix. The packet's own transport may carry [`ServiceKey::REPLY`]. The record's place, or [`NOWHERE`].
///
/// `place_of` is [`place_of`] but for what is the same each time: in BPF a global function, as the verifier would walk each search
/// after all ways through the ones before.
#[inline(always)]
pub fn find_wide(
    address: &[u64; 2],
    transport: u32,
    features: u32,
    prefixes: &[Prefix; PREFIXES],
    place_of: impl Fn(&[u64; 2], u32) -> u32,
) -> u32 {
    let any_port = transport & !0xffff | ServiceKey::RANGE;
    let look = |address: &[u64; 2], mark: u32| {
        if mark != 0 {
            let found = place_of(address, transport | mark);
            if found != NOWHERE {
                return found;
            }
        }
        if features & FEATURE_RANGES == 0 { NOWHERE } else { place_of(address, any_port | mark) }
    };
    let found = look(address, 0);
    if found != NOWHERE {
        return found;
    }
    let mut i = 0;
    while i < PREFIXES {
        let Prefix { mask, mark } = prefixes[i];
        if mask[0] | mask[1] == 0 {
            break;
        }
        let prefix = [address[0] & mask[0] | mark[0], address[1] & mask[1] | mark[1]];
        let found = look(&prefix, ServiceKey::PREFIX);
        if found != NOWHERE {
            return found;
        }
        i += 1;
    }
    NOWHERE
}

/// No place.
pub const NOWHERE: u32 = u32::MAX;

/// # Safety
/// As for [`find`].
#[inline(always)]
unsafe fn find_where(
    directory: *const Directory,
    address: &[u64; 2],
    transport: u32,
    hash: DestinationHash,
    is_it: impl Fn(u32) -> bool,
) -> Sought {
    let home = hash.place();
    let mut steps = 0u64;
    loop {
        let place = probe(home, steps as u32);
        // SAFETY: the caller's promise; `probe` stays below the number of places.
        let record = unsafe { (&raw const (*directory).services).cast::<Service>().add(place as usize) };
        // SAFETY: as above.
        let found = unsafe { (&raw const (*record).transport).read_volatile() };
        if found & Service::TRANSPORT == transport {
            // SAFETY: as above; an address changes only while no packet may read it.
            let [upper, lower] = unsafe { (*record).address };
            if upper == address[0] && lower == address[1] && is_it(place) {
                return Sought { record, place, policy: Policy((found >> 24) as u8) };
            }
        } else if found == Service::FREE {
            return Sought::NONE;
        }
        // Else the compiler compares before it counts, and the loop may go back by no jump, which Linux 6.1 refuses.
        steps = opaque(steps + 1);
        if steps >= PROBES as u64 {
            return Sought::NONE;
        }
    }
}
