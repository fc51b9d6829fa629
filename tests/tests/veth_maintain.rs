//! Maintenance runs over real servers: eight hosts are upgraded under load and no client notices, also if the daemon is killed in the middle;
//! a host that fails is returned and ends the run; bad plans are refused whole. To compare: the same upgrade without drains.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::rolling::{BROKEN, Fleet, HOSTS, Load};
use sluice_tests::site::ECHO;
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions};

/// That the version that was installed is there.
const CHECK: &str = "curl -fsS --max-time 10 http://$SLUICE_IPV4/version";
/// The balancer's own check of the web services.
const TCP: &str = "[[services.checks]]\ntype = \"tcp\"\n";

#[test]
fn a_fleet_is_upgraded_and_nobody_notices() {
    let mut fleet = Fleet::start(Topology::builder()).unwrap();
    let load = Load::start(&fleet.topology).unwrap();
    // Until the balancer can vouch for the flows that it has seen.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(fleet.versions().unwrap(), ["1"; HOSTS]);

    refused(&fleet);
    upgraded(&mut fleet, &load);
    let with_drains = load.noticed();
    let broken_by_then = load.reasons();
    third_fails(&fleet);
    killed_in_each_step(&mut fleet);
    let before = load.noticed();
    assert_eq!((before.broken, before.failed), (0, 0), "{:?}, {broken_by_then:?}", load.reasons());

    fleet.restart_plainly("3", Duration::from_millis(300)).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let plainly = load.noticed().since(before);
    println!("with drains: {with_drains:?}\nby plain restarts: {plainly:?} ({:?})", load.reasons());
    assert!(plainly.broken > 0 && plainly.failed > 0, "{plainly:?}");
    load.finish().unwrap();
    a_deadline_counts(&fleet);
    no_more_at_once_than_the_rules_allow(&fleet);
    new_checks_are_waited_for(&fleet);
    a_ramp_by_health_counts(&fleet);
    checks_count(&fleet);
    let status = fleet.daemon.cli_json(&["status", "--json"]).unwrap();
    assert_eq!(status["violations"].to_string(), "{}");
}

