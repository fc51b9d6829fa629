//! The stages of the demo, in their order.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_userspace::api::types::{HostStatus, LiveFlows, Status};
use lb_userspace::cli::render::number::exact;

use super::child::Child;
use super::config::{self, ECHO, ESTABLISHED, WEB};
use super::down::summary;
use super::load::{CONNECTIONS, Load, NewFlows, REQUESTS, UDP_FLOWS};
use super::place::Place;
use super::screen::Screen;
use super::verdict::Outcome;
use super::{LABEL, interrupt, keep};
use crate::servers::{Nginx, SluiceDaemon};
use crate::topology::{Node, Topology, remove_all, remove_labelled};
use crate::traffic::{EchoServer, UdpEchoServer};

pub const STAGES: usize = 7;

/// The host that is drained.
const HOST: &str = "web-2";
/// The balancer can vouch for a host's flows when it has seen the traffic for as long as a flow may be silent; a little
/// longer, since it counts whole seconds.
const WATCHED: Duration = Duration::from_secs(ESTABLISHED + 2);
/// How long a drain may take. It takes some 25 s: the longest life of a connection is 36 s, of which 12 s are over.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// How long the drain call may take until it says that the host gets no new flows.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// How long the host stays drained, and how long the traffic goes on when it is back.
const REST: Duration = Duration::from_secs(3);
const BACK: Duration = Duration::from_secs(8);
/// What began this shortly before the undrain may be late, and is counted neither way.
const MARGIN: Duration = Duration::from_millis(500);
/// How long the balancer may take to know its hosts' link-layer addresses.
const READY_LIMIT: Duration = Duration::from_secs(10);
const REFRESH: Duration = Duration::from_millis(400);

/// How the script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything is removed, and whether all promises held.
    Removed(bool),
    /// It was kept, and removed when somebody asked for it.
    Kept,
}

/// What runs on the hosts.
struct Servers {
    nginx: Vec<Nginx>,
    tcp: Vec<EchoServer>,
    udp: Vec<UdpEchoServer>,
}

/// Removes what dropping the daemon and the topology may leave, above all when something failed.
pub(super) struct Sweep(pub String);

impl Drop for Sweep {
    fn drop(&mut self) {
        remove_all(&self.0);
    }
}

/// Runs all stages; whatever the end, everything that was made is removed when this returns.
pub fn run(screen: &mut Screen, place: &mut Place, keeps: bool) -> Result<End> {
    let left = remove_labelled(LABEL);
    if !left.is_empty() {
        screen.line(&format!("Removed what a dead demo had left: {}.", summary(&left)));
    }
    let title = screen.bold("Sluice drains one of three servers while its clients are connected.");
    screen.line(&title);
    screen.line("It takes about a minute. Ctrl-C ends it at any time and removes everything.");

    let topology = build_network(screen)?;
    let _sweep = Sweep(topology.prefix().to_owned());
    place.set_instance(topology.prefix())?;
    interrupt::guard(topology.prefix());
    let hosts = config::named_hosts(&topology);
    let servers = start_servers(screen, &topology, &hosts)?;
    let (mut daemon, started) = start_balancer(screen, &topology, &hosts)?;

    let mut pulse = Pulse::default();
    let mut times = Times { begun: Instant::now(), ..Times::now() };
    let load = send_traffic(screen, &topology, &daemon, started, &mut pulse)?;
    let drain = drain(screen, &daemon, &load, &mut times, &mut pulse)?;
    let host = undrain(screen, &daemon, &load, &mut times, &mut pulse)?;
    let is_good = count(screen, &daemon, load, &times, drain, host)?;

    if keeps {
        explain(screen, &topology, &daemon);
        screen.close();
        keep::stay(place, u8::from(!is_good))?;
    } else {
        screen.line("Removing namespaces, processes, pins and files.");
    }
    // An orderly end of the daemon and of the data path; the rest happens by itself, in the reverse order.
    daemon.terminate()?;
    drop((daemon, servers));
    Ok(if keeps { End::Kept } else { End::Removed(is_good) })
}

