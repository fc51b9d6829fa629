//! Whether hosts can be used: what their next hops and their checks come to.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::api::types::OperState;
use crate::health::Oper;

/// Whether hosts can be used, by their next hops and by what checks say.
pub(super) struct Opers<'a> {
    unreachable: &'a BTreeSet<String>,
    members: BTreeMap<&'a str, Known<'a>>,
}

/// What is known of a host for its services.
#[derive(Default)]
struct Known<'a> {
    services: usize,
    /// Those that checks say it is down for.
    down_for: Vec<&'a str>,
    /// Of some, checks have not come to a result yet.
    is_unknown: bool,
}

impl Opers<'_> {
    /// Whether a host can be used at all, and the services that checks say it is down for.
    pub fn of(&self, host: &str) -> (OperState, Vec<String>) {
        let none = Known::default();
        let Known { services, down_for, is_unknown } = self.members.get(host).unwrap_or(&none);
        let is_down = self.unreachable.contains(host) || !down_for.is_empty() && down_for.len() == *services;
        let state = match (is_down, is_unknown) {
            (true, _) => OperState::Down,
            (false, true) => OperState::Unknown,
            (false, false) => OperState::Up,
        };
        (state, down_for.iter().map(|service| (*service).to_owned()).collect())
    }
}

impl Engine {
    /// What is known of all hosts.
    pub(super) fn opers(&self) -> Opers<'_> {
        let mut opers = Opers { unreachable: &self.down, members: BTreeMap::new() };
        for service in &self.model.services {
            for host in &service.hosts {
                let member = opers.members.entry(host).or_default();
                member.services += 1;
                member.is_unknown |=
                    !service.checks.is_empty() && self.health.oper(&service.name, host) == Oper::Unknown;
            }
        }
        for ((service, host), pair) in &self.health.pairs {
            if pair.oper == Oper::Down {
                opers.members.entry(host).or_default().down_for.push(service);
            }
        }
        opers
    }
}
