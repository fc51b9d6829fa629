//! The page for browsers, in a real one: a live balancer with traffic is looked at and worked with by keys alone, and nobody else gets in.

mod asking;
mod fleet;
mod reading;
mod trouble;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::browser::{Browser, key};
use sluice_tests::servers::{SluiceDaemon, sluice_binary};
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions};

const PAGE: &str = "http://127.0.0.1:8080";
const UI: &str = "[ui]\nlisten = \"127.0.0.1:8080\"\n";

fn token(daemon: &SluiceDaemon) -> String {
    let file = format!("/var/lib/sluice/{}.token", daemon.instance());
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.lines().last().unwrap().split_once(' ').unwrap().1.to_owned()
}

/// The page, by somebody who has shown a token.
fn opened(topology: &Topology, token: &str) -> Browser {
    let browser = Browser::start(&topology.balancer().ns).unwrap();
    browser.open(PAGE).unwrap();
    let set = format!("sessionStorage.setItem('sluice-token', '{token}'); location.reload()");
    browser.script(&set, &[]).unwrap();
    browser.wait("document.querySelector('#token').innerText.startsWith('Lock')").unwrap();
    browser.wait("document.querySelector('#link').innerText === 'live'").unwrap();
    browser
}

/// Keeps what is seen for docs/pictures/, where they are to be written anew.
fn picture(browser: &Browser, name: &str) {
    let picture = browser.picture().unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "{name}");
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }
}

/// In the row of a host.
fn cell(host: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('tbody tr')].find(row => row.querySelector('.head')?.innerText === '{host}')?.querySelector('[data-name=\"{name}\"]')?.innerText"
    )
}

fn number(value: &Value) -> u64 {
    value
        .as_str()
        .unwrap_or_default()
        .replace([',', '+'], "")
        .parse()
        .unwrap_or_else(|_| panic!("{value} is no number"))
}

fn history(daemon: &SluiceDaemon) -> Vec<Value> {
    daemon.cli_json(&["history", "--json"]).unwrap()["revisions"].as_array().unwrap().clone()
}

