//! The sweep: one pass over the flow table in mapped memory, without a system call a pin. It ends pins that are idle
//! past their timeout, counts the live ones by host, and finds the pins that keep a handover open.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use lb_common::atomic;
use lb_common::decide::stateless;
use lb_common::flow::{Phase, Timeouts, Word};
use lb_common::hash::other_bucket;
use lb_common::layout::{
    BackendStats, Cold, HOST_MAX, HostId, HostState, PHASES_COUNTED, Slot, Tuple, state,
};
use lb_common::table::{BUCKET, LIMBO, MARK_OVERFLOW, MARK_SECOND};

use super::sys::take;
use super::{Dataplane, Error, Maps};
use crate::ages::{End, Pair};

/// What the sweep is told of what is published.
pub struct SweepInput<'a> {
    /// Ring of a pin's service, or of its client.
    pub ring_of: &'a dyn Fn(&Cold) -> Option<u32>,
    /// Slots of a ring.
    pub slots: &'a dyn Fn(u32) -> Option<&'a [u32]>,
    /// What packets of a pin's flow may do with a host. Of its service and client, as a packet sees it: not all services of a ring have
    /// the same backends, once hosts have left the config.
    pub state: &'a dyn Fn(&Cold, HostId) -> HostState,
    /// Hosts that may have pins in slots that another host owns, or that leave a service: only their pins are looked at closely.
    pub losers: &'a dyn Fn(HostId) -> bool,
    /// Number of the drain for some clients alone that a pin on a host is one of, from 0 on; of the hosts that `losers` names.
    pub drain_of: &'a dyn Fn(&Cold, HostId) -> Option<usize>,
    /// Whether a host leaves a service.
    pub leaving: &'a dyn Fn(u16, HostId) -> bool,
}

/// What a sweep found.
pub struct Swept {
    /// Live pins by host and phase, as counted.
    pub live: Vec<[u64; PHASES_COUNTED]>,
    /// Those of them in slots that another host owns, by service and host.
    pub live_foreign: HashMap<(u16, HostId), [u64; PHASES_COUNTED]>,
    /// Live pins by number of the drain for some clients that they are of.
    pub live_of_drains: HashMap<usize, [u64; PHASES_COUNTED]>,
    /// (ring, slot) of live pins whose host is not the slot's owner; may repeat.
    pub foreign: Vec<(u32, u32)>,
    /// Pins of (service, host), of hosts that leave the service; also those that this sweep has ended.
    pub leaving: BTreeMap<(u16, HostId), u64>,
    /// Pins of flows that were ended, whose clients and hosts are to be told, 65 536 of them at most.
    pub resets: Vec<ResetPin>,
    pub expired: u64,
    /// Of those the connections and datagram flows that ended by themselves: how long they lasted.
    pub ended: Vec<End>,
    pub overflow: u64,
    pub took: Duration,
}

impl Swept {
    /// Live pins that name the host.
    pub fn counted(&self, host: HostId) -> u64 {
        self.live.get(usize::from(host)).map_or(0, |phases| phases.iter().sum())
    }

    /// Live pins that name the host in slots that it does not own, of one service or all, by phase.
    pub fn foreign_of(&self, service: Option<u16>, host: HostId) -> [u64; PHASES_COUNTED] {
        let is_meant = |of: u16, at: HostId| at == host && service.is_none_or(|service| service == of);
        let mut sum = [0; PHASES_COUNTED];
        for (_, live) in self.live_foreign.iter().filter(|((of, at), _)| is_meant(*of, *at)) {
            for (sum, live) in sum.iter_mut().zip(live) {
                *sum += live;
            }
        }
        sum
    }

    pub fn total(&self) -> u64 {
        self.live.iter().flatten().sum()
    }
}

/// A pin in phase `reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetPin {
    pub tuple: Tuple,
    pub service: u16,
    pub host: HostId,
    /// Where the client was in its sequence when it was answered with a RST; `None`: it has not spoken since the flow's end.
    pub answered: Option<u32>,
}

