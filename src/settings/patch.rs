//! The settings of one source in layers: the kind's defaults, what file or environment declares, what the API patched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::options;
use crate::error::{Reason, Violation};
use crate::indicator::hex;
use crate::source::{
    About, BuildError, CredentialNeed, EgressRules, Kind, OptionSpec, OptionType, OptionValue, QuotaPer, QuotaWindow,
    Source, SourceSettings, SourceView, Unconfigured, parse_address, parse_duration,
};

const LONGEST_FAMILY: usize = 63;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);
const LONGEST_KEEP: Duration = Duration::from_secs(3650 * 86_400);
/// Fields of a patch by their paths, but for `kind`, which never changes, and the options, which have paths each.
const FIELDS: [&str; 11] = [
    "enabled",
    "reliability",
    "base_url",
    "family",
    "tier",
    "quota",
    "timeout",
    "finding_ttl",
    "no_record_ttl",
    "max_tlp",
    "proxy",
];

/// What one layer says of a source; unset fields are left to the layer below. Written as in the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourcePatch {
    /// Its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whether it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reliability: Option<String>,
    /// Where questions go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Family; empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Calls by window: `minute`, `day`, `month`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<BTreeMap<String, u64>>,
    /// Time for one attempt, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How long a finding is kept, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding_ttl: Option<String>,
    /// How long "no record" is kept, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_record_ttl: Option<String>,
    /// Highest TLP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tlp: Option<String>,
    /// Proxy; empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// PEM of authorities; empty: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Options by name.
    pub options: BTreeMap<String, Value>,
}

impl SourcePatch {
    /// The paths that a mask may name; an option's path is `options.NAME`.
    pub(super) fn is_path(path: &str) -> bool {
        FIELDS.contains(&path) || path == "ca_pem" || path == "options" || path.starts_with("options.")
    }

    /// The paths of the fields that this layer sets, but for `kind`.
    pub(super) fn paths(&self) -> Vec<String> {
        let fields = FIELDS.iter().chain(&["ca_pem"]).filter(|path| self.clone_of(path) != Some(Self::default()));
        fields.map(|path| (*path).to_owned()).chain(self.options.keys().map(|name| format!("options.{name}"))).collect()
    }

    /// A patch that sets this one field as this layer does; `None` for an unknown path.
    fn clone_of(&self, path: &str) -> Option<Self> {
        let mut only = Self::default();
        only.copy(path, self).then_some(only)
    }

    /// Takes the field at `path` from `other`, set or unset; false for an unknown path.
    pub(super) fn copy(&mut self, path: &str, other: &Self) -> bool {
        match path {
            "enabled" => self.enabled = other.enabled,
            "reliability" => self.reliability.clone_from(&other.reliability),
            "base_url" => self.base_url.clone_from(&other.base_url),
            "family" => self.family.clone_from(&other.family),
            "tier" => self.tier.clone_from(&other.tier),
            "quota" => self.quota.clone_from(&other.quota),
            "timeout" => self.timeout.clone_from(&other.timeout),
            "finding_ttl" => self.finding_ttl.clone_from(&other.finding_ttl),
            "no_record_ttl" => self.no_record_ttl.clone_from(&other.no_record_ttl),
            "max_tlp" => self.max_tlp.clone_from(&other.max_tlp),
            "proxy" => self.proxy.clone_from(&other.proxy),
            "ca_pem" => self.ca_pem.clone_from(&other.ca_pem),
            "options" => self.options.clone_from(&other.options),
            _ => return self.copy_option(path, other),
        }
        true
    }

    fn copy_option(&mut self, path: &str, other: &Self) -> bool {
        let Some(name) = path.strip_prefix("options.") else { return false };
        match other.options.get(name) {
            Some(value) => self.options.insert(name.to_owned(), value.clone()),
            None => self.options.remove(name),
        };
        true
    }

