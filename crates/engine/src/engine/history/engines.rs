//! Collects what the engines inside a source add, in one pass.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use super::labels::Labels;
use super::pages::HistoryPages;
use super::{History, HistoryFilter, ScanProgress, raw_answers};
use crate::error::{Error, Reason};
use crate::fetch::SourceCache;
use crate::finding::{Finding, OutcomeBody};
use crate::indicator::Indicator;
use crate::offload::offload;
use crate::source::Source;
use crate::sources::engine_report;
use crate::statistics::{EngineReport, EngineRow, EngineStatistics};
use crate::store::{Store, VerdictRecord};

/// Whose engines, and how findings that name too few of them are read again.
#[derive(Clone)]
pub struct EngineQuestion {
    /// Name of the source.
    pub source: String,
    /// The source with the option that its findings name every engine; reads raw answers.
    pub reader: Arc<dyn Source>,
    /// Whether engines that have nothing to object are of interest, too.
    pub with_silent: bool,
}

/// What the engines add, as far as the history was read.
pub struct EngineAnalysis {
    pages: HistoryPages,
    question: Arc<EngineQuestion>,
    collected: EngineCollection,
    store: Arc<dyn Store>,
    cache: SourceCache,
}

/// What was collected of a whole period.
#[derive(Default)]
pub struct EngineCollection {
    /// Of each engine and each two.
    pub statistics: EngineStatistics,
    /// How far the findings hold what the engines say.
    pub coverage: EngineCoverage,
    labels: Labels,
}

/// How far the findings of a source hold what its engines say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCoverage {
    /// Verdicts that were read.
    pub verdicts: u64,
    /// Those with a finding of the source.
    pub findings: u64,
    /// Findings that do not hold what the engines say, and are left out.
    pub left_out: u64,
    /// Findings whose raw answers were read again, since they do not hold enough.
    pub read_again: u64,
    /// Findings that do not hold enough, and whose raw answers are no longer stored.
    pub pruned: u64,
    /// Findings that do not hold enough, and whose raw answers say no more or could not be read.
    pub unreadable: u64,
}

impl History {
    /// Begins to collect what the engines inside a source add.
    ///
    /// # Errors
    /// [`Error::NotReady`] if no verdict matches, or if the store cannot be read.
    pub async fn analyze_engines(
        &self,
        filter: HistoryFilter,
        question: EngineQuestion,
    ) -> Result<EngineAnalysis, Error> {
        let pages = HistoryPages::open(self.store.clone(), self.clock.clone(), filter).await?;
        let collected = EngineCollection {
            statistics: EngineStatistics::default(),
            coverage: EngineCoverage::default(),
            labels: Labels::load(self.store.as_ref()).await?,
        };
        Ok(EngineAnalysis {
            pages,
            question: Arc::new(question),
            collected,
            store: self.store.clone(),
            cache: self.cache.clone(),
        })
    }

    /// The indicators of these verdicts, as far as they are still stored.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn indicators(&self, verdicts: &[String]) -> Result<Vec<(String, Indicator)>, Error> {
        let mut found = Vec::new();
        for id in verdicts {
            found.extend(self.store.verdict(id).await?.map(|record| (id.clone(), record.verdict.indicator)));
        }
        Ok(found)
    }
}

