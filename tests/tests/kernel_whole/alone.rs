//! The plain program without the one that it calls: what is not plain goes to the kernel, and everything else its way.

use aya::maps::{Map, MapData, ProgramArray};
use lb_common::layout::FEATURE_PING;
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Delta, Rig};

use super::bench::{Bench, NOTHING, all_flows};

/// Empties the array of programs, as the kernel does when nobody holds it any more.
fn forget_called(rig: &mut Rig) {
    let info = rig.dataplane.program().unwrap().info().unwrap();
    let ids = info.map_ids().unwrap().unwrap();
    let maps = ids.into_iter().map(|id| MapData::from_id(id).unwrap());
    let array = maps.into_iter().find(|map| map.info().unwrap().name_as_str() == Some("PROGRAMS")).unwrap();
    let mut array = ProgramArray::try_from(Map::ProgramArray(array)).unwrap();
    array.clear_index(&0).unwrap();
}

#[test]
fn what_is_not_plain_passes() {
    let mut options = Bench::options();
    options.abilities.features |= FEATURE_PING;
    // None that other tests go on with.
    let mut bench = Bench::on(Rig::open_with(options), |backend| backend);
    forget_called(&mut bench.rig);
    for flow in all_flows(1) {
        let odd = if flow.is_v6() {
            flow.packet(9).extension(60, &[1, 4, 0, 0, 0, 0])
        } else {
            flow.packet(9).options(&[1; 4])
        };
        for (what, packet) in [
            ("tagged", flow.packet(9).vlan(3)),
            ("with options", odd),
            ("spent", flow.packet(300).ttl(1)),
            ("ping", Packet::ping(flow.from.ip(), flow.to.ip(), 1, 1)),
            (
                "answer",
                flow.answer(super::bench::Flow::of(super::bench::Mode::Nat, flow.kind(), 1).backend(1), 9),
            ),
        ] {
            bench.passes(what, packet.build(), "pass_unhandled");
        }
        for frame in flow.packet(100).fragments(64) {
            bench.passes("fragment", frame, "pass_unhandled");
        }
        // Which it needs nobody for.
        let from = std::net::SocketAddr::new(flow.from.ip(), 0);
        bench.drops("from port 0", flow.packet(3).from(from).build(), "drop_zero_port");
        bench.not_pinned();
        bench.sent("plain", flow, &flow.packet(9), 1, flow.found());
        // Too long: its flow lives on, but its sender cannot be told.
        let (input, counters) = (flow.packet(1500).build(), Delta::of(["pass_unhandled"]));
        let description = String::from("too long");
        let output = input.clone();
        bench.check(&super::bench::Fixture { description, input, verdict: 2, output, counters });
        bench.sent("plain", flow, &flow.packet(9), 1, ("forward_pin", NOTHING));
        bench.rig.pass(2000);
        let keeps: Vec<_> = bench.rig.pins();
        assert!(!keeps.is_empty());
        bench.rig.sweep();
        bench.rig.pass(3);
        bench.rig.sweep();
    }
}
