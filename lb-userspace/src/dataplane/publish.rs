//! Making tables the ones that packets go by, without a packet that sees half of them (C5).
//!
//! New things are written where no packet reads yet; then one word flips to them; after a grace period the old ones
//! are free. Only a backend's control word changes in place. The order is: new records and windows, hosts that come
//! back, ring heads, new services, *grace period*, hosts that drain, what is no longer needed.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::MapError;
use lb_common::layout::{Backend, Control, HostId, HostState, RingHead, SLOTS_A_BLOCK, ServiceKey, Window};

use super::alloc::Numbers;
use super::mapped::{store32, store64};
use super::{Dataplane, Error, Maps, ServiceTable, Tables, grace_period};

/// What is published, and what is free.
pub(super) struct Publisher {
    services: BTreeMap<u16, Published>,
    rings: BTreeMap<u32, PublishedRing>,
    records: Numbers,
    pairs: Numbers,
    copies: Numbers,
    /// Out of use, free after the next grace period.
    retired: Retired,
    /// Interfaces that redirects may lead to.
    egress: BTreeSet<u32>,
}

struct Published {
    key: ServiceKey,
    ring: u32,
    window: Window,
    /// Host → number of its record.
    records: BTreeMap<HostId, u32>,
}

struct PublishedRing {
    copy: u32,
    /// What was written; empty for a ring found in the maps of an earlier daemon.
    slots: Vec<u32>,
}

#[derive(Default)]
struct Retired {
    records: Vec<u32>,
    windows: Vec<Window>,
    copies: Vec<u32>,
}

impl Publisher {
    /// Finds what an earlier daemon published, so that nothing of it is overwritten.
    pub fn new(maps: &Maps) -> Result<Self, Error> {
        let mut publisher = Publisher {
            services: BTreeMap::new(),
            rings: BTreeMap::new(),
            records: Numbers::new(maps.sizes.backends),
            pairs: Numbers::new(maps.sizes.pairs),
            copies: Numbers::new(maps.sizes.ring_copies),
            retired: Retired::default(),
            egress: BTreeSet::new(),
        };
        // Number 0 means "no backend".
        publisher.records.claim(0, 1);
        for entry in maps.service_numbers.iter() {
            let (key, number) = entry.map_err(Error::map("SERVICE_NUMBERS"))?;
            publisher.find_service(maps, key, number);
        }
        Ok(publisher)
    }

    fn find_service(&mut self, maps: &Maps, key: ServiceKey, number: u32) {
        let service = maps.services.get(number);
        let window = Window::unpack(service.window);
        self.pairs.claim(window.base, u32::from(window.count));
        let mut records = BTreeMap::new();
        for offset in 0..window.count {
            // SAFETY: a word of the mapped array.
            let record = unsafe { maps.pair(window.base + u32::from(offset)).read_volatile() };
            if record != 0 {
                self.records.claim(record, 1);
                records.insert(window.first + offset, record);
            }
        }
        self.rings.entry(service.ring).or_insert_with(|| {
            let head = RingHead::unpack(maps.ring_heads.load(service.ring));
            let copy = head.block / maps.sizes.blocks_a_ring();
            self.copies.claim(copy, 1);
            PublishedRing { copy, slots: Vec::new() }
        });
        self.services.insert(number as u16, Published { key, ring: service.ring, window, records });
    }
}

impl Dataplane {
    /// The backends that are published, by (service, host): those of an earlier daemon after an adoption.
    pub fn published_backends(&self) -> BTreeMap<(u16, HostId), Backend> {
        let services = self.publisher.services.iter();
        services
            .flat_map(|(&number, service)| {
                let records = service.records.iter();
                records.map(move |(&host, &record)| ((number, host), self.maps.backends.get(record)))
            })
            .collect()
    }

    /// Makes `tables` the ones that packets go by. When it returns, no CPU decides by the ones before.
    ///
    /// # Errors
    /// [`Error::Full`] before anything has changed for packets that are under way; what was published stays in force.
    pub fn publish(&mut self, tables: &Tables) -> Result<(), Error> {
        let (maps, publisher) = (&mut self.maps, &mut self.publisher);
        publisher.allow_egress(maps, tables);
        // 1. What no packet reads yet, and windows that cover old and new hosts.
        let mut heads = Vec::new();
        if let Err(error) = publisher.prepare(maps, tables, &mut heads) {
            for (_, (copy, _)) in heads {
                publisher.copies.free(copy, 1);
            }
            return Err(error);
        }
        // 2. The flips.
        for (ring, (copy, head)) in heads {
            maps.ring_heads.store(ring, head.pack());
            let published = PublishedRing { copy, slots: tables.rings[&ring].clone() };
            if let Some(old) = publisher.rings.insert(ring, published) {
                publisher.retired.copies.push(old.copy);
            }
        }
        for (&number, table) in &tables.services {
            publisher.point_to_ring(maps, number, table)?;
        }
        publisher.forget_keys(maps, tables)?;
        // What was taken out of use until here is free after the grace period; what follows waits for the next one.
        grace_period()?;
        publisher.free_retired();
        // 3. Nobody decides by the old rings any more: hosts that get no new flow may say so, and what only old
        //    rings named may go.
        for (&number, table) in &tables.services {
            publisher.settle_controls(maps, number, table);
        }
        publisher.remove_services(tables);
        publisher.retire_rings(tables);
        publisher.forget_egress(maps, tables);
        Ok(())
    }
}

