//! The base of a ring: the first choice of each slot out of all members, whether they are in use or not.
//!
//! Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4) with weights: each member walks a permutation of the slots of its own
//! and takes the next free slot whenever its turn comes. Turns are dealt out beforehand, so that each member's number of slots is
//! its exact part, to within one slot.

use super::siphash::siphash24;
use super::{HostId, Member};

/// In [`Base::first`]: no member has a weight.
const NOBODY: u16 = u16::MAX;

/// The first choice of each slot.
///
/// A function of the key, the size and the names and weights of all members; not of their order, ids or shares. So a drain changes no
/// base, and two balancers that number their hosts differently still agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Sorted by name; what [`Base::first`] counts in.
    pub(super) seats: Vec<Seat>,
    /// For each slot the index of its seat.
    pub(super) first: Vec<u16>,
}

/// A member's place in the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) name: String,
    pub(super) weight: u16,
    /// Keyed hash of the name, from which the hashes of (host, slot) are made.
    pub(super) hash: u64,
}

/// What a keyed hash of a name is for; unrelated uses must not share bits.
#[derive(Clone, Copy)]
enum Use {
    Offset = 1,
    Skip,
    Rendezvous,
}

fn name_hash(key: &[u8; 16], name: &str, what: Use) -> u64 {
    let mut data = Vec::with_capacity(name.len() + 1);
    data.push(what as u8);
    data.extend_from_slice(name.as_bytes());
    siphash24(key, &data)
}

impl Base {
    /// Builds the base of `size` slots; some 2 ms for 100 members and 65537 slots.
    ///
    /// # Panics
    /// When `size` is no prime below 2^31 (see [`is_prime`]; a walk would miss slots), when two members have one name, or when there
    /// are more than 65534 members. The config is checked for all three before it gets here.
    pub fn build(key: &[u8; 16], size: u32, members: &[Member]) -> Base {
        assert!(size < 1 << 31 && is_prime(size), "ring size {size} is not a prime below 2^31");
        assert!(members.len() < usize::from(NOBODY), "a ring of {} members", members.len());
        let sorted = sorted_by_name(members);
        let seats: Vec<Seat> = sorted
            .iter()
            .map(|member| Seat {
                name: member.name.clone(),
                weight: member.weight,
                hash: name_hash(key, &member.name, Use::Rendezvous),
            })
            .collect();
        let walks = sorted.iter().map(|member| Walk::new(key, size, &member.name)).collect();
        let weights: Vec<u16> = sorted.iter().map(|member| member.weight).collect();
        let first = fill(size, walks, &turns(&quotas(size, &weights)));
        Base { seats, first }
    }

    /// Slots, a prime.
    pub fn size(&self) -> u32 {
        self.first.len() as u32
    }

    /// Whether `members` have the names and weights that this base was built of, so that it may be kept.
    pub fn fits(&self, members: &[Member]) -> bool {
        self.seats.len() == members.len()
            && sorted_by_name(members)
                .iter()
                .zip(&self.seats)
                .all(|(member, seat)| member.name == seat.name && member.weight == seat.weight)
    }

    /// The name of a slot's first choice; `None` when no member has a weight.
    pub fn first_choice(&self, slot: u32) -> Option<&str> {
        self.seats.get(usize::from(self.first[slot as usize])).map(|seat| seat.name.as_str())
    }
}

/// # Panics
/// When two members have one name.
pub(super) fn sorted_by_name(members: &[Member]) -> Vec<&Member> {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let (a, b): (HostId, HostId) = (pair[0].id, pair[1].id);
        panic!("hosts {a} and {b} of one ring have the same name {:?}", pair[0].name);
    }
    sorted
}

/// A member's permutation of the slots: `offset`, `offset + skip`, `offset + 2 * skip` … modulo the size, which is prime.
struct Walk {
    next: u32,
    skip: u32,
}

impl Walk {
    fn new(key: &[u8; 16], size: u32, name: &str) -> Walk {
        let size = u64::from(size);
        let next = name_hash(key, name, Use::Offset) % size;
        // One of 1 ..= size - 1; size 2 leaves only 1.
        let skip = 1 + name_hash(key, name, Use::Skip) % (size - 1);
        Walk { next: next as u32, skip: skip as u32 }
    }
}

/// Lets the members take slots, turn by turn. Which slots are taken is asked some ln(size) times a slot: hence a bitmap of
/// its own, small enough for the first-level cache.
fn fill(size: u32, mut walks: Vec<Walk>, turns: &[u16]) -> Vec<u16> {
    let mut first = vec![NOBODY; size as usize];
    let mut taken = vec![0u64; size as usize / 64 + 1];
    for &turn in turns {
        let walk = &mut walks[usize::from(turn)];
        loop {
            let slot = walk.next;
            walk.next += walk.skip;
            if walk.next >= size {
                walk.next -= size;
            }
            let (word, bit) = (&mut taken[slot as usize / 64], 1 << (slot % 64));
            if *word & bit == 0 {
                *word |= bit;
                first[slot as usize] = turn;
                break;
            }
        }
    }
    first
}

