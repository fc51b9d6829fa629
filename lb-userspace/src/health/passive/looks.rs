//! Hosts held against each other: samples of their counters, what each did in as few moments as tell something, and whether that is far
//! worse than what others did in the same ones.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};

use super::{PACE, PATIENCE, Sign, Totals};
use crate::model::Passive;

/// Milliseconds that are looked at at least: in less, all clients could be in step.
const SHORTEST: u64 = 1000;
/// A host must fare so many times worse than the better half of the others.
const TIMES: u64 = 2;
/// Standard deviations that chance may not explain.
const SIGMAS: f64 = 5.0;

/// How the flows of a host fared in the moments that were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Milliseconds.
    pub span: u64,
    pub begun: u64,
    pub failed: u64,
    pub again: u64,
    pub resets: u64,
    pub unreachables: u64,
}

impl Look {
    /// Milliseconds in which the flows began.
    pub fn stretch(&self) -> u64 {
        self.span.saturating_sub(PATIENCE)
    }

    /// Of how many flows the sign tells, and of how many there are.
    fn part(&self, sign: Sign) -> Part {
        let bad = match sign {
            Sign::Handshakes => self.failed,
            Sign::Resets => self.resets,
            Sign::Unreachables => self.unreachables,
        };
        Part { bad: bad.min(self.begun), all: self.begun }
    }
}

/// Flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    bad: u64,
    all: u64,
}

impl Part {
    fn ratio(self) -> f64 {
        self.bad as f64 / self.all as f64
    }

    fn and(self, other: Part) -> Part {
        Part { bad: self.bad + other.bad, all: self.all + other.all }
    }

    fn without(self, other: Part) -> Part {
        Part { bad: self.bad - other.bad, all: self.all - other.all }
    }
}

/// What a look comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Of the host itself, or of those that it could be held against.
    TooFew,
    Well,
    /// Far worse than others; in words.
    Bad(String),
}

/// The last samples of a service's hosts.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Milliseconds, and the totals of each host, by its place in the service.
    list: VecDeque<(u64, Vec<Totals>)>,
}

impl Samples {
    /// Takes in a sample, and forgets those that no window reaches back to.
    pub fn add(&mut self, now: u64, totals: Vec<Totals>, passive: &Passive) {
        // Other hosts.
        if self.list.back().is_some_and(|(_, last)| last.len() != totals.len()) {
            self.list.clear();
        }
        self.list.push_back((now, totals));
        let reach = passive.window.as_millis() as u64 + PATIENCE + PACE;
        while self.list.get(1).is_some_and(|(at, _)| at + reach <= now) {
            self.list.pop_front();
        }
    }

    /// How the hosts fared of late, each in as few moments as have flows enough of it, and none before `since` of the host, milliseconds.
    pub fn looks(&self, since: impl Fn(usize) -> u64, passive: &Passive) -> Looks {
        let mut looks = Looks::default();
        let Some((now, newest)) = self.list.back() else { return looks };
        let Some(until) = self.list.iter().rposition(|(at, _)| at + PATIENCE <= *now) else { return looks };
        let (until_at, last) = &self.list[until];
        for (host, last_of) in last.iter().enumerate() {
            let has_enough = |(at, from): &(u64, Vec<Totals>)| {
                let begun = last_of.begun.saturating_sub(from[host].begun);
                at + SHORTEST <= *until_at && begun >= passive.least_flows.into()
            };
            // The further back, the more.
            let from = self.list.partition_point(has_enough).checked_sub(1);
            let since = since(host);
            looks.from.push(from.filter(|&from| self.list[from].0 >= since));
        }
        for from in looks.from.iter().flatten() {
            looks.stretches.entry(*from).or_insert_with(|| {
                let (from_at, first) = &self.list[*from];
                let of = |host: usize| since_then(&first[host], &last[host], &newest[host], now - from_at);
                Stretch::of((0..last.len()).map(of).collect())
            });
        }
        looks
    }
}

/// What was counted between the samples; answers and what else comes after the flows' beginnings up to the newest one.
fn since_then(first: &Totals, last: &Totals, newest: &Totals, span: u64) -> Look {
    // A data path that took over counts from another number on.
    let since = |now: u64, then: u64| now.saturating_sub(then);
    let begun = since(last.begun, first.begun);
    Look {
        span,
        begun,
        failed: begun.saturating_sub(since(newest.answered, first.answered)),
        again: since(newest.again, first.again),
        resets: since(newest.resets, first.resets),
        unreachables: since(newest.unreachables, first.unreachables),
    }
}

/// What has come of the last sample.
#[derive(Debug, Default)]
pub struct Looks {
    /// The sample that each host is looked at from.
    from: Vec<Option<usize>>,
    stretches: BTreeMap<usize, Stretch>,
}

impl Looks {
    fn stretch(&self, host: usize) -> Option<&Stretch> {
        self.stretches.get(self.from.get(host)?.as_ref()?)
    }

