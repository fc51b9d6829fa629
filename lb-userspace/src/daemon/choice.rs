//! Which config a start goes by: the file, if it is new; else what was in force, which may have been applied from elsewhere.

use std::path::Path;

use crate::config::{self, ConfigErrors, Loaded, Machine};
use crate::engine::{NOT_CONFIRMED, Text};
use crate::journal::Applied;

use super::machine;

/// A config that is right, for this machine too.
pub struct Chosen {
    pub loaded: Loaded,
    pub machine: Machine,
    pub text: Text,
    /// What an operator should know of the choice.
    pub problem: Option<String>,
}

/// Why a config is taken back that waits to be confirmed.
const UNUSABLE: &str = "it cannot be used any more";

/// Reads a text and holds it against this machine.
pub fn resolve(text: &str, name: &str) -> anyhow::Result<(Loaded, Machine)> {
    let loaded = config::parse(text, name)?;
    let machine = machine::look(&loaded.model)?;
    config::check_against_machine(&loaded, &machine)?;
    Ok((loaded, machine))
}

/// The daemon's own file, which is right.
pub fn of_file(path: &Path) -> anyhow::Result<Chosen> {
    of_text(config::read(path)?, path)
}

fn of_text(text: String, path: &Path) -> anyhow::Result<Chosen> {
    let (loaded, machine) = resolve(&text, &path.display().to_string())?;
    Ok(Chosen { loaded, machine, text: Text { seen: text.clone(), text, takes_back: None }, problem: None })
}

/// `file`, or what the journal says was in force when nobody has touched the file since it was looked at last, or when it is refused. What
/// cannot be used any more gives way to the next that can.
///
/// # Errors
/// Nothing can be used: then why the file is refused.
pub fn choose(file: anyhow::Result<Chosen>, applied: Option<Applied>, now: u64) -> anyhow::Result<Chosen> {
    let seen = file.as_ref().ok().map(|file| file.text.seen.clone());
    let Some(applied) = applied.filter(|applied| seen.as_ref().is_none_or(|seen| *seen == applied.seen))
    else {
        return file;
    };
    let revision = applied.revision;
    let seen = seen.unwrap_or(applied.seen);
    let is_expired = applied.pending.as_ref().is_some_and(|pending| pending.left(now) == 0);
    let in_force = (!is_expired).then(|| (applied.text, None, format!("config of revision {revision}")));
    let before = applied.pending.map(|pending| {
        let why = if is_expired { NOT_CONFIRMED } else { UNUSABLE };
        (pending.back_to, Some((revision, why)), format!("config from before revision {revision}"))
    });
    for (text, takes_back, name) in in_force.into_iter().chain(before) {
        if file.as_ref().is_ok_and(|file| file.text.text == text) {
            return file.map(|file| Chosen { text: Text { takes_back, ..file.text }, ..file });
        }
        match resolve(&text, &name) {
            Ok((loaded, machine)) => {
                let problem = file.as_ref().err().map(|error| {
                    let all = format!("{error:#}");
                    log::error!("{all}");
                    // Its count of problems.
                    let short = all.lines().last().unwrap_or_default();
                    format!("the file was refused at the start, so the {name} goes on: {short}")
                });
                match &problem {
                    Some(problem) => log::error!("{problem}"),
                    None => log::info!("the {name} goes on, as the file has not changed since"),
                }
                return Ok(Chosen { loaded, machine, text: Text { text, seen, takes_back }, problem });
            }
            Err(error) => log::warn!("the {name} cannot be used any more: {error:#}"),
        }
    }
    file
}

