//! What can be done to a balancer and what is around it, as data.

use std::fmt;

use lb_userspace::api::types::AtDeadline;

/// Hosts of the site.
pub const HOSTS: usize = 4;

/// Number of a host, from 0; its name counts from 1.
pub type Host = usize;

/// `h1` …
pub fn name_of(host: Host) -> String {
    format!("h{}", host + 1)
}

/// The host of this name.
pub fn host_of(name: &str) -> Option<Host> {
    let number: usize = name.strip_prefix('h')?.parse().ok()?;
    (1..=HOSTS).contains(&number).then(|| number - 1)
}

/// How a drain is to be bounded, as on the command line. Seconds from the command on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Order {
    pub deadline: Option<(u64, AtDeadline)>,
    pub lease: Option<u64>,
    /// Percent of the slots; none: all.
    pub share: Option<u8>,
}

/// What configs say otherwise than the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub weights: [u16; HOSTS],
    /// The host that is not named.
    pub without: Option<Host>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { weights: [100; HOSTS], without: None }
    }
}

impl Settings {
    pub fn names(&self, host: Host) -> bool {
        self.without != Some(host)
    }

    /// As the status shows them, which has no weight of a host that is not named.
    pub fn as_shown(mut self) -> Self {
        if let Some(host) = self.without {
            self.weights[host] = 0;
        }
        self
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weights {:?}", self.weights)?;
        self.without.map_or(Ok(()), |host| write!(f, ", without {}", name_of(host)))
    }
}

/// How a config comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `sluice apply`
    Apply,
    /// `sluice apply --confirm` with so many seconds, and `sluice confirm`.
    Confirmed(u64),
    /// The same without the latter.
    Unconfirmed(u64),
    /// Into the daemon's own file, and SIGHUP.
    Signal,
}

/// A link that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Host(Host),
    /// Between the balancer and all hosts.
    Balancer,
}

/// One thing that happens, in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL.
    KillDaemon,
    /// SIGTERM, and wait for the end.
    EndDaemon,
    StartDaemon,
    Drain {
        host: Host,
        order: Order,
    },
    /// A drain, and SIGKILL for the daemon so many milliseconds after the command was begun: what became of it, nobody was told.
    DrainAndKill {
        host: Host,
        after: u64,
    },
    Undrain {
        host: Host,
        ramp: Option<u64>,
    },
    /// All flows of the host, so many a second.
    Kick {
        host: Host,
        rate: u32,
    },
    /// Another config, while the daemon runs.
    Config {
        settings: Settings,
        way: Way,
    },
    /// SIGKILL for all servers of a host.
    Crash(Host),
    Revive(Host),
    /// SIGSTOP.
    Freeze(Host),
    Thaw(Host),
    Cut(Link),
    Mend(Link),
    /// SYNs from forged sources.
    FloodSyns,
    /// Packets that no honest client sends, and such that are none.
    FloodGarbage,
    EndFlood,
    /// Connections, more than the flow table holds.
    Press,
    /// The wall clock jumps by so many seconds.
    MoveClock(i64),
}