impl EngineAnalysis {
    /// Reads on; `None` once everything was read.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn advance(&mut self) -> Result<Option<ScanProgress>, Error> {
        let Some(page) = self.pages.next().await? else { return Ok(None) };
        self.collected.labels.join(self.store.as_ref(), &page.records).await?;
        let bytes_each = page.bytes / page.records.len().max(1);
        let mut records = page.records.into_iter();
        loop {
            let group: Vec<VerdictRecord> = records.by_ref().take(raw_answers::MOST_TOGETHER).collect();
            if group.is_empty() {
                return Ok(Some(self.pages.progress()));
            }
            let (bytes, question) = (bytes_each * group.len(), self.question.clone());
            let sort = move || {
                let lacks = group.iter().map(|record| question.lacks_engines(record)).collect::<Vec<_>>();
                (group, lacks)
            };
            let (group, lacks) = offload(bytes, sort).await;
            let mut rows = Vec::with_capacity(group.len());
            let mut bytes = bytes;
            for (record, lacks) in group.into_iter().zip(lacks) {
                let source = &self.question.source;
                let stored = if lacks { raw_answers::load(&self.cache, &record, source).await? } else { None };
                bytes += stored.iter().flatten().map(|answer| answer.len()).sum::<usize>();
                rows.push((record, lacks, stored));
            }
            let question = self.question.clone();
            let mut collected = std::mem::take(&mut self.collected);
            let count = move || {
                for (record, lacks, stored) in &rows {
                    collected.add(&question, record, *lacks, stored.as_deref());
                }
                collected
            };
            self.collected = offload(bytes, count).await;
        }
    }

    /// What was collected.
    ///
    /// # Errors
    /// [`Error::NotReady`] if no finding holds what the engines say.
    pub fn finish(self) -> Result<EngineCollection, Error> {
        let (source, collected) = (&self.question.source, self.collected);
        if collected.statistics.verdicts() > 0 {
            return Ok(collected);
        }
        let EngineCoverage { verdicts, findings, pruned, .. } = collected.coverage;
        let message = format!(
            "not enough data: of {verdicts} verdicts {findings} have a finding of {source}, and none of these holds what its \
             engines say ({pruned} raw answers are no longer stored). At least one is needed: choose a longer period, or enrich \
             some indicators first"
        );
        Err(Error::NotReady { reason: Reason::NotReady, subject: format!("sources/{source}"), message })
    }
}

impl EngineQuestion {
    /// The finding of the source in this verdict, and when it was received.
    fn finding<'a>(&self, record: &'a VerdictRecord) -> Option<(&'a Finding, SystemTime)> {
        let outcome = record.verdict.outcomes.iter().find(|outcome| outcome.source == self.source)?;
        Some((outcome.body.finding()?, outcome.time))
    }

    fn is_enough(&self, report: Option<&EngineReport<'_>>) -> bool {
        report.is_some_and(|report| report.names_silent || !self.with_silent)
    }

    /// Whether the finding of the source does not hold enough of what its engines say.
    fn lacks_engines(&self, record: &VerdictRecord) -> bool {
        self.finding(record).is_some_and(|(finding, _)| !self.is_enough(engine_report(finding).as_ref()))
    }

    /// What the source would say by these answers, with every engine.
    fn read_again(
        &self,
        record: &VerdictRecord,
        received: SystemTime,
        stored: &[raw_answers::Body],
    ) -> Option<Finding> {
        let indicator = &record.verdict.indicator;
        match raw_answers::read_again(self.reader.as_ref(), indicator, received, stored)? {
            OutcomeBody::Finding(finding) => Some(finding),
            OutcomeBody::NoRecord | OutcomeBody::Error(_) | OutcomeBody::NotAsked(_) => None,
        }
    }
}

impl EngineCollection {
    fn add(
        &mut self,
        question: &EngineQuestion,
        record: &VerdictRecord,
        lacks: bool,
        stored: Option<&[raw_answers::Body]>,
    ) {
        let coverage = &mut self.coverage;
        coverage.verdicts += 1;
        let Some((recorded, received)) = question.finding(record) else { return };
        coverage.findings += 1;
        let again = stored.and_then(|stored| question.read_again(record, received, stored));
        let report = again.as_ref().and_then(engine_report).filter(|report| question.is_enough(Some(report)));
        match (lacks, stored, &report) {
            (false, _, _) => {}
            (true, Some(_), Some(_)) => coverage.read_again += 1,
            (true, Some(_), None) => coverage.unreadable += 1,
            (true, None, _) => coverage.pruned += 1,
        }
        let Some(report) = report.or_else(|| engine_report(recorded)) else {
            coverage.left_out += 1;
            return;
        };
        let merged = record.verdict.sources_disposition;
        let row = EngineRow { verdict: &record.id, number: number_of_verdict(&record.id), merged, report };
        let joined = self.labels.take(&record.id);
        self.statistics.add(&row, joined.as_ref().and_then(|joined| joined.of_source(&question.source)));
    }
}

/// A number that stands for a verdict.
fn number_of_verdict(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
