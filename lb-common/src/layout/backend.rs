//! A backend as the data path sees it.

use super::layout;

/// `Backend::mode`: rewrite the MAC addresses.
pub const MODE_L2: u8 = 1;
/// `Backend::mode`: encapsulate IP in IP.
pub const MODE_IPIP: u8 = 2;
/// `Backend::mode`: encapsulate in UDP with a GUE header, variant 0.
pub const MODE_GUE: u8 = 3;
/// `Backend::mode`: rewrite destination address and port.
pub const MODE_NAT: u8 = 4;

/// One address that serves one service; one cache line.
///
/// Only `control` is ever rewritten in place. Anything else changes by a new record and a flip of the pair's index.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backend {
    /// [`Control`]
    pub control: u64,
    /// The backend's address, IPv4 in the first four bytes: the outer destination, or the new one of `nat`.
    pub address: [u8; 16],
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    /// Interface that leads to the backend.
    pub ifindex: u32,
    /// Index of the counters of this (service, host), the same through all records of the pair.
    pub stats: u32,
    /// Largest IP packet that the way to the backend takes, bytes.
    pub mtu: u16,
    /// Destination port as it lies in a packet: of the GUE header's UDP packet, or the new one of `nat`; 0: as it was.
    pub port: u16,
    /// Number of the [`super::Egress`].
    pub egress: u16,
    /// `MODE_…`
    pub mode: u8,
    /// [`BackendFlags`]
    pub flags: u8,
    pub pad: [u8; 12],
}
layout!(Backend, 64, 8);

/// Bits of `Backend::flags`.
pub struct BackendFlags;

impl BackendFlags {
    /// The next hop is known: packets can be sent.
    pub const REACHABLE: u8 = 1;
    /// `address` is IPv6.
    pub const OUTER_V6: u8 = 2;
    /// The way out has VLAN tags.
    pub const TAGGED: u8 = 4;
    /// The next hop is the backend itself: a packet from that MAC address is the backend's own.
    pub const ON_LINK: u8 = 8;
}
/// What the data path may do with a host, for one service.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostState {
    /// No such backend: it gets no packet at all.
    Gone = 0,
    /// In use.
    Up = 1,
    /// Its live flows go on; it gets no new ones.
    Draining = 2,
    /// Fails its checks: its packets go elsewhere for now, its pins stay.
    Down = 3,
    /// Drained to the end: no flow of it is left, so it is no previous owner any more. A pin that names it all the same
    /// is obeyed.
    Drained = 4,
    /// It has left the config while it could not be reached, so no packet of a flow of it will ever get there: no stateless
    /// answer names it, and a pin that does is as good as none.
    Lost = 5,
}

/// The word of a backend that changes in place: the state in bits 0–7, the rest is zero for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control(pub u64);

impl Control {
    pub const fn new(state: HostState) -> Self {
        Control(state as u64)
    }

    #[inline(always)]
    pub const fn state(self) -> HostState {
        match self.0 as u8 {
            1 => HostState::Up,
            2 => HostState::Draining,
            3 => HostState::Down,
            4 => HostState::Drained,
            5 => HostState::Lost,
            _ => HostState::Gone,
        }
    }
}
