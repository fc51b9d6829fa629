//! The veth benchmark's ends: one program that makes UDP packets of many flows in turn, one that counts what arrives.
//!
//! The first runs as live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`), whose memory the kernel uses again and again without
//! restoring what forwarding has written into it, so each run writes all headers anew.
#![no_std]
#![no_main]

#[path = "../program.rs"]
mod program;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_TX};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;

/// 8-byte words of a frame.
const WORDS: usize = 8;
/// Kinds of frames that are told apart, by the low bits of the destination's MAC address.
const KINDS: u32 = 8;
/// Flows that share a source address, and the distance of their ports.
const FLOWS_AN_ADDRESS: u64 = 1000;
const PORTS_APART: u64 = 61;
const FIRST_PORT: u64 = 1024;

/// The frame that all are made from: UDP over IPv4 without a checksum of its own, from an address whose low half is 0.
#[map]
static TEMPLATE: Array<[u64; WORDS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Number of flows; sum of the 16-bit words of the template's IP header.
#[map]
static FLOWS: Array<[u64; 2]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Number of the next flow, by CPU.
#[map]
static NEXT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// IPv4 packets that have arrived, by CPU and by the low bits of the destination's MAC address.
#[map]
static ARRIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);

/// Sends the next flow's packet out of the interface that the frame is said to have come in by.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    match make(&ctx) {
        Some(()) => XDP_TX,
        None => XDP_ABORTED,
    }
}

/// Counts and drops.
#[xdp]
pub fn sink(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + 14 > end {
        return XDP_DROP;
    }
    // SAFETY: checked.
    let (last_of_mac, ethertype) =
        unsafe { (*((start + 5) as *const u8), *((start + 12) as *const [u8; 2])) };
    if ethertype == [0x08, 0x00]
        && let Some(arrived) = ARRIVED.get_ptr_mut(u32::from(last_of_mac) % KINDS)
    {
        // SAFETY: this CPU's counter, which no other program run touches meanwhile.
        unsafe { *arrived += 1 };
    }
    XDP_DROP
}

#[inline(always)]
fn make(ctx: &XdpContext) -> Option<()> {
    let next = NEXT.get_ptr_mut(0)?;
    // SAFETY: the map's record, which only user space writes, and not meanwhile.
    let [flows, sum] = unsafe { *FLOWS.get_ptr(0)? };
    // SAFETY: this CPU's record.
    let flow = unsafe { *next };
    // SAFETY: as above.
    unsafe { *next = if flow + 1 < flows { flow + 1 } else { 0 } };
    let template = TEMPLATE.get_ptr(0)?.cast::<u64>();
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + WORDS * 8 > end {
        return None;
    }
    // SAFETY: checked; each value is written whole. Volatile, as the compiler would call a function that copies.
    unsafe {
        let mut at = 0;
        while at < WORDS {
            (start as *mut u64).add(at).write_volatile(template.add(at).read_volatile());
            at += 1;
        }
    }
    let address = (flow / FLOWS_AN_ADDRESS) & 0xffff;
    let port = FIRST_PORT + flow % FLOWS_AN_ADDRESS * PORTS_APART;
    // RFC 1071; two steps fold what eleven words can sum up to.
    let sum = sum + address;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // SAFETY: within the words that were just written.
    unsafe {
        ((start + 24) as *mut u16).write_volatile((!sum as u16).to_be());
        ((start + 28) as *mut u16).write_volatile((address as u16).to_be());
        ((start + 34) as *mut u16).write_volatile((port as u16).to_be());
    }
    Some(())
}
