//! How a drain is bounded: by a deadline with an action, and by a lease.

use crate::api::types::{AtDeadline, DrainRequest, Order};
use crate::ring::SHARE_FULL;

/// Longest time to a deadline, seconds: 30 days.
const MAX_DEADLINE: u64 = 30 * 86_400;
/// Longest lease, seconds: a year.
const MAX_LEASE: u64 = 366 * 86_400;
/// Flows a second that meet their ends at a deadline, at most. So many that come back at once are no burden for a backend.
const FLOWS_A_SECOND: u64 = 1000;
/// Seconds after the deadline and its spread in which a flow's next packet is waited for; what has sent none by then is silent.
const PATIENCE: u64 = 5;

/// What of an order was asked for. Times are seconds from now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    pub deadline: Option<u64>,
    pub at_deadline: Option<AtDeadline>,
    pub lease: Option<u64>,
    /// Percent of the slots.
    pub share: Option<u8>,
}

/// Why an order cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the drain has no deadline at which it could {} flows", name(*.0))]
    NoDeadline(AtDeadline),
    #[error("the deadline is more than 30 days ahead")]
    DeadlineTooFar,
    #[error("the lease is shorter than a second")]
    LeaseTooShort,
    #[error("the lease is longer than a year")]
    LeaseTooLong,
    #[error("the lease runs out before the deadline has ended all flows, so that would never be done")]
    LeaseBeforeDeadline,
    #[error("a share is from 1% to 99% of the slots")]
    NoShare,
    #[error("a drain of a part of the slots has no deadline: the data path has one for a whole host only")]
    PartWithDeadline,
    #[error("it is drained as a whole already")]
    WholeAlready,
    #[error("it gives up a part of its slots for all services already")]
    PartAlready,
    #[error("it is drained for some of its services already")]
    ServicesAlready,
    #[error("a part of the slots is given up for all services and clients")]
    PartOfService,
    #[error("it is drained for some of these clients already")]
    ClientsAlready,
    #[error("it is on its way back, with less than its full share")]
    Ramping,
}

impl Refusal {
    /// What to do about it.
    pub fn mend(self) -> &'static str {
        match self {
            Refusal::NoDeadline(_) => "give the drain a deadline too, such as 10m; 0s is at once",
            Refusal::DeadlineTooFar => {
                "give a nearer one, or none: a drain takes its time, and may be given a deadline later"
            }
            Refusal::LeaseTooShort => {
                "give a longer one, such as 2h; `sluice undrain` takes a host back at once"
            }
            Refusal::LeaseTooLong => {
                "give a shorter one, or none: then the host stays out until it is undrained"
            }
            Refusal::NoShare => "give one of these, or none: then the host gives up all",
            Refusal::PartWithDeadline => {
                "leave the deadline out, and end what stays for too long with `sluice kick`; or drain the whole host"
            }
            Refusal::WholeAlready | Refusal::Ramping | Refusal::PartAlready | Refusal::ServicesAlready => {
                "undrain it first, or drain the whole host"
            }
            Refusal::PartOfService => "give a share, or a service or clients",
            Refusal::ClientsAlready => {
                "undrain it for these first, as `sluice drains` names them, or drain the whole host"
            }
            Refusal::LeaseBeforeDeadline => {
                "give a longer lease, or a nearer deadline, or keep the flows at it"
            }
        }
    }
}

fn name(action: AtDeadline) -> &'static str {
    match action {
        AtDeadline::Keep => "keep",
        AtDeadline::Move => "move",
        AtDeadline::Reset => "reset",
    }
}

impl From<&DrainRequest> for Wish {
    fn from(request: &DrainRequest) -> Self {
        let &DrainRequest { deadline, at_deadline, lease, share, .. } = request;
        Wish { deadline, at_deadline, lease, share }
    }
}

