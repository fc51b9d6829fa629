//! All that lies in a rig's maps, byte by byte: for who claims to have changed nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{MapData, MapInfo, MapType};
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_cmd};
use lb_userspace::dataplane::Maps;
use memmap2::MmapOptions;

use super::{Rig, pool, wipe};

/// A map's name, and its elements by key; arrays that can be mapped into memory are one element.
pub type Dump = (String, BTreeMap<Vec<u8>, Vec<u8>>);

/// By number: the maps that are pinned, and those that the programs use besides.
///
/// # Panics
/// When the kernel refuses, or for a kind of map that this does not know.
pub fn dump(rig: &mut Rig) -> BTreeMap<u32, Dump> {
    let folder = rig.dataplane.paths.maps();
    let pinned = Maps::NAMES.map(|name| MapData::from_pin(folder.join(name)).expect("the map is pinned"));
    let used = pool::maps_of(&mut rig.dataplane).into_iter();
    let used = used.map(|number| MapData::from_id(number).expect("the program holds its maps"));
    let maps = pinned.into_iter().chain(used);
    maps.filter_map(|map| {
        let info = map.info().expect("the map says what it is");
        let name = info.name_as_str().unwrap_or("?").to_owned();
        Some((info.id(), (name, elements(&map, &info)?)))
    })
    .collect()
}

fn elements(map: &MapData, info: &MapInfo) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    match info.map_type().expect("a kind of map that is known") {
        MapType::Array if info.map_flags() & BPF_F_MMAPABLE != 0 => {
            Some(BTreeMap::from([(Vec::new(), memory(map, info))]))
        }
        MapType::Array
        | MapType::PerCpuArray
        | MapType::Hash
        | MapType::LruHash
        | MapType::LpmTrie
        | MapType::DevMapHash => Some(all(map, info)),
        // What is called, and lines of the log.
        MapType::ProgramArray | MapType::RingBuf => None,
        other => panic!("nobody said how a map of kind {other:?} is read"),
    }
}

fn memory(map: &MapData, info: &MapInfo) -> Vec<u8> {
    let length = info.max_entries() as usize * info.value_size().next_multiple_of(8) as usize;
    let memory = MmapOptions::new().len(length).map_raw(map.fd().as_fd().as_raw_fd()).expect("mmap of a map");
    // SAFETY: all of the mapping; no packet is under way, so nobody writes it.
    unsafe { std::slice::from_raw_parts(memory.as_ptr(), length) }.to_vec()
}

fn all(map: &MapData, info: &MapInfo) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut last: Option<Vec<u8>> = None;
    // Of a map by CPU the kernel writes a value for each, in strides of 8 bytes.
    let stride = info.value_size().next_multiple_of(8) as usize;
    let room = stride * aya::util::nr_cpus().expect("the number of CPUs");
    loop {
        let mut key = vec![0; info.key_size() as usize];
        let after = last.as_ref().map_or(0, |last| last.as_ptr() as u64);
        if !call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, map, after, key.as_mut_ptr() as u64) {
            return all;
        }
        let mut value = vec![0; room];
        assert!(
            call(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, key.as_ptr() as u64, value.as_mut_ptr() as u64),
            "nobody takes entries out meanwhile"
        );
        all.insert(key.clone(), value);
        last = Some(key);
    }
}

/// Whether there is such an entry.
fn call(command: bpf_cmd, map: &MapData, key: u64, value: u64) -> bool {
    match wipe::call(command, map, key, value) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => panic!("a map cannot be read: {error}"),
    }
}
