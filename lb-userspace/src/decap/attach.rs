//! Attaches, updates in place and detaches.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use aya_obj::generated::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};

use super::DecapOptions;
use super::error::DecapError;
use super::interface::{self, Interface, Mode};
use super::load::{Loaded, load};
use super::pins::{Pins, pin_error, remove_file};
use super::sys::{self, LinkInfo};
use crate::bpffs;

/// What [`attach`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub mode: Mode,
    /// The program that ran already was replaced, without a gap.
    pub updated: bool,
    /// Why the mode is not native, in the driver's words.
    pub native_refused: Option<String>,
    /// Accepted outer destinations, sorted.
    pub addresses: Vec<IpAddr>,
    /// UDP port that GUE is taken from.
    pub gue_port: Option<u16>,
}

/// Attaches the decapsulator, or replaces the one that is attached: program, addresses and port in one moment, with its
/// counters and its mode. It stays when this process ends.
///
/// The interface's own addresses are read now; whoever adds one later calls this again.
///
/// # Errors
/// See [`DecapError`]; what ran before then runs on.
pub fn attach(options: &DecapOptions) -> Result<Attached, DecapError> {
    let pins = Pins::new(&options.bpffs, &options.instance, &options.interface)?;
    find(&options.interface)?;
    let addresses = accepted(options)?;
    bpffs::ensure_mounted(&options.bpffs)?;
    let _lock = pins.create_and_lock()?;
    let attached = attach_locked(options, &pins, addresses);
    if attached.is_err() && !pins.link().exists() {
        // Nothing runs, so nothing is to stay. The error that led here says more than one about the clean-up would.
        let _ = pins.remove();
    }
    attached
}

fn attach_locked(
    options: &DecapOptions,
    pins: &Pins,
    addresses: Vec<IpAddr>,
) -> Result<Attached, DecapError> {
    // Now, as another process may have attached while this one waited for the lock.
    let interface = find(&options.interface)?;
    let (link, info) = match open_link(pins)? {
        Some((link, info)) if info.ifindex != 0 => (link, info),
        // The last interface of this name has gone, and its link with it.
        Some(_) => {
            remove_file(&pins.link())?;
            return attach_anew(options, pins, &interface, addresses);
        }
        None => return attach_anew(options, pins, &interface, addresses),
    };
    let Some(mode) = interface.mode_of(info.program).filter(|_| interface.index == info.ifindex) else {
        return Err(elsewhere(options, pins, info));
    };
    let gue_port = options.gue_port;
    let loaded = load(pins, &addresses, gue_port.unwrap_or(0))?;
    sys::update_link(&link, loaded.program())
        .map_err(|source| DecapError::Update { interface: interface.name.clone(), source })?;
    loaded.pin_maps(pins)?;
    Ok(Attached { mode, updated: true, native_refused: None, addresses, gue_port })
}

/// Takes the decapsulator off the interface and removes its pins; says whether there was anything. An interface that is
/// no longer there is no error.
///
/// # Errors
/// The pins belong to an interface of another network namespace; or see [`DecapError`].
pub fn detach(options: &DecapOptions) -> Result<bool, DecapError> {
    let pins = Pins::new(&options.bpffs, &options.instance, &options.interface)?;
    let Some(_lock) = pins.lock()? else {
        return Ok(false);
    };
    if let Some((link, info)) = open_link(&pins)?
        && info.ifindex != 0
    {
        // By its index, as the interface may have another name by now.
        let is_here =
            Interface::by_index(info.ifindex).is_ok_and(|here| here.mode_of(info.program).is_some());
        if !is_here {
            return Err(elsewhere(options, &pins, info));
        }
        sys::detach_link(&link)
            .map_err(|source| DecapError::Detach { interface: options.interface.clone(), source })?;
    }
    pins.remove()?;
    Ok(true)
}

/// The pinned link, with what the kernel says of it.
pub(super) fn open_link(pins: &Pins) -> Result<Option<(OwnedFd, LinkInfo)>, DecapError> {
    let path = pins.link();
    let link = match sys::open_pinned(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|source| pin_error("open", &path, source))?,
    };
    let info = sys::link_info(&link).map_err(|source| pin_error("look at", &path, source))?;
    Ok(Some((link, info)))
}

pub(super) fn find(name: &str) -> Result<Interface, DecapError> {
    Interface::by_name(name).map_err(|source| match source.raw_os_error() {
        Some(libc::ENODEV | libc::EINVAL) => DecapError::NoInterface { interface: name.to_owned() },
        _ => DecapError::Interface { interface: name.to_owned(), source },
    })
}

/// The accepted outer destinations: those asked for, else the interface's own.
fn accepted(options: &DecapOptions) -> Result<Vec<IpAddr>, DecapError> {
    let interface = || options.interface.clone();
    let mut addresses: Vec<IpAddr> = options.addresses.iter().map(IpAddr::to_canonical).collect();
    if addresses.is_empty() {
        addresses = interface::addresses(&options.interface)
            .map_err(|source| DecapError::Interface { interface: interface(), source })?;
    }
    addresses.sort();
    addresses.dedup();
    for address in &addresses {
        let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || is_broadcast {
            return Err(DecapError::NotUnicast { address: *address });
        }
    }
    if addresses.is_empty() { Err(DecapError::NoAddress { interface: interface() }) } else { Ok(addresses) }
}

fn elsewhere(options: &DecapOptions, pins: &Pins, info: LinkInfo) -> DecapError {
    DecapError::Elsewhere {
        interface: options.interface.clone(),
        path: pins.folder().to_owned(),
        ifindex: info.ifindex,
    }
}

/// Attaches where nothing of ours is attached.
fn attach_anew(
    options: &DecapOptions,
    pins: &Pins,
    interface: &Interface,
    addresses: Vec<IpAddr>,
) -> Result<Attached, DecapError> {
    let other = interface.programs.iter().find(|(mode, _)| *mode != Mode::Offloaded);
    if let Some((mode, program)) = other {
        return Err(DecapError::Busy { interface: interface.name.clone(), mode: *mode, program: *program });
    }
    let gue_port = options.gue_port;
    let loaded = load(pins, &addresses, gue_port.unwrap_or(0))?;
    loaded.pin_maps(pins)?;
    let (link, mode, native_refused) = create_link(&loaded, interface)?;
    sys::pin(link.as_fd(), &pins.link()).map_err(|source| pin_error("pin", &pins.link(), source))?;
    Ok(Attached { mode, updated: false, native_refused, addresses, gue_port })
}

/// In native mode if the driver can, else in generic mode, with the reason.
fn create_link(
    loaded: &Loaded,
    interface: &Interface,
) -> Result<(OwnedFd, Mode, Option<String>), DecapError> {
    let name = || interface.name.clone();
    let raced = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST));
    let native = match sys::create_xdp_link(loaded.program(), interface.index, XDP_FLAGS_DRV_MODE) {
        Ok(link) => return Ok((link, Mode::Native, None)),
        Err(source) if raced(&source) => return Err(DecapError::Raced { interface: name(), source }),
        Err(error) => error,
    };
    match sys::create_xdp_link(loaded.program(), interface.index, XDP_FLAGS_SKB_MODE) {
        Ok(link) => Ok((link, Mode::Generic, Some(native.to_string()))),
        Err(source) if raced(&source) => Err(DecapError::Raced { interface: name(), source }),
        Err(source) => Err(DecapError::Attach { interface: name(), native, source }),
    }
}
