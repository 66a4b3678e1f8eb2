//! Special-purpose addresses (IANA registries, RFC 6890 and its updates), and names of internal networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Host, wildcard};

/// Suffixes of internal names that are not delegated in the public DNS: RFC 6761 (`localhost`, `test`, `invalid`), RFC 6762
/// (`local`, and its appendix G: `intranet`, `internal`, `private`, `corp`, `home`, `lan`), RFC 8375 (`home.arpa`), and what
/// ICANN holds back since it collides with internal names (`mail`, `domain`, `localdomain`).
const INTERNAL_SUFFIXES: [&str; 14] = [
    "corp",
    "domain",
    "home",
    "home.arpa",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "mail",
    "private",
    "test",
];

/// How an IPv6 address embeds an IPv4 address.
struct Embedding {
    /// The bits that tell such an address.
    pattern: u128,
    /// Which bits these are.
    mask: u128,
    /// The IPv4 address, in the lowest 32 bits.
    ipv4: fn(u128) -> u128,
}

impl Embedding {
    /// One that its first bits mark.
    const fn prefix(pattern: u128, length: u32, ipv4: fn(u128) -> u128) -> Self {
        Self { pattern, mask: u128::MAX << (128 - length), ipv4 }
    }
}

/// The prefix for translation in one network (RFC 8215). RFC 6052 lets it use more bits than these 48 as its prefix: the
/// address follows these, without the octet from bit 64 on, which is zero.
const LOCAL_NAT64: u128 = 0x0064_ff9b_0001 << 80;

const EMBEDDINGS: [Embedding; 12] = [
    // IPv4-compatible (RFC 4291).
    Embedding::prefix(0, 96, |bits| bits),
    // IPv4-mapped (RFC 4291).
    Embedding::prefix(0xffff << 32, 96, |bits| bits),
    // IPv4-translated (SIIT, RFC 2765).
    Embedding::prefix(0xffff << 48, 96, |bits| bits),
    // NAT64 with the well-known prefix (RFC 6052).
    Embedding::prefix(0x0064_ff9b << 96, 96, |bits| bits),
    // NAT64 with a local prefix of 48, 56, 64 or 96 bits.
    Embedding::prefix(LOCAL_NAT64, 48, |bits| (bits >> 64 & 0xffff) << 16 | bits >> 40 & 0xffff),
    Embedding::prefix(LOCAL_NAT64, 48, |bits| (bits >> 64 & 0xff) << 24 | bits >> 32 & 0x00ff_ffff),
    Embedding::prefix(LOCAL_NAT64, 48, |bits| bits >> 24),
    Embedding::prefix(LOCAL_NAT64, 48, |bits| bits),
    // 6to4 (RFC 3056).
    Embedding::prefix(0x2002 << 112, 16, |bits| bits >> 80),
    // Teredo (RFC 4380): the server, and the client with every bit inverted.
    Embedding::prefix(0x2001 << 112, 32, |bits| bits >> 64),
    Embedding::prefix(0x2001 << 112, 32, |bits| !bits),
    // ISATAP (RFC 5214) within any network, for a private or a global address: the bits differ in one.
    Embedding { pattern: 0x5efe << 32, mask: 0xfdff_ffff << 32, ipv4: |bits| bits },
];

/// The special purpose of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpecialAddress {
    /// Private use (RFC 1918), and site-local IPv6 of former times (RFC 3879).
    Private,
    /// Loopback.
    Loopback,
    /// Link-local (RFC 3927, RFC 4291).
    LinkLocal,
    /// Shared between a provider and its customers (CGNAT, RFC 6598).
    Cgnat,
    /// Unique local IPv6 (RFC 4193).
    UniqueLocal,
    /// Multicast.
    Multicast,
    /// The unspecified address and "this network".
    Unspecified,
    /// Limited broadcast.
    Broadcast,
    /// Documentation (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// Benchmarking (RFC 2544, RFC 5180).
    Benchmarking,
    /// Reserved for protocols or the future.
    Reserved,
    /// 6to4 (RFC 3056).
    SixToFour,
    /// Teredo (RFC 4380).
    Teredo,
    /// IPv4 embedded for translation (RFC 6052, RFC 8215).
    Nat64,
}

