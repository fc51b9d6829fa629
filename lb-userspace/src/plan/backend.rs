//! A backend's record.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::layout::{Backend, BackendFlags, Egress, MODE_GUE, MODE_IPIP, MODE_L2, MODE_NAT, Tuple};

use crate::dataplane::BackendTable;
use crate::model::{Forward, Model, Service};
use crate::netlink::NextHop;

/// The record of a backend at `address`; without a next hop it is one that packets cannot be sent to.
pub fn record(
    model: &Model,
    service: &Service,
    address: IpAddr,
    next_hop: Option<&NextHop>,
    stats: u32,
    control: u64,
) -> BackendTable {
    let (mode, port) = match service.forward {
        Forward::L2 => (MODE_L2, 0),
        Forward::Ipip => (MODE_IPIP, 0),
        Forward::Gue => (MODE_GUE, model.gue_port),
        Forward::Nat => (MODE_NAT, service.backend_port.unwrap_or(0)),
    };
    let outer_v6 = if address.is_ipv6() { BackendFlags::OUTER_V6 } else { 0 };
    let record = Backend {
        control,
        stats,
        mode,
        port: port.to_be(),
        flags: outer_v6,
        address: octets(address),
        ..Backend::default()
    };
    let Some(next_hop) = next_hop else { return record.into() };
    let tagged = if next_hop.tags == [0; 2] { 0 } else { BackendFlags::TAGGED };
    let on_link = if next_hop.gateway.is_none() { BackendFlags::ON_LINK } else { 0 };
    let record = Backend {
        ifindex: next_hop.ifindex,
        destination_mac: next_hop.dst_mac,
        source_mac: next_hop.src_mac,
        mtu: u16::try_from(next_hop.mtu).unwrap_or(u16::MAX),
        flags: outer_v6 | tagged | on_link | BackendFlags::REACHABLE,
        ..record
    };
    let (source, spread) = match service.forward {
        Forward::L2 | Forward::Nat => Default::default(),
        Forward::Ipip | Forward::Gue => match model.outer_source.towards(address) {
            Some(prefix) => (words(prefix.network()), host_bits(prefix)),
            None => (words(next_hop.source), [0; 2]),
        },
    };
    BackendTable { record, egress: Egress { source, spread, tags: next_hop.tags, ..Egress::default() } }
}

/// The bits of an address that a prefix leaves free, as [`Egress::spread`] has them.
fn host_bits(prefix: IpNet) -> [u64; 2] {
    words(prefix.hostmask())
}

fn words(address: IpAddr) -> [u64; 2] {
    Tuple::words(octets(address))
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
