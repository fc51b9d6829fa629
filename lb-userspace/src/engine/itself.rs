//! The balancer itself: ready, or drained as hosts are, by whom and until when. Nothing of it changes how packets are forwarded.

use super::{Engine, Error};
use crate::api::types::{
    Happening, SelfDrainRequest, SelfDrainStatus, SelfState, SelfStatus, SelfUndrainRequest,
};
use crate::dataplane::Swept;
use crate::drain::{Quiet, SelfDrain};
use crate::journal::{Change, Kind};
use crate::model::{Model, Service, VipMode};
use crate::netlink;

/// Seconds, and packets a second, that are meant where none are given.
const QUIET_FOR: u64 = 30;
const BELOW: f64 = 1.0;
/// A day.
const LONGEST: u64 = 86_400;

/// Puts the VIPs of a config where others see them, or takes them off. Returns the number of the interface that has them.
pub type Announcer = Box<dyn FnMut(&Model, bool) -> anyhow::Result<Option<u32>> + Send>;

/// The balancer as others see it.
#[derive(Default)]
pub(super) struct Itself {
    drain: Option<SelfDrain>,
    quiet: Quiet,
    announcer: Option<Announcer>,
    /// What the announcer could not do, and is to be asked again.
    failed: Option<String>,
    /// The number of the interface that has the VIPs.
    interface: Option<u32>,
}

impl Engine {
    pub(super) fn resume_self(&mut self) -> Result<(), Error> {
        self.itself.drain = self.journal.self_drain()?;
        if let Some(drain) = &self.itself.drain {
            log::warn!(
                "this balancer stays drained by the journal, by {}: `sluice undrain self` ends that",
                drain.by
            );
        }
        Ok(())
    }

    /// From now on the VIPs are announced by this, if they are to be. Returns what the announcer could not do now.
    pub fn announce_by(&mut self, announcer: Announcer) -> Option<String> {
        self.itself.announcer = Some(announcer);
        self.announce();
        self.itself.failed.clone()
    }

