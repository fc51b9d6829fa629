//! `sluice events`: what has happened, and what happens.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::api::client::{Client, ClientError, target};
use crate::api::types::{EventName, Happening};

use super::exit::Exit;
use super::output::Out;
use super::terminal::Style;
use super::wait::PATIENCE;
use super::{Failure, Global, after_help, render};

/// Show what happened to hosts and drains, and go on showing it
///
/// The daemon remembers the last 1000 events since its start. SEQ numbers them and never shrinks, so a program that has
/// noted the last number can go on behind it with --after. A restart of the daemon is waited for, for 30 s.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct EventsArgs {
    /// Go on with events as they come, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Only events from now on; implies --follow
    #[arg(long, conflicts_with = "after")]
    pub new: bool,
    /// Begin behind this event
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// Only events of this host; may be given several times
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Only such events; may be given several times. That events were lost is always told
    #[arg(long = "event", value_name = "EVENT", hide_possible_values = true)]
    pub events: Vec<EventName>,
    /// Print JSON for programs: one event a line
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice events --host web-3
  sluice events --new --event drained --event lease_over
  sluice events --follow --json | jq .event";

/// Time between two attempts to reach a daemon that is away.
const AGAIN: Duration = Duration::from_millis(250);

impl EventsArgs {
    fn follows(&self) -> bool {
        self.follow || self.new
    }

    /// What to ask for, behind the last event that was seen.
    fn target(&self, seen: Option<u64>) -> String {
        let after = seen.map(|seen| ("after", seen.to_string()));
        let hosts = self.hosts.iter().map(|host| ("host", host.clone()));
        let events = self.events.iter().map(|event| ("event", event.name().to_owned()));
        let follow = [("follow", self.follows().to_string())];
        target("/v1/events", after.into_iter().chain(hosts).chain(events).chain(follow))
    }
}

/// How far the printing has come.
struct Printer<'a> {
    args: &'a EventsArgs,
    seen: Option<u64>,
    /// The daemon has said that it ends: what the next one has not told is nothing.
    has_ended: bool,
    out: Out,
    style: Style,
}

pub fn run(global: &Global, args: &EventsArgs) -> Result<(), Failure> {
    super::block_on(async {
        let seen = args.after.or((!args.new).then_some(0));
        let (out, style) = (Out::stdout(), Style::stdout());
        let mut printer = Printer { args, seen, has_ended: false, out, style };
        let (client, mut err) = (global.client(), Out::stderr());
        // The first look must succeed; what comes later may be a restart.
        let mut away: Option<Instant> = None;
        let mut has_answered = false;
        loop {
            let ended = printer.print(&client, &mut away, &mut has_answered).await;
            if !args.follows() || printer.out.is_closed() {
                return ended.map_err(Failure::from);
            }
            let why = match ended {
                Ok(()) => "the daemon has ended".to_owned(),
                Err(error) if error.is_unreachable() && has_answered => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            let first = away.is_none();
            let since = away.get_or_insert_with(Instant::now);
            if since.elapsed() >= PATIENCE {
                let error = anyhow::anyhow!(why).context("no daemon has answered for 30s");
                return Err(Failure::new(Exit::Unreachable, error));
            }
            if first {
                let why = render::text::clean(&why, style.ascii);
                err.print(&format!("{why}; trying again for {}s\n", PATIENCE.as_secs()))?;
            }
            sleep(AGAIN).await;
        }
    })
}

impl Printer<'_> {
    /// Prints what comes over one connection.
    async fn print(
        &mut self,
        client: &Client,
        away: &mut Option<Instant>,
        has_answered: &mut bool,
    ) -> Result<(), ClientError> {
        let mut stream = client.events(&self.args.target(self.seen), None).await?;
        (*away, *has_answered) = (None, true);
        while let Some(event) = stream.next().await? {
            self.seen = Some(event.seq);
            let is_lost = event.happening == Happening::Lost { count: None };
            if !(is_lost && std::mem::take(&mut self.has_ended)) {
                let printed = if self.args.json {
                    self.out.json(&event, false)
                } else {
                    self.out.print(&render::event::line(&event, self.style))
                };
                if printed.is_err() || self.out.is_closed() {
                    break;
                }
            }
            self.has_ended = event.happening == Happening::DaemonStopping;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn args(words: &[&str]) -> EventsArgs {
        match Cli::try_parse_from(["sluice", "events"].iter().chain(words)).unwrap().command {
            Command::Events(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_asked_for() {
        assert_eq!(args(&[]).target(Some(0)), "/v1/events?after=0&follow=false");
        let args = args(&["--new", "--host", "a", "--host", "b", "--event", "lease_over"]);
        assert_eq!(args.target(None), "/v1/events?host=a&host=b&event=lease_over&follow=true");
        assert!(Cli::try_parse_from(["sluice", "events", "--event", "birthday"]).is_err());
    }
}
