//! Findings of facts.

use std::fmt::Write as _;

use super::facts::{Answer, Backend, Behind, Bpffs, Daemon, Facts, Interface, Machine, Peer, Site};
use super::{Check, Finding, Report, Severity};
use crate::config;
use crate::model::{Forward, XdpMode};
use crate::netlink::{NextHopState, WayOut};

use Severity::{Error, Note, Warning};

/// The oldest Linux that was seen to take the programs.
const OLDEST: (u32, u32) = (5, 15);
/// Some distributions take BPF of later versions into one of this name, which may do.
const PERHAPS: (u32, u32) = (5, 14);
/// Longest packet of a client, as a rule.
const CLIENTS: u32 = 1500;

/// What was found, and what is well.
#[derive(Default)]
struct Sheet {
    report: Report,
}

impl Sheet {
    fn find(&mut self, severity: Severity, check: Check, subject: &str, what: String, mend: String) {
        self.report.findings.push(Finding { severity, check, subject: subject.to_owned(), what, mend });
    }

    fn well(&mut self, what: String) {
        self.report.well.push(what);
    }
}

pub fn judge(facts: &Facts) -> Report {
    let mut sheet = Sheet::default();
    machine(&mut sheet, &facts.machine);
    if let Some(site) = &facts.site {
        memory(&mut sheet, &facts.machine, site);
        neighbours(&mut sheet, &facts.machine, site);
    }
    for (place, message, hint) in &facts.config_problems {
        let what = if place.is_empty() { message.clone() } else { format!("{place}: {message}") };
        sheet.find(Error, Check::Config, "", what, hint.clone());
    }
    for interface in &facts.interfaces {
        of_interface(&mut sheet, facts, interface);
    }
    for way in &facts.ways_out {
        of_way_out(&mut sheet, way);
    }
    for backend in &facts.backends {
        of_backend(&mut sheet, facts, backend);
    }
    of_daemon(&mut sheet, facts);
    let mut report = sheet.report;
    report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report
}

fn of_daemon(sheet: &mut Sheet, facts: &Facts) {
    let daemon = &facts.daemon;
    match &daemon.answer {
        Answer::Nobody if facts.forwards => sheet.find(
            Error,
            Check::Daemon,
            "",
            "packets are forwarded and no daemon runs: nobody follows checks, next hops and drains".to_owned(),
            "systemctl start sluice, or `sluice run --config FILE`: it takes over what is there; its log says why it ended".to_owned(),
        ),
        Answer::Nobody => sheet.well("no daemon runs for this instance: nothing was asked of one".to_owned()),
        Answer::Barred { why, mend } => {
            sheet.find(Warning, Check::Daemon, "", format!("the daemon was not asked: {why}"), mend.clone());
        }
        Answer::Wrong { why, mend } => sheet.find(Error, Check::Daemon, "", why.clone(), mend.clone()),
        Answer::Status => {
            for problem in &daemon.problems {
                let mend = "sluice status".to_owned();
                sheet.find(Warning, Check::Daemon, "", format!("the daemon says: {problem}"), mend);
            }
            if daemon.problems.is_empty() {
                sheet.well("the daemon runs and has no complaint".to_owned());
            }
            behind_vips(sheet, daemon);
        }
    }
}

