//! Opening: new, known, foreign, damaged, newer, and held by another.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn refusal(path: &Path) -> Error {
    let before = fs::read(path).expect("the file is there");
    let error = Journal::open(path, None, NOW).expect_err("the file must be refused");
    assert!(fs::read(path).expect("the file is still there") == before, "a refused file is left as it is");
    error
}

#[test]
fn a_new_journal_makes_a_key_and_keeps_it() {
    let (dir, _) = place();
    let path = dir.path().join("deep").join("main.db");
    let journal = open(&path);
    let key = journal.hash_key();
    assert_ne!(key, HashKey::default());
    assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o600, "the key is secret");
    assert_eq!(journal.created_at().expect("readable"), NOW);
    assert!(!journal.is_of(&boot("", NOW)).expect("readable"));
    drop(journal);
    let journal = Journal::open(&path, None, NOW + 5).expect("opens again");
    assert_eq!((journal.hash_key(), journal.key_replaced()), (key, false));
    assert_eq!(journal.created_at().expect("readable"), NOW);
    assert_eq!(journal.last_revision().expect("readable"), 1, "opening again is no change");
    assert_ne!(open(&dir.path().join("other.db")).hash_key(), key);
    assert!(!format!("{journal:?}").contains("key"), "the key does not get into logs");
}

#[test]
fn a_key_in_the_config_wins_and_that_is_noted() {
    let (_dir, path) = place();
    let made = open(&path).hash_key();
    let given = [7; 16];
    let journal = Journal::open(&path, Some(given), NOW).expect("opens");
    assert_eq!((journal.hash_key(), journal.key_replaced()), (given, true));
    let last = journal.revisions(None, 1).expect("readable").remove(0);
    assert_eq!((last.number, last.kind.as_str()), (2, "hash-key"));
    assert!(!last.detail.to_string().contains("07"), "the key itself is not written there");
    drop(journal);
    let journal = Journal::open(&path, Some(given), NOW).expect("opens");
    assert_eq!((journal.key_replaced(), journal.last_revision().expect("readable")), (false, 2));
    drop(journal);
    assert_eq!(open(&path).hash_key(), given, "the journal keeps the config's key");
    assert_ne!(made, given);
}

#[test]
fn a_start_is_noted_with_the_boot() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let boot = boot("boot-1", NOW - 60);
    let number = journal.note_start(&boot, None, &by("sluice"), &serde_json::json!({})).expect("noted");
    drop(journal);
    let mut journal = open(&path);
    assert_eq!(journal.boot().expect("readable"), Some(boot.to_string()));
    assert!(journal.is_of(&boot).expect("readable"));
    assert!(!journal.is_of(&Boot { id: "boot".to_owned(), ..boot }).expect("readable"));
    journal
        .write("as before", |tx| Ok(tx.execute("UPDATE meta SET boot_id = 'boot-1'", [])?))
        .expect("written");
    assert!(journal.is_of(&boot).expect("readable"), "by its id alone");
    assert_eq!(journal.last_revision().expect("readable"), number);
}

#[test]
fn a_file_of_another_program_is_refused() {
    let (dir, path) = place();
    fs::write(&path, "dear diary, today I wrote more than a hundred bytes into a file that only looks like a journal by its name")
        .expect("written");
    let error = refusal(&path);
    assert!(matches!(error, Error::Foreign { .. }), "{error}");

    let other = dir.path().join("other.db");
    let db = Connection::open(&other).expect("made");
    db.execute_batch("PRAGMA application_id = 42; CREATE TABLE bookmarks (url)").expect("made");
    drop(db);
    let error = refusal(&other);
    assert!(error.to_string().contains("application id 0x2a"), "{error}");
    assert!(!other.with_extension("db-wal").exists(), "it is not even opened");

    let nameless = dir.path().join("nameless.db");
    let db = Connection::open(&nameless).expect("made");
    db.execute_batch("CREATE TABLE bookmarks (url)").expect("made");
    drop(db);
    assert!(matches!(refusal(&nameless), Error::Foreign { .. }));
    fs::write(dir.path().join("nameless.db-journal"), "").expect("written");
    assert!(matches!(refusal(&nameless), Error::Foreign { .. }), "a rollback file does not open the door");
}

#[test]
fn a_newer_schema_is_refused() {
    let (_dir, path) = place();
    drop(open(&path));
    let db = Connection::open(&path).expect("opens");
    db.pragma_update(None, "user_version", schema::VERSION + 1).expect("set");
    db.execute("UPDATE meta SET readable_from = ?1", [schema::VERSION + 1]).expect("set");
    drop(db);
    let error = refusal(&path);
    assert!(matches!(error, Error::Newer { found, supported, .. } if found == supported + 1), "{error}");
    assert!(error.to_string().contains("install the newer version"), "{error}");
}

