//! A real Prometheus scrapes a real daemon: what it has is what the daemon says otherwise, the dashboard's queries can be answered, and
//! the alert rules are good.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::topology::{Process, Topology};
use sluice_tests::traffic::{Connections, ConnectionsOptions, EchoServer};

const ECHO: u16 = 7;
const CONNECTIONS: usize = 12;

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lb-userspace/monitoring").canonicalize().unwrap()
}

fn config(topology: &Topology, listen: &str) -> String {
    let mut text = format!("interfaces = [\"eth0\"]\nring_size = 1009\n{listen}[flow_table]\npins = 4096\n");
    for host in topology.hosts() {
        writeln!(text, "[hosts.{}]\naddresses = [\"{}\"]", host.name, host.ipv4[0]).unwrap();
    }
    let vip = topology.vip4();
    text + &format!("[[services]]\nname = \"echo\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = {ECHO}\n")
}

/// Of the service, by which h1 is unwell while there is such a file.
fn checks(unwell: &Path) -> String {
    let command = format!("test $SLUICE_HOST != h1 || ! test -e {}", unwell.display());
    format!(
        "[services.health]\ninterval = \"300ms\"\ntimeout = \"5s\"\nfall = 2\n\
         [[services.checks]]\ntype = \"command\"\ncommand = \"{command}\"\n"
    )
}

