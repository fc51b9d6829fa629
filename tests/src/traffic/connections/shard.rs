//! The connections of one thread.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Protocol, Type};

use super::super::epoll::Epoll;
use super::super::timers::Timers;
use super::super::{Opening, TICK, client_socket, lock, reason};
use super::connection::{Connection, End, Phase};
use super::{Break, CloseOrder, ConnectionsOptions, Orders, Shared};

pub(super) struct Shard {
    number: usize,
    options: ConnectionsOptions,
    /// Connections to have.
    wanted: usize,
    /// New connections a second.
    rate: f64,
    begun: Instant,
    started: u64,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    timers: Timers,
    ending: bool,
    shared: Arc<Shared>,
    orders: Orders,
}

impl Shard {
    /// Shard `number` of `count`, which has to open `wanted` connections.
    pub fn new(
        number: usize,
        count: usize,
        wanted: usize,
        options: ConnectionsOptions,
        shared: Arc<Shared>,
        orders: Orders,
    ) -> Result<Self> {
        Ok(Self {
            number,
            wanted,
            rate: f64::from(options.open_rate) / count as f64,
            options,
            begun: Instant::now(),
            started: 0,
            epoll: Epoll::new()?,
            connections: Vec::new(),
            free: Vec::new(),
            timers: Timers::default(),
            ending: false,
            shared,
            orders,
        })
    }

