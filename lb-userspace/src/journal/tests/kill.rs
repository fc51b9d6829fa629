//! The writer is killed at random moments, over and over; whatever it was told to be done is there afterwards.
//!
//! A kill shows that no acknowledged change waits in the process; that it has left the machine's caches too is what the
//! flush of each commit is for, and no test without a power switch shows that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::api::types::{Order, Outcome};

use super::drains::{drain, receipt};
use super::*;

/// Set for the child: the journal that it writes until it is killed.
const WRITER_OF: &str = "SLUICE_TEST_WRITER_OF";
const ROUNDS: u32 = 20;

/// Not a test by itself: the child's side. Each line `ack REVISION DRAIN HOST-ID GENERATION` names what the journal has confirmed.
#[test]
#[ignore = "run by a_killed_writer_loses_nothing"]
fn writer() {
    let Some(path) = std::env::var_os(WRITER_OF) else { return };
    let mut journal = open(Path::new(&path));
    let mut out = std::io::stdout();
    // The end of the loop is the kill; the limit is for a parent that is gone.
    for _ in 0..20_000 {
        let id = journal.next_drain_id().expect("numbered");
        let host = format!("host-{id}");
        let number = journal.host_ids(&[&host]).expect("numbered")[&host];
        let put = BTreeMap::from([("ring".to_owned(), json!({ "drain": id }))]);
        let generation = journal.next_generation(&put, &[] as &[&str]).expect("noted");
        let begun = drain(id, &host);
        let mut ack = |revision: u64| {
            writeln!(out, "ack {revision} {id} {number} {generation}")
                .and_then(|()| out.flush())
                .expect("the parent reads");
        };
        ack(journal.drain(std::slice::from_ref(&begun), &[], &by("ann")).expect("begun"));
        if id.is_multiple_of(3) {
            let order = Order { deadline: Some(id), ..Order::default() };
            ack(journal.drain(&[], &[Amended { drain: id, order }], &by("bob")).expect("amended"));
        }
        if id.is_multiple_of(2) {
            ack(journal.finish_drain(&receipt(&begun, Outcome::Drained), &by("sluice")).expect("ended"));
        } else {
            let taken = TakenBack { drain: id, receipt: Some(receipt(&begun, Outcome::Undrained)) };
            ack(journal.undrain(&[taken], &Ramps::new(), &by("ann")).expect("taken back"));
        }
    }
}

/// (revision, drain, host id, generation)
type Ack = [u64; 4];

/// Lets a child write for `time`, kills it, and returns what it had acknowledged.
fn write_and_kill(path: &Path, time: Duration) -> Vec<Ack> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "journal::tests::kill::writer", "--ignored", "--nocapture", "--test-threads=1"])
        .env(WRITER_OF, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let reader = BufReader::new(child.stdout.take().expect("piped"));
    let (first, started) = std::sync::mpsc::channel();
    let lines = std::thread::spawn(move || {
        let mut acks = Vec::new();
        for line in reader.lines().map_while(|line| line.ok()) {
            // The test harness writes on the same pipe, at the beginning of the line too.
            let Some((_, ack)) = line.split_once("ack ") else { continue };
            let numbers: Vec<u64> = ack.split(' ').filter_map(|number| number.parse().ok()).collect();
            acks.extend(Ack::try_from(numbers));
            let _ = first.send(());
        }
        acks
    });
    let running = started.recv_timeout(Duration::from_secs(30));
    std::thread::sleep(time);
    let alive = child.try_wait().expect("a child").is_none();
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(running.is_ok() && alive, "the writer was writing when it was killed");
    lines.join().expect("read")
}

fn check(path: &Path, acks: &[Ack]) {
    let journal = open(path);
    let revisions = journal.revisions(None, u32::MAX).expect("readable");
    let numbers: BTreeSet<u64> = revisions.iter().map(|revision| revision.number).collect();
    assert_eq!(numbers.len() as u64, journal.last_revision().expect("readable"), "no gap");
    let rows: BTreeMap<u64, DrainRow> = journal
        .drains(None, u32::MAX)
        .expect("readable")
        .into_iter()
        .map(|row| (row.drain.id, row))
        .collect();
    let hosts = journal.known_hosts().expect("readable");
    let generation = journal.generation().expect("readable");
    for [revision, drain, number, acked_generation] in acks {
        assert!(numbers.contains(revision), "revision {revision} was acknowledged and is gone");
        assert!(generation >= *acked_generation, "generation {acked_generation} is gone");
        let host = &rows[drain].drain.host;
        assert_eq!(u64::from(hosts[host]), *number, "{host} has another number");
    }
    // A revision and its effect are there together, or neither is.
    let count = |kind: &str| revisions.iter().filter(|revision| revision.kind == kind).count();
    let in_state = |state: &str| rows.values().filter(|row| row.state == state).count();
    assert_eq!(count("drain"), rows.len());
    assert_eq!(count("amend"), rows.values().filter(|row| row.drain.order.deadline.is_some()).count());
    assert_eq!(count("drained"), in_state("drained"));
    assert_eq!(count("undrain"), in_state("undrained"));
    let in_ring = journal.lineages().expect("readable")["ring"]["drain"].as_u64().expect("a number");
    assert!(rows.keys().next_back().is_some_and(|last| in_ring == *last || in_ring == last + 1));
}

#[test]
fn a_killed_writer_loses_nothing() {
    let (_dir, path) = place();
    let mut acks = Vec::new();
    let moments = *open(&path).hash_key().first_chunk::<8>().expect("16 bytes");
    let mut random = u64::from_le_bytes(moments) | 1;
    for round in 0..ROUNDS {
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let new = write_and_kill(&path, Duration::from_micros(random % 60_000));
        assert!(!new.is_empty(), "round {round} wrote nothing");
        acks.extend(new);
        check(&path, &acks);
    }
}
