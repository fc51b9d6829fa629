//! Hears what backends answer to checks through VIPs. Such answers come to ports of this machine that no socket of its kernel has, so they
//! are read from packet sockets, before the kernel looks at them. `CAP_NET_RAW` is needed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::speak::Speaker;

/// Ports that checks go from: above those that Linux gives to connections by default.
const PORTS: RangeInclusive<u16> = 61_000..=64_999;
/// Bytes of an answer that are looked at.
const LONGEST: usize = 2048;

/// What came to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    Tcp { from: SocketAddr, is_syn_ack: bool, is_rst: bool, acknowledges: u32 },
    Udp { from: SocketAddr, payload: Vec<u8> },
}

/// Where something comes to: each protocol and each family has ports of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct At {
    pub is_udp: bool,
    pub is_v6: bool,
    pub port: u16,
}

type Waiting = Arc<Mutex<HashMap<At, mpsc::UnboundedSender<Heard>>>>;

/// Mouth and ear of checks through VIPs.
pub(super) struct Ear {
    pub speaker: Speaker,
    waiting: Waiting,
    next: Mutex<u16>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// A port that is listened at; given back when dropped.
pub(super) struct Port {
    pub at: At,
    pub heard: mpsc::UnboundedReceiver<Heard>,
    waiting: Waiting,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.at);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Ear {
    /// In the network namespace of the calling thread, which serves a runtime.
    pub fn open() -> io::Result<Self> {
        let waiting = Waiting::default();
        let mut tasks = Vec::new();
        for (protocol, filter) in [(libc::ETH_P_IP, filter_v4()), (libc::ETH_P_IPV6, filter_v6())] {
            let socket = open(protocol as u16, &filter)?;
            // SAFETY: an `OwnedFd` always names the same descriptor, and closes it only when it is dropped.
            let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
            tasks.push(tokio::spawn(listen(socket, waiting.clone())));
        }
        Ok(Ear { speaker: Speaker::open()?, waiting, next: Mutex::new(*PORTS.start()), tasks })
    }

    /// A port that nobody listens at; `None`: all of this protocol and family are in use.
    pub fn port(&self, is_udp: bool, is_v6: bool) -> Option<Port> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in PORTS {
            let at = At { is_udp, is_v6, port: *next };
            *next = if at.port == *PORTS.end() { *PORTS.start() } else { at.port + 1 };
            if let Entry::Vacant(free) = waiting.entry(at) {
                let (told, heard) = mpsc::unbounded_channel();
                free.insert(told);
                return Some(Port { at, heard, waiting: self.waiting.clone() });
            }
        }
        None
    }
}

async fn listen(socket: AsyncFd<OwnedFd>, waiting: Waiting) {
    let mut buffer = [0; LONGEST];
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        let read = ready.try_io(|socket| Ok(recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?));
        let Ok(Ok(length)) = read else { continue };
        let Some((at, heard)) = understand(&buffer[..length]) else { continue };
        let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = waiting.get(&at) {
            // Its run may be over.
            let _ = told.send(heard);
        }
    }
}

/// Where an IP packet comes to, and what it says.
fn understand(packet: &[u8]) -> Option<(At, Heard)> {
    let packet = SlicedPacket::from_ip(packet).ok()?;
    let source: IpAddr = match &packet.net? {
        NetSlice::Ipv4(ip) => ip.header().source_addr().into(),
        NetSlice::Ipv6(ip) => ip.header().source_addr().into(),
        NetSlice::Arp(_) => return None,
    };
    match packet.transport? {
        TransportSlice::Tcp(tcp) => {
            let heard = Heard::Tcp {
                from: SocketAddr::new(source, tcp.source_port()),
                is_syn_ack: tcp.syn() && tcp.ack() && !tcp.rst(),
                is_rst: tcp.rst(),
                acknowledges: tcp.acknowledgment_number(),
            };
            Some((At { is_udp: false, is_v6: source.is_ipv6(), port: tcp.destination_port() }, heard))
        }
        TransportSlice::Udp(udp) => {
            let from = SocketAddr::new(source, udp.source_port());
            let at = At { is_udp: true, is_v6: source.is_ipv6(), port: udp.destination_port() };
            Some((at, Heard::Udp { from, payload: udp.payload().to_vec() }))
        }
        _ => None,
    }
}

/// A packet socket that gives whole IP packets, those that the filter lets pass.
fn open(protocol: u16, filter: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // It hears nothing before it is bound: the filter comes first.
    let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the filter outlives the call, which copies it.
    let attached = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    if attached < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: integers only.
    let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    at.sll_family = libc::AF_PACKET as u16;
    at.sll_protocol = protocol.to_be();
    // SAFETY: the address is as long as is said, and outlives the call.
    let bound =
        unsafe { libc::bind(fd.as_raw_fd(), (&raw const at).cast(), size_of::<libc::sockaddr_ll>() as u32) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

fn op(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// TCP or UDP, no later fragment, to one of the ports.
fn filter_v4() -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD};
    use libc::{BPF_LDX, BPF_MSH, BPF_RET};
    vec![
        op(BPF_LD | BPF_B | BPF_ABS, 9, 0, 0),
        op(BPF_JMP | BPF_JEQ | BPF_K, 6, 1, 0),
        op(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 7),
        op(BPF_LD | BPF_H | BPF_ABS, 6, 0, 0),
        op(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 5, 0),
        op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0),
        op(BPF_LD | BPF_H | BPF_IND, 2, 0, 0),
        op(BPF_JMP | BPF_JGE | BPF_K, (*PORTS.start()).into(), 0, 2),
        op(BPF_JMP | BPF_JGT | BPF_K, (*PORTS.end()).into(), 1, 0),
        op(BPF_RET | BPF_K, u32::MAX, 0, 0),
        op(BPF_RET | BPF_K, 0, 0, 0),
    ]
}

/// TCP or UDP right behind the IPv6 header, to one of the ports.
fn filter_v6() -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET};
    vec![
        op(BPF_LD | BPF_B | BPF_ABS, 6, 0, 0),
        op(BPF_JMP | BPF_JEQ | BPF_K, 6, 1, 0),
        op(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 4),
        op(BPF_LD | BPF_H | BPF_ABS, 42, 0, 0),
        op(BPF_JMP | BPF_JGE | BPF_K, (*PORTS.start()).into(), 0, 2),
        op(BPF_JMP | BPF_JGT | BPF_K, (*PORTS.end()).into(), 1, 0),
        op(BPF_RET | BPF_K, u32::MAX, 0, 0),
        op(BPF_RET | BPF_K, 0, 0, 0),
    ]
}
