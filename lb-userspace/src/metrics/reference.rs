//! docs/metrics.md is made from the table of families.

use std::fmt::Write;

use lb_common::reason::{Class, Reason};

use super::{FAMILIES, Kind};
use crate::explain::why;

const BEFORE: &str = "# Metrics

<!-- Made from the table of families: SLUICE_WRITE_DOCS=1 cargo test -p lb-userspace --lib metrics -->

`GET /metrics` on the API's socket, and by TCP where [`[metrics]`](configuration-reference.md#metrics) says, in OpenMetrics 1.0, which Prometheus
takes by itself. Counters are read from the maps at the moment of the scrape.

```yaml
scrape_configs:
  - job_name: sluice
    static_configs: [{ targets: [\"127.0.0.1:9464\"] }]
```

`lb-userspace/monitoring` has a dashboard for Grafana (`dashboard.json`), alert rules (`alerts.yml`) and tests of those
(`promtool test rules alerts_test.yml`). The package has the first two in `/usr/share/sluice`.

- Counters survive restarts of the daemon, and upgrades; `sluice detach` and a reboot set them to 0, which `rate()` understands. Those of the
  program's run time begin anew with each load of the program, those of path errors, checks and maintenance runs with the daemon.
- A family has no samples where there is nothing to tell: no drain is under way, the kernel has measured no run times.
- Run times need `sysctl kernel.bpf_stats_enabled=1`, which makes every packet dearer, twice as dear or more. Set it back to 0 when you have seen enough:
  the counters stand still from then on, until another load of the program begins them anew.
- Health: `sluice_health_state` is what [checks](operations.md#health) say of a host for a service, `sluice_service_hosts` and what is beside it what
  the balancer makes of that; both of services that have checks or standby hosts. What is asked is left out, as commands and paths may hold secrets:
  which of several checks failed, and why, says `sluice health`.
- Of a service with `tracking = \"edges\"` live flows are too few: see `sluice_live_flows_incomplete`.
- What a scrape takes of the engine's time is `sluice_scrape_read_duration_seconds`. Who asks again within 20 times as long gets the same text.
  Packets notice nothing of it.

";

fn reference() -> String {
    let mut text = BEFORE.to_owned();
    text += "| metric | type | labels | meaning |\n|---|---|---|---|\n";
    for family in FAMILIES {
        let kind = match family.kind() {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let labels: Vec<String> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        let (name, labels, help) = (family.sample_name(), labels.join(", "), family.help());
        writeln!(text, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    text += "\n## Reasons\n\nValues of `reason`, `note` and `violation`; ";
    text += "`sluice status`, `sluice explain` and `sluice trace` have them with their class in front, such as `drop_no_host`.\n\n";
    for (name, class) in [
        ("pass", Class::Pass),
        ("forward", Class::Forward),
        ("answer", Class::Answer),
        ("drop", Class::Drop),
        ("notes", Class::Note),
        ("violations", Class::Violation),
    ] {
        let reasons = Reason::ALL.iter().filter(|reason| reason.class() == class);
        let reasons: Vec<String> =
            reasons.map(|reason| format!("`{}`", reason.name().split_once('_').unwrap().1)).collect();
        writeln!(text, "- *{name}*: {}", reasons.join(", ")).unwrap();
    }
    text += "\nWhat verdicts mean, as `sluice explain` says it too:\n\n";
    text +=
        "| in `sluice status` | `verdict`, `reason` | a packet is counted as that because |\n|---|---|---|\n";
    for reason in Reason::ALL {
        if let Some(why) = why(reason.name()) {
            let (class, short) = reason.name().split_once('_').unwrap();
            writeln!(text, "| `{}` | `{class}`, `{short}` | {why} |", reason.name()).unwrap();
        }
    }
    text
}

#[test]
fn every_reason_of_a_drop_is_in_words() {
    let text = reference();
    for reason in Reason::ALL.iter().filter(|reason| reason.class() == Class::Drop) {
        let (_, short) = reason.name().split_once('_').unwrap();
        let row = format!("| `{}` | `drop`, `{short}` | ", reason.name());
        let words = text.split(&row).nth(1).unwrap_or_else(|| panic!("{row}"));
        assert!(words.split(" |").next().unwrap().contains(' '), "{row}");
    }
}

#[test]
fn the_reference_in_docs_is_this_one() {
    crate::made::is_kept("metrics.md", &reference());
}
