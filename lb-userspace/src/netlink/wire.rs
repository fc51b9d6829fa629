//! The netlink sockets: one that asks and waits, and one that listens.
//!
//! The kernel answers a route-netlink request inside the system call that sends it, so a plain blocking socket is
//! both the simplest and the fastest way to ask; nothing is gained by an asynchronous one.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt,
};
use nix::sys::time::TimeVal;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rtnetlink::packet_route::RouteNetlinkMessage;

/// Bytes of a receive buffer. The kernel builds datagrams of at most 32 KiB (since Linux 4.9).
const DATAGRAM: usize = 64 * 1024;

/// The kernel answers at once; a silence of this length means that something is broken, and is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// A dump during which the table changed is repeated this often; then its last result is taken, and the events
/// that the change caused put it right.
const DUMP_ATTEMPTS: usize = 4;

/// Receive buffer of the listening socket: a burst of some ten thousand messages fits.
const EVENT_BUFFER: usize = 4 * 1024 * 1024;

/// `struct nlmsghdr` of linux/netlink.h.
const HEADER: usize = 16;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

/// Splits a datagram; ends at the first header that does not fit.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[0..4].try_into().ok()?) as usize;
        let body = datagram.get(HEADER..length)?;
        let message = Message {
            kind: u16::from_ne_bytes(header[4..6].try_into().ok()?),
            flags: u16::from_ne_bytes(header[6..8].try_into().ok()?),
            sequence: u32::from_ne_bytes(header[8..12].try_into().ok()?),
            body,
        };
        // Messages start at multiples of four bytes.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

fn open(protocol: SockProtocol, flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// Receives one datagram of the kernel into `buffer`, passing over those of other senders.
fn receive<'a>(fd: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    loop {
        let (length, from) = socket::recvfrom::<NetlinkAddr>(fd.as_raw_fd(), buffer)?;
        if from.is_some_and(|from| from.pid() == 0) {
            return Ok(&buffer[..length]);
        }
    }
}

/// Asks the kernel, one request at a time. Belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Requests {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub fn open() -> io::Result<Self> {
        Self::open_as(SockProtocol::NetlinkRoute)
    }

    pub fn open_as(protocol: SockProtocol) -> io::Result<Self> {
        let fd = open(protocol, SockFlag::empty(), 0)?;
        let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    /// All entries of a table that `decode` understands, from replies of type `kind`.
    pub fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        kind: u16,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut entries = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            entries.clear();
            let interrupted = self.exchange(request.clone(), NLM_F_DUMP, |message| {
                if message.kind == kind {
                    entries.extend(decode(message.body));
                }
            })?;
            if !interrupted {
                break;
            }
        }
        Ok(entries)
    }

    /// The one reply of type `kind` to a request for one object; an error number when the kernel refuses.
    pub fn get<T>(
        &mut self,
        request: impl NetlinkSerializable,
        kind: u16,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<T> {
        let mut reply = None;
        self.exchange(request, NLM_F_ACK, |message| {
            if message.kind == kind {
                reply = decode(message.body);
            }
        })?;
        reply.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the kernel's reply has no such object")
        })
    }

    /// Makes a change; `flags` are `NLM_F_CREATE` and the like.
    pub fn change(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(request, NLM_F_ACK | flags, |_| {}).map(drop)
    }

    /// Sends a request and feeds the replies to `each` until the kernel says that it is done; tells whether the
    /// table changed under the dump.
    fn exchange(
        &mut self,
        request: impl NetlinkSerializable,
        flags: u16,
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let payload = NetlinkPayload::InnerMessage(request);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        socket::sendto(self.fd.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;

        let mut interrupted = false;
        loop {
            let datagram = match receive(&self.fd, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                received => received?,
            };
            for message in messages(datagram) {
                // Replies to an earlier request that was given up may still be on their way.
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                if message.kind == NLMSG_ERROR || message.kind == NLMSG_DONE {
                    // Both begin with a negated error number, or 0; an empty NLMSG_DONE is a success.
                    let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return match code {
                        0 => Ok(interrupted),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                each(message);
            }
        }
    }
}

/// Hears of changes. Belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Events(OwnedFd);

impl Events {
    /// Subscribes to links, neighbours, addresses, routes, rules and next-hop objects; never blocks.
    pub fn open() -> io::Result<Self> {
        let groups = [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_NEIGH,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV4_RULE,
            libc::RTNLGRP_IPV6_RULE,
            libc::RTNLGRP_NEXTHOP,
        ];
        let mask = groups.iter().fold(0, |mask, group| mask | 1u32 << (group - 1));
        let fd = open(SockProtocol::NetlinkRoute, SockFlag::SOCK_NONBLOCK, mask)?;
        // Without the right to exceed net.core.rmem_max the smaller buffer serves: an overrun only costs a dump.
        if socket::setsockopt(&fd, sockopt::RcvBufForce, &EVENT_BUFFER).is_err() {
            let _ = socket::setsockopt(&fd, sockopt::RcvBuf, &EVENT_BUFFER);
        }
        Ok(Self(fd))
    }

    /// The next datagram. `WouldBlock`: none is there; `ENOBUFS`: some were lost.
    pub fn receive<'a>(&self, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        buffer.resize(DATAGRAM, 0);
        receive(&self.0, buffer)
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_datagram_is_split_at_multiples_of_four() {
        let datagram = [message(16, 7, &[1, 2, 3, 4, 5]), message(17, 8, &[])].concat();
        let found: Vec<_> = messages(&datagram).map(|m| (m.kind, m.sequence, m.body.to_vec())).collect();
        assert_eq!(found, [(16, 7, vec![1, 2, 3, 4, 5]), (17, 8, vec![])]);
    }

    #[test]
    fn a_length_that_lies_ends_the_datagram() {
        for length in [0u32, 15, 21] {
            let mut datagram = message(16, 7, &[1, 2, 3, 4]);
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(messages(&datagram).count(), 0, "length {length}");
        }
    }
}
