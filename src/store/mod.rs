//! What outlives a request: verdicts, answers, source settings, the ledger of quota and disclosures.
//!
//! Small traits by use, not by table; time is always an argument. [`open`] alone chooses a backend: `sqlite/` is the
//! durable one, `memory.rs` the one for tests and paused time; one contract suite runs on both. `encode.rs` says how a
//! verdict is written, `quota.rs` what a quota window means, `seal.rs` encrypts credentials, `directory.rs` locks.

#![warn(missing_docs)]

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future;

use crate::finding::{Disposition, counted};
use crate::indicator::{Indicator, Tlp};
use crate::source::{QuotaPer, QuotaWindow};
use crate::verdict::Verdict;

mod directory;
mod encode;
mod error;
mod id;
mod memory;
mod permissions;
mod quota;
mod seal;
mod sqlite;
mod time;
mod windows;

pub use directory::{DataDirectory, LockStatus};
pub use error::{StoreError, StoreErrorKind};
pub use id::{new_id, new_incident};
pub use memory::Memory;
pub use quota::spent_window;
pub use seal::Sealer;

/// A store operation under way.
pub type BoxFuture<'a, T> = future::BoxFuture<'a, Result<T, StoreError>>;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Durability {
    /// The end of the process, however it ends. Power loss may take the last moments, never consistency.
    #[default]
    Normal,
    /// Power loss too; each group of writes waits for the disk.
    Full,
}

/// Opens the durable store in this file; makes it, with mode 0600, if it does not exist. The caller holds the lock of the
/// data directory. Blocks; meant for start-up.
///
/// # Errors
/// The file cannot be made, is empty or no database of this program, a newer version made it, or a thread cannot be started.
pub fn open(path: &Path, durability: Durability) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(sqlite::Sqlite::open(path, durability)?))
}

/// Opens an existing durable store that another process may be using, for reading and [`Maintenance::backup`] alone.
///
/// # Errors
/// There is no store of this program, a newer version made it, or a thread cannot be started.
pub fn open_read_only(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(sqlite::Sqlite::open_read_only(path)?))
}

/// A stored verdict, one row each.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictRecord {
    /// Its identifier, without `verdicts/`; sorts by time of creation.
    pub id: String,
    /// When it was made.
    pub create_time: SystemTime,
    /// Who asked.
    pub caller: String,
    /// The TLP of the request.
    pub tlp: Tlp,
    /// The verdict with its outcomes.
    pub verdict: Verdict,
    /// Hashes of the raw answers behind the outcomes: source name and hash, in order of asking.
    pub answers: Vec<(String, String)>,
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

/// A place in a list, newest first: the next page begins after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Time of the last row of the page before.
    pub time: SystemTime,
    /// Identifier of that row, for rows of the same time.
    pub id: String,
}

/// How much of a list is read at once, at most; a single row is read whatever it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes of all rows together, as they are encoded.
    pub bytes: usize,
}

impl PageLimit {
    /// So many rows, however large.
    pub fn rows(rows: usize) -> Self {
        Self { rows, bytes: usize::MAX }
    }
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    /// The rows, newest first.
    pub rows: Vec<T>,
    /// Whether there are more behind them.
    pub has_more: bool,
    /// Bytes of the rows, as they are encoded.
    pub bytes: usize,
}

impl<T> Listed<T> {
    /// The first rows that fit into the limit, each with its bytes.
    ///
    /// # Errors
    /// The first that a row brings.
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
    /// Verdicts that match the filter, newest first, after `after`. One that cannot be read is left out.
    fn verdicts(
        &self,
        filter: VerdictFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<VerdictRecord>>;
    /// Removes verdicts made before this moment; says how many.
    fn prune_verdicts(&self, before: SystemTime) -> BoxFuture<'_, u64>;
}

/// A raw answer of a source, stored once per fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    /// SHA-256 of the body in lower-case hex.
    pub hash: String,
    /// The source that gave it.
    pub source: String,
    /// When it was received.
    pub received: SystemTime,
    /// The body as received.
    pub body: Vec<u8>,
}

/// How long what is stored stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Raw answers older than this go.
    pub answers_age: Duration,
    /// When compressed answers take more than this many bytes, the oldest go.
    pub answers_bytes: u64,
    /// Verdicts older than this go.
    pub verdicts_age: Duration,
    /// Disclosures older than this go.
    pub disclosures_age: Duration,
    /// When all that is stored takes more than this many bytes, the oldest verdicts, answers and disclosures go.
    pub store_bytes: u64,
}

