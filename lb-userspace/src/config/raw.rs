//! The file as written: every field has its type, nothing has been compared with anything else yet.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::limits::{self, default};
use super::reader::{Read, Section, address, child, choice, describe};
use super::report::Report;
use super::{announce, api, health, hooks, metrics, ports, prefix, schema, ui};
use crate::model::{
    Affinity, Api, Family, FlowTable, Forward, Fragments, Health, Hooks, Interface, Metrics, Ping, Ports,
    Protocol, Protocols, Retention, Rules, Timeouts, Tracking, UdpHandover, Ui, Vip, VipMode, WhenEmpty,
    XdpMode,
};

pub(super) struct RawConfig {
    /// Each with the path of its name; `None` for what names none, which has been reported.
    pub interfaces: Vec<(String, Option<Interface>)>,
    pub vip_mode: VipMode,
    pub ping: Ping,
    pub mss_clamp: Option<u16>,
    /// Each with its path.
    pub outer_source: Vec<(String, IpNet)>,
    pub gue_port: u16,
    pub ring_size: Read<u32>,
    pub hash_key: Option<[u8; 16]>,
    pub flow_table: FlowTable,
    pub timeouts: Timeouts,
    pub rules: Rules,
    pub health: Health,
    pub hooks: Hooks,
    pub journal: Retention,
    pub api: Api,
    /// As written.
    pub metrics: Metrics,
    pub ui: Ui,
    pub announce: Option<String>,
    /// In the order of the file.
    pub hosts: Vec<RawHost>,
    pub services: Vec<RawService>,
}

pub(super) struct RawHost {
    pub name: String,
    pub path: String,
    /// In the order of the file; `None` for what is no address, which has been reported.
    pub addresses: Vec<Option<IpAddr>>,
    pub weight: u16,
    pub disabled: bool,
    pub zone: Read<String>,
    /// Each with its path.
    pub groups: Vec<(String, String)>,
}

pub(super) struct RawService {
    pub path: String,
    pub name: Option<String>,
    pub vip: Option<Vip>,
    pub protocols: Option<Protocols>,
    pub ports: Option<Ports>,
    /// `None` for what is none, which has been reported.
    pub forward: Option<Forward>,
    pub outer: Read<Family>,
    pub backend_port: Option<u16>,
    pub fragments: Fragments,
    pub tracking: Option<Tracking>,
    pub affinity: Affinity,
    pub udp_handover: Option<UdpHandover>,
    pub timeouts: Timeouts,
    pub rules: Rules,
    pub when_empty: WhenEmpty,
    /// `None` for what is none, which has been reported.
    pub checks: Vec<Option<health::RawCheck>>,
    pub health: Health,
    /// `None` for what is no name, which has been reported.
    pub standby: Vec<Option<String>>,
    pub hosts: Read<Vec<Option<String>>>,
}

impl RawConfig {
    pub fn read(report: &mut Report, table: &DeTable<'_>) -> Self {
        let top = Section::open(report, table, "", &schema::TOP);
        let timeouts = read_timeouts(report, &top, "[timeouts]", default::TIMEOUTS);
        let rules = read_rules(report, &top, "[rules]", Rules::default());
        let health = health::read(report, &top, "[health]", &Health::default());
        RawConfig {
            interfaces: read_interfaces(report, &top),
            vip_mode: top
                .choice(report, "vip_mode", &[("external", VipMode::External), ("local", VipMode::Local)])
                .or(default::VIP_MODE),
            ping: top
                .choice(report, "ping", &[("pass", Ping::Pass), ("answer", Ping::Answer)])
                .or(Ping::default()),
            mss_clamp: top.integer(report, "mss_clamp", limits::MSS).value(),
            outer_source: read_outer_source(report, &top),
            gue_port: top.integer(report, "gue_port", 1..=u16::MAX).or(default::GUE_PORT),
            ring_size: top.integer(report, "ring_size", limits::RING_SIZE),
            hash_key: top.key(report, "hash_key").value(),
            flow_table: read_flow_table(report, &top),
            timeouts,
            rules,
            hooks: hooks::read(report, &top),
            journal: read_journal(report, &top),
            api: api::read(report, &top),
            metrics: metrics::read(report, &top),
            ui: ui::read(report, &top),
            announce: announce::read(report, &top),
            hosts: read_hosts(report, &top),
            services: read_services(report, &top, &Defaults { timeouts, rules, health: &health }),
            health,
        }
    }
}

