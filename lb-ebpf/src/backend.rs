//! Backends of the packet's service.

use core::cell::Cell;

use lb_common::hash::FlowHash;
use lb_common::layout::{
    BACKENDS, Backend, BackendStats, Control, Directory, EGRESSES, Egress, HOST_NONE, HostId, HostState,
    PAIRS, Window,
};

use crate::maps;

/// A backend's record in the map. Only its control word ever changes in place.
#[derive(Clone, Copy)]
pub struct Record {
    backend: *const Backend,
    directory: *const Directory,
}

impl Record {
    #[inline(always)]
    pub fn state(&self) -> HostState {
        // SAFETY: a record of the map; an aligned word.
        Control(unsafe { (&raw const (*self.backend).control).read_volatile() }).state()
    }

    /// What the state means at this moment to a flow.
    #[inline(always)]
    pub fn state_for(&self, now: u32, hash: FlowHash) -> HostState {
        // SAFETY: as above.
        Control(unsafe { (&raw const (*self.backend).control).read_volatile() }).state_for(now, hash.turn())
    }

    #[inline(always)]
    pub fn get(&self) -> &Backend {
        // SAFETY: a record of the map.
        unsafe { &*self.backend }
    }

    /// The way out to it.
    #[inline(always)]
    pub fn egress(&self) -> &Egress {
        let number = self.get().egress as usize & (EGRESSES - 1);
        // SAFETY: the map's element; the index is below the length.
        unsafe { &*(&raw const (*self.directory).egresses).cast::<Egress>().add(number) }
    }

    /// Source of an outer header for a flow, as it lies in a packet.
    #[inline(always)]
    pub fn outer_source(&self, hash: FlowHash) -> [u64; 2] {
        let Egress { source, spread, .. } = self.egress();
        [source[0] | spread[0] & hash.0, source[1] | spread[1] & hash.0]
    }
}

/// The backend with this number of a record.
#[inline(always)]
pub fn numbered(directory: *const Directory, number: u32) -> Record {
    // SAFETY: the map's element; the index is below the length.
    let backend =
        unsafe { (&raw const (*directory).backends).cast::<Backend>().add(number as usize & (BACKENDS - 1)) };
    Record { backend, directory }
}

/// The backend of a host, for the service with this window; record 0, whose state is [`HostState::Gone`], if it has none.
#[inline(always)]
pub fn find(directory: *const Directory, window: Window, host: HostId) -> Record {
    numbered(directory, number_of(directory, window, host))
}

/// Number of the record of a host's backend; 0 if it has none.
#[inline(always)]
pub fn number_of(directory: *const Directory, window: Window, host: HostId) -> u32 {
    match window.pair(host) {
        // SAFETY: the map's element; the index is below the length.
        Some(pair) => unsafe {
            (&raw const (*directory).pairs).cast::<u32>().add(pair as usize & (PAIRS - 1)).read_volatile()
        },
        None => 0,
    }
}

/// Finds backends by host, for one packet. Remembers the last one, as who decides about a host asks for it again.
pub struct Backends {
    directory: *const Directory,
    window: Window,
    now: u32,
    hash: FlowHash,
    host: Cell<HostId>,
    /// Null before the first; no `Option`, whose value would be undefined then, which the verifier refuses to see copied.
    last: Cell<*const Backend>,
}

impl Backends {
    #[inline(always)]
    pub fn new(directory: *const Directory, window: Window, now: u32, hash: FlowHash) -> Self {
        Backends {
            directory,
            window,
            now,
            hash,
            host: Cell::new(HOST_NONE),
            last: Cell::new(core::ptr::null()),
        }
    }

    #[inline(always)]
    pub fn get(&self, host: HostId) -> Record {
        let last = self.last.get();
        if self.host.get() == host && !last.is_null() {
            return Record { backend: last, directory: self.directory };
        }
        let record = find(self.directory, self.window, host);
        self.host.set(host);
        self.last.set(record.backend);
        record
    }

    /// What may be done with the host now, for the packet's flow.
    #[inline(always)]
    pub fn state(&self, host: HostId) -> HostState {
        self.get(host).state_for(self.now, self.hash)
    }
}

/// This CPU's counters of a (service, host).
#[inline(always)]
pub fn stats(index: u32) -> Option<&'static mut BackendStats> {
    // SAFETY: this CPU's record, which no other program run touches meanwhile.
    maps::BACKEND_STATS.get_ptr_mut(index).map(|stats| unsafe { &mut *stats })
}

/// One more packet, by a record that has further counters: see `Backend::tally`.
#[inline(always)]
pub fn tally_packet(record: &Record, bytes: u64) {
    let tally = record.get().tally;
    if tally != 0
        && let Some(stats) = stats(tally)
    {
        stats.packets += 1;
        stats.bytes += bytes;
    }
}

/// One more packet of so many bytes went to the backend.
#[inline(always)]
pub fn count_packet(record: &Record, bytes: u64) {
    if let Some(stats) = stats(record.get().stats) {
        stats.packets += 1;
        stats.bytes += bytes;
    }
}
