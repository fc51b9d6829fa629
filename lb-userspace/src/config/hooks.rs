//! `[hooks]`: commands by event.

use super::limits::{MAX_COMMAND, default};
use super::reader::Section;
use super::report::Report;
use super::schema;
use crate::api::types::EventName;
use crate::model::Hooks;

pub(super) fn read(report: &mut Report, top: &Section<'_>) -> Hooks {
    const EXAMPLE: &str = "\"/usr/local/bin/tell-everybody\"";
    let mut hooks = Hooks { commands: Default::default(), timeout: default::HOOK_TIMEOUT };
    let Some(table) = top.table(report, "hooks", "[hooks]").value() else { return hooks };
    let section = Section::open(report, table, "hooks", &schema::HOOKS);
    for field in schema::HOOKS.names() {
        let Some(event) = field.strip_prefix("on_").and_then(EventName::from_name) else { continue };
        let Some(command) = section.string(report, field, EXAMPLE).value() else { continue };
        let path = section.path_of(field);
        if let Some(wrong) = wrong(command) {
            report.add(&path, wrong, "write a command for /bin/sh, or leave the line out");
        } else {
            hooks.commands.insert(event, command.to_owned());
        }
    }
    hooks.timeout = section.duration(report, "timeout").or(hooks.timeout);
    hooks
}

/// Why a text can be no command.
fn wrong(command: &str) -> Option<String> {
    if command.trim().is_empty() {
        return Some("the command is empty".to_owned());
    }
    if command.contains('\0') {
        return Some("the command has a zero character".to_owned());
    }
    let length = command.len();
    (length > MAX_COMMAND).then(|| format!("the command has {length} bytes, more than {MAX_COMMAND}"))
}
