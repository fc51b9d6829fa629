//! Looks at this machine: files under /proc and /sys, netlink, ethtool. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use aya::maps::MapInfo;
use caps::{CapSet, Capability};
use tokio::time::Instant;

use super::ethtool::Ethtool;
use super::facts::{Backend, Bpffs, Daemon, Facts, Grown, Interface, Machine, Peer, Site, XdpFeatures};
use crate::bpffs;
use crate::config::{self, ConfigErrors, Loaded};
use crate::daemon::{machine, privileges};
use crate::dataplane::{Paths, Sizes};
use crate::decap::sys as links;
use crate::decap::{interface, interface::Mode};
use crate::model::Model;
use crate::netlink::{self, Resolver, WayOut};
use crate::plan::sizes;

/// How long neighbours may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// At least so long counters are watched.
const WATCHED: Duration = Duration::from_secs(1);

/// What there is to know of this machine and, if there is one, of its config.
pub async fn gather(instance: &str, config: Option<&Path>, daemon: Daemon) -> Facts {
    let attached = attached(&Paths::of(instance));
    let forwards = !attached.is_empty();
    let mut facts = Facts { machine: look_at_machine(), daemon, forwards, ..Facts::default() };
    let Some(file) = config else { return facts };
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(errors) => {
            facts.config_problems = told(&errors);
            return facts;
        }
    };
    match machine::look(&loaded.model) {
        Ok(machine) => {
            if let Err(errors) = config::check_against_machine(&loaded, &machine) {
                facts.config_problems = told(&errors);
            }
        }
        Err(error) => {
            let hint = "run the doctor as root".to_owned();
            facts.config_problems.push((String::new(), format!("{error:#}"), hint));
        }
    }
    let Loaded { model, .. } = loaded;
    let sizes = sizes(&model);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let needed = memory_needed(&sizes, cpus, |map| pinned_entries(&Paths::of(instance).map(map)));
    facts.site = Some(Site::of(&model, needed));
    let before: BTreeMap<String, BTreeMap<String, u64>> = model
        .interfaces
        .iter()
        .map(|interface| (interface.name.clone(), xdp_errors(&interface.name)))
        .collect();
    let watched = Instant::now() + WATCHED;
    facts.backends = look_at_backends(&model).await;
    tokio::time::sleep_until(watched).await;
    let hops = facts.backends.iter().filter_map(|backend| backend.state.as_ref()?.next_hop());
    let egresses: BTreeSet<u32> = hops.map(|hop| hop.ifindex).collect();
    let native = attached.iter().filter(|(_, (mode, _))| *mode == Mode::Native.name());
    facts.ways_out = WayOut::look(&egresses, &native.map(|(index, _)| *index).collect());
    facts.interfaces = look_at_interfaces(&attached, &model, &egresses, &before);
    facts
}

/// Bytes that are still to be had. Of a data path that is there they have been taken, as far as it has the sizes that are wanted.
///
/// `pinned` gives the entries of a map that is there.
fn memory_needed(sizes: &Sizes, cpus: u64, pinned: impl Fn(&str) -> Option<u32>) -> u64 {
    const FLOW_TABLE: [&str; 4] = ["HOT", "COLD", "MARKS", "OVERFLOW"];
    let (table, others): (Vec<_>, Vec<_>) =
        sizes.entries().into_iter().partition(|(name, _)| FLOW_TABLE.contains(name));
    let are_there =
        |maps: Vec<(&str, u32)>| maps.into_iter().all(|(name, entries)| pinned(name) == Some(entries));
    let table = if are_there(table) { 0 } else { sizes.flow_table_bytes() };
    table + if are_there(others) { 0 } else { sizes.other_bytes(cpus) }
}

fn pinned_entries(map: &Path) -> Option<u32> {
    Some(MapInfo::from_pin(map).ok()?.max_entries())
}

