//! The dashboard and the alert rules ask for what there is. That Prometheus can read the expressions is checked with `promtool`, by the
//! suite `veth_metrics`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{FAMILIES, PREFIX};

const ALERTS: &str = include_str!("../../monitoring/alerts.yml");
const ALERT_TESTS: &str = include_str!("../../monitoring/alerts_test.yml");
const DASHBOARD: &str = include_str!("../../monitoring/dashboard.json");

fn families() -> BTreeMap<String, BTreeSet<&'static str>> {
    let labels = |labels: &[&'static str]| labels.iter().copied().chain(["instance", "job"]).collect();
    FAMILIES.iter().map(|family| (family.sample_name(), labels(family.labels()))).collect()
}

/// Metrics that an expression names, each with the labels that it selects by.
fn named(expression: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut found = Vec::new();
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut rest = expression;
    while let Some(at) = rest.find(&format!("{PREFIX}_")) {
        let from = &rest[at..];
        let name = &from[..from.find(|c| !is_name(c)).unwrap_or(from.len())];
        rest = &from[name.len()..];
        let selector = rest.strip_prefix('{').and_then(|inside| inside.split('}').next()).unwrap_or_default();
        let labels = selector.split(',').filter_map(|part| part.split(['=', '!']).next());
        let labels = labels.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty());
        found.push((name.to_owned(), labels.collect()));
    }
    found
}

/// Labels that an expression groups by.
fn grouped_by(expression: &str) -> BTreeSet<String> {
    let groups = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    groups.flat_map(|group| group.split(',').map(|label| label.trim().to_owned())).collect()
}

fn check(expression: &str, families: &BTreeMap<String, BTreeSet<&'static str>>) -> BTreeSet<String> {
    let metrics = named(expression);
    let mut known = BTreeSet::new();
    for (metric, labels) in &metrics {
        let Some(has) = families.get(metric) else { panic!("there is no {metric}: {expression}") };
        for label in labels {
            assert!(has.contains(label.as_str()), "{metric} has no {label}: {expression}");
        }
        known.extend(has.iter().copied());
    }
    for label in grouped_by(expression) {
        assert!(known.contains(label.as_str()), "nothing has {label}: {expression}");
    }
    metrics.into_iter().map(|(metric, _)| metric).collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" || name == "query" => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| expressions(element, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 20);
    let families = families();
    let shown: BTreeSet<String> = asked.iter().flat_map(|expression| check(expression, &families)).collect();
    assert!(shown.len() > 20, "{shown:?}");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        let grid = &panel["gridPos"];
        assert!(places.insert((grid["x"].as_u64(), grid["y"].as_u64())), "two panels in one place: {panel}");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            for label in target["legendFormat"].as_str().unwrap().split("{{").skip(1) {
                let label = label.split("}}").next().unwrap();
                let grouped = grouped_by(expression);
                let has = |metric: &(String, _)| families[&metric.0].contains(label);
                let is_there = if grouped.is_empty() {
                    named(expression).iter().any(has)
                } else {
                    grouped.contains(label)
                };
                assert!(is_there, "the legend has no {label}: {expression}");
            }
        }
    }
}

#[test]
fn alerts_ask_for_what_there_is() {
    let families = families();
    let asked = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let asked: Vec<&str> = asked.collect();
    assert!(asked.len() >= 20);
    assert_eq!(ALERTS.matches("- alert: ").count(), asked.len());
    asked.iter().for_each(|expression| drop(check(expression, &families)));
    ALERT_TESTS.lines().filter(|line| line.contains("series:")).for_each(|line| drop(check(line, &families)));
}

#[test]
#[should_panic(expected = "there is no sluice_nonsense_total")]
fn a_name_that_is_wrong_is_found() {
    check("rate(sluice_nonsense_total[5m])", &families());
}

#[test]
#[should_panic(expected = "sluice_ready has no host")]
fn a_label_that_is_wrong_is_found() {
    check("sluice_ready{host=\"a\"}", &families());
}

/// Beginning of the series of the first metric that an expression asks for, and the labels by which it selects.
fn asked_first(expression: &str) -> (String, Vec<&str>) {
    let metric = named(expression).into_iter().next().map_or_else(|| "up".to_owned(), |(metric, _)| metric);
    let rest = expression.split_once(&metric).map_or("", |(_, rest)| rest);
    let selector = rest.strip_prefix('{').and_then(|inside| inside.split('}').next()).unwrap_or_default();
    (
        format!("series: '{metric}{{"),
        selector.split(',').map(str::trim).filter(|part| part.contains("=\"")).collect(),
    )
}

/// `promtool` runs them; here it is seen to that each rule has one by which it is told and one by which it is not: at another time, or of
/// another series that it asks for.
#[test]
fn each_alert_has_tests() {
    for rule in ALERTS.split("- alert: ").skip(1) {
        let alert = rule.lines().next().unwrap();
        let expression = rule.lines().find_map(|line| line.trim().strip_prefix("expr: ")).unwrap();
        let (begins, labels) = asked_first(expression);
        let (mut is_told, mut is_quiet) = (false, false);
        for test in ALERT_TESTS.split("\n  - name: ").skip(1) {
            let is_asked =
                |line: &&str| line.contains(&begins) && labels.iter().all(|label| line.contains(label));
            let series = test.lines().filter(is_asked).count();
            for moment in test.split("eval_time: ").skip(1) {
                let of =
                    moment.split("alertname: ").nth(1).and_then(|name| name.split([',', ' ', '\n']).next());
                if of == Some(alert) {
                    let told = moment.matches("- exp_labels: ").count();
                    is_told |= told > 0;
                    is_quiet |= told < series;
                }
            }
        }
        assert!(is_told, "no test of alerts_test.yml has {alert} told");
        assert!(is_quiet, "no test of alerts_test.yml has {alert} not told");
    }
}
