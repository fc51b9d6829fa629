//! Pins that the daemon ends, wherever they lie: the books agree, and the flows of other hosts are left alone.

use lb_common::flow::Phase;
use lb_common::layout::Slot;
use lb_userspace::dataplane::EndCause;
use sluice_tests::rig::Setup;

use super::crowd::{OVERFLOW, PLACES, crowd, small_table};

#[test]
fn all_pins_of_a_host_are_ended_and_booked() {
    use EndCause::{Kicked, Moved, Reset};
    for (service, cause) in [(0, Reset), (0, Moved), (3, Reset), (0, Kicked), (3, Kicked)] {
        let mut bench = small_table();
        // In the home bucket, the second one and the overflow map, one of each in other hands.
        let flows = crowd(service, PLACES + OVERFLOW);
        let others = [0, PLACES - 1, PLACES + OVERFLOW - 1];
        for (number, flow) in flows.iter().enumerate() {
            bench.slots(Slot::settled(if others.contains(&number) { 2 } else { 1 }));
            bench.rig.run(&flow.first());
        }
        let live = (PLACES + OVERFLOW - others.len()) as u64;
        let counters = |bench: &super::bench::Bench| {
            bench.rig.dataplane.pair_counters(Setup::stats(service, 1)).expect("counters can be read")
        };
        assert_eq!(counters(&bench).live.iter().sum::<i64>() as u64, live);
        let ended = bench.rig.dataplane.end(None, 1, cause).expect("the table can be walked");
        assert_eq!((ended.total(), ended.overflow), (live, OVERFLOW as u64 - 1));
        // Gauges, marks and places are as the pins say.
        bench.rig.audit();
        let after = counters(&bench);
        let (silent, kicked) = if cause == Kicked { (0, live) } else { (live, 0) };
        assert_eq!((after.live, after.silent, after.kicked), ([0; 4], silent, kicked));
        assert_eq!((after.moved, after.reset), (0, 0));
        for (number, flow) in flows.iter().enumerate() {
            let pin = bench.rig.pin(&flow.tuple());
            let found = pin.map(|pin| (pin.word.host(), pin.word.phase()));
            let first = if service == 0 { Phase::HalfOpen } else { Phase::Udp };
            let expected = match others.contains(&number) {
                true => Some((2, first)),
                false if cause != Moved && service == 0 => Some((1, Phase::Reset)),
                false => None,
            };
            assert_eq!(found, expected, "flow {number} of service {service}");
        }
        assert_eq!(bench.rig.dataplane.end(None, 1, cause).expect("once more").total(), 0);
        bench.ends_empty();
    }
}
