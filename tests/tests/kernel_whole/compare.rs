//! The program for traffic, the one that explains decisions and the one that traces, side by side: the same tables, the same packets, the
//! same outcome; and a dry run before each, over the tables of the first.

use std::net::SocketAddr;

use lb_common::layout::{
    AtDeadline, Control, Deadline, FEATURE_PING, FEATURE_RANGES, HOST_NONE, HostState, Policy, ServiceKey,
    Slot, TraceFilter, VipFlags,
};
use lb_common::reason::Reason;
use lb_userspace::dataplane::{Abilities, Dry, Options, Traced};
use sluice_tests::kernel::{PIECES, lacks};
use sluice_tests::packets::{Packet, quote};
use sluice_tests::rig::{Answer, EVERYTHING, INGRESS, Random, Rig, XDP_DROP, l2, stay_on, two_cpus, words};

use super::bench::{Bench, Flow, Mode, TCP, pattern};

const PACKETS: u32 = 10_000;
/// From this packet on, for a while, nobody is there, and no flow is known.
const ALONE: u32 = 4000;

fn bench(records: bool) -> Bench {
    let change = |abilities: &mut Abilities| {
        abilities.features |= FEATURE_PING | FEATURE_RANGES;
        abilities.prefixes = vec![120, 64];
        abilities.mss = 1300;
        abilities.icmp_rate = 50;
    };
    let mut options = Options { records, ..Bench::options() };
    change(&mut options.abilities);
    // A dry run needs the pins of the maps, and so does who traces.
    let rig = if records { Rig::borrow(options) } else { Rig::open_with(options) };
    let mut bench = Bench::on(rig, |backend| backend);
    // Beside services of one port: everything else of two VIPs, and the whole networks of all.
    for (number, vip, prefix, protocol) in [
        (40, "198.51.100.1:1", 128, TCP),
        (41, "[2001:db8:f::1]:1", 128, TCP),
        (42, "198.51.100.0:1", 120, super::bench::UDP),
        (43, "[2001:db8:f::]:1", 64, super::bench::UDP),
    ] {
        let vip: SocketAddr = vip.parse().unwrap();
        let key =
            ServiceKey { prefix, first: 1, last: 50_000, ..ServiceKey::exact(words(vip.ip()), 1, protocol) };
        bench.setup.service(number, vip, protocol, 0).keys(number, vec![key]);
        for host in 1..=3 {
            bench.setup.backend(number, host.into(), lb_userspace::dataplane::BackendTable::from(l2(host)));
        }
        bench.setup.policy(number, if number % 2 == 0 { Policy::CLIENT } else { 0 });
    }
    bench.setup.policy(0, Policy::EDGES).policy(6, Policy::EDGES | Policy::CLIENT);
    bench.setup.policy(7, Policy::PASS).policy(5, Policy::GAP).policy(9, Policy::IMMEDIATE);
    bench.setup.vip("10.0.0.2".parse().unwrap(), 32, VipFlags::NAT_HOST);
    bench.publish();
    bench
}

/// A flow of few, from a number on, so that many packets are of flows that are known.
fn flow(random: &mut Random, first: u16) -> Flow {
    let mode = *random.one_of(&Mode::ALL);
    let mut flow = Flow::of(mode, random.below(4) as u16, first + random.below(12) as u16);
    match random.below(24) {
        0 => flow.to.set_port(*random.one_of(&[0, 40_000, 60_000])),
        1 if !flow.is_v6() => flow.from.set_ip("10.0.0.2".parse().unwrap()),
        2 => flow.from.set_port(0),
        3 => {
            let odd: &[&str] = if flow.is_v6() {
                &["::1", "fe80::1", "ff02::5", "::ffff:1.2.3.4", "2001:db8:f::1"]
            } else {
                &["127.0.0.1", "0.0.0.0", "224.0.0.9", "255.255.255.255", "198.51.100.1"]
            };
            flow.from.set_ip(random.one_of(odd).parse().unwrap());
        }
        _ => {}
    }
    flow
}

