//! The pins of a flow table of another size or another version, read while its program writes it.

use std::collections::HashMap;
use std::path::Path;

use aya::maps::MapData;
use lb_common::flow::{Phase, Timeouts, Word};
use lb_common::hash::{FlowHash, Key};
use lb_common::layout::{Cold, Overflow, Tuple};

use super::super::shapes::{self, Kept, Reader, Shape, Shapes};
use super::super::{Error, Mapped, sys};

/// Fields without which a pin is none.
const WORD: [&str; 4] = ["phase", "set", "host", "seen"];
const RECORD: [&str; 9] =
    ["source", "destination", "ports", "protocol", "service", "sequence", "start", "stats", "slot"];
/// Counters without which gauges cannot be told.
const COUNTERS: [&str; 2] = ["entered", "left"];

/// Why the pins and counters in a folder cannot be read; none: they can.
pub fn refusals(folder: &Path, shapes: Option<&Shapes>) -> Result<Vec<String>, Error> {
    let Some(shapes) = shapes else {
        return Ok(vec!["  how its pins are laid out is not known to this version".to_owned()]);
    };
    let own = shapes::own();
    let mut lines = Vec::new();
    let needs: [(&str, &[&[&str]]); 5] = [
        ("HOT", &[&WORD]),
        ("COLD", &[&RECORD]),
        ("OVERFLOW", &[&WORD, &RECORD]),
        ("BACKEND_STATS", &[&COUNTERS]),
        ("USER_STATS", &[&COUNTERS]),
    ];
    for (name, fields) in needs {
        let pin = folder.join(name);
        if !pin.try_exists().map_err(Error::path(&pin))? {
            lines.push(format!("  {name} is not there"));
            continue;
        }
        let info = MapData::from_pin(&pin).and_then(|map| map.info()).map_err(Error::map(name))?;
        match shapes.maps.get(name) {
            None => lines.push(format!("  {name}: what its values hold is not known to this version")),
            Some(shape) if shape.bytes != info.value_size() => lines.push(format!(
                "  {name}: its values have {} bytes, those of layout {} have {}",
                info.value_size(),
                shapes.layout,
                shape.bytes
            )),
            Some(shape) if shape.meaning != own.maps[name].meaning => {
                lines.push(format!("  {name}: what its values mean has changed, and cannot be translated"));
            }
            Some(shape) => {
                let missing =
                    fields.iter().flat_map(|names| names.iter()).filter(|name| shape.field(name).is_none());
                lines.extend(missing.map(|field| format!("  {name}: it has no {field}")));
            }
        }
        if matches!(name, "HOT" | "COLD" | "USER_STATS") && info.map_flags() & sys::BPF_F_MMAPABLE == 0 {
            lines.push(format!("  {name}: it cannot be mapped into memory"));
        }
        if name == "OVERFLOW" && info.key_size() as usize != size_of::<Tuple>() {
            lines.push(format!("  {name}: its keys have {} bytes", info.key_size()));
        }
    }
    Ok(lines)
}

/// How to read a word.
struct Words {
    phase: Reader,
    set: Reader,
    host: Reader,
    seen: Reader,
    tag: Reader,
}

impl Words {
    fn of(shape: &Shape) -> Self {
        let [phase, set, host, seen] = WORD.map(|name| Reader::of(shape, name));
        Words { phase, set, host, seen, tag: Reader::of(shape, "tag") }
    }
}

/// How to read a cold record.
struct Records {
    fields: [Reader; 9],
    answered: Reader,
}

impl Records {
    fn of(shape: &Shape) -> Self {
        Records {
            fields: RECORD.map(|name| Reader::of(shape, name)),
            answered: Reader::of(shape, "answered"),
        }
    }

