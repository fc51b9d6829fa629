//! Interfaces that may not take what native XDP programs of others redirect to them: the kernel drops such frames after they were
//! counted as forwarded, so it is said beforehand.

use std::collections::BTreeSet;

use super::Engine;
use crate::netlink::{self, NextHopState, takes_redirects};

impl Engine {
    /// Looks at each interface by which a backend is reached, once.
    pub(super) fn look_at_ways_out(&mut self) {
        let native = self.attached.iter().filter(|attached| attached.mode == "native");
        let native: BTreeSet<u32> = native.map(|attached| attached.ifindex).collect();
        let hops = self.published_hops.values().filter_map(NextHopState::next_hop);
        for egress in hops.map(|hop| hop.ifindex) {
            if is_redirected_to(egress, &native) && self.ways_out.insert(egress) {
                warn_of(egress, native.contains(&egress), takes_redirects(egress));
            }
        }
    }
}

/// Whether frames come to an interface from the native program of another.
fn is_redirected_to(egress: u32, native: &BTreeSet<u32>) -> bool {
    native.iter().any(|ingress| *ingress != egress)
}

fn warn_of(ifindex: u32, is_native: bool, takes: Option<bool>) {
    let Some(problem) = problem(is_native, takes) else { return };
    let interfaces = netlink::interfaces().unwrap_or_default();
    let Some(interface) = interfaces.iter().find(|interface| interface.index == ifindex) else { return };
    let mend = match (interface.kind.as_str(), is_native) {
        ("veth", _) => "Give its other end an XDP program or GRO",
        (_, false) => "Add it to interfaces, in native mode",
        (_, true) => "See whether its driver has a setting for it",
    };
    log::warn!(
        "{}: hosts are reached by it, and {problem} frames that native XDP programs of other interfaces send; the kernel drops what \
         it does not take. {mend}, or let the interfaces that clients come in by have xdp_mode = \"generic\"",
        interface.name
    );
}

/// What is wrong, or may be. Where the kernel does not tell, it is the drivers that want a program on the interface.
fn problem(is_native: bool, takes: Option<bool>) -> Option<&'static str> {
    match takes {
        Some(true) => None,
        Some(false) => Some("it does not take"),
        None if is_native => None,
        None => Some("it has no native XDP program itself, without which many drivers do not take"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_redirected_from_other_interfaces_in_native_mode_only() {
        assert!(!is_redirected_to(7, &[].into()), "generic mode sends by any interface");
        assert!(!is_redirected_to(7, &[7].into()), "XDP_TX");
        assert!(is_redirected_to(7, &[8].into()));
        assert!(is_redirected_to(7, &[7, 8].into()));
    }

    #[test]
    fn a_kernel_that_does_not_tell_is_doubted_where_there_is_no_program() {
        for is_native in [false, true] {
            assert_eq!(problem(is_native, Some(true)), None);
            assert!(problem(is_native, Some(false)).is_some());
        }
        assert!(problem(false, None).is_some());
        assert_eq!(problem(true, None), None);
    }
}
