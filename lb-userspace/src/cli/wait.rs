//! Waiting for drains, without time or I/O of its own: what came in and when, to what is printed and how it
//! ends.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::anyhow;

use crate::api::types::{DrainStatus, Drains, LiveFlows, Outcome};

use super::blockers::Blockers;
use super::exit::{Exit, Failure};
use super::render::drain::{live_line, plain_line, who};
use super::render::number::{duration, exact, plural};
use super::render::receipt::not_by_themselves;
use super::render::text::{clean, cut};
use super::terminal::Style;

/// How long a daemon may be away (a restart, an upgrade) before waiting for it ends.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Least time between two plain lines of one host.
const PLAIN_PAUSE: Duration = Duration::from_secs(2);
/// Most lines that are redrawn, so that the block never scrolls.
const MAX_LINES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// One line a host, redrawn in place by control codes.
    Live,
    /// Lines for a log.
    Plain,
    /// For `--json`.
    Quiet,
}

#[derive(Debug)]
pub enum Event {
    Answer(Drains),
    /// No daemon answered; why, in words.
    Unreachable(String),
    /// The bound of the waiting has passed without another answer.
    Deadline,
    /// Ctrl-C.
    Interrupted,
}

#[derive(Debug)]
pub enum Step {
    /// Go on; print this as progress.
    Wait(String),
    /// Print this as progress, then the receipts of [`Waiter::last`], then the failure if it is one.
    End(String, Result<(), Failure>),
}

/// The state of one `drain --wait`.
#[derive(Debug)]
pub struct Waiter {
    progress: Progress,
    style: Style,
    timeout: Option<Duration>,
    /// `sluice` with the options that lead to the same daemon, for hints that can be pasted.
    command: String,
    last: Drains,
    /// What was printed of each drain of `last`, and when.
    told: Vec<(Told, Duration)>,
    /// Lines of the block on the terminal.
    drawn: usize,
    blockers: Blockers,
    /// Since when no daemon answers, and why.
    away: Option<(Duration, String)>,
}

/// What makes a plain line worth printing when it changes.
type Told = (String, LiveFlows, Option<String>, Option<u64>);

fn told(drain: &DrainStatus) -> Told {
    (drain.state.clone(), drain.live_flows, drain.waiting_for.clone(), drain.overdue_since)
}

/// The same host, for the same service and clients.
fn is_same(drain: &DrainStatus, other: &DrainStatus) -> bool {
    drain.target() == other.target()
}

/// Done means that the gauge is 0, not only that the daemon calls the drain so.
pub(super) fn is_done(drain: &DrainStatus) -> bool {
    drain.state == "drained" && drain.live_flows.total == 0
}

impl Waiter {
    /// `began` is the answer to the drain call; the same drains, by host, service and number, are waited for. It is
    /// the first event, too.
    pub fn new(
        began: &Drains,
        progress: Progress,
        style: Style,
        timeout: Option<Duration>,
        command: String,
    ) -> Self {
        let told = began.drains.iter().map(|d| (told(d), Duration::ZERO)).collect();
        let (last, blockers) = (began.clone(), Blockers::default());
        Waiter { progress, style, timeout, command, last, told, drawn: 0, blockers, away: None }
    }

    /// The last that is known of the drains.
    pub fn last(&self) -> &Drains {
        &self.last
    }

    /// Whether the next look is to ask for what the drains wait for.
    pub fn asks_for_blockers(&mut self, elapsed: Duration) -> bool {
        self.blockers.are_due(self.progress, elapsed)
    }

    /// `elapsed` since the waiting began.
    pub fn step(&mut self, event: Event, elapsed: Duration) -> Step {
        match event {
            Event::Answer(answer) => self.answer(answer, elapsed),
            Event::Unreachable(why) => self.unreachable(why, elapsed),
            Event::Deadline => self.late(elapsed),
            Event::Interrupted => {
                let error =
                    anyhow!("interrupted while waiting for {}; {}", self.unfinished(), self.goes_on());
                let failure = self.with_hints(Failure::new(Exit::Interrupted, error));
                Step::End(String::new(), Err(failure))
            }
        }
    }

