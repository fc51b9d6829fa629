//! The machine that the package is installed on: what is on it, and commands as an operator would type them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::LIMIT;

/// Folders in which dpkg, apt and systemd keep books of their own, and those that are no disk.
const OTHERS: [&str; 14] = [
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/tmp",
    "/shared",
    "/root",
    "/etc/.pwd.lock",
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/lib/systemd",
    "/var/log",
    "/var/cache",
    "/var/tmp",
];
/// What programs of Debian that change users leave beside each file.
const BACKUPS: [&str; 8] = [
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
    "/etc/subuid",
    "/etc/subgid",
];

/// Runs a line of shell, shows what it says, and returns that and the status.
pub fn try_shell(line: &str) -> (i32, String) {
    println!("# {line}");
    let output = Command::new("sh").args(["-c", &format!("exec 2>&1; {line}")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().for_each(|line| println!("    {line}"));
    (output.status.code().unwrap_or(-1), said)
}

/// As [`try_shell`]; the status must be 0.
pub fn shell(line: &str) -> String {
    let (status, said) = try_shell(line);
    assert_eq!(status, 0, "{line}: {said}\n{}", journal());
    said
}

/// Without showing anything.
pub fn output(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

/// What the program says as JSON.
pub fn sluice(args: &[&str]) -> Value {
    let output = output("sluice", args);
    assert!(output.status.success(), "sluice {args:?}: {output:?}\n{}", journal());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("sluice {args:?}: {error}: {output:?}"))
}

/// Of the unit.
pub fn property(name: &str) -> String {
    let shown = output("systemctl", &["show", "--value", "--property", name, "sluice"]);
    String::from_utf8(shown.stdout).unwrap().trim().to_owned()
}

/// The end of what the daemon has logged.
pub fn journal() -> String {
    let shown = output("journalctl", &["--no-pager", "-u", "sluice", "-n", "40", "-o", "cat"]);
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what}\n{}", journal());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether an XDP program is attached to an interface of this machine.
pub fn has_xdp(interface: &str) -> bool {
    let shown = output("ip", &["link", "show", "dev", interface]);
    String::from_utf8_lossy(&shown.stdout).contains("prog/xdp")
}

/// Names of the pins below `/sys/fs/bpf/sluice`.
pub fn pins() -> usize {
    fs::read_dir("/sys/fs/bpf/sluice").map_or(0, Iterator::count)
}

/// All that a package could have left: files, users, groups, pins.
#[derive(Debug, PartialEq, Eq)]
pub struct Stock(BTreeSet<String>);

impl Stock {
    pub fn take() -> Stock {
        let mut found = BTreeSet::new();
        walk(Path::new("/"), &mut found);
        for file in ["passwd", "group"] {
            let text = fs::read_to_string(format!("/etc/{file}")).unwrap();
            found.extend(text.lines().map(|line| format!("{file}: {line}")));
        }
        for path in ["/run/sluice", "/sys/fs/bpf/sluice"] {
            if Path::new(path).exists() {
                found.insert(path.to_owned());
            }
        }
        Stock(found)
    }

    /// What is there now and was not before.
    pub fn more(&self, before: &Stock) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn walk(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.display().to_string();
        if OTHERS.contains(&name.as_str()) || BACKUPS.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, found);
        }
        found.insert(name);
    }
}
