//! The page for browsers, as the config has it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::api::server::ui::tls::Tls;
use crate::api::server::ui::token::Tokens;
use crate::api::server::ui::{self, Page};
use crate::config::must_be_private;
use crate::engine::Handle;
use crate::model::Ui;

/// Connections that may wait to be taken.
const QUEUE: u32 = 64;

/// Makes ready what serves the page, before anything is changed; `None`: it is not wanted. `listen` is from the command line, and stands
/// above the config.
///
/// # Errors
/// The address cannot be had, or takes TLS, or a file is not as it should be: with what to do.
pub fn prepare(
    instance: &str,
    state: &Path,
    ui: &Ui,
    listen: Option<SocketAddr>,
) -> anyhow::Result<Option<Page>> {
    let Some(address) = listen.or(ui.listen) else { return Ok(None) };
    if ui.tls.is_none()
        && let Some((problem, mend)) = must_be_private(address)
    {
        bail!("{problem}: {mend}");
    }
    let tls = ui.tls.as_ref().map(Tls::open).transpose()?;
    let token_file = ui.token_file.clone().unwrap_or_else(|| state.join(format!("{instance}.token")));
    let tokens = Tokens::open(token_file)?;
    let listener = bind(address).with_context(|| {
        format!("cannot listen on {address}: name an address of this machine and a free port")
    })?;
    let is_private = must_be_private(address).is_none();
    let open_to_look = is_private && !ui.token_to_look;
    Ok(Some(Page { listener, tls, tokens, names: ui.names.clone(), open_to_look }))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// What has come of [`prepare`]. Without a page a balancer is still a balancer: one that has been in force before goes on without it.
pub enum Outcome {
    Ready(Box<Page>),
    Unwanted,
    /// Why there is none, with what to do.
    Faulty(String),
}

impl Outcome {
    /// # Errors
    /// As [`prepare`], unless `goes_on`.
    pub fn of(prepared: anyhow::Result<Option<Page>>, goes_on: bool) -> anyhow::Result<Outcome> {
        match prepared {
            Ok(Some(page)) => Ok(Outcome::Ready(Box::new(page))),
            Ok(None) => Ok(Outcome::Unwanted),
            Err(error) if goes_on => Ok(Outcome::Faulty(problem(&error))),
            Err(error) => Err(error.context("[ui] cannot be served")),
        }
    }
}

fn problem(error: &anyhow::Error) -> String {
    format!("the page is not served until [ui] is right, and the config is read again (reload): {error:#}")
}

/// The page of a daemon, or the wish for one.
pub struct Keeper {
    instance: String,
    state: PathBuf,
    engine: Handle,
    /// As the config in force has it.
    ui: Ui,
    running: Option<JoinHandle<()>>,
    is_faulty: bool,
}

impl Keeper {
    /// Serves what is ready.
    pub async fn start(instance: &str, state: &Path, ui: Ui, outcome: Outcome, engine: Handle) -> Keeper {
        let (instance, state) = (instance.to_owned(), state.to_owned());
        let mut keeper = Keeper { instance, state, engine, ui, running: None, is_faulty: false };
        keeper.take(outcome).await;
        keeper
    }

    /// It could not be served.
    pub fn is_faulty(&self) -> bool {
        self.is_faulty
    }

    /// Another config is in force. A page that runs goes on as it is until the daemon's next start.
    pub fn another(&mut self, ui: &Ui) {
        self.ui = ui.clone();
    }

    /// Tries once more where the page could not be served.
    pub async fn again(&mut self) {
        if self.is_faulty {
            let prepared = prepare(&self.instance, &self.state, &self.ui, None);
            let outcome = match prepared {
                Ok(Some(page)) => Outcome::Ready(Box::new(page)),
                Ok(None) => Outcome::Unwanted,
                Err(error) => Outcome::Faulty(problem(&error)),
            };
            self.take(outcome).await;
        }
    }

    async fn take(&mut self, outcome: Outcome) {
        let problem = match outcome {
            Outcome::Ready(page) => {
                self.running = Some(start(*page, self.engine.clone()));
                None
            }
            Outcome::Unwanted => None,
            Outcome::Faulty(problem) => {
                log::error!("{problem}");
                Some(problem)
            }
        };
        self.is_faulty = problem.is_some();
        // An engine that has ended has nothing to show.
        let _ = self.engine.ask(move |engine| engine.note_page(problem)).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// Serves it as long as the task lives.
fn start(page: Page, engine: Handle) -> JoinHandle<()> {
    let scheme = if page.tls.is_some() { "https" } else { "http" };
    // A listener knows its address.
    if let Ok(address) = page.listener.local_addr() {
        log::info!("the page is on {scheme}://{address}/");
    }
    tokio::spawn(ui::serve(page, engine))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener as Taken;

    use super::*;

    fn ui(listen: SocketAddr) -> Ui {
        Ui { listen: Some(listen), ..Ui::default() }
    }

    #[tokio::test]
    async fn a_page_that_cannot_be_served_stops_first_starts_alone_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let taken = Taken::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let prepared = || prepare("x", folder.path(), &ui(address), None);
        let Err(strict) = Outcome::of(prepared(), false) else { panic!("the port is taken") };
        assert!(format!("{strict:#}").starts_with("[ui] cannot be served: cannot listen on"), "{strict:#}");
        let outcome = Outcome::of(prepared(), true).unwrap();
        let Outcome::Faulty(told) = &outcome else { panic!("the port is taken") };
        assert!(
            told.contains("read again") && told.contains("name an address of this machine and a free port"),
            "{told}"
        );

        let mut keeper = Keeper::start("x", folder.path(), ui(address), outcome, Handle::detached()).await;
        keeper.again().await;
        assert!(keeper.running.is_none() && keeper.is_faulty, "it is still taken");
        // A config that names another, and one that wants none.
        keeper.another(&Ui::default());
        drop(taken);
        keeper.again().await;
        assert!(keeper.running.is_none() && !keeper.is_faulty);
        keeper.is_faulty = true;
        keeper.another(&ui(address));
        keeper.again().await;
        assert!(keeper.running.is_some() && !keeper.is_faulty);
        tokio::net::TcpStream::connect(address).await.unwrap();
        let first = keeper.running.as_ref().map(JoinHandle::id);
        keeper.again().await;
        assert_eq!(keeper.running.as_ref().map(JoinHandle::id), first, "what runs is left alone");
    }
}
