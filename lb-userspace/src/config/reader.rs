//! Takes typed values out of a TOML table and reports each that does not fit, without stopping at the first.
//!
//! Deserialising with serde would end at the first problem of a file; an operator mends all of them in one go.

use std::net::IpAddr;
use std::num::IntErrorKind;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::limits;
use super::report::Report;
use super::schema;
use super::suggest::{nearest, one_of};
use crate::model::Percent;

/// What became of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// The file leaves it out.
    Absent,
    /// It is there and wrong, which has been reported: what depends on it is not checked.
    Broken,
    Value(T),
}

impl<T> Read<T> {
    pub fn value(self) -> Option<T> {
        match self {
            Read::Value(value) => Some(value),
            Read::Absent | Read::Broken => None,
        }
    }

    pub fn or(self, default: T) -> T {
        self.value().unwrap_or(default)
    }

    /// `None` where it is wrong.
    pub fn or_unless_broken(self, default: T) -> Option<T> {
        match self {
            Read::Absent => Some(default),
            Read::Broken => None,
            Read::Value(value) => Some(value),
        }
    }

    pub fn and_then<U>(self, convert: impl FnOnce(T) -> Option<U>) -> Read<U> {
        match self {
            Read::Absent => Read::Absent,
            Read::Broken => Read::Broken,
            Read::Value(value) => convert(value).map_or(Read::Broken, Read::Value),
        }
    }
}

/// A table of the file and its path; its fields are known.
pub(super) struct Section<'t> {
    table: &'t DeTable<'t>,
    path: String,
    known: &'static schema::Table,
}

