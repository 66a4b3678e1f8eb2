//! The sources in effect: what file and environment declare, with what the API patched over it, field by field.
//!
//! A change is durable before it is answered, and guarded by an etag. A credential that is kept is never joined to an
//! address it was not given for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tracing::warn;

use super::api_override::{ApiOverride, Unreadable, etag_of, read_row};
use super::api_policy::{self, ApiPolicy};
use super::load::check_name;
use super::{Change, Config, Declared, ResolvedSource, SourcePatch, State, patch};
use crate::error::{Error, Reason, Violation, merge_new};
use crate::source::{Kind, SourceSettings, Unconfigured};
use crate::store::{SourceStore, StoreError, Swap};

/// Encrypts credentials for the store.
pub trait Seal: Send + Sync {
    /// Encrypts the credential of the source of this name.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn seal(&self, name: &str, credential: &SecretString) -> Result<Vec<u8>, Error>;

    /// Decrypts what [`Seal::seal`] made for the source of this name.
    ///
    /// # Errors
    /// When it was made with another key or for another name.
    fn open(&self, name: &str, sealed: &[u8]) -> Result<SecretString, Error>;
}

/// The sources in effect.
pub struct Registry {
    declared: BTreeMap<String, Declared>,
    kinds: Vec<Arc<dyn Kind>>,
    store: Arc<dyn SourceStore>,
    seal: Arc<dyn Seal>,
    api_policy: ApiPolicy,
    rows: Mutex<BTreeMap<String, ApiOverride>>,
    snapshot: ArcSwap<Vec<ResolvedSource>>,
}

impl Registry {
    /// Lays what the store holds over what the configuration declares.
    ///
    /// # Errors
    /// When the store cannot be read. A row that cannot be understood is a source that is not configured, with why.
    pub async fn open(
        config: &Config,
        kinds: &[Arc<dyn Kind>],
        store: Arc<dyn SourceStore>,
        seal: Arc<dyn Seal>,
    ) -> Result<Self, StoreError> {
        let mut rows = BTreeMap::new();
        for row in store.source_rows().await? {
            rows.insert(row.name.clone(), read_row(&row, seal.as_ref()));
        }
        let registry = Self {
            declared: config.sources.iter().map(|one| (one.name.clone(), one.clone())).collect(),
            kinds: kinds.to_vec(),
            store,
            seal,
            api_policy: ApiPolicy(config.egress(true)),
            rows: Mutex::new(BTreeMap::new()),
            snapshot: ArcSwap::from_pointee(Vec::new()),
        };
        registry.publish(&rows);
        *registry.rows.lock().await = rows;
        Ok(registry)
    }

    /// Every source as it is in effect, in order of name. The same `Arc` until something changes.
    pub fn snapshot(&self) -> Arc<Vec<ResolvedSource>> {
        self.snapshot.load_full()
    }

    /// Every kind there is.
    pub fn kinds(&self) -> &[Arc<dyn Kind>] {
        &self.kinds
    }

