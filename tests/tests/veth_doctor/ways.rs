//! Ways to backends: routes, neighbours, MTUs, filters, and interfaces that take nothing from programs of others.

use std::net::Ipv4Addr;

use lb_userspace::netlink::takes_redirects;
use sluice_tests::servers::SluiceDaemon;

use crate::{Patient, has, is};

/// Behind a bridge, whose driver takes nothing from the native programs of others.
#[test]
fn a_way_out_that_takes_nothing() {
    let patient = Patient::new();
    patient.shell(
        "ip link add br7 type bridge; ip link add p0 type veth peer name p1; ip link set p0 master br7",
    );
    patient.shell("for link in p0 p1 br7; do ip link set $link up; done; ip addr add 10.98.0.1/24 dev br7");
    patient.shell("ip neigh add 10.98.0.2 lladdr 02:00:00:00:00:98 dev br7");
    let index = patient.ns().enter(|| nix::net::if_::if_nametoindex("br7").unwrap()).unwrap();
    let tells = patient.ns().enter(|| takes_redirects(index)).unwrap().is_some();
    let severity = if tells { "error" } else { "warning" };
    let both = |eth0: &str| {
        let interfaces = format!(
            "{{ name = \"eth0\", xdp_mode = \"{eth0}\" }}, {{ name = \"br7\", xdp_mode = \"generic\" }}"
        );
        patient.config(&interfaces, "10.98.0.2", "")
    };
    let alone = patient.config("{ name = \"eth0\", xdp_mode = \"native\" }", "10.98.0.2", "");
    for (config, is_lost) in [(both("native"), true), (both("generic"), false), (alone, true)] {
        let daemon = SluiceDaemon::start(&patient.topology, &config).unwrap();
        let doctor = format!("{} doctor --json --instance {}", daemon.binary().display(), daemon.instance());
        let found = patient.findings(severity, &doctor);
        let ways: Vec<&String> = found.iter().filter(|found| found.starts_with("redirect ")).collect();
        let problems = daemon.cli_json(&["status", "--json"]).unwrap()["problems"].to_string();
        assert_eq!(problems.contains("br7: hosts are reached by it"), is_lost && tells, "{problems}");
        if is_lost && tells {
            let warnings = patient.findings("warning", &doctor);
            has(&warnings, "daemon ", "the daemon says: br7: hosts are reached by it", "sluice status");
        }
        match ways[..] {
            [way] if is_lost => is(way, "redirect br7", "frames that native XDP programs", "\"generic\""),
            [] if !is_lost => {}
            _ => panic!("{config}: {found:#?}"),
        }
    }
}

#[test]
fn traps_of_ways_to_backends() {
    let patient = Patient::new();
    let elsewhere =
        |address: &str, service: &str| patient.doctor(&patient.config("\"eth0\"", address, service));
    // Nobody has the address, which is on the link.
    let mut nobody = patient.topology.host(2).ipv4[0].octets();
    nobody[3] = 252;
    let nobody = Ipv4Addr::from(nobody).to_string();
    is(&patient.only("error", &elsewhere(&nobody, "")), "neighbour h2", &nobody, "ip neigh show");
    patient.shell("ip route add unreachable 192.0.2.9");
    is(
        &patient.only("error", &elsewhere("192.0.2.9", "")),
        "route h2",
        "192.0.2.9",
        "ip route get 192.0.2.9",
    );
    // Behind a router, which `l2` cannot reach and `ipip` can.
    let router = patient.topology.host(1).ipv4[0];
    patient.shell(&format!("ip route replace 192.0.2.9 via {router}"));
    is(&patient.only("error", &elsewhere("192.0.2.9", "")), "route h2", "behind the router", "\"ipip\"");
    assert_eq!(patient.findings("error", &elsewhere("192.0.2.9", "forward = \"ipip\"")), [""; 0]);

    // What is no host.
    let own = patient.topology.balancer().ipv4[0].to_string();
    let found = patient.findings("error", &elsewhere(&own, ""));
    has(&found, "route h2", "is this machine's own address", "name the host's");
    patient.shell("ip route replace 192.0.2.9 dev lo");
    let found = patient.only("error", &elsewhere("192.0.2.9", ""));
    is(&found, "route h2", "reached by lo, which is no Ethernet interface", "by an Ethernet interface");

    // Room for outer headers.
    for (forward, mtu) in [("ipip", 1520), ("gue", 1532)] {
        let doctor = patient.doctor(&patient.usual(&format!("forward = \"{forward}\"")));
        patient.shell(&format!("ip link set eth0 mtu {mtu}"));
        assert_eq!(patient.findings("warning", &doctor), [""; 0], "{forward}");
        patient.shell(&format!("ip link set eth0 mtu {}", mtu - 1));
        let found = patient.findings("warning", &doctor);
        assert_eq!(found.len(), 2, "both hosts: {found:#?}");
        is(&found[0], "mtu h1", "do not fit eth0", &format!("ip link set dev eth0 mtu {mtu}"));
    }
    patient.shell("ip link set eth0 mtu 1600");

    // `nat` and the kernel's filters, and a config that is not for this machine.
    let nat = patient.doctor(&patient.usual("forward = \"nat\""));
    patient.shell("sysctl -q net.ipv4.conf.eth0.forwarding=0");
    is(&patient.only("error", &nat), "config", "forward", "net.ipv4.conf.eth0.forwarding=1");
    patient.shell("sysctl -q net.ipv4.conf.eth0.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=1");
    is(&patient.only("warning", &nat), "rp_filter eth0", "strict", "net.ipv4.conf.eth0.rp_filter=0");
    patient.shell("sysctl -q net.ipv4.conf.eth0.rp_filter=0");
    assert_eq!(patient.findings("warning", &nat), [""; 0]);
    let wrong = patient.doctor("interfaces = [\"eth0\"]\nnonsense = 1\n");
    let found = patient.findings("error", &wrong);
    assert!(
        found.iter().any(|found| found.starts_with("config ") && found.contains("unknown field")),
        "{found:#?}"
    );
}

