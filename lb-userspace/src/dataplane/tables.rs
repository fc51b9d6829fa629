//! What the data path is to do: the planner's output, the publisher's input.

use std::collections::BTreeMap;

use lb_common::layout::{
    Backend, BackendFlags, Egress, FEATURE_GUE, FEATURE_NAT, FEATURE_TAGS, HostId, MODE_GUE, MODE_NAT,
    Policy, ServiceKey,
};

/// Everything that is published together, as one generation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tables {
    /// By number.
    pub services: BTreeMap<u16, ServiceTable>,
    /// Clients that a service treats apart: by its number and their prefix. The longest prefix counts.
    pub clients: BTreeMap<Audience, ClientTable>,
    /// By number: slots as in [`lb_common::layout::Slot`].
    pub rings: BTreeMap<u32, Vec<u32>>,
    /// Addresses that packets are told to be ours by, where a service's record is not asked.
    pub vips: BTreeMap<VipKey, Vip>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceTable {
    /// All that its packets are sent to, and that backends answer from; no other service has any of them.
    pub keys: Vec<ServiceKey>,
    pub policy: Policy,
    pub ring: u32,
    pub backends: BTreeMap<HostId, BackendTable>,
}

/// A service's number, and those of its clients that are meant, by their prefix as in [`VipKey`].
pub type Audience = (u16, VipKey);

/// What clients that are treated apart go by.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientTable {
    pub ring: u32,
    /// The same hosts as the service has, in other states.
    pub backends: BTreeMap<HostId, BackendTable>,
}

/// A backend: its record, the control word in it, and the way out to it. The record's number of that way is the publisher's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendTable {
    pub record: Backend,
    pub egress: Egress,
}

impl BackendTable {
    /// Features without which the program cannot send to it.
    pub fn needs(&self) -> u32 {
        let mode = match self.record.mode {
            MODE_GUE => FEATURE_GUE,
            MODE_NAT => FEATURE_NAT,
            _ => 0,
        };
        let is_tagged = self.record.flags & BackendFlags::TAGGED != 0;
        mode | if is_tagged { FEATURE_TAGS } else { 0 }
    }
}

impl From<Backend> for BackendTable {
    /// By a way out without tags and outer source.
    fn from(record: Backend) -> Self {
        BackendTable { record, egress: Egress::default() }
    }
}

/// A VIP, or a prefix of them: 16 bytes of the address, IPv4 as `::ffff:a.b.c.d`, and how many bits of it count.
pub type VipKey = ([u8; 16], u8);

/// How packets to a VIP are treated that name no service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vip(pub u32);
