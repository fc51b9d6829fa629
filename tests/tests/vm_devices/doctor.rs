//! Traps of a NIC, and of a machine as a whole, which `sluice doctor` finds; each is mended by the very command that it prints.
//!
//! The machine's own NIC is QEMU's vmxnet3, with nobody at the other end.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use sluice_tests::servers::sluice_binary;
use sluice_tests::topology::Namespace;

use crate::site::{addresses, ethtool, ip, join};

const DRIVER: &str = "vmxnet3";
const VLAN: &str = "vlan7";
const NETWORK: u8 = 66;
const HOSTS: u8 = 9;
const PINS: u32 = 4096;
/// The most that a config may have: 2 GiB, where the machine has one.
const TOO_MANY_PINS: u32 = 16_777_216;
const JIT: &str = "net/core/bpf_jit_enable";
const STATS: &str = "kernel/bpf_stats_enabled";
/// The first network namespace alone has these.
const NEIGHBOURS: [&str; 2] = ["net/ipv4/neigh/default/gc_thresh3", "net/ipv6/neigh/default/gc_thresh3"];

/// One machine for all tests.
static MACHINE: Mutex<()> = Mutex::new(());

/// The virtual machine, with nothing wrong.
struct Patient {
    ns: Namespace,
    nic: String,
    folder: tempfile::TempDir,
    _machine: MutexGuard<'static, ()>,
}

/// What is to be found.
struct Trap {
    severity: &'static str,
    check: &'static str,
    subject: String,
    what: &'static str,
    mend: String,
}

impl Patient {
    fn new() -> Patient {
        // The machine is put right below, whatever a test has left.
        let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let (ns, nic, folder) = (Namespace::current().unwrap(), nic(), tempfile::tempdir().unwrap());
        let patient = Patient { ns, nic, folder, _machine: machine };
        for (name, value) in [(JIT, 1), (STATS, 0), (NEIGHBOURS[0], 1024), (NEIGHBOURS[1], 1024)] {
            set(name, value);
        }
        let Patient { ns, nic, .. } = &patient;
        ethtool(ns, &format!("-K {nic} lro off rxvlan on"));
        if Path::new("/sys/class/net").join(VLAN).exists() {
            ip(ns, &[&format!("link del {VLAN}")]);
        }
        ip(ns, &[&format!("addr flush dev {nic}"), &format!("link set {nic} down")]);
        join(ns, nic, NETWORK, 1);
        for host in addresses_of_hosts() {
            for address in host {
                // Nobody would answer.
                ip(ns, &[&format!("neigh replace {address} lladdr 02:00:00:00:00:09 dev {nic}")]);
            }
        }
        patient
    }

    /// The command, in words for a shell, with a table for so many pins.
    fn doctor(&self, pins: u32) -> String {
        let mut config =
            format!("interfaces = [\"{}\"]\nring_size = 1009\n[flow_table]\npins = {pins}\n", self.nic);
        for (number, [v4, v6]) in (1..).zip(addresses_of_hosts()) {
            writeln!(config, "[hosts.h{number}]\naddresses = [\"{v4}\", \"{v6}\"]").unwrap();
        }
        for (family, vip) in [("v4", "192.0.2.7"), ("v6", "2001:db8::7")] {
            let name = format!("name = \"web-{family}\"\nvip = \"{vip}\"");
            writeln!(config, "[[services]]\n{name}\nprotocol = \"tcp\"\nport = 80").unwrap();
        }
        let file = self.folder.path().join(format!("{pins}.toml"));
        std::fs::write(&file, config).unwrap();
        let binary = sluice_binary().unwrap();
        format!("{} doctor --instance none-runs --config {}", binary.display(), file.display())
    }

    fn output(&self, line: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        self.ns.output(shell).unwrap()
    }

