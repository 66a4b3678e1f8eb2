//! The names by which lists call the column or member that holds the entry.

/// The most exact sort of entry first: a list of URLs often names their hosts and files too.
const OBVIOUS: [&str; 42] = [
    "indicator",
    "indicator_value",
    "ioc",
    "ioc_value",
    "observable",
    "value",
    "url",
    "uri",
    "ip",
    "ip_address",
    "ipaddress",
    "ip_addr",
    "ipaddr",
    "ipv4",
    "ipv6",
    "dst_ip",
    "dest_ip",
    "src_ip",
    "ip_dst",
    "ip_src",
    "address",
    "cidr",
    "network",
    "netblock",
    "subnet",
    "prefix",
    "ip_prefix",
    "ipv6_prefix",
    "domain",
    "domain_name",
    "hostname",
    "host_name",
    "host",
    "fqdn",
    "sha256",
    "sha256_hash",
    "sha1",
    "sha1_hash",
    "md5",
    "md5_hash",
    "hash",
    "file_hash",
];

/// The name that says that it is the entry's. Letter case, blanks and hyphens do not count.
pub(super) fn obvious<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    OBVIOUS.iter().find_map(|known| names.clone().find(|name| is_known_as(name.trim(), known)))
}

fn is_known_as(name: &str, known: &str) -> bool {
    let plain = |byte: u8| if matches!(byte, b' ' | b'-') { b'_' } else { byte.to_ascii_lowercase() };
    name.len() == known.len() && name.bytes().zip(known.bytes()).all(|(byte, known)| plain(byte) == known)
}
