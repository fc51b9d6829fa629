//! What no two services may share: names, and what packets are found to be theirs by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::limits::{MAX_PREFIX_LENGTHS, MAX_RANGES, MAX_RECORDS};
use super::report::Report;
use crate::model::{Forward, Host, PortRange, Ports, Protocol, Protocols, Service, Vip};

/// Index of the service that has something.
type Owner = usize;

/// A service as others are told of it.
struct Claimant {
    name: String,
    path: String,
    vip: Vip,
    /// `nat` leaves its ports as they are.
    keeps_ports: bool,
}

/// The claims of the services before.
#[derive(Default)]
pub(super) struct Endpoints {
    /// The path of the service that has a name.
    names: HashMap<String, String>,
    claimants: Vec<Claimant>,
    clients: HashMap<(Vip, Protocol), Claims>,
    /// What `nat` tells backends' answers by.
    answers: HashMap<(IpAddr, Protocol), Claims>,
    prefix_lengths: BTreeSet<u8>,
    records: usize,
}

/// Ports of one address and protocol.
#[derive(Default)]
struct Claims {
    singles: BTreeMap<u16, Owner>,
    ranges: Vec<(PortRange, Owner)>,
}

impl Claims {
    /// Who has a port or overlapping range of the same kind.
    fn rival(&self, range: PortRange) -> Option<(PortRange, Owner)> {
        if range.is_single() {
            return self.singles.get(&range.first).map(|owner| (range, *owner));
        }
        self.ranges.iter().find(|(other, _)| other.overlaps(range)).copied()
    }

    /// Who has ranges that a port is in, or ports that are in a range.
    fn others(&self, range: PortRange) -> impl Iterator<Item = (PortRange, Owner)> {
        let singles = self.singles.range(range.first..=range.last).filter(move |_| !range.is_single());
        let singles = singles.map(|(port, owner)| (PortRange::one(*port), *owner));
        let is_in = move |other: &PortRange| range.is_single() && other.overlaps(range);
        let ranges = self.ranges.iter().copied().filter(move |(other, _)| is_in(other));
        singles.chain(ranges)
    }

    fn add(&mut self, range: PortRange, owner: Owner) {
        if range.is_single() {
            self.singles.entry(range.first).or_insert(owner);
        } else {
            self.ranges.push((range, owner));
        }
    }
}

impl Endpoints {
    pub fn check_name(&mut self, report: &mut Report, path: &str, name: &str) {
        let path = format!("{path}.name");
        if let Some(first) = self.names.get(name) {
            let message = format!("service {} has the same name", report.mention(name, first));
            report.add(&path, message, "give each service a name of its own");
        } else {
            self.names.insert(name.to_owned(), path);
        }
    }

    /// Claims what clients reach a service by. At most one problem of a kind is reported.
    pub fn claim(
        &mut self,
        report: &mut Report,
        path: &str,
        name: &str,
        vip: Vip,
        (protocols, ports): (&Protocols, &Ports),
    ) {
        let owner = self.owner(Claimant {
            name: name.to_owned(),
            path: format!("{path}.vip"),
            vip,
            keeps_ports: true,
        });
        self.count_length(report, path, vip);
        let (mut has_rival, mut has_too_many) = (false, false);
        for protocol in protocols.iter() {
            let claims = self.clients.entry((vip, protocol)).or_default();
            for range in ports.iter() {
                if let Some((theirs, rival)) = claims.rival(range) {
                    if !std::mem::replace(&mut has_rival, true) {
                        let first = mention(report, &self.claimants[rival]);
                        report_rival(report, path, &first, vip, protocol, (range, theirs));
                    }
                    continue;
                }
                claims.add(range, owner);
                if claims.ranges.len() > MAX_RANGES && !std::mem::replace(&mut has_too_many, true) {
                    let message = format!(
                        "with this service {vip}, {protocol} has {} ranges of ports",
                        claims.ranges.len()
                    );
                    let hint = format!(
                        "keep to {MAX_RANGES} ranges for one VIP and protocol; single ports are free"
                    );
                    report.add(&format!("{path}.port"), message, hint);
                }
            }
        }
    }

