//! Checks of services and their members.

use std::collections::{BTreeSet, HashSet};

use super::endpoints::Endpoints;
use super::health;
use super::hosts::{Hosts, check_name, unusable_hint};
use super::limits::{MAX_ALL_CHECKS, MAX_BACKENDS, MAX_MEMBER_SETS, MAX_OWN_TIMEOUTS, MAX_SERVICES};
use super::prefix::unusable_prefix;
use super::raw::RawService;
use super::reader::Read;
use super::report::Report;
use super::suggest::did_you_mean;
use crate::model::{
    FlowPolicy, Forward, Host, Protocol, Reach, Service, Timeouts, Tracking, UdpHandover, Vip, VipMode,
    WhenEmpty,
};

/// Services that are whole; the path of each is that of the same index in `paths`.
pub(super) struct Services {
    pub list: Vec<Service>,
    pub paths: Vec<String>,
}

/// `timeouts` are those of services without any of their own.
pub(super) fn check(
    report: &mut Report,
    raw: Vec<RawService>,
    hosts: &Hosts,
    timeouts: Timeouts,
    vip_mode: VipMode,
) -> Services {
    if let Some(first_over) = raw.get(MAX_SERVICES) {
        let message = format!("{} services are too many", raw.len());
        report.add(&first_over.path, message, format!("keep to {MAX_SERVICES} services"));
        return Services { list: Vec::new(), paths: Vec::new() };
    }
    let mut endpoints = Endpoints::default();
    let mut counts = Counts::default();
    let mut services = Services { list: Vec::with_capacity(raw.len()), paths: Vec::new() };
    for raw in raw {
        if let Some(name) = &raw.name {
            check_name(report, &format!("{}.name", raw.path), "service", name);
            endpoints.check_name(report, &raw.path, name);
        }
        if let Some(vip) = raw.vip {
            check_vip(report, &raw.path, vip, hosts, vip_mode);
        }
        if let (Some(vip), Some(protocols), Some(ports)) = (raw.vip, &raw.protocols, &raw.ports) {
            let name = raw.name.as_deref().unwrap_or_default();
            endpoints.claim(report, &raw.path, name, vip, (protocols, ports));
        }
        check_forward(report, &raw);
        // Past the limit the config is refused; thousands of long lists would only take time and memory.
        let vip = raw.vip.filter(|_| !counts.over);
        let members = vip.and_then(|vip| members(report, &raw, vip, hosts));
        let path = raw.path.clone();
        let flows = flow_policy(report, &raw);
        let checks = health::checks(report, &raw);
        health::passive(report, &raw, flows.tracking);
        health::window(report, &raw, flows.tracking);
        let standby = members.as_ref().map(|members| health::standby(report, &raw, members));
        if raw.timeouts != timeouts {
            counts.add_timeouts(report, &path, raw.timeouts);
        }
        let service = members.and_then(|members| {
            counts.add(report, &path, &members, raw.when_empty);
            counts.add_checks(report, &path, members.len() * checks.len());
            check_zones(report, &raw, &members, hosts);
            Some(Service {
                name: raw.name?,
                vip: raw.vip?,
                protocols: raw.protocols?,
                ports: raw.ports?,
                forward: raw.forward?,
                outer: raw.outer.value(),
                backend_port: raw.backend_port,
                fragments: raw.fragments,
                flows,
                timeouts: raw.timeouts,
                rules: raw.rules,
                when_empty: raw.when_empty,
                checks,
                health: raw.health,
                standby: standby.unwrap_or_default(),
                hosts: members,
            })
        });
        if let Some(service) = service {
            let members: Vec<&Host> =
                service.hosts.iter().filter_map(|name| hosts.by_name.get(name)).collect();
            endpoints.claim_whole(report, &path, &service, &members);
            services.list.push(service);
            services.paths.push(path);
        }
    }
    services
}

/// Fields that make no sense for the service's protocol are refused, not ignored.
fn flow_policy(report: &mut Report, raw: &RawService) -> FlowPolicy {
    let (tracking, udp_handover) = (raw.tracking, raw.udp_handover);
    let only = raw.protocols.as_ref().and_then(|protocols| protocols.single());
    if only == Some(Protocol::Udp) && tracking == Some(Tracking::Edges) {
        let message = "edges are SYNs, and UDP has none";
        report.add(&format!("{}.tracking", raw.path), message, "take the line out: UDP is tracked in full");
    }
    if only == Some(Protocol::Tcp) && udp_handover.unwrap_or_default() != UdpHandover::Pin {
        let message = "this is a TCP service, whose connections stay where they are";
        report.add(&format!("{}.udp_handover", raw.path), message, "take the line out");
    }
    FlowPolicy {
        tracking: tracking.unwrap_or_default(),
        affinity: raw.affinity,
        udp_handover: udp_handover.unwrap_or_default(),
    }
}

