//! `sluice detach`: its arguments.

use clap::Args;

use super::after_help;

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
