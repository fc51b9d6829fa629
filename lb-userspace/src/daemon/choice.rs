//! Which config a start goes by: the file, if it is new; else what was in force, which may have been applied from elsewhere.

use std::path::Path;

use crate::config::{self, ConfigErrors, Loaded, Machine};
use crate::engine::{NOT_APPLIED, NOT_CONFIRMED, Text};
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

/// What this machine may lack of what a config names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lacking {
    /// Such a config is refused.
    Nothing,
    /// What the page needs: the balancer works without, and a page that runs goes on.
    Page,
    /// Interfaces as well, which get the program when they come: of a config that has been in force, as a NIC that fails, or comes late, is
    /// no reason to leave the others alone.
    Interfaces,
}

/// Reads a text and holds it against this machine.
pub fn resolve(text: &str, name: &str, lacking: Lacking) -> anyhow::Result<(Loaded, Machine)> {
    let loaded = config::parse(text, name)?;
    let mut machine = machine::look(&loaded.model)?;
    if lacking >= Lacking::Page {
        machine.unusable_tls = None;
    }
    if lacking == Lacking::Interfaces {
        machine.await_interfaces(&loaded.model);
    }
    config::check_against_machine(&loaded, &machine)?;
    Ok((loaded, machine))
}

/// The daemon's own file, which is right.
pub fn of_file(path: &Path, lacking: Lacking) -> anyhow::Result<Chosen> {
    of_text(config::read(path)?, path, lacking)
}

/// The same, if what it says is in force by the journal: then interfaces may be missing.
pub fn as_before(path: &Path, applied: Option<&Applied>) -> Option<Chosen> {
    let text = config::read(path).ok()?;
    let applied = applied.filter(|applied| applied.text == text)?;
    of_text(text, path, lacking_of(applied)).ok()
}

/// One that was never put in force to its end is to be held against the machine as a new one.
fn lacking_of(applied: &Applied) -> Lacking {
    if applied.before.is_none() { Lacking::Interfaces } else { Lacking::Page }
}

