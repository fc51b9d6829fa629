//! `[health]` of the file or of a service, and a service's checks.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::limits::{LEAST_FLOWS, MAX_CHECKS, MAX_COMMAND, MAX_PAYLOAD, RUNS, WINDOW};
use super::raw::RawService;
use super::reader::{Read, Section, describe};
use super::report::Report;
use super::schema;
use super::suggest::did_you_mean;
use crate::model::{
    Check, DownFlows, Health, Passive, PassiveAction, Percent, PortRange, Probe, Protocol, Request, Through,
    Timeouts, Tracking,
};

/// Percent of failed handshakes that say something of a host.
pub(super) const LEAST_FAILING: u8 = 10;

const PASSIVE_ACTIONS: &[(&str, PassiveAction)] =
    &[("off", PassiveAction::Off), ("warn", PassiveAction::Warn), ("eject", PassiveAction::Eject)];

const DOWN_FLOWS: &[(&str, DownFlows)] =
    &[("keep", DownFlows::Keep), ("move", DownFlows::Move), ("reset", DownFlows::Reset)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    Https,
    Udp,
    Command,
}

const KINDS: &[(&str, Kind)] = &[
    ("tcp", Kind::Tcp),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("udp", Kind::Udp),
    ("command", Kind::Command),
];

/// Health of the file, or of one service; what is left out is as in `default`.
pub(super) fn read(report: &mut Report, parent: &Section<'_>, header: &str, default: &Health) -> Health {
    let Read::Value(table) = parent.table(report, "health", header) else { return default.clone() };
    let section = Section::open(report, table, &parent.path_of("health"), &schema::HEALTH);
    let health = Health {
        interval: section.pace(report, "interval").or(default.interval),
        timeout: section.pace(report, "timeout").or(default.timeout),
        jitter: section.percent(report, "jitter").or(default.jitter),
        rise: section.integer(report, "rise", RUNS).or(default.rise),
        fall: section.integer(report, "fall", RUNS).or(default.fall),
        damping: section.duration(report, "damping").or(default.damping),
        down_flows: section.choice(report, "down_flows", DOWN_FLOWS).or(default.down_flows),
        down_after: section.duration(report, "down_after").or(default.down_after),
        panic: section.percent(report, "panic").or(default.panic),
        max_ejected: section.percent(report, "max_ejected").or(default.max_ejected),
        ramp: section.duration(report, "ramp").value().or(default.ramp),
        join_below: section.percent(report, "join_below").or(default.join_below),
        leave_at: section.percent(report, "leave_at").or(default.leave_at),
        passive: read_passive(report, &section, header, &default.passive),
    };
    if health.leave_at < health.join_below {
        let Percent(join) = health.join_below;
        let message = format!(
            "standby hosts that join below {join}% would leave at {} already, and join again",
            health.leave_at
        );
        report.add(&section.path_of("leave_at"), message, format!("write {join}% or more"));
    }
    health
}

fn read_passive(report: &mut Report, health: &Section<'_>, header: &str, default: &Passive) -> Passive {
    let header = if header.starts_with("[s") { "[services.health.passive]" } else { "[health.passive]" };
    let Read::Value(table) = health.table(report, "passive", header) else { return *default };
    let section = Section::open(report, table, &health.path_of("passive"), &schema::PASSIVE);
    let passive = Passive {
        action: section.choice(report, "action", PASSIVE_ACTIONS).or(default.action),
        window: section.duration_within(report, "window", WINDOW).or(default.window),
        least_flows: section.integer(report, "least_flows", LEAST_FLOWS).or(default.least_flows),
        failing: section.percent(report, "failing").or(default.failing),
        hold: section.duration(report, "hold").or(default.hold),
        longest_hold: section.duration(report, "longest_hold").or(default.longest_hold),
        max_ejected: section.percent(report, "max_ejected").or(default.max_ejected),
    };
    if passive.failing.0 < LEAST_FAILING {
        let message =
            format!("clients with bad lines alone may have {} of all handshakes fail", passive.failing);
        report.add(&section.path_of("failing"), message, format!("write {LEAST_FAILING}% or more"));
    }
    if passive.longest_hold < passive.hold {
        let message = "the longest time is shorter than the first one";
        let least = humantime::format_duration(passive.hold);
        report.add(&section.path_of("longest_hold"), message, format!("write \"{least}\" or more"));
    }
    passive
}

/// Refuses to watch what cannot be seen.
pub(super) fn passive(report: &mut Report, raw: &RawService, tracking: Tracking) {
    let path = format!("{}.health.passive.action", raw.path);
    // What the instance says is for the services that it can be for.
    if raw.health.passive.action == PassiveAction::Off || !report.has(&path) {
        return;
    }
    if raw.protocols.as_ref().is_some_and(|protocols| !protocols.has(Protocol::Tcp)) {
        let message = "how clients fare is told by TCP handshakes, and the service has none";
        report.add(&path, message, "take it out, or ask its hosts by [[services.checks]]");
    } else if tracking == Tracking::Edges {
        let message = "with tracking = \"edges\" it is not seen whether handshakes come to their end";
        report.add(&path, message, "take it out, or write tracking = \"full\"");
    }
}

