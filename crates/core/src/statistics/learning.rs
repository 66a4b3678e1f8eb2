//! What labels say of the reliability of sources: a Dirichlet distribution of the answers of each source about what is
//! malicious and what is benign, which begins as the row of its letter.
//!
//! That a source answers without taking a side is an outcome of its own: a block list only ever says "malicious", so that what
//! it is worth shows in how much more often it speaks about what is malicious, not in what it says then.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use strum::VariantArray;

use super::numeric::trigamma;
use super::{OUTCOMES, Row, SILENT};
use crate::finding::Reliability;
use crate::indicator::IndicatorType;
use crate::verdict::{ClaimShares, LetterRow, LetterTable};

/// Labelled claims that a letter is worth: with as many, half of what is learned is from labels.
const PRIOR_WEIGHT: f64 = 20.0;
/// Shares of claims among answers below this count as this, so that no letter is worth more answers than it can be held against.
const LEAST_SIDED: f64 = 1e-3;
/// The weight of a label halves in this time.
pub const FORGETTING: Duration = Duration::from_secs(90 * 86_400);
/// With at least so many labels of one type, after forgetting, a source is judged on them alone.
pub const LEAST_LABELS_OF_TYPE: f64 = 50.0;
/// No smaller share is suggested; a policy takes none below half of it.
const LEAST_SHARE: f64 = 2e-3;
/// With it a row can have the least shares.
const GREATEST_RATIO: f64 = 400.0;

/// The claims of sources about labelled indicators.
#[derive(Clone, Debug)]
pub struct LearningStatistics {
    now: SystemTime,
    sources: BTreeMap<String, Labelled>,
}

#[derive(Clone, Debug)]
struct Labelled {
    letter: Reliability,
    letter_time: SystemTime,
    of_type: [Claims; IndicatorType::VARIANTS.len()],
}

/// Weighted counts of claims of benign, suspicious and malicious, and of answers without a side ([`SILENT`]).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claims {
    pub(super) if_malicious: [f64; OUTCOMES],
    pub(super) if_benign: [f64; OUTCOMES],
    pub(super) labels: u64,
    /// The weight of these labels.
    pub(super) effective: f64,
}

/// What was learned of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnedRow {
    /// The shares of its claims, fit to be its row in a policy: malicious speaks no less for harm than suspicious, and
    /// suspicious no less than benign.
    pub claims: LetterRow,
    /// The evidence of its claims of benign, suspicious and malicious in nats, by these shares.
    pub evidence: [f64; 3],
    /// Standard deviation of each, before they were put in order.
    pub deviation: [f64; 3],
    /// The evidence of an answer that takes no side.
    pub silence: f64,
    /// How often it makes each claim where it takes a side, about what is malicious and what is benign in equal parts.
    pub mix: [f64; 3],
    /// The evidence of "malicious" before it was put in order. Below 0: the source says the opposite of the truth.
    pub raw_malicious: f64,
    /// Labelled indicators on which it took a side.
    pub labels: u64,
    /// The same after forgetting: a label of [`FORGETTING`] ago counts half.
    pub effective_labels: f64,
}

/// Which letter a source behaves like. Nothing applies it by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ReliabilitySuggestion {
    /// The source.
    pub source: String,
    /// On indicators of this type alone; `None`: of all types.
    pub indicator_type: Option<IndicatorType>,
    /// The letter that it had last.
    pub rated: Reliability,
    /// The letter that its claims are most like.
    pub behaves_like: Reliability,
    /// The best letter within one standard deviation.
    pub best: Reliability,
    /// The worst letter within one standard deviation.
    pub worst: Reliability,
    /// Whether it says the opposite of the truth, by more than two standard deviations.
    pub is_inverted: bool,
    /// The numbers behind it.
    pub learned: LearnedRow,
}

impl LearningStatistics {
    /// Nothing learned yet. Labels are weighed by their age at `now`.
    pub fn new(now: SystemTime) -> Self {
        Self { now, sources: BTreeMap::new() }
    }

