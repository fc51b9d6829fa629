//! The whole balancer on this kernel: whether its verifier takes the programs, how far it has to walk for that, and what
//! becomes of one packet of each kind. Needs root, but neither network nor much time: `cargo xtask vm` runs it on an older
//! kernel as well, whose verifier knows less.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use aya::programs::ProgramInfo;
use lb_common::flow::{self, Timeouts as Limits};
use lb_common::icmp::Problem;
use lb_common::layout::{
    FEATURE_GUE, FEATURE_NAT, FEATURE_PING, FEATURE_RANGES, FEATURE_TAGS, PREFIXES, Slot, TraceFilter, state,
};
use lb_common::reason::Reason;
use lb_laws::wire::{error, hop, untagged};
use lb_userspace::config::limits::{PINS, RING_SIZE, TIMEOUT, default};
use lb_userspace::dataplane::{Abilities, Dataplane, Dry, DryRun, Error, Options, Sizes, Tracing};
use lb_userspace::engine::by_phase;
use lb_userspace::model::Timeouts;
use sluice_tests::kernel;
use sluice_tests::packets::{Packet, too_big, with_byte};
use sluice_tests::rig::{
    Delta, EVERYTHING, INGRESS, PairDelta, Rig, Setup, XDP_DROP, XDP_PASS, XDP_TX, ipip_v4, ipip_v6, l2,
};

/// The verifier walks a million instructions at most, over all ways through the program. A change that comes near is
/// better noticed here than on a kernel that walks a few more.
const MOST_WALKED: u32 = 900_000;

/// What a daemon loads the program with if its config says nothing else.
fn defaults() -> Options {
    Options {
        sizes: Sizes::new(default::RING_SIZE, default::PINS),
        timeouts: flow::one_set(by_phase(&default::TIMEOUTS)),
        test_clock: false,
        ..Rig::options(Rig::small())
    }
}

/// Loads the programs, holds them against the budget, and sends them the packets.
fn check(settings: &str, options: Options) {
    let mut rig = Rig::open_with(options);
    let attached = rig.dataplane.program().unwrap().info().unwrap();
    let called = rig.dataplane.called_program().unwrap().info().unwrap();
    holds_budget(settings, [("attached", attached), ("called", called)]);
    forwards(&mut rig);
}

fn holds_budget<'a>(settings: &str, programs: impl IntoIterator<Item = (&'a str, ProgramInfo)>) {
    for (program, info) in programs {
        let walked = kernel::told_since_5_16(info.verified_instruction_count());
        let [told, translated] = [walked, info.size_translated().map(|bytes| bytes / 8)]
            .map(|count| count.map_or("?".to_owned(), |count| count.to_string()));
        let counts = format!(
            "Linux {}, {settings}, {program}: {told} instructions verified, {translated} translated, {} bytes of machine code\n",
            kernel::release(),
            info.size_jitted(),
        );
        // Not by a macro, whose output the test harness keeps back: the counts are to be seen, and belong into docs/performance.md.
        io::stderr().write_all(counts.as_bytes()).unwrap();
        let is_near = walked.is_some_and(|walked| walked > MOST_WALKED);
        assert!(!is_near, "{settings}, {program}: {told} instructions, {MOST_WALKED} at most");
    }
}

#[test]
fn as_a_daemon_loads_it() {
    check("a daemon's defaults", defaults());
}

#[test]
fn with_the_clock_of_the_tests() {
    check("defaults and the test clock", Options { test_clock: true, ..defaults() });
}

/// Off, the verifier takes its code away; so on is another program.
#[test]
fn with_the_flood_gate() {
    check("the flood gate", Options { flood_gate: 100_000, ..defaults() });
}

#[test]
fn with_records_of_decisions() {
    check("records", Options { records: true, ..defaults() });
    let options = Options { records: true, abilities: everything(), ..defaults() };
    check("records and every ability", options);
}

