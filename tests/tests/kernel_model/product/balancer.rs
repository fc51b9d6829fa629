//! The product without a network: engine, journal and the program in the kernel. Packets go in by test runs, the clock and the
//! next hops are the test's.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use aya::maps::lpm_trie::Key;
use lb_common::layout::{ClientKey, Control, HOST_NONE, HostId, HostState, Slot};
use lb_userspace::api::types::{Applied, DrainRequest, Status, UndrainRequest};
use lb_userspace::dataplane::{Abilities, Dataplane, Sizes};
use lb_userspace::engine::{self, Clock, Engine, How, Resolved, Start, by_phase};
use lb_userspace::journal::{Journal, Kind};
use lb_userspace::model::{Interface, XdpMode};
use lb_userspace::netlink::{NextHop, NextHopState};
use sluice_tests::packets::Packet;
use tokio::sync::watch;

use super::setup::{HOSTS, Setup, backend, key, name, number};
use crate::client::{Client, Service};
use crate::rig::{options, send};
use crate::table::{self, Entry};

thread_local! {
    static SECONDS: Cell<u32> = const { Cell::new(0) };
    static WALL: Cell<u64> = const { Cell::new(0) };
}

/// The clock of the engine that this thread is in.
fn seconds() -> u32 {
    SECONDS.get()
}

/// The wall clock beside it, Unix time.
fn wall() -> u64 {
    WALL.get()
}

/// What packets go by, with hosts by their names' numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub slots: BTreeMap<Service, Vec<Slot>>,
    pub hosts: BTreeMap<HostId, HostState>,
}

type Hops = BTreeMap<IpAddr, NextHopState>;

pub struct Balancer {
    /// `None` before the first life and between two.
    life: Option<Engine>,
    dead: Option<Dataplane>,
    hops: watch::Sender<Hops>,
    folder: tempfile::TempDir,
    lives: u32,
    /// Second of the clock.
    now: u32,
    /// Unix time at second 0 of the clock.
    epoch: u64,
    /// Seconds by which the wall clock was set since.
    set_by: i64,
    /// The product's numbers of hosts → ours.
    hosts: BTreeMap<HostId, HostId>,
    /// Its numbers go down where the names go up.
    backwards: bool,
}

impl Balancer {
    /// A table of `buckets` buckets, and half as many entries in overflow. `backwards`: hosts have other numbers than they have on
    /// other balancers.
    pub fn open(ring: u32, buckets: u32, backwards: bool) -> Balancer {
        let sizes = Sizes { ring_size: ring, ring_copies: 96, stats: 128, buckets, overflow: buckets };
        let timeouts = by_phase(&Setup::new(ring, BTreeMap::new()).model().timeouts);
        let plane = Dataplane::open(options(sizes, timeouts)).expect("the data path loads; needs root");
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Balancer {
            life: None,
            dead: Some(plane),
            hops: watch::channel(Hops::new()).0,
            folder: folder.expect("a folder for the journal"),
            lives: 0,
            now: 0,
            epoch: 0,
            set_by: 0,
            hosts: BTreeMap::new(),
            backwards,
        }
    }

    /// A new machine with a new journal, at this second of its clock and this Unix time.
    pub fn begin(&mut self, setup: &Setup, now: u32, unix: u64) -> Result<(), engine::Error> {
        self.lives += 1;
        for host in 1..=HOSTS {
            self.set_reachable(host, true);
        }
        self.reboot(setup, now, unix)
    }

    /// The machine starts anew: what is left is the journal.
    pub fn reboot(&mut self, setup: &Setup, now: u32, unix: u64) -> Result<(), engine::Error> {
        let mut plane = self.die();
        table::reset(&mut plane.maps);
        plane.maps.services.forget_all();
        self.now = now;
        plane.set_clock(now);
        self.epoch = unix - u64::from(now);
        self.live(plane.open_again(false)?, setup)
    }

    /// The daemon is killed, and another one is started with this config.
    pub fn restart(&mut self, setup: &Setup) -> Result<(), engine::Error> {
        let plane = self.die().open_again(true)?;
        self.live(plane, setup)
    }

    /// As [`Self::restart`], by a daemon of another version, whose directory is new to it.
    pub fn upgrade(&mut self, setup: &Setup) -> Result<(), engine::Error> {
        let mut plane = self.die().open_again(true)?;
        plane.is_directory_new = true;
        self.live(plane, setup)
    }

    fn die(&mut self) -> Dataplane {
        self.life.take().map(Engine::die).or_else(|| self.dead.take()).expect("alive or dead")
    }

