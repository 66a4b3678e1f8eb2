//! Through which proxy a source is asked. A proxy's user and password are never shown; only the transport sees them.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// The word by which a source asks for the proxies of the environment.
const ENVIRONMENT: &str = "environment";
/// The variables that name a proxy: for https, for http, for both.
const VARIABLES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];
const EXCEPTIONS: &str = "NO_PROXY";

/// How a source's HTTP requests leave, where they do not leave directly.
#[derive(Clone, PartialEq, Eq)]
pub enum Proxy {
    /// Through this server.
    Server(ProxyServer),
    /// Through the servers that the environment names; see [`EnvironmentProxies`].
    Environment,
}

/// Reads `environment`, or the address of a proxy. The error says how proxies are written; it never quotes the text, which
/// may hold a password.
impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            word if word.eq_ignore_ascii_case(ENVIRONMENT) => Ok(Self::Environment),
            address => ProxyServer::parse(address).map(Self::Server),
        }
    }
}

impl Proxy {
    /// The server, if it is named by the settings.
    pub fn server(&self) -> Option<&ProxyServer> {
        match self {
            Self::Server(server) => Some(server),
            Self::Environment => None,
        }
    }
}

/// As it is written, user and password masked.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(server) => fmt::Display::fmt(server, f),
            Self::Environment => f.write_str(ENVIRONMENT),
        }
    }
}

/// Where requests go, for it decides where a credential may go: a changed password changes nothing.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(server) => fmt::Debug::fmt(server, f),
            Self::Environment => f.write_str("Environment"),
        }
    }
}

/// A proxy server of http, https or SOCKS 5, which resolves the names that it is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyServer(Url);

impl ProxyServer {
    /// Reads an address such as `http://user:password@proxy.example.com:3128`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text)
            .map_err(|error| format!("is no address of a proxy ({error}); write http://HOST:PORT, or {ENVIRONMENT}"))?;
        if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") {
            return Err(format!("must be an address of http, https or socks5, or {ENVIRONMENT}"));
        }
        // Only in an address of http or https the parser reads the host.
        let host = url.host_str().filter(|host| !host.is_empty()).map(Host::parse);
        let Some(Ok(host)) = host else { return Err("needs a host".into()) };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("must end after host and port; in a password / is %2F, ? is %3F, # is %23 and @ is %40".into());
        }
        url.set_host(Some(&host.to_string())).map_err(|error| format!("has a host that cannot be used ({error})"))?;
        Ok(Self(url))
    }

    /// Whether it is asked with a user or password.
    pub fn has_login(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }

    /// Its address without user and password.
    pub fn address(&self) -> Url {
        self.with_user("")
    }

    /// Its address with user and password, for the transport alone. SOCKS 5 has the proxy resolve names, as the others do.
    pub fn expose(&self) -> String {
        match self.0.as_str().strip_prefix("socks5://") {
            Some(rest) => format!("socks5h://{rest}"),
            None => self.0.as_str().to_owned(),
        }
    }

    fn with_user(&self, user: &str) -> Url {
        let mut url = self.0.clone();
        // Both fail only for an address without a host.
        let _ = url.set_username(user);
        let _ = url.set_password(None);
        url
    }
}

impl fmt::Display for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.with_user(if self.has_login() { "***" } else { "" }).as_str())
    }
}

impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.address(), f)
    }
}

/// The proxies that the environment of this process names, as most programs read them: `HTTPS_PROXY`, `HTTP_PROXY`, for what
/// has none `ALL_PROXY`, and `NO_PROXY` for what is reached directly; in lower case too, which wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentProxies {
    https: Option<ProxyServer>,
    http: Option<ProxyServer>,
    /// Names, addresses and networks that are reached directly, a comma between.
    pub exceptions: String,
    /// The variables that name a proxy.
    pub variables: Vec<&'static str>,
    /// What is wrong with one of them.
    pub mistake: Option<String>,
}

