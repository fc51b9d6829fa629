//! The list of problems while it grows, and where each field of the file is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use super::problem::{ConfigErrors, Problem};
use super::source::{Excerpt, Source, printable};

/// Characters of a message, path or hint; what is longer repeats a long text of the file.
const MAX_TEXT: usize = 500;
/// A slow guess for each of thousands of wrong names helps nobody.
const MAX_GUESSES: usize = 200;

/// Where the fields of a config file are, so that checks made later can still point at them.
#[derive(Debug, Clone)]
pub struct Spans {
    source: Source,
    places: BTreeMap<String, Range<usize>>,
    addresses: BTreeMap<IpAddr, String>,
}

impl Spans {
    pub fn file(&self) -> &str {
        self.source.file()
    }

    /// Line and column, from 1, of a field such as `hosts.web-1.weight`; of the nearest thing around it when
    /// the file leaves the field out.
    pub fn position(&self, path: &str) -> (u32, u32) {
        self.nearest(path).map_or((1, 1), |span| self.source.position(span.start))
    }

    /// The path of a host's address, such as `hosts.web-1.addresses[0]`.
    pub fn path_of_address(&self, address: IpAddr) -> Option<&str> {
        self.addresses.get(&address).map(String::as_str)
    }

    fn nearest(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        loop {
            if let Some(span) = self.places.get(path) {
                return Some(span.clone());
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// Collects problems instead of stopping at the first.
pub(super) struct Report {
    spans: Spans,
    problems: Vec<Problem>,
    guesses: usize,
}

impl Report {
    pub fn new(source: Source) -> Self {
        let spans = Spans { source, places: BTreeMap::new(), addresses: BTreeMap::new() };
        Report { spans, problems: Vec::new(), guesses: 0 }
    }

    /// Goes on with a file that was read before.
    pub fn resume(spans: &Spans) -> Self {
        Report { spans: spans.clone(), problems: Vec::new(), guesses: 0 }
    }

    /// Whether the file has a field itself.
    pub fn has(&self, path: &str) -> bool {
        self.spans.places.contains_key(path)
    }

    /// Notes where a field is.
    pub fn place(&mut self, path: &str, span: Range<usize>) {
        self.spans.places.insert(path.to_owned(), span);
    }

    pub fn place_address(&mut self, address: IpAddr, path: &str) {
        self.spans.addresses.insert(address, path.to_owned());
    }

    pub fn path_of_address(&self, address: IpAddr) -> Option<&str> {
        self.spans.path_of_address(address)
    }

    /// `"name" (line 7)`, to speak of the first of two equal things.
    pub fn mention(&self, name: &str, path: &str) -> String {
        format!("{name:?} (line {})", self.spans.position(path).0)
    }

    /// A problem of the field at `path`, or of the nearest thing around it when the field is missing.
    pub fn add(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        match self.spans.nearest(path) {
            Some(span) => self.add_at(span, path, message, Some(hint.into())),
            None => self.push((1, 1), path, &message.into(), Some(&hint.into()), None),
        }
    }

    pub fn add_at(
        &mut self,
        span: Range<usize>,
        path: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let (line, column) = self.spans.source.position(span.start);
        let excerpt = self.spans.source.excerpt(&span);
        self.push((line, column), path, &message.into(), hint.as_deref(), Some(excerpt));
    }

    fn push(
        &mut self,
        (line, column): (u32, u32),
        path: &str,
        message: &str,
        hint: Option<&str>,
        excerpt: Option<Excerpt>,
    ) {
        let (path, message, hint) = (tidy(path), tidy(message), hint.map(tidy));
        self.problems.push(Problem { line, column, path, message, hint, excerpt });
    }

    /// Whether to look for a near name once more.
    pub fn may_guess(&mut self) -> bool {
        self.guesses += 1;
        self.guesses <= MAX_GUESSES
    }

    /// `value` and the spans when nothing is wrong, else every problem in the order of the file.
    pub fn finish<T>(self, value: T) -> Result<(T, Spans), ConfigErrors> {
        if self.problems.is_empty() {
            return Ok((value, self.spans));
        }
        Err(self.refuse())
    }

    /// Every problem in the order of the file; there is at least one.
    pub fn refuse(self) -> ConfigErrors {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        ConfigErrors { file: self.spans.source.file().to_owned(), problems }
    }
}

/// Fit for a terminal and of a bounded length, whatever the file holds.
fn tidy(text: &str) -> String {
    let mut tidied: String = text.chars().take(MAX_TEXT).map(printable).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        tidied.push('…');
    }
    tidied
}
