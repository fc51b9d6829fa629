//! `sluice plan`: what if?

use anyhow::anyhow;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::api::types::{DrainPlan, PlanRequest};

use super::drain::percent_arg;
use super::output::Out;
use super::terminal::Style;
use super::{Exit, Failure, Global, after_help, render};

/// Show what a command would do, without doing it
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct PlanArgs {
    #[command(subcommand)]
    pub command: PlanCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum PlanCommand {
    Drain(PlanDrainArgs),
}

/// What would draining these hosts do: slots, flows, the load of those that stay, and rules that it would break
///
/// Nothing is changed. Loads come from the last second's traffic: new flows go over at once, packets and bytes as
/// the flows on the drained hosts end. The exit code is 10 if a rule of the config would be broken.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct PlanDrainArgs {
    /// Names of the hosts, as in the config, @GROUP or @zone:ZONE
    #[arg(required = true, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub hosts: Vec<String>,
    /// For this service alone. Default: for all
    #[arg(long, value_name = "NAME", conflicts_with = "share", value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
    /// For these clients alone, an address or a prefix. Default: for all
    #[arg(long, value_name = "CIDR", conflicts_with = "share", value_parser = NonEmptyStringValueParser::new())]
    pub clients: Option<String>,
    /// Of so much of the hosts' slots only, 1% to 99%. Default: of all
    #[arg(long, value_name = "PERCENT", value_parser = percent_arg)]
    pub share: Option<u8>,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice plan drain web-3 web-4
  sluice plan drain @rack-7 --json
  sluice plan drain web-3 --service api --clients 10.0.0.0/8";

pub fn run(global: &Global, args: &PlanArgs) -> Result<(), Failure> {
    let PlanCommand::Drain(args) = &args.command;
    super::block_on(async {
        let (mut out, style) = (Out::stdout(), Style::stdout());
        let body = PlanRequest {
            hosts: args.hosts.clone(),
            service: args.service.clone(),
            clients: args.clients.clone(),
            share: args.share,
        };
        let plan: DrainPlan = global.client().post("/v1/plan/drain", &body).await?;
        if args.json {
            out.json(&plan, true)?;
        } else {
            out.print(&render::plan::plan(&plan, style))?;
        }
        match plan.rules.len() {
            0 => Ok(()),
            n => {
                let rules = render::number::plural(n as u64, "rule");
                let failure = Failure::new(Exit::Rule, anyhow!("this drain would break {rules}"));
                Err(failure.hint("`sluice drain` refuses it unless it is given --force"))
            }
        }
    })
}
