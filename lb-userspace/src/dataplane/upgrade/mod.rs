//! The data path that takes the place of another: of another version, or with another size of the flow table.
//!
//! 1. New maps are made in a folder beside those in use; maps that are the same are in both.
//! 2. Pins are copied, while the program before makes more of them, and again those that were made or changed meanwhile.
//! 3. The folders change their names, and then the program of each link is swapped in place.
//! 4. After a grace period no packet is in the program before. What it has done since the last look is copied: see [`Transition`] for what
//!    packets find until then. Then its maps go.
//!
//! Until step 3 nothing has changed for any packet, and whatever fails leaves it at that. A daemon that is killed in step 3 or 4 leaves
//! the folder of the maps before, and the next one goes on from there, whatever its version is.

mod books;
mod compare;
mod rehearse;
mod source;
mod switch;
mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aya::maps::MapData;
use aya_obj::Object;
use lb_common::flow::Word;
use lb_common::layout::{HOST_MAX, LAYOUT_VERSION, state};
use lb_common::table;

pub use books::Inherited;
pub use compare::{Comparison, OTHER_KEY, Treatment};
pub use rehearse::{Rehearsal, rehearse};
pub use switch::{Links, Refusal, swap_all};

use super::shapes;
use super::{Error, Mapped, Maps, Options, Paths, Sizes};
use crate::bpffs::make_folder;
use source::{Source, Terms};
use target::{Put, Target};

/// What an instance has in bpffs.
pub enum Found {
    /// Nothing that a packet has seen.
    Nothing,
    /// What this version makes.
    Same,
    /// Something else, that can be taken over.
    Other(Box<Comparison>),
}

/// Looks at what is pinned, and puts away what a daemon before was killed over.
pub fn look(paths: &Paths, object: &Object, sizes: &Sizes, identity: u64) -> Result<Found, Error> {
    tidy(paths)?;
    let there = |name: &&&str| paths.map(name).try_exists().unwrap_or(true);
    let found = Maps::NAMES.iter().filter(there).count();
    let attached = fs::read_dir(paths.links()).is_ok_and(|mut links| links.next().is_some());
    if found == 0 || found != Maps::NAMES.len() && !attached && is_unfinished(paths)? {
        // A daemon was killed while it made them; no packet has seen them.
        if paths.maps().try_exists().map_err(Error::path(paths.maps()))? {
            fs::remove_dir_all(paths.maps()).map_err(Error::path(paths.maps()))?;
        }
        return Ok(Found::Nothing);
    }
    let comparison = compare::compare(&paths.maps(), object, sizes, identity)?;
    if comparison.is_same() {
        return Ok(Found::Same);
    }
    if comparison.refusals.is_empty() {
        return Ok(Found::Other(Box::new(comparison)));
    }
    let Comparison { differences, refusals, .. } = comparison;
    Err(Error::Incompatible { path: paths.maps(), differences, refusals })
}

/// Whether the daemon that made the maps was killed before it had made all of them.
fn is_unfinished(paths: &Paths) -> Result<bool, Error> {
    Ok(shapes::identity(&paths.maps())?.1 == 0)
}

/// Puts away new maps that never came into use, and those of a check that was killed.
fn tidy(paths: &Paths) -> Result<(), Error> {
    let exists = |path: &Path| path.try_exists().map_err(Error::path(path));
    if !exists(&paths.maps())?
        && let Some(before) = paths.befores().first()
    {
        // Killed between the one renaming and the other.
        fs::rename(before, paths.maps()).map_err(Error::path(before))?;
    }
    if exists(&paths.next())? {
        fs::remove_dir_all(paths.next()).map_err(Error::path(paths.next()))?;
    }
    rehearse::tidy(&paths.rehearsal())
}

/// Makes the folder of the new maps, with those in it that are used on.
pub fn prepare(paths: &Paths, folder: &Path, comparison: &Comparison, sizes: &Sizes) -> Result<(), Error> {
    make_folder(folder).map_err(Error::path(folder))?;
    shapes::keep(folder, &shapes::own())?;
    for (name, treatment) in &comparison.maps {
        if *treatment == Treatment::Kept {
            books::take_along(&paths.maps(), folder, name)?;
        }
    }
    let stats = comparison.is("BACKEND_STATS", Treatment::Migrated).then_some(sizes.stats);
    books::prepare(&paths.maps(), folder, stats, comparison.is("REASON_COUNTS", Treatment::Migrated))
}

/// What is still to be taken over from the data path before.
///
/// **What a packet finds between the swap of its link's program and the last copy.** A flow whose pin has been copied goes by it. Of one
/// whose pin was made in the gap:
///
/// - the first packet again, or one in a settled slot: to the owner of the slot, which is where its pin says, too;
/// - one of a TCP flow in a slot in handover: the new program calls the one before, which has the pin, or makes one.
///
/// A pin that was changed in the gap is right in what matters, its host; phase and time follow with the copy, unless a packet was faster.
pub struct Transition {
    /// Flow tables before, the latest first.
    sources: Vec<Source>,
    /// For each of them and each of its words, what was put into the new table for it; 0: nothing.
    put: Vec<Vec<u64>>,
    /// The folder of the new maps, as long as others are in use; `None`: a daemon before has come so far.
    next: Option<PathBuf>,
    pub figures: Figures,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Live pins that were copied, or brought up to date, in each pass.
    pub pins: u64,
    /// Pins without a place in the new table.
    pub no_place: u64,
    pub took: std::time::Duration,
}

