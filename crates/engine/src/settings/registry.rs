//! The sources in effect: what file and environment declare, with what the API patched over it, field by field.
//!
//! A change is durable before it is answered, and guarded by an etag. It resolves the source that it changes and no other
//! (`resolver.rs`), on a thread that may wait for the disk, and holds the lock only to compare and to write.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};
use tracing::warn;

use super::api_override::{ApiOverride, etag_of, read_row};
use super::resolver::{Resolver, kind_conflict};
use super::{Change, Config, ResolvedSource};
use crate::error::{Error, Reason};
use crate::source::Kind;
use crate::store::{Sealer, SourceStore, StoreError, Swap};

/// The sources in effect.
pub struct Registry {
    kinds: Vec<Arc<dyn Kind>>,
    /// Replaced while the rows are locked.
    resolver: ArcSwap<Resolver>,
    store: Arc<dyn SourceStore>,
    sealer: Arc<Sealer>,
    rows: Mutex<BTreeMap<String, ApiOverride>>,
    snapshot: ArcSwap<Vec<Arc<ResolvedSource>>>,
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
        sealer: Arc<Sealer>,
    ) -> Result<Self, StoreError> {
        let rows = store.source_rows().await?;
        let rows: BTreeMap<_, _> = rows.iter().map(|row| (row.name.clone(), read_row(row, &sealer))).collect();
        let resolver = Arc::new(Resolver::new(config, kinds));
        let resolved = resolve_all(resolver.clone(), rows.clone()).await?;
        let snapshot = ArcSwap::from_pointee(resolved.into_iter().map(Arc::new).collect());
        Ok(Self { kinds: kinds.to_vec(), resolver: resolver.into(), store, sealer, rows: Mutex::new(rows), snapshot })
    }

    /// Replaces what the configuration declares; what the API set stays on top. A source that is declared as before keeps
    /// its `Arc`, so that its pipeline is not rebuilt. The snapshot is a new one even if nothing changed.
    ///
    /// # Errors
    /// If the sources cannot be resolved; then nothing changes.
    pub async fn reload(&self, config: &Config) -> Result<(), StoreError> {
        let rows = self.rows.lock().await;
        let before = self.resolver.load_full();
        let resolver = Arc::new(Resolver::new(config, &self.kinds));
        let resolved = resolve_all(resolver.clone(), rows.clone()).await?;
        let old = self.snapshot();
        let keep = |source: ResolvedSource| {
            let name = source.settings.name.as_str();
            let kept = place_of(&old, name).ok().filter(|_| resolver.declares_as(&before, name));
            kept.and_then(|place| old.get(place).cloned()).unwrap_or_else(|| Arc::new(source))
        };
        let sources = resolved.into_iter().map(keep).collect();
        self.resolver.store(resolver.clone());
        self.snapshot.store(Arc::new(sources));
        Ok(())
    }

    /// Publishes the same sources as a new snapshot, so that verdicts that were made before are not reused.
    pub async fn renew(&self) {
        let _rows = self.rows.lock().await;
        self.snapshot.store(Arc::new(Vec::clone(&self.snapshot())));
    }

    /// Every source as it is in effect, in order of name. The same `Arc` until something changes.
    pub fn snapshot(&self) -> Arc<Vec<Arc<ResolvedSource>>> {
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
        let snapshot = self.snapshot();
        let place = place_of(&snapshot, name).map_err(|_| self.not_found(name))?;
        Ok(ResolvedSource::clone(&snapshot[place]))
    }

    /// Whether a source of this name exists.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn check(&self, name: &str) -> Result<(), Error> {
        place_of(&self.snapshot(), name).map(|_| ()).map_err(|_| self.not_found(name))
    }

    /// The failure for a source that does not exist.
    pub fn not_found(&self, name: &str) -> Error {
        let snapshot = self.snapshot();
        let names: Vec<_> = snapshot.iter().map(|source| source.settings.name.as_str()).collect();
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
    /// old etag, [`Error::NotReady`] when a stored credential would go to another target.
    pub async fn configure(&self, change: Change) -> Result<ResolvedSource, Error> {
        let name = change.name.clone();
        loop {
            let (seen, resolver) = (etag_of(self.rows.lock().await.get(&name)), self.resolver.load_full());
            let (resolved, changed) = self.apply_change(&change).await?;
            let mut rows = self.rows.lock().await;
            // Another change or a reload came first: this one is checked again against the new state.
            if etag_of(rows.get(&name)) != seen || !Arc::ptr_eq(&resolver, &self.resolver.load()) {
                continue;
            }
            let expected = changed.revision - 1;
            let row = changed.to_row(&name, &self.sealer)?;
            match self.store.put_source_row(row, expected).await? {
                Swap::Done => {}
                Swap::Conflict => return Err(self.reload_after_conflict(rows, &name).await),
            }
            rows.insert(name.clone(), changed);
            self.publish(&name, Some(resolved.clone()));
            return Ok(resolved);
        }
    }

    /// What the change would bring into effect, without making it.
    ///
    /// # Errors
    /// As [`Registry::configure`].
    pub async fn effective(&self, change: &Change) -> Result<ResolvedSource, Error> {
        self.apply_change(change).await.map(|(resolved, _)| resolved)
    }

    /// Deletes a source that was made over the API; with `validate_only`, only checks whether it could be.
    ///
    /// # Errors
    /// [`Error::NotReady`] naming the place where it is declared otherwise, [`Error::NotFound`], [`Error::Conflict`].
    pub async fn delete(&self, name: &str, etag: &str, allow_missing: bool, validate_only: bool) -> Result<(), Error> {
        let mut rows = self.rows.lock().await;
        let resolver = self.resolver.load_full();
        let declared = resolver.declared(name);
        // A source made over the API before another was declared under its name is deleted; the declared one stays.
        if let Some(declared) = declared.filter(|declared| kind_conflict(Some(*declared), rows.get(name)).is_none()) {
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
        match self.store.delete_source_row(name, row.revision).await? {
            Swap::Done => {}
            Swap::Conflict => return Err(self.reload_after_conflict(rows, name).await),
        }
        rows.remove(name);
        let resolved = self.resolve(name, None).await;
        self.publish(name, resolved);
        Ok(())
    }

    /// The store holds another revision: a cancelled call may have written a row that was not published yet. Publishes
    /// it, so that the next try sees it.
    async fn reload_after_conflict(
        &self,
        mut rows: MutexGuard<'_, BTreeMap<String, ApiOverride>>,
        name: &str,
    ) -> Error {
        let stored = match self.store.source_rows().await {
            Ok(stored) => stored,
            Err(error) => return error.into(),
        };
        let row = stored.iter().find(|row| row.name == name).map(|row| read_row(row, &self.sealer));
        let resolved = self.resolve(name, row.clone()).await;
        match row {
            Some(row) => drop(rows.insert(name.to_owned(), row)),
            None => drop(rows.remove(name)),
        }
        self.publish(name, resolved);
        Error::Conflict { name: format!("sources/{name}") }
    }

    /// Applies the change to the current row. Another change may come before it is stored.
    async fn apply_change(&self, change: &Change) -> Result<(ResolvedSource, ApiOverride), Error> {
        let row = self.rows.lock().await.get(&change.name).cloned();
        let (resolver, wanted) = (self.resolver.load_full(), change.clone());
        let applied = tokio::task::spawn_blocking(move || resolver.apply_change(row.as_ref(), &wanted)).await;
        match applied.unwrap_or_else(|error| Err(interrupted(&error))) {
            Ok(Some(applied)) => Ok(applied),
            // Only now: the hint compares the name with those of all sources.
            Ok(None) => Err(self.not_found(&change.name)),
            Err(error) => Err(error),
        }
    }

    async fn resolve(&self, name: &str, row: Option<ApiOverride>) -> Option<ResolvedSource> {
        let (resolver, name) = (self.resolver.load_full(), name.to_owned());
        let resolved = tokio::task::spawn_blocking(move || resolver.resolve_or_placeholder(&name, row.as_ref())).await;
        resolved.unwrap_or_else(|error| {
            interrupted(&error);
            None
        })
    }

    /// Publishes one source, or removes it. Reuses the `Arc`s of unchanged sources so that their pipelines are not
    /// rebuilt. Called while the rows are locked.
    fn publish(&self, name: &str, source: Option<ResolvedSource>) {
        let mut sources = Vec::clone(&self.snapshot());
        match (place_of(&sources, name), source) {
            (Ok(place), Some(source)) => sources[place] = Arc::new(source),
            (Ok(place), None) => drop(sources.remove(place)),
            (Err(place), Some(source)) => sources.insert(place, Arc::new(source)),
            (Err(_), None) => {}
        }
        self.snapshot.store(Arc::new(sources));
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("sources", &self.snapshot()).finish_non_exhaustive()
    }
}

async fn resolve_all(
    resolver: Arc<Resolver>,
    rows: BTreeMap<String, ApiOverride>,
) -> Result<Vec<ResolvedSource>, StoreError> {
    let resolved = tokio::task::spawn_blocking(move || resolver.resolve_all(&rows)).await;
    resolved.map_err(|error| StoreError::unavailable(error.to_string()))
}

/// Where the source of this name is, or would be.
fn place_of(sources: &[Arc<ResolvedSource>], name: &str) -> Result<usize, usize> {
    sources.binary_search_by(|source| source.settings.name.as_str().cmp(name))
}

fn interrupted(error: &tokio::task::JoinError) -> Error {
    warn!(%error, "the settings of a source could not be resolved");
    Error::Unavailable { message: "the settings could not be resolved".into(), retry_after: None }
}
