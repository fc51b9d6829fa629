//! Destination NAT by other code than the data path's. Checksums follow what changes, so that wrong ones stay wrong.

use lb_common::icmp::Quoted;
use lb_common::layout::Backend;
use lb_common::parse::{L3, TCP, What, Whole};

use crate::wire::{follow, follow_udp};

/// Translates an IP packet, but for its IPv4 header's checksum, which who takes the hop off makes anew.
pub(super) fn to_backend(packet: &mut [u8], whole: &Whole, quoted: Option<&Quoted>, backend: &Backend) {
    let is_v6 = whole.packet.is_v6;
    let before = packet.to_vec();
    let address = &backend.address[..if is_v6 { 16 } else { 4 }];
    let destination = if is_v6 { 24 } else { 16 };
    let l4 = usize::from(whole.packet.ip_header_len);
    packet[destination..][..address.len()].copy_from_slice(address);
    match (whole.what, quoted) {
        (What::Icmp, Some(quoted)) => {
            let (ip, upper) = (quoted.ip - L3, quoted.l4 - L3);
            let end = usize::from(whole.packet.ip_len);
            let source = ip + if is_v6 { 8 } else { 12 };
            packet[source..][..address.len()].copy_from_slice(address);
            if !is_v6 {
                mend(packet, &before, ip + 10, std::slice::from_ref(&(source..source + 4)), follow);
            }
            set_port(packet, upper, backend);
            let covered = [source..source + address.len(), upper..upper + 2];
            if quoted.tuple.protocol as u8 != TCP {
                mend(packet, &before, upper + 6, &covered, follow_udp);
            } else if upper + 18 <= end {
                mend(packet, &before, upper + 16, &covered, follow);
            }
            let addresses = if is_v6 { destination..destination + 16 } else { 0..0 };
            mend(packet, &before, l4 + 2, &[l4 + 4..end, addresses], follow);
        }
        (What::Flow, _) => {
            set_port(packet, l4 + 2, backend);
            let covered = [destination..destination + address.len(), l4 + 2..l4 + 4];
            if whole.packet.tuple.protocol as u8 == TCP {
                mend(packet, &before, l4 + 16, &covered, follow);
            } else {
                mend(packet, &before, l4 + 6, &covered, follow_udp);
            }
        }
        _ => {}
    }
}

fn set_port(packet: &mut [u8], at: usize, backend: &Backend) {
    if backend.port != 0 {
        packet[at..at + 2].copy_from_slice(&backend.port.to_ne_bytes());
    }
}

/// The checksum at `at` follows what changed in these parts.
fn mend(
    packet: &mut [u8],
    before: &[u8],
    at: usize,
    parts: &[std::ops::Range<usize>],
    follow: fn(u16, &[u8], &[u8]) -> u16,
) {
    let of = |bytes: &[u8]| parts.iter().flat_map(|part| bytes[part.clone()].to_vec()).collect::<Vec<u8>>();
    let old = u16::from_be_bytes([before[at], before[at + 1]]);
    let new = follow(old, &of(before), &of(packet));
    packet[at..at + 2].copy_from_slice(&new.to_be_bytes());
}
