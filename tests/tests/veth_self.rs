//! The balancer itself is drained: a router that learnt of the VIPs by BGP forgets them, connections of one that has not heard of it go
//! on, and when they have ended that is told. BIRD speaks BGP on both sides.

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::topology::{Layout, Namespace, Process, Topology, VipRoutes};
use sluice_tests::traffic::{Connections, ConnectionsOptions, EchoServer};

const ECHO: u16 = 7;
const CONNECTIONS: usize = 20;

/// Addresses of the link between the router, which is the first client, and the balancer.
const ROUTER: [&str; 2] = ["10.78.0.1", "fd78::1"];
const BALANCER: [&str; 2] = ["10.78.0.254", "fd78::fe"];

struct Site {
    daemon: SluiceDaemon,
    _birds: [Process; 2],
    _servers: Vec<EchoServer>,
    folder: tempfile::TempDir,
    topology: Topology,
}

impl Site {
    fn start() -> Site {
        let topology = Topology::builder().layout(Layout::Routed).hosts(2).clients(2).build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (router, balancer) = (&topology.client().ns, &topology.balancer().ns);
        // The router is to learn them; the other client was told of them once and for all.
        for vip in topology.vips() {
            let family = if vip.is_ipv4() { "-4" } else { "-6" };
            router.shell(&format!("ip {family} route del {vip}")).unwrap();
        }
        let vips: Vec<SocketAddr> = topology.vips().iter().map(|vip| SocketAddr::new(*vip, ECHO)).collect();
        let servers =
            topology.hosts().iter().map(|host| EchoServer::start(&host.ns, &host.name, &vips, 1).unwrap());
        let servers = servers.collect();
        let birds = [
            bird(balancer, folder.path(), "balancer", &balancers_config(&topology)),
            bird(router, folder.path(), "router", &routers_config()),
        ];
        let daemon = SluiceDaemon::start(&topology, &config(&topology, folder.path())).unwrap();
        Site { daemon, _birds: birds, _servers: servers, folder, topology }
    }

    /// The VIPs that the router knows a way to.
    fn learnt(&self) -> Vec<IpAddr> {
        let is_known = |vip: &&IpAddr| {
            let family = if vip.is_ipv4() { "-4" } else { "-6" };
            let shown = self.topology.client().ns.shell(&format!("ip {family} route show {vip} proto bird"));
            !shown.unwrap().trim().is_empty()
        };
        self.topology.vips().iter().filter(is_known).copied().collect()
    }

    fn wait_until_learnt(&self, count: usize) -> Duration {
        let began = Instant::now();
        while self.learnt().len() != count {
            assert!(
                began.elapsed() < LIMIT,
                "{:?} instead of {count}\n{}\n{}",
                self.learnt(),
                self.bird_log("router"),
                self.bird_log("balancer")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        began.elapsed()
    }

    fn bird_log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Long connections to both VIPs.
    fn connect(&self, client: usize) -> Vec<Connections> {
        let start = |vip: &IpAddr| {
            let options = ConnectionsOptions {
                connections: CONNECTIONS,
                interval: Duration::from_millis(100),
                ..ConnectionsOptions::new(SocketAddr::new(*vip, ECHO))
            };
            Connections::start(&self.topology.clients()[client].ns, &options).unwrap()
        };
        let all: Vec<_> = self.topology.vips().iter().map(start).collect();
        for tcp in &all {
            tcp.wait_opened(CONNECTIONS as u64, LIMIT);
            assert_eq!(tcp.counts().opened, CONNECTIONS as u64, "{:?}", tcp.counts());
        }
        all
    }

    /// Status of the answer to `GET /v1/ready`.
    fn ready(&self) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(self.daemon.socket());
        self.topology
            .balancer()
            .ns
            .run({
                curl.arg("http://sluice/v1/ready");
                curl
            })
            .unwrap()
    }

    fn own(&self) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--unix-socket"]).arg(self.daemon.socket()).arg("http://sluice/v1/self");
        serde_json::from_str(&self.topology.balancer().ns.run(curl).unwrap()).unwrap()
    }

    fn on_lo(&self) -> usize {
        let shown = self.topology.balancer().ns.shell("ip -o addr show dev lo").unwrap();
        self.topology.vips().iter().filter(|vip| shown.contains(&format!(" {vip}/"))).count()
    }

    fn hooks(&self) -> String {
        fs::read_to_string(self.folder.path().join("hooks")).unwrap_or_default()
    }
}

fn config(topology: &Topology, folder: &Path) -> String {
    let interfaces = format!("{:?}", topology.balancer().interfaces);
    let hook = |name: &str| {
        format!(
            "on_{name} = \"echo $SLUICE_EVENT by $SLUICE_BY: $SLUICE_REASON >> {}/hooks\"\n",
            folder.display()
        )
    };
    let hooks: String = ["self_drain_began", "self_drained", "self_undrained"].map(hook).concat();
    let mut text = format!(
        "interfaces = {interfaces}\nring_size = 1009\n[flow_table]\npins = 4096\n[announce]\ninterface = \"lo\"\n[hooks]\n{hooks}"
    );
    for host in topology.hosts() {
        text += &format!("[hosts.{}]\naddresses = [\"{}\", \"{}\"]\n", host.name, host.ipv4[0], host.ipv6[0]);
    }
    for (name, vip) in ["v4", "v6"].iter().zip(topology.vips()) {
        text +=
            &format!("[[services]]\nname = \"{name}\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = {ECHO}\n");
    }
    text
}

