//! A network namespace, and ways to run code and commands in it.
//!
//! Only the network is switched, by setns(2): `ip netns exec` would also mount a new sysfs and hide bpffs.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::process::{self, Process, Shared};

/// Where iproute2 keeps the handles of named namespaces.
pub(super) const FOLDER: &str = "/run/netns";

/// A handle of a named network namespace; clones are handles of the same one.
///
/// The handle does not remove the namespace: the [`Topology`](super::Topology) that made it does.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    /// Prefix of the topology that it belongs to.
    owner: String,
    file: Arc<File>,
    processes: Mutex<Vec<Weak<Shared>>>,
}

impl Namespace {
    /// Opens the existing namespace `name`; processes started in it are marked with `owner`.
    pub fn open(name: &str, owner: &str) -> Result<Self> {
        Self::at(PathBuf::from(FOLDER).join(name), name, owner)
    }

    /// The namespace that the calling thread is in.
    pub fn current() -> Result<Self> {
        Self::at("/proc/thread-self/ns/net".into(), "the present one", "")
    }

    fn at(path: PathBuf, name: &str, owner: &str) -> Result<Self> {
        let file =
            File::open(&path).with_context(|| format!("cannot open network namespace {}", path.display()))?;
        let (name, owner, file) = (name.into(), owner.into(), Arc::new(file));
        Ok(Self(Arc::new(Inner { name, owner, file, processes: Mutex::default() })))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Prefix of the topology that the namespace belongs to.
    pub fn owner(&self) -> &str {
        &self.0.owner
    }

    /// The namespace's handle, for calls that take one (`setns`, `IFLA_NET_NS_FD`).
    pub fn file(&self) -> &File {
        &self.0.file
    }

    /// Moves the calling thread into the namespace for good; threads and processes that it starts follow.
    pub fn join_thread(&self) -> Result<()> {
        setns(self.0.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter network namespace {}", self.0.name))
    }

    /// Runs `work` on a thread in the namespace and returns its result; a panic in it goes on in the caller.
    ///
    /// Read `/proc/thread-self/net` in there, not `/proc/net`, which is the main thread's.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.join_thread().map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `work` on a thread of its own in the namespace.
    pub fn start<T: Send + 'static>(
        &self,
        thread_name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let namespace = self.clone();
        std::thread::Builder::new()
            .name(thread_name.into())
            .spawn(move || {
                namespace.join_thread()?;
                // `work` may leave the process's file table, and must not be the one to close the handle then.
                drop(namespace);
                Ok(work())
            })
            .context("cannot start a thread")
    }

    /// Starts a process in the namespace; see [`Process`] for its end.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        let process = process::spawn(self.0.file.clone(), &self.0.owner, command)?;
        let mut processes = self.0.processes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        processes.retain(|process| process.strong_count() > 0);
        processes.push(Arc::downgrade(process.shared()));
        Ok(process)
    }

    /// Runs a command to its end, at most two minutes, whatever its exit status.
    pub fn output(&self, command: Command) -> Result<Output> {
        process::run(self.0.file.clone(), &self.0.owner, command)
    }

    /// Runs a command to its end and returns its standard output; fails unless its exit status is 0.
    pub fn run(&self, command: Command) -> Result<String> {
        let text = format!("{command:?}");
        let output = self.output(command)?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{text} in {} failed with {}: {stdout}{stderr}", self.name(), output.status);
        }
        Ok(stdout.into_owned())
    }

    /// [`run`](Self::run) for a line of shell.
    pub fn shell(&self, line: &str) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-ec", line]);
        self.run(command)
    }

    /// Kills and reaps what [`spawn`](Self::spawn) started and still runs.
    pub(super) fn kill_processes(&self) {
        let processes = std::mem::take(&mut *self.0.processes.lock().unwrap_or_else(|p| p.into_inner()));
        for process in processes.iter().filter_map(Weak::upgrade) {
            process.kill();
        }
    }
}
