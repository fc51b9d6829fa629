//! What the program must know for a config on a machine.

use std::collections::BTreeSet;

use lb_common::layout::{FEATURE_GUE, FEATURE_NAT, FEATURE_PING, FEATURE_RANGES, FEATURE_TAGS};

use crate::config::{FRAGS_SINCE, Machine, ONE_PIECE};
use crate::dataplane::Abilities;
use crate::model::{Forward, Interface, Model, Ping, XdpMode};

/// What services and interfaces need.
///
/// Tags as soon as the machine has a VLAN device, as any backend may come to lie behind it; one that is made later needs
/// another start. An interface that is awaited may be one, or come with any MTU.
pub fn abilities(model: &Model, machine: &Machine) -> Abilities {
    let any = |forward| model.services.iter().any(|service| service.forward == forward);
    let has_range = model.services.iter().any(|service| service.ports.iter().any(|range| !range.is_single()));
    let has_vlans =
        !machine.awaited.is_empty() || machine.interfaces.iter().any(|interface| interface.kind == "vlan");
    let features = [
        (has_range, FEATURE_RANGES),
        (any(Forward::Gue), FEATURE_GUE),
        (any(Forward::Nat), FEATURE_NAT),
        (has_vlans, FEATURE_TAGS),
        (model.ping == Ping::Answer, FEATURE_PING),
    ];
    let prefixes: BTreeSet<u8> =
        model.services.iter().filter(|service| !service.vip.is_single()).map(|s| s.vip.bits()).collect();
    Abilities {
        features: features.iter().filter(|(is_needed, _)| *is_needed).map(|(_, bit)| bit).sum(),
        mss: model.mss_clamp.map_or(0, u32::from),
        prefixes: prefixes.into_iter().rev().collect(),
        frags: machine.kernel >= FRAGS_SINCE && has_jumbo(model, machine),
        ..Abilities::default()
    }
}

/// Whether frames that native mode takes in several pieces may come in.
fn has_jumbo(model: &Model, machine: &Machine) -> bool {
    let native = model.interfaces.iter().filter(|interface| interface.xdp_mode != XdpMode::Generic);
    let is_jumbo = |interface: &Interface| {
        let found = machine.interfaces.iter().find(|found| found.name == interface.name);
        found.map_or(machine.awaited.contains(&interface.name), |found| found.mtu > ONE_PIECE)
    };
    native.into_iter().any(is_jumbo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::netlink::Interface;

    fn model(top: &str, service: &str) -> Model {
        let vip = if service.starts_with("vip =") { "" } else { "vip = \"203.0.113.1\"\n" };
        let port = if service.starts_with("port =") { "" } else { "port = 80\n" };
        let toml = format!(
            "interfaces = [\"eth0\", {{ name = \"eth1\", xdp_mode = \"generic\" }}]\n{top}\n\
             [hosts.a]\naddresses = [\"10.0.0.1\", \"fd00::1\"]\n[[services]]\nname = \"s\"\nprotocol = \"tcp\"\n{vip}{port}{service}\n"
        );
        parse(&toml, "f").unwrap_or_else(|errors| panic!("{errors}")).model
    }

    fn machine(mtus: [u32; 2], kinds: &[&str]) -> Machine {
        let interface = |name: &str, mtu, kind: &str| Interface {
            name: name.to_owned(),
            index: 1,
            mac: None,
            mtu,
            up: true,
            kind: kind.to_owned(),
            beneath: None,
            bond: None,
        };
        let others = kinds.iter().enumerate().map(|(n, kind)| interface(&format!("x{n}"), 1500, kind));
        let [eth0, eth1] = mtus;
        let own = [interface("eth0", eth0, "ethernet"), interface("eth1", eth1, "ethernet")];
        Machine { interfaces: own.into_iter().chain(others).collect(), kernel: (6, 1), ..Machine::default() }
    }

    #[test]
    fn one_address_and_port_needs_nothing() {
        assert_eq!(abilities(&model("", ""), &machine([1500; 2], &[])), Abilities::default());
    }

    #[test]
    fn each_thing_is_asked_for_by_what_needs_it() {
        let features = |top, service, kinds: &[&str]| {
            abilities(&model(top, service), &machine([1500; 2], kinds)).features
        };
        assert_eq!(features("", "port = \"80-81\"", &[]), FEATURE_RANGES);
        assert_eq!(features("", "port = \"all\"", &[]), FEATURE_RANGES);
        assert_eq!(features("", "port = [80, 81, \"90-90\"]", &[]), 0);
        assert_eq!(features("", "forward = \"gue\"", &[]), FEATURE_GUE);
        assert_eq!(features("", "forward = \"nat\"", &[]), FEATURE_NAT);
        assert_eq!(features("ping = \"answer\"", "", &[]), FEATURE_PING);
        assert_eq!(features("", "", &["vlan"]), FEATURE_TAGS);
        assert_eq!(features("", "", &["bridge"]), 0);
        assert_eq!(abilities(&model("mss_clamp = 1360", ""), &machine([1500; 2], &[])).mss, 1360);
    }

    #[test]
    fn prefixes_come_with_the_longest_first() {
        let second = |vip: &str| {
            format!(
                "vip = \"203.0.113.0/28\"\n[[services]]\nname = \"t\"\nvip = \"{vip}\"\nprotocol = \"udp\"\nport = 1"
            )
        };
        let prefixes = |vip| abilities(&model("", &second(vip)), &machine([1500; 2], &[])).prefixes;
        assert_eq!(prefixes("2001:db8::/64"), [124, 64]);
        assert_eq!(prefixes("2001:db8::/124"), [124]);
        assert_eq!(prefixes("203.0.113.1"), [124]);
        assert_eq!(prefixes("203.0.112.0/24"), [124, 120]);
    }

    #[test]
    fn frames_in_pieces_come_with_a_large_mtu_in_native_mode_and_a_kernel_that_has_them() {
        let model = model("", "");
        let frags = |mtus, kernel| abilities(&model, &Machine { kernel, ..machine(mtus, &[]) }).frags;
        assert!(!frags([ONE_PIECE, 1500], (6, 1)));
        assert!(frags([ONE_PIECE + 1, 1500], (6, 1)));
        assert!(frags([9000, 1500], (5, 18)));
        assert!(!frags([9000, 1500], (5, 17)));
        assert!(!frags([1500, 9000], (6, 1)), "eth1 is generic");
        assert_eq!(ONE_PIECE, 3498);
    }

    #[test]
    fn what_is_awaited_may_come_with_tags_and_with_any_mtu() {
        let model = model("", "");
        let lacking = |name: &str, kernel| {
            let mut machine = Machine { kernel, ..machine([1500; 2], &[]) };
            machine.interfaces.retain(|interface| interface.name != name);
            machine.await_interfaces(&model);
            let Abilities { features, frags, .. } = abilities(&model, &machine);
            (features, frags)
        };
        assert_eq!(lacking("eth0", (6, 1)), (FEATURE_TAGS, true));
        assert_eq!(lacking("eth0", (5, 17)), (FEATURE_TAGS, false));
        assert_eq!(lacking("eth1", (6, 1)), (FEATURE_TAGS, false), "it is generic");
        assert_eq!(lacking("none", (6, 1)), (0, false));
    }
}
