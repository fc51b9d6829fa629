//! `sluice capture`: packets in and out, written for Wireshark with the decision about each.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use lb_common::layout::TRACE_BYTES;
use pcap_file::PcapError;

use super::traced::{Taker, WhichArgs, follow};
use super::{Exit, Failure, Global, after_help};
use crate::api::types::{TraceCounted, TracedPacket};
use crate::trace::MOST_RATE;
use crate::trace::pcapng::Capture;

/// Write packets to a capture file, as they came and as they left, with the decision about each
///
/// The file is a pcapng: Wireshark and tshark show the decision as the comment of the packet (`frame.comment`), and whether it came in or
/// left. For what it costs and how many can look at once see `sluice trace`. Packets of users are in the file: treat it so.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct CaptureArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// The file; - for standard output, as for a pipe into tshark
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub file: PathBuf,
    /// Keep so many bytes of each frame
    #[arg(short, long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(LEAST..=TRACE_BYTES as i64))]
    pub snaplen: u32,
    /// Capture at most so many packets a second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_RATE)))]
    pub rate: u32,
    /// End before the file is longer, MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_size: u64,
}

/// Bytes of a frame that are worth keeping: an Ethernet header.
const LEAST: i64 = 14;
/// Bytes of one packet in the file at most, beside those of its frames.
const ROOM: u64 = 8192;

const EXAMPLES: &str = "  \
  sluice capture -w web.pcapng --service web --for 30s
  sluice capture -w drops.pcapng --verdict drop --snaplen 1600 --count 100
  sluice capture -w - tcp --client 198.51.100.7 | tshark -r - -T fields -e frame.comment";

pub fn run(global: &Global, args: &CaptureArgs) -> Result<(), Failure> {
    let request = args.which.request(args.rate, args.snaplen);
    super::block_on(follow(&global.client(), &args.which, &request, || writer(args)))
}

/// Begins the file, which loses what it had.
fn writer(args: &CaptureArgs) -> Result<Writer, Failure> {
    let name = args.file.display().to_string();
    let file: Box<dyn Write> = if args.file == Path::new("-") {
        Box::new(io::stdout())
    } else {
        let mut options = OpenOptions::new();
        // What users sent is not for everybody.
        options.write(true).create(true).truncate(true).mode(0o600);
        Box::new(options.open(&args.file).with_context(|| format!("cannot write {name}"))?)
    };
    let mut writer = Writer {
        capture: Capture::begin(BufWriter::new(file), args.snaplen).map_err(|error| failed(&name, error))?,
        name,
        most: (args.max_size << 20).saturating_sub(ROOM + 2 * u64::from(args.snaplen)),
    };
    // A reader of a pipe waits for it.
    writer.flush()?;
    Ok(writer)
}

struct Writer {
    capture: Capture<BufWriter<Box<dyn Write>>>,
    name: String,
    most: u64,
}

impl Writer {
    /// Whether somebody still reads it.
    fn flush(&mut self) -> Result<bool, Failure> {
        match self.capture.writer().flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(failed(&self.name, PcapError::IoError(error))),
            Ok(()) => Ok(true),
        }
    }
}

impl Taker for Writer {
    fn take(&mut self, packet: TracedPacket) -> Result<bool, Failure> {
        match self.capture.packet(&packet) {
            Err(PcapError::IoError(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(failed(&self.name, error)),
            Ok(_) => {}
        }
        // As others look at it while it grows.
        Ok(self.flush()? && self.capture.written() <= self.most)
    }

    fn end(&mut self, _: &TraceCounted) -> Result<(), Failure> {
        self.flush().map(drop)
    }
}

fn failed(name: &str, error: PcapError) -> Failure {
    Failure::new(Exit::Failed, anyhow!(error).context(format!("cannot write {name}")))
}
