//! `sluice upgrade --check`: what the next daemon would do, tried beside the one that runs.

use std::path::Path;

use anyhow::Context;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::choice::{self, Chosen};
use super::{journal_path, privileges, unix_now};
use crate::bpffs;
use crate::config::{Loaded, Machine};
use crate::dataplane::{self, Paths, Rehearsal};
use crate::engine;
use crate::journal::{Applied, Copy, Journal};
use crate::plan::abilities;

/// What was found out.
pub struct Checked {
    pub rehearsal: Rehearsal,
    /// The file says something that has never been in force: a restart puts it in force.
    pub has_news: bool,
}

/// Whether this program can take the place of what runs; `None`: nothing does. It goes by what a start with this file would: the file, or the
/// config in force, which also goes on without a file. Nothing is changed by it.
///
/// # Errors
/// The config is wrong, the journal cannot be used, or the kernel refuses the program.
pub fn check(instance: &str, config: Option<&Path>) -> anyhow::Result<Option<Checked>> {
    let file = config.map(|path| choice::of_file(path, choice::Lacking::Nothing)).transpose();
    privileges::check()?;
    bpffs::ensure_mounted(Path::new(Paths::BPFFS))?;
    let path = journal_path(instance);
    if !path.exists() {
        return file.map(|_| None);
    }
    // Opening one may bring its tables up to date.
    let copy = Copy::of(&path, "check.db").context("cannot read the journal of what runs")?;
    let key = file.as_ref().ok().and_then(|file| file.as_ref()?.loaded.model.hash_key);
    let journal = Journal::open(copy.path(), key, unix_now())?;
    let applied = journal.applied()?;
    let known = config.and_then(|path| choice::as_before(path, applied.as_ref()));
    let file = file.or_else(|error| known.map(Some).ok_or(error))?;
    let has_news = file.as_ref().zip(applied.as_ref()).is_some_and(|(file, applied)| is_news(file, applied));
    let (loaded, machine) = match file {
        Some(file) => {
            let chosen = choice::choose(Ok(file), applied, unix_now())?;
            (chosen.loaded, chosen.machine)
        }
        None => in_force(applied)?,
    };
    let model = loaded.model;
    let options = engine::options(instance, &model, &journal, &abilities(&model, &machine))?;
    let _held = Held::new().context("cannot hold signals back")?;
    let found = dataplane::rehearse(options)?;
    Ok(found.map(|rehearsal| Checked { rehearsal, has_news }))
}

/// Whether a restart would put something in force that an operator has written and not asked for yet.
fn is_news(file: &Chosen, applied: &Applied) -> bool {
    file.text.seen != applied.seen && !engine::same_model(&file.text.text, &applied.text)
}

/// The config that the journal says is in force.
fn in_force(applied: Option<Applied>) -> anyhow::Result<(Loaded, Machine)> {
    let applied = applied.context("the journal has no config yet: name one by --config FILE")?;
    let name = format!("config of revision {}", applied.revision);
    choice::resolve(&applied.text, &name, choice::Lacking::Interfaces)
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
    fn news_is_what_nobody_has_looked_at_and_says_something_else() {
        let config = |weight: u32, more: &str| {
            format!(
                "interfaces = [\"lo\"]\n[hosts.a]\naddresses = [\"192.0.2.1\"]\nweight = {weight}\n[[services]]\nname = \"s\"\n\
                 vip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 1\n{more}"
            )
        };
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("f.toml");
            std::fs::write(&path, text).unwrap();
            choice::of_file(&path, choice::Lacking::Nothing).unwrap()
        };
        let applied = |weight, seen| Applied {
            revision: 7,
            text: config(weight, ""),
            seen: config(seen, ""),
            pending: None,
            before: None,
        };
        assert!(is_news(&file(&config(3, "")), &applied(1, 1)));
        assert!(is_news(&file(&config(3, "")), &applied(2, 1)));
        assert!(!is_news(&file(&config(1, "")), &applied(1, 1)));
        assert!(
            !is_news(&file(&config(1, "")), &applied(2, 1)),
            "another was applied, and the file not touched"
        );
        assert!(!is_news(&file(&config(1, "# why\n")), &applied(1, 1)), "it says the same");
    }

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
