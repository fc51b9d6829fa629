//! The program that traces on this kernel: who is shown what, how much of it, and what is counted of the rest. That it decides as the one
//! for traffic does is compared in `kernel_whole`. Needs root.

use std::net::SocketAddr;

use aya::maps::MapData;
use aya::programs::ProgramInfo;
use lb_common::layout::{HostId, Slot, TraceCounts, TraceFilter, Tuple, VipFlags};
use lb_common::reason::Reason;
use lb_userspace::dataplane::{Dataplane, Tracing};
use sluice_tests::packets::Packet;
use sluice_tests::rig::{
    EVERYTHING, INGRESS, Rig, Setup, XDP_DROP, XDP_PASS, XDP_TX, l2, stay_on, two_cpus, words,
};

const WEB: u16 = 3;
const DNS: u16 = 4;
const HOST: HostId = 1;

fn vip(port: u16) -> SocketAddr {
    format!("198.51.100.1:{port}").parse().unwrap()
}

fn client(last: u8) -> SocketAddr {
    format!("10.0.0.{last}:40000").parse().unwrap()
}

/// Two services on one host; packets go by the program that traces.
fn rig() -> Rig {
    // Samples are counted by CPU.
    stay_on(two_cpus()[0]);
    let mut rig = Rig::open(Rig::small());
    let mut setup = Setup::new(&rig);
    setup.service(WEB, vip(80), 6, 0).service(DNS, vip(53), 17, 0);
    setup.vip(vip(80).ip(), 32, VipFlags::VIP);
    setup.backend(WEB, HOST, l2(1)).backend(DNS, HOST, l2(1)).ring(0, Slot::settled(HOST));
    rig.publish(&setup);
    rig.trace();
    rig
}

fn ack(last: u8) -> Vec<u8> {
    Packet::tcp(client(last), vip(80)).seq(9).ack(8).payload(b"data").build()
}

fn datagram(last: u8) -> Vec<u8> {
    Packet::udp(client(last), vip(53)).payload(b"question").build()
}

fn elsewhere(last: u8) -> Vec<u8> {
    Packet::tcp(client(last), vip(8080)).syn(1).build()
}

fn prefix(address: &str, bits: u8) -> ([u64; 2], [u64; 2]) {
    let mask = if bits == 128 { [u64::MAX; 2] } else { lb_common::layout::prefix_mask(bits) };
    (words(address.parse().unwrap()), mask)
}

/// Off costs nothing: what is attached while nobody traces could not trace.
#[test]
fn the_program_for_traffic_knows_nothing_of_it() {
    let mut rig = Rig::open(Rig::small());
    let names = |info: ProgramInfo| -> Vec<String> {
        let maps = info.map_ids().unwrap().unwrap();
        let infos = maps.into_iter().map(|number| MapData::from_id(number).unwrap().info().unwrap());
        infos.map(|info| info.name_as_str().unwrap().to_owned()).collect()
    };
    let plain = names(rig.dataplane.program().unwrap().info().unwrap());
    let whole = names(rig.dataplane.called_program().unwrap().info().unwrap());
    let traced = names(rig.trace().program().unwrap().info().unwrap());
    let of = |names: &[String]| names.iter().filter(|name| name.starts_with("TRACE")).count();
    assert_eq!((of(&plain), of(&whole)), (0, 0), "{plain:?} {whole:?}");
    assert_eq!(of(&traced), 5, "{traced:?}");
}

/// A config that is applied and taken back makes a load with the same options, and the program of the one before is not to be called any more.
#[test]
fn it_takes_the_place_of_the_very_program_that_it_was_made_beside() {
    let mut rig = Rig::open(Rig::small());
    let made = |rig: &mut Rig| {
        let untraced = rig.dataplane.untraced().unwrap();
        Tracing::load(&rig.dataplane.options, &untraced).unwrap()
    };
    let (late, tracing) = (made(&mut rig), made(&mut rig));
    let mut again = Dataplane::open(rig.dataplane.options.clone()).unwrap();
    assert_eq!(again.options, rig.dataplane.options);
    assert!(!again.begin_tracing(late).unwrap() && again.tracing().is_none());
    assert!(rig.dataplane.begin_tracing(tracing).unwrap() && rig.dataplane.tracing().is_some());
    rig.dataplane.end_tracing().unwrap();
}