/// Beside the programs for traffic, over their maps: it says what they then do.
#[test]
fn for_dry_runs() {
    for (settings, options) in [
        ("dry runs", defaults()),
        ("dry runs, every ability", Options { abilities: everything(), ..defaults() }),
    ] {
        let mut rig = Rig::open_with(options);
        // With what all these leave.
        forwards(&mut rig);
        let mut dry = Dry::load(&rig.dataplane.options).unwrap();
        holds_budget(settings, [("dry", dry.program().unwrap().info().unwrap())]);
        let ends = [TCP_V4, TCP_V6, MOVING].map(ends);
        let tcp = ends.into_iter().flat_map(|(from, to)| {
            let packet = Packet::tcp(SocketAddr::new(from.ip(), 50_000), to);
            let going_on = packet.clone().seq(2).ack(1);
            let tagged = going_on.clone().vlan(7);
            [packet.syn(1), going_on.clone(), tagged, going_on.clone().fin(), going_on.rst()]
        });
        let (from, to) = ends[0];
        let udp = [UDP_V4, UDP_V6].map(self::ends);
        let udp = udp.into_iter().map(|(from, to)| Packet::udp(from, to).payload(&[7; 1472]));
        let ping = Packet::ping(from.ip(), to.ip(), 1, 1);
        let others = [ping, Packet::udp(from, to), Packet::tcp(from, to).ack(1).ttl(1)];
        for frame in tcp.chain(udp).chain(others).map(|packet| packet.build()) {
            let DryRun { verdict, bytes, record } = dry.run(&frame, INGRESS, false).unwrap();
            let live = rig.run(&frame);
            assert_eq!((verdict, &bytes), (live.verdict, &live.bytes), "{record:?}");
            let reason = Reason::from_number(record.reason).name();
            assert_eq!(live.delta.reason(reason), 1, "{reason}");
        }
        rig.audit();
    }
}

/// While somebody traces, in the place of the program for traffic. It reads frames by a helper of Linux 5.18; the program for traffic
/// goes on where there is none.
#[test]
fn for_tracing() {
    if kernel::is_before(kernel::PIECES) {
        let mut rig = Rig::open_with(defaults());
        let untraced = rig.dataplane.untraced().unwrap();
        let refused = Tracing::load(&rig.dataplane.options, &untraced).err();
        let refused = format!("{refused:?}");
        assert!(refused.contains("invalid func unknown#189"), "{refused}");
        return forwards(&mut rig);
    }
    for (settings, options) in [
        ("tracing", defaults()),
        ("tracing, every ability", Options { abilities: everything(), ..defaults() }),
        (
            "tracing, pieces",
            Options { abilities: Abilities { frags: true, ..Abilities::default() }, ..defaults() },
        ),
        (
            "tracing, every ability and pieces",
            Options { abilities: Abilities { frags: true, ..everything() }, ..defaults() },
        ),
    ] {
        // Nobody is there, so all goes on to the other program; then everything is shown.
        for is_shown in [false, true] {
            let mut rig = Rig::open_with(options.clone());
            let program = rig.trace().program().unwrap().info().unwrap();
            if is_shown {
                rig.show(0, &EVERYTHING);
                rig.show(1, &TraceFilter { flags: TraceFilter::LATE, verdicts: 1 << XDP_DROP, ..EVERYTHING });
            } else {
                holds_budget(settings, [("attached", program)]);
            }
            forwards(&mut rig);
            let traced = rig.traced();
            let of =
                |tracer: u32| traced.iter().filter(|traced| traced.record.tracers >> tracer & 1 != 0).count();
            // One of them has a wrong checksum.
            let expected = if is_shown { (true, 1) } else { (false, 0) };
            assert_eq!((of(0) > 30, of(1)), expected, "{settings}: {} packets", traced.len());
        }
    }
}

/// Each is code that the verifier takes away where it is off, as the defaults have all of them.
#[test]
fn with_one_ability() {
    for (what, feature) in FEATURES {
        let abilities = Abilities { features: feature, ..Abilities::default() };
        check(what, Options { abilities, ..defaults() });
    }
    check(
        "segment sizes",
        Options { abilities: Abilities { mss: 1440, ..Abilities::default() }, ..defaults() },
    );
    check(
        "prefixes",
        Options { abilities: Abilities { prefixes: prefixes(), ..Abilities::default() }, ..defaults() },
    );
}

