//! What a packet costs over a veth pair in all, beside the kernel's own forwarding and nftables.
//!
//! Live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`) enter a veth pair, the balancer's end sends them back by whatever is compared,
//! and a program at the end where they came from counts and drops them. All of it happens on one CPU, whose time is
//! divided by the packets that arrived, so that what is lost on the way makes a figure worse and not better.

mod balancer;
mod ends;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::reason::{Class, Reason};

use self::balancer::{Balancer, Forwarder};
use self::ends::Ends;
use super::cases::flows;
use super::machine::{self, Machine};
use super::subject::{Mode, Vips};
use crate::demo::interrupt;
use crate::topology::Wire;

pub use report::{Row, VethReport};

/// Nanoseconds in all that a packet of the larger set of flows may take.
const GOAL: f64 = 145.0;
/// What the others are compared with.
const SEND: &str = "XDP_TX of every packet";
/// Flows from which on [`GOAL`] is asked for.
const MANY: u32 = 100_000;
/// Frames of an untimed run, at least.
const WARM: u32 = 200_000;

/// What is measured, and how thoroughly.
#[derive(Debug, Clone)]
pub struct VethOptions {
    /// Rounds of which the median counts, at most.
    pub rounds: usize,
    /// How long it may take. No round but the first begins that would not end by then.
    pub time: Duration,
    /// Frames that are timed at once.
    pub frames: u32,
    pub flows: Vec<u32>,
    /// Pins that Sluice's flow table is made for.
    pub pins: u32,
}

/// One row in the making.
struct Case {
    what: &'static str,
    forwarder: Forwarder,
    ipip: bool,
    flows: u32,
    ns: Vec<f64>,
    sent: u64,
    arrived: u64,
}

fn cases(flows: &[u32]) -> Vec<Case> {
    let rows = [
        ("XDP drop, nothing sent back", Forwarder::Drop, false),
        (SEND, Forwarder::Send, false),
        ("Sluice, l2", Forwarder::Sluice, false),
        ("Sluice, ipip", Forwarder::Sluice, true),
        ("kernel, IP forwarding", Forwarder::Kernel, false),
        ("nftables, stateless DNAT", Forwarder::Stateless, false),
        ("nftables, DNAT with conntrack", Forwarder::Conntrack, false),
    ];
    let case = |(what, forwarder, ipip)| {
        flows.iter().map(move |&flows| Case {
            what,
            forwarder,
            ipip,
            flows,
            ns: Vec::new(),
            sent: 0,
            arrived: 0,
        })
    };
    rows.into_iter().flat_map(case).collect()
}

/// As [`run`], for a program of its own: `None` when Ctrl-C, SIGTERM or SIGHUP ended it.
///
/// # Errors
/// Those of [`run`], and when signals cannot be handled.
pub fn run_to_its_end(options: &VethOptions, say: impl FnMut(&str) + Send) -> Result<Option<VethReport>> {
    interrupt::watch()?;
    match run(options, say) {
        // What else fails then, fails for it.
        Err(_) if interrupt::asked() => Ok(None),
        result => result.map(Some),
    }
}

