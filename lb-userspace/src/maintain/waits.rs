//! What a run waits for, in words.

use super::state::{Course, Drained, HostRun, NotWell, Run, World};
use crate::api::types::HostStep;

const UNSEEN: &str = "hosts to be seen again, as this machine's own link is cut off";

/// Why no host is begun with now, or taken back, or why those in work do not go on, in words; `None`: nothing keeps the run from it, or there
/// is none.
pub fn waits_for(run: &Run, world: &dyn World, now: u64) -> Option<String> {
    next_waits_for(run, world, now).or_else(|| run.hosts.iter().find_map(|host| held_up(host, world)))
}

/// What a host in work waits for that may never come by itself.
fn held_up(host: &HostRun, world: &dyn World) -> Option<String> {
    let is_seen = || world.knows(&host.host) && !world.is_unseen(&host.host);
    match host.step {
        HostStep::Returning => {
            let why = world.paused_ramp(&host.host)?;
            Some(format!("the ramp of {} to go on, which is paused: {why}", host.host))
        }
        HostStep::Watching if is_seen() => match world.well_since(&host.host) {
            Err(NotWell::Unsaid(why)) => Some(format!("{}: {why}", host.host)),
            _ => None,
        },
        _ => None,
    }
}

/// Why no host is begun with now, or taken back.
pub(super) fn next_waits_for(run: &Run, world: &dyn World, now: u64) -> Option<String> {
    let is_to_go = |host: &&HostRun| {
        host.step == HostStep::Draining && host.is_back && world.drain(&host.host).is_none()
    };
    if let Some(host) = run.hosts.iter().find(is_to_go) {
        let what = may_go_back_out(host, world, run.plan.min_healthy).err();
        return what.map(|what| format!("{what}, to take {} back", host.host));
    }
    let next = &run.plan.hosts[run.next()?];
    match &run.course {
        Course::Failed { .. } | Course::Aborted { .. } => return None,
        Course::Paused { by, .. } => return Some(format!("somebody to resume it: {by} has paused it")),
        Course::Forward => {}
    }
    let in_work: Vec<usize> = (0..run.hosts.len()).filter(|&index| run.hosts[index].is_in_work()).collect();
    if in_work.len() >= run.plan.at_once {
        return None;
    }
    match run.plan.windows.opens_at(now) {
        None => return Some("a window that never opens again".to_owned()),
        Some(opens) if opens > now => return Some(format!("its next window, in {} s", opens - now)),
        Some(_) => {}
    }
    if run.plan.by_zone
        && let Some(&other) = in_work.iter().find(|&&index| run.plan.hosts[index].zone != next.zone)
    {
        return Some(format!("the last hosts of the zone of {}", run.hosts[other].host));
    }
    if !world.knows(&next.host) {
        return Some(format!("the config to name {} again; or abort the run", next.host));
    }
    if world.is_disabled(&next.host) {
        return Some(format!("the config to enable {} again; or abort the run", next.host));
    }
    if world.is_unseen(&next.host) {
        return Some(UNSEEN.to_owned());
    }
    if let Some(Drained { by, .. }) = world.drain(&next.host) {
        return Some(format!("{by} to undrain {}", next.host));
    }
    world.may_drain(&next.host, run.plan.min_healthy).err()
}

/// Whether a host that is in use on its way back may be drained, and whatever the rules say: one that is not well is no loss to its services as
/// long as each has another. Or what it has to wait for.
pub(super) fn may_go_back_out(host: &HostRun, world: &dyn World, min_healthy: u8) -> Result<bool, String> {
    if world.is_unseen(&host.host) {
        return Err(UNSEEN.to_owned());
    }
    if is_ill(host, world) {
        world.may_spare(&host.host).map(|()| true)
    } else {
        world.may_drain(&host.host, min_healthy).map(|()| false)
    }
}

/// Something is wrong with it, or was when it was watched. Not to be asked while it is unseen.
pub(super) fn is_ill(host: &HostRun, world: &dyn World) -> bool {
    host.is_ill || matches!(world.well_since(&host.host), Err(NotWell::Ill(_)))
}
