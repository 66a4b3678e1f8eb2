//! The ways out, against servers on the loopback that say exactly what a test wants: HTTP and its bounds, TLS, DNS, lists.
//!
//! Nothing here waits for time to pass: servers answer at once or when a test releases the answer, and the clock moves by hand.

mod bad_input;
mod dns;
mod feed;
mod gzip;
mod http;
mod list;
mod proxy;
mod reuse;
mod scripted_server;
mod tls;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::clock::ManualClock;
use concord::fetch::{SendError, Transport, transport_for};
use concord::finding::SourceError;
use concord::source::{
    Answer, CredentialPlace, EgressRules, HttpMethod, HttpQuestion, Kind, OptionValue, Question, SourceSettings,
};
use concord::sources;
use secrecy::SecretString;
use url::Url;

/// A credential that can be recognised wherever it turns up.
const CREDENTIAL: &str = "k3y-that-must-not-show";

/// A way out.
#[derive(Debug)]
struct Bench {
    transport: Arc<dyn Transport>,
}

impl Bench {
    /// What comes of a question, however far it came.
    async fn ask(&self, question: &Question) -> Result<Answer, SourceError> {
        self.transport.send(question).await.map_err(|failure| failure.error)
    }

    /// Why a question brings no answer, and how far it came.
    async fn fail(&self, question: &Question) -> SendError {
        self.transport.send(question).await.unwrap_err()
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

fn kind(name: &str) -> Arc<dyn Kind> {
    sources::find(name).unwrap()
}

/// The settings of a source of this kind, changed as the test needs.
fn settings(name: &str, change: impl FnOnce(&mut SourceSettings)) -> SourceSettings {
    let mut settings = SourceSettings::from_defaults(kind(name).about(), "example");
    settings.base_url = None;
    change(&mut settings);
    settings
}

/// The value of an option, read as a user writes it.
fn option(kind_name: &str, name: &str, text: &str) -> OptionValue {
    let kind = kind(kind_name);
    let spec = kind.about().options.iter().find(|spec| spec.name == name).unwrap();
    spec.parse(&text.into()).unwrap()
}

fn with_credential(settings: &mut SourceSettings) {
    settings.credential = Some(SecretString::from(CREDENTIAL));
}

/// A GET of this address.
fn get_of(url: &str, credential: CredentialPlace) -> Question {
    let url = Url::parse(url).unwrap();
    Question::Http(HttpQuestion { method: HttpMethod::Get, url, headers: Vec::new(), credential })
}

fn try_bench(settings: SourceSettings, rules: EgressRules) -> Result<Bench, SourceError> {
    let clock = Arc::new(ManualClock::following_tokio(now()));
    let transport = transport_for(kind(&settings.kind).about().transport, &settings, rules, clock)?;
    Ok(Bench { transport })
}

fn bench(settings: SourceSettings) -> Bench {
    try_bench(settings, EgressRules::default()).unwrap()
}
