//! Where it was measured.

use std::fs;

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// The machine, as far as figures depend on it.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
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
