//! A TCP server that says its name, echoes, and says its name again when the client has ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::epoll::{Epoll, READ, WRITE, sockets_per_thread};
use super::{TICK, Workers};
use crate::topology::Namespace;

/// Tokens from here on are listeners.
const LISTENER: u64 = 1 << 32;
/// Bytes that may wait for a client before nothing more is read from it.
const MOST_PENDING: usize = 64 << 10;

/// What a server has done since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EchoServerCounts {
    pub accepted: u64,
    /// Connections at the moment.
    pub open: u64,
    /// Connections that ended by an error instead of a FIN.
    pub broken: u64,
    /// Connections closed at once for want of file descriptors.
    pub turned_away: u64,
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    ended: AtomicU64,
    broken: AtomicU64,
    turned_away: AtomicU64,
    bytes: AtomicU64,
}

/// A running server. Greeting and farewell are the name and a newline; between them comes what the client sent.
#[derive(Debug)]
pub struct EchoServer {
    counters: Arc<Counters>,
    _workers: Workers,
}

impl EchoServer {
    /// Starts a server called `name` in `ns` on all of `listen`; it accepts when this returns.
    ///
    /// `threads` share the connections, and each holds as many as a process may have open files, mostly 20 000.
    pub fn start(ns: &Namespace, name: &str, listen: &[SocketAddr], threads: usize) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let mut workers = Workers::default();
        for _ in 0..threads.max(1) {
            let (listen, counters, greeting) = (listen.to_vec(), counters.clone(), format!("{name}\n"));
            let prepare = move || {
                let most = sockets_per_thread();
                Shard::new(&listen, greeting.into_bytes(), counters, most)
            };
            workers.add(ns, "echo", prepare, |shard, stop| shard.serve(stop))?;
        }
        Ok(Self { counters, _workers: workers })
    }

    pub fn counts(&self) -> EchoServerCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let ended = read(&self.counters.ended);
        let accepted = read(&self.counters.accepted);
        EchoServerCounts {
            accepted,
            open: accepted.saturating_sub(ended),
            broken: read(&self.counters.broken),
            turned_away: read(&self.counters.turned_away),
            bytes: read(&self.counters.bytes),
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// What the client has yet to take.
    pending: Vec<u8>,
    /// The client has ended; the farewell is in `pending`.
    ended: bool,
    interest: u32,
}

struct Shard {
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    most: usize,
    greeting: Vec<u8>,
    counters: Arc<Counters>,
}

impl Shard {
    fn new(listen: &[SocketAddr], greeting: Vec<u8>, counters: Arc<Counters>, most: usize) -> Result<Self> {
        let epoll = Epoll::new()?;
        let mut listeners = Vec::new();
        for (index, &address) in listen.iter().enumerate() {
            let listener = listener(address).with_context(|| format!("cannot listen on {address}"))?;
            epoll.add(&listener, LISTENER + index as u64, READ)?;
            listeners.push(listener);
        }
        let (connections, free) = (Vec::new(), Vec::new());
        Ok(Self { epoll, listeners, connections, free, most, greeting, counters })
    }

    fn serve(mut self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            for token in self.epoll.wait(TICK) {
                if token >= LISTENER {
                    self.accept((token - LISTENER) as usize);
                } else {
                    self.attend(token as usize);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) {
        // Bounded, so that a flood of connections does not starve those that exist.
        for _ in 0..256 {
            let Ok((stream, _)) = self.listeners[listener].accept() else { return };
            if self.connections.len() - self.free.len() >= self.most {
                self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_err() {
                continue;
            }
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.counters.accepted.fetch_add(1, Ordering::Relaxed);
            let watched = self.epoll.add(&stream, index as u64, READ).is_ok();
            let pending = self.greeting.clone();
            self.connections[index] = Some(Connection { stream, pending, ended: false, interest: READ });
            if watched {
                self.attend(index);
            } else {
                self.remove(index, true);
            }
        }
    }

    /// Reads and writes what can be; an event of a connection that is gone finds nothing to do.
    fn attend(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        match connection.step(&self.greeting, &self.counters.bytes) {
            Ok(Some(interest)) => {
                if interest != connection.interest {
                    connection.interest = interest;
                    if self.epoll.change(&connection.stream, index as u64, interest).is_err() {
                        self.remove(index, true);
                    }
                }
            }
            Ok(None) => self.remove(index, false),
            Err(_) => self.remove(index, true),
        }
    }

    fn remove(&mut self, index: usize, broken: bool) {
        self.connections[index] = None;
        self.free.push(index);
        self.counters.ended.fetch_add(1, Ordering::Relaxed);
        self.counters.broken.fetch_add(u64::from(broken), Ordering::Relaxed);
    }
}

impl Connection {
    /// Does what can be done without waiting; returns the events to wait for, or `None` at the end.
    fn step(&mut self, farewell: &[u8], bytes: &AtomicU64) -> std::io::Result<Option<u32>> {
        let mut buffer = [0; 16 << 10];
        loop {
            self.flush()?;
            if self.ended && self.pending.is_empty() {
                return Ok(None);
            }
            if self.ended || self.pending.len() >= MOST_PENDING {
                return Ok(Some(WRITE));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    self.pending.extend_from_slice(farewell);
                }
                Ok(length) => {
                    self.pending.extend_from_slice(&buffer[..length]);
                    bytes.fetch_add(length as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Some(if self.pending.is_empty() { READ } else { READ | WRITE }));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while !self.pending.is_empty() {
            match self.stream.write(&self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Tens of thousands of idle connections shall not each keep a buffer.
        if self.pending.is_empty() && self.pending.capacity() > 1024 {
            self.pending = Vec::new();
        }
        Ok(())
    }
}

/// Several threads listen on the same address; the kernel spreads connections over them.
fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(65_535)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
