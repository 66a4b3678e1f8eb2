//! What a source takes for analysis, beside look-ups: the questions that give it a file or URL, and the reading of the
//! analysis. As pure as [`Source`](super::Source): it opens no file and sends nothing.

use url::Url;

use super::{Answer, FileBody, Question};
use crate::finding::{Finding, SourceError};
use crate::indicator::Indicator;

/// Who may see what is submitted, and its report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Whoever the source shows it to: [`SubmissionAbout::audience`].
    #[default]
    Public,
    /// The account of the credential alone: a private scan.
    Private,
}

/// What a source takes for analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmissionAbout {
    /// Largest file in bytes; `None`: it takes no files.
    pub max_file_bytes: Option<u64>,
    /// Whether it takes URLs.
    pub takes_urls: bool,
    /// Who sees what is submitted, in one sentence.
    pub audience: &'static str,
    /// Who sees what is submitted for a private scan, in one sentence; else why it offers none.
    pub private_audience: Result<&'static str, &'static str>,
}

/// A source that takes files or URLs for analysis.
pub trait SubmissionSource: Send + Sync + 'static {
    /// What it takes.
    fn about(&self) -> SubmissionAbout;

    /// The question for the address to upload a file of this size to; `None`: to the usual one.
    fn ask_upload_address(&self, size: u64, visibility: Visibility) -> Option<Question>;

    /// Reads the answer to [`SubmissionSource::ask_upload_address`].
    ///
    /// # Errors
    /// When the answer names none, or one of a host that is not the source's own.
    fn read_upload_address(&self, answer: &Answer) -> Result<Url, SourceError>;

    /// Uploads the file, to this address where one was asked for.
    fn submit_file(&self, file: FileBody, address: Option<&Url>, visibility: Visibility) -> Question;

    /// Gives it the URL to visit.
    fn submit_url(&self, url: &Indicator, visibility: Visibility) -> Question;

    /// Has it analyse again what it knows already, for everybody.
    fn rescan(&self, indicator: &Indicator) -> Question;

    /// Reads the answer to a submission.
    ///
    /// # Errors
    /// When the answer names no analysis.
    fn read_accepted(&self, answer: &Answer) -> Result<Accepted, SourceError>;

    /// The question how far the analysis is.
    fn ask_analysis(&self, id: &str, visibility: Visibility) -> Question;

    /// Reads the answer to [`SubmissionSource::ask_analysis`].
    ///
    /// # Errors
    /// When the answer does not say it.
    fn read_analysis(&self, answer: &Answer) -> Result<AnalysisProgress, SourceError>;

    /// The question for the report of a private scan of this file or URL.
    fn ask_private_report(&self, indicator: &Indicator) -> Question;

    /// Reads the answer to [`SubmissionSource::ask_private_report`]. `None`: there is no such report.
    ///
    /// # Errors
    /// When the answer is no report on this indicator.
    fn read_private_report(&self, indicator: &Indicator, answer: &Answer) -> Result<Option<Finding>, SourceError>;
}

/// What a source says to a submission that it does not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It analyses it, under this identifier.
    Analysis(String),
    /// It is analysing the same already, under an identifier that it does not tell.
    AlreadyAnalysing,
}

/// How far an analysis is, as the source says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnalysisProgress {
    /// It has not begun.
    Queued,
    /// It is under way.
    InProgress,
    /// It is complete.
    Completed,
}
