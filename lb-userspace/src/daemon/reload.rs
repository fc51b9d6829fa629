//! Configs that come while the daemon runs, one after the other: from the API, with SIGHUP, and back again when nobody has confirmed
//! one in time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::choice::{Lacking, problems, resolve};
use super::page::Keeper;
use super::scrapes::{self, Scrapes};
use super::supervisor::Supervisor;
use super::surroundings::Surroundings;
use crate::api::types::{Applied, ApplyRequest, RollbackRequest};
use crate::config;
use crate::engine::{Ask, Engine, Error, Handle, How, Resolved};
use crate::journal::Kind;
use crate::plan::abilities;

/// After a rollback that did not work.
const AGAIN: Duration = Duration::from_secs(5);

/// What a signal's author is called.
const BY_SIGNAL: &str = "SIGHUP";

/// The task.
pub struct Reloader {
    /// The daemon's own.
    pub file: PathBuf,
    pub engine: Handle,
    pub surroundings: Surroundings,
    pub scrapes: Scrapes,
    pub supervisor: Supervisor,
    pub page: Keeper,
}

impl Reloader {
    /// Until the engine has ended.
    pub async fn run(mut self, mut asks: mpsc::Receiver<Ask>, mut hangup: Signal) {
        let mut pause = Duration::ZERO;
        loop {
            let Ok(unconfirmed) = self.engine.ask(|engine| engine.time_to_confirm()).await else { return };
            let deadline = async {
                match unconfirmed {
                    Some((_, left)) => tokio::time::sleep(Duration::from_secs(left).max(pause)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask).await,
                    None => return,
                },
                _ = hangup.recv() => self.reload().await,
                () = tokio::time::sleep(scrapes::AGAIN), if self.scrapes.are_missing() => self.scrapes.again().await,
                () = deadline => {
                    let done = self.go_back_in_time().await;
                    pause = if done.is_ok() { Duration::ZERO } else { AGAIN };
                    let problem = done.err().map(|error| {
                        log::error!("a config that nobody has confirmed could not be taken back yet: {error}");
                        error.problems().into_iter().chain([error.to_string()]).collect::<Vec<_>>().join("; ")
                    });
                    // An engine that has ended has nothing to show.
                    let _ = self.engine.ask(move |engine| engine.note_way_back(problem)).await;
                }
            }
        }
    }

    async fn answer(&mut self, ask: Ask) {
        // Whoever asked may be gone.
        match ask {
            Ask::Apply(request, author, answer) => {
                let _ = answer.send(self.apply(request, author).await);
            }
            Ask::Rollback(request, author, answer) => {
                let _ = answer.send(self.roll_back(request, author).await);
            }
            Ask::Confirm(request, author, answer) => {
                let confirmed = self.ask(move |engine| engine.confirm(&request, &author)).await;
                let _ = answer.send(confirmed);
            }
        }
    }

    async fn apply(&mut self, request: ApplyRequest, author: String) -> Result<Applied, Error> {
        let file = request.file.unwrap_or_else(|| "the request".to_owned());
        let how = How {
            kind: Kind::Apply,
            is_own: is_same(&self.file, Path::new(&file)),
            file: file.clone(),
            confirm: request.confirm,
            about: None,
            dry_run: request.dry_run,
            author,
            reason: request.reason,
        };
        self.put_in_force(request.config, &file, how).await
    }

    async fn roll_back(&mut self, request: RollbackRequest, author: String) -> Result<Applied, Error> {
        let wanted = request.revision;
        let ((revision, text), about) =
            self.ask(move |engine| Ok((engine.earlier_config(wanted)?, engine.revision_in_force()))).await?;
        let name = format!("revision {revision}");
        let how = How {
            kind: Kind::Rollback,
            is_own: false,
            file: name.clone(),
            confirm: request.confirm,
            about: Some(about),
            dry_run: request.dry_run,
            author,
            reason: request.reason,
        };
        self.put_in_force(text, &name, how).await
    }

    /// Takes the config in force back if its time to be confirmed is over.
    async fn go_back_in_time(&mut self) -> Result<(), Error> {
        let Some((revision, text)) = self.ask(|engine| engine.overdue()).await? else { return Ok(()) };
        let name = format!("the config before revision {revision}");
        let how = Engine::taking_back(revision, &name);
        log::warn!("revision {revision} was not confirmed in time: the config before it comes back");
        self.put_in_force(text, &name, how).await.map(|_| ())
    }

