//! System calls that aya has no wrapper for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::Pod;
use aya::maps::{HashMap, IterableMap, MapData};
use aya_obj::generated::{bpf_attr, bpf_cmd};

use super::Error;

/// Takes an entry out of a hash map in one step, so that nothing the data path wrote before is missed (Linux 5.14).
/// `None`: there is no such entry.
pub(super) fn take<K: Pod, V: Pod + Default>(
    map: &HashMap<MapData, K, V>,
    key: &K,
) -> Result<Option<V>, Error> {
    let mut value = V::default();
    // SAFETY: integers only; the kernel asks for zeroes where a command has no field.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.__bindgen_anon_2.map_fd = map.map().fd().as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = &raw const *key as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = &raw mut value as u64;
    let command = bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM as libc::c_uint;
    // SAFETY: key and value are those of the map's type and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<bpf_attr>()) };
    if result == 0 {
        return Ok(Some(value));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        source => Err(Error::Syscall { call: "taking an entry out of a map", source }),
    }
}

/// Waits until every program run that began before this call has ended, so that no CPU still decides by what was
/// published before. `MEMBARRIER_CMD_GLOBAL` (Linux 4.3) waits for an RCU grace period, and XDP runs within one.
pub fn grace_period() -> Result<(), Error> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes no pointer.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 {
        return Err(Error::Syscall { call: "membarrier", source: io::Error::last_os_error() });
    }
    Ok(())
}

/// Seconds of the clock that the data path reads: `CLOCK_MONOTONIC_COARSE`.
pub fn monotonic_seconds() -> u32 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
        .map(|time| time.tv_sec() as u32)
        .unwrap_or_default()
}