/// A pair whose other end takes no frames, which no config names.
#[test]
fn a_way_out_by_a_pair() {
    let patient = Patient::new();
    patient.shell("ip link add v4 type veth peer v5; ip link set v4 up; ip link set v5 up");
    patient.shell("ip addr add 10.96.0.1/24 dev v4; ip neigh add 10.96.0.2 lladdr 02:00:00:00:00:96 dev v4");
    let config = patient.config("{ name = \"eth0\", xdp_mode = \"native\" }", "10.96.0.2", "");
    let index = patient.ns().enter(|| nix::net::if_::if_nametoindex("v4").unwrap()).unwrap();
    let tells = patient.ns().enter(|| takes_redirects(index)).unwrap().is_some();
    let daemon = SluiceDaemon::start(&patient.topology, &config).unwrap();
    let doctor = format!("{} doctor --json --instance {}", daemon.binary().display(), daemon.instance());
    let found = patient.findings(if tells { "error" } else { "warning" }, &doctor);
    has(&found, "redirect v4", "frames that native XDP programs", "give its other end an XDP program or GRO");
    if tells {
        patient.shell("ethtool -K v5 gro on");
        let found = patient.findings("error", &doctor);
        assert!(!found.iter().any(|found| found.starts_with("redirect ")), "{found:#?}");
    }
}

/// Its MAC is known, and it is asked in vain: while the doctor waits for another host, which answers nothing at all.
#[test]
fn a_host_that_has_fallen_silent() {
    let patient = Patient::new();
    let mut nobody = patient.topology.host(2).ipv4[0].octets();
    nobody[3] = 252;
    let nobody = Ipv4Addr::from(nobody).to_string();
    patient.topology.switch().shell("ip link set p-h1 down").unwrap();
    // The kernel waits a while before it asks, and between questions.
    let soon =
        ["delay_first_probe_time=0", "retrans_time_ms=50"].map(|set| format!("net.ipv4.neigh.eth0.{set}"));
    patient.shell(&format!("ip neigh flush dev eth0; sysctl -q {}", soon.join(" ")));
    let stale = format!("ip neigh replace {nobody} lladdr 02:00:00:00:00:fc dev eth0 nud stale");
    let doctor = patient.doctor(&patient.config("\"eth0\"", &nobody, ""));
    let found = patient.findings("warning", &format!("{stale}; {doctor}"));
    has(&found, "neighbour h2", "does not answer any more", &format!("ping {nobody}"));
}

/// Clients come in by an interface with a larger MTU than the one by which a host is reached.
#[test]
fn a_link_narrower_than_that_of_clients() {
    let patient = Patient::new();
    patient.shell(
        "ip link add br8 type bridge; ip link add p2 type veth peer p3; ip link set p2 master br8; ip link set br8 mtu 1400",
    );
    patient.shell("for link in p2 p3 br8; do ip link set $link up; done; ip addr add 10.97.0.1/24 dev br8");
    patient.shell("ip neigh add 10.97.0.2 lladdr 02:00:00:00:00:97 dev br8");
    let interfaces = "\"eth0\", { name = \"br8\", xdp_mode = \"generic\" }";
    let doctor = patient.doctor(&patient.config(interfaces, "10.97.0.2", ""));
    let mend = "ip link set dev br8 mtu 1500";
    is(&patient.only("warning", &doctor), "mtu h2", "packets of 1500 bytes do not fit br8", mend);
    patient.shell(mend);
    assert_eq!(patient.findings("warning", &doctor), [""; 0]);
}

/// Answers of `nat` backends come from VIPs that are the machine's own.
#[test]
fn traps_of_own_vips() {
    let patient = Patient::new();
    let config = format!("vip_mode = \"local\"\n{}", patient.usual("forward = \"nat\""));
    patient.shell("sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0");
    patient.shell("sysctl -q net.ipv4.conf.all.accept_local=0 net.ipv4.conf.eth0.accept_local=0");
    let doctor = patient.doctor(&config);
    is(
        &patient.only("warning", &doctor),
        "rp_filter eth0",
        "its own address",
        "net.ipv4.conf.eth0.accept_local=1",
    );
    patient.shell("sysctl -q net.ipv4.conf.eth0.accept_local=1");
    assert_eq!(patient.findings("warning", &doctor), [""; 0]);
}
