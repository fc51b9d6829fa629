//! What passes an interface, with VLAN tags wherever the kernel keeps them: in the frame or beside it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use sluice_tests::topology::Namespace;

/// Tags of a frame, the outer one first: TPID and VLAN id.
pub type Tags = Vec<(u16, u16)>;

const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
/// "Destination unreachable", which "fragmentation needed" is one of, and "packet too big".
pub const TOO_LONG: [(u8, u8); 2] = [(ICMP, 3), (ICMP_V6, 2)];

/// An IP packet as it passed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passed {
    pub to_mac: [u8; 6],
    pub tags: Tags,
    /// Protocol of IPv4, or next header of IPv6; of ICMP its type, too, else 0.
    pub protocol: (u8, u8),
    pub from: IpAddr,
    pub to: IpAddr,
}

/// Counts IP packets until it is asked.
pub struct Tap {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<BTreeMap<Passed, u64>>>,
}

impl Tap {
    pub fn open(ns: &Namespace, interface: &str) -> Tap {
        let interface = interface.to_owned();
        let socket = ns.enter(|| socket(&interface)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = ns.start("tap", move || {
            let mut seen = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Some(packet) = read(&socket).as_deref().and_then(parse) {
                    *seen.entry(packet).or_default() += 1;
                }
            }
            seen
        });
        Tap { stop, thread: thread.unwrap() }
    }

    /// All that passed, and how often.
    pub fn end(self) -> BTreeMap<Passed, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }

    /// Packets to `destinations` in frames to one MAC address, by the tags of their frames. A switch that has forgotten where an
    /// address is sends frames everywhere.
    pub fn tags_to(self, mac: [u8; 6], destinations: &[IpAddr]) -> BTreeMap<Tags, u64> {
        let mut tags = BTreeMap::new();
        let is_meant = |packet: &Passed| packet.to_mac == mac && destinations.contains(&packet.to);
        for (packet, count) in self.end().into_iter().filter(|(packet, _)| is_meant(packet)) {
            *tags.entry(packet.tags).or_default() += count;
        }
        tags
    }
}

/// The IP packet in a frame.
fn parse(frame: &[u8]) -> Option<Passed> {
    let word = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let (mut at, mut tags) = (12, Tags::new());
    while let protocol @ (0x8100 | 0x88a8) = word(at)? {
        tags.push((protocol, word(at + 2)? & 0x0fff));
        at += 4;
    }
    let v4 = |at: usize| Some(Ipv4Addr::from(*frame.get(at..)?.first_chunk::<4>()?).into());
    let v6 = |at: usize| Some(Ipv6Addr::from(*frame.get(at..)?.first_chunk::<16>()?).into());
    let (protocol, from, to, l4) = match word(at)? {
        0x0800 => {
            let header = usize::from(frame.get(at + 2)? & 0x0f) * 4;
            (*frame.get(at + 11)?, v4(at + 14)?, v4(at + 18)?, at + 2 + header)
        }
        0x86dd => (*frame.get(at + 8)?, v6(at + 10)?, v6(at + 26)?, at + 42),
        _ => return None,
    };
    let kind = if matches!(protocol, ICMP | ICMP_V6) { *frame.get(l4)? } else { 0 };
    Some(Passed { to_mac: *frame.first_chunk()?, tags, protocol: (protocol, kind), from, to })
}

fn socket(interface: &str) -> OwnedFd {
    let all = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no pointers.
    let socket =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(all)) };
    assert!(socket >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new file descriptor that nobody else knows.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: integers and byte arrays only.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (address.sll_family, address.sll_protocol) = (libc::AF_PACKET as u16, all);
    address.sll_ifindex = nix::net::if_::if_nametoindex(interface).unwrap() as i32;
    let (on, timeout) = (1i32, libc::timeval { tv_sec: 0, tv_usec: 50_000 });
    let fd = socket.as_raw_fd();
    // SAFETY: address and options are as long as said.
    let results = unsafe {
        let len = |bytes: usize| bytes as u32;
        [
            libc::bind(fd, (&raw const address).cast(), len(size_of::<libc::sockaddr_ll>())),
            libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, (&raw const on).cast(), 4),
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                len(size_of::<libc::timeval>()),
            ),
        ]
    };
    assert_eq!(results, [0; 3], "{}", std::io::Error::last_os_error());
    socket
}

/// The next frame, if one comes soon; a tag that the kernel has taken off is put back.
fn read(socket: &OwnedFd) -> Option<Vec<u8>> {
    let mut frame = vec![0; 128];
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: integers and pointers only.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
    // SAFETY: the message's buffers outlive the call and are as long as said.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    frame.truncate(usize::try_from(len).ok()?);
    // SAFETY: the kernel has written the control messages; one of this kind has this content.
    let data = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null() && (*header).cmsg_type == libc::PACKET_AUXDATA);
        libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned()
    };
    const HAS_TAG: u32 = libc::TP_STATUS_VLAN_VALID;
    if data.tp_status & HAS_TAG != 0 {
        let tag = [data.tp_vlan_tpid.to_be_bytes(), data.tp_vlan_tci.to_be_bytes()].concat();
        frame.splice(12..12, tag);
    }
    Some(frame)
}
