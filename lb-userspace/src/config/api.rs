//! `[api]`: groups by what they may do.

use super::reader::Section;
use super::report::Report;
use super::schema;
use crate::model::Api;

/// Letters of a group's name, as groupadd(8) has it.
const MAX_GROUP: usize = 32;

pub(super) fn read(report: &mut Report, top: &Section<'_>) -> Api {
    let Some(table) = top.table(report, "api", "[api]").value() else { return Api::default() };
    let section = Section::open(report, table, "api", &schema::API);
    let mut group = |field: &str| {
        let name = section.string(report, field, "\"sluice\"").value()?;
        let allowed = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, ':' | ',' | '/');
        if name.is_empty() || name.len() > MAX_GROUP || !name.chars().all(allowed) {
            let hint = format!("name a group that `getent group` shows: 1 to {MAX_GROUP} letters");
            report.add(&section.path_of(field), format!("{name:?} cannot be a group"), hint);
            return None;
        }
        Some(name.to_owned())
    };
    Api { read_group: group("read_group"), change_group: group("change_group") }
}
