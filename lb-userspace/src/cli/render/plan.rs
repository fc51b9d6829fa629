//! `sluice plan drain`: who would lose what, and who would get it.

use std::fmt::Write as _;

use crate::api::types::{
    AdminState, BrokenRule, DrainPlan, LiveFlows, Load, OperState, PlannedHost, Survivor,
};
use crate::cli::terminal::Style;

use super::drain::phases;
use super::number::{count, duration, exact, percent, plural, rate};
use super::text::{Align, Grid, clean, wrap};

use Align::{Left, Right};

/// Rows of a table before they become a number.
const ROWS: usize = 12;

const HOSTS: &[(&str, Align)] = &[
    ("DRAINED", Left),
    ("ZONE", Left),
    ("STATE", Left),
    ("SLOTS", Right),
    ("FLOWS", Right),
    ("NEW/S", Right),
    ("PKT/S", Right),
    ("BYTES/S", Right),
];

const SURVIVORS: &[(&str, Align)] =
    &[("STAYS", Left), ("SHARE", Right), ("NEW/S", Right), ("PKT/S", Right), ("BYTES/S", Right)];

pub fn plan(plan: &DrainPlan, style: Style) -> String {
    let mut out = meant(plan, style);
    out.push_str(&hosts(&plan.hosts, style));
    out.push('\n');
    if plan.survivors.is_empty() {
        out.push_str("no host would get anything of it\n");
    } else {
        out.push_str(&survivors(&plan.survivors, style));
    }
    if let Some(unserved) = &plan.unserved {
        let text = format!(
            "nobody: {} and {} new flows a second would be with no host",
            plural(u64::from(unserved.slots), "slot"),
            rate(unserved.load.new_flows_per_second)
        );
        out.push_str(&paragraph(&text, 2, style));
    }
    out.push('\n');
    out.push_str(&paragraph(&flows(&plan.hosts), 2, style));
    out.push_str(&paragraph(&time(plan), 2, style));
    for note in &plan.notes {
        out.push_str(&paragraph(&format!("- {note}"), 2, style));
    }
    out.push('\n');
    out.push_str(&rules(&plan.rules, style));
    out
}

/// What is meant, where it is not all of the hosts.
fn meant(plan: &DrainPlan, style: Style) -> String {
    let what = match (&plan.service, plan.share) {
        (Some(service), _) if plan.clients.is_none() => format!("for {service} alone"),
        (service, _) if plan.clients.is_some() => {
            let of = service.as_ref().map(|service| format!("{service}, ")).unwrap_or_default();
            format!("for {of}clients {} alone", plan.clients.as_deref().unwrap_or_default())
        }
        (_, Some(share)) => format!("of {share}% of the hosts' slots, and the flows in them"),
        (_, None) => return String::new(),
    };
    paragraph(&what, 2, style) + "\n"
}

fn hosts(hosts: &[PlannedHost], style: Style) -> String {
    let mut grid = Grid::new(HOSTS, style);
    for host in hosts.iter().take(ROWS) {
        let Load { new_flows_per_second, packets_per_second, bytes_per_second } = host.load;
        grid.row([
            host.host.clone(),
            host.zone.clone().unwrap_or_else(|| "-".to_owned()),
            state(host).to_owned(),
            count(u64::from(host.slots)),
            live(host.live_flows),
            rate(new_flows_per_second),
            rate(packets_per_second),
            rate(bytes_per_second),
        ]);
    }
    grid.render() + &more(hosts.len(), "host", "(sluice plan drain --json lists all)")
}

fn state(host: &PlannedHost) -> &'static str {
    match (host.admin, host.oper) {
        (AdminState::Draining, _) => "draining",
        (AdminState::Drained, _) => "drained",
        (AdminState::Disabled, _) => "disabled",
        (AdminState::Active, OperState::Down) => "down",
        (AdminState::Active, OperState::Up | OperState::Unknown) => "active",
    }
}

fn live(live: LiveFlows) -> String {
    if live.hidden { format!("{}+", count(live.total)) } else { count(live.total) }
}

