//! The laws of the ring: whose slots may move when, and how evenly they lie.

use std::collections::BTreeMap;

use lb_userspace::ring::{Base, HOST_NONE, HostId, Member, SHARE_FULL};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const KEY: [u8; 16] = *b"the ring's laws!";

fn equal(count: u16) -> Vec<Member> {
    (1..=count).map(|id| Member { id, name: format!("web-{id}"), weight: 100, share: SHARE_FULL }).collect()
}

fn weighted(weights: &[u16]) -> Vec<Member> {
    let mut members = equal(weights.len() as u16);
    for (member, &weight) in members.iter_mut().zip(weights) {
        member.weight = weight;
    }
    members
}

fn slots_of(owners: &[HostId]) -> BTreeMap<HostId, u32> {
    owners.iter().fold(BTreeMap::new(), |mut counts, &owner| {
        *counts.entry(owner).or_default() += 1;
        counts
    })
}

/// (max - min) / mean.
fn spread(counts: impl Iterator<Item = u32> + Clone) -> f64 {
    let (min, max) = (counts.clone().min().unwrap(), counts.clone().max().unwrap());
    f64::from(max - min) * counts.clone().count() as f64 / f64::from(counts.sum::<u32>())
}

#[test]
fn a_hundred_equal_hosts_have_equal_parts() {
    let members = equal(100);
    let counts = slots_of(&Base::build(&KEY, 65537, &members).owners(&members));
    assert_eq!(counts.len(), 100);
    assert!(spread(counts.values().copied()) <= 0.01, "{counts:?}");
}

#[test]
fn parts_are_proportional_to_weights_also_to_extreme_ones() {
    let members = weighted(&[1, 1000]);
    let counts = slots_of(&Base::build(&KEY, 65537, &members).owners(&members));
    assert_eq!(counts, BTreeMap::from([(1, 65), (2, 65472)]));

    let members = weighted(&[1, 65535, 65535, 2]);
    let counts = slots_of(&Base::build(&KEY, 65537, &members).owners(&members));
    assert_eq!((counts[&1], counts[&4]), (1, 1), "no host with a weight goes without");
    assert!(counts[&2].abs_diff(counts[&3]) <= 1, "{counts:?}");
}

/// The slots of hosts that are out are spread by weight, and to within chance: each host's part of them is a binomial draw.
#[test]
fn displaced_slots_go_to_the_others_by_weight() {
    let weights: Vec<u16> = (0..40).map(|n| [1, 10, 100, 300][n % 4]).collect();
    let all = weighted(&weights);
    let base = Base::build(&KEY, 65537, &all);
    let before = base.owners(&all);
    for staying in [2, 3, 20] {
        let mut members = all.clone();
        for member in &mut members[staying..] {
            member.share = 0;
        }
        let after = base.owners(&members);
        let gained: Vec<HostId> =
            after.into_iter().zip(&before).filter(|(now, then)| now != *then).map(|(now, _)| now).collect();
        let (counts, total) =
            (slots_of(&gained), weights[..staying].iter().map(|&w| f64::from(w)).sum::<f64>());
        for member in &members[..staying] {
            let part = f64::from(member.weight) / total;
            let expected = part * gained.len() as f64;
            let deviation = (expected * (1.0 - part)).sqrt();
            let got = f64::from(counts.get(&member.id).copied().unwrap_or(0));
            assert!((got - expected).abs() < 4.5 * deviation + 1.0, "{}: {got} for {expected}", member.name);
        }
    }
}

#[test]
fn a_share_keeps_that_part_of_the_slots() {
    let mut members = equal(10);
    let base = Base::build(&KEY, 65537, &members);
    members[3].share = 64;
    let counts = slots_of(&base.owners(&members));
    let part = f64::from(counts[&4]) / 6553.7;
    assert!((0.23..0.27).contains(&part), "a quarter share has {part} of its part");
    assert!(spread(counts.iter().filter(|(id, _)| **id != 4).map(|(_, &count)| count)) < 0.05, "{counts:?}");
}

/// Where nobody takes part, as when all hosts are ramped up at once, the ring is the one of full shares.
#[test]
fn small_shares_all_around_are_as_good_as_full_ones() {
    let mut members = equal(3);
    let base = Base::build(&KEY, 4099, &members);
    let full = base.owners(&members);
    members.iter_mut().for_each(|member| member.share = 1);
    let same = base.owners(&members).iter().zip(&full).filter(|(small, full)| small == full).count();
    assert!((4099 * 97 / 100..4099).contains(&same), "{same} slots are as with full shares");
}

