//! One TLS port: gRPC by h2, gRPC-Web by HTTP/1.1, and nobody without the client certificate where one is wanted.

use std::path::Path;

use concord::pb;
use concord::pb::source_service_client::SourceServiceClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::harness::TestServer;
use crate::surface::framed;

struct TestIdentity {
    certificate: String,
    key: String,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn new_identity(authority: &CertifiedIssuer<'static, KeyPair>, usage: ExtendedKeyUsagePurpose) -> TestIdentity {
    let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    TestIdentity { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

async fn start(client_authority: Option<&str>) -> (TestServer, String, tempfile::TempDir) {
    let folder = tempfile::TempDir::new().unwrap();
    let authority = authority();
    let server = new_identity(&authority, ExtendedKeyUsagePurpose::ServerAuth);
    let certificate = write(folder.path(), "server.pem", &server.certificate);
    let key = write(folder.path(), "server.key", &server.key);
    let mut configuration = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    if let Some(pem) = client_authority {
        configuration += &format!("client_ca = \"{}\"\n", write(folder.path(), "clients.pem", pem));
    }
    (TestServer::listen(&configuration).await, authority.pem(), folder)
}

fn web_client(authority: &str, identity: Option<&TestIdentity>) -> reqwest::Client {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .tls_certs_only([reqwest::Certificate::from_pem(authority.as_bytes()).unwrap()]);
    if let Some(identity) = identity {
        let pem = format!("{}{}", identity.key, identity.certificate);
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

async fn by_web(
    server: &TestServer,
    authority: &str,
    identity: Option<&TestIdentity>,
) -> Result<String, reqwest::Error> {
    let url = format!("https://{}/concord.v1.SourceService/ListSourceKinds", server.address());
    let call = web_client(authority, identity).post(url).header("content-type", "application/grpc-web+proto");
    let body = call.body(framed(&pb::ListSourceKindsRequest {})).send().await?.bytes().await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn by_h2(server: &TestServer, authority: &str, identity: Option<&TestIdentity>) -> Result<usize, String> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).domain_name("localhost");
    if let Some(identity) = identity {
        tls = tls.identity(Identity::from_pem(&identity.certificate, &identity.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address())).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let kinds = SourceServiceClient::new(channel).list_source_kinds(pb::ListSourceKindsRequest {}).await;
    kinds.map(|kinds| kinds.into_inner().kinds.len()).map_err(|status| status.to_string())
}

#[tokio::test]
async fn one_tls_port_serves_grpc_by_h2_and_grpc_web_by_http_1() {
    let (server, authority, _folder) = start(None).await;
    assert_eq!(by_h2(&server, &authority, None).await, Ok(7));
    let text = by_web(&server, &authority, None).await.unwrap();
    assert!(text.contains("virustotal") && text.contains("grpc-status:0"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_why_a_certificate_is_refused() {
    let (server, _authority, folder) = start(None).await;
    let other = write(folder.path(), "other.pem", &authority().pem());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_concord"));
    command.env_clear().args(["--server", &format!("https://{}", server.address()), "--ca", &other, "source", "list"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("certificate"), "{stderr}");
    server.stop().await;
}

#[tokio::test]
async fn both_are_refused_without_the_client_certificate_and_served_with_it() {
    let clients = authority();
    let (server, authority, _folder) = start(Some(&clients.pem())).await;
    assert!(by_h2(&server, &authority, None).await.is_err());
    assert!(by_web(&server, &authority, None).await.is_err());
    let stranger = new_identity(&self::authority(), ExtendedKeyUsagePurpose::ClientAuth);
    assert!(by_h2(&server, &authority, Some(&stranger)).await.is_err());
    let known = new_identity(&clients, ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(by_h2(&server, &authority, Some(&known)).await, Ok(7));
    assert!(by_web(&server, &authority, Some(&known)).await.unwrap().contains("virustotal"));
    server.stop().await;
}