/// Of a session of each family; `import` and `export` are BIRD's.
fn sessions(
    own: [&str; 2],
    own_as: u32,
    other: [&str; 2],
    other_as: u32,
    import: &str,
    export: &str,
) -> String {
    let session = |family: &str, own: &str, other: &str| {
        format!(
            "protocol bgp {family}_peer {{ local {own} as {own_as}; neighbor {other} as {other_as}; hold time 9;\n\
             connect delay time 1; connect retry time 1; error wait time 1,2;\n\
             {family} {{ import {import}; export {export}; next hop self; }}; }}\n"
        )
    };
    session("ipv4", own[0], other[0]) + &session("ipv6", own[1], other[1])
}

fn balancers_config(topology: &Topology) -> String {
    let export = format!("where net ~ [ {}/32 ]", topology.vip4());
    let text = format!(
        "router id {};\nprotocol device {{ scan time 1; }}\nprotocol direct {{ ipv4; ipv6; interface \"lo\"; }}\n{}",
        BALANCER[0],
        sessions(BALANCER, 65_002, ROUTER, 65_001, "none", &export)
    );
    // The second session's own filter.
    let (first, second) = text.rsplit_once(&export).unwrap();
    format!("{first}where net ~ [ {}/128 ]{second}", topology.vip6())
}

fn routers_config() -> String {
    let kernel = |family: &str| format!("protocol kernel {{ {family} {{ import none; export all; }}; }}\n");
    format!(
        "router id {};\nprotocol device {{ scan time 1; }}\n{}{}{}",
        ROUTER[0],
        kernel("ipv4"),
        kernel("ipv6"),
        sessions(ROUTER, 65_001, BALANCER, 65_002, "all", "none")
    )
}

