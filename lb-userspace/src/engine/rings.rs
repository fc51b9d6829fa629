//! The rings of this instance: which services share one, its slots, and the history behind its open handovers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lb_common::layout::HOST_NONE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::audience;
use crate::ring::{Base, HostId, Lineage, Member, SlotSet, Slots};

/// One ring.
#[derive(Clone)]
pub struct Ring {
    /// The services that use it, and clients that are treated apart, by their names: see [`audience`].
    pub services: BTreeSet<String>,
    /// Names of the member hosts, sorted.
    pub hosts: Vec<String>,
    /// The hosts that were in use last keep their slots when all are out.
    keeps_last: bool,
    /// Hosts that are out for these services alone.
    without: BTreeSet<String>,
    /// Members with less than their full share by these services' health, in 256ths; 0: out of use.
    pub shares: Shares,
    pub members: Vec<Member>,
    base: std::sync::Arc<Base>,
    lineage: Lineage,
    pub slots: Slots,
    /// Slots as the data path has them, and the generation that wrote them.
    pub words: std::sync::Arc<Vec<u32>>,
    pub generation: u64,
    /// Hosts that lost a slot in a handover that is still open: only their pins can be foreign. `None`: not known,
    /// any host may be one.
    losers: Option<BTreeSet<HostId>>,
}

/// A ring's history as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    services: BTreeSet<String>,
    lineage: Lineage,
}

/// All rings, by number.
#[derive(Clone, Default)]
pub struct Rings {
    pub rings: BTreeMap<u32, Ring>,
}

/// Shares by name of the host.
pub type Shares = BTreeMap<String, u16>;

/// What a ring is asked to be: services that ask for the same can share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Names of the member hosts, sorted.
    pub hosts: Vec<String>,
    pub keeps_last: bool,
    /// Hosts that are out for who asks alone.
    pub without: BTreeSet<String>,
    /// As [`Ring::shares`].
    pub shares: Shares,
}

/// How the journal's keys of rings begin; the number follows.
const KEY: &str = "ring-";

/// By names of hosts, of those that were in use last, whether these serve on when all are out, of those that are out for the ring's services
/// alone, and by the shares that health leaves hosts.
pub type MakeMembers<'a> =
    dyn Fn(&[String], Option<&BTreeSet<String>>, bool, &BTreeSet<String>, &Shares) -> Vec<Member> + 'a;

/// What made the rings: the same on every balancer with the same config.
pub struct Making<'a> {
    pub key: &'a [u8; 16],
    pub size: u32,
    /// Unix seconds.
    pub now: u64,
    /// Number of a host, also of one that the config names no more.
    pub ids: &'a dyn Fn(&str) -> Option<HostId>,
    /// Members of the ring of these hosts.
    pub members: &'a MakeMembers<'a>,
}

/// Names of all that used rings, by the journal.
pub fn names(journal: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let kept = journal.values().filter_map(|body| serde_json::from_value::<Kept>(body.clone()).ok());
    kept.flat_map(|kept| kept.services).collect()
}