    /// Counts what the sources say that has a label. A label is to be counted once for each source, however many verdicts there are
    /// on its indicator.
    pub fn add(&mut self, row: &Row<'_>) {
        let place = IndicatorType::VARIANTS.iter().position(|each| *each == row.indicator_type).unwrap_or_default();
        for report in &row.reports {
            let (Some(label), Some(outcome)) = (report.label, report.answer.outcome()) else { continue };
            let age = self.now.duration_since(label.time).unwrap_or_default();
            let weight = (-age.as_secs_f64() / FORGETTING.as_secs_f64()).exp2();
            let source = self.sources.entry(report.source.to_owned()).or_insert_with(|| Labelled {
                letter: report.reliability,
                letter_time: row.time,
                of_type: Default::default(),
            });
            if row.time >= source.letter_time {
                (source.letter, source.letter_time) = (report.reliability, row.time);
            }
            let claims = &mut source.of_type[place];
            let counts = if label.is_malicious { &mut claims.if_malicious } else { &mut claims.if_benign };
            counts[outcome] += weight;
            if outcome != SILENT {
                claims.labels += 1;
                claims.effective += weight;
            }
        }
    }

    /// What the labels suggest for each source, in order of name: for all types together, and for each type of which there are
    /// at least [`LEAST_LABELS_OF_TYPE`] labels.
    pub fn suggestions(&self, letters: &LetterTable) -> Vec<ReliabilitySuggestion> {
        let mut suggestions = Vec::new();
        for (name, source) in &self.sources {
            let mut pooled = Claims::default();
            source.of_type.iter().for_each(|claims| pooled.merge(claims));
            // A source that never took a side has said nothing by which to judge it.
            if pooled.labels == 0 {
                continue;
            }
            suggestions.push(suggestion(name, None, source.letter, &pooled, letters));
            for (indicator_type, claims) in IndicatorType::VARIANTS.iter().zip(&source.of_type) {
                if claims.effective >= LEAST_LABELS_OF_TYPE {
                    suggestions.push(suggestion(name, Some(*indicator_type), source.letter, claims, letters));
                }
            }
        }
        suggestions
    }
}

impl Claims {
    fn merge(&mut self, other: &Self) {
        let add = |to: &mut [f64; OUTCOMES], from: &[f64; OUTCOMES]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from)
        };
        add(&mut self.if_malicious, &other.if_malicious);
        add(&mut self.if_benign, &other.if_benign);
        self.labels += other.labels;
        self.effective += other.effective;
    }

    /// Share of the answers that take a side; without any answer all would.
    fn sided_share(&self) -> f64 {
        let counts = || self.if_malicious.iter().zip(&self.if_benign).map(|(malicious, benign)| malicious + benign);
        let (all, sided) = (counts().sum::<f64>(), counts().take(SILENT).sum::<f64>());
        if all > 0.0 { (sided / all).max(LEAST_SIDED) } else { 1.0 }
    }
}

fn suggestion(
    source: &str,
    indicator_type: Option<IndicatorType>,
    rated: Reliability,
    claims: &Claims,
    letters: &LetterTable,
) -> ReliabilitySuggestion {
    let learned = learn(prior_row(letters, rated), claims);
    suggest(source.to_owned(), indicator_type, rated, learned, letters)
}

/// The letter that a learned row is most like, with its range.
pub(super) fn suggest(
    source: String,
    indicator_type: Option<IndicatorType>,
    rated: Reliability,
    learned: LearnedRow,
    letters: &LetterTable,
) -> ReliabilitySuggestion {
    let (information, deviation) = (information(&learned.mix, &learned.evidence), learned.information_deviation());
    let near = |information: f64| letter_of_information(letters, rated, &learned.mix, information.max(0.0));
    ReliabilitySuggestion {
        source,
        indicator_type,
        rated,
        behaves_like: near(information),
        best: near(information + deviation),
        worst: near(information - deviation),
        is_inverted: learned.raw_malicious + 2.0 * learned.deviation[2] < 0.0,
        learned,
    }
}

