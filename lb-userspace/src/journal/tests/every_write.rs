//! The writer is killed at each of its writes to the file system, one after the other, before the write and in the middle of it. What
//! the next one finds is the state after the last change that was acknowledged, or after the one that was under way, never half of one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::raw::{c_int, c_void};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::ffi;
use serde_json::{Value, json};

use crate::api::types::{Order, Outcome};
use crate::config::limits::default::TIMEOUTS;
use crate::drain::{Drain, SelfDrain, Start};
use crate::ramp::Ramp;

use super::drains::{drain, receipt};
use super::*;

/// Set for the child: the journal, and the write at which it dies, negative: half-way through it.
const JOURNAL: &str = "SLUICE_TEST_KILLED_JOURNAL";
const DIES_AT: &str = "SLUICE_TEST_DIES_AT";

type Step = fn(&mut Journal) -> Result<()>;

/// Each is one change, or several that are acknowledged together with the last.
const LIFE: [Step; 29] = [
    |journal| journal.prune(Keep { time: Duration::MAX, revisions: 100 }, NOW).map(drop),
    |journal| journal.host_ids(&["new"]).map(drop),
    |journal| journal.drain(&[drain(1, "a"), drain(2, "b")], &[], &by("ann")).map(drop),
    |journal| journal.note_drain_start(2, &Start { flows: 3, ..Start::default() }),
    |journal| journal.note_loss(&boot("boot", NOW)),
    |journal| {
        let put = BTreeMap::from([("ring-0".to_owned(), json!({ "open": [1, 2, 3] }))]);
        journal.next_generation(&put, &[] as &[&str]).map(drop)
    },
    |journal| journal.finish_drain(&receipt(&drain(1, "a"), Outcome::Drained), &by("sluice")).map(drop),
    |journal| apply(journal, Kind::Apply, &"new ".repeat(3000), Some(60), None),
    |journal| journal.confirm(&by("ann")).map(drop),
    |journal| apply(journal, Kind::Apply, "newer", Some(60), None),
    |journal| {
        let waiting = journal.applied()?.map(|applied| applied.revision);
        apply(journal, Kind::Rollback, &"new ".repeat(3000), None, waiting)
    },
    |journal| {
        let taken = TakenBack { drain: 2, receipt: Some(receipt(&drain(2, "b"), Outcome::Undrained)) };
        journal.undrain(&[taken], &Ramps::new(), &by("ann")).map(drop)
    },
    |journal| journal.next_generation(&BTreeMap::new(), &["ring-0"]).map(drop),
    |journal| {
        let config = NewConfig { text: "newest", seen: Some("newest"), confirm: None, about: None };
        journal.note_start(&boot("boot", NOW), Some(&config), &by("sluice"), &json!({})).map(drop)
    },
    |journal| apply(journal, Kind::Apply, "newest of all", None, None),
    |journal| journal.note_tried(),
    // What is open has another bound, gives way to the whole, and comes back step by step.
    |journal| {
        let part = Drain { service: Some("s".to_owned()), ..drain(3, "c") };
        journal.drain(&[part], &[], &by("ann")).map(drop)
    },
    |journal| {
        let order = Order { deadline: Some(NOW + 60), ..Order::default() };
        journal.drain(&[], &[Amended { drain: 3, order }], &by("ann")).map(drop)
    },
    |journal| {
        let taken = TakenBack { drain: 3, receipt: Some(receipt(&drain(3, "c"), Outcome::Undrained)) };
        journal.drain_instead(&[drain(4, "c")], &[], &[taken], &by("ann")).map(drop)
    },
    |journal| {
        let taken = TakenBack { drain: 4, receipt: Some(receipt(&drain(4, "c"), Outcome::Undrained)) };
        journal.undrain(&[taken], &Ramps::from([("c".to_owned(), Some(ramp()))]), &by("ann")).map(drop)
    },
    |journal| journal.note_ramps(&Ramps::from([("c".to_owned(), None)]), &by("sluice")).map(drop),
    |journal| journal.note_self(Kind::SelfDrain, Some(&own()), &by("ann")).map(drop),
    |journal| journal.note_self(Kind::SelfUndrain, None, &by("ann")).map(drop),
    |journal| {
        let rows = HealthRows::from([(("s".to_owned(), "a".to_owned()), json!({ "down": true }))]);
        journal.note_health(&rows, &by("sluice"), &json!({})).map(drop)
    },
    |journal| journal.forget_health(&[("s".to_owned(), "a".to_owned())]),
    |journal| {
        let run = journal.begin_run(RunKind::Maintain, |id| json!({ "id": id }), &by("ann"), |_| json!({}));
        run.map(drop)
    },
    |journal| {
        let run = json!({ "id": 1, "is_over": true });
        journal.note_run(RunKind::Maintain, 1, &run, true, &by("sluice"), &json!({}))
    },
    |journal| {
        let sets = journal.timeout_sets(&BTreeSet::from([TIMEOUTS]), NOW)?;
        journal.note_timeout_sets(&sets)
    },
    |journal| {
        let hosts = journal.known_hosts()?;
        journal.release(&Numbers { hosts, ..Numbers::default() })
    },
];

