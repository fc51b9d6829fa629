//! How two configs differ, part by part and field by field. Pure.
//!
//! The fields come from the model as it is serialized, so a new one is told of without a line here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::api::types::{ChangeKind, ConfigChange, ConfigPart, FieldChange};
use crate::model::Model;

#[cfg(test)]
mod tests;

/// Parts by kind and name, and their fields by name.
type Parts = BTreeMap<(Kind, String), Fields>;
type Fields = BTreeMap<String, String>;

/// In the order in which changes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Host,
    Service,
    Interface,
    Setting,
}

/// What is to be done to `from` to have `to`: hosts, services, interfaces, settings, each by name.
pub fn between(from: &Model, to: &Model) -> Vec<ConfigChange> {
    let (from, to) = (parts(from), parts(to));
    let keys: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    keys.into_iter().filter_map(|key| change(key, from.get(key), to.get(key))).collect()
}

/// Lines in the log before they become a number.
const LINES: usize = 40;

/// Whether its value is a command of an operator's, or has one in it.
fn is_command(part: &str, field: &FieldChange) -> bool {
    let names_one = |value: &Option<String>| value.as_ref().is_some_and(|value| value.contains("command "));
    part.starts_with("hooks")
        || field.field.contains("command")
        || (field.field == "checks" && (names_one(&field.from) || names_one(&field.to)))
}

/// As lines for the log: `~ host web-1: weight 100 -> 300`. What is gone is known to whoever has removed it. Commands may have secrets in
/// them, and the log has more readers than the config.
pub fn lines(changes: &[ConfigChange]) -> Vec<String> {
    let value = |value: &Option<String>| {
        value.as_ref().map_or_else(|| "-".to_owned(), |value| value.escape_debug().to_string())
    };
    let field = |field: &FieldChange, change: ChangeKind, name: &str| match change {
        _ if is_command(name, field) => format!("{} (a command)", field.field),
        ChangeKind::Changed => format!("{} {} -> {}", field.field, value(&field.from), value(&field.to)),
        _ => format!("{} {}", field.field, value(&field.to)),
    };
    let line = |ConfigChange { change, part, name, fields }: &ConfigChange| match change {
        ChangeKind::Removed => format!("- {} {name}", part.name()),
        _ => {
            let sign = if *change == ChangeKind::Added { '+' } else { '~' };
            let fields: Vec<String> = fields.iter().map(|changed| field(changed, *change, name)).collect();
            format!("{sign} {} {name}: {}", part.name(), fields.join(", "))
        }
    };
    let mut lines: Vec<String> = changes.iter().take(LINES).map(line).collect();
    if let Some(more) = changes.len().checked_sub(LINES).filter(|more| *more > 0) {
        lines.push(format!("... and {more} more: `sluice show` has all"));
    }
    lines
}

/// What of `to` cannot be put in force while flows are pinned under `from`, whose hash key is `key`.
pub fn fixed(from: &Model, to: &Model, key: [u8; 16]) -> Vec<String> {
    let mut fixed = Vec::new();
    let mut compare = |name: &str, from: u32, to: u32| {
        if from != to {
            fixed.push(format!("{name} is {from}, and would be {to}"));
        }
    };
    compare("ring_size", from.ring_size, to.ring_size);
    compare("flow_table.pins", from.flow_table.pins, to.flow_table.pins);
    compare("flow_table.overflow", from.flow_table.overflow, to.flow_table.overflow);
    if to.hash_key.is_some_and(|new| new != key) {
        fixed.push("hash_key is another one".to_owned());
    }
    fixed
}

fn change((kind, name): &(Kind, String), from: Option<&Fields>, to: Option<&Fields>) -> Option<ConfigChange> {
    let change = match (from, to) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        (Some(from), Some(to)) if from == to => return None,
        _ => ChangeKind::Changed,
    };
    let part = match kind {
        Kind::Host => ConfigPart::Host,
        Kind::Service => ConfigPart::Service,
        Kind::Interface => ConfigPart::Interface,
        Kind::Setting => ConfigPart::Setting,
    };
    let none = Fields::new();
    let (from, to) = (from.unwrap_or(&none), to.unwrap_or(&none));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let fields = names.into_iter().filter(|field| from.get(*field) != to.get(*field)).map(|field| {
        FieldChange { field: field.clone(), from: from.get(field).cloned(), to: to.get(field).cloned() }
    });
    Some(ConfigChange { change, part, name: name.clone(), fields: fields.collect() })
}

fn parts(model: &Model) -> Parts {
    let mut parts = Parts::new();
    for host in model.hosts.values() {
        parts.insert((Kind::Host, host.name.clone()), fields(host));
    }
    for service in &model.services {
        let mut fields = fields(service);
        if service.timeouts == model.timeouts {
            fields.retain(|field, _| !field.starts_with("timeouts."));
        }
        if service.rules == model.rules {
            fields.retain(|field, _| !field.starts_with("rules."));
        }
        if service.health == model.health {
            fields.retain(|field, _| !field.starts_with("health."));
        }
        if !service.checks.is_empty() {
            let checks: Vec<String> = service.checks.iter().map(ToString::to_string).collect();
            fields.insert("checks".to_owned(), checks.join(", "));
        }
        parts.insert((Kind::Service, service.name.clone()), fields);
    }
    for (index, interface) in model.interfaces.iter().enumerate() {
        let mut fields = fields(interface);
        // The first one is where VIPs are put.
        if index == 0 {
            fields.insert("first".to_owned(), "true".to_owned());
        }
        parts.insert((Kind::Interface, interface.name.clone()), fields);
    }
    let mut settings = serde_json::to_value(model).unwrap_or_default();
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|name, _| !matches!(name.as_str(), "hosts" | "services" | "interfaces"));
    }
    let mut flat = Fields::new();
    flatten(&mut flat, "", &settings);
    // The key itself is nobody's business.
    flat.insert(
        "hash_key".to_owned(),
        if model.hash_key.is_some() { "(in the file)" } else { "(made)" }.to_owned(),
    );
    for (name, value) in flat {
        parts.insert((Kind::Setting, name), Fields::from([("value".to_owned(), value)]));
    }
    parts
}

/// The fields of a part, but its name and what says the same twice for the comfort of programs.
fn fields(part: &impl Serialize) -> Fields {
    let mut value = serde_json::to_value(part).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("name");
        for (one, all) in [("protocol", "protocols"), ("port", "ports")] {
            if let Some(all) = fields.remove(all) {
                fields.insert(one.to_owned(), all);
            }
        }
    }
    let mut flat = Fields::new();
    flatten(&mut flat, "", &value);
    flat
}

fn flatten(flat: &mut Fields, path: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Array(values) if values.is_empty() => {}
        Value::Object(fields) if range(fields).is_none() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(flat, &path, value);
            }
        }
        value => {
            flat.insert(path.to_owned(), word(value));
        }
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(word).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => range(fields).unwrap_or_else(|| value.to_string()),
        value => value.to_string(),
    }
}

/// A range of ports, as in the file.
fn range(fields: &serde_json::Map<String, Value>) -> Option<String> {
    let (first, last) = (fields.get("first")?.as_u64()?, fields.get("last")?.as_u64()?);
    (fields.len() == 2).then(|| if first == last { first.to_string() } else { format!("{first}-{last}") })
}
