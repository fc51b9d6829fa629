//! Who owns each slot now: the base without the hosts that are out.
//!
//! A slot that its first choice cannot serve goes to the best of the other hosts by weighted rendezvous hashing: each (host, slot) has
//! a fixed cost, exponentially distributed with the host's weight as its rate, and the cheapest host that may have the slot wins.
//! A host that comes or goes changes no other pair's cost, so it can only win or lose slots itself: that is what makes
//! a drain move nothing else, and undraining restore the very ring from before.

use super::fixed_log::minus_log2;
use super::maglev::sorted_by_name;
use super::{Base, HOST_NONE, HostId, Member, SHARE_FULL};

/// A host that may own slots.
struct Candidate {
    id: HostId,
    hash: u64,
    weight: u64,
    share: u16,
}

impl Candidate {
    /// The fixed hash of (host, slot): the finalizer of SplitMix64 (Steele et al., OOPSLA 2014) over the slot-th state of a sequence
    /// that starts at the keyed hash of the host's name.
    #[inline(always)]
    fn draw(&self, slot: u64) -> u64 {
        let mut x = self.hash.wrapping_add(slot.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Whether the host takes part in the slot at its present share. A growing share only ever adds slots.
    #[inline]
    fn takes(&self, draw: u64) -> bool {
        draw & 255 < u64::from(self.share)
    }
}

/// The cheapest candidate for `slot` of those that `may` have it; the first in the order of names among equals.
///
/// With a thousand hosts out this is asked of each of them for each of a hundred slots, so little is done for those that cannot win: a cost
/// never rises with its draw, and so one that has drawn less than the best yet, and weighs no more, needs no logarithm.
#[inline]
fn cheapest(candidates: &[Candidate], slot: u64, may: impl Fn(&Candidate, u64) -> bool) -> Option<HostId> {
    // Costs are cost / weight, compared crosswise. A weight of 0 loses against anything.
    let (mut id, mut cost, mut weight, mut best) = (HOST_NONE, 1, 0, 0);
    for candidate in candidates {
        let draw = candidate.draw(slot);
        if draw <= best && candidate.weight <= weight || !may(candidate, draw) {
            continue;
        }
        let own_cost = minus_log2(draw);
        if own_cost * weight < cost * candidate.weight {
            (id, cost, weight, best) = (candidate.id, own_cost, candidate.weight, draw);
        }
    }
    (weight > 0).then_some(id)
}

impl Base {
    /// The owner of each slot, [`HOST_NONE`] for all when no member with a weight is in use.
    ///
    /// - A host in full use has all slots of which it is the first choice.
    /// - A host with a share below 256 takes part only in the slots where a fixed hash of (host, slot) passes.
    /// - A slot whose first choice takes no part goes to another host that does, in proportion to the weights.
    /// - A slot in which nobody takes part, as all shares are small, is treated as if all hosts in use had their full share.
    ///
    /// Lowering a host's share moves slots only away from that host, raising it only towards that host. Some 10 ms when half of 100
    /// members are out of 65537 slots.
    ///
    /// # Panics
    /// When the members are not those that the base [`fits`](Base::fits).
    pub fn owners(&self, members: &[Member]) -> Vec<HostId> {
        assert!(self.fits(members), "these are not the members that the base was built of");
        let all: Vec<Candidate> = sorted_by_name(members)
            .iter()
            .zip(&self.seats)
            .map(|(member, seat)| Candidate {
                id: member.id,
                hash: seat.hash,
                weight: u64::from(member.weight),
                share: if member.weight == 0 { 0 } else { member.share },
            })
            .collect();
        let in_use: Vec<Candidate> =
            all.iter().filter(|host| host.share > 0).map(|host| Candidate { ..*host }).collect();
        if in_use.is_empty() {
            return vec![HOST_NONE; self.first.len()];
        }
        let owner = |(slot, &first): (usize, &u16)| {
            let (slot, first) = (slot as u64, &all[usize::from(first)]);
            if first.share >= SHARE_FULL || first.share > 0 && first.takes(first.draw(slot)) {
                return first.id;
            }
            cheapest(&in_use, slot, Candidate::takes)
                .or_else(|| (first.share > 0).then_some(first.id))
                .or_else(|| cheapest(&in_use, slot, |_, _| true))
                .unwrap_or(HOST_NONE)
        };
        self.first.iter().enumerate().map(owner).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// [`cheapest`] in its plainest form: every cost, compared with the best.
    fn plain(candidates: &[Candidate], slot: u64, may: impl Fn(&Candidate, u64) -> bool) -> Option<HostId> {
        let allowed = candidates.iter().filter(|of| of.weight > 0 && may(of, of.draw(slot)));
        let cost = |of: &Candidate| minus_log2(of.draw(slot));
        let best = allowed.reduce(
            |best, of| {
                if cost(of) * best.weight < cost(best) * of.weight { of } else { best }
            },
        );
        best.map(|best| best.id)
    }

    proptest! {
        /// What is left out for speed changes no owner: not with weights and shares of all kinds, nor where draws are nearly the same.
        #[test]
        fn the_cheapest_is_the_cheapest(
            hosts in prop::collection::vec((any::<u64>(), 0..4u64, 0..=256u16, 0..3u64), 1..40),
            slots in prop::collection::vec(any::<u32>().prop_map(u64::from), 1..20),
        ) {
            let twins = hosts.iter().map(|(hash, weight, share, _)| (*hash, *weight, *share));
            let near = hosts.iter().map(|(hash, weight, share, off)| (hash.wrapping_add(*off), *weight, *share));
            let candidates: Vec<Candidate> = (1..)
                .zip(twins.chain(near))
                .map(|(id, (hash, weight, share))| Candidate { id, hash, weight: weight * 100, share })
                .collect();
            for slot in slots {
                prop_assert_eq!(
                    cheapest(&candidates, slot, Candidate::takes),
                    plain(&candidates, slot, Candidate::takes)
                );
                prop_assert_eq!(
                    cheapest(&candidates, slot, |_, _| true),
                    plain(&candidates, slot, |_, _| true)
                );
            }
        }
    }
}
