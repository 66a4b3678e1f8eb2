//! Questions of a submission: each is asked once, pays a unit and is not cached, and what gives content away is recorded
//! before it leaves.

use super::attempt::AttemptError;
use super::disclosure::host_of;
use super::fair_queue::Claim;
use super::pipeline::RemotePipeline;
use super::waiters::{DisclosureEntry, Waiters};
use crate::finding::{NotAsked, SourceError};
use crate::indicator::{Indicator, Tlp};
use crate::source::{Answer, Priority, Question};

/// What a question of a submission gives away, for the disclosure ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct SubmissionDisclosure {
    /// The URL, or the hash of the file.
    pub indicator: Indicator,
    /// The submitter.
    pub caller: String,
    /// The TLP of the submission.
    pub tlp: Tlp,
    /// Identifier of the submission. `None`: the indicator alone is disclosed, by a look-up.
    pub submission: Option<String>,
}

/// Why a question of a submission got no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum SubmissionFailure {
    /// Nothing was sent, since a limit prevented it.
    NotAsked(NotAsked),
    /// Nothing was sent, since the source could not be reached or Concord failed.
    NotSent(SourceError),
    /// It was sent, at least in part.
    Sent(SourceError),
}

impl RemotePipeline {
    /// Asks one question of a submission.
    ///
    /// # Errors
    /// Whether anything was sent decides whether it may be asked again.
    pub async fn ask_for_submission(
        &self,
        question: &Question,
        disclosure: Option<SubmissionDisclosure>,
    ) -> Result<Answer, SubmissionFailure> {
        let disclosure = disclosure.map(|SubmissionDisclosure { indicator, caller, tlp, submission }| {
            DisclosureEntry { indicator, caller, tlp, submission }
        });
        let caller = disclosure.as_ref().map(|disclosure| disclosure.caller.clone()).unwrap_or_default();
        let claim = Claim { priority: Priority::Interactive, caller };
        let (waiters, _guard) = Waiters::begin(self.start_by(), self.start_by(), claim, None, None);
        let answer = self.attempt(question, disclosure.as_ref(), &waiters).await;
        answer.map_err(|error| match error {
            AttemptError::NotAttempted(not_asked) => SubmissionFailure::NotAsked(not_asked),
            AttemptError::Local(error) => SubmissionFailure::NotSent(error),
            // The unit of a question that did not reach the source was given back.
            AttemptError::Source(error) | AttemptError::Unreachable(error) if waiters.units() == 0 => {
                SubmissionFailure::NotSent(error)
            }
            AttemptError::Source(error) | AttemptError::Unreachable(error) => SubmissionFailure::Sent(error),
        })
    }

    /// The host that a question goes to, as the ledger records it.
    pub fn recipient(question: &Question) -> &str {
        host_of(question)
    }
}
