//! The smallest sets of other reports that lead to another disposition: every single report and every pair is tried;
//! beyond, sources are changed one after the other, those that matter most first.

use smallvec::SmallVec;

use super::change::{Assumption, Flip, ReportChange};
use super::judge::{Assessment, Judge, Model};
use super::report::Change;
use super::weighted::{Cuts, Weighted};
use crate::finding::Disposition;

/// Most pairs of reports that are judged in full. Sources of two families need no judging; of a family with very many sources
/// the pairs beyond this are left to the search that changes one source after the other.
const MOST_PAIRS: usize = 20_000;

const CLAIMS: [Disposition; 4] =
    [Disposition::Benign, Disposition::Unknown, Disposition::Suspicious, Disposition::Malicious];

/// The best set found so far for one disposition: fewest steps from what was said, then least moved.
struct Best {
    rank: (usize, u64),
    changes: Vec<Change>,
    assessment: Assessment,
}

/// For each assumption and each other disposition one smallest set, the smallest first.
pub(super) fn flips(judge: &Judge<'_>, missing: &[usize]) -> Vec<Flip> {
    let answered: Vec<usize> =
        (0..judge.outcomes.len()).filter(|source| judge.outcomes[*source].body.is_answer()).collect();
    let mut found = Vec::new();
    for (assumption, sources) in
        [(Assumption::WrongAnswers, answered.as_slice()), (Assumption::MissingAnswers, missing)]
    {
        let best = Search::new(judge, sources).run();
        found.extend(best.into_iter().flatten().map(|best| (best.rank, written(judge, assumption, best))));
    }
    found.sort_by(|(left_rank, left), (right_rank, right)| {
        let key = |rank: &(usize, u64), flip: &Flip| (flip.changes.len(), *rank, flip.disposition);
        key(left_rank, left).cmp(&key(right_rank, right))
    });
    found.into_iter().map(|(_, flip)| flip).collect()
}

fn written(judge: &Judge<'_>, assumption: Assumption, best: Best) -> Flip {
    let mut changes = best.changes;
    changes.sort_by_key(|change| change.source);
    let change = |change: &Change| ReportChange {
        source: judge.outcomes[change.source].source.clone(),
        from: judge.claim(change.source),
        to: change.claim,
    };
    Flip {
        disposition: best.assessment.disposition,
        assumption,
        changes: changes.iter().map(change).collect(),
        log_odds_micro: best.assessment.log_odds,
    }
}

/// The search among the sources of one assumption.
struct Search<'j, 'a> {
    judge: &'j Judge<'a>,
    now: Assessment,
    /// What each source might say instead.
    alternatives: Vec<Vec<Change>>,
    /// By score of the disposition.
    best: [Option<Best>; 4],
}

impl<'j, 'a> Search<'j, 'a> {
    fn new(judge: &'j Judge<'a>, sources: &[usize]) -> Self {
        let alternatives = sources
            .iter()
            .map(|source| {
                let said = judge.claim(*source);
                CLAIMS
                    .into_iter()
                    .filter(|claim| Some(*claim) != said)
                    .map(|claim| judge.change(*source, claim))
                    .collect()
            })
            .collect();
        Self { judge, now: judge.judge(), alternatives, best: Default::default() }
    }

    fn run(mut self) -> [Option<Best>; 4] {
        self.singles();
        if !self.is_complete() {
            self.pairs();
        }
        for disposition in CLAIMS {
            if disposition != self.now.disposition && self.best[index(disposition)].is_none() {
                self.best[index(disposition)] = self.greedy(disposition);
            }
        }
        self.best
    }

    fn is_complete(&self) -> bool {
        CLAIMS.iter().all(|claim| *claim == self.now.disposition || self.best[index(*claim)].is_some())
    }

    fn singles(&mut self) {
        let singles: Vec<[Change; 1]> = self.alternatives.iter().flatten().map(|change| [*change]).collect();
        for changes in singles {
            let assessment = self.judge.judge_with(&changes);
            self.offer(&changes, assessment);
        }
    }

    fn pairs(&mut self) {
        let alternatives = std::mem::take(&mut self.alternatives);
        // A smaller set is never replaced by a pair, and what the verdict is now is no flip.
        let mut is_open = self.best.each_ref().map(Option::is_none);
        is_open[index(self.now.disposition)] = false;
        let sums = Sums::new(self.judge);
        let mut left = MOST_PAIRS;
        let moves: Vec<Vec<i64>> =
            alternatives.iter().map(|changes| changes.iter().map(|change| sums.moved(change)).collect()).collect();
        for (place, (one, one_moves)) in alternatives.iter().zip(&moves).enumerate() {
            for (other, other_moves) in alternatives.iter().zip(&moves).skip(place + 1) {
                let is_plain = sums.are_independent(one, other);
                if !is_plain && let Some((model, _)) = &sums.weighted {
                    // To find out costs as much as two pairs.
                    let Some(rest) = left.checked_sub(2) else { continue };
                    left = rest;
                    if !self.may_reach(model, one, other, is_open) {
                        continue;
                    }
                }
                for (first, first_moved) in one.iter().zip(one_moves) {
                    for (second, second_moved) in other.iter().zip(other_moves) {
                        if is_plain && !is_open[index(sums.disposition(first_moved + second_moved))] {
                            continue;
                        }
                        if left == 0 {
                            continue;
                        }
                        left -= 1;
                        let changes = [*first, *second];
                        let assessment = self.judge.judge_with(&changes);
                        if is_open[index(assessment.disposition)] {
                            self.offer(&changes, assessment);
                        }
                    }
                }
            }
        }
        self.alternatives = alternatives;
    }

