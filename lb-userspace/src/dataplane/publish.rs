//! Making tables the ones that packets go by, without a packet that sees half of them (C5).
//!
//! New things are written where no packet reads yet; then one word flips to them; after a grace period the old ones
//! are free. Only a backend's control word changes in place. The order is: new records and windows, hosts that come
//! back, rings and new services, *grace period*, hosts that drain, what is no longer needed.

mod found;

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{MapError, xdp::XdpMapError};
use lb_common::layout::{
    BACKENDS, Backend, ClientRing, Control, Egress, HostId, HostState, PAIRS, SLOTS_A_BLOCK, Service,
    ServiceKey, Window,
};

use super::alloc::Numbers;
use super::clients::Clients;
use super::mapped::{store32, store64};
use super::vips::Vips;
use super::ways::Ways;
use super::{Audience, BackendTable, Dataplane, Error, Maps, ServiceTable, Tables, VipKey, grace_period};

/// What a service takes of the table of pairs, for an error.
const SPANS: &str = "places for hosts of services, of which each service takes those from its host with the lowest number to that with the highest,";

/// What is published, and what is free.
pub(super) struct Publisher {
    services: BTreeMap<Who, Published>,
    clients: Clients,
    rings: BTreeMap<u32, PublishedRing>,
    records: Numbers,
    pub(super) pairs: Numbers,
    copies: Numbers,
    /// Out of use, free after the next grace period.
    retired: Retired,
    /// Interfaces that redirects may lead to.
    egress: BTreeSet<u32>,
    ways: Ways,
    vips: Vips,
}

/// A service, all of it or some of its clients.
type Who = (u16, Option<VipKey>);

/// The backends of either, by host.
type Backends = BTreeMap<HostId, BackendTable>;

struct Published {
    keys: Vec<ServiceKey>,
    window: Window,
    /// Host → number of its record.
    records: BTreeMap<HostId, u32>,
}

impl Published {
    /// Whether hosts, records and window are as the table has them, but for states; nearly all services of a publication are.
    fn has_backends_of(&self, maps: &Maps, ways: &Ways, table: &Backends) -> bool {
        let is_same =
            |((host, &record), (wanted_host, wanted)): ((&HostId, &u32), (&HostId, &BackendTable))| {
                host == wanted_host
                    && self.window.pair(*host).is_some()
                    && is_but_for_control(backend(maps, record), ways.record(wanted))
            };
        self.records.len() == table.len()
            && self.window.count != 0
            && self.records.iter().zip(table).all(is_same)
    }

    /// States that let hosts do more than before.
    fn open_controls(&self, maps: &Maps, table: &Backends) {
        for (&record, wanted) in self.records.values().zip(table.values()) {
            let wanted = wanted.record.control;
            if opens(Control(control(maps, record)), Control(wanted)) {
                set_control(maps, record, wanted);
            }
        }
    }
}

/// Whether the records are the same, whatever state they say.
fn is_but_for_control(one: Backend, other: Backend) -> bool {
    Backend { control: 0, ..one } == Backend { control: 0, ..other }
}

struct PublishedRing {
    copy: u32,
    /// What was written.
    slots: Vec<u32>,
}

#[derive(Default)]
struct Retired {
    records: Vec<u32>,
    windows: Vec<Window>,
    copies: Vec<u32>,
}

impl Dataplane {
    /// The backends that are published, by (service, host): those of an earlier daemon after an adoption.
    pub fn published_backends(&self) -> BTreeMap<(u16, HostId), BackendTable> {
        self.publisher.backends(&self.maps).collect()
    }

    /// One of them.
    pub fn published_backend(&self, service: u16, host: HostId) -> Option<BackendTable> {
        let record = self.publisher.services.get(&(service, None))?.records.get(&host)?;
        Some(found::published(&self.maps, *record))
    }

