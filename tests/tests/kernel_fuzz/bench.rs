//! The balancer's program in the kernel and its model on the host, side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::layout::{
    Backend, FEATURE_GUE, FEATURE_NAT, FEATURE_PING, FEATURE_RANGES, FEATURE_TAGS, Slot,
};
use lb_common::reason::{Class, Reason};
use lb_common::table::LIMBO;
use lb_laws::balancer::{Balancer, Change, Outcome, Settings, Verdict};
use lb_laws::icmp::OWN_V4;
use lb_laws::site::{HOSTS, PREFIXES, Site};
use lb_userspace::dataplane::{
    Abilities, BackendTable, Dry, DryRun, Options, PairCounters, ServiceTable, Sizes, Tables, Vip,
};
use sluice_tests::rig::{
    Counts, Delta, Dump, INGRESS, KEY, PairDelta, Rig, Setup, XDP_DROP, XDP_PASS, XDP_TX, dump, timeout,
};

/// Frames of these lengths are taken by a test run: with an Ethernet header, and on one page together with the headroom.
pub const LENGTHS: std::ops::RangeInclusive<usize> = 14..=3000;
/// Room for so many more pins than the corpus has flows that none meets another.
pub const PINS: u32 = 100_000;

/// The two, with the same services, flows and clock.
pub struct Bench {
    rig: Rig,
    model: Balancer,
    /// Of the kernel, after the last frame.
    counts: Counts,
    pub calm: Arc<Site>,
    pub stirred: Arc<Site>,
    ends: u32,
    /// What became of the last frame in the kernel: verdict and bytes.
    last: (u32, Vec<u8>),
    dry: Option<Dry>,
    /// Frames by what became of them.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Bench {
    /// With the calm site, every ability, and a flow table for so many pins.
    pub fn new(pins: u32) -> Self {
        without_routes();
        let sizes = Sizes { ring_copies: 64, ..Sizes::new(251, pins) };
        let abilities = Abilities {
            features: FEATURE_RANGES | FEATURE_GUE | FEATURE_NAT | FEATURE_TAGS | FEATURE_PING,
            // All are answered.
            icmp_rate: u32::MAX,
            mss: 1400,
            prefixes: PREFIXES.to_vec(),
            frags: false,
        };
        let mut rig = Rig::open_with(Options { abilities: abilities.clone(), ..Rig::options(sizes) });
        rig.own(INGRESS, Some(OWN_V4), None);
        let Options { timeouts, udp_gap, .. } = rig.dataplane.options;
        let settings = Settings {
            key: KEY,
            ring_size: sizes.ring_size,
            timeouts,
            udp_gap,
            features: abilities.features,
            mss: abilities.mss,
            own_v4: Some(OWN_V4),
            own_v6: None,
        };
        let (calm, stirred) = (Site::calm(sizes.ring_size).into(), Site::stirred(sizes.ring_size).into());
        let model = Balancer::new(settings, Arc::clone(&calm), rig.now());
        let counts = rig.counts();
        let (last, dry) = Default::default();
        let mut bench =
            Bench { rig, model, counts, calm, stirred, ends: 0, last, dry, seen: BTreeMap::new() };
        bench.publish(&bench.calm.clone());
        bench
    }

    /// Sets both up.
    pub fn publish(&mut self, site: &Arc<Site>) {
        let mut setup = Setup::new(&self.rig);
        setup.tables = tables(site);
        self.check_others();
        self.rig.publish(&setup);
        self.counts = self.rig.counts();
        self.model.site = Arc::clone(site);
    }

    /// Lets time pass for both.
    pub fn pass(&mut self, seconds: u32) {
        self.rig.pass(seconds);
        self.model.now += seconds;
    }

    /// Runs both on a frame. What differs, if something does.
    pub fn compare(&mut self, frame: &[u8]) -> Result<(), String> {
        let outcome = self.model.run(frame);
        let (verdict, bytes) = self.rig.run_uncounted(frame, INGRESS);
        self.last = (verdict, bytes.clone());
        let delta = self.count(outcome.service);
        for reason in &outcome.reasons {
            *self.seen.entry(reason.name()).or_default() += 1;
        }
        let in_kernel = (verdict, bytes, delta);
        let on_host = (code(outcome.verdict), outcome.bytes.clone(), changed(&outcome));
        if in_kernel == on_host {
            return Ok(());
        }
        Err(format!("frame {frame:02x?}\nin the kernel: {in_kernel:02x?}\non the host:   {on_host:02x?}"))
    }

    /// What a dry run says of a frame.
    pub fn foresee(&mut self, frame: &[u8]) -> DryRun {
        let options = &self.rig.dataplane.options;
        let dry = self.dry.get_or_insert_with(|| Dry::load(options).expect("dry runs can be loaded"));
        dry.run(frame, INGRESS, false).expect("a dry run")
    }

