//! Hooks: commands of the operator's, run when something happens. Never on the engine's thread, never without bounds.

pub(crate) mod command;
mod environment;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
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
    timeout: Duration,
    event: Arc<Event>,
}

impl Runner {
    /// Runs hooks for all that was told and is still to be told, those that the config has at that moment.
    pub fn start(instance: &str, hooks: watch::Receiver<Hooks>, bus: &Bus) -> Runner {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (reader, instance) = (bus.read(Some(0)), instance.to_owned());
        Runner(tokio::spawn(async move {
            tokio::join!(choose(reader, hooks, queue), work(instance, jobs));
        }))
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
async fn choose(mut reader: Reader, hooks: watch::Receiver<Hooks>, queue: mpsc::Sender<Job>) {
    while let Some(event) = reader.next().await {
        let name = event.happening.name();
        if let Happening::Lost { count } = event.happening {
            log::warn!("no hooks were run for {} events: too many at once", count.unwrap_or_default());
        }
        let (command, timeout) = {
            let hooks = hooks.borrow();
            let Some(command) = hooks.commands.get(&name) else { continue };
            (command.clone(), hooks.timeout)
        };
        if queue.try_send(Job { command, timeout, event }).is_err() {
            log::warn!("on_{} is not run: {QUEUE} hooks wait already", name.name());
        }
    }
}

async fn work(instance: String, mut jobs: mpsc::Receiver<Job>) {
    let (turns, mut running) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    while let Some(Job { command, timeout, event }) = jobs.recv().await {
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

    fn hooks(command: &str, timeout: u64) -> watch::Receiver<Hooks> {
        let commands = BTreeMap::from([(EventName::Published, command.to_owned())]);
        watch::channel(Hooks { commands, timeout: Duration::from_secs(timeout) }).1
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
        let runner = Runner::start("lab", hooks(&command, 30), &bus);
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
        let runner = Runner::start("lab", hooks(&command, 60), &bus);
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
    async fn another_config_has_other_hooks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let hooks = |command: String| Hooks {
            commands: BTreeMap::from([(EventName::Published, command)]),
            timeout: Duration::from_secs(30),
        };
        let bus = Bus::new(1);
        let sender = watch::Sender::new(Hooks { commands: BTreeMap::new(), timeout: Duration::from_secs(1) });
        let runner = Runner::start("lab", sender.subscribe(), &bus);
        sender.send_replace(hooks(format!("touch {path}/one")));
        bus.tell(5, Happening::Published { generation: 1 });
        while !folder.path().join("one").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sender.send_replace(hooks(format!("touch {path}/other")));
        drop(sender);
        bus.tell(5, Happening::Published { generation: 2 });
        bus.close();
        runner.finish(Duration::from_secs(30)).await;
        assert!(folder.path().join("other").exists());
    }
}
