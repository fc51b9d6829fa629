//! What is under way to one who traces. A reader may be as slow as it likes: what waits for it is bounded by bytes, as frames differ in
//! length by a hundred times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::api::types::TraceMessage;

/// Bytes that may be under way to one reader.
pub(super) const UNDER_WAY: usize = 8 << 20;

/// Where messages are put in.
pub(super) struct Outlet {
    to: UnboundedSender<(usize, TraceMessage)>,
    under_way: Arc<AtomicUsize>,
}

/// Where they come out.
pub struct Messages {
    from: UnboundedReceiver<(usize, TraceMessage)>,
    under_way: Arc<AtomicUsize>,
}

impl Outlet {
    pub fn open() -> (Self, Messages) {
        let (to, from) = unbounded_channel();
        let under_way = Arc::<AtomicUsize>::default();
        (Outlet { to, under_way: under_way.clone() }, Messages { from, under_way })
    }

    /// Sends a message that takes so many bytes, unless the reader is too far behind for it; whether it did. It is made only then.
    pub fn send(&self, bytes: usize, message: impl FnOnce() -> TraceMessage) -> bool {
        // Nobody else puts anything in, so it can only get less meanwhile.
        if self.under_way.load(Ordering::Relaxed) + bytes > UNDER_WAY {
            return false;
        }
        self.under_way.fetch_add(bytes, Ordering::Relaxed);
        self.to.send((bytes, message())).is_ok()
    }

    /// Sends a message behind which nothing but others like it comes, however far behind the reader is.
    pub fn send_last(&self, message: TraceMessage) {
        // Who has gone needs no last word.
        let _ = self.to.send((0, message));
    }

    /// Nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.to.is_closed()
    }
}

impl Messages {
    /// The next one; `None`: that was the last.
    pub async fn next(&mut self) -> Option<TraceMessage> {
        let (bytes, message) = self.from.recv().await?;
        self.under_way.fetch_sub(bytes, Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::TraceCounted;

    fn counts(shown: u64) -> TraceMessage {
        TraceMessage::Counts(TraceCounted { shown, ..TraceCounted::default() })
    }

    #[tokio::test]
    async fn who_does_not_read_keeps_a_bounded_number_of_bytes_and_gets_the_last_word() {
        let (outlet, mut messages) = Outlet::open();
        let size = 20_000;
        let sent = (0..1000).filter(|number| outlet.send(size, || counts(*number))).count();
        assert_eq!(sent, UNDER_WAY / size);
        assert!(!outlet.send(size, || panic!("made for nobody")));
        outlet.send_last(counts(4711));
        // Who reads one has room for one.
        assert_eq!(messages.next().await, Some(counts(0)));
        assert!(outlet.send(size, || counts(5)) && !outlet.send(size, || counts(6)));
        drop(outlet);
        let mut rest = Vec::new();
        while let Some(message) = messages.next().await {
            rest.push(message);
        }
        assert_eq!(rest.len(), sent + 1);
        assert_eq!(rest[sent - 1..], [counts(4711), counts(5)]);
    }
}
