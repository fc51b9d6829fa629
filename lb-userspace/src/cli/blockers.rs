//! What a long wait is shown beside its progress: the oldest flows that it waits for.

use std::time::Duration;

use crate::api::types::{DrainStatus, Drains};

use super::render::number::duration;
use super::render::progress::blockers;
use super::render::text::cut;
use super::terminal::Style;
use super::wait::{Progress, is_done};

/// Flows of each drain.
pub const MANY: usize = 3;
/// Drains whose flows are shown; of a fleet they would fill the screen.
const DRAINS: usize = 3;
/// A wait that is shorter needs no explanation.
const AFTER: Duration = Duration::from_secs(30);
/// Time between two looks, on a terminal and in a log.
const LIVE_PAUSE: Duration = Duration::from_secs(5);
const PLAIN_PAUSE: Duration = Duration::from_secs(300);

/// What is known of them.
#[derive(Debug, Default)]
pub struct Blockers {
    /// When they were asked for last.
    asked: Option<Duration>,
    /// Lines of the terminal's block.
    lines: Vec<String>,
}

impl Blockers {
    /// Whether to ask for them with the next look.
    pub fn are_due(&mut self, progress: Progress, elapsed: Duration) -> bool {
        let pause = match progress {
            Progress::Live => LIVE_PAUSE,
            Progress::Plain => PLAIN_PAUSE,
            Progress::Quiet => return false,
        };
        let is_due =
            elapsed >= AFTER && self.asked.is_none_or(|asked| elapsed.saturating_sub(asked) >= pause);
        if is_due {
            self.asked = Some(elapsed);
        }
        is_due
    }

    /// Takes in an answer. In a log they are said once an answer has them.
    pub fn take(&mut self, drains: &Drains, progress: Progress, elapsed: Duration, style: Style) -> String {
        let flows = |drain: &DrainStatus| drain.progress.as_ref().and_then(|p| p.blockers.clone());
        let asked: Vec<_> = drains
            .drains
            .iter()
            .filter(|drain| !is_done(drain))
            .filter_map(|drain| Some((drain, flows(drain)?)))
            .take(DRAINS)
            .collect();
        if asked.is_empty() {
            if drains.drains.iter().all(|drain| is_done(drain) || drain.live_flows.total == 0) {
                self.lines.clear();
            }
            return String::new();
        }
        let at = duration(elapsed.as_secs());
        let shown = asked.iter().filter(|(_, flows)| !flows.is_empty()).map(|(drain, flows)| {
            let head = match progress {
                Progress::Live => format!("{} waits for, the oldest first:\n", drain.target()),
                _ => format!("{at}: {} waits for, the oldest first:\n", drain.target()),
            };
            head + &blockers(flows, style)
        });
        let text: String = shown.collect();
        if progress == Progress::Live {
            let width = usize::from(style.width).saturating_sub(1);
            self.lines = text.lines().map(|line| cut(line, width)).collect();
            return String::new();
        }
        text
    }

    /// Below the bars; none if they would not fit.
    pub fn lines(&self, room: usize) -> &[String] {
        if self.lines.len() <= room { &self.lines } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::fixtures::{draining, progress};

    fn waiting() -> Drains {
        let mut drain = draining(7, "a", 5);
        drain.progress = Some(progress(2));
        Drains { drains: vec![drain] }
    }

    #[test]
    fn they_are_asked_for_after_some_time_and_then_seldom() {
        let due = |progress, times: &[u64]| -> Vec<bool> {
            let mut blockers = Blockers::default();
            times.iter().map(|&at| blockers.are_due(progress, Duration::from_secs(at))).collect()
        };
        assert_eq!(
            due(Progress::Plain, &[0, 29, 30, 31, 329, 330]),
            [false, false, true, false, false, true]
        );
        assert_eq!(due(Progress::Live, &[29, 30, 34, 35]), [false, true, false, true]);
        assert_eq!(due(Progress::Quiet, &[1000]), [false]);
    }

    #[test]
    fn a_log_has_them_once_and_a_terminal_below_the_bars() {
        let mut blockers = Blockers::default();
        let at = Duration::from_secs(30);
        let text = blockers.take(&waiting(), Progress::Plain, at, Style::PLAIN);
        assert_eq!(
            text,
            "\
30s: a waits for, the oldest first:
CLIENT              VIP             SERVICE  PHASE          AGE  IDLE
198.51.100.7:50000  192.0.2.10:443  web      established  2h05m    3s
198.51.100.7:50001  192.0.2.10:443  web      established  2h05m    3s
"
        );
        let without = Drains { drains: vec![draining(7, "a", 5)] };
        assert_eq!(blockers.take(&without, Progress::Plain, at, Style::PLAIN), "");
        assert_eq!(blockers.take(&waiting(), Progress::Live, at, Style::PLAIN), "");
        assert_eq!((blockers.lines(3).len(), blockers.lines(4).len()), (0, 4));
        // They stay until the next look, or until there is nothing to wait for.
        blockers.take(&without, Progress::Live, at, Style::PLAIN);
        assert_eq!(blockers.lines(4).len(), 4);
        blockers.take(&Drains { drains: vec![draining(7, "a", 0)] }, Progress::Live, at, Style::PLAIN);
        assert!(blockers.lines(4).is_empty());
    }
}
