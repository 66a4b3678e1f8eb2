//! What the engines inside one source add: how often each says malicious, how often alone and how often rightly, which of them
//! give identical labels, and which few of them say the same as the merged verdicts.
//!
//! A *hit* is that an engine says malicious: this is what preferred vendors are counted by. Everything is counted in one pass,
//! in memory that grows with the engines alone.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::Label;
use super::agreement::{JointTable, KappaWeights};
use super::compare::LEAST_JOINT;
use super::copying::linked;
use super::numeric::{Estimate, mix};
use super::performance::{LabelCounts, Performance};
use super::preferred::{MOST_PATTERN_BITS, Pattern, VendorRule, best_rule, bits};
use crate::finding::Disposition;

/// Engines beyond this many are left out, and counted.
pub const MOST_ENGINES: usize = MOST_PATTERN_BITS;
/// Verdicts of each side, malicious and not, without which no list is suggested.
pub const LEAST_OF_EACH_SIDE: u64 = 30;
/// Two engines of whose joint labels surely more than this share is identical count as one opinion.
pub const SAME_LABELS: f64 = 0.5;
/// Verdicts from which a list is learned.
pub const MOST_LEARNED: usize = 65_536;
/// One in so many verdicts must be kept more for an engine more.
const PRICE: u64 = 1_000;
/// Examples of each kind.
const MOST_EXAMPLES: usize = 10;

/// What one engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineOpinion {
    /// Malicious: a hit.
    Malicious,
    /// Suspicious, which no preferred vendor is counted by.
    Suspicious,
    /// It looked, and has nothing to object.
    NoObjection,
}

/// What one engine says of an indicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineResult<'a> {
    /// Its name, as the source writes it.
    pub engine: &'a str,
    /// What it says.
    pub opinion: EngineOpinion,
    /// What it calls what it found.
    pub label: Option<&'a str>,
}

/// What the engines inside a source say of an indicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineReport<'a> {
    /// Every engine that says malicious, and with `names_silent` every other one that has an opinion.
    pub results: Vec<EngineResult<'a>>,
    /// Whether engines that have nothing to object are named.
    pub names_silent: bool,
}

/// What the statistics read of one verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineRow<'a> {
    /// Identifier of the verdict.
    pub verdict: &'a str,
    /// A number that stands for the verdict.
    pub number: u64,
    /// What the sources together say, whatever analysts say.
    pub merged: Disposition,
    /// What the engines say.
    pub report: EngineReport<'a>,
}

/// Collects what the engines add, verdict by verdict.
#[derive(Clone, Debug, Default)]
pub struct EngineStatistics {
    places: HashMap<String, usize>,
    engines: Vec<EngineCounts>,
    /// Each engine with all before it.
    pairs: Vec<Vec<PairCounts>>,
    sample: BinaryHeap<LearnedVerdict>,
    with_all: u64,
    with_hits_only: u64,
    malicious: u64,
    labelled_malicious: u64,
    labelled_benign: u64,
    left_out: u64,
}

#[derive(Clone, Debug)]
struct EngineCounts {
    name: String,
    hits: u64,
    lone_hits: u64,
    suspicious: u64,
    /// Hits of the engine against verdicts of malicious.
    merged: JointTable<2>,
    true_hits: u64,
    false_hits: u64,
    labels: LabelCounts,
}

#[derive(Clone, Copy, Debug, Default)]
struct PairCounts {
    joint_hits: u64,
    labelled: u64,
    equal: u64,
}

/// A verdict from which a list is learned. Ordered by its number alone.
#[derive(Clone, Debug)]
struct LearnedVerdict {
    number: u64,
    /// Its place in the history.
    order: u64,
    verdict: String,
    hits: u128,
    is_malicious: bool,
    label: Option<bool>,
}

