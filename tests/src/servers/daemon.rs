//! The balancer's daemon as a process of a test: the program that is shipped, not the library.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::FakeClock;
use crate::topology::{Namespace, Process, Topology};

/// How long the daemon may take until its socket answers: emulated, and beside other builds, the verifier alone took more than a minute.
const START_LIMIT: Duration = Duration::from_secs(300);
/// How long the daemon may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(20);

/// The daemon in the balancer's namespace, under an instance name of its own.
///
/// When it is dropped the daemon is killed and `sluice detach` takes the data path away; on a panic the end of its
/// log is shown.
#[derive(Debug)]
pub struct SluiceDaemon {
    binary: PathBuf,
    ns: Namespace,
    instance: String,
    folder: TempDir,
    process: Option<Process>,
    /// What it takes the time from, and the commands, too.
    clock: Option<FakeClock>,
}

impl SluiceDaemon {
    /// Starts the daemon with the config file's text `config`, as the instance named like the topology, and waits until
    /// it answers.
    pub fn start(topology: &Topology, config: &str) -> Result<Self> {
        Self::start_as(&topology.balancer().ns, topology.prefix(), config)
    }

    /// [`start`](Self::start) by a clock that the caller sets.
    pub fn start_by(clock: FakeClock, topology: &Topology, config: &str) -> Result<Self> {
        Self::start_in(&topology.balancer().ns, topology.prefix(), config, Some(clock))
    }

    /// Starts the daemon in `ns` as `instance`.
    pub fn start_as(ns: &Namespace, instance: &str, config: &str) -> Result<Self> {
        Self::start_in(ns, instance, config, None)
    }

    fn start_in(ns: &Namespace, instance: &str, config: &str, clock: Option<FakeClock>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{}-sluice.", ns.owner()))
            .tempdir()
            .context("cannot make a folder for the daemon")?;
        let (ns, instance) = (ns.clone(), instance.to_owned());
        let mut daemon = Self { binary: sluice_binary()?, ns, instance, folder, process: None, clock };
        daemon.write_config(config)?;
        daemon.start_again()?;
        Ok(daemon)
    }