    /// This layer with `above` laid over it.
    pub(super) fn overlaid_with(&self, above: &Self) -> Self {
        let mut both = self.clone();
        for path in above.paths() {
            both.copy(&path, above);
        }
        both.kind = above.kind.clone().or(both.kind);
        both
    }
}

/// A source under the settings in effect.
pub(super) struct Built {
    pub(super) settings: SourceSettings,
    pub(super) source: Arc<dyn Source>,
    /// What it lacks to be asked, if anything.
    pub(super) missing: Option<String>,
}

/// The source with its kind's defaults and `patch` over them. Looks where the files lead that its options name.
///
/// # Errors
/// Every mistake, with its path below the source.
pub(super) fn build(
    kind: &Arc<dyn Kind>,
    name: &str,
    patch: &SourcePatch,
    credential: Option<SecretString>,
) -> Result<Built, Vec<Violation>> {
    let about = kind.about();
    let mut mistakes = Vec::new();
    let mut settings = SourceSettings::from_defaults(about, name);
    settings.credential = credential;
    common(&mut settings, patch, &mut mistakes);
    tier(&mut settings, about, patch, &mut mistakes);
    let before = mistakes.len();
    set_options(&mut settings, about, patch, &mut mistakes);
    // Only options that are right each by itself can contradict each other.
    let built = if mistakes.len() == before { kind.build(&SourceView::new(&settings)) } else { Err(invalid()) };
    if settings.credential.is_some() && about.credential == CredentialNeed::None {
        mistakes.push(Violation::invalid("credential", format!("{} takes no credential", about.kind)));
    }
    let (source, mut missing): (Arc<dyn Source>, _) = match built {
        Ok(source) => (source, None),
        Err(BuildError::Missing(why)) => (Arc::new(Unconfigured::new(kind.clone(), why.clone())), Some(why)),
        Err(BuildError::Invalid(wrong)) => {
            let wrong = wrong.into_iter();
            mistakes.extend(wrong.map(|wrong| Violation::invalid(format!("options.{}", wrong.option), wrong.message)));
            return Err(mistakes);
        }
    };
    if about.credential == CredentialNeed::Required && settings.credential.is_none() {
        missing = Some(format!("a credential is needed; see {}", about.home_page));
    }
    if mistakes.is_empty() { Ok(Built { settings, source, missing }) } else { Err(mistakes) }
}

fn invalid() -> BuildError {
    BuildError::Invalid(Vec::new())
}

/// What is wrong with a source whose kind is none of `kinds`: the kind itself, and the fields that are read alike for every
/// kind.
pub(super) fn without_kind(patch: &SourcePatch, kinds: &[Arc<dyn Kind>]) -> Vec<Violation> {
    let known: Vec<_> = kinds.iter().map(|kind| kind.about().kind.as_str()).collect();
    let known = known.join(", ");
    let mut mistakes = vec![match &patch.kind {
        Some(kind) => Violation::new("kind", Reason::KindUnknown, format!("{kind:?} is no kind; use one of {known}")),
        None => Violation::new("kind", Reason::FieldRequired, format!("every source needs its kind: {known}")),
    }];
    if let Some(any) = kinds.first() {
        common(&mut SourceSettings::from_defaults(any.about(), ""), patch, &mut mistakes);
    }
    mistakes
}

