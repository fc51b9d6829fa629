//! The licences of all that others have written and that is linked into the program: their terms ask for it to go with each copy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::sbom::{Compilers, Graph, Package};
use crate::command::Cmd;
use crate::workspace::Workspace;

/// How names of files begin that have licences and notices, in small letters.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];
const RULE: &str = "--------------------------------------------------------------------------------";

/// The text of the file.
///
/// # Errors
/// When cargo fails, or a file cannot be read.
pub fn make(workspace: &Workspace) -> Result<String> {
    let compilers = Compilers::of(workspace)?;
    let graph = Graph::of(workspace, &compilers)?;
    let metadata =
        Cmd::cargo(&workspace.root).args(["metadata", "--locked", "--format-version=1"]).output()?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let mut folders = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        if let (Some(name), Some(version), Some(manifest)) =
            (package["name"].as_str(), package["version"].as_str(), package["manifest_path"].as_str())
        {
            folders.insert(format!("{name}@{version}"), Path::new(manifest).with_file_name(""));
        }
    }
    let mut parts = Vec::new();
    for (reference, package) in graph.packages.iter().filter(|(_, package)| !package.is_own) {
        let folder =
            folders.get(reference).with_context(|| format!("cargo knows no folder of {reference}"))?;
        parts.push(Part { title: title(package), texts: texts(folder)? });
    }
    let rust = compilers.host.sysroot.join("share/doc/rust");
    parts.push(Part {
        title: format!("The Rust standard library {}: MIT OR Apache-2.0", compilers.host.release),
        texts: if rust.is_dir() { texts(&rust)? } else { Vec::new() },
    });
    parts.push(Part { title: "SQLite: public domain".to_owned(), texts: Vec::new() });
    Ok(print(&parts))
}

struct Part {
    title: String,
    texts: Vec<String>,
}

fn title(package: &Package) -> String {
    let Package { name, version, license, .. } = package;
    let license = if license.is_empty() { "see below" } else { license };
    format!("{name} {version}: {license}")
}

/// What licences and notices say that lie in a folder.
fn texts(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        file.is_file() && NAMES.iter().any(|begin| name.starts_with(begin)) && !name.ends_with(".html")
    });
    files.sort();
    let read = |file: &PathBuf| {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned())
    };
    files.iter().map(read).collect()
}

/// Each text once: many are the same to the letter.
fn print(parts: &[Part]) -> String {
    let mut all: Vec<&str> = Vec::new();
    let mut list = String::new();
    for Part { title, texts } in parts {
        let mut numbers = Vec::new();
        for text in texts {
            let at = all.iter().position(|known| known == text).unwrap_or_else(|| {
                all.push(text);
                all.len() - 1
            });
            numbers.push(format!("{}", at + 1));
        }
        let which = match numbers.len() {
            0 => "comes without a text".to_owned(),
            1 => format!("text {}", numbers[0]),
            _ => format!("texts {}", numbers.join(", ")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(list, "  {title} ({which})");
    }
    let mut text = format!(
        "What others have written and is linked into sluice, with its licence; of several, any may be chosen (\"OR\").\n\n{list}"
    );
    for (at, licence) in all.iter().enumerate() {
        let _ = write!(text, "\n{RULE}\nText {}\n{RULE}\n\n{licence}\n", at + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_there_once_and_all_that_use_it_say_so() {
        let part = |title: &str, texts: &[&str]| Part {
            title: title.to_owned(),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        let text = print(&[
            part("a 1.0: MIT", &["Permission"]),
            part("b 1.0: MIT OR Apache-2.0", &["Apache", "Permission"]),
            part("c 1.0: MIT", &[]),
        ]);
        for line in ["a 1.0: MIT (text 1)", "Apache-2.0 (texts 2, 1)", "c 1.0: MIT (comes without a text)"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!(text.matches("Permission").count(), 1, "{text}");
        assert!(text.ends_with("\nText 2\n--------------------------------------------------------------------------------\n\nApache\n"), "{text}");
    }

    #[test]
    fn licences_of_a_folder_are_read_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("sluice-third-party-{}", std::process::id()));
        fs::create_dir_all(folder.join("licenses")).expect("a folder can be made");
        for (name, text) in
            [("LICENSE-MIT", "\nm  \n"), ("COPYING", "c"), ("README.md", "r"), ("License.html", "h")]
        {
            fs::write(folder.join(name), text).expect("a file can be written");
        }
        let found = texts(&folder).expect("read");
        fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(found, ["c", "m"]);
    }
}
