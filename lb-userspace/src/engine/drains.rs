//! Drain and undrain.

use std::collections::BTreeSet;

use super::whatif::explained;
use super::{Engine, Error};
use crate::api::types::{DrainRequest, DrainStatus};
use crate::drain::{Action, Event, State, step};
use crate::journal::{Change, TakenBack};

impl Engine {
    /// Takes hosts out: all of them or none. When it returns, no new flow reaches them (C2), but of services that they
    /// serve on as the last in use, which takes force.
    pub fn drain(&mut self, request: &DrainRequest, author: &str) -> Result<Vec<DrainStatus>, Error> {
        let hosts = self.named(&request.hosts)?;
        self.check_rules(&hosts, request.force)?;
        let now = self.clock.now();
        let mut id = self.journal.next_drain_id()?;
        let (mut begun, mut states) = (Vec::new(), Vec::new());
        for host in &hosts {
            let by = author.to_owned();
            let event = Event::Drain { id, by, reason: request.reason.clone(), gauges: self.gauges(host)? };
            let (state, actions) = step(host, self.drains[host].clone(), event, now);
            for action in actions {
                if let Action::Begin(drain) = action {
                    begun.push(drain);
                    id += 1;
                }
            }
            states.push((host.clone(), state));
        }
        if !begun.is_empty() {
            let change = Change { at: now, author, reason: request.reason.as_deref() };
            self.journal.begin_drain(&begun, &change)?;
            self.drains.extend(states);
            self.stale = true;
            for drain in &begun {
                log::info!("drain {} of {} by {author}", drain.id, drain.host);
            }
        }
        self.put_into_effect()?;
        self.drain_statuses(&hosts)
    }

    /// Brings hosts back: all of them or none.
    pub fn undrain(&mut self, request: &DrainRequest, author: &str) -> Result<Vec<DrainStatus>, Error> {
        let hosts = self.named(&request.hosts)?;
        let now = self.clock.now();
        let (mut taken_back, mut states) = (Vec::new(), Vec::new());
        for host in &hosts {
            let event = Event::Undrain { gauges: self.gauges(host)? };
            let (state, actions) = step(host, self.drains[host].clone(), event, now);
            for action in actions {
                if let Action::TakeBack { drain, receipt } = action {
                    taken_back.push(TakenBack { drain, receipt });
                }
            }
            states.push((host.clone(), state));
        }
        if !taken_back.is_empty() {
            let change = Change { at: now, author, reason: request.reason.as_deref() };
            self.journal.undrain(&taken_back, &change)?;
            self.drains.extend(states);
            for host in &hosts {
                self.sealed.remove(host);
                log::info!("undrain of {host} by {author}");
            }
            self.stale = true;
        }
        self.put_into_effect()?;
        self.drain_statuses(&hosts)
    }

    /// Publishes if that is still to be done, be it by an earlier command: an answer without error says that it is so.
    fn put_into_effect(&mut self) -> Result<(), Error> {
        if self.stale {
            self.publish()?;
        }
        self.note_starts()
    }

    /// The drains of these hosts, or of all hosts that have one.
    pub fn drain_statuses(&self, hosts: &[String]) -> Result<Vec<DrainStatus>, Error> {
        let all: Vec<String> =
            if hosts.is_empty() { self.drains.keys().cloned().collect() } else { self.named(hosts)? };
        let serving_on = self.serving_on();
        let mut statuses = Vec::new();
        for host in &all {
            let live = self.marked(self.host_sum(host)?.live(), host, self.has_edges(host));
            statuses.extend(self.drains[host].status(live).map(|status| explained(status, &serving_on)));
        }
        Ok(statuses)
    }

    /// Notes the zero line of drains whose rings have just been published.
    pub(super) fn note_starts(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        // New flows still reach a host that serves on.
        let serving_on: BTreeSet<String> = self.serving_on().into_values().flatten().collect();
        for host in self.out().difference(&serving_on) {
            let gauges = self.gauges(host)?;
            let (state, actions) = step(host, self.drains[host].clone(), Event::Published(gauges), now);
            for action in actions {
                if let Action::NoteStart { drain, start } = action {
                    self.journal.note_drain_start(drain, &start)?;
                }
            }
            self.drains.insert(host.clone(), state);
        }
        Ok(())
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drains.values().any(|state| matches!(state, State::Draining(_)))
    }
}

/// The known name that looks most like `name`, if one looks like it at all.
pub(super) fn near<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    let scored = known.map(|known| (strsim::jaro_winkler(name, known), known));
    scored
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.8)
        .map(|(_, known)| known.clone())
}
