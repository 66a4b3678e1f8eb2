//! From the layers of a source to the source itself: settings in effect, checked, and what its kind builds from them.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use secrecy::SecretString;

use super::form::NO_CALLS;
use super::{SourcePatch, options};
use crate::error::{Reason, Violation};
use crate::indicator::hex;
use crate::source::{
    About, BuildError, CredentialNeed, EgressRules, Kind, OptionSpec, OptionType, OptionValue, Source, SourceSettings,
    SourceView, Unconfigured,
};

const MAX_FAMILY: usize = 63;
const MAX_TIMEOUT: Duration = Duration::from_secs(300);
const MAX_CONCURRENCY: u32 = 1000;
const MAX_TTL: Duration = Duration::from_secs(3650 * 86_400);

/// A source under the settings in effect.
pub(super) struct Built {
    pub(super) settings: SourceSettings,
    pub(super) source: Arc<dyn Source>,
    /// What is missing for it to be asked, if anything.
    pub(super) missing: Option<String>,
}

/// The source with its kind's defaults and `patch` over them. Looks where the files lead that its options name.
///
/// # Errors
/// Every violation, with its path below the source.
pub(super) fn build(
    kind: &Arc<dyn Kind>,
    name: &str,
    patch: &SourcePatch,
    credential: Option<SecretString>,
) -> Result<Built, Vec<Violation>> {
    let about = kind.about();
    let (mut settings, mut violations) = settings(about, name, patch, credential);
    // Only options that are right each by itself can contradict each other.
    if violations.iter().any(|violation| violation.field.starts_with("options.")) {
        return Err(violations);
    }
    follow_links(&mut settings);
    let (source, mut missing): (Arc<dyn Source>, _) = match kind.build(&SourceView::new(&settings)) {
        Ok(source) => (source, None),
        Err(BuildError::Missing(why)) => (Arc::new(Unconfigured::new(kind.clone(), why.clone())), Some(why)),
        Err(BuildError::Invalid(wrong)) => {
            let wrong = wrong.into_iter();
            violations
                .extend(wrong.map(|wrong| Violation::invalid(format!("options.{}", wrong.option), wrong.message)));
            return Err(violations);
        }
    };
    if about.credential == CredentialNeed::Required && settings.credential.is_none() {
        missing = Some(format!("a credential is needed; see {}", about.home_page));
    }
    if violations.is_empty() { Ok(Built { settings, source, missing }) } else { Err(violations) }
}

/// The kind's defaults with `patch` over them, and everything that is wrong with it. Touches no file.
fn settings(
    about: &About,
    name: &str,
    patch: &SourcePatch,
    credential: Option<SecretString>,
) -> (SourceSettings, Vec<Violation>) {
    let mut violations = Vec::new();
    let mut settings = SourceSettings::from_defaults(about, name);
    settings.credential = credential;
    let tier = patch.tier.as_ref().map(|name| about.tiers.iter().find(|tier| tier.name == *name).ok_or(name));
    // A tier brings its quota, unless the patch has one of its own.
    if let Some(Ok(tier)) = tier {
        settings.quota.clone_from(&tier.quota);
    }
    patch.apply(&mut settings);
    settings.family = settings.family.map(|family| family.trim().to_owned());
    check(&settings, &mut violations);
    if let Some(Err(wanted)) = tier {
        let known: Vec<_> = about.tiers.iter().map(|tier| tier.name.as_str()).collect();
        violations.push(Violation::invalid("tier", format!("{wanted:?} is no tier; use one of {}", known.join(", "))));
    }
    for (name, value) in &patch.options {
        match options::parse(about, name, value) {
            Ok(value) => {
                if let Err(why) = check_egress(&EgressRules::default(), &value) {
                    violations.push(Violation::new(format!("options.{name}"), Reason::EgressForbidden, why));
                }
                settings.options.insert(name.clone(), value);
            }
            Err(violation) => violations.push(violation.nested_in("options")),
        }
    }
    if settings.credential.is_some() && about.credential == CredentialNeed::None {
        violations.push(Violation::invalid("credential", format!("{} takes no credential", about.kind)));
    }
    (settings, violations)
}

/// Notes where the files lead that the options name.
fn follow_links(settings: &mut SourceSettings) {
    for (name, value) in &settings.options {
        if let OptionValue::Path(path) = value
            && let Ok(real) = path.canonicalize()
        {
            settings.real_files.insert(name.clone(), real);
        }
    }
}

