//! Health: what checks found is journalled, told, and put into effect; many changes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::layout::{AtDeadline, Deadline};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::drains::near;
use super::publication::CUT_OFF;
use super::rings::{Rings, Shares};
use super::{Engine, Error, Intents};
use crate::api::types::{self, Happening, OperState};
use crate::health::choose::{Choice, Member, choose};
use crate::health::{self, Board, CheckId, Entry, Kept, Oper, Run, Target, Way, sum};
use crate::journal::{Change, HealthRows};
use crate::model::{DownFlows, Model, Service, Through, WhenEmpty};
use crate::netlink::NextHopState;
use crate::plan::{Left, audience};
use crate::ramp::Ramp;
use crate::ring::SHARE_FULL;
use crate::whatif::rules::Unwell;

/// Flows a second that are moved or reset of a host that is down.
const ENDS_A_SECOND: u64 = 1000;

/// What the checks of a host for a service came to, as the journal has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub oper: Oper,
    /// Unix seconds.
    pub since: u64,
    /// Check and what it said.
    pub why: String,
    /// It was down before, so it comes back by the service's ramp, if there is one.
    #[serde(default)]
    pub is_back: bool,
    pub checks: BTreeMap<String, Kept>,
}

/// What a service remembers as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Whole {
    has_joined: bool,
}

#[derive(Clone, Default)]
pub(super) struct Health {
    /// The checks of the config that is in force, also while another one is tried.
    pub board: Arc<Board>,
    /// By (service, host).
    pub pairs: BTreeMap<(String, String), Pair>,
    pub joined: BTreeSet<String>,
    /// Who is used, by service; of services that choose.
    pub choices: BTreeMap<String, Choice>,
    /// Shares as the rings have them, by service or some clients of it.
    pub shares: BTreeMap<String, Shares>,
    /// Services for which there was no room for a ring of their own.
    pub stuck: BTreeSet<String>,
}

impl Health {
    /// Takes up what the journal knows of what the model has checked.
    fn take_up(&mut self, model: &Model, rows: &HealthRows) {
        (self.pairs, self.joined) = (BTreeMap::new(), BTreeSet::new());
        for service in &model.services {
            let name = &service.name;
            let whole = rows.get(&(name.clone(), String::new()));
            let whole: Option<Whole> = whole.and_then(|body| serde_json::from_value(body.clone()).ok());
            if whole.is_some_and(|whole| whole.has_joined) {
                self.joined.insert(name.clone());
            }
            for host in service.hosts.iter().filter(|_| !service.checks.is_empty()) {
                let pair = (name.clone(), host.clone());
                let known = rows.get(&pair).map(|body| serde_json::from_value::<Pair>(body.clone()));
                let mut known = match known {
                    Some(Ok(known)) => known,
                    Some(Err(error)) => {
                        log::warn!("what the journal has of {host} for {name} cannot be read: {error}");
                        Pair::default()
                    }
                    None => Pair::default(),
                };
                let checks: BTreeSet<String> = service.checks.iter().map(ToString::to_string).collect();
                known.checks.retain(|check, _| checks.contains(check));
                for check in &checks {
                    known.checks.entry(check.clone()).or_default();
                }
                let (oper, _) = sum(&known.checks);
                if oper != known.oper {
                    // The check that said so is gone, or another has come.
                    known = Pair { oper, since: 0, why: String::new(), is_back: false, ..known };
                }
                self.pairs.insert(pair, known);
            }
        }
    }

    /// What each check came to, as far as it is known.
    fn kept(&self) -> BTreeMap<CheckId, Kept> {
        let checks = self.pairs.iter().flat_map(|((service, host), pair)| {
            pair.checks.iter().map(move |(check, kept)| {
                let id = CheckId { service: service.clone(), host: host.clone(), check: check.clone() };
                (id, kept.clone())
            })
        });
        checks.collect()
    }

    fn oper(&self, service: &str, host: &str) -> Oper {
        self.pairs.get(&(service.to_owned(), host.to_owned())).map_or(Oper::Unknown, |pair| pair.oper)
    }
}

