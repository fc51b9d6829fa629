//! The balancer's XDP program: `parse → find service → find slot and pin → decide → forward → account`.
//!
//! Glue only: what is decided, and how pins are kept, is in `lb-common`.
#![no_std]
#![no_main]

mod backend;
mod begin;
mod clock;
mod exact;
mod forward;
mod gate;
mod insert;
mod maps;
mod memory;
mod pin;
mod record;
mod settled;
mod verdict;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::decide::PinAction;
use lb_common::flow::{Phase, Word};
use lb_common::hash::DestinationHash;
use lb_common::layout::{
    DecisionRecord, Directory, HOST_NONE, HostState, PLACES, Policy, SLOTS_A_BLOCK, Slot, Tuple, Way, Window,
};
use lb_common::parse::{Frame, Segment, Signal, parse};
use lb_common::reason::Reason;
use lb_common::services;
use lb_common::table::Home;

use crate::begin::Begun;
use crate::memory::Memory;
use crate::record::record;
use crate::verdict::Verdict;

/// For traffic.
#[xdp]
pub fn sluice_lb(ctx: XdpContext) -> u32 {
    balance_and_count::<false>(&ctx)
}

/// The same, and each decision is recorded.
#[xdp]
pub fn sluice_record(ctx: XdpContext) -> u32 {
    balance_and_count::<true>(&ctx)
}

#[inline(always)]
fn balance_and_count<const RECORDS: bool>(ctx: &XdpContext) -> u32 {
    record::<RECORDS>(|record| *record = DecisionRecord::default());
    // SAFETY: the kernel's bounds of the frame's linear part; every access is checked against them.
    let frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let verdict = balance::<RECORDS>(ctx, &frame);
    record::<RECORDS>(|record| record.reason = verdict.reason());
    verdict.finish()
}

#[inline(always)]
fn balance<const RECORDS: bool>(ctx: &XdpContext, frame: &Frame) -> Verdict {
    let packet = match parse(frame) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::pass(reason),
    };
    let Some(directory) = maps::DIRECTORY.get_ptr(0) else {
        return Verdict::drop(Reason::DropInternal);
    };
    let Tuple { destination, .. } = &packet.tuple;
    let transport = packet.tuple.transport();
    let destination_hash = DestinationHash::of(destination, transport, maps::key());
    // SAFETY: the map's element.
    let sought = unsafe { services::find(directory, destination, transport, destination_hash) };
    if sought.record.is_null() {
        return Verdict::pass(Reason::PassNoService);
    }
    // The ring before the window: windows widen before rings name new hosts, so a packet that sees a ring sees its hosts.
    // SAFETY: a record of the map; aligned words, each read once.
    let (block, window) = unsafe {
        let block = (&raw const (*sought.record).block).read_volatile();
        (block, Window::unpack((&raw const (*sought.record).window).read_volatile()))
    };
    let hash = destination_hash.flow(&packet.tuple, maps::key());
    let policy = sought.policy;
    let slot_hash =
        if policy.has(Policy::CLIENT) { destination_hash.client(&packet.tuple, maps::key()) } else { hash };
    let slot_number = slot_hash.slot(maps::ring_size());
    record::<RECORDS>(|record| {
        record.hash = hash.0;
        record.service = number_of(directory, sought.place);
        record.policy = policy.0;
        record.signal = packet.signal as u8;
        record.slot_number = slot_number;
    });
    if policy.has(Policy::EDGES) && !matches!(packet.signal, Signal::Syn | Signal::Datagram) {
        let Some(slot) = find_slot(block, slot_number) else { return Verdict::drop(Reason::DropInternal) };
        let owner = backend::find(directory, window, slot.owner());
        if !slot.is_open() && owner.state() == HostState::Up {
            record::<RECORDS>(|record| {
                (record.slot, record.host, record.way) = (slot.0, slot.owner(), Way::Edges as u8)
            });
            return forward::forward(ctx, frame, &packet, &owner, Reason::ForwardOwner);
        }
    }
    // The bucket first, as it is the one that is likely to be far away.
    let Some(home) = Home::of(&Memory, hash) else { return Verdict::drop(Reason::DropInternal) };
    begin::expect(&packet, hash);
    let Some(slot) = find_slot(block, slot_number) else { return Verdict::drop(Reason::DropInternal) };
    exact::expect(slot, hash);
    let now = clock::now();
    record::<RECORDS>(|record| {
        let found = home.find(hash);
        (record.word, record.index) = (found.word.0, found.index);
        record.is_live = found.word.is_live(now, maps::timeouts()) as u8;
        (record.slot, record.host) = (slot.0, slot.owner());
    });
    // In the phase that a flow is in after most of its packets, the first and the others.
    let phase = Phase::from_bits(packet.signal as u8);
    let wanted = Word::new(hash.tag(), slot.owner(), phase, now).with_set(policy.set());
    let service = || number_of(directory, sought.place);
    let owner = backend::find(directory, window, slot.owner());
    let (backend, reason) = if owner.state() == HostState::Up
        && settled::refresh(packet.signal, hash, wanted, &home, slot, now)
    {
        record::<RECORDS>(|record| {
            record.way = Way::Settled as u8;
            (record.action, record.phase) = (PinAction::Refresh as u8, wanted.phase() as u8);
        });
        (owner, Reason::ForwardPin)
    } else if owner.state() == HostState::Up
        && begin::begin(
            Begun {
                packet: &packet,
                hash,
                home: &home,
                word: wanted,
                slot_number,
                service: service(),
                owner: &owner,
                now,
            },
            || Segment::of(frame, &packet),
        )
    {
        record::<RECORDS>(|record| {
            record.way = Way::Begin as u8;
            (record.action, record.phase) = (PinAction::Make as u8, wanted.phase() as u8);
        });
        (owner, Reason::ForwardNew)
    } else {
        let outcome = exact::decide_exactly::<RECORDS>(hash, now, |flow| {
            flow.packet = packet;
            flow.segment = Segment::of(frame, &packet);
            flow.hash = hash;
            flow.window = window;
            flow.policy = policy;
            flow.service = service();
            flow.slot = slot;
            flow.slot_number = slot_number;
            flow.now = now;
        });
        record::<RECORDS>(|record| (record.way, record.host) = (Way::Exact as u8, outcome.host));
        if outcome.host == HOST_NONE {
            #[cfg(feature = "log")]
            if let Reason::DropInternal = outcome.reason {
                aya_log_ebpf::warn!(
                    ctx,
                    "service {}: a slot or a pin names a host without a backend",
                    service()
                );
            }
            return Verdict::drop(outcome.reason);
        }
        (backend::find(directory, window, outcome.host), outcome.reason)
    };
    forward::forward(ctx, frame, &packet, &backend, reason)
}

/// Number of the service at a place.
#[inline(always)]
fn number_of(directory: *const Directory, place: u32) -> u16 {
    // SAFETY: the map's element; the index is below the length.
    unsafe {
        (&raw const (*directory).numbers).cast::<u16>().add(place as usize & (PLACES - 1)).read_volatile()
    }
}

/// A slot of the ring's copy that begins at `block`.
#[inline(always)]
fn find_slot(block: u32, number: u32) -> Option<Slot> {
    let block = maps::RINGS.get_ptr(block + number / SLOTS_A_BLOCK as u32)?;
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