impl ResetPin {
    fn new(word: Word, cold: &Cold) -> Self {
        ResetPin {
            tuple: cold.tuple(),
            service: cold.service(),
            host: word.host(),
            answered: (cold.kind & Cold::ANSWERED != 0).then_some(cold.sequence),
        }
    }
}

/// Pins in phase `reset` that a sweep tells of; the others have their turn when these have aged.
pub const MOST_RESETS: usize = 1 << 16;

/// Words whose cold records are fetched together, so that their ways from memory overlap: more than a CPU has under way, and
/// few enough to still be in its cache when they are read.
pub(super) const AHEAD: usize = 64;

struct Sweep<'m, 'i> {
    maps: &'m Maps,
    input: &'m SweepInput<'i>,
    timeouts: Timeouts,
    now: u32,
    swept: Swept,
}

impl Dataplane {
    /// Sweeps the whole table. Packets go on meanwhile; every change is a compare-and-swap.
    pub fn sweep(&mut self, input: &SweepInput<'_>) -> Result<Swept, Error> {
        let started = Instant::now();
        let now = self.now();
        let swept = Swept {
            live: vec![[0; PHASES_COUNTED]; usize::from(HOST_MAX) + 1],
            live_foreign: HashMap::new(),
            live_of_drains: HashMap::new(),
            foreign: Vec::new(),
            leaving: BTreeMap::new(),
            resets: Vec::new(),
            expired: 0,
            ended: Vec::new(),
            overflow: 0,
            took: Duration::ZERO,
        };
        let timeouts = self.options.timeouts;
        let mut sweep = Sweep { maps: &self.maps, input, timeouts, now, swept };
        sweep.arrays();
        let ended = sweep.overflow();
        let mut swept = sweep.swept;
        for tuple in ended? {
            self.end_overflow(&tuple, &mut swept)?;
        }
        let half_open: u64 = swept.live.iter().map(|phases| phases[0]).sum();
        let quota = u64::from(self.maps.sizes.words()) / 2 / 4;
        self.maps.state.store(state::HALF_OPEN_OVER_QUOTA, u64::from(half_open > quota));
        swept.took = started.elapsed();
        Ok(swept)
    }
}

