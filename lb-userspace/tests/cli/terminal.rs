//! What only shows on a terminal: a pseudo-terminal stands in for it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fake::*;

/// Runs with all three streams on a terminal of 60 columns and 24 lines; exit code and all that was written.
fn on_terminal(mut command: Command) -> (Option<i32>, String) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: openpty(3) writes the two descriptors through the pointers and reads the size; the others may
    // be null.
    let opened = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, std::ptr::null_mut(), std::ptr::null(), &raw const size)
    };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both descriptors are open and nobody else's.
    let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut child = command
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs)
        .spawn()
        .expect("the binary starts");
    // Its copies of the terminal's descriptors would keep it open.
    drop(command);
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match ours.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
            // The other side is closed (tty_ioctl(4) calls it EIO).
            Err(e) if e.raw_os_error() == Some(libc::EIO) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("{e}"),
        }
    }
    (child.wait().unwrap().code(), String::from_utf8(text).unwrap())
}

fn daemon() -> Fake {
    let looks = AtomicU64::new(0);
    Fake::new(move |what, _| match looks.fetch_add(1, Ordering::Relaxed) {
        _ if what.starts_with("GET /v1/status") => refusal(500, "internal", "tr\u{fc}b"),
        n if n < 4 => drains(&[drain("a", "draining", 10 - n), drain("b", "draining", 1)]),
        _ => drains(&[drain("a", "drained", 0), drain("b", "drained", 0)]),
    })
}

#[test]
fn progress_is_redrawn_and_fits() {
    let fake = daemon();
    let (code, text) = on_terminal(fake.command(&["drain", "a", "b", "--wait"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\x1b[2A\ra [##..................] 9 of 10 live  "), "{text:?}");
    assert!(text.contains("\ra [####################] 0 of 10 live  "), "{text:?}");
    assert!(text.contains("  drained\x1b[K"), "{text:?}");
    let widest = text.split(['\n', '\r']).map(|l| l.replace("\x1b[K", "").replace("\x1b[2A", "").len()).max();
    assert!((50..=60).contains(&widest.unwrap_or(0)), "{widest:?} {text:?}");
}

#[test]
fn no_color_means_no_control_codes() {
    let fake = daemon();
    let mut command = fake.command(&["drain", "a", "b", "--wait"]);
    command.env("NO_COLOR", "1");
    let (code, text) = on_terminal(command);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn errors_are_coloured_and_their_words_kept() {
    let fake = daemon();
    let (code, text) = on_terminal(fake.command(&["status"]));
    assert_eq!(code, Some(1));
    assert!(text.starts_with("\x1b[1;31merror:\x1b[0m tr\u{fc}b"), "{text:?}");
    let mut command = fake.command(&["status"]);
    command.env("LC_ALL", "C");
    assert!(on_terminal(command).1.contains("tr\\u{fc}b"));
}

#[test]
fn a_watch_overwrites_the_screen_and_outlasts_a_restart() {
    let looks = AtomicU64::new(0);
    let fake = Fake::new(move |_, _| match looks.fetch_add(1, Ordering::Relaxed) {
        0 | 2 => status(),
        1 => (0, String::new()),
        _ => refusal(500, "internal", "enough"),
    });
    let (code, text) = on_terminal(fake.command(&["status", "--watch", "100ms"]));
    assert_eq!(code, Some(1), "{text:?}");
    let screens: Vec<_> = text.split("\x1b[H").collect();
    assert_eq!((screens.len(), screens[0]), (4, "\x1b[2J"), "{text:?}");
    assert!(
        screens[1].starts_with("sluice 0.1.0, instance default") && screens[1].contains("\x1b[J"),
        "{text:?}"
    );
    assert!(screens[1].contains("\x1b[1;37;41m!!! misrouted: 2\x1b[0m"), "{text:?}");
    assert!(screens[2].contains("broke the connection off"), "{text:?}");
    assert!(screens[3].starts_with("sluice 0.1.0") && screens[3].contains("enough"), "{text:?}");
}
