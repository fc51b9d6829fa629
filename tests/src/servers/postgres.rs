//! PostgreSQL on a host, by Debian's programs: a primary, or a standby that streams from one.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use tempfile::TempDir;

use crate::topology::{Node, Process};
use crate::traffic::Session;

/// TCP port of the database.
pub const POSTGRES: u16 = 5432;

/// Where Debian keeps the programs, in a folder for each version; they are not in `PATH`.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The servers refuse to run as root.
const USER: &str = "postgres";

/// How long a server may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Bounds an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Small and quick, whatever else a server is told. Servers are killed here and not their machine: what they wrote is there without `fsync`.
const SETTINGS: &str = "
fsync = off
wal_retrieve_retry_interval = 200ms
wal_keep_size = 32MB
shared_buffers = 4MB
max_connections = 40
autovacuum = off
dynamic_shared_memory_type = mmap
";

/// The namespaces are out of reach for everybody else.
const CLIENTS: &str =
    "local all all trust\nhost all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n";
/// Whom a standby streams as.
const REPLICATOR: &str = "SET synchronous_commit = local; CREATE ROLE replicator LOGIN REPLICATION";

/// A server with its data; killed, and its data removed, when dropped.
#[derive(Debug)]
pub struct Postgres {
    host: Node,
    programs: PathBuf,
    folder: TempDir,
    process: Option<Process>,
}

