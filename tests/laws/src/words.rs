//! Words and records with any bits in them: a table that another version or a stray write has left.

use lb_common::flow::{Phase, TAG_BITS, Word};
use lb_common::layout::{Cold, Control, HostState, SLOTS_A_BLOCK, Slot, Tuple, Window};
use lb_common::table::keeps;

/// Bytes that [`check`] looks at; missing ones are 0.
pub const INPUT: usize = 8 + 8 + 4 + 56;
const SEEN_BITS: u32 = 25;

/// A word, another one, a second, and a cold record.
pub fn check(input: &[u8]) {
    let mut bytes = [0; INPUT];
    let len = input.len().min(INPUT);
    bytes[..len].copy_from_slice(&input[..len]);
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let (first, second, now) = (word(0), word(8), half(16));
    let cold = Cold {
        source: [word(20), word(28)],
        destination: [word(36), word(44)],
        ports: half(52),
        kind: half(56),
        sequence: half(60),
        start: half(64),
        stats: half(68),
        slot: half(72),
    };
    check_word(Word(first), Word(second), now);
    check_cold(&cold, first);
    check_directory_words(first);
}

fn check_word(word: Word, other: Word, now: u32) {
    let (tag, host, phase, set) = (word.tag(), word.host(), word.phase(), word.set());
    assert!(tag < 1 << TAG_BITS && host < 1 << 12);
    assert_eq!(Phase::from_bits(phase as u8), phase);
    assert!(!phase.name().is_empty());

    // Five fields, and nothing else: what they say makes the word.
    let seen = (word.0 >> 17) as u32 & ((1 << SEEN_BITS) - 1);
    assert_eq!(Word::new(tag, host, phase, seen).with_set(set), word);
    // Bits of the time that the word has no room for do not count.
    assert_eq!(Word::new(tag, host, phase, seen | now << SEEN_BITS).with_set(set), word);

    let idle = word.idle(now);
    assert!(idle < 1 << (SEEN_BITS - 1), "{idle}");
    let passed = now.wrapping_sub(seen) & ((1 << SEEN_BITS) - 1);
    assert_eq!(idle, if passed >> (SEEN_BITS - 1) == 0 { passed } else { 0 });
    assert_eq!(word.idle(seen), 0);

    let timeouts = std::array::from_fn(|limit| (other.0 as u32).rotate_left(limit as u32));
    let expected =
        matches!(phase, Phase::HalfOpen | Phase::Established | Phase::Closing | Phase::Udp | Phase::Reset)
            && idle <= timeouts[usize::from(set) * 8 + phase as usize];
    assert_eq!(word.is_live(now, &timeouts), expected);
    let keeps = keeps(&timeouts);
    for set in keeps.chunks_exact(8) {
        assert_eq!((set[Phase::Reserved as usize], set[Phase::Aborted as usize]), (u32::MAX, u32::MAX));
    }

    let again = word.seen(now, other.phase());
    assert_eq!((again.tag(), again.host(), again.phase()), (tag, host, other.phase()));
    assert_eq!((again.idle(now), again.moved(word)), (0, 0));
    assert_eq!((again.set(), again.with_set(other.set()).set()), (set, other.set()));
    assert_eq!(again.is_but_for_time(word), other.phase() == phase);
    let is_same_flow = (tag, host) == (other.tag(), other.host());
    assert_eq!((word.moved(other) == 0, other.moved(word) == 0), (is_same_flow, is_same_flow));
    assert_eq!(word.is_but_for_time(other), is_same_flow && phase == other.phase() && set == other.set());
}

fn check_cold(cold: &Cold, bits: u64) {
    let tuple = cold.tuple();
    assert!(cold.is_of(&tuple) && cold.differs(&tuple) == 0);
    assert!(tuple.protocol < 256);
    assert_eq!(u32::from(cold.service()), cold.kind >> 16);
    let [a, b, c, d] = tuple.ports.to_ne_bytes();
    assert_eq!(tuple.source_port(), u16::from_be_bytes([a, b]));
    assert_eq!(tuple.source_port_raw(), u16::from_ne_bytes([a, b]));
    assert_eq!(tuple.destination_port(), u16::from_be_bytes([c, d]));
    assert_eq!(tuple.transport(), u32::from(u16::from_ne_bytes([c, d])) | tuple.protocol << 16);

    // One bit of the tuple is another flow; what is not the tuple is not asked for.
    let bit = |bits: u64, width: u32| 1u64 << (bits % u64::from(width));
    let mut others = [tuple; 4];
    others[0].source[(bits & 1) as usize] ^= bit(bits >> 1, 64);
    others[1].destination[(bits & 1) as usize] ^= bit(bits >> 1, 64);
    others[2].ports ^= bit(bits, 32) as u32;
    others[3].protocol ^= bit(bits, 8) as u32;
    for other in others {
        assert!(!cold.is_of(&other), "{other:?}");
    }
    let elsewhere =
        Cold { kind: cold.kind ^ 0xffff_ff00, sequence: !0, start: 1, stats: 2, slot: 3, ..*cold };
    assert!(elsewhere.is_of(&tuple));
    assert_eq!(Tuple::words(address_of(tuple.source)), tuple.source);
}

/// The 16 bytes of the two words of an address.
fn address_of(words: [u64; 2]) -> [u8; 16] {
    std::array::from_fn(|i| words[i / 8].to_ne_bytes()[i % 8])
}

/// Slots, windows and control words.
fn check_directory_words(bits: u64) {
    let slot = Slot(bits as u32);
    let (owner, previous) = (slot.owner(), slot.previous());
    assert!(owner < 1 << 15 && previous < 1 << 15);
    let again = if slot.is_open() { Slot::open(owner, previous) } else { Slot::settled(owner) };
    assert_eq!((again.owner(), again.previous(), again.is_open()), (owner, previous, slot.is_open()));
    assert!(size_of::<Slot>() * SLOTS_A_BLOCK == 64);

    let window = Window::unpack(bits);
    assert_eq!(window.pack(), bits);
    for host in [owner, window.first, window.first.wrapping_add(window.count), 0, u16::MAX] {
        let offset = u32::from(host).checked_sub(u32::from(window.first));
        match window.pair(host) {
            Some(pair) => assert!(pair.wrapping_sub(window.base) < u32::from(window.count)),
            None => assert!(offset.is_none_or(|offset| offset >= u32::from(window.count))),
        }
    }
    // A state that nobody knows is the one in which a host gets nothing.
    let state = Control(bits).state();
    let known = [HostState::Up, HostState::Draining, HostState::Down, HostState::Drained, HostState::Lost];
    assert_eq!(known.contains(&state), (1..=5).contains(&(bits as u8)));
    assert_eq!(Control::new(state).state(), state);
}
