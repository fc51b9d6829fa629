//! Attach, update in place, status, detach, and every refusal.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use lb_userspace::decap::{DecapAction, DecapError, DecapOptions, Mode, State, attach, detach, status};
use lb_userspace::objects;
use nix::sched::{CloneFlags, unshare};

use super::rig::*;

#[test]
fn a_backend_serves_the_vip_from_attach_to_detach() {
    in_namespace(|| {
        let socket = server("eth0");
        let wire = Wire::open();
        let instance = Instance::new("eth0");
        wire.send(&encapsulated(1));
        assert_eq!(receive(&socket), None, "the kernel decapsulates by itself: the test shows nothing");
        assert_eq!(instance.status().state, State::NotAttached);

        let said = instance.run(DecapAction::Attach, false);
        assert!(
            said.starts_with("eth0: attached, native mode, accepts packets for 192.0.2.7, 2001:db8::7"),
            "{said}"
        );
        wire.send(&encapsulated(2));
        assert_eq!(receive(&socket), Some(2));

        let status = instance.status();
        assert_eq!((status.state, status.mode), (State::Attached, Some(Mode::Native)));
        assert_eq!(own_addresses(&status), [IpAddr::from(BACKEND), "2001:db8::7".parse().unwrap()]);
        assert_eq!(counter(&status, "decap_4in4"), 1);
        assert!(instance.run(DecapAction::Status, false).contains("decap_4in4"));
        let json: serde_json::Value = serde_json::from_str(&instance.run(DecapAction::Status, true)).unwrap();
        assert_eq!(json["state"], "attached");
        assert_eq!(json["mode"], "native");
        assert_eq!(json["counters"]["decap_4in4"], 1);
        assert_eq!(json["addresses"][0], "192.0.2.7");

        assert_eq!(instance.run(DecapAction::Detach, false), "eth0: detached\n");
        assert!(!instance.is_left());
        wire.send(&encapsulated(3));
        assert_eq!(receive(&socket), None);
        assert_eq!(instance.status().state, State::NotAttached);
        assert_eq!(instance.run(DecapAction::Detach, false), "eth0: nothing was attached\n");
    });
}

