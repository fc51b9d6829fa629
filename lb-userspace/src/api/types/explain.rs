//! Why packets go where they go.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /v1/explain`: what would become of packets now. Nothing is sent, and nothing changes: each packet is looked at by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The interface that they come in by, one of the balancer's; default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// At most 256.
    pub packets: Vec<AskedPacket>,
}

/// A packet that is asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AskedPacket {
    /// In words.
    Packet(DescribedPacket),
    /// The whole frame in hexadecimal digits, Ethernet header and VLAN tags with it: 14 to 3400 bytes.
    Frame(String),
}

/// TCP or UDP over IPv4 or IPv6, neither in fragments nor with options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribedPacket {
    /// What is in the IP packet.
    pub protocol: ExplainProtocol,
    /// `address:port`, IPv6 in brackets; the client, if the packet is for a service.
    pub from: SocketAddr,
    /// The same of who it is sent to.
    pub to: SocketAddr,
    /// Of TCP: `syn`, `ack`, `fin`, `rst` and `psh`, several with commas. Default: `ack`, as in the middle of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
    /// Bytes behind the headers; default: none.
    #[serde(default)]
    pub payload: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ExplainProtocol {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// The interface that they came in by.
    pub interface: String,
    /// In the order in which they were asked about.
    pub packets: Vec<Explanation>,
}

/// What would become of one packet. What it did not come to is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Of the frame, bytes.
    pub length: usize,
    /// What kind of packet it is.
    pub kind: PacketKind,
    /// Name or number of its protocol: `tcp`, `udp`, `icmp` …; of an ICMP error for a service that of the packet that it quotes.
    pub protocol: Option<String>,
    /// `address:port`, or the address alone where there is no port. Of an ICMP error the client of the flow that it is about.
    pub from: Option<String>,
    /// The same of who it was sent to.
    pub to: Option<String>,
    /// What it says about its flow.
    pub signal: Option<PacketSignal>,
    /// What would become of it.
    pub verdict: PacketVerdict,
    /// By which it is counted, as `reasons` of the status has it, such as `forward_pin`.
    pub reason: String,
    /// The service that it is for, or that its sender answers for.
    pub service: Option<String>,
    /// It is a backend's, which answers a client (`nat`).
    pub is_answer: bool,
    /// The clients of the service that are treated apart and that its sender is one of.
    pub clients: Option<String>,
    /// As `GET /v1/rings` has it.
    pub ring: Option<u32>,
    /// Number of its slot in the ring.
    pub slot: Option<u32>,
    /// Who has the slot; null as well if nobody has.
    pub owner: Option<String>,
    /// The slot is being handed over.
    pub handover: Option<ExplainedHandover>,
    /// The pin that was found under its flow's name, alive or not; see `pin_change` for whether it was looked for.
    pub pin: Option<ExplainedPin>,
    /// What becomes of the flow's pin.
    pub pin_change: PinChange,
    /// The phase that the pin is in then.
    pub pin_phase: Option<String>,
    /// Who was decided on.
    pub host: Option<String>,
    /// `active`, `draining` …, as `GET /v1/status` has it; `down`: it cannot be reached, or its checks for the service say so.
    pub host_state: Option<String>,
    /// By what the service's packets go to hosts: `l2`, `ipip`, `gue` or `nat`.
    pub forward: Option<String>,
    /// The interface that it leaves by.
    pub out: Option<String>,
    /// MAC address that it is sent to.
    pub next_hop: Option<String>,
    /// Where its outermost IP header leads.
    pub destination: Option<String>,
    /// The longest packet that fits the way, bytes, where this one does not.
    pub mtu: Option<u16>,
    /// Of the frame that leaves or is passed, bytes.
    pub length_out: Option<usize>,
    /// The same frame, in hexadecimal digits, if it is not as it came.
    pub frame_out: Option<String>,
}

/// Which part of a packet it is, or of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PacketKind {
    /// None that is looked at.
    #[default]
    Other,
    /// TCP or UDP, whole or a first fragment with its ports.
    Flow,
    Icmp,
    /// A fragment without ports.
    Fragment,
}

/// What a packet says about its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PacketSignal {
    Syn,
    Ack,
    Fin,
    Rst,
    /// It neither begins nor ends anything, and is no sign of life: SYN with ACK, no flag at all, or an ICMP error about the flow.
    Stray,
    Datagram,
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PacketVerdict {
    /// To this machine's kernel.
    #[default]
    Pass,
    /// Nowhere.
    Drop,
    /// Out by the interface that it came in by.
    Transmit,
    /// Out by another.
    Redirect,
}

impl PacketVerdict {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            PacketVerdict::Pass => "pass",
            PacketVerdict::Drop => "drop",
            PacketVerdict::Transmit => "transmit",
            PacketVerdict::Redirect => "redirect",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedHandover {
    /// Who had the slot before; null: nobody that is known.
    pub from: Option<String>,
    /// Seconds that it stays open at least, unless that host's drain is done before; 0: it closes once no live flow of the slot is
    /// elsewhere than with the owner.
    pub seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPin {
    /// The host that it names.
    pub host: String,
    /// `half-open`, `established`, `closing`, `udp` or `reset`
    pub phase: String,
    /// Seconds since the flow's last packet.
    pub idle: u64,
    /// It counts. Else it is what is left of a flow that has ended or has been silent for too long.
    pub is_live: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PinChange {
    /// Nothing.
    #[default]
    None,
    /// Nothing, and nobody knows whether there is one: the service tracks edges, and in a settled slot such a packet is not looked up.
    NotLookedUp,
    /// It is noted that the flow lives, or ends.
    Seen,
    /// It is made.
    Made,
}
