//! Steps, done by the product and by the rules side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lb_common::layout::{HOST_NONE, HostId, HostState, Slot, Tuple};
use lb_userspace::api::types::AdminState;

use super::balancer::{Balancer, Published};
use super::handovers::Handovers;
use super::setup::{HOSTS, Setup, T, TIMEOUTS, number};
use super::steps::{Change, FLOWS, SEQUENCES, Step, UDP_CLIENTS, flow, udp_client, wild_client};
use super::world::{Checked, World};
use crate::client::{Client, Service};
use crate::rules::{Policy, Rules};
use crate::table;

const START: u32 = 1_000_000;
/// Of a machine that has just been started.
const UPTIME: u32 = 900;
const UNIX: u64 = 1_800_000_000;

pub struct Run<'b> {
    pub(super) balancer: &'b mut Balancer,
    pub(super) rules: Rules,
    pub(super) handovers: Handovers,
    pub(super) world: World,
    pub(super) clients: HashMap<Tuple, Client>,
    /// Packets by reason.
    pub(super) reasons: BTreeMap<&'static str, u64>,
    /// Hosts whose drain was reported as done.
    drained: BTreeSet<HostId>,
    unplugged: BTreeSet<HostId>,
    /// Hosts that the config did not name when the machine was started, or that have left it while they could not be reached: nobody
    /// knows the way to them.
    forgotten: BTreeSet<HostId>,
    /// Rounds since a daemon was started.
    rounds: u32,
    /// Next hops have changed since the last publication.
    is_hops_stale: bool,
    pub(super) publication: u64,
    /// Sequence number of a client's last SYN.
    pub(super) syns: HashMap<Client, u32>,
    /// Seconds of packets, and of the daemon, whose clock never goes back.
    pub(super) now: u32,
    pub(super) latest: u32,
    pub(super) flooded: u32,
    /// Nothing but what the rules say makes pins go.
    pub(super) is_roomy: bool,
}

/// Does the steps on a new balancer; an error says what is wrong with it.
pub fn run(
    balancer: &mut Balancer,
    is_roomy: bool,
    ring: u32,
    policies: &BTreeMap<Service, Policy>,
    steps: &[Step],
) -> Result<Checked, String> {
    let setup = Setup::new(ring, policies.clone());
    let mut run = Run::new(balancer, is_roomy, setup)?;
    for (number, step) in steps.iter().enumerate() {
        run.step(*step).map_err(|error| format!("step {number}, {step:?}: {error}"))?;
    }
    run.end().map_err(|error| format!("in the end: {error}"))?;
    Ok(run.world.checked)
}

fn hosts_of(set: u8) -> BTreeSet<HostId> {
    (1..=HOSTS).filter(|host| set >> (host - 1) & 1 == 1).collect()
}

fn wrong(error: impl std::fmt::Display) -> String {
    format!("an error of the engine: {error}")
}