impl Rings {
    /// The rings of these services, by name, continued from the journal's lineages. Services with the same
    /// members and the same history share a ring.
    pub fn continued(
        making: &Making<'_>,
        services: impl IntoIterator<Item = (String, Wanted)>,
        journal: &BTreeMap<String, Value>,
    ) -> Self {
        let kept: Vec<(Option<u32>, Kept)> = journal
            .iter()
            .filter_map(|(key, body)| match serde_json::from_value(body.clone()) {
                Ok(kept) => Some((key.strip_prefix(KEY).and_then(|number| number.parse().ok()), kept)),
                Err(error) => {
                    log::warn!("lineage {key} in the journal cannot be read ({error}): its ring starts anew");
                    None
                }
            })
            .collect();
        // What is wanted and index of the lineage → services.
        let mut groups: BTreeMap<(Wanted, Option<usize>), BTreeSet<String>> = BTreeMap::new();
        for (name, wanted) in services {
            let of = |name: &String| kept.iter().position(|(_, kept)| kept.services.contains(name));
            // Clients that are treated apart from now on went by another ring until now.
            let names = kept.iter().flat_map(|(_, kept)| &kept.services);
            let history = of(&name).or_else(|| of(&audience::around(&name, names)));
            groups.entry((wanted, history)).or_default().insert(name);
        }
        // A new service joins a ring of its members that has a history.
        let new: Vec<_> = groups.keys().filter(|(_, history)| history.is_none()).cloned().collect();
        for group in new {
            let joined =
                groups.keys().find(|(wanted, history)| *wanted == group.0 && history.is_some()).cloned();
            if let Some(joined) = joined {
                let services = groups.remove(&group).unwrap_or_default();
                groups.entry(joined).or_default().extend(services);
            }
        }
        // A ring keeps its number, as services that packets go by name it; a part of one that was split gets a new one.
        let mut rings = Rings::default();
        let is_kept = |number: &u32| kept.iter().any(|(of, _)| *of == Some(*number));
        let mut new_numbers = (0..).filter(|number| !is_kept(number));
        for ((wanted, history), services) in groups {
            let lineage = history.map(|index| kept[index].1.lineage.clone());
            let number = history
                .and_then(|index| kept[index].0)
                .filter(|number| !rings.rings.contains_key(number))
                .or_else(|| new_numbers.next());
            if let Some(number) = number {
                rings.rings.insert(number, Ring::continued(making, services, wanted, lineage));
            }
        }
        rings
    }