impl PartialEq for LearnedVerdict {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for LearnedVerdict {}

impl PartialOrd for LearnedVerdict {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LearnedVerdict {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number.cmp(&other.number)
    }
}

/// What the verdicts say of the engines.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineComparison {
    /// Verdicts that hold what the engines say and whose indicator an analyst found malicious.
    pub labelled_malicious: u64,
    /// Those whose indicator an analyst found benign.
    pub labelled_benign: u64,
    /// The engines, in order of name.
    pub engines: Vec<EngineSummary>,
    /// Each two engines that ever hit the same, the first by name first.
    pub pairs: Vec<EnginePairSummary>,
    /// Engines that give identical labels, by name.
    pub same_labels: Vec<SameLabels>,
    /// Results of engines beyond [`MOST_ENGINES`], which are left out.
    pub left_out: u64,
}

/// What the verdicts say of one engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSummary {
    /// Its name.
    pub name: String,
    /// How often it says malicious.
    pub hits: u64,
    /// How often it alone does.
    pub lone_hits: u64,
    /// How often it says suspicious, where every engine is named.
    pub suspicious: u64,
    /// Opinions, where every engine is named; the three below are of these.
    pub opinions: u64,
    /// Share of its opinions that hit where the merged verdict is malicious, and do not where it is not.
    pub agreement_with_merged: Option<f64>,
    /// The same as Cohen's kappa; `None` under [`LEAST_JOINT`] opinions.
    pub kappa: Option<Estimate>,
    /// Against the labels.
    pub performance: Option<Performance>,
    /// Hits on what an analyst found malicious.
    pub true_hits: u64,
    /// Hits on what an analyst found benign.
    pub false_hits: u64,
    /// Share of its labelled hits that are right.
    pub precision: Option<Estimate>,
}

/// What the verdicts say of two engines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnginePairSummary {
    /// Place of the first in the list of engines.
    pub first: usize,
    /// Place of the second.
    pub second: usize,
    /// Verdicts on which both hit.
    pub joint_hits: u64,
    /// Share of these among the verdicts on which either does.
    pub jaccard: f64,
    /// Joint hits to which both give a label that names more than a class.
    pub labelled: u64,
    /// Those of them with identical labels.
    pub equal: u64,
}

impl EnginePairSummary {
    /// Share of identical labels; `None` under [`LEAST_JOINT`] labelled joint hits.
    pub fn equal_share(&self) -> Option<Estimate> {
        Estimate::share(self.equal, self.labelled).filter(|_| self.labelled >= LEAST_JOINT)
    }

    /// Whether the two give identical labels.
    pub fn has_same_labels(&self) -> bool {
        self.equal_share().is_some_and(|share| share.low > SAME_LABELS)
    }
}

/// Engines that give identical labels, directly or through others of them.
#[derive(Clone, Debug, PartialEq)]
pub struct SameLabels {
    /// Their names, in order.
    pub engines: Vec<String>,
    /// Share of identical labels of the two among them for which it is the least, of those that link the group.
    pub least_share: f64,
}

/// Why no list is suggested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSuggestion {
    /// Too few verdicts hold what the engines say: so many malicious ones, and so many others.
    NotEnough {
        /// Malicious ones.
        malicious: u64,
        /// Others.
        other: u64,
    },
    /// No list keeps more verdicts than one that never says malicious.
    NothingToLearn,
}

/// The smallest list that keeps the merged verdicts, and what it would have changed.
#[derive(Clone, Debug, PartialEq)]
pub struct PreferredVendors {
    /// The engines, in order of name.
    pub vendors: Vec<PreferredVendor>,
    /// So many of them must say malicious.
    pub threshold: u64,
    /// Verdicts that it was learned from.
    pub learned_from: u64,
    /// Verdicts that hold what the engines say, of which these are a sample where there are more.
    pub verdicts: u64,
    /// Those learned from that are malicious.
    pub malicious: u64,
    /// Those on which the list says malicious where the verdict does, and does not where it does not.
    pub kept: u64,
    /// Malicious verdicts on which the list does not say malicious.
    pub missed: ChangedVerdicts,
    /// Other verdicts on which it does.
    pub raised: ChangedVerdicts,
    /// The single engine that keeps most, and how many verdicts it keeps.
    pub best_single: (String, u64),
    /// The list against the labels.
    pub performance: Option<Performance>,
    /// Engines of the list that give identical labels, so that they are one opinion.
    pub same_labels: Vec<SameLabels>,
}