/// Reads the fields that mean the same for every kind.
fn common(settings: &mut SourceSettings, patch: &SourcePatch, mistakes: &mut Vec<Violation>) {
    settings.enabled = patch.enabled.unwrap_or(true);
    word(&mut settings.reliability, &patch.reliability, "reliability", mistakes);
    word(&mut settings.max_tlp, &patch.max_tlp, "max_tlp", mistakes);
    duration(&mut settings.timeout, &patch.timeout, "timeout", mistakes);
    duration(&mut settings.cache_ttl.finding, &patch.finding_ttl, "finding_ttl", mistakes);
    duration(&mut settings.cache_ttl.no_record, &patch.no_record_ttl, "no_record_ttl", mistakes);
    for (field, keep) in [("finding_ttl", settings.cache_ttl.finding), ("no_record_ttl", settings.cache_ttl.no_record)]
    {
        if keep > LONGEST_KEEP {
            mistakes.push(Violation::invalid(field, "must be at most 10 years"));
        }
    }
    if settings.timeout.is_zero() || settings.timeout > LONGEST_TIMEOUT {
        mistakes.push(Violation::invalid("timeout", "must be above zero and at most 5 minutes"));
    }
    if let Some(family) = &patch.family {
        settings.family = (!family.trim().is_empty()).then(|| family.trim().to_owned());
        if family.trim().chars().count() > LONGEST_FAMILY || family.trim().chars().any(char::is_control) {
            mistakes.push(Violation::invalid("family", "must be one line of at most 63 characters"));
        }
    }
    set_addresses(settings, patch, mistakes);
    settings.ca_pem = patch.ca_pem.clone().filter(|pem| !pem.trim().is_empty());
    if settings.ca_pem.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
        mistakes.push(Violation::invalid("ca_pem", "holds no PEM certificate"));
    }
}

fn set_addresses(settings: &mut SourceSettings, patch: &SourcePatch, mistakes: &mut Vec<Violation>) {
    settings.base_url = address(&patch.base_url, "base_url", mistakes).or(settings.base_url.take());
    if settings.base_url.as_ref().is_some_and(|url| url.query().is_some() || url.fragment().is_some()) {
        mistakes.push(Violation::invalid("base_url", "must end before any ? or #: questions add what they need"));
    }
    settings.proxy = address(&patch.proxy, "proxy", mistakes);
    for (field, url) in [("base_url", &settings.base_url), ("proxy", &settings.proxy)] {
        let checked = url.as_ref().map(|url| EgressRules::default().check_url(url));
        mistakes.extend(checked.and_then(Result::err).map(|why| Violation::new(field, Reason::EgressForbidden, why)));
    }
}

fn set_options(settings: &mut SourceSettings, about: &About, patch: &SourcePatch, mistakes: &mut Vec<Violation>) {
    for (name, value) in &patch.options {
        let value = match options::parse(about, name, value) {
            Ok(value) => value,
            Err(violation) => {
                mistakes.push(violation.nested_in("options"));
                continue;
            }
        };
        if let Err(why) = check_egress(&EgressRules::default(), &value) {
            mistakes.push(Violation::new(format!("options.{name}"), Reason::EgressForbidden, why));
        }
        if let OptionValue::Path(path) = &value
            && let Ok(real) = path.canonicalize()
        {
            settings.real_files.insert(name.clone(), real);
        }
        settings.options.insert(name.clone(), value);
    }
}

/// Whether the address or resolver that an option names may be reached.
pub(super) fn check_egress(rules: &EgressRules, value: &OptionValue) -> Result<(), String> {
    match value {
        OptionValue::Address(url) => rules.check_url(url),
        OptionValue::Resolver(address) => rules.check_ip(address.ip()),
        OptionValue::Integer(_)
        | OptionValue::Number(_)
        | OptionValue::Flag(_)
        | OptionValue::Text(_)
        | OptionValue::Choice(_)
        | OptionValue::Duration(_)
        | OptionValue::Path(_)
        | OptionValue::List(_)
        | OptionValue::Table(_) => Ok(()),
    }
}

/// Which file cannot be read that the options name, and why.
pub(super) fn unreadable(settings: &SourceSettings) -> Option<String> {
    settings.options.iter().find_map(|(name, value)| {
        let OptionValue::Path(path) = value else { return None };
        // Only a file is opened: a pipe would wait for its other end.
        let why = match std::fs::metadata(path) {
            Ok(about) if !about.is_file() => "is not a file".to_owned(),
            Ok(_) => std::fs::File::open(path).err()?.to_string(),
            Err(error) => error.to_string(),
        };
        Some(format!("options.{name}: {}: {why}", path.display()))
    })
}

