//! Who sends to the backend in GUE: takes what the kernel routes into a TUN device, puts the balancer's headers around it,
//! and sends it over the wire.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use etherparse::UdpHeader;
use lb_common::decap::GUE_PORT;
use lb_common::encap::{GUE_LEN, IPV4_IN_IP, IPV6_IN_IP, entropy_port, gue, outer_v4, outer_v6};
use lb_common::hash::FlowHash;
use lb_common::parse::{Frame, UDP, parse_plain};

use super::rig::{BACKEND, BACKEND_V6, BALANCER, BALANCER_V6, Wire};

const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0x0fed_cba9_8765_4321];
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1];

pub struct Encapsulator {
    tun: File,
    wire: Wire,
}

impl Encapsulator {
    /// With a new device in this thread's namespace, `tun`.
    pub fn open() -> Encapsulator {
        let tun = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .expect("a TUN device can be made");
        // SAFETY: integers and byte arrays only.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"tun") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request outlives the call.
        let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        Encapsulator { tun, wire: Wire::open() }
    }

    /// Encapsulates until it is told to stop; says how many packets it sent. Every other one has a UDP checksum.
    pub fn run(&mut self, outer_is_v6: bool, stop: &AtomicBool) -> u64 {
        let mut sent = 0;
        let mut packet = [0; 2000];
        while !stop.load(Ordering::Acquire) {
            match self.tun.read(&mut packet) {
                Ok(len) => {
                    let frame = wrap(&packet[..len], outer_is_v6, sent % 2 == 1);
                    if let Some(frame) = frame {
                        self.wire.send(&frame);
                        sent += 1;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_micros(200));
                }
                Err(error) => panic!("{error}"),
            }
        }
        sent
    }
}

/// A frame to the backend around a packet; `None` for what the balancer would not forward either, such as neighbour discovery.
pub fn wrap(packet: &[u8], outer_is_v6: bool, has_checksum: bool) -> Option<Vec<u8>> {
    let inner_is_v6 = packet[0] >> 4 == 6;
    let frame = [&MACS[..], &ethertype(inner_is_v6), packet].concat();
    let start = frame.as_ptr() as usize;
    // SAFETY: borrowed for as long as it is parsed.
    let parsed = parse_plain(&unsafe { Frame::new(start, start + frame.len()) }, frame.len()).ok()?;
    let protocol = if inner_is_v6 { IPV6_IN_IP } else { IPV4_IN_IP };
    let len = packet.len() as u16;
    let port = entropy_port(FlowHash::of(&parsed.tuple, KEY));
    let mut headers: Vec<u8> =
        gue(port, GUE_PORT, protocol, len).iter().flat_map(|w| w.to_ne_bytes()).collect();
    if has_checksum {
        let mut udp = UdpHeader::from_slice(&headers).expect("a UDP header").0;
        let data = [&headers[8..], packet].concat();
        let sum = if outer_is_v6 {
            udp.calc_checksum_ipv6_raw(BALANCER_V6.octets(), BACKEND_V6.octets(), &data)
        } else {
            udp.calc_checksum_ipv4_raw(BALANCER, BACKEND, &data)
        };
        udp.checksum = sum.expect("a length that fits");
        headers[..8].copy_from_slice(&udp.to_bytes());
    }
    let outer = if outer_is_v6 {
        let first = outer_v6(UDP, parsed.traffic_class, len + GUE_LEN).to_ne_bytes();
        [&first[..], &BALANCER_V6.octets(), &BACKEND_V6.octets()].concat()
    } else {
        let [source, destination] = [BALANCER, BACKEND].map(u32::from_ne_bytes);
        let words = outer_v4(source, destination, UDP, parsed.traffic_class, len + GUE_LEN);
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    };
    Some([&MACS[..], &ethertype(outer_is_v6), &outer, &headers, packet].concat())
}

fn ethertype(is_v6: bool) -> [u8; 2] {
    if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] }
}
