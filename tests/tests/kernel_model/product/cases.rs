//! Sequences that once found the product wrong; each stays.

use std::collections::BTreeMap;

use super::balancer::Balancer;
use super::random::{RING, roomy};
use super::run::run;
use super::setup::HOSTS;
use super::steps::{Change, FLOWS, Forged, Step, UDP_CLIENTS};
use crate::client::{Flags, Service};
use crate::rules::{Moves, Policy};

const EDGES: Policy = Policy { edges: true, client: false, moves: Moves::Never };
const CLIENT: Policy = Policy { edges: false, client: true, moves: Moves::Never };

/// Runs each under its name, and tells of all that fail.
struct Cases {
    balancer: Balancer,
    wrong: Vec<String>,
}

impl Cases {
    fn hold(&mut self, name: &str, policies: &[(Service, Policy)], steps: &[Step]) {
        let policies: BTreeMap<Service, Policy> = policies.iter().copied().collect();
        let done = run(&mut self.balancer, true, RING, &policies, steps);
        self.wrong.extend(done.err().map(|error| format!("{name}: {error}")));
    }
}

#[test]
fn what_once_went_wrong_with_the_product() {
    let mut cases = Cases { balancer: roomy(), wrong: Vec::new() };
    cases.hold(
        "a flow ends in a slot of a host that the config does not name any more",
        &[(Service::Api, CLIENT)],
        &[
            Step::Restart(Change::Remove(1)),
            Step::Reboot,
            Step::Connect(7),
            Step::End(7),
            Step::Wait(7),
            Step::Round,
        ],
    );
    cases.hold(
        "a host leaves the config while it cannot be reached: its flows go to others, and are not dropped",
        &[(Service::Api, CLIENT)],
        &[
            Step::Connect(1),
            Step::Connect(5),
            Step::Unplug(1),
            Step::Unplug(2),
            Step::Round,
            Step::Restart(Change::Remove(1)),
            Step::Restart(Change::Remove(2)),
            Step::Speak(1),
            Step::Speak(5),
            Step::Wild { client: 2, flags: Flags::Ack, sequence: 0, payload: false },
        ],
    );
    // With UDP flows that never fall silent.
    let mut steps: Vec<Step> = (0..UDP_CLIENTS).map(Step::Datagram).collect();
    steps.extend([
        Step::Drain(0b11110),
        Step::SpeakAll,
        Step::Undrain(0b11110),
        Step::Unplug(1),
        Step::Round,
    ]);
    steps.extend([Step::Restart(Change::Remove(1)), Step::SpeakAll, Step::Round]);
    (0..3).for_each(|_| steps.extend([Step::Wait(1), Step::SpeakAll, Step::Round]));
    steps.push(Step::SpeakAll);
    cases.hold("a host leaves the config while it cannot be reached, and its UDP flows go on", &[], &steps);
    let mut steps: Vec<Step> = (0..FLOWS).map(Step::Connect).collect();
    steps.extend((1..=HOSTS).map(Step::Unplug));
    steps.push(Step::Round);
    steps.extend((1..=HOSTS).map(Step::Plug));
    steps.extend([Step::Round, Step::Wait(20), Step::SpeakAll, Step::Wait(12), Step::SpeakAll, Step::Round]);
    steps.extend((0..FLOWS).map(Step::End));
    steps.push(Step::Drain(0b11011));
    steps.extend((0..FLOWS).map(Step::Begin));
    // The contract names it as an exception; the rules say what happens instead.
    cases.hold(
        "a port is used again whose last flow was tracked, but not its end",
        &[(Service::Web, EDGES), (Service::Api, EDGES)],
        &steps,
    );
    assert!(cases.wrong.is_empty(), "{}", cases.wrong.join("\n"));
}

/// Undrained hosts, flows of which only their pins keep at the hosts that they began at; forged FINs for all of them; then so many
/// SYNs that something has to go.
#[test]
fn a_forged_fin_and_a_flood_move_no_flow() {
    let drained = 0b11011;
    let steps: Vec<Step> = [Step::Drain(drained)]
        .into_iter()
        .chain((0..FLOWS).map(Step::Connect))
        .chain([Step::Undrain(drained)])
        .chain((0..FLOWS).map(|flow| Step::Forge(flow, Forged::Fin)))
        .chain([Step::Flood(600), Step::SpeakAll])
        .collect();
    run(&mut roomy(), false, RING, &BTreeMap::new(), &steps).expect("C1");
}
