//! What draining costs and what it breaks: each host of a site is taken out and brought back in turns, under short connections and
//! long ones, until so many connections were made.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::machine::Machine;
use super::report::table;
use crate::demo::interrupt;
use crate::site::{ECHO, Plan, Site, WEB};
use crate::topology::Topology;
use crate::traffic::{Connections, ConnectionsOptions, Outcome, Request, Requests, RequestsOptions};

/// Hosts of the site.
const HOSTS: usize = 3;
/// Long connections to each VIP.
const LONG: usize = 200;
/// Requests under way at once.
const AT_ONCE: usize = 32;
/// Addresses of the client: each has so many ports, and they are taken for a minute after a connection's end.
const SOURCES: usize = 64;
/// Failures that are told one by one.
const SHOWN: usize = 10;
/// A drain takes some seconds; one that takes this long will not end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured, and how thoroughly.
#[derive(Debug, Clone)]
pub struct DrainOptions {
    /// Short connections in all.
    pub connections: u64,
    /// Ends before, with what was done by then.
    pub time: Duration,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct DrainReport {
    pub machine: Machine,
    pub drains: usize,
    pub seconds: f64,
    /// Short connections, each with a request and an answer; and those of them that failed.
    pub connections: u64,
    pub failed: u64,
    /// The first of those, one a line: when each began, how long it took, and how it failed.
    pub failures: Vec<String>,
    /// Long connections, those of other hosts through a drain and its end; and those of them that broke.
    pub long: u64,
    pub broken: u64,
    /// Packets that another host got than their flow's, by the receipts.
    pub misrouted: u64,
    /// Connections that were begun after a drain's call had returned, and that the drained host answered, one a line.
    pub late: Vec<String>,
    /// Flows of short connections that were seen to count as established while nothing was said for two seconds: pins that missed
    /// an end. A SYN that takes such a flow's port again goes where the pin says, to a drained host as well (C2 leaves that to the host).
    pub undead: u64,
    /// SYNs whose tuple had an established flow.
    pub syns_on_established: u64,
    /// Must-be-zero counters that are not, as JSON.
    pub violations: String,
    /// Milliseconds from the call of `sluice drain` to its return, process start and end included: median and longest.
    pub call_ms: [f64; 2],
    /// Seconds until the drained host had no flow any more: median and longest.
    pub drained_s: [f64; 2],
}

impl DrainReport {
    /// Whether everything is as it has to be.
    pub fn is_sound(&self) -> bool {
        let zeroes = [
            self.failed,
            self.broken,
            self.misrouted,
            self.late.len() as u64,
            self.undead,
            self.syns_on_established,
        ];
        zeroes == [0; 6] && self.violations == "{}"
    }
}

/// Runs all of it; `say` gets a line for each step. `None`: it was interrupted, and everything is removed.
///
/// # Errors
/// When anything cannot be set up, or a drain does not come to its end.
pub fn run_to_its_end(options: &DrainOptions, say: impl FnMut(&str)) -> Result<Option<DrainReport>> {
    interrupt::watch()?;
    match run(options, say) {
        // What else fails then, fails for it.
        Err(_) if interrupt::asked() => Ok(None),
        result => result.map(Some),
    }
}

fn run(options: &DrainOptions, mut say: impl FnMut(&str)) -> Result<DrainReport> {
    let machine = Machine::look()?;
    say("setting up");
    let builder = Topology::builder().client_sources(SOURCES);
    let site = Site::start(builder, &Plan::new("l2", HOSTS))?;
    interrupt::guard(site.topology.prefix());
    let client = site.topology.client();
    let short = Requests::start(
        &client.ns,
        &RequestsOptions {
            sources: client.ipv4.iter().map(|&address| IpAddr::from(address)).collect(),
            rate: 0,
            concurrency: AT_ONCE,
            count: options.connections,
            limit: options.time,
            ..RequestsOptions::new(SocketAddr::new(site.topology.vip4().into(), WEB))
        },
    )?;
    let begun = Instant::now();
    let (mut calls, mut ends, mut windows, mut misrouted) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let (mut opened, mut broken) = (0, 0);
    let mut undead = BTreeSet::new();
    let mut phases = vec![(begun, "before the first drain".to_owned())];
    for turn in 0.. {
        let counts = short.counts();
        if short.is_done()
            || counts.ok + counts.failed >= options.connections
            || begun.elapsed() >= options.time
        {
            break;
        }
        ensure!(!interrupt::asked(), "interrupted");
        let host = format!("h{}", turn % HOSTS + 1);
        say(&format!("drain {}, of {host}: {} of {} connections", turn + 1, counts.ok, options.connections));
        let long = long_connections(&site)?;
        phases.push((Instant::now(), format!("the call of the drain of {host}")));
        let drain = Drain::of(&site, &host, &long)?;
        windows.push((host.clone(), drain.returned, drain.drained));
        misrouted += drain.misrouted;
        undead.extend(site.silent()?);
        calls.push(drain.call.as_secs_f64() * 1e3);
        ends.push((drain.drained - drain.returned).as_secs_f64());
        phases.push((drain.returned, format!("the return of the drain of {host}")));
        phases.push((drain.drained, format!("the end of the drain of {host}")));
        site.daemon.cli_ok(&["undrain", &host])?;
        phases.push((Instant::now(), format!("the return of the undrain of {host}")));
        for long in long {
            let counts = long.finish()?;
            (opened, broken) = (opened + counts.opened, broken + counts.broken + counts.missing);
        }
    }
    say("ending");
    let seconds = begun.elapsed().as_secs_f64();
    let log = short.log();
    let (failures, late) = (failures(&log, &phases), late(&log, &windows));
    let counts = short.finish()?;
    std::thread::sleep(Duration::from_secs(2));
    undead.extend(site.silent()?);
    Ok(DrainReport {
        machine,
        drains: calls.len(),
        seconds,
        connections: counts.ok + counts.failed,
        failed: counts.failed,
        failures,
        long: opened,
        broken,
        misrouted,
        late,
        undead: undead.len() as u64,
        syns_on_established: site.reasons()?.get("forward_syn_established").copied().unwrap_or(0),
        violations: site.violations()?,
        call_ms: middle_and_most(&mut calls),
        drained_s: middle_and_most(&mut ends),
    })
}

/// Requests that failed, each with what had happened last when it began.
fn failures(log: &[Request], phases: &[(Instant, String)]) -> Vec<String> {
    let failed = log.iter().filter_map(|request| match &request.outcome {
        Outcome::Ok(_) => None,
        Outcome::Failed(why) => Some((request, why)),
    });
    let told = failed.take(SHOWN).map(|(request, why)| {
        let last = phases.iter().rfind(|(at, _)| *at <= request.begun);
        let last = last.map_or_else(String::new, |(at, what)| {
            format!("{:.3} s after {what}", (request.begun - *at).as_secs_f64())
        });
        format!("begun {last}, took {:.3} s: {why}", request.took.as_secs_f64())
    });
    told.collect()
}

/// Requests that a host has answered although they began when it was out, between the return of its drain and its end; each with what
/// its client's port was used for before.
fn late(log: &[Request], windows: &[(String, Instant, Instant)]) -> Vec<String> {
    let host_of = |request: &Request| match &request.outcome {
        Outcome::Ok(host) => host.to_string(),
        Outcome::Failed(why) => why.to_string(),
    };
    let mut told = Vec::new();
    for (host, returned, drained) in windows {
        let is_late = |request: &&Request| {
            request.begun > *returned && request.begun <= *drained && host_of(request) == *host
        };
        for request in log.iter().filter(is_late) {
            let before = log.iter().filter(|other| other.from == request.from && other.begun < request.begun);
            let before = before.max_by_key(|other| other.begun).map_or_else(
                || "its port is used for the first time".to_owned(),
                |other| {
                    let ended = other.begun + other.took;
                    let since = (request.begun - ended).as_secs_f64();
                    format!("its port's connection before, at {}, ended {since:.6} s earlier", host_of(other))
                },
            );
            told.push(format!(
                "{host}, begun {:.3} s after the drain's return, took {:.6} s; {before}",
                (request.begun - *returned).as_secs_f64(),
                request.took.as_secs_f64()
            ));
        }
    }
    told
}

/// Long connections to both VIPs, of which those of the other hosts live through the drain.
fn long_connections(site: &Site) -> Result<Vec<Connections>> {
    let start = |vip| {
        let options = ConnectionsOptions {
            connections: LONG,
            interval: Duration::from_millis(500),
            ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
        };
        let long = Connections::start(&site.topology.client().ns, &options)?;
        ensure!(
            long.wait_opened(LONG as u64, PATIENCE),
            "long connections do not come up: {:?}",
            long.counts()
        );
        Ok(long)
    };
    site.vips().into_iter().map(start).collect()
}

/// One drain.
struct Drain {
    call: Duration,
    /// When the call had returned.
    returned: Instant,
    /// When the host had no flow any more.
    drained: Instant,
    misrouted: u64,
}

impl Drain {
    /// Drains the host, whose long connections their clients end then, and waits for it.
    fn of(site: &Site, host: &str, long: &[Connections]) -> Result<Self> {
        let called = Instant::now();
        site.daemon.cli_ok(&["drain", host])?;
        let returned = Instant::now();
        for long in long {
            long.close(1.0, Some(host));
        }
        let patience = format!("{}s", PATIENCE.as_secs());
        let answer = site.daemon.cli_json(&["drain", host, "--wait", "--timeout", &patience, "--json"])?;
        let drained = Instant::now();
        let misrouted = answer["drains"][0]["receipt"]["misrouted"].as_u64();
        let misrouted = misrouted.with_context(|| format!("the drain of {host} has no receipt: {answer}"))?;
        Ok(Drain { call: returned - called, returned, drained, misrouted })
    }
}

fn middle_and_most(values: &mut [f64]) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [values.get(values.len() / 2), values.last()].map(|value| value.copied().unwrap_or(0.0))
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "Hosts of a site of {HOSTS} drained and brought back in turns for {:.0} s, over veth pairs, under {AT_ONCE} connections \
             at once that are made anew all the time, and {} long ones:",
            self.seconds,
            2 * LONG
        )?;
        let mut figures = table(&["what", "figure", "has to be"], 1);
        let rows: [(&str, String, &str); 11] = [
            ("drains", self.drains.to_string(), ""),
            ("short connections", self.connections.to_string(), ""),
            ("… that failed", self.failed.to_string(), "0"),
            ("long connections", self.long.to_string(), ""),
            ("… that broke", self.broken.to_string(), "0"),
            ("packets misrouted", self.misrouted.to_string(), "0"),
            ("new flows on a drained host", self.late.len().to_string(), "0"),
            ("SYNs on established flows", self.syns_on_established.to_string(), "0"),
            ("flows that missed their end", self.undead.to_string(), "0"),
            (
                "call of `sluice drain`, ms: median, longest",
                format!("{:.0}, {:.0}", self.call_ms[0], self.call_ms[1]),
                "",
            ),
            (
                "until no flow was left, s: median, longest",
                format!("{:.1}, {:.1}", self.drained_s[0], self.drained_s[1]),
                "",
            ),
        ];
        for (what, figure, goal) in rows {
            figures.add_row([what, &figure, goal]);
        }
        writeln!(f, "{figures}")?;
        for failure in &self.failures {
            writeln!(f, "a connection that failed: {failure}")?;
        }
        for late in &self.late {
            writeln!(f, "a new flow on a drained host: {late}")?;
        }
        writeln!(f, "must-be-zero counters that are not: {}", self.violations)
    }
}
