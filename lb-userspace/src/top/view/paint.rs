//! Colours, and what stands for them where there are none (<https://no-color.org>): bold and reversed text. The words say all of it, too.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::state::Top;

#[derive(Debug, Clone, Copy)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    pub fn of(top: &Top) -> Self {
        Paint { colour: top.settings.colour }
    }

    fn pick(self, colour: Style, plain: Style) -> Style {
        if self.colour { colour } else { plain }
    }

    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Paler than the rest, whatever colour that has: bright black is the very background of some palettes.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn good(self) -> Style {
        self.pick(Style::new().fg(Color::Green), Style::new())
    }

    pub fn warn(self) -> Style {
        self.pick(Style::new().fg(Color::Yellow), Style::new())
    }

    pub fn bad(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        self.pick(bold.fg(Color::Red), bold)
    }

    /// What must not be overlooked.
    pub fn loud(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        self.pick(bold.fg(Color::White).bg(Color::Red), bold.add_modifier(Modifier::REVERSED))
    }

    pub fn header(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        self.pick(bold.fg(Color::Cyan), bold)
    }

    /// The chosen line. Reversed where there are colours, too: terminals have any background.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of a word that is a state.
    fn word(self, word: &str) -> Option<Style> {
        match word.trim_matches(|c: char| !c.is_ascii_alphanumeric()) {
            "DOWN" | "failed" | "SUSPECTED" | "PANIC" | "overdue" | "ending" => Some(self.bad()),
            "draining" | "unknown" | "paused" | "working" | "proving" | "returning" | "ramping" => {
                Some(self.warn())
            }
            "active" | "up" | "well" | "done" | "running" => Some(self.good()),
            "drained" | "disabled" | "waiting" => Some(self.dim()),
            _ => None,
        }
    }

    /// A line in which words that are states have their colours.
    pub fn words(self, text: &str) -> Line<'static> {
        let spans = text.split_inclusive(' ').map(|word| match self.word(word) {
            Some(style) => Span::styled(word.to_owned(), style),
            None => Span::raw(word.to_owned()),
        });
        Line::from(spans.collect::<Vec<_>>())
    }
}
