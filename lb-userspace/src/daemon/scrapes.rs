//! Where `[metrics]` listens, as the config in force has it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::api::server;
use crate::engine::Handle;

/// Scrapers that may wait to be answered.
const QUEUE: u32 = 16;

/// Until an address that could not be had is tried again.
pub const AGAIN: Duration = Duration::from_secs(5);

/// What has come of taking an address, before anything is changed.
pub enum Outcome {
    Ready(TcpListener),
    Unwanted,
    /// Another program has it, perhaps: why, with what to do. A balancer that has been in force before, or goes back to what was, does not
    /// wait for that.
    Faulty(SocketAddr, String),
}

impl Outcome {
    /// Takes the address.
    ///
    /// # Errors
    /// It cannot be had, unless the metrics are `spared`: with what to do.
    pub fn of(listen: Option<SocketAddr>, spared: bool) -> anyhow::Result<Outcome> {
        let Some(address) = listen else { return Ok(Outcome::Unwanted) };
        let bound = bind(address).with_context(|| {
            format!("[metrics] cannot listen on {address}: name an address of this machine and a free port")
        });
        match bound {
            Ok(listener) => Ok(Outcome::Ready(listener)),
            Err(error) if spared => Ok(Outcome::Faulty(address, format!("{error:#}"))),
            Err(error) => Err(error),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Made ready for a config that is yet to be put in force. `None`: what there is will do.
pub struct Prepared(Option<Outcome>);

/// The metrics of a daemon, or the wish for them.
pub struct Scrapes {
    engine: Handle,
    running: Option<(SocketAddr, JoinHandle<()>)>,
    /// Could not be had.
    missing: Option<SocketAddr>,
}

impl Scrapes {
    pub async fn start(outcome: Outcome, engine: Handle) -> Self {
        let mut scrapes = Scrapes { engine, running: None, missing: None };
        scrapes.serve(outcome).await;
        scrapes
    }

    /// Another config does not wait either for an address that could not be had before.
    ///
    /// # Errors
    /// As [`Outcome::of`].
    pub fn prepare(&self, listen: Option<SocketAddr>, spared: bool) -> anyhow::Result<Prepared> {
        let running = self.running.as_ref().map(|(address, _)| *address);
        let is_as_before = self.missing.is_none() && running == listen;
        let spared = spared || self.are_missing() && self.missing == listen;
        Ok(Prepared(if is_as_before { None } else { Some(Outcome::of(listen, spared)?) }))
    }

    /// The config is in force.
    pub async fn take(&mut self, prepared: Prepared) {
        if let Prepared(Some(outcome)) = prepared {
            self.serve(outcome).await;
        }
    }

    /// The address that the config wants could not be had.
    pub fn are_missing(&self) -> bool {
        self.missing.is_some()
    }

    /// Tries once more.
    pub async fn again(&mut self) {
        if let Some(Ok(outcome)) = self.missing.map(|address| Outcome::of(Some(address), true)) {
            self.serve(outcome).await;
        }
    }

    async fn serve(&mut self, outcome: Outcome) {
        if let Some((_, before)) = self.running.take() {
            before.abort();
        }
        let was_missing = self.missing.take();
        let problem = match outcome {
            Outcome::Ready(listener) => {
                self.serve_at(listener);
                None
            }
            Outcome::Unwanted => None,
            Outcome::Faulty(address, why) => {
                self.missing = Some(address);
                Some(format!(
                    "there are no metrics until that mends, which is tried each {} s: {why}",
                    AGAIN.as_secs()
                ))
            }
        };
        // Told once.
        if let Some(problem) = problem.as_ref().filter(|_| was_missing != self.missing) {
            log::error!("{problem}");
        }
        // An engine that has ended has nothing to show.
        let _ = self.engine.ask(move |engine| engine.note_scrapes(problem)).await;
    }

    fn serve_at(&mut self, listener: TcpListener) {
        // A listener knows its address.
        let Ok(address) = listener.local_addr() else { return };
        log::info!("metrics on http://{address}/metrics");
        self.running = Some((address, tokio::spawn(server::serve_metrics(listener, self.engine.clone()))));
    }
}

impl Drop for Scrapes {
    fn drop(&mut self) {
        if let Some((_, running)) = self.running.take() {
            running.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_taken_refuses_what_is_new_alone_and_is_tried_again() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let refused = Outcome::of(Some(address), false).err().map(|error| format!("{error:#}"));
        assert!(refused.is_some_and(|told| told.contains("a free port: ")), "with the cause");
        let mut scrapes = Scrapes::start(Outcome::of(Some(address), true).unwrap(), Handle::detached()).await;
        assert!(scrapes.are_missing() && scrapes.prepare(Some(address), false).is_ok());
        let another = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(scrapes.prepare(another.local_addr().ok(), false).is_err(), "that is news");
        scrapes.again().await;
        assert!(scrapes.are_missing() && scrapes.running.is_none(), "it is still taken");
        drop(other);
        scrapes.again().await;
        assert!(!scrapes.are_missing());
        assert!(scrapes.prepare(Some(address), false).unwrap().0.is_none(), "it is as it was");
        std::net::TcpStream::connect(address).unwrap();

        // On the way back to a config what that one does not name goes, whether or not there is something in its place.
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let back = Some(other.local_addr().unwrap());
        let prepared = scrapes.prepare(back, true).unwrap();
        scrapes.take(prepared).await;
        assert!(scrapes.are_missing() && scrapes.running.is_none());
        let unwanted = scrapes.prepare(None, false).unwrap();
        scrapes.take(unwanted).await;
        assert!(!scrapes.are_missing(), "nobody wants them");
    }
}
