//! Storage of what outlives a request: verdicts, answers, what analysts said, submissions, source settings, policies, and
//! the ledger of quota and disclosures.
//!
//! The traits are small and follow the uses, not the tables; the current time is always an argument. Only [`open`]
//! chooses a backend: `sqlite/` is durable, `memory.rs` is for tests and paused time. One contract test suite runs on
//! both. `encode/` encodes verdicts, `quota.rs` and `windows.rs` implement quota windows, `seal.rs` encrypts
//! credentials, and `directory.rs` locks the data directory.

#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future;

use crate::finding::Disposition;
use crate::indicator::{Indicator, Tlp};
use crate::verdict::{Feedback, Retraction, Verdict};

mod answers;
mod directory;
mod encode;
mod error;
mod id;
mod ledger;
mod memory;
mod permissions;
mod quota;
mod seal;
mod sqlite;
mod submission;
mod time;
mod windows;

pub use answers::{AnswerCache, AnswerStore, CacheDigest, CachedConversation, CachedRow, CachedStep, RawAnswer};
pub use directory::{DataDirectory, LockStatus};
pub use error::{StoreError, StoreErrorKind};
pub use id::{new_id, new_incident};
pub use ledger::{
    Acquire, Acquired, Disclosure, DisclosureFilter, Ledger, Unit, WindowUse, caller_account, caller_limits,
};
pub use memory::Memory;
pub use quota::spent_window;
pub use seal::{PIECE_OVERHEAD, Sealer};
pub use submission::{
    AnalysisStatus, HoldReason, HoldReasonCode, Submission, SubmissionFilter, SubmissionReview, SubmissionState,
    SubmissionStore, SubmissionType, SubmittedAnalysis, SubmittedFile,
};

/// A store operation in progress.
pub type BoxFuture<'a, T> = future::BoxFuture<'a, Result<T, StoreError>>;

/// What a completed write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Durability {
    /// Any end of the process. A power loss may lose the last moments before it, but never consistency.
    #[default]
    Normal,
    /// Also a power loss. Each group of writes waits for the disk.
    Full,
}

/// Opens the durable store in this file, and creates it with mode 0600 if it does not exist. The caller must hold the
/// lock of the data directory. Blocks; meant for start-up.
///
/// # Errors
/// If the file cannot be created, is empty, is not a database of this program or was made by a newer version, or if a
/// thread cannot be started.
pub fn open(path: &Path, durability: Durability) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(sqlite::Sqlite::open(path, durability)?))
}

/// Opens an existing durable store, which another process may be using, only for reading and [`Maintenance::backup`].
///
/// # Errors
/// If there is no store of this program or it was made by a newer version, or if a thread cannot be started.
pub fn open_read_only(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(sqlite::Sqlite::open_read_only(path)?))
}

/// A stored verdict, one row each.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictRecord {
    /// Identifier without `verdicts/`; identifiers sort by time of creation.
    pub id: String,
    /// Time of creation.
    pub create_time: SystemTime,
    /// Name of the caller.
    pub caller: String,
    /// The TLP of the request.
    pub tlp: Tlp,
    /// The verdict with its outcomes.
    pub verdict: Verdict,
    /// The raw answers behind the outcomes, as source name and hash, in the order of the questions.
    pub answers: Vec<(String, String)>,
    /// The quota units that were spent for each outcome by the name of its source, retries included; a source that is not named
    /// cost nothing. `None`: recorded before units were.
    pub units: Option<BTreeMap<String, u32>>,
}

/// Which verdicts to list; unset fields do not filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerdictFilter {
    /// Only of this indicator.
    pub indicator: Option<Indicator>,
    /// Only with this disposition.
    pub disposition: Option<Disposition>,
    /// Only made at or after this moment.
    pub from: Option<SystemTime>,
    /// Only made before this moment.
    pub until: Option<SystemTime>,
}

/// A position in a list that is sorted newest first; the next page begins after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Time of the last row of the previous page.
    pub time: SystemTime,
    /// Identifier of that row, to order rows of the same time.
    pub id: String,
}