impl Action {
    /// The word that actions of this kind are counted by.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::KillDaemon => "daemon killed",
            Action::EndDaemon => "daemon ended",
            Action::StartDaemon => "daemon started",
            Action::Drain { order: Order { share: Some(_), .. }, .. } => "drain of a part",
            Action::Drain { order, .. } => match order.deadline {
                None => "drain",
                Some((_, AtDeadline::Keep)) => "drain, then keep",
                Some((_, AtDeadline::Move)) => "drain, then move",
                Some((_, AtDeadline::Reset)) => "drain, then reset",
            },
            Action::DrainAndKill { .. } => "daemon killed in a drain",
            Action::Undrain { ramp: None, .. } => "undrain",
            Action::Undrain { .. } => "undrain by a ramp",
            Action::Kick { .. } => "kick",
            Action::Config { way: Way::Apply, .. } => "config applied",
            Action::Config { way: Way::Confirmed(_), .. } => "config applied and confirmed",
            Action::Config { way: Way::Unconfirmed(_), .. } => "config applied, not confirmed",
            Action::Config { way: Way::Signal, .. } => "config by a signal",
            Action::Crash(_) => "host crashed",
            Action::Revive(_) => "host revived",
            Action::Freeze(_) => "host stopped",
            Action::Thaw(_) => "host continued",
            Action::Cut(Link::Host(_)) => "host's link down",
            Action::Cut(Link::Balancer) => "balancer's link down",
            Action::Mend(_) => "link up",
            Action::FloodSyns => "flood of SYNs",
            Action::FloodGarbage => "flood of garbage",
            Action::EndFlood => "flood over",
            Action::Press => "table pressed",
            Action::MoveClock(_) => "clock moved",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Action::KillDaemon => f.write_str("kill -KILL the daemon"),
            Action::EndDaemon => f.write_str("kill -TERM the daemon"),
            Action::StartDaemon => f.write_str("start the daemon"),
            Action::Drain { host, order } => {
                write!(f, "sluice {}", drain_arguments(host, &order).join(" "))
            }
            Action::DrainAndKill { host, after } => {
                write!(f, "sluice drain {}, and kill -KILL the daemon after {after} ms", name_of(host))
            }
            Action::Undrain { host, ramp } => {
                write!(f, "sluice {}", undrain_arguments(host, ramp).join(" "))
            }
            Action::Kick { host, rate } => write!(f, "sluice {}", kick_arguments(host, rate).join(" ")),
            Action::Config { settings, way } => match way {
                Way::Apply => write!(f, "sluice apply ({settings})"),
                Way::Confirmed(seconds) => {
                    write!(f, "sluice apply --confirm={seconds}s ({settings}), and sluice confirm")
                }
                Way::Unconfirmed(seconds) => write!(f, "sluice apply --confirm={seconds}s ({settings})"),
                Way::Signal => write!(f, "kill -HUP the daemon ({settings})"),
            },
            Action::Crash(host) => write!(f, "kill -KILL the servers of {}", name_of(host)),
            Action::Revive(host) => write!(f, "start the servers of {} again", name_of(host)),
            Action::Freeze(host) => write!(f, "kill -STOP the servers of {}", name_of(host)),
            Action::Thaw(host) => write!(f, "kill -CONT the servers of {}", name_of(host)),
            Action::Cut(link) => write!(f, "link of {} down", end_of(link)),
            Action::Mend(link) => write!(f, "link of {} up", end_of(link)),
            Action::FloodSyns => f.write_str("a flood of SYNs begins"),
            Action::FloodGarbage => f.write_str("a flood of garbage begins"),
            Action::EndFlood => f.write_str("the flood ends"),
            Action::Press => f.write_str("more connections than the table has pins for"),
            Action::MoveClock(seconds) => write!(f, "the wall clock is set by {seconds:+} s"),
        }
    }
}

fn end_of(link: Link) -> String {
    match link {
        Link::Host(host) => name_of(host),
        Link::Balancer => "the balancer".to_owned(),
    }
}

/// Words after `sluice`.
pub fn drain_arguments(host: Host, order: &Order) -> Vec<String> {
    let mut words = vec!["drain".to_owned(), name_of(host)];
    if let Some((seconds, action)) = order.deadline {
        let action = match action {
            AtDeadline::Keep => "keep",
            AtDeadline::Move => "move",
            AtDeadline::Reset => "reset",
        };
        words.extend([format!("--deadline={seconds}s"), format!("--at-deadline={action}")]);
    }
    words.extend(order.lease.map(|seconds| format!("--lease={seconds}s")));
    words.extend(order.share.map(|percent| format!("--share={percent}%")));
    words
}

/// Words after `sluice`.
pub fn undrain_arguments(host: Host, ramp: Option<u64>) -> Vec<String> {
    let ramp = ramp.map(|seconds| format!("--ramp={seconds}s"));
    ["undrain".to_owned(), name_of(host)].into_iter().chain(ramp).collect()
}

/// Words after `sluice`.
pub fn kick_arguments(host: Host, rate: u32) -> Vec<String> {
    vec!["kick".to_owned(), name_of(host), format!("--rate={rate}/s"), "--no-wait".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_names() {
        assert_eq!([name_of(0), name_of(3)], ["h1", "h4"]);
        assert_eq!((host_of("h1"), host_of("h4")), (Some(0), Some(3)));
        assert!(["h0", "h5", "x", "h", ""].iter().all(|name| host_of(name).is_none()));
    }

    #[test]
    fn an_action_reads_as_the_command_that_it_is() {
        let order = Order { deadline: Some((3, AtDeadline::Reset)), lease: Some(9), share: None };
        let text = Action::Drain { host: 1, order }.to_string();
        assert_eq!(text, "sluice drain h2 --deadline=3s --at-deadline=reset --lease=9s");
        assert_eq!(Action::Undrain { host: 0, ramp: Some(9) }.to_string(), "sluice undrain h1 --ramp=9s");
        let text = Action::Kick { host: 2, rate: 20 }.to_string();
        assert_eq!(text, "sluice kick h3 --rate=20/s --no-wait");
    }
}
