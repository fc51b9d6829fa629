//! `sluice doctor` finds each trap that can be laid over veth pairs, names its mend, and finds nothing where there is none.
//!
//! What takes other devices (LRO, VLAN devices, other drivers) or another kernel has its facts made up, in `doctor/tests.rs`.

use std::process::{Command, Output};
use std::time::Instant;

use lb_userspace::netlink::takes_redirects;
use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::servers::{Nginx, SluiceDaemon, sluice_binary};
use sluice_tests::site::{Plan, Site};
use sluice_tests::topology::{Layout, Namespace, Topology, XdpProgram};

struct Patient {
    topology: Topology,
    folder: tempfile::TempDir,
}

impl Patient {
    fn new() -> Self {
        let topology = Topology::builder().hosts(2).build().unwrap();
        Patient { topology, folder: tempfile::tempdir().unwrap() }
    }

    fn ns(&self) -> &Namespace {
        &self.topology.balancer().ns
    }

    fn shell(&self, line: &str) -> String {
        self.ns().shell(line).unwrap()
    }

    /// With another address for the second host, and other words.
    fn config(&self, interfaces: &str, second: &str, service: &str) -> String {
        let first = self.topology.host(1).ipv4[0];
        format!(
            "interfaces = [{interfaces}]\nring_size = 1009\n[flow_table]\npins = 4096\n\
             [hosts.h1]\naddresses = [\"{first}\"]\n[hosts.h2]\naddresses = [\"{second}\"]\n\
             [[services]]\nname = \"web\"\nvip = \"{}\"\nprotocol = \"tcp\"\nport = 80\n{service}\n",
            self.topology.vip4()
        )
    }

    fn usual(&self, service: &str) -> String {
        self.config("\"eth0\"", &self.topology.host(2).ipv4[0].to_string(), service)
    }

    /// The command, in words for a shell.
    fn doctor(&self, config: &str) -> String {
        let file = self.folder.path().join("sluice.toml");
        std::fs::write(&file, config).unwrap();
        let binary = sluice_binary().unwrap();
        let instance = self.topology.prefix();
        format!("{} doctor --json --instance {instance} --config {}", binary.display(), file.display())
    }

    fn run(&self, line: &str) -> (Output, Value) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        let output = self.ns().output(shell).unwrap();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{line}: {error}: {output:?}"));
        (output, report)
    }

    /// What is found of a severity, as `check subject: what | mend`.
    fn findings(&self, severity: &str, line: &str) -> Vec<String> {
        let (output, report) = self.run(line);
        let findings = report["findings"].as_array().unwrap();
        let is = |wanted: &'static str| findings.iter().any(|finding| finding["severity"] == wanted);
        assert_eq!(output.status.code(), Some(i32::from(is("error"))), "{report:#}");
        let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
        let of = findings.iter().filter(|finding| finding["severity"] == severity);
        of.map(|finding| {
            let [check, subject, what, mend] =
                ["check", "subject", "what", "mend"].map(|field| text(finding, field));
            format!("{check} {subject}: {what} | {mend}")
        })
        .collect()
    }

    /// The one finding of a severity.
    fn only(&self, severity: &str, line: &str) -> String {
        let found = self.findings(severity, line);
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0].clone()
    }
}

fn is(found: &str, check: &str, what: &str, mend: &str) {
    assert!(found.starts_with(check), "{check}: {found}");
    assert!(found.contains(what), "{what}: {found}");
    assert!(found.split(" | ").nth(1).unwrap().contains(mend), "{mend}: {found}");
}

