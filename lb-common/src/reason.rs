//! Why a packet went where it went: no verdict without a reason, a counter for each.

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// To the kernel, untouched.
    Pass,
    /// To a backend, or on behalf of one to a client.
    Forward,
    /// Back to who sent it, as an answer of the balancer's own.
    Answer,
    /// Nowhere.
    Drop,
    /// No verdict of its own: something worth knowing, counted beside the packet's reason.
    Note,
    /// No verdict of its own: something that must never happen, counted beside the packet's reason.
    Violation,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $class:ident $text:literal,)*) => {
        /// Reason of a verdict. The number is the index of its counter.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// Name for metrics and status: lower case with underscores.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// The reason with this number; [`Reason::DropInternal`] for a number that none has.
            #[inline(always)]
            pub const fn from_number(number: u32) -> Reason {
                match number { $(n if n == Reason::$name as u32 => Reason::$name,)* _ => Reason::DropInternal }
            }

            pub const fn class(self) -> Class {
                match self { $(Reason::$name => Class::$class,)* }
            }
        }
    };
}

reasons! {
    /// Neither IPv4 nor IPv6 behind at most two VLAN tags.
    PassNotIp = Pass "pass_not_ip",
    /// Shorter than its headers say, or headers that contradict themselves.
    PassMalformed = Pass "pass_malformed",
    /// A fragment other than the first, for no VIP, or of a packet whose first fragment was not seen where services let such
    /// pass.
    PassFragment = Pass "pass_fragment",
    /// Neither TCP nor UDP nor ICMP, or more IPv6 extension headers than are looked at.
    PassOtherProtocol = Pass "pass_other_protocol",
    /// ICMP that concerns no flow of ours.
    PassIcmp = Pass "pass_icmp",
    /// For no service of ours.
    PassNoService = Pass "pass_no_service",
    /// A new flow, no member of the ring is in use, and the service wants such to go to the kernel.
    PassNoHost = Pass "pass_no_host",
    /// The program for rarer packets could not be called: the kernel gets it.
    PassUnhandled = Pass "pass_unhandled",
    /// A live pin decided.
    ForwardPin = Forward "forward_pin",
    /// A new flow, sent to the owner of its slot.
    ForwardNew = Forward "forward_new",
    /// A SYN seen before: its half-open pin decided (C2).
    ForwardSynAgain = Forward "forward_syn_again",
    /// A SYN on an established pin: the backend will challenge it (RFC 5961) (C2).
    ForwardSynEstablished = Forward "forward_syn_established",
    /// No pin, slot settled: the owner (C3).
    ForwardOwner = Forward "forward_owner",
    /// No pin, handover open: the previous owner (C3).
    ForwardPrevious = Forward "forward_previous",
    /// Its host is down: the owner has it for now, the pin stays.
    ForwardAroundDown = Forward "forward_around_down",
    /// A fragment that follows its packet's first one.
    ForwardFragment = Forward "forward_fragment",
    /// The deadline of its host's drain has passed: from here on its flow is the slot's owner's.
    ForwardMoved = Forward "forward_moved",
    /// An ICMP error, sent after the flow of the packet that it quotes.
    ForwardIcmp = Forward "forward_icmp",
    /// A backend's answer, sent to the client in the service's name (`nat`).
    ForwardReply = Forward "forward_reply",
    /// The same, by the kernel: the client's next hop is not known yet, or not one that frames can be sent to directly.
    ForwardReplySlow = Forward "forward_reply_slow",
    /// An echo request to a VIP.
    AnswerEcho = Answer "answer_echo",
    /// Does not fit the way to the backend: its sender is told what would (RFC 1191, RFC 8201).
    AnswerTooBig = Answer "answer_too_big",
    /// Its time to live ends here, and its sender is told (RFC 792, RFC 4443).
    AnswerTimeExceeded = Answer "answer_time_exceeded",
    /// The flow was ended by an operator, or at the deadline of its host's drain: its client is told by a RST (RFC 9293).
    AnswerReset = Answer "answer_reset",
    /// A new flow, and no member of the ring is in use: its client is told at once, by a RST or by ICMP.
    AnswerReject = Answer "answer_reject",
    /// No member of the ring is in use.
    DropNoHost = Drop "drop_no_host",
    /// The backend's next hop is not known.
    DropNoNextHop = Drop "drop_no_next_hop",
    /// Does not fit the way to the backend, and its sender cannot be told.
    DropTooBig = Drop "drop_too_big",
    /// A new flow of a slot in handover found no place in the flow table; its client retries.
    DropNoPlace = Drop "drop_no_place",
    /// Its time to live has ended, and its sender cannot be told.
    DropTimeExceeded = Drop "drop_time_exceeded",
    /// From an address that nobody can have (RFC 6890): loopback, multicast, unspecified …
    DropMartian = Drop "drop_martian",
    /// From the address that it is sent to.
    DropLand = Drop "drop_land",
    /// A flow would begin that comes from a VIP: its answers would go to a service, and not to a client.
    DropVipSource = Drop "drop_vip_source",
    /// From port 0.
    DropZeroPort = Drop "drop_zero_port",
    /// The IPv4 header's checksum is wrong.
    DropChecksum = Drop "drop_checksum",
    /// A fragment that would overwrite TCP or UDP headers (RFC 3128), or a first one that does not hold them whole.
    DropFragmentOverlap = Drop "drop_fragment_overlap",
    /// A fragment for a VIP of a packet whose first fragment was not seen.
    DropFragment = Drop "drop_fragment",
    /// More answers than a CPU may give in a second.
    DropAnswerRate = Drop "drop_answer_rate",
    /// It came from the backend that it would be sent to (`l2`).
    DropLoop = Drop "drop_loop",
    /// Its client is a backend's host itself, whose answers would not come back this way (`nat`).
    DropHairpin = Drop "drop_hairpin",
    /// The kernel's route to the client says that nothing goes there, or IP forwarding is off (`nat`). Without any route the kernel gets
    /// the packet, and tells the backend.
    DropNoRoute = Drop "drop_no_route",
    /// The kernel had no room for the outer header, or a map refused: see the daemon's log.
    DropInternal = Drop "drop_internal",
    /// A live flow's pin found no place: harmless in a settled slot (C3), and the host's gauge is not complete for T.
    NoteUnpinned = Note "note_unpinned",
    /// Of those, held back by the flood gate: more new flows than pins may be made in a second.
    NoteFloodGate = Note "note_flood_gate",
    /// C2: a new flow was about to reach a host that is draining.
    ViolationNewFlowOnDraining = Violation "violation_new_flow_on_draining",
    /// C5: a slot names a host without a backend.
    ViolationSlotNamesNobody = Violation "violation_slot_names_nobody",
    /// C1: a live pin names a host without a backend.
    ViolationPinNamesNobody = Violation "violation_pin_names_nobody",
}

/// Number of reasons: entries of the map of counters.
pub const REASONS: u32 = Reason::ALL.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_and_names_tell_the_class() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let class = match reason.class() {
                Class::Pass => "pass_",
                Class::Forward => "forward_",
                Class::Answer => "answer_",
                Class::Drop => "drop_",
                Class::Note => "note_",
                Class::Violation => "violation_",
            };
            assert!(reason.name().starts_with(class), "{}", reason.name());
        }
    }
}
