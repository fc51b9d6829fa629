//! What the balancer's end of the wire does with packets: Sluice, or what it is compared with.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::xdp::XdpLinkId;
use lb_userspace::model::XdpMode;

use super::ends::{Ends, KINDS};
use lb_userspace::dataplane::Abilities;

use crate::bench::subject::{HOSTS, Mode, Subject, Vips};
use crate::topology::{Wire, XdpProgram};

/// Milliseconds within which the kernel must have taken a program off.
const DETACHED_AFTER: u32 = 1000;

/// What forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarder {
    /// An XDP program that drops: what generating a packet and the way to the balancer cost.
    Drop,
    /// An XDP program that sends every packet back as it came: what the way back costs, too.
    Send,
    Sluice,
    /// The kernel, by a route.
    Kernel,
    /// nftables, which writes a backend's address into each packet by a hash of the client's.
    Stateless,
    /// nftables, which does so for each connection.
    Conntrack,
}

impl Forwarder {
    /// Whether packets went where they should have gone; kinds are the low bits of the MAC address that they went to.
    pub fn check(self, flows: u32, arrived: &[u64; KINDS]) -> Result<()> {
        let sum: u64 = arrived.iter().sum();
        let hosts = &arrived[1..=usize::from(HOSTS)];
        let right = match self {
            Forwarder::Drop | Forwarder::Send => arrived[0],
            Forwarder::Kernel => arrived[1],
            Forwarder::Sluice | Forwarder::Stateless | Forwarder::Conntrack => hosts.iter().sum(),
        };
        ensure!(sum > 0, "no packet arrived");
        ensure!(right + sum / 1000 >= sum, "{} of {sum} packets went elsewhere: {arrived:?}", sum - right);
        // Few flows may well be with few hosts.
        let balances = !matches!(self, Forwarder::Drop | Forwarder::Send | Forwarder::Kernel);
        if balances && flows >= 1000 {
            let least = sum / u64::from(HOSTS) / 2;
            ensure!(hosts.iter().all(|&count| count > least), "not balanced: {arrived:?}");
        }
        Ok(())
    }
}

/// The balancer's end. Its methods are to be called in the balancer's namespace.
pub struct Balancer<'w> {
    wire: &'w Wire,
    ifindex: u32,
    pub subject: Subject,
    send: XdpProgram,
    now: Option<Forwarder>,
    sink: Option<XdpLinkId>,
    _sender: Option<OwnedFd>,
}

impl<'w> Balancer<'w> {
    /// Gives the balancer its addresses and loads Sluice's program.
    pub fn open(wire: &'w Wire, pins: u32) -> Result<Self> {
        // GRO, as without an XDP program only it makes the interface take frames that were sent by one.
        let mut lines = format!(
            "ethtool -K {0} gro on\nip addr add 10.77.0.1/16 dev {0}\nip route add default via 10.77.1.1\n",
            Wire::INTERFACE
        );
        for host in 1..=HOSTS {
            let add = format!("ip neigh add 10.77.1.{host} lladdr 02:00:00:01:00:{host:02x} nud permanent");
            lines.push_str(&format!("{add} dev {}\n", Wire::INTERFACE));
        }
        wire.balancer().shell(&lines)?;
        let ifindex = nix::net::if_::if_nametoindex(Wire::INTERFACE).context("the wire has no inner end")?;
        let subject = Subject::open(wire.prefix(), pins, ifindex, Abilities::default())?;
        let send = XdpProgram::send()?;
        Ok(Balancer { wire, ifindex, subject, send, now: None, sink: None, _sender: None })
    }

    /// From now on packets are forwarded by this.
    pub fn switch(&mut self, to: Forwarder, ends: &mut Ends) -> Result<()> {
        if self.now == Some(to) {
            return Ok(());
        }
        match self.now.take() {
            Some(Forwarder::Drop) => self.sink.take().map_or(Ok(()), |link| ends.detach_sink(link))?,
            Some(Forwarder::Send) => self._sender = None,
            Some(Forwarder::Sluice) => self.detach_sluice()?,
            Some(Forwarder::Stateless | Forwarder::Conntrack) => self.nft("flush ruleset\n")?,
            Some(Forwarder::Kernel) | None => {}
        }
        match to {
            Forwarder::Drop => self.sink = Some(ends.attach_sink(self.ifindex)?),
            Forwarder::Send => self._sender = Some(self.send.attach(Wire::INTERFACE)?),
            Forwarder::Sluice => {
                self.subject.dataplane.attach(Wire::INTERFACE, XdpMode::Native)?;
            }
            Forwarder::Kernel => {}
            Forwarder::Stateless => self.nft(&rules(false))?,
            Forwarder::Conntrack => self.nft(&rules(true))?,
        }
        self.now = Some(to);
        Ok(())
    }

    /// The kernel takes the program off a moment after its pin has gone.
    fn detach_sluice(&self) -> Result<()> {
        self.subject.dataplane.detach_others(&[])?;
        for _ in 0..DETACHED_AFTER {
            // Only an interface without a program takes one.
            if self.send.attach(Wire::INTERFACE).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("Sluice's program is still on {} of {}", Wire::INTERFACE, self.wire.balancer().name())
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // This thread is in the balancer's namespace, and so is its child.
        let mut child = command.spawn().context("cannot run nft: is nftables installed?")?;
        // It may end early, at what it does not understand, and say so.
        let _ = child.stdin.take().expect("stdin is a pipe").write_all(rules.as_bytes());
        let output = child.wait_with_output().context("cannot wait for nft")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nft failed in {}: {said}\n{rules}", self.wire.balancer().name());
        Ok(())
    }
}

/// A ruleset that spreads the packets of the UDP service over the hosts.
fn rules(tracks: bool) -> String {
    let vip = Vips::of(true, false, Mode::L2);
    let (hook, what) = if tracks {
        ("type nat hook prerouting priority dstnat", "dnat to")
    } else {
        ("type filter hook prerouting priority raw", "notrack ip daddr set")
    };
    let hosts: Vec<String> = (1..=HOSTS).map(|host| format!("{} : 10.77.1.{host}", host - 1)).collect();
    format!(
        "table ip bench {{\n chain in {{\n  {hook}; policy accept;\n  ip daddr {} udp dport {} {what} \
         jhash ip saddr . udp sport mod {HOSTS} map {{ {} }}\n }}\n}}\n",
        vip.ip(),
        vip.port(),
        hosts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_go_astray_are_noticed() {
        let balanced = [0, 240, 260, 250, 250, 0, 0, 0];
        assert!(Forwarder::Sluice.check(1000, &balanced).is_ok());
        assert!(Forwarder::Stateless.check(1000, &[0, 900, 30, 30, 40, 0, 0, 0]).is_err(), "not balanced");
        assert!(Forwarder::Stateless.check(1, &[0, 1000, 0, 0, 0, 0, 0, 0]).is_ok(), "one flow");
        assert!(Forwarder::Conntrack.check(1000, &[2, 240, 260, 250, 250, 0, 0, 0]).is_err(), "sent back");
        assert!(Forwarder::Kernel.check(1000, &balanced).is_err(), "not by the route");
        assert!(Forwarder::Kernel.check(1000, &[1, 2000, 0, 0, 0, 0, 0, 1]).is_ok(), "one in a thousand");
        assert!(Forwarder::Send.check(1000, &[0; KINDS]).is_err(), "nothing arrived");
        assert!(Forwarder::Send.check(1000, &[1000, 0, 0, 0, 0, 0, 0, 0]).is_ok());
    }
}
