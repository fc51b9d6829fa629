//! `sluice trace` and `sluice capture` over a real site: what is shown is what happened, a flood does no harm, and packets, flows and drains
//! go on whoever comes and goes.

mod capture;
mod tools;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::servers::next_sluice_binary;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::{Layout, Topology};
use sluice_tests::traffic::{Connections, ConnectionsOptions, UdpFlows, UdpFlowsOptions};

use tools::{LIMIT, Trace, attached, is_traced, wait_for};

fn site(hosts: usize) -> Site {
    // No flow ends by its silence meanwhile.
    Site::start(Topology::builder(), &Plan { timeouts: [60, 120, 60, 60], ..Plan::new("l2", hosts) }).unwrap()
}

/// The name of the host that answers a request.
fn curl(site: &Site, vip: SocketAddr) -> String {
    let request = format!("curl -s --max-time 10 http://{vip}/");
    site.topology.client().ns.shell(&request).unwrap().trim().to_owned()
}

/// Whether the answer is a host's: nginx says its name in it.
fn host_of(answer: &str) -> String {
    let names = ["h1", "h2", "h3"].into_iter().filter(|name| answer.contains(name));
    let names: Vec<&str> = names.collect();
    assert_eq!(names.len(), 1, "{answer:?}");
    names[0].to_owned()
}

/// How often the program that traces was attached.
fn swaps(site: &Site) -> usize {
    site.daemon.log().matches("the program that traces is attached").count()
}

#[test]
fn what_is_shown_is_what_happened() {
    let site = site(2);
    for vip in site.vips() {
        let vip = SocketAddr::new(vip, WEB);
        let service = if vip.is_ipv4() { "web-v4" } else { "web-v6" };
        let before = attached(&site);
        let mut trace = Trace::start(&site, &["tcp", "--vip", &vip.to_string(), "--json", "--rate", "10000"]);
        trace.wait_begun();
        assert!(is_traced(&site));
        let hosts: Vec<String> = (0..5).map(|_| host_of(&curl(&site, vip))).collect();
        let packets = trace.end(&site);
        assert_eq!(attached(&site), before, "the very program from before");
        let of = |reason: &str| packets.iter().filter(|packet| packet["reason"] == reason).count();
        assert_eq!(of("forward_new"), 5, "{packets:#?}");
        assert!(of("forward_pin") >= 5 * 3, "{packets:#?}");
        assert_eq!(of("forward_new") + of("forward_pin"), packets.len(), "{packets:#?}");
        // One SYN each, in the order of the requests, to who has answered.
        let syns = packets.iter().filter(|packet| packet["signal"] == "syn");
        let shown: Vec<&Value> = syns.clone().map(|packet| &packet["host"]).collect();
        assert_eq!(shown, hosts.iter().collect::<Vec<_>>());
        for (syn, later) in
            syns.map(|syn| (syn, packets.iter().filter(move |later| later["from"] == syn["from"])))
        {
            // The kernel may have given a port again whose flow is closing.
            let is_new = syn["pin"].is_null() || syn["pin"]["phase"] == "closing";
            assert!(is_new && syn["pin_change"] == "made", "{syn}");
            for packet in later {
                let expected = (&syn["host"], &service.into(), &"l2".into(), &syn["slot"]);
                let found = (&packet["host"], &packet["service"], &packet["forward"], &packet["slot"]);
                assert_eq!(found, expected, "{packet}");
                assert_eq!(packet["frame_in"], Value::Null, "nobody asked for bytes");
            }
        }
        let times: Vec<u64> = packets
            .iter()
            .map(|packet| {
                packet["at"].as_u64().unwrap() * 1_000_000_000 + packet["nanoseconds"].as_u64().unwrap()
            })
            .collect();
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(times.iter().all(|at| (now - 120_000_000_000..now).contains(at)), "{times:?} {now}");
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn lines_for_people_and_refusals_say_what_to_do() {
    let site = site(2);
    let vip = SocketAddr::new(site.vips()[0], WEB);
    let mut trace = Trace::start(&site, &["--service", "web-v4", "--reason", "forward_new", "--count", "1"]);
    trace.wait_begun();
    let host = host_of(&curl(&site, vip));
    let (text, said) = trace.wait_text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&format!("-> {vip}, SYN, ")), "{text}");
    wait_for("the program for traffic is back", || !is_traced(&site));
    assert!(text.contains(&format!("forward_new to {host} by l2 (service web-v4, slot ")), "{text}");
    assert!(said.contains("1 of ") && said.contains(" shown"), "{said}");
    for (args, code, what) in [
        (&["--service", "wbe"][..], 3, "there is no service named wbe"),
        (&["--host", "h9"], 3, "there is no host named h9"),
        (&["--client", "nobody"], 1, "write it like"),
        (&["--reason", "forward_pni"], 1, "did you mean forward_pin?"),
        (&["--rate", "0"], 2, "--rate"),
        (&["sctp"], 2, "sctp"),
    ] {
        let swaps = swaps(&site);
        let output = site.daemon.cli(&[&["trace"], args].concat()).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(code) && said.contains(what),
            "{args:?}: {:?} {said}",
            output.status
        );
        assert_eq!(self::swaps(&site), swaps, "{args:?}: no program is exchanged for who is refused");
    }
}

