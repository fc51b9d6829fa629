//! The decision: which host a packet goes to, and what becomes of its flow's pin. Pure; the data path, the tests and
//! the reference model run this very code.

use crate::flow::Phase;
use crate::layout::{HOST_NONE, HostId, HostState, Slot};
use crate::parse::Signal;
use crate::reason::Reason;

/// What the decision may ask while it decides; answered lazily, as most packets need little of it.
pub trait View {
    /// What may be done with `host` for the packet's service, at this moment and for this flow: see
    /// [`crate::layout::Control::state_for`].
    fn state(&self, host: HostId) -> HostState;
    /// Whether the pin was made by a SYN with this packet's sequence number.
    fn is_same_syn(&self) -> bool;
    /// How far the packet's sequence number is past the one after the FIN that made the pin closing, modulo 2³²; the number of a
    /// packet from before the FIN is just below 2³².
    fn past_fin(&self) -> u32;
    /// Whether the flow's last packet that counted came in this second or the one before.
    fn is_recent(&self) -> bool;
    /// Whether the service wants a UDP flow whose host is not the owner to go to the owner now.
    fn gives_way(&self) -> bool;
}

/// Bytes of the sequence before a FIN whose packets the FIN may overtake on their way (RFC 9293, 3.4): the window without scaling.
pub const OVERTAKEN_MOST: u32 = 1 << 16;

/// The live pin of the packet's flow, or none. Not an `Option`, for the verifier's sake: see [`crate::table::Found`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    pub host: HostId,
    /// [`Phase::Empty`]: there is no pin.
    pub phase: Phase,
}

impl Pin {
    pub const NONE: Pin = Pin { host: HOST_NONE, phase: Phase::Empty };

    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        self.phase as u8 != Phase::Empty as u8
    }
}

/// What is done to the pin.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinAction {
    /// Nothing, not even "seen now".
    Leave = 0,
    /// Seen now, in the phase given.
    Refresh = 1,
    /// A new pin, or the old one made anew: the host and the phase given.
    Make = 2,
}

/// What becomes of the pin. All fields always have a value, for the verifier's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinChange {
    pub action: PinAction,
    pub host: HostId,
    pub phase: Phase,
}

impl PinChange {
    pub const LEAVE: PinChange = PinChange { action: PinAction::Leave, host: HOST_NONE, phase: Phase::Empty };

    #[inline(always)]
    const fn refresh(phase: Phase) -> Self {
        PinChange { action: PinAction::Refresh, host: HOST_NONE, phase }
    }

    #[inline(always)]
    const fn make(host: HostId, phase: Phase) -> Self {
        PinChange { action: PinAction::Make, host, phase }
    }
}

/// The outcome.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Where the packet goes; [`HOST_NONE`]: it is dropped.
    pub host: HostId,
    pub pin: PinChange,
    pub reason: Reason,
}

/// Whether a host is the stateless answer of the slots that are handed over from it.
#[inline(always)]
pub fn serves(state: HostState) -> bool {
    !matches!(state, HostState::Gone | HostState::Drained | HostState::Lost) && !is_over(state)
}

/// Whether the deadline of the host's drain has passed, for the flow that asks.
#[inline(always)]
pub fn is_over(state: HostState) -> bool {
    matches!(state, HostState::Moves | HostState::Resets)
}

/// Where a mid-flow packet without a pin goes (C3): the previous owner while the handover is open and that host still
/// serves, else the owner. A host that is down still is the home of its flows.
#[inline(always)]
pub fn stateless(slot: Slot, state_of: impl Fn(HostId) -> HostState) -> HostId {
    if slot.is_open() {
        let previous = slot.previous();
        if previous != HOST_NONE && serves(state_of(previous)) {
            return previous;
        }
    }
    slot.owner()
}

/// Decides for one packet. `pin` is the live pin of exactly this flow.
#[inline(always)]
pub fn decide(signal: Signal, slot: Slot, pin: Pin, view: &impl View) -> Decision {
    if pin.is_some() {
        match signal {
            Signal::Syn => syn_on_pin(slot, pin, view),
            _ => on_pin(signal, slot, pin, view),
        }
    } else {
        match signal {
            Signal::Syn => new_flow(slot, Phase::HalfOpen),
            Signal::Datagram => new_flow(slot, Phase::Udp),
            _ => without_pin(signal, slot, view),
        }
    }
}

/// A new flow goes to the owner, and nowhere else (C2).
#[inline(always)]
fn new_flow(slot: Slot, phase: Phase) -> Decision {
    match slot.owner() {
        HOST_NONE => Decision { host: HOST_NONE, pin: PinChange::LEAVE, reason: Reason::AnswerReject },
        host => Decision { host, pin: PinChange::make(host, phase), reason: Reason::ForwardNew },
    }
}

/// A SYN whose tuple has a live pin (C2). Of a flow that has been ended, or is to be, nothing is left that it could harm.
#[inline(always)]
fn syn_on_pin(slot: Slot, pin: Pin, view: &impl View) -> Decision {
    match pin.phase {
        _ if is_over(view.state(pin.host)) => new_flow(slot, Phase::HalfOpen),
        Phase::HalfOpen if view.is_same_syn() => {
            obey(slot, pin, PinChange::refresh(Phase::HalfOpen), Reason::ForwardSynAgain, view)
        }
        // The backend answers with a challenge ACK. Were the pin changed, a blind SYN could move the flow.
        Phase::Established => obey(slot, pin, PinChange::LEAVE, Reason::ForwardSynEstablished, view),
        _ => new_flow(slot, Phase::HalfOpen),
    }
}

