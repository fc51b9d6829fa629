//! Health as the API, the status and the CLI show it.

use std::sync::Arc;

use super::drains::near;
use super::publication::CUT_OFF;
use super::{Engine, Error};
use crate::api::types;
use crate::health::{self, CheckId, Entry, Oper, Run, Target};
use crate::model::{Check, Probe, Protocol, Service, Through};

impl Engine {
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
        problems.extend(self.suspicions());
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
            passive: self.passive_report(host),
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

    /// What `sluice health test --vip` asks of a host: a handshake by each of its TCP services, and of others their own question.
    pub fn vip_targets(&self, host: &str) -> Result<Vec<Arc<Target>>, Error> {
        self.known_host(Some(host))?;
        let is_its = |service: &&Service| service.hosts.iter().any(|of| of == host);
        let services = self.model.services.iter().filter(is_its);
        self.health.board.add_ways(services.clone().filter_map(|service| self.way(service, host)));
        let target = |service: &Service| {
            let (check, is_rst_well) = through_vip(service)?;
            Some(Arc::new(Target {
                id: CheckId {
                    service: service.name.clone(),
                    host: host.to_owned(),
                    check: check.to_string(),
                },
                check,
                health: Arc::new(service.health.clone()),
                address: self.model.address(service, host)?,
                vip: service.vip.address(),
                instance: self.instance.clone(),
                seed: 0,
                is_rst_well,
            }))
        };
        Ok(services.filter_map(target).collect())
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

/// What shows whether a host answers for a service's VIP, and whether a RST does as well; `None`: there is no question that it would answer.
fn through_vip(service: &Service) -> Option<(Check, bool)> {
    let is_clients = |port: &u16| service.ports.iter().any(|range| (range.first..=range.last).contains(port));
    let mut checks = service.checks.iter();
    if !service.protocols.has(Protocol::Tcp) {
        let is_fit = |check: &&Check| {
            matches!(check.probe, Probe::Udp { .. }) && check.port.as_ref().is_some_and(is_clients)
        };
        return Some((Check { through: Through::Vip, ..checks.find(is_fit)?.clone() }, false));
    }
    let is_tcp = |check: &&Check| matches!(check.probe, Probe::Tcp | Probe::Http(_) | Probe::Https(_));
    let checked = checks.filter(is_tcp).filter_map(|check| check.port).find(is_clients);
    let named = || service.ports.iter().find(|range| range.is_single()).map(|range| range.first);
    let known = checked.or_else(named);
    // Which ports of a range are served nobody has said; who has the VIP answers for the others as well.
    let port = known.or_else(|| service.ports.iter().next().map(|range| range.first.max(1)))?;
    Some((Check { probe: Probe::Tcp, port: Some(port), through: Through::Vip }, known.is_none()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    /// What is asked of a service with these lines, and whether a RST will do.
    fn asked(lines: &str) -> Option<(String, bool)> {
        let toml = format!(
            "interfaces = [\"eth0\"]\n[hosts.a]\naddresses = [\"10.0.0.1\"]\n[[services]]\nname = \"s\"\nvip = \"192.0.2.1\"\n{lines}\n"
        );
        let model: Model =
            crate::config::parse(&toml, "sluice.toml").unwrap_or_else(|error| panic!("{error}")).model;
        through_vip(&model.services[0]).map(|(check, is_rst_well)| (check.to_string(), is_rst_well))
    }

    #[test]
    fn a_vip_is_asked_where_somebody_listens() {
        let is = |lines: &str, check: &str, is_rst_well: bool| {
            assert_eq!(asked(lines), Some((format!("{check} through the VIP"), is_rst_well)), "{lines}");
        };
        is("protocol = \"tcp\"\nport = 80", "tcp :80", false);
        is("protocol = \"tcp\"\nport = \"all\"", "tcp :1", true);
        is("protocol = \"tcp\"\nport = \"8000-8999\"", "tcp :8000", true);
        is("protocol = \"tcp\"\nport = [\"80-90\", 443]", "tcp :443", false);
        let check = |of: &str| format!("\n[[services.checks]]\n{of}");
        let all = "protocol = \"tcp\"\nport = \"all\"".to_owned();
        is(&(all.clone() + &check("type = \"http\"\npath = \"/\"\nport = 8080")), "tcp :8080", false);
        is(&(all + &check("type = \"command\"\ncommand = \"true\"")), "tcp :1", true);
        // A check of a port that is not the service's tells nothing of it.
        is(
            &("protocol = \"tcp\"\nport = 80".to_owned() + &check("type = \"tcp\"\nport = 81")),
            "tcp :80",
            false,
        );
        let udp = "protocol = \"udp\"\nport = 53";
        assert_eq!(asked(udp), None);
        is(&(udp.to_owned() + &check("type = \"udp\"\nsend = \"?\"")), "udp :53 \"?\"", false);
        is("protocol = [\"tcp\", \"udp\"]\nport = 53", "tcp :53", false);
    }
}
