//! The interfaces that are this instance's, for answers of its own and for `nat`.

use std::collections::BTreeMap;

use lb_common::layout::Own;

use super::{Dataplane, Error};

impl Dataplane {
    /// These interfaces, by index, are this instance's, and those are the addresses that it answers from; no others are.
    pub fn set_own(&mut self, own: &BTreeMap<u32, Own>) -> Result<(), Error> {
        let map = &mut self.maps.own;
        let gone: Vec<u32> =
            map.keys().filter_map(Result::ok).filter(|ifindex| !own.contains_key(ifindex)).collect();
        for (ifindex, addresses) in own {
            map.insert(ifindex, addresses, 0).map_err(Error::map("OWN"))?;
        }
        for ifindex in gone {
            map.remove(&ifindex).map_err(Error::map("OWN"))?;
        }
        Ok(())
    }
}
