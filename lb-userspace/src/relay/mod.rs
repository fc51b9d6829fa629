//! ICMP errors about the balancer's own outer packets (RFC 2003, 4; RFC 2473, 8): what they say of the path to a backend, and
//! what the client, whose packet was inside, is told.
//!
//! [`relayed`] and what is learnt are pure; [`Relay`] reads the messages and sends them.

mod inner;
mod learn;
mod outer;
mod socket;
mod task;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr};

use lb_common::icmp::may_answer_packet;

pub use learn::PathMtus;
pub use task::{Counts, Paths, Relay, View};

/// What a tunnel of this balancer is known by.
pub struct Tunnels<F> {
    /// UDP port that packets in GUE go to.
    pub gue_port: Option<u16>,
    /// Where errors for IPv6 clients come from: their checksum is over it. `None`: they get none.
    pub source_v6: Option<Ipv6Addr>,
    /// Whether an outer packet from the first to the second address may be ours. Everybody can send an ICMP error.
    pub is_ours: F,
}

/// An error about an outer packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The outer packet's source.
    pub source: IpAddr,
    /// The outer packet's destination.
    pub backend: IpAddr,
    /// The path between them takes IP packets of so many bytes, outer header and all. Never more than the quoted packet had.
    pub path_mtu: Option<u16>,
    /// What the client is to hear; `None` where it has to hear nothing, or where too little was quoted to know who it is.
    pub for_client: Option<ForClient>,
}

/// An error about the packet inside, as if the balancer had sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForClient {
    pub client: IpAddr,
    /// The ICMP message, of the client's family, with its checksum.
    pub message: Vec<u8>,
}

/// What is wrong on the path, of what concerns clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Outer packets have so many bytes at most.
    TooBig(u16),
    /// The packet did not reach the backend, or the backend did not take it.
    Unreachable,
}

/// Reads an ICMP message, IPv4's or IPv6's, from its type on. `None`: it is about no outer packet of ours, or says nothing that
/// matters. IPv6 messages have their checksum verified by the kernel's socket, IPv4's have it here.
pub fn relayed<F>(is_v6: bool, message: &[u8], tunnels: &Tunnels<F>) -> Option<Heard>
where
    F: Fn(IpAddr, IpAddr) -> bool,
{
    let outer::Outer { source, destination, ip_len, overhead, is_gue, inner_is_v6, inner } =
        outer::find(is_v6, message, tunnels.gue_port)?;
    if !(tunnels.is_ours)(source, destination) {
        return None;
    }
    let trouble = outer::trouble(is_v6, message, ip_len, is_gue)?;
    let path_mtu = match trouble {
        Trouble::TooBig(mtu) => Some(mtu),
        Trouble::Unreachable => None,
    };
    let for_client = inner
        .filter(|inner| may_answer_packet(inner))
        .and_then(|inner| inner::answer(inner_is_v6, inner, trouble, overhead, tunnels.source_v6));
    Some(Heard { source, backend: destination, path_mtu, for_client })
}

/// The Internet checksum (RFC 1071) of bytes in parts, all but the last of an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let words = pairs.map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    lb_common::checksum::fold_words(words.sum())
}
