//! `sluice upgrade --check`: what the next daemon would do, tried beside the one that runs.

use std::path::Path;

use anyhow::Context;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::choice;
use super::{journal_path, privileges, unix_now};
use crate::bpffs;
use crate::config::{Loaded, Machine};
use crate::dataplane::{self, Paths, Rehearsal};
use crate::engine;
use crate::journal::{Copy, Journal};
use crate::plan::abilities;

/// Whether this program, with this config or that in force, can take the place of what runs; `None`: nothing does. Nothing is changed by it.
///
/// # Errors
/// The config is wrong, the journal cannot be used, or the kernel refuses the program.
pub fn check(instance: &str, config: Option<&Path>) -> anyhow::Result<Option<Rehearsal>> {
    let file = config.map(choice::of_file).transpose()?;
    privileges::check()?;
    bpffs::ensure_mounted(Path::new(Paths::BPFFS))?;
    let path = journal_path(instance);
    if !path.exists() {
        return Ok(None);
    }
    // Opening one may bring its tables up to date.
    let copy = Copy::of(&path, "check.db").context("cannot read the journal of what runs")?;
    let key = file.as_ref().and_then(|file| file.loaded.model.hash_key);
    let journal = Journal::open(copy.path(), key, unix_now())?;
    let (loaded, machine) = match file {
        Some(file) => (file.loaded, file.machine),
        None => in_force(&journal)?,
    };
    let model = loaded.model;
    let options = engine::options(instance, &model, &journal, &abilities(&model, &machine))?;
    let _held = Held::new().context("cannot hold signals back")?;
    Ok(dataplane::rehearse(options)?)
}

/// The config that the journal says is in force.
fn in_force(journal: &Journal) -> anyhow::Result<(Loaded, Machine)> {
    let applied = journal.applied()?.context("the journal has no config yet: name one by --config FILE")?;
    choice::resolve(&applied.text, &format!("config of revision {}", applied.revision))
}

/// While this lives, signals that would end the process wait: what is pinned for a try goes first, else a second flow table would stay.
struct Held {
    before: SigSet,
}

impl Held {
    fn new() -> nix::Result<Self> {
        let ending = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        Ok(Held { before: ending.thread_swap_mask(SigmaskHow::SIG_BLOCK)? })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The mask was in force before, so it is no wrong one.
        let _ = self.before.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn an_end_waits_for_what_was_begun() {
        let is_held = || SigSet::thread_get_mask().unwrap().contains(Signal::SIGINT);
        let mut own = SigSet::empty();
        own.add(Signal::SIGINT);
        let held = Held::new().unwrap();
        assert!(is_held());
        // It would have ended this thread's process.
        raise(Signal::SIGINT).unwrap();
        assert_eq!(own.wait().unwrap(), Signal::SIGINT);
        drop(held);
        assert!(!is_held());
    }
}
