//! A stream of short requests, each over a TCP connection of its own.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use socket2::{Protocol, Type};

use super::{Reasons, TICK, Workers, client_socket, lock, reason, since, wait_until};
use crate::topology::Namespace;

/// What to ask, whom and how often.
#[derive(Debug, Clone)]
pub struct RequestsOptions {
    pub target: SocketAddr,
    /// Taken in turns; with none the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Path of the request; the first line of the answer names the host, or else its header `X-Host`.
    pub path: String,
    /// Requests a second, over all; 0 is as many as can be.
    pub rate: u32,
    /// Requests under way at most: threads.
    pub concurrency: usize,
    /// Requests in all.
    pub count: u64,
    /// How long a request may take.
    pub patience: Duration,
    /// None is begun after this time.
    pub limit: Duration,
}

impl RequestsOptions {
    /// 200 requests a second for `/`, 16 at once, at most a million and for ten minutes.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            sources: Vec::new(),
            path: "/".into(),
            rate: 200,
            concurrency: 16,
            count: 1_000_000,
            patience: Duration::from_secs(5),
            limit: Duration::from_secs(600),
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with status 200 and completely, by the host of this name.
    Ok(Arc<str>),
    Failed(Arc<str>),
}

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Request {
    /// When its first SYN was sent.
    pub begun: Instant,
    pub took: Duration,
    /// Bytes of the answer's body.
    pub bytes: u64,
    pub outcome: Outcome,
    /// The client's end of its connection, if there was one.
    pub from: Option<SocketAddr>,
}

/// Counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RequestCounts {
    pub begun: u64,
    pub ok: u64,
    pub failed: u64,
    pub reasons: Reasons,
    /// Successful requests by answering host.
    pub hosts: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Shared {
    begun: AtomicU64,
    finish: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    ok: u64,
    failed: u64,
    hosts: BTreeMap<Arc<str>, u64>,
    reasons: BTreeMap<Arc<str>, u64>,
    log: Vec<Request>,
    /// When the request was begun that is under way, of each thread.
    under_way: Vec<Option<Instant>>,
}

/// The running stream.
#[derive(Debug)]
pub struct Requests {
    shared: Arc<Shared>,
    patience: Duration,
    workers: Workers,
}

impl Requests {
    /// Begins to ask from `ns`.
    pub fn start(ns: &Namespace, options: &RequestsOptions) -> Result<Self> {
        ensure!((1..=1024).contains(&options.concurrency), "1 to 1024 requests can be under way at once");
        let shared = Arc::new(Shared::default());
        let mut workers = Workers::default();
        let begin = Instant::now();
        lock(&shared.book).under_way = vec![None; options.concurrency];
        for thread in 0..options.concurrency {
            let (shared, options) = (shared.clone(), options.clone());
            let work = move |(), stop: &AtomicBool| {
                run(thread, &options, &shared, begin, stop);
                Ok(())
            };
            workers.add(ns, "requests", || Ok(()), work)?;
        }
        Ok(Self { shared, patience: options.patience, workers })
    }

    pub fn counts(&self) -> RequestCounts {
        let book = lock(&self.shared.book);
        let text =
            |counts: &BTreeMap<Arc<str>, u64>| counts.iter().map(|(key, n)| (key.to_string(), *n)).collect();
        RequestCounts {
            ok: book.ok,
            failed: book.failed,
            reasons: text(&book.reasons),
            hosts: text(&book.hosts),
            begun: self.shared.begun.load(Ordering::Relaxed),
        }
    }

    /// How many of the requests that were begun after `time` each host has answered.
    pub fn answered_since(&self, time: Instant) -> BTreeMap<String, u64> {
        self.answered_between(time, Instant::now())
    }

    /// How many of the requests that were begun after `from` and not after `to` each host has answered.
    pub fn answered_between(&self, from: Instant, to: Instant) -> BTreeMap<String, u64> {
        let mut hosts = BTreeMap::new();
        let within = |request: &&Request| request.begun > from && request.begun <= to;
        for request in lock(&self.shared.book).log.iter().filter(within) {
            if let Outcome::Ok(host) = &request.outcome {
                *hosts.entry(host.to_string()).or_default() += 1;
            }
        }
        hosts
    }

    /// All requests that have ended, in the order of their ends.
    pub fn log(&self) -> Vec<Request> {
        self.log_from(0)
    }

    /// As [`log`](Self::log), without the first `from`.
    pub fn log_from(&self, from: usize) -> Vec<Request> {
        since(&lock(&self.shared.book).log, from)
    }

    /// Waits until `done` says so of the counts, at most `limit`; says whether it did.
    pub fn wait_for(&self, limit: Duration, done: impl Fn(&RequestCounts) -> bool) -> bool {
        wait_until(limit, || done(&self.counts()))
    }

    /// Waits until all requests that have been begun up to now have ended, and are in the log, at most `limit`; says whether they have.
    pub fn wait_ended(&self, limit: Duration) -> bool {
        let now = Instant::now();
        wait_until(limit, || lock(&self.shared.book).under_way.iter().flatten().all(|begun| *begun > now))
    }

