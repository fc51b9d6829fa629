//! A plan says what a drain then does; a drain that would break a rule is refused, unless it is forced.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

/// A rule of the config would be broken.
const RULE: Option<i32> = Some(10);

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A plan, whether or not it breaks rules.
fn plan_of(site: &Site, hosts: &[&str]) -> (Option<i32>, Value) {
    let args: Vec<&str> = ["plan", "drain", "--json"].into_iter().chain(hosts.iter().copied()).collect();
    let output = site.daemon.cli(&args).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let plan =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", stderr(&output)));
    (output.status.code(), plan)
}

/// An array's elements by their field `host` or `name`.
fn by_name<'a>(array: &'a Value, field: &str) -> BTreeMap<&'a str, &'a Value> {
    array.as_array().unwrap().iter().map(|entry| (entry[field].as_str().unwrap(), entry)).collect()
}

/// Slots of each host over all rings.
fn slots(site: &Site) -> BTreeMap<String, u64> {
    let rings = site.daemon.cli_json(&["rings", "--json"]).unwrap();
    let mut slots = BTreeMap::new();
    for member in
        rings["rings"].as_array().unwrap().iter().flat_map(|ring| ring["members"].as_array().unwrap())
    {
        *slots.entry(member["host"].as_str().unwrap().to_owned()).or_default() +=
            member["slots"].as_u64().unwrap();
    }
    slots
}

/// New flows of each host since the start.
fn new_flows(site: &Site) -> BTreeMap<String, f64> {
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let hosts = by_name(&status["hosts"], "name");
    hosts
        .iter()
        .map(|(name, host)| ((*name).to_owned(), host["traffic"]["new_flows"].as_f64().unwrap()))
        .collect()
}

fn requests(site: &Site, vip: usize, port: u16, rate: u32) -> Requests {
    let target = SocketAddr::new(site.vips()[vip], port);
    Requests::start(&site.topology.client().ns, &RequestsOptions { rate, ..RequestsOptions::new(target) })
        .unwrap()
}

