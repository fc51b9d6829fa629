//! Who traces: a seat for each, and a task that brings them what the data path shows, for as long as one is taken.

use std::sync::Arc;
use std::time::Duration;

use lb_common::layout::{TRACERS, TraceCounts};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use super::explain::NoGround;
use super::handle::Ending;
use super::outlet::Outlet;
use super::trace::{Standing, TraceGround};
use super::{Engine, Error, Handle, Messages};
use crate::api::types::{TraceCounted, TraceEnd, TraceEnded, TraceMessage, TraceRequest, TracedPacket};
use crate::dataplane::{self, Counts, Packets, Traced, Tracing};
use crate::seldom::Seldom;
use crate::trace::{Asked, Refused, with_frames};

/// How often the ring is looked into.
const LOOK: Duration = Duration::from_millis(50);
/// How often counts are told, and it is seen who has gone.
const CARE: Duration = Duration::from_millis(500);
/// Packets that are given names at once: the engine has other work.
const AT_ONCE: usize = 256;
/// So many times at each look: twice what all tracers together may be shown meanwhile. However many come, others have their turn.
const BATCHES: usize = 16;
/// Bytes that a packet takes beside its frames' digits: names, and the parts of the decision.
const BESIDE_FRAMES: usize = 2048;
/// Bytes of counts.
const OF_COUNTS: usize = 256;
/// Loads for a data path that is replaced meanwhile.
const TRIES: u32 = 3;

/// Who traces. Clones are the same.
#[derive(Clone, Default)]
pub struct Tracers(Arc<Mutex<Desk>>);

#[derive(Default)]
struct Desk {
    seats: [Option<Seat>; TRACERS],
    /// Of the program that traces; there while it is attached, and the task.
    source: Option<Source>,
    /// When the program that traces was last known to be attached.
    seen: Option<Instant>,
    /// The daemon ends.
    is_over: bool,
}

/// What a load that traces tells. It can be read to its end when another has taken the load's place.
struct Source {
    packets: Packets,
    counts: Counts,
}

/// One who traces.
struct Seat {
    request: TraceRequest,
    asked: Asked,
    by: String,
    /// Nanoseconds of `CLOCK_MONOTONIC`: packets from before are not its own.
    since: u64,
    began: Instant,
    /// When its time is over, whether anybody reads or not.
    end: Option<Instant>,
    to: Outlet,
    /// Of loads that were replaced.
    before: TraceCounts,
    /// Milliseconds of replacements that are over.
    unseen_before: u64,
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

impl NoTrace {
    /// Whether it may be otherwise in a moment.
    fn passes(&self) -> bool {
        matches!(self, NoTrace::Replaced | NoTrace::NoGround(NoGround::TakingOver | NoGround::OnTheWayBack))
    }
}

impl Tracers {
    /// Shows somebody what is asked for, until they stop listening or their time is over.
    pub async fn join(
        &self,
        engine: &Handle,
        request: TraceRequest,
        by: String,
    ) -> Result<Messages, NoTrace> {
        let asked = Asked::of(&request)?;
        let (to, messages) = Outlet::open();
        // Not by the one who asks, who may go away at any moment and leave things half done.
        let (tracers, engine) = (self.clone(), engine.clone());
        let seated = tokio::spawn(async move {
            let mut desk = tracers.0.lock().await;
            if desk.is_over {
                return Err(Ending.into());
            }
            let Some(tracer) = desk.seats.iter().position(Option::is_none) else { return Err(NoTrace::Full) };
            // Before a program is loaded for it.
            let what = asked.clone();
            engine.ask(move |engine| engine.can_show(&what)).await??;
            match &desk.source {
                // What it has counted for who had the seat before; the program does the same if it is still attached.
                Some(source) => source.counts.begin_anew(tracer),
                None => {
                    desk.source = Some(begin(&engine).await?);
                    desk.seen = Some(Instant::now());
                    tokio::spawn(tracers.clone().serve(engine.clone()));
                }
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
            let (before, counted) = (TraceCounts::default(), TraceCounted::default());
            let end = request.lasting.map(|lasting| Instant::now() + Duration::from_secs(lasting));
            let began = Instant::now();
            let seat = Seat { request, asked, by, since, began, end, to, before, unseen_before: 0, counted };
            seat.tell_counts();
            desk.seats[tracer] = Some(seat);
            Ok(())
        });
        seated.await??;
        Ok(messages)
    }

    /// The daemon ends: those who trace are told, and nobody begins any more.
    pub async fn stop(&self, engine: &Handle) {
        let mut desk = self.0.lock().await;
        desk.is_over = true;
        bring(&mut desk, engine).await;
        dismiss(&mut desk, engine, TraceEnd::Stopping, "the daemon ends").await;
    }

    /// Brings those who trace what the data path shows, until nobody does.
    async fn serve(self, engine: Handle) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut cared, mut seldom) = (Instant::now(), Seldom::default());
        loop {
            ticks.tick().await;
            let mut desk = self.0.lock().await;
            bring(&mut desk, &engine).await;
            let now = Instant::now();
            let is_any_over = desk.seats.iter().flatten().any(|seat| seat.is_over(now));
            if !is_any_over && now.duration_since(cared) < CARE {
                continue;
            }
            cared = now;
            take_leave(&mut desk, &engine, now).await;
            match go_on(&mut desk, &engine).await {
                Ok(true) => {}
                Ok(false) => return desk.source = None,
                Err(NoTrace::Ending(_)) => {
                    dismiss(&mut desk, &engine, TraceEnd::Stopping, "the daemon ends").await;
                    return desk.source = None;
                }
                Err(error) => {
                    let words = format!("packets cannot be shown any more: {error}");
                    seldom.error(&words);
                    dismiss(&mut desk, &engine, TraceEnd::Failed, &words).await;
                }
            }
        }
    }
}

