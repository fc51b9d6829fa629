//! The machine in a small world with flows that are really alive: a drain that is reported as done leaves none of them.
//!
//! A flow of the world speaks at least once in T. Its pin may be evicted, the table may be lost, the daemon may be killed;
//! with its next packet it is pinned again, unless the host is sealed: then it would be broken, which must never be.

use proptest::prelude::*;

use crate::api::types::AdminState;

use super::*;

#[derive(Debug, Clone)]
enum Happening {
    /// A client begins a flow; it reaches the host only while the rings name it.
    Begin,
    Speak(usize),
    End(usize),
    Evict(usize),
    /// The machine reboots: pins, gauges and counters are gone, the journal is not.
    Reboot,
    /// The daemon is killed and starts again.
    Restart,
    Drain,
    Publish,
    Undrain,
    Wait(u64),
    Sweep,
}

struct Flow {
    pinned: bool,
    spoke: u64,
}

/// The host's side of the truth, and the data path as the actions left it.
struct World {
    run: Run,
    /// What the journal holds of the drain in force.
    journal: Option<(Drain, Option<crate::api::types::Receipt>)>,
    clock: u64,
    flows: Vec<Flow>,
    in_ring: bool,
    sealed: bool,
    opened: u64,
    lost: u64,
    evicted_total: u64,
    new_flows_total: u64,
    next_id: u64,
}

impl World {
    fn gauges(&self) -> Gauges {
        let pinned = self.flows.iter().filter(|flow| flow.pinned).count() as u64;
        Gauges { evicted_total: self.evicted_total, new_flows_total: self.new_flows_total, ..gauges(pinned) }
    }

    fn observation(&self) -> Observation {
        Observation {
            complete_since: self.lost,
            slots_open_long_enough: !self.in_ring && self.clock - self.opened.max(self.lost) > T,
            ..sweep(self.clock, self.gauges())
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Begin(drain) => self.journal = Some((drain, None)),
                Action::NoteStart { start, .. } => {
                    self.journal.as_mut().expect("a drain is noted").0.start = Some(start);
                }
                Action::Finish(receipt) => {
                    self.journal.as_mut().expect("a drain is noted").1 = Some(receipt);
                }
                Action::TakeBack { .. } => self.journal = None,
                Action::SealHost(_) => self.sealed = true,
                Action::UnsealHost(_) => self.sealed = false,
                Action::PublishRings => {}
            }
        }
    }

    fn offer(&mut self, event: Event) {
        let actions = self.run.offer(event, self.clock);
        self.carry_out(actions);
    }

    fn publish(&mut self) {
        let out = self.journal.is_some();
        if out && self.in_ring {
            self.opened = self.clock;
        }
        self.in_ring = !out;
        if out {
            self.offer(Event::Published(self.gauges()));
        }
    }

    fn restart(&mut self, counters_kept: bool) {
        let (state, actions) = match self.journal.clone() {
            Some((drain, receipt)) => resume(drain, receipt, counters_kept),
            None => (State::Active { last: None }, vec![Action::UnsealHost(HOST.to_owned())]),
        };
        self.run.state = state;
        self.carry_out(actions);
        self.publish();
    }

    fn speak(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        assert!(flow.pinned || !self.sealed, "a live flow without a pin met a seal");
        flow.pinned = true;
        flow.spoke = self.clock;
    }

    /// Whoever would be idle past T by then speaks one second before.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.clock += 1;
            for index in 0..self.flows.len() {
                if self.clock - self.flows[index].spoke >= T {
                    self.speak(index);
                }
            }
        }
    }

    fn happen(&mut self, happening: &Happening) {
        let pick = |index: &usize, len: usize| if len == 0 { None } else { Some(index % len) };
        match happening {
            Happening::Begin if self.in_ring => {
                self.flows.push(Flow { pinned: true, spoke: self.clock });
                self.new_flows_total += 1;
            }
            Happening::Begin => {}
            Happening::Speak(index) => {
                if let Some(index) = pick(index, self.flows.len()) {
                    self.speak(index);
                }
            }
            Happening::End(index) => {
                if let Some(index) = pick(index, self.flows.len()) {
                    self.flows.swap_remove(index);
                }
            }
            Happening::Evict(index) => {
                if let Some(index) = pick(index, self.flows.len()).filter(|index| self.flows[*index].pinned) {
                    self.flows[index].pinned = false;
                    self.evicted_total += 1;
                    self.lost = self.clock;
                }
            }
            Happening::Reboot => {
                self.flows.iter_mut().for_each(|flow| flow.pinned = false);
                (self.evicted_total, self.new_flows_total) = (0, 0);
                (self.sealed, self.lost, self.opened) = (false, self.clock, self.clock);
                self.restart(false);
            }
            Happening::Restart => self.restart(true),
            Happening::Drain => {
                self.next_id += 1;
                self.offer(drain_event(self.next_id, self.gauges()));
            }
            Happening::Publish => self.publish(),
            Happening::Undrain => {
                self.offer(Event::Undrain { gauges: self.gauges() });
                self.publish();
            }
            Happening::Wait(seconds) => self.wait(*seconds),
            Happening::Sweep => self.offer(Event::Sweep(self.observation())),
        }
    }
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => Just(Happening::Begin),
        3 => (0usize..64).prop_map(Happening::Speak),
        12 => (0usize..64).prop_map(Happening::End),
        2 => (0usize..64).prop_map(Happening::Evict),
        1 => Just(Happening::Reboot),
        1 => Just(Happening::Restart),
        3 => Just(Happening::Drain),
        5 => Just(Happening::Publish),
        1 => Just(Happening::Undrain),
        10 => (1u64..20).prop_map(Happening::Wait),
        14 => Just(Happening::Sweep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn done_means_done(happenings in prop::collection::vec(any_happening(), 1..160)) {
        let mut world = World {
            run: Run::new(),
            journal: None,
            clock: 1000,
            flows: Vec::new(),
            in_ring: true,
            sealed: false,
            opened: 0,
            lost: 1000,
            evicted_total: 0,
            new_flows_total: 0,
            next_id: 0,
        };
        for happening in &happenings {
            world.happen(happening);
            if world.run.state.admin() == AdminState::Drained {
                prop_assert!(world.flows.is_empty(), "drained with {} live flows", world.flows.len());
                let status = world.run.state.status(LiveFlows::default()).expect("a drain is in force");
                let receipt = status.receipt.expect("a drained host has a receipt");
                prop_assert_eq!((receipt.left, receipt.new_flows, receipt.misrouted), (0, 0, 0));
                prop_assert!(receipt.ended + receipt.evicted >= receipt.flows_at_start);
            }
            prop_assert_eq!(world.journal.is_some(), world.run.state.admin() != AdminState::Active);
        }
    }
}
