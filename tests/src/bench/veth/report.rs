//! The figures, as a table for people or as JSON.

use std::fmt;

use serde::Serialize;

use crate::bench::cases::flows;
use crate::bench::machine::Machine;
use crate::bench::report::{ProgramFacts, goal, met, table};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct VethReport {
    pub machine: Machine,
    /// Sluice's.
    pub program: ProgramFacts,
    /// Pins that Sluice's flow table is made for.
    pub pins: u32,
    /// Frames that were timed at once.
    pub frames: u32,
    /// Rounds of which the median counts.
    pub rounds: usize,
    pub rows: Vec<Row>,
}

/// Nanoseconds a packet that arrived.
#[derive(Debug, Serialize)]
pub struct Row {
    pub what: String,
    pub flows: u32,
    /// Of the CPU, for all that happens to a packet: its making, both ways over the wire, and what is compared. Median.
    pub ns: f64,
    pub lowest: f64,
    pub highest: f64,
    /// What the forwarding itself takes: `ns` less that of an XDP program that only sends packets back.
    pub over_tx: f64,
    /// Millions of packets a second that one CPU would make, forward and count so.
    pub mpps: f64,
    /// Part of the packets sent that did not arrive, in all rounds.
    pub lost: f64,
    pub goal: Option<f64>,
    pub met: Option<bool>,
}

impl fmt::Display for VethReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.machine, self.program)?;
        writeln!(
            f,
            "\nOver a veth pair, on one CPU: nanoseconds in all a UDP packet of 64 bytes that arrived, median of {} rounds of {} \
             packets:",
            self.rounds, self.frames
        )?;
        let mut figures =
            table(&["what", "flows", "ns", "lowest", "highest", "over TX", "Mpps", "lost", "goal", "met"], 1);
        for row in &self.rows {
            figures.add_row([
                row.what.clone(),
                flows(row.flows).replace(" flows", ""),
                format!("{:.0}", row.ns),
                format!("{:.0}", row.lowest),
                format!("{:.0}", row.highest),
                format!("{:.0}", row.over_tx),
                format!("{:.2}", row.mpps),
                format!("{:.2} %", row.lost * 100.0),
                goal(row.goal),
                met(row.met).to_owned(),
            ]);
        }
        writeln!(f, "{figures}")
    }
}
