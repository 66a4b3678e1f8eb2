//! What the history says of the sources: how far they agree, who adds what, who copies whom, how reliable each is by the
//! labels of analysts, and how well the probabilities hold. Pure: rows in, numbers out.
//!
//! Everything is collected in one pass over [`Row`]s in memory that does not grow with their number: `compare.rs` counts,
//! `agreement.rs` measures agreement, `sample.rs` keeps what needs whole rows, `timeliness.rs` says who was first,
//! `copying.rs` finds copies, `performance.rs` holds claims against labels, `learning.rs` and `expectation.rs` learn
//! reliabilities, and `calibration.rs` fits probabilities. `engines.rs` does the same for the engines inside a source,
//! `preferred.rs` searches for the few that say what all say, and `threshold.rs` tries the values of a threshold.
//!
//! Formulas: `docs/fusion.md`, "What the history says".

#![warn(missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use crate::finding::{Disposition, FactValue, Finding, OutcomeBody, Reliability};
use crate::indicator::IndicatorType;
use crate::verdict::{AnalystJudgement, Term, Verdict};

mod agreement;
mod calibration;
mod compare;
mod copying;
mod engines;
mod expectation;
mod learning;
mod numeric;
mod performance;
mod preferred;
mod sample;
mod threshold;
mod timeliness;

pub use agreement::{AlphaMetric, GroupAgreement, JointTable, KappaWeights};
pub use calibration::{CalibrationBin, CalibrationFit, CalibrationReport, CalibrationStatistics, LEAST_OF_EACH};
pub use compare::{
    ClaimCounts, LEAST_JOINT, MOST_SOURCES, PairSummary, SourceComparison, SourceStatistics, SourceSummary,
};
pub use copying::{COPY_CORRELATION, Copying};
pub use engines::{
    ChangedVerdicts, EngineComparison, EngineOpinion, EnginePairSummary, EngineReport, EngineResult, EngineRow,
    EngineStatistics, EngineSummary, LEAST_OF_EACH_SIDE, MOST_ENGINES, MOST_LEARNED, NoSuggestion, PreferredVendor,
    PreferredVendors, SAME_LABELS, SameLabels,
};
pub use learning::{
    FORGETTING, LEAST_LABELS_OF_TYPE, LearnedRow, LearningStatistics, ReliabilitySuggestion, nearest_letter,
};
pub use numeric::Estimate;
pub use performance::{LabelCounts, Performance};
pub use sample::{Sample, SampledAnswer, SampledRow};
pub use threshold::{ThresholdAnswer, ThresholdCurve, ThresholdPoint, ThresholdStatistics, threshold_values};
pub use timeliness::{Lead, Timeliness};

/// What an answer can be: one of three sides, or none.
const OUTCOMES: usize = 4;
/// The outcome of an answer that takes no side.
const SILENT: usize = 3;
/// Kinds whose `first_seen` is the day on which they listed the indicator. That of others says when somebody first showed it
/// to them, which may be years before they called it malicious.
const KINDS_WITH_LISTING_DATES: [&str; 1] = ["urlhaus"];

/// What the statistics read of one verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// A number that stands for the indicator: the same for the same, and as good as random.
    pub indicator: u64,
    /// What it is.
    pub indicator_type: IndicatorType,
    /// When it was judged.
    pub time: SystemTime,
    /// What the sources together say, whatever analysts say.
    pub merged: Disposition,
    /// Log-odds of the probability in nats, under a policy with a sum.
    pub log_odds: Option<f64>,
    /// The part of them that comes from no source: prior and calibration.
    pub base: Option<f64>,
    /// What an analyst found, where that belongs to the verdict as a whole.
    pub label: Option<Label>,
    /// Whether it is known what each source cost.
    pub has_units: bool,
    /// What became of each source.
    pub reports: Vec<Report<'a>>,
}

/// What an analyst found of an indicator. Never made from a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// Malicious, else benign.
    pub is_malicious: bool,
    /// When it was found; labels are forgotten with age.
    pub time: SystemTime,
}

/// What became of asking one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Report<'a> {
    /// Its name.
    pub source: &'a str,
    /// The letter that it had.
    pub reliability: Reliability,
    /// Its family.
    pub family: &'a str,
    /// The result.
    pub answer: Answer,
    /// The disposition without it; `None`: it gave no answer, or the verdict does not say.
    pub without: Option<Disposition>,
    /// Since when the source is known to make its claim.
    pub since: Option<SystemTime>,
    /// Whether that is the day on which it listed the indicator, by its own word.
    pub has_listing_date: bool,
    /// Time from the beginning of the enrichment to the answer; `None` where it came from the cache or there was none.
    pub latency: Option<Duration>,
    /// Quota units that were spent for it, retries included.
    pub units: u32,
    /// What an analyst found, where that belongs to what this source says.
    pub label: Option<Label>,
}

