//! What a listing of the flows shows, and what its filters take.

use lb_common::flow::Phase;
use lb_common::layout::Slot;
use lb_userspace::dataplane::FlowFilter;

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, phases};

/// Source ports of the flows that a filter takes, page by page of `limit`, in order.
fn listed(bench: &Bench, filter: FlowFilter, limit: usize) -> Vec<u16> {
    let (mut ports, mut cursor) = (Vec::new(), 0);
    loop {
        let page = bench.rig.dataplane.flows(&filter, cursor, limit);
        assert!(page.flows.len() <= limit || page.next.is_none());
        ports.extend(page.flows.iter().map(|flow| flow.tuple.source_port()));
        match page.next {
            Some(next) => {
                assert!(next > cursor);
                cursor = next;
            }
            None => break,
        }
    }
    ports.sort_unstable();
    ports
}

#[test]
fn filters_take_what_fits_on_every_page() {
    let mut bench = Bench::new();
    // 0 to 9 at host 1, 10 to 14 at host 2 and established since 20 s, 15 to 19 by UDP, 20 and 21 by IPv6.
    for number in 0..10 {
        bench.sent(Flow::of(0, number).syn(1), "forward_new", 1, BEGAN);
    }
    bench.slots(Slot::settled(2));
    for number in 10..15 {
        bench.sent(Flow::of(0, number).ack(1), "forward_owner", 2, phases(0, 1, 0));
    }
    bench.rig.pass(20);
    bench.sent(Flow::of(0, 12).ack(2), "forward_pin", 2, phases(0, 0, 0));
    for number in 15..20 {
        bench.sent(Flow::of(1, number).datagram(), "forward_new", 2, BEGAN_UDP);
    }
    for number in 20..22 {
        bench.sent(Flow::of(2, number).syn(1), "forward_new", 2, BEGAN);
    }
    let any = FlowFilter::default();
    let cases: [(&str, FlowFilter, Vec<u16>); 10] = [
        ("all", any, (0..22).collect()),
        ("host", FlowFilter { host: Some(1), ..any }, (0..10).collect()),
        ("nobody", FlowFilter { host: Some(3), ..any }, vec![]),
        ("service", FlowFilter { service: Some(1), ..any }, (15..20).collect()),
        ("phase", FlowFilter { phase: Some(Phase::Established), ..any }, (10..15).collect()),
        ("idle", FlowFilter { min_idle: 20, host: Some(2), ..any }, vec![10, 11, 13, 14]),
        ("age", FlowFilter { min_age: 20, host: Some(2), ..any }, (10..15).collect()),
        ("older than all", FlowFilter { min_age: 21, ..any }, vec![]),
        ("IPv4", FlowFilter { client: Some("10.0.0.0/16".parse().unwrap()), ..any }, (0..20).collect()),
        ("IPv6", FlowFilter { client: Some("2001:db8:c::/128".parse().unwrap()), ..any }, vec![20, 21]),
    ];
    for (what, filter, numbers) in cases {
        let ports: Vec<u16> = numbers.iter().map(|number| 1024 + number).collect();
        for limit in [1, 3, 1000] {
            assert_eq!(listed(&bench, filter, limit), ports, "{what}, {limit} a page");
        }
    }
    bench.ends_empty();
}
