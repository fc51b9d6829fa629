//! Waiting for states of hosts, without time or I/O of its own.

use std::time::Duration;

use anyhow::anyhow;
use ipnet::IpNet;

use crate::api::client::ClientError;
use crate::api::types::{AdminState, HostStatus, OperState};
use crate::drain::Target;

use super::exit::{Exit, Failure};
use super::render::number::{duration, plural};
use super::wait::PATIENCE;

/// A state that hosts can be waited for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// Out of service, and no flow is left
    Drained,
    /// In use, as far as operators are concerned
    Active,
    /// Usable: a next hop is known, and checks, if there are any, have come to a result that is not down for all services
    Up,
    /// No next hop is known, or checks have found it down for all services
    Down,
    /// Out of service, with flows that go on
    Draining,
}

impl Wanted {
    fn is_met_by(self, host: &HostStatus) -> bool {
        match self {
            // Done means that the gauge is 0, not only that the daemon calls the drain so.
            Wanted::Drained => host.admin == AdminState::Drained && host.live_flows.total == 0,
            Wanted::Active => host.admin == AdminState::Active,
            Wanted::Draining => host.admin == AdminState::Draining,
            Wanted::Up => host.oper == OperState::Up,
            Wanted::Down => host.oper == OperState::Down,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Wanted::Drained => "drained",
            Wanted::Active => "active",
            Wanted::Up => "up",
            Wanted::Down => "down",
            Wanted::Draining => "draining",
        }
    }
}

#[derive(Debug)]
pub enum Event {
    /// All hosts that there are.
    Hosts(Vec<HostStatus>),
    Unreachable(ClientError),
    Interrupted,
}

#[derive(Debug)]
pub enum Step {
    /// Go on; print this line if it is one.
    Wait(String),
    End(Result<(), Failure>),
}

/// The state of one `sluice wait`.
#[derive(Debug)]
pub struct Waiting {
    hosts: Vec<String>,
    /// Only as far as this service and these clients are concerned.
    pub service: Option<String>,
    pub clients: Option<IpNet>,
    wanted: Wanted,
    timeout: Option<Duration>,
    command: String,
    last: Vec<HostStatus>,
    /// What was said last of the hosts that are awaited.
    told: String,
    /// Since when no daemon answers.
    away: Option<Duration>,
}

impl Waiting {
    pub fn new(hosts: Vec<String>, wanted: Wanted, timeout: Option<Duration>, command: String) -> Self {
        Waiting {
            hosts,
            service: None,
            clients: None,
            wanted,
            timeout,
            command,
            last: Vec::new(),
            told: String::new(),
            away: None,
        }
    }

    /// The hosts as they were last seen, in the order asked for.
    pub fn last(&self) -> &[HostStatus] {
        &self.last
    }

    /// `elapsed` since the waiting began.
    pub fn step(&mut self, event: Event, elapsed: Duration) -> Step {
        match event {
            Event::Hosts(hosts) => self.look(hosts, elapsed),
            Event::Unreachable(error) => self.unreachable(error, elapsed),
            Event::Interrupted => {
                let error = anyhow!("interrupted while waiting for {}", self.awaited());
                Step::End(Err(Failure::new(Exit::Interrupted, error)))
            }
        }
    }

    fn look(&mut self, mut hosts: Vec<HostStatus>, elapsed: Duration) -> Step {
        let back = self.away.take().map(|_| "the daemon answers again".to_owned());
        self.last.clear();
        for name in &self.hosts {
            let Some(at) = hosts.iter().position(|host| host.name == *name) else {
                let what = self.service.as_ref().map(|service| format!(" in {service}")).unwrap_or_default();
                let failure = Failure::new(Exit::NotFound, anyhow!("there is no host named {name}{what}"));
                return Step::End(Err(failure.hint(format!("`{} status` lists hosts", self.command))));
            };
            self.last.push(hosts.swap_remove(at));
        }
        if self.last.iter().all(|host| self.wanted.is_met_by(host)) {
            return Step::End(Ok(()));
        }
        if self.timeout.is_some_and(|timeout| elapsed >= timeout) {
            let waited = duration(elapsed.as_secs());
            let error = anyhow!("not {} after {waited}: {}", self.wanted.name(), self.awaited());
            return Step::End(Err(Failure::new(Exit::Deadline, error)));
        }
        let awaited = self.awaited();
        let is_news = awaited != self.told;
        self.told.clone_from(&awaited);
        Step::Wait(back.or(is_news.then(|| format!("waiting for {awaited}"))).unwrap_or_default())
    }

    fn unreachable(&mut self, error: ClientError, elapsed: Duration) -> Step {
        // At the first look it is no restart.
        if self.last.is_empty() {
            return Step::End(Err(error.into()));
        }
        let is_first = self.away.is_none();
        let since = *self.away.get_or_insert(elapsed);
        let is_late = self.timeout.is_some_and(|timeout| elapsed >= timeout);
        if is_late || elapsed - since >= PATIENCE {
            let away = duration((elapsed - since).as_secs());
            let error = anyhow!(error).context(format!("no daemon has answered for {away}"));
            return Step::End(Err(Failure::new(Exit::Unreachable, error)));
        }
        Step::Wait(if is_first {
            format!("{error}; trying again for {}s", PATIENCE.as_secs())
        } else {
            String::new()
        })
    }

    /// The hosts that are not there yet, and what they are.
    fn awaited(&self) -> String {
        if self.last.is_empty() {
            return self.hosts.join(", ");
        }
        let hosts = self.last.iter().filter(|host| !self.wanted.is_met_by(host));
        let hosts: Vec<String> = hosts.map(|host| self.said(host)).collect();
        hosts.join(", ")
    }

