use std::net::{IpAddr, Ipv6Addr};

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpNumber, Ipv4Header,
    Ipv6Header, PacketBuilder, UdpHeader, icmpv4, icmpv6,
};
use proptest::prelude::*;

use super::{ForClient, Heard, Tunnels, checksum, relayed};

const GUE: u16 = 6080;
const BALANCER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);

fn address(is_v6: bool, v4: &str, v6: &str) -> IpAddr {
    if is_v6 { v6 } else { v4 }.parse().unwrap()
}

fn balancer(is_v6: bool) -> IpAddr {
    address(is_v6, "192.0.2.1", "2001:db8:b::1")
}

fn backend(is_v6: bool) -> IpAddr {
    address(is_v6, "192.0.2.107", "2001:db8:b::107")
}

fn client(is_v6: bool) -> IpAddr {
    address(is_v6, "198.51.100.9", "2001:db8:c::9")
}

fn tunnels() -> Tunnels<impl Fn(IpAddr, IpAddr) -> bool> {
    Tunnels {
        gue_port: Some(GUE),
        source_v6: Some(BALANCER_V6),
        is_ours: |source: IpAddr, destination: IpAddr| {
            let is_v6 = source.is_ipv6();
            (source, destination) == (balancer(is_v6), backend(is_v6))
        },
    }
}

/// How packets get to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    IpIp,
    /// Variant 0, without and with 8 bytes of options.
    Gue(u8),
    /// Variant 1.
    GueDirect,
}

const MODES: [Mode; 4] = [Mode::IpIp, Mode::Gue(0), Mode::Gue(2), Mode::GueDirect];

impl Mode {
    fn added(self) -> usize {
        match self {
            Mode::IpIp => 0,
            Mode::Gue(options) => 12 + 4 * usize::from(options),
            Mode::GueDirect => 8,
        }
    }
}

/// A client's packet of `len` bytes.
fn inner(is_v6: bool, len: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    match (client(is_v6), address(is_v6, "203.0.113.1", "2001:db8:ff::1")) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 60)
            .udp(40000, 443)
            .write(&mut packet, &vec![7; len - 28]),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 60)
            .udp(40000, 443)
            .write(&mut packet, &vec![7; len - 48]),
        _ => unreachable!("one family"),
    }
    .unwrap();
    packet
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let len = u16::try_from(payload.len()).unwrap();
            let header = Ipv4Header::new(len, 64, IpNumber(protocol), from.octets(), to.octets()).unwrap();
            header.write(&mut packet).unwrap();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                payload_length: u16::try_from(payload.len()).unwrap(),
                next_header: IpNumber(protocol),
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            header.write(&mut packet).unwrap();
        }
        _ => unreachable!("one family"),
    }
    packet.extend(payload);
    packet
}

/// The outer packet.
fn outer(is_v6: bool, mode: Mode, inner: &[u8]) -> Vec<u8> {
    let protocol = if inner[0] >> 4 == 6 { 41 } else { 4 };
    let (from, to) = (balancer(is_v6), backend(is_v6));
    let gue = match mode {
        Mode::IpIp => return ip(from, to, protocol, inner),
        Mode::Gue(options) => [&[options, protocol, 0, 0][..], &vec![0; 4 * usize::from(options)]].concat(),
        Mode::GueDirect => Vec::new(),
    };
    let length = u16::try_from(8 + gue.len() + inner.len()).unwrap();
    let udp = UdpHeader { source_port: 50000, destination_port: GUE, length, checksum: 0 };
    ip(from, to, 17, &[&udp.to_bytes()[..], &gue, inner].concat())
}

