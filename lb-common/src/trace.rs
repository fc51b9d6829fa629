//! Which packets are shown to who traces: asked twice, before the decision about what the packet itself tells, and after it about the rest.

use crate::layout::{DecisionRecord, Side, TraceCounts, TraceFilter, Tuple};
use crate::parse::{ICMP, ICMPV6, What};
use crate::reason::REASONS;

const _: () = assert!(REASONS <= 64, "a filter has a bit for each reason");

/// Who a packet is between: of a backend's answer the client is who it is sent to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    pub client: [u64; 2],
    pub vip: [u64; 2],
    /// Host byte order.
    pub client_port: u16,
    pub vip_port: u16,
}

impl Ends {
    /// Of a packet as its client sends it.
    #[inline(always)]
    pub fn of(tuple: &Tuple) -> Self {
        Ends {
            client: tuple.source,
            vip: tuple.destination,
            client_port: tuple.source_port(),
            vip_port: tuple.destination_port(),
        }
    }

    /// Of a backend's answer. Whose name it answers in takes a look at its service.
    #[inline(always)]
    pub fn of_answer(tuple: &Tuple, vip: [u64; 2], vip_port: u16) -> Self {
        Ends { client: tuple.destination, vip, client_port: tuple.destination_port(), vip_port }
    }
}

impl TraceFilter {
    /// Whether a packet of TCP or UDP may be wanted, as far as itself tells. Without [`Self::LATE`] it is.
    #[inline(always)]
    pub fn may_want(&self, tuple: &Tuple) -> bool {
        let protocol = self.protocol as u32;
        if protocol != 0 && protocol != tuple.protocol {
            return false;
        }
        let ends = Ends::of(tuple);
        if self.flags & Self::REPLIES == 0 {
            return self.is_between(&ends);
        }
        let answer = Ends::of_answer(tuple, ends.vip, ends.vip_port);
        self.is_client(&ends) || self.is_client(&answer)
    }

    /// Whether a packet is wanted of which the decision is known, with its verdict.
    #[inline(always)]
    pub fn wants(&self, record: &DecisionRecord, verdict: u32, ends: &Ends) -> bool {
        if self.reasons >> (record.reason & 63) & 1 == 0 || self.verdicts >> (verdict & 7) & 1 == 0 {
            return false;
        }
        let has_service = record.side != Side::None as u8;
        if self.service != Self::ANY_SERVICE && !(has_service && self.service == record.service) {
            return false;
        }
        if self.host != 0 && self.host != record.host {
            return false;
        }
        self.is_of_protocol(record) && self.is_between(ends)
    }

    #[inline(always)]
    fn is_of_protocol(&self, record: &DecisionRecord) -> bool {
        match self.protocol {
            0 => true,
            // Errors about flows are of the flow's protocol, too.
            ICMP => {
                record.what == What::Icmp as u8 + 1
                    || matches!(record.tuple.protocol as u8, ICMP | ICMPV6) && record.what != 0
            }
            protocol => protocol as u32 == record.tuple.protocol && record.what != 0,
        }
    }

    #[inline(always)]
    fn is_between(&self, ends: &Ends) -> bool {
        self.is_client(ends)
            && is_in(ends.vip, self.vip, self.vip_mask)
            && self.first_port <= ends.vip_port
            && ends.vip_port <= self.last_port
    }

    #[inline(always)]
    fn is_client(&self, ends: &Ends) -> bool {
        is_in(ends.client, self.client, self.client_mask)
            && (self.client_port == 0 || self.client_port == ends.client_port)
    }
}

#[inline(always)]
fn is_in(address: [u64; 2], prefix: [u64; 2], mask: [u64; 2]) -> bool {
    (address[0] & mask[0] ^ prefix[0]) | (address[1] & mask[1] ^ prefix[1]) == 0
}

impl TraceCounts {
    /// One more packet is wanted: whether it is the one of `every` that stands for the others.
    #[inline(always)]
    pub fn sample(&mut self, every: u32) -> bool {
        self.wanted += 1;
        if self.skip != 0 {
            self.skip -= 1;
            self.sampled += 1;
            return false;
        }
        self.skip = (every as u64).saturating_sub(1);
        true
    }
}

