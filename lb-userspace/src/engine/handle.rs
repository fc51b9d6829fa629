//! The way to the engine from other threads.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

use super::{Engine, Error};
use crate::api::types::{Applied, ApplyRequest, ConfirmRequest, Confirmed, RollbackRequest};
use crate::events::Bus;
use crate::health::Checkers;

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
    checkers: Arc<OnceLock<Checkers>>,
}

/// What is asked of whoever reads configs and makes the network ready for them.
pub enum Ask {
    Apply(ApplyRequest, String, oneshot::Sender<Result<Applied, Error>>),
    Rollback(RollbackRequest, String, oneshot::Sender<Result<Applied, Error>>),
    Confirm(ConfirmRequest, String, oneshot::Sender<Result<Confirmed, Error>>),
}

/// Time until the same error is said again.
const SAID_AGAIN: Duration = Duration::from_secs(60);

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
            checkers: Arc::default(),
        }
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
        let handle = Handle { commands, configs: asks, events, checkers: Arc::default() };
        Ok((handle, Running { thread, ended, configs }))
    }

    fn serve(mut self, queue: &Receiver<Command>, heart: &mut impl FnMut(&Engine)) {
        let mut next = Instant::now();
        // What goes wrong every second is said once a minute.
        let mut said: Option<(String, Instant)> = None;
        loop {
            // However many commands wait: without sweeps no drain would end.
            if Instant::now() >= next {
                let before = processor_time();
                if !self.is_stopping
                    && let Err(error) = self.tick()
                {
                    let words = error.to_string();
                    if said.as_ref().is_none_or(|(last, at)| *last != words || at.elapsed() > SAID_AGAIN) {
                        log::error!("{words}");
                        said = Some((words, Instant::now()));
                    }
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
        if self.is_draining() || self.kicks.are_under_way() || !self.ramps.is_empty() {
            Duration::from_millis(250)
        } else {
            Duration::from_secs(1)
        }
    }
}
