//! The balancer's programs on the host: the same parser, hash and decision as in the kernel, other code for what is written into
//! frames, and plain maps in place of the flow table and of the map of fragments. They have room for everything, and pins stay until
//! their flow makes them anew: so it is to be compared with a table that is far from full, and that nothing is swept out of.
//!
//! It knows no routes: a backend's answer to a client has none, unless the client's address is of one link.

mod answer;
mod blame;
mod data_path;
mod nat;
mod route;
mod send;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use lb_common::flow::{Phase, TIMEOUT_SETS, Timeouts};
use lb_common::hash::{FlowHash, Key};
use lb_common::icmp::{Kind, Problem, Quoted};
use lb_common::layout::{
    FEATURE_NAT, FEATURE_PING, HostId, PHASES_COUNTED, Policy, ServiceKey, Tuple, VipFlags,
};
use lb_common::parse::{L3, Packet, Segment, Signal, TCP, What, Whole};
use lb_common::reason::{Class, Reason};

use crate::site::{Service, Site, octets_of};
use crate::wire::{tags, untagged};
use crate::{icmp, parse};
use blame::inspect;
use route::Route;
use send::{Leaving, room};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To the kernel, untouched.
    Pass,
    Drop,
    /// Out by the interface that it came in by.
    Transmit,
}

/// What a packet changes in the counters of a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    pub packets: i64,
    pub bytes: i64,
    pub new_flows: i64,
    pub moved: i64,
    pub reset: i64,
    /// By [`lb_common::layout::BackendStats::gauge_of`].
    pub live: [i64; PHASES_COUNTED],
}

/// All that comes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The frame as it leaves.
    pub bytes: Vec<u8>,
    /// Every reason that is counted; the verdict's own is the last.
    pub reasons: Vec<Reason>,
    /// By service and host; what did not change is left out.
    pub changes: BTreeMap<(u16, HostId), Change>,
    /// Number of the service that the packet was for, or that a packet of it was quoted.
    pub service: Option<u16>,
}

/// What is fixed for one load of the programs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub key: Key,
    pub ring_size: u32,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// Seconds of silence after which a UDP flow may change its host, by timeout set.
    pub udp_gap: [u32; TIMEOUT_SETS],
    /// `FEATURE_…` bits.
    pub features: u32,
    /// [`lb_common::layout::Settings::mss`]
    pub mss: u32,
    /// The balancer's addresses on the interface that frames come in by.
    pub own_v4: Option<Ipv4Addr>,
    pub own_v6: Option<Ipv6Addr>,
}

/// The programs with their maps.
#[derive(Debug, Clone)]
pub struct Balancer {
    pub settings: Settings,
    pub site: Arc<Site>,
    /// Seconds.
    pub now: u32,
    pins: BTreeMap<Tuple, Kept>,
    fragments: BTreeMap<Tuple, First>,
}

/// A pin, live or not.
#[derive(Debug, Clone, Copy)]
struct Kept {
    host: HostId,
    phase: Phase,
    /// Timeout set of the service, as of the flow's last packet.
    set: u8,
    seen: u32,
    sequence: u32,
    /// Service whose counters it is booked in.
    service: u16,
}

/// Where a packet's first fragment went.
#[derive(Debug, Clone, Copy)]
struct First {
    service: u16,
    /// `None`: to a client.
    host: Option<HostId>,
    seen: u32,
}

/// Seconds for which a packet's fragments are waited for.
const PATIENCE: u32 = 30;

/// What is counted beside the verdict.
#[derive(Debug, Default)]
struct Books {
    reasons: Vec<Reason>,
    changes: BTreeMap<(u16, HostId), Change>,
    service: Option<u16>,
}

impl Books {
    fn change(&mut self, service: u16, host: HostId) -> &mut Change {
        self.changes.entry((service, host)).or_default()
    }
}

/// The frame as it leaves, and why; `Err`: it is passed or dropped.
type Ended = Result<(Reason, Vec<u8>), Reason>;

/// A service, with its number and the key that it was found by.
type Found<'a> = (u16, &'a Service, ServiceKey);

impl Balancer {
    pub fn new(settings: Settings, site: Arc<Site>, now: u32) -> Self {
        Balancer { settings, site, now, pins: BTreeMap::new(), fragments: BTreeMap::new() }
    }

    /// Flows that have a pin.
    pub fn flows(&self) -> usize {
        self.pins.len()
    }

    /// Every flow has ended, and the sweep has been here.
    pub fn forget(&mut self) {
        self.pins.clear();
    }

