//! The way of any frame through the model of the balancer's program: found service, verdict and what leaves.

use std::sync::{Arc, LazyLock};

use lb_common::decap::{DecapClass, GUE_PORT, decapsulate};
use lb_common::flow::{TIMEOUT_SETS, one_set};
use lb_common::hash::{DestinationHash, Key};
use lb_common::layout::{
    Directory, FEATURE_GUE, FEATURE_NAT, FEATURE_PING, FEATURE_RANGES, FEATURE_TAGS, PLACES, PREFIXES,
    PortRange, Prefix, Service as Record, ServiceKey, Tuple, prefix_mark, prefix_mask,
};
use lb_common::parse::{ICMP, L3, Signal, TCP, UDP, What, Whole};
use lb_common::reason::Class;
use lb_common::services::{NOWHERE, find, find_wide, place_of, probe};

use crate::balancer::{Balancer, Outcome, Settings, Verdict};
use crate::icmp::OWN_V4;
use crate::parse::{turns, whole, words};
use crate::site::{self, Site, VIP_V4, VIP_V6, WITHIN};
use crate::wire::{sum, tags, untagged};

const SETTINGS: Settings = Settings {
    key: [0x0123_4567_89ab_cdef, 0x0fed_cba9_8765_4321],
    ring_size: 31,
    timeouts: one_set([0, 0, 120, 600, 30, 90, 10, 0]),
    udp_gap: [5; TIMEOUT_SETS],
    features: FEATURE_RANGES | FEATURE_GUE | FEATURE_NAT | FEATURE_TAGS | FEATURE_PING,
    mss: 1400,
    own_v4: Some(OWN_V4),
    own_v6: None,
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
    let Outcome { verdict, bytes, reasons, changes, service } = outcome;
    let (own, beside) = reasons.split_last().expect("no verdict without a reason");
    let classes: &[Class] = match verdict {
        Verdict::Pass => &[Class::Pass],
        Verdict::Drop => &[Class::Drop],
        Verdict::Transmit => &[Class::Forward, Class::Answer],
    };
    assert!(classes.contains(&own.class()), "{own:?}");
    assert!(beside.iter().all(|reason| matches!(reason.class(), Class::Note | Class::Violation)));
    let packets: i64 = changes.values().map(|change| change.packets).sum();
    assert_eq!(packets, i64::from(own.class() == Class::Forward));
    assert!(changes.keys().all(|(number, _)| Some(*number) == *service));
    match (verdict, own.class()) {
        (Verdict::Pass, _) => assert!(changes.is_empty() && bytes == before),
        (Verdict::Drop, _) => assert!(bytes == before || *bytes == untagged(before)),
        (_, Class::Answer) => check_answer(before, bytes),
        _ => check_sent(before, bytes),
    }
}

/// Back to where it came from, with the tags that it came with.
fn check_answer(before: &[u8], after: &[u8]) {
    let tags = tags(before);
    assert_eq!((&after[..6], &after[6..12]), (&before[6..12], &before[..6]));
    assert_eq!(after[12..14 + tags], before[12..14 + tags]);
    let ip = |frame: &[u8]| frame[14 + tags] >> 4;
    let (client, destination) = if ip(before) == 6 { (8..24, 24..40) } else { (12..16, 16..20) };
    assert_eq!(after[14 + tags..][destination], before[14 + tags..][client]);
}

/// What leaves is the packet that came with a hop less, to another destination (`nat`) or not; or it is that once its outer header is
/// taken off. Of a SYN options may be others.
fn check_sent(before: &[u8], after: &[u8]) {
    let before = untagged(before);
    let mut bytes = untagged(after);
    if bytes.len() != before.len() {
        let macs = bytes[..12].to_vec();
        let verdict = decapsulate(&mut bytes, GUE_PORT, |_| true);
        if verdict.reason.class() != DecapClass::Decapsulate {
            // A GUE port of its own.
            let other = decapsulate(&mut bytes, GUE_PORT + 1, |_| true);
            assert_eq!(
                other.reason.class(),
                DecapClass::Decapsulate,
                "{:?} {:?}",
                verdict.reason,
                other.reason
            );
            bytes.drain(..other.cut);
        } else {
            bytes.drain(..verdict.cut);
        }
        assert_eq!(bytes[..12], macs);
    }
    assert_eq!((bytes.len(), &bytes[12..14]), (before.len(), &before[12..14]));
    let (new, _) = whole(&bytes).expect("it can be read again");
    let (old, _) = whole(&before).expect("it was read");
    let (new_ip, old_ip) = (&bytes[L3..], &before[L3..]);
    let (hop, header_len) =
        if old.packet.is_v6 { (7, 40) } else { (8, usize::from(old.packet.ip_header_len)) };
    assert_eq!(new_ip[hop] + 1, old_ip[hop]);
    if !old.packet.is_v6 {
        assert_eq!(sum(&new_ip[..header_len]), 0xffff, "its checksum is right");
    }
    let (to, from) = (&new.packet.tuple, &old.packet.tuple);
    assert_eq!((to.source, to.source_port_raw()), (from.source, from.source_port_raw()));
    assert_eq!((new.what, new.fragment), (old.what, old.fragment));
    let is_translated = to.destination != from.destination;
    assert!(is_translated || to == from);
    // A checksum that was right still is.
    assert_eq!(is_right(&bytes, &new), is_right(&before, &old));
    if !is_translated && old.packet.signal != Signal::Syn && old.packet.signal != Signal::Stray {
        assert_eq!(new_ip[header_len..], old_ip[header_len..]);
    }
}

