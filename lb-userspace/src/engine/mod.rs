//! The engine: the one owner of journal, rings, drains and data path. It runs on a thread of its own, takes commands
//! in turn, and sweeps the flow table in between.
//!
//! Decisions are made by pure code elsewhere (`plan`, `ring`, `drain`); here their results are carried out in an order
//! that survives a kill at any point: first the journal, then the data path.

mod audience;
mod choices;
mod clock;
mod configs;
mod cut_off;
mod drains;
mod dry_runs;
mod edges;
mod error;
mod explain;
mod findings;
mod gauges;
mod handle;
mod hands;
mod health;
mod health_report;
mod history;
mod house;
mod interfaces;
mod itself;
mod kicks;
mod listing;
mod maintain;
mod metrics;
mod numbers;
mod opers;
mod outlet;
mod over;
mod own;
mod passive;
mod progress;
mod publication;
mod ramps;
mod rates;
mod receipts;
mod resets;
mod retiring;
mod rings;
mod settle;
mod shift;
mod start;
mod status;
mod summary;
mod telling;
mod tick;
mod trace;
mod tracers;
mod way_back;
mod ways_out;
mod well;
mod whatif;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use lb_common::layout::{AtDeadline, Deadline, HostId, Own, PHASES_COUNTED};
use tokio::sync::watch;

pub use clock::Clock;
use configs::InForce;
pub use configs::{How, NOT_APPLIED, NOT_CONFIRMED, Resolved, same_model};
use cut_off::CutOff;
pub use dry_runs::DryRuns;
pub use error::Error;
pub use explain::{Ground, NoGround};
pub use handle::{Ask, Handle, Running};
pub use health_report::tested;
pub use itself::{Announcer, interface_of_vips};
pub use listing::{MemberShare, RingShares};
pub use maintain::RunVerb;
pub use outlet::Messages;
pub use progress::{BLOCKERS, MOST_BLOCKERS};
#[doc(hidden)]
pub use progress::{Watched, look};
pub use start::{Start, Text, by_phase, data_path_key, options};
pub use tracers::{NoTrace, Tracers};

use crate::api::types::{self, TracerStatus};
use crate::dataplane::{Attached, BackendTable, Dataplane, Swept};
use crate::drain::{State, Target};
use crate::journal::Journal;
use crate::model::Model;
use crate::netlink::{self, NextHopState};
use crate::plan::{Ids, Inputs, Pair};
use crate::ramp::Ramp;
use crate::relay::{self, PathMtus};
use edges::Edges;
use health::Health;
use house::House;
use itself::Itself;
use kicks::Kicks;
use maintain::Maintenance;
use progress::Durations;
use ramps::Watch;
use rates::Rates;
use resets::Resets;
use retiring::Retiring;
use rings::Rings;
use shift::Shifts;
use telling::Telling;

/// What operators want of hosts, as far as rings and states go by it.
struct Intents {
    /// Hosts that get no new flows.
    out: BTreeSet<String>,
    /// (service, host) that is out for this service alone, or for some clients of it.
    pairs: BTreeMap<(String, String), Pair>,
    /// Hosts with less than their full share, in 256ths.
    shares: BTreeMap<String, u16>,
    /// Clients that are treated apart, by name.
    clients: BTreeSet<String>,
    /// Those of them that a drain is for.
    needed: BTreeSet<String>,
}

/// Everything that the daemon knows.
pub struct Engine {
    instance: String,
    /// The daemon's own file.
    config: PathBuf,
    in_force: InForce,
    model: Model,
    ids: Ids,
    journal: Journal,
    dataplane: Dataplane,
    /// Flows and counters of before the daemon's start are there.
    counters_kept: bool,
    attached: Vec<Attached>,
    rings: Rings,
    /// Of each host of the config, and of a host for one service or some clients where it is or was drained for these.
    drains: BTreeMap<Target, State>,
    /// Numbers of the counters of drains for some clients that are under way.
    tallies: BTreeMap<Target, u32>,
    /// Their live flows, as the last sweep has counted them.
    of_clients: BTreeMap<Target, [u64; PHASES_COUNTED]>,
    /// Hosts that come back share by share; none of them is out.
    ramps: BTreeMap<String, Ramp>,
    watch: Watch,
    /// Hosts with less than their full share, as the last publication has them.
    published_shares: BTreeMap<String, u16>,
    /// Hosts that no stateless answer may name.
    sealed: BTreeSet<Target>,
    down: BTreeSet<String>,
    cut_off: CutOff,
    health: Health,
    leaving: BTreeMap<(u16, HostId), BackendTable>,
    retiring: Retiring,
    next_hops: watch::Receiver<BTreeMap<IpAddr, NextHopState>>,
    /// The next hops that the last publication used.
    published_hops: BTreeMap<IpAddr, NextHopState>,
    /// Errors from the paths to backends, if they are heard.
    relay: Option<relay::View>,
    /// The MTUs of paths that the last publication used.
    path_mtus: PathMtus,
    /// Interfaces that hosts are reached by and that were warned of, by number.
    ways_out: BTreeSet<u32>,
    own: watch::Receiver<netlink::Own>,
    /// The addresses that the data path speaks from, by the interface's number; `None`: it was not told yet.
    published_own: Option<BTreeMap<u32, Own>>,
    /// A publication failed: the data path is not in line with the journal.
    stale: bool,
    clock: Clock,
    started_at: u64,
    generation: u64,
    swept: Option<Swept>,
    /// Numbers of counters whose gauges a daemon before may have left off by one.
    uncounted: Vec<u32>,
    rates: Rates,
    edges: Edges,
    resets: Resets,
    kicks: Kicks,
    durations: Durations,
    telling: Telling,
    itself: Itself,
    maintenance: Maintenance,
    shifts: Shifts,
    /// Those who are shown packets, by number.
    tracers: BTreeMap<usize, TracerStatus>,
    /// The daemon ends; what goes on goes on without it.
    is_stopping: bool,
    house: House,
}

