//! What all kinds that ask over HTTP share: the [`Source`] of a [`JsonSource`], questions under the base address, refusals as
//! a table, pairs of thresholds. Sends nothing and knows no source.

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use url::Url;

use super::json::{self, Object};
use crate::finding::{Disposition, Finding, Reliability, SourceError, SourceErrorKind, Strength};
use crate::indicator::{Form, Indicator, IndicatorType, Tlp};
use crate::source::{
    About, Allowance, Answer, BuildError, BuildResult, CacheTtl, CredentialNeed, CredentialPlace, HttpMethod,
    HttpQuestion, Lookup, OptionDef, OptionSpec, Probe, Question, QuotaPer, QuotaWindow, Reading, Source, SourceView,
    SubmissionSource, Tier, TransportKind, check_status,
};

/// What most kinds that ask over HTTP have in common; each adds its names, forms, tiers and times to live.
pub(super) fn about() -> About {
    About {
        kind: String::new(),
        title: String::new(),
        summary: String::new(),
        home_page: String::new(),
        terms: String::new(),
        forms: Vec::new(),
        transport: TransportKind::Http,
        credential: CredentialNeed::Required,
        credential_env: None,
        base_url: None,
        tiers: Vec::new(),
        reliability: Reliability::C,
        greatest_strength: Strength::FULL,
        max_tlp: Tlp::Amber,
        timeout: Duration::from_secs(5),
        cache_ttl: CacheTtl::new(Duration::ZERO, Duration::ZERO),
        family: None,
        options: Vec::new(),
        relationships: &[],
        fetch_revision: 1,
        rating_revision: 1,
    }
}

/// The base address of a kind. That every kind of HTTP has one is tested, so that a misspelt one is found.
pub(super) fn base_url(text: &str) -> Option<Url> {
    Url::parse(text).ok()
}

/// Times to live in hours.
pub(super) fn hours(finding: u64, no_record: u64) -> CacheTtl {
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    CacheTtl::new(hours(finding), hours(no_record))
}

/// A tier with these quota windows.
pub(super) fn tier(name: &str, help: &str, quota: &[(QuotaPer, u64)]) -> Tier {
    let quota = quota.iter().map(|(per, limit)| QuotaWindow { per: *per, limit: *limit }).collect();
    Tier { name: name.into(), help: help.into(), quota }
}

/// Two options of a kind: from which number on an answer is malicious, and from which suspicious.
pub(super) struct ThresholdOptions {
    pub(super) malicious: OptionDef<u64>,
    pub(super) suspicious: OptionDef<u64>,
}

/// The values of [`ThresholdOptions`].
pub(super) struct Thresholds {
    pub(super) malicious: u64,
    pub(super) suspicious: u64,
}

impl ThresholdOptions {
    pub(super) fn specs(&self) -> [OptionSpec; 2] {
        [self.malicious.spec(), self.suspicious.spec()]
    }

    pub(super) fn get(&self, view: &SourceView<'_>) -> Result<Thresholds, BuildError> {
        Ok(Thresholds { malicious: view.get(&self.malicious)?, suspicious: view.get(&self.suspicious)? })
    }

    /// Their values where both are thresholds of the same number, so that suspicious must not be above malicious.
    pub(super) fn get_ordered(&self, view: &SourceView<'_>) -> Result<Thresholds, BuildError> {
        let thresholds @ Thresholds { malicious, suspicious } = self.get(view)?;
        if suspicious <= malicious {
            return Ok(thresholds);
        }
        let name = self.malicious.name;
        let message =
            format!("{suspicious} is above {name} ({malicious}), so it would never be reached: at most {malicious}");
        Err(BuildError::invalid(self.suspicious.name, message))
    }
}

/// A finding with this strength, 0 to 1. One that takes no side has none.
pub(super) fn found(claim: Disposition, strength: f64, reason: impl Into<String>) -> Finding {
    let strength = (claim != Disposition::Unknown).then(|| Strength::clamped(strength));
    Finding::new(claim, strength, reason)
}

/// Where a source is asked, and where its credential goes.
#[derive(Clone)]
pub(super) struct Api {
    base: Url,
    credential: CredentialPlace,
    pub(super) has_credential: bool,
}

impl Api {
    #[cfg(test)]
    pub(super) fn for_tests(base: Url, credential: CredentialPlace) -> Self {
        Self { base, credential, has_credential: true }
    }

