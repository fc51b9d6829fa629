//! `sluice detach`: its arguments.

use clap::Args;

use super::output::Out;
use super::{Failure, Global, after_help};
use crate::daemon;

/// End the forwarding of an instance whose daemon has ended
///
/// Takes the XDP program off the interfaces and removes the instance's pinned maps, and with them its flows.
/// A daemon that ends leaves all that in place on purpose, so that no connection notices; this is the way to
/// be rid of it.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct DetachArgs {}

const EXAMPLES: &str = "  \
  sluice detach
  sluice detach --instance lab";

/// Says whether there was anything to end.
pub fn run(global: &Global, _args: &DetachArgs) -> Result<(), Failure> {
    let found = daemon::detach(&global.instance, &global.socket())?;
    let said = if found { "detached: forwarding has ended" } else { "nothing was attached" };
    Out::stdout().print(&format!("{}: {said}\n", global.instance))
}