fn check_vip(report: &mut Report, path: &str, vip: Vip, hosts: &Hosts, vip_mode: VipMode) {
    let path = format!("{path}.vip");
    if let Some(reason) = unusable_prefix(vip.prefix()) {
        report.add(&path, format!("{vip} {reason}"), unusable_hint(vip.address(), "service"));
    } else if let Some((address, host)) = hosts.within(vip.prefix()) {
        let first = report.path_of_address(address).unwrap_or_default().to_owned();
        let host = report.mention(host, &first);
        let message = if vip.is_single() {
            format!("{address} is an address of host {host}")
        } else {
            format!("{address} in {vip} is an address of host {host}")
        };
        report.add(&path, message, "clients reach a service on an address that no host has as its own");
    } else if !vip.is_single() && vip_mode == VipMode::Local {
        let message = format!("{vip} is a prefix, and only single addresses can be put on an interface");
        let hint = format!(
            "write vip_mode = \"external\" and have your router send {vip} to this machine, or name single addresses"
        );
        report.add(&path, message, hint);
    }
}

/// What only some ways of forwarding can do, and what they cannot.
fn check_forward(report: &mut Report, raw: &RawService) {
    let Some(forward) = raw.forward else { return };
    if matches!(raw.outer, Read::Value(_)) && !forward.is_tunnel() {
        let message = format!("with forward = \"{forward}\" packets get no outer header");
        let hint = "take the line out, or write forward = \"ipip\" or \"gue\"";
        report.add(&format!("{}.outer", raw.path), message, hint);
    }
    let path = format!("{}.backend_port", raw.path);
    let is_nat = forward == Forward::Nat;
    if let Some(vip) = raw.vip.filter(|vip| is_nat && !vip.is_single()) {
        let message =
            format!("with nat {vip} must be one address: an answer does not tell which one it is from");
        let hint = "name one address, or let forward be \"ipip\", \"gue\" or \"l2\"";
        report.add(&format!("{}.vip", raw.path), message, hint);
    }
    if raw.backend_port.is_none() {
        return;
    }
    if !is_nat {
        let message = format!("with forward = \"{forward}\" packets keep their port");
        report.add(&path, message, "take the line out, or write forward = \"nat\"");
    } else if raw.ports.as_ref().is_some_and(|ports| ports.single().is_none()) {
        let message = "the service has several ports, and answers from one would not tell which";
        report.add(
            &path,
            message,
            "let the service have one port, or take the line out: ports then stay as they are",
        );
    }
}

/// What the data path has room for.
#[derive(Default)]
struct Counts {
    /// With whether the last hosts serve on, as that makes another ring.
    member_sets: HashSet<(Vec<String>, bool)>,
    timeouts: HashSet<Timeouts>,
    backends: usize,
    checks: usize,
    over: bool,
}

impl Counts {
    fn add_timeouts(&mut self, report: &mut Report, path: &str, timeouts: Timeouts) {
        if self.timeouts.insert(timeouts) && self.timeouts.len() == MAX_OWN_TIMEOUTS + 1 {
            let message = format!("this service has set of own timeouts number {}", MAX_OWN_TIMEOUTS + 1);
            let hint = format!(
                "let services have the same ones: {MAX_OWN_TIMEOUTS} different sets are possible beside [timeouts]"
            );
            report.add(&format!("{path}.timeouts"), message, hint);
        }
    }

    fn add_checks(&mut self, report: &mut Report, path: &str, checks: usize) {
        let before = self.checks;
        self.checks += checks;
        if before <= MAX_ALL_CHECKS && self.checks > MAX_ALL_CHECKS {
            let message = format!("with this service {} checks are to be made", self.checks);
            let hint = format!("keep to {MAX_ALL_CHECKS} checks of all hosts of all services");
            report.add(&format!("{path}.checks"), message, hint);
        }
    }

    fn add(&mut self, report: &mut Report, path: &str, members: &[String], when_empty: WhenEmpty) {
        self.backends += members.len();
        if self.backends > MAX_BACKENDS {
            let message = format!("with this service there are {} backends", self.backends);
            let hint = format!("keep to {MAX_BACKENDS} pairs of a service and a host");
            report.add(path, message, hint);
            self.over = true;
            return;
        }
        let is_new = self.member_sets.insert((members.to_vec(), when_empty == WhenEmpty::Last));
        if is_new && self.member_sets.len() == MAX_MEMBER_SETS + 1 {
            let message = format!("this service has set of hosts number {}", MAX_MEMBER_SETS + 1);
            let hint =
                format!("let services share hosts: at most {MAX_MEMBER_SETS} different sets are possible");
            report.add(path, message, hint);
        }
    }
}

