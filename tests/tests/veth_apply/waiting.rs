//! A config that is to be confirmed: kept if it is, taken back if not, whoever has died meanwhile.

use std::net::{TcpListener, TcpStream};

use sluice_tests::health::busy;

use super::*;

/// The weight of h1 that is in force.
fn weight(site: &Site) -> u64 {
    status(site)["hosts"][0]["weight"].as_u64().unwrap()
}

fn heavier(site: &Site, plan: &Plan) -> String {
    site::config(&site.topology, plan).replacen("weight = 100", "weight = 300", 1)
}

fn last(site: &Site) -> Value {
    site.daemon.cli_json(&["history", "-n", "1", "--json"]).unwrap()["revisions"][0].clone()
}

#[test]
fn what_nobody_confirms_is_taken_back() {
    let plan = Plan::new("l2", 3);
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let load = Load::start(&site, 100);
    let rings = site.daemon.cli_json(&["rings", "--json"]).unwrap();
    let asked = Instant::now();
    let done = apply_json(&site, &heavier(&site, &plan), &["--confirm", "20s"]);
    let (revision, began) = (done["revision"].as_u64().unwrap(), Instant::now());
    assert_eq!(weight(&site), 300);
    let problems = status(&site)["problems"].to_string();
    assert!(problems.contains("sluice confirm"), "{problems}");
    // One at a time.
    let second = apply(&site, &without(&site, &plan, &["h3"]), &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("waits for its confirmation"), "{}", stderr(&second));
    assert!(stderr(&second).contains("sluice rollback"), "{}", stderr(&second));
    wait_for("it is taken back", || weight(&site) == 100);
    // The time is counted in whole seconds, and begins before the answer.
    assert!(asked.elapsed() >= Duration::from_secs(19), "{:?}", asked.elapsed());
    assert!(began.elapsed() < Duration::from_secs(22) + busy(), "{:?}", began.elapsed());
    assert_eq!(
        (last(&site)["kind"].clone(), last(&site)["reason"].clone()),
        ("rollback".into(), "not confirmed in time".into())
    );
    let shown = site.daemon.cli_json(&["show", &revision.to_string(), "--json"]).unwrap();
    assert!(shown["outcome"].as_str().unwrap().starts_with("taken back by revision"), "{shown}");
    assert_eq!(shown["changes"][0]["fields"][0]["to"], "300");
    // The very rings of before: slots are a function of what the config says.
    let owners = |rings: &Value| -> Vec<Value> {
        let rings = rings["rings"].as_array().unwrap();
        rings
            .iter()
            .flat_map(|ring| ring["members"].as_array().unwrap())
            .map(|member| member["slots"].clone())
            .collect()
    };
    assert_eq!(owners(&rings), owners(&site.daemon.cli_json(&["rings", "--json"]).unwrap()));
    let late = site.daemon.cli(&["confirm"]).unwrap();
    assert_eq!(late.status.code(), Some(1));
    assert!(stderr(&late).contains("no config waits"), "{}", stderr(&late));
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}

