//! How much each user takes: connections, requests, and lines of the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limits::{self, Rate};
use super::peer::{Access, Key, Peer};

/// Users that have gone are forgotten after so long: their buckets are full again.
const MEMORY: Duration = Duration::from_secs(60);

/// For so long after a user has shown what strangers do not have, places are kept for them.
const KNOWN: Duration = Duration::from_secs(12 * 3600);

/// Of all users; clones are the same one.
#[derive(Clone, Default)]
pub struct Meter(Arc<Mutex<Users>>);

#[derive(Default)]
struct Users {
    connections: usize,
    /// Of these, those of users who may do nothing.
    strangers: usize,
    by_key: HashMap<Key, User>,
}

struct User {
    connections: usize,
    seen: Instant,
    requests: Bucket,
    files: Bucket,
    refusals: Bucket,
    log: Bucket,
    /// Refusals since the last one that was logged.
    unlogged: u64,
    /// When they last showed that they are no stranger.
    known: Option<Instant>,
}

impl User {
    fn is_known(&self, now: Instant) -> bool {
        self.known.is_some_and(|known| now.duration_since(known) < KNOWN)
    }
}

/// A place among the connections, given back when it is dropped.
pub struct Seat {
    meter: Meter,
    key: Key,
    is_strangers: bool,
}

/// A token bucket.
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub fn full(rate: Rate, now: Instant) -> Self {
        Bucket { tokens: rate.at_once, at: now }
    }

    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let enough = self.has(rate, now);
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

impl Bucket {
    /// Whether there is something to take.
    pub fn has(&mut self, rate: Rate, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.a_second).min(rate.at_once);
        self.at = now;
        self.tokens >= 1.0
    }

    /// When something was last taken, or looked for.
    pub fn at(&self) -> Instant {
        self.at
    }
}