    fn answer(&mut self, mut answer: Drains, elapsed: Duration) -> Step {
        let mut progress = String::new();
        if let Some((since, _)) = self.away.take()
            && self.progress == Progress::Plain
        {
            let away = duration((elapsed - since).as_secs());
            let _ =
                writeln!(progress, "{}: the daemon answers again after {away}", duration(elapsed.as_secs()));
        }
        let mut now = Vec::with_capacity(self.last.drains.len());
        for before in &self.last.drains {
            let Some(at) = answer.drains.iter().position(|d| is_same(d, before)) else {
                let error = anyhow!("the daemon's answer says nothing of host {}", who(before));
                return Step::End(progress, Err(Failure::new(Exit::Failed, error)));
            };
            let drain = answer.drains.swap_remove(at);
            if drain.id != before.id || drain.state == "undrained" {
                let failure = self.taken_back(before, &drain);
                return Step::End(progress, Err(failure));
            }
            now.push(drain);
        }
        self.last = Drains { drains: now };
        if self.last.drains.iter().all(is_done) {
            progress += &self.draw(elapsed);
            return Step::End(progress, self.done());
        }
        if self.last.drains.iter().all(|d| is_done(d) || d.overdue_since.is_some()) {
            progress += &self.draw(elapsed);
            return Step::End(progress, Err(self.with_hints(self.overdue())));
        }
        if self.timeout.is_some_and(|t| elapsed >= t) {
            progress += &self.draw(elapsed);
            return match self.late(elapsed) {
                Step::End(_, result) => Step::End(progress, result),
                wait => wait,
            };
        }
        let blockers = self.blockers.take(&self.last, self.progress, elapsed, self.style);
        progress += &match self.progress {
            Progress::Live => self.draw(elapsed),
            Progress::Plain => self.changes(elapsed) + &blockers,
            Progress::Quiet => String::new(),
        };
        Step::Wait(progress)
    }

    fn unreachable(&mut self, why: String, elapsed: Duration) -> Step {
        let first = self.away.is_none();
        let since = self.away.get_or_insert((elapsed, why.clone())).0;
        if elapsed - since >= PATIENCE {
            let away = duration((elapsed - since).as_secs());
            let error =
                anyhow!(why).context(format!("no daemon has answered for {away}; {}", self.goes_on_unseen()));
            return Step::End(String::new(), Err(self.with_hints(Failure::new(Exit::Unreachable, error))));
        }
        if self.timeout.is_some_and(|t| elapsed >= t) {
            return self.late(elapsed);
        }
        Step::Wait(match self.progress {
            Progress::Live => self.draw(elapsed),
            Progress::Plain if first => {
                let why = clean(&why, self.style.ascii);
                let patience = duration(PATIENCE.as_secs());
                format!("{}: {why}; trying again for {patience}\n", duration(elapsed.as_secs()))
            }
            _ => String::new(),
        })
    }

    /// The bound of the waiting has passed.
    fn late(&self, elapsed: Duration) -> Step {
        let waited = duration(elapsed.as_secs());
        let failure = match &self.away {
            // Whether flows are left is not known, so this is not the deadline's exit code.
            Some((since, why)) => {
                let away = duration((elapsed - *since).as_secs());
                let error = anyhow!("{why}").context(format!(
                    "the waiting ended after {waited} while no daemon had answered for {away}; {}",
                    self.goes_on_unseen()
                ));
                Failure::new(Exit::Unreachable, error)
            }
            None => {
                let left = self.unfinished();
                Failure::new(Exit::Deadline, anyhow!("not done after {waited}: {left}; {}", self.goes_on()))
            }
        };
        Step::End(String::new(), Err(self.with_hints(failure)))
    }

    /// All are done; but flows may have come to an end that was not their own.
    fn done(&self) -> Result<(), Failure> {
        let receipts = self.last.drains.iter().filter_map(|d| d.receipt.as_ref());
        let by_deadline: Vec<_> = receipts
            .filter_map(|receipt| Some(format!("{}: {}", receipt.target(), not_by_themselves(receipt)?)))
            .collect();
        if by_deadline.is_empty() {
            return Ok(());
        }
        let error = anyhow!("drained, but not all flows ended by themselves: {}", by_deadline.join("; "));
        Err(Failure::new(Exit::FlowsEnded, error))
    }

    /// The deadlines of those that are not done have passed, and they go on.
    fn overdue(&self) -> Failure {
        let left = self.unfinished();
        Failure::new(Exit::Deadline, anyhow!("the deadline has passed: {left}; {}", self.goes_on()))
    }

