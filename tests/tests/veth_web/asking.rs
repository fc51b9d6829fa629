//! What is asked before something is changed: who is meant, what it would do, and what was understood.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::LIMIT;
use sluice_tests::browser::{Browser, key};
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions};

use super::{PAGE, UI, cell, config, history, opened, token};

/// Presses the button with this name, as by keys.
fn press(browser: &Browser, name: &str) {
    let focus = format!("document.querySelector('[aria-label={}]').focus()", json!(name));
    browser.script(&focus, &[]).unwrap();
    browser.press(&[key::ENTER]).unwrap();
}

fn drains(daemon: &SluiceDaemon) -> usize {
    history(daemon).iter().filter(|revision| revision["kind"] == "drain").count()
}

#[test]
fn a_deadline_takes_a_unit_and_its_flows_are_reset_then() {
    let mut plan = Plan::new("l2", 2);
    plan.top = UI;
    plan.timeouts = [10, 120, 20, 10];
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let options = ConnectionsOptions {
        connections: 40,
        interval: Duration::from_millis(500),
        ..ConnectionsOptions::new(SocketAddr::new(site.vips()[0], ECHO))
    };
    let load = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(load.wait_opened(40, LIMIT), "{:?}", load.counts());
    let browser = opened(&site.topology, &token(&site.daemon));
    // What the command line takes and prints, and nothing else.
    let read = "window.read = null; import('/js/format.js').then(of => window.read = arguments[0].map(of.parseDuration))";
    let texts = json!([
        "10m", "1h 30m", "1h30m", "3m07s", "2 min", "1d", "0s", "30", "5 ", "", "10x", "1h30", "10ms", "m",
        "-5m", "1.5h"
    ]);
    browser.script(read, &[texts]).unwrap();
    let known = json!([600, 5400, 5400, 187, 120, 86400, 0]);
    let read = browser.wait("window.read").unwrap();
    let (known, read) = (known.as_array().unwrap(), read.as_array().unwrap());
    assert_eq!(&read[..known.len()], known);
    assert!(read[known.len()..].iter().all(Value::is_null), "{read:?}");

    browser.wait(&cell("h1", "State")).unwrap();
    press(&browser, "Drain h1");
    browser.wait("document.querySelector('dialog .primary:not(:disabled)')").unwrap();
    browser.tab_to("Deadline").unwrap();
    browser.press(&["8"]).unwrap();
    browser.wait_text("No time: write 90s, 10m or 1h 30m").unwrap();
    browser.press(&[key::ENTER]).unwrap();
    browser.wait_text("8 is no time").unwrap();
    assert_eq!(drains(&site.daemon), 0);
    browser.tab_to("Deadline").unwrap();
    browser.press(&[key::END, "s"]).unwrap();
    browser.wait_text("After 8 s, at ").unwrap();
    browser.tab_to("Flows that are left then").unwrap();
    browser.press(&[key::DOWN, key::DOWN]).unwrap();
    browser.wait("document.querySelector('dialog select').value === 'reset'").unwrap();
    browser.tab_to("Drain h1").unwrap();
    browser.press(&[key::ENTER]).unwrap();
    browser.wait(&format!("{} === 'draining'", cell("h1", "State"))).unwrap();
    let drain = site.daemon.cli_json(&["drains", "h1", "--json"]).unwrap();
    let order = &drain["order"];
    assert_eq!(order["at_deadline"], "reset", "{drain:#}");
    let takes = order["deadline"].as_u64().unwrap() - drain["started_at"].as_u64().unwrap();
    assert!((8..10).contains(&takes), "{drain:#}");
    browser.script("location.hash = '#/receipts'", &[]).unwrap();
    browser.wait("document.querySelector('tbody tr')").unwrap();
    let receipt = site.daemon.cli_json(&["drains", "h1", "--json"]).unwrap()["receipt"].clone();
    assert!(receipt["reset"].as_u64() > Some(0), "{receipt:#}");
    assert_eq!(browser.log().unwrap(), Vec::<String>::new());
}

