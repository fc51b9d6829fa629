//! What may break, because somebody chose it or because a host died, and what may never.
//!
//! A plain reference: it hears of each action, when it was begun and when it was done, and of each thing that a client noticed,
//! and says why that was to be expected, or that it is wrong. Times are since the traffic began.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lb_userspace::api::types::AtDeadline;

use super::action::{Action, HOSTS, Host, Link, Settings, Way, name_of};
use super::noticed::{Event, Flow, seconds};

/// How long a client waits before it calls a connection broken or a request failed.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How long it waits for the answer to a datagram: longer than a host is stopped.
pub const UDP_PATIENCE: Duration = Duration::from_secs(8);
/// Until when a client has learnt of its flow's end.
const WORD: Duration = PATIENCE.saturating_add(Duration::from_secs(3));
/// How long after a link is up again, or a flood is over, packets are still lost: neighbours are asked for first, queues are full.
pub const AFTERMATH: Duration = Duration::from_secs(5);
/// A drain's times are Unix seconds, and the data path's are its own: each is right within a second.
const ROUNDING: Duration = Duration::from_millis(2100);
/// For how long a host may do nothing and still no connection breaks; the plan keeps to it.
const SHORT: Duration = Duration::from_secs(4);
/// How long the daemon takes to see that hosts can be reached again, and to publish it.
const PUBLISHED: Duration = Duration::from_secs(6);
/// How long the daemon takes to go back from a config that nobody has confirmed, over a start of its own.
const GOING: Duration = Duration::from_secs(5);
/// How long a pin of a connection stays that its ends have forgotten: the longest timeout, and what clocks are wrong by.
const PIN_LIFE: Duration = Duration::from_secs(13);
/// New flows of a host that is out; each is a `forward_syn_established` of the balancer's.
pub const REUSED: &str = "ports taken again while their pin stayed";
/// What the clients' tools call a RST, or "port unreachable", in answer to a flow's first packet.
const REFUSED: &str = "connection refused";
/// What holds the table's places that connections had which have been closed.
const PRESSURE: Duration = Duration::from_secs(20);

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A command that was acknowledged, with the number of its drain or of the flows that it chose.
    Number(u64),
    /// A rule would be broken, so nothing was done.
    Refused,
    /// The daemon was killed before it could say.
    Unknown,
}

/// Why something was to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Excuse {
    /// The host's servers were killed.
    Dead,
    /// A link was down.
    Cut,
    /// The host's servers stood still; an excuse for nothing while it is short.
    Stopped,
    /// The balancer's own link was down, so that a service had no host, and said so to new clients; until a daemon knows better.
    Off,
    /// A deadline moved or reset the host's flows, or an operator ended them.
    Ended,
    /// More packets than the machine takes.
    Flood,
    /// More flows than the table has places for.
    Pressure,
    /// Nobody told the balancer of the end of the connection before with the same addresses and ports.
    Pinned,
}

impl Excuse {
    pub fn words(self) -> &'static str {
        match self {
            Excuse::Dead => "its host had been killed",
            Excuse::Cut => "a link was down",
            Excuse::Stopped => "its host stood still for long",
            Excuse::Off => "no host could be reached",
            Excuse::Ended => "an operator had it ended",
            Excuse::Flood => "there was a flood",
            Excuse::Pressure => "the flow table was full",
            Excuse::Pinned => {
                "the connection before with the same addresses and ports was at that host, and was reset"
            }
        }
    }
}

/// A time in which something is excused, for a host or for all.
#[derive(Debug, Clone, Copy)]
struct Window {
    excuse: Excuse,
    host: Option<Host>,
    from: Duration,
    /// Open while it goes on.
    to: Option<Duration>,
    /// Flows that began later are not meant: the host got none any more.
    newest: Duration,
}

/// Whether a host is in use, as far as acknowledged commands say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Use {
    #[default]
    In,
    /// Out as a whole.
    Out,
    /// A part is drained, a lease may have run out, or nobody said.
    Either,
}

#[derive(Debug, Clone, Copy, Default)]
struct Drain {
    state: Use,
    deadline: Option<(Duration, AtDeadline)>,
    lease: Option<Duration>,
    /// When a lease before runs out, or has: a drain that joins it about then may have joined it or not.
    last_lease: Option<Duration>,
    /// By how much more than others its times may be wrong.
    doubt: Duration,
    /// Whether flows are being ended by the deadline.
    ends_flows: bool,
    /// Since when no new flow reaches the host.
    out_since: Duration,
}

