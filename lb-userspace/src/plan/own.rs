//! The addresses that the balancer answers from itself.

use std::net::IpAddr;

use lb_common::layout::{Own, Tuple};

/// Those of an interface: of each family the first that others may send to.
pub fn own(interface: &str, addresses: &[(String, IpAddr)]) -> Own {
    let here = addresses.iter().filter(|(name, _)| name == interface).map(|(_, address)| *address);
    let mut own = Own::default();
    for address in here {
        match address {
            IpAddr::V4(v4) if own.v4 == 0 && !v4.is_link_local() && !v4.is_loopback() => {
                own.v4 = u32::from_ne_bytes(v4.octets());
            }
            IpAddr::V6(v6) if own.v6 == [0; 2] && !v6.is_unicast_link_local() && !v6.is_loopback() => {
                own.v6 = Tuple::words(v6.octets());
            }
            _ => {}
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_that_others_may_send_to_counts() {
        let all = ["169.254.0.1", "fe80::1", "10.0.0.1", "10.0.0.2", "fd00::1"];
        let mut all: Vec<(String, IpAddr)> =
            all.iter().map(|text| ("eth0".to_owned(), text.parse().unwrap())).collect();
        all.insert(0, ("eth1".to_owned(), "10.1.0.1".parse().unwrap()));
        let eth0 = own("eth0", &all);
        assert_eq!(eth0.v4.to_ne_bytes(), [10, 0, 0, 1], "as it lies in a packet");
        assert_eq!(eth0.v6[0].to_ne_bytes(), [0xfd, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(eth0.v6[1].to_ne_bytes(), [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(own("eth1", &all), Own { v4: u32::from_ne_bytes([10, 1, 0, 1]), ..Own::default() });
        assert_eq!(own("eth2", &all), Own::default());
    }
}
