//! From a packet and its service to the backend: slot, pin and decision.

use aya_ebpf::programs::XdpContext;
use lb_common::flow::{Phase, Word};
use lb_common::hash::FlowHash;
use lb_common::layout::{
    Directory, HOST_NONE, HostId, HostState, Policy, SLOTS_A_BLOCK, Service, Side, Slot, Way, Window,
};
use lb_common::parse::{Frame, Packet, Segment, Signal};
use lb_common::reason::Reason;
use lb_common::table::Home;

use crate::backend::{self, Record};
use crate::begin::{self, Begun};
use crate::memory::Memory;
use crate::record::record;
use crate::service::Found;
use crate::{clock, exact, maps, settled};

/// Where a packet goes, and why.
pub struct Routed {
    pub host: HostId,
    pub backend: Record,
    pub reason: Reason,
    pub hash: FlowHash,
    /// Of the service's backends.
    window: Window,
}

impl Routed {
    /// The same, to be kept in a record.
    #[inline(always)]
    pub fn noted(&self, directory: *const Directory) -> Noted {
        let &Routed { host, reason, hash, window, .. } = self;
        Noted { backend: backend::number_of(directory, window, host), host, reason, hash }
    }
}

/// Decides about a packet of the service, the shortest way that will do; `Err` is why it is dropped. With `ONLY`, where no way but the
/// exact one will do, it is [`Reason::PassUnhandled`], and nothing has been done; without, where some clients of the service go by a
/// ring of their own, which is for the whole program.
#[inline(always)]
pub fn shortly<const ONLY: bool>(
    ctx: &XdpContext,
    frame: &Frame,
    packet: &Packet,
    found: &Found,
) -> Result<Routed, Reason> {
    let (mut block, mut window) = found.ring_and_window();
    if block & Service::SPLIT != 0 {
        if !ONLY {
            return Err(Reason::PassUnhandled);
        }
        (block, window) = found.ring_and_window_of(packet.tuple.source, (block, window));
    }
    let (directory, policy) = (found.directory, found.policy);
    let hash = found.destination.flow(&packet.tuple, maps::key());
    let slot_number = found.slot_hash(&packet.tuple, hash).slot(maps::ring_size());
    if tracks_edges(packet, policy) {
        let slot = find_slot(block, slot_number).ok_or(Reason::DropInternal)?;
        let owner = backend::find(directory, window, slot.owner());
        if !slot.is_open() && owner.state() == HostState::Up {
            let (host, reason) = (slot.owner(), Reason::ForwardOwner);
            return Ok(Routed { host, backend: owner, reason, hash, window });
        }
    }
    // The bucket first, as it is the one that is likely to be far away.
    let home = Home::of(&Memory, hash).ok_or(Reason::DropInternal)?;
    begin::expect(packet, hash);
    let slot = find_slot(block, slot_number).ok_or(Reason::DropInternal)?;
    exact::expect(slot, hash);
    let now = clock::now();
    // In the phase that a flow is in after most of its packets, the first and the others.
    let phase = Phase::from_bits(packet.signal as u8);
    let word = Word::new(hash.tag(), slot.owner(), phase, now).with_set(policy.set());
    let service = found.number();
    let host = slot.owner();
    let owner = backend::find(directory, window, host);
    if owner.state() == HostState::Up {
        if settled::refresh(packet.signal, hash, word, &home, slot, now) {
            return Ok(Routed { host, backend: owner, reason: Reason::ForwardPin, hash, window });
        }
        let begun = Begun { packet, hash, home: &home, word, slot_number, service, owner: &owner, now };
        if begin::begin(begun, || Segment::of(frame, packet)) {
            return Ok(Routed { host, backend: owner, reason: Reason::ForwardNew, hash, window });
        }
    }
    if ONLY {
        return Err(Reason::PassUnhandled);
    }
    let asked = Asked { frame, packet, found, hash, window, service, slot, slot_number, now };
    let (host, reason) = asked.decide::<false>(ctx)?;
    Ok(Routed { host, backend: backend::find(directory, window, host), reason, hash, window })
}

/// Where a packet goes, for who keeps it in a record.
pub struct Noted {
    /// Number of the backend's record.
    pub backend: u32,
    pub host: HostId,
    pub reason: Reason,
    pub hash: FlowHash,
}

