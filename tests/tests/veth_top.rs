//! `sluice top` in a terminal, against a daemon that forwards: what it shows, and what its keys do.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::emulator::Emulator;
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions};

/// A host of the status.
fn host(site: &Site, name: &str) -> Value {
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let hosts = status["hosts"].as_array().unwrap();
    hosts.iter().find(|host| host["name"] == name).unwrap().clone()
}

fn states(site: &Site) -> [Value; 3] {
    ["h1", "h2", "h3"].map(|name| host(site, name)["admin"].clone())
}

/// The line of the table about a host, by its words.
fn row(screen: &str, name: &str) -> Vec<String> {
    let line =
        screen.lines().find(|line| line.trim_start_matches([' ', '*']).starts_with(&format!("{name} ")));
    let words = line.unwrap_or_else(|| panic!("no {name} in\n{screen}")).split_whitespace();
    words.map(|word| word.trim_start_matches('*').to_owned()).collect()
}

/// Whether the codes of a screen set a colour (ECMA-48, 8.3.117: 30 to 49, and 90 to 107 as most terminals have it).
fn has_colours(screen: &str) -> bool {
    let codes = screen.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m'));
    let mut numbers =
        codes.flat_map(|(codes, _)| codes.split(';').filter_map(|code| code.parse::<u8>().ok()));
    numbers.any(|code| matches!(code, 30..=38 | 40..=48 | 90..=107))
}

