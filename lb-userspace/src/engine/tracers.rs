//! Who traces: a seat for each, and a task that brings them what the data path shows, for as long as one is taken.

use std::sync::Arc;
use std::time::Duration;

use lb_common::layout::{TRACERS, TraceCounts};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio::time::MissedTickBehavior;

use super::explain::NoGround;
use super::handle::Ending;
use super::trace::{Standing, TraceGround};
use super::{Engine, Error, Handle};
use crate::api::types::{TraceCounted, TraceMessage, TraceRequest};
use crate::dataplane::{self, Packets, Traced, Tracing};
use crate::trace::{Asked, Refused};

/// How often the ring is looked into.
const LOOK: Duration = Duration::from_millis(50);
/// Looks between two that also tell counts, and see who has gone.
const LOOKS_A_COUNT: u32 = 10;
/// Packets that are given names at once: the engine has other work.
const AT_ONCE: usize = 256;
/// Messages that a reader may be behind.
const BEHIND: usize = 2048;
/// Loads for a data path that is replaced meanwhile.
const TRIES: u32 = 3;

/// Who traces. Clones are the same.
#[derive(Clone, Default)]
pub struct Tracers(Arc<Mutex<Desk>>);

#[derive(Default)]
struct Desk {
    seats: [Option<Seat>; TRACERS],
    /// The task is there, and the program that traces is attached.
    is_running: bool,
}

/// One who traces.
struct Seat {
    request: TraceRequest,
    asked: Asked,
    by: String,
    /// Nanoseconds of `CLOCK_MONOTONIC`: packets from before are not its own.
    since: u64,
    to: mpsc::Sender<TraceMessage>,
    /// Of a load that was replaced.
    before: TraceCounts,
    counted: TraceCounted,
}

