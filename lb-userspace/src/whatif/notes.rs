//! What an operator should know before a drain, in words.

use std::collections::BTreeSet;

use super::rules::list;
use super::{Input, has, served_on};
use crate::api::types::{AdminState, DrainPlan, Load, OperState, PlannedHost, Survivor};
use crate::model::{Protocol, Service, UdpHandover, WhenEmpty};

/// More than this times its load now is worth a word.
const MUCH: f64 = 2.0;
/// New flows a second below which a quotient says nothing.
const FEW: f64 = 1.0;

pub fn notes(input: &Input<'_>, plan: &DrainPlan) -> Vec<String> {
    let mut notes = states(plan);
    if input.clients.is_some() {
        notes.push(
            "loads are those of all clients: how much comes from some of them is not measured".to_owned(),
        );
    }
    notes.extend(flows(plan));
    notes.extend(services(input, plan));
    notes.extend(plan.survivors.iter().filter_map(much));
    notes.extend(unmeasured(plan));
    notes
}

fn states(plan: &DrainPlan) -> Vec<String> {
    let names = |is: &dyn Fn(&&PlannedHost) -> bool| -> Vec<&str> {
        plan.hosts.iter().filter(is).map(|host| host.host.as_str()).collect()
    };
    let out = names(&|host| host.admin != AdminState::Active);
    let down = names(&|host| host.oper == OperState::Down);
    let mut notes = Vec::new();
    if !out.is_empty() {
        notes.push(format!("{}: out already, a drain changes nothing there", list(&out)));
    }
    if !down.is_empty() {
        notes.push(format!("{}: down, packets of live flows do not get there", list(&down)));
    }
    notes
}

fn flows(plan: &DrainPlan) -> Vec<String> {
    let half_open: u64 = plan.hosts.iter().map(|host| host.live_flows.half_open).sum();
    let hidden: Vec<&str> =
        plan.hosts.iter().filter(|host| host.live_flows.hidden).map(|host| host.host.as_str()).collect();
    let mut notes = Vec::new();
    if half_open > 0 {
        notes.push(format!(
            "{half_open} half-open {} with the host that the SYN went to",
            if half_open == 1 { "connection stays" } else { "connections stay" }
        ));
    }
    if !hidden.is_empty() {
        notes.push(format!(
            "{}: there may be more live flows, of services with tracking = \"edges\"",
            list(&hidden)
        ));
    }
    notes
}

fn services(input: &Input<'_>, plan: &DrainPlan) -> Vec<String> {
    let mut notes = Vec::new();
    let concerned = |service: &&Service| input.hosts.iter().any(|host| has(service, host));
    let udp = |handover: UdpHandover| -> Vec<&str> {
        let services = input.services().filter(concerned);
        let services =
            services.filter(|s| s.protocols.has(Protocol::Udp) && s.flows.udp_handover == handover);
        services.map(|service| service.name.as_str()).collect()
    };
    let ways = [
        (UdpHandover::Pin, "stay until they have been silent for the timeout of UDP"),
        (UdpHandover::Gap, "move with the first datagram after a pause"),
        (UdpHandover::Immediate, "move with their next datagram"),
    ];
    for (handover, what) in ways {
        let names = udp(handover);
        if !names.is_empty() {
            notes.push(format!("UDP flows of {} {what}", list(&names)));
        }
    }
    let mut served = BTreeSet::new();
    for (service, hosts) in served_on(input) {
        served.insert(&service.name);
        notes.push(format!(
            "{} would serve {} on, as its last hosts: their drains end only after another host is back",
            list(&hosts),
            service.name
        ));
    }
    let emptied = plan.rules.iter().filter(|broken| broken.rule == "last_host");
    for name in emptied.map(|broken| &broken.service).filter(|name| !served.contains(name)) {
        let policy = input.model.services.iter().find(|service| service.name == *name);
        let what = match policy.map(|service| service.when_empty) {
            Some(WhenEmpty::Pass) => "this machine's kernel would get new clients",
            Some(WhenEmpty::Last) => "nobody is left to serve on, new clients would be refused",
            _ => "new clients would be refused",
        };
        notes.push(format!("service {name} would have no host: {what}"));
    }
    notes
}

/// A survivor that may not be up to it.
fn much(survivor: &Survivor) -> Option<String> {
    let Survivor { host, slots_before, slots_after, before, after, .. } = survivor;
    let (flows, then) = (before.new_flows_per_second, after.new_flows_per_second);
    if flows >= FEW && then > MUCH * flows {
        return Some(format!(
            "{host} would get {:.1} times its new flows: {then:.1} a second, now {flows:.1}",
            then / flows
        ));
    }
    let (slots, then) = (f64::from(*slots_before), f64::from(*slots_after));
    (then > MUCH * slots).then(|| match slots_before {
        0 => format!("{host} would own {slots_after} slots, now none"),
        _ => {
            format!("{host} would own {:.1} times its slots: {slots_after}, now {slots_before}", then / slots)
        }
    })
}

/// Loads of nothing would read as if nobody would notice.
fn unmeasured(plan: &DrainPlan) -> Option<String> {
    let is_idle = |load: &Load| load.packets_per_second == 0.0 && load.new_flows_per_second == 0.0;
    let gives = plan.hosts.iter().any(|host| host.slots > host.kept);
    let is_all_idle = plan.hosts.iter().all(|host| is_idle(&host.load));
    (gives && is_all_idle)
        .then(|| "no traffic was measured on these hosts just now: go by the slots".to_owned())
}