/// Each has a filter and a sample of its own, and one who comes too late is told.
#[test]
fn four_trace_at_once_and_each_is_shown_its_own() {
    let site = site(2);
    let [v4, v6] = site.vips().map(|vip| SocketAddr::new(vip, ECHO));
    let (sent, flows) = (400, 4);
    let mut traces = [
        Trace::start(&site, &["udp", "--vip", &v4.to_string(), "--json", "--rate", "10000"]),
        Trace::start(&site, &["udp", "--vip", &v6.to_string(), "--json", "--rate", "10000"]),
        Trace::start(
            &site,
            &["udp", "--sample", "10", "--json", "--rate", "10000", "--service", "echo-udp-v4"],
        ),
        Trace::start(&site, &["tcp", "--json"]),
    ];
    traces.iter_mut().for_each(Trace::wait_begun);
    let fifth = site.daemon.cli(&["trace"]).unwrap();
    let said = String::from_utf8_lossy(&fifth.stderr).into_owned();
    assert!(fifth.status.code() == Some(1) && said.contains("4 trace already"), "{said}");
    for vip in [v4, v6] {
        let options =
            UdpFlowsOptions { flows, interval: Duration::from_millis(20), ..UdpFlowsOptions::new(vip) };
        let udp = UdpFlows::start(&site.topology.client().ns, &options).unwrap();
        wait_for("datagrams", || udp.counts().sent >= sent);
        let counts = site.finish_udp(udp);
        assert_eq!(counts.moved, 0, "{counts:?}");
    }
    let [of_v4, of_v6, sampled, tcp] = traces.map(|trace| trace.end_counted());
    for (trace, vip) in [(&of_v4, v4), (&of_v6, v6)] {
        assert!(trace.packets.len() as u64 >= sent, "{}", trace.packets.len());
        assert!(trace.packets.iter().all(|packet| packet["to"] == vip.to_string()));
        let new = trace.packets.iter().filter(|packet| packet["reason"] == "forward_new").count();
        assert_eq!(new, flows);
        assert_eq!(trace.count("wanted"), trace.packets.len() as u64);
    }
    let (shown, wanted) = (sampled.packets.len() as u64, sampled.count("wanted"));
    assert_eq!(wanted, of_v4.packets.len() as u64);
    assert_eq!(shown + sampled.count("sampled"), wanted);
    // One of ten on each CPU, the first of them too.
    assert!((wanted / 10..=wanted / 10 + 8).contains(&shown), "{shown} of {wanted}");
    assert_eq!(tcp.packets, Vec::<Value>::new());
    wait_for("the program for traffic is back", || !is_traced(&site));
    let events = site.daemon.cli_ok(&["events", "--event", "trace_began", "--event", "trace_ended"]).unwrap();
    assert_eq!(
        (events.matches("trace_began").count(), events.matches("trace_ended").count()),
        (4, 4),
        "{events}"
    );
    assert!(events.contains("udp, service echo-udp-v4, 1 of 10"), "{events}");
}

