//! The lineage of a ring makes the same slots again: after a reboot, and on a balancer that knows its hosts by other ids.

use std::collections::BTreeSet;

use lb_userspace::ring::{Base, HostId, Lineage, LineageError, Member, SHARE_FULL, SlotSet, Slots};
use proptest::collection::vec;
use proptest::prelude::*;

const KEY: [u8; 16] = *b"lineage test key";
const SIZE: u32 = 211;
const T: u64 = 30;

fn hosts(count: u16) -> Vec<Member> {
    (1..=count).map(|id| Member { id, name: format!("db-{id}"), weight: 10, share: SHARE_FULL }).collect()
}

fn own_ids(name: &str) -> Option<HostId> {
    name.strip_prefix("db-")?.parse().ok()
}

/// Another balancer's ids for the same names.
fn other_ids(name: &str) -> Option<HostId> {
    own_ids(name).map(|id| 4000 - id)
}

/// Something that happens to a ring, and how many seconds later.
#[derive(Debug, Clone)]
enum Event {
    Share {
        host: usize,
        share: u16,
    },
    Weight {
        host: usize,
        weight: u16,
    },
    /// Adds the host, or removes it.
    Member {
        host: u16,
    },
    /// Closes the handovers that are due, but for these slots with foreign pins.
    Close {
        foreign: Vec<u32>,
        gone: HostId,
    },
    Pass,
}

fn event() -> impl Strategy<Value = Event> {
    let share = prop_oneof![2 => Just(0), 2 => Just(SHARE_FULL), 1 => 1..SHARE_FULL];
    prop_oneof![
        5 => (0..12usize, share).prop_map(|(host, share)| Event::Share { host, share }),
        1 => (0..12usize, 0..30u16).prop_map(|(host, weight)| Event::Weight { host, weight }),
        1 => (5..13u16).prop_map(|host| Event::Member { host }),
        4 => (vec(0..SIZE, 0..9), 0..13u16).prop_map(|(foreign, gone)| Event::Close { foreign, gone }),
        1 => Just(Event::Pass),
    ]
}

/// A ring that lives through its history.
struct Life {
    members: Vec<Member>,
    base: Base,
    slots: Slots,
    lineage: Lineage,
    now: u64,
}

impl Life {
    fn new() -> Life {
        let members = hosts(8);
        let base = Base::build(&KEY, SIZE, &members);
        let (lineage, slots) = Lineage::settled(&base, &members, 1000);
        Life { members, base, slots, lineage, now: 1000 }
    }

    fn publish(&mut self) {
        if !self.base.fits(&self.members) {
            self.base = Base::build(&KEY, SIZE, &self.members);
        }
        self.lineage.publish(&mut self.slots, &self.base, &self.members, self.now);
    }

    fn close(&mut self, foreign: &[u32], gone: HostId) {
        let mut set = SlotSet::new(SIZE);
        foreign.iter().for_each(|&slot| set.insert(slot));
        self.slots.close(self.now, T, 0, &set, |host| host == gone);
    }

    fn act(&mut self, event: &Event) {
        match *event {
            Event::Share { host, share } => {
                let host = host % self.members.len();
                self.members[host].share = share;
                self.publish();
            }
            Event::Weight { host, weight } => {
                let host = host % self.members.len();
                self.members[host].weight = weight;
                self.publish();
            }
            Event::Member { host } => {
                let before = self.members.len();
                self.members.retain(|member| member.id != host);
                if self.members.len() == before {
                    self.members.insert(0, Member { id: host, ..hosts(host).pop().unwrap() });
                }
                self.publish();
            }
            Event::Close { ref foreign, gone } => self.close(foreign, gone),
            Event::Pass => {}
        }
    }

    /// The lineage as the journal gives it back.
    fn stored(&mut self) -> Lineage {
        self.lineage.observe(&self.slots);
        serde_json::from_str(&serde_json::to_string(&self.lineage).unwrap()).unwrap()
    }

