//! A client with many UDP flows to an echo server, each of which accounts for every datagram.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use serde::Serialize;
use socket2::{Protocol, Type};

use super::epoll::{Epoll, READ, sockets_per_thread};
use super::timers::Timers;
use super::{
    LONGEST_NAME, Opening, Reasons, TICK, Workers, by_host, client_socket, lock, reason, since, wait_until,
    widen,
};
use crate::topology::{Losses, Namespace, Topology};

/// Bytes of a flow's receive buffer: what comes while this thread waits for a processor shall not overrun it.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Whom to ask and how often.
#[derive(Debug, Clone)]
pub struct UdpFlowsOptions {
    pub target: SocketAddr,
    /// Taken in turns; with none the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Sockets, each with a port of its own.
    pub flows: usize,
    /// New flows a second, over all.
    pub open_rate: u32,
    /// Time between two datagrams of a flow; the first goes out at once.
    pub interval: Duration,
    /// Payload of a datagram, 16 to 1400 bytes: the flow's number, the datagram's number, zeroes.
    pub payload_bytes: usize,
    /// After this time a datagram without an answer counts as lost.
    pub patience: Duration,
    /// Flows fall silent by themselves after a time in this range; without one they last. A silent flow keeps its
    /// socket, so that its port does not come back as another flow while somebody still knows it.
    pub lifetime: Option<Range<Duration>>,
    /// Open a new flow for each that has fallen silent.
    pub replace: bool,
    /// Nothing more is sent after this time, as by [`UdpFlows::finish`].
    pub limit: Duration,
}

impl UdpFlowsOptions {
    /// 100 flows, a datagram a second, ten seconds of patience, for at most ten minutes.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            sources: Vec::new(),
            flows: 100,
            open_rate: 4000,
            interval: Duration::from_secs(1),
            payload_bytes: 32,
            patience: Duration::from_secs(10),
            lifetime: None,
            replace: false,
            limit: Duration::from_secs(600),
        }
    }
}

/// The flows of a host: those whose first answer came from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UdpHost {
    pub flows: u64,
    pub answers: u64,
}

/// Counts since the start. When the run is over, `sent = answered + lost`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UdpCounts {
    pub flows: u64,
    /// Flows whose lifetime is over.
    pub ended: u64,
    /// Flows whose socket could not be made, or that an ICMP error reached; why is in `reasons`.
    pub errors: u64,
    pub reasons: Reasons,
    /// Datagrams.
    pub sent: u64,
    pub answered: u64,
    pub lost: u64,
    /// Answers to datagrams that had been given up or answered already.
    pub superfluous: u64,
    /// Answers that are not of the flow that they came to, or are no answers at all.
    pub garbled: u64,
    /// Answers from another host than the flow's first one.
    pub moved: u64,
    pub hosts: BTreeMap<String, UdpHost>,
}

/// What must not happen to a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpTrouble {
    /// When the flow's first datagram was sent.
    pub begun: Instant,
    /// Of a loss: when the datagram was sent that has no answer.
    pub at: Instant,
    /// Who answered the flow first, if anybody has.
    pub host: Option<String>,
    pub what: UdpWrong,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UdpWrong {
    /// A datagram has no answer.
    Lost,
    /// Another host answered: this one. Told once for each change.
    Moved(String),
    /// The socket was told of an error.
    Error(String),
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    lost: AtomicU64,
    superfluous: AtomicU64,
    garbled: AtomicU64,
    moved: AtomicU64,
    finish: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    flows: u64,
    errors: u64,
    reasons: Reasons,
    hosts: BTreeMap<String, UdpHost>,
    openings: Vec<Opening>,
    troubles: Vec<UdpTrouble>,
}

/// The running client.
#[derive(Debug)]
pub struct UdpFlows {
    shared: Arc<Shared>,
    patience: Duration,
    workers: Workers,
}