/// Eight hosts, three at once; the daemon is killed while commands run.
fn upgraded(fleet: &mut Fleet, load: &Load) {
    let check = format!("{CHECK} | grep -qx 2");
    let plan = fleet.plan("nginx 2", "version=2", &check, "").unwrap();
    let plan = plan.to_str().unwrap().to_owned();
    let text = fleet.daemon.cli_ok(&["maintain", "plan", &plan]).unwrap();
    assert!(text.contains("nginx 2: 8 hosts, 3 at once; if one fails, it is rolled back"), "{text}");
    let few = fleet.folder().join("few.toml");
    std::fs::write(&few, std::fs::read_to_string(&plan).unwrap().replace("\"60%\"", "\"80%\"")).unwrap();
    let text = fleet.daemon.cli_ok(&["maintain", "plan", few.to_str().unwrap()]).unwrap();
    assert!(text.contains("fewer than 3 will be in work at once"), "of 8 hosts one may be out: {text}");
    let begun = Instant::now();
    let run = fleet.daemon.cli_json(&["maintain", "start", &plan, "--reason", "test", "--json"]).unwrap();
    let number = run["run"].as_u64().unwrap();
    assert_eq!((&run["state"], &run["reason"]), (&"running".into(), &"test".into()));
    let again = fleet.daemon.cli(&["maintain", "start", &plan]).unwrap();
    let words = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(9), "{words}");
    assert!(words.contains(&format!("h1 is in run {number}, which is under way")), "{words}");

    let is_working = |run: &serde_json::Value| {
        run["done"].as_u64() >= Some(2)
            && run["hosts"].as_array().unwrap().iter().any(|of| of["step"] == "working")
    };
    fleet.wait_for(number, LIMIT, is_working).unwrap();
    fleet.daemon.sigkill();
    std::thread::sleep(Duration::from_secs(1));
    fleet.daemon.start_again().unwrap();
    let text = fleet.daemon.cli_ok(&["maintain", "status"]).unwrap();
    assert!(text.contains("running for ") && text.contains("(by root: test)"), "{text}");
    fleet.daemon.cli_ok(&["maintain", "pause"]).unwrap();
    let paused = fleet.run(number).unwrap();
    assert_eq!(paused["state"], "paused", "{paused:#}");
    fleet.daemon.cli_ok(&["maintain", "resume", &number.to_string()]).unwrap();

    let run = fleet.wait_for(number, LIMIT, |run| run["state"] != "running").unwrap();
    println!("upgraded in {:.1?}", begun.elapsed());
    assert_eq!(
        (&run["state"], &run["done"]),
        (&"done".into(), &HOSTS.into()),
        "{run:#}\n{}",
        fleet.daemon.log()
    );
    assert_eq!(fleet.versions().unwrap(), ["2"; HOSTS]);
    let restarts: Vec<u64> = fleet.agents.iter().map(|agent| agent.restarts()).collect();
    assert_eq!(restarts, [1; HOSTS], "each once, although the daemon was killed");
    for (agent, host) in fleet.agents.iter().zip(fleet.topology.hosts()) {
        let once = format!("run-{number}.{}.run 1", host.name);
        assert_eq!(agent.begun(), [once], "a command is not begun again by the next daemon");
    }
    for host in run["hosts"].as_array().unwrap() {
        let steps: Vec<&str> =
            host["steps"].as_array().unwrap().iter().filter_map(|of| of["step"].as_str()).collect();
        assert_eq!(steps, ["draining", "working", "proving", "returning", "watching"], "{host:#}");
        let receipt = &host["receipts"][0];
        assert_eq!(
            (&receipt["new_flows"], &receipt["misrouted"], &receipt["outcome"]),
            (&0.into(), &0.into(), &"drained".into()),
            "{receipt:#}"
        );
        assert!(host["jobs"][0]["output"].as_str().unwrap().ends_with(" ok\n"), "{host:#}");
    }
    let noticed = load.noticed();
    assert_eq!((noticed.broken, noticed.failed), (0, 0), "{:?}", load.reasons());
    assert!(noticed.connections > 500 && noticed.requests > 1000, "{noticed:?}");
    let text = fleet.daemon.cli_ok(&["maintain", "report"]).unwrap();
    assert!(text.contains("[####################] 8 done") && text.contains("working "), "{text}");
    assert!(text.contains(": drained in "), "receipts: {text}");
    let history = fleet.daemon.cli_ok(&["history"]).unwrap();
    assert!(history.contains(&format!("run {number} (nginx 2): done")), "{history}");
}

/// One at a time, and the third host's new version does not start.
fn third_fails(fleet: &Fleet) {
    let choice = format!("version=2; test $SLUICE_HOST != h3 || version=\"{BROKEN}\"");
    // What it is rolled back to would not pass the check of the way forward.
    let plan = fleet.plan("bad one", &choice, &format!("{CHECK} | grep -qx 2"), "").unwrap();
    let text = std::fs::read_to_string(&plan).unwrap().replace("at_once = 3", "at_once = 1");
    std::fs::write(&plan, text).unwrap();
    let out = fleet.daemon.cli(&["maintain", "start", plan.to_str().unwrap(), "--wait", "--json"]).unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    let run: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let parts = ["done", "returned", "untouched", "failed"].map(|part| run[part].as_u64().unwrap());
    assert_eq!((parts, &run["state"]), ([2, 1, 5, 0], &"failed".into()), "{run:#}");
    assert!(run["why"].as_str().unwrap().starts_with("h3: run: exit status 1"), "{run:#}");
    assert_eq!(fleet.versions().unwrap(), ["2", "2", "1", "2", "2", "2", "2", "2"], "rolled back");
    let status = fleet.daemon.cli_json(&["status", "--json"]).unwrap();
    assert!(status["hosts"].as_array().unwrap().iter().all(|host| host["admin"] == "active"), "{status:#}");
}

