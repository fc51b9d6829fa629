//! What is known of the paths to backends, beyond the next hop.

use lb_common::encap::GUE_LEN;
use lb_common::layout::{Backend, BackendFlags, MODE_GUE, MODE_IPIP};

/// The least MTUs that clients can be made to heed, by family: Linux keeps to 552 bytes of IPv4 at least (`net.ipv4.route.min_pmtu`),
/// and every host to 1280 of IPv6 (RFC 8201, 4). A forged error must not do more than make their packets small.
const LEAST_V4: u16 = 576;
const LEAST_V6: u16 = 1280;

/// Lowers the MTU of a backend's record to that of the path; what leaves without an outer header has its errors sent to the client.
pub fn lower(record: &mut Backend, client_is_v6: bool, path_mtu: u16) {
    let outer = if record.flags & BackendFlags::OUTER_V6 != 0 { 40 } else { 20 };
    let overhead = match record.mode {
        MODE_IPIP => outer,
        MODE_GUE => outer + GUE_LEN,
        _ => return,
    };
    let least = overhead + if client_is_v6 { LEAST_V6 } else { LEAST_V4 };
    record.mtu = record.mtu.min(path_mtu.max(least));
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::layout::{MODE_L2, MODE_NAT};

    #[test]
    fn the_lesser_mtu_counts_but_leaves_room_for_what_clients_can_keep_to() {
        let lowered = |mode, outer_v6: bool, client_is_v6, path_mtu| {
            let flags = if outer_v6 { BackendFlags::OUTER_V6 } else { 0 };
            let mut record = Backend { mode, flags, mtu: 1500, ..Backend::default() };
            lower(&mut record, client_is_v6, path_mtu);
            record.mtu
        };
        for (outer_v6, client_is_v6) in [(false, false), (false, true), (true, false), (true, true)] {
            for (mode, between) in [(MODE_IPIP, 0), (MODE_GUE, 12)] {
                let overhead = between + if outer_v6 { 40 } else { 20 };
                let least = overhead + if client_is_v6 { 1280 } else { 576 };
                let lowered = |path_mtu| lowered(mode, outer_v6, client_is_v6, path_mtu);
                assert_eq!([9000, 1500, 1499, 1400].map(lowered), [1500, 1500, 1499, 1400]);
                assert_eq!([least, least - 1, 68].map(lowered), [least; 3]);
            }
            for mode in [MODE_L2, MODE_NAT] {
                assert_eq!(lowered(mode, outer_v6, client_is_v6, 1400), 1500);
            }
        }
    }
}
