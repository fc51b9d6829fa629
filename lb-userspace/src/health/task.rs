//! The checkers: a thread of its own that runs each check when it is due, so many at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::board::{Board, Seen};
use super::ear::{Ear, Port};
use super::probe::{self, Failure, Run, Target};
use super::schedule;
use crate::engine::Clock;

/// Runs under way at most, if the machine lets so many files be open.
const MOST_RUNS: u64 = 16_384;
/// Files that are left to the rest of the daemon.
const SPARE_FILES: u64 = 512;
/// Files that a run has open at most: a command's pipes.
const FILES_A_RUN: u64 = 3;

/// What runs share.
pub struct Means {
    pub board: Arc<Board>,
    /// Of Unix time that nobody sets.
    pub clock: Clock,
    /// Opened by the first check through a VIP.
    ear: OnceLock<Ear>,
    count: AtomicU32,
}

impl Means {
    fn new(board: Arc<Board>, clock: Clock) -> Self {
        Means { board, clock, ear: OnceLock::new(), count: AtomicU32::new(0) }
    }

    /// On the checkers' thread.
    pub(super) fn ear(&self) -> Result<&Ear, String> {
        if let Some(ear) = self.ear.get() {
            return Ok(ear);
        }
        // What cannot be opened now may be so later.
        let ear = Ear::open().map_err(|error| format!("no packet socket (CAP_NET_RAW): {error}"))?;
        Ok(self.ear.get_or_init(|| ear))
    }

    /// A port to ask from.
    pub(super) fn port(&self, is_udp: bool, is_v6: bool) -> Result<Port, Failure> {
        let port = self.ear().map_err(Failure::Own)?.port(is_udp, is_v6);
        port.ok_or_else(|| Failure::Own("all ports are in use by checks through VIPs".to_owned()))
    }

    /// Another number each time.
    pub(super) fn count(&self) -> u32 {
        self.count.fetch_add(0x9e37_79b9, Ordering::Relaxed)
    }
}

/// The running thread. It ends when this value is dropped.
pub struct Checkers {
    runtime: tokio::runtime::Handle,
    means: Arc<Means>,
    _end: oneshot::Sender<()>,
}

impl Checkers {
    /// In the network namespace of the calling thread.
    pub fn spawn(board: Arc<Board>, clock: Clock) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let means = Arc::new(Means::new(board, clock));
        let own = means.clone();
        std::thread::Builder::new().name("health".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(own) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Checkers { runtime: handle, means, _end: end })
    }

    /// Where what they find is written.
    pub fn board(&self) -> Arc<Board> {
        self.means.board.clone()
    }

    /// Runs a check now, beside its schedule and without consequence, and tells each step.
    pub async fn test(&self, target: Arc<Target>) -> Option<Run> {
        let means = self.means.clone();
        self.runtime.spawn(async move { probe::run(&target, &means, true).await }).await.ok()
    }
}

/// How many runs may be under way.
fn most_runs() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 64 };
    // The kernel's own limit for a process that says nothing is 1024, of which select(2) is the only reason.
    let wanted = hard.min(MOST_RUNS * FILES_A_RUN + SPARE_FILES).max(soft);
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    (limit.saturating_sub(SPARE_FILES) / FILES_A_RUN).clamp(16, MOST_RUNS) as usize
}

async fn serve(means: Arc<Means>) {
    let runs = Arc::new(Semaphore::new(most_runs()));
    let board = means.board.clone();
    let began = board.began;
    let now = || board.now();
    let (ended, mut over) = tokio::sync::mpsc::unbounded_channel();
    let mut version = 0;
    let mut queue: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut count = 0u64;
    let replaced = board.replaced.notified();
    tokio::pin!(replaced);
    let start = |queue: &mut BinaryHeap<_>| {
        let (version, due) = board.begin(now());
        *queue = due.into_iter().enumerate().map(|(index, due)| Reverse((due, index))).collect();
        version
    };
    version = start(&mut queue).max(version);
    loop {
        let due = queue.peek().map(|Reverse((due, _))| *due);
        let at = began + Duration::from_millis(due.unwrap_or(u64::MAX >> 20).min(now() + 3_600_000));
        tokio::select! {
            () = &mut replaced => {
                replaced.set(board.replaced.notified());
                version = start(&mut queue);
            }
            Some((of, index, due)) = over.recv() => {
                if of == version {
                    queue.push(Reverse((due, index)));
                }
            }
            () = tokio::time::sleep_until(at.into()) => {
                while let Some(Reverse((due, index))) = queue.pop_if_due(now()) {
                    // Late rather than too many.
                    let Ok(permit) = runs.clone().acquire_owned().await else { return };
                    let Some(target) = board.start(version, index, means.clock.now()) else { continue };
                    count = count.wrapping_add(1);
                    let (means, ended, number) = (means.clone(), ended.clone(), count);
                    tokio::spawn(async move {
                        let run = probe::run(&target, &means, false).await;
                        drop(permit);
                        let interval = target.health.interval.as_millis() as u64;
                        let now = began.elapsed().as_millis() as u64;
                        let next =
                            schedule::next(target.seed, number, due, interval, target.health.jitter.0, now);
                        means.board.note(version, index, Seen { at: means.clock.now(), run }, next);
                        // The checkers end.
                        let _ = ended.send((version, index, next));
                    });
                }
            }
        }
    }
}

trait PopIfDue {
    fn pop_if_due(&mut self, now: u64) -> Option<Reverse<(u64, usize)>>;
}

impl PopIfDue for BinaryHeap<Reverse<(u64, usize)>> {
    fn pop_if_due(&mut self, now: u64) -> Option<Reverse<(u64, usize)>> {
        if self.peek().is_some_and(|Reverse((due, _))| *due <= now) { self.pop() } else { None }
    }
}
