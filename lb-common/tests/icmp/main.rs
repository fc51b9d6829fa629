//! ICMP from whole packets of both families: what errors are about, replies to pings, and the balancer's own errors.

mod packets;

use std::net::IpAddr;

use lb_common::icmp::{Kind, LONG, NoFlow, Problem, Quoted, SHORT_V4, SHORT_V6, may_answer_packet};
use lb_common::parse::L3;
use lb_laws::icmp as laws;
use proptest::prelude::*;

use packets::{Ip, addresses, sent};

fn router(for_v6: bool) -> IpAddr {
    if for_v6 { "2001:db8:99::1".parse().unwrap() } else { "203.0.113.9".parse().unwrap() }
}

/// Types and codes of errors.
fn errors(is_v6: bool) -> &'static [(u8, u8)] {
    if is_v6 {
        &[(1, 0), (1, 3), (1, 4), (2, 0), (3, 0), (4, 1)]
    } else {
        &[(3, 1), (3, 3), (3, 4), (11, 0), (12, 0)]
    }
}

fn error(sent: &Ip, error: usize, options: usize, quote: usize) -> Ip {
    let is_v6 = sent.source.is_ipv6();
    let errors = errors(is_v6);
    let (kind, code) = errors[error % errors.len()];
    let packet = sent.bytes();
    let mut error = Ip::error(router(is_v6), sent.source, kind, code, &packet[..quote.min(packet.len())]);
    error.options = options;
    error
}

/// What is made of a frame whose IP packet is `ip`.
fn look(ip: &Ip, frame: &[u8]) -> (Kind, Result<Quoted, NoFlow>) {
    laws::look(frame, L3 + ip.header_len(), ip.source.is_ipv6())
}

