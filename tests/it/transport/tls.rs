//! TLS: whom a source is believed to be.

use std::sync::Arc;

use concord::finding::SourceErrorKind;
use concord::source::{CredentialPlace, EgressRules, HttpMethod, HttpQuestion, Question};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::site::{Reply, Site};
use super::{Bench, CREDENTIAL, bench, settings, try_bench, with_credential};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A site whose certificate this authority signed for this name.
async fn site(authority: &Authority, name: &str) -> Site {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    Site::serve(vec![Reply::new("200 OK", "", b"trusted")], Some(TlsAcceptor::from(Arc::new(config)))).await
}

fn trusting(ca_pem: Option<String>) -> Bench {
    let settings = settings("hashlookup", |settings| {
        with_credential(settings);
        settings.ca_pem = ca_pem;
    });
    bench(settings)
}

fn question(site: &Site) -> Question {
    Question::Http(HttpQuestion {
        method: HttpMethod::Get,
        url: Url::parse(&format!("https://{}/", site.address)).unwrap(),
        headers: Vec::new(),
        credential: CredentialPlace::Header("x-key".into()),
    })
}

#[tokio::test]
async fn a_source_that_its_own_authority_vouches_for_is_asked() {
    let authority = authority();
    let site = site(&authority, "127.0.0.1").await;
    let answer = trusting(Some(authority.pem())).transport.send(&question(&site)).await.unwrap();
    assert_eq!(answer.http().unwrap(), (200, &b"trusted"[..]));
    assert!(site.seen()[0].contains(CREDENTIAL));
}

#[tokio::test]
async fn a_source_that_nobody_trusted_vouches_for_sees_nothing() {
    let ours = authority();
    let strangers = site(&authority(), "127.0.0.1").await;
    let misnamed = site(&ours, "other.example.com").await;
    let unknown = site(&ours, "127.0.0.1").await;
    let cases =
        [("stranger", &strangers, Some(ours.pem())), ("name", &misnamed, Some(ours.pem())), ("system", &unknown, None)];
    for (what, site, ca_pem) in cases {
        let error = trusting(ca_pem).transport.send(&question(site)).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Unavailable, "{what}: {error}");
        assert!(error.detail.contains("certificate"), "{what}: {error}");
        assert_eq!(site.seen(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn authorities_that_are_no_certificates_are_told_before_anything_is_asked() {
    for pem in ["", "no PEM"] {
        let settings = settings("hashlookup", |settings| settings.ca_pem = Some(pem.into()));
        let error = try_bench(settings, EgressRules::default()).err().unwrap();
        assert!(error.detail.starts_with("ca_pem cannot be used"), "{error}");
    }
}
