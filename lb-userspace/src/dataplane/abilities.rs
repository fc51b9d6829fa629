//! What the program has to know: of what is configured, and of what is published.

use std::collections::BTreeSet;

use lb_common::layout::{FEATURE_RANGES, PREFIXES, Prefix, ServiceKey, prefix_mark, prefix_mask};

use super::{Maps, publish::Publisher};

/// What services and interfaces need the program to know; what nobody needs is left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// [`Settings::features`](lb_common::layout::Settings::features)
    pub features: u32,
    /// [`Settings::icmp_rate`](lb_common::layout::Settings::icmp_rate)
    pub icmp_rate: u32,
    /// [`Settings::mss`](lb_common::layout::Settings::mss)
    pub mss: u32,
    /// Lengths of VIPs' prefixes, the longest first, IPv4 with 96 more; at most [`PREFIXES`], each below 128.
    pub prefixes: Vec<u8>,
    /// Frames may come in several pieces: for MTUs that one piece does not hold (Linux 5.18).
    pub frags: bool,
}

impl Default for Abilities {
    /// For services of one address and port each.
    fn default() -> Self {
        Abilities { features: 0, icmp_rate: ICMP_RATE, mss: 0, prefixes: Vec::new(), frags: false }
    }
}

/// As many as the kernel sends to all at most (`icmp_msgs_per_sec`).
const ICMP_RATE: u32 = 1000;

impl Abilities {
    /// With what is published as well. Of more lengths of prefixes than the program tells apart, its own come first.
    pub(super) fn serving(&self, needs: &Needs) -> Abilities {
        let own: BTreeSet<u8> = self.prefixes.iter().copied().collect();
        let room = PREFIXES.saturating_sub(own.len());
        if needs.prefixes.difference(&own).count() > room {
            log::warn!(
                "VIPs have more than {PREFIXES} lengths of prefixes, with those in force so far: some of the latter are looked for no more"
            );
        }
        let all: BTreeSet<u8> =
            own.iter().chain(needs.prefixes.difference(&own).take(room)).copied().collect();
        Abilities {
            features: self.features | needs.features,
            prefixes: all.into_iter().rev().collect(),
            ..self.clone()
        }
    }

    /// [`Self::prefixes`] as packets are held against them.
    pub(super) fn masks(&self) -> [Prefix; PREFIXES] {
        let mut masks = [Prefix::default(); PREFIXES];
        for (mask, &length) in masks.iter_mut().zip(&self.prefixes) {
            *mask = Prefix { mask: prefix_mask(length), mark: prefix_mark(length) };
        }
        masks
    }
}

/// Without what of [`Abilities`] some packet would not find its service, or not go its backend's way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    features: u32,
    prefixes: BTreeSet<u8>,
}

impl Needs {
    /// Of what is published in these maps.
    pub fn of(maps: &Maps) -> Self {
        let publisher = Publisher::new(maps);
        let features = publisher.backends(maps).map(|(_, backend)| backend.needs());
        Needs::with(features, publisher.keys())
    }

    fn with<'a>(features: impl Iterator<Item = u32>, keys: impl Iterator<Item = &'a ServiceKey>) -> Self {
        let mut needs = Needs { features: features.fold(0, |all, some| all | some), ..Needs::default() };
        for key in keys {
            if !key.is_exact() {
                needs.features |= FEATURE_RANGES;
            }
            if key.prefix < ServiceKey::WHOLE {
                needs.prefixes.insert(key.prefix);
            }
        }
        needs
    }
}

#[cfg(test)]
mod tests {
    use lb_common::layout::{FEATURE_GUE, FEATURE_PING};

    use super::*;

    fn key(prefix: u8, last: u16) -> ServiceKey {
        ServiceKey { prefix, last, ..ServiceKey::exact([0; 2], 80, 6) }
    }

    #[test]
    fn what_is_published_is_still_known() {
        let needs = |keys: &[ServiceKey]| Needs::with([FEATURE_GUE, 0].into_iter(), keys.iter());
        let own =
            Abilities { features: FEATURE_PING, prefixes: vec![120], frags: true, ..Abilities::default() };
        let of =
            |features, prefixes: &[u8]| Abilities { features, prefixes: prefixes.to_vec(), ..own.clone() };
        assert_eq!(own.serving(&Needs::default()), own);
        assert_eq!(own.serving(&needs(&[key(128, 80)])), of(FEATURE_PING | FEATURE_GUE, &[120]));
        let all = FEATURE_PING | FEATURE_GUE | FEATURE_RANGES;
        assert_eq!(own.serving(&needs(&[key(128, 80), key(64, 81), key(120, 80)])), of(all, &[120, 64]));
        // Its own have their places.
        let keys: Vec<ServiceKey> = (1..=PREFIXES as u8).map(|prefix| key(prefix, 80)).collect();
        let served = own.serving(&needs(&keys));
        assert_eq!((served.prefixes.len(), served.prefixes[0]), (PREFIXES, 120));
        assert!(served.prefixes.is_sorted_by(|a, b| a > b), "{:?}", served.prefixes);
    }
}
