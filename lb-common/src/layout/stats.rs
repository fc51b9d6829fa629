//! Counters of one backend.

use super::{NEXT, layout};
use crate::flow::Phase;

/// Phases that have a gauge: half-open, established, closing, UDP.
pub const PHASES_COUNTED: usize = 4;

/// Counters of one (service, host): one record a CPU in the kernel, one more that user space writes. Their sum counts.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendStats {
    /// What another version may have here: see [`NEXT`].
    #[cfg(feature = "layout-next")]
    pub more: u64,
    /// Packets sent to the backend.
    pub packets: u64,
    /// Bytes of them as they came in, Ethernet header included, but for VLAN tags.
    pub bytes: u64,
    /// Flows that began here: a SYN that made a pin, or a first datagram.
    pub new_flows: u64,
    /// Live pins dropped because the table was full.
    pub evicted: u64,
    /// Flows that went on to another host at the deadline of a drain.
    pub moved: u64,
    /// Flows whose client was answered with a RST at the deadline of a drain.
    pub reset: u64,
    /// Flows that an operator has ended; written by user space alone.
    pub kicked: u64,
    /// SYNs that found their own half-open pin: the client has asked again.
    pub syns_again: u64,
    /// Half-open pins that ended as such: their client never acknowledged. What left the phase otherwise was answered.
    pub unanswered: u64,
    /// Flows that their client has ended by a RST.
    pub client_resets: u64,
    /// Pins that entered a phase, by [`BackendStats::gauge_of`].
    pub entered: [u64; PHASES_COUNTED],
    /// Pins that left a phase. `entered - left` is the live-flow gauge, exact.
    pub left: [u64; PHASES_COUNTED],
}
layout!(BackendStats, 144 + 8 * NEXT, 8);

impl BackendStats {
    /// Index of a phase's gauge; `None` for phases that are no live flow.
    #[inline(always)]
    pub const fn gauge_of(phase: Phase) -> Option<usize> {
        match phase {
            Phase::HalfOpen => Some(0),
            Phase::Established => Some(1),
            Phase::Closing => Some(2),
            Phase::Udp => Some(3),
            _ => None,
        }
    }
}
