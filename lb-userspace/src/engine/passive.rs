//! Passive checks: the counters are sampled, and what they tell of hosts is told, noted and put into effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::findings::Pair;
use super::{Engine, Error};
use crate::api::types::{self, Happening};
use crate::dataplane::{PairCounters, within_second};
use crate::health::passive::{
    self, Asked, Event, Look, Moment, PACE, PATIENCE, Samples, Sign, State, Totals, Walk, believe,
    whole_seconds,
};
use crate::health::{Kept, Oper};
use crate::journal::{Change, Kind};
use crate::metrics::Suspected;
use crate::model::{Model, Service};
use crate::plan::Ids;

/// What is known of services whose clients are watched.
#[derive(Clone, Default)]
pub(super) struct Watched {
    services: BTreeMap<String, Clients>,
    /// Milliseconds of the board's clock at the last sample.
    sampled: u64,
    /// Second of the data path's clock at the last walk through the flow table.
    walked: u32,
}

/// The clients of a service.
#[derive(Clone, Default)]
struct Clients {
    /// With the numbers of their counters.
    hosts: Vec<(String, Option<u32>)>,
    /// Another config may be tried and taken back, which should not copy them.
    samples: Arc<Samples>,
    /// Of each host.
    states: Vec<State>,
}

/// By (service, host).
type Found = ((String, String), Event);

impl Clients {
    fn states(&self) -> impl Iterator<Item = (&String, &State)> {
        self.hosts.iter().map(|(host, _)| host).zip(&self.states)
    }

    fn state(&self, host: &str) -> Option<&State> {
        self.states().find(|(of, _)| *of == host).map(|(_, state)| state)
    }
}

impl Watched {
    /// Takes up who is watched by the model, and what the journal knows of them. Where hosts or their counters are others, samples begin anew.
    pub fn take_up(&mut self, model: &Model, ids: &Ids, pairs: &BTreeMap<(String, String), Pair>, now: u64) {
        let mut before = std::mem::take(&mut self.services);
        for service in model.services.iter().filter(|service| service.is_watched()) {
            let number = |host: &String| ids.stats.get(&(service.name.clone(), host.clone())).copied();
            let hosts: Vec<_> = service.hosts.iter().map(|host| (host.clone(), number(host))).collect();
            let known = before.remove(&service.name).unwrap_or_default();
            let samples = if known.hosts == hosts { known.samples } else { Arc::default() };
            let names = known.hosts.into_iter().map(|(host, _)| host);
            let mut states: BTreeMap<String, State> = names.zip(known.states).collect();
            let state = |(host, _): &(String, Option<u32>)| {
                let pair = pairs.get(&(service.name.clone(), host.clone()));
                let mut state = states.remove(host).unwrap_or_default();
                state.resume(pair.and_then(|pair| pair.checks.get(passive::NAME)).cloned(), now);
                state
            };
            let states = hosts.iter().map(state).collect();
            self.services.insert(service.name.clone(), Clients { hosts, samples, states });
        }
    }

    /// What the board is to have: of services whose hosts may be taken out.
    pub fn kept(&self, model: &Model) -> BTreeMap<(String, String), Kept> {
        let ejecting = model.services.iter().filter(|service| service.ejects());
        let of = |service: &Service| {
            let states = self.services.get(&service.name).into_iter().flat_map(Clients::states);
            let kept = states.map(|(host, state)| ((service.name.clone(), host.clone()), state.kept.clone()));
            kept.collect::<Vec<_>>()
        };
        ejecting.flat_map(of).collect()
    }
}