#[test]
fn a_packet_is_shown_as_it_came_and_left_with_its_decision() {
    let mut rig = rig();
    rig.show(0, &TraceFilter { keep: 9216, ..EVERYTHING });
    let frame = ack(1);
    let answer = rig.run(&frame);
    assert_eq!(answer.verdict, XDP_TX);
    let shown = rig.traced();
    let [traced] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((&traced.frame_in, &traced.frame_out), (&frame, &answer.bytes));
    let record = traced.record;
    assert_eq!((record.verdict, record.ingress, record.tracers), (XDP_TX, INGRESS, 1));
    assert_eq!((record.length_in, record.length_out), (frame.len() as u32, frame.len() as u32));
    let decision = record.decision;
    assert_eq!(Reason::from_number(decision.reason).name(), "forward_owner");
    assert_eq!((decision.service, decision.host), (WEB, HOST));
    assert_eq!(decision.tuple.source_port(), 40_000);

    // What is not whole is as long as is said, and what is dropped does not leave.
    rig.show(0, &TraceFilter { keep: 96, ..EVERYTHING });
    let long = Packet::tcp(client(1), vip(80)).seq(9).ack(8).payload(&[7; 1000]).build();
    let martian = Packet::tcp("127.0.0.1:9".parse().unwrap(), vip(80)).syn(1).build();
    let answers = [&long, &martian].map(|frame| rig.run(frame));
    let shown = rig.traced();
    assert_eq!(shown[0].frame_in, long[..96]);
    assert_eq!(shown[0].frame_out, answers[0].bytes[..96]);
    assert_eq!(shown[0].record.length_in, long.len() as u32);
    assert_eq!((shown[1].record.verdict, &shown[1].frame_out[..]), (XDP_DROP, &[][..]));
}

#[test]
fn each_is_shown_what_it_asked_for() {
    let mut rig = rig();
    let (one, whole) = prefix("10.0.0.2", 128);
    let of_client = TraceFilter { client: one, client_mask: whole, ..EVERYTHING };
    let (net, mask) = prefix("198.51.100.0", 120);
    let of_vip =
        TraceFilter { vip: net, vip_mask: mask, first_port: 53, last_port: 53, protocol: 17, ..EVERYTHING };
    let of_service = TraceFilter { service: WEB, flags: TraceFilter::LATE, ..EVERYTHING };
    let bits = 1 << Reason::PassNoService as u32 | 1 << Reason::DropMartian as u32;
    let of_reasons = TraceFilter { reasons: bits, flags: TraceFilter::LATE, ..EVERYTHING };
    for (tracer, filter) in [of_client, of_vip, of_service, of_reasons].iter().enumerate() {
        rig.show(tracer, filter);
    }
    let martian = Packet::tcp("127.0.0.1:9".parse().unwrap(), vip(80)).syn(1).build();
    let tagged = Packet::tcp(client(2), vip(80)).seq(9).ack(8).vlan(7).build();
    let mut not_ip = ack(1);
    not_ip[12..14].copy_from_slice(&[0x08, 0x06]);
    for (what, frame, verdict, tracers) in [
        ("of the service", ack(1), XDP_TX, 0b0100),
        ("of client and service", ack(2), XDP_TX, 0b0101),
        ("of the VIP", datagram(1), XDP_TX, 0b0010),
        ("of client and VIP", datagram(2), XDP_TX, 0b0011),
        ("of client, for no service", elsewhere(2), XDP_PASS, 0b1001),
        ("for no service", elsewhere(1), XDP_PASS, 0b1000),
        // It is dropped before anything is decided for its service.
        ("with the reason", martian, XDP_DROP, 0b1000),
        ("with a tag, by another parser", tagged, XDP_TX, 0b0101),
        ("of nothing", not_ip, XDP_PASS, 0),
    ] {
        assert_eq!(rig.run(&frame).verdict, verdict, "{what}");
        let shown: Vec<u32> = rig.traced().iter().map(|traced| traced.record.tracers).collect();
        let expected: Vec<u32> = (tracers != 0).then_some(tracers).into_iter().collect();
        assert_eq!(shown, expected, "{what}");
    }
    rig.audit();
}

