//! Collects the statistics of the sources in one pass.

use std::collections::HashSet;
use std::sync::Arc;

use super::labels::{JoinedLabel, Labels, number_of};
use super::pages::HistoryPages;
use super::{History, HistoryFilter, ScanProgress, no_verdicts};
use crate::error::Error;
use crate::offload::offload;
use crate::settings::ResolvedPolicy;
use crate::statistics::{CalibrationStatistics, LearningStatistics, Row, SourceStatistics};
use crate::store::{Store, VerdictRecord};
use crate::verdict::fuse_without_analysis;

/// Statistics of the history, as far as it was read.
pub struct HistoryAnalysis {
    pages: HistoryPages,
    store: Arc<dyn Store>,
    /// Absent while a page is counted on another thread.
    collected: Option<Collected>,
}

struct Collected {
    labels: Labels,
    /// The sources to count; empty: all.
    sources: HashSet<String>,
    /// The policy whose probabilities are held against the labels.
    calibrated: Option<Arc<ResolvedPolicy>>,
    statistics: SourceStatistics,
    learning: LearningStatistics,
    calibration: CalibrationStatistics,
    verdicts: u64,
    labelled: u64,
}

/// What was collected of a whole period.
pub struct Collection {
    /// Of each source and each two.
    pub statistics: SourceStatistics,
    /// Of each source against the labels.
    pub learning: LearningStatistics,
    /// Of the probabilities against the labels.
    pub calibration: CalibrationStatistics,
    /// Labelled verdicts.
    pub labelled: u64,
}

impl History {
    /// Begins to collect statistics of these sources, or of all where none is named. With a policy, every labelled verdict is
    /// judged again under it, to hold its probabilities against the labels.
    ///
    /// # Errors
    /// [`Error::NotReady`] if no verdict matches, or if the store cannot be read.
    pub async fn analyze(
        &self,
        filter: HistoryFilter,
        sources: impl IntoIterator<Item = String>,
        calibrated: Option<Arc<ResolvedPolicy>>,
    ) -> Result<HistoryAnalysis, Error> {
        let end = self.end(&filter);
        let pages = HistoryPages::open(self.store.clone(), self.clock.clone(), filter).await?;
        let collected = Collected {
            labels: Labels::load(self.store.as_ref()).await?,
            sources: sources.into_iter().collect(),
            calibrated,
            statistics: SourceStatistics::default(),
            learning: LearningStatistics::new(end),
            calibration: CalibrationStatistics::default(),
            verdicts: 0,
            labelled: 0,
        };
        Ok(HistoryAnalysis { pages, store: self.store.clone(), collected: Some(collected) })
    }
}

impl HistoryAnalysis {
    /// Reads on; `None` once everything was read.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn advance(&mut self) -> Result<Option<ScanProgress>, Error> {
        let Some(page) = self.pages.next().await? else { return Ok(None) };
        if let Some(mut collected) = self.collected.take() {
            collected.labels.join(self.store.as_ref(), &page.records).await?;
            let count = move || {
                page.records.iter().for_each(|record| collected.add(record));
                collected
            };
            self.collected = Some(offload(page.bytes, count).await);
        }
        Ok(Some(self.pages.progress()))
    }

    /// What was collected.
    ///
    /// # Errors
    /// [`Error::NotReady`] if no verdict matched.
    pub fn finish(self) -> Result<Collection, Error> {
        let collected = self.collected.filter(|collected| collected.verdicts > 0).ok_or_else(no_verdicts)?;
        let Collected { statistics, learning, calibration, labelled, .. } = collected;
        Ok(Collection { statistics, learning, calibration, labelled })
    }
}

impl Collected {
    fn add(&mut self, record: &VerdictRecord) {
        let indicator = number_of(&record.verdict.indicator);
        let joined = self.labels.take(&record.id);
        let label = joined.as_ref().and_then(JoinedLabel::of_verdict);
        let mut row = Row::from_verdict(&record.verdict, indicator, label, record.units.as_ref());
        if let Some(joined) = joined {
            row.reports.iter_mut().for_each(|report| report.label = joined.of_source(report.source));
        }
        if !self.sources.is_empty() {
            row.reports.retain(|report| self.sources.contains(report.source));
        }
        self.verdicts += 1;
        self.statistics.add(&row);
        self.learning.add(&row);
        if label.is_none() {
            return;
        }
        self.labelled += 1;
        if let Some(policy) = &self.calibrated {
            let verdict = &record.verdict;
            let outcomes = verdict.outcomes.clone();
            let judged = fuse_without_analysis(&policy.policy, &verdict.indicator, verdict.judged_time, outcomes);
            self.calibration.add(&Row::from_verdict(&judged, indicator, label, None));
        }
    }
}