/// Any other packet of a pinned flow (C1).
#[inline(always)]
fn on_pin(signal: Signal, slot: Slot, pin: Pin, view: &impl View) -> Decision {
    let is_elsewhere = pin.host != slot.owner() && slot.owner() != HOST_NONE;
    if matches!(signal, Signal::Datagram) && is_elsewhere && view.gives_way() {
        return new_flow(slot, Phase::Udp);
    }
    if let Phase::Reset = pin.phase {
        return on_reset(signal, slot, pin, view);
    }
    let is_overtaken = matches!((signal, pin.phase), (Signal::Ack, Phase::Closing)) && is_overtaken(view);
    let phase = match (signal, pin.phase) {
        (Signal::Datagram, phase) => phase,
        (Signal::Fin | Signal::Rst, _) => Phase::Closing,
        (Signal::Ack, Phase::HalfOpen) => Phase::Established,
        // After the client's FIN come only acknowledgements, with the sequence number after it. Anything else says
        // that the FIN was not the client's: the flow lives.
        (Signal::Ack, Phase::Closing) if !is_overtaken && view.past_fin() != 0 => Phase::Established,
        (_, phase) => phase,
    };
    let is_sign = !matches!(signal, Signal::Stray) && !is_overtaken;
    // Neither what a client says last, nor what says nothing about the flow, is held back.
    if is_sign && !matches!(signal, Signal::Rst) {
        match view.state(pin.host) {
            HostState::Resets if !matches!(signal, Signal::Datagram) => return reset(),
            HostState::Moves | HostState::Resets if is_elsewhere => return move_to_owner(slot, phase),
            _ => {}
        }
    }
    let change = if is_sign { PinChange::refresh(phase) } else { PinChange::LEAVE };
    obey(slot, pin, change, Reason::ForwardPin, view)
}

/// Whether the packet, on a closing pin, is one that the client's FIN has overtaken, as where two processors receive packets of a
/// flow. It says nothing: taken for a sign of life, it would leave a flow that has ended to its idle timeout. Was the FIN
/// forged, the client's packets revive the flow a second later, as those that say nothing do not make the pin younger.
#[inline(always)]
fn is_overtaken(view: &impl View) -> bool {
    let before = view.past_fin().wrapping_neg();
    before != 0 && before <= OVERTAKEN_MOST && view.is_recent()
}

/// The deadline has passed: the flow is the owner's from here on. A host that has nobody to give it to keeps it.
#[inline(always)]
fn move_to_owner(slot: Slot, phase: Phase) -> Decision {
    let host = slot.owner();
    Decision { host, pin: PinChange::make(host, phase), reason: Reason::ForwardMoved }
}

/// The client is told that the flow has ended; the packet goes nowhere. The pin stays for as long as the client speaks.
#[inline(always)]
fn reset() -> Decision {
    Decision { host: HOST_NONE, pin: PinChange::refresh(Phase::Reset), reason: Reason::AnswerReset }
}

/// A packet of a flow that has been ended. The client's RST is for the host, whose retransmission it answers: so the host learns of
/// the end as well.
#[inline(always)]
fn on_reset(signal: Signal, slot: Slot, pin: Pin, view: &impl View) -> Decision {
    match signal {
        Signal::Rst | Signal::Stray => obey(slot, pin, PinChange::LEAVE, Reason::ForwardPin, view),
        _ => reset(),
    }
}

/// To the pin's host, or around it while it is down.
#[inline(always)]
fn obey(slot: Slot, pin: Pin, change: PinChange, reason: Reason, view: &impl View) -> Decision {
    match view.state(pin.host) {
        HostState::Down => around(slot, change),
        _ => Decision { host: pin.host, pin: change, reason },
    }
}

/// The pin's host is down: the owner has the packet for now, but the flow stays pinned to its home, so that a false
/// alarm of a moment moves nothing for good.
#[inline(always)]
fn around(slot: Slot, change: PinChange) -> Decision {
    match slot.owner() {
        HOST_NONE => Decision { host: HOST_NONE, pin: change, reason: Reason::DropNoHost },
        host => Decision { host, pin: change, reason: Reason::ForwardAroundDown },
    }
}

/// Mid-flow without a live pin (C3). What cannot be the sign of a live flow makes no pin.
#[inline(always)]
fn without_pin(signal: Signal, slot: Slot, view: &impl View) -> Decision {
    let home = stateless(slot, |host| view.state(host));
    if home == HOST_NONE {
        return Decision { host: HOST_NONE, pin: PinChange::LEAVE, reason: Reason::DropNoHost };
    }
    let change = match signal {
        Signal::Ack => PinChange::make(home, Phase::Established),
        Signal::Fin => PinChange::make(home, Phase::Closing),
        _ => PinChange::LEAVE,
    };
    if view.state(home) == HostState::Down {
        return around(slot, change);
    }
    let reason = if home == slot.owner() { Reason::ForwardOwner } else { Reason::ForwardPrevious };
    Decision { host: home, pin: change, reason }
}
