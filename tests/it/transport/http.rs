//! HTTP: what is read and how much, where a redirect leads, where the credential goes and where it never shows.

use concord::finding::{SourceError, SourceErrorKind};
use concord::source::{Answer, CredentialPlace, EgressRules, HttpMethod, HttpQuestion, Question, SourceSettings};
use url::Url;

use super::scripted_server::{Reply, ScriptedServer};
use super::{Bench, CREDENTIAL, bench, gzip, settings, try_bench, with_credential};
use crate::harness::Refusing;

const GZIP: &str = "content-encoding: gzip\r\n";

fn http(change: impl FnOnce(&mut SourceSettings)) -> Bench {
    bench(settings("hashlookup", change))
}

fn question(url: &str, credential: CredentialPlace) -> Question {
    Question::Http(HttpQuestion {
        method: HttpMethod::Get,
        url: Url::parse(url).unwrap(),
        headers: vec![("accept".into(), "application/json".into())],
        credential,
    })
}

async fn get(url: &str) -> Result<Answer, SourceError> {
    http(|_| {}).ask(&question(url, CredentialPlace::None)).await
}

async fn answered(reply: Reply) -> Result<Answer, SourceError> {
    let server = ScriptedServer::start(vec![reply]).await;
    get(&server.url("/")).await
}

fn body(answer: &Answer) -> &[u8] {
    answer.http().unwrap().1
}

#[tokio::test]
async fn status_body_and_time_of_receipt_are_what_came() {
    let answer = answered(Reply::new("404 Not Found", "", b"{}")).await.unwrap();
    assert_eq!((answer.http().unwrap(), answer.received), ((404, &b"{}"[..]), super::now()));
}

#[tokio::test]
async fn only_headers_that_adapters_may_read_are_kept() {
    let headers = "Retry-After: 7\r\nX-RateLimit-Remaining: 3\r\nx-rate-limit-day: 9\r\nRateLimit: r=1\r\nX-APIKey-Quota-Current: 8\r\n\
         set-cookie: a=b\r\netag: \"e\"\r\n";
    let answer = answered(Reply::new("429 Too Many Requests", headers, b"")).await.unwrap();
    for (name, value) in [
        ("retry-after", "7"),
        ("x-ratelimit-remaining", "3"),
        ("x-rate-limit-day", "9"),
        ("ratelimit", "r=1"),
        ("x-apikey-quota-current", "8"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("etag"), Some("\"e\""));
    assert_eq!(answer.header("set-cookie"), None);
}

#[tokio::test]
async fn an_answer_that_breaks_off_may_be_asked_for_again() {
    let reply = Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":");
    let error = answered(reply).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
    assert!(error.kind.is_transient());
}

