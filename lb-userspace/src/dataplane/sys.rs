//! System calls that aya has no wrapper for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use aya::Pod;
use aya::maps::{Array, HashMap, IterableMap, MapData};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

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

/// The numbers of the maps that a program uses (Linux 4.15).
pub(super) fn maps_of(program: impl AsFd) -> io::Result<Vec<u32>> {
    let mut maps = vec![0u32; 64];
    loop {
        // SAFETY: integers only.
        let (mut info, mut attr): (bpf_prog_info, bpf_attr) = unsafe { std::mem::zeroed() };
        (info.nr_map_ids, info.map_ids) = (maps.len() as u32, maps.as_mut_ptr() as u64);
        attr.info.bpf_fd = program.as_fd().as_raw_fd() as u32;
        attr.info.info_len = size_of::<bpf_prog_info>() as u32;
        attr.info.info = &raw mut info as u64;
        let command = bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as libc::c_uint;
        // SAFETY: `info` and `maps` are as long as said and outlive the call.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<bpf_attr>()) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let count = info.nr_map_ids as usize;
        let is_whole = count <= maps.len();
        maps.resize(count, 0);
        if is_whole {
            return Ok(maps);
        }
    }
}

/// Seconds of the clock that the data path reads: `CLOCK_MONOTONIC_COARSE`.
pub fn monotonic_seconds() -> u32 {
    coarse().map(|time| time.tv_sec() as u32).unwrap_or_default()
}

/// The same clock, to the nanosecond.
pub fn monotonic() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Milliseconds since the last of these seconds began.
pub fn within_second() -> u64 {
    coarse().map(|time| time.tv_nsec() as u64 / 1_000_000).unwrap_or_default()
}

fn coarse() -> nix::Result<nix::sys::time::TimeSpec> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
}

/// The values of a map, as bytes: for maps whose types are another version's. Of a map by CPU, that of each CPU in turn, each in as many
/// bytes as a multiple of 8 takes.
pub(super) fn look_up(map: &MapData, key: &[u8], value: &mut [u8]) -> Result<bool, Error> {
    // SAFETY: integers only; the kernel asks for zeroes where a command has no field.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.__bindgen_anon_2.map_fd = map.fd().as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = key.as_ptr() as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    // SAFETY: the caller's buffers have the map's sizes and outlive the call.
    unsafe { ask(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr, "looking into a map") }
}

/// The key after `key` in a hash map, into `next`; whether there is one. `None`: the first.
pub(super) fn next_key(map: &MapData, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool, Error> {
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.__bindgen_anon_2.map_fd = map.fd().as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = key.map_or(0, |key| key.as_ptr() as u64);
    attr.__bindgen_anon_2.__bindgen_anon_1.next_key = next.as_mut_ptr() as u64;
    // SAFETY: as above.
    unsafe { ask(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr, "walking a map") }
}

/// Whether there is such an entry.
///
/// # Safety
/// Pointers in `attr` are valid for what `command` does with them.
unsafe fn ask(command: bpf_cmd, attr: &mut bpf_attr, call: &'static str) -> Result<bool, Error> {
    let command = command as libc::c_uint;
    // SAFETY: the attribute is as long as said; the rest is the caller's promise.
    if unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<bpf_attr>()) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        source => Err(Error::Syscall { call, source }),
    }
}

/// Makes a map of user space's own: an array that can be mapped into memory.
pub(super) fn array<T: Pod>(name: &'static str, len: u32) -> Result<Array<MapData, T>, Error> {
    Array::create(len, BPF_F_MMAPABLE).map_err(Error::map(name))
}

/// Flag of arrays that can be mapped into memory (Linux 5.5).
pub(super) const BPF_F_MMAPABLE: u32 = 1 << 10;

/// Puts an entry into a hash map unless the key is there; whether it was done.
pub(super) fn insert_new<K: Pod, V: Pod>(
    map: &HashMap<MapData, K, V>,
    key: &K,
    value: &V,
) -> Result<bool, Error> {
    const BPF_NOEXIST: u64 = 1;
    // SAFETY: key and value are those of the map's type and outlive the call.
    let done = unsafe {
        change(
            bpf_cmd::BPF_MAP_UPDATE_ELEM,
            map.map().fd().as_fd(),
            (&raw const *key).cast(),
            (&raw const *value).cast(),
            BPF_NOEXIST,
        )
    };
    match done {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::E2BIG)) => Ok(false),
        Err(source) => Err(Error::Syscall { call: "putting an entry into a map", source }),
    }
}

/// Sets an entry of a map whose keys and values have these lengths.
pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    // SAFETY: both outlive the call.
    unsafe { change(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, key.as_ptr(), value.as_ptr(), 0) }
}

/// Takes an entry out of a map whose keys have this length.
pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    // SAFETY: it outlives the call.
    unsafe { change(bpf_cmd::BPF_MAP_DELETE_ELEM, map, key.as_ptr(), std::ptr::null(), 0) }
}

/// # Safety
/// Key and value, if `command` takes one, are as long as the map's.
unsafe fn change(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    key: *const u8,
    value: *const u8,
    flags: u64,
) -> io::Result<()> {
    // SAFETY: integers only; the kernel asks for zeroes where a command has no field.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = key as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value as u64;
    attr.__bindgen_anon_2.flags = flags;
    let command = command as libc::c_uint;
    // SAFETY: the caller's promise.
    match unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<bpf_attr>()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