    /// Whether some pair of these changes of two sources may lead to a disposition that is still open. The weighted rule is
    /// monotone, so that what any pair leads to lies between what the two with the least evidence and the two with the most do.
    fn may_reach(&self, model: &Weighted<'_>, one: &[Change], other: &[Change], is_open: [bool; 4]) -> bool {
        let least = |changes: &[Change]| changes.iter().min_by_key(|change| change.micro).copied();
        let most = |changes: &[Change]| changes.iter().max_by_key(|change| change.micro).copied();
        let place_of = |changes: [Option<Change>; 2], rounding: i64| {
            let changes: SmallVec<[Change; 2]> = changes.into_iter().flatten().collect();
            place(model.disposition(model.log_odds_with(&changes) + rounding))
        };
        // Each term may be off by as much as it is rounded.
        let rounding = model.rounding() + self.judge.outcomes.len() as i64;
        let low = place_of([least(one), least(other)], -rounding);
        let high = place_of([most(one), most(other)], rounding);
        CLAIMS.iter().take(high + 1).skip(low).any(|claim| is_open[index(*claim)])
    }

    /// Keeps these changes if they are better than what is known for the disposition that they lead to.
    fn offer(&mut self, changes: &[Change], assessment: Assessment) {
        if assessment.disposition == self.now.disposition {
            return;
        }
        let rank = self.rank(changes, assessment);
        let best = &mut self.best[index(assessment.disposition)];
        if best.as_ref().is_none_or(|best| rank < best.rank) {
            *best = Some(Best { rank, changes: changes.to_vec(), assessment });
        }
    }

    /// Steps from what was said to what would be said, from benign over nothing and suspicious to malicious; then how far the
    /// log-odds move.
    fn rank(&self, changes: &[Change], assessment: Assessment) -> (usize, u64) {
        let steps = changes.iter().map(|change| {
            let said = self.judge.claim(change.source).unwrap_or_default();
            place(said).abs_diff(place(change.claim))
        });
        let moved = self.now.log_odds.zip(assessment.log_odds).map_or(0, |(now, then)| now.abs_diff(then));
        (steps.sum(), moved)
    }

    /// Changes one source after the other to the disposition that is wanted, those that matter most first, until it is
    /// reached; then takes back what was not needed.
    fn greedy(&self, wanted: Disposition) -> Option<Best> {
        let mut candidates: Vec<(i64, Change)> = self
            .alternatives
            .iter()
            .filter_map(|alternatives| alternatives.iter().find(|change| change.claim == wanted))
            .map(|change| (self.swing(change, wanted), *change))
            .filter(|(swing, _)| *swing > 0)
            .collect();
        candidates.sort_by_key(|(swing, change)| (std::cmp::Reverse(*swing), change.source));
        let mut changes: Vec<Change> = Vec::new();
        for (_, change) in candidates {
            changes.push(change);
            if self.judge.judge_with(&changes).disposition == wanted {
                return Some(self.pruned(changes));
            }
        }
        None
    }

    /// How much a change matters: how far it moves the sum towards what is wanted, or how reliable its source is.
    fn swing(&self, change: &Change, wanted: Disposition) -> i64 {
        match &self.judge.model {
            Model::Weighted(model) => {
                let moved = model.log_odds_with(&[*change]) - model.log_odds;
                if place(wanted) > place(self.now.disposition) { moved } else { -moved }
            }
            Model::Claims(_) => {
                let letter = self.judge.outcomes[change.source].reliability;
                i64::from(u8::MAX) - letter as i64
            }
        }
    }

    fn pruned(&self, mut changes: Vec<Change>) -> Best {
        let wanted = self.judge.judge_with(&changes).disposition;
        // What came last matters least.
        for place in (0..changes.len()).rev() {
            let removed = changes.remove(place);
            if self.judge.judge_with(&changes).disposition != wanted {
                changes.insert(place, removed);
            }
        }
        let assessment = self.judge.judge_with(&changes);
        Best { rank: self.rank(&changes, assessment), changes, assessment }
    }
}

/// What single changes do to the sum: for sources of two families together as much as each alone. Most pairs are ruled out by
/// it without being judged.
struct Sums<'j, 'a> {
    weighted: Option<(&'j Weighted<'a>, Cuts)>,
}

impl<'j, 'a> Sums<'j, 'a> {
    fn new(judge: &'j Judge<'a>) -> Self {
        let weighted = match &judge.model {
            Model::Weighted(model) if !judge.has_minimum_coverage() => Some((model, model.cuts())),
            Model::Weighted(_) | Model::Claims(_) => None,
        };
        Self { weighted }
    }

    fn moved(&self, change: &Change) -> i64 {
        self.weighted.as_ref().map_or(0, |(model, _)| model.log_odds_with(&[*change]) - model.log_odds)
    }

    fn are_independent(&self, one: &[Change], other: &[Change]) -> bool {
        match (&self.weighted, one.first(), other.first()) {
            (Some((model, _)), Some(one), Some(other)) => !model.are_family(one.source, other.source),
            _ => false,
        }
    }

    fn disposition(&self, moved: i64) -> Disposition {
        self.weighted.as_ref().map_or(Disposition::Unknown, |(model, cuts)| cuts.disposition(model.log_odds + moved))
    }
}

fn index(disposition: Disposition) -> usize {
    usize::from(disposition.dbot_score())
}

fn place(claim: Disposition) -> usize {
    CLAIMS.iter().position(|other| *other == claim).unwrap_or_default()
}