impl UdpFlows {
    /// Begins to send from `ns`, on as many threads as the limit on open files asks for.
    pub fn start(ns: &Namespace, options: &UdpFlowsOptions) -> Result<Self> {
        let length = options.payload_bytes;
        ensure!((16..=1400).contains(&length), "a datagram has 16 to 1400 bytes of payload, not {length}");
        ensure!(options.open_rate > 0, "the rate of new flows must not be 0");
        let shared = Arc::new(Shared::default());
        let count = options.flows.div_ceil(sockets_per_thread()).max(1);
        let mut workers = Workers::default();
        for number in 0..count {
            let (shared, mut options) = (shared.clone(), options.clone());
            options.flows = (options.flows + count - 1 - number) / count;
            let rate = f64::from(options.open_rate) / count as f64;
            let first = (number as u64) << 40;
            let prepare = move || {
                let (epoll, timers, flows) = (Epoll::new()?, Timers::default(), Vec::new());
                Ok(Shard { options, rate, first, ended: 0, epoll, timers, flows, shared })
            };
            workers.add(ns, "udp-flows", prepare, |shard, stop| {
                shard.run(stop);
                Ok(())
            })?;
        }
        Ok(Self { shared, patience: options.patience, workers })
    }

    pub fn counts(&self) -> UdpCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        let book = lock(&shared.book);
        UdpCounts {
            flows: book.flows,
            ended: read(&shared.ended),
            errors: book.errors,
            reasons: book.reasons.clone(),
            // In this order: a datagram is sent before it is answered.
            answered: read(&shared.answered),
            lost: read(&shared.lost),
            sent: read(&shared.sent),
            superfluous: read(&shared.superfluous),
            garbled: read(&shared.garbled),
            moved: read(&shared.moved),
            hosts: book.hosts.clone(),
        }
    }

    /// How many of the flows that were begun after `time` each host answered first.
    pub fn opened_since(&self, time: Instant) -> BTreeMap<String, u64> {
        self.opened_between(time, Instant::now())
    }

    /// How many of the flows that were begun after `from` and not after `to` each host answered first.
    pub fn opened_between(&self, from: Instant, to: Instant) -> BTreeMap<String, u64> {
        by_host(&lock(&self.shared.book).openings, from, to)
    }

    /// The flows that were answered, in the order of their first answers, without the first `from`.
    pub fn openings(&self, from: usize) -> Vec<Opening> {
        since(&lock(&self.shared.book).openings, from)
    }

    /// What went wrong, in the order in which it was noticed, without the first `from`.
    pub fn troubles(&self, from: usize) -> Vec<UdpTrouble> {
        since(&lock(&self.shared.book).troubles, from)
    }

    /// Waits until `done` says so of the counts, at most `limit`; says whether it did.
    pub fn wait_for(&self, limit: Duration, done: impl Fn(&UdpCounts) -> bool) -> bool {
        wait_until(limit, || done(&self.counts()))
    }

    /// Sends nothing more from now on.
    pub fn begin_to_finish(&self) {
        self.shared.finish.store(true, Ordering::Relaxed);
    }

    /// Whether nothing will be sent or awaited any more.
    pub fn is_done(&self) -> bool {
        self.workers.are_done()
    }

    /// Sends nothing more, waits for the answers that are due, at most the patience, and returns the counts.
    pub fn finish(mut self) -> Result<UdpCounts> {
        self.begin_to_finish();
        wait_until(self.patience * 2 + Duration::from_secs(5), || self.workers.are_done());
        self.workers.stop();
        self.workers.join()?;
        Ok(self.counts())
    }

    /// As [`finish`](Self::finish); panics if an error came, or if more datagrams were lost than the machine of `topology` counts as dropped since
    /// `before`: those of rings and buffers that ran over on a busy machine.
    pub fn finish_unlost(self, topology: &Topology, before: &Losses) -> UdpCounts {
        let shared = self.shared.clone();
        let counts = self.finish().expect("the flows ran");
        let dropped = topology.losses().expect("a namespace has counters").since(before);
        if counts.errors > 0 || counts.lost > 0 {
            let now = Instant::now();
            let ago = |trouble: &UdpTrouble| (now - trouble.at, trouble.host.clone(), trouble.what.clone());
            let troubles: Vec<_> = lock(&shared.book).troubles.iter().map(ago).collect();
            eprintln!("{:?}, so long before: {troubles:?}", SystemTime::now());
        }
        assert_eq!(counts.errors, 0, "{counts:?}");
        assert!(counts.lost <= dropped.total(), "more are lost than {dropped:?}: {counts:?}");
        counts
    }
}

