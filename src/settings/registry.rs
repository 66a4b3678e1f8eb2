//! The sources in effect: what file and environment declare, with what the API patched over it, field by field.
//!
//! A change is durable before it is answered, and guarded by an etag. A credential that is kept is never joined to an
//! address it was not given for.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::sync::Mutex;
use tracing::warn;

use crate::error::Error;
use crate::error::Reason;
use crate::error::Violation;
use crate::source::EgressRules;
use crate::source::OptionType;
use crate::source::OptionValue;
use crate::source::Source;
use crate::source::SourceSettings;
use crate::store::SourceRow;
use crate::store::SourceStore;
use crate::store::StoreError;
use crate::store::Swap;

use super::Config;
use super::Declared;
use super::Origin;
use super::SourcePatch;
use super::load::check_name;
use super::patch;

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

/// Whether a source can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is asked.
    Active,
    /// It is switched off.
    Disabled,
    /// It lacks this.
    NotConfigured(String),
}

/// A source as it is in effect.
#[derive(Clone)]
pub struct Configured {
    /// Its settings.
    pub settings: Arc<SourceSettings>,
    /// Its kind.
    pub kind: Arc<dyn Source>,
    /// Where it is declared; `None`: over the API.
    pub origin: Option<Origin>,
    /// The fields in which the API wins over the declaration.
    pub patched: Vec<String>,
    /// Changes with every change.
    pub etag: String,
    /// Whether it can be asked.
    pub state: State,
    /// Whether an address in its settings was given over the API, so that the strict egress rules hold.
    pub from_api: bool,
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configured")
            .field("settings", &self.settings)
            .field("origin", &self.origin)
            .field("patched", &self.patched)
            .field("etag", &self.etag)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A wish to create or change a source.
#[derive(Clone, Default)]
pub struct Change {
    /// Its name, without `sources/`.
    pub name: String,
    /// The fields to write.
    pub patch: SourcePatch,
    /// The credential to set; `None` with `credential` in the mask: to remove.
    pub credential: Option<SecretString>,
    /// Paths to write; `None`: every field that is set.
    pub mask: Option<Vec<String>>,
    /// Paths to take back to what file or environment declares.
    pub reset: Vec<String>,
    /// Whether a source that does not exist is created.
    pub allow_missing: bool,
    /// The etag that the caller saw; empty: whatever it is.
    pub etag: String,
}

/// What the API said about one source.
#[derive(Clone)]
struct Patched {
    revision: u64,
    patch: SourcePatch,
    credential: Option<SecretString>,
}

/// The sources in effect.
pub struct Registry {
    declared: BTreeMap<String, Declared>,
    kinds: Vec<Arc<dyn Source>>,
    store: Arc<dyn SourceStore>,
    seal: Arc<dyn Seal>,
    list_folders: Vec<PathBuf>,
    allowed_networks: Vec<IpNet>,
    rows: Mutex<BTreeMap<String, Patched>>,
    snapshot: ArcSwap<Vec<Configured>>,
}

impl Registry {
    /// Lays what the store holds over what the configuration declares.
    ///
    /// # Errors
    /// When the store cannot be read. A row that cannot be understood is a source that is not configured, with why.
    pub async fn open(
        config: &Config,
        kinds: &[Arc<dyn Source>],
        store: Arc<dyn SourceStore>,
        seal: Arc<dyn Seal>,
    ) -> Result<Self, StoreError> {
        let mut rows = BTreeMap::new();
        for row in store.source_rows().await? {
            match read_row(&row, seal.as_ref()) {
                Ok(patched) => {
                    rows.insert(row.name, patched);
                }
                Err(why) => warn!(source = row.name, why, "the kept settings of a source cannot be used"),
            }
        }
        let registry = Self {
            declared: config.sources.iter().map(|one| (one.name.clone(), one.clone())).collect(),
            kinds: kinds.to_vec(),
            store,
            seal,
            list_folders: config.list_folders.clone(),
            allowed_networks: config.allowed_networks.clone(),
            rows: Mutex::new(BTreeMap::new()),
            snapshot: ArcSwap::from_pointee(Vec::new()),
        };
        registry.publish(&rows);
        *registry.rows.lock().await = rows;
        Ok(registry)
    }

