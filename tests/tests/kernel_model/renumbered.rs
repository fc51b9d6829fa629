//! Balancers with the same inputs: hosts have other numbers on each, and one of them starts with an empty table.

use std::collections::BTreeMap;

use lb_common::layout::{HOST_NONE, HostId, HostState};
use lb_userspace::ring::{Base, Lineage, Member, SHARE_FULL, SlotSet, Slots};
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::client::{Client, Service};
use crate::rig::{Rig, all_timeouts, sizes};

const RING: u32 = 251;
const KEY: [u8; 16] = *b"one key for both";
const T: u32 = 30;
const HOSTS: usize = 7;
/// Numbers of the hosts on each of the three balancers.
const NUMBERS: [[HostId; HOSTS]; 3] =
    [[1, 2, 3, 4, 5, 6, 7], [4094, 4000, 4050, 4001, 4093, 4010, 4031], [70, 60, 50, 40, 30, 20, 10]];

/// One balancer: its data path and what its daemon knows.
struct Balancer {
    rig: Rig,
    numbers: [HostId; HOSTS],
    base: Base,
    lineage: Lineage,
    slots: Slots,
}

fn name(host: usize) -> String {
    format!("rack-{host}")
}

impl Balancer {
    fn new(numbers: [HostId; HOSTS], now: u32) -> Balancer {
        let members = members(numbers, &[SHARE_FULL; HOSTS]);
        let base = Base::build(&KEY, RING, &members);
        let (lineage, slots) = Lineage::settled(&base, &members, u64::from(now));
        let rig = Rig::open(sizes(RING, 128, 64), all_timeouts(T));
        rig.plane.set_clock(now);
        let mut balancer = Balancer { rig, numbers, base, lineage, slots };
        balancer.tell(&[SHARE_FULL; HOSTS]);
        balancer
    }

    fn publish(&mut self, shares: &[u16; HOSTS], now: u32) {
        let members = members(self.numbers, shares);
        self.lineage.publish(&mut self.slots, &self.base, &members, u64::from(now));
        self.tell(shares);
    }

    fn tell(&mut self, shares: &[u16; HOSTS]) {
        let state = |share| if share == 0 { HostState::Draining } else { HostState::Up };
        let hosts: BTreeMap<HostId, HostState> =
            self.numbers.iter().copied().zip(shares.map(state)).collect();
        let words: Vec<u32> = self.slots.words().collect();
        self.rig.publish(&words, &hosts);
    }

    /// Which host it went to, whatever its number is here.
    fn send(&mut self, packet: &sluice_tests::packets::Packet) -> Option<usize> {
        match self.rig.send(packet) {
            HOST_NONE => None,
            number => {
                Some(self.numbers.iter().position(|&of| of == number).expect("a host of this balancer"))
            }
        }
    }

    fn sweep(&mut self, now: u32) -> SlotSet {
        let (_, foreign) = self.rig.sweep();
        let lost = self.rig.plane.lost_at();
        self.slots.close(u64::from(now), u64::from(T), lost, &foreign, |_| false);
        self.lineage.observe(&self.slots);
        foreign
    }
}

fn members(numbers: [HostId; HOSTS], shares: &[u16; HOSTS]) -> Vec<Member> {
    let member = |host: usize| Member { id: numbers[host], name: name(host), weight: 2, share: shares[host] };
    (0..HOSTS).map(member).collect()
}

/// A flow, and how many handovers its slot had seen when it began.
struct Flow {
    client: Client,
    slot: u32,
    host: usize,
    began: u32,
}

#[test]
fn balancers_with_the_same_inputs_agree_by_name() {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut below = move |end: usize| {
        use proptest::prelude::Rng;
        random.next_u32() as usize % end
    };
    let mut now = 1_000_000;
    let mut one = Balancer::new(NUMBERS[0], now);
    let mut other = Balancer::new(NUMBERS[1], now);
    let mut taker = Balancer::new(NUMBERS[2], now);
    let mut shares = [SHARE_FULL; HOSTS];
    let mut flows: Vec<Flow> = Vec::new();
    // When the handover that is open opened, by slot.
    let mut opened: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut begun, mut survived, mut handed_over) = (0, 0, 0);
    for round in 0..120 {
        now += 1 + below(6) as u32;
        for balancer in [&one, &other, &taker] {
            balancer.rig.plane.set_clock(now);
        }
        if below(4) == 0 {
            shares[below(HOSTS)] = [0, 0, 128, SHARE_FULL][below(4)];
            one.publish(&shares, now);
            other.publish(&shares, now);
            one.slots.open().iter().for_each(|slot| {
                opened.entry(slot).or_insert(round);
            });
        }
        for _ in 0..6 {
            begun += 1;
            let client = Client { address: 0x0a03_0000 + begun, port: 1024, service: Service::Web };
            let syn = client.packet().syn(1000);
            let host = one.send(&syn);
            assert_eq!(other.send(&syn), host, "SYN of {client:?}");
            let Some(host) = host else { continue };
            assert!(shares[host] != 0, "a new flow on {}, which is out", name(host));
            flows.push(Flow { client, slot: client.hash().slot(RING), host, began: round });
        }
        // All speak, so that no flow is silent for too long.
        for Flow { client, host, .. } in &flows {
            let packet = client.packet().seq(1001).ack(1);
            assert_eq!((one.send(&packet), other.send(&packet)), (Some(*host), Some(*host)), "{client:?}");
        }
        let foreign = one.sweep(now);
        assert_eq!(other.sweep(now), foreign);
        assert_eq!(one.slots.open(), other.slots.open());
        opened.retain(|&slot, _| one.slots.open().contains(slot));
        // A third one takes over with an empty table, by the lineage alone (C3).
        if below(8) == 0 {
            let kept = serde_json::to_string(&one.lineage).unwrap();
            taker.lineage = serde_json::from_str(&kept).unwrap();
            let id = |of: &str| (0..HOSTS).find(|&host| name(host) == of).map(|host| NUMBERS[2][host]);
            taker.slots = taker.lineage.replay(&KEY, RING, id, u64::from(now)).unwrap();
            taker.rig.lose(u64::from(now));
            taker.tell(&shares);
            for Flow { client, slot, host, began } in &flows {
                let got = taker.send(&client.packet().seq(1001).ack(1));
                if opened.get(slot).is_none_or(|&opened| *began < opened) {
                    assert_eq!(got, Some(*host), "{client:?} after the take-over");
                    survived += 1;
                    handed_over += u32::from(opened.contains_key(slot));
                }
            }
        }
        // Flows end in the order in which they began, so that handovers close, too.
        let ends = flows.len().saturating_sub(120);
        for Flow { client, .. } in flows.drain(..ends) {
            let rst = client.packet().seq(1001).rst();
            assert_eq!(one.send(&rst), other.send(&rst));
        }
    }
    assert!(
        survived > 500 && handed_over > 100,
        "{survived} packets after a take-over, {handed_over} in handovers"
    );
}
