//! TLS: whom a source is believed to be.

use std::net::SocketAddr;
use std::sync::Arc;

use concord::fetch::SendError;
use concord::finding::SourceErrorKind;
use concord::source::{CredentialPlace, EgressRules, Question};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::scripted_server::{Reply, ScriptedServer};
use super::{Bench, CREDENTIAL, bench, get_of, settings, try_bench, with_credential};

type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server whose certificate this authority signed for this name.
async fn server_named(authority: &Authority, name: &str) -> ScriptedServer {
    serve(authority, CertificateParams::new(vec![name.to_owned()]).unwrap()).await
}

async fn serve(authority: &Authority, params: CertificateParams) -> ScriptedServer {
    ScriptedServer::serve(vec![Reply::new("200 OK", "", b"trusted")], Some(acceptor(authority, params))).await
}

/// What accepts TLS with such a certificate of this authority.
pub(super) fn acceptor(authority: &Authority, params: CertificateParams) -> TlsAcceptor {
    acceptor_for(authority, params, &[])
}

/// What accepts TLS with such a certificate of this authority, for these protocols.
pub(super) fn acceptor_for(authority: &Authority, params: CertificateParams, protocols: &[&str]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn trusting(ca_pem: Option<String>) -> Bench {
    let settings = settings("hashlookup", |settings| {
        with_credential(settings);
        settings.ca_pem = ca_pem;
    });
    bench(settings)
}

fn question(server: &ScriptedServer) -> Question {
    at(server.address)
}

fn at(address: SocketAddr) -> Question {
    get_of(&format!("https://{address}/"), CredentialPlace::Header("x-key".into()))
}

#[tokio::test]
async fn a_source_with_a_certificate_of_its_configured_authority_is_asked() {
    let authority = authority();
    let server = server_named(&authority, "127.0.0.1").await;
    let answer = trusting(Some(authority.pem())).ask(&question(&server)).await.unwrap();
    assert_eq!(answer.http().unwrap(), (200, &b"trusted"[..]));
    assert!(server.seen()[0].contains(CREDENTIAL));
}

#[tokio::test]
async fn a_source_with_an_untrusted_certificate_receives_nothing() {
    let ours = authority();
    let strangers = server_named(&authority(), "127.0.0.1").await;
    let misnamed = server_named(&ours, "other.example.com").await;
    let unknown = server_named(&ours, "127.0.0.1").await;
    let mut old = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let mut early = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (early.not_before, early.not_after) = (rcgen::date_time_ymd(4000, 1, 1), rcgen::date_time_ymd(4001, 1, 1));
    let (expired, early) = (serve(&ours, old).await, serve(&ours, early).await);
    let own = || Some(ours.pem());
    let cases = [
        (&strangers, own(), "signed by an authority that is not trusted", "ca_file (over the API: ca_pem)"),
        (&unknown, None, "signed by an authority that is not trusted", "ca_file (over the API: ca_pem)"),
        (&misnamed, own(), "is for another name", "other.example.com"),
        (&expired, own(), "expired at 2021-01-01T00:00:00Z", "clock"),
        (&early, own(), "is not valid before 4000-01-01T00:00:00Z", "clock"),
    ];
    for (server, ca_pem, problem, way_out) in cases {
        let failure = trusting(ca_pem).fail(&question(server)).await;
        let error = &failure.error;
        assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
        assert!(error.detail.starts_with("the certificate of 127.0.0.1 "), "{error}");
        assert!(error.detail.contains(problem) && error.detail.contains(way_out), "{error}");
        assert!(!failure.is_sent && failure.is_permanent, "{failure:?}");
        assert_eq!(server.seen(), Vec::<String>::new(), "{error}");
    }
}

/// The failure of a handshake with a server that answers the first bytes with these.
async fn handshake(answer: &'static [u8]) -> SendError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(answer).await;
    });
    trusting(Some(authority().pem())).fail(&at(address)).await
}

#[tokio::test]
async fn a_refused_handshake_and_a_peer_without_tls_are_not_asked_again() {
    for (answer, says) in [
        (&b"\x15\x03\x03\x00\x02\x02\x28"[..], "refuses the TLS connection: alert HandshakeFailure"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no TLS: check scheme and port"),
    ] {
        let failure = handshake(answer).await;
        assert!(failure.error.detail.contains(says), "{failure:?}");
        assert!(!failure.is_sent && failure.is_permanent, "{failure:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_breaks_off_may_be_tried_again_and_has_sent_nothing() {
    let failure = handshake(b"").await;
    assert_eq!(failure.error.kind, SourceErrorKind::Unavailable, "{failure:?}");
    assert!(!failure.is_sent && !failure.is_permanent, "{failure:?}");
}

#[test]
fn authorities_that_are_no_certificates_are_refused_before_anything_is_asked() {
    for pem in ["", "no PEM"] {
        let settings = settings("hashlookup", |settings| settings.ca_pem = Some(pem.into()));
        let error = try_bench(settings, EgressRules::default()).err().unwrap();
        assert!(error.detail.starts_with("ca_pem cannot be used"), "{error}");
    }
}