impl Engine {
    /// Looks at how clients fare, if the last look is long enough ago.
    pub fn watch_clients(&mut self) -> Result<(), Error> {
        let now = Moment { ms: self.health.board.now(), unix: self.clock.now() };
        if self.health.passive.services.is_empty() || now.ms < self.health.passive.sampled + PACE * 9 / 10 {
            return Ok(());
        }
        let mut watched = std::mem::take(&mut self.health.passive);
        watched.sampled = now.ms;
        let mut found = match self.look_at_all(&mut watched, now) {
            Ok(found) => found,
            Err(error) => {
                self.health.passive = watched;
                return Err(error);
            }
        };
        found.extend(self.ask_flow_table(&mut watched, now));
        // Journal, event and publication of hosts that are out or back follow from what the board says.
        for ((service, host), event) in &found {
            if let (Event::Flipped(_), Some(clients)) = (event, watched.services.get(service))
                && let Some(state) = clients.state(host)
            {
                self.health.board.note_passive((service.clone(), host.clone()), state.kept.clone());
            }
        }
        self.note_suspicions(&mut watched, now.unix);
        self.health.passive = watched;
        for (pair, event) in found {
            self.tell_of_suspicion(pair, event);
        }
        Ok(())
    }

    /// What has come of another sample.
    fn look_at_all(&self, watched: &mut Watched, now: Moment) -> Result<Vec<Found>, Error> {
        let hosts = watched.services.values().flat_map(|clients| &clients.hosts);
        let counted = self.dataplane.pairs(hosts.filter_map(|(_, number)| *number))?;
        let mut found = Vec::new();
        for service in self.model.services.iter().filter(|service| service.is_watched()) {
            let Some(clients) = watched.services.get_mut(&service.name) else { continue };
            let totals = self.totals(service, clients, &counted);
            Arc::make_mut(&mut clients.samples).add(now.ms, totals, &service.health.passive);
            found.extend(self.look_at(service, clients, now));
        }
        Ok(found)
    }

    fn totals(
        &self,
        service: &Service,
        clients: &Clients,
        counted: &BTreeMap<u32, PairCounters>,
    ) -> Vec<Totals> {
        let relay = self.relay.as_ref().filter(|_| service.forward.is_tunnel());
        let of = |(host, number): &(String, Option<u32>)| {
            let Some(counters) = number.and_then(|number| counted.get(&number)) else {
                return Totals::default();
            };
            let address = self.model.address(service, host);
            let unreachables = relay.zip(address).map_or(0, |(relay, to)| relay.counts.unreachables(to));
            Totals {
                begun: counters.asked,
                answered: counters.answered,
                again: counters.syns_again,
                resets: counters.client_resets,
                unreachables,
            }
        };
        clients.hosts.iter().map(of).collect()
    }

    fn look_at(&self, service: &Service, clients: &mut Clients, now: Moment) -> Vec<Found> {
        let health = &service.health;
        let choice = self.health.choices.get(&service.name);
        let is_silent = |host: &String| {
            self.cut_off.is_on()
                || self.cut_off.awaited().contains(host)
                || choice.is_some_and(|choice| !choice.is_used(host))
        };
        let hosts = clients.hosts.iter().map(|(host, _)| host);
        for (host, state) in hosts.clone().zip(&mut clients.states) {
            if is_silent(host) {
                state.forget(now);
            }
        }
        let looks = clients.samples.looks(|host| clients.states[host].since(), &health.passive);
        let mut found = Vec::new();
        for (place, (host, state)) in hosts.zip(&mut clients.states).enumerate() {
            let verdicts = looks.verdicts(place, &health.passive);
            let events = state.step(health, looks.of(place), &verdicts, service.ejects(), now);
            let pair = || (service.name.clone(), host.clone());
            found.extend(events.into_iter().map(|event| (pair(), event)));
        }
        found
    }