/// How many slots each member gets: in proportion to the weights by largest remainders, but at least one for each weight above
/// zero as long as there are enough slots. The sum is `size`, unless no member has a weight.
fn quotas(size: u32, weights: &[u16]) -> Vec<u32> {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: u16| u64::from(size) * u64::from(weight);
    let mut quotas: Vec<u32> =
        weights.iter().map(|&weight| ((exact(weight) / total) as u32).max(u32::from(weight > 0))).collect();
    let mut given: u64 = quotas.iter().map(|&quota| u64::from(quota)).sum();

    // Those who were rounded down the most first; who was rounded up to one has had its extra already.
    let mut rounded_down: Vec<usize> =
        (0..weights.len()).filter(|&n| exact(weights[n]) > u64::from(quotas[n]) * total).collect();
    rounded_down.sort_by_key(|&n| std::cmp::Reverse(exact(weights[n]) % total));
    for n in rounded_down {
        if given < u64::from(size) {
            quotas[n] += 1;
            given += 1;
        }
    }
    // The small were rounded up at the cost of the large.
    while given > u64::from(size) {
        let largest = (0..quotas.len()).max_by_key(|&n| (quotas[n], std::cmp::Reverse(weights[n]), n));
        quotas[largest.expect("there is a member with a weight")] -= 1;
        given -= 1;
    }
    quotas
}

/// Whose turn it is, slot by slot: each member's turns lie evenly over the whole time, members with equal quotas take turns in the
/// order of their names. Turns are put in order by counting: as many rounds as the largest quota, each turn in one of them.
fn turns(quotas: &[u32]) -> Vec<u16> {
    let rounds = quotas.iter().copied().max().unwrap_or(0);
    let mut begin = vec![0u32; rounds as usize + 1];
    for &quota in quotas {
        each_round(quota, rounds, |round| begin[round + 1] += 1);
    }
    for round in 1..begin.len() {
        begin[round] += begin[round - 1];
    }
    let mut turns = vec![0; begin.last().map_or(0, |&end| end as usize)];
    for (member, &quota) in quotas.iter().enumerate() {
        each_round(quota, rounds, |round| {
            turns[begin[round] as usize] = member as u16;
            begin[round] += 1;
        });
    }
    turns
}

/// The rounds of a member's turns: `floor((n + 1/2) * rounds / quota)` for n below `quota`, by steps instead of divisions.
fn each_round(quota: u32, rounds: u32, mut act: impl FnMut(usize)) {
    if quota == 0 {
        return;
    }
    let (step, step_rest) = (rounds / quota, 2 * u64::from(rounds % quota));
    let whole = 2 * u64::from(quota);
    let (mut round, mut rest) = ((u64::from(rounds) / whole) as u32, u64::from(rounds) % whole);
    for _ in 0..quota {
        act(round as usize);
        round += step;
        rest += step_rest;
        if rest >= whole {
            rest -= whole;
            round += 1;
        }
    }
}

/// Whether a ring may have `size` slots.
pub fn is_prime(size: u32) -> bool {
    let size = u64::from(size);
    size >= 2 && (2..).take_while(|n| n * n <= size).all(|n| size % n != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_proportional_and_nobody_is_left_out() {
        assert_eq!(quotas(65537, &[1, 1]), [32769, 32768]);
        assert_eq!(quotas(65537, &[1, 2, 3]), [10923, 21846, 32768]);
        assert_eq!(quotas(101, &[65535, 1, 1, 1]), [98, 1, 1, 1]);
        assert_eq!(quotas(101, &[0, 7, 0]), [0, 101, 0]);
        assert_eq!(quotas(101, &[0, 0]), [0, 0]);
        assert_eq!(quotas(101, &[]), [0; 0]);
        assert_eq!(
            quotas(3, &[9, 1, 5, 7]),
            [1, 0, 1, 1],
            "the least weight goes without when slots are too few"
        );
    }

    #[test]
    fn turns_are_spread_evenly() {
        assert_eq!(turns(&[2, 2, 2]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[4, 1]), [0, 0, 0, 1, 0]);
        assert_eq!(turns(&[4, 3]), [0, 1, 0, 0, 1, 0, 1]);
        assert_eq!(turns(&[]), [0; 0]);
    }

    #[test]
    fn primes() {
        let primes: Vec<u32> = (0..30).filter(|&n| is_prime(n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65537) && is_prime(2_147_483_647) && !is_prime(65535) && !is_prime(65536));
    }

    #[test]
    #[should_panic(expected = "same name")]
    fn one_name_for_two_hosts_is_refused() {
        let member = |id| Member { id, name: "twin".into(), weight: 1, share: 256 };
        Base::build(&[0; 16], 7, &[member(1), member(2)]);
    }
}
