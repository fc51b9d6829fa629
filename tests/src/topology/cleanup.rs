//! Removal of topologies, of this process and of dead ones, and the search for what should have been removed.
//!
//! Whose something is says its name: `sluice-<pid>-<n>-…`, or `sluice-<label>-<pid>-<n>-…`, for namespaces, the same
//! prefix for pins and sockets of an instance, and the [`OWNER_VARIABLE`] in the environment of processes.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, Once};

use super::namespace::FOLDER;
use super::process::OWNER_VARIABLE;

/// Words that a topology's names can have before the number of its process; see
/// [`Builder::label`](super::Builder::label). A closed list, so that nobody's own instance is taken for a topology.
pub(super) const LABELS: [&str; 1] = ["demo"];

/// Folders where an instance of the balancer, or a server of a topology, leaves things under its own name.
fn instance_folders() -> [PathBuf; 6] {
    let fixed = ["/sys/fs/bpf", "/sys/fs/bpf/sluice", "/run/sluice", "/var/lib/sluice", "/run/lock/sluice"];
    let [a, b, c, d, e] = fixed.map(PathBuf::from);
    [a, b, c, d, e, std::env::temp_dir()]
}

/// Prefixes of the topologies of this process that are in use.
static ALIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn alive() -> MutexGuard<'static, BTreeSet<String>> {
    ALIVE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub(super) fn remember(prefix: &str) {
    alive().insert(prefix.to_owned());
}

pub(super) fn forget(prefix: &str) {
    alive().remove(prefix);
}

/// What topologies of this process left behind that are no longer in use; empty when all is well.
///
/// One line each: a namespace, a process, or a pin, socket or file of an instance named after a topology.
pub fn leftovers() -> Vec<String> {
    let alive = alive().clone();
    find(|prefix| maker(prefix) == Some(std::process::id()) && !alive.contains(prefix))
}

/// What the topology with this [`prefix`](super::Topology::prefix) has, in use or not.
pub fn leftovers_of(prefix: &str) -> Vec<String> {
    find(|found| found == prefix)
}

fn find(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let owned = |name: &str| owner(name).is_some_and(|prefix| wanted(&prefix));
    let mut found: Vec<String> = Vec::new();
    found.extend(names(FOLDER).filter(|name| owned(name)).map(|name| format!("namespace {name}")));
    for (pid, prefix) in marked_processes().filter(|(_, prefix)| wanted(prefix)) {
        found.push(format!("process {pid} of {prefix}"));
    }
    for folder in instance_folders() {
        let files = names(&folder).filter(|name| owned(name));
        found.extend(files.map(|name| format!("file {}", folder.join(name).display())));
    }
    found
}

/// Removes what dead processes left: kills the processes, removes the namespaces, sockets and pins of topologies whose
/// process is gone.
pub fn remove_stale() {
    let dead = |prefix: &str| maker(prefix).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
    prefixes().iter().filter(|prefix| dead(prefix)).for_each(|prefix| remove_all(prefix));
}

/// Removes all that topologies with this [`label`](super::Builder::label) have, whoever made them and whether in use or
/// not, and says what it was, as [`leftovers`] does.
pub fn remove_labelled(label: &str) -> Vec<String> {
    let begin = format!("sluice-{label}-");
    let labelled = |prefix: &str| LABELS.contains(&label) && prefix.starts_with(&begin);
    let found = find(labelled);
    prefixes().iter().filter(|prefix| labelled(prefix)).for_each(|prefix| remove_all(prefix));
    found
}

/// Removes all that the topology with this prefix has: processes, namespaces, pins, sockets and files.
pub fn remove_all(prefix: &str) {
    remove(prefix);
    for folder in instance_folders() {
        for name in names(&folder).filter(|name| owner(name).as_deref() == Some(prefix)) {
            remove_path(&folder.join(name));
        }
    }
}

/// Of all topologies of which anything is there.
fn prefixes() -> BTreeSet<String> {
    let mut prefixes = names(FOLDER).filter_map(|name| owner(&name)).collect::<BTreeSet<_>>();
    prefixes.extend(instance_folders().iter().flat_map(names).filter_map(|name| owner(&name)));
    prefixes.extend(marked_processes().map(|(_, prefix)| prefix));
    prefixes
}

