//! Frames and what must become of them, in the kernel and on the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, UdpHeader};
use lb_common::decap::{DecapClass, DecapReason, GUE_PORT};
use lb_laws::decap as laws;
use lb_userspace::decap::PROGRAMS;
use sluice_tests::kernel::{PIECES, is_before};
use sluice_tests::rig::decap::{self, Answer, Kernel};
use sluice_tests::rig::{XDP_DROP, XDP_PASS};

pub const HERE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub const HERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
pub const BALANCER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const BALANCER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const MACS: [u8; 12] = [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1];
pub const HERE: [IpAddr; 2] = [IpAddr::V4(HERE_V4), IpAddr::V6(HERE_V6)];

/// Takes frames that lie in several pieces (Linux 5.18).
pub const WITH_PIECES: &str = "sluice_decap_frags";

/// All programs that this kernel can have.
pub fn all() -> Vec<Kernel> {
    programs().map(|program| Kernel::load(program, &HERE)).collect()
}

/// Their names.
pub fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().filter(|&program| program != WITH_PIECES || !is_before(PIECES))
}

pub fn on_host(frame: &[u8]) -> Answer {
    decap::on_host(frame, &HERE)
}

/// What must become of a frame, and that it keeps the laws of any.
pub fn check(kernels: &[Kernel], description: &str, frame: &[u8], reason: DecapReason, output: &[u8]) {
    let verdict = if reason.class() == DecapClass::Drop { XDP_DROP } else { XDP_PASS };
    let expected = Answer { verdict, bytes: output.to_vec(), counted: vec![reason] };
    laws::check(frame);
    assert_eq!(on_host(frame), expected, "{description}, on the host");
    for kernel in kernels {
        assert_eq!(kernel.run(frame), expected, "{description}, {}", kernel.program);
    }
}

/// All but the reasons that decapsulate leave the frame as it is.
pub fn check_untouched(kernels: &[Kernel], description: &str, frame: &[u8], reason: DecapReason) {
    assert_ne!(reason.class(), DecapClass::Decapsulate);
    check(kernels, description, frame, reason, frame);
}

pub fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&MACS[..], &ethertype.to_be_bytes(), packet].concat()
}

/// The frame of an IP packet.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, packet)
}

/// A UDP packet that the balancer would encapsulate.
pub fn inner(is_v6: bool, ecn: u8) -> Vec<u8> {
    let payload = b"sixteen bytes ..";
    let mut packet = Vec::new();
    if is_v6 {
        let source = "2001:db8:1::99".parse::<Ipv6Addr>().unwrap().octets();
        let vip = "2001:db8:ff::1".parse::<Ipv6Addr>().unwrap().octets();
        let builder = PacketBuilder::ipv6(source, vip, 61).udp(40000, 53);
        builder.write(&mut packet, payload).unwrap();
        packet[1] |= ecn << 4 | 0x0b;
        packet[0] |= 0x0b;
    } else {
        let builder = PacketBuilder::ipv4([198, 51, 100, 99], [203, 0, 113, 1], 61).udp(40000, 53);
        builder.write(&mut packet, payload).unwrap();
        packet[1] = 0xb8 | ecn;
        mend_checksum(&mut packet);
    }
    packet
}

/// Computes an IPv4 header's checksum anew.
pub fn mend_checksum(packet: &mut [u8]) {
    let (header, _) = Ipv4Header::from_slice(packet).unwrap();
    let checksum = header.calc_header_checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

pub fn protocol_of(packet: &[u8]) -> IpNumber {
    if packet[0] >> 4 == 6 { IpNumber::IPV6 } else { IpNumber::IPV4 }
}

/// The outer IPv4 header of a packet, which `change` may change; then the checksum is computed.
pub fn outer_v4(packet: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let (source, destination) = (BALANCER_V4.octets(), HERE_V4.octets());
    let mut header =
        Ipv4Header::new(packet.len() as u16, 64, protocol_of(packet), source, destination).unwrap();
    header.dont_fragment = true;
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], packet].concat()
}

pub fn outer_v6(packet: &[u8], change: impl FnOnce(&mut Ipv6Header)) -> Vec<u8> {
    let mut header = Ipv6Header {
        payload_length: packet.len() as u16,
        next_header: protocol_of(packet),
        hop_limit: 64,
        source: BALANCER_V6.octets(),
        destination: HERE_V6.octets(),
        ..Ipv6Header::default()
    };
    change(&mut header);
    [&header.to_bytes()[..], packet].concat()
}

