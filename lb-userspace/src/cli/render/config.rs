//! Configs: what differs, what it does, and what came of it.

use std::fmt::Write as _;

use crate::api::types::{
    Applied, ChangeKind, ConfigChange, ConfigPart, ConfigPlan, Confirmed, Diff, DrainChange, FieldChange,
};
use crate::cli::terminal::Style;

use super::number::{duration, exact, plural};
use super::text::{Align, Grid, clean, wrap};

use Align::{Left, Right};

/// Lines of a list before they become a number.
const LINES: usize = 40;

const MOVES: &[(&str, Align)] = &[("HOST", Left), ("SLOTS", Right), ("THEN", Right), ("CHANGE", Right)];

/// `+ host web-3`, and below it the fields, or those that differ.
pub fn changes(changes: &[ConfigChange], style: Style) -> String {
    let (green, red, yellow, off) =
        if style.control { ("\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m") } else { ("", "", "", "") };
    if changes.is_empty() {
        return "the configs come to the same\n".to_owned();
    }
    let mut lines = Vec::new();
    for change in changes {
        let (sign, colour) = match change.change {
            ChangeKind::Added => ('+', green),
            ChangeKind::Removed => ('-', red),
            ChangeKind::Changed => ('~', yellow),
        };
        let name = clean(&change.name, style.ascii);
        if change.part == ConfigPart::Setting {
            let fields = change.fields.iter().map(|field| values(field, change.change));
            let fields = fields.collect::<Vec<_>>().join(", ");
            lines.push(format!("{colour}{sign}{off} {name}: {}", clean(&fields, style.ascii)));
            continue;
        }
        lines.push(format!("{colour}{sign} {} {name}{off}", change.part.name()));
        // What is gone is known to whoever has removed it.
        if change.change != ChangeKind::Removed {
            lines.extend(change.fields.iter().map(|field| {
                clean(&format!("    {}: {}", field.field, values(field, change.change)), style.ascii)
            }));
        }
    }
    let more = lines.len().saturating_sub(LINES);
    let mut out = lines[..lines.len() - more].join("\n") + "\n";
    if more > 0 {
        let _ = writeln!(out, "... and {} (--json has all)", plural(more as u64, "more line"));
    }
    out
}

fn values(field: &FieldChange, change: ChangeKind) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    match change {
        ChangeKind::Added => value(&field.to),
        ChangeKind::Removed => value(&field.from),
        ChangeKind::Changed => format!("{} -> {}", value(&field.from), value(&field.to)),
    }
}

/// What a config does, or would do.
pub fn plan(plan: &ConfigPlan, style: Style) -> String {
    let mut out = changes(&plan.changes, style);
    if plan.changes.is_empty() {
        return out;
    }
    let _ = writeln!(out, "\n{} of {} slots change hands", exact(plan.slots_moved), exact(plan.slots));
    if !plan.moves.is_empty() {
        let mut grid = Grid::new(MOVES, style);
        for row in plan.moves.iter().take(LINES) {
            let sign = if row.after > row.before { "+" } else { "-" };
            grid.row([
                row.host.clone(),
                exact(row.before),
                exact(row.after),
                format!("{sign}{}", exact(row.after.abs_diff(row.before))),
            ]);
        }
        out.push_str(&grid.render());
    }
    let mut paragraph = |text: &str| {
        out.push_str(&wrap(&clean(text, style.ascii), usize::from(style.width), 2));
        out.push('\n');
    };
    for leaving in &plan.leaving {
        paragraph(&format!(
            "{} leaves {}: {} to their end, new ones go elsewhere",
            leaving.host,
            leaving.service,
            go_on(leaving.live_flows)
        ));
    }
    for ending in &plan.ending {
        paragraph(&format!("{} is removed: {} with it", ending.service, end(ending.live_flows)));
    }
    plan.notes.iter().for_each(|note| paragraph(note));
    out
}

fn go_on(flows: u64) -> String {
    format!("{} {}", plural(flows, "live flow"), if flows == 1 { "goes on" } else { "go on" })
}

fn end(flows: u64) -> String {
    format!("{} {}", plural(flows, "live flow"), if flows == 1 { "ends" } else { "end" })
}

/// The answer to an apply or a rollback; `command` is how this program is called, `now` in Unix seconds.
pub fn applied(applied: &Applied, dry_run: bool, command: &str, now: u64, style: Style) -> String {
    let mut out = plan(&applied.plan, style);
    match (applied.revision, applied.confirm_by) {
        (Some(revision), Some(by)) => {
            let left = duration(by.saturating_sub(now));
            let _ = writeln!(
                out,
                "\nrevision {revision} is in force; in {left} the config before comes back, unless: {command} confirm {revision}"
            );
        }
        (Some(revision), None) => {
            let _ = writeln!(out, "\nrevision {revision} is in force");
        }
        (None, _) if dry_run => out.push_str("\nnothing was changed: this was a dry run\n"),
        (None, _) => out.push_str("nothing was changed\n"),
    }
    out
}

