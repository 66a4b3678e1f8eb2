//! Judges the recorded outcomes of verdicts again under other settings.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::pages::HistoryPages;
use super::stored_answers::{StoredAnswers, UnusableAnswer, stored_answers};
use super::{History, HistoryFilter, ScanProgress, no_verdicts, raw_answers};
use crate::error::{Error, Reason};
use crate::fetch::SourceCache;
use crate::finding::{Disposition, Outcome, OutcomeBody, Reliability};
use crate::indicator::Indicator;
use crate::offload::offload;
use crate::settings::{PolicyRegistry, ResolvedPolicy};
use crate::source::Source;
use crate::store::VerdictRecord;
use crate::verdict::{Term, Verdict, fuse_without_analysis};

/// Examples of each transition.
const MOST_EXAMPLES: usize = 10;

/// What is to be another than it was.
#[derive(Clone, Default)]
pub struct ReplayChange {
    /// The policy that judges; `None`: each verdict's own, in its revision.
    pub policy: Option<Arc<ResolvedPolicy>>,
    /// Letters of sources, by name.
    pub letters: BTreeMap<String, Reliability>,
    /// Sources with other options, by name: their raw answers are read again.
    pub sources: BTreeMap<String, Arc<dyn Source>>,
}

/// A verdict whose disposition would be another.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayedFlip {
    /// Identifier of the verdict.
    pub verdict: String,
    /// Its indicator.
    pub indicator: Indicator,
    /// What the sources say in it.
    pub before: Disposition,
    /// What they would say.
    pub after: Disposition,
    /// The probability in it.
    pub probability_before: Option<f64>,
    /// The probability that it would have.
    pub probability_after: Option<f64>,
    /// The source whose weight changes most in the direction of the flip.
    pub source: Option<String>,
}

/// What a replay comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplayReport {
    /// Verdicts that were judged again.
    pub replayed: u64,
    /// Those whose disposition would be another.
    pub flipped: u64,
    /// Which dispositions became which, the most frequent first.
    pub transitions: Vec<ReplayTransition>,
    /// Verdicts whose policy is no longer stored in their revision.
    pub without_policy: u64,
    /// Findings that were judged as they were recorded, since their raw answers are no longer stored, by source.
    pub pruned: BTreeMap<String, u64>,
    /// Findings that were judged as they were recorded, since their raw answers could not be read, by source.
    pub unreadable: BTreeMap<String, u64>,
}

/// Verdicts of one disposition that became another, or stayed.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayTransition {
    /// What the sources say in the verdicts.
    pub before: Disposition,
    /// What they would say.
    pub after: Disposition,
    /// Verdicts.
    pub count: u64,
    /// Those in which each source changes most, the most frequent first.
    pub sources: Vec<(String, u64)>,
    /// Examples, the newest first; none where nothing changed.
    pub examples: Vec<ReplayedFlip>,
}

/// A replay, as far as the history was read.
pub struct Replay {
    pages: HistoryPages,
    change: Arc<ReplayChange>,
    policies: Arc<PolicyRegistry>,
    /// Policies of verdicts, by name and revision; `None`: no longer stored.
    known: HashMap<(String, u32), Option<Arc<ResolvedPolicy>>>,
    counts: BTreeMap<(Disposition, Disposition), Counts>,
    report: ReplayReport,
    cache: SourceCache,
}

#[derive(Default)]
struct Counts {
    count: u64,
    sources: BTreeMap<String, u64>,
    examples: Vec<ReplayedFlip>,
}

impl History {
    /// Begins to judge verdicts again.
    ///
    /// # Errors
    /// [`Error::NotReady`] if no verdict matches, or if the store cannot be read.
    pub async fn replay(&self, filter: HistoryFilter, change: ReplayChange) -> Result<Replay, Error> {
        Ok(Replay {
            pages: HistoryPages::open(self.store.clone(), self.clock.clone(), filter).await?,
            change: Arc::new(change),
            policies: self.policies.clone(),
            known: HashMap::new(),
            counts: BTreeMap::new(),
            report: ReplayReport::default(),
            cache: self.cache.clone(),
        })
    }

