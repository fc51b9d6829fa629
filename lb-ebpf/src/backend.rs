//! Backends of the packet's service.

use core::cell::Cell;
use core::ptr::NonNull;

use lb_common::layout::{
    Backend, BackendStats, Control, HOST_NONE, HostId, HostState, PAIRS_A_BLOCK, Window,
};

use crate::maps;

/// A backend's record in the map. Only its control word ever changes in place.
#[derive(Clone, Copy)]
pub struct Record(NonNull<Backend>);

impl Record {
    #[inline(always)]
    pub fn state(&self) -> HostState {
        // SAFETY: a record of the map; an aligned word.
        Control(unsafe { (&raw const (*self.0.as_ptr()).control).read_volatile() }).state()
    }

    #[inline(always)]
    pub fn get(&self) -> &Backend {
        // SAFETY: a record of the map.
        unsafe { self.0.as_ref() }
    }
}

/// Finds backends by host. Remembers the last one, as who decides about a host forwards to it most of the time.
pub struct Backends {
    window: Window,
    host: Cell<HostId>,
    last: Cell<Option<Record>>,
}

impl Backends {
    #[inline(always)]
    pub fn new(window: Window) -> Self {
        Backends { window, host: Cell::new(HOST_NONE), last: Cell::new(None) }
    }

    #[inline(always)]
    pub fn get(&self, host: HostId) -> Option<Record> {
        if self.host.get() == host
            && let Some(record) = self.last.get()
        {
            return Some(record);
        }
        let record = self.find(host)?;
        self.host.set(host);
        self.last.set(Some(record));
        Some(record)
    }

    #[inline(always)]
    fn find(&self, host: HostId) -> Option<Record> {
        let pair = self.window.pair(host)?;
        let block = maps::PAIRS.get_ptr(pair / PAIRS_A_BLOCK as u32)?;
        // SAFETY: the index is below the length of the block.
        let number = unsafe { block.cast::<u32>().add(pair as usize % PAIRS_A_BLOCK).read_volatile() };
        if number == 0 { None } else { maps::BACKENDS.get_ptr_mut(number).and_then(NonNull::new).map(Record) }
    }

    #[inline(always)]
    pub fn state(&self, host: HostId) -> HostState {
        match self.get(host) {
            Some(record) => record.state(),
            None => HostState::Gone,
        }
    }
}

/// This CPU's counters of a (service, host).
#[inline(always)]
pub fn stats(index: u32) -> Option<&'static mut BackendStats> {
    // SAFETY: this CPU's record, which no other program run touches meanwhile.
    maps::BACKEND_STATS.get_ptr_mut(index).map(|stats| unsafe { &mut *stats })
}

/// One more packet of so many bytes went to the backend.
#[inline(always)]
pub fn count_packet(record: &Record, bytes: u64) {
    if let Some(stats) = stats(record.get().stats) {
        stats.packets += 1;
        stats.bytes += bytes;
    }
}
