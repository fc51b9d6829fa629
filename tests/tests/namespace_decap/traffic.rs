//! Packets of real senders to real servers: GUE in every pair, and frames with VLAN tags.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lb_userspace::decap::{DecapAction, DecapOptions, Status, attach, detach};

use super::encapsulator::{Encapsulator, wrap};
use super::rig::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn count(status: &Status, starts_with: &str) -> u64 {
    status.counters.iter().filter(|(name, _)| name.starts_with(starts_with)).map(|(_, count)| count).sum()
}

/// Answers each connection with what it says, to its end.
fn echo(listener: &TcpListener, connections: usize) {
    for _ in 0..connections {
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        stream.write_all(&said).unwrap();
    }
}

/// Answers each datagram with itself.
fn echo_datagrams(socket: &UdpSocket, count: u32) {
    let mut bytes = [0; 100];
    for _ in 0..count {
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        socket.send_to(&bytes[..len], from).unwrap();
    }
}

/// 300 kB there and back over one connection.
fn converse(from: IpAddr, to: SocketAddr) {
    let said: Vec<u8> = (0..300_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), from);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&said).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == said, "{} bytes of {} came back", heard.len(), said.len());
}

/// Datagrams there and back, of even and odd lengths.
fn exchange(from: IpAddr, to: SocketAddr, count: u32) {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for number in 0..count {
        let said = vec![number as u8; 10 + number as usize];
        socket.send_to(&said, to).unwrap();
        let mut heard = [0; 100];
        let (len, _) = socket.recv_from(&mut heard).unwrap();
        assert_eq!(heard[..len], said);
    }
}

#[test]
fn connections_run_over_gue_in_every_pair() {
    const DATAGRAMS: u32 = 40;
    const CLIENTS: [&str; 2] = ["198.51.100.99", "2001:db8:c::99"];
    in_namespace(|| {
        veth("eth0");
        for vip in [format!("{VIP}/32"), format!("{VIP_V6}/128")] {
            ip(&format!("addr add {vip} dev lo"));
        }
        accept_any_way("eth0");
        ip("route add 198.51.100.0/24 via 192.0.2.1");
        ip("route add 2001:db8:c::/64 via 2001:db8::1");
        let vips: [IpAddr; 2] = [VIP, VIP_V6].map(|vip| vip.parse().unwrap());
        let listeners = vips.map(|vip| TcpListener::bind((vip, 80)).unwrap());
        let sockets = vips.map(|vip| UdpSocket::bind((vip, 53)).unwrap());
        let instance = Instance::new("eth0");
        attach(&instance.0).unwrap();
        let sent = thread::scope(|scope| {
            for (listener, socket) in listeners.iter().zip(&sockets) {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                scope.spawn(|| echo(listener, 2));
                scope.spawn(|| echo_datagrams(socket, 2 * DATAGRAMS));
            }
            at_the_wire(|| {
                ip("addr add 192.0.2.1/24 dev wire");
                ip("addr add 2001:db8::1/64 dev wire nodad");
                ip("link set wire up");
                ip("link set lo up");
                let mut encapsulator = Encapsulator::open();
                // Encapsulated, a packet is up to 52 bytes longer.
                ip("link set tun up mtu 1440");
                for (client, vip) in CLIENTS.into_iter().zip(vips) {
                    let (len, nodad) = if vip.is_ipv4() { (32, "") } else { (128, " nodad") };
                    ip(&format!("addr add {client}/{len} dev tun{nodad}"));
                    ip(&format!("route add {vip} dev tun src {client}"));
                }
                accept_any_way("wire");
                [false, true].map(|outer_is_v6| {
                    let stop = AtomicBool::new(false);
                    thread::scope(|scope| {
                        let sender = scope.spawn(|| encapsulator.run(outer_is_v6, &stop));
                        // It is told to stop when a conversation fails, too.
                        let told = Stop(&stop);
                        for (client, vip) in CLIENTS.into_iter().zip(vips) {
                            let client = client.parse().unwrap();
                            converse(client, SocketAddr::new(vip, 80));
                            exchange(client, SocketAddr::new(vip, 53), DATAGRAMS);
                        }
                        drop(told);
                        sender.join().unwrap()
                    })
                })
            })
        });
        let status = instance.status();
        let [in_v4, in_v6] = sent;
        // 300 kB are more than 200 packets; two conversations each.
        assert!(in_v4 > 400 && in_v6 > 400, "{sent:?}");
        let of = |inner, outer| counter(&status, &format!("decap_gue_{inner}in{outer}"));
        assert_eq!((of(4, 4) + of(6, 4), of(4, 6) + of(6, 6)), (in_v4, in_v6));
        for (inner, outer) in [(4, 4), (6, 4), (4, 6), (6, 6)] {
            assert!(of(inner, outer) > u64::from(DATAGRAMS) + 200, "{inner} in {outer}");
        }
        assert_eq!((count(&status, "pass_gue"), count(&status, "drop")), (0, 0));
        assert!(detach(&instance.0).unwrap());
    });
}

