//! Counters that are taken over. Those of the data path are by CPU, and only a CPU itself can add to its own without losing what a packet
//! adds in the same moment. So what a data path before has counted is kept beside them, and added when they are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aya::maps::{IterableMap, MapData};
use lb_common::layout::BackendStats;
use lb_common::reason::{REASONS, Reason};

use super::super::shapes::{self, Kept, Reader, Shape, Shapes};
use super::super::{Error, Mapped, sys};

const STATS: &str = "INHERITED_STATS";
const REASON_COUNTS: &str = "INHERITED_REASONS";

/// Records of [`Inherited::stats`] for each number of counters: what CPUs have counted, and what the daemon has.
const PARTS: u32 = 2;

/// What data paths before have counted. Pinned beside the maps, and there only after something was taken over.
#[derive(Default)]
pub struct Inherited {
    stats: Option<Mapped<BackendStats>>,
    reasons: Option<Mapped<u64>>,
}

impl Inherited {
    /// Opens what lies in a folder of this version's maps.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Inherited { stats: open(folder, STATS)?, reasons: open(folder, REASON_COUNTS)? })
    }

    /// What CPUs and the daemon had counted, by number of the counters. Its gauges are 0: who takes a pin over books it anew.
    pub fn stats(&self, index: u32) -> [BackendStats; PARTS as usize] {
        let part = |part| match &self.stats {
            Some(stats) if index * PARTS + part < stats.len() => stats.get(index * PARTS + part),
            _ => BackendStats::default(),
        };
        [part(0), part(1)]
    }

    /// The number goes to others.
    pub fn forget(&self, index: u32) {
        let Some(stats) = &self.stats else { return };
        for record in index * PARTS..(index + 1) * PARTS {
            if record < stats.len() {
                stats.set(record, BackendStats::default());
            }
        }
    }

    pub fn reason(&self, reason: Reason) -> u64 {
        match &self.reasons {
            Some(counts) if (reason as u32) < counts.len() => counts.load(reason as u32),
            _ => 0,
        }
    }
}

fn open<T: Copy>(folder: &Path, name: &'static str) -> Result<Option<Mapped<T>>, Error> {
    let Some(map) = open_map(folder, name)? else { return Ok(None) };
    let info = map.info().map_err(Error::map(name))?;
    if info.value_size() as usize != size_of::<T>() {
        return Ok(None);
    }
    Mapped::new(map.fd(), name, info.max_entries()).map(Some)
}

fn open_map(folder: &Path, name: &str) -> Result<Option<MapData>, Error> {
    let pin = folder.join(name);
    if !pin.try_exists().map_err(Error::path(&pin))? {
        return Ok(None);
    }
    MapData::from_pin(&pin).map(Some).map_err(Error::map(name))
}

/// Makes room for what is to be inherited, or takes the room along where its counters are kept.
pub fn prepare(from: &Path, to: &Path, stats: Option<u32>, reasons: bool) -> Result<(), Error> {
    match stats {
        Some(numbers) => make::<BackendStats>(to, STATS, numbers * PARTS)?,
        None => take_along(from, to, STATS)?,
    }
    if reasons { make::<u64>(to, REASON_COUNTS, REASONS) } else { take_along(from, to, REASON_COUNTS) }
}

fn make<T: aya::Pod>(folder: &Path, name: &'static str, len: u32) -> Result<(), Error> {
    pin(sys::array::<T>(name, len)?.map(), folder, name)
}

pub fn take_along(from: &Path, to: &Path, name: &str) -> Result<(), Error> {
    match open_map(from, name)? {
        Some(map) => pin(&map, to, name),
        None => Ok(()),
    }
}

fn pin(map: &MapData, folder: &Path, name: &str) -> Result<(), Error> {
    let path = folder.join(name);
    map.pin(&path).map_err(|error| Error::Link { path: path.clone(), message: error.to_string() })
}

/// Takes over what was counted in folders of any version, the latest first, for the maps in `own`. Says the same if it is done again.
///
/// What had been inherited before is that of the earliest: the others' is what the earlier ones have counted.
pub fn inherit(befores: &[PathBuf], own: &Path, to: &Inherited) -> Result<(), Error> {
    let mut stats = BTreeMap::new();
    let mut reasons = BTreeMap::new();
    let mut later = own;
    for (number, folder) in befores.iter().enumerate() {
        let Kept::Known(shapes) = shapes::read(folder)? else { continue };
        let is_earliest = number + 1 == befores.len();
        if !super::is_same_map(folder, later, "BACKEND_STATS")? {
            add_stats(folder, &shapes, is_earliest, &mut stats)?;
        }
        if !super::is_same_map(folder, later, "REASON_COUNTS")? {
            add_reasons(folder, &shapes, is_earliest, &mut reasons)?;
        }
        later = folder;
    }
    // Where nothing was counted elsewhere, what is there stays.
    if let Some(to) = to.stats.as_ref().filter(|_| !stats.is_empty()) {
        for (index, stats) in stats.into_iter().filter(|(index, _)| *index < to.len()) {
            to.set(index, stats);
        }
    }
    if let Some(to) = &to.reasons {
        for (number, count) in reasons.into_iter().filter(|(number, _)| *number < to.len()) {
            to.set(number, count);
        }
    }
    Ok(())
}

