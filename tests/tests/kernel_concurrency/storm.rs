//! Two CPUs throw packets at the same flows as fast as they can, millions of them a second. Where each packet went is not
//! seen then, but the counters of the hosts tell: what was sent of a flow has come to its own four hosts, and what was sent
//! of a connection that lasts has come to its one.

use std::ops::Range;

use sluice_tests::bench::feeder::{Called, Feeder};
use sluice_tests::bench::frames::Frame;
use sluice_tests::rig::{Random, Setup, XDP_TX, lasting, stay_on, two_cpus};

use super::cast::{Cast, Flow, HOSTS, UDP, host_of};
use super::daemon::{Board, Daemon};

/// TCP flows without a SYN: none of their packets may be dropped.
const MID_FLOW: Range<u32> = 0..24;
/// Connections that both threads keep alive.
const LASTING: Range<u32> = 32..40;
/// Packets of a thread's set.
const SET: u32 = 4096;
/// Times that a set is sent by one system call: each waits for a grace period of the kernel's.
const AT_ONCE: u32 = 100;

/// A packet of a flow, by its role.
fn packet(flow: &Flow, random: &mut Random) -> Vec<u8> {
    let sequence = random.below(4) << 20;
    if flow.protocol == UDP {
        flow.datagram()
    } else if LASTING.contains(&flow.number) {
        flow.ack(2)
    } else {
        match random.below(if MID_FLOW.contains(&flow.number) { 6 } else { 10 }) {
            0..2 => flow.ack(sequence + 1),
            2 => flow.fin(sequence + 1),
            3 => flow.ack(sequence + 12),
            4..6 => flow.rst(sequence + 1),
            _ => flow.syn(sequence),
        }
    }
}

/// Runs a set over and over; how often.
fn pour(board: &Board, feeder: &mut Feeder, cpu: usize) -> u64 {
    let _ends = board.ends();
    stay_on(cpu);
    let mut rounds = 0;
    while !board.is_over() {
        feeder.run(Called::Tested, AT_ONCE * SET).expect("the kernel runs the program");
        rounds += u64::from(AT_ONCE);
        board.beat();
    }
    rounds
}

fn run(overflow: u32, crowded: bool) {
    let cpus = two_cpus();
    let mut cast = Cast::new(overflow);
    let flows = cast.flows.clone();
    for number in LASTING {
        let (flow, runner) = (&flows[number as usize], cast.rig.runner());
        for frame in [flow.syn(1), flow.ack(2)] {
            let (verdict, out) = runner.run(&frame);
            assert_eq!((verdict, host_of(&out)), (XDP_TX, flow.host(0)));
        }
    }
    // By flow: packets of it in each thread's set.
    let mut sets = Vec::new();
    let mut feeders = Vec::new();
    for seed in [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93] {
        let mut random = Random(seed);
        let mut sent = vec![0u64; flows.len()];
        let frames: Vec<Frame> = (0..SET)
            .map(|_| {
                let flow = *random.one_of(&flows);
                sent[flow.number as usize] += 1;
                Frame::new(&packet(&flow, &mut random))
            })
            .collect();
        let mut feeder = Feeder::load(cast.rig.program_fd(), SET).expect("the feeder can be loaded");
        feeder.set(frames.into_iter()).expect("the feeder takes the frames");
        sets.push(sent);
        feeders.push(feeder);
    }
    let before = cast.rig.counts();
    let board = Board::paced(&cast);
    let mut daemon = Daemon::new(&board, &cast, crowded);
    let rounds: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = feeders
            .iter_mut()
            .zip(cpus)
            .map(|(feeder, cpu)| {
                let board = &board;
                scope.spawn(move || pour(board, feeder, cpu))
            })
            .collect();
        daemon.run(&mut cast, lasting(4));
        threads.into_iter().map(|thread| thread.join().expect("the thread ends well")).collect()
    });
    let after = cast.rig.counts();
    let change = |name| after.reasons[name] - before.reasons[name];
    let evicted: u64 = after.pairs.values().map(|counters| counters.evicted).sum();
    println!("{:?}\n{rounds:?} rounds of {SET} packets, {evicted} evicted, {:?}", daemon.done, after.reasons);
    let mut missing = 0;
    for flow in &flows {
        let sent: u64 =
            sets.iter().zip(&rounds).map(|(set, rounds)| set[flow.number as usize] * rounds).sum();
        let at = |which| {
            let stats = Setup::stats(flow.service(), flow.host(which));
            after.pairs[&stats].packets - before.pairs.get(&stats).map_or(0, |counters| counters.packets)
        };
        let came: u64 = (0..HOSTS).map(at).sum();
        let by_host: Vec<u64> = (0..HOSTS).map(at).collect();
        if LASTING.contains(&flow.number) {
            assert_eq!(by_host, [sent, 0, 0, 0], "a connection that lasts left its host: {flow:?}");
        } else if flow.protocol == UDP || MID_FLOW.contains(&flow.number) {
            assert_eq!(came, sent, "packets went to a host of another flow, by host {by_host:?}: {flow:?}");
        } else {
            assert!(came <= sent, "{came} packets of {sent} that were sent: {flow:?}");
            missing += sent - came;
        }
    }
    assert_eq!(missing, change("drop_no_place"), "SYNs that found no place are dropped, and nothing else");
    assert!(rounds.iter().all(|&rounds| rounds > 10), "the threads came to work");
    assert!(daemon.done.opened > 10, "{:?}", daemon.done);
    if crowded {
        assert!(evicted > 1000, "pins had to go");
    } else {
        assert_eq!(evicted, 0, "there was room for all");
    }
    cast.ends();
}

#[test]
fn every_packet_comes_to_its_own_host() {
    run(256, false);
}

#[test]
fn every_packet_comes_to_its_own_host_in_a_full_table() {
    run(16, true);
}
