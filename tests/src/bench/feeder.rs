//! The feeder of `lb-ebpf`, loaded: test runs over a set of packets.

use anyhow::{Context, Result, ensure};
use aya::maps::{Map, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_userspace::dataplane::Mapped;
use lb_userspace::objects;

use super::frames::{Frame, WORDS};
use super::machine::thread_time;

/// A run of fewer packets is timed by the kernel, in whole nanoseconds a packet; a longer one by this thread's clock.
const SHORT: u32 = 20_000;

/// What the feeder calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// `return XDP_TX`
    Sender,
    /// `return XDP_PASS`
    Passer,
    Tested,
    /// One look-up and refresh of a connection table made of the kernel's LRU hash.
    Reference,
    /// The program under test, with packets from random sources.
    Flood,
}

impl Called {
    fn feeder(self) -> &'static str {
        match self {
            Called::Sender => "feed_sender",
            Called::Passer => "feed_passer",
            Called::Tested => "feed_tested",
            Called::Reference => "feed_reference",
            Called::Flood => "feed_flood",
        }
    }
}

/// All of the feeder's object.
const PROGRAMS: [&str; 8] = [
    "sender",
    "passer",
    "reference",
    "feed_sender",
    "feed_passer",
    "feed_tested",
    "feed_reference",
    "feed_flood",
];

/// The feeder with its maps.
pub struct Feeder {
    ebpf: Ebpf,
    packets: Mapped<[u64; WORDS]>,
    /// Number of packets, length of each, number of the next: see the program.
    feed: Mapped<[u64; 3]>,
    /// Flows that the reference did not find in its table.
    misses: Mapped<u64>,
    /// The first packet of the set, which the first round of a run gets.
    first: Vec<u8>,
    /// Holds the programs that are called; the array is emptied when its last descriptor goes.
    _programs: ProgramArray<aya::maps::MapData>,
}

impl Feeder {
    /// For sets of at most `most` packets.
    pub fn load(tested: &ProgramFd, most: u32) -> Result<Feeder> {
        Feeder::with_reference(tested, most, 1)
    }

    /// The same, with a reference whose table has so many entries.
    pub fn with_reference(tested: &ProgramFd, most: u32, connections: u32) -> Result<Feeder> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("PACKETS", most)
            .map_max_entries("CONNECTIONS", connections)
            .load(objects::FEEDER)
            .context("cannot load the feeder")?;
        for name in PROGRAMS {
            program(&mut ebpf, name)?.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        let mut map =
            |name: &str| ebpf.take_map(name).with_context(|| format!("the feeder has no map {name}"));
        let mut mapped = |name: &'static str| match map(name)? {
            Map::Array(data) => Ok(data),
            _ => anyhow::bail!("the feeder's map {name} is no array"),
        };
        let (packets, feed, misses) = (mapped("PACKETS")?, mapped("FEED")?, mapped("MISSES")?);
        ensure!(
            packets.info()?.value_size() as usize == WORDS * 8,
            "the feeder restores another number of bytes"
        );
        let packets = Mapped::new(packets.fd(), "PACKETS", most)?;
        let feed = Mapped::new(feed.fd(), "FEED", 1)?;
        let misses = Mapped::new(misses.fd(), "MISSES", 1)?;
        let mut programs = ProgramArray::try_from(map("PROGRAMS")?)?;
        programs.set(0, program(&mut ebpf, "sender")?.fd()?, 0)?;
        programs.set(1, program(&mut ebpf, "passer")?.fd()?, 0)?;
        programs.set(2, tested, 0).context("the program under test cannot be called by the feeder")?;
        programs.set(3, program(&mut ebpf, "reference")?.fd()?, 0)?;
        Ok(Feeder { ebpf, packets, feed, misses, first: Vec::new(), _programs: programs })
    }

    /// Takes a set of packets of one length; the next run begins with its first packet.
    pub fn set(&mut self, frames: impl ExactSizeIterator<Item = Frame>) -> Result<()> {
        let count = frames.len();
        for (index, frame) in frames.enumerate() {
            if index == 0 {
                self.first = frame.bytes().to_vec();
            }
            self.packets.set(index as u32, frame.words);
        }
        self.feed.set(0, [count as u64, self.first.len() as u64, 0]);
        Ok(())
    }

    /// Flows so far that the reference did not find in its table.
    pub fn misses(&self) -> u64 {
        self.misses.get(0)
    }

    /// Runs over `packets` packets of the set, on from where the last run ended; nanoseconds a packet.
    pub fn run(&mut self, called: Called, packets: u32) -> Result<(f64, u32)> {
        let program = program(&mut self.ebpf, called.feeder())?;
        // The kernel takes the room for what a program may add from the output's size.
        let mut out = vec![0; self.first.len() + 258];
        let before = thread_time();
        let result = program.test_run(TestRunOptions {
            data_in: Some(&self.first),
            data_out: Some(&mut out),
            repeat: packets,
            ..TestRunOptions::new()
        })?;
        let took = thread_time() - before;
        let ns = if packets < SHORT {
            result.duration.as_nanos() as f64
        } else {
            took.as_nanos() as f64 / f64::from(packets)
        };
        Ok((ns, result.return_value))
    }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the feeder has no program {name}"))?.try_into()?)
}
