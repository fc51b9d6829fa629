//! `sluice top`: the balancer on one screen, with a keyboard.
//!
//! The core is pure: [`state::Top`] takes in what the daemon answered and which keys were pressed, and [`view`] draws it. The shell
//! around it, [`screen`] and [`poll`], never lets the keyboard wait for an answer: looks, events and orders are tasks beside it,
//! and all of them tell the core by one channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use crate::api::client::Client;
use crate::cli::{Failure, now as unix};

use order::{News, Wanted};
use state::{Now, Step, Top};

pub use state::Settings;

pub mod dialog;
pub mod key;
pub mod list;
pub mod order;
pub mod poll;
pub mod screen;
pub mod state;
#[cfg(test)]
mod tests;
pub mod view;

/// Until somebody quits.
///
/// # Errors
/// No daemon answers the first look, or the terminal fails.
pub fn run(client: Client, settings: Settings) -> Result<(), Failure> {
    // Answers are read on another thread: a fleet's takes longer than a key may wait.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot set up the event loop")?;
    let result = runtime.block_on(watch(client, settings));
    // An order that waits for its answer is not waited for.
    runtime.shutdown_background();
    result
}

async fn watch(client: Client, settings: Settings) -> Result<(), Failure> {
    let began = Instant::now();
    let now = || Now { up: began.elapsed(), unix: unix() };
    // Before the terminal is taken over: a daemon that is not there is told as other verbs tell it.
    let first = poll::look(&client, &Wanted::default()).await?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    // Ctrl-C is a key here; this is from elsewhere.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut screen = screen::Screen::open().context("cannot take the terminal over")?;
    let size = screen.size().context("the terminal does not tell its size")?;
    let every = settings.every;
    let mut top = Top::new(settings, size, first, now());

    let (news, mut inbox) = mpsc::unbounded_channel();
    let (wants, wanted) = watch::channel(top.wanted());
    let happened = Arc::new(Notify::new());
    screen::read_keys(news.clone()).context("cannot start a thread")?;
    tokio::spawn(poll::looks(client.clone(), every, wanted, happened.clone(), news.clone()));
    tokio::spawn(poll::events(client.clone(), happened.clone(), news.clone()));
    // Ages are shown in seconds.
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        screen.draw(&top).context("cannot draw on the terminal")?;
        let mut told = tokio::select! {
            told = inbox.recv() => told,
            _ = ticks.tick() => Some(News::Tick),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        // All that is there before the next drawing, so that a key that is held down never lags behind.
        while let Some(news_of) = told {
            match top.take(news_of, now()) {
                Step::Stay => {}
                Step::Redraw => screen.clear().context("cannot draw on the terminal")?,
                Step::Quit => return Ok(()),
                Step::Ask(number, order) => {
                    tokio::spawn(poll::order(client.clone(), number, order, happened.clone(), news.clone()));
                }
            }
            told = inbox.try_recv().ok();
        }
        wants.send_if_modified(|wanted| {
            let is_other = *wanted != top.wanted();
            *wanted = top.wanted();
            is_other
        });
    }
}
