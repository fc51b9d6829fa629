//! What leaves for a backend.

use lb_common::hash::FlowHash;
use lb_common::icmp::Quoted;
use lb_common::layout::{
    Backend, BackendFlags, Egress, FEATURE_GUE, FEATURE_NAT, FEATURE_TAGS, MODE_GUE, MODE_IPIP, MODE_L2,
    MODE_NAT, VipFlags,
};
use lb_common::parse::{L3, Signal, TCP, What, Whole};
use lb_common::reason::Reason;

use super::{Balancer, data_path, nat};
use crate::site::BackendTable;
use crate::wire;

/// A packet on its way out.
pub(super) struct Leaving<'a> {
    /// Without tags.
    pub frame: &'a [u8],
    pub whole: &'a Whole,
    /// Of an ICMP error.
    pub quoted: Option<&'a Quoted>,
    /// Of its flow.
    pub hash: FlowHash,
    pub reason: Reason,
    pub balancer: &'a Balancer,
}

impl Leaving<'_> {
    /// The frame as it goes to a backend, or why it cannot.
    pub fn send(&self, to: &BackendTable) -> Result<Vec<u8>, Reason> {
        let BackendTable { record: backend, egress } = to;
        let packet = &self.whole.packet;
        let mode = self.mode(backend);
        if backend.flags & BackendFlags::REACHABLE == 0 {
            return Err(Reason::DropNoNextHop);
        }
        let is_next_door = backend.flags & BackendFlags::ON_LINK != 0 && backend.mode == MODE_L2;
        if is_next_door && self.frame[6..12] == backend.destination_mac {
            return Err(Reason::DropLoop);
        }
        if packet.ip_len > room(backend) {
            return Err(Reason::DropTooBig);
        }
        let begins = packet.signal == Signal::Syn || self.reason == Reason::ForwardNew;
        let source = self.balancer.site.vip(&packet.tuple.source);
        if mode == MODE_NAT && begins && source & VipFlags::NAT_HOST != 0 {
            return Err(Reason::DropHairpin);
        }
        let bytes = self.written(backend, egress, mode);
        let by_data_path = data_path::written(self, backend, egress, mode, self.mss());
        assert_eq!(bytes, by_data_path, "by other code and by the data path's");
        let tagged =
            self.balancer.settings.features & FEATURE_TAGS != 0 && backend.flags & BackendFlags::TAGGED != 0;
        let tags: Vec<u8> =
            egress.tags.iter().filter(|tag| **tag != 0).flat_map(|tag| tag.to_ne_bytes()).collect();
        Ok(if tagged { [&bytes[..12], &tags, &bytes[12..]].concat() } else { bytes })
    }

    /// One that is off is as the plainest.
    fn mode(&self, backend: &Backend) -> u8 {
        let has = |feature| self.balancer.settings.features & feature != 0;
        match backend.mode {
            MODE_GUE if !has(FEATURE_GUE) => MODE_L2,
            MODE_NAT if !has(FEATURE_NAT) => MODE_L2,
            mode => mode,
        }
    }

    /// What SYNs may announce at most; 0: anything.
    fn mss(&self) -> u16 {
        let packet = &self.whole.packet;
        let may_be_syn = matches!(packet.signal, Signal::Syn | Signal::Stray);
        let is_tcp = packet.tuple.protocol as u8 == TCP && self.whole.what == What::Flow;
        match self.balancer.settings.mss as u16 {
            mss if mss != 0 && may_be_syn && is_tcp => mss - if packet.is_v6 { 20 } else { 0 },
            _ => 0,
        }
    }

    fn written(&self, backend: &Backend, egress: &Egress, mode: u8) -> Vec<u8> {
        let packet = &self.whole.packet;
        let mut bytes = self.frame[L3..].to_vec();
        if mode == MODE_NAT {
            nat::to_backend(&mut bytes, self.whole, self.quoted, backend);
        }
        wire::hop(&mut bytes);
        if self.mss() != 0 {
            wire::clamp(&mut bytes[packet.ip_header_len.into()..], self.mss());
        }
        let macs = [backend.destination_mac, backend.source_mac].concat();
        let is_gue = mode == MODE_GUE;
        if !is_gue && mode != MODE_IPIP {
            return [&macs, &self.frame[12..14], &bytes].concat();
        }
        let source = std::array::from_fn(|i| egress.source[i] | egress.spread[i] & self.hash.0);
        let is_v6 = backend.flags & BackendFlags::OUTER_V6 != 0;
        // 14 bits of the hash, among the ephemeral ports.
        let ports = is_gue.then(|| (0xc000 | self.hash.0 as u16 & 0x3fff, u16::from_be(backend.port)));
        let outer = wire::outer(
            (packet.is_v6, packet.ip_len, packet.traffic_class),
            is_v6,
            source,
            backend.address,
            ports,
        );
        let ether_type: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        [&macs, &ether_type[..], &outer, &bytes].concat()
    }
}

/// Bytes of the longest packet that fits the way to a backend.
pub(super) fn room(backend: &Backend) -> u16 {
    let outer = if backend.flags & BackendFlags::OUTER_V6 != 0 { 40 } else { 20 };
    match backend.mode {
        MODE_IPIP => backend.mtu.saturating_sub(outer),
        MODE_GUE => backend.mtu.saturating_sub(outer + 12),
        _ => backend.mtu,
    }
}