#[test]
fn one_of_many_stands_for_the_others() {
    let mut rig = rig();
    rig.show(2, &TraceFilter { every: 4, ..EVERYTHING });
    for _ in 0..22 {
        rig.run(&ack(1));
    }
    assert_eq!(rig.traced().len(), 6);
    let counts = TraceCounts { wanted: 22, sampled: 16, ..TraceCounts::default() };
    assert_eq!(rig.traced_counts(2), counts);
    assert_eq!(rig.traced_counts(0), TraceCounts::default());
}

#[test]
fn no_more_in_a_second_than_was_asked_for() {
    let mut rig = rig();
    for flags in [0, TraceFilter::LATE] {
        rig.show(1, &TraceFilter { rate: 5, flags, ..EVERYTHING });
        rig.pass(1);
        for _ in 0..20 {
            rig.run(&ack(1));
        }
        assert_eq!(rig.traced().len(), 5);
        rig.pass(1);
        for _ in 0..3 {
            rig.run(&ack(1));
        }
        assert_eq!(rig.traced().len(), 3);
        let counts = TraceCounts { wanted: 23, over_rate: 15, ..TraceCounts::default() };
        assert_eq!(rig.traced_counts(1), counts);
    }
}

#[test]
fn what_the_ring_has_no_room_for_is_counted() {
    let mut rig = rig();
    rig.show(3, &TraceFilter { keep: 9216, ..EVERYTHING });
    let frame = Packet::udp(client(1), vip(53)).payload(&[7; 1400]).build();
    let packets = 2000;
    for _ in 0..packets {
        assert_eq!(rig.run_uncounted(&frame, INGRESS).0, XDP_TX, "whether there is room or not");
    }
    let shown = rig.traced().len() as u64;
    let counts = rig.traced_counts(3);
    assert!((1000..packets).contains(&shown), "{shown}");
    assert_eq!(counts, TraceCounts { wanted: packets, no_room: packets - shown, ..TraceCounts::default() });
    // There is again.
    rig.run(&frame);
    assert_eq!(rig.traced().len(), 1);
}

#[test]
fn who_is_gone_is_shown_nothing() {
    let mut rig = rig();
    rig.show(0, &TraceFilter { until: rig.now() + 2, ..EVERYTHING });
    let run = |rig: &mut Rig| {
        assert_eq!(rig.run(&ack(1)).verdict, XDP_TX);
        rig.traced().len()
    };
    assert_eq!(run(&mut rig), 1);
    rig.pass(2);
    assert_eq!(run(&mut rig), 1);
    // As when the daemon has died.
    rig.pass(1);
    assert_eq!(run(&mut rig), 0);
    rig.show(0, &EVERYTHING);
    assert_eq!(run(&mut rig), 1);
    assert_eq!(rig.traced_counts(0).wanted, 1, "counts begin anew");
    rig.hide(0);
    assert_eq!(run(&mut rig), 0);
}

/// Errors of ICMP are of the flow that they quote, as its client sends it.
#[test]
fn errors_are_of_the_client_whose_flow_they_are_about() {
    let mut rig = rig();
    let (one, whole) = prefix("10.0.0.2", 128);
    rig.show(0, &TraceFilter { client: one, client_mask: whole, ..EVERYTHING });
    let answer = Packet::tcp(vip(80), client(2)).ack(1).payload(&[0; 100]).build();
    let error = sluice_tests::packets::too_big("192.0.2.1".parse().unwrap(), &answer, 1300);
    rig.run(&error);
    let shown = rig.traced();
    let [traced] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!(traced.record.decision.tuple.source, Tuple::v4(u32::from_ne_bytes([10, 0, 0, 2])));
    assert_eq!(traced.frame_in, error[..traced.frame_in.len()]);
}