/// Whether the checksum of a whole packet of TCP, UDP or ICMP is right, as its receiver looks at it.
fn is_right(frame: &[u8], Whole { packet, what, fragment }: &Whole) -> bool {
    if fragment.is_part != 0 || !matches!(what, What::Flow | What::Icmp) {
        return true;
    }
    let ip = &frame[L3..L3 + usize::from(packet.ip_len)];
    let upper = &ip[packet.ip_header_len.into()..];
    let protocol = packet.tuple.protocol as u8;
    if protocol == UDP && upper[6..8] == [0, 0] {
        return true;
    }
    let addresses = match (packet.is_v6, protocol) {
        (false, ICMP) => return sum(upper) == 0xffff,
        (false, _) => &ip[12..20],
        (true, _) => &ip[8..40],
    };
    let pseudo = [addresses, &[0, protocol], &(upper.len() as u16).to_be_bytes()].concat();
    sum(&[&pseudo, upper].concat()) == 0xffff
}

/// The search in the directory finds the record that a look at all services finds.
fn check_search(bytes: &[u8]) {
    let mut sought = vec![(words(VIP_V4.into()), 80, TCP), (words(VIP_V6.into()), 80 << 8, UDP)];
    sought.extend(WITHIN.concat().iter().map(|within| (words(*within), 81, UDP)));
    if let Ok((Whole { packet, .. }, _)) = whole(bytes) {
        let Tuple { source, destination, protocol, .. } = packet.tuple;
        sought.push((destination, packet.tuple.destination_port(), protocol as u8));
        sought.push((source, packet.tuple.source_port(), protocol as u8));
        // The neighbourhood of a packet's own port and address, in which there may be a range or a prefix.
        let [upper, lower] = destination;
        sought.push(([upper, lower ^ 1 << 56], packet.tuple.destination_port() ^ 1, protocol as u8));
    }
    for (address, port, protocol) in sought {
        for is_reply in [false, true] {
            check_search_of(&address, port, protocol, is_reply);
        }
    }
}

fn check_search_of(address: &[u64; 2], port: u16, protocol: u8, is_reply: bool) {
    let reply = if is_reply { ServiceKey::REPLY } else { 0 };
    let transport = u32::from(port.to_be()) | u32::from(protocol) << 16 | reply;
    let key = SETTINGS.key;
    let directory: &Directory = &RECORDS.directory;
    let hash = DestinationHash::of(address, transport, key);
    // SAFETY: the directory is there for ever, and nobody writes it any more.
    let sought = unsafe { find(directory, address, transport, hash) };
    let place = if sought.record.is_null() {
        find_wide(address, transport, SETTINGS.features, &RECORDS.prefixes, |address, transport| {
            // SAFETY: as above.
            unsafe { place_of(directory, address, transport, port, key) }
        })
    } else {
        sought.place
    };
    match STIRRED.find(address, port, protocol, is_reply) {
        Some((number, service, key)) => {
            assert_ne!(place, NOWHERE, "{address:x?} {transport:x}");
            let record = &directory.services[place as usize];
            let range = PortRange(directory.ranges[place as usize]);
            assert_eq!(directory.numbers[place as usize], number);
            assert_eq!((ServiceKey::of_record(record, range), record.policy()), (key, service.policy));
            let is_alone = key.prefix == ServiceKey::WHOLE && key.is_exact();
            assert_eq!(!sought.record.is_null(), is_alone, "{key:?}");
        }
        None => assert_eq!(place, NOWHERE, "{address:x?} {transport:x}"),
    }
}

/// The services as the data path finds them.
struct Records {
    directory: Box<Directory>,
    prefixes: [Prefix; PREFIXES],
}

impl Records {
    fn of(site: &Site, key: Key) -> Records {
        // SAFETY: integers only, so zeroes are a directory: an empty one. On the heap from the beginning, as it is large.
        let mut directory = unsafe { Box::<Directory>::new_zeroed().assume_init() };
        for (number, service) in &site.services {
            for service_key in &service.keys {
                let (address, transport) = service_key.place();
                let home = DestinationHash::of(&address, transport, key).place();
                let place = (0..PLACES as u32)
                    .map(|steps| probe(home, steps) as usize)
                    .find(|place| directory.services[*place].transport == Record::FREE)
                    .expect("most places are free");
                directory.numbers[place] = *number;
                directory.ranges[place] = PortRange::new(service_key.first, service_key.last).0;
                directory.services[place] = Record {
                    address,
                    transport: transport | u32::from(service.policy.0) << 24,
                    ..Record::default()
                };
            }
        }
        let mut prefixes = [Prefix::default(); PREFIXES];
        for (prefix, length) in prefixes.iter_mut().zip(site::PREFIXES) {
            *prefix = Prefix { mask: prefix_mask(length), mark: prefix_mark(length) };
        }
        Records { directory, prefixes }
    }
}