    fn read(&self, value: &[u8]) -> Cold {
        let [source, destination, ports, protocol, service, sequence, start, stats, slot] =
            self.fields.each_ref();
        let pair = |of: &Reader| [of.get_at(value, 0), of.get_at(value, 1)];
        let answered = if self.answered.get(value) != 0 { Cold::ANSWERED } else { 0 };
        Cold {
            source: pair(source),
            destination: pair(destination),
            ports: ports.get(value) as u32,
            kind: protocol.get(value) as u32 & 0xff | (service.get(value) as u32) << 16 | answered,
            sequence: sequence.get(value) as u32,
            start: start.get(value) as u32,
            stats: stats.get(value) as u32,
            slot: slot.get(value) as u32,
            #[cfg(feature = "layout-next")]
            more: 0,
        }
    }
}

/// A flow table that pins are taken out of.
pub struct Source {
    hot: Mapped<u64>,
    cold: Mapped<u64>,
    /// Words of a record.
    stride: u32,
    overflow: MapData,
    overflow_bytes: usize,
    words: Words,
    records: Records,
    overflow_words: Words,
    overflow_records: Records,
    /// Words as they were when they were last looked at.
    looked_at: Vec<u64>,
    /// The same of the overflow map.
    overflow_looked_at: HashMap<Tuple, u64>,
}

/// What a pin is to be in another table.
pub struct Taken {
    pub tuple: Tuple,
    pub hash: FlowHash,
    pub entry: Overflow,
}

/// What the taking needs to know.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub key: Key,
    pub timeouts: &'a Timeouts,
    pub now: u32,
}

impl Source {
    /// Opens the table in a folder that [`refusals`] has nothing against.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let refused = |lines: Vec<String>| Error::Incompatible {
            path: folder.to_owned(),
            differences: lines.clone(),
            refusals: lines,
        };
        let shapes = match shapes::read(folder)? {
            Kept::Known(shapes) => *shapes,
            Kept::Unknown { layout } => {
                return Err(refused(vec![format!("  layout {layout} is not known to this version")]));
            }
        };
        let lines = refusals(folder, Some(&shapes))?;
        if !lines.is_empty() {
            return Err(refused(lines));
        }
        let open = |name: &'static str| -> Result<(MapData, u32, u32), Error> {
            let map = MapData::from_pin(folder.join(name)).map_err(Error::map(name))?;
            let info = map.info().map_err(Error::map(name))?;
            Ok((map, info.value_size(), info.max_entries()))
        };
        let mapped = |name: &'static str| -> Result<(Mapped<u64>, u32), Error> {
            let (map, bytes, entries) = open(name)?;
            let stride = bytes.div_ceil(8);
            Ok((Mapped::new(map.fd(), name, entries * stride)?, stride))
        };
        let ((hot, _), (cold, stride)) = (mapped("HOT")?, mapped("COLD")?);
        let (overflow, bytes, _) = open("OVERFLOW")?;
        let shape = |name: &str| &shapes.maps[name];
        Ok(Source {
            looked_at: vec![0; hot.len().min(cold.len() / stride) as usize],
            hot,
            cold,
            stride,
            overflow,
            overflow_bytes: bytes as usize,
            words: Words::of(shape("HOT")),
            records: Records::of(shape("COLD")),
            overflow_words: Words::of(shape("OVERFLOW")),
            overflow_records: Records::of(shape("OVERFLOW")),
            overflow_looked_at: HashMap::new(),
        })
    }

    /// Words that it has.
    pub fn len(&self) -> usize {
        self.looked_at.len()
    }

    /// Hands over each pin that is new, or another than it was, since the last call, with where it lies; `None`: in the overflow map.
    /// Pins that nobody needs any more are left out.
    pub fn changed(
        &mut self,
        terms: Terms<'_>,
        mut each: impl FnMut(Option<u32>, Taken),
    ) -> Result<(), Error> {
        let mut bytes = vec![0; self.stride as usize * 8];
        for index in 0..self.looked_at.len() as u32 {
            let raw = self.hot.load(index);
            if raw == self.looked_at[index as usize] {
                continue;
            }
            let Some(word) = self.words.pin(&raw.to_le_bytes(), terms) else {
                self.looked_at[index as usize] = raw;
                continue;
            };
            for (offset, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
                chunk.copy_from_slice(&self.cold.get(index * self.stride + offset).to_le_bytes());
            }
            // Who makes a pin in its place reserves the word first, and writes the record then. A later packet of the same flow
            // changes the word as well; both have their turn when it is looked at again.
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            if self.hot.load(index) != raw && !self.is_same_pin(self.hot.load(index), raw) {
                continue;
            }
            self.looked_at[index as usize] = raw;
            each(Some(index), taken(word, self.records.read(&bytes), terms));
        }
        self.changed_in_overflow(terms, each)
    }

    /// Whether both words are of one flow at one host.
    fn is_same_pin(&self, word: u64, other: u64) -> bool {
        let Words { phase, host, tag, .. } = &self.words;
        let [word, other] = [word, other].map(u64::to_le_bytes);
        Phase::from_bits(phase.get(&word) as u8).is_pin()
            && (host.get(&word), tag.get(&word)) == (host.get(&other), tag.get(&other))
    }

    fn changed_in_overflow(
        &mut self,
        terms: Terms<'_>,
        mut each: impl FnMut(Option<u32>, Taken),
    ) -> Result<(), Error> {
        let mut key = [0; size_of::<Tuple>()];
        let mut value = vec![0; self.overflow_bytes];
        let mut keys = Vec::new();
        let mut last: Option<[u8; size_of::<Tuple>()]> = None;
        // An entry that goes while the map is walked lets the walk begin anew: not for ever.
        while keys.len() < 4 << 20
            && sys::next_key(&self.overflow, last.as_ref().map(|key| &key[..]), &mut key)?
        {
            keys.push(key);
            last = Some(key);
        }
        for key in keys {
            if !sys::look_up(&self.overflow, &key, &mut value)? {
                continue;
            }
            let mut raw = [0; 8];
            raw.copy_from_slice(&value[..8]);
            let raw = u64::from_le_bytes(raw);
            let Some(word) = self.overflow_words.pin(&value, terms) else { continue };
            let taken = taken(word, self.overflow_records.read(&value), terms);
            if self.overflow_looked_at.insert(taken.tuple, raw) != Some(raw) {
                each(None, taken);
            }
        }
        Ok(())
    }
}

