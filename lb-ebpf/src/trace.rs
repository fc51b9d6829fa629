//! The program that is attached while somebody traces: it shows packets as they come in and leave, with the decision about each.
//!
//! A program of its own, so that the one for traffic is as it is without. What nobody wants to see it hands to that one at once. What may be
//! wanted goes the way that records decisions, which takes longer and comes to the same; so what can be said before the decision is said
//! there: who is asked for, how many of them are shown, and whether there were too many this second.

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_ringbuf_output, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use lb_common::atomic;
use lb_common::bits::opaque;
use lb_common::layout::{
    DecisionRecord, Side, TRACE_BYTES, TRACERS, TraceCounts, TraceFilter, TraceRecord, Tuple,
};
use lb_common::parse::parse_plain;
use lb_common::trace::{Ends, taken};

use crate::hand::{context, frame};
use crate::verdict::Verdict;
use crate::whole::balance_whole;
use crate::{clock, frame_of, maps, reply};

/// The packet that is looked at on one CPU.
#[repr(C)]
pub struct Traced {
    /// Of a plain packet; that of others is known once they are decided about.
    tuple: Tuple,
    is_plain: u32,
    /// Bytes of the frame to be kept at most.
    most: u32,
    record: TraceRecord,
    /// Of the frame as it came in and, right behind those, as it leaves.
    bytes: [u8; 2 * TRACE_BYTES],
}

/// Bits of who wants to see a packet, one each.
const EVERYBODY: u32 = (1 << TRACERS) - 1;
/// Where the bits lie of who can tell only by the decision.
const LATE: u32 = 8;

/// `BPF_RB_NO_WAKEUP`: who reads the ring looks by itself.
const NO_WAKEUP: u64 = 1;

/// Tries to take one out of a budget that other CPUs take from as well.
const TRIES: u32 = 4;

#[inline(always)]
pub fn balance_traced<const FRAGS: bool>(ctx: &XdpContext) -> Verdict {
    let (_, len) = frame_of::<FRAGS>(ctx);
    let wanted = trace_ask(ctx.ctx, len as u32);
    if wanted == 0 {
        // SAFETY: the context is the program's own. Comes back if the daemon has died, and the program for traffic with it.
        unsafe { maps::PROGRAMS.tail_call(ctx, maps::UNTRACED) };
    } else {
        trace_keep(ctx.ctx, wanted, len as u32);
    }
    let verdict = balance_whole::<FRAGS, true>(ctx);
    if wanted != 0 {
        let (_, len) = frame_of::<FRAGS>(ctx);
        trace_tell(ctx.ctx, wanted, verdict.code(), len as u32);
    }
    verdict
}

/// The record of this packet's decision.
#[inline(always)]
pub fn decision() -> Option<*mut DecisionRecord> {
    // SAFETY: a field of the map's element.
    traced().map(|traced| unsafe { &raw mut (*traced).record.decision })
}

/// This CPU's packet, which no other program run touches meanwhile.
#[inline(always)]
fn traced() -> Option<*mut Traced> {
    maps::TRACED.get_ptr_mut(cpu())
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: no arguments, no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

/// What a tracer asks for. User space takes `until` back before it writes the rest, but it may write at any moment: so this is a pointer,
/// and what is read is read once.
#[inline(always)]
fn filter_of(tracer: u32) -> Option<*const TraceFilter> {
    maps::TRACE_FILTERS.get_ptr(tracer)
}

/// This CPU's counts of a tracer, which user space reads meanwhile.
#[inline(always)]
fn counts_of(tracer: u32) -> Option<*mut TraceCounts> {
    maps::TRACE_COUNTS.get_ptr_mut(cpu() * TRACERS as u32 + tracer)
}

/// Adds one to a count.
///
/// # Safety
/// `count` is one of [`counts_of`].
#[inline(always)]
unsafe fn one_more(count: *mut u64) {
    // SAFETY: the caller's promise; no other program run writes it.
    unsafe { count.write_volatile(count.read_volatile() + 1) };
}

/// Step: who is to be shown the packet, in the lowest bits, and who will know it by the decision, from [`LATE`] on.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_ask(ctx: *mut xdp_md, len: u32) -> u32 {
    let Some(traced) = traced() else { return 0 };
    let frame = frame(&context(ctx));
    match parse_plain(&frame, len as usize) {
        // SAFETY: this CPU's record, field by field.
        Ok(packet) => unsafe { ((*traced).tuple, (*traced).is_plain) = (packet.tuple, 1) },
        // SAFETY: the same.
        Err(_) => unsafe { (*traced).is_plain = 0 },
    }
    let now = clock::now();
    let mut wanted = 0;
    for tracer in 0..TRACERS as u32 {
        wanted |= trace_early(tracer, now);
    }
    wanted
}