impl SpecialAddress {
    /// The special purpose of an address, if it has one. An IPv4-mapped address counts as the IPv4 address.
    pub fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => from_ipv4(ip),
            IpAddr::V6(ip) => from_ipv6(ip),
        }
    }

    /// The words used in outputs, with an article.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "a private address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Cgnat => "a shared (CGNAT) address",
            Self::UniqueLocal => "a unique local address",
            Self::Multicast => "a multicast address",
            Self::Unspecified => "an unspecified address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "a documentation address",
            Self::Benchmarking => "a benchmarking address",
            Self::Reserved => "a reserved address",
            Self::SixToFour => "a 6to4 address",
            Self::Teredo => "a Teredo address",
            Self::Nat64 => "a NAT64 address",
        }
    }

    /// Whether such addresses belong to internal networks, and therefore are never disclosed to outside sources.
    pub fn is_internal(self) -> bool {
        match self {
            Self::Private
            | Self::Loopback
            | Self::LinkLocal
            | Self::Cgnat
            | Self::UniqueLocal
            | Self::Unspecified
            | Self::Broadcast => true,
            Self::Multicast
            | Self::Documentation
            | Self::Benchmarking
            | Self::Reserved
            | Self::SixToFour
            | Self::Teredo
            | Self::Nat64 => false,
        }
    }

    /// The special purpose by which an address is internal: its own, or that of the IPv4 address that it embeds.
    pub fn internal(ip: IpAddr) -> Option<Self> {
        let own = Self::from_ip(ip).filter(|special| special.is_internal());
        own.or_else(|| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) if is_local_nat64(ip) => Some(Self::Nat64),
            IpAddr::V6(ip) => embedded(ip).filter_map(from_ipv4).find(|special| special.is_internal()),
        })
    }
}

fn from_ipv4(ip: Ipv4Addr) -> Option<SpecialAddress> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => SpecialAddress::Unspecified,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => SpecialAddress::Private,
        (127, ..) => SpecialAddress::Loopback,
        (169, 254, _) => SpecialAddress::LinkLocal,
        (100, 64..=127, _) => SpecialAddress::Cgnat,
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => SpecialAddress::Documentation,
        (198, 18..=19, _) => SpecialAddress::Benchmarking,
        (192, 0, 0) => SpecialAddress::Reserved,
        (192, 88, 99) => SpecialAddress::SixToFour,
        (224..=239, ..) => SpecialAddress::Multicast,
        (255, 255, 255) if ip == Ipv4Addr::BROADCAST => SpecialAddress::Broadcast,
        (240..=255, ..) => SpecialAddress::Reserved,
        _ => return None,
    })
}

fn from_ipv6(ip: Ipv6Addr) -> Option<SpecialAddress> {
    Some(match ip.segments() {
        _ if ip.is_unspecified() => SpecialAddress::Unspecified,
        _ if ip.is_loopback() => SpecialAddress::Loopback,
        // IPv4-compatible, deprecated by RFC 4291.
        [0, 0, 0, 0, 0, 0, ..] => SpecialAddress::Reserved,
        [0xfe80..=0xfebf, ..] => SpecialAddress::LinkLocal,
        [0xfec0..=0xfeff, ..] => SpecialAddress::Private,
        [0xfc00..=0xfdff, ..] => SpecialAddress::UniqueLocal,
        [0xff00..=0xffff, ..] => SpecialAddress::Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => SpecialAddress::Documentation,
        [0x2001, 0x0002, 0, ..] => SpecialAddress::Benchmarking,
        [0x2001, 0, ..] => SpecialAddress::Teredo,
        [0x2001, 1..=0x01ff, ..] => SpecialAddress::Reserved,
        [0x2002, ..] => SpecialAddress::SixToFour,
        [0x0064, 0xff9b, 0, 0, 0, 0, ..] => SpecialAddress::Nat64,
        _ if is_local_nat64(ip) => SpecialAddress::Nat64,
        // Discard-only, dummy prefix, segment routing.
        [0x0100, 0, 0, 0..=1, ..] | [0x5f00, ..] => SpecialAddress::Reserved,
        _ => return None,
    })
}

/// Whether an address has the prefix for local-use translation (RFC 8215), which is internal whatever it embeds.
fn is_local_nat64(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0x0064, 0xff9b, 1, ..])
}