#[test]
fn nothing_is_found_where_nothing_is_wrong_with_a_daemon_or_without() {
    let patient = Patient::new();
    let config = patient.usual("");
    let doctor = patient.doctor(&config);
    assert_eq!(patient.findings("error", &doctor), [""; 0]);
    assert_eq!(patient.findings("warning", &doctor), [""; 0]);
    is(&patient.only("note", &doctor), "veth_peer eth0", "another network namespace", "PEER");

    let _servers = Nginx::start_on_all(&patient.topology).unwrap();
    let daemon = SluiceDaemon::start(&patient.topology, &config).unwrap();
    let doctor = format!("{} doctor --json --instance {}", daemon.binary().display(), daemon.instance());
    assert_eq!(patient.findings("error", &doctor), [""; 0], "its own program is none of another");
    let (_, report) = patient.run(&doctor);
    let well = report["well"].to_string();
    assert!(well.contains("the daemon runs and has no complaint"), "the daemon's own config: {well}");
    let text = daemon.cli_ok(&["doctor"]).unwrap();
    assert!(text.contains("ok: Linux ") && text.contains("note [veth_peer] eth0: "), "{text}");

    // What the daemon complains of is told as well.
    patient.topology.switch().shell("ip link set p-h1 down").unwrap();
    patient.shell("ip neigh flush dev eth0");
    let found = patient.findings("error", &doctor);
    assert!(
        found.iter().any(|found| found.starts_with("neighbour h1: ")) || {
            let warnings = patient.findings("warning", &doctor);
            warnings.iter().any(|found| found.starts_with("neighbour h1: "))
        },
        "{found:#?}"
    );
}

