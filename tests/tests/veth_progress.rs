//! Progress of a drain over real sockets: the expected end of flows that all last alike, who is named as a blocker, and what the receipt
//! says of durations.

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::Topology;

/// How long each connection lasts.
const LASTS: Duration = Duration::from_secs(6);
/// Connections a second.
const RATE: u32 = 16;
/// Seconds for which a closed connection counts.
const CLOSING: u32 = 2;

/// Connections of one age after the other, each closed when its time is over.
struct Waves {
    vip: SocketAddr,
    open: VecDeque<(Instant, TcpStream)>,
    /// They say something now and then.
    stays: Vec<TcpStream>,
}

impl Waves {
    /// Who is closed by now is; with `more`, others begin.
    fn go_on(&mut self, more: bool) {
        while self.open.front().is_some_and(|(began, _)| began.elapsed() >= LASTS) {
            self.open.pop_front();
        }
        for stream in &mut self.stays {
            stream.write_all(b".").unwrap();
        }
        for _ in 0..if more { RATE / 4 } else { 0 } {
            self.open.push_back((Instant::now(), connect(self.vip).1));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn connect(vip: SocketAddr) -> (String, TcpStream) {
    let mut stream = TcpStream::connect_timeout(&vip, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut greeting = [0; 3];
    stream.read_exact(&mut greeting).unwrap();
    (String::from_utf8(greeting[..2].to_vec()).unwrap(), stream)
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

#[test]
fn flows_that_last_alike_end_as_expected_and_blockers_are_named() {
    let plan = Plan { timeouts: [4, 40, CLOSING, 4], ..Plan::new("l2", 2) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let client = site.topology.client().ns.clone();
    client.enter(|| run(&site)).unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

fn run(site: &Site) {
    let vip = SocketAddr::new(site.vips()[0], ECHO);
    let drain_of = |host: &str, more: &[&str]| {
        site.daemon.cli_json(&[&["drains", host, "--json"], more].concat()).unwrap()
    };
    // Before anything has ended nothing is known.
    let nothing = site.daemon.cli_json(&["plan", "drain", "h1", "--json"]).unwrap();
    assert_eq!(nothing["expected_seconds"], 0, "no flow is there");
    let refused = site.daemon.cli(&["drains", "h1"]).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");

    // Some that stay, and are the oldest: those of h1.
    let mut stays = Vec::new();
    while stays.len() < 3 {
        let (host, stream) = connect(vip);
        stays.extend((host == "h1").then_some(stream));
    }
    let unknown = site.daemon.cli_json(&["plan", "drain", "h1", "--json"]).unwrap();
    assert_eq!(unknown["expected_seconds"], Value::Null, "{unknown}");

    let mut waves = Waves { vip, open: VecDeque::new(), stays };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        waves.go_on(true);
    }
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let asked = Instant::now();
    let first = drain_of("h1", &["--blockers", "3"]);
    let answered = asked.elapsed();
    let (progress, live) = (&first["progress"], number(&first["live_flows"], "total"));
    println!("{live} live: {progress}");
    assert!(live > 30, "{first}");
    let expected = &progress["expected_end"];
    assert!(number(expected, "measured") >= 60, "{expected}");
    assert_eq!((&expected["p99"], number(expected, "unknown")), (&Value::Null, 0), "some stay: {expected}");

    // The oldest of h1 are those that stay, and their clients are named.
    let blockers = progress["blockers"].as_array().unwrap();
    assert_eq!(blockers.len(), 3, "{progress}");
    let mine: BTreeSet<String> =
        waves.stays.iter().map(|stream| stream.local_addr().unwrap().to_string()).collect();
    for blocker in blockers {
        assert!(mine.contains(blocker["client"].as_str().unwrap()), "{blocker} is none of {mine:?}");
        assert!(number(blocker, "age") >= 18 && number(blocker, "age") <= 40, "{blocker}");
        assert_eq!(blocker["vip"], vip.to_string());
        assert_eq!((&blocker["service"], &blocker["phase"]), (&"echo-v4".into(), &"established".into()));
    }
    let phases = progress["phases"].as_object().unwrap();
    let by_phase: u64 = phases.values().map(|phase| number(phase, "live")).sum();
    assert!(by_phase.abs_diff(live) <= 5, "{first}");
    assert!(number(&phases["established"], "age_max") >= 18, "{first}");
    assert!(phases.contains_key("closing"), "{first}");

    // Half of them, and nine of ten, are gone when that was said; seconds of clocks, a sweep, and bins are some 2 s.
    let half = Duration::from_secs(number(expected, "p50"));
    let most = Duration::from_secs(number(expected, "p90"));
    assert!((3..=9).contains(&half.as_secs()) && (6..=11).contains(&most.as_secs()), "{expected}");
    // When it was so, is known from two looks: between them a busy machine may stand still.
    let (mut reached, mut before) = ([None; 2], answered);
    while reached[1].is_none() {
        waves.go_on(false);
        let look = asked.elapsed();
        let now = number(&drain_of("h1", &[])["live_flows"], "total");
        for (reached, part) in reached.iter_mut().zip([0.5, 0.1]) {
            if reached.is_none() && now as f64 <= live as f64 * part {
                *reached = Some((before, asked.elapsed()));
            }
        }
        before = look;
        assert!(asked.elapsed() < LIMIT, "{now} of {live} are left");
    }
    let [really_half, really_most] = reached.map(Option::unwrap);
    println!("half after {really_half:?}, said {half:?}; nine of ten after {really_most:?}, said {most:?}");
    let close = |said: Duration, (before, reached): (Duration, Duration)| {
        let off = Duration::from_millis(2500);
        // It was said at some time until it was answered.
        said + answered + off >= before && said <= reached + off
    };
    assert!(close(half, really_half), "{half:?} {really_half:?}");
    assert!(close(most, really_most), "{most:?} {really_most:?}");

    // Who is left are those that stay; sums agree; words name them.
    while number(&drain_of("h1", &[])["live_flows"], "total") > waves.stays.len() as u64 {
        waves.go_on(false);
        assert!(asked.elapsed() < LIMIT * 2);
    }
    let last = drain_of("h1", &["--blockers", "100"]);
    let left: BTreeSet<String> = last["progress"]["blockers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flow| flow["client"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(left, mine);
    let ended = number(&last["progress"], "ended");
    assert_eq!(ended + waves.stays.len() as u64, number(&last, "flows_at_start"), "{last}");
    let words = site.daemon.cli_ok(&["drains", "--blockers", "9"]).unwrap();
    assert!(words.starts_with("h1: draining (drain 1, by "), "{words}");
    assert!(words.contains("expected end") && mine.iter().all(|client| words.contains(client)), "{words}");
    let status = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(status.replace("\n  ", " ").contains("; expected end"), "{status}");
    let list = site.daemon.cli_json(&["drains", "--json"]).unwrap();
    assert_eq!(list["drains"][0]["progress"]["blockers"], Value::Null);

    drop(waves);
    let output = site.daemon.cli(&["drain", "h1", "--wait", "--timeout", "30s", "--json"]).unwrap();
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (drain, receipt) = (&done["drains"][0], &done["drains"][0]["receipt"]);
    assert_eq!((output.status.code(), &drain["progress"]), (Some(0), &Value::Null), "{done}");
    let durations = &receipt["durations"];
    let lasts = LASTS.as_secs();
    assert!((lasts - 1..=lasts + 1).contains(&number(durations, "p50")), "{receipt}");
    assert!(number(durations, "p99") >= 18, "{receipt}");
    let kept = site.daemon.cli_json(&["receipt", &receipt["drain"].to_string(), "--json"]).unwrap();
    assert_eq!(kept["durations"], *durations);
}
