//! The directory of services and backends, as its only writer sees it; `lb_common::services` reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU16, Ordering};

use lb_common::hash::{DestinationHash, Key};
use lb_common::layout::{Backend, Directory, Egress, PLACES, Policy, PortRange, Service, ServiceKey, Window};
use lb_common::services::{PROBES, probe};

use super::mapped::{store32, store64};
use super::{Error, Mapped};

/// Pointer to an element of an array of the directory; panics if there is no such element.
macro_rules! element {
    ($self:ident.$array:ident[$index:expr]) => {
        // SAFETY: the mapping lives as long as `self`.
        element(unsafe { &raw mut (*$self.memory.at(0)).$array }, $index)
    };
}

/// The directory of a data path, mapped.
pub struct Services {
    memory: Mapped<Directory>,
    key: Key,
    /// Where the records of services are.
    placed: BTreeMap<ServiceKey, u32>,
    /// Places that hold no service any more, but that a packet may still be reading.
    gone: Vec<u32>,
    /// Second records of keys that have one in `placed`, which packets find first. Reading the directory leaves them: whoever does
    /// may do no more than that, beside a daemon that is moving just these records.
    seconds: Vec<u32>,
}

impl Services {
    /// Takes in what is there already. `key` is that of the flow hash.
    pub(super) fn new(memory: Mapped<Directory>, key: Key) -> Self {
        let mut services =
            Services { memory, key, placed: BTreeMap::new(), gone: Vec::new(), seconds: Vec::new() };
        for place in 0..PLACES as u32 {
            let record = services.record(place);
            if record.transport == Service::FREE || record.transport == Service::GONE {
                continue;
            }
            let key = ServiceKey::of_record(&record, services.range(place));
            // A daemon that was killed while an address passed from one service to another left two records: packets find
            // the one that their search meets first.
            let nearer = |one: u32, other: u32| services.steps(&key, one) < services.steps(&key, other);
            let second = match services.placed.get(&key) {
                Some(&first) if nearer(first, place) => Some(place),
                Some(&first) => Some(first),
                None => None,
            };
            if second != Some(place) {
                services.placed.insert(key, place);
            }
            services.seconds.extend(second);
        }
        services
    }

    /// Before anything is written: where the first record of a key goes, its second one would be found.
    fn let_seconds_go(&mut self) {
        for place in std::mem::take(&mut self.seconds) {
            self.set_transport(place, Service::GONE);
            self.gone.push(place);
        }
    }

    /// The same directory, as a daemon finds it that knows nothing of it; for [`super::Dataplane::open_again`].
    pub(super) fn found_again(self) -> Self {
        Services::new(self.memory, self.key)
    }

    /// Everything in the directory is gone, as after a reboot; for tests, once no packet is under way.
    #[doc(hidden)]
    pub fn forget_all(&mut self) {
        // SAFETY: the mapping's element, all of whose fields are integers.
        unsafe { self.memory.at(0).write_bytes(0, 1) };
    }

    /// Records that are in use.
    pub(super) fn in_use(&self) -> usize {
        self.placed.len()
    }

    /// All services with their numbers and records.
    pub fn all(&self) -> impl Iterator<Item = (ServiceKey, u16, Service)> {
        self.placed.iter().map(|(&key, &place)| (key, self.number(place), self.record(place)))
    }

    /// How flows to `key` are treated, if there is such a service.
    pub fn policy(&self, key: &ServiceKey) -> Option<Policy> {
        self.placed.get(key).map(|&place| self.record(place).policy())
    }

    /// Where a new record of `key` goes: behind the one that it has, if any, so that a search meets the old one first for as
    /// long as it is valid.
    ///
    /// # Errors
    /// [`Error::Full`]
    pub(super) fn place_for(&self, key: &ServiceKey) -> Result<u32, Error> {
        let home = self.home(key);
        let first = self.placed.get(key).map_or(0, |&old| self.steps(key, old) + 1);
        (first..PROBES)
            .map(|steps| probe(home, steps))
            .find(|&place| self.is_free(place))
            .ok_or(Error::Full { what: "places for services of one hash", limit: PROBES })
    }

    /// Whether packets to `key` find the service with this number.
    pub(super) fn leads_to(&self, key: &ServiceKey, number: u16) -> bool {
        self.placed.get(key).is_some_and(|&place| self.number(place) == number)
    }

