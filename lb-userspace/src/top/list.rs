//! The list of hosts: which are shown, in which order, and which is chosen. The chosen one stays chosen, wherever it goes.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;

use crate::api::types::{AdminState, HostStatus, OperState};
use crate::cli::render::status::{admin, oper};

/// By what the hosts stand in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// As the daemon tells them.
    #[default]
    Config,
    Name,
    /// What needs somebody first.
    State,
    Share,
    Live,
    NewFlows,
    Packets,
    Bytes,
}

impl Sort {
    const ALL: [Sort; 8] = [
        Sort::Config,
        Sort::Name,
        Sort::State,
        Sort::Share,
        Sort::Live,
        Sort::NewFlows,
        Sort::Packets,
        Sort::Bytes,
    ];

    fn next(self) -> Sort {
        let at = Sort::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Sort::ALL[(at + 1) % Sort::ALL.len()]
    }

    pub fn name(self) -> &'static str {
        match self {
            Sort::Config => "config",
            Sort::Name => "name",
            Sort::State => "state",
            Sort::Share => "share",
            Sort::Live => "live",
            Sort::NewFlows => "new/s",
            Sort::Packets => "pkt/s",
            Sort::Bytes => "B/s",
        }
    }

    /// The greatest first.
    fn compare(self, a: &HostStatus, b: &HostStatus) -> Ordering {
        let by = |of: fn(&HostStatus) -> f64| of(b).total_cmp(&of(a));
        match self {
            Sort::Config => Ordering::Equal,
            Sort::Name => a.name.cmp(&b.name),
            Sort::State => urgency(a).cmp(&urgency(b)),
            Sort::Share => by(|host| host.share),
            Sort::Live => Reverse(a.live_flows.total).cmp(&Reverse(b.live_flows.total)),
            Sort::NewFlows => by(|host| host.traffic.new_flows_per_second),
            Sort::Packets => by(|host| host.traffic.packets_per_second),
            Sort::Bytes => by(|host| host.traffic.bytes_per_second),
        }
    }
}

fn urgency(host: &HostStatus) -> u8 {
    match (host.oper, host.admin) {
        (OperState::Down, AdminState::Active | AdminState::Draining) => 0,
        _ if !host.down_for.is_empty() => 1,
        (_, AdminState::Draining) => 2,
        _ if host.ramp.is_some() => 3,
        (_, AdminState::Drained) => 4,
        (_, AdminState::Disabled) => 5,
        (OperState::Unknown, AdminState::Active) => 6,
        (OperState::Up, AdminState::Active) => 7,
    }
}

#[derive(Debug, Default)]
pub struct List {
    pub sort: Sort,
    pub is_reversed: bool,
    /// Only hosts with this in name or state are shown.
    pub filter: String,
    pub marked: BTreeSet<String>,
    /// Places in the status of those that are shown.
    order: Vec<usize>,
    /// Place in `order`, and name, of the chosen one.
    at: usize,
    name: Option<String>,
    /// Place in `order` of the uppermost one on the screen.
    first: usize,
    rows: usize,
}

impl List {
    /// Takes in hosts, or another filter or order.
    pub fn arrange(&mut self, hosts: &[HostStatus]) {
        let filter = self.filter.to_lowercase();
        let is_shown = |host: &HostStatus| {
            filter.is_empty()
                || host.name.to_lowercase().contains(&filter)
                || admin(host).contains(&filter)
                || oper(host).to_lowercase().contains(&filter)
        };
        self.order = (0..hosts.len()).filter(|&at| is_shown(&hosts[at])).collect();
        let sort = self.sort;
        self.order.sort_by(|&a, &b| sort.compare(&hosts[a], &hosts[b]).then(a.cmp(&b)));
        if self.is_reversed {
            self.order.reverse();
        }
        let chosen = self.name.as_ref();
        let at = self.order.iter().position(|&at| Some(&hosts[at].name) == chosen);
        self.choose(at.unwrap_or(self.at), hosts);
        self.marked.retain(|name| hosts.iter().any(|host| host.name == *name));
    }

    pub fn sort_by_next(&mut self, hosts: &[HostStatus]) {
        self.sort = self.sort.next();
        self.arrange(hosts);
    }

    /// Up or down by so many.
    pub fn step(&mut self, by: isize, hosts: &[HostStatus]) {
        self.choose(self.at.saturating_add_signed(by), hosts);
    }

    fn choose(&mut self, at: usize, hosts: &[HostStatus]) {
        self.at = at.min(self.order.len().saturating_sub(1));
        // One that the filter hides for a moment is chosen again when it is back.
        if let Some(&place) = self.order.get(self.at) {
            self.name = Some(hosts[place].name.clone());
        }
        self.fit(self.rows);
    }

    /// So many lines are there for hosts.
    pub fn fit(&mut self, rows: usize) {
        self.rows = rows;
        let last = self.order.len().saturating_sub(rows);
        let least = (self.at + 1).saturating_sub(rows);
        self.first = self.first.clamp(least.min(last), self.at.min(last).max(least.min(last)));
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Places in the status of those on the screen, and whether each is the chosen one.
    pub fn visible(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        let on_screen = self.order.iter().enumerate().skip(self.first).take(self.rows);
        on_screen.map(|(at, &place)| (place, at == self.at))
    }

    pub fn shown(&self) -> usize {
        self.order.len()
    }

    /// Place among those that are shown, from 1 on.
    pub fn position(&self) -> usize {
        (self.at + 1).min(self.order.len())
    }

    pub fn chosen<'a>(&self, hosts: &'a [HostStatus]) -> Option<&'a HostStatus> {
        self.order.get(self.at).and_then(|&place| hosts.get(place))
    }

    /// Marks the chosen one, or takes its mark, and goes on to the next.
    pub fn mark(&mut self, hosts: &[HostStatus]) {
        let Some(name) = self.chosen(hosts).map(|host| host.name.clone()) else { return };
        if !self.marked.remove(&name) {
            self.marked.insert(name);
        }
        self.step(1, hosts);
    }

    /// Of hosts that a verb is about, how many the filter hides.
    pub fn hidden(&self, meant: &[String], hosts: &[HostStatus]) -> usize {
        let is_shown = |name: &&String| self.order.iter().any(|&place| hosts[place].name == **name);
        meant.len() - meant.iter().filter(is_shown).count()
    }

    /// Those that the next verb is about.
    pub fn meant(&self, hosts: &[HostStatus]) -> Vec<String> {
        if self.marked.is_empty() {
            self.chosen(hosts).map(|host| host.name.clone()).into_iter().collect()
        } else {
            hosts.iter().map(|host| &host.name).filter(|name| self.marked.contains(*name)).cloned().collect()
        }
    }
}
