//! Random histories, and what may not happen in them.

use std::collections::BTreeMap;
use std::fmt;

use super::super::{HOST_NONE, HostId, Member, Moved, SHARE_FULL};
use super::rng::Rng;
use super::{Broken, Control, Datapath, Packet, T, Tracking};

/// Slots of the ring.
pub const SLOTS: u32 = 23;
/// Hosts are numbered from 1.
pub const HOSTS: u16 = 6;

/// The model's clock does not start at zero, nor do clocks of machines.
const START: u64 = 1_000_000;

/// Seconds that a false alarm takes.
const ALARM: u64 = 3;

/// What a history can violate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// A packet of an established flow reaches its host as long as that host is up or draining. A loss of all pins may only hurt flows
    /// that began in a handover that was still open.
    PinnedStaysPinned,
    /// No new flow reaches a host that is out.
    DrainedMeansNoNewFlow,
    /// A slot moves only away from a host whose share shrank or towards one whose share grew.
    NothingElseMoves,
    /// A drain that is reported as done leaves no live flow on its host.
    DoneMeansDone,
    /// The slots of a replayed lineage are those that lived through the history.
    ReplayIsExact,
}

#[derive(Debug, Clone)]
pub struct Violation {
    pub law: Law,
    /// Seconds since the start of the history.
    pub at: u64,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} s: {}", self.law, self.at, self.what)
    }
}

/// What came of a history.
#[derive(Debug, Default)]
pub struct Report {
    pub violations: Vec<Violation>,
    /// Packets of established flows that were checked.
    pub packets: u64,
    /// Drains that were done without a deadline.
    pub drains_done: u64,
    /// Handovers that were open at a reboot.
    pub replayed_open: u64,
    /// The longest lineage.
    pub generations: usize,
}

/// A flow as the outside world knows it.
struct Flow {
    slot: u32,
    host: HostId,
    spoke: u64,
}

struct History<'d, D> {
    rng: Rng,
    now: u64,
    control: Control,
    datapath: &'d mut D,
    flows: BTreeMap<u64, Flow>,
    /// The number of the next flow: flows are counted in the order in which they begin.
    next: u64,
    /// For each slot in handover the first flow that began in it.
    first_in_handover: BTreeMap<u32, u64>,
    /// When a host that is down comes back.
    back: BTreeMap<HostId, u64>,
    report: Report,
}

/// Runs the random history of `seed`, that many seconds long, over a ring of [`SLOTS`] slots and [`HOSTS`] hosts.
pub fn history<D: Datapath>(
    seed: u64,
    seconds: u64,
    tracking: Tracking,
    broken: Option<Broken>,
    datapath: &mut D,
) -> Report {
    let mut rng = Rng::new(seed);
    let key = (u128::from(rng.next()) << 64 | u128::from(rng.next())).to_le_bytes();
    let weights: Vec<u16> = (0..HOSTS).map(|_| [1, 2, 2, 3][rng.below(4) as usize]).collect();
    let member =
        |(n, &weight)| Member { id: n as u16 + 1, name: format!("host-{n}"), weight, share: SHARE_FULL };
    let members = weights.iter().enumerate().map(member).collect();
    let mut history = History {
        rng,
        now: START,
        control: Control::new(key, SLOTS, members, tracking, broken, START),
        datapath,
        flows: BTreeMap::new(),
        next: 0,
        first_in_handover: BTreeMap::new(),
        back: BTreeMap::new(),
        report: Report::default(),
    };
    history.publish();
    for now in START..START + seconds {
        history.now = now;
        history.step();
    }
    history.report
}