    fn live(&mut self, plane: Dataplane, setup: &Setup) -> Result<(), engine::Error> {
        self.show_clocks();
        let clock = Clock::moved_by(seconds, self.epoch).beside(wall);
        let mut journal = Journal::open(&self.journal(), Some(key()), clock.now())?;
        let mut names: Vec<String> = (1..=HOSTS).map(name).collect();
        if self.backwards {
            names.reverse();
        }
        self.hosts = journal.host_ids(&names)?.iter().map(|(name, &id)| (id, number(name))).collect();
        let start = Start {
            instance: plane.options.instance.clone(),
            config: "none".into(),
            text: None,
            model: setup.model(),
            journal,
            next_hops: self.hops.subscribe(),
            abilities: Abilities::default(),
            own: tokio::sync::watch::channel(Default::default()).1,
            awaited: BTreeSet::new(),
            relay: None,
        };
        self.life = Some(start.start_on(plane, clock)?);
        Ok(())
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.folder.path().join(format!("{}.db", self.lives))
    }

    fn show_clocks(&self) {
        SECONDS.set(self.now);
        WALL.set(self.unix().saturating_add_signed(self.set_by));
    }

    pub fn engine(&mut self) -> &mut Engine {
        self.show_clocks();
        self.life.as_mut().expect("it was begun")
    }

    pub fn plane(&mut self) -> &mut Dataplane {
        self.engine().dataplane()
    }

    /// The second that daemon and packets read.
    pub fn set_clock(&mut self, now: u32) {
        self.now = now;
        self.plane().set_clock(now);
    }

    /// Somebody has set the wall clock by so many seconds since the daemon's start.
    pub fn set_wall(&mut self, by: i64) {
        self.set_by = by;
    }

    /// Lets time pass.
    pub fn pass(&mut self, seconds: u32) {
        self.set_clock(self.now + seconds);
    }

    /// Unix time.
    pub fn unix(&self) -> u64 {
        self.epoch + u64::from(self.now)
    }

    /// The daemon learns of it with its next round.
    pub fn set_reachable(&mut self, host: HostId, is_reachable: bool) {
        let mac = [2, 0, 0, 0, 0, host as u8];
        let unplugged = NextHopState::Unresolved { why: "it is unplugged".to_owned() };
        self.set_hop(host, if is_reachable { hop(mac) } else { unplugged });
    }

    /// The host has another MAC address; the daemon learns of it with its next round.
    pub fn set_mac(&mut self, host: HostId, mac: [u8; 6]) {
        self.set_hop(host, hop(mac));
    }

    fn set_hop(&mut self, host: HostId, state: NextHopState) {
        self.hops.send_modify(|hops| drop(hops.insert(backend(host), state)));
    }

    /// The MAC address that packets of a service for the host are sent to.
    pub fn mac(&mut self, service: Service, host: HostId) -> [u8; 6] {
        let id = self.id(host);
        let plane = self.plane();
        let mut all = plane.maps.services.all();
        let (_, number, _) = all.find(|(key, ..)| *key == service.key()).expect("it is published");
        plane.published_backends()[&(number, id)].record.destination_mac
    }

    /// Another config while the daemon runs, under a text that stands for it; with an interface that is not there it cannot be put in
    /// force, which is found out first.
    pub fn apply(
        &mut self,
        setup: &Setup,
        text: &str,
        interface: Option<&str>,
    ) -> Result<Applied, engine::Error> {
        self.apply_for(setup, text, interface, None)
    }

    /// As [`Self::apply`], for so many seconds unless it is confirmed.
    pub fn apply_for(
        &mut self,
        setup: &Setup,
        text: &str,
        interface: Option<&str>,
        confirm: Option<u64>,
    ) -> Result<Applied, engine::Error> {
        let mut model = setup.model();
        let named = |name: &str| Interface { name: name.to_owned(), xdp_mode: XdpMode::Native };
        model.interfaces = interface.map(named).into_iter().collect();
        let how = How {
            kind: Kind::Apply,
            file: text.to_owned(),
            is_own: false,
            confirm,
            about: None,
            dry_run: false,
            author: "test".to_owned(),
            reason: None,
        };
        let new = Resolved {
            text: text.to_owned(),
            model,
            abilities: Abilities::default(),
            awaited: BTreeSet::new(),
            relay: None,
        };
        self.engine().apply(new, &how)
    }

    pub fn drain(&mut self, hosts: &BTreeSet<HostId>) -> Result<(), engine::Error> {
        let request = DrainRequest { hosts: names(hosts), ..DrainRequest::default() };
        self.engine().drain(&request, "test").map(drop)
    }

    pub fn undrain(&mut self, hosts: &BTreeSet<HostId>) -> Result<(), engine::Error> {
        let request = UndrainRequest { hosts: names(hosts), ..UndrainRequest::default() };
        self.engine().undrain(&request, "test").map(drop)
    }

    pub fn status(&mut self) -> Status {
        self.engine().status().expect("counters can be read")
    }

    /// The host that the packet goes to; [`HOST_NONE`] if it is dropped.
    pub fn send(&mut self, packet: &Packet) -> HostId {
        send(self.plane(), packet)
    }

