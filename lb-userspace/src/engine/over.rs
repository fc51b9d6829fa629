//! Drains for some clients that are over. Those of hosts and of services are as many as the config has; of clients there are as many as
//! anybody can think of.

use std::collections::BTreeMap;

use super::Engine;
use crate::drain::{State, Target};

/// How many are still shown; the journal has all of them.
const SHOWN: usize = 100;

impl Engine {
    /// Forgets all but the last ones.
    pub(super) fn forget_drains(&mut self) {
        forget(&mut self.drains, SHOWN);
    }
}

fn forget(drains: &mut BTreeMap<Target, State>, shown: usize) {
    let over = |(target, state): (&Target, &State)| match state {
        State::Active { last } if target.clients.is_some() => {
            Some(last.as_ref().map_or(0, |last| last.drain.id))
        }
        _ => None,
    };
    let mut ids: Vec<u64> = drains.iter().filter_map(over).collect();
    if ids.len() <= shown {
        return;
    }
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let newer = ids[shown];
    drains.retain(|target, state| over((target, state)).is_none_or(|id| id > newer));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Receipt;
    use crate::drain::{Drain, Draining, Finished};

    fn drain(id: u64, clients: Option<&str>) -> Drain {
        let clients = clients.map(|clients| clients.parse().unwrap());
        let (host, order) = ("a".to_owned(), Default::default());
        Drain {
            id,
            host,
            service: None,
            clients,
            started_at: 0,
            by: String::new(),
            reason: None,
            order,
            start: None,
        }
    }

    fn finished(drain: Drain) -> Box<Finished> {
        Box::new(Finished { drain, receipt: Receipt::default() })
    }

    #[test]
    fn of_drains_for_some_clients_that_are_over_the_last_ones_stay() {
        let mut drains = BTreeMap::new();
        let mut put = |drain: Drain, state: fn(Drain) -> State| drains.insert(drain.target(), state(drain));
        let active = |drain| State::Active { last: Some(finished(drain)) };
        // Not in the order of the prefixes.
        for (id, clients) in [(7, "10.1.0.0/16"), (3, "10.2.0.0/16"), (9, "10.3.0.0/16"), (5, "10.4.0.0/16")]
        {
            put(drain(id, Some(clients)), active);
        }
        put(drain(1, None), active);
        put(drain(2, Some("10.5.0.0/16")), |drain| State::Drained(finished(drain)));
        put(drain(4, Some("10.6.0.0/16")), |drain| {
            let (tally, seen) = (None, None);
            State::Draining(Box::new(Draining { drain, tally, sealed: false, flows_when_asked: 0, seen }))
        });
        let ids = |drains: &BTreeMap<Target, State>| {
            let of = |state: &State| match state {
                State::Active { last } => last.as_ref().map(|last| last.drain.id),
                state => state.drain().map(|drain| drain.id),
            };
            let mut ids: Vec<u64> = drains.values().filter_map(of).collect();
            ids.sort_unstable();
            ids
        };
        let all = ids(&drains);
        forget(&mut drains, 4);
        assert_eq!(ids(&drains), all);
        forget(&mut drains, 2);
        assert_eq!(ids(&drains), [1, 2, 4, 7, 9]);
        forget(&mut drains, 0);
        assert_eq!(ids(&drains), [1, 2, 4]);
    }
}
