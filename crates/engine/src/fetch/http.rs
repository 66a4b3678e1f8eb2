//! The HTTP transport: inserts the credential where the adapter says, bounds the size of the answer, and follows
//! redirects only on the same host. For a feed it follows none, since `feed.rs` checks each step.
//!
//! A client is built when the first question needs it, so that no certificates are loaded for a source that is never
//! asked over https. Error messages contain neither the credential nor the path and query of the address.
//!
//! Behind a proxy, the proxy resolves the target. For a source configured over the API, the target is also resolved
//! here, and refused if it is forbidden or does not resolve.

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Certificate, Client, RequestBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;
use url::{Host, Url};

use super::http_error::{failed, login_refused, unavailable};
use super::resolve::{CheckedResolver, lookup};
use super::route::Route;
use super::tls;
use super::transport::{SendError, Transport};
use crate::clock::{Clock, Monotonic};
use crate::finding::{SourceError, SourceErrorKind};
use crate::source::{
    Answer, AnswerBody, CREDENTIAL_IN_PATH, CREDENTIAL_IN_QUERY, CredentialPlace, EgressRules, FileBody, HttpMethod,
    HttpQuestion, ProxyServer, Question, SourceSettings, has_credential_placeholder,
};
use crate::sync::lock;

/// Size limit of an answer.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Maximum of redirects on the same host.
const MAX_REDIRECTS: usize = 3;
/// For so long a name that resolved to allowed addresses is not resolved again before a question is paid.
const NAME_CHECK_HOLDS: Duration = Duration::from_secs(60);
/// Connections to a source that are kept for the next questions.
const MAX_IDLE_CONNECTIONS: usize = 64;
const USER_AGENT: &str = concat!("concord/", env!("CARGO_PKG_VERSION"));
/// Headers that are read, in addition to those about quota.
const KEPT_HEADERS: [&str; 5] = ["retry-after", "content-type", "etag", "last-modified", "location"];
/// How the names of headers about quota begin.
const QUOTA_HEADERS: [&str; 5] = ["x-ratelimit", "x-rate-limit", "ratelimit", "x-apikey-quota", "x-quota-reset"];

/// Sends the HTTP questions of one source.
pub(super) struct HttpTransport {
    /// For http.
    plain: OnceCell<Client>,
    /// For https, to the source or to its proxy.
    secure: OnceCell<Client>,
    credential: Option<SecretString>,
    route: Arc<Route>,
    ca_pem: Option<String>,
    /// Timeout of the connection alone. It is shorter than that of the attempt, so that a timeout while connecting is
    /// known to have sent nothing.
    connect_timeout: Duration,
    rules: EgressRules,
    /// The name that was checked last, and until when that holds.
    checked_name: Mutex<Option<(String, Monotonic)>>,
    clock: Arc<dyn Clock>,
    largest: usize,
    follows_redirects: bool,
}

tokio::task_local! {
    /// Whether the question of the current task was redirected.
    static REDIRECTED: Cell<bool>;
}

impl HttpTransport {
    /// Makes a transport for a source with these settings.
    ///
    /// # Errors
    /// If the egress rules forbid the base address or the proxy, or the certificate authorities cannot be parsed.
    pub(super) fn new(
        settings: &SourceSettings,
        rules: EgressRules,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let refused = |why| SourceError::new(SourceErrorKind::Refused, why);
        settings.base_url.as_ref().map_or(Ok(()), |url| rules.check_url(url)).map_err(refused)?;
        settings.proxy.as_ref().map_or(Ok(()), |proxy| rules.check_proxy(proxy)).map_err(refused)?;
        tls::check(settings.ca_pem.as_deref())?;
        Ok(Self {
            plain: OnceCell::new(),
            secure: OnceCell::new(),
            credential: settings.credential.clone(),
            route: Arc::new(Route::new(settings.proxy.as_ref(), &rules)),
            ca_pem: settings.ca_pem.clone(),
            connect_timeout: settings.timeout.mul_f64(0.9),
            rules,
            checked_name: Mutex::default(),
            clock,
            largest: MAX_ANSWER,
            follows_redirects: true,
        })
    }

    /// Turns it into a transport for feeds, with this size limit. Redirects are returned as answers instead of
    /// followed.
    pub(super) fn for_feed(self, largest: usize) -> Self {
        Self { largest, follows_redirects: false, ..self }
    }

    async fn client(&self, url: &Url) -> Result<&Client, SourceError> {
        if is_https(url) || self.route.proxy(url).is_some_and(|proxy| is_https(&proxy.address())) {
            self.secure.get_or_try_init(|| async { self.build(self.roots().await?) }).await
        } else {
            self.plain.get_or_try_init(|| async { self.build(Vec::new()) }).await
        }
    }

