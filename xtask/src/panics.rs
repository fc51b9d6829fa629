//! Panics of tests that failed, to be told once more where a run ends: a long run's output is seldom kept whole.

use std::fmt;

/// Lines of a panic's message that are kept: an assertion has three.
const LINES: usize = 3;
/// Characters of a line that are kept.
const WIDTH: usize = 600;

/// The panics among the lines of tests' output, in order.
#[derive(Debug, Default)]
pub struct Panics {
    told: Vec<String>,
    /// Lines that still belong to the last one.
    missing: usize,
}

impl Panics {
    /// Takes in a line. A panic begins with `thread '…' (1) panicked at …:`; its message ends at a backtrace or an empty line.
    pub fn add(&mut self, line: &str) {
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.told.push(cut(line));
            self.missing = LINES;
        } else if line.is_empty() || line.starts_with("stack backtrace:") || line.starts_with("note: ") {
            self.missing = 0;
        } else if let (Some(last), 1..) = (self.told.last_mut(), self.missing) {
            last.push_str("\n      ");
            last.push_str(&cut(line));
            self.missing -= 1;
        }
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    }
}

impl fmt::Display for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.told.iter().try_for_each(|panic| write!(f, "\n    {panic}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_message_and_no_more() {
        let mut panics = Panics::default();
        let long = format!("  left: {}", "7".repeat(1000));
        for line in [
            "test a ... FAILED",
            "thread 'a' (28968) panicked at tests/a.rs:109:5:",
            "assertion `left == right` failed: counts",
            &long,
            "  right: 8",
            "stack backtrace:",
            "   0: __rustc::rust_begin_unwind",
            "thread 'b' (1) panicked at tests/b.rs:1:1:",
            "one line",
            "",
            "test result: FAILED. 0 passed; 2 failed",
        ] {
            panics.add(line);
        }
        let lines: Vec<String> = panics.to_string().lines().skip(1).map(str::to_owned).collect();
        let starts = [
            "    thread 'a'",
            "      assertion",
            "        left: 7",
            "        right",
            "    thread 'b'",
            "      one",
        ];
        assert_eq!(lines.len(), starts.len(), "{lines:#?}");
        assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{lines:#?}");
        assert!(lines[2].len() < 700 && lines[2].ends_with('…'));
    }
}
