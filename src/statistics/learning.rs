//! What labels say of the reliability of sources: a Dirichlet distribution of the claims of each source about what is
//! malicious and what is benign, which begins as the row of its letter.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use strum::VariantArray;

use super::Row;
use super::numeric::trigamma;
use crate::finding::Reliability;
use crate::indicator::IndicatorType;
use crate::verdict::{ClaimShares, LetterRow, LetterTable};

/// Labels that a letter is worth: with as many, half of what is learned is from labels.
const PRIOR_WEIGHT: f64 = 20.0;
/// The weight of a label halves in this time.
pub const FORGETTING: Duration = Duration::from_secs(90 * 86_400);
/// With at least so many labels of one type a source is judged on them alone.
pub const LEAST_LABELS_OF_TYPE: u64 = 50;

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

/// Weighted counts of claims of benign, suspicious and malicious.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claims {
    pub(super) if_malicious: [f64; 3],
    pub(super) if_benign: [f64; 3],
    pub(super) labels: u64,
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
    /// The evidence of "malicious" before it was put in order. Below 0: the source says the opposite of the truth.
    pub raw_malicious: f64,
    /// Labelled indicators on which it took a side.
    pub labels: u64,
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

    /// Counts a row, if it has a label. A label is to be counted once, however many verdicts there are on its indicator.
    pub fn add(&mut self, row: &Row<'_>) {
        let Some(label) = row.label else { return };
        let age = self.now.duration_since(label.time).unwrap_or_default();
        let weight = (-age.as_secs_f64() / FORGETTING.as_secs_f64()).exp2();
        let place = IndicatorType::VARIANTS.iter().position(|each| *each == row.indicator_type).unwrap_or_default();
        for report in &row.reports {
            let Some(side) = report.answer.side() else { continue };
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
            counts[side] += weight;
            claims.labels += 1;
        }
    }

    /// What the labels suggest for each source, in order of name: for all types together, and for each type of which there are
    /// at least [`LEAST_LABELS_OF_TYPE`] labels.
    pub fn suggestions(&self, letters: &LetterTable) -> Vec<ReliabilitySuggestion> {
        let mut suggestions = Vec::new();
        for (name, source) in &self.sources {
            let mut pooled = Claims::default();
            source.of_type.iter().for_each(|claims| pooled.merge(claims));
            suggestions.push(suggestion(name, None, source.letter, &pooled, letters));
            for (indicator_type, claims) in IndicatorType::VARIANTS.iter().zip(&source.of_type) {
                if claims.labels >= LEAST_LABELS_OF_TYPE {
                    suggestions.push(suggestion(name, Some(*indicator_type), source.letter, claims, letters));
                }
            }
        }
        suggestions
    }
}

impl Claims {
    fn merge(&mut self, other: &Self) {
        let add = |to: &mut [f64; 3], from: &[f64; 3]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.if_malicious, &other.if_malicious);
        add(&mut self.if_benign, &other.if_benign);
        self.labels += other.labels;
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
    let (information, deviation) = (information(&learned.claims), learned.information_deviation());
    let near = |information: f64| letter_of_information(letters, rated, information.max(0.0));
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

/// The claims of a source whose letter has this row.
pub(super) fn learn(prior: &LetterRow, claims: &Claims) -> LearnedRow {
    let posterior = |prior: ClaimShares, counts: [f64; 3]| {
        let prior = shares(prior);
        [0, 1, 2].map(|side| PRIOR_WEIGHT * prior[side] + counts[side])
    };
    let (malicious, benign) =
        (posterior(prior.if_malicious, claims.if_malicious), posterior(prior.if_benign, claims.if_benign));
    let (all_malicious, all_benign) = (malicious.iter().sum::<f64>(), benign.iter().sum::<f64>());
    let variance = |side: usize| {
        trigamma(malicious[side]) - trigamma(all_malicious) + trigamma(benign[side]) - trigamma(all_benign)
    };
    let if_malicious = malicious.map(|count| count / all_malicious);
    let if_benign = benign.map(|count| count / all_benign);
    let (ordered_malicious, ordered_benign) = in_order(if_malicious, if_benign);
    LearnedRow {
        claims: LetterRow { if_malicious: claim_shares(ordered_malicious), if_benign: claim_shares(ordered_benign) },
        evidence: [0, 1, 2].map(|side| (ordered_malicious[side] / ordered_benign[side]).ln()),
        deviation: [0, 1, 2].map(|side| variance(side).max(0.0).sqrt()),
        raw_malicious: (if_malicious[2] / if_benign[2]).ln(),
        labels: claims.labels,
    }
}

/// The nearest shares whose evidence rises from benign over suspicious to malicious, with suspicious at least 0. Neighbours in
/// the wrong order get one ratio, by which each column still adds up to 1, so that benign is at most 0 and malicious at least 0.
fn in_order(mut malicious: [f64; 3], mut benign: [f64; 3]) -> ([f64; 3], [f64; 3]) {
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
    for (place, &(first, above, below)) in blocks.iter().enumerate() {
        let end = blocks.get(place + 1).map_or(3, |next| next.0);
        for side in first..end {
            malicious[side] = benign[side] * above / below;
        }
    }
    if malicious[1] < benign[1] {
        // The other two shares grow or shrink alike in each column, which keeps their order.
        let share = (malicious[1] + benign[1]) / 2.0;
        for column in [&mut malicious, &mut benign] {
            let others = (1.0 - share) / (1.0 - column[1]);
            *column = [column[0] * others, share, column[2] * others];
        }
    }
    (malicious, benign)
}

impl LearnedRow {
    /// How far its information may be off: one standard deviation.
    fn information_deviation(&self) -> f64 {
        let (malicious, benign) = (shares(self.claims.if_malicious), shares(self.claims.if_benign));
        let part = |side: usize| (malicious[side] + benign[side]) / 2.0 * self.deviation[side];
        [0, 1, 2].map(|side| part(side).powi(2)).iter().sum::<f64>().sqrt()
    }
}

/// The evidence of a claim that is to be expected, whatever its direction, in nats.
fn information(row: &LetterRow) -> f64 {
    let (malicious, benign) = (shares(row.if_malicious), shares(row.if_benign));
    let part = |side: usize| (malicious[side] + benign[side]) / 2.0 * (malicious[side] / benign[side]).ln().abs();
    (0..3).map(part).sum()
}

/// The letter whose claims are expected to carry evidence most like that of this row.
pub fn nearest_letter(letters: &LetterTable, rated: Reliability, row: &LetterRow) -> Reliability {
    letter_of_information(letters, rated, information(row))
}

/// A+ is the user's own word, which no source earns: it is only suggested where it was given.
fn letter_of_information(letters: &LetterTable, rated: Reliability, wanted: f64) -> Reliability {
    let candidates = Reliability::VARIANTS.iter().filter(|letter| **letter != Reliability::APlus || rated == **letter);
    let distance = |letter: &Reliability| (letters.row(*letter).map_or(0.0, information) - wanted).abs();
    candidates.copied().min_by(|one, other| distance(one).total_cmp(&distance(other))).unwrap_or(rated)
}

fn shares(claims: ClaimShares) -> [f64; 3] {
    [claims.benign, claims.suspicious, claims.malicious]
}

fn claim_shares([benign, suspicious, malicious]: [f64; 3]) -> ClaimShares {
    ClaimShares { benign, suspicious, malicious }
}
