//! What becomes of a service as a whole by the health of its hosts: all are used again, or the standby hosts join.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::health::Whole;
use super::{Engine, Error};
use crate::api::types::Happening;
use crate::health::{Choice, Oper};
use crate::journal::{Change, HealthRows};
use crate::model::Service;

/// A turn of a service, to be journalled and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Panic(bool),
    Standby(bool),
}

impl Turn {
    fn why(self, service: &Service) -> String {
        let health = &service.health;
        match self {
            Turn::Panic(true) => {
                format!("less than {} of the weight is up, so all hosts are used", health.panic)
            }
            Turn::Panic(false) => format!("{} of the weight or more is up", health.panic),
            Turn::Standby(true) => {
                format!("less than {} of the primary hosts' weight is up and not drained", health.join_below)
            }
            Turn::Standby(false) => {
                format!("{} of the primary hosts' weight or more is up and not drained", health.leave_at)
            }
        }
    }

    /// As history has it.
    fn change(self, service: &str, why: &str) -> Value {
        match self {
            Turn::Panic(is_on) => json!({ "service": service, "panic": is_on, "why": why }),
            Turn::Standby(is_on) => json!({ "service": service, "standby": is_on, "why": why }),
        }
    }

    fn happening(self, service: String, why: String) -> Happening {
        match self {
            Turn::Panic(true) => Happening::PanicBegan { service, why },
            Turn::Panic(false) => Happening::PanicEnded { service, why },
            Turn::Standby(true) => Happening::StandbyJoined { service, why },
            Turn::Standby(false) => Happening::StandbyLeft { service, why },
        }
    }

    fn log(self, service: &str, why: &str) {
        match self {
            Turn::Panic(true) => log::error!("{service} panics: {why}"),
            Turn::Panic(false) => log::info!("{service} panics no more: {why}"),
            Turn::Standby(true) => log::warn!("{service}: the standby hosts join: {why}"),
            Turn::Standby(false) => log::info!("{service}: the standby hosts leave: {why}"),
        }
    }
}

/// What differs, for services that there are. Who has joined is known from before a start of the daemon; who panics is not, so it is told
/// again.
fn turns<'s>(
    services: &'s [Service],
    [before, after]: [&BTreeMap<String, Choice>; 2],
    [had_joined, have_joined]: [&BTreeSet<String>; 2],
) -> Vec<(&'s Service, Turn)> {
    let panics =
        |choices: &BTreeMap<String, Choice>, name: &str| choices.get(name).is_some_and(|of| of.is_panic);
    let of_service = |service: &'s Service| {
        let name = &service.name;
        let panic = [panics(before, name), panics(after, name)];
        let standby = [had_joined.contains(name), have_joined.contains(name)];
        let panic = (panic[0] != panic[1]).then_some(Turn::Panic(panic[1]));
        let standby = (standby[0] != standby[1]).then_some(Turn::Standby(standby[1]));
        [panic, standby].into_iter().flatten().map(move |turn| (service, turn))
    };
    services.iter().flat_map(of_service).collect()
}

impl Engine {
    /// Journals, tells and logs what turns by these choices; `joined` are the services whose standby hosts are in use.
    pub(super) fn note_turns(
        &mut self,
        choices: &BTreeMap<String, Choice>,
        joined: BTreeSet<String>,
    ) -> Result<(), Error> {
        let turns =
            turns(&self.model.services, [&self.health.choices, choices], [&self.health.joined, &joined]);
        let turns: Vec<(String, Turn, String)> = turns
            .into_iter()
            .map(|(service, turn)| (service.name.clone(), turn, turn.why(service)))
            .collect();
        let rows = joined
            .symmetric_difference(&self.health.joined)
            .map(|service| {
                let whole = Whole { has_joined: joined.contains(service) };
                Ok(((service.clone(), String::new()), serde_json::to_value(whole)?))
            })
            .collect::<serde_json::Result<HealthRows>>()?;
        if !turns.is_empty() || !rows.is_empty() {
            let change = Change { at: self.clock.now(), author: "sluice", reason: None };
            let changes: Vec<Value> =
                turns.iter().map(|(service, turn, why)| turn.change(service, why)).collect();
            self.journal.note_health(&rows, &change, &json!({ "changes": changes }))?;
        }
        self.health.joined = joined;
        for (service, turn, why) in turns {
            turn.log(&service, &why);
            self.tell(turn.happening(service, why));
        }
        Ok(())
    }

    /// Counts who is ejected anew, by its cause.
    pub(super) fn count_ejections(&mut self, choices: &BTreeMap<String, Choice>) {
        for (service, choice) in choices {
            let before = self.health.choices.get(service).map(|before| &before.ejected);
            let is_new = |host: &&String| before.is_none_or(|before| !before.contains(*host));
            let ejections = self.health.ejections.entry(service.clone()).or_default();
            for host in choice.ejected.iter().filter(is_new) {
                let pair = self.health.pairs.get(&(service.clone(), host.clone()));
                *match pair.filter(|pair| pair.oper == Oper::Down) {
                    Some(pair) if pair.is_down_by_clients_alone() => &mut ejections.passive,
                    Some(_) => &mut ejections.checks,
                    None => &mut ejections.next_hop,
                } += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn each_turn_is_told_once_with_its_cause() {
        let toml = "interfaces = [\"eth0\"]\n[[services]]\nname = \"web\"\nvip = \"198.51.100.1\"\nport = 80\n\
                    protocol = \"tcp\"\n[services.health]\npanic = \"30%\"\n[hosts.h1]\naddresses = [\"10.0.0.1\"]\n";
        let model = config::parse(toml, "f").unwrap_or_else(|errors| panic!("{errors}")).model;
        let choice =
            |is_panic| BTreeMap::from([("web".to_owned(), Choice { is_panic, ..Choice::default() })]);
        let (calm, panic) = (choice(false), choice(true));
        let (none, web) = (BTreeSet::new(), BTreeSet::from(["web".to_owned()]));
        let of = |choices: [&BTreeMap<String, Choice>; 2], joined: [&BTreeSet<String>; 2]| {
            let turns = turns(&model.services, choices, joined);
            turns.into_iter().map(|(service, turn)| (turn, turn.why(service))).collect::<Vec<_>>()
        };
        assert_eq!(of([&calm, &calm], [&web, &web]), []);
        let told = of([&calm, &panic], [&none, &web]);
        let whys = ["less than 30% of the weight is up", "less than 50% of the primary hosts' weight is up"];
        assert_eq!(
            told.iter().map(|(turn, _)| *turn).collect::<Vec<_>>(),
            [Turn::Panic(true), Turn::Standby(true)]
        );
        assert!(told.iter().zip(whys).all(|((_, told), why)| told.starts_with(why)), "{told:?}");
        let told = of([&panic, &calm], [&web, &none]);
        let whys = ["30% of the weight or more", "75% of the primary hosts' weight or more"];
        assert_eq!(
            told.iter().map(|(turn, _)| *turn).collect::<Vec<_>>(),
            [Turn::Panic(false), Turn::Standby(false)]
        );
        assert!(told.iter().zip(whys).all(|((_, told), why)| told.starts_with(why)), "{told:?}");
        // A service that is known no more is not spoken of, and one whose panic is known from nobody is.
        assert_eq!(of([&BTreeMap::new(), &panic], [&none, &none]).len(), 1);
    }
}
