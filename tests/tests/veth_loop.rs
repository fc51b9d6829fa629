//! The veth benchmark itself: that everything it compares forwards what it is sent. Not for figures.

use std::time::Duration;

use sluice_tests::bench::veth::{VethOptions, run};
use sluice_tests::topology::leftovers;

#[test]
fn all_that_is_compared_forwards_every_packet_and_nothing_is_left() {
    let options =
        VethOptions { rounds: 1, time: Duration::ZERO, frames: 100_000, flows: vec![1, 5000], pins: 65_536 };
    let report = run(&options, |_| ()).unwrap();
    assert_eq!((report.rounds, report.rows.len()), (1, 14));
    for row in &report.rows {
        assert!(row.lost < 0.01, "{row:?}");
        assert!(row.ns > 1.0, "{row:?}");
    }
    assert_eq!(leftovers(), Vec::<String>::new());
}
