//! A loaded program's maps, as if they had just been made.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{MapData, MapInfo, MapType};
use aya_obj::generated::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, bpf_attr, bpf_cmd};
use memmap2::MmapOptions;

/// Fills arrays with zeros and takes everything out of hash maps and tries. Constants, and what programs call each other through, stay. No packet may be under
/// way.
///
/// # Panics
/// When the kernel refuses, or for a kind of map that this does not know.
pub fn wipe(number: u32) {
    let map = MapData::from_id(number).expect("the program holds its maps");
    let info = map.info().expect("the map says what it is");
    match info.map_type().expect("a kind of map that is known") {
        MapType::Array if info.map_flags() & BPF_F_RDONLY_PROG != 0 => {}
        MapType::Array if info.map_flags() & BPF_F_MMAPABLE != 0 => zero_memory(&map, &info),
        MapType::Array | MapType::PerCpuArray => zero_elements(&map, &info),
        MapType::Hash | MapType::LruHash | MapType::LpmTrie | MapType::DevMapHash => remove_all(&map, &info),
        MapType::ProgramArray | MapType::RingBuf => {}
        other => panic!("nobody said how a map of kind {other:?} is emptied"),
    }
}

fn zero_memory(map: &MapData, info: &MapInfo) {
    let stride = info.value_size().next_multiple_of(8) as usize;
    let length = info.max_entries() as usize * stride;
    let memory = MmapOptions::new().len(length).map_raw(map.fd().as_fd().as_raw_fd()).expect("mmap of a map");
    // SAFETY: all of the mapping, and nobody else writes it.
    unsafe { memory.as_mut_ptr().write_bytes(0, length) };
}

fn zero_elements(map: &MapData, info: &MapInfo) {
    // Of a map by CPU the kernel reads a value for each, in strides of 8 bytes.
    let stride = info.value_size().next_multiple_of(8) as usize;
    let zeros = vec![0_u64; stride / 8 * aya::util::nr_cpus().expect("the number of CPUs")];
    for index in 0..info.max_entries() {
        let set = call(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, &raw const index as u64, zeros.as_ptr() as u64);
        set.expect("the map takes zeros");
    }
}

fn remove_all(map: &MapData, info: &MapInfo) {
    let mut key = vec![0_u8; info.key_size() as usize];
    loop {
        match call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, map, 0, key.as_mut_ptr() as u64) {
            Ok(()) => {
                call(bpf_cmd::BPF_MAP_DELETE_ELEM, map, key.as_ptr() as u64, 0).expect("the entry goes")
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return,
            Err(error) => panic!("cannot list a map: {error}"),
        }
    }
}

/// One of the system calls that take a key and a value, or the next key in its place.
pub(super) fn call(command: bpf_cmd, map: &MapData, key: u64, value: u64) -> io::Result<()> {
    // SAFETY: integers only; the kernel asks for zeroes where a command has no field.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.__bindgen_anon_2.map_fd = map.fd().as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = key;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value;
    // SAFETY: key and value are as long as the map says and outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_uint, &raw mut attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
