//! HTTP to a source: puts the credential where the adapter says, bounds the size, follows no redirect to another host.
//!
//! The client is built at the first question, so that a source that is never asked loads no certificates. Texts of errors
//! hold neither the credential nor the path and query of the address.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Client;
use reqwest::Response;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use reqwest::header::HeaderValue;
use reqwest::redirect;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use url::Host;
use url::Url;

use crate::clock::Clock;
use crate::finding::SourceError;
use crate::finding::SourceErrorKind;
use crate::source::Answer;
use crate::source::AnswerBody;
use crate::source::CredentialPlace;
use crate::source::EgressRules;
use crate::source::HttpMethod;
use crate::source::HttpQuestion;
use crate::source::Question;
use crate::source::SourceSettings;

use super::Transport;
use super::tls;

/// Largest answer of a source that is read.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;
/// Redirects on one host that are followed.
const MOST_REDIRECTS: usize = 3;
const USER_AGENT: &str = concat!("concord/", env!("CARGO_PKG_VERSION"));
/// How the placeholder of a credential stands in a path.
const PLACEHOLDER: &str = "%7Bcredential%7D";
/// Headers that adapters may read, beside all that begin with `x-ratelimit` or `x-rate-limit`.
const KEPT_HEADERS: [&str; 4] = ["retry-after", "content-type", "etag", "last-modified"];

/// Sends HTTP questions of one source.
pub(super) struct HttpTransport {
    client: OnceLock<Result<Client, SourceError>>,
    credential: Option<SecretString>,
    proxy: Option<Url>,
    ca_pem: Option<String>,
    rules: EgressRules,
    clock: Arc<dyn Clock>,
    largest: usize,
}

impl HttpTransport {
    /// A transport for a source with these settings.
    ///
    /// # Errors
    /// When the base address or the proxy may not be reached.
    pub(super) fn new(
        settings: &SourceSettings,
        rules: EgressRules,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        for url in settings.base_url.iter().chain(&settings.proxy) {
            rules.check_url(url).map_err(|why| SourceError::new(SourceErrorKind::Refused, why))?;
        }
        Ok(Self {
            client: OnceLock::new(),
            credential: settings.credential.clone(),
            proxy: settings.proxy.clone(),
            ca_pem: settings.ca_pem.clone(),
            rules,
            clock,
            largest: LARGEST_ANSWER,
        })
    }

    /// The same, for answers of at most so many bytes.
    pub(super) fn of_size(mut self, largest: usize) -> Self {
        self.largest = largest;
        self
    }

    fn client(&self) -> Result<&Client, SourceError> {
        self.client.get_or_init(|| self.build()).as_ref().map_err(Clone::clone)
    }