/// All that is asked.
fn targets(model: &Model, instance: &str) -> Vec<Target> {
    let mut targets = Vec::new();
    for service in &model.services {
        let health = Arc::new(service.health.clone());
        for host in &service.hosts {
            let Some(address) = model.address(service, host) else { continue };
            for check in &service.checks {
                let id =
                    CheckId { service: service.name.clone(), host: host.clone(), check: check.to_string() };
                targets.push(Target {
                    id,
                    check: check.clone(),
                    health: health.clone(),
                    address,
                    vip: service.vip.address(),
                    instance: instance.to_owned(),
                    seed: targets.len() as u64,
                });
            }
        }
    }
    targets
}

fn is_clients_of(name: &str, service: &Service) -> bool {
    let (of, clients) = audience::parse(name);
    of == service.name && clients.is_some()
}

impl Engine {
    /// Where checks write what they find.
    pub fn board(&self) -> Arc<Board> {
        self.health.board.clone()
    }

    /// Takes up what is known of the hosts of the model. It is all in the journal, as that learns of it first. Who is checked stays, until
    /// [`Self::begin_checks`].
    pub(super) fn resume_health(&mut self) -> Result<(), Error> {
        let rows = self.journal.health()?;
        self.health.take_up(&self.model, &rows);
        Ok(())
    }

    /// The checks of the model, and no others, are made from now on. What is known of those that stay stays.
    pub(super) fn begin_checks(&self) {
        self.health.board.set(targets(&self.model, &self.instance), &self.health.kept());
    }

    /// Forgets what was found of hosts that have left, unless they may come back with a config that waits to be confirmed.
    pub(super) fn forget_strangers(&mut self) -> Result<(), Error> {
        if self.waiting().is_some() {
            return Ok(());
        }
        let services = self.model.services.iter();
        let known: BTreeMap<&String, &Service> = services.map(|service| (&service.name, service)).collect();
        let is_stranger = |(service, host): &(String, String)| {
            known.get(service).is_none_or(|of| {
                let is_asked = !of.checks.is_empty() && of.hosts.contains(host);
                let is_whole = host.is_empty() && !of.standby.is_empty();
                !is_asked && !is_whole
            })
        };
        let gone: Vec<(String, String)> = self.journal.health()?.into_keys().filter(is_stranger).collect();
        if !gone.is_empty() {
            self.journal.forget_health(&gone)?;
        }
        Ok(())
    }

    /// Shares of the present, for rings that go on from their histories.
    pub(super) fn resume_shares(&mut self) {
        let (choices, _) = self.choose();
        self.health.shares = self.wanted_shares(&choices);
    }

    /// Takes in what changed on the board since the last time: journals it, tells it and puts it into effect.
    pub fn follow_health(&mut self) -> Result<(), Error> {
        let changed = self.health.board.take_changed();
        if changed.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let (mut pairs, mut told) = (BTreeMap::new(), Vec::new());
        let (mut rows, mut detail) = (HealthRows::new(), Vec::new());
        for (service, host) in &changed {
            let pair = (service.clone(), host.clone());
            let Some(before) = self.health.pairs.get(&pair) else { continue };
            let checks = self.health.board.kept(service, host);
            let (oper, check) = sum(&checks);
            let after = if oper == before.oper {
                Pair { checks, ..before.clone() }
            } else {
                let latest = checks.values().max_by_key(|kept| kept.since);
                let why = match check.and_then(|check| checks.get_key_value(check)) {
                    Some((check, kept)) => format!("{check}: {}", kept.why),
                    None => latest.map(|kept| kept.why.clone()).unwrap_or_default(),
                };
                let is_back = oper == Oper::Up && before.oper == Oper::Down;
                detail.push(json!({
                    "service": service, "host": host, "from": before.oper, "to": oper, "why": why,
                }));
                told.push((service.clone(), host.clone(), before.oper, oper, why.clone()));
                Pair { oper, since: now, why, is_back, checks }
            };
            rows.insert(pair.clone(), serde_json::to_value(&after)?);
            pairs.insert(pair, after);
        }
        let change = Change { at: now, author: "sluice", reason: None };
        let detail = json!({ "changes": detail });
        if let Err(error) = self.journal.note_health(&rows, &change, &detail) {
            self.health.board.give_back(changed);
            return Err(error.into());
        }
        self.health.pairs.extend(pairs);
        for (service, host, from, to, why) in told {
            match (from, to) {
                (_, Oper::Down) => {
                    log::warn!("{host} is down for {service}: {why}");
                    self.tell(Happening::HostDown { host, service: Some(service), why });
                }
                (Oper::Down, _) => {
                    log::info!("{host} is up for {service}: {why}");
                    self.tell(Happening::HostUp { host, service: Some(service), why });
                }
                _ => log::debug!("{host} is up for {service}: {why}"),
            }
        }
        self.put_health_into_effect()
    }