fn of_text(text: String, path: &Path, lacking: Lacking) -> anyhow::Result<Chosen> {
    let (loaded, machine) = resolve(&text, &path.display().to_string(), lacking)?;
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
    let seen = seen.unwrap_or_else(|| applied.seen.clone());
    let is_expired = applied.pending.as_ref().is_some_and(|pending| pending.left(now) == 0);
    let before = applied.back_to().map(str::to_owned).map(|back_to| {
        let why = if is_expired { NOT_CONFIRMED } else { UNUSABLE };
        (back_to, Some((revision, why)), from_before(revision))
    });
    let lacking = lacking_of(&applied);
    let before = before.map(|before| (before, Lacking::Interfaces));
    let in_force = (applied.text, None, format!("config of revision {revision}"));
    let in_force = (!is_expired).then_some((in_force, lacking));
    for ((text, takes_back, name), lacking) in in_force.into_iter().chain(before) {
        if file.as_ref().is_ok_and(|file| file.text.text == text) {
            return file.map(|file| Chosen { text: Text { takes_back, ..file.text }, ..file });
        }
        match resolve(&text, &name, lacking) {
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

/// What goes on where the config that the journal says is in force could not be put in force, as nobody knew yet whether it can be: the
/// one before, if that can be used. `tried`: the one that failed.
pub fn instead(tried: &str, applied: Option<Applied>, failure: &str) -> Option<Chosen> {
    let applied = applied.filter(|applied| applied.text == tried)?;
    let (revision, text) = (applied.revision, applied.back_to()?.to_owned());
    let name = from_before(revision);
    let resolved = resolve(&text, &name, Lacking::Interfaces)
        .inspect_err(|error| log::warn!("the {name} cannot be used any more: {error:#}"));
    let (loaded, machine) = resolved.ok()?;
    let problem = Some(format!(
        "revision {revision} could not be put in force at the start, so the {name} goes on: {failure}"
    ));
    let text = Text { text, seen: applied.seen, takes_back: Some((revision, NOT_APPLIED)) };
    Some(Chosen { loaded, machine, text, problem })
}

fn from_before(revision: u64) -> String {
    format!("config from before revision {revision}")
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
        of_file(&path, Lacking::Nothing)
    }

    fn applied(weight: u32, seen: u32, pending: Option<(u32, u64)>) -> Option<Applied> {
        let pending =
            pending.map(|(back_to, deadline)| Pending { back_to: config(back_to), deadline, patience: 60 });
        Some(Applied { revision: 7, text: config(weight), seen: config(seen), pending, before: None })
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
    fn a_certificate_that_is_of_no_use_keeps_only_what_is_new_from_being_used() {
        let text = format!(
            "{}[ui]\nlisten = \"127.0.0.1:8080\"\ncertificate = \"/no/such/file\"\nkey = \"/nor/this\"\n",
            config(1)
        );
        let refused = resolve(&text, "f", Lacking::Nothing).err().map(|error| format!("{error:#}"));
        assert!(refused.as_ref().is_some_and(|told| told.contains("ui.certificate")), "{refused:?}");
        assert!(resolve(&text, "f", Lacking::Page).is_ok());
        let in_force = Applied { revision: 7, text: text.clone(), seen: text, pending: None, before: None };
        let broken = file(&config(1).replace("weight = 1", "weight = zero"));
        assert!(choose(broken, Some(in_force), NOW).is_ok(), "what was in force goes on");
    }

    #[test]
    fn an_interface_that_is_missing_keeps_only_what_is_new_from_being_used() {
        let text = |weight: u32| config(weight).replace("[\"lo\"]", "[\"lo\", \"nowhere0\"]");
        let refused = file(&text(1)).err().map(|error| format!("{error:#}"));
        assert!(refused.as_ref().is_some_and(|told| told.contains("\"nowhere0\"")), "{refused:?}");
        let applied = |weight, before: Option<u32>| Applied {
            revision: 7,
            text: text(weight),
            seen: text(weight),
            pending: None,
            before: before.map(config),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, text(1)).unwrap();
        let chosen = as_before(&path, Some(&applied(1, None))).expect("it has been in force");
        assert_eq!(chosen.machine.awaited, ["nowhere0".to_owned()].into());
        let chosen = choose(Ok(chosen), Some(applied(1, None)), NOW).unwrap();
        assert!(chosen.problem.is_none(), "nothing is wrong with the file");
        assert!(as_before(&path, Some(&applied(2, None))).is_none(), "the file says something else");
        assert!(
            as_before(&path, Some(&applied(1, Some(3)))).is_none(),
            "it was never put in force to its end"
        );
        assert!(as_before(&path, None).is_none());
        // Then what was in force goes on, and its interface is awaited.
        let chosen = choose(file(&text(1)), Some(applied(2, None)), NOW).unwrap();
        assert_eq!((chosen.loaded.model.hosts["a"].weight, chosen.machine.awaited.len()), (2, 1));
        let chosen = choose(file(&text(1)), Some(applied(1, Some(3))), NOW).unwrap();
        assert_eq!(chosen.loaded.model.hosts["a"].weight, 3, "that was in force to its end");
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
        let broken = Applied {
            revision: 7,
            text: "nonsense".to_owned(),
            seen: config(1),
            pending: None,
            before: None,
        };
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
        let untried = Applied { pending: None, before: Some(config(3)), ..applied(2, 1, None).unwrap() };
        assert_eq!(chosen(Some(untried)).unwrap().text.text, config(2), "it may well be put in force");
        let both = Applied { text: broken.clone(), ..applied(2, 1, None).unwrap() };
        assert!(chosen(Some(both)).is_err());
    }

    #[test]
    fn what_cannot_be_put_in_force_gives_way_to_what_was_before() {
        let instead = |tried: u32, applied| instead(&config(tried), applied, "no such device");
        assert!(instead(2, None).is_none());
        assert!(instead(2, applied(2, 1, None)).is_none(), "it has been in force");
        let untried = Applied { before: Some(config(3)), ..applied(2, 1, None).unwrap() };
        assert!(instead(4, Some(untried.clone())).is_none(), "the file is news, and wrong");
        let waiting = applied(2, 1, Some((3, NOW + 30))).unwrap();
        for applied in [untried, waiting] {
            let chosen = instead(2, Some(applied)).unwrap();
            assert_eq!((chosen.text.text, chosen.text.seen), (config(3), config(1)));
            assert_eq!(chosen.text.takes_back, Some((7, NOT_APPLIED)));
            let problem = chosen.problem.unwrap();
            assert!(
                problem.ends_with("so the config from before revision 7 goes on: no such device"),
                "{problem}"
            );
        }
        let broken = Applied { before: Some("nonsense".to_owned()), ..applied(2, 1, None).unwrap() };
        assert!(instead(2, Some(broken)).is_none());
    }
}
