//! The policies in effect, and their changes.
//!
//! A change is durable before it is answered, guarded by an etag, and holds from the next request on. The store only ever
//! gets rows added: a verdict of any revision can be explained as long as the store exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tracing::{error, warn};

use super::change::overlay;
use super::fields::{PolicyFields, build, built_in, by_path};
use super::{PolicyChange, PolicyOrigin, ResolvedPolicy, stored};
use crate::clock::Clock;
use crate::error::{Error, Reason, Violation, merge_new};
use crate::settings::name::check_name;
use crate::settings::{Config, DeclaredPolicy, nearest};
use crate::store::{PolicyRow, PolicyStore, StoreError, Swap};
use crate::verdict::{Policy, RuleKind};

/// Policies beside those that are built in. Each is in memory, and in the answers of lists.
const MAX_POLICIES: usize = 1000;
/// A hint with more names would be no help.
const MOST_NAMES_IN_HINT: usize = 10;

/// What the configuration says.
struct Declarations {
    /// The file that declares each policy, by name.
    declared: BTreeMap<String, PathBuf>,
    default_policy: String,
}

impl Declarations {
    fn new(config: &Config) -> Self {
        let declared = config.policies.iter().map(|declared| (declared.policy.name.clone(), declared.file.clone()));
        Self { declared: declared.collect(), default_policy: config.default_policy.clone() }
    }
}

/// The policies in effect.
pub struct PolicyRegistry {
    store: Arc<dyn PolicyStore>,
    clock: Arc<dyn Clock>,
    configured: ArcSwap<Declarations>,
    /// The last change of every policy that the store knows.
    changes: Mutex<BTreeMap<String, PolicyRow>>,
    snapshot: ArcSwap<Vec<Arc<ResolvedPolicy>>>,
}

impl PolicyRegistry {
    /// Stores what the configuration declares, where it differs from the last revision, and reads the others.
    ///
    /// # Errors
    /// When the store cannot be read or written. A stored policy that cannot be read is left out, and logged.
    pub async fn open(config: &Config, store: Arc<dyn PolicyStore>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let mut changes = by_name(store.last_policy_changes().await?);
        declare(config, &mut changes, store.as_ref(), clock.as_ref()).await?;
        let registry = Self {
            store,
            clock,
            configured: ArcSwap::from_pointee(Declarations::new(config)),
            snapshot: ArcSwap::default(),
            changes: Mutex::default(),
        };
        registry.publish(&changes);
        Ok(Self { changes: Mutex::new(changes), ..registry })
    }

    /// Brings into effect what the configuration declares now.
    ///
    /// # Errors
    /// If the default policy does not exist, or the store cannot be written; then the policies in effect stay.
    pub async fn reload(&self, config: &Config) -> Result<(), Error> {
        let mut changes = self.changes.lock().await;
        let name = &config.default_policy;
        let is_declared = config.policies.iter().any(|declared| declared.policy.name == *name);
        let stays = |policy: Arc<ResolvedPolicy>| !matches!(policy.origin, PolicyOrigin::File(_));
        if !is_declared && !self.find(name).is_some_and(stays) {
            return Err(self.not_found(name));
        }
        // On a copy, so that nothing of it is in effect if the store fails in between. From the store, since a reload that failed
        // may have stored its first part.
        let mut next = by_name(self.store.last_policy_changes().await?);
        declare(config, &mut next, self.store.as_ref(), self.clock.as_ref()).await?;
        *changes = next;
        self.configured.store(Arc::new(Declarations::new(config)));
        self.publish(&changes);
        Ok(())
    }

    /// The policy that judges where a request names none, without `policies/`.
    pub fn default_policy(&self) -> String {
        self.configured.load().default_policy.clone()
    }

    /// Every policy in effect, in order of name.
    pub fn snapshot(&self) -> Arc<Vec<Arc<ResolvedPolicy>>> {
        self.snapshot.load_full()
    }

    /// The policy of this name, or the default.
    ///
    /// # Errors
    /// [`Error::NotFound`], which names existing policies.
    pub fn get(&self, name: Option<&str>) -> Result<Arc<ResolvedPolicy>, Error> {
        let configured = self.configured.load();
        let name = name.unwrap_or(&configured.default_policy);
        self.find(name).ok_or_else(|| self.not_found(name))
    }