/// In each step the daemon is killed, and the next one goes on from there: nothing is done twice, nothing is left out.
fn killed_in_each_step(fleet: &mut Fleet) {
    // Each lasts longer than this thread may take to hear of it and to kill the daemon.
    const STEPS: [&str; 5] = ["draining", "working", "proving", "returning", "watching"];
    let done = fleet.folder().join("done");
    let plan = fleet.folder().join("killed.toml");
    let text = format!(
        "name = \"killed\"\nhosts = [\"h7\"]\n[run]\ncommand = \"echo $SLUICE_STEP_ID $SLUICE_STEP_ATTEMPT >> {}; sleep 10\"\n\
         [healthy]\nfor = \"10s\"\n[undrain]\nramp = \"10s\"\nwatch = \"10s\"\n",
        done.display()
    );
    std::fs::write(&plan, text).unwrap();
    let run = fleet.daemon.cli_json(&["maintain", "start", plan.to_str().unwrap(), "--json"]).unwrap();
    let number = run["run"].as_u64().unwrap();
    for step in STEPS {
        fleet.wait_for(number, LIMIT, |run| run["hosts"][0]["step"] == step).unwrap();
        fleet.daemon.sigkill();
        fleet.daemon.start_again().unwrap();
    }
    let run = fleet.wait_for(number, LIMIT, |run| run["state"] != "running").unwrap();
    assert_eq!((&run["state"], &run["hosts"][0]["step"]), (&"done".into(), &"done".into()), "{run:#}");
    let steps: Vec<&str> =
        run["hosts"][0]["steps"].as_array().unwrap().iter().filter_map(|of| of["step"].as_str()).collect();
    assert_eq!(steps, STEPS, "{run:#}");
    assert_eq!(std::fs::read_to_string(done).unwrap(), format!("run-{number}.h7.run 1\n"));
    let receipts = run["hosts"][0]["receipts"].as_array().unwrap();
    assert_eq!((receipts.len(), &receipts[0]["outcome"]), (1, &"drained".into()), "{run:#}");
}

