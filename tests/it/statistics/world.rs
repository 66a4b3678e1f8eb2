//! A generated history: sources that report by their true rows, a known truth, and verdicts judged by the real fusion.

use std::time::{Duration, SystemTime};

use concord::finding::{Disposition, Fact, Family, Finding, Outcome, OutcomeBody, Reliability};
use concord::indicator::Indicator;
use concord::statistics::{Label, Row};
use concord::verdict::{LetterRow, LetterTable, Policy, Rule, Verdict, WeightedRule, fuse, fuse_without_analysis};

pub const DAY: u64 = 86_400;

/// The built-in letters.
pub fn letters() -> LetterTable {
    WeightedRule::built_in().letters
}

/// The day of this number, which begins the history with 0.
pub fn day(number: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs((20_000 + number) * DAY)
}

/// Pseudo-random numbers (xorshift), the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn uniform(&mut self) -> f64 {
        for _ in 0..3 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
        }
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A source of the world.
#[derive(Clone)]
pub struct Actor {
    pub name: &'static str,
    /// The letter that the user gives it.
    pub rated: Reliability,
    /// How it reports.
    pub truth: LetterRow,
    /// The place of the source whose report it repeats, and how often.
    pub copies: Option<(usize, f64)>,
    /// Share of the indicators on which it takes a side.
    pub coverage: f64,
    /// Days after the appearance of an indicator at which it lists it.
    pub delay: u64,
    pub family: Option<&'static str>,
    /// For a block list: the shares of what is malicious and of what is benign that it lists. It says malicious of what it lists
    /// and nothing else, and its copies are silent where it is.
    pub lists: Option<[f64; 2]>,
}

impl Actor {
    /// A source that behaves as it is rated.
    pub fn honest(name: &'static str, letter: Reliability) -> Self {
        Self::rated(name, letter, letter)
    }

    /// A source that behaves like another letter than its own.
    pub fn rated(name: &'static str, rated: Reliability, behaves: Reliability) -> Self {
        let truth = *letters().row(behaves).expect("a letter with a row");
        Self { name, rated, truth, copies: None, coverage: 0.9, delay: 4, family: None, lists: None }
    }

    /// A source that lists these shares of what is malicious and of what is benign, and never says anything but malicious.
    pub fn block_list(name: &'static str, rated: Reliability, if_malicious: f64, if_benign: f64) -> Self {
        Self { lists: Some([if_malicious, if_benign]), ..Self::honest(name, rated) }
    }
}

/// One indicator: its truth, and the claims of the sources in their order.
pub struct Item {
    pub is_malicious: bool,
    pub claims: Vec<Option<Disposition>>,
}

/// So many indicators, of which a quarter is malicious.
pub fn items(actors: &[Actor], count: usize, seed: u64) -> Vec<Item> {
    let mut random = Random::new(seed);
    (0..count)
        .map(|_| {
            let is_malicious = random.uniform() < 0.25;
            let mut said: Vec<Disposition> = Vec::new();
            let mut claims: Vec<Option<Disposition>> = Vec::new();
            for actor in actors {
                let shares = if is_malicious { actor.truth.if_malicious } else { actor.truth.if_benign };
                let draw = random.uniform();
                let own = if draw < shares.benign {
                    Disposition::Benign
                } else if draw < shares.benign + shares.suspicious {
                    Disposition::Suspicious
                } else {
                    Disposition::Malicious
                };
                let chance = random.uniform();
                let claim = match actor.copies {
                    Some((of, share)) if chance < share => said[of],
                    _ => own,
                };
                said.push(claim);
                let presence = random.uniform();
                claims.push(match (actor.lists, actor.copies) {
                    (Some(_), Some((of, share))) if chance < share => claims[of],
                    (Some([if_malicious, if_benign]), _) => {
                        let listed = presence < if is_malicious { if_malicious } else { if_benign };
                        listed.then_some(Disposition::Malicious)
                    }
                    (None, _) => (presence < actor.coverage).then_some(claim),
                });
            }
            Item { is_malicious, claims }
        })
        .collect()
}

/// The verdict on an item, by a policy with these numbers.
pub fn judge(
    rule: &WeightedRule,
    actors: &[Actor],
    number: usize,
    item: &Item,
    letter: impl Fn(&Actor) -> Reliability,
) -> Verdict {
    let (domain, at, outcomes) = outcomes(actors, number, item, letter);
    fuse_without_analysis(&policy(rule), &domain, at, outcomes)
}

