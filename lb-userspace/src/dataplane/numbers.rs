//! Numbers of hosts, services and counters that something in the data path names, so that they must not go to others.

use std::collections::BTreeSet;

use lb_common::atomic;
use lb_common::flow::Word;
use lb_common::layout::{BackendStats, Cold, HostId};

use super::{Dataplane, Error};

/// Found in published backends and in pins, dead or alive.
#[derive(Debug, Default)]
pub struct NumbersInUse {
    pub hosts: BTreeSet<HostId>,
    pub services: BTreeSet<u16>,
    pub stats: BTreeSet<u32>,
}

impl NumbersInUse {
    fn add(&mut self, word: Word, cold: &Cold) {
        self.hosts.insert(word.host());
        self.services.insert(cold.service());
        self.stats.insert(cold.stats);
    }
}

impl Dataplane {
    /// Looks at every pin, too. One that is made meanwhile is of a published backend.
    pub fn numbers_in_use(&self) -> NumbersInUse {
        let mut numbers = NumbersInUse::default();
        for ((service, host), backend) in self.published_backends() {
            numbers.hosts.insert(host);
            numbers.services.insert(service);
            numbers.stats.insert(backend.record.stats);
        }
        for index in 0..self.maps.sizes.words() {
            // SAFETY: a word of the mapped array.
            let word = Word(unsafe { atomic::load(self.maps.word(index)) });
            if word != Word::EMPTY {
                numbers.add(word, &self.maps.cold.get(index));
            }
        }
        for (_, entry) in self.maps.overflow.iter().flatten() {
            numbers.add(Word(entry.word), &entry.cold);
        }
        numbers
    }

    /// Sets counters to zero, with whose number nothing counts any more.
    ///
    /// # Errors
    /// When the kernel does not take the write.
    pub fn forget_counters(&mut self, index: u32) -> Result<(), Error> {
        let counters = &mut self.maps.backend_stats;
        let zeros = counters.get(&index, 0).map_err(Error::map("BACKEND_STATS"))?;
        let zeros = zeros.iter().map(|_| BackendStats::default()).collect::<Vec<_>>();
        let zeros = zeros.try_into().map_err(|source| Error::Syscall { call: "number of CPUs", source })?;
        counters.set(index, zeros, 0).map_err(Error::map("BACKEND_STATS"))?;
        self.maps.user_stats.set(index, BackendStats::default());
        self.maps.inherited.forget(index);
        Ok(())
    }
}
