//! Which addresses may be reached: link-local and cloud metadata never; one set over the API only if public, by https, or
//! in a network that the configuration allows. `settings` judges what is written, `fetch` what a name resolves to.

use std::net::IpAddr;
use std::net::SocketAddr;

use ipnet::IpNet;
use url::Host;
use url::Url;

use crate::indicator::Special;

/// Names under which clouds serve their metadata.
const METADATA_NAMES: [&str; 2] = ["metadata.google.internal", "metadata.goog"];
/// Addresses under which clouds serve their metadata, beside the link-local ones.
const METADATA_ADDRESSES: [&str; 3] = ["100.100.100.200", "fd00:ec2::254", "168.63.129.16"];

/// The rules for one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// Whether an address of the source was set over the API: the strict rules hold.
    pub from_api: bool,
    /// Networks that may be reached although they are not public.
    pub allowed_networks: Vec<IpNet>,
}

impl EgressRules {
    /// Whether an address may be reached, as far as its text tells: what its name resolves to is judged later.
    ///
    /// # Errors
    /// The reason and the way out.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(name)) => {
                self.check_name(name)?;
                None
            }
            None => return Err("has no host".into()),
        };
        if let Some(ip) = ip {
            self.check_ip(ip)?;
        }
        let allowed = ip.is_some_and(|ip| self.allows(ip));
        if self.from_api && url.scheme() != "https" && !allowed {
            return Err(
                "set over the API it must be https; the configuration can allow a network (allowed_networks)".into()
            );
        }
        Ok(())
    }

    /// Whether a name may be asked at all.
    ///
    /// # Errors
    /// The reason.
    pub fn check_name(&self, name: &str) -> Result<(), String> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if METADATA_NAMES.contains(&name.as_str()) {
            return Err(format!("{name} is a cloud's metadata service: never reached"));
        }
        Ok(())
    }

    /// Whether this address may be reached, as it was written or resolved.
    ///
    /// # Errors
    /// The reason and the way out.
    pub fn check_ip(&self, ip: IpAddr) -> Result<(), String> {
        let ip = ip.to_canonical();
        let metadata = METADATA_ADDRESSES.iter().any(|text| text.parse() == Ok(ip));
        if metadata || Special::of(ip) == Some(Special::LinkLocal) {
            return Err(format!("{ip} is a link-local or cloud metadata address: never reached"));
        }
        match Special::of(ip) {
            Some(special) if self.from_api && !self.allows(ip) => Err(format!(
                "{ip} is {}: over the API only public addresses may be set, unless the configuration allows the network \
                 (allowed_networks)",
                special.as_str()
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a DNS resolver, `address` or `address:port`, may be asked.
    ///
    /// # Errors
    /// The reason and the way out.
    pub fn check_resolver(&self, text: &str) -> Result<(), String> {
        let ip = text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse::<IpAddr>());
        let ip = ip.map_err(|_| format!("{text:?} is no resolver; write its address, or address:port"))?;
        self.check_ip(ip)
    }

    fn allows(&self, ip: IpAddr) -> bool {
        self.allowed_networks.iter().any(|network| network.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(from_api: bool, allowed: &[&str]) -> EgressRules {
        EgressRules { from_api, allowed_networks: allowed.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn metadata_and_link_local_addresses_are_never_reached() {
        for text in [
            "http://169.254.169.254/",
            "http://[fe80::1]/",
            "http://100.100.100.200/",
            "http://metadata.google.internal/",
        ] {
            assert!(rules(false, &["0.0.0.0/0", "::/0"]).check_url(&url(text)).is_err(), "{text}");
        }
        assert!(rules(false, &[]).check_ip("::ffff:169.254.169.254".parse().unwrap()).is_err());
    }

    #[test]
    fn an_address_from_the_file_may_be_private_and_plain() {
        assert_eq!(rules(false, &[]).check_url(&url("http://10.0.0.1:8080/")), Ok(()));
    }

    #[test]
    fn an_address_over_the_api_must_be_https_and_public_unless_its_network_is_allowed() {
        let strict = rules(true, &[]);
        assert!(strict.check_url(&url("http://vt.example.com/")).is_err());
        assert!(strict.check_url(&url("https://10.0.0.1/")).is_err());
        assert!(strict.check_url(&url("https://127.0.0.1/")).is_err());
        assert_eq!(strict.check_url(&url("https://vt.example.com/")), Ok(()));
        assert_eq!(rules(true, &["10.0.0.0/8"]).check_url(&url("http://10.0.0.1/")), Ok(()));
    }

    #[test]
    fn a_resolver_is_an_address_with_or_without_a_port() {
        assert_eq!(rules(false, &[]).check_resolver("127.0.0.1:5353"), Ok(()));
        assert_eq!(rules(true, &[]).check_resolver("9.9.9.9"), Ok(()));
        assert!(rules(true, &[]).check_resolver("127.0.0.1").is_err());
        assert!(rules(false, &[]).check_resolver("resolver.example.com").unwrap_err().contains("write its address"));
    }
}
