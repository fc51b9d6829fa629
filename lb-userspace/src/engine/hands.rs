//! The engine in the hands of a test: no thread, no clock of its own, and a data path that can be looked at.

use super::{Engine, Error};
use crate::dataplane::Dataplane;

#[doc(hidden)]
impl Engine {
    /// One round of what the engine does by itself.
    pub fn round(&mut self) -> Result<(), Error> {
        self.tick()
    }

    pub fn dataplane(&mut self) -> &mut Dataplane {
        &mut self.dataplane
    }

    /// The daemon dies; its data path goes on.
    pub fn die(self) -> Dataplane {
        self.dataplane
    }
}
