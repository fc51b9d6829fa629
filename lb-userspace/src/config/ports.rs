//! The ports of a service as they are written: one, a range, all, or a list.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::reader::{Read, Section, describe, integer, shorten};
use super::report::Report;
use crate::model::{PortRange, Ports};

const EXAMPLE: &str = "80, \"8000-8010\", \"all\" or [80, 443, \"8000-8010\"]";

/// The field `port`; one that stands in it twice is reported.
pub(super) fn read(report: &mut Report, section: &Section<'_>) -> Read<Ports> {
    section.one_or_more(report, "port", EXAMPLE).and_then(|values| {
        let mut ranges: BTreeMap<u16, PortRange> = BTreeMap::new();
        let mut is_right = true;
        for (path, value) in values {
            let Some(range) = port(report, &path, value) else {
                is_right = false;
                continue;
            };
            // They do not overlap, so only the last one that begins before its end may reach into it.
            let before = ranges.range(..=range.last).next_back().map(|(_, before)| *before);
            if let Some(before) = before.filter(|before| before.overlaps(range)) {
                let message = if before == range {
                    format!("port {range} is listed twice")
                } else {
                    format!("{range} overlaps {before} in the same list")
                };
                report.add(&path, message, "list each port once");
                is_right = false;
            } else {
                ranges.insert(range.first, range);
            }
        }
        is_right.then(|| Ports::of(ranges.into_values()))
    })
}

fn port(report: &mut Report, path: &str, value: &DeValue<'_>) -> Option<PortRange> {
    let text = match value {
        DeValue::Integer(number) => {
            return integer(report, path, number, 1..=u16::MAX).map(PortRange::one);
        }
        DeValue::String(text) => text.trim(),
        other => {
            report.add(path, format!("expected a port, found {}", describe(other)), hint());
            return None;
        }
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if text == "all" {
        return Some(PortRange::ALL);
    }
    if is_number(text) {
        let message = format!("expected a port, found the string {:?}", shorten(text));
        report.add(path, message, format!("write {}, without quotes", shorten(text)));
        return None;
    }
    let ends = text.split_once('-').map(|(first, last)| (first.trim(), last.trim()));
    let Some((first, last)) = ends.filter(|(first, last)| is_number(first) && is_number(last)) else {
        report.add(path, format!("{:?} is neither a port nor a range of ports", shorten(text)), hint());
        return None;
    };
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first != 0 && first <= last => Some(PortRange { first, last }),
        (Ok(first), Ok(last)) if last != 0 && last < first => {
            let message = format!("{:?} ends before it begins", shorten(text));
            report.add(path, message, format!("write \"{last}-{first}\""));
            None
        }
        _ => {
            let hint = "ports are numbers from 1 to 65535";
            report.add(path, format!("{:?} is out of range", shorten(text)), hint);
            None
        }
    }
}

fn hint() -> String {
    format!("write {EXAMPLE}")
}
