//! Resolves one source: declared settings with the API's patch over them, built and checked against every rule. Touches
//! files, so it runs where blocking is allowed; never reads other sources or the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

use super::api_override::{ApiOverride, Unreadable, etag_of};
use super::api_policy::{self, ApiPolicy};
use super::name::check_name;
use super::{Change, Config, Declared, ResolvedSource, SOURCE_FIELDS, SourcePatch, State, build, find_kind, nearest};
use crate::error::{Error, Reason, Violation, merge_new};
use crate::source::{Kind, SourceSettings, Unconfigured};

/// Everything that does not change until the configuration is read again.
pub(super) struct Resolver {
    declared: BTreeMap<String, Declared>,
    /// Scope of each declared credential, by source; `None` where the declaration itself is invalid.
    scopes: BTreeMap<String, Option<String>>,
    kinds: Vec<Arc<dyn Kind>>,
    api_policy: ApiPolicy,
}

impl Resolver {
    pub(super) fn new(config: &Config, kinds: &[Arc<dyn Kind>]) -> Self {
        let declared: BTreeMap<_, _> =
            config.sources.iter().map(|source| (source.name.clone(), source.clone())).collect();
        let with_credential = declared.values().filter(|source| source.credential.is_some());
        let scope = |source: &Declared| {
            let kind = find_kind(kinds, source.patch.kind.as_ref())?;
            build::scope_of_patch(kind.about(), &source.name, &source.patch)
        };
        let scopes = with_credential.map(|source| (source.name.clone(), scope(source))).collect();
        Self { declared, scopes, kinds: kinds.to_vec(), api_policy: ApiPolicy(config.egress(true)) }
    }

    pub(super) fn declared(&self, name: &str) -> Option<&Declared> {
        self.declared.get(name)
    }

