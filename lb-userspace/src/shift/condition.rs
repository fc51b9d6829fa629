//! What takes a shift back.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Fared, Part};
use crate::jobs;

/// New flows that must have begun before their errors tell something, and of the last minute so many that failed.
pub const ENOUGH: u64 = 20;

/// A condition that must not come true of the hosts that the flows go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// More than this part of their new flows failed, beside the part that fails on the other side as well. Under direct server return what is
    /// seen of that are TCP flows whose client has never gone on after its SYN; what is found out about flows in other ways belongs into the
    /// same numbers, [`Seen::step`] and [`Seen::minute`].
    Errors(Part),
    /// More than so many of them are not well.
    Unhealthy(u32),
    /// A command ends with another exit status than 0; it is run again and again.
    Fails(String),
}

/// What was seen since the step began, above all of the hosts that the flows go to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// New flows that are old enough to tell, of both sides; also those of the last minute alone.
    pub step: Fared,
    pub minute: Fared,
    /// Who is not well, and why; without those that operators took out.
    pub unwell: Vec<(String, String)>,
    /// Of whom checks have not said yet how they are. They are used, and nothing is wrong with them by that.
    pub unsaid: Vec<String>,
    /// Nothing can be told of them, as this machine's own link is cut off.
    pub is_cut_off: bool,
    /// None of them can get new flows.
    pub is_nobody_left: bool,
    /// The last end of a command, by its place among the conditions: what failed.
    pub failures: Vec<(usize, String)>,
    /// Commands of which none that was begun since the step began has succeeded, by their places.
    pub unproven: Vec<usize>,
    /// What the shift wants is not in force yet.
    pub is_pending: bool,
    /// New flows so far, of hosts of both sides, by the data path's counters.
    pub flows: BTreeMap<String, u64>,
}

impl Condition {
    /// `errors > 1%`, `unhealthy > 0`, `fails: curl -f http://canary/`.
    ///
    /// # Errors
    /// How it is to be written.
    pub fn parse(text: &str) -> Result<Condition, String> {
        if let Some(command) = text.trim().strip_prefix("fails:") {
            let command = command.trim();
            if command.is_empty() {
                let mend = "write it like \"fails: curl -f http://10.0.0.7/\"";
                return Err(format!("after `fails:` there is no command; {mend}"));
            }
            jobs::check(command).map_err(|wrong| format!("the command after `fails:` {wrong}"))?;
            return Ok(Condition::Fails(command.to_owned()));
        }
        let parsed = text.split_once('>').map(|(what, bound)| (what.trim(), bound.trim()));
        match parsed {
            Some(("errors", bound)) => Part::parse(bound).map(Condition::Errors),
            Some(("unhealthy", bound)) => bound.parse().ok().map(Condition::Unhealthy),
            _ => None,
        }
        .ok_or_else(|| {
            format!(
                "{text:?} is no condition; write \"errors > 1%\", \"unhealthy > 0\" (hosts) or \"fails: COMMAND\""
            )
        })
    }

    /// For everybody: a command's text may have secrets in it.
    pub fn shown(&self, place: usize) -> String {
        match self {
            Condition::Fails(_) => format!("fails: command {}", place + 1),
            other => other.to_string(),
        }
    }

    /// Whether it has come true: what, in words for everybody.
    pub fn holds(&self, place: usize, seen: &Seen) -> Option<String> {
        match self {
            Condition::Errors(part) => {
                // Of a minute alone some failures are chance, where a minute is one of many.
                let minute = Some(seen.minute).filter(|minute| minute.to.failed >= ENOUGH);
                let looks = [(Some(seen.step), ""), (minute, " in the last minute")];
                let (fared, when) = looks
                    .into_iter()
                    .find_map(|(fared, when)| Some((fared.filter(|of| fails(*part, of))?, when)))?;
                let Fared { to, from } = fared;
                let others = if compared(&fared) > 0.0 {
                    format!(", of the others {} of {}", from.failed, from.begun)
                } else {
                    String::new()
                };
                Some(format!(
                    "{} of {} new flows were never established{when}{others} ({self})",
                    to.failed, to.begun
                ))
            }
            Condition::Unhealthy(most) => {
                (seen.unwell.len() > *most as usize).then(|| format!("{} ({self})", unwell(seen)))
            }
            Condition::Fails(_) => {
                let failure = seen.failures.iter().find(|(of, _)| *of == place);
                failure.map(|(_, what)| format!("{what} ({})", self.shown(place)))
            }
        }
    }
}

/// The part of the other side's new flows that failed, if there were enough: what fails there as well, as in a flood of SYNs, is not for the
/// hosts to answer for.
fn compared(fared: &Fared) -> f64 {
    let from = fared.from;
    if from.begun >= ENOUGH { from.failed as f64 / from.begun as f64 } else { 0.0 }
}

/// More of the flows have failed than this part.
fn fails(part: Part, fared: &Fared) -> bool {
    let most = (part.of_one() + compared(fared)) * fared.to.begun as f64;
    fared.to.begun >= ENOUGH && fared.to.failed as f64 > most
}

/// `green-1: it cannot be reached; green-2: …`
pub(super) fn unwell(seen: &Seen) -> String {
    let who = seen.unwell.iter().map(|(host, why)| format!("{host}: {why}"));
    who.collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Condition::Errors(part) => format!("errors > {part}"),
            Condition::Unhealthy(most) => format!("unhealthy > {most}"),
            Condition::Fails(command) => format!("fails: {command}"),
        };
        f.pad(&text)
    }
}
