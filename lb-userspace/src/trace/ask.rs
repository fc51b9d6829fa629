//! Which packets somebody asks for, as the data path takes it.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::layout::{HostId, TRACE_BYTES, TRACE_LEAST, TraceFilter, Tuple, prefix_mask};
use lb_common::parse::{ICMP, TCP, UDP};
use lb_common::reason::{Class, Reason};

use super::{LONGEST, MOST_RATE, RATE};
use crate::api::types::{PacketVerdict, TraceProtocol, TraceRequest};

/// What is known by name, and of the data path.
pub trait Known {
    fn service(&self, name: &str) -> Option<ServiceEnds>;
    fn host(&self, name: &str) -> Option<HostId>;
    /// Some service forwards by `nat`, so packets may be backends' answers.
    fn has_answers(&self) -> bool;
}

/// A service, and where its packets are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceEnds {
    pub number: u16,
    pub vip: IpNet,
    /// First and last of all its ports.
    pub ports: (u16, u16),
}

/// What is asked for that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no service named {0}")]
    NoService(String),
    #[error("there is no host named {0}")]
    NoHost(String),
    #[error("{0}")]
    Bad(String),
}

/// A request that makes sense by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    protocol: u8,
    client: End,
    vip: End,
    service: Option<String>,
    host: Option<String>,
    reasons: u64,
    verdicts: u8,
    every: u32,
    rate: u32,
    /// Bytes of each frame that come along.
    pub bytes: u32,
}

/// An address or a prefix, and a port; 0: any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct End {
    net: Option<IpNet>,
    port: u16,
}

impl Asked {
    pub fn of(request: &TraceRequest) -> Result<Self, Refused> {
        let within = |what: &str, value: Option<u32>, default: u32, most: u32| match value {
            None => Ok(default),
            Some(value) if (1..=most).contains(&value) => Ok(value),
            Some(value) => Err(Refused::Bad(format!("{what} is 1 to {most}, not {value}"))),
        };
        if let Some(lasting) = request.lasting.filter(|lasting| !(1..=LONGEST).contains(lasting)) {
            return Err(Refused::Bad(format!("lasting is 1 to {LONGEST} seconds, not {lasting}")));
        }
        let bytes = match request.bytes {
            Some(0) => 0,
            bytes => within("bytes", bytes, 0, TRACE_BYTES as u32)?,
        };
        Ok(Asked {
            protocol: match request.protocol {
                None => 0,
                Some(TraceProtocol::Tcp) => TCP,
                Some(TraceProtocol::Udp) => UDP,
                Some(TraceProtocol::Icmp) => ICMP,
            },
            client: End::of("client", request.client.as_deref())?,
            vip: End::of("vip", request.vip.as_deref())?,
            service: request.service.clone(),
            host: request.host.clone(),
            reasons: reasons(&request.reasons)?,
            verdicts: verdicts(&request.verdicts),
            every: within("sample", request.sample, 1, u32::MAX)?,
            rate: within("rate", request.rate, RATE, MOST_RATE)?,
            bytes,
        })
    }

    /// For the data path; it does not count yet, as `until` is 0.
    ///
    /// # Errors
    /// A host or service that there is not.
    pub fn filter(&self, known: &impl Known) -> Result<TraceFilter, Refused> {
        let service = match &self.service {
            None => None,
            Some(name) => Some(known.service(name).ok_or_else(|| Refused::NoService(name.clone()))?),
        };
        let host = match &self.host {
            None => 0,
            Some(name) => known.host(name).ok_or_else(|| Refused::NoHost(name.clone()))?,
        };
        // Where the service is leads past most packets that are none of its.
        let (vip, ports) = match (self.vip, service) {
            (End { net: None, port: 0 }, Some(service)) => (Some(service.vip), service.ports),
            (End { net, port: 0 }, _) => (net, (0, u16::MAX)),
            (End { net, port }, _) => (net, (port, port)),
        };
        let has_ends = self.client != End::default() || vip.is_some() || ports != (0, u16::MAX);
        let (replies, all_reasons) = (known.has_answers() && has_ends, all_reasons());
        let late = host != 0
            || service.is_some()
            || self.reasons != all_reasons
            || self.verdicts != u8::MAX
            || replies;
        let (client, client_mask) = words(self.client.net);
        let (vip, vip_mask) = words(vip);
        Ok(TraceFilter {
            client,
            client_mask,
            vip,
            vip_mask,
            reasons: self.reasons,
            client_port: self.client.port,
            first_port: ports.0,
            last_port: ports.1,
            service: service.map_or(TraceFilter::ANY_SERVICE, |service| service.number),
            host,
            protocol: self.protocol,
            verdicts: self.verdicts,
            flags: if late { TraceFilter::LATE } else { 0 } | if replies { TraceFilter::REPLIES } else { 0 },
            every: self.every,
            rate: self.rate,
            keep: self.bytes.max(TRACE_LEAST as u32),
            until: 0,
        })
    }
}