#[test]
fn several_hosts_are_named_also_those_that_a_filter_hides() {
    let topology = Topology::builder().hosts(12).build().unwrap();
    let text = config(&topology, UI, 100).replace("ring_size = 1009", "ring_size = 1201");
    let daemon = SluiceDaemon::start(&topology, &text).unwrap();
    let browser = opened(&topology, &token(&daemon));
    browser.wait("document.querySelectorAll('tbody tr').length === 12").unwrap();
    browser
        .script("document.querySelector('[aria-label=\"Choose all on this page\"]').click()", &[])
        .unwrap();
    browser.script("document.querySelector('[aria-label=\"Choose h12\"]').click()", &[]).unwrap();
    browser.wait("document.querySelector('.bulk').innerText.includes('Drain 11')").unwrap();
    // Somebody else is faster with one of them.
    daemon.cli_ok(&["drain", "h3"]).unwrap();
    browser.wait("document.querySelector('.bulk').innerText.includes('Drain 10')").unwrap();
    browser
        .script(
            "const box = document.querySelector('input[type=search]'); box.value = 'h1'; box.dispatchEvent(new Event('input'))",
            &[],
        )
        .unwrap();
    browser.wait("document.querySelectorAll('tbody tr').length === 4").unwrap();
    let bulk = |what: &str| {
        let button =
            format!("[...document.querySelectorAll('.bulk button')].find(of => of.innerText === '{what}')");
        browser.wait(&format!("!!{button}")).unwrap();
        browser.script(&format!("{button}.focus()"), &[]).unwrap();
        browser.press(&[key::ENTER]).unwrap();
        browser.wait("document.querySelector('dialog .facts')").unwrap();
        browser
            .script("return document.querySelector('dialog').innerText", &[])
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    let asked = bulk("Drain 10");
    assert!(asked.contains("h1, h2, h4, h5, h6, h7, h8, h9 and 2 more"), "{asked}");
    assert!(asked.contains("7 of 10 hosts not shown by the filter."), "{asked}");
    browser.press(&["new racks", key::ENTER]).unwrap();
    browser.wait("!document.querySelector('dialog')").unwrap();
    let out = || {
        let status = daemon.cli_json(&["status", "--json"]).unwrap();
        let hosts = status["hosts"].as_array().unwrap().clone();
        hosts.iter().filter(|host| host["admin"] != "active").count()
    };
    assert_eq!(out(), 11);
    let asked = bulk("Take back 11");
    assert!(asked.contains("h1, h2, h3, h4, h5, h6, h7, h8 and 3 more"), "{asked}");
    assert!(asked.contains("8 of 11 hosts not shown by the filter."), "{asked}");
    browser.press(&["done", key::ENTER]).unwrap();
    browser.wait("!document.querySelector('dialog')").unwrap();
    assert_eq!(out(), 0);
    assert_eq!(browser.log().unwrap(), Vec::<String>::new());
}

#[test]
fn nothing_is_drained_before_it_is_told_what_that_would_do() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let daemon = SluiceDaemon::start(&topology, &config(&topology, UI, 100)).unwrap();
    let browser = opened(&topology, &token(&daemon));
    browser.wait(&cell("h1", "State")).unwrap();
    // The first plan does not come until it fails.
    let hold = "const real = window.fetch; window.plans = 0; window.fetch = (path, options) => \
                path === '/v1/plan/drain' && ++window.plans === 1 \
                  ? new Promise((_, reject) => { window.fail = () => reject(new TypeError('gone')); }) : real(path, options);";
    browser.script(hold, &[]).unwrap();
    press(&browser, "Drain h1");
    browser.wait_text("Asking what it would do").unwrap();
    let is_held = "document.querySelector('dialog .primary').disabled";
    browser.press(&["too early", key::ENTER]).unwrap();
    assert_eq!(browser.script(&format!("return {is_held}"), &[]).unwrap(), true);
    browser.script("window.fail()", &[]).unwrap();
    browser.wait_text("the daemon does not answer").unwrap();
    browser.press(&[key::ENTER]).unwrap();
    assert_eq!(browser.script(&format!("return {is_held}"), &[]).unwrap(), true);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(drains(&daemon), 0);
    browser.tab_to("Ask again").unwrap();
    browser.press(&[key::ENTER]).unwrap();
    browser.wait_text("Who gets its new flows").unwrap();
    browser.wait(&format!("!{is_held}")).unwrap();
    assert_eq!(browser.focused().unwrap(), ("button".to_owned(), "Drain h1".to_owned()));
    browser.press(&[key::ENTER]).unwrap();
    browser.wait("!document.querySelector('dialog')").unwrap();
    assert_eq!(drains(&daemon), 1);
    assert_eq!(history(&daemon)[0]["reason"], "too early");
}

