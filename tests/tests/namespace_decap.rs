//! The decapsulator on real interfaces, each test in network namespaces of its own: attach, update in place, status,
//! detach, and every refusal. Each ends with nothing left in the BPF file system. Needs root.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use etherparse::{IpNumber, Ipv4Header, PacketBuilder};
use lb_userspace::decap::{
    DecapAction, DecapError, DecapOptions, Mode, State, Status, attach, detach, run, status,
};
use lb_userspace::{bpffs, objects};
use nix::sched::{CloneFlags, unshare};

const VIP: &str = "203.0.113.1";
const BACKEND: [u8; 4] = [192, 0, 2, 7];
const MAC: &str = "02:00:00:00:00:07";

/// Options with an instance that only this test uses; what is left of it at the end fails the test.
struct Instance(DecapOptions);

impl Instance {
    fn new(interface: &str) -> Instance {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("decap-test-{}-{number}", std::process::id());
        Instance(DecapOptions::new(&name, interface, DecapAction::Attach))
    }

    fn status(&self) -> Status {
        status(&self.0).unwrap()
    }

    fn run(&self, action: DecapAction, json: bool) -> String {
        let mut out = Vec::new();
        run(&DecapOptions { action, json, ..self.0.clone() }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn is_left(&self) -> bool {
        Path::new(bpffs::DEFAULT_PATH).join("sluice").join(&self.0.instance).exists()
    }

    /// The refusal's message with its causes; nothing is left of the attempt.
    fn refusal(&self) -> (DecapError, String) {
        let error = attach(&self.0).unwrap_err();
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            message += &format!(": {source}");
            cause = source.source();
        }
        (error, message)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let left = self.is_left();
        let _ = detach(&self.0);
        if !thread::panicking() {
            assert!(!left, "pins are left of {}", self.0.instance);
        }
    }
}

/// Runs a test in a network namespace that ends with it.
fn in_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let result = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test()
    });
    result.join().unwrap_or_else(|panic| resume_unwind(panic))
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A pair of interfaces, `wire` and the backend's, which has an address of each family.
fn veth(backend: &str) {
    ip(&format!("link add wire type veth peer name {backend} address {MAC}"));
    ip(&format!("addr add 192.0.2.7/24 dev {backend}"));
    ip(&format!("addr add 2001:db8::7/64 dev {backend} nodad"));
    for interface in ["lo", "wire", backend] {
        ip(&format!("link set {interface} up"));
    }
}

/// Sends frames into `wire`.
struct Wire {
    socket: OwnedFd,
    address: libc::sockaddr_ll,
}

impl Wire {
    fn open() -> Wire {
        // SAFETY: no pointers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: integers and byte arrays only.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = nix::net::if_::if_nametoindex("wire").unwrap() as i32;
        // SAFETY: a new file descriptor that nobody else knows.
        Wire { socket: unsafe { OwnedFd::from_raw_fd(socket) }, address }
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: frame and address are as long as said.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const self.address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
    }
}

