//! `sluice status`: one screen that says whether all is well, then the figures.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::api::types::{
    AdminState, BackendStatus, DrainStatus, HostStatus, LiveFlows, OperState, ServiceStatus, Status,
    TracerStatus,
};
use crate::cli::terminal::Style;
use crate::model::Ports;

use super::drain::{bounds, ramping, who};
use super::number::{count, duration, exact, memory, percent, plural, rate};
use super::progress::expected;
use super::text::{Align, Grid, clean, wrap};

use Align::{Left, Right};

/// Columns of [`host_row`].
pub const HOSTS: &[(&str, Align)] = &[
    ("HOST", Left),
    ("ADMIN", Left),
    ("OPER", Left),
    ("WEIGHT", Right),
    ("SHARE", Right),
    ("LIVE", Right),
    ("HALF", Right),
    ("ESTAB", Right),
    ("CLOSE", Right),
    ("UDP", Right),
    ("NEW/S", Right),
    ("PKT/S", Right),
    ("B/S", Right),
];

const SERVICES: &[(&str, Align)] = &[
    ("SERVICE", Left),
    ("ADDRESS", Left),
    ("FORWARD", Left),
    ("RING", Right),
    ("HOSTS", Right),
    ("LIVE", Right),
    ("FLOWS", Right),
    ("PACKETS", Right),
    ("NEW/S", Right),
    ("PKT/S", Right),
    ("B/S", Right),
];

const BACKENDS: &[(&str, Align)] = &[
    ("SERVICE", Left),
    ("HOST", Left),
    ("ADDRESS", Left),
    ("LIVE", Right),
    ("NEW/S", Right),
    ("PKT/S", Right),
    ("NEXT HOP", Left),
];

const REASONS: &[(&str, Align)] = &[("REASON", Left), ("PACKETS", Right)];

/// `now` is in Unix seconds. With `all` also the backends and the packets by reason.
pub fn status(status: &Status, all: bool, now: u64, style: Style) -> String {
    let mut out = String::new();
    head(&mut out, status, now, style);
    alarms(&mut out, status, style);

    let mut hosts = Grid::new(HOSTS, style);
    for h in &status.hosts {
        hosts.row(host_row(h));
    }
    section(&mut out, hosts, "no hosts");
    for host in &status.hosts {
        if let Some(ramp) = &host.ramp {
            let reason = ramp.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            paragraph(&mut out, &format!("{}: {}, by {}{reason}", host.name, ramping(ramp), ramp.by), style);
        }
        match &host.drain {
            Some(drain) if drain.state == "draining" => paragraph(&mut out, &drain_line(drain, now), style),
            // Without anybody's doing it will come back.
            Some(drain) if host.admin == AdminState::Drained => {
                if let Some(lease) = bounds(drain) {
                    paragraph(
                        &mut out,
                        &format!("drain {} of {}{}: done, {lease}", drain.id, part(drain), who(drain)),
                        style,
                    );
                }
            }
            _ => {}
        }
    }

    for leaving in &status.leaving {
        let flows = plural(leaving.live_flows, "live flow");
        let drain = leaving.drain.map(|drain| format!(" (drain {drain})")).unwrap_or_default();
        let words = format!(
            "{} has left {} by the config{drain}: {flows} to their end",
            leaving.host, leaving.service
        );
        paragraph(&mut out, &words, style);
    }

    // For one service or some clients alone.
    let of_services = status.services.iter().flat_map(|service| &service.backends);
    for drain in of_services.filter_map(|backend| backend.drain.as_ref()).chain(&status.drains_of_clients) {
        match drain.state.as_str() {
            "draining" => paragraph(&mut out, &drain_line(drain, now), style),
            "drained" => {
                let lease = bounds(drain).map(|lease| format!(", {lease}")).unwrap_or_default();
                paragraph(&mut out, &format!("drain {} of {}: done{lease}", drain.id, who(drain)), style);
            }
            _ => {}
        }
    }

    for tracer in &status.tracers {
        paragraph(&mut out, &tracing(tracer, now), style);
    }

    let mut services = Grid::new(SERVICES, style);
    for s in &status.services {
        services.row(service_row(s));
    }
    section(&mut out, services, "no services");
    for shift in status.services.iter().filter_map(|service| service.split.as_ref()) {
        paragraph(&mut out, &super::shift::split(shift), style);
    }
    for line in narrow_paths(status) {
        paragraph(&mut out, &line, style);
    }

    if all {
        out.push('\n');
        out.push_str(&backends(status, None, style));
        let mut reasons = Grid::new(REASONS, style);
        for (reason, packets) in &status.reasons {
            reasons.row([reason.clone(), exact(*packets)]);
        }
        section(&mut out, reasons, "no packets yet");
    }

    out.push('\n');
    let table = &status.flow_table;
    let filled = if table.pins == 0 { 0.0 } else { table.live as f64 / table.pins as f64 };
    let line = format!(
        "flow table: {} of {} pins live ({}), overflow {} of {}, {}, last sweep {:.1} ms",
        exact(table.live),
        exact(table.pins),
        percent(filled),
        exact(table.overflow_used),
        exact(table.overflow_size),
        memory(table.memory),
        table.sweep_us as f64 / 1000.0
    );
    paragraph(&mut out, &line, style);
    for i in &status.interfaces {
        let note = i.note.as_ref().map(|n| format!(" ({n})")).unwrap_or_default();
        paragraph(
            &mut out,
            &format!("interface {}: {} XDP, index {}{note}", i.name, i.mode, i.ifindex),
            style,
        );
    }
    out
}

