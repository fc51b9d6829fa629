//! What the data path is to do: the planner's output, the publisher's input.

use std::collections::BTreeMap;

use lb_common::layout::{Backend, HostId, Policy, ServiceKey};

/// Everything that is published together, as one generation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tables {
    /// By number.
    pub services: BTreeMap<u16, ServiceTable>,
    /// By number: slots as in [`lb_common::layout::Slot`].
    pub rings: BTreeMap<u32, Vec<u32>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceTable {
    pub key: ServiceKey,
    pub policy: Policy,
    pub ring: u32,
    pub backends: BTreeMap<HostId, BackendTable>,
}

/// A backend's record. The control word is in it.
pub type BackendTable = Backend;