/// Every IPv4 address that an IPv6 address may embed.
fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = ip.to_bits();
    let embeddings = EMBEDDINGS.iter().filter(move |embedding| bits & embedding.mask == embedding.pattern);
    embeddings.filter_map(move |embedding| {
        let ipv4 = (embedding.ipv4)(bits) & u128::from(u32::MAX);
        u32::try_from(ipv4).ok().map(Ipv4Addr::from_bits)
    })
}

/// Every address that a host reveals: itself, the address that a reverse name spells (`1.2.0.192.in-addr.arpa`) or that a
/// name of a wildcard DNS service leads to (`192.0.2.1.nip.io`), and each IPv4 address that one of these embeds.
pub fn addresses(host: &Host) -> Vec<IpAddr> {
    let own = match host {
        Host::Ip(ip) => vec![*ip],
        Host::Name(name) => reversed(name).into_iter().chain(wildcard::addresses(name)).collect(),
    };
    let mut found = Vec::new();
    for ip in own {
        found.push(ip.to_canonical());
        if let IpAddr::V6(ip) = ip {
            found.extend(embedded(ip).map(IpAddr::V4));
        }
    }
    found
}

/// The address that a reverse name spells (RFC 1035, RFC 3596), ignoring labels before it (`_udp.1.2.0.192.in-addr.arpa`)
/// and between (RFC 2317); the first address of a network (`2.0.192.in-addr.arpa`).
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = labels.rsplit('.').filter_map(|label| label.parse::<u8>().ok()).take(4);
        let first = octets.next()?;
        let mut next = || octets.next().unwrap_or(0);
        return Some(Ipv4Addr::new(first, next(), next(), next()).into());
    }
    let digit = |label: &str| {
        Some(label).filter(|label| label.len() == 1).and_then(|digit| u128::from_str_radix(digit, 16).ok())
    };
    let nibbles: Vec<u128> = name.strip_suffix(".ip6.arpa")?.rsplit('.').map_while(digit).take(32).collect();
    let bits = nibbles.iter().zip((0..32).rev()).fold(0, |bits, (nibble, place)| bits | nibble << (4 * place));
    (!nibbles.is_empty()).then(|| Ipv6Addr::from_bits(bits).into())
}