/// Limits of a page. A page has at least one row, however large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Maximum of rows.
    pub rows: usize,
    /// Maximum of the total encoded size in bytes.
    pub bytes: usize,
}

impl PageLimit {
    /// Limits only the number of rows.
    pub fn rows(rows: usize) -> Self {
        Self { rows, bytes: usize::MAX }
    }
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    /// The rows, newest first.
    pub rows: Vec<T>,
    /// Whether more rows follow.
    pub has_more: bool,
    /// Total encoded size of the rows in bytes.
    pub bytes: usize,
}

impl<T> Listed<T> {
    /// Collects the first rows that fit into the limit; `rows` yields each with its size in bytes.
    ///
    /// # Errors
    /// The first error among the rows.
    fn fill(
        limit: PageLimit,
        rows: impl IntoIterator<Item = Result<(T, usize), StoreError>>,
    ) -> Result<Self, StoreError> {
        let mut listed = Self { rows: Vec::new(), has_more: false, bytes: 0 };
        for row in rows {
            let (row, bytes) = row?;
            let all = listed.bytes.saturating_add(bytes);
            if listed.rows.len() == limit.rows || all > limit.bytes && !listed.rows.is_empty() {
                listed.has_more = true;
                break;
            }
            listed.bytes = all;
            listed.rows.push(row);
        }
        Ok(listed)
    }
}

/// The history of verdicts. A stored verdict never changes.
pub trait VerdictStore: Send + Sync {
    /// Stores a verdict; resolves when it is durable.
    fn append(&self, record: Arc<VerdictRecord>) -> BoxFuture<'_, ()>;
    /// The verdict of this identifier.
    fn verdict<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<VerdictRecord>>;
    /// Verdicts that match the filter, newest first, starting after `after`. Verdicts that cannot be read are left out.
    fn verdicts(
        &self,
        filter: VerdictFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<VerdictRecord>>;
    /// How many verdicts match the filter, also those that cannot be read.
    fn count_verdicts(&self, filter: VerdictFilter) -> BoxFuture<'_, u64>;
    /// Removes verdicts created before this time, and returns their number.
    fn prune_verdicts(&self, before: SystemTime) -> BoxFuture<'_, u64>;
}

/// Which feedback to list; unset fields do not filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedbackFilter {
    /// Only on this indicator.
    pub indicator: Option<Indicator>,
    /// Only what holds at this moment.
    pub active_at: Option<SystemTime>,
    /// Only what was not retracted, also where it has expired.
    pub unretracted: bool,
}

/// What analysts said. Changes are durable before the call returns.
pub trait FeedbackStore: Send + Sync {
    /// Records feedback.
    fn record_feedback(&self, feedback: Feedback) -> BoxFuture<'_, ()>;
    /// The feedback of this identifier.
    fn feedback<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Feedback>>;
    /// Feedback that matches the filter, newest first, starting after `after`.
    fn list_feedback(
        &self,
        filter: FeedbackFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Feedback>>;
    /// Marks feedback as retracted, unless it is already, and returns it as it is then; `None` if there is none.
    fn retract_feedback<'a>(&'a self, id: &'a str, retraction: Retraction) -> BoxFuture<'a, Option<Feedback>>;
    /// Removes feedback that ended before this time, and returns its number. What is active stays, however old.
    fn prune_feedback(&self, before: SystemTime) -> BoxFuture<'_, u64>;
}

/// Pairs feedback with its approximate size in a list, in bytes.
fn feedback_with_bytes(feedback: Feedback) -> (Feedback, usize) {
    let texts = [&feedback.id, &feedback.author, &feedback.reason, &feedback.caller];
    let retraction = feedback.retraction.as_ref().map_or(0, |retraction| retraction.reason.len());
    let bytes = 128 + feedback.indicator.value().len() + texts.into_iter().map(String::len).sum::<usize>() + retraction;
    (feedback, bytes)
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Raw answers older than this are removed.
    pub answers_age: Duration,
    /// If the compressed answers exceed this many bytes, the oldest are removed.
    pub answers_bytes: u64,
    /// Verdicts older than this are removed; so are feedback that ended before it and revisions of policies that were
    /// replaced a day before it, except the newest hundred of each policy.
    pub verdicts_age: Duration,
    /// Disclosures older than this are removed, and submissions that ended before it.
    pub disclosures_age: Duration,
    /// If the whole store exceeds this many bytes, the oldest verdicts, answers, disclosures and cached answers
    /// are removed.
    pub store_bytes: u64,
}

/// The number of records that pruning removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Raw answers.
    pub answers: u64,
    /// Verdicts.
    pub verdicts: u64,
    /// Disclosures.
    pub disclosures: u64,
    /// Cached answers.
    pub cached: u64,
}

