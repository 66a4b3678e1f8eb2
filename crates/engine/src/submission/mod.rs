//! Gives files and URLs to sources, on purpose only: who may submit what to whom, what is inspected before, and who approves
//! it. `Submissions` takes requests, `workflow.rs` brings each submission from state to state, `known.rs` asks what a source
//! knows already, `spool.rs` holds the files meanwhile, `inspect/` and `url.rs` find reasons to hold.
//!
//! Every state is durable before anything is done in it. A submission whose sending was interrupted is never sent again: its
//! source is asked whether it arrived.

use std::io;
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::engine::{Engine, SubmissionRoute};
use crate::error::{Error, Reason, Violation};
use crate::finding::NotAsked;
use crate::indicator::{Indicator, IndicatorType, Tlp};
use crate::offload::{offload, offload_long};
use crate::settings::SubmissionRules;
use crate::source::Visibility;
use crate::store::{
    PageLimit, Sealer, Store, Submission, SubmissionFilter, SubmissionReview, SubmissionState, SubmissionType,
    SubmittedFile, Swap, new_id,
};

mod inspect;
mod known;
mod spool;
mod url;
mod workflow;

pub use inspect::{Content, Inspection, Limits, Patterns, inspect_file};
use spool::{Spool, SpoolWriter, SpooledFile};

/// Most submissions that are not final.
const MAX_OPEN: usize = 1000;
/// Inspections at the same time, each of which may hold a few documents in memory.
const INSPECTIONS: usize = 2;
/// Uploads at the same time. A source that does not answer keeps none from being inspected.
const UPLOADS: usize = 4;

/// What submissions need.
pub struct SubmissionParts {
    pub engine: Arc<Engine>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub tracker: TaskTracker,
    pub rules: SubmissionRules,
    /// Suffixes of internal names, in addition to the built-in ones.
    pub internal_suffixes: Vec<String>,
    /// The folder of waiting files.
    pub folder: PathBuf,
    pub sealer: Arc<Sealer>,
    pub stop: CancellationToken,
}

/// Takes submissions, and works on those that are open.
pub struct Submissions {
    engine: Arc<Engine>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    rules: SubmissionRules,
    internal_suffixes: Vec<String>,
    patterns: Arc<Patterns>,
    spool: Arc<Spool>,
    inspections: Semaphore,
    uploads: Semaphore,
    /// Held while a submission is made, so that nothing is submitted twice at once.
    making: Mutex<()>,
    /// Changes with every change of a submission.
    changes: watch::Sender<u64>,
    stop: CancellationToken,
}

/// A request to submit something.
#[derive(Clone, Debug)]
pub struct NewSubmission {
    pub source: String,
    pub tlp: Tlp,
    pub caller: String,
    pub submission_type: SubmissionType,
    pub visibility: Visibility,
}

/// A file that is being received.
pub struct Upload {
    new: NewSubmission,
    id: String,
    name: String,
    limit: u64,
    writer: SpoolWriter,
}

impl Submissions {
    /// Opens the spool and goes on with every open submission.
    ///
    /// # Errors
    /// If store or spool cannot be read, or the configured words are too many.
    pub async fn open(parts: SubmissionParts) -> Result<Arc<Self>, String> {
        let SubmissionParts { engine, store, clock, tracker, rules, internal_suffixes, folder, sealer, stop } = parts;
        let open = store.open_submissions().await.map_err(|error| error.to_string())?;
        let needed: Vec<_> = open.iter().filter(|row| row.file.is_some()).map(|row| row.id.as_str()).collect();
        let failed = |error: io::Error| format!("the spool {}: {error}", folder.display());
        let spool = Spool::open(folder.clone(), sealer, rules.spool_bytes, &needed).map_err(failed)?;
        let patterns = Patterns::new(&rules.sensitive_words, &rules.own_names);
        let patterns = patterns.map_err(|error| format!("submissions: too many words: {error}"))?;
        let submissions = Arc::new(Self {
            engine,
            store,
            clock,
            tracker,
            rules,
            internal_suffixes,
            patterns: Arc::new(patterns),
            spool: Arc::new(spool),
            inspections: Semaphore::new(INSPECTIONS),
            uploads: Semaphore::new(UPLOADS),
            making: Mutex::default(),
            changes: watch::Sender::new(0),
            stop,
        });
        open.into_iter().for_each(|row| submissions.work_on(row.id));
        Ok(submissions)
    }

