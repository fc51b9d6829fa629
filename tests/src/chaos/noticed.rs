//! What clients notice, and how it is told.

use std::net::SocketAddr;
use std::time::Duration;

use super::action::{Host, name_of};

/// A TCP connection by its client's end and by the port of the service; the family tells the VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    pub from: SocketAddr,
    pub port: u16,
}

/// Something that a client noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A server answered a new flow. `begun` is when its first packet was sent; `flow` is a TCP connection's.
    Answered { begun: Duration, at: Duration, host: Host, flow: Option<Flow> },
    /// A connection is no more for its client, but not by an orderly end that the balancer has seen; by a RST of its host, or of somebody
    /// in its name.
    Gone { flow: Flow, at: Duration, host: Option<Host> },
    /// A connection that `host` had greeted, if one had, did not come to its orderly end.
    Broken { begun: Duration, at: Duration, host: Option<Host>, why: String },
    /// A request failed; which host it was at, nobody knows.
    Failed { begun: Duration, at: Duration, why: String },
    /// A datagram, sent at `at`, was never answered.
    Lost { begun: Duration, at: Duration, host: Option<Host> },
    /// A flow of datagrams was answered by another host than before.
    Moved { begun: Duration, at: Duration, from: Option<Host> },
    /// A socket of datagrams was told of an error.
    Error { begun: Duration, at: Duration, host: Option<Host>, why: String },
}

impl Event {
    /// What the client was told, if it was told anything.
    pub fn why(&self) -> &str {
        match self {
            Event::Broken { why, .. } | Event::Failed { why, .. } | Event::Error { why, .. } => why,
            Event::Answered { .. } | Event::Gone { .. } | Event::Lost { .. } | Event::Moved { .. } => "",
        }
    }

    /// As a sentence.
    pub fn words(&self) -> String {
        let at_host =
            |host: &Option<Host>| host.map_or_else(String::new, |host| format!(" of {}", name_of(host)));
        match self {
            Event::Answered { at, host, .. } => format!("{} answered at {}", name_of(*host), seconds(*at)),
            Event::Gone { flow, at, .. } => {
                format!("the connection of {} was gone at {}", flow.from, seconds(*at))
            }
            Event::Broken { begun, at, host, why } => {
                let greeted = if host.is_some() { "a connection" } else { "a connection without a greeting" };
                format!(
                    "{greeted}{} broke at {}: {why}; it began at {}",
                    at_host(host),
                    seconds(*at),
                    seconds(*begun)
                )
            }
            Event::Failed { begun, at, why } => {
                format!("a request failed at {}: {why}; it began at {}", seconds(*at), seconds(*begun))
            }
            Event::Lost { begun, at, host } => format!(
                "a datagram of {} has no answer; its flow{} began at {}",
                seconds(*at),
                at_host(host),
                seconds(*begun)
            ),
            Event::Moved { begun, at, from } => {
                format!(
                    "a UDP flow{} was answered by another host at {}; it began at {}",
                    at_host(from),
                    seconds(*at),
                    seconds(*begun)
                )
            }
            Event::Error { at, host, why, .. } => {
                format!("the socket of a UDP flow{} was told at {}: {why}", at_host(host), seconds(*at))
            }
        }
    }
}

/// `12.34 s`
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
