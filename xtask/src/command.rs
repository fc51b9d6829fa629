//! External commands: each can be shown as a line to paste into a shell, and a failure shows that line.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};

/// Lines of a failed command's output that are shown again below the failure.
const TAIL_LINES: usize = 20;
/// How long output may pause after its command has ended, before what still holds it open is given up on.
const SILENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct Cmd {
    program: OsString,
    /// What the line to paste names, where `program` is a full path that differs from machine to machine.
    shown: String,
    args: Vec<OsString>,
    envs: Vec<(String, OsString)>,
    removed: Vec<String>,
    dir: Option<PathBuf>,
}

impl Cmd {
    pub fn new(program: impl AsRef<OsStr>) -> Cmd {
        let program = program.as_ref().to_owned();
        let shown = quote(&program);
        Cmd { program, shown, args: Vec::new(), envs: Vec::new(), removed: Vec::new(), dir: None }
    }

    /// The cargo that runs this program, in the workspace's root.
    pub fn cargo(root: &Path) -> Cmd {
        let mut cmd = Cmd::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cmd.shown = "cargo".to_owned();
        cmd.dir = Some(root.to_owned());
        cmd
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Cmd {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Cmd {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn in_dir(mut self, dir: &Path) -> Cmd {
        self.dir = Some(dir.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Cmd {
        self.envs.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn env_remove(mut self, name: &str) -> Cmd {
        self.removed.push(name.to_owned());
        self
    }

    /// The command as a line that can be pasted into a shell.
    pub fn line(&self) -> String {
        let mut words = Vec::new();
        if let Some(dir) = &self.dir
            && env::current_dir().ok().as_ref() != Some(dir)
        {
            words.push(format!("cd {} &&", quote(dir.as_os_str())));
        }
        let removed: Vec<&String> = self.removed.iter().filter(|name| env::var_os(name).is_some()).collect();
        if !removed.is_empty() {
            words.push("env".to_owned());
            words.extend(removed.iter().map(|name| format!("-u {name}")));
        }
        words.extend(self.envs.iter().map(|(name, value)| format!("{name}={}", quote(value))));
        words.push(self.shown.clone());
        words.extend(self.args.iter().map(|arg| quote(arg)));
        words.join(" ")
    }

    /// Runs quietly and returns standard output.
    pub fn output(&self) -> Result<String> {
        let output = self.command().stdin(Stdio::null()).output().with_context(|| self.cannot_run())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(self.failure(output.status, &String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// Whether the command runs and succeeds; its output is of no interest.
    pub fn succeeds(&self) -> bool {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Shows the command, runs it, lets its output through, and shows the end of it again when it fails.
    pub fn run(&self) -> Result<()> {
        println!("$ {}", self.line());
        let mut tail: Vec<String> = Vec::new();
        let status = self.run_reading(forwarding(|line| {
            if tail.len() == TAIL_LINES {
                tail.remove(0);
            }
            tail.push(line.to_owned());
        }))?;
        if status.success() { Ok(()) } else { Err(self.failure(status, &tail.join("\n"))) }
    }

    /// Runs it and hands each line of both its outputs to `read`, in the order of writing.
    pub fn run_reading(&self, read: impl FnMut(&[u8]) -> io::Result<()>) -> Result<ExitStatus> {
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().with_context(|| self.cannot_run())?;
        // The command holds the pipe's writing ends; while one is open, reading never ends.
        drop(command);
        read_lines(&mut child, reader, read)
    }

    /// Runs with this program's terminal, but hands each line of standard output to `see` on its way.
    pub fn run_seeing(&self, see: impl FnMut(&str)) -> Result<()> {
        println!("$ {}", self.line());
        let mut child = self.command().stdout(Stdio::piped()).spawn().with_context(|| self.cannot_run())?;
        let stdout = child.stdout.take().context("the child has no standard output")?;
        let status = read_lines(&mut child, stdout, forwarding(see))?;
        if !status.success() {
            bail!("failed ({status}); paste:\n  {}", self.line());
        }
        Ok(())
    }

    /// Replaces this process, so that signals of the terminal reach the program itself; returns only the failure.
    pub fn exec(&self) -> Error {
        println!("$ {}", self.line());
        if let Err(error) = io::stdout().flush() {
            return error.into();
        }
        Error::new(self.command().exec()).context(self.cannot_run())
    }

    /// For who starts it in a way of their own.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env("PATH", path_with_sbin());
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    fn cannot_run(&self) -> String {
        format!("cannot run `{}`", self.line())
    }

    fn failure(&self, status: ExitStatus, said: &str) -> Error {
        let said: Vec<String> = said.trim_end().lines().map(|line| format!("  | {line}")).collect();
        anyhow!("this command failed ({status}):\n  {}\n{}", self.line(), said.join("\n"))
    }
}

/// The program of this name on `PATH` or in the folders of system programs.
pub fn which(program: &str) -> Option<PathBuf> {
    env::split_paths(&path_with_sbin()).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// `PATH`, with the system programs' folders at its end: after `su` without `-`, root has not got them.
fn path_with_sbin() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    for folder in ["/usr/sbin", "/sbin"].map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    // A folder of PATH that itself contains a colon cannot have come out of PATH.
    env::join_paths(folders).unwrap_or(path)
}

/// Copies lines to standard output on their way to `see`.
fn forwarding(mut see: impl FnMut(&str)) -> impl FnMut(&[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    move |line| {
        stdout.write_all(line)?;
        stdout.flush()?;
        see(String::from_utf8_lossy(line).trim_end());
        Ok(())
    }
}

/// Reads lines until the child has ended and its output with it. A process that the child left behind may hold
/// the output open for ever: it is not waited for, once it is silent.
fn read_lines(
    child: &mut Child,
    reader: impl Read + Send + 'static,
    mut read: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<ExitStatus> {
    let (sender, lines) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(1..) if sender.send(line).is_ok() => {}
                _ => break,
            }
        }
    });
    loop {
        // Asked for before the wait, so that what the child wrote at its end is still read.
        let ended = child.try_wait()?;
        match lines.recv_timeout(SILENCE) {
            Ok(line) => read(&line)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(child.wait()?),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = ended {
                    return Ok(status);
                }
            }
        }
    }
}

/// A word for the shell, quoted only where it must be.
fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_shown_line_as_the_same_words() {
        let words = ["a b", "it's", "", "$HOME", "plain", "x;y", "*", "back\\slash"];
        let cmd = Cmd::new("printf").arg("%s|").args(words).env("A", "1 2");
        let output = Command::new("sh").arg("-c").arg(cmd.line()).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a b|it's||$HOME|plain|x;y|*|back\\slash|");
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error =
            Cmd::new("sh").args(["-c", "echo out; echo oops >&2; exit 3"]).run().expect_err("it exits 3");
        let text = error.to_string();
        for part in ["sh -c 'echo out; echo oops >&2; exit 3'", "| out", "| oops", "exit status: 3"] {
            assert!(text.contains(part), "no `{part}` in: {text}");
        }
    }

    #[test]
    fn the_seen_lines_are_those_of_standard_output() {
        let mut seen = Vec::new();
        let cmd = Cmd::new("sh").args(["-c", "echo one; echo two >&2; echo three"]);
        cmd.run_seeing(|line| seen.push(line.to_owned())).expect("it succeeds");
        assert_eq!(seen, ["one", "three"]);
    }

    #[test]
    fn a_process_left_behind_does_not_hold_up_its_starter() {
        let start = std::time::Instant::now();
        let cmd = Cmd::new("sh").args(["-c", "sleep 20 & echo $!"]);
        let mut process = String::new();
        cmd.run_seeing(|line| process = line.to_owned()).expect("it succeeds");
        assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
        assert!(Cmd::new("kill").arg(process).succeeds(), "the process is still there to be ended");
    }
}