pub(super) fn remove_stale_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(remove_stale);
}

/// Kills the processes of a topology, which includes all that run in its namespaces, then removes the namespaces.
pub(super) fn remove(prefix: &str) {
    let namespaces = names(FOLDER).filter(|name| owner(name).as_deref() == Some(prefix)).collect::<Vec<_>>();
    kill_all(prefix, &namespaces);
    if namespaces.is_empty() {
        return;
    }
    let lines = namespaces.iter().map(|name| format!("netns del {name}\n")).collect::<String>();
    let child = Command::new("ip")
        .args(["-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    if let Ok(mut child) = child {
        if let Some(mut stdin) = child.stdin.take() {
            let _ = std::io::Write::write_all(&mut stdin, lines.as_bytes());
        }
        let _ = child.wait();
    }
}

/// A process can be marked and elsewhere, or have lost its mark and be inside; never is it this process.
fn kill_all(prefix: &str, namespaces: &[String]) {
    let inodes =
        namespaces.iter().filter_map(|name| identity(&Path::new(FOLDER).join(name))).collect::<Vec<_>>();
    let marked =
        marked_processes().filter(|(_, owner)| owner == prefix).map(|(pid, _)| pid).collect::<Vec<_>>();
    for pid in pids() {
        let inside =
            || identity(&PathBuf::from(format!("/proc/{pid}/ns/net"))).is_some_and(|id| inodes.contains(&id));
        if pid != std::process::id() as i32 && (marked.contains(&pid) || inside()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Device and inode, which name a namespace.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

fn remove_path(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Names of the entries of a folder; none when there is no such folder.
fn names<P: AsRef<Path> + ?Sized>(folder: &P) -> impl Iterator<Item = String> + use<P> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn pids() -> impl Iterator<Item = i32> {
    names("/proc").filter_map(|name| name.parse().ok())
}

/// Processes with the mark of a topology, and its prefix. This process itself may have been started with a mark.
fn marked_processes() -> impl Iterator<Item = (i32, String)> {
    let mark = format!("{OWNER_VARIABLE}=");
    pids().filter(|&pid| pid != std::process::id() as i32).filter_map(move |pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let value =
            environment.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(mark.as_bytes()))?;
        owner(std::str::from_utf8(value).ok()?).map(|prefix| (pid, prefix))
    })
}

/// The prefix `sluice-<pid>-<n>`, with or without a label, that `name` begins with, if the rest is empty or begins with
/// `-` or `.`.
fn owner(name: &str) -> Option<String> {
    let rest = name.strip_prefix("sluice-")?;
    let rest = LABELS.iter().find_map(|label| rest.strip_prefix(label)?.strip_prefix('-')).unwrap_or(rest);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let pid = digits(rest);
    let number = digits(rest.get(pid..)?.strip_prefix('-')?);
    let length = name.len() - rest.len() + pid + 1 + number;
    let fits = pid > 0 && number > 0 && matches!(name.as_bytes().get(length), None | Some(b'-' | b'.'));
    fits.then(|| name[..length].to_owned())
}

/// The process that made the topology with this prefix.
fn maker(prefix: &str) -> Option<u32> {
    prefix.rsplit('-').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_topology() {
        assert_eq!(owner("sluice-12-3-lb").as_deref(), Some("sluice-12-3"));
        assert_eq!(owner("sluice-12-3").as_deref(), Some("sluice-12-3"));
        assert_eq!(owner("sluice-12-3.sock").as_deref(), Some("sluice-12-3"));
        assert_eq!(maker("sluice-12-3"), Some(12));
        assert_eq!(owner("sluice-demo-12-3-lb").as_deref(), Some("sluice-demo-12-3"));
        assert_eq!(owner("sluice-demo-12-3.db-wal").as_deref(), Some("sluice-demo-12-3"));
        assert_eq!(maker("sluice-demo-12-3"), Some(12));
        for other in
            ["sluice", "sluice-12", "sluice-12-", "sluice--3", "sluice-12-3x", "sluice-web-3-lb", "x-1-2"]
        {
            assert_eq!(owner(other), None, "{other}");
        }
        for other in
            ["sluice-web-12-3", "sluice-demo", "sluice-demo-12", "sluice-demo12-3", "sluice-demo--12-3"]
        {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