    /// A policy to judge again under: in this revision, or in the one in effect where it is 0.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn policy(&self, name: &str, revision: u32) -> Result<Arc<ResolvedPolicy>, Error> {
        match revision {
            0 => self.policies.get(Some(name)),
            revision => self.policies.revision(name, revision).await,
        }
    }
}

impl Replay {
    /// Judges the next verdicts again, and returns those that flip; `None` once all were.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn advance(&mut self) -> Result<Option<(Vec<ReplayedFlip>, ScanProgress)>, Error> {
        let Some(page) = self.pages.next().await? else { return Ok(None) };
        let mut known: Vec<(VerdictRecord, Arc<ResolvedPolicy>)> = Vec::with_capacity(page.records.len());
        for record in page.records {
            match self.policy_of(&record.verdict).await? {
                Some(policy) => known.push((record, policy)),
                None => self.report.without_policy += 1,
            }
        }
        let mut judged = Vec::with_capacity(known.len());
        let bytes_each = page.bytes / known.len().max(1);
        let mut known = known.into_iter();
        loop {
            let group: Vec<_> = known.by_ref().take(raw_answers::MOST_TOGETHER).collect();
            if group.is_empty() {
                break;
            }
            let is_wanted = |source: &str| self.change.sources.contains_key(source);
            let answers = stored_answers(&self.cache, group.iter().map(|(record, _)| record), is_wanted).await?;
            let bytes = bytes_each * group.len() + answers.iter().map(StoredAnswers::bytes).sum::<usize>();
            let change = self.change.clone();
            let judge = move || {
                let pairs = group.iter().zip(&answers);
                pairs.map(|((record, policy), answers)| change.apply(record, policy, answers)).collect::<Vec<_>>()
            };
            judged.extend(offload(bytes, judge).await);
        }
        let mut flips = Vec::new();
        for (flip, unusable) in judged {
            for (source, why) in unusable {
                let counts = match why {
                    UnusableAnswer::Pruned => &mut self.report.pruned,
                    UnusableAnswer::Unreadable => &mut self.report.unreadable,
                };
                *counts.entry(source).or_default() += 1;
            }
            let counts = self.counts.entry((flip.before, flip.after)).or_default();
            counts.count += 1;
            if flip.before == flip.after {
                continue;
            }
            if let Some(source) = &flip.source {
                *counts.sources.entry(source.clone()).or_default() += 1;
            }
            if counts.examples.len() < MOST_EXAMPLES {
                counts.examples.push(flip.clone());
            }
            flips.push(flip);
        }
        Ok(Some((flips, self.pages.progress())))
    }

    /// The policy that judges this verdict again; `None`: it is no longer stored.
    async fn policy_of(&mut self, verdict: &Verdict) -> Result<Option<Arc<ResolvedPolicy>>, Error> {
        if let Some(policy) = &self.change.policy {
            return Ok(Some(policy.clone()));
        }
        let key = (verdict.policy.name.clone(), verdict.policy.revision);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let found = match self.policies.revision(&key.0, key.1).await {
            Ok(policy) => Some(policy),
            Err(Error::NotFound { reason: Reason::PolicyNotFound, .. } | Error::NotReady { .. }) => None,
            Err(error) => return Err(error),
        };
        self.known.insert(key, found.clone());
        Ok(found)
    }

    /// What it comes to.
    ///
    /// # Errors
    /// [`Error::NotReady`] if no verdict matched.
    pub fn finish(self) -> Result<ReplayReport, Error> {
        let mut report = self.report;
        for ((before, after), counts) in self.counts {
            report.replayed += counts.count;
            report.flipped += if before == after { 0 } else { counts.count };
            let Counts { count, sources, examples } = counts;
            let mut sources: Vec<_> = sources.into_iter().collect();
            sources.sort_by_key(|(_, count)| Reverse(*count));
            report.transitions.push(ReplayTransition { before, after, count, sources, examples });
        }
        if report.replayed + report.without_policy == 0 {
            return Err(no_verdicts());
        }
        report.transitions.sort_by_key(|transition| Reverse(transition.count));
        Ok(report)
    }
}

