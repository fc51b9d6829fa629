//! The BPF file system, in which links and maps outlive the process that made them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::getppid;
use thiserror::Error;

/// Where the kernel's documentation and every tool expect it.
pub const DEFAULT_PATH: &str = "/sys/fs/bpf";

#[derive(Debug, Error)]
pub enum BpffsError {
    #[error("cannot look at {}: does the path exist?", path.display())]
    Look { path: PathBuf, source: Errno },
    /// Pins in a mount that no other process sees would go, and the programs with them, when this process ends.
    #[error(
        "no BPF file system is mounted at {path} in this mount namespace, and one mounted here would vanish with it: \
         enter only the network namespace (`nsenter --net=/run/netns/NAME sluice ...`, as `ip netns exec` hides the \
         mount), or, if this mount namespace is to stay, run `mount -t bpf bpf {path}`",
        path = path.display()
    )]
    PrivateNamespace { path: PathBuf },
    #[error(
        "no BPF file system is mounted at {path}, and mounting one failed: as root, run `mount -t bpf bpf {path}`",
        path = path.display()
    )]
    Mount { path: PathBuf, source: Errno },
}

/// Makes a folder with all above it. Who removes another instance's pins removes the folders above that are empty then, and
/// may do so in this very moment: then it is tried again.
///
/// # Errors
/// As [`fs::create_dir_all`].
pub fn make_folder(folder: &Path) -> io::Result<()> {
    const TRIES: usize = 100;
    for _ in 1..TRIES {
        match fs::create_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made,
        }
    }
    fs::create_dir_all(folder)
}

/// Mounts a BPF file system at `path` if none is there; says whether it did.
///
/// # Errors
/// The path does not exist; CAP_SYS_ADMIN is missing; or the mount would not outlive the process, because the process
/// is in a mount namespace of its own.
pub fn ensure_mounted(path: &Path) -> Result<bool, BpffsError> {
    if is_bpffs(path)? {
        return Ok(false);
    }
    if in_private_mount_namespace() {
        return Err(BpffsError::PrivateNamespace { path: path.to_owned() });
    }
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), Some("mode=0755"))
        .map_err(|source| BpffsError::Mount { path: path.to_owned(), source })?;
    Ok(true)
}

/// Whether `path` lies in a BPF file system.
///
/// # Errors
/// The path does not exist or may not be reached.
pub fn is_bpffs(path: &Path) -> Result<bool, BpffsError> {
    let stat = statfs(path).map_err(|source| BpffsError::Look { path: path.to_owned(), source })?;
    Ok(stat.filesystem_type() == BPF_FS_MAGIC)
}

/// Another mount namespace than the first process's or the parent's. Who may see neither is taken to be in theirs: the
/// first process may be hidden from root too.
fn in_private_mount_namespace() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    let Ok(own) = namespace("thread-self") else {
        return false;
    };
    ["1", &getppid().to_string()]
        .into_iter()
        .any(|process| namespace(process).is_ok_and(|other| other != own))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use caps::{CapSet, Capability};
    use nix::mount::{MntFlags, umount2};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Unmounts at the end, whatever happened.
    struct Mounted(PathBuf);

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        }
    }

    /// These tests mount; without the right to, there is nothing to see.
    fn is_admin() -> bool {
        let admin = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false);
        if !admin {
            eprintln!("skipped: needs CAP_SYS_ADMIN");
        }
        admin
    }

    #[test]
    fn mounts_where_nothing_is_and_leaves_alone_what_is() {
        if !is_admin() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mounted = Mounted(folder.path().to_owned());
        assert!(!is_bpffs(folder.path()).unwrap());
        assert!(ensure_mounted(folder.path()).unwrap());
        assert!(is_bpffs(folder.path()).unwrap());
        assert!(!ensure_mounted(folder.path()).unwrap());
        drop(mounted);
        assert!(!is_bpffs(folder.path()).unwrap());
    }

    #[test]
    fn says_the_mount_command_to_who_may_not_mount() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        // Capabilities belong to the thread.
        let result = thread::spawn(move || {
            caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
            ensure_mounted(&path)
        });
        let error = result.join().unwrap().unwrap_err();
        assert!(matches!(error, BpffsError::Mount { source: Errno::EPERM, .. }), "{error:?}");
        let command = format!("`mount -t bpf bpf {}`", folder.path().display());
        assert!(error.to_string().contains(&command), "{error}");
    }

    #[test]
    fn mounts_nothing_that_would_vanish_with_the_process() {
        if !is_admin() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let result = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            ensure_mounted(&path)
        });
        let error = result.join().unwrap().unwrap_err();
        assert!(matches!(error, BpffsError::PrivateNamespace { .. }), "{error:?}");
        assert!(error.to_string().contains("nsenter --net="), "{error}");
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = ensure_mounted(Path::new("/nowhere/bpf")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/bpf"), "{error}");
    }
}
