//! What a plan says is what a drain then does, whatever went before.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::HOST_NONE;
use proptest::prelude::*;

use super::super::rings::{Making, Rings, Wanted};
use super::*;

use crate::api::types::{AdminState, Load};
use crate::config::parse;
use crate::model::{Model, Service, WhenEmpty};
use crate::plan::{Ids, Inputs};
use crate::ramp::Ramp;

const HOSTS: usize = 6;

/// Two of them share a ring; one keeps its last hosts, beside a ring of the same hosts that does not.
const SERVICES: [(&str, &[usize], &str); 5] = [
    ("web", &[0, 1, 2, 3, 4, 5], "reject"),
    ("api", &[0, 1, 2, 3, 4, 5], "pass"),
    ("dns", &[1, 3, 5], "reject"),
    ("old", &[1, 3, 5], "last"),
    ("one", &[4], "last"),
];

fn name(host: usize) -> String {
    format!("h{host}")
}

fn model(weights: &[u16]) -> Model {
    let mut toml = "interfaces = [\"eth0\"]\nring_size = 601\n".to_owned();
    for (host, weight) in weights.iter().enumerate() {
        toml += &format!("[hosts.h{host}]\naddresses = [\"10.0.0.{}\"]\nweight = {weight}\n", host + 1);
    }
    for (port, (service, hosts, when_empty)) in SERVICES.iter().enumerate() {
        let hosts: Vec<String> = hosts.iter().map(|host| name(*host)).collect();
        toml += &format!(
            "[[services]]\nname = {service:?}\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = {}\n\
             hosts = {hosts:?}\nwhen_empty = {when_empty:?}\n",
            port + 1
        );
    }
    parse(&toml, "f").unwrap_or_else(|errors| panic!("{errors}\n{toml}")).model
}

/// What an engine has of all this.
struct Site {
    model: Model,
    ids: Ids,
    rings: Rings,
    out: BTreeSet<String>,
    down: BTreeSet<String>,
    shares: BTreeMap<String, u16>,
    now: u64,
}

impl Site {
    fn new(weights: &[u16]) -> Self {
        let model = model(weights);
        let hosts: BTreeMap<String, u16> = model.hosts.keys().cloned().zip(7..).collect();
        let ids = Ids { known_hosts: hosts.clone(), hosts, ..Ids::with_stats(BTreeMap::new()) };
        let (out, down) = (BTreeSet::new(), BTreeSet::new());
        let mut site =
            Site { model, ids, rings: Rings::default(), out, down, shares: BTreeMap::new(), now: 1 };
        site.restart();
        site
    }

