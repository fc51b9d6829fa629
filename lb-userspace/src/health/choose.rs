//! Who of a service's hosts is in use, by what their checks say. Operators come first: who is out by their will is none of this.

use std::collections::BTreeSet;

use super::Oper;
use crate::model::{Health, Percent};

/// A member of a service that no operator took out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub weight: u16,
    /// 0: primary; 1: stands by.
    pub tier: u8,
    pub oper: Oper,
    /// Unix seconds.
    pub since: u64,
}

/// Who is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Members that checks keep from new flows.
    pub ejected: BTreeSet<String>,
    /// Members that stand by and are not needed.
    pub waiting: BTreeSet<String>,
    /// The standby hosts have joined.
    pub has_joined: bool,
    /// Too few are up, so all are used.
    pub is_panic: bool,
    /// Members that are down and in use all the same, as no more may be ejected.
    pub spared: BTreeSet<String>,
}

impl Choice {
    pub fn is_used(&self, host: &str) -> bool {
        !self.ejected.contains(host) && !self.waiting.contains(host)
    }
}

fn weight<'a>(members: impl Iterator<Item = &'a Member>) -> u64 {
    members.map(|member| u64::from(member.weight)).sum()
}

/// Chooses among `members`. `primary` is the weight of all primary hosts, also of those that operators took out: those are missing as well.
/// `had_joined`: the standby hosts were in use until now.
pub fn choose(members: &[Member], primary: u64, health: &Health, had_joined: bool) -> Choice {
    let up = |member: &&Member| member.oper != Oper::Down;
    let has_standby = members.iter().any(|member| member.tier > 0);
    let has_joined = has_standby && {
        let well = weight(members.iter().filter(|member| member.tier == 0).filter(up));
        let is_enough = |part: Percent| part.is_kept_by(well, primary);
        // Nobody is never enough, whatever the config says.
        well == 0 || if had_joined { !is_enough(health.leave_at) } else { !is_enough(health.join_below) }
    };
    let (joined, waiting): (Vec<&Member>, Vec<&Member>) =
        members.iter().partition(|member| member.tier == 0 || has_joined);
    let mut choice = Choice {
        waiting: waiting.into_iter().map(|member| member.name.clone()).collect(),
        has_joined,
        ..Choice::default()
    };
    let all = weight(joined.iter().copied());
    let well = weight(joined.iter().copied().filter(up));
    let mut down: Vec<&Member> = joined.into_iter().filter(|member| member.oper == Oper::Down).collect();
    if !health.panic.is_kept_by(well, all) {
        choice.is_panic = !down.is_empty();
        return choice;
    }
    // Who went down first has been so for longest, and is believed first.
    down.sort_by(|a, b| (a.since, &a.name).cmp(&(b.since, &b.name)));
    let mut ejected = 0;
    for member in down {
        let more = ejected + u64::from(member.weight);
        if more * 100 <= all * u64::from(health.max_ejected.0) {
            ejected = more;
            choice.ejected.insert(member.name.clone());
        } else {
            choice.spared.insert(member.name.clone());
        }
    }
    choice
}
