//! What a run of the tests must not leave on the machine: network namespaces, pins, shared memory and processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Set for everything that the tests start, so that a process can be told from those of another run.
pub const RUN_VAR: &str = "SLUICE_TEST_RUN";
/// How long the kernel and dying processes get to tidy up.
const GRACE: Duration = Duration::from_secs(3);
/// Helpers of the build that outlive it by design.
const BUILD_SERVERS: [&str; 1] = ["sccache"];

/// What is there, by description.
pub struct Leftovers {
    run: String,
    before: BTreeSet<String>,
}

impl Leftovers {
    /// Takes stock before the run that has this name in [`RUN_VAR`].
    pub fn before(run: String) -> Leftovers {
        Leftovers { before: stock(&run), run }
    }

    /// What the run left, after a grace in which it may still vanish.
    pub fn after(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left: Vec<String> = stock(&self.run).difference(&self.before).cloned().collect();
            if left.is_empty() || start.elapsed() > GRACE {
                return left;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn stock(run: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in names_in(Path::new("/run/netns")) {
        if name.starts_with("sluice") {
            found.insert(format!("network namespace {name} (remove: ip netns delete {name})"));
        }
    }
    for name in names_in(Path::new(crate::bpffs::PATH)) {
        if name.starts_with("sluice") {
            let path = format!("{}/{name}", crate::bpffs::PATH);
            found.insert(format!("pins in {path} (remove: rm -r {path})"));
        }
    }
    // Of processes with a clock of their own.
    for name in names_in(Path::new("/dev/shm")) {
        if name.contains("faketime") {
            found.insert(format!("/dev/shm/{name} (remove: rm /dev/shm/{name})"));
        }
    }
    found.extend(processes_of(run));
    found
}

/// Processes with the run's name in their environment, other than this one.
fn processes_of(run: &str) -> Vec<String> {
    let marker = format!("{RUN_VAR}={run}");
    let own = std::process::id().to_string();
    names_in(Path::new("/proc"))
        .into_iter()
        .filter(|pid| pid.bytes().all(|digit| digit.is_ascii_digit()) && *pid != own)
        .filter_map(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            environment.split(|byte| *byte == 0).find(|variable| *variable == marker.as_bytes())?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            let name = name.trim();
            (!BUILD_SERVERS.contains(&name)).then(|| format!("process {name} (end it: kill {pid})"))
        })
        .collect()
}

/// Names in a folder; none if it cannot be read, as `/run/netns` before the first namespace.
fn names_in(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
    entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_the_run_that_started_it() {
        let run = format!("unit-test-{}", std::process::id());
        let leftovers = Leftovers::before(run.clone());
        let mut child = Command::new("sleep").arg("60").env(RUN_VAR, &run).spawn().expect("sleep starts");
        // The kernel lets go of the parent a moment before the child's environment can be read.
        let start = Instant::now();
        while processes_of(&run).is_empty() && start.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(1));
        }
        let other = processes_of("another run");
        let left = leftovers.after();
        child.kill().expect("sleep is ended");
        child.wait().expect("sleep has ended");
        assert_eq!(left, [format!("process sleep (end it: kill {})", child.id())]);
        assert!(other.is_empty(), "{other:?}");
        assert!(processes_of(&run).is_empty(), "an ended process is not left");
    }
}