#[test]
fn with_all_abilities_but_one() {
    for (what, feature) in FEATURES {
        let abilities = Abilities { features: everything().features & !feature, ..everything() };
        check(&format!("all but {what}"), Options { abilities, ..defaults() });
    }
    check("all but segment sizes", Options { abilities: Abilities { mss: 0, ..everything() }, ..defaults() });
    check(
        "all but prefixes",
        Options { abilities: Abilities { prefixes: Vec::new(), ..everything() }, ..defaults() },
    );
}

#[test]
fn with_every_ability() {
    check("every ability", Options { abilities: everything(), ..defaults() });
    let options = Options { flood_gate: 100_000, test_clock: true, abilities: everything(), ..defaults() };
    check("every ability, the flood gate and the test clock", options);
}

/// Frames in several pieces, which Linux 5.18 and later know; configs that need it are refused before.
#[test]
fn with_frames_in_pieces() {
    let options = Options { abilities: Abilities { frags: true, ..Abilities::default() }, ..defaults() };
    if kernel::is_before(kernel::PIECES) {
        let refused = Dataplane::open(Options { instance: "pieces".to_owned(), ..options }).err();
        assert!(matches!(refused, Some(Error::Program(_))), "{refused:?}");
        return;
    }
    check("pieces", options);
    let options = Options { abilities: Abilities { frags: true, ..everything() }, ..defaults() };
    check("pieces and every ability", options);
}

const FEATURES: [(&str, u32); 5] = [
    ("port ranges", FEATURE_RANGES),
    ("GUE", FEATURE_GUE),
    ("NAT", FEATURE_NAT),
    ("tags", FEATURE_TAGS),
    ("pings", FEATURE_PING),
];

fn everything() -> Abilities {
    Abilities {
        features: FEATURES.iter().fold(0, |all, (_, feature)| all | feature),
        mss: 1440,
        prefixes: prefixes(),
        ..Abilities::default()
    }
}

/// As many as there may be, of both families.
fn prefixes() -> Vec<u8> {
    let lengths = vec![124, 120, 119, 112, 104, 64, 56, 48];
    assert_eq!(lengths.len(), PREFIXES);
    lengths
}

/// Sizes and timeouts are constants to the verifier, which may take a branch for dead or a bound for too wide.
#[test]
fn with_the_least_of_everything() {
    let sizes = Sizes::new(*RING_SIZE.start(), *PINS.start());
    let timeouts = all(*TIMEOUT.start());
    // A clock that stands still: else a pin may end between two packets.
    check("the smallest sizes", Options { sizes, timeouts, test_clock: true, ..defaults() });
}

/// The flow table is that of the defaults: the largest has 4 GiB.
#[test]
fn with_the_largest_rings() {
    let sizes = Sizes { ring_copies: 4, ..Sizes::new(*RING_SIZE.end(), default::PINS) };
    check("the largest rings", Options { sizes, timeouts: all(*TIMEOUT.end()), ..defaults() });
}

fn all(timeout: Duration) -> Limits {
    let udp_gap = timeout;
    let one = Timeouts { half_open: timeout, established: timeout, closing: timeout, udp: timeout, udp_gap };
    flow::one_set(by_phase(&one))
}

const TCP_V4: u16 = 0;
const UDP_V4: u16 = 1;
const TCP_V6: u16 = 2;
const UDP_V6: u16 = 3;
/// Its slots are in handover from host 1 to host 2.
const MOVING: u16 = 4;

/// Client and VIP of a service.
fn ends(service: u16) -> (SocketAddr, SocketAddr) {
    let (from, to) = match service {
        TCP_V4 => ("10.0.0.1:40000", "198.51.100.1:80"),
        UDP_V4 => ("10.0.0.1:40000", "198.51.100.1:53"),
        TCP_V6 => ("[2001:db8:c::1]:40000", "[2001:db8:f::1]:80"),
        UDP_V6 => ("[2001:db8:c::1]:40000", "[2001:db8:f::1]:53"),
        _ => ("10.0.0.1:40000", "198.51.100.1:81"),
    };
    (from.parse().unwrap(), to.parse().unwrap())
}