/// One of a flow's packets, or about it.
fn packet(random: &mut Random, flow: Flow) -> Packet {
    let payload = *random.one_of(&[0, 0, 1, 8, 100, 500, 1400, 1441, 1460, 1480]);
    let (client, vip) = (flow.from.ip(), flow.to.ip());
    let packet = match random.below(12) {
        0 => Packet::ping(client, vip, 1, random.below(9) as u16).payload(&pattern(payload)),
        1 => Packet::other(client, vip, *random.one_of(&[4, 47, 50, 59, 132])).payload(&pattern(payload)),
        2 | 3 => {
            let from = if random.below(4) == 0 { flow.backend(1) } else { flow.to };
            let about = flow.answer(from, payload).build();
            let kinds: &[u8] = if flow.is_v6() { &[1, 2, 3, 4, 137, 128] } else { &[3, 11, 12, 5, 8, 4] };
            let to = if random.below(4) == 0 { client } else { vip };
            let most = *random.one_of(&[20, 28, 40, 48, 100, 128, 600]);
            Packet::icmp(client, to, [*random.one_of(kinds), 4], [0, 0, 5, 0], quote(&about, most))
        }
        4 => flow.answer(flow.backend(1 + random.below(4) as u8), payload),
        _ if flow.protocol == TCP => {
            let mut packet = Packet::tcp(flow.from, flow.to).seq(random.below(4)).payload(&pattern(payload));
            let flags = *random.one_of(&[0x02, 0x02, 0x10, 0x10, 0x10, 0x11, 0x04, 0x14, 0x00, 0x12, 0x03]);
            if random.below(3) == 0 {
                packet = packet.tcp_options(&[1, 2, 4, random.below(16) as u8, 0, 1, 1, 0]);
            }
            packet.tcp_header(|header| {
                (header.fin, header.syn, header.rst, header.ack) =
                    (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0, flags & 16 != 0);
            })
        }
        _ => flow.packet(payload),
    };
    packet
        .ttl(*random.one_of(&[64, 64, 64, 64, 64, 255, 2, 1, 0]))
        .identification(random.below(8) as u16)
        .traffic_class(*random.one_of(&[0, 0, 1, 0xb8]))
        .dont_fragment(random.below(2) == 0)
}

/// As frames on the wire.
fn frame(random: &mut Random, first: u16) -> Vec<u8> {
    let flow = flow(random, first);
    let mut packet = packet(random, flow);
    for _ in 0..random.below(12).saturating_sub(8) {
        packet = packet.tag(*random.one_of(&[0x8100, 0x88a8]), random.below(4096) as u16);
    }
    if random.below(6) == 0 {
        packet = if flow.is_v6() {
            let content =
                *random.one_of::<&[u8]>(&[&[1, 4, 0, 0, 0, 0], &[0; 14], &[0; 22], &[4, 1, 0, 0, 0, 0]]);
            packet.extension(*random.one_of(&[0, 60, 43, 51, 44]), content)
        } else {
            packet.options(&vec![1; 4 * (1 + random.below(10) as usize)])
        };
    }
    if random.below(40) == 0 {
        let mac = l2(1 + random.below(3) as u8).destination_mac;
        packet = packet.macs(mac, [2, 0, 0, 0, 0, 2]);
    }
    let mut frame = if random.below(6) == 0 {
        packet.part(
            *random.one_of(&[0, 0, 0, 8, 16, 24]),
            *random.one_of(&[8, 16, 64, 1000]),
            random.below(4) != 0,
        )
    } else {
        packet.build()
    };
    match random.below(24) {
        0 => frame.truncate(14 + random.below(frame.len() as u32 - 14) as usize),
        1 | 2 => {
            let at = 12 + random.below((frame.len() as u32 - 12).min(90)) as usize;
            frame[at] ^= 1 << random.below(8);
        }
        3 => frame.extend(vec![0xee; random.below(40) as usize]),
        _ => {}
    }
    frame
}

