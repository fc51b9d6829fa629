//! The engine's part of tracing: it puts the program that traces in the place of the other and back, tells that one what somebody asks for,
//! and gives packets their names.

use lb_common::layout::{FEATURE_NAT, HostId};
use nix::time::{ClockId, clock_gettime};

use super::explain::NoGround;
use super::{Engine, Error};
use crate::api::types::{Happening, TraceRequest, TracedPacket, TracerStatus};
use crate::dataplane::{Options, Traced, Tracing, Untraced};
use crate::trace::{Asked, Known, Refused, ServiceEnds, in_words, told};

/// Seconds for which packets are shown ahead: so long after the daemon's death the data path does what is done for nobody.
const AHEAD: u32 = 10;

/// What a load that traces is made of.
pub struct TraceGround {
    pub options: Options,
    /// The program for traffic.
    pub untraced: Untraced,
}

/// Where tracing stands.
pub enum Standing {
    Goes,
    /// Another config has brought a program of its own.
    Replaced,
    /// The daemon ends.
    Over,
}

impl Engine {
    /// What a load that traces is to be made of.
    pub fn trace_ground(&mut self) -> Result<Result<TraceGround, NoGround>, Error> {
        if self.dataplane.is_taking_over() {
            return Ok(Err(NoGround::TakingOver));
        }
        if self.in_force.way_back.is_open() {
            return Ok(Err(NoGround::OnTheWayBack));
        }
        if self.attached.is_empty() {
            return Ok(Err(NoGround::NothingAttached));
        }
        let (options, untraced) = (self.dataplane.options.clone(), self.dataplane.untraced()?);
        Ok(Ok(TraceGround { options, untraced }))
    }

    /// Puts the program that traces in the place of the other. `false`: the other is not the one any more that this was made beside.
    pub fn begin_tracing(&mut self, tracing: Tracing) -> Result<bool, Error> {
        // What is attached now may not be what is to stay.
        let is_moving = self.dataplane.is_taking_over() || self.in_force.way_back.is_open();
        if self.is_stopping || is_moving || !self.dataplane.begin_tracing(tracing)? {
            return Ok(false);
        }
        log::info!("the program that traces is attached");
        Ok(true)
    }

    /// Puts the program for traffic back in its place.
    pub fn end_tracing(&mut self) -> Result<(), Error> {
        if self.dataplane.tracing().is_some() {
            self.dataplane.end_tracing()?;
            log::info!("nobody traces any more: the program that does is detached");
        }
        Ok(())
    }

    /// The same, where nobody is there who could try again.
    pub(super) fn stop_tracing(&mut self) {
        if let Err(error) = self.end_tracing() {
            log::error!("the program that traces stays until the next start: {error}");
        }
    }

    /// Whether there is what somebody asks for.
    pub fn can_show(&self, asked: &Asked) -> Result<(), Refused> {
        asked.filter(&Site(self)).map(drop)
    }

    /// Shows a tracer what it asks for, from now on.
    pub fn show(&mut self, tracer: usize, asked: &Asked) -> Result<Result<(), Refused>, Error> {
        let mut filter = match asked.filter(&Site(self)) {
            Ok(filter) => filter,
            Err(refused) => return Ok(Err(refused)),
        };
        filter.until = self.dataplane.now().saturating_add(AHEAD);
        if let Some(tracing) = self.dataplane.tracing() {
            tracing.show(tracer, &filter)?;
        }
        Ok(Ok(()))
    }

    /// Shows a tracer nothing any more.
    pub fn hide(&mut self, tracer: usize) -> Result<(), Error> {
        match self.dataplane.tracing() {
            Some(tracing) => Ok(tracing.hide(tracer)?),
            None => Ok(()),
        }
    }

    /// Goes on showing tracers what they ask for, which may mean something else by now.
    pub fn go_on_tracing(&mut self, tracers: &[(usize, Asked)]) -> Result<Standing, Error> {
        if self.is_stopping {
            return Ok(Standing::Over);
        }
        let Some(tracing) = self.dataplane.tracing() else { return Ok(Standing::Replaced) };
        let until = self.dataplane.now().saturating_add(AHEAD);
        for (tracer, asked) in tracers {
            let before = tracing.filter(*tracer);
            // What is not in the config any more means what it meant: its flows go on.
            match asked.filter(&Site(self)) {
                Ok(mut filter) => {
                    filter.until = before.until;
                    if filter != before {
                        tracing.change(*tracer, &filter)?;
                    }
                    tracing.go_on(*tracer, until);
                }
                Err(_) => tracing.go_on(*tracer, until),
            }
        }
        Ok(Standing::Goes)
    }

    /// Packets by name. To write their frames down is no work for this thread.
    pub fn traced(&self, packets: Vec<Traced>) -> Vec<(Traced, TracedPacket)> {
        let (names, boot) = (self.names(), boot());
        let packets = packets.into_iter();
        let named = packets.map(|traced| {
            let told = told(&traced, boot, &names);
            (traced, told)
        });
        named.collect()
    }

    /// Tells that somebody is shown packets.
    pub fn tell_of_trace(&mut self, tracer: usize, request: &TraceRequest, by: &str) {
        let (filter, reason) = (in_words(request), request.reason.clone());
        log::info!("{by} traces {filter}");
        let bytes = request.bytes.unwrap_or(0);
        let since = self.clock.now();
        let status =
            TracerStatus { by: by.to_owned(), reason: reason.clone(), filter: filter.clone(), bytes, since };
        self.tracers.insert(tracer, status);
        self.tell(Happening::TraceBegan { by: by.to_owned(), reason, filter, bytes });
    }

    /// Tells that somebody is shown no packets any more.
    pub fn tell_of_trace_end(
        &mut self,
        tracer: usize,
        request: &TraceRequest,
        by: &str,
        (shown, wanted): (u64, u64),
    ) {
        self.tracers.remove(&tracer);
        let (filter, reason) = (in_words(request), request.reason.clone());
        log::info!("{by} does not trace {filter} any more: {shown} of {wanted} packets were shown");
        self.tell(Happening::TraceEnded { by: by.to_owned(), reason, filter, shown, wanted });
    }
}

/// Unix time in nanoseconds at which `CLOCK_MONOTONIC` was 0, by the wall clock of now.
fn boot() -> i128 {
    let now = |clock| {
        let time = clock_gettime(clock).map(std::time::Duration::from).unwrap_or_default();
        time.as_nanos() as i128
    };
    now(ClockId::CLOCK_REALTIME) - now(ClockId::CLOCK_MONOTONIC)
}

/// The engine, for who asks for numbers.
struct Site<'a>(&'a Engine);

impl Known for Site<'_> {
    fn service(&self, name: &str) -> Option<ServiceEnds> {
        let service = self.0.model.services.iter().find(|service| service.name == name)?;
        let number = *self.0.ids.services.get(name)?;
        let (mut first, mut last) = (u16::MAX, 0);
        for ports in service.ports.iter() {
            (first, last) = (first.min(ports.first), last.max(ports.last));
        }
        Some(ServiceEnds { number, vip: service.vip.prefix(), ports: (first, last) })
    }

    fn host(&self, name: &str) -> Option<HostId> {
        self.0.ids.known_hosts.get(name).copied()
    }

    fn has_answers(&self) -> bool {
        self.0.dataplane.options.abilities.features & FEATURE_NAT != 0
    }
}