/// A change or declaration of a source over the API: a patch that overrides other settings field by field.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Name without `sources/`.
    pub name: String,
    /// Counts changes, from 1; the compare-and-set key.
    pub revision: u64,
    /// The patch as JSON, written and read by `settings`. Holds no credential.
    pub document: String,
    /// The credential, sealed by [`Sealer`]; `None`: none given over the API.
    pub credential: Option<Vec<u8>>,
}

impl fmt::Debug for SourceRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceRow")
            .field("name", &self.name)
            .field("revision", &self.revision)
            .field("document", &self.document)
            .field("credential", &self.credential.as_ref().map(|_| "***"))
            .finish()
    }
}

/// The result of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The change is durable.
    Done,
    /// Another change was made first: the stored revision is not the expected one.
    Conflict,
}

/// Source settings that were made over the API. Changes are durable before the call returns.
pub trait SourceStore: Send + Sync {
    /// Every row, by name.
    fn source_rows(&self) -> BoxFuture<'_, Vec<SourceRow>>;
    /// Writes a row if the stored one has revision `expected` (0: there is none).
    fn put_source_row(&self, row: SourceRow, expected: u64) -> BoxFuture<'_, Swap>;
    /// Removes a row if the stored one has revision `expected`.
    fn delete_source_row<'a>(&'a self, name: &'a str, expected: u64) -> BoxFuture<'a, Swap>;
}

/// One change of a policy: a new revision, or its deletion. A stored change never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// Name without `policies/`.
    pub name: String,
    /// Counts the changes of this policy, from 1 without gaps; the compare-and-set key.
    pub change: u64,
    /// The revision that it makes, from 1; of a deletion: the last revision before it.
    pub revision: u32,
    /// When it was made.
    pub time: SystemTime,
    /// Whether it was made by the configuration file, not over the API.
    pub from_file: bool,
    /// The policy as JSON, written and read by `settings`; `None`: it was deleted.
    pub document: Option<String>,
}

/// The policies of this installation, with all their revisions. Changes are durable before the call returns.
pub trait PolicyStore: Send + Sync {
    /// The last change of every policy, by name; deleted ones too.
    fn last_policy_changes(&self) -> BoxFuture<'_, Vec<PolicyRow>>;
    /// The change that made this revision.
    fn policy_revision<'a>(&'a self, name: &'a str, revision: u32) -> BoxFuture<'a, Option<PolicyRow>>;
    /// Adds a change if it is the one after the last of its policy.
    fn append_policy_change(&self, row: PolicyRow) -> BoxFuture<'_, Swap>;
    /// Removes the changes that were replaced before this time, except the newest `keep` of each policy. The last
    /// always stays.
    fn prune_policies(&self, before: SystemTime, keep: u32) -> BoxFuture<'_, u64>;
}

/// A never-send rule that was made over the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverSendRow {
    /// Name without `neverSendRules/`.
    pub id: String,
    /// The rule in normal form, which `settings` reads.
    pub rule: String,
    /// Why it is there; may be empty.
    pub comment: String,
    /// The caller who made it.
    pub creator: String,
    /// When it was made.
    pub create_time: SystemTime,
}

