//! The machine in a small world with flows that are really alive: a drain that is reported as done leaves none of them.
//!
//! A flow of the world speaks at least once in T. Its pin may be evicted, the table may be lost, the daemon may be killed;
//! with its next packet it is pinned again, unless the host is sealed: then it would be broken, which must never be.
//!
//! Some flows are silent for ever. At a deadline that moves or resets flows each has a second of its own in which the data path
//! ends it with its next packet; from then on the host is named to no flow without a pin.

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
    Drain(Order),
    /// A flow says nothing any more, but its client still has it.
    FallSilent(usize),
    Publish,
    Undrain,
    Wait(u64),
    Sweep,
}

struct Flow {
    pinned: bool,
    spoke: u64,
    silent: bool,
    /// Its place in the spread.
    delay: u64,
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
    moved_total: u64,
    reset_total: u64,
    silent_total: u64,
    /// The order that the data path knows.
    order: Option<Order>,
    next_id: u64,
}

impl World {
    fn gauges(&self) -> Gauges {
        let pinned = self.flows.iter().filter(|flow| flow.pinned).count() as u64;
        Gauges {
            evicted_total: self.evicted_total,
            new_flows_total: self.new_flows_total,
            moved_total: self.moved_total,
            reset_total: self.reset_total,
            silent_total: self.silent_total,
            ..gauges(pinned)
        }
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
                Action::Amend { order, .. } => {
                    self.journal.as_mut().expect("a drain is noted").0.order = order;
                }
                Action::EndSilent { action, .. } => {
                    assert!(self.order.is_some_and(|order| order.at_deadline == action));
                    let before = self.flows.len();
                    self.flows.retain(|flow| !flow.pinned);
                    self.silent_total += (before - self.flows.len()) as u64;
                }
                Action::PublishRings | Action::PublishTables => self.order = self.run.state.order(),
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
        self.order = self.run.state.order();
        if out {
            self.offer(published(self.gauges()));
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

    /// What the deadline does to a flow with its next packet.
    fn is_ended(&self, flow: &Flow) -> Option<AtDeadline> {
        let order = self.order.filter(|order| order.at_deadline != AtDeadline::Keep && !self.sealed)?;
        let delay = flow.delay.min(u64::from(order.spread).saturating_sub(1));
        (self.clock >= order.deadline? + delay).then_some(order.at_deadline)
    }

    /// The flow's next packet; whether the flow still is the host's.
    fn speak(&mut self, index: usize) -> bool {
        let flow = &self.flows[index];
        let ended = self.is_ended(flow);
        match ended {
            // A flow without a pin is not known: it goes elsewhere, and is in nobody's books.
            Some(_) if !flow.pinned => {}
            Some(AtDeadline::Reset) => self.reset_total += 1,
            Some(_) => self.moved_total += 1,
            // Past the deadline the seal makes no difference to a flow without a pin.
            None if self.sealed && !flow.pinned => {
                let order = self.order.expect("a host is sealed by a drain");
                assert!(order.ends_all(self.clock), "a live flow without a pin met a seal");
            }
            None => {
                let flow = &mut self.flows[index];
                (flow.pinned, flow.spoke) = (true, self.clock);
                return true;
            }
        }
        self.flows.swap_remove(index);
        false
    }

    /// Whoever would be idle past T by then speaks one second before; a pin that is idle for longer ends.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.clock += 1;
            for index in (0..self.flows.len()).rev() {
                let flow = &self.flows[index];
                if flow.silent && self.clock - flow.spoke > T {
                    self.flows.swap_remove(index);
                } else if !flow.silent && self.clock - flow.spoke >= T {
                    self.speak(index);
                }
            }
        }
    }

