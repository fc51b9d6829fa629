//! A part of a host is drained under traffic: it gets less of the new flows, what lives goes on, and the drain ends with the flows in the
//! slots that it gave up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

/// The part of the answers since then that came from the host.
fn part(requests: &[Requests], host: &str, from: Instant) -> f64 {
    let (mut own, mut all) = (0, 0);
    for answers in requests.iter().map(|requests| requests.answered_since(from)) {
        own += answers.get(host).copied().unwrap_or(0);
        all += answers.values().sum::<u64>();
    }
    own as f64 / all as f64
}

/// As [`part`], once so many were answered that it is no chance: six standard deviations are about 0.05 of a sixth.
fn part_of_many(requests: &[Requests], host: &str, from: Instant) -> f64 {
    let answered = || -> u64 {
        requests.iter().map(|requests| requests.answered_since(from).values().sum::<u64>()).sum()
    };
    let begun = Instant::now();
    while answered() < 2000 {
        assert!(begun.elapsed() < LIMIT, "{} answered", answered());
        std::thread::sleep(Duration::from_millis(250));
    }
    part(requests, host, from)
}

#[test]
fn half_of_a_host_is_drained_under_load() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    let client = site.topology.client().ns.clone();
    let (mut tcp, mut web) = (Vec::new(), Vec::new());
    for vip in site.vips() {
        let interval = Duration::from_millis(500);
        let options = ConnectionsOptions {
            connections: 150,
            interval,
            ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
        };
        tcp.push(Connections::start(&client, &options).unwrap());
        let options = RequestsOptions { rate: 150, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
        web.push(Requests::start(&client, &options).unwrap());
    }
    for tcp in &tcp {
        assert!(tcp.wait_opened(150, LIMIT), "{:?}", tcp.counts());
    }
    // Until the balancer has seen every flow for longer than a flow may be silent.
    std::thread::sleep(Duration::from_secs(7));
    let open = |tcp: &[Connections]| -> u64 { tcp.iter().map(|tcp| tcp.counts().hosts["h2"].open).sum() };
    let at_host = open(&tcp);

    let text = site.daemon.cli_ok(&["drain", "h2", "--share", "50%", "--reason", "hot"]).unwrap();
    let drained = Instant::now();
    assert!(text.contains("h2: draining (drain 1), gives up 50% of its slots, where "), "{text}");
    let waited = site.daemon.cli(&["drain", "h2", "--share", "50%", "--wait", "--timeout", "3s"]).unwrap();
    assert_eq!(waited.status.code(), Some(5), "{waited:?}");
    assert_eq!(open(&tcp), at_host, "they go on");
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    let measured = part_of_many(&web, "h2", drained);
    println!("{measured:.3} of the new flows with half of its slots");
    assert!((measured - 1.0 / 6.0).abs() < 0.05, "{measured}");

    for tcp in &tcp {
        tcp.close(1.0, Some("h2"));
    }
    let waited =
        site.daemon.cli(&["drain", "h2", "--share", "50%", "--wait", "--timeout", "30s", "--json"]).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
    let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    let receipt = &answer["drains"][0]["receipt"];
    println!("{receipt}");
    assert_eq!(
        (&receipt["outcome"], &receipt["order"]["share"]),
        (&"drained".into(), &50.into()),
        "{answer}"
    );
    let ended = receipt["ended"].as_u64().unwrap();
    assert!(ended * 4 > at_host, "{ended} of {at_host}");
    let kept = Instant::now();
    let measured = part_of_many(&web, "h2", kept);
    assert!((measured - 1.0 / 6.0).abs() < 0.06, "it goes on with the other half: {measured}");

    // A deadline is for whole hosts.
    let refused = site.daemon.cli(&["drain", "h1", "--share", "50%", "--deadline", "1m"]).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");

    site.daemon.cli_ok(&["drain", "h2"]).unwrap();
    let whole = Instant::now();
    assert_eq!(part_of_many(&web, "h2", whole), 0.0);
    site.daemon.cli_ok(&["undrain", "h2"]).unwrap();
    let back = Instant::now();
    let measured = part_of_many(&web, "h2", back);
    assert!((measured - 1.0 / 3.0).abs() < 0.07, "{measured}");
    for tcp in tcp {
        let counts = tcp.finish().unwrap();
        assert_eq!((counts.broken, counts.missing, counts.open), (0, 0, 0), "{counts:?}");
    }
    for web in web {
        let counts = web.finish().unwrap();
        assert_eq!(counts.failed, 0, "{counts:?}");
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn one_service_of_a_host_is_drained_under_load() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    let client = site.topology.client().ns.clone();
    let vip = site.vips()[0];
    let interval = Duration::from_millis(500);
    let options = ConnectionsOptions {
        connections: 150,
        interval,
        ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
    };
    let tcp = Connections::start(&client, &options).unwrap();
    let web = [Requests::start(&client, &RequestsOptions::new(SocketAddr::new(vip, WEB))).unwrap()];
    assert!(tcp.wait_opened(150, LIMIT), "{:?}", tcp.counts());
    std::thread::sleep(Duration::from_secs(7));
    let at_host = tcp.counts().hosts["h2"].open;

    let plan = site.daemon.cli_ok(&["plan", "drain", "h2", "--service", "echo-v4"]).unwrap();
    assert!(plan.contains("for echo-v4 alone") && plan.contains("h1") && plan.contains("h3"), "{plan}");
    let text = site.daemon.cli_ok(&["drain", "h2", "--service", "echo-v4"]).unwrap();
    let drained = Instant::now();
    assert!(text.contains("h2 for echo-v4: draining (drain 1), gets no new flows; "), "{text}");
    assert!(site.daemon.cli_ok(&["status"]).unwrap().contains("drain 1 of h2 for echo-v4: "));
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    assert_eq!(tcp.counts().hosts["h2"].open, at_host, "they go on");
    tcp.close(1.0, Some("h2"));
    let wait = ["drain", "h2", "--service", "echo-v4", "--wait", "--timeout", "30s", "--json"];
    let waited = site.daemon.cli(&wait).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
    let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    let receipt = &answer["drains"][0]["receipt"];
    assert_eq!((&receipt["service"], &receipt["new_flows"]), (&"echo-v4".into(), &0.into()), "{answer}");
    assert!(receipt["ended"].as_u64().unwrap() >= at_host, "{answer}");
    assert_eq!(tcp.counts().hosts["h2"].open, 0);
    let drained_one = ["wait", "h2", "--service", "echo-v4", "--for", "drained", "--timeout", "5s"];
    assert_eq!(site.daemon.cli_ok(&drained_one).unwrap(), "h2 for echo-v4 (drained)\n");
    let elsewhere = ["wait", "h2", "--service", "web-v4", "--for", "drained", "--timeout", "1s"];
    assert_eq!(site.daemon.cli(&elsewhere).unwrap().status.code(), Some(5));
    let events = site.daemon.cli_ok(&["events", "--event", "drained"]).unwrap();
    assert!(events.contains("drained h2 for echo-v4: drained (drain 1, "), "{events}");
    let receipts = site.daemon.cli_ok(&["receipts"]).unwrap();
    assert!(receipts.contains("h2 for echo-v4"), "{receipts}");
    let shown = site.daemon.cli_ok(&["drains", "h2", "--service", "echo-v4"]).unwrap();
    assert!(shown.contains("h2 for echo-v4: drained"), "{shown}");
    let measured = part_of_many(&web, "h2", drained);
    assert!((measured - 1.0 / 3.0).abs() < 0.06, "the other service goes on: {measured}");
    site.daemon.cli_ok(&["undrain", "h2", "--service", "echo-v4"]).unwrap();
    let options =
        ConnectionsOptions { connections: 60, ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO)) };
    let back = Connections::start(&client, &options).unwrap();
    assert!(back.wait_opened(60, LIMIT), "{:?}", back.counts());
    assert!(back.counts().hosts["h2"].open > 5, "{:?}", back.counts());
    assert_eq!(back.finish().unwrap().broken, 0);
    let counts = tcp.finish().unwrap();
    assert_eq!((counts.broken, counts.missing, counts.open), (0, 0, 0), "{counts:?}");
    for web in web {
        assert_eq!(web.finish().unwrap().failed, 0);
    }
    assert_eq!(site.violations().unwrap(), "{}");
}
