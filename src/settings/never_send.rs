//! The never-send list: domains with their subdomains, networks, URL prefixes and hashes that are never disclosed
//! outside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::error::Violation;
use crate::indicator::{Form, Host, Indicator, IndicatorType, addresses};

/// Rules for what is never disclosed outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeverSend {
    domains: BTreeSet<String>,
    networks: Vec<IpNet>,
    prefixes: Vec<Prefix>,
    hashes: BTreeSet<String>,
}

impl NeverSend {
    /// Reads rules: `example.com` (with subdomains), `203.0.113.0/24` or an address, `https://example.com/private/`,
    /// a file hash.
    ///
    /// # Errors
    /// Every rule that is none of these, with its place.
    pub fn parse(rules: &[String]) -> Result<Self, Vec<Violation>> {
        let mut list = Self::default();
        let mut violations = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            if let Err(message) = list.add(rule.trim()) {
                violations.push(Violation::invalid(format!("never_send[{place}]"), message));
            }
        }
        if violations.is_empty() { Ok(list) } else { Err(violations) }
    }

    fn add(&mut self, rule: &str) -> Result<(), String> {
        if let Ok(network) = rule.parse::<IpNet>() {
            self.networks.push(canonical(network));
            return Ok(());
        }
        let wrong = || {
            format!(
                "{rule:?} is no rule; write a domain (example.com), a network (203.0.113.0/24), a URL prefix \
                 (https://example.com/private/) or a file hash"
            )
        };
        // What looks like a network and is none must not be guessed to be an address with a path.
        if rule.contains('/') && !rule.contains("://") {
            return Err(wrong());
        }
        let plain = rule.strip_prefix("*.").or_else(|| rule.strip_prefix('.')).unwrap_or(rule);
        let parsed = if rule.contains("://") { Indicator::parse(rule) } else { parse_plain(plain) };
        let indicator = parsed.map_err(|_| wrong())?.indicator;
        match indicator.form() {
            Form::Ipv4 | Form::Ipv6 => self.networks.extend(indicator.ip().map(IpNet::from)),
            Form::Domain => {
                self.domains.insert(indicator.value().to_owned());
            }
            Form::Url => {
                let place =
                    place_of(indicator.value(), Dots::Resolved).ok_or_else(|| format!("{rule:?} has no host"))?;
                let rule = indicator.value().to_owned();
                let folder = place.query.is_none() && rule.ends_with('/');
                self.prefixes.push(Prefix { place, folder, rule });
            }
            Form::Md5 | Form::Sha1 | Form::Sha256 => {
                self.hashes.insert(indicator.value().to_owned());
            }
        }
        Ok(())
    }

    /// The rule that names this indicator or its host, if one does.
    pub fn names(&self, indicator: &Indicator) -> Option<String> {
        if self.hashes.contains(indicator.value()) {
            return Some(indicator.value().to_owned());
        }
        if indicator.form() == Form::Url
            && let Some(rule) = self.prefix_of(indicator.value())
        {
            return Some(rule);
        }
        let host = indicator.host()?;
        let by_address = addresses(&host).into_iter().find_map(|ip| self.network_of(ip));
        by_address.or_else(|| match &host {
            Host::Ip(_) => None,
            Host::Name(name) => self.domain_of(name),
        })
    }

    /// Servers differ in whether an encoded slash parts a path: the URL is named if either reading is.
    fn prefix_of(&self, url: &str) -> Option<String> {
        let places = [place_of(url, Dots::Resolved), place_of(url, Dots::Kept)];
        let named = |prefix: &Prefix| places.iter().flatten().any(|place| prefix.holds(place));
        self.prefixes.iter().find(|prefix| named(prefix)).map(|prefix| prefix.rule.clone())
    }

    fn network_of(&self, ip: IpAddr) -> Option<String> {
        self.networks.iter().find(|network| network.contains(&ip)).map(ToString::to_string)
    }

    /// The domain itself, or the nearest one above it.
    fn domain_of(&self, name: &str) -> Option<String> {
        let mut rest = name;
        loop {
            if self.domains.contains(rest) {
                return Some(rest.to_owned());
            }
            rest = rest.split_once('.')?.1;
        }
    }

    /// The rules as they are in effect, for the printed configuration.
    pub fn rules(&self) -> Vec<String> {
        let networks = self.networks.iter().map(ToString::to_string);
        self.domains
            .iter()
            .cloned()
            .chain(networks)
            .chain(self.prefixes.iter().map(|prefix| prefix.rule.clone()))
            .chain(self.hashes.clone())
            .collect()
    }
}