impl Meter {
    /// A place for one more connection, or why there is none.
    pub fn seat(&self, peer: &Peer) -> Result<Seat, &'static str> {
        let now = Instant::now();
        let mut users = self.users();
        users.by_key.retain(|_, user| {
            user.connections > 0 || now.duration_since(user.seen) < MEMORY || user.is_known(now)
        });
        let (is_own, is_strangers) = (peer.access == Access::Own, peer.access == Access::None);
        let is_known = users.by_key.get(&peer.key()).is_some_and(|user| user.is_known(now));
        let places = limits::CONNECTIONS - if is_own || is_known { 0 } else { limits::RESERVED };
        if users.connections >= places {
            return Err("there are too many connections");
        }
        if is_strangers && users.strangers >= limits::OF_STRANGERS {
            return Err("there are too many connections of users who may do nothing here");
        }
        let user = users.user(peer.key(), now);
        if !is_own && user.connections >= limits::OF_A_USER {
            return Err("this user has too many connections");
        }
        user.connections += 1;
        users.connections += 1;
        users.strangers += usize::from(is_strangers);
        Ok(Seat { meter: self.clone(), key: peer.key(), is_strangers })
    }

    /// The user is no stranger, which nobody knows of a connection before it has asked for something: their next ones take the places that
    /// are kept from strangers.
    pub fn knows(&self, peer: &Peer) {
        let now = Instant::now();
        self.users().user(peer.key(), now).known = Some(now);
    }

    /// Whether one more request is within the user's rate.
    pub fn may_ask(&self, peer: &Peer) -> bool {
        let now = Instant::now();
        peer.access == Access::Own || self.users().user(peer.key(), now).requests.take(limits::RATE, now)
    }

    /// Whether one more file of the page is within the rate of these.
    pub fn may_fetch(&self, peer: &Peer) -> bool {
        let now = Instant::now();
        self.users().user(peer.key(), now).files.take(limits::FILES, now)
    }

    /// Whether one more refusal is to be explained. It takes nothing from what the same user may ask for: another site may make a browser send
    /// what is refused.
    pub fn may_be_refused(&self, peer: &Peer) -> bool {
        let now = Instant::now();
        self.users().user(peer.key(), now).refusals.take(limits::RATE, now)
    }

    /// Logs a refusal; those of a user that come too fast are counted, and the next line tells how many.
    pub fn log_refusal(&self, peer: &Peer, what: &str) {
        let now = Instant::now();
        let mut users = self.users();
        let user = users.user(peer.key(), now);
        if !user.log.take(limits::LOG, now) {
            user.unlogged += 1;
            return;
        }
        let unlogged = std::mem::take(&mut user.unlogged);
        drop(users);
        match unlogged {
            0 => log::warn!("refused {peer}: {what}"),
            more => log::warn!("refused {peer}: {what}; and {more} times before this, too fast to log"),
        }
    }

    /// Whole after each operation.
    fn users(&self) -> MutexGuard<'_, Users> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    fn user(&mut self, key: Key, now: Instant) -> &mut User {
        let user = self.by_key.entry(key).or_insert_with(|| User {
            connections: 0,
            seen: now,
            requests: Bucket::full(limits::RATE, now),
            files: Bucket::full(limits::FILES, now),
            refusals: Bucket::full(limits::RATE, now),
            log: Bucket::full(limits::LOG, now),
            unlogged: 0,
            known: None,
        });
        user.seen = now;
        user
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut users = self.meter.users();
        users.connections -= 1;
        users.strangers -= usize::from(self.is_strangers);
        if let Some(user) = users.by_key.get_mut(&self.key) {
            user.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::tests::somebody;
    use super::*;

    #[test]
    fn users_leave_places_for_one_another_and_for_root() {
        let meter = Meter::default();
        let mut seats = Vec::new();
        let mut users = 0;
        // Whoever comes, with as many connections as they get.
        while let Ok(seat) = meter.seat(&somebody(1000 + users, Access::Read)) {
            seats.push(seat);
            while let Ok(seat) = meter.seat(&somebody(1000 + users, Access::Change)) {
                seats.push(seat);
            }
            users += 1;
        }
        assert_eq!(users as usize, (limits::CONNECTIONS - limits::RESERVED) / limits::OF_A_USER);
        assert_eq!(seats.len(), limits::CONNECTIONS - limits::RESERVED);
        let root: Vec<_> =
            (0..limits::RESERVED).map(|_| meter.seat(&somebody(0, Access::Own)).unwrap()).collect();
        assert!(meter.seat(&somebody(0, Access::Own)).is_err());
        drop(seats);
        assert!(meter.seat(&somebody(1000, Access::Read)).is_ok());
        drop(root);
        assert_eq!(meter.users().connections, 0);
    }

    #[test]
    fn strangers_have_one_small_share_together() {
        let meter = Meter::default();
        let strangers: Vec<_> =
            (0..1000).map_while(|n| meter.seat(&somebody(2000 + n % 50, Access::None)).ok()).collect();
        assert_eq!(strangers.len(), limits::OF_STRANGERS);
        let mut seats = Vec::new();
        for user in 0.. {
            let Ok(seat) = meter.seat(&somebody(1000 + user / 32, Access::Read)) else { break };
            seats.push(seat);
        }
        assert_eq!(seats.len(), limits::CONNECTIONS - limits::RESERVED - limits::OF_STRANGERS);
        drop(strangers);
        assert!(meter.seat(&somebody(2000, Access::None)).is_ok());
    }

    #[test]
    fn who_is_known_finds_a_place_when_strangers_have_taken_theirs() {
        let meter = Meter::default();
        let page = |n: u8| Peer::of_page([192, 0, 2, n].into(), Access::Read, None);
        meter.knows(&page(1));
        let strangers: Vec<_> = (0..1000).map_while(|n| meter.seat(&page(2 + (n / 32) as u8)).ok()).collect();
        assert_eq!(strangers.len(), limits::CONNECTIONS - limits::RESERVED);
        assert!(meter.seat(&page(250)).is_err());
        let known: Vec<_> = (0..1000).map_while(|_| meter.seat(&page(1)).ok()).collect();
        assert_eq!(known.len(), limits::OF_A_USER);
    }

    #[test]
    fn a_bucket_fills_with_time_and_not_beyond_its_brim() {
        let (rate, start) = (Rate { a_second: 2.0, at_once: 3.0 }, Instant::now());
        let mut bucket = Bucket::full(rate, start);
        let mut taken = |after: u64| {
            let now = start + Duration::from_millis(after);
            std::iter::from_fn(|| bucket.take(rate, now).then_some(())).count()
        };
        assert_eq!([taken(0), taken(400), taken(600), taken(1600), taken(100_000)], [3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_user_who_asks_too_much_is_refused_and_others_are_not() {
        let meter = Meter::default();
        let fast = somebody(1000, Access::Read);
        let asked = (0..1000).filter(|_| meter.may_ask(&fast)).count();
        assert!((100..200).contains(&asked), "{asked}");
        assert!(meter.may_ask(&somebody(1001, Access::Read)));
        assert!((0..1000).all(|_| meter.may_ask(&somebody(0, Access::Own))));
    }
}
