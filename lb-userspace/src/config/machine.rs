//! Checks that need the machine that the config is for.

use std::net::IpAddr;

use super::Loaded;
use super::problem::ConfigErrors;
use super::report::Report;
use super::suggest::{nearest, one_of};

/// Refuses a config that cannot run here: an interface that does not exist, or a host that is the balancer
/// itself, to which neither rewritten nor encapsulated packets can be sent.
///
/// `local_addresses` are this machine's addresses, each with its interface; `interface_names` all its interfaces.
pub fn check_against_machine(
    loaded: &Loaded,
    local_addresses: &[(String, IpAddr)],
    interface_names: &[String],
) -> Result<(), ConfigErrors> {
    let mut report = Report::resume(&loaded.spans);
    for (index, name) in loaded.model.interfaces.iter().enumerate() {
        if interface_names.contains(name) {
            continue;
        }
        let known = || interface_names.iter().map(String::as_str);
        let here = one_of(known().filter(|name| *name != "lo"));
        let hint = match nearest(name, known()) {
            Some(near) => format!("did you mean {near:?}? This machine has {here}"),
            None => format!("this machine has {here}"),
        };
        report.add(&format!("interfaces[{index}]"), format!("there is no interface {name:?} here"), hint);
    }
    for host in loaded.model.hosts.values() {
        for address in [host.ipv4.map(IpAddr::V4), host.ipv6.map(IpAddr::V6)].into_iter().flatten() {
            let Some((interface, _)) = local_addresses.iter().find(|(_, local)| *local == address) else {
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
    report.finish(()).map(|_| ())
}
