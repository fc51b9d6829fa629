//! What leaves for a backend by the data path's own functions, in the order that its programs call them in.

use lb_common::encap::{GUE_LEN, IPV4_IN_IP, IPV6_IN_IP, entropy_port, gue, outer_v4, outer_v6};
use lb_common::layout::{Backend, BackendFlags, Egress, MODE_GUE, MODE_IPIP, MODE_NAT, Tuple};
use lb_common::nat::{self, Endpoint, Headers, Transport};
use lb_common::parse::{Frame, L3, UDP, What};
use lb_common::{mss, ttl};

use super::send::Leaving;

/// The frame without tags.
pub(super) fn written(
    leaving: &Leaving<'_>,
    backend: &Backend,
    egress: &Egress,
    mode: u8,
    most: u16,
) -> Vec<u8> {
    // Of its own, so that a sanitizer sees who reads or writes beyond its end.
    let mut bytes: Box<[u8]> = leaving.frame.into();
    let start = bytes.as_mut_ptr() as usize;
    // SAFETY: the bytes are this function's own, and outlive what is done to the frame.
    let frame = unsafe { Frame::new(start, start + bytes.len()) };
    if mode == MODE_NAT {
        translate(leaving, &frame, backend);
    } else if leaving.whole.packet.is_v6 {
        // SAFETY: as above.
        unsafe { ttl::decrement_v6(&frame.header(L3).expect("it was parsed")) };
    } else {
        // SAFETY: as above.
        unsafe { ttl::decrement_v4(&frame.header(L3).expect("it was parsed")) };
    }
    if most != 0 {
        // SAFETY: as above.
        unsafe { mss::clamp(&frame, leaving.whole.packet.ip_header_len, most) };
    }
    let macs = [backend.destination_mac, backend.source_mac].concat();
    match mode {
        MODE_IPIP | MODE_GUE => [&macs[..], &outer(leaving, backend, egress, mode), &bytes[L3..]].concat(),
        _ => [&macs, &bytes[12..]].concat(),
    }
}

fn translate(leaving: &Leaving<'_>, frame: &Frame, backend: &Backend) {
    let packet = &leaving.whole.packet;
    let is_v6 = backend.flags & BackendFlags::OUTER_V6 != 0;
    let [a, b, c, d, ..] = backend.address;
    let address =
        if is_v6 { Tuple::words(backend.address) } else { Tuple::v4(u32::from_ne_bytes([a, b, c, d])) };
    let to = Endpoint { address, port: backend.port };
    let transport = Transport::of(packet.tuple.protocol as u8);
    // SAFETY: the frame is the caller's own.
    let translated = unsafe {
        match leaving.quoted {
            Some(quoted) => {
                let offset = (quoted.l4 - quoted.ip) as u16;
                let headers = Headers { is_v6: packet.is_v6, transport, offset };
                nat::error_to_backend(frame, packet.ip_header_len, &headers, &to)
            }
            None => {
                let transport = if leaving.whole.what == What::Flow { transport } else { Transport::None };
                let headers = Headers { is_v6: packet.is_v6, transport, offset: packet.ip_header_len };
                nat::to_backend(frame, &headers, &to)
            }
        }
    };
    translated.expect("all of it has been looked at before");
}

/// Ethertype and outer headers.
fn outer(leaving: &Leaving<'_>, backend: &Backend, egress: &Egress, mode: u8) -> Vec<u8> {
    let packet = &leaving.whole.packet;
    let inner = if packet.is_v6 { IPV6_IN_IP } else { IPV4_IN_IP };
    let is_gue = mode == MODE_GUE;
    let (protocol, between) = if is_gue { (UDP, GUE_LEN) } else { (inner, 0) };
    let (class, payload_len) = (packet.traffic_class, packet.ip_len + between);
    let source = [0, 1].map(|i| egress.source[i] | egress.spread[i] & leaving.hash.0);
    let mut outer = if backend.flags & BackendFlags::OUTER_V6 != 0 {
        let first = outer_v6(protocol, class, payload_len).to_ne_bytes();
        [&[0x86, 0xdd], &first[..], &source.map(u64::to_ne_bytes).concat(), &backend.address].concat()
    } else {
        let [a, b, c, d, ..] = backend.address;
        let destination = u32::from_ne_bytes([a, b, c, d]);
        let header = outer_v4(source[0] as u32, destination, protocol, class, payload_len);
        [&[0x08, 0x00], &header.map(u32::to_ne_bytes).concat()[..]].concat()
    };
    if is_gue {
        let port = u16::from_be(backend.port);
        let headers = gue(entropy_port(leaving.hash), port, inner, packet.ip_len);
        outer.extend(headers.map(u32::to_ne_bytes).concat());
    }
    outer
}
