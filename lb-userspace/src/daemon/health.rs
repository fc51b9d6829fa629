//! Between checkers and engine: what was found is told to it in bundles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::MissedTickBehavior;

use crate::engine::{Clock, Engine, Handle};
use crate::health::{Board, Checkers, passive};
use crate::seldom::Seldom;

/// How long a change waits for others, as the checks of a host find the same at nearly the same time.
const BUNDLE: Duration = Duration::from_millis(50);
/// Least time between two publications of changes, if they take no longer themselves.
const PAUSE: Duration = Duration::from_millis(250);

/// Starts the checks of the board.
pub fn start(board: Arc<Board>, clock: Clock, engine: &Handle) -> anyhow::Result<()> {
    let checkers = Checkers::spawn(board.clone(), clock).context("cannot start the checks")?;
    engine.set_checkers(checkers);
    let watching = engine.clone();
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(passive::PACE));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seldom = Seldom::default();
        loop {
            pace.tick().await;
            match watching.ask(Engine::watch_clients).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => seldom.error(&format!("how clients fare cannot be told: {error}")),
                Err(_) => return,
            }
        }
    });
    let engine = engine.clone();
    tokio::spawn(async move {
        let mut seldom = Seldom::default();
        loop {
            board.changes.notified().await;
            tokio::time::sleep(BUNDLE).await;
            let begun = Instant::now();
            match engine.ask(Engine::follow_health).await {
                Ok(Ok(())) => {}
                // What could not be journalled stays on the board; what could not be published is tried again by the engine.
                Ok(Err(error)) => seldom.error(&format!("what checks found is not in effect yet: {error}")),
                Err(_) => return,
            }
            // However many hosts there are, the engine has as much time for everybody else.
            tokio::time::sleep(PAUSE.max(begun.elapsed())).await;
        }
    });
    Ok(())
}
