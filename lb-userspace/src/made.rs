//! Documents that are made from the code, and kept in docs/. For tests.

use std::path::Path;

/// Asserts that the file in docs/ is what the code makes, or writes it, with `SLUICE_WRITE_DOCS`.
pub fn is_kept(name: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        std::fs::write(&file, made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == made,
        "docs/{name} is of another time: SLUICE_WRITE_DOCS=1 cargo test -p lb-userspace --lib in_docs"
    );
}
