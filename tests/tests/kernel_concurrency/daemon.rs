//! The third thread: time passes, the table is swept, and slots change their owners by the rules of handovers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use lb_common::layout::{HostId, HostState, Slot};
use lb_userspace::dataplane::grace_period;
use sluice_tests::rig::{Random, timeout};

use super::cast::{Cast, Flow, HOSTS};

/// What the threads know of each other.
pub struct Board {
    is_over: AtomicBool,
    clock: AtomicU32,
    /// Rounds that the threads have made, if they count them.
    beats: Option<AtomicU64>,
    /// By flow: publications so far, and the owners before and after the last of them (or the one that is under way).
    owners: Vec<AtomicU64>,
}

/// Owners that a flow's slot may have at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Owners {
    publication: u64,
    either: [HostId; 2],
}

impl Board {
    pub fn new(cast: &Cast) -> Self {
        let owners = cast.flows.iter().map(|flow| AtomicU64::new(pack(0, [flow.host(0); 2]))).collect();
        Board { is_over: AtomicBool::new(false), clock: AtomicU32::new(cast.rig.now()), beats: None, owners }
    }

    /// For threads that send packets of all their flows by rounds, and count them.
    pub fn paced(cast: &Cast) -> Self {
        Board { beats: Some(AtomicU64::new(0)), ..Board::new(cast) }
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// The clock's second, or one that it will have in a moment.
    pub fn now(&self) -> u32 {
        self.clock.load(SeqCst)
    }

    /// A round is through.
    pub fn beat(&self) {
        if let Some(beats) = &self.beats {
            beats.fetch_add(1, SeqCst);
        }
    }

    pub fn owners(&self, flow: &Flow) -> Owners {
        let word = self.owners[flow.number as usize].load(SeqCst);
        Owners { publication: word >> 32, either: [(word >> 16) as HostId, word as HostId] }
    }

    /// Ends the run when the value goes, also by a panic.
    pub fn ends(&self) -> Ends<'_> {
        Ends(self)
    }
}

fn pack(publication: u64, [old, new]: [HostId; 2]) -> u64 {
    publication << 32 | u64::from(old) << 16 | u64::from(new)
}

impl Owners {
    /// Whether the host may have been an owner between two looks; unknown if much happened in between.
    pub fn may_be(before: Owners, after: Owners, host: HostId) -> bool {
        after.publication > before.publication + 1
            || before.either.contains(&host)
            || after.either.contains(&host)
    }
}

pub struct Ends<'b>(&'b Board);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, SeqCst);
    }
}

/// How often things happened.
#[derive(Debug, Default)]
pub struct Done {
    pub sweeps: u64,
    pub expired: u64,
    pub publications: u64,
    pub opened: u64,
    pub closed: u64,
}

/// A daemon in small.
pub struct Daemon<'b> {
    board: &'b Board,
    random: Random,
    /// Flows that matter may be without a pin. Where there is room for all, only those are that come back as soon as they have
    /// aged, and nobody asks where they were.
    crowded: bool,
    /// By flow: second of its slot's last change.
    changed: Vec<u32>,
    /// Beats, and the second in which they were seen.
    heard: Option<(u64, u32)>,
    pub done: Done,
}

impl<'b> Daemon<'b> {
    pub fn new(board: &'b Board, cast: &Cast, crowded: bool) -> Self {
        Daemon {
            board,
            crowded,
            random: Random(0x1234_5678_9abc_def1),
            changed: vec![cast.rig.now(); cast.flows.len()],
            heard: None,
            done: Done::default(),
        }
    }

