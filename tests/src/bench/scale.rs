//! How figures depend on sizes. Nothing that is searched may grow with what exists: a packet's cost is that of its own service,
//! slot and pin, wherever they lie.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::{Result, ensure};
use lb_common::layout::{Control, HOST_NONE, HostId, HostState, Policy, Slot};
use lb_common::reason::Reason;
use lb_userspace::dataplane::{Sizes, Tables};
use lb_userspace::ring::{Base, Member, Slots};

use super::Options;
use super::feeder::{Called, Feeder};
use super::frames::{Flows, Frame, Kind};
use super::measure::{XDP_TX, check};
use super::report::{ProgramFacts, Scaled, Spread, Work};
use super::subject::{KEY, Mode, RING_SIZE, Subject, members, service, tables};
use super::userspace::sweeps;

/// Pins that flow tables are made for, but for the largest sweep.
const PINS: u32 = 1_000_000;

/// A data path of some size.
#[derive(Debug, Clone, Copy)]
struct Size {
    services: u32,
    /// Of each service.
    members: u32,
    /// Of all services together: `members` for each ring, or fewer where rings share hosts.
    hosts: u32,
    rings: u32,
    ring_size: u32,
    flows: u32,
}

const BASE: Size = Size { services: 1, members: 4, hosts: 4, rings: 1, ring_size: RING_SIZE, flows: 1_000 };

/// From the smallest on, one number after the other grows.
const SIZES: [Size; 9] = [
    BASE,
    Size { services: 100, ..BASE },
    Size { members: 400, hosts: 400, ..BASE },
    // The least ring that a config accepts for so many.
    Size { members: 4_094, hosts: 4_094, ring_size: 409_433, ..BASE },
    Size { flows: 10_000, ..BASE },
    Size { services: 4_000, flows: 10_000, ..BASE },
    MOST_SERVICES,
    Size { flows: 100_000, ..BASE },
    Size { flows: 1_000_000, ..BASE },
];

const MOST_SERVICES: Size =
    Size { services: 10_000, members: 1, hosts: 64, rings: 64, flows: 10_000, ..BASE };

/// What a packet costs in each size.
pub fn packets(options: &Options, say: &mut impl FnMut(&str)) -> Result<(ProgramFacts, Vec<Scaled>)> {
    let mut rows = Vec::new();
    let mut facts = None;
    for (number, size) in SIZES.into_iter().enumerate() {
        let Size { services, hosts, rings, flows, .. } = size;
        say(&format!("{services} services, {hosts} hosts, {rings} rings, {flows} flows"));
        let instance = format!("bench-{}-{number}", std::process::id());
        let mut subject = Subject::empty(&instance, Sizes::new(size.ring_size, PINS))?;
        let mut feeder = Feeder::load(subject.program()?, flows)?;
        feeder.set(frames(size))?;
        subject.dataplane.publish(&size.tables(0))?;
        let full = measure(options, &mut feeder, &mut subject, flows, Reason::ForwardPin)?;
        subject.dataplane.publish(&size.tables(Policy::EDGES))?;
        let edges = measure(options, &mut feeder, &mut subject, flows, Reason::ForwardOwner)?;
        rows.push(Scaled { services, hosts, rings, flows, full, edges });
        facts = Some(subject.program_facts()?);
    }
    Ok((facts.unwrap_or_else(|| unreachable!("there are sizes")), rows))
}

/// What the daemon's work takes at the largest sizes.
pub fn work(say: &mut impl FnMut(&str)) -> Result<Vec<Work>> {
    const MOST: u32 = 16_000_000;
    say("16 M pins");
    let mut work = {
        let mut subject =
            Subject::empty(&format!("bench-{}", std::process::id()), Sizes::new(RING_SIZE, MOST))?;
        subject.dataplane.publish(&tables())?;
        sweeps(&mut subject, MOST, 150.0)?
    };
    say("10 000 services");
    let size = MOST_SERVICES;
    let instance = format!("bench-{}-large", std::process::id());
    let mut subject = Subject::empty(&instance, Sizes::new(RING_SIZE, PINS))?;
    let started = Instant::now();
    subject.dataplane.publish(&size.tables(0))?;
    let first = started.elapsed();
    let what = format!("publish {} services over {} rings for the first time", size.services, size.rings);
    work.push(Work::of(&what, &[first]));
    let mut times = Vec::new();
    for round in 0..11 {
        let tables = size.drained(round % 2 == 0);
        let started = Instant::now();
        subject.dataplane.publish(&tables)?;
        times.push(started.elapsed());
    }
    times.sort();
    let what = format!(
        "publish the drain of 1 host of {} services, {} exist",
        size.services / size.rings,
        size.services
    );
    work.push(Work::of(&what, &times));
    let members = members(4_094, None);
    let build = Work::new("ring of 409433 slots over 4094 hosts: build", 5, None, || {
        std::hint::black_box(Base::build(&KEY, 409_433, &members));
        Ok(())
    })?;
    work.push(build);
    Ok(work)
}