    /// Lets packets to `key` find this service, with the ring that begins at `block`, from now on; in place of another
    /// service if that one had the key.
    ///
    /// # Errors
    /// [`Error::Full`]; then nothing has changed.
    pub(super) fn insert(
        &mut self,
        key: ServiceKey,
        policy: Policy,
        number: u16,
        block: u32,
        window: Window,
    ) -> Result<(), Error> {
        self.let_seconds_go();
        let old = self.placed.get(&key).copied();
        if let Some(place) = old
            && self.number(place) == number
        {
            self.lead_back(&key, number, place);
            let record = self.at(place);
            // SAFETY: words of the mapped record; the window before the ring whose hosts it covers.
            unsafe {
                store64(&raw mut (*record).window, window.pack());
                store32(&raw mut (*record).block, block);
            }
            self.set_transport(place, transport(&key, policy));
            return Ok(());
        }
        let place = self.place_for(&key)?;
        store16(element!(self.numbers[place]), number);
        self.lead_back(&key, number, place);
        let record = self.at(place);
        let range = element!(self.ranges[place]);
        // SAFETY: words of the mapped record and its range. The last one makes it valid.
        unsafe {
            store32(range, PortRange::new(key.first, key.last).0);
            (&raw mut (*record).address).write_volatile(key.place().0);
            store64(&raw mut (*record).window, window.pack());
            store32(&raw mut (*record).block, block);
            store32(&raw mut (*record).transport, transport(&key, policy));
        }
        // Of two records of one key, packets find the first until here, and the new one from here on.
        if let Some(old) = old {
            self.lead_back(&key, self.number(old), place);
            self.remove(&key);
        }
        self.placed.insert(key, place);
        Ok(())
    }

    /// Where the service with this number is found from its pins and its backends' answers.
    fn lead_back(&self, key: &ServiceKey, number: u16, place: u32) {
        if !key.is_reply {
            store16(element!(self.places[u32::from(number)]), place as u16);
        }
    }

    /// Lets packets to all other keys find nothing from now on.
    pub(super) fn retain(&mut self, used: &BTreeSet<ServiceKey>) {
        self.let_seconds_go();
        let gone: Vec<_> = self.placed.keys().copied().filter(|key| !used.contains(key)).collect();
        for key in &gone {
            self.remove(key);
        }
    }

    /// Lets packets to `key` find nothing from now on. A key that is not there is left so.
    pub(super) fn remove(&mut self, key: &ServiceKey) {
        self.let_seconds_go();
        let Some(place) = self.placed.remove(key) else { return };
        self.set_transport(place, Service::GONE);
        self.gone.push(place);
    }

    /// A grace period has passed since the last [`Self::remove`]: no packet reads what went any more.
    pub(super) fn free_gone(&mut self) {
        for mut place in std::mem::take(&mut self.gone) {
            // A search may end where nothing follows; and so may those that only passed places that are gone.
            while self.record(place).transport == Service::GONE
                && self.record(probe(place, 1)).transport == Service::FREE
            {
                self.set_transport(place, Service::FREE);
                place = probe(place, PLACES as u32 - 1);
            }
        }
    }

    /// The service's backends are in this window from now on, if packets find it already.
    pub(super) fn set_window(&self, key: &ServiceKey, number: u16, window: Window) {
        if let Some(&place) = self.placed.get(key)
            && self.number(place) == number
        {
            // SAFETY: a word of the mapped record.
            unsafe { store64(&raw mut (*self.at(place)).window, window.pack()) };
        }
    }

    /// Pair word `index`.
    pub(super) fn pair(&self, index: u32) -> *mut u32 {
        element!(self.pairs[index])
    }

    /// Record of a backend.
    pub fn backend(&self, number: u32) -> *mut Backend {
        element!(self.backends[number])
    }

    /// A way out.
    pub fn egress(&self, number: u32) -> *mut Egress {
        element!(self.egresses[number])
    }

    fn home(&self, key: &ServiceKey) -> u32 {
        let (address, transport) = key.place();
        DestinationHash::of(&address, transport, self.key).place()
    }

    /// Steps from where the key's search begins to a place.
    fn steps(&self, key: &ServiceKey, place: u32) -> u32 {
        place.wrapping_sub(self.home(key)) & (PLACES as u32 - 1)
    }

    fn at(&self, place: u32) -> *mut Service {
        element!(self.services[place])
    }

