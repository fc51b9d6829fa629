//! Telling what happens.

use std::collections::BTreeMap;

use super::{Engine, Error};
use crate::api::types::{AtDeadline, Happening, Order, Receipt};
use crate::drain::{Drain, State, Target};
use crate::events::Bus;
use crate::health::Oper;

/// What was told, so that it is told once.
pub(super) struct Telling {
    bus: Bus,
    /// The must-be-zero counters at the last look.
    violations: BTreeMap<String, u64>,
    /// The deadlines that have passed, by the number of the drain under way.
    passed: BTreeMap<u64, u64>,
}

impl Telling {
    /// Of a daemon that starts at `now`.
    pub fn new(now: u64) -> Self {
        Telling { bus: Bus::new(now), violations: BTreeMap::new(), passed: BTreeMap::new() }
    }
}

impl Engine {
    /// Where events are told.
    pub fn events(&self) -> &Bus {
        &self.telling.bus
    }

    pub(super) fn tell(&self, happening: Happening) {
        self.telling.bus.tell(self.clock.now(), happening);
    }

    /// The daemon ends: from now on nothing is done but what is asked for, and nothing is told.
    pub fn stopping(&mut self) {
        self.is_stopping = true;
        self.stop_tracing();
        self.tell(Happening::DaemonStopping);
        self.telling.bus.close();
    }

    /// Before the first publication.
    pub(super) fn tell_of_start(&mut self) -> Result<(), Error> {
        self.telling.violations = Self::violations(&self.dataplane.counters([])?.reasons).collect();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.tell(Happening::DaemonStarted { version, adopted: self.dataplane.adopted });
        for host in &self.down {
            let why = super::publication::NO_NEXT_HOP.to_owned();
            self.tell(Happening::HostDown { host: host.clone(), service: None, why });
        }
        for ((service, host), pair) in self.health.pairs.iter().filter(|(_, pair)| pair.oper == Oper::Down) {
            let (service, why) = (Some(service.clone()), pair.why.clone());
            self.tell(Happening::HostDown { host: host.clone(), service, why });
        }
        Ok(())
    }

    /// Deadlines that have passed since the last look. Those of drains under way that passed before the daemon's start are
    /// among them, as nobody else may have told of them.
    pub(super) fn tell_of_deadlines(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut passed = BTreeMap::new();
        for (target, state) in &self.drains {
            let State::Draining(draining) = state else { continue };
            let drain = &draining.drain;
            let Some(deadline) = drain.order.deadline.filter(|deadline| now >= *deadline) else { continue };
            if self.telling.passed.get(&drain.id) == Some(&deadline) {
                passed.insert(drain.id, deadline);
                continue;
            }
            let live = self.live_of(target)?;
            let (number, left) = (drain.id, live.total);
            let (host, service, clients) = parts(target.clone());
            let (by, reason) = (drain.by.clone(), drain.reason.clone());
            match drain.order.at_deadline {
                // The last flow may be gone, and only a last look missing.
                AtDeadline::Keep if draining.overdue_since(&live, now).is_none() => continue,
                AtDeadline::Keep => {
                    self.tell(Happening::DrainOverdue {
                        host,
                        service,
                        clients,
                        drain: number,
                        by,
                        reason,
                        deadline,
                        left,
                    });
                }
                at_deadline => {
                    self.tell(Happening::Deadline {
                        host,
                        service,
                        clients,
                        drain: number,
                        by,
                        reason,
                        deadline,
                        at_deadline,
                        left,
                    });
                }
            }
            passed.insert(number, deadline);
        }
        self.telling.passed = passed;
        Ok(())
    }

    /// Must-be-zero counters that have moved since the last look.
    pub(super) fn tell_of_violations(&mut self) -> Result<(), Error> {
        let now: BTreeMap<String, u64> = Self::violations(&self.dataplane.counters([])?.reasons).collect();
        for (counter, more) in grown(&self.telling.violations, &now) {
            log::error!("{counter} moved by {more}, and must not: see `sluice status`");
            self.tell(Happening::Violation { counter, more });
        }
        self.telling.violations = now;
        Ok(())
    }
}

/// Host, service and clients.
fn parts(target: Target) -> (String, Option<String>, Option<String>) {
    let Target { host, service, clients } = target;
    (host, service, clients.map(|clients| clients.to_string()))
}

pub(super) fn began(drain: &Drain) -> Happening {
    Happening::DrainBegan {
        host: drain.host.clone(),
        service: drain.service.clone(),
        clients: drain.clients.map(|clients| clients.to_string()),
        drain: drain.id,
        by: drain.by.clone(),
        reason: drain.reason.clone(),
        order: drain.order,
    }
}

pub(super) fn amended(
    target: &Target,
    drain: u64,
    order: Order,
    by: &str,
    reason: Option<&str>,
) -> Happening {
    let (by, reason) = (by.to_owned(), reason.map(str::to_owned));
    let (host, service, clients) = parts(target.clone());
    Happening::DrainAmended { host, service, clients, drain, by, reason, order }
}

pub(super) fn drained(receipt: &Receipt) -> Happening {
    Happening::Drained {
        host: receipt.host.clone(),
        service: receipt.service.clone(),
        clients: receipt.clients.map(|clients| clients.to_string()),
        drain: receipt.drain,
        by: receipt.by.clone(),
        reason: receipt.reason.clone(),
        outcome: receipt.outcome,
    }
}

/// A host is in use again; the `receipt` is that of a drain that was under way, and nobody is the author at the end of a lease.
pub(super) fn taken_back(
    drain: &Drain,
    receipt: Option<&Receipt>,
    author: Option<(&str, Option<&str>)>,
) -> Happening {
    let (number, left) = (drain.id, receipt.map(|receipt| receipt.left));
    let (host, service, clients) = parts(drain.target());
    match author {
        Some((by, reason)) => {
            let (by, reason) = (by.to_owned(), reason.map(str::to_owned));
            Happening::Undrained { host, service, clients, drain: number, by, reason, left }
        }
        None => {
            let (by, reason) = (drain.by.clone(), drain.reason.clone());
            Happening::LeaseOver { host, service, clients, drain: number, by, reason, left }
        }
    }
}

/// By how much each counter has grown.
fn grown(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let more = |(counter, count): (&String, &u64)| {
        let more = count.saturating_sub(before.get(counter).copied().unwrap_or(0));
        (more > 0).then(|| (counter.clone(), more))
    };
    now.iter().filter_map(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_counter_grew_by_is_told() {
        let counters = |list: &[(&str, u64)]| -> BTreeMap<String, u64> {
            list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let (before, now) = (counters(&[("a", 3), ("b", 2)]), counters(&[("a", 3), ("b", 5), ("c", 1)]));
        assert_eq!(grown(&before, &now), [("b".to_owned(), 3), ("c".to_owned(), 1)]);
        assert_eq!(grown(&now, &now), []);
        assert_eq!(grown(&now, &before), [], "counters that were lost begin anew");
    }
}
