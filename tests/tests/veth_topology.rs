//! The tools of the suites, tried without a balancer.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_tests::servers::{BIG_FILE_BYTES, FakeClock, Nginx};
use sluice_tests::topology::{Layout, Replies, Topology, VipRoutes, leftovers, leftovers_of, remove_stale};

fn reach_all(topology: &Topology) {
    let client = &topology.client().ns;
    for host in topology.hosts() {
        client.shell(&format!("ping -c1 -W2 -I {} {}", topology.client().ipv4[0], host.ipv4[0])).unwrap();
        client.shell(&format!("ping -6 -c1 -W2 -I {} {}", topology.client().ipv6[0], host.ipv6[0])).unwrap();
        topology.balancer().ns.shell(&format!("ping -c1 -W2 {}", host.ipv4[0])).unwrap();
        topology.balancer().ns.shell(&format!("ping -6 -c1 -W2 {}", host.ipv6[0])).unwrap();
    }
    // A VIP is reached by way of the balancer only, and there is none yet.
    client.shell(&format!("ping -c1 -W1 {}", topology.vip4())).unwrap_err();
}

#[test]
fn a_program_goes_by_a_clock_that_is_set_for_it_alone() {
    let clock = FakeClock::new("sluice-test").unwrap();
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    for ahead in [0, 86_400, -600] {
        clock.set(ahead).unwrap();
        let mut command = Command::new("date");
        clock.show_to(command.arg("+%s"));
        let before = unix();
        let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let right = before + ahead..=unix() + ahead;
        assert!(right.contains(&shown.trim().parse().unwrap()), "{shown} is not in {right:?}");
    }
}

#[test]
fn the_flat_layout_joins_everybody() {
    let begin = Instant::now();
    let topology = Topology::builder().build().unwrap();
    println!("built in {:?}", begin.elapsed());
    reach_all(&topology);
    let prefix = topology.prefix().to_owned();
    assert!(!leftovers_of(&prefix).is_empty());
    let begin = Instant::now();
    drop(topology);
    println!("removed in {:?}", begin.elapsed());
    assert_eq!(leftovers_of(&prefix), [""; 0]);
}

#[test]
fn the_routed_layout_joins_everybody() {
    for replies in [Replies::Direct, Replies::ThroughBalancer] {
        let topology =
            Topology::builder().layout(Layout::Routed).clients(2).replies(replies).build().unwrap();
        reach_all(&topology);
    }
    assert_eq!(leftovers(), [""; 0]);
}

#[test]
fn processes_end_with_their_topology() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let prefix = topology.prefix().to_owned();
    let mut command = Command::new("sh");
    // A grandchild in a session of its own is not in the group and has lost the mark, but is in the namespace.
    command.args(["-c", "setsid env -i sleep 1000 & sleep 1000"]);
    let process = topology.host(1).ns.spawn(command).unwrap();
    assert!(process.is_running());
    assert_eq!(process.wait(Duration::from_millis(200)).unwrap(), None);
    let inside = topology.host(1).ns.clone();
    let count = move || pids_in(&inside);
    assert_eq!(count().len(), 3, "{:?}", count());
    drop(topology);
    assert!(!process.is_running());
    assert_eq!(leftovers_of(&prefix), [""; 0]);
    assert_eq!(count(), [""; 0]);
}

/// Processes whose network namespace is `ns`, by the handle that is still open.
fn pids_in(ns: &sluice_tests::topology::Namespace) -> Vec<String> {
    let wanted = ns.file().metadata().unwrap().ino();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let inside = entries.filter(|entry| {
        std::fs::metadata(entry.path().join("ns/net")).is_ok_and(|data| data.ino() == wanted)
    });
    inside
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.parse::<u32>().is_ok())
        .collect()
}

#[test]
fn a_panic_leaves_nothing() {
    let mut prefix = String::new();
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let topology = Topology::builder().hosts(2).build().unwrap();
        prefix = topology.prefix().to_owned();
        let _nginx = Nginx::start_on_all(&topology).unwrap();
        topology.client().ns.enter(|| panic!("as wished")).unwrap()
    }));
    assert!(panicked.is_err());
    assert_eq!(leftovers_of(&prefix), [""; 0]);
}

