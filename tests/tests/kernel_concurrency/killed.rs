//! A daemon that is killed between the end of a pin and its booking: what the memory is like then, and that the next daemon
//! sets it right, also while packets come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use lb_common::layout::{PHASES_COUNTED, Slot};
use lb_common::table::BUCKET;
use lb_userspace::dataplane::Dataplane;
use sluice_tests::rig::{Pin, Place, Setup, XDP_TX, stay_on, two_cpus};

use super::cast::{Cast, Flow};

/// Live pins by number of counters, as shown; those without any are left out.
fn gauges(cast: &Cast) -> BTreeMap<u32, [i64; PHASES_COUNTED]> {
    let pairs = cast.rig.counts().pairs.into_iter().map(|(stats, counters)| (stats, counters.live));
    pairs.filter(|(_, live)| *live != [0; PHASES_COUNTED]).collect()
}

fn every_counter(cast: &Cast) -> Vec<u32> {
    cast.rig.counts().pairs.into_keys().collect()
}

fn pin(cast: &Cast, flow: &Flow) -> Pin {
    cast.rig.pin(&flow.tuple()).expect("the flow has a pin")
}

/// Ends a pin as the sweep does, up to the moment in which it is killed.
fn end_unbooked(cast: &mut Cast, flow: &Flow) {
    match pin(cast, flow).place {
        Place::Home(index) | Place::Second(index) => {
            let mut words = cast.rig.dataplane.maps.hot.get(index / BUCKET);
            words[(index % BUCKET) as usize] = 0;
            cast.rig.dataplane.maps.hot.set(index / BUCKET, words);
        }
        Place::Overflow => {
            cast.rig.dataplane.maps.overflow.remove(&flow.tuple()).expect("the entry is there");
        }
    }
}

/// The next daemon takes over.
fn adopt(cast: &mut Cast) {
    let adopted = Dataplane::open(cast.rig.dataplane.options.clone()).expect("the maps can be adopted");
    assert!(adopted.adopted);
    *cast.rig.dataplane = adopted;
}

/// Flows of each place: home, second bucket, overflow.
fn one_of_each(cast: &Cast, flows: &[Flow]) -> [Flow; 3] {
    let at = |wanted: fn(Place) -> bool| {
        *flows.iter().find(|flow| wanted(pin(cast, flow).place)).expect("there is a flow at such a place")
    };
    [
        at(|place| matches!(place, Place::Home(_))),
        at(|place| matches!(place, Place::Second(_))),
        at(|place| matches!(place, Place::Overflow)),
    ]
}

#[test]
fn the_next_daemon_sets_the_gauges_right() {
    let mut cast = Cast::new(64);
    let flows = cast.flows[..40].to_vec();
    let runner = cast.rig.runner();
    for flow in &flows {
        for frame in [flow.syn(1), flow.ack(2)] {
            assert_eq!(runner.run(&frame).0, XDP_TX);
        }
    }
    cast.rig.audit();
    let right = gauges(&cast);
    let ended = one_of_each(&cast, &flows);
    let marks = cast.rig.marks();
    for flow in &ended {
        end_unbooked(&mut cast, flow);
    }
    // A gauge that is too low, as one that was set right while a pin came.
    let low = Setup::stats(0, flows[39].host(0));
    let mut stats = cast.rig.dataplane.maps.user_stats.get(low);
    stats.left[1] += 1;
    cast.rig.dataplane.maps.user_stats.set(low, stats);
    drop(runner);
    adopt(&mut cast);
    let mut expected = right.clone();
    expected.remove(&low);
    assert_eq!(gauges(&cast), expected, "the gauges of the ended pins are too high, one is too low");
    let stats = every_counter(&cast);
    assert!(cast.rig.dataplane.recount(&stats).expect("pins can be counted").is_empty());
    let mut expected = right;
    for flow in &ended {
        expected.remove(&Setup::stats(0, flow.host(0)));
    }
    assert_eq!(gauges(&cast), expected);
    // Marks may only be too high: then a place is looked at for nothing, but no pin is overlooked.
    assert_eq!(cast.rig.marks(), marks);
    let runner = cast.rig.runner();
    for flow in &flows {
        cast.setup.slot(0, flow.slot, Slot::open(flow.host(1), flow.host(2)));
    }
    cast.rig.publish(&cast.setup);
    for flow in &flows {
        let gone = ended.iter().any(|ended| ended.number == flow.number);
        let (_, out) = runner.run(&flow.ack(2));
        let host = if gone { flow.host(2) } else { flow.host(0) };
        assert_eq!(super::cast::host_of(&out), host, "{flow:?}");
    }
}

/// Gauges that change while they are counted are left alone, to be counted again; the others are set right meanwhile.
#[test]
fn gauges_are_set_right_under_packets() {
    let cpus = two_cpus();
    let mut cast = Cast::new(64);
    let (still, busy) = (cast.flows[..12].to_vec(), cast.flows[12..16].to_vec());
    let runner = cast.rig.runner();
    for flow in &still {
        for frame in [flow.syn(1), flow.ack(2)] {
            assert_eq!(runner.run(&frame).0, XDP_TX);
        }
    }
    let is_over = AtomicBool::new(false);
    let (stats, right) = (every_counter(&cast), gauges(&cast));
    let mut was_busy = false;
    std::thread::scope(|scope| {
        let (is_over, busy) = (&is_over, &busy);
        scope.spawn(move || {
            stay_on(cpus[1]);
            for sequence in (0..).step_by(100) {
                for flow in busy {
                    for frame in [flow.syn(sequence), flow.ack(sequence + 1), flow.fin(sequence + 1)] {
                        runner.run(&frame);
                    }
                }
                if is_over.load(SeqCst) {
                    break;
                }
            }
        });
        for round in 0..20 {
            let flow = &still[round % still.len()];
            let off = Setup::stats(0, flow.host(0));
            let mut counters = cast.rig.dataplane.maps.user_stats.get(off);
            counters.entered[round % PHASES_COUNTED] += 1;
            counters.left[2] += 3;
            cast.rig.dataplane.maps.user_stats.set(off, counters);
            let again = cast.rig.dataplane.recount(&stats).expect("pins can be counted");
            was_busy |= !again.is_empty();
            let is_busy = |stats: u32| busy.iter().any(|flow| stats == Setup::stats(0, flow.host(0)));
            assert!(again.iter().all(|&stats| is_busy(stats)), "{again:?}");
            let shown: BTreeMap<_, _> =
                gauges(&cast).into_iter().filter(|(stats, _)| !is_busy(*stats)).collect();
            assert_eq!(shown, right, "round {round}");
        }
        is_over.store(true, SeqCst);
    });
    assert!(was_busy, "packets came while gauges were counted");
    assert!(cast.rig.dataplane.recount(&stats).expect("pins can be counted").is_empty());
    cast.ends();
}
