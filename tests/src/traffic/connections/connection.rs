//! One connection: what it has to say is a function of its number and the position, so it keeps no copy of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use super::super::epoll::{READ, WRITE};
use super::super::{LONGEST_NAME, reason};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// Waiting for the server's name.
    Greeting,
    Running,
    /// Nothing more will be sent; waiting for the rest of the echo, the farewell and the server's end.
    Ending,
}

/// How a connection came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Broken(String),
    /// The echo differs from what was sent.
    Differs,
    /// The farewell names another host.
    Renamed(String),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub stream: TcpStream,
    pub id: u64,
    pub phase: Phase,
    /// When the first SYN was sent.
    pub begun: Instant,
    /// The client's end.
    pub from: Option<SocketAddr>,
    /// The server's name, complete from the phase `Running` on.
    pub name: String,
    pub next_send: Instant,
    /// When to end by itself.
    pub end_at: Option<Instant>,
    /// Since when the server owes something without any progress.
    pub owed_since: Option<Instant>,
    pub interest: u32,
    /// Length of a message.
    message: usize,
    text: Vec<u8>,
    /// Bytes of messages that are to be sent, that the kernel took, and that came back.
    queued: u64,
    written: u64,
    received: u64,
    half_closed: bool,
}

impl Connection {
    pub fn new(stream: TcpStream, id: u64, message: usize, now: Instant, end_at: Option<Instant>) -> Self {
        Self {
            from: stream.local_addr().ok(),
            stream,
            id,
            phase: Phase::Connecting,
            begun: now,
            name: String::new(),
            next_send: now,
            end_at,
            owed_since: Some(now),
            interest: WRITE,
            message,
            text: Vec::new(),
            queued: 0,
            written: 0,
            received: 0,
            half_closed: false,
        }
    }

    pub fn messages_sent(&self) -> u64 {
        self.queued / self.message as u64
    }

    pub fn messages_echoed(&self) -> u64 {
        self.received / self.message as u64
    }

    pub fn queue_message(&mut self, now: Instant) {
        self.queued += self.message as u64;
        self.owed_since.get_or_insert(now);
    }

    /// From here on only the rest is awaited.
    pub fn end(&mut self, now: Instant) {
        self.phase = Phase::Ending;
        self.owed_since = Some(now);
    }

    /// The events to wait for now.
    pub fn wanted(&self) -> u32 {
        match self.phase {
            Phase::Connecting => WRITE,
            _ if self.written < self.queued => READ | WRITE,
            _ => READ,
        }
    }

    /// Does what can be done without waiting; `Some` at the end.
    pub fn step(&mut self, now: Instant) -> Option<End> {
        if self.phase == Phase::Connecting {
            match self.stream.take_error() {
                Ok(None) if self.stream.peer_addr().is_ok() => self.phase = Phase::Greeting,
                Ok(None) => return None,
                Ok(Some(error)) | Err(error) => return Some(End::Broken(reason(&error))),
            }
        }
        // A reset shows in both directions; what was received before it still counts.
        let written = self.write();
        self.read(now).or_else(|| written.err().map(End::Broken))
    }

    fn write(&mut self) -> Result<(), String> {
        let mut buffer = [0; 4096];
        while self.written < self.queued {
            let length = (self.queued - self.written).min(buffer.len() as u64) as usize;
            fill(self.id, self.message, self.written, &mut buffer[..length]);
            match self.stream.write(&buffer[..length]) {
                Ok(taken) => self.written += taken as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(reason(&error)),
            }
        }
        if self.phase == Phase::Ending && !self.half_closed {
            self.half_closed = true;
            self.stream.shutdown(Shutdown::Write).map_err(|error| reason(&error))?;
        }
        Ok(())
    }

    fn read(&mut self, now: Instant) -> Option<End> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(self.at_end()),
                Ok(length) => {
                    if let Some(end) = self.take(&buffer[..length], now) {
                        return Some(end);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(End::Broken(reason(&error))),
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], now: Instant) -> Option<End> {
        self.owed_since = Some(now);
        if self.phase == Phase::Greeting {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            self.text.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            if self.text.len() > LONGEST_NAME {
                return Some(End::Broken("greeting without an end".into()));
            }
            let end = end?;
            bytes = &bytes[end + 1..];
            self.name = String::from_utf8_lossy(&std::mem::take(&mut self.text)).into_owned();
            self.phase = Phase::Running;
            self.next_send = now;
        }
        let echo = bytes.len().min((self.written - self.received) as usize);
        let mut expected = [0; 16 << 10];
        fill(self.id, self.message, self.received, &mut expected[..echo]);
        if bytes[..echo] != expected[..echo] {
            return Some(End::Differs);
        }
        self.received += echo as u64;
        bytes = &bytes[echo..];
        if self.phase == Phase::Running {
            if !bytes.is_empty() {
                return Some(End::Differs);
            }
            if self.received == self.queued {
                self.owed_since = None;
            }
        } else {
            self.text.extend_from_slice(bytes);
            if self.text.len() > LONGEST_NAME + 1 {
                return Some(End::Differs);
            }
        }
        None
    }

    /// The server has ended.
    fn at_end(&mut self) -> End {
        if self.phase != Phase::Ending || self.received < self.queued {
            return End::Broken("connection closed by the server".into());
        }
        match self.text.strip_suffix(b"\n") {
            Some(name) if name == self.name.as_bytes() => End::Finished,
            Some(name) => End::Renamed(String::from_utf8_lossy(name).into_owned()),
            None => End::Broken("no farewell".into()),
        }
    }
}

/// The bytes of connection `id` from `position` on: messages of `message` bytes, each the connection's number, its own
/// number (both big endian), and filling that depends on both.
fn fill(id: u64, message: usize, position: u64, out: &mut [u8]) {
    let mut number = position / message as u64;
    let mut offset = (position % message as u64) as usize;
    for byte in out {
        *byte = match offset {
            0..8 => id.to_be_bytes()[offset],
            8..16 => number.to_be_bytes()[offset - 8],
            _ => (id ^ number) as u8 ^ offset as u8,
        };
        offset += 1;
        if offset == message {
            (offset, number) = (0, number + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_the_stream_is_the_same_as_in_the_whole() {
        let mut whole = [0; 200];
        fill(7, 20, 0, &mut whole);
        for (from, to) in [(0, 3), (3, 41), (19, 21), (40, 200)] {
            let mut part = vec![0; to - from];
            fill(7, 20, from as u64, &mut part);
            assert_eq!(part, whole[from..to]);
        }
        let mut other = [0; 200];
        fill(8, 20, 0, &mut other);
        assert_ne!(whole, other);
        assert_ne!(whole[..20], whole[20..40]);
    }
}
