//! How a shift goes on: [`step`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::condition::unwell;
use super::{Condition, Fared, Part, Seen};
use crate::model::{Model, Service};
use crate::ramp::Count;
use crate::whatif::named;

/// One shift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// Never used twice.
    pub id: u64,
    pub service: String,
    pub from: Side,
    pub to: Side,
    /// The hosts of the second side when it began: of those that the config puts on neither side any more they stay on it.
    #[serde(default)]
    pub to_hosts: BTreeSet<String>,
    /// What part of the new flows went to `to` before, and goes there again if this is taken back.
    pub origin: Part,
    pub steps: Vec<Part>,
    /// Seconds of a step.
    pub every: u64,
    pub conditions: Vec<Condition>,
    pub by: String,
    pub reason: Option<String>,
    /// Unix seconds.
    pub started_at: u64,
    /// The step in force, by its place.
    pub step: usize,
    /// Unix seconds at which it began, without the time for which it was paused.
    pub since: u64,
    pub course: Course,
    pub flows: Flows,
    /// Unix seconds; `None`: it goes on. What it came to stays in force.
    pub ended_at: Option<u64>,
}

/// A group of hosts, by words that [`named`] knows: the config may give it other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side(pub Vec<String>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Course {
    Forward,
    Paused {
        by: String,
        reason: Option<String>,
        at: u64,
    },
    /// The last step is in force, and its time is over.
    Done,
    /// By itself.
    TakenBack {
        why: String,
    },
    Aborted {
        by: String,
        reason: Option<String>,
    },
}

/// New flows by host, as the counters stood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// When it began.
    pub start: BTreeMap<String, u64>,
    /// When the step began.
    pub step: BTreeMap<String, u64>,
    /// When it was over.
    pub end: Option<BTreeMap<String, u64>>,
}

/// What operators ask; without one: time passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Look,
    Pause { by: String, reason: Option<String> },
    Resume,
    Abort { by: String, reason: Option<String> },
}

impl Side {
    /// Its hosts among those of the service.
    pub fn hosts<'a>(&self, model: &Model, service: &'a Service) -> BTreeSet<&'a str> {
        // A group whose last host has left the config has none.
        let of = |word: &String| named(model, std::slice::from_ref(word)).unwrap_or_default();
        let all: BTreeSet<String> = self.0.iter().flat_map(of).collect();
        service.hosts.iter().map(String::as_str).filter(|host| all.contains(*host)).collect()
    }
}

impl Shift {
    /// The hosts of the service, each on one side. Who is on neither by the config goes by the first side, as hosts do that came later, until
    /// the shift is done; but who was on the second one stays there: a group that is not known any more must not give all flows to hosts that fared badly.
    pub fn sides<'a>(&self, model: &Model, service: &'a Service) -> (BTreeSet<&'a str>, BTreeSet<&'a str>) {
        let (from, to) = (self.from.hosts(model, service), self.to.hosts(model, service));
        let is_second = |host: &&str| match (to.contains(host), from.contains(host)) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => self.to_hosts.contains(*host) || self.course == Course::Done,
        };
        let (second, first) = service.hosts.iter().map(String::as_str).partition(is_second);
        (first, second)
    }

    /// How new flows to both sides fared, by how those of each host did: of whoever is on them, also of groups that the config does not know any
    /// more.
    pub fn fared(&self, model: &Model, service: &Service, of: impl Fn(&str) -> Count) -> Fared {
        let (from, to) = self.sides(model, service);
        let mut sum = Fared::default();
        from.into_iter().for_each(|host| sum.from.add(of(host)));
        to.into_iter().for_each(|host| sum.to.add(of(host)));
        sum
    }

    pub fn is_over(&self) -> bool {
        self.ended_at.is_some()
    }

    /// On its way back to where it was.
    pub fn is_back(&self) -> bool {
        matches!(self.course, Course::TakenBack { .. } | Course::Aborted { .. })
    }

    /// The part of the new flows that is to go to the second side.
    pub fn part(&self) -> Part {
        if self.is_back() {
            return self.origin;
        }
        self.steps.get(self.step).copied().unwrap_or(self.origin)
    }

    /// Whether it would become another one by this; or why not.
    ///
    /// # Errors
    /// How it stands, in words.
    pub fn takes(&self, event: &Event) -> Result<(), &'static str> {
        match (event, &self.course) {
            (Event::Look, _) => Ok(()),
            (_, Course::TakenBack { .. } | Course::Aborted { .. }) => Err("is on its way back"),
            (Event::Pause { .. }, Course::Paused { .. }) => Err("is paused already"),
            (Event::Resume, Course::Forward) => Err("is not paused"),
            _ => Ok(()),
        }
    }

    /// Unix seconds at which its last step is over, if nothing happens.
    pub fn expected_end(&self) -> Option<u64> {
        let left = self.steps.len().checked_sub(self.step)? as u64;
        (self.course == Course::Forward).then(|| self.since + left * self.every)
    }

    fn end(&mut self, seen: &Seen, now: u64) {
        self.ended_at = Some(now);
        self.flows.end = Some(seen.flows.clone());
    }
}

