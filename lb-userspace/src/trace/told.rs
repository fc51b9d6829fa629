//! What is told of one packet.

use crate::api::types::TracedPacket;
use crate::dataplane::{DryRun, Traced};
use crate::explain::{Names, hex, tell};

/// A packet by name. `boot` is the Unix time in nanoseconds at which `CLOCK_MONOTONIC` was 0; `bytes` of each frame come along.
pub fn told(traced: &Traced, boot: i128, bytes: usize, names: &impl Names) -> TracedPacket {
    let Traced { record, frame_in, frame_out } = traced;
    let run = DryRun { verdict: record.verdict, bytes: frame_out.clone(), record: record.decision };
    let mut told = tell(frame_in, record.ingress, &run, names);
    // Of what was kept of them `tell` knows alone.
    told.length = record.length_in as usize;
    told.length_out = told.length_out.map(|_| record.length_out as usize);
    let cut = |frame: &[u8]| hex(&frame[..frame.len().min(bytes)]);
    let is_changed = told.frame_out.is_some() || told.length_out.is_some_and(|length| length != told.length);
    told.frame_out = (bytes != 0 && is_changed).then(|| cut(frame_out));
    let at = u128::try_from(boot + i128::from(record.at)).unwrap_or_default();
    TracedPacket {
        at: (at / 1_000_000_000) as u64,
        nanoseconds: (at % 1_000_000_000) as u32,
        interface: names.interface(record.ingress).unwrap_or_else(|| format!("interface {}", record.ingress)),
        cpu: record.cpu,
        told,
        frame_in: (bytes != 0).then(|| cut(frame_in)),
    }
}
