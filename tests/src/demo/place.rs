//! `/run/sluice-demo`: who runs a demo on this machine, so that there is one at a time and it can be found.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

const FOLDER: &str = "/run/sluice-demo";
/// Where the balancer keeps what belongs to an instance; removed at the end if the demo was the first to want them, and
/// nobody else uses them.
const SHARED: [&str; 3] = ["/run/sluice", "/var/lib/sluice", "/sys/fs/bpf/sluice"];

/// What others can read about the demo that runs or is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    pub pid: u32,
    /// Instance of the balancer, and prefix of all names.
    pub instance: Option<String>,
    /// Exit status of a demo that has ended and is kept.
    pub kept: Option<u8>,
    /// Folders that were not there before.
    made: Vec<PathBuf>,
}

/// The right to run a demo; when it is dropped the folder is removed.
#[derive(Debug)]
pub struct Place {
    state: State,
    _lock: Flock<File>,
}

/// The right to run a demo, or who has it.
#[derive(Debug)]
pub enum Claim {
    Free(Place),
    /// Without a state if it is about to begin or to end.
    Taken(Option<State>),
}

impl Place {
    /// Takes the right if nobody has it.
    pub fn claim() -> Result<Claim> {
        loop {
            fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
            let path = path("lock");
            let open = File::options().create(true).truncate(false).write(true).open(&path);
            let file = match open {
                // Its last owner has just removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                open => open.with_context(|| format!("cannot open {}", path.display()))?,
            };
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(Claim::Taken(read_state())),
                Err((_, errno)) => {
                    return Err(errno).with_context(|| format!("cannot lock {}", path.display()));
                }
            };
            // A lock on a file that its last owner has removed since is worth nothing.
            if identity(&path).is_none_or(|found| Some(found) != lock.metadata().ok().map(id)) {
                continue;
            }
            let mut made =
                SHARED.iter().map(PathBuf::from).filter(|folder| !folder.exists()).collect::<Vec<_>>();
            made.extend(read_state().map(|dead| dead.made).unwrap_or_default());
            let state = State { pid: std::process::id(), made, ..State::default() };
            let place = Self { state, _lock: lock };
            place.write()?;
            return Ok(Claim::Free(place));
        }
    }

    /// Notes the balancer's instance.
    pub fn set_instance(&mut self, instance: &str) -> Result<()> {
        self.state.instance = Some(instance.to_owned());
        self.write()
    }

    /// Notes that the demo has ended with this exit status and stays up.
    pub fn set_kept(&mut self, status: u8) -> Result<()> {
        self.state.kept = Some(status);
        self.write()
    }

    fn write(&self) -> Result<()> {
        let (new, path) = (path("state.new"), path("state.json"));
        let text = serde_json::to_vec(&self.state).context("cannot write the demo's state as JSON")?;
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Another demo may begin as soon as the lock's file is gone, so that comes last.
        for name in ["state.json", "state.new", LOG, "lock"] {
            let _ = fs::remove_file(path(name));
        }
        // Folders with something in them stay.
        for folder in self.state.made.iter().map(PathBuf::as_path).chain([Path::new(FOLDER)]) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// File that takes the standard output and error of a kept demo's process.
pub const LOG: &str = "log.txt";

/// The state that the running, kept or dead demo has written.
pub fn read_state() -> Option<State> {
    serde_json::from_slice(&fs::read(path("state.json")).ok()?).ok()
}

pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(id)
}

/// Device and inode, which name a file.
fn id(data: fs::Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}
