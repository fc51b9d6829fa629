//! The way out: what is written, what is kept, and what does not fit.

use lb_common::icmp::Problem;
use lb_common::layout::{Backend, HOST_NONE, Policy, Slot};
use lb_laws::wire::{error, hop};
use lb_userspace::dataplane::BackendTable;
use sluice_tests::packets::Packet;
use sluice_tests::rig::{
    Delta, PairDelta, Rig, XDP_DROP, XDP_REDIRECT, XDP_TX, ipip_v4, ipip_v6, l2, wrapped,
};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Fixture, Flow, NOTHING, TCP, phases, to_l2};

const L3: usize = 14;

/// A packet of a flow with a traffic class and a payload of so many bytes: a datagram, or a segment with the ACK.
fn packet(flow: Flow, traffic_class: u8, payload: usize) -> Packet {
    let packet =
        if flow.protocol == TCP { flow.tcp().seq(9).ack(8) } else { Packet::udp(flow.from, flow.to) };
    let payload: Vec<u8> = (0..payload).map(|byte| byte as u8).collect();
    packet.traffic_class(traffic_class).payload(&payload)
}

/// Reason and changes of a packet of a flow without a pin, in a settled slot.
fn first(flow: Flow) -> (&'static str, PairDelta) {
    if flow.protocol == TCP { ("forward_owner", phases(0, 1, 0)) } else { ("forward_new", BEGAN_UDP) }
}

/// A backend with another record.
fn changed(mut backend: BackendTable, change: impl FnOnce(&mut Backend)) -> BackendTable {
    change(&mut backend.record);
    backend
}

/// The frame in a new Ethernet and IP header, as the backend of host 1 has it.
fn encapsulated(frame: &[u8], to: &BackendTable, traffic_class: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    hop(&mut frame[L3..]);
    // Nothing of it goes by the flow's hash.
    wrapped(&frame, to, traffic_class, 0)
}

#[test]
fn l2_rewrites_the_mac_addresses_and_takes_a_hop_off_and_nothing_else() {
    let mut bench = Bench::new();
    for service in 0..4 {
        for (number, payload) in [0, 1, 2, 7, 8, 63, 512].into_iter().enumerate() {
            let flow = Flow::of(service, number as u32);
            let frame = packet(flow, 0xb9, payload).ttl(2).flow_label(0xabcde).build();
            let (reason, change) = first(flow);
            bench.sent(frame.clone(), reason, 1, change);
            bench.sent(frame, "forward_pin", 1, NOTHING);
        }
    }
    bench.ends_empty();
}

#[test]
fn options_are_stepped_over() {
    let mut bench = Bench::new();
    for service in [0, 1] {
        for words in 1..=10 {
            let flow = Flow::of(service, words as u32);
            let frame = packet(flow, 0, 5).options(&vec![1; words * 4]).build();
            let (reason, change) = first(flow);
            bench.sent(frame.clone(), reason, 1, change);
            assert_eq!(bench.pin(flow).unwrap().cold.tuple(), flow.tuple());
            // The same flow without options.
            bench.sent(packet(flow, 0, 5).build(), "forward_pin", 1, NOTHING);
        }
    }
    // The options are no part of the payload that a FIN's sequence number counts.
    let flow = Flow::of(0, 99);
    let fin = flow.tcp().seq(100).ack(1).fin().payload(&[0; 7]).options(&[1; 8]).tcp_options(&[1; 4]);
    bench.sent(fin.build(), "forward_owner", 1, phases(0, 0, 1));
    assert_eq!(bench.pin(flow).unwrap().cold.sequence, 108);
    bench.ends_empty();
}

