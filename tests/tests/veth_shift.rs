//! Shifts over real servers: flows go over step by step as was asked and as the counters measure, also if the daemon is killed in the middle; a
//! canary that turns bad is taken back by itself, and it is known how many requests it touched.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::site::{Extra, Plan, Site, WEB};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Outcome, Requests, RequestsOptions};

/// nginx may stand still for a moment, and is well: it is down once it has hung for twice that time.
const CHECKS: &str = "[services.health]\ninterval = \"300ms\"\ntimeout = \"4s\"\njitter = \"0%\"\nfall = 2\nrise = 2\n\
                      [[services.checks]]\ntype = \"http\"\nbody = \"h\"\n";
/// nginx listens there, too; this service has no checks.
const PLAIN: u16 = 8080;

/// Three hosts are blue, one is green.
fn site() -> Site {
    let plan = Plan {
        host_lines: vec![
            "groups = [\"blue\"]",
            "groups = [\"blue\"]",
            "groups = [\"blue\"]",
            "groups = [\"green\"]",
        ],
        sections: vec![("web", CHECKS)],
        services: vec![Extra { name: "plain", protocol: "\"tcp\"", port: "8080", more: "" }],
        timeouts: [4, 30, 2, 4],
        ..Plan::new("l2", 4)
    };
    Site::start(Topology::builder(), &plan).unwrap()
}

fn requests(site: &Site, port: u16, rate: u32) -> Requests {
    let options = RequestsOptions {
        rate,
        concurrency: 128,
        patience: Duration::from_secs(10),
        ..RequestsOptions::new(SocketAddr::new(site.vips()[0], port))
    };
    Requests::start(&site.topology.client().ns, &options).unwrap()
}

fn begin(site: &Site, service: &str, args: &[&str]) -> u64 {
    let all = [&["shift", service], args, &["--json"]].concat();
    site.daemon.cli_json(&all).unwrap()["shift"].as_u64().unwrap()
}

