//! A disk that is full or broken, a journal that is damaged: packets go on, nothing that was acknowledged is lost, and the daemon says
//! what is wrong and what to do.

mod disk;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use disk::Disk;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::site::{self, ECHO, Plan};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, EchoServer};

/// Echo servers on three hosts, and the daemon with its journal on a disk of its own.
struct Small {
    daemon: SluiceDaemon,
    disk: Option<Disk>,
    _servers: Vec<EchoServer>,
    topology: Topology,
}

impl Small {
    fn start(disk: impl FnOnce(&Topology) -> Option<Disk>) -> Self {
        let topology = Topology::builder().hosts(3).build().unwrap();
        let at: Vec<SocketAddr> = topology.vips().iter().map(|&vip| SocketAddr::new(vip, ECHO)).collect();
        let servers = topology.hosts().iter();
        let servers = servers.map(|host| EchoServer::start(&host.ns, &host.name, &at, 1).unwrap()).collect();
        let disk = disk(&topology);
        let daemon = SluiceDaemon::start(&topology, &site::config(&topology, &Plan::new("l2", 3))).unwrap();
        Small { daemon, disk, _servers: servers, topology }
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    fn journal(&self) -> PathBuf {
        PathBuf::from("/var/lib/sluice").join(format!("{}.db", self.daemon.instance()))
    }

    fn load(&self) -> Connections {
        let options = ConnectionsOptions {
            connections: 100,
            interval: Duration::from_millis(200),
            ..ConnectionsOptions::new(SocketAddr::new(self.topology.vip4().into(), ECHO))
        };
        let load = Connections::start(&self.topology.client().ns, &options).unwrap();
        assert!(load.wait_opened(100, LIMIT), "{:?}", load.counts());
        load
    }

    fn status(&self) -> Value {
        self.daemon.cli_json(&["status", "--json"]).unwrap()
    }

    fn problems(&self) -> String {
        self.status()["problems"].to_string()
    }

    fn admin(&self) -> Vec<String> {
        let status = self.status();
        let hosts = status["hosts"].as_array().unwrap().iter();
        hosts.map(|host| host["admin"].as_str().unwrap().to_owned()).collect()
    }
}

/// By their number, while the daemon runs.
#[test]
fn old_revisions_are_deleted_and_nothing_that_is_open() {
    let mut site = Small::start(|_| None);
    site.daemon.cli_ok(&["drain", "h2", "--reason", "before all others"]).unwrap();
    for _ in 0..70 {
        site.daemon.cli_ok(&["drain", "h1"]).unwrap();
        site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    }
    let history = |site: &Small| site.daemon.cli_json(&["history", "--json", "-n", "1000"]).unwrap();
    let count = |history: &Value| history["revisions"].as_array().unwrap().len();
    let before = history(&site);
    assert!(before["pruned"] == 0 && count(&before) >= 140, "{before}");
    site.daemon.terminate().unwrap();
    let text = std::fs::read_to_string(site.daemon.config_path()).unwrap();
    site.daemon.write_config(&format!("{text}\n[journal]\nkeep_revisions = 100\n")).unwrap();
    site.daemon.start_again().unwrap();
    wait_for("old revisions are deleted", || history(&site)["pruned"] != 0);
    let after = history(&site);
    assert!((98..=102).contains(&count(&after)), "{} are left", count(&after));
    assert!(site.daemon.log().contains("old revisions are deleted"), "{}", site.daemon.log());
    assert_eq!(site.admin()[0], "active");
    assert_ne!(site.admin()[1], "active", "its drain is older than all that is left");
    let drains = site.daemon.cli_json(&["drains", "--json"]).unwrap();
    let drains = drains["drains"].as_array().unwrap();
    assert!(drains.iter().any(|drain| drain["host"] == "h2" && drain["reason"] == "before all others"));
    site.daemon.cli_ok(&["undrain", "h2"]).unwrap();
    assert_eq!(site.admin()[1], "active");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn assert_whole(load: &Connections) {
    let counts = load.counts();
    assert_eq!((counts.broken, counts.missing, counts.open), (0, 0, 100), "{counts:?}");
}

#[test]
fn on_a_full_disk_changes_are_refused_and_packets_go_on() {
    let mut small = Small::start(|topology| Some(Disk::small(topology, 2048)));
    let load = small.load();
    small.daemon.cli_ok(&["drain", "h1", "--reason", "acknowledged"]).unwrap();
    small.disk().fill();
    wait_for("what comes is told", || small.problems().contains("full"));
    // Whatever is left in the write-ahead log is used up first.
    let mut refused = None;
    for _ in 0..2000 {
        let output = small.daemon.cli(&["drain", "h2", "--deadline", "1h"]).unwrap();
        if !output.status.success() {
            refused = Some(output);
            break;
        }
        small.daemon.cli_ok(&["undrain", "h2"]).unwrap_or_default();
    }
    let refused = refused.expect("at some time it is full");
    assert_eq!(refused.status.code(), Some(1));
    for part in ["its file system is full", "make room there"] {
        assert!(stderr(&refused).contains(part), "{}", stderr(&refused));
    }
    // There may have been room for the drain, and then none for its rings.
    let is_noted = stderr(&refused).contains("of h2 is noted, and not in force yet");
    assert!(is_noted || stderr(&refused).contains("nothing was changed"), "{}", stderr(&refused));
    let problems = small.problems();
    assert!(problems.contains("cannot be written") && problems.contains("changes are refused"), "{problems}");
    let before = small.admin();
    assert_eq!(before[0], "draining");
    let config = site::config(&small.topology, &Plan::new("l2", 3)).replacen("weight = 100", "weight = 7", 1);
    let other = small.daemon.config_path().with_file_name("other.toml");
    std::fs::write(&other, config).unwrap();
    let applied = small.daemon.cli(&["apply", other.to_str().unwrap()]).unwrap();
    assert!(stderr(&applied).contains("its file system is full"), "{}", stderr(&applied));
    assert_eq!(small.status()["hosts"][0]["weight"], 100);
    assert_whole(&load);
    // What needs no history is published all the same: the next hop has another MAC address, and says so.
    let host = &small.topology.host(3).ns;
    host.shell("sysctl -qw net.ipv4.conf.eth0.arp_notify=1").unwrap();
    let changes = Cell::new(0);
    wait_for("the new MAC is published", || {
        // Another one again, as the kernel goes by no announcement within a second of what it has learnt last.
        changes.set(changes.get() + 1);
        host.shell(&format!("ip link set eth0 address 02:00:00:77:00:{:02x}", changes.get())).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let log = small.daemon.log();
        log.contains("published without a note of it") || log.contains("next hops alone are published")
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_whole(&load);

    // The daemon dies: what was acknowledged is there once there is room again, and packets do not care.
    small.daemon.sigkill();
    let started = small.daemon.start_again();
    if let Err(error) = started {
        let text = format!("{error:#}");
        assert!(text.contains("full") || text.contains("No space"), "{text}");
    }
    small.daemon.sigkill();
    assert_whole(&load);
    small.disk().make_room();
    small.daemon.start_again().unwrap();
    assert_eq!(small.admin(), before);

    // Room is made while the daemon runs: nothing is to be restarted.
    small.disk().fill();
    while small.daemon.cli(&["drain", "h2", "--deadline", "1h"]).unwrap().status.success() {
        small.daemon.cli_ok(&["undrain", "h2"]).unwrap_or_default();
    }
    small.disk().make_room();
    wait_for("it can be written again", || !small.problems().contains("journal"));
    small.daemon.cli_ok(&["drain", "h2"]).unwrap();
    assert_eq!(small.admin()[1], "draining");
    assert_whole(&load);
    load.finish().unwrap();
}

#[test]
fn on_a_disk_that_has_become_read_only_too() {
    let small = Small::start(|topology| Some(Disk::that_may_break(topology)));
    let load = small.load();
    small.daemon.cli_ok(&["drain", "h1"]).unwrap();
    small.disk().break_down();
    wait_for("it is told before anybody asks", || small.problems().contains("read-only"));
    let refused = small.daemon.cli(&["drain", "h2"]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("read-only") && stderr(&refused).contains("hint"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(small.admin(), ["draining", "active", "active"]);
    // What was acknowledged can be read.
    let history = small.daemon.cli_json(&["history", "--host", "h1", "--json"]).unwrap();
    assert_eq!(history["revisions"][0]["kind"], "drain", "{history}");
    assert_whole(&load);
    load.finish().unwrap();
}

#[test]
fn a_damaged_journal_is_refused_with_the_mend_while_packets_flow() {
    let mut small = Small::start(|_| None);
    let load = small.load();
    small.daemon.cli_ok(&["drain", "h1"]).unwrap();
    small.daemon.terminate().unwrap();
    let whole = std::fs::read(small.journal()).unwrap();
    let mut torn = whole.clone();
    torn[4096..8 * 4096].fill(0xa5);
    std::fs::write(small.journal(), torn).unwrap();
    let text = format!("{:#}", small.daemon.start_again().err().unwrap());
    for part in [
        "is damaged",
        "restore it from a copy",
        ".recover",
        "move it away",
        "packets are forwarded meanwhile",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_whole(&load);
    std::fs::write(small.journal(), whole).unwrap();
    small.daemon.start_again().unwrap();
    assert_eq!(small.admin()[0], "draining");
    assert_whole(&load);
    load.finish().unwrap();
}