#[test]
fn a_host_is_drained_and_taken_back_by_keys_alone_while_the_page_follows() {
    let mut plan = Plan::new("l2", 6);
    plan.top = UI;
    // A drain takes as long as the longest, at least.
    plan.timeouts = [4, 15, 2, 4];
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let client = &site.topology.client().ns;
    let echo = SocketAddr::new(site.vips()[0], ECHO);
    let interval = Duration::from_millis(500);
    let options = ConnectionsOptions { connections: 600, interval, ..ConnectionsOptions::new(echo) };
    let load = Connections::start(client, &options).unwrap();
    assert!(load.wait_opened(600, LIMIT), "{:?}", load.counts());
    let token = token(&site.daemon);

    let browser = Browser::start(&site.topology.balancer().ns).unwrap();
    browser.view(1280, 860, false).unwrap();
    browser.open(PAGE).unwrap();
    let before =
        number(&browser.wait(&format!("parseInt({0}) > 20 && {0}", cell("h2", "Live flows"))).unwrap());
    assert!(before.abs_diff(site.live("h2").unwrap()) < 20, "{before}");
    assert_eq!(browser.wait(&cell("h2", "State")).unwrap(), "in use");
    assert_eq!(browser.wait("document.querySelector('#link').innerText").unwrap(), "live");
    // It is the same page to the end: a load would forget this.
    browser.script("window.mark = 1", &[]).unwrap();
    picture(&browser, "page-hosts");
    // With what a token is shown from here on.
    let record = "window.shown = []; const before = window.fetch; window.fetch = (path, options) => { \
                  if (options?.headers?.Authorization) window.shown.push(`${options.method ?? 'GET'} ${path}`); \
                  return before(path, options); }";
    browser.script(record, &[]).unwrap();

    // Drain it, from the top of the page on by keys; first the token is asked for.
    browser.tab_to("Drain h2").unwrap();
    browser.press(&[key::ENTER]).unwrap();
    browser.wait_text("Unlock changes").unwrap();
    browser.press(&["0123456789abcdef0123456789abcdef", key::ENTER]).unwrap();
    browser.wait_text("not a token that counts").unwrap();
    browser.script("document.querySelector('dialog input').value = ''", &[]).unwrap();
    browser.tab_to("Token").unwrap();
    browser.press(&[&token, key::ENTER]).unwrap();
    browser.wait_text("Who gets its new flows").unwrap();
    assert_eq!(browser.focused().unwrap().1, "Reason");
    picture(&browser, "page-plan");
    // Not yet: escaped from, nothing is changed.
    browser.press(&[key::ESCAPE]).unwrap();
    browser.wait("!document.querySelector('dialog')").unwrap();
    assert_eq!(browser.focused().unwrap().1, "Drain h2", "the focus is back");
    assert!(history(&site.daemon).iter().all(|revision| revision["kind"] != "drain"));
    browser.press(&[key::ENTER]).unwrap();
    browser.wait_text("Who gets its new flows").unwrap();
    browser.press(&["kernel update", key::ENTER]).unwrap();
    browser.wait(&format!("{} === 'draining'", cell("h2", "State"))).unwrap();
    let drain = site.daemon.cli_json(&["drains", "h2", "--json"]).unwrap();
    assert_eq!((&drain["by"], &drain["reason"]), (&"web:operator".into(), &"kernel update".into()));
    let shown = browser.wait("window.shown.length > 0 && window.shown.join()").unwrap();
    let shown = shown.as_str().unwrap();
    assert!(shown.contains("POST /v1/drain"), "{shown}");
    let of_looks = shown.split(',').find(|asked| asked.starts_with("GET") && *asked != "GET /page/who");
    assert_eq!(of_looks, None, "who may look without a token shows none: {shown}");

    // Its flows end, and the page tells as they do.
    browser.script("location.hash = '#/drains'", &[]).unwrap();
    let big = "document.querySelector('.drain .big')?.innerText";
    let at_first = number(&browser.wait(big).unwrap());
    assert!(at_first > 20, "{at_first}");
    let mut seen = at_first;
    for share in [0.3, 0.4, 0.5] {
        load.close(share, Some("h2"));
        let fewer = format!("{big} && parseInt({big}) < {seen} && {big}");
        seen = number(&browser.wait(&fewer).unwrap());
        std::thread::sleep(Duration::from_secs(3));
    }
    assert!(seen < at_first, "{seen}");
    browser.wait("document.querySelector('.chart-line').getAttribute('d').split('L').length > 5").unwrap();
    picture(&browser, "page-drains");
    browser.view(1280, 860, true).unwrap();
    picture(&browser, "page-drains-dark");
    browser.view(1280, 860, false).unwrap();
    browser.script("location.hash = '#/shares'", &[]).unwrap();
    browser.wait("document.querySelectorAll('.piece-now').length === 5").unwrap();
    assert_eq!(
        browser.wait("document.querySelectorAll('.piece-base').length").unwrap(),
        6,
        "who is out is still there"
    );
    picture(&browser, "page-shares");
    load.close(1.0, Some("h2"));
    browser.script("location.hash = '#/hosts'", &[]).unwrap();
    browser.wait(&format!("{} === 'drained'", cell("h2", "State"))).unwrap();
    browser.script("location.hash = '#/receipts'", &[]).unwrap();
    browser.wait_text("web:operator: kernel update").unwrap();

    // Back.
    browser.script("location.hash = '#/hosts'", &[]).unwrap();
    browser.wait("document.activeElement.innerText === 'Hosts' || null").unwrap();
    browser.tab_to("Take back h2").unwrap();
    browser.press(&[key::ENTER]).unwrap();
    browser.wait_text("slots come back").unwrap();
    browser.press(&["new kernel", key::ENTER]).unwrap();
    browser.wait(&format!("{} === 'in use'", cell("h2", "State"))).unwrap();
    assert_eq!(history(&site.daemon)[0]["kind"], "undrain");

    // The daemon goes and comes; the page says so, and is not loaded again.
    site.daemon.terminate().unwrap();
    browser.wait("document.querySelector('#link').innerText === 'not connected'").unwrap();
    site.daemon.start_again().unwrap();
    browser.wait("document.querySelector('#link').innerText === 'live'").unwrap();
    assert_eq!(browser.script("return window.mark", &[]).unwrap(), 1);
    // What it complains of is of the daemon's absence, and of the token that was none.
    let complaints: Vec<String> = browser.log().unwrap();
    let known = |line: &&String| !line.contains("ERR_") && !line.contains("status of 401");
    assert_eq!(complaints.iter().filter(known).collect::<Vec<_>>(), Vec::<&String>::new());
    let counts = load.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

fn config(topology: &Topology, ui: &str, weight: u32) -> String {
    let mut text = format!("interfaces = [\"eth0\"]\nring_size = 1009\n{ui}[flow_table]\npins = 4096\n");
    for host in topology.hosts() {
        writeln!(text, "[hosts.{}]\naddresses = [\"{}\"]\nweight = {weight}", host.name, host.ipv4[0])
            .unwrap();
    }
    let vip = topology.vip4();
    text + &format!("[[services]]\nname = \"echo\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = 7\n")
}

#[test]
fn history_shows_what_differs_and_leads_back() {
    let topology = Topology::builder().hosts(3).build().unwrap();
    let daemon = SluiceDaemon::start(&topology, &config(&topology, UI, 100)).unwrap();
    let browser = Browser::start(&topology.balancer().ns).unwrap();
    browser.open(&format!("{PAGE}/#/history")).unwrap();
    browser.wait_text("start").unwrap();
    let first = daemon.cli_json(&["status", "--json"]).unwrap()["config_in_force"]["revision"].clone();
    // A change from elsewhere is seen by itself.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.toml");
    std::fs::write(&file, config(&topology, UI, 130)).unwrap();
    daemon.cli_ok(&["apply", file.to_str().unwrap(), "--reason", "more weight"]).unwrap();
    browser.wait("document.querySelector('.kind-apply')").unwrap();
    let open = |kind: &str| {
        let row = format!(
            "[...document.querySelectorAll('.revision')].find(row => row.querySelector('.kind-{kind}'))"
        );
        browser.script(&format!("{row}.querySelector('summary').click()"), &[]).unwrap();
        format!("{row}.querySelector('.revision-detail').innerText")
    };
    let detail = open("apply");
    browser.wait(&format!("{detail}.includes('weight 100 → 130')")).unwrap();
    browser.wait(&format!("{detail}.includes('more weight')")).unwrap();
    // From before to now.
    browser.script(&format!("document.querySelector('#from').value = {first}"), &[]).unwrap();
    browser.script("document.querySelector('.compare button').click()", &[]).unwrap();
    browser.wait("document.querySelector('.diff').innerText.includes('weight 100 → 130')").unwrap();
    // And back, with a question before.
    browser
        .script(
            &format!("sessionStorage.setItem('sluice-token', '{}'); location.reload()", token(&daemon)),
            &[],
        )
        .unwrap();
    let number = format!(
        "[...document.querySelectorAll('.revision-number')].find(of => of.innerText.trim() === '{first}')"
    );
    browser.wait(&number).unwrap();
    browser.script(&format!("{number}.closest('details').open = true"), &[]).unwrap();
    browser.wait(&format!("document.querySelector('[aria-label=\"Go back to revision {first}\"]')")).unwrap();
    browser
        .script(
            &format!("document.querySelector('[aria-label=\"Go back to revision {first}\"]').focus()"),
            &[],
        )
        .unwrap();
    browser.press(&[key::ENTER]).unwrap();
    browser.wait("document.querySelector('dialog .plan')?.innerText.includes('weight 130 → 100')").unwrap();
    browser.wait("!document.querySelector('dialog .primary').disabled").unwrap();
    browser.press(&["too much", key::ENTER]).unwrap();
    browser.wait("document.querySelector('.kind-rollback')").unwrap();
    let last = &history(&daemon)[0];
    assert_eq!(
        (&last["kind"], &last["by"], &last["reason"]),
        (&"rollback".into(), &"web:operator".into(), &"too much".into())
    );
    assert_eq!(daemon.cli_json(&["status", "--json"]).unwrap()["hosts"][0]["weight"], 100);
    assert_eq!(browser.log().unwrap(), Vec::<String>::new());
}

/// Serves one page of another site, from now on.
fn other_site(topology: &Topology, page: &'static str) {
    topology
        .balancer()
        .ns
        .start("other-site", move || {
            let listener = TcpListener::bind("127.0.0.1:8081").unwrap();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}", page.len());
            }
        })
        .unwrap();
}

