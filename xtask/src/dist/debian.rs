//! A Debian 12 with systemd, to install packages on: a folder of files, made once, and booted with all that is written going to memory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::Cmd;
use crate::tools_folder::{self, ToolsFolder};
use crate::vm::boot;
use crate::workspace::Workspace;

/// Name of its folder; to be changed with what is in it.
const FOLDER: &str = "debian12-systemd-1";
/// What is in it beside what Debian has everywhere: systemd, what the suite makes networks with, and what shows manual and completions.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,ethtool,procps,man-db,bash-completion";
const SOURCES: [&str; 2] = [
    "deb http://deb.debian.org/debian bookworm main",
    "deb http://deb.debian.org/debian-security bookworm-security main",
];
/// Where a folder of this machine is seen in there.
pub const SHARED: &str = "/shared";
/// What boots it, as people call it.
pub const NAME: &str = "Debian 12 with systemd";

/// The one in a tools folder, if there is one.
pub fn find(workspace: &Workspace) -> Option<PathBuf> {
    tools_folder::all(workspace)
        .map(|tools| tools.join(FOLDER))
        .find(|root| root.join("usr/lib/systemd/systemd").is_file())
}

/// Makes it. Some 200 MB come from Debian's archive; needs root.
///
/// # Errors
/// When mmdebstrap fails.
pub fn install(workspace: &Workspace) -> Result<()> {
    let tools = ToolsFolder::lock(workspace)?;
    if find(workspace).is_some() {
        return Ok(());
    }
    tools.install(FOLDER, |folder| {
        Cmd::new("mmdebstrap")
            .args([
                "--variant=minbase",
                "--mode=root",
                "--aptopt=Acquire::Languages \"none\"",
                "--skip=check/empty",
            ])
            .arg(format!("--include={PACKAGES}"))
            .arg("bookworm")
            .arg(folder)
            .args(SOURCES)
            .run()
    })
}

/// Runs a script as a service of a machine that has booted to its usual end, as root; the status that the script tells with
/// [`boot::ENDED`].
///
/// The machine has processes, mounts, and a network of its own, without any interface but the loopback; the kernel is this machine's. Nothing
/// that is written in it stays. `shared`: a folder of this machine, which it sees at [`SHARED`] and cannot write.
pub struct Machine<'a> {
    pub root: &'a Path,
    pub shared: &'a Path,
}

impl Machine<'_> {
    /// A command that boots it, with its console on standard output. It ends with the process that started it.
    pub fn command(&self, script: &str) -> Result<Cmd> {
        let unit = self.shared.join("suite.service");
        fs::write(&unit, suite(script)).with_context(|| format!("cannot write {}", unit.display()))?;
        let bind = |from: &Path, to: &str| format!("--bind-ro={}:{to}", from.display());
        let nspawn = |more: &[&str]| {
            Cmd::new("systemd-nspawn")
                .args(["--quiet", "--private-network", "--capability=all", "--volatile=overlay"])
                // Its own filter is by lists of calls, and bpf(2) is in none.
                .arg("--system-call-filter=bpf")
                .args(more)
                .args(["--boot", "--directory"])
                .arg(self.root)
                .arg(bind(self.shared, SHARED))
                .arg(bind(&unit, "/etc/systemd/system/suite.service"))
                .args(["systemd.unit=suite.service", "systemd.show_status=no", "systemd.log_level=warning"])
                .line()
        };
        // Without systemd on this machine there is nobody to ask for a scope, so it gets control groups here.
        let own = format!(
            "export SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes\n\
             if [ -d /run/systemd/system ]; then exec {}; fi\n\
             for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do\n\
             if [ -d $tree ]; then mkdir -p $tree/{GROUP}; echo $$ > $tree/{GROUP}/cgroup.procs; fi\n\
             done\n\
             exec {}",
            nspawn(&[]),
            nspawn(&["--register=no", "--keep-unit"]),
        );
        // It wants a terminal for a console.
        let line = Cmd::new("sh").args(["-c", &own]).line();
        Ok(Cmd::new("setpriv").args([
            "--pdeathsig",
            "KILL",
            "script",
            "--quiet",
            "--return",
            "--command",
            &line,
            "/dev/null",
        ]))
    }
}

/// Removes the control groups of a machine that has ended.
pub fn tidy() {
    for tree in ["systemd", "unified"] {
        let group = Path::new("/sys/fs/cgroup").join(tree).join(GROUP);
        if group.is_dir() {
            // Of those that are still in use the kernel keeps what it needs.
            Cmd::new("find")
                .arg(&group)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                .succeeds();
        }
    }
}

/// Control group of the machine where there is no systemd to make one.
const GROUP: &str = "sluice-dist";

/// The service that runs the script, and has the console for itself. In a container nobody mounts the BPF file system, which systemd does on a machine.
fn suite(script: &str) -> String {
    format!(
        "[Unit]\nDescription=What is tried on this machine\nWants=multi-user.target\nAfter=multi-user.target\n\
         Conflicts=console-getty.service\n\
         [Service]\nType=oneshot\nTimeoutStartSec=infinity\n\
         ExecStartPre=/bin/sh -c 'mkdir -p /sys/fs/bpf && mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf /sys/fs/bpf'\n\
         ExecStart=/bin/sh -c 'echo; echo {}; {SHARED}/{script}; echo {} $$?'\n\
         ExecStopPost=systemctl poweroff --no-block\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n",
        boot::BEGUN,
        boot::ENDED,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_tells_when_the_script_begins_and_how_it_ends() {
        let unit = suite("run");
        let start =
            unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("it starts something");
        // systemd writes `$$` for a dollar sign.
        let script = start.trim_start_matches("/bin/sh -c '").trim_end_matches('\'').replace("$$", "$");
        let said =
            Cmd::new("sh").args(["-c", &script.replace("/shared/run", "false")]).output().expect("it runs");
        assert_eq!(said, format!("\n{}\n{} 1\n", boot::BEGUN, boot::ENDED));
    }
}
