//! Errors of the balancer's own.

use std::net::IpAddr;

use lb_common::icmp::{Problem, may_answer_packet, quote_v4, quote_v6};
use lb_common::parse::{L3, Whole};
use lb_common::reason::Reason;

use super::{Balancer, Ended};
use crate::site::octets_of;
use crate::wire;

impl Balancer {
    /// Answers a segment with a RST.
    pub(super) fn reset(&self, frame: &[u8], whole: &Whole, answered: Reason) -> Ended {
        let is_for_one = frame[0] & 1 == 0;
        if !is_for_one || !may_answer_packet(&frame[L3..]) {
            return Err(Reason::DropNoHost);
        }
        Ok((answered, wire::reset(frame, whole.packet.ip_header_len.into())))
    }

    /// Tells the sender of a packet what is wrong with it, if it may be told.
    pub(super) fn answer(&self, frame: &[u8], whole: &Whole, problem: Problem) -> Ended {
        let packet = &whole.packet;
        let (answered, unanswered) = match problem {
            Problem::TooBig { .. } => (Reason::AnswerTooBig, Reason::DropTooBig),
            Problem::TimeExceeded => (Reason::AnswerTimeExceeded, Reason::DropTimeExceeded),
            Problem::PortUnreachable => (Reason::AnswerReject, Reason::DropNoHost),
        };
        let quote = if packet.is_v6 {
            quote_v6(packet.ip_len)
        } else {
            quote_v4(packet.ip_len, packet.ip_header_len)
        };
        let is_for_one = frame[0] & 1 == 0;
        if !is_for_one || quote.is_none() || !may_answer_packet(&frame[L3..]) {
            return Err(unanswered);
        }
        let own = if packet.is_v6 {
            self.settings.own_v6.map(IpAddr::from)
        } else {
            self.settings.own_v4.map(IpAddr::from)
        };
        let vip = IpAddr::from(octets_of(packet.tuple.destination)).to_canonical();
        Ok((answered, wire::error(frame, own.unwrap_or(vip), problem)))
    }
}
