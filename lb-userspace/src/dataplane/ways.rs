//! Numbers for the ways out that backends' records name.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{Backend, EGRESSES, Egress};

use super::alloc::Numbers;
use super::{BackendTable, Error, Services};

/// The ways that are written, by what they are. Number 0 is the one without tags and source.
pub(super) struct Ways {
    known: BTreeMap<Egress, u16>,
    numbers: Numbers,
    /// Out of use, free after the next grace period.
    retired: Vec<u16>,
}

impl Ways {
    pub fn new() -> Self {
        let mut ways = Ways {
            known: BTreeMap::from([(Egress::default(), 0)]),
            numbers: Numbers::new(EGRESSES as u32),
            retired: Vec::new(),
        };
        ways.numbers.claim(0, 1);
        ways
    }

    /// Takes in a way that an earlier daemon's record names.
    pub fn find(&mut self, services: &Services, number: u16) {
        if number == 0 || usize::from(number) >= EGRESSES {
            return;
        }
        self.numbers.claim(u32::from(number), 1);
        if *self.known.entry(way(services, number)).or_insert(number) != number {
            self.retired.push(number);
        }
    }

    /// Writes those of `wanted` that are not there yet, where no packet reads.
    ///
    /// # Errors
    /// [`Error::Full`]
    pub fn write(&mut self, services: &Services, wanted: &BTreeSet<Egress>) -> Result<(), Error> {
        for way in wanted {
            if !self.known.contains_key(way) {
                let limit = EGRESSES as u32;
                let number =
                    self.numbers.take(1).ok_or(Error::Full { what: "ways to backends", limit })? as u16;
                // SAFETY: an element of the mapping, which no record names.
                unsafe { services.egress(u32::from(number)).write_volatile(*way) };
                self.known.insert(*way, number);
            }
        }
        Ok(())
    }

    /// Gives up those that are not wanted any more.
    pub fn retain(&mut self, wanted: &BTreeSet<Egress>) {
        let (known, retired) = (&mut self.known, &mut self.retired);
        known.retain(|way, number| {
            let stays = *number == 0 || wanted.contains(way);
            if !stays {
                retired.push(*number);
            }
            stays
        });
    }

    /// A grace period has passed: no record that a packet may be reading names what was given up before it.
    pub fn free_retired(&mut self) {
        for number in std::mem::take(&mut self.retired) {
            self.numbers.free(u32::from(number), 1);
        }
    }

    /// The record as packets will read it, with the number of its way, which is written already.
    pub fn record(&self, table: &BackendTable) -> Backend {
        let egress = self.known.get(&table.egress).copied().unwrap_or_default();
        Backend { egress, ..table.record }
    }
}

/// A way of the mapping, which only this process writes.
pub(super) fn way(services: &Services, number: u16) -> Egress {
    // SAFETY: an element of the mapping; numbers in records are below its length.
    unsafe { services.egress(u32::from(number) % EGRESSES as u32).read_volatile() }
}
