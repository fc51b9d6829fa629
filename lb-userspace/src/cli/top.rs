//! `sluice top`: the balancer on one screen, with a keyboard.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use crate::top;

use super::status::interval;
use super::terminal::{is_dumb, no_colour, utf8_locale};
use super::{Exit, Failure, Global, after_help};

/// Watch the balancer on one screen; drain, undrain and plan from the keyboard
///
/// Hosts with their states, rates and live flows; drains with their progress and expected end; health, maintenance runs,
/// shifts and events on pages of their own. d drains the chosen host, u takes it back, p shows what a drain would do; each
/// change is asked for once more, with a reason, and one that would break rules a second time. `/` filters, s sorts,
/// ? lists all keys, q quits. It needs a terminal of 60 columns and 20 lines; NO_COLOR is honoured.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct TopArgs {
    /// Look again every INTERVAL; what happens meanwhile is shown at once
    #[arg(short, long, value_name = "INTERVAL", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Why, for drains and undrains; another reason can be typed with each
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who asks; default: the user that runs this command
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

const EXAMPLES: &str = "  \
  sluice top
  sluice top --interval 5s --by alice
  sluice top --reason update";

pub fn run(global: &Global, args: &TopArgs) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(no_terminal(global, "standard input and output are not a terminal"));
    }
    if is_dumb() {
        return Err(no_terminal(global, "this terminal cannot be drawn on (TERM is dumb or not set)"));
    }
    top::run(
        global.client(),
        top::Settings {
            command: global.command(),
            by: args.by.clone(),
            reason: args.reason.clone().unwrap_or_default(),
            every: args.interval,
            colour: !no_colour(),
            ascii: !utf8_locale(),
        },
    )
}

fn no_terminal(global: &Global, why: &str) -> Failure {
    let command = global.command();
    Failure::new(Exit::Usage, anyhow!("{why}")).hint(format!(
        "`{command} status` prints the same figures once, `{command} status --watch` again and again"
    ))
}
