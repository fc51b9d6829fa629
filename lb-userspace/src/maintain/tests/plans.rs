use std::collections::BTreeMap;

use super::super::*;
use super::world::NOW;
use crate::api::types::{AtDeadline, OnFailure};
use crate::config;
use crate::model::Model;

fn model() -> Model {
    let mut text =
        "interfaces = [\"eth0\"]\nvip_mode = \"external\"\n[rules]\nmin_healthy = \"50%\"\n".to_owned();
    for (n, zone) in [(1, "b"), (2, "a"), (3, "b"), (4, "a")] {
        let more = if n == 4 { "disabled = true\n" } else { "" };
        text += &format!(
            "[hosts.web-{n}]\naddresses = [\"10.0.0.{n}\"]\nzone = \"{zone}\"\ngroups = [\"web\"]\n{more}"
        );
    }
    text += "[hosts.alone]\naddresses = [\"10.0.0.9\"]\n";
    text += "[[services]]\nname = \"web\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 80\nhosts = [\"web-1\", \"web-2\", \"web-3\", \"web-4\"]\n";
    text += "[[services]]\nname = \"single\"\nvip = \"203.0.113.2\"\nprotocol = \"tcp\"\nport = 80\nhosts = [\"alone\"]\n";
    config::parse(&text, "test").unwrap().model
}

fn read_in(text: &str, busy: &[(&str, u64)], out: &[(&str, &str)]) -> Result<Plan, Refused> {
    let busy: BTreeMap<_, _> = busy.iter().map(|(host, run)| ((*host).to_owned(), *run)).collect();
    let out: BTreeMap<_, _> = out.iter().map(|(host, by)| ((*host).to_owned(), (*by).to_owned())).collect();
    read(text, "plan.toml", &Site { model: &model(), busy: &busy, out: &out, now: NOW })
}

fn problems(text: &str) -> Vec<String> {
    read_in(text, &[], &[]).unwrap_err().problems
}

#[test]
fn a_whole_plan() {
    let text = r#"
        name = "nginx 1.26"
        hosts = ["web-3", "web-1", "web-2"]
        order = "zone"
        at_once = "70%"
        min_healthy = "60%"
        on_failure = "rollback"
        windows = ["Mon-Fri 22:00-04:00"]
        utc_offset = "+01:00"
        not_after = "2027-01-01T00:00:00Z"
        [drain]
        deadline = "10m"
        at_deadline = "reset"
        [run]
        command = "ssh $SLUICE_HOST upgrade"
        timeout = "5m"
        [healthy]
        for = "10s"
        within = "1m"
        command = "curl -f http://$SLUICE_IPV4/"
        [undrain]
        ramp = "30s"
        watch = "20s"
        [rollback]
        webhook = "http://10.0.0.7:8080/back"
        healthy = "curl -f http://$SLUICE_IPV4/old"
    "#;
    let plan = read_in(text, &[("web-4", 3)], &[]).unwrap();
    let hosts: Vec<&str> = plan.hosts.iter().map(|planned| planned.host.as_str()).collect();
    assert_eq!(hosts, ["web-3", "web-1", "web-2"], "zone b first, as it is named first");
    assert_eq!((plan.at_once, plan.min_healthy, plan.on_failure), (2, 60, OnFailure::Rollback));
    assert_eq!((plan.deadline, plan.at_deadline), (Some(600), AtDeadline::Reset));
    assert_eq!((plan.work.timeout, plan.ramp, plan.watch), (300, Some(30), 20));
    let check_back = plan.check_back.unwrap();
    assert_eq!(check_back.what, What::Command("curl -f http://$SLUICE_IPV4/old".to_owned()));
    assert_eq!(check_back.timeout, 10);
    assert_eq!(plan.rollback.unwrap().what, What::Webhook("http://10.0.0.7:8080/back".to_owned()));
    assert!(plan.windows.is_open(NOW) && !plan.windows.is_open(NOW + 4 * 3600));
}

#[test]
fn the_shortest_plan_has_defaults() {
    let plan = read_in("name = \"x\"\nhosts = [\"web-1\"]\n[run]\ncommand = \"true\"\n", &[], &[]).unwrap();
    assert_eq!((plan.at_once, plan.on_failure, plan.work.timeout), (1, OnFailure::Stop, 600));
    assert_eq!((plan.proof.hold, plan.proof.within, plan.watch, plan.ramp), (5, 300, 10, None));
}

