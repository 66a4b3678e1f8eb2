//! Looks for a token, a credential and the key wherever they must not stand.

use std::path::Path;

use concord::pb;

use crate::harness::{Refusing, TestServer, malicious_virustotal};

const TOKEN: &str = "t0ken-that-nobody-may-see";
const CREDENTIAL: &str = "cr3dential-that-nobody-may-see";

#[tokio::test]
async fn no_secret_stands_in_answers_errors_metrics_debug_or_the_store() {
    let virustotal = malicious_virustotal().await;
    let hash = sha256_hex(TOKEN);
    let configuration = format!("allowed_networks = [\"127.0.0.0/8\"]\n[tokens]\nsoar = \"{hash}\"\n");
    let server = TestServer::listen(&configuration).await;
    let mut seen = String::new();

    let mut sources = server.sources();
    let source = pb::Source {
        name: "sources/vt".into(),
        kind: "virustotal".into(),
        credential: CREDENTIAL.into(),
        base_url: format!("http://{}", virustotal.address),
        ..Default::default()
    };
    let configure = pb::ConfigureSourceRequest { source: Some(source), allow_missing: true, ..Default::default() };
    let made = sources.configure_source(with_token(configure)).await.unwrap().into_inner();
    seen.push_str(&format!("{made:?}"));
    let enrich = pb::EnrichRequest {
        indicator: Some(crate::harness::indicator("198.51.100.7")),
        options: Some(pb::EnrichOptions { view: 3, ..Default::default() }),
    };
    seen.push_str(&format!("{:?}", server.enrichment().enrich(with_token(enrich)).await.unwrap().into_inner()));
    let test = pb::TestSourceRequest { name: "sources/vt".into(), ..Default::default() };
    seen.push_str(&format!("{:?}", sources.test_source(with_token(test)).await.unwrap().into_inner()));
    let mut wrong = tonic::Request::new(pb::ListSourcesRequest::default());
    wrong.metadata_mut().insert("authorization", format!("Bearer {TOKEN}x").parse().unwrap());
    seen.push_str(&format!("{:?}", sources.list_sources(wrong).await.unwrap_err()));
    seen.push_str(&metrics(&server).await);
    let config = crate::harness::config(&server.folder, &configuration);
    seen.push_str(&format!("{config:?} {}", config.render_masked()));
    seen.push_str(&format!("{:?}", server.engine()));

    let folder = server.folder.clone();
    let key = std::fs::read(folder.path().join("data/key")).unwrap();
    assert_eq!(mode_of(&folder.path().join("data/key")), 0o600);
    server.stop().await;
    use base64::Engine as _;
    let hex = concord::indicator::hex(&key);
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&key);
    for secret in [TOKEN, CREDENTIAL, &hex, &base64] {
        assert!(!seen.contains(secret), "{secret} was shown");
    }
    assert!(!seen.as_bytes().windows(key.len()).any(|part| part == key), "the key was shown");
    assert!(seen.contains("virustotal") && seen.contains("concord_"), "nothing was looked at");
    for file in files(folder.path()).iter().filter(|file| !file.ends_with("key")) {
        let bytes = std::fs::read(file).unwrap();
        for secret in [TOKEN.as_bytes(), CREDENTIAL.as_bytes(), &key] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "a secret stands in {}", file.display());
        }
    }
}

#[tokio::test]
async fn the_login_of_a_proxy_is_shown_nowhere_and_not_taken_over_the_api() {
    const LOGIN: [&str; 2] = ["pr0xy-user-that-nobody-may-see", "pr0xy-password-that-nobody-may-see"];
    let refusing = Refusing::new();
    let address = format!("http://{}:{}@{}", LOGIN[0], LOGIN[1], refusing.address());
    let configuration = format!("[sources.behind]\nkind = \"hashlookup\"\nproxy = \"{address}\"\n");
    let server = TestServer::start(&configuration).await;
    let mut sources = server.sources();
    let name = "sources/behind".to_owned();
    let shown = sources.get_source(pb::GetSourceRequest { name: name.clone() }).await.unwrap().into_inner();
    let proxy = shown.source.as_ref().unwrap().proxy.clone();
    assert_eq!(proxy, format!("http://***@{}/", refusing.address()));
    let mut seen = format!("{shown:?}");
    let test = pb::TestSourceRequest { name: name.clone(), ..Default::default() };
    seen.push_str(&format!("{:?}", sources.test_source(test).await.unwrap().into_inner()));
    for proxy in [address.clone(), proxy] {
        let source = pb::Source { name: name.clone(), proxy, ..Default::default() };
        let request = pb::ConfigureSourceRequest { source: Some(source), ..Default::default() };
        let refused = sources.configure_source(request).await.unwrap_err();
        assert!(refused.message().contains("in the configuration file"), "{}", refused.message());
        seen.push_str(&format!("{refused:?}"));
    }
    let config = crate::harness::config(&server.folder, &configuration);
    seen.push_str(&format!("{config:?} {}", config.render_masked()));
    seen.push_str(&format!("{:?}", server.engine()));
    assert!(LOGIN.iter().all(|secret| !seen.contains(secret)), "{seen}");
    assert!(seen.contains("no connection"), "it was asked: {seen}");
    let environment = pb::Source { name: name.clone(), proxy: "environment".into(), ..Default::default() };
    let request = pb::ConfigureSourceRequest { source: Some(environment), ..Default::default() };
    let set = sources.configure_source(request).await.unwrap().into_inner().source.unwrap();
    assert_eq!(set.proxy, "environment");
    server.stop().await;
}

fn with_token<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    request
}

async fn metrics(server: &TestServer) -> String {
    let request =
        reqwest::Client::builder().no_proxy().build().unwrap().get(format!("http://{}/metrics", server.address()));
    let text = request.bearer_auth(TOKEN).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("concord_"), "the metrics are empty: {text}");
    text
}

fn sha256_hex(text: &str) -> String {
    use aws_lc_rs::digest;
    concord::indicator::hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.is_file())
        .collect()
}