    /// Until the run is over, or for so long.
    pub fn run(&mut self, cast: &mut Cast, lasting: Duration) {
        let _ends = self.board.ends();
        let started = Instant::now();
        while started.elapsed() < lasting && !self.board.is_over() {
            for _ in 0..self.random.below(8) {
                // At times so much that half-open pins age at once.
                let jump = if self.random.below(8) == 0 { timeout::HALF_OPEN + 1 } else { 0 };
                let seconds = self.random.below(16) + jump;
                if self.is_heard(cast.rig.now()) {
                    self.pass(cast, seconds);
                    // No packet is under way for more than a second.
                    grace_period().expect("the kernel waits");
                }
                self.sweep(cast);
                // A moment later, while packets with the second before are under way.
                self.pass(cast, 1);
                self.sweep(cast);
            }
            self.publish(cast);
        }
    }

    fn pass(&self, cast: &Cast, seconds: u32) {
        let now = cast.rig.now() + seconds;
        // First on the board, so that no packet is seen earlier than it is.
        self.board.clock.store(now, SeqCst);
        cast.rig.dataplane.set_clock(now);
    }

    fn sweep(&mut self, cast: &mut Cast) {
        self.done.sweeps += 1;
        self.done.expired += cast.rig.sweep().expired;
    }

    /// Whether time may pass: threads that count their rounds must not be away for so long that connections age.
    fn is_heard(&mut self, now: u32) -> bool {
        let Some(beats) = &self.board.beats else { return true };
        let beats = beats.load(SeqCst);
        let (then, since) = *self.heard.get_or_insert((beats, now));
        // Of three rounds, two are one thread's, and one of these lies whole in between.
        if beats >= then + 3 {
            self.heard = Some((beats, now));
        }
        now - since < timeout::ESTABLISHED - 2 * timeout::HALF_OPEN
    }

    /// Some slots get another owner; some handovers that may close do.
    fn publish(&mut self, cast: &mut Cast) {
        let now = cast.rig.now();
        // Before the sweep, as a pin without a place may be noted meanwhile.
        let lost = if self.crowded { cast.rig.dataplane.lost_at() as u32 } else { 0 };
        let foreign: HashSet<(u32, u32)> = cast.rig.sweep().foreign.into_iter().collect();
        let mut changes = Vec::new();
        // Every fourth flow's slot stays settled: its pins may always have to go.
        for flow in cast.flows.iter().filter(|flow| flow.number % 4 != 3) {
            let ring = u32::from(flow.service());
            let old = Slot(cast.setup.tables.rings[&ring][flow.slot as usize]);
            let since = self.changed[flow.number as usize].max(lost);
            let new = if old.is_open()
                && now.saturating_sub(since) > timeout::ESTABLISHED
                && !foreign.contains(&(ring, flow.slot))
            {
                Slot::settled(old.owner())
            } else if self.random.below(16) == 0 {
                let owner = flow.host(self.random.below(HOSTS));
                Slot::open(owner, if old.is_open() { old.previous() } else { old.owner() })
            } else {
                continue;
            };
            changes.push((*flow, old, new));
        }
        for (flow, old, new) in &changes {
            cast.setup.slot(flow.service().into(), flow.slot, *new);
            for which in 0..HOSTS {
                let host = flow.host(which);
                let state = if host == new.owner() { HostState::Up } else { HostState::Draining };
                cast.setup.state(host, state);
            }
            self.note(flow, [old.owner(), new.owner()]);
            let opens = new.is_open();
            self.done.opened += u64::from(opens && !old.is_open());
            self.done.closed += u64::from(!opens);
            if opens {
                self.changed[flow.number as usize] = now;
            }
        }
        // Slots without a flow are host 1's.
        cast.setup.state(1, HostState::Up);
        cast.rig.publish(&cast.setup);
        self.done.publications += 1;
        for (flow, _, new) in &changes {
            self.note(flow, [new.owner(); 2]);
        }
    }

    fn note(&self, flow: &Flow, either: [HostId; 2]) {
        let at = &self.board.owners[flow.number as usize];
        let begins = either[0] != either[1];
        at.store(pack((at.load(SeqCst) >> 32) + u64::from(begins), either), SeqCst);
    }
}