pub fn outer(is_v6: bool, packet: &[u8], ecn: u8) -> Vec<u8> {
    if is_v6 {
        let mut packet = outer_v6(packet, |_| {});
        packet[1] |= ecn << 4;
        packet
    } else {
        let mut packet = outer_v4(packet, |_| {});
        packet[1] |= ecn;
        mend_checksum(&mut packet);
        packet
    }
}

/// (outer is IPv6, inner is IPv6, reason)
pub const PAIRS: [(bool, bool, DecapReason); 4] = [
    (false, false, DecapReason::Decap4In4),
    (false, true, DecapReason::Decap6In4),
    (true, false, DecapReason::Decap4In6),
    (true, true, DecapReason::Decap6In6),
];

/// The headers that GUE puts between an outer IP header and a packet, with a right UDP checksum or none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gue {
    pub outer_is_v6: bool,
    pub ecn: u8,
    pub has_checksum: bool,
    /// Words of optional fields.
    pub surplus: u8,
}

impl Gue {
    pub fn around(self, packet: &[u8]) -> Vec<u8> {
        self.changed(packet, |_| {})
    }

    /// With changes to what begins with the GUE header, before the UDP checksum is computed.
    pub fn changed(self, packet: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let protocol = protocol_of(packet).0;
        let surplus = vec![0xa5; usize::from(self.surplus) * 4];
        let mut data = [&[self.surplus, protocol, 0, 0], &surplus[..], packet].concat();
        change(&mut data);
        let length = (UdpHeader::LEN + data.len()) as u16;
        let mut udp = UdpHeader { source_port: 49999, destination_port: GUE_PORT, length, checksum: 0 };
        if self.has_checksum {
            let checksum = if self.outer_is_v6 {
                udp.calc_checksum_ipv6_raw(BALANCER_V6.octets(), HERE_V6.octets(), &data)
            } else {
                udp.calc_checksum_ipv4_raw(BALANCER_V4.octets(), HERE_V4.octets(), &data)
            };
            udp.checksum = checksum.unwrap();
        }
        let payload = [&udp.to_bytes()[..], &data].concat();
        if self.outer_is_v6 {
            let mut packet = outer_v6(&payload, |header| header.next_header = IpNumber::UDP);
            packet[1] |= self.ecn << 4;
            packet
        } else {
            let mut packet = outer_v4(&payload, |header| header.protocol = IpNumber::UDP);
            packet[1] |= self.ecn;
            mend_checksum(&mut packet);
            packet
        }
    }

    /// Where UDP header and GUE header begin in a frame.
    pub fn offsets(self) -> (usize, usize) {
        let udp = if self.outer_is_v6 { 54 } else { 34 };
        (udp, udp + UdpHeader::LEN)
    }
}

/// As [`PAIRS`], in GUE.
pub const GUE_PAIRS: [(bool, bool, DecapReason); 4] = [
    (false, false, DecapReason::DecapGue4In4),
    (false, true, DecapReason::DecapGue6In4),
    (true, false, DecapReason::DecapGue4In6),
    (true, true, DecapReason::DecapGue6In6),
];

/// Figure 4 of RFC 6040: inner fields, and for each what comes out of outer Not-ECT, ECT(0), ECT(1), CE.
pub const ECN: [(u8, [Option<u8>; 4]); 4] = [
    (NOT, [Some(NOT), Some(NOT), Some(NOT), None]),
    (ECT0, [Some(ECT0), Some(ECT0), Some(ECT1), Some(CE)]),
    (ECT1, [Some(ECT1), Some(ECT1), Some(ECT1), Some(CE)]),
    (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
];
/// The outer fields in the order of [`ECN`].
pub const OUTER_ECN: [u8; 4] = [NOT, ECT0, ECT1, CE];
const NOT: u8 = 0b00;
const ECT1: u8 = 0b01;
const ECT0: u8 = 0b10;
const CE: u8 = 0b11;

/// VLAN tags that a frame may have: of a customer, of a provider, with and without priority.
pub const TAGS: [&[u8]; 6] = [
    &[],
    &[0x81, 0x00, 0x00, 0x07],
    &[0x88, 0xa8, 0xe0, 0x08],
    &[0x88, 0xa8, 0x00, 0x08, 0x81, 0x00, 0x60, 0x07],
    &[0x81, 0x00, 0x00, 0x08, 0x81, 0x00, 0x0f, 0xff],
    &[0x81, 0x00, 0x60, 0x00],
];

/// A frame with tags behind its MAC addresses.
pub fn tagged(tags: &[u8], frame: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}
