//! All of an upgrade but the switch, beside a daemon that runs.

use std::fs;
use std::time::Duration;

use aya_obj::Object;
use lb_common::layout::LAYOUT_VERSION;

use super::super::load::{identity_of, load_beside};
use super::super::{Error, Options, Paths};
use super::{Comparison, Transition, Treatment, compare, prepare};
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
    let remove = || match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::path(&folder)(error)),
        _ => Ok(()),
    };
    remove()?;
    let tried = if comparison.refusals.is_empty() { try_it(&options, &paths, &comparison) } else { Ok(None) };
    remove()?;
    let copied = tried?;
    let beside = if copied.is_some() { options.sizes.flow_table_bytes() } else { 0 };
    let Comparison { layout, differences, refusals, maps, .. } = comparison;
    let maps = maps.into_iter().collect();
    Ok(Some(Rehearsal { layout, own_layout: LAYOUT_VERSION, differences, refusals, maps, copied, beside }))
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
