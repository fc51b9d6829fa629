//! Traffic whose every message is accounted for: echo servers, long connections, datagram flows, short requests and rows of a database.
//!
//! Each tool runs on threads in a given namespace, is bounded in number and time, ends when it is told to or dropped,
//! and shows its counts at any moment.

mod connections;
mod epoll;
mod inserts;
mod requests;
mod sql;
mod tcp_server;
mod timers;
mod udp_flows;
mod udp_server;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::topology::Namespace;

pub use connections::{Break, ConnectionCounts, ConnectionHost, Connections, ConnectionsOptions};
pub use inserts::{Insert, Inserts, InsertsOptions, Written};
pub use requests::{Outcome, Request, RequestCounts, Requests, RequestsOptions};
pub use sql::{Session, SqlError};
pub use tcp_server::{EchoServer, EchoServerCounts};
pub use udp_flows::{UdpCounts, UdpFlows, UdpFlowsOptions, UdpHost, UdpTrouble, UdpWrong};
pub use udp_server::{UdpEchoServer, UdpEchoServerCounts};

/// How often a sleeping thread looks whether it shall end or do something else.
const TICK: Duration = Duration::from_millis(20);

/// The longest host name that a server says.
const LONGEST_NAME: usize = 64;

/// The threads of a tool and the sign for them to end.
#[derive(Debug, Default)]
struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Result<()>>>>,
}

impl Workers {
    /// Starts a thread in `ns`, with a file table of its own, and waits until `prepare` has made what `work` needs.
    fn add<T: 'static>(
        &mut self,
        ns: &Namespace,
        name: &str,
        prepare: impl FnOnce() -> Result<T> + Send + 'static,
        work: impl FnOnce(T, &AtomicBool) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let stop = self.stop.clone();
        let (ready, wait) = channel();
        let body = move || {
            let prepared = epoll::leave_file_table().and_then(|()| prepare());
            let (value, answer) = match prepared {
                Ok(value) => (Some(value), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Nobody waits any more only when the caller has gone with a panic; then `stop` ends the work.
            let _ = ready.send(answer);
            value.map_or(Ok(()), |value| work(value, &stop))
        };
        self.threads.push(ns.start(name, body)?);
        wait.recv().with_context(|| format!("the thread {name} ended before it began its work"))?
    }

    /// Whether all threads have ended by themselves.
    fn are_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the threads' end; a panic in one goes on here.
    fn join(&mut self) -> Result<()> {
        let threads = std::mem::take(&mut self.threads);
        // The outer error is that of entering the namespace, the inner one of the work.
        let join = |thread: JoinHandle<Result<Result<()>>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
        };
        threads.into_iter().try_for_each(join)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        for thread in std::mem::take(&mut self.threads) {
            if let Ok(Err(error) | Ok(Err(error))) = thread.join() {
                eprintln!("traffic: {error:#}");
            }
        }
    }
}

/// Locks; a thread that panicked meanwhile has its own way of being noticed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Waits until `done` or `limit` has passed, and says which.
fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A flow that a server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// When its first packet was sent.
    pub begun: Instant,
    /// When the first answer came.
    pub answered: Instant,
    pub host: String,
    /// The client's end of a TCP connection.
    pub from: Option<SocketAddr>,
}

/// How many of those that were begun after `from` and not after `to` each host answered.
fn by_host(openings: &[Opening], from: Instant, to: Instant) -> BTreeMap<String, u64> {
    let mut hosts = BTreeMap::new();
    for opening in openings.iter().filter(|opening| opening.begun > from && opening.begun <= to) {
        *hosts.entry(opening.host.clone()).or_default() += 1;
    }
    hosts
}

/// What a log has from entry `from` on.
fn since<T: Clone>(log: &[T], from: usize) -> Vec<T> {
    log.get(from..).unwrap_or_default().to_vec()
}

/// Occurrences by reason.
type Reasons = BTreeMap<String, u64>;

/// A short, stable name for what went wrong.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ECONNRESET) => "connection reset".into(),
        Some(libc::ECONNREFUSED) => "connection refused".into(),
        Some(libc::ETIMEDOUT) => "connection timed out".into(),
        Some(libc::EPIPE) => "connection closed by the server".into(),
        Some(libc::EHOSTUNREACH) => "host unreachable".into(),
        Some(libc::ENETUNREACH) => "network unreachable".into(),
        Some(libc::EMFILE) => "too many open files".into(),
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => "no free source port".into(),
        _ => error.to_string(),
    }
}

/// A socket towards `target`, bound to `source` if there is one, whose port is chosen when it connects.
fn client_socket(
    kind: Type,
    protocol: Protocol,
    target: SocketAddr,
    source: Option<IpAddr>,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), kind, Some(protocol))?;
    if let Some(source) = source {
        if kind == Type::STREAM {
            bind_address_without_port(&socket)?;
        }
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// Gives a socket room for so many bytes that wait to be read, whatever the system's maximum (`SO_RCVBUFFORCE`, for who has CAP_NET_ADMIN).
fn widen(socket: &Socket, bytes: usize) {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        // Up to the system's maximum; then that is what there is.
        let _ = socket.set_recv_buffer_size(bytes);
    }
}

/// `IP_BIND_ADDRESS_NO_PORT` (Linux 4.2): without it bind(2) looks for a port that is free towards everybody, and a
/// source address is used up after one port range, whatever the destinations.
fn bind_address_without_port(socket: &Socket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?)
}
