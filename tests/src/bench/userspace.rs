//! What the daemon's own work takes: rings, publications, sweeps.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_common::layout::{Control, HostId, HostState};
use lb_userspace::ages::{End, Ended, Pair};
use lb_userspace::dataplane::{Dataplane, Sizes, SweepInput, Tables, grace_period, monotonic_seconds};
use lb_userspace::engine::{Watched, look};
use lb_userspace::ring::{Base, Slots};

use super::cases::flows;
use super::feeder::{Called, Feeder};
use super::frames::{Flows, Kind};
use super::machine::thread_time;
use super::report::Work;
use super::subject::{KEY, Mode, RING_SIZE, Subject, Vips, members, service, tables};

/// Members of a large ring.
const HOSTS: HostId = 100;

/// Measures all of it. Replaces what the subject has published.
pub fn measure(subject: &mut Subject, say: &mut impl FnMut(&str)) -> Result<Vec<Work>> {
    say("rings");
    let all = members(HOSTS, None);
    let some = members(HOSTS, Some(7));
    let base = Base::build(&KEY, RING_SIZE, &all);
    let mut work = vec![
        Work::new("ring of 65537 slots over 100 hosts: build", 31, Some(3.0), || {
            black_box(Base::build(&KEY, RING_SIZE, &all));
            Ok(())
        })?,
        Work::new("the same: owners with 1 host out", 31, None, || {
            black_box(base.owners(&some));
            Ok(())
        })?,
    ];
    say("sweeps");
    work.extend(sweeps(subject, 1_000_000, 10.0)?);
    say("progress of drains");
    work.extend(progress(subject, 100_000, 50.0)?);
    say("publications");
    work.extend(publications(&mut subject.dataplane, HOSTS, 8)?);
    work.extend(publications(&mut subject.dataplane, 16, 1000)?);
    Ok(work)
}

/// Sweeps of so many pins, if the table is made for them; `goal` in milliseconds.
pub fn sweeps(subject: &mut Subject, pins: u32, goal: f64) -> Result<Vec<Work>> {
    if subject.dataplane.maps.sizes.buckets < Sizes::new(RING_SIZE, pins).buckets {
        return Ok(Vec::new());
    }
    fill(subject, pins)?;
    let tables = tables();
    let sweep = |subject: &mut Subject, loses: &dyn Fn(HostId) -> bool| {
        let swept = subject.dataplane.sweep(&SweepInput {
            ring_of: &|cold| tables.services.get(&cold.service()).map(|table| table.ring),
            slots: &|ring| tables.rings.get(&ring).map(Vec::as_slice),
            state: &|_, _| HostState::Up,
            losers: loses,
            drain_of: &|_, _| None,
            leaving: &|_, _| false,
        })?;
        anyhow::ensure!(swept.total() >= u64::from(pins) * 999 / 1000, "{} pins were found", swept.total());
        Ok(())
    };
    let name = |what: &str| format!("sweep of {}{what}", flows(pins).replace("flows", "pins"));
    Ok(vec![
        Work::new(&name(""), 11, Some(goal), || sweep(subject, &|_| false))?,
        Work::new(&name(", 1 of 4 hosts in handover"), 11, None, || sweep(subject, &|host| host == 1))?,
    ])
}

/// Makes the table hold so many pins and no others.
fn fill(subject: &mut Subject, pins: u32) -> Result<()> {
    subject.forget_all()?;
    let mut feeder = Feeder::load(subject.program()?, pins)?;
    let packets = Flows::new(Kind::TcpAck, Vips::of(false, false, Mode::L2));
    feeder.set((0..pins as usize).map(|flow| packets.frame(flow as u32)))?;
    feeder.run(Called::Tested, pins)?;
    Ok(())
}