fn machine(sheet: &mut Sheet, machine: &Machine) {
    match machine.kernel {
        Some((major, minor)) if (major, minor) < OLDEST => sheet.find(
            if (major, minor) < PERHAPS { Error } else { Warning },
            Check::Kernel,
            "",
            format!("Linux {major}.{minor} may lack what the XDP programs use: it was not tried"),
            format!("boot Linux {}.{} or later", OLDEST.0, OLDEST.1),
        ),
        Some((major, minor)) => sheet.well(format!("Linux {major}.{minor}")),
        None => {}
    }
    if machine.is_big_endian {
        sheet.find(
            Error,
            Check::Kernel,
            "",
            "this machine is big-endian".to_owned(),
            "take a little-endian one".to_owned(),
        );
    }
    if machine.has_btf {
        sheet.well("BTF of the kernel".to_owned());
    } else {
        sheet.find(
            Error,
            Check::Btf,
            "",
            "/sys/kernel/btf/vmlinux is not there".to_owned(),
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as those of distributions have".to_owned(),
        );
    }
    if machine.jit == Some(0) {
        sheet.find(
            Warning,
            Check::Jit,
            "",
            "the kernel interprets BPF programs, at a multiple of the cost".to_owned(),
            "sysctl net.core.bpf_jit_enable=1".to_owned(),
        );
    } else {
        sheet.well("BPF programs are compiled".to_owned());
    }
    if machine.bpf_stats {
        sheet.find(
            Warning,
            Check::BpfStats,
            "",
            "the kernel measures the run time of every BPF program, which makes packets dearer".to_owned(),
            "sysctl kernel.bpf_stats_enabled=0".to_owned(),
        );
    }
    if !machine.missing_capabilities.is_empty() {
        let missing = machine.missing_capabilities.join(", ");
        sheet.find(
            Error,
            Check::Capabilities,
            "",
            format!("missing here: {missing}"),
            "run the doctor as root; the daemon, too, or by its service, which gives it these".to_owned(),
        );
    } else if !machine.has_net_raw {
        sheet.find(
            Warning,
            Check::Capabilities,
            "",
            "CAP_NET_RAW is missing: clients hear nothing of narrow paths, and silent ones nothing of resets"
                .to_owned(),
            "AmbientCapabilities=CAP_NET_RAW, besides the others".to_owned(),
        );
    } else {
        sheet.well("capabilities".to_owned());
    }
    match machine.bpffs {
        Bpffs::Mounted => sheet.well("bpffs at /sys/fs/bpf".to_owned()),
        Bpffs::NotMounted => sheet.find(
            Note,
            Check::Bpffs,
            "",
            "no BPF file system at /sys/fs/bpf; the daemon mounts it if it may".to_owned(),
            "mount -t bpf bpf /sys/fs/bpf".to_owned(),
        ),
        Bpffs::NoFolder => sheet.find(
            Error,
            Check::Bpffs,
            "",
            "there is no /sys/fs/bpf: the kernel has no BPF system call, or sysfs is not mounted".to_owned(),
            "mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf".to_owned(),
        ),
    }
}

fn memory(sheet: &mut Sheet, machine: &Machine, site: &Site) {
    let Some(available) = machine.memory_available else { return };
    let (needed, available) = (site.memory >> 20, available >> 20);
    if needed > available {
        let what = format!("the maps need {needed} MiB, and {available} MiB can be had");
        let mend = "lower flow_table.pins in the config, or give the machine more".to_owned();
        sheet.find(Error, Check::Memory, "", what, mend);
    } else {
        sheet.well(format!("memory: the maps need {needed} MiB of {available}"));
    }
}

fn neighbours(sheet: &mut Sheet, machine: &Machine, site: &Site) {
    for (family, room, needed) in
        [("ipv4", machine.neighbours_v4, site.backends_v4), ("ipv6", machine.neighbours_v6, site.backends_v6)]
    {
        // Half of it, as others have neighbours too.
        if let Some(room) = room
            && needed > room as usize / 2
        {
            let what = format!(
                "{needed} backends may be too many for the kernel's table of {room} {family} neighbours"
            );
            let mend =
                format!("sysctl net.{family}.neigh.default.gc_thresh3={}", (needed * 4).next_power_of_two());
            sheet.find(Warning, Check::NeighbourTable, "", what, mend);
        }
    }
}