/// A config that goes unless somebody confirms it, which nobody does.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    back_to: Settings,
    deadline: Duration,
    doubt: Duration,
}

/// The model of a run.
#[derive(Debug, Clone, Default)]
pub struct Model {
    drains: [Drain; HOSTS],
    windows: Vec<Window>,
    /// Times in which a host was out as a whole: host, from, to.
    out: Vec<(Host, Duration, Option<Duration>)>,
    /// And those in which the config did not name it.
    gone: Vec<(Host, Duration, Option<Duration>)>,
    settings: Settings,
    waiting: Option<Waiting>,
    /// Since when the time of a config that waited is over, if that is not long ago: it may be in force or not.
    is_going: Option<Duration>,
    /// How far the wall clock is ahead, in seconds, and how far it was at the daemon's start.
    clock: i64,
    daemon_clock: i64,
    /// Starts of a daemon whose wall clock is not that of the one before, which dates anew what is open.
    pub dated_anew: usize,
    /// The time by the last look at it.
    now: Duration,
    has_no_daemon: bool,
    is_off: bool,
    /// Connections that have gone without the balancer's knowledge: when, and at which host they were, if at one.
    gone_flows: HashMap<Flow, (Duration, Option<Host>)>,
    /// What was excused, by what it was and why.
    pub excused: BTreeMap<(&'static str, String, Excuse), u64>,
    /// Numbers of drains that were acknowledged.
    pub numbers: Vec<u64>,
}

impl Model {
    /// Takes note of an action that was begun and done at these times.
    pub fn note(&mut self, action: &Action, begun: Duration, done: Duration, outcome: Outcome) {
        self.advance(begun);
        match *action {
            Action::Freeze(host) => self.open(Excuse::Stopped, Some(host), begun),
            Action::Thaw(host) => self.close(Excuse::Stopped, Some(host), done),
            Action::KillDaemon | Action::EndDaemon => self.lose_daemon(begun),
            Action::StartDaemon => {
                if self.clock != self.daemon_clock {
                    self.date_anew();
                }
                self.daemon_clock = self.clock;
                self.has_no_daemon = false;
                if !self.is_off {
                    self.close(Excuse::Off, None, done + PUBLISHED);
                }
            }
            // What is open has as many seconds left as before, also for the next daemon.
            Action::MoveClock(seconds) => self.clock += seconds,
            Action::Config { settings, way } => {
                let before = std::mem::replace(&mut self.settings, settings);
                self.is_going = None;
                if let Way::Unconfirmed(seconds) = way {
                    let deadline = begun + Duration::from_secs(seconds);
                    self.waiting = Some(Waiting { back_to: before, deadline, doubt: Duration::ZERO });
                }
                self.name(before, begun, done);
            }
            Action::Drain { host, order } => {
                if outcome == Outcome::Refused {
                    return;
                }
                if let Outcome::Number(number) = outcome {
                    self.numbers.push(number);
                }
                let (deadline, lease) = (order.deadline, order.lease);
                if self.drains[host].state == Use::In {
                    self.drains[host].doubt = Duration::ZERO;
                }
                // A drain that is under way keeps what is not amended.
                if let Some((seconds, action)) = deadline {
                    self.drains[host].deadline = Some((begun + Duration::from_secs(seconds), action));
                }
                if let Some(seconds) = lease {
                    self.drains[host].lease = Some(begun + Duration::from_secs(seconds));
                }
                if order.share.is_some() {
                    self.close_out(host, begun);
                    self.drains[host].state = Use::Either;
                } else if self.drains[host]
                    .last_lease
                    .is_some_and(|lease| begun <= lease + ROUNDING + self.drains[host].doubt)
                {
                    self.drains[host].state = Use::Either;
                } else {
                    self.drains[host].last_lease = None;
                    self.open_out(host, done);
                }
            }
            Action::DrainAndKill { host, .. } => {
                self.lose_daemon(begun);
                if let Outcome::Number(number) = outcome {
                    self.numbers.push(number);
                    self.open_out(host, done);
                } else if self.drains[host].state != Use::Out {
                    self.drains[host].state = Use::Either;
                }
            }
            Action::Undrain { host, ramp } => {
                self.close_out(host, begun);
                self.close(Excuse::Ended, Some(host), done);
                // A ramp whose new flows fail is taken back.
                let state = if ramp.is_some() { Use::Either } else { Use::In };
                self.drains[host] = Drain { state, ..Drain::default() };
            }
            Action::Kick { host, rate } => {
                let Outcome::Number(chosen) = outcome else { return };
                let takes = Duration::from_secs(chosen / u64::from(rate.max(1)) + 2);
                self.windows.push(Window {
                    excuse: Excuse::Ended,
                    host: Some(host),
                    from: begun,
                    to: Some(done + takes),
                    newest: done + takes,
                });
            }
            Action::Crash(host) => self.open(Excuse::Dead, Some(host), begun),
            Action::Revive(host) => self.close(Excuse::Dead, Some(host), done),
            Action::Cut(link) => {
                self.open(Excuse::Cut, host_at(link), begun);
                if link == Link::Balancer {
                    self.is_off = true;
                    self.open(Excuse::Off, None, begun);
                }
            }
            Action::Mend(link) => {
                self.close(Excuse::Cut, host_at(link), done);
                if link == Link::Balancer {
                    self.is_off = false;
                    if !self.has_no_daemon {
                        self.close(Excuse::Off, None, done + PUBLISHED);
                    }
                }
            }
            Action::FloodSyns | Action::FloodGarbage => self.open(Excuse::Flood, None, begun),
            Action::EndFlood => self.close(Excuse::Flood, None, done),
            Action::Press => {
                let to = done + PRESSURE;
                let excuse = Excuse::Pressure;
                self.windows.push(Window { excuse, host: None, from: begun, to: Some(to), newest: to });
            }
        }
    }

