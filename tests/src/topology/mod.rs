//! Clients, a balancer and hosts in network namespaces, joined by veth pairs, as a value.
//!
//! Two layouts: *flat*, where all share one segment and the balancer sends out where it received (`XDP_TX`), and
//! *routed*, where clients and hosts are on different sides of it (`XDP_REDIRECT`). Hosts carry the VIPs on `lo` and
//! answer clients directly, or know nothing of them and answer through the balancer. Everything is removed when the value
//! is dropped.

mod addressing;
mod cleanup;
mod losses;
mod namespace;
mod plan;
mod process;
mod wire;
mod xdp;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

pub use cleanup::{leftovers, leftovers_of, remove_all, remove_labelled, remove_stale};
pub use losses::Losses;
pub use namespace::Namespace;
pub use process::{OWNER_VARIABLE, Process};
pub use wire::Wire;
pub use xdp::XdpProgram;

/// How balancer, clients and hosts are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All on one bridge; the balancer's one interface is `eth0`.
    Flat,
    /// Each client on a veth of its own to the balancer's `c0`, `c1` …; the hosts on a bridge behind its `b0`.
    Routed,
}

/// The way of a host's replies in [`Layout::Routed`]; in the flat layout they always go directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// Past the balancer, over a second leg (`eth1`) that each client has among the hosts.
    Direct,
    /// Through the balancer, whose kernel forwards them.
    ThroughBalancer,
}

/// How a client finds the VIPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VipRoutes {
    /// By a route over the balancer's address (VIP mode `external`).
    ViaBalancer,
    /// By ARP and neighbour discovery, which the balancer has to answer (VIP mode `local`).
    OnLink,
}

/// What to build; see [`Topology::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    label: Option<&'static str>,
    layout: Layout,
    hosts: usize,
    clients: usize,
    client_sources: usize,
    vips: Vec<IpAddr>,
    client_mtu: u32,
    backend_mtu: u32,
    queues: u32,
    replies: Replies,
    vip_routes: VipRoutes,
    vips_on_hosts: bool,
    xdp_on_hosts: bool,
    router: Option<u32>,
}

/// A namespace with its addresses.
#[derive(Debug, Clone)]
pub struct Node {
    /// `client`, `lb`, `h1` …
    pub name: String,
    pub ns: Namespace,
    /// In the order of preference; the first is what the node itself would use.
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
    /// Those that matter to the balancer: for the balancer, those that get the XDP program.
    pub interfaces: Vec<String>,
}

/// A running topology; dropping it kills its processes and removes its namespaces.
#[derive(Debug)]
pub struct Topology {
    prefix: String,
    layout: Layout,
    vips: Vec<IpAddr>,
    clients: Vec<Node>,
    balancer: Node,
    switch: Namespace,
    router: Option<Namespace>,
    hosts: Vec<Node>,
    /// The pass programs stay attached as long as these are open.
    _links: Vec<OwnedFd>,
}

impl Topology {
    /// A flat topology of three hosts and a client, one VIP of each family, until told otherwise.
    pub fn builder() -> Builder {
        Builder {
            label: None,
            layout: Layout::Flat,
            hosts: 3,
            clients: 1,
            client_sources: 4,
            vips: vec![addressing::VIP_V4.into(), addressing::VIP_V6.into()],
            client_mtu: 1500,
            backend_mtu: 1600,
            queues: 2,
            replies: Replies::Direct,
            vip_routes: VipRoutes::ViaBalancer,
            vips_on_hosts: true,
            xdp_on_hosts: false,
            router: None,
        }
    }

