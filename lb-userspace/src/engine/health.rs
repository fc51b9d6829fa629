//! Health: what checks found is journalled, told, and put into effect; many changes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::layout::{AtDeadline, Deadline};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::findings::Pair;
use super::passive::Watched;
use super::rings::{Rings, Shares};
use super::{Engine, Error, Intents};
use crate::api::types::Happening;
use crate::health::choose::{Choice, Member, choose};
use crate::health::{Board, CheckId, Kept, Oper, Target, Way, passive, sum};
use crate::journal::{Change, HealthRows};
use crate::metrics::Ejections;
use crate::model::{DownFlows, Model, Service, Through, WhenEmpty};
use crate::netlink::NextHopState;
use crate::plan::{Ids, Left, audience};
use crate::ring::SHARE_FULL;
use crate::whatif::rules::Unwell;

/// Flows a second that are moved or reset of a host that is down.
const ENDS_A_SECOND: u64 = 1000;

/// What a service remembers as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whole {
    pub has_joined: bool,
}

/// By (service, host); Unix seconds, or none yet.
type Ends = BTreeMap<(String, String), Option<u64>>;

#[derive(Clone, Default)]
pub(super) struct Health {
    /// The checks of the config that is in force, also while another one is tried.
    pub board: Arc<Board>,
    /// By (service, host).
    pub pairs: BTreeMap<(String, String), Pair>,
    pub joined: BTreeSet<String>,
    /// Who is used, by service; of services that choose.
    pub choices: BTreeMap<String, Choice>,
    /// By service.
    pub ejections: BTreeMap<String, Ejections>,
    /// Shares as the rings have them, by service or some clients of it.
    pub shares: BTreeMap<String, Shares>,
    /// Services for which there was no room for a ring of their own.
    pub stuck: BTreeSet<String>,
    /// Since when flows are to end, as the data path was told last.
    ends: Ends,
    pub passive: Watched,
}

impl Health {
    /// Takes up what the journal knows of what the model has checked.
    fn take_up(&mut self, model: &Model, ids: &Ids, rows: &HealthRows, now: u64) {
        (self.pairs, self.joined) = (BTreeMap::new(), BTreeSet::new());
        for service in &model.services {
            let name = &service.name;
            let whole = rows.get(&(name.clone(), String::new()));
            let whole: Option<Whole> = whole.and_then(|body| serde_json::from_value(body.clone()).ok());
            if whole.is_some_and(|whole| whole.has_joined) {
                self.joined.insert(name.clone());
            }
            for host in service.hosts.iter().filter(|_| service.is_checked()) {
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
                let mut checks: BTreeSet<String> = service.checks.iter().map(ToString::to_string).collect();
                if service.ejects() {
                    checks.insert(passive::NAME.to_owned());
                    // Nothing speaks against it until clients do.
                    let well = || Kept { oper: Oper::Up, ..Kept::default() };
                    known.checks.entry(passive::NAME.to_owned()).or_insert_with(well);
                }
                known.checks.retain(|check, _| checks.contains(check));
                known.checks.values_mut().for_each(|kept| kept.not_after(now));
                known.since = known.since.min(now);
                known.back = known.back.map(|back| back.min(now));
                for check in &checks {
                    known.checks.entry(check.clone()).or_default();
                }
                if sum(&known.checks).0 != known.oper {
                    // The check that said so is gone, or another has come.
                    let ramp = service.health.ramp.map(|ramp| ramp.as_secs());
                    let after = known.after(known.checks.clone(), ramp, now);
                    known = Pair { since: 0, why: String::new(), ..after };
                }
                self.pairs.insert(pair, known);
            }
        }
        self.passive.take_up(model, ids, &self.pairs, now);
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

    pub(super) fn oper(&self, service: &str, host: &str) -> Oper {
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
                    is_rst_well: false,
                });
            }
        }
    }
    targets
}

/// What the journal is to have of hosts that are not what it has of them, though none of their checks said anything new.
struct Recast {
    rows: HealthRows,
    /// For people.
    changes: Vec<Value>,
}

