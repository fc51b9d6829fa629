//! Each trap by its facts; that facts are gathered right the suites `veth_doctor` and `vm_devices` show.

use super::facts::{
    Answer, Backend, Behind, Bpffs, Daemon, Facts, Grown, Interface, Machine, Peer, Site, XdpFeatures,
};
use super::{Check, Finding, Severity, judge};
use crate::model::{Forward, XdpMode};
use crate::netlink::{NextHop, NextHopState, WayOut};

fn hop(mtu: u32) -> NextHop {
    NextHop {
        ifindex: 2,
        interface: "eth0".to_owned(),
        tags: [0, 0],
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: [2, 0, 0, 0, 0, 2],
        source: "10.0.0.1".parse().unwrap(),
        mtu,
        gateway: None,
    }
}

fn backend(forward: Forward, state: NextHopState) -> Backend {
    Backend {
        host: "web-1".to_owned(),
        address: "10.0.0.11".parse().unwrap(),
        services: ["web".to_owned()].into(),
        forwards: vec![forward],
        state: Some(state),
    }
}

/// Where nothing is wrong.
fn healthy() -> Facts {
    Facts {
        machine: Machine {
            kernel: Some((6, 1)),
            has_btf: true,
            jit: Some(1),
            has_net_raw: true,
            bpffs: Bpffs::Mounted,
            memory_available: Some(1 << 30),
            neighbours_v4: Some(1024),
            neighbours_v6: Some(1024),
            ..Machine::default()
        },
        interfaces: vec![Interface {
            name: "eth0".to_owned(),
            index: 2,
            kind: "ethernet".to_owned(),
            driver: Some("ice".to_owned()),
            mtu: 1500,
            up: true,
            carrier: Some(true),
            xdp: XdpFeatures { native: Some(true), takes_redirects: Some(true) },
            lro: Some(false),
            rxvlan: Some(true),
            rp_filter: Some(0),
            accept_local: Some(true),
            carries_backends: true,
            ..Interface::default()
        }],
        backends: vec![backend(Forward::L2, NextHopState::Resolved(hop(1500)))],
        ways_out: Vec::new(),
        forwards: false,
        config_problems: Vec::new(),
        site: Some(Site {
            memory: 200 << 20,
            has_nat: false,
            is_local: false,
            backends_v4: 1,
            backends_v6: 0,
        }),
        daemon: Daemon::default(),
    }
}

fn findings(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = healthy();
    change(&mut facts);
    judge(&facts).findings
}

/// The only finding of a healthy machine with one thing wrong.
fn only(severity: Severity, check: Check, mend: &str, change: impl FnOnce(&mut Facts)) {
    let found = findings(change);
    assert_eq!(found.len(), 1, "{check:?}: {found:#?}");
    assert_eq!((found[0].severity, found[0].check), (severity, check), "{found:#?}");
    assert!(found[0].mend.contains(mend), "{mend:?} is not in {:?}", found[0].mend);
    assert!(!found[0].what.is_empty());
}

use Severity::{Error, Note, Warning};

#[test]
fn a_healthy_machine_has_no_finding() {
    let report = judge(&healthy());
    assert_eq!(report.findings, []);
    assert!(!report.is_ill() && report.well.len() >= 7, "{:?}", report.well);
    // What could not be found out is no finding either.
    assert!(judge(&Facts { machine: healthy().machine, ..Facts::default() }).findings.is_empty());
}