/// The result of asking a source, as far as statistics go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It knows the indicator, and says this.
    Claim(Disposition),
    /// It has nothing on the indicator.
    NoRecord,
    /// It was asked and gave no answer.
    Failed,
    /// It was not asked.
    NotAsked,
}

impl Answer {
    /// The side that it takes: benign, suspicious or malicious as 0, 1 or 2.
    pub fn side(self) -> Option<usize> {
        match self {
            Self::Claim(Disposition::Benign) => Some(0),
            Self::Claim(Disposition::Suspicious) => Some(1),
            Self::Claim(Disposition::Malicious) => Some(2),
            Self::Claim(Disposition::Unknown) | Self::NoRecord | Self::Failed | Self::NotAsked => None,
        }
    }

    /// The side that it takes, or [`SILENT`] for an answer without one.
    fn outcome(self) -> Option<usize> {
        if self.is_answer() { Some(self.side().unwrap_or(SILENT)) } else { None }
    }

    /// Whether the source answered: with a claim or with "no record".
    pub fn is_answer(self) -> bool {
        match self {
            Self::Claim(_) | Self::NoRecord => true,
            Self::Failed | Self::NotAsked => false,
        }
    }

    /// Whether it says that the indicator is malicious or suspicious.
    pub fn is_alarm(self) -> bool {
        self.side().is_some_and(|side| side > 0)
    }
}

impl Label {
    /// What a judgement says of its indicator.
    pub fn new(judgement: AnalystJudgement, time: SystemTime) -> Self {
        Self { is_malicious: judgement.disposition() == Disposition::Malicious, time }
    }
}

impl<'a> Row<'a> {
    /// What the statistics read of a verdict. A label of the verdict is one of all that its sources say. `units` are those that were
    /// spent for each source, as far as that is known.
    pub fn from_verdict(
        verdict: &'a Verdict,
        indicator: u64,
        label: Option<Label>,
        units: Option<&BTreeMap<String, u32>>,
    ) -> Self {
        let of_no_source = |term: &Term| match term {
            Term::Prior | Term::Calibration => true,
            Term::Source(_) => false,
        };
        let base = verdict.contributions.iter().filter(|contribution| of_no_source(&contribution.term));
        let base: i64 = base.map(|contribution| contribution.micro_nats).sum();
        let without: HashMap<&str, Disposition> = verdict
            .analysis
            .leave_one_out
            .iter()
            .map(|without| (without.source.as_str(), without.disposition))
            .collect();
        let reports = verdict.outcomes.iter().map(|outcome| {
            let fresh = outcome.time.duration_since(verdict.judged_time).ok().filter(|_| outcome.body.is_answer());
            let listed = if KINDS_WITH_LISTING_DATES.contains(&&*outcome.kind) {
                outcome.body.finding().and_then(first_seen)
            } else {
                None
            };
            let claim_time =
                |finding: &Finding| listed.or(finding.observed_time).unwrap_or(outcome.time).min(outcome.time);
            Report {
                source: &outcome.source,
                reliability: outcome.reliability,
                family: &outcome.family.name,
                answer: match &outcome.body {
                    OutcomeBody::Finding(finding) => Answer::Claim(finding.claim),
                    OutcomeBody::NoRecord => Answer::NoRecord,
                    OutcomeBody::Error(_) => Answer::Failed,
                    OutcomeBody::NotAsked(_) => Answer::NotAsked,
                },
                without: without.get(outcome.source.as_str()).copied(),
                since: outcome.body.finding().map(claim_time),
                has_listing_date: listed.is_some(),
                latency: fresh,
                units: units.and_then(|units| units.get(&outcome.source)).copied().unwrap_or_default(),
                label,
            }
        });
        Self {
            indicator,
            indicator_type: verdict.indicator.indicator_type(),
            time: verdict.judged_time,
            merged: verdict.sources_disposition,
            log_odds: verdict.log_odds_micro.map(|micro| micro as f64 / 1e6),
            base: verdict.log_odds_micro.map(|_| base as f64 / 1e6),
            label,
            has_units: units.is_some(),
            reports: reports.collect(),
        }
    }
}

/// The fact `first_seen`, where there is one.
fn first_seen(finding: &Finding) -> Option<SystemTime> {
    let fact = finding.facts.iter().find(|fact| fact.name == "first_seen")?;
    match fact.value {
        FactValue::Time(time) => Some(time),
        FactValue::Text(_) | FactValue::Integer(_) | FactValue::Number(_) | FactValue::Flag(_) | FactValue::List(_) => {
            None
        }
    }
}