/// What [`trace_ask`] says for one tracer. A step of its own, so that the verifier walks it once, and so are the next two.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_early(tracer: u32, now: u32) -> u32 {
    let Some(filter) = filter_of(tracer) else { return 0 };
    // SAFETY: an aligned word of a map.
    if unsafe { (&raw const (*filter).until).read_volatile() } < now {
        return 0;
    }
    let Some(traced) = traced() else { return 0 };
    // SAFETY: this CPU's record, which nobody writes until this returns.
    let (is_plain, tuple) = unsafe { ((*traced).is_plain, &(*traced).tuple) };
    if is_plain == 0 {
        return 1 << LATE << (tracer & 7);
    }
    // SAFETY: the map's element, of integers only.
    let filter = unsafe { filter.read_volatile() };
    if !filter.may_want(tuple) {
        return 0;
    }
    if filter.flags & TraceFilter::LATE != 0 {
        return 1 << LATE << (tracer & 7);
    }
    trace_take(tracer, now)
}

/// The bit of a tracer who wants to see the packet, unless others stand for it or there were too many this second.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_take(tracer: u32, now: u32) -> u32 {
    let (Some(filter), Some(counts)) = (filter_of(tracer), counts_of(tracer)) else { return 0 };
    let Some(budget) = maps::TRACE_BUDGETS.get_ptr_mut(tracer) else { return 0 };
    // SAFETY: elements of maps; nobody else writes these counts while somebody is shown packets.
    let (every, rate, mut sum) = unsafe {
        let (every, rate) = (&raw const (*filter).every, &raw const (*filter).rate);
        (every.read_volatile(), rate.read_volatile(), counts.read_volatile())
    };
    let is_one = sum.sample(every);
    // SAFETY: as above.
    unsafe { counts.write_volatile(sum) };
    if !is_one {
        return 0;
    }
    for _ in 0..TRIES {
        // SAFETY: an aligned word of a map.
        let word = unsafe { atomic::load(budget) };
        let Some(after) = taken(word, rate, now) else { break };
        // SAFETY: as above.
        if unsafe { atomic::swap(budget, word, after) } {
            return 1 << (tracer & 7);
        }
    }
    // SAFETY: as above.
    unsafe { one_more(&raw mut (*counts).over_rate) };
    0
}

/// Step: keeps the beginning of the frame as it came.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_keep(ctx: *mut xdp_md, wanted: u32, len: u32) -> u32 {
    let Some(traced) = traced() else { return 0 };
    let mut most = 0;
    for tracer in 0..TRACERS as u32 {
        if (wanted | wanted >> LATE) >> tracer & 1 != 0
            && let Some(filter) = filter_of(tracer)
        {
            // SAFETY: an aligned word of a map.
            let keep = unsafe { (&raw const (*filter).keep).read_volatile() };
            most = if keep > most { keep } else { most };
        }
    }
    // SAFETY: this CPU's record, field by field, and there is room for as many bytes.
    unsafe {
        let (record, bytes) = (&raw mut (*traced).record, (&raw mut (*traced).bytes).cast());
        (*record).at = bpf_ktime_get_ns();
        (*record).length_in = len;
        (*record).ingress = context(ctx).ingress_ifindex() as u32;
        (*record).cpu = cpu();
        (*record).kept_in = load(ctx, bytes, if most < len { most } else { len });
        (*traced).most = most;
    }
    0
}

