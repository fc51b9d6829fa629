//! Records and what is said of them.

use lb_common::decide::PinAction;
use lb_common::flow::{Phase, Word};
use lb_common::layout::{DecisionRecord, HOST_NONE, HostId, Side, Slot, Tuple, Way};
use lb_common::parse::{Signal, What};
use lb_common::reason::{Class, Reason};

use super::*;
use crate::api::types::{Explanation, PacketVerdict};
use crate::dataplane::DryRun;

const NOW: u32 = 1000;

struct Site;

impl Names for Site {
    fn service(&self, number: u16) -> Option<String> {
        (number == 3).then(|| "web".to_owned())
    }

    fn host(&self, number: HostId) -> Option<String> {
        (1..=2).contains(&number).then(|| format!("web-{number}"))
    }

    fn host_state(&self, service: &str, host: &str) -> Option<String> {
        Some(if (service, host) == ("web", "web-2") { "draining" } else { "active" }.to_owned())
    }

    fn forward(&self, _service: &str) -> Option<String> {
        Some("l2".to_owned())
    }

    fn ring(&self, _service: &str, client: std::net::IpAddr) -> (Option<String>, Option<u32>) {
        let is_apart = client == std::net::IpAddr::from([10, 0, 0, 1]);
        (is_apart.then(|| "10.0.0.0/8".to_owned()), Some(7))
    }

    fn stays_open(&self, _ring: u32, slot: u32) -> Option<u64> {
        Some(if slot == 4711 { 12 } else { 0 })
    }

    fn interface(&self, number: u32) -> Option<String> {
        (number < 10).then(|| format!("eth{number}"))
    }

    fn now(&self) -> u32 {
        NOW
    }
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> [u64; 2] {
    Tuple::v4(u32::from_ne_bytes([a, b, c, d]))
}

fn record(reason: Reason, slot: Slot, host: HostId) -> DecisionRecord {
    let ([a, b], [c, d]) = (40_000_u16.to_be_bytes(), 443_u16.to_be_bytes());
    DecisionRecord {
        tuple: Tuple {
            source: v4(198, 51, 100, 7),
            destination: v4(203, 0, 113, 10),
            ports: u32::from_ne_bytes([a, b, c, d]),
            protocol: 6,
        },
        what: What::Flow as u8 + 1,
        side: Side::Client as u8,
        way: Way::Exact as u8,
        signal: Signal::Syn as u8,
        service: 3,
        slot_number: 4711,
        slot: slot.0,
        host,
        reason: reason as u32,
        ..DecisionRecord::default()
    }
}

/// As it is sent to 02:be:00:00:00:01.
fn sent() -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[..6].copy_from_slice(&[2, 0xbe, 0, 0, 0, 1]);
    frame[12] = 8;
    frame[30..34].copy_from_slice(&[203, 0, 113, 10]);
    frame
}

fn run(record: DecisionRecord) -> (Explanation, String) {
    let verdict = match Reason::from_number(record.reason).class() {
        Class::Forward if record.ifindex == 1 => 4,
        Class::Forward | Class::Answer => 3,
        Class::Pass => 2,
        _ => 1,
    };
    let told = tell(&[0; 54], 0, &DryRun { verdict, bytes: sent(), record }, &Site);
    let mut text = format!("{}\n{}\n", words::title(&told), words::outcome(&told));
    for (what, about) in words::details(&told) {
        text += &format!("{what}: {about}\n");
    }
    (told, text)
}

#[test]
fn a_new_flow_of_a_slot_in_handover() {
    let new = DecisionRecord {
        ifindex: 1,
        action: PinAction::Make as u8,
        phase: Phase::HalfOpen as u8,
        ..record(Reason::ForwardNew, Slot::open(1, 2), 1)
    };
    let (told, text) = run(new);
    assert_eq!(
        text,
        "\
tcp 198.51.100.7:40000 -> 203.0.113.10:443, SYN, 54 bytes
It goes to web-1 by l2: out by eth1 to 02:be:00:00:00:01 for 203.0.113.10, 54 bytes.
why: a new flow goes to the owner of its slot (forward_new)
service: web
slot: 4711 of ring 7 belongs to web-1, handed over from web-2 (open for 12 s more, unless web-2 is drained before)
pin: none; one would be made for web-1, half-open
"
    );
    assert_eq!(told.verdict, PacketVerdict::Redirect);
    assert!(told.frame_out.is_some());
}

#[test]
fn a_pinned_flow_of_a_host_that_drains() {
    let word = Word::new(9, 2, Phase::Established, NOW - 5);
    let pinned = DecisionRecord {
        signal: Signal::Ack as u8,
        word: word.0,
        is_live: 1,
        action: PinAction::Refresh as u8,
        phase: Phase::Established as u8,
        ..record(Reason::ForwardPin, Slot::settled(1), 2)
    };
    let (told, text) = run(pinned);
    assert!(text.contains("It goes to web-2 by l2: out by eth0 to"), "{text}");
    assert!(text.contains("slot: 4711 of ring 7 belongs to web-1\n"), "{text}");
    assert!(text.contains("pin: web-2, established, last seen 5 s ago; it would be kept alive\n"), "{text}");
    assert!(text.ends_with("host: web-2 is draining\n"), "{text}");
    assert_eq!(told.pin.unwrap().idle, 5);

    let ends = DecisionRecord { signal: Signal::Fin as u8, phase: Phase::Closing as u8, ..pinned };
    assert!(run(ends).1.contains("; it would become closing\n"));
    let dead = DecisionRecord { is_live: 0, action: PinAction::Leave as u8, ..pinned };
    assert!(run(dead).1.contains("pin: none that counts: established at web-2"));
}