fn of_interface(sheet: &mut Sheet, facts: &Facts, interface: &Interface) {
    let name = interface.name.as_str();
    let before = sheet.report.findings.len();
    if !interface.up {
        let mend = format!("ip link set {name} up");
        sheet.find(Error, Check::Link, name, "it is down".to_owned(), mend);
    } else if interface.carrier == Some(false) {
        let mend = "look at cable, switch port, or the other end of the pair".to_owned();
        sheet.find(Error, Check::Link, name, "it has no carrier".to_owned(), mend);
    }
    of_programs(sheet, interface);
    of_offloads(sheet, interface);
    if !interface.xdp_errors.is_empty() {
        let counted: Vec<String> =
            interface.xdp_errors.iter().map(|(name, count)| format!("{name} {}", count.all)).collect();
        let new: u64 = interface.xdp_errors.values().map(|count| count.new).sum();
        let mend = match &interface.peer {
            Some(_) => peers_mend(interface),
            None => format!(
                "ethtool -S {name} shows which; list all interfaces that packets leave by in `interfaces`, in one mode"
            ),
        };
        // Counters are never reset: what was wrong once is to be told, and is mended all the same.
        let (severity, lately) = match new {
            0 => (Note, "none while the doctor looked".to_owned()),
            new => (Error, format!("{new} while the doctor looked")),
        };
        let counted = counted.join(", ");
        let what = format!("the driver has lost frames that were forwarded, {lately}: {counted}");
        sheet.find(severity, Check::Swallowed, name, what, mend);
    }
    of_peer(sheet, interface);
    if let Some(site) = &facts.site {
        of_filters(sheet, site, interface);
    }
    if sheet.report.findings.len() == before {
        let driver = interface.driver.as_ref().map(|driver| format!(", {driver}")).unwrap_or_default();
        sheet.well(format!("{name}: {}{driver}, MTU {}", interface.kind, interface.mtu));
    }
}

fn of_programs(sheet: &mut Sheet, interface: &Interface) {
    let name = interface.name.as_str();
    for (mode, number) in &interface.other_programs {
        let (what, mend) = (
            format!("another XDP program is attached, number {number}, in {mode} mode"),
            format!(
                "bpftool prog show id {number} says whose it is; ip link set dev {name} {} off takes it off, or its owner does",
                if mode == "generic" { "xdpgeneric" } else { "xdp" }
            ),
        );
        sheet.find(Error, Check::OtherProgram, name, what, mend);
    }
    let native = interface.xdp.native;
    match (interface.wanted, native) {
        (XdpMode::Native, Some(false)) => {
            let what = "its driver runs no XDP programs, and the config wants native mode".to_owned();
            let mend = "xdp_mode = \"auto\" for this interface".to_owned();
            sheet.find(Error, Check::XdpMode, name, what, mend);
        }
        (XdpMode::Auto, Some(false)) => {
            let what = "its driver runs no XDP programs: it gets generic mode, which is slow".to_owned();
            let mend = "take a NIC whose driver can, for speed; nothing else is wrong with it".to_owned();
            sheet.find(Note, Check::XdpMode, name, what, mend);
        }
        _ => {}
    }
}

fn of_offloads(sheet: &mut Sheet, interface: &Interface) {
    let name = interface.name.as_str();
    if interface.lro == Some(true) {
        let what = "it joins packets on reception (LRO), which are too long to be sent on then".to_owned();
        sheet.find(Error, Check::Offload, name, what, format!("ethtool -K {name} lro off"));
    }
    // A veth keeps tags in the frame for a program.
    if interface.rxvlan == Some(true) && !interface.vlans.is_empty() && interface.peer.is_none() {
        let vlans = interface.vlans.join(", ");
        let what = format!(
            "it takes VLAN tags off before a native program sees them, so frames for {vlans} look untagged"
        );
        sheet.find(Error, Check::Offload, name, what, format!("ethtool -K {name} rxvlan off"));
    }
}

fn of_peer(sheet: &mut Sheet, interface: &Interface) {
    let name = interface.name.as_str();
    let Some(peer) = &interface.peer else { return };
    if interface.is_generic() {
        return;
    }
    match peer {
        Peer::Here { has_native_program: false, name: other, .. } => sheet.find(
            Error,
            Check::VethPeer,
            name,
            format!("its peer {other} has no native XDP program: frames that are sent out to it vanish"),
            peers_mend(interface),
        ),
        Peer::Here { .. } => {}
        // Neither a program nor GRO there. One that takes them may still have GRO alone, which is not enough for XDP_TX.
        Peer::Elsewhere if interface.xdp.takes_redirects == Some(false) => sheet.find(
            Error,
            Check::VethPeer,
            name,
            "its peer has neither an XDP program nor GRO: frames that are sent out to it vanish".to_owned(),
            peers_mend(interface),
        ),
        Peer::Elsewhere => sheet.find(
            Note,
            Check::VethPeer,
            name,
            "its peer is in another network namespace, where a native XDP program must be attached to it"
                .to_owned(),
            peers_mend(interface),
        ),
    }
    if let Peer::Here { name: other, tx_checksums: Some(true), .. } = peer {
        sheet.find(
            Warning,
            Check::Offload,
            name,
            format!(
                "TCP that this machine sends out by its peer {other} has no checksum yet when it comes here"
            ),
            format!("ethtool -K {other} tx off"),
        );
    }
}

