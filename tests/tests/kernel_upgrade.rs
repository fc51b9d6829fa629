//! A flow table that takes the place of another, packet by packet: what each flow finds before, between and after.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use lb_common::layout::{HostId, HostState, Slot, Tuple, state};
use lb_userspace::dataplane::{Error, Options, Sizes, Treatment};
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Rig, Setup, XDP_TX, l2, timeout, tuple};

const VIP: &str = "198.51.100.1:80";

fn client(number: u32) -> SocketAddr {
    let [_, a, b, c] = (number / 60_000).to_be_bytes();
    format!("10.{a}.{b}.{c}:{}", 1024 + number % 60_000).parse().unwrap()
}

fn vip() -> SocketAddr {
    VIP.parse().unwrap()
}

fn sizes(pins: u32) -> Sizes {
    Sizes { ring_copies: 64, ..Sizes::new(251, pins) }
}

/// TCP and UDP over hosts 1 and 2, with these slots.
fn setup(rig: &Rig, slot: Slot) -> Setup {
    let mut setup = Setup::new(rig);
    setup.service(0, vip(), 6, 0).backend(0, 1, l2(1)).backend(0, 2, l2(2));
    setup.service(1, vip(), 17, 0).backend(1, 1, l2(1)).backend(1, 2, l2(2)).ring(0, slot);
    setup
}

/// The data path of the same instance with a table of another size, made while the first one is at work.
fn beside(rig: &Rig, pins: u32) -> Result<Rig, Error> {
    sized(rig, sizes(pins))
}

fn sized(rig: &Rig, sizes: Sizes) -> Result<Rig, Error> {
    let options = Options { sizes, ..rig.dataplane.options.clone() };
    lb_userspace::dataplane::Dataplane::open(options).map(Rig::on)
}

/// The host that a frame was sent to, by its MAC address.
fn host(rig: &mut Rig, frame: &[u8]) -> HostId {
    let (verdict, bytes) = rig.run_uncounted(frame, sluice_tests::rig::INGRESS);
    assert_eq!(verdict, XDP_TX);
    let found = [1, 2].into_iter().find(|&host| bytes[..6] == l2(host).destination_mac);
    u16::from(found.expect("to one of the hosts"))
}

/// What matters of all pins.
fn pins(rig: &Rig) -> BTreeMap<Tuple, (HostId, u8, u8, u32, u32, u32)> {
    let pin = |pin: sluice_tests::rig::Pin| {
        let (word, cold) = (pin.word, pin.cold);
        let idle = word.idle(rig.now());
        (cold.tuple(), (word.host(), word.phase() as u8, word.set(), idle, cold.sequence, cold.start))
    };
    rig.pins().into_iter().map(pin).collect()
}

/// Flows in all phases and of all ages, more than the buckets of a small table hold.
fn fill(rig: &mut Rig, flows: u32) {
    for number in 0..flows {
        let from = client(number);
        let tcp = || Packet::tcp(from, vip());
        match number % 5 {
            0 => drop(rig.run_uncounted(&tcp().syn(number).build(), 1)),
            4 => drop(rig.run_uncounted(&Packet::udp(from, vip()).build(), 1)),
            kind => {
                rig.run_uncounted(&tcp().syn(number).build(), 1);
                rig.run_uncounted(&tcp().ack(1).build(), 1);
                if kind == 3 {
                    rig.run_uncounted(&tcp().fin().ack(1).build(), 1);
                }
            }
        }
        if number % 100 == 99 {
            rig.pass(1);
        }
    }
}