    /// Runs the programs on a frame.
    pub fn run(&mut self, frame: &[u8]) -> Outcome {
        let mut books = Books::default();
        let tags = tags(frame);
        // What follows the tags must be there to be seen.
        let is_cut = frame.len() < L3 + tags;
        let bare = if is_cut { frame.to_vec() } else { untagged(frame) };
        let ended = if is_cut { Err(Reason::PassMalformed) } else { self.handle(&bare, &mut books) };
        let (verdict, bytes, reason) = match ended {
            Ok((reason, bytes)) if reason.class() == Class::Answer => {
                (Verdict::Transmit, [&bytes[..12], &frame[12..12 + tags], &bytes[12..]].concat(), reason)
            }
            Ok((reason, bytes)) => (Verdict::Transmit, bytes, reason),
            Err(reason) if reason.class() == Class::Pass => (Verdict::Pass, frame.to_vec(), reason),
            Err(reason) => (Verdict::Drop, bare, reason),
        };
        let Books { mut reasons, mut changes, service } = books;
        reasons.push(reason);
        changes.retain(|_, change| *change != Change::default());
        Outcome { verdict, bytes, reasons, changes, service }
    }

    fn handle(&mut self, frame: &[u8], books: &mut Books) -> Ended {
        let (whole, segment) = parse::whole(frame)?;
        match whole.what {
            What::Flow => self.flow(frame, &whole, segment, books),
            What::Icmp => self.icmp(frame, &whole, books),
            What::Later => self.later(frame, &whole, books),
            What::Overlap if self.vip(&whole) != 0 => Err(Reason::DropFragmentOverlap),
            What::Overlap => Err(Reason::PassFragment),
        }
    }

    /// TCP or UDP with its ports.
    fn flow(&mut self, frame: &[u8], whole: &Whole, segment: Segment, books: &mut Books) -> Ended {
        let site = Arc::clone(&self.site);
        let tuple = &whole.packet.tuple;
        let Some(found) = find(&site, tuple) else {
            let number = self.answering(&site, tuple).ok_or(Reason::PassNoService)?;
            match inspect(frame, whole) {
                Err(Reason::DropTimeExceeded) => return self.answer(frame, whole, Problem::TimeExceeded),
                inspected => inspected?,
            }
            self.remember(whole, number, None);
            return Err(to_client(&whole.packet));
        };
        books.service = Some(found.0);
        match inspect(frame, whole) {
            Err(Reason::DropTimeExceeded) => return self.answer(frame, whole, Problem::TimeExceeded),
            inspected => inspected?,
        }
        let routed = Route::new(self, books, &whole.packet, segment, found).go();
        let (host, reason) = match routed {
            Err(Reason::AnswerReset) => return self.reset(frame, whole, Reason::AnswerReset),
            Err(Reason::AnswerReject) if found.1.policy.has(Policy::PASS) => {
                return Err(Reason::PassNoHost);
            }
            Err(Reason::AnswerReject) if tuple.protocol as u8 == TCP => {
                return self.reset(frame, whole, Reason::AnswerReject);
            }
            Err(Reason::AnswerReject) => return self.answer(frame, whole, Problem::PortUnreachable),
            routed => routed?,
        };
        self.remember(whole, found.0, Some(host));
        match self.send(frame, whole, None, (found.0, host), reason, books) {
            Err(Reason::DropTooBig) => {
                let mtu = room(&found.1.backends[&host].record);
                self.answer(frame, whole, Problem::TooBig { mtu })
            }
            sent => sent,
        }
    }

    /// ICMP: a ping, or an error about a packet that a backend or a client has sent.
    fn icmp(&mut self, frame: &[u8], whole: &Whole, books: &mut Books) -> Ended {
        let is_for_vip = self.vip(whole) != 0;
        let has = |feature| self.settings.features & feature != 0;
        if !is_for_vip && !has(FEATURE_NAT) {
            return Err(Reason::PassIcmp);
        }
        let l4 = L3 + usize::from(whole.packet.ip_header_len);
        let inspected = if is_for_vip { inspect(frame, whole) } else { Ok(()) };
        let quoted = match icmp::look(frame, l4, whole.packet.is_v6) {
            (Kind::Echo, _) if is_for_vip && has(FEATURE_PING) => {
                return match inspected {
                    Ok(()) | Err(Reason::DropTimeExceeded) => {
                        let reply = icmp::reply_to(frame, whole.packet.is_v6).ok_or(Reason::PassIcmp)?;
                        Ok((Reason::AnswerEcho, reply))
                    }
                    Err(reason) => Err(reason),
                };
            }
            (Kind::Error, Ok(quoted)) => quoted,
            _ => return Err(Reason::PassIcmp),
        };
        inspected?;
        // As of a packet that its client sends, and that changes nothing.
        let mut whole = *whole;
        (whole.packet.tuple, whole.packet.signal) = (quoted.tuple, Signal::Stray);
        let site = Arc::clone(&self.site);
        if !is_for_vip {
            self.answering(&site, &quoted.tuple).ok_or(Reason::PassIcmp)?;
            inspect(frame, &whole)?;
            return Err(to_client(&whole.packet));
        }
        let found = find(&site, &quoted.tuple).ok_or(Reason::PassIcmp)?;
        books.service = Some(found.0);
        let (host, _) = Route::new(self, books, &whole.packet, Segment::default(), found).go()?;
        self.send(frame, &whole, Some(&quoted), (found.0, host), Reason::ForwardIcmp, books)
    }

