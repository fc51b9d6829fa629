//! What looks have come to: suspicions, and times out. After Envoy's outlier detection: the first time out is short, each further one twice
//! as long, and who fares well for a while begins anew.

use std::collections::BTreeMap;

use super::super::{Flip, Kept, Oper};
use super::{Look, Sign, Verdict};
use crate::model::{Health, Passive};

/// Looks in a row that must find the same.
const BAD: u32 = 2;
/// Seconds between two notes of the same suspicion.
const NOTES: u64 = 60;

/// A time, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds of the samples' clock.
    pub ms: u64,
    /// Unix seconds.
    pub unix: u64,
}

/// What a sign has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspicion {
    /// Looks in a row that were bad, with none between them that was well.
    bad: u32,
    /// Milliseconds of the last one.
    bad_at: u64,
    /// In words, while there is one.
    pub why: Option<String>,
    /// Unix seconds.
    pub since: u64,
    /// Somebody was told that it began, and not yet that it is over.
    is_told: bool,
    /// The journal knows of it.
    is_noted: bool,
    noted_at: u64,
}

impl Suspicion {
    /// Takes in a verdict. What is too little to judge by neither speaks for the host nor against it; only when nothing has been bad for a
    /// whole window is a suspicion over, so that it does not come and go with every look.
    fn step(&mut self, verdict: &Verdict, passive: &Passive, now: Moment) {
        match verdict {
            Verdict::Bad(why) => {
                (self.bad, self.bad_at) = (self.bad.saturating_add(1), now.ms);
                if self.bad >= BAD {
                    if self.why.is_none() {
                        self.since = now.unix;
                    }
                    self.why = Some(why.clone());
                }
                return;
            }
            Verdict::Well => self.bad = 0,
            Verdict::TooFew => {}
        }
        if now.ms >= self.bad_at + passive.window.as_millis() as u64 {
            self.bad = 0;
            if self.why.take().is_some() {
                self.since = now.unix;
            }
        }
    }

    /// Whether somebody has to be told that it has begun, or is over.
    fn tell(&mut self) -> Option<bool> {
        let is_other = self.is_told != self.why.is_some();
        self.is_told = self.why.is_some();
        is_other.then_some(self.is_told)
    }
}

/// What is known of a host for a service.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub kept: Kept,
    pub signs: BTreeMap<Sign, Suspicion>,
    /// The last one, if it told something.
    pub look: Option<Look>,
    /// Why what handshakes say is not believed.
    pub doubt: Option<String>,
    /// Milliseconds: samples before say nothing of the host as it is now.
    since: u64,
    /// Unix second since which the host has fared well.
    well_since: Option<u64>,
}

/// What has come of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A sign speaks against the host from now on, for this reason; or does not any more.
    Suspected(Sign, String),
    Cleared(Sign),
    /// The host is out, or back.
    Flipped(Flip),
}

impl State {
    /// Goes on from what an earlier daemon knew. Nothing speaks against a host of which nothing is known.
    pub fn resume(&mut self, kept: Option<Kept>, now: u64) {
        self.kept = kept.unwrap_or_default();
        self.kept.not_after(now);
        if self.kept.oper == Oper::Unknown {
            self.kept.oper = Oper::Up;
        }
    }

    /// How long it is out this time, seconds.
    fn hold(&self, passive: &Passive) -> u64 {
        let doubled = self.kept.times.saturating_sub(1).min(20);
        (passive.hold.as_secs() << doubled).min(passive.longest_hold.as_secs())
    }

    /// Unix second from which on it may come back, while it is out.
    pub fn until(&self, health: &Health, now: u64) -> Option<u64> {
        let kept = &self.kept;
        let damped = || kept.held_until(health.damping.as_secs(), now).unwrap_or(0);
        (kept.oper == Oper::Down).then(|| (kept.since + self.hold(&health.passive)).max(damped()))
    }

    /// Milliseconds: samples before say nothing of it.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// What was counted up to now says nothing of it: it gets no new flows, or it is this machine that cannot be heard.
    pub fn forget(&mut self, now: Moment) {
        self.since = now.ms;
        self.signs.values_mut().for_each(|suspicion| suspicion.bad = 0);
    }