/// A packet of each kind, with what must come of it, in an order in which each finds what the one before left.
fn forwards(rig: &mut Rig) {
    let mut setup = Setup::new(rig);
    for service in [TCP_V4, UDP_V4, TCP_V6, UDP_V6, MOVING] {
        let protocol = if matches!(service, UDP_V4 | UDP_V6) { 17 } else { 6 };
        setup.service(service, ends(service).1, protocol, u32::from(service == MOVING));
        for host in [1, 2] {
            let backend = match service {
                UDP_V4 => ipip_v4(host),
                UDP_V6 => ipip_v6(host),
                _ => l2(host).into(),
            };
            setup.backend(service, host.into(), backend);
        }
    }
    setup.ring(0, Slot::settled(1)).ring(1, Slot::open(2, 1));
    rig.publish(&setup);

    let tcp = |service| Packet::tcp(ends(service).0, ends(service).1);
    let udp = |service, bytes| Packet::udp(ends(service).0, ends(service).1).payload(&vec![7; bytes]);
    let none = PairDelta::default();
    let began = PairDelta { new_flows: 1, half_open: 1, ..none };
    let began_udp = PairDelta { new_flows: 1, udp: 1, ..none };
    let established = PairDelta { established: 1, ..none };

    for service in [TCP_V4, TCP_V6] {
        sent(rig, tcp(service).syn(7), "forward_new", (service, 1), began);
        sent(rig, tcp(service).syn(7), "forward_syn_again", (service, 1), none);
        let opened = PairDelta { half_open: -1, ..established };
        sent(rig, tcp(service).seq(8).ack(1), "forward_pin", (service, 1), opened);
        sent(rig, tcp(service).seq(8).ack(1).payload(b"data"), "forward_pin", (service, 1), none);
        let closing = PairDelta { established: -1, closing: 1, ..none };
        sent(rig, tcp(service).seq(12).ack(1).fin(), "forward_pin", (service, 1), closing);
        sent(rig, tcp(service).seq(13).ack(2), "forward_pin", (service, 1), none);
    }
    for service in [UDP_V4, UDP_V6] {
        sent(rig, udp(service, 9), "forward_new", (service, 1), began_udp);
        sent(rig, udp(service, 9), "forward_pin", (service, 1), none);
        let frame = udp(service, 1472).build();
        let answer = rig.run(&frame);
        assert_eq!((answer.verdict, answer.delta), (XDP_TX, Delta::of(["answer_too_big"])));
        let mtu = if service == UDP_V4 { 1480 } else { 1460 };
        assert_eq!(answer.bytes, error(&frame, ends(service).1.ip(), Problem::TooBig { mtu }));
    }

    let other = |port| {
        let (from, to) = ends(MOVING);
        Packet::tcp(SocketAddr::new(from.ip(), port), to)
    };
    sent(rig, other(1).seq(5).ack(1), "forward_previous", (MOVING, 1), established);
    sent(rig, other(1).seq(5).ack(1), "forward_pin", (MOVING, 1), none);
    sent(rig, other(2).syn(5), "forward_new", (MOVING, 2), began);
    let reset = PairDelta { half_open: -1, closing: 1, ..none };
    sent(rig, other(2).seq(6).rst(), "forward_pin", (MOVING, 2), reset);

    // What the attached program leaves to the other one.
    let more = |packet: Packet| packet.seq(100).ack(1).payload(b"more");
    sent(rig, more(tcp(TCP_V4)).vlan(7), "forward_pin", (TCP_V4, 1), back_again());
    sent(rig, more(tcp(TCP_V6)).extension(0, &[1, 4, 0, 0, 0, 0]), "forward_pin", (TCP_V6, 1), back_again());
    sent(rig, more(tcp(TCP_V4)).options(&[1; 40]).tag(0x88a8, 7).vlan(8), "forward_pin", (TCP_V4, 1), none);
    for service in [UDP_V4, UDP_V6] {
        let (mut reason, packet) = ("forward_pin", udp(service, 90));
        for frame in packet.fragments(48) {
            sent_frame(rig, frame, reason, (service, 1), none);
            reason = "forward_fragment";
        }
    }
    let spent = tcp(TCP_V4).ack(1).ttl(1).build();
    let answer = rig.run(&spent);
    assert_eq!((answer.verdict, answer.delta), (XDP_TX, Delta::of(["answer_time_exceeded"])));
    assert_eq!(answer.bytes, error(&spent, ends(TCP_V4).1.ip(), Problem::TimeExceeded));
    let answer = rig.run(&with_byte(tcp(TCP_V4).ack(1).build(), 14 + 10, 0));
    assert_eq!((answer.verdict, answer.delta), (XDP_DROP, Delta::of(["drop_checksum"])));

    let (from, to) = ends(TCP_V4);
    let elsewhere = SocketAddr::new(to.ip(), 8080);
    passed(rig, Packet::tcp(from, elsewhere).syn(1).build(), "pass_no_service");
    passed(rig, Packet::tcp(from, elsewhere).syn(1).vlan(7).build(), "pass_no_service");
    // No address is known as a VIP.
    passed(rig, Packet::ping(from.ip(), to.ip(), 1, 1).build(), "pass_icmp");
    let answer = Packet::tcp(to, from).ack(1).payload(&[0; 100]).build();
    passed(rig, too_big(from.ip(), &answer, 1300), "pass_icmp");
    rig.audit();
}