impl End {
    /// `ADDRESS`, `ADDRESS/LENGTH`, each with `:PORT` or without; `:PORT`. An IPv6 address is in brackets where a port follows.
    fn of(what: &str, text: Option<&str>) -> Result<Self, Refused> {
        let Some(text) = text else { return Ok(End::default()) };
        let bad = || {
            let like = "198.51.100.7, 198.51.100.0/24:443, [2001:db8::7]:443, 2001:db8::/32 or :443";
            Refused::Bad(format!("{what} is not {text:?}: write it like {like}"))
        };
        let (net, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (net, port) = rest.split_once(']').ok_or_else(bad)?;
                // As `[2001:db8::]/32:443` also.
                let (length, port) =
                    port.split_once(':').map_or((port, None), |(length, port)| (length, Some(port)));
                (format!("{net}{length}"), port)
            }
            // More colons than one are an address of IPv6.
            None if text.matches(':').count() > 1 => (text.to_owned(), None),
            None => text
                .split_once(':')
                .map_or((text.to_owned(), None), |(net, port)| (net.to_owned(), Some(port))),
        };
        let port = match port {
            None => 0,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?,
        };
        let net = match net.as_str() {
            "" if port != 0 => None,
            net => {
                let address = net.parse::<IpAddr>().map(IpNet::from);
                let net = address.or_else(|_| net.parse::<IpNet>().map(|net| net.trunc()));
                Some(net.map_err(|_| bad())?)
            }
        };
        Ok(End { net, port })
    }
}

/// A prefix and its mask, as the data path has addresses.
fn words(net: Option<IpNet>) -> ([u64; 2], [u64; 2]) {
    let Some(net) = net else { return ([0; 2], [0; 2]) };
    let (octets, length) = match net {
        IpNet::V4(net) => (net.network().to_ipv6_mapped().octets(), net.prefix_len() + 96),
        IpNet::V6(net) => (net.network().octets(), net.prefix_len()),
    };
    let mask = if length == 128 { [u64::MAX; 2] } else { prefix_mask(length) };
    (Tuple::words(octets), mask)
}

/// Those that a verdict can have.
fn all_reasons() -> u64 {
    let of_verdicts =
        Reason::ALL.iter().filter(|reason| !matches!(reason.class(), Class::Note | Class::Violation));
    of_verdicts.fold(0, |bits, &reason| bits | 1 << reason as u32)
}

fn reasons(names: &[String]) -> Result<u64, Refused> {
    if names.is_empty() {
        return Ok(all_reasons());
    }
    let mut bits = 0;
    for name in names {
        let is_meant = |reason: &Reason| match name.strip_suffix('*') {
            Some(begin) => reason.name().starts_with(begin),
            None => reason.name() == name,
        };
        let found = Reason::ALL.iter().filter(|reason| is_meant(reason));
        let found = found.fold(0, |bits, &reason| bits | 1 << reason as u32) & all_reasons();
        if found == 0 {
            let near = Reason::ALL
                .iter()
                .map(|reason| reason.name())
                .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(Refused::Bad(format!("no packet has the reason {name:?}{near}")));
        }
        bits |= found;
    }
    Ok(bits)
}

