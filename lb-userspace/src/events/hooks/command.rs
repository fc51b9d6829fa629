//! One command, to its end or to the end of its time.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};

/// Bytes of standard error that are kept.
const COMPLAINTS: usize = 4096;
/// How long standard error may stay open behind the shell's end: by something that it left in the background.
const LINGER: Duration = Duration::from_secs(1);

/// How it ended, and what it wrote to standard error.
pub(crate) struct End {
    pub result: Result,
    pub complaints: String,
}

pub(crate) enum Result {
    Exited(ExitStatus),
    /// Its time was over.
    Killed,
    NotRun(io::Error),
}

/// A process group that is killed with this value.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It has ended by itself in this very moment.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs `/bin/sh -c COMMAND`. When `timeout` has passed, or when this future is dropped, its process group is killed.
pub(crate) async fn run(
    command: &str,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
    timeout: Duration,
) -> End {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).current_dir("/").process_group(0);
    // What the daemon was started with may have such names, too.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SLUICE_") {
            shell.env_remove(name);
        }
    }
    shell.envs(environment).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match shell.spawn() {
        Ok(child) => child,
        Err(error) => return End { result: Result::NotRun(error), complaints: String::new() },
    };
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut complaints = Vec::new();
    let ended = async {
        tokio::select! {
            status = wait(&mut child, stderr, &mut complaints) => status,
            never = feed(stdin, &input) => match never {},
        }
    };
    let ended = tokio::time::timeout(timeout, ended).await;
    let result = match ended {
        Ok(Ok(status)) => {
            // Its number may soon be another's.
            group.0 = None;
            Result::Exited(status)
        }
        Ok(Err(error)) => Result::NotRun(error),
        Err(_) => {
            drop(group);
            // So that it is no zombie.
            let _ = child.wait().await;
            Result::Killed
        }
    };
    End { result, complaints: String::from_utf8_lossy(&complaints).into_owned() }
}

/// Gives the command its input, which it need not read, and then waits for ever.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) -> Infallible {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
        let _ = stdin.write_all(b"\n").await;
    }
    std::future::pending().await
}

async fn wait(
    child: &mut Child,
    stderr: Option<ChildStderr>,
    complaints: &mut Vec<u8>,
) -> io::Result<ExitStatus> {
    let mut reading = pin!(read(stderr, complaints));
    let status = tokio::select! {
        status = child.wait() => status?,
        () = &mut reading => return child.wait().await,
    };
    let _ = tokio::time::timeout(LINGER, reading).await;
    Ok(status)
}

/// Reads to the end, and keeps the beginning.
async fn read(stderr: Option<ChildStderr>, complaints: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        let room = COMPLAINTS - complaints.len();
        complaints.extend_from_slice(&chunk[..length.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn run_for(command: &str, timeout: Duration) -> (End, Duration) {
        let began = Instant::now();
        let environment = vec![("SLUICE_HOST".to_owned(), "a b".to_owned())];
        (run(command, environment, b"{\"seq\":1}".to_vec(), timeout).await, began.elapsed())
    }

    const LONG: Duration = Duration::from_secs(20);

    fn code(end: &End) -> Option<i32> {
        match &end.result {
            Result::Exited(status) => status.code(),
            Result::Killed | Result::NotRun(_) => None,
        }
    }

    #[tokio::test]
    async fn a_command_gets_event_and_environment_and_its_end_is_told() {
        let (end, _) =
            run_for("read line; echo \"$line for $SLUICE_HOST in $(pwd)\" >&2; exit 3", LONG).await;
        assert_eq!((code(&end), end.complaints.as_str()), (Some(3), "{\"seq\":1} for a b in /\n"));
        let (end, _) = run_for("true", LONG).await;
        assert_eq!(code(&end), Some(0), "without reading its input");
    }

    #[tokio::test]
    async fn what_it_writes_is_bounded() {
        let (end, _) = run_for("yes | head -c 1000000; yes | head -c 1000000 >&2", LONG).await;
        assert_eq!((code(&end), end.complaints.len()), (Some(0), COMPLAINTS));
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        let command = format!("sleep 600 & echo $! > {}; wait", file.display());
        let (end, took) = run_for(&command, Duration::from_millis(500)).await;
        assert!(matches!(end.result, Result::Killed));
        assert!(took < Duration::from_secs(10), "{took:?}");
        let child: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        gone(child).await;
    }

    #[tokio::test]
    async fn one_that_is_not_waited_for_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        let command = format!("sleep 600 & echo $! > {}; wait", file.display());
        let begun = tokio::spawn(async move { run_for(&command, LONG).await.1 });
        let child = loop {
            match std::fs::read_to_string(&file).map(|text| text.trim().parse::<i32>()) {
                Ok(Ok(child)) => break child,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        begun.abort();
        gone(child).await;
    }

    #[tokio::test]
    async fn what_it_leaves_in_the_background_holds_nobody_up() {
        let (end, took) = run_for("sleep 5 & exit 0", LONG).await;
        assert_eq!(code(&end), Some(0));
        assert!(took < Duration::from_secs(4), "{took:?}");
    }

    /// Waits until a process has ended; it may still be a zombie.
    async fn gone(process: i32) {
        let until = Instant::now() + LONG;
        loop {
            let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            if status.is_empty() || status.contains(") Z") {
                return;
            }
            assert!(Instant::now() < until, "{status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
