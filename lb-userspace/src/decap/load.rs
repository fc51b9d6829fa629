//! Loads the program with its accepted addresses.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Array, HashMap, MapError};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::layout::Tuple;

use super::error::DecapError;
use super::pins::{ADDRESSES, COUNTERS, GUE_PORT, Pins, are_counters_ours};
use crate::dataplane::programs;
use crate::objects;

/// Programs of the object, the better first: the other is for kernels before 5.18.
pub const PROGRAMS: [&str; 2] = ["sluice_decap_frags", "sluice_decap"];

/// A loaded program, not yet attached.
pub struct Loaded {
    ebpf: Ebpf,
    program: &'static str,
    /// The counters are those of the program that runs already, or ran last.
    keeps_counters: bool,
}

/// Loads the program with maps of its own for the addresses and the port of GUE (0: none), so that they change in one moment
/// with the program, and with the counters that are pinned already if they have the right shape.
pub fn load(pins: &Pins, addresses: &[IpAddr], gue_port: u16) -> Result<Loaded, DecapError> {
    raise_memlock();
    let counters = pins.map(COUNTERS);
    let keeps_counters = are_counters_ours(&counters)?.unwrap_or(false);
    let mut ebpf = load_object(addresses.len(), keeps_counters.then_some(counters.as_path()))
        .map_err(DecapError::Maps)?;
    fill(&mut ebpf, addresses).map_err(|source| DecapError::Map { path: pins.map(ADDRESSES), source })?;
    set_port(&mut ebpf, gue_port).map_err(|source| DecapError::Map { path: pins.map(GUE_PORT), source })?;
    let program = load_program(&mut ebpf).map_err(DecapError::Program)?;
    Ok(Loaded { ebpf, program, keeps_counters })
}

impl Loaded {
    /// # Panics
    /// Never: [`load`] has loaded this program.
    pub fn program(&self) -> BorrowedFd<'_> {
        let program = self.ebpf.program(self.program).expect("the object has it");
        program.fd().expect("it is loaded").as_fd()
    }

    /// Pins the maps in the place of those that are pinned.
    pub fn pin_maps(&self, pins: &Pins) -> Result<(), DecapError> {
        pins.replace(ADDRESSES, self.map(ADDRESSES))?;
        pins.replace(GUE_PORT, self.map(GUE_PORT))?;
        if !self.keeps_counters {
            pins.replace(COUNTERS, self.map(COUNTERS))?;
        }
        Ok(())
    }

    fn map(&self, name: &str) -> BorrowedFd<'_> {
        use aya::maps::Map;
        match self.ebpf.map(name) {
            Some(Map::Array(map) | Map::HashMap(map) | Map::PerCpuArray(map)) => map.fd().as_fd(),
            _ => unreachable!("the embedded object has the map {name}"),
        }
    }
}

/// The object's maps, with room for so many addresses.
fn load_object(addresses: usize, counters: Option<&Path>) -> Result<Ebpf, EbpfError> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(ADDRESSES, addresses.max(1) as u32);
    if let Some(path) = counters {
        loader.map_pin_path(COUNTERS, path);
    }
    loader.load(objects::DECAP)
}

fn fill(ebpf: &mut Ebpf, addresses: &[IpAddr]) -> Result<(), MapError> {
    let map = ebpf.map_mut(ADDRESSES).expect("the embedded object has the map");
    let mut map = HashMap::<_, [u64; 2], u32>::try_from(map)?;
    for address in addresses {
        map.insert(key(*address), 1, 0)?;
    }
    Ok(())
}

fn set_port(ebpf: &mut Ebpf, gue_port: u16) -> Result<(), MapError> {
    let map = ebpf.map_mut(GUE_PORT).expect("the embedded object has the map");
    Array::<_, u32>::try_from(map)?.set(0, u32::from(gue_port), 0)
}

fn load_program(ebpf: &mut Ebpf) -> Result<&'static str, ProgramError> {
    let mut result = Err(ProgramError::NotLoaded);
    for name in PROGRAMS {
        let program: &mut Xdp = ebpf.program_mut(name).expect("the embedded object has it").try_into()?;
        result = programs::load(program).map(|()| name);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Key of an address in the map: IPv4 as `::ffff:a.b.c.d`.
pub fn key(address: IpAddr) -> [u64; 2] {
    let octets = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    Tuple::words(octets)
}

/// The address of a key.
pub fn address(key: [u64; 2]) -> IpAddr {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&key[0].to_ne_bytes());
    octets[8..].copy_from_slice(&key[1].to_ne_bytes());
    IpAddr::from(octets).to_canonical()
}

/// Before 5.11 the kernel charged maps to this limit. Who may not raise it may have no need to.
fn raise_memlock() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_packets() {
        let v4 = IpAddr::from([192, 0, 2, 7]);
        assert_eq!(key(v4), Tuple::v4(u32::from_ne_bytes([192, 0, 2, 7])));
        for address in [v4, "2001:db8::7".parse().unwrap()] {
            assert_eq!(super::address(key(address)), address);
        }
    }
}
