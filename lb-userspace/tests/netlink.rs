//! Next hops over real interfaces: network namespaces joined by veth pairs. Needs root and the `ip` command.

use std::fs::File;
use std::future::Future;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use lb_userspace::netlink::{
    Error, NextHop, NextHopState, Resolver, add_vips, addresses, addresses_on, index_of, interfaces,
    remove_vips,
};
use nix::sched::{CloneFlags, setns};

/// How long something may take that should take well under a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// A balancer's namespace with two veth pairs to a peer's: `eth0` (10.0.0.1/24, fd00::1/64) and `eth1`
/// (10.1.0.1/24); the peer has .2 and ::2 there. Gone when dropped.
struct Net {
    here: String,
    peer: String,
}

impl Net {
    fn new(tag: &str) -> Self {
        let name = |side| format!("nl{}{tag}{side}", std::process::id());
        let net = Self { here: name("h"), peer: name("p") };
        for ns in [&net.here, &net.peer] {
            ip(&["netns", "add", ns]);
            ip(&["-n", ns, "link", "set", "lo", "up"]);
            // Duplicate address detection ends seconds later with an event that would hide a missed one.
            let setting = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad";
            ip(&["netns", "exec", ns, "sh", "-c", setting]);
        }
        for (number, here, peer) in [(0, "02:00:00:00:00:01", MAC_A), (1, "02:00:00:00:01:01", MAC_B)] {
            let eth = format!("eth{number}");
            net.here(&format!(
                "link add {eth} mtu 1600 address {here} type veth peer {eth} netns {}",
                net.peer
            ));
            net.peer(&format!("link set {eth} address {peer} mtu 1600"));
            net.here(&format!("address add 10.{number}.0.1/24 dev {eth}"));
            net.peer(&format!("address add 10.{number}.0.2/24 dev {eth}"));
            net.here(&format!("link set {eth} up"));
            net.peer(&format!("link set {eth} up"));
        }
        net.here("address add fd00::1/64 dev eth0 nodad");
        net.peer("address add fd00::2/64 dev eth0 nodad");
        net
    }

