//! Events on their way from the engine to whoever wants to know: the last ones are remembered, and each reader takes them at
//! its own pace. The engine waits for nobody: a reader that is too slow is told how many it has lost.

mod filter;
mod ring;

pub mod hooks;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::api::types::{Event, Happening};
pub use filter::Filter;
use ring::{Next, Ring};

/// Where the engine tells events; clones are the same one.
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

struct Shared {
    ring: Mutex<Ring>,
    /// Changes with each event, and at the end.
    changed: watch::Sender<()>,
}

impl Bus {
    /// Of a daemon that starts at `now`, a Unix time.
    pub fn new(now: u64) -> Self {
        Bus(Arc::new(Shared { ring: Mutex::new(Ring::new(now)), changed: watch::Sender::new(()) }))
    }

    /// Tells all readers what happened at `at`, a Unix time.
    pub fn tell(&self, at: u64, happening: Happening) {
        self.ring().push(at, happening);
        self.0.changed.send_replace(());
    }

    /// Nothing more is told: readers end when they have read what there is.
    pub fn close(&self) {
        self.ring().close();
        self.0.changed.send_replace(());
    }

    /// Reads what follows the event of this number; `None`: what happens from now on.
    pub fn read(&self, after: Option<u64>) -> Reader {
        // Before the look at the ring, so that nothing falls in between.
        let changed = self.0.changed.subscribe();
        let seen = after.unwrap_or_else(|| self.ring().last());
        Reader { bus: self.clone(), changed, seen }
    }

    /// The ring is whole after each of its operations, so a panic elsewhere does not spoil it.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader's place in the sequence of events.
pub struct Reader {
    bus: Bus,
    changed: watch::Receiver<()>,
    /// Number of the last event that was read.
    seen: u64,
}

impl Reader {
    /// The next event, once there is one; `None`: there will be no more.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            match self.step() {
                Next::Event(event) => return Some(event),
                Next::Over => return None,
                // The sender lives as long as the bus, which this reader holds.
                Next::Nothing => self.changed.changed().await.ok()?,
            }
        }
    }

    /// The next event of those that have happened.
    pub fn next_now(&mut self) -> Option<Arc<Event>> {
        match self.step() {
            Next::Event(event) => Some(event),
            Next::Nothing | Next::Over => None,
        }
    }

    fn step(&mut self) -> Next {
        self.changed.mark_unchanged();
        let next = self.bus.ring().after(self.seen);
        if let Next::Event(event) = &next {
            self.seen = event.seq;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn published(generation: u64) -> Happening {
        Happening::Published { generation }
    }

    #[tokio::test]
    async fn a_reader_gets_what_was_and_what_comes_and_then_the_end() {
        let bus = Bus::new(NOW);
        bus.tell(NOW, published(1));
        let (mut all, mut new) = (bus.read(Some(0)), bus.read(None));
        assert_eq!(all.next().await.unwrap().happening, published(1));
        assert_eq!((all.next_now(), new.next_now()), (None, None));
        let waits = tokio::time::timeout(Duration::from_millis(20), new.next()).await;
        assert!(waits.is_err(), "{waits:?}");
        let teller = bus.clone();
        let told = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            teller.tell(NOW + 1, published(2));
            teller.close();
        });
        for reader in [&mut all, &mut new] {
            let event = reader.next().await.unwrap();
            assert_eq!((event.at, &event.happening), (NOW + 1, &published(2)));
            assert_eq!(event.seq, NOW * 1_000_000 + 2);
            assert_eq!(reader.next().await, None);
        }
        told.await.unwrap();
    }

    #[tokio::test]
    async fn the_engine_never_waits_and_the_slow_are_told_what_they_lost() {
        let bus = Bus::new(NOW);
        let mut slow = bus.read(None);
        for generation in 1..=1500 {
            bus.tell(NOW, published(generation));
        }
        let lost = slow.next().await.unwrap();
        assert_eq!(lost.happening, Happening::Lost { count: Some(500) });
        assert_eq!(lost.seq, NOW * 1_000_000 + 500, "to go on behind it");
        assert_eq!(slow.next().await.unwrap().happening, published(501));
        let rest = std::iter::from_fn(|| slow.next_now()).count();
        assert_eq!(rest, 999);
    }
}
