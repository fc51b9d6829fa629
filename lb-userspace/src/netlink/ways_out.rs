//! Interfaces that may not take what native XDP programs of others redirect to them: the kernel drops such frames after they were counted as
//! forwarded.

use std::collections::BTreeSet;

use super::{interfaces, takes_redirects};

/// An interface by which hosts are reached, to which native programs of other interfaces send, and which may drop what they send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    pub ifindex: u32,
    pub interface: String,
    /// As in [`super::Interface`].
    pub kind: String,
    /// Whether the program runs on it in native mode.
    pub is_native: bool,
    /// It is known not to take them; else the kernel does not tell, and there is reason to doubt it.
    pub is_certain: bool,
}

impl WayOut {
    /// Looks at interfaces that frames leave by. `native`: those on which the program runs in native mode. None is found where all is well.
    pub fn look(egresses: &BTreeSet<u32>, native: &BTreeSet<u32>) -> Vec<WayOut> {
        let doubted = |egress: &u32| {
            let is_native = native.contains(egress);
            let is_certain =
                is_redirected_to(*egress, native).then(|| doubt(is_native, takes_redirects(*egress)))??;
            Some((*egress, is_native, is_certain))
        };
        let doubted: Vec<_> = egresses.iter().filter_map(doubted).collect();
        if doubted.is_empty() {
            return Vec::new();
        }
        let interfaces = interfaces().unwrap_or_default();
        let named = |(ifindex, is_native, is_certain)| {
            let found = interfaces.iter().find(|interface| interface.index == ifindex)?;
            let (interface, kind) = (found.name.clone(), found.kind.clone());
            Some(WayOut { ifindex, interface, kind, is_native, is_certain })
        };
        doubted.into_iter().filter_map(named).collect()
    }

    /// What is wrong, or may be, of the interface.
    pub fn what(&self) -> String {
        let problem = match self.is_certain {
            true => "it does not take",
            false => "it has no native XDP program itself, without which many drivers do not take",
        };
        format!(
            "hosts are reached by it, and {problem} frames that native XDP programs of other interfaces send; the kernel drops what it \
             does not take"
        )
    }

    pub fn mend(&self) -> String {
        let mend = match (self.kind.as_str(), self.is_native) {
            ("veth", _) => "give its other end an XDP program or GRO",
            (_, false) => "add it to interfaces, in native mode, if its driver has that",
            (_, true) => "see whether its driver has a setting for it",
        };
        format!("{mend}, or let the interfaces that clients come in by have xdp_mode = \"generic\"")
    }
}

/// Whether frames come to an interface from the native program of another; generic mode sends by any interface.
fn is_redirected_to(egress: u32, native: &BTreeSet<u32>) -> bool {
    native.iter().any(|ingress| *ingress != egress)
}

/// Whether frames are certain to be dropped; `None`: there is no reason to think so. Where the kernel does not tell, it is the drivers that
/// want a program on the interface.
fn doubt(is_native: bool, takes: Option<bool>) -> Option<bool> {
    match takes {
        Some(true) => None,
        Some(false) => Some(true),
        None if is_native => None,
        None => Some(false),
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
            assert_eq!(doubt(is_native, Some(true)), None);
            assert_eq!(doubt(is_native, Some(false)), Some(true));
        }
        assert_eq!(doubt(false, None), Some(false));
        assert_eq!(doubt(true, None), None);
    }
}
