//! The smallest topology: a balancer and everybody else, with one veth between them and nothing on the way.
//!
//! For measuring: a bridge would cost about as much as what is measured.

use anyhow::Result;

use super::{Namespace, cleanup, make, plan, prefix};

/// Two namespaces, joined by one veth; dropping it kills its processes and removes them.
#[derive(Debug)]
pub struct Wire {
    prefix: String,
    balancer: Namespace,
    outside: Namespace,
}

impl Wire {
    /// Name of the interface at either end.
    pub const INTERFACE: &str = "eth0";
    /// MAC address of the balancer's end.
    pub const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
    /// MAC address of the other end.
    pub const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x17];

    /// Makes it: one queue a direction, room for encapsulation, no addresses, IPv6 off, so that nobody speaks unasked.
    pub fn build() -> Result<Wire> {
        let prefix = prefix("");
        cleanup::remember(&prefix);
        Self::build_as(&prefix).inspect_err(|_| {
            cleanup::remove(&prefix);
            cleanup::forget(&prefix);
        })
    }

    fn build_as(prefix: &str) -> Result<Wire> {
        let mut nodes = ["lb", "out"].map(|name| plan::Node::new(format!("{prefix}-{name}")));
        for (node, mac) in nodes.iter_mut().zip([Self::BALANCER_MAC, Self::OUTSIDE_MAC]) {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            node.sysctl("ipv6/conf/default/disable_ipv6", "1");
            node.sysctl("ipv4/ip_forward", "1");
            node.ip.push(format!("link set {} address {mac} mtu 1600 up", Self::INTERFACE));
        }
        let queues = "numtxqueues 1 numrxqueues 1";
        let end = |node: &plan::Node| format!("name {} netns {} {queues}", Self::INTERFACE, node.name);
        let link = format!("link add {} type veth peer {}", end(&nodes[0]), end(&nodes[1]));
        let plan = plan::Plan { links: vec![link], nodes: nodes.into(), has_jumbo: false };
        let (mut namespaces, _) = make(&plan, prefix)?;
        let outside = namespaces.remove(1);
        Ok(Wire { prefix: prefix.to_owned(), balancer: namespaces.remove(0), outside })
    }

    /// `sluice-<pid>-<n>`: what the names of its namespaces begin with; also a fit name for a balancer's instance.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn balancer(&self) -> &Namespace {
        &self.balancer
    }

    /// Where packets come from and go to.
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        [&self.balancer, &self.outside].into_iter().for_each(Namespace::kill_processes);
        cleanup::remove(&self.prefix);
        cleanup::forget(&self.prefix);
    }
}
