//! What the demo says, on a terminal or into a file.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_userspace::cli::render::text::{cut, wrap};
use lb_userspace::cli::terminal::Style;

/// Columns of the text, on a terminal that has as many.
const WIDTH: usize = 100;
/// Columns that stand before the text of a stage.
const INDENT: usize = 6;
/// Time between two plain lines of a display that would be redrawn on a terminal.
const PLAIN_PAUSE: Duration = Duration::from_secs(2);

/// Standard output and standard error, by descriptors of the screen's own, so that the process can let go of the
/// standard ones and of whoever reads them.
pub struct Screen {
    /// None after [`Screen::close`].
    out: Option<File>,
    err: Option<File>,
    control: bool,
    width: usize,
    stages: usize,
    stage: usize,
    /// A line that will be redrawn stands on the terminal.
    live: bool,
    /// When the last plain line of the display was written.
    plain: Option<Instant>,
}

impl Screen {
    /// For a demo of so many stages.
    pub fn new(stages: usize) -> Result<Self> {
        let own = |stream: std::io::Result<std::os::fd::OwnedFd>| {
            stream.map(|fd| Some(File::from(fd))).context("cannot duplicate standard output")
        };
        let style = Style::stdout();
        Ok(Self {
            out: own(std::io::stdout().as_fd().try_clone_to_owned())?,
            err: own(std::io::stderr().as_fd().try_clone_to_owned())?,
            control: style.control,
            width: WIDTH.min(style.width.into()),
            stages,
            stage: 0,
            live: false,
            plain: None,
        })
    }

    /// The next stage begins.
    pub fn stage(&mut self, title: &str) {
        self.stage += 1;
        let number = format!("[{}/{}]", self.stage, self.stages);
        let heading = self.bold(&format!("{number} {title}"));
        self.line(&format!("\n{heading}"));
    }

    /// A paragraph below the heading of a stage.
    pub fn say(&mut self, text: &str) {
        let text = wrap(text, self.width - INDENT, 0);
        for line in text.lines() {
            self.line(&format!("{:INDENT$}{line}", ""));
        }
    }

    /// Text as it is.
    pub fn line(&mut self, text: &str) {
        self.end_live();
        self.write(&format!("{text}\n"));
    }

    /// A command that is run, as one would type it.
    pub fn command(&mut self, text: &str) {
        let text = self.bold(&format!("$ {text}"));
        self.line(&text);
    }

    /// What stands now: a line that is redrawn on a terminal, and elsewhere comes every two seconds.
    pub fn live(&mut self, text: &str) {
        if self.control {
            // A narrow terminal has no room for the indent.
            let indent = if self.width < WIDTH { 0 } else { INDENT };
            let text = cut(text, self.width - 1 - indent);
            self.write(&format!("\r{:indent$}{text}\x1b[K", ""));
            self.live = true;
        } else if self.plain.is_none_or(|last| last.elapsed() >= PLAIN_PAUSE) {
            self.plain = Some(Instant::now());
            self.write(&format!("{:INDENT$}{text}\n", ""));
        }
    }

    /// The display is over; its last line stays.
    pub fn end_live(&mut self) {
        self.plain = None;
        if std::mem::take(&mut self.live) {
            self.write("\n");
        }
    }

    /// Says on standard error what went wrong.
    pub fn error(&mut self, text: &str) {
        self.end_live();
        if let Some(err) = &mut self.err {
            // Where nobody listens the exit status has to do.
            let _ = err.write_all(format!("sluice-demo: {text}\n").as_bytes());
        }
    }

    /// Lets go of both streams, so that their reader sees the end; nothing more is said.
    pub fn close(&mut self) {
        self.end_live();
        (self.out, self.err) = (None, None);
    }

    pub fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    pub fn good(&self, text: &str) -> String {
        self.styled("32", text)
    }

    pub fn bad(&self, text: &str) -> String {
        self.styled("1;31", text)
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.control { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn write(&mut self, text: &str) {
        if let Some(out) = &mut self.out {
            // A reader that has gone (`| head`) does not end the demo, whose exit status may still be wanted.
            let _ = out.write_all(text.as_bytes());
        }
    }
}