    /// Makes `tables` the ones that packets go by. When it returns, no CPU decides by the ones before.
    ///
    /// # Errors
    /// [`Error::Full`] before anything has changed for packets that are under way; what was published stays in force.
    pub fn publish(&mut self, tables: &Tables) -> Result<(), Error> {
        let (maps, publisher) = (&mut self.maps, &mut self.publisher);
        publisher.allow_egress(maps, tables);
        let ways = ways_of(tables);
        publisher.ways.write(&maps.services, &ways)?;
        publisher.vips.add(maps, tables)?;
        // 1. What no packet reads yet, and windows that cover old and new hosts.
        let mut written = BTreeMap::new();
        if let Err(error) = publisher.prepare(maps, tables, &mut written) {
            for copy in written.into_values() {
                publisher.copies.free(copy, 1);
            }
            return Err(error);
        }
        // 2. The flips.
        for (ring, copy) in written {
            let published = PublishedRing { copy, slots: tables.rings[&ring].clone() };
            if let Some(old) = publisher.rings.insert(ring, published) {
                publisher.retired.copies.push(old.copy);
            }
        }
        // Those of single clients first, so that they are there when their services say that there are some.
        for (&audience, table) in &tables.clients {
            publisher.point_clients_to_ring(maps, audience, table.ring)?;
        }
        for (&number, table) in &tables.services {
            let is_split = tables
                .clients
                .range((number, VipKey::default())..)
                .next()
                .is_some_and(|(who, _)| who.0 == number);
            publisher.point_to_ring(maps, number, table, is_split)?;
        }
        publisher.clients.retain(maps, |audience| tables.clients.contains_key(audience))?;
        publisher.forget_keys(maps, tables);
        // What was taken out of use until here is free after the grace period; what follows waits for the next one.
        grace_period()?;
        publisher.free_retired();
        maps.services.free_gone();
        // 3. Nobody decides by the old rings any more: hosts that get no new flow may say so, and what only old
        //    rings named may go.
        for (who, table) in backends_of(tables) {
            publisher.settle_controls(maps, who, table);
        }
        publisher.remove_services(tables);
        publisher.retire_rings(tables);
        publisher.forget_egress(maps, tables);
        publisher.ways.retain(&ways);
        publisher.vips.retain(maps, tables)?;
        (self.is_directory_new, self.is_filled_first) = (false, false);
        Ok(())
    }
}

impl Publisher {
    /// Writes everything that no packet reads yet; the new copies of rings go to `written`.
    fn prepare(
        &mut self,
        maps: &mut Maps,
        tables: &Tables,
        written: &mut BTreeMap<u32, u32>,
    ) -> Result<(), Error> {
        for (&ring, slots) in &tables.rings {
            if self.rings.get(&ring).is_none_or(|published| published.slots != *slots) {
                written.insert(ring, self.write_ring(maps, slots)?);
            }
        }
        for (&number, table) in &tables.services {
            for key in &table.keys {
                if !maps.services.leads_to(key, number) {
                    maps.services.place_for(key)?;
                }
            }
        }
        for (who, table) in backends_of(tables) {
            if let (number, Some(prefix)) = who {
                self.clients.check_room(&(number, prefix))?;
            }
            self.write_service(maps, who, table)?;
        }
        Ok(())
    }

    /// Lets packets be redirected to the interfaces of `tables`.
    /// All of them each time, as the kernel takes out an interface that goes, and it may come back under its index; but none that is there:
    /// the kernel replaces an entry by taking it out first (`__dev_map_hash_update_elem` in kernel/bpf/devmap.c), and a packet that comes
    /// meanwhile finds none. One that is gone must not keep everything else from being published; its packets are dropped and counted.
    fn allow_egress(&mut self, maps: &mut Maps, tables: &Tables) {
        const BPF_NOEXIST: u64 = 1;
        for ifindex in egress_of(tables) {
            match maps.egress.insert(ifindex, ifindex, None, BPF_NOEXIST) {
                Err(XdpMapError::MapError(MapError::SyscallError(error)))
                    if error.io_error.raw_os_error() == Some(libc::EEXIST) => {}
                Err(error) => log::warn!("cannot redirect to the interface with index {ifindex}: {error}"),
                Ok(()) => {}
            }
            self.egress.insert(ifindex);
        }
    }

    /// Takes out addresses that no service has any more. After the new ones are in: one may have passed from one service to
    /// another.
    fn forget_keys(&mut self, maps: &mut Maps, tables: &Tables) {
        maps.services.retain(&tables.services.values().flat_map(|table| &table.keys).copied().collect());
        for ((number, clients), service) in &mut self.services {
            if let Some(table) = tables.services.get(number).filter(|_| clients.is_none()) {
                service.keys.clone_from(&table.keys);
            }
        }
    }

    /// Forgets interfaces that lead to no backend any more; those that are gone the kernel has taken out itself.
    fn forget_egress(&mut self, maps: &mut Maps, tables: &Tables) {
        let wanted = egress_of(tables);
        for ifindex in self.egress.difference(&wanted) {
            let _ = maps.egress.remove(*ifindex);
        }
        self.egress = wanted;
    }

    fn write_ring(&mut self, maps: &Maps, slots: &[u32]) -> Result<u32, Error> {
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
        Ok(copy)
    }

