//! One pass over the rows of a period: what each source answered and added, and how each two agree.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::agreement::{AlphaMetric, GroupAgreement, JointTable, KappaWeights};
use super::copying::{Copying, linked, residual_correlations};
use super::expectation::learn_from_rows;
use super::learning::{ReliabilitySuggestion, prior_row, suggest};
use super::numeric::{Estimate, mix};
use super::performance::{LabelCounts, Performance};
use super::sample::{Sample, SampledAnswer, SampledRow};
use super::timeliness::{Lead, Timeliness};
use super::{Answer, Label, Report, Row};
use crate::finding::{Disposition, Reliability};
use crate::verdict::{LetterRow, LetterTable, WeightedRule};

/// Pairs with fewer joint answers have no kappa.
pub const LEAST_JOINT: u64 = 20;
/// Sources beyond this many are left out, and counted.
pub const MOST_SOURCES: usize = 128;
/// Rows that are kept for what needs whole rows.
const SAMPLED: usize = 4_096;
/// Indicators of one day that are known again; further ones count each time.
const MOST_OF_A_DAY: usize = 262_144;
/// Latencies are counted in powers of the square root of 2, from a millisecond on.
const LATENCY_STEPS: usize = 48;

/// Collects the statistics of the sources, row by row.
#[derive(Clone, Debug)]
pub struct SourceStatistics {
    places: HashMap<String, u16>,
    sources: Vec<Counts>,
    /// Each source with all before it.
    pairs: Vec<Vec<PairCounts>>,
    group: GroupAgreement<3>,
    timeliness: Timeliness,
    /// Of all rows.
    sample: Sample,
    /// Of the rows on which two sources or more took a side, which may be few of all.
    sided: Sample,
    day: Day,
    verdicts: u64,
    with_units: u64,
    labelled_malicious: u64,
    labelled_benign: u64,
    left_out: u64,
}

/// The indicators of one day that were counted.
#[derive(Clone, Debug, Default)]
struct Day {
    number: u64,
    indicators: HashSet<u64>,
}

#[derive(Clone, Debug)]
struct Counts {
    name: String,
    reliability: Reliability,
    family: String,
    seen: SystemTime,
    claims: ClaimCounts,
    no_record: u64,
    failed: u64,
    not_asked: u64,
    decisive: u64,
    /// Those of them of which it is known what they cost.
    decisive_with_units: u64,
    lone_alarms: u64,
    with_merged: u64,
    against_merged: u64,
    units: u64,
    latency: [u64; LATENCY_STEPS],
    has_listing_dates: bool,
    labels: LabelCounts,
}

#[derive(Clone, Copy, Debug, Default)]
struct PairCounts {
    joint: JointTable<3>,
    first_malicious: u64,
    second_malicious: u64,
    both_malicious: u64,
}

/// How often a source made each claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimCounts {
    /// It knows the indicator and takes no side.
    pub unknown: u64,
    /// Benign.
    pub benign: u64,
    /// Suspicious.
    pub suspicious: u64,
    /// Malicious.
    pub malicious: u64,
}

impl ClaimCounts {
    /// Claims that take a side.
    pub fn sided(&self) -> u64 {
        self.benign + self.suspicious + self.malicious
    }
}

/// What the rows say of all sources.
#[derive(Clone, Debug)]
pub struct SourceComparison {
    /// Rows.
    pub verdicts: u64,
    /// Rows of which it is known what each source cost.
    pub verdicts_with_units: u64,
    /// Rows with a label of malicious.
    pub labelled_malicious: u64,
    /// Rows with a label of benign.
    pub labelled_benign: u64,
    /// Krippendorff's alpha on the order benign, suspicious, malicious.
    pub alpha_ordinal: Option<f64>,
    /// Krippendorff's alpha where every difference counts alike.
    pub alpha_nominal: Option<f64>,
    /// Gwet's AC1.
    pub ac1: Option<f64>,
    /// Rows on which at least two sources took a side, from which the three above come.
    pub pairable: u64,
    /// The sources, in order of name.
    pub sources: Vec<SourceSummary>,
    /// Each two sources, the first by name first.
    pub pairs: Vec<PairSummary>,
    /// Sources that should be one family and are not.
    pub suggested_families: Vec<Vec<String>>,
    /// Answers of sources beyond [`MOST_SOURCES`], which are left out.
    pub left_out: u64,
    /// The sample of rows; its sources are places in `sources`.
    pub sample: Vec<SampledRow>,
}