    /// How long a held submission waits for its review.
    pub fn expiry(&self) -> Duration {
        self.rules.expiry
    }

    /// Notified at every change of a submission.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Ends when the server stops.
    pub fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Checks whether this caller may submit this to this source.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, new: &NewSubmission) -> Result<SubmissionRoute, Error> {
        if !self.rules.submitters.contains(&new.caller) {
            let message =
                format!("{} may not submit: submissions.submitters of the configuration names who may", new.caller);
            return Err(Error::Forbidden { reason: Reason::Forbidden, message });
        }
        let route = self.engine.submission_route(&new.source)?;
        let not_ready = |message: String| {
            let subject = format!("sources/{}", new.source);
            Error::NotReady { reason: Reason::NotReady, subject, message }
        };
        let (what, setting) = match new.visibility {
            Visibility::Public => ("submissions to it", "enabled"),
            Visibility::Private => ("private scans by it", "private_enabled"),
        };
        let Some(max_tlp) = self.rules.max_tlp(&new.source, new.visibility) else {
            return Err(not_ready(format!(
                "{what} are not enabled: the configuration file enables them by {setting} of [submissions.sources.{}]",
                new.source
            )));
        };
        let about = route.submissions()?.about();
        let takes = match new.submission_type {
            SubmissionType::File => about.max_file_bytes.is_some(),
            SubmissionType::Url => about.takes_urls,
            SubmissionType::Rescan => true,
        };
        if !takes {
            let what: &str = new.submission_type.into();
            return Err(not_ready(format!("it takes no {what}")));
        }
        if let (Visibility::Private, Err(why)) = (new.visibility, about.private_audience) {
            return Err(not_ready(format!("it offers no private scan: {why}")));
        }
        // A rescan gives nothing away but the interest, so that the limit of look-ups applies.
        if new.submission_type != SubmissionType::Rescan && new.tlp > max_tlp {
            let message = format!(
                "TLP:{} is above TLP:{max_tlp}, the highest that may be submitted to this source \
                 (submissions.sources.{}.{})",
                new.tlp,
                new.source,
                match new.visibility {
                    Visibility::Public => "max_tlp",
                    Visibility::Private => "private_max_tlp",
                }
            );
            return Err(Error::invalid("tlp", Reason::Forbidden, message));
        }
        Ok(route)
    }

    /// Who sees what is submitted.
    ///
    /// # Errors
    /// If the source takes nothing any more.
    pub fn audience(&self, source: &str, visibility: Visibility) -> Result<&'static str, Error> {
        let about = self.engine.submission_route(source)?.submissions()?.about();
        Ok(match visibility {
            Visibility::Public => about.audience,
            Visibility::Private => about.private_audience.unwrap_or_default(),
        })
    }

    /// The largest file that this caller may submit to this source.
    fn check_file(&self, new: &NewSubmission, stated_size: u64) -> Result<u64, Error> {
        let about = self.check(new)?.submissions()?.about();
        let limit = about.max_file_bytes.unwrap_or_default().min(self.rules.max_file_bytes);
        if stated_size > limit { Err(too_large("header.size_bytes", limit)) } else { Ok(limit) }
    }

    /// What would be stored of a file with this SHA-256. Stores nothing.
    ///
    /// # Errors
    /// As [`Self::begin_file`].
    pub fn preview_file(&self, new: NewSubmission, name: String, sha256: &str, size: u64) -> Result<Submission, Error> {
        self.check_file(&new, size)?;
        let indicator = Indicator::parse_as(sha256, IndicatorType::File);
        let indicator =
            indicator.map_err(|refusal| Error::invalid("header.sha256", Reason::FieldInvalid, refusal.message))?;
        let [media_type, md5, sha1] = [const { String::new() }; 3];
        let file = SubmittedFile { name, size, media_type, md5, sha1 };
        Ok(self.new_submission(String::new(), new, indicator.indicator, Some(file)))
    }

    /// Begins to receive a file.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn begin_file(&self, new: NewSubmission, name: String, stated_size: u64) -> Result<Upload, Error> {
        let limit = self.check_file(&new, stated_size)?;
        let id = new_id(self.clock.now());
        let writer = self.spool.begin(&id).map_err(|error| {
            tracing::error!(%error, "a submitted file cannot be written");
            Error::Unavailable { message: "the spool cannot be written".into(), retry_after: None }
        })?;
        Ok(Upload { new, id, name, limit, writer })
    }

    /// Stores the submission of a file that was received whole.
    ///
    /// # Errors
    /// If it is empty or not what was stated, or as [`Self::submit_url`].
    pub async fn finish_file(
        self: &Arc<Self>,
        upload: Upload,
        stated_sha256: &str,
        stated_size: u64,
    ) -> Result<Submission, Error> {
        let Upload { new, id, name, mut writer, .. } = upload;
        let size = writer.size();
        if size == 0 {
            return Err(Error::invalid("content", Reason::FieldRequired, "the file is empty"));
        }
        if stated_size != 0 && stated_size != size {
            let message = format!("{size} bytes arrived, not the {stated_size} that were stated");
            return Err(Error::invalid("header.size_bytes", Reason::FieldInvalid, message));
        }
        let (writer, file) = offload_long(move || {
            let file = writer.finish();
            (writer, file)
        })
        .await;
        let file = file?;
        if !stated_sha256.is_empty() && !stated_sha256.eq_ignore_ascii_case(&file.sha256) {
            let message = format!("what arrived has the SHA-256 {}, not the stated one", file.sha256);
            return Err(Error::invalid("header.sha256", Reason::FieldInvalid, message));
        }
        let indicator = Indicator::parse_as(&file.sha256, IndicatorType::File);
        let indicator =
            indicator.map_err(|refusal| Error::invalid("content", Reason::FieldInvalid, refusal.message))?;
        let SpooledFile { size, md5, sha1, .. } = file;
        let file = SubmittedFile { name, size, media_type: String::new(), md5, sha1 };
        let submission = self.make(id, new, indicator.indicator, Some(file)).await?;
        if submission.state.is_final() {
            // Refused by a rule: nothing waits, and dropping the writer removes the file.
            return Ok(submission);
        }
        writer.keep();
        self.work_on(submission.id.clone());
        Ok(submission)
    }

    /// Stores the submission of a URL.
    ///
    /// # Errors
    /// Why it is not taken; [`Error::AlreadyExists`] if the same is being submitted to the same source.
    pub async fn submit_url(self: &Arc<Self>, new: NewSubmission, url: Indicator) -> Result<Submission, Error> {
        self.check(&new)?;
        self.submit_indicator(new, url).await
    }

    /// What would be stored of a URL, with the reasons to hold it. Stores nothing.
    ///
    /// # Errors
    /// As [`Self::submit_url`].
    pub fn preview_url(&self, new: NewSubmission, url: Indicator) -> Result<Submission, Error> {
        self.check(&new)?;
        let mut submission = self.new_submission(String::new(), new, url, None);
        submission.hold_reasons = self.inspect_url(&submission.indicator);
        Ok(submission)
    }

    /// Stores the request to analyse again what the source knows.
    ///
    /// # Errors
    /// As [`Self::submit_url`].
    pub async fn rescan(self: &Arc<Self>, new: NewSubmission, indicator: Indicator) -> Result<Submission, Error> {
        let route = self.check(&new)?;
        match indicator.indicator_type() {
            IndicatorType::File | IndicatorType::Url => {}
            IndicatorType::Ip | IndicatorType::Domain => {
                let message = "only a file hash or a URL is analysed again";
                return Err(Error::invalid("indicator.value", Reason::FieldInvalid, message));
            }
        }
        if let Some(withheld) = self.engine.withheld_from(&route, &indicator, new.tlp) {
            return Err(Error::Forbidden { reason: Reason::Forbidden, message: withheld.detail });
        }
        self.submit_indicator(new, indicator).await
    }

    async fn submit_indicator(self: &Arc<Self>, new: NewSubmission, indicator: Indicator) -> Result<Submission, Error> {
        let submission = self.make(new_id(self.clock.now()), new, indicator, None).await?;
        if !submission.state.is_final() {
            self.work_on(submission.id.clone());
        }
        Ok(submission)
    }

    fn inspect_url(&self, url: &Indicator) -> Vec<crate::store::HoldReason> {
        url::inspect_url(url, &self.patterns, &self.internal_suffixes)
    }

    /// Why this must not be disclosed to anybody. A rule may name a file by any of its hashes.
    fn never_disclosed(&self, indicator: &Indicator, file: Option<&SubmittedFile>) -> Option<NotAsked> {
        let others = file.into_iter().flat_map(|file| [&file.md5, &file.sha1]);
        let others = others.filter_map(|hash| Indicator::parse_as(hash, IndicatorType::File).ok());
        let named = iter::once(indicator.clone()).chain(others.map(|parsed| parsed.indicator));
        named.into_iter().find_map(|indicator| self.engine.never_disclosed(&indicator))
    }

    fn new_submission(
        &self,
        id: String,
        new: NewSubmission,
        indicator: Indicator,
        file: Option<SubmittedFile>,
    ) -> Submission {
        let now = self.clock.now();
        let refused = self.never_disclosed(&indicator, file.as_ref());
        Submission {
            id,
            revision: 1,
            create_time: now,
            update_time: now,
            submitter: new.caller,
            source: new.source,
            tlp: new.tlp,
            submission_type: new.submission_type,
            visibility: new.visibility,
            indicator,
            file,
            state: if refused.is_some() { SubmissionState::Rejected } else { SubmissionState::Received },
            hold_reasons: Vec::new(),
            review: None,
            detail: refused.map(|refused| refused.detail).unwrap_or_default(),
            send_time: None,
            recipient: String::new(),
            analysis: None,
            is_known: false,
            verdict: None,
        }
    }

    /// Stores a new submission, unless the same is being submitted already. What a rule forbids to disclose is stored as
    /// rejected.
    async fn make(
        &self,
        id: String,
        new: NewSubmission,
        indicator: Indicator,
        file: Option<SubmittedFile>,
    ) -> Result<Submission, Error> {
        let _making = self.making.lock().await;
        let open = self.store.open_submissions().await?;
        let is_same = |other: &&Submission| {
            (&other.source, &other.indicator, other.submission_type) == (&new.source, &indicator, new.submission_type)
        };
        if let Some(same) = open.iter().find(is_same) {
            return Err(Error::AlreadyExists { name: format!("submissions/{}", same.id) });
        }
        if open.len() >= MAX_OPEN {
            return Err(Error::Exhausted {
                subject: "open submissions".into(),
                message: format!("{MAX_OPEN} are open: review some, or let them expire"),
                retry_after: None,
            });
        }
        let submission = self.new_submission(id, new, indicator, file);
        match self.store.put_submission(submission.clone(), 0).await? {
            Swap::Done => {}
            Swap::Conflict => return Err(Error::Conflict { name: format!("submissions/{}", submission.id) }),
        }
        self.note_change();
        Ok(submission)
    }

    /// Approves a held submission, or rejects one that was not sent yet.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotReady`] if it is in another state, [`Error::Forbidden`] if this caller may not decide.
    pub async fn review(
        &self,
        id: &str,
        caller: String,
        reason: String,
        is_approved: bool,
    ) -> Result<Submission, Error> {
        let submission = self.get(id).await?;
        let (is_submitter, is_approver) = (submission.submitter == caller, self.rules.approvers.contains(&caller));
        let refusal = match (is_approved, is_submitter, is_approver) {
            (true, true, _) => Some("another caller than the submitter must approve it".to_owned()),
            (true, false, false) | (false, false, false) => {
                Some(format!("{caller} may not review: submissions.approvers of the configuration names who may"))
            }
            (true, false, true) | (false, true, _) | (false, false, true) => None,
        };
        if let Some(message) = refusal {
            return Err(Error::Forbidden { reason: Reason::Forbidden, message });
        }
        let may_be_decided = match submission.state {
            SubmissionState::Held => true,
            SubmissionState::Received | SubmissionState::Inspecting | SubmissionState::Approved => !is_approved,
            SubmissionState::Uploading
            | SubmissionState::Analysing
            | SubmissionState::Done
            | SubmissionState::Rejected
            | SubmissionState::Expired
            | SubmissionState::Failed => false,
        };
        if !may_be_decided {
            let which = if is_approved { "what is held is approved" } else { "what was not sent yet is rejected" };
            return Err(Error::NotReady {
                reason: Reason::NotReady,
                subject: format!("submissions/{id}"),
                message: format!("it is {}, and only {which}", submission.state.as_str()),
            });
        }
        let (state, detail) = match is_approved {
            true => (SubmissionState::Approved, String::new()),
            false => (SubmissionState::Rejected, format!("rejected by {caller}: {reason}")),
        };
        let review = SubmissionReview { is_approved, reviewer: caller, reason, time: self.clock.now() };
        let changed = self.put(Submission { state, detail, review: Some(review), ..submission }).await?;
        let changed = changed.ok_or_else(|| Error::Conflict { name: format!("submissions/{id}") })?;
        if !is_approved {
            self.spool.remove(id);
        }
        Ok(changed)
    }

    /// The submission of this identifier.
    ///
    /// # Errors
    /// [`Error::NotFound`], or if the store fails.
    pub async fn get(&self, id: &str) -> Result<Submission, Error> {
        self.store.submission(id).await?.ok_or_else(|| Error::NotFound {
            reason: Reason::SubmissionNotFound,
            name: format!("submissions/{id}"),
            hint: "ListSubmissions shows what was submitted".into(),
        })
    }

    /// Submissions that match the filter, newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(
        &self,
        filter: SubmissionFilter,
        limit: PageLimit,
        after: Option<crate::store::Cursor>,
    ) -> Result<crate::store::Listed<Submission>, Error> {
        Ok(self.store.submissions(filter, limit, after).await?)
    }

    /// Stores the next state of a submission, durably. `None` if it was changed in between.
    async fn put(&self, mut submission: Submission) -> Result<Option<Submission>, crate::store::StoreError> {
        let expected = submission.revision;
        submission.revision += 1;
        submission.update_time = self.now_after(submission.update_time);
        match self.store.put_submission(submission.clone(), expected).await? {
            Swap::Done => {
                self.note_change();
                Ok(Some(submission))
            }
            Swap::Conflict => Ok(None),
        }
    }

    /// The wall time, or this earlier change if the clock was set back.
    fn now_after(&self, earlier: SystemTime) -> SystemTime {
        self.clock.now().max(earlier)
    }

    fn note_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

fn too_large(field: &'static str, limit: u64) -> Error {
    let message = format!("the file is larger than {limit} bytes, the limit of this source and server");
    Error::Invalid(vec![Violation::new(field, Reason::TooMany, message)])
}

impl Upload {
    /// Adds the next bytes.
    ///
    /// # Errors
    /// If the file is larger than the limit, or cannot be written.
    pub async fn add(mut self, bytes: Vec<u8>) -> Result<Self, Error> {
        if self.writer.size().saturating_add(bytes.len() as u64) > self.limit {
            return Err(too_large("content", self.limit));
        }
        offload(bytes.len(), move || self.writer.write(&bytes).map(|()| self)).await
    }
}
