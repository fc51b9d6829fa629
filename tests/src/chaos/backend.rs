//! The servers of a host, as processes that can be killed and stopped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::servers::Nginx;
use crate::topology::{Namespace, Node, Process};
use crate::traffic::{EchoServer, UdpEchoServer};

/// What the process says once it serves.
const READY: &str = "ready";

/// nginx, and echo servers for TCP and UDP.
#[derive(Debug)]
pub struct Backend {
    host: Node,
    /// Addresses and port of the echo servers.
    at: [SocketAddr; 2],
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    nginx: Nginx,
    echo: Process,
}

impl Backend {
    /// Starts them on `host`; they answer at these addresses when this returns.
    pub fn start(host: &Node, at: [SocketAddr; 2]) -> Result<Self> {
        let mut backend = Backend { host: host.clone(), at, running: None };
        backend.revive()?;
        Ok(backend)
    }

    /// As the host's end would.
    pub fn crash(&mut self) {
        if let Some(Running { nginx, echo }) = self.running.take() {
            echo.kill();
            nginx.process().kill();
        }
    }

    /// Starts them again.
    pub fn revive(&mut self) -> Result<()> {
        let mut command = Command::new(std::env::current_exe().context("which program is this?")?);
        command.args(["--backend", &self.host.name]).args(self.at.map(|address| format!("--at={address}")));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let echo = self.host.ns.spawn(command)?;
        let out = echo.take_output().0.context("the echo servers have no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).context("the echo servers say nothing")?;
        ensure!(line.trim() == READY, "the echo servers of {} do not start: {line:?}", self.host.name);
        let vips = self.at.map(|address| address.ip());
        let own = |ip: &std::net::IpAddr| {
            self.host.ipv4.iter().any(|own| ip == own) || self.host.ipv6.iter().any(|own| ip == own)
        };
        // nginx is on the host's own addresses anyway.
        let vips: Vec<_> = vips.into_iter().filter(|ip| !own(ip)).collect();
        self.running = Some(Running { nginx: Nginx::start(&self.host, &vips)?, echo });
        Ok(())
    }

    /// Lets them stand still.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match &self.running {
            Some(Running { nginx, echo }) => {
                nginx.process().signal(signal).and_then(|()| echo.signal(signal))
            }
            None => Ok(()),
        }
    }
}

/// The process of the echo servers: serves until it is killed.
pub fn serve(name: &str, at: &[SocketAddr]) -> Result<()> {
    let here = Namespace::current()?;
    let _tcp = EchoServer::start(&here, name, at, 1)?;
    let _udp = UdpEchoServer::start(&here, name, at)?;
    println!("{READY}");
    loop {
        std::thread::park();
    }
}