    /// What the config in force has to be, if that is sure.
    pub fn expected_settings(&self) -> Option<Settings> {
        let is_close = |waiting: &Waiting| has_come(waiting.deadline, waiting.doubt, self.now + ROUNDING);
        let is_doubtful = self.is_going.is_some() || self.waiting.as_ref().is_some_and(is_close);
        (!is_doubtful).then_some(self.settings)
    }

    /// What a host's state has to be, once the daemon says it.
    pub fn expects(&self, host: Host) -> Use {
        self.drains[host].state
    }

    /// Takes note that `now` has come: leases and deadlines pass by themselves.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if let Some(Waiting { back_to, deadline, doubt }) =
            self.waiting.filter(|waiting| has_come(waiting.deadline, waiting.doubt, now))
        {
            self.waiting = None;
            let before = std::mem::replace(&mut self.settings, back_to);
            // A host that comes back may have new flows from then on; when one has gone again, nobody said.
            self.name(before, came(deadline, doubt, now), Duration::MAX);
            self.is_going = Some(now);
        }
        if !self.has_no_daemon && self.is_going.is_some_and(|since| now > since + GOING) {
            self.is_going = None;
        }
        for host in 0..HOSTS {
            let drain = self.drains[host];
            if let Some(lease) = drain.lease.filter(|lease| has_come(*lease, drain.doubt, now)) {
                // Nobody may have looked since.
                self.close_out(host, came(lease, drain.doubt, now));
                self.close(Excuse::Ended, Some(host), now);
                self.drains[host] = Drain {
                    state: Use::Either,
                    last_lease: drain.lease,
                    doubt: drain.doubt,
                    ..Drain::default()
                };
            } else if let Some((time, action)) = drain.deadline
                && action != AtDeadline::Keep
                && !drain.ends_flows
                && has_come(time, drain.doubt, now)
            {
                self.drains[host].ends_flows = true;
                let from = now.saturating_sub(ROUNDING + drain.doubt);
                let (excuse, newest) = (Excuse::Ended, drain.out_since);
                self.windows.push(Window { excuse, host: Some(host), from, to: None, newest });
            }
        }
    }