    /// Reads the daemon's own file again. A broken one changes nothing.
    async fn reload(&mut self) {
        log::info!("SIGHUP: reading {} again", self.file.display());
        let supervisor = self.supervisor.clone();
        let _reloading = supervisor.reloading();
        let name = self.file.display().to_string();
        let how = How {
            kind: Kind::Apply,
            is_own: true,
            file: name.clone(),
            confirm: None,
            about: None,
            dry_run: false,
            author: BY_SIGNAL.to_owned(),
            reason: None,
        };
        let applied = match config::read(&self.file) {
            Ok(text) => self.put_in_force(text, &name, how).await,
            Err(errors) => Err(Error::config(errors)),
        };
        let is_new = matches!(&applied, Ok(Applied { revision: Some(_), .. }));
        let problem = match applied {
            Ok(Applied { revision: Some(revision), .. }) => {
                log::info!("{name} is in force, as revision {revision}");
                None
            }
            Ok(_) => {
                log::info!("{name} is in force already");
                None
            }
            Err(error) => {
                let problems = error.problems();
                for problem in &problems {
                    log::error!("{problem}");
                }
                log::error!("{error}");
                Some(format!("the last reload was refused: {error}"))
            }
        };
        // An engine that has ended has nothing to show.
        let _ = self.engine.ask(move |engine| engine.note_reload(problem)).await;
        // Its files may be right by now, whatever became of the config. (With a new one it has been tried.)
        if !is_new {
            self.page.again().await;
        }
    }

    async fn put_in_force(&mut self, text: String, name: &str, how: How) -> Result<Applied, Error> {
        let (read, name) = (text.clone(), name.to_owned());
        // On the way back, and where there is no page already, nothing else is to wait for one.
        let is_back = matches!(how.kind, Kind::Rollback);
        let is_spared = self.page.is_faulty();
        let lacking = match (is_back, is_spared) {
            (true, _) => Lacking::Interfaces,
            (false, true) => Lacking::Page,
            (false, false) => Lacking::Nothing,
        };
        let resolved = tokio::task::spawn_blocking(move || resolve(&read, &name, lacking)).await;
        let resolved = resolved.map_err(|error| Error::Network(error.to_string()))?;
        let (loaded, machine) = resolved.map_err(|error| match problems(error) {
            Ok(errors) => Error::config(errors),
            Err(error) => Error::Network(error),
        })?;
        let model = loaded.model;
        let scrapes = self.scrapes.prepare(model.metrics.listen, is_back);
        let scrapes = scrapes.map_err(|error| Error::Network(format!("{error:#}")))?;
        let prepared = self.surroundings.prepare(&model).await;
        let new = Resolved {
            text,
            model: model.clone(),
            abilities: abilities(&model, &machine),
            awaited: machine.awaited,
            relay: self.surroundings.view(&prepared),
        };
        match self.ask(move |engine| engine.apply(new, &how)).await {
            Ok(applied) if applied.revision.is_some() => {
                self.surroundings.take(prepared, &model);
                self.scrapes.take(scrapes).await;
                self.page.another(&model.ui);
                self.page.again().await;
                Ok(applied)
            }
            other => {
                self.surroundings.forget(prepared);
                other
            }
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.engine.ask(work).await.map_err(|ending| Error::Network(ending.to_string()))?
    }
}

/// Whether a file that is named by its absolute path is the daemon's own, which may be a symbolic link.
fn is_same(own: &Path, named: &Path) -> bool {
    own == named || own.canonicalize().is_ok_and(|own| own == named)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_daemons_own_file_is_what_its_link_leads_to_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().canonicalize().unwrap().join(name);
        let (own, one, other) = (path("sluice.toml"), path("41.toml"), path("42.toml"));
        std::fs::write(&one, "").unwrap();
        std::fs::write(&other, "").unwrap();
        let look = || [&own, &one, &other].map(|named| is_same(&own, named));
        assert_eq!(look(), [true, false, false], "it is gone for a moment");
        symlink(&one, &own).unwrap();
        assert_eq!(look(), [true, true, false]);
        std::fs::remove_file(&own).unwrap();
        symlink("42.toml", &own).unwrap();
        assert_eq!(look(), [true, false, true]);
        assert!(!is_same(&own, Path::new("the request")));
    }
}