/// Why a config is no good, if that is what an error says.
pub fn problems(error: anyhow::Error) -> Result<ConfigErrors, String> {
    error.downcast::<ConfigErrors>().map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Pending;

    const NOW: u64 = 1_790_000_000;

    /// On a machine that has the loopback at least.
    fn config(weight: u32) -> String {
        format!(
            "interfaces = [\"lo\"]\n[hosts.a]\naddresses = [\"192.0.2.1\"]\nweight = {weight}\n[[services]]\nname = \"s\"\n\
             vip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 1\n"
        )
    }

    fn file(text: &str) -> anyhow::Result<Chosen> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, text).unwrap();
        of_file(&path)
    }

    fn applied(weight: u32, seen: u32, pending: Option<(u32, u64)>) -> Option<Applied> {
        let pending =
            pending.map(|(back_to, deadline)| Pending { back_to: config(back_to), deadline, patience: 60 });
        Some(Applied { revision: 7, text: config(weight), seen: config(seen), pending })
    }

    /// The weight that is chosen, and the revision that is taken back.
    fn chosen(file_weight: u32, applied: Option<Applied>) -> (u16, Option<u64>) {
        let chosen = choose(file(&config(file_weight)), applied, NOW).unwrap();
        assert_eq!(chosen.text.seen, config(file_weight));
        assert!(chosen.problem.is_none());
        assert_eq!(chosen.text.text, config(chosen.loaded.model.hosts["a"].weight.into()));
        (chosen.loaded.model.hosts["a"].weight, chosen.text.takes_back.map(|(revision, _)| revision))
    }

    #[test]
    fn a_file_that_is_new_is_taken() {
        assert_eq!(chosen(1, None), (1, None));
        assert_eq!(chosen(3, applied(2, 1, None)), (3, None));
        assert_eq!(chosen(3, applied(2, 2, Some((1, NOW - 5)))), (3, None), "whatever waits to be confirmed");
    }

    #[test]
    fn else_what_was_in_force_goes_on() {
        assert_eq!(chosen(1, applied(1, 1, None)), (1, None));
        assert_eq!(chosen(1, applied(2, 1, None)), (2, None), "applied from elsewhere, or gone back to");
        assert_eq!(chosen(1, applied(2, 1, Some((1, NOW + 30)))), (2, None), "there is time to confirm it");
    }

    #[test]
    fn what_nobody_has_confirmed_is_taken_back() {
        assert_eq!(chosen(2, applied(2, 2, Some((1, NOW)))), (1, Some(7)), "though the file still says it");
        assert_eq!(chosen(1, applied(2, 1, Some((1, NOW - 5)))), (1, Some(7)));
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_more_time_than_there_was() {
        let pending = Pending { back_to: String::new(), deadline: NOW + 1_000_000, patience: 60 };
        assert_eq!(pending.left(NOW), 60);
        assert_eq!(Pending { deadline: NOW + 7, ..pending }.left(NOW), 7);
    }

    #[test]
    fn what_cannot_be_used_any_more_gives_way_to_the_file() {
        let broken = Applied { revision: 7, text: "nonsense".to_owned(), seen: config(1), pending: None };
        assert_eq!(chosen(1, Some(broken.clone())), (1, None));
        let pending = applied(2, 1, Some((3, NOW + 30))).unwrap().pending;
        assert_eq!(
            chosen(1, Some(Applied { pending, ..broken })),
            (3, Some(7)),
            "if not to the one before it"
        );
    }

    #[test]
    fn a_file_that_is_refused_gives_way_to_what_was_in_force() {
        let broken = config(1).replace("weight = 1", "weight = zero");
        let chosen = |applied| choose(file(&broken), applied, NOW);
        let Err(refused) = chosen(None) else { panic!("there is nothing else") };
        assert!(refused.to_string().contains("weight"), "{refused}");
        let goes_on = chosen(applied(2, 1, None)).unwrap();
        assert_eq!((goes_on.text.text, goes_on.text.takes_back), (config(2), None));
        assert_eq!(goes_on.text.seen, config(1), "the file is still to be looked at");
        let problem = goes_on.problem.unwrap();
        assert!(
            problem.starts_with(
                "the file was refused at the start, so the config of revision 7 goes on: 1 problem in "
            ),
            "{problem}"
        );
        let overdue = chosen(applied(2, 1, Some((3, NOW)))).unwrap();
        assert_eq!(overdue.text.takes_back, Some((7, NOT_CONFIRMED)));
        assert_eq!(overdue.loaded.model.hosts["a"].weight, 3);
        let both = Applied { text: broken.clone(), ..applied(2, 1, None).unwrap() };
        assert!(chosen(Some(both)).is_err());
    }
}
