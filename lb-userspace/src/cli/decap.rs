//! `sluice decap`: its arguments.

use std::net::IpAddr;

use clap::Args;
use lb_common::decap::GUE_PORT;

use super::exit::Exit;
use super::{Failure, Global, after_help};
use crate::decap::{self, DecapAction, DecapOptions};

/// Unpack encapsulated packets on a backend, in XDP
///
/// Attaches a program to an interface of a backend that takes the outer headers off packets from a balancer: IP in
/// IP (`forward = "ipip"`), and GUE, variant 0 (Generic UDP Encapsulation), so that the backend needs no tunnel
/// device. VLAN tags, two at most, stay on. The program stays when this command ends; --detach takes it off.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct DecapArgs {
    /// The interface that the packets arrive on
    #[arg(long, value_name = "IF", value_parser = interface_name)]
    pub interface: String,
    /// Unpack only packets to this outer destination; may be repeated; default: the interface's own addresses
    #[arg(long = "address", value_name = "A")]
    pub addresses: Vec<IpAddr>,
    /// Unpack GUE that comes to this UDP port; 0: leave GUE alone
    #[arg(long, value_name = "N", default_value_t = GUE_PORT)]
    pub gue_port: u16,
    /// Take the program off the interface instead
    #[arg(long, conflicts_with_all = ["addresses", "gue_port"])]
    pub detach: bool,
    /// Show mode, addresses, port and packets by reason instead
    #[arg(long, conflicts_with_all = ["addresses", "gue_port", "detach"])]
    pub status: bool,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice decap --interface eth0
  sluice decap --interface eth0 --address 10.0.0.1 --address 2001:db8::1 --gue-port 6081
  sluice decap --interface eth0 --detach";

/// Attaches, detaches or shows.
pub fn run(global: &Global, args: &DecapArgs) -> Result<(), Failure> {
    let action = match (args.detach, args.status) {
        (true, _) => DecapAction::Detach,
        (_, true) => DecapAction::Status,
        _ => DecapAction::Attach,
    };
    let mut options = DecapOptions::new(&global.instance, &args.interface, action);
    options.addresses.clone_from(&args.addresses);
    options.gue_port = Some(args.gue_port).filter(|port| *port != 0);
    options.json = args.json;
    decap::run(&options, &mut std::io::stdout().lock()).map_err(|error| {
        let exit = if error.is_not_found() { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, error)
    })
}

/// The kernel's rules: at most 15 bytes (`IFNAMSIZ` holds a NUL, too), no slash, no space (`dev_valid_name`).
fn interface_name(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b != b'/' && b != b':' && !b.is_ascii_whitespace();
    if (1..=15).contains(&text.len()) && text.bytes().all(allowed) && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err("not a name that an interface can have; `ip link` lists them".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::interface_name;

    #[test]
    fn names_are_the_kernels() {
        assert!(interface_name("veth-0123456789").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "veth-0123456789x"] {
            assert!(interface_name(bad).is_err(), "{bad:?}");
        }
    }
}