    /// Whether those who are to be taken out are believed to fail: one walk for all of them, which takes its time in a large flow table.
    fn ask_flow_table(&self, watched: &mut Watched, now: Moment) -> Vec<Found> {
        let ejecting = self.model.services.iter().filter(|service| service.ejects());
        let asks = |service: &&Service| {
            let clients = watched.services.get(&service.name);
            clients.is_some_and(|clients| clients.states.iter().any(|state| state.asks(now)))
        };
        let asking: Vec<&Service> = ejecting.filter(asks).collect();
        // A walk tells of whole seconds, so there is one in each, once who began in the last moments of the one before has had time to go on.
        let second = self.dataplane.now();
        if asking.is_empty() || watched.walked == second || within_second() < PATIENCE {
            return Vec::new();
        }
        watched.walked = second;
        let mut asked = Vec::new();
        for service in &asking {
            let Some(clients) = watched.services.get(&service.name) else { continue };
            // Longer than any stretch that is looked at.
            let longest = service.health.passive.window.as_secs() as usize + 1;
            for (host, state) in clients.states() {
                let look = state.look.filter(|_| state.asks(now));
                let seconds = look.map_or(longest, |look| whole_seconds(look.stretch())) + 1;
                let is_suspected = look.is_some();
                asked.extend(self.numbers(service, host).zip(Some(Asked { seconds, is_suspected })));
            }
        }
        let mut walk = Walk::new(asked);
        self.dataplane.fared(&mut walk);
        let mut found = Vec::new();
        for service in asking {
            let Some(clients) = watched.services.get_mut(&service.name) else { continue };
            let Some(&number) = self.ids.services.get(&service.name) else { continue };
            let peers = walk.peers(number);
            for ((host, _), state) in clients.hosts.iter().zip(&mut clients.states) {
                let (Some(look), Some(&id)) = (state.look, self.ids.hosts.get(host)) else { continue };
                if !state.asks(now) {
                    continue;
                }
                let seconds = walk.of((number, id));
                let answer = believe(id, seconds, &peers, look.stretch(), &service.health.passive);
                let event = state.answer(&service.health, answer, now);
                found.extend(event.map(|event| ((service.name.clone(), host.clone()), event)));
            }
        }
        found
    }

    fn numbers(&self, service: &Service, host: &str) -> Option<(u16, u16)> {
        Some((*self.ids.services.get(&service.name)?, *self.ids.hosts.get(host)?))
    }

    fn tell_of_suspicion(&self, (service, host): (String, String), event: Event) {
        match event {
            Event::Flipped(_) => {}
            Event::Suspected(_, why) => {
                log::warn!("{host} seems to fail for {service}: {why}");
                self.tell(Happening::HostSuspected { host, service, why });
            }
            Event::Cleared(_) => {
                log::info!("{host} does not seem to fail for {service} any more");
                self.tell(Happening::HostCleared { host, service });
            }
        }
    }

    /// For those who read the history, all in one; nothing rests on it.
    fn note_suspicions(&mut self, watched: &mut Watched, now: u64) {
        let mut changes = Vec::new();
        for (service, clients) in &mut watched.services {
            for ((host, _), state) in clients.hosts.iter().zip(&mut clients.states) {
                let notes = state.take_notes(now).into_iter().map(
                    |(sign, why)| json!({ "service": service, "host": host, "sign": sign, "suspected": why }),
                );
                changes.extend(notes);
            }
        }
        if changes.is_empty() {
            return;
        }
        let change = Change { at: now, author: "sluice", reason: None };
        if let Err(error) = self.journal.note(Kind::Health, &change, &json!({ "changes": changes })) {
            log::warn!("{error}");
        }
    }

    /// What speaks against hosts that are in use all the same.
    pub(super) fn suspicions(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (service, clients) in &self.health.passive.services {
            for (host, state) in clients.states().filter(|(_, state)| state.kept.oper != Oper::Down) {
                let whys = state.signs.values().filter_map(|suspicion| suspicion.why.as_ref());
                words.extend(whys.map(|why| format!("{host} seems to fail for {service}: {why}")));
            }
        }
        words
    }

