//! A tree of files in the making, with the modes that they are to have, whatever the umask is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::Cmd;

const FOLDER: u32 = 0o755;
pub const FILE: u32 = 0o644;
pub const PROGRAM: u32 = 0o755;

pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty one, in the place of what is there.
    pub fn new(root: PathBuf) -> Result<Tree> {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        let tree = Tree { root };
        tree.folder(Path::new(""))?;
        Ok(tree)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file; folders above it are made.
    pub fn put(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        self.folder(path.parent().unwrap_or(Path::new("")))?;
        let whole = self.root.join(path);
        fs::write(&whole, content).with_context(|| format!("cannot write {}", whole.display()))?;
        self.set_mode(&whole, mode)
    }

    /// Copies a file.
    pub fn copy(&self, from: &Path, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.put(path, content, mode)
    }

    /// Writes a file as gzip does, which says nothing of name and time, and gives it its ending.
    pub fn put_gzipped(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        self.put(path, content, FILE)?;
        let whole = self.root.join(path);
        Cmd::new("gzip").args(["-9n", "--force"]).arg(&whole).output()?;
        self.set_mode(&self.root.join(format!("{path}.gz")), FILE)
    }

    /// All files, by their paths in the tree, sorted.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        files_below(&self.root)
    }

    /// KiB, as dpkg counts them: each file's are rounded up.
    pub fn size(&self) -> Result<u64> {
        let sizes = self
            .files()?
            .into_iter()
            .map(|path| Ok(fs::metadata(self.root.join(path))?.len().div_ceil(1024)));
        sizes.sum()
    }

    fn folder(&self, path: &Path) -> Result<()> {
        let whole = self.root.join(path);
        fs::create_dir_all(&whole).with_context(|| format!("cannot make {}", whole.display()))?;
        for folder in whole.ancestors().take_while(|folder| folder.starts_with(&self.root)) {
            self.set_mode(folder, FOLDER)?;
        }
        Ok(())
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))
    }
}

/// All files in a folder and those in it, by their paths from there, sorted.
pub fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_modes_that_were_asked_for() {
        let root = std::env::temp_dir().join(format!("sluice-tree-{}", std::process::id()));
        let tree = Tree::new(root.clone()).expect("a folder can be made");
        tree.put("usr/bin/x", "#!/bin/sh\n", PROGRAM).expect("written");
        tree.put_gzipped("usr/share/doc/x", "words").expect("written");
        assert_eq!(tree.files().expect("read"), ["usr/bin/x", "usr/share/doc/x.gz"].map(PathBuf::from));
        let mode =
            |path: &str| fs::metadata(root.join(path)).expect("it is there").permissions().mode() & 0o7777;
        assert_eq!((mode("usr"), mode("usr/bin/x"), mode("usr/share/doc/x.gz")), (FOLDER, PROGRAM, FILE));
        assert_eq!(tree.size().expect("read"), 2);
        // A second one begins empty.
        let files = Tree::new(root.clone()).and_then(|tree| tree.files()).expect("made and read");
        fs::remove_dir_all(root).expect("removed");
        assert_eq!(files, Vec::<PathBuf>::new());
    }
}
