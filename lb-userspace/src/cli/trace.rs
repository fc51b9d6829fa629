//! `sluice trace`: what the data path does with packets, as it does it.

use clap::Args;

use super::output::Out;
use super::render::trace::Lines;
use super::terminal::Style;
use super::traced::{Taker, WhichArgs, follow};
use super::{Failure, Global, after_help};
use crate::api::types::{TraceCounted, TraceMessage, TracedPacket};
use crate::trace::{MOST_RATE, RATE};

/// Show packets as they go by, each with the decision about it
///
/// While somebody traces, another program is attached that shows what is asked for and hands all else to the one for traffic; no
/// decision changes by it. Packets beyond the rate are not shown but counted, so a flood is safe to look at. A filter by service, host,
/// reason or verdict takes the longer way through the program for all packets that the rest of the filter lets through. At most
/// four can trace at once.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct TraceArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// Show at most so many packets a second
    #[arg(long, value_name = "N", default_value_t = RATE, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_RATE)))]
    pub rate: u32,
    /// Print JSON for programs: a message a line, the last has counts
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice trace tcp --client 198.51.100.7
  sluice trace --service web --reason forward_new --sample 100 --count 20 --for 30s
  sluice trace --verdict drop --json | jq -r .reason";

pub fn run(global: &Global, args: &TraceArgs) -> Result<(), Failure> {
    let request = args.which.request(args.rate, 0);
    let printer =
        || Ok(Printer { is_json: args.json, lines: Lines::new(Style::stdout()), out: Out::stdout() });
    super::block_on(follow(&global.client(), &args.which, &request, printer))
}

struct Printer {
    is_json: bool,
    lines: Lines,
    out: Out,
}

impl Taker for Printer {
    fn take(&mut self, packet: TracedPacket) -> Result<bool, Failure> {
        if self.is_json {
            self.out.json(&TraceMessage::Packet(Box::new(packet)), false)?;
        } else {
            self.out.print(&self.lines.line(&packet))?;
        }
        Ok(!self.out.is_closed())
    }

    fn end(&mut self, counted: &TraceCounted) -> Result<(), Failure> {
        if self.is_json { self.out.json(&TraceMessage::Counts(*counted), false) } else { Ok(()) }
    }
}
