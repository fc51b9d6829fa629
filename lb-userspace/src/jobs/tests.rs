use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it did not come true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn end_of(jobs: &mut Jobs, id: &str) -> JobEnd {
    until(|| {
        jobs.reap();
        match jobs.look(id) {
            JobState::Ended(end) => Some(end),
            _ => None,
        }
    })
}

fn begin(jobs: &mut Jobs, id: &str, command: &str) {
    let environment = vec![("SLUICE_HOST".to_owned(), "a b".to_owned())];
    jobs.begin(id, &What::Command(command.to_owned()), environment).unwrap();
}

#[test]
fn a_command_tells_its_end_and_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = Jobs::new(folder.path().join("jobs"));
    assert_eq!(jobs.look("run-1.a.run"), JobState::None);
    begin(
        &mut jobs,
        "run-1.a.run",
        "echo \"$SLUICE_HOST $SLUICE_STEP_ID $SLUICE_STEP_ATTEMPT $(pwd)\"; echo bad >&2; exit 3",
    );
    let end = end_of(&mut jobs, "run-1.a.run");
    assert_eq!(end.failure.as_deref(), Some("exit status 3"));
    assert_eq!(end.output, "a b run-1.a.run 1 /\nbad\n");
    jobs.forget("run-1.a.run");
    assert_eq!(jobs.look("run-1.a.run"), JobState::None);
    begin(&mut jobs, "big", "yes | head -c 1000000");
    let end = end_of(&mut jobs, "big");
    assert_eq!((end.failure, end.output.len()), (None, OUTPUT));
    begin(&mut jobs, "killed", "kill -TERM $$");
    assert_eq!(end_of(&mut jobs, "killed").failure.as_deref(), Some("exit status 143 (signal 15)"));
    begin(&mut jobs, "background", "sleep 60 & echo done");
    let begun = Instant::now();
    assert_eq!(end_of(&mut jobs, "background").output, "done\n");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(command::kill(&jobs.place("background")));
}

#[test]
fn the_next_daemon_sees_what_runs_and_what_ended_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Jobs::new(folder.path().to_owned());
    let mut first = open();
    let go = folder.path().join("go");
    begin(
        &mut first,
        "slow",
        &format!("while ! test -e {}; do sleep 0.05; done; echo $SLUICE_STEP_ATTEMPT", go.display()),
    );
    until(|| command::runs(&first.place("slow")).then_some(()));
    let mut second = open();
    assert_eq!(second.look("slow"), JobState::Running);
    fs::write(go, "").unwrap();
    // This daemon is its parent, so there is a zombie until it is reaped; the next one does not take it for alive.
    assert_eq!(end_of(&mut second, "slow"), JobEnd { failure: None, output: "1\n".to_owned() });
    until(|| {
        first.reap();
        (!first.are_any_running()).then_some(())
    });
    // As after the machine went down in the middle of it.
    fs::remove_file(second.place("slow").join(STATUS)).unwrap();
    assert_eq!(open().look("slow"), JobState::None);
    begin(&mut second, "slow", "echo $SLUICE_STEP_ATTEMPT");
    assert_eq!(end_of(&mut second, "slow").output, "2\n", "the same step, once more");
}

#[test]
fn one_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = Jobs::new(folder.path().to_owned());
    let file = folder.path().join("child");
    begin(&mut jobs, "hangs", &format!("echo before; sleep 600 & echo $! > {}; wait", file.display()));
    let child: i32 = until(|| fs::read_to_string(&file).ok()?.trim().parse().ok());
    jobs.kill("hangs").unwrap();
    let end = end_of(&mut jobs, "hangs");
    assert_eq!(end.failure.as_deref(), Some("killed, as its time was over"));
    until(|| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    });
    jobs.kill("hangs").unwrap();
    assert_eq!(end_of(&mut jobs, "hangs").failure, end.failure, "what has ended stays as it is");
}

#[test]
fn a_webhook_has_a_key_and_its_answer_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = Jobs::new(folder.path().to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/step?x=1", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for status in ["200 OK", "503 Busy"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let mut length = 0;
            while !request[..length].ends_with(b"}") {
                length += stream.read(&mut request[length..]).unwrap();
            }
            seen.push(String::from_utf8_lossy(&request[..length]).into_owned());
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\nyes").unwrap();
        }
        seen
    });
    for (id, failure) in [("good", None), ("bad", Some("it was answered with status 503"))] {
        let environment = vec![("SLUICE_HOST".to_owned(), "a".to_owned())];
        jobs.begin(id, &What::Webhook(url.clone(), 10), environment).unwrap();
        let end = end_of(&mut jobs, id);
        assert_eq!((end.failure.as_deref(), end.output.as_str()), (failure, "yes"));
    }
    let seen = server.join().unwrap();
    assert!(seen[0].starts_with("POST /step?x=1 HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].contains("Idempotency-Key: good\r\n"), "{}", seen[0]);
    assert!(seen[0].ends_with(r#"{"host":"a","step_attempt":"1","step_id":"good"}"#), "{}", seen[0]);
    jobs.begin("nobody", &What::Webhook(url, 2), Vec::new()).unwrap();
    assert!(end_of(&mut jobs, "nobody").failure.unwrap().starts_with("no answer"));
}

/// A server that keeps the connection open after its answer has given it all the same, and so has one that says something before it.
#[test]
fn a_webhook_ends_with_the_answer_and_not_with_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = Jobs::new(folder.path().to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ];
    let server = std::thread::spawn(move || {
        answers.map(|answer| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let mut length = 0;
            while !request[..length].ends_with(b"}") {
                length += stream.read(&mut request[length..]).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            stream
        })
    });
    let begun = Instant::now();
    for (id, output) in [("sized", "yes"), ("chunked", "yes"), ("empty", "")] {
        jobs.begin(id, &What::Webhook(url.clone(), 600), Vec::new()).unwrap();
        assert_eq!(end_of(&mut jobs, id), JobEnd { failure: None, output: output.to_owned() });
    }
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    drop(server.join().unwrap());
}

#[test]
fn what_nobody_asks_for_any_more_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Jobs::new(folder.path().join("jobs"));
    for id in ["run-1.a.run", "run-1.a.check-7"] {
        begin(&mut first, id, "sleep 600");
        until(|| command::runs(&first.place(id)).then_some(()));
    }
    let mut second = Jobs::new(folder.path().join("jobs"));
    second.sweep(|id| !id.contains("check"));
    assert_eq!(second.look("run-1.a.check-7"), JobState::None);
    assert_eq!(second.look("run-1.a.run"), JobState::Running);
    second.sweep(|_| false);
    until(|| {
        first.reap();
        (!first.are_any_running()).then_some(())
    });
}

#[test]
fn what_cannot_be_begun_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = Jobs::new(folder.path().to_owned());
    let long = What::Command("x".repeat(1 << 20));
    let error = jobs.begin("long", &long, Vec::new()).unwrap_err();
    assert_eq!((jobs.look("long"), jobs.error("long")), (JobState::None, Some(error.to_string())));
    assert!(
        jobs.begin("fits", &What::Command(format!("true {}", "x".repeat(LONGEST - 5))), Vec::new()).is_ok()
    );
    assert_eq!(end_of(&mut jobs, "fits").failure, None);
}