fn peers_mend(interface: &Interface) -> String {
    let peer = match &interface.peer {
        Some(Peer::Here { name, .. }) => name.as_str(),
        _ => "PEER",
    };
    format!(
        "attach a program that passes everything to its peer (ip link set dev {peer} xdpdrv obj pass.o), or xdp_mode = \"generic\" for {}",
        interface.name
    )
}

fn of_filters(sheet: &mut Sheet, site: &Site, interface: &Interface) {
    let name = interface.name.as_str();
    if !site.has_nat || !interface.carries_backends {
        return;
    }
    if interface.rp_filter == Some(1) {
        sheet.find(
            Warning,
            Check::RpFilter,
            name,
            "the kernel's strict reverse-path filter drops answers of `nat` backends that it has to send on itself".to_owned(),
            format!("sysctl net.ipv4.conf.all.rp_filter=0 {}=0", config::sysctl(&format!("net/ipv4/conf/{name}/rp_filter"))),
        );
    }
    if site.is_local && interface.accept_local == Some(false) {
        sheet.find(
            Warning,
            Check::RpFilter,
            name,
            "answers of `nat` backends that the kernel has to send on come from a VIP, which is its own address".to_owned(),
            format!("sysctl {}=1", config::sysctl(&format!("net/ipv4/conf/{name}/accept_local"))),
        );
    }
}

fn of_way_out(sheet: &mut Sheet, way: &WayOut) {
    let name = way.interface.as_str();
    // The same trap, which was found by what is at the other end of a pair.
    let mut others = sheet.report.findings.iter().filter(|finding| finding.subject == name);
    if others.any(|finding| (finding.check, finding.severity) == (Check::VethPeer, Error)) {
        return;
    }
    let severity = if way.is_certain { Error } else { Warning };
    sheet.find(severity, Check::Redirect, name, way.what(), way.mend());
}

