//! What a source would have said at each value of a threshold. Each raw answer is fetched once; the value at which its claim
//! changes is found by bisection over the source as it would be at each value, from the numbers in its finding on.

use std::sync::Arc;

use super::labels::Labels;
use super::pages::HistoryPages;
use super::stored_answers::{StoredAnswers, UnusableAnswer, stored_answers};
use super::{History, HistoryFilter, ScanProgress, raw_answers};
use crate::error::{Error, Reason};
use crate::fetch::SourceCache;
use crate::finding::{Disposition, FactValue, Outcome, OutcomeBody};
use crate::indicator::Indicator;
use crate::offload::offload;
use crate::source::Source;
use crate::statistics::{LEAST_JOINT, ThresholdAnswer, ThresholdCurve, ThresholdStatistics};
use crate::store::{Store, VerdictRecord};

/// Readings of one raw answer take this many times as long as decoding it.
const READINGS: usize = 8;
/// Numbers of a finding that are guessed to be the one that is compared.
const MOST_GUESSES: usize = 4;

/// A threshold of a source, with the source as it would be at each value.
pub struct ThresholdTrial {
    /// The name of the source.
    pub source: String,
    /// The value in effect, one of `variants`.
    pub present: u64,
    /// Each value, in order, and the source with it.
    pub variants: Vec<(u64, Arc<dyn Source>)>,
}

/// What a threshold would have said, with what could not be read.
pub struct ThresholdReport {
    /// The curve.
    pub curve: ThresholdCurve,
    /// Findings whose raw answers are no longer stored.
    pub pruned: u64,
    /// Findings whose raw answers could not be read.
    pub unreadable: u64,
}

/// A trial of a threshold, as far as the history was read.
pub struct ThresholdScan {
    pages: HistoryPages,
    store: Arc<dyn Store>,
    cache: SourceCache,
    trial: Arc<ThresholdTrial>,
    /// Absent while a group is counted on another thread.
    counted: Option<Counted>,
}

struct Counted {
    labels: Labels,
    statistics: ThresholdStatistics,
    pruned: u64,
    unreadable: u64,
}

impl History {
    /// Begins to try the values of a threshold.
    ///
    /// # Errors
    /// [`Error::NotReady`] if no verdict matches, or if the store cannot be read.
    pub async fn try_threshold(&self, filter: HistoryFilter, trial: ThresholdTrial) -> Result<ThresholdScan, Error> {
        let pages = HistoryPages::open(self.store.clone(), self.clock.clone(), filter).await?;
        let counted = Counted {
            labels: Labels::load(self.store.as_ref()).await?,
            statistics: ThresholdStatistics::default(),
            pruned: 0,
            unreadable: 0,
        };
        Ok(ThresholdScan {
            pages,
            store: self.store.clone(),
            cache: self.cache.clone(),
            trial: Arc::new(trial),
            counted: Some(counted),
        })
    }
}

impl ThresholdScan {
    /// Reads on; `None` once everything was read.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn advance(&mut self) -> Result<Option<ScanProgress>, Error> {
        let Some(page) = self.pages.next().await? else { return Ok(None) };
        if let Some(counted) = &mut self.counted {
            counted.labels.join(self.store.as_ref(), &page.records).await?;
        }
        let mut records = page.records.into_iter();
        loop {
            let group: Vec<VerdictRecord> = records.by_ref().take(raw_answers::MOST_TOGETHER).collect();
            if group.is_empty() {
                return Ok(Some(self.pages.progress()));
            }
            let is_wanted = |source: &str| source == self.trial.source;
            let answers = stored_answers(&self.cache, group.iter(), is_wanted).await?;
            let Some(mut counted) = self.counted.take() else { continue };
            let bytes = answers.iter().map(StoredAnswers::bytes).sum::<usize>();
            let trial = self.trial.clone();
            let count = move || {
                for (record, answers) in group.iter().zip(&answers) {
                    counted.add(&trial, record, answers);
                }
                counted
            };
            self.counted = Some(offload(bytes * READINGS, count).await);
        }
    }

    /// What it comes to.
    ///
    /// # Errors
    /// [`Error::NotReady`] if fewer than 20 findings could be read again.
    pub fn finish(self) -> Result<ThresholdReport, Error> {
        let Some(Counted { statistics, pruned, unreadable, .. }) = self.counted else {
            return Err(too_few(&self.trial.source, 0, 0, 0));
        };
        if statistics.findings() < LEAST_JOINT {
            return Err(too_few(&self.trial.source, statistics.findings(), pruned, unreadable));
        }
        let values: Vec<u64> = self.trial.variants.iter().map(|(value, _)| *value).collect();
        Ok(ThresholdReport { curve: statistics.finish(&values, self.trial.present), pruned, unreadable })
    }
}

