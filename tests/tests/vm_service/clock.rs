//! The wall clock is set while the daemon runs, and a daemon starts under one that was set: here it is nobody else's.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_settime};
use serde_json::Value;

use super::unit::{Unit, systemctl};
use super::{LIMIT, Site, finish_but, goes_on};

/// Some runs within the test, and none that fails on a machine that stands still for a while.
const CHECKS: &str =
    "[services.health]\ninterval = \"1s\"\ntimeout = \"15s\"\n[[services.checks]]\ntype = \"tcp\"\n";
const HOUR: i64 = 3600;
/// Of the drain, seconds: longer than the test, and far less than the clock is set by.
const DEADLINE: u64 = 600;
/// Seconds that two looks at the clocks may differ by.
const BLUR: u64 = 20;

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// The wall clock as it would be had nobody set it; it is again at the end.
struct Wall {
    unix: Duration,
    began: Instant,
}

impl Wall {
    fn take() -> Wall {
        Wall { unix: unix(), began: Instant::now() }
    }

    /// So many seconds off the right time.
    fn set(&self, off: i64) {
        let right = self.unix + self.began.elapsed();
        let seconds = right.as_secs().saturating_add_signed(off);
        clock_settime(ClockId::CLOCK_REALTIME, Duration::from_secs(seconds).into()).unwrap();
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn host(unit: &Unit, number: usize) -> Value {
    unit.status()["hosts"][number].clone()
}

/// Seconds by which the daemon says that the wall clock was set since its start.
fn jump(unit: &Unit) -> Option<i64> {
    let status = unit.status();
    let mut problems = status["problems"].as_array().unwrap().iter().filter_map(Value::as_str);
    let said = problems.find_map(|problem| problem.strip_prefix("the wall clock was set "))?;
    let (way, seconds) = said.split_once(" by ").unwrap();
    let seconds: i64 = seconds.split_once(" s ").unwrap().0.parse().unwrap();
    Some(if way == "back" { -seconds } else { seconds })
}

/// Events of a kind, since the daemon's start.
fn events(unit: &Unit, kind: &str) -> usize {
    unit.sluice(&["events", "--event", kind, "--json"]).lines().count()
}

/// How often in a row the checks were answered, all together.
fn runs(unit: &Unit) -> u64 {
    let report: Value = serde_json::from_str(&unit.sluice(&["health", "--json"])).unwrap();
    report["checks"].as_array().unwrap().iter().map(|check| check["streak"].as_u64().unwrap()).sum()
}

fn until(unit: &Unit, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what}\n{}\n{}", unit.status(), unit.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "needs systemd as the first process: cargo xtask vm"]
fn a_clock_that_is_set_moves_no_deadline_and_no_host() {
    let wall = Wall::take();
    let site = Site::start_with(CHECKS);
    let unit = &site.unit;
    until(unit, "both are up", || [0, 1].iter().all(|&number| host(unit, number)["oper"] == "up"));
    let flips = ["host_up", "host_down"].map(|kind| events(unit, kind));
    let tcp = site.connect();
    let deadline = format!("{DEADLINE}s");
    unit.sluice(&["drain", "h2", "--deadline", &deadline, "--at-deadline", "reset", "--force"]);
    let drained = Instant::now();
    let order = host(unit, 1)["drain"]["order"].clone();

    for off in [2 * HOUR, -HOUR] {
        wall.set(off);
        until(unit, "the daemon tells", || jump(unit).is_some_and(|jump| jump.abs_diff(off) <= BLUR));
        let before = runs(unit);
        until(unit, "checks go on", || runs(unit) >= before + 2);
        goes_on(&tcp, 40);
        let h2 = host(unit, 1);
        assert_eq!((&h2["admin"], &h2["drain"]["order"]), (&"draining".into(), &order), "{off}: {h2}");
        assert_eq!(["host_up", "host_down"].map(|kind| events(unit, kind)), flips, "{off}");
    }

    // The next daemon counts by the clock as it is now, and as many seconds are left.
    systemctl(&["restart", "sluice"]);
    let h2 = host(unit, 1);
    let (at, passed) = (h2["drain"]["order"]["deadline"].as_u64().unwrap(), drained.elapsed().as_secs());
    let left = at.checked_sub(unix().as_secs()).unwrap_or_else(|| panic!("it has passed: {h2}"));
    assert!(left.abs_diff(DEADLINE - passed) <= BLUR, "{left} s are left, after {passed}: {h2}");
    assert_eq!(jump(unit), None);
    let opers = [0, 1].map(|number| host(unit, number)["oper"].clone());
    assert_eq!(opers, ["up", "up"], "they are not asked first");
    goes_on(&tcp, 40);
    assert_eq!(["host_up", "host_down"].map(|kind| events(unit, kind)), [0, 0]);

    // Set once more: a deadline comes when it comes.
    wall.set(0);
    let open = tcp.counts().hosts["h2"].open;
    assert!(open > 0, "{:?}", tcp.counts());
    unit.sluice(&["drain", "h2", "--deadline", "2s", "--at-deadline", "reset", "--force"]);
    assert!(tcp.wait_for(LIMIT, |counts| counts.broken == open), "{open} {:?}", tcp.counts());
    finish_but(tcp, open);
}
