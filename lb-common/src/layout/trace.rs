//! What the program that traces is asked, and what it tells.
//!
//! All of it lies in maps of that load of the program alone, so it may change without [`super::LAYOUT_VERSION`].

use super::{DecisionRecord, HostId, layout};

/// Who trace at once, at most: each has a bit of its own.
pub const TRACERS: usize = 4;

/// Bytes of a frame that can be kept at most: of what Ethernet calls a jumbo frame.
pub const TRACE_BYTES: usize = 9216;

/// Bytes of a frame that are kept at least, where it has as many: its headers, which tell where it goes.
pub const TRACE_LEAST: usize = 96;

/// Which packets somebody wants to see, and how many of them. What is 0 but for masks and `until` asks for nothing.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Address of the client as in [`super::Tuple`]; bits outside of the mask are 0.
    pub client: [u64; 2],
    pub client_mask: [u64; 2],
    /// Address that the client asks for, in the same way.
    pub vip: [u64; 2],
    pub vip_mask: [u64; 2],
    /// Reasons of verdicts by bit, see [`crate::reason::Reason`].
    pub reasons: u64,
    /// Of the client, host byte order; 0: any.
    pub client_port: u16,
    /// Port of the VIP, host byte order: from the first to the last.
    pub first_port: u16,
    pub last_port: u16,
    /// Number of the service, or [`TraceFilter::ANY_SERVICE`].
    pub service: u16,
    /// Number of the host; 0: any, or none.
    pub host: HostId,
    /// IP protocol number; 0: any. [`crate::parse::ICMP`] stands for that of both families.
    pub protocol: u8,
    /// Verdicts by bit, see `XDP_…`.
    pub verdicts: u8,
    /// `TraceFilter::…` bits.
    pub flags: u32,
    /// Of so many packets that are wanted one is shown, by CPU; at least 1.
    pub every: u32,
    /// At most so many a second.
    pub rate: u32,
    /// Bytes that are kept of each frame, [`TRACE_LEAST`] to [`TRACE_BYTES`].
    pub keep: u32,
    /// Second of the data path's clock up to which it counts. Who asks sets it ahead again and again, so that nobody is shown anything whose
    /// daemon has died.
    pub until: u32,
}
layout!(TraceFilter, 104, 8);

impl TraceFilter {
    /// In `service`: any, or none.
    pub const ANY_SERVICE: u16 = u16::MAX;
    /// Only the decision tells whether the packet is wanted.
    pub const LATE: u32 = 1;
    /// Packets may be backends' answers, whose client is who they are sent to.
    pub const REPLIES: u32 = 2;
}

/// One packet, before the bytes that were kept of it: first as it came, then as it left.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceRecord {
    /// When it came in: nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    pub decision: DecisionRecord,
    /// Of the frame as it came, bytes.
    pub length_in: u32,
    /// Of the frame as the program left it.
    pub length_out: u32,
    /// Bytes that follow of each.
    pub kept_in: u32,
    pub kept_out: u32,
    /// The interface that it came in by.
    pub ingress: u32,
    /// `XDP_…`
    pub verdict: u32,
    /// Who is shown it: a bit each.
    pub tracers: u32,
    /// CPU that it was handled by.
    pub cpu: u32,
}
layout!(TraceRecord, 136, 8);

/// What became of the packets that somebody wanted to see, on one CPU.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceCounts {
    /// All of them.
    pub wanted: u64,
    /// Not shown: others stand for them.
    pub sampled: u64,
    /// Not shown: there were too many in a second.
    pub over_rate: u64,
    /// Not shown: there was no room left.
    pub no_room: u64,
    /// Packets to pass over until the next is shown.
    pub skip: u64,
}
layout!(TraceCounts, 40, 8);