    fn replayed(&mut self) -> Slots {
        let now = self.now;
        self.stored().replay(&KEY, SIZE, own_ids, now).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn replay_gives_the_slots_that_lived(events in vec((0..20u64, event()), 1..40)) {
        let mut life = Life::new();
        for (later, event) in &events {
            life.now += later;
            life.act(event);
            prop_assert_eq!(&life.replayed(), &life.slots, "after {:?}", event);
            if life.slots.open().is_empty() {
                prop_assert_eq!(life.lineage.len(), 1);
            }
        }
    }

    /// Closings only need to be noted when the lineage is stored or the ring published.
    #[test]
    fn storing_seldom_makes_no_difference(events in vec((0..20u64, event()), 1..40)) {
        let mut life = Life::new();
        for (later, event) in &events {
            life.now += later;
            life.act(event);
        }
        prop_assert_eq!(&life.replayed(), &life.slots);
    }

    #[test]
    fn another_balancer_makes_the_same_slots(events in vec((0..20u64, event()), 1..40)) {
        let mut life = Life::new();
        for (later, event) in &events {
            life.now += later;
            life.act(event);
        }
        let there = life.stored().replay(&KEY, SIZE, other_ids, life.now).unwrap();
        let translate = |id: HostId| if id <= 4000 { 4000 - id } else { id };
        for slot in 0..SIZE {
            prop_assert_eq!(there.owner(slot), translate(life.slots.owner(slot)));
            prop_assert_eq!(there.previous(slot), life.slots.previous(slot).map(translate));
        }
    }
}

fn drain(life: &mut Life, host: usize, share: u16) {
    life.members[host].share = share;
    life.publish();
}

#[test]
fn a_lineage_grows_no_longer_than_its_handovers() {
    let mut life = Life::new();
    for turn in 0..200 {
        drain(&mut life, turn % 8, 0);
        life.now += T / 2;
        drain(&mut life, turn % 8, SHARE_FULL);
        life.now += T / 2 + 1;
        life.close(&[], 0);
        assert!(life.lineage.len() <= 6, "{} generations at turn {turn}", life.lineage.len());
    }
    life.now += T + 1;
    life.close(&[], 0);
    life.lineage.observe(&life.slots);
    assert_eq!((life.lineage.len(), life.slots.open().count()), (1, 0));
}

#[test]
fn inputs_that_move_nothing_make_no_generation() {
    let mut life = Life::new();
    drain(&mut life, 3, 0);
    let mut spare = hosts(9).pop().unwrap();
    (spare.weight, spare.share) = (0, 0);
    life.members.push(spare);
    life.publish();
    assert_eq!(life.lineage.len(), 2);
    assert_eq!(life.replayed(), life.slots);
}

#[test]
fn nothing_is_handed_over_from_a_host_that_no_longer_exists() {
    let mut life = Life::new();
    drain(&mut life, 3, 0);
    let known = |name: &str| own_ids(name).filter(|&id| id != 4);
    let slots = life.stored().replay(&KEY, SIZE, known, life.now).unwrap();
    assert!(!life.slots.open().is_empty());
    assert_eq!(slots, Slots::settled(life.slots.owners()));
}

#[test]
fn a_generation_from_the_future_is_of_now() {
    let mut life = Life::new();
    life.now = 9000;
    drain(&mut life, 3, 0);
    let mut slots = life.stored().replay(&KEY, SIZE, own_ids, 500).unwrap();
    assert_eq!(slots.open(), life.slots.open());
    let none = SlotSet::new(SIZE);
    assert_eq!(slots.close(500 + T, T, 0, &none, |_| false), 0);
    assert_ne!(slots.close(501 + T, T, 0, &none, |_| false), 0);
}

#[test]
fn a_lineage_that_is_not_of_this_ring_is_refused() {
    let mut life = Life::new();
    drain(&mut life, 3, 0);
    let stored = life.stored();
    let error = stored.replay(&KEY, 251, own_ids, life.now).unwrap_err();
    assert_eq!(error, LineageError::Size { lineage: 211, ring: 251 });

    let text = serde_json::to_string(&stored).unwrap();
    let twice: Lineage = serde_json::from_str(&text.replace("db-2", "db-1")).unwrap();
    assert_eq!(twice.replay(&KEY, SIZE, own_ids, 0).unwrap_err(), LineageError::Twice("db-1".into()));

    let empty: Lineage = serde_json::from_str(r#"{"generations":[]}"#).unwrap();
    assert_eq!(empty.replay(&KEY, SIZE, own_ids, 0).unwrap_err(), LineageError::Empty);
}

/// Undraining brings the very ring back, but flows that began meanwhile keep their handover open.
#[test]
fn a_drain_taken_back_is_replayed_too() {
    let mut life = Life::new();
    let before = life.slots.owners().to_vec();
    drain(&mut life, 3, 0);
    life.now += 5;
    drain(&mut life, 3, SHARE_FULL);
    assert_eq!(life.slots.owners(), before);
    let open: BTreeSet<u32> = life.slots.open().iter().collect();
    assert_eq!(open, (0..SIZE).filter(|&slot| before[slot as usize] == 4).collect());
    assert_eq!(life.replayed(), life.slots);
}
