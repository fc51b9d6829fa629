//! Every command line of `sluice` in the documents and in the help is one that the program takes.
//!
//! What the daemon says to those that ask it, the suite `veth_documents` tries.

mod lines;

use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory};
use lb_userspace::cli::Cli;
use lines::{documents, of_sluice, typed, words};

fn check(words: &[String], place: &str) {
    if let Err(error) = Cli::command().try_get_matches_from(words)
        && error.use_stderr()
    {
        panic!("{place}: {}: {error}", words.join(" "));
    }
}

#[test]
fn the_program_takes_every_line_of_the_documents() {
    let mut count = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in typed(&text) {
            if let Some(words) = of_sluice(&line) {
                check(&words, &path.display().to_string());
                count += 1;
            }
        }
    }
    assert!(count >= 50, "only {count} lines were found");
}

#[test]
fn the_program_takes_what_the_text_quotes() {
    let mut count = 0;
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring/alerts.yml");
    for path in documents().into_iter().chain([rules]) {
        let text = std::fs::read_to_string(&path).unwrap();
        // What a rule puts in is one word.
        let text = text.replace("{{ $labels.", "").replace(" }}", "");
        for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("sluice ")) {
            let words = words(quoted);
            // What is quoted may be a part of a line: the verb and its options must be there, and capitals stand for something.
            let command = Cli::command();
            let verb = command.get_subcommands().find(|verb| verb.get_name() == words[1]);
            assert!(verb.is_some(), "{}: there is no verb in {quoted:?}", path.display());
            if words.iter().any(|word| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase())) {
                continue;
            }
            let error = Cli::command().try_get_matches_from(&words).err();
            if let Some(error) = error.filter(|error| error.use_stderr())
                && !matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                )
            {
                panic!("{}: {quoted}: {error}", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 40, "only {count} were found");
}

#[test]
fn the_examples_of_the_help_are_taken_and_every_verb_has_some() {
    fn look(command: &Command, count: &mut usize) {
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.lines().map(str::trim).filter(|line| line.starts_with("sluice "));
            let examples: Vec<&str> = examples.collect();
            let has_verbs = verb.get_subcommands().next().is_some();
            assert!(!examples.is_empty() || has_verbs, "{} has no example", verb.get_name());
            for line in examples {
                let line = line.split("   ").next().unwrap();
                check(&words(line), verb.get_name());
                *count += 1;
            }
            look(verb, count);
        }
    }
    let mut count = 0;
    look(&Cli::command(), &mut count);
    assert!(count >= 50, "{count}");
}

/// Of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn anchors(text: &str) -> Vec<String> {
    let mut is_block = false;
    let headings = text.lines().filter(|line| {
        is_block ^= line.trim().starts_with("```");
        !is_block && line.starts_with('#')
    });
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut count = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !place.is_empty() {
                let there = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(there.iter().any(|anchor| anchor == place), "{}: {link}", path.display());
            }
            count += 1;
        }
    }
    assert!(count > 100, "only {count} links");
}

#[test]
fn every_picture_is_shown_in_a_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut shown = Vec::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let pictures = links.filter(|link| link.contains("pictures/"));
        shown.extend(pictures.map(|link| path.parent().unwrap().join(link).canonicalize().unwrap()));
    }
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("docs/pictures")).unwrap() {
        let picture = entry.unwrap().path().canonicalize().unwrap();
        assert!(shown.contains(&picture), "nobody shows {}: link it, or remove it", picture.display());
        count += 1;
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn a_line_that_the_program_does_not_take_is_found() {
    let of = |line: &str| of_sluice(line).unwrap();
    assert_eq!(
        of("sudo ./sluice drain web-2 --reason \"a b\"  # why"),
        ["sluice", "drain", "web-2", "--reason", "a b"]
    );
    assert_eq!(of("sluice drains | grep x"), ["sluice", "drains"]);
    assert_eq!(of_sluice("systemctl restart sluice"), None);
    for wrong in ["sluice drian web-2", "sluice drain web-2 --waits", "sluice drain"] {
        assert!(Cli::command().try_get_matches_from(of(wrong)).is_err(), "{wrong}");
    }
}

/// From the same definition as all of this: a page for each verb.
#[test]
fn the_manual_has_a_page_for_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg("man")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    fn look(folder: &Path, command: &Command, name: &str, count: &mut usize) {
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            let name = format!("{name}-{}", verb.get_name());
            let page = folder.join(format!("{name}.1"));
            let text =
                std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            let has_verbs = verb.get_subcommands().next().is_some();
            let parts =
                [".TH", ".SH NAME", ".SH SYNOPSIS", if has_verbs { "SUBCOMMANDS" } else { "Exit codes:" }];
            for part in parts {
                assert!(text.contains(part), "{}: {part}", page.display());
            }
            *count += 1;
            look(folder, verb, &name, count);
        }
    }
    let mut count = 0;
    look(folder.path(), &Cli::command(), "sluice", &mut count);
    assert!(count > 25, "{count}");
    for words in ["health test", "drain"] {
        let page = folder.path().join(format!("sluice-{}.1", words.replace(' ', "-")));
        let text = std::fs::read_to_string(page).unwrap();
        assert!(text.contains(&format!("sluice {words} web\\-3")), "{words}: {text}");
    }
    let text = std::fs::read_to_string(folder.path().join("sluice.1")).unwrap();
    assert!(text.contains("sluice\\-drain(1)"), "{text}");
}