impl Wish {
    /// The order of a drain that had `before` (the default: of a new one), by what was asked for at `now`, a Unix time.
    /// `live` flows are there to be ended: from them comes the spread, which then stays.
    pub fn order(&self, before: Order, now: u64, live: u64) -> Result<Order, Refusal> {
        if self.share.is_some_and(|share| !(1..=99).contains(&share)) {
            return Err(Refusal::NoShare);
        }
        let mut order = Order { share: self.share, ..before };
        if let Some(seconds) = self.deadline {
            if seconds > MAX_DEADLINE {
                return Err(Refusal::DeadlineTooFar);
            }
            order.deadline = Some(now + seconds);
        }
        order.at_deadline = self.at_deadline.unwrap_or(before.at_deadline);
        if order.at_deadline != AtDeadline::Keep && order.deadline.is_none() {
            return Err(Refusal::NoDeadline(order.at_deadline));
        }
        if order.share.is_some() && order.deadline.is_some() {
            return Err(Refusal::PartWithDeadline);
        }
        if (order.deadline, order.at_deadline) != (before.deadline, before.at_deadline) {
            order.spread = spread(order.at_deadline, live);
        }
        order.lease = self.lease_end(now)?.or(before.lease);
        if order != before && order.lease.zip(order.all_ended_at()).is_some_and(|(lease, end)| lease <= end) {
            return Err(Refusal::LeaseBeforeDeadline);
        }
        Ok(order)
    }

    /// The order of a drain that is done: only its lease still means something.
    pub fn renewed(&self, before: Order, now: u64) -> Result<Order, Refusal> {
        Ok(Order { lease: self.lease_end(now)?.or(before.lease), ..before })
    }

    fn lease_end(&self, now: u64) -> Result<Option<u64>, Refusal> {
        match self.lease {
            Some(0) => Err(Refusal::LeaseTooShort),
            Some(seconds) if seconds > MAX_LEASE => Err(Refusal::LeaseTooLong),
            lease => Ok(lease.map(|seconds| now + seconds)),
        }
    }
}

/// Seconds in which so many flows meet their ends.
fn spread(action: AtDeadline, live: u64) -> u16 {
    if action == AtDeadline::Keep || live <= FLOWS_A_SECOND {
        return 0;
    }
    u16::try_from(live.div_ceil(FLOWS_A_SECOND)).unwrap_or(u16::MAX)
}

impl Order {
    /// Unix second by which each flow's second has come, if the deadline ends flows.
    fn all_ended_at(&self) -> Option<u64> {
        let deadline = self.deadline.filter(|_| self.at_deadline != AtDeadline::Keep)?;
        Some(deadline + u64::from(self.spread))
    }

    /// The share that the host keeps, in 256ths.
    pub fn keeps(&self) -> u16 {
        self.share.map_or(0, |share| SHARE_FULL - SHARE_FULL * u16::from(share) / 100)
    }

    /// At `now` the data path lets no flow stay, and names the host to none that it does not know.
    pub fn ends_all(&self, now: u64) -> bool {
        self.all_ended_at().is_some_and(|end| now >= end)
    }

    /// What is left at `now` has had its time to speak.
    pub fn ends_silent(&self, now: u64) -> bool {
        self.silent_ended_at().is_some_and(|end| now >= end)
    }

    /// Unix second from which on no flow is left, spoken or not.
    pub fn silent_ended_at(&self) -> Option<u64> {
        Some(self.all_ended_at()? + PATIENCE)
    }

    /// The deadline has passed, and lets flows go on: since when.
    pub fn overdue_since(&self, now: u64) -> Option<u64> {
        self.deadline.filter(|&deadline| self.at_deadline == AtDeadline::Keep && now >= deadline)
    }

