//! What is told of one packet.

use crate::api::types::TracedPacket;
use crate::dataplane::{DryRun, Traced};
use crate::explain::{Names, hex, tell_without_frame};

/// A packet by name, without its frames. `boot` is the Unix time in nanoseconds at which `CLOCK_MONOTONIC` was 0.
pub fn told(traced: &Traced, boot: i128, names: &impl Names) -> TracedPacket {
    let Traced { record, frame_in, frame_out } = traced;
    let run = DryRun { verdict: record.verdict, bytes: frame_out.clone(), record: record.decision };
    let mut told = tell_without_frame(frame_in, record.ingress, &run, names);
    // Of what was kept of them `tell` knows alone.
    told.length = record.length_in as usize;
    told.length_out = told.length_out.map(|_| record.length_out as usize);
    let at = u128::try_from(boot + i128::from(record.at)).unwrap_or_default();
    TracedPacket {
        at: (at / 1_000_000_000) as u64,
        nanoseconds: (at % 1_000_000_000) as u32,
        interface: names.interface(record.ingress).unwrap_or_else(|| format!("interface {}", record.ingress)),
        cpu: record.cpu,
        told,
        frame_in: None,
    }
}

/// The same with as many bytes of its frames.
pub fn with_frames(told: &TracedPacket, traced: &Traced, bytes: usize) -> TracedPacket {
    let Traced { frame_in, frame_out, .. } = traced;
    let mut packet = told.clone();
    if bytes != 0 {
        let cut = |frame: &[u8]| hex(&frame[..frame.len().min(bytes)]);
        packet.frame_in = Some(cut(frame_in));
        let length_out = packet.told.length_out;
        let is_changed =
            length_out.is_some_and(|length| length != packet.told.length || frame_in != frame_out);
        packet.told.frame_out = is_changed.then(|| cut(frame_out));
    }
    packet
}

#[cfg(test)]
mod tests {
    use lb_common::layout::TraceRecord;

    use super::*;
    use crate::api::types::Explanation;

    #[test]
    fn frames_are_cut_off_and_what_left_as_it_came_is_told_once() {
        let traced = |out: &[u8]| Traced {
            record: TraceRecord::default(),
            frame_in: vec![1, 2, 3],
            frame_out: out.to_vec(),
        };
        let packet = |length_out| TracedPacket {
            at: 0,
            nanoseconds: 0,
            interface: "eth0".to_owned(),
            cpu: 0,
            told: Explanation { length: 60, length_out, ..Explanation::default() },
            frame_in: None,
        };
        for (out, length_out, bytes, expected) in [
            (&[4, 5, 6][..], Some(60), 0, (None, None)),
            (&[4, 5, 6], Some(60), 2, (Some("0102"), Some("0405"))),
            (&[4, 5, 6], Some(60), 9, (Some("010203"), Some("040506"))),
            (&[1, 2, 3], Some(60), 9, (Some("010203"), None)),
            (&[1, 2, 3], Some(80), 9, (Some("010203"), Some("010203"))),
            (&[], None, 9, (Some("010203"), None)),
        ] {
            let found = with_frames(&packet(length_out), &traced(out), bytes);
            assert_eq!(
                (found.frame_in.as_deref(), found.told.frame_out.as_deref()),
                expected,
                "{out:?} {bytes}"
            );
        }
    }
}