/// Copies the beginning of the frame; how many bytes.
#[inline(always)]
fn load(ctx: *mut xdp_md, to: *mut u8, bytes: u32) -> u32 {
    // Linux 6.1 does not learn from a comparison with 0 that a number is at least 1: so one less is bounded, and one added.
    let less = opaque((bytes as u64).wrapping_sub(1));
    if less >= TRACE_BYTES as u64 {
        return 0;
    }
    let kept = less as u32 + 1;
    // SAFETY: `to` has room for as many bytes.
    if unsafe { bpf_xdp_load_bytes(ctx, 0, to.cast(), kept) } == 0 { kept } else { 0 }
}

/// Step: shows the packet to those who want it, by the decision where that is to tell.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_tell(ctx: *mut xdp_md, wanted: u32, verdict: u32, len: u32) -> u32 {
    let Some(traced) = traced() else { return 0 };
    // SAFETY: this CPU's record, field by field, here and below. Steps that are called look at it through pointers of their own.
    let (record, bytes) = unsafe { (&raw mut (*traced).record, (&raw mut (*traced).bytes).cast::<u8>()) };
    // SAFETY: as above.
    let most = unsafe {
        ((*record).verdict, (*record).length_out) = (verdict, len);
        (*traced).most
    };
    let mut tracers = wanted & EVERYBODY;
    if wanted >> LATE != 0 {
        tracers |= trace_late(wanted >> LATE);
    }
    if tracers == 0 {
        return 0;
    }
    // SAFETY: as above.
    let kept_in = unsafe {
        (*record).tracers = tracers;
        opaque((*record).kept_in as u64)
    };
    if kept_in > TRACE_BYTES as u64 {
        return 0;
    }
    // SAFETY: within the element, as there is room for as many bytes once more behind those.
    let behind = unsafe { bytes.add(kept_in as usize) };
    let leaving = if verdict == XDP_DROP {
        0
    } else if most < len {
        most
    } else {
        len
    };
    let kept_out = opaque(load(ctx, behind, leaving) as u64);
    if kept_out > TRACE_BYTES as u64 {
        return 0;
    }
    // SAFETY: as above.
    unsafe { (*record).kept_out = kept_out as u32 };
    let size = size_of::<TraceRecord>() as u64 + kept_in + kept_out;
    let ring = (&raw const maps::TRACES).cast_mut().cast();
    // SAFETY: the record and the bytes behind it are within the element.
    if unsafe { bpf_ringbuf_output(ring, record.cast(), size, NO_WAKEUP) } != 0 {
        for tracer in 0..TRACERS as u32 {
            if tracers >> tracer & 1 != 0
                && let Some(counts) = counts_of(tracer)
            {
                // SAFETY: counts of this CPU.
                unsafe { one_more(&raw mut (*counts).no_room) };
            }
        }
    }
    0
}

/// Bits of those tracers of `asked` who want to see the packet, of which the decision is known now.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_late(asked: u32) -> u32 {
    let now = clock::now();
    let mut tracers = 0;
    for tracer in 0..TRACERS as u32 {
        if asked >> tracer & 1 != 0 && trace_wants(tracer) != 0 {
            tracers |= trace_take(tracer, now);
        }
    }
    tracers
}

/// Whether (0 or 1) a tracer wants to see the packet, of which the decision is known now.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_wants(tracer: u32) -> u32 {
    let (Some(filter), Some(traced)) = (filter_of(tracer), traced()) else { return 0 };
    // SAFETY: this CPU's record, which nobody writes until this returns; and the map's element, of integers only.
    let (record, filter) = unsafe { (&(*traced).record, filter.read_volatile()) };
    let tuple = &record.decision.tuple;
    let ends = if record.decision.side == Side::Backend as u8 {
        match reply::vip_of(record.decision.service) {
            // Where ports stay, it is the backend's.
            Some(vip) if vip.port == 0 => {
                Ends::of_answer(tuple, vip.address, u16::from_be(tuple.source_port_raw()))
            }
            Some(vip) => Ends::of_answer(tuple, vip.address, u16::from_be(vip.port)),
            None => return 0,
        }
    } else {
        Ends::of(tuple)
    };
    filter.wants(&record.decision, record.verdict, &ends) as u32
}