    /// Says why it was to be expected, or what is wrong.
    pub fn judge(&mut self, event: &Event) -> Result<(), String> {
        let (what, excuse) = match event {
            Event::Answered { begun, at, host, flow } => {
                return self.judge_answer(*begun, *at, *host, *flow);
            }
            Event::Gone { flow, at, host } => {
                self.gone_flows.insert(*flow, (*at, *host));
                return Ok(());
            }
            Event::Broken { begun, at, host: Some(host), .. } => {
                let dead = self.find(Excuse::Dead, Some(*host), *begun, *at, Duration::ZERO);
                let ended = || self.find(Excuse::Ended, Some(*host), at.saturating_sub(PATIENCE), *at, WORD);
                ("connections broken", dead.or_else(ended))
            }
            Event::Broken { begun, at, host: None, .. } => {
                ("connections not opened", self.anywhere(*begun, *at, event.why()))
            }
            Event::Failed { begun, at, .. } => ("requests failed", self.anywhere(*begun, *at, event.why())),
            Event::Lost { begun, at, host } => {
                let until = *at + UDP_PATIENCE;
                // After its flows were ended it may be at another host.
                let was_ended = self.find(Excuse::Ended, *host, *begun, until, WORD).is_some();
                let host = if was_ended { None } else { *host };
                let found = [Excuse::Dead, Excuse::Cut, Excuse::Off, Excuse::Flood, Excuse::Pressure]
                    .into_iter()
                    .find_map(|excuse| self.find(excuse, host, *at, until, AFTERMATH));
                ("datagrams lost", found)
            }
            Event::Moved { begun, at, from } => {
                let found = [Excuse::Ended, Excuse::Pressure]
                    .into_iter()
                    .find_map(|excuse| self.find(excuse, *from, *begun, *at, WORD));
                ("UDP flows moved", found)
            }
            Event::Error { at, .. } => {
                let found = [Excuse::Dead, Excuse::Cut, Excuse::Off].into_iter().find_map(|excuse| {
                    self.find(excuse, None, at.saturating_sub(UDP_PATIENCE), *at, AFTERMATH)
                });
                ("UDP sockets told of an error", found)
            }
        };
        let excuse = excuse.ok_or_else(|| event.words())?;
        *self.excused.entry((what, event.why().to_owned(), excuse)).or_default() += 1;
        Ok(())
    }

    /// No new flow of a host that is out as a whole, or not in the config.
    fn judge_answer(
        &mut self,
        begun: Duration,
        at: Duration,
        host: Host,
        flow: Option<Flow>,
    ) -> Result<(), String> {
        // With direct server return nobody sees the RST that a server, of which the connection is not, or a dead host's kernel answers
        // with: the pin stays, and a client that takes the same port again meets the same host (docs/design.md, C2).
        let before = flow.and_then(|flow| self.gone_flows.get(&flow)).copied();
        let is_pinned = before.is_some_and(|(gone, by)| {
            by.is_none_or(|by| by == host) && gone <= begun && begun <= gone + PIN_LIFE
        });
        let is_new = |&&(of, from, to): &&(Host, Duration, Option<Duration>)| {
            of == host && begun > from && to.is_none_or(|to| at < to)
        };
        match self.out.iter().chain(&self.gone).find(is_new) {
            None => Ok(()),
            Some(_) if is_pinned => {
                *self.excused.entry((REUSED, String::new(), Excuse::Pinned)).or_default() += 1;
                Ok(())
            }
            Some((_, from, to)) => Err(format!(
                "{} was out, or not in the config, from {} to {}, and answered a flow at {} that began at {}; it is {flow:?}, the one before \
                 with the same addresses and ports: {before:?}",
                name_of(host),
                seconds(*from),
                to.map_or_else(|| "now".to_owned(), seconds),
                seconds(at),
                seconds(begun)
            )),
        }
    }

    /// For a flow that may have been at any host, if it was at one at all.
    fn anywhere(&self, begun: Duration, at: Duration, why: &str) -> Option<Excuse> {
        let find = |excuse, longer| self.find_for(begun, excuse, None, begun, at, longer);
        let dead = find(Excuse::Dead, Duration::ZERO).or_else(|| find(Excuse::Off, Duration::ZERO));
        if why == REFUSED {
            // That says a host's kernel, or the balancer for want of a host.
            return dead;
        }
        dead.or_else(|| find(Excuse::Ended, AFTERMATH))
            .or_else(|| find(Excuse::Flood, AFTERMATH))
            .or_else(|| find(Excuse::Pressure, Duration::ZERO))
    }

