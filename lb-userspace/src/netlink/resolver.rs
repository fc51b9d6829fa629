//! The task that follows the network.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::engine::{Engine, States};
use super::interfaces;
use super::own::Own;
use super::wire::Events;
use super::{Error, NextHopState};

/// Events within this time of the first are taken together. Bounds the delay too: it does not start anew.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// How often neighbours are looked through for those that must be asked.
const TICK: Duration = Duration::from_secs(1);

/// All is read anew this often, in ticks: for what has no event (an expired path MTU), and as a second net.
const REREAD_TICKS: u32 = 30;

/// Finds the next hops of a set of addresses, and keeps them found until it is dropped.
#[derive(Debug)]
pub struct Resolver {
    addresses: watch::Sender<BTreeSet<IpAddr>>,
    states: watch::Receiver<States>,
    own: watch::Receiver<Own>,
    task: JoinHandle<()>,
}

impl Resolver {
    /// Opens the sockets, looks once, and starts the task. When this returns, all addresses have a state, though
    /// neighbours that the kernel did not know yet are still [`NextHopState::Unresolved`].
    ///
    /// Belongs to the network namespace of the calling thread from then on, whatever threads the task runs on.
    /// Blocks for well under 0.1 ms an address. Needs `CAP_NET_ADMIN` to have neighbours asked. With hundreds of
    /// backends on the link, `net.ipv4.neigh.default.gc_thresh2` and `gc_thresh3` (512 and 1024 entries by default,
    /// and their IPv6 twins) should be raised above their number, or the kernel keeps dropping entries.
    ///
    /// # Errors
    /// [`Error::Runtime`] outside of a tokio runtime; otherwise what the kernel said.
    ///
    /// # Panics
    /// In a tokio runtime whose I/O or time is not enabled.
    pub fn spawn(addresses: impl IntoIterator<Item = IpAddr>) -> Result<Self, Error> {
        let runtime =
            tokio::runtime::Handle::try_current().map_err(|error| Error::Runtime(io::Error::other(error)))?;
        // Listen first and look then: a change in between is heard.
        let events = Events::open().map_err(Error::Socket)?;
        // SAFETY: `Events` owns its descriptor, always names the same one, and closes it only when it is dropped.
        let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }
            .map_err(|error| Error::Runtime(error.into()))?;
        let mut engine = Engine::new(interfaces::open()?);
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().collect();
        engine.set_addresses(addresses.clone());
        let states = engine.pass(Instant::now())?;

        let (addresses, wanted) = watch::channel(addresses);
        let (publish, states) = watch::channel(states);
        let (publish_own, own) = watch::channel(engine.own());
        let task = Task { events, engine, wanted, publish, publish_own, buffer: Vec::new() };
        Ok(Self { addresses, states, own, task: runtime.spawn(task.run()) })
    }

    /// Changes the set of addresses. Their states follow within moments; next hops of addresses that stay are not
    /// disturbed.
    pub fn set_addresses(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let new: BTreeSet<IpAddr> = addresses.into_iter().collect();
        self.addresses.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
    }

    /// The states of exactly the addresses asked for; changes only when one of them does.
    pub fn subscribe(&self) -> watch::Receiver<States> {
        self.states.clone()
    }

    /// This machine's own addresses; changes only when one of them does.
    pub fn subscribe_own(&self) -> watch::Receiver<Own> {
        self.own.clone()
    }

    /// The states of this moment.
    pub fn states(&self) -> States {
        self.states.borrow().clone()
    }

    /// [`Self::settled_of`] all addresses of the set.
    pub async fn settled(&self, patience: Duration) -> States {
        let addresses = self.addresses.borrow().clone();
        self.settled_of(&addresses, patience).await
    }

    /// Waits until none of these addresses is [`NextHopState::Unresolved`], but at most `patience`; returns the
    /// states as they are then. For a start: neighbours mostly answer within milliseconds.
    pub async fn settled_of(&self, addresses: &BTreeSet<IpAddr>, patience: Duration) -> States {
        let mut states = self.subscribe();
        let settled = |states: &States| {
            addresses.iter().all(|address| match states.get(address) {
                None | Some(NextHopState::Unresolved { .. }) => false,
                Some(_) => true,
            })
        };
        // Too late or no more task: what is there is what there is.
        let _ = tokio::time::timeout(patience, states.wait_for(settled)).await;
        self.states()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    events: AsyncFd<Events>,
    engine: Engine,
    wanted: watch::Receiver<BTreeSet<IpAddr>>,
    publish: watch::Sender<States>,
    publish_own: watch::Sender<Own>,
    buffer: Vec<u8>,
}

impl Task {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        loop {
            tokio::select! {
                relevant = listen(&self.events, &mut self.engine, &mut self.buffer) => {
                    if !relevant {
                        continue;
                    }
                    self.gather().await;
                }
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.engine.set_addresses(self.wanted.borrow_and_update().clone());
                }
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(REREAD_TICKS) {
                        self.engine.distrust();
                    }
                }
            }
            let Some(task) = self.pass().await else { return };
            self = task;
        }
    }

    /// Hears what else happens in the moments after an event: a link that goes down says so many times.
    async fn gather(&mut self) {
        let deadline = tokio::time::sleep(DEBOUNCE);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                () = &mut deadline => return,
                _ = listen(&self.events, &mut self.engine, &mut self.buffer) => {}
            }
        }
    }

    /// A pass waits for the kernel's routing lock, so it is made on a thread that may block.
    async fn pass(mut self) -> Option<Self> {
        let mut engine = self.engine;
        let done = tokio::task::spawn_blocking(move || {
            let states = engine.pass(Instant::now());
            (engine, states)
        });
        let states;
        (self.engine, states) = match done.await {
            Ok(done) => done,
            Err(error) => {
                log::error!("next hops are no longer followed: {error}");
                return None;
            }
        };
        match states {
            Ok(states) => {
                let own = self.engine.own();
                self.publish_own.send_if_modified(|published| {
                    let changed = *published != own;
                    *published = own;
                    changed
                });
                self.publish.send_if_modified(|published| {
                    let changed = *published != states;
                    if changed {
                        report(published, &states);
                        *published = states;
                    }
                    changed
                });
            }
            Err(error) => {
                log::warn!("next hops stay as they are until the kernel can be asked again: {error}");
                self.engine.distrust();
            }
        }
        Some(self)
    }
}

/// Waits for one datagram of events; tells whether a next hop may have changed.
async fn listen(events: &AsyncFd<Events>, engine: &mut Engine, buffer: &mut Vec<u8>) -> bool {
    let heard = events
        .async_io(Interest::READABLE, |events| events.receive(buffer).map(|datagram| engine.hear(datagram)))
        .await;
    match heard {
        Ok(relevant) => relevant,
        Err(error) => {
            // Mostly ENOBUFS: more happened than the socket could hold, and what was lost is not known.
            log::info!("events of the network were lost, reading all anew: {error}");
            engine.distrust();
            true
        }
    }
}

fn report(old: &States, new: &States) {
    for (address, state) in new {
        if old.get(address) != Some(state) {
            log::info!("next hop of {address}: {state}");
        }
    }
}
