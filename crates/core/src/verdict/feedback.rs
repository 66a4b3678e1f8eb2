//! An analyst's word on an indicator: what it means, which of several counts, and what it does to a verdict.

use std::cmp::Reverse;
use std::str::FromStr;
use std::time::SystemTime;

use strum::{IntoStaticStr, VariantArray};

use super::Verdict;
use super::change::Reach;
use super::fuse::agrees;
use crate::error::{ParseEnumError, parse_enum};
use crate::finding::Disposition;
use crate::indicator::Indicator;

/// More words than this are not shown in one verdict; the newest are.
const MOST_WORDS: usize = 10;

/// What an analyst found.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[strum(serialize_all = "snake_case")]
pub enum AnalystJudgement {
    /// It is malicious, and who says so is right.
    TruePositive,
    /// It is benign, and a source or a verdict wrongly said that it is malicious or suspicious.
    FalsePositive,
    /// It is benign.
    Benign,
}

impl AnalystJudgement {
    /// The disposition that it means.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::TruePositive => Disposition::Malicious,
            Self::FalsePositive | Self::Benign => Disposition::Benign,
        }
    }

    /// The word that is stored, in snake_case.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FromStr for AnalystJudgement {
    type Err = ParseEnumError;

    fn from_str(text: &str) -> Result<Self, ParseEnumError> {
        parse_enum(text, "judgement")
    }
}

/// What an analyst said of an indicator, on record. It is never changed; it ends when it expires or is retracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Identifier without `feedback/`; identifiers sort by time of creation.
    pub id: String,
    /// The indicator.
    pub indicator: Indicator,
    /// What the analyst found.
    pub judgement: AnalystJudgement,
    /// Who says so.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Whether it is the verdict as long as it is active.
    pub pin: bool,
    /// When it was recorded.
    pub create_time: SystemTime,
    /// When it ends by itself; `None`: never.
    pub expire_time: Option<SystemTime>,
    /// The verdict that it is about, without `verdicts/`.
    pub verdict: Option<String>,
    /// Name of the caller that recorded it.
    pub caller: String,
    /// That it was taken back.
    pub retraction: Option<Retraction>,
}

/// That feedback was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// Who took it back, as the caller wrote it.
    pub author: String,
    /// Name of the caller that took it back. Empty if that was before it was recorded.
    pub caller: String,
    /// Why.
    pub reason: String,
    /// When.
    pub time: SystemTime,
}

impl Feedback {
    /// Whether it holds at this time.
    pub fn is_active(&self, at: SystemTime) -> bool {
        self.retraction.is_none() && self.expire_time.is_none_or(|end| at < end)
    }
}

/// Feedback as a verdict shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnalystWord {
    /// Identifier of the feedback, without `feedback/`.
    pub feedback: String,
    /// What the analyst found.
    pub judgement: AnalystJudgement,
    /// Who says so, as the caller wrote it.
    pub author: String,
    /// Name of the caller that recorded it. Empty in verdicts from before it was stored with them.
    pub caller: String,
    /// Why.
    pub reason: String,
    /// When it was recorded.
    pub create_time: SystemTime,
    /// When it ends by itself; `None`: never.
    pub expire_time: Option<SystemTime>,
}

impl From<&Feedback> for AnalystWord {
    fn from(feedback: &Feedback) -> Self {
        Self {
            feedback: feedback.id.clone(),
            judgement: feedback.judgement,
            author: feedback.author.clone(),
            caller: feedback.caller.clone(),
            reason: feedback.reason.clone(),
            create_time: feedback.create_time,
            expire_time: feedback.expire_time,
        }
    }
}

/// The feedback on one indicator that holds at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveFeedback {
    /// The newest word that is pinned.
    pub pin: Option<AnalystWord>,
    /// The other words, the newest first, at most ten.
    pub others: Vec<AnalystWord>,
}

impl ActiveFeedback {
    /// The feedback on an indicator that holds at this time.
    pub fn new<'a>(feedback: impl IntoIterator<Item = &'a Feedback>, at: SystemTime) -> Self {
        let mut active: Vec<&Feedback> = feedback.into_iter().filter(|feedback| feedback.is_active(at)).collect();
        active.sort_by_key(|feedback| Reverse((feedback.create_time, &feedback.id)));
        let pin = active.iter().position(|feedback| feedback.pin).map(|place| active.remove(place));
        Self {
            pin: pin.map(AnalystWord::from),
            others: active.into_iter().take(MOST_WORDS).map(AnalystWord::from).collect(),
        }
    }

    /// The identifiers of what a verdict would show.
    pub fn ids(&self) -> Vec<String> {
        self.pin.iter().chain(&self.others).map(|word| word.feedback.clone()).collect()
    }

    /// When the first of it ends.
    pub fn first_end(&self) -> Option<SystemTime> {
        self.pin.iter().chain(&self.others).filter_map(|word| word.expire_time).min()
    }
}

impl Verdict {
    /// The same verdict with what analysts say. A pin is the disposition under every policy; everything else stays what the
    /// sources say. No report of a source changes it any more, so that there are no flips and missing answers have no reach.
    #[must_use]
    pub fn with_feedback(mut self, active: ActiveFeedback) -> Self {
        if let Some(pin) = &active.pin {
            self.disposition = pin.judgement.disposition();
            for contribution in &mut self.contributions {
                contribution.agrees = contribution.claim.and_then(|claim| agrees(claim, self.disposition));
            }
            self.analysis.flips.clear();
            self.analysis.reach = Reach::default();
        }
        self.pin = active.pin;
        self.feedback = active.others;
        self
    }

    /// The identifiers of the feedback that it shows.
    pub fn feedback_ids(&self) -> Vec<String> {
        self.pin.iter().chain(&self.feedback).map(|word| word.feedback.clone()).collect()
    }
}
