//! The BPF file system, which holds the pins of maps, programs and links.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::Cmd;

pub const PATH: &str = "/sys/fs/bpf";

/// Whether it is mounted in this process's mount namespace.
pub fn is_mounted() -> bool {
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|text| mounts_bpf(&text))
}

pub fn mount_command() -> Cmd {
    Cmd::new("mount").args(["-t", "bpf", "bpf", PATH])
}

/// # Errors
/// When the kernel has no BPF file system, or forbids mounting, as in a container without the right to.
pub fn mount() -> Result<()> {
    if !Path::new(PATH).is_dir() {
        bail!("{PATH} does not exist: mount sysfs at /sys, and take a kernel with CONFIG_BPF_SYSCALL");
    }
    mount_command().run().context(
        "bpffs cannot be mounted: in a container, start it privileged, or bind the host's bpffs to it",
    )
}

/// Reads `proc_pid_mountinfo(5)`: the mount point is the fifth field, the type the first after a lone dash. The
/// last mount at a point hides the ones before.
fn mounts_bpf(mountinfo: &str) -> bool {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            (before.split(' ').nth(4)? == PATH).then(|| after.starts_with("bpf "))
        })
        .next_back()
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::mounts_bpf;

    const SYSFS: &str = "22 1 0:20 / /sys rw,nosuid - sysfs sysfs rw\n";
    const BPF: &str = "30 22 0:28 / /sys/fs/bpf rw,relatime shared:9 - bpf bpf rw,mode=700\n";
    const TMPFS: &str = "31 30 0:29 / /sys/fs/bpf rw,relatime - tmpfs none rw\n";

    #[test]
    fn the_topmost_mount_at_the_path_counts() {
        assert!(mounts_bpf(&format!("{SYSFS}{BPF}")));
        assert!(!mounts_bpf(SYSFS));
        assert!(!mounts_bpf(&format!("{SYSFS}{BPF}{TMPFS}")));
        assert!(mounts_bpf(&format!("{TMPFS}{BPF}")));
    }

    #[test]
    fn a_mount_elsewhere_does_not_count() {
        assert!(!mounts_bpf("30 22 0:28 / /run/bpf rw - bpf bpf rw\n"));
    }
}
