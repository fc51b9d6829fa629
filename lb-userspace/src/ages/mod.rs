//! How long flows last, and when those that live now will have ended. Pure: no clock, no map.
//!
//! What is measured are *durations*: from a flow's first packet to its last. The sweep tells the duration of each pin that ended
//! ([`Ended`]); a look at the live flows of a host ([`Survey`]) tells how old each is, which is a duration that is not over yet. Both
//! together give the survival curve of each (service, host): the product-limit estimate of Kaplan and Meier over the bins of
//! [`scale`]. Flows that still live are censored on the right: now, or,
//! for the part of them whose clients are gone, at their last packet. How many those are tells how often flows end by their idle timeout. What was before the window is not known, so every
//! flow counts only for the ages that it had within it (truncated on the left): thus flows of a day are judged rightly by an
//! hour of watching.
//!
//! A pin outlives its flow's last packet by an idle timeout: that of closing, or that of its phase if the client just vanished. How often
//! it does the latter is measured, too.
//!
//! What it cannot know: whether flows of tomorrow are like those of the last hour, and how long flows live that are older than all that
//! have ended. The latter it says ([`Expected`]: `None`).

mod ended;
pub mod scale;
mod survey;
mod survival;
#[cfg(test)]
mod tests;

pub use ended::{End, Ended, Histogram, Pair};
pub use survey::{Expected, Live, PhaseSurvey, Survey, expected};
pub use survival::{Curve, Exposure, FEWEST};