/// The row of a letter; of F, which has none, that of C.
pub(super) fn prior_row(letters: &LetterTable, letter: Reliability) -> &LetterRow {
    letters.row(letter).unwrap_or(&letters.c)
}

/// The claims of a source whose letter has this row. What the letter does not say, how often the source takes a side, begins
/// alike for what is malicious and what is benign: as its share of all answers.
pub(super) fn learn(prior: &LetterRow, claims: &Claims) -> LearnedRow {
    let sided = claims.sided_share();
    let posterior = |prior: ClaimShares, counts: [f64; OUTCOMES]| {
        let [benign, suspicious, malicious] = shares(prior);
        // As many silent answers as come with so many claims.
        let prior = [benign, suspicious, malicious, (1.0 - sided) / sided];
        std::array::from_fn::<f64, OUTCOMES, _>(|outcome| PRIOR_WEIGHT * prior[outcome] + counts[outcome])
    };
    let (malicious, benign) =
        (posterior(prior.if_malicious, claims.if_malicious), posterior(prior.if_benign, claims.if_benign));
    let (all_malicious, all_benign) = (malicious.iter().sum::<f64>(), benign.iter().sum::<f64>());
    let variance = |side: usize| {
        trigamma(malicious[side]) - trigamma(all_malicious) + trigamma(benign[side]) - trigamma(all_benign)
    };
    let if_malicious = [0, 1, 2].map(|side| malicious[side] / all_malicious);
    let if_benign = [0, 1, 2].map(|side| benign[side] / all_benign);
    let spoken: f64 = if_malicious.iter().chain(&if_benign).sum();
    let silent = (malicious[SILENT] / all_malicious, benign[SILENT] / all_benign);
    let evidence = evidence_in_order(if_malicious, if_benign);
    LearnedRow {
        claims: row_of_evidence(&evidence, &if_benign),
        evidence,
        deviation: [0, 1, 2].map(|side| variance(side).max(0.0).sqrt()),
        silence: if sided < 1.0 { (silent.0 / silent.1).ln() } else { 0.0 },
        mix: [0, 1, 2].map(|side| (if_malicious[side] + if_benign[side]) / spoken),
        raw_malicious: (if_malicious[2] / if_benign[2]).ln(),
        labels: claims.labels,
        effective_labels: claims.effective,
    }
}

/// The evidence of benign, suspicious and malicious in nats. It rises in this order: neighbours in the wrong order get one ratio.
/// Benign is at most 0, the other two at least 0.
fn evidence_in_order(malicious: [f64; 3], benign: [f64; 3]) -> [f64; 3] {
    // Pool adjacent violators; with three values two rounds suffice.
    let mut blocks: Vec<(usize, f64, f64)> = Vec::new();
    for side in 0..3 {
        let mut block = (side, malicious[side], benign[side]);
        while let Some(&(first, above, below)) = blocks.last()
            && above * block.2 >= block.1 * below
        {
            block = (first, above + block.1, below + block.2);
            blocks.pop();
        }
        blocks.push(block);
    }
    let mut evidence = [0.0; 3];
    for &(first, above, below) in &blocks {
        evidence[first..].fill((above / below).ln());
    }
    [evidence[0].min(0.0), evidence[1].max(0.0), evidence[2].max(0.0)]
}

