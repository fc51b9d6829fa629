//! All that the page shows at a glance, in rows; and how two looks differ. A thousand hosts and services are some hundred kilobytes once, and
//! then what changes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::trail::Trails;
use crate::api::types::{AdminState, DrainStatus, LiveFlows, OperState, ServiceStatus, Status, Traffic};
use crate::engine::RingShares;

/// Problems that are told one by one; of more only how many there are.
const PROBLEMS: usize = 100;

/// Rows by their names.
type Rows = BTreeMap<String, Value>;

/// A look at the balancer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// Unix seconds.
    pub as_of: u64,
    /// What there is once.
    head: Value,
    tables: BTreeMap<&'static str, Rows>,
    /// Points of drains under way, for who sees the page for the first time.
    trails: Map<String, Value>,
    /// The same of the whole balancer: live flows.
    flows: Vec<(u64, u64)>,
}

/// What a look is made of.
pub struct Seen<'a> {
    pub as_of: u64,
    pub status: &'a Status,
    /// All that are not over.
    pub drains: &'a [DrainStatus],
    pub rings: &'a [RingShares],
    pub trails: &'a Trails,
    pub flows: &'a [(u64, u64)],
}

impl Look {
    pub fn of(seen: &Seen<'_>) -> Self {
        let Seen { as_of, status, drains, rings, trails, flows } = *seen;
        let services_of = services_of(status);
        let states: BTreeMap<&str, _> =
            status.hosts.iter().map(|host| (host.name.as_str(), (host.admin, host.oper))).collect();
        let hosts = status.hosts.iter().map(|host| {
            let row = json!({
                "admin": host.admin, "oper": host.oper, "weight": host.weight, "share": share(host.share),
                "live": live(&host.live_flows), "rates": rates(&host.traffic), "down_for": host.down_for,
                "services": services_of.get(host.name.as_str()).copied().unwrap_or(0),
                "ramp": host.ramp,
                "drain": host.drain.as_ref().filter(|drain| drain.state != "undrained").map(|drain| drain.id),
            });
            (host.name.clone(), row)
        });
        let services = status.services.iter().map(|service| {
            let backends = service.backends.iter();
            let in_use = backends.filter(|backend| {
                states
                    .get(backend.host.as_str())
                    .is_some_and(|(admin, oper)| *admin == AdminState::Active && *oper != OperState::Down)
                    && backend.drain.as_ref().is_none_or(|drain| drain.state == "undrained")
            });
            let row = json!({
                "vip": service.vip, "protocols": protocols(service), "ports": ports(service),
                "forward": service.forward, "ring": service.ring, "live": live(&service.live_flows),
                "rates": rates(&service.traffic), "hosts": service.backends.len(), "in_use": in_use.count(),
                "down": status.hosts.iter().filter(|host| host.down_for.contains(&service.name)).count(),
                "shift": service.split.as_ref().map(|split| split.shift),
            });
            (service.name.clone(), row)
        });
        let rings = rings.iter().map(|ring| {
            let members: Vec<_> =
                ring.members.iter().map(|of| json!([of.host, of.slots, of.base_slots])).collect();
            let row = json!({
                "size": ring.size, "generation": ring.generation, "open_slots": ring.open_slots,
                "services": ring.services, "members": members,
            });
            (ring.id.to_string(), row)
        });
        let drain_rows = drains.iter().map(|drain| (drain.id.to_string(), json!(drain)));
        let tables = BTreeMap::from([
            ("hosts", hosts.collect()),
            ("services", services.collect()),
            ("rings", rings.collect()),
            ("drains", drain_rows.collect()),
        ]);
        let trails = drains.iter().map(|drain| (drain.id.to_string(), json!(trails.of(drain.id))));
        Look { as_of, head: head(status), tables, trails: trails.collect(), flows: flows.to_vec() }
    }

    /// What has changed since `before`, or everything.
    pub fn since(&self, before: Option<&Look>) -> Value {
        let mut told = json!({"as_of": self.as_of, "full": before.is_none()});
        if before.is_none_or(|before| before.head != self.head) {
            told["head"] = self.head.clone();
        }
        if before.is_none() {
            told["trails"] = Value::Object(self.trails.clone());
            told["flows"] = json!(self.flows);
        }
        let none = Rows::new();
        for (name, rows) in &self.tables {
            let old = before.and_then(|before| before.tables.get(name)).unwrap_or(&none);
            let new: Map<String, Value> = rows
                .iter()
                .filter(|(key, row)| old.get(*key) != Some(*row))
                .map(|(key, row)| (key.clone(), row.clone()))
                .collect();
            let gone: Vec<&String> = old.keys().filter(|key| !rows.contains_key(*key)).collect();
            if !new.is_empty() {
                told[*name] = Value::Object(new);
            }
            if !gone.is_empty() {
                told["gone"][*name] = json!(gone);
            }
        }
        told
    }
}

