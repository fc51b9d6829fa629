//! nginx on a host: says the host's name, serves a large file, and the same slowly.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::topology::{Node, Process, Topology};

/// Length of `/big` and `/slow`.
pub const BIG_FILE_BYTES: usize = 10 << 20;
/// Pace of `/slow` unless `?rate=` says another, in bytes a second.
pub const SLOW_BYTES_PER_SECOND: u32 = 64 << 10;

/// How long a server may take until it accepts.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running nginx of one process; killed when dropped.
///
/// Answers `/` with the host's name and a newline, `/big` with [`BIG_FILE_BYTES`] bytes that repeat 0 to 250, and
/// `/slow` with the same at [`SLOW_BYTES_PER_SECOND`] (`/slow?rate=BYTES` at another pace). The header `X-Host` names
/// the host in each answer.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx on `host`, on port 80 of the host's own addresses and of `vips`, and waits until it accepts on
    /// all of them.
    pub fn start(host: &Node, vips: &[IpAddr]) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{}-{}-nginx.", host.ns.owner(), host.name))
            .tempdir()
            .context("cannot make a folder for nginx")?;
        let own = host.ipv4.iter().map(|&a| a.into()).chain(host.ipv6.iter().map(|&a| a.into()));
        let listen =
            own.chain(vips.iter().copied()).map(|address| SocketAddr::new(address, 80)).collect::<Vec<_>>();
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, config_text(&host.name, folder.path(), &listen))
            .context("cannot write nginx.conf")?;
        let big = (0..BIG_FILE_BYTES).map(|position| (position % 251) as u8).collect::<Vec<_>>();
        std::fs::write(folder.path().join("big"), big).context("cannot write the large file")?;

        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(folder.path().join("error.log"));
        command.stdin(std::process::Stdio::null());
        let nginx = Self { process: host.ns.spawn(command).context("is nginx installed?")?, folder };
        host.ns.enter(|| nginx.wait_until_it_accepts(&listen))??;
        Ok(nginx)
    }

    /// Starts one on each host of `topology`, for all of its VIPs.
    pub fn start_on_all(topology: &Topology) -> Result<Vec<Self>> {
        topology.hosts().iter().map(|host| Self::start(host, topology.vips())).collect()
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What nginx had to complain about.
    pub fn error_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    fn wait_until_it_accepts(&self, listen: &[SocketAddr]) -> Result<()> {
        let begin = Instant::now();
        for address in listen {
            while let Err(error) = TcpStream::connect_timeout(address, Duration::from_secs(1)) {
                if !self.process.is_running() || begin.elapsed() > START_LIMIT {
                    bail!("nginx does not accept on {address} ({error}): {}", self.error_log());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

/// `master_process off`: workers would outlive a master that is killed.
fn config_text(name: &str, folder: &Path, listen: &[SocketAddr]) -> String {
    let folder = folder.display();
    let mut listeners = String::new();
    for address in listen {
        let v6only = if address.is_ipv6() { " ipv6only=on" } else { "" };
        writeln!(listeners, "    listen {address} backlog=65535{v6only};").expect("a string takes all");
    }
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; multi_accept on; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  default_type application/octet-stream;
  keepalive_requests 1000000;
  map $arg_rate $rate {{ default $arg_rate; '' {SLOW_BYTES_PER_SECOND}; }}
  server {{
{listeners}    root {folder};
    add_header X-Host {name} always;
    location = / {{ default_type text/plain; return 200 '{name}\\n'; }}
    location = /big {{ }}
    location = /slow {{ alias {folder}/big; limit_rate $rate; }}
    location / {{ return 404; }}
  }}
}}
"
    )
}
