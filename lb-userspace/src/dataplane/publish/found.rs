//! What an earlier daemon published.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{BACKENDS, Backend, HostId, PAIRS, Service, ServiceKey, Window};

use super::super::alloc::Numbers;
use super::super::clients::Clients;
use super::super::vips::Vips;
use super::super::ways::{Ways, way};
use super::super::{BackendTable, Maps};
use super::{Published, Publisher, Retired, Who, backend};

impl Publisher {
    /// Finds what an earlier daemon published, so that nothing of it is overwritten.
    pub fn new(maps: &Maps) -> Self {
        let mut publisher = Publisher {
            services: BTreeMap::new(),
            clients: Clients::find(maps),
            rings: BTreeMap::new(),
            records: Numbers::new(BACKENDS as u32),
            pairs: Numbers::new(PAIRS as u32),
            copies: Numbers::new(maps.sizes.ring_copies),
            retired: Retired::default(),
            egress: BTreeSet::new(),
            ways: Ways::new(),
            vips: Vips::default(),
        };
        publisher.vips.find(maps);
        // Number 0 means "no backend".
        publisher.records.claim(0, 1);
        for (key, number, service) in maps.services.all() {
            publisher.find_service(maps, key, number, service);
        }
        for ((number, prefix), ring) in publisher.clients.all().collect::<Vec<_>>() {
            let who = (number, Some(prefix));
            publisher.find_copy(maps, ring.block);
            publisher.find_backends(maps, who, Window::unpack(ring.window));
        }
        publisher
    }

    /// One record of a service; a service may have several, which lead to the same backends.
    fn find_service(&mut self, maps: &Maps, key: ServiceKey, number: u16, service: Service) {
        self.find_copy(maps, service.block & !Service::SPLIT);
        let who = (number, None);
        self.find_backends(maps, who, Window::unpack(service.window));
        if let Some(published) = self.services.get_mut(&who) {
            published.keys.push(key);
        }
    }

    /// The first publication writes all rings anew; after it nobody goes by this copy.
    fn find_copy(&mut self, maps: &Maps, block: u32) {
        let copy = block / maps.sizes.blocks_a_ring();
        if !self.retired.copies.contains(&copy) {
            self.copies.claim(copy, 1);
            self.retired.copies.push(copy);
        }
    }

    fn find_backends(&mut self, maps: &Maps, who: Who, window: Window) {
        let is_first = !self.services.contains_key(&who);
        let published = self.services.entry(who).or_insert(Published {
            keys: Vec::new(),
            window,
            records: BTreeMap::new(),
        });
        if !is_first && published.window == window {
            return;
        }
        self.pairs.claim(window.base, u32::from(window.count));
        if !is_first {
            // A daemon was killed between the one and the other.
            self.retired.windows.push(window);
        }
        for offset in 0..window.count {
            // SAFETY: a word of the mapped array.
            let record = unsafe { maps.services.pair(window.base + u32::from(offset)).read_volatile() };
            if record == 0 {
                continue;
            }
            self.records.claim(record, 1);
            self.ways.find(&maps.services, backend(maps, record).egress);
            if *published.records.entry(window.first + offset).or_insert(record) != record {
                self.retired.records.push(record);
            }
        }
    }

    /// What packets find the services by.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.values().flat_map(|service| &service.keys)
    }

    /// The backends, by (service, host).
    pub fn backends(&self, maps: &Maps) -> impl Iterator<Item = ((u16, HostId), BackendTable)> {
        let services = self.services.iter().filter(|((_, clients), _)| clients.is_none());
        services.flat_map(move |(&(number, _), service)| {
            service.records.iter().map(move |(&host, &record)| ((number, host), published(maps, record)))
        })
    }
}

/// A backend by its record, without the publisher's number of its way out.
pub(super) fn published(maps: &Maps, record: u32) -> BackendTable {
    let record = backend(maps, record);
    BackendTable { record: Backend { egress: 0, ..record }, egress: way(&maps.services, record.egress) }
}
