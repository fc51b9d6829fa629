//! The flow table's memory: the maps.

use aya_ebpf::bindings::BPF_NOEXIST;
use lb_common::bits::opaque;
use lb_common::flow::{Phase, Timeouts};
use lb_common::layout::{BackendStats, Cold, HostId, Overflow, PHASES_COUNTED, Service, Tuple, state};
use lb_common::table::{self, Table};

use crate::backend::stats;
use crate::route::find_slot;
use crate::service::by_number;
use crate::{clock, maps};

/// The flow table in the kernel.
pub struct Memory;

impl Table for Memory {
    #[inline(always)]
    fn mask(&self) -> u32 {
        maps::bucket_mask()
    }

    #[inline(always)]
    fn timeouts(&self) -> &Timeouts {
        maps::timeouts()
    }

    #[inline(always)]
    fn keeps(&self) -> &Timeouts {
        maps::keeps()
    }

    #[inline(always)]
    fn bucket(&self, bucket: u32) -> Option<*mut u64> {
        maps::HOT.get_ptr_mut(bucket).map(<*mut [u64; 8]>::cast)
    }

    #[inline(always)]
    fn cold(&self, index: u32) -> Option<*mut Cold> {
        maps::COLD.get_ptr_mut(index)
    }

    #[inline(always)]
    fn mark(&self, bucket: u32) -> Option<*mut u32> {
        let block = maps::MARKS.get_ptr_mut(bucket >> 4)?;
        // SAFETY: a block has 16 marks.
        Some(unsafe { block.cast::<u32>().add(bucket as usize & 15) })
    }

    #[inline(always)]
    fn overflow(&self, tuple: &Tuple) -> Option<*mut Overflow> {
        maps::OVERFLOW.get_ptr_mut(tuple)
    }

    #[inline(always)]
    fn overflow_insert(&self, tuple: &Tuple, entry: &Overflow) -> bool {
        maps::OVERFLOW.insert(tuple, entry, BPF_NOEXIST as u64).is_ok()
    }

    #[inline(always)]
    fn account(&self, index: u32, from: Phase, to: Phase) {
        if let Some(stats) = stats(index) {
            // The compiler knows that a gauge is below 4 and drops a plain mask, but the verifier does not know.
            let masked = |gauge: usize| opaque(gauge as u64) as usize & (PHASES_COUNTED - 1);
            if let Some(gauge) = BackendStats::gauge_of(from) {
                stats.left[masked(gauge)] += 1;
            }
            if let Some(gauge) = BackendStats::gauge_of(to) {
                stats.entered[masked(gauge)] += 1;
            }
            if let Phase::Reset = to {
                stats.reset += 1;
            }
            if let (Phase::HalfOpen, Phase::Empty) = (from, to) {
                stats.unanswered += 1;
            }
        }
    }

    #[inline(always)]
    fn evicted(&self, index: u32, host: HostId) {
        if let Some(stats) = stats(index) {
            stats.evicted += 1;
        }
        mark_incomplete(host);
    }

    #[inline(always)]
    fn is_settled(&self, service: u16, slot: u32, client: &[u64; 2]) -> bool {
        let Some(directory) = maps::DIRECTORY.get_ptr(0) else { return false };
        let Some(record) = by_number(directory, service) else { return false };
        // SAFETY: a record of the map; an aligned word.
        let mut block = unsafe { (&raw const (*record).block).read_volatile() };
        if block & Service::SPLIT != 0 {
            block = block_of_client(service as u32, client[0], client[1], block & !Service::SPLIT);
        }
        find_slot(block, slot).is_some_and(|slot| !slot.is_open())
    }

    #[inline(always)]
    fn half_open_over_quota(&self) -> bool {
        maps::STATE.get(state::HALF_OPEN_OVER_QUOTA).is_some_and(|&over| over != 0)
    }

    #[inline(always)]
    fn victim(&self, bucket: u32, hand: u32, now: u32) -> u64 {
        victim_of(bucket, hand, now)
    }

    #[inline(always)]
    fn settled(&self, bucket: u32, phase: u32) -> u64 {
        settled_of(bucket, phase)
    }
}

/// First block of the ring that a client goes by, or that of all `others`. Global functions, this and the next two, so that the verifier
/// walks each once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn block_of_client(service: u32, upper: u64, lower: u64, others: u32) -> u32 {
    match maps::client_ring(service as u16, [upper, lower]) {
        Some(ring) => ring.block,
        None => others,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn victim_of(bucket: u32, hand: u32, now: u32) -> u64 {
    table::victim(&Memory, bucket, hand, now)
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settled_of(bucket: u32, phase: u32) -> u64 {
    table::settled(&Memory, bucket, phase)
}

/// From now on, and for as long as a flow may be silent, the host has live flows that no pin counts.
#[inline(always)]
pub fn mark_incomplete(host: HostId) {
    if let Some(since) = maps::INCOMPLETE_SINCE.get_ptr_mut(host as u32) {
        // SAFETY: one aligned word of a map.
        unsafe { since.write_volatile(clock::now() as u64) };
    }
}

/// A flow that only a pin could have kept at its host has none: handovers stay open for as long as it may be silent.
#[inline(always)]
pub fn mark_lost() {
    if let Some(lost) = maps::STATE.get_ptr_mut(state::LOST_AT) {
        // SAFETY: one aligned word of a map.
        unsafe { lost.write_volatile(clock::now() as u64) };
    }
}