impl<D: Datapath> History<'_, D> {
    fn step(&mut self) {
        (0..3).for_each(|_| self.begin_flow());
        self.speak();
        let before = self.control.effective();
        let reweighted = self.intend();
        let moved = self.publish();
        if !reweighted {
            self.check_moves(&before, &moved);
        }
        for _ in 0..3 {
            if self.rng.chance(300) {
                self.evict();
            }
        }
        if self.rng.chance(10) {
            self.lose();
        }
        self.sweep();
        if self.rng.chance(5) {
            self.lose();
            self.reboot();
        }
    }

    fn violate(&mut self, law: Law, what: String) {
        self.report.violations.push(Violation { law, at: self.now - START, what });
    }

    fn begin_flow(&mut self) {
        let (flow, slot) = (self.next, self.rng.below(u64::from(SLOTS)) as u32);
        self.next += 1;
        let host = self.datapath.packet(Packet { flow, slot, syn: true }, self.now);
        if host == HOST_NONE {
            return;
        }
        if self.control.out.contains(&host) || self.control.gone.contains(&host) {
            self.violate(Law::DrainedMeansNoNewFlow, format!("new flow {flow} on host {host}, which is out"));
        }
        self.flows.insert(flow, Flow { slot, host, spoke: self.now });
    }

    /// Each flow speaks when it has been silent for almost too long, or by chance; some end.
    fn speak(&mut self) {
        for number in self.flows.keys().copied().collect::<Vec<_>>() {
            let flow = &self.flows[&number];
            let (slot, host) = (flow.slot, flow.host);
            if self.now - flow.spoke >= T - 2 || self.rng.chance(80) {
                let got = self.datapath.packet(Packet { flow: number, slot, syn: false }, self.now);
                self.report.packets += 1;
                if got != host && !self.control.down.contains(&host) {
                    let slots = self.control.slots();
                    let (owner, previous) = (slots.owner(slot), slots.previous(slot));
                    let what = format!(
                        "flow {number} of host {host} sent to {got}, slot {slot}, owner {owner}, previous {previous:?}"
                    );
                    self.violate(Law::PinnedStaysPinned, what);
                    self.flows.remove(&number);
                    continue;
                }
                self.flows.entry(number).and_modify(|flow| flow.spoke = self.now);
            }
            if self.rng.chance(20) {
                self.datapath.end(number);
                self.flows.remove(&number);
            }
        }
    }

    /// Drains, drains taken back, deadlines, false alarms, ramps and new weights. Returns whether a weight was changed.
    fn intend(&mut self) -> bool {
        let ids = |members: &[Member]| members.iter().map(|member| member.id).collect::<Vec<_>>();
        let all = ids(&self.control.members);
        let (now, rng, control) = (self.now, &mut self.rng, &mut self.control);
        let active: Vec<HostId> =
            all.iter().copied().filter(|h| !control.out.contains(h) && !control.gone.contains(h)).collect();
        // The last host that takes flows may be drained too, but seldom.
        if let Some(host) = rng.choose(&active).filter(|_| rng.chance(if active.len() > 1 { 40 } else { 5 }))
        {
            control.out.insert(host);
        }
        let inactive: Vec<HostId> = control.out.union(&control.gone).copied().collect();
        if let Some(host) = rng.choose(&inactive).filter(|_| rng.chance(40)) {
            control.out.remove(&host);
            control.gone.remove(&host);
        }
        let up: Vec<HostId> = active.into_iter().filter(|host| !control.down.contains(host)).collect();
        if let Some(host) = rng.choose(&up).filter(|_| up.len() > 1 && rng.chance(30)) {
            control.down.insert(host);
            self.back.insert(host, now + ALARM);
        }
        self.back.retain(|host, &mut until| until > now || !control.down.remove(host));
        if rng.chance(20) {
            let share = [1, 16, 64, 128, 200, SHARE_FULL, SHARE_FULL][rng.below(7) as usize];
            control.members[rng.below(u64::from(HOSTS)) as usize].share = share;
        }
        let draining: Vec<HostId> = control.out.iter().copied().collect();
        if let Some(host) = rng.choose(&draining).filter(|_| rng.chance(5)) {
            control.end_drain(host);
            self.flows.retain(|_, flow| flow.host != host);
        }
        let reweighted = rng.chance(4);
        if reweighted {
            control.members[rng.below(u64::from(HOSTS)) as usize].weight = 1 + rng.below(4) as u16;
        }
        reweighted
    }

    fn publish(&mut self) -> Vec<Moved> {
        let moved = self.control.publish(self.datapath, self.now);
        self.report.generations = self.report.generations.max(self.control.generations());
        self.note_handovers();
        moved
    }

    fn note_handovers(&mut self) {
        let open = self.control.slots().open();
        self.first_in_handover.retain(|&slot, _| open.contains(slot));
        for slot in open.iter() {
            self.first_in_handover.entry(slot).or_insert(self.next);
        }
    }

    fn check_moves(&mut self, before: &[Member], moved: &[Moved]) {
        let after = self.control.effective();
        let share =
            |members: &[Member], id| members.iter().find(|member| member.id == id).map_or(0, |m| m.share);
        for &Moved { slot, from, to } in moved {
            if share(&after, from) >= share(before, from) && share(&after, to) <= share(before, to) {
                let what =
                    format!("slot {slot} moved from {from} to {to}, which are in use as much as before");
                self.violate(Law::NothingElseMoves, what);
            }
        }
    }

    fn evict(&mut self) {
        let pins = self.datapath.pins();
        let able: Vec<_> = pins.into_iter().filter(|pin| self.control.may_evict(pin.slot)).collect();
        if let Some(pin) = self.rng.choose(&able) {
            self.datapath.evict(pin.flow, self.now);
        }
    }

    fn lose(&mut self) {
        self.datapath.lose(self.now);
        let first = &self.first_in_handover;
        self.flows.retain(|number, flow| first.get(&flow.slot).is_none_or(|began| number < began));
    }

    fn reboot(&mut self) {
        self.report.replayed_open += u64::from(self.control.slots().open().count());
        match self.control.reboot(self.datapath, self.now) {
            Ok(true) => {}
            Ok(false) => self.violate(Law::ReplayIsExact, "other slots".to_owned()),
            Err(error) => self.violate(Law::ReplayIsExact, error.to_string()),
        }
        self.note_handovers();
    }

    fn sweep(&mut self) {
        let done = self.control.sweep(self.datapath, self.now);
        self.note_handovers();
        for host in done {
            self.report.drains_done += 1;
            if self.flows.values().any(|flow| flow.host == host) {
                self.violate(
                    Law::DoneMeansDone,
                    format!("drain of host {host} reported done with live flows"),
                );
            }
            self.flows.retain(|_, flow| flow.host != host);
        }
    }
}
