//! Checks that need the machine that the config is for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Loaded;
use super::problem::ConfigErrors;
use super::report::Report;
use super::stacked;
use super::suggest::{nearest, one_of};
use crate::model::{Forward, Model, Service, XdpMode};
use crate::netlink::Interface;

/// The machine that a config is to run on.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Its addresses, each with its interface; without VIPs, which Sluice may have put there itself.
    pub addresses: Vec<(String, IpAddr)>,
    pub interfaces: Vec<Interface>,
    /// Interfaces of the config that it does not have now, and that are to be attached to when they come.
    pub awaited: BTreeSet<String>,
    /// Version of Linux.
    pub kernel: (u32, u32),
    /// Those of [`switches`] that are off.
    pub off: BTreeSet<String>,
    /// Groups of `[api]` that it does not have.
    pub missing_groups: BTreeSet<String>,
    /// Why certificate and key of `[ui]` are of no use, where there are some.
    pub unusable_tls: Option<String>,
}

impl Machine {
    /// Takes the interfaces of a config that are not there for ones that are yet to come. What their switches will say is not known.
    pub fn await_interfaces(&mut self, model: &Model) {
        let named = model.interfaces.iter().map(|interface| &interface.name).chain(&model.announce);
        let is_here = |name: &&String| self.interfaces.iter().any(|found| found.name == **name);
        self.awaited = named.filter(|name| !is_here(name)).cloned().collect();
        let places: Vec<String> = self.awaited.iter().map(|name| format!("/conf/{name}/")).collect();
        self.off.retain(|switch| !places.iter().any(|place| switch.contains(place)));
    }
}

/// Bytes of an IP packet that one piece of a frame holds in native mode: a page less the headroom of XDP (256), what the kernel
/// keeps behind the frame (320), and an Ethernet header with two VLAN tags (22).
pub const ONE_PIECE: u32 = 4096 - 256 - 320 - 22;
/// The first Linux whose XDP programs take frames in several pieces.
pub const FRAGS_SINCE: (u32, u32) = (5, 18);

/// The kernel's settings without which it forwards no answer of a backend to a client, as paths under `/proc/sys`: for services
/// that forward by `nat`.
pub fn switches(model: &Model) -> BTreeSet<String> {
    model.services.iter().flat_map(|service| switches_of(model, service)).collect()
}

fn switches_of(model: &Model, service: &Service) -> Vec<String> {
    if service.forward != Forward::Nat {
        return Vec::new();
    }
    let names = model.interfaces.iter().map(|interface| interface.name.as_str());
    let (family, all) = if service.vip.is_ipv4() { ("ipv4", None) } else { ("ipv6", Some("all")) };
    // IPv6 goes by the switch of all interfaces, and bpf_fib_lookup by that of the one that the packet came in by.
    all.into_iter().chain(names).map(|name| format!("net/{family}/conf/{name}/forwarding")).collect()
}

/// Refuses a config that cannot run here.
pub fn check_against_machine(loaded: &Loaded, machine: &Machine) -> Result<(), ConfigErrors> {
    let mut report = Report::resume(&loaded.spans);
    check_interfaces(&mut report, loaded, machine);
    check_announce(&mut report, &loaded.model, machine);
    stacked::check(&mut report, &loaded.model, &machine.interfaces);
    check_hosts(&mut report, loaded, machine);
    check_services(&mut report, &loaded.model, machine);
    check_groups(&mut report, &loaded.model, machine);
    check_tls(&mut report, machine);
    report.finish(()).map(|_| ())
}

fn check_interfaces(report: &mut Report, loaded: &Loaded, machine: &Machine) {
    for (index, interface) in loaded.model.interfaces.iter().enumerate() {
        let (name, path) = (&interface.name, format!("interfaces[{index}]"));
        let Some(found) = find(report, &path, name, machine) else { continue };
        if interface.xdp_mode == XdpMode::Native && found.mtu > ONE_PIECE && machine.kernel < FRAGS_SINCE {
            let (major, minor) = machine.kernel;
            let message = format!(
                "{name} has an MTU of {}, and native XDP of Linux {major}.{minor} takes frames of one piece only",
                found.mtu
            );
            let hint = format!(
                "`ip link set {name} mtu {ONE_PIECE}`, or xdp_mode = \"generic\", or Linux {}.{}",
                FRAGS_SINCE.0, FRAGS_SINCE.1
            );
            report.add(&path, message, hint);
        }
    }
}