/// An ICMP message as a socket has it.
fn message(is_v6: bool, kind: [u8; 2], rest: [u8; 4], quote: &[u8]) -> Vec<u8> {
    let mut message = [&kind[..], &[0; 2], &rest, quote].concat();
    if !is_v6 {
        let checksum = checksum(&[&message]);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

fn too_big(is_v6: bool, mtu: u16, quote: &[u8]) -> Vec<u8> {
    let [m0, m1] = mtu.to_be_bytes();
    message(is_v6, if is_v6 { [2, 0] } else { [3, 4] }, [0, 0, m0, m1], quote)
}

/// What a client is told, read by etherparse, and what is quoted.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    TooBig(u32),
    HostUnreachable,
}

fn told(answer: &ForClient) -> (Told, &[u8]) {
    match answer.client {
        IpAddr::V4(_) => {
            let slice = Icmpv4Slice::from_slice(&answer.message).unwrap();
            assert_eq!(checksum(&[&answer.message]), 0);
            assert!(20 + answer.message.len() <= 576);
            use icmpv4::DestUnreachableHeader::{FragmentationNeeded, Host};
            let told = match slice.icmp_type() {
                Icmpv4Type::DestinationUnreachable(FragmentationNeeded { next_hop_mtu }) => {
                    Told::TooBig(next_hop_mtu.into())
                }
                Icmpv4Type::DestinationUnreachable(Host) => Told::HostUnreachable,
                other => panic!("{other:?}"),
            };
            (told, &answer.message[8..])
        }
        IpAddr::V6(client) => {
            let slice = Icmpv6Slice::from_slice(&answer.message).unwrap();
            assert!(slice.is_checksum_valid(BALANCER_V6.octets(), client.octets()));
            assert!(40 + answer.message.len() <= 1280);
            let told = match slice.icmp_type() {
                Icmpv6Type::PacketTooBig { mtu } => Told::TooBig(mtu),
                Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Address) => {
                    Told::HostUnreachable
                }
                other => panic!("{other:?}"),
            };
            (told, &answer.message[8..])
        }
    }
}

fn heard(is_v6: bool, path_mtu: Option<u16>, for_client: Option<ForClient>) -> Heard {
    Heard { source: balancer(is_v6), backend: backend(is_v6), path_mtu, for_client }
}

/// All pairs of outer and inner family, in all modes.
fn everything() -> impl Iterator<Item = (bool, bool, Mode)> {
    [false, true].into_iter().flat_map(|outer| {
        [false, true]
            .into_iter()
            .flat_map(move |inner| MODES.into_iter().map(move |mode| (outer, inner, mode)))
    })
}

#[test]
fn what_is_too_big_is_so_for_the_client_by_the_overhead() {
    for (outer_v6, inner_v6, mode) in everything() {
        let overhead = if outer_v6 { 40 } else { 20 } + mode.added();
        let packet = inner(inner_v6, 1450);
        let outer = outer(outer_v6, mode, &packet);
        let Heard { path_mtu, for_client, source, backend: to } =
            relayed(outer_v6, &too_big(outer_v6, 1400, &outer), &tunnels()).unwrap();
        assert_eq!((source, to, path_mtu), (balancer(outer_v6), backend(outer_v6), Some(1400)));
        let answer = for_client.unwrap();
        assert_eq!(answer.client, client(inner_v6));
        let (told, quote) = told(&answer);
        assert_eq!(told, Told::TooBig(1400 - overhead as u32), "{outer_v6} {inner_v6} {mode:?}");
        assert_eq!(quote, &packet[..quote.len()]);
        assert!(quote.len() >= 500, "as much as may be");
    }
}

/// An IPv6 client is never told less than 1280 bytes, and nothing if that is what it sends.
#[test]
fn an_ipv6_client_hears_of_1280_bytes_at_least() {
    for mode in MODES {
        let error = too_big(false, 1290, &outer(false, mode, &inner(true, 1400)));
        let answer = relayed(false, &error, &tunnels()).unwrap().for_client.unwrap();
        assert_eq!(told(&answer).0, Told::TooBig(1280));
        let error = too_big(false, 1290, &outer(false, mode, &inner(true, 1280)));
        assert_eq!(relayed(false, &error, &tunnels()), Some(heard(false, Some(1290), None)));
    }
}

#[test]
fn what_does_not_arrive_is_unreachable() {
    for (outer_v6, inner_v6, mode) in everything() {
        let packet = inner(inner_v6, 200);
        let outer = outer(outer_v6, mode, &packet);
        let is_gue = mode != Mode::IpIp;
        let expected = |kind, code| match (outer_v6, kind, code) {
            (false, 3, 0..=2 | 6..=15) | (false, 11, 0) => true,
            (true, 1, 0..=3 | 5..=7) | (true, 3, 0) | (true, 4, 1) => true,
            (false, 3, 3) | (true, 1, 4) => is_gue,
            _ => false,
        };
        for (kind, code) in (0..=20).flat_map(|kind| (0..8).map(move |code| (kind, code))) {
            if matches!((outer_v6, kind, code), (false, 3, 4) | (true, 2, _)) {
                continue;
            }
            let heard = relayed(outer_v6, &message(outer_v6, [kind, code], [0; 4], &outer), &tunnels());
            assert_eq!(heard.is_some(), expected(kind, code), "{outer_v6} {mode:?}: {kind}/{code}");
            let Some(heard) = heard else { continue };
            let answer = heard.for_client.unwrap();
            assert_eq!((answer.client, heard.path_mtu), (client(inner_v6), None));
            assert_eq!(told(&answer), (Told::HostUnreachable, &packet[..]));
        }
    }
}

