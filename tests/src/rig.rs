//! The data path on a bench: loaded under an instance of its own with a clock that the test sets, fed with single
//! frames through `BPF_PROG_TEST_RUN`, and read out to the last counter and word. Nothing is attached to an interface.
//!
//! ```no_run
//! use lb_common::layout::{HostState, Slot};
//! use sluice_tests::packets::Packet;
//! use sluice_tests::rig::{Rig, Setup, XDP_TX, l2};
//!
//! let vip = "198.51.100.1:80".parse().unwrap();
//! let mut rig = Rig::open(Rig::small());
//! let mut setup = Setup::new(&rig);
//! setup.service(0, vip, 6, 0).backend(0, 1, l2(1)).ring(0, Slot::settled(1));
//! rig.publish(&setup);
//! let answer = rig.run(&Packet::tcp("10.0.0.1:40000".parse().unwrap(), vip).syn(7).build());
//! assert_eq!((answer.verdict, answer.delta.reason("forward_new")), (XDP_TX, 1));
//! rig.audit();
//! ```

mod counts;
pub mod decap;
mod dump;
mod outer;
mod pool;
mod runner;
mod setup;
mod table;
mod tracing;
mod wipe;

use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use lb_common::flow;
use lb_common::hash::{FlowHash, Key};
use lb_common::layout::{Own, Policy, Tuple};
use lb_userspace::dataplane::{Abilities, Dataplane, Options, Packets, Sizes, Tracing, detach_all};

pub use counts::{BEGAN, BEGAN_UDP, Counts, Delta, NOTHING, PairDelta, phases};
pub use dump::{Dump, dump};
pub use outer::wrapped;
pub use runner::{Random, Runner, lasting, stay_on, two_cpus};
pub use setup::{Setup, gue, ipip_v4, ipip_v6, l2, nat, tuple, words};
pub use table::{Pin, Place};
pub use tracing::EVERYTHING;

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const XDP_REDIRECT: u32 = 4;

/// The interface that frames of a test run come in by when nothing else is said: the namespace's loopback.
pub const INGRESS: u32 = 1;

/// Idle timeouts of the rig, seconds: half-open longer than the 64 s after which such a pin may be a victim.
pub mod timeout {
    pub const HALF_OPEN: u32 = 120;
    pub const ESTABLISHED: u32 = 600;
    pub const CLOSING: u32 = 30;
    pub const UDP: u32 = 90;
    pub const RESET: u32 = 10;
}

/// Seconds of silence after which a UDP flow of a service with such a policy may change its host.
pub const UDP_GAP: u32 = 5;

/// By phase number.
pub const TIMEOUTS: [u32; 8] =
    [0, 0, timeout::HALF_OPEN, timeout::ESTABLISHED, timeout::CLOSING, timeout::UDP, timeout::RESET, 0];

/// Timeout set 1: twice as long, and so is its UDP gap. The other sets are as the instance's.
pub const LONGER: [u32; 8] = double(TIMEOUTS);

const fn double(mut timeouts: [u32; 8]) -> [u32; 8] {
    let mut i = 0;
    while i < timeouts.len() {
        timeouts[i] *= 2;
        i += 1;
    }
    timeouts
}

/// Hash key of every rig.
pub const KEY: Key = [0x0123_4567_89ab_cdef, 0x0fed_cba9_8765_4321];

/// Second at which a rig's clock starts: larger than every timeout.
pub const START: u32 = 100_000;

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `XDP_…`
    pub verdict: u32,
    /// The frame as the program left it.
    pub bytes: Vec<u8>,
    /// What all counters changed by.
    pub delta: Delta,
}

/// A loaded data path. Its pins in bpffs go when it is dropped.
pub struct Rig {
    pub dataplane: ManuallyDrop<Dataplane>,
    /// It has no pins in bpffs, and is left to other tests.
    is_borrowed: bool,
    /// Numbers of counters that were ever published.
    stats: std::collections::BTreeSet<u32>,
    setup: Option<Setup>,
    /// In place of the program, see [`Rig::trace`].
    tracing: Option<(Tracing, Packets)>,
}

impl Rig {
    /// Rings of 251 slots, and a flow table of 256 buckets with an overflow map of 1024 entries.
    pub fn small() -> Sizes {
        Sizes { ring_copies: 64, ..Sizes::new(251, 1024) }
    }

    /// Loads the program under an instance name that no other rig has, of this process or another.
    ///
    /// # Panics
    /// Where the data path cannot be loaded, as do all methods when something fails: a rig is for tests.
    pub fn open(sizes: Sizes) -> Self {
        Self::open_with(Self::options(sizes))
    }

