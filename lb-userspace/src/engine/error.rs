//! Why the engine did not do what it was asked to.

use crate::api::types::BrokenRule;
use crate::config::ConfigErrors;
use crate::whatif::Unknown;
use crate::{dataplane, drain, journal, maintain, ramp};

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
    #[error("there are as many rings as there can be, and {what} would need one more")]
    NoRing { what: String },
    #[error("{0}")]
    Clients(#[from] drain::Unclear),
    #[error("there are {0} drains for some clients alone, and no more can be under way at once")]
    TooManyOfClients(u32),
    #[error("{0} backends would have to be kept apart for these clients, and there is room for {1}")]
    TooManyBackends(usize, usize),
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
    #[error("{} of the config cannot be changed while flows are pinned: {}", if .0.len() == 1 { "a field" } else { "some fields" }, .0.join("; "))]
    Fixed(Vec<String>),
    #[error("{}", config_refused(.0))]
    Config(Box<ConfigErrors>),
    #[error(
        "revision {revision} could not be put in force, so the config before is in force again: {source}"
    )]
    NotApplied { revision: u64, source: Box<Error> },
    #[error("{}, and not in force yet: {}", is_noted(noted), until(source))]
    NotYet {
        /// What the journal has been told.
        noted: Vec<String>,
        source: Box<Error>,
    },
    #[error("revision {wanted} does not wait for its confirmation: revision {waits} does")]
    WaitsForAnother { wanted: u64, waits: u64 },
    #[error("there is no revision {0}")]
    NoRevision(u64),
    #[error("the config that was in force after revision {0} is not known any more, or was not noted yet")]
    NoConfigAt(u64),
    #[error("no config is known from before revision {0}")]
    NoConfigBefore(u64),
    #[error("the network is not ready for the config: {0}")]
    Network(String),
    #[error("{}", plan_refused(.0))]
    Plan(maintain::Refused),
    #[error("there is no run {0}")]
    NoRun(u64),
    #[error("run {0} is over")]
    RunIsOver(u64),
    #[error("{0}")]
    WithoutEffect(String),
    #[error("there is no shift {0}")]
    NoShift(u64),
    #[error("shift {0} is over")]
    ShiftIsOver(u64),
    #[error("journal: {0}")]
    Journal(#[from] journal::Error),
    #[error("data path: {0}")]
    Dataplane(#[from] dataplane::Error),
    #[error("cannot write the rings' history: {0}")]
    History(#[from] serde_json::Error),
}

impl Error {
    /// Whether the journal is at fault, which says nothing of the config that was tried. That no number is left does.
    pub fn is_of_the_journal(&self) -> bool {
        matches!(self, Error::Journal(error) if !matches!(error, journal::Error::IdsExhausted { .. }))
    }

    /// `not_found`, `bad_request`, `conflict`, `config`, `rule` or `internal`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NoHost { .. }
            | Error::NotOfService { .. }
            | Error::NoService { .. }
            | Error::Unknown { .. }
            | Error::NoDrain(_)
            | Error::NoDrainOf(_)
            | Error::NoKick(_)
            | Error::NoRun(_)
            | Error::NoShift(_)
            | Error::NoRevision(_)
            | Error::NoConfigAt(_)
            | Error::NoConfigBefore(_)
            | Error::NoReceiptYet { .. } => "not_found",
            Error::Config(_) | Error::Plan(_) => "config",
            Error::Fixed(_)
            | Error::Journal(
                journal::Error::Unconfirmed { .. }
                | journal::Error::NothingToConfirm
                | journal::Error::IdsExhausted { .. },
            ) => "conflict",
            Error::NotApplied { .. } | Error::NotYet { .. } | Error::Network(_) => "internal",
            Error::Quiet(_)
            | Error::NoHosts
            | Error::NoRate
            | Error::Clients(_)
            | Error::TooManyBackends(..)
            | Error::Order { .. }
            | Error::Ramp(_)
            | Error::RampOfService
            | Error::NoRing { .. } => "bad_request",
            Error::Rules(_) => "rule",
            Error::Disabled(_)
            | Error::TooManyKicked
            | Error::TooManyOfClients(_)
            | Error::WaitsForAnother { .. }
            | Error::RunIsOver(_)
            | Error::WithoutEffect(_)
            | Error::ShiftIsOver(_) => "conflict",
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

    pub fn config(errors: ConfigErrors) -> Self {
        Error::Config(Box::new(errors))
    }

    /// The problems of a config, each as `sluice check` prints it.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Error::Config(errors) => errors.each(),
            Error::Plan(refused) => refused.problems.clone(),
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
            Error::Clients(unclear) => Some(unclear.mend().to_owned()),
            Error::TooManyOfClients(_) => {
                Some("undrain one of them, drain for a wider prefix, or drain whole hosts".to_owned())
            }
            Error::TooManyBackends(..) => Some("name a service, or drain the whole host".to_owned()),
            Error::TooManyKicked => {
                Some("choose fewer with --service, --clients, --older-than or --idle, or let the kicks under way end".to_owned())
            }
            Error::Quiet(_) => Some("give a time of up to 24h, and a number of packets a second such as 1".to_owned()),
            Error::NoRate => Some("give a rate of at least 1, or none for 50".to_owned()),
            Error::NoKick(_) => {
                Some("the daemon remembers the last 100 kicks since its start: GET /v1/kicks".to_owned())
            }
            Error::Disabled(host) => Some(format!(
                "take `disabled` out of [hosts.{host}] and apply the config; its drain, if it has one, is then to be undone"
            )),
            Error::NoHosts => Some("name at least one host".to_owned()),
            Error::Rules(broken) => {
                let mends: Vec<&str> = broken.iter().map(|rule| rule.mend.as_str()).collect();
                Some(format!("{}; or give --force", mends.join("; ")))
            }
            Error::Order { refusal, .. } => Some(refusal.mend().to_owned()),
            Error::NoDrainOf(target) if target.contains(' ') => {
                Some("`sluice drains` lists what hosts are drained for: name the same service and clients".to_owned())
            }
            Error::NoDrainOf(host) => Some(format!("`sluice plan drain {host}` says what a drain would do")),
            Error::Ramp(refusal) => Some(refusal.mend().to_owned()),
            Error::NotOfService { .. } => Some("`sluice rings` lists services with their hosts".to_owned()),
            Error::RampOfService => Some("leave the ramp or the service out".to_owned()),
            Error::NoRing { .. } => Some("undrain what is drained for single services or clients; a ring is free again when its handovers are over, and a drain of a whole host needs none".to_owned()),
            Error::NoDrain(_) => Some("`sluice receipts` lists the drains that are over".to_owned()),
            Error::NoReceiptYet { host, .. } => {
                Some(format!("`sluice drain {host} --wait` waits for its end and shows the receipt"))
            }
            Error::Fixed(_) => Some(
                "sizes of the flow table are taken over by a restart of the daemon with its own file changed, which keeps all flows; ring_size and \
                 hash_key need `sluice detach` before it, which forgets them"
                    .to_owned(),
            ),
            Error::Config(_) => Some("mend the file and apply it again; what was in force is in force".to_owned()),
            Error::WithoutEffect(_) => None,
            Error::NoShift(_) => Some("`sluice shift status` lists the last shift of each service".to_owned()),
            Error::ShiftIsOver(_) => Some("what it came to stays in force until another shift of the service".to_owned()),
            Error::Plan(_) => Some("mend the plan; nothing was begun".to_owned()),
            Error::NoRun(_) => Some("`sluice maintain status` lists runs".to_owned()),
            Error::RunIsOver(run) => Some(format!("`sluice maintain report {run}` tells what came of it")),
            Error::WaitsForAnother { waits, .. } => Some(format!(
                "`sluice show {waits}` says what it changes, `sluice confirm {waits}` keeps it"
            )),
            Error::NoRevision(_) => Some("`sluice history` lists those that are kept".to_owned()),
            Error::NoConfigAt(_) | Error::NoConfigBefore(_) => {
                Some("`sluice history` lists the changes; the last ten configs are always kept".to_owned())
            }
            Error::NotApplied { .. } => Some("see the daemon's log; flows that lived go on".to_owned()),
            Error::NotYet { source, .. } => match source.as_ref() {
                Error::Journal(error) if error.mend().is_some() => error.mend().map(str::to_owned),
                _ => Some("see the daemon's log; `sluice status` says when it is published".to_owned()),
            },
            Error::Network(_) => Some("see the daemon's log; nothing was changed".to_owned()),
            Error::Journal(journal::Error::Unconfirmed { .. }) => {
                Some("`sluice confirm` keeps it, `sluice rollback` takes it back".to_owned())
            }
            Error::Journal(journal::Error::NothingToConfirm) => {
                Some("`sluice history` tells what became of it".to_owned())
            }
            Error::Journal(journal::Error::IdsExhausted { .. }) => Some(
                "what is not in the config gives its numbers back once its last flow has ended, its handovers are over and its drain is \
                 undone: try again then, or name fewer"
                    .to_owned(),
            ),
            Error::Journal(error) if error.mend().is_some() => error.mend().map(str::to_owned),
            Error::Journal(_) | Error::Dataplane(_) | Error::History(_) => {
                Some("see the daemon's log; nothing that was in force has been taken out of force".to_owned())
            }
        }
    }
}

fn config_refused(errors: &ConfigErrors) -> String {
    match errors.problems.len() {
        1 => format!("{} is refused, for a problem", errors.file),
        count => format!("{} is refused, for {count} problems", errors.file),
    }
}

fn plan_refused(refused: &maintain::Refused) -> String {
    match refused.problems.len() {
        1 => format!("{} is refused, for a problem", refused.file),
        count => format!("{} is refused, for {count} problems", refused.file),
    }
}

fn is_noted(noted: &[String]) -> String {
    let are = if noted.len() == 1 { "is" } else { "are" };
    format!("{} {are} noted", noted.join(", "))
}

fn until(source: &Error) -> String {
    match source {
        Error::Journal(error) if error.mend().is_some() => {
            format!("that will be as soon as the journal can be written again, as {}", error.why())
        }
        error => format!("it is tried again each second ({error})"),
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
