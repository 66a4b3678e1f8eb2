//! What an address and a network look like as text, for all who must tell them from names.

use std::net::{IpAddr, Ipv4Addr};

/// Whether a text is four decimal numbers.
pub(super) fn is_ipv4(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok()
}

/// Whether a text is an address and a prefix length that leaves room for more addresses than one.
pub(super) fn is_network(text: &str) -> bool {
    prefixed(text).is_some_and(|(_, length, longest)| length < longest)
}

/// The address of a text with a prefix length for this one alone: `192.0.2.1/32`.
pub(super) fn without_full_prefix(text: &str) -> Option<&str> {
    prefixed(text).filter(|(_, length, longest)| length == longest).map(|(ip, ..)| ip)
}

/// An address, its prefix length, and the longest that there is.
fn prefixed(text: &str) -> Option<(&str, u8, u8)> {
    let (ip, length) = text.split_once('/')?;
    let longest = match ip.parse().ok()? {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let length = Some(length).filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
    (length <= longest).then_some((ip, length, longest))
}
