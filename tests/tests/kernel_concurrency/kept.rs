//! Two CPUs play whole lives of flows in two buckets: no packet of a live connection goes to another host than the ones
//! before it, whatever the other CPU, the sweep and the publications do.

use std::ops::Range;

use lb_common::layout::HostId;
use sluice_tests::rig::{Random, Runner, XDP_DROP, XDP_TX, lasting, stay_on, timeout, two_cpus};

use super::cast::{Cast, Flow, UDP, host_of};
use super::daemon::{Board, Daemon, Owners};

/// Numbers of the TCP flows of one thread only; the same number of UDP flows are a quarter of it.
const OWN: [Range<usize>; 2] = [0..16, 16..32];
/// TCP flows that both threads keep alive.
const LASTING: Range<usize> = 32..40;
/// TCP flows that both threads throw any packet at.
const WILD: Range<usize> = 40..48;
const OWN_UDP: [Range<usize>; 2] = [48..52, 52..56];
const WILD_UDP: Range<usize> = 56..60;

/// Between the thread's look at the clock and the program's some seconds may pass, not more than these at a time.
const MARGIN: u32 = 5;

/// Seconds for which every other flow is silent, by turns.
const SILENT: u32 = timeout::ESTABLISHED * 3 / 2;

/// What a thread knows of a flow.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    /// The next packet is a SYN.
    None,
    HalfOpen,
    Established,
    /// Closed by a FIN.
    Closing,
    /// Ended by a RST.
    Reset,
    /// It may be alive or not, so it is left alone for longer than every timeout.
    Resting,
}

/// A connection as its client sees it.
#[derive(Debug, Clone, Copy)]
struct Connection {
    flow: Flow,
    life: Life,
    host: HostId,
    sequence: u32,
    /// Second before the last packet was sent.
    last: u32,
}

#[derive(Debug, Default)]
struct Tally {
    packets: u64,
    /// Packets whose host was known before.
    checked: u64,
    begun: u64,
    refused: u64,
    /// A retransmitted SYN that found no pin: the first one was forwarded in a settled slot without one.
    begun_again: u64,
    rested: u64,
}

struct Client<'b> {
    board: &'b Board,
    runner: Runner,
    random: Random,
    /// Pins may have to go for others.
    crowded: bool,
    tally: Tally,
}