    /// Errors and warnings, in the order of the alphabet.
    fn findings(&self, doctor: &str) -> Vec<String> {
        let output = self.output(&format!("{doctor} --json"));
        let found = findings(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let is_ill = found.iter().any(|found| found.starts_with("error"));
        assert_eq!(output.status.code(), Some(i32::from(is_ill)), "{found:#?}");
        found
    }

    fn offload(&self, what: &'static str, mend: &str) -> Trap {
        let subject = self.nic.clone();
        let mend = format!("ethtool -K {subject} {mend}");
        Trap { severity: "error", check: "offload", subject, what, mend }
    }

    /// Finds these and nothing else, and tells them as a table. Each mend goes as it is printed there; nothing is found then.
    fn finds_and_mends(&self, doctor: &str, traps: &[Trap]) {
        is_all(&self.findings(doctor), traps);
        let output = self.output(doctor);
        let table = String::from_utf8(output.stdout).unwrap();
        for Trap { severity, check, subject, what, mend } in traps {
            let told = |line: &&str| {
                let said = line.strip_prefix(&format!("{severity} [{check}] "));
                said.is_some_and(|said| said.starts_with(subject) && said.contains(what))
            };
            let printed = table.lines().skip_while(|line| !told(line)).nth(1);
            let printed = printed.and_then(|line| line.strip_prefix("  mend: "));
            assert_eq!(printed, Some(mend.as_str()), "{table}");
            self.ns.shell(printed.unwrap()).unwrap();
        }
        assert_eq!(self.findings(doctor), [""; 0]);
    }
}

/// The machine's NIC, by its driver.
fn nic() -> String {
    let all = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let is_it = |path: &Path| {
        let driver = std::fs::read_link(path.join("device/driver"));
        driver.is_ok_and(|driver| driver.ends_with(DRIVER))
    };
    let found = all.map(|entry| entry.path()).find(|path| is_it(path));
    let found = found.unwrap_or_else(|| panic!("no NIC here has the driver {DRIVER}"));
    found.file_name().unwrap().to_str().unwrap().to_owned()
}

fn addresses_of_hosts() -> impl Iterator<Item = [std::net::IpAddr; 2]> {
    (0..HOSTS).map(|number| addresses(NETWORK, 11 + number))
}

fn set(name: &str, value: u32) {
    std::fs::write(Path::new("/proc/sys").join(name), value.to_string()).unwrap();
}

/// Errors and warnings of a report in JSON, as `severity check subject: what | mend`.
fn findings(report: &[u8]) -> serde_json::Result<Vec<String>> {
    let report: Value = serde_json::from_slice(report)?;
    let of = |finding: &Value| {
        let [severity, check, subject, what, mend] = ["severity", "check", "subject", "what", "mend"]
            .map(|field| finding[field].as_str().unwrap().to_owned());
        format!("{severity} {check} {subject}: {what} | {mend}")
    };
    let all: Vec<String> = report["findings"].as_array().unwrap().iter().map(of).collect();
    let mut found: Vec<String> = all.into_iter().filter(|found| !found.starts_with("note ")).collect();
    found.sort();
    Ok(found)
}

/// Every finding is one of these, in this order.
fn is_all(found: &[String], traps: &[Trap]) {
    assert_eq!(found.len(), traps.len(), "{found:#?}");
    for (found, Trap { severity, check, subject, what, mend }) in found.iter().zip(traps) {
        let (said, printed) = found.split_once(" | ").unwrap();
        assert!(said.starts_with(&format!("{severity} {check} {subject}: ")), "{check}: {found}");
        assert!(said.contains(what), "{what}: {found}");
        assert_eq!(printed, mend, "{found}");
    }
}

#[test]
#[ignore = "needs a NIC of its own: cargo xtask vm"]
fn a_nic_that_joins_packets() {
    let patient = Patient::new();
    ethtool(&patient.ns, &format!("-K {} lro on", patient.nic));
    let trap = patient.offload("it joins packets on reception (LRO)", "lro off");
    patient.finds_and_mends(&patient.doctor(PINS), &[trap]);
}

/// Beneath a VLAN device the kernel takes LRO off by itself.
#[test]
#[ignore = "needs a NIC of its own, and VLAN devices: cargo xtask vm"]
fn a_nic_that_takes_tags_off() {
    let patient = Patient::new();
    let Patient { ns, nic, .. } = &patient;
    ip(ns, &[&format!("link add link {nic} name {VLAN} type vlan id 7"), &format!("link set {VLAN} up")]);
    let trap = patient.offload("so frames for vlan7 look untagged", "rxvlan off");
    patient.finds_and_mends(&patient.doctor(PINS), &[trap]);
}

/// Turns the JIT off. Ubuntu's kernels have no interpreter, and refuse.
fn interpret() -> bool {
    match std::fs::write(Path::new("/proc/sys").join(JIT), "0") {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        Err(error) => panic!("{JIT}: {error}"),
    }
}

#[test]
#[ignore = "needs the first network namespace to itself: cargo xtask vm"]
fn traps_of_settings() {
    let patient = Patient::new();
    let doctor = patient.doctor(PINS);
    for (name, value) in [(STATS, 1), (NEIGHBOURS[0], 16), (NEIGHBOURS[1], 16)] {
        set(name, value);
    }
    let has_interpreter = interpret();
    let trap = |check, what, mend: &str| Trap {
        severity: "warning",
        check,
        subject: String::new(),
        what,
        mend: format!("sysctl {mend}"),
    };
    let mut traps = vec![
        trap("bpf_stats", "measures the run time", "kernel.bpf_stats_enabled=0"),
        trap("jit", "interprets BPF programs", "net.core.bpf_jit_enable=1"),
        trap("neighbour_table", "16 ipv4 neighbours", "net.ipv4.neigh.default.gc_thresh3=64"),
        trap("neighbour_table", "16 ipv6 neighbours", "net.ipv6.neigh.default.gc_thresh3=64"),
    ];
    traps.retain(|trap| trap.check != "jit" || has_interpreter);
    patient.finds_and_mends(&doctor, &traps);
}

#[test]
#[ignore = "needs a machine with little memory: cargo xtask vm"]
fn a_table_for_more_pins_than_there_is_memory_for() {
    let patient = Patient::new();
    let trap = Trap {
        severity: "error",
        check: "memory",
        subject: String::new(),
        what: "the maps need 2",
        mend: "lower flow_table.pins in the config, or give the machine more".to_owned(),
    };
    is_all(&patient.findings(&patient.doctor(TOO_MANY_PINS)), &[trap]);
    assert_eq!(patient.findings(&patient.doctor(PINS)), [""; 0]);
}

/// For the doctor alone the kernel's files are not mounted, until they are mounted as it says.
#[test]
#[ignore = "needs a /sys that is empty before it is mounted: cargo xtask vm"]
fn a_machine_without_sysfs() {
    let patient = Patient::new();
    let doctor = patient.doctor(PINS);
    let mend = "mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf";
    let after = patient.folder.path().join("after");
    let after = after.display();
    let both = format!("{doctor} --json; {mend} && {doctor} --json >{after}");
    let output = patient.output(&format!("unshare -m sh -c 'umount -l /sys && {both}'"));
    assert!(output.status.success(), "{output:?}");
    let found = findings(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let trap = |check, what, mend: &str| Trap {
        severity: "error",
        check,
        subject: String::new(),
        what,
        mend: mend.to_owned(),
    };
    let btf = "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as those of distributions have";
    is_all(
        &found,
        &[
            trap("bpffs", "there is no /sys/fs/bpf", mend),
            trap("btf", "/sys/kernel/btf/vmlinux is not there", btf),
        ],
    );
    let left = std::fs::read(patient.folder.path().join("after")).unwrap();
    assert_eq!(findings(&left).unwrap(), [""; 0]);
}
