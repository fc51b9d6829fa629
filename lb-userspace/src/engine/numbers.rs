//! Numbers that go to others: there are only so many, and hosts and services come and go.

use std::collections::BTreeSet;

use super::{Engine, Error};
use crate::journal::Numbers;

impl Engine {
    /// Gives the numbers back of hosts, services and pairs of them that nothing names any more: neither the config nor a published backend,
    /// a pin, the history of a ring or a drain. Looks at the whole flow table, if there are any that the config does not name.
    pub(super) fn give_numbers_back(&mut self) -> Result<(), Error> {
        // What is published, and what the rings remember, is not what the engine knows then.
        if self.stale || self.in_force.way_back.is_open() {
            return Ok(());
        }
        let Numbers { mut hosts, mut services, mut stats } = self.journal.all_numbers()?;
        hosts.retain(|name, _| !self.ids.hosts.contains_key(name));
        services.retain(|name, _| !self.ids.services.contains_key(name));
        stats.retain(|pair, _| !self.ids.stats.contains_key(pair));
        // What is drained is counted to the end: its receipt sums the counters up, also of services that have no flow of it any more.
        let rows = self.journal.open_drains()?.into_iter().filter(|row| row.receipt.is_none());
        let counted: BTreeSet<String> = rows.map(|row| row.drain.host).collect();
        hosts.retain(|name, _| !counted.contains(name));
        stats.retain(|(_, host), _| !counted.contains(host));
        if hosts.is_empty() && services.is_empty() && stats.is_empty() {
            return Ok(());
        }
        let (in_use, remembered) = (self.dataplane.numbers_in_use(), self.rings.remembered());
        hosts.retain(|name, number| !in_use.hosts.contains(number) && !remembered.contains(name.as_str()));
        services.retain(|_, number| !in_use.services.contains(number));
        stats.retain(|_, number| !in_use.stats.contains(number));
        let counters: Vec<u32> = stats.values().copied().collect();
        let count = hosts.len() + services.len() + counters.len();
        if count == 0 {
            return Ok(());
        }
        // Before the numbers can go to others, who count from 0.
        let with_counters = self.dataplane.options.sizes.stats;
        for &index in counters.iter().filter(|&&index| index < with_counters) {
            self.dataplane.forget_counters(index)?;
        }
        self.journal.release(&Numbers { hosts, services, stats })?;
        self.ids.known_hosts = self.journal.known_hosts()?;
        self.uncounted.retain(|index| !counters.contains(index));
        log::info!("{count} numbers of what has left the config are free again");
        Ok(())
    }
}
