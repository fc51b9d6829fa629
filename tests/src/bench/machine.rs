//! Where it was measured.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::Serialize;

/// The machine, as far as figures depend on it.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    /// Nanoseconds of one read that depends on the one before, at random within 1 MiB and within 16 MiB: what a packet's
    /// pin costs at the least.
    pub random_read: [f64; 2],
    /// How many times its shortest time the same arithmetic takes, at the median and at the 90th percentile: what others take
    /// of a processor that is shared with them, which no load average of this machine shows.
    pub disturbed: [f64; 2],
    /// Runnable processes over the last minute: others' work disturbs the figures.
    pub load: String,
}

impl Machine {
    /// # Errors
    /// When the kernel counts the time of programs, which costs more than what is measured.
    pub fn look() -> Result<Machine> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        if read("/proc/sys/kernel/bpf_stats_enabled")?.trim() != "0" {
            bail!(
                "the kernel measures BPF programs itself, which costs more than they do: sysctl kernel.bpf_stats_enabled=0"
            );
        }
        let info = read("/proc/cpuinfo")?;
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Machine {
            cpu: model.map_or("unknown", |(_, model)| model).to_owned(),
            cpus: info.lines().filter(|line| line.starts_with("processor")).count(),
            random_read: [random_read(1 << 20), random_read(16 << 20)],
            disturbed: disturbance(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// Keeps this thread where it is: its caches stay warm, and per-CPU counters are one CPU's.
pub fn stay_on_one_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(nix::sched::sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")
}

/// Nanoseconds of one dependent read at a random place of so many bytes.
fn random_read(bytes: usize) -> f64 {
    const READS: usize = 1_000_000;
    // One circle through all cache lines (Sattolo), by a fixed sequence of numbers.
    let lines = bytes / 64;
    let mut next: Vec<[u64; 8]> = (0..lines as u64).map(|line| [line; 8]).collect();
    let mut state = 1u64;
    for line in (1..lines).rev() {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let other = (state >> 33) as usize % line;
        let there = next[line][0];
        next[line][0] = next[other][0];
        next[other][0] = there;
    }
    let walk = |from: u64, reads: usize| (0..reads).fold(from, |line, _| next[line as usize][0]);
    let warm = walk(0, lines);
    let before = thread_time();
    std::hint::black_box(walk(warm, READS));
    (thread_time() - before).as_nanos() as f64 / READS as f64
}

/// [`Machine::disturbed`]
fn disturbance() -> [f64; 2] {
    const SAMPLES: usize = 10_000;
    let mut samples: Vec<u64> = (0..SAMPLES as u64)
        .map(|sample| {
            let before = thread_time();
            let mut words = [sample; 6];
            for step in 0..4000 {
                for word in &mut words {
                    *word = word.wrapping_mul(5) ^ step;
                }
            }
            std::hint::black_box(words);
            (thread_time() - before).as_nanos() as u64
        })
        .collect();
    samples.sort_unstable();
    [samples[SAMPLES / 2], samples[SAMPLES * 9 / 10]].map(|took| took as f64 / samples[0].max(1) as f64)
}

/// Time that this thread has run: others' turns on the CPU do not count.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