#[test]
fn adding_or_removing_a_member_moves_little_else() {
    let members = equal(100);
    let (before, after) = (Base::build(&KEY, 65537, &members), Base::build(&KEY, 65537, &members[..99]));
    let moved = (0..65537)
        .filter(|&slot| before.first_choice(slot) != Some("web-100"))
        .filter(|&slot| before.first_choice(slot) != after.first_choice(slot))
        .count();
    assert!(moved < 65537 * 3 / 100, "{moved} slots moved between hosts that stay");
}

#[test]
fn the_secret_key_decides() {
    let members = equal(10);
    let [a, b] = [KEY, *b"quite another k."].map(|key| Base::build(&key, 65537, &members).owners(&members));
    let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
    assert!((65537 * 8 / 100..65537 * 12 / 100).contains(&same), "{same} slots agree, a tenth do by chance");
}

/// A ring of another build of this code, or another machine, would break every flow of a failover: it must never change.
#[test]
fn the_ring_is_the_same_in_every_build() {
    let mut members = weighted(&[1, 5, 100, 100, 300, 7, 500, 40, 0]);
    members[4].share = 0;
    members[6].share = 90;
    let owners = Base::build(&KEY, 251, &members).owners(&members);
    let sum = owners.iter().fold(0u64, |sum, &owner| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(owner));
    assert_eq!((&owners[..16], sum), (&GOLDEN_START[..], GOLDEN_SUM));
}

const GOLDEN_START: [HostId; 16] = [4, 7, 3, 6, 3, 4, 3, 8, 4, 7, 6, 3, 4, 3, 4, 7];
const GOLDEN_SUM: u64 = 141_579_429_518_585_096;

#[test]
fn nobody_in_use_owns_nothing() {
    let mut members = equal(5);
    let base = Base::build(&KEY, 101, &members);
    members.iter_mut().for_each(|member| member.share = 0);
    assert_eq!(base.owners(&members), [HOST_NONE; 101]);
    assert_eq!(Base::build(&KEY, 101, &[]).owners(&[]), [HOST_NONE; 101]);
    let idle = weighted(&[0, 0]);
    assert_eq!(Base::build(&KEY, 101, &idle).owners(&idle), [HOST_NONE; 101]);
}

#[test]
#[should_panic(expected = "not the members")]
fn a_base_of_other_members_is_refused() {
    Base::build(&KEY, 101, &equal(5)).owners(&equal(6));
}

fn share() -> impl Strategy<Value = u16> {
    prop_oneof![3 => Just(SHARE_FULL), 2 => Just(0), 3 => 0..=SHARE_FULL]
}

fn weight() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(100u16), 3 => 1..=1000u16, 1 => any::<u16>()]
}

/// Up to 24 hosts of any weight and share; ids and the order of the slice tell nothing.
fn members() -> impl Strategy<Value = Vec<Member>> {
    (vec((weight(), share(), 1..=4094u16), 1..24), "[a-z]{1,6}").prop_map(|(hosts, rack)| {
        let member = |(n, (weight, share, salt)): (usize, (u16, u16, u16))| Member {
            id: salt / 32 * 32 + n as u16 + 1,
            name: format!("{rack}-{n}"),
            weight,
            share,
        };
        hosts.into_iter().enumerate().map(member).collect()
    })
}

