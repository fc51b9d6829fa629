//! What the data path costs: nanoseconds a packet by kind of packet and number of flows, and what the daemon's own
//! work takes.
//!
//! A program that feeds a set of packets in turn calls the balancer's program, and the same feeder calls an empty one,
//! in turns within one run; the difference is the balancer's. A *reference* in the same run, a look-up in the kernel's LRU hash,
//! tells what that means on the machine at hand. Figures from shared or virtual machines are good for
//! ratios within one run only. [`veth`] compares with the kernel's own forwarding, over an interface.

mod cases;
pub mod drain;
pub mod feeder;
pub mod frames;
pub mod health;
mod machine;
mod measure;
mod reference;
mod report;
mod scale;
mod subject;
mod userspace;
pub mod veth;

use anyhow::Result;
use lb_userspace::dataplane::Abilities;

pub use report::Report;

/// What is measured, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rounds of which the median counts.
    pub rounds: usize,
    /// Packets that are timed at once, at least.
    pub packets: u32,
    /// Numbers of flows.
    pub flows: Vec<u32>,
    /// Pins that the flow table is made for.
    pub pins: u32,
    /// Only cases whose name contains this.
    pub only: Option<String>,
}

/// Measures everything; `say` gets a line for each step.
///
/// # Errors
/// When the program does not load, or does with the packets something else than the case is about.
pub fn run(options: &Options, mut say: impl FnMut(&str)) -> Result<Report> {
    machine::stay_on_one_cpu()?;
    let machine = machine::Machine::look()?;
    let open = |what: &str, abilities| {
        let instance = format!("bench-{what}{}", std::process::id());
        subject::Subject::open(&instance, options.pins, subject::INGRESS, abilities)
    };
    let mut subject = open("", Abilities::default())?;
    let most = options.flows.iter().copied().max().unwrap_or(1).max(1);
    let places = subject.dataplane.maps.sizes.words();
    let mut feeder = feeder::Feeder::with_reference(subject.program()?, most, places)?;
    let program = subject.program_facts()?;
    let mut cases = Vec::new();
    let is_wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only));
    for case in cases::all(&options.flows) {
        if is_wanted(&case.name()) && !case.by_everything {
            say(&case.name());
            cases.push(measure::measure(&case, options, &mut feeder, &mut subject)?);
        }
        // Beside the row that it is for, so that the machine is as busy.
        if case.has_reference() && is_wanted(reference::NAME) {
            say(reference::NAME);
            cases.push(reference::measure(&case, options, &mut feeder, places)?);
        }
    }
    drop(feeder);
    let by_everything = || {
        cases::all(&options.flows).into_iter().filter(|case| case.by_everything && is_wanted(&case.name()))
    };
    if by_everything().next().is_some() {
        let mut subject = open("everything-", subject::everything())?;
        let mut feeder = feeder::Feeder::load(subject.program()?, most)?;
        for case in by_everything() {
            say(&case.name());
            cases.push(measure::measure(&case, options, &mut feeder, &mut subject)?);
        }
    }
    let work = if options.only.is_none() { userspace::measure(&mut subject, &mut say)? } else { Vec::new() };
    Ok(Report { machine, program, cases, scale: Vec::new(), work })
}

/// Measures how figures depend on sizes: services, hosts, rings, flows and pins.
///
/// # Errors
/// As for [`run`].
pub fn run_scale(options: &Options, mut say: impl FnMut(&str)) -> Result<Report> {
    machine::stay_on_one_cpu()?;
    let machine = machine::Machine::look()?;
    let (program, scale) = scale::packets(options, &mut say)?;
    let work = scale::work(&mut say)?;
    Ok(Report { machine, program, cases: Vec::new(), scale, work })
}
