//! `sluice upgrade --check`: what the next daemon would do, tried beside the one that runs.

use std::path::Path;

use anyhow::Context;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

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
    let _held = Held::new().context("cannot hold signals back")?;
    Ok(dataplane::rehearse(options)?)
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
