//! Hosts that do not answer for their VIPs.

use std::time::Instant;

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::servers::{Nginx, SluiceDaemon};
use sluice_tests::site::{Plan, Site};
use sluice_tests::topology::{Layout, Topology};

use crate::{Patient, is};

/// What the doctor finds of hosts' VIPs, as `severity host what | mend`, and what it says is well.
fn of_vips(daemon: &SluiceDaemon) -> (Vec<String>, String) {
    let shown = daemon.cli(&["doctor", "--json"]).unwrap();
    let report: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let all = report["findings"].as_array().unwrap();
    let mut found: Vec<String> = all
        .iter()
        .filter(|finding| finding["check"] == "vip" && finding["subject"] != "")
        .map(|finding| ["severity", "subject", "what", "mend"].map(|of| finding[of].as_str().unwrap()))
        .map(|[severity, subject, what, mend]| format!("{severity} {subject} {what} | {mend}"))
        .collect();
    found.sort();
    (found, report["well"].to_string())
}

/// What is behind the VIPs is seen by the way of real traffic alone: the hosts' own addresses answer all the time.
#[test]
fn hosts_that_do_not_answer_for_their_vips() {
    for (forward, layout) in [("l2", Layout::Flat), ("gue", Layout::Routed)] {
        let mut site = Site::start(Topology::builder().layout(layout), &Plan::new(forward, 2)).unwrap();
        let doctor = || of_vips(&site.daemon);
        let (found, well) = doctor();
        assert_eq!(found, [""; 0], "{forward}");
        assert!(well.contains("backends asked for their VIPs answer"), "{well}");

        // Without the VIP: only that family's services are found.
        let vip = site.vips()[0];
        let host = &site.topology.host(2).ns;
        host.shell(&format!("ip addr del {vip}/32 dev lo")).unwrap();
        let (found, _) = doctor();
        assert!(!found.is_empty(), "{forward}");
        let says = format!("error h2 does not answer for {vip}, the VIP of ");
        assert!(found.iter().all(|found| found.starts_with(&says)), "{forward}: {found:#?}");
        assert!(found.iter().all(|found| found.contains(&format!("ip addr add {vip}"))), "{found:#?}");
        let told = site.daemon.cli_ok(&["health", "test", "h2", "--vip"]).unwrap();
        assert!(told.contains("SYN sent") && told.contains("through the VIP"), "{told}");
        // Who is drained is not to answer.
        site.daemon.cli_ok(&["drain", "h2", "--force"]).unwrap();
        let (found, _) = doctor();
        assert!(!found.is_empty() && found.iter().all(|found| found.starts_with("note h2 ")), "{found:#?}");
        site.daemon.cli_ok(&["undrain", "h2"]).unwrap();
        host.shell(&format!("ip addr add {vip}/32 dev lo")).unwrap();
        assert_eq!(doctor().0, [""; 0], "{forward}");

        // A tunnel that is not unpacked any more.
        if forward == "gue" {
            drop(site.decap.remove(0));
            let (found, _) = doctor();
            assert!(!found.is_empty(), "{forward}");
            let is_it = |found: &String| found.starts_with("error h1 ") && found.contains("unpack gue");
            assert!(found.iter().all(is_it), "{found:#?}");
        }
    }
}

/// Answers come back through the balancer, and one host has no server any more.
#[test]
fn a_server_behind_nat_that_is_gone() {
    let mut site = Site::start(Topology::builder().layout(Layout::Routed), &Plan::new("nat", 2)).unwrap();
    assert_eq!(of_vips(&site.daemon).0, [""; 0]);
    drop(site.nginx.remove(1));
    let (found, _) = of_vips(&site.daemon);
    let vips = site.vips().map(|vip| format!("error h2 does not answer for {vip}, the VIP of web-"));
    assert_eq!(found.len(), vips.len(), "{found:#?}");
    for (found, says) in found.iter().zip(vips) {
        assert!(found.starts_with(&says), "{says}: {found}");
        assert!(
            found.contains("is its server up? do its answers come back through this machine?"),
            "{found}"
        );
    }
}

/// Without CAP_NET_RAW, whether hosts answer cannot be heard.
#[test]
fn a_daemon_that_cannot_ask() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 2)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (quiet, binary) = (folder.path().join("sluice"), site.daemon.binary().display());
    // Written by another process: a program that this one has open for writing could not be started.
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-net_raw {binary} \"$@\"\n");
    let write = format!("printf %s '{script}' >{0}; chmod +x {0}", quiet.display());
    site.topology.balancer().ns.shell(&write).unwrap();
    site.daemon.terminate().unwrap();
    site.daemon.use_binary(&quiet);
    site.daemon.start_again().unwrap();
    let (found, _) = of_vips(&site.daemon);
    for host in ["h1", "h2"] {
        let says = format!("note {host} whether it answers for its VIPs is not known: ");
        let mend = format!("| sluice health test {host} --vip");
        let is_it = |found: &&String| found.starts_with(&says) && found.ends_with(&mend);
        let told = found.iter().find(is_it).unwrap_or_else(|| panic!("{says}: {found:#?}"));
        assert!(told.contains("CAP_NET_RAW"), "{told}");
    }
}