fn told(errors: &ConfigErrors) -> Vec<(String, String, String)> {
    let problem = |problem: &config::Problem| {
        let place = match problem.line {
            0 => errors.file.clone(),
            line => format!("{}:{line} {}", errors.file, problem.path),
        };
        let hint = problem.hint.clone().unwrap_or_else(|| format!("sluice check {}", errors.file));
        (place, problem.message.clone(), hint)
    };
    errors.problems.iter().map(problem).collect()
}

/// A number of /proc/sys; `None`: it is not there.
fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok()
}

fn look_at_machine() -> Machine {
    let bpffs = match bpffs::is_bpffs(Path::new(Paths::BPFFS)) {
        Ok(true) => Bpffs::Mounted,
        Ok(false) => Bpffs::NotMounted,
        Err(_) => Bpffs::NoFolder,
    };
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    Machine {
        kernel: machine::kernel().ok(),
        is_big_endian: cfg!(target_endian = "big"),
        has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: setting("net/core/bpf_jit_enable"),
        bpf_stats: setting::<u8>("kernel/bpf_stats_enabled") == Some(1),
        missing_capabilities: privileges::missing(),
        has_net_raw: held.contains(&Capability::CAP_NET_RAW),
        bpffs,
        memory_available: memory_available(),
        neighbours_v4: setting("net/ipv4/neigh/default/gc_thresh3"),
        neighbours_v6: setting("net/ipv6/neigh/default/gc_thresh3"),
    }
}

/// `MemAvailable` of proc_meminfo(5).
fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

async fn look_at_backends(model: &Model) -> Vec<Backend> {
    let mut backends: BTreeMap<(String, std::net::IpAddr), Backend> = BTreeMap::new();
    for service in &model.services {
        for host in &service.hosts {
            let Some(address) = model.address(service, host) else { continue };
            let backend = backends.entry((host.clone(), address)).or_insert_with(|| Backend {
                host: host.clone(),
                address,
                services: Default::default(),
                forwards: Vec::new(),
                state: None,
            });
            backend.services.insert(service.name.clone());
            if !backend.forwards.contains(&service.forward) {
                backend.forwards.push(service.forward);
            }
        }
    }
    let states = match Resolver::spawn(backends.values().map(|backend| backend.address)) {
        Ok(resolver) => resolver.settled(PATIENCE).await,
        Err(_) => BTreeMap::new(),
    };
    let mut backends: Vec<Backend> = backends.into_values().collect();
    for backend in &mut backends {
        backend.state = states.get(&backend.address).cloned();
    }
    backends
}

fn look_at_interfaces(
    attached: &Attached,
    model: &Model,
    egresses: &BTreeSet<u32>,
    before: &BTreeMap<String, BTreeMap<String, u64>>,
) -> Vec<Interface> {
    let all = netlink::interfaces().unwrap_or_default();
    let look = |wanted: &crate::model::Interface| {
        // One that is missing is among the config's problems.
        let found = all.iter().find(|interface| interface.name == wanted.name)?;
        let now = interface::Interface::by_index(found.index).ok();
        let own = attached.get(&found.index);
        let programs = now.iter().flat_map(|now| &now.programs);
        let others = programs.filter(|(_, number)| own.is_none_or(|(_, own)| own != number));
        let ethtool = Ethtool::of(&found.name).ok();
        let features = netlink::xdp_features(found.index);
        let (own_name, all_name) = (format!("net/ipv4/conf/{}", found.name), "net/ipv4/conf/all");
        let greater = |name: &str| -> Option<u8> {
            setting(&format!("{own_name}/{name}")).max(setting(&format!("{all_name}/{name}")))
        };
        Some(Interface {
            name: found.name.clone(),
            index: found.index,
            kind: found.kind.clone(),
            driver: ethtool.as_ref().and_then(|tool| tool.driver().ok()).map(|(driver, _)| driver),
            mtu: found.mtu,
            up: found.up,
            carrier: now.as_ref().map(|now| now.has_carrier),
            wanted: wanted.xdp_mode,
            xdp: XdpFeatures {
                native: features.map(|features| features & netlink::BASIC != 0),
                takes_redirects: netlink::takes_redirects(found.index),
            },
            other_programs: others.map(|(mode, number)| (mode.name().to_owned(), *number)).collect(),
            attached: own.map(|(mode, _)| (*mode).to_owned()),
            lro: ethtool.as_ref().and_then(|tool| tool.lro().ok()),
            rxvlan: ethtool.as_ref().and_then(|tool| tool.rxvlan().ok()),
            vlans: all
                .iter()
                .filter(|other| other.beneath == Some(found.index))
                .map(|other| other.name.clone())
                .collect(),
            xdp_errors: since(before.get(&found.name), xdp_errors(&found.name)),
            peer: (found.kind == "veth").then(|| peer(now.as_ref().and_then(|now| now.peer))),
            rp_filter: greater("rp_filter"),
            accept_local: greater("accept_local").map(|on| on != 0),
            carries_backends: egresses.contains(&found.index),
        })
    };
    model.interfaces.iter().filter_map(look).collect()
}