impl Words {
    /// The word as this version has it, without its tag; `None`: it is no pin, or one of a flow that has ended.
    fn pin(&self, word: &[u8], terms: Terms<'_>) -> Option<Word> {
        let phase = Phase::from_bits(self.phase.get(word) as u8);
        if !phase.is_pin() {
            return None;
        }
        let mask = (1u64 << self.seen.bits()) - 1;
        let idle = u64::from(terms.now).wrapping_sub(self.seen.get(word)) & mask;
        // A difference in the upper half is a clock reading that is a moment older than the word's.
        let idle = if idle > mask / 2 { 0 } else { idle as u32 };
        let word = Word::new(0, self.host.get(word) as u16, phase, terms.now.wrapping_sub(idle))
            .with_set(self.set.get(word) as u8);
        // A closing pin may be all that keeps its flow where it is, for the long timeout: see `Kept::find` of the data path.
        let limit = match phase {
            Phase::Closing => word.limit_as(Phase::Established),
            _ => word.limit(),
        };
        (idle <= terms.timeouts[limit]).then_some(word)
    }
}

fn taken(word: Word, cold: Cold, terms: Terms<'_>) -> Taken {
    let tuple = cold.tuple();
    let hash = FlowHash::of(&tuple, terms.key);
    let tagged = Word::new(hash.tag(), word.host(), word.phase(), 0).0;
    // All but the tag comes from the word.
    let word = tagged & !((1 << lb_common::flow::TAG_SHIFT) - 1) | word.0;
    Taken { tuple, hash, entry: Overflow { word, cold } }
}