/// What has come since the last look, to whom it is for.
async fn bring(desk: &mut Desk, engine: &Handle) {
    for _ in 0..BATCHES {
        let Some(source) = &mut desk.source else { return };
        let found: Vec<Traced> = source.packets.by_ref().take(AT_ONCE).collect();
        let is_all = found.len() < AT_ONCE;
        if found.is_empty() {
            return;
        }
        let Ok(told) = engine.ask(move |engine| engine.traced(found)).await else { return };
        for (traced, packet) in &told {
            for (tracer, seat) in desk.seats.iter_mut().enumerate() {
                let is_its_own = |seat: &&mut Seat| {
                    traced.record.tracers >> tracer & 1 != 0 && traced.record.at >= seat.since
                };
                if let Some(seat) = seat.as_mut().filter(is_its_own) {
                    seat.show(traced, packet);
                }
            }
        }
        if is_all {
            return;
        }
    }
}

/// Loads the program that traces and has it attached.
async fn begin(engine: &Handle) -> Result<Source, NoTrace> {
    for _ in 0..TRIES {
        let ground = engine.ask(Engine::trace_ground).await???;
        // That takes some tenths of a second, in which the engine goes on.
        let load = move || {
            let TraceGround { options, untraced } = ground;
            Tracing::load(&options, &untraced)
        };
        let mut tracing = tokio::task::spawn_blocking(load).await??;
        let Some(packets) = tracing.take_packets() else { continue };
        let counts = tracing.counts();
        if engine.ask(move |engine| engine.begin_tracing(tracing)).await?? {
            return Ok(Source { packets, counts });
        }
    }
    Err(NoTrace::Replaced)
}

/// Takes leave of those who have gone, and of those whose time is over.
async fn take_leave(desk: &mut Desk, engine: &Handle, now: Instant) {
    let those = |desk: &Desk, is_meant: &dyn Fn(&Seat) -> bool| -> Vec<usize> {
        (0..TRACERS).filter(|tracer| desk.seats[*tracer].as_ref().is_some_and(is_meant)).collect()
    };
    let gone = those(desk, &|seat| seat.to.is_closed());
    for tracer in gone {
        leave(desk, engine, tracer, None).await;
    }
    let over = those(desk, &|seat| seat.is_over(now));
    if over.is_empty() {
        return;
    }
    // First nothing more is counted, then what has come is brought: so the sum is right.
    let hidden = over.clone();
    let _ = engine.ask(move |engine| hidden.iter().try_for_each(|tracer| engine.hide(*tracer))).await;
    bring(desk, engine).await;
    for tracer in over {
        leave(desk, engine, tracer, Some((TraceEnd::Over, "the time that was asked for is over"))).await;
    }
}

