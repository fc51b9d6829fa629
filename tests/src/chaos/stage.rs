//! The site of a run, and hands that do what the plan says.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_userspace::api::types::Status;
use serde::de::DeserializeOwned;

use super::action::{self, Action, HOSTS, Link, Order, Settings, Way, name_of};
use super::backend::Backend;
use super::flood::{Flood, Kind, Path};
use super::load::Load;
use super::model::Outcome;
use super::plan::Plan;
use crate::servers::{FakeClock, SluiceDaemon};
use crate::site::{self, Decap, ECHO, WEB, served};
use crate::topology::{Layout, Namespace, Replies, Topology};

/// Half-open, established, closing, UDP: short, as handovers last as long as the longest.
pub const TIMEOUTS: [u32; 4] = [4, 10, 3, 8];
/// What `sluice` ends with when a rule would be broken.
const REFUSED: i32 = 10;
/// How long a command may take beside a daemon that is killed.
const COMMAND: Duration = Duration::from_secs(10);

/// Everything that a run acts on; dropped in the order of the fields.
pub struct Stage {
    flood: Option<Flood>,
    pub load: Load,
    pub daemon: SluiceDaemon,
    backends: Vec<Backend>,
    _decap: Vec<Decap>,
    path: Path,
    wish: site::Plan,
    seed: u64,
    /// Seconds by which the daemon's wall clock is ahead by now.
    clock: i64,
    pub topology: Topology,
}

impl Stage {
    /// Builds the site, starts everything, and begins to send. `guard` gets the topology's prefix as soon as there is one.
    pub fn set(plan: &Plan, guard: impl FnOnce(&str)) -> Result<Self> {
        let is_tunnelled = matches!(plan.forward, "ipip" | "gue");
        let mut builder = Topology::builder().hosts(HOSTS).xdp_on_hosts(is_tunnelled);
        if plan.forward == "nat" {
            builder = builder.layout(Layout::Routed).replies(Replies::ThroughBalancer).vips_on_hosts(false);
        }
        let topology = builder.build()?;
        guard(topology.prefix());
        let wish = site::Plan {
            timeouts: TIMEOUTS,
            pins: plan.pins,
            top: "ring_size = 4093",
            ..site::Plan::new(plan.forward, HOSTS)
        };
        let (mut backends, mut decap) = (Vec::new(), Vec::new());
        for host in topology.hosts() {
            let at = served(&topology, host, &wish).map(|address| SocketAddr::new(address, ECHO));
            backends.push(Backend::start(host, at)?);
            if is_tunnelled {
                decap.push(Decap::start(&topology, host, &[])?);
            }
        }
        let daemon = SluiceDaemon::start_by(
            FakeClock::new(topology.prefix())?,
            &topology,
            &site::config(&topology, &wish),
        )?;
        let vips = [IpAddr::from(topology.vip4()), IpAddr::from(topology.vip6())];
        let client = topology.client();
        let targets = vips.into_iter().flat_map(|vip| [ECHO, WEB].map(|port| SocketAddr::new(vip, port)));
        let macs =
            (mac(&client.ns, "eth0")?, mac(&topology.balancer().ns, &topology.balancer().interfaces[0])?);
        let (ns, targets) = (client.ns.clone(), targets.collect());
        let path = Path { ns, interface: "eth0".to_owned(), macs, targets };
        wait_until_ready(&daemon)?;
        let load = Load::start(client, vips)?;
        Ok(Stage {
            flood: None,
            load,
            daemon,
            backends,
            _decap: decap,
            path,
            wish,
            seed: plan.seed,
            clock: 0,
            topology,
        })
    }

    /// Does it. What may fail and yet be right is in the outcome; an error is something wrong.
    pub fn act(&mut self, action: &Action) -> Result<Outcome> {
        match *action {
            Action::KillDaemon => self.daemon.sigkill(),
            Action::EndDaemon => {
                let status = self.daemon.terminate()?;
                ensure!(status.success(), "the daemon ended with {status}:\n{}", self.daemon.log());
            }
            Action::StartDaemon => self.daemon.start_again()?,
            Action::Drain { host, order } => return self.drain(host, &order),
            Action::DrainAndKill { host, after } => return self.drain_and_kill(host, after),
            Action::Undrain { host, ramp } => {
                return self.command(&action::undrain_arguments(host, ramp), |_| None);
            }
            Action::Kick { host, rate } => {
                return self.command(&action::kick_arguments(host, rate), |answer| answer["chosen"].as_u64());
            }
            Action::Config { settings, way } => self.configure(settings, way)?,
            Action::Crash(host) => self.backends[host].crash(),
            Action::Revive(host) => self.backends[host].revive()?,
            Action::Freeze(host) => self.backends[host].freeze()?,
            Action::Thaw(host) => self.backends[host].thaw()?,
            Action::Cut(link) => self.set_link(link, "down")?,
            Action::Mend(link) => self.set_link(link, "up")?,
            Action::FloodSyns => self.flood = Some(Flood::start(&self.path, Kind::Syns, self.seed)?),
            Action::FloodGarbage => self.flood = Some(Flood::start(&self.path, Kind::Garbage, self.seed)?),
            Action::EndFlood => self.flood.take().map_or(Ok(()), Flood::end)?,
            Action::Press => self.load.press()?,
            Action::MoveClock(seconds) => self.move_clock(seconds)?,
        }
        Ok(Outcome::Done)
    }

