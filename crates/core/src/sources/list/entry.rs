//! One entry of a list: an indicator, a name with its subdomains, a network or a range, as people write them.
//! Everything but networks, ranges and leading dots is the work of `indicator`, which refangs and refuses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::finding::SourceError;
use crate::indicator::{Form, Indicator, IndicatorType, Refusal};
use crate::source::ListIndexBuilder;

/// How entries are understood.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// What an entry may be, guessed for each where there are several; none: anything.
    pub(super) types: Vec<IndicatorType>,
    /// Whether a name covers its subdomains.
    pub(super) subdomains: bool,
    /// Whether the list says that its entries are names, so that a public suffix is meant as it stands.
    pub(super) any_name: bool,
}

impl Rules {
    fn take(&self, wanted: IndicatorType) -> bool {
        self.types.is_empty() || self.types.contains(&wanted)
    }
}

/// Why an entry is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    /// The reason, in a sentence without the entry's place.
    pub(super) why: String,
    /// Whether it is well written but of a sort that is not looked up.
    pub(super) unsupported: bool,
}

impl Skipped {
    /// An entry that cannot be read.
    pub(super) fn unreadable(why: impl Into<String>) -> Self {
        Self { why: why.into(), unsupported: false }
    }

    /// An entry of a sort that is not looked up.
    pub(super) fn unsupported(why: impl Into<String>) -> Self {
        Self { why: why.into(), unsupported: true }
    }
}

impl From<Refusal> for Skipped {
    fn from(refusal: Refusal) -> Self {
        Self { why: refusal.message, unsupported: refusal.unsupported }
    }
}

/// An entry that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// This indicator alone.
    Value(Indicator),
    /// This name and all below it.
    Name(String),
    /// All addresses of this network.
    Network(IpNet),
    /// All addresses from the first to the last.
    Range(IpAddr, IpAddr),
}

