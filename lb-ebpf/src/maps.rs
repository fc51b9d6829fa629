//! The maps, and the read-only settings. Sizes given here are the smallest; the loader sets the real ones.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use lb_common::flow::{TIMEOUT_SETS, Timeouts};
use lb_common::hash::Key as HashKey;
use lb_common::layout::{
    BackendStats, ClientKey, ClientRing, Cold, DecisionRecord, Directory, FEATURE_DRY, FEATURE_TRACE,
    HOST_MAX, Overflow, Own, PREFIXES, Prefix, SLOTS_A_BLOCK, Settings, TRACERS, TraceCounts, TraceFilter,
    Tuple, VipFlags, state,
};
use lb_common::reason::REASONS;

use crate::answer::Kind;
use crate::hand::Hand;
use crate::pin::Flow;
use crate::trace::Traced;

/// Not preallocated: elements come and go by ones.
const BPF_F_NO_PREALLOC: u32 = 1;

/// Services and backends.
#[map]
pub static DIRECTORY: Array<Directory> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Slots of all rings, old and new copies, in blocks of a cache line.
#[map]
pub static RINGS: Array<[u32; SLOTS_A_BLOCK]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Interfaces that lead to backends, for `XDP_REDIRECT`, by their index.
#[map]
pub static EGRESS: DevMapHash = DevMapHash::with_max_entries(64, 0);

/// Addresses and prefixes that are VIPs: `lb_common::layout::VipFlags` of each. IPv4 as `::ffff:a.b.c.d`.
#[map]
pub static VIPS: LpmTrie<[u64; 2], u32> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);
/// Clients of services that go by rings of their own; asked only for services with `Service::SPLIT`. 4096: see `Sizes::CLIENTS`.
#[map]
pub static CLIENTS: LpmTrie<ClientKey, ClientRing> = LpmTrie::with_max_entries(4096, BPF_F_NO_PREALLOC);
/// Packets in fragments: where the first one went.
#[map]
pub static FRAGMENTS: LruHashMap<Tuple, u64> = LruHashMap::with_max_entries(16_384, 0);
/// The balancer's own addresses, by interface.
#[map]
pub static OWN: HashMap<u32, Own> = HashMap::with_max_entries(64, 0);
/// Answers that were given, by CPU and kind: see [`crate::answer::Kind`].
#[map]
pub static ANSWERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Kind::COUNT, 0);
/// Programs that this one calls, by [`WHOLE`].
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(3, 0);
/// Number of the program for all packets that are not plain.
pub const WHOLE: u32 = 0;
/// Number of the program that was attached before this one, while its flow table is taken over: see [`has_predecessor`].
pub const PREDECESSOR: u32 = 1;
/// Number of the program for traffic, in the array of one that traces: see [`crate::trace`].
pub const UNTRACED: u32 = 2;
/// Whether there is one (0 or 1). Not pinned: of this load of the program only.
#[map]
pub static TRANSITION: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Flow table: words of the pins, by bucket.
#[map]
pub static HOT: Array<[u64; 8]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Flow table: cold records, by word.
#[map]
pub static COLD: Array<Cold> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Flow table: marks of 16 buckets each.
#[map]
pub static MARKS: Array<[u32; 16]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Flow table: pins without a place in the arrays.
#[map]
pub static OVERFLOW: HashMap<Tuple, Overflow> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Words that data path and daemon share, by `lb_common::layout::state`.
#[map]
pub static STATE: Array<u64> = Array::with_max_entries(state::WORDS, BPF_F_MMAPABLE);
/// By host: second in which a live pin of it was last dropped or found no place.
#[map]
pub static INCOMPLETE_SINCE: Array<u64> = Array::with_max_entries(HOST_MAX as u32 + 1, BPF_F_MMAPABLE);