    /// What [`Self::open`] loads the program with; the instance's name is another each time.
    pub fn options(sizes: Sizes) -> Options {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Options {
            instance: format!("rig-{}-{number}", std::process::id()),
            sizes,
            key: KEY,
            timeouts: flow::timeouts(&[TIMEOUTS, LONGER, TIMEOUTS, TIMEOUTS]),
            udp_gap: [UDP_GAP, 2 * UDP_GAP, UDP_GAP, UDP_GAP],
            flood_gate: 0,
            abilities: Abilities::default(),
            test_clock: true,
            records: false,
        }
    }

    /// As [`Self::open`], with other settings. Without the test clock, [`Self::pass`] does nothing, and the key must be
    /// [`KEY`].
    pub fn open_with(options: Options) -> Self {
        let rig = Self::on(Dataplane::open(options).expect("the data path loads"));
        rig.dataplane.set_clock(START);
        rig
    }

    /// As [`Self::open_with`], in a hundredth of the time if another test has left such a one. It has no pins in bpffs, so no other can be opened
    /// beside or after it.
    pub fn borrow(options: Options) -> Self {
        let mut rig = Self::on(pool::borrow(options));
        rig.is_borrowed = true;
        rig.dataplane.set_clock(START);
        rig
    }

    /// Around a data path that is open, with the clock as it is.
    pub fn on(dataplane: Dataplane) -> Self {
        let dataplane = ManuallyDrop::new(dataplane);
        Rig { dataplane, is_borrowed: false, stats: Default::default(), setup: None, tracing: None }
    }

    /// Publishes a setup.
    pub fn publish(&mut self, setup: &Setup) {
        let setup = setup.clone();
        self.dataplane.publish(&setup.tables).expect("the tables are published");
        let backends = setup.tables.services.values().flat_map(|service| service.backends.values());
        self.stats.extend(backends.map(|backend| backend.record.stats));
        self.setup = Some(setup);
    }

    /// What was published last.
    pub fn published(&self) -> &Setup {
        self.setup.as_ref().expect("something was published")
    }

    /// Second of the rig's clock.
    pub fn now(&self) -> u32 {
        self.dataplane.now()
    }

    /// Lets time pass.
    pub fn pass(&mut self, seconds: u32) {
        self.dataplane.set_clock(self.now() + seconds);
    }

    /// Runs the program on a frame that came in by [`INGRESS`].
    pub fn run(&mut self, frame: &[u8]) -> Answer {
        self.run_from(frame, INGRESS)
    }

    /// Runs the program on a frame that came in by an interface of this thread's namespace.
    pub fn run_from(&mut self, frame: &[u8], ifindex: u32) -> Answer {
        let before = self.counts();
        let (verdict, bytes) = self.run_uncounted(frame, ifindex);
        Answer { verdict, bytes, delta: Delta::between(&before, &self.counts()) }
    }

    /// Runs the program without a look at the counters, which takes most of the time.
    pub fn run_uncounted(&mut self, frame: &[u8], ifindex: u32) -> (u32, Vec<u8>) {
        let program = match &mut self.tracing {
            Some((tracing, _)) => tracing.program(),
            None => self.dataplane.program(),
        };
        runner::run(program.expect("the object has the program"), frame, ifindex)
    }

    /// Hash of a flow with the rig's key.
    pub fn hash(tuple: &Tuple) -> FlowHash {
        FlowHash::of(tuple, KEY)
    }

    /// Home bucket of a flow.
    pub fn bucket(&self, tuple: &Tuple) -> u32 {
        Self::hash(tuple).bucket(self.dataplane.options.sizes.buckets - 1)
    }

    /// Slot of a flow in its ring.
    pub fn slot(&self, tuple: &Tuple) -> u32 {
        let found = self.setup.as_ref().and_then(|setup| {
            let (number, key) = setup.service_of(tuple)?;
            Some((setup.tables.services[&number].policy, key.place().0))
        });
        let hash = match found {
            Some((policy, address)) if policy.has(Policy::CLIENT) => {
                FlowHash::of_client(tuple, &address, KEY)
            }
            _ => FlowHash::of(tuple, KEY),
        };
        hash.slot(self.dataplane.options.sizes.ring_size)
    }

    /// Sets the balancer's addresses on an interface.
    pub fn own(&mut self, ifindex: u32, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) {
        let own = Own {
            v4: v4.map_or(0, |address| u32::from_ne_bytes(address.octets())),
            v6: v6.map_or([0; 2], |address| Tuple::words(address.octets())),
            bond: 0,
        };
        self.dataplane.maps.own.insert(ifindex, own, 0).expect("the map takes it");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // SAFETY: nobody uses it after this.
        let dataplane = unsafe { ManuallyDrop::take(&mut self.dataplane) };
        match (self.is_borrowed, std::thread::panicking()) {
            (true, false) => pool::give_back(dataplane),
            (true, true) => {}
            (false, is_panicking) => {
                let removed = detach_all(&dataplane.paths);
                if !is_panicking {
                    assert!(removed.expect("the pins can be removed"), "the rig's pins were there");
                }
            }
        }
    }
}