    fn taken_back(&self, ours: &DrainStatus, now: &DrainStatus) -> Failure {
        let is_lease =
            now.id == ours.id && now.receipt.as_ref().is_some_and(|r| r.outcome == Outcome::LeaseOver);
        let (exit, ended) = if is_lease {
            (Exit::LeaseOver, "came to the end of its lease")
        } else {
            (Exit::TakenBack, "was taken back")
        };
        let mut words = format!("drain {} of {} {ended}", ours.id, who(ours));
        if now.id == ours.id {
            if let Some(receipt) = &now.receipt {
                let _ = write!(words, " with {} left", plural(receipt.left, "flow"));
            }
        } else {
            let _ = write!(words, "; drain {} by {} has begun since", now.id, now.by);
        }
        let others: Vec<_> = self.last.drains.iter().filter(|d| !is_same(d, ours)).map(who).collect();
        if !others.is_empty() {
            let _ = write!(words, "; the drain of {} is not touched by that", others.join(", "));
        }
        Failure::new(exit, anyhow!(words)).hint(format!("see who did what with `{} status`", self.command))
    }

    /// The hosts that are not done, with what is left.
    fn unfinished(&self) -> String {
        let hosts = self.last.drains.iter().filter(|d| !is_done(d)).map(|d| {
            let mut words = format!(
                "{} ({} of {} live",
                who(d),
                exact(d.live_flows.total),
                plural(d.flows_at_start, "flow")
            );
            if let Some(why) = &d.waiting_for {
                let _ = write!(words, ", waiting for {why}");
            }
            words + ")"
        });
        hosts.collect::<Vec<_>>().join(", ")
    }

    fn goes_on(&self) -> &'static str {
        if self.last.drains.iter().filter(|d| !is_done(d)).count() == 1 {
            "the drain goes on"
        } else {
            "the drains go on"
        }
    }

    fn goes_on_unseen(&self) -> String {
        format!("{} without it, nothing is forgotten", self.goes_on())
    }

    fn with_hints(&self, failure: Failure) -> Failure {
        let left: Vec<&DrainStatus> = self.last.drains.iter().filter(|d| !is_done(d)).collect();
        let hosts: Vec<&str> = left.iter().map(|d| d.host.as_str()).collect();
        let service = left.iter().find_map(|d| d.service.as_ref());
        let clients = left.iter().find_map(|d| d.clients);
        let (command, mut left) = (&self.command, hosts.join(" "));
        if let Some(service) = service {
            let _ = write!(left, " --service {service}");
        }
        if let Some(clients) = clients {
            let _ = write!(left, " --clients {clients}");
        }
        failure
            .hint(format!("wait on with `{command} drain {left} --wait`"))
            .hint(format!("take it back with `{command} undrain {left}`"))
    }

    /// Plain lines for the drains that changed, none sooner than the pause allows.
    fn changes(&mut self, elapsed: Duration) -> String {
        let mut out = String::new();
        for (drain, (before, at)) in self.last.drains.iter().zip(&mut self.told) {
            let now = told(drain);
            if now != *before && elapsed.saturating_sub(*at) >= PLAIN_PAUSE {
                out += &plain_line(drain, elapsed.as_secs(), self.style);
                (*before, *at) = (now, elapsed);
            }
        }
        out
    }

    /// The block of live lines, over the one drawn before.
    fn draw(&mut self, elapsed: Duration) -> String {
        if self.progress != Progress::Live {
            return String::new();
        }
        let all = &self.last.drains;
        let room = usize::from(self.style.height).saturating_sub(3).clamp(2, MAX_LINES);
        let shown: Vec<&DrainStatus> = if all.len() <= room {
            all.iter().collect()
        } else {
            all.iter().filter(|d| !is_done(d)).take(room - 1).collect()
        };
        let name_width = shown.iter().map(|d| who(d).chars().count()).max().unwrap_or(0);
        let mut lines: Vec<String> =
            shown.iter().map(|d| live_line(d, name_width, elapsed.as_secs(), self.style)).collect();
        if shown.len() < all.len() {
            let done = all.iter().filter(|d| is_done(d)).count();
            lines.push(format!(
                "... and {} more, {done} of {} hosts drained",
                all.len() - shown.len(),
                all.len()
            ));
        }
        lines.extend_from_slice(self.blockers.lines(room.saturating_sub(lines.len())));
        if let Some((since, why)) = &self.away {
            let away = duration((elapsed - *since).as_secs());
            let line =
                clean(&format!("{why}; trying again, {away} of {}s", PATIENCE.as_secs()), self.style.ascii);
            lines.push(cut(&line, usize::from(self.style.width).saturating_sub(1)));
        }
        let mut out = String::new();
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A\r", self.drawn);
        }
        for line in &lines {
            let _ = writeln!(out, "{line}\x1b[K");
        }
        if lines.len() < self.drawn {
            out.push_str("\x1b[J");
        }
        self.drawn = lines.len();
        out
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
