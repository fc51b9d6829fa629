//! The flow table under threads that insert, change, end and sweep the same pins in few buckets.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use lb_common::flow::{Phase, Timeouts, Word, one_set};
use lb_common::hash::FlowHash;
use lb_common::layout::{HostId, Overflow, Tuple};
use lb_common::table::{self, BUCKET, Found, Home, Inserted};
use lb_laws::memory::{Memory, pin, tuple};

/// Idle timeouts by phase, in ticks: established pins end by a FIN only.
const TIMEOUTS: Timeouts = one_set([0, 0, 3, 1 << 20, 2, 4, 1, 0]);
const BUCKETS: u32 = 4;
const LASTING: Duration = Duration::from_secs(3);

/// Of flow number `n`: every four have one tag, and home buckets are in turn, so that tags meet in one bucket and between
/// a home and a second bucket.
fn hash_of(tuple: &Tuple) -> FlowHash {
    let n = tuple.source[1];
    let (tag, home) = (n / 4 + 1, n / 2 % u64::from(BUCKETS));
    FlowHash(tag << 20 | home)
}

/// The two hosts that a flow may be pinned to; nobody else's.
fn host(n: u32, which: u32) -> HostId {
    (2 * n + which % 2 + 1) as HostId
}

fn entry(n: u32, which: u32, phase: Phase, now: u32) -> Overflow {
    let host = host(n, which);
    pin(n, hash_of(&tuple(n)), host, phase, now, host.into())
}

/// As the data path finds the pin of a flow.
fn find(memory: &Memory, n: u32) -> Found {
    let tuple = tuple(n);
    memory.find(hash_of(&tuple), &tuple)
}

/// As the data path makes a pin where there was none.
fn insert(memory: &Memory, n: u32, which: u32, phase: Phase, now: u32) -> Inserted {
    let (tuple, mut entry) = (tuple(n), entry(n, which, phase, now));
    // The short way first, as the data path does.
    let hash = hash_of(&tuple);
    if Home::of(memory, hash).is_some_and(|home| table::begin(memory, hash, &home, &entry, now)) {
        return Inserted::Placed;
    }
    match table::insert(memory, hash_of(&tuple), &tuple, &mut entry, now) {
        Inserted::NoPlace => table::evict(memory, hash_of(&tuple), &mut entry, now),
        inserted => inserted,
    }
}

/// Random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(limit)) >> 32) as u32
    }
}

/// What threads share.
struct Stage {
    memory: Memory,
    clock: AtomicU32,
    is_over: AtomicBool,
    /// Held for reading while a packet is under way. The kernel's hash map guards the removal of its entries by itself,
    /// so here they are removed while none is.
    packet: RwLock<()>,
    placed: AtomicU64,
    found: AtomicU64,
}

