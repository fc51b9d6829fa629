//! Raw sockets for ICMP: errors come in, errors for clients go out. `CAP_NET_RAW` is needed.

use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto, socket,
};

/// Bytes of a message that are read. Routers send 576 of IPv4 and 1280 of IPv6 at most, and a message that was cut is none.
pub const LONGEST: usize = 4096;

/// linux/icmp.h: `SOL_RAW`, `ICMP_FILTER`, a mask of the types that are not wanted.
const SOL_RAW: libc::c_int = 255;
const ICMP_FILTER: libc::c_int = 1;
/// Destination unreachable and time exceeded.
const WANTED_V4: u32 = 1 << 3 | 1 << 11;

/// linux/icmpv6.h: `ICMPV6_FILTER`, as the former with 256 bits.
const ICMPV6_FILTER: libc::c_int = 1;
/// Destination unreachable, packet too big, time exceeded, parameter problem.
const WANTED_V6: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4;

/// A socket of one family, in the network namespace of the thread that opened it; never blocks.
#[derive(Debug)]
pub struct IcmpSocket {
    fd: OwnedFd,
    is_v6: bool,
}

impl IcmpSocket {
    pub fn open(is_v6: bool) -> io::Result<Self> {
        let (family, protocol) = if is_v6 {
            (AddressFamily::Inet6, SockProtocol::IcmpV6)
        } else {
            (AddressFamily::Inet, SockProtocol::Icmp)
        };
        let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?;
        if is_v6 {
            let mut unwanted = [u32::MAX; 8];
            unwanted[0] = !WANTED_V6;
            set_option(&fd, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &unwanted)?;
        } else {
            set_option(&fd, SOL_RAW, ICMP_FILTER, &!WANTED_V4)?;
        }
        Ok(Self { fd, is_v6 })
    }

    /// Reads the next message; says where in the buffer it lies, from its type on.
    pub fn receive(&self, buffer: &mut [u8; LONGEST]) -> io::Result<Range<usize>> {
        let len = recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty())?;
        // IPv4's come with their IP header.
        let header = if self.is_v6 { 0 } else { usize::from(buffer[0] & 0x0f) * 4 };
        Ok(header.min(len)..len)
    }

    /// Sends a message of the socket's family by the kernel's route, from the address that goes with that. The kernel makes the
    /// checksum of IPv6's anew.
    pub fn send(&self, to: IpAddr, message: &[u8]) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        match to {
            IpAddr::V4(to) => {
                sendto(fd, message, &SockaddrIn::from(SocketAddrV4::new(to, 0)), MsgFlags::empty())
            }
            IpAddr::V6(to) => {
                sendto(fd, message, &SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0)), MsgFlags::empty())
            }
        }?;
        Ok(())
    }
}

impl AsRawFd for IcmpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn set_option<T>(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is as long as said and outlives the call.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), size_of::<T>() as u32)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