#[test]
fn updates_lose_no_packet_and_change_program_and_addresses() {
    const PACKETS: u32 = 3000;
    in_namespace(|| {
        let socket = server("eth0");
        let instance = Instance::new("eth0");
        assert!(!attach(&instance.0).unwrap().updated);
        let first = instance.status();
        let sending = AtomicBool::new(true);
        let (received, updates) = thread::scope(|scope| {
            let receiver = scope.spawn(|| std::iter::from_fn(|| receive(&socket)).collect::<BTreeSet<u32>>());
            scope.spawn(|| {
                let wire = Wire::open();
                for number in 0..PACKETS {
                    wire.send(&encapsulated(number));
                    thread::sleep(Duration::from_micros(200));
                }
                sending.store(false, Ordering::Release);
            });
            let mut updates = 0;
            while sending.load(Ordering::Acquire) {
                assert!(attach(&instance.0).unwrap().updated);
                updates += 1;
            }
            (receiver.join().unwrap(), updates)
        });
        assert!(updates >= 3, "{updates} updates prove little");
        let second = instance.status();
        assert_ne!(first.program, second.program);
        assert_eq!(
            counter(&second, "decap_4in4"),
            u64::from(PACKETS),
            "counters go on over {updates} updates"
        );
        let lost: Vec<u32> = (0..PACKETS).filter(|number| !received.contains(number)).collect();
        assert!(lost.is_empty(), "lost over {updates} updates: {lost:?}");

        // Other addresses, from the very next packet on.
        let wire = Wire::open();
        let other = DecapOptions { addresses: vec!["192.0.2.99".parse().unwrap()], ..instance.0.clone() };
        assert_eq!(attach(&other).unwrap().addresses, other.addresses);
        assert_eq!(instance.status().addresses, other.addresses);
        wire.send(&encapsulated(0));
        assert_eq!(receive(&socket), None);
        assert_eq!(counter(&instance.status(), "pass_foreign"), 1);
        // An address that the interface got meanwhile.
        ip("addr add 192.0.2.8/24 dev eth0");
        attach(&instance.0).unwrap();
        assert!(instance.status().addresses.contains(&"192.0.2.8".parse().unwrap()));
        wire.send(&encapsulated(1));
        assert_eq!(receive(&socket), Some(1));
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn says_why_where_native_mode_cannot_be() {
    in_namespace(|| {
        ip("link set lo up");
        let instance = Instance::new("lo");
        let said = instance.run(DecapAction::Attach, false);
        assert!(said.contains("lo: attached, generic mode"), "{said}");
        assert!(said.contains("native mode refused"), "{said}");
        assert_eq!(instance.status().mode, Some(Mode::Generic));
        let updated = attach(&instance.0).unwrap();
        assert_eq!((updated.mode, updated.updated), (Mode::Generic, true));
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn a_name_with_a_dot_works() {
    in_namespace(|| {
        veth("eth0.100");
        let instance = Instance::new("eth0.100");
        attach(&instance.0).unwrap();
        assert_eq!(instance.status().state, State::Attached);
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn a_removed_interface_is_seen_and_mended() {
    in_namespace(|| {
        veth("eth0");
        let instance = Instance::new("eth0");
        attach(&instance.0).unwrap();
        ip("link del eth0");
        assert_eq!(instance.status().state, State::InterfaceGone);
        veth("eth0");
        assert!(!attach(&instance.0).unwrap().updated);
        assert_eq!(instance.status().state, State::Attached);
        ip("link del eth0");
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn refuses_a_missing_interface() {
    in_namespace(|| {
        let instance = Instance::new("nowhere0");
        let (error, message) = instance.refusal();
        assert!(error.is_not_found());
        assert!(message.contains("no interface `nowhere0`") && message.contains("`ip link`"), "{message}");
        assert!(!instance.is_left());
        assert_eq!(instance.status().state, State::NotAttached);
    });
}

#[test]
fn refuses_an_interface_without_addresses_and_addresses_of_many() {
    in_namespace(|| {
        ip("link add wire type veth peer name eth0");
        let mut instance = Instance::new("eth0");
        let (_, message) = instance.refusal();
        assert!(message.contains("--address"), "{message}");
        for address in ["224.0.0.1", "0.0.0.0", "ff02::1", "::", "255.255.255.255"] {
            instance.0.addresses = vec![BACKEND.into(), address.parse().unwrap()];
            let (_, message) = instance.refusal();
            assert!(message.starts_with(address), "{message}");
        }
        assert!(!instance.is_left());
        instance.0.addresses = vec![BACKEND.into()];
        attach(&instance.0).unwrap();
        assert_eq!(instance.status().addresses, instance.0.addresses);
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn leaves_another_program_alone() {
    in_namespace(|| {
        veth("eth0");
        let mut ebpf = Ebpf::load(objects::DECAP).unwrap();
        let program: &mut Xdp = ebpf.program_mut("sluice_decap").unwrap().try_into().unwrap();
        program.load().unwrap();
        for (mode, name) in [(XdpMode::Driver, "native"), (XdpMode::Skb, "generic")] {
            let link = program.attach("eth0", mode).unwrap();
            let instance = Instance::new("eth0");
            let (error, message) = instance.refusal();
            assert!(matches!(error, DecapError::Busy { .. }), "{message}");
            let number = program.info().unwrap().id();
            for part in [&format!("number {number}, {name}")[..], "bpftool", "ip link set dev eth0 xdp"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(!instance.is_left());
            program.detach(link).unwrap();
        }
    });
}

#[test]
fn tells_namespaces_apart() {
    in_namespace(|| {
        veth("eth0");
        let instance = Instance::new("eth0");
        attach(&instance.0).unwrap();
        let options = instance.0.clone();
        in_namespace(move || {
            // The same name, the same index, the same instance.
            veth("eth0");
            let error = attach(&options).unwrap_err();
            assert!(matches!(error, DecapError::Elsewhere { .. }), "{error}");
            assert!(error.to_string().contains("--instance"), "{error}");
            assert!(matches!(detach(&options).unwrap_err(), DecapError::Elsewhere { .. }));
            assert_eq!(status(&options).unwrap().state, State::Elsewhere);
        });
        assert_eq!(instance.status().state, State::Attached);
        // A renamed interface is found by its index.
        ip("link set eth0 down");
        ip("link set eth0 name eth1");
        assert_eq!(instance.status().state, State::Attached);
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn refuses_where_no_bpf_file_system_can_be() {
    in_namespace(|| {
        veth("eth0");
        let folder = tempfile::tempdir().unwrap();
        let mut instance = Instance::new("eth0");
        instance.0.bpffs = folder.path().join("missing");
        let (_, message) = instance.refusal();
        assert!(message.contains("missing"), "{message}");
        // As under `ip netns exec`, which has a mount namespace of its own.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        instance.0.bpffs = folder.path().to_owned();
        let (_, message) = instance.refusal();
        assert!(message.contains("nsenter --net="), "{message}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    });
}

#[test]
fn two_calls_at_once_do_not_disturb_each_other() {
    in_namespace(|| {
        veth("eth0");
        let instance = Instance::new("eth0");
        for _ in 0..5 {
            let updated: Vec<bool> = thread::scope(|scope| {
                let calls: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| attach(&instance.0).unwrap().updated)).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            assert_eq!(
                updated.iter().filter(|updated| !**updated).count(),
                1,
                "one attaches, the others update"
            );
            let removed: Vec<bool> = thread::scope(|scope| {
                let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| detach(&instance.0).unwrap())).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            assert_eq!(removed.iter().filter(|removed| **removed).count(), 1, "one detaches");
        }
    });
}