/// However little is quoted of the outer packet's payload: the path's MTU is known as soon as its header is there.
#[test]
fn a_short_quote_still_tells_the_path_s_mtu() {
    for (outer_v6, inner_v6, mode) in everything() {
        let packet = inner(inner_v6, 1450);
        let outer = outer(outer_v6, mode, &packet);
        let header = if outer_v6 { 40 } else { 20 };
        let before_client = header + mode.added() + if inner_v6 { 48 } else { 28 };
        for len in 0..outer.len() {
            let error = too_big(outer_v6, 1400, &outer[..len]);
            let known = if mode == Mode::IpIp { header } else { header + 8 };
            let Some(heard) = relayed(outer_v6, &error, &tunnels()) else {
                assert!(len < known, "{len} bytes, {outer_v6} {inner_v6} {mode:?}");
                continue;
            };
            assert!(len >= known, "{len} bytes, {outer_v6} {inner_v6} {mode:?}");
            assert_eq!(heard.path_mtu, Some(1400));
            assert_eq!(heard.for_client.is_some(), len >= before_client, "{len} bytes, {mode:?}");
        }
    }
}

#[test]
fn extensions_and_padding_are_not_quoted() {
    let packet = inner(false, 200);
    // RFC 4884: the quote's length in 32-bit words, in IPv6 in 64-bit words, then extensions.
    for (is_v6, kind, rest) in [(false, [11, 0], [0, 32, 0, 0]), (true, [3, 0], [16, 0, 0, 0])] {
        let outer = outer(is_v6, Mode::IpIp, &packet);
        let quote = [&outer[..128], &[0x20, 0, 0, 0, 0, 8, 1, 1, 9, 9, 9, 9]].concat();
        let heard = relayed(is_v6, &message(is_v6, kind, rest, &quote), &tunnels()).unwrap();
        let header = if is_v6 { 40 } else { 20 };
        assert_eq!(told(&heard.for_client.unwrap()).1, &packet[..128 - header]);
        // Behind the outer packet, and between the two packets' ends.
        let stuffed = ip(balancer(is_v6), backend(is_v6), 4, &[&packet[..], &[0; 9]].concat());
        let heard = relayed(is_v6, &message(is_v6, kind, [0; 4], &stuffed), &tunnels()).unwrap();
        assert_eq!(told(&heard.for_client.unwrap()).1, &packet[..]);
        let padded = [&outer[..], &[0; 9]].concat();
        let heard = relayed(is_v6, &message(is_v6, kind, [0; 4], &padded), &tunnels()).unwrap();
        assert_eq!(told(&heard.for_client.unwrap()).1, &packet[..]);
    }
}

#[test]
fn what_nobody_may_be_told_of_is_told_to_nobody() {
    // A client's own ICMP error, and a later fragment.
    let echo = Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 1, seq: 1 });
    let unreachable = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host);
    for (kind, answered) in [(echo, true), (unreachable, false)] {
        let icmp = Icmpv4Header::with_checksum(kind, &[0; 40]).to_bytes();
        let packet = ip(client(false), backend(false), 1, &[&icmp[..], &[0; 40]].concat());
        let error = message(false, [3, 1], [0; 4], &outer(false, Mode::IpIp, &packet));
        assert_eq!(relayed(false, &error, &tunnels()).unwrap().for_client.is_some(), answered);
    }
    let mut fragment = inner(false, 200);
    fragment[7] = 1;
    let error = message(false, [3, 1], [0; 4], &outer(false, Mode::IpIp, &fragment));
    assert_eq!(relayed(false, &error, &tunnels()), Some(heard(false, None, None)));
    // No address of ours that an IPv6 client could hear from.
    let error = message(false, [3, 1], [0; 4], &outer(false, Mode::IpIp, &inner(true, 200)));
    let mute = Tunnels { source_v6: None, ..tunnels() };
    assert_eq!(relayed(false, &error, &mute), Some(heard(false, None, None)));
}

