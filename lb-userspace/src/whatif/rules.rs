//! The rules that a drain would break.
//!
//! A rule counts for the services that lose a host by the drain: what is broken already, and not by this drain, keeps nobody from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::types::BrokenRule;
use crate::model::{Model, Service, WhenEmpty};
use crate::ring::SHARE_FULL;

/// Names in a sentence before they become a number.
const NAMED: usize = 4;

/// Hosts that do not count for their full weight, by (service, host).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unwell {
    /// In 256ths of it: none where checks say that they are down.
    pub parts: BTreeMap<(String, String), u16>,
    /// They get no new flows by a shift, so their weight is not of what the service has. If nobody else were left they would serve.
    pub aside: BTreeSet<(String, String)>,
}

/// One in the units of [`Look`]'s weights.
const ONE: u64 = SHARE_FULL as u64;

/// Every rule that draining `hosts` would break, service by service. `out` are the hosts that operators took out already,
/// `pairs` those that are out for one service, as (service, host); `only`: the drain is for this service alone.
/// `down` are those that cannot be reached, `unwell` those that are down for a service, have a part of their weight, or stand aside.
pub fn broken(
    model: &Model,
    out: &BTreeSet<String>,
    pairs: &BTreeSet<(String, String)>,
    down: &BTreeSet<String>,
    unwell: &Unwell,
    hosts: &[String],
    only: Option<&str>,
) -> Vec<BrokenRule> {
    let taken: BTreeSet<&str> =
        hosts.iter().map(String::as_str).filter(|host| !out.contains(*host)).collect();
    let services = model.services.iter().filter(|service| only.is_none_or(|only| only == service.name));
    let looks = services.filter_map(|service| {
        let part = |host: &String| match unwell.parts.get(&(service.name.clone(), host.clone())) {
            _ if down.contains(host) => 0,
            part => part.copied().unwrap_or(SHARE_FULL),
        };
        let is_aside = |host: &String| unwell.aside.contains(&(service.name.clone(), host.clone()));
        Look::at(model, service, out, pairs, &part, &is_aside, &taken)
    });
    looks
        .flat_map(|look| [look.last_host(), look.min_healthy(), look.one_zone()].into_iter().flatten())
        .collect()
}

/// One service, and its hosts by what they are and would be.
struct Look<'a> {
    model: &'a Model,
    service: &'a Service,
    /// Those that the drain takes out.
    taken: Vec<&'a str>,
    /// Those that operators took out before.
    out: Vec<&'a str>,
    /// Those that are down, and neither.
    down: Vec<&'a str>,
    /// Weights, in 256ths.
    all: u64,
    before: u64,
    after: u64,
    /// How many are active, up or not.
    active_after: usize,
    /// Somebody would be left who stands aside.
    has_reserve: bool,
}

impl<'a> Look<'a> {
    /// `None` for a service that loses no host.
    fn at(
        model: &'a Model,
        service: &'a Service,
        out: &BTreeSet<String>,
        pairs: &BTreeSet<(String, String)>,
        part: &dyn Fn(&String) -> u16,
        is_aside: &dyn Fn(&String) -> bool,
        taken: &BTreeSet<&str>,
    ) -> Option<Self> {
        let mut look = Look {
            model,
            service,
            taken: Vec::new(),
            out: Vec::new(),
            down: Vec::new(),
            all: 0,
            before: 0,
            after: 0,
            active_after: 0,
            has_reserve: false,
        };
        let is_out =
            |name: &String| out.contains(name) || pairs.contains(&(service.name.clone(), name.clone()));
        for name in &service.hosts {
            let weight = model.hosts.get(name).map_or(0, |host| u64::from(host.weight));
            let (is_out, healthy, is_taken) = (
                is_out(name),
                weight * u64::from(part(name)),
                taken.contains(name.as_str()) && !is_out(name),
            );
            let is_down = part(name) == 0;
            if is_aside(name) {
                look.has_reserve |= !is_out && !is_taken && healthy > 0;
            } else {
                look.all += weight * ONE;
            }
            if !is_out && !is_aside(name) {
                look.before += healthy;
                look.after += if is_taken { 0 } else { healthy };
            }
            look.active_after += usize::from(!is_out && !is_taken);
            match (is_taken, is_out, is_down) {
                (true, ..) => look.taken.push(name),
                (_, true, _) => look.out.push(name),
                (_, _, true) => look.down.push(name),
                _ => {}
            }
        }
        (!look.taken.is_empty()).then_some(look)
    }

