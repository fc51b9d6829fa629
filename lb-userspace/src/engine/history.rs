//! What was changed, by whom and why, and what lies between two revisions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Engine, Error};
use crate::api::types::{
    ConfigChange, Diff, DiffQuery, DrainChange, History, HistoryQuery, Revision, RevisionDetail,
};
use crate::changes;
use crate::config;
use crate::journal::{self, Which};
use crate::model::Model;

/// Revisions that are given where nobody says how many, and at most.
const USUAL: u32 = 20;
const MOST: u32 = 1000;

impl Engine {
    /// The newest first.
    pub fn history(&self, query: &HistoryQuery) -> Result<History, Error> {
        let limit = query.limit.unwrap_or(USUAL).clamp(1, MOST);
        let which = Which { before: query.before, since: query.since };
        let names = |revision: &journal::Revision| {
            query.host.as_ref().is_none_or(|host| hosts_of(&revision.detail).contains(host))
        };
        let found = self.journal.revisions_that(which, limit, names)?;
        let revisions = found.iter().map(|revision| self.described(revision)).collect::<Result<_, _>>()?;
        Ok(History { revisions, pruned: self.journal.pruned()? })
    }

    /// One revision as a whole.
    pub fn revision(&self, number: u64) -> Result<RevisionDetail, Error> {
        let found = self.journal.revision(number)?.ok_or(Error::NoRevision(number))?;
        let config = self.journal.config_at(number)?;
        let before =
            number.checked_sub(1).map(|before| self.journal.config_at(before)).transpose()?.flatten();
        let changes = match (&before, &config) {
            (Some(before), Some(after)) if found.has_config => between(before, after),
            _ => Vec::new(),
        };
        Ok(RevisionDetail {
            revision: self.described(&found)?,
            changes,
            config: config.map(|text| without_key(&text)),
            detail: found.detail,
        })
    }

    /// What differs between what was so after two revisions.
    pub fn diff(&self, query: &DiffQuery) -> Result<Diff, Error> {
        let last = self.journal.last_revision()?;
        let (from, to) = (query.from, query.to.unwrap_or(last));
        let model = |revision: u64| -> Result<Model, Error> {
            if revision == 0 || revision > last {
                return Err(Error::NoRevision(revision));
            }
            let text = self.journal.config_at(revision)?.ok_or(Error::NoConfigAt(revision))?;
            let loaded = config::parse(&text, &format!("revision {revision}")).map_err(Error::config)?;
            Ok(loaded.model)
        };
        let changes = changes::between(&model(from)?, &model(to)?);
        let (before, after) = (self.out_at(from)?, self.out_at(to)?);
        let hosts: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let drain = |host: &&String| DrainChange {
            host: (*host).clone(),
            from: before.get(*host).copied(),
            to: after.get(*host).copied(),
        };
        let drains = hosts.iter().map(drain).filter(|change| change.from != change.to).collect();
        Ok(Diff { from, to, changes, drains })
    }

    /// Hosts that were out after a revision, with their drains.
    fn out_at(&self, revision: u64) -> Result<BTreeMap<String, u64>, Error> {
        // The revisions in which drains began and were taken back; those that are gone are older than all that are here.
        let (mut begun, mut ended) = (BTreeMap::new(), BTreeMap::new());
        for found in self.journal.revisions(None, u32::MAX)? {
            let times = match found.kind.as_str() {
                "drain" => &mut begun,
                "undrain" => &mut ended,
                _ => continue,
            };
            for drain in found.detail["drains"].as_array().into_iter().flatten() {
                times.extend(drain["id"].as_u64().map(|id| (id, found.number)));
            }
        }
        let mut out = BTreeMap::new();
        for row in self.journal.drains(None, u32::MAX)? {
            let id = row.drain.id;
            let has_begun = begun.get(&id).is_none_or(|number| *number <= revision);
            let has_ended = match ended.get(&id) {
                Some(number) => *number <= revision,
                None => !row.in_force,
            };
            if has_begun && !has_ended {
                out.insert(row.drain.target().to_string(), id);
            }
        }
        Ok(out)
    }

