//! The weighted rule: adds log-odds in whole micro-nats.
//!
//! Formulas: `docs/fusion.md`, "The sum" and "Contradiction".

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smallvec::SmallVec;

use super::evidence::{Weigher, logit_micro, micro, nats, probability, scaled};
use super::family::Families;
use super::policy::{ConflictNumbers, Thresholds, TypeNumbers, WeightedRule};
use super::report::{Change, Report, reported};
use super::{Conflict, Weighing};
use crate::finding::{Disposition, Outcome, Strength};
use crate::indicator::IndicatorType;

/// The weighted rule over outcomes.
pub(super) struct Weighted<'a> {
    rule: &'a WeightedRule,
    numbers: &'a TypeNumbers,
    sources: Vec<Reported<'a>>,
    families: Families,
    /// Evidence of each source by itself.
    own: Vec<i64>,
    /// Evidence of each source beside that of its family.
    pooled: Vec<i64>,
    pub(super) prior: i64,
    pub(super) calibration: i64,
    pub(super) log_odds: i64,
}

struct Reported<'a> {
    weigher: Weigher<'a>,
    report: Report,
    strength: Option<Strength>,
    age: Duration,
    is_silent: bool,
}

/// The log-odds at which the disposition changes, in micro-nats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cuts {
    /// The least that is malicious.
    pub(super) malicious: i64,
    /// The least that is suspicious.
    pub(super) suspicious: i64,
    /// The greatest that is benign.
    pub(super) benign: i64,
}

impl<'a> Weighted<'a> {
    pub(super) fn new(
        rule: &'a WeightedRule,
        indicator_type: IndicatorType,
        at: SystemTime,
        outcomes: &'a [Arc<Outcome>],
    ) -> Self {
        let numbers = rule.of_type(indicator_type);
        let families: SmallVec<[_; 16]> = outcomes.iter().map(|outcome| &outcome.family).collect();
        let families = Families::new(&families);
        let sources: Vec<_> = outcomes
            .iter()
            .map(|outcome| {
                let (report, strength, age) = reported(outcome, at);
                let weigher = Weigher::new(rule, numbers, &outcome.source, outcome.reliability);
                Reported { weigher, report, strength, age, is_silent: !outcome.body.is_answer() }
            })
            .collect();
        let own: Vec<i64> =
            sources.iter().map(|source| source.weigher.weigh(source.report, source.strength, source.age)).collect();
        let mut pooled = vec![0; own.len()];
        for family in 0..families.count() {
            families.pool(family, rule.family_correlation, &own, &mut pooled);
        }
        let prior = logit_micro(numbers.prior);
        // The term that makes prior and scaled contributions add up to the calibrated log-odds.
        let calibration = micro(rule.calibration.shift) + scaled(rule.calibration, prior) - prior;
        let terms = pooled.iter().map(|micro| scaled(rule.calibration, *micro));
        let log_odds = prior + calibration + terms.sum::<i64>();
        Self { rule, numbers, sources, families, own, pooled, prior, calibration, log_odds }
    }

    /// What the evidence of this source adds to the sum.
    pub(super) fn term(&self, source: usize) -> i64 {
        scaled(self.rule.calibration, self.pooled[source])
    }

    /// The evidence of a source on the way to its term.
    pub(super) fn weighing(&self, source: usize) -> Weighing {
        let Reported { weigher, report, strength, age, .. } = &self.sources[source];
        let own = self.own[source];
        let fresh = if age.is_zero() { own } else { weigher.weigh(*report, *strength, Duration::ZERO) };
        Weighing { fresh, own, pooled: self.pooled[source] }
    }

    pub(super) fn age(&self, source: usize) -> Duration {
        self.sources[source].age
    }

    /// The evidence that this source would have by itself with another report: as strong and as old as what it said; of a
    /// source that gave no answer, fresh and full.
    pub(super) fn own_evidence(&self, source: usize, report: Report) -> i64 {
        let Reported { weigher, strength, age, is_silent, .. } = &self.sources[source];
        if *is_silent { weigher.weigh(report, None, Duration::ZERO) } else { weigher.weigh(report, *strength, *age) }
    }

    /// The least and the greatest evidence that any answer of this source, at most so strong, can have by itself.
    pub(super) fn bounds(&self, source: usize, greatest: Strength) -> (i64, i64) {
        self.sources[source].weigher.bounds(greatest)
    }

    /// How far the sum may be off by rounding where a calibration scales each term by itself.
    pub(super) fn rounding(&self) -> i64 {
        if self.rule.calibration.scale == 1.0 { 0 } else { self.sources.len() as i64 }
    }