    /// The address of these path segments under the base address, each percent-encoded.
    pub(super) fn address(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Fails only for addresses that `new` refuses.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// A GET of these path segments.
    pub(super) fn get(&self, segments: &[&str]) -> Question {
        self.ask(self.address(segments), HttpMethod::Get)
    }

    /// A question to this address.
    pub(super) fn ask(&self, url: Url, method: HttpMethod) -> Question {
        let headers = vec![("accept".to_owned(), "application/json".to_owned())];
        Question::Http(HttpQuestion { method, url, headers, credential: self.credential.clone() })
    }
}

/// By what a refusal is known.
pub(super) enum Sign {
    /// The HTTP status.
    Status(u16),
    /// A member that holds this text, letter case aside, under any status.
    Text(&'static str, &'static str),
    /// A member whose text begins so, under any status.
    Prefix(&'static str, &'static str),
}

/// A refusal of a kind: its sign, what it is to us, and the detail of the error.
pub(super) type Refusal = (Sign, SourceErrorKind, &'static str);

/// The finding of an answer; `None`: the source has nothing on the indicator.
pub(super) type ReadResult = Result<Option<Finding>, SourceError>;

/// What one kind knows of its source: the question, and what the one JSON object that answers it means. [`source`] makes a
/// [`Source`] of it; a source that works otherwise implements `Source` itself.
pub(super) trait JsonSource: Send + Sync + 'static {
    /// Refusals that [`check_status`] would not see or would take for another kind of error, the first that fits first.
    const REFUSALS: &'static [Refusal] = &[];

    /// The page for people about a value is this address with the value behind it.
    const PAGE: Option<&'static str> = None;

    /// The question about a value of one of the kind's forms.
    fn question(&self, api: &Api, form: Form, value: &str) -> Question;

    /// The first question of a look-up, where more than the value decides it.
    fn ask(&self, api: &Api, lookup: &Lookup) -> Question {
        self.question(api, lookup.indicator.form(), lookup.indicator.value())
    }

    /// Reads a successful answer to the first question.
    fn read(&self, indicator: &Indicator, record: &Object<'_>, received: SystemTime) -> ReadResult;

    /// Reads a 404. It means "no record" only in the source's own words: a gateway and a wrong base address give one too.
    fn read_not_found(&self, _: &Indicator, _: &Object<'_>, _: SystemTime) -> ReadResult {
        Err(SourceError::malformed("HTTP status 404, which this source does not give"))
    }

    /// What else is asked after the first answer, given its record, its finding and the further answers so far.
    fn follow_up(
        &self,
        _: &Api,
        _: &Lookup,
        _: &Object<'_>,
        finding: Finding,
        _: &[Answer],
    ) -> Result<Reading, SourceError> {
        Ok(Reading::Found(finding))
    }

    /// The look-up without what this source does not ask differently for.
    fn normalize(&self, lookup: &Lookup) -> Lookup {
        Lookup::new(lookup.indicator.clone())
    }

    /// Most questions that a look-up may take.
    fn max_questions(&self, _: &Lookup) -> u32 {
        1
    }

    /// Takes note that this further question failed. Whether it failed for good.
    fn note_refusal(&self, _: &Api, _: &Lookup, _: &Question, _: &SourceError) -> bool {
        false
    }

    /// Why this further question would be refused, as far as earlier refusals show.
    fn known_refusal(&self, _: &Api, _: &Lookup, _: &Question) -> Option<SourceError> {
        None
    }

    /// The further questions that are known to be refused, one bit each.
    fn refusals(&self) -> u32 {
        0
    }

    /// Whether a look-up of this type that names these relationships, or none, brings related indicators.
    fn leads_on(&self, _: IndicatorType, _: &[String]) -> bool {
        false
    }

    /// What in the settings is probably not meant so, one sentence each.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether an answer is a refusal.
    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        let (status, body) = answer.http()?;
        // What cannot be read is no refusal by its text: reading the answer says what is wrong with it.
        let document = LazyCell::new(|| json::parse(body).unwrap_or_default());
        let text = |member| Some(Object::root(&document).ok()?.text_if_any(member)?.to_ascii_lowercase());
        let fits = |sign: &Sign| match *sign {
            Sign::Status(wanted) => status == wanted,
            Sign::Text(member, wanted) => text(member).is_some_and(|text| text == wanted),
            Sign::Prefix(member, wanted) => text(member).is_some_and(|text| text.starts_with(wanted)),
        };
        match Self::REFUSALS.iter().find(|(sign, _, _)| fits(sign)) {
            Some((_, kind, detail)) => Err(SourceError::new(*kind, *detail).retry_after(answer.retry_after())),
            None => check_status(answer),
        }
    }

    /// The time until a spent quota is renewed, for a refusal without `Retry-After`.
    fn quota_renewal(&self, _: &Answer) -> Option<Duration> {
        None
    }

    /// The question of a probe, where the source has a better one than about a well-known value.
    fn probe(&self, _: &Api) -> Option<Question> {
        None
    }

    /// The question about the allowance of the key, if the source reports it.
    fn allowance_question(&self, _: &Api) -> Option<Question> {
        None
    }

    /// Reads the answer to [`JsonSource::allowance_question`].
    fn read_allowance(&self, _: &Object<'_>) -> Result<Allowance, SourceError> {
        Err(SourceError::malformed("this kind does not read allowances"))
    }

    /// What the source takes for analysis.
    fn submissions(&self, _: &Api) -> Option<Box<dyn SubmissionSource>> {
        None
    }

    /// Adds what the answer to a probe says beside being one, such as the quota that is left.
    fn extend_probe(&self, _: &mut Probe, _: &Answer) {}
}

/// The source with these settings, of this kind.
pub(super) fn source<S: JsonSource>(
    about: &'static About,
    view: &SourceView<'_>,
    credential: CredentialPlace,
    source: S,
) -> BuildResult {
    let usable = view.base_url().filter(|url| !url.cannot_be_a_base());
    let base = usable.ok_or_else(|| BuildError::Missing("needs base_url, an address of http or https".into()))?;
    let has_credential = credential != CredentialPlace::None && view.has_credential();
    let api = Api { base: base.clone(), credential, has_credential };
    let submissions = source.submissions(&api);
    Ok(Arc::new(HttpSource { about, api, source, submissions }))
}

struct HttpSource<S> {
    about: &'static About,
    api: Api,
    source: S,
    submissions: Option<Box<dyn SubmissionSource>>,
}

impl<S: JsonSource> HttpSource<S> {
    fn check_form(&self, form: Form) -> Result<(), SourceError> {
        if self.supports(form) {
            return Ok(());
        }
        let detail = format!("this kind does not look up {}", form.as_str());
        Err(SourceError::new(SourceErrorKind::BadQuestion, detail))
    }
}

impl<S: JsonSource> Source for HttpSource<S> {
    fn about(&self) -> &About {
        self.about
    }