#[test]
fn all_pins_are_in_a_larger_and_in_a_smaller_table() {
    let mut rig = Rig::open(sizes(1024));
    let first_setup = setup(&rig, Slot::open(1, 2));
    rig.publish(&first_setup);
    fill(&mut rig, 1500);
    rig.audit();
    let before = pins(&rig);
    let sent = rig.counts();
    assert!(
        before.len() > 1300 && rig.marks().len() > 10,
        "{} pins, {} marks",
        before.len(),
        rig.marks().len()
    );
    let mut rigs = vec![ManuallyDrop::new(rig)];
    // The last two differ in their room for overflow alone.
    let overflow = |overflow| Sizes { overflow, ..sizes(1600) };
    for sizes in [sizes(4000), sizes(20_000), sizes(1600), overflow(2048), overflow(1500)] {
        let last = rigs.last_mut().unwrap();
        assert_ne!(last.dataplane.options.sizes, sizes);
        let mut next = sized(last, sizes).unwrap();
        next.publish(&first_setup);
        next.dataplane.take_over().unwrap();
        next.audit();
        assert_eq!(pins(&next), before, "in a table of {sizes:?}");
        assert_eq!(next.dataplane.maps.sizes, sizes);
        let counts = next.counts();
        for (stats, pair) in &sent.pairs {
            let now = &counts.pairs[stats];
            assert_eq!(
                (pair.packets, pair.bytes, pair.new_flows, pair.live),
                (now.packets, now.bytes, now.new_flows, now.live)
            );
        }
        assert_eq!(sent.reasons, counts.reasons);
        rigs.push(ManuallyDrop::new(next));
    }
    // The next packet of each established flow finds it.
    let mut last = ManuallyDrop::into_inner(rigs.pop().unwrap());
    for number in (0..1500).filter(|number| number % 5 == 1) {
        assert_eq!(host(&mut last, &Packet::tcp(client(number), vip()).ack(2).build()), 1);
    }
    last.audit();
}

#[test]
fn a_table_that_is_too_small_is_refused_with_figures_and_nothing_changes() {
    let mut rig = Rig::open(sizes(4096));
    let settled = setup(&rig, Slot::settled(1));
    rig.publish(&settled);
    fill(&mut rig, 1500);
    let before = pins(&rig);
    let Err(Error::NoRoom { live, room, .. }) = beside(&rig, 512) else { panic!("it was taken") };
    assert_eq!((live as usize, room), (before.len(), 512));
    assert_eq!(pins(&rig), before);
    rig.audit();
    // What has ended takes no room.
    rig.pass(timeout::ESTABLISHED + 1);
    let rig = ManuallyDrop::new(rig);
    let mut next = beside(&rig, 512).unwrap();
    next.publish(&settled);
    next.dataplane.take_over().unwrap();
    assert_eq!(next.pins(), []);
    next.audit();
}

/// In a slot in handover, where a flow without its pin goes to the previous owner.
#[test]
fn a_flow_that_begins_while_the_program_is_switched_stays_with_its_host() {
    let mut rig = Rig::open(sizes(1024));
    let open = setup(&rig, Slot::open(1, 2));
    rig.publish(&open);
    let packet = |number| Packet::tcp(client(number), vip());
    let flow = |number| tuple(client(number), vip(), 6);
    // 1: long before.
    assert_eq!(host(&mut rig, &packet(1).syn(1).build()), 1);
    assert_eq!(host(&mut rig, &packet(1).ack(2).build()), 1);

    let mut next = beside(&rig, 4096).unwrap();
    next.publish(&open);
    // 2: after the last copy, by the program before.
    let program = rig.program_fd().as_fd().try_clone_to_owned().unwrap();
    let transition = next.dataplane.switch(Some(program)).unwrap().unwrap();
    assert_eq!(host(&mut rig, &packet(2).syn(1).build()), 1);
    assert_eq!(next.pin(&flow(2)), None);
    assert_eq!(host(&mut next, &packet(2).ack(2).build()), 1, "by the pin of the program before");
    assert_eq!(next.pin(&flow(2)), None, "it is the other one's still");
    // 1 is known here; 3 begins here; 4 has no pin anywhere, so the previous owner may know it.
    assert_eq!(host(&mut next, &packet(1).ack(3).build()), 1);
    assert_eq!(host(&mut next, &packet(3).syn(1).build()), 1);
    assert_eq!(host(&mut next, &packet(4).ack(7).build()), 2);
    // 5: its first packet went there, and is sent again here.
    assert_eq!(host(&mut rig, &packet(5).syn(1).build()), 1);
    assert_eq!(host(&mut next, &packet(5).syn(1).build()), 1);

    next.dataplane.take_the_rest(transition).unwrap();
    for (number, host) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 1)] {
        assert_eq!(next.pin(&flow(number)).map(|pin| pin.word.host()), Some(host), "flow {number}");
    }
    next.audit();
    for number in [1, 2, 3, 5] {
        assert_eq!(host(&mut next, &packet(number).ack(9).build()), 1, "flow {number}");
    }
    assert_eq!(host(&mut next, &packet(6).ack(9).build()), 2, "nobody else is asked any more");
    next.audit();
    let _rig = ManuallyDrop::new(rig);
}

