//! A new service joins a ring in which slots are handed over from a host that it never had.

use std::collections::BTreeMap;

use super::random::{RING, roomy};
use super::setup::{Setup, TIMEOUTS};
use crate::client::{Client, Service};

/// The host that leaves.
const GONE: u16 = 5;

/// The daemon's sweep sees hosts as packets of the service do, not as those of another service of its ring: for a packet of the new
/// one the owner is the only answer, so a flow that has ended is kept for no longer than that.
#[test]
fn the_sweep_ends_what_packets_of_the_service_take_for_dead() {
    let mut balancer = roomy();
    let setup = Setup::new(RING, BTreeMap::new());
    let before = Setup { without: Some(Service::Web), ..setup.clone() };
    balancer.begin(&before, 1_000_000, 1_800_000_000).expect("the engine starts");
    let mut after = setup;
    after.weights.remove(&GONE);
    balancer.restart(&after).expect("the engine starts");

    let status = balancer.status();
    let ring = |service: Service| {
        status.services.iter().find(|of| of.name == service.name()).expect("it is served").ring
    };
    assert_eq!(ring(Service::Web), ring(Service::Dns), "both have the same hosts");
    let slots = &balancer.published().slots[&Service::Web];
    let number =
        slots.iter().position(|slot| slot.is_open() && slot.previous() == GONE).expect("a slot of that host");
    let owner = slots[number].owner();

    let client = Client::in_slot(0x0a01_0000, Service::Web, number as u32, RING);
    for packet in [client.packet().syn(1), client.packet().seq(2).ack(1), client.packet().seq(2).fin().ack(1)]
    {
        assert_eq!(balancer.send(&packet), owner);
    }
    balancer.engine().round().expect("the sweep goes well");
    assert_eq!(balancer.entries().len(), 1);
    balancer.pass(TIMEOUTS.closing + 1);
    balancer.engine().round().expect("the sweep goes well");
    assert_eq!(balancer.entries().len(), 0, "the flow has ended");
}
