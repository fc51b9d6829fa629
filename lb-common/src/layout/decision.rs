//! What the data path says about one decision.

use super::{Tuple, layout};

/// How a packet came to its verdict, written by the program that records. What a packet did not reach is 0. It lies in a map of that load
/// of the program alone, so it may change without [`super::LAYOUT_VERSION`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecisionRecord {
    /// [`crate::hash::FlowHash`]: bucket and tag of the flow, and its slot unless its service has affinity.
    pub hash: u64,
    /// [`crate::flow::Word`] of the flow's pin as it was found, dead or alive.
    pub word: u64,
    /// Of the packet, without ports where it has none; of ICMP errors that of the packet that is quoted, as its client sends it.
    pub tuple: Tuple,
    /// Index of that word, or [`crate::table::IN_OVERFLOW`].
    pub index: u32,
    pub slot_number: u32,
    /// [`super::Slot`]
    pub slot: u32,
    /// [`crate::reason::Reason`] of the verdict.
    pub reason: u32,
    /// The interface that the frame leaves by, if it is sent on; of a frame that goes to the kernel the one that it would leave by.
    pub ifindex: u32,
    /// Number of the service, where [`Self::side`] says that there is one.
    pub service: u16,
    /// The host that was decided on; [`super::HOST_NONE`]: the packet is dropped.
    pub host: u16,
    /// What the way to the backend or the client takes, bytes, where that is less than the packet has.
    pub mtu: u16,
    /// [`super::Policy`] of the service.
    pub policy: u8,
    /// [`Way`]
    pub way: u8,
    /// [`crate::parse::Signal`]
    pub signal: u8,
    /// The pin that was found was alive (0 or 1).
    pub is_live: u8,
    /// [`crate::decide::PinAction`]
    pub action: u8,
    /// [`crate::flow::Phase`] that the pin gets by the action.
    pub phase: u8,
    /// [`crate::parse::What`] and one.
    pub what: u8,
    /// [`Side`]
    pub side: u8,
    pub pad: [u8; 6],
}
layout!(DecisionRecord, 96, 8);

/// Who the packet is from.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It is for no service and no answer of one's backend, as far as it was looked at.
    None = 0,
    /// A client: it is for a service.
    Client = 1,
    /// A backend of a service, which answers a client.
    Backend = 2,
}

impl Side {
    pub const fn from_number(number: u8) -> Side {
        match number {
            1 => Side::Client,
            2 => Side::Backend,
            _ => Side::None,
        }
    }
}

/// Which part of the program decided.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// None: the packet is for nobody here.
    None = 0,
    /// The slot alone: settled, of a service that tracks edges.
    Edges = 1,
    /// Slot, pin and packet.
    Exact = 2,
}

impl Way {
    pub const fn from_number(number: u8) -> Way {
        match number {
            1 => Way::Edges,
            2 => Way::Exact,
            _ => Way::None,
        }
    }
}
