//! The rig's program in place of which one traces, as a daemon attaches it.

use lb_common::layout::{TraceCounts, TraceFilter};
use lb_userspace::dataplane::{Traced, Tracing};

use super::Rig;

/// A filter that lets everything through, for ever.
pub const EVERYTHING: TraceFilter = TraceFilter {
    client: [0; 2],
    client_mask: [0; 2],
    vip: [0; 2],
    vip_mask: [0; 2],
    reasons: u64::MAX,
    client_port: 0,
    first_port: 0,
    last_port: u16::MAX,
    service: TraceFilter::ANY_SERVICE,
    host: 0,
    protocol: 0,
    verdicts: u8::MAX,
    flags: 0,
    every: 1,
    rate: u32::MAX,
    keep: 2000,
    until: u32::MAX,
};

impl Rig {
    /// From now on packets go by the program that traces. The rig has pins of its own.
    ///
    /// # Panics
    /// As everything here.
    pub fn trace(&mut self) -> &mut Tracing {
        let untraced = self.dataplane.untraced().expect("the program is loaded");
        let mut tracing =
            Tracing::load(&self.dataplane.options, &untraced).expect("the program that traces loads");
        let packets = tracing.take_packets().expect("nobody has taken them");
        &mut self.tracing.insert((tracing, packets)).0
    }

    /// Shows a tracer what it asks for.
    pub fn show(&self, tracer: usize, filter: &TraceFilter) {
        let (tracing, _) = self.tracing.as_ref().expect("the rig traces");
        tracing.show(tracer, filter).expect("the filter is written");
    }

    /// Shows a tracer nothing.
    pub fn hide(&self, tracer: usize) {
        let (tracing, _) = self.tracing.as_ref().expect("the rig traces");
        tracing.hide(tracer).expect("the filter is taken back");
    }

    /// What became of the packets that a tracer wanted to see.
    pub fn traced_counts(&self, tracer: usize) -> TraceCounts {
        self.tracing.as_ref().expect("the rig traces").0.counts().of(tracer)
    }

    /// All packets that were shown since the last look.
    pub fn traced(&mut self) -> Vec<Traced> {
        let (_, packets) = self.tracing.as_mut().expect("the rig traces");
        packets.collect()
    }
}
