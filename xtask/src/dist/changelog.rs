//! `CHANGELOG.md`, and the changelog that a Debian package is to have, made from it.

use anyhow::{Context, Result, bail};
use time::format_description::well_known::Rfc2822;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

/// Columns of a Debian changelog.
const WIDTH: usize = 79;
/// In the place of a date, of the version that is being worked on.
const UNRELEASED: &str = "unreleased";

/// What one version brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub version: String,
    /// `None`: not released yet.
    pub date: Option<Date>,
    /// A sentence or two each, without line breaks.
    pub items: Vec<String>,
}

/// Reads headings `## VERSION, YYYY-MM-DD` (or `## VERSION, unreleased`) and the items of lists below them; the newest comes first.
///
/// # Errors
/// A heading of another form, a version without items, a file without versions.
pub fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            entries.push(entry(heading)?);
            continue;
        }
        let Some(entry) = entries.last_mut() else { continue };
        if let Some(item) = line.strip_prefix("- ") {
            entry.items.push(item.trim().to_owned());
        } else if let (Some(item), true) = (entry.items.last_mut(), line.starts_with("  ")) {
            item.push(' ');
            item.push_str(line.trim());
        }
    }
    if entries.is_empty() {
        bail!("it has no heading such as `## 0.1.0, 2026-11-27`");
    }
    match entries.iter().find(|entry| entry.items.is_empty()) {
        Some(entry) => bail!("nothing is said of {}: write items (`- ...`) below its heading", entry.version),
        None => Ok(entries),
    }
}

fn entry(heading: &str) -> Result<Entry> {
    let form =
        || format!("`## {heading}` is not of the form `## 0.1.0, 2026-11-27`, or `## 0.1.0, {UNRELEASED}`");
    let (version, date) = heading.split_once(", ").with_context(form)?;
    let date = match date.trim() {
        UNRELEASED => None,
        date => Some(Date::parse(date, format_description!("[year]-[month]-[day]")).with_context(form)?),
    };
    Ok(Entry { version: version.trim().to_owned(), date, items: Vec::new() })
}

/// As Debian wants it (deb-changelog(5)). The first entry is this package's, whatever its heading says: it has the package's version, and where it
/// is not released the time of its commit, in Unix seconds.
///
/// # Errors
/// A time that no calendar has.
pub fn for_debian(entries: &[Entry], version: &str, time: u64, maintainer: &str) -> Result<String> {
    let commit = OffsetDateTime::from_unix_timestamp(i64::try_from(time)?)?;
    let mut text = String::new();
    for (number, entry) in entries.iter().enumerate() {
        let version = if number == 0 { version } else { &entry.version };
        let date = entry.date.map_or(commit, |date| date.midnight().assume_utc());
        text += &format!("sluice ({version}) stable; urgency=medium\n\n");
        for item in &entry.items {
            for (number, line) in wrap(&item.replace('`', ""), WIDTH - 4).iter().enumerate() {
                text += if number == 0 { "  * " } else { "    " };
                text += line;
                text.push('\n');
            }
        }
        text += &format!("\n -- {maintainer}  {}\n\n", date.format(&Rfc2822)?);
    }
    text.pop();
    Ok(text)
}

/// Lines of so many characters at most, but for longer words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Changelog\n\nWords.\n\n## 0.2.0, unreleased\n\n- A `thing`\n  that is new.\n- Another.\n\n\
                        ## 0.1.0, 2026-11-27\n\n- The first.\n";

    #[test]
    fn versions_are_read_with_what_they_brought() {
        let entries = parse(TEXT).expect("it is well formed");
        assert_eq!(entries[0].items, ["A `thing` that is new.", "Another."]);
        assert_eq!((entries[0].version.as_str(), entries[0].date), ("0.2.0", None));
        assert_eq!(entries[1].date.map(|date| date.to_string()).as_deref(), Some("2026-11-27"));
    }

    #[test]
    fn what_is_malformed_is_told() {
        for (text, part) in [
            ("# Changelog\n", "no heading"),
            ("## 0.1.0\n- x\n", "is not of the form"),
            ("## 0.1.0, soon\n- x\n", "is not of the form"),
            ("## 0.1.0, 2026-11-27\n", "nothing is said of 0.1.0"),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn debian_gets_its_own_form() {
        let entries = parse(TEXT).expect("it is well formed");
        let text =
            for_debian(&entries, "0.2.0~git1", 1_790_000_000, "A <a@b>").expect("a time like any other");
        assert_eq!(
            text,
            "sluice (0.2.0~git1) stable; urgency=medium\n\n  * A thing that is new.\n  * Another.\n\n \
             -- A <a@b>  Mon, 21 Sep 2026 14:13:20 +0000\n\nsluice (0.1.0) stable; urgency=medium\n\n  * The first.\n\n \
             -- A <a@b>  Fri, 27 Nov 2026 00:00:00 +0000\n"
        );
    }

    #[test]
    fn lines_are_no_longer_than_they_may_be() {
        assert_eq!(wrap("one two three fourfourfour", 9), ["one two", "three", "fourfourfour"]);
    }

    #[test]
    fn the_changelog_of_this_checkout_is_well_formed() {
        parse(include_str!("../../../CHANGELOG.md")).expect("CHANGELOG.md");
    }
}