/// How much pruning removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Raw answers.
    pub answers: u64,
    /// Verdicts.
    pub verdicts: u64,
    /// Disclosures.
    pub disclosures: u64,
}

/// Raw answers, compressed, off the durable path.
pub trait AnswerStore: Send + Sync {
    /// Stores an answer. Deduplicated by hash; `source` is the first that sent it.
    fn keep_answer(&self, answer: RawAnswer) -> BoxFuture<'_, ()>;
    /// The answer of this hash, if it was not pruned.
    fn answer<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Option<RawAnswer>>;
    /// Removes answers last received before this moment, then the oldest until the compressed rest has at most so many
    /// bytes; says how many went.
    fn prune_answers(&self, before: SystemTime, max_bytes: u64) -> BoxFuture<'_, u64>;
}

/// What the API changed or declared about a source: a patch that wins field by field.
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
    /// Another change came first: the stored revision is not the expected one.
    Conflict,
}

/// Source settings made over the API, durable before the call answers.
pub trait SourceStore: Send + Sync {
    /// Every row, by name.
    fn source_rows(&self) -> BoxFuture<'_, Vec<SourceRow>>;
    /// Writes a row if the stored one has revision `expected` (0: there is none).
    fn put_source_row(&self, row: SourceRow, expected: u64) -> BoxFuture<'_, Swap>;
    /// Removes a row if the stored one has revision `expected`.
    fn delete_source_row<'a>(&'a self, name: &'a str, expected: u64) -> BoxFuture<'a, Swap>;
}

/// A request to spend one unit of quota on a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// The unit.
    pub unit: Unit,
    /// The windows that apply; a unit is taken of all or of none.
    pub windows: Vec<QuotaWindow>,
    /// What the call discloses: on record with the unit, or not at all.
    pub disclosures: Vec<Disclosure>,
}

/// A unit of quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Whose quota: one account per credential, in a form that does not show it.
    pub account: String,
    /// The source on whose behalf.
    pub source: String,
    /// When it is taken.
    pub at: SystemTime,
}

/// How much of a window is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUse {
    /// Which window.
    pub per: QuotaPer,
    /// How many calls it allows.
    pub limit: u64,
    /// How many are used.
    pub used: u64,
    /// When a unit becomes free: for a sliding minute when its oldest call is 61 s old (the call may take a second to
    /// arrive), else when the day, week or month ends.
    pub resets_at: SystemTime,
}

impl WindowUse {
    /// In words: `4 of 4 calls per minute are used`.
    pub fn describe(&self) -> String {
        let are = if self.used == 1 { "is" } else { "are" };
        format!("{} of {} per {} {are} used", self.used, counted(self.limit, "call"), self.per.as_str())
    }
}

/// The result of an [`Acquire`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The unit is recorded; these are the windows after it.
    Granted(Vec<WindowUse>),
    /// Nothing was taken: this window is used up. Of several, the one that resets last.
    Spent(WindowUse),
}

/// A record that an indicator was disclosed to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosure {
    /// Identifier; sorts by time.
    pub id: String,
    /// When the record was made, which is before the call leaves.
    pub time: SystemTime,
    /// What was disclosed.
    pub indicator: Indicator,
    /// The source that was asked.
    pub source: String,
    /// The host that was asked: a URL's host, a DNS zone.
    pub to: String,
    /// For whom.
    pub caller: String,
    /// Under which TLP.
    pub tlp: Tlp,
}

impl Disclosure {
    /// With the bytes that it takes in a list, about.
    fn with_bytes(self) -> (Self, usize) {
        let texts = [&self.id, &self.source, &self.to, &self.caller];
        let bytes = 64 + self.indicator.value().len() + texts.into_iter().map(String::len).sum::<usize>();
        (self, bytes)
    }
}

/// Which disclosures to list; unset fields do not filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DisclosureFilter {
    /// Only of this indicator.
    pub indicator: Option<Indicator>,
    /// Only to this source.
    pub source: Option<String>,
    /// Only at or after this moment.
    pub from: Option<SystemTime>,
    /// Only before this moment.
    pub until: Option<SystemTime>,
}

