//! The table against a plain map of the live pins.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

use lb_common::flow::Phase;
use lb_common::hash::other_bucket;
use lb_common::layout::{Cold, HostId};
use lb_common::table::{self, Home, IN_OVERFLOW, Inserted};

use super::{BUCKETS, FLOWS, Operation, Play, Reached, TIMEOUTS, entry, find, hash_of, slot, stats, tuple};
use crate::memory::{Memory, Pin};

/// Seconds after which a half-open pin may make room: six retransmissions of a SYN.
const GRACE: u64 = 64;

/// A pin as its flow sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    host: HostId,
    phase: Phase,
    /// Seconds since the play began; they do not wrap.
    seen: u64,
    made: u64,
}

impl Kept {
    fn is_live(&self, now: u64) -> bool {
        now - self.seen <= u64::from(TIMEOUTS[self.phase as usize])
    }
}

struct Stage {
    memory: Memory,
    start: u32,
    /// Seconds since the play began.
    now: u64,
    /// By flow.
    live: BTreeMap<u32, Kept>,
    settled: u32,
    over_quota: bool,
    evicted: u64,
    reached: Reached,
}

pub(super) fn check(play: &Play) -> Reached {
    let mut stage = Stage {
        memory: play.memory(),
        start: play.start,
        now: 0,
        live: BTreeMap::new(),
        settled: 0,
        over_quota: false,
        evicted: 0,
        reached: Reached::default(),
    };
    for operation in &play.operations {
        stage.carry_out(*operation);
        stage.compare();
    }
    // Everything ages, and nothing is left, in any book.
    stage.carry_out(Operation::Pass(700));
    stage.carry_out(Operation::Sweep);
    stage.carry_out(Operation::SweepOverflow);
    assert_eq!(stage.memory.audit(hash_of), (0, 0));
    stage.reached
}

impl Stage {
    /// The second that the table is told.
    fn clock(&self) -> u32 {
        self.start.wrapping_add(self.now as u32)
    }

    fn carry_out(&mut self, operation: Operation) {
        match operation {
            Operation::Pass(seconds) => {
                self.now += u64::from(seconds);
                let now = self.now;
                self.live.retain(|_, kept| kept.is_live(now));
            }
            Operation::Sweep => self.memory.sweep(self.clock()),
            Operation::SweepOverflow => self.memory.sweep_overflow(self.clock(), hash_of),
            Operation::Settle(slots) => {
                self.settled = slots;
                self.memory.settled.store(slots, SeqCst);
            }
            Operation::Exceed(over_quota) => {
                self.over_quota = over_quota;
                self.memory.over_quota.store(over_quota, SeqCst);
            }
            Operation::Packet { flow, host, phase, remakes, short } => {
                self.packet(flow, host, phase, remakes, short);
            }
            Operation::Crowd { first, count, host, phase } => {
                for flow in first..first + count {
                    self.packet(flow % FLOWS, host, phase, false, true);
                }
            }
        }
    }

    /// What the data path does for a packet, in so far as it touches the table.
    fn packet(&mut self, flow: u32, host: HostId, phase: Phase, remakes: bool, short: bool) {
        let now = self.clock();
        let found = find(&self.memory, flow);
        let made = Kept { host, phase, seen: self.now, made: self.now };
        match self.live.get(&flow).copied() {
            Some(kept) if !remakes => {
                let seen = found.word.seen(now, phase);
                assert!(table::update(&self.memory, &found, seen), "nobody else is here");
                self.live.insert(flow, Kept { phase, seen: self.now, ..kept });
            }
            // A dead one in overflow is the sweep's.
            _ if found.is_some() && (self.live.contains_key(&flow) || found.index < IN_OVERFLOW) => {
                let remade = table::remake(&self.memory, &found, &entry(flow, host, phase, now), now);
                assert_eq!(remade, Inserted::Placed);
                self.live.insert(flow, made);
            }
            _ => self.make(flow, made, short),
        }
    }

    /// Makes a pin where the flow has none.
    fn make(&mut self, flow: u32, made: Kept, short: bool) {
        let now = self.clock();
        let (tuple, hash) = (tuple(flow), hash_of(&tuple(flow)));
        let mut entry = entry(flow, made.host, made.phase, now);
        table::expect(&self.memory, hash);
        let home = Home::of(&self.memory, hash).expect("the table has the bucket");
        if short && table::begin(&self.memory, hash, &home, &entry, now) {
            self.live.insert(flow, made);
            self.reached.short += 1;
            return;
        }
        let before = self.memory.pins();
        let has_room = !self.memory.is_overflow_full();
        let foreseen = table::would_insert(&self.memory, hash, &tuple, now, has_room);
        assert_eq!(self.memory.pins(), before, "who asks changes nothing");
        let inserted = table::insert(&self.memory, hash, &tuple, &mut entry, now);
        match inserted {
            Inserted::InLimbo => assert_eq!(foreseen, Inserted::Race),
            inserted => assert_eq!(foreseen, inserted),
        }
        match inserted {
            Inserted::Placed => {
                self.live.insert(flow, made);
                let is_away = |pin: &Pin| pin.cold.is_of(&tuple) && pin.index == IN_OVERFLOW;
                let has_overflowed =
                    entry.cold.kind & Cold::SECOND == 0 && self.memory.pins().iter().any(is_away);
                self.reached.second += u64::from(entry.cold.kind & Cold::SECOND != 0);
                self.reached.overflow += u64::from(has_overflowed);
            }
            Inserted::InLimbo => {
                self.reached.limbo += 1;
                let limbo = before.iter().find(|pin| pin.index == IN_OVERFLOW && pin.cold.is_of(&tuple));
                let limbo = limbo.expect("the flow has a pin in overflow");
                assert!(!limbo.word.is_live(now, &TIMEOUTS), "a live pin was not found");
            }
            Inserted::NoPlace => {
                assert!(self.memory.is_overflow_full(), "there was room in overflow");
                self.evict(flow, made, &before);
            }
            Inserted::Race => panic!("flow {flow} raced with nobody"),
        }
    }

