//! What is wrong with a config file, where, and what would be right.

use std::fmt;

use serde::Serialize;

use super::source::Excerpt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// From 1; 0 when the file could not be read at all.
    pub line: u32,
    /// In characters, from 1; 0 when the file could not be read at all.
    pub column: u32,
    /// The field, such as `services[0].vip` (elements count from 0); empty for a problem of the file as a whole.
    pub path: String,
    /// What is wrong, in lower case.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

/// Why a config was refused: all problems of a file, in the order of their places.
///
/// `Display` prints every problem with its line of the file, one blank line between, and a count at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigErrors {
    pub file: String,
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl ConfigErrors {
    /// A file that could not be read or is no text: there is no line to point at.
    pub(super) fn of_file(file: &str, message: String, hint: &str) -> Self {
        let problem = Problem {
            line: 0,
            column: 0,
            path: String::new(),
            message,
            hint: Some(hint.to_owned()),
            excerpt: None,
        };
        ConfigErrors { file: file.to_owned(), problems: vec![problem] }
    }
}

impl ConfigErrors {
    /// Each problem as it is printed: its place and what is wrong, the line of the file, what would be right.
    pub fn each(&self) -> Vec<String> {
        let text = self.to_string();
        text.split("\n\n").take(self.problems.len()).map(str::to_owned).collect()
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            write!(f, "{}:", self.file)?;
            if problem.line > 0 {
                write!(f, "{}:{}:", problem.line, problem.column)?;
            }
            if !problem.path.is_empty() {
                write!(f, " {}:", problem.path)?;
            }
            writeln!(f, " {}", problem.message)?;
            let line = if problem.line > 0 { problem.line.to_string() } else { String::new() };
            let gutter = line.len().max(4);
            if let Some(excerpt) = &problem.excerpt {
                writeln!(f, "{line:>gutter$} | {}", excerpt.text.trim_end())?;
                let (indent, marks) = (" ".repeat(excerpt.indent), "^".repeat(excerpt.width));
                writeln!(f, "{:>gutter$} | {indent}{marks}", "")?;
            }
            if let Some(hint) = &problem.hint {
                writeln!(f, "{:>gutter$} = {hint}", "")?;
            }
            writeln!(f)?;
        }
        match self.problems.len() {
            1 => write!(f, "1 problem in {}", self.file),
            count => write!(f, "{count} problems in {}", self.file),
        }
    }
}
