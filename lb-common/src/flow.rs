//! The hot word of a pin: 8 bytes that say all that a packet of the flow needs to know.
//!
//! | bits | what |
//! |---|---|
//! | 0–2 | [`Phase`] |
//! | 3–4 | timeout set: which idle timeouts hold for the flow, as its service has it |
//! | 5–16 | host |
//! | 17–41 | last seen, seconds of the monotonic clock, 25 bits |
//! | 42–63 | tag: hash bits most of which choose neither the bucket nor the slot; never 0 |
//!
//! One word, because two words written by single compare-and-swaps can hand a reader another flow's host. 25 bits of
//! seconds wrap after a year: a daemon would have to be dead for half of that for an old pin to look fresh.

use crate::bits::opaque;
use crate::layout::HostId;

/// Bits that the tag is shifted by.
pub const TAG_SHIFT: u32 = 42;
/// The tag's width in bits.
pub const TAG_BITS: u32 = 22;
const SEEN_BITS: u32 = 25;
const SEEN_SHIFT: u32 = TAG_SHIFT - SEEN_BITS;
const SEEN_MASK: u64 = (1 << SEEN_BITS) - 1;
const HOST_SHIFT: u32 = 5;
const HOST_MASK: u64 = (1 << 12) - 1;
const PHASE_MASK: u64 = 7;
const SET_SHIFT: u32 = 3;
const SET_MASK: u64 = 3;

/// Timeout sets: the timeouts of the instance, those that services have of their own, and those that pins may still carry.
pub const TIMEOUT_SETS: usize = 4;

/// Seconds, by [`Word::limit`]: for each timeout set one for each phase.
pub type Timeouts = [u32; TIMEOUT_SETS * 8];

/// The same timeouts, by phase number, in every set.
pub const fn one_set(timeouts: [u32; 8]) -> Timeouts {
    self::timeouts(&[timeouts; TIMEOUT_SETS])
}

/// Puts timeout sets together, each by phase number.
pub const fn timeouts(sets: &[[u32; 8]; TIMEOUT_SETS]) -> Timeouts {
    let mut timeouts = [0; TIMEOUT_SETS * 8];
    let mut i = 0;
    while i < timeouts.len() {
        timeouts[i] = sets[i / 8][i % 8];
        i += 1;
    }
    timeouts
}

/// Where a flow is in its life, as far as the client's side shows it.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Free; the whole word is 0.
    Empty = 0,
    /// Being written by one CPU; not a pin yet.
    Reserved = 1,
    /// A SYN was seen.
    HalfOpen = 2,
    /// The client acknowledged.
    Established = 3,
    /// The client sent a FIN or a RST.
    Closing = 4,
    Udp = 5,
    /// Answered with a RST at a drain's deadline.
    Reset = 6,
    /// Taken from its writer by another CPU; only the writer frees it.
    Aborted = 7,
}

impl Phase {
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Phase {
        match bits & 7 {
            0 => Phase::Empty,
            1 => Phase::Reserved,
            2 => Phase::HalfOpen,
            3 => Phase::Established,
            4 => Phase::Closing,
            5 => Phase::Udp,
            6 => Phase::Reset,
            _ => Phase::Aborted,
        }
    }

    /// Whether a word of this phase is a pin.
    #[inline(always)]
    pub const fn is_pin(self) -> bool {
        let bits = self as u8;
        bits >= Phase::HalfOpen as u8 && bits <= Phase::Reset as u8
    }

    /// Lower case, as operators read it.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Empty => "empty",
            Phase::Reserved => "reserved",
            Phase::HalfOpen => "half-open",
            Phase::Established => "established",
            Phase::Closing => "closing",
            Phase::Udp => "udp",
            Phase::Reset => "reset",
            Phase::Aborted => "aborted",
        }
    }
}