    /// The certificate authorities, read on a blocking thread, since the system's may be hundreds of files.
    async fn roots(&self) -> Result<Vec<Certificate>, SourceError> {
        let ca_pem = self.ca_pem.clone();
        let roots = tokio::task::spawn_blocking(move || tls::roots(ca_pem.as_deref())).await;
        roots.map_err(|_| SourceError::unavailable("the certificate authorities could not be read"))?
    }

    fn build(&self, roots: Vec<Certificate>) -> Result<Client, SourceError> {
        let route = self.route.clone();
        let builder = Client::builder().user_agent(USER_AGENT).no_proxy();
        // Without one, the client need not parse each address once more.
        let builder = match self.route.has_proxy() {
            true => builder.proxy(reqwest::Proxy::custom(move |url| route.proxy(url).map(ProxyServer::expose))),
            false => builder,
        };
        let builder = builder
            .redirect(match self.follows_redirects {
                true => redirect::Policy::custom(same_host),
                false => redirect::Policy::none(),
            })
            .dns_resolver(Arc::new(CheckedResolver { rules: self.rules.clone(), route: self.route.clone() }))
            .tls_certs_only(roots)
            .connect_timeout(self.connect_timeout)
            // reqwest must not retry by itself: such a call would bypass the quota.
            .retry(reqwest::retry::never())
            .pool_idle_timeout(Duration::from_secs(60))
            // What a burst opened is not kept: each connection has buffers.
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS);
        builder.build().map_err(|error| unavailable("no client could be made", &error))
    }

    async fn ask(&self, question: &HttpQuestion, extra: &[(&str, &str)]) -> Result<Answer, SendError> {
        let url = self.address(question).map_err(SendError::not_sent)?;
        let (peer, proxied) = (self.peer(&url), self.route.proxy(&url).is_some());
        let request = self.request(question, url, extra).await.map_err(SendError::not_sent)?;
        let send = async { (request.send().await, REDIRECTED.with(Cell::get)) };
        let (sent, redirected) = REDIRECTED.scope(Cell::new(false), send).await;
        // A server that redirects has received the question, even if the next connection fails.
        let reached = |failure: SendError| SendError { is_sent: failure.is_sent || redirected, ..failure };
        let response = sent.map_err(|error| reached(self.route.hint(failed(error, &peer))))?;
        if proxied && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(reached(login_refused()));
        }
        self.read(response, &peer).await
    }

    /// The name of the peer for error messages. With an https proxy, a bad certificate may also be the proxy's.
    fn peer(&self, url: &Url) -> String {
        let host = url.host_str().unwrap_or_default();
        let by_tls = self.route.proxy(url).is_some_and(|proxy| is_https(&proxy.address()));
        if by_tls { format!("{host} or its proxy") } else { host.to_owned() }
    }

    async fn request(
        &self,
        question: &HttpQuestion,
        url: Url,
        extra: &[(&str, &str)],
    ) -> Result<RequestBuilder, SourceError> {
        self.check_target(&url).await?;
        let client = self.client(&url).await?;
        let mut request = match &question.method {
            HttpMethod::Get => client.get(url),
            HttpMethod::PostForm(fields) => client.post(url).form(fields),
            HttpMethod::PostFile { field, file } => upload(client.post(url), field, file),
        };
        for (name, value) in
            question.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(extra.iter().copied())
        {
            request = request.header(name, value);
        }
        if let (Some(name), Some(credential)) = (header_of(&question.credential), &self.credential) {
            request = request.header(name, header_value(credential)?);
        }
        Ok(request)
    }

    /// Checks the addresses that the name of a source configured over the API resolves to now, before anything is paid.
    /// The addresses at connect time are checked again.
    async fn check_name(&self, url: &Url) -> Result<(), SendError> {
        let Some(Host::Domain(name)) = url.host().filter(|_| self.rules.from_api && self.route.proxy(url).is_none())
        else {
            return Ok(());
        };
        let now = self.clock.monotonic();
        if lock(&self.checked_name).as_ref().is_some_and(|(checked, until)| checked == name && now < *until) {
            return Ok(());
        }
        let found = lookup(name).await?;
        let refused = |address: &SocketAddr| self.rules.check_ip(address.ip()).err();
        match found.iter().find_map(refused).filter(|_| found.iter().all(|address| refused(address).is_some())) {
            Some(why) => Err(SendError::not_sent(SourceError::new(SourceErrorKind::Refused, why))),
            None => {
                *lock(&self.checked_name) = Some((name.to_owned(), now + NAME_CHECK_HOLDS));
                Ok(())
            }
        }
    }

    /// Checks targets that the client's own resolver does not see: literal addresses, and names that a proxy resolves.
    async fn check_target(&self, url: &Url) -> Result<(), SourceError> {
        let refused = |why: String| SourceError::new(SourceErrorKind::Refused, why);
        match url.host() {
            Some(Host::Ipv4(ip)) => self.rules.check_ip(IpAddr::V4(ip)).map_err(refused),
            Some(Host::Ipv6(ip)) => self.rules.check_ip(IpAddr::V6(ip)).map_err(refused),
            Some(Host::Domain(name)) if self.rules.from_api && self.route.proxy(url).is_some() => {
                let found = tokio::net::lookup_host((name, 0)).await;
                let mut found = found.map_err(|_| {
                    refused(format!(
                        "{name} does not resolve here, so it is not known what the proxy would reach; an address set \
                         in the configuration file is not checked like this"
                    ))
                })?;
                // The proxy may connect to any of them, so all must be allowed.
                found.try_for_each(|address| self.rules.check_ip(address.ip())).map_err(refused)
            }
            Some(Host::Domain(_)) => Ok(()),
            None => Err(refused("the address has no host".into())),
        }
    }

    /// The address with the credential inserted into its path or query, if the adapter or the feed's address asks for
    /// that.
    fn address(&self, question: &HttpQuestion) -> Result<Url, SourceError> {
        let in_path = matches!(question.credential, CredentialPlace::Path | CredentialPlace::HeaderAndPath(_));
        let mut url = question.url.clone();
        if let Some(credential) = self.credential.as_ref().filter(|_| in_path) {
            let escaped: String = url::form_urlencoded::byte_serialize(credential.expose_secret().as_bytes()).collect();
            let escaped = escaped.replace('+', "%20");
            let path = url.path().replace(CREDENTIAL_IN_PATH, &escaped);
            let query = url.query().map(|query| query.replace(CREDENTIAL_IN_QUERY, &escaped));
            url.set_path(&path);
            url.set_query(query.as_deref());
        }
        if has_credential_placeholder(&url) {
            return Err(SourceError::new(
                SourceErrorKind::Unauthorized,
                "the address needs a credential and there is none",
            ));
        }
        Ok(url)
    }

    async fn read(&self, response: Response, peer: &str) -> Result<Answer, SendError> {
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .filter(|(name, _)| is_kept(name.as_str()))
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let body = self.body(response, peer).await?;
        Ok(Answer { received: self.clock.now(), ttl: None, body: AnswerBody::Http { status, headers, body } })
    }

    /// Reads the decompressed body, up to the size limit.
    async fn body(&self, response: Response, peer: &str) -> Result<Vec<u8>, SendError> {
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| failed(error, peer))?;
            if body.len() + piece.len() > self.largest {
                let detail = format!("the answer has more than {} bytes", self.largest);
                return Err(SendError::sent(SourceError::new(SourceErrorKind::TooLarge, detail)));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// Sends a GET for a feed, with these conditional headers.
    pub(super) async fn get(&self, url: &Url, conditions: &[(&str, &str)]) -> Result<Answer, SourceError> {
        let question = HttpQuestion {
            method: HttpMethod::Get,
            url: url.clone(),
            headers: Vec::new(),
            credential: if has_credential_placeholder(url) { CredentialPlace::Path } else { CredentialPlace::None },
        };
        self.rules.check_url(url).map_err(|why| SourceError::new(SourceErrorKind::Refused, why))?;
        self.ask(&question, conditions).await.map_err(|failure| failure.error)
    }
}