fn bird(ns: &Namespace, folder: &Path, name: &str, config: &str) -> Process {
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    fs::write(file("conf"), config).unwrap();
    let log = fs::File::create(file("log")).unwrap();
    let mut command = Command::new("bird");
    command.arg("-f").arg("-c").arg(file("conf")).arg("-s").arg(file("ctl")).arg("-P").arg(file("pid"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    ns.spawn(command).expect("is bird2 installed?")
}

fn go_on(all: &[Connections], messages: u64) {
    for tcp in all {
        let goal = tcp.counts().echoed + messages;
        assert!(tcp.wait_for(LIMIT, |counts| counts.echoed >= goal), "{:?}", tcp.counts());
    }
}

fn finish(all: Vec<Connections>) {
    for tcp in all {
        let counts = tcp.finish().unwrap();
        assert_eq!(
            (counts.finished, counts.broken, counts.missing),
            (CONNECTIONS as u64, 0, 0),
            "{counts:?}"
        );
        assert_eq!(counts.sent, counts.echoed, "{counts:?}");
    }
}

/// Then others find them by ARP, on the first interface.
#[test]
fn with_vip_mode_local_the_vips_leave_the_first_interface() {
    let topology = Topology::builder().hosts(1).vip_routes(VipRoutes::OnLink).build().unwrap();
    let config = format!(
        "interfaces = [\"eth0\"]\nvip_mode = \"local\"\nring_size = 1009\n[flow_table]\npins = 4096\n[hosts.h1]\naddresses = [\"{}\"]\n\
         [[services]]\nname = \"echo\"\nvip = \"{}\"\nprotocol = \"tcp\"\nport = {ECHO}\n",
        topology.host(1).ipv4[0],
        topology.vip4()
    );
    let vip = SocketAddr::new(topology.vip4().into(), ECHO);
    let _server = EchoServer::start(&topology.host(1).ns, "h1", &[vip], 1).unwrap();
    let mut daemon = SluiceDaemon::start(&topology, &config).unwrap();
    let is_there = || {
        let shown = topology.balancer().ns.shell("ip -o addr show dev eth0").unwrap();
        shown.contains(&format!(" {}/32 ", topology.vip4()))
    };
    assert!(is_there());
    let options = ConnectionsOptions {
        connections: CONNECTIONS,
        interval: Duration::from_millis(100),
        ..ConnectionsOptions::new(vip)
    };
    let tcp = Connections::start(&topology.client().ns, &options).unwrap();
    tcp.wait_opened(CONNECTIONS as u64, LIMIT);
    daemon.cli_ok(&["drain", "self"]).unwrap();
    assert!(!is_there());
    // The client knows the way until it asks anew.
    go_on(std::slice::from_ref(&tcp), 200);
    daemon.terminate().unwrap();
    daemon.start_again().unwrap();
    assert!(!is_there(), "nor after another start");
    daemon.cli_ok(&["undrain", "self"]).unwrap();
    assert!(is_there());
    finish(vec![tcp]);
}

#[test]
fn a_router_forgets_the_vips_and_what_still_comes_is_forwarded_until_it_ebbs() {
    let mut site = Site::start();
    site.wait_until_learnt(2);
    assert_eq!((site.ready().as_str(), site.on_lo()), ("200", 2));
    finish(site.connect(0));
    let late = site.connect(1);
    go_on(&late, 100);

    // Nobody hears of it: the daemon's end is not the balancer's.
    site.daemon.terminate().unwrap();
    go_on(&late, 100);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((site.learnt().len(), site.on_lo()), (2, 2));
    site.daemon.start_again().unwrap();

    let drained =
        site.daemon.cli_ok(&["drain", "self", "--reason", "new kernel", "--quiet-for", "3s"]).unwrap();
    assert!(
        drained.contains("is drained (by root: new kernel)") && drained.contains("VIPs are off lo"),
        "{drained}"
    );
    assert_eq!((site.ready().as_str(), site.on_lo()), ("503", 0), "when the command returns");
    let took = site.wait_until_learnt(0);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let connect = format!("timeout 3 bash -c '</dev/tcp/{}/{ECHO}'", site.topology.vip4());
    site.topology.client().ns.shell(&connect).expect_err("the router has no way any more");

    // Who has not heard of it is forwarded as ever, and that is seen.
    go_on(&late, 300);
    let waited = site.daemon.cli(&["drain", "self", "--wait", "--timeout", "5s"]).unwrap();
    assert_eq!(waited.status.code(), Some(5), "{waited:?}");
    let (mut own, asked) = (site.own(), Instant::now());
    while own["packets_per_second"].as_f64().is_none_or(|rate| rate <= 100.0) {
        assert!(asked.elapsed() < LIMIT, "{own}");
        std::thread::sleep(Duration::from_millis(100));
        own = site.own();
    }
    // And the connections of before, which are closing.
    assert!(own["live_flows"].as_u64().unwrap() >= 2 * CONNECTIONS as u64, "{own}");
    assert_eq!(own["state"], "draining");

    // So it is after a crash.
    site.daemon.sigkill();
    go_on(&late, 50);
    site.daemon.start_again().unwrap();
    assert_eq!((site.ready().as_str(), site.on_lo()), ("503", 0));
    let own = site.own();
    assert_eq!((&own["state"], &own["drain"]["reason"]), (&"draining".into(), &"new kernel".into()), "{own}");
    let status = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("this balancer is drained, by root: new kernel"), "{status}");

    let waiting = site.daemon.cli_start(&["drain", "self", "--wait", "--timeout", "60s", "--json"]).unwrap();
    go_on(&late, 300);
    assert!(waiting.is_running(), "as long as traffic comes");
    let ending = Instant::now();
    finish(late);
    let status = waiting.wait(LIMIT).unwrap().expect("traffic has ebbed");
    assert_eq!(status.code(), Some(0));
    // Three seconds, which are counted whole.
    assert!(ending.elapsed() >= Duration::from_secs(2), "{:?}", ending.elapsed());
    assert_eq!(site.own()["state"], "drained");

    let back = site.daemon.cli_ok(&["undrain", "self", "--reason", "done"]).unwrap();
    assert!(back.contains("it is ready, and its VIPs are on lo"), "{back}");
    assert_eq!((site.ready().as_str(), site.on_lo()), ("200", 2));
    site.wait_until_learnt(2);
    finish(site.connect(0));
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    assert_eq!(
        (&status["violations"], &status["problems"]),
        (&serde_json::json!({}), &serde_json::json!([]))
    );
    let began = Instant::now();
    let expected = "self_drain_began by root: new kernel\nself_drained by root: new kernel\nself_undrained by root: done\n";
    while site.hooks() != expected {
        assert!(began.elapsed() < LIMIT, "{}", site.hooks());
        std::thread::sleep(Duration::from_millis(50));
    }
    site.daemon.cli_ok(&["drain", "self"]).unwrap();
    let waited = site.daemon.cli_start(&["drain", "self", "--wait"]).unwrap();
    let (_, said) = waited.take_output();
    let mut said = said.unwrap();
    let (spoken, waits) = channel();
    std::thread::spawn(move || {
        let _ = spoken.send(said.read_exact(&mut [0]).is_ok());
        let _ = io::copy(&mut said, &mut io::sink());
    });
    assert_eq!(waits.recv_timeout(LIMIT), Ok(true), "it says how it goes as soon as it waits");
    site.daemon.cli_ok(&["undrain", "self"]).unwrap();
    assert_eq!(waited.wait(LIMIT).unwrap().unwrap().code(), Some(7), "taken back");
    site.daemon.terminate().unwrap();
    site.daemon.cli_ok(&["detach"]).unwrap();
    assert_eq!(site.on_lo(), 0, "who forwards nothing any more announces nothing");
}
