//! From what is written to what should exist: defaults, cross-references and limits.

use std::collections::HashMap;

use ipnet::IpNet;

use super::announce;
use super::hosts::{self, Hosts};
use super::limits::{MAX_INTERFACE_NAME, RING_SIZE, SLOTS_PER_MEMBER, default, is_prime, next_ring_size};
use super::raw::RawConfig;
use super::reader::Read;
use super::report::Report;
use super::services::{self, Services};
use crate::model::{Interface, Model, OuterSource};

/// Checks everything; the result counts only when the report has stayed empty.
pub(super) fn resolve(report: &mut Report, raw: RawConfig) -> Model {
    check_interfaces(report, &raw.interfaces);
    let hosts = hosts::check(report, raw.hosts);
    let services = services::check(report, raw.services, &hosts, raw.timeouts, raw.vip_mode);
    let outer_source = check_outer_source(report, &raw.outer_source, &hosts, &services);
    check_ring_size(report, &raw.ring_size, &services);
    announce::check(report, raw.announce.as_deref(), raw.vip_mode, &services);
    Model {
        interfaces: raw.interfaces.into_iter().filter_map(|(_, interface)| interface).collect(),
        vip_mode: raw.vip_mode,
        ping: raw.ping,
        mss_clamp: raw.mss_clamp,
        outer_source,
        gue_port: raw.gue_port,
        ring_size: raw.ring_size.or(default::RING_SIZE),
        hash_key: raw.hash_key,
        flow_table: raw.flow_table,
        timeouts: raw.timeouts,
        rules: raw.rules,
        health: raw.health,
        hooks: raw.hooks,
        journal: raw.journal,
        api: raw.api,
        metrics: raw.metrics,
        ui: raw.ui,
        announce: raw.announce,
        hosts: hosts.by_name,
        services: services.list,
    }
}

fn check_interfaces(report: &mut Report, interfaces: &[(String, Option<Interface>)]) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (path, interface) in interfaces {
        let Some(Interface { name, .. }) = interface else { continue };
        if let Some(first) = seen.get(name.as_str()) {
            let message = format!("interface {} is named twice", report.mention(name, first));
            report.add(path, message, "name it once");
        } else if check_interface_name(report, path, name) {
            seen.insert(name, path);
        }
    }
}

/// Whether it can be one.
pub(super) fn check_interface_name(report: &mut Report, path: &str, name: &str) -> bool {
    let reason = wrong_interface_name(name);
    if let Some(reason) = &reason {
        let hint = format!("use a name that `ip link` shows: 1 to {MAX_INTERFACE_NAME} characters");
        report.add(path, format!("{name:?} cannot be an interface: {reason}"), hint);
    }
    reason.is_none()
}

/// One prefix of a family, of addresses that nobody here has.
fn check_outer_source(
    report: &mut Report,
    prefixes: &[(String, IpNet)],
    hosts: &Hosts,
    services: &Services,
) -> OuterSource {
    const HINT: &str = "name a prefix in which nobody has an address";
    let mut source = OuterSource::default();
    for (path, prefix) in prefixes {
        let (is_second, family) = match *prefix {
            IpNet::V4(prefix) => (source.ipv4.replace(prefix).is_some(), "IPv4"),
            IpNet::V6(prefix) => (source.ipv6.replace(prefix).is_some(), "IPv6"),
        };
        if is_second {
            report.add(path, format!("there is a second {family} prefix"), "keep one of each family");
        }
        if let Some((address, host)) = hosts.within(*prefix) {
            let first = report.path_of_address(address).unwrap_or_default().to_owned();
            let message =
                format!("{address} in {prefix} is an address of host {}", report.mention(host, &first));
            report.add(path, message, HINT);
        }
        let overlaps = |vip: IpNet| vip.contains(prefix) || prefix.contains(&vip);
        let mut listed = services.list.iter().zip(&services.paths);
        if let Some((service, first)) = listed.find(|(service, _)| overlaps(service.vip.prefix())) {
            let message = format!(
                "{prefix} overlaps {}, the VIP of service {}",
                service.vip,
                report.mention(&service.name, first)
            );
            report.add(path, message, HINT);
        }
    }
    source
}

/// The rule of `dev_valid_name` in the kernel's `net/core/dev.c`.
fn wrong_interface_name(name: &str) -> Option<String> {
    let forbidden = |c: &char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    match name {
        "" => Some("the name is empty".to_owned()),
        "." | ".." => Some("the kernel refuses this name".to_owned()),
        _ if name.len() > MAX_INTERFACE_NAME => Some(format!("the name has {} bytes", name.len())),
        _ => name.chars().find(forbidden).map(|c| format!("the name has the character {c:?}")),
    }
}

/// A prime, so that every host's walk over the slots visits all of them, and large enough for the shares to come
/// near the weights.
fn check_ring_size(report: &mut Report, size: &Read<u32>, services: &Services) {
    let largest = services.list.iter().zip(&services.paths).max_by_key(|(service, _)| service.hosts.len());
    let members = largest.map_or(1, |(service, _)| service.hosts.len().max(1)) as u32;
    let needed = SLOTS_PER_MEMBER.saturating_mul(members);
    let suggest = |size: u32| next_ring_size(size).unwrap_or(*RING_SIZE.end());
    match (size, largest) {
        (Read::Value(size), Some((service, _))) if *size < needed => {
            let message =
                format!("{size} slots are too few for the {members} hosts of service {:?}", service.name);
            let hint = format!(
                "write ring_size = {}, a prime with {SLOTS_PER_MEMBER} slots a host",
                suggest(needed)
            );
            report.add("ring_size", message, hint);
        }
        (Read::Value(size), _) if !is_prime(*size) => {
            let hint = format!("write ring_size = {}, the next prime", suggest(*size));
            report.add("ring_size", format!("{size} is not a prime"), hint);
        }
        (Read::Absent, Some((_, path))) if default::RING_SIZE < needed => {
            let message = format!(
                "the {members} hosts are too many for a ring of {} slots, the default",
                default::RING_SIZE
            );
            let hint = format!("write ring_size = {} at the top of the file", suggest(needed));
            report.add(&format!("{path}.hosts"), message, hint);
        }
        _ => {}
    }
}