/// Stops the encapsulator when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn gue_is_taken_from_the_port_that_was_said() {
    in_namespace(|| {
        let socket = server("eth0");
        let wire = Wire::open();
        let instance = Instance::new("eth0");
        let send = |number, outer_is_v6, has_checksum| {
            wire.send(&wrap(&datagram(number), outer_is_v6, has_checksum).unwrap());
        };
        let said = instance.run(DecapAction::Attach, false);
        assert!(said.ends_with(": IP in IP and GUE on UDP port 6080\n"), "{said}");
        for (number, (outer_is_v6, has_checksum)) in
            (0..).zip([(false, false), (false, true), (true, false), (true, true)])
        {
            send(number, outer_is_v6, has_checksum);
            assert_eq!(receive(&socket), Some(number));
        }
        // A checksum that is wrong, and the kernel does not take the packet either.
        let mut wrong = wrap(&datagram(9), false, true).unwrap();
        wrong[40] ^= 1;
        wire.send(&wrong);
        assert_eq!(receive(&socket), None);
        let status = instance.status();
        assert_eq!(status.gue_port, Some(6080));
        for (name, expected) in [("decap_gue_4in4", 2), ("decap_gue_4in6", 2), ("pass_gue_checksum", 1)] {
            assert_eq!(counter(&status, name), expected, "{name}");
        }

        // Another port, and none, from the very next packet on.
        for (port, shown, said) in [
            (Some(6081), serde_json::json!(6081), "IP in IP and GUE on UDP port 6081"),
            (None, serde_json::Value::Null, "192.0.2.7, 2001:db8::7"),
        ] {
            let options = DecapOptions { gue_port: port, ..instance.0.clone() };
            let attached = attach(&options).unwrap();
            assert_eq!((attached.updated, attached.gue_port), (true, port));
            assert_eq!(instance.status().gue_port, port);
            let shows = instance.run(DecapAction::Status, false);
            assert!(shows.contains(said), "{shows}");
            assert_eq!(shows.contains("GUE on"), port.is_some(), "{shows}");
            let json: serde_json::Value =
                serde_json::from_str(&instance.run(DecapAction::Status, true)).unwrap();
            assert_eq!(json["gue_port"], shown);
            let before = counter(&instance.status(), "pass_other_protocol");
            send(5, false, false);
            assert_eq!(receive(&socket), None);
            assert!(counter(&instance.status(), "pass_other_protocol") > before);
            wire.send(&encapsulated(6));
            assert_eq!(receive(&socket), Some(6));
        }
        assert!(detach(&instance.0).unwrap());
    });
}

/// Sees what the kernel gets of an interface, with the tag that it has taken off the frame.
struct Tap(OwnedFd);

