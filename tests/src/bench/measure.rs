//! One case, measured.

use anyhow::{Context, Result, bail, ensure};
use lb_common::reason::{Class, Reason};

use super::Options;
use super::cases::Case;
use super::feeder::{Called, Feeder};
use super::frames::{Flows, Kind};
use super::report::Figure;
use super::subject::Subject;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
pub(super) const XDP_TX: u32 = 3;
/// Packets of a case that may be counted as something else, one in so many: pins that found no place.
pub(super) const TOLERANCE: u64 = 1000;

/// Runs the case and an empty program in turns.
pub fn measure(case: &Case, options: &Options, feeder: &mut Feeder, subject: &mut Subject) -> Result<Figure> {
    let what = || format!("case `{}`", case.name());
    subject.forget_all()?;
    for &kind in &case.before {
        fill(feeder, kind, case)?;
        // Once through: each flow gets its pin.
        feeder.run(Called::Tested, case.flows)?;
    }
    fill(feeder, case.kind, case)?;
    let tuples: Vec<_> = if case.forget {
        let flows = Flows::new(case.kind, case.vip);
        (0..case.flows).filter_map(|flow| flows.frame(flow).tuple()).collect()
    } else {
        Vec::new()
    };
    // Whole passes; one only where each pass needs flows that are new.
    let packets =
        if case.forget { case.flows } else { case.flows * options.packets.div_ceil(case.flows).max(1) };
    let repeats = if case.forget { (options.packets / case.flows).clamp(1, 20) } else { 1 };
    let (empty, verdict) = match case.reason.class() {
        Class::Pass => (Called::Passer, XDP_PASS),
        Class::Drop => (Called::Sender, XDP_DROP),
        _ => (Called::Sender, XDP_TX),
    };

    let (mut differences, mut floors) = (Vec::new(), Vec::new());
    let mut loads = Vec::new();
    for _ in 0..options.rounds {
        let (mut floor, mut tested) = (0.0, 0.0);
        for _ in 0..repeats {
            feeder.run(empty, packets)?;
            floor += feeder.run(empty, packets)?.0;
            subject.forget(&tuples)?;
            feeder.run(Called::Tested, packets)?;
            subject.forget(&tuples)?;
            let before = subject.reasons()?;
            let (ns, returned) = feeder.run(Called::Tested, packets).with_context(what)?;
            tested += ns;
            check(&before, &subject.reasons()?, case.reason, u64::from(packets)).with_context(what)?;
            ensure!(returned == verdict, "{}: the program returned {returned}, not {verdict}", what());
        }
        floors.push(floor / f64::from(repeats));
        differences.push((tested - floor) / f64::from(repeats));
        loads.push(subject.load());
    }
    let figure = Figure::of(&case.what, case.flows, differences, floors);
    Ok(Figure {
        table_bytes: subject.hot_bytes(),
        load: loads[options.rounds / 2],
        goal: case.goal.map(|goal| goal.0),
        aim: case.goal.map(|goal| goal.1),
        met: case.goal.map(|goal| figure.ns <= goal.0),
        ..figure
    })
}

impl Figure {
    /// From the rounds' times over the empty program, and its own.
    pub(super) fn of(what: &str, flows: u32, mut differences: Vec<f64>, mut floors: Vec<f64>) -> Figure {
        differences.sort_by(f64::total_cmp);
        floors.sort_by(f64::total_cmp);
        let (rounds, middle) = (differences.len(), differences.len() / 2);
        Figure {
            case: what.to_owned(),
            flows,
            table_bytes: 0,
            load: 0.0,
            ns: differences[middle],
            lowest: differences[0],
            highest: differences[rounds - 1],
            empty: floors[middle],
            goal: None,
            aim: None,
            met: None,
        }
    }
}

/// Gives the feeder the packets of a case, of another kind or its own.
pub(super) fn fill(feeder: &mut Feeder, kind: Kind, case: &Case) -> Result<()> {
    let flows = Flows::new(kind, case.vip);
    let count = case.flows as usize;
    feeder.set((0..count).map(|flow| flows.frame(flow as u32)))
}

/// All packets were counted as what the case is about, and nothing that must not happen did.
pub(super) fn check(
    before: &[(Reason, u64)],
    after: &[(Reason, u64)],
    reason: Reason,
    packets: u64,
) -> Result<()> {
    let counted = before.iter().zip(after).map(|(&(reason, before), &(_, after))| (reason, after - before));
    let others: Vec<String> = counted
        .clone()
        .filter(|&(other, count)| other != reason && count > 0)
        .map(|(other, count)| format!("{} {count}", other.name()))
        .collect();
    let right = counted.clone().find(|&(other, _)| other == reason).map_or(0, |(_, count)| count);
    let violated = counted.clone().any(|(other, count)| other.class() == Class::Violation && count > 0);
    if violated || right + packets / TOLERANCE < packets {
        bail!(
            "{right} of {packets} packets were counted as {}; others: {}",
            reason.name(),
            others.join(", ")
        );
    }
    Ok(())
}
