//! A model as the text that it could have come from.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::model::{
    Check, FlowTable, Health, Interface, Model, PortRange, Probe, Protocol, Retention, Rules, Service,
    TlsFiles,
};

/// The model as a config file.
pub fn write(model: &Model) -> String {
    let mut toml = String::new();
    let lower = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let mode = model.interfaces[0].xdp_mode;
    let interface = |Interface { name, xdp_mode }: &Interface| {
        if *xdp_mode == mode {
            format!("{name:?}")
        } else {
            format!("{{ name = {name:?}, xdp_mode = \"{xdp_mode}\" }}")
        }
    };
    let interfaces: Vec<String> = model.interfaces.iter().map(interface).collect();
    writeln!(toml, "interfaces = [{}]\nxdp_mode = \"{mode}\"", interfaces.join(", ")).unwrap();
    writeln!(toml, "vip_mode = {:?}\nping = {:?}", lower(&model.vip_mode), lower(&model.ping)).unwrap();
    if let Some(mss) = model.mss_clamp {
        writeln!(toml, "mss_clamp = {mss}").unwrap();
    }
    let prefixes: Vec<String> = model.outer_source.iter().map(|prefix| prefix.to_string()).collect();
    writeln!(toml, "outer_source = {prefixes:?}\ngue_port = {}", model.gue_port).unwrap();
    writeln!(toml, "ring_size = {}", model.ring_size).unwrap();
    if let Some(key) = model.hash_key {
        writeln!(toml, "hash_key = \"{:032x}\"", u128::from_be_bytes(key)).unwrap();
    }
    let FlowTable { pins, overflow, flood_gate } = model.flow_table;
    writeln!(toml, "[flow_table]\npins = {pins}\noverflow = {overflow}").unwrap();
    writeln!(toml, "flood_gate = {flood_gate}\n[timeouts]").unwrap();
    for (name, timeout) in model.timeouts.named() {
        writeln!(toml, "{name} = \"{}\"", humantime::format_duration(timeout)).unwrap();
    }
    let rules = |Rules { min_healthy, one_zone_at_a_time }: Rules| {
        format!("min_healthy = \"{min_healthy}\"\none_zone_at_a_time = {one_zone_at_a_time}")
    };
    writeln!(toml, "[rules]\n{}", rules(model.rules)).unwrap();
    writeln!(toml, "[health]\n{}", health(&model.health)).unwrap();
    writeln!(toml, "[hooks]\ntimeout = \"{}\"", humantime::format_duration(model.hooks.timeout)).unwrap();
    for (event, command) in &model.hooks.commands {
        // JSON's escapes are TOML's, and Rust's are not all.
        let command = serde_json::to_string(command).unwrap();
        writeln!(toml, "on_{} = {command}", event.name()).unwrap();
    }
    writeln!(toml, "[api]").unwrap();
    for (field, group) in [("read_group", &model.api.read_group), ("change_group", &model.api.change_group)] {
        if let Some(group) = group {
            writeln!(toml, "{field} = {group:?}").unwrap();
        }
    }
    if let Some(listen) = &model.metrics.listen {
        writeln!(toml, "[metrics]\nlisten = \"{listen}\"").unwrap();
    }
    writeln!(toml, "[ui]\nnames = {:?}\ntoken_to_look = {}", model.ui.names, model.ui.token_to_look).unwrap();
    if let Some(listen) = &model.ui.listen {
        writeln!(toml, "listen = \"{listen}\"").unwrap();
    }
    if let Some(TlsFiles { certificate, key }) = &model.ui.tls {
        writeln!(toml, "certificate = {certificate:?}\nkey = {key:?}").unwrap();
    }
    if let Some(file) = &model.ui.token_file {
        writeln!(toml, "token_file = {file:?}").unwrap();
    }
    if let Some(interface) = &model.announce {
        writeln!(toml, "[announce]\ninterface = {interface:?}").unwrap();
    }
    let Retention { keep_for, keep_revisions } = model.journal;
    writeln!(toml, "[journal]\nkeep_for = \"{}s\"\nkeep_revisions = {keep_revisions}", keep_for.as_secs())
        .unwrap();
    for host in model.hosts.values() {
        let addresses = host.ipv4.map(IpAddr::V4).into_iter().chain(host.ipv6.map(IpAddr::V6));
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        writeln!(
            toml,
            "[hosts.{:?}]\naddresses = {addresses:?}\nweight = {}\ndisabled = {}",
            host.name, host.weight, host.disabled
        )
        .unwrap();
        if let Some(zone) = &host.zone {
            writeln!(toml, "zone = {zone:?}\ngroups = {:?}", host.groups.iter().collect::<Vec<_>>()).unwrap();
        }
    }
    for service in &model.services {
        let Service {
            name,
            vip,
            protocols,
            ports,
            forward,
            outer,
            backend_port,
            fragments,
            flows,
            timeouts,
            ..
        } = service;
        let hosts = &service.hosts;
        writeln!(toml, "[[services]]\nname = {name:?}\nvip = \"{vip}\"").unwrap();
        match protocols.single() {
            Some(protocol) => writeln!(toml, "protocol = \"{protocol}\"").unwrap(),
            None => writeln!(toml, "protocol = [\"udp\", \"tcp\"]").unwrap(),
        }
        let port = |range: PortRange| {
            if range.is_single() { range.to_string() } else { format!("\"{range}\"") }
        };
        let ports: Vec<String> = ports.iter().rev().map(port).collect();
        match ports.as_slice() {
            [port] => writeln!(toml, "port = {port}").unwrap(),
            ports => writeln!(toml, "port = [{}]", ports.join(", ")).unwrap(),
        }
        writeln!(toml, "forward = \"{forward}\"\nhosts = {hosts:?}").unwrap();
        if let Some(family) = outer {
            writeln!(toml, "outer = {:?}", lower(family)).unwrap();
        }
        if let Some(port) = backend_port {
            writeln!(toml, "backend_port = {port}").unwrap();
        }
        writeln!(toml, "fragments = {:?}\naffinity = {:?}", lower(fragments), lower(&flows.affinity))
            .unwrap();
        if protocols.has(Protocol::Tcp) {
            writeln!(toml, "tracking = {:?}", lower(&flows.tracking)).unwrap();
        }
        if protocols.has(Protocol::Udp) {
            writeln!(toml, "udp_handover = {:?}", lower(&flows.udp_handover)).unwrap();
        }
        writeln!(toml, "when_empty = \"{}\"\nstandby = {:?}", service.when_empty, service.standby).unwrap();
        if *timeouts != model.timeouts {
            writeln!(toml, "[services.timeouts]").unwrap();
            for (name, timeout) in timeouts.named() {
                writeln!(toml, "{name} = \"{}\"", humantime::format_duration(timeout)).unwrap();
            }
        }
        if service.rules != model.rules {
            writeln!(toml, "[services.rules]\n{}", rules(service.rules)).unwrap();
        }
        if service.health != model.health {
            writeln!(toml, "[services.health]\n{}", health(&service.health)).unwrap();
        }
        for check in &service.checks {
            writeln!(toml, "[[services.checks]]\n{}", check_lines(check)).unwrap();
        }
    }
    as_toml(&toml)
}

