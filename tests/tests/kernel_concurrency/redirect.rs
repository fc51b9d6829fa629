//! Publications while packets are redirected to another interface: none of them finds the way closed.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use lb_common::layout::{Backend, Slot};
use nix::sched::{CloneFlags, unshare};
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Rig, Setup, XDP_REDIRECT, l2, lasting, stay_on, two_cpus};

use super::cast::TCP;

/// Publishes over and over what is in force, with packets on the other CPU; packets, and how many of them were not redirected.
fn run(out: u32) -> (u64, u64) {
    let cpus = two_cpus();
    let (from, to) = ("10.0.0.1:1024".parse().unwrap(), "198.51.100.1:80".parse().unwrap());
    let mut rig = Rig::open(Rig::small());
    let mut setup = Setup::new(&rig);
    setup.service(0, to, TCP, 0).ring(0, Slot::settled(1)).backend(0, 1, Backend { ifindex: out, ..l2(1) });
    rig.publish(&setup);
    let runner = rig.runner();
    let frame = Packet::tcp(from, to).seq(2).ack(1).build();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            stay_on(cpus[1]);
            let (mut sent, mut lost) = (0, 0);
            while !is_over.load(SeqCst) {
                sent += 1;
                lost += u64::from(runner.run(&frame).0 != XDP_REDIRECT);
            }
            (sent, lost)
        });
        stay_on(cpus[0]);
        let end = Instant::now() + lasting(8);
        while Instant::now() < end {
            rig.publish(&setup);
        }
        is_over.store(true, SeqCst);
        sender.join().unwrap()
    })
}

#[test]
fn a_publication_closes_no_way_out() {
    // In a network of its own, which ends with the thread.
    let in_a_network = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let made = Command::new("ip").args(["link", "add", "way", "type", "veth", "peer", "far"]).status();
        assert!(made.unwrap().success(), "ip makes a pair of veths");
        run(nix::net::if_::if_nametoindex("way").unwrap())
    };
    let (sent, lost) = std::thread::scope(|scope| scope.spawn(in_a_network).join().unwrap());
    assert!(sent > 1000, "{sent} packets");
    assert_eq!(lost, 0, "packets of {sent} found no way out");
}