#[test]
fn traps_of_the_machine() {
    only(Error, Check::Kernel, "5.15", |facts| facts.machine.kernel = Some((5, 13)));
    only(Warning, Check::Kernel, "5.15", |facts| facts.machine.kernel = Some((5, 14)));
    assert!(findings(|facts| facts.machine.kernel = Some((5, 15))).is_empty());
    only(Error, Check::Kernel, "little-endian", |facts| facts.machine.is_big_endian = true);
    only(Error, Check::Btf, "CONFIG_DEBUG_INFO_BTF", |facts| facts.machine.has_btf = false);
    only(Warning, Check::Jit, "bpf_jit_enable=1", |facts| facts.machine.jit = Some(0));
    assert!(findings(|facts| facts.machine.jit = None).is_empty(), "always on");
    only(Warning, Check::BpfStats, "bpf_stats_enabled=0", |facts| facts.machine.bpf_stats = true);
    only(Error, Check::Capabilities, "as root", |facts| {
        facts.machine.missing_capabilities = vec!["CAP_BPF".to_owned()];
    });
    only(Warning, Check::Capabilities, "CAP_NET_RAW", |facts| facts.machine.has_net_raw = false);
    only(Note, Check::Bpffs, "mount -t bpf", |facts| facts.machine.bpffs = Bpffs::NotMounted);
    only(Error, Check::Bpffs, "mount", |facts| facts.machine.bpffs = Bpffs::NoFolder);
    only(Error, Check::Memory, "flow_table.pins", |facts| facts.machine.memory_available = Some(100 << 20));
    only(Warning, Check::NeighbourTable, "gc_thresh3=4096", |facts| {
        facts.site.as_mut().unwrap().backends_v4 = 600;
    });
    only(Warning, Check::Daemon, "sluice status", |facts| {
        facts.daemon = Daemon { answer: Answer::Status, problems: vec!["x".to_owned()], ..Daemon::default() };
    });
    only(Error, Check::Config, "write it so", |facts| {
        facts.config_problems = vec![("f:3 a.b".to_owned(), "wrong".to_owned(), "write it so".to_owned())];
    });
}

#[test]
fn traps_of_interfaces() {
    fn eth0(facts: &mut Facts) -> &mut Interface {
        &mut facts.interfaces[0]
    }
    only(Error, Check::Link, "ip link set eth0 up", |facts| eth0(facts).up = false);
    only(Error, Check::Link, "cable", |facts| eth0(facts).carrier = Some(false));
    only(Error, Check::OtherProgram, "bpftool prog show id 7", |facts| {
        eth0(facts).other_programs = vec![("native".to_owned(), 7)];
    });
    only(Error, Check::OtherProgram, "xdpgeneric off", |facts| {
        eth0(facts).other_programs = vec![("generic".to_owned(), 7)];
    });
    only(Note, Check::XdpMode, "NIC", |facts| eth0(facts).xdp.native = Some(false));
    only(Error, Check::XdpMode, "\"auto\"", |facts| {
        eth0(facts).xdp.native = Some(false);
        eth0(facts).wanted = XdpMode::Native;
    });
    only(Error, Check::Offload, "ethtool -K eth0 lro off", |facts| eth0(facts).lro = Some(true));
    only(Error, Check::Offload, "ethtool -K eth0 rxvlan off", |facts| {
        eth0(facts).vlans = vec!["eth0.7".to_owned()];
    });
    only(Error, Check::Swallowed, "ethtool -S eth0", |facts| {
        eth0(facts).xdp_errors = [("tx_xdp_err".to_owned(), Grown { all: 3, new: 1 })].into();
    });
    only(Note, Check::Swallowed, "ethtool -S eth0", |facts| {
        eth0(facts).xdp_errors = [("tx_xdp_err".to_owned(), Grown { all: 3, new: 0 })].into();
    });
}

#[test]
fn a_daemon_that_is_gone_or_stuck() {
    let words = |text: &str| text.to_owned();
    only(Error, Check::Daemon, "systemctl start sluice", |facts| facts.forwards = true);
    only(Warning, Check::Daemon, "as root", |facts| {
        let (why, mend) = (words("no permission"), words("run it as root"));
        facts.daemon.answer = Answer::Barred { why, mend };
    });
    only(Error, Check::Daemon, "its log", |facts| {
        let (why, mend) = (words("it has not answered"), words("read its log"));
        (facts.daemon.answer, facts.forwards) = (Answer::Wrong { why, mend }, true);
    });
    assert!(findings(|facts| (facts.daemon.answer, facts.forwards) = (Answer::Status, true)).is_empty());
}