impl<'t> Section<'t> {
    /// Reports fields that the section does not have, and notes the places of those that it has.
    pub fn open(
        report: &mut Report,
        table: &'t DeTable<'t>,
        path: &str,
        known: &'static schema::Table,
    ) -> Self {
        let section = Section { table, path: path.to_owned(), known };
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            if known.has(name) {
                report.place(&section.path_of(name), value.span());
            } else {
                section.unknown(report, name, key.span(), value.get_ref());
            }
        }
        section
    }

    pub fn path_of(&self, name: &str) -> String {
        child(&self.path, name)
    }

    fn unknown(&self, report: &mut Report, name: &str, span: Range<usize>, value: &DeValue<'_>) {
        let hint = if let Some(near) = nearest(name, self.known.names()) {
            format!("did you mean {near:?}?")
        } else if let Some(home) = schema::home_of(name) {
            format!("{name} belongs {home}")
        } else if self.known.header == schema::HOST.header && value.is_table() {
            format!("a host's name with a dot in it stands in quotes: [hosts.\"NAME.{name}\"]")
        } else {
            format!("known here are {}", self.known.names().collect::<Vec<_>>().join(", "))
        };
        report.add_at(span, &self.path_of(name), "unknown field", Some(hint));
    }

    /// Whether the file has the field, right or wrong.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        debug_assert!(self.known.has(name), "{name} is missing from the schema");
        self.table.get(name)
    }

    /// Reports that a field without a default is missing.
    pub fn required<T>(&self, report: &mut Report, name: &str, read: Read<T>, example: &str) -> Read<T> {
        if let Read::Absent = read {
            report.add(&self.path_of(name), "missing", format!("add a line such as {name} = {example}"));
            return Read::Broken;
        }
        read
    }

    /// A value that only `convert` understands; `wanted` says what that is, for the message about any other.
    fn take<T>(
        &self,
        report: &mut Report,
        name: &str,
        wanted: &str,
        convert: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
        hint: impl FnOnce(&DeValue<'_>) -> String,
    ) -> Read<T> {
        let Some(value) = self.get(name) else { return Read::Absent };
        let value = value.get_ref();
        match convert(value) {
            Some(converted) => Read::Value(converted),
            None => {
                let message = format!("expected {wanted}, found {}", describe(value));
                report.add(&self.path_of(name), message, hint(value));
                Read::Broken
            }
        }
    }

    pub fn string(&self, report: &mut Report, name: &str, example: &str) -> Read<&'t str> {
        let hint = |value: &DeValue<'_>| match value {
            DeValue::Integer(number) => format!("write {name} = \"{}\"", number.as_str()),
            _ => format!("write it as in {name} = {example}"),
        };
        self.take(report, name, "a string", |value| value.as_str(), hint)
    }

    pub fn integer<T>(&self, report: &mut Report, name: &str, range: RangeInclusive<T>) -> Read<T>
    where
        T: TryFrom<i128> + Into<i128> + Copy,
    {
        let bounds: RangeInclusive<i128> = (*range.start()).into()..=(*range.end()).into();
        let hint = |value: &DeValue<'_>| match value.as_str().filter(|text| text.parse::<u32>().is_ok()) {
            Some(text) => format!("write {name} = {text}, without quotes"),
            None => format!("write a number from {} to {}", bounds.start(), bounds.end()),
        };
        let read = self.take(report, name, "an integer", |value| value.as_integer(), hint);
        read.and_then(|number| integer(report, &self.path_of(name), number, range))
    }

    pub fn choice<T: Copy>(&self, report: &mut Report, name: &str, choices: &[(&str, T)]) -> Read<T> {
        let example = format!("{:?}", choices.first().map_or("", |(name, _)| name));
        self.string(report, name, &example)
            .and_then(|text| choice(report, &self.path_of(name), text, choices))
    }

    /// The field's value, or its elements if it is an array: each with its path.
    pub fn one_or_more(
        &self,
        report: &mut Report,
        name: &str,
        example: &str,
    ) -> Read<Vec<(String, &'t DeValue<'t>)>> {
        let Some(value) = self.get(name) else { return Read::Absent };
        let path = self.path_of(name);
        let Some(array) = value.get_ref().as_array() else {
            return Read::Value(vec![(path, value.get_ref())]);
        };
        if array.is_empty() {
            report.add(&path, "the list is empty", format!("write {example}"));
            return Read::Broken;
        }
        Read::Value(elements(report, &path, array))
    }

    /// The elements of an array, of whatever type: each with its path.
    pub fn values(
        &self,
        report: &mut Report,
        name: &str,
        wanted: &str,
        example: &str,
    ) -> Read<Vec<(String, &'t DeValue<'t>)>> {
        let hint = |_: &DeValue<'_>| format!("write it as in {name} = {example}");
        let array = self.take(report, name, wanted, |value| value.as_array(), hint);
        array.and_then(|array| Some(elements(report, &self.path_of(name), array)))
    }

    /// An array of strings, `None` for an element that is none.
    pub fn strings(&self, report: &mut Report, name: &str, example: &str) -> Read<Vec<Option<&'t str>>> {
        let hint = |_: &DeValue<'_>| format!("write it as in {name} = {example}");
        let array = self.take(report, name, "an array of strings", |value| value.as_array(), hint);
        array.and_then(|array| {
            let strings = elements(report, &self.path_of(name), array).into_iter().map(|(path, element)| {
                let text = element.as_str();
                if text.is_none() {
                    let message = format!("expected a string, found {}", describe(element));
                    report.add(&path, message, format!("write it as in {name} = {example}"));
                }
                text
            });
            Some(strings.collect())
        })
    }

    /// A duration such as `"90s"`: whole seconds within [`limits::TIMEOUT`].
    pub fn duration(&self, report: &mut Report, name: &str) -> Read<Duration> {
        self.duration_within(report, name, limits::TIMEOUT)
    }

    /// A duration in whole seconds, of a range that begins and ends with a whole unit.
    pub fn duration_within(
        &self,
        report: &mut Report,
        name: &str,
        range: RangeInclusive<Duration>,
    ) -> Read<Duration> {
        const EXAMPLE: &str = "write a number and a unit in quotes, such as \"90s\", \"15m\" or \"1h 30m\"";
        let hint = |value: &DeValue<'_>| match value {
            DeValue::Integer(number) => {
                format!("write {name} = \"{}s\" if these are seconds", number.as_str())
            }
            _ => EXAMPLE.to_owned(),
        };
        let text = self.take(report, name, "a duration", |value| value.as_str(), hint);
        text.and_then(|text| {
            let path = self.path_of(name);
            let duration = match humantime::parse_duration(text) {
                Ok(duration) => duration,
                Err(error) => {
                    report.add(&path, format!("{text:?} is no duration: {}", lower_first(&error)), EXAMPLE);
                    return None;
                }
            };
            if !range.contains(&duration) {
                let hint =
                    format!("write a duration from {} to {}", unit(*range.start()), unit(*range.end()));
                report.add(&path, format!("{text:?} is out of range"), hint);
                return None;
            }
            if duration.subsec_nanos() != 0 {
                let near = duration.as_secs() + 1;
                let message = format!("{text:?} is not a whole number of seconds");
                report.add(&path, message, format!("write {name} = \"{near}s\""));
                return None;
            }
            Some(duration)
        })
    }

    /// A duration such as `"500ms"`: whole milliseconds within [`limits::PACE`].
    pub fn pace(&self, report: &mut Report, name: &str) -> Read<Duration> {
        const EXAMPLE: &str = "write a number and a unit in quotes, such as \"500ms\" or \"2s\"";
        let hint = |value: &DeValue<'_>| match value {
            DeValue::Integer(number) => {
                format!("write {name} = \"{}s\" if these are seconds", number.as_str())
            }
            _ => EXAMPLE.to_owned(),
        };
        let text = self.take(report, name, "a duration", |value| value.as_str(), hint);
        text.and_then(|text| {
            let path = self.path_of(name);
            match humantime::parse_duration(text) {
                Err(error) => {
                    report.add(&path, format!("{text:?} is no duration: {}", lower_first(&error)), EXAMPLE);
                }
                Ok(pace) if !limits::PACE.contains(&pace) => {
                    let (least, most) = (unit(*limits::PACE.start()), unit(*limits::PACE.end()));
                    let hint = format!("write a duration from {least} to {most}");
                    report.add(&path, format!("{text:?} is out of range"), hint);
                }
                Ok(pace) if pace.subsec_nanos() % 1_000_000 != 0 => {
                    let message = format!("{text:?} is not a whole number of milliseconds");
                    report.add(&path, message, "leave out what is finer");
                }
                Ok(pace) => return Some(pace),
            }
            None
        })
    }

    /// A part of a whole such as `"50%"`.
    pub fn percent(&self, report: &mut Report, name: &str) -> Read<Percent> {
        let hint = |value: &DeValue<'_>| match value {
            DeValue::Integer(number) => format!("write {name} = \"{}%\"", number.as_str()),
            _ => format!("write it as in {name} = \"50%\""),
        };
        let text = self.take(report, name, "a percentage", |value| value.as_str(), hint);
        text.and_then(|text| {
            let number = text.strip_suffix('%').map(str::trim_end).and_then(|number| number.parse().ok());
            let percent = number.filter(|number| *number <= 100).map(Percent);
            if percent.is_none() {
                let message = format!("{text:?} is not a whole percentage from 0% to 100%");
                report.add(&self.path_of(name), message, format!("write it as in {name} = \"50%\""));
            }
            percent
        })
    }

    pub fn flag(&self, report: &mut Report, name: &str) -> Read<bool> {
        let hint = |_: &DeValue<'_>| format!("write {name} = true or {name} = false, without quotes");
        self.take(report, name, "true or false", |value| value.as_bool(), hint)
    }

    pub fn table(&self, report: &mut Report, name: &str, header: &str) -> Read<&'t DeTable<'t>> {
        let hint = |_: &DeValue<'_>| format!("begin it with a line {header}");
        self.take(report, name, "a table", |value| value.as_table(), hint)
    }

    /// The elements of an array of tables; `None` for an element that is no table.
    /// `header` begins each.
    pub fn tables(
        &self,
        report: &mut Report,
        name: &str,
        header: &str,
    ) -> Read<Vec<Option<&'t DeTable<'t>>>> {
        let hint = |_: &DeValue<'_>| format!("begin each with a line {header}, in double brackets");
        let array = self.take(report, name, "an array of tables", |value| value.as_array(), hint);
        array.and_then(|array| {
            let tables = array.iter().enumerate().map(|(index, element)| {
                let path = format!("{}[{index}]", self.path_of(name));
                report.place(&path, element.span());
                let table = element.get_ref().as_table();
                if table.is_none() {
                    let message = format!("expected a table, found {}", describe(element.get_ref()));
                    report.add(&path, message, format!("begin each with a line {header}"));
                }
                table
            });
            Some(tables.collect())
        })
    }

    /// 32 hex digits. The value is a secret: no message repeats it.
    pub fn key(&self, report: &mut Report, name: &str) -> Read<[u8; 16]> {
        const HINT: &str =
            "write 32 hex digits in quotes, for example those that `openssl rand -hex 16` prints";
        let Some(value) = self.get(name) else { return Read::Absent };
        let message = match value.get_ref() {
            DeValue::String(text) => match parse_key(text) {
                Some(key) => return Read::Value(key),
                None if text.len() == 32 => "not all of its characters are hex digits".to_owned(),
                None => format!("{} characters are not 32 hex digits", text.chars().count()),
            },
            other => format!("expected a string, found a value of type {}", other.type_str()),
        };
        report.add(&self.path_of(name), message, HINT);
        Read::Broken
    }
}