fn head(status: &Status) -> Value {
    let total: u64 = status.hosts.iter().map(|host| host.live_flows.total).sum();
    let sum = |of: fn(&Traffic) -> f64| status.hosts.iter().map(|host| of(&host.traffic)).sum::<f64>();
    let rates = [
        figure(sum(|traffic| traffic.new_flows_per_second)),
        figure(sum(|traffic| traffic.packets_per_second)),
        figure(sum(|traffic| traffic.bytes_per_second)),
    ];
    json!({
        "instance": status.instance, "version": status.version, "started_at": status.started_at,
        "generation": status.generation, "revision": status.revision, "config": status.config,
        "config_in_force": status.config_in_force, "vip_mode": status.vip_mode, "interfaces": status.interfaces,
        "live": total, "hidden": status.hosts.iter().any(|host| host.live_flows.hidden), "rates": rates,
        "pins": status.flow_table.pins, "pinned": status.flow_table.live, "leaving": status.leaving,
        "violations": status.violations, "problems": status.problems.iter().take(PROBLEMS).collect::<Vec<_>>(),
        "problem_count": status.problems.len(),
    })
}

/// How many services each host has.
fn services_of(status: &Status) -> BTreeMap<&str, usize> {
    let mut count = BTreeMap::new();
    for service in &status.services {
        let hosts: BTreeSet<&str> = service.backends.iter().map(|backend| backend.host.as_str()).collect();
        for host in hosts {
            *count.entry(host).or_insert(0) += 1;
        }
    }
    count
}

/// Total, half-open, established, closing, UDP, and whether there may be more.
fn live(live: &LiveFlows) -> impl Serialize {
    (live.total, live.half_open, live.established, live.closing, live.udp, live.hidden)
}

/// New flows, packets and bytes a second.
fn rates(traffic: &Traffic) -> [f64; 3] {
    [traffic.new_flows_per_second, traffic.packets_per_second, traffic.bytes_per_second].map(figure)
}

/// Three digits are as much as anybody reads, and a row that looks as before is not told again.
fn figure(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 0.0;
    }
    let unit = 10f64.powf(value.log10().floor() - 2.0);
    (value / unit).round() * unit
}

/// In hundredths of a percent.
fn share(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

fn protocols(service: &ServiceStatus) -> String {
    service.protocols.to_string()
}

fn ports(service: &ServiceStatus) -> String {
    service.ports.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::fixtures;

    fn look(status: &Status, as_of: u64, drains: &[DrainStatus]) -> Look {
        let mut trails = Trails::default();
        trails.take(
            as_of,
            drains.iter().map(|drain| (drain.id, (drain.started_at, 120), drain.live_flows.total)),
        );
        Look::of(&Seen { as_of, status, drains, rings: &[], trails: &trails, flows: &[(1, 2)] })
    }

    /// As the page does it.
    fn apply(known: &mut Value, told: &Value) {
        if told["full"] == true {
            *known = json!({});
        }
        for (name, part) in told.as_object().unwrap() {
            match (name.as_str(), part) {
                ("hosts" | "services" | "rings" | "drains", Value::Object(rows)) => {
                    for (key, row) in rows {
                        known[name][key] = row.clone();
                    }
                }
                ("gone", Value::Object(tables)) => {
                    for (table, keys) in tables {
                        for key in keys.as_array().unwrap() {
                            known[table].as_object_mut().unwrap().remove(key.as_str().unwrap());
                        }
                    }
                }
                _ => known[name] = part.clone(),
            }
        }
    }

    #[test]
    fn what_is_told_of_changes_comes_to_the_whole() {
        let first = fixtures::status();
        let mut second = first.clone();
        second.hosts[0].live_flows = fixtures::live(7);
        second.generation += 1;
        let mut third = second.clone();
        let gone = third.hosts.pop().unwrap().name;
        let drains = [vec![], vec![fixtures::draining(8, "web-1", 3)], vec![]];
        let looks: Vec<Look> = [&first, &second, &third]
            .into_iter()
            .zip(&drains)
            .enumerate()
            .map(|(n, (status, drains))| look(status, fixtures::NOW + n as u64, drains))
            .collect();
        let (mut known, mut before) = (Value::Null, None);
        for look in &looks {
            apply(&mut known, &look.since(before));
            let mut whole = Value::Null;
            apply(&mut whole, &look.since(None));
            for part in ["head", "hosts", "services", "as_of"] {
                assert_eq!(known[part], whole[part], "{part}");
            }
            assert_eq!(
                known["drains"].as_object().map_or(0, Map::len),
                whole["drains"].as_object().map_or(0, Map::len)
            );
            before = Some(look);
        }
        let change = looks[1].since(Some(&looks[0]));
        assert_eq!(change["hosts"].as_object().unwrap().len(), 1, "{change}");
        assert_eq!((change.get("services"), change.get("gone"), change.get("trails")), (None, None, None));
        assert_eq!(change["drains"]["8"]["host"], "web-1");
        let change = looks[2].since(Some(&looks[1]));
        assert_eq!(change["gone"], json!({"hosts": [gone], "drains": ["8"]}));
        assert_eq!(looks[1].since(None)["trails"]["8"].as_array().unwrap().len(), 2);
        let same = looks[2].since(Some(&looks[2]));
        assert_eq!(same, json!({"as_of": fixtures::NOW + 2, "full": false}));
    }

    #[test]
    fn figures_have_three_digits() {
        for (value, expected) in [
            (0.0, 0.0),
            (-1.0, 0.0),
            (f64::NAN, 0.0),
            (123_456.0, 123_000.0),
            (99.96, 100.0),
            (0.012_345, 0.0123),
        ] {
            assert!((figure(value) - expected).abs() < expected * 1e-9 + 1e-12, "{value}: {}", figure(value));
        }
    }
}