fn build_network(screen: &mut Screen) -> Result<Topology> {
    screen.stage("Build a network");
    let topology = Topology::builder().label(LABEL).build()?;
    interrupt::check()?;
    screen.say(
        "A client, a balancer and three hosts, each a network namespace of its own, joined by veth pairs. \
         Clients know only the virtual addresses:",
    );
    screen.say(&format!("{} and {}", topology.vip4(), topology.vip6()));
    Ok(topology)
}

fn start_servers(screen: &mut Screen, topology: &Topology, hosts: &[Node]) -> Result<Servers> {
    screen.stage("Start the servers");
    let at = topology.vips().iter().map(|&vip| (vip, ECHO).into()).collect::<Vec<_>>();
    let mut servers = Servers { nginx: Vec::new(), tcp: Vec::new(), udp: Vec::new() };
    for host in hosts {
        servers.nginx.push(Nginx::start(host, topology.vips())?);
        servers.tcp.push(EchoServer::start(&host.ns, &host.name, &at, 1)?);
        servers.udp.push(UdpEchoServer::start(&host.ns, &host.name, &at)?);
        interrupt::check()?;
    }
    screen.say(&format!(
        "On each of web-1, web-2 and web-3: nginx on TCP port {WEB}, echo servers on TCP and UDP port {ECHO}. \
         Every answer says which host gave it, so clients know where they are."
    ));
    Ok(servers)
}

/// Also returns when the balancer began to watch.
fn start_balancer(
    screen: &mut Screen,
    topology: &Topology,
    hosts: &[Node],
) -> Result<(SluiceDaemon, Instant)> {
    screen.stage("Start the balancer");
    let daemon = SluiceDaemon::start(topology, &config::text(topology, hosts))?;
    let started = Instant::now();
    screen.command(&format!("sluice run --config sluice.toml --instance {}", daemon.instance()));
    let status = loop {
        interrupt::check()?;
        let status = status(&daemon)?;
        if status.problems.is_empty() {
            break status;
        }
        if started.elapsed() > READY_LIMIT {
            bail!("the balancer is not ready after {READY_LIMIT:?}: {}", status.problems.join("; "));
        }
        interrupt::sleep(Duration::from_millis(100))?;
    };
    let interfaces =
        status.interfaces.iter().map(|interface| format!("{} ({} XDP)", interface.name, interface.mode));
    screen.say(&format!(
        "An XDP program on {} now sends each packet to a host: {} services, {} hosts. Flows count as ended after {} s \
         of silence, which is short so that you need not wait.",
        interfaces.collect::<Vec<_>>().join(", "),
        status.services.len(),
        status.hosts.len(),
        ESTABLISHED
    ));
    Ok((daemon, started))
}

fn send_traffic(
    screen: &mut Screen,
    topology: &Topology,
    daemon: &SluiceDaemon,
    started: Instant,
    pulse: &mut Pulse,
) -> Result<Load> {
    screen.stage("Send traffic");
    screen.say(&format!(
        "{CONNECTIONS} long TCP connections and {UDP_FLOWS} UDP flows, each with two messages a second that must all \
         come back; one that ends is replaced by a new one. Besides, {REQUESTS} HTTP requests a second, each over a \
         new connection. Half of all is IPv4, half IPv6."
    ));
    let vips: [IpAddr; 2] = [topology.vip4().into(), topology.vip6().into()];
    let load = Load::start(topology.client(), &vips)?;
    while started.elapsed() < WATCHED {
        let status = status(daemon)?;
        let live = status.hosts.iter().map(|host| format!("{} {}", host.name, host.live_flows.total));
        let live = live.collect::<Vec<_>>().join(", ");
        screen.live(&format!("{} | live flows: {live} | {}", seconds(started), pulse.text(&load)));
        interrupt::sleep(REFRESH)?;
    }
    screen.end_live();
    Ok(load)
}

/// When what was, for the sorting of new flows.
struct Times {
    /// The traffic began.
    begun: Instant,
    /// `sluice drain` was started.
    called: Instant,
    /// It said that the host gets no new flows.
    returned: Instant,
    /// Shortly before `sluice undrain` was started.
    end: Instant,
    /// It was done.
    undrained: Instant,
}

impl Times {
    fn now() -> Self {
        let now = Instant::now();
        Self { begun: now, called: now, returned: now, end: now, undrained: now }
    }
}