/// Measures all rows in turns; `say` gets a line for each step.
///
/// # Errors
/// An `Interrupted` when it was asked to end; when anything cannot be set up; when packets go elsewhere than a row is about.
/// Everything is removed in any case.
pub fn run(options: &VethOptions, say: impl FnMut(&str) + Send) -> Result<VethReport> {
    let wire = Wire::build()?;
    interrupt::guard(wire.prefix());
    // On a thread of its own, which goes from one namespace to the other and stays on its CPU.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| measure(&wire, options, say));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn measure(wire: &Wire, options: &VethOptions, mut say: impl FnMut(&str)) -> Result<VethReport> {
    let started = Instant::now();
    machine::stay_on_one_cpu()?;
    let machine = Machine::look()?;
    wire.balancer().join_thread()?;
    let mut balancer = Balancer::open(wire, options.pins)?;
    wire.outside().join_thread()?;
    let mut ends = Ends::load()?;
    let mut cases = cases(&options.flows);
    let mut rounds = 0;
    let mut longest = Duration::ZERO;
    while rounds < options.rounds && (rounds == 0 || started.elapsed() + longest < options.time) {
        rounds += 1;
        let begun = Instant::now();
        for case in &mut cases {
            let name = format!("{}, {}", case.what, flows(case.flows));
            say(&format!("round {rounds}: {name}"));
            wire.balancer().join_thread()?;
            balancer.switch(case.forwarder, &mut ends).with_context(|| name.clone())?;
            wire.outside().join_thread()?;
            case.measure(options.frames, &balancer, &mut ends).with_context(|| name.clone())?;
        }
        longest = longest.max(begun.elapsed());
    }
    let program = balancer.subject.program_facts()?;
    let mut rows: Vec<Row> = cases.into_iter().map(Case::row).collect();
    let floors: Vec<(u32, f64)> =
        rows.iter().filter(|row| row.what == SEND).map(|row| (row.flows, row.ns)).collect();
    for row in &mut rows {
        row.over_tx =
            floors.iter().find(|&&(flows, _)| flows == row.flows).map_or(0.0, |(_, floor)| row.ns - floor);
    }
    Ok(VethReport { machine, program, pins: options.pins, frames: options.frames, rounds, rows })
}

impl Case {
    /// One round. In the namespace outside.
    fn measure(&mut self, frames: u32, balancer: &Balancer, ends: &mut Ends) -> Result<()> {
        ends.aim(Vips::of(true, false, if self.ipip { Mode::Ipip } else { Mode::L2 }), self.flows)?;
        // Once through, at least: each flow gets its pin, or its entry.
        ends.run(WARM.max(self.flows))?;
        let before = balancer.subject.reasons()?;
        let run = ends.run(frames)?;
        self.forwarder.check(self.flows, &run.arrived)?;
        let arrived = run.arrived.iter().sum::<u64>();
        if self.forwarder == Forwarder::Sluice {
            check(&before, &balancer.subject.reasons()?, arrived)?;
        }
        self.ns.push(run.took.as_nanos() as f64 / arrived as f64);
        self.sent += run.sent;
        self.arrived += arrived;
        Ok(())
    }

    fn row(mut self) -> Row {
        self.ns.sort_by(f64::total_cmp);
        let ns = self.ns[self.ns.len() / 2];
        let goal = (self.forwarder == Forwarder::Sluice && self.flows >= MANY).then_some(GOAL);
        Row {
            what: self.what.to_owned(),
            flows: self.flows,
            ns,
            lowest: self.ns[0],
            highest: self.ns[self.ns.len() - 1],
            over_tx: 0.0,
            mpps: 1000.0 / ns,
            lost: 1.0 - self.arrived as f64 / self.sent as f64,
            goal,
            met: goal.map(|goal| ns <= goal),
        }
    }
}

/// All packets that arrived were forwarded by their flows' pins, but for those whose flow found no place.
fn check(before: &[(Reason, u64)], after: &[(Reason, u64)], arrived: u64) -> Result<()> {
    let counted = before.iter().zip(after).map(|(&(reason, before), &(_, after))| (reason, after - before));
    let by_pin =
        counted.clone().find(|&(reason, _)| reason == Reason::ForwardPin).map_or(0, |(_, count)| count);
    let violated = counted.clone().any(|(reason, count)| reason.class() == Class::Violation && count > 0);
    let others: Vec<String> = counted
        .filter(|&(_, count)| count > 0)
        .map(|(reason, count)| format!("{} {count}", reason.name()))
        .collect();
    ensure!(
        !violated && by_pin + arrived / 1000 >= arrived,
        "{arrived} packets arrived, but not by their pins: {}",
        others.join(", ")
    );
    Ok(())
}
