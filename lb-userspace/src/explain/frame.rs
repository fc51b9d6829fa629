//! The frame of a packet that is asked about.

use std::net::IpAddr;

use etherparse::{PacketBuilder, TcpHeader};

use crate::api::types::{AskedPacket, DescribedPacket, ExplainProtocol};
use crate::dataplane::{LEAST_BYTES, MOST_BYTES};

/// MAC addresses of nobody: from a locally administered one to another.
const MACS: [[u8; 6]; 2] = [[0x02, 0, 0, 0, 0, 0x0a], [0x02, 0, 0, 0, 0, 0x0b]];
/// Time to live and hop limit, as most systems begin with.
const TTL: u8 = 64;
/// A window that nobody finds odd.
const WINDOW: u16 = 64_240;
/// Bytes of the longest headers that a described packet has: Ethernet, IPv6, TCP.
const HEADERS: usize = 14 + 40 + 20;

/// The frame, or what is wrong with the question.
pub fn frame_of(asked: &AskedPacket) -> Result<Vec<u8>, String> {
    let frame = match asked {
        AskedPacket::Frame(digits) => {
            bytes(digits).ok_or("a frame is an even number of hexadecimal digits")?
        }
        AskedPacket::Packet(packet) => described(packet)?,
    };
    if !(LEAST_BYTES..=MOST_BYTES).contains(&frame.len()) {
        return Err(format!("a frame has {LEAST_BYTES} to {MOST_BYTES} bytes, and this one {}", frame.len()));
    }
    Ok(frame)
}

fn described(packet: &DescribedPacket) -> Result<Vec<u8>, String> {
    let DescribedPacket { protocol, from, to, flags, payload } = packet;
    let ethernet = PacketBuilder::ethernet2(MACS[0], MACS[1]);
    let ip = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), TTL),
        (from, to) => return Err(format!("{from} and {to} are not of one family")),
    };
    if usize::from(*payload) > MOST_BYTES - HEADERS {
        return Err(format!("a payload has at most {} bytes", MOST_BYTES - HEADERS));
    }
    let payload = vec![0; usize::from(*payload)];
    let mut frame = Vec::new();
    let written = match (protocol, flags) {
        (ExplainProtocol::Tcp, flags) => {
            let mut tcp = TcpHeader::new(from.port(), to.port(), 1, WINDOW);
            raise(&mut tcp, flags.as_deref().unwrap_or("ack"))?;
            ip.tcp_header(tcp).write(&mut frame, &payload)
        }
        (ExplainProtocol::Udp, None) => ip.udp(from.port(), to.port()).write(&mut frame, &payload),
        (ExplainProtocol::Udp, Some(_)) => return Err("UDP has no flags".to_owned()),
    };
    written.map_err(|error| error.to_string())?;
    Ok(frame)
}

/// Sets flags by name, several with commas.
fn raise(tcp: &mut TcpHeader, flags: &str) -> Result<(), String> {
    for flag in flags.split(',').map(str::trim) {
        match flag.to_ascii_lowercase().as_str() {
            "syn" => tcp.syn = true,
            "ack" => (tcp.ack, tcp.acknowledgment_number) = (true, 1),
            "fin" => tcp.fin = true,
            "rst" => tcp.rst = true,
            "psh" => tcp.psh = true,
            _ => return Err(format!("there is no flag {flag:?}: syn, ack, fin, rst and psh are")),
        }
    }
    Ok(())
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    // Not by `write!`, which takes many times as long: frames are long, and packets many.
    let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'a' - 10 + half });
    let mut digits = String::with_capacity(2 * bytes.len());
    digits.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    digits
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use lb_common::parse::{Frame, Signal, parse_plain};

    use super::*;

    fn ask(protocol: ExplainProtocol, from: &str, to: &str, flags: Option<&str>) -> AskedPacket {
        AskedPacket::Packet(DescribedPacket {
            protocol,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            flags: flags.map(str::to_owned),
            payload: 3,
        })
    }

    fn signal(asked: &AskedPacket) -> Signal {
        let frame = frame_of(asked).unwrap();
        // SAFETY: the bounds of the vector.
        let parsed = unsafe { Frame::new(frame.as_ptr() as usize, frame.as_ptr() as usize + frame.len()) };
        parse_plain(&parsed, frame.len()).unwrap().signal
    }

    #[test]
    fn described_packets_are_what_the_data_path_calls_plain() {
        use ExplainProtocol::{Tcp, Udp};
        for (from, to) in
            [("192.0.2.7:40000", "203.0.113.1:443"), ("[2001:db8::7]:40000", "[2001:db8::1]:443")]
        {
            assert_eq!(signal(&ask(Tcp, from, to, None)), Signal::Ack);
            assert_eq!(signal(&ask(Tcp, from, to, Some("syn"))), Signal::Syn);
            assert_eq!(signal(&ask(Tcp, from, to, Some("FIN, ack"))), Signal::Fin);
            assert_eq!(signal(&ask(Tcp, from, to, Some("rst"))), Signal::Rst);
            assert_eq!(signal(&ask(Tcp, from, to, Some("syn,ack"))), Signal::Stray);
            assert_eq!(signal(&ask(Udp, from, to, None)), Signal::Datagram);
        }
    }

    #[test]
    fn questions_without_sense_are_refused() {
        use ExplainProtocol::{Tcp, Udp};
        let (v4, v6) = ("192.0.2.7:1", "[2001:db8::1]:2");
        assert!(frame_of(&ask(Tcp, v4, v6, None)).unwrap_err().contains("one family"));
        assert!(frame_of(&ask(Udp, v4, v4, Some("syn"))).unwrap_err().contains("no flags"));
        assert!(frame_of(&ask(Tcp, v4, v4, Some("sin"))).unwrap_err().contains("\"sin\""));
        for digits in ["0", "0g", "é", "00"] {
            assert!(frame_of(&AskedPacket::Frame(digits.to_owned())).is_err(), "{digits}");
        }
        let long = "00".repeat(MOST_BYTES + 1);
        assert!(frame_of(&AskedPacket::Frame(long)).is_err());
        let mut long = ask(Tcp, v4, v4, None);
        if let AskedPacket::Packet(packet) = &mut long {
            packet.payload = u16::MAX;
        }
        assert!(frame_of(&long).is_err());
    }

    #[test]
    fn digits_come_back() {
        let frame: Vec<u8> = (0..=255).collect();
        assert_eq!(frame_of(&AskedPacket::Frame(hex(&frame))).unwrap(), frame);
    }
}