    fn build(&self) -> Result<Client, SourceError> {
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .no_proxy()
            .redirect(redirect::Policy::custom(same_host))
            .dns_resolver(Arc::new(Guarded(self.rules.clone())))
            .tls_certs_only(tls::roots(self.ca_pem.as_deref())?)
            .pool_idle_timeout(Duration::from_secs(60));
        if let Some(proxy) = &self.proxy {
            let proxy =
                reqwest::Proxy::all(proxy.clone()).map_err(|error| unavailable("the proxy cannot be used", &error))?;
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(|error| unavailable("no client could be made", &error))
    }

    async fn ask(&self, question: &HttpQuestion, extra: &[(&str, &str)]) -> Result<Answer, SourceError> {
        let url = self.address(question)?;
        if let Some(ip) = literal(&url) {
            self.rules.check_ip(ip).map_err(|why| SourceError::new(SourceErrorKind::Refused, why))?;
        }
        let client = self.client()?;
        let mut request = match &question.method {
            HttpMethod::Get => client.get(url),
            HttpMethod::PostForm(fields) => client.post(url).form(fields),
        };
        for (name, value) in
            question.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(extra.iter().copied())
        {
            request = request.header(name, value);
        }
        if let (Some(name), Some(credential)) = (header_of(&question.credential), &self.credential) {
            let mut value = HeaderValue::from_str(credential.expose_secret()).map_err(|_| {
                SourceError::new(
                    SourceErrorKind::Unauthorized,
                    "the credential holds characters that no header may hold",
                )
            })?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(failed)?;
        self.read(response).await
    }

    /// The address with the credential in its path, where the adapter wants it there.
    fn address(&self, question: &HttpQuestion) -> Result<Url, SourceError> {
        let in_path = matches!(question.credential, CredentialPlace::Path | CredentialPlace::HeaderAndPath(_));
        let mut url = question.url.clone();
        if let Some(credential) = self.credential.as_ref().filter(|_| in_path) {
            let escaped: String = url::form_urlencoded::byte_serialize(credential.expose_secret().as_bytes()).collect();
            let path = url.path().replace(PLACEHOLDER, &escaped.replace('+', "%20"));
            url.set_path(&path);
        }
        if url.path().contains(PLACEHOLDER) {
            return Err(SourceError::new(
                SourceErrorKind::Unauthorized,
                "the address needs a credential and there is none",
            ));
        }
        Ok(url)
    }

    async fn read(&self, response: Response) -> Result<Answer, SourceError> {
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .filter(|(name, _)| is_kept(name.as_str()))
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let body = self.body(response).await?;
        Ok(Answer { received: self.clock.now(), ttl: None, body: AnswerBody::Http { status, headers, body } })
    }

    /// The body, decompressed, within the limit: what is over it is not read to its end.
    async fn body(&self, response: Response) -> Result<Vec<u8>, SourceError> {
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(failed)?;
            if body.len() + piece.len() > self.largest {
                let detail = format!("the answer has more than {} bytes", self.largest);
                return Err(SourceError::new(SourceErrorKind::TooLarge, detail));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// A GET of an address that the list's user named, unless it is still what these headers say.
    pub(super) async fn get(&self, url: &Url, conditions: &[(&str, &str)]) -> Result<Answer, SourceError> {
        let question = HttpQuestion {
            method: HttpMethod::Get,
            url: url.clone(),
            headers: Vec::new(),
            credential: CredentialPlace::None,
        };
        self.rules.check_url(url).map_err(|why| SourceError::new(SourceErrorKind::Refused, why))?;
        self.ask(&question, conditions).await
    }
}

impl Transport for HttpTransport {
    fn send<'a>(
        &'a self,
        question: &'a Question,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, SourceError>> + Send + 'a>> {
        Box::pin(async move {
            match question {
                Question::Http(question) => self.ask(question, &[]).await,
                Question::Dns(_) | Question::List(_) => {
                    Err(SourceError::new(SourceErrorKind::BadQuestion, "not an HTTP question"))
                }
            }
        })
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("rules", &self.rules).finish_non_exhaustive()
    }
}

fn header_of(place: &CredentialPlace) -> Option<&str> {
    match place {
        CredentialPlace::Header(name) | CredentialPlace::HeaderAndPath(name) => Some(name),
        CredentialPlace::None | CredentialPlace::Path => None,
    }
}

fn is_kept(name: &str) -> bool {
    KEPT_HEADERS.contains(&name) || name.starts_with("x-ratelimit") || name.starts_with("x-rate-limit")
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        Host::Domain(_) => None,
    }
}

/// Only on the same host and port, and never back from https: the credential must not be carried elsewhere.
fn same_host(attempt: redirect::Attempt) -> redirect::Action {
    let allowed = attempt.previous().last().is_some_and(|from| {
        let to = attempt.url();
        from.host() == to.host()
            && from.port_or_known_default() == to.port_or_known_default()
            && from.scheme() == to.scheme()
    });
    if allowed && attempt.previous().len() <= MOST_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

/// The system's resolver, with every address judged before it is connected to.
struct Guarded(EgressRules);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.0.clone();
        Box::pin(async move {
            rules.check_name(name.as_str()).map_err(Forbidden)?;
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut refused = None;
            let mut allowed: Vec<SocketAddr> = Vec::new();
            for address in found {
                match rules.check_ip(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match (allowed.is_empty(), refused) {
                (true, Some(why)) => Err(Forbidden(why).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Egress rules forbid the address: told apart from a name that does not resolve, since asking again cannot help.
#[derive(Debug)]
struct Forbidden(String);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Forbidden {}

fn forbidden(error: &reqwest::Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(Forbidden(why)) = error.downcast_ref() {
            return Some(why.clone());
        }
        cause = error.source();
    }
    None
}

/// What failed, without the address, which may hold what was looked up and a credential.
fn failed(error: reqwest::Error) -> SourceError {
    let error = error.without_url();
    if let Some(why) = forbidden(&error) {
        return SourceError::new(SourceErrorKind::Refused, why);
    }
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        return SourceError::new(SourceErrorKind::Timeout, "no answer in time");
    } else if error.is_decode() || error.is_body() {
        "the answer broke off"
    } else {
        "the request failed"
    };
    unavailable(what, &error)
}

fn unavailable(what: &str, error: &reqwest::Error) -> SourceError {
    let mut detail = what.to_owned();
    let mut cause = std::error::Error::source(error);
    let mut last = None;
    while let Some(error) = cause {
        last = Some(error.to_string());
        cause = error.source();
    }
    if let Some(last) = last {
        detail.push_str(&format!(": {last}"));
    }
    SourceError::unavailable(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test]
    async fn a_name_that_resolves_to_a_forbidden_address_is_refused_and_not_retried() {
        let transport = HttpTransport {
            client: OnceLock::new(),
            credential: None,
            proxy: None,
            ca_pem: None,
            rules: EgressRules { from_api: true, allowed_networks: Vec::new() },
            clock: Arc::new(ManualClock::at(std::time::UNIX_EPOCH)),
            largest: LARGEST_ANSWER,
        };
        let question = HttpQuestion {
            method: HttpMethod::Get,
            url: Url::parse("http://localhost:9/?secret=1").unwrap(),
            headers: Vec::new(),
            credential: CredentialPlace::None,
        };
        let error = transport.ask(&question, &[]).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Refused, "{error}");
        assert!(!error.kind.is_transient() && !error.detail.contains("secret"), "{error}");
    }
}