    /// Whether all requests have been made or the time is over.
    pub fn is_done(&self) -> bool {
        self.workers.are_done()
    }

    /// Begins no more from now on.
    pub fn begin_to_finish(&self) {
        self.shared.finish.store(true, Ordering::Relaxed);
    }

    /// Begins no more, waits for those under way, and returns the counts.
    pub fn finish(mut self) -> Result<RequestCounts> {
        self.begin_to_finish();
        wait_until(self.patience * 2 + Duration::from_secs(5), || self.workers.are_done());
        self.workers.stop();
        self.workers.join()?;
        Ok(self.counts())
    }
}

/// The work of a thread: takes the next number, waits for its time, makes the request.
fn run(thread: usize, options: &RequestsOptions, shared: &Shared, begin: Instant, stop: &AtomicBool) {
    let over = || {
        stop.load(Ordering::Relaxed)
            || shared.finish.load(Ordering::Relaxed)
            || begin.elapsed() >= options.limit
    };
    loop {
        let number = shared.begun.fetch_add(1, Ordering::Relaxed);
        let due = if options.rate == 0 { 0.0 } else { number as f64 / f64::from(options.rate) };
        let due = begin + Duration::from_secs_f64(due);
        while !over() && Instant::now() < due {
            std::thread::sleep(due.saturating_duration_since(Instant::now()).min(TICK));
        }
        if number >= options.count || over() {
            shared.begun.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // Under the lock: who looks later knows of all that were begun before.
        let begun = {
            let mut book = lock(&shared.book);
            *book.under_way[thread].insert(Instant::now())
        };
        let mut from = None;
        let result = request(options, number, stop, &mut from);
        let took = begun.elapsed();
        let mut book = lock(&shared.book);
        let (outcome, bytes) = match result {
            Ok((host, bytes)) => {
                book.ok += 1;
                let host = key(&book.hosts, &host);
                *book.hosts.entry(host.clone()).or_default() += 1;
                (Outcome::Ok(host), bytes)
            }
            Err(why) => {
                book.failed += 1;
                let why = key(&book.reasons, &why);
                *book.reasons.entry(why.clone()).or_default() += 1;
                (Outcome::Failed(why), 0)
            }
        };
        book.log.push(Request { begun, took, bytes, outcome, from });
        book.under_way[thread] = None;
    }
}

/// The text as it is in `map` already, so that the log holds each text once.
fn key(map: &BTreeMap<Arc<str>, u64>, text: &str) -> Arc<str> {
    map.get_key_value(text).map_or_else(|| text.into(), |(key, _)| key.clone())
}

/// Makes a request and returns the host's name and the length of the body; `from`: the client's end of the connection.
fn request(
    options: &RequestsOptions,
    number: u64,
    stop: &AtomicBool,
    from: &mut Option<SocketAddr>,
) -> Result<(String, u64), String> {
    let text = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            if error.raw_os_error() != Some(libc::ETIMEDOUT) =>
        {
            format!("no answer within {:?}", options.patience)
        }
        _ => reason(&error),
    };
    let end = Instant::now() + options.patience;
    let sources = &options.sources;
    let source = if sources.is_empty() { None } else { Some(sources[number as usize % sources.len()]) };
    let socket = client_socket(Type::STREAM, Protocol::TCP, options.target, source).map_err(text)?;
    let connected = socket.connect_timeout(&options.target.into(), options.patience);
    // The kernel keeps what it has chosen, whatever became of it.
    *from = socket.local_addr().ok().and_then(|address| address.as_socket()).filter(|from| from.port() != 0);
    connected.map_err(text)?;
    let mut stream = TcpStream::from(socket);
    let ask =
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", options.path, options.target);
    stream.write_all(ask.as_bytes()).map_err(text)?;

    // The head and the first line of the body are kept, of the rest only the length.
    let mut kept = Vec::new();
    let mut total = 0;
    let mut buffer = [0; 64 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || stop.load(Ordering::Relaxed) {
            return Err(format!("no complete answer within {:?}", options.patience));
        }
        stream.set_read_timeout(Some(left)).map_err(text)?;
        let length = stream.read(&mut buffer).map_err(text)?;
        if length == 0 {
            break;
        }
        total += length as u64;
        let room = (16_usize << 10).saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..length.min(room)]);
    }
    let head = kept.windows(4).position(|window| window == b"\r\n\r\n").ok_or("answer without a head")?;
    let body = &kept[head + 4..];
    let head = String::from_utf8_lossy(&kept[..head]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    if status != "200" {
        return Err(format!("status {status}"));
    }
    let headers = lines.filter_map(|line| line.split_once(": ")).collect::<Vec<_>>();
    let header =
        |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let length = total - (head.len() + 4) as u64;
    if header("content-length").and_then(|text| text.parse().ok()).is_some_and(|said: u64| said != length) {
        return Err("answer cut short".into());
    }
    let host = header("x-host").map(str::to_owned);
    let host = host.or_else(|| {
        body.split(|&byte| byte == b'\n').next().map(|l| String::from_utf8_lossy(l).into_owned())
    });
    Ok((host.unwrap_or_default(), length))
}