#[test]
fn what_is_not_ours_or_makes_no_sense_is_not_believed() {
    for is_v6 in [false, true] {
        let packet = inner(false, 1400);
        let good = outer(is_v6, Mode::IpIp, &packet);
        assert!(relayed(is_v6, &too_big(is_v6, 1400, &good), &tunnels()).is_some());
        // From or to another address, or not a tunnel.
        let (from, to) = (balancer(is_v6), backend(is_v6));
        for (from, to, protocol) in [(to, to, 4), (from, from, 4), (from, to, 6)] {
            let error = too_big(is_v6, 1400, &ip(from, to, protocol, &packet));
            assert_eq!(relayed(is_v6, &error, &tunnels()), None);
        }
        // Another port, and GUE that carries no packet.
        let gue = outer(is_v6, Mode::Gue(0), &packet);
        let header = gue.len() - 12 - packet.len();
        for (at, value) in [(header + 3, 0), (header + 9, 6), (header + 8, 0x20), (header + 8, 0x80)] {
            let mut other = gue.clone();
            other[at] = value;
            assert_eq!(relayed(is_v6, &too_big(is_v6, 1400, &other), &tunnels()), None, "{at}");
        }
        let error = too_big(is_v6, 1400, &gue);
        assert_eq!(relayed(is_v6, &error, &Tunnels { gue_port: None, ..tunnels() }), None);
        // MTUs that the packet fits, and such as no link has.
        let len = u16::try_from(good.len()).unwrap();
        let least = if is_v6 { 1280 } else { 68 };
        for (mtu, believed) in
            [(len, false), (len + 1, false), (len - 1, true), (least, true), (least - 1, false)]
        {
            let error = too_big(is_v6, mtu, &good);
            assert_eq!(relayed(is_v6, &error, &tunnels()).is_some(), believed, "{mtu}");
        }
    }
    // A fragment: ours are none.
    for (at, value) in [(6, 0x20), (7, 1)] {
        let mut fragment = outer(false, Mode::IpIp, &inner(false, 1400));
        fragment[at] = value;
        assert_eq!(relayed(false, &too_big(false, 1400, &fragment), &tunnels()), None);
    }
    // A wrong checksum: IPv4's is not verified before.
    let mut error = too_big(false, 1400, &outer(false, Mode::IpIp, &inner(false, 1400)));
    error[20] ^= 1;
    assert_eq!(relayed(false, &error, &tunnels()), None);
}

/// Routers older than RFC 1191 name no MTU: it is the next that links have.
#[test]
fn a_router_that_names_no_mtu() {
    for (len, path_mtu) in [(1480, 1492), (1472, 1006), (1000, 1006), (100, 68)] {
        let error = too_big(false, 0, &outer(false, Mode::IpIp, &inner(false, len)));
        assert_eq!(relayed(false, &error, &tunnels()).unwrap().path_mtu, Some(path_mtu), "{len}");
    }
}

proptest! {
    /// Any bytes, and any change of what makes sense: nobody panics, and what is believed is in bounds.
    #[test]
    fn any_message_can_be_heard(
        outer_v6: bool,
        inner_v6: bool,
        mode in prop::sample::select(&MODES[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        len in 0usize..1600,
        mtu: u16,
    ) {
        let mut error = too_big(outer_v6, mtu, &outer(outer_v6, mode, &inner(inner_v6, 1450)));
        for (at, value) in changes {
            let at = at.index(100);
            error[at] = value;
        }
        error.truncate(len);
        if !outer_v6 && error.len() >= 8 {
            error[2..4].fill(0);
            let checksum = checksum(&[&error]);
            error[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        if let Some(heard) = relayed(outer_v6, &error, &tunnels()) {
            if let Some(path_mtu) = heard.path_mtu {
                let least = if outer_v6 { 1280 } else { 68 };
                prop_assert!(path_mtu >= least);
            }
            if let Some(answer) = heard.for_client {
                let (_, quote) = told(&answer);
                prop_assert!(error.windows(quote.len()).any(|window| window == quote));
            }
        }
        let _ = relayed(!outer_v6, &error, &tunnels());
    }
}