    fn making<T>(&self, out: &BTreeSet<String>, work: impl FnOnce(&Making<'_>) -> T) -> T {
        let inputs = Inputs {
            model: &self.model,
            ids: &self.ids,
            out,
            deadlines: &BTreeMap::new(),
            shares: &self.shares,
            pairs: &BTreeMap::new(),
            clients: &BTreeSet::new(),
            sealed: &BTreeSet::new(),
            down: &self.down,
            health: &BTreeMap::new(),
            next_hops: &BTreeMap::new(),
            path_mtus: &Default::default(),
            serving_on: &BTreeMap::new(),
            leaving: &BTreeMap::new(),
        };
        work(&Making {
            key: b"the plan\'s tests",
            size: self.model.ring_size,
            now: self.now,
            ids: &|name| self.ids.known_hosts.get(name).copied(),
            members: &|hosts, in_use, keeps_last, without, shares| {
                inputs.members(hosts, in_use, keeps_last, without, shares)
            },
        })
    }

    /// The rings with these hosts out.
    fn published(&self, rings: &Rings, out: &BTreeSet<String>) -> Rings {
        let mut rings = rings.clone();
        self.making(out, |making| rings.publish(making));
        rings
    }

    fn publish(&mut self) {
        self.rings = self.published(&self.rings, &self.out);
    }

    /// As a daemon does that is started again.
    fn restart(&mut self) {
        let wanted = |service: &Service| Wanted {
            hosts: service.hosts.clone(),
            keeps_last: service.when_empty == WhenEmpty::Last,
            without: BTreeSet::new(),
            shares: BTreeMap::new(),
        };
        let services: Vec<_> =
            self.model.services.iter().map(|service| (service.name.clone(), wanted(service))).collect();
        let journal = self.rings.kept().unwrap();
        self.rings = self.making(&self.out, |making| Rings::continued(making, services, &journal));
        self.publish();
    }

    fn owners(&self, service: &str) -> BTreeSet<String> {
        let rings = &self.rings;
        let ring = &rings.rings[&rings.by_service()[service]];
        let names = ring.owned().into_keys().filter(|owner| *owner != HOST_NONE);
        names.map(|id| self.ids.host_name(id).unwrap().to_owned()).collect()
    }

    fn set(&mut self, out: &[usize], down: &[usize]) {
        self.out = out.iter().copied().map(name).collect();
        self.down = down.iter().copied().map(name).collect();
        self.now += 1;
        self.publish();
    }

    fn plan(&self, hosts: &[String], load: &dyn Fn(&Service, &str) -> Load) -> DrainPlan {
        let out = self.out.iter().chain(hosts).cloned().collect();
        let after = self.published(&self.rings, &out);
        let state = |host: &str| {
            if self.out.contains(host) { AdminState::Draining } else { AdminState::Active }
        };
        whatif::plan(&Input {
            model: &self.model,
            hosts,
            service: None,
            clients: None,
            share: None,
            admin: &state,
            down: &self.down,
            rules: rules::broken(
                &self.model,
                &self.out,
                &BTreeSet::new(),
                &self.down,
                &Default::default(),
                hosts,
                None,
            ),
            rings: &changes(&self.rings, &after, None),
            load,
            live: &|_| LiveFlows::default(),
            idle_timeout: 9,
            expected: None,
        })
    }
}

fn some_load(service: &Service, host: &str) -> Load {
    let number =
        service.name.bytes().chain(host.bytes()).fold(7u32, |sum, byte| sum * 31 % 1009 + u32::from(byte));
    Load {
        new_flows_per_second: f64::from(number % 17),
        packets_per_second: f64::from(number),
        bytes_per_second: f64::from(number) * 700.0,
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Takes the host out, or back.
    Toggle(usize),
    /// It goes down, or up.
    Link(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..HOSTS).prop_map(Step::Toggle),
        2 => (0..HOSTS).prop_map(Step::Link),
        1 => Just(Step::Restart),
    ]
}

fn toggle(set: &mut BTreeSet<String>, host: usize) {
    if !set.remove(&name(host)) {
        set.insert(name(host));
    }
}

/// Slots by owner before and after, and by ring.
fn moved(before: &Rings, after: &Rings) -> BTreeMap<(u16, u16), u32> {
    let mut moved = BTreeMap::new();
    for change in changes(before, after, None) {
        for (&from, &to) in change.before.iter().zip(change.after).filter(|(from, to)| from != to) {
            *moved.entry((from, to)).or_default() += 1;
        }
    }
    moved
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_planned_is_what_publishing_does(
        weights in prop::collection::vec(1..300u16, HOSTS),
        steps in prop::collection::vec(step(), 0..12),
        asked in prop::collection::btree_set(0..HOSTS, 1..=HOSTS),
    ) {
        let mut site = Site::new(&weights);
        for step in steps {
            match step {
                Step::Toggle(host) => toggle(&mut site.out, host),
                Step::Link(host) => toggle(&mut site.down, host),
                Step::Restart => site.restart(),
            }
            site.now += 1;
            site.publish();
        }
        let hosts: Vec<String> = asked.into_iter().map(name).collect();
        let plan = site.plan(&hosts, &some_load);
        let before = site.rings.clone();
        site.out.extend(hosts.iter().cloned());
        site.now += 1;
        site.publish();

        // Slots: from whom to whom, and who has how many.
        let id = |name: &String| site.ids.hosts[name];
        let mut planned: BTreeMap<(u16, u16), u32> = BTreeMap::new();
        for host in &plan.hosts {
            for (to, slots) in &host.moves {
                planned.insert((id(&host.host), id(to)), *slots);
            }
        }
        let really = moved(&before, &site.rings);
        prop_assert!(really.keys().all(|(from, _)| hosts.iter().any(|host| id(host) == *from)), "only theirs move");
        let (gone, handed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            really.into_iter().partition(|((_, to), _)| *to == HOST_NONE);
        prop_assert_eq!(planned, handed);
        prop_assert_eq!(plan.unserved.map_or(0, |unserved| unserved.slots), gone.values().sum::<u32>());
        let owned = |rings: &Rings, host: u16| -> u32 {
            rings.rings.values().map(|ring| ring.owned().get(&host).copied().unwrap_or(0)).sum()
        };
        for host in &plan.hosts {
            prop_assert_eq!(host.slots, owned(&before, id(&host.host)));
            prop_assert_eq!(host.kept, owned(&site.rings, id(&host.host)));
        }
        for survivor in &plan.survivors {
            prop_assert_eq!(survivor.slots_before, owned(&before, id(&survivor.host)));
            prop_assert_eq!(survivor.slots_after, owned(&site.rings, id(&survivor.host)));
        }

        // Loads: what the drained hosts give is what others get, or nobody.
        let given: f64 = site.model.services.iter().flat_map(|service| {
            let number = before.by_service()[service.name.as_str()];
            let (old, new) = (before.rings[&number].owned(), site.rings.rings[&number].owned());
            hosts.iter().filter(|host| service.hosts.contains(*host)).map(move |host| (service, host, old.clone(), new.clone()))
        }).map(|(service, host, old, new)| {
            let (old, new) = (old.get(&id(host)).copied().unwrap_or(0), new.get(&id(host)).copied().unwrap_or(0));
            if old == 0 { 0.0 } else { some_load(service, host).packets_per_second * f64::from(old - new) / f64::from(old) }
        }).sum();
        let gained: f64 = plan.survivors.iter()
            .map(|survivor| survivor.after.packets_per_second - survivor.before.packets_per_second)
            .chain(plan.unserved.map(|unserved| unserved.load.packets_per_second))
            .sum();
        prop_assert!((given - gained).abs() < 1e-6 * (1.0 + given), "{given} given, {gained} gained");
    }

    /// Whether hosts are drained at once or one after the other, the rings are the same; but where the last ones serve on, as there it
    /// counts who was last.
    #[test]
    fn one_by_one_comes_to_the_same(
        weights in prop::collection::vec(1..300u16, HOSTS),
        asked in prop::collection::btree_set(0..HOSTS, 1..=HOSTS),
    ) {
        let mut site = Site::new(&weights);
        let at_once = site.published(&site.rings, &asked.iter().copied().map(name).collect());
        for host in asked {
            site.out.insert(name(host));
            site.publish();
        }
        for service in ["web", "api", "dns"] {
            let owners = |rings: &Rings| rings.rings[&rings.by_service()[service]].slots.owners().to_vec();
            prop_assert_eq!(owners(&site.rings), owners(&at_once), "{}", service);
        }
    }
}

#[test]
fn the_hosts_of_the_last_drain_serve_on() {
    let owners = |site: &Site| {
        ["dns", "old"].map(|service| site.owners(service).into_iter().collect::<Vec<_>>().join(" "))
    };
    let mut site = Site::new(&[100; HOSTS]);
    assert_eq!(site.rings.rings.len(), 4, "rings that keep their last hosts are their own");
    site.set(&[1], &[]);
    assert_eq!(owners(&site), ["h3 h5", "h3 h5"]);
    let before = site.rings.clone();
    // The last two, in one call: for one service nobody is left, for the other they go on as they are.
    let plan = site.plan(&[name(3), name(5)], &some_load);
    site.set(&[1, 3, 5], &[]);
    assert_eq!(owners(&site), ["", "h3 h5"]);
    let old = |rings: &Rings| rings.rings[&rings.by_service()["old"]].slots.owners().to_vec();
    assert_eq!(old(&before), old(&site.rings), "not a slot moves");
    let serving: Vec<_> = site.rings.serving_on(&site.out).into_iter().collect();
    assert_eq!(serving, [("old".to_owned(), BTreeSet::from([name(3), name(5)]))]);
    assert!(
        plan.notes.iter().any(|note| note.starts_with("h3 and h5 would serve old on")),
        "{:?}",
        plan.notes
    );
    assert_eq!(plan.unserved.map(|unserved| unserved.slots), Some(601), "of dns");
    // It outlives the daemon.
    site.restart();
    assert_eq!(owners(&site), ["", "h3 h5"]);
    assert_eq!(old(&before), old(&site.rings));
    // A link that fails for a moment, then both.
    site.set(&[1, 3, 5], &[3]);
    assert_eq!(owners(&site)[1], "h5");
    site.set(&[1, 3, 5], &[1, 3, 5]);
    assert_eq!(owners(&site)[1], "h5");
    site.set(&[1, 3, 5], &[]);
    assert_eq!(owners(&site)[1], "h5");
    // Somebody is back, and takes it all.
    site.set(&[3, 5], &[]);
    assert_eq!(owners(&site), ["h1", "h1"]);
    assert!(site.rings.serving_on(&site.out).is_empty());
    // Drained at last by itself.
    site.set(&[1, 3, 5], &[]);
    assert_eq!(owners(&site), ["", "h1"]);
    site.set(&[], &[]);
    assert_eq!(owners(&site), ["h1 h3 h5"; 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Along a whole ramp, with a daemon that is started again on the way, slots go to the host that comes back and to nobody else, and
    /// at its end the ring is the very one from before the drain.
    #[test]
    fn a_ramp_moves_slots_to_its_host_only(
        weights in prop::collection::vec(1..300u16, HOSTS),
        host in 0..HOSTS,
        seconds in 1..100u64,
        restart_at in 0..100u64,
    ) {
        let mut site = Site::new(&weights);
        let owners = |site: &Site| -> Vec<Vec<u16>> {
            site.rings.rings.values().map(|ring| ring.slots.owners().to_vec()).collect()
        };
        let settled = owners(&site);
        site.set(&[host], &[]);
        let ramp = Ramp::new(site.now, seconds, "ann", None);
        site.out.clear();
        while !ramp.is_over(site.now) {
            let before = site.rings.clone();
            site.shares.insert(name(host), ramp.share(site.now));
            if site.now == restart_at {
                site.restart();
            }
            site.publish();
            let id = site.ids.hosts[&name(host)];
            prop_assert!(moved(&before, &site.rings).keys().all(|(_, to)| *to == id));
            site.now += 1;
        }
        prop_assert_eq!(owners(&site), settled);
    }
}