    /// `sluice-<pid>-<n>`, or `sluice-<label>-<pid>-<n>`: what the names of its namespaces begin with; also a fit name for a balancer's instance.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn vips(&self) -> &[IpAddr] {
        &self.vips
    }

    /// The first IPv4 VIP. Panics if the topology was built without one.
    pub fn vip4(&self) -> Ipv4Addr {
        let first =
            self.vips.iter().find_map(|vip| if let IpAddr::V4(vip) = vip { Some(*vip) } else { None });
        first.expect("the topology has an IPv4 VIP")
    }

    /// The first IPv6 VIP. Panics if the topology was built without one.
    pub fn vip6(&self) -> Ipv6Addr {
        let first =
            self.vips.iter().find_map(|vip| if let IpAddr::V6(vip) = vip { Some(*vip) } else { None });
        first.expect("the topology has an IPv6 VIP")
    }

    /// The first client.
    pub fn client(&self) -> &Node {
        &self.clients[0]
    }

    pub fn clients(&self) -> &[Node] {
        &self.clients
    }

    pub fn balancer(&self) -> &Node {
        &self.balancer
    }

    /// In order: `h1` is the first.
    pub fn hosts(&self) -> &[Node] {
        &self.hosts
    }

    /// The host `h<number>`. Panics if there is none.
    pub fn host(&self, number: usize) -> &Node {
        &self.hosts[number - 1]
    }

    /// The namespace of the bridge `br0`, whose port to the node NAME is `p-NAME`.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// The namespace of the router between the balancer and the hosts, if there is one.
    pub fn router(&self) -> Option<&Namespace> {
        self.router.as_ref()
    }

    fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        let nodes = self.clients.iter().chain([&self.balancer]).chain(&self.hosts);
        nodes.map(|node| &node.ns).chain([&self.switch]).chain(&self.router)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        self.namespaces().for_each(Namespace::kill_processes);
        cleanup::remove(&self.prefix);
        cleanup::forget(&self.prefix);
    }
}