const XDP_MODES: &[(&str, XdpMode)] =
    &[("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];

fn read_interfaces(report: &mut Report, top: &Section<'_>) -> Vec<(String, Option<Interface>)> {
    const EXAMPLE: &str = "[\"eth0\"]";
    let mode = top.choice(report, "xdp_mode", XDP_MODES).or(default::XDP_MODE);
    let interfaces = top.values(report, "interfaces", "an array of strings", EXAMPLE);
    let interfaces = top.required(report, "interfaces", interfaces, EXAMPLE);
    if matches!(&interfaces, Read::Value(names) if names.is_empty()) {
        report.add("interfaces", "no interface is named", "name at least one, the clients' side first");
    }
    let read = |(path, value): (String, &DeValue<'_>)| match value {
        DeValue::String(name) => {
            let interface = Interface { name: name.to_string(), xdp_mode: mode };
            (path, Some(interface))
        }
        DeValue::Table(table) => {
            let section = Section::open(report, table, &path, &schema::INTERFACE);
            let name = section.string(report, "name", "\"eth1\"");
            let name = section.required(report, "name", name, "\"eth1\"").value();
            let xdp_mode = section.choice(report, "xdp_mode", XDP_MODES).or(mode);
            (section.path_of("name"), name.map(|name| Interface { name: name.to_owned(), xdp_mode }))
        }
        other => {
            let message = format!("expected a string, found {}", describe(other));
            let hint = format!(
                "write it as in interfaces = {EXAMPLE}, or {{ name = \"eth0\", xdp_mode = \"generic\" }} for a mode of its own"
            );
            report.add(&path, message, hint);
            (path, None)
        }
    };
    interfaces.or(Vec::new()).into_iter().map(read).collect()
}

fn read_outer_source(report: &mut Report, top: &Section<'_>) -> Vec<(String, IpNet)> {
    let texts = top.strings(report, "outer_source", "[\"100.64.0.0/24\", \"fd00:5::/64\"]").or(Vec::new());
    let read = |(index, text): (usize, Option<&str>)| {
        let path = format!("outer_source[{index}]");
        let prefix = prefix::outer_source(report, &path, text?)?;
        Some((path, prefix))
    };
    texts.into_iter().enumerate().filter_map(read).collect()
}

fn read_flow_table(report: &mut Report, top: &Section<'_>) -> FlowTable {
    let Read::Value(table) = top.table(report, "flow_table", "[flow_table]") else {
        return flow_table(default::PINS);
    };
    let section = Section::open(report, table, "flow_table", &schema::FLOW_TABLE);
    let usual = flow_table(section.integer(report, "pins", limits::PINS).or(default::PINS));
    FlowTable {
        pins: usual.pins,
        overflow: section.integer(report, "overflow", limits::OVERFLOW).or(usual.overflow),
        flood_gate: section.integer(report, "flood_gate", limits::FLOOD_GATE).or(usual.flood_gate),
    }
}

/// The defaults for a table of so many pins.
fn flow_table(pins: u32) -> FlowTable {
    let overflow = (pins / default::PINS_AN_OVERFLOW).max(*limits::OVERFLOW.start());
    FlowTable { pins, overflow, flood_gate: default::FLOOD_GATE }
}

/// Timeouts of the file, or of one service; what is left out is as in `default`.
fn read_timeouts(report: &mut Report, parent: &Section<'_>, header: &str, default: Timeouts) -> Timeouts {
    let Read::Value(table) = parent.table(report, "timeouts", header) else { return default };
    let section = Section::open(report, table, &parent.path_of("timeouts"), &schema::TIMEOUTS);
    Timeouts {
        half_open: section.duration(report, "half_open").or(default.half_open),
        established: section.duration(report, "established").or(default.established),
        closing: section.duration(report, "closing").or(default.closing),
        udp: section.duration(report, "udp").or(default.udp),
        udp_gap: section.duration(report, "udp_gap").or(default.udp_gap),
    }
}

/// Rules of the file, or of one service; what is left out is as in `default`.
fn read_rules(report: &mut Report, parent: &Section<'_>, header: &str, default: Rules) -> Rules {
    let Read::Value(table) = parent.table(report, "rules", header) else { return default };
    let section = Section::open(report, table, &parent.path_of("rules"), &schema::RULES);
    Rules {
        min_healthy: section.percent(report, "min_healthy").or(default.min_healthy),
        one_zone_at_a_time: section.flag(report, "one_zone_at_a_time").or(default.one_zone_at_a_time),
    }
}

fn read_journal(report: &mut Report, top: &Section<'_>) -> Retention {
    let default = default::RETENTION;
    let Read::Value(table) = top.table(report, "journal", "[journal]") else { return default };
    let section = Section::open(report, table, "journal", &schema::JOURNAL);
    let keep_for = section.duration_within(report, "keep_for", limits::KEEP_FOR);
    Retention {
        keep_for: keep_for.or(default.keep_for),
        keep_revisions: section
            .integer(report, "keep_revisions", limits::KEEP_REVISIONS)
            .or(default.keep_revisions),
    }
}

fn read_hosts(report: &mut Report, top: &Section<'_>) -> Vec<RawHost> {
    let Read::Value(table) = top.table(report, "hosts", "[hosts.NAME]") else { return Vec::new() };
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut hosts = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let name = key.get_ref().as_ref();
        let path = child("hosts", name);
        report.place(&path, value.span());
        match value.get_ref().as_table() {
            Some(table) => hosts.push(read_host(report, table, name, path)),
            None => {
                let message =
                    format!("expected a table, found a value of type {}", value.get_ref().type_str());
                let addresses = if value.get_ref().is_str() { "the address" } else { "an address" };
                let hint = format!("begin it with a line [{path}] and give {addresses} in addresses = [..]");
                report.add(&path, message, hint);
                let (name, addresses) = (name.to_owned(), vec![None]);
                let (zone, groups) = (Read::Broken, Vec::new());
                hosts.push(RawHost {
                    name,
                    path,
                    addresses,
                    weight: default::WEIGHT,
                    disabled: false,
                    zone,
                    groups,
                });
            }
        }
    }
    hosts
}

fn read_host(report: &mut Report, table: &DeTable<'_>, name: &str, path: String) -> RawHost {
    let section = Section::open(report, table, &path, &schema::HOST);
    let texts = section.strings(report, "addresses", "[\"10.0.0.11\"]");
    let texts = section.required(report, "addresses", texts, "[\"10.0.0.11\"]");
    let addresses = match texts {
        Read::Value(texts) => {
            if texts.is_empty() {
                let hint = "give it an IPv4 address, an IPv6 address or one of each";
                report.add(&section.path_of("addresses"), format!("host {name:?} has no address"), hint);
            }
            let parse = |(index, text): (usize, Option<&str>)| {
                address(report, &format!("{}[{index}]", section.path_of("addresses")), text?)
            };
            let addresses: Vec<_> = texts.into_iter().enumerate().map(parse).collect();
            if addresses.is_empty() { vec![None] } else { addresses }
        }
        Read::Absent | Read::Broken => vec![None],
    };
    let weight = section.integer(report, "weight", 1..=u16::MAX).or(default::WEIGHT);
    let disabled = section.flag(report, "disabled").or(false);
    let zone = section.string(report, "zone", "\"a\"").and_then(|zone| Some(zone.to_owned()));
    let groups = section.strings(report, "groups", "[\"blue\"]").or(Vec::new());
    let group = |(index, group): (usize, Option<&str>)| {
        Some((format!("{}[{index}]", section.path_of("groups")), group?.to_owned()))
    };
    let groups = groups.into_iter().enumerate().filter_map(group).collect();
    RawHost { name: name.to_owned(), path, addresses, weight, disabled, zone, groups }
}

/// What the instance says for services that say nothing.
struct Defaults<'a> {
    timeouts: Timeouts,
    rules: Rules,
    health: &'a Health,
}

