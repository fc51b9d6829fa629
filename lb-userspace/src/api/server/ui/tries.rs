//! Wrong tokens, counted by where they come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use super::super::limits;
use super::super::meter::Bucket;
use super::super::peer::network;

/// Networks that have shown wrong tokens, of late.
#[derive(Default)]
pub struct Tries(HashMap<IpAddr, Bucket>);

impl Tries {
    /// Whether a wrong token from there is still told to be one.
    pub fn may_try(&mut self, address: IpAddr, now: Instant) -> bool {
        self.0.get_mut(&network(address)).is_none_or(|bucket| bucket.has(limits::TRIES, now))
    }

    /// It was wrong.
    pub fn was_wrong(&mut self, address: IpAddr, now: Instant) {
        let network = network(address);
        if self.0.len() >= limits::TRIERS && !self.0.contains_key(&network) {
            let oldest = self.0.iter().min_by_key(|(_, bucket)| bucket.at()).map(|(network, _)| *network);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        self.0.entry(network).or_insert_with(|| Bucket::full(limits::TRIES, now)).take(limits::TRIES, now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_wrong_too_often_waits_and_others_do_not() {
        let (mut tries, start) = (Tries::default(), Instant::now());
        let [bad, good] = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
        let mut wrong = 0;
        while tries.may_try(bad, start) {
            tries.was_wrong(bad, start);
            wrong += 1;
        }
        assert_eq!(wrong, 5);
        assert!(tries.may_try(good, start));
        assert!(!tries.may_try(bad, start + Duration::from_secs(4)));
        assert!(tries.may_try(bad, start + Duration::from_secs(6)));
    }

    #[test]
    fn no_number_of_networks_takes_more_than_its_room() {
        let (mut tries, start) = (Tries::default(), Instant::now());
        let address = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n));
        for n in 0..5000 {
            for _ in 0..5 {
                tries.was_wrong(address(n), start + Duration::from_millis(n.into()));
            }
        }
        assert_eq!(tries.0.len(), limits::TRIERS);
        assert!(!tries.may_try(address(4999), start + Duration::from_secs(5)));
    }
}
