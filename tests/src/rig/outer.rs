//! What a frame leaves for a backend as.

use lb_common::layout::{BackendFlags, MODE_GUE, MODE_IPIP};
use lb_laws::wire::outer;
use lb_userspace::dataplane::BackendTable;

const L3: usize = 14;

/// An untagged frame in new headers, if the backend's mode has some, and with the tags of the way there. `hash` is the flow's.
pub fn wrapped(frame: &[u8], to: &BackendTable, class: u8, hash: u64) -> Vec<u8> {
    let BackendTable { record: backend, egress } = to;
    let mut out = [&backend.destination_mac[..], &backend.source_mac].concat();
    for tag in egress.tags.iter().filter(|tag| **tag != 0) {
        out.extend(tag.to_ne_bytes());
    }
    if !matches!(backend.mode, MODE_IPIP | MODE_GUE) {
        out.extend_from_slice(&frame[12..]);
        return out;
    }
    let packet = &frame[L3..];
    let is_v6 = packet[0] >> 4 == 6;
    let length = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let inner = (is_v6, if is_v6 { length(4) + 40 } else { length(2) }, class);
    let outer_v6 = backend.flags & BackendFlags::OUTER_V6 != 0;
    let source = [0, 1].map(|word| egress.source[word] | egress.spread[word] & hash);
    let ports = (backend.mode == MODE_GUE).then_some((0xc000 | hash as u16, u16::from_be(backend.port)));
    out.extend(if outer_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    out.extend(outer(inner, outer_v6, source, backend.address, ports));
    out.extend_from_slice(packet);
    out
}
