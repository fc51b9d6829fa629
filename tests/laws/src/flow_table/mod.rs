//! The flow table under any order of operations.
//!
//! [`Play`] says what is done and to what. On an empty table it is held against a plain map; on a table full of
//! garbage nothing can be right, but nothing may panic, go on for ever, or touch what is another's.

mod clean;
mod garbage;

use std::ops::Add;

use arbitrary::{Arbitrary, Result, Unstructured};
use lb_common::flow::{Phase, Timeouts, one_set};
use lb_common::hash::FlowHash;
use lb_common::layout::{Cold, HostId, Overflow, Tuple};
use lb_common::table::{self, Found};

use crate::memory::{self, Memory, tuple};

/// Few, so that flows meet in them, and overflow.
const BUCKETS: u32 = 4;
/// More than the table and its overflow map have room for.
const FLOWS: u32 = 64;
/// Idle timeouts by phase, seconds. A half-open pin lives longer than the 64 s after which it may be a victim.
const TIMEOUTS: Timeouts = one_set([0, 0, 120, 600, 30, 90, 10, 0]);
/// Operations at most: what comes after them says nothing new, and takes time.
const OPERATIONS: usize = 512;

/// What is done to the table.
#[derive(Debug, Clone)]
pub struct Play {
    /// Second in which it begins.
    start: u32,
    /// Entries that the overflow map takes.
    capacity: u8,
    /// Where there are any, the table holds them and is no table any more.
    garbage: Vec<Garbage>,
    operations: Vec<Operation>,
}

#[derive(Debug, Clone, Copy)]
enum Garbage {
    Word {
        index: u32,
        word: u64,
    },
    /// Eight bytes of a record.
    Cold {
        index: u32,
        part: usize,
        bytes: u64,
    },
    Mark {
        bucket: u32,
        mark: u32,
    },
    Overflow {
        flow: u32,
        word: u64,
        bytes: u64,
    },
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    /// A packet of a flow whose pin, if it has to be made, has this host and phase. `short`: the short way is tried first.
    Packet {
        flow: u32,
        host: HostId,
        phase: Phase,
        remakes: bool,
        short: bool,
    },
    /// A packet of each of so many flows, one after another: else few plays would fill a bucket.
    Crowd {
        first: u32,
        count: u32,
        host: HostId,
        phase: Phase,
    },
    /// So many seconds pass.
    Pass(u32),
    Sweep,
    SweepOverflow,
    /// The slots that are settled from now on, a bit for each; the others are open.
    Settle(u32),
    /// Half-open pins exceed their quota or not.
    Exceed(bool),
}

impl<'a> Arbitrary<'a> for Play {
    /// Three bytes an operation, ten a piece of garbage, so that a change of one byte changes one thing.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut play = Play {
            start: u.arbitrary()?,
            capacity: u.arbitrary::<u8>()? % 8,
            garbage: Vec::new(),
            operations: Vec::new(),
        };
        for _ in 0..u.arbitrary::<u8>()?.saturating_sub(128) {
            play.garbage.push(garbage(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?));
        }
        while !u.is_empty() && play.operations.len() < OPERATIONS {
            play.operations.push(operation(u.arbitrary()?));
        }
        Ok(play)
    }
}

fn garbage(kind: u8, index: u8, bytes: u64) -> Garbage {
    let index = u32::from(index);
    match kind % 4 {
        0 => Garbage::Word { index: index % (BUCKETS * table::BUCKET), word: bytes },
        1 => Garbage::Cold {
            index: index % (BUCKETS * table::BUCKET),
            part: usize::from(kind >> 2) % 7,
            bytes,
        },
        2 => Garbage::Mark { bucket: index % BUCKETS, mark: bytes as u32 },
        _ => Garbage::Overflow { flow: index % FLOWS, word: bytes, bytes: u64::from(kind) },
    }
}