/// Decides about any packet of the service, the one way that is right for all; `Err` is why it is dropped.
#[inline(always)]
pub fn exactly<const RECORDS: bool>(
    ctx: &XdpContext,
    frame: &Frame,
    packet: &Packet,
    found: &Found,
) -> Result<Noted, Reason> {
    let (mut block, mut window) = found.ring_and_window();
    if block & Service::SPLIT != 0 {
        (block, window) = found.ring_and_window_of(packet.tuple.source, (block, window));
    }
    let hash = found.destination.flow(&packet.tuple, maps::key());
    let slot_number = found.slot_hash(&packet.tuple, hash).slot(maps::ring_size());
    let slot = find_slot(block, slot_number).ok_or(Reason::DropInternal)?;
    record::<RECORDS>(|record| {
        record.hash = hash.0;
        record.service = found.number();
        record.policy = found.policy.0;
        record.signal = packet.signal as u8;
        record.side = Side::Client as u8;
        record.slot_number = slot_number;
        (record.slot, record.host) = (slot.0, slot.owner());
    });
    if tracks_edges(packet, found.policy) && !slot.is_open() {
        let owner = backend::find(found.directory, window, slot.owner());
        if owner.state() == HostState::Up {
            record::<RECORDS>(|record| record.way = Way::Edges as u8);
            let backend = backend::number_of(found.directory, window, slot.owner());
            return Ok(Noted { backend, host: slot.owner(), reason: Reason::ForwardOwner, hash });
        }
    }
    let (service, now) = (found.number(), clock::now());
    let asked = Asked { frame, packet, found, hash, window, service, slot, slot_number, now };
    let decided = asked.decide::<RECORDS>(ctx);
    record::<RECORDS>(|record| {
        record.way = Way::Exact as u8;
        record.host = match &decided {
            Ok((host, _)) => *host,
            Err(_) => HOST_NONE,
        };
    });
    let (host, reason) = decided?;
    Ok(Noted { backend: backend::number_of(found.directory, window, host), host, reason, hash })
}

/// In a settled slot such a packet is not looked up in the flow table.
#[inline(always)]
fn tracks_edges(packet: &Packet, policy: Policy) -> bool {
    policy.has(Policy::EDGES) && !matches!(packet.signal, Signal::Syn | Signal::Datagram)
}

/// What is known about a packet when its decision is asked for.
struct Asked<'a> {
    frame: &'a Frame,
    packet: &'a Packet,
    found: &'a Found,
    hash: FlowHash,
    window: Window,
    service: u16,
    slot: Slot,
    slot_number: u32,
    now: u32,
}

impl Asked<'_> {
    #[inline(always)]
    fn decide<const RECORDS: bool>(&self, ctx: &XdpContext) -> Result<(HostId, Reason), Reason> {
        let &Asked { frame, packet, found, hash, window, service, slot, slot_number, now } = self;
        let outcome = exact::decide_exactly::<RECORDS>(hash, now, |flow| {
            flow.packet = *packet;
            flow.segment = Segment::of(frame, packet);
            flow.hash = hash;
            flow.window = window;
            flow.policy = found.policy;
            flow.service = service;
            flow.slot = slot;
            flow.slot_number = slot_number;
            flow.now = now;
        });
        if outcome.is_predecessors {
            // SAFETY: the context is the program's own. Comes back only if there is no such program.
            unsafe { maps::PROGRAMS.tail_call(ctx, maps::PREDECESSOR) };
            // Linux 6.12 takes the packet for another one from here on, so nothing may be done with it any more.
            return Err(Reason::DropInternal);
        }
        if outcome.host == HOST_NONE {
            #[cfg(feature = "log")]
            if let Reason::DropInternal = outcome.reason {
                aya_log_ebpf::warn!(
                    ctx,
                    "service {}: a slot or a pin names a host without a backend",
                    service
                );
            }
            return Err(outcome.reason);
        }
        Ok((outcome.host, outcome.reason))
    }
}

/// A slot of the ring's copy that begins at `block`.
#[inline(always)]
pub fn find_slot(block: u32, number: u32) -> Option<Slot> {
    let block = maps::RINGS.get_ptr(block + number / SLOTS_A_BLOCK as u32)?;
    // SAFETY: the index is below the length of the block.
    Some(Slot(unsafe { block.cast::<u32>().add(number as usize % SLOTS_A_BLOCK).read_volatile() }))
}
