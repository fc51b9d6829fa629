//! The way of a packet of the daemon's own to a backend: by the very functions of the data path, and not through it. A program that is
//! run from here could be interrupted by packets that come in meanwhile, whose working memory it shares (before Linux 6.11).

use lb_common::encap::{GUE_LEN, IPV4_IN_IP, IPV6_IN_IP, entropy_port, gue, outer_v4, outer_v6};
use lb_common::hash::FlowHash;
use lb_common::layout::{BackendFlags, MODE_GUE, MODE_IPIP, MODE_NAT, Tuple};
use lb_common::nat::{self, Endpoint, Headers, Transport};
use lb_common::parse::{Frame, L3, UDP};

use crate::dataplane::BackendTable;

/// The frame by which a TCP or UDP packet of a flow, without IP options and extension headers, gets to a backend. `None`: the backend's next hop is
/// not known, or the packet is none that can be sent on.
pub fn frame_to(packet: &[u8], backend: &BackendTable, hash: FlowHash) -> Option<Vec<u8>> {
    let BackendTable { record, egress } = backend;
    let is_v6 = match packet.first()? >> 4 {
        4 if packet.len() >= 28 => false,
        6 if packet.len() >= 48 => true,
        _ => return None,
    };
    if record.flags & BackendFlags::REACHABLE == 0 {
        return None;
    }
    let macs = [record.destination_mac, record.source_mac].concat();
    let tags: Vec<u8> = if record.flags & BackendFlags::TAGGED != 0 {
        egress.tags.iter().filter(|tag| **tag != 0).flat_map(|tag| tag.to_ne_bytes()).collect()
    } else {
        Vec::new()
    };
    let ether_type = |is_v6| if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    let is_outer_v6 = record.flags & BackendFlags::OUTER_V6 != 0;
    let (ether_type, packet) = match record.mode {
        MODE_NAT => (ether_type(is_v6), translated(packet, is_v6, backend)?),
        MODE_IPIP | MODE_GUE => {
            let outer = outer(packet.len() as u16, is_v6, backend, hash);
            (ether_type(is_outer_v6), [&outer, packet].concat())
        }
        _ => (ether_type(is_v6), packet.to_vec()),
    };
    Some([&macs, &tags, &ether_type[..], &packet].concat())
}

fn translated(packet: &[u8], is_v6: bool, backend: &BackendTable) -> Option<Vec<u8>> {
    let record = &backend.record;
    let [a, b, c, d, ..] = record.address;
    let address = if record.flags & BackendFlags::OUTER_V6 != 0 {
        Tuple::words(record.address)
    } else {
        Tuple::v4(u32::from_ne_bytes([a, b, c, d]))
    };
    let to = Endpoint { address, port: record.port };
    let protocol = packet[if is_v6 { 6 } else { 9 }];
    let headers = Headers { is_v6, transport: Transport::of(protocol), offset: if is_v6 { 40 } else { 20 } };
    let mut bytes = [&[0; L3][..], packet].concat();
    let start = bytes.as_mut_ptr() as usize;
    // SAFETY: the bytes are this function's own, and outlive what is done to the frame.
    let done = unsafe { nat::to_backend(&Frame::new(start, start + bytes.len()), &headers, &to) };
    done.ok().map(|()| bytes.split_off(L3))
}

fn outer(ip_len: u16, is_v6: bool, backend: &BackendTable, hash: FlowHash) -> Vec<u8> {
    let BackendTable { record, egress } = backend;
    let is_gue = record.mode == MODE_GUE;
    let inner = if is_v6 { IPV6_IN_IP } else { IPV4_IN_IP };
    let (protocol, between) = if is_gue { (UDP, GUE_LEN) } else { (inner, 0) };
    let source = [0, 1].map(|i| egress.source[i] | egress.spread[i] & hash.0);
    let mut outer = if record.flags & BackendFlags::OUTER_V6 != 0 {
        let first = outer_v6(protocol, 0, ip_len + between).to_ne_bytes();
        [&first[..], &source.map(u64::to_ne_bytes).concat(), &record.address].concat()
    } else {
        let [a, b, c, d, ..] = record.address;
        let destination = u32::from_ne_bytes([a, b, c, d]);
        let header = outer_v4(source[0] as u32, destination, protocol, 0, ip_len + between);
        header.map(u32::to_ne_bytes).concat()
    };
    if is_gue {
        let headers = gue(entropy_port(hash), u16::from_be(record.port), inner, ip_len);
        outer.extend(headers.map(u32::to_ne_bytes).concat());
    }
    outer
}