    pub fn is_lease_over(&self, now: u64) -> bool {
        self.lease.is_some_and(|lease| now >= lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn order(
        deadline: Option<u64>,
        action: Option<AtDeadline>,
        lease: Option<u64>,
    ) -> Result<Order, Refusal> {
        Wish { deadline, at_deadline: action, lease, share: None }.order(Order::default(), NOW, 10)
    }

    #[test]
    fn a_wish_becomes_an_order_in_unix_time() {
        assert_eq!(order(None, None, None), Ok(Order::default()));
        assert_eq!(order(None, Some(AtDeadline::Keep), None), Ok(Order::default()));
        assert_eq!(
            order(Some(600), Some(AtDeadline::Reset), Some(7200)),
            Ok(Order {
                deadline: Some(NOW + 600),
                at_deadline: AtDeadline::Reset,
                lease: Some(NOW + 7200),
                ..Order::default()
            })
        );
        assert_eq!(order(Some(0), None, None).map(|order| order.deadline), Ok(Some(NOW)));
    }

    #[test]
    fn nonsense_is_refused() {
        let reset = Some(AtDeadline::Reset);
        assert_eq!(order(None, reset, None), Err(Refusal::NoDeadline(AtDeadline::Reset)));
        assert_eq!(order(None, None, Some(0)), Err(Refusal::LeaseTooShort));
        assert_eq!(order(None, None, Some(MAX_LEASE + 1)), Err(Refusal::LeaseTooLong));
        assert_eq!(order(Some(MAX_DEADLINE + 1), None, None), Err(Refusal::DeadlineTooFar));
        assert_eq!(order(Some(u64::MAX), None, None), Err(Refusal::DeadlineTooFar));
        assert!(order(Some(MAX_DEADLINE), reset, Some(MAX_LEASE)).is_ok());
        assert_eq!(order(Some(60), reset, Some(60)), Err(Refusal::LeaseBeforeDeadline));
        assert!(order(Some(60), None, Some(60)).is_ok(), "flows that are kept need no time after it");
    }

    #[test]
    fn a_part_has_no_deadline() {
        let part = Wish { share: Some(25), ..Wish::default() };
        let order = |wish: Wish| wish.order(Order::default(), NOW, 0);
        assert_eq!(order(part), Ok(Order { share: Some(25), ..Order::default() }));
        assert_eq!(order(Wish { deadline: Some(60), ..part }), Err(Refusal::PartWithDeadline));
        let reset = Wish { at_deadline: Some(AtDeadline::Reset), ..part };
        assert_eq!(order(reset), Err(Refusal::NoDeadline(AtDeadline::Reset)));
        assert!(order(Wish { lease: Some(60), ..part }).is_ok());
        for share in [0, 100, 255] {
            assert_eq!(order(Wish { share: Some(share), ..part }), Err(Refusal::NoShare));
        }
        let keeps = |share| Order { share, ..Order::default() }.keeps();
        assert_eq!([Some(25), Some(1), Some(99), None].map(keeps), [192, 254, 3, 0]);
        let whole = Wish::default().order(order(part).unwrap(), NOW, 0);
        assert_eq!(whole, Ok(Order::default()), "what names no share is of the whole host");
    }

    #[test]
    fn what_is_not_named_stays_as_it_was() {
        let before = order(Some(600), Some(AtDeadline::Move), Some(7200)).unwrap();
        let amend = |wish: Wish, live| wish.order(before, NOW + 100, live);
        assert_eq!(amend(Wish::default(), 1 << 20), Ok(before), "nor is the spread chosen anew");
        let lease = Wish { lease: Some(9000), ..Wish::default() };
        assert_eq!(amend(lease, 5000), Ok(Order { lease: Some(NOW + 9100), ..before }));
        let action = Wish { at_deadline: Some(AtDeadline::Reset), ..Wish::default() };
        assert_eq!(amend(action, 5000), Ok(Order { at_deadline: AtDeadline::Reset, spread: 5, ..before }));
        let later = Wish { deadline: Some(900), ..Wish::default() };
        assert_eq!(amend(later, 1001), Ok(Order { deadline: Some(NOW + 1000), spread: 2, ..before }));
        let shorter = Wish { lease: Some(10), ..Wish::default() };
        assert_eq!(amend(shorter, 0), Err(Refusal::LeaseBeforeDeadline));
        let (all, renewed) = (Wish { lease: Some(10), ..later }, Order { lease: Some(NOW + 110), ..before });
        assert_eq!(all.renewed(before, NOW + 100), Ok(renewed), "of a drain that is done");
    }

    #[test]
    fn many_flows_are_ended_over_some_time() {
        let seconds = |live| spread(AtDeadline::Reset, live);
        assert_eq!([0, 1000, 1001, 100_000].map(seconds), [0, 0, 2, 100]);
        assert_eq!(seconds(u64::MAX), u16::MAX);
        assert_eq!(spread(AtDeadline::Keep, 1 << 20), 0);
    }

    #[test]
    fn the_second_of_the_deadline_belongs_to_it() {
        let kept = order(Some(60), None, None).unwrap();
        assert_eq!([NOW + 59, NOW + 60].map(|now| kept.overdue_since(now)), [None, Some(NOW + 60)]);
        assert!(!kept.ends_all(u64::MAX) && !kept.ends_silent(u64::MAX));
        let moved = Order { at_deadline: AtDeadline::Move, spread: 7, ..kept };
        assert_eq!([NOW + 66, NOW + 67].map(|now| moved.ends_all(now)), [false, true]);
        assert_eq!([NOW + 71, NOW + 72].map(|now| moved.ends_silent(now)), [false, true]);
        assert_eq!(moved.overdue_since(u64::MAX), None);
        let leased = order(None, None, Some(1)).unwrap();
        assert_eq!([NOW, NOW + 1].map(|now| leased.is_lease_over(now)), [false, true]);
    }
}
