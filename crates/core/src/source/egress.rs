//! Which addresses may be reached: link-local and cloud metadata never; one set over the API only if public, by https, or
//! in a network that the configuration allows. And which files may be read: one named over the API only under a folder of
//! the configuration. `settings` judges what is written, `fetch` what a name or link leads to when it is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use url::{Host, Url};

use super::{EnvironmentProxies, Proxy, ProxyServer};
use crate::indicator::SpecialAddress;

/// Names under which clouds serve their metadata.
const METADATA_NAMES: [&str; 2] = ["metadata.google.internal", "metadata.goog"];
/// Addresses under which clouds serve their metadata, beside the link-local ones.
const METADATA_ADDRESSES: [&str; 5] =
    ["100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"];

/// The rules for one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// Whether an address or file of the source was set over the API: the strict rules hold.
    pub from_api: bool,
    /// Whether the proxy was set over the API: the strict rules hold for it. The one may be declared and the other not.
    pub proxy_from_api: bool,
    /// Whether the address is one that a feed redirects to: nobody chose it, so it must be public or in an allowed network.
    pub redirected: bool,
    /// Networks that may be reached although they are not public.
    pub allowed_networks: Vec<IpNet>,
    /// Folders under which a file may be read that was named over the API, as they are written.
    pub list_folders: Vec<PathBuf>,
    /// The proxies of the environment, for sources that are to use them.
    pub proxies: Arc<EnvironmentProxies>,
}

impl EgressRules {
    /// The rules for the proxy alone.
    #[must_use]
    pub fn for_proxy(&self) -> Self {
        Self { from_api: self.proxy_from_api, redirected: false, ..self.clone() }
    }

    /// Whether an address may be reached, as far as its text tells: what its name resolves to is judged later.
    ///
    /// # Errors
    /// The reason and the way out.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        // The parser does not read the host of an address of SOCKS.
        let ip = match url.host_str().map(Host::parse) {
            Some(Ok(Host::Ipv4(ip))) => Some(IpAddr::V4(ip)),
            Some(Ok(Host::Ipv6(ip))) => Some(IpAddr::V6(ip)),
            Some(Ok(Host::Domain(name))) => {
                self.check_name(&name)?;
                None
            }
            Some(Err(_)) | None => return Err("has no host".into()),
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

    /// Whether a proxy may be used, as far as its text tells. One that the environment names is the operator's, whoever
    /// chose the environment.
    ///
    /// # Errors
    /// The reason and the way out.
    pub fn check_proxy(&self, proxy: &Proxy) -> Result<(), String> {
        match proxy {
            Proxy::Server(server) => self.for_proxy().check_url(&server.address()),
            Proxy::Environment => {
                let rules = Self { from_api: false, ..self.clone() };
                let refused = |server: &ProxyServer| rules.check_url(&server.address()).err();
                let mistake = self.proxies.mistake.clone();
                mistake.or_else(|| self.proxies.servers().find_map(refused)).map_or(Ok(()), Err)
            }
        }
    }

    /// Whether a name may be asked at all.
    ///
    /// # Errors
    /// The reason.
    pub fn check_name(&self, name: &str) -> Result<(), String> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        // Resolvers answer these names with a loopback address (RFC 6761); rejected here, before a quota unit is spent.
        let loopback = name == "localhost" || name.ends_with(".localhost");
        if loopback && !self.allows(IpAddr::V4(Ipv4Addr::LOCALHOST)) && self.is_strict() {
            return Err(self.not_public(&name, "this machine"));
        }
        if METADATA_NAMES.contains(&name.as_str()) {
            return Err(format!("{name} is a cloud's metadata service: never reached"));
        }
        Ok(())
    }