#[test]
fn a_page_of_another_site_can_neither_change_nor_see_nor_frame_anything() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let daemon = SluiceDaemon::start(&topology, &config(&topology, UI, 100)).unwrap();
    other_site(
        &topology,
        "<title>other</title><iframe id=f src='http://127.0.0.1:8080/'></iframe>\
         <form id=g method=post enctype='text/plain' target=t action='http://127.0.0.1:8080/v1/drain'>\
         <input name='{\"hosts\":[\"h1\"],\"reason\":\"' value='\"}'></form><iframe name=t></iframe>",
    );
    let browser = Browser::start(&topology.balancer().ns).unwrap();
    browser.open("http://127.0.0.1:8081/").unwrap();
    // As bad as can be: it knows the token.
    let script = format!(
        "const results = []; window.results = null; document.querySelector('#g').submit();
         const auth = {{Authorization: 'Bearer {}', 'Content-Type': 'application/json'}};
         const body = JSON.stringify({{hosts: ['h1']}});
         Promise.allSettled([
           fetch('{PAGE}/v1/drain', {{method: 'POST', mode: 'no-cors', body}}),
           fetch('{PAGE}/v1/drain', {{method: 'POST', headers: auth, body}}).then(() => 'read'),
           fetch('{PAGE}/v1/status').then(answer => answer.text()).then(() => 'read'),
           fetch('{PAGE}/page/live').then(() => 'read'),
         ]).then(all => window.results = all.map(of => of.value === 'read' ? 'read' : 'kept out'))",
        token(&daemon)
    );
    browser.script(&script, &[]).unwrap();
    let results = browser.wait("window.results").unwrap();
    assert_eq!(results, serde_json::json!(["kept out", "kept out", "kept out", "kept out"]));
    browser.wait("document.querySelector('#f').contentDocument === null").unwrap();
    let refused: Vec<String> = browser.log().unwrap();
    assert!(
        refused.iter().any(|line| line.contains("frame-ancestors") || line.contains("X-Frame-Options")),
        "{refused:?}"
    );
    std::thread::sleep(Duration::from_secs(1));
    let status = daemon.cli_json(&["status", "--json"]).unwrap();
    assert_eq!(status["hosts"][0]["admin"], "active", "nothing was drained");
    let log = daemon.log();
    assert!(
        log.contains(
            "refused web (127.0.0.1): POST \"/v1/drain\" on the page: another site's page asked for this"
        ),
        "{log}"
    );
}

