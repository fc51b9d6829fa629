//! Finding the service of a packet: open addressing with linear probing in an array of records, because a look-up in a hash
//! map of the kernel's takes as long as all the rest of a packet's way.
//!
//! A search begins at a place that the hash of the destination gives and goes on, place by place, until it meets the
//! service's record or a free place. Words change in one store each, and a record is written whole before the word that makes
//! it valid; one that has gone is used again only when no packet can be reading it.

use crate::bits::opaque;
use crate::hash::DestinationHash;
use crate::layout::{Directory, PLACES, Policy, Service};

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

/// Finds the record of the service with this address and [`crate::layout::ServiceKey::transport`].
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
    const NONE: Sought = Sought { record: core::ptr::null(), place: 0, policy: Policy(0) };
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
            if upper == address[0] && lower == address[1] {
                return Sought { record, place, policy: Policy((found >> 24) as u8) };
            }
        } else if found == Service::FREE {
            return NONE;
        }
        // Else the compiler compares before it counts, and the loop may go back by no jump, which Linux 6.1 refuses.
        steps = opaque(steps + 1);
        if steps >= PROBES as u64 {
            return NONE;
        }
    }
}
