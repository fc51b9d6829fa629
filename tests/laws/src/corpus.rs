//! Inputs that fuzzing has found: the corpus, which is minimised, and what is kept whatever a corpus would need, such as
//! input that broke a law once.

use std::fs;
use std::path::{Path, PathBuf};

/// An input, and the name of its file.
pub struct Input {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// The folder of the fuzz targets.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Every input of a target, in the order of their names.
///
/// # Panics
/// When there is none, or one cannot be read: a test over nothing would prove nothing.
pub fn inputs(target: &str) -> Vec<Input> {
    let folders = ["corpus", "kept"].map(|kind| folder().join(kind).join(target));
    let mut inputs: Vec<Input> = folders.iter().flat_map(|folder| read(folder)).collect();
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!inputs.is_empty(), "nothing lies in {}", folders[0].display());
    inputs
}

/// The files of a folder, which may be missing.
fn read(folder: &Path) -> Vec<Input> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let read = |entry: fs::DirEntry| {
        let bytes =
            fs::read(entry.path()).unwrap_or_else(|error| panic!("{}: {error}", entry.path().display()));
        Input { name: entry.file_name().to_string_lossy().into_owned(), bytes }
    };
    entries.map(|entry| read(entry.expect("the folder can be read"))).collect()
}
