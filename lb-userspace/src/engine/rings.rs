//! The rings of this instance: which services share one, its slots, and the history behind its open handovers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::Pair;
use crate::ring::{Base, HostId, Lineage, Member, SlotSet, Slots};

/// One ring.
#[derive(Clone)]
pub struct Ring {
    /// The services that use it.
    pub services: BTreeSet<String>,
    /// Names of the member hosts, sorted.
    pub hosts: Vec<String>,
    /// The hosts that were in use last keep their slots when all are out.
    keeps_last: bool,
    /// The only service, where hosts are out for this one.
    pub alone: Option<String>,
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

/// What a ring is asked to be: services that ask for the same can share one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Names of the member hosts, sorted.
    pub hosts: Vec<String>,
    pub keeps_last: bool,
    /// The service that asks, where hosts are out for this one.
    pub alone: Option<String>,
}

/// How the journal's keys of rings begin; the number follows.
const KEY: &str = "ring-";

/// By names of hosts, of those that were in use last, and of the only service where hosts are out for this one.
pub type MakeMembers<'a> = dyn Fn(&[String], Option<&BTreeSet<String>>, Option<&str>) -> Vec<Member> + 'a;

/// What made the rings: the same on every balancer with the same config.
pub struct Making<'a> {
    pub key: &'a [u8; 16],
    pub size: u32,
    /// Unix seconds.
    pub now: u64,
    /// Number of a host, also of one that the config names no more.
    pub ids: &'a dyn Fn(&str) -> Option<HostId>,
    /// Members of the ring of these hosts; the last ones in use, if these keep it while all are out.
    pub members: &'a MakeMembers<'a>,
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
            let history = kept.iter().position(|(_, kept)| kept.services.contains(&name));
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

    /// Gives services rings of their own that want one, and lets those share one that want the same and have come to the same.
    pub fn regroup(&mut self, wanted: &BTreeMap<String, Wanted>) {
        let numbers: Vec<u32> = self.rings.keys().copied().collect();
        for number in numbers {
            let services: Vec<String> = self.rings[&number].services.iter().cloned().collect();
            for service in services {
                let Some(alone) = wanted.get(&service).map(|wanted| wanted.alone.clone()) else { continue };
                let free = (0..).find(|number| !self.rings.contains_key(number));
                let Some((ring, free)) = self.rings.get_mut(&number).zip(free) else { continue };
                if ring.alone == alone {
                    continue;
                }
                if ring.services.len() == 1 {
                    ring.alone = alone;
                } else {
                    ring.services.remove(&service);
                    let own = Ring { services: [service].into(), alone, ..ring.clone() };
                    self.rings.insert(free, own);
                }
            }
        }
        let mut joined: BTreeMap<u32, Ring> = BTreeMap::new();
        for (number, ring) in std::mem::take(&mut self.rings) {
            match joined.values_mut().find(|before| before.is_as(&ring)) {
                Some(before) => before.services.extend(ring.services),
                None => {
                    joined.insert(number, ring);
                }
            }
        }
        self.rings = joined;
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
        gone: impl Fn(Option<&str>, HostId) -> bool,
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
            closed += ring.slots.close(now, t, lost_at, &set, |host| gone(ring.alone.as_deref(), host));
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

    /// Number of each service's ring.
    pub fn by_service(&self) -> HashMap<&str, u32> {
        let rings = self.rings.iter();
        rings
            .flat_map(|(&number, ring)| ring.services.iter().map(move |service| (service.as_str(), number)))
            .collect()
    }

    /// Hosts that operators took `out` and that serve on as the last in use, by service.
    pub fn serving_on(
        &self,
        out: &BTreeSet<String>,
        pairs: &BTreeMap<(String, String), Pair>,
    ) -> BTreeMap<String, BTreeSet<String>> {
        let mut serving = BTreeMap::new();
        for ring in self.rings.values().filter(|ring| ring.keeps_last) {
            let is_out_alone = |host: &String| {
                ring.alone
                    .as_ref()
                    .is_some_and(|service| pairs.contains_key(&(service.clone(), host.clone())))
            };
            let is_out = |host: &String| out.contains(host) || is_out_alone(host);
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

    /// Whether every slot handed over from the host, of one service or all, has been open for more than `t`.
    pub fn open_long_enough(
        &self,
        service: Option<&str>,
        host: HostId,
        now: u64,
        t: u64,
        lost_at: u64,
    ) -> bool {
        let is_meant = |ring: &&Ring| service.is_none_or(|service| ring.services.contains(service));
        self.rings
            .values()
            .filter(is_meant)
            .all(|ring| ring.slots.all_open_longer_than(host, now, t, lost_at))
    }

    /// Whether the host is the previous owner of an open slot of the service.
    pub fn is_previous_of(&self, service: &str, host: HostId) -> bool {
        let names =
            |ring: &Ring| ring.slots.open().iter().any(|slot| ring.slots.previous(slot) == Some(host));
        self.rings.values().find(|ring| ring.services.contains(service)).is_some_and(names)
    }
}

impl Ring {
    fn continued(
        making: &Making<'_>,
        services: BTreeSet<String>,
        Wanted { hosts, keeps_last, alone }: Wanted,
        lineage: Option<Lineage>,
    ) -> Self {
        let last = lineage.as_ref().map(Lineage::in_use).unwrap_or_default();
        let members = (making.members)(&hosts, keeps_last.then_some(&last), alone.as_deref());
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
            alone,
            members,
            base: base.into(),
            lineage,
            losers: slots.open().is_empty().then(BTreeSet::new),
            slots,
            words: Vec::new().into(),
            generation: 0,
        }
    }

    /// Whether both want the same and have come to the same, without a history that differs.
    fn is_as(&self, other: &Ring) -> bool {
        let wanted = |ring: &Ring| (ring.hosts.clone(), ring.keeps_last, ring.alone.clone());
        let is_settled = |ring: &Ring| ring.slots.open().is_empty() && ring.lineage.len() == 1;
        self.alone.is_none()
            && wanted(self) == wanted(other)
            && is_settled(self)
            && is_settled(other)
            && self.members == other.members
            && self.slots.owners() == other.slots.owners()
    }

    fn next_members(&self, making: &Making<'_>) -> Vec<Member> {
        let last = self.keeps_last.then(|| self.lineage.in_use());
        (making.members)(&self.hosts, last.as_ref(), self.alone.as_deref())
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
    let mut counts = BTreeMap::new();
    for host in hosts {
        *counts.entry(host).or_default() += 1;
    }
    counts
}
