//! The terminal: taken over at the start, and given back as it was, however the program ends.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event, read};
use tokio::sync::mpsc::UnboundedSender;

use super::key;
use super::order::News;
use super::state::Top;
use super::view;

/// The screen; when it is dropped, or the program panics, the terminal is as it was before.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub fn open() -> io::Result<Self> {
        Ok(Screen { terminal: ratatui::try_init()? })
    }

    /// Columns and lines.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Everything anew, whatever else wrote to the terminal.
    pub fn clear(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    pub fn draw(&mut self, top: &Top) -> io::Result<()> {
        self.terminal.draw(|frame| view::draw(frame, top)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A cursor that was hidden is shown; of a terminal that is gone there is nothing to give back.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// Reads keys on a thread of its own, as reading waits. It ends with the terminal, and then the core is told by the end of its news.
pub fn read_keys(news: UnboundedSender<News>) -> io::Result<()> {
    let work = move || {
        while let Ok(event) = read() {
            let told = match event {
                Event::Key(event) => key::of(&event).map(News::Key),
                Event::Resize(columns, lines) => Some(News::Size(columns, lines)),
                _ => None,
            };
            if told.is_some_and(|told| news.send(told).is_err()) {
                return;
            }
        }
        let _ = news.send(News::Key(key::Key::Interrupt));
    };
    std::thread::Builder::new().name("keys".into()).spawn(work).map(drop)
}
