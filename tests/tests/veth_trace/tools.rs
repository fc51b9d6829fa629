//! A `sluice trace` under way, and what is attached.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
pub use sluice_tests::LIMIT;
use sluice_tests::packets::Packet;
use sluice_tests::site::Site;
use sluice_tests::topology::Process;
use socket2::{Domain, Protocol, Socket, Type};

pub fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Number and name of the program on each of the balancer's interfaces.
pub fn attached(site: &Site) -> Vec<(u32, String)> {
    let balancer = site.topology.balancer();
    let look = |name: &String| {
        let text = balancer.ns.shell(&format!("ip -j link show dev {name}")).unwrap();
        let links: Value = serde_json::from_str(&text).unwrap();
        let id = links[0]["xdp"]["prog"]["id"].as_u64().unwrap_or_else(|| panic!("{links}")) as u32;
        let mut programs = aya::programs::loaded_programs();
        let program = programs.find_map(|info| info.ok().filter(|info| info.id() == id))?;
        Some((id, program.name_as_str().unwrap().to_owned()))
    };
    // It may be exchanged between the two looks; and who walks along the kernel's programs while others come and go may miss one.
    let of = |name: &String| {
        let mut found = None;
        wait_for("the program that is attached", || {
            found = look(name);
            found.is_some()
        });
        found.unwrap()
    };
    balancer.interfaces.iter().map(of).collect()
}

/// Whether the program that traces is attached to an interface: to all of them, but in the moment of the exchange.
pub fn is_traced(site: &Site) -> bool {
    attached(site).iter().any(|(_, name)| name.starts_with("sluice_traced"))
}

/// Sends a datagram to a VIP that the balancer drops: no client has such a port.
pub fn send_from_port_zero(site: &Site, vip: SocketAddr) {
    let client = site.topology.client();
    let from = SocketAddr::new(client.ipv4[0].into(), 0);
    let packet = Packet::udp(from, vip).payload(b"nobody").build();
    client
        .ns
        .enter(|| {
            let socket =
                Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).unwrap();
            // Behind the Ethernet header.
            socket.send_to(&packet[14..], &vip.into()).unwrap();
        })
        .unwrap();
}

/// One that runs.
pub struct Trace {
    process: Process,
    out: Reader,
    err: Reader,
}

/// One that has ended.
pub struct Ended {
    pub packets: Vec<Value>,
    pub counts: Value,
    /// On standard error.
    pub said: String,
}

impl Ended {
    pub fn count(&self, kind: &str) -> u64 {
        self.counts[kind].as_u64().unwrap_or_else(|| panic!("{kind}: {}", self.counts))
    }
}

impl Trace {
    pub fn start(site: &Site, args: &[&str]) -> Self {
        Self::start_verb(site, &[&["trace"], args].concat())
    }

    pub fn start_verb(site: &Site, args: &[&str]) -> Self {
        let process = site.daemon.cli_start(args).unwrap();
        let (out, err) = process.take_output();
        Trace { process, out: Reader::of(out.unwrap()), err: Reader::of(err.unwrap()) }
    }

    /// Packets from now on are shown.
    pub fn wait_begun(&mut self) {
        wait_for("tracing begins", || {
            assert!(self.process.is_running(), "{}", self.err.text());
            self.err.text().contains("packets are shown from now on")
        });
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    /// On standard error, up to now.
    pub fn said(&self) -> String {
        self.err.text()
    }

    /// Lines on standard output that have all of these, up to now.
    pub fn lines_with(&self, words: &[&str]) -> usize {
        self.out.text().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    pub fn kill(&self) {
        self.process.kill();
    }

    pub fn wait_code(&mut self) -> Option<i32> {
        self.process.wait(LIMIT).unwrap().unwrap_or_else(|| panic!("it goes on: {}", self.err.text())).code()
    }

    /// Ends it once nothing more comes, and waits until the daemon knows; if it was the last, until the program for traffic is back.
    pub fn end(self, site: &Site) -> Vec<Value> {
        let events = || site.daemon.cli_ok(&["events", "--json"]).unwrap();
        let before = events().matches("trace_ended").count();
        let ended = self.end_counted();
        wait_for("the daemon knows, and the program for traffic is back", || {
            let events = events();
            let [began, ended] = ["trace_began", "trace_ended"].map(|name| events.matches(name).count());
            ended > before && (began != ended || !is_traced(site))
        });
        ended.packets
    }

    pub fn end_counted(mut self) -> Ended {
        // What is on its way is not lost.
        std::thread::sleep(Duration::from_millis(700));
        self.signal(Signal::SIGINT);
        assert_eq!(self.wait_code(), Some(0), "{}", self.err.text());
        let (out, said) = (self.out.whole(), self.err.whole());
        let (mut packets, mut counts) = (Vec::new(), Value::Null);
        for line in out.lines() {
            let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            match message["message"].as_str() {
                Some("packet") => packets.push(message),
                Some("counts") => counts = message,
                _ => panic!("{line}"),
            }
        }
        Ended { packets, counts, said }
    }

    /// Its exit status, and what it said until its own end.
    pub fn wait_ended(mut self) -> (Option<i32>, String) {
        (self.wait_code(), self.err.whole())
    }

    /// What it wrote until its own end.
    pub fn wait_text(mut self) -> (String, String) {
        assert_eq!(self.wait_code(), Some(0), "{}", self.err.text());
        (self.out.whole(), self.err.whole())
    }
}

/// Reads a pipe on a thread, so that nobody who writes is held up.
struct Reader {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = text.clone();
        let thread = std::thread::spawn(move || {
            let mut part = [0; 65_536];
            while let Ok(length @ 1..) = pipe.read(&mut part) {
                into.lock().unwrap().extend_from_slice(&part[..length]);
            }
        });
        Reader { text, thread: Some(thread) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn whole(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.text()
    }
}