proptest! {
    #[test]
    fn an_error_leads_back_to_its_flow((sent, tuple) in sent(), number: usize, options in 0usize..=10, more in 8usize..300) {
        let error = error(&sent, number, options, sent.header_len() + more);
        let frame = error.frame();
        let ip = L3 + error.header_len() + 8;
        let expected = Quoted { tuple, ip, l4: ip + sent.header_len() };
        prop_assert_eq!(look(&error, &frame), (Kind::Error, Ok(expected)));
        laws::check(&frame);
    }

    /// At every length: of the frame, of the packet, and of the packet in a frame with something behind it.
    #[test]
    fn what_is_cut_off_is_missed((sent, tuple) in sent(), options in 0usize..=10) {
        let error = error(&sent, 0, options, usize::MAX);
        let frame = error.frame();
        let l4 = L3 + error.header_len();
        let ip = l4 + 8;
        for len in 0..frame.len() {
            let kind = if len < l4 + 8 { Kind::Truncated } else { Kind::Error };
            prop_assert_eq!(look(&error, &frame[..len]), (kind, Err(NoFlow::Truncated)), "a frame of {} bytes", len);
            laws::check(&frame[..len]);
        }
        let whole = sent.bytes();
        for quote in 0..whole.len() {
            let short = Ip { payload: error.payload[..8 + quote].to_vec(), ..error.clone() };
            let expected = if quote >= sent.header_len() + 8 {
                Ok(Quoted { tuple, ip, l4: ip + sent.header_len() })
            } else {
                Err(NoFlow::Truncated)
            };
            prop_assert_eq!(look(&short, &short.frame()), (Kind::Error, expected), "{} bytes quoted", quote);
            let padded = [short.frame(), whole[quote..].to_vec()].concat();
            prop_assert_eq!(look(&short, &padded), (Kind::Error, expected), "{} bytes quoted, padded", quote);
            laws::check(&padded);
        }
    }

    /// The laws hold for frames of which some bytes are others.
    #[test]
    fn changed_errors_keep_the_laws(
        (sent, _) in sent(),
        number: usize,
        options in 0usize..=10,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut frame = error(&sent, number, options, usize::MAX).frame();
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        laws::check(&frame);
    }

    #[test]
    fn a_ping_is_answered((vip, client) in addresses(), data in prop::collection::vec(any::<u8>(), 0..200), more in 0usize..20) {
        let (request, reply) = if vip.is_ipv4() { (8, 0) } else { (128, 129) };
        let ping = Ip::icmp(client, vip, [request, 0], [0x12, 0x34, 0, 9], &data);
        let padding = vec![0x55; more];
        let frame = [ping.frame(), padding.clone()].concat();
        prop_assert_eq!(look(&ping, &frame).0, Kind::Echo);
        laws::check(&frame);
        let mut expected = Ip::icmp(vip, client, [reply, 0], [0x12, 0x34, 0, 9], &data).frame();
        expected[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7]);
        expected.extend(padding);
        // 0 and 0xffff are one number.
        let sum_at = L3 + ping.header_len() + 2;
        if expected[sum_at..sum_at + 2] == [0; 2] {
            expected[sum_at..sum_at + 2].fill(0xff);
        }
        // The hop limit of what the test makes is 61.
        let mut answer = laws::reply_to(&frame, vip.is_ipv6()).unwrap();
        let ttl_at = L3 + if vip.is_ipv4() { 8 } else { 7 };
        prop_assert_eq!(answer[ttl_at], 64);
        answer[ttl_at] = 61;
        if vip.is_ipv4() {
            answer[L3 + 10..L3 + 12].copy_from_slice(&[0; 2]);
            let sum = packets::checksum(&answer[L3..L3 + 20]);
            answer[L3 + 10..L3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
        prop_assert_eq!(answer, expected);
        for len in 0..L3 + ping.header_len() + 8 {
            prop_assert_eq!(laws::reply_to(&frame[..len], vip.is_ipv6()), None);
        }
    }

    /// A client's packet of any length gets an answer that quotes as much as is fixed.
    #[test]
    fn what_does_not_fit_is_answered(
        (vip, client) in addresses(),
        options in 0usize..=10,
        payload in prop::collection::vec(any::<u8>(), 8..1400),
        mtu: u16,
        padding in 0usize..20,
    ) {
        let packet = Ip { options, ..Ip::new(client, vip, 17, &payload) };
        let len = packet.bytes().len();
        let frame = [packet.frame(), vec![0x77; padding]].concat();
        let (short, added) = if vip.is_ipv4() { (SHORT_V4, 28) } else { (SHORT_V6, 48) };
        let quote = match len {
            LONG.. => Some(LONG),
            _ if vip.is_ipv4() && options > 0 => None,
            _ => Some(short),
        };
        for problem in [Problem::TooBig { mtu }, Problem::TimeExceeded] {
            let answer = laws::answer(&frame, problem);
            prop_assert_eq!(answer.as_ref().map(Vec::len), quote.map(|quote| L3 + added + quote));
            if let Some(answer) = answer {
                laws::check_answer(&frame, &answer, problem);
                // The client's side finds its own flow in it: the service there is the client.
                let l4 = L3 + added - 8;
                let (kind, found) = laws::look(&answer, l4, vip.is_ipv6());
                prop_assert_eq!(kind, Kind::Error);
                let found = found.unwrap().tuple;
                prop_assert_eq!((found.source, found.destination), (packets::words(vip), packets::words(client)));
                prop_assert_eq!(found.source_port().to_be_bytes(), &payload[2..4]);
                prop_assert_eq!(found.destination_port().to_be_bytes(), &payload[..2]);
            }
        }
    }
}

const VIP_V4: &str = "198.51.100.1";
const VIP_V6: &str = "2001:db8:ff::1";
const CLIENT_V4: &str = "192.0.2.77";
const CLIENT_V6: &str = "2001:db8:c::77";

fn pair(is_v6: bool) -> (IpAddr, IpAddr) {
    let (vip, client) = if is_v6 { (VIP_V6, CLIENT_V6) } else { (VIP_V4, CLIENT_V4) };
    (vip.parse().unwrap(), client.parse().unwrap())
}

/// A packet of the service with 40 bytes of payload.
fn plain(is_v6: bool, protocol: u8) -> Ip {
    let (vip, client) = pair(is_v6);
    Ip::new(vip, client, protocol, &[0x11; 40])
}

fn flow_of(sent: &Ip) -> Result<Quoted, NoFlow> {
    let error = error(sent, 0, 0, usize::MAX);
    look(&error, &error.frame()).1
}

#[test]
fn what_leads_to_no_flow_is_told_apart() {
    for is_v6 in [false, true] {
        for protocol in [4, 41] {
            assert_eq!(flow_of(&plain(is_v6, protocol)), Err(NoFlow::Tunnel));
        }
        for protocol in [1, 58, 132, 51, 59, 255] {
            assert_eq!(flow_of(&plain(is_v6, protocol)), Err(NoFlow::OtherProtocol), "protocol {protocol}");
        }
        let extensions = if is_v6 { vec![(44, 0)] } else { Vec::new() };
        let later = Ip { fragment_offset: 3, more_fragments: true, extensions, ..plain(is_v6, 17) };
        assert_eq!(flow_of(&later), Err(NoFlow::Fragment));
        let first = Ip { fragment_offset: 0, ..later };
        assert!(flow_of(&first).is_ok());

        // For another address than the quoted packet's source.
        let sent = plain(is_v6, 6);
        let mut error = error(&sent, 0, 0, usize::MAX);
        error.destination = sent.destination;
        assert_eq!(look(&error, &error.frame()).1, Err(NoFlow::Foreign));

        // The other family's version, and an IPv4 header of 16 bytes.
        for first in [if is_v6 { 0x45 } else { 0x60 }, 0x44, 0x05] {
            let error = Ip::error(router(is_v6), sent.source, 3, 0, &sent.bytes());
            let mut frame = error.frame();
            frame[L3 + error.header_len() + 8] = first;
            assert_eq!(look(&error, &frame).1, Err(NoFlow::Malformed), "{first:02x}");
        }
    }
    let mapped = Ip { source: "::ffff:198.51.100.1".parse().unwrap(), ..plain(true, 6) };
    assert_eq!(flow_of(&mapped), Err(NoFlow::Foreign));
    // The packet ends with the quoted IP header; that it was a later fragment is only in what pads the frame.
    let later = Ip { fragment_offset: 3, extensions: vec![(44, 0)], ..plain(true, 17) };
    let error = error(&later, 0, 0, 40);
    let padded = [error.frame(), later.bytes()[40..].to_vec()].concat();
    assert_eq!(look(&error, &padded).1, Err(NoFlow::Truncated));
    // Five extension headers, and some that lie too far into the frame.
    let many = Ip { extensions: vec![(60, 0); 5], ..plain(true, 6) };
    assert_eq!(flow_of(&many), Err(NoFlow::Truncated));
    let long = Ip { extensions: vec![(60, 200)], ..plain(true, 6) };
    assert_eq!(flow_of(&long), Err(NoFlow::Truncated));
}

#[test]
fn kinds_are_told_apart() {
    for is_v6 in [false, true] {
        let (vip, client) = pair(is_v6);
        for kind in 0..=u8::MAX {
            let ip = Ip::icmp(client, vip, [kind, 0], [0; 4], &[0; 40]);
            let expected = match (is_v6, kind) {
                (false, 3 | 11 | 12) | (true, 1..=4) => Kind::Error,
                (false, 8) | (true, 128) => Kind::Echo,
                _ => Kind::Other,
            };
            assert_eq!(look(&ip, &ip.frame()).0, expected, "type {kind}");
        }
    }
    let (vip, client) = pair(false);
    let ping = Ip::icmp(client, vip, [8, 0], [0; 4], &[0; 40]);
    let with_options = Ip { options: 2, ..ping.clone() };
    assert_eq!(
        look(&with_options, &with_options.frame()).0,
        Kind::Other,
        "its options would have to be turned"
    );
    let fragment = Ip { more_fragments: true, ..ping };
    assert_eq!(look(&fragment, &fragment.frame()).0, Kind::Other, "its rest would go elsewhere");
}

/// The reply to an ICMPv4 echo request of zeros is all zeros but for its checksum, which RFC 1624 gets wrong then.
#[test]
fn a_ping_of_zeros_is_answered() {
    let (vip, client) = pair(false);
    let frame = Ip::icmp(client, vip, [8, 0], [0; 4], &[0; 56]).frame();
    let reply = laws::reply_to(&frame, false).unwrap();
    assert_eq!(reply[L3 + 20..L3 + 24], [0, 0, 0xff, 0xff]);
    assert!(laws::is_sum_right(&reply[L3 + 20..]));
}

#[test]
fn few_things_get_no_answer() {
    for is_v6 in [false, true] {
        let (vip, client) = pair(is_v6);
        let answered = |ip: &Ip| {
            let frame = ip.frame();
            laws::check(&frame);
            let answered = laws::answer(&frame, Problem::TimeExceeded).is_some();
            assert_eq!(answered, may_answer_packet(&ip.bytes()));
            answered
        };
        let plain = Ip::new(client, vip, 6, &[0; 40]);
        assert!(answered(&plain));
        let mut group = plain.frame();
        group[0] = 0x33;
        assert_eq!(laws::answer(&group, Problem::TimeExceeded), None, "sent to a group of machines");

        let sources = if is_v6 {
            ["::", "::1", "ff02::1", "::ffff:1.2.3.4"]
        } else {
            ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
        };
        for source in sources {
            assert!(!answered(&Ip { source: source.parse().unwrap(), ..plain.clone() }), "from {source}");
        }
        let destinations: &[&str] = if is_v6 { &["ff0e::1"] } else { &["239.1.1.1", "255.255.255.255"] };
        for destination in destinations {
            let destination = destination.parse().unwrap();
            assert!(!answered(&Ip { destination, ..plain.clone() }), "to {destination}");
        }
        let extensions = if is_v6 { vec![(44, 0)] } else { Vec::new() };
        let fragment = Ip { more_fragments: true, extensions, ..plain };
        assert!(answered(&fragment), "the first fragment is");
        assert!(!answered(&Ip { fragment_offset: 1, ..fragment }), "a later one is not");

        for kind in 0..=u8::MAX {
            let ip = Ip::icmp(client, vip, [kind, 0], [0; 4], &[0; 40]);
            let is_error = if is_v6 { kind < 128 || kind == 137 } else { [3, 4, 5, 11, 12].contains(&kind) };
            assert_eq!(answered(&ip), !is_error, "type {kind}");
            if is_v6 {
                assert_eq!(
                    answered(&Ip { extensions: vec![(60, 1)], ..ip }),
                    !is_error,
                    "behind options, type {kind}"
                );
            }
        }
        let cut = &Ip::icmp(client, vip, [8, 0], [0; 4], &[]).bytes()[..if is_v6 { 40 } else { 20 }];
        assert!(!may_answer_packet(cut), "who knows what it is");
    }
    assert!(!may_answer_packet(&[]));
}
