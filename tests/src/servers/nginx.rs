//! nginx on a host: says the host's name, serves a large file, and the same slowly, and takes uploads.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::topology::{Node, Process, Topology};

/// Length of `/big` and `/slow`.
pub const BIG_FILE_BYTES: usize = 20 << 20;
/// Pace of `/slow` unless `?rate=` says another, in bytes a second.
pub const SLOW_BYTES_PER_SECOND: u32 = 64 << 10;

/// TCP ports of HTTP/1.1, the usual one first, and of HTTP/2 without TLS.
const HTTP: [u16; 2] = [80, 8080];
const HTTP2: u16 = 81;

/// A running nginx of one process; killed when dropped.
///
/// Answers `/` with the host's name and a newline, `/big` with [`BIG_FILE_BYTES`] bytes that repeat 0 to 250, and
/// `/slow` with the same at [`SLOW_BYTES_PER_SECOND`] (`/slow?rate=BYTES` at another pace). What is posted to
/// `/post?name=NAME` is kept. The headers `X-Host` and `X-Port` name the host and its port in each answer.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx on `host`, on the host's own addresses and `vips`: HTTP/1.1 on ports 80 and 8080, HTTP/2 with prior
    /// knowledge on port 81; and waits until it accepts on all of them.
    pub fn start(host: &Node, vips: &[IpAddr]) -> Result<Self> {
        Self::start_version(host, vips, "1")
    }

    /// As [`start`](Self::start), and says this at `/version`. One that is not a word makes a config that nginx refuses.
    pub fn start_version(host: &Node, vips: &[IpAddr], version: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{}-{}-nginx.", host.ns.owner(), host.name))
            .tempdir()
            .context("cannot make a folder for nginx")?;
        let own = host.ipv4.iter().map(|&a| a.into()).chain(host.ipv6.iter().map(|&a| a.into()));
        let at =
            |address: IpAddr| HTTP.into_iter().chain([HTTP2]).map(move |port| SocketAddr::new(address, port));
        let listen = own.chain(vips.iter().copied()).flat_map(at).collect::<Vec<_>>();
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, config_text(&host.name, version, folder.path(), &listen))
            .context("cannot write nginx.conf")?;
        std::fs::write(folder.path().join("big"), pattern(BIG_FILE_BYTES))
            .context("cannot write the large file")?;
        std::fs::create_dir(folder.path().join("kept")).context("cannot make a folder for uploads")?;

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

    /// What was posted by this name, if it came to this host.
    pub fn kept(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join("kept").join(name)).ok()
    }

    /// What nginx had to complain about.
    pub fn error_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    fn wait_until_it_accepts(&self, listen: &[SocketAddr]) -> Result<()> {
        let begin = Instant::now();
        for address in listen {
            while let Err(error) = TcpStream::connect_timeout(address, Duration::from_secs(1)) {
                if !self.process.is_running() || begin.elapsed() > crate::LIMIT {
                    bail!("nginx does not accept on {address} ({error}): {}", self.error_log());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

/// So many bytes, which repeat 0 to 250.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(length / 251 + 1);
    bytes.truncate(length);
    bytes
}

/// A request that posts is handed to a server inside as one that puts, which nginx can do by itself.
///
/// `master_process off`: workers would outlive a master that is killed.
fn config_text(name: &str, version: &str, folder: &Path, listen: &[SocketAddr]) -> String {
    let folder = folder.display();
    let mut listeners = String::new();
    for address in listen {
        let v6only = if address.is_ipv6() { " ipv6only=on" } else { "" };
        let http2 = if address.port() == HTTP2 { " http2" } else { "" };
        writeln!(listeners, "    listen {address} backlog=65535{v6only}{http2};")
            .expect("a string takes all");
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
    add_header X-Port $server_port always;
    client_max_body_size 64m;
    location = / {{ default_type text/plain; return 200 '{name}\\n'; }}
    location = /version {{ default_type text/plain; return 200 '{version}\\n'; }}
    location = /big {{ }}
    location = /slow {{ alias {folder}/big; limit_rate $rate; }}
    location = /post {{ proxy_method PUT; proxy_pass http://unix:{folder}/inside:/kept/$arg_name; }}
    location / {{ return 404; }}
  }}
  server {{
    listen unix:{folder}/inside;
    root {folder};
    client_max_body_size 64m;
    location /kept/ {{ dav_methods PUT; }}
  }}
}}
"
    )
}