fn size() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![53u32, 101, 251, 1009, 2053])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_base_is_in_proportion_to_the_weights(key: [u8; 16], size in size(), mut members in members()) {
        members.iter_mut().for_each(|member| member.share = SHARE_FULL);
        let counts = slots_of(&Base::build(&key, size, &members).owners(&members));
        let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        // A host that is too light for a slot has one all the same, which somebody else pays for.
        let light = members.iter().filter(|m| m.weight > 0 && f64::from(m.weight) * f64::from(size) < total).count();
        for member in members.iter().filter(|_| total > 0.0) {
            let got = f64::from(counts.get(&member.id).copied().unwrap_or(0));
            let exact = f64::from(member.weight) * f64::from(size) / total;
            prop_assert!((got - exact).abs() <= 1.0 + light as f64, "{}: {} for {}", member.name, got, exact);
            prop_assert_eq!(got > 0.0, member.weight > 0);
        }
    }

    #[test]
    fn owners_depend_on_names_alone(key: [u8; 16], size in size(), members in members(), turn: Index, flip: bool) {
        let base = Base::build(&key, size, &members);
        let owners = base.owners(&members);
        let mut other = members.clone();
        other.rotate_left(turn.index(members.len()));
        if flip {
            other.reverse();
        }
        prop_assert!(base.fits(&other));
        prop_assert_eq!(&Base::build(&key, size, &other), &base);
        prop_assert_eq!(&base.owners(&other), &owners);

        // Another balancer numbers its hosts in another way.
        let renumbered: BTreeMap<HostId, HostId> =
            other.iter().enumerate().map(|(n, member)| (member.id, 4000 - n as u16)).collect();
        other.iter_mut().for_each(|member| member.id = renumbered[&member.id]);
        let translated: Vec<HostId> =
            owners.iter().map(|owner| renumbered.get(owner).copied().unwrap_or(HOST_NONE)).collect();
        prop_assert_eq!(Base::build(&key, size, &other).owners(&other), translated);
    }

    #[test]
    fn a_base_fits_its_names_and_weights_only(mut members in members(), which: Index) {
        let base = Base::build(&KEY, 101, &members);
        let n = which.index(members.len());
        members[n].share ^= 1;
        members[n].id ^= 1;
        prop_assert!(base.fits(&members));
        members[n].weight ^= 1;
        prop_assert!(!base.fits(&members));
        members[n].weight ^= 1;
        members[n].name.push('x');
        prop_assert!(!base.fits(&members));
    }

    /// C4: draining any set of hosts moves no slot of a host that stays, and each moved slot went to one that is in use.
    #[test]
    fn draining_moves_nothing_else(key: [u8; 16], size in size(), members in members(), out: Vec<Index>) {
        let base = Base::build(&key, size, &members);
        let before = base.owners(&members);
        let mut drained = members.clone();
        for which in out {
            which.get_mut(&mut drained).share = 0;
        }
        let in_use: Vec<HostId> = drained.iter().filter(|m| m.share > 0 && m.weight > 0).map(|m| m.id).collect();
        let after = base.owners(&drained);
        for slot in 0..before.len() {
            if in_use.is_empty() {
                prop_assert_eq!(after[slot], HOST_NONE);
            } else if in_use.contains(&before[slot]) {
                prop_assert_eq!(after[slot], before[slot], "slot {}", slot);
            } else {
                prop_assert!(in_use.contains(&after[slot]), "slot {} of {}", slot, after[slot]);
            }
        }
    }

    /// Raising one share moves slots to that host only, so lowering it moves slots from that host only.
    #[test]
    fn shares_are_monotone(key: [u8; 16], size in size(), mut members in members(), which: Index, other in share()) {
        let base = Base::build(&key, size, &members);
        let n = which.index(members.len());
        let (id, first) = (members[n].id, members[n].share);
        members[n].share = first.min(other);
        let low = base.owners(&members);
        members[n].share = first.max(other);
        let high = base.owners(&members);
        for slot in 0..low.len() {
            prop_assert!(low[slot] == high[slot] || high[slot] == id, "slot {}: {} to {}", slot, low[slot], high[slot]);
        }
    }

    /// Any number of shares changed at once: a slot leaves a host that shrank, or comes to one that grew.
    #[test]
    fn a_slot_moves_for_a_reason(key: [u8; 16], size in size(), members in members(), changes in vec((any::<Index>(), share()), 0..8)) {
        let base = Base::build(&key, size, &members);
        let mut changed = members.clone();
        for (which, share) in changes {
            which.get_mut(&mut changed).share = share;
        }
        let (before, after) = (base.owners(&members), base.owners(&changed));
        let grew = |id: HostId| members.iter().zip(&changed).any(|(then, now)| now.id == id && now.share > then.share);
        let shrank = |id: HostId| members.iter().zip(&changed).any(|(then, now)| now.id == id && now.share < then.share);
        for (slot, (&then, &now)) in before.iter().zip(&after).enumerate() {
            prop_assert!(then == now || then == HOST_NONE || shrank(then) || grew(now), "slot {}: {} to {}", slot, then, now);
        }
    }
}
