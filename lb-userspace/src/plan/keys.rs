//! What packets of a service are found by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::layout::{BackendFlags, HostId, MODE_NAT, ServiceKey, VipFlags};

use super::address_words;
use crate::dataplane::{self, BackendTable, VipKey};
use crate::model::{Forward, Fragments, Model, Ports, Protocol, Service, Vip};

/// Keys of what clients send to the service, and with `nat` of what its hosts answer.
pub fn keys_of(model: &Model, service: &Service) -> Vec<ServiceKey> {
    let vip = service.vip;
    let towards = Ends { address: vip.address(), prefix: vip.bits(), is_reply: false };
    let mut keys = towards.keys(service, &service.ports);
    if service.forward == Forward::Nat {
        let ports = service.backend_port.map_or_else(|| service.ports.clone(), Ports::from);
        keys.extend(
            model.addresses(service).flat_map(|address| Ends::answers(address).keys(service, &ports)),
        );
    }
    keys
}

/// Keys of what backends answer that the config does not name any more, where nobody else answers by now.
pub fn keys_of_leaving(
    model: &Model,
    numbers: &BTreeMap<String, u16>,
    leaving: &BTreeMap<(u16, HostId), BackendTable>,
    claimed: impl FnOnce() -> BTreeSet<ServiceKey>,
) -> Vec<(u16, ServiceKey)> {
    let mut leaving = leaving.iter().filter(|(_, backend)| backend.record.mode == MODE_NAT).peekable();
    if leaving.peek().is_none() {
        return Vec::new();
    }
    let mut claimed = claimed();
    let mut keys = Vec::new();
    for (&(number, _), BackendTable { record, .. }) in leaving {
        let mut named = model.services.iter().filter(|service| numbers.get(&service.name) == Some(&number));
        let Some(service) = named.next() else { continue };
        let address = address_in(record.address, record.flags & BackendFlags::OUTER_V6 != 0);
        let port = u16::from_be(record.port);
        let ports = if port == 0 { service.ports.clone() } else { Ports::from(port) };
        let answers = Ends::answers(address).keys(service, &ports).into_iter();
        keys.extend(answers.filter(|key| claimed.insert(*key)).map(|key| (number, key)));
    }
    keys
}

/// An address or prefix that packets go to, or come from.
struct Ends {
    address: IpAddr,
    prefix: u8,
    is_reply: bool,
}

impl Ends {
    fn answers(address: IpAddr) -> Self {
        Ends { address, prefix: ServiceKey::WHOLE, is_reply: true }
    }

    fn keys(&self, service: &Service, ports: &Ports) -> Vec<ServiceKey> {
        let key = |protocol, first, last| ServiceKey {
            address: address_words(self.address),
            prefix: self.prefix,
            first,
            last,
            protocol: number_of(protocol),
            is_reply: self.is_reply,
        };
        let protocols = service.protocols.iter();
        protocols
            .flat_map(|protocol| ports.iter().map(move |range| key(protocol, range.first, range.last)))
            .collect()
    }
}

fn number_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => lb_common::parse::TCP,
        Protocol::Udp => lb_common::parse::UDP,
    }
}

/// An address of a backend's record.
fn address_in(octets: [u8; 16], is_v6: bool) -> IpAddr {
    let [a, b, c, d, ..] = octets;
    if is_v6 { IpAddr::from(octets) } else { IpAddr::from([a, b, c, d]) }
}

/// The VIPs and the hosts that answer by `nat`, and how fragments to them are treated: they pass where no service drops them, of the address or of a prefix that
/// it lies in.
pub fn vips(model: &Model) -> BTreeMap<VipKey, dataplane::Vip> {
    let mut passes: BTreeMap<Vip, bool> = BTreeMap::new();
    for service in &model.services {
        *passes.entry(service.vip).or_insert(true) &= service.fragments == Fragments::Pass;
    }
    let dropping: Vec<Vip> =
        passes.iter().filter(|(vip, passes)| !vip.is_single() && !**passes).map(|(vip, _)| *vip).collect();
    let flags = |vip: &Vip, passes: bool| {
        let passes = passes && !dropping.iter().any(|prefix| prefix.covers(*vip));
        let alone = if vip.is_single() { VipFlags::ALONE } else { 0 };
        VipFlags::VIP | alone | if passes { VipFlags::PASS_FRAGMENTS } else { 0 }
    };
    let vips = passes.iter().map(|(vip, &passes)| (vip_key(*vip), dataplane::Vip(flags(vip, passes))));
    vips.chain(nat_hosts(model)).collect()
}

fn nat_hosts(model: &Model) -> impl Iterator<Item = (VipKey, dataplane::Vip)> {
    let nat = model.services.iter().filter(|service| service.forward == Forward::Nat);
    let addresses = nat.flat_map(|service| model.addresses(service));
    addresses.map(|address| (vip_key(address.into()), dataplane::Vip(VipFlags::NAT_HOST)))
}

pub fn vip_key(vip: Vip) -> VipKey {
    let address = match vip.address() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    (address.octets(), vip.bits())
}