/// An engine of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferredVendor {
    /// Its name.
    pub name: String,
    /// Verdicts that the list would keep without it.
    pub kept_without: u64,
}

/// Verdicts that would be others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedVerdicts {
    /// How many.
    pub count: u64,
    /// Identifiers of at most ten, in the order of the history.
    pub examples: Vec<String>,
}

impl EngineStatistics {
    /// Counts one verdict. `label` is what an analyst found of its indicator.
    pub fn add(&mut self, row: &EngineRow<'_>, label: Option<Label>) {
        let is_malicious = row.merged == Disposition::Malicious;
        let count = if row.report.names_silent { &mut self.with_all } else { &mut self.with_hits_only };
        *count += 1;
        self.malicious += u64::from(is_malicious);
        if let Some(label) = label {
            let count = if label.is_malicious { &mut self.labelled_malicious } else { &mut self.labelled_benign };
            *count += 1;
        }
        let all_hits = row.report.results.iter().filter(|result| result.opinion == EngineOpinion::Malicious).count();
        let mut hits: Vec<(usize, Option<String>)> = Vec::new();
        let mut mask = 0_u128;
        for result in &row.report.results {
            let Some(place) = self.place_of(result.engine) else {
                self.left_out += 1;
                continue;
            };
            let Some(engine) = self.engines.get_mut(place) else { continue };
            let is_hit = match result.opinion {
                EngineOpinion::Malicious => true,
                EngineOpinion::Suspicious => {
                    engine.suspicious += u64::from(row.report.names_silent);
                    false
                }
                EngineOpinion::NoObjection => false,
            };
            if row.report.names_silent {
                engine.merged.add(usize::from(is_hit), usize::from(is_malicious));
                if let Some(label) = label {
                    engine.labels.count(is_hit, label.is_malicious);
                }
            }
            if is_hit && mask >> place & 1 == 0 {
                engine.hits += 1;
                engine.lone_hits += u64::from(all_hits == 1);
                match label.map(|label| label.is_malicious) {
                    Some(true) => engine.true_hits += 1,
                    Some(false) => engine.false_hits += 1,
                    None => {}
                }
                mask |= 1 << place;
                hits.push((place, result.label.and_then(comparable)));
            }
        }
        for (later, (one, label)) in hits.iter().enumerate() {
            for (other, other_label) in hits.iter().take(later) {
                let pair = self.pairs.get_mut(*one.max(other)).and_then(|row| row.get_mut(*one.min(other)));
                let Some(pair) = pair else { continue };
                pair.joint_hits += 1;
                if let Some((label, other_label)) = label.as_ref().zip(other_label.as_ref()) {
                    pair.labelled += 1;
                    pair.equal += u64::from(label == other_label);
                }
            }
        }
        self.learn(row, mask, is_malicious, label);
    }

    /// Keeps the verdict if it is among those with the smallest of numbers that are as good as random.
    fn learn(&mut self, row: &EngineRow<'_>, hits: u128, is_malicious: bool, label: Option<Label>) {
        let number = mix(row.number);
        if self.sample.len() >= MOST_LEARNED && self.sample.peek().is_none_or(|greatest| greatest.number <= number) {
            return;
        }
        let (order, verdict) = (self.verdicts(), row.verdict.to_owned());
        let label = label.map(|label| label.is_malicious);
        self.sample.push(LearnedVerdict { number, order, verdict, hits, is_malicious, label });
        if self.sample.len() > MOST_LEARNED {
            self.sample.pop();
        }
    }

    /// The place of an engine; `None`: there are too many.
    fn place_of(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        let place = self.engines.len();
        if place >= MOST_ENGINES {
            return None;
        }
        self.places.insert(name.to_owned(), place);
        self.engines.push(EngineCounts {
            name: name.to_owned(),
            hits: 0,
            lone_hits: 0,
            suspicious: 0,
            merged: JointTable::default(),
            true_hits: 0,
            false_hits: 0,
            labels: LabelCounts::default(),
        });
        self.pairs.push(vec![PairCounts::default(); place]);
        Some(place)
    }

