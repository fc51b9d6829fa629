//! Random drains: of hosts, for services, for clients of prefixes that lie in one another, under flows. After each step every flow must
//! still be with its host (C1), no new one with a host that is out for it (C2), and where nothing was asked for a slot, nothing may have
//! moved (C4).

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::HostId;
use lb_userspace::api::types::{DrainRequest, UndrainRequest};
use lb_userspace::drain::clients;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::balancer::Balancer;
use super::setup::{HOSTS, Setup, T, name};
use crate::client::{Client, Flags, Service};

const RING: u32 = 31;
const START: u32 = 1_000_000;
const UNIX: u64 = 1_800_000_000;
const PREFIXES: [&str; 4] = ["10.32.0.0/16", "10.32.0.0/24", "10.32.0.4/32", "10.0.0.0/9"];
const SERVICES: [Service; 2] = [Service::Web, Service::Api];
const FLOWS: usize = 24;

/// Host, and indices of a service and a prefix, if not all are meant.
type What = (HostId, Option<usize>, Option<usize>);

#[derive(Debug, Clone)]
enum Step {
    Drain(What),
    Undrain(What),
    Begin(usize),
    End(usize),
    SpeakAll,
    Wait(u32),
    Round,
    Restart,
    /// All pins are lost.
    Lose,
}

fn any_step() -> impl Strategy<Value = Step> {
    let what = || {
        let service = prop_oneof![2 => Just(None), 1 => (0..SERVICES.len()).prop_map(Some)];
        let prefix = prop_oneof![1 => Just(None), 4 => (0..PREFIXES.len()).prop_map(Some)];
        (1..=HOSTS, service, prefix)
    };
    prop_oneof![
        6 => what().prop_map(Step::Drain),
        4 => what().prop_map(Step::Undrain),
        16 => (0..FLOWS).prop_map(Step::Begin),
        3 => (0..FLOWS).prop_map(Step::End),
        5 => Just(Step::SpeakAll),
        6 => prop::sample::select(vec![1u32, 2, 7, 13, 31]).prop_map(Step::Wait),
        9 => Just(Step::Round),
        1 => Just(Step::Restart),
        2 => Just(Step::Lose),
    ]
}

/// Clients inside of all prefixes, of some and of none.
fn client(number: usize, port: u16) -> Client {
    let address = [0x0a20_0004, 0x0a20_0009, 0x0a20_0109, 0x0a21_0001, 0xac10_0001, 0x0a20_0004][number % 6];
    Client { address, port, service: SERVICES[number / 6 % 2] }
}

fn is_of(client: &Client, &(_, service, prefix): &What) -> bool {
    let address = std::net::IpAddr::from(client.address.to_be_bytes());
    let in_prefix = |index: usize| clients(PREFIXES[index]).unwrap().contains(&address);
    service.is_none_or(|index| SERVICES[index] == client.service) && prefix.is_none_or(in_prefix)
}

#[derive(Debug, Default)]
struct Counts {
    drains: u32,
    refused: u32,
    begun: u32,
    /// Of which a host was out for some clients alone, for this one among them.
    begun_apart: u32,
    kept: u32,
    /// Of flows that had a handover when their pins were lost.
    survived: u32,
    joined: u32,
}

