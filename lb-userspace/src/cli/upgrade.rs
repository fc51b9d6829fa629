//! `sluice upgrade --check`: whether this program can take over what another one runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Serialize;

use super::output::Out;
use super::{Exit, Failure, Global, after_help};
use crate::config::ConfigErrors;
use crate::daemon::{self, upgrade::Checked};
use crate::dataplane::{Rehearsal, Treatment};

/// Find out whether this program can take over from the daemon that runs
///
/// Run it by the new program while the old one's daemon runs: it loads its XDP program beside the one that forwards, makes
/// the maps that differ, copies the pins of all live flows into them, and removes all of it. Only the switch is
/// missing: that comes with a restart of the daemon, and no packet is lost in it.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct UpgradeArgs {
    /// Change nothing, only say what would be (the upgrade itself is a restart of the daemon)
    #[arg(long, required = true)]
    pub check: bool,
    /// The config file (TOML) that the daemon will be started with: it counts if it was changed since the daemon has read it. Default: the
    /// config in force, from the journal
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice upgrade --check
  sluice upgrade --check --config new.toml --json";

/// What programs get.
#[derive(Serialize)]
struct Answer {
    ready: bool,
    layout: u64,
    own_layout: u32,
    differences: Vec<String>,
    refusals: Vec<String>,
    maps: std::collections::BTreeMap<&'static str, Treatment>,
    /// Pins that were copied for a try; null: the flow table is used on.
    copied_pins: Option<u64>,
    copied_in_ms: Option<u64>,
    /// Bytes that two flow tables take more than one, for the time of the switch.
    bytes_beside: u64,
    /// The config file was changed since the daemon has read it: a restart puts it in force.
    config_is_new: bool,
}

/// Prints what was found; fails if the upgrade would.
pub fn run(global: &Global, args: &UpgradeArgs) -> Result<(), Failure> {
    let instance = &global.instance;
    let checked = daemon::upgrade::check(instance, args.config.as_deref()).map_err(|error| {
        let exit = if error.is::<ConfigErrors>() { Exit::Refused } else { Exit::Failed };
        Failure::new(exit, error)
    })?;
    let Some(Checked { rehearsal: found, has_news }) = checked else {
        let error = anyhow!("instance {instance} has no data path that could be taken over");
        return Err(Failure::new(Exit::NotFound, error).hint("`sluice run` makes a new one"));
    };
    let is_ready = found.refusals.is_empty();
    if args.json {
        let text =
            serde_json::to_string_pretty(&answer(&found, has_news)).context("cannot print the answer")?;
        Out::stdout().print(&format!("{text}\n"))?;
    } else {
        let news = args.config.as_deref().filter(|_| has_news).map(news);
        Out::stdout().print(&(news.unwrap_or_default() + &render(&found)))?;
    }
    if is_ready {
        return Ok(());
    }
    let error = anyhow!("this program cannot take over the flows of {instance}; what runs is as it was");
    Err(Failure::new(Exit::Failed, error).hint(
        "stay with the program that made the maps, or end forwarding with `sluice detach`, which forgets all flows",
    ))
}

/// What else a restart does.
fn news(file: &Path) -> String {
    format!(
        "config: {} was changed since the daemon has read it; a restart puts it in force\n",
        file.display()
    )
}

fn trimmed(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| line.trim().to_owned()).collect()
}

fn answer(found: &Rehearsal, config_is_new: bool) -> Answer {
    Answer {
        ready: found.refusals.is_empty(),
        layout: found.layout,
        own_layout: found.own_layout,
        differences: trimmed(&found.differences),
        refusals: trimmed(&found.refusals),
        maps: found.maps.iter().copied().collect(),
        copied_pins: found.copied.map(|(pins, _)| pins),
        copied_in_ms: found.copied.map(|(_, took)| took.as_millis() as u64),
        bytes_beside: found.beside,
        config_is_new,
    }
}

fn render(found: &Rehearsal) -> String {
    let mut text = String::new();
    let mut section = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            let _ = writeln!(text, "{title}:\n{}", lines.join("\n"));
        }
    };
    section("differs", &found.differences);
    section("cannot be taken over", &found.refusals);
    if !found.refusals.is_empty() {
        return text;
    }
    if found.differences.is_empty() {
        return "ready: nothing differs, restart the daemon with this program\n".to_owned();
    }
    for (title, treatment) in [
        ("used on", Treatment::Kept),
        ("taken over into new ones", Treatment::Migrated),
        ("made anew from config and journal", Treatment::Anew),
    ] {
        let names: Vec<&str> =
            found.maps.iter().filter(|(_, of)| *of == treatment).map(|(name, _)| *name).collect();
        if !names.is_empty() {
            let _ = writeln!(text, "{title}: {}", names.join(", "));
        }
    }
    if let Some((pins, took)) = found.copied {
        let _ = writeln!(
            text,
            "{pins} live pins copied in {} ms; both flow tables take {} MiB more for the time of the switch",
            took.as_millis(),
            found.beside >> 20
        );
    }
    text.push_str("ready: restart the daemon with this program\n");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found() -> Rehearsal {
        Rehearsal {
            layout: 5,
            own_layout: 6,
            differences: vec!["  COLD: value size is 56, this version needs 64".to_owned()],
            refusals: Vec::new(),
            maps: vec![("COLD", Treatment::Migrated), ("VIPS", Treatment::Kept)],
            copied: Some((12, Duration::from_millis(3))),
            beside: 64 << 20,
        }
    }

    #[test]
    fn what_can_be_taken_over_is_told() {
        assert_eq!(
            render(&found()),
            "differs:\n  COLD: value size is 56, this version needs 64\nused on: VIPS\n\
             taken over into new ones: COLD\n12 live pins copied in 3 ms; both flow tables take 64 MiB more for the \
             time of the switch\nready: restart the daemon with this program\n"
        );
        let same = Rehearsal { differences: Vec::new(), copied: None, ..found() };
        assert_eq!(render(&same), "ready: nothing differs, restart the daemon with this program\n");
    }

    #[test]
    fn what_cannot_is_told_and_nothing_is_called_ready() {
        let refused = Rehearsal { refusals: vec!["  HOT is not there".to_owned()], ..found() };
        assert!(render(&refused).ends_with("cannot be taken over:\n  HOT is not there\n"));
        assert!(!answer(&refused, false).ready && answer(&found(), true).ready);
    }
}