    fn ask(&self, lookup: &Lookup) -> Result<Question, SourceError> {
        let form = lookup.indicator.form();
        self.check_form(form)?;
        Ok(self.source.ask(&self.api, lookup))
    }

    fn read(&self, lookup: &Lookup, answers: &[Answer]) -> Result<Reading, SourceError> {
        self.check_form(lookup.indicator.form())?;
        let answer = answers.first().ok_or_else(|| SourceError::malformed("there is no answer to read"))?;
        let (status, body) = answer.http()?;
        let document = json::parse(if status == 404 { body } else { success(answer)? })?;
        let (indicator, record) = (&lookup.indicator, Object::root(&document)?);
        let finding = match status {
            404 => self.source.read_not_found(indicator, &record, answer.received)?,
            _ => self.source.read(indicator, &record, answer.received)?,
        };
        let Some(mut finding) = finding else { return Ok(Reading::NoRecord) };
        let page = S::PAGE.map(|page| format!("{page}{}", indicator.value()));
        finding.permalink = finding.permalink.or(page);
        self.source.follow_up(&self.api, lookup, &record, finding, &answers[1..])
    }

    fn note_refusal(&self, lookup: &Lookup, question: &Question, error: &SourceError) -> bool {
        self.source.note_refusal(&self.api, lookup, question, error)
    }

    fn known_refusal(&self, lookup: &Lookup, question: &Question) -> Option<SourceError> {
        self.source.known_refusal(&self.api, lookup, question)
    }

    fn refusals(&self) -> u32 {
        self.source.refusals()
    }

    fn leads_on(&self, of: IndicatorType, names: &[String]) -> bool {
        self.source.leads_on(of, names)
    }

    fn normalize(&self, lookup: &Lookup) -> Lookup {
        self.source.normalize(lookup)
    }

