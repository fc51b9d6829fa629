//! The unit, installed as the docs say, but for what a test needs: the balancer's namespace, a log, and time to start.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_tests::servers::sluice_binary;
use sluice_tests::topology::Namespace;

use crate::LIMIT;

const UNIT: &str = include_str!("../../../lb-userspace/systemd/sluice.service");
const SYSUSERS: &str = include_str!("../../../lb-userspace/systemd/sysusers.conf");
const TMPFILES: &str = include_str!("../../../lb-userspace/systemd/tmpfiles.conf");

/// The unit's own: where others compute, an emulated machine may stand still for many seconds.
pub const WATCHDOG: Duration = Duration::from_secs(30);
/// Instead of the unit's own, in seconds: the verifier takes ten times as long in an emulated machine.
const TIME_TO_START: u64 = 300;

const LOG: &str = "/tmp/sluice.log";
const CONFIG: &str = "/etc/sluice/sluice.toml";
const STATE: &str = "/var/lib/sluice";

/// More settings of the unit, as long as it is kept.
pub struct DropIn {
    path: String,
}

impl DropIn {
    pub fn new(name: &str, settings: &str) -> DropIn {
        let path = format!("/etc/systemd/system/sluice.service.d/{name}.conf");
        put(&path, settings);
        systemctl(&["daemon-reload"]);
        DropIn { path }
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = try_systemctl(&["daemon-reload"]);
    }
}

/// The unit runs; stopped, with its data path, at the end. There is one on a machine, so tests take turns.
pub struct Unit {
    _turn: MutexGuard<'static, ()>,
}

impl Unit {
    pub fn start(ns: &Namespace, config: &str) -> Unit {
        static TURN: Mutex<()> = Mutex::new(());
        let unit = Unit { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) };
        let _ = fs::remove_file(LOG);
        put("/etc/systemd/system/sluice.service", UNIT);
        put("/usr/lib/sysusers.d/sluice.conf", SYSUSERS);
        put("/usr/lib/tmpfiles.d/sluice.conf", TMPFILES);
        put(CONFIG, config);
        let drop_in = format!(
            "[Service]\nNetworkNamespacePath=/run/netns/{}\nStandardOutput=append:{LOG}\nStandardError=append:{LOG}\n\
             WatchdogSec={}\nTimeoutStartSec={TIME_TO_START}\n",
            ns.name(),
            WATCHDOG.as_secs()
        );
        put("/etc/systemd/system/sluice.service.d/test.conf", &drop_in);
        let binary = Path::new("/usr/local/bin/sluice");
        if !binary.exists() {
            symlink(sluice_binary().unwrap(), binary).unwrap();
        }
        run(Command::new("systemd-sysusers"));
        systemctl(&["daemon-reload"]);
        let started = try_systemctl(&["start", "sluice"]);
        assert!(started.status.success(), "{started:?}\n{}\n{}", unit.log(), unit.shown());
        unit
    }

    pub fn property(&self, name: &str) -> String {
        let shown = try_systemctl(&["show", "--value", "--property", name, "sluice"]);
        String::from_utf8(shown.stdout).unwrap().trim().to_owned()
    }

    pub fn wait_for(&self, name: &str, value: &str) {
        let began = Instant::now();
        while self.property(name) != value {
            assert!(began.elapsed() < LIMIT, "{name} is {}\n{}", self.property(name), self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The journal of the machine may have a line only a moment after the daemon has gone on.
    pub fn wait_for_log(&self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            assert!(began.elapsed() < LIMIT, "no {text:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn pid(&self) -> u32 {
        self.property("MainPID").parse().unwrap()
    }

    pub fn config(&self) -> String {
        fs::read_to_string(CONFIG).unwrap()
    }

    pub fn write_config(&self, text: &str) {
        put(CONFIG, text);
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.sluice(&["status", "--json"])).unwrap()
    }

    /// What the command prints.
    pub fn sluice(&self, args: &[&str]) -> String {
        let mut command = Command::new("sluice");
        command.args(args);
        String::from_utf8(run(command).stdout).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(LOG).unwrap_or_default()
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&try_systemctl(&["status", "sluice"]).stdout).into_owned()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.shown(), self.log());
        }
        try_systemctl(&["stop", "sluice"]);
        try_systemctl(&["reset-failed", "sluice"]);
        let detached = Command::new("sluice").arg("detach").output();
        if !detached.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("sluice detach: {detached:?}");
        }
        // Drains are kept there.
        let _ = fs::remove_dir_all(STATE);
    }
}

/// The verdict on the unit with all that is installed: the text, and the number, from 0 to 10.
pub fn exposure() -> (String, f64) {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--no-pager", "sluice.service"]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let number =
        text.split("Overall exposure level for sluice.service: ").nth(1).unwrap_or_else(|| panic!("{text}"));
    let number = number.split_whitespace().next().unwrap().parse().unwrap();
    (text, number)
}

pub fn systemctl(arguments: &[&str]) {
    let output = try_systemctl(arguments);
    assert!(
        output.status.success(),
        "systemctl {arguments:?}: {output:?}\n{}",
        fs::read_to_string(LOG).unwrap_or_default()
    );
}

pub fn try_systemctl(arguments: &[&str]) -> Output {
    Command::new("systemctl").args(["--no-pager"]).args(arguments).output().unwrap()
}

/// The user's number.
pub fn uid_of(user: &str) -> u32 {
    nix::unistd::User::from_name(user)
        .unwrap()
        .unwrap_or_else(|| panic!("there is no user {user}"))
        .uid
        .as_raw()
}

fn put(path: &str, content: &str) {
    let path = Path::new(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn run(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}
