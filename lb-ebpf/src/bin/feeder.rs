//! The benchmark's feeder: puts the next packet of a set where the last one was and calls the program under test.
//!
//! `BPF_PROG_TEST_RUN` with `repeat` gives each round the packet that the round before left, so an encapsulating
//! program would see its own output. The feeder takes off what was put in front and writes the first bytes anew.
//! Programs that differ in what they call, so that the call is direct, as the kernel makes it for an index that is constant:
//! what the two empty programs take is what feeding costs, and the reference tells what a connection table costs at least that is
//! made of the kernel's LRU hash.
#![no_std]
#![no_main]

#[path = "../program.rs"]
mod program;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_xdp_adjust_head};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, LruHashMap, ProgramArray};
use aya_ebpf::programs::XdpContext;
use lb_common::checksum::Delta;
use lb_common::layout::Tuple;

/// 8-byte words of a packet that are restored: its headers.
const WORDS: usize = 10;
/// 8-byte words of the shortest frame, 64 bytes.
const SHORT: usize = 8;

/// The packets of the set: their first bytes. The loader sets the size.
#[map]
static PACKETS: Array<[u64; WORDS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Number of packets in the set; length of each of them, 64 bytes or at least 80; number of the next one.
#[map]
static FEED: Array<[u64; 3]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// 0: sends at once; 1: passes at once; 2: the program under test; 3: the reference.
#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(4, 0);
/// The reference's connection table: where the flow goes, and when it was seen. The loader sets the size.
#[map]
static CONNECTIONS: LruHashMap<Tuple, [u64; 2]> = LruHashMap::with_max_entries(1, 0);
/// Flows that the reference did not find in it.
#[map]
static MISSES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[xdp]
pub fn feed_sender(ctx: XdpContext) -> u32 {
    call(&ctx, 0)
}

#[xdp]
pub fn feed_passer(ctx: XdpContext) -> u32 {
    call(&ctx, 1)
}

#[xdp]
pub fn feed_tested(ctx: XdpContext) -> u32 {
    call(&ctx, 2)
}

#[xdp]
pub fn feed_reference(ctx: XdpContext) -> u32 {
    call(&ctx, 3)
}

/// As [`feed_tested`], but each packet comes from another address of 64.0.0.0/3 and another port: a flood. IPv4 only.
#[xdp]
pub fn feed_flood(ctx: XdpContext) -> u32 {
    if feed(&ctx).is_some() && disguise(&ctx).is_some() {
        // SAFETY: the context is the program's own. Returns only if there is no such program.
        unsafe { PROGRAMS.tail_call(&ctx, 2) };
    }
    XDP_ABORTED
}

/// The empty program for packets that are sent on.
#[xdp]
pub fn sender(_ctx: XdpContext) -> u32 {
    XDP_TX
}

/// The empty program for packets that are none of ours.
#[xdp]
pub fn passer(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// One look-up and refresh of a connection table for a TCP packet over IPv4, and nothing else: no service, no backend, no new
/// headers, no counters.
#[xdp]
pub fn reference(ctx: XdpContext) -> u32 {
    match refresh(&ctx) {
        Some(()) => XDP_TX,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn refresh(ctx: &XdpContext) -> Option<()> {
    let start = ctx.data();
    if start + SHORT * 8 > ctx.data_end() {
        return None;
    }
    // SAFETY: checked; BPF needs no alignment.
    let (ethertype, version, protocol, source, destination, ports) = unsafe {
        (
            *((start + 12) as *const u16),
            *((start + 14) as *const u8),
            *((start + 23) as *const u8),
            *((start + 26) as *const u32),
            *((start + 30) as *const u32),
            *((start + 34) as *const u32),
        )
    };
    // A header without options.
    if ethertype != 0x0800_u16.to_be() || version != 0x45 || protocol != 6 {
        return None;
    }
    let tuple = Tuple { source: Tuple::v4(source), destination: Tuple::v4(destination), ports, protocol: 6 };
    // SAFETY: takes no argument.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    match CONNECTIONS.get_ptr_mut(tuple) {
        // SAFETY: the map's memory; one run at a time uses it.
        Some(connection) => unsafe { (*connection)[1] = now },
        None => {
            CONNECTIONS.insert(tuple, [1, now], 0).ok()?;
            let misses = MISSES.get_ptr_mut(0)?;
            // SAFETY: as above.
            unsafe { *misses += 1 };
        }
    }
    Some(())
}

#[inline(always)]
fn call(ctx: &XdpContext, program: u32) -> u32 {
    if feed(ctx).is_some() {
        // SAFETY: the context is the program's own. Returns only if there is no such program.
        unsafe { PROGRAMS.tail_call(ctx, program) };
    }
    XDP_ABORTED
}

/// Writes a random source that nobody finds odd; TCP's checksum stays, as nobody looks at it.
#[inline(always)]
fn disguise(ctx: &XdpContext) -> Option<()> {
    let start = ctx.data();
    if start + SHORT * 8 > ctx.data_end() {
        return None;
    }
    // SAFETY: takes no argument.
    let (address, port) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
    let address = (address & 0x1fff_ffff | 0x4000_0000).to_be();
    // SAFETY: checked.
    unsafe {
        let (checksum, source) = ((start + 24) as *mut u16, (start + 26) as *mut u32);
        let mended = Delta::NONE.word32(source.read_volatile(), address).apply(checksum.read_volatile());
        checksum.write_volatile(mended);
        source.write_volatile(address);
        ((start + 34) as *mut u16).write_volatile(port as u16 | 1);
    }
    Some(())
}

#[inline(always)]
fn feed(ctx: &XdpContext) -> Option<()> {
    let feed = FEED.get_ptr_mut(0)?;
    // SAFETY: the map's record; one run at a time uses it.
    let [count, len, number] = unsafe { *feed };
    // SAFETY: as above.
    unsafe { (*feed)[2] = if number + 1 < count { number + 1 } else { 0 } };
    let packet = PACKETS.get_ptr(number as u32)?;
    let added = (ctx.data_end() - ctx.data()) as i32 - len as i32;
    // SAFETY: the context is the program's own, and no pointer into the packet is held.
    if added != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, added) } != 0 {
        return None;
    }
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + WORDS * 8 <= end {
        // SAFETY: checked.
        unsafe { restore::<WORDS>(start as *mut u8, packet.cast()) };
        Some(())
    } else if start + SHORT * 8 <= end {
        // SAFETY: checked.
        unsafe { restore::<SHORT>(start as *mut u8, packet.cast()) };
        Some(())
    } else {
        None
    }
}

/// Copies word by word; volatile, as the compiler would call a function that copies byte by byte. Behind the Ethernet header
/// the words lie as the fields of IP headers do: a CPU that loads a field out of two stores that it has just made waits
/// for both, as it never does for a packet that came from a network card.
///
/// # Safety
/// `N` words can be written at `to` and read at `from`. Neither needs an alignment in BPF.
#[inline(always)]
unsafe fn restore<const N: usize>(to: *mut u8, from: *const u8) {
    let copy = |at: usize| {
        // SAFETY: the caller's promise; all offsets are at least 8 bytes before the end.
        unsafe { to.add(at).cast::<u64>().write_volatile(from.add(at).cast::<u64>().read_volatile()) };
    };
    copy(0);
    copy(6);
    let mut at = 14;
    while at + 8 <= N * 8 {
        copy(at);
        at += 8;
    }
    copy(N * 8 - 8);
}