    /// The source of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn get(&self, name: &str) -> Result<ResolvedSource, Error> {
        let found = self.snapshot().iter().find(|one| one.settings.name == name).cloned();
        found.ok_or_else(|| self.not_found(name))
    }

    /// Whether a source of this name exists.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn check(&self, name: &str) -> Result<(), Error> {
        let exists = self.snapshot().iter().any(|one| one.settings.name == name);
        if exists { Ok(()) } else { Err(self.not_found(name)) }
    }

    /// The failure for a source that does not exist.
    pub fn not_found(&self, name: &str) -> Error {
        let snapshot = self.snapshot();
        let names: Vec<_> = snapshot.iter().map(|one| one.settings.name.as_str()).collect();
        let hint = match (super::options::nearest(name, &names), names.is_empty()) {
            (Some(near), _) => format!("did you mean sources/{near}?"),
            (None, true) => super::NO_SOURCE_HINT.to_owned(),
            (None, false) => "ListSources shows those there are".to_owned(),
        };
        Error::NotFound { reason: Reason::SourceNotFound, name: format!("sources/{name}"), hint }
    }

    /// Makes the change, durably, and answers with what is in effect.
    ///
    /// # Errors
    /// [`Error::Invalid`] for every wrong field, [`Error::NotFound`] without `allow_missing`, [`Error::Conflict`] for an
    /// old etag, [`Error::NotReady`] when a kept credential would go elsewhere.
    pub async fn configure(&self, change: Change) -> Result<ResolvedSource, Error> {
        let mut rows = self.rows.lock().await;
        let (configured, patched) = self.apply_change(&rows, &change)?;
        let name = configured.settings.name.clone();
        let expected = patched.revision - 1;
        let row = patched.to_row(&name, self.seal.as_ref())?;
        match self.store.put_source_row(row, expected).await.map_err(|error| unavailable(&error))? {
            Swap::Done => {}
            Swap::Conflict => return Err(self.reload_after_conflict(&mut rows, &name).await),
        }
        rows.insert(name.clone(), patched);
        self.publish(&rows);
        drop(rows);
        self.get(&name)
    }

    /// What the change would bring into effect, without making it.
    ///
    /// # Errors
    /// As [`Registry::configure`].
    pub async fn effective(&self, change: &Change) -> Result<ResolvedSource, Error> {
        let rows = self.rows.lock().await;
        self.apply_change(&rows, change).map(|(configured, _)| configured)
    }

    /// Deletes a source that was made over the API; with `validate_only`, only checks whether it could be.
    ///
    /// # Errors
    /// [`Error::NotReady`] naming the place where it is declared otherwise, [`Error::NotFound`], [`Error::Conflict`].
    pub async fn delete(&self, name: &str, etag: &str, allow_missing: bool, validate_only: bool) -> Result<(), Error> {
        let mut rows = self.rows.lock().await;
        let declared = self.declared.get(name);
        // One that was made over the API before another was declared under its name goes; the declared one stays.
        if let Some(declared) = declared.filter(|one| kind_conflict(Some(*one), rows.get(name)).is_none()) {
            return Err(Error::NotReady {
                reason: Reason::DeclaredElsewhere,
                subject: format!("sources/{name}"),
                message: format!("declared by {}: remove it there, or disable it", declared.origin),
            });
        }
        let Some(row) = rows.get(name) else {
            return if allow_missing { Ok(()) } else { Err(self.not_found(name)) };
        };
        if !etag.is_empty() && etag != etag_of(Some(row)) {
            return Err(Error::Conflict { name: format!("sources/{name}") });
        }
        if validate_only {
            return Ok(());
        }
        match self.store.delete_source_row(name, row.revision).await.map_err(|error| unavailable(&error))? {
            Swap::Done => {}
            Swap::Conflict => return Err(self.reload_after_conflict(&mut rows, name).await),
        }
        rows.remove(name);
        self.publish(&rows);
        Ok(())
    }

    /// The store holds another row than we know: a caller that left in the middle of its change leaves one that is kept
    /// and not yet in effect. Brings it into effect, so that the next try sees it.
    async fn reload_after_conflict(&self, rows: &mut BTreeMap<String, ApiOverride>, name: &str) -> Error {
        match self.store.source_rows().await {
            Ok(kept) => {
                match kept.iter().find(|row| row.name == name) {
                    Some(row) => rows.insert(name.to_owned(), read_row(row, self.seal.as_ref())),
                    None => rows.remove(name),
                };
                self.publish(rows);
                Error::Conflict { name: format!("sources/{name}") }
            }
            Err(error) => unavailable(&error),
        }
    }

    /// The change laid over what there is, checked against every rule.
    fn apply_change(
        &self,
        rows: &BTreeMap<String, ApiOverride>,
        change: &Change,
    ) -> Result<(ResolvedSource, ApiOverride), Error> {
        let name = change.name.as_str();
        let declared = self.declared.get(name);
        let revision = rows.get(name).map_or(0, |row| row.revision);
        // What patched a declaration that is gone says nothing about a source that is made anew under its name.
        let row = rows.get(name).filter(|row| declared.is_some() || !row.is_patch());
        let mut mistakes = Vec::new();
        if declared.is_none() && row.is_none() {
            if let Err(message) = check_name(name) {
                mistakes.push(Violation::invalid("source.name", message));
            } else if !change.allow_missing {
                return Err(self.not_found(name));
            }
        }
        if !change.etag.is_empty() && change.etag != etag_of(row) {
            return Err(Error::Conflict { name: format!("sources/{name}") });
        }
        let mut patched = ApiOverride { revision: revision + 1, ..row.cloned().unwrap_or_default() };
        mistakes.extend(self.apply(change, declared, &mut patched));
        let readable = self.check_unreadable(change, &mut patched);
        let configured = self.checked(change, declared, row, &patched, mistakes)?;
        readable?;
        self.settle_credential(change, declared, row, &configured, &mut patched)?;
        Ok((self.bind_credential(declared, Some(&patched), configured), patched))
    }

    /// Notes where the credential of the change may go, or refuses to take a kept or declared one where it may not.
    fn settle_credential(
        &self,
        change: &Change,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
        now: &ResolvedSource,
        patched: &mut ApiOverride,
    ) -> Result<(), Error> {
        let place = patch::credential_scope(now.kind.about(), &now.settings);
        if patched.credential.is_none() {
            patched.credential_for.clear();
            return if self.credential_moved(declared, now) {
                Err(api_policy::credential_required(&change.name))
            } else {
                Ok(())
            };
        }
        if change.brings_credential() {
            patched.credential_for = place;
            return Ok(());
        }
        // One that is kept for elsewhere already, since the file moved, stands in no other change's way.
        let led_there =
            |before: ResolvedSource| patch::credential_scope(before.kind.about(), &before.settings) == place;
        let stays = patched.credential_for == place || self.resolve(&change.name, declared, row).is_ok_and(led_there);
        if stays { Ok(()) } else { Err(api_policy::credential_required(&change.name)) }
    }

    /// The source without a credential that would go elsewhere than it was given or declared for. The file may have named
    /// another address since, so this is judged at every look, not at changes alone.
    fn bind_credential(
        &self,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
        mut one: ResolvedSource,
    ) -> ResolvedSource {
        let why = match row.filter(|row| row.credential.is_some()) {
            Some(row) if row.credential_for != patch::credential_scope(one.kind.about(), &one.settings) => {
                api_policy::KEPT_FOR_ELSEWHERE
            }
            None if self.credential_moved(declared, &one) => api_policy::DECLARED_FOR_ELSEWHERE,
            Some(_) | None => return one,
        };
        let mut settings = SourceSettings::clone(&one.settings);
        settings.credential = None;
        one.state = state(settings.enabled, Some(why.to_owned()));
        one.settings = Arc::new(settings);
        one
    }

    /// The settings in effect with the change, or everything that is wrong with it: what was told before, its form, and
    /// where it leads.
    fn checked(
        &self,
        change: &Change,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
        patched: &ApiOverride,
        mut mistakes: Vec<Violation>,
    ) -> Result<ResolvedSource, Error> {
        let before = row.map(|row| row.patch.clone()).unwrap_or_default();
        let resolved = self.resolve(&change.name, declared, Some(patched));
        let kind = patched.patch.kind.as_ref().or_else(|| declared?.patch.kind.as_ref());
        let adapter = self.kinds.iter().find(|one| Some(&one.about().kind) == kind);
        let options = adapter.map(|one| one.about().options.as_slice()).unwrap_or_default();
        let forbidden = self.api_policy.check_api(change.credential.as_ref(), &before, &patched.patch, options);
        let wrong = resolved.as_ref().err().into_iter().flatten().map(|one| one.clone().nested_in("source"));
        merge_new(&mut mistakes, wrong.collect());
        merge_new(&mut mistakes, forbidden);
        resolved.ok().filter(|_| mistakes.is_empty()).ok_or(Error::Invalid(mistakes))
    }

    /// What could not be read is written over only by somebody who knows: never loses a sealed credential unasked.
    fn check_unreadable(&self, change: &Change, patched: &mut ApiOverride) -> Result<(), Error> {
        let named = |path: &str| change.mask.iter().flatten().chain(&change.reset).any(|one| one == path);
        let Some(unreadable) = patched.unreadable.take() else { return Ok(()) };
        let sealed = matches!(unreadable, Unreadable::Credential) || patched.credential.is_some();
        if sealed && !change.brings_credential() && !named("credential") {
            return Err(Error::NotReady {
                reason: Reason::CredentialRequired,
                subject: format!("sources/{}", change.name),
                message: unreadable.message(),
            });
        }
        Ok(())
    }

    /// Whether the declared credential would go elsewhere than its declaration says, by what the API patched.
    fn credential_moved(&self, declared: Option<&Declared>, now: &ResolvedSource) -> bool {
        let Some(declared) = declared.filter(|one| one.credential.is_some()) else { return false };
        let about = now.kind.about();
        let credential = declared.credential.clone();
        let meant = patch::build(&now.kind, &declared.name, &declared.patch, credential);
        let there = patch::credential_scope(about, &now.settings);
        meant.map_or(true, |meant| patch::credential_scope(about, &meant.settings) != there)
    }

    /// Writes the fields of the change into what the API said so far; gives what could not be written.
    fn apply(&self, change: &Change, declared: Option<&Declared>, patched: &mut ApiOverride) -> Vec<Violation> {
        let mut mistakes = Vec::new();
        let kind = patched.patch.kind.clone().or_else(|| declared.and_then(|one| one.patch.kind.clone()));
        match (&kind, &change.patch.kind) {
            (Some(kind), Some(wanted)) if kind != wanted => {
                mistakes.push(Violation::invalid(
                    "source.kind",
                    format!("is {kind} and cannot be changed: delete the source first"),
                ));
            }
            (None, wanted) => {
                let named = || Some(&change.name).filter(|name| !name.is_empty()).cloned();
                patched.patch.kind = wanted.clone().or_else(named);
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
                "credential" => patched.credential = change.credential.as_ref().map(trimmed),
                "name" | "kind" => {}
                _ if SourcePatch::is_path(path)
                    && (change.mask.is_none()
                        || self.has_option(patched.patch.kind.as_ref().or(kind.as_ref()), path)) =>
                {
                    patched.patch.copy(path, &change.patch);
                }
                _ => mistakes.push(unknown_path("update_mask", path)),
            }
        }
        for path in &change.reset {
            match path.as_str() {
                "credential" => patched.credential = None,
                _ if SourcePatch::is_path(path) => {
                    patched.patch.copy(path, &SourcePatch::default());
                }
                _ => mistakes.push(unknown_path("reset_mask", path)),
            }
        }
        mistakes
    }

    /// Whether the kind has the option at this path; true for other paths, and where the kind is not known.
    fn has_option(&self, kind: Option<&String>, path: &str) -> bool {
        let Some(name) = path.strip_prefix("options.") else { return true };
        let adapter = self.kinds.iter().find(|one| Some(&one.about().kind) == kind);
        adapter.is_none_or(|one| one.about().options.iter().any(|spec| spec.name == name))
    }

    /// The settings in effect of one source, with everything that is known about it.
    fn resolve(
        &self,
        name: &str,
        declared: Option<&Declared>,
        patched: Option<&ApiOverride>,
    ) -> Result<ResolvedSource, Vec<Violation>> {
        if let Some((declared, made)) = kind_conflict(declared, patched) {
            let message = format!(
                "is {declared} where the source is declared, and {made} where it was made over the API: delete the one \
                 over the API, or declare the other under another name"
            );
            return Err(vec![Violation::invalid("kind", message)]);
        }
        let below = declared.map(|one| one.patch.clone()).unwrap_or_default();
        let above = patched.map(|one| one.patch.clone()).unwrap_or_default();
        let both = below.overlaid_with(&above);
        let Some(adapter) = self.kinds.iter().find(|one| Some(&one.about().kind) == both.kind.as_ref()) else {
            return Err(patch::without_kind(&both, &self.kinds));
        };
        let about = adapter.about();
        let credential = patched.and_then(|one| one.credential.clone());
        let with_credential = credential.is_some();
        let unreadable = patched.and_then(|one| one.unreadable.as_ref());
        let below_credential = declared.and_then(|one| one.credential.clone()).filter(|_| unreadable.is_none());
        let patch::Built { settings, source, missing } =
            patch::build(adapter, name, &both, credential.or(below_credential))?;
        let lack = unreadable.map(Unreadable::message).or(missing);
        let lack = lack.or_else(|| self.api_policy.forbidden_file(&above, &settings));
        let mut fields = above.paths();
        if with_credential {
            fields.push("credential".into());
        }
        let from_api = fields.iter().any(|path| api_policy::is_address(about, path));
        let proxy_from_api = fields.iter().any(|path| path == "proxy");
        Ok(ResolvedSource {
            state: state(settings.enabled, lack),
            settings: Arc::new(settings),
            kind: adapter.clone(),
            source,
            origin: declared.map(|one| one.origin.clone()),
            patched: if declared.is_some() { fields } else { Vec::new() },
            etag: etag_of(patched),
            from_api,
            proxy_from_api,
        })
    }

    fn publish(&self, rows: &BTreeMap<String, ApiOverride>) {
        let before = self.snapshot();
        let names: BTreeSet<&String> = self.declared.keys().chain(rows.keys()).collect();
        let shown = names.into_iter().filter_map(|name| self.resolve_or_placeholder(name, rows.get(name)));
        self.snapshot.store(Arc::new(shown.map(|one| unchanged(&before, one)).collect()));
    }

    /// The source as callers see it: one whose settings cannot be used is shown as not configured, with why, and without
    /// its credential.
    fn resolve_or_placeholder(&self, name: &str, row: Option<&ApiOverride>) -> Option<ResolvedSource> {
        let declared = self.declared.get(name);
        match self.resolve(name, declared, row) {
            Ok(one) => Some(self.bind_credential(declared, row, one)),
            Err(mistakes) => {
                let why: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
                let why = why.join("; ");
                warn!(source = name, why, "a source cannot be used");
                self.placeholder(name, declared, row, why)
            }
        }
    }

    /// Stands for a source whose settings are wrong; `None` where not even its kind is known.
    fn placeholder(
        &self,
        name: &str,
        declared: Option<&Declared>,
        row: Option<&ApiOverride>,
        why: String,
    ) -> Option<ResolvedSource> {
        let kind = declared.and_then(|one| one.patch.kind.as_ref()).or_else(|| row?.patch.kind.as_ref())?;
        let adapter = self.kinds.iter().find(|one| one.about().kind == *kind)?;
        let enabled = row.and_then(|row| row.patch.enabled).or_else(|| declared?.patch.enabled).unwrap_or(true);
        let mut settings = SourceSettings::from_defaults(adapter.about(), name);
        settings.enabled = enabled;
        Some(ResolvedSource {
            settings: Arc::new(settings),
            kind: adapter.clone(),
            source: Arc::new(Unconfigured::new(adapter.clone(), why.clone())),
            origin: declared.map(|one| one.origin.clone()),
            patched: row.filter(|_| declared.is_some()).map(|row| row.patch.paths()).unwrap_or_default(),
            etag: etag_of(row),
            state: state(enabled, Some(why)),
            from_api: row.is_some(),
            proxy_from_api: row.is_some(),
        })
    }
}