/// By number in [`Inherited::stats`].
fn add_stats(
    folder: &Path,
    shapes: &Shapes,
    with_inherited: bool,
    sums: &mut BTreeMap<u32, BackendStats>,
) -> Result<(), Error> {
    let mut add = |name: &'static str, shape: &str, number: &dyn Fn(u32) -> u32| -> Result<(), Error> {
        let (Some(values), Some(shape)) = (Values::open(folder, name)?, shapes.maps.get(shape)) else {
            return Ok(());
        };
        let counters = Counters::of(shape);
        for index in 0..values.entries {
            let sum = sums.entry(number(index)).or_default();
            *sum = plus(*sum, counters.read(&values, index)?);
        }
        Ok(())
    };
    add("BACKEND_STATS", "BACKEND_STATS", &|index| index * PARTS)?;
    add("USER_STATS", "USER_STATS", &|index| index * PARTS + 1)?;
    if with_inherited {
        add(STATS, "USER_STATS", &|index| index)?;
    }
    Ok(())
}

/// By number of the reason.
fn add_reasons(
    folder: &Path,
    shapes: &Shapes,
    with_inherited: bool,
    sums: &mut BTreeMap<u32, u64>,
) -> Result<(), Error> {
    let names = ["REASON_COUNTS", REASON_COUNTS];
    for name in &names[..1 + usize::from(with_inherited)] {
        let Some(values) = Values::open(folder, name)? else { continue };
        for reason in Reason::ALL {
            let number = shapes.reasons.iter().position(|name| name == reason.name());
            let Some(number) = number.map(|number| number as u32).filter(|number| *number < values.entries)
            else {
                continue;
            };
            let word = |value: &[u8]| u64::from_le_bytes(value[..8].try_into().unwrap_or_default());
            let count: u64 = values.get(number)?.chunks_exact(values.stride).map(word).sum();
            *sums.entry(*reason as u32).or_default() += count;
        }
    }
    Ok(())
}

/// An array of any version, or an array by CPU.
struct Values {
    map: MapData,
    entries: u32,
    /// Bytes from one CPU's to the next.
    stride: usize,
    parts: usize,
}

impl Values {
    fn open(folder: &Path, name: &str) -> Result<Option<Values>, Error> {
        let Some(map) = open_map(folder, name)? else { return Ok(None) };
        let info = map.info().map_err(Error::map(name))?;
        let is_by_cpu = info.map_type().is_ok_and(|of| of == aya::maps::MapType::PerCpuArray);
        let cpus =
            aya::util::nr_cpus().map_err(|(_, source)| Error::Syscall { call: "counting CPUs", source })?;
        Ok(Some(Values {
            entries: info.max_entries(),
            stride: info.value_size().next_multiple_of(8) as usize,
            parts: if is_by_cpu { cpus } else { 1 },
            map,
        }))
    }

    fn get(&self, index: u32) -> Result<Vec<u8>, Error> {
        let mut value = vec![0; self.stride * self.parts];
        sys::look_up(&self.map, &index.to_ne_bytes(), &mut value)?;
        Ok(value)
    }
}

/// How to read counters of a shape.
struct Counters {
    packets: Reader,
    bytes: Reader,
    new_flows: Reader,
    evicted: Reader,
    moved: Reader,
    reset: Reader,
    kicked: Reader,
}

impl Counters {
    fn of(shape: &Shape) -> Self {
        let of = |name| Reader::of(shape, name);
        Counters {
            packets: of("packets"),
            bytes: of("bytes"),
            new_flows: of("new_flows"),
            evicted: of("evicted"),
            moved: of("moved"),
            reset: of("reset"),
            kicked: of("kicked"),
        }
    }

    /// Over all CPUs; without gauges.
    fn read(&self, values: &Values, index: u32) -> Result<BackendStats, Error> {
        let value = values.get(index)?;
        let cpus = value.chunks_exact(values.stride);
        Ok(cpus.fold(BackendStats::default(), |sum, value| {
            let stats = BackendStats {
                packets: self.packets.get(value),
                bytes: self.bytes.get(value),
                new_flows: self.new_flows.get(value),
                evicted: self.evicted.get(value),
                moved: self.moved.get(value),
                reset: self.reset.get(value),
                kicked: self.kicked.get(value),
                ..BackendStats::default()
            };
            plus(sum, stats)
        }))
    }
}

fn plus(a: BackendStats, b: BackendStats) -> BackendStats {
    BackendStats {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        new_flows: a.new_flows + b.new_flows,
        evicted: a.evicted + b.evicted,
        moved: a.moved + b.moved,
        reset: a.reset + b.reset,
        kicked: a.kicked + b.kicked,
        ..BackendStats::default()
    }
}