/// Those that gain most first, equal ones by name.
fn survivors(survivors: &[Survivor], style: Style) -> String {
    let gain = |survivor: &Survivor| survivor.share_after - survivor.share_before;
    let mut all: Vec<&Survivor> = survivors.iter().collect();
    all.sort_by(|a, b| gain(b).total_cmp(&gain(a)).then_with(|| a.host.cmp(&b.host)));
    let mut grid = Grid::new(SURVIVORS, style);
    for survivor in all.iter().take(ROWS) {
        let pair = |of: fn(&Load) -> f64| change(rate(of(&survivor.before)), rate(of(&survivor.after)));
        grid.row([
            survivor.host.clone(),
            change(percent(survivor.share_before), percent(survivor.share_after)),
            pair(|load| load.new_flows_per_second),
            pair(|load| load.packets_per_second),
            pair(|load| load.bytes_per_second),
        ]);
    }
    grid.render() + &more(survivors.len(), "host", "that gain less (sluice plan drain --json lists all)")
}

fn change(before: String, after: String) -> String {
    if before == after { before } else { format!("{before} -> {after}") }
}

fn more(rows: usize, what: &str, how: &str) -> String {
    match rows.checked_sub(ROWS) {
        None | Some(0) => String::new(),
        Some(more) => format!("and {} more {how}\n", plural(more as u64, what)),
    }
}

fn flows(hosts: &[PlannedHost]) -> String {
    let sum =
        hosts.iter().fold(LiveFlows::default(), |sum, PlannedHost { live_flows: live, .. }| LiveFlows {
            half_open: sum.half_open + live.half_open,
            established: sum.established + live.established,
            closing: sum.closing + live.closing,
            udp: sum.udp + live.udp,
            total: sum.total + live.total,
            hidden: sum.hidden || live.hidden,
        });
    let least = if sum.hidden { "at least " } else { "" };
    match sum.total {
        0 if !sum.hidden => "no flow is live there".to_owned(),
        n => {
            let phases = if n == 0 { String::new() } else { format!(" ({})", phases(sum)) };
            format!("live flows that would have to end: {least}{}{phases}", exact(n))
        }
    }
}

fn time(plan: &DrainPlan) -> String {
    let expected = plan.expected_seconds.map_or_else(|| "unknown".to_owned(), duration);
    match plan.at_least_seconds {
        0 => format!("expected time: {expected}"),
        least => format!("expected time: {expected}, at least {}", duration(least)),
    }
}

fn rules(rules: &[BrokenRule], style: Style) -> String {
    if rules.is_empty() {
        return "no rule would be broken\n".to_owned();
    }
    let mut out = String::new();
    let _ = writeln!(out, "{} would be broken:", plural(rules.len() as u64, "rule"));
    for rule in rules.iter().take(ROWS) {
        out.push_str(&paragraph(&format!("  {}: {}", rule.rule, rule.message), 4, style));
        out.push_str(&paragraph(&format!("    mend: {}", rule.mend), 6, style));
    }
    if let Some(rest @ 1..) = rules.len().checked_sub(ROWS) {
        let _ =
            writeln!(out, "  and {} more (sluice plan drain --json lists all)", plural(rest as u64, "rule"));
    }
    out
}