    /// Records and window of a service; hosts that come back into use do so here, before the rings name them.
    fn write_service(&mut self, maps: &mut Maps, who: Who, table: &Backends) -> Result<(), Error> {
        let mut service = self.services.remove(&who).unwrap_or(Published {
            keys: Vec::new(),
            window: Window { base: 0, first: 0, count: 0 },
            records: BTreeMap::new(),
        });
        let written = self.write_backends(maps, who, table, &mut service);
        self.services.insert(who, service);
        written
    }

    fn write_backends(
        &mut self,
        maps: &mut Maps,
        who: Who,
        table: &Backends,
        service: &mut Published,
    ) -> Result<(), Error> {
        if service.has_backends_of(maps, &self.ways, table) {
            service.open_controls(maps, table);
            return Ok(());
        }
        let current: BTreeMap<HostId, Backend> =
            service.records.iter().map(|(&host, &record)| (host, backend(maps, record))).collect();
        let wanted: BTreeMap<HostId, Backend> =
            table.iter().map(|(&host, table)| (host, self.ways.record(table))).collect();
        let is_same = |host: &HostId, wanted: &Backend| {
            current.get(host).is_some_and(|old| is_but_for_control(*old, *wanted))
        };
        let new: Vec<_> = wanted.iter().filter(|(host, wanted)| !is_same(host, wanted)).collect();
        // Room for all of it first: what is published must not be half of it.
        let records = self.take_records(new.len())?;
        let window = match self.window_for(service, table) {
            Ok(window) => window,
            Err(error) => {
                for record in records {
                    self.records.free(record, 1);
                }
                return Err(error);
            }
        };
        for (&host, wanted) in &wanted {
            if let (Some(old), Some(&record)) = (current.get(&host), service.records.get(&host))
                && is_same(&host, wanted)
                && opens(Control(old.control), Control(wanted.control))
            {
                set_control(maps, record, wanted.control);
            }
        }
        for ((&host, wanted), record) in new.into_iter().zip(records) {
            // The state changes in its own time; see `settle_controls`.
            let control = match current.get(&host) {
                Some(old) if !opens(Control(old.control), Control(wanted.control)) => old.control,
                _ => wanted.control,
            };
            // SAFETY: a record that no packet reads yet.
            unsafe { maps.services.backend(record).write_volatile(Backend { control, ..*wanted }) };
            if let Some(old) = service.records.insert(host, record) {
                self.retired.records.push(old);
            }
            if window.is_none()
                && let Some(pair) = service.window.pair(host)
            {
                // SAFETY: a word of the mapped array.
                unsafe { store32(maps.services.pair(pair), record) };
            }
        }
        if let Some(window) = window {
            self.move_window(maps, who, service, window)?;
        }
        Ok(())
    }

