//! A client with many long TCP connections to an echo server, each of which accounts for every byte.

mod connection;
mod shard;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::epoll::sockets_per_thread;
use super::{Opening, Reasons, Workers, by_host, lock, since, wait_until};
use crate::topology::Namespace;

/// How to connect and what to say.
#[derive(Debug, Clone)]
pub struct ConnectionsOptions {
    pub target: SocketAddr,
    /// Taken in turns; with none the kernel chooses. Each has some 60 000 ports towards one target.
    pub sources: Vec<IpAddr>,
    pub connections: usize,
    /// New connections a second, over all.
    pub open_rate: u32,
    /// Time between two messages of a connection; the first goes out at once.
    pub interval: Duration,
    /// The second message comes after the interval, too, and not somewhere in it: all connections speak at about the same time.
    pub in_chorus: bool,
    /// Length of a message, 16 to 65536: the connection's number, the message's number, filling.
    pub message_bytes: usize,
    /// How long a connection may take to open, to be answered and to close before it counts as broken.
    pub patience: Duration,
    /// Connections end by themselves after a time in this range; without one they last.
    pub lifetime: Option<Range<Duration>>,
    /// Open a new connection for each that has ended.
    pub replace: bool,
    /// All is closed after this time, as by [`Connections::finish`].
    pub limit: Duration,
}

impl ConnectionsOptions {
    /// 100 connections, a message a second, ten seconds of patience, for at most ten minutes.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            sources: Vec::new(),
            connections: 100,
            open_rate: 4000,
            interval: Duration::from_secs(1),
            in_chorus: false,
            message_bytes: 64,
            patience: Duration::from_secs(10),
            lifetime: None,
            replace: false,
            limit: Duration::from_secs(600),
        }
    }
}

/// The connections of a host, which is known by its greeting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionHost {
    pub opened: u64,
    pub open: u64,
    pub finished: u64,
    pub broken: u64,
}

/// Counts since the start. When all has come to its end, `opened = finished + broken after the greeting` and
/// `sent = echoed + missing`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionCounts {
    pub attempted: u64,
    /// Greeted by a server.
    pub opened: u64,
    /// Greeted and not yet ended.
    pub open: u64,
    /// Ended by both sides, nothing missing, farewell of the host that greeted.
    pub finished: u64,
    /// Ended otherwise, or never opened; why is in `reasons`.
    pub broken: u64,
    /// Given up before the greeting because the run was over: neither finished nor broken.
    pub abandoned: u64,
    pub reasons: Reasons,
    /// Messages.
    pub sent: u64,
    pub echoed: u64,
    /// Messages of ended connections that were never echoed.
    pub missing: u64,
    /// Connections whose echo differed from what was sent.
    pub missequenced: u64,
    /// Connections whose farewell named another host than the greeting.
    pub renamed: u64,
    pub hosts: BTreeMap<String, ConnectionHost>,
}

/// A connection that broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// When its first SYN was sent.
    pub begun: Instant,
    pub at: Instant,
    /// The host that had greeted it, if one had.
    pub host: Option<String>,
    pub why: String,
    /// The client's end of it.
    pub from: Option<SocketAddr>,
}

/// What the shards and the handle share.
#[derive(Debug, Default)]
struct Shared {
    attempted: AtomicU64,
    abandoned: AtomicU64,
    sent: AtomicU64,
    echoed: AtomicU64,
    missing: AtomicU64,
    missequenced: AtomicU64,
    renamed: AtomicU64,
    /// Close everything in an orderly way.
    finish: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    hosts: BTreeMap<String, ConnectionHost>,
    reasons: Reasons,
    broken: u64,
    openings: Vec<Opening>,
    breaks: Vec<Break>,
}

/// An order to close a part of a shard's open connections.
#[derive(Debug, Clone)]
struct CloseOrder {
    share: f64,
    host: Option<String>,
}

type Orders = Arc<Mutex<Vec<CloseOrder>>>;

/// The running client; dropping it resets what is still open.
#[derive(Debug)]
pub struct Connections {
    shared: Arc<Shared>,
    orders: Vec<Orders>,
    patience: Duration,
    workers: Workers,
}