    /// Every source as it is in effect, in order of name. The same `Arc` until something changes.
    pub fn snapshot(&self) -> Arc<Vec<Configured>> {
        self.snapshot.load_full()
    }

    /// Every kind there is.
    pub fn kinds(&self) -> &[Arc<dyn Source>] {
        &self.kinds
    }

    /// The source of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn get(&self, name: &str) -> Result<Configured, Error> {
        let found = self.snapshot().iter().find(|one| one.settings.name == name).cloned();
        found.ok_or_else(|| self.not_found(name))
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
    pub async fn configure(&self, change: Change) -> Result<Configured, Error> {
        let mut rows = self.rows.lock().await;
        let (configured, patched) = self.laid(&rows, &change)?;
        let name = configured.settings.name.clone();
        let expected = patched.revision - 1;
        let row = SourceRow {
            name: name.clone(),
            revision: patched.revision,
            document: serde_json::to_string(&patched.patch).map_err(|error| internal(&error))?,
            credential: patched.credential.as_ref().map(|secret| self.seal.seal(&name, secret)).transpose()?,
        };
        match self.store.put_source_row(row, expected).await.map_err(|error| unavailable(&error))? {
            Swap::Done => {}
            Swap::Conflict => return Err(Error::Conflict { name: format!("sources/{name}") }),
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
    pub async fn effective(&self, change: &Change) -> Result<Configured, Error> {
        let rows = self.rows.lock().await;
        self.laid(&rows, change).map(|(configured, _)| configured)
    }

    /// Deletes a source that was made over the API.
    ///
    /// # Errors
    /// [`Error::NotReady`] naming the place where it is declared otherwise, [`Error::NotFound`], [`Error::Conflict`].
    pub async fn delete(&self, name: &str, etag: &str, allow_missing: bool) -> Result<(), Error> {
        let mut rows = self.rows.lock().await;
        if let Some(declared) = self.declared.get(name) {
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
        match self.store.delete_source_row(name, row.revision).await.map_err(|error| unavailable(&error))? {
            Swap::Done => {}
            Swap::Conflict => return Err(Error::Conflict { name: format!("sources/{name}") }),
        }
        rows.remove(name);
        self.publish(&rows);
        Ok(())
    }

    /// The change laid over what there is, checked against every rule.
    fn laid(&self, rows: &BTreeMap<String, Patched>, change: &Change) -> Result<(Configured, Patched), Error> {
        let name = change.name.as_str();
        let declared = self.declared.get(name);
        let row = rows.get(name);
        if declared.is_none() && row.is_none() {
            check_name(name).map_err(|message| Error::invalid("source.name", Reason::FieldInvalid, message))?;
            if !change.allow_missing {
                return Err(self.not_found(name));
            }
        }
        if !change.etag.is_empty() && change.etag != etag_of(row) {
            return Err(Error::Conflict { name: format!("sources/{name}") });
        }
        let mut patched =
            row.cloned().unwrap_or_else(|| Patched { revision: 0, patch: SourcePatch::default(), credential: None });
        patched.revision += 1;
        self.apply(change, declared, &mut patched)?;
        let configured = self.resolve(name, declared, Some(&patched)).map_err(|mistakes| under_source(mistakes))?;
        self.check_api(change, &patched, &configured)?;
        if let Ok(before) = self.get(name) {
            self.check_destination(change, &before, &configured)?;
        }
        Ok((configured, patched))
    }

    /// Writes the fields of the change into what the API said so far.
    fn apply(&self, change: &Change, declared: Option<&Declared>, patched: &mut Patched) -> Result<(), Error> {
        let mut mistakes = Vec::new();
        let kind = patched.patch.kind.clone().or_else(|| declared.and_then(|one| one.patch.kind.clone()));
        match (&kind, &change.patch.kind) {
            (Some(kind), Some(wanted)) if kind != wanted => {
                mistakes.push(Violation::invalid(
                    "source.kind",
                    format!("is {kind} and cannot be changed: delete the source first"),
                ));
            }
            (None, wanted) => patched.patch.kind = Some(wanted.clone().unwrap_or_else(|| change.name.clone())),
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
                "credential" => patched.credential = change.credential.clone(),
                "name" | "kind" => {}
                _ if SourcePatch::is_path(path) => {
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
        if mistakes.is_empty() { Ok(()) } else { Err(Error::Invalid(mistakes)) }
    }

    /// The settings in effect of one source, with everything that is known about it.
    fn resolve(
        &self,
        name: &str,
        declared: Option<&Declared>,
        patched: Option<&Patched>,
    ) -> Result<Configured, Vec<Violation>> {
        let below = declared.map(|one| one.patch.clone()).unwrap_or_default();
        let above = patched.map(|one| one.patch.clone()).unwrap_or_default();
        let both = below.under(&above);
        let kind = both.kind.clone().unwrap_or_default();
        let Some(adapter) = self.kinds.iter().find(|one| one.about().kind == kind) else {
            let known: Vec<_> = self.kinds.iter().map(|one| one.about().kind.as_str()).collect();
            let message = format!("{kind:?} is no kind; use one of {}", known.join(", "));
            return Err(vec![Violation::new("kind", Reason::KindUnknown, message)]);
        };
        let credential = patched.and_then(|one| one.credential.clone());
        let with_credential = credential.is_some();
        let credential = credential.or_else(|| declared.and_then(|one| one.credential.clone()));
        let about = adapter.about();
        let settings = patch::effective(about, name, &both, credential)?;
        let state = match (settings.enabled, patch::missing(about, &settings)) {
            (false, _) => State::Disabled,
            (true, Some(missing)) => State::NotConfigured(missing),
            (true, None) => State::Active,
        };
        let mut fields = above.paths();
        if with_credential {
            fields.push("credential".into());
        }
        let from_api = fields.iter().any(|path| self.is_address(adapter.as_ref(), path));
        Ok(Configured {
            settings: Arc::new(settings),
            kind: adapter.clone(),
            origin: declared.map(|one| one.origin.clone()),
            patched: if declared.is_some() { fields } else { Vec::new() },
            etag: etag_of(patched),
            state,
            from_api,
        })
    }

    fn is_address(&self, kind: &dyn Source, path: &str) -> bool {
        let option = path.strip_prefix("options.");
        let leads = |value_type: &OptionType| matches!(value_type, OptionType::Address | OptionType::Resolver);
        matches!(path, "base_url" | "proxy")
            || option.is_some_and(|name| {
                kind.about().options.iter().any(|spec| spec.name == name && leads(&spec.value_type))
            })
    }

    /// What the API may not say: a path or address beyond what the configuration allows, a credential by reference.
    fn check_api(&self, change: &Change, patched: &Patched, configured: &Configured) -> Result<(), Error> {
        let mut mistakes = Vec::new();
        if let Some(credential) = &change.credential {
            let text = credential.expose_secret().trim();
            if text.starts_with("env:") || text.starts_with("file:") {
                let message = "over the API a credential is the value itself; env: and file: are read from the configuration file only";
                mistakes.push(Violation::invalid("source.credential", message));
            } else if text.is_empty() || text.chars().any(char::is_control) {
                mistakes.push(Violation::invalid("source.credential", "must be one line of text and not empty"));
            }
        }
        let rules = EgressRules { from_api: true, allowed_networks: self.allowed_networks.clone() };
        for path in ["base_url", "proxy"] {
            let text = if path == "base_url" { &patched.patch.base_url } else { &patched.patch.proxy };
            let url = text
                .as_deref()
                .filter(|text| !text.trim().is_empty())
                .and_then(|text| url::Url::parse(text.trim()).ok());
            if let Some(Err(why)) = url.map(|url| rules.check_url(&url)) {
                mistakes.push(Violation::new(format!("source.{path}"), Reason::EgressForbidden, why));
            }
        }
        for name in patched.patch.options.keys() {
            let field = format!("source.options.{name}");
            let spec = configured.kind.about().options.iter().find(|spec| spec.name == *name);
            let Some((spec, OptionValue::Text(text))) = spec.zip(configured.settings.options.get(name)) else {
                continue;
            };
            match spec.value_type {
                OptionType::Address => {
                    if let Some(Err(why)) = url::Url::parse(text).ok().map(|url| rules.check_url(&url)) {
                        mistakes.push(Violation::new(field, Reason::EgressForbidden, why));
                    }
                }
                OptionType::Resolver => {
                    if let Err(why) = rules.check_resolver(text) {
                        mistakes.push(Violation::new(field, Reason::EgressForbidden, why));
                    }
                }
                OptionType::Path => {
                    if let Err(why) = self.check_path(Path::new(text)) {
                        mistakes.push(Violation::new(field, Reason::EgressForbidden, why));
                    }
                }
                OptionType::Integer { .. }
                | OptionType::Number { .. }
                | OptionType::Flag
                | OptionType::Text
                | OptionType::Choice(_)
                | OptionType::TextList
                | OptionType::TextTable
                | OptionType::Span => {}
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(Error::Invalid(mistakes)) }
    }

    /// A file that a caller names must stand under a folder that the configuration names, links followed.
    fn check_path(&self, path: &Path) -> Result<(), String> {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let inside = |folder: &PathBuf| real.starts_with(folder.canonicalize().unwrap_or_else(|_| folder.clone()));
        let climbs = real.components().any(|part| part == std::path::Component::ParentDir);
        if !climbs && self.list_folders.iter().any(inside) {
            return Ok(());
        }
        Err("over the API only a file under a folder of list_folders in the configuration may be named".into())
    }

    /// A kept credential goes only where it was given for.
    fn check_destination(&self, change: &Change, before: &Configured, after: &Configured) -> Result<(), Error> {
        let about = after.kind.about();
        let same = patch::destination(about, &before.settings) == patch::destination(about, &after.settings);
        if same || change.credential.is_some() || after.settings.credential.is_none() {
            return Ok(());
        }
        Err(Error::NotReady {
            reason: Reason::CredentialRequired,
            subject: format!("sources/{}", change.name),
            message:
                "the kept credential was given for another address, proxy or authority: send the credential along \
                      in the same request"
                    .into(),
        })
    }

    fn publish(&self, rows: &BTreeMap<String, Patched>) {
        let before = self.snapshot();
        let names: BTreeSet<&String> = self.declared.keys().chain(rows.keys()).collect();
        let mut sources = Vec::with_capacity(names.len());
        for name in names {
            let row = rows.get(name);
            match self.resolve(name, self.declared.get(name), row) {
                Ok(one) => sources.push(unchanged(&before, one)),
                Err(mistakes) => {
                    let why: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
                    warn!(source = name, why = why.join("; "), "a source cannot be used");
                }
            }
        }
        self.snapshot.store(Arc::new(sources));
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("sources", &self.snapshot()).finish_non_exhaustive()
    }
}

/// Keeps the settings of a source that did not change, so that what was built for it is kept too.
fn unchanged(before: &[Configured], mut now: Configured) -> Configured {
    let old = before.iter().find(|one| one.settings.name == now.settings.name && one.etag == now.etag);
    if let Some(old) = old {
        now.settings = old.settings.clone();
    }
    now
}

fn etag_of(row: Option<&Patched>) -> String {
    format!("r{}", row.map_or(0, |row| row.revision))
}

fn read_row(row: &SourceRow, seal: &dyn Seal) -> Result<Patched, String> {
    let patch = serde_json::from_str(&row.document).map_err(|error| error.to_string())?;
    let credential = row.credential.as_ref().map(|sealed| seal.open(&row.name, sealed)).transpose();
    Ok(Patched { revision: row.revision, patch, credential: credential.map_err(|error| error.to_string())? })
}

fn unknown_path(mask: &str, path: &str) -> Violation {
    let message = format!("{path:?} is no field that can be written");
    Violation::new(mask, Reason::MaskInvalid, message)
}

fn under_source(mistakes: Vec<Violation>) -> Error {
    Error::Invalid(mistakes.into_iter().map(|one| one.under("source")).collect())
}

fn unavailable(error: &StoreError) -> Error {
    warn!(%error, "the settings of a source could not be kept");
    Error::Unavailable { message: "the store cannot be reached".into(), retry_after: None }
}

fn internal(error: &serde_json::Error) -> Error {
    warn!(%error, "the settings of a source could not be written");
    Error::Unavailable { message: "the settings could not be kept".into(), retry_after: None }
}
