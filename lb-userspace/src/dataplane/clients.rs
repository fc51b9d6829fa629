//! Clients that services treat apart, as packets find them: the trie of their prefixes.

use std::collections::BTreeMap;

use aya::maps::lpm_trie::Key;
use lb_common::layout::{ClientKey, ClientRing, Tuple};

use super::{Audience, Error, Maps, Sizes};

/// What the trie holds.
#[derive(Default)]
pub(super) struct Clients {
    published: BTreeMap<Audience, ClientRing>,
}

impl Clients {
    /// What an earlier daemon left.
    pub fn find(maps: &Maps) -> Self {
        let entries = maps.clients.iter().filter_map(Result::ok);
        let published = entries.map(|(key, ring)| (audience(&key), ring)).collect();
        Clients { published }
    }

    pub fn all(&self) -> impl Iterator<Item = (Audience, ClientRing)> {
        self.published.iter().map(|(&audience, &ring)| (audience, ring))
    }

    pub fn get(&self, audience: &Audience) -> Option<ClientRing> {
        self.published.get(audience).copied()
    }

    /// Lets packets of these clients go by this from now on. The kernel puts a new element in the place of an old one: a packet sees all of
    /// either.
    ///
    /// # Errors
    /// [`Error::Full`]
    pub fn set(&mut self, maps: &mut Maps, audience: Audience, ring: ClientRing) -> Result<(), Error> {
        if self.published.get(&audience) == Some(&ring) {
            return Ok(());
        }
        self.check_room(&audience)?;
        maps.clients.insert(&trie_key(&audience), ring, 0).map_err(Error::map("CLIENTS"))?;
        self.published.insert(audience, ring);
        Ok(())
    }

    /// Whether the trie has room for one more.
    pub fn check_room(&self, audience: &Audience) -> Result<(), Error> {
        let (what, limit) = ("prefixes of clients", Sizes::CLIENTS);
        let is_full = !self.published.contains_key(audience) && self.published.len() >= limit as usize;
        if is_full { Err(Error::Full { what, limit }) } else { Ok(()) }
    }

    /// Lets all others go by what their service goes by.
    pub fn retain(&mut self, maps: &mut Maps, is_used: impl Fn(&Audience) -> bool) -> Result<(), Error> {
        let gone: Vec<Audience> =
            self.published.keys().copied().filter(|audience| !is_used(audience)).collect();
        for audience in gone {
            maps.clients.remove(&trie_key(&audience)).map_err(Error::map("CLIENTS"))?;
            self.published.remove(&audience);
        }
        Ok(())
    }
}

fn trie_key(&(service, (address, prefix)): &Audience) -> Key<ClientKey> {
    Key::new(ClientKey::SERVICE + u32::from(prefix), ClientKey::new(service, Tuple::words(address)))
}

fn audience(key: &Key<ClientKey>) -> Audience {
    let data = key.data();
    let mut address = [0; 16];
    for (octets, word) in address.chunks_exact_mut(4).zip(data.address) {
        octets.copy_from_slice(&word.to_ne_bytes());
    }
    (data.service as u16, (address, (key.prefix_len() - ClientKey::SERVICE) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let address: [u8; 16] = std::array::from_fn(|i| i as u8 * 3);
        for prefix in [0, 96, 104, 128] {
            let written = (4711, (address, prefix));
            assert_eq!(audience(&trie_key(&written)), written);
        }
    }
}