/// Of IPv6: what stands between the IP header and ports.
#[test]
fn extension_headers_are_stepped_over() {
    let mut bench = Bench::new();
    let option = [1, 4, 0, 0, 0, 0];
    for (service, payload) in [(2, 0), (3, 0), (2, 7), (3, 7)] {
        let flow = Flow::of(service, payload);
        let packet = || packet(flow, 0xb9, payload as usize);
        let (mut reason, mut change) = first(flow);
        for packet in [
            packet().extension(0, &option),
            packet().extension(43, &[4, 0, 0, 0, 0, 0]),
            packet().extension(60, &[1; 22]),
            packet()
                .extension(0, &option)
                .extension(60, &option)
                .extension(43, &[0; 14])
                .extension(60, &option),
            (0..6).fold(packet(), |packet, _| packet.extension(60, &option)),
        ] {
            let frame = packet.build();
            let output = to_l2(&frame, 1);
            bench.check(&Fixture::transmit("extended", frame, output, (reason, service, 1), change));
            (reason, change) = ("forward_pin", NOTHING);
        }
        assert_eq!(bench.pin(flow).unwrap().cold.tuple(), flow.tuple());
    }
    // The headers are no part of the payload that a FIN's sequence number counts.
    let flow = Flow::of(2, 99);
    let frame = flow.tcp().seq(100).ack(1).fin().payload(&[0; 7]).extension(60, &[1; 14]).build();
    let output = to_l2(&frame, 1);
    let sent = ("forward_owner", 2, 1);
    bench.check(&Fixture::transmit("a FIN", frame, output, sent, phases(0, 0, 1)));
    assert_eq!(bench.pin(flow).unwrap().cold.sequence, 108);
    bench.ends_empty();
}

/// A frame leaves without the tags that it came with.
#[test]
fn tags_are_taken_off() {
    let mut bench = Bench::new();
    for service in 0..4 {
        let flow = Flow::of(service, 1);
        let (mut reason, mut change) = first(flow);
        let packet = || packet(flow, 0, 11);
        for packet in [packet().vlan(7), packet().vlan(0), packet().tag(0x88a8, 7).vlan(8), packet()] {
            let frame = packet.build();
            bench.sent(frame, reason, 1, change);
            (reason, change) = ("forward_pin", NOTHING);
        }
    }
    bench.ends_empty();
}

/// Later fragments have no ports, and go where the first one went, even when its flow would go elsewhere by now.
#[test]
fn fragments_follow_their_first_one() {
    let modes: [fn(u8) -> BackendTable; 3] = [|host| l2(host).into(), ipip_v4, ipip_v6];
    for (mode, backend) in modes.into_iter().enumerate() {
        let mut bench = Bench::with(Rig::small(), backend);
        for service in 0..4 {
            let flow = Flow::of(service, 1);
            let (mut reason, mut change) = first(flow);
            for (number, frame) in packet(flow, 0xb9, 90).fragments(48).into_iter().enumerate() {
                let output =
                    if mode == 0 { to_l2(&frame, 1) } else { encapsulated(&frame, &backend(1), 0xb9) };
                let description = format!("mode {mode}, service {service}, fragment {number}");
                bench.check(&Fixture::transmit(description, frame, output, (reason, service, 1), change));
                (reason, change) = ("forward_fragment", NOTHING);
                bench.slots(Slot::settled(2));
            }
            bench.slots(Slot::settled(1));
            // Of another packet.
            let other = packet(flow, 0, 90).identification(0x4321).fragments(48).pop().unwrap();
            bench.check(&Fixture::pass("of another packet", other, "pass_fragment"));
        }
        bench.ends_empty();
    }
}

