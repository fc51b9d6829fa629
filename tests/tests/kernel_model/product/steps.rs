//! What can happen to a balancer.

use std::collections::BTreeMap;

use lb_common::layout::HostId;
use proptest::prelude::*;

use super::setup::{GAP, HOSTS};
use crate::client::{Client, Flags, Service, any_flags};
use crate::rules::{Moves, Policy};

/// A packet in the name of somebody else, with the exact tuple and a sequence number that is not the client's.
#[derive(Debug, Clone, Copy)]
pub enum Forged {
    Syn,
    Fin,
    Rst,
}

/// What the next daemon's config says differently.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    Nothing,
    Weight(HostId, u16),
    Remove(HostId),
    Add(HostId, u16),
    Edges(Service, bool),
    Moves(Moves),
}

/// `Wild` clients send whatever they like; flows are those of clients that keep to TCP. Numbers of clients and of sequence numbers are
/// places in short lists, so that steps meet. Sets of hosts have bit 0 for host 1.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Wild {
        client: usize,
        flags: Flags,
        sequence: usize,
        payload: bool,
    },
    /// A SYN with a new sequence number, unless the flow is open.
    Begin(usize),
    /// The same SYN again.
    Again(usize),
    /// [`Step::Begin`] and [`Step::Speak`].
    Connect(usize),
    /// Data, or the last acknowledgement.
    Speak(usize),
    /// Every flow, and every UDP client.
    SpeakAll,
    End(usize),
    Forge(usize, Forged),
    Datagram(usize),
    Wait(u32),
    /// The clock goes back until the next [`Step::Wait`]: a CPU may read it a moment later than another one.
    Back(u32),
    /// What the daemon does by itself.
    Round,
    Drain(u8),
    Undrain(u8),
    Unplug(HostId),
    Plug(HostId),
    /// The daemon is killed, and another one takes over.
    Restart(Change),
    Reboot,
    /// All pins are lost.
    Lose,
    /// One of the pins that can be missed goes.
    Evict(usize),
    /// SYNs of nobody.
    Flood(u32),
}

pub const FLOWS: usize = 12;
pub const UDP_CLIENTS: usize = 5;
pub const WILD_CLIENTS: usize = 8;
pub const SEQUENCES: [u32; 5] = [1000, 1001, 1002, 80_000, u32::MAX];

/// Two flows an address and service, so that affinity has something to keep together.
pub fn flow(number: usize) -> Client {
    let service = [Service::Web, Service::Api][number % 2];
    Client { address: 0x0a01_0000 + (number / 4) as u32, port: 40_000 + number as u16, service }
}

pub fn udp_client(number: usize) -> Client {
    let address = 0x0a02_0000 + (number / 2) as u32;
    Client { address, port: 40_000 + number as u16, service: Service::Dns }
}

pub fn wild_client(number: usize) -> Client {
    let service = [Service::Web, Service::Web, Service::Api][number % 3];
    Client { address: 0x0a03_0000 + (number / 2) as u32, port: 40_000 + number as u16, service }
}

pub fn any_policies() -> impl Strategy<Value = BTreeMap<Service, Policy>> {
    let tcp = || {
        (any::<bool>(), any::<bool>()).prop_map(|(edges, client)| Policy {
            edges,
            client,
            moves: Moves::Never,
        })
    };
    let udp = (any_moves(), any::<bool>()).prop_map(|(moves, client)| Policy { edges: false, client, moves });
    (tcp(), udp, tcp())
        .prop_map(|(web, dns, api)| [(Service::Web, web), (Service::Dns, dns), (Service::Api, api)].into())
}

fn any_moves() -> impl Strategy<Value = Moves> {
    prop_oneof![Just(Moves::Never), Just(Moves::AfterSilenceOf(GAP)), Just(Moves::AtOnce)]
}

fn any_host() -> impl Strategy<Value = HostId> {
    1..=HOSTS
}

/// One host, as mostly, or any of them.
fn any_hosts() -> impl Strategy<Value = u8> {
    prop_oneof![3 => (0..HOSTS).prop_map(|host| 1 << host), 1 => 1u8..1 << HOSTS]
}

fn any_wild() -> impl Strategy<Value = Step> {
    (0..WILD_CLIENTS, any_flags(), 0..SEQUENCES.len(), any::<bool>())
        .prop_map(|(client, flags, sequence, payload)| Step::Wild { client, flags, sequence, payload })
}

fn any_flow() -> impl Strategy<Value = Step> {
    let flow = || 0..FLOWS;
    prop_oneof![
        4 => flow().prop_map(Step::Begin),
        3 => flow().prop_map(Step::Again),
        16 => flow().prop_map(Step::Connect),
        12 => flow().prop_map(Step::Speak),
        5 => Just(Step::SpeakAll),
        4 => flow().prop_map(Step::End),
        10 => (0..UDP_CLIENTS).prop_map(Step::Datagram),
    ]
}

fn any_forged() -> impl Strategy<Value = Step> {
    let forged = prop_oneof![Just(Forged::Syn), Just(Forged::Fin), Just(Forged::Rst)];
    (0..FLOWS, forged).prop_map(|(flow, forged)| Step::Forge(flow, forged))
}

fn any_time() -> impl Strategy<Value = Step> {
    let seconds = prop_oneof![4 => 1u32..4, 3 => prop::sample::select(vec![6u32, 7, 12, 13, 20, 31])];
    prop_oneof![14 => seconds.prop_map(Step::Wait), 10 => Just(Step::Round)]
}

fn any_command() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        3 => Just(Change::Nothing),
        2 => (any_host(), 1u16..4).prop_map(|(host, weight)| Change::Weight(host, weight)),
        2 => any_host().prop_map(Change::Remove),
        2 => (any_host(), 1u16..4).prop_map(|(host, weight)| Change::Add(host, weight)),
        3 => (prop_oneof![Just(Service::Web), Just(Service::Api)], any::<bool>())
            .prop_map(|(service, edges)| Change::Edges(service, edges)),
        1 => any_moves().prop_map(Change::Moves),
    ];
    prop_oneof![
        6 => any_hosts().prop_map(Step::Drain),
        4 => any_hosts().prop_map(Step::Undrain),
        3 => any_host().prop_map(Step::Unplug),
        3 => any_host().prop_map(Step::Plug),
        4 => change.prop_map(Step::Restart),
        1 => Just(Step::Reboot),
    ]
}

/// A table with room for all.
pub fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        25 => any_wild(),
        50 => any_flow(),
        4 => any_forged(),
        24 => any_time(),
        1 => (1u32..9).prop_map(Step::Back),
        17 => any_command(),
        1 => Just(Step::Lose),
        3 => any::<usize>().prop_map(Step::Evict),
    ]
}

/// A table that is full of other clients' pins.
pub fn any_crowded_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => any_flow(),
        22 => any_time(),
        17 => any_command(),
        1 => Just(Step::Lose),
        20 => (1u32..120).prop_map(Step::Flood),
    ]
}