#[tokio::test]
async fn a_request_that_was_sent_stays_sent_whatever_becomes_of_it() {
    for reply in ["", "no HTTP\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":"] {
        let server = ScriptedServer::start(vec![Reply::raw(reply)]).await;
        let failure = http(|_| {}).fail(&question(&server.url("/"), CredentialPlace::None)).await;
        assert!(failure.is_sent && !failure.is_permanent, "{reply:?}: {failure:?}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_asked_for_once() {
    // A label of 64 characters is in no zone, so no resolver asks another one about it.
    let url = format!("http://{}.example.com/looked-up", "a".repeat(64));
    for from_api in [false, true] {
        let rules = EgressRules { from_api, ..EgressRules::default() };
        let source = try_bench(settings("hashlookup", |_| {}), rules).unwrap();
        let asked = question(&url, CredentialPlace::None);
        let failure = match source.transport.may_send(&asked).await {
            Ok(()) => source.fail(&asked).await,
            Err(failure) => failure,
        };
        assert!(!failure.is_sent && failure.is_permanent, "{failure:?}");
        assert!(failure.error.detail.contains("does not exist"), "{failure:?}");
        assert!(!failure.error.detail.contains("looked-up"), "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_made_in_time_has_sent_nothing() {
    // It takes connections, and never says a word of TLS.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let asked = question(&format!("https://{}/", silent.local_addr().unwrap()), CredentialPlace::None);
    let failure = http(|settings| settings.ca_pem = Some(super::tls::authority().pem())).fail(&asked).await;
    assert_eq!(failure.error.kind, SourceErrorKind::Timeout, "{failure:?}");
    assert!(!failure.is_sent && !failure.is_permanent, "{failure:?}");
}

#[tokio::test]
async fn a_compressed_answer_is_read_as_what_it_holds() {
    let answer = answered(Reply::new("200 OK", GZIP, &gzip::stored(b"plain"))).await.unwrap();
    assert_eq!(body(&answer), b"plain");
}

#[tokio::test]
async fn an_answer_that_cannot_be_decompressed_is_malformed_and_not_asked_for_again() {
    let whole = gzip::stored(b"a text that can be recognised");
    let mut changed = whole.clone();
    changed[20] ^= 1;
    for (what, bytes) in [("changed", &changed[..]), ("short", &whole[..whole.len() - 12]), ("no gzip", b"plain")] {
        let error = answered(Reply::new("200 OK", GZIP, bytes)).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Malformed, "{what}: {error}");
        assert!(!error.kind.is_transient(), "{what}");
    }
}

#[tokio::test]
async fn a_compressed_answer_whose_connection_breaks_off_is_not_called_corrupt() {
    let whole = gzip::stored(b"a text that can be recognised");
    let head = format!("HTTP/1.1 200 OK\r\n{GZIP}content-length: {}\r\n\r\n", whole.len());
    let error = answered(Reply::raw([head.as_bytes(), &whole[..20]].concat())).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_too_large_compressed_or_not() {
    let size = 8 * 1024 * 1024;
    assert_eq!(body(&answered(Reply::new("200 OK", "", &vec![b'x'; size])).await.unwrap()).len(), size);
    let error = answered(Reply::new("200 OK", "", &vec![b'x'; size + 1])).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::TooLarge, "{error}");
    let bomb = gzip::bomb(16 * size);
    assert!(bomb.len() < size / 8);
    let error = answered(Reply::new("200 OK", GZIP, &bomb)).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::TooLarge, "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed_and_the_credential_stays() {
    let other = ScriptedServer::start(vec![Reply::new("200 OK", "", b"caught")]).await;
    // The same machine under another name, and the same name at another port.
    for to in [format!("http://localhost:{}/", other.address.port()), other.url("/")] {
        let server = ScriptedServer::start(vec![Reply::new("302 Found", &format!("location: {to}\r\n"), b"")]).await;
        let place = CredentialPlace::Header("x-key".into());
        let answer = http(with_credential).ask(&question(&server.url("/"), place)).await.unwrap();
        assert_eq!(answer.http().unwrap().0, 302, "{to}");
        assert!(server.seen()[0].contains(CREDENTIAL));
    }
    assert_eq!(other.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_a_few_times() {
    let moved = || Reply::new("302 Found", "location: /next\r\n", b"");
    let server = ScriptedServer::start(vec![moved(), Reply::new("200 OK", "", b"there")]).await;
    let place = CredentialPlace::Header("x-key".into());
    let answer = http(with_credential).ask(&question(&server.url("/"), place)).await.unwrap();
    assert_eq!(body(&answer), b"there");
    let seen = server.seen();
    assert!(seen[1].starts_with("GET /next ") && seen[1].contains(CREDENTIAL), "{seen:?}");

    let server = ScriptedServer::start((0..10).map(|_| moved()).collect()).await;
    assert_eq!(get(&server.url("/")).await.unwrap().http().unwrap().0, 302);
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_question_that_was_redirected_counts_as_sent_although_the_next_connection_fails() {
    // Every reply ends its connection, and after the last one the server hangs up on whoever connects.
    let server = ScriptedServer::start(vec![Reply::new("302 Found", "location: /next\r\n", b"")]).await;
    let asked = question(&server.url("/"), CredentialPlace::None);
    let failure = http(|_| {}).fail(&asked).await;
    assert_eq!(server.seen().len(), 1);
    assert!(failure.is_sent, "{failure:?}");
}

#[tokio::test]
async fn a_refused_connection_is_no_answer_and_may_be_tried_again() {
    let refusing = Refusing::new();
    let closed = refusing.address();
    let asked = question(&format!("http://{closed}/looked-up?q=secret"), CredentialPlace::None);
    let failure = http(|_| {}).fail(&asked).await;
    assert!(!failure.is_sent && !failure.is_permanent, "{failure:?}");
    let error = failure.error;
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
    assert!(error.kind.is_transient());
    assert!(!error.detail.contains("looked-up") && !error.detail.contains("secret"), "{error}");
}

#[tokio::test]
async fn the_credential_goes_where_the_adapter_says_and_nowhere_else() {
    let header = || "x-key".to_owned();
    let cases = [
        (CredentialPlace::None, false, false),
        (CredentialPlace::Header(header()), true, false),
        (CredentialPlace::Path, false, true),
        (CredentialPlace::HeaderAndPath(header()), true, true),
    ];
    for (place, in_header, in_path) in cases {
        let server = ScriptedServer::start(vec![Reply::new("200 OK", "", b"")]).await;
        let path = if in_path { "/v1/{credential}/ip" } else { "/v1/ip" };
        http(with_credential).ask(&question(&server.url(path), place.clone())).await.unwrap();
        let seen = server.seen().remove(0);
        let line = seen.lines().next().unwrap();
        assert_eq!(line.contains(&format!("/v1/{CREDENTIAL}/ip")), in_path, "{place:?}: {seen}");
        assert_eq!(seen.contains(&format!("x-key: {CREDENTIAL}\r\n")), in_header, "{place:?}: {seen}");
        assert_eq!(seen.matches(CREDENTIAL).count(), usize::from(in_header) + usize::from(in_path), "{seen}");
        assert!(seen.contains("accept: application/json\r\n"), "{seen}");
    }
}

#[tokio::test]
async fn a_credential_in_the_path_cannot_change_the_address() {
    let server = ScriptedServer::start(vec![Reply::new("200 OK", "", b"")]).await;
    let source = http(|settings| settings.credential = Some("a/../b?c#d e%".into()));
    source.ask(&question(&server.url("/v1/{credential}/ip"), CredentialPlace::Path)).await.unwrap();
    assert!(server.seen()[0].starts_with("GET /v1/a%2F..%2Fb%3Fc%23d%20e%25/ip HTTP/1.1"), "{:?}", server.seen());
}

#[tokio::test]
async fn an_address_that_needs_a_credential_is_not_asked_without_one() {
    let server = ScriptedServer::start(vec![Reply::new("200 OK", "", b"")]).await;
    let question = question(&server.url("/v1/{credential}/ip"), CredentialPlace::Path);
    let error = http(|_| {}).ask(&question).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unauthorized, "{error}");
    assert_eq!(server.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn neither_debug_nor_an_error_shows_the_credential() {
    let refusing = Refusing::new();
    let closed = refusing.address();
    let source = http(with_credential);
    let place = CredentialPlace::HeaderAndPath("x-key".into());
    let error = source.ask(&question(&format!("http://{closed}/{{credential}}"), place)).await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", source.transport);
    assert!(!shown.contains(CREDENTIAL), "{shown}");

    let source = http(|settings| settings.credential = Some("k3y\nsecond line".into()));
    let place = CredentialPlace::Header("x-key".into());
    let error = source.ask(&question(&format!("http://{closed}/"), place)).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unauthorized);
    assert!(!format!("{error:?} {:?}", source.transport).contains("k3y"), "{error}");
}

#[tokio::test]
async fn a_form_is_posted_as_a_form() {
    let server = ScriptedServer::start(vec![Reply::new("200 OK", "", b"")]).await;
    let question = Question::Http(HttpQuestion {
        method: HttpMethod::PostForm(vec![("url".into(), "http://example.com/?a=b&c".into())]),
        url: Url::parse(&server.url("/v1/url/")).unwrap(),
        headers: Vec::new(),
        credential: CredentialPlace::None,
    });
    http(|_| {}).ask(&question).await.unwrap();
    let seen = server.seen().remove(0);
    assert!(seen.starts_with("POST /v1/url/ "), "{seen}");
    assert!(seen.contains("content-type: application/x-www-form-urlencoded\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nurl=http%3A%2F%2Fexample.com%2F%3Fa%3Db%26c"), "{seen}");
}

#[tokio::test]
async fn a_forbidden_address_is_refused_before_anything_leaves() {
    let server = ScriptedServer::start(vec![Reply::new("200 OK", "", b"")]).await;
    let strict = || EgressRules { from_api: true, proxy_from_api: true, ..EgressRules::default() };
    let source = try_bench(settings("hashlookup", |_| {}), strict()).unwrap();
    let error = source.ask(&question(&server.url("/"), CredentialPlace::None)).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Refused, "{error}");
    assert_eq!(server.seen(), Vec::<String>::new());

    // A proxy that the file declares is none of the API's, whoever set the address.
    let through = |settings: &mut SourceSettings| settings.proxy = Some("http://10.0.0.1:3128".parse().unwrap());
    let rules = EgressRules { proxy_from_api: false, ..strict() };
    assert!(try_bench(settings("hashlookup", through), rules).is_ok());
    assert!(try_bench(settings("hashlookup", through), strict()).is_err());

    let metadata =
        |settings: &mut SourceSettings| settings.proxy = Some("http://[64:ff9b::a9fe:a9fe]/".parse().unwrap());
    let settings = settings("hashlookup", metadata);
    let error = try_bench(settings, EgressRules::default()).err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::Refused, "{error}");
}
