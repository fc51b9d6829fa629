//! The handover rules over random histories: nothing goes wrong with them, and something does with any one of them left out.

use lb_userspace::ring::model::{Broken, Law, Plain, Report, Tracking, history};

const HISTORIES: u64 = 40;
const SECONDS: u64 = 600;

fn run(seed: u64, tracking: Tracking, broken: Option<Broken>) -> Report {
    history(seed, SECONDS, tracking, broken, &mut Plain::new(tracking, broken))
}

fn hold(tracking: Tracking) {
    let (mut packets, mut drains, mut open, mut generations) = (0, 0, 0, 0);
    for seed in 0..HISTORIES {
        let report = run(seed, tracking, None);
        if let Some(first) = report.violations.first() {
            panic!(
                "history {seed} with {tracking:?} tracking: {first} (and {} more)",
                report.violations.len() - 1
            );
        }
        packets += report.packets;
        drains += report.drains_done;
        open += report.replayed_open;
        generations = generations.max(report.generations);
    }
    assert!(packets > HISTORIES * 5000, "only {packets} packets were checked");
    assert!(drains > HISTORIES, "only {drains} drains came to an end");
    assert!(open > HISTORIES, "reboots found only {open} open handovers");
    assert!((5..100).contains(&generations), "the longest lineage had {generations} generations");
}

#[test]
fn the_rules_hold_with_full_tracking() {
    hold(Tracking::Full);
}

#[test]
fn the_rules_hold_with_edges_tracking() {
    hold(Tracking::Edges);
}

#[test]
fn each_rule_is_needed() {
    for broken in Broken::ALL {
        let expected = match broken {
            Broken::Short => Law::DoneMeansDone,
            _ => Law::PinnedStaysPinned,
        };
        let found = (0..HISTORIES)
            .flat_map(|seed| [Tracking::Full, Tracking::Edges].map(|tracking| (seed, tracking)))
            .any(|(seed, tracking)| {
                run(seed, tracking, Some(broken)).violations.iter().any(|violation| violation.law == expected)
            });
        assert!(found, "nothing of {expected:?} found wrong with {broken:?}");
    }
}