#[test]
fn nginx_serves_in_two_topologies_at_once() {
    let build = || {
        let topology = Topology::builder().hosts(2).build().unwrap();
        let nginx = Nginx::start_on_all(&topology).unwrap();
        (topology, nginx)
    };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(build);
        let second = build();
        (first.join().unwrap(), second)
    });
    for (topology, _nginx) in [&first, &second] {
        let client = &topology.client().ns;
        for host in topology.hosts() {
            let name = client.shell(&format!("curl -sf -m5 http://{}/", host.ipv4[0])).unwrap();
            assert_eq!(name, format!("{}\n", host.name));
            let name = client.shell(&format!("curl -sf -m5 'http://[{}]/'", host.ipv6[0])).unwrap();
            assert_eq!(name, format!("{}\n", host.name));
            let line = format!("curl -sf -m9 http://{}/big | wc -c", host.ipv4[0]);
            assert_eq!(client.shell(&line).unwrap().trim(), BIG_FILE_BYTES.to_string());
            // A VIP on lo answers to whoever gets a packet there.
            host.ns.shell(&format!("curl -sf -m5 http://{}/", topology.vip4())).unwrap();
        }
    }
    let prefixes = [first.0.prefix().to_owned(), second.0.prefix().to_owned()];
    let (left, right) = ((first.1, first.0), (second.1, second.0));
    drop(left);
    right.1.client().ns.shell(&format!("curl -sf -m5 http://{}/", right.1.host(1).ipv4[0])).unwrap();
    drop(right);
    prefixes.iter().for_each(|prefix| assert_eq!(leftovers_of(prefix), [""; 0]));
}

#[test]
fn the_slow_file_takes_its_time() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let _nginx = Nginx::start_on_all(&topology).unwrap();
    let url = format!("http://{}/slow?rate=20000", topology.host(1).ipv4[0]);
    let line = format!("curl -s -m2 {url} | wc -c");
    let bytes = topology.client().ns.shell(&line).unwrap().trim().parse::<usize>().unwrap();
    assert!((10_000..100_000).contains(&bytes), "{bytes} bytes in two seconds");
}

/// Run by the test below in a process of its own, to be killed.
#[test]
#[ignore = "a part of another test: it waits to be killed"]
fn builds_and_waits_to_be_killed() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let _nginx = Nginx::start_on_all(&topology).unwrap();
    println!("prefix={}", topology.prefix());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_is_cleaned_up_after() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "builds_and_waits_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let prefix =
        lines.find_map(|line| line.split_once("prefix=").map(|(_, prefix)| prefix.to_owned())).unwrap();
    remove_stale();
    assert!(leftovers_of(&prefix).len() >= 5, "what is in use is left alone");
    child.kill().unwrap();
    child.wait().unwrap();
    let left = leftovers_of(&prefix);
    assert!(left.iter().any(|line| line.contains("namespace")), "{left:?}");
    assert!(left.iter().any(|line| line.contains("nginx")), "{left:?}");
    remove_stale();
    assert_eq!(leftovers_of(&prefix), [""; 0]);
}

/// The hosts carry the VIPs too, but must not answer for them.
#[test]
fn on_link_vips_are_found_at_the_balancer() {
    let topology = Topology::builder().vip_routes(VipRoutes::OnLink).build().unwrap();
    let balancer = &topology.balancer().ns;
    balancer.shell(&format!("ip addr add {}/32 dev eth0", topology.vip4())).unwrap();
    balancer.shell(&format!("ip addr add {}/128 dev eth0 nodad", topology.vip6())).unwrap();
    let mac = balancer.shell("ip -br link show eth0").unwrap().split_whitespace().nth(2).unwrap().to_owned();
    for vip in topology.vips() {
        let client = &topology.client().ns;
        client.shell(&format!("ping -c1 -W2 {vip}")).unwrap();
        let neighbour = client.shell(&format!("ip neigh show {vip}")).unwrap();
        assert!(neighbour.contains(&mac), "{neighbour} instead of {mac}");
    }
}
