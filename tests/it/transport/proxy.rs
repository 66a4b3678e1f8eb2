//! Through a proxy: who is asked for what, who one is there, and what of it shows.

use concord::fetch::SendError;
use concord::finding::SourceErrorKind;
use concord::source::{CredentialPlace, EgressRules, EnvironmentProxies, HttpMethod, HttpQuestion, Proxy, Question};
use rcgen::CertificateParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::scripted_server::{Reply, ScriptedServer};
use super::tls::{acceptor, authority};
use super::{Bench, CREDENTIAL, settings, try_bench};
use crate::harness::Refusing;

/// `us3r:pa@ss`, as it stands in an address and in a header.
const LOGIN: &str = "us3r:pa%40ss";
const BASIC: &str = "proxy-authorization: Basic dXMzcjpwYUBzcw==\r\n";

fn through(proxy: &str, ca_pem: Option<String>, rules: EgressRules) -> Bench {
    let settings = settings("hashlookup", |settings| {
        settings.credential = Some(CREDENTIAL.into());
        settings.proxy = Some(proxy.parse::<Proxy>().unwrap());
        settings.ca_pem = ca_pem;
    });
    try_bench(settings, rules).unwrap()
}

fn by(proxy: &str) -> Bench {
    through(proxy, None, EgressRules::default())
}

fn question(url: &str) -> Question {
    Question::Http(HttpQuestion {
        method: HttpMethod::Get,
        url: url.parse().unwrap(),
        headers: Vec::new(),
        credential: CredentialPlace::Header("x-key".into()),
    })
}

fn environment(variables: &[(&str, &str)]) -> EgressRules {
    let value = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    EgressRules { proxies: EnvironmentProxies::new(value).into(), ..EgressRules::default() }
}

/// That nothing reached the source and nothing will, and that the login does not show.
fn assert_hopeless(failure: &SendError, says: &str) {
    assert!(!failure.is_sent && failure.is_permanent, "{failure:?}");
    assert_eq!(failure.error.kind, SourceErrorKind::Unavailable, "{failure:?}");
    assert!(failure.error.detail.contains(says), "{failure:?}");
    assert!(!failure.error.detail.contains("us3r") && !failure.error.detail.contains("ss@"), "{failure:?}");
}

#[tokio::test]
async fn a_request_without_tls_goes_to_the_proxy_with_user_and_password() {
    let proxy = ScriptedServer::start(vec![Reply::new("200 OK", "", b"there")]).await;
    let source = by(&format!("http://{LOGIN}@{}", proxy.address));
    let answer = source.ask(&question("http://target.example.com/looked-up")).await.unwrap();
    assert_eq!(answer.http().unwrap(), (200, &b"there"[..]));
    let seen = proxy.seen().remove(0);
    assert!(seen.starts_with("GET http://target.example.com/looked-up HTTP/1.1\r\n") && seen.contains(BASIC), "{seen}");
}

/// A proxy that lets a tunnel through, whose other end is the source itself; gives what it was asked for.
async fn tunnel(tls: TlsAcceptor) -> (std::net::SocketAddr, tokio::sync::oneshot::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send, heads) = tokio::sync::oneshot::channel();
    TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let outer = head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
        let mut inside = tls.accept(stream).await.unwrap();
        let inner = head(&mut inside).await;
        inside.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nthere").await.unwrap();
        let _ = send.send((outer, inner));
    });
    (address, heads)
}

async fn head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_proxy_sees_the_name_of_a_source_behind_tls_and_neither_question_nor_credential() {
    let authority = authority();
    let params = CertificateParams::new(vec!["target.example.com".to_owned()]).unwrap();
    let (address, heads) = tunnel(acceptor(&authority, params)).await;
    let source = through(&format!("http://{LOGIN}@{address}"), Some(authority.pem()), EgressRules::default());
    let answer = source.ask(&question("https://target.example.com/looked-up")).await.unwrap();
    assert_eq!(answer.http().unwrap(), (200, &b"there"[..]));
    let (outer, inner) = heads.await.unwrap();
    assert!(outer.starts_with("CONNECT target.example.com:443 HTTP/1.1\r\n"), "{outer}");
    assert!(outer.to_lowercase().contains(&BASIC.to_lowercase()), "{outer}");
    assert!(!outer.contains("looked-up") && !outer.contains(CREDENTIAL), "{outer}");
    assert!(inner.contains("/looked-up") && inner.contains(CREDENTIAL) && !inner.contains("Basic"), "{inner}");
}