/// What is wrong with a source whose kind is none of `kinds`: the kind itself, and the fields that mean the same for every
/// kind.
pub(super) fn without_kind(patch: &SourcePatch, kinds: &[Arc<dyn Kind>]) -> Vec<Violation> {
    let known: Vec<_> = kinds.iter().map(|kind| kind.about().kind.as_str()).collect();
    let known = known.join(", ");
    let mut violations = vec![match &patch.kind {
        Some(kind) => Violation::new("kind", Reason::KindUnknown, format!("{kind:?} is no kind; use one of {known}")),
        None => Violation::new("kind", Reason::FieldRequired, format!("every source needs its kind: {known}")),
    }];
    if let Some(any) = kinds.first() {
        let mut settings = SourceSettings::from_defaults(any.about(), "");
        patch.apply(&mut settings);
        check(&settings, &mut violations);
    }
    violations
}

/// Checks the fields that mean the same for every kind.
fn check(settings: &SourceSettings, violations: &mut Vec<Violation>) {
    let mut refuse = |field: &str, message: &str| violations.push(Violation::invalid(field, message));
    let ttl = settings.cache_ttl;
    let times = [
        ("finding_ttl", ttl.finding),
        ("no_record_ttl", ttl.no_record),
        ("stale_while_revalidate", ttl.stale_while_revalidate),
        ("stale_if_error", ttl.stale_if_error),
    ];
    for (field, ttl) in times {
        if ttl > MAX_TTL {
            refuse(field, "must be at most 10 years");
        }
    }
    if settings.timeout.is_zero() || settings.timeout > MAX_TIMEOUT {
        refuse("timeout", "must be above zero and at most 5 minutes");
    }
    let family = settings.family.as_deref().unwrap_or_default();
    if family.chars().count() > MAX_FAMILY || family.chars().any(char::is_control) {
        refuse("family", "must be one line of at most 63 characters");
    }
    if settings.base_url.as_ref().is_some_and(|url| url.query().is_some() || url.fragment().is_some()) {
        refuse("base_url", "must end before any ? or #: questions add what they need");
    }
    if settings.ca_pem.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
        refuse("ca_pem", "holds no PEM certificate");
    }
    for window in settings.quota.iter().filter(|window| window.limit == 0) {
        refuse(&format!("quota.{}", window.per.as_str()), NO_CALLS);
    }
    if settings.quota_reserve > 100 {
        refuse("quota_reserve", "must be from 0 to 100 percent");
    }
    if !(1..=MAX_CONCURRENCY).contains(&settings.max_concurrency) {
        refuse("max_concurrency", "must be from 1 to 1000 calls; to stop asking, disable the source");
    }
    let rules = EgressRules::default();
    let base_url = settings.base_url.as_ref().map(|url| rules.check_url(url));
    let proxy = settings.proxy.as_ref().map(|proxy| rules.check_proxy(proxy));
    for (field, checked) in [("base_url", base_url), ("proxy", proxy)] {
        violations.extend(checked.and_then(Result::err).map(|why| Violation::new(field, Reason::EgressForbidden, why)));
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

/// Where the credential of a source may go, as [`credential_scope`] states it, by this patch alone; `None` where it is wrong.
pub(super) fn scope_of_patch(about: &About, name: &str, patch: &SourcePatch) -> Option<String> {
    let (settings, violations) = settings(about, name, patch, None);
    violations.is_empty().then(|| credential_scope(about, &settings))
}

/// Everything that decides where a credential goes, as a hash: it may not be joined to another one without being given
/// again. What is the kind's default counts as unset, so that it is the same when a later version has more options.
pub(super) fn credential_scope(about: &About, settings: &SourceSettings) -> String {
    let usual = SourceSettings::from_defaults(about, &settings.name);
    let leads = |spec: &&OptionSpec| spec.value_type.is_location() || spec.value_type == OptionType::Text;
    let set = |spec: &OptionSpec| {
        let value = settings.options.get(&spec.name).filter(|value| usual.options.get(&spec.name) != Some(*value));
        let exact = match value? {
            OptionValue::Address(url) => url.as_str().to_owned(),
            other => other.to_string(),
        };
        Some((spec.name.clone(), OptionValue::Text(exact)))
    };
    let options: Vec<_> = about.options.iter().filter(leads).filter_map(set).collect();
    let base_url = settings.base_url.as_ref().filter(|url| usual.base_url.as_ref() != Some(*url));
    let scope = format!("{:?} {base_url:?} {:?} {:?} {options:?}", about.kind, settings.proxy, settings.ca_pem);
    hex(digest::digest(&digest::SHA256, scope.as_bytes()).as_ref())
}
