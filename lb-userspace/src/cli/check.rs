//! `sluice check FILE`: says whether a config is right, and what it comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;

use super::output::Out;
use super::{Failure, after_help};
use crate::api::server::ui::tls;
use crate::config;
use crate::model::{Forward, Fragments, Interface, Model, Ping, Rules, Service, VipMode, WhenEmpty};

/// Check a config file, without a daemon and without touching anything
///
/// Says all that is wrong with it, with the place and the mend, or what it would set up.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct CheckArgs {
    /// The config file (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice check /etc/sluice/sluice.toml
  sluice check new.toml --json";

/// Bytes of a pin in the hot array of the flow table.
const HOT_BYTES: u64 = 8;
/// Bytes of a pin in the cold array.
const COLD_BYTES: u64 = 56;

/// Prints the resolved config, or returns all problems of the file.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let model = config::load(&args.file).map_err(anyhow::Error::from)?.model;
    let mut text = if args.json {
        serde_json::to_string_pretty(&model).context("cannot print the config")?
    } else {
        render(&model)
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Out::stdout().print(&text)?;
    // The balancer works without the page, and another machine than the one that the file is for need not have its certificate.
    if let Some(fault) = model.ui.listen.and(model.ui.tls.as_ref()).and_then(|files| tls::load(files).err()) {
        let warning = format!("warning: [ui]: on this machine the page would not be served: {fault:#}\n");
        Out::stderr().print(&warning)?;
    }
    Ok(())
}

/// Words of the flow table for so many pins: half of them stay free, and their number is a power of two.
pub fn flow_table_words(pins: u32) -> u64 {
    (2 * u64::from(pins)).next_power_of_two()
}

/// The model for a person to read.
pub fn render(model: &Model) -> String {
    let mut text = String::new();
    for part in [general(model), hosts(model), services(model)] {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&part);
    }
    text
}

fn general(model: &Model) -> String {
    let ring = |service: &Service| (service.hosts.clone(), service.when_empty == WhenEmpty::Last);
    let rings: BTreeSet<(Vec<String>, bool)> = model.services.iter().map(ring).collect();
    let words = flow_table_words(model.flow_table.pins);
    let (hot, cold) = (words * HOT_BYTES, words * COLD_BYTES);
    let mut table = plain();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("interfaces", list(model.interfaces.iter().map(|interface| &interface.name)));
    row("XDP mode", xdp_modes(model));
    row(
        "VIP mode",
        match model.vip_mode {
            VipMode::External => "external".to_owned(),
            VipMode::Local => "local".to_owned(),
        },
    );
    if model.ping == Ping::Answer {
        row("ping", "answered".to_owned());
    }
    if let Some(mss) = model.mss_clamp {
        row("MSS", format!("{mss} at most, over IPv6 {}", mss - 20));
    }
    if model.services.iter().any(|service| service.forward.is_tunnel()) {
        let prefixes = list(model.outer_source.iter());
        row(
            "outer source",
            if prefixes.is_empty() { "this machine's addresses".to_owned() } else { prefixes },
        );
    }
    if model.services.iter().any(|service| service.forward == Forward::Gue) {
        row("GUE port", model.gue_port.to_string());
    }
    row(
        "hash key",
        if model.hash_key.is_some() { "from the file" } else { "made at the first start" }.to_owned(),
    );
    row("rings", format!("{} of {} slots", rings.len(), model.ring_size));
    row(
        "flow table",
        format!(
            "{} pins, {} (hot {} + cold {})",
            model.flow_table.pins,
            memory(hot + cold),
            memory(hot),
            memory(cold)
        ),
    );
    row("overflow", format!("{} pins beside it", model.flow_table.overflow));
    if model.flow_table.flood_gate != 0 {
        row("flood gate", format!("{} new pins a second and CPU", model.flow_table.flood_gate));
    }
    for (name, timeout) in model.timeouts.named() {
        row(&format!("timeout {name}"), humantime::format_duration(timeout).to_string());
    }
    if model.rules != Rules::default() {
        row("rules for drains", model.rules.to_string());
    }
    lines(&table)
}