#[test]
fn a_newer_schema_that_only_adds_is_used_and_kept() {
    let (_dir, path) = place();
    drop(open(&path));
    let db = Connection::open(&path).expect("opens");
    db.execute_batch(include_str!("../schema_next.sql")).expect("steps");
    db.execute("INSERT INTO later VALUES (1, 'kept')", []).expect("put");
    db.pragma_update(None, "user_version", schema::VERSION + 1).expect("set");
    drop(db);
    let mut journal = open(&path);
    let revision = journal.note(Kind::Apply, &by("ann"), &serde_json::json!({})).expect("noted");
    drop(journal);
    let db = Connection::open(&path).expect("opens");
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).expect("read");
    assert_eq!(version, schema::VERSION + 1, "the newer version finds its own");
    let one = |query: &str| db.query_row(query, [], |row| row.get::<_, String>(0)).expect("read");
    assert_eq!(one("SELECT text FROM later"), "kept");
    assert_eq!(one(&format!("SELECT later FROM revisions WHERE number = {revision}")), "later");
}

#[test]
fn a_damaged_journal_is_refused_and_kept() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    for number in 0..400 {
        let detail = serde_json::json!({ "number": number, "text": "x".repeat(100) });
        journal.note(Kind::Apply, &by("ann"), &detail).expect("noted");
    }
    drop(journal);
    let whole = fs::read(&path).expect("readable");
    assert!(whole.len() > 16 * 4096);

    let mut torn = whole.clone();
    torn[8 * 4096..9 * 4096].fill(0xa5);
    fs::write(&path, torn).expect("written");
    let error = refusal(&path);
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore it from a copy"), "{error}");

    for length in [60, 4096, whole.len() / 2] {
        fs::write(&path, &whole[..length]).expect("written");
        let error = refusal(&path);
        assert!(matches!(error, Error::Damaged { .. }), "{length}: {error}");
    }

    let mut headless = whole.clone();
    headless[..16].fill(0);
    fs::write(&path, headless).expect("written");
    assert!(matches!(refusal(&path), Error::Foreign { .. }));

    fs::write(&path, whole).expect("written");
    assert_eq!(open(&path).last_revision().expect("readable"), 401);
}

#[test]
fn the_log_of_a_refused_journal_stays_beside_it() {
    let (dir, path) = place();
    let mut journal = open(&path);
    for _ in 0..40 {
        let detail = serde_json::json!({ "text": "x".repeat(400) });
        journal.note(Kind::Apply, &by("ann"), &detail).expect("noted");
    }
    journal.db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).expect("written back");
    journal.note(Kind::Apply, &by("ann"), &serde_json::json!({})).expect("noted");

    // What a kill leaves behind: the database and the log with the last change.
    let left = dir.path().join("left.db");
    let mut database = fs::read(&path).expect("readable");
    let log = fs::read(dir.path().join("main.db-wal")).expect("there is a log");
    let root: i64 = journal
        .db
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'drains'", [], |row| row.get(0))
        .expect("readable");
    let page = usize::try_from(root - 1).expect("a page") * 4096;
    database[page..page + 4096].fill(0xa5);
    fs::write(&left, &database).expect("written");
    fs::write(dir.path().join("left.db-wal"), &log).expect("written");
    let error = refusal(&left);
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(fs::read(dir.path().join("left.db-wal")).expect("still there") == log);
}

#[test]
fn a_second_opener_is_refused_and_told_who_has_it() {
    let (dir, path) = place();
    let journal = open(&path);
    let error = Journal::open(&path, None, NOW).expect_err("held");
    let Error::Locked { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, Some(std::process::id()));
    assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
    assert!(error.to_string().contains("main.lock"), "{error}");

    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("linked");
    assert!(matches!(Journal::open(&link, None, NOW), Err(Error::Locked { .. })), "by another name too");
    assert!(matches!(Lock::acquire(dir.path(), "main"), Err(Error::Locked { .. })));
    drop(Lock::acquire(dir.path(), "other").expect("another instance is another lock"));

    assert_eq!(journal.lock().path(), dir.path().join("main.lock"));
    drop(journal);
    drop(Lock::acquire(dir.path(), "main").expect("free again"));
    drop(open(&path));
}

#[test]
fn readers_may_look_while_it_is_open() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.note(Kind::Apply, &by("ann"), &serde_json::json!({})).expect("noted");
    let reader =
        Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
    let count: i64 = reader.query_row("SELECT count(*) FROM revisions", [], |row| row.get(0)).expect("reads");
    assert_eq!(count, 2);
    let synchronous: i64 = journal.db.query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("reads");
    let mode: String = journal.db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("reads");
    assert_eq!((synchronous, mode.as_str()), (2, "wal"), "a commit is flushed before it returns");
}

#[test]
fn an_empty_file_becomes_a_journal() {
    let (_dir, path) = place();
    fs::write(&path, "").expect("made");
    assert_eq!(open(&path).last_revision().expect("readable"), 1);
}

/// The engine's thread writes, which has packets' next hops to see to and a watchdog to answer.
#[test]
fn a_lock_of_another_program_holds_a_write_up_for_a_moment_only() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let other = Connection::open(&path).expect("the shell of somebody");
    other.execute_batch("BEGIN IMMEDIATE").expect("it is the only writer");
    let began = std::time::Instant::now();
    let refused = journal.note(Kind::Kick, &by("ann"), &serde_json::json!({})).expect_err("it is locked");
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(refused.why(), "another program holds a lock on it");
    assert!(journal.is_in_trouble());
    other.execute_batch("ROLLBACK").expect("it is done");
    journal.note(Kind::Kick, &by("ann"), &serde_json::json!({})).expect("noted");
    assert!(!journal.is_in_trouble());
}
