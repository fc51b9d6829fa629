//! Between checkers and engine: what was found is told to it in bundles.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::engine::{Clock, Engine, Handle};
use crate::health::{Board, Checkers};

/// How long a change waits for others, as the checks of a host find the same at nearly the same time.
const BUNDLE: Duration = Duration::from_millis(50);
/// Least time between two publications of changes.
const PAUSE: Duration = Duration::from_millis(250);

/// Starts the checks of the board.
pub fn start(board: Arc<Board>, clock: Clock, engine: &Handle) -> anyhow::Result<()> {
    let checkers = Checkers::spawn(board.clone(), clock).context("cannot start the checks")?;
    engine.set_checkers(checkers);
    let engine = engine.clone();
    tokio::spawn(async move {
        loop {
            board.changes.notified().await;
            tokio::time::sleep(BUNDLE).await;
            match engine.ask(Engine::follow_health).await {
                Ok(Ok(())) => {}
                // What could not be journalled stays on the board; what could not be published is tried again by the engine.
                Ok(Err(error)) => log::error!("what checks found is not in effect yet: {error}"),
                Err(_) => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(())
}