/// Where an instance's program is attached, by the number of the interface: mode and number of the program.
type Attached = BTreeMap<u32, (&'static str, u32)>;

fn attached(paths: &Paths) -> Attached {
    let found = |link: fs::DirEntry| {
        let info = links::open_pinned(&link.path()).and_then(links::link_info).ok()?;
        let mode = [Mode::Native.name(), Mode::Generic.name()]
            .into_iter()
            .find(|mode| link.path() == paths.link(info.ifindex, mode))?;
        Some((info.ifindex, (mode, info.program)))
    };
    fs::read_dir(paths.links()).into_iter().flatten().flatten().filter_map(found).collect()
}

fn peer(index: Option<u32>) -> Peer {
    let Some(found) = index.and_then(|index| interface::Interface::by_index(index).ok()) else {
        return Peer::Elsewhere;
    };
    let tool = Ethtool::of(&found.name).ok();
    Peer::Here {
        has_native_program: found.programs.iter().any(|(mode, _)| *mode == Mode::Native),
        tx_checksums: tool.and_then(|tool| tool.tx_checksums().ok()),
        name: found.name,
    }
}

/// Names as drivers have them: `rx_queue_0_xdp_tx_errors` of veth, `tx_xdp_err` of mlx5, `rx_xdp_tx_err` of virtio …
fn xdp_errors(interface: &str) -> BTreeMap<String, u64> {
    let is_error = |name: &str| {
        name.contains("xdp") && (name.contains("err") || name.contains("full"))
            || name.contains("xmit_xdp_drop")
    };
    let all = Ethtool::of(interface).and_then(|tool| tool.statistics()).unwrap_or_default();
    all.into_iter().filter(|(name, count)| *count != 0 && is_error(name)).collect()
}

/// Counts, and by how much they are more than they were.
fn since(before: Option<&BTreeMap<String, u64>>, now: BTreeMap<String, u64>) -> BTreeMap<String, Grown> {
    let was = |name: &String| before.and_then(|before| before.get(name)).copied().unwrap_or(0);
    now.into_iter()
        .map(|(name, all)| (name.clone(), Grown { all, new: all.saturating_sub(was(&name)) }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_in_another_size_is_made_anew() {
        let sizes = Sizes::new(1009, 1 << 20);
        let there = |sizes: &Sizes| -> BTreeMap<&str, u32> { sizes.entries().into_iter().collect() };
        let needed = |there: &BTreeMap<&str, u32>| memory_needed(&sizes, 2, |map| there.get(map).copied());
        assert_eq!(needed(&there(&sizes)), 0);
        assert_eq!(needed(&BTreeMap::new()), sizes.flow_table_bytes() + sizes.other_bytes(2));
        assert_eq!(needed(&there(&Sizes::new(1009, 4096))), sizes.flow_table_bytes());
        assert_eq!(needed(&there(&Sizes::new(65_537, 1 << 20))), sizes.other_bytes(2));
    }
}
