//! Names of wildcard DNS services, which lead to an address that stands in the name, or to this machine.
//!
//! The zones are those that their operators document for it. Nobody registers such a name, so what it leads to is all that
//! there is to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Zones that answer with the address that a name spells: `app.10.0.0.1.nip.io`, `10-0-0-1.sslip.io`, `0a000001.nip.io`.
const SPELLED: [&str; 9] =
    ["local-ip.co", "local-ip.sh", "nip.io", "plex.direct", "rbndr.us", "sslip.io", "traefik.me", "xip.io", "xip.name"];
/// Zones that answer with 127.0.0.1 for every name; `traefik.me` for one that spells no address.
const LOOPBACK: [&str; 13] = [
    "127-0-0-1.org.uk",
    "ddev.site",
    "fuf.me",
    "lacolhost.com",
    "lndo.site",
    "local.gd",
    "localho.st",
    "localhost.direct",
    "localhst.co.uk",
    "localtest.me",
    "lvh.me",
    "traefik.me",
    "vcap.me",
];

/// The addresses that a name in normal form leads to by its zone. Services differ in which one they take where a name
/// spells more than one, so each counts.
pub(super) fn addresses(name: &str) -> Vec<IpAddr> {
    let labels = |zone: &&str| name.strip_suffix(*zone)?.strip_suffix('.');
    let mut found = SPELLED.iter().find_map(labels).map(spelled).unwrap_or_default();
    let is_loopback = LOOPBACK.iter().any(|zone| name == *zone || labels(zone).is_some());
    if is_loopback && found.is_empty() {
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    found
}

/// The addresses that labels spell: four numbers between dots or hyphens, eight hexadecimal digits, or IPv6 with hyphens
/// for its colons.
fn spelled(labels: &str) -> Vec<IpAddr> {
    let pieces: Vec<&str> = labels.split(['.', '-']).collect();
    let number = |piece: &&str| piece.parse::<u8>().ok();
    let decimal = pieces.windows(4).filter_map(|four| {
        let [a, b, c, d] = four else { return None };
        Some(Ipv4Addr::new(number(a)?, number(b)?, number(c)?, number(d)?))
    });
    let hexadecimal = pieces.iter().filter_map(|piece| {
        let digits = piece.strip_prefix("0x").unwrap_or(piece);
        u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8).map(Ipv4Addr::from_bits)
    });
    let ipv4 = decimal.chain(hexadecimal).map(IpAddr::V4);
    ipv4.chain(labels.split('.').flat_map(spelled_ipv6).map(IpAddr::V6)).collect()
}

/// Every run of the pieces of a label that is an IPv6 address.
fn spelled_ipv6(label: &str) -> Vec<Ipv6Addr> {
    let pieces: Vec<&str> = label.split('-').collect();
    let runs = (0..pieces.len()).flat_map(|start| (start + 1..=pieces.len()).map(move |end| start..end));
    runs.filter_map(|run| pieces.get(run)?.join(":").parse().ok()).collect()
}