    /// Verdicts whose findings name every engine that has an opinion.
    pub fn with_all(&self) -> u64 {
        self.with_all
    }

    /// Verdicts whose findings name only the engines that object.
    pub fn with_hits_only(&self) -> u64 {
        self.with_hits_only
    }

    /// Verdicts that hold what the engines say.
    pub fn verdicts(&self) -> u64 {
        self.with_all + self.with_hits_only
    }

    /// The places of the engines in order of name.
    fn by_name(&self) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.engines.len()).collect();
        places.sort_by(|one, other| self.engines[*one].name.cmp(&self.engines[*other].name));
        places
    }

    /// What the verdicts say of the engines.
    pub fn comparison(&self) -> EngineComparison {
        let order = self.by_name();
        let pairs = self.pair_summaries(&order);
        let summaries = order.iter().filter_map(|place| self.engines.get(*place)).map(EngineCounts::summary);
        let engines: Vec<EngineSummary> = summaries.collect();
        EngineComparison {
            labelled_malicious: self.labelled_malicious,
            labelled_benign: self.labelled_benign,
            same_labels: same_labels(&engines, &pairs),
            engines,
            pairs,
            left_out: self.left_out,
        }
    }

    /// Each two engines that ever hit the same; their places are those in this order.
    fn pair_summaries(&self, order: &[usize]) -> Vec<EnginePairSummary> {
        let mut summaries = Vec::new();
        for (second, place) in order.iter().enumerate() {
            for (first, other) in order.iter().take(second).enumerate() {
                let counts = self.pairs[*place.max(other)][*place.min(other)];
                if counts.joint_hits == 0 {
                    continue;
                }
                let either = self.engines[*place].hits + self.engines[*other].hits - counts.joint_hits;
                summaries.push(EnginePairSummary {
                    first,
                    second,
                    joint_hits: counts.joint_hits,
                    jaccard: counts.joint_hits as f64 / either as f64,
                    labelled: counts.labelled,
                    equal: counts.equal,
                });
            }
        }
        summaries.sort_by_key(|pair| (pair.first, pair.second));
        summaries
    }

    /// The smallest list of engines, with its threshold, that keeps the merged verdicts.
    ///
    /// # Errors
    /// Where there is too little to learn from, or nothing to learn.
    pub fn preferred_vendors(&self) -> Result<PreferredVendors, NoSuggestion> {
        let (malicious, other) = (self.malicious, self.verdicts() - self.malicious);
        if malicious < LEAST_OF_EACH_SIDE || other < LEAST_OF_EACH_SIDE {
            return Err(NoSuggestion::NotEnough { malicious, other });
        }
        let order = self.by_name();
        let mut sampled: Vec<LearnedVerdict> = self.sample.iter().cloned().collect();
        sampled.sort_by_key(|verdict| verdict.order);
        for verdict in &mut sampled {
            // By bits in order of name, so that the order of the history makes no difference.
            let places = order.iter().enumerate();
            let is_hit = |place: usize| verdict.hits >> place & 1 == 1;
            verdict.hits = places.filter(|(_, place)| is_hit(**place)).fold(0, |hits, (bit, _)| hits | 1 << bit);
        }
        let mut counts: BTreeMap<(u128, bool), u64> = BTreeMap::new();
        for verdict in &sampled {
            *counts.entry((verdict.hits, verdict.is_malicious)).or_default() += 1;
        }
        let patterns = counts.into_iter().map(|((hits, is_malicious), count)| Pattern { hits, is_malicious, count });
        let patterns: Vec<Pattern> = patterns.collect();
        let price = (sampled.len() as u64).div_ceil(PRICE);
        let rule = best_rule(&patterns, price).ok_or(NoSuggestion::NothingToLearn)?;
        let (mut missed, mut raised) = (ChangedVerdicts::default(), ChangedVerdicts::default());
        let mut labels = LabelCounts::default();
        for verdict in &sampled {
            let says = rule.says_malicious(verdict.hits);
            match (verdict.is_malicious, says) {
                (true, false) => missed.add(&verdict.verdict),
                (false, true) => raised.add(&verdict.verdict),
                (true, true) | (false, false) => {}
            }
            if let Some(is_malicious) = verdict.label {
                labels.count(says, is_malicious);
            }
        }
        let name = |bit: usize| order.get(bit).and_then(|place| self.engines.get(*place)).map(|engine| &engine.name);
        let of_list = |bit: usize| {
            let without = VendorRule { vendors: rule.vendors & !(1 << bit), ..rule };
            Some(PreferredVendor { name: name(bit)?.clone(), kept_without: without.kept(&patterns) })
        };
        let vendors: Vec<PreferredVendor> = bits(rule.vendors).filter_map(of_list).collect();
        let single = |bit: usize| VendorRule { vendors: 1 << bit, threshold: 1 }.kept(&patterns);
        let singles = (0..order.len()).filter_map(|bit| Some((name(bit)?.clone(), single(bit))));
        let mut same_labels = self.comparison().same_labels;
        for group in &mut same_labels {
            group.engines.retain(|engine| vendors.iter().any(|vendor| vendor.name == *engine));
        }
        same_labels.retain(|group| group.engines.len() > 1);
        Ok(PreferredVendors {
            vendors,
            threshold: u64::from(rule.threshold),
            learned_from: sampled.len() as u64,
            verdicts: self.verdicts(),
            malicious: sampled.iter().filter(|verdict| verdict.is_malicious).count() as u64,
            kept: rule.kept(&patterns),
            missed,
            raised,
            // Of equals the first by name.
            best_single: singles.rev().max_by_key(|(_, kept)| *kept).unwrap_or_default(),
            performance: labels.performance(),
            same_labels,
        })
    }
}