/// A daemon that is killed when all maps are made and its programs are not loaded yet: nobody has used them.
#[test]
fn maps_that_nobody_has_used_are_no_earlier_daemons() {
    let rig = Rig::open(sizes(1024));
    let again = sized(&rig, sizes(1024)).unwrap();
    assert!(again.dataplane.adopted);
    again.dataplane.maps.state.store(state::IDENTITY, 0);
    again.dataplane.maps.state.store(state::LOST_AT, 0);
    let again = ManuallyDrop::new(again);
    let next = ManuallyDrop::new(sized(&rig, sizes(1024)).unwrap());
    assert!(!next.dataplane.adopted);
    assert_ne!(again.dataplane.maps.state.load(state::IDENTITY), 0);
    assert_eq!(next.dataplane.lost_at(), u64::from(rig.now()));
    assert!(ManuallyDrop::new(sized(&rig, sizes(1024)).unwrap()).dataplane.adopted);
}

/// A daemon that is killed after the switch, before the last copy.
#[test]
fn the_next_daemon_takes_the_rest() {
    let mut rig = Rig::open(sizes(1024));
    let open = setup(&rig, Slot::open(1, 2));
    rig.publish(&open);
    fill(&mut rig, 300);
    let mut killed = beside(&rig, 4096).unwrap();
    killed.publish(&open);
    drop(killed.dataplane.switch(None).unwrap());
    let late = Packet::tcp(client(9000), vip());
    assert_eq!(host(&mut rig, &late.clone().syn(1).build()), 1);
    let (before, sent) = (pins(&rig), rig.counts());

    // Of the same size: it goes on where the last one stood. Of yet another: it takes from both.
    for pins_of in [4096, 2048] {
        let mut next = beside(&rig, pins_of).unwrap();
        next.publish(&open);
        if pins_of == 4096 {
            // Killed as well.
            let _killed = ManuallyDrop::new(next);
            continue;
        }
        next.dataplane.take_over().unwrap();
        assert_eq!(pins(&next), before);
        next.audit();
        let counts = next.counts();
        for (stats, pair) in &sent.pairs {
            assert_eq!(pair.packets, counts.pairs[stats].packets);
        }
        assert_eq!(host(&mut next, &late.clone().ack(2).build()), 1);
        assert!(next.dataplane.paths.befores().is_empty());
    }
    let (_rig, _killed) = (ManuallyDrop::new(rig), ManuallyDrop::new(killed));
}