fn head(out: &mut String, status: &Status, now: u64, style: Style) {
    let line = format!(
        "sluice {}, instance {}, up {}, process {}, generation {}, revision {}, VIPs {}",
        status.version,
        status.instance,
        duration(now.saturating_sub(status.started_at)),
        status.pid,
        status.generation,
        status.revision,
        status.vip_mode
    );
    paragraph(out, &line, style);
    let revision = match status.config_in_force.revision {
        0 => String::new(),
        revision => format!(", in force since revision {revision}"),
    };
    paragraph(out, &format!("config {}{revision}", status.config), style);
}

fn tracing(tracer: &TracerStatus, now: u64) -> String {
    let TracerStatus { by, reason, filter, since, .. } = tracer;
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{by} has traced {filter} for {}{reason}", duration(now.saturating_sub(*since)))
}

/// What must not be overlooked stands above the tables.
fn alarms(out: &mut String, status: &Status, style: Style) {
    let (loud, mild, off) =
        if style.control { ("\x1b[1;37;41m", "\x1b[33m", "\x1b[0m") } else { ("", "", "") };
    if !status.violations.is_empty() {
        let _ = writeln!(out, "\n{loud}!!! CONTRACT VIOLATED: these counters must be 0 !!!{off}");
        for (name, n) in &status.violations {
            let _ = writeln!(out, "{loud}!!! {}: {}{off}", clean(name, style.ascii), exact(*n));
        }
    }
    if !status.problems.is_empty() {
        let _ = writeln!(out, "\n{mild}{}:{off}", plural(status.problems.len() as u64, "problem"));
        for problem in &status.problems {
            let text = clean(problem, style.ascii);
            let _ = writeln!(out, "{mild}  - {}{off}", wrap(&text, usize::from(style.width) - 4, 4));
        }
    }
}

/// An empty line, then the table, or the words in its place.
fn section(out: &mut String, grid: Grid, when_empty: &str) {
    out.push('\n');
    out.push_str(&table(grid, when_empty));
}

fn table(grid: Grid, when_empty: &str) -> String {
    if grid.is_empty() { format!("{when_empty}\n") } else { grid.render() }
}

/// With next hops; of one host, or of all.
pub fn backends(status: &Status, host: Option<&str>, style: Style) -> String {
    let mut grid = Grid::new(BACKENDS, style);
    for s in &status.services {
        for b in s.backends.iter().filter(|backend| host.is_none_or(|host| backend.host == host)) {
            grid.row([
                s.name.clone(),
                b.host.clone(),
                b.address.clone(),
                live(b.live_flows),
                rate(b.traffic.new_flows_per_second),
                rate(b.traffic.packets_per_second),
                b.next_hop.clone(),
            ]);
        }
    }
    table(grid, "no backends")
}

fn paragraph(out: &mut String, text: &str, style: Style) {
    out.push_str(&wrap(&clean(text, style.ascii), usize::from(style.width), 2));
    out.push('\n');
}

/// What the operator wants of a host, in a word.
pub fn admin(host: &HostStatus) -> &'static str {
    match host.admin {
        AdminState::Active => "active",
        AdminState::Draining => "draining",
        AdminState::Drained => "drained",
        AdminState::Disabled => "disabled",
    }
}

/// What is known of it.
pub fn oper(host: &HostStatus) -> String {
    match host.oper {
        OperState::Down => "DOWN".to_owned(),
        _ if !host.down_for.is_empty() => format!("DOWN for {}", host.down_for.len()),
        OperState::Up => "up".to_owned(),
        OperState::Unknown => "unknown".to_owned(),
    }
}

pub fn host_row(host: &HostStatus) -> [String; 13] {
    let (flows, traffic) = (host.live_flows, host.traffic);
    [
        host.name.clone(),
        admin(host).to_owned(),
        oper(host),
        host.weight.to_string(),
        percent(host.share),
        live(flows),
        count(flows.half_open),
        count(flows.established),
        count(flows.closing),
        count(flows.udp),
        rate(traffic.new_flows_per_second),
        rate(traffic.packets_per_second),
        rate(traffic.bytes_per_second),
    ]
}

