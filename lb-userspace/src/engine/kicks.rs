//! Ending chosen flows early, so many a second.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use lb_common::flow::Phase;
use serde_json::json;

use super::edges::tracks_edges;
use super::progress::Watched;
use super::{Engine, Error};
use crate::api::types::{FlowQuery, Happening, Kick, KickRequest, Kicks as Listed};
use crate::dataplane::{EndCause, FlowRecord};
use crate::journal::{Change, Kind};

/// Flows a second, unless it is said.
const RATE: u32 = 50;
/// Kicks that are remembered after their end.
const KEPT: usize = 100;
/// Flows of all kicks that may wait for their ends: some 100 MB.
const MOST_FLOWS: usize = 1 << 20;
/// Flows that are looked for at a time.
const PAGE: usize = 10_000;

/// The kicks since the daemon's start.
#[derive(Default)]
pub(super) struct Kicks {
    last: u64,
    /// Under way and over, the latest first.
    all: VecDeque<Running>,
}

/// A kick, and what is left of it.
struct Running {
    kick: Kick,
    flows: VecDeque<FlowRecord>,
    began: Instant,
}

impl Kicks {
    pub fn are_under_way(&self) -> bool {
        self.flows_left() > 0
    }

    fn flows_left(&self) -> usize {
        self.all.iter().map(|running| running.flows.len()).sum()
    }

    /// Forgets the oldest of those that are over.
    fn forget(&mut self) {
        while self.all.len() > KEPT
            && let Some(oldest) = self.all.iter().rposition(|running| running.kick.ended_at.is_some())
        {
            self.all.remove(oldest);
        }
    }
}

impl Engine {
    /// Begins to end the flows that are chosen now. Flows that begin later are not concerned.
    pub fn kick(&mut self, request: &KickRequest, author: &str) -> Result<Kick, Error> {
        let rate = request.rate.unwrap_or(RATE);
        if rate == 0 {
            return Err(Error::NoRate);
        }
        let flows = self.chosen(request)?;
        let now = self.clock.now();
        self.kicks.last += 1;
        let kick = Kick {
            id: self.kicks.last,
            host: request.host.clone(),
            by: author.to_owned(),
            reason: request.reason.clone(),
            started_at: now,
            rate,
            chosen: flows.len() as u64,
            kicked: 0,
            missed: 0,
            ended_at: flows.is_empty().then_some(now),
        };
        let change = Change { at: now, author, reason: request.reason.as_deref() };
        self.journal.note(Kind::Kick, &change, &json!({ "request": request, "flows": kick.chosen }))?;
        log::info!("{} flows of {} are ended by {author}, {rate} a second", kick.chosen, kick.host);
        self.tell(began(&kick, request.service.clone()));
        if kick.ended_at.is_some() {
            self.tell(ended(&kick));
        }
        self.kicks.all.push_front(Running { kick: kick.clone(), flows, began: Instant::now() });
        self.kicks.forget();
        Ok(kick)
    }