/// A daemon that is killed between the renaming of the maps and the first swap, and is away for longer than UDP flows may be silent.
#[test]
fn the_next_daemon_learns_what_the_program_before_has_seen_since() {
    let mut rig = Rig::open(sizes(1024));
    let open = setup(&rig, Slot::open(1, 2));
    rig.publish(&open);
    let udp = |number| Packet::udp(client(number), vip()).build();
    let tcp = |number| Packet::tcp(client(number), vip());
    for number in 0..20 {
        host(&mut rig, &udp(number));
        host(&mut rig, &tcp(number).syn(number).build());
    }
    let mut killed = beside(&rig, 4096).unwrap();
    killed.publish(&open);
    drop(killed.dataplane.switch(None).unwrap());
    let silent = timeout::UDP / 2 + 1;
    for _ in 0..3 {
        rig.pass(silent);
        for number in 0..20 {
            host(&mut rig, &udp(number));
            host(&mut rig, &tcp(number).ack(2).build());
        }
    }
    let before = pins(&rig);
    assert_eq!(before.len(), 40);
    let mut next = beside(&rig, 4096).unwrap();
    next.publish(&open);
    let program = rig.program_fd().as_fd().try_clone_to_owned().unwrap();
    let transition = next.dataplane.switch(Some(program)).unwrap().unwrap();
    next.dataplane.take_the_rest(transition).unwrap();
    assert_eq!(pins(&next), before);
    next.audit();
    let (_rig, _killed) = (ManuallyDrop::new(rig), ManuallyDrop::new(killed));
}

/// Deadlines are in the directory, which is used on.
#[test]
fn the_state_of_a_host_outlives_the_switch() {
    let mut rig = Rig::open(sizes(1024));
    let mut tables = setup(&rig, Slot::open(1, 2));
    tables.state(2, HostState::Draining);
    rig.publish(&tables);
    let packet = |number| Packet::tcp(client(number), vip());
    assert_eq!(host(&mut rig, &packet(1).ack(1).build()), 2, "the previous owner, which drains");
    let mut next = beside(&rig, 4096).unwrap();
    assert_eq!(host(&mut next, &packet(1).ack(2).build()), 2, "before anything is published");
    next.publish(&tables);
    next.dataplane.take_over().unwrap();
    assert_eq!(host(&mut next, &packet(1).ack(3).build()), 2);
    next.audit();
    let _rig = ManuallyDrop::new(rig);
}

/// A pinned map of another kind is told in every respect, before anything is changed; what config and network say is in a new one.
#[test]
fn a_map_of_another_kind_is_told_in_every_respect() {
    const NO_PREALLOC: u32 = 1;
    let mut rig = Rig::open(sizes(1024));
    let setup = setup(&rig, Slot::open(1, 2));
    rig.publish(&setup);
    fill(&mut rig, 200);
    let before = pins(&rig);
    let path = rig.dataplane.paths.map("OWN");
    std::fs::remove_file(&path).unwrap();
    let other = aya::maps::LpmTrie::<_, u64, u64>::create(8, NO_PREALLOC).unwrap();
    other.pin(&path).unwrap();

    let options = rig.dataplane.options.clone();
    let found = lb_userspace::dataplane::rehearse(options.clone()).unwrap().unwrap();
    let own = size_of::<lb_common::layout::Own>();
    let expected = [
        "type is 11, this version needs 1".to_owned(),
        "key size is 12, this version needs 4".to_owned(),
        format!("value size is 8, this version needs {own}"),
        "number of entries is 8, this version needs 64".to_owned(),
        format!("flags is {NO_PREALLOC}, this version needs 0"),
    ];
    assert_eq!(found.differences, expected.map(|what| format!("  OWN: {what}")));
    assert_eq!((found.refusals.len(), found.copied), (0, None), "{:?}", found.refusals);
    for (map, treatment) in found.maps {
        assert_eq!(treatment, if map == "OWN" { Treatment::Anew } else { Treatment::Kept }, "{map}");
    }
    assert_eq!(pins(&rig), before);

    let mut next = sized(&rig, options.sizes).unwrap();
    next.publish(&setup);
    next.dataplane.take_over().unwrap();
    assert_eq!(pins(&next), before);
    next.audit();
    let found = lb_userspace::dataplane::rehearse(options).unwrap().unwrap();
    assert!(found.differences.is_empty(), "{:?}", found.differences);
    let _rig = ManuallyDrop::new(rig);
}