impl Connections {
    /// Begins to open the connections from `ns`, on as many threads as the limit on open files asks for.
    pub fn start(ns: &Namespace, options: &ConnectionsOptions) -> Result<Self> {
        let length = options.message_bytes;
        ensure!((16..=65_536).contains(&length), "a message has 16 to 65536 bytes, not {length}");
        ensure!(options.open_rate > 0, "the rate of new connections must not be 0");
        let shared = Arc::new(Shared::default());
        let count = options.connections.div_ceil(sockets_per_thread()).max(1);
        let mut workers = Workers::default();
        let mut orders = Vec::new();
        for number in 0..count {
            let (shared, own, options) = (shared.clone(), Orders::default(), options.clone());
            orders.push(own.clone());
            // The first shards take one more where the number does not divide.
            let connections = (options.connections + count - 1 - number) / count;
            let prepare = move || shard::Shard::new(number, count, connections, options, shared, own);
            workers.add(ns, "connections", prepare, |shard, stop| {
                shard.run(stop);
                Ok(())
            })?;
        }
        Ok(Self { shared, orders, patience: options.patience, workers })
    }

    pub fn counts(&self) -> ConnectionCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        let book = lock(&shared.book);
        let sum = |part: fn(&ConnectionHost) -> u64| book.hosts.values().map(part).sum();
        ConnectionCounts {
            attempted: read(&shared.attempted),
            opened: sum(|host| host.opened),
            open: sum(|host| host.open),
            finished: sum(|host| host.finished),
            broken: book.broken,
            abandoned: read(&shared.abandoned),
            reasons: book.reasons.clone(),
            // In this order: a message is sent before it is echoed.
            echoed: read(&shared.echoed),
            missing: read(&shared.missing),
            sent: read(&shared.sent),
            missequenced: read(&shared.missequenced),
            renamed: read(&shared.renamed),
            hosts: book.hosts.clone(),
        }
    }

    /// How many of the connections that were begun after `time` each host got.
    pub fn opened_since(&self, time: Instant) -> BTreeMap<String, u64> {
        self.opened_between(time, Instant::now())
    }

    /// How many of the connections that were begun after `from` and not after `to` each host got.
    pub fn opened_between(&self, from: Instant, to: Instant) -> BTreeMap<String, u64> {
        by_host(&lock(&self.shared.book).openings, from, to)
    }

    /// The connections that were opened, in the order of their greetings, without the first `from`.
    pub fn openings(&self, from: usize) -> Vec<Opening> {
        since(&lock(&self.shared.book).openings, from)
    }

    /// The connections that broke, in their order, without the first `from`.
    pub fn breaks(&self, from: usize) -> Vec<Break> {
        since(&lock(&self.shared.book).breaks, from)
    }

    /// Waits until `count` connections have been opened or broken, at most `limit`; says whether they were.
    pub fn wait_opened(&self, count: u64, limit: Duration) -> bool {
        wait_until(limit, || {
            let counts = self.counts();
            counts.opened + counts.broken >= count
        })
    }

    /// Waits until `done` says so of the counts, at most `limit`; says whether it did.
    pub fn wait_for(&self, limit: Duration, done: impl Fn(&ConnectionCounts) -> bool) -> bool {
        wait_until(limit, || done(&self.counts()))
    }

    /// Closes `share` (0 to 1) of the open connections, spread evenly, only those of `host` if one is named; in an
    /// orderly way and within some 20 ms.
    pub fn close(&self, share: f64, host: Option<&str>) {
        for orders in &self.orders {
            lock(orders).push(CloseOrder { share: share.clamp(0.0, 1.0), host: host.map(str::to_owned) });
        }
    }

    /// Whether all connections have ended and none will be opened.
    pub fn is_done(&self) -> bool {
        self.workers.are_done()
    }

    /// Begins to close all connections in an orderly way.
    pub fn begin_to_finish(&self) {
        self.shared.finish.store(true, Ordering::Relaxed);
    }

    /// Closes all connections in an orderly way, waits for their ends, at most the patience, and returns the counts.
    pub fn finish(mut self) -> Result<ConnectionCounts> {
        self.begin_to_finish();
        wait_until(self.patience * 2 + Duration::from_secs(5), || self.workers.are_done());
        self.workers.stop();
        self.workers.join()?;
        Ok(self.counts())
    }
}
