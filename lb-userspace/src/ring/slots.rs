//! The owners of a ring's slots over time: a slot that changes hands remembers who had it until no flow can need that any more.
//!
//! All times are whole seconds of one clock of the caller's choice.

use super::{HOST_NONE, HostId, SlotSet};

/// Where [`Slots::packed`] has the previous owner.
pub const PREVIOUS_SHIFT: u32 = 15;

/// The bit of [`Slots::packed`] that says that a handover is open.
pub const OPEN_BIT: u32 = 1 << 30;

/// The slots of one ring: of each its owner and, while a handover is open, its previous owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    owner: Vec<HostId>,
    /// Who owned the slot when its handover opened; [`HOST_NONE`] while none is open.
    previous: Vec<HostId>,
    /// When the slot last changed hands; 0 while no handover is open.
    changed: Vec<u64>,
    open: SlotSet,
}

/// A slot that changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub slot: u32,
    pub from: HostId,
    pub to: HostId,
}

impl Slots {
    /// Slots without history: no handover is open.
    pub fn settled(owners: &[HostId]) -> Slots {
        Slots {
            owner: owners.to_vec(),
            previous: vec![HOST_NONE; owners.len()],
            changed: vec![0; owners.len()],
            open: SlotSet::new(owners.len() as u32),
        }
    }

    pub fn size(&self) -> u32 {
        self.owner.len() as u32
    }

    /// Gives the slots to `owners` and returns those that changed hands.
    ///
    /// The first change of a slot opens its handover, later ones leave the previous owner as it is: flows that were not
    /// pinned before the handover are all with the oldest one. An unowned slot has no flows to hand over, so it stays settled.
    ///
    /// # Panics
    /// When `owners` is of a ring of another size.
    pub fn publish(&mut self, owners: &[HostId], now: u64) -> Vec<Moved> {
        assert_eq!(owners.len(), self.owner.len(), "owners of another ring");
        let mut moved = Vec::new();
        for (slot, (owner, &to)) in self.owner.iter_mut().zip(owners).enumerate() {
            let from = std::mem::replace(owner, to);
            if from == to {
                continue;
            }
            moved.push(Moved { slot: slot as u32, from, to });
            if self.open.contains(slot as u32) {
                self.changed[slot] = now;
            } else if from != HOST_NONE {
                self.open.insert(slot as u32);
                self.previous[slot] = from;
                self.changed[slot] = now;
            }
        }
        moved
    }

    pub fn owner(&self, slot: u32) -> HostId {
        self.owner[slot as usize]
    }

    /// The previous owner while a handover is open; it may be the owner again, when a drain was taken back.
    pub fn previous(&self, slot: u32) -> Option<HostId> {
        self.open.contains(slot).then(|| self.previous[slot as usize])
    }

    /// The slots whose handover is open.
    pub fn open(&self) -> &SlotSet {
        &self.open
    }

    pub fn owners(&self) -> &[HostId] {
        &self.owner
    }

    /// Whom a packet of an established flow without a pin belongs to: the previous owner while a handover is open and that host
    /// `serves`, else the owner. A host serves until its drain has ended, also while it is down.
    pub fn stateless(&self, slot: u32, serves: impl Fn(HostId) -> bool) -> HostId {
        self.previous(slot).filter(|&previous| serves(previous)).unwrap_or(self.owner[slot as usize])
    }

    /// Closes the handovers that nobody needs any more, and returns how many.
    ///
    /// A handover closes when no live pin of its slot names another host than the owner and either the previous owner's drain has
    /// ended (it is `gone`), or more than `t` seconds, the longest that a live flow may be silent, have passed since the later of
    /// the slot's last change and `lost_at`, the last loss of state: by then every live flow has a pin.
    ///
    /// `foreign` are the slots with a live pin on another host than the owner, pins on hosts that are gone aside. They must have been
    /// gathered after the grace period of the last publication, so that no packet can still be pinned by the slots from before.
    ///
    /// # Panics
    /// When `foreign` is of a ring of another size.
    pub fn close(
        &mut self,
        now: u64,
        t: u64,
        lost_at: u64,
        foreign: &SlotSet,
        gone: impl Fn(HostId) -> bool,
    ) -> usize {
        assert_eq!(foreign.size(), self.size(), "foreign pins of another ring");
        let needless = |&slot: &u32| {
            !foreign.contains(slot)
                && (self.open_for(slot, now, lost_at) > t || gone(self.previous[slot as usize]))
        };
        let closing: Vec<u32> = self.open.iter().filter(needless).collect();
        closing.iter().for_each(|&slot| self.settle(slot));
        closing.len()
    }

    /// Closes all handovers but those of `keep`: how a history that is told again closes what was closed in it.
    pub(super) fn close_all_but(&mut self, keep: &SlotSet) {
        let closing: Vec<u32> = self.open.iter().filter(|&slot| !keep.contains(slot)).collect();
        closing.iter().for_each(|&slot| self.settle(slot));
    }

    /// Whether every slot that is being handed over from `host` has been so for more than `t` seconds, unchanged and without a loss of
    /// state: then each live flow of the host has a pin, so that a host without pins is a host without flows.
    pub fn all_open_longer_than(&self, host: HostId, now: u64, t: u64, lost_at: u64) -> bool {
        self.open
            .iter()
            .filter(|&slot| self.previous[slot as usize] == host)
            .all(|slot| self.open_for(slot, now, lost_at) > t)
    }

    /// Whether these are the very slots of `other`, and no handover of theirs closes earlier: they can stand in for them.
    pub fn covers(&self, other: &Slots) -> bool {
        self.owner == other.owner
            && self.open == other.open
            && self.previous == other.previous
            && self.changed.iter().zip(&other.changed).all(|(own, other)| own >= other)
    }