/// A pin's hot word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// A free word.
    pub const EMPTY: Word = Word(0);

    #[inline(always)]
    pub const fn new(tag: u32, host: HostId, phase: Phase, now: u32) -> Word {
        Word(
            (tag as u64) << TAG_SHIFT
                | (now as u64 & SEEN_MASK) << SEEN_SHIFT
                | (host as u64 & HOST_MASK) << HOST_SHIFT
                | phase as u64,
        )
    }

    #[inline(always)]
    pub const fn tag(self) -> u32 {
        (self.0 >> TAG_SHIFT) as u32
    }

    #[inline(always)]
    pub const fn host(self) -> HostId {
        (self.0 >> HOST_SHIFT & HOST_MASK) as HostId
    }

    #[inline(always)]
    pub const fn phase(self) -> Phase {
        Phase::from_bits((self.0 & PHASE_MASK) as u8)
    }

    /// Seconds since the last packet. A word refreshed by a CPU whose clock reading is newer is not idle.
    #[inline(always)]
    pub fn idle(self, now: u32) -> u32 {
        let idle = (now as u64).wrapping_sub(self.0 >> SEEN_SHIFT) & SEEN_MASK;
        // A difference in the upper half of the ring is a clock reading that is a moment older than the word's: 0.
        (idle & (opaque(idle) >> (SEEN_BITS - 1)).wrapping_sub(1)) as u32
    }

    /// The same word with a timeout set.
    #[inline(always)]
    pub const fn with_set(self, set: u8) -> Word {
        Word(self.0 & !(SET_MASK << SET_SHIFT) | (set as u64 & SET_MASK) << SET_SHIFT)
    }

    #[inline(always)]
    pub const fn set(self) -> u8 {
        (self.0 >> SET_SHIFT & SET_MASK) as u8
    }

    /// Index of the word's limit in [`Timeouts`], and in other limits by set and phase.
    #[inline(always)]
    pub const fn limit(self) -> usize {
        (self.0 & (SET_MASK << SET_SHIFT | PHASE_MASK)) as usize
    }

    /// Index of the limit that the word would have in another phase.
    #[inline(always)]
    pub const fn limit_as(self, phase: Phase) -> usize {
        (self.0 & SET_MASK << SET_SHIFT) as usize | phase as usize
    }

    /// A live flow: a pin that is not idle past its phase's timeout.
    #[inline(always)]
    pub fn is_live(self, now: u32, timeouts: &Timeouts) -> bool {
        self.phase().is_pin() && self.idle(now) <= timeouts[self.limit()]
    }

    /// 0 if both are words of one flow at one host, whatever its phase and timeouts and whenever it was seen: a number, so
    /// that it can be looked at together with others.
    #[inline(always)]
    pub const fn moved(self, other: Word) -> u64 {
        (self.0 ^ other.0) & !(SEEN_MASK << SEEN_SHIFT | SET_MASK << SET_SHIFT | PHASE_MASK)
    }

    /// Whether both are the same but for when they were seen.
    #[inline(always)]
    pub const fn is_but_for_time(self, other: Word) -> bool {
        (self.0 ^ other.0) & !(SEEN_MASK << SEEN_SHIFT) == 0
    }

    /// The same pin, seen now, in `phase`; its timeout set stays.
    #[inline(always)]
    pub const fn seen(self, now: u32, phase: Phase) -> Word {
        let keep = self.0 & !(SEEN_MASK << SEEN_SHIFT) & !PHASE_MASK;
        Word(keep | (now as u64 & SEEN_MASK) << SEEN_SHIFT | phase as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_come_back(tag in 1u32..1 << TAG_BITS, host in 1u16..4095, phase in 0u8..8, set in 0u8..4, now: u32) {
            let word = Word::new(tag, host, Phase::from_bits(phase), now).with_set(set);
            prop_assert_eq!(word.set(), set);
            prop_assert_eq!(word.limit(), usize::from(set) * 8 + usize::from(phase));
            prop_assert_eq!(word.limit_as(Phase::Udp), usize::from(set) * 8 + 5);
            prop_assert_eq!(word.tag(), tag);
            prop_assert_eq!(word.host(), host);
            prop_assert_eq!(word.phase() as u8, phase);
            prop_assert_eq!(word.idle(now), 0);
            prop_assert_eq!(word.idle(now.wrapping_add(77)), 77);
            let seen = word.seen(now.wrapping_add(9), Phase::Closing);
            prop_assert_eq!(seen, Word::new(tag, host, Phase::Closing, now.wrapping_add(9)).with_set(set));
            prop_assert_eq!(word.moved(seen.with_set(set ^ 1)), 0);
            prop_assert!(word.moved(Word::new(tag ^ 1, host, Phase::Udp, now)) != 0);
            prop_assert!(word.moved(Word::new(tag, host ^ 1, Phase::Udp, now)) != 0);
        }
    }

    #[test]
    fn idle_survives_the_clock_s_wrap_and_a_reader_that_is_late() {
        let word = Word::new(1, 1, Phase::Udp, (1 << SEEN_BITS) - 5);
        assert_eq!(word.idle(1 << SEEN_BITS), 5);
        assert_eq!(word.idle((1 << SEEN_BITS) - 6), 0);
    }

    #[test]
    fn only_pins_live_and_only_within_their_timeout() {
        let set = [u32::MAX, u32::MAX, 3, 9, 2, 5, 1, u32::MAX];
        let longer = set.map(|seconds: u32| seconds.saturating_add(100));
        let timeouts = timeouts(&[set, set, longer, set]);
        let live = |phase, idle: u32| Word::new(1, 1, phase, 100).is_live(100 + idle, &timeouts);
        let word = Word::new(1, 1, Phase::Established, 100).with_set(2);
        assert!(word.is_live(209, &timeouts) && !word.is_live(210, &timeouts));
        assert!(live(Phase::HalfOpen, 3) && !live(Phase::HalfOpen, 4));
        assert!(live(Phase::Established, 9) && !live(Phase::Established, 10));
        assert!(!live(Phase::Empty, 0) && !live(Phase::Reserved, 0) && !live(Phase::Aborted, 0));
    }
}
