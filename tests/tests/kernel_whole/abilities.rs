//! What services need of the program: any of it together with any other loads, and what nobody needs is not in it.

use lb_common::layout::{FEATURE_GUE, FEATURE_NAT, FEATURE_PING, FEATURE_RANGES, FEATURE_TAGS};
use lb_userspace::dataplane::{Abilities, Options};
use sluice_tests::kernel::{PIECES, is_before};
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Rig, Setup, XDP_TX, l2};

const FEATURES: [u32; 5] = [FEATURE_GUE, FEATURE_NAT, FEATURE_PING, FEATURE_RANGES, FEATURE_TAGS];

/// The abilities with this number, of which each bit is one.
fn numbered(number: u32) -> Abilities {
    let has = |bit: usize| number >> bit & 1 != 0;
    let features = FEATURES.iter().enumerate().filter(|(bit, _)| has(*bit)).map(|(_, feature)| feature);
    Abilities {
        features: features.sum(),
        mss: if has(5) { 1400 } else { 0 },
        prefixes: if has(6) { vec![127, 120, 112, 100, 96, 64, 48, 32] } else { Vec::new() },
        frags: has(7) && !is_before(PIECES),
        ..Abilities::default()
    }
}

fn load(abilities: Abilities, records: bool) -> Rig {
    Rig::open_with(Options { abilities, records, ..Rig::options(Rig::small()) })
}

/// Bytes of the attached program, as the verifier has left it.
fn size(abilities: Abilities) -> u32 {
    let mut rig = load(abilities, false);
    rig.dataplane.program().unwrap().info().unwrap().size_translated().unwrap()
}

/// Loads the program with the abilities of this number, and sees that it forwards.
fn forwards(number: u32, records: bool) {
    let mut rig = load(numbered(number), records);
    let vip = "198.51.100.1:80".parse().unwrap();
    let mut setup = Setup::new(&rig);
    setup.service(0, vip, 6, 0).backend(0, 1, l2(1)).ring(0, lb_common::layout::Slot::settled(1));
    rig.publish(&setup);
    let syn = Packet::tcp("10.0.0.1:40000".parse().unwrap(), vip).syn(7);
    for syn in [syn.clone(), syn.vlan(7)] {
        assert_eq!(rig.run(&syn.build()).verdict, XDP_TX, "abilities {number:#x}");
    }
}

#[test]
fn all_of_them_load_together() {
    forwards(0xff, false);
    forwards(0x7f, false);
    forwards(0x7f, true);
}

/// All of 256 would take minutes: every pair of abilities is among these, on and off, together and apart.
#[test]
fn any_of_them_load_together() {
    let each = (0..8).flat_map(|bit| [1 << bit, 0xff ^ 1 << bit]);
    for number in each.chain([0, 0x0f, 0xf0, 0x33, 0xcc, 0x55, 0xaa]) {
        forwards(number, false);
        if number % 3 == 0 {
            forwards(number, true);
        }
    }
}

#[test]
fn what_is_off_is_not_in_the_program() {
    let least = size(numbered(0));
    for bit in [0, 1, 3, 4, 5, 6] {
        assert!(size(numbered(1 << bit)) > least, "ability {bit}");
    }
    // Pings are the other program's.
    assert_eq!(size(numbered(1 << 2)), least);
}