    /// Names of all that use rings.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.rings.values().flat_map(|ring| &ring.services)
    }

    /// Gives those rings of their own for whom other hosts are out, or whose health leaves their hosts other shares, and lets those share one
    /// that want the same and have come to the same. Who is new goes by the ring from which it parts. Clients that are not `needed` any
    /// more are forgotten once they go by the ring that they would go by without. Names of those for whose health there is no room for
    /// another ring: they go by that of others.
    pub fn regroup(
        &mut self,
        wanted: &BTreeMap<String, Wanted>,
        needed: &BTreeSet<String>,
        room: usize,
    ) -> BTreeSet<String> {
        self.take_in_clients(wanted);
        let numbers: Vec<u32> = self.rings.keys().copied().collect();
        let stuck = numbers.into_iter().flat_map(|number| self.split(number, wanted, room)).collect();
        self.join();
        self.forget_clients(needed);
        stuck
    }

    fn take_in_clients(&mut self, wanted: &BTreeMap<String, Wanted>) {
        let known: BTreeSet<String> = self.names().cloned().collect();
        let is_new = |name: &&String| !known.contains(*name) && audience::parse(name).1.is_some();
        for name in wanted.keys().filter(is_new) {
            let before = audience::around(name, known.iter());
            if let Some(ring) = self.rings.values_mut().find(|ring| ring.services.contains(&before)) {
                ring.services.insert(name.clone());
            }
        }
    }

    /// Those for whom the same hosts are out as before keep the ring, and of these the most, so that few change it; all others get copies.
    fn split(&mut self, number: u32, wanted: &BTreeMap<String, Wanted>, room: usize) -> BTreeSet<String> {
        let mut stuck = BTreeSet::new();
        let Some(before) = self.rings.get(&number).cloned() else { return stuck };
        let mut kinds: BTreeMap<(&BTreeSet<String>, &Shares), BTreeSet<String>> = BTreeMap::new();
        for name in &before.services {
            let kind = wanted.get(name).map(|wanted| (&wanted.without, &wanted.shares));
            kinds.entry(kind.unwrap_or((&before.without, &before.shares))).or_default().insert(name.clone());
        }
        let is_other = |without: &BTreeSet<String>| *without != before.without;
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|((without, _), services)| (is_other(without), std::cmp::Reverse(services.len())));
        let mut kinds = kinds.into_iter();
        let Some(((without, shares), services)) = kinds.next() else { return stuck };
        let mut kept = Ring { services, without: without.clone(), shares: shares.clone(), ..before.clone() };
        for ((without, shares), services) in kinds {
            // A drain is an operator's will: it fails aloud where there is no room.
            let has_room = *without != kept.without || self.rings.len() < room;
            match (0..).find(|number| !self.rings.contains_key(number)).filter(|_| has_room) {
                Some(free) => {
                    let (without, shares) = (without.clone(), shares.clone());
                    self.rings.insert(free, Ring { services, without, shares, ..before.clone() });
                }
                None => {
                    kept.services.extend(services.iter().cloned());
                    stuck.extend(services);
                }
            }
        }
        self.rings.insert(number, kept);
        stuck
    }

    /// Lets rings be one that want the same and have come to the same.
    fn join(&mut self) {
        let numbers: Vec<u32> = self.rings.keys().copied().collect();
        for &number in &numbers {
            let Some(ring) = self.rings.get(&number) else { continue };
            let others = self.rings.iter().filter(|(of, other)| **of != number && ring.can_take(other));
            let taken: Vec<u32> = others.map(|(of, _)| *of).collect();
            if taken.is_empty() {
                continue;
            }
            let services = taken.iter().filter_map(|of| self.rings.remove(of)).flat_map(|ring| ring.services);
            let services: Vec<String> = services.collect();
            if let Some(ring) = self.rings.get_mut(&number) {
                ring.services.extend(services);
                // Hosts that lost a slot of either.
                ring.losers = ring.slots.open().is_empty().then(BTreeSet::new);
            }
        }
    }

    fn forget_clients(&mut self, needed: &BTreeSet<String>) {
        let mut names: Vec<String> = self.names().cloned().collect();
        let length = |name: &String| audience::parse(name).1.map(|clients| clients.prefix_len());
        names.sort_by_key(|name| std::cmp::Reverse(length(name)));
        for name in names.iter().filter(|name| length(name).is_some() && !needed.contains(*name)) {
            let around = audience::around(name, self.names());
            let own = self.rings.values_mut().find(|ring| ring.services.contains(name));
            if let Some(ring) = own.filter(|ring| ring.services.contains(&around)) {
                ring.services.remove(name);
            }
        }
        self.rings.retain(|_, ring| !ring.services.is_empty());
    }

    /// The shares of those whose rings leave some host less than the full one by health.
    pub fn shares(&self) -> BTreeMap<String, Shares> {
        let rings = self.rings.values().filter(|ring| !ring.shares.is_empty());
        rings.flat_map(|ring| ring.services.iter().map(|name| (name.clone(), ring.shares.clone()))).collect()
    }

    /// Publishes the present members to every ring. The slots that changed hands, over all rings.
    pub fn publish(&mut self, making: &Making<'_>) -> usize {
        self.rings.values_mut().map(|ring| ring.publish(making)).sum()
    }

    /// Closes handovers that nobody needs any more; how many.
    pub fn close(
        &mut self,
        now: u64,
        t: u64,
        lost_at: u64,
        foreign: &[(u32, u32)],
        gone: impl Fn(&BTreeSet<String>, HostId) -> bool,
    ) -> usize {
        let mut closed = 0;
        for (&number, ring) in &mut self.rings {
            if ring.slots.open().is_empty() {
                continue;
            }
            let mut set = SlotSet::new(ring.slots.size());
            for &(_, slot) in foreign.iter().filter(|(of, _)| *of == number) {
                set.insert(slot);
            }
            closed += ring.slots.close(now, t, lost_at, &set, |host| gone(&ring.services, host));
            ring.lineage.observe(&ring.slots);
            if ring.slots.open().is_empty() {
                ring.losers = Some(BTreeSet::new());
            }
        }
        closed
    }

    /// Names of the hosts that the history of a ring names.
    pub fn remembered(&self) -> BTreeSet<&str> {
        self.rings.values().flat_map(|ring| ring.lineage.hosts()).collect()
    }

    /// What the journal is to keep, by key.
    pub fn kept(&self) -> serde_json::Result<BTreeMap<String, Value>> {
        let body = |ring: &Ring| {
            serde_json::to_value(Kept { services: ring.services.clone(), lineage: ring.lineage.clone() })
        };
        self.rings.iter().map(|(number, ring)| Ok((format!("{KEY}{number}"), body(ring)?))).collect()
    }

    /// The slots of every ring, as the data path reads them; rings that changed get `generation`.
    pub fn words(&mut self, generation: u64) -> BTreeMap<u32, Vec<u32>> {
        for ring in self.rings.values_mut() {
            let words: Vec<u32> = ring.slots.words().collect();
            if words != *ring.words {
                ring.words = std::sync::Arc::new(words);
                ring.generation = generation;
            }
        }
        self.rings.iter().map(|(&number, ring)| (number, ring.words.to_vec())).collect()
    }

    /// The slots of every ring as they were published last; `None`: some ring was not yet.
    pub fn words_in_force(&self) -> Option<BTreeMap<u32, Vec<u32>>> {
        let words = |ring: &Ring| (!ring.words.is_empty()).then(|| ring.words.to_vec());
        self.rings.iter().map(|(&number, ring)| Some((number, words(ring)?))).collect()
    }

    /// Hosts that new flows come to by the rings, whatever is wanted of them, by service and by clients that are treated apart.
    pub fn in_use(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut in_use = BTreeMap::new();
        for ring in self.rings.values() {
            let members = ring.members.iter().filter(|member| member.share > 0);
            let hosts: BTreeSet<String> = members.map(|member| member.name.clone()).collect();
            in_use.extend(ring.services.iter().map(|name| (name.clone(), hosts.clone())));
        }
        in_use
    }

    /// Number of each service's ring.
    pub fn by_service(&self) -> HashMap<&str, u32> {
        let rings = self.rings.iter();
        rings
            .flat_map(|(&number, ring)| ring.services.iter().map(move |service| (service.as_str(), number)))
            .collect()
    }

    /// Hosts that operators took `out` and that serve on as the last in use, by service.
    pub fn serving_on(&self, out: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
        let mut serving = BTreeMap::new();
        for ring in self.rings.values().filter(|ring| ring.keeps_last) {
            let is_out = |host: &String| out.contains(host) || ring.without.contains(host);
            let members = ring.members.iter().filter(|member| member.share > 0 && is_out(&member.name));
            let hosts: BTreeSet<String> = members.map(|member| member.name.clone()).collect();
            if !hosts.is_empty() {
                serving.extend(ring.services.iter().map(|service| (service.clone(), hosts.clone())));
            }
        }
        serving
    }

    /// Whether the host may have pins in slots that another host owns.
    pub fn may_have_foreign_pins(&self, host: HostId) -> bool {
        self.rings.values().any(|ring| match &ring.losers {
            Some(losers) => losers.contains(&host),
            None => !ring.slots.open().is_empty(),
        })
    }

    /// Whether every slot handed over from the host, of some services and clients or all, has been open for more than `t`.
    pub fn open_long_enough(
        &self,
        of: Option<&BTreeSet<String>>,
        host: HostId,
        now: u64,
        t: u64,
        lost_at: u64,
    ) -> bool {
        let is_meant = |ring: &&Ring| of.is_none_or(|names| !ring.services.is_disjoint(names));
        self.rings
            .values()
            .filter(is_meant)
            .all(|ring| ring.slots.all_open_longer_than(host, now, t, lost_at))
    }

    /// Whether the host is the previous owner of an open slot of the service, for any of its clients.
    pub fn is_previous_of(&self, service: &str, host: HostId) -> bool {
        let names =
            |ring: &Ring| ring.slots.open().iter().any(|slot| ring.slots.previous(slot) == Some(host));
        let is_of = |ring: &&Ring| ring.services.iter().any(|name| audience::parse(name).0 == service);
        self.rings.values().filter(is_of).any(names)
    }
}