#[test]
fn elsewhere_than_on_the_loopback_it_takes_tls_and_a_token() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let ns = &topology.balancer().ns;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let certify = |name: &str| {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
        ]);
        command
            .arg(format!("/CN={name}"))
            .args(["-addext", &format!("subjectAltName=DNS:{name},IP:10.77.0.1")]);
        command.args(["-keyout", &path("new.key"), "-out", &path("new.pem")]);
        assert!(command.output().unwrap().status.success());
        for end in ["key", "pem"] {
            std::fs::rename(path(&format!("new.{end}")), path(&format!("ui.{end}"))).unwrap();
        }
    };
    // Without, neither by the config nor by the command line.
    let error = SluiceDaemon::start(&topology, &config(&topology, "[ui]\nlisten = \"0.0.0.0:8080\"\n", 100));
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("others reach 0.0.0.0:8080") && error.contains("ssh -L"), "{error}");
    let file = path("sluice.toml");
    std::fs::write(&file, config(&topology, "", 100)).unwrap();
    let mut command = Command::new(sluice_binary().unwrap());
    command.args(["run", "--config", &file, "--ui", "0.0.0.0:8080", "--instance", topology.prefix()]);
    let output = ns.output(command).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && told.contains("[ui] cannot be served") && told.contains("ssh -L"),
        "{told}"
    );
    // Files that are of no use are told before the start.
    let ui = format!(
        "[ui]\nlisten = \"0.0.0.0:8443\"\nnames = [\"lb1.example.net\"]\ncertificate = {:?}\nkey = {:?}\n",
        path("ui.pem"),
        path("ui.key")
    );
    let error = SluiceDaemon::start(&topology, &config(&topology, &ui, 100));
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("ui.certificate: ") && error.contains("has no certificate"), "{error}");

    certify("lb1.example.net");
    let daemon = SluiceDaemon::start(&topology, &config(&topology, &ui, 100)).unwrap();
    assert!(daemon.log().contains("the page is on https://0.0.0.0:8443/"), "{}", daemon.log());
    let curl = |more: &[&str], target: &str| {
        let mut command = Command::new("curl");
        command.args(["-s", "-w", "\n%{http_code}", "--max-time", "20", "--cacert", &path("ui.pem")]);
        command
            .args(["--resolve", "lb1.example.net:8443:10.77.0.1", "--resolve", "evil.example:8443:10.77.0.1"])
            .args(more);
        command.arg(target);
        // From a host: over the network.
        let output = topology.hosts()[0].ns.output(command).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.rsplit_once('\n').unwrap().1.to_owned()
    };
    let bearer = format!("Authorization: Bearer {}", token(&daemon));
    for (more, target, expected) in [
        (&[][..], "https://lb1.example.net:8443/", "200"),
        (&[], "https://10.77.0.1:8443/", "200"),
        (&[], "https://lb1.example.net:8443/v1/status", "401"),
        (&["-H", &bearer], "https://lb1.example.net:8443/v1/status", "200"),
        (&["-k", "-H", &bearer], "https://evil.example:8443/v1/status", "421"),
        (&["-H", &bearer, "--json", "{\"hosts\": [\"h1\"]}"], "https://lb1.example.net:8443/v1/drain", "200"),
        (&["-H", &bearer, "--json", "{\"config\": \"\"}"], "https://lb1.example.net:8443/v1/apply", "403"),
        (&[], "http://10.77.0.1:8443/", "000"),
    ] {
        assert_eq!(curl(more, target), expected, "{more:?} {target}");
    }
    // A certificate that is renewed is used from the next connection on.
    certify("lb2.example.net");
    assert_eq!(
        curl(&["--resolve", "lb2.example.net:8443:10.77.0.1"], "https://lb2.example.net:8443/"),
        "421",
        "TLS is fine, and the name is not listed"
    );
    // A browser asks for the token first.
    let browser = Browser::start(ns).unwrap();
    browser.open("https://10.77.0.1:8443/").unwrap();
    browser.wait_text("Here even a look takes a token").unwrap();
    browser.wait("document.querySelector('dialog')").unwrap();
    browser.press(&[&token(&daemon), key::ENTER]).unwrap();
    browser.wait(&cell("h1", "State")).unwrap();
}