/// Never-send rules that were made over the API. Changes are durable before the call returns.
pub trait NeverSendStore: Send + Sync {
    /// Every rule, by identifier.
    fn never_send_rows(&self) -> BoxFuture<'_, Vec<NeverSendRow>>;
    /// Adds a rule; one of its identifier is replaced.
    fn put_never_send_row(&self, row: NeverSendRow) -> BoxFuture<'_, ()>;
    /// Removes the rule of this identifier, if there is one.
    fn delete_never_send_row<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()>;
}

/// Operations on the store as a whole.
pub trait Maintenance: Send + Sync {
    /// Checks that the store's file is still at its path and intact, so that writes are not lost.
    ///
    /// # Errors
    /// If the file was moved, deleted or replaced. Nothing is written until it is back.
    fn check(&self) -> Result<(), StoreError>;
    /// Whether the disk is full. Then only the ledger and settings are written, into space that was reserved for them.
    fn is_full(&self) -> bool;
    /// Removes the oldest verdicts, answers, disclosures and cached answers until the whole store has at most `max_bytes` bytes.
    fn prune_to(&self, max_bytes: u64) -> BoxFuture<'_, Pruned>;
    /// Reserves space for a full disk again, if there is enough, so that history is written again.
    fn recover_space(&self) -> BoxFuture<'_, ()>;
    /// Copies a consistent snapshot of the store to the new file `to`, also while another process uses the store.
    ///
    /// Fails if `to` exists or the backend has no file. After a failure, no file is left at `to`.
    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, ()>;
    /// Completes all queued operations and accepts no further ones: later calls fail. Closing again does nothing.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The newest changes of each policy that stay however old they are.
const KEPT_POLICY_CHANGES: u32 = 100;
/// A verdict may name a revision that was replaced while its sources were asked, and a clock may be corrected. A revision that
/// was replaced longer than this before the oldest verdict that stays is named by none.
const POLICY_GRACE: Duration = Duration::from_secs(86_400);

/// A whole store.
pub trait Store:
    VerdictStore
    + AnswerStore
    + AnswerCache
    + SourceStore
    + PolicyStore
    + NeverSendStore
    + FeedbackStore
    + SubmissionStore
    + Ledger
    + Maintenance
    + 'static
{
    /// Removes all records whose retention has ended at `now`.
    fn prune(&self, retention: Retention, now: SystemTime) -> BoxFuture<'_, Pruned> {
        Box::pin(async move {
            let pruned = match self.prune_once(retention, now).await {
                // Removing rows needs disk space too. The failed attempt has released the reserved space, so a second
                // one can succeed.
                Err(error) if error.kind == StoreErrorKind::Full => self.prune_once(retention, now).await,
                pruned => pruned,
            };
            self.recover_space().await?;
            pruned
        })
    }

    /// One pass of [`Self::prune`].
    fn prune_once(&self, retention: Retention, now: SystemTime) -> BoxFuture<'_, Pruned> {
        let before = move |age| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        Box::pin(async move {
            self.prune_quota(now).await?;
            let cached = self.prune_cached(now).await?;
            let answers = self.prune_answers(before(retention.answers_age), retention.answers_bytes).await?;
            let verdicts = self.prune_verdicts(before(retention.verdicts_age)).await?;
            self.prune_feedback(before(retention.verdicts_age)).await?;
            self.prune_policies(before(retention.verdicts_age + POLICY_GRACE), KEPT_POLICY_CHANGES).await?;
            let disclosures = self.prune_disclosures(before(retention.disclosures_age)).await?;
            self.prune_submissions(before(retention.disclosures_age)).await?;
            let beyond = self.prune_to(retention.store_bytes).await?;
            Ok(Pruned {
                answers: answers + beyond.answers,
                verdicts: verdicts + beyond.verdicts,
                disclosures: disclosures + beyond.disclosures,
                cached: cached + beyond.cached,
            })
        })
    }
}

impl<T> Store for T where
    T: VerdictStore
        + AnswerStore
        + AnswerCache
        + SourceStore
        + PolicyStore
        + NeverSendStore
        + FeedbackStore
        + SubmissionStore
        + Ledger
        + Maintenance
        + 'static
{
}