/// Takes leave of all.
async fn dismiss(desk: &mut Desk, engine: &Handle, why: TraceEnd, words: &str) {
    for tracer in 0..TRACERS {
        leave(desk, engine, tracer, Some((why, words))).await;
    }
}

/// Takes leave of one, with a last word if it is not gone.
async fn leave(desk: &mut Desk, engine: &Handle, tracer: usize, word: Option<(TraceEnd, &str)>) {
    let Some(mut seat) = desk.seats[tracer].take() else { return };
    // An engine that has ended shows nothing.
    let _ = engine.ask(move |engine| engine.hide(tracer)).await;
    if let Some(source) = &desk.source {
        seat.count(source.counts.of(tracer));
    }
    let Seat { request, by, to, counted, .. } = seat;
    if let Some((why, words)) = word {
        to.send_last(TraceMessage::Counts(counted));
        to.send_last(TraceMessage::Ended(TraceEnded { why, words: words.to_owned() }));
    }
    let sums = (counted.shown, counted.wanted);
    let _ = engine.ask(move |engine| engine.tell_of_trace_end(tracer, &request, &by, sums)).await;
}

/// What is to be done for those who trace.
enum Next<S> {
    /// They are told counts.
    Tell,
    /// They are shown by this load what they ask for.
    Show(S),
    /// The next look tries again; until then they are shown nothing.
    Wait,
}

/// What follows from where tracing stands, and from what came of another load, where one was needed.
fn next<S>(standing: &Standing, begun: Option<Result<S, NoTrace>>) -> Result<Next<S>, NoTrace> {
    match (standing, begun) {
        (Standing::Over, _) => Err(Ending.into()),
        (Standing::Goes, _) => Ok(Next::Tell),
        (Standing::Replaced, None) => Ok(Next::Wait),
        (Standing::Replaced, Some(Ok(source))) => Ok(Next::Show(source)),
        (Standing::Replaced, Some(Err(why))) if why.passes() => Ok(Next::Wait),
        (Standing::Replaced, Some(Err(why))) => Err(why),
    }
}

/// Goes on for those who are left, and tells them counts; `false`: nobody is, or the daemon ends.
async fn go_on(desk: &mut Desk, engine: &Handle) -> Result<bool, NoTrace> {
    let seats = desk.seats.iter().enumerate();
    let asked: Vec<(usize, Asked)> =
        seats.filter_map(|(tracer, seat)| Some((tracer, seat.as_ref()?.asked.clone()))).collect();
    if asked.is_empty() {
        engine.ask(Engine::end_tracing).await??;
        return Ok(false);
    }
    let again = asked.clone();
    let standing = engine.ask(move |engine| engine.go_on_tracing(&asked)).await??;
    let begun = match standing {
        Standing::Replaced => {
            // What the load before has shown and counted up to its end.
            bring(desk, engine).await;
            Some(begin(engine).await)
        }
        Standing::Goes | Standing::Over => None,
    };
    match next(&standing, begun)? {
        Next::Tell => {
            desk.seen = Some(Instant::now());
            tell_counts(desk);
        }
        Next::Wait => {
            note_unseen(desk);
            tell_counts(desk);
        }
        Next::Show(source) => {
            note_unseen(desk);
            tell_counts(desk);
            desk.source = Some(source);
            desk.seats.iter_mut().flatten().for_each(Seat::begin_anew);
            show_again(desk, engine, again).await?;
            desk.seen = Some(Instant::now());
        }
    }
    Ok(true)
}

