//! Sockets that packets leave by as they are. `CAP_NET_RAW` is needed.

use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};

/// One socket for frames, and one for packets of each family. None ever blocks: what a full queue does not take is lost, like
/// anything on a wire.
#[derive(Debug)]
pub struct Speaker {
    frames: OwnedFd,
    v4: OwnedFd,
    /// `None`: this machine has no IPv6.
    v6: Option<OwnedFd>,
}

impl Speaker {
    /// In the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = |family, protocol| socket(family, SockType::Raw, flags, protocol);
        Ok(Speaker {
            // Without a protocol: it hears nothing.
            frames: raw(AddressFamily::Packet, None)?,
            v4: raw(AddressFamily::Inet, Some(SockProtocol::Raw))?,
            v6: raw(AddressFamily::Inet6, Some(SockProtocol::Raw)).ok(),
        })
    }

    /// Sends a frame by an interface.
    pub fn send_frame(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: integers only.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = ifindex as i32;
        to.sll_halen = 6;
        // SAFETY: the frame and the address are as long as is said, and outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.frames.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends an IP packet by the kernel's route, from whatever address it says.
    pub fn send_packet(&self, to: IpAddr, packet: &[u8]) -> io::Result<()> {
        match (to, &self.v6) {
            (IpAddr::V4(to), _) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(self.v4.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
            (IpAddr::V6(to), Some(v6)) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendto(v6.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
            (IpAddr::V6(_), None) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        }?;
        Ok(())
    }
}
