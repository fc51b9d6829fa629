//! Which config a start goes by: the file, if it is new; else what was in force, which may have been applied from elsewhere.

use std::path::Path;

use crate::config::{self, ConfigErrors, Loaded, Machine};
use crate::engine::Text;
use crate::journal::Applied;

use super::machine;

/// A config that is right, for this machine too.
pub struct Chosen {
    pub loaded: Loaded,
    pub machine: Machine,
    pub text: Text,
}

/// Reads a text and holds it against this machine.
pub fn resolve(text: &str, name: &str) -> anyhow::Result<(Loaded, Machine)> {
    let loaded = config::parse(text, name)?;
    let machine = machine::look(&loaded.model)?;
    config::check_against_machine(&loaded, &machine)?;
    Ok((loaded, machine))
}

/// The daemon's own file, which is right.
pub fn of_file(path: &Path) -> anyhow::Result<Chosen> {
    let text = config::read(path)?;
    let (loaded, machine) = resolve(&text, &path.display().to_string())?;
    Ok(Chosen { loaded, machine, text: Text { seen: text.clone(), text, takes_back: None } })
}

/// `file`, or what the journal says was in force when nobody has touched the file since it was looked at last.
pub fn choose(file: Chosen, applied: Option<Applied>, now: u64) -> Chosen {
    let Some(applied) = applied.filter(|applied| applied.seen == file.text.seen) else { return file };
    let expired = applied.pending.filter(|pending| pending.left(now) == 0);
    let (text, takes_back) = match expired {
        Some(pending) => (pending.back_to, Some(applied.revision)),
        None => (applied.text, None),
    };
    if text == file.text.text {
        return Chosen { text: Text { takes_back, ..file.text }, ..file };
    }
    let name = match takes_back {
        Some(revision) => format!("config from before revision {revision}"),
        None => format!("config of revision {}", applied.revision),
    };
    match resolve(&text, &name) {
        Ok((loaded, machine)) => {
            log::info!("the {name} goes on, as the file has not changed since");
            Chosen { loaded, machine, text: Text { text, seen: file.text.seen, takes_back } }
        }
        Err(error) => {
            log::warn!("the {name} cannot be used any more, so the file is: {error}");
            file
        }
    }
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

    fn file(weight: u32) -> Chosen {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, config(weight)).unwrap();
        of_file(&path).unwrap()
    }

    fn applied(weight: u32, seen: u32, pending: Option<(u32, u64)>) -> Option<Applied> {
        let pending =
            pending.map(|(back_to, deadline)| Pending { back_to: config(back_to), deadline, patience: 60 });
        Some(Applied { revision: 7, text: config(weight), seen: config(seen), pending })
    }

    /// The weight that is chosen, and the revision that is taken back.
    fn chosen(file_weight: u32, applied: Option<Applied>) -> (u16, Option<u64>) {
        let chosen = choose(file(file_weight), applied, NOW);
        assert_eq!(chosen.text.seen, config(file_weight));
        assert_eq!(chosen.text.text, config(chosen.loaded.model.hosts["a"].weight.into()));
        (chosen.loaded.model.hosts["a"].weight, chosen.text.takes_back)
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
        assert_eq!(chosen(1, Some(broken)), (1, None));
    }
}