    /// Runs until all connections have ended, or `stop`.
    pub fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let over = now - self.begun >= self.options.limit || self.shared.finish.load(Ordering::Relaxed);
            if over && !self.ending {
                self.end_all(now);
            }
            let opening = self.open_due(now);
            let live = self.connections.len() - self.free.len();
            if live == 0 && !opening && (self.ending || !self.options.replace) {
                return;
            }
            let orders = std::mem::take(&mut *lock(&self.orders));
            for order in orders {
                self.close(&order, now);
            }
            let limit = if opening { Duration::from_millis(1) } else { TICK };
            for token in self.epoll.wait(self.timers.wait(now, limit)) {
                self.attend(token as usize, Instant::now());
            }
            let now = Instant::now();
            while let Some(index) = self.timers.pop(now) {
                self.at_time(index, now);
            }
        }
        let left = self.connections.len();
        (0..left).for_each(|index| self.settle(index, End::Broken("stopped".into())));
    }

    /// Opens as many connections as the rate allows by now; says whether more are to come.
    fn open_due(&mut self, now: Instant) -> bool {
        if self.ending {
            return false;
        }
        let allowed = ((now - self.begun).as_secs_f64() * self.rate) as u64 + 1;
        let live = |shard: &Self| shard.connections.len() - shard.free.len();
        let missing = |shard: &Self| {
            if shard.options.replace {
                live(shard) < shard.wanted
            } else {
                (shard.started as usize) < shard.wanted
            }
        };
        // Bounded, so that those that exist are looked after.
        for _ in 0..64 {
            if !missing(self) || self.started >= allowed {
                break;
            }
            self.open(now);
        }
        missing(self)
    }

    fn open(&mut self, now: Instant) {
        let id = (self.number as u64) << 40 | self.started;
        self.started += 1;
        self.shared.attempted.fetch_add(1, Ordering::Relaxed);
        let end_at = self.options.lifetime.as_ref().map(|range| {
            let part = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24);
            now + range.start + range.end.saturating_sub(range.start).mul_f64(part)
        });
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let watched = self.connect(id).and_then(|stream| {
            let connection = Connection::new(stream, id, self.options.message_bytes, now, end_at);
            self.epoll.add(&connection.stream, index as u64, connection.interest).map(|()| connection)
        });
        match watched {
            Ok(connection) => {
                self.connections[index] = Some(connection);
                self.set_timer(index);
            }
            Err(error) => {
                self.free.push(index);
                self.count_broken(now, String::new(), None, reason(&error));
            }
        }
    }

    /// Sends the SYN and does not wait.
    fn connect(&self, id: u64) -> io::Result<TcpStream> {
        let sources = &self.options.sources;
        let source = if sources.is_empty() { None } else { Some(sources[id as usize % sources.len()]) };
        let socket = client_socket(Type::STREAM, Protocol::TCP, self.options.target, source)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.options.target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket.into()),
        }
    }

    fn attend(&mut self, index: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        let (greeted, echoed) = (!connection.name.is_empty(), connection.messages_echoed());
        let end = connection.step(now);
        self.shared.echoed.fetch_add(connection.messages_echoed() - echoed, Ordering::Relaxed);
        if !greeted && !connection.name.is_empty() {
            let mut book = lock(&self.shared.book);
            let host = book.hosts.entry(connection.name.clone()).or_default();
            host.opened += 1;
            host.open += 1;
            let (begun, host, from) = (connection.begun, connection.name.clone(), connection.from);
            book.openings.push(Opening { begun, answered: now, host, from });
        }
        if let Some(end) = end {
            return self.settle(index, end);
        }
        let wanted = connection.wanted();
        if wanted != connection.interest {
            connection.interest = wanted;
            if let Err(error) = self.epoll.change(&connection.stream, index as u64, wanted) {
                return self.settle(index, End::Broken(reason(&error)));
            }
        }
        self.set_timer(index);
    }

    fn at_time(&mut self, index: usize, now: Instant) {
        let (patience, interval) = (self.options.patience, self.options.interval);
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        if connection.owed_since.is_some_and(|since| now >= since + patience) {
            let what = match connection.phase {
                Phase::Connecting => "no connection",
                Phase::Greeting => "no greeting",
                Phase::Running => "no echo",
                Phase::Ending => "no farewell",
            };
            return self.settle(index, End::Broken(format!("{what} within {patience:?}")));
        }
        if connection.phase == Phase::Running {
            if connection.end_at.is_some_and(|end| now >= end) {
                connection.end(now);
            } else if now >= connection.next_send {
                let is_spread = connection.messages_sent() == 0 && !self.options.in_chorus;
                let part =
                    (connection.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24);
                let pause = if is_spread { interval.mul_f64(part.max(0.01)) } else { interval };
                connection.next_send = now + pause;
                connection.queue_message(now);
                self.shared.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.attend(index, now);
    }

    fn set_timer(&mut self, index: usize) {
        let Some(connection) = &self.connections[index] else { return };
        let patience = connection.owed_since.map(|since| since + self.options.patience);
        let due = if connection.phase == Phase::Running {
            let next = connection.end_at.map_or(connection.next_send, |end| end.min(connection.next_send));
            Some(patience.map_or(next, |end| end.min(next)))
        } else {
            patience
        };
        self.timers.set(index, due);
    }

    /// Ends the open connections; those that have not been greeted yet are given up.
    fn end_all(&mut self, now: Instant) {
        self.ending = true;
        for index in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[index] else { continue };
            match connection.phase {
                Phase::Connecting | Phase::Greeting => {
                    self.shared.abandoned.fetch_add(1, Ordering::Relaxed);
                    self.remove(index);
                }
                Phase::Running => {
                    connection.end(now);
                    self.attend(index, now);
                }
                Phase::Ending => {}
            }
        }
    }

    /// Closes every so-many-th of the connections that `order` means.
    fn close(&mut self, order: &CloseOrder, now: Instant) {
        let mut due = 0.5;
        for index in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[index] else { continue };
            let meant = order.host.as_ref().is_none_or(|host| *host == connection.name);
            if connection.phase != Phase::Running || !meant {
                continue;
            }
            due += order.share;
            if due >= 1.0 {
                due -= 1.0;
                connection.end(now);
                self.attend(index, now);
            }
        }
    }

    /// Enters the end of a connection into the books.
    fn settle(&mut self, index: usize, end: End) {
        let Some(connection) = &self.connections[index] else { return };
        let missing = connection.messages_sent() - connection.messages_echoed();
        self.shared.missing.fetch_add(missing, Ordering::Relaxed);
        let (begun, name, from) = (connection.begun, connection.name.clone(), connection.from);
        self.remove(index);
        let finished = end == End::Finished;
        if !name.is_empty() {
            let mut book = lock(&self.shared.book);
            let host = book.hosts.entry(name.clone()).or_default();
            host.open -= 1;
            if finished {
                host.finished += 1;
            } else {
                host.broken += 1;
            }
        }
        match end {
            End::Finished => {}
            End::Broken(why) => self.count_broken(begun, name, from, why),
            End::Differs => {
                self.shared.missequenced.fetch_add(1, Ordering::Relaxed);
                self.count_broken(begun, name, from, "the echo differs".into());
            }
            End::Renamed(other) => {
                self.shared.renamed.fetch_add(1, Ordering::Relaxed);
                let why = format!("greeting of {name}, farewell of {other}");
                self.count_broken(begun, name, from, why);
            }
        }
    }

    fn remove(&mut self, index: usize) {
        self.connections[index] = None;
        self.free.push(index);
        self.timers.set(index, None);
    }

    /// `host` is empty if none had greeted the connection.
    fn count_broken(&self, begun: Instant, host: String, from: Option<SocketAddr>, why: String) {
        let mut book = lock(&self.shared.book);
        book.broken += 1;
        let host = Some(host).filter(|host| !host.is_empty());
        book.breaks.push(Break { begun, at: Instant::now(), host, why: why.clone(), from });
        *book.reasons.entry(why).or_default() += 1;
    }
}
