//! One entry of a list: an indicator, a name with its subdomains, or a network, as people write them.
//! Everything but networks and leading dots is the work of `indicator`, which refangs and refuses.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::finding::SourceError;
use crate::indicator::{Form, Indicator, IndicatorType};
use crate::source::ListIndexBuilder;

/// How entries are understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// What every entry is; `None`: guessed for each.
    pub(super) wanted: Option<IndicatorType>,
    /// Whether a name covers its subdomains.
    pub(super) subdomains: bool,
}

impl Rules {
    fn take(self, wanted: IndicatorType) -> bool {
        self.wanted.is_none_or(|only| only == wanted)
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
}

impl Entry {
    /// Reads one entry; the text is not empty.
    ///
    /// # Errors
    /// Why it is none, in a sentence without its place.
    pub(super) fn read(text: &str, rules: Rules) -> Result<Self, String> {
        let text = text.trim();
        if rules.take(IndicatorType::Ip)
            && let Some(network) = network(text)?
        {
            return Ok(Self::Network(network));
        }
        if rules.take(IndicatorType::Domain)
            && let Some(below) = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'))
        {
            return suffix(below);
        }
        let parsed = match rules.wanted {
            Some(wanted) => Indicator::parse_as(text, wanted),
            None => Indicator::parse(text),
        };
        let indicator = parsed.map_err(|refusal| refusal.message)?.indicator;
        if rules.subdomains && indicator.form() == Form::Domain {
            return Ok(Self::Name(indicator.value().to_owned()));
        }
        Ok(Self::Value(indicator))
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
        }
    }
}

/// Everything below this suffix, which may be a single label such as `zip`.
fn suffix(below: &str) -> Result<Entry, String> {
    // A label in front makes a name of any suffix, so that one parser decides how names are written.
    let parsed = Indicator::parse_as(&format!("a.{below}"), IndicatorType::Domain);
    let name = parsed.map_err(|refusal| refusal.message)?.indicator;
    match name.value().strip_prefix("a.") {
        Some(suffix) => Ok(Entry::Name(suffix.to_owned())),
        None => Err(format!("\"{below}\" is no domain name")),
    }
}

/// The network that the text names; `None` if it is something else, such as an address or a URL.
fn network(text: &str) -> Result<Option<IpNet>, String> {
    let Some((address, digits)) = text.rsplit_once('/') else { return Ok(None) };
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let Some(ip) = Some(address).filter(|_| is_number && !has_port(address)).and_then(address_of) else {
        return Ok(None);
    };
    let length: u8 = digits.parse().map_err(|_| format!("a prefix of {digits} bits is longer than any address"))?;
    // An IPv4-mapped network is the IPv4 network, as an IPv4-mapped address is the IPv4 address.
    let mapped = address.contains(':') && ip.is_ipv4();
    let length = if mapped { length.checked_sub(96) } else { Some(length) };
    let network = length.and_then(|length| IpNet::new(ip, length).ok());
    let network = network.ok_or_else(|| format!("/{digits} is no prefix of an address such as {ip}"))?;
    if network.prefix_len() == 0 {
        return Err(format!("{network} would name every address"));
    }
    Ok(Some(network.trunc()))
}

fn address_of(text: &str) -> Option<IpAddr> {
    Indicator::parse_as(text, IndicatorType::Ip).ok()?.indicator.ip()
}

/// `192.0.2.1:80/24` is the beginning of a URL, not a network.
fn has_port(address: &str) -> bool {
    address.matches(':').count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Rules = Rules { wanted: None, subdomains: true };

    fn network_of(text: &str) -> Result<String, String> {
        match Entry::read(text, ANY)? {
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
    fn a_leading_dot_or_star_stands_for_all_names_below() {
        let strict = Rules { subdomains: false, ..ANY };
        assert_eq!(Entry::read("*.example.com", strict), Ok(Entry::Name("example.com".into())));
        assert_eq!(Entry::read(".example.com", strict), Ok(Entry::Name("example.com".into())));
        assert_eq!(Entry::read(".test", strict), Ok(Entry::Name("test".into())));
    }

    #[test]
    fn a_name_stands_for_itself_alone_where_subdomains_are_off() {
        let read = |subdomains| Entry::read("example.com", Rules { wanted: None, subdomains });
        assert_eq!(read(true), Ok(Entry::Name("example.com".into())));
        assert!(matches!(read(false), Ok(Entry::Value(indicator)) if indicator.value() == "example.com"));
    }
}
