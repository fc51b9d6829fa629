//! The interfaces that are this instance's, for answers of its own and for `nat`.

use std::collections::BTreeMap;

use lb_common::layout::Own;

use super::{Dataplane, Error};

impl Dataplane {
    /// Makes these the own addresses, by the number of the interface; others, of an earlier daemon too, are forgotten.
    pub fn set_own(&mut self, own: &BTreeMap<u32, Own>) -> Result<(), Error> {
        let map = &mut self.maps.own;
        let present: BTreeMap<u32, Own> = map.iter().collect::<Result<_, _>>().map_err(Error::map("OWN"))?;
        for ifindex in present.keys().filter(|ifindex| !own.contains_key(ifindex)) {
            map.remove(ifindex).map_err(Error::map("OWN"))?;
        }
        for (ifindex, addresses) in own.iter().filter(|(ifindex, own)| present.get(ifindex) != Some(own)) {
            map.insert(ifindex, addresses, 0).map_err(Error::map("OWN"))?;
        }
        Ok(())
    }
}
