//! `sluice undrain`: give hosts their share of new flows back.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::api::types::{Drains, UndrainRequest};

use super::asked::Asked;
use super::drain::once;
use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, duration_arg, itself, render};

/// Put hosts back into service: each owns the very slots that it had before its drain
///
/// All of the hosts or, if anything is wrong with one, none. A drain that is not done yet is taken back;
/// whoever waits for it is told. A host whose share is on its way up gets all of it at once, unless --ramp is
/// given.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct UndrainArgs {
    /// Names of the hosts, as in the config, @GROUP or @zone:ZONE; or `self`: the balancer
    #[arg(required = true, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub hosts: Vec<String>,
    /// Put the hosts back for this service alone. Default: for all
    #[arg(long, value_name = "NAME", conflicts_with = "ramp", value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
    /// Put the hosts back for these clients alone, as their drain names them. Default: for all
    #[arg(long, value_name = "CIDR", conflicts_with = "ramp", value_parser = NonEmptyStringValueParser::new())]
    pub clients: Option<String>,
    /// Give the share back step by step within this time, as long as the host's new flows do not fail: then
    /// the share stays and, if it goes on, the host is drained again. Default: all at once
    #[arg(long, value_name = "DURATION", value_parser = duration_arg)]
    pub ramp: Option<Duration>,
    #[command(flatten)]
    pub asked: Asked,
}

const EXAMPLES: &str = "  \
  sluice undrain web-3 --ramp 5m
  sluice undrain web-3 --clients 10.0.0.0/8
  sluice undrain web-3 web-4 --reason done --json";

pub fn run(global: &Global, args: &UndrainArgs) -> Result<(), Failure> {
    super::block_on(async {
        if itself::is_meant(&args.hosts)? {
            return itself::undrain(global, args).await;
        }
        let (mut out, style) = (Out::stdout(), Style::stdout());
        let body = UndrainRequest {
            hosts: once(&args.hosts),
            reason: args.asked.reason.clone(),
            by: args.asked.by.clone(),
            service: args.service.clone(),
            clients: args.clients.clone(),
            ramp: args.ramp.map(|time| time.as_secs()),
        };
        let answer: Drains = global.client().post("/v1/undrain", &body).await?;
        if args.asked.json {
            return out.json(&answer, true);
        }
        answer.drains.iter().try_for_each(|d| out.print(&render::drain::undrained(d, style)))
    })
}