/// Why the next step is not taken although its time has come, in words.
pub fn waits_for(shift: &Shift, seen: &Seen, now: u64) -> Option<String> {
    if shift.course != Course::Forward || now < shift.since + shift.every {
        return None;
    }
    if seen.is_cut_off {
        return Some("hosts to be seen again, as this machine's own link is cut off".to_owned());
    }
    if seen.is_pending {
        return Some("the last step to be published".to_owned());
    }
    if !seen.unwell.is_empty() {
        return Some(format!("all to be well: {}", unwell(seen)));
    }
    if !seen.unsaid.is_empty() {
        return Some(format!("checks to say how {} fares", seen.unsaid.join(", ")));
    }
    // Which has not said that all is well has not said anything.
    let (place, condition) =
        shift.conditions.iter().enumerate().find(|(place, _)| seen.unproven.contains(place))?;
    Some(format!("the first success of {} in this step", condition.shown(place)))
}

/// The next state. A condition counts at any time until the end, also while the shift is paused: it is for the clients' sake. A step is over
/// when its time is and all hosts that the flows go to are well; one look takes one step at most, so that a daemon that was away leaves none out.
pub fn step(mut shift: Shift, event: &Event, seen: &Seen, now: u64) -> Shift {
    if shift.is_over() {
        return shift;
    }
    if shift.is_back() {
        // Over once it is so.
        if !seen.is_pending {
            shift.end(seen, now);
        }
        return shift;
    }
    match event {
        Event::Look => {}
        Event::Pause { by, reason } => {
            if shift.course == Course::Forward {
                shift.course = Course::Paused { by: by.clone(), reason: reason.clone(), at: now };
            }
        }
        Event::Resume => {
            if let Course::Paused { at, .. } = shift.course {
                shift.since += now.saturating_sub(at);
                shift.course = Course::Forward;
            }
        }
        Event::Abort { by, reason } => {
            shift.course = Course::Aborted { by: by.clone(), reason: reason.clone() };
            return shift;
        }
    }
    let nobody = seen.is_nobody_left.then(|| match unwell(seen).as_str() {
        "" => "none of the hosts is in use".to_owned(),
        why => format!("none of the hosts is in use: {why}"),
    });
    let mut conditions = shift.conditions.iter().enumerate();
    let holds = nobody.or_else(|| conditions.find_map(|(place, of)| of.holds(place, seen)));
    // Of a link that is cut off the hosts are not to blame.
    if let Some(why) = holds.filter(|_| !seen.is_cut_off) {
        shift.course = Course::TakenBack { why };
        return shift;
    }
    let is_due = shift.course == Course::Forward && now >= shift.since + shift.every;
    if is_due && waits_for(&shift, seen, now).is_none() {
        if shift.step + 1 < shift.steps.len() {
            (shift.step, shift.since) = (shift.step + 1, now);
            shift.flows.step = seen.flows.clone();
        } else {
            shift.course = Course::Done;
            shift.end(seen, now);
        }
    }
    shift
}