#[test]
fn what_is_planned_is_what_is_measured() {
    let plan = Plan { weights: vec![100, 100, 200], ..Plan::new("l2", 3) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let web = [0, 1].map(|vip| requests(&site, vip, WEB, 250));
    let options = ConnectionsOptions {
        connections: 200,
        interval: Duration::from_millis(500),
        ..ConnectionsOptions::new(SocketAddr::new(site.vips()[0], ECHO))
    };
    let long = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(long.wait_opened(200, LIMIT), "{:?}", long.counts());
    std::thread::sleep(Duration::from_secs(3));

    // Rates are of one second: the mean of several plans.
    const LOOKS: u32 = 6;
    let mut rates: BTreeMap<String, f64> = BTreeMap::new();
    let mut planned = Value::Null;
    for _ in 0..LOOKS {
        std::thread::sleep(Duration::from_millis(1100));
        let (code, plan) = plan_of(&site, &["h3"]);
        assert_eq!(code, Some(0), "{plan}");
        for (name, survivor) in by_name(&plan["survivors"], "host") {
            let after = survivor["after"]["new_flows_per_second"].as_f64().unwrap();
            *rates.entry(name.to_owned()).or_default() += after / f64::from(LOOKS);
        }
        planned = plan;
    }
    let h3 = &planned["hosts"][0];
    let open = long.counts().hosts["h3"].open;
    assert!(open > 60 && h3["live_flows"]["established"].as_u64().unwrap() >= open, "{open} open, {planned}");
    assert_eq!(h3["slots"].as_u64().unwrap(), slots(&site)["h3"]);

    site.daemon.cli_ok(&["drain", "h3"]).unwrap();
    let (before, began) = (new_flows(&site), Instant::now());
    let measured_slots = slots(&site);
    for (name, survivor) in by_name(&planned["survivors"], "host") {
        assert_eq!(survivor["slots_after"].as_u64().unwrap(), measured_slots[name], "{name}");
    }
    std::thread::sleep(Duration::from_secs(8));
    let (after, seconds) = (new_flows(&site), began.elapsed().as_secs_f64());
    for (name, expected) in &rates {
        let measured = (after[name] - before[name]) / seconds;
        // 500 a second in all: some 2 % of chance in 8 seconds, and in 6 looks.
        assert!(
            (measured - expected).abs() < 0.12 * expected && *expected > 150.0,
            "{name}: {expected} planned, {measured} measured; {planned}"
        );
    }
    assert_eq!(rates.len(), 2);
    assert_eq!(after["h3"], before["h3"], "a drained host gets none");
    for web in web {
        assert_eq!(web.finish().unwrap().failed, 0);
    }
    let counts = long.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn what_breaks_a_rule_is_refused_and_may_be_forced() {
    let plan = Plan {
        host_lines: vec![
            "zone = \"a\"\ngroups = [\"blue\"]",
            "zone = \"a\"\ngroups = [\"blue\", \"rack-7\"]",
            "zone = \"b\"\ngroups = [\"green\"]",
            "zone = \"b\"\ngroups = [\"green\"]",
        ],
        top: "rules = { min_healthy = \"50%\", one_zone_at_a_time = true }",
        ..Plan::new("l2", 4)
    };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let revision = || site.daemon.cli_json(&["status", "--json"]).unwrap()["revision"].clone();
    let admin = || -> Vec<String> {
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        let hosts = status["hosts"].as_array().unwrap().iter();
        hosts.map(|host| host["admin"].as_str().unwrap().to_owned()).collect()
    };
    let before = revision();
    let (code, plan) = plan_of(&site, &["@blue"]);
    assert_eq!((code, plan["rules"].as_array().unwrap().len()), (Some(0), 0), "{plan}");
    assert_eq!(by_name(&plan["hosts"], "host").into_keys().collect::<Vec<_>>(), ["h1", "h2"]);
    for (args, code, says) in [
        (&["drain", "@bleu"][..], Some(3), "did you mean @blue?"),
        (&["plan", "drain", "@nobody"], Some(3), "there are @blue, @green, @rack-7"),
        (&["undrain", "@zone:z"], Some(3), "no host is in a zone z"),
        (&["plan", "drain", "h9"], Some(3), "no host named h9"),
        (&["plan", "drain"], Some(2), "HOST"),
        // Two services a family and one of UDP: each loses too much.
        (&["drain", "h1", "h3"], RULE, "6 rules would be broken"),
        (&["drain", "h1", "h3"], RULE, "hosts out in zones a and b"),
        (
            &["drain", "@blue", "h3"],
            RULE,
            "25% of its weight healthy (100 of 400, now 400), and min_healthy is 50%",
        ),
        (&["drain", "@blue", "@green"], RULE, "without a host"),
        (&["drain", "@blue", "@green"], RULE, "or give --force"),
        (&["plan", "drain", "h1", "h3"], RULE, "this drain would break 6 rules"),
    ] {
        let output = site.daemon.cli(args).unwrap();
        assert_eq!(output.status.code(), code, "{args:?}: {output:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
    let (code, plan) = plan_of(&site, &["@blue", "@green"]);
    assert_eq!((code, plan["rules"].as_array().unwrap().len()), (RULE, 18), "{plan}");
    let text = site.daemon.cli(&["plan", "drain", "h1"]).unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("no rule would be broken") && text.contains("STAYS"), "{text}");
    assert_eq!((revision(), admin()), (before, vec!["active".to_owned(); 4]), "nothing was done");

    // Within the rules: a zone at once; then not the other, until it is forced.
    site.daemon.cli_ok(&["drain", "@zone:a"]).unwrap();
    assert_eq!(site.daemon.cli(&["drain", "h3"]).unwrap().status.code(), RULE);
    let again = site.daemon.cli(&["drain", "@blue"]).unwrap();
    assert_eq!(again.status.code(), Some(0), "what is out joins its drain: {again:?}");
    site.daemon.cli_ok(&["drain", "@green", "--force", "--reason", "power"]).unwrap();
    assert!(admin().iter().all(|admin| admin != "active"), "{:?}", admin());
    assert!(
        site.daemon.log().contains("forced: draining h3 and h4 would leave service web-v4 without a host")
    );
    site.daemon.cli_ok(&["undrain", "@green", "@blue"]).unwrap();
    assert_eq!(admin(), vec!["active".to_owned(); 4]);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn the_last_hosts_serve_on_where_the_service_wants_it() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    // A change of the policy moves nothing.
    let before = slots(&site);
    let config = std::fs::read_to_string(site.daemon.config_path()).unwrap();
    let changed = config.replace("name = \"web-v4\"\n", "name = \"web-v4\"\nwhen_empty = \"last\"\n");
    assert_ne!(config, changed);
    site.daemon.terminate().unwrap();
    site.daemon.write_config(&changed).unwrap();
    site.daemon.start_again().unwrap();
    let rings = site.daemon.cli_json(&["rings", "--json"]).unwrap();
    assert_eq!(rings["rings"].as_array().unwrap().len(), 2, "{rings}");
    assert!(slots(&site).iter().all(|(name, slots)| *slots == 2 * before[name]), "{:?}", slots(&site));

    let web = requests(&site, 0, WEB, 100);
    assert!(web.wait_for(LIMIT, |counts| counts.ok > 200), "{:?}", web.counts());
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let (code, plan) = plan_of(&site, &["h2", "h3"]);
    let notes = plan["notes"].to_string();
    assert!(code == RULE && notes.contains("h2 and h3 would serve web-v4 on"), "{plan}");
    site.daemon.cli_ok(&["drain", "h2", "h3", "--force"]).unwrap();
    let drained = Instant::now();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(web.counts().failed, 0, "{:?}", web.counts());
    let hosts = web.answered_since(drained);
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["h2", "h3"], "those of the last drain: {hosts:?}");
    // For the other services nobody is left.
    let target = SocketAddr::new(site.vips()[1], WEB);
    let options =
        RequestsOptions { count: 4, patience: Duration::from_secs(1), ..RequestsOptions::new(target) };
    let refused = Requests::start(&site.topology.client().ns, &options).unwrap();
    assert!(refused.wait_for(LIMIT, |counts| counts.ok + counts.failed == 4));
    assert_eq!(refused.finish().unwrap().failed, 4);
    assert_eq!(site.violations().unwrap(), "{}");
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let waiting = by_name(&status["hosts"], "name")["h2"]["drain"]["waiting_for"].to_string();
    assert!(waiting.contains("another host of web-v4"), "{waiting}");

    // The daemon forgets nothing of it.
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    let restarted = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(web.counts().failed, 0, "{:?}", web.counts());
    let hosts = web.answered_since(restarted);
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["h2", "h3"], "{hosts:?}");

    // Somebody is back: now their drains begin to count, and end.
    site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    let back = Instant::now();
    let waited = site.daemon.cli(&["drain", "h2", "h3", "--wait", "--timeout", "40s", "--json"]).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
    let answer: Value = serde_json::from_slice(&waited.stdout).unwrap();
    for drain in answer["drains"].as_array().unwrap() {
        let receipt = &drain["receipt"];
        assert_eq!((&receipt["new_flows"], &receipt["misrouted"]), (&0.into(), &0.into()), "{answer}");
    }
    assert_eq!(web.answered_since(back).into_keys().collect::<Vec<_>>(), ["h1"]);
    assert_eq!(web.finish().unwrap().failed, 0);
    assert_eq!(site.violations().unwrap(), "{}");
}

/// Status and body of a request over the daemon's socket.
fn http(site: &Site, method_and_path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(site.daemon.socket()).unwrap();
    let length = body.len();
    let head = format!("{method_and_path} HTTP/1.1\r\nhost: sluice\r\nconnection: close\r\n");
    let head = format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn programs_ask_and_are_told_every_rule() {
    let plan = Plan { top: "rules = { min_healthy = \"60%\" }", ..Plan::new("l2", 3) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let (status, asked) = http(&site, "GET /v1/plan/drain?host=h1&host=h2", "");
    let (again, posted) = http(&site, "POST /v1/plan/drain", "{\"hosts\": [\"h1\", \"h2\", \"h1\"]}");
    assert_eq!((status, again, &asked["rules"]), (200, 200, &posted["rules"]));
    assert_eq!(posted["hosts"].as_array().unwrap().len(), 2);
    let (status, refused) = http(&site, "POST /v1/drain", "{\"hosts\": [\"h1\", \"h2\"]}");
    assert_eq!((status, &refused["code"], &refused["rules"]), (409, &"rule".into(), &posted["rules"]));
    let rule = &refused["rules"][0];
    let numbers = ["weight", "healthy_before", "healthy_after"].map(|field| rule[field].as_u64().unwrap());
    assert_eq!((&rule["rule"], numbers), (&"min_healthy".into(), [300, 300, 100]));
    assert_eq!(refused["rules"].as_array().unwrap().len(), 6, "one a service");
    let (status, began) = http(&site, "POST /v1/drain", "{\"hosts\": [\"h1\", \"h2\"], \"force\": true}");
    assert_eq!((status, began["drains"].as_array().unwrap().len()), (200, 2));
    for (what, body, expected) in [
        ("POST /v1/plan/drain", "{\"hosts\": []}", 400),
        ("POST /v1/plan/drain", "{\"hosts\": [\"h1\"], \"force\": true}", 400),
        ("GET /v1/plan/drain?hosts=h1", "", 400),
        ("GET /v1/plan/drain?host=h4", "", 404),
        ("DELETE /v1/plan/drain", "", 405),
    ] {
        let (status, answer) = http(&site, what, body);
        assert_eq!(status, expected, "{what} {body}: {answer}");
    }
}