/// The gauge, if it tells all flows.
fn live(live: LiveFlows) -> String {
    if live.hidden { "unknown".to_owned() } else { count(live.total) }
}

fn service_row(service: &ServiceStatus) -> [String; 11] {
    let traffic = service.traffic;
    let vip = if service.vip.contains(':') { format!("[{}]", service.vip) } else { service.vip.clone() };
    let protocols: Vec<String> = service.protocols.iter().map(|protocol| protocol.to_string()).collect();
    [
        service.name.clone(),
        format!("{vip}:{}/{}", ports(&service.ports), protocols.join("+")),
        service.forward.clone(),
        service.ring.to_string(),
        service.backends.len().to_string(),
        live(service.live_flows),
        count(traffic.new_flows),
        count(traffic.packets),
        rate(traffic.new_flows_per_second),
        rate(traffic.packets_per_second),
        rate(traffic.bytes_per_second),
    ]
}

/// All of them if they are few.
fn ports(ports: &Ports) -> String {
    const FEW: usize = 3;
    let mut texts: Vec<String> = ports.iter().take(FEW).map(|range| range.to_string()).collect();
    if ports.iter().len() > FEW {
        texts[FEW - 1] = "...".to_owned();
    }
    texts.join(",")
}

/// A line for each backend whose path takes less than its next hop: an error of a router about a packet that the next hop took has
/// told so. Services that share it share the line.
fn narrow_paths(status: &Status) -> BTreeSet<String> {
    let backends = status.services.iter().flat_map(|service| &service.backends);
    let line = |backend: &BackendStatus| {
        let BackendStatus { host, address, path_mtu, .. } = backend;
        Some(format!("path to {host} ({address}): packets of {} bytes at most, a router says", (*path_mtu)?))
    };
    backends.filter_map(line).collect()
}

/// `25% of `, where it is not the whole host.
fn part(drain: &DrainStatus) -> String {
    drain.order.share.map(|share| format!("{share}% of ")).unwrap_or_default()
}