fn hosts(model: &Model) -> String {
    let mut served: BTreeMap<&str, usize> = BTreeMap::new();
    for name in model.services.iter().flat_map(|service| &service.hosts) {
        *served.entry(name).or_default() += 1;
    }
    let mut table = plain();
    // Columns that nobody uses would only take room.
    let has_zones = model.hosts.values().any(|host| host.zone.is_some());
    let has_groups = model.hosts.values().any(|host| !host.groups.is_empty());
    let mut header = vec!["HOST", "WEIGHT", "IPV4", "IPV6", "SERVICES"];
    header.extend(has_zones.then_some("ZONE"));
    header.extend(has_groups.then_some("GROUPS"));
    table.set_header(header);
    for host in model.hosts.values() {
        let mut row = vec![
            host.name.clone(),
            host.weight.to_string(),
            host.ipv4.map_or("-".to_owned(), |address| address.to_string()),
            host.ipv6.map_or("-".to_owned(), |address| address.to_string()),
            served.get(host.name.as_str()).unwrap_or(&0).to_string(),
        ];
        row.extend(has_zones.then(|| host.zone.clone().unwrap_or_else(|| "-".to_owned())));
        let groups = || if host.groups.is_empty() { "-".to_owned() } else { list(host.groups.iter()) };
        row.extend(has_groups.then(groups));
        table.add_row(row);
    }
    lines(&table)
}

fn services(model: &Model) -> String {
    let mut table = plain();
    table.set_header(["SERVICE", "VIP", "PROTOCOL", "PORT", "FORWARD", "FLOWS", "BACKENDS"]);
    for service in &model.services {
        table.add_row([
            service.name.clone(),
            service.vip.to_string(),
            service.protocols.to_string(),
            ports(service),
            service.forward.to_string(),
            flows(model, service),
            backends(model, service),
        ]);
    }
    lines(&table)
}

/// What is not the default about a service's flows.
fn flows(model: &Model, service: &Service) -> String {
    let mut parts = vec![service.flows.to_string()];
    if service.fragments == Fragments::Pass {
        parts.push("fragments pass".to_owned());
    }
    for ((name, own), (_, instance)) in service.timeouts.named().iter().zip(model.timeouts.named()) {
        if *own != instance {
            parts.push(format!("{name} {}", humantime::format_duration(*own)));
        }
    }
    if service.rules != model.rules {
        parts.push(format!("rules {}", service.rules));
    }
    if service.when_empty != WhenEmpty::default() {
        parts.push(format!("when empty {}", service.when_empty));
    }
    if parts.len() > 1 && parts[0] == "-" {
        parts.remove(0);
    }
    parts.join("\n")
}

