//! What is submitted to sources for analysis: the record of a submission, and the trait that stores it.

use std::time::SystemTime;

use strum::{IntoStaticStr, VariantArray};

use super::{BoxFuture, Cursor, Listed, PageLimit, Swap};
use crate::error::{ParseEnumError, parse_enum};
use crate::indicator::{Indicator, Tlp};
use crate::source::Visibility;

/// What is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SubmissionType {
    /// A file, which is uploaded.
    File,
    /// A URL, which the source visits.
    Url,
    /// A file or URL that the source knows already, which it analyses again. Discloses only the interest in it.
    Rescan,
}

/// How far a submission is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SubmissionState {
    /// Stored; it is looked up first whether the source knows it.
    Received,
    /// The content is being inspected.
    Inspecting,
    /// The inspection found reasons to hold it, so it waits for a review.
    Held,
    /// It may be sent.
    Approved,
    /// It is being sent, or the server ended while it was.
    Uploading,
    /// The source has it and analyses it.
    Analysing,
    /// The analysis is complete, or the source knew it already.
    Done,
    /// A reviewer or a rule refused it.
    Rejected,
    /// Nobody reviewed it in time.
    Expired,
    /// It could not be sent, or its analysis did not end.
    Failed,
}

impl SubmissionState {
    /// Whether nothing happens to it any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Done | Self::Rejected | Self::Expired | Self::Failed => true,
            Self::Received | Self::Inspecting | Self::Held | Self::Approved | Self::Uploading | Self::Analysing => {
                false
            }
        }
    }

    /// The word used in the store and in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl std::str::FromStr for SubmissionState {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_enum(text, "state of a submission")
    }
}

/// Why a submission is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HoldReasonCode {
    /// A sensitivity label of Microsoft Purview.
    SensitivityLabel,
    /// A classification marking, such as CONFIDENTIAL or a TLP label.
    Marking,
    /// A word of the configuration's list.
    SensitiveWord,
    /// A name or domain that the configuration lists as the organisation's own.
    OwnName,
    /// An e-mail message.
    Email,
    /// A private key.
    PrivateKey,
    /// A credential or token of a well-known shape.
    Credential,
    /// An e-mail address in a URL.
    EmailAddress,
    /// An internal host in a URL.
    InternalHost,
    /// An encrypted document or member of an archive, which cannot be inspected.
    Encrypted,
    /// Something that cannot be read: damaged, or of a format that is not unpacked.
    Unreadable,
    /// A limit of the inspection was reached, so that a part was not inspected.
    Limit,
    /// Its sending was interrupted, and nobody knows whether it arrived.
    Interrupted,
}

impl HoldReasonCode {
    /// The word used in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One reason to hold a submission. Never contains the secret that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldReason {
    /// What was found.
    pub code: HoldReasonCode,
    /// Where: the path of a member, a property, a query parameter.
    pub place: String,
    /// What it is, in words.
    pub detail: String,
}

/// A file that is submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedFile {
    /// Its name as the submitter gave it. It is never sent.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its type by content, such as `application/pdf`; empty before the inspection.
    pub media_type: String,
    /// Its MD5 in lower-case hexadecimal digits, for rules that name it so; the indicator has its SHA-256.
    pub md5: String,
    /// Its SHA-1 likewise.
    pub sha1: String,
}

/// The decision on a held submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionReview {
    /// Whether it may be sent.
    pub is_approved: bool,
    /// The caller who decided.
    pub reviewer: String,
    /// Why.
    pub reason: String,
    /// When.
    pub time: SystemTime,
}

/// How far the source's analysis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray)]
pub enum AnalysisStatus {
    /// It has not begun.
    Queued,
    /// It is under way.
    InProgress,
    /// It is complete.
    Completed,
}

/// The analysis at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedAnalysis {
    /// The source's identifier. Empty where its answer was lost (queued), or where it was analysing the same already (in progress):
    /// then the source is asked about the indicator.
    pub id: String,
    /// How far it is.
    pub status: AnalysisStatus,
}

/// A submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Identifier without `submissions/`; identifiers sort by time of creation.
    pub id: String,
    /// Counts changes, from 1; the compare-and-set key.
    pub revision: u64,
    /// Time of creation.
    pub create_time: SystemTime,
    /// Time of the last change.
    pub update_time: SystemTime,
    /// The caller who submitted it.
    pub submitter: String,
    /// The source that it is for.
    pub source: String,
    /// The TLP label that the submitter gave it.
    pub tlp: Tlp,
    /// What is submitted.
    pub submission_type: SubmissionType,
    /// Who may see it at the source.
    pub visibility: Visibility,
    /// The URL, or the hash of the file.
    pub indicator: Indicator,
    /// The file, if it is one.
    pub file: Option<SubmittedFile>,
    /// How far it is.
    pub state: SubmissionState,
    /// Why it is or was held.
    pub hold_reasons: Vec<HoldReason>,
    /// The decision on it, if there was one.
    pub review: Option<SubmissionReview>,
    /// Why it came to a final state, in words; empty before.
    pub detail: String,
    /// When it was sent; set before the first byte leaves.
    pub send_time: Option<SystemTime>,
    /// The host that it was sent to.
    pub recipient: String,
    /// The analysis at the source, once it was sent.
    pub analysis: Option<SubmittedAnalysis>,
    /// Whether the source knew it before, so that it was not sent.
    pub is_known: bool,
    /// Identifier of the verdict at the end.
    pub verdict: Option<String>,
}

impl Submission {
    /// Pairs it with its approximate size in a list, in bytes.
    pub(super) fn with_bytes(self) -> (Self, usize) {
        let reasons = self.hold_reasons.iter().map(|reason| 16 + reason.place.len() + reason.detail.len());
        let review = self.review.as_ref().map_or(0, |review| 32 + review.reviewer.len() + review.reason.len());
        let file = self.file.as_ref().map_or(0, |file| file.name.len() + file.media_type.len());
        let texts = [&self.id, &self.submitter, &self.source, &self.detail, &self.recipient];
        let texts = texts.into_iter().map(String::len).sum::<usize>();
        let bytes = 256 + self.indicator.value().len() + texts + file + review + reasons.sum::<usize>();
        (self, bytes)
    }
}

/// Which submissions to list; unset fields do not filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubmissionFilter {
    /// Only in this state.
    pub state: Option<SubmissionState>,
    /// Only of this caller.
    pub submitter: Option<String>,
    /// Only of this indicator.
    pub indicator: Option<Indicator>,
}

/// Submissions. Changes are durable before the call returns.
pub trait SubmissionStore: Send + Sync {
    /// Writes a submission if the stored one has revision `expected` (0: there is none).
    fn put_submission(&self, submission: Submission, expected: u64) -> BoxFuture<'_, Swap>;
    /// The submission of this identifier.
    fn submission<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Submission>>;
    /// Submissions that match the filter, newest first, starting after `after`.
    fn submissions(
        &self,
        filter: SubmissionFilter,
        limit: PageLimit,
        after: Option<Cursor>,
    ) -> BoxFuture<'_, Listed<Submission>>;
    /// All submissions in a state that is not final, oldest first.
    fn open_submissions(&self) -> BoxFuture<'_, Vec<Submission>>;
    /// Removes submissions in a final state that last changed before this time, and returns their number.
    fn prune_submissions(&self, before: SystemTime) -> BoxFuture<'_, u64>;
}