/// Rust's `\u{feff}` as TOML has it.
fn as_toml(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, escape)) = rest.split_once('\\') {
        out += before;
        rest = match escape.strip_prefix("u{").and_then(|code| code.split_once('}')) {
            Some((code, rest)) => {
                write!(out, "\\U{code:0>8}").unwrap();
                rest
            }
            // A backslash escapes another one, too.
            None => {
                let (escaped, rest) = escape.split_at(escape.chars().next().map_or(0, char::len_utf8));
                out += &format!("\\{escaped}");
                rest
            }
        };
    }
    out + rest
}

#[test]
fn escapes_are_those_of_toml() {
    let text = "\u{feff} \\ \"\\u{7}\" \t ä";
    let written = as_toml(&format!("a = {text:?}"));
    assert_eq!(written, r#"a = "\U0000feff \\ \"\\u{7}\" \t ä""#);
    assert_eq!(written.parse::<toml::Table>().unwrap()["a"].as_str(), Some(text));
}

fn health(health: &Health) -> String {
    let time = humantime::format_duration;
    let ramp = health.ramp.map(|ramp| format!("ramp = \"{}\"\n", time(ramp))).unwrap_or_default();
    format!(
        "interval = \"{}\"\ntimeout = \"{}\"\njitter = \"{}\"\nrise = {}\nfall = {}\ndamping = \"{}\"\ndown_flows = \"{}\"\n\
         down_after = \"{}\"\npanic = \"{}\"\nmax_ejected = \"{}\"\njoin_below = \"{}\"\nleave_at = \"{}\"\n{ramp}\
         passive = {{ action = \"{}\", window = \"{}\", least_flows = {}, failing = \"{}\", hold = \"{}\", longest_hold = \"{}\", max_ejected = \"{}\" }}\n",
        time(health.interval),
        time(health.timeout),
        health.jitter,
        health.rise,
        health.fall,
        time(health.damping),
        health.down_flows,
        time(health.down_after),
        health.panic,
        health.max_ejected,
        health.join_below,
        health.leave_at,
        health.passive.action,
        time(health.passive.window),
        health.passive.least_flows,
        health.passive.failing,
        time(health.passive.hold),
        time(health.passive.longest_hold),
        health.passive.max_ejected,
    )
}

fn check_lines(check: &Check) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: String| writeln!(lines, "{name} = {value}").unwrap();
    match &check.probe {
        Probe::Tcp => line("type", "\"tcp\"".to_owned()),
        Probe::Http(request) | Probe::Https(request) => {
            let is_tls = matches!(check.probe, Probe::Https(_));
            line("type", if is_tls { "\"https\"" } else { "\"http\"" }.to_owned());
            line("path", format!("{:?}", request.path));
            let ranges = request.status.iter().map(|range| format!("\"{}-{}\"", range.start(), range.end()));
            line("status", format!("[{}]", ranges.collect::<Vec<_>>().join(", ")));
            for (name, value) in [("host", &request.host), ("body", &request.body)] {
                value.iter().for_each(|value| line(name, format!("{value:?}")));
            }
        }
        Probe::Udp { send, expect } => {
            line("type", "\"udp\"".to_owned());
            line("send", format!("{send:?}"));
            expect.iter().for_each(|expect| line("expect", format!("{expect:?}")));
        }
        Probe::Command { command } => {
            line("type", "\"command\"".to_owned());
            line("command", format!("{command:?}"));
        }
    }
    if !matches!(check.probe, Probe::Command { .. }) {
        line("through", serde_json::to_string(&check.through).unwrap());
    }
    if let Some(port) = check.port {
        line("port", port.to_string());
    }
    lines
}
