//! New clients in the midst of a flood, each in real time: SYN, the handshake's end a round trip later, a SYN that was dropped
//! again after a second, two, four (RFC 6298).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use lb_common::layout::HostId;
use sluice_tests::rig::Runner;

use super::site::{Client, DRAINING, Frames, send};

/// From a client's SYN to what it sends next.
pub const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Until a SYN without an answer is sent again; each time twice as long.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// Clients that are under way at once.
const AT_ONCE: u32 = 500;

/// What became of the clients whose slots are settled, or in handover.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// SYNs were sent again so many times: by that number, the clients that got in so.
    pub retries: [u32; 8],
    /// The handshake's end went to another host than the SYN.
    pub torn: u32,
}

impl Tally {
    pub fn clients(&self) -> u32 {
        self.retries.iter().sum()
    }
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Syn {
        tries: u32,
    },
    /// The handshake's end, and what follows it.
    Ack {
        tries: u32,
        host: HostId,
        left: u32,
    },
}

/// Clients from number `first` on come for as long as said, as fast as one CPU can send for them; returns when all have got
/// in. Those whose slot is settled, and those whose slot is in handover.
pub fn come(runner: &Runner, frames: &Frames, first: u32, lasting: Duration) -> [Tally; 2] {
    let mut tallies = [Tally::default(), Tally::default()];
    let mut due = BinaryHeap::new();
    let started = Instant::now();
    let mut next = first;
    loop {
        let now = started.elapsed();
        if now < lasting && (due.len() as u32) < AT_ONCE {
            due.push(Reverse((now, next, Step::Syn { tries: 0 })));
            next += 1;
        }
        let Some(&Reverse((at, number, step))) = due.peek() else { break };
        if at > now {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        due.pop();
        let client = Client::new(number);
        let tally = &mut tallies[usize::from(client.is_open())];
        match step {
            Step::Syn { tries } => match send(runner, &frames.syn(client)) {
                Some(host) => {
                    assert_ne!(host, DRAINING, "a new flow on the draining host");
                    due.push(Reverse((now + ROUND_TRIP, number, Step::Ack { tries, host, left: 2 })));
                }
                None => {
                    let patience = FIRST_PATIENCE * 2u32.pow(tries);
                    due.push(Reverse((now + patience, number, Step::Syn { tries: tries + 1 })));
                }
            },
            Step::Ack { tries, host, left } => {
                let came = send(runner, &frames.ack(client)).expect("a packet of a live flow is not dropped");
                if came != host {
                    tally.torn += 1;
                    tally.retries[tries as usize] += 1;
                } else if left > 0 {
                    let step = Step::Ack { tries, host, left: left - 1 };
                    due.push(Reverse((now + ROUND_TRIP, number, step)));
                } else {
                    tally.retries[tries as usize] += 1;
                }
            }
        }
    }
    tallies
}
