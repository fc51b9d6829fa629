//! The page for browsers, as the config has it.

use std::net::SocketAddr;
use std::path::Path;

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

/// Serves it as long as the task lives.
pub fn start(page: Page, engine: Handle) -> JoinHandle<()> {
    let scheme = if page.tls.is_some() { "https" } else { "http" };
    // A listener knows its address.
    if let Ok(address) = page.listener.local_addr() {
        log::info!("the page is on {scheme}://{address}/");
    }
    tokio::spawn(ui::serve(page, engine))
}