impl<'b> Run<'b> {
    fn new(balancer: &'b mut Balancer, is_roomy: bool, setup: Setup) -> Result<Run<'b>, String> {
        balancer.begin(&setup, START, UNIX).map_err(wrong)?;
        let mut rules = Rules::new(TIMEOUTS);
        rules.now = START;
        rules.policies.clone_from(&setup.policies);
        let mut run = Run {
            handovers: Handovers::new(setup, UNIX),
            balancer,
            rules,
            world: World::default(),
            clients: HashMap::new(),
            reasons: BTreeMap::new(),
            drained: BTreeSet::new(),
            unplugged: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            rounds: 0,
            is_hops_stale: false,
            publication: 0,
            syns: HashMap::new(),
            now: START,
            latest: START,
            flooded: 0,
            is_roomy,
        };
        run.check()?;
        Ok(run)
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        self.world.at(self.latest);
        match step {
            Step::Wild { client, flags, sequence, payload } => {
                self.wild(wild_client(client), flags, SEQUENCES[sequence], payload)?;
            }
            Step::Begin(number) => self.begin(flow(number))?,
            Step::Again(number) => self.again(flow(number))?,
            Step::Connect(number) => {
                self.begin(flow(number))?;
                self.speak(flow(number))?;
            }
            Step::Speak(number) => self.speak(flow(number))?,
            Step::SpeakAll => {
                (0..FLOWS).try_for_each(|number| self.speak(flow(number)))?;
                (0..UDP_CLIENTS).try_for_each(|number| self.datagram(udp_client(number)))?;
            }
            Step::End(number) => self.end_flow(flow(number))?,
            Step::Forge(number, forged) => self.forge(flow(number), forged)?,
            Step::Datagram(number) => self.datagram(udp_client(number))?,
            Step::Wait(seconds) => self.wait(seconds),
            Step::Back(seconds) => self.now -= seconds,
            Step::Round => self.round()?,
            Step::Drain(hosts) => self.drain(&self.configured(hosts))?,
            Step::Undrain(hosts) => self.undrain(&self.configured(hosts))?,
            Step::Unplug(host) | Step::Plug(host) => {
                let is_plugged = matches!(step, Step::Plug(_));
                self.plug(host, is_plugged);
            }
            Step::Restart(change) => self.restart(change)?,
            Step::Reboot => self.reboot()?,
            Step::Lose => {
                let latest = u64::from(self.latest);
                self.at_latest();
                table::lose(&mut self.balancer.plane().maps, latest);
                self.handovers.lose(self.balancer.unix());
                self.lose();
            }
            Step::Evict(number) => self.evict(number),
            Step::Flood(count) => self.flood(count),
        }
        self.check()
    }

    fn at_latest(&mut self) {
        self.balancer.set_clock(self.latest);
        self.rules.now = self.latest;
    }

    fn wait(&mut self, seconds: u32) {
        self.now = self.now.max(self.latest) + seconds;
        self.latest = self.now;
        self.at_latest();
    }

    fn configured(&self, hosts: u8) -> BTreeSet<HostId> {
        let is_configured = |host: &HostId| self.handovers.setup.weights.contains_key(host);
        hosts_of(hosts).into_iter().filter(is_configured).collect()
    }

    fn plug(&mut self, host: HostId, is_plugged: bool) {
        if is_plugged {
            self.unplugged.remove(&host);
        } else {
            self.unplugged.insert(host);
        }
        self.balancer.set_reachable(host, is_plugged);
        self.is_hops_stale = true;
    }

    /// The present state is published.
    fn publish(&mut self) {
        let setup = &self.handovers.setup;
        let is_present = |host: &HostId| setup.weights.contains_key(host);
        // Nobody looks for the way to a host that the config does not name any more.
        let lost = self.handovers.unreachable.iter().copied().filter(|host| !is_present(host)).collect();
        self.world.forget_hosts(&lost);
        self.forgotten.extend(lost);
        let unreachable = self.unplugged.iter().copied().filter(is_present).collect();
        let unix = self.balancer.unix();
        self.handovers.notice(unreachable, unix);
        self.handovers.publish(unix);
        self.is_hops_stale = false;
        self.publication += 1;
    }

    /// Hosts that take new flows.
    fn used(&self) -> BTreeMap<Service, BTreeSet<HostId>> {
        Service::ALL.map(|service| (service, self.handovers.used(service))).into()
    }

    /// Slots move only away from hosts that have gone out of use, and to hosts that have come into use (C4).
    fn check_moves(&mut self, used: &BTreeMap<Service, BTreeSet<HostId>>) -> Result<(), String> {
        let now_used = self.used();
        let published = self.balancer.published();
        for (service, slots) in &published.slots {
            let (used, now_used) = (&used[service], &now_used[service]);
            for (number, (before, after)) in self.rules.slots[service].iter().zip(slots).enumerate() {
                let (from, to) = (before.owner(), after.owner());
                let has_gone = used.contains(&from) && !now_used.contains(&from);
                let has_come = now_used.contains(&to) && !used.contains(&to);
                if from != to && from != HOST_NONE && !has_gone && !has_come {
                    return Err(format!("C4: slot {number} of {service:?} moved from {from} to {to}"));
                }
            }
        }
        Ok(())
    }

    fn drain(&mut self, hosts: &BTreeSet<HostId>) -> Result<(), String> {
        self.at_latest();
        let (used, is_refused) = (self.used(), self.handovers.is_refused(hosts));
        let done = self.balancer.drain(hosts);
        if hosts.is_empty() || is_refused {
            return match done {
                Ok(()) => Err(format!("the drain of {hosts:?} was to be refused")),
                Err(_) => Ok(()),
            };
        }
        done.map_err(wrong)?;
        let before = self.handovers.out.len();
        self.handovers.out.extend(hosts);
        if self.handovers.out.len() != before {
            self.publish();
            self.check_moves(&used)?;
        }
        Ok(())
    }

    fn undrain(&mut self, hosts: &BTreeSet<HostId>) -> Result<(), String> {
        self.at_latest();
        let used = self.used();
        let done = self.balancer.undrain(hosts);
        if hosts.is_empty() {
            return done.map_or(Ok(()), |()| Err("an undrain of no host was to be refused".to_owned()));
        }
        done.map_err(wrong)?;
        let before = self.handovers.out.len();
        for host in hosts {
            self.handovers.out.remove(host);
            self.handovers.sealed.remove(host);
            self.drained.remove(host);
        }
        if self.handovers.out.len() != before {
            self.publish();
            self.check_moves(&used)?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<(), String> {
        self.at_latest();
        if self.is_hops_stale || self.handovers.is_over(self.balancer.unix()) {
            self.publish();
        }
        self.rules.slots = self.handovers.slots();
        self.rules.sweep();
        let foreign = self.foreign();
        // The daemon knows only hosts that its config names.
        let setup = &self.handovers.setup;
        let is_known = |host: &&HostId| setup.weights.contains_key(host);
        let drained = self.drained.iter().filter(is_known).copied().collect();
        self.handovers.close(self.balancer.unix(), &foreign, &drained);
        self.balancer.engine().round().map_err(wrong)?;
        self.rounds += 1;
        self.check_drains()
    }

    /// Slots with a live pin on another host than the owner; of all services that share a ring.
    fn foreign(&mut self) -> BTreeMap<Service, BTreeSet<u32>> {
        let rings = self.rings();
        let mut by_ring: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (client, pin) in &self.rules.pins {
            if pin.host != self.rules.slot(client).owner() {
                by_ring.entry(rings[&client.service]).or_default().insert(pin.slot);
            }
        }
        let of = |service| (service, by_ring.get(&rings[&service]).cloned().unwrap_or_default());
        Service::ALL.map(of).into()
    }

    /// Hosts that the daemon has sealed, and drains that it says are done (C7).
    fn check_drains(&mut self) -> Result<(), String> {
        let sealed: BTreeSet<HostId> = self
            .balancer
            .published()
            .hosts
            .into_iter()
            .filter(|(_, state)| *state == HostState::Drained)
            .map(|(host, _)| host)
            .collect();
        let unix = self.balancer.unix();
        for &host in &sealed {
            let is_new = !self.handovers.sealed.contains(&host);
            let has_pin = self.rules.pins.values().any(|pin| pin.host == host);
            if !self.handovers.out.contains(&host) {
                return Err(format!("host {host} is sealed, but in use"));
            }
            if self.is_roomy && is_new && (has_pin || !self.handovers.knows_all_flows(host, unix)) {
                return Err(format!("C7: host {host} is sealed too early; it has a pin: {has_pin}"));
            }
        }
        self.handovers.sealed = sealed;
        for status in self.balancer.status().hosts {
            let host = number(&status.name);
            if status.admin != AdminState::Drained || !self.drained.insert(host) {
                continue;
            }
            if status.live_flows.total != 0 {
                return Err(format!("C7: host {host} is drained, and has {:?}", status.live_flows));
            }
            let receipt = status.drain.and_then(|drain| drain.receipt).ok_or("a drain without a receipt")?;
            if receipt.misrouted != 0 || self.is_roomy && receipt.new_flows != 0 {
                return Err(format!("C2: the receipt of host {host}: {receipt:?}"));
            }
            self.world.drained(host)?;
        }
        Ok(())
    }

    fn restart(&mut self, change: Change) -> Result<(), String> {
        self.at_latest();
        let before = self.handovers.setup.clone();
        let mut setup = before.clone();
        match change {
            Change::Nothing => {}
            Change::Weight(host, weight) => {
                setup.weights.entry(host).and_modify(|of| *of = weight);
            }
            Change::Remove(host) => {
                setup.weights.remove(&host);
            }
            Change::Add(host, weight) => {
                setup.weights.entry(host).or_insert(weight);
            }
            Change::Edges(service, edges) => {
                setup.policies.entry(service).and_modify(|policy| policy.edges = edges);
            }
            Change::Moves(moves) => {
                setup.policies.entry(Service::Dns).and_modify(|policy| policy.moves = moves);
            }
        }
        if Service::ALL.into_iter().any(|service| setup.hosts(service).is_empty()) {
            return Ok(());
        }
        self.balancer.restart(&setup).map_err(wrong)?;
        let any_edges = before.any_edges() || setup.any_edges();
        self.follow(setup);
        if any_edges {
            // A daemon cannot know for how long packets have gone by the handovers of the journal.
            self.handovers.lost_at = self.balancer.unix();
        }
        Ok(())
    }

    fn reboot(&mut self) -> Result<(), String> {
        let unix = self.balancer.unix() + 1;
        let setup = self.handovers.setup.clone();
        self.balancer.reboot(&setup, UPTIME, unix).map_err(wrong)?;
        (self.now, self.latest) = (UPTIME, UPTIME);
        self.rules.now = UPTIME;
        self.reasons.clear();
        self.world.age_by_clock(UPTIME);
        self.lose();
        self.forgotten = (1..=HOSTS).filter(|host| !setup.weights.contains_key(host)).collect();
        self.world.forget_hosts(&self.forgotten);
        self.handovers.unreachable.clear();
        self.follow(setup);
        self.handovers.lose(unix);
        Ok(())
    }

    /// A daemon has started with this config.
    fn follow(&mut self, setup: Setup) {
        self.rules.policies.clone_from(&setup.policies);
        self.forgotten.retain(|host| !setup.weights.contains_key(host));
        let is_known = |host: &HostId| setup.weights.contains_key(host);
        self.handovers.sealed = self.drained.iter().copied().filter(is_known).collect();
        self.handovers.setup = setup;
        self.rounds = 0;
        self.handovers.forget_awaited();
        self.publish();
    }

    /// The table is empty.
    fn lose(&mut self) {
        self.rules.pins.clear();
        let rules = &self.rules;
        self.world.lose(|client| rules.slot_of(client));
    }

    fn evict(&mut self, number: usize) {
        let mut able: Vec<Client> = self.rules.pins.keys().copied().collect();
        able.retain(|client| {
            !client.service.is_udp()
                && !self.rules.slot(client).is_open()
                && self.rules.live_pin(client).is_some()
        });
        able.sort_unstable();
        if able.is_empty() {
            return;
        }
        let client = able[number % able.len()];
        let host = self.rules.pins.remove(&client).expect("chosen from the pins").host;
        let tuple = client.tuple();
        let entries = self.balancer.entries();
        if let Some(entry) = entries.iter().find(|entry| entry.tuple == tuple) {
            let (id, latest) = (self.balancer.id(host), u64::from(self.latest));
            let maps = &mut self.balancer.plane().maps;
            table::forget(maps, entry);
            maps.incomplete_since.store(u32::from(id), latest);
        }
        self.handovers.lose_one(host, self.balancer.unix());
        self.world.lose_one(&client);
    }

    /// Everything that can be compared between steps.
    fn check(&mut self) -> Result<(), String> {
        let published = self.balancer.published();
        if self.is_roomy && published.slots != self.handovers.slots() {
            return Err(format!("slots: {}", differences(&published.slots, &self.handovers.slots())));
        }
        for &host in self.handovers.setup.weights.keys() {
            let (is, should) = (published.hosts.get(&host), self.handovers.state(host));
            if is != Some(&should) {
                return Err(format!("host {host} is {is:?} and should be {should:?}"));
            }
        }
        // The first round ends their pins.
        let lost = self.forgotten.iter().find(|host| published.hosts.contains_key(host));
        if let Some(host) = lost.filter(|_| self.rounds > 1) {
            return Err(format!("host {host} cannot be reached, but is not let go"));
        }
        self.check_generations(&published.slots)?;
        self.check_knowledge(&published)?;
        self.world.note_handovers(&published.slots);
        self.rules.slots = published.slots;
        self.rules.hosts = published.hosts;
        self.compare()
    }

    /// A host that slots are handed over from can be reached, and flows without a pin are not forgotten.
    fn check_knowledge(&mut self, published: &Published) -> Result<(), String> {
        let slots = published.slots.values().flatten();
        let mut previous = slots.filter(|slot| slot.is_open()).map(|slot| slot.previous());
        let is_known = |host: &HostId| published.hosts.contains_key(host) || self.forgotten.contains(host);
        if let Some(host) = previous.find(|host| !is_known(host)) {
            return Err(format!("C3: host {host} has no backend, though slots are handed over from it"));
        }
        for &host in self.handovers.setup.weights.keys().filter(|_| self.is_roomy) {
            let (known, is) = (self.balancer.complete_since(host), self.handovers.complete_since(host));
            if is.is_some_and(|is| known < is) {
                return Err(format!("C7: the pins of host {host} are complete since {is:?}, not {known}"));
            }
        }
        Ok(())
    }

    /// Services that share a ring go by the same generation of it (C5).
    fn check_generations(&mut self, slots: &BTreeMap<Service, Vec<Slot>>) -> Result<(), String> {
        let mut rings: BTreeMap<u32, Service> = BTreeMap::new();
        for (service, ring) in self.rings() {
            let first = *rings.entry(ring).or_insert(service);
            if slots[&service] != slots[&first] {
                return Err(format!("C5: {service:?} and {first:?} share ring {ring}, but not its slots"));
            }
        }
        Ok(())
    }

    /// Number of each service's ring.
    fn rings(&mut self) -> BTreeMap<Service, u32> {
        let status = self.balancer.status();
        let ring_of = |service: Service| status.services.iter().find(|of| of.name == service.name());
        let rings = Service::ALL.map(|service| (service, ring_of(service).expect("it is served").ring));
        rings.into()
    }

    /// With all hosts reachable and no client left, every handover and every drain comes to its end.
    fn end(&mut self) -> Result<(), String> {
        for host in 1..=HOSTS {
            self.plug(host, true);
        }
        for _ in 0..4 {
            self.wait(T + 2);
            self.world.at(self.latest);
            for _ in 0..2 {
                self.round()?;
                self.check()?;
            }
        }
        let open = self.rules.slots.values().flatten().any(|slot| slot.is_open());
        if open {
            return Err("a handover does not end".to_owned());
        }
        let out = self.handovers.out.iter();
        let is_left = |host: &&HostId| self.handovers.setup.weights.contains_key(host);
        match out.filter(is_left).find(|host| !self.drained.contains(host)) {
            Some(host) => Err(format!("the drain of host {host} does not end")),
            None => Ok(()),
        }
    }
}

fn differences(is: &BTreeMap<Service, Vec<Slot>>, should: &BTreeMap<Service, Vec<Slot>>) -> String {
    let text = |slot: &Slot| match slot.is_open() {
        true => format!("{} (before {})", slot.owner(), slot.previous()),
        false => slot.owner().to_string(),
    };
    let mut differences = Vec::new();
    for (service, slots) in should {
        for (number, (is, should)) in is[service].iter().zip(slots).enumerate() {
            if is != should {
                let (is, should) = (text(is), text(should));
                differences.push(format!("{service:?} {number}: {is} and not {should}"));
            }
        }
    }
    differences.join(", ")
}
