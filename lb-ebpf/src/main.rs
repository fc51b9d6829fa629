//! The balancer's XDP program: `parse → find service → find slot and pin → decide → forward → account`.
//!
//! Glue only: what is decided, and how pins are kept, is in `lb-common`.
#![no_std]
#![no_main]

mod backend;
mod clock;
mod exact;
mod forward;
mod insert;
mod maps;
mod memory;
mod pin;
mod settled;
mod verdict;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::hash::FlowHash;
use lb_common::layout::{HOST_NONE, RingHead, SLOTS_A_BLOCK, Service, ServiceKey, Slot, Window};
use lb_common::parse::{Frame, Packet, parse};
use lb_common::reason::Reason;
use lb_common::table;

use crate::backend::{Backends, count_packet};
use crate::memory::Memory;
use crate::verdict::Verdict;

#[xdp]
pub fn sluice_lb(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel's bounds of the frame's linear part; every access is checked against them.
    let frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    balance(&ctx, &frame).finish()
}

#[inline(always)]
fn balance(ctx: &XdpContext, frame: &Frame) -> Verdict {
    let packet = match parse(frame) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Pass(reason),
    };
    let Some((number, service)) = find_service(&packet) else {
        return Verdict::Pass(Reason::PassNoService);
    };
    let hash = FlowHash::of(&packet.tuple, maps::key());
    let slot_number = hash.slot(maps::ring_size());
    // The bucket first, as it is the one that is likely to be far away.
    let (Some(home), Some(slot)) = (table::home(&Memory, hash), find_slot(service.ring, slot_number)) else {
        return Verdict::Drop(Reason::DropInternal);
    };
    let window = Window::unpack(service.window);
    let backends = Backends::new(window);
    let now = clock::now();
    let (host, reason) = if settled::refresh(&packet, hash, home, slot, &backends, now) {
        (slot.owner(), Reason::ForwardPin)
    } else {
        let outcome = exact::decide_exactly(hash, now, |flow| {
            flow.packet = packet;
            flow.hash = hash;
            flow.window = window;
            flow.service = number;
            flow.slot = slot;
            flow.slot_number = slot_number;
            flow.now = now;
        });
        if outcome.host == HOST_NONE {
            return Verdict::Drop(outcome.reason);
        }
        (outcome.host, outcome.reason)
    };
    let Some(backend) = backends.get(host) else {
        #[cfg(feature = "log")]
        aya_log_ebpf::warn!(ctx, "service {}: host {} has no backend", number, host);
        return Verdict::Drop(Reason::DropInternal);
    };
    let verdict = forward::forward(ctx, &packet, &backend, reason);
    if let Verdict::Transmit(_) | Verdict::Redirect(_) = verdict {
        count_packet(&backend, frame.len() as u64);
    }
    verdict
}

/// The service of the packet's destination, with its number.
#[inline(always)]
fn find_service(packet: &Packet) -> Option<(u16, &'static Service)> {
    let key = ServiceKey {
        address: packet.tuple.destination,
        port: (packet.tuple.ports.to_ne_bytes()[2] as u16)
            | (packet.tuple.ports.to_ne_bytes()[3] as u16) << 8,
        protocol: packet.tuple.protocol as u16,
        pad: 0,
    };
    // SAFETY: the value is one aligned word, which updates replace whole.
    let number = *unsafe { maps::SERVICE_NUMBERS.get(key) }?;
    Some((number as u16, maps::SERVICES.get(number)?))
}

/// The slot, from the copy of the ring that is valid now: the head is read once, so no packet sees two generations.
#[inline(always)]
fn find_slot(ring: u32, number: u32) -> Option<Slot> {
    // SAFETY: one aligned word of a map.
    let head = RingHead::unpack(unsafe { maps::RING_HEADS.get_ptr(ring)?.read_volatile() });
    let block = maps::RINGS.get_ptr(head.block + number / SLOTS_A_BLOCK as u32)?;
    // SAFETY: the index is below the length of the block.
    Some(Slot(unsafe { block.cast::<u32>().add(number as usize % SLOTS_A_BLOCK).read_volatile() }))
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: the verifier accepts the program only if no path leads here.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
