//! Whether it is the host that fails, and not a few who make it look so.
//!
//! Who knows by which of his ports he reaches which host can begin flows there without ever going on, as many as he likes. So the flow
//! table is asked for the networks of clients, each of which has one vote; and whether other hosts answer the same networks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lb_common::layout::HostId;

use crate::model::Passive;

/// Networks that must have a vote, if hosts of the service usually answer as many.
const LEAST_NETWORKS: usize = 5;
/// Networks that are kept of those that a host which is not suspected has answered in a second.
const KEPT: usize = 32;

/// A client's network, see [`network`].
pub type Network = [u64; 2];

/// Flows from a client's network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fared {
    pub answered: u64,
    pub failed: u64,
}

impl Fared {
    fn failing(&self) -> f64 {
        self.failed as f64 / (self.answered + self.failed) as f64
    }
}

/// How flows that began in a second fared.
pub type Second = BTreeMap<Network, Fared>;

/// The network of a client, from its address in a pin: 24 bits of IPv4, 48 of IPv6.
pub fn network(source: [u64; 2]) -> Network {
    let v4 = lb_common::layout::Tuple::is_v4(&source);
    let keep = |bytes: [u8; 16]| {
        let kept = if v4 { 15 } else { 6 };
        let mut network = [0; 16];
        network[..kept].copy_from_slice(&bytes[..kept]);
        network
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&source[0].to_ne_bytes());
    bytes[8..].copy_from_slice(&source[1].to_ne_bytes());
    lb_common::layout::Tuple::words(keep(bytes))
}

/// What a walk is to find out of a host for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Seconds back, this one included.
    pub seconds: usize,
    /// How its flows fared, and not only whom it has answered.
    pub is_suspected: bool,
}

/// One walk through the flow table, for all that are suspected and those beside them.
#[derive(Debug, Default)]
pub struct Walk {
    found: HashMap<(u16, HostId), Of>,
}

#[derive(Debug)]
enum Of {
    Suspected(Vec<Second>),
    /// Networks that it has answered.
    Other(Vec<BTreeSet<Network>>),
}

impl Of {
    fn seconds(&self) -> usize {
        match self {
            Of::Suspected(seconds) => seconds.len(),
            Of::Other(seconds) => seconds.len(),
        }
    }

    /// Networks that were answered in a second.
    fn answered(&self, back: usize) -> impl Iterator<Item = &Network> {
        let (suspected, other) = match self {
            Of::Suspected(seconds) => (seconds.get(back), None),
            Of::Other(seconds) => (None, seconds.get(back)),
        };
        let suspected = suspected.into_iter().flatten().filter(|(_, fared)| fared.answered > 0);
        suspected.map(|(network, _)| network).chain(other.into_iter().flatten())
    }
}

impl Walk {
    /// By the numbers of service and host.
    pub fn new(asked: impl IntoIterator<Item = ((u16, HostId), Asked)>) -> Self {
        let of = |asked: Asked| match asked.is_suspected {
            true => Of::Suspected(vec![Second::new(); asked.seconds]),
            false => Of::Other(vec![BTreeSet::new(); asked.seconds]),
        };
        Walk { found: asked.into_iter().map(|(pair, asked)| (pair, of(asked))).collect() }
    }

    pub fn hosts(&self) -> impl Iterator<Item = HostId> {
        self.found.keys().map(|&(_, host)| host)
    }

    /// How far back something is asked.
    pub fn seconds(&self) -> usize {
        self.found.values().map(Of::seconds).max().unwrap_or(0)
    }

    /// Takes in a flow that began so many seconds ago at a host, if that is asked for.
    pub fn note(&mut self, pair: (u16, HostId), back: usize, source: [u64; 2], is_answered: bool) {
        match self.found.get_mut(&pair) {
            Some(Of::Suspected(seconds)) => {
                if let Some(second) = seconds.get_mut(back) {
                    let fared = second.entry(network(source)).or_default();
                    *if is_answered { &mut fared.answered } else { &mut fared.failed } += 1;
                }
            }
            Some(Of::Other(seconds)) if is_answered => {
                if let Some(second) = seconds.get_mut(back).filter(|second| second.len() < KEPT) {
                    second.insert(network(source));
                }
            }
            _ => {}
        }
    }

    /// How the flows of a host that is suspected fared, one second after the other, this one first.
    pub fn of(&self, pair: (u16, HostId)) -> &[Second] {
        match self.found.get(&pair) {
            Some(Of::Suspected(seconds)) => seconds,
            _ => &[],
        }
    }