    /// A fragment without ports.
    fn later(&mut self, frame: &[u8], whole: &Whole, books: &mut Books) -> Ended {
        let first = self.fragments.get(&shared(whole)).filter(|first| self.now - first.seen <= PATIENCE);
        match first.copied() {
            Some(First { service, host: Some(host), .. }) => {
                books.service = Some(service);
                inspect(frame, whole)?;
                self.send(frame, whole, None, (service, host), Reason::ForwardFragment, books)
            }
            Some(_) => {
                inspect(frame, whole)?;
                Err(to_client(&whole.packet))
            }
            None => match self.vip(whole) {
                0 => Err(Reason::PassFragment),
                flags if flags & VipFlags::PASS_FRAGMENTS != 0 => Err(Reason::PassFragment),
                _ => Err(Reason::DropFragment),
            },
        }
    }

    /// Notes where a first fragment goes.
    fn remember(&mut self, whole: &Whole, service: u16, host: Option<HostId>) {
        if whole.fragment.is_part != 0 {
            self.fragments.insert(shared(whole), First { service, host, seen: self.now });
        }
    }

    /// Sends a packet to a host of a service, and counts it there.
    fn send(
        &self,
        frame: &[u8],
        whole: &Whole,
        quoted: Option<&Quoted>,
        (service, host): (u16, HostId),
        reason: Reason,
        books: &mut Books,
    ) -> Ended {
        // Who has no such backend any more finds an empty record.
        let backend = self.site.services[&service].backends.get(&host).ok_or(Reason::DropNoNextHop)?;
        let hash = FlowHash::of(&whole.packet.tuple, self.settings.key);
        let leaving = Leaving { frame, whole, quoted, hash, reason, balancer: self };
        let bytes = leaving.send(backend)?;
        let change = books.change(service, host);
        change.packets += 1;
        change.bytes += frame.len() as i64;
        Ok((reason, bytes))
    }

    /// Number of the service that answers from where the tuple comes from.
    fn answering(&self, site: &Site, tuple: &Tuple) -> Option<u16> {
        let is_on = self.settings.features & FEATURE_NAT != 0;
        let found = site.find(&tuple.source, tuple.source_port(), tuple.protocol as u8, true);
        found.filter(|_| is_on).map(|(number, ..)| number)
    }

    /// [`VipFlags`] of the packet's destination, 0 if it is no VIP.
    fn vip(&self, whole: &Whole) -> u32 {
        let flags = self.site.vip(&whole.packet.tuple.destination);
        if flags & VipFlags::VIP != 0 { flags } else { 0 }
    }
}

/// The service that a flow is for.
fn find<'a>(site: &'a Site, tuple: &Tuple) -> Option<Found<'a>> {
    site.find(&tuple.destination, tuple.destination_port(), tuple.protocol as u8, false)
}

/// What the fragments of a packet share.
fn shared(whole: &Whole) -> Tuple {
    let tuple = whole.packet.tuple;
    let protocol = if whole.packet.is_v6 { 0 } else { tuple.protocol };
    Tuple { ports: whole.fragment.id, protocol, ..tuple }
}

/// What becomes of a backend's answer. To the addresses that are of one link only the kernel's answer is another one than to those that it
/// has no route to (`bpf_ipv6_fib_lookup` in net/core/filter.c, `rt6_need_strict`).
fn to_client(packet: &Packet) -> Reason {
    let client = Ipv6Addr::from(octets_of(packet.tuple.destination));
    let is_of_a_link = client.is_multicast() || client.is_unicast_link_local() || client.is_loopback();
    if packet.is_v6 && is_of_a_link { Reason::PassNoService } else { Reason::DropNoRoute }
}
