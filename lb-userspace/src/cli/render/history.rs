//! Revisions: a line each, or one as a whole.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use crate::api::types::{History, Revision, RevisionDetail};
use crate::cli::terminal::Style;

use super::config::changes;
use super::number::{exact, plural};
use super::text::{Align, Grid, clean, wrap};

use Align::{Left, Right};

const REVISIONS: &[(&str, Align)] =
    &[("REV", Right), ("AT", Left), ("KIND", Left), ("WHAT", Left), ("OUTCOME", Left), ("BY", Left)];

/// One line a revision.
pub fn table(history: &History, style: Style) -> String {
    if history.revisions.is_empty() {
        return "no such change is known\n".to_owned();
    }
    let mut grid = Grid::new(REVISIONS, style);
    for r in &history.revisions {
        let reason = r.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        grid.row([
            r.revision.to_string(),
            time(r.at),
            r.kind.clone(),
            r.summary.clone(),
            r.outcome.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{}{reason}", r.by),
        ]);
    }
    let mut out = grid.render();
    let reaches_back = history.revisions.last().is_some_and(|last| last.revision <= history.pruned + 1);
    if history.pruned > 0 && reaches_back {
        let _ = writeln!(
            out,
            "{} went before, by [journal] of the config",
            plural(history.pruned, "older revision")
        );
    }
    out
}

/// All that is known of one.
pub fn whole(found: &RevisionDetail, with_config: bool, style: Style) -> String {
    let Revision { revision, at, by, reason, kind, hosts, summary, outcome } = &found.revision;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let value = wrap(&clean(value, style.ascii), usize::from(style.width).saturating_sub(10), 10);
        let _ = writeln!(out, "{name:<9} {value}");
    };
    line("revision", &exact(*revision));
    line("at", &time(*at));
    line("kind", kind);
    line("by", by);
    if let Some(reason) = reason {
        line("reason", reason);
    }
    line("what", summary);
    if !hosts.is_empty() {
        line("hosts", &hosts.join(", "));
    }
    if let Some(outcome) = outcome {
        line("outcome", outcome);
    }
    if !found.changes.is_empty() {
        let _ = write!(out, "\n{}", changes(&found.changes, style));
    }
    if with_config {
        match &found.config {
            Some(config) => {
                out.push('\n');
                for text in config.lines() {
                    let _ = writeln!(out, "{}", clean(text, style.ascii));
                }
            }
            None => out.push_str("\nthe config that was in force is not known any more\n"),
        }
    }
    out
}

fn time(at: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision() -> Revision {
        Revision {
            revision: 7,
            at: 1_790_000_000,
            by: "alice".to_owned(),
            reason: Some("kernel\n\u{1b}".to_owned()),
            kind: "drain".to_owned(),
            hosts: vec!["web-3".to_owned()],
            summary: "web-3 out".to_owned(),
            outcome: Some("under way".to_owned()),
        }
    }

    #[test]
    fn a_line_each() {
        let history = History { revisions: vec![revision()], pruned: 0 };
        let expected = "\
REV  AT                    KIND   WHAT       OUTCOME    BY
  7  2026-09-21T14:13:20Z  drain  web-3 out  under way  alice: kernel \\u{1b}
";
        assert_eq!(table(&history, Style::PLAIN), expected);
        let pruned = table(&History { pruned: 6, ..history }, Style::PLAIN);
        assert!(pruned.ends_with("6 older revisions went before, by [journal] of the config\n"), "{pruned}");
        assert_eq!(
            table(&History { revisions: Vec::new(), pruned: 6 }, Style::PLAIN),
            "no such change is known\n"
        );
    }

    #[test]
    fn one_as_a_whole() {
        let found = RevisionDetail {
            revision: revision(),
            changes: Vec::new(),
            config: Some("ring_size = 101\n".to_owned()),
            detail: serde_json::Value::Null,
        };
        let expected = "\
revision  7
at        2026-09-21T14:13:20Z
kind      drain
by        alice
reason    kernel \\u{1b}
what      web-3 out
hosts     web-3
outcome   under way
";
        assert_eq!(whole(&found, false, Style::PLAIN), expected);
        assert_eq!(whole(&found, true, Style::PLAIN), format!("{expected}\nring_size = 101\n"));
    }
}