/// Who spent which quota unit, and what was disclosed to whom.
pub trait Ledger: Send + Sync {
    /// Takes units for these calls, in this order, in one atomic statement; durable before it resolves. Each is taken of
    /// every window, together with the record of its disclosures, or not at all. A unit counts as taken now until it is
    /// settled or given back.
    fn acquire(&self, calls: Vec<Acquire>) -> BoxFuture<'_, Vec<Acquired>>;
    /// The wall clock was set forward from `from` to `to`: what was spent in the minute before counts as spent so much later,
    /// or the minute's window would be empty. Holds while the process lives.
    fn follow_clock_forward(&self, from: SystemTime, to: SystemTime) -> BoxFuture<'_, ()>;
    /// The call of this unit ended at `ended`: it left some time before, so that the unit counts from then on if that is
    /// later than the moment at which it was taken. Durable before it resolves.
    fn settle(&self, unit: Unit, ended: SystemTime) -> BoxFuture<'_, ()>;
    /// Gives back a unit whose call reached nobody, in the windows in which it was counted; durable before it resolves. Says
    /// how much is used after it; `None`: nothing was changed, since the unit was given back before, or is not where it
    /// was because the clock was set.
    fn give_back<'a>(&'a self, unit: Unit, windows: &'a [QuotaWindow]) -> BoxFuture<'a, Option<Vec<WindowUse>>>;
    /// How much is used, in the order of `windows`.
    fn usage<'a>(
        &'a self,
        account: &'a str,
        windows: &'a [QuotaWindow],
        at: SystemTime,
    ) -> BoxFuture<'a, Vec<WindowUse>>;
    /// Records a disclosure, before the call leaves.
    fn record_disclosure(&self, disclosure: Disclosure) -> BoxFuture<'_, ()>;
    /// Disclosures that match the filter, newest first, after `after`.
    fn disclosures(
        &self,
        filter: DisclosureFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Disclosure>>;
    /// Removes disclosures made before this moment; says how many.
    fn prune_disclosures(&self, before: SystemTime) -> BoxFuture<'_, u64>;
    /// Removes quota records that no window can count any more.
    fn prune_quota(&self, now: SystemTime) -> BoxFuture<'_, ()>;
}

/// What concerns a store as a whole.
pub trait Maintenance: Send + Sync {
    /// Whether what is written would last.
    ///
    /// # Errors
    /// The store's file was moved, deleted or replaced: nothing is written before it is back in its place.
    fn check(&self) -> Result<(), StoreError>;
    /// Whether the disk is full: then only the ledger and settings are written, in space that was kept for them.
    fn is_full(&self) -> bool;
    /// Removes the oldest verdicts, answers and disclosures until all that is stored takes at most so many bytes.
    fn prune_to(&self, max_bytes: u64) -> BoxFuture<'_, Pruned>;
    /// Keeps space for a full disk again, if there is some, so that history is written again.
    fn recover_space(&self) -> BoxFuture<'_, ()>;
    /// Copies the store to the new file `to` as of one moment, also while another process uses it.
    ///
    /// Fails where `to` exists or the backend has no file; after a failure no file is left at `to`.
    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, ()>;
    /// Takes no more work and finishes what was asked. Later calls fail; closing again does nothing.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A whole store.
pub trait Store: VerdictStore + AnswerStore + SourceStore + Ledger + Maintenance + 'static {
    /// Removes everything that has outlived its retention at `now`.
    fn prune(&self, retention: Retention, now: SystemTime) -> BoxFuture<'_, Pruned> {
        Box::pin(async move {
            let pruned = match self.prune_once(retention, now).await {
                // Removing needs space as well; the failure released what was kept for it.
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
            let answers = self.prune_answers(before(retention.answers_age), retention.answers_bytes).await?;
            let verdicts = self.prune_verdicts(before(retention.verdicts_age)).await?;
            let disclosures = self.prune_disclosures(before(retention.disclosures_age)).await?;
            let beyond = self.prune_to(retention.store_bytes).await?;
            Ok(Pruned {
                answers: answers + beyond.answers,
                verdicts: verdicts + beyond.verdicts,
                disclosures: disclosures + beyond.disclosures,
            })
        })
    }
}

impl<T: VerdictStore + AnswerStore + SourceStore + Ledger + Maintenance + 'static> Store for T {}
