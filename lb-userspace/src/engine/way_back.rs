//! The way back from a config that could not be put in force to the one before. What of it fails is tried again with each round, and
//! before any other config is.

use serde_json::json;

use super::configs::{Before, NOT_APPLIED};
use super::start::options_with;
use super::{Engine, Error};
use crate::api::types::Happening;
use crate::dataplane::{Dataplane, Options};
use crate::journal::{Applied, Change};

/// What is still to be done.
#[derive(Debug, Clone, Default)]
pub(super) struct WayBack {
    /// Another program was loaded and may have published: the data path that is gone back to does not know what.
    reopen: bool,
    /// What was published meanwhile is not taken up yet.
    settle: bool,
    /// Interfaces may have another program, or none.
    attach: bool,
    /// The journal takes the config that failed for the one in force.
    owed: Option<Owed>,
}

#[derive(Debug, Clone)]
struct Owed {
    /// That failed.
    revision: u64,
    before: Applied,
}

impl WayBack {
    pub(super) fn is_open(&self) -> bool {
        self.reopen || self.settle || self.attach
    }
}

impl Engine {
    /// A config could not be put in force: the one before is put in force again.
    pub(super) fn go_back(&mut self, before: Before, revision: u64, applied: Option<Applied>) {
        let unused = self.restore(before);
        self.in_force.way_back = WayBack {
            reopen: unused.is_some(),
            settle: true,
            attach: true,
            owed: applied.map(|before| Owed { revision, before }),
        };
        drop(unused);
        if let Err(error) = self.put_back() {
            self.stale = true;
            log::error!("the config before could not be put in force again yet: {error}");
        }
        self.tell(Happening::ConfigFailed { revision });
        if let Err(error) = self.settle_debt() {
            log::warn!("{error}");
        }
    }

    /// Goes to the end of the way back, if one was begun: until then neither the engine nor the journal can be built upon.
    pub(super) fn come_back(&mut self) -> Result<(), Error> {
        self.put_back()?;
        self.settle_debt()
    }

    /// Puts the config before in force again, if that is still to be done.
    pub(super) fn put_back(&mut self) -> Result<(), Error> {
        if !self.in_force.way_back.is_open() {
            return Ok(());
        }
        self.find_published()?;
        self.enforce()?;
        self.in_force.way_back.attach = false;
        // Gauges of drains, and the ends of handovers, rest on the last sweep, which knows other rings.
        self.sweep()
    }

    /// Takes up what the config that failed has published: flows have begun by it, which go on (C1). Hosts that only it named leave, and
    /// slots that changed hands are handed over once more.
    pub(super) fn find_published(&mut self) -> Result<(), Error> {
        if self.in_force.way_back.reopen {
            let sets = self.journal.timeout_sets(&self.model.all_timeouts(), self.clock.now())?;
            let Options { sizes, test_clock, records, abilities, .. } = self.dataplane.options.clone();
            let options = options_with(&self.instance, &self.model, &self.journal, &abilities, &sets);
            self.dataplane = Dataplane::open(Options { sizes, test_clock, records, ..options })?;
            self.ids.timeouts = sets;
            self.in_force.way_back.reopen = false;
        }
        if self.in_force.way_back.settle {
            self.ids.known_hosts = self.journal.known_hosts()?;
            self.note_findings()?;
            self.settle()?;
            self.in_force.way_back.settle = false;
        }
        Ok(())
    }

    /// Notes in the journal what became of the last config, as soon as that can be done.
    pub(super) fn settle_debt(&mut self) -> Result<(), Error> {
        if self.in_force.is_untried {
            self.journal.note_tried()?;
            self.in_force.is_untried = false;
        }
        let Some(Owed { revision, before }) = &self.in_force.way_back.owed else { return Ok(()) };
        let change = Change { at: self.clock.now(), author: "sluice", reason: Some(NOT_APPLIED) };
        self.journal.take_back(*revision, before, &change, &json!({}))?;
        self.in_force.way_back.owed = None;
        self.find_in_force()
    }
}
