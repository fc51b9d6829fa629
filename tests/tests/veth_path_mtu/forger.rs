//! Errors that no router has sent.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::Duration;

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, PacketBuilder};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

/// "Fragmentation needed" about a client's datagram in an outer header.
pub fn too_big(mtu: u16, outer: (Ipv4Addr, Ipv4Addr), inner: (Ipv4Addr, Ipv4Addr)) -> Vec<u8> {
    let mut datagram = Vec::new();
    let builder = PacketBuilder::ipv4(inner.0.octets(), inner.1.octets(), 60).udp(40000, 7);
    builder.write(&mut datagram, &[7; 400]).unwrap();
    let (from, to) = (outer.0.octets(), outer.1.octets());
    let header = Ipv4Header::new(datagram.len() as u16, 64, IpNumber::IPV4, from, to).unwrap();
    let quote = [&header.to_bytes()[..], &datagram].concat();
    let kind =
        Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu });
    [&Icmpv4Header::with_checksum(kind, &quote).to_bytes()[..], &quote].concat()
}

/// Sends a message from the calling thread's namespace, some 10 000 times a second.
pub fn send(to: Ipv4Addr, message: &[u8], count: usize) {
    let socket =
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).unwrap();
    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
    for number in 0..count {
        sendto(socket.as_raw_fd(), message, &to, MsgFlags::empty()).unwrap();
        if number % 10 == 9 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