/// Far more packets than are shown: the rate holds, the rest is counted to the last packet, and datagrams get through.
#[test]
fn a_flood_is_shown_by_the_rate_and_counted() {
    let site = site(2);
    let vip = SocketAddr::new(site.vips()[0], ECHO);
    let mut trace = Trace::start(&site, &["udp", "--vip", &vip.to_string(), "--json", "--rate", "50"]);
    trace.wait_begun();
    let options =
        UdpFlowsOptions { flows: 200, interval: Duration::from_millis(40), ..UdpFlowsOptions::new(vip) };
    let begun = Instant::now();
    let udp = UdpFlows::start(&site.topology.client().ns, &options).unwrap();
    wait_for("a flood", || udp.counts().sent >= 10_000);
    let counts = site.finish_udp(udp);
    let seconds = begun.elapsed().as_secs() + 2;
    assert_eq!(counts.moved, 0, "{counts:?}");
    let ended = trace.end_counted();
    let shown = ended.packets.len() as u64;
    assert!((50..=50 * seconds).contains(&shown), "{shown} in {seconds} s");
    // Datagrams that the machine itself lost on their way to the balancer have not been seen there.
    let wanted = ended.count("wanted");
    assert!(wanted <= counts.sent && wanted + counts.lost >= counts.sent, "{wanted}: {counts:?}");
    let missing: u64 =
        ["sampled", "over_rate", "no_room", "too_slow"].map(|kind| ended.count(kind)).iter().sum();
    assert_eq!(shown + missing, wanted);
    assert_eq!(ended.count("over_rate"), missing);
    assert!(
        ended.said.contains("not shown so far") && ended.said.contains("over the rate"),
        "{}",
        ended.said
    );
    assert_eq!(site.violations().unwrap(), "{}");
}

/// The program is swapped twenty times each way under numbered datagrams and open connections, while a host is drained.
#[test]
fn nothing_is_lost_when_tracing_comes_and_goes() {
    swapped_under_load("l2", Layout::Flat);
}

/// By `nat` all that goes back takes the way of packets that are not plain, which the program for traffic calls another for.
#[test]
fn nothing_is_lost_of_answers_when_tracing_comes_and_goes() {
    swapped_under_load("nat", Layout::Routed);
}