impl Postgres {
    /// A new and empty primary on `host`, with these settings; its superuser is `postgres`, and `replicator` may stream.
    pub fn primary(host: &Node, settings: &str) -> Result<Self> {
        let mut server = Self::new(host, settings)?;
        let mut command = server.program("initdb");
        command.args(["--no-sync", "--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8"]);
        command.arg("--wal-segsize=1").arg("-D").arg(server.data());
        server.host.ns.run(command)?;
        // Debian has them elsewhere, and so it is here: copies of the data do not bring them along.
        for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
            std::fs::remove_file(server.data().join(file))?;
        }
        server.start()?;
        server.sql(REPLICATOR)?;
        Ok(server)
    }

    /// A copy of the server at `source` that streams from where its settings say.
    pub fn standby(host: &Node, source: Ipv4Addr, settings: &str) -> Result<Self> {
        let mut server = Self::new(host, settings)?;
        let mut command = server.program("pg_basebackup");
        command.args(["--no-sync", "--checkpoint=fast", "--wal-method=stream", "--username=replicator"]);
        command.args(["--port", &POSTGRES.to_string(), "--host", &source.to_string()]);
        command.arg("-D").arg(server.data());
        server.host.ns.run(command)?;
        server.stand_by()?;
        server.start()?;
        Ok(server)
    }

    fn new(host: &Node, settings: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{}-{}-postgres.", host.ns.owner(), host.name))
            .tempdir()
            .context("cannot make a folder for PostgreSQL")?;
        own(folder.path())?;
        let server = Self { host: host.clone(), programs: programs()?, folder, process: None };
        let places = format!(
            "unix_socket_directories = '{at}'\nhba_file = '{at}/pg_hba.conf'\nident_file = '{at}/pg_ident.conf'\n",
            at = server.at().display()
        );
        std::fs::write(server.config(), [SETTINGS, &places, settings].concat())?;
        std::fs::write(server.at().join("pg_hba.conf"), CLIENTS)?;
        std::fs::write(server.at().join("pg_ident.conf"), "")?;
        Ok(server)
    }

    /// Starts it with the data that it has, and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "PostgreSQL on {} runs already", self.host.name);
        let log = File::options().create(true).append(true).open(self.at().join("log"))?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data());
        command.arg("-c").arg(format!("config_file={}", self.config().display()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(self.host.ns.spawn(command)?);
        let begin = Instant::now();
        while let Err(error) = self.sql("SELECT 1") {
            if !self.is_running() || begin.elapsed() > crate::LIMIT {
                bail!("PostgreSQL on {} does not answer ({error:#}):\n{}", self.host.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_running)
    }

    /// Asks the server at the host's own address. One statement only: several would be one transaction.
    pub fn sql(&self, text: &str) -> Result<Vec<Vec<String>>> {
        self.sql_within(PATIENCE, text)
    }

    /// As [`sql`](Self::sql), with another bound.
    pub fn sql_within(&self, patience: Duration, text: &str) -> Result<Vec<Vec<String>>> {
        let target = SocketAddr::new(self.host.ipv4[0].into(), POSTGRES);
        let asked = self.host.ns.enter(|| {
            let mut session = Session::connect(target, patience)?;
            let rows = session.query(text)?;
            session.close();
            Ok::<_, crate::traffic::SqlError>(rows)
        })?;
        asked.with_context(|| format!("{text} on {}", self.host.name))
    }

    /// The only column of the only row.
    pub fn value(&self, text: &str) -> Result<String> {
        let rows = self.sql(text)?;
        match &rows[..] {
            [row] if row.len() == 1 => Ok(row[0].clone()),
            _ => bail!("{text}: {rows:?}"),
        }
    }

    /// It takes no writes, but what the primary sends.
    pub fn is_standby(&self) -> Result<bool> {
        Ok(self.value("SELECT pg_is_in_recovery()")? == "t")
    }

    /// A standby streams from it.
    pub fn is_streamed(&self) -> Result<bool> {
        Ok(self.value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")? == "1")
    }

    /// A standby streams from it, and nothing is acknowledged that this one has not got.
    pub fn is_followed(&self) -> Result<bool> {
        Ok(self.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")? == "1")
    }

    /// Kills all of its processes at once.
    pub fn sigkill(&mut self) -> Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let pid = process.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        process.kill();
        // They are in sessions of their own, and would go by themselves a moment later.
        let children: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        for &child in &children {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        let begin = Instant::now();
        while children.iter().any(|&child| lives(child)) {
            ensure!(begin.elapsed() < END_LIMIT, "PostgreSQL on {} cannot be killed", self.host.name);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until it has ended, whoever asked it to.
    pub fn wait(&mut self) -> Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.wait(END_LIMIT)?.with_context(|| format!("PostgreSQL on {} goes on", self.host.name))?;
        Ok(())
    }

    /// Asks it to end: connections are cut, and nothing is lost (`fast`).
    pub fn stop(&mut self) -> Result<()> {
        if let Some(process) = &self.process {
            process.signal(Signal::SIGINT)?;
        }
        self.wait()
    }

    /// What it has written since it and the primary at `source` parted is taken back; after its end.
    pub fn rewind(&self, source: Ipv4Addr) -> Result<()> {
        let mut command = self.program("pg_rewind");
        command.arg("--no-sync").arg("-D").arg(self.data());
        command.arg(format!("--config-file={}", self.config().display()));
        command.arg(format!("--source-server=host={source} user={USER} dbname=postgres"));
        self.host.ns.run(command).map(drop)
    }

    /// It will be a standby from the next start on.
    pub fn stand_by(&self) -> Result<()> {
        let path = self.data().join("standby.signal");
        File::create(&path).context("cannot make it a standby")?;
        own(&path)
    }

    /// Where it has its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where it has its Unix socket and all else.
    pub fn at(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> PathBuf {
        self.at().join("postgresql.conf")
    }

    /// Where the programs are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The end of what it had to say.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.at().join("log")).unwrap_or_default();
        let lines = log.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// One of the programs, as the user; it ends when this process does. That is told after the change of the user, who would lose it.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--init-groups"]);
        command.args(["--pdeathsig", "QUIT"]).arg(self.programs.join(name)).current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the log of PostgreSQL on {}:\n{}", self.host.name, self.log());
        }
        if let Some(process) = &self.process {
            // At once, but with its children and its shared memory.
            let ended = process.signal(Signal::SIGQUIT).and_then(|()| process.wait(END_LIMIT));
            if !matches!(ended, Ok(Some(_)))
                && let Err(error) = self.sigkill()
            {
                eprintln!("{error:#}");
            }
        }
        if let Some(id) = self.shared_memory() {
            // SAFETY: the call takes no memory; if there is no such segment, it fails.
            unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }
}

impl Postgres {
    /// The System V segment by which a server finds out that another has its data; one that was killed leaves it behind, and the file
    /// that says so.
    fn shared_memory(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        // Key and number.
        text.lines().nth(6)?.split_whitespace().nth(1)?.parse().ok()
    }
}

/// Gives a file to the servers' user.
fn own(path: &Path) -> Result<()> {
    let user = User::from_name(USER)?.context("there is no user postgres: is postgresql installed?")?;
    chown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("cannot give {} away", path.display()))
}

/// The folder of the latest version that is installed.
fn programs() -> Result<PathBuf> {
    let folders = std::fs::read_dir(VERSIONS).context("is postgresql installed?")?;
    let versions = folders.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of = |version: u32| Path::new(VERSIONS).join(version.to_string()).join("bin");
    let latest = versions.filter(|version| of(*version).join("initdb").is_file()).max();
    latest.map(of).context("is postgresql installed? There is no initdb")
}

/// Whether a process is there and no zombie.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z")
}
