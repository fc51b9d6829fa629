//! Bad input changes nothing (C8), and says what is wrong.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use sluice_tests::servers::{SluiceDaemon, sluice_binary};
use sluice_tests::site::{Plan, Site, config};
use sluice_tests::topology::Topology;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_daemon_is_refused() {
    let plan = Plan::new("l2", 2);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let balancer = &site.topology.balancer().ns;
    // Another instance on the same interface.
    let other = format!("{}-b", site.topology.prefix());
    let error = SluiceDaemon::start_as(balancer, &other, &config(&site.topology, &plan)).err().unwrap();
    let text = format!("{error:#}");
    assert!(text.contains("interface eth0 has an XDP program"), "{text}");
    assert!(text.contains("sluice detach --instance"), "{text}");
    // The same instance again.
    let path = site.daemon.config_path();
    let mut command = Command::new(sluice_binary().unwrap());
    command.args(["run", "--instance", site.daemon.instance(), "--config"]).arg(&path);
    let output = balancer.output(command).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&site.daemon.process().unwrap().pid().to_string()),
        "{}",
        stderr(&output)
    );
    // What ran before runs on.
    assert_eq!(site.daemon.cli_json(&["status", "--json"]).unwrap()["hosts"].as_array().unwrap().len(), 2);
    // A wrong config at a restart: refused whole, what was in force goes on, and whoever looks is told.
    let good = std::fs::read_to_string(&path).unwrap();
    for (right, wrong, field) in
        [("\"eth0\"", "\"eht0\"", "interfaces[0]"), ("weight = 100", "wieght = 100", "wieght")]
    {
        site.daemon.terminate().unwrap();
        site.daemon.write_config(&good.replace(right, wrong)).unwrap();
        site.daemon.start_again().unwrap();
        let log = site.daemon.log();
        assert!(log.contains(field) && log.contains("did you mean"), "{log}");
        assert!(log.contains("took over the data path"), "{log}");
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        assert_eq!(status["hosts"].as_array().unwrap().len(), 2);
        let problems = status["problems"].to_string();
        assert!(problems.contains("refused at the start"), "{problems}");
    }
    site.daemon.terminate().unwrap();
    site.daemon.write_config(&good).unwrap();
    site.daemon.start_again().unwrap();
    assert!(site.daemon.log().contains("took over the data path"), "{}", site.daemon.log());
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    assert!(!status["problems"].to_string().contains("refused"), "{}", status["problems"]);
}

#[test]
fn sizes_that_do_not_fit_the_pinned_maps_are_refused_with_every_difference() {
    let plan = Plan::new("l2", 2);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    site.daemon.terminate().unwrap();
    // The flow table may have another size after a restart, rings may not.
    site.daemon.write_config(&format!("ring_size = 4099\n{}", config(&site.topology, &plan))).unwrap();
    let text = format!("{:#}", site.daemon.start_again().err().unwrap());
    for part in ["RINGS: number of entries", "another hash key or ring size", "sluice detach"] {
        assert!(text.contains(part), "{text}");
    }
    site.daemon.write_config(&config(&site.topology, &plan)).unwrap();
    site.daemon.start_again().unwrap();
}

#[test]
fn another_hash_key_is_refused_and_the_old_one_kept() {
    let plan = Plan::new("l2", 2);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let good = config(&site.topology, &plan);
    site.daemon.terminate().unwrap();
    site.daemon.write_config(&format!("hash_key = \"{}\"\n{good}", "5a".repeat(16))).unwrap();
    let text = format!("{:#}", site.daemon.start_again().err().unwrap());
    assert!(text.contains("another hash key"), "{text}");
    site.daemon.write_config(&good).unwrap();
    site.daemon.start_again().unwrap();
    assert!(site.daemon.log().contains("took over the data path"), "{}", site.daemon.log());
}

#[test]
fn services_may_swap_their_addresses() {
    let plan = Plan::new("l2", 2);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let good = config(&site.topology, &plan);
    // nginx's service takes the echo service's port and the other way round; both ports are still served afterwards.
    let swapped = good.replace("web-v4", "other").replace("echo-v4", "web-v4").replace("other", "echo-v4");
    site.daemon.terminate().unwrap();
    site.daemon.write_config(&swapped).unwrap();
    site.daemon.start_again().unwrap();
    let target = std::net::SocketAddr::new(site.vips()[0], sluice_tests::site::WEB);
    let options = sluice_tests::traffic::RequestsOptions {
        count: 20,
        ..sluice_tests::traffic::RequestsOptions::new(target)
    };
    let run = sluice_tests::traffic::Requests::start(&site.topology.client().ns, &options).unwrap();
    assert!(run.wait_for(sluice_tests::LIMIT, |counts| counts.ok + counts.failed == 20));
    assert_eq!(run.finish().unwrap().ok, 20);
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let services = status["services"].as_array().unwrap();
    let flows = |name: &str| {
        let found = services.iter().find(|service| service["name"] == name).unwrap();
        found["traffic"]["new_flows"].as_u64().unwrap()
    };
    assert_eq!((flows("echo-v4"), flows("web-v4")), (20, 0));
}

#[test]
fn without_privileges_the_missing_capability_is_named() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    std::fs::write(&path, config(&topology, &Plan::new("l2", 1))).unwrap();
    std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
    // A copy that nobody may run, wherever the build folder lies.
    let binary = folder.path().join("sluice");
    std::fs::copy(sluice_binary().unwrap(), &binary).unwrap();
    let mut command = Command::new(&binary);
    command.args(["run", "--instance", topology.prefix(), "--config"]).arg(&path).uid(65_534).gid(65_534);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for part in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "root"] {
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

#[test]
fn wrong_commands_are_refused_whole() {
    let site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    let revision = || site.daemon.cli_json(&["status", "--json"]).unwrap()["revision"].clone();
    let before = revision();
    for (args, code, says) in [
        (&["drain", "h9"][..], 3, "no host named h9"),
        (&["drain", "h1", "h9"], 3, "no host named h9"),
        (&["undrain", "h9"], 3, "no host named h9"),
        (&["flows", "--host", "h9"], 3, "no host named h9"),
        (&["flows", "--service", "wbe-v4"], 3, "did you mean web-v4"),
        (&["drain", "h1", "h2", "h3"], 10, "without a host"),
        (&["drain"], 2, "HOST"),
        (&["drain", "h1", "--timeout", "5"], 2, "5m"),
    ] {
        let output = site.daemon.cli(args).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(revision(), before);
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    assert!(status["hosts"].as_array().unwrap().iter().all(|host| host["admin"] == "active"));
}
