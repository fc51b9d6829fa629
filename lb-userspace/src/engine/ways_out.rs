//! Ways out that may not take what native XDP programs of other interfaces send: told when they are first seen, and as long as it is so.

use std::collections::BTreeSet;

use super::Engine;
use crate::netlink::{NextHopState, WayOut};

impl Engine {
    /// Warns of each interface by which a backend is reached, once.
    pub(super) fn look_at_ways_out(&mut self) {
        let (egresses, native) = self.ways();
        let new: BTreeSet<u32> = egresses.difference(&self.ways_out).copied().collect();
        for way in WayOut::look(&new, &native) {
            self.ways_out.insert(way.ifindex);
            log::warn!("{}: {}; {}", way.interface, way.what(), way.mend());
        }
    }

    /// Those that are certain to drop it at this moment.
    pub(super) fn problems_of_ways_out(&self) -> Vec<String> {
        let (egresses, native) = self.ways();
        let certain = WayOut::look(&egresses, &native).into_iter().filter(|way| way.is_certain);
        certain.map(|way| format!("{}: {}", way.interface, way.what())).collect()
    }

    /// Interfaces by which backends are reached, and those on which the program runs in native mode.
    fn ways(&self) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let native = self.attached.iter().filter(|attached| attached.mode == "native");
        let hops = self.published_hops.values().filter_map(NextHopState::next_hop);
        (hops.map(|hop| hop.ifindex).collect(), native.map(|attached| attached.ifindex).collect())
    }
}