    fn rule(&self, rule: &str, message: String, mend: String) -> BrokenRule {
        BrokenRule {
            rule: rule.to_owned(),
            service: self.service.name.clone(),
            message,
            mend,
            weight: self.all / ONE,
            healthy_before: self.before / ONE,
            healthy_after: self.after / ONE,
        }
    }

    /// Somebody must be left who is up and active; and if nobody is up, somebody who will be.
    fn last_host(&self) -> Option<BrokenRule> {
        let loses_last = self.after == 0 && self.before > 0 && !self.has_reserve;
        if !loses_last && self.active_after > 0 {
            return None;
        }
        let left = if self.active_after > 0 {
            format!("without a host that is up ({})", self.others())
        } else {
            "without a host".to_owned()
        };
        let forced = match self.service.when_empty {
            WhenEmpty::Reject => "new clients would be refused",
            WhenEmpty::Pass => "this machine's kernel would get new clients",
            WhenEmpty::Last => "the hosts drained last would serve on",
        };
        let message =
            format!("draining {} would leave service {} {left}", list(&self.taken), self.service.name);
        Some(self.rule("last_host", message, format!("{}; with --force {forced}", self.first_bring_back())))
    }

    fn min_healthy(&self) -> Option<BrokenRule> {
        let least = self.service.rules.min_healthy;
        if least.is_kept_by(self.after, self.all) || self.after == self.before {
            return None;
        }
        let message = format!(
            "service {} would have {} of its weight healthy ({} of {}, now {}), and min_healthy is {least}",
            self.service.name,
            percent(self.after, self.all),
            self.after / ONE,
            self.all / ONE,
            self.before / ONE,
        );
        // What may be out at once, rounded down.
        let (all, missing) = (self.all / ONE, (self.all - self.before) / ONE);
        let spare = all - (all * u64::from(least.0)).div_ceil(100);
        let mend = if missing >= spare || self.taken.len() == 1 {
            self.first_bring_back()
        } else {
            format!("drain fewer at once: hosts of weight {spare} together may be out, {missing} are")
        };
        Some(self.rule("min_healthy", message, mend))
    }

    fn one_zone(&self) -> Option<BrokenRule> {
        if !self.service.rules.one_zone_at_a_time {
            return None;
        }
        let zone = |host: &&str| self.model.hosts.get(*host)?.zone.as_deref();
        let zones_of = |hosts: &[&'a str]| -> BTreeSet<&str> { hosts.iter().filter_map(zone).collect() };
        let taken = zones_of(&self.taken);
        let others: Vec<&str> = self.out.iter().chain(&self.down).copied().collect();
        let gone = zones_of(&others);
        let zones: Vec<&str> = taken.union(&gone).copied().collect();
        if zones.len() < 2 {
            return None;
        }
        let message = format!(
            "service {} would have hosts out in zones {}, and one_zone_at_a_time is set",
            self.service.name,
            list(&zones)
        );
        let mend = if taken.len() > 1 {
            format!("drain the zones {} one after the other", list(&taken.into_iter().collect::<Vec<_>>()))
        } else {
            self.first_bring_back()
        };
        Some(self.rule("one_zone_at_a_time", message, mend))
    }

    /// Those of its hosts that are not healthy already, and why.
    fn others(&self) -> String {
        let parts = [(&self.out, "out"), (&self.down, "down")];
        let parts = parts.iter().filter(|(hosts, _)| !hosts.is_empty());
        let parts: Vec<String> = parts
            .map(|(hosts, what)| {
                format!("{} {} {what}", list(hosts), if hosts.len() == 1 { "is" } else { "are" })
            })
            .collect();
        parts.join(", ")
    }

    fn first_bring_back(&self) -> String {
        match (self.out.is_empty(), self.down.is_empty()) {
            (false, true) => format!("undrain {} first", list(&self.out)),
            (true, false) => format!("get {} up first", list(&self.down)),
            (false, false) => format!("undrain {} or get {} up first", list(&self.out), list(&self.down)),
            (true, true) => "drain fewer hosts, or add one to the service first".to_owned(),
        }
    }
}

/// Whole percent, rounded down: 49.9 % is not 50 %.
fn percent(part: u64, whole: u64) -> String {
    format!("{}%", (part * 100).checked_div(whole).unwrap_or(0))
}

/// `a`, `a and b`, `a, b, c, d and 3 more`.
pub fn list(names: &[&str]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] if names.len() <= NAMED => format!("{} and {last}", first.join(", ")),
        _ => format!("{} and {} more", names[..NAMED].join(", "), names.len() - NAMED),
    }
}