impl Ring {
    fn continued(
        making: &Making<'_>,
        services: BTreeSet<String>,
        Wanted { hosts, keeps_last, without, shares }: Wanted,
        lineage: Option<Lineage>,
    ) -> Self {
        let in_use = lineage.as_ref().map(Lineage::in_use);
        let members = (making.members)(&hosts, in_use.as_ref(), keeps_last, &without, &shares);
        let base = Base::build(making.key, making.size, &members);
        let replayed = lineage.and_then(|lineage| {
            let slots = lineage.replay(making.key, making.size, making.ids, making.now);
            slots.map_err(|error| log::warn!("{error}")).ok().map(|slots| (lineage, slots))
        });
        let (lineage, slots) = replayed.unwrap_or_else(|| Lineage::settled(&base, &members, making.now));
        Ring {
            services,
            hosts,
            keeps_last,
            without,
            shares,
            members,
            base: base.into(),
            lineage,
            losers: slots.open().is_empty().then(BTreeSet::new),
            slots,
            words: Vec::new().into(),
            generation: 0,
        }
    }

    /// Whether both want the same and have come to the same, and no handover of this one closes earlier.
    fn can_take(&self, other: &Ring) -> bool {
        let wanted = |ring: &Ring| {
            (&ring.hosts, ring.keeps_last, &ring.without, &ring.shares)
                == (&self.hosts, self.keeps_last, &self.without, &self.shares)
        };
        wanted(other) && self.members == other.members && self.slots.covers(&other.slots)
    }

