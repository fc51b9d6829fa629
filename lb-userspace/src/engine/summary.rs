//! The engine's state in a line, for a supervisor's status.

use super::Engine;
use crate::api::types::AdminState;
use crate::dataplane::Swept;

impl Engine {
    /// `3 of 4 hosts in use, 1 draining, 407 live flows`
    pub fn summary(&self) -> String {
        let hosts = self.model.hosts.keys();
        let states: Vec<AdminState> = hosts
            .map(|host| match self.admin(host) {
                AdminState::Active if self.down.contains(host) => AdminState::Disabled,
                state => state,
            })
            .collect();
        let count = |wanted| states.iter().filter(|state| **state == wanted).count();
        let mut words = vec![format!("{} of {} hosts in use", count(AdminState::Active), states.len())];
        match count(AdminState::Draining) {
            0 => {}
            draining => words.push(format!("{draining} draining")),
        }
        words.push(format!("{} live flows", self.swept.as_ref().map_or(0, Swept::total)));
        words.extend(self.not_ready().map(|why| format!("not ready: {why}")));
        words.join(", ")
    }
}