    fn described(&self, revision: &journal::Revision) -> Result<Revision, Error> {
        Ok(Revision {
            revision: revision.number,
            at: revision.at,
            by: revision.author.clone(),
            reason: revision.reason.clone(),
            kind: revision.kind.clone(),
            hosts: hosts_of(&revision.detail).into_iter().collect(),
            summary: summary(revision),
            outcome: self.outcome(revision)?,
        })
    }

    /// What came of a revision.
    fn outcome(&self, revision: &journal::Revision) -> Result<Option<String>, Error> {
        Ok(match revision.kind.as_str() {
            "apply" | "rollback" | "start" if revision.has_config => Some(self.outcome_of_config(revision)?),
            "drain" => {
                let mut words = Vec::new();
                for id in revision.detail["drains"].as_array().into_iter().flatten() {
                    let Some(id) = id["id"].as_u64() else { continue };
                    let Some(row) = self.journal.drain_row(id)? else { continue };
                    let outcome = row.receipt.map(|receipt| receipt.outcome.name().replace('_', " "));
                    words.push(match (outcome, row.in_force) {
                        (None, _) => "under way".to_owned(),
                        (Some(outcome), true) => format!("{outcome}, still out"),
                        (Some(outcome), false) => outcome,
                    });
                }
                words.dedup();
                (!words.is_empty()).then(|| words.join(", "))
            }
            _ => None,
        })
    }

    fn outcome_of_config(&self, revision: &journal::Revision) -> Result<String, Error> {
        let waits = self.waiting() == Some(revision.number);
        let is_in_force = self.in_force.status.revision == revision.number;
        if waits {
            return Ok("waits to be confirmed".to_owned());
        }
        let settled = self.journal.revisions_about(revision.number)?;
        let word = settled.last().map(|settling| match settling.kind.as_str() {
            "confirm" => format!("confirmed by revision {}", settling.number),
            "failed" => format!("failed, see revision {}", settling.number),
            "rollback" => format!("taken back by revision {}", settling.number),
            _ => format!("replaced by revision {}", settling.number),
        });
        Ok(match (word, is_in_force) {
            (Some(word), true) => format!("in force, {word}"),
            (Some(word), false) => word,
            (None, true) => "in force".to_owned(),
            (None, false) => "replaced".to_owned(),
        })
    }
}