/// Connections that do not end: by the plan they are a failure at the deadline, or are reset.
fn a_deadline_counts(fleet: &Fleet) {
    let options = ConnectionsOptions {
        connections: 64,
        interval: Duration::from_millis(200),
        ..ConnectionsOptions::new(SocketAddr::new(fleet.topology.vip4().into(), ECHO))
    };
    let held = Connections::start(&fleet.topology.client().ns, &options).unwrap();
    wait(|| held.counts().opened == 64);
    let run = |at_deadline: &str| {
        let plan = fleet.folder().join("late.toml");
        let text = format!(
            "name = \"late\"\nhosts = [\"h1\"]\n[drain]\ndeadline = \"1s\"\nat_deadline = {at_deadline:?}\n\
             [run]\ncommand = \"true\"\n[healthy]\nfor = \"0s\"\n[undrain]\nwatch = \"0s\"\n"
        );
        std::fs::write(&plan, text).unwrap();
        let out =
            fleet.daemon.cli(&["maintain", "start", plan.to_str().unwrap(), "--wait", "--json"]).unwrap();
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    let kept = run("keep");
    let why = kept["why"].as_str().unwrap_or_default();
    assert!(why.ends_with(" flows were left at the deadline of the drain"), "{kept:#}");
    assert_eq!((&kept["failed"], held.counts().broken), (&1.into(), 0), "{kept:#}");
    fleet.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    let reset = run("reset");
    assert_eq!((&reset["state"], &reset["done"]), (&"done".into(), &1.into()), "{reset:#}");
    let receipt = &reset["hosts"][0]["receipts"][0];
    assert_eq!(receipt["outcome"], "reset", "{receipt:#}");
    let (ended, broken) = (receipt["reset"].as_u64().unwrap(), held.finish().unwrap().broken);
    assert!(ended > 0 && ended == broken && broken < 64, "{ended} reset, {broken} of 64 broken");
}

/// Two at once of eight, of which seven are to be there: the second waits until the first has its share again. The work is a webhook.
fn no_more_at_once_than_the_rules_allow(fleet: &Fleet) {
    let (at, posts) = hook(fleet, 2);
    let plan = fleet.folder().join("held-back.toml");
    let text = format!(
        "name = \"held back\"\nhosts = [\"h3\", \"h4\"]\nat_once = 2\nmin_healthy = \"87%\"\n\
         [run]\nwebhook = \"http://{at}/restart?at=once\"\n[healthy]\nfor = \"1s\"\n[undrain]\nramp = \"2s\"\nwatch = \"0s\"\n"
    );
    std::fs::write(&plan, text).unwrap();
    let run = fleet.daemon.cli_json(&["maintain", "start", plan.to_str().unwrap(), "--json"]).unwrap();
    let number = run["run"].as_u64().unwrap();
    let mut has_waited = false;
    let run = fleet
        .wait_for(number, LIMIT, |run| {
            let waits_for = run["waits_for"].as_str().unwrap_or_default();
            has_waited |= waits_for.contains("min_healthy is 87%");
            let status = fleet.daemon.cli_json(&["status", "--json"]).unwrap();
            let is_there = |host: &&serde_json::Value| {
                host["admin"] == "active" && host["ramp"]["share"].as_f64().is_none_or(|share| share >= 1.0)
            };
            let missing = HOSTS - status["hosts"].as_array().unwrap().iter().filter(is_there).count();
            assert!(missing <= 1, "{status:#}");
            run["state"] != "running"
        })
        .unwrap();
    assert_eq!((&run["state"], &run["done"], has_waited), (&"done".into(), &2.into(), true), "{run:#}");
    let posted = posts.join().unwrap();
    let wanted = ["h3", "h4"].map(|host| (host.to_owned(), format!("run-{number}.{host}.run")));
    assert_eq!(posted, wanted, "each once, by its host and key");
    assert_eq!(run["hosts"][0]["jobs"][0]["output"], "h3 is restarted", "{run:#}");
}

/// Takes so many webhooks in the balancer's namespace: the host of each, and the key by which a second one would be known.
fn hook(fleet: &Fleet, times: usize) -> (SocketAddr, JoinHandle<Vec<(String, String)>>) {
    let bound = fleet.topology.balancer().ns.enter(|| TcpListener::bind("127.0.0.1:0"));
    let listener = bound.unwrap().unwrap();
    let at = listener.local_addr().unwrap();
    let take = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream);
        let (mut head, mut line) = (Vec::new(), String::new());
        while lines.read_line(&mut line).unwrap() > 2 {
            head.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        assert_eq!(head[0], "POST /restart?at=once HTTP/1.1");
        let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let mut body = vec![0; field("Content-Length: ").parse().unwrap()];
        lines.read_exact(&mut body).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let (host, key) = (body["host"].as_str().unwrap().to_owned(), field("Idempotency-Key: "));
        assert_eq!((&body["step"], &body["step_id"]), (&"run".into(), &key.as_str().into()), "{body}");
        let answer = format!("{host} is restarted");
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        (host, key)
    };
    (at, std::thread::spawn(move || (0..times).map(|_| take()).collect()))
}

/// A check that a config brings while a host is watched has not said anything at first, which is nothing against the host.
fn new_checks_are_waited_for(fleet: &Fleet) {
    let plan = fleet.folder().join("watched.toml");
    let text = "name = \"watched\"\nhosts = [\"h2\"]\n[run]\ncommand = \"true\"\n[healthy]\nfor = \"1s\"\n[undrain]\nwatch = \"20s\"\n";
    std::fs::write(&plan, text).unwrap();
    let run = fleet.daemon.cli_json(&["maintain", "start", plan.to_str().unwrap(), "--json"]).unwrap();
    let number = run["run"].as_u64().unwrap();
    fleet.wait_for(number, LIMIT, |run| run["hosts"][0]["step"] == "watching").unwrap();
    // It fails until the file is there, and does not count before it has failed so often.
    let well = fleet.folder().join("well");
    let check =
        format!("[[services.checks]]\ntype = \"command\"\ncommand = \"test -e {}\"\n", well.display());
    let more = |text: &str| text.replace("fall = 2", "fall = 100").replace(TCP, &format!("{TCP}{check}"));
    fleet.apply(more).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let run = fleet.run(number).unwrap();
    assert_eq!((&run["state"], &run["hosts"][0]["step"]), (&"running".into(), &"watching".into()), "{run:#}");
    std::fs::write(&well, "").unwrap();
    let run = fleet.wait_for(number, LIMIT, |run| run["state"] != "running").unwrap();
    assert_eq!((&run["state"], &run["hosts"][0]["step"]), (&"done".into(), &"done".into()), "{run:#}");
    fleet.apply(str::to_owned).unwrap();
}

