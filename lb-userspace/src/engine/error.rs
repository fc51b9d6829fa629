//! Why the engine did not do what it was asked to.

use crate::api::types::BrokenRule;
use crate::whatif::Unknown;
use crate::{dataplane, drain, journal, ramp};

/// An error, with what an API client needs to know of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no host named {name}")]
    NoHost { name: String, near: Option<String> },
    #[error("{}", nobody(unknown))]
    Unknown {
        unknown: Unknown,
        near: Option<String>,
        /// All names of its kind, as they are written.
        known: Vec<String>,
    },
    #[error("there is no service named {name}")]
    NoService { name: String, near: Option<String> },
    #[error("host {host} does not serve {service}")]
    NotOfService { host: String, service: String },
    #[error("a ramp is for all services of a host")]
    RampOfService,
    #[error("there are as many rings as there can be, and {service} would need one of its own")]
    NoRing { service: String },
    #[error("{0:?} is neither an address nor a prefix")]
    NoPrefix(String),
    #[error("{0} is disabled in the config, so it would get no new flows")]
    Disabled(String),
    #[error("no host is named in the request")]
    NoHosts,
    #[error("{}", broken(.0))]
    Rules(Vec<BrokenRule>),
    #[error("host {host}: {refusal}")]
    Order { host: String, refusal: drain::Refusal },
    #[error("{0}")]
    Ramp(#[from] ramp::Refusal),
    #[error("{0}")]
    Quiet(&'static str),
    #[error("there is no kick {0}")]
    NoKick(u64),
    #[error("more than a million flows would wait for their ends")]
    TooManyKicked,
    #[error("a kick at no flow a second would never end")]
    NoRate,
    #[error("{0} is in use, and has not been drained before")]
    NoDrainOf(String),
    #[error("there is no drain {0}")]
    NoDrain(u64),
    #[error("drain {drain} of {host} has no receipt: it is under way")]
    NoReceiptYet { drain: u64, host: String },
    #[error("journal: {0}")]
    Journal(#[from] journal::Error),
    #[error("data path: {0}")]
    Dataplane(#[from] dataplane::Error),
    #[error("cannot write the rings' history: {0}")]
    History(#[from] serde_json::Error),
}

impl Error {
    /// `not_found`, `bad_request`, `rule` or `internal`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NoHost { .. }
            | Error::NotOfService { .. }
            | Error::NoService { .. }
            | Error::Unknown { .. }
            | Error::NoDrain(_)
            | Error::NoDrainOf(_)
            | Error::NoKick(_)
            | Error::NoReceiptYet { .. } => "not_found",
            Error::Quiet(_)
            | Error::NoHosts
            | Error::NoRate
            | Error::NoPrefix(_)
            | Error::Order { .. }
            | Error::Ramp(_)
            | Error::RampOfService
            | Error::NoRing { .. } => "bad_request",
            Error::Rules(_) => "rule",
            Error::Disabled(_) | Error::TooManyKicked => "conflict",
            Error::Journal(_) | Error::Dataplane(_) | Error::History(_) => "internal",
        }
    }

    /// The rules that would be broken.
    pub fn rules(self) -> Vec<BrokenRule> {
        match self {
            Error::Rules(broken) => broken,
            _ => Vec::new(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoHost { near: Some(near), .. }
            | Error::NoService { near: Some(near), .. }
            | Error::Unknown { near: Some(near), .. } => Some(format!("did you mean {near}?")),
            Error::Unknown { unknown: Unknown::Group(_) | Unknown::Zone(_), known, .. } => {
                Some(groups(known))
            }
            Error::NoHost { .. } | Error::NoService { .. } | Error::Unknown { .. } => {
                Some("`sluice status` lists hosts and services".to_owned())
            }
            Error::NoPrefix(_) => Some("write it like 198.51.100.7, 10.0.0.0/8 or 2001:db8::/32".to_owned()),
            Error::TooManyKicked => {
                Some("choose fewer with --service, --clients, --older-than or --idle, or let the kicks under way end".to_owned())
            }
            Error::Quiet(_) => Some("give a time of up to 24h, and a number of packets a second such as 1".to_owned()),
            Error::NoRate => Some("give a rate of at least 1, or none for 50".to_owned()),
            Error::NoKick(_) => {
                Some("the daemon remembers the last 100 kicks since its start: GET /v1/kicks".to_owned())
            }
            Error::Disabled(host) => Some(format!(
                "take `disabled` out of [hosts.{host}] and restart the daemon; its drain, if it has one, is then to be undone"
            )),
            Error::NoHosts => Some("name at least one host".to_owned()),
            Error::Rules(broken) => {
                let mends: Vec<&str> = broken.iter().map(|rule| rule.mend.as_str()).collect();
                Some(format!("{}; or give --force", mends.join("; ")))
            }
            Error::Order { refusal, .. } => Some(refusal.mend().to_owned()),
            Error::NoDrainOf(host) => Some(format!("`sluice plan drain {host}` says what a drain would do")),
            Error::Ramp(refusal) => Some(refusal.mend().to_owned()),
            Error::NotOfService { .. } => Some("`sluice rings` lists services with their hosts".to_owned()),
            Error::RampOfService => Some("leave the ramp or the service out".to_owned()),
            Error::NoRing { .. } => Some("drain the host for all services".to_owned()),
            Error::NoDrain(_) => Some("`sluice receipts` lists the drains that are over".to_owned()),
            Error::NoReceiptYet { host, .. } => {
                Some(format!("`sluice drain {host} --wait` waits for its end and shows the receipt"))
            }
            Error::Journal(_) | Error::Dataplane(_) | Error::History(_) => {
                Some("see the daemon's log; nothing that was in force has been taken out of force".to_owned())
            }
        }
    }
}

fn nobody(unknown: &Unknown) -> String {
    match unknown {
        Unknown::Host(name) => format!("there is no host named {name}"),
        Unknown::Group(name) => format!("no host is in a group {name}"),
        Unknown::Zone(name) => format!("no host is in a zone {name}"),
    }
}

fn groups(known: &[String]) -> String {
    match known {
        [] => "the config puts no host into one: see groups and zone under [hosts.NAME]".to_owned(),
        known => format!("there are {}", known.join(", ")),
    }
}

fn broken(rules: &[BrokenRule]) -> String {
    let messages: Vec<&str> = rules.iter().map(|rule| rule.message.as_str()).collect();
    match messages.as_slice() {
        [message] => (*message).to_owned(),
        messages => format!("{} rules would be broken: {}", messages.len(), messages.join("; ")),
    }
}