/// The path of a field or of an entry below `path`, quoted as TOML would want it.
pub(super) fn child(path: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// An address as TOML text; reports what else the text may have been meant to be.
pub(super) fn address(report: &mut Report, path: &str, text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text.trim().trim_start_matches('[');
    let end = bare.find(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':')).unwrap_or(bare.len());
    let candidate = bare[..end].parse::<IpAddr>().ok();
    let port_cut = bare.rsplit_once(':').and_then(|(address, _)| address.parse::<IpAddr>().ok());
    let hint = match candidate.or(port_cut) {
        Some(meant) => format!("write {:?} alone", meant.to_string()),
        None => {
            "write an IPv4 address such as \"10.0.0.11\" or an IPv6 address such as \"fd00::11\"".to_owned()
        }
    };
    report.add(path, format!("{text:?} is not an IP address"), hint);
    None
}

/// The elements of an array, each with its path, whose place is noted.
fn elements<'t>(report: &mut Report, path: &str, array: &'t DeArray<'t>) -> Vec<(String, &'t DeValue<'t>)> {
    let element = |(index, element): (usize, &'t Spanned<DeValue<'t>>)| {
        let path = format!("{path}[{index}]");
        report.place(&path, element.span());
        (path, element.get_ref())
    };
    array.iter().enumerate().map(element).collect()
}

