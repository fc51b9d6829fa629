//! `sluice drains`: drains in force, how far they are, and what they wait for.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::api::client::{encoded, target};
use crate::api::types::{DrainStatus, Drains};

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, render};

/// Show the drains in force: how far they are, when they will be done, and what they wait for
///
/// The expected end is when 50, 90 and 99 of 100 of the flows that live now will have ended, if flows last as they did in the
/// last hour. The oldest flows are shown, 5 of a host that is named.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct DrainsArgs {
    /// Only this host's drain, in force or the last one
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    /// Only drains for this service alone
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
    /// Only drains for these clients alone
    #[arg(long, value_name = "CIDR", value_parser = NonEmptyStringValueParser::new())]
    pub clients: Option<String>,
    /// Show so many of the oldest flows of each host, 100 at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub blockers: Option<u32>,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice drains
  sluice drains web-3 --service api --blockers 20
  sluice drains web-3 --json | jq .progress.expected_end";

pub fn run(global: &Global, args: &DrainsArgs) -> Result<(), Failure> {
    super::block_on(async {
        let (client, mut out) = (global.client(), Out::stdout());
        let blockers = args.blockers.map(|n| ("blockers", n.to_string()));
        let clients = args.clients.iter().map(|prefix| ("clients", prefix.clone()));
        let asked = args.service.iter().map(|name| ("service", name.clone())).chain(clients).chain(blockers);
        let drains = if let Some(host) = &args.host {
            let path = format!("/v1/drains/{}", encoded(host));
            let drain: DrainStatus = client.get(&target(&path, asked)).await?;
            if args.json {
                return out.json(&drain, true);
            }
            vec![drain]
        } else {
            let mut body: Drains = client.get(&target("/v1/drains", asked)).await?;
            body.drains.retain(|drain| drain.state != "undrained");
            if args.json {
                return out.json(&body, true);
            }
            body.drains
        };
        out.print(&render::progress::drains(&drains, super::now(), Style::stdout()))
    })
}