impl Publisher {
    /// Writes everything that no packet reads yet; the new copies of rings go to `heads`.
    fn prepare(
        &mut self,
        maps: &mut Maps,
        tables: &Tables,
        heads: &mut Vec<(u32, (u32, RingHead))>,
    ) -> Result<(), Error> {
        for (&ring, slots) in &tables.rings {
            if self.rings.get(&ring).is_none_or(|published| published.slots != *slots) {
                heads.push((ring, self.write_ring(maps, slots, tables.generation)?));
            }
        }
        for (&number, table) in &tables.services {
            self.write_service(maps, number, table)?;
        }
        Ok(())
    }

    /// Lets packets be redirected to the interfaces of `tables`.
    /// All of them each time, as the kernel takes out an interface that goes, and it may come back under its index. One that
    /// is gone must not keep everything else from being published; its packets are dropped and counted.
    fn allow_egress(&mut self, maps: &mut Maps, tables: &Tables) {
        for ifindex in egress_of(tables) {
            if let Err(error) = maps.egress.insert(ifindex, ifindex, None, 0) {
                log::warn!("cannot redirect to the interface with index {ifindex}: {error}");
            }
            self.egress.insert(ifindex);
        }
    }

    /// Takes out addresses that no service has any more. After the new ones are in: one may have passed from one service to
    /// another.
    fn forget_keys(&mut self, maps: &mut Maps, tables: &Tables) -> Result<(), Error> {
        for (number, service) in &mut self.services {
            let is_used = tables.services.values().any(|table| table.key == service.key);
            if !is_used {
                match maps.service_numbers.remove(&service.key) {
                    // One that an earlier publication could not finish was never there.
                    Ok(()) | Err(MapError::KeyNotFound) => {}
                    Err(error) => return Err(Error::map("SERVICE_NUMBERS")(error)),
                }
            }
            if let Some(table) = tables.services.get(number) {
                service.key = table.key;
            }
        }
        Ok(())
    }

    /// Forgets interfaces that lead to no backend any more; those that are gone the kernel has taken out itself.
    fn forget_egress(&mut self, maps: &mut Maps, tables: &Tables) {
        let wanted = egress_of(tables);
        for ifindex in self.egress.difference(&wanted) {
            let _ = maps.egress.remove(*ifindex);
        }
        self.egress = wanted;
    }

    fn write_ring(&mut self, maps: &Maps, slots: &[u32], generation: u64) -> Result<(u32, RingHead), Error> {
        let copy = self
            .copies
            .take(1)
            .ok_or(Error::Full { what: "copies of rings", limit: maps.sizes.ring_copies })?;
        let block = copy * maps.sizes.blocks_a_ring();
        for (index, chunk) in slots.chunks(SLOTS_A_BLOCK).enumerate() {
            let mut words = [0; SLOTS_A_BLOCK];
            words[..chunk.len()].copy_from_slice(chunk);
            maps.rings.set(block + index as u32, words);
        }
        Ok((copy, RingHead { block, generation: generation as u32 }))
    }

    /// Records and window of a service; hosts that come back into use do so here, before the rings name them.
    fn write_service(&mut self, maps: &mut Maps, number: u16, table: &ServiceTable) -> Result<(), Error> {
        let mut service = self.services.remove(&number).unwrap_or(Published {
            key: table.key,
            ring: table.ring,
            window: Window { base: 0, first: 0, count: 0 },
            records: BTreeMap::new(),
        });
        let written = self.write_backends(maps, number, table, &mut service);
        self.services.insert(number, service);
        written
    }

