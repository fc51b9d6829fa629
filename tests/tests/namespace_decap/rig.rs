//! A backend in a network namespace of its own, and who sends to it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use etherparse::{IpNumber, Ipv4Header, PacketBuilder};
use lb_userspace::bpffs;
use lb_userspace::decap::{DecapAction, DecapError, DecapOptions, Status, attach, detach, run, status};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};

pub const VIP: &str = "203.0.113.1";
pub const VIP_V6: &str = "2001:db8:ff::1";
pub const BACKEND: [u8; 4] = [192, 0, 2, 7];
pub const BACKEND_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
pub const BALANCER: [u8; 4] = [192, 0, 2, 1];
pub const BALANCER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const MAC: &str = "02:00:00:00:00:07";

/// Options with an instance that only this test uses; what is left of it at the end fails the test.
pub struct Instance(pub DecapOptions);

impl Instance {
    pub fn new(interface: &str) -> Instance {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("decap-test-{}-{number}", std::process::id());
        Instance(DecapOptions::new(&name, interface, DecapAction::Attach))
    }

    pub fn status(&self) -> Status {
        status(&self.0).unwrap()
    }

    pub fn run(&self, action: DecapAction, json: bool) -> String {
        let mut out = Vec::new();
        run(&DecapOptions { action, json, ..self.0.clone() }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    pub fn is_left(&self) -> bool {
        Path::new(bpffs::DEFAULT_PATH).join("sluice").join(&self.0.instance).exists()
    }

    /// The refusal's message with its causes; nothing is left of the attempt.
    pub fn refusal(&self) -> (DecapError, String) {
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
pub fn in_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let result = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test()
    });
    result.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs a part of a test in another namespace, which has the end `wire` of the pair.
pub fn at_the_wire<T: Send>(client: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let (tell, told) = channel();
        let (go, gone) = channel();
        let client = scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid()).unwrap();
            gone.recv().unwrap();
            client()
        });
        ip(&format!("link set wire netns {}", told.recv().unwrap()));
        go.send(()).unwrap();
        client.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A pair of interfaces, `wire` and the backend's, which has an address of each family.
pub fn veth(backend: &str) {
    ip(&format!("link add wire type veth peer name {backend} address {MAC}"));
    ip(&format!("addr add 192.0.2.7/24 dev {backend}"));
    ip(&format!("addr add 2001:db8::7/64 dev {backend} nodad"));
    for interface in ["lo", "wire", backend] {
        ip(&format!("link set {interface} up"));
    }
}

/// Sends frames into `wire`.
pub struct Wire {
    socket: OwnedFd,
    address: libc::sockaddr_ll,
}

impl Wire {
    pub fn open() -> Wire {
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

    pub fn send(&self, frame: &[u8]) {
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

/// A datagram to the VIP.
pub fn datagram(number: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4([198, 51, 100, 99], [203, 0, 113, 1], 61).udp(40000, 5300);
    builder.write(&mut packet, &number.to_be_bytes()).unwrap();
    packet
}

/// The same, encapsulated in IP as the balancer does.
pub fn encapsulated(number: u32) -> Vec<u8> {
    let inner = datagram(number);
    let mut outer = Ipv4Header::new(inner.len() as u16, 64, IpNumber::IPV4, BALANCER, BACKEND).unwrap();
    outer.header_checksum = outer.calc_header_checksum();
    let ethernet = [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    [&ethernet[..], &outer.to_bytes(), &inner].concat()
}

/// A backend with the VIP on its loopback interface, as with direct server return.
pub fn server(backend: &str) -> UdpSocket {
    veth(backend);
    ip(&format!("addr add {VIP}/32 dev lo"));
    accept_any_way(backend);
    let socket = UdpSocket::bind((VIP, 5300)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // Whoever reads may wait for a processor.
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).unwrap();
    socket
}

/// Packets may come by an interface that their source is not reached by.
pub fn accept_any_way(interface: &str) {
    for interface in ["all", interface] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0").unwrap();
    }
}

/// The number of the next datagram; `None` if none comes.
pub fn receive(socket: &UdpSocket) -> Option<u32> {
    let mut bytes = [0; 4];
    match socket.recv(&mut bytes) {
        Ok(_) => Some(u32::from_be_bytes(bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

pub fn counter(status: &Status, name: &str) -> u64 {
    status.counters.iter().find(|(reason, _)| *reason == name).unwrap().1
}

pub fn own_addresses(status: &Status) -> Vec<IpAddr> {
    let is_link_local = |address: &IpAddr| matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
    status.addresses.iter().copied().filter(|address| !is_link_local(address)).collect()
}
