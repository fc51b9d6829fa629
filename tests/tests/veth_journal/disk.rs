//! File systems for a journal that a test can fill or break.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluice_tests::topology::Topology;
use tempfile::TempDir;

/// Mounted until it is dropped; the journal of an instance lies in it, by a symbolic link at its usual place.
pub struct Disk {
    folder: TempDir,
    link: PathBuf,
}

impl Disk {
    /// A tmpfs of so many KiB.
    pub fn small(topology: &Topology, kib: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path().join("mount");
        std::fs::create_dir(&mount).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "none"]).arg(&mount));
        Self::with_journal(topology, folder)
    }

    /// An ext4 that becomes read-only with its first error.
    pub fn that_may_break(topology: &Topology) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (image, mount) = (folder.path().join("image"), folder.path().join("mount"));
        std::fs::create_dir(&mount).unwrap();
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(&mount));
        Self::with_journal(topology, folder)
    }

    fn with_journal(topology: &Topology, folder: TempDir) -> Self {
        let journal = folder.path().join("mount/journal.db");
        std::fs::File::create(&journal).unwrap();
        std::fs::create_dir_all("/var/lib/sluice").unwrap();
        let link = Path::new("/var/lib/sluice").join(format!("{}.db", topology.prefix()));
        std::os::unix::fs::symlink(&journal, &link).unwrap();
        Disk { folder, link }
    }

    pub fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// Until not a byte is left.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.mount().join("filler")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.mount().join("filler")).unwrap();
    }

    /// The kernel finds an error in the file system.
    pub fn break_down(&self) {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = self.mount();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == mount.to_str()).unwrap();
        let device = line.split(' ').next().unwrap().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.link);
        // A daemon that is about to end may still have the journal open.
        let _ = Command::new("umount").arg("-l").arg(self.mount()).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
