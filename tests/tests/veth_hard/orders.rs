//! Orders that meet each other, and the config: a drain during a drain, taken back in the middle, of a host that goes and comes, while
//! another one comes.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sluice_tests::site::{ECHO, Plan, Site, WEB, config};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

use super::tools::{LIMIT, ends_well, host};

/// Long connections and short requests on both VIPs.
pub struct Load {
    tcp: Vec<Connections>,
    web: Vec<Requests>,
}

impl Load {
    pub fn start(site: &Site, connections: usize, rate: u32) -> Load {
        let client = &site.topology.client().ns;
        let (mut tcp, mut web) = (Vec::new(), Vec::new());
        for vip in site.vips() {
            let interval = Duration::from_millis(300);
            let echo = ConnectionsOptions::new(SocketAddr::new(vip, ECHO));
            tcp.push(
                Connections::start(client, &ConnectionsOptions { connections, interval, ..echo }).unwrap(),
            );
            let options = RequestsOptions { rate, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
            web.push(Requests::start(client, &options).unwrap());
        }
        for tcp in &tcp {
            assert!(tcp.wait_opened(connections as u64, LIMIT), "{:?}", tcp.counts());
        }
        Load { tcp, web }
    }

    /// Open long connections of a host.
    fn open(&self, host: &str) -> u64 {
        self.tcp.iter().map(|tcp| tcp.counts().hosts.get(host).map_or(0, |host| host.open)).sum()
    }

    /// Ends those of a host.
    fn close(&self, host: &str) {
        for tcp in &self.tcp {
            tcp.close(1.0, Some(host));
        }
    }

    /// Hosts that have answered requests which were begun since then, after two seconds more.
    fn hosts_since(&self, time: Instant) -> Vec<String> {
        sleep(Duration::from_secs(2));
        let mut hosts: Vec<String> =
            self.web.iter().flat_map(|web| web.answered_since(time).into_keys()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Nothing was broken, misrouted or refused; how many requests there were.
    pub fn finish(self, site: &Site) -> u64 {
        for tcp in self.tcp {
            let counts = tcp.finish().unwrap();
            let bad = (counts.broken, counts.missing, counts.missequenced, counts.renamed);
            assert_eq!(bad, (0, 0, 0, 0), "{counts:?}");
        }
        let mut requests = 0;
        for web in self.web {
            let counts = web.finish().unwrap();
            assert_eq!(counts.failed, 0, "{counts:?}");
            requests += counts.ok;
        }
        assert_eq!(site.violations().unwrap(), "{}");
        requests
    }
}

fn admin(site: &Site, hosts: usize) -> Vec<String> {
    let admin = |number| host(site, &format!("h{number}"))["admin"].as_str().unwrap().to_owned();
    (1..=hosts).map(admin).collect()
}

/// The config without a host's section.
fn without(config: &str, host: &str) -> String {
    let (head, tail) = config.split_once(&format!("[hosts.{host}]")).unwrap();
    let rest = tail.find("[hosts.").or_else(|| tail.find("[[services]]")).unwrap();
    format!("{head}{}", &tail[rest..])
}

fn restart(site: &mut Site, config: &str) {
    site.daemon.write_config(config).unwrap();
    assert!(site.daemon.terminate().unwrap().success());
    site.daemon.start_again().unwrap();
}

#[test]
fn a_drain_during_a_drain_and_an_undrain_in_the_middle() {
    let site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    let load = Load::start(&site, 100, 120);
    let id = |name| host(&site, name)["drain"]["id"].clone();
    let open = ["h1", "h2", "h3"].map(|name| load.open(name));
    assert!(open.iter().all(|&open| open > 20), "{open:?}");
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let first = id("h1");
    site.daemon.cli_ok(&["drain", "h2"]).unwrap();
    let both = Instant::now();
    assert_eq!(load.hosts_since(both), ["h3"]);
    assert_eq!(admin(&site, 3), ["draining", "draining", "active"]);
    // Once more the same: it joins.
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    assert_eq!(id("h1"), first);
    site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    let back = Instant::now();
    assert_eq!(load.hosts_since(back), ["h1", "h3"]);
    assert_eq!(admin(&site, 3), ["active", "draining", "active"]);
    let receipt = site.daemon.cli_json(&["receipt", &first.to_string(), "--json"]).unwrap();
    assert_eq!((&receipt["outcome"], &receipt["new_flows"]), (&"undrained".into(), &0.into()), "{receipt}");
    assert!(receipt["left"].as_u64().unwrap() >= open[0], "{receipt}");
    // Another drain of the first, while the second's goes on.
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    assert_ne!(id("h1"), first);
    assert_eq!(["h1", "h2", "h3"].map(|name| load.open(name)), open, "no long connection has ended");
    load.close("h2");
    ends_well(&site, "h2", open[1] as usize);
    assert_eq!(admin(&site, 3), ["draining", "drained", "active"]);
    site.daemon.cli_ok(&["undrain", "h1", "h2"]).unwrap();
    let back = Instant::now();
    assert_eq!(load.hosts_since(back), ["h1", "h2", "h3"]);
    load.finish(&site);
}

#[test]
fn a_host_that_is_drained_removed_and_added_again() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    let all = config(&site.topology, &Plan::new("l2", 3));
    let load = Load::start(&site, 100, 120);
    let open = load.open("h2");
    site.daemon.cli_ok(&["drain", "h2"]).unwrap();
    let drained = Instant::now();
    restart(&mut site, &without(&all, "h2"));
    assert_eq!(load.hosts_since(drained), ["h1", "h3"]);
    assert_eq!(load.open("h2"), open, "its connections go on");
    // It is named again while they do: its drain goes on.
    restart(&mut site, &all);
    assert_eq!(admin(&site, 3), ["active", "draining", "active"]);
    assert_eq!(load.hosts_since(drained), ["h1", "h3"]);
    load.close("h2");
    ends_well(&site, "h2", 1);
    // And once more after its end.
    restart(&mut site, &without(&all, "h2"));
    restart(&mut site, &all);
    assert_eq!(load.hosts_since(drained), ["h1", "h3"]);
    assert_eq!(admin(&site, 3), ["active", "drained", "active"]);
    site.daemon.cli_ok(&["undrain", "h2"]).unwrap();
    let back = Instant::now();
    assert_eq!(load.hosts_since(back), ["h1", "h2", "h3"]);
    load.finish(&site);
}

#[test]
fn a_drain_while_the_ring_is_rebuilt_for_a_new_host() {
    let plan = Plan::new("l2", 4);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let all = config(&site.topology, &plan);
    // It was never there: a journal of its own.
    restart(&mut site, &without(&all, "h4"));
    let load = Load::start(&site, 100, 120);
    let open = load.open("h2");
    assert!(open > 20, "{open}");
    site.daemon.cli_ok(&["drain", "h2"]).unwrap();
    let drained = Instant::now();
    restart(&mut site, &all);
    let rebuilt = Instant::now();
    // Both handovers are open: another host drains meanwhile.
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let both = Instant::now();
    assert_eq!(load.hosts_since(both), ["h3", "h4"]);
    let early = load.web.iter().map(|web| web.answered_between(drained, rebuilt));
    assert!(early.into_iter().all(|hosts| hosts.len() >= 2 && !hosts.contains_key("h2")));
    assert_eq!((load.open("h2"), load.open("h4")), (open, 0));
    load.close("h2");
    ends_well(&site, "h2", open as usize);
    site.daemon.cli_ok(&["undrain", "h1", "h2"]).unwrap();
    let back = Instant::now();
    assert_eq!(load.hosts_since(back), ["h1", "h2", "h3", "h4"]);
    load.finish(&site);
}
