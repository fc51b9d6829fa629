//! Floods: packets that no connection is behind, from a socket that sends frames as they are.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_userspace::speak::Speaker;

use crate::packets::Packet;
use crate::rig::Random;
use crate::topology::Namespace;

/// Packets a second: far more than all else, and few enough to leave the machine to others as well.
const RATE: f64 = 8000.0;

/// It ends by itself then: on a machine that is slow anyway nobody might come to end it.
const LONGEST: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Syns,
    Garbage,
}

/// Where frames leave, and to whom.
#[derive(Debug, Clone)]
pub struct Path {
    pub ns: Namespace,
    pub interface: String,
    pub macs: ([u8; 6], [u8; 6]),
    pub targets: Vec<SocketAddr>,
}

/// A flood that goes on until it is dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl Flood {
    pub fn start(path: &Path, kind: Kind, seed: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, told) = (path.clone(), stop.clone());
        let ns = path.ns.clone();
        let thread = ns.start("flood", move || pour(&path, kind, Random(seed | 1), &told))?;
        Ok(Flood { stop, thread: Some(thread) })
    }

    /// Ends it and says what went wrong.
    pub fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a flood ends once")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // An error was not asked for.
            let _ = thread.join();
        }
    }
}

fn pour(path: &Path, kind: Kind, mut random: Random, stop: &AtomicBool) -> Result<()> {
    let speaker = Speaker::open().context("cannot open a socket for frames")?;
    let index = nix::net::if_::if_nametoindex(path.interface.as_str())
        .with_context(|| format!("there is no {}", path.interface))?;
    let begun = Instant::now();
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) && begun.elapsed() < LONGEST {
        let due = (begun.elapsed().as_secs_f64() * RATE) as u64;
        while sent < due {
            let frame = match kind {
                Kind::Syns => syn(path, &mut random).build(),
                Kind::Garbage => garbage(path, &mut random),
            };
            // A queue that is full is what a flood makes.
            let _ = speaker.send_frame(index, &frame);
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// From anybody but a client, a host, and addresses that nobody can have.
fn syn(path: &Path, random: &mut Random) -> Packet {
    let target = *random.one_of(&path.targets);
    let (number, port) = (random.below(1 << 24), 1024 + random.below(60_000) as u16);
    let source = match target {
        SocketAddr::V4(_) => Ipv4Addr::from(45 << 24 | number).into(),
        SocketAddr::V6(_) => {
            let [high, low] = [(number >> 16) as u16, number as u16];
            Ipv6Addr::new(0x2a00, 0x45, high, low, 0, 0, 0, 1).into()
        }
    };
    let sequence = random.below(u32::MAX);
    Packet::tcp(SocketAddr::new(source, port), target).macs(path.macs.0, path.macs.1).syn(sequence)
}

/// A packet for a service, or what is left of one: with any flags, in fragments, cut short, with bytes of chance in its headers.
fn garbage(path: &Path, random: &mut Random) -> Vec<u8> {
    let packet = syn(path, random);
    let mut frame = match random.below(4) {
        0 => packet.tcp_header(|header| (header.fin, header.rst, header.psh) = (true, true, true)).build(),
        1 => packet.payload(&[7; 64]).part(8 * random.below(4) as usize, 24, true),
        2 => packet.ttl(1).build(),
        _ => packet.rst().build(),
    };
    for _ in 0..random.below(4) {
        // Behind the addresses of the link, so that it arrives.
        let at = 12 + random.below(frame.len() as u32 - 12) as usize;
        frame[at] = random.below(256) as u8;
    }
    if random.below(4) == 0 {
        frame.truncate(14 + random.below(frame.len() as u32 - 14) as usize);
    }
    frame
}
