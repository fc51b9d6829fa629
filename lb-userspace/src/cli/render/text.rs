//! Plain text: foreign words made harmless, lines that fit, tables without borders.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table};

use crate::cli::terminal::Style;

/// `text` without control characters, so that a reason or a name from elsewhere cannot steer the terminal,
/// and for `ascii` without anything but ASCII; both are escaped as Rust does.
pub fn clean(text: &str, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            // The bidirectional controls reorder what stands around them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.extend(c.escape_unicode()),
            c if c.is_control() || (ascii && !c.is_ascii()) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Breaks at spaces so that no line is longer than `width`, where words allow it; lines after the first are
/// indented.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for (i, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if i > 0 && column + 1 + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// Cuts to `width` characters; the last shows that something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('~');
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    /// Numbers: never broken over lines.
    Right,
}

/// A table without borders, two spaces between columns.
pub struct Grid {
    table: Table,
    columns: &'static [(&'static str, Align)],
    style: Style,
    rows: usize,
}

impl Grid {
    pub fn new(columns: &'static [(&'static str, Align)], style: Style) -> Self {
        let mut table = Table::new();
        table.force_no_tty().set_content_arrangement(ContentArrangement::Dynamic).set_width(style.width);
        Grid { table, columns, style, rows: 0 }
    }

    /// One cell for each column; the cells are cleaned here.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<Cell> = cells.into_iter().map(|c| Cell::new(clean(&c, self.style.ascii))).collect();
        debug_assert_eq!(cells.len(), self.columns.len());
        self.table.add_row(Row::from(cells));
        self.rows += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Ends with a newline.
    pub fn render(mut self) -> String {
        self.table.set_header(self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        self.table.load_style(comfy_table::presets::NOTHING);
        for (i, (_, align)) in self.columns.iter().enumerate() {
            let last = i + 1 == self.columns.len();
            let Some(column) = self.table.column_mut(i) else { continue };
            column.set_padding((0, if last { 0 } else { 2 }));
            if *align == Align::Right {
                column.set_cell_alignment(CellAlignment::Right);
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        self.table.trim_fmt() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_harmless() {
        assert_eq!(clean("a\x1b[2J\rb\n\u{202e}ü", false), "a\\u{1b}[2J\\u{d}b \\u{202e}ü");
        assert_eq!(clean("kernel für web", true), "kernel f\\u{fc}r web");
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three", 7, 2), "one two\n  three");
        assert_eq!(wrap("one two three", 80, 2), "one two three");
        assert_eq!(wrap("unbreakable", 4, 2), "unbreakable");
    }

    #[test]
    fn cuts_show() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc~");
    }

    #[test]
    fn numbers_stand_right_and_are_not_broken() {
        let mut grid =
            Grid::new(&[("NAME", Align::Left), ("COUNT", Align::Right)], Style { width: 20, ..Style::PLAIN });
        grid.row(["a".to_owned(), "1".to_owned()]);
        grid.row(["long words that wrap".to_owned(), "1000000000000".to_owned()]);
        assert_eq!(
            grid.render(),
            "NAME           COUNT\n\
             a                  1\n\
             long   1000000000000\n\
             words\n\
             that\n\
             wrap\n"
        );
    }
}
