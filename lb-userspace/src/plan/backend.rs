//! A backend's record.

use std::net::IpAddr;

use lb_common::layout::{Backend, BackendFlags, Egress, MODE_IPIP, MODE_L2, Tuple};

use crate::dataplane::BackendTable;
use crate::model::Forward;
use crate::netlink::NextHop;

/// The record of a backend at `address`; without a next hop it is one that packets cannot be sent to.
pub fn record(
    forward: Forward,
    address: IpAddr,
    next_hop: Option<&NextHop>,
    stats: u32,
    control: u64,
) -> BackendTable {
    let mode = match forward {
        Forward::L2 => MODE_L2,
        Forward::Ipip => MODE_IPIP,
    };
    let outer_v6 = if address.is_ipv6() { BackendFlags::OUTER_V6 } else { 0 };
    let record =
        Backend { control, stats, mode, flags: outer_v6, address: octets(address), ..Backend::default() };
    let Some(next_hop) = next_hop else { return record.into() };
    let record = Backend {
        ifindex: next_hop.ifindex,
        destination_mac: next_hop.dst_mac,
        source_mac: next_hop.src_mac,
        mtu: u16::try_from(next_hop.mtu).unwrap_or(u16::MAX),
        flags: outer_v6
            | BackendFlags::REACHABLE
            | if next_hop.gateway.is_none() { BackendFlags::ON_LINK } else { 0 },
        ..record
    };
    let source = Tuple::words(octets(next_hop.source));
    let egress =
        if forward == Forward::L2 { Egress::default() } else { Egress { source, ..Egress::default() } };
    BackendTable { record, egress }
}

/// IPv4 in the first four bytes.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}