/// What the rows say of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSummary {
    /// Its name.
    pub name: String,
    /// The letter that it had last.
    pub reliability: Reliability,
    /// The family that it had last.
    pub family: String,
    /// Its claims.
    pub claims: ClaimCounts,
    /// Answers that it has no record.
    pub no_record: u64,
    /// Times that it was asked and gave no answer.
    pub failed: u64,
    /// Times that it was not asked.
    pub not_asked: u64,
    /// Share of all rows on which it took a side.
    pub coverage: f64,
    /// Rows whose disposition would be another without it.
    pub decisive: u64,
    /// Alarms that no other source raised.
    pub lone_alarms: u64,
    /// Share of its claims that point the same way as what all sources say together; `None` without one that points anywhere.
    pub agreement_with_merged: Option<f64>,
    /// How early it says that an indicator is malicious.
    pub lead: Option<Lead>,
    /// Whether it says itself since when it lists what it calls malicious.
    pub has_listing_dates: bool,
    /// Quota units that were spent for it, in the rows of which that is known.
    pub units: u64,
    /// Quota units per decisive contribution, in the same rows; `None`: it made none there.
    pub units_per_decisive: Option<f64>,
    /// Median of the time from the beginning of an enrichment to its answer, of those that came from no cache.
    pub median_latency: Option<Duration>,
    /// The time that one in twenty of these exceeds.
    pub slow_latency: Option<Duration>,
    /// It against the labels.
    pub performance: Option<Performance>,
}

impl SourceComparison {
    /// Which letter each source behaves like, without labels: by what all together say of the sample. In order of name; labels
    /// among the rows count in full. Weaker than what labels teach.
    pub fn suggestions_without_labels(&self, rule: &WeightedRule) -> Vec<ReliabilitySuggestion> {
        let priors: Vec<&LetterRow> =
            self.sources.iter().map(|source| prior_row(&rule.letters, source.reliability)).collect();
        let family_of = |source: &SourceSummary| self.sources.iter().position(|other| other.family == source.family);
        let families: Vec<usize> = self.sources.iter().filter_map(family_of).collect();
        let learned = learn_from_rows(&self.sample, &priors, &families, rule.family_correlation);
        let with_claims = self.sources.iter().zip(learned).filter(|(source, _)| source.claims.sided() > 0);
        with_claims
            .map(|(source, learned)| suggest(source.name.clone(), None, source.reliability, learned, &rule.letters))
            .collect()
    }
}

impl SourceSummary {
    /// Answers: claims and "no record".
    pub fn answered(&self) -> u64 {
        self.claims.sided() + self.claims.unknown + self.no_record
    }

    /// Times that it was asked.
    pub fn asked(&self) -> u64 {
        self.answered() + self.failed
    }
}

/// What the rows say of two sources.
#[derive(Clone, Debug, PartialEq)]
pub struct PairSummary {
    /// Place of the first in the list of sources.
    pub first: usize,
    /// Place of the second.
    pub second: usize,
    /// Rows on which both took a side.
    pub joint: u64,
    /// Share of these on which they say the same; `None` under [`LEAST_JOINT`], as the two after it.
    pub agreement: Option<f64>,
    /// Cohen's kappa.
    pub kappa: Option<Estimate>,
    /// Cohen's kappa by the square of the distance.
    pub quadratic_kappa: Option<Estimate>,
    /// Of the rows that either calls malicious, where both answered: the share that both do.
    pub jaccard: Option<f64>,
    /// Days by which the first is earlier than the second.
    pub lead: Option<Lead>,
    /// How far they agree beyond what the truth explains.
    pub copying: Option<Copying>,
}

