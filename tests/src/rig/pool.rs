//! Loaded data paths that one test leaves to the next: the verifier takes seconds for each load, and most tests ask for the same.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use aya::programs::Xdp;
use lb_common::layout::BackendStats;
use lb_userspace::dataplane::{Dataplane, Error, Options, detach_all};

use super::wipe::wipe;

/// Those that no test has at the moment.
static FREE: Mutex<Vec<Dataplane>> = Mutex::new(Vec::new());

/// A data path with these options, but for the instance's name: one that was left, or one that is loaded now. Nothing of it is in bpffs, so that
/// nothing is left there when the process ends.
pub(super) fn borrow(options: Options) -> Dataplane {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |plane: &Dataplane| {
        plane.options == Options { instance: plane.options.instance.clone(), ..options.clone() }
    };
    if let Some(found) = free.iter().position(fits) {
        return free.swap_remove(found);
    }
    drop(free);
    let plane = Dataplane::open(options).expect("the data path loads");
    detach_all(&plane.paths).expect("its pins can be removed");
    plane
}

/// Leaves a data path to other tests, as if it had just been loaded.
pub(super) fn give_back(mut plane: Dataplane) {
    for map in maps_of(&mut plane) {
        wipe(map);
    }
    // No program has these.
    for index in 0..plane.maps.user_stats.len() {
        plane.maps.user_stats.set(index, BackendStats::default());
    }
    let plane = plane.open_again(false).expect("it opens as it did at first");
    FREE.lock().unwrap_or_else(PoisonError::into_inner).push(plane);
}

/// Numbers of all maps that the programs use.
pub(super) fn maps_of(plane: &mut Dataplane) -> BTreeSet<u32> {
    let of = |program: Result<&mut Xdp, Error>| {
        let info = program.expect("the object has the program").info().expect("the program says what it is");
        info.map_ids().expect("a list, since Linux 4.15").unwrap_or_default()
    };
    let attached = of(plane.program());
    attached.into_iter().chain(of(plane.called_program())).collect()
}