/// Whether it is for a service, for none, or about an answer of a nat backend.
#[test]
fn an_icmp_error_is_not_taken_for_the_packet_that_it_is_about() {
    let flow = "an ICMP error about tcp 198.51.100.7:40000 -> 203.0.113.10:443, 54 bytes\n";
    let error = |reason, side: Side| DecisionRecord {
        what: What::Icmp as u8 + 1,
        side: side as u8,
        way: if side == Side::Client { Way::Exact as u8 } else { 0 },
        signal: Signal::Stray as u8,
        ..record(reason, Slot::settled(1), 1)
    };
    for (reason, side) in [
        (Reason::ForwardIcmp, Side::Client),
        (Reason::PassIcmp, Side::None),
        (Reason::ForwardReply, Side::Backend),
    ] {
        let (told, text) = run(error(reason, side));
        assert!(text.starts_with(flow), "{text}");
        assert_eq!(told.slot.is_some(), side == Side::Client, "{text}");
    }
    // A ping quotes nothing.
    let mut ping = error(Reason::AnswerEcho, Side::None);
    ping.tuple.protocol = 1;
    let (_, text) = run(ping);
    assert!(text.starts_with("icmp 198.51.100.7 -> 203.0.113.10, 54 bytes\n"), "{text}");
}

/// There may be a pin from the flow's beginning, and nobody has looked.
#[test]
fn a_pin_that_was_not_looked_up_is_not_said_to_be_missing() {
    let edges = DecisionRecord {
        way: Way::Edges as u8,
        signal: Signal::Ack as u8,
        ..record(Reason::ForwardOwner, Slot::settled(1), 1)
    };
    let (told, text) = run(edges);
    assert!(text.contains("\npin: not looked up: the service tracks edges\n"), "{text}");
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!((&json["pin"], &json["pin_change"]), (&serde_json::Value::Null, &"not-looked-up".into()));
    let exact = DecisionRecord { way: Way::Exact as u8, action: PinAction::Leave as u8, ..edges };
    assert!(run(exact).1.contains("pin: none, and none is made\n"));
}

#[test]
fn what_nobody_takes() {
    let nobody = record(Reason::AnswerReject, Slot::settled(HOST_NONE), HOST_NONE);
    let (told, text) = run(nobody);
    assert!(text.contains("It is answered: out by eth0 to"), "{text}");
    assert!(text.contains("belongs to nobody"), "{text}");
    assert!(text.contains("pin: none, and none is made"), "{text}");
    assert_eq!((told.owner, told.host), (None, None));

    let stranger = DecisionRecord {
        side: Side::None as u8,
        way: 0,
        slot: 0,
        ..record(Reason::PassNoService, Slot::settled(1), 0)
    };
    let (told, text) = run(stranger);
    assert!(text.starts_with(
        "tcp 198.51.100.7:40000 -> 203.0.113.10:443, 54 bytes\nIt goes to this machine's kernel"
    ));
    assert_eq!((told.service, told.slot, told.host), (None, None, None));

    let (told, text) = run(DecisionRecord { reason: Reason::PassNotIp as u32, ..DecisionRecord::default() });
    assert!(text.starts_with("a frame of 54 bytes\n"), "{text}");
    assert_eq!(told.protocol, None);

    let no_place = record(Reason::DropNoPlace, Slot::open(1, 2), HOST_NONE);
    assert!(run(DecisionRecord { action: PinAction::Make as u8, ..no_place }).1.contains("It is dropped."));
}

#[test]
fn clients_apart_and_names_that_nobody_knows() {
    let mut apart = record(Reason::ForwardNew, Slot::settled(9), 9);
    apart.tuple.source = v4(10, 0, 0, 1);
    apart.service = 5;
    apart.ifindex = 77;
    let (told, text) = run(apart);
    assert!(text.contains("service: ?; clients of 10.0.0.0/8 are treated apart\n"), "{text}");
    assert_eq!(told.owner.as_deref(), Some("?"));
    assert_eq!(told.out.as_deref(), Some("interface 77"));
}

#[test]
fn each_verdict_has_words() {
    for reason in Reason::ALL {
        let is_verdict = !matches!(reason.class(), Class::Note | Class::Violation);
        assert_eq!(why(reason.name()).is_some(), is_verdict, "{}", reason.name());
        if is_verdict {
            let (_, text) = run(record(*reason, Slot::settled(1), 1));
            assert!(text.contains(reason.name()), "{text}");
        }
    }
    assert_eq!(why("forward_in_a_later_version"), None);
}
