//! `sluice kick`: end chosen flows of a host early.

use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use crate::api::types::{Kick, KickRequest};

use super::asked::Asked;
use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, duration_arg, render};

/// End live flows of a host early, so many a second
///
/// Clients of TCP flows get a RST, and the host is told as well; both see "connection reset". Without a filter all flows of the host are
/// meant. A host that is not drained gets new flows meanwhile: drain it first if it is to be rid of them.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct KickArgs {
    /// Name of the host, as in the config
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Only flows of this service
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Only flows of these clients: an address or a prefix
    #[arg(long, value_name = "CIDR")]
    pub clients: Option<String>,
    /// Only flows that began at least so long ago
    #[arg(long, value_name = "TIME", value_parser = duration_arg)]
    pub older_than: Option<Duration>,
    /// Only flows that have been silent for at least so long
    #[arg(long, value_name = "TIME", value_parser = duration_arg)]
    pub idle: Option<Duration>,
    /// Flows a second, so that clients do not come back all at once
    #[arg(long, value_name = "N/s", default_value = "50/s", value_parser = rate_arg)]
    pub rate: u32,
    /// Do not wait until the last one is ended
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub asked: Asked,
}

const EXAMPLES: &str = "  \
  sluice kick web-3 --idle 5m
  sluice kick web-3 --older-than 1h --rate 20/s --reason stuck
  sluice kick web-3 --clients 10.0.0.0/8 --json";

/// Time between two looks.
const POLL: Duration = Duration::from_millis(250);

/// `50/s`, or `50`.
fn rate_arg(text: &str) -> Result<u32, String> {
    match text.strip_suffix("/s").unwrap_or(text).parse() {
        Ok(rate) if rate > 0 => Ok(rate),
        _ => Err("write it like 50/s: flows a second, at least one".to_owned()),
    }
}

pub fn run(global: &Global, args: &KickArgs) -> Result<(), Failure> {
    super::block_on(async {
        let request = KickRequest {
            host: args.host.clone(),
            service: args.service.clone(),
            clients: args.clients.clone(),
            older_than: args.older_than.map(|time| time.as_secs()),
            idle: args.idle.map(|time| time.as_secs()),
            rate: Some(args.rate),
            reason: args.asked.reason.clone(),
            by: args.asked.by.clone(),
        };
        let client = global.client();
        let mut kick: Kick = client.post("/v1/kick", &request).await?;
        let (mut out, mut err) = (Out::stdout(), Out::stderr());
        let (style, err_style) = (Style::stdout(), Style::stderr());
        if !args.asked.json && kick.chosen > 0 {
            out.print(&render::kick::began(&kick, style))?;
        }
        while !args.no_wait && kick.ended_at.is_none() {
            if !args.asked.json && err_style.control {
                err.print(&format!("\r{}\x1b[K", render::kick::progress(&kick, err_style)))?;
            }
            sleep(POLL).await;
            kick = client.get(&format!("/v1/kicks/{}", kick.id)).await?;
        }
        if !args.asked.json && err_style.control && kick.chosen > 0 {
            err.print("\r\x1b[K")?;
        }
        if args.asked.json {
            out.json(&kick, true)
        } else if kick.ended_at.is_some() {
            out.print(&render::kick::ended(&kick, style))
        } else {
            Ok(())
        }
    })
}