impl Entry {
    /// Reads one entry; the text is not empty.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn read(text: &str, rules: &Rules) -> Result<Self, Skipped> {
        let text = text.trim();
        if rules.take(IndicatorType::Ip) {
            if let Some(network) = network(text)? {
                return Ok(Self::Network(network));
            }
            if let Some((first, last)) = text.split_once('-')
                && let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse())
            {
                return Self::range(first, last);
            }
        }
        if rules.take(IndicatorType::Domain)
            && let Some(below) = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'))
        {
            return suffix(below).map(Self::Name);
        }
        if text.starts_with('/') {
            return Err(Skipped::unsupported(format!("\"{text}\" is a path without a host, which is not looked up")));
        }
        let indicator = match rules.types.as_slice() {
            [only] if !rules.any_name => Indicator::parse_as(text, *only)?.indicator,
            _ if rules.any_name && rules.take(IndicatorType::Domain) => name_or_other(text, rules)?,
            _ => guess(text, rules)?,
        };
        if rules.subdomains && indicator.form() == Form::Domain {
            return Ok(Self::Name(indicator.value().to_owned()));
        }
        Ok(Self::Value(indicator))
    }

    /// The addresses from the first to the last.
    ///
    /// # Errors
    /// When the last is before the first or of another family, or all addresses are between them.
    pub(super) fn range(first: IpAddr, last: IpAddr) -> Result<Self, Skipped> {
        if first.is_ipv4() != last.is_ipv4() || last < first {
            return Err(Skipped::unreadable(format!("{first}-{last} is no range of addresses")));
        }
        match networks(first, last).iter().any(|network| network.prefix_len() == 0) {
            true => Err(Skipped::unreadable(format!("{first}-{last} would name every address"))),
            false => Ok(Self::Range(first, last)),
        }
    }

    /// Reads the two of a name and its address, `name|address`; none if it is no such pair, or neither is wanted.
    pub(super) fn read_pair(text: &str, rules: &Rules) -> Vec<Self> {
        match text.split_once('|') {
            Some((name, address)) if address.trim().parse::<IpAddr>().is_ok() => {
                [name, address].into_iter().filter_map(|part| Self::read(part, rules).ok()).collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Puts it into the index.
    ///
    /// # Errors
    /// When the index is full.
    pub(super) fn add(&self, builder: &mut ListIndexBuilder, note: &str) -> Result<(), SourceError> {
        match self {
            Self::Value(indicator) => builder.value(indicator, note),
            Self::Name(name) => builder.name(name, note),
            Self::Network(network) => builder.network(*network, note),
            Self::Range(first, last) => {
                let range = format!("{first}-{last}");
                let note = if note.is_empty() { &range } else { note };
                networks(*first, *last).into_iter().try_for_each(|network| builder.network(network, note))
            }
        }
    }
}

/// The indicator that the text is guessed to be, if such are wanted.
fn guess(text: &str, rules: &Rules) -> Result<Indicator, Skipped> {
    let indicator = Indicator::parse(text)?.indicator;
    if rules.take(indicator.indicator_type()) {
        return Ok(indicator);
    }
    let (shown, is) = (indicator.redacted(), indicator.indicator_type().as_str());
    Err(Skipped::unreadable(format!("\"{shown}\" is of type {is}, and such are not what this list is for")))
}

/// An indicator of a list that is for names beside others: a name, whatever public suffix it has or is, else a guess.
fn name_or_other(text: &str, rules: &Rules) -> Result<Indicator, Skipped> {
    if let Ok(name) = Indicator::parse_as(text, IndicatorType::Domain) {
        return Ok(name.indicator);
    }
    guess(text, rules).or_else(|skipped| match suffix(text) {
        Ok(label) if !text.contains('.') => Ok(Indicator::from_stored(Form::Domain, &label)),
        Ok(_) | Err(_) => Err(skipped),
    })
}

/// A suffix in normal form, which may be a single label such as `zip`.
fn suffix(text: &str) -> Result<String, Skipped> {
    // A label in front makes a name of any suffix, so that one parser decides how names are written.
    let name = Indicator::parse_as(&format!("a.{text}"), IndicatorType::Domain)?.indicator;
    match name.value().strip_prefix("a.") {
        Some(suffix) => Ok(suffix.to_owned()),
        None => Err(Skipped::unreadable(format!("\"{text}\" is no domain name"))),
    }
}

/// The fewest networks that together are the addresses of a range.
fn networks(first: IpAddr, last: IpAddr) -> Vec<IpNet> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

/// The network that the text names; `None` if it is something else, such as an address or a URL.
fn network(text: &str) -> Result<Option<IpNet>, Skipped> {
    let Some((address, digits)) = text.rsplit_once('/') else { return Ok(None) };
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let Some(ip) = Some(address).filter(|_| is_number && !has_port(address)).and_then(address_of) else {
        return Ok(None);
    };
    let too_long = || Skipped::unreadable(format!("a prefix of {digits} bits is longer than any address"));
    let length: u8 = digits.parse().map_err(|_| too_long())?;
    // An IPv4-mapped network is the IPv4 network, as an IPv4-mapped address is the IPv4 address.
    let mapped = address.contains(':') && ip.is_ipv4();
    let length = if mapped { length.checked_sub(96) } else { Some(length) };
    let network = length.and_then(|length| IpNet::new(ip, length).ok());
    let no_prefix = || Skipped::unreadable(format!("/{digits} is no prefix of an address such as {ip}"));
    let network = network.ok_or_else(no_prefix)?;
    if network.prefix_len() == 0 {
        return Err(Skipped::unreadable(format!("{network} would name every address")));
    }
    Ok(Some(network.trunc()))
}

fn address_of(text: &str) -> Option<IpAddr> {
    let defanged = || Indicator::parse_as(text, IndicatorType::Ip).ok()?.indicator.ip();
    text.parse().map(|ip: IpAddr| ip.to_canonical()).ok().or_else(defanged)
}

/// `192.0.2.1:80/24` is the beginning of a URL, not a network.
fn has_port(address: &str) -> bool {
    address.matches(':').count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(subdomains: bool) -> Rules {
        Rules { types: Vec::new(), subdomains, any_name: false }
    }

    fn read(text: &str) -> Result<Entry, String> {
        Entry::read(text, &rules(true)).map_err(|skipped| skipped.why)
    }

    fn network_of(text: &str) -> Result<String, String> {
        match read(text)? {
            Entry::Network(network) => Ok(network.to_string()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_network_is_read_with_bits_behind_its_prefix_cleared() {
        assert_eq!(network_of("198.51.100.77/24"), Ok("198.51.100.0/24".into()));
        assert_eq!(network_of("2001:DB8::1/32"), Ok("2001:db8::/32".into()));
    }

    #[test]
    fn a_prefix_that_no_address_has_or_that_names_everything_is_refused() {
        assert!(network_of("192.0.2.0/33").is_err_and(|why| why.contains("/33")));
        assert!(network_of("192.0.2.0/999").is_err_and(|why| why.contains("999")));
        assert!(network_of("0.0.0.0/0").is_err_and(|why| why.contains("every address")));
        assert!(network_of("::/0").is_err_and(|why| why.contains("every address")));
    }

    #[test]
    fn a_range_is_read_unless_it_runs_backwards_or_names_everything() {
        let range = |first: &str, last: &str| Ok(Entry::Range(first.parse().unwrap(), last.parse().unwrap()));
        assert_eq!(read("192.0.2.3 - 192.0.2.9"), range("192.0.2.3", "192.0.2.9"));
        assert_eq!(read("2001:db8::1-2001:db8::9"), range("2001:db8::1", "2001:db8::9"));
        for bad in ["192.0.2.9-192.0.2.3", "192.0.2.1-2001:db8::1", "0.0.0.0-255.255.255.255"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_leading_dot_or_star_stands_for_all_names_below() {
        let strict = |text| Entry::read(text, &rules(false));
        assert_eq!(strict("*.example.com"), Ok(Entry::Name("example.com".into())));
        assert_eq!(strict(".example.com"), Ok(Entry::Name("example.com".into())));
        assert_eq!(strict(".test"), Ok(Entry::Name("test".into())));
    }

    #[test]
    fn a_name_stands_for_itself_alone_where_subdomains_are_off() {
        assert_eq!(read("example.com"), Ok(Entry::Name("example.com".into())));
        let strict = Entry::read("example.com", &rules(false));
        assert!(matches!(strict, Ok(Entry::Value(indicator)) if indicator.value() == "example.com"));
    }
}
