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
    /// Index of further counters, of a drain for some clients alone: of packets and flows that go by this record. 0: none. What is live
    /// counts where the pin was made, see `stats`.
    pub tally: u32,
    pub pad: [u8; 8],
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
    /// Its drain's deadline has passed: its flows go to the owners of their slots. Never stored, see [`Control::state_for`].
    Moves = 6,
    /// Its drain's deadline has passed: its TCP flows are reset, others go to the owners of their slots. Never stored.
    Resets = 7,
}

/// What becomes of the flows that are left at a drain's deadline.
#[repr(u8)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtDeadline {
    /// They go on.
    #[default]
    Keep = 0,
    /// Each goes to the owner of its slot with its next packet.
    Move = 1,
    /// The client's next packet of each TCP flow is answered with a RST; others go to the owner of their slot.
    Reset = 2,
}

impl AtDeadline {
    const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            1 => AtDeadline::Move,
            2 => AtDeadline::Reset,
            _ => AtDeadline::Keep,
        }
    }
}

/// The bound of a drain, as the data path enforces it by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deadline {
    /// Second of the monotonic clock; 0: none.
    pub at: u32,
    pub action: AtDeadline,
    /// Seconds after the deadline over which flows meet their ends, each in a second of its own that its hash chooses: so
    /// clients do not come back all at once.
    pub spread: u16,
}

/// The word of a backend that changes in place.
///
/// | bits | what |
/// |---|---|
/// | 0–7 | [`HostState`] |
/// | 8–9 | [`AtDeadline`] |
/// | 16–31 | [`Deadline::spread`] |
/// | 32–63 | [`Deadline::at`] |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control(pub u64);

impl Control {
    pub const fn new(state: HostState) -> Self {
        Control(state as u64)
    }

    /// The same state with a deadline, which counts for a host that is draining, or down meanwhile.
    pub const fn with_deadline(self, deadline: Deadline) -> Self {
        let Deadline { at, action, spread } = deadline;
        Control(self.0 & 0xff | (action as u64) << 8 | (spread as u64) << 16 | (at as u64) << 32)
    }

    pub const fn deadline(self) -> Deadline {
        Deadline {
            at: (self.0 >> 32) as u32,
            action: AtDeadline::from_bits(self.0 >> 8),
            spread: (self.0 >> 16) as u16,
        }
    }

    /// As it is stored.
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

    /// What it means at `now`, a second of the monotonic clock, to a flow with these bits of its hash.
    #[inline(always)]
    pub const fn state_for(self, now: u32, bits: u16) -> HostState {
        let at = (self.0 >> 32) as u32;
        let may_be_over = matches!(self.state(), HostState::Draining | HostState::Down);
        if !may_be_over || at == 0 || now < at {
            return self.state();
        }
        // Scaled into the spread, without a division.
        let spread = (self.0 >> 16) as u16 as u32;
        if now - at < (bits as u32 * spread) >> 16 {
            return self.state();
        }
        match AtDeadline::from_bits(self.0 >> 8) {
            AtDeadline::Keep => self.state(),
            AtDeadline::Move => HostState::Moves,
            AtDeadline::Reset => HostState::Resets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_comes_back_and_leaves_the_state_alone() {
        let deadline = Deadline { at: u32::MAX, action: AtDeadline::Reset, spread: u16::MAX };
        let control = Control::new(HostState::Draining).with_deadline(deadline);
        assert_eq!((control.state(), control.deadline()), (HostState::Draining, deadline));
        assert_eq!(control.with_deadline(Deadline::default()), Control::new(HostState::Draining));
    }

    #[test]
    fn each_flow_has_its_second_within_the_spread() {
        let deadline = |action| {
            Control::new(HostState::Draining).with_deadline(Deadline { at: 1000, action, spread: 60 })
        };
        let moves = deadline(AtDeadline::Move);
        for bits in [0, 1, 0x7fff, 0x8000, u16::MAX] {
            let second = 1000 + ((u32::from(bits) * 60) >> 16);
            assert_eq!(moves.state_for(second - 1, bits), HostState::Draining, "{bits}");
            assert_eq!(moves.state_for(second, bits), HostState::Moves, "{bits}");
            assert_eq!(moves.state_for(1059, bits), HostState::Moves, "{bits}");
            assert_eq!(deadline(AtDeadline::Reset).state_for(u32::MAX, bits), HostState::Resets);
            assert_eq!(deadline(AtDeadline::Keep).state_for(u32::MAX, bits), HostState::Draining);
        }
        let down = Control::new(HostState::Down).with_deadline(moves.deadline());
        assert_eq!((down.state_for(999, 0), down.state_for(1000, 0)), (HostState::Down, HostState::Moves));
        let up = Control::new(HostState::Up).with_deadline(moves.deadline());
        assert_eq!(up.state_for(u32::MAX, 0), HostState::Up);
        assert_eq!(Control::new(HostState::Draining).state_for(u32::MAX, 0), HostState::Draining);
    }
}
