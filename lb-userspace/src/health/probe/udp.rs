//! A datagram is answered.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::{Failure, Steps, Target, of_io};

/// Bytes of an answer that are looked at.
const MOST: usize = 2048;

pub(super) async fn ask(
    target: &Target,
    send: &str,
    expect: Option<&str>,
    steps: &mut Steps,
) -> Result<String, Failure> {
    let to = target.socket_address();
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await;
    let socket = socket.map_err(|error| Failure::Own(format!("no socket: {error}")))?;
    socket.connect(to).await.map_err(|error| of_io("connect", &error))?;
    steps.say(|| format!("sending {} bytes to {to}", send.len()));
    socket.send(send.as_bytes()).await.map_err(|error| of_io("send", &error))?;
    let mut answer = [0; MOST];
    let length = socket.recv(&mut answer).await.map_err(|error| of_io("receive", &error))?;
    steps.say(|| format!("{length} bytes came"));
    judge(&answer[..length], expect)
}

/// Whether an answer is the right one.
pub(super) fn judge(answer: &[u8], expect: Option<&str>) -> Result<String, Failure> {
    match expect {
        Some(expect) if !answer.starts_with(expect.as_bytes()) => {
            let begin = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
            Err(Failure::Host(format!("another answer than expected: {begin:?}")))
        }
        _ => Ok(format!("{} bytes", answer.len())),
    }
}