    fn write_backends(
        &mut self,
        maps: &mut Maps,
        number: u16,
        table: &ServiceTable,
        service: &mut Published,
    ) -> Result<(), Error> {
        let mut changed = Vec::new();
        for (&host, wanted) in &table.backends {
            let current = service.records.get(&host).map(|&record| (record, maps.backends.get(record)));
            match current {
                Some((record, old)) if Backend { control: wanted.control, ..old } == *wanted => {
                    if opens(Control(old.control), Control(wanted.control)) {
                        set_control(maps, record, wanted.control);
                    }
                }
                _ => {
                    let limit = maps.sizes.backends;
                    let record = self.records.take(1).ok_or(Error::Full { what: "backends", limit })?;
                    // The state changes in its own time; see `settle_controls`.
                    let control = match current {
                        Some((_, old)) if !opens(Control(old.control), Control(wanted.control)) => {
                            old.control
                        }
                        _ => wanted.control,
                    };
                    maps.backends.set(record, Backend { control, ..*wanted });
                    if let Some(old) = service.records.insert(host, record) {
                        self.retired.records.push(old);
                    }
                    changed.push((host, record));
                }
            }
        }
        let covers = |host: &HostId| service.window.pair(*host).is_some();
        if service.records.keys().all(covers) && service.window.count != 0 {
            for (host, record) in changed {
                if let Some(pair) = service.window.pair(host) {
                    // SAFETY: a word of the mapped array.
                    unsafe { store32(maps.pair(pair), record) };
                }
            }
            return Ok(());
        }
        self.move_window(maps, number, service)
    }

    /// A wider window, filled before the service points to it.
    fn move_window(&mut self, maps: &mut Maps, number: u16, service: &mut Published) -> Result<(), Error> {
        let (Some((&first, _)), Some((&last, _))) =
            (service.records.first_key_value(), service.records.last_key_value())
        else {
            return Ok(());
        };
        let count = last - first + 1;
        let limit = maps.sizes.pairs;
        let base = self.pairs.take(u32::from(count)).ok_or(Error::Full { what: "pairs", limit })?;
        let window = Window { base, first, count };
        for offset in 0..count {
            let record = service.records.get(&(first + offset)).copied().unwrap_or(0);
            // SAFETY: a word of the mapped array.
            unsafe { store32(maps.pair(base + u32::from(offset)), record) };
        }
        if service.window.count != 0 {
            self.retired.windows.push(service.window);
        }
        service.window = window;
        // SAFETY: a word of the mapped record.
        unsafe { store64(&raw mut (*maps.services.at(u32::from(number))).window, window.pack()) };
        Ok(())
    }

    /// The service's ring, and the service itself if it is new.
    fn point_to_ring(&mut self, maps: &mut Maps, number: u16, table: &ServiceTable) -> Result<(), Error> {
        let Some(service) = self.services.get_mut(&number) else { return Ok(()) };
        let index = u32::from(number);
        // SAFETY: a word of the mapped record.
        unsafe { store32(&raw mut (*maps.services.at(index)).ring, table.ring) };
        service.ring = table.ring;
        maps.service_numbers.insert(table.key, index, 0).map_err(Error::map("SERVICE_NUMBERS"))
    }

    /// States that close a host to something, and backends that are gone.
    fn settle_controls(&mut self, maps: &Maps, number: u16, table: &ServiceTable) {
        let Some(service) = self.services.get_mut(&number) else { return };
        for (host, wanted) in &table.backends {
            if let Some(&record) = service.records.get(host) {
                set_control(maps, record, wanted.control);
            }
        }
        let gone: Vec<_> =
            service.records.keys().copied().filter(|host| !table.backends.contains_key(host)).collect();
        for host in gone {
            if let (Some(record), Some(pair)) = (service.records.remove(&host), service.window.pair(host)) {
                // SAFETY: a word of the mapped array.
                unsafe { store32(maps.pair(pair), 0) };
                self.retired.records.push(record);
            }
        }
    }

    fn remove_services(&mut self, tables: &Tables) {
        let gone: Vec<_> =
            self.services.keys().copied().filter(|number| !tables.services.contains_key(number)).collect();
        for number in gone {
            if let Some(service) = self.services.remove(&number) {
                self.retired.records.extend(service.records.values());
                self.retired.windows.push(service.window);
            }
        }
    }

    fn retire_rings(&mut self, tables: &Tables) {
        let gone: Vec<_> =
            self.rings.keys().copied().filter(|ring| !tables.rings.contains_key(ring)).collect();
        for ring in gone {
            if let Some(old) = self.rings.remove(&ring) {
                self.retired.copies.push(old.copy);
            }
        }
    }

    fn free_retired(&mut self) {
        let retired = std::mem::take(&mut self.retired);
        for record in retired.records {
            self.records.free(record, 1);
        }
        for window in retired.windows {
            self.pairs.free(window.base, u32::from(window.count));
        }
        for copy in retired.copies {
            self.copies.free(copy, 1);
        }
    }
}

/// Interfaces that lead to backends.
fn egress_of(tables: &Tables) -> BTreeSet<u32> {
    let backends = tables.services.values().flat_map(|service| service.backends.values());
    backends.map(|backend| backend.ifindex).filter(|&index| index != 0).collect()
}

/// Whether a state lets a host do more than before, so that it must be in force before the rings name the host.
fn opens(old: Control, new: Control) -> bool {
    new.state() == HostState::Up && old.state() != HostState::Up
}

fn set_control(maps: &Maps, record: u32, control: u64) {
    // SAFETY: a word of the mapped record.
    unsafe { store64(&raw mut (*maps.backends.at(record)).control, control) };
}