#[test]
fn both_programs_decide_the_same() {
    if lacks("programs that trace", PIECES) {
        return;
    }
    // Answers are rated by CPU.
    stay_on(two_cpus()[0]);
    let [mut plain, mut record, mut traced] = [bench(false), bench(true), bench(false)];
    traced.rig.trace();
    let mut dry = Dry::load(&plain.rig.dataplane.options).unwrap();
    let mut random = Random(0x5eed_0f5a_11ce);
    let mut shown = 0;
    let mut seen = std::collections::BTreeMap::<&'static str, u32>::new();
    for number in 0..PACKETS {
        if number.is_multiple_of(500) {
            let slots = [Slot::settled(1), Slot::open(2, 1), Slot::settled(2), Slot::open(3, 3)];
            let slot = if number == ALONE { Slot::settled(HOST_NONE) } else { *random.one_of(&slots) };
            let state = *random.one_of(&[HostState::Up, HostState::Draining, HostState::Down]);
            let action = *random.one_of(&[AtDeadline::Keep, AtDeadline::Move, AtDeadline::Reset]);
            let deadline = Deadline { at: 1, action, spread: *random.one_of(&[0, u16::MAX]) };
            let control = Control::new(state).with_deadline(deadline);
            let mtu = *random.one_of(&[1500, 1500, 600, 1280]);
            for bench in [&mut plain, &mut record, &mut traced] {
                bench.rig.pass(1);
                bench.setup.control(1, control).ring(0, slot);
                bench.change(|backend| backend.record.mtu = mtu);
            }
            trace_something(&mut traced.rig, number / 500);
        }
        let first = if (ALONE..ALONE + 500).contains(&number) { 100 } else { 0 };
        let frame = frame(&mut random, first);
        let foreseen = dry.run(&frame, INGRESS, false).unwrap();
        let [one, other, third] =
            [&mut plain, &mut record, &mut traced].map(|bench| bench.rig.run_from(&frame, INGRESS));
        let what = format!("packet {number}: {frame:02x?}");
        for other in [other, third] {
            assert_eq!((one.verdict, &one.delta), (other.verdict, &other.delta), "{what}");
            if one.verdict != XDP_DROP {
                super::bench::same_bytes(&one.bytes, &other.bytes, &what);
            }
        }
        shown += is_shown(&mut traced.rig, &frame, &one, &what);
        let reason = Reason::from_number(foreseen.record.reason).name();
        if one.delta.reasons.contains_key("drop_answer_rate") {
            // It does not ask how many there were.
            assert!(reason.starts_with("answer_"), "{reason}: {what}");
        } else {
            assert_eq!((foreseen.verdict, one.delta.reason(reason)), (one.verdict, 1), "{reason}: {what}");
            if one.verdict != XDP_DROP {
                super::bench::same_bytes(&foreseen.bytes, &one.bytes, &what);
            }
        }
        for &reason in one.delta.reasons.keys() {
            *seen.entry(reason).or_default() += 1;
        }
        if number % 500 == 499 {
            assert_eq!(pins(&plain), pins(&record));
            assert_eq!(pins(&plain), pins(&traced));
            plain.rig.audit();
            record.rig.audit();
            traced.rig.audit();
        }
    }
    assert!(shown > PACKETS / 2, "{shown}");
    // What cannot come of such packets: routes to clients are not there, and pins find their places.
    for reason in Reason::ALL {
        use lb_common::reason::Class;
        let name = reason.name();
        let is_rare = matches!(
            name,
            "pass_unhandled"
                | "forward_reply"
                | "forward_reply_slow"
                | "drop_no_host"
                | "drop_no_next_hop"
                | "drop_no_place"
                | "drop_no_route"
                | "drop_internal"
        );
        if !is_rare && !matches!(reason.class(), Class::Note | Class::Violation) {
            assert!(seen.contains_key(name), "no packet came to {name}");
        }
    }
}

/// Asks for everything, for what a decision tells, for a few, or for nothing, one after the other.
fn trace_something(rig: &mut Rig, turn: u32) {
    match turn % 4 {
        0 => rig.show(0, &EVERYTHING),
        1 => rig.show(0, &TraceFilter { flags: TraceFilter::LATE, keep: 96, ..EVERYTHING }),
        2 => rig.show(0, &TraceFilter { every: 3, ..EVERYTHING }),
        _ => rig.hide(0),
    }
}

/// Packets that were shown for this one, at most one, as it came and as it left.
fn is_shown(rig: &mut Rig, frame: &[u8], answer: &Answer, what: &str) -> u32 {
    let shown = rig.traced();
    let Some(Traced { record, frame_in, frame_out }) = shown.first() else { return 0 };
    assert_eq!(shown.len(), 1, "{what}");
    assert_eq!((record.verdict, record.ingress, record.tracers), (answer.verdict, INGRESS, 1), "{what}");
    let reason = Reason::from_number(record.decision.reason).name();
    assert_eq!(answer.delta.reason(reason), 1, "{reason}: {what}");
    assert_eq!(record.length_in as usize, frame.len(), "{what}");
    assert!(frame.starts_with(frame_in) && frame_in.len() >= frame.len().min(96), "{what}");
    if answer.verdict == XDP_DROP {
        assert!(frame_out.is_empty(), "{what}");
    } else {
        assert_eq!(record.length_out as usize, answer.bytes.len(), "{what}");
        let kept = &answer.bytes[..frame_out.len()];
        super::bench::same_bytes(kept, frame_out, what);
        assert!(frame_out.len() >= answer.bytes.len().min(96), "{what}");
    }
    1
}

/// Pins, wherever in their bucket they lie.
fn pins(
    bench: &Bench,
) -> std::collections::BTreeMap<lb_common::layout::Tuple, (u64, lb_common::layout::Cold)> {
    bench.rig.pins().into_iter().map(|pin| (pin.cold.tuple(), (pin.word.0, pin.cold))).collect()
}