impl Default for SourceStatistics {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            sources: Vec::new(),
            pairs: Vec::new(),
            group: GroupAgreement::default(),
            timeliness: Timeliness::default(),
            sample: Sample::new(SAMPLED),
            sided: Sample::new(SAMPLED),
            day: Day::default(),
            verdicts: 0,
            with_units: 0,
            labelled_malicious: 0,
            labelled_benign: 0,
            left_out: 0,
        }
    }
}

impl Day {
    /// Whether it is the first row of its indicator on this day, as far as they are counted. Another day forgets the one before.
    fn is_first(&mut self, row: &Row<'_>) -> bool {
        let number = day_number(row.time);
        if number != self.number {
            self.number = number;
            self.indicators.clear();
        }
        if self.indicators.len() >= MOST_OF_A_DAY {
            return !self.indicators.contains(&row.indicator);
        }
        self.indicators.insert(row.indicator)
    }
}

/// The number of a day (UTC).
fn day_number(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400
}

impl SourceStatistics {
    /// Counts a row. Rows come in the order of their time: of one indicator, the first of each day counts for agreement, since
    /// what a source says of one thing twice is said once.
    pub fn add(&mut self, row: &Row<'_>) {
        self.verdicts += 1;
        self.with_units += u64::from(row.has_units);
        if let Some(label) = row.label {
            *(if label.is_malicious { &mut self.labelled_malicious } else { &mut self.labelled_benign }) += 1;
        }
        let mut present: Vec<(usize, Answer)> = Vec::with_capacity(row.reports.len());
        let mut ratings = [0; 3];
        let alarms = row.reports.iter().filter(|report| report.answer.is_alarm()).count();
        for report in &row.reports {
            let Some(place) = self.place(report, row.time) else {
                self.left_out += 1;
                continue;
            };
            self.sources[place].add(report, row, alarms);
            if let Some(side) = report.answer.side() {
                ratings[side] += 1;
            }
            if report.answer == Answer::Claim(Disposition::Malicious) {
                self.timeliness.add(row.indicator, place as u16, report.since.unwrap_or(row.time));
            }
            if report.answer.is_answer() {
                present.push((place, report.answer));
            }
        }
        let is_first = self.day.is_first(row);
        if is_first || row.reports.iter().any(|report| report.label.is_some()) {
            self.keep(row, ratings.iter().sum::<u32>() >= 2);
        }
        if !is_first {
            return;
        }
        self.group.add(ratings);
        for (index, (later, answer)) in present.iter().enumerate() {
            for (earlier, other) in &present[..index] {
                let (first, second) = if earlier < later {
                    ((earlier, other), (later, answer))
                } else {
                    ((later, answer), (earlier, other))
                };
                self.pairs[*second.0][*first.0].add(*first.1, *second.1);
            }
        }
    }

