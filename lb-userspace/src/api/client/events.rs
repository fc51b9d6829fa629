//! Streams of messages: `text/event-stream` as in the HTML standard, 9.2.6, as far as the daemon makes use of it.

use std::marker::PhantomData;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{Answer, Bytes, Client, ClientError, decode};
use crate::api::types::{Event, TraceMessage, TraceRequest};

/// Events as they come.
pub type EventStream = MessageStream<Event>;

/// Silence after which the daemon counts as gone; it sends comments far more often.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes of the longest line; a reason is the longest thing in an event, and a request is shorter than this. So are the frames of a packet.
const MAX_LINE: usize = 4 << 20;

/// Messages of one kind, as they come.
pub struct MessageStream<T> {
    of: PhantomData<T>,
    client: Client,
    request: String,
    body: Incoming,
    lines: Lines,
    /// The connection ends with it.
    _connection: super::Connection,
}

impl Client {
    /// Follows what is told at `target`, behind the event `after`.
    pub async fn events(&self, target: &str, after: Option<u64>) -> Result<EventStream, ClientError> {
        let id = after.map(|after| after.to_string());
        let header = id.as_deref().map(|id| ("last-event-id", id));
        self.follow(Method::GET, target, header, Bytes::new()).await
    }

    /// Asks to be shown packets. Whoever drops the stream is shown no more.
    pub async fn trace(&self, request: &TraceRequest) -> Result<MessageStream<TraceMessage>, ClientError> {
        let target = "/v1/trace";
        let body = serde_json::to_vec(request)
            .map_err(|e| ClientError::Request { request: format!("POST {target}"), source: e.into() })?;
        self.follow(Method::POST, target, None, body.into()).await
    }

    async fn follow<T>(
        &self,
        method: Method,
        target: &str,
        header: Option<(&str, &str)>,
        body: Bytes,
    ) -> Result<MessageStream<T>, ClientError> {
        let request = format!("{method} {target}");
        let opened = self.open(method, target, &request, header, body);
        let (response, connection) = self.in_time(&request, opened).await?;
        let kind = response.headers().get(hyper::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            let lines = Lines::default();
            let (client, body) = (self.clone(), response.into_body());
            let of = PhantomData;
            return Ok(MessageStream { of, client, request, body, lines, _connection: connection });
        }
        let answer: Answer = self.in_time(&request, self.whole(&request, response)).await?;
        match decode::<serde::de::IgnoredAny>(&request, answer) {
            Err(error) => Err(error),
            Ok(_) => Err(ClientError::NotJson { request, status: 200, excerpt: "no stream".to_owned() }),
        }
    }
}

impl<T: DeserializeOwned> MessageStream<T> {
    /// The next message; `None` when the daemon has ended the stream.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(data) = self.lines.data() {
                return serde_json::from_str(&data).map(Some).map_err(|source| ClientError::Mismatch {
                    request: self.request.clone(),
                    status: 200,
                    daemon: None,
                    source,
                });
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| ClientError::Timeout {
                socket: self.client.socket.clone(),
                request: self.request.clone(),
                timeout: SILENCE,
            })?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.lines.bytes.extend_from_slice(&bytes);
                    }
                    if self.lines.bytes.len() > MAX_LINE {
                        return Err(ClientError::TooLong { request: self.request.clone() });
                    }
                }
                Some(Err(error)) => return Err(self.client.broken(&self.request, error.into())),
            }
        }
    }
}

/// What has come and is not read yet.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    /// The data of the next message that is there as a whole. All else (ids, which are in the data as well, and comments) says
    /// nothing new.
    fn data(&mut self) -> Option<String> {
        loop {
            let end = self.bytes.windows(2).position(|pair| pair == b"\n\n")?;
            let message: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&message);
            let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
            let data: Vec<&str> = data.map(|data| data.strip_prefix(' ').unwrap_or(data)).collect();
            if !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_apart_however_they_come() {
        let text =
            b":\n\nid: 5\nevent: x\ndata: {\"a\":1}\n\n: still here\n\ndata:one\ndata: two\n\ndata: ha";
        for size in 1..text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for part in text.chunks(size) {
                lines.bytes.extend_from_slice(part);
                found.extend(std::iter::from_fn(|| lines.data()));
            }
            assert_eq!(found, ["{\"a\":1}", "one\ntwo"], "{size} bytes at a time");
        }
    }
}
