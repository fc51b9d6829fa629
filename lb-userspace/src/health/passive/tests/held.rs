//! Hosts held against each other.

use super::super::looks::Stretch;
use super::*;

fn look(begun: u64, failed: u64) -> Look {
    Look { span: 1500, begun, failed, ..Look::default() }
}

#[test]
fn percent_is_of_the_flows_that_began() {
    let passive = Passive { failing: Percent(60), ..Passive::default() };
    let judge = |own: Look, others: &[Look]| {
        let all = [&[own], others].concat();
        Stretch::of(all).judge(Sign::Handshakes, 0, &passive)
    };
    let others = [look(100, 0), look(100, 1)];
    assert_eq!(judge(look(100, 59), &others), Verdict::Well);
    assert!(matches!(judge(look(100, 60), &others), Verdict::Bad(_)));
    assert_eq!(judge(look(100, 100), &[]), Verdict::TooFew);
    assert_eq!(judge(look(100, 100), &[look(5, 0)]), Verdict::TooFew);
    // Twice as bad as others.
    assert_eq!(judge(look(1000, 900), &[look(1000, 460)]), Verdict::Well);
}

/// Sorted once for all of them, each is held against the same flows as if the others alone had been sorted.
#[test]
fn a_host_is_held_against_the_better_half_of_the_others() {
    let passive = Passive::default();
    let (mut world, mut count_of_bad) = (World::new(1), 0);
    for round in 0..300 {
        let mut next = |most: u64| {
            world.chance(0.5);
            (world.seed >> 33) % (most + 1)
        };
        let count = 1 + next(8);
        let looks: Vec<Look> = (0..count)
            .map(|_| {
                let begun = next(30);
                look(begun, begun * next(20) / 20)
            })
            .collect();
        let stretch = Stretch::of(looks.clone());
        for host in 0..looks.len() {
            let mut others: Vec<Look> = looks.clone();
            let own = others.remove(host);
            others.retain(|look| look.begun > 0);
            others.sort_by(|a, b| (a.failed * b.begun).cmp(&(b.failed * a.begun)));
            let half = others.len().div_ceil(2);
            let (mut bad, mut all) = (0, 0);
            for (place, look) in others.iter().enumerate() {
                if place >= half && all >= 20 {
                    break;
                }
                (bad, all) = (bad + look.failed, all + look.begun);
            }
            match stretch.judge(Sign::Handshakes, host, &passive) {
                Verdict::TooFew => assert!(own.begun == 0 || all < 20, "{round}: {host} of {looks:?}"),
                Verdict::Well => assert!(own.begun > 0 && all >= 20, "{round}: {host} of {looks:?}"),
                Verdict::Bad(why) => {
                    count_of_bad += 1;
                    let of_others = why.split("of other hosts ").nth(1);
                    assert_eq!(
                        of_others,
                        Some(format!("{bad} of {all}").as_str()),
                        "{round}: {host} of {looks:?}"
                    );
                }
            }
        }
    }
    assert!(count_of_bad > 20, "{count_of_bad}");
}

/// Of thousands of hosts half are dead; each look is sorted once for all of them.
#[test]
fn thousands_of_hosts_are_looked_at_together() {
    let passive = Passive::default();
    let mut samples = Samples::default();
    let mut totals = vec![Totals::default(); 4000];
    for tick in 0..48 {
        for (host, totals) in totals.iter_mut().enumerate() {
            // From 4 to 64 a second.
            let flows = 1 + host as u64 % 16;
            totals.begun += flows;
            totals.answered += if host % 2 == 0 { flows } else { 0 };
        }
        samples.add(tick * PACE, totals.clone(), &passive);
    }
    let looks = samples.looks(|_| 0, &passive);
    let bad = (0..totals.len()).filter(|host| {
        let [(_, handshakes), ..] = looks.verdicts(*host, &passive);
        matches!(handshakes, Verdict::Bad(_))
    });
    assert_eq!(bad.count(), 2000);
}