/// The word of a budget once one more has been taken out of it: the second in its upper half, what was taken in it in the lower. `None`:
/// all of `rate` has been.
#[inline(always)]
pub fn taken(word: u64, rate: u32, now: u32) -> Option<u64> {
    let in_this = if (word >> 32) as u32 == now { word as u32 } else { 0 };
    if in_this >= rate { None } else { Some((now as u64) << 32 | (in_this + 1) as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    const CLIENT: [u64; 2] = Tuple::v4(u32::from_ne_bytes([198, 51, 100, 7]));
    const VIP: [u64; 2] = Tuple::v4(u32::from_ne_bytes([203, 0, 113, 10]));

    fn tuple(source: [u64; 2], from: u16, destination: [u64; 2], to: u16, protocol: u32) -> Tuple {
        let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
        Tuple { source, destination, ports: u32::from_ne_bytes([a, b, c, d]), protocol }
    }

    fn any() -> TraceFilter {
        TraceFilter {
            reasons: u64::MAX,
            verdicts: u8::MAX,
            last_port: u16::MAX,
            service: TraceFilter::ANY_SERVICE,
            every: 1,
            ..TraceFilter::default()
        }
    }

    fn record(tuple: Tuple) -> DecisionRecord {
        DecisionRecord {
            tuple,
            what: What::Flow as u8 + 1,
            side: Side::Client as u8,
            service: 5,
            host: 3,
            reason: Reason::ForwardPin as u32,
            ..DecisionRecord::default()
        }
    }

    #[test]
    fn each_part_of_a_filter_can_keep_a_packet_back() {
        let packet = tuple(CLIENT, 40_000, VIP, 80, 6);
        let client = TraceFilter { client: CLIENT, client_mask: [u64::MAX; 2], ..any() };
        let other = tuple(VIP, 40_000, VIP, 80, 6);
        for (filter, at_first, wanted) in [
            (any(), true, true),
            (client, true, true),
            (TraceFilter { client: VIP, ..client }, false, false),
            (TraceFilter { client_port: 40_000, ..any() }, true, true),
            (TraceFilter { client_port: 40_001, ..any() }, false, false),
            (TraceFilter { first_port: 80, last_port: 80, ..any() }, true, true),
            (TraceFilter { first_port: 81, ..any() }, false, false),
            (TraceFilter { last_port: 79, ..any() }, false, false),
            (TraceFilter { vip: VIP, vip_mask: [u64::MAX; 2], ..any() }, true, true),
            (TraceFilter { vip: CLIENT, vip_mask: [u64::MAX; 2], ..any() }, false, false),
            (TraceFilter { protocol: 6, ..any() }, true, true),
            (TraceFilter { protocol: 17, ..any() }, false, false),
            (TraceFilter { protocol: ICMP, ..any() }, false, false),
            (TraceFilter { service: 5, ..any() }, true, true),
            (TraceFilter { service: 4, ..any() }, true, false),
            (TraceFilter { host: 3, ..any() }, true, true),
            (TraceFilter { host: 4, ..any() }, true, false),
            (TraceFilter { verdicts: 1 << 3, ..any() }, true, true),
            (TraceFilter { verdicts: 1 << 1, ..any() }, true, false),
            (TraceFilter { reasons: 1 << Reason::ForwardPin as u32, ..any() }, true, true),
            (TraceFilter { reasons: !(1 << Reason::ForwardPin as u32), ..any() }, true, false),
        ] {
            assert_eq!(filter.may_want(&packet), at_first, "{filter:?}");
            assert_eq!(filter.wants(&record(packet), 3, &Ends::of(&packet)), wanted, "{filter:?}");
        }
        assert!(!client.may_want(&other));
    }

    #[test]
    fn prefixes_count_as_far_as_their_mask() {
        let net = TraceFilter {
            client: [CLIENT[0], CLIENT[1] & 0x00ff_ffff_ffff_ffff],
            client_mask: [u64::MAX, 0x00ff_ffff_ffff_ffff],
            ..any()
        };
        let neighbour = Tuple::v4(u32::from_ne_bytes([198, 51, 100, 99]));
        assert!(net.may_want(&tuple(neighbour, 1, VIP, 1, 6)));
        assert!(!net.may_want(&tuple(Tuple::v4(u32::from_ne_bytes([198, 51, 101, 7])), 1, VIP, 1, 6)));
    }

    #[test]
    fn the_client_of_an_answer_is_who_it_is_sent_to() {
        let backend = Tuple::v4(u32::from_ne_bytes([10, 0, 0, 1]));
        let answer = tuple(backend, 8080, CLIENT, 40_000, 6);
        let of_client =
            TraceFilter { client: CLIENT, client_mask: [u64::MAX; 2], client_port: 40_000, ..any() };
        assert!(!of_client.may_want(&answer), "nobody translates");
        let late = TraceFilter { flags: TraceFilter::REPLIES | TraceFilter::LATE, ..of_client };
        assert!(late.may_want(&answer));
        let told = DecisionRecord { side: Side::Backend as u8, ..record(answer) };
        let ends = Ends::of_answer(&answer, VIP, 80);
        assert!(late.wants(&told, 3, &ends));
        let of_vip = TraceFilter { vip: VIP, vip_mask: [u64::MAX; 2], first_port: 80, last_port: 80, ..late };
        assert!(of_vip.wants(&told, 3, &ends));
        assert!(!of_vip.wants(&told, 3, &Ends::of_answer(&answer, VIP, 81)));
    }

    #[test]
    fn icmp_is_that_of_both_families_and_errors_about_flows() {
        let icmp = TraceFilter { protocol: ICMP, ..any() };
        for (protocol, what, wanted) in [
            (1, What::Icmp, true),
            (58, What::Icmp, true),
            (6, What::Icmp, true),
            (6, What::Flow, false),
            (17, What::Later, false),
        ] {
            let packet = tuple(CLIENT, 0, VIP, 0, protocol);
            let told = DecisionRecord { what: what as u8 + 1, ..record(packet) };
            assert_eq!(icmp.wants(&told, 3, &Ends::of(&packet)), wanted, "{protocol} {what:?}");
        }
        let unread = DecisionRecord { what: 0, ..record(Tuple::default()) };
        assert!(any().wants(&unread, 2, &Ends::default()));
        assert!(!icmp.wants(&unread, 2, &Ends::default()));
    }

    #[test]
    fn one_of_many_is_shown_and_all_are_counted() {
        let mut counts = TraceCounts::default();
        let shown = (0..10).filter(|_| counts.sample(4)).count();
        assert_eq!((shown, counts.wanted, counts.sampled), (3, 10, 7));
        let shown = (0..10).filter(|_| counts.sample(1)).count();
        assert_eq!((shown, counts.wanted), (8, 20), "two were still to be passed over");
    }

    #[test]
    fn a_budget_is_for_a_second() {
        let mut word = 0;
        for number in 1..=3 {
            word = taken(word, 3, 77).unwrap();
            assert_eq!(word, 77 << 32 | number);
        }
        assert_eq!(taken(word, 3, 77), None);
        assert_eq!(taken(word, 3, 78), Some(78 << 32 | 1));
        assert_eq!(taken(0, 0, 78), None);
    }
}
