//! The way to the engine from other threads.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

use super::{DryRuns, Engine, Error, Tracers};
use crate::api::types::{Applied, ApplyRequest, ConfirmRequest, Confirmed, RollbackRequest};
use crate::events::Bus;
use crate::health::Checkers;
use crate::metrics;
use crate::seldom::Seldom;

enum Command {
    Work(Box<dyn FnOnce(&mut Engine) + Send>),
    End,
}

/// Sends work to the engine's thread.
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
    configs: tokio::sync::mpsc::Sender<Ask>,
    events: Bus,
    scraped: Scraped,
    checkers: Arc<OnceLock<Checkers>>,
    dry_runs: DryRuns,
    tracers: Tracers,
}

/// What is asked of whoever reads configs and makes the network ready for them.
pub enum Ask {
    Apply(ApplyRequest, String, oneshot::Sender<Result<Applied, Error>>),
    Rollback(RollbackRequest, String, oneshot::Sender<Result<Applied, Error>>),
    Confirm(ConfirmRequest, String, oneshot::Sender<Result<Confirmed, Error>>),
}

/// What this thread has used of a processor.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Configs that may wait for their turn.
const WAITING: usize = 8;

/// The engine's thread.
pub struct Running {
    /// To be joined after [`Handle::end`].
    pub thread: std::thread::JoinHandle<()>,
    /// Resolves, to an error, when the thread has ended.
    pub ended: tokio::sync::oneshot::Receiver<()>,
    /// What is asked about configs, one after the other.
    pub configs: tokio::sync::mpsc::Receiver<Ask>,
}

/// Why there is no scrape.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unscraped(String);

/// The last scrape.
type Scraped = Arc<tokio::sync::Mutex<Option<Scrape>>>;

struct Scrape {
    at: Instant,
    /// What the engine needed for it.
    took: Duration,
    text: Bytes,
}

impl Scrape {
    /// Readings are at most a twentieth of the engine's time, whoever asks, and how often.
    const TIMES: u32 = 20;

    fn still_good(&self) -> Option<Bytes> {
        (self.at.elapsed() < self.took * Self::TIMES).then(|| self.text.clone())
    }
}

/// The engine has ended, so nothing can be asked of it.
#[derive(Debug, thiserror::Error)]
#[error("the daemon is ending")]
pub struct Ending;

impl Handle {
    /// Runs `work` on the engine's thread, between two other pieces of work, and returns its result.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Result<T, Ending> {
        let (answer, result) = tokio::sync::oneshot::channel();
        let command = Command::Work(Box::new(move |engine| {
            // Who asked may have gone away.
            let _ = answer.send(work(engine));
        }));
        self.commands.send(command).map_err(|_| Ending)?;
        result.await.map_err(|_| Ending)
    }

    /// Asks for another config, and waits for what comes of it.
    pub async fn ask_for_config<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Ask,
    ) -> Result<Result<T, Error>, Ending> {
        let (answer, result) = oneshot::channel();
        self.configs.send(ask(answer)).await.map_err(|_| Ending)?;
        result.await.map_err(|_| Ending)
    }

    /// Ends the engine's thread, whoever still has a handle.
    pub fn end(&self) {
        // It has ended already if nobody takes commands.
        let _ = self.commands.send(Command::End);
    }

    /// To an engine that has ended.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        Handle {
            commands: channel().0,
            configs: tokio::sync::mpsc::channel(1).0,
            events: Bus::new(1_790_000_000),
            scraped: Scraped::default(),
            checkers: Arc::default(),
            dry_runs: DryRuns::default(),
            tracers: Tracers::default(),
        }
    }

    /// The text of a scrape. Who asks more often than the engine should be held up gets that of a moment ago.
    pub async fn scrape(&self) -> Result<Bytes, Unscraped> {
        let mut last = self.scraped.lock().await;
        if let Some(text) = last.as_ref().and_then(Scrape::still_good) {
            return Ok(text);
        }
        let snapshot = self.ask(Engine::metrics).await.map_err(|ending| Unscraped(ending.to_string()))?;
        let mut snapshot = snapshot.map_err(|error| Unscraped(error.to_string()))?;
        let (at, took) = (Instant::now(), snapshot.took);
        let board = self.checkers().map(Checkers::board);
        let encode = move || {
            snapshot.checks = board.map(|board| board.figures()).unwrap_or_default();
            metrics::encode(snapshot)
        };
        let text = tokio::task::spawn_blocking(encode).await;
        let text = text.map_err(|error| Unscraped(error.to_string()))?;
        let text = Bytes::from(text.map_err(|error| Unscraped(error.to_string()))?);
        *last = Some(Scrape { at, took, text: text.clone() });
        Ok(text)
    }

    /// Says who runs checks.
    pub fn set_checkers(&self, checkers: Checkers) {
        // There is one for each daemon.
        let _ = self.checkers.set(checkers);
    }

    /// Who runs checks, if anybody does.
    pub fn checkers(&self) -> Option<&Checkers> {
        self.checkers.get()
    }

    /// The load of the program for dry runs.
    pub fn dry_runs(&self) -> &DryRuns {
        &self.dry_runs
    }

    /// Who traces.
    pub fn tracers(&self) -> &Tracers {
        &self.tracers
    }

    /// Where events are told.
    pub fn events(&self) -> &Bus {
        &self.events
    }
}

impl Engine {
    /// Starts the engine's thread. It ends, and drops the engine, when it is told to, or when the last handle is gone. Its `heart`
    /// beats once a round, at least once a second or so, whatever comes of the round: an engine that hangs has none.
    pub fn spawn(
        self,
        mut heart: impl FnMut(&Engine) + Send + 'static,
    ) -> std::io::Result<(Handle, Running)> {
        let (commands, queue) = channel();
        let (asks, configs) = tokio::sync::mpsc::channel(WAITING);
        let events = self.events().clone();
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // Dropped with the thread, however it ends.
            let _alive = alive;
            self.serve(&queue, &mut heart);
        })?;
        let handle = Handle {
            commands,
            configs: asks,
            events,
            scraped: Scraped::default(),
            checkers: Arc::default(),
            dry_runs: DryRuns::default(),
            tracers: Tracers::default(),
        };
        Ok((handle, Running { thread, ended, configs }))
    }

    fn serve(mut self, queue: &Receiver<Command>, heart: &mut impl FnMut(&Engine)) {
        let mut next = Instant::now();
        let mut seldom = Seldom::default();
        loop {
            // However many commands wait: without sweeps no drain would end.
            if Instant::now() >= next {
                let before = processor_time();
                if !self.is_stopping
                    && let Err(error) = self.tick()
                {
                    seldom.error(&error.to_string());
                }
                heart(&self);
                // A large table takes its time to sweep: not more than a tenth of a core. Time in which a disk or other processes held this
                // thread up does not count: a busy machine must not make drains end late.
                let worked = processor_time().saturating_sub(before);
                next = Instant::now() + self.pause().max(worked * 9);
            }
            match queue.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Command::Work(work)) => work(&mut self),
                Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Pause between two ticks: short while somebody waits for a drain's end, or a share goes up.
    fn pause(&self) -> Duration {
        if self.is_draining()
            || self.kicks.are_under_way()
            || !self.ramps.is_empty()
            || self.maintenance.are_any_under_way()
        {
            Duration::from_millis(250)
        } else {
            Duration::from_secs(1)
        }
    }
}