    /// Whom the hosts of a service have answered.
    pub fn peers(&self, service: u16) -> Peers {
        let hosts: Vec<(HostId, &Of)> = self
            .found
            .iter()
            .filter(|((of, _), _)| *of == service)
            .map(|(&(_, host), of)| (host, of))
            .collect();
        let mut answered = HashMap::new();
        for (host, of) in &hosts {
            for network in (0..of.seconds()).flat_map(|back| of.answered(back)) {
                let by = answered.entry(*network).or_insert(Some(*host));
                if *by != Some(*host) {
                    *by = None;
                }
            }
        }
        let mut sums: Vec<BTreeSet<Network>> = vec![BTreeSet::new(); hosts.len()];
        let usual = (0..self.seconds()).map(|back| {
            let is_open = |sum: &BTreeSet<Network>| back > 0 && sum.len() < LEAST_NETWORKS;
            for (sum, (_, of)) in sums.iter_mut().zip(&hosts).filter(|(sum, _)| is_open(sum)) {
                sum.extend(of.answered(back).take(LEAST_NETWORKS));
            }
            let mut counts: Vec<usize> = sums.iter().map(BTreeSet::len).filter(|count| *count > 0).collect();
            counts.sort_unstable();
            counts.get(counts.len() / 2).map_or(LEAST_NETWORKS, |count| *count.min(&LEAST_NETWORKS))
        });
        Peers { usual: usual.collect(), answered }
    }
}

/// Whom the hosts of a service have answered.
#[derive(Debug, Default)]
pub struct Peers {
    /// How many networks are usual of a host in as many seconds without this one: as many as half of the hosts that have answered some
    /// have, but no more than [`LEAST_NETWORKS`].
    pub(super) usual: Vec<usize>,
    /// By which host; `None`: by several.
    pub(super) answered: HashMap<Network, Option<HostId>>,
}

impl Peers {
    fn usual(&self, seconds: usize) -> usize {
        self.usual.get(seconds).copied().unwrap_or(LEAST_NETWORKS)
    }

    /// Whether another host has answered this network.
    fn have_answered(&self, network: &Network, host: HostId) -> bool {
        self.answered.get(network).is_some_and(|by| *by != Some(host))
    }
}

/// How many of the flow table's seconds are as long as these milliseconds.
pub fn whole_seconds(stretch: u64) -> usize {
    usize::try_from((stretch + 500) / 1000).unwrap_or(usize::MAX).max(1)
}

/// Whether the networks say of a host what all flows together say, in the latest seconds, as many as `stretch`, the milliseconds that were
/// looked at. `Err`: why not.
///
/// These seconds have a say and no others: in them the hosts were held against each other, and what was before may have hit all of them. What
/// began within this very second may be about to be answered, and counts for nothing. Where few networks are usual, only those that other
/// hosts have answered have a vote, or somebody who reaches the host alone would speak for all clients whose flows are not known.
pub fn believe(
    host: HostId,
    seconds: &[Second],
    peers: &Peers,
    stretch: u64,
    passive: &Passive,
) -> Result<(), String> {
    let count = whole_seconds(stretch);
    let mut sums = Second::new();
    for (network, fared) in seconds.iter().skip(1).take(count).flatten() {
        let sum = sums.entry(*network).or_default();
        (sum.answered, sum.failed) = (sum.answered + fared.answered, sum.failed + fared.failed);
    }
    let flows: u64 = sums.values().map(|fared| fared.answered + fared.failed).sum();
    if flows < u64::from(passive.least_flows) / 2 {
        return Err(format!("the flow table knows only {flows} of them, from {} networks", sums.len()));
    }
    let all: Vec<Fared> = sums.values().copied().collect();
    let shared = sums.iter().filter(|(network, _)| peers.have_answered(network, host));
    let shared: Vec<Fared> = shared.map(|(_, fared)| *fared).collect();
    let needed = peers.usual(count);
    if needed < LEAST_NETWORKS && shared.len() < needed {
        return Err(format!(
            "other hosts answer {} of the {} networks that they are from, and {needed} such would have to say so",
            shared.len(),
            all.len()
        ));
    }
    if all.len() < needed {
        return Err(format!("they are from {} networks, and {needed} would have to say so", all.len()));
    }
    for (networks, which) in [(all, "networks"), (shared, "networks that other hosts answer")] {
        let failing = networks.iter().map(Fared::failing).sum::<f64>() / networks.len() as f64 * 100.0;
        // Not so of none, which is no number.
        if failing < f64::from(passive.failing.0) {
            let failed = networks.iter().filter(|fared| fared.failed > fared.answered).count();
            return Err(format!("the flows of only {failed} of {} {which} fail", networks.len()));
        }
    }
    Ok(())
}
