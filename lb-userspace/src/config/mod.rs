//! The TOML config file: read, checked whole, and turned into a [`Model`].
//!
//! Nothing is accepted in part. All problems of a file are reported together, each with its place, its field and
//! what would be right, so that one round of mending is enough.

mod announce;
mod api;
mod endpoints;
mod health;
mod hooks;
mod hosts;
pub mod limits;
mod machine;
mod metrics;
mod ports;
mod prefix;
mod problem;
mod raw;
mod reader;
mod report;
mod resolve;
pub mod schema;
mod services;
mod source;
mod stacked;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod ui;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

pub use machine::{FRAGS_SINCE, Machine, ONE_PIECE, check_against_machine, switches, sysctl};
pub use problem::{ConfigErrors, Problem};
pub use report::Spans;
pub use ui::must_be_private;

use crate::model::Model;
use raw::RawConfig;
use report::Report;
use source::Source;

/// A config that is right in itself, and where its fields are in the file.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub model: Model,
    pub spans: Spans,
}

/// Reads and checks a config file of at most [`limits::MAX_FILE`] bytes.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    parse(&read(path)?, &path.display().to_string())
}

/// The text of a config file of at most [`limits::MAX_FILE`] bytes.
pub fn read(path: &Path) -> Result<String, ConfigErrors> {
    let name = path.display().to_string();
    let bytes = read_file(path).map_err(|error| unreadable(&name, &error))?;
    if bytes.len() as u64 > limits::MAX_FILE {
        let message = format!("the file is larger than {} MiB", limits::MAX_FILE >> 20);
        return Err(ConfigErrors::of_file(&name, message, "is it the right file?"));
    }
    String::from_utf8(bytes)
        .map_err(|error| syntax::not_utf8(&name, error.as_bytes(), error.utf8_error().valid_up_to()))
}

/// Checks the text of a config; `file_name` is how problems call it.
pub fn parse(text: &str, file_name: &str) -> Result<Loaded, ConfigErrors> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(file_name, text);
    let mut report = Report::new(source);
    let table = match syntax::parse(&mut report, text) {
        Some(table) => table,
        None => return Err(report.refuse()),
    };
    let raw = RawConfig::read(&mut report, &table);
    let model = resolve::resolve(&mut report, raw);
    report.finish(model).map(|(model, spans)| Loaded { model, spans })
}

/// A pipe is as good as a file, so the size is known only afterwards.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &str, error: &io::Error) -> ConfigErrors {
    let (message, hint) = match error.kind() {
        io::ErrorKind::NotFound => ("there is no such file".to_owned(), "look at the path"),
        io::ErrorKind::IsADirectory => ("this is a directory".to_owned(), "name the config file in it"),
        io::ErrorKind::PermissionDenied => {
            ("reading it is not permitted".to_owned(), "run as its owner or root, or mend its permissions")
        }
        _ => (format!("it cannot be read: {error}"), "look at the file and its file system"),
    };
    ConfigErrors::of_file(name, message, hint)
}