fn recast(rows: &HealthRows, pairs: &BTreeMap<(String, String), Pair>) -> Result<Recast, Error> {
    let mut recast = Recast { rows: HealthRows::new(), changes: Vec::new() };
    for (pair, now) in pairs {
        let Some(Ok(noted)) = rows.get(pair).map(|row| serde_json::from_value::<Pair>(row.clone())) else {
            continue;
        };
        if noted.oper != now.oper {
            let (service, host) = pair;
            recast.changes.push(json!({
                "service": service, "host": host, "from": noted.oper, "to": now.oper, "why": "it has other checks now",
            }));
            recast.rows.insert(pair.clone(), serde_json::to_value(now)?);
        }
    }
    Ok(recast)
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
        self.health.take_up(&self.model, &self.ids, &rows, self.clock.now());
        Ok(())
    }

    /// The checks of the model, and no others, are made from now on. What is known of those that stay stays.
    pub(super) fn begin_checks(&self) {
        self.health.board.set_passive(self.health.passive.kept(&self.model));
        self.health.board.set(targets(&self.model, &self.instance), &self.health.kept());
    }

    /// Lets what the journal has of checks go by the model, unless the config before may come back: forgets hosts that have left, and notes of
    /// those that stay what other checks make of them. Else they would be taken up from what a check said that is gone, and begin their ramp anew,
    /// with each config and each start.
    pub(super) fn keep_findings(&mut self) -> Result<(), Error> {
        if self.waiting().is_some() {
            return Ok(());
        }
        let rows = self.journal.health()?;
        let recast = recast(&rows, &self.health.pairs)?;
        if !recast.rows.is_empty() {
            let change = Change { at: self.clock.now(), author: "sluice", reason: None };
            self.journal.note_health(&recast.rows, &change, &json!({ "changes": recast.changes }))?;
        }
        let services = self.model.services.iter();
        let known: BTreeMap<&String, &Service> = services.map(|service| (&service.name, service)).collect();
        let is_stranger = |(service, host): &(String, String)| {
            known.get(service).is_none_or(|of| {
                let is_asked = of.is_checked() && of.hosts.contains(host);
                let is_whole = host.is_empty() && !of.standby.is_empty();
                !is_asked && !is_whole
            })
        };
        let gone: Vec<(String, String)> = rows.into_keys().filter(is_stranger).collect();
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

    /// Takes in what changed on the board since the last time, and puts it into effect.
    pub fn follow_health(&mut self) -> Result<(), Error> {
        self.note_findings()?;
        self.put_health_into_effect()
    }

    /// Hosts that are down, by (service, host), and since when their flows are to end.
    fn ends_by_health(&self) -> Ends {
        let services = self.model.services.iter();
        let ends = services.filter(|service| service.health.down_flows != DownFlows::Keep);
        let ends: BTreeSet<&String> = ends.map(|service| &service.name).collect();
        let down = self.health.pairs.iter().filter(|(_, pair)| pair.oper == Oper::Down);
        let down = down.filter(|((service, _), _)| ends.contains(service));
        down.map(|(pair, of)| (pair.clone(), of.found_down())).collect()
    }

    /// Journals and tells what changed on the board since the last time.
    pub(super) fn note_findings(&mut self) -> Result<(), Error> {
        let changed = self.health.board.take_changed();
        if changed.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut kept = self.health.board.kept_of(&changed);
        let services = self.model.services.iter();
        let ramps: BTreeMap<&String, Option<u64>> =
            services.map(|of| (&of.name, of.health.ramp.map(|ramp| ramp.as_secs()))).collect();
        let (mut pairs, mut told) = (BTreeMap::new(), Vec::new());
        let (mut rows, mut detail) = (HealthRows::new(), Vec::new());
        for (service, host) in &changed {
            let pair = (service.clone(), host.clone());
            let Some(before) = self.health.pairs.get(&pair) else { continue };
            let after = before.after(
                kept.remove(&pair).unwrap_or_default(),
                ramps.get(service).copied().flatten(),
                now,
            );
            if after.oper != before.oper {
                let (from, to, why) = (before.oper, after.oper, after.why.clone());
                detail.push(json!({ "service": service, "host": host, "from": from, "to": to, "why": why }));
                told.push((service.clone(), host.clone(), from, to, why));
            }
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
        Ok(())
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
        // A check may have found what only clients had told, so flows are to end; or the other way round.
        choices != self.health.choices
            || shares.iter().collect::<BTreeMap<_, _>>() != have
            || self.ends_by_health() != self.health.ends
    }

    /// Who of each service is used, and the services whose standby hosts have joined.
    pub(super) fn choose(&self) -> (BTreeMap<String, Choice>, BTreeSet<String>) {
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
                    is_told: pair.is_some_and(Pair::is_down_by_clients_alone),
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
    pub(super) fn shares_by_health(
        &self,
        service: &Service,
        choices: &BTreeMap<String, Choice>,
        now: u64,
    ) -> Shares {
        let Some(choice) = choices.get(&service.name) else { return Shares::new() };
        let share = |host: &String| {
            if !choice.is_used(host) {
                return Some((host.clone(), 0));
            }
            let pair = self.health.pairs.get(&(service.name.clone(), host.clone()))?;
            let share = pair.share(service.health.ramp.map(|ramp| ramp.as_secs()), now);
            (share < SHARE_FULL && !choice.is_panic).then(|| (host.clone(), share))
        };
        service.hosts.iter().filter_map(share).collect()
    }

    /// Shares by service, and by clients that are treated apart, of services whose health, or last shift, leaves some host less than the full
    /// one.
    pub(super) fn wanted_shares(&self, choices: &BTreeMap<String, Choice>) -> BTreeMap<String, Shares> {
        let now = self.clock.now();
        let is_meant = |service: &&Service| service.chooses() || self.shifts.splits(service);
        let mut wanted = BTreeMap::new();
        for service in self.model.services.iter().filter(is_meant) {
            let mut shares = self.shares_by_health(service, choices, now);
            for (host, share) in self.shares_by_shift(service, choices.get(&service.name)) {
                let own = shares.entry(host).or_insert(SHARE_FULL);
                *own = share.min(*own);
            }
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
        self.note_turns(&choices, joined)?;
        self.count_ejections(&choices);
        self.health.shares = self.wanted_shares(&choices);
        self.health.choices = choices;
        self.health.ends = self.ends_by_health();
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

    /// What health leaves hosts, as the data path is to have it: by the rings, whatever was wished.
    pub(super) fn left_by_health(&self) -> BTreeMap<(String, String), Left> {
        let mut left = BTreeMap::new();
        for (name, shares) in &self.health.shares {
            let service = audience::parse(name).0;
            let Some(model) = self.model.services.iter().find(|of| of.name == service) else { continue };
            // Others have none by a shift.
            let choice = self.health.choices.get(service);
            let is_kept_from = |host: &String| choice.is_none_or(|choice| !choice.is_used(host));
            for (host, _) in shares.iter().filter(|(host, share)| **share == 0 && is_kept_from(host)) {
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
        let at = self.clock.monotonic_of(pair.found_down()? + service.health.down_after.as_secs());
        // How many there are then nobody knows yet; what the flow table has room for, in shares.
        let flows = u64::from(self.model.flow_table.pins) / service.hosts.len().max(1) as u64;
        let spread = u16::try_from((flows / ENDS_A_SECOND).clamp(1, 10)).unwrap_or(1);
        Some(Deadline { at, action, spread })
    }

    /// Tells checks through VIPs how packets leave for the backends.
    pub(super) fn tell_ways(&self) {
        let through = |service: &&Service| service.checks.iter().any(|check| check.through == Through::Vip);
        let services = self.model.services.iter().filter(through);
        let ways =
            services.flat_map(|service| service.hosts.iter().filter_map(|host| self.way(service, host)));
        self.health.board.set_ways(ways.collect());
    }

    /// How packets through the VIP leave for the backend, if it is published.
    pub(super) fn way(&self, service: &Service, host: &str) -> Option<((String, String), Way)> {
        let (&number, &id) = (self.ids.services.get(&service.name)?, self.ids.hosts.get(host)?);
        let backend = self.dataplane.published_backend(number, id)?;
        let address = self.model.address(service, host);
        let hop = address.and_then(|address| self.published_hops.get(&address));
        let usual = hop.and_then(NextHopState::next_hop).map(|hop| hop.source);
        let is_fit = |address: &IpAddr| address.is_ipv4() == service.vip.is_ipv4();
        let is_vip =
            |address: &IpAddr| self.model.services.iter().any(|service| service.vip.contains(*address));
        let own = self.own.borrow();
        let any = || {
            let all = own.values().flat_map(|own| &own.addresses).copied();
            all.filter(is_fit).find(|address| !is_vip(address) && !address.is_loopback())
        };
        let source = usual.filter(is_fit).or_else(any);
        Some(((service.name.clone(), host.to_owned()), Way { backend, source }))
    }

    /// (service, host) pairs that checks say are down.
    pub(super) fn unwell(&self) -> Unwell {
        let down = self.health.pairs.iter().filter(|(_, pair)| pair.oper == Oper::Down);
        Unwell { parts: down.map(|(pair, _)| (pair.clone(), 0)).collect(), ..Unwell::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Check;

    const PAIR: [&str; 2] = ["web", "a"];

    fn model(checks: &str) -> Model {
        let text = format!(
            "interfaces = [\"eth0\"]\n[hosts.a]\naddresses = [\"10.0.0.1\"]\n[[services]]\nname = \"web\"\nvip = \"203.0.113.1\"\n\
             protocol = \"tcp\"\nport = 80\n[services.health]\nramp = \"600s\"\n{checks}"
        );
        crate::config::parse(&text, "f").unwrap_or_else(|errors| panic!("{errors}")).model
    }

    fn pair() -> (String, String) {
        (PAIR[0].to_owned(), PAIR[1].to_owned())
    }

    /// A host comes back by its ramp when the check is gone that found it down: once, and not with each config and start.
    #[test]
    fn a_host_whose_failing_check_is_gone_comes_back_once() {
        const TCP: &str = "[[services.checks]]\ntype = \"tcp\"\n";
        let both = model(&format!("{TCP}[[services.checks]]\ntype = \"tcp\"\nport = 81\n"));
        let kept = |check: &Check| {
            let oper = if check.port == Some(81) { Oper::Down } else { Oper::Up };
            (check.to_string(), Kept { oper, ..Kept::default() })
        };
        let checks = both.services[0].checks.iter().map(kept).collect();
        let down = Pair::default().after(checks, Some(600), 10);
        assert_eq!(down.oper, Oper::Down);
        let mut rows = HealthRows::from([(pair(), serde_json::to_value(&down).unwrap())]);
        let one = model(TCP);
        let mut shares = Vec::new();
        for now in [1000, 1300, 5000, 9000] {
            let mut health = Health::default();
            health.take_up(&one, &Ids::default(), &rows, now);
            let known = &health.pairs[&pair()];
            assert_eq!((known.oper, known.back), (Oper::Up, Some(1000)), "{now}");
            shares.push(known.share(Some(600), now));
            let recast = recast(&rows, &health.pairs).unwrap();
            assert_eq!(recast.changes.len(), usize::from(now == 1000));
            rows.extend(recast.rows);
        }
        assert!(shares[0] < shares[1] && shares[1] < SHARE_FULL, "{shares:?}");
        assert_eq!(shares[2..], [SHARE_FULL; 2]);
        // A clock that was ahead when it came back keeps it down no longer than the ramp.
        let mut health = Health::default();
        health.take_up(&one, &Ids::default(), &rows, 500);
        assert_eq!(health.pairs[&pair()].share(Some(600), 1100), SHARE_FULL);
    }
}
