//! A terminal that a test types into and looks at: tmux, with a server of its own.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::LIMIT;
use crate::topology::{Namespace, Process};

/// A shell in a terminal of a fixed size; it ends with this value.
#[derive(Debug)]
pub struct Emulator {
    ns: Namespace,
    folder: TempDir,
    _server: Process,
}

impl Emulator {
    /// The prompt of its shell is `$ `.
    ///
    /// # Errors
    /// There is no tmux, or it does not answer.
    pub fn start(ns: &Namespace, columns: u16, lines: u16) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("{}-tmux.", ns.owner())).tempdir()?;
        std::fs::write(folder.path().join("conf"), "set -g status off\nset -g escape-time 0\n")?;
        let mut server = Self::command_in(&folder);
        // In the foreground, so that it ends with us.
        server.arg("-D").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let server = ns.spawn(server).context("a terminal takes tmux")?;
        let emulator = Self { ns: ns.clone(), folder, _server: server };
        let size = [columns.to_string(), lines.to_string()];
        let shell = "exec env -u NO_COLOR PS1='$ ' LC_ALL=C.UTF-8 TERM=screen sh";
        let begin = Instant::now();
        loop {
            match emulator.tmux(&["new-session", "-d", "-x", &size[0], "-y", &size[1], shell]) {
                Ok(_) => break,
                Err(error) if begin.elapsed() > crate::LIMIT => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        emulator.wait_for("the prompt", |screen| screen.starts_with("$ ") || screen.starts_with('$'))?;
        Ok(emulator)
    }

    fn command_in(folder: &TempDir) -> Command {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        command.arg("-S").arg(folder.path().join("socket")).arg("-f").arg(folder.path().join("conf"));
        command
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        let mut command = Self::command_in(&self.folder);
        command.args(args);
        self.ns.run(command)
    }

    /// Keys by tmux's names: `Enter`, `Escape`, `Down`, `C-c`, `x`.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let args: Vec<&str> = ["send-keys"].into_iter().chain(keys.iter().copied()).collect();
        self.tmux(&args).map(drop)
    }

    /// A text as it is.
    pub fn write(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", text]).map(drop)
    }

    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]).map(drop)
    }

    /// What is shown, without trailing blanks.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with the codes of its colours.
    pub fn coloured(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// A format of tmux's, for example `#{alternate_on}`.
    pub fn ask(&self, format: &str) -> Result<String> {
        Ok(self.tmux(&["display-message", "-p", format])?.trim().to_owned())
    }

    /// The first screen that is as wanted, and whole: a program may be drawing still when it has what is wanted.
    ///
    /// # Errors
    /// None was within some time; the last one is in the message.
    pub fn wait_for(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> Result<String> {
        let begin = Instant::now();
        loop {
            let mut screen = self.screen()?;
            while is_wanted(&screen) {
                std::thread::sleep(Duration::from_millis(100));
                let later = std::mem::replace(&mut screen, self.screen()?);
                if later == screen || begin.elapsed() > LIMIT {
                    return Ok(screen);
                }
            }
            if begin.elapsed() > LIMIT {
                bail!("no screen within {LIMIT:?} with {what}:\n{screen}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first screen with these words.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub fn see(&self, words: &str) -> Result<String> {
        self.wait_for(words, |screen| screen.contains(words))
    }
}
