//! How a verb ends: the exit codes, and errors with their causes and hints.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::api::client::{ClientError, ErrorCode};

use super::render::text::clean;
use super::terminal::Style;

/// What the process tells its caller; stable, and listed in [`EXIT_CODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Unreachable = 4,
    /// A deadline passed with flows left, or a timeout before what was waited for.
    Deadline = 5,
    /// A drain is done, and its deadline ended flows.
    FlowsEnded = 6,
    /// Somebody took a drain back.
    TakenBack = 7,
    /// A drain's lease ran out before it was done.
    LeaseOver = 8,
    /// A config or a plan is refused.
    Refused = 9,
    /// A rule of the config would be broken.
    Rule = 10,
    /// Ctrl-C, as shells count it: 128 + SIGINT.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Shown in the help of the program and of every verb.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  not found: a host, a service, a file
  4  the daemon cannot be reached
  5  a deadline passed with flows left, or a timeout before what was waited for
  6  drained, and flows were ended: by the deadline, or kicked
  7  the drain was taken back by an undrain
  8  the drain's lease ran out before it was done
  9  a config or a plan is refused; what was in force is in force
  10  a rule of the config would be broken; nothing was done
  130  interrupted by Ctrl-C";

/// A verb that did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: anyhow::Error,
    /// What the user can do, a sentence each.
    pub hints: Vec<String>,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Failure { exit, error: error.into(), hints: Vec::new() }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// `error:`, one line for each cause, and the hints.
    pub fn render(&self, style: Style) -> String {
        let (red, cyan, off) =
            if style.control { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        let mut out = format!("{red}error:{off} {}\n", clean(&self.error.to_string(), style.ascii));
        for cause in self.error.chain().skip(1) {
            let _ = writeln!(out, "  caused by: {}", clean(&cause.to_string(), style.ascii));
        }
        for hint in &self.hints {
            let _ = writeln!(out, "{cyan}hint:{off} {}", clean(hint, style.ascii));
        }
        out
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::new(Exit::Failed, error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error.code() {
            Some(ErrorCode::NotFound) => Exit::NotFound,
            Some(ErrorCode::Rule) => Exit::Rule,
            Some(ErrorCode::Config) => Exit::Refused,
            _ if error.is_unreachable() => Exit::Unreachable,
            _ => Exit::Failed,
        };
        let hints = error.hint().into_iter().collect();
        Failure { exit, error: error.into(), hints }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ApiError;

    #[test]
    fn causes_and_hints_have_lines_of_their_own() {
        let cause = std::io::Error::other("the disk is full");
        let failure = Failure::from(anyhow::Error::new(cause).context("cannot write x")).hint("make room");
        assert_eq!(
            failure.render(Style::PLAIN),
            "error: cannot write x\n  caused by: the disk is full\nhint: make room\n"
        );
        assert!(
            failure.render(Style { control: true, ..Style::PLAIN }).starts_with("\x1b[1;31merror:\x1b[0m ")
        );
    }

    #[test]
    fn client_errors_have_their_codes() {
        let api = |code: &str| {
            let error = ApiError {
                code: code.to_owned(),
                message: "no".to_owned(),
                hint: None,
                rules: Vec::new(),
                problems: Vec::new(),
            };
            Failure::from(ClientError::Api { status: 400, error: Box::new(error) }).exit
        };
        assert_eq!(api("not_found"), Exit::NotFound);
        assert_eq!(api("conflict"), Exit::Failed);
        assert_eq!(api("rule"), Exit::Rule);
        assert_eq!(api("config"), Exit::Refused);
        assert_eq!(api("from the future"), Exit::Failed);
        assert_eq!(Failure::from(ClientError::NoSocket { socket: "/x".into() }).exit, Exit::Unreachable);
    }

    #[test]
    fn hostile_text_cannot_steer_the_terminal() {
        let failure = Failure::from(anyhow::anyhow!("host \x1b[2Jx"));
        assert_eq!(failure.render(Style::PLAIN), "error: host \\u{1b}[2Jx\n");
    }
}