impl<'i> Sweep<'_, 'i> {
    /// Most words are empty, or live pins of a host that loses nothing. Which of both is chance, and a CPU that guesses it
    /// wrong loses more time than all the rest takes: so both are counted, by phase and host, without asking.
    fn arrays(&mut self) {
        let mut counts = vec![0u32; (usize::from(HOST_MAX) + 2) * 8];
        let losers: Vec<bool> = (0..=HOST_MAX + 1).map(|host| (self.input.losers)(host)).collect();
        // What is no pin is never late.
        let mut timeouts = self.timeouts;
        for set in timeouts.chunks_exact_mut(8) {
            for phase in [Phase::Empty, Phase::Reserved, Phase::Aborted] {
                set[phase as usize] = u32::MAX;
            }
            // A second after its last packet each is looked at: its client has been told by then, if it can be.
            set[Phase::Reset as usize] = 0;
        }
        let words = self.maps.word(0);
        let mut special = Vec::with_capacity(AHEAD);
        for index in 0..self.maps.sizes.words() {
            // SAFETY: index below the number of words of the mapped array.
            let word = Word(unsafe { atomic::load(words.add(index as usize)) });
            let host = usize::from(word.host()) % losers.len();
            let phase = word.phase() as usize;
            if (word.idle(self.now) > timeouts[word.limit()]) | losers[host] {
                self.maps.cold.fetch(index);
                special.push((index, word));
                if special.len() == AHEAD {
                    special.drain(..).for_each(|(index, word)| self.word(index, word));
                }
            } else {
                counts[host * 8 + phase] += 1;
            }
        }
        special.drain(..).for_each(|(index, word)| self.word(index, word));
        for (live, counts) in self.swept.live.iter_mut().zip(counts.chunks_exact(8)) {
            for (phase, &count) in counts.iter().enumerate() {
                if let Some(gauge) = BackendStats::gauge_of(Phase::from_bits(phase as u8)) {
                    live[gauge] += u64::from(count);
                }
            }
        }
    }

    /// A word that must be looked at more closely.
    #[cold]
    fn word(&mut self, index: u32, word: Word) {
        let phase = word.phase();
        if !phase.is_pin() {
            return;
        }
        let cold = || self.maps.cold.get(index);
        if (word.is_live(self.now, &self.timeouts) || self.waits(word, self.now, cold))
            && !self.leaves(word, cold)
        {
            self.count(word, cold);
            return;
        }
        let cold = cold();
        // SAFETY: a word of the mapped array.
        if unsafe { atomic::swap(self.maps.word(index), word.0, Word::EMPTY.0) } {
            self.swept.expired += 1;
            self.swept.ended.extend(end(word, &cold, self.now, &self.timeouts));
            book_end(self.maps, cold.stats, phase);
            unmark(self.maps, index, word, &cold);
        }
    }

    /// A closing pin that only its word keeps at its host: see `Kept::find` of the data path.
    fn waits(&self, word: Word, now: u32, cold: impl Fn() -> Cold) -> bool {
        if word.phase() != Phase::Closing || word.idle(now) > self.timeouts[word.limit_as(Phase::Established)]
        {
            return false;
        }
        let cold = cold();
        let Some((_, slot)) = self.slot(&cold) else { return false };
        stateless(slot, |host| (self.input.state)(&cold, host)) != word.host()
    }

    /// Whether the pin's host leaves the service and is lost to it, so that packets go by this pin no more. Counts pins of all
    /// hosts that leave.
    fn leaves(&mut self, word: Word, cold: impl Fn() -> Cold) -> bool {
        if !(self.input.losers)(word.host()) {
            return false;
        }
        let cold = cold();
        let pair = (cold.service(), word.host());
        if !(self.input.leaving)(pair.0, pair.1) {
            return false;
        }
        *self.swept.leaving.entry(pair).or_default() += 1;
        (self.input.state)(&cold, pair.1) == HostState::Lost
    }

    /// A pin's slot, as published, and the number of its ring.
    fn slot(&self, cold: &Cold) -> Option<(u32, Slot)> {
        let ring = (self.input.ring_of)(cold)?;
        Some((ring, Slot(*(self.input.slots)(ring)?.get(cold.slot as usize)?)))
    }

    #[inline]
    fn count(&mut self, word: Word, cold: impl Fn() -> Cold) {
        if word.phase() == Phase::Reset && self.swept.resets.len() < MOST_RESETS {
            self.swept.resets.push(ResetPin::new(word, &cold()));
        }
        let (gauge, host) = (BackendStats::gauge_of(word.phase()), usize::from(word.host()));
        if let (Some(gauge), Some(live)) = (gauge, self.swept.live.get_mut(host)) {
            live[gauge] += 1;
        }
        if (self.input.losers)(word.host()) {
            let cold = cold();
            let foreign = self.slot(&cold).filter(|(_, slot)| slot.owner() != word.host());
            if let (Some(_), Some(gauge)) = (foreign, gauge) {
                self.swept.live_foreign.entry((cold.service(), word.host())).or_default()[gauge] += 1;
            }
            if let (Some(drain), Some(gauge)) = ((self.input.drain_of)(&cold, word.host()), gauge) {
                self.swept.live_of_drains.entry(drain).or_default()[gauge] += 1;
            }
            // A flow that has been ended needs no handover: nobody is to be kept anywhere.
            if gauge.is_some() {
                self.swept.foreign.extend(foreign.map(|(ring, _)| (ring, cold.slot)));
            }
        }
    }

    /// Counts the overflow map; the flows in it whose pins have ended.
    fn overflow(&mut self) -> Result<Vec<lb_common::layout::Tuple>, Error> {
        let mut ended = Vec::new();
        for entry in self.maps.overflow.iter() {
            // An entry may go while the map is walked; the walk then starts over, and what was counted twice is
            // corrected by the next sweep.
            let Ok((tuple, entry)) = entry else { continue };
            let word = Word(entry.word);
            self.swept.overflow += 1;
            // What died within the limbo still counts, as its gauge does.
            let past = self.now.wrapping_sub(LIMBO);
            if (word.is_live(past, &self.timeouts) || self.waits(word, past, || entry.cold))
                && !self.leaves(word, || entry.cold)
            {
                self.count(word, || entry.cold);
            } else if word.phase().is_pin() {
                ended.push(tuple);
            }
        }
        Ok(ended)
    }
}

