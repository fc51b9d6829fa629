//! Somebody who knows addresses and ports of others' connections, but no sequence number, while the host drains.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};
use sluice_tests::packets::Packet;
use sluice_tests::site::{Plan, Site};
use sluice_tests::topology::{Namespace, Topology};

use super::tools::{echoes, ends_well, host, live, reason, speak, until};

/// Raw sockets of the third party, IPv4 and IPv6: it says itself who a packet is from.
struct Forger([OwnedFd; 2]);

impl Forger {
    fn open(ns: &Namespace) -> Forger {
        let open = |family| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
        Forger(ns.enter(|| [AddressFamily::Inet, AddressFamily::Inet6].map(open)).unwrap())
    }

    fn send(&self, to: IpAddr, packet: &Packet) {
        let frame = packet.build();
        // The kernel puts its own link header in front.
        let (bytes, flags) = (&frame[14..], MsgFlags::empty());
        let sent = match to {
            IpAddr::V4(to) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(self.0[0].as_raw_fd(), bytes, &to, flags)
            }
            IpAddr::V6(to) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendto(self.0[1].as_raw_fd(), bytes, &to, flags)
            }
        };
        assert_eq!(sent.unwrap(), bytes.len());
    }
}

/// A forged SYN changes nothing. A forged end may let a flow that then is silent count as ended (the limits of C2 and C7 in the
/// design), but while the drain goes on it is the draining host's all the same.
#[test]
fn blind_syns_rsts_and_fins_neither_move_nor_end_a_flow() {
    const CLOSING: Duration = Duration::from_secs(6);
    let plan = Plan { timeouts: [4, 60, 6, 4], ..Plan::new("l2", 2) };
    let site = Site::start(Topology::builder().clients(2), &plan).unwrap();
    let (mut ours, mut others) = echoes(&site, 12);
    let forger = Forger::open(&site.topology.clients()[1].ns);
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    // One is left alone, so the drain cannot end.
    let mut busy = ours.pop().unwrap();
    let count = ours.len() as u64;
    assert_eq!(live(&site, "h1"), [0, 1 + count, 0]);
    let ends: Vec<(SocketAddr, SocketAddr)> = ours
        .iter()
        .chain(&others)
        .map(|one| (one.stream.local_addr().unwrap(), one.stream.peer_addr().unwrap()))
        .collect();
    let forge = |change: &dyn Fn(Packet, u32) -> Packet| {
        let before = packets(&site);
        // Numbers all over the space of 2³², so that none is in a window of 64 KiB but by a rare chance.
        for (number, (from, to)) in (1u32..).zip(&ends) {
            forger.send(to.ip(), &change(Packet::tcp(*from, *to), number.wrapping_mul(0x9e37_79b9)));
        }
        until("they have come to the balancer", || packets(&site) >= before + ends.len() as u64);
    };
    let challenged = reason(&site, "forward_syn_established");
    for round in 0..2u32 {
        forge(&|packet, number| packet.syn(number.wrapping_add(round)));
        assert_eq!(live(&site, "h1"), [0, 1 + count, 0], "a SYN changes nothing");
    }
    let challenged = reason(&site, "forward_syn_established") - challenged;
    assert_eq!(challenged, 2 * ends.len() as u64, "each to its flow's host, which challenges it");
    speak(ours.iter_mut().chain(&mut others).chain([&mut busy]));

    let rst = |packet: Packet, number: u32| packet.seq(number).rst();
    let fin = |packet: Packet, number: u32| packet.seq(number).ack(number ^ 0x5555_5555).fin();
    for end in [&rst as &dyn Fn(Packet, u32) -> Packet, &fin] {
        // Who speaks again within the closing timeout is not missed for a moment.
        forge(end);
        assert_eq!(live(&site, "h1"), [0, 1, count]);
        speak(ours.iter_mut().chain(&mut others));
        assert_eq!(live(&site, "h1"), [0, 1 + count, 0]);
        forge(end);
        let forged = Instant::now();
        while forged.elapsed() < CLOSING * 2 {
            speak([&mut busy]);
            sleep(Duration::from_millis(300));
        }
        assert_eq!(live(&site, "h1"), [0, 1, 0]);
        assert_eq!(host(&site, "h1")["admin"], "draining");
        speak(ours.iter_mut().chain(&mut others));
        assert_eq!(live(&site, "h1"), [0, 1 + count, 0], "known again, and at the same host");
    }
    drop((ours, others, busy));
    ends_well(&site, "h1", 1 + count as usize);
}

/// Packets that were sent to hosts, for any reason.
fn packets(site: &Site) -> u64 {
    let reasons = site.reasons().unwrap();
    reasons.iter().filter(|(name, _)| name.starts_with("forward_")).map(|(_, count)| count).sum()
}
