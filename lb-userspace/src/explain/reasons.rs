//! Each reason in words.

use lb_common::reason::Reason;

/// Why a packet with this reason went where it went, for who did not write the program; `None` for a name that this version does not
/// know. Of reasons that are no verdicts nobody asks.
pub fn why(name: &str) -> Option<&'static str> {
    let reason = Reason::ALL.iter().find(|reason| reason.name() == name)?;
    Some(match reason {
        Reason::PassNotIp => "it is neither IPv4 nor IPv6",
        Reason::PassMalformed => "its headers say more than it holds, or contradict themselves",
        Reason::PassFragment => {
            "a fragment without ports: for no VIP, or its packet's first fragment was not seen and services let such pass"
        }
        Reason::PassOtherProtocol => "it is neither TCP nor UDP nor ICMP, or has too many extension headers",
        Reason::PassIcmp => "ICMP that concerns no flow of a service",
        Reason::PassNoService => "it is for no service: no VIP, or not a port and protocol of one",
        Reason::PassNoHost => {
            "a new flow, and no host of the service is in use: the service wants such to go to the kernel"
        }
        Reason::PassUnhandled => "the program for rarer packets could not be called",
        Reason::ForwardPin => "its flow is pinned to this host",
        Reason::ForwardNew => "a new flow goes to the owner of its slot",
        Reason::ForwardSynAgain => "the SYN was seen before, and is not answered yet: it goes where it went",
        Reason::ForwardSynEstablished => {
            "a SYN within an established flow changes nothing: it goes to the flow's host, which challenges it"
        }
        Reason::ForwardOwner => "in the middle of a flow that has no pin: to the owner of its slot",
        Reason::ForwardPrevious => {
            "in the middle of a flow that has no pin, and its slot is being handed over: to the owner from before"
        }
        Reason::ForwardAroundDown => {
            "its flow's host is down: the owner of its slot has it for now, and its pin stays"
        }
        Reason::ForwardFragment => "a fragment follows its packet's first one",
        Reason::ForwardMoved => {
            "the deadline of its host's drain has passed: its flow moves to the owner of its slot"
        }
        Reason::ForwardIcmp => "an ICMP error goes where the packets of the flow go that it is about",
        Reason::ForwardReply => "a host's answer goes to its client in the service's name",
        Reason::ForwardReplySlow => {
            "a host's answer, translated here and sent on by the kernel: the client's next hop is not known yet, or frames \
             cannot be sent there directly"
        }
        Reason::AnswerEcho => "pings to VIPs are answered here",
        Reason::AnswerTooBig => "it does not fit the way: its sender is told what would",
        Reason::AnswerTimeExceeded => "its time to live ends here: its sender is told",
        Reason::AnswerReset => {
            "its flow was ended by an operator, or by the deadline of its host's drain: its client is told by a RST"
        }
        Reason::AnswerReject => {
            "a new flow, and no host of the service is in use: its client is told at once"
        }
        Reason::DropNoHost => "no host of the service is in use, or none that it could go to",
        Reason::DropNoNextHop => "the host's next hop is not known: see `sluice status`",
        Reason::DropTooBig => "it does not fit the way, and its sender cannot be told",
        Reason::DropNoPlace => {
            "a new flow of a slot that is being handed over finds no place in the flow table: its client tries again"
        }
        Reason::DropTimeExceeded => "its time to live has ended, and its sender cannot be told",
        Reason::DropMartian => "it comes from an address that nobody can have: loopback, multicast …",
        Reason::DropLand => "it comes from the address that it is sent to",
        Reason::DropVipSource => {
            "a flow would begin that comes from a VIP: its answers would go to a service"
        }
        Reason::DropZeroPort => "it comes from port 0",
        Reason::DropChecksum => "the checksum of its IPv4 header is wrong",
        Reason::DropFragmentOverlap => {
            "a fragment that would overwrite the headers of TCP or UDP, or a first one without them"
        }
        Reason::DropFragment => {
            "a fragment for a VIP whose packet's first fragment was not seen in the last 30 s"
        }
        Reason::DropAnswerRate => "more answers than may be given in a second",
        Reason::DropLoop => "it comes from the very host that it would be sent to",
        Reason::DropHairpin => {
            "its client is a host of a nat service itself, whose answers would not come back this way"
        }
        Reason::DropNoRoute => {
            "the kernel has no way to the client: a route that refuses, or IP forwarding is off"
        }
        Reason::DropInternal => {
            "the kernel had no room, a map refused, or a slot or pin names a host without a backend"
        }
        Reason::NoteUnpinned
        | Reason::NoteFloodGate
        | Reason::ViolationNewFlowOnDraining
        | Reason::ViolationSlotNamesNobody
        | Reason::ViolationPinNamesNobody => return None,
    })
}