    /// Whether this address may be reached, as it was written or resolved. An IPv6 address is judged by the IPv4 address
    /// that it carries as well: a gateway (NAT64, 6to4) would connect to that one.
    ///
    /// # Errors
    /// The reason and the way out.
    pub fn check_ip(&self, ip: IpAddr) -> Result<(), String> {
        let ip = ip.to_canonical();
        let carried = match ip {
            IpAddr::V4(_) => Vec::new(),
            IpAddr::V6(ip) => carried(ip),
        };
        if is_never_reached(ip) || carried.iter().any(|ip| is_never_reached(IpAddr::V4(*ip))) {
            return Err(format!("{ip} is a link-local or cloud metadata address: never reached"));
        }
        let special = SpecialAddress::from_ip(ip)
            .or_else(|| carried.iter().find_map(|ip| SpecialAddress::from_ip(IpAddr::V4(*ip))));
        match special {
            Some(special) if self.is_strict() && !self.allows(ip) => {
                Err(self.not_public(&ip.to_string(), special.as_str()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the file at the end of a path, links followed (`None`: no file), may be read; `folders` are those of the
    /// rules with links followed. A missing file is answered like a forbidden one, so that the answer does not reveal
    /// what is on the server's disk.
    ///
    /// # Errors
    /// The way out.
    pub fn check_file(&self, real: Option<&Path>, folders: &[PathBuf]) -> Result<(), String> {
        let inside = |real: &Path| folders.iter().any(|folder| real.starts_with(folder));
        if !self.from_api || real.is_some_and(inside) {
            return Ok(());
        }
        Err("over the API only a file may be named, by its whole path, that exists under a folder of list_folders"
            .into())
    }

    /// Whether only what is public, or in an allowed network, may be reached.
    fn is_strict(&self) -> bool {
        self.from_api || self.redirected
    }

    fn not_public(&self, place: &str, what: &str) -> String {
        let who = if self.redirected {
            "a redirect may lead only to public addresses"
        } else {
            "over the API only public addresses may be set"
        };
        format!("{place} is {what}: {who}, unless the configuration allows the network (allowed_networks)")
    }

    fn allows(&self, ip: IpAddr) -> bool {
        self.allowed_networks.iter().any(|network| network.contains(&ip))
    }
}

fn is_never_reached(ip: IpAddr) -> bool {
    METADATA_ADDRESSES.iter().any(|text| text.parse() == Ok(ip))
        || SpecialAddress::from_ip(ip) == Some(SpecialAddress::LinkLocal)
}

/// The IPv4 addresses that an IPv6 address may stand for: mapped, compatible and translated ones, NAT64 with the
/// well-known prefix and with a local one (RFC 8215, where every length of prefix of RFC 6052 is possible), 6to4, Teredo.
fn carried(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    // Between bits 64 and 71 the address is interrupted by an octet that is zero.
    let around = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits & u128::from(u32::MAX)).unwrap_or_default());
    let bits = ip.to_bits();
    match (a, b) {
        (0, 0) if (c, d) == (0, 0) && matches!((e, f), (0, 0) | (0, 0xffff) | (0xffff, 0)) => vec![pair(g, h)],
        (0x0064, 0xff9b) => {
            let upper = bits >> 64 & 0xffff;
            let lower = bits >> 40 & 0xffff;
            let after_48 = around(upper << 16 | lower);
            let after_56 = around((bits >> 64 & 0xff) << 24 | bits >> 32 & 0x00ff_ffff);
            let after_64 = around(bits >> 24);
            vec![pair(g, h), after_48, after_56, after_64]
        }
        (0x2002, _) => vec![pair(b, c)],
        (0x2001, 0) => vec![pair(c, d), pair(!g, !h)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(from_api: bool, allowed: &[&str]) -> EgressRules {
        EgressRules {
            from_api,
            allowed_networks: allowed.iter().map(|text| text.parse().unwrap()).collect(),
            ..EgressRules::default()
        }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_names_of_this_machine_are_refused_over_the_api_before_they_are_resolved() {
        for text in ["https://localhost/", "https://LOCALHOST./", "https://a.localhost/"] {
            assert!(rules(true, &[]).check_url(&url(text)).is_err(), "{text}");
            assert!(rules(true, &["127.0.0.0/8"]).check_url(&url(text)).is_ok(), "{text}");
            assert!(rules(false, &[]).check_url(&url(text)).is_ok(), "{text}");
        }
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
    fn a_metadata_address_inside_an_ipv6_address_is_never_reached() {
        for text in [
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.100.100.200",
            "64:ff9b:1::169.254.169.254",
            // The prefixes of 48, 56 and 64 bits.
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::1",
            // Teredo turns every bit of the client's address.
            "2001:0:c000:201::5601:5601",
        ] {
            let ip = text.parse().unwrap();
            let why = rules(false, &["::/0"]).check_ip(ip).unwrap_err();
            assert!(why.contains("never reached"), "{text}: {why}");
            assert!(rules(false, &[]).check_url(&url(&format!("http://[{text}]/"))).is_err(), "{text}");
        }
        assert_eq!(rules(false, &[]).check_ip("64:ff9b::198.51.100.1".parse().unwrap()), Ok(()));
        assert_eq!(rules(false, &[]).check_ip("2001:db8::a9fe:a9fe".parse().unwrap()), Ok(()));
    }

    #[test]
    fn a_private_address_inside_an_ipv6_address_is_not_public() {
        for text in ["::10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::1"] {
            assert!(rules(true, &[]).check_ip(text.parse().unwrap()).is_err(), "{text}");
            assert_eq!(rules(false, &[]).check_ip(text.parse().unwrap()), Ok(()), "{text}");
        }
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
    fn what_a_feed_redirects_to_must_be_public_by_any_scheme_unless_its_network_is_allowed() {
        let redirected = |allowed: &[&str]| EgressRules { redirected: true, ..rules(false, allowed) };
        assert_eq!(redirected(&[]).check_url(&url("http://feed.example.com/")), Ok(()));
        for text in ["http://10.0.0.1/", "https://[::1]/", "https://localhost/"] {
            let why = redirected(&[]).check_url(&url(text)).unwrap_err();
            assert!(why.contains("a redirect may lead only to public addresses"), "{text}: {why}");
            assert_eq!(redirected(&["10.0.0.0/8", "127.0.0.0/8", "::1/128"]).check_url(&url(text)), Ok(()), "{text}");
        }
        assert_eq!(redirected(&[]).for_proxy(), rules(false, &[]));
    }

    #[test]
    fn a_resolver_over_the_api_must_be_public() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(rules(false, &[]).check_ip(ip("127.0.0.1")), Ok(()));
        assert_eq!(rules(true, &[]).check_ip(ip("9.9.9.9")), Ok(()));
        assert!(rules(true, &[]).check_ip(ip("127.0.0.1")).is_err());
    }
}
