//! All of an upgrade but the switch, beside a daemon that runs.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use aya_obj::Object;
use lb_common::layout::LAYOUT_VERSION;

use super::super::load::{identity_of, load_beside};
use super::super::{Error, Options, Paths};
use super::{Comparison, Transition, Treatment, compare, prepare};
use crate::bpffs::make_folder;
use crate::objects;

/// What was found.
pub struct Rehearsal {
    /// What runs.
    pub layout: u64,
    pub own_layout: u32,
    pub differences: Vec<String>,
    pub refusals: Vec<String>,
    /// What becomes of each map.
    pub maps: Vec<(&'static str, Treatment)>,
    /// Pins that were copied for a try, and how long it took; `None`: the flow table is used on as it is.
    pub copied: Option<(u64, Duration)>,
    /// Bytes that a second flow table takes for the time of the switch.
    pub beside: u64,
}

/// Loads this version's program beside the one that runs, with new maps where others are needed, and copies the pins. Then all of it is
/// removed.
///
/// # Errors
/// What would make the upgrade fail, but for maps that differ: that is in the result. `None`: there is nothing to upgrade.
pub fn rehearse(options: Options) -> Result<Option<Rehearsal>, Error> {
    let paths = Paths::of(&options.instance);
    let object = Object::parse(objects::LB).map_err(aya::EbpfError::ParseError)?;
    if !paths.maps().try_exists().map_err(Error::path(paths.maps()))? {
        return Ok(None);
    }
    let identity = identity_of(options.key, options.sizes.ring_size);
    let comparison = compare::compare(&paths.maps(), &object, &options.sizes, identity)?;
    let folder = paths.rehearsal();
    let _held = hold(&folder)?;
    let tried = if comparison.refusals.is_empty() { try_it(&options, &paths, &comparison) } else { Ok(None) };
    remove(&folder)?;
    let copied = tried?;
    let beside = if copied.is_some() { options.sizes.flow_table_bytes() } else { 0 };
    let Comparison { layout, differences, refusals, maps, .. } = comparison;
    let maps = maps.into_iter().collect();
    Ok(Some(Rehearsal { layout, own_layout: LAYOUT_VERSION, differences, refusals, maps, copied, beside }))
}

/// Removes what a check that was killed has left: a second flow table. One that is under way holds a lock on its folder.
pub fn tidy(folder: &Path) -> Result<(), Error> {
    match File::open(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        opened => match opened.map_err(Error::path(folder))?.try_lock() {
            Ok(()) => remove(folder),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(Error::path(folder)(error)),
        },
    }
}

/// An empty folder, locked until what is returned is dropped, or the process is killed.
fn hold(folder: &Path) -> Result<File, Error> {
    tidy(folder)?;
    make_folder(folder).map_err(Error::path(folder))?;
    let held = File::open(folder).map_err(Error::path(folder))?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(TryLockError::WouldBlock) => Err(Error::CheckUnderWay),
        Err(TryLockError::Error(error)) => Err(Error::path(folder)(error)),
    }
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::path(folder)(error)),
        _ => Ok(()),
    }
}

fn try_it(
    options: &Options,
    paths: &Paths,
    comparison: &Comparison,
) -> Result<Option<(u64, Duration)>, Error> {
    let folder = paths.rehearsal();
    prepare(paths, &folder, comparison, &options.sizes)?;
    let (_ebpf, mut maps, now) = load_beside(options, &folder)?;
    let mut transition = Transition::new(paths, &folder)?;
    transition.copy(paths, &mut maps, options, now)?;
    let is_copied = comparison.is("HOT", Treatment::Migrated);
    Ok(is_copied.then_some((transition.figures.pins, transition.figures.took)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_check_has_left_goes_and_one_under_way_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("maps-check");
        tidy(&folder).unwrap();
        let held = hold(&folder).unwrap();
        fs::write(folder.join("HOT"), "").unwrap();
        tidy(&folder).unwrap();
        assert!(folder.join("HOT").exists(), "it is under way");
        assert!(matches!(hold(&folder), Err(Error::CheckUnderWay)));
        // As the kernel does for one that is killed.
        drop(held);
        drop(hold(&folder).unwrap());
        assert!(folder.exists() && !folder.join("HOT").exists());
        tidy(&folder).unwrap();
        assert!(!folder.exists());
    }
}
