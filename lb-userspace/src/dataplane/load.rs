//! Loading the program, with the maps of an earlier daemon if there are any.

use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::MapData;
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};
use aya_log::EbpfLogger;
use aya_obj::Object;
use lb_common::flow::{TIMEOUT_SETS, Timeouts};
use lb_common::hash::Key;
use lb_common::layout::{
    DecisionRecord, FEATURE_TEST_CLOCK, FEATURE_TRACE, HOST_MAX, LAYOUT_VERSION, Settings, state,
};

use super::abilities::{Abilities, Needs};
use super::programs::{self, Programs};
use super::tracing::{self, Tracing};
use super::upgrade::{self, Comparison, Found, Inherited, OTHER_KEY, Transition, Treatment};
use super::{Error, Mapped, Maps, Paths, Sizes, monotonic_seconds, publish::Publisher, shapes};
use crate::bpffs::make_folder;
use crate::objects;

/// What one load of the data path rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub instance: String,
    pub sizes: Sizes,
    pub key: Key,
    /// [`Settings::timeouts`]
    pub timeouts: Timeouts,
    /// [`Settings::udp_gap`]
    pub udp_gap: [u32; TIMEOUT_SETS],
    /// [`Settings::flood_gate`]
    pub flood_gate: u32,
    pub abilities: Abilities,
    /// Time comes from a map: for tests.
    pub test_clock: bool,
    /// The program that records decisions is loaded, see [`Dataplane::decision`]: not for traffic.
    pub records: bool,
}

/// Maps that publications fill, of which each may be another one by itself.
const FILLED: [&str; 4] = ["DIRECTORY", "EGRESS", "OWN", "VIPS"];

/// What comes of a load.
type Loaded = (Ebpf, Programs, Maps);