/// Whether a name belongs to an internal network: a single label, or below a common internal suffix or one of `extra`.
pub fn is_internal_name(name: &str, extra: &[String]) -> bool {
    let is_below = |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    !name.contains('.')
        || INTERNAL_SUFFIXES.iter().any(|suffix| is_below(suffix))
        || extra.iter().any(|suffix| is_below(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<SpecialAddress> {
        SpecialAddress::from_ip(text.parse().unwrap())
    }

    #[test]
    fn every_special_range_has_its_name() {
        let table = [
            ("10.0.0.1", SpecialAddress::Private),
            ("172.31.255.255", SpecialAddress::Private),
            ("192.168.0.1", SpecialAddress::Private),
            ("127.0.0.1", SpecialAddress::Loopback),
            ("169.254.1.1", SpecialAddress::LinkLocal),
            ("100.64.0.1", SpecialAddress::Cgnat),
            ("0.0.0.0", SpecialAddress::Unspecified),
            ("255.255.255.255", SpecialAddress::Broadcast),
            ("224.0.0.1", SpecialAddress::Multicast),
            ("192.0.2.1", SpecialAddress::Documentation),
            ("198.18.0.1", SpecialAddress::Benchmarking),
            ("240.0.0.1", SpecialAddress::Reserved),
            ("::1", SpecialAddress::Loopback),
            ("::", SpecialAddress::Unspecified),
            ("fe80::1", SpecialAddress::LinkLocal),
            ("fd00::1", SpecialAddress::UniqueLocal),
            ("ff02::1", SpecialAddress::Multicast),
            ("2001:db8::1", SpecialAddress::Documentation),
            ("2001::1", SpecialAddress::Teredo),
            ("2002:a00:1::", SpecialAddress::SixToFour),
            ("64:ff9b::a00:1", SpecialAddress::Nat64),
            ("64:ff9b:1::a00:1", SpecialAddress::Nat64),
            ("::ffff:10.0.0.1", SpecialAddress::Private),
            ("fec0::1", SpecialAddress::Private),
            ("::192.0.2.1", SpecialAddress::Reserved),
            ("100::1", SpecialAddress::Reserved),
            ("2001:2::1", SpecialAddress::Benchmarking),
            ("3fff::1", SpecialAddress::Documentation),
        ];
        for (text, special) in table {
            assert_eq!(of(text), Some(special), "{text}");
        }
        for public in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b:2::1", "100:1::1"]
        {
            assert_eq!(of(public), None, "{public}");
        }
    }

    #[test]
    fn an_embedded_private_address_is_internal() {
        for text in [
            "2002:0a00:0001::",
            "64:ff9b::192.168.0.1",
            "::ffff:10.1.2.3",
            "2001:0:1:2:3:4:f5ff:fffe",
            "::10.0.0.1",
            "64:ff9b:1::808:808",
            "::ffff:0:10.0.0.1",
            "2001:0:a00:1::",
            "2606:4700::5efe:10.0.0.1",
            "2606:4700::200:5efe:10.0.0.1",
        ] {
            assert!(SpecialAddress::internal(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["64:ff9b::8.8.8.8", "2606:4700::5efe:8.8.8.8", "2606:4700::100:5efe:a00:1"] {
            assert_eq!(SpecialAddress::internal(text.parse().unwrap()), None, "{text}");
        }
        assert_eq!(SpecialAddress::internal("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn a_reverse_name_tells_of_its_address() {
        let of = |name: &str| addresses(&Host::Name(name.into()));
        assert_eq!(of("1.0.0.10.in-addr.arpa"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let name = format!("{}.ip6.arpa", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f");
        assert_eq!(of(&name), ["fd00::1".parse::<IpAddr>().unwrap()]);
        for text in ["lb._dns-sd._udp.1.0.0.10.in-addr.arpa", "01.0.0.10.in-addr.arpa", "1.0-25.0.0.10.in-addr.arpa"] {
            assert_eq!(of(text), ["10.0.0.1".parse::<IpAddr>().unwrap()], "{text}");
        }
        assert_eq!(of("0.10.in-addr.arpa"), ["10.0.0.0".parse::<IpAddr>().unwrap()]);
        assert_eq!(of("d.f.ip6.arpa"), ["fd00::".parse::<IpAddr>().unwrap()]);
        assert_eq!(of(&format!("_udp.{name}")), ["fd00::1".parse::<IpAddr>().unwrap()]);
        for other in ["x.in-addr.arpa", "in-addr.arpa", "x.ip6.arpa", "example.com"] {
            assert!(of(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn a_name_of_a_wildcard_dns_service_tells_of_its_address() {
        for (name, ip) in [
            ("192.168.1.1.nip.io", "192.168.1.1"),
            ("app.10.0.0.1.nip.io", "10.0.0.1"),
            ("192-168-1-1.sslip.io", "192.168.1.1"),
            ("www-192-168-1-1.xip.io", "192.168.1.1"),
            ("c0a80101.nip.io", "192.168.1.1"),
            ("app-0x0a000001.xip.name", "10.0.0.1"),
            ("c6336401.a9fea9fe.rbndr.us", "169.254.169.254"),
            ("--1.sslip.io", "::1"),
            ("www-fd00--1.sslip.io", "fd00::1"),
            ("10-0-0-1.my.local-ip.co", "10.0.0.1"),
            ("a.traefik.me", "127.0.0.1"),
            ("localtest.me", "127.0.0.1"),
            ("1.2.3.4.lvh.me", "127.0.0.1"),
        ] {
            assert!(addresses(&Host::Name(name.into())).contains(&ip.parse().unwrap()), "{name}");
        }
        let of = |name: &str| addresses(&Host::Name(name.into()));
        assert_eq!(of("8-8-8-8.traefik.me"), ["8.8.8.8".parse::<IpAddr>().unwrap()]);
        for other in ["nip.io", "www.nip.io", "10.0.0.1.notnip.io", "10-0-0-1.example.com", "256.0.0.1.nip.io"] {
            assert!(of(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn single_labels_and_internal_suffixes_are_internal_names() {
        let extra = ["example.internal-corp".to_owned()];
        for name in [
            "intranet",
            "wiki.corp",
            "a.home.arpa",
            "printer.local",
            "localhost.localdomain",
            "pop.mail",
            "db.private",
            "x.example.internal-corp",
        ] {
            assert!(is_internal_name(name, &extra), "{name}");
        }
        for name in ["example.com", "corp.example.com", "notlocal.net", "mylocal.org"] {
            assert!(!is_internal_name(name, &extra), "{name}");
        }
    }
}
