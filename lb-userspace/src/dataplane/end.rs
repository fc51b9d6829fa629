//! Ending the flows of a host from here: those that no packet speaks for any more.

use lb_common::atomic;
use lb_common::flow::{Phase, Word};
use lb_common::layout::{BackendStats, Cold, HostId, Overflow, Tuple};

use super::sweep::{book_end, unmark, unmark_overflow};
use super::sys::take;
use super::{Dataplane, Error, FlowRecord, Maps};

/// Pins that were ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// In the arrays.
    pub pins: u64,
    /// In the overflow map. A packet that was under way to one of them may have booked a change of its phase that is lost with
    /// it: count anew.
    pub overflow: u64,
}

impl Ended {
    pub fn total(&self) -> u64 {
        self.pins + self.overflow
    }
}

/// Why flows are ended, and thereby how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// A deadline that moves flows: each is forgotten, and goes to the owner of its slot if it speaks again.
    Moved,
    /// A deadline that resets flows: a TCP flow stays known as one that was reset, so that its client is told if it speaks
    /// after all; other flows are forgotten.
    Reset,
    /// An operator, who wants the same.
    Kicked,
}

impl Dataplane {
    /// Ends every pin of the host that is counted as a live flow, of one service or all; packets go on meanwhile, and what one of them changes
    /// at that moment is left to it.
    pub fn end(&mut self, service: Option<u16>, host: HostId, cause: EndCause) -> Result<Ended, Error> {
        self.end_those(host, |cold| service.is_none_or(|service| service == cold.service()), cause, 0)
    }

    /// The same for those that are meant. What ended them is booked in further counters, too, if their number is not 0.
    pub fn end_those(
        &mut self,
        host: HostId,
        is_meant: impl Fn(&Cold) -> bool,
        cause: EndCause,
        tally: u32,
    ) -> Result<Ended, Error> {
        let now = self.now();
        let mut ended = Ended::default();
        for index in 0..self.maps.sizes.words() {
            let place = self.maps.word(index);
            // SAFETY: a word of the mapped array.
            let word = Word(unsafe { atomic::load(place) });
            if !is_counted(word, host) {
                continue;
            }
            let cold = self.maps.cold.get(index);
            if !is_meant(&cold) {
                continue;
            }
            let after = after(word, cause, now);
            // SAFETY: as above. The word is the one before, so the record was its.
            if unsafe { atomic::swap(place, word.0, after.0) } {
                if after == Word::EMPTY {
                    unmark(&self.maps, index, word, &cold);
                }
                book(&self.maps, cold.stats, word.phase(), after, cause, tally);
                ended.pins += 1;
            }
        }
        for (tuple, entry) in self.maps.overflow.iter().flatten().collect::<Vec<_>>() {
            if is_meant(&entry.cold) && is_counted(Word(entry.word), host) {
                ended.overflow += u64::from(self.end_in_overflow(&tuple, host, cause, tally, now)?);
            }
        }
        Ok(ended)
    }

    /// Ends one flow that was listed, as [`Self::end`] does, if it still is what it was. Whether it was ended.
    pub fn end_flow(&mut self, flow: &FlowRecord, cause: EndCause, tally: u32) -> Result<bool, Error> {
        let now = self.now();
        let Some(index) = flow.index else {
            return self.end_in_overflow(&flow.tuple, flow.host, cause, tally, now);
        };
        let place = self.maps.word(index);
        // SAFETY: a word of the mapped array.
        let word = Word(unsafe { atomic::load(place) });
        let cold = self.maps.cold.get(index);
        if !is_counted(word, flow.host) || cold.tuple() != flow.tuple {
            return Ok(false);
        }
        let after = after(word, cause, now);
        // SAFETY: as above. The word is the one before, so the record was its.
        if !unsafe { atomic::swap(place, word.0, after.0) } {
            return Ok(false);
        }
        if after == Word::EMPTY {
            unmark(&self.maps, index, word, &cold);
        }
        book(&self.maps, cold.stats, word.phase(), after, cause, tally);
        Ok(true)
    }