/// What a service wants of its hosts' addresses.
struct Wanted {
    reach: Reach,
    /// What wants it, and what else would do.
    by: String,
    otherwise: &'static str,
}

impl Wanted {
    /// `None` when it is not clear because something is wrong.
    fn of(raw: &RawService, vip: Vip) -> Option<Self> {
        let forward = raw.forward?;
        let outer = match raw.outer {
            Read::Absent => None,
            Read::Broken => return None,
            Read::Value(family) => Some(family),
        };
        let (by, otherwise) = match outer.filter(|_| forward.is_tunnel()) {
            Some(family) => (
                format!("outer = \"{}\"", family.to_string().to_lowercase()),
                "without the line outer its other address will do",
            ),
            None => (format!("VIP {vip}"), "with forward = \"ipip\" or \"gue\" its other address will do"),
        };
        Some(Wanted { reach: Reach::of(vip, forward, outer), by, otherwise })
    }

    /// An address that will do, in words.
    fn address(&self) -> String {
        match self.reach {
            Reach::Only(family) => format!("an {family} address"),
            Reach::Rather(_) => "an address".to_owned(),
        }
    }
}

/// Names of the members, sorted; `None` when they are wrong or not clear because something else is.
fn members(report: &mut Report, raw: &RawService, vip: Vip, hosts: &Hosts) -> Option<Vec<String>> {
    let wanted = Wanted::of(raw, vip)?;
    let path = format!("{}.hosts", raw.path);
    match &raw.hosts {
        Read::Broken => None,
        Read::Absent => {
            if !hosts.unclear.is_empty() {
                return None;
            }
            let fit = hosts.by_name.values().filter(|host| wanted.reach.address_of(host).is_some());
            let names: Vec<String> = fit.map(|host| host.name.clone()).collect();
            if names.is_empty() {
                let (address, by) = (wanted.address(), &wanted.by);
                let message = format!("there is no host with {address} for {by}");
                report.add(&path, message, format!("add a host with {address} under [hosts.NAME]"));
                return None;
            }
            Some(names)
        }
        Read::Value(listed) if listed.is_empty() => {
            let hint = format!("name one, or leave the field out for all that have {}", wanted.address());
            report.add(&path, "the service has no hosts", hint);
            None
        }
        Read::Value(listed) => {
            let mut names = BTreeSet::new();
            let mut right = true;
            for (index, name) in listed.iter().enumerate() {
                let path = format!("{path}[{index}]");
                let fits =
                    name.as_ref().is_some_and(|name| check_member(report, &path, name, &wanted, hosts));
                right &= fits;
                let Some(name) = name else { continue };
                if !names.insert(name.clone()) {
                    report.add(&path, format!("host {name:?} is listed twice"), "list it once");
                }
            }
            right.then(|| names.into_iter().collect())
        }
    }
}

fn check_member(report: &mut Report, path: &str, name: &str, wanted: &Wanted, hosts: &Hosts) -> bool {
    let Some(host) = hosts.by_name.get(name) else {
        let otherwise = || format!("define it under {}", header(name));
        let known = hosts.by_name.keys().map(String::as_str);
        let hint = if report.may_guess() { did_you_mean(name, known, otherwise) } else { otherwise() };
        report.add(path, format!("there is no host {name:?}"), hint);
        return false;
    };
    if hosts.unclear.contains(name) {
        return false;
    }
    let Wanted { reach, by, otherwise } = wanted;
    // One that takes either family is content with every host.
    if let (Reach::Only(family), None) = (reach, reach.address_of(host)) {
        let message = format!("host {name:?} has no {family} address, {by} needs one");
        let header = header(name);
        let hint =
            format!("add an {family} address to addresses under {header}, or take the host out; {otherwise}");
        report.add(path, message, hint);
        return false;
    }
    true
}

/// A rule that goes by zones needs to know all of them.
fn check_zones(report: &mut Report, raw: &RawService, members: &[String], hosts: &Hosts) {
    if !raw.rules.one_zone_at_a_time {
        return;
    }
    if let Some(host) = members.iter().find(|host| hosts.unzoned.contains(*host)) {
        let hint = format!(
            "add a line such as zone = \"a\" under {}, or let the rules of this service have one_zone_at_a_time = false",
            header(host)
        );
        let message = format!("host {host:?} has no zone, and one_zone_at_a_time goes by zones");
        report.add(&format!("{}.hosts", raw.path), message, hint);
    }
}

/// The line that begins a host's section.
fn header(name: &str) -> String {
    format!("[{}]", super::reader::child("hosts", name))
}
