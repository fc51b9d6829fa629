//! What the machine itself has dropped: rings of veth pairs and backlogs of processors that ran over, and receive buffers. On a busy machine that
//! may be some, whatever the balancer does, so who counts messages to the last one holds his losses against these.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Namespace, Topology};

/// Counters by namespace, interface and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses(BTreeMap<String, u64>);

impl Losses {
    /// What was dropped since an earlier look.
    pub fn since(&self, before: &Losses) -> Losses {
        let more = self.0.iter().map(|(name, count)| (name, count - before.0.get(name).unwrap_or(&0)));
        Losses(more.filter(|(_, count)| *count != 0).map(|(name, count)| (name.clone(), count)).collect())
    }

    /// Packets that were dropped in all. One that two counters have counts twice, so there are not more of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl Topology {
    /// What was dropped up to now in all its namespaces.
    pub fn losses(&self) -> Result<Losses> {
        let mut losses = Losses::default();
        for ns in self.namespaces() {
            let sums = of_interfaces(ns)?.into_iter().chain(of_datagrams(ns)?).chain(of_rings(ns)?);
            losses.0.extend(sums.map(|(name, count)| (format!("{} {name}", ns.name()), count)));
        }
        Ok(losses)
    }
}

/// Full rings on the way out, and full backlogs on the way in.
fn of_interfaces(ns: &Namespace) -> Result<Vec<(String, u64)>> {
    // Not by a shell, as busybox has an `ip` of its own.
    let mut command = Command::new("ip");
    command.args(["-s", "-j", "link", "show"]);
    let links = ns.run(command)?;
    let links: Vec<serde_json::Value> = serde_json::from_str(&links)?;
    let mut found = Vec::new();
    for link in &links {
        let name = link["ifname"].as_str().context("a link has a name")?;
        for side in ["rx", "tx"] {
            let count = link["stats64"][side]["dropped"].as_u64().context("a link has counters")?;
            found.push((format!("{name} {side}_dropped"), count));
        }
    }
    Ok(found)
}

/// Of a veth pair with XDP: what did not fit into the other end's ring when the program sent it. What the program drops is its own affair.
fn of_rings(ns: &Namespace) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for name in ns.shell("ls /sys/class/net")?.split_whitespace().filter(|name| *name != "lo") {
        let mut command = Command::new("ethtool");
        command.args(["-S", name]);
        // A bridge has none.
        let Ok(text) = ns.run(command) else { continue };
        let counters = text.lines().filter_map(|line| line.trim().split_once(": "));
        let of_rings = counters.filter(|(counter, _)| {
            counter.ends_with("_drops") && !counter.ends_with("xdp_drops") || counter.ends_with("_errors")
        });
        for (counter, count) in of_rings {
            found.push((format!("{name} {counter}"), count.trim().parse()?));
        }
    }
    Ok(found)
}

/// Of sockets whose buffers were full, and of datagrams that were given up elsewhere.
fn of_datagrams(ns: &Namespace) -> Result<Vec<(String, u64)>> {
    let text = ns.shell("cat /proc/net/snmp; cat /proc/net/snmp6 2>/dev/null")?;
    const LOST: [&str; 5] = ["RcvbufErrors", "SndbufErrors", "MemErrors", "InDiscards", "OutDiscards"];
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    // Of IPv4 a line of names and one of numbers, of IPv6 a line each.
    for pair in lines.windows(2) {
        let (Some((kind, names)), Some((same, counts))) = (pair[0].split_once(':'), pair[1].split_once(':'))
        else {
            continue;
        };
        let is_of = |name: &str| LOST.contains(&name) && (kind == "Ip" || kind == "Udp");
        let named = names.split_whitespace().zip(counts.split_whitespace()).filter(|(name, _)| is_of(name));
        for (name, count) in named.filter(|_| kind == same) {
            if let Ok(count) = count.parse() {
                found.push((format!("{kind}{name}"), count));
            }
        }
    }
    for line in lines {
        let mut words = line.split_whitespace();
        let (Some(name), Some(count)) = (words.next(), words.next()) else { continue };
        let short = ["Ip6", "Udp6"].iter().find_map(|kind| name.strip_prefix(kind));
        if let (true, Ok(count)) = (short.is_some_and(|short| LOST.contains(&short)), count.parse()) {
            found.push((name.to_owned(), count));
        }
    }
    Ok(found)
}