    /// This revision of a policy, also one that was changed or deleted since.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a revision that there never was or that was pruned, and for earlier revisions of a policy that is built in.
    pub async fn revision(&self, name: &str, revision: u32) -> Result<Arc<ResolvedPolicy>, Error> {
        let current = self.find(name);
        if let Some(current) = current.as_ref().filter(|current| current.policy.revision == revision) {
            return Ok(current.clone());
        }
        if let Some(row) = self.store.policy_revision(name, revision).await? {
            let read = self.resolve(&row);
            return read.map(Arc::new).map_err(|why| {
                let message = format!("its revision {revision} cannot be read ({why}): it was made by another version");
                Error::NotReady { reason: Reason::NotReady, subject: format!("policies/{name}"), message }
            });
        }
        let Some(current) = current else { return Err(self.not_found(name)) };
        let hint = match current.origin {
            PolicyOrigin::BuiltIn => format!("this version of the program has revision {}", current.policy.revision),
            PolicyOrigin::File(_) | PolicyOrigin::Api => format!("its revision now is {}", current.policy.revision),
        };
        let name = format!("policies/{name} revision {revision}");
        Err(Error::NotFound { reason: Reason::PolicyNotFound, name, hint })
    }

    /// Makes the change, durably, and answers with the policy in effect. What changes nothing makes no revision.
    ///
    /// # Errors
    /// [`Error::Invalid`] for every wrong field, [`Error::NotFound`] without `allow_missing`, [`Error::Conflict`] for an old
    /// etag, [`Error::NotReady`] for a policy that is built in or declared in the file.
    pub async fn configure(&self, change: &PolicyChange) -> Result<Arc<ResolvedPolicy>, Error> {
        let mut changes = self.changes.lock().await;
        let row = self.apply(change, changes.get(&change.name))?;
        self.append(&mut changes, row).await?;
        self.get(Some(&change.name))
    }

    /// What the change would bring into effect, without making it.
    ///
    /// # Errors
    /// As [`PolicyRegistry::configure`].
    pub async fn effective(&self, change: &PolicyChange) -> Result<Arc<ResolvedPolicy>, Error> {
        let row = self.apply(change, self.changes.lock().await.get(&change.name))?;
        let unread = |why| Error::invalid("policy", Reason::FieldInvalid, why);
        self.resolve(&row).map(Arc::new).map_err(unread)
    }

    /// Deletes a policy that was made over the API; with `validate_only`, only checks whether it could be. Its revisions can
    /// still be read.
    ///
    /// # Errors
    /// [`Error::NotReady`] for a policy that is built in, declared in the file, or the default; [`Error::NotFound`],
    /// [`Error::Conflict`].
    pub async fn delete(&self, name: &str, etag: &str, allow_missing: bool, validate_only: bool) -> Result<(), Error> {
        let mut changes = self.changes.lock().await;
        let Some(current) = self.find(name) else {
            return if allow_missing { Ok(()) } else { Err(self.not_found(name)) };
        };
        check_writable(&current, "cannot be deleted")?;
        check_etag(&current, etag)?;
        if name == self.default_policy() {
            return Err(Error::NotReady {
                reason: Reason::InUse,
                subject: format!("policies/{name}"),
                message: "judges where a request names no policy: set default_policy to another first".into(),
            });
        }
        if validate_only {
            return Ok(());
        }
        let row = next_row(name, changes.get(name), None, self.clock.as_ref());
        self.append(&mut changes, row).await
    }

    fn find(&self, name: &str) -> Option<Arc<ResolvedPolicy>> {
        let snapshot = self.snapshot();
        let place = snapshot.binary_search_by(|policy| policy.policy.name.as_str().cmp(name)).ok()?;
        snapshot.get(place).cloned()
    }

    fn not_found(&self, name: &str) -> Error {
        let snapshot = self.snapshot();
        let names: Vec<_> = snapshot.iter().map(|policy| policy.policy.name.as_str()).collect();
        let near = nearest(name, &names).map(|near| format!("did you mean policies/{near}? "));
        let all: Vec<_> = names.iter().map(|name| format!("policies/{name}")).collect();
        let all = match all.len() {
            ..=MOST_NAMES_IN_HINT => format!("use one of {}", all.join(", ")),
            _ => "ListPolicies shows those there are".to_owned(),
        };
        let hint = format!("{}{all}", near.unwrap_or_default());
        Error::NotFound { reason: Reason::PolicyNotFound, name: format!("policies/{name}"), hint }
    }