    /// How many hosts each sign speaks against that are in use all the same.
    pub(super) fn metrics_of_suspicions(&self) -> Vec<Suspected> {
        let mut suspected = Vec::new();
        for (service, clients) in &self.health.passive.services {
            for sign in Sign::ALL {
                let is_bad = |state: &&State| {
                    state.kept.oper != Oper::Down
                        && state.signs.get(&sign).is_some_and(|suspicion| suspicion.why.is_some())
                };
                let hosts = clients.states.iter().filter(is_bad).count();
                suspected.push(Suspected { service: service.clone(), sign, hosts });
            }
        }
        suspected
    }

    /// How the clients of services that are watched fare, of one host or of all.
    pub(super) fn passive_report(&self, host: Option<&str>) -> Vec<types::PassiveStatus> {
        let mut report = Vec::new();
        for service in self.model.services.iter().filter(|service| service.is_watched()) {
            let Some(clients) = self.health.passive.services.get(&service.name) else { continue };
            let meant = clients.states().filter(|(of, _)| host.is_none_or(|host| host == *of));
            report.extend(meant.map(|(host, state)| self.passive_status(service, host, state)));
        }
        report
    }

    fn passive_status(&self, service: &Service, host: &str, state: &State) -> types::PassiveStatus {
        let suspected = state.signs.iter().filter_map(|(&sign, suspicion)| {
            let (why, since) = (suspicion.why.clone()?, suspicion.since);
            Some(types::Suspected { sign, since, why })
        });
        let Look { span, begun, failed, again, resets, unreachables } = state.look.unwrap_or_default();
        let kept = &state.kept;
        types::PassiveStatus {
            service: service.name.clone(),
            host: host.to_owned(),
            action: service.health.passive.action,
            oper: kept.oper,
            since: (kept.since > 0).then_some(kept.since),
            until: state.until(&service.health, self.clock.now()),
            why: kept.why.clone(),
            suspected: suspected.collect(),
            doubt: state.doubt.clone(),
            seconds: span as f64 / 1000.0,
            new_flows: begun,
            unanswered: failed,
            syns_again: again,
            client_resets: resets,
            unreachables,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(hosts: &str) -> Model {
        let text = format!(
            "interfaces = [\"eth0\"]\n{hosts}[[services]]\nname = \"web\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 80\n\
             [services.health.passive]\naction = \"eject\"\n"
        );
        crate::config::parse(&text, "f").unwrap_or_else(|errors| panic!("{errors}")).model
    }

    #[test]
    fn samples_go_on_while_hosts_and_their_counters_are_the_same() {
        let pair = |host: &str| ("web".to_owned(), host.to_owned());
        let (a, b) = ("[hosts.a]\naddresses = [\"10.0.0.1\"]\n", "[hosts.b]\naddresses = [\"10.0.0.2\"]\n");
        let two = model(&format!("{a}{b}"));
        let mut ids = Ids { stats: [(pair("a"), 1), (pair("b"), 2)].into(), ..Ids::default() };
        let mut watched = Watched::default();
        let pairs = BTreeMap::new();
        watched.take_up(&two, &ids, &pairs, 5);
        let samples = |watched: &Watched| watched.services["web"].samples.clone();
        let first = samples(&watched);
        watched.take_up(&two, &ids, &pairs, 6);
        assert!(Arc::ptr_eq(&first, &samples(&watched)), "another config changes nothing here");
        // One that is tried and taken back copies none of them.
        assert!(Arc::ptr_eq(&first, &samples(&watched.clone())));
        ids.stats.insert(pair("b"), 3);
        watched.take_up(&two, &ids, &pairs, 7);
        assert!(!Arc::ptr_eq(&first, &samples(&watched)), "the counters are others");
        // What is known of a host that stays stays.
        let clients = watched.services.get_mut("web").unwrap();
        clients.states[0].doubt = Some("x".to_owned());
        clients.states[1].doubt = Some("y".to_owned());
        watched.take_up(&model(b), &ids, &pairs, 8);
        let clients = &watched.services["web"];
        assert_eq!((clients.hosts.len(), clients.states.len()), (1, 1));
        assert_eq!(clients.state("b").unwrap().doubt.as_deref(), Some("y"));
    }
}