    /// Keeps a row, of those of one indicator and day the first with the labels of all.
    fn keep(&mut self, row: &Row<'_>, has_two_sides: bool) {
        let is_malicious = |label: Option<Label>| label.map(|label| label.is_malicious);
        let places = &self.places;
        let answer = |report: &Report<'_>| {
            let (source, outcome) = (*places.get(report.source)?, report.answer.outcome()? as u8);
            Some(SampledAnswer { source, outcome, label: is_malicious(report.label) })
        };
        let sampled = || SampledRow {
            label: is_malicious(row.label),
            base: row.base.unwrap_or_default(),
            answers: row.reports.iter().filter_map(answer).collect(),
        };
        let seed = row.indicator ^ mix(day_number(row.time));
        self.sample.offer(seed, sampled);
        if has_two_sides {
            self.sided.offer(seed, sampled);
        }
    }

    fn place(&mut self, report: &Report<'_>, time: SystemTime) -> Option<usize> {
        if let Some(place) = self.places.get(report.source) {
            return Some(usize::from(*place));
        }
        let place = self.sources.len();
        if place >= MOST_SOURCES {
            return None;
        }
        self.places.insert(report.source.to_owned(), place as u16);
        self.sources.push(Counts::new(report, time));
        self.pairs.push(vec![PairCounts::default(); place]);
        Some(place)
    }

    /// What the rows say. `letters` has the rows from which the reliability of witnesses is learned.
    pub fn finish(self, letters: &LetterTable) -> SourceComparison {
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by(|one, other| self.sources[*one].name.cmp(&self.sources[*other].name));
        let mut place_of = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, old)| place_of[*old] = place);
        let (mut sample, mut sided) = (self.sample.into_rows(), self.sided.into_rows());
        for answer in sample.iter_mut().chain(&mut sided).flat_map(|row| &mut row.answers) {
            answer.source = place_of[usize::from(answer.source)] as u16;
        }
        let sources: Vec<SourceSummary> = order
            .iter()
            .map(|old| self.sources[*old].summary(self.verdicts, self.timeliness.lead(*old as u16)))
            .collect();
        let families: Vec<&str> = sources.iter().map(|source| source.family.as_str()).collect();
        let priors: Vec<&LetterRow> = sources.iter().map(|source| prior_row(letters, source.reliability)).collect();
        let copying: HashMap<(usize, usize), Copying> = residual_correlations(&sample, &sided, &families, &priors)
            .into_iter()
            .map(|copying| (copying.sources, copying))
            .collect();
        let suspicious = copying.values().filter(|copying| copying.is_suspicious()).map(|copying| copying.sources);
        let undeclared = suspicious.filter(|(first, second)| families[*first] != families[*second]);
        let mut groups = linked(sources.len(), undeclared);
        groups.sort();
        let name = |place: usize| sources[place].name.clone();
        let suggested_families = groups.into_iter().map(|group| group.into_iter().map(name).collect()).collect();
        let mut pairs = Vec::new();
        for first in 0..order.len() {
            for second in first + 1..order.len() {
                let (old_first, old_second) = (order[first], order[second]);
                let (high, low) = (old_first.max(old_second), old_first.min(old_second));
                let counts = self.pairs[high][low];
                let counts = if old_first < old_second { counts } else { counts.transposed() };
                let lead = self.timeliness.lead_of_pair(old_first as u16, old_second as u16);
                pairs.push(counts.summary((first, second), lead, copying.get(&(first, second)).copied()));
            }
        }
        SourceComparison {
            verdicts: self.verdicts,
            verdicts_with_units: self.with_units,
            labelled_malicious: self.labelled_malicious,
            labelled_benign: self.labelled_benign,
            alpha_ordinal: self.group.alpha(AlphaMetric::Ordinal),
            alpha_nominal: self.group.alpha(AlphaMetric::Nominal),
            ac1: self.group.ac1(),
            pairable: self.group.pairable(),
            sources,
            pairs,
            suggested_families,
            left_out: self.left_out,
            sample,
        }
    }
}

impl Counts {
    fn new(report: &Report<'_>, time: SystemTime) -> Self {
        Self {
            name: report.source.to_owned(),
            reliability: report.reliability,
            family: report.family.to_owned(),
            seen: time,
            claims: ClaimCounts::default(),
            no_record: 0,
            failed: 0,
            not_asked: 0,
            decisive: 0,
            decisive_with_units: 0,
            lone_alarms: 0,
            with_merged: 0,
            against_merged: 0,
            units: 0,
            latency: [0; LATENCY_STEPS],
            has_listing_dates: false,
            labels: LabelCounts::default(),
        }
    }