/// The data path of one instance.
pub struct Dataplane {
    pub(super) ebpf: Ebpf,
    pub maps: Maps,
    pub paths: Paths,
    pub options: Options,
    /// The maps are those of an earlier daemon: pins, counters and published tables in them are alive.
    pub adopted: bool,
    pub(super) publisher: Publisher,
    pub(super) programs: Programs,
    /// Attached in the program's place while somebody traces.
    pub(super) tracing: Option<Tracing>,
    /// What is still to be taken over from the data path that runs, see [`Dataplane::take_over`].
    pub(super) transition: Option<Transition>,
    /// Nothing is known of what is published, as the directory in use is another version's; until the first publication.
    pub is_directory_new: bool,
    /// Maps that publications fill are new, and no packet may go by them before one.
    pub is_filled_first: bool,
    /// Log lines of the program; debug builds have some.
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl Dataplane {
    /// Loads and verifies the program and opens or makes its maps, pinned in bpffs. Nothing is attached yet, and
    /// whatever runs goes on.
    ///
    /// # Errors
    /// [`Error::Incompatible`] when pinned maps differ from what this version needs; they are left as they are.
    pub fn open(options: Options) -> Result<Self, Error> {
        let paths = Paths::of(&options.instance);
        let object = Object::parse(objects::LB).map_err(aya::EbpfError::ParseError)?;
        let identity = identity_of(options.key, options.sizes.ring_size);
        match upgrade::look(&paths, &object, &options.sizes, identity)? {
            Found::Nothing => {
                make_folder(&paths.maps()).map_err(Error::path(paths.maps()))?;
                make_folder(&paths.links()).map_err(Error::path(paths.links()))?;
                shapes::keep(&paths.maps(), &shapes::own())?;
                let opened = Self::load(options, paths.clone(), false);
                if opened.is_err() {
                    // What was pinned before the failure is of no use, and would look like a half-made instance.
                    let _ = super::detach_all(&paths);
                }
                opened
            }
            Found::Same => {
                make_folder(&paths.links()).map_err(Error::path(paths.links()))?;
                shapes::keep(&paths.maps(), &shapes::own())?;
                let mut dataplane = Self::load(options, paths.clone(), true)?;
                dataplane.transition = Transition::resumed(&paths)?;
                Ok(dataplane)
            }
            Found::Other(comparison) => {
                make_folder(&paths.links()).map_err(Error::path(paths.links()))?;
                let opened = Self::open_beside(options, &paths, &comparison);
                if opened.is_err() {
                    let _ = std::fs::remove_dir_all(paths.next());
                }
                opened
            }
        }
    }

    /// Makes new maps beside those in use, with what they hold.
    fn open_beside(options: Options, paths: &Paths, comparison: &Comparison) -> Result<Self, Error> {
        log::info!(
            "the maps in use are not those of this version and config:\n{}",
            comparison.differences.join("\n")
        );
        let next = paths.next();
        upgrade::prepare(paths, &next, comparison, &options.sizes)?;
        let (options, (ebpf, programs, mut maps)) = load_serving(options, &next)?;
        let mut transition = Transition::new(paths, &next)?;
        let now = clock(&maps, &options);
        transition.copy(paths, &mut maps, &options, now)?;
        check_identity(&maps, &options, paths, true, now)?;
        let mut dataplane = Self::new(options, paths.clone(), true, (ebpf, programs, maps));
        dataplane.transition = Some(transition);
        dataplane.is_directory_new = comparison.is("DIRECTORY", Treatment::Anew);
        dataplane.is_filled_first = FILLED.iter().any(|name| comparison.is(name, Treatment::Anew));
        Ok(dataplane)
    }

    fn load(options: Options, paths: Paths, adopted: bool) -> Result<Self, Error> {
        let (options, loaded) = match adopted {
            true => load_serving(options, &paths.maps())?,
            false => load(&options, &paths.maps()).map(|loaded| (options, loaded))?,
        };
        let now = clock(&loaded.2, &options);
        // A daemon that was killed before it came here has made them, and no packet has seen them.
        let adopted = adopted && loaded.2.state.load(state::IDENTITY) != 0;
        check_identity(&loaded.2, &options, &paths, adopted, now)?;
        Ok(Self::new(options, paths, adopted, loaded))
    }

    fn new(options: Options, paths: Paths, adopted: bool, loaded: Loaded) -> Self {
        let (mut ebpf, programs, maps) = loaded;
        // An object without a log statement has no such map.
        let logger = EbpfLogger::init(&mut ebpf).ok();
        let publisher = Publisher::new(&maps);
        Dataplane {
            ebpf,
            maps,
            paths,
            options,
            adopted,
            publisher,
            programs,
            tracing: None,
            transition: None,
            is_directory_new: false,
            is_filled_first: !adopted,
            logger,
        }
    }

    /// Abilities by which a program that takes this one's place knows what is published.
    pub fn serving(&self, abilities: &Abilities) -> Abilities {
        abilities.serving(&Needs::of(&self.maps))
    }

    /// Whether flows may still be known to the data path before alone.
    pub fn is_taking_over(&self) -> bool {
        self.transition.is_some() || self.maps.transition.load(0) != 0
    }

    /// The XDP program that is attached while nobody traces; for test runs.
    pub fn program(&mut self) -> Result<&mut Xdp, Error> {
        programs::attached(&mut self.ebpf, &self.options)
    }

    /// Keeps what it calls for as long as it runs; to be done before that.
    pub(super) fn keep_programs(&mut self) -> Result<(), Error> {
        let attached = programs::attached(&mut self.ebpf, &self.options)?.fd()?.as_fd();
        self.programs.keep(&self.paths, attached)
    }

    /// The XDP program that it calls; for who wants to know how large it is.
    pub fn called_program(&mut self) -> Result<&mut Xdp, Error> {
        programs::called(&mut self.ebpf, &self.options)
    }

    /// How the last packet came to its verdict; all zeros unless decisions are recorded.
    pub fn decision(&self) -> DecisionRecord {
        self.maps.decision.get(0)
    }

    /// What [`Self::open`] does, but for the loading: the next daemon finds what the maps hold by now. A test that has emptied
    /// them says that they are not `adopted`.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[doc(hidden)]
    pub fn open_again(mut self, adopted: bool) -> Result<Self, Error> {
        check_identity(&self.maps, &self.options, &self.paths, adopted, self.now())?;
        self.maps.services = self.maps.services.found_again();
        self.publisher = Publisher::new(&self.maps);
        (self.adopted, self.is_filled_first) = (adopted, !adopted);
        Ok(self)
    }

    /// Passes the program's log lines on to the daemon's log.
    pub fn log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Seconds of the clock that the data path goes by.
    pub fn now(&self) -> u32 {
        clock(&self.maps, &self.options)
    }

    /// Sets the clock of a data path loaded with `test_clock`.
    pub fn set_clock(&self, seconds: u32) {
        self.maps.test_clock.store(0, u64::from(seconds));
    }
}

fn clock(maps: &Maps, options: &Options) -> u32 {
    if options.test_clock { maps.test_clock.load(0) as u32 } else { monotonic_seconds() }
}

/// Loads and verifies the programs with the maps pinned in a folder; those that are not there are made.
fn load(options: &Options, folder: &Path) -> Result<Loaded, Error> {
    let mut ebpf = loader(options, folder, 0, &[])?;
    // Before the maps are taken: the instructions name maps by the descriptors that are open now.
    let programs = Programs::load(&mut ebpf, options)?;
    let mut maps = Maps::take(&mut ebpf, options.sizes, options.key)?;
    maps.inherited = Inherited::open(folder)?;
    Ok((ebpf, programs, maps))
}

/// [`load`], also with what tables need that are published there: packets go by them until something else is published, and those of flows on
/// hosts that have left the config for longer.
fn load_serving(mut options: Options, folder: &Path) -> Result<(Options, Loaded), Error> {
    let maps = Maps::take(&mut loader(&options, folder, 0, &[])?, options.sizes, options.key)?;
    options.abilities = options.abilities.serving(&Needs::of(&maps));
    drop(maps);
    let loaded = load(&options, folder)?;
    Ok((options, loaded))
}

/// The object with the maps pinned in a folder, and `also` with those pinned elsewhere by name, and with further `FEATURE_…` bits; no
/// program is verified yet.
pub(super) fn loader(
    options: &Options,
    folder: &Path,
    features: u32,
    also: &[(&str, &Path)],
) -> Result<Ebpf, Error> {
    let test_clock = if options.test_clock { FEATURE_TEST_CLOCK } else { 0 };
    let settings = ReadOnly(Settings {
        key: options.key,
        ring_size: options.sizes.ring_size,
        bucket_mask: options.sizes.buckets - 1,
        timeouts: options.timeouts,
        keeps: lb_common::table::keeps(&options.timeouts),
        features: options.abilities.features | test_clock | features,
        udp_gap: options.udp_gap,
        layout_version: LAYOUT_VERSION,
        flood_gate: options.flood_gate,
        icmp_rate: options.abilities.icmp_rate,
        mss: options.abilities.mss,
        pad: 0,
        prefixes: options.abilities.masks(),
    });
    let mut loader = EbpfLoader::new();
    loader.override_global("SETTINGS", &settings, true);
    for (name, entries) in options.sizes.entries() {
        loader.map_max_entries(name, entries);
    }
    if features & FEATURE_TRACE != 0 {
        for (name, entries) in tracing::entries()? {
            loader.map_max_entries(name, entries);
        }
    }
    for name in Maps::NAMES {
        loader.map_pin_path(name, folder.join(name));
    }
    for &(name, path) in also {
        loader.map_pin_path(name, path);
    }
    Ok(loader.load(objects::LB)?)
}

/// [`load`] for who only wants to see whether it works.
pub(super) fn load_beside(options: &Options, folder: &Path) -> Result<(Ebpf, Maps, u32), Error> {
    let (options, (ebpf, _, maps)) = load_serving(options.clone(), folder)?;
    let now = clock(&maps, &options);
    Ok((ebpf, maps, now))
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct ReadOnly(Settings);
// SAFETY: a transparent wrapper of a `Pod`.
unsafe impl Pod for ReadOnly {}

/// What pins rest on, in one word; never 0.
pub(super) fn identity_of(key: Key, ring_size: u32) -> u64 {
    (key[0].rotate_left(23) ^ key[1] ^ u64::from(ring_size)).max(1)
}

/// Refuses a hash key that is not the one of the pins that an earlier daemon left, if it left any. To be asked before the
/// key is written down anywhere.
pub fn check_key(instance: &str, key: Key, ring_size: u32) -> Result<(), Error> {
    let paths = Paths::of(instance);
    let pin = paths.map("STATE");
    if !pin.try_exists().map_err(Error::path(&pin))? {
        return Ok(());
    }
    let map = MapData::from_pin(&pin).map_err(Error::map("STATE"))?;
    let info = map.info().map_err(Error::map("STATE"))?;
    if info.value_size() != 8 || info.max_entries() != state::WORDS {
        // Another layout: `Dataplane::open` says all that differs.
        return Ok(());
    }
    let words: Mapped<u64> = Mapped::new(map.fd(), "STATE", state::WORDS)?;
    let found = words.load(state::IDENTITY);
    if found == 0 || found == identity_of(key, ring_size) {
        return Ok(());
    }
    let refusals = vec![OTHER_KEY.to_owned()];
    Err(Error::Incompatible { path: paths.maps(), differences: refusals.clone(), refusals })
}

/// Pins of another hash key or another size of the rings cannot be found again, so they must not be adopted.
fn check_identity(
    maps: &Maps,
    options: &Options,
    paths: &Paths,
    adopted: bool,
    now: u32,
) -> Result<(), Error> {
    let identity = identity_of(options.key, options.sizes.ring_size);
    let found = maps.state.load(state::IDENTITY);
    // New ones have none, whatever was copied into them.
    if !adopted || found == 0 {
        let now = u64::from(now);
        maps.state.store(state::LOST_AT, now);
        for host in 0..=HOST_MAX {
            maps.incomplete_since.store(u32::from(host), now);
        }
        maps.state.store(state::LAYOUT, u64::from(LAYOUT_VERSION));
        // Last: who finds it finds the rest, too.
        maps.state.store(state::IDENTITY, identity);
        return Ok(());
    }
    // What else may differ was compared before.
    if found == identity {
        return Ok(());
    }
    let refusals = vec![OTHER_KEY.to_owned()];
    Err(Error::Incompatible { path: paths.maps(), differences: refusals.clone(), refusals })
}