/// What the sources answer on an item, and when.
fn outcomes(
    actors: &[Actor],
    number: usize,
    item: &Item,
    letter: impl Fn(&Actor) -> Reliability,
) -> (Indicator, SystemTime, Vec<Outcome>) {
    let appeared = day(number as u64 % 30);
    let at = appeared + Duration::from_secs(10 * DAY);
    let outcomes: Vec<Outcome> = actors
        .iter()
        .zip(&item.claims)
        .map(|(actor, claim)| {
            let body = match claim {
                Some(claim) => {
                    let mut finding = Finding::new(*claim, None, "as the world wants it");
                    let listed = appeared + Duration::from_secs(actor.delay * DAY);
                    finding.facts.push(Fact::new("first_seen", listed));
                    OutcomeBody::Finding(finding)
                }
                None => OutcomeBody::NoRecord,
            };
            let family =
                actor.family.map_or(Family::same_kind(actor.name), |family| Family::declared(family, actor.name));
            Outcome {
                source: actor.name.into(),
                // Of this kind `first_seen` is the day of listing.
                kind: "urlhaus".into(),
                reliability: letter(actor),
                family,
                time: at + Duration::from_millis(300),
                body,
            }
        })
        .collect();
    let domain = Indicator::parse(&format!("host{number}.example.com")).expect("a domain name").indicator;
    (domain, at, outcomes)
}

/// A policy with these numbers.
pub fn policy(rule: &WeightedRule) -> Policy {
    let built_in = Policy::built_in().into_iter().find(|policy| policy.name == "weighted").expect("it is built in");
    Policy { rule: Rule::Weighted(rule.clone()), ..built_in }
}

/// Judges every item by the built-in policy, without what each source changes, and hands each row on; the first `labelled` have
/// a label.
pub fn rows(actors: &[Actor], items: &[Item], labelled: usize, each: impl FnMut(&Row<'_>)) {
    rows_by(actors, items, labelled, fuse_without_analysis, each);
}

/// As [`rows`], with what each source changes.
pub fn rows_with_analysis(actors: &[Actor], items: &[Item], labelled: usize, each: impl FnMut(&Row<'_>)) {
    rows_by(actors, items, labelled, fuse, each);
}

fn rows_by(
    actors: &[Actor],
    items: &[Item],
    labelled: usize,
    fuse: fn(&Policy, &Indicator, SystemTime, Vec<Outcome>) -> Verdict,
    mut each: impl FnMut(&Row<'_>),
) {
    let policy = policy(&WeightedRule::built_in());
    let units = actors.iter().map(|actor| (actor.name.to_owned(), 1)).collect();
    for (number, item) in items.iter().enumerate() {
        let (domain, at, outcomes) = outcomes(actors, number, item, |actor| actor.rated);
        let verdict = fuse(&policy, &domain, at, outcomes);
        let label = (number < labelled).then_some(Label { is_malicious: item.is_malicious, time: verdict.judged_time });
        each(&Row::from_verdict(&verdict, number as u64, label, Some(&units)));
    }
}

/// The verdicts on all items by the built-in policy, with what each source changes.
pub fn verdicts(actors: &[Actor], items: &[Item]) -> Vec<Verdict> {
    let policy = policy(&WeightedRule::built_in());
    let judge = |(number, item): (usize, &Item)| {
        let (domain, at, outcomes) = outcomes(actors, number, item, |actor| actor.rated);
        fuse(&policy, &domain, at, outcomes)
    };
    items.iter().enumerate().map(judge).collect()
}

/// Mean of the shares of malicious and of benign items that are recognised, by log-odds above this.
pub fn balanced_accuracy(items: &[Item], log_odds: &[f64], cut: f64) -> f64 {
    let share = |malicious: bool| {
        let of_side: Vec<bool> = items
            .iter()
            .zip(log_odds)
            .filter(|(item, _)| item.is_malicious == malicious)
            .map(|(_, l)| *l > cut)
            .collect();
        of_side.iter().filter(|alarm| **alarm == malicious).count() as f64 / of_side.len() as f64
    };
    (share(true) + share(false)) / 2.0
}