#[tokio::test]
async fn a_proxy_that_wants_another_user_or_password_is_asked_once_and_nothing_reached_the_source() {
    for url in ["http://target.example.com/", "https://target.example.com/"] {
        let reply = Reply::new("407 Proxy Authentication Required", "proxy-authenticate: Basic\r\n", b"");
        let proxy = ScriptedServer::start(vec![reply]).await;
        let source = by(&format!("http://{LOGIN}@{}", proxy.address));
        assert_hopeless(&source.fail(&question(url)).await, "the proxy wants a user and a password");
        assert!(!format!("{:?}", source.transport).contains("us3r"));
    }
}

#[tokio::test]
async fn a_source_that_answers_407_itself_is_not_taken_for_a_proxy() {
    let server = ScriptedServer::start(vec![Reply::new("407 Proxy Authentication Required", "", b"")]).await;
    let source = try_bench(settings("hashlookup", |_| {}), EgressRules::default()).unwrap();
    let question = Question::Http(HttpQuestion {
        method: HttpMethod::Get,
        url: server.url("/").parse().unwrap(),
        headers: Vec::new(),
        credential: CredentialPlace::None,
    });
    assert_eq!(source.ask(&question).await.unwrap().http().unwrap().0, 407);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_has_passed_nothing_on() {
    let refusing = Refusing::new();
    for scheme in ["http", "https", "socks5"] {
        for url in ["http://target.example.com/", "https://target.example.com/"] {
            let failure = by(&format!("{scheme}://{}", refusing.address())).fail(&question(url)).await;
            assert!(!failure.is_sent && !failure.is_permanent, "{scheme} {url}: {failure:?}");
        }
    }
}

/// A SOCKS 5 proxy that wants a user and a password; gives the name that it was asked for.
async fn socks(stream: &mut TcpStream, accepts: bool) -> String {
    let mut greeting = [0; 3];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [5, 1, 2], "a user and a password are offered");
    stream.write_all(&[5, 2]).await.unwrap();
    let mut login = [0; 2 + 4 + 1 + 5];
    stream.read_exact(&mut login).await.unwrap();
    assert_eq!(&login, b"\x01\x04us3r\x05pa@ss");
    stream.write_all(&[1, u8::from(!accepts)]).await.unwrap();
    if !accepts {
        return String::new();
    }
    let mut request = [0; 5];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..4], [5, 1, 0, 3], "a name, which the proxy resolves");
    let mut name = vec![0; usize::from(request[4]) + 2];
    stream.read_exact(&mut name).await.unwrap();
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    name.truncate(name.len() - 2);
    String::from_utf8(name).unwrap()
}

#[tokio::test]
async fn a_socks_proxy_resolves_the_name_and_gets_user_and_password() {
    for accepts in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = by(&format!("socks5://{LOGIN}@{}", listener.local_addr().unwrap()));
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let name = socks(&mut stream, accepts).await;
            if accepts {
                head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nthere").await.unwrap();
            }
            name
        };
        let asked = question("http://target.example.com/");
        let (name, answer) = tokio::join!(serve, source.transport.send(&asked));
        match answer {
            Ok(answer) => {
                assert_eq!((name.as_str(), answer.http().unwrap().1), ("target.example.com", &b"there"[..]));
            }
            Err(failure) => assert_hopeless(&failure, "the proxy wants a user and a password"),
        }
        assert_eq!(name.is_empty(), !accepts);
    }
}