fn read_services(report: &mut Report, top: &Section<'_>, defaults: &Defaults<'_>) -> Vec<RawService> {
    let tables = top.tables(report, "services", "[[services]]").or(Vec::new());
    let read = |(index, table): (usize, Option<&DeTable<'_>>)| {
        Some(read_service(report, table?, format!("services[{index}]"), defaults))
    };
    tables.into_iter().enumerate().filter_map(read).collect()
}

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const FORWARDS: &[(&str, Forward)] =
    &[("l2", Forward::L2), ("ipip", Forward::Ipip), ("gue", Forward::Gue), ("nat", Forward::Nat)];
const UDP_HANDOVERS: &[(&str, UdpHandover)] =
    &[("pin", UdpHandover::Pin), ("gap", UdpHandover::Gap), ("immediate", UdpHandover::Immediate)];

const WHEN_EMPTY: &[(&str, WhenEmpty)] =
    &[("reject", WhenEmpty::Reject), ("pass", WhenEmpty::Pass), ("last", WhenEmpty::Last)];

fn read_service(
    report: &mut Report,
    table: &DeTable<'_>,
    path: String,
    defaults: &Defaults<'_>,
) -> RawService {
    let section = Section::open(report, table, &path, &schema::SERVICE);
    let name = section.string(report, "name", "\"web\"");
    let name = section.required(report, "name", name, "\"web\"");
    let vip = section.string(report, "vip", "\"203.0.113.10\"");
    let vip = section.required(report, "vip", vip, "\"203.0.113.10\"");
    let protocols = read_protocols(report, &section);
    let protocols = section.required(report, "protocol", protocols, "\"tcp\"");
    let ports = ports::read(report, &section);
    let ports = section.required(report, "port", ports, "80");
    RawService {
        name: name.value().map(str::to_owned),
        vip: vip.and_then(|text| prefix::vip(report, &section.path_of("vip"), text)).value(),
        protocols: protocols.value(),
        ports: ports.value(),
        forward: section.choice(report, "forward", FORWARDS).or_unless_broken(default::FORWARD),
        outer: section.choice(report, "outer", &[("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)]),
        backend_port: section.integer(report, "backend_port", 1..=u16::MAX).value(),
        fragments: section
            .choice(report, "fragments", &[("drop", Fragments::Drop), ("pass", Fragments::Pass)])
            .or(Fragments::default()),
        tracking: section
            .choice(report, "tracking", &[("full", Tracking::Full), ("edges", Tracking::Edges)])
            .value(),
        affinity: section
            .choice(report, "affinity", &[("none", Affinity::None), ("client", Affinity::Client)])
            .or(Affinity::default()),
        udp_handover: section.choice(report, "udp_handover", UDP_HANDOVERS).value(),
        timeouts: read_timeouts(
            report,
            &section,
            "[services.timeouts] behind the fields of the service",
            defaults.timeouts,
        ),
        rules: read_rules(
            report,
            &section,
            "[services.rules] behind the fields of the service",
            defaults.rules,
        ),
        when_empty: section.choice(report, "when_empty", WHEN_EMPTY).or(WhenEmpty::default()),
        checks: health::read_checks(report, &section),
        health: health::read(
            report,
            &section,
            "[services.health] behind the fields of the service",
            defaults.health,
        ),
        standby: owned(section.strings(report, "standby", "[\"web-3\"]")).or(Vec::new()),
        hosts: owned(section.strings(report, "hosts", "[\"web-1\", \"web-2\"]")),
        path,
    }
}

fn read_protocols(report: &mut Report, section: &Section<'_>) -> Read<Protocols> {
    const EXAMPLE: &str = "\"tcp\", \"udp\" or [\"tcp\", \"udp\"]";
    section.one_or_more(report, "protocol", EXAMPLE).and_then(|values| {
        let mut protocols = Vec::with_capacity(values.len());
        let mut is_right = true;
        for (path, value) in values {
            let protocol = match value {
                DeValue::String(text) => choice(report, &path, text, PROTOCOLS),
                other => {
                    let message = format!("expected a string, found {}", describe(other));
                    report.add(&path, message, format!("write {EXAMPLE}"));
                    None
                }
            };
            if protocol.is_some_and(|protocol| protocols.contains(&protocol)) {
                report.add(&path, "the protocol is listed twice", "list it once");
                is_right = false;
            }
            is_right &= protocol.is_some();
            protocols.extend(protocol);
        }
        is_right.then(|| Protocols::of(protocols))
    })
}

fn owned(strings: Read<Vec<Option<&str>>>) -> Read<Vec<Option<String>>> {
    strings.and_then(|strings| Some(strings.into_iter().map(|text| text.map(str::to_owned)).collect()))
}
