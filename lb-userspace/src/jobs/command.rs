//! A command that does not end with the daemon.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{fs, str};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Who runs it: the shell's `/proc/PID/stat`.
const BEGUN: &str = "begun";

/// `$1` is the folder, `$2` the command. The status is there when the command has ended and its output was read; for what it left in the
/// background that is waited for a second, and read on, so that it does not fail. The status has its room on the disk before the command begins, so that
/// a command that fills the disk is not begun again. `dd` writes what it reads at once, and not more than 256 KiB.
const SHELL: &str = r#"
cd / || exit
cat /proc/$$/stat >"$1/begun.new" && mv "$1/begun.new" "$1/begun" || exit
echo 999 >"$1/status.new" || exit
{
    /bin/sh -c "$2"
    printf '%03d\n' $? 1<>"$1/status.new"
    exec >/dev/null 2>&1
    n=0
    until [ -e "$1/read" ] || [ $n -ge 20 ]; do
        sleep 0.05
        n=$((n + 1))
    done
    mv "$1/status.new" "$1/status"
} 2>&1 | {
    dd bs=4096 count=64 status=none of="$1/output"
    cat >/dev/null
    : >"$1/read"
}
"#;

pub(super) fn begin(place: &Path, command: &str, environment: &[(String, String)]) -> io::Result<Child> {
    for name in [BEGUN, "read", super::STATUS, super::OUTPUT_FILE] {
        match fs::remove_file(place.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(SHELL).arg("sh").arg(place).arg(command);
    // What the daemon was started with may have such names, too.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SLUICE_") {
            shell.env_remove(name);
        }
    }
    shell.envs(environment.iter().map(|(name, value)| (name, value)));
    // A group of its own, so that it can be ended as a whole, and a signal to the daemon's does not reach it.
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
}

/// Whether the shell that is to run it has said so.
pub(super) fn has_begun(place: &Path) -> bool {
    place.join(BEGUN).exists()
}

/// Whether the shell that began it is still there.
pub(super) fn runs(place: &Path) -> bool {
    group(place).is_some()
}

/// Kills it with all of its group; whether it was there.
pub(super) fn kill(place: &Path) -> bool {
    let Some(group) = group(place) else { return false };
    // It has ended by itself in this very moment.
    let _ = killpg(group, Signal::SIGKILL);
    true
}

/// Its process group, if the leader lives. A number that was given to another process meanwhile has another start.
fn group(place: &Path) -> Option<Pid> {
    let begun = fs::read(place.join(BEGUN)).ok()?;
    let (pid, _, start) = fields(&begun)?;
    let now = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let (_, state, started) = fields(&now)?;
    (started == start && state != "Z" && state != "X").then(|| Pid::from_raw(pid))
}

/// Number, state and start of a process, of `/proc/PID/stat` (proc(5)). Its name may have spaces and brackets in it.
fn fields(stat: &[u8]) -> Option<(i32, &str, &str)> {
    let stat = str::from_utf8(stat).ok()?;
    let pid = stat.split(' ').next()?.parse().ok()?;
    let mut rest = stat.rsplit_once(") ")?.1.split(' ');
    let state = rest.next()?;
    // Field 22; the state is field 3.
    Some((pid, state, rest.nth(18)?))
}
