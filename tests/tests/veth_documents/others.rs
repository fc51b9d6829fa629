//! What the documents type that is neither `sluice` nor asks its API.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use sluice_tests::topology::{Node, Topology};

use crate::asks_the_api;
use crate::lines::{documents, of_sluice, typed, words};

/// Programs whose lines stand in the text, too, between backquotes.
const PROGRAMS: [&str; 17] = [
    "ip",
    "sysctl",
    "ethtool",
    "curl",
    "openssl",
    "sqlite3",
    "promtool",
    "getent",
    "ulimit",
    "systemctl",
    "systemd-analyze",
    "chown",
    "perf",
    "tcpdump",
    "ssh",
    "cargo",
    "arping",
];

/// Lines that cannot run here, by how they begin, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("cargo xtask", "the runs that this test is one of, and others of many minutes"),
    ("systemd-sysusers", "there is no systemd in a namespace: `vm_service` boots one with these very files"),
    ("systemctl", "there is no systemd in a namespace: `vm_service` starts, stops and reloads the unit"),
    ("systemd-analyze", "there is no systemd in a namespace: `vm_service` has the unit's figure"),
    ("chown -R sluice:", "there is no user of that name: `vm_service` makes it"),
    ("install -o sluice -g sluice", "there is no user of that name, and no certificate"),
    ("tail -n 1 /var/lib/sluice", "there is no token of the service's page: `vm_package` types it"),
    ("sysctl kernel.bpf_stats_enabled=1", "a setting of the whole machine, and dear for every program on it"),
    (
        "apt install ./sluice",
        "there is no package in a namespace: `vm_package` installs it, and another version over it",
    ),
    ("apt remove sluice", "there is no package in a namespace: `vm_package` removes it"),
    ("apt purge sluice", "there is no package in a namespace: `vm_package` purges it"),
    ("tar -C /usr/local", "/usr/local is this machine's: `vm_package` unpacks the tarball on another"),
    ("tar -C /tmp", "it comes with the tarball: `vm_package` types it"),
    ("cp -a /usr/local/bin/sluice", "it comes with the tarball: `vm_package` types it"),
    ("mv /usr/local/bin/sluice", "it comes with the tarball: `vm_package` types it"),
    ("install -D -m 644 /usr/local", "it comes with the tarball: `vm_package` types it"),
    (
        "curl http://203.0.113.10/",
        "an address of the example: `vm_package` asks the VIP by flows that it counts",
    ),
    (
        "journalctl -u sluice",
        "there is no systemd in a namespace: `vm_package` looks there for the same words",
    ),
    ("sqlite3 FILE .recover", "the shell of Debian 12 is built without it, as is said there"),
    ("perf trace", "it watches the whole machine, and goes on until somebody ends it"),
    ("tcpdump -i any", "what made a capture, and no line to be typed"),
    (
        "ssh postgres@",
        "hosts of the example: `veth_postgres` has a database there, and a wrapper in the place of ssh",
    ),
    ("ip fou", "the name of a part of the kernel"),
    ("ssh -L", "from another machine, which the network of a test has no ssh server for"),
    ("...", "a place for what is to be done by hand"),
];

/// As one would type it in the folder of the line before.
struct Shell<'a> {
    host: &'a Node,
    /// In the place of `/`, for what is installed.
    root: &'a Path,
    folder: String,
}

impl Shell<'_> {
    fn new<'a>(host: &'a Node, root: &'a Path) -> Shell<'a> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Shell { host, root, folder: repository.display().to_string() }
    }

    fn run(&mut self, line: &str) {
        if let Some(folder) = line.strip_prefix("cd ") {
            self.folder = format!("{}/{folder}", self.folder);
            assert!(Path::new(&self.folder).is_dir(), "{}", self.folder);
            return;
        }
        let root = self.root.display();
        let here = line
            .replace("eth1", "eth0")
            .replace(" /etc/", &format!(" {root}/etc/"))
            .replace("via ...", "via 10.255.0.1")
            .replace("alerts_test.yml", "lb-userspace/monitoring/alerts_test.yml");
        let mut command = Command::new("bash");
        command.args(["-c", &here]).current_dir(&self.folder);
        let output = self.host.ns.output(command).unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }
}

/// The lines between backquotes that begin with one of the programs.
fn quoted(text: &str) -> Vec<String> {
    let mut is_block = false;
    let prose = text.lines().filter(|line| {
        let is_fence = line.trim().starts_with("```");
        is_block ^= is_fence;
        !is_fence && !is_block
    });
    let prose = prose.collect::<Vec<_>>().join("\n");
    let lines = prose.split('`').skip(1).step_by(2).map(|quoted| quoted.replace('\n', " "));
    let begins = |line: &String| line.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program));
    lines.filter(begins).collect()
}

#[test]
fn what_else_the_documents_say_can_be_typed() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let root = tempfile::tempdir().unwrap();
    for folder in ["systemd/system", "sysusers.d", "tmpfiles.d", "sluice"] {
        std::fs::create_dir_all(root.path().join("etc").join(folder)).unwrap();
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/example.toml");
    std::fs::copy(example, root.path().join("etc/sluice/example.toml")).unwrap();
    let host = topology.host(1);
    // A default route to be changed.
    Shell::new(host, root.path())
        .run("ip address add 10.255.0.2/30 dev eth0 && ip route replace default via 10.255.0.1");
    let (mut run, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut shell = Shell::new(host, root.path());
        let typed = typed(&text).into_iter().filter(|line| of_sluice(line).is_none());
        for line in typed.chain(quoted(&text)) {
            let words = words(&line);
            if words.is_empty() || asks_the_api(&words) {
                continue;
            }
            if let Some((begins, _)) = NOT_HERE.iter().find(|(begins, _)| line.starts_with(begins)) {
                reasons.insert(*begins);
            } else if line.starts_with("cd ") || run.insert(line.clone()) {
                shell.run(&line);
            }
        }
    }
    assert!(run.len() >= 14, "{run:?}");
    let useless: Vec<_> = NOT_HERE.iter().filter(|(begins, _)| !reasons.contains(begins)).collect();
    assert!(useless.is_empty(), "no line begins so: {useless:?}");
}
