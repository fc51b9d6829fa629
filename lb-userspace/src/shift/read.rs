//! A shift as it is asked for, checked against the config: what is wrong with it is told all at once, each with its mend.

use std::collections::BTreeSet;

use super::{Condition, Course, Flows, Part, Shift, Side};
use crate::api::types::ShiftRequest;
use crate::maintain::Refused;
use crate::model::{Model, Service};
use crate::whatif::named;

/// Steps at most.
const MOST_STEPS: usize = 100;
/// Seconds of a step at most.
const LONGEST: u64 = 7 * 86_400;

/// What it is held against.
pub struct Site<'a> {
    pub model: &'a Model,
    /// Hosts that get no new flows of the service by an operator's will.
    pub out: &'a BTreeSet<String>,
    /// The last shift of the service.
    pub before: Option<&'a Shift>,
    /// Half-open pins tell of flows that failed.
    pub is_telling: bool,
    pub now: u64,
}

/// Reads it; its number and counters are the caller's matter.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(request: &ShiftRequest, service: &Service, site: &Site<'_>, by: &str) -> Result<Shift, Refused> {
    let mut problems = Vec::new();
    let from = side("from", &request.from, service, site, &mut problems);
    let to = side("to", &request.to, service, site, &mut problems);
    if let Some(under_way) = site.before.filter(|before| !before.is_over()) {
        problems.push(format!(
            "service: shift {0} of {1} is under way; wait for its end, or `sluice shift abort {0}`",
            under_way.id, service.name
        ));
    }
    let hosts = (from.hosts(site.model, service), to.hosts(site.model, service));
    if problems.is_empty() {
        groups(&hosts, service, site, &mut problems);
    }
    let origin = origin(&hosts, service, site);
    let steps = steps(request, origin, &mut problems);
    if !(1..=LONGEST).contains(&request.every) {
        problems.push(format!("every: {} s is out of range; it is from 1s to 7days", request.every));
    }
    let mut conditions = Vec::new();
    for text in &request.abort_if {
        match Condition::parse(text) {
            Ok(Condition::Errors(_)) if !site.is_telling => problems.push(format!(
                "abort_if: {text:?} cannot be seen of {}, as only TCP flows that are all tracked tell; use unhealthy or fails",
                service.name
            )),
            Ok(condition) => conditions.push(condition),
            Err(wrong) => problems.push(format!("abort_if: {wrong}")),
        }
    }
    if !problems.is_empty() {
        return Err(Refused { file: "the shift".to_owned(), problems });
    }
    let to_hosts = hosts.1.iter().map(|&host| host.to_owned()).collect();
    Ok(Shift {
        id: 0,
        service: service.name.clone(),
        from,
        to,
        to_hosts,
        origin,
        steps,
        every: request.every,
        conditions,
        by: by.to_owned(),
        reason: request.reason.clone(),
        started_at: site.now,
        step: 0,
        since: site.now,
        course: Course::Forward,
        flows: Flows::default(),
        ended_at: None,
    })
}

/// A bare word is a group's name, or else a host's.
fn side(
    name: &str,
    words: &[String],
    service: &Service,
    site: &Site<'_>,
    problems: &mut Vec<String>,
) -> Side {
    let before = problems.len();
    if words.is_empty() {
        problems.push(format!("{name}: it names nobody; give a group of hosts of {}", service.name));
    }
    let mut known = Vec::new();
    for word in words {
        let group = format!("@{word}");
        let words = [&group, word];
        match words.into_iter().find(|word| named(site.model, std::slice::from_ref(*word)).is_ok()) {
            Some(word) => known.push(word.clone()),
            None => problems.push(format!(
                "{name}: no group and no host is named {word:?}; groups are given by `groups` under [hosts.NAME]"
            )),
        }
    }
    let side = Side(known);
    if problems.len() == before && side.hosts(site.model, service).is_empty() {
        problems.push(format!(
            "{name}: {} has no host of {}; `sluice rings` lists services with their hosts",
            words.join(","),
            service.name
        ));
    }
    side
}

/// Both sides are the whole service, and each has somebody.
fn groups(
    (from, to): &(BTreeSet<&str>, BTreeSet<&str>),
    service: &Service,
    site: &Site<'_>,
    problems: &mut Vec<String>,
) {
    let list = |hosts: Vec<&str>| hosts.join(", ");
    let both: Vec<&str> = from.intersection(to).copied().collect();
    if !both.is_empty() {
        problems.push(format!("to: {} on both sides; a host is on one of them", list(both)));
    }
    let is_neither = |host: &&str| !from.contains(host) && !to.contains(host) && !site.out.contains(*host);
    let neither: Vec<&str> = service.hosts.iter().map(String::as_str).filter(is_neither).collect();
    if !neither.is_empty() {
        problems.push(format!(
            "from: {} of {} on neither side, and would get new flows as before; name them there too, separated by commas, or drain them",
            list(neither),
            service.name
        ));
    }
    if to.iter().all(|host| site.out.contains(*host)) {
        problems.push("to: each of its hosts is drained or disabled; `sluice undrain` them first".to_owned());
    }
}

/// What part of the new flows goes to the second side now: by the last shift if it was between the same hosts, else none.
fn origin((from, to): &(BTreeSet<&str>, BTreeSet<&str>), service: &Service, site: &Site<'_>) -> Part {
    let Some(before) = site.before else { return Part::NONE };
    let (was_from, was_to) = before.sides(site.model, service);
    // Hosts that are out are on no side that is named.
    let named = |hosts: &BTreeSet<&str>| -> BTreeSet<String> {
        let hosts = hosts.iter().filter(|host| from.contains(*host) || to.contains(*host));
        hosts.map(|&host| host.to_owned()).collect()
    };
    let was = (named(&was_from), named(&was_to));
    if was == (named(from), named(to)) {
        before.part()
    } else if was == (named(to), named(from)) {
        before.part().rest()
    } else {
        Part::NONE
    }
}

fn steps(request: &ShiftRequest, origin: Part, problems: &mut Vec<String>) -> Vec<Part> {
    let mut steps = Vec::new();
    if request.steps.is_empty() || request.steps.len() > MOST_STEPS {
        problems.push(format!("steps: there are 1 to {MOST_STEPS}, such as 1%,10%,50%,100%"));
    }
    for text in &request.steps {
        match Part::parse(text) {
            Some(part) => {
                let before = steps.last().copied().unwrap_or(origin);
                if part <= before {
                    problems.push(format!(
                        "steps: {part} is not more than the {before} before it; shift from the other side to go back"
                    ));
                }
                steps.push(part);
            }
            None => problems.push(format!("steps: {text:?} is no part; write it like 1%, 0.5% or 100%")),
        }
    }
    steps
}