impl Builder {
    /// A word that all names of the topology get, so that it can be found by [`remove_labelled`]. Only `demo` is known.
    pub fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// 1 to 250.
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// 1 to 16.
    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }

    /// Addresses of each family that a client can connect from, 1 to 200; each gives some 60 000 connections to
    /// one service.
    pub fn client_sources(mut self, client_sources: usize) -> Self {
        self.client_sources = client_sources;
        self
    }

    /// The VIPs that clients have routes for, and that hosts carry unless told otherwise.
    pub fn vips(mut self, vips: impl IntoIterator<Item = IpAddr>) -> Self {
        self.vips = vips.into_iter().collect();
        self
    }

    /// Bytes of the longest packet from or to a client.
    pub fn client_mtu(mut self, bytes: u32) -> Self {
        self.client_mtu = bytes;
        self
    }

    /// Bytes of the longest packet from the balancer to a host: the client's and the encapsulation.
    pub fn backend_mtu(mut self, bytes: u32) -> Self {
        self.backend_mtu = bytes;
        self
    }

    /// Receive and transmit queues of each interface.
    pub fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    pub fn replies(mut self, replies: Replies) -> Self {
        self.replies = replies;
        self
    }

    pub fn vip_routes(mut self, vip_routes: VipRoutes) -> Self {
        self.vip_routes = vip_routes;
        self
    }

    /// Whether the hosts carry the VIPs on `lo`. Where they do not, the balancer is their default gateway, which takes
    /// [`Layout::Routed`] and [`Replies::ThroughBalancer`].
    pub fn vips_on_hosts(mut self, wanted: bool) -> Self {
        self.vips_on_hosts = wanted;
        self
    }

    /// Prepares the far ends of the hosts' interfaces for XDP programs on the hosts too.
    pub fn xdp_on_hosts(mut self, wanted: bool) -> Self {
        self.xdp_on_hosts = wanted;
        self
    }

    /// Puts a router between the switch and the hosts. Its links to them take packets of `link_mtu` bytes, whatever the balancer
    /// can send, and the hosts say nothing of it.
    pub fn router(mut self, link_mtu: u32) -> Self {
        self.router = Some(link_mtu);
        self
    }

    /// Makes it all, in a fraction of a second; on failure nothing is left behind.
    pub fn build(self) -> Result<Topology> {
        use addressing::{MOST_CLIENTS, MOST_HOSTS, MOST_SOURCES};
        ensure!((1..=MOST_HOSTS).contains(&self.hosts), "a topology has 1 to {MOST_HOSTS} hosts");
        ensure!((1..=MOST_CLIENTS).contains(&self.clients), "a topology has 1 to {MOST_CLIENTS} clients");
        ensure!(
            (1..=MOST_SOURCES).contains(&self.client_sources),
            "a client has 1 to {MOST_SOURCES} addresses"
        );
        ensure!(self.client_mtu >= 1280, "IPv6 wants an MTU of at least 1280 bytes, not {}", self.client_mtu);
        ensure!(
            self.router.is_none() || self.layout == Layout::Flat || self.replies == Replies::Direct,
            "replies that go through the balancer do not go through a router"
        );
        let through = self.layout == Layout::Routed && self.replies == Replies::ThroughBalancer;
        ensure!(self.vips_on_hosts || through, "hosts without VIPs answer through the balancer");
        if let Some(label) = self.label {
            ensure!(cleanup::LABELS.contains(&label), "a topology cannot be labelled {label:?}");
        }
        let label = self.label.map_or_else(String::new, |label| format!("{label}-"));
        let prefix = prefix(&label);
        cleanup::remember(&prefix);
        self.build_as(&prefix).inspect_err(|_| {
            cleanup::remove(&prefix);
            cleanup::forget(&prefix);
        })
    }

    fn build_as(&self, prefix: &str) -> Result<Topology> {
        let (namespaces, links) = make(&plan::plan(self, prefix), prefix)?;
        Ok(self.assemble(prefix, namespaces, links))
    }

    /// `namespaces` in the order of the plan: clients, balancer, switch, router, hosts.
    fn assemble(&self, prefix: &str, namespaces: Vec<Namespace>, links: Vec<OwnedFd>) -> Topology {
        use addressing::*;
        let flat = self.layout == Layout::Flat;
        let eth0 = || vec!["eth0".to_owned()];
        let mut rest = namespaces.into_iter();
        let clients = rest.by_ref().take(self.clients).enumerate();
        let clients = clients.map(|(client, ns)| Node {
            name: plan::client_name(client),
            ns,
            ipv4: (0..self.client_sources)
                .map(
                    |source| {
                        if flat { near_client_v4(client, source) } else { far_client_v4(client, source) }
                    },
                )
                .collect(),
            ipv6: (0..self.client_sources)
                .map(
                    |source| {
                        if flat { near_client_v6(client, source) } else { far_client_v6(client, source) }
                    },
                )
                .collect(),
            interfaces: eth0(),
        });
        let clients = clients.collect();
        let mut next = || rest.next().expect("the plan has a balancer and a switch");
        let balancer = Node {
            name: "lb".into(),
            ns: next(),
            ipv4: vec![BALANCER_V4],
            ipv6: vec![BALANCER_V6],
            interfaces: match self.layout {
                Layout::Flat => eth0(),
                Layout::Routed => {
                    (0..self.clients).map(|client| format!("c{client}")).chain(["b0".into()]).collect()
                }
            },
        };
        let switch = next();
        let router = self.router.map(|_| next());
        let hosts = rest.enumerate().map(|(index, ns)| Node {
            name: format!("h{}", index + 1),
            ns,
            ipv4: vec![host_v4(index + 1)],
            ipv6: vec![host_v6(index + 1)],
            interfaces: eth0(),
        });
        Topology {
            prefix: prefix.into(),
            layout: self.layout,
            vips: self.vips.clone(),
            clients,
            balancer,
            switch,
            router,
            hosts: hosts.collect(),
            _links: links,
        }
    }
}