/// A network as addresses are looked for in it: an IPv4-mapped one is the IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    let network = network.trunc();
    let mapped = network.prefix_len().checked_sub(96).filter(|_| matches!(network, IpNet::V6(_)));
    let ip = Some(network.addr().to_canonical()).filter(IpAddr::is_ipv4);
    ip.zip(mapped).and_then(|(ip, length)| IpNet::new(ip, length).ok()).unwrap_or(network)
}

/// A rule that names URLs by how they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefix {
    place: Place,
    /// Whether it ends with a slash, and so names what is below it, not what only begins like it.
    folder: bool,
    /// The rule as it was written.
    rule: String,
}

impl Prefix {
    fn holds(&self, place: &Place) -> bool {
        let Some(rest) = place.path.strip_prefix(self.place.path.as_str()) else { return false };
        match &self.place.query {
            None if self.folder => rest.is_empty() || rest.starts_with('/') || self.place.path.ends_with('/'),
            None => true,
            Some(begin) => {
                rest.is_empty() && place.query.as_ref().is_some_and(|query| query.starts_with(begin.as_str()))
            }
        }
    }
}

/// Where a URL leads: host, port and path, and the query.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: String,
    query: Option<String>,
}

/// What becomes of the segments `.` and `..` that appear when a path is decoded.
#[derive(Clone, Copy, PartialEq)]
enum Dots {
    Resolved,
    Kept,
}