/// The config that is to come back listens where another program does by now: it comes back, and its metrics follow.
#[test]
fn what_is_taken_back_does_not_wait_for_a_port() {
    let plan = Plan::new("l2", 2);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let ns = site.topology.balancer().ns.clone();
    let metrics = |text: String, port: u16| format!("{text}[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let problem = "[metrics] cannot listen on 127.0.0.1:9464";
    let tells = |site: &Site| status(site)["problems"].to_string().contains(problem);
    apply_json(&site, &metrics(site::config(&site.topology, &plan), 9464), &[]);
    apply_json(&site, &metrics(heavier(&site, &plan), 9465), &["--confirm", "20s"]);
    let mut other = None;
    wait_for("the port is free", || {
        other = ns.enter(|| TcpListener::bind("127.0.0.1:9464").ok()).unwrap();
        other.is_some()
    });
    wait_for("it is taken back", || weight(&site) == 100);
    wait_for("it is told", || tells(&site));
    // Nor does a start wait for it.
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    assert!(tells(&site), "{}", site.daemon.log());
    drop(other);
    wait_for("it is tried again", || !tells(&site));
    ns.enter(|| TcpStream::connect("127.0.0.1:9464").unwrap()).unwrap();
}

#[test]
fn what_is_confirmed_stays_and_can_be_gone_back_from() {
    let plan = Plan::new("l2", 3);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let load = Load::start(&site, 100);
    let first = status(&site)["config_in_force"]["revision"].as_u64().unwrap();
    let done = apply_json(&site, &heavier(&site, &plan), &["--confirm", "20s", "--by", "ann"]);
    assert_eq!(last(&site)["by"], "ann");
    let other = site.daemon.cli(&["confirm", &first.to_string()]).unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(stderr(&other).contains("does not wait for its confirmation"), "{}", stderr(&other));
    let revision = done["revision"].to_string();
    assert!(status(&site)["problems"].to_string().contains(&format!("sluice confirm {revision}")));
    site.daemon.cli_ok(&["confirm", &revision, "--reason", "fine"]).unwrap();
    std::thread::sleep(Duration::from_secs(21));
    assert_eq!(weight(&site), 300);
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    assert_eq!(weight(&site), 300, "confirmed, so it outlives the daemon");
    // Back to the first one by its number, and from there to the other by none.
    let dry = site.daemon.cli_json(&["rollback", &first.to_string(), "--dry-run", "--json"]).unwrap();
    assert_eq!(
        (&dry["revision"], &dry["plan"]["changes"][0]["fields"][0]["to"]),
        (&Value::Null, &"100".into())
    );
    assert_eq!(weight(&site), 300);
    site.daemon.cli_ok(&["rollback", &first.to_string(), "--reason", "too heavy"]).unwrap();
    assert_eq!((weight(&site), last(&site)["kind"].clone()), (100, "rollback".into()));
    site.daemon.cli_ok(&["rollback"]).unwrap();
    assert_eq!(weight(&site), 300);
    let diff = site.daemon.cli_json(&["diff", &first.to_string(), "--json"]).unwrap();
    assert_eq!(diff["changes"].as_array().unwrap().len(), 1, "{diff}");
    assert_eq!(site.daemon.cli(&["rollback", "9999"]).unwrap().status.code(), Some(3));
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_daemon_that_was_killed_before_takes_it_back_at_its_start() {
    let plan = Plan::new("l2", 3);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let load = Load::start(&site, 100);
    // The daemon's own file itself was edited, and is applied: what it says is not to come back by itself.
    site.daemon.write_config(&heavier(&site, &plan)).unwrap();
    let own = site.daemon.config_path();
    site.daemon.cli_ok(&["apply", own.to_str().unwrap(), "--confirm", "40s"]).unwrap();
    let applied = Instant::now();
    assert_eq!(weight(&site), 300);
    site.daemon.sigkill();
    // There is time left: it goes on to wait.
    site.daemon.start_again().unwrap();
    assert_eq!(weight(&site), 300);
    site.daemon.sigkill();
    std::thread::sleep(Duration::from_secs(41).saturating_sub(applied.elapsed()));
    site.daemon.start_again().unwrap();
    assert_eq!(weight(&site), 100, "{}", site.daemon.log());
    assert!(status(&site)["problems"].to_string().contains("not that of"), "the file still says otherwise");
    let kinds: Vec<Value> = site.daemon.cli_json(&["history", "--json"]).unwrap()["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .take(2)
        .map(|revision| revision["kind"].clone())
        .collect();
    assert_eq!(kinds, ["start", "rollback"]);
    // And once more nothing changes; but a file that is edited is news.
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    assert_eq!(weight(&site), 100);
    site.daemon.sigkill();
    site.daemon.write_config(&heavier(&site, &plan).replacen("weight = 300", "weight = 200", 1)).unwrap();
    site.daemon.start_again().unwrap();
    assert_eq!((weight(&site), last(&site)["kind"].clone()), (200, "start".into()));
    assert!(last(&site)["summary"].as_str().unwrap().contains("another config: ~h1"), "{}", last(&site));
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}