fn check_announce(report: &mut Report, model: &Model, machine: &Machine) {
    if let Some(name) = &model.announce {
        find(report, "announce.interface", name, machine);
    }
}

/// An interface of the machine; one that it does not have is reported, unless it is awaited.
fn find<'m>(report: &mut Report, path: &str, name: &str, machine: &'m Machine) -> Option<&'m Interface> {
    let found = machine.interfaces.iter().find(|found| found.name == name);
    if found.is_none() && !machine.awaited.contains(name) {
        let known = || machine.interfaces.iter().map(|found| found.name.as_str());
        let here = one_of(known().filter(|name| *name != "lo"));
        let hint = match nearest(name, known()) {
            Some(near) => format!("did you mean {near:?}? This machine has {here}"),
            None => format!("this machine has {here}"),
        };
        report.add(path, format!("there is no interface {name:?} here"), hint);
    }
    found
}

/// To the balancer itself neither rewritten nor encapsulated packets can be sent.
fn check_hosts(report: &mut Report, loaded: &Loaded, machine: &Machine) {
    for host in loaded.model.hosts.values() {
        for address in [host.ipv4.map(IpAddr::V4), host.ipv6.map(IpAddr::V6)].into_iter().flatten() {
            let Some((interface, _)) = machine.addresses.iter().find(|(_, local)| *local == address) else {
                continue;
            };
            let path = loaded.spans.path_of_address(address).unwrap_or_default();
            let message =
                format!("{address} of host {:?} is this machine's own address, on {interface}", host.name);
            report.add(
                path,
                message,
                "a balancer cannot be its own backend: name another machine, or take the host out",
            );
        }
    }
}

fn check_services(report: &mut Report, model: &Model, machine: &Machine) {
    let mut is_told = BTreeSet::new();
    for (index, service) in model.services.iter().enumerate() {
        let vip = service.vip;
        let own = machine.addresses.iter().find(|(_, local)| vip.contains(*local));
        if let Some((interface, address)) = own.filter(|_| !vip.is_single()) {
            let message = format!(
                "{address} in {vip} is this machine's own, on {interface}: its packets would go to hosts"
            );
            let hint = "name a prefix without it, or give the machine another address";
            report.add(&format!("services[{index}].vip"), message, hint);
        }
        let off: Vec<String> =
            switches_of(model, service).into_iter().filter(|switch| machine.off.contains(switch)).collect();
        // One service of a family tells of all.
        if !off.is_empty() && is_told.insert(vip.is_ipv4()) {
            let message = "with nat this machine forwards hosts' answers, which its kernel is told not to";
            let settings: Vec<String> = off.iter().map(|switch| format!("{}=1", sysctl(switch))).collect();
            let hint = format!("`sysctl -w {}`", settings.join(" "));
            report.add(&format!("services[{index}].forward"), message, hint);
        }
    }
}

fn check_groups(report: &mut Report, model: &Model, machine: &Machine) {
    for (field, group) in [("read_group", &model.api.read_group), ("change_group", &model.api.change_group)] {
        if let Some(group) = group.as_ref().filter(|group| machine.missing_groups.contains(*group)) {
            let hint = format!("`groupadd --system {group}`, or name another");
            report.add(&format!("api.{field}"), format!("there is no group {group:?} here"), hint);
        }
    }
}

fn check_tls(report: &mut Report, machine: &Machine) {
    if let Some(why) = &machine.unusable_tls {
        let hint = "name PEM files of a certificate chain and its key that the daemon's user may read";
        report.add("ui.certificate", why.clone(), hint);
    }
}

/// A name under /proc/sys as sysctl(8) is told it: with dots, unless the interface's name has one.
pub fn sysctl(switch: &str) -> String {
    if switch.contains('.') { switch.to_owned() } else { switch.replace('/', ".") }
}
