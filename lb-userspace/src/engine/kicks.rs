//! Ending chosen flows early, so many a second.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::json;

use super::{Engine, Error};
use crate::api::types::{FlowQuery, Happening, Kick, KickRequest, Kicks as Listed};
use crate::dataplane::{EndCause, FlowRecord};
use crate::drain::State;
use crate::journal::{Change, Kind};

/// Flows a second, unless it is said.
const RATE: u32 = 50;
/// Kicks that are remembered after their end.
const KEPT: usize = 100;
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
        self.all.iter().any(|running| !running.flows.is_empty())
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
        self.kicks.all.truncate(KEPT);
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
        // Datagrams begin a flow anew, which would be the same host's.
        let is_out = self.drains.get(&request.host).is_some_and(State::is_out);
        let (mut flows, mut cursor) = (Vec::new(), Some(0));
        while let Some(at) = cursor {
            let page = self.dataplane.flows(&filter, at, PAGE);
            flows.extend(
                page.flows.into_iter().filter(|flow| is_out || flow.phase != lb_common::flow::Phase::Udp),
            );
            cursor = page.next;
        }
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.idle));
        Ok(flows.into())
    }

    /// Ends the flows whose turn has come.
    pub(super) fn advance_kicks(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut overflowed = false;
        let mut over = Vec::new();
        for running in &mut self.kicks.all {
            let Running { kick, flows, began } = running;
            let due = (began.elapsed().as_secs_f64() * f64::from(kick.rate)) as u64 + 1;
            while kick.kicked + kick.missed < due
                && let Some(flow) = flows.pop_front()
            {
                overflowed |= flow.index.is_none();
                *(if self.dataplane.end_flow(&flow, EndCause::Kicked)? {
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
        if overflowed {
            self.uncounted.extend(self.ids.stats.values());
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
