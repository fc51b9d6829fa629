//! `sluice doctor` finds each trap that can be laid over veth pairs, names its mend, and finds nothing where there is none.
//!
//! What takes a NIC (LRO, VLAN tags that it takes off) or a machine to itself (settings of the whole kernel, little memory) is laid in the
//! virtual machine, by `vm_devices`. Made up, in `doctor/tests.rs`, are the facts of what can be laid nowhere here: a big-endian machine,
//! and a NIC whose driver lost frames of XDP or takes none from other interfaces in native mode.

mod machine;
mod vips;
mod ways;

use std::process::{Command, Output};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::servers::{Nginx, SluiceDaemon, sluice_binary};
use sluice_tests::topology::{Namespace, Topology, XdpProgram};

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

/// It is among those that were found.
fn has(found: &[String], check: &str, what: &str, mend: &str) {
    let it = found.iter().find(|found| found.starts_with(check) && found.contains(what));
    is(it.unwrap_or_else(|| panic!("{check}, {what}: {found:#?}")), check, what, mend);
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
    let link = patient.ns().enter(|| program.attach_generic("eth0").unwrap()).unwrap();
    let found = patient.findings("error", &doctor);
    is(&found[0], "other_program eth0", "in generic mode", "ip link set dev eth0 xdpgeneric off");
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

    // Who may not write to its socket; the program and the config can be read wherever they are.
    let other = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search";
    let found = patient.findings("warning", &format!("{other} {doctor}"));
    has(&found, "daemon ", "the daemon was not asked: ", "as root");

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