    /// The row that the change makes after `last`; `last` itself where it changes nothing.
    fn apply(&self, change: &PolicyChange, last: Option<&PolicyRow>) -> Result<PolicyRow, Error> {
        let current = self.find(&change.name);
        let mut violations = Vec::new();
        let base = match &current {
            Some(current) => {
                check_writable(current, "cannot be changed")?;
                check_etag(current, &change.etag)?;
                if change.base.is_some() {
                    violations.push(Violation::invalid("base", "is only for a policy that does not exist yet"));
                }
                current.policy.clone()
            }
            None => self.base(change, &mut violations)?,
        };
        let rule = base.rule.kind();
        if let Some(wanted) = change.rule.filter(|wanted| *wanted != rule) {
            let from = match &current {
                Some(_) => "a policy keeps its rule: make another one",
                None => "base has another rule",
            };
            let message = format!("the policy's rule is {}; {from}", rule.as_str());
            violations.push(Violation::invalid(format!("policy.{}", wanted.as_str()), message));
            return Err(Error::Invalid(violations));
        }
        let before = if current.is_some() { by_path(&base) } else { without_summary(&base) };
        let defaults = without_summary(&built_in(rule));
        let (fields, wrong) = overlay(&before, &defaults, &change.fields, change.mask.as_deref());
        violations.extend(wrong);
        let policy = match build(&change.name, rule, &fields) {
            Ok(policy) if violations.is_empty() => policy,
            built => {
                let wrong = built.err().into_iter().flatten().map(|wrong| wrong.nested_in("policy"));
                merge_new(&mut violations, wrong.collect());
                return Err(Error::Invalid(violations));
            }
        };
        let document = stored::write(&policy)?;
        match last.filter(|last| current.is_some() && last.document.as_ref() == Some(&document)) {
            Some(last) => Ok(last.clone()),
            None => Ok(next_row(&change.name, last, Some(document), self.clock.as_ref())),
        }
    }

    /// What a new policy starts from.
    fn base(&self, change: &PolicyChange, violations: &mut Vec<Violation>) -> Result<Policy, Error> {
        if let Err(message) = check_name("policy", &change.name) {
            violations.push(Violation::invalid("policy.name", message));
        } else if !change.allow_missing {
            return Err(self.not_found(&change.name));
        } else if !change.etag.is_empty() {
            return Err(Error::Conflict { name: format!("policies/{}", change.name) });
        } else if self.snapshot().len() >= MAX_POLICIES {
            let message = format!("the server has {MAX_POLICIES} policies: delete one first");
            return Err(Error::Exhausted { subject: "policies".into(), message, retry_after: None });
        }
        match change.base.as_ref().map(|base| self.get(Some(base))) {
            None => Ok(built_in(change.rule.unwrap_or(RuleKind::Weighted))),
            Some(Ok(base)) => Ok(base.policy.clone()),
            Some(Err(missing)) => {
                violations.push(Violation::new("base", Reason::PolicyNotFound, missing.to_string()));
                Ok(built_in(change.rule.unwrap_or(RuleKind::Weighted)))
            }
        }
    }

    /// Stores a row and brings it into effect.
    async fn append(&self, changes: &mut BTreeMap<String, PolicyRow>, row: PolicyRow) -> Result<(), Error> {
        let name = row.name.clone();
        if changes.get(&name) == Some(&row) {
            return Ok(());
        }
        let swap = self.store.append_policy_change(row.clone()).await?;
        if swap == Swap::Conflict {
            // A cancelled call may have stored a row that was not published: the next try sees it. Those of other policies may
            // be the first part of a reload that failed.
            let rows = self.store.last_policy_changes().await?;
            changes.extend(rows.into_iter().filter(|row| row.name == name).map(|row| (row.name.clone(), row)));
        } else {
            changes.insert(name.clone(), row);
        }
        self.publish(changes);
        if swap == Swap::Conflict { Err(Error::Conflict { name: format!("policies/{name}") }) } else { Ok(()) }
    }