/// Why nobody is shown anything.
#[derive(Debug, thiserror::Error)]
pub enum NoTrace {
    #[error("{TRACERS} trace already, and no more can at once")]
    Full,
    #[error("{0}")]
    NoGround(#[from] NoGround),
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("the data path is being replaced: ask again in a moment")]
    Replaced,
    #[error("{0}")]
    Engine(#[from] Error),
    #[error("{0}")]
    Dataplane(#[from] dataplane::Error),
    #[error("{0}")]
    Ending(#[from] Ending),
    #[error("the load of the program failed: {0}")]
    Load(#[from] tokio::task::JoinError),
}

impl Tracers {
    /// Shows somebody what is asked for, until they stop listening.
    pub async fn join(
        &self,
        engine: &Handle,
        request: TraceRequest,
        by: String,
    ) -> Result<mpsc::Receiver<TraceMessage>, NoTrace> {
        let asked = Asked::of(&request)?;
        let (to, messages) = mpsc::channel(BEHIND);
        // Not by the one who asks, who may go away at any moment and leave things half done.
        let (tracers, engine) = (self.clone(), engine.clone());
        let seated = tokio::spawn(async move {
            let mut desk = tracers.0.lock().await;
            let Some(tracer) = desk.seats.iter().position(Option::is_none) else { return Err(NoTrace::Full) };
            if !desk.is_running {
                let packets = begin(&engine).await?;
                desk.is_running = true;
                tokio::spawn(tracers.clone().serve(engine.clone(), packets));
            }
            let (what, whose, since) = (asked.clone(), (request.clone(), by.clone()), monotonic());
            let shown = move |engine: &mut Engine| {
                let shown = engine.show(tracer, &what)?;
                if shown.is_ok() {
                    engine.tell_of_trace(tracer, &whose.0, &whose.1);
                }
                Ok::<_, Error>(shown)
            };
            // If that fails, the task finds that nobody has a seat.
            engine.ask(shown).await???;
            let counted = TraceCounted::default();
            // There is room for the first.
            let _ = to.try_send(TraceMessage::Counts(counted));
            desk.seats[tracer] =
                Some(Seat { request, asked, by, since, to, before: TraceCounts::default(), counted });
            Ok(())
        });
        seated.await??;
        Ok(messages)
    }

    /// Brings those who trace what the data path shows, until nobody does.
    async fn serve(self, engine: Handle, mut packets: Packets) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0;
        loop {
            ticks.tick().await;
            self.bring(&engine, &mut packets).await;
            looks += 1;
            if looks % LOOKS_A_COUNT != 0 {
                continue;
            }
            let mut desk = self.0.lock().await;
            leave(&mut desk, &engine, |seat| seat.to.is_closed()).await;
            match go_on(&mut desk, &engine, &mut packets).await {
                Ok(true) => {}
                Ok(false) | Err(NoTrace::Ending(_)) => return desk.is_running = false,
                Err(error) => {
                    log::error!("tracing ends: {error}");
                    // Their readers see the end.
                    leave(&mut desk, &engine, |_| true).await;
                }
            }
        }
    }

    /// What has come since the last look, to whom it is for.
    async fn bring(&self, engine: &Handle, packets: &mut Packets) {
        loop {
            let found: Vec<Traced> = packets.by_ref().take(AT_ONCE).collect();
            if found.is_empty() {
                return;
            }
            let is_all = found.len() < AT_ONCE;
            let mut desk = self.0.lock().await;
            let with_bytes: Vec<_> = found.into_iter().map(|traced| with_bytes(&desk, traced)).collect();
            let tracers: Vec<_> = with_bytes.iter().map(|(traced, _)| traced.record).collect();
            let Ok(told) = engine.ask(move |engine| engine.traced(&with_bytes)).await else { return };
            for (record, packet) in tracers.into_iter().zip(told) {
                for (tracer, seat) in desk.seats.iter_mut().enumerate() {
                    let Some(seat) = seat else { continue };
                    if record.tracers >> tracer & 1 == 0 || record.at < seat.since {
                        continue;
                    }
                    let mut packet = packet.clone();
                    cut(&mut packet.frame_in, seat.asked.bytes);
                    cut(&mut packet.told.frame_out, seat.asked.bytes);
                    match seat.to.try_send(TraceMessage::Packet(Box::new(packet))) {
                        Ok(()) => seat.counted.shown += 1,
                        Err(_) => seat.counted.too_slow += 1,
                    }
                }
            }
            if is_all {
                return;
            }
        }
    }
}

/// A packet, and how many bytes of its frames somebody wants.
fn with_bytes(desk: &Desk, traced: Traced) -> (Traced, usize) {
    let seats = desk.seats.iter().enumerate().filter(|(tracer, _)| traced.record.tracers >> tracer & 1 != 0);
    let bytes = seats.filter_map(|(_, seat)| Some(seat.as_ref()?.asked.bytes)).max().unwrap_or(0);
    (traced, bytes as usize)
}

/// Hexadecimal digits of so many bytes at most; none of no bytes.
fn cut(frame: &mut Option<String>, bytes: u32) {
    match frame {
        Some(_) if bytes == 0 => *frame = None,
        Some(digits) => digits.truncate(2 * bytes as usize),
        None => {}
    }
}

/// Loads the program that traces and has it attached.
async fn begin(engine: &Handle) -> Result<Packets, NoTrace> {
    for _ in 0..TRIES {
        let ground = engine.ask(Engine::trace_ground).await???;
        // That takes some tenths of a second, in which the engine goes on.
        let load = move || {
            let TraceGround { options, untraced } = ground;
            Tracing::load(&options, &untraced)
        };
        let mut tracing = tokio::task::spawn_blocking(load).await??;
        let Some(packets) = tracing.take_packets() else { continue };
        if engine.ask(move |engine| engine.begin_tracing(tracing)).await?? {
            return Ok(packets);
        }
    }
    Err(NoTrace::Replaced)
}

/// Takes leave of those of whom `is_over` says so.
async fn leave(desk: &mut MutexGuard<'_, Desk>, engine: &Handle, is_over: impl Fn(&Seat) -> bool) {
    for tracer in 0..TRACERS {
        if desk.seats[tracer].as_ref().is_none_or(|seat| !is_over(seat)) {
            continue;
        }
        let Some(Seat { request, by, counted, before, .. }) = desk.seats[tracer].take() else { continue };
        let left = move |engine: &mut Engine| {
            let counts = engine.hide(tracer).unwrap_or_default();
            engine.tell_of_trace_end(tracer, &request, &by, (counted.shown, before.wanted + counts.wanted));
        };
        // An engine that has ended shows nothing.
        let _ = engine.ask(left).await;
    }
}

/// Goes on for those who are left, and tells them counts; `false`: nobody is, or the daemon ends.
async fn go_on(
    desk: &mut MutexGuard<'_, Desk>,
    engine: &Handle,
    packets: &mut Packets,
) -> Result<bool, NoTrace> {
    let seats = desk.seats.iter().enumerate();
    let asked: Vec<(usize, Asked)> =
        seats.filter_map(|(tracer, seat)| Some((tracer, seat.as_ref()?.asked.clone()))).collect();
    if asked.is_empty() {
        engine.ask(Engine::end_tracing).await??;
        return Ok(false);
    }
    let again = asked.clone();
    match engine.ask(move |engine| engine.go_on_tracing(&asked)).await?? {
        Standing::Over => {
            desk.seats = Default::default();
            Ok(false)
        }
        Standing::Goes(counts) => {
            for ((tracer, _), counts) in again.iter().zip(counts) {
                if let Some(seat) = &mut desk.seats[*tracer] {
                    seat.count(counts);
                }
            }
            Ok(true)
        }
        Standing::Replaced => {
            *packets = begin(engine).await?;
            for (tracer, asked) in again {
                if let Some(seat) = &mut desk.seats[tracer] {
                    seat.before = seat.sum(TraceCounts::default());
                }
                // What it names may be gone with the config that was replaced; then there is nothing to be shown.
                let _ = engine.ask(move |engine| engine.show(tracer, &asked)).await??;
            }
            Ok(true)
        }
    }
}

impl Seat {
    /// Tells what the data path has counted.
    fn count(&mut self, counts: TraceCounts) {
        let sum = self.sum(counts);
        let TraceCounted { shown, too_slow, .. } = self.counted;
        let TraceCounts { wanted, sampled, over_rate, no_room, .. } = sum;
        self.counted = TraceCounted { wanted, shown, sampled, over_rate, no_room, too_slow };
        // Who is behind gets the next.
        let _ = self.to.try_send(TraceMessage::Counts(self.counted));
    }

    fn sum(&self, counts: TraceCounts) -> TraceCounts {
        TraceCounts {
            wanted: self.before.wanted + counts.wanted,
            sampled: self.before.sampled + counts.sampled,
            over_rate: self.before.over_rate + counts.over_rate,
            no_room: self.before.no_room + counts.no_room,
            skip: 0,
        }
    }
}

/// Nanoseconds of the clock that packets are dated by.
fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
