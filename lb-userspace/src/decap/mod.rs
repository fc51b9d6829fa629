//! The backend's side of encapsulation: an XDP program that takes the outer headers off, IP in IP and GUE, for backends whose
//! kernel has no tunnel module.
//!
//! No process stays behind that could die: the command attaches the program by a link, pins the link and the maps, and
//! ends. Running it again puts a new program with new addresses and another port in the place of the old one between two
//! packets.

mod attach;
mod error;
pub mod interface;
mod load;
mod pins;
mod status;
pub(crate) mod sys;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

pub use attach::{Attached, attach, detach};
pub use error::DecapError;
pub use interface::Mode;
pub use load::{PROGRAMS, key};
pub use status::{State, Status, status};

use lb_common::decap::GUE_PORT;

use crate::bpffs;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecapAction {
    /// Attach, or replace what is attached.
    Attach,
    Detach,
    Status,
}

/// One call of `sluice decap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecapOptions {
    /// Separates decapsulators that share a BPF file system: letters, digits, `-` and `_`.
    pub instance: String,
    pub interface: String,
    /// Accepted outer destinations; none: those of the interface.
    pub addresses: Vec<IpAddr>,
    /// UDP port that GUE is taken from, not 0; `None`: GUE is left alone.
    pub gue_port: Option<u16>,
    pub action: DecapAction,
    /// Answer in JSON.
    pub json: bool,
    /// Where the BPF file system is, or is to be, mounted.
    pub bpffs: PathBuf,
}

impl DecapOptions {
    pub fn new(instance: &str, interface: &str, action: DecapAction) -> Self {
        DecapOptions {
            instance: instance.to_owned(),
            interface: interface.to_owned(),
            addresses: Vec::new(),
            gue_port: Some(GUE_PORT),
            action,
            json: false,
            bpffs: PathBuf::from(bpffs::DEFAULT_PATH),
        }
    }
}

/// Does what the options say and writes what came of it: a sentence for people, or the [`Status`] in JSON.
///
/// # Errors
/// See [`DecapError`].
pub fn run(options: &DecapOptions, out: &mut dyn Write) -> Result<(), DecapError> {
    let interface = &options.interface;
    let said = match options.action {
        DecapAction::Attach => {
            let attached = attach(options)?;
            let verb = if attached.updated { "updated" } else { "attached" };
            let mut said = format!(
                "{interface}: {verb}, {} mode, {}",
                attached.mode.name(),
                accepts(&attached.addresses, attached.gue_port)
            );
            if let Some(why) = attached.native_refused {
                said += &format!(
                    "\n{interface}: native mode refused by the driver ({why}): generic mode costs more a packet"
                );
            }
            Some(said)
        }
        DecapAction::Detach if detach(options)? => Some(format!("{interface}: detached")),
        DecapAction::Detach => Some(format!("{interface}: nothing was attached")),
        DecapAction::Status => None,
    };
    let written = match said {
        Some(said) if !options.json => writeln!(out, "{said}"),
        _ => {
            let status = status(options)?;
            if options.json {
                serde_json::to_writer_pretty(&mut *out, &status)
                    .map_err(Into::into)
                    .and_then(|()| writeln!(out))
            } else {
                status.print(out)
            }
        }
    };
    written.map_err(DecapError::Output)
}

/// What is taken apart, for people.
fn accepts(addresses: &[IpAddr], gue_port: Option<u16>) -> String {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let kinds = gue_port.map_or("IP in IP".to_owned(), |port| format!("IP in IP and GUE on UDP port {port}"));
    format!("accepts packets for {}: {kinds}", addresses.join(", "))
}