/// `now` is in Unix seconds.
fn drain_line(drain: &DrainStatus, now: u64) -> String {
    let mut line = format!(
        "drain {} of {}{}: {} of {} live, for {}, by {}",
        drain.id,
        part(drain),
        who(drain),
        exact(drain.live_flows.total),
        plural(drain.flows_at_start, "flow"),
        duration(now.saturating_sub(drain.started_at)),
        drain.by
    );
    if let Some(reason) = &drain.reason {
        let _ = write!(line, " ({reason})");
    }
    if let Some(progress) = drain.progress.as_ref().filter(|_| drain.live_flows.total > 0) {
        let _ = write!(line, "; {}", expected(progress));
    }
    if let Some(bounds) = bounds(drain) {
        let _ = write!(line, "; {bounds}");
    }
    if let Some(why) = &drain.waiting_for {
        let _ = write!(line, "; waiting for {why}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::fixtures::{self, NOW};

    fn widest(text: &str) -> usize {
        text.lines().map(|l| l.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn a_healthy_balancer() {
        let text = status(&fixtures::status(), false, NOW, Style::PLAIN);
        let expected = "\
sluice 0.1.0, instance default, up 2h05m, process 4242, generation 7, revision 12, VIPs external
config /etc/sluice.toml, in force since revision 2

HOST   ADMIN     OPER  WEIGHT  SHARE  LIVE  HALF  ESTAB  CLOSE  UDP  NEW/S  PKT/S    B/S
web-1  active    up       100   100%    37     0     30      7    0   12.5  1.20k  98.0k
web-2  draining  up       100     0%    37     0     30      7    0   12.5  1.20k  98.0k
drain 7 of web-2: 37 of 120 flows live, for 3m07s, by alice (kernel update); waiting for 37 live
  flows

SERVICE  ADDRESS             FORWARD  RING  HOSTS  LIVE  FLOWS  PACKETS  NEW/S  PKT/S    B/S
web      192.0.2.10:443/tcp  l2          0      2    37   4000   900000   12.5  1.20k  98.0k

flow table: 74 of 1,000,000 pins live (<0.1%), overflow 0 of 40,000, 64.0 MiB, last sweep 1.2 ms
interface eth0: native XDP, index 2
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_widest_values_fit() {
        let mut body = fixtures::widest();
        let text = status(&body, true, NOW, Style::PLAIN);
        assert!(widest(&text) <= 100, "{} columns:\n{text}", widest(&text));
        assert!(text.is_ascii());
        assert!(text.contains("1.00T"), "{text}");
        body.hosts[0].name = "h\u{fc}-1".to_owned();
        assert!(status(&body, true, NOW, Style::PLAIN).contains("h\\u{fc}-1"));
    }

    #[test]
    fn a_path_that_is_narrower_than_its_next_hop_is_told_once() {
        let mut body = fixtures::status();
        body.services.push(body.services[0].clone());
        assert!(!status(&body, true, NOW, Style::PLAIN).contains("path to"));
        for service in &mut body.services {
            service.backends[1].path_mtu = Some(1400);
        }
        let text = status(&body, false, NOW, Style::PLAIN);
        let expected =
            "98.0k\npath to web-2 (10.0.0.2): packets of 1400 bytes at most, a router says\n\nflow table";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn violations_are_loud_and_absent_when_there_are_none() {
        let mut body = fixtures::status();
        assert!(!status(&body, true, NOW, Style::PLAIN).contains("VIOLATED"));
        body.violations.insert("misrouted".to_owned(), 3);
        body.problems = vec!["web-2 is down".to_owned(), "no address for \x1bx".to_owned()];
        let text = status(&body, false, NOW, Style::PLAIN);
        let expected = "
!!! CONTRACT VIOLATED: these counters must be 0 !!!
!!! misrouted: 3

2 problems:
  - web-2 is down
  - no address for \\u{1b}x
";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains('\x1b'));
        let loud = status(&body, false, NOW, Style { control: true, ..Style::PLAIN });
        assert!(loud.contains("\x1b[1;37;41m!!! misrouted: 3\x1b[0m"), "{loud:?}");
    }

    #[test]
    fn who_traces_is_told_of() {
        let mut body = fixtures::status();
        let (by, filter) = ("mika".to_owned(), "tcp, host web-1".to_owned());
        body.tracers = vec![TracerStatus { by, reason: None, filter, bytes: 0, since: NOW - 90 }];
        let text = status(&body, false, NOW, Style::PLAIN);
        assert!(text.contains("\nmika has traced tcp, host web-1 for 1m30s\n"), "{text}");
    }

    #[test]
    fn a_part_is_told_of() {
        let mut body = fixtures::status();
        body.hosts[1].drain.as_mut().unwrap().order.share = Some(25);
        let text = status(&body, false, NOW, Style::PLAIN);
        assert!(text.contains("\ndrain 7 of 25% of web-2: 37 of 120 flows live"), "{text}");
    }

    #[test]
    fn a_host_that_comes_back_is_told_of() {
        let mut body = fixtures::status();
        body.hosts[0].ramp = Some(fixtures::ramp());
        let text = status(&body, false, NOW, Style::PLAIN);
        assert!(text.contains("\nweb-1: ramping up: 37.1%, full in 38s, by bob: patched\n"), "{text}");
        body.hosts[0].ramp.as_mut().unwrap().paused = Some("9 of 10 new flows failed".to_owned());
        let text = status(&body, false, NOW, Style::PLAIN);
        assert!(text.contains("web-1: ramp paused: 37.1%, 9 of 10 new flows failed, by bob"), "{text}");
    }

    #[test]
    fn bounds_of_drains_are_told() {
        let mut body = fixtures::status();
        let drain = body.hosts[1].drain.as_mut().unwrap();
        (drain.order.deadline, drain.order.lease) = (Some(NOW - 5), Some(NOW + 60));
        drain.overdue_since = drain.order.deadline;
        let text = status(&body, false, NOW, Style::PLAIN);
        let words = text.replace("\n  ", " ");
        assert!(words.contains("(kernel update); overdue for 5s: keep, lease for 1m00s; waiting"), "{text}");
        body.hosts[1].admin = AdminState::Drained;
        body.hosts[1].drain.as_mut().unwrap().state = "drained".to_owned();
        let text = status(&body, false, NOW, Style::PLAIN);
        assert!(text.contains("\ndrain 7 of web-2: done, lease for 1m00s\n"), "{text}");
    }

    #[test]
    fn the_expected_end_is_told() {
        let mut body = fixtures::status();
        body.hosts[1].drain.as_mut().unwrap().progress = Some(fixtures::progress(0));
        let words = status(&body, false, NOW, Style::PLAIN).replace("\n  ", " ");
        let expected = "(kernel update); expected end: p50 in 20s, p90 in 4m12s, p99 in 15m00s; waiting for";
        assert!(words.contains(expected), "{words}");
    }

    #[test]
    fn nothing_configured() {
        let mut body = fixtures::status();
        body.hosts.clear();
        body.services.clear();
        body.reasons.clear();
        body.flow_table.pins = 0;
        let text = status(&body, true, NOW, Style::PLAIN);
        for words in ["\nno hosts\n", "\nno services\n", "\nno backends\n", "\nno packets yet\n", "(0%)"] {
            assert!(text.contains(words), "{words:?} in {text}");
        }
    }
}
