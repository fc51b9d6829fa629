//! What the decapsulator of an interface does.

use std::io::{self, Write};
use std::net::IpAddr;

use aya::maps::{Array, HashMap, Map, MapType, PerCpuArray};
use lb_common::decap::{DECAP_REASONS, DecapReason};
use serde::{Serialize, Serializer};

use super::attach::open_link;
use super::error::DecapError;
use super::interface::{Interface, Mode};
use super::load::address;
use super::pins::{ADDRESSES, COUNTERS, GUE_PORT, Pins, has_shape, open_map};
use super::{DecapOptions, accepts};

/// Whether the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Attached,
    NotAttached,
    /// The interface was removed, and the program with it; the pins are left.
    InterfaceGone,
    /// On an interface that is not in this network namespace.
    Elsewhere,
}

/// Answer of [`status`]. The names of its JSON fields are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub instance: String,
    pub interface: String,
    pub state: State,
    pub mode: Option<Mode>,
    /// Number of the program in the kernel.
    pub program: Option<u32>,
    /// Accepted outer destinations, sorted.
    pub addresses: Vec<IpAddr>,
    /// UDP port that GUE is taken from, if it is.
    pub gue_port: Option<u16>,
    /// Packets by reason since the program was first attached; empty if it is not.
    #[serde(serialize_with = "as_map")]
    pub counters: Vec<(&'static str, u64)>,
}

fn as_map<S: Serializer>(counters: &[(&'static str, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counters.iter().copied())
}

/// Reads state, addresses, port and counters. An interface without a decapsulator is no error.
///
/// # Errors
/// A pin cannot be opened (who is not root may not), or another version of this program made it.
pub fn status(options: &DecapOptions) -> Result<Status, DecapError> {
    let pins = Pins::new(&options.bpffs, &options.instance, &options.interface)?;
    let mut status = Status {
        instance: options.instance.clone(),
        interface: options.interface.clone(),
        state: State::NotAttached,
        mode: None,
        program: None,
        addresses: Vec::new(),
        gue_port: None,
        counters: Vec::new(),
    };
    // Without the lock an update could come between the link and the maps.
    let Some(_lock) = pins.lock()? else {
        return Ok(status);
    };
    let Some((_, info)) = open_link(&pins)? else {
        return Ok(status);
    };
    status.addresses = read_addresses(&pins)?;
    status.gue_port = read_port(&pins)?;
    status.counters = read_counters(&pins)?;
    if info.ifindex == 0 {
        status.state = State::InterfaceGone;
        return Ok(status);
    }
    status.program = Some(info.program);
    status.mode = Interface::by_index(info.ifindex).ok().and_then(|here| here.mode_of(info.program));
    status.state = if status.mode.is_some() { State::Attached } else { State::Elsewhere };
    Ok(status)
}

/// Opens a map that must be there with the shape that this version gives it.
fn open(
    pins: &Pins,
    name: &str,
    kind: MapType,
    sizes: (u32, u32),
    entries: Option<u32>,
) -> Result<Map, DecapError> {
    let path = pins.map(name);
    let Some(data) = open_map(&path)? else {
        return Err(DecapError::OtherVersion { path });
    };
    if !has_shape(&data, &path, kind, sizes, entries)? {
        return Err(DecapError::OtherVersion { path });
    }
    Map::from_map_data(data).map_err(|source| DecapError::Map { path, source })
}

fn read_addresses(pins: &Pins) -> Result<Vec<IpAddr>, DecapError> {
    let error = |source| DecapError::Map { path: pins.map(ADDRESSES), source };
    let map = open(pins, ADDRESSES, MapType::Hash, (16, 4), None)?;
    let map = HashMap::<_, [u64; 2], u32>::try_from(map).map_err(error)?;
    let mut addresses: Vec<IpAddr> =
        map.keys().map(|key| key.map(address)).collect::<Result<_, _>>().map_err(error)?;
    addresses.sort();
    Ok(addresses)
}

fn read_port(pins: &Pins) -> Result<Option<u16>, DecapError> {
    let error = |source| DecapError::Map { path: pins.map(GUE_PORT), source };
    let map = open(pins, GUE_PORT, MapType::Array, (4, 4), Some(1))?;
    let port = Array::<_, u32>::try_from(map).map_err(error)?.get(&0, 0).map_err(error)?;
    Ok(u16::try_from(port).ok().filter(|port| *port != 0))
}

fn read_counters(pins: &Pins) -> Result<Vec<(&'static str, u64)>, DecapError> {
    let error = |source| DecapError::Map { path: pins.map(COUNTERS), source };
    let map = open(pins, COUNTERS, MapType::PerCpuArray, (4, 8), Some(DECAP_REASONS))?;
    let map = PerCpuArray::<_, u64>::try_from(map).map_err(error)?;
    DecapReason::ALL
        .iter()
        .map(|reason| Ok((reason.name(), map.get(&(*reason as u32), 0).map_err(error)?.iter().sum())))
        .collect()
}

impl Status {
    /// For people.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = match (self.state, self.mode) {
            (State::Attached, Some(mode)) => format!("attached, {} mode", mode.name()),
            (State::Attached, None) => "attached".to_owned(),
            (State::NotAttached, _) => "not attached".to_owned(),
            (State::InterfaceGone, _) => "not attached: the interface was removed".to_owned(),
            (State::Elsewhere, _) => {
                "attached to an interface that is not in this network namespace".to_owned()
            }
        };
        writeln!(out, "{}: {state}", self.interface)?;
        if self.counters.is_empty() {
            return Ok(());
        }
        writeln!(out, "{}", accepts(&self.addresses, self.gue_port))?;
        for (reason, packets) in &self.counters {
            writeln!(out, "  {reason:<20} {packets:>14}")?;
        }
        Ok(())
    }
}