/// Returns the exit status of `sluice drain --wait`; none if it took too long.
fn drain(
    screen: &mut Screen,
    daemon: &SluiceDaemon,
    load: &Load,
    times: &mut Times,
    pulse: &mut Pulse,
) -> Result<Option<ExitStatus>> {
    screen.stage(&format!("Drain {HOST} under that load"));
    screen.say(&format!(
        "From the moment that the call returns no new flow may reach {HOST}. The flows that it has go on until they \
         end by themselves, which takes some 25 s."
    ));
    let args = ["drain", HOST, "--wait", "--reason", "demo"];
    screen.command(&command_line(daemon, &args));
    times.called = Instant::now();
    let mut child = Child::start(daemon, &args)?;
    times.returned = loop {
        interrupt::check()?;
        if let Some(returned) = child.first_line() {
            break returned;
        }
        if !child.is_running() || times.called.elapsed() > CALL_LIMIT {
            let words = child.end(Duration::ZERO)?.map_or_else(
                || format!("it has said nothing for {CALL_LIMIT:?}"),
                |(status, text)| format!("{status}: {}", text.trim()),
            );
            bail!("sluice drain failed: {words}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    while child.is_running() && times.called.elapsed() < DRAIN_LIMIT {
        child.take_lines().iter().for_each(|line| screen.line(line));
        let live = host(&status(daemon)?).map_or_else(String::new, |host| live_by_phase(host.live_flows));
        let new = on_host(&load.new_flows(times.returned, Instant::now())).total();
        let since = seconds(times.called);
        screen.live(&format!("{since} | {HOST}: {live}, {new} new | {}", pulse.text(load)));
        let pause = Instant::now() + REFRESH;
        while child.is_running() && Instant::now() < pause {
            interrupt::sleep(Duration::from_millis(20))?;
        }
    }
    screen.end_live();
    let end = child.end(Duration::ZERO)?;
    child.take_lines().iter().for_each(|line| screen.line(line));
    match end {
        Some((status, words)) => {
            if !status.success() {
                screen.line(words.trim_end());
            }
            Ok(Some(status))
        }
        None => {
            screen.line(&format!("The drain is not done after {} s.", DRAIN_LIMIT.as_secs()));
            Ok(None)
        }
    }
}

/// Returns what the balancer knew of the host before it was undrained.
fn undrain(
    screen: &mut Screen,
    daemon: &SluiceDaemon,
    load: &Load,
    times: &mut Times,
    pulse: &mut Pulse,
) -> Result<Option<HostStatus>> {
    screen.stage(&format!("Put {HOST} back into service"));
    screen.say("The host is empty: one could now reboot it. It rests for a moment, then it is undrained.");
    interrupt::sleep(REST)?;
    let before = host(&status(daemon)?);
    times.end = Instant::now();
    interrupt::sleep(MARGIN)?;
    let args = ["undrain", HOST, "--reason", "demo"];
    screen.command(&command_line(daemon, &args));
    let answer = daemon.cli_ok(&args)?;
    times.undrained = Instant::now();
    screen.line(answer.trim_end());
    while times.undrained.elapsed() < BACK {
        let flows = load.new_flows(times.undrained, Instant::now());
        let all = flows.values().map(|flows| flows.total()).sum();
        let (new, all) = (exact(on_host(&flows).total()), exact(all));
        let since = seconds(times.undrained);
        screen.live(&format!("{since} | {HOST} got {new} of {all} new flows | {}", pulse.text(load)));
        interrupt::sleep(REFRESH)?;
    }
    screen.end_live();
    Ok(before)
}

/// Ends the traffic, shows the table, and says whether all promises held.
fn count(
    screen: &mut Screen,
    daemon: &SluiceDaemon,
    load: Load,
    times: &Times,
    drain: Option<ExitStatus>,
    host: Option<HostStatus>,
) -> Result<bool> {
    screen.stage("Count");
    screen.say(
        "All connections end now. The clients checked every byte and noted which host answered; the receipt, the \
         violations and the reasons are the balancer's.",
    );
    let during = load.new_flows(times.returned, times.end);
    let outcome = Outcome {
        before: on_host(&load.new_flows(times.begun, times.called)),
        after: on_host(&load.new_flows(times.undrained, Instant::now())),
        elsewhere: during.iter().filter(|(host, _)| *host != HOST).map(|(_, flows)| *flows).sum(),
        during: on_host(&during),
        drain,
        host,
        totals: load.finish()?,
        status: status(daemon)?,
    };
    interrupt::check()?;
    let failures = outcome.show(screen, HOST);
    screen.line("");
    let verdict = if failures.is_empty() {
        screen.good(&format!("Every promise held: {HOST} was emptied, and no client noticed."))
    } else {
        screen.bad("Not every promise held:")
    };
    screen.line(&verdict);
    failures.iter().for_each(|failure| screen.line(&format!("  - {failure}")));
    Ok(failures.is_empty())
}

/// How to play with what is kept.
fn explain(screen: &mut Screen, topology: &Topology, daemon: &SluiceDaemon) {
    let (v4, v6) = (topology.vip4(), topology.vip6());
    let client = topology.client().ns.name();
    let lines = [
        format!("The network stays up, kept by process {}. To play with it:", std::process::id()),
        String::new(),
        format!("  alias lb='{} --instance {}'", daemon.binary().display(), daemon.instance()),
        format!("  alias client='nsenter --net=/run/netns/{client}'"),
        String::new(),
        format!("  client curl -s http://{v4}/ 'http://[{v6}]/'    # which host answers?"),
        format!("  for i in $(seq 12); do client curl -s http://{v4}/; done | sort | uniq -c"),
        format!("  client curl -s -o /dev/null http://{v4}/slow &    # a long download"),
        "  lb status --all".to_owned(),
        "  lb flows".to_owned(),
        "  lb drain web-1 --wait".to_owned(),
        "  lb undrain web-1".to_owned(),
        String::new(),
        format!("The daemon's log: {}", daemon.log_path().display()),
        "To remove it all: cargo xtask demo --down".to_owned(),
    ];
    screen.line("");
    lines.iter().for_each(|line| screen.line(line));
}

/// Requests a second over the last moments, and errors so far.
#[derive(Default)]
struct Pulse {
    seen: VecDeque<(Instant, u64)>,
}

impl Pulse {
    fn text(&mut self, load: &Load) -> String {
        let (totals, now) = (load.totals(), Instant::now());
        self.seen.push_back((now, totals.requests.ok));
        while self.seen.len() > 2 && now - self.seen[1].0 > Duration::from_secs(2) {
            self.seen.pop_front();
        }
        let (then, before) = self.seen[0];
        let time = (now - then).as_secs_f64();
        let rate = if time > 0.0 { (totals.requests.ok - before) as f64 / time } else { 0.0 };
        format!("{rate:.0} req/s, {} errors", exact(totals.errors()))
    }
}

fn seconds(since: Instant) -> String {
    format!("{:>2} s", since.elapsed().as_secs())
}

/// `265 live (190 estab, 11 closing, 64 udp)`
fn live_by_phase(live: LiveFlows) -> String {
    let phases = [
        (live.half_open, "half-open"),
        (live.established, "estab"),
        (live.closing, "closing"),
        (live.udp, "udp"),
    ];
    let phases = phases.iter().filter(|(count, _)| *count > 0);
    let phases = phases.map(|(count, phase)| format!("{count} {phase}")).collect::<Vec<_>>();
    let brackets = if phases.is_empty() { String::new() } else { format!(" ({})", phases.join(", ")) };
    format!("{} live{brackets}", live.total)
}

pub(super) fn command_line(daemon: &SluiceDaemon, args: &[&str]) -> String {
    format!("sluice {} --instance {}", args.join(" "), daemon.instance())
}

fn status(daemon: &SluiceDaemon) -> Result<Status> {
    let text = daemon.cli_ok(&["status", "--json"])?;
    serde_json::from_str(&text).context("sluice status --json printed something else")
}

fn host(status: &Status) -> Option<HostStatus> {
    status.hosts.iter().find(|host| host.name == HOST).cloned()
}

fn on_host(flows: &BTreeMap<String, NewFlows>) -> NewFlows {
    flows.get(HOST).copied().unwrap_or_default()
}
