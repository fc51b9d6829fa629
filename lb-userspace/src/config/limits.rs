//! Defaults and bounds of the fields, and the reason for each.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{Forward, Retention, Timeouts, VipMode, XdpMode};

/// The values of fields that the file leaves out.
pub mod default {
    use super::*;

    pub const XDP_MODE: XdpMode = XdpMode::Auto;
    pub const VIP_MODE: VipMode = VipMode::External;
    /// Enough for services of up to 655 hosts.
    pub const RING_SIZE: u32 = 65_537;
    pub const PINS: u32 = 1_000_000;
    /// Part of the pins that the overflow map has room for by default: one in so many. Half full, the table lets less than one
    /// in a thousand overflow.
    pub const PINS_AN_OVERFLOW: u32 = 25;
    pub const FLOOD_GATE: u32 = 0;
    pub const TIMEOUTS: Timeouts = Timeouts {
        half_open: Duration::from_secs(64),
        established: Duration::from_secs(15 * 60),
        closing: Duration::from_secs(30),
        udp: Duration::from_secs(90),
        udp_gap: Duration::from_secs(2),
    };
    pub const RETENTION: Retention =
        Retention { keep_for: Duration::from_secs(365 * 24 * 60 * 60), keep_revisions: 10_000 };
    pub const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
    pub const WEIGHT: u16 = 100;
    pub const FORWARD: Forward = Forward::L2;
    /// The port that GUE has by IANA's registry.
    pub const GUE_PORT: u16 = lb_common::decap::GUE_PORT;
}

/// A host is numbered in 12 bits of a pin and of a slot, some numbers of which are reserved.
pub const MAX_HOSTS: usize = 4094;
/// Each set of hosts with its own members takes a ring.
pub const MAX_MEMBER_SETS: usize = 64;
pub const MAX_SERVICES: usize = 10_000;
/// Records of services in the data path: one a protocol and port or range. A third of its places, so that searches are short.
pub const MAX_RECORDS: usize = 10_240;
const _: () = assert!(MAX_RECORDS * 3 <= lb_common::layout::PLACES);
/// Ranges of ports of one address and protocol: their records are searched one after the other.
pub const MAX_RANGES: usize = 16;
const _: () = assert!(MAX_RANGES * 2 <= lb_common::services::PROBES as usize);
/// Lengths of prefixes that VIPs have: each is another search.
pub const MAX_PREFIX_LENGTHS: usize = lb_common::layout::PREFIXES;
/// Lengths of VIPs' prefixes: a shorter one is a slip.
pub const VIP_V4: RangeInclusive<u8> = 8..=32;
pub const VIP_V6: RangeInclusive<u8> = 32..=128;
/// Of prefixes that outer headers come from; with no bit left nothing would spread.
pub const OUTER_V4: RangeInclusive<u8> = 8..=31;
pub const OUTER_V6: RangeInclusive<u8> = 32..=127;
/// From the least that every IPv4 host takes (RFC 9293, 3.7.1) to what the largest packet holds.
pub const MSS: RangeInclusive<u16> = 536..=65_495;
/// Sets of timeouts that services have of their own: a pin has 2 bits for its set, and one set is the instance's.
pub const MAX_OWN_TIMEOUTS: usize = lb_common::flow::TIMEOUT_SETS - 1;
/// Pairs of a service and a host.
pub const MAX_BACKENDS: usize = 16_384;

/// Slots that a member needs for its share to come within about a hundredth of its weight.
pub const SLOTS_PER_MEMBER: u32 = 100;
/// The smallest prime that serves one member, and the largest below 2^20.
pub const RING_SIZE: RangeInclusive<u32> = 101..=1_048_573;
pub const PINS: RangeInclusive<u32> = 1024..=16_777_216;
/// Elements of the kernel's hash map come and go one by one, at some 170 bytes each.
pub const OVERFLOW: RangeInclusive<u32> = 1024..=4_194_304;
pub const FLOOD_GATE: RangeInclusive<u32> = 0..=100_000_000;
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
/// Of revisions in the journal.
pub const KEEP_FOR: RangeInclusive<Duration> =
    Duration::from_secs(60 * 60)..=Duration::from_secs(3650 * 24 * 60 * 60);
/// From what stays anyway.
pub const KEEP_REVISIONS: RangeInclusive<u32> = 100..=1_000_000;

/// Checks of one service.
pub const MAX_CHECKS: usize = 8;
/// Checks of all hosts of all services.
pub const MAX_ALL_CHECKS: usize = 65_536;
/// Of checks: interval and timeout, whole milliseconds.
pub const PACE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60 * 60);
/// Runs in a row.
pub const RUNS: RangeInclusive<u32> = 1..=100;
/// Of passive checks: seconds that samples are kept for.
pub const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// Of passive checks: with fewer flows chance would decide.
pub const LEAST_FLOWS: RangeInclusive<u32> = 5..=1_000_000;
/// Bytes of what a check sends or expects: a datagram that fits any path.
pub const MAX_PAYLOAD: usize = 1024;

/// Letters of a host's or service's name: they appear in metrics and on command lines.
pub const MAX_NAME: usize = 63;
/// Letters of a path, as PATH_MAX has it.
pub const MAX_PATH: usize = 4095;
/// Names of the page.
pub const MAX_UI_NAMES: usize = 16;
/// What commands call the balancer itself, so that no host can have the name.
pub const SELF: &str = "self";
/// `IFNAMSIZ` of `linux/if.h` less the terminating zero.
pub const MAX_INTERFACE_NAME: usize = 15;
/// Bytes of a hook's command; what is longer is a script of its own.
pub const MAX_COMMAND: usize = 4096;
/// Bytes of a config file; the largest that keeps all other limits is a quarter of this.
pub const MAX_FILE: u64 = 16 << 20;

/// By trial division: at most a thousand steps for a ring's size.
pub fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// The least prime that is not below `number` and within [`RING_SIZE`], if there is one.
pub fn next_ring_size(number: u32) -> Option<u32> {
    (number.max(*RING_SIZE.start())..=*RING_SIZE.end()).find(|candidate| is_prime(*candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_defaults_agree() {
        assert!(is_prime(default::RING_SIZE) && RING_SIZE.contains(&default::RING_SIZE));
        assert!(is_prime(*RING_SIZE.start()) && is_prime(*RING_SIZE.end()));
        assert!(PINS.contains(&default::PINS));
        let most = SLOTS_PER_MEMBER * MAX_HOSTS as u32;
        assert!(next_ring_size(most).is_some(), "a service of all hosts has a ring that fits");
        let t = default::TIMEOUTS;
        assert!([t.half_open, t.established, t.closing, t.udp].iter().all(|t| TIMEOUT.contains(t)));
    }

    #[test]
    fn primes() {
        let primes: Vec<u32> = (0..30).filter(|n| is_prime(*n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(!is_prime(65_536) && !is_prime(1021 * 1021) && !is_prime(1_048_575));
        assert_eq!(next_ring_size(65_536), Some(65_537));
        assert_eq!(next_ring_size(0), Some(101));
        assert_eq!(next_ring_size(1_048_574), None);
    }
}
