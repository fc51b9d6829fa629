//! `sluice upgrade --check`, and what is refused: the data path that runs goes on in each case.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lb_common::layout::{BackendStats, Cold, Overflow};
use sluice_tests::servers::next_sluice_binary;
use sluice_tests::site::{ECHO, Plan, Site, config};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions};

use super::plan;

pub fn connections(site: &Site, count: usize) -> Connections {
    let target = std::net::SocketAddr::new(site.vips()[0], ECHO);
    let options = ConnectionsOptions {
        connections: count,
        interval: Duration::from_millis(200),
        ..ConnectionsOptions::new(target)
    };
    let connections = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(connections.wait_opened(count as u64, sluice_tests::LIMIT), "{:?}", connections.counts());
    connections
}

pub fn pins_of(site: &Site) -> PathBuf {
    PathBuf::from("/sys/fs/bpf/sluice").join(site.daemon.instance())
}

fn listing(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(pins_of(site)).unwrap().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_check_says_what_the_next_daemon_would_do_and_changes_nothing() {
    let mut site = Site::start(Topology::builder(), &plan(65_536)).unwrap();
    let (old, new) = (site.daemon.binary().to_owned(), next_sluice_binary().unwrap());
    let load = connections(&site, 1200);
    let file = site.daemon.config_path().display().to_string();
    let before = listing(&site);
    let check = |site: &Site, file: &str| {
        site.daemon.cli(&["upgrade", "--check", "--json", "--config", file]).unwrap()
    };
    let read = |output: &std::process::Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };

    let same = check(&site, &file);
    assert!(same.status.success(), "{same:?}");
    assert_eq!((&read(&same)["ready"], &read(&same)["differences"]), (&true.into(), &serde_json::json!([])));

    // Without a file it goes by the config in force.
    let in_force = site.daemon.cli(&["upgrade", "--check", "--json"]).unwrap();
    assert!(in_force.status.success(), "{in_force:?}");
    assert_eq!(read(&in_force)["differences"], serde_json::json!([]));

    site.daemon.use_binary(&new);
    let other = check(&site, &file);
    assert!(other.status.success(), "{other:?}");
    let found = read(&other);
    assert_eq!(found["own_layout"].as_u64().unwrap(), found["layout"].as_u64().unwrap() + 1);
    assert!(found["copied_pins"].as_u64().unwrap() >= 1200, "{found}");
    assert_eq!((&found["maps"]["COLD"], &found["maps"]["DIRECTORY"]), (&"migrated".into(), &"kept".into()));
    let lines = found["differences"].as_array().unwrap();
    for what in ["layout version is", "COLD: value size is", "BACKEND_STATS: value size is", "it has no more"]
    {
        assert!(lines.iter().any(|line| line.as_str().unwrap().contains(what)), "{what}: {found}");
    }
    let text = site.daemon.cli_ok(&["upgrade", "--check", "--config", &file]).unwrap();
    assert!(text.ends_with("ready: restart the daemon with this program\n"), "{text}");

    // A table that is too small, told beforehand and refused afterwards.
    let small = site.daemon.config_path().with_file_name("small.toml");
    fs::write(&small, config(&site.topology, &plan(1024))).unwrap();
    let refused = check(&site, &small.display().to_string());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said.contains("flows are live, and a flow table of this size is for 1024"), "{said}");
    assert_eq!(listing(&site), before);

    site.daemon.use_binary(&old);
    site.daemon.terminate().unwrap();
    let right = fs::read_to_string(site.daemon.config_path()).unwrap();
    site.daemon.write_config(&fs::read_to_string(&small).unwrap()).unwrap();
    let error = format!("{:?}", site.daemon.start_again().unwrap_err());
    assert!(error.contains("set flow_table.pins to at least"), "{error}");
    site.daemon.write_config(&right).unwrap();
    site.daemon.start_again().unwrap();
    assert_eq!(listing(&site), before);
    let counts = load.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
}

/// Without a description, and with a number that nobody knows: all that differs is told, and nothing is touched.
#[test]
fn what_is_not_known_is_refused_with_every_difference() {
    let mut site = Site::start(Topology::builder(), &plan(65_536)).unwrap();
    let new = next_sluice_binary().unwrap();
    let load = connections(&site, 100);
    site.daemon.terminate().unwrap();
    site.daemon.use_binary(&new);
    site.daemon.start_again().unwrap();
    site.daemon.terminate().unwrap();
    fs::remove_file(pins_of(&site).join("maps/SHAPES")).unwrap();
    let old = sluice_tests::servers::sluice_binary().unwrap();
    site.daemon.use_binary(&old);
    let error = format!("{:?}", site.daemon.start_again().unwrap_err());
    // The other layout has a word more in each.
    let sizes = [
        ("COLD", size_of::<Cold>()),
        ("OVERFLOW", size_of::<Overflow>()),
        ("BACKEND_STATS", size_of::<BackendStats>()),
        ("USER_STATS", size_of::<BackendStats>()),
    ];
    let sizes =
        sizes.map(|(map, size)| format!("{map}: value size is {}, this version needs {size}", size + 8));
    let others = [
        "layout version is",
        "how its pins are laid out is not known to this version",
        "they are left alone",
    ];
    for what in sizes.iter().map(String::as_str).chain(others) {
        assert!(error.contains(what), "{what}: {error}");
    }
    site.daemon.use_binary(&new);
    site.daemon.start_again().unwrap();
    let counts = load.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
}

/// Whatever journals and sockets there are, an instance has one daemon.
#[test]
fn a_second_daemon_is_refused_and_a_live_socket_is_left_alone() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 1)).unwrap();
    let ns = site.topology.balancer().ns.clone();
    let file = site.daemon.config_path();
    let instance = site.daemon.instance().to_owned();
    let run = |site: &Site, instance: &str, socket: &str| {
        let mut command = Command::new(site.daemon.binary());
        command.arg("run").arg("--config").arg(&file).args(["--instance", instance, "--socket", socket]);
        let output = ns.output(command).unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let pid = site.daemon.process().unwrap().pid().to_string();
    let said = run(&site, &instance, "/run/sluice/another.sock");
    assert!(said.contains(&pid), "{said}");
    // Another instance, on this one's socket.
    let other = format!("{instance}-x");
    let socket = site.daemon.socket().display().to_string();
    let said = run(&site, &other, &socket);
    assert!(said.contains("another daemon answers on it"), "{said}");
    site.daemon.cli_ok(&["status"]).unwrap();
    for file in ["db", "db-wal", "db-shm", "lock"] {
        let _ = fs::remove_file(format!("/var/lib/sluice/{other}.{file}"));
    }

    // Whoever has another journal finds the instance itself locked.
    site.daemon.sigkill();
    assert!(site.daemon.socket().exists(), "a stale one");
    let folder = fs::File::open(pins_of(&site)).unwrap();
    folder.lock().unwrap();
    let said = run(&site, &instance, &socket);
    let me = std::process::id();
    assert!(said.contains("is in use") && said.contains(&format!("process {me} holds the lock")), "{said}");
    drop(folder);
    site.daemon.start_again().unwrap();
    site.daemon.cli_ok(&["status"]).unwrap();
}
