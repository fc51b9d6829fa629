//! The unit `sluice.service` as it is shipped, under a real systemd: `cargo xtask vm` boots one as the first process of the virtual
//! machine. Everywhere else the tests are ignored, which `cargo test` says.

mod clock;
mod commands;
mod stopped;
mod unit;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_tests::LIMIT;
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, EchoServer};

use unit::{Unit, systemctl};

const ECHO: u16 = 7;
/// That one of two hosts has none of them does not happen.
const CONNECTIONS: u64 = 16;
/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF by their numbers in linux/capability.h.
const CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// Hosts with echo servers, and connections through the balancer.
struct Site {
    unit: Unit,
    _servers: Vec<EchoServer>,
    topology: Topology,
}

impl Site {
    fn start() -> Site {
        Self::start_with("")
    }

    /// With more lines of the service.
    fn start_with(more: &str) -> Site {
        let topology = Topology::builder().hosts(2).build().unwrap();
        let vip = topology.vip4();
        let config = format!(
            "interfaces = [\"eth0\"]\nring_size = 1009\n[flow_table]\npins = 4096\n\
             [hosts.h1]\naddresses = [\"{}\"]\n[hosts.h2]\naddresses = [\"{}\"]\n\
             [[services]]\nname = \"echo\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = {ECHO}\n{more}",
            topology.host(1).ipv4[0],
            topology.host(2).ipv4[0],
        );
        let servers = topology.hosts().iter().map(|host| {
            // Checks ask a host at its own address.
            let at = [vip, host.ipv4[0]].map(|address| SocketAddr::new(IpAddr::V4(address), ECHO));
            EchoServer::start(&host.ns, &host.name, &at, 1).unwrap()
        });
        let servers = servers.collect();
        let unit = Unit::start(&topology.balancer().ns, &config);
        Site { unit, _servers: servers, topology }
    }

    fn connect(&self) -> Connections {
        let vip = IpAddr::V4(self.topology.vip4());
        let options = ConnectionsOptions {
            connections: CONNECTIONS as usize,
            interval: Duration::from_millis(200),
            patience: LIMIT / 2,
            ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
        };
        let tcp = Connections::start(&self.topology.client().ns, &options).unwrap();
        tcp.wait_opened(CONNECTIONS, LIMIT);
        assert_eq!(tcp.counts().opened, CONNECTIONS, "{:?}\n{}", tcp.counts(), self.unit.log());
        tcp
    }
}

/// So many more messages come back.
fn goes_on(tcp: &Connections, messages: u64) {
    let goal = tcp.counts().echoed + messages;
    assert!(tcp.wait_for(LIMIT, |counts| counts.echoed >= goal), "{:?}", tcp.counts());
}

fn finish(tcp: Connections) {
    finish_but(tcp, 0);
}

/// So many of them were reset.
fn finish_but(tcp: Connections, reset: u64) {
    let counts = tcp.finish().unwrap();
    assert_eq!((counts.finished, counts.broken), (CONNECTIONS - reset, reset), "{counts:?}");
    assert!(reset > 0 || counts.missing == 0, "{counts:?}");
}

#[test]
#[ignore = "needs systemd as the first process: cargo xtask vm"]
fn the_daemon_runs_as_a_user_with_what_it_needs_and_its_end_stops_no_packet() {
    let site = Site::start();
    let unit = &site.unit;
    assert_eq!(unit.property("ActiveState"), "active");
    let status = unit.property("StatusText");
    assert!(status.contains("hosts in use"), "{status}");

    let (uid, pid) = (unit::uid_of("sluice"), unit.pid());
    assert_ne!(uid, 0);
    let said = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("Uid:"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&line(set), 16).unwrap(), CAPABILITIES, "{set} {said}");
    }
    assert_eq!((line("NoNewPrivs:"), line("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    // Nothing was lacking, not even for what the daemon can do without.
    let log = unit.log();
    assert!(!log.contains("ermitted") && !log.contains("CAP_") && !log.contains("WARN"), "{log}");

    let (text, exposure) = unit::exposure();
    assert!(exposure <= 2.5, "{text}");

    let tcp = site.connect();
    goes_on(&tcp, 20);
    systemctl(&["stop", "sluice"]);
    assert_eq!(unit.property("ActiveState"), "inactive");
    goes_on(&tcp, 40);
    let more = site.connect();
    systemctl(&["start", "sluice"]);
    assert!(unit.log().contains("took over the data path"), "{}", unit.log());
    let live = unit.status()["flow_table"]["live"].as_u64().unwrap();
    assert!(live >= 2 * CONNECTIONS, "{live}\n{}", unit.log());
    goes_on(&more, 20);
    // As root, by what the documents say, and back.
    let said = include_str!("../../../docs/operations.md");
    let said =
        said.lines().skip_while(|line| !line.starts_with("- To run it as root:")).take(2).collect::<String>();
    let settings: Vec<&str> =
        said.split('`').filter(|text| text.starts_with('[') || text.contains('=')).collect();
    assert_eq!((settings.len(), settings[0]), (4, "[Service]"), "{said}");
    let root = unit::DropIn::new("root", &(settings.join("\n") + "\n"));
    systemctl(&["restart", "sluice"]);
    assert!(std::fs::read_to_string(format!("/proc/{}/status", unit.pid())).unwrap().contains("Uid:\t0\t"));
    goes_on(&more, 20);
    drop(root);
    systemctl(&["stop", "sluice"]);
    let chown = ["-R", "sluice:", "/sys/fs/bpf/sluice", "/var/lib/sluice", "/run/sluice"];
    assert!(std::process::Command::new("chown").args(chown).status().unwrap().success());
    systemctl(&["start", "sluice"]);
    assert!(
        std::fs::read_to_string(format!("/proc/{}/status", unit.pid()))
            .unwrap()
            .contains(&format!("Uid:\t{uid}\t"))
    );
    finish(tcp);
    finish(more);
}

#[test]
#[ignore = "needs systemd as the first process: cargo xtask vm"]
fn a_reload_looks_at_the_config_first() {
    let site = Site::start();
    let unit = &site.unit;
    let (pid, good) = (unit.pid(), unit.config());
    unit.write_config("interfaces = 7");
    let refused = unit::try_systemctl(&["reload", "sluice"]);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(!unit.log().contains("SIGHUP"), "{}", unit.log());
    assert!(
        unit.log().contains("expected an array of strings"),
        "what is wrong is in the log: {}",
        unit.log()
    );
    assert_eq!((unit.property("ActiveState"), unit.pid()), ("active".to_owned(), pid));
    unit.write_config(&good);
    systemctl(&["reload", "sluice"]);
    unit.wait_for("SubState", "running");
    unit.wait_for_log("SIGHUP");
    assert_eq!(unit.pid(), pid);
    let tcp = site.connect();
    finish(tcp);
}

/// All else in the daemon is well: only the engine's thread does not get on.
#[test]
#[ignore = "needs systemd as the first process: cargo xtask vm"]
fn a_daemon_whose_engine_hangs_is_started_anew() {
    let site = Site::start();
    let unit = &site.unit;
    let tcp = site.connect();
    let pid = unit.pid();
    std::thread::sleep(unit::WATCHDOG + Duration::from_secs(5));
    assert_eq!(unit.pid(), pid, "an engine that is well is left alone: {}", unit.log());
    let ended = stopped::until_its_end(pid, "engine");
    assert!(ended < LIMIT, "{ended:?}");
    unit.wait_for("SubState", "running");
    assert_ne!(unit.pid(), pid);
    assert_eq!(unit.property("NRestarts"), "1");
    goes_on(&tcp, 20);
    finish(tcp);
}