    fn record(&self, place: u32) -> Service {
        // SAFETY: `at` checked the index.
        unsafe { self.at(place).read_volatile() }
    }

    /// Free, or gone for so long that no packet reads it.
    fn is_free(&self, place: u32) -> bool {
        match self.record(place).transport {
            Service::FREE => true,
            Service::GONE => !self.gone.contains(&place),
            _ => false,
        }
    }

    fn set_transport(&self, place: u32, transport: u32) {
        // SAFETY: a word of the mapped record.
        unsafe { store32(&raw mut (*self.at(place)).transport, transport) };
    }

    fn range(&self, place: u32) -> PortRange {
        let range = element!(self.ranges[place]);
        // SAFETY: an element of the mapping.
        PortRange(unsafe { range.read_volatile() })
    }

    fn number(&self, place: u32) -> u16 {
        let number = element!(self.numbers[place]);
        // SAFETY: an element of the mapping.
        unsafe { number.read_volatile() }
    }
}

/// [`Service::transport`]
fn transport(key: &ServiceKey, policy: Policy) -> u32 {
    key.place().1 | u32::from(policy.0) << 24
}

/// Element of an array of the mapping.
///
/// # Panics
/// If there is no such element.
fn element<T, const N: usize>(array: *mut [T; N], index: u32) -> *mut T {
    assert!((index as usize) < N, "index {index} of {N}");
    // SAFETY: checked.
    unsafe { array.cast::<T>().add(index as usize) }
}

