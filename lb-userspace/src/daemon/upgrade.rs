//! `sluice upgrade --check`: what the next daemon would do, tried beside the one that runs.

use std::path::Path;

use anyhow::Context;

use super::{journal_path, machine, privileges, unix_now};
use crate::bpffs;
use crate::config;
use crate::dataplane::{self, Paths, Rehearsal};
use crate::engine;
use crate::journal::{Copy, Journal};
use crate::plan::abilities;

/// Whether this program, with this config, can take the place of what runs; `None`: nothing does. Nothing is changed by it.
///
/// # Errors
/// The config is wrong, the journal cannot be used, or the kernel refuses the program.
pub fn check(instance: &str, config: &Path) -> anyhow::Result<Option<Rehearsal>> {
    let config = config::load(config)?;
    privileges::check()?;
    let machine = machine::look(&config.model)?;
    config::check_against_machine(&config, &machine)?;
    bpffs::ensure_mounted(Path::new(Paths::BPFFS))?;
    let model = config.model;
    let path = journal_path(instance);
    if !path.exists() {
        return Ok(None);
    }
    // Opening one may bring its tables up to date.
    let copy = Copy::of(&path, "check.db").context("cannot read the journal of what runs")?;
    let journal = Journal::open(copy.path(), model.hash_key, unix_now())?;
    let options = engine::options(instance, &model, &journal, &abilities(&model, &machine))?;
    Ok(dataplane::rehearse(options)?)
}