    fn publish(&self, changes: &BTreeMap<String, PolicyRow>) {
        let mut policies: Vec<_> = Policy::built_in().into_iter().map(resolve_built_in).collect();
        let own: BTreeSet<_> = policies.iter().map(|policy| policy.policy.name.clone()).collect();
        for row in changes.values() {
            let is_declared = self.configured.load().declared.contains_key(&row.name);
            // What a file declared before and no longer does is not in effect, and neither is what was deleted.
            if row.document.is_none() || row.from_file && !is_declared {
                continue;
            }
            if own.contains(&row.name) {
                warn!(policy = row.name, "a policy is hidden by the one of its name that is built in");
                continue;
            }
            match self.resolve(row) {
                Ok(resolved) => policies.push(Arc::new(resolved)),
                Err(why) => error!(policy = row.name, why, "a stored policy cannot be read and is not in effect"),
            }
        }
        policies.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
        self.snapshot.store(Arc::new(policies));
    }

    fn resolve(&self, row: &PolicyRow) -> Result<ResolvedPolicy, String> {
        let document = row.document.as_ref().ok_or("it was deleted")?;
        let configured = self.configured.load();
        let declared = configured.declared.get(&row.name);
        let origin = match (declared, row.from_file) {
            (Some(file), _) => PolicyOrigin::File(file.clone()),
            (None, true) => PolicyOrigin::File(PathBuf::new()),
            (None, false) => PolicyOrigin::Api,
        };
        Ok(ResolvedPolicy {
            policy: stored::read(&row.name, row.revision, document)?,
            origin,
            etag: format!("c{}", row.change),
            create_time: Some(row.time),
        })
    }
}

impl fmt::Debug for PolicyRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        let names: Vec<_> = snapshot.iter().map(|policy| policy.policy.name.as_str()).collect();
        f.debug_struct("PolicyRegistry").field("policies", &names).finish_non_exhaustive()
    }
}

fn by_name(rows: Vec<PolicyRow>) -> BTreeMap<String, PolicyRow> {
    rows.into_iter().map(|row| (row.name.clone(), row)).collect()
}

/// Stores the policies that the configuration declares, where they differ from their last revision.
async fn declare(
    config: &Config,
    changes: &mut BTreeMap<String, PolicyRow>,
    store: &dyn PolicyStore,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    for DeclaredPolicy { policy, .. } in &config.policies {
        let (last, document) = (changes.get(&policy.name), stored::write(policy)?);
        if last.is_some_and(|last| last.document.as_ref() == Some(&document)) {
            continue;
        }
        let row = PolicyRow { from_file: true, ..next_row(&policy.name, last, Some(document), clock) };
        if store.append_policy_change(row.clone()).await? == Swap::Conflict {
            return Err(StoreError::unavailable("another process changes the policies"));
        }
        changes.insert(policy.name.clone(), row);
    }
    Ok(())
}

fn resolve_built_in(policy: Policy) -> Arc<ResolvedPolicy> {
    let etag = format!("b{}", policy.revision);
    Arc::new(ResolvedPolicy { policy, origin: PolicyOrigin::BuiltIn, etag, create_time: None })
}

/// The row after `last`: a new revision, or a deletion where there is no document.
fn next_row(name: &str, last: Option<&PolicyRow>, document: Option<String>, clock: &dyn Clock) -> PolicyRow {
    let revision = last.map_or(0, |last| last.revision);
    PolicyRow {
        name: name.to_owned(),
        change: last.map_or(0, |last| last.change) + 1,
        revision: if document.is_some() { revision + 1 } else { revision },
        time: clock.now(),
        from_file: false,
        document,
    }
}

/// A policy does not inherit the summary of the one it starts from: it would no longer be true.
fn without_summary(policy: &Policy) -> PolicyFields {
    by_path(&Policy { summary: String::new(), ..policy.clone() })
}

fn check_etag(current: &ResolvedPolicy, etag: &str) -> Result<(), Error> {
    if etag.is_empty() || etag == current.etag {
        return Ok(());
    }
    Err(Error::Conflict { name: format!("policies/{}", current.policy.name) })
}

/// Only what was made over the API can be changed over it.
fn check_writable(current: &ResolvedPolicy, what: &str) -> Result<(), Error> {
    let name = &current.policy.name;
    let message = match &current.origin {
        PolicyOrigin::Api => return Ok(()),
        PolicyOrigin::BuiltIn => {
            format!("is built in and {what}: make a policy of your own with policies/{name} as its base")
        }
        PolicyOrigin::File(file) => format!("declared by {} and {what} over the API: edit it there", file.display()),
    };
    Err(Error::NotReady { reason: Reason::DeclaredElsewhere, subject: format!("policies/{name}"), message })
}