#[test]
fn a_host_is_drained_and_taken_back_by_keys() {
    let mut plan = Plan::new("l2", 3);
    plan.sections = vec![("web", "[[services.checks]]\ntype = \"tcp\"\n")];
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    for host in ["h1", "h2", "h3"] {
        site.daemon.cli_ok(&["wait", host, "--for", "up", "--timeout", "30s"]).unwrap();
    }
    let options = ConnectionsOptions {
        connections: 60,
        interval: Duration::from_millis(500),
        ..ConnectionsOptions::new(SocketAddr::new(site.vips()[0], ECHO))
    };
    let held = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(held.wait_opened(60, LIMIT), "{:?}", held.counts());
    let terminal = Emulator::start(&site.topology.balancer().ns, 80, 24).unwrap();
    let top = format!("{} top --instance {}", site.daemon.binary().display(), site.daemon.instance());

    // What cannot be drawn on is told of another way.
    terminal.write(&format!("TERM=dumb {top}; echo status $?\n")).unwrap();
    let refused = terminal.see("status 2").unwrap().replace('\n', "");
    assert!(refused.contains(&format!("`sluice --instance {} status`", site.daemon.instance())), "{refused}");
    terminal.write("clear; echo what was here before\n").unwrap();
    terminal.wait_for("a clear screen", |screen| screen.starts_with("what was here before")).unwrap();

    terminal.write(&format!("{top} --by operator\n")).unwrap();
    let screen = terminal.see("3 hosts: 3 active; ").unwrap();
    assert!(
        screen.contains("[1 hosts]") && screen.contains("as of ") && screen.contains("? help"),
        "{screen}"
    );
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert_eq!(row(&screen, "h1")[..3], ["h1", "active", "up"], "{screen}");
    assert!(has_colours(&terminal.coloured().unwrap()));

    // A drain, with its reason.
    terminal.press(&["Down", "d"]).unwrap();
    terminal.see("- drain h2? -").unwrap();
    assert_eq!(host(&site, "h2")["admin"], "active", "a question drains nothing");
    terminal.write("new kernel").unwrap();
    terminal.see("Reason (optional): new kernel").unwrap();
    terminal.press(&["Enter"]).unwrap();
    let is_draining = |screen: &str| screen.contains("1 draining") && screen.contains("-- 1 drain -");
    let screen = terminal.wait_for("a drain under way", is_draining).unwrap();
    println!("{screen}");
    assert_eq!(row(&screen, "h2")[..4], ["h2", "draining", "up", "0%"], "{screen}");
    assert!(screen.contains("h2 [") && screen.contains(" live "), "{screen}");
    assert!(screen.contains("h2: draining (drain 1), gets no new flows"), "{screen}");
    let drain = &host(&site, "h2")["drain"];
    assert_eq!((&drain["by"], &drain["reason"]), (&"operator".into(), &"new kernel".into()), "{drain}");
    // Once more of it on its page.
    terminal.press(&["2"]).unwrap();
    let screen = terminal.see("h2: draining (drain 1, by operator)").unwrap();
    assert!(screen.contains("[2 drains]") && screen.contains("the oldest "), "{screen}");
    held.close(1.0, Some("h2"));
    terminal.see("h2: drained (drain 1, by operator)").unwrap();
    terminal.press(&["5"]).unwrap();
    terminal.see(" drained h2: drained (drain 1, by operator: new kernel)").unwrap();
    terminal.press(&["1", "u"]).unwrap();
    terminal.see("- undrain h2? -").unwrap();
    terminal.press(&["Enter"]).unwrap();
    terminal.see("3 hosts: 3 active; ").unwrap();
    terminal.see("h2: takes new flows again").unwrap();
    assert_eq!(states(&site), ["active"; 3].map(Value::from));

    // A plan changes nothing; what breaks a rule is asked for twice.
    terminal.press(&["p"]).unwrap();
    let screen = terminal.see("plan drain h2: nothing is changed").unwrap();
    assert!(screen.contains("DRAINED") && screen.contains("STAYS"), "{screen}");
    terminal.press(&["Escape"]).unwrap();
    terminal.wait_for("no dialog", |screen| !screen.contains("STAYS")).unwrap();
    terminal.press(&["Home", "Space", "Space", "Space", "d"]).unwrap();
    terminal.see("- drain 3 hosts? -").unwrap();
    terminal.press(&["Enter"]).unwrap();
    let screen = terminal.see("drain 3 hosts: refused").unwrap();
    assert!(screen.contains("last_host: ") && screen.contains("mend: "), "{screen}");
    terminal.press(&["Enter", "Escape"]).unwrap();
    terminal.wait_for("no dialog", |screen| !screen.contains("refused")).unwrap();
    assert_eq!(states(&site), ["active"; 3].map(Value::from));
    terminal.press(&["d", "Enter"]).unwrap();
    terminal.see("drain 3 hosts: refused").unwrap();
    terminal.write("force").unwrap();
    terminal.press(&["Enter"]).unwrap();
    terminal.see("3 hosts are out").unwrap();
    assert!(states(&site).iter().all(|state| state != "active"), "{:?}", states(&site));
    terminal.press(&["Home", "Space", "Space", "Space", "u", "Enter"]).unwrap();
    terminal.see("3 hosts are back").unwrap();

    // A daemon that is stuck holds no key up. What it was asked for it does when it goes on, and that is told.
    let process = site.daemon.process().unwrap();
    process.signal(Signal::SIGSTOP).unwrap();
    terminal.press(&["Home", "d", "Enter"]).unwrap();
    terminal.see("The daemon is asked ...").unwrap();
    terminal.press(&["Escape"]).unwrap();
    terminal.wait_for("no dialog", |screen| !screen.contains("asked")).unwrap();
    terminal.press(&["?"]).unwrap();
    terminal.see("this help").unwrap();
    terminal.press(&["x"]).unwrap();
    let is_old = |screen: &str| !screen.contains("as of 0s ago") && !screen.contains("as of 1s ago");
    terminal.wait_for("old figures", is_old).unwrap();
    process.signal(Signal::SIGCONT).unwrap();
    terminal.see("h1: draining (drain ").unwrap();
    terminal.press(&["u", "Enter"]).unwrap();
    terminal.see("h1: takes new flows again").unwrap();

    // Only those that are like it.
    terminal.write("/h3").unwrap();
    let is_filtered = |screen: &str| screen.contains("1/1 of 3") && screen.contains(", like \"h3\"");
    let screen = terminal.wait_for("one host", is_filtered).unwrap();
    assert!(!screen.contains("\n h1 ") && row(&screen, "h3")[1] == "active", "{screen}");
    terminal.press(&["Escape"]).unwrap();

    // Other sizes.
    terminal.resize(40, 10).unwrap();
    terminal.see("60 x 20 are needed").unwrap();
    terminal.resize(140, 30).unwrap();
    terminal.see("WEIGHT").unwrap();
    terminal.resize(80, 24).unwrap();
    terminal.wait_for("the narrow table", |s| s.contains("NEW/S") && !s.contains("WEIGHT")).unwrap();

    // All about a host, checks, and a run.
    terminal.press(&["Home", "Down", "Enter"]).unwrap();
    let screen = terminal.see("h2: active, up; weight 100, ").unwrap();
    assert!(screen.contains(" new/s, ") && screen.contains("web-v4"), "{screen}");
    // With what follows at once it would be another key.
    terminal.press(&["Escape"]).unwrap();
    terminal.wait_for("the table again", |s| s.contains("NEW/S") && s.contains("h3")).unwrap();
    terminal.press(&["3"]).unwrap();
    let has_checks = |screen: &str| screen.contains("[3 health]") && screen.contains("web-v6");
    let screen = terminal.wait_for("the checks", has_checks).unwrap();
    let checked = |host: &str| screen.lines().filter(|line| line.starts_with(host)).count();
    assert_eq!(["h1 ", "h2 ", "h3 "].map(checked), [2; 3], "by both VIPs: {screen}");
    terminal.press(&["4"]).unwrap();
    terminal.see("no maintenance run and no shift").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.toml");
    std::fs::write(&file, "name = \"new kernel\"\nhosts = [\"h3\"]\n[run]\ncommand = \"true\"\n").unwrap();
    site.daemon.cli_ok(&["maintain", "start", file.to_str().unwrap(), "--reason", "page four"]).unwrap();
    let screen = terminal.see("new kernel").unwrap();
    assert!(screen.contains("[4 runs]") && screen.contains("page four"), "{screen}");
    terminal.see("h3").unwrap();
    site.daemon.cli_ok(&["maintain", "abort", "1", "--reason", "seen"]).unwrap();
    terminal.see("aborted").unwrap();
    terminal.press(&["1"]).unwrap();
    terminal.see("3 hosts: 3 active; ").unwrap();

    // The daemon goes and comes back.
    assert!(site.daemon.terminate().unwrap().success());
    let screen = terminal.see("no answer for ").unwrap();
    assert!(screen.contains("cannot reach the daemon"), "{screen}");
    assert_eq!(row(&screen, "h1")[1], "active", "the last figures stay: {screen}");
    terminal.press(&["d", "Enter"]).unwrap();
    terminal.see("not done").unwrap();
    terminal.press(&["Escape"]).unwrap();
    site.daemon.start_again().unwrap();
    terminal.wait_for("fresh figures", |s| s.contains("as of 0s ago") && !s.contains("no answer")).unwrap();
    assert_eq!(states(&site), ["active"; 3].map(Value::from));

    // The terminal is as it was.
    terminal.press(&["q"]).unwrap();
    let screen = terminal.see("what was here before").unwrap();
    assert!(!screen.contains("SHARE"), "{screen}");
    terminal.write("echo status $?; stty -a\n").unwrap();
    let screen = terminal.see("status 0").unwrap();
    let settings = terminal.wait_for("the settings", |screen| screen.contains("icanon")).unwrap();
    assert!(settings.contains(" icanon") && settings.contains(" echo "), "{screen}{settings}");
    assert_eq!(terminal.ask("#{alternate_on} #{cursor_flag}").unwrap(), "0 1");

    // Without colours, and ended from outside.
    terminal.write(&format!("NO_COLOR=1 {top}\n")).unwrap();
    terminal.see("3 hosts: 3 active; ").unwrap();
    let plain = terminal.coloured().unwrap();
    assert!(!has_colours(&plain) && plain.contains("\x1b[0;7m"), "{plain}");
    terminal.press(&["C-c"]).unwrap();
    terminal.wait_for("the prompt", |screen| !screen.contains("SHARE")).unwrap();
    assert_eq!(terminal.ask("#{alternate_on} #{cursor_flag}").unwrap(), "0 1");
    let counts = held.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}
