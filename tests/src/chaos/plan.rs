//! Which actions come when: a function of the seed.
//!
//! The plan knows what it has done and not what came of it, so it is the same in each run. It leaves two hosts in use and
//! unhurt at any time, and ends with everything in order but for drains and ramps.

use std::time::Duration;

use lb_userspace::api::types::AtDeadline;

use super::action::{Action, HOSTS, Host, Link, Order, Settings, Way};
use super::model::AFTERMATH;
use crate::rig::Random;

/// How long a host, or a link, is left alone after it was cut off or stopped: TCP sends again after twice the time that it has
/// waited before, and is to get through meanwhile.
const CALM: u64 = 6_000;
// What one cut excuses is over before the next.
const _: () = assert!(CALM as u128 >= AFTERMATH.as_millis());
/// Hosts in use and unhurt, at least.
const GOOD: usize = 2;
/// How long a config that nobody confirms may take to be gone once its time is over: a daemon that was killed may have to start first.
const GONE: u64 = 5_000;
/// Waits until the first action: the clients' first flows are there then.
const START: u64 = 2_500;

/// What the run is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// `l2`, `ipip`, `gue` or `nat`
    pub forward: &'static str,
    /// Pins that the flow table is made for.
    pub pins: u32,
    /// By their times since the traffic began.
    pub steps: Vec<(Duration, Action)>,
}

/// What the planner knows of a host.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Drained as a whole.
    is_out: bool,
    /// A part of it is drained.
    is_part: bool,
    /// It has or had a lease, or came back by a ramp: whether it is in use now is not for the planner to know.
    is_doubtful: bool,
    /// Its drain has a deadline.
    has_deadline: bool,
    /// Until when its servers are dead.
    dead_until: u64,
    /// Until when it is not to be hurt.
    calm_until: u64,
    /// Until when the config may not name it.
    gone_until: u64,
}

struct Planner {
    random: Random,
    steps: Vec<(u64, Action)>,
    hosts: [Seen; HOSTS],
    /// Milliseconds.
    now: u64,
    end: u64,
    balancer_calm_until: u64,
    daemon_back_at: u64,
    flood_until: u64,
    press_until: u64,
    settings: Settings,
    /// Until when a config may wait to be confirmed, so that no other is taken.
    config_until: u64,
}

/// A plan of actions for `length`.
pub fn plan(seed: u64, length: Duration) -> Plan {
    let mut random = Random(spread(seed));
    let forward = *random.one_of(&["l2", "ipip", "gue", "nat"]);
    let pins = *random.one_of(&[1024, 16_384]);
    let mut planner = Planner {
        random,
        steps: Vec::new(),
        hosts: [Seen::default(); HOSTS],
        now: START,
        end: length.as_millis() as u64,
        balancer_calm_until: 0,
        daemon_back_at: 0,
        flood_until: 0,
        press_until: 0,
        settings: Settings::default(),
        config_until: 0,
    };
    while planner.now < planner.end {
        planner.step();
        planner.now += u64::from(200 + planner.random.below(1000));
    }
    // All hosts are there at the end, whatever came before; the daemon is, too.
    planner.steps.push((planner.end, Action::Config { settings: Settings::default(), way: Way::Apply }));
    planner.steps.sort_by_key(|(at, _)| *at);
    let steps = planner.steps.into_iter().map(|(at, action)| (Duration::from_millis(at), action));
    Plan { seed, forward, pins, steps: steps.collect() }
}

/// Any seed, also 0 and its neighbours, as a number with many bits (splitmix64).
fn spread(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1)
}

impl Planner {
    fn step(&mut self) {
        match self.random.below(100) {
            0..24 => self.drain(),
            24..36 => self.undrain(),
            36..47 => self.config(),
            47..52 => self.kick(),
            52..64 => self.end_daemon(),
            64..71 => self.crash(),
            71..78 => self.freeze(),
            78..88 => self.cut(),
            88..93 => self.flood(),
            93..96 => self.press(),
            _ => self.move_clock(),
        }
    }

    fn push(&mut self, after: u64, action: Action) {
        self.steps.push(((self.now + after).min(self.end), action));
    }

