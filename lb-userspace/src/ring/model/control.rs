//! The daemon's half of the rules: it publishes slots, sweeps pins, closes handovers and says when a drain is done.

use std::collections::BTreeSet;

use super::super::slots::PREVIOUS_SHIFT;
use super::super::{Base, HOST_NONE, HostId, Lineage, LineageError, Member, Moved, Slots};
use super::{Broken, Datapath, HostState, T, Tracking};

pub struct Control {
    tracking: Tracking,
    broken: Option<Broken>,
    key: [u8; 16],
    /// All hosts with the weights and shares that they are meant to have.
    pub members: Vec<Member>,
    /// Hosts whose drain is under way.
    pub out: BTreeSet<HostId>,
    /// Hosts whose drain has ended.
    pub gone: BTreeSet<HostId>,
    /// Hosts that fail their checks.
    pub down: BTreeSet<HostId>,
    base: Base,
    slots: Slots,
    lineage: Lineage,
}

impl Control {
    /// All members in use, without history.
    pub fn new(
        key: [u8; 16],
        size: u32,
        members: Vec<Member>,
        tracking: Tracking,
        broken: Option<Broken>,
        now: u64,
    ) -> Control {
        let base = Base::build(&key, size, &members);
        let (lineage, slots) = Lineage::settled(&base, &members, now);
        Control {
            tracking,
            broken,
            key,
            members,
            out: BTreeSet::new(),
            gone: BTreeSet::new(),
            down: BTreeSet::new(),
            base,
            slots,
            lineage,
        }
    }

    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    pub fn generations(&self) -> usize {
        self.lineage.len()
    }

    /// The members as the ring has them now: drained and failing hosts have no share.
    pub fn effective(&self) -> Vec<Member> {
        let without =
            |host| self.out.contains(&host) || self.gone.contains(&host) || self.down.contains(&host);
        let share = |member: &Member| if without(member.id) { 0 } else { member.share };
        self.members.iter().map(|member| Member { share: share(member), ..member.clone() }).collect()
    }

    /// Makes the ring of the present members and tells the data path.
    pub fn publish(&mut self, datapath: &mut impl Datapath, now: u64) -> Vec<Moved> {
        let members = self.effective();
        if !self.base.fits(&members) {
            self.base = Base::build(&self.key, self.base.size(), &members);
        }
        if self.broken == Some(Broken::Newest) {
            let mut unmoved = self.slots.open().clone();
            self.slots
                .clone()
                .publish(&self.base.owners(&members), now)
                .iter()
                .for_each(|m| unmoved.remove(m.slot));
            self.slots.close_all_but(&unmoved);
        }
        let moved = self.lineage.publish(&mut self.slots, &self.base, &members, now);
        self.tell(datapath);
        moved
    }

    /// Whether an insert that finds no place may evict a live pin of `slot`.
    pub fn may_evict(&self, slot: u32) -> bool {
        self.slots.previous(slot).is_none() || self.broken == Some(Broken::EvictAny)
    }

    /// Starts anew from the journal: replaces the slots by those of the lineage, and returns whether they are the same.
    ///
    /// # Errors
    /// When the lineage cannot be replayed.
    pub fn reboot(&mut self, datapath: &mut impl Datapath, now: u64) -> Result<bool, LineageError> {
        if self.broken != Some(Broken::Unobserved) {
            self.lineage.observe(&self.slots);
        }
        let id = |name: &str| self.members.iter().find(|member| member.name == name).map(|member| member.id);
        let replayed = self.lineage.replay(&self.key, self.base.size(), id, now)?;
        let same = replayed == self.slots || self.broken == Some(Broken::Unobserved);
        self.slots = replayed;
        self.tell(datapath);
        Ok(same)
    }

    /// Expires pins, closes handovers, and returns the hosts whose drain is done.
    pub fn sweep(&mut self, datapath: &mut impl Datapath, now: u64) -> Vec<HostId> {
        let found = datapath.sweep(now);
        let wait = if self.broken == Some(Broken::NoT) { 0 } else { T };
        let lost = self.lost_at(datapath);
        self.slots.close(now, wait, lost, &found.foreign, |host| self.gone.contains(&host));
        self.tell(datapath);

        let unpinned = |host: &&HostId| found.live.get(host).is_none_or(|&pins| pins == 0);
        let done: Vec<HostId> = self
            .out
            .iter()
            .filter(unpinned)
            .copied()
            .filter(|&host| self.is_done(datapath, host, now))
            .collect();
        for &host in &done {
            self.end_drain(host);
        }
        self.tell(datapath);
        done
    }

    /// A drain that is under way has ended: by itself, or as its deadline has passed and its flows have been reset.
    pub fn end_drain(&mut self, host: HostId) {
        self.out.remove(&host);
        self.gone.insert(host);
    }

    /// Whether a host without live pins is a host without live flows.
    fn is_done(&self, datapath: &impl Datapath, host: HostId, now: u64) -> bool {
        let complete = self.tracking == Tracking::Full
            && (self.broken == Some(Broken::Short)
                || now.saturating_sub(datapath.incomplete_since(host)) > T);
        complete || self.slots.all_open_longer_than(host, now, T, self.lost_at(datapath))
    }

    fn lost_at(&self, datapath: &impl Datapath) -> u64 {
        if self.broken == Some(Broken::NoLoss) { 0 } else { datapath.lost_at() }
    }

    fn tell(&self, datapath: &mut impl Datapath) {
        let state = |host: &HostId| match host {
            host if self.gone.contains(host) => HostState::Gone,
            host if self.down.contains(host) => HostState::Down,
            host if self.out.contains(host) => HostState::Draining,
            _ => HostState::Up,
        };
        let hosts = self.members.iter().map(|member| (member.id, state(&member.id))).collect();
        let mut words: Vec<u32> = self.slots.words().collect();
        if self.broken == Some(Broken::NoPrevious) {
            let owners = self.slots.owners().iter();
            words = owners.map(|&owner| u32::from(owner) | u32::from(HOST_NONE) << PREVIOUS_SHIFT).collect();
        }
        datapath.publish(&words, &hosts);
    }
}