    fn add(&mut self, report: &Report<'_>, row: &Row<'_>, alarms: usize) {
        if row.time > self.seen {
            self.seen = row.time;
            self.reliability = report.reliability;
            if self.family != report.family {
                report.family.clone_into(&mut self.family);
            }
        }
        let count = match report.answer {
            Answer::Claim(Disposition::Unknown) => &mut self.claims.unknown,
            Answer::Claim(Disposition::Benign) => &mut self.claims.benign,
            Answer::Claim(Disposition::Suspicious) => &mut self.claims.suspicious,
            Answer::Claim(Disposition::Malicious) => &mut self.claims.malicious,
            Answer::NoRecord => &mut self.no_record,
            Answer::Failed => &mut self.failed,
            Answer::NotAsked => &mut self.not_asked,
        };
        *count += 1;
        let is_decisive = report.without.is_some_and(|without| without != row.merged);
        self.decisive += u64::from(is_decisive);
        self.decisive_with_units += u64::from(is_decisive && row.has_units);
        self.lone_alarms += u64::from(report.answer.is_alarm() && alarms == 1);
        if report.answer.side().is_some() && row.merged != Disposition::Unknown {
            let merged_alarm = row.merged != Disposition::Benign;
            let agrees = report.answer.is_alarm() == merged_alarm;
            *(if agrees { &mut self.with_merged } else { &mut self.against_merged }) += 1;
        }
        self.has_listing_dates |= report.has_listing_date && report.answer == Answer::Claim(Disposition::Malicious);
        self.units += u64::from(report.units);
        if let Some(latency) = report.latency {
            self.latency[latency_step(latency)] += 1;
        }
        if let Some(label) = report.label {
            self.labels.add(report.answer, label);
        }
    }

    fn summary(&self, verdicts: u64, lead: Option<Lead>) -> SourceSummary {
        let compared = self.with_merged + self.against_merged;
        SourceSummary {
            name: self.name.clone(),
            reliability: self.reliability,
            family: self.family.clone(),
            claims: self.claims,
            no_record: self.no_record,
            failed: self.failed,
            not_asked: self.not_asked,
            coverage: if verdicts == 0 { 0.0 } else { self.claims.sided() as f64 / verdicts as f64 },
            decisive: self.decisive,
            lone_alarms: self.lone_alarms,
            agreement_with_merged: (compared > 0).then(|| self.with_merged as f64 / compared as f64),
            lead,
            has_listing_dates: self.has_listing_dates,
            units: self.units,
            units_per_decisive: (self.decisive_with_units > 0)
                .then(|| self.units as f64 / self.decisive_with_units as f64),
            median_latency: self.latency_at(0.5),
            slow_latency: self.latency_at(0.95),
            performance: self.labels.performance(),
        }
    }

    /// The latency that this share does not exceed, to within a step.
    fn latency_at(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.latency.iter().sum();
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        let step = self.latency.iter().position(|count| {
            below += count;
            total > 0 && below >= wanted
        })?;
        Some(Duration::from_secs_f64(2_f64.powf(step as f64 / 2.0) / 1_000.0))
    }
}

fn latency_step(latency: Duration) -> usize {
    let millis = latency.as_secs_f64() * 1_000.0;
    if millis <= 1.0 { 0 } else { ((millis.log2() * 2.0).ceil() as usize).min(LATENCY_STEPS - 1) }
}

impl PairCounts {
    fn add(&mut self, first: Answer, second: Answer) {
        if let (Some(first), Some(second)) = (first.side(), second.side()) {
            self.joint.add(first, second);
        }
        let [first, second] = [first, second].map(|answer| answer == Answer::Claim(Disposition::Malicious));
        self.first_malicious += u64::from(first);
        self.second_malicious += u64::from(second);
        self.both_malicious += u64::from(first && second);
    }

    fn transposed(self) -> Self {
        Self {
            joint: self.joint.transposed(),
            first_malicious: self.second_malicious,
            second_malicious: self.first_malicious,
            both_malicious: self.both_malicious,
        }
    }

    fn summary(&self, (first, second): (usize, usize), lead: Option<Lead>, copying: Option<Copying>) -> PairSummary {
        let joint = self.joint.total();
        let enough = joint >= LEAST_JOINT;
        let either = self.first_malicious + self.second_malicious - self.both_malicious;
        let kappa = |weights| if enough { self.joint.kappa_estimate(weights) } else { None };
        PairSummary {
            first,
            second,
            joint,
            agreement: self.joint.agreement().filter(|_| enough),
            kappa: kappa(KappaWeights::Plain),
            quadratic_kappa: kappa(KappaWeights::Quadratic),
            jaccard: (either > 0).then(|| self.both_malicious as f64 / either as f64),
            lead,
            copying,
        }
    }
}
