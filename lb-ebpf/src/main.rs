//! The balancer's XDP program: `parse → find service → find slot and pin → decide → forward → account`.
//!
//! Glue only: what is decided, and how pins are kept, is in `lb-common`.
#![no_std]
#![no_main]

mod backend;
mod clock;
mod forward;
mod insert;
mod maps;
mod memory;
mod pin;
mod verdict;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::decide::decide;
use lb_common::flow::Phase;
use lb_common::hash::FlowHash;
use lb_common::layout::{HOST_NONE, HostState, RingHead, SLOTS_A_BLOCK, Service, ServiceKey, Slot, Window};
use lb_common::parse::{Frame, Packet, parse};
use lb_common::reason::Reason;

use crate::backend::{Backends, count_packet};
use crate::pin::Kept;
use crate::verdict::{Verdict, count};

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
    let Some(slot) = find_slot(service.ring, slot_number) else {
        return Verdict::Drop(Reason::DropInternal);
    };
    let backends = Backends::new(Window::unpack(service.window));
    let now = clock::now();
    let kept = Kept::find(&packet, hash, slot, &backends, now);
    let decision = decide(packet.signal, slot, kept.pin(), &kept.view(&packet, &backends));
    let backend = backends.get(decision.host);
    if backend.is_none() && decision.host != HOST_NONE {
        #[cfg(feature = "log")]
        aya_log_ebpf::warn!(ctx, "service {}: host {} has no backend", number, decision.host);
        count(if kept.pin().is_some() {
            Reason::ViolationPinNamesNobody
        } else {
            Reason::ViolationSlotNamesNobody
        });
        return Verdict::Drop(Reason::DropInternal);
    }
    let flow = pin::Flow { packet: &packet, hash, service: number, slot, slot_number, now };
    // Also for a packet that is dropped, as nobody can take it for its host, which is down: the flow lives on.
    let applied = pin::apply(&flow, &kept, &decision, &backends);
    let Some(backend) = backend else {
        return Verdict::Drop(decision.reason);
    };
    match applied {
        pin::Applied::Done => {}
        pin::Applied::Began => {
            if backend.state() == HostState::Draining {
                #[cfg(feature = "log")]
                aya_log_ebpf::warn!(
                    ctx,
                    "service {}: a new flow on host {}, which is draining",
                    number,
                    decision.host
                );
                count(Reason::ViolationNewFlowOnDraining);
            }
        }
        pin::Applied::NoPlace => return Verdict::Drop(Reason::DropNoPlace),
    }
    let verdict = forward::forward(ctx, &packet, &backend, decision.reason);
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
    let number = *unsafe { maps::SERVICE_NUMBERS.get(&key) }?;
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

/// Whether a phase is that of a flow that has just begun.
const fn begins(phase: Phase) -> bool {
    matches!(phase, Phase::HalfOpen | Phase::Udp)
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