    /// Publishes if health, or who is out, leaves somebody another share than the rings have.
    pub(super) fn put_health_into_effect(&mut self) -> Result<(), Error> {
        if self.health_is_other() {
            self.publish()?;
        }
        Ok(())
    }

    /// Whether a publication would give other shares by health. What operators did may change who has to stand in.
    pub(super) fn health_is_other(&self) -> bool {
        let (choices, _) = self.choose();
        let mut shares = self.wanted_shares(&choices);
        shares.retain(|service, _| !self.health.stuck.contains(service));
        let is_stuck = |service: &String| self.health.stuck.contains(service);
        let known: BTreeSet<&String> = self.rings.names().collect();
        let have = self.health.shares.iter().filter(|(name, _)| known.contains(name) && !is_stuck(name));
        let have: BTreeMap<&String, &Shares> = have.collect();
        choices != self.health.choices || shares.iter().collect::<BTreeMap<_, _>>() != have
    }

    /// Who of each service is used, and the services whose standby hosts have joined.
    fn choose(&self) -> (BTreeMap<String, Choice>, BTreeSet<String>) {
        let Intents { out, pairs, .. } = self.intents();
        let mut choices = BTreeMap::new();
        for service in self.model.services.iter().filter(|service| service.chooses()) {
            let tier = |host: &String| u8::from(service.standby.contains(host));
            let weight = |host: &String| self.model.hosts.get(host).map_or(0, |host| host.weight);
            let primary = service.hosts.iter().filter(|host| tier(host) == 0);
            let primary: u64 = primary.map(|host| u64::from(weight(host))).sum();
            let member = |host: &String| {
                let pair = self.health.pairs.get(&(service.name.clone(), host.clone()));
                let is_reachable = !self.cut_off.missing().contains(host);
                let oper = pair.map_or(Oper::Unknown, |pair| pair.oper);
                let since = pair.map_or(0, |pair| pair.since);
                Member {
                    name: host.clone(),
                    weight: weight(host),
                    tier: tier(host),
                    oper,
                    is_reachable,
                    since,
                }
            };
            let is_out = |host: &String| {
                out.contains(host) || pairs.contains_key(&(service.name.clone(), host.clone()))
            };
            let members: Vec<Member> =
                service.hosts.iter().filter(|host| !is_out(host)).map(member).collect();
            let had_joined = self.health.joined.contains(&service.name);
            let mut choice = choose(&members, primary, &service.health, had_joined);
            let is_empty = !members.iter().any(|member| choice.is_used(&member.name));
            if is_empty && service.when_empty == WhenEmpty::Last {
                // Those that were in use last serve on, and are not kept from it by what nobody can be sure of.
                choice.is_panic = !choice.ejected.is_empty();
                choice.ejected.clear();
            }
            choices.insert(service.name.clone(), choice);
        }
        let joined = choices.iter().filter(|(_, choice)| choice.has_joined);
        let joined = joined.map(|(service, _)| service.clone()).collect();
        (choices, joined)
    }

    /// Shares of the hosts that a service's health leaves less than the full one.
    fn shares_by_health(&self, service: &Service, choices: &BTreeMap<String, Choice>, now: u64) -> Shares {
        let Some(choice) = choices.get(&service.name) else { return Shares::new() };
        let share = |host: &String| {
            if !choice.is_used(host) {
                return Some((host.clone(), 0));
            }
            let pair = self.health.pairs.get(&(service.name.clone(), host.clone()))?;
            let seconds = service.health.ramp.filter(|_| pair.is_back && pair.oper == Oper::Up)?.as_secs();
            let share = Ramp::new(pair.since, seconds, "sluice", None).share(now);
            (share < SHARE_FULL && !choice.is_panic).then(|| (host.clone(), share))
        };
        service.hosts.iter().filter_map(share).collect()
    }