/// A form with one file, whose length is stated and whose bytes are read as they are sent. It can be sent only once, so that
/// no redirect repeats it.
fn upload(request: RequestBuilder, field: &str, file: &FileBody) -> RequestBuilder {
    // No file contains its own hash.
    let boundary = format!("concord-{:.48}", file.sha256);
    let head = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"{}\"\r\n\
         content-type: application/octet-stream\r\n\r\n",
        file.sha256
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let length = head.len() as u64 + file.size + tail.len() as u64;
    let piece = |text: String| stream::iter([Ok(text.into_bytes())]);
    let body = piece(head).chain(file.content.pieces()).chain(piece(tail));
    request
        .header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
        .header(CONTENT_LENGTH, length)
        .body(Body::wrap_stream(body))
}

/// The credential as a header that `Debug` hides.
fn header_value(credential: &SecretString) -> Result<HeaderValue, SourceError> {
    let why = "the credential holds characters that no header may hold";
    let mut value = HeaderValue::from_str(credential.expose_secret())
        .map_err(|_| SourceError::new(SourceErrorKind::Unauthorized, why))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Transport for HttpTransport {
    fn may_send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let Question::Http(question) = question else { return Ok(()) };
            let url = self.address(question).map_err(SendError::not_sent)?;
            if let (Some(_), Some(credential)) = (header_of(&question.credential), &self.credential) {
                header_value(credential).map_err(SendError::not_sent)?;
            }
            self.check_target(&url).await.map_err(SendError::not_sent)?;
            self.check_name(&url).await
        })
    }

    fn send<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            match question {
                Question::Http(question) => self.ask(question, &[]).await,
                Question::Dns(_) | Question::List(_) => {
                    Err(SendError::not_sent(SourceError::new(SourceErrorKind::BadQuestion, "not an HTTP question")))
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
    KEPT_HEADERS.contains(&name) || QUOTA_HEADERS.iter().any(|prefix| name.starts_with(prefix))
}

fn is_https(url: &Url) -> bool {
    url.scheme() == "https"
}

/// Follows redirects only on the same host and port and never from https to http, so that the credential is not sent
/// elsewhere.
fn same_host(attempt: redirect::Attempt) -> redirect::Action {
    let allowed = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    if allowed && attempt.previous().len() <= MAX_REDIRECTS {
        // The task-local is set whenever a question is asked.
        let _ = REDIRECTED.try_with(|redirected| redirected.set(true));
        attempt.follow()
    } else {
        attempt.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::source::Proxy;

    fn transport(from_api: bool, proxy: Option<&str>) -> HttpTransport {
        let rules = EgressRules { from_api, ..EgressRules::default() };
        let proxy = proxy.map(|text| text.parse::<Proxy>().unwrap());
        HttpTransport {
            plain: OnceCell::new(),
            secure: OnceCell::new(),
            credential: None,
            route: Arc::new(Route::new(proxy.as_ref(), &rules)),
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            rules,
            checked_name: Mutex::default(),
            clock: Arc::new(ManualClock::following_tokio(std::time::UNIX_EPOCH)),
            largest: MAX_ANSWER,
            follows_redirects: true,
        }
    }

    fn question(url: &str) -> HttpQuestion {
        HttpQuestion {
            method: HttpMethod::Get,
            url: Url::parse(url).unwrap(),
            headers: Vec::new(),
            credential: CredentialPlace::None,
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_forbidden_address_is_refused_without_a_retry() {
        let transport = transport(true, None);
        let error = transport.ask(&question("http://localhost:9/?secret=1"), &[]).await.unwrap_err().error;
        assert_eq!(error.kind, SourceErrorKind::Refused, "{error}");
        assert!(!error.kind.is_transient() && !error.detail.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn a_forbidden_question_is_refused_before_it_is_paid() {
        let may = async |transport: HttpTransport, url: &str| {
            transport.may_send(&Question::Http(question(url))).await.map_err(|failure| failure.error.kind)
        };
        assert_eq!(may(transport(true, None), "https://localhost:9/").await, Err(SourceErrorKind::Refused));
        assert_eq!(may(transport(true, None), "https://10.0.0.1/").await, Err(SourceErrorKind::Refused));
        assert_eq!(may(transport(false, None), "http://localhost:9/").await, Ok(()));
        let mut lines = transport(false, None);
        lines.credential = Some(SecretString::from("two\nlines"));
        let with_key =
            HttpQuestion { credential: CredentialPlace::Header("key".into()), ..question("http://localhost:9/") };
        assert_eq!(
            lines.may_send(&Question::Http(with_key)).await.map_err(|failure| failure.error.kind),
            Err(SourceErrorKind::Unauthorized)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_was_allowed_is_checked_again_after_a_minute_and_another_at_once() {
        let transport = transport(true, None);
        let now = transport.clock.monotonic();
        *lock(&transport.checked_name) = Some(("localhost".to_owned(), now + NAME_CHECK_HOLDS));
        let may = async |url: &str| transport.check_name(&Url::parse(url).unwrap()).await.is_ok();
        assert!(may("https://localhost:9/").await);
        assert!(!may("https://localhost.:9/").await, "it is another name");
        transport.clock.sleep(NAME_CHECK_HOLDS).await;
        assert!(!may("https://localhost:9/").await);
    }

    #[tokio::test]
    async fn behind_a_proxy_the_host_of_a_source_configured_over_the_api_is_checked_before_the_proxy_is_asked() {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        proxy.set_nonblocking(true).unwrap();
        let transport = transport(true, Some(&format!("http://{}", proxy.local_addr().unwrap())));
        let error = transport.ask(&question("http://localhost:9/"), &[]).await.unwrap_err().error;
        assert_eq!(error.kind, SourceErrorKind::Refused, "{error}");
        assert_eq!(proxy.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn no_authorities_are_read_for_a_source_without_tls() {
        let transport = transport(false, None);
        // The port stays bound, so that nothing else can listen on it.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let closed = socket.local_addr().unwrap();
        transport.ask(&question(&format!("http://{closed}/")), &[]).await.unwrap_err();
        assert!(transport.plain.initialized() && !transport.secure.initialized());
        transport.ask(&question(&format!("https://{closed}/")), &[]).await.unwrap_err();
        assert!(transport.secure.initialized());
    }
}