#[test]
fn what_is_wrong_is_told_all_at_once_with_the_mend() {
    let text = r#"
        name = " "
        hosts = ["web-11", "@wep", "alone", "web-4", "web-1", "web-2"]
        at_once = 0
        min_healthy = "x"
        windows = ["22:00-22:00"]
        utc_offset = "CET"
        not_after = "soon"
        [drain]
        at_deadline = "reset"
        [run]
        command = "true"
        webhook = "http://x/"
        timeout = "5"
        [healthy]
        for = "10s"
        within = "5s"
        timeout = "1s"
        [rollback]
        webhook = "https://x/"
    "#;
    let busy = [("web-1", 7)];
    let refused = read_in(text, &busy, &[("web-2", "bob")]).unwrap_err();
    let all = refused.problems.join("\n");
    for part in [
        "name: it is empty",
        "\"web-11\" is unknown; did you mean \"web-1\"?",
        "\"@wep\" is unknown; did you mean \"@web\"?",
        "draining alone would leave service single without a host, even with all hosts well: this rule can never hold",
        "web-4 is disabled",
        "web-1 is in run 7, which is under way; wait for its end, or `sluice maintain abort 7`",
        "web-2 is drained, by bob; `sluice undrain web-2` first",
        "at_once: with less than one",
        "min_healthy: \"x\" is no percentage",
        "is a window that never opens",
        "utc_offset: it is none",
        "not_after: \"soon\" is no time",
        "drain.at_deadline: there is no deadline",
        "run: it has both",
        "run.timeout: \"5\" is no duration",
        "healthy.within: a host cannot",
        "healthy.timeout: there is no command",
        "rollback.webhook: \"https://x/\" is no http:// URL",
    ] {
        assert!(all.contains(part), "{part} is not in:\n{all}");
    }
}

#[test]
fn rules_that_can_never_hold_and_windows_that_never_open() {
    let plan = |top: &str| format!("name = \"x\"\nhosts = [\"web-1\"]\n{top}\n[run]\ncommand = \"true\"\n");
    // A quarter of the weight is out with it, whatever happens.
    assert!(read_in(&plan("min_healthy = \"75%\""), &[], &[]).is_ok());
    let never = problems(&plan("min_healthy = \"76%\""));
    assert!(never.len() == 1 && never[0].contains("can never hold"), "{never:?}");
    let past = problems(&plan("windows = [\"12:00-13:00\"]\nnot_after = \"2026-11-27T11:00:00Z\""));
    assert!(past.len() == 1 && past[0].contains("none opens between now and not_after"), "{past:?}");
    assert!(!problems(&plan("not_after = \"2020-01-01T00:00:00Z\"")).is_empty());
}

#[test]
fn checks_that_come_too_seldom_cannot_prove_anybody_in_time() {
    let text = "interfaces = [\"eth0\"]\nvip_mode = \"external\"\n[hosts.a]\naddresses = [\"10.0.0.1\"]\n[hosts.b]\naddresses = [\"10.0.0.2\"]\n\
                [[services]]\nname = \"web\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 80\nhosts = [\"a\", \"b\"]\n\
                [services.health]\ninterval = \"30s\"\ntimeout = \"2s\"\njitter = \"10%\"\n[[services.checks]]\ntype = \"tcp\"\n";
    let model = config::parse(text, "test").unwrap().model;
    let (busy, out) = (BTreeMap::new(), BTreeMap::new());
    let problems = |within: u64| {
        let plan = format!(
            "name = \"x\"\nhosts = [\"a\"]\n[run]\ncommand = \"true\"\n[healthy]\nfor = \"5s\"\nwithin = \"{within}s\"\n"
        );
        let site = Site { model: &model, busy: &busy, out: &out, now: NOW };
        read(&plan, "plan.toml", &site).map_or_else(|refused| refused.problems, |_| Vec::new())
    };
    assert_eq!(problems(41), Vec::<String>::new());
    let late = problems(40);
    assert!(late.len() == 1 && late[0].contains("by the checks of web it may take 41 s"), "{late:?}");
}

#[test]
fn what_is_no_plan_is_refused_with_its_place() {
    let unknown = problems("name = \"x\"\nhosts = []\nat_onec = 2\n[run]\ncommand = \"true\"\n");
    assert!(unknown[0].contains("line 3") && unknown[0].contains("at_onec"), "{unknown:?}");
    assert!(problems("name = \"x\"\nhosts = []\n")[0].contains("missing field `run`"));
    assert!(problems("name = ")[0].contains("line 1"));
    assert!(
        problems("name = \"x\"\nhosts = []\n[run]\ncommand = \"true\"\n")[0]
            .contains("hosts: there are none")
    );
}

#[test]
fn commands_that_no_shell_can_be_given_are_refused() {
    let long = "x".repeat(crate::jobs::LONGEST + 1);
    let text = format!(
        "name = \"x\"\nhosts = [\"web-1\"]\non_failure = \"rollback\"\n[run]\ncommand = \"a\\u0000b\"\n[healthy]\ncommand = \"{long}\"\n[rollback]\ncommand = \"{long}\"\nhealthy = \"{long}\"\n"
    );
    let mut all = problems(&text);
    all.sort();
    assert_eq!(all.len(), 4, "{all:?}");
    for (problem, start) in all.iter().zip([
        "healthy.command: it is longer",
        "rollback.command: it is longer",
        "rollback.healthy: it is longer",
        "run.command: it has a NUL",
    ]) {
        assert!(problem.starts_with(start), "{problem}");
    }
}
