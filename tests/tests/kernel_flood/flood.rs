//! The flood, and what it must not do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sluice_tests::bench::feeder::{Called, Feeder};
use sluice_tests::bench::frames::Frame;
use sluice_tests::rig::{Random, Runner, lasting, stay_on, two_cpus};

use super::site::{CONNECTIONS, Client, DRAINING, SET, Site, send};

/// SYNs of the flood at most.
const SYNS: u64 = 10_000_000;
/// Clients that come after it, with the table still full of it.
const CLIENTS: u32 = 1000;

/// Floods until told to stop.
fn flood(
    feeder: &mut Feeder,
    seed: u64,
    cpu: usize,
    syn: Frame,
    sent: &AtomicU64,
    is_over: &AtomicBool,
) -> Duration {
    stay_on(cpu);
    let mut random = Random(seed);
    let mut took = Duration::ZERO;
    while !is_over.load(SeqCst) {
        // Not from 10.0.0.0/8, where the clients are.
        let frames = (0..SET as usize)
            .map(|_| syn.from(0x0b00_0000 + random.below(0xc000_0000), random.below(1 << 16) as u16));
        feeder.set(frames).expect("the frames are taken");
        let started = Instant::now();
        feeder.run(Called::Tested, SET).expect("the kernel runs the program");
        took += started.elapsed();
        sent.fetch_add(SET.into(), SeqCst);
    }
    took
}

/// New clients after the flood, one after another: SYN, the handshake's end and data, a SYN that was dropped again a second
/// later, three times at most. All get in.
fn clients(site: &Site, runner: &Runner) {
    let mut first_tries = 0;
    for number in 0..CLIENTS {
        let client = Client::new(CONNECTIONS + number);
        let mut tries = 0;
        let host = loop {
            match send(runner, &site.frames.syn(client)) {
                Some(host) => break host,
                None => tries += 1,
            }
            assert!(tries <= 3, "client {number} stayed outside");
            site.rig.dataplane.set_clock(site.rig.now() + 1);
        };
        first_tries += u32::from(tries == 0);
        assert_ne!(host, DRAINING, "a new flow on the draining host");
        for _ in 0..3 {
            assert_eq!(send(runner, &site.frames.ack(client)), Some(host), "client {number}");
        }
    }
    println!("of {CLIENTS} new clients, {first_tries} got in at the first try, all of them in the end");
}

#[test]
fn a_flood_moves_nothing_and_keeps_nobody_out() {
    let cpus = two_cpus();
    let mut site = Site::new();
    let mut feeders = [0, 1].map(|_| Feeder::load(site.rig.program_fd(), SET).expect("the feeder loads"));
    let runner = site.rig.runner();
    let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let syn = site.frames.syn;
    let most = lasting(16);
    std::thread::scope(|scope| {
        let threads: Vec<_> = feeders
            .iter_mut()
            .zip(cpus)
            .zip([0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93])
            .map(|((feeder, cpu), seed)| {
                let (sent, is_over) = (&sent, &is_over);
                scope.spawn(move || flood(feeder, seed, cpu, syn, sent, is_over))
            })
            .collect();
        let started = Instant::now();
        let mut swept = Instant::now();
        while started.elapsed() < most
            && sent.load(SeqCst) < SYNS
            && threads.iter().all(|thread| !thread.is_finished())
        {
            std::thread::sleep(Duration::from_millis(20));
            if swept.elapsed() > Duration::from_secs(1) {
                swept = Instant::now();
                site.rig.pass(1);
                site.rig.sweep();
            }
        }
        is_over.store(true, SeqCst);
        for thread in threads {
            let took = thread.join().expect("the thread ends well");
            println!("a CPU flooded for {took:?}");
        }
        let (sent, took) = (sent.load(SeqCst), started.elapsed());
        println!("{sent} SYNs in {took:?}, {:.0} a second", sent as f64 / took.as_secs_f64());
    });
    clients(&site, &runner);
    let counts = site.rig.counts();
    println!("{:?}", counts.reasons);
    for reason in counts.reasons.keys().filter(|reason| reason.starts_with("violation_")) {
        assert_eq!(counts.reasons[reason], 0, "{reason}");
    }
    assert_eq!(counts.reasons["drop_internal"], 0);
    let gone = site.gone();
    println!(
        "of {CONNECTIONS} connections, {} of settled slots have lost their pins, {} in handover",
        gone[0], gone[1]
    );
    assert_eq!(gone[1], 0, "no pin of a slot in handover may go");
    site.check_connections(&runner);
}
