//! Answers that go on, such as streams of events, end when the token that they were asked for with does not count any more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Gate;

/// Between two looks at the token file.
const LOOK: Duration = Duration::from_secs(2);

/// The same body, that ends early when the token is taken away. One that is whole already stays as it is.
pub fn until_taken_away(body: Body, gate: Arc<Gate>, token: String) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Body::new(Leased { body, gate, token, looks })
}

struct Leased {
    body: Body,
    gate: Arc<Gate>,
    token: String,
    looks: Interval,
}

impl HttpBody for Leased {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // A tick that has come leaves the waker with the next one only when it is asked again.
        while self.looks.poll_tick(cx).is_ready() {
            if self.gate.tokens.name_of(&self.token).is_none() {
                log::info!("a stream of the page ends: its token does not count any more");
                return Poll::Ready(None);
            }
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