impl Counted {
    fn add(&mut self, trial: &ThresholdTrial, record: &VerdictRecord, answers: &StoredAnswers) {
        let verdict = &record.verdict;
        let Some(outcome) = verdict.outcomes.iter().find(|outcome| outcome.source == trial.source) else { return };
        let indicator_type = verdict.indicator.indicator_type();
        let label = self.labels.take(&record.id).and_then(|joined| joined.of_source(&trial.source));
        match &outcome.body {
            OutcomeBody::NoRecord => {
                self.statistics.add_no_record(indicator_type, label);
            }
            OutcomeBody::Finding(_) => match trial.read(outcome, &verdict.indicator, answers) {
                Ok((before, change, after)) => {
                    let without = verdict.analysis.leave_one_out.iter().find(|without| without.source == trial.source);
                    self.statistics.add(&ThresholdAnswer {
                        indicator_type,
                        before,
                        change,
                        after,
                        rest: without.map(|without| without.disposition),
                        label,
                    });
                }
                Err(UnusableAnswer::Pruned) => self.pruned += 1,
                Err(UnusableAnswer::Unreadable) => self.unreadable += 1,
            },
            OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => {}
        }
    }
}

impl ThresholdTrial {
    /// The claim at the least value, the place of the first value with another, and that one.
    fn read(
        &self,
        outcome: &Outcome,
        indicator: &Indicator,
        answers: &StoredAnswers,
    ) -> Result<(Disposition, usize, Disposition), UnusableAnswer> {
        let stored = answers.of_outcome(outcome).ok_or(UnusableAnswer::Pruned)??;
        let claim_at = |place: usize| -> Result<Disposition, UnusableAnswer> {
            let (_, source) = self.variants.get(place).ok_or(UnusableAnswer::Unreadable)?;
            let body = raw_answers::read_again(source.as_ref(), indicator, outcome.time, stored);
            body.as_ref().and_then(claim).ok_or(UnusableAnswer::Unreadable)
        };
        let (mut least, mut greatest) = (0, self.variants.len().saturating_sub(1));
        let places =
            compared_numbers(outcome).map(|number| self.variants.partition_point(|(value, _)| *value <= number));
        let mut places = places.filter(|above| (1..self.variants.len()).contains(above));
        // The number that is compared mostly stands in the finding, in its first reason: then two readings say all.
        if let Some(above) = places.next() {
            let (before, after) = (claim_at(above - 1)?, claim_at(above)?);
            if before != after {
                return Ok((before, above, after));
            }
        }
        let (before, after) = (claim_at(least)?, claim_at(greatest)?);
        if before == after {
            return Ok((before, 0, after));
        }
        let mut narrow = |middle: usize| -> Result<bool, UnusableAnswer> {
            if least < middle && middle < greatest {
                *(if claim_at(middle)? == before { &mut least } else { &mut greatest }) = middle;
            }
            Ok(greatest - least <= 1)
        };
        for above in places {
            if narrow(above - 1)? || narrow(above)? {
                break;
            }
        }
        while greatest - least > 1 {
            let middle = least.midpoint(greatest);
            *(if claim_at(middle)? == before { &mut least } else { &mut greatest }) = middle;
        }
        Ok((before, greatest, after))
    }
}

/// Numbers that may be the one that is compared: the first of each reason of a finding, then its facts.
fn compared_numbers(outcome: &Outcome) -> impl Iterator<Item = u64> {
    let finding = outcome.body.finding();
    let reasons = finding.into_iter().flat_map(|finding| &finding.reasons);
    let first = |reason: &String| reason.split(|sign: char| !sign.is_ascii_digit()).find_map(|part| part.parse().ok());
    let facts = finding.into_iter().flat_map(|finding| &finding.facts);
    reasons.filter_map(first).chain(facts.filter_map(|fact| count_of(&fact.value))).take(MOST_GUESSES)
}

fn count_of(value: &FactValue) -> Option<u64> {
    match value {
        FactValue::Integer(count) => u64::try_from(*count).ok(),
        FactValue::Text(_) | FactValue::Number(_) | FactValue::Flag(_) | FactValue::Time(_) | FactValue::List(_) => {
            None
        }
    }
}

/// What the source says. No record takes no side.
fn claim(body: &OutcomeBody) -> Option<Disposition> {
    match body {
        OutcomeBody::Finding(finding) => Some(finding.claim),
        OutcomeBody::NoRecord => Some(Disposition::Unknown),
        OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => None,
    }
}

fn too_few(source: &str, findings: u64, pruned: u64, unreadable: u64) -> Error {
    let mut message = format!(
        "not enough data: {findings} of its findings in these verdicts can be read again, and {LEAST_JOINT} are needed"
    );
    if pruned > 0 {
        message += &format!("; the raw answers of {pruned} more are no longer stored (retention.answers_age)");
    }
    if unreadable > 0 {
        message += &format!("; those of {unreadable} more could not be read");
    }
    Error::NotReady { reason: Reason::NotReady, subject: format!("sources/{source}"), message }
}