/// Where a URL leads, so that spellings which a server takes for the same are the same: host and port without the scheme,
/// the path decoded, slashes in a row as one, none at its end.
fn place_of(url: &str, dots: Dots) -> Option<Place> {
    let url = Url::parse(url).ok()?;
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match part {
            "." if dots == Dots::Resolved => {}
            ".." if dots == Dots::Resolved => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    // The usual port of either scheme, since the scheme does not count.
    let port = url.port().filter(|port| !matches!(port, 80 | 443)).map(|port| format!(":{port}")).unwrap_or_default();
    let path = format!("{}{port}/{}", url.host_str()?, parts.join("/"));
    Some(Place { path, query: url.query().map(str::to_owned) })
}

/// A rule without a scheme: a name is a domain even where its suffix is nobody's.
fn parse_plain(rule: &str) -> Result<crate::indicator::Parsed, crate::indicator::Refusal> {
    Indicator::parse(rule).or_else(|refusal| Indicator::parse_as(rule, IndicatorType::Domain).map_err(|_| refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rules: &[&str]) -> NeverSend {
        NeverSend::parse(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn names(list: &NeverSend, text: &str) -> Option<String> {
        list.names(&Indicator::parse(text).unwrap().indicator)
    }

    #[test]
    fn a_domain_covers_its_subdomains_and_the_urls_on_them() {
        let list = list(&["example.com"]);
        assert_eq!(names(&list, "example.com"), Some("example.com".into()));
        assert_eq!(names(&list, "a.b.example.com"), Some("example.com".into()));
        assert_eq!(names(&list, "https://www.example.com/x"), Some("example.com".into()));
        assert_eq!(names(&list, "notexample.com"), None);
    }

    #[test]
    fn a_network_covers_addresses_and_the_urls_on_them() {
        let list = list(&["203.0.113.0/24", "2001:db8::/32"]);
        assert_eq!(names(&list, "203.0.113.9"), Some("203.0.113.0/24".into()));
        assert_eq!(names(&list, "http://203.0.113.9/a"), Some("203.0.113.0/24".into()));
        assert_eq!(names(&list, "2001:db8::1"), Some("2001:db8::/32".into()));
        assert_eq!(names(&list, "198.51.100.1"), None);
        for carries in ["64:ff9b::203.0.113.9", "2002:cb00:7109::1", "9.113.0.203.in-addr.arpa"] {
            assert_eq!(names(&list, carries), Some("203.0.113.0/24".into()), "{carries}");
        }
    }

    #[test]
    fn the_usual_port_of_either_scheme_does_not_hide_a_url() {
        let rules = list(&["https://example.org/private/"]);
        for text in
            ["http://example.org:443/private/a", "https://example.org:80/private/a", "http://example.org/private/"]
        {
            assert!(names(&rules, text).is_some(), "{text}");
        }
        assert!(names(&rules, "http://example.org:8080/private/a").is_none());
    }

    #[test]
    fn a_rule_that_ends_with_a_slash_names_what_is_below_it_and_no_namesakes() {
        let rules = list(&["https://example.org/private/", "https://example.net/a", "https://example.com/q?id=1"]);
        for text in [
            "https://example.org/private",
            "https://example.org/private?x=1",
            "https://example.org/private/a/b",
            "https://example.net/abc",
            "https://example.com/q?id=12",
        ] {
            assert!(names(&rules, text).is_some(), "{text}");
        }
        for text in ["https://example.org/privatex", "https://example.com/q", "https://example.com/q?id=2"] {
            assert!(names(&rules, text).is_none(), "{text}");
        }
        assert!(names(&list(&["https://example.org/"]), "https://example.org/x").is_some());
    }

    #[test]
    fn an_encoded_slash_hides_no_url_whichever_way_a_server_reads_it() {
        let rules = list(&["https://example.org/private/"]);
        for text in [
            "https://example.org/x/%2e%2e%2fprivate/plan",
            "https://example.org/private%2fplan",
            "https://example.org/private/%2e%2e%2fplan",
            "https://example.org/.%2fprivate/",
        ] {
            assert!(names(&rules, text).is_some(), "{text}");
        }
        assert!(names(&rules, "https://example.org/x/%2e%2e%2fpublic").is_none());
    }

    #[test]
    fn an_ipv4_mapped_network_is_the_ipv4_network() {
        let rules = list(&["::ffff:203.0.113.0/120", "::ffff:198.51.100.7"]);
        assert!(names(&rules, "203.0.113.9").is_some() && names(&rules, "198.51.100.7").is_some());
        assert!(names(&rules, "203.0.114.9").is_none());
        assert!(names(&list(&["::ffff:0:0/96"]), "192.0.2.1").is_some());
        assert!(names(&list(&["2001:db8::/32"]), "http://[2001:db8::1]/").is_some());
    }

    #[test]
    fn nothing_before_or_between_hides_the_address_in_a_reverse_name() {
        let rules = list(&["203.0.113.0/24"]);
        for text in [
            "http://x.9.113.0.203.in-addr.arpa/",
            "http://09.113.0.203.in-addr.arpa/",
            "http://9.0-25.113.0.203.in-addr.arpa/",
            "http://113.0.203.in-addr.arpa/",
        ] {
            assert!(names(&rules, text).is_some(), "{text}");
        }
        assert!(names(&rules, "http://9.114.0.203.in-addr.arpa/").is_none());
    }

    #[test]
    fn a_reverse_name_tells_the_address_that_it_maps() {
        let rules = list(&["203.0.113.0/24"]);
        let zeros = "0.".repeat(20);
        let name = format!("5.0.1.7.0.0.b.c.f.f.f.f.{zeros}ip6.arpa");
        assert!(rules.names(&Indicator::parse_as(&name, IndicatorType::Domain).unwrap().indicator).is_some());
    }

    #[test]
    fn url_prefixes_and_hashes_are_rules_too() {
        let hash = "d41d8cd98f00b204e9800998ecf8427e";
        let list = list(&["https://example.org/private/", hash]);
        assert!(names(&list, "https://example.org/private/plan").is_some());
        assert!(names(&list, "https://example.org/public").is_none());
        // Other spellings of the same place.
        for same in
            ["http://example.org/private/plan", "https://example.org//private", "https://example.org/%70rivate/x"]
        {
            assert!(names(&list, same).is_some(), "{same}");
        }
        assert_eq!(names(&list, hash), Some(hash.into()));
    }

    #[test]
    fn every_wrong_rule_is_named_by_its_place() {
        let wrong = NeverSend::parse(&["example.com".into(), "???".into(), "1.2.3".into()]).unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["never_send[1]", "never_send[2]"]);
    }
}
