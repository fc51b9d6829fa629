//! The traffic tools as a program: echo servers and accounting clients, in a network namespace if one is named.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use sluice_tests::topology::Namespace;
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, EchoServer, Requests, RequestsOptions, UdpEchoServer, UdpFlows,
    UdpFlowsOptions,
};

/// Makes traffic whose every message is accounted for, and prints its counts.
///
/// Each second, and at the end, a line with the counts in JSON. Ends after the time given, or in an orderly way on
/// SIGINT or SIGTERM. A client's exit status is 1 when anything was broken, lost or failed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Named network namespace to work in; without it the present one.
    #[arg(long, global = true)]
    netns: Option<String>,
    /// Seconds until the end.
    #[arg(long, global = true, default_value_t = 60.0)]
    duration: f64,
    /// Print only the last line.
    #[arg(long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// TCP server that says its name and echoes.
    ServeTcp(Server),
    /// UDP server that answers with its name and the datagram.
    ServeUdp(Server),
    /// Long TCP connections to an echo server.
    Connections {
        #[command(flatten)]
        client: Client,
        /// Connections to open.
        #[arg(long, default_value_t = 100)]
        count: usize,
        /// New connections a second.
        #[arg(long, default_value_t = 4000)]
        open_rate: u32,
        /// Milliseconds between two messages of a connection.
        #[arg(long, default_value_t = 1000)]
        interval: u64,
        /// Length of a message.
        #[arg(long, default_value_t = 64)]
        bytes: usize,
    },
    /// UDP flows to an echo server.
    Udp {
        #[command(flatten)]
        client: Client,
        /// Flows to open.
        #[arg(long, default_value_t = 100)]
        count: usize,
        /// Milliseconds between two datagrams of a flow.
        #[arg(long, default_value_t = 1000)]
        interval: u64,
        /// Payload of a datagram.
        #[arg(long, default_value_t = 32)]
        bytes: usize,
    },
    /// Short HTTP requests, each over a connection of its own.
    Requests {
        #[command(flatten)]
        client: Client,
        /// Requests to make.
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
        /// Requests a second, 0 for as many as can be.
        #[arg(long, default_value_t = 200)]
        rate: u32,
        /// Requests under way at most.
        #[arg(long, default_value_t = 16)]
        concurrency: usize,
        /// Path to ask for.
        #[arg(long, default_value = "/")]
        path: String,
    },
}

#[derive(Args)]
struct Server {
    /// Name to answer with.
    #[arg(long)]
    name: String,
    /// Threads of the TCP server; each holds as many connections as a process may have open files.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Addresses to listen on, such as `198.51.100.1:7` or `[2001:db8::1]:7`.
    #[arg(required = true)]
    listen: Vec<SocketAddr>,
}

#[derive(Args)]
struct Client {
    /// Address and port to talk to.
    target: SocketAddr,
    /// Source addresses, taken in turns.
    #[arg(long)]
    source: Vec<IpAddr>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let namespace = match &arguments.netns {
        Some(name) => Namespace::open(name, "")?,
        None => Namespace::current()?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let signal = stop.clone();
    ctrlc::set_handler(move || signal.store(true, Ordering::Relaxed)).context("cannot handle signals")?;
    let watch = Watch {
        end: Instant::now() + Duration::from_secs_f64(arguments.duration),
        quiet: arguments.quiet,
        stop,
    };
    // The tools end by the watch; their own limit comes after it.
    let limit = Duration::from_secs_f64(arguments.duration + 60.0);
    let good = match arguments.tool {
        Tool::ServeTcp(server) => {
            let server = EchoServer::start(&namespace, &server.name, &server.listen, server.threads)?;
            watch.show(|| server.counts(), || false)?;
            print(&server.counts())?;
            true
        }
        Tool::ServeUdp(server) => {
            let server = UdpEchoServer::start(&namespace, &server.name, &server.listen)?;
            watch.show(|| server.counts(), || false)?;
            print(&server.counts())?;
            true
        }
        Tool::Connections { client, count, open_rate, interval, bytes } => {
            let options = ConnectionsOptions {
                sources: client.source,
                connections: count,
                open_rate,
                interval: Duration::from_millis(interval),
                message_bytes: bytes,
                limit,
                ..ConnectionsOptions::new(client.target)
            };
            let run = Connections::start(&namespace, &options)?;
            watch.show(|| run.counts(), || run.is_done())?;
            let counts = run.finish()?;
            print(&counts)?;
            counts.broken == 0 && counts.missing == 0
        }
        Tool::Udp { client, count, interval, bytes } => {
            let options = UdpFlowsOptions {
                sources: client.source,
                flows: count,
                interval: Duration::from_millis(interval),
                payload_bytes: bytes,
                limit,
                ..UdpFlowsOptions::new(client.target)
            };
            let run = UdpFlows::start(&namespace, &options)?;
            watch.show(|| run.counts(), || false)?;
            let counts = run.finish()?;
            print(&counts)?;
            counts.lost + counts.moved + counts.errors + counts.garbled == 0
        }
        Tool::Requests { client, count, rate, concurrency, path } => {
            let options = RequestsOptions {
                sources: client.source,
                path,
                rate,
                concurrency,
                count,
                limit,
                ..RequestsOptions::new(client.target)
            };
            let run = Requests::start(&namespace, &options)?;
            watch.show(|| run.counts(), || run.is_done())?;
            let counts = run.finish()?;
            print(&counts)?;
            counts.failed == 0
        }
    };
    std::process::exit(i32::from(!good));
}

/// When to end, and whether to speak meanwhile.
struct Watch {
    end: Instant,
    quiet: bool,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Prints the counts each second until the end, a signal, or `done`.
    fn show<T: Serialize>(&self, counts: impl Fn() -> T, done: impl Fn() -> bool) -> Result<()> {
        let mut next = Instant::now() + Duration::from_secs(1);
        while Instant::now() < self.end && !self.stop.load(Ordering::Relaxed) && !done() {
            std::thread::sleep(Duration::from_millis(20));
            if Instant::now() >= next {
                next += Duration::from_secs(1);
                if !self.quiet {
                    print(&counts())?;
                }
            }
        }
        Ok(())
    }
}

fn print(counts: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(counts).context("cannot write the counts as JSON")?);
    Ok(())
}