    fn next_members(&self, making: &Making<'_>) -> Vec<Member> {
        let in_use = self.lineage.in_use();
        (making.members)(&self.hosts, Some(&in_use), self.keeps_last, &self.without, &self.shares)
    }

    fn publish(&mut self, making: &Making<'_>) -> usize {
        let members = self.next_members(making);
        if !self.base.fits(&members) {
            self.base = Base::build(making.key, making.size, &members).into();
        }
        let moved = self.lineage.publish(&mut self.slots, &self.base, &members, making.now);
        self.members = members;
        if let Some(losers) = &mut self.losers {
            losers.extend(moved.iter().map(|moved| moved.from));
        }
        moved.len()
    }

    /// Slots by owner.
    pub fn owned(&self) -> BTreeMap<HostId, u32> {
        count(self.slots.owners().iter().copied())
    }

    /// Slots by owner if every member were in use.
    pub fn base_owned(&self) -> BTreeMap<HostId, u32> {
        let all: Vec<Member> = self
            .members
            .iter()
            .map(|member| Member { share: crate::ring::SHARE_FULL, ..member.clone() })
            .collect();
        count(self.base.owners(&all))
    }

    /// Who would get the slots of a host if it were taken out now, and how many.
    pub fn drain_moves(&self, host: HostId) -> BTreeMap<HostId, u32> {
        let without: Vec<Member> = self
            .members
            .iter()
            .map(
                |member| {
                    if member.id == host { Member { share: 0, ..member.clone() } } else { member.clone() }
                },
            )
            .collect();
        let owners = self.base.owners(&without);
        let moved = self.slots.owners().iter().zip(owners).filter(|(old, new)| **old != *new);
        count(moved.map(|(_, new)| new))
    }

    /// Open slots by previous owner.
    pub fn previous(&self) -> BTreeMap<HostId, u32> {
        count(self.slots.open().iter().filter_map(|slot| self.slots.previous(slot)))
    }
}

fn count(hosts: impl IntoIterator<Item = HostId>) -> BTreeMap<HostId, u32> {
    // There can be millions of slots, and every number of a host has its place.
    let mut counts = vec![0; usize::from(HOST_NONE) + 1];
    for host in hosts {
        counts[usize::from(host)] += 1;
    }
    let counts = (0..).zip(counts).filter(|(_, count)| *count > 0);
    counts.collect()
}