    /// Puts a config in force.
    fn configure(&self, settings: Settings, way: Way) -> Result<()> {
        let text = self.config(settings);
        if way == Way::Signal {
            return self.reload(&text, settings);
        }
        let path = self.daemon.config_path().with_file_name("other.toml");
        std::fs::write(&path, text)?;
        let path = path.to_string_lossy();
        match way {
            Way::Confirmed(seconds) | Way::Unconfirmed(seconds) => {
                self.daemon.cli_ok(&["apply", &path, &format!("--confirm={seconds}s")])?;
            }
            Way::Apply | Way::Signal => {
                self.daemon.cli_ok(&["apply", &path])?;
            }
        }
        // One that is in force already does not wait.
        if matches!(way, Way::Confirmed(_)) && self.settings()?.1 {
            self.daemon.cli_ok(&["confirm"])?;
        }
        Ok(())
    }

    fn reload(&self, text: &str, settings: Settings) -> Result<()> {
        self.daemon.write_config(text)?;
        let process = self.daemon.process().context("the daemon does not run")?;
        process.signal(nix::sys::signal::Signal::SIGHUP)?;
        let begun = std::time::Instant::now();
        while self.settings()?.0 != settings.as_shown() {
            ensure!(begun.elapsed() < COMMAND, "the file is not in force after {COMMAND:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn config(&self, settings: Settings) -> String {
        let wish = site::Plan { weights: settings.weights.to_vec(), ..self.wish.clone() };
        let text = site::config(&self.topology, &wish);
        settings.without.map_or(text.clone(), |host| site::without(&text, &name_of(host)))
    }

    /// What the daemon says is in force, and whether it waits to be confirmed.
    pub fn settings(&self) -> Result<(Settings, bool)> {
        let status: Status = self.ask(&["status", "--json"])?;
        let weight = |host: usize| status.hosts.iter().find(|seen| seen.name == name_of(host));
        let without = (0..HOSTS).find(|&host| weight(host).is_none());
        let weights = std::array::from_fn(|host| weight(host).map_or(0, |seen| seen.weight));
        Ok((Settings { weights, without }, status.config_in_force.confirm_by.is_some()))
    }

    fn drain(&self, host: usize, order: &Order) -> Result<Outcome> {
        self.command(&action::drain_arguments(host, order), |answer| answer["drains"][0]["id"].as_u64())
    }

    /// Runs a command to its end; `number` is what is to be kept of its answer.
    fn command(
        &self,
        words: &[String],
        number: impl Fn(&serde_json::Value) -> Option<u64>,
    ) -> Result<Outcome> {
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--json"]).collect();
        let output = self.daemon.cli(&words)?;
        match output.status.code() {
            Some(0) => {
                let answer = serde_json::from_slice(&output.stdout).context("an answer that is no JSON")?;
                Ok(number(&answer).map_or(Outcome::Done, Outcome::Number))
            }
            Some(REFUSED) => Ok(Outcome::Refused),
            _ => bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
        }
    }

    fn drain_and_kill(&mut self, host: usize, after: u64) -> Result<Outcome> {
        let words = action::drain_arguments(host, &Order::default());
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--json"]).collect();
        let command = self.daemon.cli_start(&words)?;
        let (out, _) = command.take_output();
        std::thread::sleep(Duration::from_millis(after));
        self.daemon.sigkill();
        let status = command.wait(COMMAND)?.context("the command waits for a daemon that is dead")?;
        if !status.success() {
            return Ok(Outcome::Unknown);
        }
        let answer: serde_json::Value = serde_json::from_reader(out.context("the command has no output")?)?;
        Ok(answer["drains"][0]["id"].as_u64().map_or(Outcome::Unknown, Outcome::Number))
    }

    fn set_link(&self, link: Link, state: &str) -> Result<()> {
        let node = match link {
            Link::Host(host) => name_of(host),
            Link::Balancer => "lb".to_owned(),
        };
        self.topology.switch().shell(&format!("ip link set p-{node} {state}")).map(drop)
    }

    fn move_clock(&mut self, seconds: i64) -> Result<()> {
        self.clock += seconds;
        self.daemon.clock().context("the daemon has no clock of its own")?.set(self.clock)
    }

    /// The answer to a command of the CLI.
    pub fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        let answer = self.daemon.cli_ok(words)?;
        serde_json::from_str(&answer).with_context(|| format!("sluice {} answered {answer}", words.join(" ")))
    }
}

/// Waits until the balancer knows the way to all hosts.
fn wait_until_ready(daemon: &SluiceDaemon) -> Result<()> {
    const LIMIT: u32 = 100;
    for _ in 0..LIMIT {
        let status = daemon.cli_json(&["status", "--json"])?;
        if status["problems"].as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the balancer is not ready: {}", daemon.cli_ok(&["status"])?)
}

/// MAC address of an interface.
fn mac(ns: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let text = ns.shell(&format!("ip -json link show dev {interface}"))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let address = links[0]["address"].as_str().with_context(|| format!("{interface} has no address"))?;
    let bytes: Vec<u8> =
        address.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{address} is no MAC address"))
}
