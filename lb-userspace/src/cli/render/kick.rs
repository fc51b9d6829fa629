//! What `sluice kick` says.

use crate::api::types::Kick;
use crate::cli::terminal::Style;

use super::drain::bar;
use super::number::{duration, exact, plural};
use super::text::{clean, cut};

/// The answer, while there is something to be done.
pub fn began(kick: &Kick, style: Style) -> String {
    let takes = duration(kick.chosen.div_ceil(kick.rate.into()));
    let words = format!(
        "{}: ending {} at {}/s, about {takes}",
        kick.host,
        plural(kick.chosen, "flow"),
        exact(kick.rate.into())
    );
    clean(&words, style.ascii) + "\n"
}

/// The line that is redrawn on a terminal; never wider than that.
pub fn progress(kick: &Kick, style: Style) -> String {
    let left = kick.chosen - (kick.kicked + kick.missed).min(kick.chosen);
    let line = format!("{} {} {} left", kick.host, bar(left, kick.chosen), exact(left));
    cut(&clean(&line, style.ascii), usize::from(style.width).saturating_sub(1))
}

/// The end.
pub fn ended(kick: &Kick, style: Style) -> String {
    let mut words = match kick.chosen {
        0 => format!("{}: no live flow is such", kick.host),
        _ => format!("{}: {} ended", kick.host, plural(kick.kicked, "flow")),
    };
    if kick.missed > 0 {
        words += &format!(", {} had ended before or spoke at that very moment", exact(kick.missed));
    }
    clean(&words, style.ascii) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kick(chosen: u64, kicked: u64, missed: u64) -> Kick {
        Kick {
            id: 3,
            host: "web-3".to_owned(),
            by: "alice".to_owned(),
            reason: None,
            started_at: 1_790_000_000,
            rate: 50,
            chosen,
            kicked,
            missed,
            ended_at: None,
        }
    }

    #[test]
    fn words() {
        assert_eq!(began(&kick(412, 0, 0), Style::PLAIN), "web-3: ending 412 flows at 50/s, about 9s\n");
        assert_eq!(progress(&kick(400, 90, 10), Style::PLAIN), "web-3 [#####...............] 300 left");
        assert_eq!(ended(&kick(412, 412, 0), Style::PLAIN), "web-3: 412 flows ended\n");
        assert_eq!(
            ended(&kick(9, 1, 8), Style::PLAIN),
            "web-3: 1 flow ended, 8 had ended before or spoke at that very moment\n"
        );
        assert_eq!(ended(&kick(0, 0, 0), Style::PLAIN), "web-3: no live flow is such\n");
    }
}
