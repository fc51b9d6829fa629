//! Where `[metrics]` listens, as the config in force has it.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::api::server;
use crate::engine::Handle;

/// Scrapers that may wait to be answered.
const QUEUE: u32 = 16;

pub struct Scrapes {
    engine: Handle,
    running: Option<(SocketAddr, JoinHandle<()>)>,
}

/// Bound for a config that is yet to be put in force. `None`: what there is will do.
pub struct Prepared(Option<Option<TcpListener>>);

/// Takes the address, so that a config is refused that names one that cannot be had.
pub fn bind(listen: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let bind = |address: SocketAddr| -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(QUEUE)
    };
    listen
        .map(|address| {
            bind(address).with_context(|| {
                format!(
                    "[metrics] cannot listen on {address}: name an address of this machine and a free port"
                )
            })
        })
        .transpose()
}

impl Scrapes {
    pub fn start(listener: Option<TcpListener>, engine: Handle) -> Self {
        let mut scrapes = Scrapes { engine, running: None };
        scrapes.serve(listener);
        scrapes
    }

    pub fn prepare(&self, listen: Option<SocketAddr>) -> anyhow::Result<Prepared> {
        let is_as_before = self.running.as_ref().map(|(address, _)| *address) == listen;
        Ok(Prepared(if is_as_before { None } else { Some(bind(listen)?) }))
    }

    /// The config is in force.
    pub fn take(&mut self, prepared: Prepared) {
        if let Prepared(Some(listener)) = prepared {
            self.serve(listener);
        }
    }

    fn serve(&mut self, listener: Option<TcpListener>) {
        if let Some((_, before)) = self.running.take() {
            before.abort();
        }
        let Some(listener) = listener else { return };
        // A listener knows its address.
        let Ok(address) = listener.local_addr() else { return };
        log::info!("metrics on http://{address}/metrics");
        self.running = Some((address, tokio::spawn(server::serve_metrics(listener, self.engine.clone()))));
    }
}

impl Drop for Scrapes {
    fn drop(&mut self) {
        self.serve(None);
    }
}