pub fn confirmed(confirmed: &Confirmed) -> String {
    format!("the config of revision {} is to stay (revision {})\n", confirmed.confirmed, confirmed.revision)
}

/// What lies between two revisions.
pub fn diff(diff: &Diff, style: Style) -> String {
    let mut out = format!("from revision {} to revision {}:\n\n", diff.from, diff.to);
    out.push_str(&changes(&diff.changes, style));
    for DrainChange { host, from, to } in &diff.drains {
        let words = match (from, to) {
            (None, Some(to)) => format!("+ {host} is out, by drain {to}"),
            (Some(from), None) => format!("- {host} is back, from drain {from}"),
            (Some(from), Some(to)) => format!("~ {host} is out by drain {to}, no longer by drain {from}"),
            (None, None) => continue,
        };
        out.push_str(&clean(&words, style.ascii));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{EndingService, LeavingHost, SlotChange};

    fn field(name: &str, from: Option<&str>, to: Option<&str>) -> FieldChange {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        FieldChange { field: name.to_owned(), from: owned(from), to: owned(to) }
    }

    fn some() -> ConfigPlan {
        let change =
            |change, part, name: &str, fields| ConfigChange { change, part, name: name.to_owned(), fields };
        ConfigPlan {
            changes: vec![
                change(ChangeKind::Added, ConfigPart::Host, "c", vec![field("weight", None, Some("7"))]),
                change(ChangeKind::Removed, ConfigPart::Host, "b", vec![field("weight", Some("1"), None)]),
                change(
                    ChangeKind::Changed,
                    ConfigPart::Service,
                    "web",
                    vec![field("hosts", Some("a, b"), Some("a, c"))],
                ),
                change(
                    ChangeKind::Changed,
                    ConfigPart::Setting,
                    "timeouts.udp",
                    vec![field("value", Some("90s"), Some("5s"))],
                ),
            ],
            slots_moved: 1234,
            slots: 65_537,
            moves: vec![SlotChange { host: "b".to_owned(), before: 2000, after: 0 }],
            leaving: vec![LeavingHost {
                host: "b".to_owned(),
                service: "web".to_owned(),
                live_flows: 1,
                drain: None,
            }],
            ending: vec![EndingService { service: "old".to_owned(), live_flows: 2 }],
            notes: vec!["c cannot be reached now".to_owned()],
        }
    }

    #[test]
    fn a_plan_tells_all() {
        let expected = "\
+ host c
    weight: 7
- host b
~ service web
    hosts: a, b -> a, c
~ timeouts.udp: 90s -> 5s

1,234 of 65,537 slots change hands
HOST  SLOTS  THEN  CHANGE
b     2,000     0  -2,000
b leaves web: 1 live flow goes on to their end, new ones go elsewhere
old is removed: 2 live flows end with it
c cannot be reached now
";
        assert_eq!(plan(&some(), Style::PLAIN), expected);
    }

    #[test]
    fn an_answer_says_what_is_to_be_done() {
        let answer = |revision, confirm_by| Applied { revision, confirm_by, plan: some() };
        let end = |answer: &Applied, dry_run| {
            applied(answer, dry_run, "sluice", 100, Style::PLAIN).lines().last().unwrap().to_owned()
        };
        assert_eq!(end(&answer(Some(5), None), false), "revision 5 is in force");
        assert_eq!(
            end(&answer(Some(5), Some(160)), false),
            "revision 5 is in force; in 1m00s the config before comes back, unless: sluice confirm 5"
        );
        assert_eq!(end(&answer(None, None), true), "nothing was changed: this was a dry run");
    }

    #[test]
    fn foreign_words_are_harmless_and_long_lists_end() {
        let host = |n: usize| ConfigChange {
            change: ChangeKind::Added,
            part: ConfigPart::Host,
            name: format!("h\u{1b}{n}"),
            fields: Vec::new(),
        };
        let many: Vec<_> = (0..100).map(host).collect();
        let text = changes(&many, Style::PLAIN);
        assert!(text.starts_with("+ host h\\u{1b}0\n"), "{text}");
        assert_eq!(text.lines().count(), LINES + 1);
        assert!(text.ends_with("... and 60 more lines (--json has all)\n"), "{text}");
    }
}
