//! Pinned maps compared with what this version needs: every difference, and what can be done about each.
//!
//! aya opens a pinned map without a look at its layout, and a map of another layout under the same name would be
//! memory corruption.

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::MapData;
use aya_obj::Object;
use lb_common::layout::LAYOUT_VERSION;

use super::super::shapes::{self, Kept, Shape, Shapes};
use super::super::{Error, Maps, Sizes};
use super::source;

/// What becomes of a pinned map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// It is used on.
    Kept,
    /// A new one takes its place, with what it holds.
    Migrated,
    /// A new one takes its place, and config and journal say what it holds.
    Anew,
}

/// Pinned maps beside what this version needs.
pub struct Comparison {
    /// Number of their layout; 0: not known.
    pub layout: u64,
    /// Every difference, a line each.
    pub differences: Vec<String>,
    /// Why they cannot be taken over; none: they can.
    pub refusals: Vec<String>,
    pub maps: BTreeMap<&'static str, Treatment>,
    /// What they hold, as far as it is known.
    pub shapes: Option<Shapes>,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && self.refusals.is_empty()
    }

    pub fn is(&self, map: &str, treatment: Treatment) -> bool {
        self.maps.get(map) == Some(&treatment)
    }
}

/// Maps that are of use together only: if one of them is another, all are.
const TOGETHER: [(&[&str], Treatment); 2] = [
    // The books go with the table: who makes a pin books it.
    (&["HOT", "COLD", "MARKS", "OVERFLOW", "BACKEND_STATS", "USER_STATS"], Treatment::Migrated),
    (&["DIRECTORY", "RINGS", "CLIENTS"], Treatment::Anew),
];

/// Maps whose contents are taken over one by one.
const MIGRATED: [&str; 3] = ["STATE", "INCOMPLETE_SINCE", "REASON_COUNTS"];

/// `BPF_F_RDONLY_PROG`, which the kernel adds to device maps by itself.
const IMPLIED_FLAGS: u32 = 1 << 7;

/// Compares the maps in `folder`, which were made by any version, with those of `object` in these sizes.
pub fn compare(folder: &Path, object: &Object, sizes: &Sizes, identity: u64) -> Result<Comparison, Error> {
    let found = shapes::identity(folder)?;
    let (layout, shapes) = match shapes::read(folder)? {
        Kept::Known(shapes) => (u64::from(shapes.layout), Some(*shapes)),
        Kept::Unknown { layout } => (layout, None),
    };
    let own = shapes::own();
    let mut comparison =
        Comparison { layout, differences: Vec::new(), refusals: Vec::new(), maps: BTreeMap::new(), shapes };
    if layout != u64::from(LAYOUT_VERSION) {
        comparison
            .differences
            .push(format!("  layout version is {layout}, this version needs {LAYOUT_VERSION}"));
    }
    // A daemon that was killed between the pinning of the maps and this point left no identity, and no pins.
    if found.1 != 0 && found.1 != identity {
        comparison.differences.push(OTHER_KEY.to_owned());
        comparison.refusals.push(OTHER_KEY.to_owned());
    }
    let entries: BTreeMap<_, _> = sizes.entries().into_iter().collect();
    for name in Maps::NAMES {
        let wanted = object.maps.get(name).ok_or(Error::Missing(name))?;
        let entries = entries.get(name).copied().unwrap_or(wanted.max_entries());
        let before = comparison.differences.len();
        let pin = folder.join(name);
        if pin.try_exists().map_err(Error::path(&pin))? {
            let info = MapData::from_pin(&pin).and_then(|map| map.info()).map_err(Error::map(name))?;
            let mut compare = |what: &str, pinned: u32, wanted: u32| {
                if pinned != wanted {
                    let line = format!("  {name}: {what} is {pinned}, this version needs {wanted}");
                    comparison.differences.push(line);
                }
            };
            compare("type", info.map_type().map_or(0, |of| of as u32), wanted.map_type());
            compare("key size", info.key_size(), wanted.key_size());
            compare("value size", info.value_size(), wanted.value_size());
            compare("number of entries", info.max_entries(), entries);
            compare("flags", info.map_flags() & !IMPLIED_FLAGS, wanted.map_flags() & !IMPLIED_FLAGS);
        } else {
            comparison.differences.push(format!("  {name} is not there"));
        }
        let shape = comparison.shapes.as_ref().and_then(|shapes| shapes.maps.get(name));
        comparison.differences.extend(differences(name, shape, &own.maps[name]));
        let is_same = comparison.differences.len() == before;
        comparison.maps.insert(name, if is_same { Treatment::Kept } else { single(name) });
    }
    for (names, treatment) in TOGETHER {
        if names.iter().any(|name| !comparison.is(name, Treatment::Kept)) {
            comparison.maps.extend(names.iter().map(|&name| (name, treatment)));
        }
    }
    // Its words say which layout this is.
    if layout != u64::from(LAYOUT_VERSION) {
        comparison.maps.insert("STATE", Treatment::Migrated);
    }
    if comparison.shapes.as_ref().is_some_and(|shapes| shapes.reasons != own.reasons) {
        comparison.maps.insert("REASON_COUNTS", Treatment::Migrated);
        if layout == u64::from(LAYOUT_VERSION) {
            comparison.differences.push("  REASON_COUNTS: it counts other reasons".to_owned());
        }
    }
    if comparison.is("HOT", Treatment::Migrated) {
        comparison.refusals.extend(source::refusals(folder, comparison.shapes.as_ref())?);
    }
    Ok(comparison)
}

