//! The clients that a drain is for.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// Why a text names no clients that can be told from others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    #[error("{0:?} is neither an address nor a prefix")]
    NoPrefix(String),
    #[error("{0} has IPv4 addresses in it, as the data path keeps them")]
    BothFamilies(Ipv6Net),
}

impl Unclear {
    /// What to do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            Unclear::NoPrefix(_) => "write it like 198.51.100.7, 10.0.0.0/8 or 2001:db8::/32",
            Unclear::BothFamilies(_) => {
                "write 2000::/3 for IPv6 clients of the Internet, 10.0.0.0/8 or another one for IPv4"
            }
        }
    }
}

/// The prefix that a text means: an address is one of its own, and bits behind the prefix do not count.
pub fn clients(text: &str) -> Result<IpNet, Unclear> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let prefix = text.parse::<IpNet>().or_else(|_| address());
    let prefix = prefix.map_err(|_| Unclear::NoPrefix(text.to_owned()))?.trunc();
    let mapped = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
    match prefix {
        IpNet::V6(prefix) if prefix.contains(&mapped) || mapped.contains(&prefix) => {
            Err(Unclear::BothFamilies(prefix))
        }
        prefix => Ok(prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_meant_as_it_counts() {
        let read = |text| clients(text).map(|prefix| prefix.to_string());
        assert_eq!(read("10.1.2.3/8"), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(read("10.1.2.3"), Ok("10.1.2.3/32".to_owned()));
        assert_eq!(read("0.0.0.0/0"), Ok("0.0.0.0/0".to_owned()));
        assert_eq!(read("2001:db8::1"), Ok("2001:db8::1/128".to_owned()));
        assert_eq!(read("2001:db8::1/32"), Ok("2001:db8::/32".to_owned()));
        for text in ["", "10", "10.0.0.0/33", "lab", "10.0.0.0/8 "] {
            assert_eq!(clients(text), Err(Unclear::NoPrefix(text.to_owned())));
        }
        for text in ["::/0", "::/80", "::ffff:10.0.0.0/104"] {
            assert!(matches!(clients(text), Err(Unclear::BothFamilies(_))), "{text}");
        }
    }
}
