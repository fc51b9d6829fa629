//! The load of the program for dry runs: there while somebody asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Ground;
use crate::dataplane::{self, Dry, DryRun};

/// A load for dry runs that nobody has asked for so long is let go.
const IDLE: Duration = Duration::from_secs(60);

/// The load for dry runs, made when the first packet is asked about. Who asks waits for who asked before.
#[derive(Clone, Default)]
pub struct DryRuns(Arc<Mutex<Option<Kept>>>);

struct Kept {
    dry: Dry,
    asked: Instant,
}

impl DryRuns {
    /// Runs frames through it, each by itself.
    pub async fn run(&self, ground: &Ground, frames: Vec<Vec<u8>>) -> Result<Vec<(Vec<u8>, DryRun)>, String> {
        let mut kept = Arc::clone(&self.0).lock_owned().await;
        let (options, ifindex, is_full) = (ground.options.clone(), ground.ifindex, ground.overflow_is_full);
        let is_new = kept.as_ref().is_none_or(|kept| !kept.dry.is_of(&options));
        if is_new {
            // Before it is there, as who asks may go away at any moment.
            tokio::spawn(self.clone().let_go());
        }
        let run = move || {
            if is_new {
                // First the old one, as they need not be there at once.
                *kept = None;
                *kept = Some(Kept { dry: Dry::load(&options)?, asked: Instant::now() });
            }
            let mut runs = Vec::new();
            if let Some(Kept { dry, asked }) = kept.as_mut() {
                *asked = Instant::now();
                for frame in frames {
                    let run = dry.run(&frame, ifindex, is_full)?;
                    runs.push((frame, run));
                }
            }
            Ok::<_, dataplane::Error>(runs)
        };
        let runs = tokio::task::spawn_blocking(run).await.map_err(|error| error.to_string())?;
        runs.map_err(|error| error.to_string())
    }

    /// Lets it go when nobody has asked for a while.
    async fn let_go(self) {
        let mut left = IDLE;
        while !left.is_zero() {
            tokio::time::sleep(left).await;
            let mut kept = self.0.lock().await;
            let idle = kept.as_ref().map(|kept| kept.asked.elapsed());
            left = idle.map_or(Duration::ZERO, |idle| IDLE.saturating_sub(idle));
            if left.is_zero() {
                *kept = None;
            }
        }
    }
}
