//! Every kind that asks over HTTP, held to the same rules: its own fixtures read to the outcome they state, recorded
//! answers too, it asks nobody but its base address, and nothing that comes back makes it panic.
//!
//! No test here knows a kind by name, but for what a transport needs to be played back.

mod cases;
mod conformance;
mod generated_docs;
mod recorded;
mod thresholds;
mod virustotal;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::finding::{Finding, SourceError};
use concord::indicator::{Form, Indicator};
use concord::source::{Answer, AnswerBody, Kind, Lookup, Reading, Source, SourceSettings, SourceView, TransportKind};
use concord::sources;
use secrecy::SecretString;

pub(crate) const KEY: &str = "k3y-that-nobody-may-see";

/// 2026-11-25T00:00:00Z, the moment of every answer here.
pub(crate) fn received() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_564_800)
}

pub(crate) fn http_kinds() -> Vec<Arc<dyn Kind>> {
    sources::all().iter().filter(|kind| kind.about().transport == TransportKind::Http).cloned().collect()
}

/// Every kind of HTTP as one source with a credential.
pub(crate) fn http_sources() -> Vec<Arc<dyn Source>> {
    http_kinds().iter().map(|kind| build(kind, &settings(kind))).collect()
}

pub(crate) fn build(kind: &Arc<dyn Kind>, settings: &SourceSettings) -> Arc<dyn Source> {
    let built = kind.build(&SourceView::new(settings));
    built.unwrap_or_else(|error| panic!("{}: {error:?}", kind.about().kind))
}

/// Sets an option as a user writes it.
pub(crate) fn set_option(settings: &mut SourceSettings, kind: &Arc<dyn Kind>, name: &str, value: &serde_json::Value) {
    let spec = kind.about().options.iter().find(|spec| spec.name == name).unwrap_or_else(|| panic!("no option {name}"));
    settings.options.insert(name.to_owned(), spec.parse(value).unwrap_or_else(|why| panic!("{name}: {why}")));
}

pub(crate) fn settings(kind: &Arc<dyn Kind>) -> SourceSettings {
    let mut settings = SourceSettings::from_defaults(kind.about(), "tested");
    settings.credential = Some(SecretString::from(KEY));
    settings
}

pub(crate) fn lookup(form: Form, value: &str) -> Lookup {
    Lookup::new(Indicator::parse_as(value, form.indicator_type()).expect("an indicator of this form").indicator)
}

pub(crate) fn answer(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Answer {
    Answer { received: received(), ttl: None, body: AnswerBody::Http { status, headers, body } }
}

/// Judges and reads one answer as the engine does.
pub(crate) fn outcome(source: &dyn Source, lookup: &Lookup, answer: Answer) -> Result<Reading, SourceError> {
    source.check(&answer)?;
    source.read(lookup, &[answer])
}

pub(crate) fn found(reading: &Result<Reading, SourceError>) -> Option<&Finding> {
    match reading {
        Ok(Reading::Found(finding)) => Some(finding),
        Ok(Reading::NoRecord | Reading::More { .. }) | Err(_) => None,
    }
}

/// The words in which cases and recorded look-ups state an outcome, without the strength.
pub(crate) fn word(reading: &Result<Reading, SourceError>) -> String {
    match reading {
        Ok(Reading::Found(finding)) if finding.strength.is_none() => format!("finding({})", finding.claim),
        Ok(Reading::Found(finding)) => finding.claim.to_string(),
        Ok(Reading::NoRecord) => "no_record".to_owned(),
        Ok(Reading::More { .. }) => "more".to_owned(),
        Err(error) => format!("error: {}", error.kind.as_str().replace('_', " ")),
    }
}

pub(crate) fn reasons(reading: &Result<Reading, SourceError>) -> String {
    match reading {
        Ok(Reading::Found(finding)) => finding.reasons.join("; "),
        Ok(Reading::NoRecord | Reading::More { .. }) => String::new(),
        Err(error) => error.detail.clone(),
    }
}

/// Whether the reading is what the text states: `malicious .85`, `finding(unknown)`, `no_record`, `error: timeout`.
pub(crate) fn agrees(reading: &Result<Reading, SourceError>, stated: &str) -> bool {
    let wanted = word(reading);
    match found(reading).and_then(|finding| finding.strength) {
        None => stated == wanted,
        Some(strength) => {
            let number = stated.strip_prefix(&wanted).and_then(|text| text.trim().parse::<f64>().ok());
            number.is_some_and(|number| (number - strength.get()).abs() < 1e-9)
        }
    }
}

pub(crate) fn samples(form: Form) -> &'static [&'static str] {
    match form {
        Form::Ipv4 => &["192.0.2.10"],
        Form::Ipv6 => &["2001:db8::10"],
        Form::Domain => &["example.com", "xn--bcher-kva.example.com"],
        Form::Url => &["http://example.com/a?b=c&d=%20#", "https://user:pass@example.com/../x", "ftp://192.0.2.1/"],
        Form::Md5 => &["cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"],
        Form::Sha1 => &["efefefefefefefefefefefefefefefefefefefef"],
        Form::Sha256 => &["abababababababababababababababababababababababababababababababab"],
    }
}
