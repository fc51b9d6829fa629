//! Maps that an earlier daemon left pinned: compared with what the program expects before they are used.
//!
//! aya opens a pinned map without a look at its layout, and a map of another layout under the same name would be
//! memory corruption.

use std::fs;

use aya::maps::MapData;
use aya_obj::Object;

use super::{Error, Maps, Paths, Sizes};

/// Whether all maps are pinned already. Some of them only, or one that differs, is an error that lists every difference.
pub(super) fn are_pinned(paths: &Paths, object: &Object, sizes: &Sizes) -> Result<bool, Error> {
    let entries = sizes.entries();
    let (mut found, mut differences) = (0, Vec::new());
    for name in Maps::NAMES {
        let path = paths.map(name);
        if !path.try_exists().map_err(Error::path(&path))? {
            continue;
        }
        found += 1;
        let info = MapData::from_pin(&path).and_then(|map| map.info()).map_err(Error::map(name))?;
        let wanted = object.maps.get(name).ok_or(Error::Missing(name))?;
        let max_entries = entries
            .iter()
            .find(|(map, _)| *map == name)
            .map_or(wanted.max_entries(), |(_, entries)| *entries);
        let mut compare = |what: &str, pinned: u32, wanted: u32| {
            if pinned != wanted {
                differences.push(format!("  {name}: {what} is {pinned}, this version needs {wanted}"));
            }
        };
        compare("type", info.map_type().map_or(0, |of| of as u32), wanted.map_type());
        compare("key size", info.key_size(), wanted.key_size());
        compare("value size", info.value_size(), wanted.value_size());
        compare("number of entries", info.max_entries(), max_entries);
        compare("flags", info.map_flags() & !IMPLIED_FLAGS, wanted.map_flags() & !IMPLIED_FLAGS);
    }
    let attached = fs::read_dir(paths.links()).is_ok_and(|mut links| links.next().is_some());
    if found != 0 && found != Maps::NAMES.len() && !attached {
        // A daemon was killed while it made them; no packet has seen them.
        fs::remove_dir_all(paths.maps()).map_err(Error::path(paths.maps()))?;
        return Ok(false);
    }
    if found != 0 && found != Maps::NAMES.len() {
        differences.push(format!("  {found} of {} maps are there", Maps::NAMES.len()));
    }
    if differences.is_empty() {
        Ok(found != 0)
    } else {
        Err(Error::Incompatible { path: paths.maps(), differences })
    }
}

/// `BPF_F_RDONLY_PROG`, which the kernel adds to device maps by itself.
const IMPLIED_FLAGS: u32 = 1 << 7;