fn ramp() -> Ramp {
    Ramp { started_at: NOW, from: 0, seconds: 60, by: "ann".to_owned(), reason: None, paused: None }
}

fn own() -> SelfDrain {
    let by = "ann".to_owned();
    SelfDrain { started_at: NOW, by, reason: None, quiet_for: 30, below: 1.0, done_at: None }
}

fn apply(
    journal: &mut Journal,
    kind: Kind,
    text: &str,
    confirm: Option<u64>,
    about: Option<u64>,
) -> Result<()> {
    let config = NewConfig { text, seen: None, confirm, about };
    journal.apply(kind, &config, &by("ann"), &json!({ "text": text.len() })).map(drop)
}

/// All that the journal says.
fn said(journal: &Journal) -> String {
    let all = format!(
        "{:?}",
        (
            journal.revisions(None, u32::MAX).expect("readable"),
            journal.drains(None, u32::MAX).expect("readable"),
            journal.lineages().expect("readable"),
            journal.generation().expect("readable"),
            journal.applied().expect("readable"),
            journal.all_numbers().expect("readable"),
            journal.ramps().expect("readable"),
            (journal.self_drain().expect("readable"), journal.health().expect("readable")),
            (
                journal.runs_under_way::<Value>(RunKind::Maintain).expect("readable"),
                journal.last_runs::<Value>(RunKind::Maintain, u32::MAX).expect("readable"),
            ),
            journal.timeout_sets(&BTreeSet::new(), NOW).expect("readable"),
            (journal.pruned().expect("readable"), journal.hash_key()),
        )
    );
    all.replace(&journal.path().display().to_string(), "PATH")
}

fn open_with_key(path: &Path) -> Journal {
    Journal::open(path, Some([7; 16]), NOW).expect("the journal opens")
}

/// A journal that has something to prune, and a config.
fn prepare(path: &Path) {
    let mut journal = open_with_key(path);
    for _ in 0..130 {
        journal.note(Kind::Kick, &by("ann"), &json!({})).expect("noted");
    }
    apply(&mut journal, Kind::Apply, "old", None, None).expect("noted");
}

/// Writes that are left until the end; `HALF`: the last is made half.
static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);
static HALF: AtomicI64 = AtomicI64::new(0);

unsafe extern "C" fn dying_write(fd: c_int, bytes: *const c_void, length: usize) -> isize {
    let length = count_down(length);
    // SAFETY: the caller's, as of write(2).
    let written = unsafe { libc::write(fd, bytes, length) };
    die_if_over();
    written
}

unsafe extern "C" fn dying_pwrite(fd: c_int, bytes: *const c_void, length: usize, at: i64) -> isize {
    let length = count_down(length);
    // SAFETY: the caller's, as of pwrite(2).
    let written = unsafe { libc::pwrite(fd, bytes, length, at) };
    die_if_over();
    written
}

unsafe extern "C" fn dying_ftruncate(fd: c_int, length: i64) -> c_int {
    count_down(0);
    die_if_over();
    // SAFETY: the caller's, as of ftruncate(2).
    unsafe { libc::ftruncate(fd, length) }
}

/// Bytes to write of this write: all, none, or half of them.
fn count_down(length: usize) -> usize {
    match LEFT.load(Ordering::Relaxed) {
        u64::MAX => length,
        left => {
            LEFT.store(left.saturating_sub(1), Ordering::Relaxed);
            match (left, HALF.load(Ordering::Relaxed)) {
                (1, 0) => 0,
                (1, _) => length / 2,
                _ => length,
            }
        }
    }
}