    /// `web-3 (draining, 4 flows)`
    pub fn said(&self, host: &HostStatus) -> String {
        let state = match self.wanted {
            Wanted::Up | Wanted::Down => match host.oper {
                OperState::Up => "up",
                OperState::Down => "down",
                OperState::Unknown => "unknown",
            },
            Wanted::Drained | Wanted::Active | Wanted::Draining => match host.admin {
                AdminState::Active => "active",
                AdminState::Draining => "draining",
                AdminState::Drained => "drained",
                AdminState::Disabled => "disabled",
            },
        };
        let flows = matches!(self.wanted, Wanted::Drained) && host.live_flows.total > 0;
        let flows =
            if flows { format!(", {}", plural(host.live_flows.total, "flow")) } else { String::new() };
        let name = Target::of(&host.name, self.service.as_deref()).with_clients(self.clients);
        format!("{name} ({state}{flows})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::fixtures;
    use crate::cli::terminal::Style;

    fn host(name: &str, admin: AdminState, oper: OperState, live: u64) -> HostStatus {
        let any = fixtures::status().hosts.remove(0);
        HostStatus { name: name.to_owned(), admin, oper, live_flows: fixtures::live(live), ..any }
    }

    fn waiting(hosts: &[&str], wanted: Wanted) -> Waiting {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Waiting::new(hosts, wanted, Some(Duration::from_secs(60)), "sluice".to_owned())
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn goes_on(step: Step) -> String {
        match step {
            Step::Wait(text) => text,
            Step::End(result) => panic!("{result:?}"),
        }
    }

    fn ends(step: Step) -> (Exit, String) {
        match step {
            Step::Wait(text) => panic!("{text}"),
            Step::End(Ok(())) => (Exit::Done, String::new()),
            Step::End(Err(failure)) => (failure.exit, failure.render(Style::PLAIN)),
        }
    }

    fn gone() -> Event {
        Event::Unreachable(ClientError::NoSocket { socket: "/x".into() })
    }

    #[test]
    fn each_state_is_met_by_itself_only() {
        use AdminState::*;
        use OperState::*;
        let all = [Wanted::Drained, Wanted::Active, Wanted::Up, Wanted::Down, Wanted::Draining];
        let met = |host: &HostStatus| all.map(|wanted| wanted.is_met_by(host));
        assert_eq!(met(&host("a", Active, Up, 3)), [false, true, true, false, false]);
        assert_eq!(met(&host("a", Draining, Up, 0)), [false, false, true, false, true]);
        assert_eq!(met(&host("a", Active, Unknown, 3)), [false, true, false, false, false]);
        assert_eq!(met(&host("a", Drained, Down, 0)), [true, false, false, true, false]);
        assert_eq!(
            met(&host("a", Drained, Down, 1)),
            [false, false, false, true, false],
            "not while a flow lives"
        );
    }

    #[test]
    fn all_hosts_must_be_there_and_changes_are_said_once() {
        use AdminState::*;
        let mut w = waiting(&["a", "b"], Wanted::Drained);
        let look = |a: u64, b: AdminState| {
            Event::Hosts(vec![
                host("b", b, OperState::Up, 0),
                host("c", Active, OperState::Up, 9),
                host("a", Draining, OperState::Up, a),
            ])
        };
        assert_eq!(
            goes_on(w.step(look(4, Draining), secs(0))),
            "waiting for a (draining, 4 flows), b (draining)"
        );
        assert_eq!(goes_on(w.step(look(4, Draining), secs(1))), "");
        assert_eq!(goes_on(w.step(look(4, Drained), secs(2))), "waiting for a (draining, 4 flows)");
        let both = vec![host("b", Drained, OperState::Up, 0), host("a", Drained, OperState::Up, 0)];
        assert_eq!(ends(w.step(Event::Hosts(both), secs(61))).0, Exit::Done, "also when time is over");
        assert_eq!(w.last()[0].name, "a");
    }

    #[test]
    fn each_end_has_its_code() {
        use AdminState::*;
        let active = || Event::Hosts(vec![host("a", Active, OperState::Up, 5)]);
        let mut w = waiting(&["a"], Wanted::Drained);
        goes_on(w.step(active(), secs(59)));
        let (exit, words) = ends(w.step(active(), secs(60)));
        assert_eq!(
            (exit, words.as_str()),
            (Exit::Deadline, "error: not drained after 1m00s: a (active, 5 flows)\n")
        );
        let (exit, words) = ends(waiting(&["x"], Wanted::Up).step(active(), secs(0)));
        assert_eq!(exit, Exit::NotFound);
        assert!(words.starts_with("error: there is no host named x\nhint: `sluice status`"), "{words}");
        assert_eq!(
            ends(waiting(&["a"], Wanted::Down).step(Event::Interrupted, secs(0))).0,
            Exit::Interrupted
        );
        assert_eq!(ends(waiting(&["a"], Wanted::Down).step(gone(), secs(0))).0, Exit::Unreachable);
    }

    #[test]
    fn a_restart_is_waited_for() {
        let up = || Event::Hosts(vec![host("a", AdminState::Active, OperState::Up, 5)]);
        let mut w = waiting(&["a"], Wanted::Down);
        goes_on(w.step(up(), secs(0)));
        assert!(goes_on(w.step(gone(), secs(1))).ends_with("; trying again for 30s"));
        assert_eq!(goes_on(w.step(gone(), secs(30))), "");
        assert_eq!(goes_on(w.step(up(), secs(30))), "the daemon answers again");
        goes_on(w.step(gone(), secs(31)));
        let (exit, words) = ends(w.step(gone(), secs(60)));
        assert_eq!(exit, Exit::Unreachable, "what the state is nobody knows: {words}");
        assert!(words.contains("no daemon has answered for 29s"), "{words}");
    }
}