    /// Takes in what a look has come to by each sign. `ejects`: the host may be taken out.
    pub fn step(
        &mut self,
        health: &Health,
        look: Option<Look>,
        verdicts: &[(Sign, Verdict)],
        ejects: bool,
        now: Moment,
    ) -> Vec<Event> {
        self.look = look;
        for (sign, verdict) in verdicts {
            self.signs.entry(*sign).or_default().step(verdict, &health.passive, now);
        }
        let handshakes =
            verdicts.iter().find(|(sign, _)| *sign == Sign::Handshakes).map(|(_, verdict)| verdict);
        self.note_well(health, handshakes == Some(&Verdict::Well), now.unix);
        let mut events = Vec::new();
        // One that is used all the same, as no more may be out, tells how it fares.
        let is_bad = matches!(handshakes, Some(Verdict::Bad(_)));
        let is_over = self.until(health, now.unix).is_some_and(|until| now.unix >= until);
        if is_over && !is_bad {
            events.push(self.flip(Oper::Up, health, now, "it was out for long enough, and is tried again"));
            if let Some(suspicion) = self.signs.get_mut(&Sign::Handshakes) {
                suspicion.why = None;
            }
        }
        for (sign, suspicion) in &mut self.signs {
            // Of handshakes it is told what follows, or why nothing does.
            if ejects && *sign == Sign::Handshakes && suspicion.why.is_some() {
                continue;
            }
            match (suspicion.tell(), &suspicion.why) {
                (Some(true), Some(why)) => events.push(Event::Suspected(*sign, why.clone())),
                (Some(_), _) => events.push(Event::Cleared(*sign)),
                (None, _) => {}
            }
        }
        if self.signs.get(&Sign::Handshakes).is_none_or(|suspicion| suspicion.why.is_none()) {
            self.doubt = None;
        }
        events
    }

    /// Whether it should be asked if what handshakes say is to be believed, so that the host is taken out: they do now, and have before.
    pub fn asks(&self, now: Moment) -> bool {
        let is_bad = |suspicion: &Suspicion| {
            suspicion.why.is_some() && suspicion.bad >= BAD && suspicion.bad_at == now.ms
        };
        self.kept.oper != Oper::Down && self.signs.get(&Sign::Handshakes).is_some_and(is_bad)
    }

    /// Takes in whether handshakes are believed, see [`super::believe`].
    pub fn answer(&mut self, health: &Health, answer: Result<(), String>, now: Moment) -> Option<Event> {
        let suspicion = self.signs.get_mut(&Sign::Handshakes)?;
        let why = suspicion.why.clone()?;
        match answer {
            Ok(()) => {
                self.kept.times = self.kept.times.saturating_add(1);
                self.doubt = None;
                Some(self.flip(Oper::Down, health, now, &why))
            }
            Err(doubt) => {
                let event = Event::Suspected(Sign::Handshakes, format!("{why}. It stays in use: {doubt}"));
                self.doubt = Some(doubt);
                (suspicion.tell() == Some(true)).then_some(event)
            }
        }
    }

    /// Suspicions that the journal has to know of, or that they are over, each at most once a minute: what comes and goes meanwhile it is
    /// not told.
    pub fn take_notes(&mut self, now: u64) -> Vec<(Sign, Option<String>)> {
        let mut notes = Vec::new();
        let doubt =
            self.doubt.as_ref().map(|doubt| format!(". It stays in use: {doubt}")).unwrap_or_default();
        for (sign, suspicion) in &mut self.signs {
            let is_due = suspicion.noted_at == 0 || now >= suspicion.noted_at + NOTES;
            if suspicion.is_told != suspicion.is_noted && is_due {
                (suspicion.is_noted, suspicion.noted_at) = (suspicion.is_told, now);
                let doubt = if *sign == Sign::Handshakes { doubt.as_str() } else { "" };
                notes.push((*sign, suspicion.why.as_ref().map(|why| format!("{why}{doubt}"))));
            }
        }
        notes
    }

    fn flip(&mut self, to: Oper, health: &Health, now: Moment, why: &str) -> Event {
        let from = self.kept.oper;
        self.kept.change(to, health.damping.as_secs(), now.unix, why);
        self.well_since = None;
        self.forget(now);
        Event::Flipped(Flip { from, to })
    }

    /// Who has fared well for as long as it was out, and for `damping`, begins anew.
    fn note_well(&mut self, health: &Health, is_well: bool, now: u64) {
        if self.kept.oper != Oper::Up || !is_well {
            return;
        }
        let since = *self.well_since.get_or_insert(now);
        if self.kept.times > 0
            && now - since.min(now) >= self.hold(&health.passive).max(health.damping.as_secs())
        {
            self.kept.times = 0;
        }
    }
}