impl Engine {
    /// Hosts that get no new flows: operators took them out, as a whole, or the config disables them.
    fn out(&self) -> BTreeSet<String> {
        let hosts = self.drains.keys().filter(|target| target.is_whole()).map(|target| &target.host);
        hosts.filter(|host| self.admin(host) != types::AdminState::Active).cloned().collect()
    }

    /// What is wanted of a host as a whole: one that gives up a part of its slots, or is out for one service, is active. A drain outranks
    /// the config.
    fn admin(&self, host: &str) -> types::AdminState {
        match self.host_state(host).filter(|state| state.is_out()) {
            Some(state) => state.admin(),
            None if self.model.is_disabled(host) => types::AdminState::Disabled,
            None => types::AdminState::Active,
        }
    }

    /// The bounds of hosts' drains as the data path enforces them.
    fn deadlines(&self) -> BTreeMap<String, Deadline> {
        let hosts = self.drains.iter().filter(|(target, _)| target.is_whole());
        hosts.filter_map(|(target, state)| Some((target.host.clone(), self.deadline(state)?))).collect()
    }

    fn deadline(&self, state: &State) -> Option<Deadline> {
        let order = state.order()?;
        let action = match order.at_deadline {
            types::AtDeadline::Keep => AtDeadline::Keep,
            types::AtDeadline::Move => AtDeadline::Move,
            types::AtDeadline::Reset => AtDeadline::Reset,
        };
        let at = self.clock.monotonic_of(order.deadline?);
        Some(Deadline { at, action, spread: order.spread })
    }

    /// Where the host as a whole stands.
    fn host_state(&self, host: &str) -> Option<&State> {
        self.drains.get(&Target::host(host))
    }

    /// The share that a host with a part given up keeps.
    fn part(&self, host: &str) -> Option<types::Order> {
        self.host_state(host).and_then(State::part)
    }

    /// Hosts that operators took out and that serve on as the last in use, by service.
    fn serving_on(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.rings.serving_on(&self.out())
    }

    /// The daemon's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Runs `work` with what a publication rests on.
    fn with_inputs<T>(&self, work: impl FnOnce(&Inputs<'_>) -> T) -> T {
        self.with_inputs_of(&self.intents(), work)
    }

    /// As [`Self::with_inputs`], if operators wanted this.
    fn with_inputs_of<T>(&self, intents: &Intents, work: impl FnOnce(&Inputs<'_>) -> T) -> T {
        work(&Inputs {
            model: &self.model,
            ids: &self.ids,
            out: &intents.out,
            deadlines: &self.deadlines(),
            shares: &intents.shares,
            serving_on: &self.serving_on(),
            sealed: &self.sealed_hosts(),
            pairs: &intents.pairs,
            clients: &intents.clients,
            down: self.cut_off.missing(),
            health: &self.left_by_health(),
            next_hops: &self.published_hops,
            path_mtus: &self.path_mtus,
            leaving: &self.leaving,
        })
    }

    /// Hosts, as a whole, that no stateless answer may name.
    fn sealed_hosts(&self) -> BTreeSet<String> {
        let hosts = self.sealed.iter().filter(|target| target.is_whole());
        hosts.map(|target| target.host.clone()).collect()
    }

    /// The longest time that a live flow of any service may be silent, seconds.
    fn idle_timeout(&self) -> u64 {
        let now = self.clock.now();
        let alive = self.ids.timeouts.values().filter(|set| !set.is_over(now));
        alive.map(|set| set.timeouts.longest().as_secs()).max().unwrap_or_default()
    }

    /// The last loss of state, Unix seconds.
    fn lost_at(&self) -> u64 {
        self.clock.unix(self.dataplane.lost_at())
    }
}
