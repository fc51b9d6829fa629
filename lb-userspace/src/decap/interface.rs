//! What the kernel says of an interface: its index, its XDP program and its addresses.

use std::io;
use std::net::{IpAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use serde::Serialize;

/// How an XDP program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By the driver, before the kernel allocates anything for the packet.
    Native,
    /// By the network stack, for any driver, at a multiple of the cost.
    Generic,
    /// By the network card.
    Offloaded,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
            Mode::Offloaded => "offloaded",
        }
    }
}

/// An interface of the caller's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    /// Attached XDP programs, by their number in the kernel; more than one where a card runs one of its own.
    pub programs: Vec<(Mode, u32)>,
    /// It is up, and so is what is at its other end.
    pub has_carrier: bool,
    /// Of one of a pair: the index of the other, if that is in this network namespace.
    pub peer: Option<u32>,
}

impl Interface {
    /// # Errors
    /// ENODEV: there is none of this name. EINVAL: no interface can have it.
    pub fn by_name(name: &str) -> io::Result<Interface> {
        let index = nix::net::if_::if_nametoindex(name).map_err(io::Error::from)?;
        Self::by_index(index)
    }

    /// # Errors
    /// ENODEV: there is none with this index.
    pub fn by_index(index: u32) -> io::Result<Interface> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        sendto(socket.as_raw_fd(), &request(index), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = vec![0; 64 * 1024];
        let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        parse(&answer[..len])
    }

    /// How a program is run here, if it is.
    pub fn mode_of(&self, program: u32) -> Option<Mode> {
        self.programs.iter().find(|(_, attached)| *attached == program).map(|(mode, _)| *mode)
    }
}

/// `struct nlmsghdr` and `struct ifinfomsg` (rtnetlink(7)).
const HEADER: usize = 16;
const LINK: usize = 16;
/// Attributes begin at multiples of 4 bytes, with their length and their type.
const ATTRIBUTE: usize = 4;

fn request(index: u32) -> [u8; HEADER + LINK] {
    let mut message = [0; HEADER + LINK];
    message[0..4].copy_from_slice(&((HEADER + LINK) as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
    message
}

const LOWER_UP: u32 = libc::IFF_LOWER_UP as u32;

fn parse(message: &[u8]) -> io::Result<Interface> {
    let kind = message.get(4..6).map(u16_of).ok_or_else(short)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let error = message.get(HEADER..HEADER + 4).map(u32_of).ok_or_else(short)? as i32;
        return Err(io::Error::from_raw_os_error(-error));
    }
    let index = message.get(HEADER + 4..HEADER + 8).map(u32_of).ok_or_else(short)?;
    let mut interface = Interface {
        index,
        name: String::new(),
        programs: Vec::new(),
        has_carrier: message.get(HEADER + 8..HEADER + 12).map(u32_of).unwrap_or_default() & LOWER_UP != 0,
        peer: None,
    };
    let mut is_elsewhere = false;
    for (kind, value) in attributes(message.get(HEADER + LINK..).ok_or_else(short)?) {
        if kind == libc::IFLA_IFNAME {
            let name = value.strip_suffix(&[0]).unwrap_or(value);
            interface.name = String::from_utf8_lossy(name).into_owned();
        } else if kind == libc::IFLA_XDP {
            interface.programs = parse_xdp(value);
        } else if kind == libc::IFLA_LINK {
            interface.peer = value.get(..4).map(u32_of).filter(|peer| *peer != 0 && *peer != index);
        } else if kind == libc::IFLA_LINK_NETNSID {
            is_elsewhere = true;
        }
    }
    interface.peer = interface.peer.filter(|_| !is_elsewhere);
    Ok(interface)
}

/// `IFLA_XDP_DRV_PROG_ID` and so on of `linux/if_link.h` (Linux 4.20).
fn parse_xdp(nested: &[u8]) -> Vec<(Mode, u32)> {
    attributes(nested)
        .filter_map(|(kind, value)| {
            let mode = match kind {
                5 => Mode::Native,
                6 => Mode::Generic,
                7 => Mode::Offloaded,
                _ => return None,
            };
            Some((mode, value.get(..4).map(u32_of)?))
        })
        .collect()
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = rest.get(0..2).map(u16_of)? as usize;
        // The upper two bits say how the value is written.
        let kind = rest.get(2..4).map(u16_of)? & 0x3fff;
        let value = rest.get(ATTRIBUTE..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn u16_of(bytes: &[u8]) -> u16 {
    u16::from_ne_bytes([bytes[0], bytes[1]])
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer about the interface is too short")
}

/// Addresses of an interface, sorted.
pub fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = nix::ifaddrs::getifaddrs()?
        .filter(|entry| entry.interface_name == name)
        .filter_map(|entry| {
            let address = entry.address?;
            match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => Some(IpAddr::V4(*SocketAddrV4::from(*v4).ip())),
                (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
                _ => None,
            }
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_name_and_addresses() {
        let interface = Interface::by_name("lo").unwrap();
        assert_eq!(interface.name, "lo");
        assert_eq!(Interface::by_index(interface.index).unwrap(), interface);
        assert!(addresses("lo").unwrap().contains(&IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn a_missing_interface_is_enodev() {
        assert_eq!(Interface::by_name("nowhere0").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(Interface::by_index(0x7fff_fff0).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(addresses("nowhere0").unwrap().is_empty());
    }

    #[test]
    fn programs_are_read_by_mode() {
        let attribute = |kind: u16, value: u32| {
            let mut bytes = [0; 8];
            bytes[0..2].copy_from_slice(&8u16.to_ne_bytes());
            bytes[2..4].copy_from_slice(&kind.to_ne_bytes());
            bytes[4..8].copy_from_slice(&value.to_ne_bytes());
            bytes
        };
        let nested = [attribute(4, 77), attribute(5, 77), attribute(6, 78)].concat();
        assert_eq!(parse_xdp(&nested), [(Mode::Native, 77), (Mode::Generic, 78)]);
        assert_eq!(parse_xdp(&nested[..nested.len() - 1]), [(Mode::Native, 77)]);
        assert_eq!(parse_xdp(&[0; 8]), []);
    }
}