/// What would come back for ever, or has come too far.
#[test]
fn hops_end_here_and_loops_are_cut() {
    let mut bench = Bench::new();
    for service in 0..4 {
        let flow = Flow::of(service, 1);
        for ttl in [0, 1] {
            let frame = packet(flow, 0, 99).ttl(ttl).build();
            let output = error(&frame, flow.to.ip(), Problem::TimeExceeded);
            let counted = "answer_time_exceeded";
            bench.check(&Fixture::answer(format!("TTL {ttl}"), frame, output, counted, service, NOTHING));
        }
        bench.not_pinned(flow);
        let looped = packet(flow, 0, 9).macs([0x02, 0xbe, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).build();
        let (_, change) = first(flow);
        bench.dropped(looped, Delta::of(["drop_loop"]).pair(service, 1, change));
        bench.sent(packet(flow, 0, 9).ttl(2).build(), "forward_pin", 1, NOTHING);
    }
    bench.ends_empty();
}

#[test]
fn padding_is_kept() {
    let modes: [fn(u8) -> BackendTable; 3] = [|host| l2(host).into(), ipip_v4, ipip_v6];
    for (mode, backend) in modes.into_iter().enumerate() {
        let mut bench = Bench::with(Rig::small(), backend);
        for service in 0..4 {
            let flow = Flow::of(service, 1);
            let frame = [&packet(flow, 0, 1).build()[..], &[0xee; 5]].concat();
            let output = if mode == 0 { to_l2(&frame, 1) } else { encapsulated(&frame, &backend(1), 0) };
            let (reason, change) = first(flow);
            let description = format!("mode {mode}, service {service}");
            bench.check(&Fixture::transmit(description, frame, output, (reason, service, 1), change));
        }
        bench.ends_empty();
    }
}

#[test]
fn ip_in_ip_is_exact() {
    let modes: [fn(u8) -> BackendTable; 2] = [ipip_v4, ipip_v6];
    for backend in modes {
        let mut bench = Bench::with(Rig::small(), backend);
        for service in 0..4 {
            for (number, traffic_class) in [0, 1, 2, 3, 0x28, 0xb8, 0xff].into_iter().enumerate() {
                for payload in [0, 1, 1000] {
                    let flow = Flow::of(service, (number * 10_000 + payload) as u32);
                    let frame = packet(flow, traffic_class, payload).build();
                    let output = encapsulated(&frame, &backend(1), traffic_class);
                    let (reason, change) = first(flow);
                    let description = format!("service {service}, class {traffic_class}, payload {payload}");
                    bench.check(&Fixture::transmit(description, frame, output, (reason, service, 1), change));
                }
            }
        }
        bench.ends_empty();
    }
}

/// At the MTU it fits, one byte more does not: the flow lives on, and its sender is told what would fit. A balancer without an
/// address of its own speaks for the VIP.
#[test]
fn what_does_not_fit_is_answered() {
    let modes: [fn(u8) -> BackendTable; 3] = [|host| l2(host).into(), ipip_v4, ipip_v6];
    for (backend, added) in modes.into_iter().zip([0, 20, 40]) {
        let small = |host| changed(backend(host), |record| record.mtu = 1280);
        let mut bench = Bench::with(Rig::small(), small);
        for service in 0..4 {
            let headers = [40, 28, 60, 48][usize::from(service)];
            let flow = Flow::of(service, 1);
            let too_long = packet(flow, 0, 1281 - added - headers).build();
            assert_eq!(too_long.len(), L3 + 1281 - added);
            let (reason, change) = first(flow);
            let output = error(&too_long, flow.to.ip(), Problem::TooBig { mtu: 1280 - added as u16 });
            let description = format!("too long, {added} more");
            bench.check(&Fixture::answer(description, too_long, output, "answer_too_big", service, change));
            let frame = packet(flow, 0, 1280 - added - headers).build();
            // Padding is no part of the packet.
            let frame = [&frame[..], &[0; 30]].concat();
            let output = if added == 0 { to_l2(&frame, 1) } else { encapsulated(&frame, &small(1), 0) };
            let description = format!("{reason}, {added} more");
            let counts = ("forward_pin", service, 1);
            bench.check(&Fixture::transmit(description, frame, output, counts, NOTHING));
        }
        bench.ends_empty();
    }
}

/// An MTU below the outer header's size must not wrap around.
#[test]
fn no_packet_fits_an_mtu_of_nothing() {
    for mtu in [0, 19, 20, 39, 40] {
        let mut bench = Bench::with(Rig::small(), |host| changed(ipip_v6(host), |record| record.mtu = mtu));
        let flow = Flow::of(1, 1);
        let datagram = flow.datagram();
        let output = error(&datagram, flow.to.ip(), Problem::TooBig { mtu: mtu.saturating_sub(40) });
        bench.check(&Fixture::answer(format!("MTU {mtu}"), datagram, output, "answer_too_big", 1, BEGAN_UDP));
    }
}

#[test]
fn a_backend_without_a_next_hop_gets_nothing() {
    let mut bench = Bench::with(Rig::small(), |host| Backend { flags: 0, ..l2(host) });
    for service in 0..4 {
        let flow = Flow::of(service, 1);
        let change = if service.is_multiple_of(2) { BEGAN } else { BEGAN_UDP };
        bench.dropped(flow.first(), Delta::of(["drop_no_next_hop"]).pair(service, 1, change));
    }
    // The pins were made; when the next hop is known, the flows go on.
    for service in 0..4 {
        bench.setup.backend(service, 1, l2(1));
    }
    bench.publish();
    bench.sent(Flow::of(0, 1).syn(1000), "forward_syn_again", 1, NOTHING);
    bench.sent(Flow::of(3, 1).datagram(), "forward_pin", 1, NOTHING);
    bench.ends_empty();
}

#[test]
fn a_ring_without_hosts_rejects_what_is_new_and_drops_the_rest() {
    let mut bench = Bench::new();
    bench.slots(Slot::settled(HOST_NONE));
    for service in 0..4 {
        let flow = Flow::of(service, 1);
        bench.rejected(flow.first());
        if service.is_multiple_of(2) {
            for frame in [flow.ack(1), flow.fin(1, b""), flow.rst(1)] {
                bench.dropped(frame, Delta::of(["drop_no_host"]));
            }
        }
    }
    assert_eq!(bench.rig.pins(), []);
    // No owner, but a previous one: it keeps its flows and gets no new ones.
    bench.slots(Slot::open(HOST_NONE, 2));
    let flow = Flow::of(0, 1);
    bench.rejected(flow.syn(1));
    bench.sent(flow.ack(1), "forward_previous", 2, phases(0, 1, 0));
    bench.rejected(Flow::of(1, 1).datagram());
    // A host that leaves no other to choose has to be the kernel's, if the service says so.
    bench.slots(Slot::settled(HOST_NONE));
    for service in 0..4 {
        bench.setup.policy(service, Policy::PASS);
    }
    bench.publish();
    for service in 0..4 {
        let frame = Flow::of(service, 7).first();
        bench.check(&Fixture::pass("nobody is there", frame, "pass_no_host"));
    }
    bench.ends_empty();
}

/// A network namespace of the calling thread's own, with a pair of veths; the thread's end removes it.
fn with_veths(test: impl FnOnce(u32, u32) + Send) {
    std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let ip = |arguments: &str| {
                let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
                assert!(status.success(), "ip {arguments}");
            };
            ip("link add first type veth peer name second");
            let index = |name| nix::net::if_::if_nametoindex(name).unwrap();
            test(index("first"), index("second"));
        });
        test.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn another_interface_is_redirected_to() {
    with_veths(|first, second| {
        let mut bench =
            Bench::with(Rig::small(), |host| changed(ipip_v4(host), |record| record.ifindex = first));
        let flow = Flow::of(0, 1);
        let backend = ipip_v4(1);
        for (ingress, verdict, change) in
            [(second, XDP_REDIRECT, phases(0, 1, 0)), (first, XDP_TX, NOTHING), (1, XDP_REDIRECT, NOTHING)]
        {
            let frame = flow.ack(1);
            let answer = bench.rig.run_from(&frame, ingress);
            let reason = if change == NOTHING { "forward_pin" } else { "forward_owner" };
            let counters = Delta::of([reason]).pair(0, 1, PairDelta::packet(frame.len())).pair(0, 1, change);
            assert_eq!(answer.delta, counters, "from {ingress}");
            assert_eq!(answer.verdict, verdict, "from {ingress}");
            assert_eq!(answer.bytes, encapsulated(&frame, &backend, 0), "from {ingress}");
        }
        // The interface goes, and the kernel takes it out of the map: such a packet was not forwarded, and is not
        // counted as if it were.
        assert!(std::process::Command::new("ip").args(["link", "del", "first"]).status().unwrap().success());
        let answer = bench.rig.run(&flow.ack(1));
        assert_eq!(answer.delta, Delta::of(["drop_internal"]));
        assert_eq!(answer.verdict, XDP_DROP);
        bench.ends_empty();
    });
}

/// The kernel replaces an entry by taking it out first, so a packet on another CPU would find no way out.
#[test]
fn a_way_out_that_is_there_is_not_put_in_anew() {
    with_veths(|first, second| {
        let mut bench =
            Bench::with(Rig::small(), |host| changed(ipip_v4(host), |record| record.ifindex = first));
        let setup = bench.rig.published().clone();
        // It tells whether it was replaced by where it leads.
        for (found, expected) in [(Some(second), second), (None, first)] {
            let egress = &mut bench.rig.dataplane.maps.egress;
            match found {
                Some(found) => egress.insert(first, found, None, 0).unwrap(),
                None => egress.remove(first).unwrap(),
            }
            bench.rig.publish(&setup);
            let leads_to = bench.rig.dataplane.maps.egress.get(first, 0).unwrap().if_index;
            assert_eq!(leads_to, expected, "where there was {found:?}");
        }
        bench.ends_empty();
    });
}
