//! `sluice explain`: why a packet goes where it goes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;

use super::output::Out;
use super::render::explain::{Pages, in_full};
use super::terminal::Style;
use super::{Exit, Failure, Global, after_help};
use crate::api::client::Client;
use crate::api::types::{
    AskedPacket, DescribedPacket, ExplainProtocol, ExplainRequest, Explained, Explanation,
};
use crate::explain::capture::{self, Captured};
use crate::explain::hex;

/// Tell why a packet goes where it goes
///
/// The daemon runs the very program of the data path over the packet, with the rings, hosts and pins of this moment, and tells what it
/// found and decided. Nothing is sent, no pin is made or kept alive, nothing is counted. Each packet is looked at by itself, so the second one
/// of a capture does not find the pin that the first would make.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES), override_usage = USAGE)]
pub struct ExplainArgs {
    /// Protocol of the packet
    #[arg(value_enum, requires = "from", requires = "to", required_unless_present = "pcap")]
    pub protocol: Option<ExplainProtocol>,
    /// Who sends it, address:port; IPv6 in brackets
    #[arg(value_name = "FROM")]
    pub from: Option<SocketAddr>,
    /// Where to, address:port
    #[arg(value_name = "TO")]
    pub to: Option<SocketAddr>,
    /// Flags of a TCP packet: syn, ack, fin, rst, psh, several with commas; default: ack
    #[arg(long, value_name = "FLAGS")]
    pub flags: Option<String>,
    /// Bytes behind its headers
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub payload: u16,
    /// The packets of a capture file, pcap or pcapng
    #[arg(long, value_name = "FILE", conflicts_with_all = ["protocol", "flags", "payload"])]
    pub pcap: Option<PathBuf>,
    /// At most this many of them; default: all
    #[arg(short = 'n', long, value_name = "N", requires = "pcap", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Each of them in full, and not a line each
    #[arg(long, requires = "pcap")]
    pub long: bool,
    /// The interface that packets come in by; default: the balancer's first
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Print JSON for programs: the API's body, of a capture all bodies as one
    #[arg(long)]
    pub json: bool,
}

const USAGE: &str = "sluice explain [OPTIONS] tcp|udp FROM TO\n       sluice explain [OPTIONS] --pcap FILE";

const EXAMPLES: &str = "  \
  sluice explain tcp 198.51.100.7:40000 203.0.113.10:443 --flags syn
  sluice explain udp [2001:db8::7]:5353 [2001:db8::10]:53 --json
  sluice explain --pcap clients.pcapng";

/// Packets asked about at a time, and bytes of their frames.
const AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 256 << 10;

pub fn run(global: &Global, args: &ExplainArgs) -> Result<(), Failure> {
    let (client, style) = (global.client(), Style::stdout());
    super::block_on(async {
        let mut out = Out::stdout();
        match (&args.pcap, args.protocol, args.from, args.to) {
            (Some(file), ..) => file_of_packets(&client, args, file, &mut out, style).await,
            (None, Some(protocol), Some(from), Some(to)) => {
                let (flags, payload) = (args.flags.clone(), args.payload);
                let packet = DescribedPacket { protocol, from, to, flags, payload };
                let body = ask(&client, args, vec![AskedPacket::Packet(packet)]).await?;
                match body.packets.first() {
                    _ if args.json => out.json(&body, true),
                    Some(told) => out.print(&in_full(told, &body.interface, style)),
                    None => Ok(()),
                }
            }
            _ => Err(Failure::new(Exit::Usage, anyhow!("a packet has a protocol, FROM and TO"))),
        }
    })
}

async fn ask(client: &Client, args: &ExplainArgs, packets: Vec<AskedPacket>) -> Result<Explained, Failure> {
    let request = ExplainRequest { interface: args.interface.clone(), packets };
    Ok(client.post("/v1/explain", &request).await?)
}

async fn file_of_packets(
    client: &Client,
    args: &ExplainArgs,
    file: &Path,
    out: &mut Out,
    style: Style,
) -> Result<(), Failure> {
    let unreadable = |error| anyhow!("cannot read {}: {error}", file.display());
    let packets = capture::open(file).map_err(|error| Failure::new(Exit::Failed, unreadable(error)))?;
    let most = args.limit.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut packets = packets.take(most).peekable();
    let mut pages = Pages::new(style);
    let mut all = Explained { interface: String::new(), packets: Vec::new() };
    let (mut number, mut damage) = (0, None);
    while packets.peek().is_some() && !out.is_closed() {
        // Numbers of those that can be asked about.
        let (mut numbers, mut asked, mut bytes) = (Vec::new(), Vec::new(), 0);
        while asked.len() < AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some(packet) = packets.next() else { break };
            number += 1;
            match packet {
                Ok(Captured::Frame(frame)) => {
                    bytes += frame.len();
                    numbers.push(number);
                    asked.push(AskedPacket::Frame(hex(&frame)));
                }
                Ok(Captured::Unfit(why)) => {
                    Out::stderr().print(&format!("packet {number} is left out: {why}\n"))?;
                }
                Err(error) if number == 1 => return Err(Failure::new(Exit::Failed, unreadable(error))),
                // Nothing comes behind it, and what came before is told.
                Err(error) => damage = Some(anyhow!("{}, behind packet {}", unreadable(error), number - 1)),
            }
        }
        if asked.is_empty() {
            continue;
        }
        let body = ask(client, args, asked).await?;
        if args.json {
            all.interface = body.interface;
            all.packets.extend(body.packets);
            continue;
        }
        for (number, told) in numbers.into_iter().zip(&body.packets) {
            out.print(&line_or_all(&mut pages, args, number, told, &body.interface, style))?;
        }
    }
    if args.json {
        out.json(&all, true)?
    } else {
        out.print(&pages.sum())?
    }
    damage.map_or(Ok(()), |damage| Err(Failure::new(Exit::Failed, damage)))
}

fn line_or_all(
    pages: &mut Pages,
    args: &ExplainArgs,
    number: usize,
    told: &Explanation,
    interface: &str,
    style: Style,
) -> String {
    let line = pages.line(number, told);
    if args.long { format!("{number}: {}\n", in_full(told, interface, style)) } else { line }
}
