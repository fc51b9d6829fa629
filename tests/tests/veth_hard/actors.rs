//! Servers whose connections do what their client asks for with its first byte: to stream on, to fall silent, to close.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use sluice_tests::site::{Extra, Plan, Site};
use sluice_tests::topology::Topology;

use super::tools::LIMIT;

/// Port of the servers.
pub const PORT: u16 = 9;

/// When the client has ended, send [`LINES`], and end.
pub const STREAM: u8 = b's';
/// End at once, and count what the client says until it ends.
pub const LISTEN: u8 = b'l';
/// End when the client has sent one byte more; hear nothing after it.
pub const CLOSE: u8 = b'c';

/// Lines of a stream, one each 100 ms, each with its number.
pub const LINES: u32 = 70;

/// Servers on all hosts of a site.
pub struct Actors {
    stop: Arc<AtomicBool>,
    /// Bytes after the first from each client that has ended, of connections that listen.
    heard: Arc<Mutex<Vec<(SocketAddr, usize)>>>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// A site with such servers.
pub fn site_with_actors(hosts: usize, timeouts: [u32; 4]) -> (Site, Actors) {
    let service = Extra { name: "actors", protocol: "\"tcp\"", port: "9", more: "" };
    let plan = Plan { timeouts, services: vec![service], ..Plan::new("l2", hosts) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let mut actors = Actors { stop: Arc::default(), heard: Arc::default(), threads: Vec::new() };
    for host in site.topology.hosts() {
        for vip in site.vips() {
            let at = SocketAddr::new(vip, PORT);
            let listener = host.ns.enter(|| TcpListener::bind(at).unwrap()).unwrap();
            listener.set_nonblocking(true).unwrap();
            let (name, stop, heard) = (host.name.clone(), actors.stop.clone(), actors.heard.clone());
            let thread = host.ns.start("actors", move || serve(&listener, &name, &stop, &heard)).unwrap();
            actors.threads.push(thread);
        }
    }
    (site, actors)
}

impl Actors {
    pub fn heard(&self) -> Vec<(SocketAddr, usize)> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Actors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(
    listener: &TcpListener,
    name: &str,
    stop: &AtomicBool,
    heard: &Arc<Mutex<Vec<(SocketAddr, usize)>>>,
) {
    let mut connections = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, client)) => {
                let (greeting, heard) = (format!("{name}\n"), heard.clone());
                connections.push(std::thread::spawn(move || act(stream, client, &greeting, &heard)));
            }
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
    for connection in connections {
        // What its client did is for the test to see.
        let _ = connection.join();
    }
}

fn act(
    mut stream: TcpStream,
    client: SocketAddr,
    greeting: &str,
    heard: &Mutex<Vec<(SocketAddr, usize)>>,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(greeting.as_bytes())?;
    let mut byte = [0; 1];
    stream.read_exact(&mut byte)?;
    match byte[0] {
        STREAM => {
            stream.read_to_end(&mut Vec::new())?;
            for number in 0..LINES {
                stream.write_all(format!("{number}\n").as_bytes())?;
                sleep(Duration::from_millis(100));
            }
        }
        LISTEN => {
            stream.shutdown(Shutdown::Write)?;
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            heard.lock().unwrap().push((client, all.len()));
        }
        CLOSE => stream.read_exact(&mut byte)?,
        other => panic!("nothing is called {other}"),
    }
    Ok(())
}