    /// A slot as the data path reads it: the owner in bits 0 to 14, the previous owner in 15 to 29 ([`HOST_NONE`] in a
    /// settled slot), and bit 30 set while the handover is open.
    pub fn packed(&self, slot: u32) -> u32 {
        let open = if self.open.contains(slot) { OPEN_BIT } else { 0 };
        let (owner, previous) = (self.owner[slot as usize], self.previous[slot as usize]);
        u32::from(owner) | u32::from(previous) << PREVIOUS_SHIFT | open
    }

    /// All slots, [`packed`](Self::packed), in order.
    pub fn words(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        (0..self.size()).map(|slot| self.packed(slot))
    }

    /// Seconds since the last event after which flows may be without a pin. None have passed while that lies in the future.
    pub fn open_for(&self, slot: u32, now: u64, lost_at: u64) -> u64 {
        now.saturating_sub(self.changed[slot as usize].max(lost_at))
    }

    fn settle(&mut self, slot: u32) {
        self.open.remove(slot);
        self.previous[slot as usize] = HOST_NONE;
        self.changed[slot as usize] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 30;

    fn foreign(slots: &[u32]) -> SlotSet {
        let mut set = SlotSet::new(3);
        slots.iter().for_each(|&slot| set.insert(slot));
        set
    }

    fn nobody(_: HostId) -> bool {
        false
    }

    #[test]
    fn the_oldest_previous_owner_stays() {
        let mut slots = Slots::settled(&[1, 2, 3]);
        assert_eq!(slots.publish(&[1, 4, 3], 10), [Moved { slot: 1, from: 2, to: 4 }]);
        assert_eq!(slots.publish(&[1, 5, 3], 20), [Moved { slot: 1, from: 4, to: 5 }]);
        assert_eq!((slots.owner(1), slots.previous(1), slots.previous(0)), (5, Some(2), None));
        assert_eq!(slots.stateless(1, |_| true), 2);
        assert_eq!(slots.stateless(1, |host| host != 2), 5);
        assert_eq!(slots.stateless(0, |_| true), 1);
    }

    #[test]
    fn a_drain_taken_back_leaves_the_handover_open() {
        let mut slots = Slots::settled(&[1, 2, 3]);
        slots.publish(&[1, 4, 3], 10);
        slots.publish(&[1, 2, 3], 20);
        assert_eq!((slots.owner(1), slots.previous(1)), (2, Some(2)));
        assert_eq!(slots.packed(1), 2 | 2 << 15 | 1 << 30);
    }

    #[test]
    fn an_unowned_slot_has_nothing_to_hand_over() {
        let mut slots = Slots::settled(&[HOST_NONE, 2, 3]);
        assert_eq!(slots.publish(&[1, HOST_NONE, 3], 10).len(), 2);
        assert_eq!((slots.owner(0), slots.previous(0)), (1, None));
        assert_eq!((slots.owner(1), slots.previous(1)), (HOST_NONE, Some(2)));
        slots.publish(&[1, 3, 3], 20);
        assert_eq!((slots.owner(1), slots.previous(1)), (3, Some(2)));
    }

    #[test]
    fn a_handover_closes_when_t_has_passed_since_the_last_change_and_loss() {
        let mut slots = Slots::settled(&[1, 2, 3]);
        slots.publish(&[1, 4, 3], 100);
        slots.publish(&[1, 5, 3], 110);
        assert_eq!(slots.close(110 + T, T, 0, &foreign(&[]), nobody), 0);
        assert_eq!(slots.clone().close(111 + T, T, 0, &foreign(&[]), nobody), 1);
        assert_eq!(slots.close(120 + T, T, 120, &foreign(&[]), nobody), 0, "state was lost at 120");
        assert_eq!(slots.close(50, T, 0, &foreign(&[]), nobody), 0, "the clock was set back");
        assert_eq!(slots.close(999, T, 0, &foreign(&[1]), nobody), 0, "a pin names another host");
        assert_eq!(slots.close(999, T, 0, &foreign(&[0]), nobody), 1);
        assert_eq!(slots, Slots::settled(&[1, 5, 3]));
    }

    #[test]
    fn a_handover_closes_early_when_the_drain_has_ended() {
        let mut slots = Slots::settled(&[1, 2, 3]);
        slots.publish(&[1, 4, 3], 100);
        assert_eq!(slots.close(101, T, 0, &foreign(&[1]), |host| host == 2), 0, "a pin names another host");
        assert_eq!(
            slots.close(101, T, 0, &foreign(&[]), |host| host == 4),
            0,
            "it is the new owner that is gone"
        );
        assert_eq!(slots.close(101, T, 0, &foreign(&[]), |host| host == 2), 1);
        assert_eq!(slots.packed(1), 4 | u32::from(HOST_NONE) << 15);
    }

    #[test]
    fn a_drain_waits_for_each_of_its_slots() {
        let mut slots = Slots::settled(&[1, 1, 3]);
        slots.publish(&[2, 2, 3], 100);
        slots.publish(&[2, 3, 3], 110);
        assert!(!slots.all_open_longer_than(1, 105 + T, T, 0));
        assert!(slots.all_open_longer_than(1, 111 + T, T, 0));
        assert!(!slots.all_open_longer_than(1, 111 + T, T, 111));
        assert!(slots.all_open_longer_than(3, 0, T, 0), "nothing is handed over from host 3");
    }

    #[test]
    fn words_are_the_packed_slots() {
        let mut slots = Slots::settled(&[1, 2, 4094]);
        slots.publish(&[1, 4094, 4094], 7);
        let none = u32::from(HOST_NONE) << 15;
        assert_eq!(slots.words().collect::<Vec<_>>(), [1 | none, 4094 | 2 << 15 | 1 << 30, 4094 | none]);
    }
}