/// A datagram to the VIP, encapsulated as the balancer does.
fn encapsulated(number: u32) -> Vec<u8> {
    let mut inner = Vec::new();
    let builder = PacketBuilder::ipv4([198, 51, 100, 99], [203, 0, 113, 1], 61).udp(40000, 5300);
    builder.write(&mut inner, &number.to_be_bytes()).unwrap();
    let mut outer = Ipv4Header::new(inner.len() as u16, 64, IpNumber::IPV4, [192, 0, 2, 1], BACKEND).unwrap();
    outer.header_checksum = outer.calc_header_checksum();
    let ethernet = [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    [&ethernet[..], &outer.to_bytes(), &inner].concat()
}

/// A backend with the VIP on its loopback interface, as with direct server return.
fn server(backend: &str) -> UdpSocket {
    veth(backend);
    ip(&format!("addr add {VIP}/32 dev lo"));
    for interface in ["all", backend] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0").unwrap();
    }
    let socket = UdpSocket::bind((VIP, 5300)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// The number of the next datagram; `None` if none comes.
fn receive(socket: &UdpSocket) -> Option<u32> {
    let mut bytes = [0; 4];
    match socket.recv(&mut bytes) {
        Ok(_) => Some(u32::from_be_bytes(bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

fn counter(status: &Status, name: &str) -> u64 {
    status.counters.iter().find(|(reason, _)| *reason == name).unwrap().1
}

fn own_addresses(status: &Status) -> Vec<IpAddr> {
    let is_link_local = |address: &IpAddr| matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
    status.addresses.iter().copied().filter(|address| !is_link_local(address)).collect()
}

#[test]
fn a_backend_serves_the_vip_from_attach_to_detach() {
    in_namespace(|| {
        let socket = server("eth0");
        let wire = Wire::open();
        let instance = Instance::new("eth0");
        wire.send(&encapsulated(1));
        assert_eq!(receive(&socket), None, "the kernel decapsulates by itself: the test shows nothing");
        assert_eq!(instance.status().state, State::NotAttached);

        let said = instance.run(DecapAction::Attach, false);
        assert!(
            said.starts_with("eth0: attached, native mode, accepts packets for 192.0.2.7, 2001:db8::7"),
            "{said}"
        );
        wire.send(&encapsulated(2));
        assert_eq!(receive(&socket), Some(2));

        let status = instance.status();
        assert_eq!((status.state, status.mode), (State::Attached, Some(Mode::Native)));
        assert_eq!(own_addresses(&status), [IpAddr::from(BACKEND), "2001:db8::7".parse().unwrap()]);
        assert_eq!(counter(&status, "decap_4in4"), 1);
        assert!(instance.run(DecapAction::Status, false).contains("decap_4in4"));
        let json: serde_json::Value = serde_json::from_str(&instance.run(DecapAction::Status, true)).unwrap();
        assert_eq!(json["state"], "attached");
        assert_eq!(json["mode"], "native");
        assert_eq!(json["counters"]["decap_4in4"], 1);
        assert_eq!(json["addresses"][0], "192.0.2.7");

        assert_eq!(instance.run(DecapAction::Detach, false), "eth0: detached\n");
        assert!(!instance.is_left());
        wire.send(&encapsulated(3));
        assert_eq!(receive(&socket), None);
        assert_eq!(instance.status().state, State::NotAttached);
        assert_eq!(instance.run(DecapAction::Detach, false), "eth0: nothing was attached\n");
    });
}

#[test]
fn updates_lose_no_packet_and_change_program_and_addresses() {
    const PACKETS: u32 = 3000;
    in_namespace(|| {
        let socket = server("eth0");
        let instance = Instance::new("eth0");
        assert!(!attach(&instance.0).unwrap().updated);
        let first = instance.status();
        let sending = AtomicBool::new(true);
        let (received, updates) = thread::scope(|scope| {
            let receiver = scope.spawn(|| std::iter::from_fn(|| receive(&socket)).collect::<BTreeSet<u32>>());
            scope.spawn(|| {
                let wire = Wire::open();
                for number in 0..PACKETS {
                    wire.send(&encapsulated(number));
                    thread::sleep(Duration::from_micros(200));
                }
                sending.store(false, Ordering::Release);
            });
            let mut updates = 0;
            while sending.load(Ordering::Acquire) {
                assert!(attach(&instance.0).unwrap().updated);
                updates += 1;
            }
            (receiver.join().unwrap(), updates)
        });
        assert!(updates >= 3, "{updates} updates prove little");
        let lost: Vec<u32> = (0..PACKETS).filter(|number| !received.contains(number)).collect();
        assert!(lost.is_empty(), "lost over {updates} updates: {lost:?}");
        let second = instance.status();
        assert_ne!(first.program, second.program);
        assert_eq!(counter(&second, "decap_4in4"), u64::from(PACKETS), "counters go on over updates");

        // Other addresses, from the very next packet on.
        let wire = Wire::open();
        let other = DecapOptions { addresses: vec!["192.0.2.99".parse().unwrap()], ..instance.0.clone() };
        assert_eq!(attach(&other).unwrap().addresses, other.addresses);
        assert_eq!(instance.status().addresses, other.addresses);
        wire.send(&encapsulated(0));
        assert_eq!(receive(&socket), None);
        assert_eq!(counter(&instance.status(), "pass_foreign"), 1);
        // An address that the interface got meanwhile.
        ip("addr add 192.0.2.8/24 dev eth0");
        attach(&instance.0).unwrap();
        assert!(instance.status().addresses.contains(&"192.0.2.8".parse().unwrap()));
        wire.send(&encapsulated(1));
        assert_eq!(receive(&socket), Some(1));
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn says_why_where_native_mode_cannot_be() {
    in_namespace(|| {
        ip("link set lo up");
        let instance = Instance::new("lo");
        let said = instance.run(DecapAction::Attach, false);
        assert!(said.contains("lo: attached, generic mode"), "{said}");
        assert!(said.contains("native mode refused"), "{said}");
        assert_eq!(instance.status().mode, Some(Mode::Generic));
        let updated = attach(&instance.0).unwrap();
        assert_eq!((updated.mode, updated.updated), (Mode::Generic, true));
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn a_name_with_a_dot_works() {
    in_namespace(|| {
        veth("eth0.100");
        let instance = Instance::new("eth0.100");
        attach(&instance.0).unwrap();
        assert_eq!(instance.status().state, State::Attached);
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn a_removed_interface_is_seen_and_mended() {
    in_namespace(|| {
        veth("eth0");
        let instance = Instance::new("eth0");
        attach(&instance.0).unwrap();
        ip("link del eth0");
        assert_eq!(instance.status().state, State::InterfaceGone);
        veth("eth0");
        assert!(!attach(&instance.0).unwrap().updated);
        assert_eq!(instance.status().state, State::Attached);
        ip("link del eth0");
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn refuses_a_missing_interface() {
    in_namespace(|| {
        let instance = Instance::new("nowhere0");
        let (error, message) = instance.refusal();
        assert!(error.is_not_found());
        assert!(message.contains("no interface `nowhere0`") && message.contains("`ip link`"), "{message}");
        assert!(!instance.is_left());
        assert_eq!(instance.status().state, State::NotAttached);
    });
}

#[test]
fn refuses_an_interface_without_addresses_and_addresses_of_many() {
    in_namespace(|| {
        ip("link add wire type veth peer name eth0");
        let mut instance = Instance::new("eth0");
        let (_, message) = instance.refusal();
        assert!(message.contains("--address"), "{message}");
        for address in ["224.0.0.1", "0.0.0.0", "ff02::1", "::", "255.255.255.255"] {
            instance.0.addresses = vec![BACKEND.into(), address.parse().unwrap()];
            let (_, message) = instance.refusal();
            assert!(message.starts_with(address), "{message}");
        }
        assert!(!instance.is_left());
        instance.0.addresses = vec![BACKEND.into()];
        attach(&instance.0).unwrap();
        assert_eq!(instance.status().addresses, instance.0.addresses);
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn leaves_another_program_alone() {
    in_namespace(|| {
        veth("eth0");
        let mut ebpf = Ebpf::load(objects::DECAP).unwrap();
        let program: &mut Xdp = ebpf.program_mut("sluice_decap").unwrap().try_into().unwrap();
        program.load().unwrap();
        for (mode, name) in [(XdpMode::Driver, "native"), (XdpMode::Skb, "generic")] {
            let link = program.attach("eth0", mode).unwrap();
            let instance = Instance::new("eth0");
            let (error, message) = instance.refusal();
            assert!(matches!(error, DecapError::Busy { .. }), "{message}");
            let number = program.info().unwrap().id();
            for part in [&format!("number {number}, {name}")[..], "bpftool", "ip link set dev eth0 xdp"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(!instance.is_left());
            program.detach(link).unwrap();
        }
    });
}

#[test]
fn tells_namespaces_apart() {
    in_namespace(|| {
        veth("eth0");
        let instance = Instance::new("eth0");
        attach(&instance.0).unwrap();
        let options = instance.0.clone();
        in_namespace(move || {
            // The same name, the same index, the same instance.
            veth("eth0");
            let error = attach(&options).unwrap_err();
            assert!(matches!(error, DecapError::Elsewhere { .. }), "{error}");
            assert!(error.to_string().contains("--instance"), "{error}");
            assert!(matches!(detach(&options).unwrap_err(), DecapError::Elsewhere { .. }));
            assert_eq!(status(&options).unwrap().state, State::Elsewhere);
        });
        assert_eq!(instance.status().state, State::Attached);
        // A renamed interface is found by its index.
        ip("link set eth0 down");
        ip("link set eth0 name eth1");
        assert_eq!(instance.status().state, State::Attached);
        assert!(detach(&instance.0).unwrap());
    });
}

#[test]
fn refuses_where_no_bpf_file_system_can_be() {
    in_namespace(|| {
        veth("eth0");
        let folder = tempfile::tempdir().unwrap();
        let mut instance = Instance::new("eth0");
        instance.0.bpffs = folder.path().join("missing");
        let (_, message) = instance.refusal();
        assert!(message.contains("missing"), "{message}");
        // As under `ip netns exec`, which has a mount namespace of its own.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        instance.0.bpffs = folder.path().to_owned();
        let (_, message) = instance.refusal();
        assert!(message.contains("nsenter --net="), "{message}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    });
}

#[test]
fn two_calls_at_once_do_not_disturb_each_other() {
    in_namespace(|| {
        veth("eth0");
        let instance = Instance::new("eth0");
        for _ in 0..5 {
            let updated: Vec<bool> = thread::scope(|scope| {
                let calls: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| attach(&instance.0).unwrap().updated)).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            assert_eq!(
                updated.iter().filter(|updated| !**updated).count(),
                1,
                "one attaches, the others update"
            );
            let removed: Vec<bool> = thread::scope(|scope| {
                let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| detach(&instance.0).unwrap())).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            assert_eq!(removed.iter().filter(|removed| **removed).count(), 1, "one detaches");
        }
    });
}