impl Transition {
    /// To the maps in `next` from those in use.
    pub fn new(paths: &Paths, next: &Path) -> Result<Self, Error> {
        let mut folders = paths.befores();
        folders.insert(0, paths.maps());
        let transition = Self::from(&folders, next)?;
        Ok(Transition { next: Some(next.to_owned()), ..transition })
    }

    /// One that a daemon was killed over; `None`: there was none.
    pub fn resumed(paths: &Paths) -> Result<Option<Self>, Error> {
        let folders = paths.befores();
        if folders.is_empty() { Ok(None) } else { Self::from(&folders, &paths.maps()).map(Some) }
    }

    fn from(folders: &[PathBuf], to: &Path) -> Result<Self, Error> {
        let mut sources = Vec::new();
        for folder in folders {
            if !is_same_map(folder, to, "HOT")? {
                sources.push(Source::open(folder)?);
            }
        }
        Ok(Transition {
            put: sources.iter().map(|source| vec![0; source.len()]).collect(),
            sources,
            next: None,
            figures: Figures::default(),
        })
    }

    /// Copies what is new or has changed since the last pass.
    fn pass(
        &mut self,
        maps: &mut Maps,
        options: &Options,
        now: u32,
        is_in_use: bool,
    ) -> Result<Figures, Error> {
        let started = Instant::now();
        let terms = Terms { key: options.key, timeouts: &options.timeouts, now };
        let mut target = Target {
            maps,
            timeouts: options.timeouts,
            keeps: table::keeps(&options.timeouts),
            now,
            is_in_use,
        };
        let mut figures = Figures::default();
        // Of that one [`Self::copy`] looks at the figures.
        let is_first = self.next.is_some() && self.figures.pins == 0 && !is_in_use;
        for (number, (source, put)) in self.sources.iter_mut().zip(&mut self.put).enumerate() {
            source.changed(terms, |index, pin| {
                let last = index.map(|index| put[index as usize]).filter(|word| *word != 0).map(Word);
                // A table further back knows less of a flow than a later one.
                if number > 0 && last.is_none() && target.has(&pin) {
                    return;
                }
                figures.pins += 1;
                match target.put(&pin, last) {
                    Put::There(word) => {
                        if let (Some(index), Some(word)) = (index, word) {
                            put[index as usize] = word.0;
                        }
                    }
                    Put::Left => {}
                    Put::NoPlace => {
                        figures.no_place += 1;
                        if !is_first {
                            target.lost(Word(pin.entry.word).host());
                        }
                    }
                }
            })?;
        }
        figures.took = started.elapsed();
        self.figures.pins += figures.pins;
        self.figures.no_place += figures.no_place;
        self.figures.took += figures.took;
        Ok(figures)
    }

    /// The first copy, and the state that goes with it.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if not all live flows have a place.
    pub fn copy(&mut self, paths: &Paths, maps: &mut Maps, options: &Options, now: u32) -> Result<(), Error> {
        let Some(next) = &self.next else { return Ok(()) };
        self.take_state(&paths.maps(), next, maps)?;
        let figures = self.pass(maps, options, now, false)?;
        let room = u64::from(maps.sizes.words() / 2);
        let live = target::live(maps, &options.timeouts, now) + figures.no_place;
        if !self.sources.is_empty() && (figures.no_place > 0 || live > room) {
            return Err(Error::NoRoom { live, room, no_place: figures.no_place });
        }
        Ok(())
    }

    /// Words that data path and daemon share: the later of each.
    fn take_state(&self, from: &Path, to: &Path, maps: &Maps) -> Result<(), Error> {
        if let Some(words) = array(from, "STATE")?
            && words.len() > state::IDENTITY
            && !is_same_map(from, to, "STATE")?
        {
            let lost = words.load(state::LOST_AT).max(maps.state.load(state::LOST_AT));
            maps.state.store(state::LOST_AT, lost);
            maps.state.store(state::LAYOUT, u64::from(LAYOUT_VERSION));
            maps.state.store(state::IDENTITY, words.load(state::IDENTITY));
        }
        if let Some(seconds) = array(from, "INCOMPLETE_SINCE")?
            && !is_same_map(from, to, "INCOMPLETE_SINCE")?
        {
            for host in 0..seconds.len().min(u32::from(HOST_MAX) + 1) {
                let since = seconds.load(host).max(maps.incomplete_since.load(host));
                maps.incomplete_since.store(host, since);
            }
        }
        Ok(())
    }
}

/// Whether two folders have the same map under a name.
fn is_same_map(one: &Path, other: &Path, name: &str) -> Result<bool, Error> {
    let id = |folder: &Path| -> Result<Option<u32>, Error> {
        let pin = folder.join(name);
        if !pin.try_exists().map_err(Error::path(&pin))? {
            return Ok(None);
        }
        let info = MapData::from_pin(&pin).and_then(|map| map.info()).map_err(Error::map(name))?;
        Ok(Some(info.id()))
    };
    let id_of_one = id(one)?;
    Ok(id_of_one.is_some() && id_of_one == id(other)?)
}

/// A pinned array of words; `None`: there is none of that kind.
fn array(folder: &Path, name: &'static str) -> Result<Option<Mapped<u64>>, Error> {
    let pin = folder.join(name);
    if !pin.try_exists().map_err(Error::path(&pin))? {
        return Ok(None);
    }
    let map = MapData::from_pin(&pin).map_err(Error::map(name))?;
    let info = map.info().map_err(Error::map(name))?;
    if info.value_size() != 8 {
        return Ok(None);
    }
    Mapped::new(map.fd(), name, info.max_entries()).map(Some)
}