    /// Makes a pin at the cost of another.
    fn evict(&mut self, flow: u32, made: Kept, before: &[Pin]) {
        let now = self.clock();
        let hash = hash_of(&tuple(flow));
        let mut entry = entry(flow, made.host, made.phase, now);
        let home = hash.bucket(BUCKETS - 1);
        let second = other_bucket(home, hash.tag(), BUCKETS - 1);
        let near: Vec<Pin> = before
            .iter()
            .filter(|pin| pin.index < IN_OVERFLOW && [home, second].contains(&(pin.index / table::BUCKET)))
            .copied()
            .collect();
        let needs = made.phase == Phase::Udp || !self.is_settled(slot(flow));
        let best = near.iter().map(|pin| self.rank(pin, needs)).max().unwrap_or(0);
        let has_tag = near.iter().any(|pin| pin.word.tag() == hash.tag());
        // The insert before may have given up a dead pin.
        let pins = self.memory.pins();
        let foreseen = table::would_evict(&self.memory, hash, &entry, now);
        assert_eq!(self.memory.pins(), pins, "who asks changes nothing");
        let evicted = table::evict(&self.memory, hash, &mut entry, now);
        assert_eq!(foreseen, evicted == Inserted::Placed, "as it was foreseen");
        match evicted {
            Inserted::Placed => {
                let pins = self.memory.pins();
                let lost: Vec<&Pin> = near.iter().filter(|old| !pins.contains(old)).collect();
                let [lost] = lost[..] else { panic!("one pin had to go for one: {lost:?}") };
                assert!(
                    best > 0 && self.rank(lost, needs) == best,
                    "{lost:?} was not missed least of {near:?}"
                );
                let number = (0..FLOWS).find(|&flow| lost.cold.is_of(&tuple(flow))).expect("a flow");
                let was_live = self.live.remove(&number).is_some();
                self.evicted += u64::from(was_live);
                self.reached.evicted[best as usize] += 1;
                self.live.insert(flow, made);
            }
            Inserted::NoPlace => {
                assert!(best == 0 || has_tag, "{near:?} had a victim");
                self.reached.no_place += 1;
            }
            inserted => panic!("{inserted:?}, though nobody else is here"),
        }
    }

    /// Whether flows of a slot find their host without a pin.
    fn is_settled(&self, slot: u32) -> bool {
        self.settled >> slot & 1 == 1
    }

    /// How little a pin is missed, by a flow that needs one as well or does not; 0: it must stay.
    fn rank(&self, Pin { word, cold, .. }: &Pin, needs: bool) -> u32 {
        let is_old = u64::from(word.idle(self.clock())) > GRACE;
        match (word.phase(), self.is_settled(cold.slot)) {
            // In an open slot its FIN may be forged.
            (Phase::Closing, true) => 5,
            (Phase::HalfOpen, _) if is_old => 4,
            (Phase::HalfOpen, true) if self.over_quota => 3,
            // Its handshake would end at another host than it began at.
            (Phase::HalfOpen, false) if self.over_quota && needs => 2,
            (Phase::Established, true) => 1,
            _ => 0,
        }
    }

    /// Every live pin is there once, is found, and says what it should; the dead ones are in the books too.
    fn compare(&self) {
        self.memory.audit(hash_of);
        assert_eq!(self.memory.evicted.load(SeqCst), self.evicted);
        let now = self.clock();
        let mut seen = BTreeMap::new();
        for Pin { word, cold, .. } in self.memory.pins() {
            if !word.is_live(now, &TIMEOUTS) {
                continue;
            }
            let flow = cold.source[1] as u32;
            assert!(cold.is_of(&tuple(flow)), "{cold:?}");
            assert_eq!(cold.stats, stats(flow, word.host()), "{cold:?}");
            let seen_at = self.now - u64::from(word.idle(now));
            let made = self.now - u64::from(now.wrapping_sub(cold.start));
            let kept = Kept { host: word.host(), phase: word.phase(), seen: seen_at, made };
            assert_eq!(seen.insert(flow, kept), None, "flow {flow} has two live pins");
        }
        assert_eq!(seen, self.live, "live pins in the table, and as they should be");
        for flow in 0..FLOWS {
            let found = find(&self.memory, flow);
            match self.live.get(&flow) {
                Some(kept) => {
                    assert!(found.is_some(), "the pin of flow {flow} is not found");
                    assert_eq!((found.word.host(), found.word.phase()), (kept.host, kept.phase));
                    assert!(table::is_of(&self.memory, &found, &tuple(flow)));
                }
                None => assert!(
                    !found.is_some() || !found.word.is_live(now, &TIMEOUTS),
                    "flow {flow} was handed a pin that is not its own"
                ),
            }
        }
    }
}
