//! Folders that are their owner's alone.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::bpffs;

const PRIVATE: u32 = 0o700;

/// Makes a folder that nobody else may look into, those above it as they are wont to be. One that is there, of a version that made it
/// for all to see, is closed too, unless it is another user's.
///
/// # Errors
/// As [`fs::create_dir_all`].
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        bpffs::make_folder(above)?;
    }
    match DirBuilder::new().mode(PRIVATE).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(folder)?.permissions().mode() & 0o7777;
            if mode & 0o077 != 0
                && let Err(error) = fs::set_permissions(folder, Permissions::from_mode(PRIVATE))
            {
                log::warn!("{} stays open to others: {error}", folder.display());
            }
            Ok(())
        }
        // Who removes the last pin of another instance removes the folder above as well.
        Err(error) if error.kind() == io::ErrorKind::NotFound => bpffs::make_folder(folder),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_closed_whether_it_was_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all/instance");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        make_folder(&path).unwrap();
        assert_eq!(mode(&path), PRIVATE);
        assert_ne!(mode(path.parent().unwrap()), PRIVATE, "instances of other users are beside it");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        make_folder(&path).unwrap();
        assert_eq!(mode(&path), PRIVATE);
    }
}
