//! Dialogs: a box of ASCII over the screen, so that it looks alike over any line and in any locale.

use ratatui::text::Line;

use crate::api::types::DrainPlan;
use crate::cli::render;
use crate::cli::render::number::plural;
use crate::cli::render::text::{clean, cut, wrap};
use crate::cli::terminal::Style;

use super::super::dialog::{Dialog, FORCE, Verb};
use super::super::key::HELP;
use super::super::state::Top;
use super::paint::Paint;

/// Columns inside the widest box.
const WIDEST: usize = 100;
/// Hosts that a question names.
const NAMED: usize = 8;

/// Columns of text in a box.
fn width(top: &Top) -> usize {
    usize::from(top.size.0).saturating_sub(6).min(WIDEST)
}

/// Lines of text in a box; its edges and the line of keys take four.
pub fn room(top: &Top) -> usize {
    usize::from(top.size.1).saturating_sub(6)
}

/// A box: title, text, and the keys that it takes.
struct Content {
    title: String,
    text: Vec<String>,
    keys: &'static str,
    /// What is typed stands at the end of the text.
    typed: Option<String>,
}

pub fn plan_lines(top: &Top, plan: &DrainPlan) -> Vec<String> {
    let style = Style { width: width(top) as u16, ..top.style() };
    render::plan::plan(plan, style).lines().map(str::to_owned).collect()
}

fn content(top: &Top, dialog: &Dialog) -> Content {
    let (width, ascii) = (width(top), top.settings.ascii);
    let paragraph = |text: &str, indent: usize| -> Vec<String> {
        wrap(&clean(text, ascii), width, indent).lines().map(str::to_owned).collect()
    };
    match dialog {
        Dialog::Help => Content {
            title: "keys".to_owned(),
            text: HELP.iter().map(|(keys, what)| cut(&format!("{keys:<19}  {what}"), width)).collect(),
            keys: "any key: back",
            typed: None,
        },
        Dialog::Ask(deed) => {
            let mut text = Vec::new();
            if deed.hosts.len() > 1 {
                let named: Vec<&str> = deed.hosts.iter().take(NAMED).map(String::as_str).collect();
                let more = deed.hosts.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                text.extend(paragraph(&format!("{}{more}", named.join(", ")), 0));
            }
            if deed.hidden > 0 {
                let hidden = format!(
                    "{} of {} not shown by the filter.",
                    deed.hidden,
                    plural(deed.hosts.len() as u64, "host")
                );
                text.extend(paragraph(&hidden, 0));
            }
            let flows = match deed.live {
                None => "live flows go on until they end".to_owned(),
                Some(0) => "no flow is live".to_owned(),
                Some(1) => "1 live flow goes on until it ends".to_owned(),
                Some(n) => format!("{} go on until they end", plural(n, "live flow")),
            };
            text.extend(match deed.verb {
                Verb::Drain => paragraph(&format!("No new flows; {flows}."), 0),
                Verb::Undrain => paragraph("New flows come back at once.", 0),
            });
            text.push(String::new());
            Content {
                title: format!("{} {}?", deed.verb.name(), deed.whom()),
                text,
                keys: match deed.verb {
                    Verb::Drain => "Enter: drain   Esc: do nothing",
                    Verb::Undrain => "Enter: undrain   Esc: do nothing",
                },
                typed: Some(format!("Reason (optional): {}", clean(&deed.reason, ascii))),
            }
        }
        Dialog::Sent { what, .. } => Content {
            title: what.clone(),
            text: paragraph("The daemon is asked ...", 0),
            keys: "Esc: do not wait for its answer",
            typed: None,
        },
        Dialog::Rules { deed, rules, typed } => {
            let mut text = paragraph(
                &format!("Nothing was done: {} would be broken.", plural(rules.len() as u64, "rule")),
                0,
            );
            for rule in rules {
                text.extend(paragraph(&format!("{}: {}", rule.rule, rule.message), 2));
                text.extend(paragraph(&format!("  mend: {}", rule.mend), 4));
            }
            // What is asked must be seen, however many rules there are.
            let room = room(top).saturating_sub(3);
            if text.len() > room {
                text.truncate(room.saturating_sub(1));
                text.push(format!("... (`{} plan drain` shows all)", top.settings.command));
            }
            text.push(String::new());
            Content {
                title: format!("{} {}: refused", deed.verb.name(), deed.whom()),
                text,
                keys: "Enter: break the rules   Esc: leave all as it is",
                typed: Some(format!("Type \"{FORCE}\" to do it all the same: {typed}")),
            }
        }
        Dialog::Refused { what, refusal } => {
            let mut text = paragraph(&refusal.message, 2);
            text.extend(refusal.hint.iter().flat_map(|hint| paragraph(&format!("hint: {hint}"), 2)));
            Content { title: format!("{what}: not done"), text, keys: "any key: back", typed: None }
        }
        Dialog::Plan { hosts, plan, scroll } => Content {
            title: format!("plan drain {}: nothing is changed", super::super::dialog::whom(hosts)),
            text: plan_lines(top, plan).into_iter().skip(*scroll).collect(),
            keys: "d: drain   up down: scroll   Esc: back",
            typed: None,
        },
    }
}

/// The box with its edges, and where its last line of text ends, which is where one types.
pub fn lines(top: &Top, dialog: &Dialog) -> (Vec<Line<'static>>, Option<(usize, usize)>) {
    let paint = Paint::of(top);
    let Content { title, mut text, keys, typed } = content(top, dialog);
    let room = room(top);
    text.truncate(room.saturating_sub(usize::from(typed.is_some())));
    let width = width(top);
    let mut cursor = None;
    if let Some(typed) = typed {
        // The end is what is being typed.
        let surplus = (typed.chars().count() + 1).saturating_sub(width);
        let shown: String = typed.chars().skip(surplus).collect();
        cursor = Some((2 + shown.chars().count(), 1 + text.len()));
        text.push(shown);
    }
    let columns = text.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let columns = columns.max(title.chars().count() + 2).max(keys.len()).max(44).min(width);
    let title = cut(&clean(&title, top.settings.ascii), columns.saturating_sub(2));
    let edge = |text: String| Line::styled(text, paint.header());
    let mut lines = vec![edge(format!("+{:-<1$}+", format!("- {title} "), columns + 2))];
    lines.extend(text.iter().map(|line| {
        let line = cut(line, columns);
        let pad = " ".repeat(columns - line.chars().count());
        paint.words(&format!("| {line}{pad} |"))
    }));
    lines.push(Line::raw(format!("| {:<columns$} |", "")));
    lines.push(Line::styled(format!("| {keys:<columns$} |"), paint.title()));
    lines.push(edge(format!("+{}+", "-".repeat(columns + 2))));
    (lines, cursor)
}
