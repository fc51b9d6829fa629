//! Reading many values of an array by CPU at once: one system call for a thousand of them instead of one for each.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use aya::Pod;
use aya::maps::{IterableMap, MapData, MapError, PerCpuArray};
use aya_obj::generated::{bpf_attr, bpf_cmd};

/// Values of one call.
const AT_ONCE: u32 = 1024;
/// Values between two that are asked for that are rather read with them than left out by another call.
const GAP: u32 = 16;

/// Reads the values at these places, in their order; `each` gets a place and the value of each possible CPU (Linux 5.13). A value that
/// is written meanwhile is read word by word, as by a single look.
pub(super) fn read<V: Pod + Default>(
    map: &PerCpuArray<MapData, V>,
    places: impl IntoIterator<Item = u32>,
    mut each: impl FnMut(u32, &[V]),
) -> Result<(), MapError> {
    // The kernel gives each CPU's value in as many bytes as a multiple of eight.
    const { assert!(size_of::<V>().is_multiple_of(8)) };
    let places: BTreeSet<u32> = places.into_iter().collect();
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    let mut values = Vec::new();
    for range in ranges(&places) {
        values.resize(range.len() * cpus, V::default());
        look_up(map, &range, &mut values)?;
        for (place, values) in range.zip(values.chunks_exact(cpus)) {
            if places.contains(&place) {
                each(place, values);
            }
        }
    }
    Ok(())
}

/// Ranges that hold all of the places and little else, none longer than a call's.
fn ranges(places: &BTreeSet<u32>) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for &place in places {
        match ranges.last_mut() {
            Some(last) if place - last.end <= GAP && place - last.start < AT_ONCE => last.end = place + 1,
            _ => ranges.push(place..place + 1),
        }
    }
    ranges
}

fn look_up<V: Pod>(map: &PerCpuArray<MapData, V>, range: &Range<u32>, values: &mut [V]) -> io::Result<()> {
    // The kernel begins behind the place that it is given; without one, at the first.
    let before = range.start.wrapping_sub(1);
    let mut last = 0u32;
    let mut keys = vec![0u32; range.len()];
    // SAFETY: integers only; the kernel asks for zeroes where a command has no field.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.batch.in_batch = if range.start == 0 { 0 } else { &raw const before as u64 };
    attr.batch.out_batch = &raw mut last as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = keys.len() as u32;
    attr.batch.map_fd = map.map().fd().as_fd().as_raw_fd() as u32;
    let command = bpf_cmd::BPF_MAP_LOOKUP_BATCH as libc::c_uint;
    // SAFETY: keys are of the map's type, `values` holds one for each CPU and key, and all outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<bpf_attr>()) };
    // SAFETY: the kernel has written how many values it gave.
    let given = unsafe { attr.batch.count } as usize;
    match io::Error::last_os_error() {
        // So it says as well where the last value is the map's last.
        _ if given == keys.len() && (result == 0 || keys.last().copied() == range.clone().last()) => Ok(()),
        error if result != 0 => Err(error),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{given} values of {}", keys.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_is_read_together() {
        let of = |places: &[u32]| {
            let ranges = ranges(&places.iter().copied().collect());
            ranges.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[7]), [(7, 8)]);
        assert_eq!(of(&[0, 1, 2, 18]), [(0, 19)]);
        assert_eq!(of(&[0, 1, 2, 20]), [(0, 3), (20, 21)]);
        assert_eq!(of(&[u32::MAX - 1]), [(u32::MAX - 1, u32::MAX)]);
        let all: Vec<u32> = (5..3000).collect();
        assert_eq!(of(&all), [(5, 1029), (1029, 2053), (2053, 3000)]);
    }
}