/// Waits until `is_so` of the shift.
fn until(site: &Site, shift: u64, is_so: impl Fn(&Value) -> bool) -> Value {
    let (begun, number) = (Instant::now(), shift.to_string());
    loop {
        let now = site.daemon.cli_json(&["shift", "status", &number, "--json"]).unwrap()["shifts"][0].clone();
        if is_so(&now) {
            return now;
        }
        assert!(begun.elapsed() < LIMIT, "{now:#}\n{}", site.daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is(state: &'static str) -> impl Fn(&Value) -> bool {
    move |shift| shift["state"] == state
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

const STEPS: &[&str] = &["--from", "blue", "--to", "green"];
/// Which is not to come true of hosts that are well.
const HEALTHY: &[&str] = &["--abort-if", "errors > 1%"];
const BACK: &[&str] = &["--from", "green", "--to", "blue", "--steps", "100%", "--every", "1s", "--wait"];

#[test]
fn flows_go_over_step_by_step_and_nobody_notices() {
    let mut site = site();
    let bad =
        site.daemon.cli(&["shift", "web-v4", "--from", "blu", "--to", "green", "--steps", "5%,1%"]).unwrap();
    let words = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(9), "{words}");
    assert!(words.contains("named \"blu\"") && words.contains("1% is not more than the 5%"), "{words}");

    let web = requests(&site, WEB, 400);
    // Downloads that are under way on all hosts stay where they are.
    let slow = RequestsOptions {
        path: "/slow?rate=3m".to_owned(),
        count: 12,
        rate: 0,
        concurrency: 12,
        patience: LIMIT,
        ..RequestsOptions::new(SocketAddr::new(site.vips()[0], WEB))
    };
    let slow = Requests::start(&site.topology.client().ns, &slow).unwrap();
    assert!(web.wait_for(LIMIT, |counts| counts.hosts.len() == 4));
    let first = begin(
        &site,
        "web-v4",
        &[STEPS, HEALTHY, &["--steps", "10%,50%", "--every", "20s", "--reason", "new"]].concat(),
    );
    let again = site.daemon.cli(&["shift", "web-v4", "--from", "blue", "--to", "green"]).unwrap();
    assert_eq!(again.status.code(), Some(9), "one at a time");
    site.daemon.cli_ok(&["shift", "pause", "--reason", "lunch"]).unwrap();
    // Of flows that are old enough to tell, and so many that those of before, which a late sweep counts in it, are few of them.
    let is_enough =
        |shift: &Value| shift["new_flows"].as_u64() >= Some(4000) && shift["begun"].as_u64() >= Some(40);
    let ten = until(&site, first, is_enough);
    assert_eq!((&ten["state"], &ten["failed"]), (&"paused".into(), &0.into()), "{ten:#}");
    assert_eq!((&ten["step"], number(&ten["wanted"])), (&0.into(), 0.1), "{ten:#}");
    assert!((number(&ten["slots"]) - 0.1).abs() < 0.01, "{ten:#}");
    assert!((number(&ten["measured"]) - 0.1).abs() < 0.07, "more than four standard deviations: {ten:#}");
    let text = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(text.contains("web-v4: 10.0% from blue to green wanted, "), "{text}");

    // A daemon that is killed goes on where it was, with what it has counted.
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    let paused = until(&site, first, is("paused"));
    assert_eq!((number(&paused["wanted"]), &paused["expected_end"]), (0.1, &Value::Null), "{paused:#}");
    assert!((number(&paused["slots"]) - number(&ten["slots"])).abs() < 1e-9, "{paused:#}");
    assert!(paused["new_flows"].as_u64() >= ten["new_flows"].as_u64(), "{paused:#}");
    site.daemon.cli_ok(&["shift", "resume"]).unwrap();
    let done = until(&site, first, is("done"));
    // Flows of a step are those that a sweep has counted in it: some of the step before are among them.
    assert!((number(&done["measured"]) - 0.5).abs() < 0.15 && number(&done["wanted"]) == 0.5, "{done:#}");

    // Another one is aborted, and what was before is in force again.
    let second = begin(&site, "web-v4", &[STEPS, HEALTHY, &["--steps", "100%", "--every", "1m"]].concat());
    assert_eq!(number(&until(&site, second, |_| true)["slots"]), 1.0);
    who_gets_nothing_is_no_reserve(&site);
    site.daemon.cli_ok(&["shift", "abort", &second.to_string(), "--reason", "wrong"]).unwrap();
    let aborted = until(&site, second, is("aborted"));
    assert!((number(&aborted["slots"]) - 0.5).abs() < 0.01, "{aborted:#}");
    let late = site.daemon.cli(&["shift", "abort", &second.to_string()]).unwrap();
    assert_ne!(late.status.code(), Some(0), "what is over is over");
    let history = site.daemon.cli_ok(&["history"]).unwrap();
    assert!(history.contains("blue to green") && history.contains("aborted"), "{history}");

    let web = web.finish().unwrap();
    assert_eq!(web.failed, 0, "{web:?}");
    let slow = slow.finish().unwrap();
    assert_eq!((slow.ok, slow.failed), (12, 0), "{slow:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// As many requests as the shift says that it touched were answered by its host or failed, those of the moments before and after it
/// aside, of which a busy machine has more. Those that wait for an answer, or send their SYN again, end some seconds later.
fn touched(requests: &Requests, since: Instant, failed_before: u64, shift: &Value) {
    let touched = shift["touched"].as_u64().unwrap();
    let begun = Instant::now();
    loop {
        let failed = requests.counts().failed - failed_before;
        let answered = requests.answered_since(since).get("h4").copied().unwrap_or(0);
        if failed > 0 && (answered + failed).abs_diff(touched) <= 3 + touched / 10 {
            println!("{touched} requests touched; {answered} answered by it, {failed} failed");
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{answered} answered and {failed} failed of {touched}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_canary_that_turns_bad_is_taken_back_by_itself() {
    let mut site = site();
    let plain = requests(&site, PLAIN, 200);
    let web = requests(&site, WEB, 200);
    for service in ["web-v4", "plain-v4"] {
        site.daemon.cli_ok(&[&["shift", service], BACK].concat()).unwrap();
    }

    // By its checks: it hangs.
    let (was_at, before) = (Instant::now(), web.counts().failed);
    let args = [STEPS, &["--steps", "10%,100%", "--every", "1m", "--abort-if", "unhealthy > 0"]].concat();
    let hangs = begin(&site, "web-v4", &args);
    until(&site, hangs, |shift| shift["touched"].as_u64() >= Some(20));
    site.nginx[3].process().signal(Signal::SIGSTOP).unwrap();
    let back = until(&site, hangs, is("taken_back"));
    assert!(back["why"].as_str().unwrap().contains("h4: http"), "{back:#}");
    assert_eq!((number(&back["wanted"]), number(&back["slots"])), (0.0, 0.0), "{back:#}");
    // Those that hang fail only while it does.
    touched(&web, was_at, before, &back);
    site.nginx[3].process().signal(Signal::SIGCONT).unwrap();

    // By a command.
    let flag = tempfile::NamedTempFile::new().unwrap();
    let condition = format!("fails: test -e {}", flag.path().display());
    let args = [STEPS, &["--steps", "1%,100%", "--every", "1m", "--abort-if", &condition]].concat();
    let command = begin(&site, "plain-v4", &args);
    std::thread::sleep(Duration::from_millis(2500));
    assert!(is("running")(&until(&site, command, |_| true)));
    drop(flag);
    let back = until(&site, command, is("taken_back"));
    assert!(back["why"].as_str().unwrap().starts_with("exit status 1 (fails: command 1)"), "{back:#}");

    // By its new flows: nobody listens any more.
    let (was_at, before) = (Instant::now(), plain.counts().failed);
    let args = [STEPS, &["--steps", "10%,100%", "--every", "1m", "--abort-if", "errors > 20%"]].concat();
    let killed = begin(&site, "plain-v4", &args);
    until(&site, killed, |shift| shift["touched"].as_u64() >= Some(20));
    drop(site.nginx.remove(3));
    let out = site.daemon.cli(&["shift", "status", &killed.to_string()]).unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("taken back if errors > 20%"), "{out:?}");
    let back = until(&site, killed, is("taken_back"));
    assert!(
        back["why"].as_str().unwrap().contains("new flows were never established (errors > 20%)"),
        "{back:#}"
    );
    touched(&plain, was_at, before, &back);

    // Nobody else noticed, and it is all quiet again.
    let quiet = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    for requests in [&plain, &web] {
        assert!(requests.wait_ended(LIMIT), "{:?}", requests.counts());
        let late = requests.log().into_iter().filter(|request| request.begun > quiet);
        assert_eq!(late.filter(|request| !matches!(request.outcome, Outcome::Ok(_))).count(), 0);
    }
    assert_eq!(plain.answered_since(quiet).get("h4"), None);
    plain.finish().unwrap();
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

/// All new flows go to the one host that is green, so a run that is to leave half of them somewhere does not begin with it.
fn who_gets_nothing_is_no_reserve(site: &Site) {
    let folder = tempfile::tempdir().unwrap();
    let waits_for = |host: &str| {
        let plan = folder.path().join("plan.toml");
        let text =
            format!("name = \"p\"\nhosts = [{host:?}]\nmin_healthy = \"50%\"\n[run]\ncommand = \"true\"\n");
        std::fs::write(&plan, text).unwrap();
        let plan = site.daemon.cli_json(&["maintain", "plan", plan.to_str().unwrap(), "--json"]).unwrap();
        plan["waits_for"].as_str().map(str::to_owned)
    };
    let green = waits_for("h4").unwrap_or_default();
    assert!(green.contains("web-v4 would have 0% of its weight healthy (0 of 100, now 100)"), "{green}");
    assert_eq!(waits_for("h1"), None, "nobody's flows");
}