impl Client<'_> {
    /// Sends a frame; the host that got it, if any.
    fn send(&mut self, flow: &Flow, frame: &[u8]) -> Option<HostId> {
        let (verdict, out) = self.runner.run(frame);
        self.tally.packets += 1;
        if verdict == XDP_DROP {
            return None;
        }
        assert_eq!(verdict, XDP_TX, "{flow:?}");
        let host = host_of(&out);
        assert!(flow.has(host), "another flow's host, {host}, was handed a packet of {flow:?}");
        Some(host)
    }

    /// Sends what must go where the connection is, which lives on like that.
    fn send_on(&mut self, of: &mut Connection, frame: &[u8], life: Life) {
        let before = self.board.now();
        let host = self.send(&of.flow, frame);
        self.tally.checked += 1;
        if self.is_late(of) {
            // It was alive when the thread looked, but maybe not when the packet came.
            self.rest(of);
            return;
        }
        assert_eq!(
            host,
            Some(of.host),
            "a packet of a live connection, {} s after the one before: {of:?}",
            self.board.now() - of.last
        );
        (of.life, of.last) = (life, before);
    }

    /// Leaves a connection alone from now on, as the last packet may have come at any time until now.
    fn rest(&mut self, of: &mut Connection) {
        self.tally.rested += 1;
        (of.life, of.last) = (Life::Resting, self.board.now());
    }

    /// Whether the connection may have been too silent, by now.
    fn is_late(&self, of: &Connection) -> bool {
        let timeout = match of.life {
            Life::HalfOpen => timeout::HALF_OPEN,
            Life::Closing | Life::Reset => timeout::CLOSING,
            _ => timeout::ESTABLISHED,
        };
        self.board.now() - of.last + MARGIN > timeout
    }

    /// One step in the life of a connection that is this thread's alone.
    fn step(&mut self, of: &mut Connection) {
        let flow = of.flow;
        if of.life == Life::Resting {
            if self.board.now() - of.last > timeout::ESTABLISHED + 2 * MARGIN {
                of.life = Life::None;
            }
            return;
        }
        if of.life != Life::None && self.is_late(of) {
            self.rest(of);
            return;
        }
        let dice = self.random.below(100);
        match of.life {
            Life::None => self.begin(of),
            Life::HalfOpen if dice < 20 => self.begin_again(of),
            Life::HalfOpen if self.crowded => {
                // The pin may have had to go; the server that answers the handshake's end is where the flow is.
                let before = self.board.now();
                if let Some(host) = self.send(&flow, &flow.ack(of.sequence + 1)) {
                    (of.host, of.life, of.last) = (host, Life::Established, before);
                }
            }
            Life::HalfOpen => {
                self.send_on(of, &flow.ack(of.sequence + 1), Life::Established);
            }
            // Blind, with another sequence number. Where pins may go, it can begin a flow.
            Life::Established if dice < 5 && !self.crowded => {
                self.send_on(of, &flow.syn(of.sequence ^ 1 << 30), Life::Established);
            }
            Life::Established if dice < 12 => {
                self.send_on(of, &flow.fin(of.sequence + 1), Life::Closing);
            }
            Life::Established if dice < 15 => {
                self.send_on(of, &flow.rst(of.sequence + 1), Life::Reset);
            }
            Life::Established => self.send_on(of, &flow.ack(of.sequence + 1), Life::Established),
            Life::Closing | Life::Reset if dice < 40 && !self.crowded => {
                // The FIN or RST was not the client's.
                self.send_on(of, &flow.ack(of.sequence + 100), Life::Established);
            }
            Life::Closing if dice < 60 && !self.crowded => {
                // The acknowledgement of the server's FIN: after 10 bytes and the FIN.
                self.send_on(of, &flow.ack(of.sequence + 12), Life::Closing);
            }
            _ => of.life = Life::None,
        }
    }

    fn begin(&mut self, of: &mut Connection) {
        of.sequence = of.sequence.wrapping_add(0x0100_0000) & 0x7fff_ffff;
        let before = self.board.now();
        let owners = self.board.owners(&of.flow);
        let Some(host) = self.send(&of.flow, &of.flow.syn(of.sequence)) else {
            self.tally.refused += 1;
            return;
        };
        let after = self.board.owners(&of.flow);
        assert!(
            Owners::may_be(owners, after, host),
            "a new flow went to {host}, the owner was {owners:?}, then {after:?}: {of:?}"
        );
        self.tally.begun += 1;
        (of.host, of.life, of.last) = (host, Life::HalfOpen, before);
    }

    /// The same SYN once more.
    fn begin_again(&mut self, of: &mut Connection) {
        let before = self.board.now();
        let owners = self.board.owners(&of.flow);
        let host = self.send(&of.flow, &of.flow.syn(of.sequence));
        let after = self.board.owners(&of.flow);
        if host == Some(of.host) {
            of.last = before;
            return;
        }
        // The first one was forwarded in a settled slot without a pin, or its pin had to go.
        self.tally.begun_again += 1;
        match host {
            Some(host) => {
                assert!(Owners::may_be(owners, after, host), "{of:?} went to {host}");
                (of.host, of.last) = (host, before);
            }
            None => of.life = Life::None,
        }
    }

    /// Any packet of a flow that the other thread plays with, too.
    fn throw(&mut self, flow: &Flow) {
        let sequence = self.random.below(4) << 20;
        let frame = if flow.protocol == UDP {
            flow.datagram()
        } else {
            match self.random.below(8) {
                0..2 => flow.syn(sequence),
                2..5 => flow.ack(sequence + 1),
                5 => flow.fin(sequence + 1),
                6 => flow.ack(sequence + 12),
                _ => flow.rst(sequence + 1),
            }
        };
        self.send(flow, &frame);
    }
}

