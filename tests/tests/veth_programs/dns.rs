//! dnsmasq and dig: short answers, and one of some 3000 bytes, which comes over TCP, or over UDP in fragments.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use sluice_tests::LIMIT;
use sluice_tests::site::{Extra, Plan, Site, served};
use sluice_tests::topology::{Node, Process};

use crate::site::{counted, folder, serve, until};

/// TXT records of `large.test`, and bytes of each.
const RECORDS: usize = 16;
const LENGTH: usize = 190;

/// An answer of `large.test` as dig shows it, in some order.
fn records() -> Vec<String> {
    (0..RECORDS).map(|number| format!("\"{number:02}{}\"", "x".repeat(LENGTH - 2))).collect()
}

fn start_server(site: &Site, plan: &Plan, host: &Node, folder: &Path) -> Process {
    let mut config = format!(
        "no-resolv\nno-hosts\nbind-interfaces\nuser=root\nkeep-in-foreground\nlog-facility=-\npid-file=\nport=53\n\
         edns-packet-max=4096\ntxt-record=host.test,{}\n",
        host.name
    );
    for address in served(&site.topology, host, plan) {
        writeln!(config, "listen-address={address}").unwrap();
    }
    for record in records() {
        writeln!(config, "txt-record=large.test,{}", record.trim_matches('"')).unwrap();
    }
    let file = folder.join(format!("{}.conf", host.name));
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("dnsmasq");
    command.arg("--conf-file=".to_owned() + file.to_str().unwrap());
    let server = serve(host, command, &folder.join(format!("{}.txt", host.name)));
    for address in served(&site.topology, host, plan) {
        let is_up =
            || host.ns.shell(&format!("dig +time=1 +tries=1 +short @{address} host.test TXT")).is_ok();
        until(LIMIT, is_up, || std::fs::read_to_string(folder.join(format!("{}.txt", host.name))));
    }
    server
}

/// What dig says to a question at a VIP, a record a line, in order.
fn dig(site: &Site, vip: IpAddr, args: &str) -> Vec<String> {
    let told =
        site.topology.client().ns.shell(&format!("dig +time=5 +tries=2 +short @{vip} {args}")).unwrap();
    let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

pub fn service() -> Extra {
    Extra { name: "dns", protocol: "[\"tcp\", \"udp\"]", port: "53", more: "" }
}

/// Short and large answers come over UDP and TCP.
pub fn ask(site: &Site, plan: &Plan) {
    let fragments = counted(site, "forward_fragment");
    let folder = folder(site, "dns");
    let hosts = site.topology.hosts();
    let servers: Vec<Process> =
        hosts.iter().map(|host| start_server(site, plan, host, folder.path())).collect();
    for vip in site.vips() {
        for way in ["+notcp", "+tcp"] {
            // Each from a port of its own.
            let mut answers = dig(site, vip, &format!("{way} {}", "host.test TXT ".repeat(20)));
            assert_eq!(answers.len(), 20, "{vip} {way}");
            answers.dedup();
            assert_eq!(answers, ["\"h1\"", "\"h2\""], "{vip} {way}: both hosts answer");
        }
        for way in ["+notcp +ignore +bufsize=4096", "+tcp", "+notcp +bufsize=512"] {
            assert_eq!(dig(site, vip, &format!("{way} large.test TXT")), records(), "{vip} {way}");
        }
    }
    if plan.forward == "nat" {
        assert!(counted(site, "forward_fragment") >= fragments + 2 * 2, "fragments of answers");
    }
    drop((servers, folder));
}