    /// Shares by service, and by clients that are treated apart, of services whose health leaves some host less than the full one.
    pub(super) fn wanted_shares(&self, choices: &BTreeMap<String, Choice>) -> BTreeMap<String, Shares> {
        let now = self.clock.now();
        let services = self.model.services.iter().filter(|service| service.chooses());
        let mut wanted = BTreeMap::new();
        for service in services {
            let shares = self.shares_by_health(service, choices, now);
            if !shares.is_empty() {
                let clients = self.rings.names().filter(|name| is_clients_of(name, service));
                wanted.extend(clients.map(|name| (name.clone(), shares.clone())));
                wanted.insert(service.name.clone(), shares);
            }
        }
        wanted
    }

    /// The shares that a service's hosts are to have by its health, or for some clients of it; those that are yet to be treated apart have
    /// what all have.
    pub(super) fn shares_of(&self, name: &str) -> Shares {
        let is_known = self.rings.names().any(|known| known == name);
        let name = if is_known { name } else { audience::parse(name).0 };
        self.health.shares.get(name).cloned().unwrap_or_default()
    }

    /// Before a publication: chooses anew.
    pub(super) fn take_in_health(&mut self) -> Result<(), Error> {
        let (choices, joined) = self.choose();
        self.tell_of_choices(&choices);
        if joined != self.health.joined {
            let rows: HealthRows = joined
                .symmetric_difference(&self.health.joined)
                .map(|service| {
                    let whole = Whole { has_joined: joined.contains(service) };
                    Ok(((service.clone(), String::new()), serde_json::to_value(whole)?))
                })
                .collect::<serde_json::Result<_>>()?;
            let change = Change { at: self.clock.now(), author: "sluice", reason: None };
            let changes: Vec<_> = rows
                .iter()
                .map(|((service, _), whole)| json!({ "service": service, "standby": whole["has_joined"] }))
                .collect();
            self.journal.note_health(&rows, &change, &json!({ "changes": changes }))?;
            self.health.joined = joined;
        }
        self.health.shares = self.wanted_shares(&choices);
        self.health.choices = choices;
        Ok(())
    }

    /// What services got of what their health wants.
    pub(super) fn note_shares(&mut self, rings: &Rings, stuck: BTreeSet<String>) {
        for service in stuck.difference(&self.health.stuck) {
            log::error!("{service} cannot follow its health: there is no room for a ring of its own");
        }
        self.health.stuck = stuck;
        self.health.shares = rings.shares();
    }

    fn tell_of_choices(&self, choices: &BTreeMap<String, Choice>) {
        let none = Choice::default();
        for (service, choice) in choices {
            let before = self.health.choices.get(service).unwrap_or(&none);
            match (before.is_panic, choice.is_panic) {
                (false, true) => log::error!(
                    "{service}: so few hosts are up that all are used again (panic = \"{}\")",
                    self.model
                        .services
                        .iter()
                        .find(|of| of.name == *service)
                        .map_or_else(String::new, |of| of.health.panic.to_string()),
                ),
                (true, false) => log::info!("{service}: enough hosts are up again"),
                _ => {}
            }
            match (before.has_joined, choice.has_joined) {
                (false, true) => log::warn!("{service}: the standby hosts join"),
                (true, false) => log::info!("{service}: the standby hosts leave"),
                _ => {}
            }
        }
    }

    /// What health leaves hosts, as the data path is to have it: by the rings, whatever was wished.
    pub(super) fn left_by_health(&self) -> BTreeMap<(String, String), Left> {
        let mut left = BTreeMap::new();
        for (name, shares) in &self.health.shares {
            let service = audience::parse(name).0;
            let Some(model) = self.model.services.iter().find(|of| of.name == service) else { continue };
            for (host, _) in shares.iter().filter(|(_, share)| **share == 0) {
                let known = self.health.pairs.get(&(service.to_owned(), host.clone()));
                let Some(known) = known.filter(|pair| pair.oper == Oper::Down) else {
                    continue;
                };
                let left_of = Left { is_down: true, deadline: self.deadline_by_health(model, known) };
                left.insert((name.clone(), host.clone()), left_of);
            }
        }
        left
    }

