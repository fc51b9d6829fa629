//! The task that hears errors about outer packets, tells clients, and learns what paths take.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::learn::{Learnt, PathMtus};
use super::socket::{IcmpSocket, LONGEST};
use super::{ForClient, Heard, Tunnels, relayed};
use crate::model::Model;
use crate::netlink::NextHopState;

/// Errors that clients are told of in a second, at most.
const TOLD_A_SECOND: u32 = 1000;
/// Messages that are read in a second, at most: a flood of them costs no more than some milliseconds of it. The kernel drops what
/// its queue does not hold.
const READ_A_SECOND: u32 = 10_000;

/// The backends that packets go to in outer headers, so that errors about them come to the balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    backends: BTreeSet<IpAddr>,
    /// Outer sources that are none of this machine's addresses.
    prefixes: Vec<IpNet>,
    gue_port: Option<u16>,
}

impl Paths {
    pub fn of(model: &Model) -> Self {
        let tunnels = model.services.iter().filter(|service| service.forward.is_tunnel());
        let backends = tunnels.flat_map(|service| model.addresses(service)).collect();
        let prefixes = [model.outer_source.ipv4.map(IpNet::from), model.outer_source.ipv6.map(IpNet::from)];
        Paths { backends, prefixes: prefixes.into_iter().flatten().collect(), gue_port: Some(model.gue_port) }
    }

    /// Whether packets from `source` to `backend` are ours: from the address that the kernel has for it, or from a prefix.
    fn has(&self, hops: &Hops, source: IpAddr, backend: IpAddr) -> bool {
        let own = || hops.get(&backend).and_then(NextHopState::next_hop).map(|hop| hop.source);
        self.backends.contains(&backend)
            && (self.prefixes.iter().any(|prefix| prefix.contains(&source)) || own() == Some(source))
    }
}

type Hops = BTreeMap<IpAddr, NextHopState>;

/// What has been heard and done.
#[derive(Debug, Default)]
pub struct Counts {
    /// Errors about packets of ours.
    pub heard: AtomicU64,
    /// Those of them that a client was told of.
    pub told: AtomicU64,
    /// Those that no client was told of, as it would have been too many a second.
    pub suppressed: AtomicU64,
    /// Those that could not be sent to the client.
    pub failed: AtomicU64,
    /// Those that say that packets do not get to a backend, or that it does not take them; by its address.
    unreachables: Mutex<BTreeMap<IpAddr, u64>>,
}

impl Counts {
    /// Errors that say that packets do not get to this backend.
    pub fn unreachables(&self, backend: IpAddr) -> u64 {
        self.all_unreachables().get(&backend).copied().unwrap_or(0)
    }

