//! The model's random histories with the kernel as their data path.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use lb_userspace::ring::model::{Broken, Law, Report, Tracking, history};

use crate::kernel::Kernel;

const SECONDS: u64 = 200;
/// Publications wait for grace periods most of the time, so that many histories run at once on few CPUs.
const AT_ONCE: usize = 3;

/// Runs `work` on the seeds until one of them gives an answer, on all kernels at once.
fn any<V: Send>(
    seeds: u64,
    kernels: &mut [Kernel],
    work: impl Fn(u64, &mut Kernel) -> Option<V> + Sync,
) -> Option<V> {
    let (next, answer, work) = (AtomicU64::new(0), Mutex::new(None), &work);
    thread::scope(|scope| {
        for kernel in kernels {
            scope.spawn(|| {
                while answer.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    kernel.reset();
                    if let Some(found) = work(seed, kernel) {
                        *answer.lock().unwrap() = Some(found);
                    }
                }
            });
        }
    });
    answer.into_inner().unwrap()
}

/// Each takes the verifier about a second.
fn kernels(make: fn() -> Kernel) -> Vec<Kernel> {
    thread::scope(|scope| {
        let loading: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(make)).collect();
        loading.into_iter().map(|kernel| kernel.join().unwrap()).collect()
    })
}

/// Totals over all histories.
#[derive(Default)]
struct Totals {
    report: Report,
    evicted: u64,
    refused: u64,
}

fn hold(seeds: u64, tracking: Tracking, kernels: &mut [Kernel]) -> Totals {
    let totals = Mutex::new(Totals::default());
    let failed = any(seeds, kernels, |seed, kernel| {
        let report = history(seed, SECONDS, tracking, None, kernel);
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
fn the_rules_hold_in_the_kernel_and_each_is_needed() {
    const SEEDS: u64 = 6;
    let mut kernels = kernels(Kernel::roomy);
    let totals = hold(SEEDS, Tracking::Full, &mut kernels);
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
    each_broken_rule_is_noticed(&mut kernels);
    with_edges_tracking(&mut kernels);
}

/// Exceptions outlive a table that is full all the time, and a flood: what gives way is what can be missed.
#[test]
fn the_rules_hold_in_a_full_table() {
    const SEEDS: u64 = 6;
    let totals = hold(SEEDS, Tracking::Full, &mut kernels(Kernel::crowded));
    assert!(totals.report.packets > SEEDS * 200, "only {} packets were checked", totals.report.packets);
    assert!(totals.evicted > SEEDS * 20, "only {} pins were evicted", totals.evicted);
    assert!(totals.refused > SEEDS, "only {} flows were refused", totals.refused);
}

fn with_edges_tracking(kernels: &mut [Kernel]) {
    const SEEDS: u64 = 3;
    kernels.iter_mut().for_each(Kernel::track_edges);
    let totals = hold(SEEDS, Tracking::Edges, kernels);
    assert!(totals.report.packets > SEEDS * 1500, "only {} packets were checked", totals.report.packets);
    assert_eq!(totals.evicted, 0);
}

fn each_broken_rule_is_noticed(kernels: &mut [Kernel]) {
    // How the data path pins while a host is down is its own affair; what the journal keeps is not its affair.
    let is_other = |broken: &Broken| matches!(broken, Broken::PinDown | Broken::Unobserved);
    for broken in Broken::ALL.into_iter().filter(|broken| !is_other(broken)) {
        let expected = match broken {
            Broken::Short => Law::DoneMeansDone,
            _ => Law::PinnedStaysPinned,
        };
        let found = any(64, kernels, |seed, kernel| {
            let report = history(seed, SECONDS, Tracking::Full, Some(broken), kernel);
            report.violations.iter().any(|violation| violation.law == expected).then_some(seed)
        });
        eprintln!("{broken:?} {found:?}");
        assert!(
            found.is_some() || broken == Broken::Unobserved,
            "nothing of {expected:?} found wrong with {broken:?}"
        );
    }
}
