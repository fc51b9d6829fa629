//! Prefixes of addresses: as they are written, and which are of no use.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::hosts::unusable;
use super::limits;
use super::reader::{address, shorten};
use super::report::Report;
use crate::model::Vip;

/// Lengths that a prefix may have, of IPv4 and of IPv6.
type Lengths = [RangeInclusive<u8>; 2];

/// An address or a prefix that clients reach a service by; reports what is neither.
pub(super) fn vip(report: &mut Report, path: &str, text: &str) -> Option<Vip> {
    if !text.contains('/') {
        return address(report, path, text).map(Vip::from);
    }
    prefix(report, path, text, &[limits::VIP_V4, limits::VIP_V6]).map(Vip::of)
}

/// A prefix that outer headers come from.
pub(super) fn outer_source(report: &mut Report, path: &str, text: &str) -> Option<IpNet> {
    if let Ok(address) = text.trim().parse::<IpAddr>() {
        let hint = format!("write a prefix such as {}", example(address));
        report.add(path, format!("{address} is an address, not a prefix"), hint);
        return None;
    }
    let prefix = prefix(report, path, text, &[limits::OUTER_V4, limits::OUTER_V6])?;
    if let Some(reason) = unusable_prefix(prefix) {
        let hint = format!("write a prefix of your own network, such as {}", example(prefix.addr()));
        report.add(path, format!("{prefix} {reason}"), hint);
        return None;
    }
    Some(prefix)
}

fn prefix(report: &mut Report, path: &str, text: &str, [v4, v6]: &Lengths) -> Option<IpNet> {
    let (front, length) = text.split_once('/').unwrap_or((text, ""));
    let address = address(report, path, front)?;
    let lengths = if address.is_ipv4() { v4 } else { v6 };
    let hint = || format!("write a length from {} to {}", lengths.start(), lengths.end());
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let Some(bits) = digits.then(|| length.parse::<u8>().unwrap_or(u8::MAX)) else {
        let message = format!("{:?} has no length behind the slash", shorten(text));
        report.add(path, message, hint());
        return None;
    };
    if !lengths.contains(&bits) {
        report.add(path, format!("a prefix of {} bits is out of range", shorten(length)), hint());
        return None;
    }
    let prefix = IpNet::new(address, bits).ok()?;
    if prefix.addr() != prefix.trunc().addr() {
        let message = format!("{prefix} does not begin with the first address of its prefix");
        report.add(path, message, format!("write \"{}\"", prefix.trunc()));
        return None;
    }
    Some(prefix)
}

/// Why a prefix, or the only address of it, can be nobody's.
pub(super) fn unusable_prefix(prefix: IpNet) -> Option<String> {
    const NOBODYS: [(&str, &str); 10] = [
        ("0.0.0.0/32", "the unspecified address"),
        ("127.0.0.0/8", "the loopback addresses"),
        ("169.254.0.0/16", "the link-local addresses"),
        ("224.0.0.0/4", "the multicast addresses"),
        ("255.255.255.255/32", "the broadcast address"),
        ("::/128", "the unspecified address"),
        ("::1/128", "the loopback address"),
        ("fe80::/10", "the link-local addresses"),
        ("ff00::/8", "the multicast addresses"),
        ("::ffff:0:0/96", "IPv4 addresses in an IPv6 mapping"),
    ];
    if prefix.prefix_len() == prefix.max_prefix_len() {
        return unusable(prefix.addr()).map(str::to_owned);
    }
    NOBODYS.iter().find_map(|(other, what)| {
        let other: IpNet = other.parse().ok()?;
        (prefix.contains(&other) || other.contains(&prefix)).then(|| format!("overlaps {other}, {what}"))
    })
}

fn example(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "\"100.64.0.0/24\"" } else { "\"fd00:5::/64\"" }
}