pub const OTHER_KEY: &str = "  they were made with another hash key or ring size";

fn single(name: &str) -> Treatment {
    if MIGRATED.contains(&name) { Treatment::Migrated } else { Treatment::Anew }
}

/// How the values of a map differ.
fn differences(name: &str, found: Option<&Shape>, own: &Shape) -> Vec<String> {
    let Some(found) = found else {
        return vec![format!("  {name}: what its values hold is not known to this version")];
    };
    let mut lines = Vec::new();
    if found.meaning != own.meaning {
        lines.push(format!(
            "  {name}: meaning of its values is {}, this version needs {}",
            found.meaning, own.meaning
        ));
    }
    for field in &own.fields {
        match found.field(&field.name) {
            None => lines.push(format!("  {name}: it has no {}", field.name)),
            Some(other) if other != field => {
                let place =
                    |field: &shapes::Field| format!("{}×{} bits at {}", field.count, field.bits, field.at);
                lines.push(format!(
                    "  {name}: {} is {}, this version needs {}",
                    field.name,
                    place(other),
                    place(field)
                ));
            }
            Some(_) => {}
        }
    }
    let unknown = found.fields.iter().filter(|field| own.field(&field.name).is_none());
    lines.extend(unknown.map(|field| format!("  {name}: this version knows no {}", field.name)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_of_fields_is_told() {
        let own = shapes::own().maps["BACKEND_STATS"].clone();
        assert_eq!(differences("X", Some(&own), &own), Vec::<String>::new());
        let mut other = own.clone();
        other.meaning = 7;
        other.fields.retain(|field| field.name != "kicked");
        let evicted = other.fields.iter_mut().find(|field| field.name == "evicted").unwrap();
        evicted.bits = 32;
        let at = evicted.at;
        other.fields.push(shapes::Field { name: "lent".to_owned(), at: 0, bits: 64, count: 1 });
        assert_eq!(
            differences("X", Some(&other), &own),
            [
                "  X: meaning of its values is 7, this version needs 1".to_owned(),
                format!("  X: evicted is 1×32 bits at {at}, this version needs 1×64 bits at {at}"),
                "  X: it has no kicked".to_owned(),
                "  X: this version knows no lent".to_owned(),
            ]
        );
        assert_eq!(differences("X", None, &own).len(), 1);
    }
}