impl EnvironmentProxies {
    /// Reads the variables.
    pub fn new<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Self {
        let value = |name: &str| {
            let lower = variable(&name.to_ascii_lowercase()).filter(|value| !value.trim().is_empty());
            lower.or_else(|| variable(name)).map(str::trim).filter(|value| !value.is_empty())
        };
        let mut proxies = Self { exceptions: value(EXCEPTIONS).unwrap_or_default().to_owned(), ..Self::default() };
        let [https, http, all] = VARIABLES.map(|name| {
            let text = value(name)?;
            proxies.variables.push(name);
            // Without a scheme http is meant.
            let address = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
            ProxyServer::parse(&address).map_err(|why| proxies.mistake = Some(format!("{name} {why}"))).ok()
        });
        (proxies.https, proxies.http) = (https.or_else(|| all.clone()), http.or(all));
        proxies
    }

    /// The proxy for addresses of this scheme.
    pub fn server(&self, scheme: &str) -> Option<&ProxyServer> {
        if scheme == "https" { self.https.as_ref() } else { self.http.as_ref() }
    }

    /// Every proxy that it names.
    pub fn servers(&self) -> impl Iterator<Item = &ProxyServer> {
        self.https.iter().chain(&self.http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Proxy, String> {
        text.parse()
    }

    #[test]
    fn user_and_password_are_read_and_never_shown() {
        for text in ["http://us3r:pa%40ss@proxy.example.com:3128", "socks5://us3r:pa%40ss@192.0.2.1:1080"] {
            let proxy = parse(text).unwrap();
            let server = proxy.server().unwrap();
            assert!(server.has_login() && server.expose().contains("us3r:pa%40ss@"), "{proxy}");
            let shown = format!("{proxy} {proxy:?} {}", server.address());
            assert!(!shown.contains("us3r") && !shown.contains("pa%40ss") && shown.contains("://***@"), "{shown}");
        }
        let mistake = parse("gopher://us3r:s3cret@proxy.example.com").unwrap_err();
        assert!(!mistake.contains("us3r") && !mistake.contains("s3cret"), "{mistake}");
    }

    #[test]
    fn what_is_no_proxy_is_refused_with_the_way_to_write_one() {
        for (text, part) in [
            ("proxy.example.com:3128", "http, https or socks5"),
            ("socks4://proxy.example.com", "http, https or socks5"),
            ("http://proxy.example.com/path", "must end after host and port"),
            ("http://user:pa/ss@proxy.example.com", ""),
            ("socks5://", "needs a host"),
            ("", "write http://HOST:PORT"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(part), "{text}: {refused}");
        }
        assert_eq!(parse(" Environment "), Ok(Proxy::Environment));
        assert_eq!(parse("http://proxy.example.com:3128").unwrap().to_string(), "http://proxy.example.com:3128/");
    }

    #[test]
    fn the_host_of_a_socks_proxy_is_read_as_in_other_addresses() {
        let server = |text| parse(text).unwrap().server().unwrap().expose();
        assert_eq!(server("socks5://0xa9fea9fe:1080"), "socks5h://169.254.169.254:1080");
        assert_eq!(server("socks5h://PROXY.example.com"), "socks5h://proxy.example.com");
    }

    #[test]
    fn the_environment_names_proxies_by_scheme_and_in_lower_case_first() {
        let read = |variables: &[(&str, &'static str)]| {
            EnvironmentProxies::new(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
        };
        let address = |proxies: &EnvironmentProxies, scheme: &str| proxies.server(scheme).map(ProxyServer::expose);
        let proxies = read(&[
            ("HTTPS_PROXY", "http://upper.example.com:1"),
            ("https_proxy", "http://lower.example.com:1"),
            ("ALL_PROXY", "all.example.com:2"),
            ("http_proxy", ""),
            ("no_proxy", " example.org, 10.0.0.0/8 "),
        ]);
        assert_eq!(address(&proxies, "https").as_deref(), Some("http://lower.example.com:1/"));
        assert_eq!(address(&proxies, "http").as_deref(), Some("http://all.example.com:2/"));
        assert_eq!(proxies.exceptions, "example.org, 10.0.0.0/8");
        assert_eq!((proxies.variables, proxies.mistake), (vec!["HTTPS_PROXY", "ALL_PROXY"], None));
        assert_eq!(read(&[("NO_PROXY", "*")]).variables, Vec::<&str>::new());
        let wrong = read(&[("HTTPS_PROXY", "ftp://us3r:s3cret@proxy.example.com")]);
        let mistake = wrong.mistake.unwrap();
        assert!(mistake.starts_with("HTTPS_PROXY must be") && !mistake.contains("s3cret"), "{mistake}");
    }
}
