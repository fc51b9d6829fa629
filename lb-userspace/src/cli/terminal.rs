//! What the place that output goes to can show.

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd};

/// Columns of output that nobody looks at through a terminal of known width.
pub const DEFAULT_WIDTH: u16 = 100;

/// How to write for one stream. A pure input of the renderers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Control codes may be written: a terminal, and the user has not set `NO_COLOR`
    /// (<https://no-color.org>).
    pub control: bool,
    /// Other characters than ASCII are escaped.
    pub ascii: bool,
    /// Columns.
    pub width: u16,
    /// Lines, 0 where there is no terminal.
    pub height: u16,
}

impl Style {
    /// For files, pipes and logs.
    pub const PLAIN: Style = Style { control: false, ascii: true, width: DEFAULT_WIDTH, height: 0 };

    pub fn stdout() -> Style {
        Style::of(&std::io::stdout())
    }

    pub fn stderr() -> Style {
        Style::of(&std::io::stderr())
    }

    fn of<S: IsTerminal + AsFd>(stream: &S) -> Style {
        if !stream.is_terminal() {
            return Style::PLAIN;
        }
        let (width, height) = size(stream).unwrap_or((DEFAULT_WIDTH, 24));
        Style { control: !no_colour() && !is_dumb(), ascii: !utf8_locale(), width, height }
    }
}

/// Whether the user wants no colours (<https://no-color.org>).
pub fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}

/// Whether the terminal knows no control codes.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|t| t.is_empty() || t == "dumb")
}

/// Whether the terminal shows UTF-8, by the first of the variables that is set (locale(7)).
pub fn utf8_locale() -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
    locale.is_some_and(|l| {
        let l = l.to_ascii_lowercase();
        l.ends_with("utf-8") || l.ends_with("utf8")
    })
}

/// Columns and lines of a terminal, where it knows them.
fn size<S: AsFd>(stream: &S) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` through the pointer, which lives over the call (tty_ioctl(4));
    // the descriptor is open because `stream` is borrowed.
    let answer = unsafe { libc::ioctl(stream.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col >= 20 && size.ws_row >= 4).then_some((size.ws_col, size.ws_row))
}