    fn here(&self, command: &str) {
        ip(&[&["-n", &self.here], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
    }

    fn peer(&self, command: &str) {
        ip(&[&["-n", &self.peer], command.split(' ').collect::<Vec<_>>().as_slice()].concat());
    }

    /// A change of the peer's MAC is told to its neighbours, as real hosts do when they take an address over.
    fn announce_macs(&self) {
        let settings = "for f in ipv4/conf/eth0/arp_notify ipv6/conf/eth0/ndisc_notify; do \
                        echo 1 > /proc/sys/net/$f || exit 1; done";
        ip(&["netns", "exec", &self.peer, "sh", "-c", settings]);
    }

    /// Runs `body` in the balancer's namespace, on a thread of its own with a tokio runtime of its own.
    fn run<F: Future<Output = ()>>(&self, body: impl FnOnce() -> F + Send) {
        std::thread::scope(|scope| {
            let here = &self.here;
            let thread = scope.spawn(move || {
                setns(File::open(format!("/run/netns/{here}")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(body());
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for ns in [&self.here, &self.peer] {
            let _ = Command::new("ip").args(["netns", "delete", ns]).output();
        }
    }
}

const MAC_A: &str = "02:00:00:00:00:02";
const MAC_B: &str = "02:00:00:00:01:02";

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("the `ip` command");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {error}", arguments.join(" "));
}

fn a(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Waits for a state of an address; panics with the last one seen when it does not come.
async fn until(resolver: &Resolver, address: &str, what: impl Fn(&NextHopState) -> bool) -> NextHopState {
    let mut states = resolver.subscribe();
    let wanted = states.wait_for(|states| states.get(&a(address)).is_some_and(&what));
    let found = tokio::time::timeout(PATIENCE, wanted).await.map(|found| found.unwrap()[&a(address)].clone());
    found.unwrap_or_else(|_| panic!("{address} stays {:?}", resolver.states().get(&a(address))))
}

async fn until_mac(resolver: &Resolver, address: &str, expected: &str) -> NextHop {
    let expected = mac(expected);
    let state = until(
        resolver,
        address,
        |state| matches!(state, NextHopState::Resolved(next_hop) if next_hop.dst_mac == expected),
    );
    state.await.next_hop().unwrap().clone()
}

async fn until_why(resolver: &Resolver, address: &str, part: &str) {
    until(resolver, address, |state| matches!(state, NextHopState::Unresolved { why } if why.contains(part)))
        .await;
}

#[test]
fn neighbours_on_the_link_are_found_in_both_families() {
    let net = Net::new("on");
    net.run(|| async {
        let resolver = Resolver::spawn([a("10.0.0.2"), a("fd00::2"), a("10.1.0.2")]).unwrap();
        let states = resolver.settled(PATIENCE).await;
        let expected = NextHop {
            tags: [0; 2],
            ifindex: index_of("eth0").unwrap(),
            interface: "eth0".into(),
            src_mac: mac("02:00:00:00:00:01"),
            dst_mac: mac(MAC_A),
            source: a("10.0.0.1"),
            mtu: 1600,
            gateway: None,
        };
        assert_eq!(states[&a("10.0.0.2")], NextHopState::Resolved(expected.clone()));
        let v6 = NextHop { source: a("fd00::1"), ..expected };
        assert_eq!(states[&a("fd00::2")], NextHopState::Resolved(v6));
        let other = states[&a("10.1.0.2")].next_hop().unwrap();
        assert_eq!((other.interface.as_str(), other.dst_mac), ("eth1", mac(MAC_B)));
    });
}

#[test]
fn a_gateway_stands_in_for_what_is_behind_it() {
    let net = Net::new("gw");
    net.here("route add 192.0.2.0/24 via 10.0.0.2 mtu 1400");
    net.here("route add 198.51.100.0/24 via inet6 fd00::2 dev eth0");
    net.here("route add 2001:db8::/32 via fd00::2");
    net.run(|| async {
        let resolver = Resolver::spawn(["192.0.2.9", "198.51.100.9", "2001:db8::9"].map(a)).unwrap();
        let states = resolver.settled(PATIENCE).await;
        for (address, gateway, source, mtu) in [
            ("192.0.2.9", "10.0.0.2", "10.0.0.1", 1400),
            ("198.51.100.9", "fd00::2", "10.0.0.1", 1600),
            ("2001:db8::9", "fd00::2", "fd00::1", 1600),
        ] {
            let next_hop =
                states[&a(address)].next_hop().unwrap_or_else(|| panic!("{}", states[&a(address)]));
            assert_eq!(next_hop.gateway, Some(a(gateway)), "{address}");
            assert_eq!(next_hop.source, a(source), "{address}");
            assert_eq!(next_hop.mtu, mtu, "{address}");
            assert_eq!(next_hop.dst_mac, mac(MAC_A), "{address}");
        }
    });
}

#[test]
fn own_addresses_are_followed() {
    let net = Net::new("ownf");
    net.run(|| async {
        let resolver = Resolver::spawn([]).unwrap();
        let mut own = resolver.subscribe_own();
        let [eth0, eth1] = ["eth0", "eth1"].map(|name| index_of(name).unwrap());
        let mut becomes = async |expected: [&[&str]; 2]| {
            let addresses = |texts: &[&str]| texts.iter().map(|text| a(text)).collect::<Vec<_>>();
            let wanted = own.wait_for(|own| {
                own[&eth0].addresses == addresses(expected[0])
                    && own[&eth1].addresses == addresses(expected[1])
            });
            let found = tokio::time::timeout(PATIENCE, wanted).await.map(|found| found.unwrap().clone());
            found.unwrap_or_else(|_| panic!("{expected:?}, not {:?}", resolver.subscribe_own().borrow()))
        };
        let found = becomes([&["10.0.0.1", "fd00::1"], &["10.1.0.1"]]).await;
        assert_eq!((found[&eth0].name.as_str(), found[&eth1].name.as_str()), ("eth0", "eth1"));
        net.here("address add 10.0.0.7/24 dev eth0");
        net.here("address add 169.254.1.1/16 dev eth1 scope link");
        becomes([&["10.0.0.1", "10.0.0.7", "fd00::1"], &["10.1.0.1"]]).await;
        net.here("address change fd00::1/64 dev eth0 preferred_lft 0");
        net.here("address delete 10.1.0.1/24 dev eth1");
        becomes([&["10.0.0.1", "10.0.0.7"], &[]]).await;
    });
}

#[test]
fn a_changed_mac_is_followed() {
    let net = Net::new("mac");
    net.announce_macs();
    net.run(|| async {
        let resolver = Resolver::spawn([a("10.0.0.2"), a("fd00::2")]).unwrap();
        until_mac(&resolver, "10.0.0.2", MAC_A).await;
        until_mac(&resolver, "fd00::2", MAC_A).await;
        net.peer("link set eth0 address 02:00:00:00:00:99");
        until_mac(&resolver, "10.0.0.2", "02:00:00:00:00:99").await;
        until_mac(&resolver, "fd00::2", "02:00:00:00:00:99").await;
        // Our own, and the name and MTU of the interface.
        net.here("link set eth0 address 02:00:00:00:00:77");
        until(&resolver, "10.0.0.2", |state| {
            state.next_hop().is_some_and(|next_hop| next_hop.src_mac == mac("02:00:00:00:00:77"))
        })
        .await;
        net.here("link set eth0 mtu 1500");
        until(&resolver, "10.0.0.2", |state| state.next_hop().is_some_and(|next_hop| next_hop.mtu == 1500))
            .await;
        net.here("link set eth0 name uplink");
        until(&resolver, "10.0.0.2", |state| state.next_hop().is_some_and(|nh| nh.interface == "uplink"))
            .await;
    });
}

#[test]
fn a_mac_that_changes_without_a_word_is_noticed() {
    let net = Net::new("mute");
    // The kernel's 30 s of trust and 5 s of delay, shortened.
    let settings = "cd /proc/sys/net/ipv4/neigh/eth0 && echo 1000 > base_reachable_time_ms && \
                    echo 1 > delay_first_probe_time && echo 200 > retrans_time_ms";
    ip(&["netns", "exec", &net.here, "sh", "-c", settings]);
    net.run(|| async {
        let resolver = Resolver::spawn([a("10.0.0.2")]).unwrap();
        until_mac(&resolver, "10.0.0.2", MAC_A).await;
        net.peer("link set eth0 address 02:00:00:00:00:99");
        // Nobody sends, so only the resolver's own verification can find out.
        tokio::time::sleep(Duration::from_secs(4)).await;
        until_mac(&resolver, "10.0.0.2", "02:00:00:00:00:99").await;
    });
}

#[test]
fn a_changed_route_is_followed() {
    let net = Net::new("rt");
    net.here("route add 192.0.2.0/24 via 10.0.0.2");
    net.run(|| async {
        let resolver = Resolver::spawn([a("192.0.2.9"), a("203.0.113.9")]).unwrap();
        until_mac(&resolver, "192.0.2.9", MAC_A).await;
        until_why(&resolver, "203.0.113.9", "no route to 203.0.113.9").await;
        net.here("route add 192.0.2.9/32 via 10.1.0.2");
        let next_hop = until_mac(&resolver, "192.0.2.9", MAC_B).await;
        assert_eq!((next_hop.interface.as_str(), next_hop.source), ("eth1", a("10.1.0.1")));
        net.here("route delete 192.0.2.9/32");
        until_mac(&resolver, "192.0.2.9", MAC_A).await;
        net.here("route delete 192.0.2.0/24");
        until_why(&resolver, "192.0.2.9", "no route to 192.0.2.9").await;
        net.here("route add default via 10.0.0.2");
        until_mac(&resolver, "192.0.2.9", MAC_A).await;
        until_mac(&resolver, "203.0.113.9", MAC_A).await;
        net.here("route add blackhole 192.0.2.9/32");
        until_why(&resolver, "192.0.2.9", "blackhole").await;
    });
}

#[test]
fn a_rule_or_a_next_hop_object_may_change_the_route_too() {
    let net = Net::new("rule");
    // Without this the kernel tells of each route of a next-hop object that is replaced.
    let setting = "echo 0 > /proc/sys/net/ipv4/nexthop_compat_mode";
    ip(&["netns", "exec", &net.here, "sh", "-c", setting]);
    net.here("nexthop add id 7 via 10.0.0.2 dev eth0");
    net.here("route add 192.0.2.0/24 nhid 7");
    net.here("route add 192.0.2.0/24 via 10.1.0.2 table 77");
    net.run(|| async {
        let resolver = Resolver::spawn([a("192.0.2.9")]).unwrap();
        until_mac(&resolver, "192.0.2.9", MAC_A).await;
        net.here("rule add to 192.0.2.0/24 lookup 77");
        until_mac(&resolver, "192.0.2.9", MAC_B).await;
        net.here("rule delete to 192.0.2.0/24 lookup 77");
        until_mac(&resolver, "192.0.2.9", MAC_A).await;
        net.here("nexthop replace id 7 via 10.1.0.2 dev eth1");
        until_mac(&resolver, "192.0.2.9", MAC_B).await;
    });
}

#[test]
fn an_interface_that_goes_down_or_away_is_named() {
    let net = Net::new("down");
    net.run(|| async {
        let resolver = Resolver::spawn(["10.0.0.2", "fd00::2", "10.1.0.2"].map(a)).unwrap();
        until_mac(&resolver, "10.0.0.2", MAC_A).await;
        until_mac(&resolver, "fd00::2", MAC_A).await;
        until_mac(&resolver, "10.1.0.2", MAC_B).await;
        net.here("link set eth0 down");
        until_why(&resolver, "10.0.0.2", "eth0 is down").await;
        until_why(&resolver, "fd00::2", "eth0 is down").await;
        net.here("link set eth0 up");
        until_mac(&resolver, "10.0.0.2", MAC_A).await;
        net.peer("link set eth0 down");
        until_why(&resolver, "10.0.0.2", "eth0 has no carrier").await;
        net.here("link delete eth1");
        until_why(&resolver, "10.1.0.2", "eth1 is gone").await;

        // Never resolved before, but the subnet says which interface would lead there.
        net.here("link set eth0 down");
        resolver.set_addresses([a("10.0.0.3")]);
        until_why(&resolver, "10.0.0.3", "eth0 is down").await;
        assert_eq!(resolver.states().len(), 1, "the states are those of the addresses asked for");
    });
}

#[test]
fn a_host_that_does_not_answer_is_said_to() {
    let net = Net::new("dead");
    net.run(|| async {
        let resolver = Resolver::spawn([a("10.0.0.11"), a("fd00::11")]).unwrap();
        until_why(&resolver, "10.0.0.11", "waiting for an answer to ARP on eth0 for 10.0.0.11").await;
        // The kernel asks three times, a second apart.
        tokio::time::sleep(Duration::from_secs(2)).await;
        until_why(&resolver, "10.0.0.11", "no answer to ARP on eth0 for 10.0.0.11").await;
        until_why(&resolver, "fd00::11", "no answer to neighbour discovery on eth0 for fd00::11").await;
        // It is asked again without anybody's doing.
        net.peer("address add 10.0.0.11/24 dev eth0");
        tokio::time::sleep(Duration::from_secs(4)).await;
        until_mac(&resolver, "10.0.0.11", MAC_A).await;
    });
}

#[test]
fn a_neighbour_that_stops_to_answer_is_kept_until_its_route_goes() {
    let net = Net::new("kept");
    net.run(|| async {
        let resolver = Resolver::spawn([a("10.0.0.2")]).unwrap();
        let resolved = until_mac(&resolver, "10.0.0.2", MAC_A).await;
        net.peer("address delete 10.0.0.2/24 dev eth0");
        // As if the kernel had dropped the entry; it is asked for again and fails after three seconds.
        net.here("neighbour delete 10.0.0.2 dev eth0");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(
            resolver.states()[&a("10.0.0.2")],
            NextHopState::Resolved(resolved.clone()),
            "not known yet"
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
        let kept = until(&resolver, "10.0.0.2", |state| matches!(state, NextHopState::Kept { .. })).await;
        assert_eq!(kept.next_hop(), Some(&resolved));
        assert!(kept.to_string().contains("no answer to ARP on eth0 for 10.0.0.2"), "{kept}");
        // Being asked again does not hide that it does not answer.
        let mut states = resolver.subscribe();
        states.mark_unchanged();
        assert!(tokio::time::timeout(Duration::from_secs(1), states.changed()).await.is_err());

        net.here("address delete 10.0.0.1/24 dev eth0");
        until_why(&resolver, "10.0.0.2", "no route to 10.0.0.2").await;
        // Nothing of it is left when the route comes back.
        net.here("address add 10.0.0.1/24 dev eth0");
        until_why(&resolver, "10.0.0.2", "ARP on eth0").await;
    });
}

#[test]
fn own_addresses_and_interfaces_without_ethernet_are_refused() {
    let net = Net::new("own");
    net.here("tuntap add dev tun0 mode tun");
    net.here("link set tun0 up");
    net.here("address add 10.9.0.1/24 dev tun0");
    net.run(|| async {
        let own = ["10.0.0.1", "127.0.0.1", "fd00::1", "::1"];
        let resolver =
            Resolver::spawn(own.map(a).into_iter().chain([a("10.0.0.255"), a("224.0.0.9")])).unwrap();
        for address in own {
            until(&resolver, address, |state| *state == NextHopState::Local).await;
        }
        until_why(&resolver, "10.0.0.255", "broadcast").await;
        until_why(&resolver, "224.0.0.9", "multicast").await;

        // A backend's address that becomes our own, and back.
        resolver.set_addresses([a("10.0.0.2")]);
        until_mac(&resolver, "10.0.0.2", MAC_A).await;
        net.here("address add 10.0.0.2/32 dev lo");
        until(&resolver, "10.0.0.2", |state| *state == NextHopState::Local).await;
        net.here("address delete 10.0.0.2/32 dev lo");
        until_mac(&resolver, "10.0.0.2", MAC_A).await;
    });
    // A tun interface has a carrier only while somebody holds it open.
    net.run(|| async {
        let _tun = hold_tun("tun0");
        let resolver = Resolver::spawn([a("10.9.0.2")]).unwrap();
        let expected = NextHopState::NoEthernet { interface: "tun0".into() };
        until(&resolver, "10.9.0.2", |state| *state == expected).await;
    });
}

/// Opens a tun interface, which gives it a carrier.
fn hold_tun(name: &str) -> File {
    use std::os::fd::AsRawFd;
    let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // struct ifreq of linux/if.h: sixteen bytes of name, then the flags.
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(libc::IFF_TUN as u16).to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which is 40 bytes long.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(result, 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
    file
}

#[test]
fn an_operators_permanent_entry_serves_and_stays_permanent() {
    let net = Net::new("perm");
    net.here("neighbour add 10.0.0.40 lladdr 02:00:00:00:00:40 dev eth0 nud permanent");
    net.run(|| async {
        let resolver = Resolver::spawn([a("10.0.0.40")]).unwrap();
        until_mac(&resolver, "10.0.0.40", "02:00:00:00:00:40").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let output = Command::new("ip").args(["neighbour", "show", "10.0.0.40"]).output().unwrap();
        let entry = String::from_utf8(output.stdout).unwrap();
        assert!(entry.contains("PERMANENT"), "{entry}");
    });
}

#[test]
fn lost_events_are_made_up_for() {
    let net = Net::new("lost");
    net.run(|| async {
        let resolver = Resolver::spawn([a("10.0.0.2")]).unwrap();
        until_mac(&resolver, "10.0.0.2", MAC_A).await;
        // More than the socket holds, all while the task does not run: it shares this thread.
        let batch = std::env::temp_dir().join(format!("netlink-test-{}", std::process::id()));
        let mut lines = String::new();
        for number in 0..40_000 {
            let (x, y) = (number / 256, number % 256);
            lines +=
                &format!("neighbour replace 10.0.{x}.{y} lladdr 02:01:00:00:00:00 dev eth1 nud permanent\n");
        }
        std::fs::write(&batch, lines + "link set eth0 down\n").unwrap();
        ip(&["-n", &net.here, "-batch", batch.to_str().unwrap()]);
        std::fs::remove_file(&batch).unwrap();
        until_why(&resolver, "10.0.0.2", "eth0 is down").await;
    });
}

#[test]
fn interfaces_and_addresses_are_listed() {
    let net = Net::new("list");
    net.run(|| async {
        let found = interfaces().unwrap();
        let eth0 = found.iter().find(|interface| interface.name == "eth0").unwrap();
        assert_eq!(
            (eth0.index, eth0.mac, eth0.mtu, eth0.up, eth0.kind.as_str()),
            (index_of("eth0").unwrap(), Some(mac("02:00:00:00:00:01")), 1600, true, "veth")
        );
        let lo = found.iter().find(|interface| interface.name == "lo").unwrap();
        assert_eq!((lo.mac, lo.kind.as_str()), (None, "loopback"));
        net.here("link set eth1 down");
        assert!(interfaces().unwrap().iter().any(|interface| interface.name == "eth1" && !interface.up));

        let found = addresses().unwrap();
        for (name, address) in
            [("lo", "127.0.0.1"), ("eth0", "10.0.0.1"), ("eth0", "fd00::1"), ("eth1", "10.1.0.1")]
        {
            assert!(found.contains(&(name.into(), a(address))), "{address} on {name} in {found:?}");
        }
        assert!(matches!(index_of("eth9"), Err(Error::NoInterface { name }) if name == "eth9"));
    });
}

#[test]
fn vips_come_and_go_and_the_operators_own_stay() {
    let net = Net::new("vip");
    net.here("address add 10.0.0.100/24 dev eth0");
    net.here("address add 10.0.0.102/32 dev eth0");
    net.run(|| async {
        let vips = ["10.0.0.100", "10.0.0.101", "10.0.0.102", "fd00::100"].map(a);
        let have = |address: &str| addresses().unwrap().contains(&("eth0".into(), a(address)));
        let eth0 = index_of("eth0").unwrap();
        let added = add_vips(eth0, &vips).unwrap();
        assert_eq!(added, [a("10.0.0.101"), a("fd00::100")]);
        assert!(add_vips(eth0, &vips).unwrap().is_empty(), "a second time there is nothing to add");
        assert!(have("10.0.0.101") && have("fd00::100"));
        let shown = Command::new("ip").args(["address", "show", "dev", "eth0"]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let line = |start: &str| {
            shown.lines().find(|line| line.contains(start)).unwrap_or_else(|| panic!("{shown}"))
        };
        assert!(line("inet 10.0.0.101/32").contains("noprefixroute"), "{shown}");
        let v6 = line("inet6 fd00::100/128");
        assert!(v6.contains("nodad") && v6.contains("noprefixroute") && v6.contains("deprecated"), "{shown}");
        assert!(!v6.contains("tentative"), "{shown}");

        // The machine's own connections do not start from a virtual address.
        let resolver = Resolver::spawn([a("fd00::2")]).unwrap();
        assert_eq!(until_mac(&resolver, "fd00::2", MAC_A).await.source, a("fd00::1"));

        remove_vips(eth0, &added).unwrap();
        remove_vips(eth0, &added).unwrap();
        assert!(!have("10.0.0.101") && !have("fd00::100"));
        assert!(have("10.0.0.1") && have("10.0.0.100") && have("10.0.0.102") && have("fd00::1"));
        // An address with a prefix was not made by us, even if it is named.
        remove_vips(eth0, &[a("10.0.0.100")]).unwrap();
        assert!(have("10.0.0.100"));

        // All or nothing: a multicast address cannot be had.
        let error = add_vips(eth0, &[a("10.0.0.103"), a("ff02::9")]).unwrap_err();
        assert!(matches!(&error, Error::AddVip { address, .. } if *address == a("ff02::9")), "{error}");
        assert!(!have("10.0.0.103"));
        assert!(error.to_string().ends_with(" to eth0"), "{error}");
        let nowhere = 4711;
        assert!(matches!(add_vips(nowhere, &vips), Err(Error::AddVip { .. })));
        remove_vips(nowhere, &vips).unwrap();
        assert!(
            addresses_on(nowhere).unwrap().is_empty()
                && addresses_on(eth0).unwrap().contains(&a("10.0.0.100"))
        );
    });
}

#[test]
fn a_resolver_stays_in_the_namespace_that_it_was_made_in() {
    let net = Net::new("ns");
    net.run(|| async {
        let resolver = Resolver::spawn([a("10.0.0.2")]).unwrap();
        // Threads for blocking work are made from here on, so they are in the other namespace too.
        setns(File::open(format!("/run/netns/{}", net.peer)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        assert!(addresses().unwrap().contains(&("eth0".into(), a("10.0.0.2"))), "this thread is elsewhere");
        until_mac(&resolver, "10.0.0.2", MAC_A).await;
        net.here("link set eth0 down");
        until_why(&resolver, "10.0.0.2", "eth0 is down").await;
    });
}

#[test]
fn a_resolver_needs_a_runtime() {
    assert!(matches!(Resolver::spawn([]), Err(Error::Runtime(_))));
}

#[test]
fn a_thousand_backends_are_cheap() {
    let net = Net::new("many");
    net.run(|| async {
        let backends = (0..1000u32).map(|n| IpAddr::from([10, 0, (n / 250 + 4) as u8, (n % 250 + 1) as u8]));
        net.here("route add 10.0.4.0/22 via 10.0.0.2");
        let resolver = Resolver::spawn(backends).unwrap();
        let states = resolver.settled(PATIENCE).await;
        assert_eq!(states.values().filter(|state| state.next_hop().is_some()).count(), 1000);
        net.here("route change 10.0.4.0/22 via 10.1.0.2");
        let mut watched = resolver.subscribe();
        let all_moved = watched.wait_for(|states| {
            states
                .values()
                .all(|state| state.next_hop().is_some_and(|next_hop| next_hop.dst_mac == mac(MAC_B)))
        });
        tokio::time::timeout(PATIENCE, all_moved).await.expect("all follow the route").unwrap();
    });
}