    /// As [`Self::compare`], and a dry run before it must have said the same.
    pub fn compare_foreseen(&mut self, frame: &[u8]) -> Result<(), String> {
        let DryRun { verdict, bytes, record } = self.foresee(frame);
        let before = self.counts.reasons.clone();
        self.compare(frame)?;
        let is_verdicts = |name: &str| !name.starts_with("note_") && !name.starts_with("violation_");
        let reasons =
            self.counts.reasons.iter().filter(|(name, count)| {
                is_verdicts(name) && **count != before.get(*name).copied().unwrap_or(0)
            });
        let reasons: Vec<&str> = reasons.map(|(name, _)| *name).collect();
        let foreseen = (&(verdict, bytes), vec![Reason::from_number(record.reason).name()]);
        let done = (&self.last, reasons);
        if foreseen == done {
            return Ok(());
        }
        Err(format!("frame {frame:02x?}\nforeseen: {foreseen:02x?}\nby {record:?}\ndone: {done:02x?}"))
    }

    /// The contents of all maps of the program and of what it calls.
    pub fn dump(&mut self) -> BTreeMap<u32, Dump> {
        dump(&mut self.rig)
    }

    /// What changed in the reasons and in the counters of a service; [`Self::check_others`] looks at the rest, which takes longer.
    fn count(&mut self, service: Option<u16>) -> Delta {
        let stats =
            service.into_iter().flat_map(|service| HOSTS.map(move |host| Setup::stats(service, host)));
        let counters = self.rig.dataplane.counters(stats).expect("counters can be read");
        let reasons = counters.reasons.into_iter().map(|(reason, count)| (reason.name(), count)).collect();
        let counts = Counts { reasons, pairs: counters.pairs };
        let delta = Delta::between(&self.counts, &counts);
        self.counts.reasons = counts.reasons;
        self.counts.pairs.extend(counts.pairs);
        delta
    }

    /// No frame has changed a counter of a service that it was not for.
    pub fn check_others(&self) {
        assert_eq!(self.rig.counts(), self.counts, "all counters, and those of the frames' services");
    }

    /// The part of the frames that came to a backend.
    pub fn forwarded(&self) -> f64 {
        let count = |is_wanted: fn(Class) -> bool| {
            let reasons = Reason::ALL.iter().filter(|reason| is_wanted(reason.class()));
            reasons.filter_map(|reason| self.seen.get(reason.name())).sum::<u64>() as f64
        };
        let all = count(|class| matches!(class, Class::Pass | Class::Forward | Class::Answer | Class::Drop));
        count(|class| class == Class::Forward) / all
    }

    /// Ends all flows in the kernel's way: their pins age, and the sweep takes them. The table is empty then, and so are its
    /// books.
    pub fn end_all(&mut self) {
        if self.model.flows() == 0 {
            return self.check_others();
        }
        // It reads all there is, and takes longer than all the rest.
        self.ends += 1;
        if self.ends % 16 == 1 {
            self.check_others();
            self.rig.audit();
        }
        // The longest of any timeout set.
        self.pass(2 * timeout::ESTABLISHED + LIMBO + 1);
        let swept = self.rig.sweep();
        assert_eq!((swept.expired, swept.total()), (self.model.flows() as u64, 0));
        self.model.forget();
        let counts = self.rig.counts();
        for (stats, counters) in &counts.pairs {
            let before = self.counts.pairs[stats];
            let unanswered = before.unanswered + before.live[0] as u64;
            let ended = PairCounters { live: [0; 4], changes: counters.changes, unanswered, ..before };
            assert_eq!(*counters, ended, "counters {stats} when all flows have ended");
        }
        self.counts = counts;
    }
}

fn tables(site: &Site) -> Tables {
    let service = |(&number, service): (&u16, &lb_laws::site::Service)| {
        let stats = |host| Setup::stats(number, host);
        let backends = service.backends.iter();
        let backends = backends.map(|(&host, &lb_laws::site::BackendTable { record, egress })| {
            (host, BackendTable { record: Backend { stats: stats(host), ..record }, egress })
        });
        let table = ServiceTable {
            keys: service.keys.clone(),
            policy: service.policy,
            ring: service.ring,
            backends: backends.collect(),
        };
        (number, table)
    };
    let words = |slots: &Vec<Slot>| slots.iter().map(|slot| slot.0).collect();
    Tables {
        services: site.services.iter().map(service).collect(),
        clients: BTreeMap::new(),
        rings: site.rings.iter().map(|(&ring, slots)| (ring, words(slots))).collect(),
        vips: site.vips.iter().map(|(&key, &flags)| (key, Vip(flags))).collect(),
    }
}

/// Puts this thread into a network namespace of its own, which forwards nothing: so no backend's answer has a route.
fn without_routes() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
    for setting in ["ipv4/conf/all", "ipv4/conf/lo", "ipv6/conf/all", "ipv6/conf/lo"] {
        let path = format!("/proc/sys/net/{setting}/forwarding");
        std::fs::write(&path, "0").unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

fn code(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass => XDP_PASS,
        Verdict::Drop => XDP_DROP,
        Verdict::Transmit => XDP_TX,
    }
}

fn changed(outcome: &Outcome) -> Delta {
    let mut delta = Delta::default();
    for reason in &outcome.reasons {
        *delta.reasons.entry(reason.name()).or_default() += 1;
    }
    for (&(service, host), change) in &outcome.changes {
        let &Change { packets, bytes, new_flows, moved, reset, live } = change;
        let [half_open, established, closing, udp] = live;
        let change = PairDelta {
            packets,
            bytes,
            new_flows,
            evicted: 0,
            moved,
            reset,
            half_open,
            established,
            closing,
            udp,
        };
        delta = delta.pair(service, host, change);
    }
    delta
}