    fn deadline_by_health(&self, service: &Service, pair: &Pair) -> Option<Deadline> {
        let action = match service.health.down_flows {
            DownFlows::Keep => return None,
            DownFlows::Move => AtDeadline::Move,
            DownFlows::Reset => AtDeadline::Reset,
        };
        let at = self.clock.monotonic_of(pair.since + service.health.down_after.as_secs());
        // How many there are then nobody knows yet; what the flow table has room for, in shares.
        let flows = u64::from(self.model.flow_table.pins) / service.hosts.len().max(1) as u64;
        let spread = u16::try_from((flows / ENDS_A_SECOND).clamp(1, 10)).unwrap_or(1);
        Some(Deadline { at, action, spread })
    }

    /// Tells checks through VIPs how packets leave for the backends.
    pub(super) fn tell_ways(&self) {
        let own = self.own.borrow();
        let is_vip =
            |address: &IpAddr| self.model.services.iter().any(|service| service.vip.contains(*address));
        let mut ways = BTreeMap::new();
        let through = |service: &&Service| service.checks.iter().any(|check| check.through == Through::Vip);
        for service in self.model.services.iter().filter(through) {
            let Some(&number) = self.ids.services.get(&service.name) else { continue };
            for host in &service.hosts {
                let Some(backend) =
                    self.ids.hosts.get(host).and_then(|&id| self.dataplane.published_backend(number, id))
                else {
                    continue;
                };
                let address = self.model.address(service, host);
                let hop = address.and_then(|address| self.published_hops.get(&address));
                let usual = hop.and_then(NextHopState::next_hop).map(|hop| hop.source);
                let is_fit = |address: &IpAddr| address.is_ipv4() == service.vip.is_ipv4();
                let any = || {
                    let all = own.values().flat_map(|own| &own.addresses).copied();
                    all.filter(is_fit).find(|address| !is_vip(address) && !address.is_loopback())
                };
                let source = usual.filter(is_fit).or_else(any);
                ways.insert((service.name.clone(), host.clone()), Way { backend, source });
            }
        }
        self.health.board.set_ways(ways);
    }

    /// Services that checks say a host is down for.
    fn down_for(&self, host: &str) -> Vec<String> {
        let services = self.model.services.iter();
        services
            .filter(|service| self.health.oper(&service.name, host) == Oper::Down)
            .map(|service| service.name.clone())
            .collect()
    }

    /// Whether a host can be used at all, and the services that checks say it is down for.
    pub(super) fn oper(&self, host: &str) -> (OperState, Vec<String>) {
        let down_for = self.down_for(host);
        let mut services =
            self.model.services.iter().filter(|service| service.hosts.iter().any(|of| of == host));
        let is_down = self.down.contains(host)
            || !down_for.is_empty() && services.all(|service| down_for.contains(&service.name));
        (if is_down { OperState::Down } else { OperState::Up }, down_for)
    }

    /// (service, host) pairs that checks say are down.
    pub(super) fn unwell(&self) -> Unwell {
        let down = self.health.pairs.iter().filter(|(_, pair)| pair.oper == Oper::Down);
        down.map(|(pair, _)| pair.clone()).collect()
    }

