//! The way of any frame through the model of the balancer's program: found service, verdict and what leaves.

use std::sync::{Arc, LazyLock};

use lb_common::decap::{DecapClass, GUE_PORT, decapsulate};
use lb_common::flow::{TIMEOUT_SETS, one_set};
use lb_common::hash::{DestinationHash, Key};
use lb_common::layout::{Directory, PLACES, Service as Record};
use lb_common::parse::L3;
use lb_common::reason::{Class, Reason};
use lb_common::services::{find, probe};

use crate::balancer::{Balancer, Outcome, Settings, Verdict};
use crate::parse::{read, turns, words};
use crate::site::{Site, VIP_V4, VIP_V6};

const SETTINGS: Settings = Settings {
    key: [0x0123_4567_89ab_cdef, 0x0fed_cba9_8765_4321],
    ring_size: 31,
    timeouts: one_set([0, 0, 120, 600, 30, 90, 10, 0]),
    udp_gap: [5; TIMEOUT_SETS],
};

static CALM: LazyLock<Arc<Site>> = LazyLock::new(|| Arc::new(Site::calm(SETTINGS.ring_size)));
static STIRRED: LazyLock<Arc<Site>> = LazyLock::new(|| Arc::new(Site::stirred(SETTINGS.ring_size)));
static RECORDS: LazyLock<Records> = LazyLock::new(|| Records::of(&STIRRED, SETTINGS.key));

/// Everything that must hold for what becomes of a frame, and of others of its flow: before and after its slot and its hosts
/// change.
pub fn check(bytes: &[u8]) {
    let turns = turns(bytes);
    let mut balancer = Balancer::new(SETTINGS, CALM.clone(), 1000);
    let check = |balancer: &mut Balancer| {
        for turn in &turns {
            check_outcome(turn, &balancer.run(turn));
        }
    };
    check(&mut balancer);
    balancer.site = STIRRED.clone();
    for seconds in [1, 6, 31, 601] {
        balancer.now += seconds;
        check(&mut balancer);
    }
    check_search(bytes);
}

fn check_outcome(before: &[u8], outcome: &Outcome) {
    let Outcome { verdict, bytes, reasons, changes } = outcome;
    let (own, beside) = reasons.split_last().expect("no verdict without a reason");
    let class = match verdict {
        Verdict::Pass => Class::Pass,
        Verdict::Drop => Class::Drop,
        Verdict::Transmit => Class::Forward,
    };
    assert_eq!(own.class(), class, "{own:?}");
    assert!(beside.iter().all(|reason| matches!(reason.class(), Class::Note | Class::Violation)));
    let packets: i64 = changes.values().map(|change| change.packets).sum();
    assert_eq!(packets, i64::from(*verdict == Verdict::Transmit));
    match verdict {
        Verdict::Pass => assert!(changes.is_empty() && bytes == before),
        Verdict::Drop => assert_eq!(bytes, before),
        Verdict::Transmit => check_sent(before, bytes),
    }
}

/// What leaves is the packet that came, under other MAC addresses, or it is once its outer header is taken off.
fn check_sent(before: &[u8], after: &[u8]) {
    if after.len() == before.len() {
        assert_eq!(after[12..], before[12..]);
        return assert_eq!(read(after), read(before));
    }
    assert_eq!(&after[after.len() - before.len() + L3..], &before[L3..]);
    assert_eq!(read(after).err(), Some(Reason::PassOtherProtocol), "IP in IP");
    let mut bytes = after.to_vec();
    let verdict = decapsulate(&mut bytes, GUE_PORT, |_| true);
    assert_eq!(verdict.reason.class(), DecapClass::Decapsulate, "{:?}", verdict.reason);
    assert_eq!((&bytes[verdict.cut..][..12], &bytes[verdict.cut + 12..]), (&after[..12], &before[12..]));
}

/// The search in the directory finds the record that a look at all services finds.
fn check_search(bytes: &[u8]) {
    let transports = [(words(VIP_V4.into()), 6 << 16 | 80), (words(VIP_V6.into()), 17 << 16 | 80 << 8)];
    let packet = read(bytes).ok().map(|(packet, _)| (packet.tuple.destination, packet.tuple.transport()));
    for (address, transport) in transports.into_iter().chain(packet) {
        let hash = DestinationHash::of(&address, transport, SETTINGS.key);
        // SAFETY: the directory is there for ever, and nobody writes it any more.
        let sought = unsafe { find(&*RECORDS.directory, &address, transport, hash) };
        match STIRRED.find(&address, transport) {
            Some((number, service)) => {
                assert!(!sought.record.is_null());
                assert_eq!(RECORDS.directory.numbers[sought.place as usize], number);
                assert_eq!(sought.policy, service.policy);
            }
            None => assert!(sought.record.is_null(), "place {} for {address:x?} {transport:x}", sought.place),
        }
    }
}

/// The services as the data path finds them.
struct Records {
    directory: Box<Directory>,
}

impl Records {
    fn of(site: &Site, key: Key) -> Records {
        // SAFETY: integers only, so zeroes are a directory: an empty one. On the heap from the beginning, as it is large.
        let mut directory = unsafe { Box::<Directory>::new_zeroed().assume_init() };
        for (number, service) in &site.services {
            let (address, transport) = service.key.place();
            let home = DestinationHash::of(&address, transport, key).place();
            let place = (0..PLACES as u32)
                .map(|steps| probe(home, steps) as usize)
                .find(|place| directory.services[*place].transport == Record::FREE)
                .expect("most places are free");
            directory.numbers[place] = *number;
            directory.services[place] = Record {
                address,
                transport: transport | u32::from(service.policy.0) << 24,
                ..Record::default()
            };
        }
        Records { directory }
    }
}
