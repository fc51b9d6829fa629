//! Command lines in the documents: what is typed in blocks for a terminal.

use std::path::{Path, PathBuf};

/// Words of a shell's line up to the first operator or comment, without quotes.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_word) = (Vec::new(), String::new(), None, false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => (quote, is_word) = (Some(c), true),
            (None | Some('"'), '\\') => word.extend(chars.next()),
            (None, ' ' | '\t') => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            (None, '#') if !is_word => break,
            (None, '|' | ';' | '&' | '>') => break,
            (_, c) => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

pub fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = vec![root.join("README.md")];
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    found.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    found.sort();
    found
}

/// Lines of blocks for a terminal that are typed, without their prompt.
pub fn typed(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut is_console = false;
    for line in text.lines().map(str::trim) {
        if let Some(kind) = line.strip_prefix("```") {
            is_console = matches!(kind, "console" | "sh") && !is_console;
        } else if let Some(command) =
            line.strip_prefix("$ ").or(line.strip_prefix("# ")).filter(|_| is_console)
        {
            lines.push(command.to_owned());
        }
    }
    lines
}

/// The arguments of `sluice`, if that is what the line runs.
pub fn of_sluice(line: &str) -> Option<Vec<String>> {
    let mut words = words(line);
    let at = words.iter().position(|word| word.rsplit('/').next() == Some("sluice"))?;
    // Behind `sudo`, or as a word of another command's?
    if !words[..at].iter().all(|word| word == "sudo") {
        return None;
    }
    words[at] = "sluice".to_owned();
    Some(words.split_off(at))
}
