//! What upgrades the servers of a host when it is asked to, as a package manager would: an agent that lasts when the servers do not.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;

use crate::servers::Nginx;
use crate::site::ECHO;
use crate::topology::Node;
use crate::traffic::EchoServer;

/// A version whose nginx does not start, as its config is broken.
pub const BROKEN: &str = "broken';";

/// A file of a host's folder to which each command says that it has begun, by its id and attempt.
const BEGUN: &str = "begun";

/// How long nginx may take to end by itself: it answers what it has begun to.
const GRACE: Duration = Duration::from_secs(1);
/// What installing a package takes, between the end of the old servers and the start of the new ones.
const INSTALLATION: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(20);

/// Runs nginx and an echo server on a host, and restarts them with the version that its file `wanted` names.
///
/// The file has a version and the id of who asks, in one line. When it is done, or has failed, the file `done` has the id and `ok`, or
/// what failed. An id that it knows it does not do again.
pub struct Agent {
    folder: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    restarts: AtomicU64,
}

impl Agent {
    /// Starts the servers, and an agent whose files are in `folder`.
    pub fn start(folder: &Path, host: &Node, vips: &[IpAddr]) -> Result<Self> {
        fs::create_dir_all(folder).context("cannot make a folder for the agent")?;
        let shared = Arc::new(Shared::default());
        let servers = Servers::start(host, vips, "1")?;
        let work = Work {
            folder: folder.to_owned(),
            host: host.clone(),
            vips: vips.to_vec(),
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new().name("agent".to_owned()).spawn(move || work.run(servers))?;
        Ok(Agent { folder: folder.to_owned(), shared, thread: Some(thread) })
    }

    /// How often the servers were restarted.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// The commands that have begun, each by its id and attempt. The agent itself does no id twice, whoever asks for it.
    pub fn begun(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(BEGUN)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Asks for a version, and waits until it is there.
    pub fn upgrade(&self, version: &str, id: &str) -> Result<()> {
        ask(&self.folder, version, id)?;
        loop {
            match fs::read_to_string(self.folder.join("done")) {
                Ok(text) if text.trim() == format!("{id} ok") => return Ok(()),
                Ok(text) if text.starts_with(&format!("{id} ")) => return Err(anyhow!("{}", text.trim())),
                _ => std::thread::sleep(LOOK),
            }
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return Err(anyhow!("the agent has ended"));
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("agent: {error:#}"),
            Some(Err(_)) => eprintln!("agent: it panicked"),
            _ => {}
        }
    }
}

fn ask(folder: &Path, version: &str, id: &str) -> Result<()> {
    let new = folder.join("wanted.new");
    fs::write(&new, format!("{version} {id}\n")).and_then(|()| fs::rename(&new, folder.join("wanted")))?;
    Ok(())
}

/// The command of a plan that asks the agent of `$SLUICE_HOST` for the version in `$version`, as a shell script.
pub fn command(folders: &Path) -> String {
    let folders = folders.display();
    format!(
        "d={folders}/$SLUICE_HOST
echo \"$SLUICE_STEP_ID $SLUICE_STEP_ATTEMPT\" >>$d/{BEGUN}
echo \"$version $SLUICE_STEP_ID\" >$d/wanted.new && mv $d/wanted.new $d/wanted || exit 1
until grep -q \"^$SLUICE_STEP_ID \" $d/done 2>/dev/null; do sleep 0.05; done
cat $d/done
grep -qx \"$SLUICE_STEP_ID ok\" $d/done"
    )
}

struct Work {
    folder: PathBuf,
    host: Node,
    vips: Vec<IpAddr>,
    shared: Arc<Shared>,
}

impl Work {
    fn run(self, servers: Servers) -> Result<()> {
        let mut servers = Some(servers);
        let mut last = String::new();
        while !self.shared.stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            let Ok(wanted) = fs::read_to_string(self.folder.join("wanted")) else { continue };
            let Some((version, id)) = wanted.trim().rsplit_once(' ') else { continue };
            if wanted == last {
                continue;
            }
            self.shared.restarts.fetch_add(1, Ordering::Relaxed);
            if let Some(servers) = servers.take() {
                servers.end()?;
            }
            std::thread::sleep(INSTALLATION);
            let end = match Servers::start(&self.host, &self.vips, version) {
                Ok(new) => {
                    servers = Some(new);
                    "ok".to_owned()
                }
                Err(error) => format!("{error:#}").replace('\n', " "),
            };
            let done = self.folder.join("done.new");
            fs::write(&done, format!("{id} {end}\n"))
                .and_then(|()| fs::rename(&done, self.folder.join("done")))?;
            last = wanted;
        }
        Ok(())
    }
}

struct Servers {
    nginx: Nginx,
    _echo: EchoServer,
}

impl Servers {
    fn start(host: &Node, vips: &[IpAddr], version: &str) -> Result<Self> {
        let nginx = Nginx::start_version(host, vips, version)?;
        let at: Vec<SocketAddr> = vips.iter().map(|&vip| SocketAddr::new(vip, ECHO)).collect();
        Ok(Servers { nginx, _echo: EchoServer::start(&host.ns, &host.name, &at, 1)? })
    }

    /// As gently as a package manager does it.
    fn end(self) -> Result<()> {
        self.nginx.process().signal(Signal::SIGQUIT)?;
        self.nginx.process().wait(GRACE)?;
        Ok(())
    }
}