impl ReplayChange {
    /// The verdict before and after, which may be the same, and the sources whose findings could not be read again.
    fn apply(
        &self,
        record: &VerdictRecord,
        policy: &ResolvedPolicy,
        answers: &StoredAnswers,
    ) -> (ReplayedFlip, Vec<(String, UnusableAnswer)>) {
        let verdict = &record.verdict;
        let mut unusable = Vec::new();
        let outcomes = verdict.outcomes.iter().map(|outcome| {
            let body = self.read_again(outcome, &verdict.indicator, answers).transpose().unwrap_or_else(|why| {
                unusable.push((outcome.source.clone(), why));
                None
            });
            let letter = self.letters.get(&outcome.source).filter(|letter| **letter != outcome.reliability);
            match (body, letter) {
                (None, None) => outcome.clone(),
                (body, letter) => Arc::new(Outcome {
                    reliability: letter.copied().unwrap_or(outcome.reliability),
                    body: body.unwrap_or_else(|| outcome.body.clone()),
                    ..Outcome::clone(outcome)
                }),
            }
        });
        let outcomes: Vec<Arc<Outcome>> = outcomes.collect();
        let after = fuse_without_analysis(&policy.policy, &verdict.indicator, verdict.judged_time, outcomes);
        let flips = after.disposition != verdict.sources_disposition;
        let flip = ReplayedFlip {
            verdict: record.id.clone(),
            indicator: verdict.indicator.clone(),
            before: verdict.sources_disposition,
            after: after.disposition,
            probability_before: verdict.probability,
            probability_after: after.probability,
            source: if flips { source_of_change(verdict, &after) } else { None },
        };
        (flip, unusable)
    }

    /// What the source would say under its other options; `None`: they do not concern this outcome.
    fn read_again(
        &self,
        outcome: &Outcome,
        indicator: &Indicator,
        answers: &StoredAnswers,
    ) -> Option<Result<OutcomeBody, UnusableAnswer>> {
        let source = self.sources.get(&outcome.source)?;
        Some(answers.of_outcome(outcome)?.and_then(|stored| {
            raw_answers::read_again(source.as_ref(), indicator, outcome.time, stored).ok_or(UnusableAnswer::Unreadable)
        }))
    }
}

/// The source whose term changes most in the direction in which the sum does; under a rule without a sum, the one that decides
/// afterwards.
fn source_of_change(before: &Verdict, after: &Verdict) -> Option<String> {
    let (Some(sum_before), Some(sum_after)) = (before.log_odds_micro, after.log_odds_micro) else {
        return after.deciding_source.clone();
    };
    let terms = |verdict: &Verdict| -> BTreeMap<String, i64> {
        let of_source = verdict.contributions.iter().filter_map(|contribution| match &contribution.term {
            Term::Source(source) => Some((source.clone(), contribution.micro_nats)),
            Term::Prior | Term::Calibration => None,
        });
        of_source.collect()
    };
    let (terms_before, direction) = (terms(before), (sum_after - sum_before).signum());
    let changes = terms(after).into_iter().map(|(source, micro)| {
        let change = micro - terms_before.get(&source).copied().unwrap_or_default();
        (source, change * direction)
    });
    // Of equals the first by name.
    let greatest = changes.filter(|(_, change)| *change > 0).min_by_key(|(_, change)| Reverse(*change));
    greatest.map(|(source, _)| source)
}