/// A prefix that no other topology has; what dead processes left is removed the first time. `label` ends with a dash, or is
/// empty.
fn prefix(label: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    cleanup::remove_stale_once();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("sluice-{label}{}-{number}", std::process::id())
}

/// Makes what is planned: the namespaces in the plan's order, and what keeps the pass programs attached.
fn make(plan: &plan::Plan, prefix: &str) -> Result<(Vec<Namespace>, Vec<OwnedFd>)> {
    let add = plan.nodes.iter().map(|node| format!("netns add {}", node.name)).collect::<Vec<_>>();
    ip_batch(&add)?;
    let mut namespaces = Vec::new();
    for node in &plan.nodes {
        let namespace = Namespace::open(&node.name, prefix)?;
        namespace.enter(|| write_sysctls(node))??;
        if node.is_end {
            namespace.enter(receive_flows_on_one_cpu)??;
        }
        namespaces.push(namespace);
    }
    ip_batch(&plan.links)?;

    let pass = XdpProgram::pass(plan.has_jumbo)?;
    // Ports before nodes does not matter, so all run at once.
    let links = std::thread::scope(|scope| {
        let start = |(node, namespace): (_, &Namespace)| {
            let (namespace, pass) = (namespace.clone(), &pass);
            scope.spawn(move || namespace.join_thread().and_then(|()| configure(node, pass)))
        };
        let threads = plan.nodes.iter().zip(&namespaces).map(start).collect::<Vec<_>>();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<OwnedFd>>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    Ok((namespaces, links.into_iter().flatten().collect()))
}

/// Sets the namespace's sysctls; /proc/sys/net is that of the calling thread.
fn write_sysctls(node: &plan::Node) -> Result<()> {
    for (key, value) in &node.sysctls {
        std::fs::write(format!("/proc/sys/net/{key}"), value)
            .with_context(|| format!("cannot set net/{key} to {value} in {}", node.name))?;
    }
    Ok(())
}

/// Lets all packets of a flow be received by one CPU, as the queues of a network card do (RSS), for interfaces that are made from now on; runs on a thread in
/// the namespace. On a veth each is received by whichever CPU brings it. There Linux 6.18 answers with RST when the end of a handshake and the request
/// behind it are received by two CPUs at the same moment: the one does not find the socket that the other is putting in the place of the
/// half-open one (`inet_ehash_insert` in net/ipv4/inet_hashtables.c). That was 14 of 1 500 000 connections on a busy machine, and 0 with this.
fn receive_flows_on_one_cpu() -> Result<()> {
    const MASK: &str = "/proc/sys/net/core/rps_default_mask";
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).min(32);
    match std::fs::write(MASK, format!("{:x}", (1_u64 << cpus) - 1)) {
        // Linux 6.3 has it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("cannot set {MASK}")),
    }
}

/// Does a node's own part; runs on a thread in its namespace.
fn configure(node: &plan::Node, pass: &XdpProgram) -> Result<Vec<OwnedFd>> {
    ip_batch(&node.ip).with_context(|| format!("cannot set up {}", node.name))?;
    for interface in &node.checksum_in_software {
        let output = Command::new("ethtool").args(["-K", interface, "tx", "off"]).output();
        let output = output.context("cannot run ethtool: is it installed?")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ethtool -K {interface} tx off failed in {}: {stderr}", node.name);
    }
    node.pass_program.iter().map(|interface| pass.attach(interface)).collect()
}

/// Feeds `lines` to one `ip -batch` in the calling thread's namespace.
fn ip_batch(lines: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip: is iproute2 installed?")?;
    let text = lines.join("\n") + "\n";
    // `ip` ends early at a line that fails; what it says about that is the better error.
    let _ = child.stdin.take().expect("stdin is a pipe").write_all(text.as_bytes());
    let output = child.wait_with_output().context("cannot wait for ip")?;
    if !output.status.success() {
        bail!("ip -batch failed: {}\n{text}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
