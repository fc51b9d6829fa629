//! Checks of hosts and their addresses.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::limits::{MAX_HOSTS, MAX_NAME, SELF};
use super::raw::RawHost;
use super::reader::Read;
use super::report::Report;
use crate::model::Host;

/// The hosts that the file defines, and what other checks want to know of them.
pub(super) struct Hosts {
    pub by_name: BTreeMap<String, Host>,
    /// Hosts with an address that is wrong, whose families are therefore unknown.
    pub unclear: HashSet<String>,
    /// Hosts whose file names no zone.
    pub unzoned: HashSet<String>,
    /// The host that has an address.
    pub by_address: BTreeMap<IpAddr, String>,
}

pub(super) fn check(report: &mut Report, raw: Vec<RawHost>) -> Hosts {
    if let Some(first_over) = raw.get(MAX_HOSTS) {
        let message = format!("{} hosts are too many", raw.len());
        report.add(&first_over.path, message, format!("keep to {MAX_HOSTS} hosts"));
    }
    let mut hosts = Hosts {
        by_name: BTreeMap::new(),
        unclear: HashSet::new(),
        unzoned: HashSet::new(),
        by_address: BTreeMap::new(),
    };
    for raw in raw {
        check_name(report, &raw.path, "host", &raw.name);
        if raw.name == SELF {
            let message = format!("{SELF:?} is the balancer itself, as in `sluice drain {SELF}`");
            report.add(&raw.path, message, "give the host another name");
        }
        if raw.zone == Read::Absent {
            hosts.unzoned.insert(raw.name.clone());
        }
        let zone = raw.zone.value();
        if let Some(zone) = &zone {
            check_name(report, &format!("{}.zone", raw.path), "zone", zone);
        }
        let groups = check_groups(report, raw.groups);
        let mut host = Host {
            name: raw.name.clone(),
            weight: raw.weight,
            disabled: raw.disabled,
            zone,
            groups,
            ipv4: None,
            ipv6: None,
        };
        for (index, address) in raw.addresses.iter().enumerate() {
            let path = format!("{}.addresses[{index}]", raw.path);
            let fits = address.is_some_and(|address| {
                let fits = hosts.check_address(report, &path, &raw.name, address);
                set_address(report, &path, &mut host, address) && fits
            });
            if !fits {
                hosts.unclear.insert(raw.name.clone());
            }
        }
        hosts.by_name.insert(raw.name, host);
    }
    hosts
}

impl Hosts {
    /// The first host with an address in the prefix.
    pub fn within(&self, prefix: IpNet) -> Option<(IpAddr, &String)> {
        let mut found = self.by_address.range(prefix.network()..=prefix.broadcast());
        found.next().map(|(address, host)| (*address, host))
    }

    /// Whether the address can be a backend's and no other host has it.
    fn check_address(&mut self, report: &mut Report, path: &str, name: &str, address: IpAddr) -> bool {
        if let Some(reason) = unusable(address) {
            report.add(path, format!("{address} {reason}"), unusable_hint(address, "host"));
            return false;
        }
        if let Some(other) = self.by_address.get(&address) {
            if other == name {
                return true;
            }
            let first = report.path_of_address(address).unwrap_or_default().to_owned();
            let message = format!("{address} is also an address of host {}", report.mention(other, &first));
            report.add(path, message, "give each host an address of its own");
            return false;
        }
        self.by_address.insert(address, name.to_owned());
        report.place_address(address, path);
        true
    }
}

fn set_address(report: &mut Report, path: &str, host: &mut Host, address: IpAddr) -> bool {
    let (present, family) = match address {
        IpAddr::V4(address) => (host.ipv4.replace(address).is_some(), "IPv4"),
        IpAddr::V6(address) => (host.ipv6.replace(address).is_some(), "IPv6"),
    };
    if present {
        let message = format!("host {:?} has a second {family} address", host.name);
        report.add(path, message, "give a host at most one address of each family");
    }
    !present
}

fn check_groups(report: &mut Report, raw: Vec<(String, String)>) -> BTreeSet<String> {
    let mut groups = BTreeSet::new();
    for (path, group) in raw {
        check_name(report, &path, "group", &group);
        if groups.contains(&group) {
            report.add(&path, format!("group {group:?} is listed twice"), "list it once");
        }
        groups.insert(group);
    }
    groups
}

/// Names of hosts and services stand in metrics, URLs and shell commands.
pub(super) fn check_name(report: &mut Report, path: &str, kind: &str, name: &str) {
    let wrong = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    let message = match name.chars().find(|c| wrong(*c)) {
        Some(character) => format!("{kind} name {name:?} has the character {character:?}"),
        None if name.is_empty() => format!("the {kind} name is empty"),
        None if name.len() > MAX_NAME => format!("{kind} name {name:?} has {} characters", name.len()),
        None => return,
    };
    let hint = format!("use 1 to {MAX_NAME} letters, digits, dots, underscores and hyphens");
    report.add(path, message, hint);
}

/// Why an address can be neither a VIP nor a backend's: no router forwards packets to it.
pub(super) fn unusable(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("is the unspecified address");
    }
    if address.is_loopback() {
        return Some("is a loopback address");
    }
    if address.is_multicast() {
        return Some("is a multicast address");
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("is the broadcast address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("is a link-local address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("is a link-local address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("is an IPv4 address in an IPv6 mapping"),
        _ => None,
    }
}

pub(super) fn unusable_hint(address: IpAddr, kind: &str) -> String {
    match address {
        IpAddr::V6(v6) if let Some(v4) = v6.to_ipv4_mapped() => format!("write \"{v4}\""),
        _ => format!("a {kind}'s address is a global or private unicast address"),
    }
}
