//! Where the previous owners come from: the inputs of the ring since the oldest handover that is still open.
//!
//! A ring is a function of its inputs, but previous owners are history. This is that history in a form that a journal can
//! keep, and from which a balancer that was restarted, or another one, makes the very same slots again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Base, HOST_NONE, HostId, Member, Moved, SlotSet, Slots};

/// The generations of a ring from the last settled one before any handover that is open; one alone when none is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    generations: Vec<Generation>,
}

/// The inputs of one publication of a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Generation {
    /// Unix time in seconds.
    at: u64,
    members: Vec<PastMember>,
    /// The slots whose handover was open when the next generation came, or is open now.
    open: SlotSet,
}

/// A [`Member`] by its name alone: ids are of one balancer and one life of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PastMember {
    name: String,
    weight: u16,
    share: u16,
}

/// Why a lineage cannot be replayed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LineageError {
    #[error("the ring's lineage has no generation: start it anew from the present members")]
    Empty,
    #[error(
        "the ring's lineage is of {lineage} slots, but the ring has {ring}: start it anew from the present members"
    )]
    Size { lineage: u32, ring: u32 },
    #[error(
        "the ring's lineage names host {0:?} twice in one generation: start it anew from the present members"
    )]
    Twice(String),
}

impl Lineage {
    /// A ring without history, published at `now`, with its slots.
    pub fn settled(base: &Base, members: &[Member], now: u64) -> (Lineage, Slots) {
        let slots = Slots::settled(&base.owners(members));
        let first = Generation { at: now, members: past(members), open: SlotSet::new(base.size()) };
        (Lineage { generations: vec![first] }, slots)
    }

    /// Publishes the ring of `members` to `slots`, remembers how, and returns the slots that changed hands. `slots` are those of this
    /// lineage; `now` is the unix time in seconds. Store the lineage first, then tell the data path.
    ///
    /// # Panics
    /// When `slots`, `base` and the lineage are of different sizes, or `base` does not fit `members`.
    pub fn publish(&mut self, slots: &mut Slots, base: &Base, members: &[Member], now: u64) -> Vec<Moved> {
        self.observe(slots);
        let moved = slots.publish(&base.owners(members), now);
        match self.generations.last_mut() {
            // Other inputs, the same owners: they can stand in for the ones before.
            Some(last) if moved.is_empty() => last.members = past(members),
            _ => {
                let (members, open) = (past(members), slots.open().clone());
                self.generations.push(Generation { at: now, members, open });
                self.truncate();
            }
        }
        moved
    }

    /// Takes note of handovers that have been closed in `slots`, and forgets what nobody needs any more.
    ///
    /// The lineage has to be stored before the data path learns of the closing: from then on new flows of the slot go without a pin, and
    /// a replay that still had the handover open would send them to the previous owner.
    pub fn observe(&mut self, slots: &Slots) {
        if let Some(last) = self.generations.last_mut().filter(|last| last.open != *slots.open()) {
            last.open.clone_from(slots.open());
            self.truncate();
        }
    }

    /// The slots as this lineage made them, on a balancer that knows its hosts by other `ids`, or at another time.
    ///
    /// A host without an id no longer exists here: nothing is handed over from it. A generation from the future, as the clock was set back,
    /// counts as one of `now`.
    ///
    /// # Errors
    /// When the lineage was not made of rings of `size` slots, or was never whole. It is of no use then: a new one has to be
    /// [`settled`](Self::settled).
    ///
    /// # Panics
    /// When `size` is no prime, as in [`Base::build`].
    pub fn replay(
        &self,
        key: &[u8; 16],
        size: u32,
        ids: impl Fn(&str) -> Option<HostId>,
        now: u64,
    ) -> Result<Slots, LineageError> {
        let mut base: Option<Base> = None;
        let mut slots: Option<Slots> = None;
        for generation in &self.generations {
            generation.check(size)?;
            let members: Vec<Member> = generation.members.iter().map(|member| member.with_id(&ids)).collect();
            let base = match base.take().filter(|base| base.fits(&members)) {
                Some(kept) => base.insert(kept),
                None => base.insert(Base::build(key, size, &members)),
            };
            let owners = base.owners(&members);
            match &mut slots {
                None => slots = Some(Slots::settled(&owners)),
                Some(slots) => {
                    slots.publish(&owners, generation.at.min(now));
                    slots.close_all_but(&generation.open);
                }
            }
        }
        slots.ok_or(LineageError::Empty)
    }

    /// Names of the hosts that were in use in the last publication.
    pub fn in_use(&self) -> BTreeSet<String> {
        let last = self.generations.last().map_or(&[][..], |generation| &generation.members);
        last.iter().filter(|member| member.share > 0).map(|member| member.name.clone()).collect()
    }

    /// Names of all hosts that are remembered.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.generations.iter().flat_map(|generation| &generation.members).map(|member| member.name.as_str())
    }

    /// How many generations are remembered.
    pub fn len(&self) -> usize {
        self.generations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// Drops the generations before the last one that had none of the handovers that are open now: it is as good as a settled one.
    fn truncate(&mut self) {
        let Some(last) = self.generations.last() else { return };
        let mut still_open = last.open.clone();
        let settled = self.generations.iter().rposition(|generation| {
            still_open.intersect(&generation.open);
            still_open.is_empty()
        });
        if let Some(settled) = settled {
            self.generations.drain(..settled);
            self.generations[0].open.clear();
        }
    }
}

impl Generation {
    fn check(&self, ring: u32) -> Result<(), LineageError> {
        if self.open.size() != ring {
            return Err(LineageError::Size { lineage: self.open.size(), ring });
        }
        let mut names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(LineageError::Twice(pair[0].to_owned())),
            None => Ok(()),
        }
    }
}

impl PastMember {
    fn with_id(&self, ids: impl Fn(&str) -> Option<HostId>) -> Member {
        let id = ids(&self.name).unwrap_or(HOST_NONE);
        Member { id, name: self.name.clone(), weight: self.weight, share: self.share }
    }
}

fn past(members: &[Member]) -> Vec<PastMember> {
    members
        .iter()
        .map(|member| PastMember { name: member.name.clone(), weight: member.weight, share: member.share })
        .collect()
}