struct Flow {
    socket: UdpSocket,
    begun: Instant,
    host: Option<String>,
    /// Who answered last, if not `host`.
    astray: Option<String>,
    next_send: Instant,
    /// When to fall silent.
    end_at: Option<Instant>,
    ended: bool,
    sent: u64,
    /// Numbers and times of datagrams without an answer, oldest first.
    open: VecDeque<(u64, Instant)>,
}

impl Flow {
    fn trouble(&self, at: Instant, what: UdpWrong) -> UdpTrouble {
        UdpTrouble { begun: self.begun, at, host: self.host.clone(), what }
    }
}

struct Shard {
    options: UdpFlowsOptions,
    /// New flows a second.
    rate: f64,
    /// Number of the first flow.
    first: u64,
    /// Flows that have fallen silent.
    ended: usize,
    epoll: Epoll,
    timers: Timers,
    flows: Vec<Option<Flow>>,
    shared: Arc<Shared>,
}

impl Shard {
    fn run(mut self, stop: &AtomicBool) {
        let begun = Instant::now();
        let mut ending = false;
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            ending |= now - begun >= self.options.limit || self.shared.finish.load(Ordering::Relaxed);
            if ending && self.flows.iter().flatten().all(|flow| flow.open.is_empty()) {
                break;
            }
            let allowed = ((now - begun).as_secs_f64() * self.rate) as usize + 1;
            let wanted = self.options.flows + if self.options.replace { self.ended } else { 0 };
            let missing = if ending { 0 } else { wanted.saturating_sub(self.flows.len()) };
            let opening = missing > 0;
            for _ in 0..missing.min(64).min(allowed.saturating_sub(self.flows.len())) {
                self.open(now);
            }
            let limit = if opening { Duration::from_millis(1) } else { TICK };
            for token in self.epoll.wait(self.timers.wait(now, limit)) {
                self.receive(token as usize);
            }
            let now = Instant::now();
            while let Some(index) = self.timers.pop(now) {
                self.at_time(index, now, ending);
            }
        }
        let left = self.flows.iter().flatten().map(|flow| flow.open.len() as u64).sum();
        self.shared.lost.fetch_add(left, Ordering::Relaxed);
    }

    fn open(&mut self, now: Instant) {
        let index = self.flows.len();
        let end_at = self
            .options
            .lifetime
            .as_ref()
            .map(|range| now + range.start + range.end.saturating_sub(range.start).mul_f64(part(index)));
        let flow = self.connect(index).map(|socket| Flow {
            socket,
            begun: now,
            host: None,
            astray: None,
            next_send: now,
            end_at,
            ended: false,
            sent: 0,
            open: VecDeque::new(),
        });
        match flow {
            Ok(flow) => {
                self.flows.push(Some(flow));
                self.timers.set(index, Some(now));
                lock(&self.shared.book).flows += 1;
            }
            Err(error) => {
                self.flows.push(None);
                self.count_error(index, &error);
            }
        }
    }

    fn connect(&self, index: usize) -> io::Result<UdpSocket> {
        let sources = &self.options.sources;
        let source = if sources.is_empty() { None } else { Some(sources[index % sources.len()]) };
        let socket = client_socket(Type::DGRAM, Protocol::UDP, self.options.target, source)?;
        widen(&socket, RECEIVE_BUFFER);
        socket.connect(&self.options.target.into())?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from(socket);
        self.epoll.add(&socket, index as u64, READ)?;
        Ok(socket)
    }

    /// Gives up what is overdue, sends what is due, and sets the next time.
    fn at_time(&mut self, index: usize, now: Instant, ending: bool) {
        let (patience, interval) = (self.options.patience, self.options.interval);
        let Some(flow) = self.flows.get_mut(index).and_then(Option::as_mut) else { return };
        while flow.open.front().is_some_and(|(_, sent)| now >= *sent + patience) {
            if let Some((_, sent)) = flow.open.pop_front() {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                let trouble = flow.trouble(sent, UdpWrong::Lost);
                lock(&self.shared.book).troubles.push(trouble);
            }
        }
        if !flow.ended && flow.end_at.is_some_and(|end| now >= end) {
            flow.ended = true;
            self.ended += 1;
            self.shared.ended.fetch_add(1, Ordering::Relaxed);
        }
        let silent = ending || flow.ended;
        if now >= flow.next_send && !silent {
            // The second datagram comes somewhere in the interval, so that flows do not speak in chorus.
            let pause = if flow.sent == 0 { interval.mul_f64(part(index).max(0.01)) } else { interval };
            flow.next_send = now + pause;
            let number = flow.sent;
            flow.sent += 1;
            let mut payload = vec![0; self.options.payload_bytes];
            payload[..8].copy_from_slice(&(self.first + index as u64).to_be_bytes());
            payload[8..16].copy_from_slice(&number.to_be_bytes());
            flow.open.push_back((number, now));
            self.shared.sent.fetch_add(1, Ordering::Relaxed);
            // An error that an earlier datagram met is told once; this one has not been sent then.
            let result = flow.socket.send(&payload).or_else(|first| {
                self.count_error(index, &first);
                let Some(flow) = &self.flows[index] else { return Err(first) };
                flow.socket.send(&payload)
            });
            if let Err(error) = result {
                self.count_error(index, &error);
            }
        }
        let Some(flow) = &self.flows[index] else { return };
        let overdue = flow.open.front().map(|(_, sent)| *sent + patience);
        let next = if silent {
            overdue
        } else {
            Some(overdue.map_or(flow.next_send, |time| time.min(flow.next_send)))
        };
        self.timers.set(index, next);
    }

    fn receive(&mut self, index: usize) {
        let mut buffer = [0; LONGEST_NAME + 1 + 1500];
        while let Some(flow) = self.flows.get_mut(index).and_then(Option::as_mut) {
            match flow.socket.recv(&mut buffer) {
                Ok(length) => {
                    let answer =
                        parse(&buffer[..length]).filter(|(_, id, _)| *id == self.first + index as u64);
                    let Some((name, _, number)) = answer else {
                        self.shared.garbled.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    enter(flow, name, number, &self.shared);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.count_error(index, &error);
                    return;
                }
            }
        }
    }

    fn count_error(&self, index: usize, error: &io::Error) {
        let mut book = lock(&self.shared.book);
        book.errors += 1;
        *book.reasons.entry(reason(error)).or_default() += 1;
        let (now, what) = (Instant::now(), UdpWrong::Error(reason(error)));
        book.troubles.push(match self.flows.get(index).and_then(Option::as_ref) {
            Some(flow) => flow.trouble(now, what),
            None => UdpTrouble { begun: now, at: now, host: None, what },
        });
    }
}