/// One backend a line: the host and the address that packets go to.
fn backends(model: &Model, service: &Service) -> String {
    let mut text = String::new();
    for name in &service.hosts {
        let address = model.address(service, name);
        let separator = if text.is_empty() { "" } else { "\n" };
        let address = match (address, service.backend_port) {
            (None, _) => "-".to_owned(),
            (Some(address), None) => address.to_string(),
            (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{name} {address}");
    }
    text
}

/// Ports and ranges, some to a line.
fn ports(service: &Service) -> String {
    let ports: Vec<_> = service.ports.iter().collect();
    ports.chunks(4).map(|some| list(some.iter())).collect::<Vec<_>>().join(",\n")
}

/// The mode, or that of each interface if they differ.
fn xdp_modes(model: &Model) -> String {
    let modes: BTreeSet<String> =
        model.interfaces.iter().map(|interface| interface.xdp_mode.to_string()).collect();
    if modes.len() == 1 {
        return list(modes.iter());
    }
    list(model.interfaces.iter().map(|Interface { name, xdp_mode }| format!("{name} {xdp_mode}")))
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn memory(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

/// Without the spaces that the table leaves on both sides.
fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_pins() {
        assert_eq!(flow_table_words(1024), 2048);
        assert_eq!(flow_table_words(1025), 4096);
        assert_eq!(flow_table_words(1_000_000), 1 << 21);
        assert_eq!(flow_table_words(16_777_216), 1 << 25);
        assert_eq!(memory(2048 * (HOT_BYTES + COLD_BYTES)), "128 KiB");
    }

    #[test]
    fn the_example_comes_to_this() {
        let model = config::parse(include_str!("../../../docs/sluice.example.toml"), "f").unwrap().model;
        let expected = "\
interfaces           eth0
XDP mode             auto
VIP mode             external
MSS                  1400 at most, over IPv6 1380
outer source         100.64.0.0/24
GUE port             6080
hash key             made at the first start
rings                2 of 65537 slots
flow table           1000000 pins, 128 MiB (hot 16 MiB + cold 112 MiB)
overflow             40000 pins beside it
timeout half_open    1m 4s
timeout established  15m
timeout closing      30s
timeout udp          1m 30s
timeout udp_gap      2s
rules for drains     50% stay healthy, one zone at a time

HOST   WEIGHT  IPV4       IPV6      SERVICES  ZONE  GROUPS
dns-1  50      10.0.0.21  -         1         b     -
web-1  100     10.0.0.11  fd00::11  4         a     blue, rack-7
web-2  100     10.0.0.12  fd00::12  4         b     green

SERVICE  VIP              PROTOCOL  PORT     FORWARD  FLOWS  BACKENDS
web      203.0.113.10     tcp       80, 443  l2       -      web-1 10.0.0.11
                                                             web-2 10.0.0.12
web-v6   2001:db8::10     tcp       80       ipip     -      web-1 fd00::11
                                                             web-2 fd00::12
sites    203.0.113.64/28  tcp       443      gue      -      web-1 10.0.0.11
                                                             web-2 10.0.0.12
api      203.0.113.20     tcp       443      nat      -      web-1 10.0.0.11:8443
                                                             web-2 10.0.0.12:8443
dns      203.0.113.53     udp       53       l2       gap    dns-1 10.0.0.21
";
        assert_eq!(render(&model), expected);
    }

    #[test]
    fn what_is_not_usual_is_shown() {
        let model = |top: &str, service: &str| {
            let toml = format!(
                "interfaces = [\"eth0\", {{ name = \"eth1\", xdp_mode = \"generic\" }}]\n{top}\n\
                 [hosts.a]\naddresses = [\"fd00::1\"]\n\
                 [[services]]\nname = \"s\"\nvip = \"2001:db8::/64\"\n{service}\n"
            );
            config::parse(&toml, "f").unwrap_or_else(|errors| panic!("{errors}")).model
        };
        let few = model("ping = \"answer\"", "protocol = \"tcp\"\nport = 1\nforward = \"ipip\"");
        let text = general(&few);
        for line in [
            "interfaces           eth0, eth1\n",
            "XDP mode             eth0 auto, eth1 generic\n",
            "ping                 answered\n",
            "outer source         this machine's addresses\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("MSS") && !text.contains("GUE"), "{text}");
        let many = model(
            "",
            "protocol = [\"tcp\", \"udp\"]\nport = [1, 2, 3, \"4-9\", 10]\nfragments = \"pass\"\naffinity = \"client\"",
        );
        let expected = "\
SERVICE  VIP            PROTOCOL  PORT           FORWARD  FLOWS           BACKENDS
s        2001:db8::/64  tcp, udp  1, 2, 3, 4-9,  l2       client          a fd00::1
                                  10                      fragments pass
";
        assert_eq!(services(&many), expected);
        let json = serde_json::to_value(&many).unwrap();
        let service = &json["services"][0];
        assert_eq!((&service["vip"], &service["port"]), (&"2001:db8::/64".into(), &serde_json::Value::Null));
        assert_eq!(service["ports"][3], serde_json::json!({"first": 4, "last": 9}));
        assert_eq!(serde_json::to_value(&few).unwrap()["services"][0]["port"], 1);
    }

    #[test]
    fn a_service_s_own_rules_are_shown() {
        let text = include_str!("../../../docs/sluice.example.toml").replace(
            "\nudp_handover = \"gap\"",
            "\nrules = { min_healthy = \"0%\" }\nwhen_empty = \"last\"\nudp_handover = \"gap\"",
        );
        let lines = services(&config::parse(&text, "f").unwrap().model);
        let dns: Vec<&str> = lines.lines().skip_while(|line| !line.starts_with("dns")).collect();
        assert!(dns[0].contains(" gap "), "{lines}");
        assert_eq!(dns[1].trim(), "rules one zone at a time");
        assert_eq!(dns[2].trim(), "when empty last");
    }

    #[test]
    fn a_service_s_own_timeouts_are_shown() {
        let text = include_str!("../../../docs/sluice.example.toml").replace(
            "\nudp_handover = \"gap\"",
            "\ntimeouts = { udp = \"5s\", udp_gap = \"2s\", closing = \"7s\" }\nudp_handover = \"gap\"",
        );
        let lines = services(&config::parse(&text, "f").unwrap().model);
        let dns: Vec<&str> = lines.lines().skip_while(|line| !line.starts_with("dns")).collect();
        assert!(dns[0].contains(" gap "), "{lines}");
        assert_eq!(dns[1].trim(), "closing 7s");
        assert_eq!(dns[2].trim(), "udp 5s");
    }

    #[test]
    fn a_wrong_file_is_an_error_with_its_problems() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrong.toml");
        std::fs::write(&path, "interfaces = []\n").unwrap();
        let failure = run(&CheckArgs { file: path, json: false }).unwrap_err();
        let text = failure.error.to_string();
        assert!(text.contains("wrong.toml:1:14: interfaces: no interface is named"), "{text}");
    }
}