#[tokio::test]
async fn the_proxies_of_the_environment_are_used_where_they_are_asked_for_and_but_for_the_exceptions() {
    let proxy =
        ScriptedServer::start(vec![Reply::new("200 OK", "", b"proxied"), Reply::new("502 Bad Gateway", "", b"")]).await;
    let target = ScriptedServer::start(vec![Reply::new("200 OK", "", b"direct")]).await;
    let address = format!("{LOGIN}@{}", proxy.address);
    let rules = environment(&[("http_proxy", &address), ("HTTPS_PROXY", &address), ("NO_PROXY", "127.0.0.0/8,x.test")]);
    let source = through("environment", None, rules);
    let body = async |url: &str| source.ask(&question(url)).await.map(|answer| answer.http().unwrap().1.to_vec());
    assert_eq!(body("http://target.example.com/").await.unwrap(), b"proxied");
    assert_eq!(body(&target.url("/")).await.unwrap(), b"direct");
    assert!(!source.fail(&question("https://target.example.com/")).await.is_sent);
    let seen = proxy.seen();
    assert!(seen[0].starts_with("GET http://target.example.com/") && seen[0].contains(BASIC), "{seen:?}");
    assert!(seen[1].starts_with("CONNECT target.example.com:443"), "{seen:?}");
    assert_eq!((seen.len(), target.seen().len()), (2, 1));
}

#[tokio::test]
async fn a_source_that_does_not_ask_for_the_environments_proxies_goes_directly_and_says_so_where_that_fails() {
    let (proxy, refusing) = (ScriptedServer::start(vec![Reply::new("200 OK", "", b"")]).await, Refusing::new());
    let rules = environment(&[("HTTP_PROXY", &format!("http://{LOGIN}@{}", proxy.address))]);
    let source = try_bench(settings("hashlookup", |_| {}), rules).unwrap();
    let asked = Question::Http(HttpQuestion {
        method: HttpMethod::Get,
        url: format!("http://{}/", refusing.address()).parse().unwrap(),
        headers: Vec::new(),
        credential: CredentialPlace::None,
    });
    let failure = source.fail(&asked).await;
    assert!(failure.error.detail.contains("HTTP_PROXY") && !failure.error.detail.contains("us3r"), "{failure:?}");
    assert_eq!(proxy.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn egress_rules_hold_for_proxies_of_every_sort() {
    let refused = |proxy: &str, rules: EgressRules| {
        let settings = settings("hashlookup", |settings| settings.proxy = Some(proxy.parse().unwrap()));
        try_bench(settings, rules).err().unwrap_or_else(|| panic!("{proxy} is used"))
    };
    for metadata in
        ["http://169.254.169.254", "socks5://169.254.169.254:1080", "socks5h://0xa9fea9fe", "https://[fe80::1]"]
    {
        assert_eq!(refused(metadata, EgressRules::default()).kind, SourceErrorKind::Refused, "{metadata}");
    }
    let strict = || EgressRules { from_api: true, proxy_from_api: true, ..EgressRules::default() };
    for private in ["https://10.0.0.1:3128", "socks5://10.0.0.1:1080", "http://proxy.example.com:3128"] {
        assert_eq!(refused(private, strict()).kind, SourceErrorKind::Refused, "{private}");
    }
    let metadata = environment(&[("HTTPS_PROXY", "http://169.254.169.254:3128")]);
    assert_eq!(refused("environment", metadata).kind, SourceErrorKind::Refused);
    let wrong = environment(&[("HTTPS_PROXY", "ftp://proxy.example.com")]);
    assert!(refused("environment", wrong).detail.starts_with("HTTPS_PROXY must be"));
}

#[tokio::test]
async fn a_target_set_over_the_api_is_checked_behind_the_environments_proxy_too() {
    let proxy = ScriptedServer::start(vec![Reply::new("200 OK", "", b"proxied")]).await;
    let rules = environment(&[("HTTPS_PROXY", &proxy.address.to_string())]);
    let source = through("environment", None, EgressRules { from_api: true, proxy_from_api: true, ..rules });
    let failure = source.fail(&question("https://localhost/")).await;
    assert_eq!(failure.error.kind, SourceErrorKind::Refused, "{failure:?}");
    assert_eq!(proxy.seen(), Vec::<String>::new());
}
