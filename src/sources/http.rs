//! What all kinds that ask over HTTP share: addresses under the base address, the body of a good answer, what a probe
//! learns from the way its question ended. Sends nothing and knows no source.

use url::Url;

use super::json::{self, Object};
use crate::finding::{SourceError, SourceErrorKind};
use crate::indicator::Form;
use crate::source::{
    Answer, CredentialPlace, HttpMethod, HttpQuestion, Lookup, Probe, Question, SourceView, check_status,
};

/// The address of these path segments under the source's base address, each percent-encoded.
pub(super) fn address(view: SourceView<'_>, segments: &[&str]) -> Result<Url, SourceError> {
    let unset = || SourceError::new(SourceErrorKind::BadQuestion, "the source has no usable base_url");
    let mut url = view.settings.base_url.clone().ok_or_else(unset)?;
    url.path_segments_mut().map_err(|()| unset())?.pop_if_empty().extend(segments);
    Ok(url)
}

/// A GET of this address.
pub(super) fn get(url: Url, credential: CredentialPlace) -> Question {
    let headers = vec![("accept".to_owned(), "application/json".to_owned())];
    Question::Http(HttpQuestion { method: HttpMethod::Get, url, headers, credential })
}

/// A POST of one form field to this address.
pub(super) fn post(url: Url, field: &str, value: &str, credential: CredentialPlace) -> Question {
    let headers = vec![("accept".to_owned(), "application/json".to_owned())];
    let method = HttpMethod::PostForm(vec![(field.to_owned(), value.to_owned())]);
    Question::Http(HttpQuestion { method, url, headers, credential })
}

/// The error for an indicator of a form that the kind does not look up.
pub(super) fn unsupported(form: Form) -> SourceError {
    SourceError::new(SourceErrorKind::BadQuestion, format!("this kind does not look up {}", form.as_str()))
}

/// The answer to the one question that was asked.
pub(super) fn only(answers: &[Answer]) -> Result<&Answer, SourceError> {
    answers.first().ok_or_else(|| SourceError::malformed("there is no answer to read"))
}

/// The body of an answer with a status of success.
pub(super) fn success(answer: &Answer) -> Result<&[u8], SourceError> {
    let (status, body) = answer.http()?;
    check_status(answer)?;
    match status {
        200..=299 => Ok(body),
        _ => Err(SourceError::malformed(format!("HTTP status {status}, which this source does not give"))),
    }
}

/// The HTTP status of an answer.
pub(super) fn status(answer: &Answer) -> Result<u16, SourceError> {
    answer.http().map(|(status, _)| status)
}

/// A probe that asks about one harmless indicator; nothing where even that cannot be asked.
pub(super) fn probe_with(question: Result<Question, SourceError>) -> Vec<Question> {
    question.into_iter().collect()
}

/// What a probe learns from how its question ended. `has_credential`: whether one was sent.
pub(super) fn probe_result(
    answers: &[Result<Answer, SourceError>],
    check: impl Fn(&Answer) -> Result<(), SourceError>,
    has_credential: bool,
) -> Probe {
    let outcome = match answers.first() {
        None => Err(SourceError::new(SourceErrorKind::BadQuestion, "nothing could be asked; is base_url set?")),
        Some(Err(error)) => Err(error.clone()),
        Some(Ok(answer)) => check(answer).and_then(|()| is_document(answer)),
    };
    match outcome {
        Ok(()) => probe(Ok(()), has_credential.then_some(true), "the source answers".to_owned()),
        Err(error) => failed_probe(error),
    }
}

/// A success that is no JSON object is not the source's: a login page of the network, a wrong base address.
fn is_document(answer: &Answer) -> Result<(), SourceError> {
    let value = json::parse(success(answer)?)?;
    Object::root(&value).map(|_| ())
}

/// A refusal shows that the source was reached; anything else shows that it was not.
fn failed_probe(error: SourceError) -> Probe {
    let detail = error.to_string();
    match error.kind {
        SourceErrorKind::Unauthorized => probe(Ok(()), Some(false), detail),
        SourceErrorKind::Forbidden | SourceErrorKind::QuotaExhausted => probe(Ok(()), None, detail),
        SourceErrorKind::BadQuestion
        | SourceErrorKind::Refused
        | SourceErrorKind::Unavailable
        | SourceErrorKind::Timeout
        | SourceErrorKind::Malformed
        | SourceErrorKind::TooLarge => probe(Err(error), None, detail),
    }
}

fn probe(connectivity: Result<(), SourceError>, credential_accepted: Option<bool>, detail: String) -> Probe {
    Probe { connectivity, credential_accepted, tier: None, quota_left: Vec::new(), detail }
}

/// The form and value of what is looked up.
pub(super) fn subject(lookup: &Lookup) -> (Form, &str) {
    (lookup.indicator.form(), lookup.indicator.value())
}

/// Whether the source has a credential to send.
pub(super) fn has_credential(view: SourceView<'_>) -> bool {
    view.settings.credential.is_some()
}