#[test]
fn frames_for_another_interface_are_taken_there() {
    let way = |kind: &str, is_native, is_certain| WayOut {
        ifindex: 3,
        interface: "eth1".to_owned(),
        kind: kind.to_owned(),
        is_native,
        is_certain,
    };
    let of = |way: WayOut| move |facts: &mut Facts| facts.ways_out = vec![way];
    only(Error, Check::Redirect, "add it to interfaces, in native mode", of(way("bridge", false, true)));
    only(Error, Check::Redirect, "whether its driver has a setting", of(way("ethernet", true, true)));
    only(Error, Check::Redirect, "give its other end an XDP program or GRO", of(way("veth", true, true)));
    only(Warning, Check::Redirect, "add it to interfaces", of(way("ethernet", false, false)));
    // A pair is told of once.
    only(Error, Check::VethPeer, "PEER", |facts| {
        facts.interfaces[0].peer = Some(Peer::Elsewhere);
        facts.interfaces[0].xdp.takes_redirects = Some(false);
        facts.ways_out = vec![WayOut { interface: "eth0".to_owned(), ..way("veth", true, true) }];
    });
}

#[test]
fn a_veth_needs_a_program_at_its_other_end() {
    let peer = |has_native_program, tx_checksums| Peer::Here {
        name: "veth1".to_owned(),
        has_native_program,
        tx_checksums: Some(tx_checksums),
    };
    only(Error, Check::VethPeer, "veth1 xdpdrv", |facts| facts.interfaces[0].peer = Some(peer(false, false)));
    only(Warning, Check::Offload, "ethtool -K veth1 tx off", |facts| {
        facts.interfaces[0].peer = Some(peer(true, true));
    });
    assert!(findings(|facts| facts.interfaces[0].peer = Some(peer(true, false))).is_empty());
    only(Note, Check::VethPeer, "PEER", |facts| facts.interfaces[0].peer = Some(Peer::Elsewhere));
    only(Error, Check::VethPeer, "PEER", |facts| {
        facts.interfaces[0].peer = Some(Peer::Elsewhere);
        facts.interfaces[0].xdp.takes_redirects = Some(false);
    });
    let generic = findings(|facts| {
        facts.interfaces[0].peer = Some(Peer::Elsewhere);
        facts.interfaces[0].wanted = XdpMode::Generic;
    });
    assert!(generic.is_empty(), "{generic:?}");
    let kept = |attached: &str, wanted| {
        let attached = Some(attached.to_owned());
        findings(move |facts| {
            facts.interfaces[0].peer = Some(Peer::Elsewhere);
            (facts.interfaces[0].attached, facts.interfaces[0].wanted) = (attached, wanted);
        })
    };
    assert!(kept("generic", XdpMode::Auto).is_empty(), "the driver has refused native mode");
    assert_eq!(kept("native", XdpMode::Generic).len(), 1, "a running data path does not change its mode");
}

#[test]
fn traps_of_ways_to_backends() {
    let set = |facts: &mut Facts, forward, state| facts.backends = vec![backend(forward, state)];
    only(Error, Check::Route, "ip route get 10.0.0.11", |facts| {
        set(facts, Forward::L2, NextHopState::Unresolved { why: "no route to it".to_owned() });
    });
    only(Error, Check::Neighbour, "ip neigh show 10.0.0.11", |facts| {
        set(facts, Forward::L2, NextHopState::Unresolved { why: "does not answer".to_owned() });
    });
    only(Warning, Check::Neighbour, "ping 10.0.0.11", |facts| {
        set(facts, Forward::L2, NextHopState::Kept { next_hop: hop(1500), why: "silent".to_owned() });
    });
    only(Error, Check::Route, "name the host's", |facts| set(facts, Forward::L2, NextHopState::Local));
    only(Error, Check::Route, "Ethernet", |facts| {
        set(facts, Forward::L2, NextHopState::NoEthernet { interface: "tun0".to_owned() });
    });
    let routed = NextHop { gateway: Some("10.0.0.254".parse().unwrap()), ..hop(1500) };
    only(Error, Check::Route, "ipip", |facts| {
        set(facts, Forward::L2, NextHopState::Resolved(routed.clone()))
    });
    let far = NextHop { mtu: 1600, ..routed };
    assert!(findings(|facts| set(facts, Forward::Ipip, NextHopState::Resolved(far))).is_empty());
}

