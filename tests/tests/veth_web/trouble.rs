//! What there is when something is going on: a maintenance run, and hosts that their checks find down.

use std::time::Duration;

use serde_json::json;
use sluice_tests::LIMIT;
use sluice_tests::browser::{Browser, key};
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::topology::Topology;

use super::reading::faults;
use super::{UI, cell, config, opened, token};

const TIMEOUTS: &str =
    "[timeouts]\nhalf_open = \"2s\"\nestablished = \"3s\"\nclosing = \"2s\"\nudp = \"2s\"\n";

/// Shows a view, and waits until this is true there.
fn show(browser: &Browser, view: &str, expression: &str) {
    browser.script(&format!("location.hash = '#/{view}'"), &[]).unwrap();
    browser.wait(expression).unwrap();
    browser.wait("document.getAnimations().length === 0").unwrap();
}

#[test]
fn a_maintenance_run_is_paused_resumed_and_aborted_there() {
    let topology = Topology::builder().hosts(3).build().unwrap();
    let daemon = SluiceDaemon::start(&topology, &(config(&topology, UI, 100) + TIMEOUTS)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (plan, gate) = (folder.path().join("plan.toml"), folder.path().join("gate"));
    let text = format!(
        "name = \"new kernel\"\nhosts = [\"h1\", \"h2\", \"h3\"]\n[run]\ncommand = \"until test -e {}; do sleep 0.1; done\"\ntimeout = \"5m\"\n",
        gate.display()
    );
    std::fs::write(&plan, text).unwrap();
    let browser = opened(&topology, &token(&daemon));
    show(&browser, "maintenance", "document.querySelector('.none:not([hidden])')");
    let started = ["maintain", "start", plan.to_str().unwrap(), "--reason", "CVE-2026-1", "--json"];
    let run = daemon.cli_json(&started).unwrap()["run"].as_u64().unwrap();
    browser.wait("document.querySelector('.card .badge')?.innerText === 'running'").unwrap();
    browser.script("document.querySelector('.card details').open = true", &[]).unwrap();
    browser.wait("document.querySelector('.step-working')").unwrap();
    browser.wait_text("by root since").unwrap();
    browser.wait_text("1 working, 2 waiting").unwrap();
    let mut found = faults(&browser, "a run");
    let state = || daemon.cli_json(&["maintain", "report", &run.to_string(), "--json"]).unwrap();
    let press = |verb: &str, lead: &str, reason: &str| {
        browser
            .script(&format!("document.querySelector('[aria-label=\"{verb} run {run}\"]').focus()"), &[])
            .unwrap();
        browser.press(&[key::ENTER]).unwrap();
        browser.wait_text(lead).unwrap();
        browser.wait_text("in work: h1").unwrap();
        assert_eq!(browser.focused().unwrap().1, "Reason");
        browser.press(&[reason, key::ENTER]).unwrap();
        browser.wait("!document.querySelector('dialog')").unwrap();
    };
    let badge = |word: &str| {
        browser.wait(&format!("document.querySelector('.card .badge').innerText === '{word}'")).unwrap();
    };
    press("Pause", "No further host is begun with", "lunch");
    badge("paused");
    assert_eq!(state()["state"], "paused");
    browser.wait("document.querySelector('.card .warn')?.innerText.includes('web:operator')").unwrap();
    found.extend(faults(&browser, "a run that is paused"));
    press("Resume", "Hosts are begun with again", "back");
    badge("running");
    assert_eq!(state()["state"], "running");
    press("Abort", "A run that was aborted cannot be resumed", "wrong kernel");
    std::fs::write(&gate, "").unwrap();
    badge("aborted");
    browser.wait("!document.querySelector('.card .acts button')").unwrap();
    found.extend(faults(&browser, "a run that was aborted"));
    let report = state();
    assert_eq!(report["state"], "aborted", "{report:#}");
    assert!(report["why"].as_str().unwrap().contains("web:operator"), "{report:#}");
    assert_eq!(report["untouched"], 2, "{report:#}");
    let hosts = daemon.cli_json(&["status", "--json"]).unwrap()["hosts"].clone();
    assert!(hosts.as_array().unwrap().iter().all(|host| host["admin"] == "active"), "{hosts:#}");
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(browser.log().unwrap(), Vec::<String>::new());
}

#[test]
fn hosts_that_their_checks_find_down_stand_first() {
    let topology = Topology::builder().hosts(3).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let well = folder.path().join("well");
    let checks = format!(
        "[[services.checks]]\ntype = \"command\"\ncommand = {}\n[health]\ninterval = \"1s\"\n",
        json!(format!("test $SLUICE_HOST != h3 || test -e {}", well.display()))
    );
    let daemon = SluiceDaemon::start(&topology, &(config(&topology, UI, 100) + &checks)).unwrap();
    daemon.cli_ok(&["wait", "h1", "--for", "up", "--timeout", &format!("{}s", LIMIT.as_secs())]).unwrap();
    let browser = opened(&topology, &token(&daemon));
    browser.wait(&format!("{} === 'down'", cell("h3", "State"))).unwrap();
    browser.wait(&format!("{} === 'in use'", cell("h1", "State"))).unwrap();
    browser.wait("document.querySelector('.tabs a[href=\"#/health\"]').innerText === 'Health 1'").unwrap();
    let mut found = faults(&browser, "hosts, one of them down");
    show(
        &browser,
        "health",
        "document.querySelector('main .lead')?.innerText === '1 check of 3 find no host up.'",
    );
    browser
        .wait("document.querySelector('main .list')?.innerText.includes('h3 for echo by command')")
        .unwrap();
    assert_eq!(browser.wait("document.querySelectorAll('main .list li').length").unwrap(), 1, "h3 alone");
    let cell_of =
        |name: &str| format!("document.querySelector('main tbody [data-name=\"{name}\"]').innerText");
    assert_eq!(browser.wait(&cell_of("Up")).unwrap(), "2 of 3");
    assert_eq!(browser.wait(&cell_of("Down")).unwrap(), "h3");
    found.extend(faults(&browser, "health with a host that is down"));
    show(&browser, "hosts/h3", "document.querySelectorAll('.run').length > 1");
    browser.wait("document.querySelector('.page-state').innerText.startsWith('down')").unwrap();
    found.extend(faults(&browser, "a host that is down"));
    // Well again, and the page tells.
    show(&browser, "health", "document.querySelector('main .list')");
    std::fs::write(&well, "").unwrap();
    browser
        .wait("document.querySelector('main .lead').innerText === 'All 3 checks find their hosts up.'")
        .unwrap();
    browser.wait("!document.querySelector('main .list')").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    found.extend(faults(&browser, "health when all is well"));
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(browser.log().unwrap(), Vec::<String>::new());
}