    /// Claims what a service's packets are found by once its hosts are known.
    pub fn claim_whole(&mut self, report: &mut Report, path: &str, service: &Service, hosts: &[&Host]) {
        let records = service.protocols.iter().count() * service.ports.iter().len();
        let is_nat = service.forward == Forward::Nat;
        let before = self.records;
        self.records += records * if is_nat { 1 + hosts.len() } else { 1 };
        if before <= MAX_RECORDS && self.records > MAX_RECORDS {
            let message = format!("with this service there are {} records", self.records);
            let hint = format!(
                "keep to {MAX_RECORDS} protocols times ports or ranges, with nat once more for each host: \
                 a range counts as one"
            );
            report.add(path, message, hint);
        }
        if is_nat && self.records <= MAX_RECORDS {
            self.claim_answers(report, path, service, hosts);
        }
    }

    /// The ports that answers come from: each belongs to one port of one VIP.
    fn claim_answers(&mut self, report: &mut Report, path: &str, service: &Service, hosts: &[&Host]) {
        let field = if service.backend_port.is_some() { "backend_port" } else { "port" };
        let place = format!("{path}.{field}");
        let keeps_ports = service.backend_port.is_none();
        let (name, vip) = (service.name.clone(), service.vip);
        let owner = self.owner(Claimant { name, path: place.clone(), vip, keeps_ports });
        let ports = service.backend_port.map_or_else(|| service.ports.clone(), Ports::from);
        let claimants = &self.claimants;
        // There the port comes before the range, as for clients, and leads to the same VIP and port.
        let agrees =
            |rival: Owner| keeps_ports && claimants[rival].keeps_ports && claimants[rival].vip == service.vip;
        let (mut has_rival, mut has_too_many) = (false, false);
        for &host in hosts {
            let Some(address) = service.reach().address_of(host) else { continue };
            for protocol in service.protocols.iter() {
                let claims = self.answers.entry((address, protocol)).or_default();
                for range in ports.iter() {
                    let other = claims.others(range).find(|(_, rival)| !agrees(*rival));
                    if let Some((_, rival)) = claims.rival(range).or(other) {
                        if !std::mem::replace(&mut has_rival, true) {
                            let first = mention(report, &self.claimants[rival]);
                            let message = format!(
                                "host {:?} answers for service {first} from there: {address}, {protocol}, {range}",
                                host.name
                            );
                            let hint = "with nat, where an answer comes from tells its service: give one of the \
                                        two another backend_port, or other hosts";
                            report.add(&place, message, hint);
                        }
                        continue;
                    }
                    claims.add(range, owner);
                    if claims.ranges.len() > MAX_RANGES && !std::mem::replace(&mut has_too_many, true) {
                        let message = format!(
                            "with this service host {:?} answers from {} ranges of ports over {protocol}",
                            host.name,
                            claims.ranges.len()
                        );
                        let hint = format!(
                            "keep to {MAX_RANGES} ranges for one host and protocol where nat is used"
                        );
                        report.add(&place, message, hint);
                    }
                }
            }
        }
    }

    fn owner(&mut self, claimant: Claimant) -> Owner {
        self.claimants.push(claimant);
        self.claimants.len() - 1
    }

    fn count_length(&mut self, report: &mut Report, path: &str, vip: Vip) {
        if vip.is_single() || !self.prefix_lengths.insert(vip.bits()) {
            return;
        }
        if self.prefix_lengths.len() == MAX_PREFIX_LENGTHS + 1 {
            let message =
                format!("with this service VIPs have {} lengths of prefixes", self.prefix_lengths.len());
            let hint = format!(
                "keep to {MAX_PREFIX_LENGTHS} different ones, IPv4 and IPv6 together; single addresses are free"
            );
            report.add(&format!("{path}.vip"), message, hint);
        }
    }
}

fn mention(report: &Report, claimant: &Claimant) -> String {
    report.mention(&claimant.name, &claimant.path)
}

fn report_rival(
    report: &mut Report,
    path: &str,
    first: &str,
    vip: Vip,
    protocol: Protocol,
    (range, theirs): (PortRange, PortRange),
) {
    if range.is_single() {
        let message =
            format!("service {first} has the same VIP, protocol and port: {vip}, {protocol}, {range}");
        report.add(&format!("{path}.vip"), message, "change one of the three, or take one service out");
    } else {
        let message = format!("{range} overlaps the ports of service {first}: {vip}, {protocol}, {theirs}");
        let hint = "let ranges of one VIP and protocol be apart; only single ports may lie in the range of another service";
        report.add(&format!("{path}.port"), message, hint);
    }
}