/// Refuses to look back for flows further than the flow table knows them: who is to be taken out is asked for there.
pub(super) fn window(report: &mut Report, raw: &RawService, tracking: Tracking) {
    let Passive { action, window, .. } = raw.health.passive;
    let is_tcp = raw.protocols.as_ref().is_none_or(|protocols| protocols.has(Protocol::Tcp));
    let is_asked = action == PassiveAction::Eject && tracking == Tracking::Full && is_tcp;
    // If only those that were answered are forgotten, the others seem to be all.
    let Timeouts { half_open, closing, .. } = raw.timeouts;
    for (field, timeout, which) in
        [("half_open", half_open, "nobody answered"), ("closing", closing, "have ended")]
    {
        if is_asked && timeout < window {
            let [window, timeout] = [window, timeout].map(humantime::format_duration);
            let message = format!("flows that {which} are forgotten after {timeout}, within {window}");
            let hint = format!("write \"{timeout}\" or less, or give timeouts.{field} {window} or more");
            report.add(&format!("{}.health.passive.window", raw.path), message, hint);
        }
    }
}

/// A check as written; its port may be the service's.
pub(super) struct RawCheck {
    path: String,
    probe: Probe,
    port: Read<u16>,
    through: Through,
}

/// `None` for one that is wrong, which has been reported.
pub(super) fn read_checks(report: &mut Report, service: &Section<'_>) -> Vec<Option<RawCheck>> {
    let tables = service.tables(report, "checks", "[[services.checks]]").or(Vec::new());
    let path = service.path_of("checks");
    let read = |(index, table): (usize, Option<_>)| {
        let section = Section::open(report, table?, &format!("{path}[{index}]"), &schema::CHECK);
        read_check(report, &section)
    };
    tables.into_iter().enumerate().map(read).collect()
}

fn read_check(report: &mut Report, section: &Section<'_>) -> Option<RawCheck> {
    let kind = section.choice(report, "type", KINDS);
    let kind = section.required(report, "type", kind, "\"tcp\"").value();
    let through = section
        .choice(report, "through", &[("host", Through::Host), ("vip", Through::Vip)])
        .or(Through::default());
    let port = section.integer(report, "port", 1..=u16::MAX);
    let request = read_request(report, section);
    let send = text(report, section, "send", MAX_PAYLOAD);
    let expect = text(report, section, "expect", MAX_PAYLOAD);
    let command = text(report, section, "command", MAX_COMMAND);
    let kind = kind?;
    let fits: &[&str] = match kind {
        Kind::Tcp => &["type", "through", "port"],
        Kind::Http | Kind::Https => &["type", "through", "port", "path", "host", "status", "body"],
        Kind::Udp => &["type", "through", "port", "send", "expect"],
        Kind::Command => &["type", "command"],
    };
    let name = KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| name);
    for field in schema::CHECK.names().filter(|field| !fits.contains(field) && section.has(field)) {
        let message = format!("a check of type {name:?} has no {field}");
        report.add(&section.path_of(field), message, format!("it may have {}", fits.join(", ")));
    }
    if through == Through::Vip && matches!(kind, Kind::Http | Kind::Https) {
        let message = "the way through the VIP is asked by a TCP handshake or a datagram, not by a request";
        let hint = "write a second check of type \"tcp\" with through = \"vip\" beside this one";
        report.add(&section.path_of("through"), message, hint);
        return None;
    }
    let probe = match kind {
        Kind::Tcp => Probe::Tcp,
        Kind::Http => Probe::Http(request?),
        Kind::Https => Probe::Https(request?),
        Kind::Udp => {
            let send = section.required(report, "send", send, "\"ping\"").value()?;
            Probe::Udp { send, expect: expect.value() }
        }
        Kind::Command => {
            let command =
                section.required(report, "command", command, "\"/usr/local/bin/is-well\"").value()?;
            Probe::Command { command }
        }
    };
    Some(RawCheck { path: section.path_of("type"), probe, port, through })
}

fn text(report: &mut Report, section: &Section<'_>, name: &str, most: usize) -> Read<String> {
    section.string(report, name, "\"ping\"").and_then(|text| {
        let wrong = match text.len() {
            0 => "it is empty".to_owned(),
            length if length > most => format!("it has {length} bytes, more than {most}"),
            _ if text.contains('\0') && name == "command" => "it has a zero character".to_owned(),
            _ => return Some(text.to_owned()),
        };
        report.add(&section.path_of(name), wrong, "write another text, or leave the line out");
        None
    })
}