/// The kind that is declared and the one that was made over the API under the same name, if they differ.
fn kind_conflict<'a>(declared: Option<&'a Declared>, row: Option<&'a ApiOverride>) -> Option<(&'a str, &'a str)> {
    let kinds = declared?.patch.kind.as_deref().zip(row?.patch.kind.as_deref());
    kinds.filter(|(declared, made)| declared != made)
}

fn state(enabled: bool, lack: Option<String>) -> State {
    match (enabled, lack) {
        (false, _) => State::Disabled,
        (true, Some(lack)) => State::NotConfigured(lack),
        (true, None) => State::Active,
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("sources", &self.snapshot()).finish_non_exhaustive()
    }
}

/// Keeps the settings of a source that did not change, so that what was built for it is kept too.
fn unchanged(before: &[ResolvedSource], mut now: ResolvedSource) -> ResolvedSource {
    let old = before.iter().find(|one| one.settings.name == now.settings.name && one.etag == now.etag);
    if let Some(old) = old {
        now.settings = old.settings.clone();
        now.source = old.source.clone();
    }
    now
}

/// The credential without the line break that pasting and files leave.
fn trimmed(credential: &SecretString) -> SecretString {
    SecretString::from(credential.expose_secret().trim().to_owned())
}

fn unknown_path(mask: &str, path: &str) -> Violation {
    let message = format!("{path:?} is no field that can be written");
    Violation::new(mask, Reason::MaskInvalid, message)
}

fn unavailable(error: &StoreError) -> Error {
    warn!(%error, "the settings of a source could not be kept");
    Error::Unavailable { message: "the store cannot be reached".into(), retry_after: None }
}