    /// Announces the VIPs or takes them off, as things stand. What fails is tried again by [`Self::follow_vips`].
    pub(super) fn announce(&mut self) {
        let wanted = self.itself.drain.is_none();
        let Some(announcer) = &mut self.itself.announcer else { return };
        let failed = match announcer(&self.model, wanted) {
            Ok(interface) => {
                self.itself.interface = interface;
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(error) = failed.as_ref().filter(|error| self.itself.failed.as_ref() != Some(error)) {
            let what = if wanted { "announced" } else { "taken off" };
            log::error!("the VIPs cannot be {what}: {error}");
        }
        self.itself.failed = failed;
    }

    /// Announces the VIPs again if they are not where they should be: with an interface they go, and with its link those of IPv6.
    pub(super) fn follow_vips(&mut self) {
        let is_missing = self.itself.drain.is_none()
            && interface_of_vips(&self.model).is_some_and(|name| {
                let interfaces = self.own.borrow();
                !has_vips(&self.model, name, self.itself.interface, &interfaces)
            });
        if is_missing || self.itself.failed.is_some() {
            self.announce();
        }
    }

    /// The balancer wants no traffic any more: it is not ready, and its VIPs are not announced.
    pub fn drain_self(&mut self, request: &SelfDrainRequest, author: &str) -> Result<SelfStatus, Error> {
        if request.quiet_for.is_some_and(|time| time > LONGEST) {
            return Err(Error::Quiet("the time to be quiet is more than a day"));
        }
        if request.below.is_some_and(|below| !(below > 0.0 && below <= 1e12)) {
            return Err(Error::Quiet("the packets a second that are little must be more than 0"));
        }
        let (now, before) = (self.clock.now(), self.itself.drain.clone());
        let begins = before.is_none();
        let mut drain = before.clone().unwrap_or_else(|| SelfDrain {
            started_at: now,
            by: author.to_owned(),
            reason: None,
            quiet_for: QUIET_FOR,
            below: BELOW,
            done_at: None,
        });
        drain.reason = request.reason.clone().or(drain.reason);
        drain.quiet_for = request.quiet_for.unwrap_or(drain.quiet_for);
        drain.below = request.below.unwrap_or(drain.below);
        if before
            .as_ref()
            .is_some_and(|before| (before.quiet_for, before.below) != (drain.quiet_for, drain.below))
        {
            // It is measured anew.
            drain.done_at = None;
            self.itself.quiet.since = None;
        }
        if before.as_ref() != Some(&drain) {
            let change = Change { at: now, author, reason: request.reason.as_deref() };
            self.journal.note_self(Kind::SelfDrain, Some(&drain), &change)?;
            if begins {
                log::warn!("this balancer is drained by {author}: it forwards what comes, and wants no more");
                self.itself.quiet = Quiet::default();
                self.tell(Happening::SelfDrainBegan { by: drain.by.clone(), reason: drain.reason.clone() });
            }
            self.itself.drain = Some(drain);
        }
        self.announce();
        Ok(self.self_status())
    }

    /// The balancer wants traffic again.
    pub fn undrain_self(&mut self, request: &SelfUndrainRequest, author: &str) -> Result<SelfStatus, Error> {
        if self.itself.drain.is_some() {
            let change = Change { at: self.clock.now(), author, reason: request.reason.as_deref() };
            self.journal.note_self(Kind::SelfUndrain, None, &change)?;
            self.itself.drain = None;
            log::info!("this balancer is in use again by {author}");
            self.tell(Happening::SelfUndrained { by: author.to_owned(), reason: request.reason.clone() });
        }
        self.announce();
        Ok(self.self_status())
    }

    /// Looks at the traffic of the last second.
    pub(super) fn advance_self(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let (Some(drain), Some(rate)) = (&self.itself.drain, self.rates.packets_per_second()) else {
            return Ok(());
        };
        if !self.itself.quiet.look(drain, rate, now) {
            return Ok(());
        }
        let done = SelfDrain { done_at: Some(now), ..drain.clone() };
        let change = Change { at: now, author: "sluice", reason: None };
        self.journal.note_self(Kind::SelfDrained, Some(&done), &change)?;
        log::info!(
            "this balancer is drained: for {} s less than {} packets a second came",
            done.quiet_for,
            done.below
        );
        self.tell(Happening::SelfDrained { by: done.by.clone(), reason: done.reason.clone() });
        self.itself.drain = Some(done);
        Ok(())
    }

    pub fn self_status(&self) -> SelfStatus {
        let (itself, now) = (&self.itself, self.clock.now());
        let state = match &itself.drain {
            None => SelfState::Active,
            Some(drain) if drain.done_at.is_none() => SelfState::Draining,
            Some(_) => SelfState::Drained,
        };
        let drain = itself.drain.as_ref().map(|drain| SelfDrainStatus {
            started_at: drain.started_at,
            by: drain.by.clone(),
            reason: drain.reason.clone(),
            quiet_for: drain.quiet_for,
            below: drain.below,
            quiet: itself.quiet.seconds(now),
            done_at: drain.done_at,
            as_of: now,
        });
        SelfStatus {
            state,
            not_ready: self.not_ready(),
            interface: interface_of_vips(&self.model).map(str::to_owned),
            vips_failed: itself.failed.clone(),
            packets_per_second: self.rates.packets_per_second(),
            live_flows: self.swept.as_ref().map_or(0, Swept::total),
            drain,
        }
    }

    /// Why no traffic should be sent here; `None`: it should.
    pub fn not_ready(&self) -> Option<String> {
        if let Some(drain) = &self.itself.drain {
            let reason = drain.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            return Some(format!("this balancer is drained, by {}{reason}", drain.by));
        }
        if let Some(failed) = &self.itself.failed {
            return Some(format!("the VIPs cannot be announced: {failed}"));
        }
        self.stale.then(|| "the last change is not published yet".to_owned())
    }

    /// What an operator should know of it.
    pub(super) fn problems_of_self(&self) -> Vec<String> {
        let is_drained = self.itself.drain.is_some();
        let drained = is_drained.then(|| self.not_ready()).flatten();
        let drained = drained.map(|why| format!("{why}: `sluice undrain self` ends that"));
        let what = if is_drained { "taken off, so others may still send traffic" } else { "announced" };
        let failed = self.itself.failed.as_ref();
        let failed = failed.map(|failed| format!("the VIPs cannot be {what}: {failed}"));
        drained.into_iter().chain(failed).collect()
    }
}

/// Where the VIPs of a config are put, if they are.
pub fn interface_of_vips(model: &Model) -> Option<&str> {
    match model.vip_mode {
        VipMode::Local => model.interfaces.first().map(|interface| interface.name.as_str()),
        VipMode::External => model.announce.as_deref(),
    }
}

/// Whether the interface with this name has all VIPs; or, if none has the name, that with this number, which had it.
fn has_vips(model: &Model, name: &str, before: Option<u32>, interfaces: &netlink::Own) -> bool {
    let named = interfaces.values().find(|interface| interface.name == name);
    let interface = named.or_else(|| interfaces.get(&before?));
    let has =
        |service: &Service| interface.is_some_and(|interface| interface.all.contains(&service.vip.address()));
    model.services.iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::OwnInterface;

    #[test]
    fn vips_are_missed_that_went_with_their_interface_or_its_link() {
        let toml = "interfaces = [\"eth0\"]\nvip_mode = \"local\"\n[hosts.a]\naddresses = [\"10.0.0.9\", \"2001:db8::9\"]\n\
                    [[services]]\nname = \"s\"\nvip = \"198.51.100.1\"\nprotocol = \"tcp\"\nport = 80\n\
                    [[services]]\nname = \"t\"\nvip = \"2001:db8:ff::1\"\nprotocol = \"tcp\"\nport = 80\n";
        let model = crate::config::parse(toml, "f").unwrap().model;
        let interface = |name: &str, all: &[&str]| OwnInterface {
            name: name.to_owned(),
            all: all.iter().map(|text| text.parse().unwrap()).collect(),
            ..Default::default()
        };
        let vips = ["10.0.0.1", "198.51.100.1", "2001:db8:ff::1"];
        let look = |interfaces: &[(u32, OwnInterface)]| {
            has_vips(&model, "eth0", Some(2), &interfaces.iter().cloned().collect())
        };
        assert!(look(&[(2, interface("eth0", &vips))]));
        assert!(!look(&[(2, interface("eth0", &vips[..2]))]), "the link was down");
        assert!(!look(&[(1, interface("lo", &vips))]), "it is gone");
        assert!(!look(&[(3, interface("eth0", &vips[..1]))]), "and is there again");
        assert!(look(&[(2, interface("wan", &vips))]), "it has another name");
        assert!(!look(&[(2, interface("wan", &vips)), (3, interface("eth0", &[]))]));
    }
}
