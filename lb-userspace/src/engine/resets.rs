//! Telling both ends of flows that were ended.
//!
//! A client that speaks is told by the data path. One that is silent is asked where it is, and what it answers with is then answered
//! by the data path. A host is told in its client's name, as soon as it is known where the client is in its sequence.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use lb_common::hash::FlowHash;
use lb_common::layout::{HostId, Tuple};

use super::Engine;
use crate::dataplane::{Dataplane, ResetPin};
use crate::plan::address_of;
use crate::speak::{Speaker, frame_to, probe, rst};

/// Segments sent in one round at most: some ten milliseconds of the engine's time.
const MOST: usize = 4000;
/// Flows that are remembered beyond their pins: some 5 MB.
const MOST_GONE: usize = 50_000;
/// How often a silent client is asked, or its host told if that fails, a second apart.
const TRIES: u8 = 6;

/// What is remembered of flows that were ended, for as long as their pins stay.
#[derive(Default)]
pub(super) struct Resets {
    speaker: Option<Speaker>,
    told: HashMap<Tuple, Told>,
    /// Those whose pin went before their host could be told, while it drains: the receipt is to have them.
    gone: HashMap<Tuple, Told>,
    /// It has been said why nobody can be told.
    complained: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    host: HostId,
    service: u16,
    /// The host has been told.
    is_host_told: bool,
    /// How often something was sent, and when last, seconds of the monotonic clock.
    tries: u8,
    tried_at: u64,
}

impl Resets {
    /// Flows of the host that were ended, of services that are meant, and whose end it has not been told yet.
    pub fn unconfirmed(&self, host: HostId, is_meant: impl Fn(u16, IpAddr) -> bool) -> u64 {
        let told =
            self.told.iter().chain(&self.gone).filter(|(_, told)| told.host == host && !told.is_host_told);
        told.filter(|(tuple, told)| is_meant(told.service, address_of(tuple.source))).count() as u64
    }

