//! Whether a frame is right.

use std::net::IpAddr;

use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};

/// Checks the lengths and all checksums of a whole frame: IPv4 header, TCP, UDP, ICMP, ICMPv6. Says what is wrong.
/// A fragment's upper layer is not looked at; a UDP checksum of 0 is allowed over IPv4 only.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    if !matches!(packet.link, Some(LinkSlice::Ethernet2(_))) {
        return Err("no Ethernet header".into());
    }
    let same = |what: &str, found: u16, right: u16| {
        if found == right {
            Ok(())
        } else {
            Err(format!("{what} checksum is {found:#06x} instead of {right:#06x}"))
        }
    };
    let (source, destination, fragment) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            same("IPv4 header", header.header_checksum, header.calc_header_checksum())?;
            let addresses = (ip.header().source_addr().into(), ip.header().destination_addr().into());
            (addresses.0, addresses.1, ip.is_payload_fragmented())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let addresses = (ip.header().source_addr().into(), ip.header().destination_addr().into());
            (addresses.0, addresses.1, ip.is_payload_fragmented())
        }
        _ => return Ok(()),
    };
    if fragment {
        return Ok(());
    }
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match (&packet.transport, source, destination) {
        (Some(TransportSlice::Tcp(tcp)), IpAddr::V4(s), IpAddr::V4(d)) => {
            let right = tcp.calc_checksum_ipv4(s.octets(), d.octets()).map_err(|error| text(&error))?;
            same("TCP", tcp.checksum(), right)
        }
        (Some(TransportSlice::Tcp(tcp)), IpAddr::V6(s), IpAddr::V6(d)) => {
            let right = tcp.calc_checksum_ipv6(s.octets(), d.octets()).map_err(|error| text(&error))?;
            same("TCP", tcp.checksum(), right)
        }
        (Some(TransportSlice::Udp(udp)), IpAddr::V4(_), _) if udp.checksum() == 0 => Ok(()),
        (Some(TransportSlice::Udp(udp)), s, d) => {
            let header = udp.to_header();
            let right = match (s, d) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    header.calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload())
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    header.calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload())
                }
                _ => unreachable!("both addresses are of one family"),
            };
            same("UDP", udp.checksum(), right.map_err(|error| text(&error))?)
        }
        (Some(TransportSlice::Icmpv4(icmp)), ..) => {
            let mut header = icmp.header();
            header.update_checksum(icmp.payload());
            same("ICMP", icmp.checksum(), header.checksum)
        }
        (Some(TransportSlice::Icmpv6(icmp)), IpAddr::V6(s), IpAddr::V6(d)) => {
            if icmp.is_checksum_valid(s.octets(), d.octets()) {
                Ok(())
            } else {
                Err("ICMPv6 checksum is wrong".into())
            }
        }
        _ => Ok(()),
    }
}
