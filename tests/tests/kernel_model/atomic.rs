//! Packets on several CPUs while tables are published.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use lb_common::layout::{HostId, HostState, Slot};
use lb_common::reason::Class;

use crate::client::{Client, Service};
use crate::rig::{Rig, all_timeouts, sizes};

const RING: u32 = 23;
const PUBLICATIONS: u64 = 60;

/// From the moment in which a publication returns, every packet goes by it, on every CPU (C2, C5).
#[test]
fn a_publication_is_in_force_when_it_returns() {
    let mut rig = Rig::open(sizes(RING, 4096, 1024), all_timeouts(30));
    rig.plane.set_clock(1_000_000);
    let pin = rig.plane.paths.pins.join("program");
    rig.plane.program().unwrap().pin(&pin).unwrap();
    publish(&mut rig, 1);

    // What is in force, and what is about to be: a packet that began and ended under one number knows its host.
    let (in_force, begun) = (AtomicU64::new(1), AtomicU64::new(1));
    let (over, sure) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for cpu in 0..3 {
            let (in_force, begun, over, sure, pin) = (&in_force, &begun, &over, &sure, &pin);
            scope.spawn(move || {
                let program = Xdp::from_pin(pin, XdpAttachType::Interface).unwrap();
                for number in 0.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let address = 0x0a00_0000 + (cpu << 22) + number % (1 << 12);
                    let client = Client { address, port: 4000, service: Service::Web };
                    // A new sequence number each time: never a SYN seen before.
                    let frame = client.packet().syn(number).build();
                    let before = in_force.load(Ordering::SeqCst);
                    let host = send(&program, &frame);
                    if begun.load(Ordering::SeqCst) == before {
                        assert_eq!(u64::from(host), 1 + before % 2, "a SYN under publication {before}");
                        sure.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for number in 2..=PUBLICATIONS {
            begun.store(number, Ordering::SeqCst);
            publish(&mut rig, number);
            in_force.store(number, Ordering::SeqCst);
            thread::sleep(std::time::Duration::from_millis(5) * sluice_tests::kernel::slowness());
        }
        over.store(true, Ordering::SeqCst);
    });
    let sure = sure.into_inner();
    assert!(sure > PUBLICATIONS * 50, "only {sure} packets were sure of their generation");
    assert_eq!(rig.counted(Class::Violation), []);
    rig.check_gauges();
}

/// All slots to one of two hosts, in turn; the other one drains.
fn publish(rig: &mut Rig, number: u64) {
    let owner = 1 + (number % 2) as HostId;
    let slot = Slot::open(owner, 3 - owner).0;
    let state = |host| if host == owner { HostState::Up } else { HostState::Draining };
    let hosts: BTreeMap<HostId, HostState> = [1, 2].map(|host| (host, state(host))).into();
    rig.publish(&[slot; RING as usize], &hosts);
}

fn send(program: &Xdp, frame: &[u8]) -> HostId {
    let mut out = vec![0; frame.len() + 258];
    let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
    let result = program.test_run(options).unwrap();
    assert_eq!(result.return_value, 3, "XDP_TX");
    u16::from_be_bytes([out[4], out[5]])
}