fn store16(word: *mut u16, value: u16) {
    // SAFETY: callers pass elements of the mapping.
    unsafe { AtomicU16::from_ptr(word) }.store(value, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::layout::{SERVICES, Tuple};
    use lb_common::services::find;
    use proptest::prelude::*;
    use std::fs::File;

    /// A file stands in for the map: it is mapped as it is.
    fn memory() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size_of::<Directory>() as u64).unwrap();
        file
    }

    fn open(memory: &File) -> Services {
        Services::new(Mapped::new(memory, "directory", 1).unwrap(), [3, 4])
    }

    fn key(address: u32, port: u16) -> ServiceKey {
        ServiceKey::exact(Tuple::v4(address.to_be()), port, 6)
    }

    const POLICY: Policy = Policy(Policy::CLIENT);
    const WINDOW: Window = Window { base: 7, first: 1, count: 2 };

    /// What a packet to `key` finds: the service's number and its ring's block.
    fn found(services: &Services, key: &ServiceKey) -> Option<(u16, u32)> {
        let (address, transport) = key.place();
        let hash = DestinationHash::of(&address, transport, services.key);
        // SAFETY: mapped.
        let sought = unsafe { find(services.memory.at(0), &address, transport, hash) };
        (!sought.record.is_null())
            .then(|| (services.number(sought.place), services.record(sought.place).block))
    }

    /// Keys whose searches begin at one place or at the next one.
    fn crowd(services: &Services, count: usize) -> Vec<ServiceKey> {
        let home = services.home(&key(1, 1));
        let keys = (0..).map(|address| key(address, 1));
        keys.filter(|key| services.home(key).wrapping_sub(home) < 2).take(count).collect()
    }

    #[test]
    fn ten_thousand_services_of_a_regular_kind_have_room_and_are_found() {
        let mut services = open(&memory());
        let ports = (1..4000).map(|port| key(0xcb00_7101, port));
        let addresses = (0..4000).map(|host| key(0xcb00_7200 + host, 443));
        let v6 =
            (1..2241).map(|low: u64| ServiceKey::exact([0xb80d_0120, low << 56 | low >> 8 << 48], 443, 17));
        let keys: Vec<_> = ports.chain(addresses).chain(v6).collect();
        assert_eq!(keys.len(), SERVICES - 1);
        for (number, &key) in keys.iter().enumerate() {
            services.insert(key, POLICY, number as u16, number as u32 + 1, WINDOW).unwrap();
        }
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(found(&services, key), Some((number as u16, number as u32 + 1)), "{key:?}");
        }
        assert_eq!(found(&services, &key(0xcb00_7101, 4001)), None);
        assert_eq!(found(&services, &ServiceKey { protocol: 17, ..keys[0] }), None);
    }

    #[test]
    fn a_crowd_has_room_for_as_many_as_a_search_visits_and_for_others_when_one_went() {
        let mut services = open(&memory());
        let keys = crowd(&services, PROBES as usize + 2);
        let insert = |services: &mut Services, key| services.insert(key, POLICY, 1, 1, WINDOW);
        let placed: Vec<_> =
            keys.iter().filter(|&&key| insert(&mut services, key).is_ok()).copied().collect();
        assert!(placed.len() >= PROBES as usize && placed.len() < keys.len());
        let left = *keys.iter().find(|key| !placed.contains(key)).unwrap();
        assert!(matches!(insert(&mut services, left), Err(Error::Full { .. })));
        services.remove(&placed[9]);
        assert_eq!(found(&services, &placed[9]), None);
        assert_eq!(found(&services, &placed[10]), Some((1, 1)), "a search goes on behind what went");
        services.free_gone();
        insert(&mut services, placed[9]).unwrap();
        for key in &keys {
            services.remove(key);
        }
        services.free_gone();
        assert!((0..PLACES as u32).all(|place| services.record(place).transport == Service::FREE));
    }

    #[test]
    fn a_record_that_went_is_not_written_before_the_grace_period() {
        let mut services = open(&memory());
        let keys = crowd(&services, 3);
        services.insert(keys[0], POLICY, 1, 1, WINDOW).unwrap();
        let place = services.placed[&keys[0]];
        services.remove(&keys[0]);
        services.insert(keys[1], POLICY, 2, 2, WINDOW).unwrap();
        assert_eq!(services.record(place).address, keys[0].address);
        services.free_gone();
        services.insert(keys[0], POLICY, 3, 3, WINDOW).unwrap();
        assert_eq!(services.placed[&keys[0]], place);
    }

    #[test]
    fn an_address_passes_from_one_service_to_another_whole() {
        let mut services = open(&memory());
        services.insert(key(1, 1), POLICY, 1, 10, WINDOW).unwrap();
        let old = services.placed[&key(1, 1)];
        services.insert(key(1, 1), POLICY, 2, 20, Window { base: 9, ..WINDOW }).unwrap();
        let record = services.record(old);
        assert_eq!(
            (record.block, Window::unpack(record.window), record.transport),
            (10, WINDOW, Service::GONE)
        );
        assert_eq!(found(&services, &key(1, 1)), Some((2, 20)));
    }

    #[test]
    fn a_second_record_of_a_key_goes_when_something_is_written_and_not_by_being_read() {
        let memory = memory();
        let mut services = open(&memory);
        services.insert(key(1, 1), POLICY, 1, 10, WINDOW).unwrap();
        let first = services.placed[&key(1, 1)];
        services.insert(key(1, 1), POLICY, 2, 20, WINDOW).unwrap();
        let second = services.placed[&key(1, 1)];
        // As a daemon leaves it that is killed before the first one goes.
        let valid = services.record(second).transport;
        services.set_transport(first, valid);
        assert_eq!(found(&services, &key(1, 1)), Some((1, 10)));
        let mut after = open(&memory);
        assert_eq!((after.record(first).transport, after.record(second).transport), (valid, valid));
        assert_eq!(after.placed[&key(1, 1)], first);
        after.remove(&key(1, 1));
        assert_eq!(found(&after, &key(1, 1)), None);
        after.free_gone();
        assert!((0..PLACES as u32).all(|place| after.record(place).transport == Service::FREE));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn finds_what_a_map_would(steps in prop::collection::vec((0u8..8, 0usize..24, 0u16..9), 0..120)) {
            let memory = memory();
            let mut services = open(&memory);
            let keys: Vec<_> = crowd(&services, 14).into_iter().chain((1..11).map(|port| key(9, port))).collect();
            let mut model = BTreeMap::new();
            for (what, which, number) in steps {
                match what {
                    0..4 => {
                        services.insert(keys[which], POLICY, number, u32::from(number) + 5, WINDOW).unwrap();
                        model.insert(which, (number, u32::from(number) + 5));
                    }
                    4..6 => {
                        services.remove(&keys[which]);
                        model.remove(&which);
                    }
                    6 => services.free_gone(),
                    // Another daemon takes over.
                    _ => services = open(&memory),
                }
                for (which, key) in keys.iter().enumerate() {
                    prop_assert_eq!(found(&services, key), model.get(&which).copied());
                }
                prop_assert_eq!(services.all().count(), model.len());
            }
        }
    }
}