/// A row of a policy whose claims carry this evidence, that of benign as far as a row can. Its shares are those of a source that
/// always takes a side, so that they are not the learned ones where silence is frequent: only their ratios are.
fn row_of_evidence(evidence: &[f64; 3], if_benign: &[f64; 3]) -> LetterRow {
    let ratios = evidence.map(|nats| nats.exp().min(GREATEST_RATIO));
    // With suspicious and malicious in the proportion learned, one scale lets both columns add up to 1.
    let (below, above) = (if_benign[1] + if_benign[2], ratios[1] * if_benign[1] + ratios[2] * if_benign[2]);
    let scale = (1.0 - ratios[0]) / (above - ratios[0] * below);
    let is_empty = evidence.iter().all(|nats| nats.abs() < 1e-9);
    let scale = if is_empty { if_benign.iter().sum::<f64>().recip() } else { scale.clamp(0.0, below.recip()) };
    let (mut suspicious, mut malicious) = (scale * if_benign[1], scale * if_benign[2]);
    if suspicious < LEAST_SHARE && ratios[2] > ratios[0] {
        // With the least share of suspicious that of malicious is what both sums leave.
        suspicious = LEAST_SHARE;
        malicious = (1.0 - ratios[1] * LEAST_SHARE - ratios[0] * (1.0 - LEAST_SHARE)) / (ratios[2] - ratios[0]);
    }
    malicious = malicious.max(LEAST_SHARE);
    let fit = ((1.0 - LEAST_SHARE) / (ratios[1] * suspicious + ratios[2] * malicious)).min(1.0);
    let (suspicious, malicious) = (fit * suspicious, fit * malicious);
    // Benign is what is left of either column, which is no more of the first since the other two ratios are at least 1.
    let column = |suspicious: f64, malicious: f64| claim_shares([1.0 - suspicious - malicious, suspicious, malicious]);
    LetterRow {
        if_malicious: column(ratios[1] * suspicious, ratios[2] * malicious),
        if_benign: column(suspicious, malicious),
    }
}

impl LearnedRow {
    /// The evidence of a claim, or of an answer without a side.
    pub(super) fn evidence_of(&self, outcome: usize) -> f64 {
        self.evidence.get(outcome).copied().unwrap_or(self.silence)
    }

    /// How far its information may be off: one standard deviation.
    fn information_deviation(&self) -> f64 {
        [0, 1, 2].map(|side| (self.mix[side] * self.deviation[side]).powi(2)).iter().sum::<f64>().sqrt()
    }
}

/// The evidence of a claim that is to be expected of a source that makes each claim so often, whatever its direction, in nats.
fn information(mix: &[f64; 3], evidence: &[f64; 3]) -> f64 {
    mix.iter().zip(evidence).map(|(share, nats)| share * nats.abs()).sum()
}

fn evidence_of_row(row: &LetterRow) -> [f64; 3] {
    let (malicious, benign) = (shares(row.if_malicious), shares(row.if_benign));
    [0, 1, 2].map(|side| (malicious[side] / benign[side]).ln())
}

/// The letter whose claims are expected to carry evidence most like that of this row.
pub fn nearest_letter(letters: &LetterTable, rated: Reliability, row: &LetterRow) -> Reliability {
    let (malicious, benign) = (shares(row.if_malicious), shares(row.if_benign));
    let mix = [0, 1, 2].map(|side| (malicious[side] + benign[side]) / 2.0);
    letter_of_information(letters, rated, &mix, information(&mix, &evidence_of_row(row)))
}

/// The letter that would carry evidence most like this in the claims that the source makes: a source that only ever says
/// "malicious" is held against what "malicious" says under each letter. A+ is the user's own word, which no source earns: it is
/// only suggested where it was given.
fn letter_of_information(letters: &LetterTable, rated: Reliability, mix: &[f64; 3], wanted: f64) -> Reliability {
    let candidates = Reliability::VARIANTS.iter().filter(|letter| **letter != Reliability::APlus || rated == **letter);
    let expected =
        |letter: &Reliability| letters.row(*letter).map_or(0.0, |row| information(mix, &evidence_of_row(row)));
    let distance = |letter: &Reliability| (expected(letter) - wanted).abs();
    candidates.copied().min_by(|one, other| distance(one).total_cmp(&distance(other))).unwrap_or(rated)
}

fn shares(claims: ClaimShares) -> [f64; 3] {
    [claims.benign, claims.suspicious, claims.malicious]
}

fn claim_shares([benign, suspicious, malicious]: [f64; 3]) -> ClaimShares {
    ClaimShares { benign, suspicious, malicious }
}