/// The packet that is decided exactly, by CPU.
#[map]
pub static WORK: PerCpuArray<Flow> = PerCpuArray::with_max_entries(1, 0);
/// The packet in hand, where it is not a plain one, by CPU.
#[map]
pub static HAND: PerCpuArray<Hand> = PerCpuArray::with_max_entries(1, 0);
/// The pin that is being made, by CPU.
#[map]
pub static ENTRY: PerCpuArray<Overflow> = PerCpuArray::with_max_entries(1, 0);

/// The flood gate, by CPU: second in the upper half, pins made in it in the lower.
#[map]
pub static GATE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Counters of backends, by CPU.
#[map]
pub static BACKEND_STATS: PerCpuArray<BackendStats> = PerCpuArray::with_max_entries(1, 0);
/// Counters of backends that the daemon writes: pins that its sweep ended. Here, so that they outlive it.
#[map]
pub static USER_STATS: Array<BackendStats> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Packets by reason, by CPU.
#[map]
pub static REASON_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASONS, 0);
/// Seconds, where a test sets the clock.
#[map]
pub static TEST_CLOCK: Array<u32> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The last decision, where decisions are recorded.
#[map]
pub static DECISION: Array<DecisionRecord> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Who traces what: only of a load that traces, as all that follows. Others make these maps as small as they can be.
#[map]
pub static TRACE_FILTERS: Array<TraceFilter> = Array::with_max_entries(TRACERS as u32, BPF_F_MMAPABLE);
/// What each of them was shown this second: see [`lb_common::trace::taken`].
#[map]
pub static TRACE_BUDGETS: Array<u64> = Array::with_max_entries(TRACERS as u32, BPF_F_MMAPABLE);
/// Packets that they asked for, by CPU and tracer.
#[map]
pub static TRACE_COUNTS: Array<TraceCounts> = Array::with_max_entries(TRACERS as u32, BPF_F_MMAPABLE);
/// The packet that is looked at, by CPU. No array of the kind that the kernel makes for each CPU, as those have a bound of 32 KiB a value, and
/// could not be small where nobody traces.
#[map]
pub static TRACED: Array<Traced> = Array::with_max_entries(1, 0);
/// What they are shown: an [`lb_common::layout::TraceRecord`] each, and bytes (Linux 5.8).
#[map]
pub static TRACES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Of a load for dry runs: whether the overflow map is full (0 or 1), which only who counts it can say.
#[map]
static OVERFLOW_FULL: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Set by the loader before the program is verified, so that each field is a constant to the verifier and to the JIT.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    key: [0; 2],
    ring_size: 0,
    bucket_mask: 0,
    timeouts: [0; TIMEOUT_SETS * 8],
    keeps: [0; TIMEOUT_SETS * 8],
    udp_gap: [0; TIMEOUT_SETS],
    layout_version: 0,
    features: 0,
    flood_gate: 0,
    icmp_rate: 0,
    mss: 0,
    pad: 0,
    prefixes: [Prefix { mask: [0; 2], mark: [0; 2] }; PREFIXES],
};

macro_rules! setting {
    ($field:ident) => {
        // SAFETY: read-only data; volatile, as the loader replaces what the compiler sees.
        unsafe { (&raw const SETTINGS.$field).read_volatile() }
    };
}

#[inline(always)]
pub fn key() -> HashKey {
    [
        // SAFETY: as for `setting!`.
        unsafe { (&raw const SETTINGS.key[0]).read_volatile() },
        // SAFETY: as for `setting!`.
        unsafe { (&raw const SETTINGS.key[1]).read_volatile() },
    ]
}

/// Whether flows may still have pins in the flow table of the program before alone. A flow of a slot in handover that none is known of here
/// is then that program's to decide about.
#[inline(always)]
pub fn has_predecessor() -> bool {
    // SAFETY: one aligned word of a map.
    TRANSITION.get_ptr(0).is_some_and(|on| unsafe { on.read_volatile() } != 0)
}

#[inline(always)]
pub fn ring_size() -> u32 {
    setting!(ring_size)
}

#[inline(always)]
pub fn bucket_mask() -> u32 {
    setting!(bucket_mask)
}