    /// Our number of a host.
    pub fn host(&self, id: HostId) -> HostId {
        self.hosts.get(&id).copied().unwrap_or(HOST_NONE)
    }

    pub fn id(&self, host: HostId) -> HostId {
        let found = self.hosts.iter().find(|(_, of)| **of == host);
        *found.expect("every host has a number").0
    }

    /// Since when the product takes the host's pins for all its flows, Unix time.
    pub fn complete_since(&mut self, host: HostId) -> u64 {
        let id = self.id(host);
        self.epoch + self.plane().incomplete_since(id)
    }

    pub fn entries(&mut self) -> Vec<Entry> {
        table::entries(&self.plane().maps)
    }

    pub fn published(&mut self) -> Published {
        let plane = self.life.as_mut().expect("it was begun").dataplane();
        let ours = |id: HostId| self.hosts.get(&id).copied().unwrap_or(HOST_NONE);
        let backends = plane.published_backends();
        let states =
            backends.iter().map(|(&(_, id), backend)| (ours(id), Control(backend.record.control).state()));
        let hosts: BTreeMap<HostId, HostState> = states.clone().collect();
        for (host, state) in states {
            assert_eq!(hosts[&host], state, "host {host} is the same to all services");
        }
        Published { slots: self.slots(), hosts }
    }

    /// The state of a host for one service.
    pub fn state(&mut self, service: Service, host: HostId) -> HostState {
        let id = self.id(host);
        let plane = self.plane();
        let mut all = plane.maps.services.all();
        let (_, number, _) = all.find(|(key, ..)| *key == service.key()).expect("it is published");
        Control(plane.published_backends()[&(number, id)].record.control).state()
    }

    /// The slots of every service.
    pub fn slots(&mut self) -> BTreeMap<Service, Vec<Slot>> {
        let plane = self.life.as_mut().expect("it was begun").dataplane();
        let ours = |id: HostId| self.hosts.get(&id).copied().unwrap_or(HOST_NONE);
        let maps = &plane.maps;
        let slot = |slot: Slot| {
            if slot.is_open() {
                Slot::open(ours(slot.owner()), ours(slot.previous()))
            } else {
                Slot::settled(ours(slot.owner()))
            }
        };
        let mut slots = BTreeMap::new();
        for service in Service::ALL {
            let mut all = maps.services.all();
            let (.., record) = all.find(|(key, ..)| *key == service.key()).expect("it is published");
            let first = record.block & !lb_common::layout::Service::SPLIT;
            let blocks = first..first + maps.sizes.blocks_a_ring();
            let words = blocks.flat_map(|block| maps.rings.get(block));
            let ring = words.take(maps.sizes.ring_size as usize).map(|word| slot(Slot(word))).collect();
            slots.insert(service, ring);
        }
        slots
    }

    /// The slot that packets of a client go by.
    pub fn slot(&mut self, client: &Client, number: u32) -> Slot {
        let maps = &self.plane().maps;
        let mut all = maps.services.all();
        let (_, service, record) =
            all.find(|(key, ..)| *key == client.service.key()).expect("it is published");
        let key = Key::new(32 + 128, ClientKey::new(service, client.tuple().source));
        let own = maps.clients.get(&key, 0).ok().map(|ring| ring.block);
        let is_split = record.block & lb_common::layout::Service::SPLIT != 0;
        let all = record.block & !lb_common::layout::Service::SPLIT;
        let block = own.filter(|_| is_split).unwrap_or(all) + number / 16;
        Slot(maps.rings.get(block)[number as usize % 16])
    }

    /// Services of which some clients are treated apart, and how many prefixes of clients.
    pub fn apart(&mut self) -> (BTreeSet<Service>, usize) {
        let maps = &self.plane().maps;
        let is_split = |service: &Service| {
            let mut all = maps.services.all();
            let record = all.find(|(key, ..)| *key == service.key()).map(|(.., record)| record);
            record.is_some_and(|record| record.block & lb_common::layout::Service::SPLIT != 0)
        };
        (Service::ALL.into_iter().filter(is_split).collect(), maps.clients.iter().count())
    }
}

fn hop(mac: [u8; 6]) -> NextHopState {
    NextHopState::Resolved(NextHop {
        ifindex: 1,
        interface: "lo".to_owned(),
        tags: [0; 2],
        src_mac: [2, 0, 0, 1, 0, 0],
        dst_mac: mac,
        source: [10, 9, 0, 254].into(),
        mtu: 1500,
        gateway: None,
    })
}

fn names(hosts: &BTreeSet<HostId>) -> Vec<String> {
    hosts.iter().copied().map(name).collect()
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let pins = self.die().paths.pins;
        if let Err(error) = std::fs::remove_dir_all(&pins) {
            eprintln!("{} is left behind: {error}", pins.display());
        }
    }
}
