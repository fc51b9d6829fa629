//! What is under way, below the hosts: maintenance runs, shifts, drains, hosts that come back.

use crate::api::types::{AdminState, DrainStatus, MaintainRun, RunState, ShiftRun, ShiftState};
use crate::cli::render::drain::{bar, bounds, ramping, who};
use crate::cli::render::maintain;
use crate::cli::render::number::{duration, exact, percent, plural};
use crate::cli::render::progress::short;
use crate::cli::render::text::{clean, cut};

use super::super::state::Top;

/// Columns of the longest name in front of a bar.
const NAME: usize = 20;

/// Things under way; each has a line.
pub fn count(top: &Top) -> usize {
    runs(top).count() + shifts(top).count() + drains(top).count() + ramps(top).count()
}

fn runs(top: &Top) -> impl Iterator<Item = &MaintainRun> {
    top.look.runs.iter().filter(|run| !run.state.is_over())
}

fn shifts(top: &Top) -> impl Iterator<Item = &ShiftRun> {
    top.look
        .status
        .services
        .iter()
        .filter_map(|service| service.split.as_ref())
        .filter(|shift| !shift.state.is_over())
}

/// Under way, or done with an end by themselves.
fn drains(top: &Top) -> impl Iterator<Item = &DrainStatus> {
    let status = &top.look.status;
    let whole = status.hosts.iter().filter_map(|host| {
        let is_out = matches!(host.admin, AdminState::Draining | AdminState::Drained);
        host.drain.as_ref().filter(|drain| is_out || drain.state == "draining")
    });
    let parts = status.services.iter().flat_map(|service| &service.backends).filter_map(|b| b.drain.as_ref());
    let all = whole.chain(parts).chain(&status.drains_of_clients);
    all.filter(|drain| drain.state == "draining" || (drain.state == "drained" && bounds(drain).is_some()))
}

fn ramps(top: &Top) -> impl Iterator<Item = String> {
    top.hosts().iter().filter_map(|host| {
        let ramp = host.ramp.as_ref()?;
        Some(format!("{}: {}, by {}", host.name, ramping(ramp), ramp.by))
    })
}

/// The title, and as many lines as there is room for.
pub fn lines(top: &Top, room: usize) -> Vec<String> {
    let (width, ascii) = (usize::from(top.size.0), top.settings.ascii);
    let fit = |text: String| cut(&clean(&text, ascii), width);
    let name = drains(top).map(|drain| who(drain).chars().count()).max().unwrap_or(0).min(NAME);
    let mut all: Vec<String> = runs(top).map(|run| fit(run_line(run, top))).collect();
    all.extend(shifts(top).map(|shift| fit(shift_line(shift))));
    let total = count(top);
    let left = room.saturating_sub(1).saturating_sub(all.len());
    all.extend(drains(top).take(left).map(|drain| fit(drain_line(drain, name, top.now.unix))));
    all.extend(ramps(top).take(left).map(fit));
    all.truncate(room.saturating_sub(1));
    if all.len() < total
        && let Some(last) = all.last_mut()
    {
        *last = format!("... and {} more", exact((total - room.saturating_sub(2)) as u64));
    }
    let counts = [
        (runs(top).count(), "maintenance run"),
        (shifts(top).count(), "shift"),
        (drains(top).count(), "drain"),
        (ramps(top).count(), "ramp"),
    ];
    let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| plural(*n as u64, what));
    let title = format!("-- {} ", counts.collect::<Vec<_>>().join(", "));
    all.insert(0, format!("{title:-<width$}"));
    all
}

/// `run 3: 5 of 8 done, web-6 proving 12s; about 3m10s to go`; its state in front, unless it just goes on.
fn run_line(run: &MaintainRun, top: &Top) -> String {
    let line = maintain::line(run, top.style());
    match run.state {
        RunState::Running => line,
        state => format!("{} {line}", state.name()),
    }
}

/// `shift 3 of web: step 2 of 4, 10.0% to green (9.8% measured); about 4m00s to go`. Shorter than elsewhere: its end is to be seen.
fn shift_line(shift: &ShiftRun) -> String {
    let state = match shift.state {
        ShiftState::Running => String::new(),
        state => format!("{} ", state.name().replace('_', " ")),
    };
    let measured = shift.measured.map(|part| format!(" ({} measured)", percent(part))).unwrap_or_default();
    let mut line = format!(
        "{state}shift {} of {}: step {} of {}, {} to {}{measured}",
        shift.shift,
        shift.service,
        shift.step + 1,
        shift.steps.len(),
        percent(shift.wanted),
        shift.to.join(",")
    );
    if let Some(end) = shift.expected_end {
        line += &format!("; about {} to go", duration(end.saturating_sub(shift.as_of)));
    }
    if let Some(what) = &shift.waits_for {
        line += &format!("; waits for {what}");
    }
    line
}

/// `web-2 [####......] 37 of 120 live  3m07s  p90 in 4m12s  deadline in 9m40s: reset`
fn drain_line(drain: &DrainStatus, name: usize, now: u64) -> String {
    let live = drain.live_flows;
    let who = cut(&who(drain), name);
    let mut line = if drain.state == "draining" {
        let flows = if live.hidden { "?".to_owned() } else { exact(live.total) };
        let bar = bar(live.total, drain.flows_at_start);
        let bar = if live.hidden { "[????????????????????]".to_owned() } else { bar };
        format!("{who:<name$} {bar} {flows} of {} live", exact(drain.flows_at_start))
    } else {
        format!("{who:<name$} drained")
    };
    let elapsed = duration(now.saturating_sub(drain.started_at));
    let waiting = drain.waiting_for.as_ref().filter(|_| live.total == 0 || live.hidden);
    let waiting = waiting.map(|why| format!("waiting for {why}"));
    for more in [Some(elapsed), short(drain), bounds(drain), waiting].into_iter().flatten() {
        line += "  ";
        line += &more;
    }
    line
}