#[test]
fn what_is_out_in_part_comes_back_in_part() {
    let topology = Topology::builder().hosts(4).build().unwrap();
    let mut text = config(&topology, UI, 100);
    writeln!(
        text,
        "[[services]]\nname = \"other\"\nvip = \"{}\"\nprotocol = \"tcp\"\nport = 8",
        topology.vip4()
    )
    .unwrap();
    let daemon = SluiceDaemon::start(&topology, &text).unwrap();
    daemon.cli_ok(&["drain", "h2", "--service", "other"]).unwrap();
    daemon.cli_ok(&["drain", "h3", "--clients", "10.77.200.0/24"]).unwrap();
    let browser = opened(&topology, &token(&daemon));
    browser.script("location.hash = '#/drains'", &[]).unwrap();
    let asked = |open: &dyn Fn()| {
        open();
        browser.wait("document.querySelector('dialog .facts')").unwrap();
        let asked = browser.script("return document.querySelector('dialog').innerText", &[]).unwrap();
        browser.press(&[key::ESCAPE]).unwrap();
        browser.wait("!document.querySelector('dialog')").unwrap();
        asked.as_str().unwrap().to_owned()
    };
    let by_button = |name: &str| {
        browser.wait(&format!("!!document.querySelector('[aria-label=\"{name}\"]')")).unwrap();
        asked(&|| press(&browser, name))
    };
    // One in four, of that service's ring, and not one in eight of all.
    let of_service = by_button("Take back h2, for other alone");
    let share = of_service.split(" % of new flows of other, when").next().unwrap();
    let share: f64 =
        share.rsplit(['\n', ' ']).next().unwrap().parse().unwrap_or_else(|_| panic!("{of_service}"));
    assert!((20.0..30.0).contains(&share), "{of_service}");
    let of_clients = by_button("Take back h3, for clients of 10.77.200.0/24 alone");
    assert!(of_clients.contains("New flows of 10.77.200.0/24 come back"), "{of_clients}");
    assert!(!of_clients.contains("slots come back"), "{of_clients}");
    let whole = asked(&|| {
        browser.script("import('/js/act.js').then(of => of.undrain(['h2', 'h3']))", &[]).unwrap();
    });
    assert!(
        whole.contains("This ends as well the drains of h2 for other, h3 for clients 10.77.200.0/24"),
        "{whole}"
    );
    assert_eq!(browser.log().unwrap(), Vec::<String>::new());
}

#[test]
fn history_has_no_holes_however_much_comes_at_once() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let daemon = SluiceDaemon::start(&topology, &config(&topology, UI, 100)).unwrap();
    let browser = Browser::start(&topology.balancer().ns).unwrap();
    browser.open(&format!("{PAGE}/#/history")).unwrap();
    browser.wait("document.querySelector('.revision')").unwrap();
    // Something is open, which stays so while others come.
    browser.script("document.querySelector('.revision summary').click()", &[]).unwrap();
    daemon.cli_ok(&["drain", "h1"]).unwrap();
    browser.wait("document.querySelector('.kind-drain')").unwrap();
    assert_eq!(browser.script("return document.querySelectorAll('details[open]').length", &[]).unwrap(), 1);
    // As over a slow line: the answers come when all is done.
    let hold = "const real = window.fetch; const gate = new Promise(open => { window.go = open; }); window.fetch = (path, options) => \
                path.startsWith('/v1/history?') ? gate.then(() => real(path, options)) : real(path, options);";
    browser.script(hold, &[]).unwrap();
    for _ in 0..20 {
        daemon.cli_ok(&["undrain", "h1"]).unwrap();
        daemon.cli_ok(&["drain", "h1"]).unwrap();
    }
    let last = history(&daemon)[0]["revision"].as_u64().unwrap();
    browser.wait(&format!("document.querySelector('#foot').innerText.includes('revision {last}')")).unwrap();
    browser.script("window.go()", &[]).unwrap();
    let numbers = "[...document.querySelectorAll('.revision-number')].map(of => Number(of.innerText))";
    let numbers = browser.wait(&format!("{numbers}[0] === {last} && {numbers}")).unwrap();
    let numbers: Vec<u64> = numbers.as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert!(numbers.len() >= 30 && numbers.windows(2).all(|two| two[0] == two[1] + 1), "{numbers:?}");
}

#[test]
fn figures_that_stand_still_are_not_called_live() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let daemon = SluiceDaemon::start(&topology, &config(&topology, UI, 100)).unwrap();
    let browser = opened(&topology, &token(&daemon));
    // Where nothing happens there is news, too: that it is so.
    std::thread::sleep(Duration::from_secs(13));
    let link = "document.querySelector('#link').innerText";
    assert_eq!(browser.script(&format!("return {link}"), &[]).unwrap(), "live");
    // From here on the server lives, and says so by comments alone.
    let mute = "const real = window.fetch; let looks = 0; window.fetch = async (path, options) => { \
                const answer = await real(path, options); \
                if (!path.startsWith('/page/live')) return answer; \
                const bytes = new TextEncoder().encode(':\\n\\n'); \
                return new Response(answer.body.pipeThrough(new TransformStream({ transform(chunk, to) { \
                  to.enqueue(window.speaks || looks < 1 ? chunk : bytes); \
                  looks += /event: look/.test(new TextDecoder().decode(chunk)); } }))); }; \
                document.querySelector('#token').click()";
    browser.script(mute, &[]).unwrap();
    let told = browser.wait(&format!("{link}.startsWith('no news for ') && {link}")).unwrap();
    assert!(told.as_str().unwrap().ends_with(" s"), "{told}");
    browser.script("window.speaks = true", &[]).unwrap();
    browser.wait(&format!("{link} === 'live'")).unwrap();
}
