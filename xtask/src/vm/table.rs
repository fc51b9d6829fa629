//! What came out on which kernel, as the table of the README.

use std::fmt;
use std::time::Duration;

use crate::steps::Totals;

/// One run on one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Passed(u64),
    Failed {
        passed: u64,
        failed: u64,
    },
    /// It did not come to its end.
    Broken,
    /// It fails on what is too old, as it should.
    Refused,
    /// It was not run on what is too old.
    Untried,
}

impl Cell {
    /// By the status that the machine gave, if it gave one.
    pub fn of(status: &Result<i32, ()>, totals: Totals, took: Duration) -> Cell {
        println!("== {totals}, {:.0} s", took.as_secs_f64());
        match status {
            Ok(0) => Cell::Passed(totals.passed),
            Ok(_) if totals.suites > 0 && totals.failed > 0 => {
                Cell::Failed { passed: totals.passed, failed: totals.failed }
            }
            _ => Cell::Broken,
        }
    }

    /// On a kernel that is too old: that it does is no news, and that it does not any more is.
    pub fn of_too_old(self) -> Cell {
        match self {
            Cell::Failed { .. } => Cell::Refused,
            _ => Cell::Broken,
        }
    }

    fn is_good(&self) -> bool {
        !matches!(self, Cell::Failed { .. } | Cell::Broken)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Passed(passed) => write!(f, "{passed}"),
            Cell::Failed { passed, failed } => write!(f, "{failed} of {} fail", passed + failed),
            Cell::Broken => f.write_str("broken"),
            Cell::Refused => f.write_str("no"),
            Cell::Untried => f.write_str("–"),
        }
    }
}

/// A row for each kernel, in Markdown.
pub struct Table {
    runs: Vec<&'static str>,
    rows: Vec<(String, Vec<Cell>)>,
}

impl Table {
    pub fn new(runs: impl Iterator<Item = &'static str>) -> Table {
        Table { runs: runs.collect(), rows: Vec::new() }
    }

    pub fn add(&mut self, release: &str, cells: Vec<Cell>) {
        self.rows.push((release.to_owned(), cells));
    }

    /// Whether every run passed on every kernel that is not too old.
    pub fn is_good(&self) -> bool {
        self.rows.iter().flat_map(|(_, cells)| cells).all(Cell::is_good)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| Linux | {} |", self.runs.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(self.runs.len()))?;
        for (release, cells) in &self.rows {
            let cells: Vec<String> = cells.iter().map(Cell::to_string).collect();
            writeln!(f, "| {release} | {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_out_is_told() {
        let totals = |passed, failed| Totals { suites: 1, passed, failed, ignored: 0 };
        let time = Duration::ZERO;
        assert_eq!(Cell::of(&Ok(0), totals(3, 0), time), Cell::Passed(3));
        assert_eq!(Cell::of(&Ok(101), totals(3, 2), time), Cell::Failed { passed: 3, failed: 2 });
        assert_eq!(Cell::of(&Ok(1), totals(3, 0), time), Cell::Broken, "a module that is not there");
        assert_eq!(Cell::of(&Err(()), Totals::default(), time), Cell::Broken);
        let mut table = Table::new(["load", "drain"].into_iter());
        table.add("6.1.0", vec![Cell::Passed(3), Cell::Passed(1)]);
        table.add("5.10.0", vec![Cell::Failed { passed: 0, failed: 3 }.of_too_old(), Cell::Untried]);
        assert!(table.is_good());
        table.add("6.2.0", vec![Cell::Broken, Cell::Failed { passed: 1, failed: 2 }]);
        assert!(!table.is_good());
        let text = "| Linux | load | drain |\n|---|---|---|\n| 6.1.0 | 3 | 1 |\n| 5.10.0 | no | – |\n\
                    | 6.2.0 | broken | 2 of 3 fail |\n";
        assert_eq!(table.to_string(), text);
        assert_eq!(Cell::Passed(3).of_too_old(), Cell::Broken, "it is not too old any more");
    }
}
