//! Commands that outlive the daemon, and webhooks: begun under a name, looked at by it, and begun again under it where nobody knows how they ended.
//!
//! Each has a folder of its name. A command is run by a shell that notes in it who it is, the beginning of the output, and at last the exit
//! status. So the next daemon sees one that still runs, and knows of one that ended meanwhile. A machine that goes down takes commands with
//! it, and a webhook ends with the daemon: of these nobody knows how far they came, so they are begun again. To tell a second time from a first
//! one they have the name (`SLUICE_STEP_ID`, `Idempotency-Key`) and the number of the attempt.

mod command;
mod webhook;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use crate::maintain::{JobEnd, JobState};

/// Bytes of output that are kept.
pub const OUTPUT: usize = 4096;

/// Bytes of a command; the kernel takes 128 KiB in one argument (execve(2)).
pub const LONGEST: usize = 100 * 1024;

/// Whether this can be run as a command at all; or why not, with the mend.
pub fn check(command: &str) -> Result<(), &'static str> {
    if command.contains('\0') {
        Err("has a NUL in it, which no command can have; leave it out")
    } else if command.len() > LONGEST {
        Err("is longer than 100 KiB; put it into a script and run that")
    } else {
        Ok(())
    }
}

const STATUS: &str = "status";
const OUTPUT_FILE: &str = "output";
const ATTEMPTS: &str = "attempts";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// For `/bin/sh -c`.
    Command(String),
    /// A URL that is posted to, and the seconds that it may take.
    Webhook(String, u64),
}

/// All jobs of an instance.
pub struct Jobs {
    folder: PathBuf,
    /// Commands that this daemon has begun, so that they do not stay behind as zombies.
    children: BTreeMap<String, Child>,
    /// Why those could not be begun that could not be.
    errors: BTreeMap<String, String>,
    /// Webhooks that are under way.
    posts: Arc<Mutex<BTreeMap<String, ()>>>,
}

impl Jobs {
    /// `folder` is made with the first job.
    pub fn new(folder: PathBuf) -> Self {
        Jobs { folder, children: BTreeMap::new(), errors: BTreeMap::new(), posts: Arc::default() }
    }

    /// How the job of this name stands.
    pub fn look(&self, id: &str) -> JobState {
        let place = self.place(id);
        if let Some(end) = ended(&place) {
            return JobState::Ended(end);
        }
        let is_posting = self.posts.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id);
        let is_about_to = self.children.contains_key(id) && place.exists() && !command::has_begun(&place);
        if is_posting || is_about_to || command::runs(&place) {
            return JobState::Running;
        }
        // It may have ended between the two looks.
        ended(&place).map_or(JobState::None, JobState::Ended)
    }

    /// Begins with it; `environment` without what names it.
    ///
    /// # Errors
    /// The folder cannot be written, or there is no room for a process.
    pub fn begin(&mut self, id: &str, what: &What, environment: Vec<(String, String)>) -> io::Result<()> {
        let begun = self.try_to_begin(id, what, environment);
        match &begun {
            Ok(()) => drop(self.errors.remove(id)),
            Err(error) => drop(self.errors.insert(id.to_owned(), error.to_string())),
        }
        begun
    }

    /// Why it could not be begun the last time.
    pub fn error(&self, id: &str) -> Option<String> {
        self.errors.get(id).cloned()
    }

    fn try_to_begin(
        &mut self,
        id: &str,
        what: &What,
        mut environment: Vec<(String, String)>,
    ) -> io::Result<()> {
        let place = self.place(id);
        fs::create_dir_all(&place)?;
        let before = fs::read_to_string(place.join(ATTEMPTS)).ok().and_then(|text| text.trim().parse().ok());
        let attempt = before.unwrap_or(0_u32) + 1;
        fs::write(place.join(ATTEMPTS), attempt.to_string())?;
        environment.push(("SLUICE_STEP_ID".to_owned(), id.to_owned()));
        environment.push(("SLUICE_STEP_ATTEMPT".to_owned(), attempt.to_string()));
        match what {
            What::Command(command) => {
                let child = command::begin(&place, command, &environment)?;
                self.children.insert(id.to_owned(), child);
            }
            What::Webhook(url, timeout) => {
                self.posts.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), ());
                let (posts, name, url, timeout) = (self.posts.clone(), id.to_owned(), url.clone(), *timeout);
                let spawned = std::thread::Builder::new().name("webhook".to_owned()).spawn(move || {
                    let end = webhook::post(&url, &name, &environment, timeout);
                    // Where this cannot be written it is posted again.
                    let _ = note_end(&place, &end);
                    posts.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                });
                if let Err(error) = spawned {
                    self.posts.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Ends a command with all that it has started. A webhook ends by itself when its time is over.
    ///
    /// # Errors
    /// What is to be known of its end cannot be written.
    pub fn kill(&mut self, id: &str) -> io::Result<()> {
        let place = self.place(id);
        if ended(&place).is_none() && command::kill(&place) {
            let output = fs::read(place.join(OUTPUT_FILE)).unwrap_or_default();
            let output = String::from_utf8_lossy(&output).into_owned();
            let failure = Some("killed, as its time was over".to_owned());
            note_end(&place, &JobEnd { failure, output })?;
        }
        Ok(())
    }

    /// Takes note of children that have ended.
    pub fn reap(&mut self) {
        self.children.retain(|_, child| matches!(child.try_wait(), Ok(None)));
    }

    pub fn are_any_running(&self) -> bool {
        !self.children.is_empty()
    }

    /// Removes what is known of it.
    pub fn forget(&mut self, id: &str) {
        self.errors.remove(id);
        let place = self.place(id);
        if let Err(error) = fs::remove_dir_all(&place)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {error}", place.display());
        }
        // With the last job its folder goes; there are others else.
        let _ = fs::remove_dir(&self.folder);
    }

    /// Ends and forgets all that have a folder, but those that are kept.
    pub fn sweep(&mut self, is_kept: impl Fn(&str) -> bool) {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let left: Vec<String> = names.filter(|name| !is_kept(name)).collect();
        for id in left {
            log::info!("{id} is of no use any more");
            if let Err(error) = self.kill(&id) {
                log::warn!("{id} is not killed: {error}");
            }
            self.forget(&id);
        }
    }

    fn place(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }
}

/// The first line of the file is empty for success, or says what failed.
fn note_end(place: &Path, end: &JobEnd) -> io::Result<()> {
    fs::write(place.join(OUTPUT_FILE), end.output.as_bytes())?;
    let new = place.join("status.new");
    fs::write(&new, format!("{}\n", end.failure.as_deref().unwrap_or("0")))?;
    fs::rename(new, place.join(STATUS))
}

/// An exit status, or words.
fn ended(place: &Path) -> Option<JobEnd> {
    let status = fs::read_to_string(place.join(STATUS)).ok()?;
    // The machine may have gone down before all of it was on the disk.
    let word = status.strip_suffix('\n').filter(|word| !word.is_empty())?;
    let failure = match word.parse::<i32>() {
        Ok(0) => None,
        Ok(status) if status > 128 => Some(format!("exit status {status} (signal {})", status - 128)),
        Ok(status) => Some(format!("exit status {status}")),
        Err(_) => Some(word.to_owned()),
    };
    let output = fs::read(place.join(OUTPUT_FILE)).unwrap_or_default();
    let output = String::from_utf8_lossy(&output[..output.len().min(OUTPUT)]).into_owned();
    Some(JobEnd { failure, output })
}

#[cfg(test)]
mod tests;