impl ChangedVerdicts {
    fn add(&mut self, verdict: &str) {
        self.count += 1;
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(verdict.to_owned());
        }
    }
}

impl EngineCounts {
    fn summary(&self) -> EngineSummary {
        let opinions = self.merged.total();
        EngineSummary {
            name: self.name.clone(),
            hits: self.hits,
            lone_hits: self.lone_hits,
            suspicious: self.suspicious,
            opinions,
            agreement_with_merged: self.merged.agreement(),
            kappa: self.merged.kappa_estimate(KappaWeights::Plain).filter(|_| opinions >= LEAST_JOINT),
            performance: self.labels.performance(),
            true_hits: self.true_hits,
            false_hits: self.false_hits,
            precision: Estimate::share(self.true_hits, self.true_hits + self.false_hits),
        }
    }
}

/// The groups of engines that give identical labels.
fn same_labels(engines: &[EngineSummary], pairs: &[EnginePairSummary]) -> Vec<SameLabels> {
    let links: Vec<&EnginePairSummary> = pairs.iter().filter(|pair| pair.has_same_labels()).collect();
    let groups = linked(engines.len(), links.iter().map(|pair| (pair.first, pair.second)));
    let group = |members: Vec<usize>| {
        let within = links.iter().filter(|pair| members.contains(&pair.first));
        let shares = within.filter_map(|pair| pair.equal_share()).map(|share| share.value);
        SameLabels {
            least_share: shares.fold(1.0, f64::min),
            engines: members.iter().map(|place| engines[*place].name.clone()).collect(),
        }
    };
    groups.into_iter().map(group).collect()
}

/// A label as it is compared: whatever its letter case, and without a remark in brackets at its end. `None` for a label that
/// names a class alone (`phishing`, `malicious site`), on which independent engines agree.
fn comparable(label: &str) -> Option<String> {
    let label = label.trim();
    let label = label.strip_suffix(')').and_then(|start| start.rfind('(')).map_or(label, |open| &label[..open]);
    let label = label.trim_end().to_lowercase();
    label.contains(['.', ':', '/', '!', '-', '_', '@']).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_compared_without_case_and_remarks_and_classes_are_not_compared() {
        assert_eq!(comparable("Trojan.GenericKD.1 (B)"), comparable("trojan.generickd.1"));
        assert_ne!(comparable("Trojan.GenericKD.1"), comparable("Trojan.GenericKD.2"));
        for class in ["phishing", "Malicious (high confidence)", "malicious site", "", "(x)"] {
            assert_eq!(comparable(class), None, "{class}");
        }
    }
}