/// A number from 0 to 1 that is the flow's own.
fn part(index: usize) -> f64 {
    ((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24)
}

/// Enters an answer into the books.
fn enter(flow: &mut Flow, name: &str, number: u64, shared: &Shared) {
    match flow.open.iter().position(|(open, _)| *open == number) {
        Some(position) => {
            flow.open.remove(position);
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        None => {
            shared.superfluous.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut book = lock(&shared.book);
    let host = book.hosts.entry(name.to_owned()).or_default();
    host.answers += 1;
    match &flow.host {
        None => {
            host.flows += 1;
            flow.host = Some(name.to_owned());
            book.openings.push(Opening {
                begun: flow.begun,
                answered: Instant::now(),
                host: name.to_owned(),
                from: None,
            });
        }
        Some(first) if first != name => {
            shared.moved.fetch_add(1, Ordering::Relaxed);
            if flow.astray.as_deref() != Some(name) {
                flow.astray = Some(name.to_owned());
                book.troubles.push(flow.trouble(Instant::now(), UdpWrong::Moved(name.to_owned())));
            }
        }
        Some(_) => flow.astray = None,
    }
}

/// Name of the host, number of the flow and of the datagram.
fn parse(answer: &[u8]) -> Option<(&str, u64, u64)> {
    let end = answer.iter().position(|&byte| byte == b'\n')?;
    let name = std::str::from_utf8(&answer[..end]).ok()?;
    let (id, rest) = answer[end + 1..].split_first_chunk()?;
    let (number, _) = rest.split_first_chunk()?;
    Some((name, u64::from_be_bytes(*id), u64::from_be_bytes(*number)))
}