impl Tap {
    fn open(interface: &str) -> Tap {
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
        let on = 1i32;
        // SAFETY: address and option are as long as said.
        let results = unsafe {
            let len = size_of::<libc::sockaddr_ll>() as u32;
            let fd = socket.as_raw_fd();
            [
                libc::bind(fd, (&raw const address).cast(), len),
                libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, (&raw const on).cast(), 4),
            ]
        };
        assert_eq!(results, [0, 0], "{}", std::io::Error::last_os_error());
        Tap(socket)
    }

    /// The next frame that has a packet to the VIP at the end of its Ethernet header; what the kernel took off is put back.
    fn next(&self) -> Vec<u8> {
        for _ in 0..100 {
            let (mut frame, tag) = self.read();
            if let Some((protocol, control)) = tag {
                frame.splice(12..12, [protocol.to_be_bytes(), control.to_be_bytes()].concat());
            }
            if frame.windows(4).any(|bytes| bytes == [203, 0, 113, 1]) {
                return frame;
            }
        }
        panic!("no packet to the VIP came");
    }

    fn read(&self) -> (Vec<u8>, Option<(u16, u16)>) {
        let mut frame = vec![0; 2000];
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: integers and pointers only.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
        let timeout = libc::timeval { tv_sec: PATIENCE.as_secs() as i64, tv_usec: 0 };
        let len = size_of::<libc::timeval>() as u32;
        // SAFETY: the option is as long as said.
        let set = unsafe {
            let option = (&raw const timeout).cast();
            libc::setsockopt(self.0.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, option, len)
        };
        // SAFETY: the message's buffers outlive the call and are as long as said.
        let len = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        assert!(set == 0 && len >= 0, "{}", std::io::Error::last_os_error());
        frame.truncate(len as usize);
        // SAFETY: the kernel has written the control messages; one of this kind has this content.
        let data = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            assert!(!header.is_null() && (*header).cmsg_type == libc::PACKET_AUXDATA);
            libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned()
        };
        const HAS_TAG: u32 = libc::TP_STATUS_VLAN_VALID;
        let tag = (data.tp_status & HAS_TAG != 0).then_some((data.tp_vlan_tpid, data.tp_vlan_tci));
        (frame, tag)
    }
}

/// A frame with tags behind its MAC addresses.
fn tagged(tags: &[u8], frame: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

/// What comes out is, for the kernel, a packet on the VLAN that the outer one came by. With VLAN 0, which is a priority and no
/// VLAN, it reaches the server without a VLAN device.
#[test]
fn tags_lead_the_inner_packet_to_its_vlan() {
    in_namespace(|| {
        let socket = server("eth0");
        let wire = Wire::open();
        let instance = Instance::new("eth0");
        attach(&instance.0).unwrap();
        let tap = Tap::open("eth0");
        let mut number = 100;
        for (tags, is_priority) in [
            (&[0x81, 0, 0x60, 0][..], true),
            (&[0x81, 0, 0xe0, 0, 0x81, 0, 0x60, 0], true),
            (&[0x81, 0, 0, 7], false),
            (&[0x88, 0xa8, 0, 8, 0x81, 0, 0x20, 7], false),
        ] {
            for encapsulate in [
                encapsulated,
                |number| wrap(&datagram(number), false, false).unwrap(),
                |number| wrap(&datagram(number), true, true).unwrap(),
            ] {
                number += 1;
                let input = tagged(tags, &encapsulate(number));
                wire.send(&input);
                let expected = [&input[..12], tags, &[0x08, 0x00], &datagram(number)].concat();
                assert_eq!(tap.next(), expected, "{tags:x?}");
                assert_eq!(receive(&socket), is_priority.then_some(number), "{tags:x?}");
            }
        }
        let status = instance.status();
        let counts = ["decap_4in4", "decap_gue_4in4", "decap_gue_4in6"].map(|name| counter(&status, name));
        assert_eq!(counts, [4, 4, 4]);
        assert!(detach(&instance.0).unwrap());
    });
}
