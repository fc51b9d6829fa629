//! The addresses that are VIPs, for packets that name no service: ICMP and fragments.

use std::collections::BTreeMap;

use aya::maps::lpm_trie::Key;

use super::{Error, Maps, Tables, Vip, VipKey};

/// What the map holds.
#[derive(Default)]
pub(super) struct Vips {
    published: BTreeMap<VipKey, Vip>,
}

impl Vips {
    /// Takes in what an earlier daemon left.
    pub fn find(&mut self, maps: &Maps) {
        let entries = maps.vips.iter().filter_map(Result::ok);
        self.published = entries.map(|(key, vip)| ((key.data(), key.prefix_len() as u8), Vip(vip))).collect();
    }

    /// Lets packets to the addresses of `tables` be taken for ours.
    pub fn add(&mut self, maps: &mut Maps, tables: &Tables) -> Result<(), Error> {
        for (&key, &vip) in &tables.vips {
            if self.published.get(&key) != Some(&vip) {
                maps.vips.insert(&trie_key(key), vip.0, 0).map_err(Error::map("VIPS"))?;
                self.published.insert(key, vip);
            }
        }
        Ok(())
    }

    /// Forgets all other addresses.
    pub fn retain(&mut self, maps: &mut Maps, tables: &Tables) -> Result<(), Error> {
        let gone: Vec<VipKey> =
            self.published.keys().copied().filter(|key| !tables.vips.contains_key(key)).collect();
        for key in gone {
            maps.vips.remove(&trie_key(key)).map_err(Error::map("VIPS"))?;
            self.published.remove(&key);
        }
        Ok(())
    }
}

fn trie_key((address, prefix): VipKey) -> Key<[u8; 16]> {
    Key::new(u32::from(prefix), address)
}
