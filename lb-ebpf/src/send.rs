//! The packet in hand on its way to its backend.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::nat::{self, Endpoint, Headers, Transport};
use lb_common::parse::{Frame, What};
use lb_common::reason::Reason;

use crate::backend::{count_packet, numbered, tally_packet};
use crate::forward::{Leaving, Out, forward, refuse_hairpin, refused, room};
use crate::hand::{Hand, Step, context, frame, hand};
use crate::maps;
use crate::verdict::Verdict;

/// Sends it on.
#[inline(always)]
pub fn send(ctx: &XdpContext, reason: Reason) -> Result<Verdict, Reason> {
    match send_on(ctx.ctx, reason as u32) {
        BACK => Ok(Out::Back.verdict(reason)),
        ACROSS => Ok(Out::Across.verdict(reason)),
        refused => Err(Reason::from_number((refused - REFUSED) & 0xff)),
    }
}

const BACK: Step = 0;
const ACROSS: Step = 1;
/// And the reason's number.
const REFUSED: Step = 2;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_on(ctx: *mut xdp_md, reason: u32) -> Step {
    let ctx = context(ctx);
    let sent = hand().and_then(|hand| {
        let directory = maps::DIRECTORY.get_ptr(0).ok_or(Reason::DropInternal)?;
        let record = numbered(directory, hand.backend);
        let frame = frame(&ctx);
        let leaving = Leaving {
            frame: &frame,
            packet: hand.packet(),
            hash: hand.hash,
            is_flow: matches!(hand.whole.what, What::Flow),
        };
        let sent = forward(&ctx, &leaving, &record, |to| {
            refuse_hairpin(hand.packet(), Reason::from_number(reason & 0xff))?;
            translate(&frame, hand, to)
        });
        match sent {
            Ok(_) => {
                hand.egress = record.get().ifindex;
                if !maps::is_dry() {
                    count_packet(&record, hand.len as u64);
                    tally_packet(&record, hand.len as u64);
                }
            }
            Err(Reason::DropTooBig) => hand.mtu = room(record.get()),
            Err(_) => {}
        }
        sent
    });
    match sent {
        Ok(Out::Back) => BACK,
        Ok(Out::Across) => ACROSS,
        Err(reason) => REFUSED + reason as u32,
    }
}

/// Destination NAT of whatever it is.
#[inline(always)]
fn translate(frame: &Frame, hand: &Hand, to: &Endpoint) -> Result<(), Reason> {
    // SAFETY: the frame is this program run's own.
    let translated = unsafe {
        match hand.whole.what {
            What::Icmp => nat::error_to_backend(frame, hand.icmp(), &hand.quoted(), to),
            _ => nat::to_backend(frame, &hand.headers(), to),
        }
    };
    translated.map_err(refused)
}

impl Hand {
    /// Where its headers are.
    #[inline(always)]
    pub fn headers(&self) -> Headers {
        let packet = self.packet();
        let transport = match self.whole.what {
            What::Flow => Transport::of(packet.tuple.protocol as u8),
            _ => Transport::None,
        };
        Headers { is_v6: packet.is_v6, transport, offset: packet.ip_header_len }
    }

    /// Where the headers of the packet are that an ICMP error quotes.
    #[inline(always)]
    pub fn quoted(&self) -> Headers {
        let packet = self.packet();
        Headers {
            is_v6: packet.is_v6,
            transport: Transport::of(packet.tuple.protocol as u8),
            offset: self.quoted_l4.wrapping_sub(self.quoted_ip),
        }
    }

    /// Where the ICMP header is, from the start of the IP header.
    #[inline(always)]
    pub fn icmp(&self) -> u16 {
        self.packet().ip_header_len
    }
}