/// Plays for as long as the board says. `lasting` are connections of both threads.
fn play(client: &mut Client, cast: &[Flow], thread: usize, lasting: &[Connection]) {
    let life = |flow: &Flow| Connection { flow: *flow, life: Life::None, host: 0, sequence: 0, last: 0 };
    let mut own: Vec<Connection> = cast[OWN[thread].clone()].iter().map(life).collect();
    let mut lasting = lasting.to_vec();
    let wild: Vec<Flow> = [&cast[WILD], &cast[WILD_UDP], &cast[OWN_UDP[thread].clone()]].concat();
    while !client.board.is_over() {
        match client.random.below(8) {
            0..5 => {
                // The other half is silent for a while, so that pins age.
                let half = (client.board.now() / SILENT % 2) as usize;
                let which = 2 * client.random.below(own.len() as u32 / 2) as usize + half;
                client.step(&mut own[which]);
            }
            5..7 => {
                let which = client.random.below(lasting.len() as u32) as usize;
                let of = &mut lasting[which];
                if of.life == Life::Resting || client.is_late(of) {
                    // This thread was away for long: it does not know what became of it.
                    client.tally.rested += u64::from(of.life != Life::Resting);
                    of.life = Life::Resting;
                } else {
                    let frame = of.flow.ack(of.sequence + 1);
                    client.send_on(of, &frame, Life::Established);
                }
            }
            _ => {
                let flow = *client.random.one_of(&wild);
                client.throw(&flow);
            }
        }
    }
}

/// `overflow`: entries of the overflow map.
fn run(overflow: u32, crowded: bool) {
    let cpus = two_cpus();
    let mut cast = Cast::new(overflow);
    let board = Board::new(&cast);
    let flows = cast.flows.clone();
    let runners = [cast.rig.runner(), cast.rig.runner()];
    let lasting_connections: Vec<Connection> = flows[LASTING]
        .iter()
        .map(|flow| {
            let (verdict, out) = runners[0].run(&flow.syn(1));
            assert_eq!((verdict, host_of(&out)), (XDP_TX, flow.host(0)));
            runners[0].run(&flow.ack(2));
            Connection {
                flow: *flow,
                life: Life::Established,
                host: flow.host(0),
                sequence: 1,
                last: board.now(),
            }
        })
        .collect();
    let mut daemon = Daemon::new(&board, &cast, crowded);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> = runners
            .into_iter()
            .enumerate()
            .map(|(thread, runner)| {
                let (board, flows, lasting) = (&board, &flows, &lasting_connections);
                scope.spawn(move || {
                    let _ends = board.ends();
                    stay_on(cpus[thread]);
                    let random = Random(0x9e37_79b9_7f4a_7c15 + thread as u64);
                    let mut client = Client { board, runner, random, crowded, tally: Tally::default() };
                    play(&mut client, flows, thread, lasting);
                    client.tally
                })
            })
            .collect();
        daemon.run(&mut cast, lasting(6));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let counts = cast.rig.counts();
    let evicted: u64 = counts.pairs.values().map(|counters| counters.evicted).sum();
    println!("{:?}\n{tallies:?}\n{evicted} evicted, {:?}", daemon.done, counts.reasons);
    for tally in &tallies {
        assert!(tally.checked > 1000 && tally.begun > 100, "the threads came to work: {tally:?}");
    }
    assert!(daemon.done.opened > 10 && daemon.done.expired > 10, "{:?}", daemon.done);
    if crowded {
        // A flow that finds no place keeps all handovers open.
        assert!(evicted > 100, "pins had to go");
    } else {
        assert!(daemon.done.closed > 0, "handovers came and went: {:?}", daemon.done);
        assert_eq!(evicted, 0, "there was room for all");
    }
    cast.ends();
}

#[test]
fn connections_stay_where_they_are() {
    run(256, false);
}

#[test]
fn connections_stay_where_they_are_in_a_full_table() {
    run(24, true);
}