    /// Takes an entry out, and puts it back if it is to stay known. Whether it was one of the host's.
    fn end_in_overflow(
        &mut self,
        tuple: &Tuple,
        host: HostId,
        cause: EndCause,
        tally: u32,
        now: u32,
    ) -> Result<bool, Error> {
        let Some(entry) = take(&self.maps.overflow, tuple)? else { return Ok(false) };
        let word = Word(entry.word);
        let (is_ours, mut after) = (is_counted(word, host), word);
        if is_ours {
            after = self::after(word, cause, now);
        }
        if after != Word::EMPTY {
            let entry = Overflow { word: after.0, ..entry };
            // The map may have no room by now, or a packet may have made the flow a pin anew, which then counts.
            if self.maps.overflow.insert(tuple, entry, BPF_NOEXIST).is_err() {
                after = Word::EMPTY;
            }
        }
        if after == Word::EMPTY {
            unmark_overflow(&self.maps, self.options.key, tuple);
        }
        if is_ours {
            book(&self.maps, entry.cold.stats, word.phase(), after, cause, tally);
        } else if after == Word::EMPTY {
            book_end(&self.maps, entry.cold.stats, word.phase());
        }
        Ok(is_ours)
    }
}

/// Flag of an update: there must be no such entry.
const BPF_NOEXIST: u64 = 1;

fn is_counted(word: Word, host: HostId) -> bool {
    word.host() == host && BackendStats::gauge_of(word.phase()).is_some()
}

/// What becomes of a live pin. One that was reset is seen now: it has the time that such pins have from here.
fn after(word: Word, cause: EndCause, now: u32) -> Word {
    if cause != EndCause::Moved && word.phase() != Phase::Udp {
        word.seen(now, Phase::Reset)
    } else {
        Word::EMPTY
    }
}

/// Books the pin's end, and what ended it, in counters that outlive the daemon.
fn book(maps: &Maps, stats: u32, phase: Phase, after: Word, cause: EndCause, tally: u32) {
    book_end(maps, stats, phase);
    book_cause(maps, stats, after, cause);
    if tally != 0 {
        book_cause(maps, tally, after, cause);
    }
}

fn book_cause(maps: &Maps, stats: u32, after: Word, cause: EndCause) {
    if stats < maps.user_stats.len() {
        let stats = maps.user_stats.at(stats);
        // SAFETY: the daemon is the only writer of these counters.
        unsafe {
            let sum = match cause {
                EndCause::Kicked => &raw mut (*stats).kicked,
                _ if after == Word::EMPTY => &raw mut (*stats).moved,
                _ => &raw mut (*stats).reset,
            };
            sum.write_volatile(sum.read_volatile() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tcp_stays_known_as_reset() {
        let word = |phase| Word::new(9, 3, phase, 100).with_set(2);
        assert_eq!(after(word(Phase::Udp), EndCause::Reset, 500), Word::EMPTY);
        assert_eq!(after(word(Phase::Established), EndCause::Moved, 500), Word::EMPTY);
        for phase in [Phase::HalfOpen, Phase::Established, Phase::Closing] {
            assert_eq!(
                after(word(phase), EndCause::Kicked, 500),
                Word::new(9, 3, Phase::Reset, 500).with_set(2)
            );
        }
    }

    #[test]
    fn what_is_no_live_flow_of_the_host_is_left_alone() {
        for phase in 0..8 {
            let phase = Phase::from_bits(phase);
            let live = matches!(phase, Phase::HalfOpen | Phase::Established | Phase::Closing | Phase::Udp);
            assert_eq!(is_counted(Word::new(9, 3, phase, 100), 3), live, "{phase:?}");
            assert!(!is_counted(Word::new(9, 4, phase, 100), 3));
        }
    }
}