    /// What an operator should know of health.
    pub(super) fn health_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.cut_off.is_on() {
            problems.push(format!("no host can be reached: {CUT_OFF}"));
        }
        for ((service, host), pair) in &self.health.pairs {
            if pair.oper == Oper::Down {
                problems.push(format!("{host} is down for {service}: {}", pair.why));
            }
        }
        for (service, choice) in &self.health.choices {
            if choice.is_panic {
                problems
                    .push(format!("{service}: so few hosts are up that those that are down are used, too"));
            }
            if choice.has_joined {
                problems.push(format!("{service}: its standby hosts are in use"));
            }
            for host in &choice.spared {
                problems.push(format!("{host} is down for {service}, and used: max_ejected is reached"));
            }
        }
        for service in &self.health.stuck {
            problems.push(format!(
                "{service} cannot follow its health: there is no room for a ring of its own (64 at most)"
            ));
        }
        let not_run = self.health.board.not_run();
        if not_run > 0 {
            problems.push(format!("{not_run} checks could not be made by this machine: see `sluice health`"));
        }
        problems
    }

    /// What checks found, of one host or of all.
    pub fn health_report(&self, host: Option<&str>) -> Result<types::HealthReport, Error> {
        self.known_host(host)?;
        let (board, now) = (&self.health.board, self.clock.now());
        let clock = board.now();
        let status = |entry: Entry| {
            let (id, kept) = (&entry.target.id, &entry.track.kept);
            types::CheckStatus {
                service: id.service.clone(),
                host: id.host.clone(),
                check: id.check.clone(),
                oper: kept.oper,
                since: (kept.since > 0).then_some(kept.since),
                why: kept.why.clone(),
                streak: entry.track.streak,
                held_until: kept.held_until(entry.target.health.damping.as_secs(), now),
                next_in: entry.due.map(|due| due.saturating_sub(clock) as f64 / 1000.0),
                results: entry.seen.iter().map(|seen| result(seen.at, &seen.run)).collect(),
            }
        };
        let checks = board.entries(host).into_iter().map(status).collect();
        let services = self.model.services.iter().filter(|service| service.chooses());
        let services =
            services.filter(|service| host.is_none_or(|host| service.hosts.iter().any(|of| of == host)));
        Ok(types::HealthReport {
            checks,
            services: services.map(|service| self.service_health(service)).collect(),
        })
    }

    fn service_health(&self, service: &Service) -> types::ServiceHealth {
        let choice = self.health.choices.get(&service.name).cloned().unwrap_or_default();
        let hosts = |oper| {
            let of = service.hosts.iter().filter(|host| self.health.oper(&service.name, host) == oper);
            of.cloned().collect()
        };
        types::ServiceHealth {
            service: service.name.clone(),
            up: hosts(Oper::Up),
            down: hosts(Oper::Down),
            unknown: hosts(Oper::Unknown),
            panic: choice.is_panic,
            standby_in_use: choice.has_joined,
            ejected: choice.ejected.into_iter().collect(),
            spared: choice.spared.into_iter().collect(),
            waiting: choice.waiting.into_iter().collect(),
        }
    }

    /// What `sluice health test` asks of a host.
    pub fn health_targets(&self, host: &str) -> Result<Vec<Arc<Target>>, Error> {
        self.known_host(Some(host))?;
        Ok(self.health.board.entries(Some(host)).into_iter().map(|entry| entry.target).collect())
    }

    fn known_host(&self, host: Option<&str>) -> Result<(), Error> {
        match host.filter(|host| !self.model.hosts.contains_key(*host)) {
            Some(name) => {
                Err(Error::NoHost { name: name.to_owned(), near: near(name, self.model.hosts.keys()) })
            }
            None => Ok(()),
        }
    }
}

/// A run as the API has it.
fn result(at: u64, run: &Run) -> types::CheckResult {
    let (outcome, why) = match &run.result {
        health::Result::Ok(why) => (types::CheckOutcome::Ok, why),
        health::Result::Failed(why) => (types::CheckOutcome::Failed, why),
        health::Result::NotRun(why) => (types::CheckOutcome::NotRun, why),
    };
    types::CheckResult { at, outcome, why: why.clone(), took_ms: run.took.as_secs_f64() * 1000.0 }
}

/// A run that was asked for.
pub fn tested(target: &Target, at: u64, run: &Run) -> types::TestedCheck {
    let id = &target.id;
    let step = |(after, what): &(std::time::Duration, String)| types::CheckStep {
        after_ms: after.as_secs_f64() * 1000.0,
        what: what.clone(),
    };
    types::TestedCheck {
        service: id.service.clone(),
        host: id.host.clone(),
        check: id.check.clone(),
        result: result(at, run),
        steps: run.steps.iter().map(step).collect(),
    }
}
