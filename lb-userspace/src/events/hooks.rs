//! Hooks: commands of the operator's, run when something happens. Never on the engine's thread, never without bounds.

pub(crate) mod command;
mod environment;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::{Bus, Reader};
use crate::api::types::{Event, EventName, Happening};
use crate::cli::render::text::clean;
use crate::model::Hooks;

/// Commands that run at the same time.
const AT_ONCE: usize = 4;
/// Commands that wait for their turn.
const QUEUE: usize = 100;

/// The task that runs hooks.
pub struct Runner(JoinHandle<()>);

/// A command to be run.
struct Job {
    command: String,
    event: Arc<Event>,
}

impl Runner {
    /// Runs hooks for all that was told and is still to be told. `None`: there are none.
    pub fn start(instance: &str, hooks: &Hooks, bus: &Bus) -> Option<Runner> {
        if hooks.commands.is_empty() {
            return None;
        }
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (reader, instance, hooks) = (bus.read(Some(0)), instance.to_owned(), hooks.clone());
        let timeout = hooks.timeout;
        Some(Runner(tokio::spawn(async move {
            tokio::join!(choose(reader, hooks, queue), work(instance, timeout, jobs));
        })))
    }

    /// Waits for the hooks of the last events, so long at most; what still runs then is killed. After the bus is closed.
    pub async fn finish(mut self, patience: Duration) {
        if tokio::time::timeout(patience, &mut self.0).await.is_err() {
            log::warn!("hooks that still run are killed, as the daemon ends");
            self.0.abort();
            // Cancelled, that is; the drop of what it was about kills.
            let _ = self.0.await;
        }
    }
}

/// Queues the commands of events; one that finds the queue full is dropped, as it would be late anyway.
async fn choose(mut reader: Reader, hooks: Hooks, queue: mpsc::Sender<Job>) {
    while let Some(event) = reader.next().await {
        let name = event.happening.name();
        if let Happening::Lost { count } = event.happening {
            log::warn!("no hooks were run for {} events: too many at once", count.unwrap_or_default());
        }
        let Some(command) = hooks.commands.get(&name) else { continue };
        if queue.try_send(Job { command: command.clone(), event }).is_err() {
            log::warn!("on_{} is not run: {QUEUE} hooks wait already", name.name());
        }
    }
}

async fn work(instance: String, timeout: Duration, mut jobs: mpsc::Receiver<Job>) {
    let (turns, mut running) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    while let Some(Job { command, event }) = jobs.recv().await {
        // It is never closed.
        let Ok(turn) = turns.clone().acquire_owned().await else { break };
        while running.try_join_next().is_some() {}
        let environment = environment::of(&instance, &event);
        running.spawn(async move {
            let name = event.happening.name();
            let input = serde_json::to_vec(&*event).unwrap_or_default();
            log_end(name, &command::run(&command, environment, input, timeout).await, timeout);
            drop(turn);
        });
    }
    while running.join_next().await.is_some() {}
}

fn log_end(name: EventName, end: &command::End, timeout: Duration) {
    let name = name.name();
    for line in end.complaints.lines() {
        log::info!("on_{name}: {}", clean(line, false));
    }
    match &end.result {
        command::Result::Exited(status) if status.success() => log::info!("on_{name} is done"),
        command::Result::Exited(status) => log::warn!("on_{name} failed: {status}"),
        command::Result::Killed => log::warn!("on_{name} was killed after {} s", timeout.as_secs()),
        command::Result::NotRun(error) => log::warn!("on_{name} could not be run: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use super::*;

    fn hooks(command: &str, timeout: u64) -> Hooks {
        let commands = BTreeMap::from([(EventName::Published, command.to_owned())]);
        Hooks { commands, timeout: Duration::from_secs(timeout) }
    }

    #[tokio::test]
    async fn hooks_of_all_events_run_a_few_at_a_time_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        // How many run, as each of them sees it.
        let command = format!(
            "mkdir {path}/run-$SLUICE_GENERATION; ls {path} | grep -c run- > {path}/count-$SLUICE_GENERATION; sleep 0.2; \
             mv {path}/run-$SLUICE_GENERATION {path}/done-$SLUICE_GENERATION"
        );
        let bus = Bus::new(1_790_000_000);
        bus.tell(5, Happening::Published { generation: 1 });
        let runner = Runner::start("lab", &hooks(&command, 30), &bus).unwrap();
        for generation in 2..=10 {
            bus.tell(5, Happening::Published { generation });
            bus.tell(5, Happening::HostUp { host: "a".to_owned(), service: None, why: String::new() });
        }
        bus.close();
        runner.finish(Duration::from_secs(30)).await;
        let counts: Vec<u64> = (1..=10)
            .map(|n| {
                std::fs::read_to_string(folder.path().join(format!("count-{n}")))
                    .unwrap()
                    .trim()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert!(counts.iter().all(|count| (1..=AT_ONCE as u64).contains(count)), "{counts:?}");
        assert!(counts.iter().any(|count| *count > 1), "{counts:?}");
        assert!((1..=10).all(|n| folder.path().join(format!("done-{n}")).is_dir()), "each to its end");
    }

    #[tokio::test]
    async fn more_than_the_queue_holds_are_dropped_and_the_teller_does_not_wait() {
        let folder = tempfile::tempdir().unwrap();
        let command = format!("echo >> {}/ran; sleep 60", folder.path().display());
        let bus = Bus::new(1_790_000_000);
        let runner = Runner::start("lab", &hooks(&command, 60), &bus).unwrap();
        let began = Instant::now();
        for generation in 1..=500 {
            bus.tell(5, Happening::Published { generation });
        }
        assert!(began.elapsed() < Duration::from_secs(1));
        bus.close();
        runner.finish(Duration::from_secs(2)).await;
        assert!(began.elapsed() < Duration::from_secs(20), "the rest was killed");
        let ran = std::fs::read_to_string(folder.path().join("ran")).unwrap().len();
        assert_eq!(ran, AT_ONCE);
    }

    #[tokio::test]
    async fn without_commands_nothing_runs() {
        let none = Hooks { commands: BTreeMap::new(), timeout: Duration::from_secs(1) };
        assert!(Runner::start("lab", &none, &Bus::new(1)).is_none());
    }
}