    /// Starts the daemon again after its end, with the config file as it is now, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        self.start_unawaited()?;
        self.wait_until_it_answers()
    }

    /// [`start_again`](Self::start_again) without waiting for it.
    pub fn start_unawaited(&mut self) -> Result<()> {
        if self.process.as_ref().is_some_and(Process::is_running) {
            bail!("the daemon {} runs already", self.instance);
        }
        let log =
            File::options().create(true).append(true).open(self.log_path()).context("cannot open the log")?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(self.config_path()).args(["--instance", &self.instance]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.show_clock_to(&mut command);
        self.process = Some(self.ns.spawn(command)?);
        Ok(())
    }

    /// Another program from the next start on, also for [`cli`](Self::cli).
    pub fn use_binary(&mut self, binary: &Path) {
        self.binary = binary.to_owned();
    }

    /// Replaces the config file; the daemon reads it when it is told to, or started again.
    pub fn write_config(&self, config: &str) -> Result<()> {
        std::fs::write(self.config_path(), config).context("cannot write the config file")
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("sluice.toml")
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn socket(&self) -> PathBuf {
        Path::new("/run/sluice").join(format!("{}.sock", self.instance))
    }

    /// The running daemon, if it has been started and not ended by this value.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// All that the daemon wrote since the first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs `sluice ARGS --instance NAME` in the balancer's namespace to its end, whatever its exit status.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        self.ns.output(self.cli_command(args))
    }

    /// Starts `sluice ARGS --instance NAME` in the balancer's namespace, with pipes for what it writes.
    pub fn cli_start(&self, args: &[&str]) -> Result<Process> {
        let mut command = self.cli_command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.ns.spawn(command)
    }

    /// Standard output of [`cli`](Self::cli); fails unless the exit status is 0.
    pub fn cli_ok(&self, args: &[&str]) -> Result<String> {
        self.ns.run(self.cli_command(args))
    }

    /// [`cli_ok`](Self::cli_ok), read as JSON.
    pub fn cli_json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let text = self.cli_ok(args)?;
        serde_json::from_str(&text).with_context(|| format!("sluice {args:?} printed no JSON: {text}"))
    }

    /// Kills the daemon as a crash would; what it has in the kernel stays.
    pub fn sigkill(&mut self) {
        if let Some(process) = self.process.take() {
            let pid = process.pid();
            process.kill();
            if let Some(clock) = &self.clock {
                clock.tidy(pid);
            }
        }
    }

    /// Asks the daemon to end (SIGTERM) and waits for it, at most 20 s.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let process =
            self.process.take().with_context(|| format!("the daemon {} does not run", self.instance))?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(END_LIMIT)?;
        status.with_context(|| {
            format!("the daemon did not end within {END_LIMIT:?} of SIGTERM: {}", self.log_end())
        })
    }

    fn cli_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).args(["--instance", &self.instance]);
        self.show_clock_to(&mut command);
        command
    }

    fn show_clock_to(&self, command: &mut Command) {
        if let Some(clock) = &self.clock {
            clock.show_to(command);
        }
    }

    /// The clock that it was started by.
    pub fn clock(&self) -> Option<&FakeClock> {
        self.clock.as_ref()
    }

    /// The program that runs, and that [`cli`](Self::cli) runs.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("daemon.txt")
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines = log.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn wait_until_it_answers(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let problem = match self.ask_for_status() {
                Ok(line) if line.contains(" 200 ") => {
                    if let (Some(clock), Some(process)) = (&self.clock, &self.process) {
                        clock.tidy(process.pid());
                    }
                    return Ok(());
                }
                Ok(line) => format!("it answers {line:?}"),
                Err(error) => format!("{}: {error}", self.socket().display()),
            };
            if !self.process.as_ref().is_some_and(Process::is_running) {
                bail!("the daemon ended before it answered:\n{}", self.log_end());
            }
            if begin.elapsed() > START_LIMIT {
                bail!("the daemon is not ready after {START_LIMIT:?}, {problem}:\n{}", self.log_end());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The first line of the answer to `GET /v1/status`.
    fn ask_for_status(&self) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: sluice\r\nconnection: close\r\n\r\n")?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer)?;
        let text = String::from_utf8_lossy(&answer[..length]);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

impl Drop for SluiceDaemon {
    fn drop(&mut self) {
        self.sigkill();
        if std::thread::panicking() {
            eprintln!("the end of the log of the daemon {}:\n{}", self.instance, self.log_end());
        }
        match self.cli(&["detach"]) {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                eprintln!("sluice detach {}: {}", self.instance, String::from_utf8_lossy(&output.stderr));
            }
            Err(error) => eprintln!("sluice detach {}: {error:#}", self.instance),
        }
        // The journal stays by design; a test's is of no use to anybody.
        for end in ["db", "db-wal", "db-shm", "lock", "token"] {
            let path = Path::new("/var/lib/sluice").join(format!("{}.{end}", self.instance));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    eprintln!("{}: {error}", path.display());
                }
                _ => {}
            }
        }
        // Of a run that was under way.
        let _ =
            std::fs::remove_dir_all(Path::new("/var/lib/sluice").join(format!("{}.steps", self.instance)));
    }
}

/// The `sluice` program: `$SLUICE_BIN`, else the one that was built beside the running executable, of the same profile
/// first.
pub fn sluice_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SLUICE_BIN") {
        let path = PathBuf::from(path);
        return path.canonicalize().with_context(|| format!("SLUICE_BIN names {}", path.display()));
    }
    built("sluice")
        .context("there is no sluice program beside this one: build it (cargo build -p lb-userspace) or set SLUICE_BIN")
}

/// The program with another layout of the maps: the file that `SLUICE_NEXT_BIN` names, or the one that lies beside
/// [`sluice_binary`].
pub fn next_sluice_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SLUICE_NEXT_BIN") {
        let path = PathBuf::from(path);
        return path.canonicalize().with_context(|| format!("SLUICE_NEXT_BIN names {}", path.display()));
    }
    let beside = sluice_binary()?.with_file_name("sluice-next");
    if beside.is_file() {
        return Ok(beside);
    }
    built("sluice-next").context(
        "there is no program with another layout: build it (cargo build -p lb-userspace --features layout-next --bin \
         sluice-next) or set SLUICE_NEXT_BIN",
    )
}

/// A program among what cargo has built.
fn built(name: &str) -> Result<PathBuf> {
    let executable = std::env::current_exe().context("cannot tell where this program is")?;
    let mut candidates = Vec::new();
    // target/debug/deps/test-… and target/debug/program
    for folder in executable.ancestors().skip(1).take(2) {
        candidates.push(folder.join(name));
    }
    if let Some(target) = executable.ancestors().find(|folder| folder.ends_with("target")) {
        candidates.extend(["debug", "release"].map(|profile| target.join(profile).join(name)));
    }
    let found = candidates.into_iter().find(|path| path.is_file());
    found.with_context(|| format!("no {name} has been built"))
}