/// An `all` service of which one port alone is served, and a UDP service that has nothing to be asked.
#[test]
fn vips_are_asked_where_somebody_answers() {
    let patient = Patient::new();
    let _servers = Nginx::start_on_all(&patient.topology).unwrap();
    let vip = patient.topology.vip4();
    let udp = format!(
        "[[services]]\nname = \"dns\"\nvip = \"{}\"\nprotocol = \"udp\"\nport = 53\n",
        patient.topology.vip6()
    );
    // Reached by IPv4 alone, the hosts would be none of a service on the IPv6 VIP.
    let sixth = |config: String| {
        let add = |config: String, host: usize| {
            let [v4, v6] = [
                patient.topology.host(host).ipv4[0].to_string(),
                patient.topology.host(host).ipv6[0].to_string(),
            ];
            config.replace(&format!("[\"{v4}\"]"), &format!("[\"{v4}\", \"{v6}\"]"))
        };
        add(add(config, 1), 2)
    };
    let config = sixth(patient.usual(&udp)).replace("port = 80", "port = \"all\"");
    let daemon = SluiceDaemon::start(&patient.topology, &config).unwrap();
    let doctor = format!("{} doctor --json --instance {}", daemon.binary().display(), daemon.instance());
    assert_eq!(patient.findings("error", &doctor), [""; 0], "a RST from the VIP shows that it is there");
    let notes = patient.findings("note", &doctor);
    let left = notes.iter().find(|note| note.starts_with("vip : ")).unwrap_or_else(|| panic!("{notes:#?}"));
    is(left, "vip", "the VIPs of dns: over UDP", "type = \"udp\"");
    let told = daemon.cli_ok(&["health", "test", "h2", "--vip"]).unwrap();
    assert!(told.contains("it has the VIP") && !told.contains("dns"), "{told}");

    patient.topology.host(2).ns.shell(&format!("ip addr del {vip}/32 dev lo")).unwrap();
    let found = patient.only("error", &doctor);
    is(&found, "vip h2", &format!("does not answer for {vip}, the VIP of web"), "ip addr add");

    // With a check it is asked by that, and nobody answers here.
    let checked = sixth(patient.usual(&(udp + "[[services.checks]]\ntype = \"udp\"\nsend = \"?\"\n")));
    daemon.write_config(&checked).unwrap();
    daemon.cli_ok(&["apply", daemon.config_path().to_str().unwrap()]).unwrap();
    assert!(!patient.findings("note", &doctor).iter().any(|note| note.starts_with("vip : ")));
    let told = daemon.cli_ok(&["health", "test", "h1", "--vip"]).unwrap();
    assert!(told.contains("udp :53 \"?\" through the VIP for dns"), "{told}");
}

/// Down for one service, by a check through its VIP, a host is an error for the others on that VIP alone.
#[test]
fn a_host_that_is_down_for_one_of_its_services() {
    let mut plan = Plan::new("l2", 2);
    plan.sections = vec![(
        "web",
        "[[services.checks]]\ntype = \"tcp\"\nthrough = \"vip\"\n[services.health]\ninterval = \"200ms\"\n",
    )];
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let vip = site.vips()[0];
    site.topology.host(2).ns.shell(&format!("ip addr del {vip}/32 dev lo")).unwrap();
    let begun = Instant::now();
    loop {
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        let hosts = status["hosts"].as_array().unwrap();
        let h2 = hosts.iter().find(|host| host["name"] == "h2").unwrap();
        if h2["down_for"].to_string().contains("web-v4") {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{h2:#}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let shown = site.daemon.cli(&["doctor", "--json"]).unwrap();
    let report: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let of_h2 = report["findings"].as_array().unwrap().iter().filter(|of| of["subject"] == "h2");
    let mut of_vips: Vec<String> = of_h2
        .filter(|of| of["check"] == "vip")
        .map(|of| {
            let what = of["what"].as_str().unwrap();
            let service = what.split("the VIP of ").nth(1).and_then(|rest| rest.split(':').next());
            format!("{} {}", of["severity"].as_str().unwrap(), service.unwrap())
        })
        .collect();
    of_vips.sort();
    assert_eq!(of_vips, ["error echo-v4", "warning web-v4"], "{report:#}");
}
