//! The description of an instance's maps, in a map of its own beside them: bpffs holds nothing else.

use std::path::Path;

use aya::maps::{IterableMap, MapData};
use lb_common::layout::state;

use super::super::Error;
use super::super::mapped::Mapped;
use super::{Shapes, past};

/// Name of the pin.
const NAME: &str = "SHAPES";

/// What is known of pinned maps.
pub enum Kept {
    Known(Box<Shapes>),
    /// They have no description, and their layout's number is none that is known here.
    Unknown {
        layout: u64,
    },
}

/// Pins a description in the folder, unless there is one.
pub fn keep(folder: &Path, shapes: &Shapes) -> Result<(), Error> {
    let pin = folder.join(NAME);
    if pin.try_exists().map_err(Error::path(&pin))? {
        return Ok(());
    }
    let text = serde_json::to_vec(shapes)
        .map_err(|error| Error::Path { path: pin.clone(), source: std::io::Error::other(error) })?;
    // The length first.
    let len = 1 + text.len().div_ceil(8) as u32;
    let array = super::super::sys::array::<u64>(NAME, len)?;
    let map = array.map();
    let words: Mapped<u64> = Mapped::new(map.fd(), NAME, len)?;
    words.set(0, text.len() as u64);
    for (index, chunk) in (1..).zip(text.chunks(8)) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        words.set(index, u64::from_le_bytes(word));
    }
    map.pin(&pin).map_err(|error| Error::Link { path: pin.clone(), message: error.to_string() })
}

/// What the maps in a folder hold: as their description says, or as is known of their layout.
pub fn read(folder: &Path) -> Result<Kept, Error> {
    if let Some(shapes) = described(&folder.join(NAME))? {
        return Ok(Kept::Known(Box::new(shapes)));
    }
    let layout = match words(&folder.join("STATE"))? {
        Some(words) if words.len() > state::LAYOUT => words.load(state::LAYOUT),
        _ => 0,
    };
    Ok(match past(layout) {
        Some(shapes) => Kept::Known(Box::new(shapes)),
        None => Kept::Unknown { layout },
    })
}

fn described(pin: &Path) -> Result<Option<Shapes>, Error> {
    let Some(words) = words(pin)? else { return Ok(None) };
    let bytes: Vec<u8> = (1..words.len()).flat_map(|index| words.load(index).to_le_bytes()).collect();
    let text = bytes.get(..words.load(0) as usize).unwrap_or_default();
    // Of a daemon that was killed while it wrote it, before it made anything else; or of one that writes it in another way.
    Ok(serde_json::from_slice(text).ok())
}

/// A pinned array of words; `None`: there is none.
fn words(pin: &Path) -> Result<Option<Mapped<u64>>, Error> {
    if !pin.try_exists().map_err(Error::path(pin))? {
        return Ok(None);
    }
    let name = pin.display().to_string();
    let map = MapData::from_pin(pin).map_err(Error::map(&name))?;
    let info = map.info().map_err(Error::map(&name))?;
    if info.value_size() != 8 || info.max_entries() == 0 {
        return Ok(None);
    }
    Mapped::new(map.fd(), NAME, info.max_entries()).map(Some)
}

/// Number of the layout and identity of the maps in a folder; 0: none has been noted yet.
pub fn identity(folder: &Path) -> Result<(u64, u64), Error> {
    Ok(match words(&folder.join("STATE"))? {
        Some(words) if words.len() > state::IDENTITY => {
            (words.load(state::LAYOUT), words.load(state::IDENTITY))
        }
        _ => (0, 0),
    })
}