fn die_if_over() {
    if LEFT.load(Ordering::Relaxed) == 0 {
        // SAFETY: ends this process at once, as a crash would.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// SQLite writes through these from now on.
fn die_at(write: i64) {
    LEFT.store(write.unsigned_abs(), Ordering::Relaxed);
    HALF.store(i64::from(write < 0), Ordering::Relaxed);
    // SAFETY: the default VFS lives for ever; the functions have the types of the system calls that they take the place of
    // (sqlite3_vfs.xSetSystemCall, os_unix.c).
    unsafe {
        ffi::sqlite3_initialize();
        let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
        let set = (*vfs).xSetSystemCall.expect("a Unix VFS");
        for (name, call) in [
            ("write", dying_write as *const c_void),
            ("pwrite", dying_pwrite as *const c_void),
            ("pwrite64", dying_pwrite as *const c_void),
            ("ftruncate", dying_ftruncate as *const c_void),
        ] {
            let name = CString::new(name).expect("no zero");
            let call: ffi::sqlite3_syscall_ptr = std::mem::transmute(call);
            assert_eq!(set(vfs, name.as_ptr(), call), ffi::SQLITE_OK, "{name:?}");
        }
    }
}

/// Not a test by itself: the child's side. Prints `ack N` when the Nth step is done; the opening is step 0.
#[test]
#[ignore = "run by a_writer_that_is_killed_at_any_write_loses_nothing"]
fn dying_writer() {
    let Some(path) = std::env::var_os(JOURNAL) else { return };
    let write = std::env::var(DIES_AT).expect("set").parse().expect("a number");
    die_at(write);
    let mut journal = open_with_key(Path::new(&path));
    println!("\nack 0");
    for (number, step) in LIFE.iter().enumerate() {
        step(&mut journal).expect("done");
        println!("\nack {}", number + 1);
    }
    // Closing it would write what was acknowledged to its place.
    drop(journal);
    println!("\nall");
}

/// The last step that a child acknowledged, if any, and whether it came to its end.
fn run_child(path: &Path, write: i64) -> (Option<usize>, bool) {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "journal::tests::every_write::dying_writer",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(JOURNAL, path)
        .env(DIES_AT, write.to_string())
        .stderr(Stdio::inherit())
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    let acks = text.lines().filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
    (acks.max(), text.lines().any(|line| line == "all"))
}

/// Kills children at each write, beginning with a copy of `from`, or with nothing. `states[n]` is what is said after step n.
fn kill_at_each_write(from: Option<&Path>, states: &[String], most: i64) -> i64 {
    for write in 1..=most {
        let mut is_over = false;
        for write in [write, -write] {
            let (_dir, path) = place();
            if let Some(from) = from {
                std::fs::copy(from, &path).expect("copied");
            }
            let (acknowledged, ended) = run_child(&path, write);
            let found = said(&open_with_key(&path));
            // Without an acknowledgement the opening was under way, which is done again just now.
            let done = acknowledged.unwrap_or(0);
            let may_be = &states[done..(done + 2).min(states.len())];
            assert!(
                may_be.contains(&found),
                "killed at write {write} after step {done}: {found}\nis none of {may_be:#?}"
            );
            is_over |= ended;
        }
        if is_over {
            return write - 1;
        }
    }
    most
}

/// What is said after each step.
fn states(path: &Path) -> Vec<String> {
    let mut journal = open_with_key(path);
    let mut states = vec![said(&journal)];
    for step in LIFE {
        step(&mut journal).expect("done");
        states.push(said(&journal));
    }
    states
}

#[test]
fn a_writer_that_is_killed_at_any_write_loses_nothing() {
    let (_dir, original) = place();
    prepare(&original);
    let (_other, copy) = place();
    std::fs::copy(&original, &copy).expect("copied");
    let states = states(&copy);
    let kills = kill_at_each_write(Some(&original), &states, 1000);
    assert!((50..1000).contains(&kills), "{kills} writes");
}

#[test]
fn a_journal_whose_making_is_killed_at_any_write_is_made_by_the_next() {
    let (_dir, path) = place();
    let first = said(&open_with_key(&path));
    // The making alone: what follows is the other test's.
    for write in 1..=200 {
        for write in [write, -write] {
            let (_dir, path) = place();
            if run_child(&path, write).0.is_some() {
                assert!(write.abs() > 20, "{write}");
                return;
            }
            assert_eq!(said(&open_with_key(&path)), first, "killed at write {write}");
        }
    }
    panic!("the making never came to its end");
}
