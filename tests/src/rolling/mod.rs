//! A fleet that is upgraded host by host under load: with drains by a maintenance run, and, to compare, without.

mod agent;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

pub use agent::{Agent, BROKEN};

use crate::servers::SluiceDaemon;
use crate::site::{self, ECHO, Plan, WEB};
use crate::topology::{Builder, Topology};
use crate::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

pub const HOSTS: usize = 8;

/// Requests a second on each VIP, each over a connection of its own.
const RATE: u32 = 60;
/// Connections on each VIP, how many and how long they last; each is replaced when it has ended. A host's drain has to wait for those of the second
/// kind: they outlast what is done to another host.
const CONNECTIONS: [(usize, std::ops::Range<Duration>); 2] = [
    (100, Duration::from_secs(1)..Duration::from_secs(3)),
    (12, Duration::from_secs(8)..Duration::from_secs(12)),
];
const INTERVAL: Duration = Duration::from_millis(200);
/// Of the web services: the balancer's own, beside that of a plan.
const CHECKS: &str = "[services.health]\ninterval = \"500ms\"\ntimeout = \"500ms\"\nfall = 2\nrise = 2\n[[services.checks]]\ntype = \"tcp\"\n";
/// After it something counts as broken.
const PATIENCE: Duration = Duration::from_secs(8);

/// Eight hosts with agents, and the balancer before them; dropped in the order of the fields.
pub struct Fleet {
    pub daemon: SluiceDaemon,
    pub agents: Vec<Agent>,
    folder: TempDir,
    pub topology: Topology,
}

impl Fleet {
    pub fn start(builder: Builder) -> Result<Self> {
        let topology = builder.hosts(HOSTS).build()?;
        let folder = tempfile::Builder::new().prefix(&format!("{}-agents.", topology.prefix())).tempdir();
        let folder = folder.context("cannot make a folder for the agents")?;
        let start = |host: &crate::topology::Node| {
            Agent::start(&folder.path().join(&host.name), host, topology.vips())
        };
        let agents = topology.hosts().iter().map(start).collect::<Result<Vec<_>>>()?;
        let daemon = SluiceDaemon::start(&topology, &config(&topology))?;
        Ok(Fleet { daemon, agents, folder, topology })
    }

