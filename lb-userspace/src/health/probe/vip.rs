//! Through the VIP to one chosen backend: what is sent is built by the functions of the data path, so it takes the way of real traffic; what
//! comes back comes from the VIP. It finds a host without the VIP, a tunnel that is not unpacked, and a server that does not listen there.
//!
//! A TCP check goes as far as the handshake and ends it with a RST: neither the flow table nor any kernel learns of a connection.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use lb_common::hash::FlowHash;
use lb_common::layout::{Backend, BackendFlags, MODE_NAT, Tuple};
use lb_common::parse::{TCP, UDP};

use super::{Failure, Steps, Target, of_io, udp};
use crate::health::Way;
use crate::health::ear::{Ear, Heard};
use crate::health::task::Means;
use crate::plan::address_words;
use crate::speak::{datagram, frame_to, rst, syn};

/// How the packets of this run leave.
struct Flow<'a> {
    ear: &'a Ear,
    way: Way,
    tuple: Tuple,
    hash: FlowHash,
    source: SocketAddr,
    vip: SocketAddr,
}

fn flow<'a>(
    target: &Target,
    means: &'a Means,
    port: u16,
    protocol: u32,
    steps: &mut Steps,
) -> Result<Flow<'a>, Failure> {
    let ear = means.ear().map_err(Failure::Own)?;
    let way = means.board.way(&target.id.service, &target.id.host);
    let way = way.ok_or_else(|| Failure::Own("its backend is not published yet".to_owned()))?;
    if way.backend.record.flags & BackendFlags::REACHABLE == 0 {
        return Err(Failure::Host("it has no next hop".to_owned()));
    }
    let source = way.source.ok_or_else(|| {
        Failure::Own("this machine has no address of the VIP's family to ask from".to_owned())
    })?;
    let (source, vip) =
        (SocketAddr::new(source, port), SocketAddr::new(target.vip, target.check.port.unwrap_or(0)));
    let [[a, b], [c, d]] = [source.port().to_be_bytes(), vip.port().to_be_bytes()];
    let tuple = Tuple {
        source: address_words(source.ip()),
        destination: address_words(vip.ip()),
        ports: u32::from_ne_bytes([a, b, c, d]),
        protocol,
    };
    let hash = FlowHash::of(&tuple, [target.seed, u64::from(port)]);
    steps.say(|| {
        let mac = way.backend.record.destination_mac.map(|byte| format!("{byte:02x}")).join(":");
        format!("from {source} to {vip}, by {} to {mac}", target.address)
    });
    Ok(Flow { ear, way, tuple, hash, source, vip })
}

impl Flow<'_> {
    fn send(&self, packet: &[u8]) -> Result<(), Failure> {
        let frame = frame_to(packet, &self.way.backend, self.hash);
        let frame = frame.ok_or_else(|| Failure::Host("nothing can be sent to it".to_owned()))?;
        let sent = self.ear.speaker.send_frame(self.way.backend.record.ifindex, &frame);
        sent.map_err(|error| of_io("send", &error))
    }

    fn is_from(&self, target: &Target, from: SocketAddr) -> bool {
        answers(&self.way.backend.record, self.vip, target.address, from)
    }
}

/// Whether it is where an answer comes from: the VIP. With `nat` it may be the host, where this machine does not translate what it is told itself.
/// Clients take no other: a server that answers from the address of its way out, as one does that hears all addresses at once, serves nobody.
fn answers(backend: &Backend, vip: SocketAddr, host: IpAddr, from: SocketAddr) -> bool {
    let port = if backend.port == 0 { vip.port() } else { u16::from_be(backend.port) };
    from == vip || (backend.mode == MODE_NAT && from == SocketAddr::new(host, port))
}

/// Three quarters of a run's time may pass before a lost packet is sent again.
fn patience(target: &Target) -> std::time::Duration {
    target.health.timeout / 3
}

pub(super) async fn tcp(target: &Target, means: &Means, steps: &mut Steps) -> Result<String, Failure> {
    let mut port = means.port(false, target.vip.is_ipv6())?;
    let flow = flow(target, means, port.at.port, TCP.into(), steps)?;
    let sequence = flow.hash.0 as u32 ^ std::process::id().rotate_left(16) ^ means.count();
    let packet = syn(&flow.tuple, sequence);
    let acknowledged = sequence.wrapping_add(1);
    loop {
        flow.send(&packet)?;
        steps.say(|| "SYN sent".to_owned());
        let answer = async {
            while let Some(heard) = port.heard.recv().await {
                match heard {
                    Heard::Tcp { from, is_syn_ack, is_rst, acknowledges }
                        if flow.is_from(target, from)
                            && acknowledges == acknowledged
                            && (is_syn_ack || is_rst) =>
                    {
                        return Some((from, is_rst));
                    }
                    _ => {}
                }
            }
            None
        };
        match tokio::time::timeout(patience(target), answer).await {
            Ok(Some((from, true))) if target.is_rst_well => {
                steps.say(|| format!("a RST came from {from}"));
                return Ok("it has the VIP; at this port of the range nobody listens".to_owned());
            }
            Ok(Some((from, true))) => {
                return Err(Failure::Host(format!("a RST came from {from}: nobody listens")));
            }
            Ok(Some((from, false))) => {
                steps.say(|| format!("SYN and ACK came from {from}"));
                // The host's half of a connection ends with it. If it is lost, its kernel asks again, and this machine's answers.
                let _ = flow.send(&rst(&flow.tuple, acknowledged));
                return Ok("handshake".to_owned());
            }
            Ok(None) => return Err(Failure::Own("nothing is heard any more".to_owned())),
            Err(_) => {}
        }
    }
}

pub(super) async fn udp(
    target: &Target,
    means: &Means,
    send: &str,
    expect: Option<&str>,
    steps: &mut Steps,
) -> Result<String, Failure> {
    let mut port = means.port(true, target.vip.is_ipv6())?;
    let flow = flow(target, means, port.at.port, UDP.into(), steps)?;
    // So that the kernel does not answer "port unreachable" to what comes back.
    let _held = UdpSocket::bind(flow.source).map_err(|error| Failure::Own(format!("no socket: {error}")))?;
    flow.send(&datagram(&flow.tuple, send.as_bytes()))?;
    steps.say(|| format!("{} bytes sent", send.len()));
    while let Some(heard) = port.heard.recv().await {
        if let Heard::Udp { from, payload } = heard
            && flow.is_from(target, from)
        {
            steps.say(|| format!("{} bytes came from {from}", payload.len()));
            return udp::judge(&payload, expect);
        }
    }
    Err(Failure::Own("nothing is heard any more".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::layout::MODE_L2;

    #[test]
    fn an_answer_comes_from_where_clients_expect_it() {
        let [vip, host, other] = ["203.0.113.10:80", "10.0.0.1:80", "10.0.0.1:8080"]
            .map(|text| text.parse::<SocketAddr>().unwrap());
        let heard = |mode, port: u16, from| {
            let backend = Backend { mode, port: port.to_be(), ..Backend::default() };
            answers(&backend, vip, host.ip(), from)
        };
        assert!(heard(MODE_L2, 0, vip) && heard(MODE_NAT, 0, vip));
        assert!(!heard(MODE_L2, 0, host), "no client would take that");
        assert!(heard(MODE_NAT, 0, host) && heard(MODE_NAT, 8080, other));
        assert!(!heard(MODE_NAT, 0, other) && !heard(MODE_NAT, 8080, host));
        assert!(!heard(MODE_L2, 0, SocketAddr::new(vip.ip(), 81)));
    }
}