fn verdicts(verdicts: &[PacketVerdict]) -> u8 {
    if verdicts.is_empty() {
        return u8::MAX;
    }
    let bit = |verdict: &PacketVerdict| match verdict {
        // Aborted counts as dropped.
        PacketVerdict::Drop => 0b11,
        PacketVerdict::Pass => 1 << 2,
        PacketVerdict::Transmit => 1 << 3,
        PacketVerdict::Redirect => 1 << 4,
    };
    verdicts.iter().fold(0, |bits, verdict| bits | bit(verdict))
}

/// A request for people: `tcp, client 198.51.100.7, service web, 1 of 100`.
pub fn in_words(request: &TraceRequest) -> String {
    let named = |what: &str, value: &Option<String>| value.as_ref().map(|value| format!("{what} {value}"));
    let listed = |what: &str, values: Vec<&str>| {
        (!values.is_empty()).then(|| format!("{what} {}", values.join(" or ")))
    };
    let words = [
        request.protocol.map(|protocol| protocol.name().to_owned()),
        named("client", &request.client),
        named("VIP", &request.vip),
        named("service", &request.service),
        named("host", &request.host),
        listed("reason", request.reasons.iter().map(String::as_str).collect()),
        listed("verdict", request.verdicts.iter().map(|verdict| verdict.name()).collect()),
        request.sample.filter(|every| *every > 1).map(|every| format!("1 of {every}")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() { "all packets".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Site {
        has_answers: bool,
    }

    impl Known for Site {
        fn service(&self, name: &str) -> Option<ServiceEnds> {
            let vip = "203.0.113.10/32".parse().unwrap();
            (name == "web").then_some(ServiceEnds { number: 4, vip, ports: (80, 443) })
        }

        fn host(&self, name: &str) -> Option<HostId> {
            (name == "web-1").then_some(9)
        }

        fn has_answers(&self) -> bool {
            self.has_answers
        }
    }

    fn filter(request: &TraceRequest) -> Result<TraceFilter, Refused> {
        Asked::of(request)?.filter(&Site { has_answers: false })
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn nothing_asked_for_is_everything() {
        let found = filter(&TraceRequest::default()).unwrap();
        assert_eq!((found.client_mask, found.vip_mask), ([0; 2], [0; 2]));
        assert_eq!((found.first_port, found.last_port, found.client_port), (0, u16::MAX, 0));
        assert_eq!((found.flags, found.every, found.rate), (0, 1, RATE));
        assert_eq!((found.keep, found.until), (TRACE_LEAST as u32, 0));
        for reason in Reason::ALL {
            let is_of_a_verdict = !matches!(reason.class(), Class::Note | Class::Violation);
            assert_eq!(found.reasons >> *reason as u32 & 1 == 1, is_of_a_verdict, "{}", reason.name());
        }
    }

    #[test]
    fn ends_are_addresses_prefixes_and_ports() {
        let v4 = |octets: [u8; 4]| Tuple::v4(u32::from_ne_bytes(octets));
        let one = [u64::MAX; 2];
        let v6 = Tuple::words("2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        let net6 = Tuple::words("2001:db8::".parse::<std::net::Ipv6Addr>().unwrap().octets());
        for (text, address, mask, port) in [
            ("198.51.100.7", v4([198, 51, 100, 7]), one, 0),
            ("198.51.100.7:443", v4([198, 51, 100, 7]), one, 443),
            ("198.51.100.7/24", v4([198, 51, 100, 0]), prefix_mask(120), 0),
            ("198.51.100.0/24:443", v4([198, 51, 100, 0]), prefix_mask(120), 443),
            ("2001:db8::7", v6, one, 0),
            ("[2001:db8::7]", v6, one, 0),
            ("[2001:db8::7]:443", v6, one, 443),
            ("2001:db8::/32", net6, prefix_mask(32), 0),
            ("[2001:db8::/32]:443", net6, prefix_mask(32), 443),
            ("[2001:db8::]/32:443", net6, prefix_mask(32), 443),
            (":443", [0; 2], [0; 2], 443),
        ] {
            let found = filter(&TraceRequest { client: some(text), ..TraceRequest::default() }).unwrap();
            assert_eq!((found.client, found.client_mask, found.client_port), (address, mask, port), "{text}");
            let found = filter(&TraceRequest { vip: some(text), ..TraceRequest::default() }).unwrap();
            let ports = if port == 0 { (0, u16::MAX) } else { (port, port) };
            assert_eq!((found.vip, found.vip_mask), (address, mask), "{text}");
            assert_eq!((found.first_port, found.last_port), ports, "{text}");
        }
        for bad in [
            "",
            ":",
            "web",
            "198.51.100.7:",
            "198.51.100.7:0",
            "198.51.100.7/33",
            "[::1",
            "::1]:5",
            "1.2.3.4:99999",
        ] {
            let error = filter(&TraceRequest { client: some(bad), ..TraceRequest::default() }).unwrap_err();
            assert!(error.to_string().contains("write it like"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_only_the_decision_tells_is_asked_late() {
        let of = |change: fn(&mut TraceRequest)| {
            let mut request = TraceRequest::default();
            change(&mut request);
            filter(&request).unwrap()
        };
        for late in [
            of(|request| request.service = some("web")),
            of(|request| request.host = some("web-1")),
            of(|request| request.reasons = vec!["drop_*".to_owned()]),
            of(|request| request.verdicts = vec![PacketVerdict::Drop]),
        ] {
            assert_eq!(late.flags, TraceFilter::LATE, "{late:?}");
        }
        assert_eq!(of(|request| request.client = some("10.0.0.1")).flags, 0);
        let asked = Asked::of(&TraceRequest { client: some("10.0.0.1"), ..TraceRequest::default() }).unwrap();
        let with_answers = asked.filter(&Site { has_answers: true }).unwrap();
        assert_eq!(with_answers.flags, TraceFilter::LATE | TraceFilter::REPLIES);
        let all = Asked::of(&TraceRequest::default()).unwrap().filter(&Site { has_answers: true }).unwrap();
        assert_eq!(all.flags, 0, "answers are among all packets");
        let web = of(|request| request.service = some("web"));
        assert_eq!((web.service, web.first_port, web.last_port), (4, 80, 443));
        assert_eq!(web.vip, Tuple::v4(u32::from_ne_bytes([203, 0, 113, 10])));
    }

    #[test]
    fn names_and_numbers_that_make_no_sense_are_refused() {
        let refused = |request: TraceRequest| filter(&request).unwrap_err();
        let base = TraceRequest::default;
        assert_eq!(
            refused(TraceRequest { service: some("wbe"), ..base() }),
            Refused::NoService("wbe".to_owned())
        );
        assert_eq!(refused(TraceRequest { host: some("x"), ..base() }), Refused::NoHost("x".to_owned()));
        let error = refused(TraceRequest { reasons: vec!["forward_pni".to_owned()], ..base() });
        assert!(error.to_string().ends_with("did you mean forward_pin?"), "{error}");
        for reason in ["", "violation_*", "note_unpinned"] {
            refused(TraceRequest { reasons: vec![reason.to_owned()], ..base() });
        }
        for request in [
            TraceRequest { sample: Some(0), ..base() },
            TraceRequest { rate: Some(0), ..base() },
            TraceRequest { lasting: Some(0), ..base() },
            TraceRequest { lasting: Some(LONGEST + 1), ..base() },
            TraceRequest { rate: Some(MOST_RATE + 1), ..base() },
            TraceRequest { bytes: Some(TRACE_BYTES as u32 + 1), ..base() },
        ] {
            assert!(refused(request).to_string().contains(" to "));
        }
    }

    #[test]
    fn requests_have_words() {
        assert_eq!(in_words(&TraceRequest::default()), "all packets");
        let request = TraceRequest {
            protocol: Some(TraceProtocol::Tcp),
            client: some("198.51.100.7"),
            service: some("web"),
            reasons: vec!["drop_*".to_owned(), "forward_new".to_owned()],
            verdicts: vec![PacketVerdict::Drop],
            sample: Some(100),
            ..TraceRequest::default()
        };
        let words =
            "tcp, client 198.51.100.7, service web, reason drop_* or forward_new, verdict drop, 1 of 100";
        assert_eq!(in_words(&request), words);
    }
}
