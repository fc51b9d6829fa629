//! The model's random histories with the kernel as their data path.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use lb_userspace::ring::model::{Broken, Law, Report, Tracking, history};

use crate::kernel::Kernel;

const SECONDS: u64 = 250;
/// Publications wait for grace periods most of the time, so that many histories run at once on few CPUs.
const AT_ONCE: usize = 4;

/// Runs `work` on the seeds until one of them gives an answer.
fn any<V: Send>(
    seeds: u64,
    make: fn() -> Kernel,
    work: impl Fn(u64, &mut Kernel) -> Option<V> + Sync,
) -> Option<V> {
    let (next, answer) = (AtomicU64::new(0), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut kernel = make();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || answer.lock().unwrap().is_some() {
                        return;
                    }
                    kernel.reset();
                    if let Some(found) = work(seed, &mut kernel) {
                        *answer.lock().unwrap() = Some(found);
                    }
                }
            });
        }
    });
    answer.into_inner().unwrap()
}

/// Totals over all histories.
#[derive(Default)]
struct Totals {
    report: Report,
    evicted: u64,
    refused: u64,
}

fn hold(seeds: u64, make: fn() -> Kernel) -> Totals {
    let totals = Mutex::new(Totals::default());
    let failed = any(seeds, make, |seed, kernel| {
        let report = history(seed, SECONDS, Tracking::Full, None, kernel);
        kernel.rig.check_gauges();
        if let Some(first) = report.violations.first() {
            return Some(format!("history {seed}: {first} (and {} more)", report.violations.len() - 1));
        }
        let counted = kernel.violations();
        if !counted.is_empty() {
            return Some(format!("history {seed}: the data path counted {counted:?}"));
        }
        let mut totals = totals.lock().unwrap();
        totals.report.packets += report.packets;
        totals.report.drains_done += report.drains_done;
        totals.report.replayed_open += report.replayed_open;
        totals.evicted += kernel.rig.evicted();
        totals.refused += std::mem::take(&mut kernel.refused);
        None
    });
    if let Some(failed) = failed {
        panic!("{failed}");
    }
    totals.into_inner().unwrap()
}

#[test]
fn the_rules_hold_in_the_kernel() {
    const SEEDS: u64 = 48;
    let totals = hold(SEEDS, Kernel::roomy);
    assert!(totals.report.packets > SEEDS * 1500, "only {} packets were checked", totals.report.packets);
    assert!(
        totals.report.drains_done > SEEDS / 2,
        "only {} drains came to an end",
        totals.report.drains_done
    );
    assert!(
        totals.report.replayed_open > SEEDS,
        "reboots found only {} open handovers",
        totals.report.replayed_open
    );
    assert_eq!(totals.evicted, 0);
}

/// Exceptions outlive a table that is full all the time, and a flood: what gives way is what can be missed.
#[test]
fn the_rules_hold_in_a_full_table() {
    const SEEDS: u64 = 48;
    let totals = hold(SEEDS, Kernel::crowded);
    assert!(totals.report.packets > SEEDS * 200, "only {} packets were checked", totals.report.packets);
    assert!(totals.evicted > SEEDS * 20, "only {} pins were evicted", totals.evicted);
    assert!(totals.refused > SEEDS, "only {} flows were refused", totals.refused);
}

#[test]
fn each_broken_rule_is_noticed_in_the_kernel() {
    // How the data path pins while a host is down is its own affair.
    for broken in Broken::ALL.into_iter().filter(|&broken| broken != Broken::PinDown) {
        let expected = match broken {
            Broken::Short => Law::DoneMeansDone,
            _ => Law::PinnedStaysPinned,
        };
        let found = any(64, Kernel::roomy, |seed, kernel| {
            let report = history(seed, SECONDS, Tracking::Full, Some(broken), kernel);
            report.violations.iter().any(|violation| violation.law == expected).then_some(seed)
        });
        assert!(found.is_some(), "nothing of {expected:?} found wrong with {broken:?}");
    }
}