    fn happen(&mut self, happening: &Happening) {
        let pick = |index: &usize, len: usize| if len == 0 { None } else { Some(index % len) };
        match happening {
            Happening::Begin if self.in_ring => {
                let delay = self.new_flows_total % 5;
                self.flows.push(Flow { pinned: true, spoke: self.clock, silent: false, delay });
                self.new_flows_total += 1;
            }
            Happening::Begin => {}
            Happening::Speak(index) => {
                if let Some(index) = pick(index, self.flows.len()).filter(|index| !self.flows[*index].silent)
                {
                    self.speak(index);
                }
            }
            Happening::End(index) => {
                if let Some(index) = pick(index, self.flows.len()) {
                    self.flows.swap_remove(index);
                }
            }
            Happening::FallSilent(index) => {
                if let Some(index) = pick(index, self.flows.len()) {
                    self.flows[index].silent = true;
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
                (self.moved_total, self.reset_total, self.silent_total) = (0, 0, 0);
                (self.sealed, self.lost, self.opened) = (false, self.clock, self.clock);
                self.restart(false);
                let start = self.journal.as_mut().and_then(|(drain, _)| drain.start.as_mut());
                start.into_iter().for_each(|start| start.is_gone = true);
            }
            Happening::Restart => self.restart(true),
            Happening::Drain(ahead) => {
                self.next_id += 1;
                let at = |seconds: Option<u64>| seconds.map(|seconds| self.clock + seconds);
                let order = Order { deadline: at(ahead.deadline), lease: at(ahead.lease), ..*ahead };
                self.offer(bounded(self.next_id, order, self.gauges()));
            }
            Happening::Publish => self.publish(),
            Happening::Undrain => {
                self.offer(Event::Undrain { gauges: self.gauges() });
                self.publish();
            }
            Happening::Wait(seconds) => self.wait(*seconds),
            Happening::Sweep => {
                let was_out = self.journal.is_some();
                self.offer(Event::Time { gauges: self.gauges() });
                if was_out && self.journal.is_none() {
                    self.publish();
                }
                self.offer(Event::Sweep(self.observation()));
            }
        }
    }
}

/// Times are seconds ahead.
fn any_order() -> impl Strategy<Value = Order> {
    let action = prop_oneof![Just(AtDeadline::Keep), Just(AtDeadline::Move), Just(AtDeadline::Reset)];
    let (deadline, lease) =
        (prop::option::of(0u64..60), prop_oneof![3 => Just(None), 1 => (1u64..99).prop_map(Some)]);
    (deadline, action, 0u16..7, lease).prop_map(|(deadline, at_deadline, spread, lease)| Order {
        deadline,
        at_deadline,
        spread,
        lease,
        ..Order::default()
    })
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => Just(Happening::Begin),
        3 => (0usize..64).prop_map(Happening::Speak),
        12 => (0usize..64).prop_map(Happening::End),
        2 => (0usize..64).prop_map(Happening::Evict),
        1 => Just(Happening::Reboot),
        1 => Just(Happening::Restart),
        3 => any_order().prop_map(Happening::Drain),
        2 => (0usize..64).prop_map(Happening::FallSilent),
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
            moved_total: 0,
            reset_total: 0,
            silent_total: 0,
            order: None,
            next_id: 0,
        };
        for happening in &happenings {
            world.happen(happening);
            if world.run.state.admin() == AdminState::Drained {
                // What has no pin past the deadline is the host's no more.
                let order = world.run.state.order().expect("a drain is in force");
                let gone = |flow: &Flow| !flow.pinned && order.ends_all(world.clock);
                let left = world.flows.iter().filter(|flow| !flow.silent && !gone(flow)).count();
                prop_assert_eq!((left, world.gauges().live.total), (0, 0), "drained with live flows");
                let status = world.run.state.status(LiveFlows::default(), world.clock).expect("a drain is in force");
                let receipt = status.receipt.expect("a drained host has a receipt");
                prop_assert_eq!((receipt.left, receipt.new_flows, receipt.misrouted), (0, 0, 0));
                let ended = receipt.ended + receipt.moved + receipt.reset + receipt.silent;
                prop_assert_eq!(receipt.flows_at_start + receipt.appeared, ended + receipt.evicted);
            }
            prop_assert_eq!(world.journal.is_some(), world.run.state.admin() != AdminState::Active);
        }
    }
}