#[inline(always)]
pub fn features() -> u32 {
    setting!(features)
}

/// Whether this load of the program may change nothing that another shares: pins, counters, what is remembered of fragments, what answers
/// are paced by. All that could asks here, and where packets are many nothing does: what a load for traffic keeps of the question is that it
/// reads the constant.
#[inline(always)]
pub fn is_dry() -> bool {
    features() & FEATURE_DRY != 0
}

/// Whether decisions are shown to who traces.
#[inline(always)]
pub fn is_tracing() -> bool {
    features() & FEATURE_TRACE != 0
}

/// Whether the overflow map takes another pin, as far as a dry run was told.
#[inline(always)]
pub fn overflow_has_room() -> bool {
    // SAFETY: one aligned word of a map.
    OVERFLOW_FULL.get_ptr(0).is_none_or(|full| unsafe { full.read_volatile() } == 0)
}

/// What is known of an address, see `lb_common::layout::VipFlags`; 0: nothing.
#[inline(always)]
pub fn vip(address: [u64; 2]) -> u32 {
    VIPS.get(Key::new(128, address)).copied().unwrap_or(0)
}

/// What a client of a service goes by, if that is not what all others do.
#[inline(always)]
pub fn client_ring(service: u16, client: [u64; 2]) -> Option<&'static ClientRing> {
    CLIENTS.get(Key::new(ClientKey::SERVICE + 128, ClientKey::new(service, client)))
}

/// The interface that routes know where a packet came in by this one: the bond, if it belongs to one.
#[inline(always)]
pub fn routed_as(ifindex: u32) -> u32 {
    // SAFETY: a record that the daemon replaces as a whole.
    match unsafe { OWN.get(ifindex) } {
        Some(own) if own.bond != 0 => own.bond,
        _ => ifindex,
    }
}

/// Whether packets from an address are not a client's: it is a VIP. Asked only about a flow that is not known yet, as it is a look-up in
/// a trie.
#[inline(always)]
pub fn is_no_client(source: [u64; 2]) -> bool {
    vip(source) & VipFlags::ALONE != 0
}

/// Whether an interface is one of the balancer's.
#[inline(always)]
pub fn is_own(ifindex: u32) -> bool {
    OWN.get_ptr(ifindex).is_some()
}

/// [`Settings::mss`]
#[inline(always)]
pub fn mss() -> u32 {
    setting!(mss)
}

/// [`Settings::icmp_rate`]
#[inline(always)]
pub fn icmp_rate() -> u32 {
    setting!(icmp_rate)
}

/// [`Settings::prefixes`]
#[inline(always)]
pub fn prefixes() -> &'static [Prefix; PREFIXES] {
    let prefixes = core::hint::black_box(&raw const SETTINGS.prefixes);
    // SAFETY: as for `timeouts`.
    unsafe { &*prefixes }
}

/// [`Settings::flood_gate`]
#[inline(always)]
pub fn flood_gate() -> u32 {
    setting!(flood_gate)
}

/// [`Settings::udp_gap`] of a timeout set.
#[inline(always)]
pub fn udp_gap(set: u8) -> u32 {
    let gaps = core::hint::black_box(&raw const SETTINGS.udp_gap);
    // SAFETY: as for `timeouts`; the index is below the length.
    unsafe { (*gaps)[set as usize & (TIMEOUT_SETS - 1)] }
}

/// Idle timeouts.
#[inline(always)]
pub fn timeouts() -> &'static Timeouts {
    let timeouts = core::hint::black_box(&raw const SETTINGS.timeouts);
    // SAFETY: read-only data. The pointer went through `black_box`, so the compiler does not fold in the zeroes.
    unsafe { &*timeouts }
}

/// For how long a word may not be taken by another flow.
#[inline(always)]
pub fn keeps() -> &'static Timeouts {
    let keeps = core::hint::black_box(&raw const SETTINGS.keeps);
    // SAFETY: as for `timeouts`.
    unsafe { &*keeps }
}
