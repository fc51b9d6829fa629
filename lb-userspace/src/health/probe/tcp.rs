//! A TCP connection is accepted.

use tokio::net::{TcpSocket, TcpStream};

use super::{Failure, Steps, Target, of_io};

pub(super) async fn ask(target: &Target, steps: &mut Steps) -> Result<String, Failure> {
    connect(target, steps).await.map(|_| "connected".to_owned())
}

/// A connection that ends with a RST when it is dropped: it leaves nothing behind that would wait for its time to pass, here or there.
pub(super) async fn connect(target: &Target, steps: &mut Steps) -> Result<TcpStream, Failure> {
    let to = target.socket_address();
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| Failure::Own(format!("no socket: {error}")))?;
    socket.set_zero_linger().map_err(|error| Failure::Own(format!("no socket: {error}")))?;
    steps.say(|| format!("connecting to {to}"));
    let stream = socket.connect(to).await.map_err(|error| of_io("connect", &error))?;
    steps.say(|| "connected".to_owned());
    Ok(stream)
}