    fn take_records(&mut self, count: usize) -> Result<Vec<u32>, Error> {
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            match self.records.take(1) {
                Some(record) => records.push(record),
                None => {
                    for record in records {
                        self.records.free(record, 1);
                    }
                    return Err(Error::Full { what: "backends", limit: BACKENDS as u32 });
                }
            }
        }
        Ok(records)
    }

    /// A wider window, if the service's does not cover its old and new hosts.
    fn window_for(&mut self, service: &Published, table: &Backends) -> Result<Option<Window>, Error> {
        let hosts: BTreeSet<HostId> = service.records.keys().chain(table.keys()).copied().collect();
        let (Some(&first), Some(&last)) = (hosts.first(), hosts.last()) else { return Ok(None) };
        let is_covered = hosts.iter().all(|&host| service.window.pair(host).is_some());
        if is_covered && service.window.count != 0 {
            return Ok(None);
        }
        let count = last - first + 1;
        let limit = PAIRS as u32;
        let base = self.pairs.take(u32::from(count)).ok_or(Error::Full { what: SPANS, limit })?;
        Ok(Some(Window { base, first, count }))
    }

    /// Fills a window before the service points to it.
    fn move_window(
        &mut self,
        maps: &mut Maps,
        (number, clients): Who,
        service: &mut Published,
        window: Window,
    ) -> Result<(), Error> {
        for offset in 0..window.count {
            let record = service.records.get(&(window.first + offset)).copied().unwrap_or(0);
            // SAFETY: a word of the mapped array.
            unsafe { store32(maps.services.pair(window.base + u32::from(offset)), record) };
        }
        if service.window.count != 0 {
            self.retired.windows.push(service.window);
        }
        service.window = window;
        for key in &service.keys {
            maps.services.set_window(key, number, window);
        }
        let audience = clients.map(|prefix| (number, prefix));
        match audience.and_then(|audience| Some((audience, self.clients.get(&audience)?))) {
            Some((audience, ring)) => {
                self.clients.set(maps, audience, ClientRing { window: window.pack(), ..ring })
            }
            None => Ok(()),
        }
    }

    /// The ring of some clients, and these themselves if they are new.
    fn point_clients_to_ring(&mut self, maps: &mut Maps, audience: Audience, ring: u32) -> Result<(), Error> {
        let who = (audience.0, Some(audience.1));
        let (Some(clients), Some(ring)) = (self.services.get(&who), self.rings.get(&ring)) else {
            return Ok(());
        };
        let block = ring.copy * maps.sizes.blocks_a_ring();
        let ring = ClientRing { window: clients.window.pack(), block, pad: 0 };
        self.clients.set(maps, audience, ring)
    }

    /// The service's ring, and the service itself if it is new or has a new address.
    fn point_to_ring(
        &mut self,
        maps: &mut Maps,
        number: u16,
        table: &ServiceTable,
        is_split: bool,
    ) -> Result<(), Error> {
        let (Some(service), Some(ring)) = (self.services.get(&(number, None)), self.rings.get(&table.ring))
        else {
            return Ok(());
        };
        let split = if is_split { Service::SPLIT } else { 0 };
        let block = (ring.copy * maps.sizes.blocks_a_ring()) | split;
        for &key in &table.keys {
            maps.services.insert(key, table.policy, number, block, service.window)?;
        }
        Ok(())
    }

    /// States that close a host to something, and backends that are gone.
    fn settle_controls(&mut self, maps: &Maps, who: Who, table: &Backends) {
        let Some(service) = self.services.get_mut(&who) else { return };
        for (host, wanted) in table {
            if let Some(&record) = service.records.get(host) {
                set_control(maps, record, wanted.record.control);
            }
        }
        // All of the table's are there by now.
        if service.records.len() == table.len() {
            return;
        }
        let gone: Vec<_> = service.records.keys().copied().filter(|host| !table.contains_key(host)).collect();
        for host in gone {
            if let (Some(record), Some(pair)) = (service.records.remove(&host), service.window.pair(host)) {
                // SAFETY: a word of the mapped array.
                unsafe { store32(maps.services.pair(pair), 0) };
                self.retired.records.push(record);
            }
        }
    }

    fn remove_services(&mut self, tables: &Tables) {
        let is_there = |(number, clients): &Who| match clients {
            Some(prefix) => tables.clients.contains_key(&(*number, *prefix)),
            None => tables.services.contains_key(number),
        };
        let gone: Vec<_> = self.services.keys().copied().filter(|who| !is_there(who)).collect();
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
        self.ways.free_retired();
    }
}

/// The backends of services, and of the clients that they treat apart.
fn backends_of(tables: &Tables) -> impl Iterator<Item = (Who, &Backends)> {
    let services = tables.services.iter().map(|(&number, table)| ((number, None), &table.backends));
    let clients = tables.clients.iter();
    services.chain(clients.map(|(&(number, prefix), table)| ((number, Some(prefix)), &table.backends)))
}

fn ways_of(tables: &Tables) -> BTreeSet<Egress> {
    let backends = backends_of(tables).flat_map(|(_, backends)| backends.values());
    backends.map(|backend| backend.egress).collect()
}

/// Interfaces that lead to backends.
fn egress_of(tables: &Tables) -> BTreeSet<u32> {
    let backends = tables.services.values().flat_map(|service| service.backends.values());
    backends.map(|backend| backend.record.ifindex).filter(|&index| index != 0).collect()
}

/// Whether a state lets a host do more than before, so that it must be in force before the rings name the host.
fn opens(old: Control, new: Control) -> bool {
    new.state() == HostState::Up && old.state() != HostState::Up
}

fn control(maps: &Maps, record: u32) -> u64 {
    // SAFETY: a word of the mapped record.
    unsafe { (&raw const (*maps.services.backend(record)).control).read_volatile() }
}

/// Leaves one alone that is so already: most are, and a store that nobody waits for costs more than a look.
fn set_control(maps: &Maps, record: u32, wanted: u64) {
    if control(maps, record) != wanted {
        // SAFETY: a word of the mapped record.
        unsafe { store64(&raw mut (*maps.services.backend(record)).control, wanted) };
    }
}

fn backend(maps: &Maps, record: u32) -> Backend {
    // SAFETY: a record of the mapping, which only this process writes.
    unsafe { maps.services.backend(record).read_volatile() }
}
