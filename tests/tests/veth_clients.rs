//! A host is drained for the clients of a prefix, under traffic of two clients and both families: new flows of the one go elsewhere, those of
//! the other still come, what lives goes on, and a deadline ends the flows of these clients alone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

const EACH: usize = 60;
/// Of the first client of the topology, by family.
const CLIENTS: [&str; 2] = ["10.77.10.0/24", "fd77::a:0/112"];

/// The part of the answers since then that came from the host.
fn part(requests: &Requests, host: &str, from: Instant) -> f64 {
    let answers = requests.answered_since(from);
    let own = answers.get(host).copied().unwrap_or(0);
    own as f64 / answers.values().sum::<u64>() as f64
}

/// Waits until so many requests since then were answered that their shares are no chance: six standard deviations are less than a tenth.
fn enough(web: &[Requests], from: Instant) {
    for web in web {
        while web.answered_since(from).values().sum::<u64>() < 800 {
            assert!(from.elapsed() < LIMIT, "{:?}", web.counts());
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

#[test]
fn a_host_is_drained_for_some_clients_under_load() {
    let mut site = Site::start(Topology::builder().clients(2), &Plan::new("l2", 3)).unwrap();
    // By client and family.
    let (mut tcp, mut web) = (Vec::new(), Vec::new());
    for client in site.topology.clients() {
        for vip in site.vips() {
            let options = ConnectionsOptions {
                connections: EACH,
                interval: Duration::from_millis(500),
                ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
            };
            tcp.push(Connections::start(&client.ns, &options).unwrap());
            let options = RequestsOptions { rate: 100, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
            web.push(Requests::start(&client.ns, &options).unwrap());
        }
    }
    for tcp in &tcp {
        assert!(tcp.wait_opened(EACH as u64, LIMIT), "{:?}", tcp.counts());
    }
    // Until the balancer has seen every flow for longer than a flow may be silent.
    std::thread::sleep(Duration::from_secs(7));
    let open = |tcp: &Connections| tcp.counts().hosts.get("h2").map_or(0, |host| host.open);
    let at_host: Vec<u64> = tcp.iter().map(open).collect();
    assert!(at_host.iter().all(|open| *open > 5), "{at_host:?}");

    let plan = site.daemon.cli_ok(&["plan", "drain", "h2", "--clients", CLIENTS[0]]).unwrap();
    assert!(plan.contains("for clients 10.77.10.0/24 alone"), "{plan}");
    for clients in CLIENTS {
        let text =
            site.daemon.cli_ok(&["drain", "h2", "--clients", clients, "--reason", "slow path"]).unwrap();
        assert!(text.contains(&format!("h2 for clients {clients}: draining (drain ")), "{text}");
    }
    let drained = Instant::now();
    let status = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("of h2 for clients 10.77.10.0/24: "), "{status}");
    site.daemon.sigkill();
    std::thread::sleep(Duration::from_secs(2));
    site.daemon.start_again().unwrap();
    enough(&web, drained);
    assert_eq!(tcp.iter().map(open).collect::<Vec<_>>(), at_host, "they go on");
    for (number, web) in web.iter().enumerate() {
        let measured = part(web, "h2", drained);
        println!("client {} by IPv{}: {measured:.3} of the new flows", number / 2 + 1, 4 + number % 2 * 2);
        if number < 2 {
            assert_eq!(measured, 0.0, "from when the drain call returned");
        } else {
            assert!((measured - 1.0 / 3.0).abs() < 0.1, "{measured}");
        }
    }

    // Those over IPv4 end by themselves.
    tcp[0].close(1.0, Some("h2"));
    let wait = ["drain", "h2", "--clients", CLIENTS[0], "--wait", "--timeout", "40s", "--json"];
    let waited = site.daemon.cli(&wait).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
    let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    let receipt = &answer["drains"][0]["receipt"];
    println!("{receipt}");
    assert_eq!(
        (&receipt["clients"], &receipt["new_flows"], &receipt["misrouted"]),
        (&CLIENTS[0].into(), &0.into(), &0.into()),
        "{answer}"
    );
    assert!(receipt["ended"].as_u64().unwrap() >= at_host[0], "{answer}");

    let drained_one = ["wait", "h2", "--clients", CLIENTS[0], "--for", "drained", "--timeout", "5s"];
    assert_eq!(site.daemon.cli_ok(&drained_one).unwrap(), "h2 for clients 10.77.10.0/24 (drained)\n");

    // Those over IPv6 are reset.
    let reset = ["drain", "h2", "--clients", CLIENTS[1], "--deadline", "1s", "--at-deadline", "reset"];
    let reset = [&reset[..], &["--wait", "--timeout", "40s", "--json"]].concat();
    let waited = site.daemon.cli(&reset).unwrap();
    assert_eq!(waited.status.code(), Some(6), "{waited:?}\n{}", site.daemon.log());
    let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    let receipt = &answer["drains"][0]["receipt"];
    println!("{receipt}");
    assert_eq!((&receipt["outcome"], &receipt["left"]), (&"reset".into(), &0.into()), "{answer}");
    assert!(receipt["reset"].as_u64().unwrap() >= at_host[1], "{answer}");
    assert_eq!(tcp[1].counts().broken, at_host[1], "each of them, and no other");

    let receipts = site.daemon.cli_ok(&["receipts"]).unwrap();
    assert!(receipts.contains("h2 for clients 10.77.10.0/24"), "{receipts}");
    let events = site.daemon.cli_ok(&["events", "--event", "drained"]).unwrap();
    assert!(events.contains("drained h2 for clients fd77::a:0/112: reset (drain "), "{events}");
    for clients in CLIENTS {
        site.daemon.cli_ok(&["undrain", "h2", "--clients", clients]).unwrap();
    }
    let back = Instant::now();
    enough(&web, back);
    for web in &web {
        let measured = part(web, "h2", back);
        assert!((measured - 1.0 / 3.0).abs() < 0.1, "{measured}");
    }
    for (number, tcp) in tcp.into_iter().enumerate() {
        let counts = tcp.finish().unwrap();
        let reset = if number == 1 { at_host[1] } else { 0 };
        assert_eq!((counts.broken, counts.open), (reset, 0), "{number}: {counts:?}");
    }
    for web in web {
        assert_eq!(web.finish().unwrap().failed, 0);
    }
    assert_eq!(site.violations().unwrap(), "{}");
}