    /// Whether there was such a time between `from` and `to`, which lasted for `longer`; `host`: for this one, none: for any.
    fn find(
        &self,
        excuse: Excuse,
        host: Option<Host>,
        from: Duration,
        to: Duration,
        longer: Duration,
    ) -> Option<Excuse> {
        self.find_for(Duration::ZERO, excuse, host, from, to, longer)
    }

    /// As [`find`](Self::find), for a flow that began then.
    fn find_for(
        &self,
        begun: Duration,
        excuse: Excuse,
        host: Option<Host>,
        from: Duration,
        to: Duration,
        longer: Duration,
    ) -> Option<Excuse> {
        let fits = |window: &&Window| {
            (window.excuse == excuse || (excuse == Excuse::Dead && self.is_long(window)))
                && (host.is_none() || window.host.is_none() || window.host == host)
                && window.from <= to
                && window.to.is_none_or(|end| end + longer >= from)
                && begun <= window.newest
        };
        self.windows.iter().find(fits).map(|window| window.excuse)
    }

    fn open(&mut self, excuse: Excuse, host: Option<Host>, from: Duration) {
        self.windows.push(Window { excuse, host, from, to: None, newest: Duration::MAX });
    }

    fn close(&mut self, excuse: Excuse, host: Option<Host>, to: Duration) {
        let fits =
            |window: &&mut Window| window.excuse == excuse && window.host == host && window.to.is_none();
        self.windows.iter_mut().filter(fits).for_each(|window| window.to = Some(to));
    }

    /// A host that did nothing for longer than it was to, as this machine is slow, is as good as dead to its clients.
    fn is_long(&self, window: &Window) -> bool {
        let lasted = window.to.unwrap_or(self.now).saturating_sub(window.from);
        matches!(window.excuse, Excuse::Cut | Excuse::Stopped) && lasted > SHORT
    }

    /// Whatever the daemon was about to publish, it has not.
    fn lose_daemon(&mut self, now: Duration) {
        self.has_no_daemon = true;
        let fits =
            |window: &&mut Window| window.excuse == Excuse::Off && window.to.is_some_and(|to| to > now);
        self.windows.iter_mut().filter(fits).for_each(|window| window.to = None);
    }

    /// The config names other hosts than before; those that it names again it did from `begun` on, those that it does not, from `done`.
    fn name(&mut self, before: Settings, begun: Duration, done: Duration) {
        for host in 0..HOSTS {
            match (before.names(host), self.settings.names(host)) {
                (true, false) => self.gone.push((host, done, None)),
                (false, true) => {
                    let is_open = |entry: &&mut (Host, Duration, Option<Duration>)| {
                        entry.0 == host && entry.2.is_none()
                    };
                    self.gone.iter_mut().filter(is_open).for_each(|entry| entry.2 = Some(begun));
                }
                _ => {}
            }
        }
    }

    fn open_out(&mut self, host: Host, from: Duration) {
        if self.drains[host].state != Use::Out {
            self.out.push((host, from, None));
            self.drains[host].out_since = from;
        }
        self.drains[host].state = Use::Out;
    }

    fn close_out(&mut self, host: Host, to: Duration) {
        let fits = |entry: &&mut (Host, Duration, Option<Duration>)| entry.0 == host && entry.2.is_none();
        self.out.iter_mut().filter(fits).for_each(|entry| entry.2 = Some(to));
    }

    /// What is open may come a second earlier or later, each time.
    fn date_anew(&mut self) {
        const SECOND: Duration = Duration::from_secs(1);
        self.dated_anew += 1;
        self.drains.iter_mut().for_each(|drain| drain.doubt += SECOND);
        self.waiting.iter_mut().for_each(|waiting| waiting.doubt += SECOND);
    }
}

/// When a time came, which it has by `now`: not earlier.
fn came(time: Duration, doubt: Duration, now: Duration) -> Duration {
    time.saturating_sub(ROUNDING + doubt).min(now)
}

/// Whether a time has come, or is about to.
fn has_come(time: Duration, doubt: Duration, now: Duration) -> bool {
    now + ROUNDING + doubt >= time
}

fn host_at(link: Link) -> Option<Host> {
    match link {
        Link::Host(host) => Some(host),
        Link::Balancer => None,
    }
}

#[cfg(test)]
mod tests;
