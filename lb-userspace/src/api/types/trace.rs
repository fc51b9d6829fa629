//! What the data path does with packets, as it does it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line::line;
use super::{Explanation, PacketVerdict};

/// `POST /v1/trace`: show packets that come from now on, for as long as the connection stays. All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Of the packet, or of the flow that an ICMP error is about; `icmp`: that of both families.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TraceProtocol>,
    /// Of the client: `198.51.100.7`, `198.51.100.0/24`, either with `:PORT` behind it; IPv6 in brackets where there is a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// That it asks for, in the same way; `:443` alone is a port of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<String>,
    /// The service that it is for, or that its sender answers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The host that was decided on. It is not known of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Any of these, as `reasons` of the status has them, such as `forward_pin`; one that ends with `*` stands for all that begin so. None: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Any of these; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<PacketVerdict>,
    /// Of so many packets one is shown, counted by CPU; default: 1, which is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u32>,
    /// At most so many a second are shown, up to 10,000; default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Bytes of each frame that come along, as it came in and as it left, up to 9216; default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
    /// Seconds after which it ends, 1 to 86,400; default: when the connection does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasting: Option<u64>,
    /// Who asks, if it is not the user at the other end of the socket: one line.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "line")]
    pub by: Option<String>,
    /// Why, for the events: one line.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "line")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TraceProtocol {
    Tcp,
    Udp,
    Icmp,
}

impl TraceProtocol {
    pub fn name(self) -> &'static str {
        match self {
            TraceProtocol::Tcp => "tcp",
            TraceProtocol::Udp => "udp",
            TraceProtocol::Icmp => "icmp",
        }
    }
}

/// One message of the stream that `POST /v1/trace` answers with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum TraceMessage {
    /// A packet that has gone by.
    Packet(Box<TracedPacket>),
    /// How many there were up to now. The first message, and then at least once a second.
    Counts(TraceCounted),
    /// The last message: the daemon ends the stream.
    Ended(TraceEnded),
}

/// Why the daemon ends a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceEnded {
    /// In a word, for programs.
    pub why: TraceEnd,
    /// The same for people.
    pub words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TraceEnd {
    /// The time that was asked for is over.
    Over,
    /// The daemon ends.
    Stopping,
    /// Packets cannot be shown any more.
    Failed,
}

/// A packet, and what became of it. Names are those of the moment in which it is told, a moment later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TracedPacket {
    /// When it came in, Unix seconds.
    pub at: u64,
    /// And nanoseconds of that second.
    pub nanoseconds: u32,
    /// The interface that it came in by.
    pub interface: String,
    /// The processor that it was handled on.
    pub cpu: u32,
    #[serde(flatten)]
    pub told: Explanation,
    /// The frame as it came in, in hexadecimal digits, cut off at `bytes`; null without these. `frame_out` as well.
    pub frame_in: Option<String>,
}

/// One who is shown packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TracerStatus {
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Which packets, in words.
    pub filter: String,
    /// Bytes of each frame that come along; 0: none.
    pub bytes: u32,
    /// Unix seconds.
    pub since: u64,
}

/// How many packets there were that were asked for, and why not all were shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceCounted {
    /// All of them.
    pub wanted: u64,
    /// Those that the stream has had.
    pub shown: u64,
    /// Others stood for them.
    pub sampled: u64,
    /// There were more in a second than `rate`.
    pub over_rate: u64,
    /// The data path had no room left for them.
    pub no_room: u64,
    /// The reader of this stream was too slow for them.
    pub too_slow: u64,
    /// Milliseconds, at most, in which packets were neither shown nor counted: another config has replaced the program that shows them, until
    /// the next one was loaded.
    #[serde(default)]
    pub unseen_ms: u64,
}