/// `None` for one that is wrong, which has been reported.
fn read_request(report: &mut Report, section: &Section<'_>) -> Option<Request> {
    let path = section.string(report, "path", "\"/\"").and_then(|path| {
        let fits = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            let message = format!("{path:?} is no path of a request");
            let hint = "begin it with a slash, and write %20 and so on for what is no plain character";
            report.add(&section.path_of("path"), message, hint);
        }
        fits.then(|| path.to_owned())
    });
    let host = section.string(report, "host", "\"www.example.org\"").and_then(|host| {
        let fits = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if !fits {
            report.add(
                &section.path_of("host"),
                format!("{host:?} is no host"),
                "write a name as in a URL, such as \"www.example.org\"",
            );
        }
        fits.then(|| host.to_owned())
    });
    let status = section
        .one_or_more(report, "status", "200, \"200-399\" or [200, 204]")
        .and_then(|values| values.into_iter().map(|(path, value)| status(report, &path, value)).collect());
    let body = text(report, section, "body", MAX_PAYLOAD);
    Some(Request {
        path: path.or_unless_broken("/".to_owned())?,
        host: match host {
            Read::Broken => return None,
            host => host.value(),
        },
        status: status.or_unless_broken(vec![200..=399])?,
        body: match body {
            Read::Broken => return None,
            body => body.value(),
        },
    })
}

fn status(report: &mut Report, path: &str, value: &DeValue<'_>) -> Option<RangeInclusive<u16>> {
    let is_status = |number: &u16| (100..=599).contains(number);
    let range = match value {
        DeValue::Integer(number) => {
            let number = number.as_str().parse().ok().filter(is_status);
            number.map(|number| number..=number)
        }
        DeValue::String(text) => text.split_once('-').and_then(|(first, last)| {
            let [first, last] = [first, last].map(|end| end.trim().parse().ok().filter(is_status));
            Some(first?..=last?).filter(|range| range.start() <= range.end())
        }),
        _ => None,
    };
    if range.is_none() {
        let message = format!("expected a status from 100 to 599 or a range, found {}", describe(value));
        report.add(path, message, "write 200, \"200-399\" or a list of these");
    }
    range
}

/// The checks of a service, with their ports.
pub(super) fn checks(report: &mut Report, raw: &RawService) -> Vec<Check> {
    if raw.checks.len() > MAX_CHECKS {
        let message = format!("{} checks of one service are too many", raw.checks.len());
        report.add(&format!("{}.checks", raw.path), message, format!("keep to {MAX_CHECKS}"));
        return Vec::new();
    }
    let mut found: Vec<Check> = Vec::new();
    for RawCheck { path, probe, port, through } in raw.checks.iter().flatten() {
        let first = raw.ports.as_ref().and_then(|ports| ports.iter().next());
        let own = first.filter(|range| range.is_single()).map(|range| range.first);
        let port = match (port, raw.backend_port) {
            _ if matches!(probe, Probe::Command { .. }) => None,
            (Read::Broken, _) => continue,
            (Read::Value(port), _) => Some(*port),
            (Read::Absent, Some(port)) if *through == Through::Host => Some(port),
            (Read::Absent, _) => own,
        };
        if port.is_none() && first.is_some() && !matches!(probe, Probe::Command { .. }) {
            report.add(path, "the service has many ports", "add a line such as port = 80 to the check");
        }
        if *through == Through::Vip {
            let protocol = if *probe == Probe::Tcp { Protocol::Tcp } else { Protocol::Udp };
            if raw.protocols.as_ref().is_some_and(|protocols| !protocols.has(protocol)) {
                let message = "the service does not have this protocol, so nothing of it is forwarded";
                report.add(path, message, "check what the service has, or write through = \"host\"");
            }
            let is_served = |port: u16| {
                let ports = raw.ports.as_ref();
                ports.is_none_or(|ports| ports.iter().any(|range| range.overlaps(PortRange::one(port))))
            };
            if port.is_some_and(|port| !is_served(port)) {
                let message = "the service has no such port, so nothing is forwarded to it";
                report.add(path, message, "leave port out, or name one of the service");
            }
            if let Some(vip) = raw.vip.filter(|vip| !vip.is_single()) {
                let message = format!("{vip} is a prefix, and a check goes to one address");
                report.add(
                    path,
                    message,
                    "check another service through its VIP, or write through = \"host\"",
                );
            }
        }
        let check = Check { probe: probe.clone(), port, through: *through };
        if found.contains(&check) {
            report.add(path, "the same check stands above", "take one of them out");
        } else {
            found.push(check);
        }
    }
    found
}

/// Who stands by: some of the members, not all.
pub(super) fn standby(report: &mut Report, raw: &RawService, members: &[String]) -> Vec<String> {
    let path = format!("{}.standby", raw.path);
    let mut names = BTreeSet::new();
    for (index, name) in raw.standby.iter().enumerate() {
        let Some(name) = name else { continue };
        let at = format!("{path}[{index}]");
        if !members.contains(name) {
            let known = members.iter().map(String::as_str);
            let hint = did_you_mean(name, known, || "name hosts that the service has".to_owned());
            report.add(&at, format!("{name:?} is no host of this service"), hint);
        } else if !names.insert(name.clone()) {
            report.add(&at, format!("host {name:?} is listed twice"), "list it once");
        }
    }
    if !members.is_empty() && names.len() == members.len() {
        report.add(&path, "all hosts stand by, and none is primary", "leave out those that come first");
    }
    names.into_iter().collect()
}