    /// `from` to `to` - 1.
    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + u64::from(self.random.below((to - from) as u32))
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.below(100) < percent
    }

    fn any_host(&mut self) -> Host {
        self.random.below(HOSTS as u32) as usize
    }

    fn has_daemon(&self) -> bool {
        self.now >= self.daemon_back_at
    }

    /// Whether enough hosts are left without this one.
    fn can_do_without(&self, host: Host) -> bool {
        let good = |(other, seen): (usize, &Seen)| {
            other != host
                && !seen.is_out
                && !seen.is_doubtful
                && self.now >= seen.dead_until
                && self.now >= seen.gone_until
        };
        self.hosts.iter().enumerate().filter(|&entry| good(entry)).count() >= GOOD
    }

    /// Whether the config names the host, so that commands may.
    fn is_named(&self, host: Host) -> bool {
        self.now >= self.hosts[host].gone_until
    }

    fn drain(&mut self) {
        let host = self.any_host();
        if !self.has_daemon() || !self.is_named(host) || !self.can_do_without(host) {
            return;
        }
        let seen = self.hosts[host];
        let was_in = !seen.is_out && !seen.is_part && !seen.is_doubtful;
        let mut order = Order::default();
        if was_in && self.chance(20) {
            order.share = Some(self.between(10, 91) as u8);
            self.hosts[host].is_part = true;
        } else {
            // A lease that ends before the deadline has done its work is refused.
            if !seen.is_doubtful && self.chance(60) {
                let action = *self.random.one_of(&[AtDeadline::Keep, AtDeadline::Move, AtDeadline::Reset]);
                order.deadline = Some((self.between(1, 9), action));
                self.hosts[host].has_deadline = true;
            }
            self.hosts[host].is_out = true;
            self.hosts[host].is_part = false;
        }
        if self.chance(25) {
            let (from, to) = if self.hosts[host].has_deadline { (15, 22) } else { (4, 13) };
            order.lease = Some(self.between(from, to));
            self.hosts[host].is_doubtful = true;
        }
        if order == Order::default() && was_in && self.chance(35) {
            let after = self.between(0, 40);
            self.push(0, Action::DrainAndKill { host, after });
            return self.start_daemon_later();
        }
        self.push(0, Action::Drain { host, order });
    }

    fn undrain(&mut self) {
        // The longest wait for those that are out; mostly there is one.
        let first = self.any_host();
        let mut from_first = (0..HOSTS).map(|more| (first + more) % HOSTS);
        let host = from_first.find(|&host| {
            let seen = self.hosts[host];
            (seen.is_out || seen.is_part || seen.is_doubtful) && self.is_named(host)
        });
        let Some(host) = host.filter(|_| self.has_daemon()) else { return };
        let ramp = if self.chance(25) { Some(self.between(5, 20)) } else { None };
        self.push(0, Action::Undrain { host, ramp });
        let seen = &mut self.hosts[host];
        (seen.is_out, seen.is_part, seen.has_deadline) = (false, false, false);
        seen.is_doubtful = ramp.is_some();
    }

    fn kick(&mut self) {
        let host = self.any_host();
        if self.has_daemon() && self.is_named(host) {
            let rate = self.between(5, 60) as u32;
            self.push(0, Action::Kick { host, rate });
        }
    }

    fn config(&mut self) {
        if !self.has_daemon() || self.now < self.config_until {
            return;
        }
        let before = self.settings;
        let mut settings = before;
        if self.chance(60) {
            let host = self.any_host();
            settings.weights[host] = *self.random.one_of(&[50, 100, 200]);
        }
        let host = self.any_host();
        if before.without.is_some() {
            settings.without = None;
        } else if self.chance(70) && self.now >= self.hosts[host].calm_until && self.can_do_without(host) {
            // A host that leaves while it cannot be reached is lost, and its flows with it.
            settings.without = Some(host);
        }
        let way = match self.random.below(4) {
            0 => Way::Apply,
            1 => Way::Confirmed(self.between(20, 40)),
            2 if self.now + 15_000 < self.end => Way::Unconfirmed(self.between(1, 6)),
            _ => Way::Signal,
        };
        self.push(0, Action::Config { settings, way });
        if let Way::Unconfirmed(seconds) = way {
            self.config_until = self.now + seconds * 1000 + GONE;
            // It goes, or it comes and goes again.
            for host in [before.without, settings.without].into_iter().flatten() {
                let stays_away = before.without == Some(host);
                self.hosts[host].gone_until = if stays_away { u64::MAX } else { self.config_until };
            }
            return;
        }
        if let Some(host) = before.without {
            self.hosts[host].gone_until = 0;
        }
        if let Some(host) = settings.without {
            self.hosts[host].gone_until = u64::MAX;
        }
        self.settings = settings;
    }

    fn end_daemon(&mut self) {
        if !self.has_daemon() {
            return;
        }
        let end = if self.chance(65) { Action::KillDaemon } else { Action::EndDaemon };
        self.push(0, end);
        self.start_daemon_later();
    }

    fn start_daemon_later(&mut self) {
        let down = self.between(50, 3500);
        self.push(down, Action::StartDaemon);
        self.daemon_back_at = self.now + down + 1;
    }

    fn crash(&mut self) {
        let host = self.any_host();
        if self.now < self.hosts[host].calm_until || !self.can_do_without(host) {
            return;
        }
        let time = self.between(500, 5000);
        self.push(0, Action::Crash(host));
        self.push(time, Action::Revive(host));
        self.hosts[host].dead_until = self.now + time;
        self.hosts[host].calm_until = self.now + time + CALM;
    }

    fn freeze(&mut self) {
        let host = self.any_host();
        if self.now < self.hosts[host].calm_until {
            return;
        }
        let time = self.between(200, 3000);
        self.push(0, Action::Freeze(host));
        self.push(time, Action::Thaw(host));
        self.hosts[host].calm_until = self.now + time + CALM;
    }

    fn cut(&mut self) {
        let link = if self.chance(25) { Link::Balancer } else { Link::Host(self.any_host()) };
        let time = self.between(200, 2000);
        let until = self.now + time + CALM;
        match link {
            Link::Host(host) if self.now < self.hosts[host].calm_until || !self.is_named(host) => return,
            Link::Host(host) => self.hosts[host].calm_until = until,
            Link::Balancer if self.now < self.balancer_calm_until => return,
            // All hosts wait for it.
            Link::Balancer if self.hosts.iter().any(|seen| self.now < seen.calm_until) => return,
            Link::Balancer if self.hosts.iter().any(|seen| self.now < seen.gone_until) => return,
            Link::Balancer => {
                self.balancer_calm_until = until;
                self.hosts.iter_mut().for_each(|seen| seen.calm_until = until);
            }
        }
        self.push(0, Action::Cut(link));
        self.push(time, Action::Mend(link));
    }

    fn flood(&mut self) {
        if self.now < self.flood_until {
            return;
        }
        let time = self.between(500, 3000);
        let flood = if self.chance(50) { Action::FloodSyns } else { Action::FloodGarbage };
        self.push(0, flood);
        self.push(time, Action::EndFlood);
        self.flood_until = self.now + time + 1;
    }

    fn press(&mut self) {
        if self.now >= self.press_until {
            self.push(0, Action::Press);
            self.press_until = self.now + 10_000;
        }
    }

    fn move_clock(&mut self) {
        // Any of them together are nothing, or more than the few seconds that the daemon takes two clocks' readings to differ by.
        let seconds = *self.random.one_of(&[-86_400, -600, -40, 40, 7200, 86_400]);
        self.push(0, Action::MoveClock(seconds));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(90);

    fn plans() -> impl Iterator<Item = Plan> {
        (0..300).map(|seed| plan(seed, LENGTH))
    }

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(plan(7, LENGTH), plan(7, LENGTH));
        assert_ne!(plan(7, LENGTH).steps, plan(8, LENGTH).steps);
        let sites: BTreeSet<_> = plans().map(|plan| (plan.forward, plan.pins)).collect();
        assert_eq!(sites.len(), 8);
    }

    #[test]
    fn every_kind_of_action_comes_and_within_the_time() {
        let mut kinds = BTreeSet::new();
        for plan in plans() {
            assert!(plan.steps.iter().all(|(at, _)| *at <= LENGTH));
            assert!(plan.steps.len() > 30, "{} in 90 s", plan.steps.len());
            kinds.extend(plan.steps.iter().map(|(_, action)| action.kind()));
        }
        assert_eq!(kinds.len(), 28, "{kinds:?}");
    }

    /// Plays a plan through, with nothing but what the actions say.
    #[test]
    fn what_is_broken_is_mended_and_enough_is_left() {
        for plan in plans() {
            let (mut daemon, mut flood) = (true, false);
            let (mut dead, mut frozen, mut out) = ([false; HOSTS], [false; HOSTS], [false; HOSTS]);
            let (mut cut, mut balancer) = ([false; HOSTS], false);
            let (mut settings, mut gone) = (Settings::default(), [false; HOSTS]);
            for (at, action) in &plan.steps {
                match *action {
                    Action::KillDaemon | Action::EndDaemon => assert!(std::mem::take(&mut daemon), "{at:?}"),
                    Action::StartDaemon => assert!(!std::mem::replace(&mut daemon, true), "{at:?}"),
                    Action::Config { settings: other, way } => {
                        assert!(daemon, "{at:?}: {action}");
                        gone = std::array::from_fn(|host| !settings.names(host) || !other.names(host));
                        if !matches!(way, Way::Unconfirmed(_)) {
                            settings = other;
                            gone = std::array::from_fn(|host| !settings.names(host));
                        }
                    }
                    Action::Drain { host, order } => {
                        assert!(daemon && settings.names(host), "{at:?}: {action}");
                        assert!(order.share.is_none() || order.deadline.is_none(), "{action}");
                        out[host] |= order.share.is_none();
                    }
                    Action::DrainAndKill { host, .. } => {
                        assert!(std::mem::take(&mut daemon), "{at:?}");
                        out[host] = true;
                    }
                    Action::Undrain { host, .. } => {
                        assert!(daemon && settings.names(host), "{at:?}: {action}");
                        out[host] = false;
                    }
                    Action::Kick { host, .. } => assert!(daemon && settings.names(host), "{at:?}: {action}"),
                    Action::Crash(host) => assert!(!std::mem::replace(&mut dead[host], true)),
                    Action::Revive(host) => assert!(std::mem::take(&mut dead[host])),
                    Action::Freeze(host) => {
                        assert!(!dead[host] && !std::mem::replace(&mut frozen[host], true))
                    }
                    Action::Thaw(host) => assert!(std::mem::take(&mut frozen[host])),
                    Action::Cut(Link::Host(host)) if gone[host] && !settings.names(host) => {
                        panic!("{at:?}: {action}: it would be lost")
                    }
                    Action::Cut(Link::Host(host)) => assert!(!std::mem::replace(&mut cut[host], true)),
                    Action::Mend(Link::Host(host)) => assert!(std::mem::take(&mut cut[host])),
                    Action::Cut(Link::Balancer) => assert!(!std::mem::replace(&mut balancer, true)),
                    Action::Mend(Link::Balancer) => assert!(std::mem::take(&mut balancer)),
                    Action::FloodSyns | Action::FloodGarbage => {
                        assert!(!std::mem::replace(&mut flood, true));
                    }
                    Action::EndFlood => assert!(std::mem::take(&mut flood)),
                    Action::Press | Action::MoveClock(_) => {}
                }
                let is_good = |&host: &Host| !out[host] && !dead[host] && settings.names(host);
                let good = (0..HOSTS).filter(is_good).count();
                assert!(good >= GOOD, "seed {}, {at:?}: {action}: {good} hosts are left", plan.seed);
            }
            let troubled = [dead, frozen, cut].concat().contains(&true);
            assert!(daemon && !flood && !balancer && !troubled, "seed {}", plan.seed);
            assert_eq!(settings, Settings::default(), "seed {}", plan.seed);
        }
    }
}
