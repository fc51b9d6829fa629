//! `sluice flows`: the live flows, page by page.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::api::client::{Client, ClientError, target};
use crate::api::types::{FlowPhase, Flows};

use super::output::Out;
use super::render::flows::{Pages, none};
use super::terminal::Style;
use super::{Failure, Global, after_help};

/// List the live flows
///
/// The table changes while it is read: a flow that begins or ends meanwhile may be missing or shown. AGE and
/// IDLE are since the flow's first and last packet.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct FlowsArgs {
    /// Only flows on this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only flows of this service
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Only flows of these clients: an address or a prefix
    #[arg(long, value_name = "CIDR")]
    pub client: Option<String>,
    /// Only flows in this phase
    #[arg(long, value_enum)]
    pub phase: Option<FlowPhase>,
    /// Only flows that began at least so long ago
    #[arg(long, value_name = "TIME", value_parser = super::duration_arg)]
    pub older: Option<Duration>,
    /// Only flows that have been silent for at least so long
    #[arg(long, value_name = "TIME", value_parser = super::duration_arg)]
    pub idle: Option<Duration>,
    /// At most this many flows; default: all
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Print JSON for programs: the API's body, all pages as one
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice flows --host web-3
  sluice flows --client 10.0.0.0/8 --phase established --older 1h
  sluice flows --json | jq -r .flows[].client";

/// Flows asked for at a time: some 200 KB of JSON.
const PAGE: u64 = 1000;

async fn page(
    client: &Client,
    args: &FlowsArgs,
    limit: u64,
    cursor: Option<u64>,
) -> Result<Flows, ClientError> {
    let query = [
        ("host", args.host.clone()),
        ("service", args.service.clone()),
        ("client", args.client.clone()),
        ("phase", args.phase.and_then(|phase| Some(phase.to_possible_value()?.get_name().to_owned()))),
        ("min_age", args.older.map(|time| time.as_secs().to_string())),
        ("min_idle", args.idle.map(|time| time.as_secs().to_string())),
        ("limit", Some(limit.to_string())),
        ("cursor", cursor.map(|c| c.to_string())),
    ];
    let query = query.into_iter().filter_map(|(name, value)| Some((name, value?)));
    client.get(&target("/v1/flows", query)).await
}

pub fn run(global: &Global, args: &FlowsArgs) -> Result<(), Failure> {
    super::block_on(async {
        let (client, mut out, style) = (global.client(), Out::stdout(), Style::stdout());
        let mut sink = if args.json { Sink::Json } else { Sink::Table(Pages::new(style)) };
        let (mut left, mut seen, mut cursor) = (args.limit.unwrap_or(u64::MAX), 0, None);
        let next = loop {
            let mut body = page(&client, args, left.min(PAGE), cursor).await?;
            // A daemon that gives more than was asked for must not make us break our own promise.
            body.flows.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            let got = body.flows.len() as u64;
            out.print(&sink.page(&body, seen == 0)?)?;
            (left, seen) = (left - got, seen + got);
            match body.next {
                // The same cursor again would never end.
                Some(next) if left > 0 && !out.is_closed() && cursor != Some(next) => cursor = Some(next),
                next => break next,
            }
        };
        match sink {
            Sink::Json => out.print(&format!(
                "{}],\"next\":{}}}\n",
                if seen == 0 { "{\"flows\":[" } else { "\n" },
                number(next)
            )),
            Sink::Table(_) if seen == 0 => {
                out.print(&none(args.host.as_deref(), args.service.as_deref(), style))
            }
            Sink::Table(_) => Ok(()),
        }
    })
}

fn number(n: Option<u64>) -> String {
    n.map_or_else(|| "null".to_owned(), |n| n.to_string())
}

/// Where pages go as they come, so that memory does not grow with the table.
enum Sink {
    Table(Pages),
    /// One document in the form of [`Flows`], a flow a line.
    Json,
}

impl Sink {
    fn page(&mut self, body: &Flows, first: bool) -> Result<String, Failure> {
        if body.flows.is_empty() {
            return Ok(String::new());
        }
        match self {
            Sink::Table(pages) => Ok(pages.page(&body.flows)),
            Sink::Json => {
                let mut text = String::from(if first { "{\"flows\":[" } else { "" });
                for (i, flow) in body.flows.iter().enumerate() {
                    text.push_str(if first && i == 0 { "\n" } else { ",\n" });
                    text += &serde_json::to_string(flow).context("cannot write a flow as JSON")?;
                }
                Ok(text)
            }
        }
    }
}
