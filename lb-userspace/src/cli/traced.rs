//! What `sluice trace` and `sluice capture` have in common: which packets, how many, for how long.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::output::Out;
use super::render::text::clean;
use super::render::trace::{losses, sum};
use super::terminal::Style;
use super::{Exit, Failure, duration_arg};
use crate::api::client::{Client, MessageStream};
use crate::api::types::{
    PacketVerdict, TraceCounted, TraceEnd, TraceEnded, TraceMessage, TraceProtocol, TraceRequest,
    TracedPacket,
};
use crate::trace::LONGEST;

/// Time between two complaints about packets that are not shown.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the last counts are waited for.
const LAST: Duration = Duration::from_secs(2);
/// Seconds beyond the time that was asked for in which this command ends it by itself, with its counts.
const BEYOND: u64 = 10;

#[derive(Debug, Clone, Args)]
pub struct WhichArgs {
    /// Only packets of this protocol
    #[arg(value_enum)]
    pub protocol: Option<TraceProtocol>,
    /// Only packets from and to these clients: ADDRESS, ADDRESS/LENGTH, either with :PORT; IPv6 in brackets then
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// Only packets that clients send to this address or prefix, and what answers them; :PORT for a port of any
    #[arg(long, value_name = "VIP")]
    pub vip: Option<String>,
    /// Only packets of this service
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Only packets that are decided to go to this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only packets with this reason of their verdict, such as forward_new or 'drop_*'; may be given several times
    #[arg(long = "reason", value_name = "REASON")]
    pub reasons: Vec<String>,
    /// Only packets that this becomes of; may be given several times
    #[arg(long = "verdict", value_enum, value_name = "VERDICT")]
    pub verdicts: Vec<PacketVerdict>,
    /// Of so many packets show one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
    /// End after so many packets
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time; default: at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = duration_arg)]
    pub lasting: Option<Duration>,
    /// Who asks; default: the user that runs this command
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

impl WhichArgs {
    /// What to ask for: at most so many packets a second, and so many bytes of each frame.
    pub fn request(&self, rate: u32, bytes: u32) -> TraceRequest {
        TraceRequest {
            protocol: self.protocol,
            client: self.client.clone(),
            vip: self.vip.clone(),
            service: self.service.clone(),
            host: self.host.clone(),
            reasons: self.reasons.clone(),
            verdicts: self.verdicts.clone(),
            sample: self.sample,
            rate: Some(rate),
            bytes: (bytes != 0).then_some(bytes),
            lasting: self.lasting.map(beyond).filter(|seconds| *seconds <= LONGEST),
            by: self.by.clone(),
            reason: None,
        }
    }
}

/// Seconds after which the daemon ends it, whatever has become of this command.
fn beyond(lasting: Duration) -> u64 {
    lasting.as_secs().saturating_add(BEYOND)
}

/// What a verb does with packets.
pub trait Taker {
    /// One more; whether to go on.
    fn take(&mut self, packet: TracedPacket) -> Result<bool, Failure>;

    /// Nothing more comes.
    fn end(&mut self, counted: &TraceCounted) -> Result<(), Failure>;
}

/// Packets as they come, until the end that was asked for or Ctrl-C. Who takes them is made once the daemon has agreed.
pub async fn follow<T: Taker>(
    client: &Client,
    which: &WhichArgs,
    request: &TraceRequest,
    begin: impl FnOnce() -> Result<T, Failure>,
) -> Result<(), Failure> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [interrupt, terminate] = &mut signals;
    let interrupt = interrupt.as_mut().map_err(|error| anyhow!("cannot watch for Ctrl-C: {error}"))?;
    let terminate = terminate.as_mut().map_err(|error| anyhow!("cannot watch for SIGTERM: {error}"))?;
    let mut stream = client.trace(request).await?;
    let taker = &mut begin()?;
    let deadline = which.lasting.map(|lasting| Instant::now() + lasting);
    let mut progress = Progress::new();
    // What came before something broke is worth as much.
    let ended = read(&mut stream, which.count, deadline, taker, &mut progress, [interrupt, terminate]).await;
    if let Ok(Ended::Asked) = ended {
        progress.last(&mut stream).await;
    }
    taker.end(&progress.counted)?;
    progress.end()?;
    match ended? {
        Ended::Asked | Ended::Closed => Ok(()),
        Ended::ByDaemon(None) => Err(Failure::new(Exit::Unreachable, anyhow!("the daemon has ended"))),
        Ended::ByDaemon(Some(ended)) => match ended.why {
            TraceEnd::Over => Ok(()),
            TraceEnd::Stopping => Err(Failure::new(Exit::Unreachable, anyhow!(ended.words))),
            TraceEnd::Failed => Err(Failure::new(Exit::Failed, anyhow!(ended.words))),
        },
    }
}

