//! Keys, and what they do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A key as the core knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
    /// Ctrl-U: the whole line.
    Clear,
    /// Ctrl-L
    Redraw,
    /// Ctrl-C
    Interrupt,
}

/// What the help says: keys, and what they do.
pub const HELP: &[(&str, &str)] = &[
    ("up down, k j", "choose a host, or scroll"),
    ("PgUp PgDn, Home End", "farther"),
    ("Enter", "all about the host; Esc leads back"),
    ("1 2 3 4 5, Tab", "hosts, drains, health, runs and shifts, events"),
    ("space", "mark the host: a verb means all that are marked"),
    ("d", "drain: no new flows, live flows go on until they end"),
    ("u", "undrain: take it back"),
    ("p", "plan: what would draining do, and may it?"),
    ("/", "only hosts with this in name or state; Esc: all"),
    ("s, r", "sort by the next column; the other way round"),
    ("Ctrl-L", "draw the screen anew"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
];

/// What the lowest line says.
pub const HINT: &str = "d drain  u undrain  p plan  Enter more  / filter  s sort  ? help  q quit";

/// Of a key that goes down; releases, which some terminals tell of, and keys without a meaning are none.
pub fn of(event: &KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    // Escape and what was pressed soon after it look like this, over a slow line even more: they must not confirm anything.
    if event.modifiers.contains(KeyModifiers::ALT) {
        return Some(Key::Escape);
    }
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    Some(match event.code {
        KeyCode::Char('c' | 'd') if control => Key::Interrupt,
        KeyCode::Char('l') if control => Key::Redraw,
        KeyCode::Char('u') if control => Key::Clear,
        KeyCode::Char('h') if control => Key::Backspace,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_an_escape_confirms_nothing() {
        let of = |code, modifiers| of(&KeyEvent::new(code, modifiers));
        assert_eq!(of(KeyCode::Enter, KeyModifiers::NONE), Some(Key::Enter));
        assert_eq!(of(KeyCode::Enter, KeyModifiers::ALT), Some(Key::Escape));
        assert_eq!(of(KeyCode::Char('d'), KeyModifiers::ALT), Some(Key::Escape));
        assert_eq!(of(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Interrupt));
        assert_eq!(of(KeyCode::Char('x'), KeyModifiers::CONTROL), None);
        assert_eq!(of(KeyCode::Char('D'), KeyModifiers::SHIFT), Some(Key::Char('D')));
        let released = KeyEvent::new_with_kind(KeyCode::Enter, KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(super::of(&released), None);
    }
}