/// A host that checks have found well again is not all there until its service's ramp is over.
fn a_ramp_by_health_counts(fleet: &Fleet) {
    let path = fleet.folder().join("many.toml");
    let text = "name = \"many\"\nhosts = [\"h6\"]\nmin_healthy = \"80%\"\n[run]\ncommand = \"true\"\n";
    std::fs::write(&path, text).unwrap();
    let waits_for = || {
        let plan = fleet.daemon.cli_json(&["maintain", "plan", path.to_str().unwrap(), "--json"]).unwrap();
        plan["waits_for"].as_str().unwrap_or_default().to_owned()
    };
    let is_oper = |oper: &str| {
        let report = fleet.daemon.cli_json(&["health", "h5", "--json"]).unwrap();
        report["checks"].as_array().unwrap().iter().filter(|check| check["oper"] == oper).count()
    };
    assert_eq!(waits_for(), "");
    let well = fleet.folder().join("h5-is-well");
    let check = format!(
        "[[services.checks]]\ntype = \"command\"\ncommand = \"test $SLUICE_HOST != h5 || test -e {}\"\n",
        well.display()
    );
    let more = |text: &str| {
        text.replace("fall = 2", "ramp = \"1h\"\nfall = 2").replace(TCP, &format!("{TCP}{check}"))
    };
    fleet.apply(more).unwrap();
    wait(|| is_oper("down") == 2);
    std::fs::write(&well, "").unwrap();
    wait(|| is_oper("up") == 4);
    wait(|| !waits_for().contains("now 700"));
    let waits = waits_for();
    assert!(waits.contains("of its weight healthy (6") && waits.contains("now 7"), "{waits}");
    fleet.apply(str::to_owned).unwrap();
    wait(|| waits_for().is_empty());
}

fn wait(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A command may say what it likes: a host that is down by the balancer's own checks does not come back.
fn checks_count(fleet: &Fleet) {
    let rules = "table inet fault { chain input { type filter hook input priority 0; tcp dport 80 tcp flags syn drop; }; }";
    fleet.topology.host(1).ns.shell(&format!("nft '{rules}'")).unwrap();
    let text = "name = \"ill\"\nhosts = [\"h1\"]\n[run]\ncommand = \"true\"\n[healthy]\nfor = \"1s\"\nwithin = \"6s\"\n";
    let plan = fleet.folder().join("ill.toml");
    std::fs::write(&plan, text).unwrap();
    let out = fleet.daemon.cli(&["maintain", "start", plan.to_str().unwrap(), "--wait", "--json"]).unwrap();
    let run: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), &run["failed"]), (Some(1), &1.into()), "{run:#}");
    let why = run["why"].as_str().unwrap();
    assert!(why.contains("within 6 s: it is down for web-v") && why.contains("tcp"), "{why}");
    let status = fleet.daemon.cli_json(&["status", "--json"]).unwrap();
    assert_eq!(status["hosts"][0]["admin"], "drained", "it stays as it is: {status:#}");
}

/// Each with the mend, all problems at once, and nothing is begun.
fn refused(fleet: &Fleet) {
    let path = fleet.folder().join("bad.toml");
    let text = "name = \"bad\"\nhosts = [\"h1\", \"h9\"]\nmin_healthy = \"90%\"\nwindows = [\"10:00-10:00\"]\n[run]\ncommand = \"true\"\n";
    std::fs::write(&path, text).unwrap();
    for verb in ["plan", "start"] {
        let out = fleet.daemon.cli(&["maintain", verb, path.to_str().unwrap()]).unwrap();
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(9), "{words}");
        for part in [
            "\"h9\" is unknown; `sluice status` lists hosts",
            "min_healthy is 90%, even with all hosts well: this rule can never hold",
            "is a window that never opens",
            "is refused, for ",
        ] {
            assert!(words.contains(part), "{part} is not in {words}");
        }
    }
    assert_eq!(fleet.daemon.cli_ok(&["maintain", "status"]).unwrap(), "there was no run yet\n");
}
