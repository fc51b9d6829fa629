//! Attaching by link, and replacing what is attached without a packet in between.

use std::fs;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode as Hook};
use aya::programs::{ProgramError, Xdp};

use super::{Dataplane, Error, Paths, programs};
use crate::decap::sys as links;
use crate::model::XdpMode;

const NATIVE: &str = "native";
const GENERIC: &str = "generic";

/// An interface that has the program.
#[derive(Debug, Clone)]
pub struct Attached {
    /// As the config has it.
    pub interface: String,
    /// Its name when it was last looked at.
    pub named: String,
    pub ifindex: u32,
    pub mode: &'static str,
    /// Why it is not the mode that was wanted first.
    pub note: Option<String>,
}

impl Dataplane {
    /// Attaches to an interface, or takes over the link that an earlier daemon left: then the program is swapped in
    /// place, atomically.
    pub fn attach(&mut self, interface: &str, wanted: XdpMode) -> Result<Attached, Error> {
        let no_interface = |_| Error::NoInterface { interface: interface.to_owned() };
        let ifindex = nix::net::if_::if_nametoindex(interface).map_err(no_interface)?;
        let paths = self.paths.clone();
        self.keep_programs()?;
        // Who traces wants to see packets of this one as well.
        let program = match &mut self.tracing {
            Some(tracing) => tracing.program()?,
            None => programs::attached(&mut self.ebpf, &self.options)?,
        };
        let attached = |mode, note| Attached {
            interface: interface.to_owned(),
            named: interface.to_owned(),
            ifindex,
            mode,
            note,
        };
        for mode in [NATIVE, GENERIC] {
            let pin = paths.link(ifindex, mode);
            if !pin.try_exists().map_err(Error::path(&pin))? {
                continue;
            }
            match replace(program, interface, &pin) {
                Ok(()) => return Ok(attached(mode, kept(wanted, mode))),
                // The link of an interface that is gone: its index was given to another. Any other link runs what it ran.
                Err(error) if !is_of_a_gone_interface(&pin) => return Err(error),
                Err(error) => {
                    log::warn!("{error}; attaching anew");
                    fs::remove_file(&pin).map_err(Error::path(&pin))?;
                }
            }
        }
        let new = |program: &mut Xdp, hook: Hook, mode| {
            new_link(program, interface, ifindex, hook, mode, &paths.link(ifindex, mode))
        };
        match wanted {
            XdpMode::Native => new(program, Hook::Driver, NATIVE).map(|()| attached(NATIVE, None)),
            XdpMode::Generic => new(program, Hook::Skb, GENERIC).map(|()| attached(GENERIC, None)),
            XdpMode::Auto => match new(program, Hook::Driver, NATIVE) {
                Ok(()) => Ok(attached(NATIVE, None)),
                Err(Error::Attach { message, .. }) => {
                    new(program, Hook::Skb, GENERIC)?;
                    Ok(attached(GENERIC, Some(format!("the driver refused native mode: {message}"))))
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Lets the link of an interface go that is gone, or is not to have the program any more.
    pub fn forget_link(&self, ifindex: u32) -> Result<(), Error> {
        for mode in [NATIVE, GENERIC] {
            let pin = self.paths.link(ifindex, mode);
            match fs::remove_file(&pin) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::path(&pin)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the links of interfaces that are not in `keep`.
    pub fn detach_others(&self, keep: &[u32]) -> Result<(), Error> {
        let keep: Vec<_> = keep
            .iter()
            .flat_map(|&index| [NATIVE, GENERIC].map(|mode| self.paths.link(index, mode)))
            .collect();
        for entry in fs::read_dir(self.paths.links()).map_err(Error::path(self.paths.links()))? {
            let path = entry.map_err(Error::path(self.paths.links()))?.path();
            if !keep.contains(&path) {
                log::info!("detaching {}", path.display());
                fs::remove_file(&path).map_err(Error::path(&path))?;
            }
        }
        Ok(())
    }

    /// Lets go what programs of earlier loads needed; once no interface has one of them.
    pub fn forget_earlier_programs(&self) -> Result<(), Error> {
        self.programs.forget_others(&self.paths, self.tracing.as_ref().map(|tracing| &tracing.programs), None)
    }
}

/// Ends the forwarding of an instance: removes its links, then its maps with all pins. Whether there was anything.
pub fn detach_all(paths: &Paths) -> Result<bool, Error> {
    if !paths.pins.try_exists().map_err(Error::path(&paths.pins))? {
        return Ok(false);
    }
    let mut parts =
        vec![paths.links(), paths.programs(), paths.maps(), paths.next(), paths.rehearsal(), paths.tracing()];
    parts.extend(paths.befores());
    let mut found = false;
    for part in parts {
        if part.try_exists().map_err(Error::path(&part))? {
            found = true;
            fs::remove_dir_all(&part).map_err(Error::path(&part))?;
        }
    }
    // A decapsulator of the same instance has its own folder beside these and stays.
    match fs::remove_dir(&paths.pins) {
        // The folder of all instances goes with the last of them.
        Ok(()) => {
            if let Some(all) = paths.pins.parent() {
                let _ = fs::remove_dir(all);
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) => return Err(Error::path(&paths.pins)(error)),
    }
    Ok(found)
}

/// What is to be said of a link that was taken over in a mode that the config does not name any more.
fn kept(wanted: XdpMode, mode: &str) -> Option<String> {
    let is_other = matches!((wanted, mode), (XdpMode::Native, GENERIC) | (XdpMode::Generic, NATIVE));
    is_other
        .then(|| format!("{wanted} mode takes a `sluice detach` before the start, which forgets all flows"))
}

/// Swaps the program of a pinned link.
fn replace(program: &mut Xdp, interface: &str, pin: &Path) -> Result<(), Error> {
    let link = |message: String| Error::Link { path: pin.to_owned(), message };
    let pinned = PinnedLink::from_pin(pin).map_err(|error| link(error.to_string()))?;
    let xdp = XdpLink::try_from(FdLink::from(pinned)).map_err(|error: LinkError| link(error.to_string()))?;
    let id = program.attach_to_link(xdp).map_err(|error| match error {
        ProgramError::SyscallError(error) => Error::NotTaken {
            interface: interface.to_owned(),
            source: error.io_error,
            others: " there".to_owned(),
        },
        error => link(causes(&error)),
    })?;
    // The pin keeps the link; this process's handle must not end it.
    let taken = program.take_link(id)?;
    drop(FdLink::try_from(taken));
    Ok(())
}

/// One that cannot be looked at counts as in use: to remove its pin would take the program off its interface.
fn is_of_a_gone_interface(pin: &Path) -> bool {
    links::open_pinned(pin).and_then(links::link_info).is_ok_and(|info| info.ifindex == 0)
}

fn new_link(
    program: &mut Xdp,
    interface: &str,
    ifindex: u32,
    hook: Hook,
    mode: &'static str,
    pin: &Path,
) -> Result<(), Error> {
    let refused = |error: &dyn std::error::Error| Error::Attach {
        interface: interface.to_owned(),
        mode,
        message: causes(error),
    };
    let id = match program.attach_to_if_index(ifindex, hook) {
        Ok(id) => id,
        Err(error) if is_busy(&error) => return Err(Error::Occupied { interface: interface.to_owned() }),
        Err(error) => return Err(refused(&error)),
    };
    let link = FdLink::try_from(program.take_link(id)?).map_err(|error| refused(&error))?;
    link.pin(pin).map_err(|error| Error::Link { path: pin.to_owned(), message: error.to_string() })?;
    Ok(())
}

fn is_busy(error: &ProgramError) -> bool {
    match error {
        ProgramError::SyscallError(error) => {
            matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
        }
        _ => false,
    }
}

/// The error with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