struct Run<'b> {
    balancer: &'b mut Balancer,
    setup: Setup,
    out: BTreeSet<What>,
    flows: BTreeMap<usize, (Client, HostId, u32)>,
    /// Flows that began in a settled slot.
    in_settled: BTreeSet<usize>,
    port: u16,
    counts: Counts,
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Drain(what) => self.drain(*what)?,
            Step::Undrain(what) => self.undrain(*what)?,
            Step::Begin(number) => self.begin(*number)?,
            Step::End(number) => {
                if let Some((client, host, _)) = self.flows.remove(number) {
                    self.expect(&client, host, Flags::FinAck)?;
                }
            }
            Step::SpeakAll => self.speak_all()?,
            Step::Wait(seconds) => {
                self.balancer.pass(*seconds);
                // Who was silent for too long has no flow any more.
                let now = self.now();
                self.flows.retain(|_, (_, _, spoke)| now - *spoke <= T);
            }
            Step::Round => {
                self.balancer.engine().round().map_err(|error| error.to_string())?;
            }
            Step::Lose => {
                let now = self.now();
                crate::table::lose(&mut self.balancer.plane().maps, u64::from(now));
                // What C3 promises: flows from before the handover of their slot.
                let in_settled = std::mem::take(&mut self.in_settled);
                self.flows.retain(|number, _| in_settled.contains(number));
                for (client, host, _) in self.flows.values() {
                    let slot = self.balancer.slot(client, self.setup.slot_of(client));
                    self.counts.survived +=
                        u32::from(slot.is_open() && self.balancer.host(slot.owner()) != *host);
                }
                self.in_settled = in_settled;
            }
            Step::Restart => {
                let setup = self.setup.clone();
                self.balancer.restart(&setup).map_err(|error| error.to_string())?;
            }
        }
        self.in_settled.retain(|number| self.flows.contains_key(number));
        let violations = self.balancer.status().violations;
        if violations.is_empty() { Ok(()) } else { Err(format!("must be zero: {violations:?}")) }
    }

    fn now(&self) -> u32 {
        u32::try_from(self.balancer.unix() - (UNIX - u64::from(START))).expect("seconds")
    }

    fn drain(&mut self, what: What) -> Result<(), String> {
        let (host, service, prefix) = what;
        let request = DrainRequest {
            hosts: vec![name(host)],
            service: service.map(|index| SERVICES[index].name().to_owned()),
            clients: prefix.map(|index| PREFIXES[index].to_owned()),
            ..DrainRequest::default()
        };
        match self.balancer.engine().drain(&request, "test") {
            Ok(_) => {
                if (service, prefix) == (None, None) {
                    self.out.retain(|(of, ..)| *of != host);
                }
                self.out.insert(what);
                self.counts.drains += 1;
                Ok(())
            }
            Err(error) if error.code() == "internal" => Err(error.to_string()),
            Err(_) => {
                self.counts.refused += 1;
                Ok(())
            }
        }
    }

    fn undrain(&mut self, what: What) -> Result<(), String> {
        let (host, service, prefix) = what;
        let request = UndrainRequest {
            hosts: vec![name(host)],
            service: service.map(|index| SERVICES[index].name().to_owned()),
            clients: prefix.map(|index| PREFIXES[index].to_owned()),
            ..UndrainRequest::default()
        };
        match self.balancer.engine().undrain(&request, "test") {
            Ok(_) if (service, prefix) == (None, None) => self.out.retain(|(of, ..)| *of != host),
            Ok(_) => {
                self.out.remove(&what);
            }
            Err(error) if error.code() == "internal" => return Err(error.to_string()),
            Err(_) => {}
        }
        Ok(())
    }

    fn begin(&mut self, number: usize) -> Result<(), String> {
        if self.flows.contains_key(&number) {
            return Ok(());
        }
        self.port += 1;
        let client = client(number, self.port);
        if !self.balancer.slot(&client, self.setup.slot_of(&client)).is_open() {
            self.in_settled.insert(number);
        }
        let host = self.balancer.send(&client.segment(Flags::Syn, 1, false).0);
        self.expect(&client, host, Flags::Ack)?;
        let own: Vec<&What> = self.out.iter().filter(|what| is_of(&client, what)).collect();
        if own.iter().any(|(of, ..)| *of == host) {
            return Err(format!("C2: {client:?} began on host {host}, out: {own:?}"));
        }
        // The owner is the one that a ring of the hosts in use would give: history has no say (C4).
        let used = |of: HostId| !own.iter().any(|(out, ..)| *out == of);
        let members = self.setup.members(client.service, used);
        let base = lb_userspace::ring::Base::build(&super::setup::key(), RING, &members);
        let owner = base.owners(&members)[self.setup.slot_of(&client) as usize];
        if owner != host {
            return Err(format!("C4: {client:?} began on {host}, and {owner} is the owner; out: {own:?}"));
        }
        self.counts.begun += 1;
        self.counts.begun_apart += u32::from(own.iter().any(|(_, _, prefix)| prefix.is_some()));
        self.flows.insert(number, (client, host, self.now()));
        Ok(())
    }

    fn expect(&mut self, client: &Client, host: HostId, flags: Flags) -> Result<(), String> {
        match self.balancer.send(&client.segment(flags, 2, false).0) {
            to if to == host => Ok(()),
            to => Err(format!("C1: {flags:?} of {client:?} went to {to}, and its host is {host}")),
        }
    }

    fn speak_all(&mut self) -> Result<(), String> {
        let now = self.now();
        for (client, host, spoke) in self.flows.values().copied().collect::<Vec<_>>() {
            if now - spoke <= T {
                self.expect(&client, host, Flags::Ack)?;
                self.counts.kept += 1;
            }
        }
        self.flows.values_mut().for_each(|(.., spoke)| *spoke = now);
        Ok(())
    }

    /// When all is taken back and over, the rings are as in the beginning, and nobody is treated apart.
    fn end(&mut self) -> Result<(), String> {
        self.speak_all()?;
        for host in 1..=HOSTS {
            self.undrain((host, None, None))?;
        }
        self.speak_all()?;
        self.flows.clear();
        for _ in 0..4 {
            self.balancer.pass(T + 7);
            self.balancer.engine().round().map_err(|error| error.to_string())?;
        }
        let apart = self.balancer.apart();
        let rings = self.balancer.engine().rings().rings.len();
        if apart != Default::default() || rings != 2 {
            return Err(format!("{apart:?} are still apart, and there are {rings} rings"));
        }
        self.counts.joined += 1;
        Ok(())
    }
}

