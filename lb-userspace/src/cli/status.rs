//! `sluice status`: one look, or a watch.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;

use crate::api::client::{Client, ClientError};
use crate::api::types::Status;

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, duration_arg, render};

/// Show services, hosts, live flows, drains and problems
///
/// LIVE is the number of live flows; HALF, ESTAB, CLOSE and UDP are its parts. SHARE is the part of the slots
/// that the host owns: what it gets of the new flows. FLOWS and PACKETS count since the balancer began; rates
/// are over the daemon's last interval.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct StatusArgs {
    /// Also the backends with their next hops, and the packets by reason
    #[arg(short, long)]
    pub all: bool,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
    /// Look again every INTERVAL (default 2s) until Ctrl-C; with --json one line a look
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = interval)]
    pub watch: Option<Duration>,
}

const EXAMPLES: &str = "  \
  sluice status --all
  sluice status --watch 1s
  sluice status --json | jq .hosts[].live_flows.total";

/// Shorter than this and the looking is itself a load.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration_arg(text)?;
    if interval < MIN_INTERVAL { Err("at least 100ms, please".to_owned()) } else { Ok(interval) }
}

async fn fetch(client: &Client) -> Result<Status, ClientError> {
    client.get("/v1/status").await
}

pub fn run(global: &Global, args: &StatusArgs) -> Result<(), Failure> {
    super::block_on(async {
        let (client, mut out, mut style) = (global.client(), Out::stdout(), Style::stdout());
        let first = fetch(&client).await?;
        let Some(interval) = args.watch else {
            return if args.json {
                out.json(&first, true)
            } else {
                out.print(&render::status::status(&first, args.all, super::now(), style))
            };
        };
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut looked = Ok::<_, ClientError>(first);
        let mut count = 0;
        loop {
            let redraw = style.control && !args.json;
            let text = match looked {
                Ok(body) if args.json => {
                    out.json(&body, false)?;
                    String::new()
                }
                Ok(body) => render::status::status(&body, args.all, super::now(), style),
                // On a screen a restart is something to watch; in a pipe it would go unseen.
                Err(e) if redraw && e.is_unreachable() => Failure::from(e).render(style),
                Err(e) => return Err(e.into()),
            };
            if redraw {
                out.print(&screen(&text, style, count == 0))?;
            } else if !args.json {
                out.print(&if count == 0 { text } else { format!("\n{text}") })?;
            }
            if out.is_closed() {
                return Ok(());
            }
            count += 1;
            ticks.tick().await;
            style = Style::stdout();
            looked = fetch(&client).await;
        }
    })
}

/// The text from the upper left corner on, over what stood there, cut to the screen's lines.
fn screen(text: &str, style: Style, first: bool) -> String {
    let mut out = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    let room = match style.height {
        0 => usize::MAX,
        height => usize::from(height) - 1,
    };
    let lines = text.lines().count();
    let shown = if lines > room { room.saturating_sub(1) } else { lines };
    for line in text.lines().take(shown) {
        let _ = writeln!(out, "{line}\x1b[K");
    }
    if shown < lines {
        let _ = writeln!(out, "... {} more lines: make the window higher\x1b[K", lines - shown);
    }
    out + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_overwritten_and_not_scrolled() {
        let style = Style { control: true, height: 4, ..Style::PLAIN };
        assert_eq!(screen("a\nb\n", style, true), "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(
            screen("a\nb\nc\nd\n", style, false),
            "\x1b[Ha\x1b[K\nb\x1b[K\n... 2 more lines: make the window higher\x1b[K\n\x1b[J"
        );
    }

    #[test]
    fn intervals_have_a_floor() {
        assert!(interval("99ms").is_err());
        assert_eq!(interval("100ms"), Ok(MIN_INTERVAL));
    }
}