fn swapped_under_load(forward: &'static str, layout: Layout) {
    let plan = Plan { timeouts: [60, 120, 2, 5], ..Plan::new(forward, 3) };
    let site = Site::start(Topology::builder().layout(layout), &plan).unwrap();
    let client = &site.topology.client().ns;
    let vip = SocketAddr::new(site.vips()[0], ECHO);
    // Thousands of datagrams a second, which a gap of a millisecond would show.
    let interval = Duration::from_millis(10);
    let options = UdpFlowsOptions { flows: 40, interval, ..UdpFlowsOptions::new(vip) };
    let udp = UdpFlows::start(client, &options).unwrap();
    let options = ConnectionsOptions { connections: 60, interval, ..ConnectionsOptions::new(vip) };
    let tcp = Connections::start(client, &options).unwrap();
    assert!(tcp.wait_opened(60, LIMIT), "{:?}", tcp.counts());
    for round in 0..20 {
        let args = ["trace", "--json", "--count", "20", "--for", "60s"];
        let late = if round % 2 == 0 { &[][..] } else { &["--verdict", "transmit", "--verdict", "redirect"] };
        let text = site.daemon.cli_ok(&[&args, late].concat()).unwrap();
        assert_eq!(text.matches("\"message\":\"packet\"").count(), 20, "{text}");
        if round == 5 {
            site.daemon.cli_ok(&["drain", "h3"]).unwrap();
        }
        wait_for("the program for traffic is back", || !is_traced(&site));
    }
    tcp.close(1.0, Some("h3"));
    let counts = site.finish_udp(udp);
    assert!(counts.sent > 5000 && counts.moved == 0, "{counts:?}");
    let waited = site.daemon.cli(&["drain", "h3", "--wait", "--timeout", "90s"]).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
    let counts = tcp.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_client_that_is_killed_stops_it() {
    let site = site(1);
    let before = attached(&site);
    let mut trace = Trace::start(&site, &["--json"]);
    trace.wait_begun();
    assert!(is_traced(&site));
    let tracers = || site.daemon.cli_json(&["status", "--json"]).unwrap()["tracers"].clone();
    assert_eq!((&tracers()[0]["by"], &tracers()[0]["filter"]), (&"root".into(), &"all packets".into()));
    trace.kill();
    wait_for("the program for traffic is back", || attached(&site) == before);
    assert_eq!(tracers().as_array().map(Vec::len), Some(0));
    let events = site.daemon.cli_ok(&["events", "--event", "trace_ended"]).unwrap();
    assert_eq!(events.lines().count(), 1, "{events}");
}

/// Packets go on by the program that traces; the next daemon has the one for traffic, whatever the one before had attached.
#[test]
fn a_daemon_that_is_killed_meanwhile_leaves_nothing_that_lasts() {
    let mut site = site(2);
    let client = site.topology.client().ns.clone();
    let vip = SocketAddr::new(site.vips()[0], ECHO);
    let options =
        UdpFlowsOptions { flows: 40, interval: Duration::from_millis(10), ..UdpFlowsOptions::new(vip) };
    let udp = UdpFlows::start(&client, &options).unwrap();
    let options = ConnectionsOptions { connections: 40, ..ConnectionsOptions::new(vip) };
    let tcp = Connections::start(&client, &options).unwrap();
    assert!(tcp.wait_opened(40, LIMIT), "{:?}", tcp.counts());
    let mut trace = Trace::start(&site, &["tcp", "--json"]);
    trace.wait_begun();
    site.daemon.sigkill();
    let code = trace.wait_code();
    assert_eq!(code, Some(4), "the daemon is gone");
    assert!(is_traced(&site), "nobody was there to swap it");
    let answered = udp.counts().answered;
    wait_for("answers without a daemon", || udp.counts().answered > answered + 2000);
    assert_eq!(host_of(&curl(&site, SocketAddr::new(site.vips()[0], WEB))).len(), 2, "new flows begin");
    site.daemon.start_again().unwrap();
    assert!(!is_traced(&site));
    // And it can be traced again.
    let text = site.daemon.cli_ok(&["trace", "udp", "--json", "--count", "5", "--for", "60s"]).unwrap();
    assert_eq!(text.matches("\"message\":\"packet\"").count(), 5, "{text}");
    // One that is asked to end takes its program along.
    let mut trace = Trace::start(&site, &["udp", "--json"]);
    trace.wait_begun();
    let ended = |site: &Site| site.daemon.log().matches("does not trace udp any more").count();
    // The one before is told of when its program is gone.
    wait_for("an end", || ended(&site) == 1);
    let before = ended(&site);
    assert!(site.daemon.terminate().unwrap().success());
    assert_eq!(trace.wait_code(), Some(4));
    assert!(trace.said().contains("the daemon ends"), "{}", trace.said());
    assert_eq!(ended(&site), before + 1, "who traces to the end is told of, too");
    assert!(!is_traced(&site));
    site.daemon.start_again().unwrap();
    // The next daemon may be of another version, with other maps, and the one after it of the old one.
    let binaries = [next_sluice_binary().unwrap(), site.daemon.binary().to_owned()];
    for binary in &binaries {
        let mut trace = Trace::start(&site, &["tcp", "--json"]);
        trace.wait_begun();
        site.daemon.sigkill();
        assert_eq!(trace.wait_code(), Some(4));
        assert!(is_traced(&site));
        site.daemon.use_binary(binary);
        let taken_over = |site: &Site| site.daemon.log().matches("took over the data path of").count();
        let before = taken_over(&site);
        site.daemon.start_again().unwrap();
        assert!(!is_traced(&site));
        assert_eq!(taken_over(&site), before + 1, "{}", site.daemon.log());
        let text = site.daemon.cli_ok(&["trace", "udp", "--json", "--count", "5", "--for", "60s"]).unwrap();
        assert_eq!(text.matches("\"message\":\"packet\"").count(), 5, "{text}");
        wait_for("the program for traffic is back", || !is_traced(&site));
    }
    let (udp, tcp) = (site.finish_udp(udp), tcp.finish().unwrap());
    assert_eq!(udp.moved, 0, "{udp:?}");
    assert_eq!((tcp.broken, tcp.missing), (0, 0), "{tcp:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// A config that needs another program takes the place of the one that traces, which is loaded anew.
#[test]
fn tracing_goes_on_with_another_config() {
    let site = site(2);
    let vip = SocketAddr::new(site.vips()[0], WEB);
    let mut trace = Trace::start(&site, &["--vip", &vip.ip().to_string(), "--json", "--rate", "400"]);
    trace.wait_begun();
    curl(&site, vip);
    // At the very moment of the exchange, too; and some are over the rate.
    let options = UdpFlowsOptions {
        flows: 20,
        interval: Duration::from_millis(20),
        ..UdpFlowsOptions::new(SocketAddr::new(vip.ip(), ECHO))
    };
    let udp = UdpFlows::start(&site.topology.client().ns, &options).unwrap();
    wait_for("datagrams", || udp.counts().sent >= 2000);
    let config = std::fs::read_to_string(site.daemon.config_path()).unwrap();
    site.daemon.write_config(&format!("ping = \"answer\"\n{config}")).unwrap();
    let path = site.daemon.config_path();
    site.daemon.cli_ok(&["apply", path.to_str().unwrap()]).unwrap();
    wait_for("it traces again", || is_traced(&site));
    // And what was asked for is asked for again.
    let sent = udp.counts().sent;
    wait_for("datagrams", || udp.counts().sent >= sent + 2000);
    let counts = site.finish_udp(udp);
    assert_eq!(counts.moved, 0, "{counts:?}");
    // The second whose rate the datagrams have used up is over.
    std::thread::sleep(Duration::from_secs(2));
    curl(&site, vip);
    // On a busy machine thousands of lines are still on their way before it.
    let new = ["\"reason\":\"forward_new\"", "\"protocol\":\"tcp\""];
    wait_for("both requests are shown", || trace.lines_with(&new) >= 2);
    let ended = trace.end_counted();
    let new = |packet: &&Value| packet["reason"] == "forward_new" && packet["protocol"] == "tcp";
    assert_eq!(ended.packets.iter().filter(new).count(), 2, "{}", ended.said);
    let shown = ended.packets.len() as u64;
    assert_eq!(ended.count("shown"), shown);
    assert!(ended.count("over_rate") > 0, "{}", ended.counts);
    let kinds = ["shown", "sampled", "over_rate", "no_room", "too_slow"];
    let sum: u64 = kinds.map(|kind| ended.count(kind)).iter().sum();
    assert_eq!(ended.count("wanted"), sum, "{}", ended.counts);
    // The time in which the other program was loaded is told, to people as well.
    let unseen = ended.count("unseen_ms");
    assert!((1..60_000).contains(&unseen), "{}", ended.counts);
    assert!(ended.said.contains("were not looked at, as the program was replaced"), "{}", ended.said);
    // But for that all of them were wanted.
    assert!(sum >= 2000 + 2000, "{}", ended.counts);
}

/// Who traces a service or a host that another config has no more, and whose program has taken the other's place, is told why nothing comes.
#[test]
fn what_is_gone_with_another_config_is_not_waited_for() {
    let site = site(2);
    let mut gone = Trace::start(&site, &["--service", "echo-v4", "--json"]);
    let mut stays = Trace::start(&site, &["--service", "web-v4", "--json"]);
    gone.wait_begun();
    stays.wait_begun();
    let config = std::fs::read_to_string(site.daemon.config_path()).unwrap();
    let renamed = config.replace("name = \"echo-v4\"", "name = \"other-v4\"");
    site.daemon.write_config(&format!("ping = \"answer\"\n{renamed}")).unwrap();
    let path = site.daemon.config_path();
    site.daemon.cli_ok(&["apply", path.to_str().unwrap()]).unwrap();
    let (code, said) = gone.wait_ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another config: there is no service named echo-v4"), "{said}");
    wait_for("it traces again", || is_traced(&site));
    curl(&site, SocketAddr::new(site.vips()[0], WEB));
    let ended = stays.end_counted();
    assert!(ended.packets.iter().any(|packet| packet["reason"] == "forward_new"), "{}", ended.said);
}

/// By `nat` answers come back this way; they are of the client whom they are sent to, and of the service.
#[test]
fn answers_are_shown_with_their_client() {
    let plan = Plan::new("nat", 1);
    let site = Site::start(Topology::builder().layout(Layout::Routed), &plan).unwrap();
    let client = site.topology.client().ipv4[0].to_string();
    let vip = SocketAddr::new(site.vips()[0], WEB);
    let mut traces = [
        Trace::start(
            &site,
            &["tcp", "--client", &client, "--vip", &vip.to_string(), "--json", "--rate", "10000"],
        ),
        Trace::start(&site, &["--service", "web-v4", "--reason", "forward_reply*", "--json"]),
        Trace::start(&site, &["tcp", "--client", "192.0.2.99", "--json"]),
    ];
    traces.iter_mut().for_each(Trace::wait_begun);
    curl(&site, vip);
    let [all, answers, none] = traces.map(|trace| trace.end(&site));
    let is_answer = |packet: &&Value| packet["is_answer"] == true;
    assert!(all.iter().filter(is_answer).count() >= 3, "{all:#?}");
    assert!(all.iter().filter(|packet| !is_answer(packet)).count() >= 4, "{all:#?}");
    assert!(all.iter().all(|packet| packet["service"] == "web-v4"), "{all:#?}");
    assert_eq!(answers.len(), all.iter().filter(is_answer).count());
    assert_eq!(none, Vec::<Value>::new());
}

/// Those who were stopped hold up nobody, keep a bounded number of packets waiting, and are through with it when their time is over.
#[test]
fn readers_that_were_stopped_are_taken_leave_of_in_time() {
    let site = site(2);
    let vip = SocketAddr::new(site.vips()[0], ECHO);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let args =
        ["capture", "-w", &path("x.pcapng"), "udp", "--snaplen", "9216", "--rate", "9999", "--for", "2s"];
    let mut capture = Trace::start_verb(&site, &args);
    capture.wait_begun();
    let (socket, told) = (site.daemon.socket(), path("told"));
    let mut curl = std::process::Command::new("curl");
    curl.arg("--unix-socket").arg(&socket).args(["-sN", "-o", &told, "http://sluice/v1/trace", "--json"]);
    curl.arg(r#"{"protocol":"udp","bytes":9216,"rate":9999,"lasting":12}"#);
    let curl = site.topology.balancer().ns.spawn(curl).unwrap();
    let text = || std::fs::read_to_string(&told).unwrap_or_default();
    wait_for("it traces, too", || text().contains("event: counts"));
    capture.signal(Signal::SIGSTOP);
    curl.signal(Signal::SIGSTOP).unwrap();
    let options = UdpFlowsOptions {
        flows: 40,
        interval: Duration::from_millis(20),
        payload_bytes: 1400,
        ..UdpFlowsOptions::new(vip)
    };
    let udp = UdpFlows::start(&site.topology.client().ns, &options).unwrap();
    wait_for("the program for traffic is back", || !is_traced(&site));
    udp.finish().unwrap();
    let events = site.daemon.cli_ok(&["events", "--event", "trace_ended"]).unwrap();
    assert_eq!(events.lines().count(), 2, "{events}");
    capture.signal(Signal::SIGCONT);
    assert_eq!(capture.wait_code(), Some(0), "{}", capture.said());
    curl.signal(Signal::SIGCONT).unwrap();
    assert!(curl.wait(LIMIT).unwrap().is_some_and(|status| status.success()));
    let text = text();
    let messages = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let messages: Vec<Value> = messages.map(|line| serde_json::from_str(line).unwrap()).collect();
    let [.., counts, last] = &messages[..] else { panic!("{text}") };
    assert_eq!((&last["message"], &last["why"]), (&"ended".into(), &"over".into()), "{last}");
    let of = |kind: &str| counts[kind].as_u64().unwrap_or_else(|| panic!("{counts}"));
    let shown = messages.iter().filter(|message| message["message"] == "packet").count() as u64;
    assert_eq!(of("shown"), shown);
    assert!(of("too_slow") > 0 && text.len() < 16 << 20, "{counts}, {} bytes", text.len());
    let kinds = ["shown", "sampled", "over_rate", "no_room", "too_slow"];
    assert_eq!(of("wanted"), kinds.map(of).iter().sum::<u64>(), "{counts}");
}

#[test]
fn ctrl_c_ends_it_well() {
    let site = site(1);
    let mut trace = Trace::start(&site, &[]);
    trace.wait_begun();
    trace.signal(Signal::SIGINT);
    assert_eq!(trace.wait_code(), Some(0));
}