enum Ended {
    /// By count, time or signal.
    Asked,
    /// Nobody takes packets any more.
    Closed,
    /// With its last word, if there was time for one.
    ByDaemon(Option<TraceEnded>),
}

async fn read(
    stream: &mut MessageStream<TraceMessage>,
    count: Option<u64>,
    deadline: Option<Instant>,
    taker: &mut impl Taker,
    progress: &mut Progress,
    [interrupt, terminate]: [&mut Signal; 2],
) -> Result<Ended, Failure> {
    let over = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        let message = tokio::select! {
            message = stream.next() => message?,
            () = &mut over => return Ok(Ended::Asked),
            _ = interrupt.recv() => return Ok(Ended::Asked),
            _ = terminate.recv() => return Ok(Ended::Asked),
        };
        match message {
            None => return Ok(Ended::ByDaemon(None)),
            Some(TraceMessage::Ended(ended)) => return Ok(Ended::ByDaemon(Some(ended))),
            Some(TraceMessage::Counts(counted)) => progress.count(counted)?,
            Some(TraceMessage::Packet(packet)) => {
                progress.taken += 1;
                if !taker.take(*packet)? {
                    return Ok(Ended::Closed);
                }
                if count == Some(progress.taken) {
                    return Ok(Ended::Asked);
                }
            }
        }
    }
}

/// What is said on standard error.
struct Progress {
    out: Out,
    style: Style,
    has_begun: bool,
    taken: u64,
    counted: TraceCounted,
    /// When packets were last said to be missing, and how many were by then.
    said: Option<Instant>,
    missing: u64,
    /// Of the time in which nobody looked.
    unseen: u64,
}

impl Progress {
    fn new() -> Self {
        let (out, style) = (Out::stderr(), Style::stderr());
        Progress {
            out,
            style,
            has_begun: false,
            taken: 0,
            counted: TraceCounted::default(),
            said: None,
            missing: 0,
            unseen: 0,
        }
    }

    fn count(&mut self, counted: TraceCounted) -> Result<(), Failure> {
        self.counted = counted;
        if !std::mem::replace(&mut self.has_begun, true) {
            return self.say("packets are shown from now on; Ctrl-C ends it");
        }
        // Those that others stand for are not missing.
        let missing = counted.over_rate + counted.no_room + counted.too_slow;
        let is_new = (missing > self.missing || counted.unseen_ms > self.unseen)
            && self.said.is_none_or(|said| said.elapsed() >= PAUSE);
        match losses(&counted).filter(|_| is_new) {
            Some(losses) => {
                (self.said, self.missing, self.unseen) = (Some(Instant::now()), missing, counted.unseen_ms);
                self.say(&format!("not shown so far: {losses}"))
            }
            None => Ok(()),
        }
    }

    /// Waits for counts that have everything up to now.
    async fn last(&mut self, stream: &mut MessageStream<TraceMessage>) {
        let next = async {
            // The next may have been on their way.
            let mut left = 2;
            while let Ok(Some(message)) = stream.next().await {
                match message {
                    TraceMessage::Packet(_) => {}
                    TraceMessage::Counts(counted) => {
                        self.counted = counted;
                        left -= 1;
                    }
                    TraceMessage::Ended(_) => return,
                }
                if left == 0 {
                    return;
                }
            }
        };
        // Without them those of before have to do.
        let _ = tokio::time::timeout(LAST, next).await;
    }

    fn end(&mut self) -> Result<(), Failure> {
        let text = sum(&TraceCounted { shown: self.taken, ..self.counted });
        self.say(&text)
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        let text = clean(text, self.style.ascii) + "\n";
        Ok(self.out.print(&text).map_err(|failure| failure.error).context("cannot say how it goes")?)
    }
}