fn operation([kind, flow, how]: [u8; 3]) -> Operation {
    let phases = [Phase::HalfOpen, Phase::Established, Phase::Closing, Phase::Udp];
    let (phase, host) = (phases[usize::from(how & 3)], HostId::from(how >> 2 & 3) + 1);
    match kind % 16 {
        0 => Operation::Pass(u32::from(flow) % 4 * 256 + u32::from(how)),
        1 => Operation::Sweep,
        2 => Operation::SweepOverflow,
        3 => Operation::Settle(u32::from(how)),
        4 => Operation::Exceed(how & 1 == 1),
        5 => {
            let count = u32::from(kind >> 4) * 2 + 1;
            Operation::Crowd { first: u32::from(flow) % FLOWS, count, host, phase }
        }
        _ => Operation::Packet {
            flow: u32::from(flow) % FLOWS,
            host,
            phase,
            remakes: how & 0x10 != 0,
            short: how & 0x20 != 0,
        },
    }
}

impl Play {
    /// Plays it; every law is checked after each operation.
    pub fn check(&self) -> Reached {
        if self.garbage.is_empty() { clean::check(self) } else { garbage::check(self) }
    }

    /// The table before the first operation.
    fn memory(&self) -> Memory {
        Memory::new(BUCKETS, self.capacity.into(), STATS, TIMEOUTS)
    }
}

/// How often a play came to what few do: a corpus that does not get there proves little.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Pins made the short way.
    pub short: u64,
    /// Pins made in second buckets, and in overflow.
    pub second: u64,
    pub overflow: u64,
    /// Flows whose dead pin still was in overflow.
    pub limbo: u64,
    /// Pins that had to go, by how little they were missed: 1 established, 2 half-open by the quota in an open slot, 3 in a
    /// settled one, 4 half-open for long, 5 closing.
    pub evicted: [u64; 6],
    /// Flows that found no place.
    pub no_place: u64,
    /// Operations on a table full of garbage.
    pub garbage: u64,
}

impl Add for Reached {
    type Output = Reached;

    fn add(self, other: Reached) -> Reached {
        Reached {
            short: self.short + other.short,
            second: self.second + other.second,
            overflow: self.overflow + other.overflow,
            limbo: self.limbo + other.limbo,
            evicted: std::array::from_fn(|rank| self.evicted[rank] + other.evicted[rank]),
            no_place: self.no_place + other.no_place,
            garbage: self.garbage + other.garbage,
        }
    }
}

/// Plays what the bytes say.
pub fn check(bytes: &[u8]) -> Reached {
    Play::arbitrary(&mut Unstructured::new(bytes)).map(|play| play.check()).unwrap_or_default()
}

/// Numbers of counters: one for every eighth flow at each host.
const STATS: u32 = 8 * 8;

fn stats(flow: u32, host: HostId) -> u32 {
    flow % 8 * 8 + u32::from(host)
}

/// Slot of a flow: both are in every bucket.
fn slot(flow: u32) -> u32 {
    flow / BUCKETS % 2
}

/// Sixteen flows a bucket. Flows 0 to 11 have tag and home bucket in common with 48 to 59, and 12 to 15 only the tag with
/// 60 to 63.
fn hash_of(tuple: &Tuple) -> FlowHash {
    let flow = tuple.source[1];
    let number = flow % 48 + 1;
    // The upper bits of a tag choose the preferred word.
    let tag = (number / 3 % 8) << 20 | number;
    let home = if flow < 60 { flow } else { flow + 1 } % u64::from(BUCKETS);
    FlowHash(tag << 20 | home)
}

/// The pin that an operation makes.
fn entry(flow: u32, host: HostId, phase: Phase, now: u32) -> Overflow {
    let pin = memory::pin(flow, hash_of(&tuple(flow)), host, phase, now, stats(flow, host));
    Overflow { cold: Cold { slot: slot(flow), ..pin.cold }, ..pin }
}

/// As the data path finds the pin of a flow.
fn find(memory: &Memory, flow: u32) -> Found {
    let tuple = tuple(flow);
    memory.find(hash_of(&tuple), &tuple)
}
