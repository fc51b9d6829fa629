//! What a client hears by ICMP, and what its kernel makes of it.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, socket};
use sluice_tests::topology::Namespace;

/// An ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Fragmentation needed, or packet too big: its MTU.
    TooBig(u32),
    TimeExceeded,
}

/// Raw sockets in a client's namespace, that hear all ICMP from now on.
pub struct Ear {
    sockets: [OwnedFd; 2],
}

impl Ear {
    pub fn open(client: &Namespace) -> Ear {
        let open = |family, protocol| {
            socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol).unwrap()
        };
        let sockets = client.enter(|| {
            [open(AddressFamily::Inet, SockProtocol::Icmp), open(AddressFamily::Inet6, SockProtocol::IcmpV6)]
        });
        Ear { sockets: sockets.unwrap() }
    }

    /// The errors since the last call, with who sent them.
    pub fn heard(&self) -> Vec<(IpAddr, Said)> {
        let mut heard = Vec::new();
        let mut buffer = [0; 2048];
        for (socket, is_v6) in self.sockets.iter().zip([false, true]) {
            loop {
                let (len, from) = match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
                    Err(Errno::EAGAIN) => break,
                    received => received.unwrap(),
                };
                let from = from.unwrap();
                let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
                    (Some(from), _) => from.ip().into(),
                    (_, Some(from)) => from.ip().into(),
                    _ => panic!("{from:?} is no address"),
                };
                let header = if is_v6 { 0 } else { usize::from(buffer[0] & 0x0f) * 4 };
                let message: &[u8; 8] = buffer[header..len].first_chunk().unwrap();
                let said = match (is_v6, message[0], message[1]) {
                    (false, 3, 4) => Said::TooBig(u16::from_be_bytes([message[6], message[7]]).into()),
                    (true, 2, 0) => Said::TooBig(u32::from_be_bytes(message[4..].try_into().unwrap())),
                    (false, 11, 0) | (true, 3, 0) => Said::TimeExceeded,
                    _ => continue,
                };
                heard.push((from, said));
            }
        }
        heard
    }
}

/// What the kernel in a namespace believes of the path to an address: the MTU of its route, if it has one.
pub fn route_mtu(ns: &Namespace, to: IpAddr) -> Option<u32> {
    let route = ns.shell(&format!("ip route get {to}")).unwrap();
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    words.nth(1).map(|mtu| mtu.parse().unwrap())
}

/// Makes it forget.
pub fn forget_paths(ns: &Namespace) {
    ns.shell("ip route flush cache; ip -6 route flush cache").unwrap();
}

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + sluice_tests::LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