/// Everything that decides where a credential goes, as a hash: it may not be joined to another one without being given
/// again. What is the kind's default counts as unset, so that it is the same when a later version has more options.
pub(super) fn credential_scope(about: &About, settings: &SourceSettings) -> String {
    let usual = SourceSettings::from_defaults(about, &settings.name);
    let leads = |spec: &&OptionSpec| spec.value_type.is_location() || spec.value_type == OptionType::Text;
    let set = |spec: &OptionSpec| {
        let value = settings.options.get(&spec.name).filter(|value| usual.options.get(&spec.name) != Some(*value));
        Some((spec.name.clone(), OptionValue::Text(value?.to_string())))
    };
    let options: Vec<_> = about.options.iter().filter(leads).filter_map(set).collect();
    let base_url = settings.base_url.as_ref().filter(|url| usual.base_url.as_ref() != Some(*url));
    let said = format!("{:?} {base_url:?} {:?} {:?} {options:?}", about.kind, settings.proxy, settings.ca_pem);
    hex(digest::digest(&digest::SHA256, said.as_bytes()).as_ref())
}

fn tier(settings: &mut SourceSettings, about: &About, patch: &SourcePatch, mistakes: &mut Vec<Violation>) {
    if let Some(wanted) = &patch.tier {
        match about.tiers.iter().find(|tier| tier.name == *wanted) {
            Some(tier) => {
                settings.tier.clone_from(&tier.name);
                settings.quota.clone_from(&tier.quota);
            }
            None => {
                let known: Vec<_> = about.tiers.iter().map(|tier| tier.name.as_str()).collect();
                mistakes.push(Violation::invalid(
                    "tier",
                    format!("{wanted:?} is no tier; use one of {}", known.join(", ")),
                ));
            }
        }
    }
    if let Some(quota) = &patch.quota {
        settings.quota = quota.iter().filter_map(|(per, limit)| window(per, *limit, mistakes)).collect();
        settings.quota.sort_by_key(|window| window.per);
    }
}

fn window(per: &str, limit: u64, mistakes: &mut Vec<Violation>) -> Option<QuotaWindow> {
    let per = match per.parse::<QuotaPer>() {
        Ok(per) => per,
        Err(unknown) => {
            mistakes.push(Violation::invalid("quota", unknown.to_string()));
            return None;
        }
    };
    if limit == 0 {
        let message = "must be at least 1; to stop asking, disable the source";
        mistakes.push(Violation::invalid(format!("quota.{}", per.as_str()), message));
        return None;
    }
    Some(QuotaWindow { per, limit })
}

fn word<T: std::str::FromStr>(into: &mut T, text: &Option<String>, field: &str, mistakes: &mut Vec<Violation>)
where
    T::Err: std::fmt::Display,
{
    match text.as_deref().map(str::parse) {
        Some(Ok(word)) => *into = word,
        Some(Err(error)) => mistakes.push(Violation::invalid(field, error.to_string())),
        None => {}
    }
}

fn duration(into: &mut Duration, text: &Option<String>, field: &str, mistakes: &mut Vec<Violation>) {
    match text.as_deref().map(parse_duration) {
        Some(Ok(duration)) => *into = duration,
        Some(Err(message)) => mistakes.push(Violation::invalid(field, message)),
        None => {}
    }
}

/// Reads an address; empty is none.
fn address(text: &Option<String>, field: &str, mistakes: &mut Vec<Violation>) -> Option<Url> {
    let text = text.as_deref().map(str::trim).filter(|text| !text.is_empty())?;
    match parse_address(text) {
        Ok(url) => Some(url),
        Err(message) => {
            mistakes.push(Violation::new(field, Reason::FieldInvalid, message));
            None
        }
    }
}
