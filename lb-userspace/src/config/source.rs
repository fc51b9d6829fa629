//! The text of a config file, and how a byte offset becomes a line, a column and an excerpt.

use std::fmt;
use std::ops::Range;

/// A run of so many hex digits may be a key, whatever its field is called.
const SECRET_RUN: usize = 16;
/// Longest excerpt line in characters; a longer one is cut around the place of the problem.
const EXCERPT_WIDTH: usize = 120;
/// Characters kept before the place when a line is cut.
const EXCERPT_LEAD: usize = 40;

/// A config file's text and its name as the operator gave it.
#[derive(Clone)]
pub struct Source {
    file: String,
    text: String,
    /// Byte offset of the first character of each line; never empty.
    line_starts: Vec<usize>,
}

/// The line that a problem is on, fit for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Without control characters; the part around the place where the line is long.
    pub text: String,
    /// Characters of `text` before the place.
    pub indent: usize,
    /// Characters to mark, at least one.
    pub width: usize,
}

impl Source {
    pub fn new(file: &str, text: &str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Source { file: file.to_owned(), text: text.to_owned(), line_starts }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// Line and column of a byte offset, both from 1; columns count characters, as editors do. An offset
    /// behind the end means the end.
    pub fn position(&self, offset: usize) -> (u32, u32) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line_of(offset);
        let column = self.text[self.line_starts[line]..offset].chars().count();
        (line as u32 + 1, column as u32 + 1)
    }

    /// The part of the text from which a problem arose; a span over several lines is cut at the first line's
    /// end. The value of `hash_key` is a secret and does not appear, nor does what looks like it elsewhere.
    pub fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        let line = self.line_of(start);
        let line_start = self.line_starts[line];
        let whole = self.text[line_start..].split('\n').next().unwrap_or_default();
        let whole = whole.strip_suffix('\r').unwrap_or(whole);
        let before = self.text[line_start..start].chars().count();
        let marked = self.text[start..end].split('\n').next().unwrap_or_default().trim_end().chars().count();
        if whole.contains("hash_key") {
            let text = "hash_key = (not shown)".to_owned();
            return Excerpt { width: text.len(), text, indent: 0 };
        }

        let whole = mask_keys(whole);
        let length = whole.chars().count();
        let skip = if length > EXCERPT_WIDTH { before.saturating_sub(EXCERPT_LEAD) } else { 0 };
        let mut text = String::new();
        if skip > 0 {
            text.push('…');
        }
        let indent = before - skip + text.chars().count();
        text.extend(whole.chars().skip(skip).take(EXCERPT_WIDTH).map(printable));
        if length > skip + EXCERPT_WIDTH {
            text.push('…');
        }
        let room = text.chars().count().saturating_sub(indent);
        Excerpt { text, indent, width: marked.min(room).max(1) }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset) - 1
    }
}

/// The text may hold the hash key, so it is not printed.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).field("bytes", &self.text.len()).finish()
    }
}

/// A tab becomes one space, so that the mark stays under its place, and what could drive a terminal is replaced.
pub(super) fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The line with a star for each digit of a long run of hex digits.
fn mask_keys(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let run = &rest[start..];
        let run = &run[..run.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(run.len())];
        masked.push_str(&rest[..start]);
        if run.len() < SECRET_RUN {
            masked.push_str(run);
        } else {
            masked.extend(std::iter::repeat_n('*', run.len()));
        }
        rest = &rest[start + run.len()..];
    }
    masked + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("f", "ä = 1\nb\r\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(1), (1, 1), "inside a character");
        assert_eq!(source.position(2), (1, 2));
        assert_eq!(source.position(7), (2, 1));
        assert_eq!(source.position(10), (3, 1));
        assert_eq!(source.position(1000), (3, 1));
        assert_eq!(Source::new("f", "").position(3), (1, 1));
    }

    #[test]
    fn excerpts_mark_the_span_and_hold_no_control_characters() {
        let source = Source::new("f", "a\t= 'x\u{1b}[2J'\r\nb = [\n1]\n");
        let excerpt = source.excerpt(&(4..12));
        assert_eq!(excerpt, Excerpt { text: "a = 'x\u{fffd}[2J'".to_owned(), indent: 4, width: 7 });
        let array = source.text.rfind('[').unwrap();
        assert_eq!(
            source.excerpt(&(array..array + 4)),
            Excerpt { text: "b = [".to_owned(), indent: 4, width: 1 }
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "x".repeat(500), "y".repeat(500));
        let excerpt = Source::new("f", &text).excerpt(&(500..504));
        let marked: String = excerpt.text.chars().skip(excerpt.indent).take(excerpt.width).collect();
        assert_eq!(marked, "HERE");
        assert!(excerpt.text.chars().count() <= EXCERPT_WIDTH + 2);
    }

    #[test]
    fn the_hash_key_does_not_appear() {
        let source = Source::new("f", "hash_key = \"0011223344\"\n");
        assert!(!source.excerpt(&(11..23)).text.contains("0011"));
        assert!(!format!("{source:?}").contains("0011"));

        let typo = "hashkey = \"00112233445566778899aabbccddeeff\" # on eth0";
        let excerpt = Source::new("f", typo).excerpt(&(0..7));
        assert_eq!(excerpt.text, format!("hashkey = \"{}\" # on eth0", "*".repeat(32)));
    }
}
