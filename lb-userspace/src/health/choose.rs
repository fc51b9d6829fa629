//! Who of a service's hosts is in use, by what their checks say. Operators come first: who is out by their will is none of this.

use std::collections::BTreeSet;

use super::Oper;
use crate::model::{Health, Percent};

/// With so many members one may be out by what clients tell, whatever its weight.
const ENOUGH_OTHERS: usize = 3;

/// A member of a service that no operator took out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub weight: u16,
    /// 0: primary; 1: stands by.
    pub tier: u8,
    /// By its checks.
    pub oper: Oper,
    /// It is down by what clients tell alone; no check has found it so.
    pub is_told: bool,
    /// Packets can be sent to it.
    pub is_reachable: bool,
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

/// Whether nobody of these can be reached. Then it is this machine's own link that is down, more likely than not, and nobody would be better
/// off with the slots of another: as below the panic threshold, it counts against none of them.
pub fn is_cut_off(reachable: impl IntoIterator<Item = bool>) -> bool {
    !reachable.into_iter().any(|is_reachable| is_reachable)
}

/// Chooses among `members`. `primary` is the weight of all primary hosts, also of those that operators took out: those are missing as well.
/// `had_joined`: the standby hosts were in use until now.
pub fn choose(members: &[Member], primary: u64, health: &Health, had_joined: bool) -> Choice {
    let is_cut_off = is_cut_off(members.iter().map(|member| member.is_reachable));
    let is_down = |member: &Member| member.oper == Oper::Down || !member.is_reachable && !is_cut_off;
    let up = |member: &&Member| !is_down(member);
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
    let (all, count) = (weight(joined.iter().copied()), joined.len());
    let well = weight(joined.iter().copied().filter(up));
    let mut down: Vec<&Member> = joined.into_iter().filter(|member| is_down(member)).collect();
    if !health.panic.is_kept_by(well, all) {
        choice.is_panic = !down.is_empty();
        return choice;
    }
    // Who went down first has been so for longest, and is believed first; before all of them who cannot be reached, and behind them those of
    // whom only clients have told, which somebody may feign. Of these one may be out in any case, if there are others enough.
    let can_be_reached = |member: &Member| member.is_reachable || is_cut_off;
    let is_told = |member: &Member| member.is_told && can_be_reached(member);
    let since = |member: &Member| if can_be_reached(member) { member.since } else { 0 };
    down.sort_by(|a, b| (is_told(a), since(a), &a.name).cmp(&(is_told(b), since(b), &b.name)));
    let most = |part: Percent| all * u64::from(part.0);
    let has_others = count >= ENOUGH_OTHERS && health.passive.max_ejected.0 > 0;
    let (mut ejected, mut told) = (0, 0);
    for member in down {
        let weight = u64::from(member.weight);
        let more_told = told + if is_told(member) { weight } else { 0 };
        let fits_told = more_told == told
            || more_told * 100 <= most(health.passive.max_ejected)
            || told == 0 && has_others;
        if (ejected + weight) * 100 <= most(health.max_ejected) && fits_told {
            (ejected, told) = (ejected + weight, more_told);
            choice.ejected.insert(member.name.clone());
        } else {
            choice.spared.insert(member.name.clone());
        }
    }
    choice
}