    fn max_questions(&self, lookup: &Lookup) -> u32 {
        self.source.max_questions(lookup)
    }

    fn warnings(&self) -> Vec<String> {
        self.source.warnings()
    }

    fn check(&self, answer: &Answer) -> Result<(), SourceError> {
        self.source.check(answer).map_err(|error| match (error.kind, error.retry_after) {
            (SourceErrorKind::QuotaExhausted, None) => error.retry_after(self.source.quota_renewal(answer)),
            _ => error,
        })
    }

    fn submissions(&self) -> Option<&dyn SubmissionSource> {
        self.submissions.as_deref()
    }

    fn allowance_question(&self) -> Option<Question> {
        self.api.has_credential.then(|| self.source.allowance_question(&self.api)).flatten()
    }

    fn read_allowance(&self, answer: &Answer) -> Result<Allowance, SourceError> {
        let document = json::parse(success(answer)?)?;
        self.source.read_allowance(&Object::root(&document)?)
    }

    fn probe(&self) -> Vec<Question> {
        let ask = |form: &Form| self.source.question(&self.api, *form, well_known(*form));
        self.source.probe(&self.api).or_else(|| self.about.forms.first().map(ask)).into_iter().collect()
    }

    fn read_probe(&self, answers: &[Result<Answer, SourceError>]) -> Probe {
        let Some(answer) = answers.first() else {
            return Probe::failed(SourceError::new(SourceErrorKind::BadQuestion, "nothing was asked"));
        };
        let outcome = answer.as_ref().map_err(Clone::clone).and_then(|answer| {
            self.check(answer)?;
            // A success that is no JSON object is not the source's: a login page of the network, a wrong base address.
            Object::root(&json::parse(success(answer)?)?).map(|_| ())
        });
        let mut probe = probe(outcome, self.api.has_credential);
        if let Ok(answer) = answer {
            self.source.extend_probe(&mut probe, answer);
        }
        probe
    }
}

/// A value that nobody minds being asked about.
fn well_known(form: Form) -> &'static str {
    match form {
        Form::Ipv4 => "8.8.8.8",
        Form::Ipv6 => "2001:4860:4860::8888",
        Form::Domain => "example.com",
        Form::Url => "http://example.com/",
        // The empty file.
        Form::Md5 => "d41d8cd98f00b204e9800998ecf8427e",
        Form::Sha1 => "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        Form::Sha256 => "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
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

/// What a probe learned from how its question ended. `has_credential`: whether one was sent.
fn probe(outcome: Result<(), SourceError>, has_credential: bool) -> Probe {
    let Err(error) = outcome else {
        return Probe::new(Ok(()), has_credential.then_some(true), "the source answers".to_owned());
    };
    let detail = error.to_string();
    match error.kind {
        // A refusal shows that the source was reached.
        SourceErrorKind::Unauthorized => Probe::new(Ok(()), Some(false), detail),
        SourceErrorKind::Forbidden | SourceErrorKind::QuotaExhausted => Probe::new(Ok(()), None, detail),
        SourceErrorKind::BadQuestion
        | SourceErrorKind::Refused
        | SourceErrorKind::Unavailable
        | SourceErrorKind::Timeout
        | SourceErrorKind::Malformed
        | SourceErrorKind::TooLarge => Probe::new(Err(error), None, detail),
    }
}

/// Reads a 404 as "no record" that has a message and repeats in the member `subject` what was asked about. A gateway's page
/// has no message, and a gateway's message no subject.
pub(super) fn no_record(body: &Object<'_>, subject: &str) -> ReadResult {
    body.need_text("message")?;
    body.need_text(subject).map(|_| None)
}

/// A text of an answer under any status, where it can be read.
pub(super) fn text_of(answer: &Answer, path: &str) -> Option<String> {
    let document = json::parse(answer.http().ok()?.1).ok()?;
    Object::root(&document).ok()?.text_if_any(path).map(str::to_owned)
}

/// The time until the moment, in seconds since 1970, that this header gives.
pub(super) fn time_until(answer: &Answer, header: &str) -> Option<Duration> {
    let seconds = answer.header(header)?.trim().parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?.duration_since(answer.received).ok()
}

/// The time until the next day of UTC.
pub(super) fn until_next_day(received: SystemTime) -> Option<Duration> {
    let second = received.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs() % 86_400;
    Some(Duration::from_secs(86_400 - second))
}