#[test]
fn traps_of_interfaces() {
    let patient = Patient::new();
    let doctor = patient.doctor(&patient.usual(""));

    // Another program in the way.
    let program = XdpProgram::send().unwrap();
    let link = patient.ns().enter(|| program.attach("eth0").unwrap()).unwrap();
    let found = patient.findings("error", &doctor);
    is(&found[0], "other_program eth0", "in native mode", "ip link set dev eth0 xdp off");
    drop(link);
    assert_eq!(patient.findings("error", &doctor), [""; 0]);

    // A pair whose other end has no program, then swallows frames, and sends without checksums.
    patient.shell(
        "ip link add v0 numtxqueues 2 numrxqueues 2 type veth peer name v1 numtxqueues 2 numrxqueues 2",
    );
    patient.shell("ip addr add 10.99.0.1/24 dev v1; ip link set v0 up; ip link set v1 up");
    let both = patient.doctor(&patient.config(
        "\"eth0\", \"v0\"",
        &patient.topology.host(2).ipv4[0].to_string(),
        "",
    ));
    is(
        &patient.only("error", &both),
        "veth_peer v0",
        "v1 has no native XDP program",
        "ip link set dev v1 xdpdrv",
    );
    is(&patient.only("warning", &both), "offload v0", "no checksum yet", "ethtool -K v1 tx off");
    let link = patient.ns().enter(|| program.attach("v0").unwrap()).unwrap();
    let is_swallowed = |severity: &str, line: &str, what: &str| {
        let found = patient.findings(severity, line);
        let is_it = |found: &String| {
            found.starts_with("swallowed v0: ") && found.contains(what) && found.contains("xdp_tx_err")
        };
        (found.iter().any(is_it), found)
    };
    // More than one a second, which questions for a neighbour are.
    patient.shell("ip neigh add 10.99.0.9 lladdr 02:00:00:00:00:09 dev v1");
    let meanwhile = "ping -i 0.05 -w 120 10.99.0.9 >/dev/null & ";
    let line = format!("{meanwhile} {both}; code=$?; kill $!; exit $code");
    // The doctor looks for a second, in which a busy machine may send nothing.
    let begun = Instant::now();
    loop {
        let (is_it, found) = is_swallowed("error", &line, " while the doctor looked");
        if is_it {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{found:#?}");
    }
    drop(link);
    // It was so, and is no more.
    let (is_it, found) = is_swallowed("note", &both, "none while the doctor looked");
    assert!(is_it, "{found:#?}");
    let pass = XdpProgram::pass(false).unwrap();
    let link = patient.ns().enter(|| pass.attach("v1").unwrap()).unwrap();
    patient.shell("ethtool -K v1 tx off");
    assert!(!patient.findings("error", &both).iter().any(|found| found.starts_with("veth_peer")));
    assert_eq!(patient.findings("warning", &both), [""; 0]);
    drop(link);

    patient.shell("ip link set v1 down");
    let found = patient.findings("error", &both);
    assert!(found.iter().any(|found| found.starts_with("link v0: it has no carrier")), "{found:#?}");
    patient.shell("ip link del v0");

    // Its end in another namespace without program and GRO.
    let switch = patient.topology.switch();
    patient.shell(
        "ip link add far0 numtxqueues 2 numrxqueues 2 type veth peer name far1 numtxqueues 2 numrxqueues 2",
    );
    patient.shell(&format!("ip link set far1 netns {}; ip link set far0 up", switch.name()));
    switch.shell("ip link set far1 up; ethtool -K far1 gro off").unwrap();
    let far = patient.doctor(&patient.config(
        "\"eth0\", \"far0\"",
        &patient.topology.host(2).ipv4[0].to_string(),
        "",
    ));
    is(&patient.only("error", &far), "veth_peer far0", "neither an XDP program nor GRO", "PEER");

    // No native mode in the driver of a bridge.
    patient.shell("ip link add br7 type bridge; ip link set br7 up");
    let bridged = |mode: &str| {
        patient.doctor(&patient.config(
            &format!("\"eth0\", {{ name = \"br7\", xdp_mode = \"{mode}\" }}"),
            &patient.topology.host(2).ipv4[0].to_string(),
            "",
        ))
    };
    let found = patient.findings("error", &bridged("native"));
    assert!(
        found.iter().any(|found| found.starts_with("xdp_mode br7: ") && found.contains("\"auto\"")),
        "{found:#?}"
    );
    let found = patient.findings("note", &bridged("auto"));
    assert!(found.iter().any(|found| found.starts_with("xdp_mode br7: ")), "{found:#?}");

    patient.shell("ip link set eth0 down");
    let found = patient.findings("error", &doctor);
    assert!(
        found.iter().any(|found| found.starts_with("link eth0: it is down | ip link set eth0 up")),
        "{found:#?}"
    );
}

/// What is behind the VIPs is seen by the way of real traffic alone: the hosts' own addresses answer all the time.
#[test]
fn hosts_that_do_not_answer_for_their_vips() {
    for (forward, layout) in [("l2", Layout::Flat), ("gue", Layout::Routed)] {
        let mut site = Site::start(Topology::builder().layout(layout), &Plan::new(forward, 2)).unwrap();
        let doctor = || {
            let shown = site.daemon.cli(&["doctor", "--json"]).unwrap();
            let report: Value = serde_json::from_slice(&shown.stdout).unwrap();
            let all = report["findings"].as_array().unwrap().clone();
            let mut found: Vec<String> = all
                .iter()
                .filter(|finding| finding["check"] == "vip" && finding["subject"] != "")
                .map(|finding| {
                    ["severity", "subject", "what", "mend"].map(|of| finding[of].as_str().unwrap())
                })
                .map(|[severity, subject, what, mend]| format!("{severity} {subject} {what} | {mend}"))
                .collect();
            found.sort();
            (found, report["well"].to_string())
        };
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
        match ways[..] {
            [way] if is_lost => is(way, "redirect br7", "frames that native XDP programs", "\"generic\""),
            [] if !is_lost => {}
            _ => panic!("{config}: {found:#?}"),
        }
    }
}

/// Its programs go on without it.
#[test]
fn a_daemon_that_is_gone_or_stuck_is_no_daemon_that_was_never_there() {
    let patient = Patient::new();
    let _servers = Nginx::start_on_all(&patient.topology).unwrap();
    let config = patient.usual("");
    let mut daemon = SluiceDaemon::start(&patient.topology, &config).unwrap();
    let doctor = patient.doctor(&config);
    assert_eq!(patient.findings("error", &doctor), [""; 0]);

    daemon.process().unwrap().signal(Signal::SIGSTOP).unwrap();
    is(&patient.only("error", &doctor), "daemon ", "has not answered", "is stuck: read its log");
    daemon.process().unwrap().signal(Signal::SIGCONT).unwrap();
    assert_eq!(patient.findings("error", &doctor), [""; 0]);

    daemon.sigkill();
    is(
        &patient.only("error", &doctor),
        "daemon ",
        "packets are forwarded and no daemon runs",
        "systemctl start",
    );
    daemon.cli_ok(&["detach"]).unwrap();
    let (output, report) = patient.run(&doctor);
    assert!(output.status.success(), "{report:#}");
    assert!(report["well"].to_string().contains("no daemon runs for this instance"), "{report:#}");
}

#[test]
fn traps_of_ways_to_backends() {
    let patient = Patient::new();
    let elsewhere =
        |address: &str, service: &str| patient.doctor(&patient.config("\"eth0\"", address, service));
    // Nobody has the address, which is on the link.
    let mut nobody = patient.topology.host(2).ipv4[0].octets();
    nobody[3] = 252;
    let nobody = std::net::Ipv4Addr::from(nobody).to_string();
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

#[test]
fn traps_of_the_machine() {
    let patient = Patient::new();
    let doctor = patient.doctor(&patient.usual(""));
    let less = "setpriv --bounding-set=-bpf,-perfmon,-sys_admin";
    is(&patient.findings("error", &format!("{less} {doctor}"))[0], "capabilities", "CAP_BPF", "root");
    let quiet = "setpriv --bounding-set=-net_raw";
    is(&patient.only("warning", &format!("{quiet} {doctor}")), "capabilities", "CAP_NET_RAW", "CAP_NET_RAW");
    let unmounted = format!("unshare -m sh -c 'umount /sys/fs/bpf && {doctor}'");
    let found = patient.findings("note", &unmounted);
    assert!(
        found.iter().any(|found| found.starts_with("bpffs : ") && found.contains("mount -t bpf")),
        "{found:#?}"
    );
}

/// Files that the kernel would have on such a machine, in place of its own, for the doctor alone.
#[test]
fn traps_of_the_kernel() {
    let patient = Patient::new();
    let doctor = patient.doctor(&patient.usual(""));
    let with = |path: &str, text: &str| {
        let file = patient.folder.path().join("instead");
        std::fs::write(&file, text).unwrap();
        format!("unshare -m sh -c 'mount --bind {} {path} && {doctor}'", file.display())
    };
    // The first namespace alone has it: here its folder is another, for the doctor alone.
    let with_own = |path: &str, text: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let own = format!("mount -t tmpfs none {folder} && echo {text} > {folder}/{name}");
        format!("unshare -m sh -c '{own} && {doctor}'")
    };
    let old = with("/proc/sys/kernel/osrelease", "5.10.0-28-amd64\n");
    is(&patient.only("error", &old), "kernel", "Linux 5.10", "boot Linux 5.15 or later");
    let interpreted = with_own("/proc/sys/net/core/bpf_jit_enable", "0");
    is(&patient.only("warning", &interpreted), "jit", "interprets", "net.core.bpf_jit_enable=1");
    let measured = with("/proc/sys/kernel/bpf_stats_enabled", "1\n");
    is(&patient.only("warning", &measured), "bpf_stats", "measures", "kernel.bpf_stats_enabled=0");
    // 4096 pins are not much, and more than nothing.
    let full = with("/proc/meminfo", "MemTotal: 2048 kB\nMemFree: 1024 kB\nMemAvailable: 1024 kB\n");
    is(&patient.only("error", &full), "memory", "1 MiB can be had", "flow_table.pins");
    let without = format!("unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf && {doctor}'");
    is(
        &patient.only("error", &without),
        "btf",
        "/sys/kernel/btf/vmlinux is not there",
        "CONFIG_DEBUG_INFO_BTF",
    );
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