/// Of a flow that was closing.
fn back_again() -> PairDelta {
    PairDelta { established: 1, closing: -1, ..PairDelta::default() }
}

/// Checks that a packet goes to a host of a service for this reason, as the host's backend has it, and what else it changes.
#[track_caller]
fn sent(rig: &mut Rig, packet: Packet, reason: &'static str, to: (u16, u16), change: PairDelta) {
    sent_frame(rig, packet.build(), reason, to, change);
}

#[track_caller]
fn sent_frame(
    rig: &mut Rig,
    frame: Vec<u8>,
    reason: &'static str,
    (service, host): (u16, u16),
    change: PairDelta,
) {
    let answer = rig.run(&frame);
    let frame = untagged(&frame);
    let counters =
        Delta::of([reason]).pair(service, host, PairDelta::packet(frame.len())).pair(service, host, change);
    assert_eq!((answer.verdict, answer.delta), (XDP_TX, counters), "verdict and counters");
    let backend = rig.published().tables.services[&service].backends[&host];
    let (ether_type, added) = match service {
        UDP_V4 => ([0x08, 0x00], 20),
        UDP_V6 => ([0x86, 0xdd], 40),
        _ => ([frame[12], frame[13]], 0),
    };
    let ethernet = [&backend.record.destination_mac[..], &backend.record.source_mac, &ether_type].concat();
    let mut packet = frame[14..].to_vec();
    hop(&mut packet);
    assert_eq!(answer.bytes[..14], ethernet, "Ethernet header");
    assert_eq!(answer.bytes[14 + added..], packet, "IP packet behind {added} bytes of outer header");
}

/// Checks that a frame goes to the kernel untouched, for this reason.
#[track_caller]
fn passed(rig: &mut Rig, frame: Vec<u8>, reason: &'static str) {
    let answer = rig.run(&frame);
    assert_eq!((answer.verdict, answer.delta), (XDP_PASS, Delta::of([reason])));
    assert_eq!(answer.bytes, frame);
}

/// What [`Rig::borrow`] leaves to the next test is as new: else tests would hang together.
#[test]
fn a_borrowed_program_is_left_as_it_came() {
    // Of no other test here.
    let options = Options {
        flood_gate: 99_999,
        test_clock: true,
        abilities: everything(),
        ..Rig::options(Rig::small())
    };
    let id = |rig: &mut Rig| rig.dataplane.program().unwrap().info().unwrap().id();
    let mut first = Rig::borrow(options.clone());
    let (number, counts) = (id(&mut first), first.counts());
    let words: Vec<u64> = (0..state::WORDS).map(|word| first.dataplane.maps.state.load(word)).collect();
    forwards(&mut first);
    assert!(!first.pins().is_empty());
    first.pass(1_000_000);
    first.sweep();
    drop(first);
    let mut second = Rig::borrow(options);
    assert_eq!(id(&mut second), number, "it was loaded again");
    assert_eq!(second.counts(), counts);
    assert_eq!(
        (0..state::WORDS).map(|word| second.dataplane.maps.state.load(word)).collect::<Vec<_>>(),
        words
    );
    assert!(second.pins().is_empty());
    // Nothing is published: everything is for the kernel.
    let vip = "198.51.100.1:80".parse().unwrap();
    let syn = Packet::tcp("10.0.0.1:40000".parse().unwrap(), vip).syn(7);
    assert_eq!(second.run(&syn.build()).verdict, XDP_PASS);
    forwards(&mut second);
}
