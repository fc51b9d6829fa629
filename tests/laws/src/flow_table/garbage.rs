//! A table that holds anything: no operation may panic or go on for ever, and none may touch a bucket that is not its
//! flow's.

use std::sync::atomic::Ordering::SeqCst;

use lb_common::flow::{Phase, Word};
use lb_common::hash::other_bucket;
use lb_common::layout::{Cold, Overflow};
use lb_common::table::{self, BUCKET, Found, Home, IN_OVERFLOW, Table};

use super::{BUCKETS, FLOWS, Garbage, Operation, Play, Reached, TIMEOUTS, entry, find, hash_of, tuple};
use crate::memory::Memory;

pub(super) fn check(play: &Play) -> Reached {
    let memory = play.memory();
    for garbage in &play.garbage {
        write(&memory, *garbage);
    }
    let mut now = play.start;
    for operation in &play.operations {
        match *operation {
            Operation::Pass(seconds) => now = now.wrapping_add(seconds),
            Operation::Sweep => memory.sweep(now),
            Operation::SweepOverflow => memory.sweep_overflow(now, hash_of),
            Operation::Settle(slots) => memory.settled.store(slots, SeqCst),
            Operation::Exceed(over_quota) => memory.over_quota.store(over_quota, SeqCst),
            Operation::Crowd { first, count, host, phase } => {
                for flow in first..first + count {
                    let flow = flow % FLOWS;
                    let packet = Operation::Packet { flow, host, phase, remakes: false, short: true };
                    alone(&memory, flow, |memory| run(memory, packet, now));
                }
            }
            packet @ Operation::Packet { flow, .. } => {
                alone(&memory, flow, |memory| run(memory, packet, now))
            }
        }
    }
    Reached { garbage: play.operations.len() as u64, ..Reached::default() }
}

fn write(memory: &Memory, garbage: Garbage) {
    match garbage {
        Garbage::Word { index, word } => {
            let words = memory.bucket(index / BUCKET).expect("the table has the bucket");
            // SAFETY: a word of the table, and no thread but this one.
            unsafe { words.add((index % BUCKET) as usize).write(word) };
        }
        Garbage::Cold { index, part, bytes } => {
            let cold = memory.cold(index).expect("the table has the record");
            // SAFETY: a record has seven parts of 8 bytes, aligned and without padding.
            unsafe { cold.cast::<u64>().add(part).write(bytes) };
        }
        Garbage::Mark { bucket, mark } => {
            let at = memory.mark(bucket).expect("the table has the mark");
            // SAFETY: a mark of the table.
            unsafe { at.write(mark) };
        }
        Garbage::Overflow { flow, word, bytes } => {
            // Under its own key, as the kernel keeps it; the rest of the record may be anything.
            let cold = Cold {
                stats: bytes as u32 * 9,
                kind: tuple(flow).protocol,
                ..entry(flow, 1, Word(word).phase(), 0).cold
            };
            memory.overflow_insert(&tuple(flow), &Overflow { word, cold });
        }
    }
}

/// Everything that a packet may do to the table, whether it makes sense or not.
fn run(memory: &Memory, packet: Operation, now: u32) {
    let Operation::Packet { flow, host, phase, remakes, short } = packet else { return };
    let (tuple, hash) = (tuple(flow), hash_of(&tuple(flow)));
    let mut made = entry(flow, host, phase, now);
    let home = Home::of(memory, hash).expect("the table has the bucket");
    for found in [home.find(hash), table::find(memory, hash, &tuple), table::find_overflow(memory, &tuple)] {
        check_found(memory, flow, &found);
    }
    let found = find(memory, flow);
    check_found(memory, flow, &found);
    if found.is_some() && remakes {
        table::remake(memory, &found, &made, now);
    } else if found.is_some() {
        table::update(memory, &found, found.word.seen(now, phase));
    }
    if short {
        table::begin(memory, hash, &home, &made, now);
    }
    if table::insert(memory, hash, &tuple, &mut made, now) == table::Inserted::NoPlace {
        table::evict(memory, hash, &mut made, now);
    }
    let (worth, settled) = (
        table::victim(memory, hash.bucket(BUCKETS - 1), 3, now),
        table::settled(memory, 0, Phase::Established as u32),
    );
    assert!(worth >> 7 <= 7 << 27 | 0x1ff_ffff && settled <= u64::from(BUCKET), "{worth} {settled}");
}

/// What is found is a word of the flow's tag, in a place of its own.
fn check_found(memory: &Memory, flow: u32, found: &Found) {
    if !found.is_some() {
        return;
    }
    assert!(found.word.phase().is_pin());
    // Live or not is for the caller to see, and never a panic.
    found.word.is_live(0, &TIMEOUTS);
    if found.index == IN_OVERFLOW {
        let entry = memory.overflow(&tuple(flow)).expect("it was found there");
        assert_eq!(found.at, entry.cast());
        return;
    }
    let hash = hash_of(&tuple(flow));
    assert_eq!(found.word.tag(), hash.tag());
    assert!(of(flow).contains(&(found.index / BUCKET)));
    let words = memory.bucket(found.index / BUCKET).expect("the table has the bucket");
    // SAFETY: a bucket has 8 words.
    assert_eq!(found.at, unsafe { words.add((found.index % BUCKET) as usize) });
}

/// The buckets of a flow.
fn of(flow: u32) -> [u32; 2] {
    let hash = hash_of(&tuple(flow));
    let home = hash.bucket(BUCKETS - 1);
    [home, other_bucket(home, hash.tag(), BUCKETS - 1)]
}

/// Runs something for a flow and sees that the buckets of others stayed as they were, and so did other flows' overflow.
fn alone(memory: &Memory, flow: u32, run: impl FnOnce(&Memory)) {
    let others = |memory: &Memory| {
        let is_other = |pin: &crate::memory::Pin| {
            if pin.index == IN_OVERFLOW {
                !pin.cold.is_of(&tuple(flow))
            } else {
                !of(flow).contains(&(pin.index / BUCKET))
            }
        };
        let mut pins: Vec<_> = memory.pins().into_iter().filter(is_other).collect();
        pins.sort_by_key(|pin| (pin.index, pin.cold.source));
        pins
    };
    let before = others(memory);
    run(memory);
    assert_eq!(others(memory), before, "buckets that are not those of flow {flow}");
}