fn run(balancer: &mut Balancer, steps: &[Step]) -> Result<Counts, String> {
    let setup = Setup::new(RING, BTreeMap::new());
    balancer.begin(&setup, START, UNIX).map_err(|error| error.to_string())?;
    let (out, flows, counts) = (BTreeSet::new(), BTreeMap::new(), Counts::default());
    let in_settled = BTreeSet::new();
    let mut run = Run { balancer, setup, out, flows, in_settled, port: 2000, counts };
    for (number, step) in steps.iter().enumerate() {
        run.step(step).map_err(|error| format!("step {number}, {step:?}: {error}"))?;
    }
    run.end().map_err(|error| format!("in the end: {error}"))?;
    Ok(run.counts)
}

#[test]
fn drains_of_all_kinds_keep_the_contract() {
    let cases = std::env::var("KERNEL_MODEL_CASES").map_or(14, |cases| cases.parse().expect("a number"));
    let balancer = std::cell::RefCell::new(Balancer::open(RING, 256, false));
    let total = std::cell::RefCell::new(Counts::default());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let result = TestRunner::new_with_rng(config, rng).run(&vec(any_step(), 20..90), |steps| {
        let counts = run(&mut balancer.borrow_mut(), &steps).map_err(TestCaseError::fail)?;
        let mut total = total.borrow_mut();
        total.drains += counts.drains;
        total.refused += counts.refused;
        total.begun += counts.begun;
        total.begun_apart += counts.begun_apart;
        total.kept += counts.kept;
        total.survived += counts.survived;
        total.joined += counts.joined;
        Ok(())
    });
    let total = total.into_inner();
    eprintln!("{cases} sequences: {total:?}");
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(total.drains > cases && total.refused > 0 && total.joined >= cases, "{total:?}");
    assert!(total.survived * 2 > cases, "{total:?}");
    assert!(total.begun > cases * 5 && total.begun_apart > cases && total.kept > cases * 5, "{total:?}");
}