/// A number within bounds; reports any other.
pub(super) fn integer<T>(
    report: &mut Report,
    path: &str,
    number: &DeInteger<'_>,
    range: RangeInclusive<T>,
) -> Option<T>
where
    T: TryFrom<i128> + Into<i128> + Copy,
{
    let bounds: RangeInclusive<i128> = (*range.start()).into()..=(*range.end()).into();
    // The parser takes any text that begins like a number.
    let parsed = i128::from_str_radix(number.as_str(), number.radix());
    let value = parsed.as_ref().ok().copied().filter(|value| bounds.contains(value));
    if value.is_none() {
        let wrong = match parsed.map_err(|error| *error.kind()) {
            Err(IntErrorKind::InvalidDigit | IntErrorKind::Empty) => "is not a whole number",
            _ => "is out of range",
        };
        let message = format!("{} {wrong}", shorten(&number.to_string()));
        report.add(path, message, format!("write a number from {} to {}", bounds.start(), bounds.end()));
    }
    T::try_from(value?).ok()
}

/// One of some words; reports any other.
pub(super) fn choice<T: Copy>(
    report: &mut Report,
    path: &str,
    text: &str,
    choices: &[(&str, T)],
) -> Option<T> {
    let names = || choices.iter().map(|(name, _)| *name);
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    if found.is_none() {
        let list = one_of(names());
        let hint = match nearest(text, names()) {
            Some(near) => format!("did you mean {near:?}? It is {list}"),
            None => format!("write {list}"),
        };
        report.add(path, format!("{text:?} is not known"), hint);
    }
    found
}

pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {:?}", shorten(text)),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the float {number}"),
        DeValue::Boolean(value) => format!("the boolean {value}"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(39).chain(['…']).collect() }
}

fn parse_key(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

fn lower_first(error: &impl ToString) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// In one unit: a day's length is told in hours, what is longer in days.
pub(super) fn unit(duration: Duration) -> String {
    match duration.as_secs() {
        _ if duration.subsec_millis() != 0 => format!("{}ms", duration.as_millis()),
        s if s > 86_400 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s => format!("{s}s"),
    }
}