/// Has another load show what is asked for. What is not in the config that has come with it is shown to nobody: they are told so.
async fn show_again(desk: &mut Desk, engine: &Handle, all: Vec<(usize, Asked)>) -> Result<(), NoTrace> {
    for (tracer, asked) in all {
        if let Err(refused) = engine.ask(move |engine| engine.show(tracer, &asked)).await?? {
            let words = format!("packets cannot be shown any more, as there is another config: {refused}");
            leave(desk, engine, tracer, Some((TraceEnd::Failed, &words))).await;
        }
    }
    Ok(())
}

/// Since when nobody has looked, for who has been there so long.
fn note_unseen(desk: &mut Desk) {
    let Some(seen) = desk.seen else { return };
    for seat in desk.seats.iter_mut().flatten() {
        let unseen = seen.max(seat.began).elapsed().as_millis();
        seat.counted.unseen_ms = seat.unseen_before + u64::try_from(unseen).unwrap_or(u64::MAX);
    }
}

/// Tells all what the data path has counted.
fn tell_counts(desk: &mut Desk) {
    let Some(source) = &desk.source else { return };
    for (tracer, seat) in desk.seats.iter_mut().enumerate() {
        if let Some(seat) = seat {
            seat.count(source.counts.of(tracer));
            seat.tell_counts();
        }
    }
}

impl Seat {
    fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    fn show(&mut self, traced: &Traced, packet: &TracedPacket) {
        let bytes = self.asked.bytes as usize;
        let frames = traced.frame_in.len().min(bytes) + traced.frame_out.len().min(bytes);
        let message = || TraceMessage::Packet(Box::new(with_frames(packet, traced, bytes)));
        match self.to.send(BESIDE_FRAMES + 2 * frames, message) {
            true => self.counted.shown += 1,
            false => self.counted.too_slow += 1,
        }
    }

    /// Takes up what the data path has counted.
    fn count(&mut self, counts: TraceCounts) {
        let (before, TraceCounted { shown, too_slow, unseen_ms, .. }) = (self.before, self.counted);
        self.counted = TraceCounted {
            wanted: before.wanted + counts.wanted,
            shown,
            sampled: before.sampled + counts.sampled,
            over_rate: before.over_rate + counts.over_rate,
            no_room: before.no_room + counts.no_room,
            too_slow,
            unseen_ms,
        };
    }

    fn tell_counts(&self) {
        // Who is behind gets the next.
        self.to.send(OF_COUNTS, || TraceMessage::Counts(self.counted));
    }

    /// Another load counts from nothing.
    fn begin_anew(&mut self) {
        let TraceCounted { wanted, sampled, over_rate, no_room, unseen_ms, .. } = self.counted;
        self.unseen_before = unseen_ms;
        self.before = TraceCounts { wanted, sampled, over_rate, no_room, skip: 0 };
    }
}

/// Nanoseconds of the clock that packets are dated by.
fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_program_that_was_replaced() {
        let passing = [NoGround::TakingOver, NoGround::OnTheWayBack].map(NoTrace::NoGround);
        for why in passing.into_iter().chain([NoTrace::Replaced]) {
            assert!(why.passes(), "{why}");
            assert!(matches!(next::<()>(&Standing::Replaced, Some(Err(why))), Ok(Next::Wait)));
        }
        let lasting = || NoTrace::NoGround(NoGround::NothingAttached);
        for why in [lasting(), NoTrace::Full, Ending.into(), Refused::NoHost("x".to_owned()).into()] {
            assert!(!why.passes(), "{why}");
        }
        let ended = next::<()>(&Standing::Replaced, Some(Err(lasting())));
        assert!(matches!(ended, Err(NoTrace::NoGround(NoGround::NothingAttached))));
        assert!(matches!(next(&Standing::Replaced, Some(Ok(7))), Ok(Next::Show(7))));
        assert!(matches!(next::<()>(&Standing::Replaced, None), Ok(Next::Wait)));
        assert!(matches!(next::<()>(&Standing::Goes, None), Ok(Next::Tell)));
        assert!(matches!(next::<()>(&Standing::Over, None), Err(NoTrace::Ending(_))));
    }
}