fn of_backend(sheet: &mut Sheet, facts: &Facts, backend: &Backend) {
    let (subject, address) = (backend.host.as_str(), backend.address);
    let Some(state) = &backend.state else { return };
    match state {
        NextHopState::Resolved(_) => {}
        NextHopState::Kept { why, .. } => sheet.find(
            Warning,
            Check::Neighbour,
            subject,
            format!("{address} does not answer any more: {why}"),
            format!("ping {address}; look at the host, its link, and filters of ARP"),
        ),
        NextHopState::Unresolved { why } => {
            let is_route = why.contains("route");
            let mend = if is_route {
                format!("ip route get {address}; add a route to it")
            } else {
                format!("ip neigh show {address}; is the host up, and on the link that the route says?")
            };
            let check = if is_route { Check::Route } else { Check::Neighbour };
            sheet.find(Error, check, subject, format!("{address} gets no packet: {why}"), mend);
        }
        NextHopState::Local => sheet.find(
            Error,
            Check::Route,
            subject,
            format!("{address} is this machine's own address"),
            "name the host's".to_owned(),
        ),
        NextHopState::NoEthernet { interface } => sheet.find(
            Error,
            Check::Route,
            subject,
            format!("{address} is reached by {interface}, which is no Ethernet interface"),
            "route it by an Ethernet interface; tunnels are made by forward = \"ipip\" or \"gue\"".to_owned(),
        ),
    }
    let Some(hop) = state.next_hop() else { return };
    if let Some(gateway) = hop.gateway
        && backend.forwards.contains(&Forward::L2)
    {
        sheet.find(
            Error,
            Check::Route,
            subject,
            format!("{address} is behind the router {gateway}, which would get packets to the VIP with `l2`"),
            "forward = \"ipip\" or \"gue\" for its services, or a backend on the balancer's segment"
                .to_owned(),
        );
    }
    let clients =
        facts.interfaces.iter().map(|interface| interface.mtu).max().unwrap_or(CLIENTS).min(CLIENTS);
    let outer = backend.forwards.iter().map(|forward| overhead(*forward, address.is_ipv6())).max();
    if let Some(outer) = outer.filter(|outer| *outer > 0)
        && hop.mtu < clients + outer
    {
        let mut mend = format!(
            "ip link set dev {} mtu {}, and on all links to the host",
            hop.interface,
            clients + outer
        );
        // What clients send is bound by what hosts announce, whose answers do not come by here.
        let room = hop.mtu.saturating_sub(outer);
        let _ = write!(
            mend,
            "; or for TCP there: ip route change default via GATEWAY advmss {}",
            room.saturating_sub(40)
        );
        let _ = write!(mend, " (IPv6 VIPs: ip -6 route, {})", room.saturating_sub(60));
        sheet.find(
            Warning,
            Check::Mtu,
            subject,
            format!(
                "packets of {clients} bytes with {outer} more of outer headers do not fit {} to {address}, MTU {}: clients are told to send less",
                hop.interface, hop.mtu
            ),
            mend,
        );
    } else if hop.mtu < clients && outer == Some(0) {
        sheet.find(
            Warning,
            Check::Mtu,
            subject,
            format!("packets of {clients} bytes do not fit {} to {address}, MTU {}", hop.interface, hop.mtu),
            format!("ip link set dev {} mtu {clients}", hop.interface),
        );
    }
}

/// Hosts that do not answer for their VIPs.
fn behind_vips(sheet: &mut Sheet, daemon: &Daemon) {
    let all = &daemon.behind;
    for behind in all {
        let Behind { host, service, vip, .. } = behind;
        if let Some(why) = &behind.failed {
            let severity = match (behind.is_wanted, behind.is_down) {
                (true, false) => Error,
                // Perhaps for this very reason.
                (true, true) => Warning,
                (false, _) => Note,
            };
            let what = format!("does not answer for {vip}, the VIP of {service}: {why}");
            let mend = match behind.forward.as_str() {
                "nat" => format!(
                    "is its server up? do its answers come back through this machine? sluice health test {host} --vip"
                ),
                "l2" => format!(
                    "there: ip addr add {vip} dev lo, arp_ignore=1, arp_announce=2; is its server up? sluice health test {host} --vip"
                ),
                tunnel => format!(
                    "there: unpack {tunnel} (sluice decap), ip addr add {vip} dev lo; is its server up? sluice health test {host} --vip"
                ),
            };
            sheet.find(severity, Check::Vip, host, what, mend);
        }
        if let Some(why) = &behind.not_asked {
            let what = format!("whether it answers for its VIPs is not known: {why}");
            sheet.find(Note, Check::Vip, host, what, format!("sluice health test {host} --vip"));
        }
    }
    if !daemon.not_asked.is_empty() {
        let what = format!(
            "hosts were not asked for the VIPs of {}: over UDP there is no handshake",
            daemon.not_asked.join(", ")
        );
        let mend = "a check of type = \"udp\" for each, which is made through the VIP then".to_owned();
        sheet.find(Note, Check::Vip, "", what, mend);
    }
    let answered = all.iter().filter(|behind| behind.failed.is_none() && behind.not_asked.is_none()).count();
    if answered > 0 {
        sheet.well(format!("{answered} of {} backends asked for their VIPs answer", all.len()));
    }
}

/// Bytes of outer headers.
fn overhead(forward: Forward, is_v6: bool) -> u32 {
    let ip = if is_v6 { 40 } else { 20 };
    match forward {
        Forward::L2 | Forward::Nat => 0,
        Forward::Ipip => ip,
        Forward::Gue => ip + 12,
    }
}