/// Prometheus beside the daemon, asked by its API.
struct Prometheus<'a> {
    topology: &'a Topology,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl<'a> Prometheus<'a> {
    fn start(topology: &'a Topology) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{}]\n\
             scrape_configs: [{{ job_name: sluice, static_configs: [{{ targets: [\"127.0.0.1:9464\"] }}] }}]\n",
            monitoring().join("alerts.yml").display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:9090", "--log.level=error"]);
        let process = topology.balancer().ns.spawn(command).unwrap();
        Prometheus { topology, _process: process, _folder: folder }
    }

    fn get(&self, path: &str, query: Option<&str>) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "10", "-G"]).arg(format!("http://127.0.0.1:9090{path}"));
        if let Some(query) = query {
            curl.arg("--data-urlencode").arg(format!("query={query}"));
        }
        let answer = self.topology.balancer().ns.output(curl).unwrap().stdout;
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    fn result(&self, query: &str) -> Vec<Value> {
        let answer = self.get("/api/v1/query", Some(query));
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The one value of a query.
    fn value(&self, query: &str) -> Option<f64> {
        let result = self.result(query);
        assert!(result.len() <= 1, "{query}: {result:?}");
        result.first()?["value"][1].as_str()?.parse().ok()
    }

    fn wait_for(&self, query: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let began = Instant::now();
        loop {
            let value = self.value(query);
            match value {
                Some(value) if wanted(value) => return value,
                _ => assert!(began.elapsed() < LIMIT, "{query} is {value:?}"),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Status, and the body.
fn curl(topology: &Topology, args: &[&str]) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-w", "\n%{http_code}", "--max-time", "10"]).args(args);
    let output = topology.balancer().ns.output(curl).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

fn dashboards_queries() -> BTreeSet<String> {
    let text = std::fs::read_to_string(monitoring().join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let query = |target: &Value| {
        let text = target["expr"].as_str().unwrap();
        text.replace("$instance", ".+").replace("$__rate_interval", "10s")
    };
    targets.map(query).collect()
}

/// A host goes down by its checks, and comes back.
fn health_is_told(prometheus: &Prometheus<'_>, unwell: &Path) {
    let state =
        |state: &str| format!("sluice_health_state{{service=\"echo\",host=\"h1\",state=\"{state}\"}}");
    let runs = |host: &str, outcome: &str| {
        format!("sluice_check_runs_total{{service=\"echo\",host=\"{host}\",outcome=\"{outcome}\"}}")
    };
    prometheus.wait_for(&state("up"), |is_up| is_up == 1.0);
    prometheus.wait_for(&runs("h1", "ok"), |count| count > 0.0);
    assert_eq!(prometheus.value("sum(sluice_host_up)"), Some(2.0));
    assert_eq!(prometheus.value("sum(sluice_service_ejections_total)"), Some(0.0));
    assert!(prometheus.result("sluice_service_standby_in_use").is_empty(), "there are none");

    std::fs::write(unwell, "").unwrap();
    prometheus.wait_for(&state("down"), |is_down| is_down == 1.0);
    prometheus.wait_for("sluice_service_hosts{use=\"ejected\"}", |count| count == 1.0);
    assert_eq!(prometheus.value(&state("up")), Some(0.0));
    for (by, count) in [("checks", 1.0), ("passive", 0.0), ("next_hop", 0.0)] {
        let query = format!("sum(sluice_service_ejections_total{{by=\"{by}\"}})");
        assert_eq!(prometheus.value(&query), Some(count), "{by}");
    }
    assert_eq!(prometheus.value("sluice_host_up{host=\"h1\"}"), Some(0.0));
    assert_eq!(prometheus.value("sluice_host_reachable{host=\"h1\"}"), Some(1.0));
    assert_eq!(prometheus.value("sluice_host_share_ratio{host=\"h2\"}"), Some(1.0));
    assert!(prometheus.value(&runs("h1", "failed")).unwrap() >= 2.0);
    assert_eq!(prometheus.value(&runs("h2", "failed")), Some(0.0));
    let took = prometheus.value("max(sluice_check_duration_seconds)").unwrap();
    assert!(took > 0.0 && took < 5.0, "{took}");
    assert_eq!(prometheus.value("sluice_service_panic"), Some(0.0));
    assert_eq!(prometheus.value("sluice_cut_off"), Some(0.0));

    std::fs::remove_file(unwell).unwrap();
    prometheus.wait_for("sum(sluice_host_up)", |count| count == 2.0);
    prometheus.wait_for("sluice_service_hosts{use=\"ejected\"}", |count| count == 0.0);
}

/// A run that drains, as flows are left, until it is aborted; and a shift.
fn runs_and_shifts_are_told(prometheus: &Prometheus<'_>, daemon: &SluiceDaemon, folder: &Path) {
    let plan = folder.join("plan.toml");
    std::fs::write(&plan, "name = \"p\"\nhosts = [\"h1\", \"h2\"]\n[run]\ncommand = \"true\"\n").unwrap();
    let run =
        daemon.cli_json(&["maintain", "start", plan.to_str().unwrap(), "--json"]).unwrap()["run"].clone();
    let hosts = |step: &str| format!("sluice_maintenance_hosts{{run=\"{run}\",step=\"{step}\"}}");
    prometheus.wait_for(&hosts("draining"), |hosts| hosts == 1.0);
    assert_eq!(prometheus.value(&hosts("waiting")), Some(1.0));
    let state = format!("sluice_maintenance_run_state{{run=\"{run}\",state=\"running\"}}");
    assert_eq!(prometheus.value(&state), Some(1.0));
    daemon.cli_ok(&["maintain", "abort"]).unwrap();
    prometheus.wait_for("sluice_maintenance_runs_total{outcome=\"aborted\"}", |runs| runs == 1.0);
    assert_eq!(prometheus.value("sum(sluice_maintenance_runs_total)"), Some(1.0));
    assert!(prometheus.result(&state).is_empty(), "it is over");

    assert!(prometheus.result("sluice_shift_wanted_ratio").is_empty(), "there was none");
    daemon
        .cli_ok(&["shift", "echo", "--from", "h1", "--to", "h2", "--steps", "60%", "--every", "1s", "--wait"])
        .unwrap();
    prometheus.wait_for("sluice_shift_wanted_ratio{service=\"echo\"}", |part| part == 0.6);
    assert!(prometheus.result("sluice_shift_measured_ratio").is_empty(), "no flow began meanwhile");
}

#[test]
fn prometheus_has_what_the_daemon_says() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let vip = SocketAddr::new(topology.vip4().into(), ECHO);
    let _servers: Vec<EchoServer> = topology
        .hosts()
        .iter()
        .map(|host| EchoServer::start(&host.ns, &host.name, &[vip], 1).unwrap())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let unwell = folder.path().join("unwell");
    let listen = "[metrics]\nlisten = \"127.0.0.1:9464\"\n";
    let text = config(&topology, listen) + &checks(&unwell);
    let daemon = SluiceDaemon::start(&topology, &text).unwrap();
    let prometheus = Prometheus::start(&topology);
    let options = ConnectionsOptions {
        connections: CONNECTIONS,
        interval: Duration::from_millis(100),
        ..ConnectionsOptions::new(vip)
    };
    let tcp = Connections::start(&topology.client().ns, &options).unwrap();
    tcp.wait_opened(CONNECTIONS as u64, LIMIT);

    prometheus.wait_for("sum(sluice_live_flows{phase=\"established\"})", |n| n == CONNECTIONS as f64);
    assert_eq!(prometheus.value("up{job=\"sluice\"}"), Some(1.0));
    assert_eq!(prometheus.value("sluice_ready"), Some(1.0));
    assert_eq!(prometheus.value("sum(sluice_new_flows_total)"), Some(CONNECTIONS as f64));
    prometheus.wait_for("sum(rate(sluice_forwarded_packets_total[10s]))", |rate| rate > 0.0);
    // Every packet that was forwarded has a reason, and is of a backend; the scrape's moment is one for both but for packets in between.
    let by_reason = "sum(sluice_packets_total{verdict=\"forward\"})";
    let difference =
        prometheus.wait_for(&format!("{by_reason} - sum(sluice_forwarded_packets_total)"), |_| true);
    assert!(difference.abs() < 100.0, "{difference}");
    assert_eq!(prometheus.value("sum(sluice_violations_total)"), Some(0.0));
    assert!(prometheus.result("sluice_drain_live_flows").is_empty());

    // One service of one port, with two hosts.
    let table =
        |what: &str, name: &str| prometheus.value(&format!("sluice_table_{what}{{table=\"{name}\"}}"));
    assert_eq!((table("used", "records"), table("size", "records")), (Some(1.0), Some(10_240.0)));
    assert_eq!((table("used", "pairs"), table("size", "pairs")), (Some(2.0), Some(131_072.0)));

    health_is_told(&prometheus, &unwell);
    runs_and_shifts_are_told(&prometheus, &daemon, folder.path());

    daemon.cli_ok(&["drain", "h1", "--deadline", "1h"]).unwrap();
    prometheus.wait_for("sluice_host_state{host=\"h1\",state=\"draining\"}", |state| state == 1.0);
    let left = daemon.cli_json(&["drains", "h1", "--json"]).unwrap();
    let left = left["live_flows"]["total"].as_f64().unwrap_or_else(|| panic!("{left}"));
    assert_eq!(
        prometheus.value("sluice_drain_live_flows{host=\"h1\",service=\"\",clients=\"\"}"),
        Some(left)
    );
    let deadline = prometheus.value("sluice_drain_deadline_time_seconds - time()").unwrap();
    assert!((3500.0..3601.0).contains(&deadline), "{deadline}");
    assert_eq!(prometheus.value("sluice_host_share_ratio{host=\"h2\"}"), Some(1.0));

    // The kernel measures run times for a moment. Not by its setting, which other tests would see.
    let measured = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    prometheus.wait_for("sluice_program_runs_total", |runs| runs > 0.0);
    let a_run =
        prometheus.value("sluice_program_run_time_seconds_total / sluice_program_runs_total").unwrap();
    drop(measured);
    assert!(a_run > 0.0 && a_run < 0.01, "{a_run} s a packet");

    let queries = dashboards_queries();
    assert!(queries.len() > 20);
    let mut empty = Vec::new();
    for query in &queries {
        let answer = prometheus.get("/api/v1/query", Some(query));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        if answer["data"]["result"].as_array().is_none_or(Vec::is_empty) {
            empty.push(query.as_str());
        }
    }
    // Nothing is dropped, no host is down, nobody is asked how clients fare, and there are no standby hosts.
    let empty_here = ["> 0", "== 0", "program_run", "standby", "suspected"];
    let may_be = |query: &str| empty_here.iter().any(|part| query.contains(part));
    empty.retain(|query| !may_be(query));
    assert!(empty.is_empty(), "{empty:#?}");

    let rules = prometheus.get("/api/v1/rules", None);
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() >= 20);
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
    let counts = tcp.finish().unwrap();
    assert_eq!(counts.broken, 0, "{counts:?}");
}

#[test]
fn alert_rules_are_checked_by_promtool() {
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new("promtool").args(args).current_dir(monitoring()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}

#[test]
fn metrics_are_where_the_config_says_and_a_reload_moves_them() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let daemon = SluiceDaemon::start(&topology, &config(&topology, "")).unwrap();
    let socket = daemon.socket();
    let socket = socket.to_str().unwrap();
    let (status, text) = curl(&topology, &["--unix-socket", socket, "http://sluice/metrics"]);
    assert_eq!(status, "200");
    assert!(text.contains("sluice_build_info{version=") && text.ends_with("# EOF\n"), "{text}");
    // Names and help are as promtool likes them; it reads the older format, in which a counter's name has its suffix everywhere.
    let older: String = text
        .lines()
        .filter(|line| !line.starts_with("# UNIT") && !line.starts_with("# EOF"))
        .map(|line| {
            let mut words: Vec<&str> = line.split(' ').collect();
            let is_counter = words[0] == "#" && text.contains(&format!("# TYPE {} counter\n", words[2]));
            let name = words.get(2).map(|name| format!("{name}_total")).unwrap_or_default();
            if is_counter {
                words[2] = &name;
            }
            words.join(" ") + "\n"
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, older).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");

    let at = |port: u16| format!("http://127.0.0.1:{port}/metrics");
    let refused = "000";
    assert_eq!(curl(&topology, &[&at(9464)]).0, refused, "off by default");
    let apply = |listen: &str| {
        let file = folder.path().join("new.toml");
        let listen = format!("[metrics]\nlisten = \"{listen}\"\n");
        std::fs::write(&file, config(&topology, &listen)).unwrap();
        daemon.cli(&["apply", file.to_str().unwrap()]).unwrap()
    };
    assert!(apply("127.0.0.1:9464").status.success());
    assert_eq!(curl(&topology, &[&at(9464)]).0, "200");
    assert!(apply("127.0.0.1:9465").status.success());
    assert_eq!(curl(&topology, &[&at(9465)]).0, "200");
    assert_eq!(curl(&topology, &[&at(9464)]).0, refused);
    let wrong = apply("192.0.2.77:9464");
    assert!(!wrong.status.success());
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("cannot listen on 192.0.2.77:9464"), "{said}");
    assert_eq!(curl(&topology, &[&at(9465)]).0, "200", "the one before goes on");

    // Nothing else is there, whoever asks.
    assert_eq!(curl(&topology, &["http://127.0.0.1:9465/v1/status"]).0, "404");
    assert_eq!(curl(&topology, &["-d", "{}", "http://127.0.0.1:9465/v1/drain"]).0, "404");
    assert_eq!(curl(&topology, &["-X", "POST", &at(9465)]).0, "405");
    assert_eq!(curl(&topology, &["http://127.0.0.1:9465/metrics/../v1/status", "--path-as-is"]).0, "404");
}

/// As large as a config may be: 4094 hosts, behind a router, and as many pairs as there can be.
fn largest_site(topology: &Topology) -> String {
    let host = |number: usize| format!("host-{number:04}");
    let mut text = "interfaces = [\"eth0\"]\nring_size = 409433\n[metrics]\nlisten = \"127.0.0.1:9464\"\n\
                    [health]\ninterval = \"10s\"\n"
        .to_owned();
    for number in 0..4094 {
        let address = format!("10.200.{}.{}", number / 250, 1 + number % 250);
        writeln!(text, "[hosts.{}]\naddresses = [\"{address}\"]", host(number)).unwrap();
    }
    let vip = topology.vip4();
    let mut service = |number: usize, hosts: String| {
        writeln!(
            text,
            "[[services]]\nname = \"service-{number}\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = {}\n\
             forward = \"ipip\"\n{hosts}[[services.checks]]\ntype = \"tcp\"\nport = 80",
            1000 + number
        )
        .unwrap();
    };
    // All hosts, 4094 pairs; and 6145 services of two hosts each, 63 different sets of them. A service takes pairs of the data path for all numbers
    // from its first host's to its last one's, so these are neighbours.
    service(0, String::new());
    for number in 1..=6145 {
        let first = number % 63 * 2;
        service(number, format!("hosts = [\"{}\", \"{}\"]\n", host(first), host(first + 1)));
    }
    text
}

/// What a scrape costs: `cargo test --release -p sluice-tests --test veth_metrics largest -- --ignored --nocapture`, with `SLUICE_BIN` the
/// release build.
#[test]
#[ignore = "a measurement, and slow without optimizations"]
fn the_largest_site() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let mut route = Command::new("ip");
    route.args(["route", "add", "10.200.0.0/16", "via"]).arg(topology.hosts()[0].ipv4[0].to_string());
    assert!(topology.balancer().ns.output(route).unwrap().status.success());
    let daemon = SluiceDaemon::start(&topology, &largest_site(&topology)).unwrap();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_secs(8));
        let began = Instant::now();
        let (status, text) = curl(&topology, &["http://127.0.0.1:9464/metrics"]);
        let took = began.elapsed();
        assert_eq!(status, "200");
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        let read = text.lines().find(|line| line.starts_with("sluice_scrape_read")).unwrap();
        let began = Instant::now();
        daemon.cli_ok(&["drains"]).unwrap();
        let beside = began.elapsed().as_millis();
        println!(
            "{series} series, {} KiB, {} ms in all; {read}; `sluice drains` in {beside} ms",
            text.len() >> 10,
            took.as_millis()
        );
    }
}