impl Stage {
    fn new(flows: u32, overflow: usize) -> Self {
        Stage {
            memory: Memory::new(BUCKETS, overflow, 2 * flows + 2, TIMEOUTS),
            clock: AtomicU32::new(1000),
            is_over: AtomicBool::new(false),
            packet: RwLock::new(()),
            placed: AtomicU64::new(0),
            found: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u32 {
        self.clock.load(SeqCst)
    }

    /// Lets time pass and sweeps until the play is over.
    fn sweep(&self) {
        let started = Instant::now();
        while started.elapsed() < LASTING && !self.is_over.load(SeqCst) {
            let now = self.clock.fetch_add(1, SeqCst) + 1;
            self.memory.sweep(now);
            let quiet = self.packet.write().unwrap();
            self.memory.sweep_overflow(now, hash_of);
            drop(quiet);
            std::thread::sleep(Duration::from_micros(50));
        }
        self.is_over.store(true, SeqCst);
    }

    /// Everything ages, and nothing is left.
    fn ends_empty(&self) {
        let (words, overflow) = self.memory.audit(hash_of);
        assert!(self.found.load(SeqCst) > 100 && self.placed.load(SeqCst) > 100, "the threads came to work");
        println!(
            "{} placed, {} found, {} evicted, at the end {words} in the arrays and {overflow} in overflow",
            self.placed.load(SeqCst),
            self.found.load(SeqCst),
            self.memory.evicted.load(SeqCst)
        );
        let now = self.now() + (1 << 20) + 1;
        self.memory.sweep(now);
        self.memory.sweep_overflow(now, hash_of);
        assert_eq!(self.memory.audit(hash_of), (0, 0));
    }

    /// One packet of a flow, as a worker draws it. Panics if another flow's host comes out.
    fn packet(&self, n: u32, random: &mut Random) {
        let _packet = self.packet.read().unwrap();
        let now = self.now();
        let found = find(&self.memory, n);
        let which = random.below(2);
        let phase =
            [Phase::HalfOpen, Phase::Established, Phase::Closing, Phase::Udp][random.below(4) as usize];
        if found.is_some() {
            self.found.fetch_add(1, SeqCst);
            let right = [host(n, 0), host(n, 1)];
            assert!(right.contains(&found.word.host()), "flow {n} was handed host {}", found.word.host());
            if random.below(4) > 0 && found.word.is_live(now, &TIMEOUTS) {
                table::update(&self.memory, &found, found.word.seen(now, phase));
            } else {
                table::remake(&self.memory, &found, &entry(n, which, phase, now), now);
            }
        } else if insert(&self.memory, n, which, phase, now) == Inserted::Placed {
            self.placed.fetch_add(1, SeqCst);
        }
    }
}

/// Two threads throw packets at `flows` flows while a third sweeps. Live pins that had to go.
fn storm(flows: u32, overflow: usize, is_settled: bool) -> u64 {
    let stage = Stage::new(flows, overflow);
    stage.memory.settled.store(if is_settled { u32::MAX } else { 0 }, SeqCst);
    stage.memory.over_quota.store(is_settled, SeqCst);
    std::thread::scope(|scope| {
        for seed in [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93] {
            let stage = &stage;
            scope.spawn(move || {
                let _over = Over(&stage.is_over);
                let mut random = Random(seed);
                while !stage.is_over.load(SeqCst) {
                    // Few flows at a time, so that the threads meet.
                    let n = (stage.now() / 8 * 3 + random.below(6)) % flows;
                    stage.packet(n, &mut random);
                }
            });
        }
        stage.sweep();
    });
    stage.ends_empty();
    stage.memory.evicted.load(SeqCst)
}

/// Ends the play when a thread panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn books_agree_where_there_is_room() {
    let evicted = storm(24, 64, false);
    assert_eq!(evicted, 0, "pins had to go, though there was room");
}

#[test]
fn books_agree_in_a_full_table() {
    storm(200, 8, true);
}

/// One thread's established flows of slots in handover, while another floods the same buckets with SYNs: from the
/// moment that a pin is established until its flow ends, it is there.
#[test]
fn established_pins_stay_through_a_flood() {
    const MINE: u32 = 20;
    let stage = Stage::new(400, 4);
    stage.memory.over_quota.store(true, SeqCst);
    std::thread::scope(|scope| {
        let stage = &stage;
        scope.spawn(move || {
            let _over = Over(&stage.is_over);
            let mut random = Random(7);
            while !stage.is_over.load(SeqCst) {
                let n = MINE + random.below(400 - MINE);
                let packet = stage.packet.read().unwrap();
                let found = find(&stage.memory, n);
                if !found.is_some()
                    && insert(&stage.memory, n, 0, Phase::HalfOpen, stage.now()) == Inserted::Placed
                {
                    stage.placed.fetch_add(1, SeqCst);
                }
                drop(packet);
            }
        });
        scope.spawn(move || {
            let _over = Over(&stage.is_over);
            let mut random = Random(8);
            while !stage.is_over.load(SeqCst) {
                let n = random.below(MINE);
                let packets = 1 + random.below(50);
                live(stage, n, packets);
            }
        });
        stage.sweep();
    });
    assert!(stage.memory.evicted.load(SeqCst) > 1000, "the table was full");
    stage.ends_empty();
}

/// A flow from its SYN to its FIN.
fn live(stage: &Stage, n: u32, packets: u32) {
    let memory = &stage.memory;
    let packet = stage.packet.read().unwrap();
    let now = stage.now();
    let old = find(memory, n);
    let inserted = if old.is_some() {
        table::remake(memory, &old, &entry(n, 1, Phase::HalfOpen, now), now)
    } else {
        insert(memory, n, 1, Phase::HalfOpen, now)
    };
    let found = find(memory, n);
    if inserted != Inserted::Placed
        || !found.is_some()
        || !table::update(memory, &found, found.word.seen(now, Phase::Established))
    {
        // No place for it, or a half-open pin had to go: it does not begin.
        return;
    }
    drop(packet);
    for number in 0..packets {
        let _packet = stage.packet.read().unwrap();
        let found = find(memory, n);
        assert!(found.is_some(), "the pin of flow {n} is gone at packet {number}");
        assert_eq!((found.word.host(), found.word.phase()), (host(n, 1), Phase::Established), "flow {n}");
        assert!(table::update(memory, &found, found.word.seen(stage.now(), Phase::Established)));
        stage.found.fetch_add(1, SeqCst);
    }
    let _packet = stage.packet.read().unwrap();
    let found = find(memory, n);
    assert!(table::update(memory, &found, found.word.seen(stage.now(), Phase::Closing)));
}

/// Has two threads do something at one moment, again and again: `round` gets a second of its own and a closure that lets the
/// other thread do `other`, does `this`, and returns once both are done; it says whether it has seen enough, without which the play
/// goes on for longer, as CPUs may be busy with other things. Number of rounds.
fn meet(
    stage: &Stage,
    this: impl Fn(u32),
    other: impl Fn(u32) + Sync,
    mut round: impl FnMut(u32, &mut dyn FnMut()) -> bool,
) -> u64 {
    // Rounds that the other thread is let into, and those that it is through.
    let (begun, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait = |count: &AtomicU64, number: u64| {
        for turn in 0u32.. {
            if count.load(SeqCst) == number || stage.is_over.load(SeqCst) {
                return;
            }
            // Not for long: the other may have been put aside for this very thread.
            if turn % 10_000 == 9_999 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    };
    let pause = |random: &mut Random| (0..random.below(16)).for_each(|_| std::hint::spin_loop());
    std::thread::scope(|scope| {
        let _over = Over(&stage.is_over);
        scope.spawn(|| {
            let _over = Over(&stage.is_over);
            let mut random = Random(7);
            for number in 1.. {
                wait(&begun, number);
                if stage.is_over.load(SeqCst) {
                    break;
                }
                pause(&mut random);
                other(stage.now());
                done.store(number, SeqCst);
            }
        });
        let (started, mut random, mut number, mut is_enough) = (Instant::now(), Random(8), 0, false);
        let lasts = |is_enough| started.elapsed() < if is_enough { LASTING } else { 20 * LASTING };
        while lasts(is_enough) && !stage.is_over.load(SeqCst) {
            number += 1;
            let now = stage.clock.fetch_add(100, SeqCst) + 100;
            is_enough = round(now, &mut || {
                begun.store(number, SeqCst);
                pause(&mut random);
                this(now);
                wait(&done, number);
            });
        }
        number
    })
}

/// Two CPUs reserve words for one flow, the lower of which takes the higher from its CPU while that one gives it up by itself:
/// once both are done, one of them has made the pin, or neither, and no word is left to nobody.
#[test]
fn a_reservation_that_is_lost_is_given_back() {
    // Both prefer the last word. It holds a dead pin of another tag, so the short way takes the first free word instead, and the
    // long way takes the pin's.
    let (tag, dead) = (7 << 19 | 1, 7 << 19 | 2);
    let of = |tag: u64| FlowHash(tag << 20);
    let entry = |tag: u64, now: u32| Overflow {
        word: Word::new(of(tag).tag(), host(0, 0), Phase::HalfOpen, now).0,
        ..entry(0, 0, Phase::HalfOpen, now)
    };
    let stage = Stage::new(1, 4);
    let begin = |tag: u64, now: u32| {
        let home = Home::of(&stage.memory, of(tag)).expect("the table has the bucket");
        table::begin(&stage.memory, of(tag), &home, &entry(tag, now), now)
    };
    let insert = |now: u32| {
        table::insert(&stage.memory, of(tag), &tuple(0), &mut entry(tag, now), now);
    };
    let mut met = 0;
    let rounds = meet(
        &stage,
        |now| _ = begin(tag, now),
        insert,
        |now, both| {
            assert!(begin(dead, now - 50));
            both();
            let left = stage.memory.words(0);
            assert!(left.iter().all(|word| *word == Word::EMPTY || word.phase().is_pin()), "{left:?}");
            // Either has taken the dead pin, and given its place up again.
            met += u32::from(left[7] == Word::EMPTY);
            stage.memory.sweep(now + 50);
            assert_eq!(stage.memory.words(0), [Word::EMPTY; BUCKET as usize]);
            met > 10
        },
    );
    println!("{rounds} rounds, in {met} of which both had a word");
    assert!(met > 10, "the threads met {met} times");
}

/// Two CPUs pin one flow whose first bucket is full: it gets one pin.
#[test]
fn a_flow_of_a_full_bucket_is_pinned_once() {
    // Flows of the first bucket, each with a tag of its own.
    let numbers: Vec<u32> = (0..).filter(|n| n / 2 % BUCKETS == 0 && n % 4 == 0).take(9).collect();
    let (flow, crowd) = numbers.split_last().expect("nine flows");
    let stage = Stage::new(numbers[8] + 1, 4);
    let make = |n: u32, now: u32| insert(&stage.memory, n, 0, Phase::HalfOpen, now);
    let mut raced = 0;
    let rounds = meet(
        &stage,
        |now| _ = make(*flow, now),
        |now| _ = make(*flow, now),
        |now, both| {
            for &n in crowd {
                assert_eq!(make(n, now), Inserted::Placed);
            }
            both();
            let pins = stage.memory.pins();
            let of_flow = pins.iter().filter(|pin| pin.cold.is_of(&tuple(*flow))).count();
            assert!(of_flow <= 1, "{pins:?}");
            raced += u32::from(of_flow == 0);
            stage.memory.sweep(now + 50);
            stage.memory.sweep_overflow(now + 50, hash_of);
            now > 100_000
        },
    );
    println!("{rounds} rounds, in {raced} of which neither made the pin");
    assert_eq!(stage.memory.audit(hash_of), (0, 0));
}

/// Flows of one tag lie in one word by turns, while another thread looks for one of them. Each turn has a host of its own,
/// so that a word does not come back while a reader looks at its record.
#[test]
fn no_reader_is_handed_its_twin_s_host() {
    const HOSTS: u32 = 1000;
    let mut stage = Stage::new(0, 4);
    stage.memory = Memory::new(BUCKETS, 4, 4 * HOSTS + 1, TIMEOUTS);
    std::thread::scope(|scope| {
        let stage = &stage;
        scope.spawn(move || {
            let _over = Over(&stage.is_over);
            while !stage.is_over.load(SeqCst) {
                let found = find(&stage.memory, 1);
                if found.is_some() {
                    let flow = u32::from(found.word.host()) / HOSTS;
                    assert_eq!(flow, 1, "flow 1 was handed a host of flow {flow}");
                    stage.found.fetch_add(1, SeqCst);
                }
            }
        });
        let started = Instant::now();
        for turn in (0..4 * HOSTS).cycle() {
            if started.elapsed() >= LASTING || stage.is_over.load(SeqCst) {
                break;
            }
            let (tuple, n) = (tuple(turn % 4), turn % 4);
            let mut entry = entry(n, 0, Phase::Established, 1000);
            let host = n * HOSTS + turn / 4;
            entry.word = Word::new(hash_of(&tuple).tag(), host as HostId, Phase::Established, 1000).0;
            entry.cold.stats = host;
            let inserted = table::insert(&stage.memory, hash_of(&tuple), &tuple, &mut entry, 1000);
            assert_eq!(inserted, Inserted::Placed);
            stage.placed.fetch_add(1, SeqCst);
            stage.memory.sweep(1001 + (1 << 20));
        }
        stage.is_over.store(true, SeqCst);
    });
    stage.ends_empty();
}
