//! Which events somebody wants.

use crate::api::types::{Event, EventName, EventQuery};

/// All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    hosts: Vec<String>,
    events: Vec<EventName>,
}

impl From<&EventQuery> for Filter {
    fn from(query: &EventQuery) -> Self {
        Filter { hosts: query.host.clone(), events: query.event.clone() }
    }
}

impl Filter {
    pub fn wants(&self, event: &Event) -> bool {
        let (name, host) = (event.happening.name(), event.happening.host());
        // Whoever filters wants to know all the more that something may be missing.
        name == EventName::Lost
            || (self.events.is_empty() || self.events.contains(&name))
                && (self.hosts.is_empty() || host.is_some_and(|host| self.hosts.iter().any(|h| h == host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Happening;

    #[test]
    fn hosts_and_kinds_must_both_hold() {
        let event = |happening| Event { seq: 1, at: 1, happening };
        let (up, published) = (
            |host: &str| {
                event(Happening::HostUp { host: host.to_owned(), service: None, why: String::new() })
            },
            event(Happening::Published { generation: 1 }),
        );
        let filter = |hosts: &[&str], events: &[EventName]| Filter {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            events: events.to_vec(),
        };
        assert!(filter(&[], &[]).wants(&published));
        assert!(filter(&["a", "b"], &[]).wants(&up("b")) && !filter(&["a"], &[]).wants(&up("b")));
        assert!(!filter(&["a"], &[]).wants(&published), "it is no host's");
        assert!(filter(&[], &[EventName::HostUp, EventName::Drained]).wants(&up("b")));
        assert!(!filter(&[], &[EventName::HostDown]).wants(&up("b")));
        assert!(!filter(&["a"], &[EventName::HostUp]).wants(&up("b")));
        assert!(
            filter(&["a"], &[EventName::HostUp]).wants(&event(Happening::Lost { count: None })),
            "always"
        );
    }
}
