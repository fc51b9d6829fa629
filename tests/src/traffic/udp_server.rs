//! A UDP server that answers each datagram with its name, a newline and the datagram.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::{TICK, Workers, widen};
use crate::topology::Namespace;

/// Bytes of the receive buffer: bursts of tens of thousands of flows shall not overrun it.
const RECEIVE_BUFFER: usize = 8 << 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UdpEchoServerCounts {
    pub received: u64,
    pub answered: u64,
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    answered: AtomicU64,
}

/// A running server, one thread for each address.
#[derive(Debug)]
pub struct UdpEchoServer {
    counters: Arc<Counters>,
    _workers: Workers,
}

impl UdpEchoServer {
    /// Starts a server called `name` in `ns` on all of `listen`. It answers from the very address that it was asked at,
    /// so `listen` has to name addresses and not the unspecified one.
    pub fn start(ns: &Namespace, name: &str, listen: &[SocketAddr]) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let mut workers = Workers::default();
        for &address in listen {
            let counters = counters.clone();
            let greeting = format!("{name}\n").into_bytes();
            let prepare = move || socket(address).with_context(|| format!("cannot receive on {address}"));
            workers.add(ns, "udp-echo", prepare, move |socket, stop| {
                serve(&socket, &greeting, &counters, stop);
                Ok(())
            })?;
        }
        Ok(Self { counters, _workers: workers })
    }

    pub fn counts(&self) -> UdpEchoServerCounts {
        let answered = self.counters.answered.load(Ordering::Relaxed);
        UdpEchoServerCounts { received: self.counters.received.load(Ordering::Relaxed), answered }
    }
}

fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    widen(&socket, RECEIVE_BUFFER);
    socket.bind(&address.into())?;
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket.into())
}

fn serve(socket: &UdpSocket, greeting: &[u8], counters: &Counters, stop: &AtomicBool) {
    let mut buffer = vec![0; greeting.len() + 65_536];
    buffer[..greeting.len()].copy_from_slice(greeting);
    while !stop.load(Ordering::Relaxed) {
        // No datagram for a tick, or an ICMP error about an earlier answer: neither ends a server.
        if let Ok((length, client)) = socket.recv_from(&mut buffer[greeting.len()..]) {
            counters.received.fetch_add(1, Ordering::Relaxed);
            let sent = socket.send_to(&buffer[..greeting.len() + length], client).is_ok();
            counters.answered.fetch_add(u64::from(sent), Ordering::Relaxed);
        }
    }
}