    /// Applies what becomes of the config.
    pub fn apply(&self, change: impl FnOnce(&str) -> String) -> Result<()> {
        let path = self.folder().join("other.toml");
        std::fs::write(&path, change(&config(&self.topology))).context("cannot write the config")?;
        self.daemon.cli_ok(&["apply", &path.to_string_lossy()])?;
        Ok(())
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A plan that upgrades all hosts, three at once; `choice` is a line of shell that sets `version`.
    pub fn plan(&self, name: &str, choice: &str, check: &str, more: &str) -> Result<PathBuf> {
        let command = agent::command(self.folder());
        let text = format!(
            "name = {name:?}
hosts = [{}]
at_once = 3
min_healthy = \"60%\"
on_failure = \"rollback\"
{more}
[drain]
deadline = \"60s\"

[run]
command = '''
{choice}
{command}
'''
timeout = \"30s\"

[healthy]
for = \"1s\"
within = \"30s\"
command = '''
{check}
'''

[undrain]
ramp = \"2s\"
watch = \"1s\"

[rollback]
command = '''
version=1
{command}
'''
",
            self.topology
                .hosts()
                .iter()
                .map(|host| format!("{:?}", host.name))
                .collect::<Vec<_>>()
                .join(", ")
        );
        let path = self.folder().join(format!("{}.toml", name.replace(' ', "-")));
        std::fs::write(&path, text).context("cannot write the plan")?;
        Ok(path)
    }

    /// The version that each host says it has.
    pub fn versions(&self) -> Result<Vec<String>> {
        let ask = |host: &crate::topology::Node| {
            host.ns.shell(&format!("curl -s --max-time 5 http://{}/version", host.ipv4[0]))
        };
        Ok(self
            .topology
            .hosts()
            .iter()
            .map(ask)
            .collect::<Result<Vec<_>>>()?
            .iter()
            .map(|v| v.trim().to_owned())
            .collect())
    }

    /// Restarts all servers host by host, without a word to the balancer.
    pub fn restart_plainly(&self, version: &str, pause: Duration) -> Result<()> {
        for agent in &self.agents {
            agent.upgrade(version, &format!("plain-{version}"))?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// The run of this number, or the last.
    pub fn run(&self, number: u64) -> Result<Value> {
        self.daemon.cli_json(&["maintain", "report", &number.to_string(), "--json"])
    }

    /// Waits until `done` says so of the run.
    pub fn wait_for(
        &self,
        number: u64,
        limit: Duration,
        mut done: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let end = Instant::now() + limit;
        loop {
            let run = self.run(number)?;
            if done(&run) {
                return Ok(run);
            }
            if Instant::now() > end {
                bail!("it has not come true of the run within {limit:?}: {run:#}\n{}", self.daemon.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn config(topology: &Topology) -> String {
    // What names a host's flows is short, so that a drain ends soon after its last connection.
    let plan = Plan { timeouts: [3, 4, 1, 3], sections: vec![("web", CHECKS)], ..Plan::new("l2", HOSTS) };
    site::config(topology, &plan)
}

/// What clients notice.
pub struct Load {
    long: Vec<Connections>,
    short: Vec<Requests>,
}

/// Since the start of the load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    pub connections: u64,
    pub broken: u64,
    pub requests: u64,
    pub failed: u64,
}

impl Noticed {
    /// What came since then.
    pub fn since(self, before: Noticed) -> Noticed {
        Noticed {
            connections: self.connections - before.connections,
            broken: self.broken - before.broken,
            requests: self.requests - before.requests,
            failed: self.failed - before.failed,
        }
    }
}

impl Load {
    pub fn start(topology: &Topology) -> Result<Self> {
        let mut load = Load { long: Vec::new(), short: Vec::new() };
        let vips: [IpAddr; 2] = [topology.vip4().into(), topology.vip6().into()];
        for vip in vips {
            let client = &topology.client().ns;
            for (connections, life) in CONNECTIONS {
                let long = ConnectionsOptions {
                    connections,
                    open_rate: 100,
                    interval: INTERVAL,
                    patience: PATIENCE,
                    lifetime: Some(life),
                    replace: true,
                    ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
                };
                load.long.push(Connections::start(client, &long)?);
            }
            let short = RequestsOptions {
                rate: RATE,
                concurrency: 16,
                patience: PATIENCE,
                ..RequestsOptions::new(SocketAddr::new(vip, WEB))
            };
            load.short.push(Requests::start(client, &short)?);
        }
        Ok(load)
    }

    pub fn noticed(&self) -> Noticed {
        let mut noticed = Noticed::default();
        for counts in self.long.iter().map(Connections::counts) {
            noticed.connections += counts.opened;
            noticed.broken += counts.broken + counts.missing + counts.missequenced;
        }
        for counts in self.short.iter().map(Requests::counts) {
            noticed.requests += counts.ok + counts.failed;
            noticed.failed += counts.failed;
        }
        noticed
    }

    /// What broke or failed, in words with how often.
    pub fn reasons(&self) -> Vec<String> {
        let long = self.long.iter().flat_map(|run| run.counts().reasons);
        let short = self.short.iter().flat_map(|run| run.counts().reasons);
        let mut sums = std::collections::BTreeMap::<String, u64>::new();
        long.chain(short).for_each(|(reason, count)| *sums.entry(reason).or_default() += count);
        sums.into_iter().map(|(reason, count)| format!("{count} x {reason}")).collect()
    }

    /// Lets all of it come to its end; what was noticed in all.
    pub fn finish(self) -> Result<Noticed> {
        let mut noticed = Noticed::default();
        for run in self.short {
            let counts = run.finish()?;
            noticed.requests += counts.ok + counts.failed;
            noticed.failed += counts.failed;
        }
        for run in self.long {
            let counts = run.finish()?;
            noticed.connections += counts.opened;
            noticed.broken += counts.broken + counts.missing + counts.missequenced;
        }
        Ok(noticed)
    }
}
