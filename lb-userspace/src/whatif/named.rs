//! The hosts that a command means: names, `@GROUP` and `@zone:ZONE`.

use std::collections::BTreeSet;

use crate::model::{Host, Model};

/// A name that nobody and nothing has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    Host(String),
    Group(String),
    Zone(String),
}

const ZONE: &str = "zone:";

/// The hosts of these words, each once and in the order of the words; those of a group by name.
pub fn named(model: &Model, words: &[String]) -> Result<Vec<String>, Unknown> {
    let mut hosts: Vec<String> = Vec::new();
    let mut add = |name: &String| {
        if !hosts.contains(name) {
            hosts.push(name.clone());
        }
    };
    for word in words {
        let Some(set) = word.strip_prefix('@') else {
            if !model.hosts.contains_key(word) {
                return Err(Unknown::Host(word.clone()));
            }
            add(word);
            continue;
        };
        let zone = set.strip_prefix(ZONE);
        let is_in = |host: &&Host| match zone {
            Some(zone) => host.zone.as_deref() == Some(zone),
            None => host.groups.contains(set),
        };
        let mut members = model.hosts.values().filter(is_in).peekable();
        if members.peek().is_none() {
            return Err(match zone {
                Some(zone) => Unknown::Zone(zone.to_owned()),
                None => Unknown::Group(set.to_owned()),
            });
        }
        members.for_each(|host| add(&host.name));
    }
    Ok(hosts)
}

impl Unknown {
    /// The names that there are of its kind, as they are written in a command.
    pub fn known(&self, model: &Model) -> BTreeSet<String> {
        let hosts = model.hosts.values();
        match self {
            Unknown::Host(_) => hosts.map(|host| host.name.clone()).collect(),
            Unknown::Group(_) => {
                hosts.flat_map(|host| &host.groups).map(|group| format!("@{group}")).collect()
            }
            Unknown::Zone(_) => {
                hosts.filter_map(|host| host.zone.as_ref()).map(|zone| format!("@{ZONE}{zone}")).collect()
            }
        }
    }

    /// As it was written.
    pub fn word(&self) -> String {
        match self {
            Unknown::Host(name) => name.clone(),
            Unknown::Group(name) => format!("@{name}"),
            Unknown::Zone(name) => format!("@{ZONE}{name}"),
        }
    }
}