/// In words.
fn summary(revision: &journal::Revision) -> String {
    let detail = &revision.detail;
    let text = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
    let drains = || {
        let drains = detail["drains"].as_array().into_iter().flatten();
        let hosts: Vec<&str> = drains.filter_map(|drain| drain["host"].as_str()).collect();
        hosts.join(", ")
    };
    match revision.kind.as_str() {
        "created" => "the journal was made".to_owned(),
        "hash-key" => "the config's hash key took the place of another one".to_owned(),
        "start" => {
            let path = if detail["adopted"] == true { "took over the data path" } else { "new data path" };
            let config = detail["changes"]
                .as_array()
                .map(|changes| format!("; another config: {}", config_words(changes)));
            format!("sluice {}: {path}{}", text("version"), config.unwrap_or_default())
        }
        "apply" => {
            let changes = detail["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
            format!("{}: {}", text("file"), config_words(changes))
        }
        "rollback" => {
            let changes = detail["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
            let about = revision.about.map(|about| format!("of revision {about}"));
            let to = detail["file"].as_str().map(|file| format!("to {file}"));
            let words = [about, to].into_iter().flatten().collect::<Vec<_>>().join(" ");
            format!("{words}: {}", config_words(changes))
        }
        "failed" => about(revision, "could not be put in force"),
        "confirm" => about(revision, "is to stay"),
        "left" => format!("{} has left the config, and its last flow has ended", text("host")),
        "drain" => format!("{} out", drains()),
        "amend" => format!("another order for the drain of {}", drains()),
        "undrain" => {
            let ramps =
                detail["ramps"].as_object().is_some_and(|ramps| ramps.values().any(|ramp| !ramp.is_null()));
            format!("{} back{}", drains(), if ramps { ", by a ramp" } else { "" })
        }
        "drained" => {
            let receipt = &detail["receipt"];
            let host = receipt["host"].as_str().unwrap_or_default();
            format!("{host}: {} of {} flows ended by themselves", receipt["ended"], receipt["flows_at_start"])
        }
        "ramp" => {
            let ramps = detail["ramps"].as_object().into_iter().flatten();
            let ramps: Vec<String> = ramps
                .map(|(host, ramp)| {
                    format!("{host} {}", if ramp.is_null() { "has its full share" } else { "ramps up" })
                })
                .collect();
            ramps.join(", ")
        }
        "maintain" => {
            let hosts = detail["hosts"].as_array().into_iter().flatten();
            let hosts = hosts.map(|host| {
                let word = |name: &str| host[name].as_str().unwrap_or_default();
                format!(", {} {}", word("host"), word("step"))
            });
            format!(
                "run {} ({}): {}{}",
                detail["run"],
                text("name"),
                text("state"),
                hosts.collect::<String>()
            )
        }
        "shift" => {
            let why = detail["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            let state = text("state").replace('_', " ");
            format!(
                "shift {} of {}: {} of {}, {state}{why}",
                detail["shift"],
                text("service"),
                text("wanted"),
                text("sides")
            )
        }
        "kick" => {
            format!("{} flows of {}", detail["flows"], detail["request"]["host"].as_str().unwrap_or_default())
        }
        "health" => health_words(detail["changes"].as_array().map(Vec::as_slice).unwrap_or_default()),
        "clock" => format!("the wall clock was set by {} s: what is open is dated anew", detail["seconds"]),
        _ => String::new(),
    }
}

/// Up to three changes of what checks found.
fn health_words(changes: &[Value]) -> String {
    let words = |change: &Value| {
        let text = |name: &str| change[name].as_str().unwrap_or_default();
        let service = text("service");
        // Turns of services had none once.
        let why = match text("why") {
            "" => String::new(),
            why => format!(" ({why})"),
        };
        match (change["standby"].as_bool(), change["panic"].as_bool()) {
            (Some(true), _) => format!("the standby hosts of {service} join{why}"),
            (Some(false), _) => format!("the standby hosts of {service} leave{why}"),
            (_, Some(true)) => format!("{service} panics{why}"),
            (_, Some(false)) => format!("{service} panics no more{why}"),
            _ => format!("{} {} for {service}{why}", text("host"), text("to")),
        }
    };
    let some: Vec<String> = changes.iter().take(3).map(words).collect();
    match changes.len() {
        0 => "a check says otherwise, and no host is up or down by it".to_owned(),
        n if n > 3 => format!("{} and {} more", some.join(", "), n - 3),
        _ => some.join(", "),
    }
}

fn about(revision: &journal::Revision, words: &str) -> String {
    format!("revision {} {words}", revision.about.unwrap_or_default())
}

/// Up to three changes by name.
fn config_words(changes: &[Value]) -> String {
    let words = |change: &Value| {
        let sign = match change["change"].as_str() {
            Some("added") => "+",
            Some("removed") => "-",
            _ => "~",
        };
        format!("{sign}{}", change["name"].as_str().unwrap_or_default())
    };
    let some: Vec<String> = changes.iter().take(3).map(words).collect();
    match changes.len() {
        0 => "nothing differs".to_owned(),
        n if n > 3 => format!("{} and {} more", some.join(" "), n - 3),
        _ => some.join(" "),
    }
}

/// Every host that a revision's detail names.
fn hosts_of(detail: &Value) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    collect(detail, &mut hosts);
    hosts
}

fn collect(value: &Value, hosts: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if fields.get("part").is_some_and(|part| part == "host") {
                hosts.extend(fields.get("name").and_then(Value::as_str).map(str::to_owned));
            }
            for (name, value) in fields {
                match value {
                    Value::String(host) if name == "host" => {
                        hosts.insert(host.clone());
                    }
                    Value::Object(ramps) if name == "ramps" => hosts.extend(ramps.keys().cloned()),
                    value => collect(value, hosts),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, hosts)),
        _ => {}
    }
}

/// Between two texts; empty if one cannot be read any more.
fn between(before: &str, after: &str) -> Vec<ConfigChange> {
    match (config::parse(before, "before"), config::parse(after, "after")) {
        (Ok(before), Ok(after)) => changes::between(&before.model, &after.model),
        _ => Vec::new(),
    }
}

/// The text with its hash key left out: who may read the history need not know it. So is a key that a comment tells of.
fn without_key(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Secret {
        hash_key: Option<toml::Spanned<toml::Value>>,
    }
    // It may be of several lines, and its name may be written in other ways.
    let key = toml::from_str::<Secret>(text).ok().and_then(|secret| secret.hash_key);
    let text = match key.map(|key| key.span()) {
        Some(span) => format!("{}\"\"{}", &text[..span.start], &text[span.end..]),
        None => text.to_owned(),
    };
    let line = |line: &str| {
        if line.contains("hash_key") { "# hash_key = (not shown)".to_owned() } else { line.to_owned() }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hosts_are_found_wherever_a_detail_names_them() {
        let found = |detail| hosts_of(&detail).into_iter().collect::<Vec<_>>();
        assert_eq!(
            found(json!({ "drains": [{ "id": 1, "host": "a" }, { "id": 2, "host": "b" }] })),
            ["a", "b"]
        );
        assert_eq!(found(json!({ "ramps": { "a": null, "c": { "from": 0 } } })), ["a", "c"]);
        assert_eq!(found(json!({ "request": { "host": "a", "service": "web" } })), ["a"]);
        assert_eq!(found(json!({ "receipt": { "host": "a" } })), ["a"]);
        let changes =
            json!({ "changes": [{ "part": "host", "name": "a" }, { "part": "service", "name": "web" }] });
        assert_eq!(found(changes), ["a"]);
    }

    #[test]
    fn a_key_is_not_shown() {
        let text = "hash_key = \"00112233445566778899aabbccddeeff\" # secret\ninterfaces = [\"eth0\"]";
        let shown = "# hash_key = (not shown)\ninterfaces = [\"eth0\"]\n";
        assert_eq!(without_key(text), shown);
        let lines =
            "hash_key = \"\"\"\\\n00112233445566778899aabbccddeeff\"\"\" # secret\ninterfaces = [\"eth0\"]";
        assert_eq!(without_key(lines), shown);
        let escaped = "\"hash\\u005fkey\" = \"00112233445566778899aabbccddeeff\"\n";
        assert_eq!(without_key(escaped), "\"hash\\u005fkey\" = \"\"\n");
        let commented = "# hash_key = \"00112233445566778899aabbccddeeff\"\n";
        assert_eq!(without_key(commented), "# hash_key = (not shown)\n");
    }

    #[test]
    fn what_checks_found_is_said_in_words() {
        let down =
            json!({ "service": "web", "host": "a", "from": "up", "to": "down", "why": "tcp :80: refused" });
        let joined = json!({ "service": "web", "standby": true });
        assert_eq!(
            health_words(&[down.clone(), joined.clone()]),
            "a down for web (tcp :80: refused), the standby hosts of web join"
        );
        let panic = json!({ "service": "web", "panic": true, "why": "less than 30% of the weight is up" });
        assert_eq!(health_words(&[panic]), "web panics (less than 30% of the weight is up)");
        assert!(health_words(&[down, joined.clone(), joined.clone(), joined]).ends_with(" and 1 more"));
        assert!(health_words(&[]).starts_with("a check says otherwise"));
    }

    #[test]
    fn a_few_changes_are_named_and_the_rest_is_counted() {
        let change = |kind: &str, name: &str| json!({ "change": kind, "part": "host", "name": name });
        let all =
            [change("added", "a"), change("removed", "b"), change("changed", "c"), change("added", "d")];
        assert_eq!(config_words(&all[..2]), "+a -b");
        assert_eq!(config_words(&all), "+a -b ~c and 1 more");
        assert_eq!(config_words(&[]), "nothing differs");
    }
}