fn paragraph(text: &str, indent: usize, style: Style) -> String {
    wrap(&clean(text, style.ascii), usize::from(style.width), indent) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::fixtures::live as live_flows;
    use std::collections::BTreeMap;

    const NARROW: Style = Style { width: 80, ..Style::PLAIN };

    fn load(new_flows: f64) -> Load {
        Load {
            new_flows_per_second: new_flows,
            packets_per_second: new_flows * 1000.0,
            bytes_per_second: new_flows * 1e6,
        }
    }

    fn host(number: usize) -> PlannedHost {
        PlannedHost {
            host: format!("web-{number}"),
            zone: Some("a".to_owned()),
            admin: AdminState::Active,
            oper: OperState::Up,
            slots: 21_846,
            kept: 0,
            moves: BTreeMap::new(),
            live_flows: live_flows(37),
            load: load(12.5),
        }
    }

    fn survivor(number: usize, share_after: f64) -> Survivor {
        Survivor {
            host: format!("app-{number}"),
            slots_before: 21_846,
            slots_after: 32_768,
            share_before: 1.0 / 3.0,
            share_after,
            before: load(12.5),
            after: load(18.75),
        }
    }

    fn drain_plan(hosts: usize, survivors: usize, rules: usize) -> DrainPlan {
        let rule = |number: usize| BrokenRule {
            rule: "min_healthy".to_owned(),
            service: format!("service-{number}"),
            message: format!(
                "service service-{number} would have 33% of its weight healthy (100 of 300, now 300), and min_healthy is 50%"
            ),
            mend: "drain fewer at once: hosts of weight 150 together may be out, 0 are".to_owned(),
            weight: 300,
            healthy_before: 300,
            healthy_after: 100,
        };
        DrainPlan {
            service: None,
            clients: None,
            share: None,
            hosts: (1..=hosts).map(host).collect(),
            survivors: (1..=survivors).map(|n| survivor(n, 0.5 + n as f64 / 1000.0)).collect(),
            unserved: None,
            expected_seconds: None,
            at_least_seconds: 0,
            rules: (1..=rules).map(rule).collect(),
            notes: vec![
                "UDP flows of dns stay until they have been silent for the timeout of UDP".to_owned(),
            ],
        }
    }

    #[test]
    fn a_plan_reads_like_this() {
        assert_eq!(
            plan(&drain_plan(1, 2, 1), NARROW),
            "\
DRAINED  ZONE  STATE   SLOTS  FLOWS  NEW/S  PKT/S  BYTES/S
web-1    a     active  21846     37   12.5  12.5k    12.5M

STAYS           SHARE         NEW/S           PKT/S         BYTES/S
app-2  33.3% -> 50.2%  12.5 -> 18.8  12.5k -> 18.8k  12.5M -> 18.8M
app-1  33.3% -> 50.1%  12.5 -> 18.8  12.5k -> 18.8k  12.5M -> 18.8M

live flows that would have to end: 37 (30 established, 7 closing)
expected time: unknown
- UDP flows of dns stay until they have been silent for the timeout of UDP

1 rule would be broken:
  min_healthy: service service-1 would have 33% of its weight healthy (100 of
    300, now 300), and min_healthy is 50%
    mend: drain fewer at once: hosts of weight 150 together may be out, 0 are
"
        );
    }

    #[test]
    fn long_lists_are_cut_with_a_count_and_lines_fit() {
        let text = plan(&drain_plan(13, 500, 14), NARROW);
        assert!(text.contains("and 1 host more"), "{text}");
        assert!(text.contains("and 488 hosts more that gain less"), "{text}");
        assert!(text.contains("and 2 rules more"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().count() < 100, "{text}");
    }

    #[test]
    fn what_is_special_is_said() {
        let mut special = drain_plan(1, 0, 0);
        special.hosts[0].live_flows = LiveFlows { hidden: true, ..LiveFlows::default() };
        special.hosts[0].oper = OperState::Down;
        special.at_least_seconds = 901;
        special.unserved = Some(crate::api::types::Unserved { slots: 65_537, load: load(2.0) });
        let text = plan(&special, NARROW);
        for part in [
            "  down  ",
            "  0+  ",
            "no host would get anything of it\n",
            "nobody: 65,537 slots and 2.0 new flows a second would be with no host\n",
            "live flows that would have to end: at least 0\n",
            "expected time: unknown, at least 15m01s\n",
            "no rule would be broken\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        special.hosts[0].live_flows = live_flows(0);
        special.expected_seconds = Some(90);
        let text = plan(&special, NARROW);
        assert!(text.contains("no flow is live there\nexpected time: 1m30s, at least 15m01s\n"), "{text}");
    }
}
