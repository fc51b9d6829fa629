//! The flood, and what it must not do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sluice_tests::bench::feeder::{Called, Feeder};
use sluice_tests::rig::{Rig, Runner, lasting, stay_on, two_cpus};

use super::clients::{self, ROUND_TRIP, Tally};
use super::site::{CONNECTIONS, SET, Site};

/// SYNs of the flood at most, before the new clients come.
const SYNS: u64 = 10_000_000;
/// How long new clients come.
const COMING: Duration = Duration::from_secs(5);
/// How often a new client sends its SYN again at most, but for fewer than one of [`RARE`]: where a bucket has nothing but pins that a
/// handover needs, it waits until one of them ends.
const RETRIES: usize = 3;
const RARE: u32 = 1000;
/// Of so many new clients whose slots are in handover, fewer than one loses its pin before it has spoken again.
const TORN: u32 = 100;

/// Floods from one CPU until told to stop.
fn flood(feeder: &mut Feeder, cpu: usize, sent: &AtomicU64, is_over: &AtomicBool) {
    stay_on(cpu);
    while !is_over.load(SeqCst) {
        feeder.run(Called::Flood, SET).expect("the kernel runs the program");
        sent.fetch_add(SET.into(), SeqCst);
    }
}

/// Lets time pass as it does, and sweeps once a second, as the daemon does, while there is something to wait for.
fn while_sweeping(rig: &mut Rig, waits: impl Fn() -> bool) {
    let mut swept = Instant::now();
    while waits() {
        std::thread::sleep(Duration::from_millis(20));
        if swept.elapsed() > Duration::from_secs(1) {
            swept = Instant::now();
            rig.pass(1);
            rig.sweep();
        }
    }
}

/// SYNs a second since then.
fn say(who: &str, sent: u64, since: Instant) {
    let took = since.elapsed();
    println!("{who}: {sent} SYNs in {took:?}, {:.0} a second", sent as f64 / took.as_secs_f64());
}

/// Two CPUs flood; then one of them goes on, while the other sends for new clients.
fn flood_and_come(site: &mut Site, runner: &Runner) -> [Tally; 2] {
    let cpus = two_cpus();
    let mut feeders = [0, 1].map(|_| Feeder::load(site.rig.program_fd(), 1).expect("the feeder loads"));
    for feeder in &mut feeders {
        feeder.set([site.frames.syn].into_iter()).expect("the frame is taken");
    }
    let [lasts, helps] = &mut feeders;
    let [sent, helped] = [const { AtomicU64::new(0) }; 2];
    let [is_over, is_alone] = [const { AtomicBool::new(false) }; 2];
    let most = lasting(16);
    let Site { rig, frames, .. } = site;
    std::thread::scope(|scope| {
        let lasts = scope.spawn(|| flood(lasts, cpus[0], &sent, &is_over));
        let helps = scope.spawn(|| flood(helps, cpus[1], &helped, &is_alone));
        let started = Instant::now();
        let all = || sent.load(SeqCst) + helped.load(SeqCst);
        while_sweeping(rig, || {
            started.elapsed() < most && all() < SYNS && !lasts.is_finished() && !helps.is_finished()
        });
        is_alone.store(true, SeqCst);
        helps.join().expect("the thread ends well");
        say("two CPUs", all(), started);

        let (started, before) = (Instant::now(), sent.load(SeqCst));
        let frames = &*frames;
        let clients = scope.spawn(move || {
            stay_on(cpus[1]);
            clients::come(runner, frames, CONNECTIONS, COMING)
        });
        while_sweeping(rig, || !clients.is_finished() && !lasts.is_finished());
        say("one CPU, beside new clients", sent.load(SeqCst) - before, started);
        is_over.store(true, SeqCst);
        lasts.join().expect("the thread ends well");
        clients.join().expect("the thread ends well")
    })
}

#[test]
fn a_flood_moves_nothing_and_keeps_nobody_out() {
    let mut site = Site::new();
    let runner = site.rig.runner();
    let tallies = flood_and_come(&mut site, &runner);
    for (which, tally) in ["settled", "in handover"].iter().zip(&tallies) {
        println!(
            "new clients, slot {which}: {} in {COMING:?}, {:.0} a second; SYNs sent again: {:?} (clients by number); \
             torn within {ROUND_TRIP:?}: {}",
            tally.clients(),
            f64::from(tally.clients()) / COMING.as_secs_f64(),
            tally.retries,
            tally.torn
        );
    }
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
    for tally in &tallies {
        assert!(tally.clients() > 1000, "clients came: {tally:?}");
        let late: u32 = tally.retries[RETRIES + 1..].iter().sum();
        assert!(late * RARE < tally.clients(), "{tally:?}");
    }
    let [settled, open] = &tallies;
    assert_eq!(settled.torn, 0, "the owner is the owner: {settled:?}");
    assert!(open.torn * TORN < open.clients(), "{open:?}");
}
