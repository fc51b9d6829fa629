//! Telling both ends of flows that were ended.
//!
//! A client that speaks is told by the data path. One that is silent is asked where it is, and what it answers with is then answered
//! by the data path. A host is told in its client's name, as soon as it is known where the client is in its sequence.

use std::collections::HashMap;
use std::io;

use lb_common::hash::FlowHash;
use lb_common::layout::{HostId, Tuple};

use super::Engine;
use crate::dataplane::{Dataplane, ResetPin};
use crate::plan::address_of;
use crate::speak::{Speaker, frame_to, probe, rst};

/// Segments sent in one round at most: some ten milliseconds of the engine's time.
const MOST: usize = 4000;
/// How often a silent client is asked, a second apart.
const PROBES: u8 = 3;

/// What is remembered of flows that were ended, for as long as their pins stay.
#[derive(Default)]
pub(super) struct Resets {
    speaker: Option<Speaker>,
    told: HashMap<Tuple, Told>,
    /// It has been said why nobody can be told.
    complained: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    host: HostId,
    /// The host has been told.
    is_host_told: bool,
    /// How often the client has been asked, and when last, seconds of the monotonic clock.
    probes: u8,
    probed_at: u64,
}

impl Resets {
    /// Flows of the host that were ended, and whose end it has not been told yet.
    pub fn unconfirmed(&self, host: HostId) -> u64 {
        self.told.values().filter(|told| told.host == host && !told.is_host_told).count() as u64
    }

    /// Of all pins in phase `reset`, as a sweep has found them.
    fn tell(&mut self, pins: &[ResetPin], dataplane: &Dataplane, now: u64) -> io::Result<()> {
        let mut before = std::mem::take(&mut self.told);
        let (mut left, mut failed) = (MOST, None);
        for pin in pins {
            let mut told = before.remove(&pin.tuple).unwrap_or_default();
            told.host = pin.host;
            if left > 0 && failed.is_none() {
                match self.speak(pin, &mut told, dataplane, now) {
                    Ok(spoken) => left -= usize::from(spoken),
                    Err(error) => failed = Some(error),
                }
            }
            self.told.insert(pin.tuple, told);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether anything was sent.
    fn speak(
        &mut self,
        pin: &ResetPin,
        told: &mut Told,
        dataplane: &Dataplane,
        now: u64,
    ) -> io::Result<bool> {
        match pin.answered {
            Some(sequence) if !told.is_host_told => {
                told.is_host_told = true;
                let Some(backend) = dataplane.published_backend(pin.service, pin.host) else {
                    return Ok(false);
                };
                let hash = FlowHash::of(&pin.tuple, dataplane.options.key);
                // A keepalive is one byte behind (RFC 9293, 3.8.4).
                for sequence in [sequence, sequence.wrapping_add(1)] {
                    if let Some(frame) = frame_to(&rst(&pin.tuple, sequence), &backend, hash) {
                        self.speaker()?.send_frame(backend.record.ifindex, &frame)?;
                    }
                }
                Ok(true)
            }
            None if told.probes < PROBES && now > told.probed_at => {
                (told.probes, told.probed_at) = (told.probes + 1, now);
                // Anywhere in the number space but where the client's window is: so each probe is somewhere else.
                let hash = FlowHash::of(&pin.tuple, dataplane.options.key).0 as u32;
                let packet = probe(&pin.tuple, hash.wrapping_add(u32::from(told.probes) << 30));
                self.speaker()?.send_packet(address_of(pin.tuple.source), &packet)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn speaker(&mut self) -> io::Result<&Speaker> {
        if self.speaker.is_none() {
            self.speaker = Some(Speaker::open()?);
        }
        self.speaker.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Engine {
    /// Tells who is still to be told.
    pub(super) fn tell_of_resets(&mut self) {
        let pins = self.swept.as_ref().map_or(&[][..], |swept| &swept.resets);
        let now = self.clock.monotonic();
        match self.resets.tell(pins, &self.dataplane, now) {
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