    fn all_unreachables(&self) -> MutexGuard<'_, BTreeMap<IpAddr, u64>> {
        self.unreachables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What others see of it.
#[derive(Debug, Clone)]
pub struct View {
    pub paths: watch::Receiver<PathMtus>,
    pub counts: Arc<Counts>,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Relay {
    view: View,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts it, in the network namespace of the calling thread. `None` where no packet has an outer header, or where the kernel
    /// gives no socket, which is said.
    pub fn spawn(paths: Paths, hops: watch::Receiver<Hops>) -> Option<Self> {
        if paths.backends.is_empty() {
            return None;
        }
        let (v4, v6) = (open(false), open(true));
        if let (Err(error), _) | (_, Err(error)) = (&v4, &v6) {
            let missing = error.raw_os_error() == Some(libc::EPERM);
            log::warn!(
                "not all ICMP errors of routers on the way to backends are heard: {error}{}. Clients are not told when their \
                 packets do not fit a path beyond the next hop",
                if missing { ", CAP_NET_RAW is missing" } else { "" }
            );
        }
        let (v4, v6) = (v4.ok(), v6.ok());
        if v4.is_none() && v6.is_none() {
            return None;
        }
        let (publish, learnt) = watch::channel(PathMtus::new());
        let view = View { paths: learnt, counts: Arc::default() };
        let task = Task {
            v4,
            v6,
            paths,
            hops,
            publish,
            counts: view.counts.clone(),
            learnt: Learnt::default(),
            read: 0,
            told: 0,
        };
        Some(Relay { view, task: tokio::spawn(task.run()) })
    }

    pub fn view(&self) -> View {
        self.view.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Socket = AsyncFd<IcmpSocket>;

fn open(is_v6: bool) -> io::Result<Socket> {
    let socket = IcmpSocket::open(is_v6)?;
    // SAFETY: the socket owns its descriptor, always names the same one, and closes it only when it is dropped.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
}

struct Task {
    v4: Option<Socket>,
    v6: Option<Socket>,
    paths: Paths,
    hops: watch::Receiver<Hops>,
    publish: watch::Sender<PathMtus>,
    counts: Arc<Counts>,
    learnt: Learnt,
    /// Messages that were read, and those that clients were told of, in this second.
    read: u32,
    told: u32,
}

impl Task {
    async fn run(mut self) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut from_v4, mut from_v6) = ([0; LONGEST], [0; LONGEST]);
        loop {
            let may_read = self.read < READ_A_SECOND;
            let (read, is_v6) = tokio::select! {
                _ = second.tick() => {
                    (self.read, self.told) = (0, 0);
                    self.publish();
                    continue;
                }
                read = next(self.v4.as_ref(), &mut from_v4), if may_read => (read, false),
                read = next(self.v6.as_ref(), &mut from_v6), if may_read => (read, true),
            };
            self.read += 1;
            match read {
                Ok(range) if is_v6 => self.hear(true, &from_v6[range]),
                Ok(range) => self.hear(false, &from_v4[range]),
                Err(error) => log::debug!("an ICMP socket says: {error}"),
            }
        }
    }

    fn hear(&mut self, is_v6: bool, message: &[u8]) {
        let heard = {
            let hops = self.hops.borrow();
            relayed(
                is_v6,
                message,
                &Tunnels {
                    gue_port: self.paths.gue_port,
                    // The socket makes their checksums for the address that they really leave from.
                    source_v6: Some(Ipv6Addr::UNSPECIFIED),
                    is_ours: |source, backend| self.paths.has(&hops, source, backend),
                },
            )
        };
        let Some(Heard { backend, path_mtu, for_client, .. }) = heard else { return };
        count(&self.counts.heard);
        match path_mtu {
            Some(mtu) => self.learnt.hear(backend, mtu, Instant::now()),
            None => *self.counts.all_unreachables().entry(backend).or_default() += 1,
        }
        if let Some(error) = for_client {
            self.tell(&error);
        }
    }

    fn tell(&mut self, error: &ForClient) {
        if self.told >= TOLD_A_SECOND {
            count(&self.counts.suppressed);
            return;
        }
        self.told += 1;
        let socket = if error.client.is_ipv4() { &self.v4 } else { &self.v6 };
        match socket.as_ref().map(|socket| socket.get_ref().send(error.client, &error.message)) {
            Some(Ok(())) => count(&self.counts.told),
            Some(Err(why)) => {
                log::debug!("{} cannot be told of an error: {why}", error.client);
                count(&self.counts.failed);
            }
            None => count(&self.counts.failed),
        }
    }

    /// Once a second at most: each change is another publication to the data path.
    fn publish(&mut self) {
        let mtus = self.learnt.mtus(Instant::now());
        self.publish.send_if_modified(|published| {
            let changed = *published != mtus;
            if changed {
                report(published, &mtus);
                *published = mtus;
            }
            changed
        });
    }
}

/// Waits for a message; for ever where there is no socket.
async fn next(socket: Option<&Socket>, buffer: &mut [u8; LONGEST]) -> io::Result<Range<usize>> {
    match socket {
        Some(socket) => socket.async_io(Interest::READABLE, |socket| socket.receive(buffer)).await,
        None => std::future::pending().await,
    }
}

fn report(old: &PathMtus, new: &PathMtus) {
    for (backend, mtu) in new.iter().filter(|(backend, mtu)| old.get(backend) != Some(mtu)) {
        log::info!("the path to {backend} takes packets of {mtu} bytes, a router says");
    }
    for backend in old.keys().filter(|backend| !new.contains_key(backend)) {
        log::info!("the path to {backend} is tried again with packets as long as the next hop takes");
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::NextHop;

    fn a(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn packets_are_ours_from_our_address_to_a_tunnel_s_end() {
        let service = |vip: &str, host: &str, forward: &str| {
            format!(
                "[[services]]\nname = \"{forward}-{host}\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = 80\n\
                 forward = \"{forward}\"\nhosts = [\"{host}\"]\n"
            )
        };
        let toml = format!(
            "interfaces = [\"eth0\"]\n[hosts.a]\naddresses = [\"10.0.0.1\", \"fd00::1\"]\n[hosts.b]\n\
             addresses = [\"10.0.0.2\"]\n[hosts.c]\naddresses = [\"10.0.0.3\"]\n{}{}{}{}",
            service("198.51.100.1", "a", "ipip"),
            service("2001:db8::1", "a", "ipip").replace("ipip-a", "six"),
            service("198.51.100.2", "b", "l2"),
            service("198.51.100.3", "c", "ipip")
        );
        let model = crate::config::parse(&toml, "f").unwrap_or_else(|errors| panic!("{errors}")).model;
        let paths = Paths::of(&model);
        let hop = |source: &str| {
            NextHopState::Resolved(NextHop {
                ifindex: 1,
                interface: "eth0".into(),
                src_mac: [2; 6],
                dst_mac: [4; 6],
                source: a(source),
                mtu: 1500,
                gateway: None,
                tags: [0; 2],
            })
        };
        let hops = Hops::from([
            (a("10.0.0.1"), hop("10.9.0.1")),
            (a("10.0.0.2"), hop("10.9.0.1")),
            (a("10.0.0.3"), NextHopState::Local),
            (a("fd00::1"), hop("fd09::1")),
        ]);
        let ours = |source, backend| paths.has(&hops, a(source), a(backend));
        assert!(ours("10.9.0.1", "10.0.0.1") && ours("fd09::1", "fd00::1"));
        assert!(!ours("10.9.0.2", "10.0.0.1"), "another source");
        assert!(!ours("10.9.0.1", "10.0.0.2"), "without an outer header");
        assert!(!ours("10.9.0.1", "10.0.0.3"), "nothing can be sent there");
        assert!(!ours("10.9.0.1", "10.0.0.4"), "no backend");
        let paths = Paths { prefixes: vec!["10.200.0.0/16".parse().unwrap()], ..paths };
        assert!(paths.has(&hops, a("10.200.7.7"), a("10.0.0.1")));
        assert!(!paths.has(&hops, a("10.200.7.7"), a("10.0.0.2")));
        assert!(!paths.has(&hops, a("10.201.7.7"), a("10.0.0.1")));
    }
}