    /// Of all pins in phase `reset`, as a sweep has found them. The first error of many, as one end that cannot be reached must not keep
    /// the others from being told.
    fn tell(
        &mut self,
        pins: &[ResetPin],
        dataplane: &Dataplane,
        drains: impl Fn(HostId) -> bool,
        now: u64,
    ) -> io::Result<()> {
        let mut before = std::mem::take(&mut self.told);
        let (mut left, mut failed) = (MOST, None);
        if self.speaker.is_none() && !pins.is_empty() {
            match Speaker::open() {
                Ok(speaker) => self.speaker = Some(speaker),
                Err(error) => failed = Some(error),
            }
        }
        for pin in pins {
            let known = before.remove(&pin.tuple).or_else(|| self.gone.remove(&pin.tuple));
            let mut told = known.unwrap_or_default();
            (told.host, told.service) = (pin.host, pin.service);
            if let Some(speaker) = self.speaker.as_ref().filter(|_| left > 0)
                && told.is_due(pin, now)
            {
                left -= 1;
                (told.tries, told.tried_at) = (told.tries + 1, now);
                match told.speak(pin, speaker, dataplane) {
                    Ok(()) => {}
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            self.told.insert(pin.tuple, told);
        }
        self.keep(before, drains);
        failed.map_or(Ok(()), Err)
    }

    /// Of flows without a pin keeps what a receipt is to tell.
    fn keep(&mut self, without_pin: HashMap<Tuple, Told>, drains: impl Fn(HostId) -> bool) {
        self.gone.retain(|_, told| drains(told.host));
        let untold = without_pin.into_iter().filter(|(_, told)| !told.is_host_told && drains(told.host));
        let room = MOST_GONE.saturating_sub(self.gone.len());
        self.gone.extend(untold.take(room));
    }
}

impl Told {
    /// Whether somebody is to be told something now.
    fn is_due(&self, pin: &ResetPin, now: u64) -> bool {
        self.tries < TRIES && now > self.tried_at && !(pin.answered.is_some() && self.is_host_told)
    }

    fn speak(&mut self, pin: &ResetPin, speaker: &Speaker, dataplane: &Dataplane) -> io::Result<()> {
        let hash = FlowHash::of(&pin.tuple, dataplane.options.key);
        let Some(sequence) = pin.answered else {
            // Anywhere in the number space but where the client's window is: so each probe is somewhere else.
            let number = (hash.0 as u32).wrapping_add(u32::from(self.tries) << 30);
            return speaker.send_packet(address_of(pin.tuple.source), &probe(&pin.tuple, number));
        };
        let Some(backend) = dataplane.published_backend(pin.service, pin.host) else { return Ok(()) };
        // A keepalive is one byte behind (RFC 9293, 3.8.4).
        for sequence in [sequence, sequence.wrapping_add(1)] {
            let Some(frame) = frame_to(&rst(&pin.tuple, sequence), &backend, hash) else { return Ok(()) };
            speaker.send_frame(backend.record.ifindex, &frame)?;
        }
        self.is_host_told = true;
        Ok(())
    }
}

impl Engine {
    /// Tells who is still to be told.
    pub(super) fn tell_of_resets(&mut self) {
        let pins = self.swept.as_ref().map_or(&[][..], |swept| &swept.resets);
        let now = self.clock.monotonic();
        let hosts = self.draining().map(|draining| &draining.drain.host);
        let draining: HashSet<HostId> =
            hosts.filter_map(|host| self.ids.known_hosts.get(host).copied()).collect();
        match self.resets.tell(pins, &self.dataplane, |host| draining.contains(&host), now) {
            Ok(()) => self.resets.complained = false,
            Err(error) if self.resets.complained => log::debug!("a flow's end cannot be told: {error}"),
            Err(error) => {
                self.resets.complained = true;
                log::warn!(
                    "silent clients and hosts cannot be told that flows were ended: {error}; sockets of such flows stay until \
                     their own timeouts"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_counts_as_told_only_when_something_was_sent() {
        let pin = |answered| ResetPin { tuple: Tuple::default(), service: 1, host: 7, answered };
        let told = |is_host_told, tries| Told { host: 7, service: 1, is_host_told, tries, tried_at: 100 };
        // A second apart, silent or answered; again while it failed, and no more when it did not.
        assert!(!told(false, 1).is_due(&pin(None), 100) && told(false, 1).is_due(&pin(None), 101));
        assert!(told(false, 1).is_due(&pin(Some(5)), 101) && !told(true, 1).is_due(&pin(Some(5)), 101));
        assert!(!told(false, TRIES).is_due(&pin(None), 999));
        let of = |tuple: u32, told| (Tuple { ports: tuple, ..Tuple::default() }, told);
        let all = HashMap::from([of(1, told(false, 6)), of(2, told(true, 1)), of(3, told(false, 0))]);
        let resets = Resets { told: all, ..Resets::default() };
        let of = |host, service| resets.unconfirmed(host, |of, _| of == service);
        assert_eq!((of(7, 1), of(7, 2), of(8, 1)), (2, 0, 0));
    }

    #[test]
    fn who_could_not_be_told_is_remembered_while_its_host_drains() {
        let of = |tuple: u32, host, is_host_told| {
            let told = Told { host, service: 1, is_host_told, ..Told::default() };
            (Tuple { ports: tuple, ..Tuple::default() }, told)
        };
        let mut resets = Resets::default();
        resets.keep(HashMap::from([of(1, 7, false), of(2, 7, true), of(3, 8, false)]), |host| host == 7);
        let count = |resets: &Resets| [7, 8].map(|host| resets.unconfirmed(host, |_, _| true));
        assert_eq!(count(&resets), [1, 0]);
        resets.keep(HashMap::from([of(4, 7, false)]), |host| host == 7);
        assert_eq!(count(&resets), [2, 0]);
        resets.keep(HashMap::new(), |_| false);
        assert_eq!(count(&resets), [0, 0]);
    }
}
