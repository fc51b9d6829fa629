//! What the kernel knows of the network: next hops of backends, interfaces, addresses.
//!
//! The data path makes no look-up of its own in the kernel's routing and neighbour tables; it writes the MACs that
//! the [`Resolver`] has found and keeps current. Everything here concerns the network namespace of the thread that
//! makes the call, and [`Resolver::spawn`] stays with that namespace.

mod decode;
mod engine;
mod interfaces;
mod judge;
mod own;
mod redirect;
mod resolver;
mod vips;
mod ways_out;
mod wire;

use std::fmt;
use std::io;
use std::net::IpAddr;

pub use interfaces::{Interface, addresses, index_of, interfaces};
pub use own::{Own, OwnInterface};
pub use redirect::{BASIC, takes_redirects, xdp_features};
pub use resolver::Resolver;
pub use vips::{add_vips, addresses_on, remove_vips};
pub use ways_out::WayOut;

/// How frames for a backend leave this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// The interface that frames leave by: beneath VLAN devices, if there are any.
    pub ifindex: u32,
    /// Name of the egress interface; a VLAN device's own.
    pub interface: String,
    /// VLAN tags that frames need, the outer one first, as they lie in a frame: TPID and TCI. 0: none.
    pub tags: [u32; 2],
    /// MAC of the egress interface.
    pub src_mac: [u8; 6],
    /// MAC of the backend, or of the gateway towards it.
    pub dst_mac: [u8; 6],
    /// The address that the kernel itself would send from: the outer source of an encapsulated packet. Always of
    /// the backend's family.
    pub source: IpAddr,
    /// Bytes of an IP packet that may leave: the lesser of the interface's and the route's MTU.
    pub mtu: u32,
    /// `None`: the backend is on the link. May be IPv6 for an IPv4 backend (RFC 8950).
    pub gateway: Option<IpAddr>,
}

/// What is known of the way to one backend. [`NextHopState::next_hop`] tells whether there is one to send by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHopState {
    Resolved(NextHop),
    /// Was resolved, but the neighbour has stopped to answer. The last known next hop stays in use: that host may
    /// be filtering ARP, and a host that is really gone is the health checks' business.
    Kept {
        next_hop: NextHop,
        why: String,
    },
    /// There is no way to send; `why` is for people.
    Unresolved {
        why: String,
    },
    /// The address is this machine's own: packets to it never leave, so it cannot be a backend.
    Local,
    /// The route leaves by an interface without Ethernet (a tunnel, the loopback), which XDP cannot send by.
    NoEthernet {
        interface: String,
    },
}

impl NextHopState {
    /// What to send by, also when it is only the last known one.
    pub fn next_hop(&self) -> Option<&NextHop> {
        match self {
            Self::Resolved(next_hop) | Self::Kept { next_hop, .. } => Some(next_hop),
            Self::Unresolved { .. } | Self::Local | Self::NoEthernet { .. } => None,
        }
    }
}

impl fmt::Display for NextHopState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved(next_hop) => write!(f, "{next_hop}"),
            Self::Kept { next_hop, why } => write!(f, "{next_hop}, last known: {why}"),
            Self::Unresolved { why } => f.write_str(why),
            Self::Local => f.write_str("the address is this machine's own"),
            Self::NoEthernet { interface } => write!(f, "{interface} is not an Ethernet interface"),
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.dst_mac;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} on {}", self.interface)?;
        match self.gateway {
            Some(gateway) => write!(f, " via {gateway}"),
            None => Ok(()),
        }
    }
}

/// Why the kernel could not be asked or would not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
    #[error("cannot list the {what} over netlink")]
    List {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot watch the network: no tokio runtime with I/O and time runs on this thread")]
    Runtime(#[source] io::Error),
    #[error("there is no interface {name}; `ip link` lists those that exist")]
    NoInterface { name: String },
    #[error("cannot add the virtual address {address} to {interface}")]
    AddVip {
        address: IpAddr,
        interface: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot remove the virtual address {address} from {interface}")]
    RemoveVip {
        address: IpAddr,
        interface: String,
        #[source]
        source: io::Error,
    },
}
