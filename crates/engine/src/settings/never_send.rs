//! The never-send list: domains with their subdomains, networks, URL prefixes and hashes that are never disclosed
//! outside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::url_rule::{self, UrlRule};
use crate::error::Violation;
use crate::indicator::{Form, Host, Indicator, IndicatorType, Parsed, Refusal, addresses};

/// Rules for what is never disclosed outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeverSend {
    domains: BTreeSet<String>,
    networks: Vec<IpNet>,
    urls: Vec<UrlRule>,
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
            match network.prefix_len() == network.max_prefix_len() {
                true => self.add_address(network.addr()),
                false => self.networks.push(canonical(network)),
            }
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
            Form::Ipv4 | Form::Ipv6 => indicator.ip().into_iter().for_each(|ip| self.add_address(ip)),
            Form::Domain => {
                self.domains.insert(indicator.value().to_owned());
            }
            Form::Url => {
                let rule = UrlRule::new(&indicator).ok_or_else(|| format!("{rule:?} has no host"))?;
                self.urls.push(rule);
            }
            Form::Md5 | Form::Sha1 | Form::Sha256 => {
                self.hashes.insert(indicator.value().to_owned());
            }
        }
        Ok(())
    }

    /// A single rule in normal form: every spelling of it has the same.
    ///
    /// # Errors
    /// What is wrong with the rule.
    pub fn normal_form(rule: &str) -> Result<String, String> {
        let mut list = Self::default();
        list.add(rule.trim())?;
        // An address stands before those that it embeds.
        list.rules().into_iter().next().ok_or_else(|| format!("{rule:?} is no rule"))
    }

    /// Adds the rules of another list.
    pub(super) fn extend(&mut self, other: &Self) {
        self.domains.extend(other.domains.iter().cloned());
        self.networks.extend(&other.networks);
        self.urls.extend(other.urls.iter().cloned());
        self.hashes.extend(other.hashes.iter().cloned());
    }

    /// An IPv4 address that the address embeds is the same place.
    fn add_address(&mut self, ip: IpAddr) {
        self.networks.extend(addresses(&Host::Ip(ip)).into_iter().map(IpNet::from));
    }

    /// The rule that names this indicator or its host, if one does, whatever the spelling of either.
    pub fn names(&self, indicator: &Indicator) -> Option<String> {
        if self.hashes.contains(indicator.value()) {
            return Some(indicator.value().to_owned());
        }
        if let Some(rule) = indicator.url_parts().and_then(|url| url_rule::find(&self.urls, &url)) {
            return Some(rule.text().to_owned());
        }
        let host = indicator.host()?;
        let by_address = addresses(&host).into_iter().find_map(|ip| self.network_of(ip));
        by_address.or_else(|| match &host {
            Host::Ip(_) => None,
            Host::Name(name) => self.domain_of(name),
        })
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
            .chain(self.urls.iter().map(|rule| rule.text().to_owned()))
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

/// A rule without a scheme: a name is a domain even where its suffix is nobody's.
fn parse_plain(rule: &str) -> Result<Parsed, Refusal> {
    Indicator::parse(rule).or_else(|refusal| Indicator::parse_as(rule, IndicatorType::Domain).map_err(|_| refusal))
}