/// A packet of each flow, each to the next service.
fn frames(size: Size) -> impl ExactSizeIterator<Item = Frame> {
    let flows: Vec<Flows> = (0..size.services).map(|number| Flows::new(Kind::TcpAck, vip(number))).collect();
    (0..size.flows as usize).map(move |flow| flows[flow % flows.len()].frame(flow as u32))
}

/// 250 VIPs, each with a port for every 250 services.
fn vip(number: u32) -> SocketAddr {
    let address = Ipv4Addr::new(203, 0, 113, (number % 250) as u8 + 1);
    SocketAddr::new(IpAddr::V4(address), 8000 + (number / 250) as u16)
}

impl Size {
    fn tables(self, policy: u8) -> Tables {
        let ring = |ring: u32| {
            let members = self.members_of(ring);
            let base = Base::build(&KEY, self.ring_size, &members);
            (ring, Slots::settled(&base.owners(&members)).words().collect())
        };
        let services = (0..self.services).map(|number| {
            let ring = number % self.rings;
            let mut table = service(0, self.members as HostId, vip(number), false, Mode::L2, ring);
            table.policy = Policy(policy);
            // Each ring has hosts of its own, from where the last one's end.
            let first = ring * self.members;
            let renumbered = table.backends.into_iter().map(|(host, mut backend)| {
                backend.record.stats = number * self.members + u32::from(host);
                (host + first as HostId, backend)
            });
            table.backends = renumbered.collect();
            (number as u16, table)
        });
        Tables {
            services: services.collect(),
            clients: Default::default(),
            rings: (0..self.rings).map(ring).collect(),
            vips: Default::default(),
        }
    }

    /// With the only host of ring 0 out: all its slots lose their owner.
    fn drained(self, out: bool) -> Tables {
        let mut tables = self.tables(0);
        if out {
            for backend in tables.services.values_mut().filter_map(|table| table.backends.get_mut(&1)) {
                backend.record.control = Control::new(HostState::Draining).0;
            }
            if let Some(slots) = tables.rings.get_mut(&0) {
                let away = |slot: &u32| Slot::open(HOST_NONE, Slot(*slot).owner()).0;
                *slots = slots.iter().map(away).collect();
            }
        }
        tables
    }

    fn members_of(self, ring: u32) -> Vec<Member> {
        let first = (ring * self.members) as HostId;
        let mut members = members(self.members as HostId, None);
        for member in &mut members {
            member.id += first;
        }
        members
    }
}

fn measure(
    options: &Options,
    feeder: &mut Feeder,
    subject: &mut Subject,
    flows: u32,
    reason: Reason,
) -> Result<Spread> {
    subject.forget_all()?;
    // Once through: each flow gets its pin, if the service tracks it.
    feeder.run(Called::Tested, flows)?;
    let packets = flows * options.packets.div_ceil(flows);
    let mut differences = Vec::new();
    for _ in 0..options.rounds {
        feeder.run(Called::Sender, packets)?;
        let floor = feeder.run(Called::Sender, packets)?.0;
        feeder.run(Called::Tested, packets)?;
        let before = subject.reasons()?;
        let (ns, returned) = feeder.run(Called::Tested, packets)?;
        check(&before, &subject.reasons()?, reason, u64::from(packets))?;
        ensure!(returned == XDP_TX, "the program returned {returned}");
        differences.push(ns - floor);
    }
    differences.sort_by(f64::total_cmp);
    Ok(Spread {
        median: differences[differences.len() / 2],
        lowest: differences[0],
        highest: differences[differences.len() - 1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fit() {
        for size in SIZES {
            assert!(size.services * size.members <= Sizes::BACKENDS, "{size:?}");
            assert!(size.services <= 10_000 && size.hosts <= 4_094 && size.rings <= 64, "{size:?}");
            assert_eq!(size.hosts, size.rings * size.members);
        }
        let vips: std::collections::HashSet<_> = (0..10_000).map(vip).collect();
        assert_eq!(vips.len(), 10_000);
    }
}
