//! How a service finds out which of its hosts are well, and what becomes of those that are not.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Percent;

/// One check of each host of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    #[serde(flatten)]
    pub probe: Probe,
    /// Port that is asked; a command has none.
    pub port: Option<u16>,
    pub through: Through,
}

/// What is asked, and which answer is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Probe {
    /// A connection is accepted.
    Tcp,
    Http(Request),
    /// Over TLS; certificates are not verified, as they name no address of a host.
    Https(Request),
    Udp {
        send: String,
        /// The answer begins with it; `None`: any answer will do.
        expect: Option<String>,
    },
    /// Run by `/bin/sh -c`; 0 is well.
    Command {
        command: String,
    },
}

/// A `GET` by HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    pub path: String,
    /// Of the header, and of TLS; `None`: the address.
    pub host: Option<String>,
    pub status: Vec<RangeInclusive<u16>>,
    /// The body has it somewhere in its first 64 KiB.
    pub body: Option<String>,
}

/// The way to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Through {
    /// By the kernel, to the host's own address.
    #[default]
    Host,
    /// To the VIP, by the forwarding of real traffic.
    Vip,
}

impl fmt::Display for Check {
    /// What it is known by; two of a service differ in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        match &self.probe {
            Probe::Tcp => write!(f, "tcp {port}")?,
            Probe::Http(request) => write!(f, "http {port}{request}")?,
            Probe::Https(request) => write!(f, "https {port}{request}")?,
            Probe::Udp { send, expect: None } => write!(f, "udp {port} {send:?}")?,
            Probe::Udp { send, expect: Some(expect) } => write!(f, "udp {port} {send:?} > {expect:?}")?,
            Probe::Command { command } => write!(f, "command {command}")?,
        }
        if self.through == Through::Vip { f.write_str(" through the VIP") } else { Ok(()) }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(host) = &self.host {
            write!(f, " host {host}")?;
        }
        let ranges = self.status.iter().map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
        write!(f, " {}", ranges.collect::<Vec<_>>().join(","))?;
        match &self.body {
            Some(body) => write!(f, " body {body:?}"),
            None => Ok(()),
        }
    }
}

/// When checks run, what they come to, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// From the beginning of one run to that of the next.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// After it a run has failed.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Part of the interval by which a run may be late, so that runs do not keep in step.
    pub jitter: Percent,
    /// Runs in a row that must succeed until a host that is down is up.
    pub rise: u32,
    /// Runs in a row that must fail until a host is down.
    pub fall: u32,
    /// Time in which half of what is held against a host that goes up and down is forgotten.
    #[serde(with = "humantime_serde")]
    pub damping: Duration,
    pub down_flows: DownFlows,
    /// How long the flows of a host that is down stay with it before they are moved or reset.
    #[serde(with = "humantime_serde")]
    pub down_after: Duration,
    /// With less of the weight up, hosts are used as if no check had failed.
    pub panic: Percent,
    /// Part of the weight that may be out of use because of checks.
    pub max_ejected: Percent,
    /// In which a host that comes back gets its full share; `None`: at once.
    #[serde(with = "humantime_serde")]
    pub ramp: Option<Duration>,
    /// With less of the weight of the primary hosts up and in use, the standby hosts join.
    pub join_below: Percent,
    /// With at least so much of it they leave again.
    pub leave_at: Percent,
    pub passive: Passive,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            interval: Duration::from_secs(2),
            timeout: Duration::from_millis(500),
            jitter: Percent(5),
            rise: 2,
            fall: 3,
            damping: Duration::from_secs(60),
            down_flows: DownFlows::Keep,
            down_after: Duration::from_secs(30),
            // Only while nobody is up.
            panic: Percent(1),
            max_ejected: Percent(100),
            ramp: None,
            join_below: Percent(50),
            leave_at: Percent(75),
            passive: Passive::default(),
        }
    }
}

/// What is made of how the flows of clients fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Passive {
    pub action: PassiveAction,
    /// In which a host's new flows are looked for, if it takes so long until there are enough.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// New flows of a host that are looked at, at least.
    pub least_flows: u32,
    /// Part of them that must have failed.
    pub failing: Percent,
    /// How long a host gets no new flows, for the first time. Each further time it is twice as long.
    #[serde(with = "humantime_serde")]
    pub hold: Duration,
    #[serde(with = "humantime_serde")]
    pub longest_hold: Duration,
    /// Part of the weight that may be out of use because of how clients fare, with nothing found by checks.
    pub max_ejected: Percent,
}

impl Default for Passive {
    fn default() -> Self {
        Passive {
            action: PassiveAction::Off,
            window: Duration::from_secs(10),
            least_flows: 20,
            failing: Percent(60),
            hold: Duration::from_secs(30),
            longest_hold: Duration::from_secs(300),
            // One of three.
            max_ejected: Percent(34),
        }
    }
}

/// What follows from a host whose clients' flows fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PassiveAction {
    #[default]
    Off,
    /// It is told.
    Warn,
    /// The host is down for the service, for some time.
    Eject,
}

impl fmt::Display for PassiveAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PassiveAction::Off => "off",
            PassiveAction::Warn => "warn",
            PassiveAction::Eject => "eject",
        })
    }
}

/// What becomes of the flows of a host that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DownFlows {
    /// They stay: if the host comes back in time, they go on.
    #[default]
    Keep,
    /// Each goes to another host with its next packet.
    Move,
    /// The client's next packet of each TCP flow is answered with a RST; others are moved.
    Reset,
}

impl fmt::Display for DownFlows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DownFlows::Keep => "keep",
            DownFlows::Move => "move",
            DownFlows::Reset => "reset",
        })
    }
}
