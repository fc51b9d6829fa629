//! The figures, as a table for people or as JSON.

use std::fmt;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use super::cases::flows;
use super::machine::Machine;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub program: ProgramFacts,
    pub cases: Vec<Figure>,
    pub scale: Vec<Scaled>,
    pub work: Vec<Work>,
}

/// The program in the kernel.
#[derive(Debug, Serialize)]
pub struct ProgramFacts {
    /// Instructions that the verifier walked; a million is its limit.
    pub verified: u32,
    /// Instructions of the program.
    pub instructions: u32,
    /// Bytes of machine code.
    pub jited: u32,
}

/// Nanoseconds a packet.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub case: String,
    pub flows: u32,
    /// Span of the flow table's hot array; of the reference: of its table's keys and values.
    pub table_bytes: u64,
    /// Part of it in use.
    pub load: f64,
    /// Over the empty program; median of the rounds.
    pub ns: f64,
    pub lowest: f64,
    pub highest: f64,
    /// The feeder with the empty program.
    pub empty: f64,
    pub goal: Option<f64>,
    /// What is aimed at in the end.
    pub aim: Option<f64>,
    pub met: Option<bool>,
}

/// Nanoseconds a packet over an empty program, in a data path of some size.
#[derive(Debug, Serialize)]
pub struct Scaled {
    pub services: u32,
    pub hosts: u32,
    pub rings: u32,
    /// Flows in turn, and services in turn with them.
    pub flows: u32,
    /// Live flows of services that track all.
    pub full: Spread,
    /// Mid-flow packets of services that track edges.
    pub edges: Spread,
}

/// Of the rounds.
#[derive(Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

/// Milliseconds of the daemon's work.
#[derive(Debug, Serialize)]
pub struct Work {
    pub what: String,
    pub ms: f64,
    pub lowest: f64,
    pub highest: f64,
    pub goal: Option<f64>,
    pub met: Option<bool>,
}

pub(super) fn goal(goal: Option<f64>) -> String {
    goal.map_or(String::new(), |goal| format!("≤ {goal:.0}"))
}

pub(super) fn met(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    }
}

pub(super) fn table(header: &[&str], text_columns: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header.iter().enumerate().map(|(column, &name)| {
        let cell = Cell::new(name);
        if column < text_columns { cell } else { cell.set_alignment(CellAlignment::Right) }
    }));
    for column in table.column_iter_mut().skip(text_columns) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cpus, kernel, random_read: [near, far], disturbed: [usual, often], load } = self;
        writeln!(f, "{cpu}, {cpus} CPUs, Linux {kernel}, load {load} at the start.")?;
        writeln!(f, "One dependent random read takes {near:.0} ns within 1 MiB, {far:.0} ns within 16 MiB.")?;
        writeln!(
            f,
            "The same arithmetic takes {usual:.2} times its shortest time at the median, {often:.2} times in one of ten runs."
        )?;
        writeln!(f, "Figures from shared or virtual machines are for ratios within one run.")
    }
}

impl fmt::Display for ProgramFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProgramFacts { verified, instructions, jited } = self;
        writeln!(
            f,
            "Program: {instructions} instructions, {jited} bytes of machine code; the verifier walked {verified} of at most 1000000."
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.machine, self.program)?;
        if !self.scale.is_empty() {
            self.write_scale(f)?;
        }
        if !self.cases.is_empty() {
            self.write_cases(f)?;
        }
        if !self.work.is_empty() {
            self.write_work(f)?;
        }
        Ok(())
    }
}

impl Report {
    fn write_cases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nNanoseconds a packet over an empty program, median of the rounds:")?;
        let mut figures = table(
            &["case", "flows", "table", "load", "ns", "lowest", "highest", "empty", "goal", "met", "aim"],
            1,
        );
        for figure in &self.cases {
            figures.add_row([
                figure.case.clone(),
                flows(figure.flows).replace(" flows", "").replace(" flow", ""),
                format!("{} MiB", figure.table_bytes >> 20),
                format!("{:.2}", figure.load),
                format!("{:.1}", figure.ns),
                format!("{:.1}", figure.lowest),
                format!("{:.1}", figure.highest),
                format!("{:.1}", figure.empty),
                goal(figure.goal),
                met(figure.met).to_owned(),
                goal(figure.aim),
            ]);
        }
        writeln!(f, "{figures}")
    }

    fn write_scale(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nNanoseconds a packet over an empty program by size, TCP/IPv4 l2, services in turn, median (lowest):"
        )?;
        let mut sizes = table(&["services", "hosts", "rings", "flows", "tracking full", "tracking edges"], 0);
        let cell = |spread: &Spread| format!("{:.1} ({:.1})", spread.median, spread.lowest);
        for row in &self.scale {
            sizes.add_row([
                row.services.to_string(),
                row.hosts.to_string(),
                row.rings.to_string(),
                flows(row.flows).replace(" flows", ""),
                cell(&row.full),
                cell(&row.edges),
            ]);
        }
        writeln!(f, "{sizes}")
    }

    fn write_work(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nThe daemon's work, milliseconds, median:")?;
        let mut work = table(&["what", "ms", "lowest", "highest", "goal", "met"], 1);
        for row in &self.work {
            work.add_row([
                row.what.clone(),
                format!("{:.2}", row.ms),
                format!("{:.2}", row.lowest),
                format!("{:.2}", row.highest),
                goal(row.goal),
                met(row.met).to_owned(),
            ]);
        }
        writeln!(f, "{work}")
    }
}
