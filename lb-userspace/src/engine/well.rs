//! Whether hosts are well, as runs and shifts have to know it: by what was found since this daemon's start. What is remembered from before says
//! who is used, but nobody is judged by it.

use std::collections::BTreeMap;

use super::Engine;
use crate::health::{Oper, Said};
use crate::maintain::NotWell;
use crate::model::Service;

impl Engine {
    /// Since when all is well with a host: it can be reached, and so say its checks, where it has any. Or what is not well.
    pub(super) fn well_since(&self, host: &str) -> Result<u64, NotWell> {
        if self.cut_off.missing().contains(host) {
            return Err(NotWell::Ill("it cannot be reached".to_owned()));
        }
        // Who was not looked at yet is so from now on.
        let mut since = self.maintenance.up_since.get(host).copied().unwrap_or(self.clock.now());
        let said = self.health.board.said(|id| id.host == host);
        // Of a service that finds it down more is known than of one that has not looked yet.
        let mut unsaid = None;
        for ((service, _), pair) in self.health.pairs.iter().filter(|((_, of), _)| of == host) {
            let of_pair = said.iter().filter(|said| said.id.service == *service);
            let is_remembered = pair.is_remembered(of_pair, self.started_at);
            match pair.oper {
                Oper::Up if !is_remembered => since = since.max(pair.since),
                Oper::Down if !is_remembered => {
                    return Err(NotWell::Ill(format!("it is down for {service}: {}", pair.why)));
                }
                _ => {
                    let why = format!("its checks for {service} have not said yet how it is");
                    unsaid.get_or_insert(NotWell::Unsaid(why));
                }
            }
        }
        unsaid.map_or(Ok(since), Err)
    }

    /// Since when each check of a host succeeds, Unix seconds, of which each has done so by a run that began after `from`; or which has not. Who
    /// is not checked has passed at once.
    pub(super) fn passes(&self, host: &str, from: u64) -> Result<u64, String> {
        let mut since = from;
        for said in self.health.board.said(|id| id.host == host) {
            let (check, service) = (&said.id.check, &said.id.service);
            since = since.max(said.succeeds_since(from).ok_or_else(|| {
                let last = said.last.as_ref().filter(|_| said.good.is_none());
                let last = last.map(|last| format!(": {last}")).unwrap_or_default();
                format!("{check} of {service} has not succeeded again yet{last}")
            })?);
        }
        Ok(since)
    }
    /// Who of these hosts its checks for a service have not spoken of yet, since this daemon's start. They are used; it is another question
    /// whether a shift takes a step.
    pub(super) fn unsaid_of(&self, service: &Service, hosts: &[&str]) -> Vec<String> {
        self.of_oper(service, hosts, |oper, is_remembered| oper == Oper::Unknown || is_remembered)
    }

    /// For which service another host beside this one is said to be up by memory alone, so that what would be left cannot be told.
    pub(super) fn remembered_beside(&self, host: &str) -> Option<String> {
        let services = self.model.services.iter().filter(|service| service.hosts.iter().any(|of| of == host));
        services.into_iter().find_map(|service| {
            let others: Vec<&str> =
                service.hosts.iter().map(String::as_str).filter(|of| *of != host).collect();
            let up = |oper, is_remembered| oper == Oper::Up && is_remembered;
            let first = self.of_oper(service, &others, up).into_iter().next()?;
            Some(format!("checks for {} to say how {first} fares", service.name))
        })
    }

    /// Those of the hosts of which this is so by their state for the service, and by whether it is but remembered.
    fn of_oper(&self, service: &Service, hosts: &[&str], is_so: impl Fn(Oper, bool) -> bool) -> Vec<String> {
        let said = self.health.board.said(|id| id.service == service.name);
        let mut of_host: BTreeMap<&str, Vec<&Said>> = BTreeMap::new();
        said.iter().for_each(|said| of_host.entry(&said.id.host).or_default().push(said));
        let is_meant = |host: &&&str| {
            let pair = self.health.pairs.get(&(service.name.clone(), (**host).to_owned()));
            let said = of_host.get(**host).into_iter().flatten().copied();
            pair.is_some_and(|pair| is_so(pair.oper, pair.is_remembered(said, self.started_at)))
        };
        hosts.iter().filter(is_meant).map(|host| (*host).to_owned()).collect()
    }

    /// What is not well with a host for a service.
    pub(super) fn unwell_of(&self, service: &Service, host: &str, is_unsaid: bool) -> Option<String> {
        if self.cut_off.missing().contains(host) {
            return Some("it cannot be reached".to_owned());
        }
        let pair = self.health.pairs.get(&(service.name.clone(), host.to_owned()));
        pair.filter(|pair| pair.oper == Oper::Down && !is_unsaid).map(|pair| pair.why.clone())
    }
}
