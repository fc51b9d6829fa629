//! Interfaces that lie over others: where the program would see less than is meant, or what it sends would be lost.

use super::report::Report;
use crate::model::{Forward, Interface, Model, XdpMode};
use crate::netlink;

/// Holds the interfaces of a config against those of the machine.
pub(super) fn check(report: &mut Report, model: &Model, machine: &[netlink::Interface]) {
    let found = |name: &str| machine.iter().find(|interface| interface.name == name);
    let numbered = |index| machine.iter().find(|interface| Some(interface.index) == index);
    let mut check = |index: usize, interface: &netlink::Interface| {
        let (name, path) = (&interface.name, format!("interfaces[{index}]"));
        if let Some(bond) = numbered(interface.bond) {
            let bond = &bond.name;
            let message =
                format!("{name} belongs to {bond}, whose packets come in by its other parts as well");
            report.add(
                &path,
                message,
                format!("name {bond:?} instead: the program then runs on all its parts"),
            );
        }
        let mut beneath = numbered(interface.beneath);
        // The kernel nests fewer.
        for _ in 0..machine.len() {
            let Some(lower) = beneath else { break };
            if model.interfaces.iter().any(|other| other.name == lower.name) {
                let lower = &lower.name;
                let message =
                    format!("{name} lies over {lower}, where the program has had its packets before");
                report.add(&path, message, format!("leave {name} out: {lower} is enough for its VLANs, too"));
                return;
            }
            beneath = numbered(lower.beneath);
        }
        if let (Some(lower), Some(native)) = (numbered(interface.beneath), answers_natively(model, machine)) {
            let message = format!(
                "{name} is a VLAN device, by which answers that come in by {native} in native mode cannot leave (nat)"
            );
            let lower = &lower.name;
            report.add(
                &path,
                message,
                format!("name {lower:?} instead, or set xdp_mode = \"generic\" for {native}"),
            );
        }
    };
    for (index, interface) in model.interfaces.iter().enumerate() {
        if let Some(interface) = found(&interface.name) {
            check(index, interface);
        }
    }
}

/// An interface by which answers to clients may come in in native mode.
fn answers_natively<'a>(model: &'a Model, machine: &[netlink::Interface]) -> Option<&'a str> {
    let is_vlan =
        |wanted: &Interface| machine.iter().any(|found| found.name == wanted.name && found.beneath.is_some());
    let has_nat = model.services.iter().any(|service| service.forward == Forward::Nat);
    let mut natives =
        model.interfaces.iter().filter(|wanted| wanted.xdp_mode != XdpMode::Generic && !is_vlan(wanted));
    natives.next().filter(|_| has_nat).map(|interface| interface.name.as_str())
}
