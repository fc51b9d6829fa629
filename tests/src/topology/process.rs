//! Child processes that cannot outlive their maker.
//!
//! Each is the leader of a process group of its own, dies with this process (`PR_SET_PDEATHSIG`), and is killed with
//! its group and reaped when its handle or the topology that it runs in is dropped.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// Environment variable that names the topology in each process started in it, so that leftovers can be found.
pub const OWNER_VARIABLE: &str = "SLUICE_TOPOLOGY";

/// How long [`run`] lets a command take.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A running child and its process group.
#[derive(Debug)]
pub struct Process {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    command: String,
    pid: Pid,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Child,
    status: Option<ExitStatus>,
}

/// Starts `command` in the network namespace `netns` (a descriptor of it), marked with `owner`.
pub(super) fn spawn(netns: Arc<std::fs::File>, owner: &str, mut command: Command) -> Result<Process> {
    let parent = std::process::id();
    let text = format!("{command:?}");
    command.env(OWNER_VARIABLE, owner).process_group(0);
    // SAFETY: between fork and exec only system calls are made, all of them safe in a child of a threaded process.
    unsafe {
        command.pre_exec(move || {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the request took effect.
            if libc::getppid() as u32 != parent { Err(Errno::ESRCH.into()) } else { Ok(()) }
        });
    }
    let child = spawn_on_lasting_thread(command).with_context(|| format!("cannot start {text}"))?;
    let pid = Pid::from_raw(child.id() as i32);
    let shared = Shared { command: text, pid, state: Mutex::new(State { child, status: None }) };
    Ok(Process { shared: Arc::new(shared) })
}

/// Runs `command` to its end and returns what it wrote; fails when it takes longer than two minutes.
pub(super) fn run(netns: Arc<std::fs::File>, owner: &str, mut command: Command) -> Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = spawn(netns, owner, command)?;
    let (stdout, stderr) = {
        let mut state = process.shared.lock();
        (state.child.stdout.take(), state.child.stderr.take())
    };
    let stdout = std::thread::spawn(move || read_all(stdout));
    let stderr = std::thread::spawn(move || read_all(stderr));
    let Some(status) = process.wait(RUN_LIMIT)? else {
        process.kill();
        bail!("{} took longer than {RUN_LIMIT:?}", process.shared.command);
    };
    let joined = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    Ok(Output { status, stdout: joined(stdout), stderr: joined(stderr) })
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // A pipe whose writer was killed simply ends; what came until then counts.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.shared.pid.as_raw() as u32
    }

    pub fn is_running(&self) -> bool {
        self.shared.poll().is_none()
    }

    /// Sends `signal` to the process itself, not to its group; a process that has ended is left alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let state = self.shared.lock();
        if state.status.is_none() {
            nix::sys::signal::kill(self.shared.pid, signal)
                .with_context(|| format!("cannot signal {}", self.shared.command))?;
        }
        Ok(())
    }

    /// Waits at most `limit` for the process to end; `None` when it has not.
    pub fn wait(&self, limit: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + limit;
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(status) = self.shared.poll() {
                return Ok(Some(status));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Kills the whole group and reaps the leader.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// The read ends of pipes asked for by `Stdio::piped`, once.
    pub fn take_output(&self) -> (Option<std::process::ChildStdout>, Option<std::process::ChildStderr>) {
        let mut state = self.shared.lock();
        (state.child.stdout.take(), state.child.stderr.take())
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shared.kill();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The exit status, if the leader has ended. Its group is killed before the leader is reaped, while the group's
    /// number cannot belong to anybody else.
    fn poll(&self) -> Option<ExitStatus> {
        let mut state = self.lock();
        if state.status.is_none() {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            match waitid(Id::Pid(self.pid), flags) {
                Ok(WaitStatus::StillAlive) => {}
                _ => {
                    let _ = killpg(self.pid, Signal::SIGKILL);
                    state.status = state.child.wait().ok();
                }
            }
        }
        state.status
    }

    pub(super) fn kill(&self) {
        let mut state = self.lock();
        if state.status.is_none() {
            let _ = killpg(self.pid, Signal::SIGKILL);
            state.status = state.child.wait().ok();
        }
    }
}

type Order = (Command, Sender<io::Result<Child>>);

/// `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, so one thread that lasts as long as the process forks
/// for all others.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    static FORKER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
        let (orders, inbox) = channel::<Order>();
        let work = move || {
            for (mut command, answer) in inbox {
                if let Err(orphan) = answer.send(command.spawn())
                    && let Ok(mut child) = orphan.0
                {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        };
        std::thread::Builder::new().name("forker".into()).spawn(work).expect("a thread can be started");
        Mutex::new(orders)
    });
    let (answer, result) = channel();
    let gone = || io::Error::other("the thread that starts processes has ended");
    FORKER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .send((command, answer))
        .map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}