    /// Whether both declare this source alike, or not at all.
    pub(super) fn declares_as(&self, other: &Self, name: &str) -> bool {
        match (self.declared.get(name), other.declared.get(name)) {
            (Some(now), Some(before)) => now.is_same(before),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Every source that is declared or was made over the API, in order of name.
    pub(super) fn resolve_all(&self, rows: &BTreeMap<String, ApiOverride>) -> Vec<ResolvedSource> {
        let names: std::collections::BTreeSet<&String> = self.declared.keys().chain(rows.keys()).collect();
        names.into_iter().filter_map(|name| self.resolve_or_placeholder(name, rows.get(name))).collect()
    }

    /// Applies the change to the current row and checks it against every rule. `None`: there is no such source, and the change
    /// must not make one.
    pub(super) fn apply_change(
        &self,
        row: Option<&ApiOverride>,
        change: &Change,
    ) -> Result<Option<(ResolvedSource, ApiOverride)>, Error> {
        let name = change.name.as_str();
        let declared = self.declared.get(name);
        let revision = row.map_or(0, |row| row.revision);
        // A patch of a declaration that is gone does not apply to a source that is created again under its name.
        let row = row.filter(|row| declared.is_some() || !row.is_patch());
        let mut violations = Vec::new();
        if declared.is_none() && row.is_none() {
            if let Err(message) = check_name("source", name) {
                violations.push(Violation::invalid("source.name", message));
            } else if !change.allow_missing {
                return Ok(None);
            }
        }
        if !change.etag.is_empty() && change.etag != etag_of(row) {
            return Err(Error::Conflict { name: format!("sources/{name}") });
        }
        let mut changed = ApiOverride { revision: revision + 1, ..row.cloned().unwrap_or_default() };
        violations.extend(self.apply(change, declared, &mut changed));
        let readable = check_unreadable(change, &mut changed);
        let resolved = self.check(change, declared, row, &changed, violations)?;
        readable?;
        self.check_credential_scope(change, declared, row, &resolved, &mut changed)?;
        Ok(Some((self.bind_credential(declared, Some(&changed), resolved), changed)))
    }

    /// The settings in effect with the change, or every violation: earlier violations, field syntax, egress targets.
    fn check(
        &self,
        change: &Change,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
        changed: &ApiOverride,
        mut violations: Vec<Violation>,
    ) -> Result<ResolvedSource, Error> {
        let before = row.map(|row| row.patch.clone()).unwrap_or_default();
        let resolved = self.resolve(&change.name, declared, Some(changed));
        let kind = find_kind(&self.kinds, changed.patch.kind.as_ref().or_else(|| declared?.patch.kind.as_ref()));
        let options = kind.map(|kind| kind.about().options.as_slice()).unwrap_or_default();
        let forbidden = self.api_policy.check_api(change.credential.as_ref(), &before, &changed.patch, options);
        let wrong = resolved.as_ref().err().into_iter().flatten().map(|wrong| wrong.clone().nested_in("source"));
        merge_new(&mut violations, wrong.collect());
        merge_new(&mut violations, forbidden);
        resolved.ok().filter(|_| violations.is_empty()).ok_or(Error::Invalid(violations))
    }

    /// Records the scope of the change's credential, or refuses to send a stored or declared credential to another
    /// target.
    fn check_credential_scope(
        &self,
        change: &Change,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
        now: &ResolvedSource,
        changed: &mut ApiOverride,
    ) -> Result<(), Error> {
        let scope = scope_of(now);
        let stays = if changed.credential.is_none() {
            changed.credential_for.clear();
            !self.credential_moved(declared, now)
        } else if change.brings_credential() {
            changed.credential_for = scope;
            true
        } else {
            // A stored credential whose target already changed in the file does not block unrelated changes.
            let led_there = |before: ResolvedSource| scope_of(&before) == scope;
            changed.credential_for == scope || self.resolve(&change.name, declared, row).is_ok_and(led_there)
        };
        if stays { Ok(()) } else { Err(api_policy::credential_required(&change.name)) }
    }

    /// Removes a credential whose target is not the one it was given or declared for. The file may have named another
    /// address since, so this is checked at every resolution, not only at changes.
    fn bind_credential(
        &self,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
        mut source: ResolvedSource,
    ) -> ResolvedSource {
        let why = match row.filter(|row| row.credential.is_some()) {
            Some(row) if row.credential_for != scope_of(&source) => api_policy::STORED_FOR_OTHER_TARGET,
            None if self.credential_moved(declared, &source) => api_policy::DECLARED_FOR_OTHER_TARGET,
            Some(_) | None => return source,
        };
        let mut settings = SourceSettings::clone(&source.settings);
        settings.credential = None;
        source.state = state(settings.enabled, Some(why.to_owned()));
        source.settings = Arc::new(settings);
        source
    }

    /// Whether the API's patch sends the declared credential to another target.
    fn credential_moved(&self, declared: Option<&Declared>, now: &ResolvedSource) -> bool {
        let scope = declared.and_then(|declared| self.scopes.get(&declared.name));
        scope.is_some_and(|scope| scope.as_ref() != Some(&scope_of(now)))
    }

    /// Writes the fields of the change into the row; returns the fields that could not be written.
    fn apply(&self, change: &Change, declared: Option<&Declared>, changed: &mut ApiOverride) -> Vec<Violation> {
        let mut violations = Vec::new();
        let kind = changed.patch.kind.clone().or_else(|| declared.and_then(|declared| declared.patch.kind.clone()));
        match (&kind, &change.patch.kind) {
            (Some(kind), Some(wanted)) if kind != wanted => {
                violations.push(Violation::invalid(
                    "source.kind",
                    format!("is {kind} and cannot be changed: delete the source first"),
                ));
            }
            (None, wanted) => {
                let named = || Some(&change.name).filter(|name| !name.is_empty()).cloned();
                changed.patch.kind = wanted.clone().or_else(named);
            }
            (Some(_), _) => {}
        }
        let paths = match &change.mask {
            Some(mask) => mask.clone(),
            None => {
                let credential = change.credential.as_ref().map(|_| "credential".to_owned());
                change.patch.paths().into_iter().chain(credential).collect()
            }
        };
        for path in &paths {
            match path.as_str() {
                "credential" => changed.credential = change.credential.as_ref().map(trimmed),
                "name" | "kind" => {}
                _ if SourcePatch::is_path(path)
                    && (change.mask.is_none()
                        || self.has_option(changed.patch.kind.as_ref().or(kind.as_ref()), path)) =>
                {
                    changed.patch.copy(path, &change.patch);
                }
                _ => violations.push(self.unknown_path("update_mask", path, kind.as_ref())),
            }
        }
        let kind = changed.patch.kind.clone().or(kind);
        for path in &change.reset {
            match path.as_str() {
                "credential" => changed.credential = None,
                // An option that the kind no longer has can still be taken back.
                _ if SourcePatch::is_path(path)
                    && (self.has_option(kind.as_ref(), path) || changed.patch.paths().contains(path)) =>
                {
                    changed.patch.copy(path, &SourcePatch::default());
                }
                _ => violations.push(self.unknown_path("reset_mask", path, kind.as_ref())),
            }
        }
        violations
    }

    /// Whether the kind has the option at this path; true for other paths, and where the kind is not known.
    fn has_option(&self, kind: Option<&String>, path: &str) -> bool {
        let Some(name) = path.strip_prefix("options.") else { return true };
        find_kind(&self.kinds, kind).is_none_or(|kind| kind.about().options.iter().any(|spec| spec.name == name))
    }

    fn unknown_path(&self, mask: &str, path: &str, kind: Option<&String>) -> Violation {
        let fields = SOURCE_FIELDS.iter().map(|field| field.name.to_owned());
        let options = find_kind(&self.kinds, kind).map(|kind| kind.about().options.as_slice()).unwrap_or_default();
        let options = options.iter().map(|spec| format!("options.{}", spec.name));
        let known: Vec<_> = fields.chain(["credential".to_owned(), "options".to_owned()]).chain(options).collect();
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        let hint = nearest(path, &known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let message = format!("{path:?} is no field that can be written{hint}");
        Violation::new(mask, Reason::MaskInvalid, message)
    }

    /// The settings in effect of one source, with everything that is known about it.
    fn resolve(
        &self,
        name: &str,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
    ) -> Result<ResolvedSource, Vec<Violation>> {
        if let Some((declared, made)) = kind_conflict(declared, row) {
            let message = format!(
                "is {declared} where the source is declared, and {made} where it was made over the API: delete the one \
                 over the API, or declare the other under another name"
            );
            return Err(vec![Violation::invalid("kind", message)]);
        }
        let below = declared.map(|declared| declared.patch.clone()).unwrap_or_default();
        let above = row.map(|row| row.patch.clone()).unwrap_or_default();
        let both = below.overlaid_with(&above);
        let Some(kind) = find_kind(&self.kinds, both.kind.as_ref()) else {
            return Err(build::without_kind(&both, &self.kinds));
        };
        let credential = row.and_then(|row| row.credential.clone());
        let mut fields = above.paths();
        fields.extend(credential.is_some().then(|| "credential".to_owned()));
        let unreadable = row.and_then(|row| row.unreadable.as_ref());
        let below = declared.and_then(|declared| declared.credential.clone()).filter(|_| unreadable.is_none());
        let built = build::build(kind, name, &both, credential.or(below))?;
        let missing = unreadable.map(Unreadable::message).or(built.missing);
        let missing = missing.or_else(|| self.api_policy.forbidden_file(&above, &built.settings));
        Ok(ResolvedSource {
            state: state(built.settings.enabled, missing),
            settings: Arc::new(built.settings),
            kind: kind.clone(),
            source: built.source,
            origin: declared.map(|declared| declared.origin.clone()),
            from_api: fields.iter().any(|path| api_policy::is_address(kind.about(), path)),
            proxy_from_api: fields.iter().any(|path| path == "proxy"),
            patched: if declared.is_some() { fields } else { Vec::new() },
            etag: etag_of(row),
        })
    }

    /// The source as callers see it: with unusable settings it is shown as not configured, with the reason and without
    /// its credential.
    pub(super) fn resolve_or_placeholder(&self, name: &str, row: Option<&ApiOverride>) -> Option<ResolvedSource> {
        let declared = self.declared.get(name);
        match self.resolve(name, declared, row) {
            Ok(source) => Some(self.bind_credential(declared, row, source)),
            Err(violations) => {
                let why = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                warn!(source = name, why, "a source cannot be used");
                self.placeholder(name, declared, row, why)
            }
        }
    }

    /// Placeholder for a source whose settings are invalid; `None` where not even its kind is known.
    fn placeholder(
        &self,
        name: &str,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
        why: String,
    ) -> Option<ResolvedSource> {
        let kind = declared.and_then(|declared| declared.patch.kind.as_ref()).or_else(|| row?.patch.kind.as_ref());
        let kind = find_kind(&self.kinds, kind)?;
        let enabled = row.and_then(|row| row.patch.enabled).or_else(|| declared?.patch.enabled).unwrap_or(true);
        let mut settings = SourceSettings::from_defaults(kind.about(), name);
        settings.enabled = enabled;
        Some(ResolvedSource {
            settings: Arc::new(settings),
            kind: kind.clone(),
            source: Arc::new(Unconfigured::new(kind.clone(), why.clone())),
            origin: declared.map(|declared| declared.origin.clone()),
            patched: row.filter(|_| declared.is_some()).map(|row| row.patch.paths()).unwrap_or_default(),
            etag: etag_of(row),
            state: state(enabled, Some(why)),
            from_api: row.is_some(),
            proxy_from_api: row.is_some(),
        })
    }
}

fn scope_of(source: &ResolvedSource) -> String {
    build::credential_scope(source.kind.about(), &source.settings)
}

/// Unreadable settings are overwritten only when the request names the credential: a sealed credential is never lost
/// unasked.
fn check_unreadable(change: &Change, changed: &mut ApiOverride) -> Result<(), Error> {
    let named = |path: &str| change.mask.iter().flatten().chain(&change.reset).any(|named| named == path);
    let Some(unreadable) = changed.unreadable.take() else { return Ok(()) };
    let sealed = matches!(unreadable, Unreadable::Credential) || changed.credential.is_some();
    if sealed && !change.brings_credential() && !named("credential") {
        return Err(Error::NotReady {
            reason: Reason::CredentialRequired,
            subject: format!("sources/{}", change.name),
            message: unreadable.message(),
        });
    }
    Ok(())
}

/// The kind that is declared and the one that was made over the API under the same name, if they differ.
pub(super) fn kind_conflict<'a>(
    declared: Option<&'a Declared>,
    row: Option<&'a ApiOverride>,
) -> Option<(&'a str, &'a str)> {
    let kinds = declared?.patch.kind.as_deref().zip(row?.patch.kind.as_deref());
    kinds.filter(|(declared, made)| declared != made)
}

fn state(enabled: bool, missing: Option<String>) -> State {
    match (enabled, missing) {
        (false, _) => State::Disabled,
        (true, Some(missing)) => State::NotConfigured(missing),
        (true, None) => State::Active,
    }
}

/// Removes the line break that pasting and files leave.
fn trimmed(credential: &SecretString) -> SecretString {
    SecretString::from(credential.expose_secret().trim().to_owned())
}
