//! A plan as it is written, checked against the config: what is wrong with it is told all at once, each with its mend.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::plan::{Plan, Planned, Proof, Task, What};
use super::window::{self, Windows};
use crate::api::types::{AtDeadline, OnFailure};
use crate::jobs;
use crate::model::{Model, Percent, Service};
use crate::ramp;
use crate::whatif::rules::Unwell;
use crate::whatif::{named, rules};

const DAY: u64 = 86_400;
/// Bytes of a plan's name.
const LONGEST_NAME: usize = 200;

/// What a plan is held against.
pub struct Site<'a> {
    pub model: &'a Model,
    /// Hosts of runs under way, with the number of the run.
    pub busy: &'a BTreeMap<String, u64>,
    /// Hosts that are drained, and who did it.
    pub out: &'a BTreeMap<String, String>,
    /// Unix seconds.
    pub now: u64,
}

/// Problems of a plan, each with its mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub file: String,
    pub problems: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    hosts: Vec<String>,
    #[serde(default)]
    order: Order,
    at_once: Option<Number>,
    min_healthy: Option<String>,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default)]
    windows: Vec<String>,
    utc_offset: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    #[serde(default)]
    drain: RawDrain,
    run: RawTask,
    #[serde(default)]
    healthy: RawHealthy,
    #[serde(default)]
    undrain: RawUndrain,
    rollback: Option<RawRollback>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Given,
    Zone,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Hosts(i64),
    Percent(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDrain {
    deadline: Option<String>,
    #[serde(default)]
    at_deadline: AtDeadline,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTask {
    command: Option<String>,
    webhook: Option<String>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRollback {
    command: Option<String>,
    webhook: Option<String>,
    timeout: Option<String>,
    healthy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHealthy {
    r#for: Option<String>,
    within: Option<String>,
    command: Option<String>,
    timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUndrain {
    ramp: Option<String>,
    watch: Option<String>,
}

/// Reads a plan; `file` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(text: &str, file: &str, site: &Site<'_>) -> Result<Plan, Refused> {
    let refused = |problems| Refused { file: file.to_owned(), problems };
    let raw: Raw =
        toml::from_str(text).map_err(|error| refused(vec![error.to_string().trim().to_owned()]))?;
    let mut reader = Reader { problems: Vec::new() };
    let plan = reader.plan(raw, site);
    if reader.problems.is_empty() { Ok(plan) } else { Err(refused(reader.problems)) }
}

struct Reader {
    problems: Vec<String>,
}

impl Reader {
    fn plan(&mut self, raw: Raw, site: &Site<'_>) -> Plan {
        let is_line = !raw.name.chars().any(char::is_control);
        if raw.name.trim().is_empty() || raw.name.len() > LONGEST_NAME || !is_line {
            self.add(format!(
                "name: it is empty, longer than {LONGEST_NAME} bytes or of several lines; say in a few words what is done"
            ));
        }
        let min_healthy = self.percent("min_healthy", raw.min_healthy.as_deref(), 0..=100).unwrap_or(0);
        let hosts = self.hosts(&raw, site, min_healthy);
        let at_once = self.at_once(raw.at_once.as_ref(), hosts.len());
        let windows = self.windows(&raw, site.now);
        let deadline = raw.drain.deadline.as_deref();
        let deadline = deadline.and_then(|text| self.seconds("drain.deadline", Some(text), 0, 0..=30 * DAY));
        if deadline.is_none() && raw.drain.at_deadline != AtDeadline::Keep {
            self.add("drain.at_deadline: there is no deadline; add deadline = \"10m\" beside it".to_owned());
        }
        let ramp = raw.undrain.ramp.as_deref();
        let ramp = ramp.and_then(|text| self.seconds("undrain.ramp", Some(text), 0, 0..=30 * DAY));
        if let Some(Err(refusal)) = ramp.map(ramp::check) {
            self.add(format!("undrain.ramp: {refusal}; {}", refusal.mend()));
        }
        let (back, check_back) = raw.rollback.map_or((None, None), |raw| {
            let RawRollback { command, webhook, timeout, healthy } = raw;
            (Some(RawTask { command, webhook, timeout }), healthy)
        });
        let rollback = back.as_ref().and_then(|task| self.task("rollback", task));
        if rollback.is_some() && raw.on_failure == OnFailure::Stop {
            self.add(
                "rollback: with on_failure = \"stop\" nothing is rolled back; write on_failure = \"rollback\" or leave [rollback] out"
                    .to_owned(),
            );
        }
        let work = self.task("run", &raw.run);
        let (proof, check_back) = self.proof(&raw.healthy, check_back);
        self.time_to_prove(&proof, &hosts, site.model);
        let watch = self.seconds("undrain.watch", raw.undrain.watch.as_deref(), 10, 0..=DAY).unwrap_or(0);
        Plan {
            name: raw.name.trim().to_owned(),
            hosts,
            at_once,
            by_zone: raw.order == Order::Zone,
            min_healthy,
            on_failure: raw.on_failure,
            windows,
            deadline,
            at_deadline: raw.drain.at_deadline,
            work: work.unwrap_or(Task { what: What::Command(String::new()), timeout: 0 }),
            proof,
            ramp,
            watch,
            rollback,
            check_back,
        }
    }

    fn add(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn hosts(&mut self, raw: &Raw, site: &Site<'_>, min_healthy: u8) -> Vec<Planned> {
        let mut names: Vec<String> = Vec::new();
        for word in &raw.hosts {
            match named(site.model, std::slice::from_ref(word)) {
                Ok(found) => {
                    for host in found {
                        if !names.contains(&host) {
                            names.push(host);
                        }
                    }
                }
                Err(unknown) => {
                    let known = unknown.known(site.model);
                    let scored = known.iter().map(|known| (strsim::jaro_winkler(word, known), known));
                    let near = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.8);
                    let mend = near.map_or_else(
                        || "`sluice status` lists hosts".to_owned(),
                        |(_, near)| format!("did you mean {near:?}?"),
                    );
                    self.add(format!("hosts: {word:?} is unknown; {mend}"));
                }
            }
        }
        if raw.hosts.is_empty() {
            self.add(
                "hosts: there are none; name them, or a group such as \"@web\", or a zone, \"@zone:a\""
                    .to_owned(),
            );
        }
        let strict = stricter(site.model, min_healthy);
        let (none, no_pairs) = (BTreeSet::new(), BTreeSet::new());
        // What one host breaks of a service others do as well.
        let mut told = BTreeSet::new();
        for host in &names {
            if let Some(run) = site.busy.get(host) {
                self.add(format!(
                    "hosts: {host} is in run {run}, which is under way; wait for its end, or `sluice maintain abort {run}`"
                ));
            }
            if site.model.is_disabled(host) {
                self.add(format!("hosts: {host} is disabled in the config; leave it out, or enable it"));
            } else if let Some(by) = site.out.get(host) {
                self.add(format!(
                    "hosts: {host} is drained, by {by}; `sluice undrain {host}` first, or leave it out"
                ));
            }
            let alone = std::slice::from_ref(host);
            for rule in rules::broken(&strict, &none, &no_pairs, &none, &Unwell::default(), alone, None) {
                if !told.insert((rule.rule.clone(), rule.service.clone())) {
                    continue;
                }
                self.add(format!(
                    "rules: {}, even with all hosts well: this rule can never hold; add hosts to {}, or lower its demand",
                    rule.message, rule.service
                ));
            }
        }
        let mut hosts: Vec<Planned> = names
            .into_iter()
            .map(|host| Planned { zone: site.model.hosts.get(&host).and_then(|of| of.zone.clone()), host })
            .collect();
        if raw.order == Order::Zone {
            // The zones in the order in which the hosts name them first.
            let mut zones: Vec<Option<String>> = Vec::new();
            for planned in &hosts {
                if !zones.contains(&planned.zone) {
                    zones.push(planned.zone.clone());
                }
            }
            hosts.sort_by_key(|planned| zones.iter().position(|zone| *zone == planned.zone));
        }
        hosts
    }

    fn at_once(&mut self, number: Option<&Number>, hosts: usize) -> usize {
        match number {
            None => 1,
            Some(Number::Hosts(number)) if *number >= 1 => usize::try_from(*number).unwrap_or(usize::MAX),
            Some(Number::Hosts(_)) => {
                self.add(
                    "at_once: with less than one host at once nothing is ever done; write at_once = 1"
                        .to_owned(),
                );
                1
            }
            Some(Number::Percent(text)) => {
                let percent = self.percent("at_once", Some(text), 1..=100).unwrap_or(1);
                // Not more than that part, and one at least.
                (hosts * usize::from(percent) / 100).max(1)
            }
        }
    }

    fn windows(&mut self, raw: &Raw, now: u64) -> Windows {
        let mut time = |name: &str, text: &Option<String>| {
            let text = text.as_deref()?;
            let time = humantime::parse_rfc3339_weak(text).ok();
            let seconds = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            if seconds.is_none() {
                self.add(format!(
                    "{name}: {text:?} is no time; write it like \"2026-11-27T22:00:00Z\", in UTC"
                ));
            }
            seconds.map(|seconds| seconds.as_secs())
        };
        let (first, last) = (time("not_before", &raw.not_before), time("not_after", &raw.not_after));
        let offset = raw.utc_offset.as_deref().map_or(Some(0), window::offset);
        if offset.is_none() {
            self.add("utc_offset: it is none; write it like \"+02:00\"".to_owned());
        }
        match Windows::parse(&raw.windows, offset.unwrap_or(0), first, last) {
            Ok(windows) => {
                if windows.opens_at(now).is_none() {
                    self.add(
                        "windows: none opens between now and not_after, so the run would never begin; choose a later not_after or other windows"
                            .to_owned(),
                    );
                }
                windows
            }
            Err(wrong) => {
                self.problems.extend(wrong.into_iter().map(|wrong| format!("windows: {wrong}")));
                Windows::default()
            }
        }
    }

    fn task(&mut self, name: &str, raw: &RawTask) -> Option<Task> {
        let timeout = self.seconds(&format!("{name}.timeout"), raw.timeout.as_deref(), 600, 1..=DAY);
        let what = match (&raw.command, &raw.webhook) {
            (Some(command), None) if !command.trim().is_empty() => {
                self.command(&format!("{name}.command"), command);
                Some(What::Command(command.clone()))
            }
            (None, Some(url)) if url.starts_with("http://") && url.parse::<axum::http::Uri>().is_ok() => {
                Some(What::Webhook(url.clone()))
            }
            (None, Some(url)) => {
                self.add(format!(
                    "{name}.webhook: {url:?} is no http:// URL; for https, have a command run curl"
                ));
                None
            }
            (Some(_), Some(_)) => {
                self.add(format!("{name}: it has both a command and a webhook; leave one of them out"));
                None
            }
            (Some(_), None) | (None, None) => {
                self.add(format!(
                    "{name}: there is nothing to do; add command = \"...\" or webhook = \"http://...\""
                ));
                None
            }
        };
        Some(Task { what: what?, timeout: timeout? })
    }

    fn command(&mut self, name: &str, command: &str) {
        if let Err(wrong) = jobs::check(command) {
            self.add(format!("{name}: it {wrong}"));
        }
    }

    /// And the check on the way back.
    fn proof(&mut self, raw: &RawHealthy, back: Option<String>) -> (Proof, Option<Task>) {
        let hold = self.seconds("healthy.for", raw.r#for.as_deref(), 5, 0..=DAY).unwrap_or(0);
        let within = self.seconds("healthy.within", raw.within.as_deref(), 300.max(2 * hold), 1..=DAY);
        if within.is_some_and(|within| within <= hold) {
            self.add(format!(
                "healthy.within: a host cannot have been well for {hold} s within {} s; make it longer",
                within.unwrap_or(0)
            ));
        }
        let timeout = self.seconds("healthy.timeout", raw.timeout.as_deref(), 10, 1..=3600);
        if raw.timeout.is_some() && raw.command.is_none() && back.is_none() {
            self.add(
                "healthy.timeout: there is no command that it could be for; add command = \"...\"".to_owned(),
            );
        }
        for (name, command) in [("healthy.command", &raw.command), ("rollback.healthy", &back)] {
            if let Some(command) = command {
                self.command(name, command);
            }
        }
        let task = |command: String| Some(Task { what: What::Command(command), timeout: timeout? });
        let check = raw.command.clone().and_then(task);
        (Proof { hold, within: within.unwrap_or(1), check }, back.and_then(task))
    }

    /// A host is proven by a run of each of its checks that begins after its work, and so seldom may they come that none does in time.
    fn time_to_prove(&mut self, proof: &Proof, hosts: &[Planned], model: &Model) {
        let is_meant = |service: &&Service| {
            !service.checks.is_empty() && hosts.iter().any(|of| service.hosts.contains(&of.host))
        };
        for service in model.services.iter().filter(is_meant) {
            let health = &service.health;
            let late = health.interval * u32::from(health.jitter.0) / 100;
            // A second, as all is counted in whole ones.
            let needed =
                (health.interval + late + health.timeout).as_secs_f64().ceil() as u64 + 1 + proof.hold;
            if proof.within < needed {
                self.add(format!(
                    "healthy.within: by the checks of {} it may take {needed} s until a host is shown to be well, and it is {} s; make it longer",
                    service.name, proof.within
                ));
            }
        }
    }

    /// Whole seconds, rounded up.
    fn seconds(
        &mut self,
        name: &str,
        text: Option<&str>,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let Some(text) = text else { return Some(default) };
        let Ok(time) = humantime::parse_duration(text) else {
            self.add(format!("{name}: {text:?} is no duration; write it like \"30s\", \"5m\" or \"1h 30m\""));
            return None;
        };
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        if !range.contains(&seconds) {
            self.add(format!(
                "{name}: {text:?} is out of range; it is from {} to {} s",
                range.start(),
                range.end()
            ));
            return None;
        }
        Some(seconds)
    }

    fn percent(&mut self, name: &str, text: Option<&str>, range: std::ops::RangeInclusive<u8>) -> Option<u8> {
        let text = text?;
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.add(format!(
                "{name}: {text:?} is no percentage from {} to {}; write it like \"50%\"",
                range.start(),
                range.end()
            ));
        }
        number
    }
}

/// The model with at least so much of each service healthy.
pub fn stricter(model: &Model, min_healthy: u8) -> Model {
    let mut model = model.clone();
    for service in &mut model.services {
        service.rules.min_healthy = service.rules.min_healthy.max(Percent(min_healthy));
    }
    model
}