/// Progress, expected end and blockers of all hosts at once, which have so many flows; `goal` in milliseconds.
fn progress(subject: &mut Subject, flows: u32, goal: f64) -> Result<Vec<Work>> {
    fill(subject, flows)?;
    // An hour of flows that ended, of all durations.
    let now = monotonic_seconds();
    let mut ended = Ended::new(now.saturating_sub(3600));
    // Services share their hosts.
    let hosts: BTreeSet<HostId> =
        tables().services.values().flat_map(|table| table.backends.keys().copied()).collect();
    let hosts = Vec::from_iter(hosts);
    for number in 0..200_000 {
        let pair = Pair { service: 0, host: hosts[number as usize % hosts.len()], is_udp: false };
        let (at, is_silent) = (now.saturating_sub(number % 3600), number % 9 == 0);
        ended.take(&[End { pair, client: [0; 2], at, duration: number * 7919 % 40_000, is_silent }], now);
    }
    let hosts: Vec<_> =
        hosts.into_iter().map(|host| Watched { host, service: None, clients: None, bound: None }).collect();
    let name = format!("progress and 5 blockers of each of {} hosts, {}", hosts.len(), self::flows(flows));
    let work = Work::new(&name, 11, Some(goal), || {
        let seen = look(&subject.dataplane, &ended, &hosts, 5, monotonic_seconds());
        let total: u64 = seen.iter().map(|seen| seen.survey.total()).sum();
        anyhow::ensure!(total >= u64::from(flows) * 999 / 1000, "{total} flows were found");
        anyhow::ensure!(seen.iter().all(|seen| seen.expected.p50.is_some()), "nothing is expected");
        Ok(())
    })?;
    Ok(vec![work])
}

/// Drains a host and takes it back: one ring that all services share, each with a backend on each host.
fn publications(dataplane: &mut Dataplane, hosts: HostId, services: u16) -> Result<Vec<Work>> {
    let base = Base::build(&KEY, RING_SIZE, &members(hosts, None));
    let mut slots = Slots::settled(&base.owners(&members(hosts, None)));
    let mut generation = 1;
    let mut make = |out: bool| {
        generation += 1;
        slots.publish(&base.owners(&members(hosts, out.then_some(7))), generation);
        let state = if out { HostState::Draining } else { HostState::Up };
        let tables = (0..services).map(|number| {
            let vip = Vips::of(false, false, Mode::L2);
            let vip = std::net::SocketAddr::new(vip.ip(), 8000 + number);
            let mut table = service(number, hosts, vip, false, Mode::L2, 0);
            if let Some(backend) = table.backends.get_mut(&7) {
                backend.record.control = Control::new(state).0;
            }
            (number, table)
        });
        Tables {
            services: tables.collect(),
            clients: Default::default(),
            rings: [(0, slots.words().collect())].into(),
            vips: Default::default(),
        }
    };
    dataplane.publish(&make(false)).context("a ring of all hosts")?;
    let mut out = false;
    let (mut whole, mut worked, mut graces) = (Vec::new(), Vec::new(), Vec::new());
    let name = format!("publish the drain of 1 host of {hosts}, {services} services");
    let publish = Work::new(&name, 11, (services == 1000).then_some(40.0), || {
        out = !out;
        let tables = make(out);
        let (started, before) = (Instant::now(), thread_time());
        dataplane.publish(&tables)?;
        whole.push(started.elapsed());
        worked.push(thread_time() - before);
        Ok(())
    })?;
    whole.sort();
    worked.sort();
    for _ in 0..11 {
        let started = Instant::now();
        grace_period()?;
        graces.push(started.elapsed());
    }
    graces.sort();
    Ok(vec![
        publish,
        Work::of("of that, writing the maps and waiting for packets under way", &whole),
        match services {
            1000 => Work::of("of that, work: a CPU's time", &worked).with_goal(5.0),
            _ => Work::of("of that, work: a CPU's time", &worked),
        },
        Work::of("a grace period of the kernel alone", &graces),
    ])
}

impl Work {
    /// Median of some runs.
    pub fn new(
        what: &str,
        runs: usize,
        goal: Option<f64>,
        mut run: impl FnMut() -> Result<()>,
    ) -> Result<Work> {
        let mut times = Vec::new();
        for _ in 0..runs {
            let started = Instant::now();
            run()?;
            times.push(started.elapsed());
        }
        times.sort();
        let work = Work::of(what, &times);
        Ok(if let Some(goal) = goal { work.with_goal(goal) } else { work })
    }

    pub fn with_goal(mut self, goal: f64) -> Work {
        (self.goal, self.met) = (Some(goal), Some(self.ms <= goal));
        self
    }

    /// From sorted times.
    pub fn of(what: &str, times: &[Duration]) -> Work {
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        Work {
            what: what.to_owned(),
            ms: ms(times.get(times.len() / 2)),
            lowest: ms(times.first()),
            highest: ms(times.last()),
            goal: None,
            met: None,
        }
    }
}