#[test]
fn outer_headers_need_room() {
    let with = |forward, mtu| {
        move |facts: &mut Facts| facts.backends = vec![backend(forward, NextHopState::Resolved(hop(mtu)))]
    };
    only(Warning, Check::Mtu, "mtu 1520", with(Forward::Ipip, 1500));
    only(Warning, Check::Mtu, "advmss 1428", with(Forward::Gue, 1500));
    // Answers do not pass the tunnel, so the balancer cannot bound what clients send.
    only(Warning, Check::Mtu, "(IPv6 VIPs: ip -6 route, 1420)", with(Forward::Ipip, 1500));
    assert!(findings(with(Forward::Ipip, 1500)).iter().all(|finding| !finding.mend.contains("mss_clamp")));
    only(Warning, Check::Mtu, "mtu 1532", with(Forward::Gue, 1531));
    only(Warning, Check::Mtu, "mtu 1500", with(Forward::L2, 1400));
    for (forward, mtu) in
        [(Forward::Ipip, 1520), (Forward::Gue, 1532), (Forward::L2, 1500), (Forward::Nat, 1500)]
    {
        assert!(findings(with(forward, mtu)).is_empty(), "{forward:?} {mtu}");
    }
}

#[test]
fn filters_matter_to_nat_alone() {
    let strict = |facts: &mut Facts| facts.interfaces[0].rp_filter = Some(1);
    assert!(findings(strict).is_empty());
    only(Warning, Check::RpFilter, "eth0.rp_filter=0", |facts| {
        strict(facts);
        facts.site.as_mut().unwrap().has_nat = true;
    });
    // With dots for slashes sysctl(8) would look for another interface.
    only(
        Warning,
        Check::RpFilter,
        "sysctl net.ipv4.conf.all.rp_filter=0 net/ipv4/conf/eth0.7/rp_filter=0",
        |facts| {
            strict(facts);
            facts.interfaces[0].name = "eth0.7".to_owned();
            facts.site.as_mut().unwrap().has_nat = true;
        },
    );
    only(Warning, Check::RpFilter, "accept_local=1", |facts| {
        let site = facts.site.as_mut().unwrap();
        (site.has_nat, site.is_local) = (true, true);
        facts.interfaces[0].accept_local = Some(false);
    });
}

#[test]
fn the_worst_comes_first() {
    let found = findings(|facts| {
        facts.machine.jit = Some(0);
        facts.machine.bpffs = Bpffs::NotMounted;
        facts.interfaces[0].up = false;
    });
    let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Error, Warning, Note]);
}

#[test]
fn a_host_that_does_not_answer_for_its_vip() {
    let behind = |forward: &str, is_wanted, failed: Option<&str>, not_asked: Option<&str>| Behind {
        host: "web-1".to_owned(),
        service: "web".to_owned(),
        vip: "192.0.2.1".to_owned(),
        forward: forward.to_owned(),
        is_wanted,
        is_down: false,
        failed: failed.map(str::to_owned),
        not_asked: not_asked.map(str::to_owned),
    };
    let of = |behind: Behind| {
        let daemon = Daemon { answer: Answer::Status, behind: vec![behind], ..Daemon::default() };
        let found = findings(|facts| facts.daemon = daemon);
        assert!(found.iter().all(|finding| finding.check == Check::Vip && finding.subject == "web-1"));
        found.into_iter().map(|finding| (finding.severity, finding.what + " | " + &finding.mend)).next()
    };
    assert_eq!(of(behind("l2", true, None, None)), None);
    for (forward, mend) in [("l2", "arp_ignore=1"), ("ipip", "unpack ipip"), ("nat", "answers come back")] {
        let (severity, text) = of(behind(forward, true, Some("no answer in 500ms"), None)).unwrap();
        assert_eq!(severity, Severity::Error);
        assert!(text.starts_with("does not answer for 192.0.2.1, the VIP of web: no answer"), "{text}");
        assert!(text.contains(mend), "{text}");
    }
    let (severity, _) = of(behind("l2", false, Some("no answer"), None)).unwrap();
    assert_eq!(severity, Severity::Note, "nobody is sent there");
    let down = Behind { is_down: true, ..behind("l2", true, Some("no answer"), None) };
    assert_eq!(of(down).unwrap().0, Severity::Warning, "its checks may be down for that");
    let (severity, text) = of(behind("l2", true, None, Some("no packet socket"))).unwrap();
    assert_eq!(severity, Severity::Note);
    assert!(text.contains("is not known: no packet socket"), "{text}");
    let left = Daemon { answer: Answer::Status, not_asked: vec!["dns".to_owned()], ..Daemon::default() };
    only(Note, Check::Vip, "type = \"udp\"", |facts| facts.daemon = left);
}
