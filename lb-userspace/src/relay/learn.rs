//! What errors tell of the paths to backends, and for how long it is believed. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Bytes of the longest IP packet that the path to a backend takes, where an error has told so.
pub type PathMtus = BTreeMap<IpAddr, u16>;

/// How long after the last error: a path may have become wider, which nobody tells (RFC 1191, 6.3; as Linux's
/// `net.ipv4.route.mtu_expires`).
pub const BELIEVED: Duration = Duration::from_secs(600);

/// The least that is believed. IPv4: every host takes that much (RFC 791, 3.1), and everybody may forge an error. IPv6: the least
/// MTU there is (RFC 8200, 5).
pub const LEAST_V4: u16 = 576;
pub const LEAST_V6: u16 = 1280;

/// What is known.
#[derive(Debug, Default)]
pub struct Learnt {
    paths: BTreeMap<IpAddr, Path>,
}

#[derive(Debug, Clone, Copy)]
struct Path {
    mtu: u16,
    heard: Instant,
}

impl Learnt {
    /// An error about a packet to `backend` named `mtu`. A path has the least MTU that was named: packets may take several, and a
    /// greater one is from an error that was long on its way.
    pub fn hear(&mut self, backend: IpAddr, mtu: u16, now: Instant) {
        let mtu = mtu.max(if backend.is_ipv4() { LEAST_V4 } else { LEAST_V6 });
        let path = self.paths.entry(backend).or_insert(Path { mtu, heard: now });
        if mtu <= path.mtu {
            *path = Path { mtu, heard: now };
        }
    }

    /// What is still believed.
    pub fn mtus(&mut self, now: Instant) -> PathMtus {
        self.paths.retain(|_, path| now.duration_since(path.heard) < BELIEVED);
        self.paths.iter().map(|(&backend, path)| (backend, path.mtu)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9));

    #[test]
    fn the_least_mtu_counts_until_ten_minutes_after_it_was_last_named() {
        let (mut learnt, start) = (Learnt::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(learnt.mtus(at(0)), PathMtus::new());
        learnt.hear(V4, 1400, at(0));
        learnt.hear(V6, 1450, at(1));
        assert_eq!(learnt.mtus(at(1)), [(V4, 1400), (V6, 1450)].into());
        learnt.hear(V4, 1420, at(100));
        learnt.hear(V6, 1450, at(100));
        assert_eq!(learnt.mtus(at(599)), [(V4, 1400), (V6, 1450)].into());
        assert_eq!(learnt.mtus(at(600)), [(V6, 1450)].into(), "1420 was no news of it");
        learnt.hear(V4, 1420, at(601));
        learnt.hear(V6, 1300, at(699));
        assert_eq!(learnt.mtus(at(700)), [(V4, 1420), (V6, 1300)].into());
        assert_eq!(learnt.mtus(at(1300)), PathMtus::new());
    }

    #[test]
    fn less_than_every_host_takes_is_not_believed() {
        let (mut learnt, now) = (Learnt::default(), Instant::now());
        learnt.hear(V4, 68, now);
        learnt.hear(V6, 1279, now);
        assert_eq!(learnt.mtus(now), [(V4, 576), (V6, 1280)].into());
    }
}