impl Dataplane {
    /// Ends a pin in the overflow map that has been dead for [`LIMBO`], so that no packet writes to it.
    fn end_overflow(&mut self, tuple: &lb_common::layout::Tuple, swept: &mut Swept) -> Result<(), Error> {
        let Some(entry) = take(&self.maps.overflow, tuple)? else { return Ok(()) };
        unmark_overflow(&self.maps, self.options.key, tuple);
        book_end(&self.maps, entry.cold.stats, Word(entry.word).phase());
        swept.expired += 1;
        swept.ended.extend(end(Word(entry.word), &entry.cold, self.now(), &self.options.timeouts));
        swept.overflow -= 1;
        Ok(())
    }
}

/// How long a flow lasted whose pin is taken out. `None`: it did not end by itself, or never was a connection.
fn end(word: Word, cold: &Cold, now: u32, timeouts: &Timeouts) -> Option<End> {
    let phase = word.phase();
    if word.is_live(now, timeouts) || !matches!(phase, Phase::Established | Phase::Closing | Phase::Udp) {
        return None;
    }
    let at = now.wrapping_sub(word.idle(now));
    Some(End {
        pair: Pair { service: cold.service(), host: word.host(), is_udp: phase == Phase::Udp },
        client: cold.source,
        at,
        // Clocks of two CPUs may differ.
        duration: (at.wrapping_sub(cold.start) as i32).max(0) as u32,
        is_silent: phase != Phase::Closing,
    })
}

/// Tells the home of a pin that was taken out of its second bucket.
pub(super) fn unmark(maps: &Maps, index: u32, word: Word, cold: &Cold) {
    if cold.kind & Cold::SECOND != 0 {
        let home = other_bucket(index / BUCKET, word.tag(), maps.sizes.buckets - 1);
        // SAFETY: a word of the mapped array.
        unsafe { atomic::add32(maps.mark(home), MARK_SECOND.wrapping_neg()) };
    }
}

/// Tells the home of a pin that was taken out of the overflow map.
pub(super) fn unmark_overflow(maps: &Maps, key: lb_common::hash::Key, tuple: &lb_common::layout::Tuple) {
    let hash = lb_common::hash::FlowHash::of(tuple, key);
    let mark = maps.mark(hash.bucket(maps.sizes.buckets - 1));
    // SAFETY: a word of the mapped array.
    unsafe { atomic::add32(mark, MARK_OVERFLOW.wrapping_neg()) };
}

/// Books a pin that the daemon ended, in counters that outlive it.
pub(super) fn book_end(maps: &Maps, stats: u32, phase: Phase) {
    if let Some(gauge) = BackendStats::gauge_of(phase)
        && stats < maps.user_stats.len()
    {
        let stats = maps.user_stats.at(stats);
        // SAFETY: the daemon is the only writer of these counters.
        unsafe {
            (&raw mut (*stats).left[gauge])
                .write_volatile((&raw const (*stats).left[gauge]).read_volatile() + 1);
            if phase == Phase::HalfOpen {
                (*stats).unanswered += 1;
            }
        };
    }
}