    /// `None`: it had too few flows.
    pub fn of(&self, host: usize) -> Option<Look> {
        Some(self.stretch(host)?.looks[host])
    }

    /// What each sign says of a host.
    pub fn verdicts(&self, host: usize, passive: &Passive) -> [(Sign, Verdict); 3] {
        let stretch = self.stretch(host);
        Sign::ALL
            .map(|sign| (sign, stretch.map_or(Verdict::TooFew, |stretch| stretch.judge(sign, host, passive))))
    }
}

/// All hosts in the same moments.
#[derive(Debug)]
pub(super) struct Stretch {
    looks: Vec<Look>,
    begun: u64,
    /// Sorted when one is suspected.
    orders: [OnceCell<Order>; 3],
}

impl Stretch {
    pub fn of(looks: Vec<Look>) -> Self {
        let begun = looks.iter().map(|look| look.begun).sum();
        Stretch { looks, begun, orders: Default::default() }
    }

    /// Whether a sign speaks against a host, beside the others.
    pub fn judge(&self, sign: Sign, host: usize, passive: &Passive) -> Verdict {
        let (look, least) = (&self.looks[host], u64::from(passive.least_flows));
        let own = look.part(sign);
        if own.all == 0 || self.begun - own.all < least {
            return Verdict::TooFew;
        }
        if !passive.failing.is_kept_by(own.bad, own.all) {
            return Verdict::Well;
        }
        let order = self.orders[sign as usize].get_or_init(|| Order::of(sign, &self.looks));
        let Some(others) = order.better_half(host, own, least) else { return Verdict::TooFew };
        let is_worse = u128::from(own.bad) * u128::from(others.all)
            >= u128::from(TIMES * others.bad) * u128::from(own.all);
        if is_worse && is_no_chance(own, others) {
            Verdict::Bad(words(sign, look, others))
        } else {
            Verdict::Well
        }
    }
}

/// A service's hosts that have flows, the best first.
#[derive(Debug)]
struct Order {
    /// By host.
    places: Vec<Option<usize>>,
    /// The flows of so many of the best together.
    sums: Vec<Part>,
}

impl Order {
    fn of(sign: Sign, looks: &[Look]) -> Self {
        let mut hosts: Vec<usize> = (0..looks.len()).filter(|&host| looks[host].begun > 0).collect();
        hosts.sort_by(|&a, &b| looks[a].part(sign).ratio().total_cmp(&looks[b].part(sign).ratio()));
        let (mut places, mut sums) = (vec![None; looks.len()], vec![Part::default()]);
        for (place, &host) in hosts.iter().enumerate() {
            places[host] = Some(place);
            sums.push(sums[place].and(looks[host].part(sign)));
        }
        Order { places, sums }
    }

    /// The flows of the better half of the hosts but for this one, or of more of them until they are enough. Half of the hosts may fail
    /// together, and are still found.
    fn better_half(&self, host: usize, own: Part, least: u64) -> Option<Part> {
        let place = self.places[host]?;
        let others = self.sums.len() - 2;
        let (before, after) = self.sums.split_at(place + 1);
        let enough = match before.partition_point(|sum| sum.all < least) {
            count if count <= place => count,
            _ => place + after.partition_point(|sum| sum.without(own).all < least),
        };
        let count = enough.max(others.div_ceil(2));
        let sum =
            if count <= place { *self.sums.get(count)? } else { self.sums.get(count + 1)?.without(own) };
        Some(sum)
    }
}

/// Whether two parts differ by more than chance, as if all flows were of one kind (two-proportion z-test). One flow more is taken to
/// have failed and one not, as none of few does not say that none ever does.
fn is_no_chance(own: Part, others: Part) -> bool {
    let (all, all_of_others) = (own.all as f64, others.all as f64);
    let part = (own.bad + others.bad + 1) as f64 / (all + all_of_others + 2.0);
    let deviation = (part * (1.0 - part) * (1.0 / all + 1.0 / all_of_others)).sqrt();
    own.ratio() - others.ratio() >= SIGMAS * deviation
}

fn words(sign: Sign, look: &Look, others: Part) -> String {
    let Part { bad, all } = look.part(sign);
    let seconds = look.span as f64 / 1000.0;
    let of_others = format!("of other hosts {} of {}", others.bad, others.all);
    match sign {
        Sign::Handshakes => {
            let again = match look.again {
                0 => String::new(),
                again => format!(" ({again} SYNs came again)"),
            };
            format!("{bad} of {all} new flows in {seconds:.1}s got no answer{again}; {of_others}")
        }
        Sign::Resets => {
            format!("to {all} new flows in {seconds:.1}s clients reset {bad} flows of any age; {of_others}")
        }
        Sign::Unreachables => format!(
            "to {all} new flows in {seconds:.1}s {bad} ICMP errors say that packets do not get there; {of_others}"
        ),
    }
}
