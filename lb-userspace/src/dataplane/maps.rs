//! The maps of an instance, open.

use aya::Ebpf;
use aya::maps::{HashMap, LpmTrie, Map, MapData, PerCpuArray};
use lb_common::hash::Key;
use lb_common::layout::{
    BackendStats, ClientKey, ClientRing, Cold, DecisionRecord, HOST_MAX, Overflow, Own, Tuple, state,
};

use super::upgrade::Inherited;
use super::{Error, Mapped, Services, Sizes};

/// All maps of the balancer's program. Arrays are mapped into memory.
pub struct Maps {
    pub sizes: Sizes,
    pub services: Services,
    pub rings: Mapped<[u32; 16]>,
    pub egress: aya::maps::xdp::DevMapHash<MapData>,
    pub own: HashMap<MapData, u32, Own>,
    pub vips: LpmTrie<MapData, [u8; 16], u32>,
    pub clients: LpmTrie<MapData, ClientKey, ClientRing>,
    pub hot: Mapped<[u64; 8]>,
    pub cold: Mapped<Cold>,
    pub marks: Mapped<[u32; 16]>,
    pub overflow: HashMap<MapData, Tuple, Overflow>,
    pub state: Mapped<u64>,
    pub incomplete_since: Mapped<u64>,
    pub backend_stats: PerCpuArray<MapData, BackendStats>,
    pub user_stats: Mapped<BackendStats>,
    pub reason_counts: PerCpuArray<MapData, u64>,
    /// An array of one 32-bit word has a stride of 8.
    pub test_clock: Mapped<u64>,
    /// Not pinned: of this load of the program only.
    pub decision: Mapped<DecisionRecord>,
    /// The same: whether the program before is called for flows that are not known here.
    pub(super) transition: Mapped<u64>,
    /// Counts of data paths before.
    pub(super) inherited: Inherited,
}

impl Maps {
    /// Takes the maps out of a loaded object. `key` is that of the flow hash.
    pub fn take(ebpf: &mut Ebpf, sizes: Sizes, key: Key) -> Result<Self, Error> {
        let mut map = |name: &'static str| ebpf.take_map(name).ok_or(Error::Missing(name));
        macro_rules! typed {
            ($name:literal) => {
                map($name)?.try_into().map_err(Error::map($name))?
            };
        }
        macro_rules! mapped {
            ($name:literal, $len:expr) => {
                match map($name)? {
                    // The mapping keeps the map alive; its descriptor is not needed any more.
                    Map::Array(data) => Mapped::new(data.fd(), $name, $len)?,
                    _ => return Err(Error::Missing($name)),
                }
            };
        }
        Ok(Maps {
            sizes,
            services: Services::new(mapped!("DIRECTORY", 1), key),
            rings: mapped!("RINGS", sizes.ring_copies * sizes.blocks_a_ring()),
            egress: typed!("EGRESS"),
            own: typed!("OWN"),
            vips: typed!("VIPS"),
            clients: typed!("CLIENTS"),
            hot: mapped!("HOT", sizes.buckets),
            cold: mapped!("COLD", sizes.words()),
            marks: mapped!("MARKS", sizes.buckets / 16),
            overflow: typed!("OVERFLOW"),
            state: mapped!("STATE", state::WORDS),
            incomplete_since: mapped!("INCOMPLETE_SINCE", u32::from(HOST_MAX) + 1),
            backend_stats: typed!("BACKEND_STATS"),
            user_stats: mapped!("USER_STATS", sizes.stats),
            reason_counts: typed!("REASON_COUNTS"),
            test_clock: mapped!("TEST_CLOCK", 1),
            decision: mapped!("DECISION", 1),
            transition: mapped!("TRANSITION", 1),
            inherited: Inherited::default(),
        })
    }

    /// Names of the maps that are pinned, as in the object.
    pub const NAMES: [&'static str; 18] = [
        "DIRECTORY",
        "GATE",
        "RINGS",
        "EGRESS",
        "OWN",
        "VIPS",
        "CLIENTS",
        "FRAGMENTS",
        "HOT",
        "COLD",
        "MARKS",
        "OVERFLOW",
        "STATE",
        "INCOMPLETE_SINCE",
        "BACKEND_STATS",
        "USER_STATS",
        "REASON_COUNTS",
        "TEST_CLOCK",
    ];

    /// Hot word `index`.
    pub(super) fn word(&self, index: u32) -> *mut u64 {
        // SAFETY: `at` checked the bucket; 8 words each.
        unsafe { self.hot.at(index / 8).cast::<u64>().add(index as usize % 8) }
    }

    /// Mark of a bucket.
    pub(super) fn mark(&self, bucket: u32) -> *mut u32 {
        // SAFETY: `at` checked the block; 16 marks each.
        unsafe { self.marks.at(bucket / 16).cast::<u32>().add(bucket as usize % 16) }
    }
}