    /// The flows that the request means, the longest idle first: they are missed the least.
    fn chosen(&self, request: &KickRequest) -> Result<VecDeque<FlowRecord>, Error> {
        let query = FlowQuery {
            host: Some(request.host.clone()),
            service: request.service.clone(),
            client: request.clients.clone(),
            min_age: request.older_than,
            min_idle: request.idle,
            ..FlowQuery::default()
        };
        let filter = self.filter(&query)?;
        // Of a host that is in use, datagrams begin a flow anew, which would be the same host's; and of services that track edges the data path
        // does not look at pins.
        let is_host_out = self.out().contains(&request.host);
        let out: Vec<Watched> = self.out_in_part(&request.host).map(|(watched, _)| watched).collect();
        let is_out = |flow: &FlowRecord| {
            let is_of = |watched: &Watched| watched.is_of(flow.host, flow.service, flow.tuple.source);
            is_host_out || out.iter().any(is_of)
        };
        let edges: BTreeSet<u16> = self
            .model
            .services
            .iter()
            .filter(|service| tracks_edges(service))
            .filter_map(|service| self.ids.services.get(&service.name).copied())
            .collect();
        let can_be =
            |flow: &FlowRecord| is_out(flow) || flow.phase != Phase::Udp && !edges.contains(&flow.service);
        let (mut flows, mut cursor) = (Vec::new(), Some(0));
        while let Some(at) = cursor {
            let page = self.dataplane.flows(&filter, at, PAGE);
            flows.extend(page.flows.into_iter().filter(can_be));
            if flows.len() + self.kicks.flows_left() > MOST_FLOWS {
                return Err(Error::TooManyKicked);
            }
            cursor = page.next;
        }
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.idle));
        Ok(flows.into())
    }

    /// Flows for which the host is out alone, of one service or some clients; and the counters of these.
    fn out_in_part(&self, host: &str) -> impl Iterator<Item = (Watched, u32)> {
        let own = self
            .drains
            .iter()
            .filter(move |(target, state)| target.host == host && !target.is_whole() && state.is_out());
        own.filter_map(|(target, _)| {
            let tally = self.tallies.get(target).copied().unwrap_or(0);
            Some((self.watched_target(target, None)?, tally))
        })
    }

    /// Ends the flows whose turn has come.
    pub(super) fn advance_kicks(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut overflowed = BTreeSet::new();
        let hosts: BTreeSet<String> =
            self.kicks.all.iter().map(|running| running.kick.host.clone()).collect();
        let tallied: Vec<(Watched, u32)> = hosts.iter().flat_map(|host| self.out_in_part(host)).collect();
        let tally_of = |flow: &FlowRecord| {
            let is_of = |watched: &Watched| watched.is_of(flow.host, flow.service, flow.tuple.source);
            tallied
                .iter()
                .find(|(watched, tally)| *tally != 0 && is_of(watched))
                .map_or(0, |(_, tally)| *tally)
        };
        let mut over = Vec::new();
        for running in &mut self.kicks.all {
            let Running { kick, flows, began } = running;
            let due = (began.elapsed().as_secs_f64() * f64::from(kick.rate)) as u64 + 1;
            while kick.kicked + kick.missed < due
                && let Some(flow) = flows.pop_front()
            {
                if flow.index.is_none() {
                    overflowed.insert(kick.host.clone());
                }
                *(if self.dataplane.end_flow(&flow, EndCause::Kicked, tally_of(&flow))? {
                    &mut kick.kicked
                } else {
                    &mut kick.missed
                }) += 1;
            }
            if flows.is_empty() && kick.ended_at.is_none() {
                kick.ended_at = Some(now);
                log::info!("{} of {} flows of {} were ended", kick.kicked, kick.chosen, kick.host);
                over.push(ended(kick));
            }
        }
        for host in overflowed {
            self.uncounted.extend(self.ids.stats_of_host(&host));
        }
        over.into_iter().for_each(|happening| self.tell(happening));
        Ok(())
    }

    /// All that are remembered.
    pub fn kicks(&self) -> Listed {
        Listed { kicks: self.kicks.all.iter().map(|running| running.kick.clone()).collect() }
    }

    /// One of them.
    pub fn kick_by_id(&self, id: u64) -> Result<Kick, Error> {
        let mut all = self.kicks.all.iter();
        all.find(|running| running.kick.id == id).map(|running| running.kick.clone()).ok_or(Error::NoKick(id))
    }
}

fn began(kick: &Kick, service: Option<String>) -> Happening {
    Happening::KickBegan {
        host: kick.host.clone(),
        service,
        kick: kick.id,
        by: kick.by.clone(),
        reason: kick.reason.clone(),
        chosen: kick.chosen,
        rate: kick.rate,
    }
}

fn ended(kick: &Kick) -> Happening {
    Happening::KickEnded {
        host: kick.host.clone(),
        kick: kick.id,
        by: kick.by.clone(),
        reason: kick.reason.clone(),
        chosen: kick.chosen,
        kicked: kick.kicked,
        missed: kick.missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kicks_that_are_over_are_forgotten() {
        let running = |id: u64| Running {
            kick: Kick {
                id,
                host: "h".to_owned(),
                by: "b".to_owned(),
                reason: None,
                started_at: 0,
                rate: 1,
                chosen: 1,
                kicked: 0,
                missed: 0,
                // The two oldest are under way.
                ended_at: (id > 2).then_some(9),
            },
            flows: VecDeque::new(),
            began: Instant::now(),
        };
        let mut kicks = Kicks { last: 0, all: (1..=KEPT as u64 + 3).rev().map(running).collect() };
        kicks.forget();
        let left: Vec<u64> = kicks.all.iter().rev().map(|running| running.kick.id).collect();
        assert_eq!(left.len(), KEPT);
        assert_eq!(left[..3], [1, 2, 6]);
    }
}
