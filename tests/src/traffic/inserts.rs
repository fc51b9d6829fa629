//! Clients that write rows into a PostgreSQL database, and know of each whether it was acknowledged.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::sql::{Session, SqlError};
use super::{Workers, lock, wait_until};
use crate::topology::Namespace;

/// Pause after a connection that could not be had, or that was of no use.
const AGAIN: Duration = Duration::from_millis(20);

/// Who writes where, and how.
#[derive(Debug, Clone)]
pub struct InsertsOptions {
    pub target: SocketAddr,
    pub clients: usize,
    /// Rows that a client writes over one connection, before it takes another; with none as many as the connection lasts for.
    pub rows: Option<u32>,
    /// A server that says that it is a standby is left at once, as libpq does it with `target_session_attrs=read-write`.
    pub wants_primary: bool,
    /// Between two rows of a client.
    pub pause: Duration,
    /// How long a connection, or an answer, may take.
    pub patience: Duration,
    /// Number of the first row; each attempt has a number of its own.
    pub first: u64,
}

impl InsertsOptions {
    /// Four clients that write a row each 10 ms over connections that last.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            clients: 4,
            rows: None,
            wants_primary: true,
            pause: Duration::from_millis(10),
            patience: Duration::from_secs(5),
            first: 0,
        }
    }
}

/// What a client knows of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    Acknowledged,
    /// It is not there, by this code of the server's.
    Refused(String),
    /// It may be there or not.
    Lost(String),
}

/// A row that was to be written.
#[derive(Debug, Clone)]
pub struct Insert {
    pub number: u64,
    pub begun: Instant,
    pub ended: Instant,
    pub written: Written,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    /// Connections that could not be had.
    turned_away: AtomicU64,
    /// Connections that were left, as the server was a standby.
    left: AtomicU64,
    log: Mutex<Vec<Insert>>,
}

/// The running clients; the table `rows` with the column `n` must be there.
#[derive(Debug)]
pub struct Inserts {
    shared: Arc<Shared>,
    workers: Workers,
}

impl Inserts {
    /// Begins to write from `ns`.
    pub fn start(ns: &Namespace, options: &InsertsOptions) -> Result<Self> {
        ensure!((1..=64).contains(&options.clients), "1 to 64 clients can write");
        let shared = Arc::new(Shared { next: AtomicU64::new(options.first), ..Shared::default() });
        let mut workers = Workers::default();
        for _ in 0..options.clients {
            let (shared, options) = (shared.clone(), options.clone());
            let work = move |(), stop: &AtomicBool| {
                while !stop.load(Ordering::Relaxed) {
                    match open(&options, &shared) {
                        Some(session) => write(session, &options, &shared, stop),
                        None => std::thread::sleep(AGAIN),
                    }
                }
                Ok(())
            };
            workers.add(ns, "inserts", || Ok(()), work)?;
        }
        Ok(Self { shared, workers })
    }

    /// All attempts so far that have ended.
    pub fn log(&self) -> Vec<Insert> {
        lock(&self.shared.log).clone()
    }

    /// Rows that were begun after `time` and acknowledged.
    pub fn acknowledged_since(&self, time: Instant) -> usize {
        let is_one = |insert: &&Insert| insert.begun > time && insert.written == Written::Acknowledged;
        lock(&self.shared.log).iter().filter(is_one).count()
    }

    /// Waits until so many rows that were begun after `time` are acknowledged; `false` when `limit` has passed first.
    pub fn wait_acknowledged(&self, time: Instant, rows: usize, limit: Duration) -> bool {
        wait_until(limit, || self.acknowledged_since(time) >= rows)
    }

    /// Connections that could not be had.
    pub fn turned_away(&self) -> u64 {
        self.shared.turned_away.load(Ordering::Relaxed)
    }

    /// Connections that were left, as the server was a standby.
    pub fn left(&self) -> u64 {
        self.shared.left.load(Ordering::Relaxed)
    }

    /// Ends all clients behind the row that each is at, and gives the whole log.
    pub fn finish(mut self) -> Result<Vec<Insert>> {
        self.workers.stop();
        self.workers.join()?;
        Ok(self.log())
    }
}

fn open(options: &InsertsOptions, shared: &Shared) -> Option<Session> {
    let Ok(session) = Session::connect(options.target, options.patience) else {
        shared.turned_away.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    if options.wants_primary && session.is_standby() {
        shared.left.fetch_add(1, Ordering::Relaxed);
        session.close();
        return None;
    }
    Some(session)
}

/// Over one connection, to its end.
fn write(mut session: Session, options: &InsertsOptions, shared: &Shared, stop: &AtomicBool) {
    let mut rows = 0;
    while !stop.load(Ordering::Relaxed) && options.rows.is_none_or(|most| rows < most) {
        rows += 1;
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let written = match session.query(&format!("INSERT INTO rows VALUES ({number})")) {
            Ok(_) => Written::Acknowledged,
            Err(SqlError::Refused { code, .. }) => Written::Refused(code),
            Err(SqlError::Lost(why)) => Written::Lost(why),
        };
        let is_over = matches!(written, Written::Lost(_));
        lock(&shared.log).push(Insert { number, begun, ended: Instant::now(), written });
        if is_over {
            return;
        }
        std::thread::sleep(options.pause);
    }
    session.close();
}
