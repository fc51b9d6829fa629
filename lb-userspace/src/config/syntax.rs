//! From bytes to a TOML table with positions.

use toml::de::DeTable;

use super::problem::ConfigErrors;
use super::report::Report;
use super::source::Source;

/// What the TOML parser says when a key or a section stands twice; the table is whole nevertheless.
const DUPLICATE: &str = "duplicate key";

/// The file's table, or `None` when its syntax is broken, which has been reported. A key that stands twice is
/// reported too, but the first one is kept, so that the other checks go on.
pub(super) fn parse<'t>(report: &mut Report, text: &'t str) -> Option<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let table = table.into_inner();
    if table.is_empty() && errors.is_empty() {
        let hint =
            "it needs at least a line such as interfaces = [\"eth0\"], and hosts and services to be of use";
        report.add("", "the file is empty", hint);
        return None;
    }
    let mut broken = false;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        if error.message() == DUPLICATE {
            let key = text.get(span.clone()).unwrap_or_default().trim();
            let path = path_at(text, span.start, key);
            report.add_at(span, &path, "defined twice", Some("keep one of the two".to_owned()));
        } else {
            broken = true;
            report.add_at(span, "", error.message(), None);
        }
    }
    (!broken).then_some(table)
}

/// Text that is not UTF-8, as TOML demands; points at the first byte that is wrong.
pub(super) fn not_utf8(name: &str, bytes: &[u8], valid_up_to: usize) -> ConfigErrors {
    let mut report = Report::new(Source::new(name, &String::from_utf8_lossy(bytes)));
    let byte = bytes.get(valid_up_to).copied().unwrap_or_default();
    let hint = "save the file as UTF-8; it may be a binary or in an older encoding";
    let message = format!("byte {byte:#04x} is not UTF-8");
    report.add_at(valid_up_to..valid_up_to + 1, "", message, Some(hint.to_owned()));
    report.refuse()
}

/// The path of a repeated key, from the header that it stands in or under.
fn path_at(text: &str, offset: usize, key: &str) -> String {
    let line_end = text[offset..].find('\n').map_or(text.len(), |length| offset + length);
    let mut lines = text[..line_end].lines().rev().map(str::trim);
    let own = lines.next().unwrap_or_default();
    if let Some(name) = header(own) {
        return name.to_owned();
    }
    match lines.find_map(header) {
        Some(above) => {
            let count = text[..offset].lines().filter(|line| line.trim() == format!("[[{above}]]")).count();
            if count > 0 { format!("{above}[{}].{key}", count - 1) } else { format!("{above}.{key}") }
        }
        None => key.to_owned(),
    }
}

/// The name in a line such as `[hosts.web-1]`; a line of an array is none.
fn header(line: &str) -> Option<&str> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let inner = line.strip_prefix('[')?.strip_suffix(']')?;
    let inner = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(inner).trim();
    let name = !inner.is_empty() && !inner.starts_with(['"', '\'']) && !inner.contains([',', '=']);
    name.then_some(inner)
}
