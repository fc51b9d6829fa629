//! What checks cost: thousands of TCP checks by the daemon's own checkers, against a server on the loopback interface, and the CPU time of
//! the thread that runs them. The kernel does the server's half of each handshake in the same thread's time, so a network's other end
//! would make it less.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_userspace::engine::Clock;
use lb_userspace::health::{Board, CheckId, Checkers, Oper, Target};
use lb_userspace::model::{Check, Health, Percent, Probe, Through};
use serde::Serialize;

/// How many checks, how often, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct HealthOptions {
    pub checks: usize,
    pub interval: Duration,
    pub time: Duration,
}

#[derive(Debug, Serialize)]
pub struct HealthReport {
    pub checks: usize,
    pub interval_ms: u64,
    pub seconds: f64,
    /// Runs that ended in that time.
    pub runs: u64,
    /// Those that failed, or could not be made.
    pub not_well: u64,
    /// Hundredths of one core that the checkers took.
    pub core_percent: f64,
    pub microseconds_a_run: f64,
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} TCP checks every {} ms for {:.1} s: {} runs, {} of them not well; {:.1} % of a core, {:.1} us a run",
            self.checks,
            self.interval_ms,
            self.seconds,
            self.runs,
            self.not_well,
            self.core_percent,
            self.microseconds_a_run
        )
    }
}

/// Measures.
pub fn run(options: &HealthOptions, mut say: impl FnMut(&str)) -> Result<HealthReport> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot listen")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let board = Arc::new(Board::default());
    let health = Health {
        interval: options.interval,
        timeout: Duration::from_secs(1),
        jitter: Percent(10),
        ..Health::default()
    };
    let health = Arc::new(health);
    let target = |number: usize| Target {
        id: CheckId { service: "s".to_owned(), host: format!("h{number}"), check: "tcp".to_owned() },
        check: Check { probe: Probe::Tcp, port: Some(port), through: Through::Host },
        health: health.clone(),
        address: IpAddr::V4(Ipv4Addr::from(0x7f00_0002 + number as u32)),
        vip: Ipv4Addr::LOCALHOST.into(),
        instance: "bench".to_owned(),
        seed: number as u64,
        is_rst_well: false,
    };
    board.set((0..options.checks).map(target).collect(), &BTreeMap::new());
    let checkers = Checkers::spawn(board.clone(), Clock::start())?;
    say("checks begin");
    // Each has run once by then.
    std::thread::sleep(options.interval * 2);
    let (begun, runs, spent) = (Instant::now(), board.runs(), thread_time("health")?);
    say("measuring");
    std::thread::sleep(options.time);
    let (seconds, runs) = (begun.elapsed().as_secs_f64(), board.runs() - runs);
    let spent = thread_time("health")? - spent;
    let down = board.entries(None).iter().filter(|entry| entry.track.kept.oper != Oper::Up).count() as u64;
    drop(checkers);
    Ok(HealthReport {
        checks: options.checks,
        interval_ms: options.interval.as_millis() as u64,
        seconds,
        runs,
        not_well: down + board.not_run(),
        core_percent: spent / seconds * 100.0,
        microseconds_a_run: spent * 1e6 / runs.max(1) as f64,
    })
}

/// Seconds of CPU that the thread of this name has had.
fn thread_time(name: &str) -> Result<f64> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim() == name {
            let stat = std::fs::read_to_string(task.join("stat"))?;
            // proc(5): utime and stime are fields 14 and 15, in hundredths of a second; the name, field 2, may have spaces.
            let rest = stat.rsplit_once(')').context("no stat")?.1;
            let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
            return Ok(ticks.sum::<std::result::Result<f64, _>>()? / 100.0);
        }
    }
    anyhow::bail!("there is no thread {name}")
}
