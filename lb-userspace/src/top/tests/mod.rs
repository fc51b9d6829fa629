//! The screen as a terminal of some size would show it, and what keys make of it.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use crate::api::types::*;
use crate::cli::render::fixtures::{self, NOW};

use super::key::Key;
use super::order::{Look, News, Order, Wanted};
use super::state::{Now, Settings, Step, Top};
use super::view;

mod dialogs;
mod fleet;
mod screens;

/// So many seconds after the start.
fn at(seconds: u64) -> Now {
    Now { up: Duration::from_secs(seconds), unix: NOW + seconds }
}

fn look(status: Status) -> Look {
    Look { wanted: Wanted::default(), status, runs: Vec::new(), drains: Vec::new(), health: None }
}

fn settings() -> Settings {
    Settings { command: "sluice".to_owned(), colour: true, ascii: true, ..Settings::default() }
}

fn top_of(size: (u16, u16), status: Status) -> Top {
    Top::new(settings(), size, look(status), at(0))
}

fn some(size: (u16, u16)) -> Top {
    top_of(size, fixtures::status())
}

fn draw(top: &Top) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(top.size.0, top.size.1)).unwrap();
    terminal.draw(|frame| view::draw(frame, top)).unwrap();
    terminal.backend().buffer().clone()
}

/// The lines of the screen without trailing blanks.
fn screen(top: &Top) -> String {
    let buffer = draw(top);
    let lines = buffer.content.chunks(usize::from(buffer.area.width));
    let lines = lines.map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn press(top: &mut Top, key: Key) -> Step {
    let now = top.now;
    top.take(News::Key(key), now)
}

/// Keys that are characters.
fn write(top: &mut Top, text: &str) {
    for c in text.chars() {
        press(top, Key::Char(c));
    }
}

/// Keys, the last of which asks the daemon for something.
fn asked(top: &mut Top, keys: &[Key]) -> (u64, Order) {
    let (last, first) = keys.split_last().unwrap();
    for key in first {
        assert!(matches!(press(top, *key), Step::Stay), "{key:?}");
    }
    match press(top, *last) {
        Step::Ask(number, order) => (number, order),
        other => panic!("{other:?}"),
    }
}
