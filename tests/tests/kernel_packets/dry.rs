//! A dry run foresees what only the making of a pin would show: whether there is a place.

use lb_common::layout::{HostState, Slot};
use lb_userspace::dataplane::{Dry, DryRun};
use sluice_tests::rig::{INGRESS, Rig, XDP_DROP, XDP_TX, l2};

use super::bench::{Bench, Flow};
use super::crowd::{OVERFLOW, PLACES, crowd, small_sizes};

/// Flows of two buckets that fill up, in a slot in handover: the arrays first, then overflow, and then only who is old enough makes room.
#[test]
fn a_full_table_is_foreseen() {
    let mut bench = Bench::on(Rig::open_with(Rig::options(small_sizes())), l2);
    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
    let mut dry = Dry::load(&bench.rig.dataplane.options).unwrap();
    let mut verdicts = [0; 2];
    let foresees = |bench: &mut Bench, dry: &mut Dry, flow: Flow| {
        let frame = flow.syn(1);
        let is_full = bench.rig.dataplane.maps.overflow.iter().count() >= OVERFLOW;
        let before = bench.rig.pins();
        let DryRun { verdict, bytes, .. } = dry.run(&frame, INGRESS, is_full).unwrap();
        assert_eq!(bench.rig.pins(), before);
        assert_eq!((verdict, bytes), bench.rig.run_uncounted(&frame, INGRESS));
        verdict
    };
    let flows = crowd(0, PLACES + OVERFLOW + 8);
    for (number, &flow) in flows.iter().enumerate() {
        let verdict = foresees(&mut bench, &mut dry, flow);
        let fits = number < PLACES + OVERFLOW;
        assert_eq!(verdict, if fits { XDP_TX } else { XDP_DROP }, "flow {number}");
        verdicts[usize::from(fits)] += 1;
    }
    assert_eq!(verdicts, [8, PLACES + OVERFLOW]);
    // Those that never were answered for long make room.
    bench.rig.pass(70);
    for &flow in &flows[PLACES + OVERFLOW..] {
        assert_eq!(foresees(&mut bench, &mut dry, flow), XDP_TX);
    }
    bench.rig.audit();
}