    /// The evidence of an independent source with this letter and a fresh and full claim, as a term of the sum.
    pub(super) fn term_of_newcomer(&self, letter: crate::finding::Reliability, claim: Disposition) -> i64 {
        // No source has an empty name, so that no row of its own applies.
        let weigher = Weigher::new(self.rule, self.numbers, "", letter);
        scaled(self.rule.calibration, weigher.weigh(Report::of_claim(claim), None, Duration::ZERO))
    }

    /// The sum if these sources had reported something else.
    pub(super) fn log_odds_with(&self, changes: &[Change]) -> i64 {
        if changes.is_empty() {
            return self.log_odds;
        }
        let mut log_odds = self.log_odds;
        // Own and pooled evidence of all sources, made once where a family has several.
        let mut scratch: Option<[SmallVec<[i64; 24]>; 2]> = None;
        for (place, change) in changes.iter().enumerate() {
            let family = self.families.family_of(change.source);
            if let [alone] = self.families.members(family) {
                log_odds += scaled(self.rule.calibration, change.micro) - self.term(*alone);
                continue;
            }
            let is_counted = changes[..place].iter().any(|earlier| self.families.family_of(earlier.source) == family);
            if is_counted {
                continue;
            }
            let [own, pooled] = scratch
                .get_or_insert_with(|| [SmallVec::from_slice(&self.own), SmallVec::from_elem(0, self.own.len())]);
            for change in &changes[place..] {
                own[change.source] = change.micro;
            }
            self.families.pool(family, self.rule.family_correlation, own, pooled);
            for member in self.families.members(family) {
                log_odds += scaled(self.rule.calibration, pooled[*member]) - self.term(*member);
            }
        }
        log_odds
    }

    /// Whether the evidence of one source depends on that of the other.
    pub(super) fn are_family(&self, one: usize, other: usize) -> bool {
        self.families.family_of(one) == self.families.family_of(other)
    }

    pub(super) fn disposition(&self, log_odds: i64) -> Disposition {
        self.rule.thresholds.disposition(log_odds)
    }

    pub(super) fn cuts(&self) -> Cuts {
        self.rule.thresholds.cuts()
    }

    pub(super) fn conflict(&self) -> Conflict {
        let ConflictNumbers { floor_micro, ratio } = self.rule.conflict;
        let (mut pro, mut contra) = (0, 0);
        for source in 0..self.pooled.len() {
            let term = self.term(source);
            if term > 0 { pro += term } else { contra -= term }
        }
        let support = |micro: i64| if micro == 0 { 0.0 } else { 1.0 - (-nats(micro)).exp() };
        let (weaker, stronger) = (pro.min(contra), pro.max(contra));
        Conflict {
            mass: support(pro) * support(contra),
            flagged: weaker >= floor_micro && weaker as f64 >= ratio * stronger as f64,
        }
    }
}

impl Thresholds {
    /// The disposition of these log-odds, in micro-nats.
    pub(super) fn disposition(&self, log_odds: i64) -> Disposition {
        let probability = probability(log_odds);
        if probability >= self.malicious {
            Disposition::Malicious
        } else if probability >= self.suspicious {
            Disposition::Suspicious
        } else if probability <= self.benign {
            Disposition::Benign
        } else {
            Disposition::Unknown
        }
    }

    fn cuts(&self) -> Cuts {
        // The logarithm is rounded, so that the exact place is looked for beside it.
        let least = |threshold: f64| {
            let near = logit_micro(threshold);
            (near - 2..=near + 2).find(|log_odds| probability(*log_odds) >= threshold).unwrap_or(near)
        };
        let greatest = |threshold: f64| {
            let near = logit_micro(threshold);
            (near - 2..=near + 2).rev().find(|log_odds| probability(*log_odds) <= threshold).unwrap_or(near)
        };
        Cuts { malicious: least(self.malicious), suspicious: least(self.suspicious), benign: greatest(self.benign) }
    }
}

impl Cuts {
    pub(super) fn disposition(&self, log_odds: i64) -> Disposition {
        if log_odds >= self.malicious {
            Disposition::Malicious
        } else if log_odds >= self.suspicious {
            Disposition::Suspicious
        } else if log_odds <= self.benign {
            Disposition::Benign
        } else {
            Disposition::Unknown
        }
    }

    /// The log-odds that have this disposition: from the first to the last, both included.
    pub(super) fn interval(&self, disposition: Disposition) -> (i64, i64) {
        match disposition {
            Disposition::Malicious => (self.malicious, i64::MAX),
            Disposition::Suspicious => (self.suspicious, self.malicious - 1),
            Disposition::Unknown => (self.benign + 1, self.suspicious - 1),
            Disposition::Benign => (i64::MIN, self.benign),
        }
    }
}
