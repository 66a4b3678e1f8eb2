//! Who copies, who lies and who is early, found by name.

use concord::finding::{Disposition, Outcome, Reliability};
use concord::statistics::{LearningStatistics, Row, SourceComparison, SourceStatistics};
use concord::verdict::{LetterRow, WeightedRule};

use super::world::{Actor, day, items, letters, rows, rows_with_analysis, verdicts};

/// Six honest sources, one that copies, one that lies, and one that is early.
pub fn world() -> Vec<Actor> {
    let honest = letters().b;
    vec![
        Actor::honest("alpha", Reliability::B),
        Actor::honest("bravo", Reliability::B),
        Actor::honest("charlie", Reliability::C),
        Actor::honest("delta", Reliability::B),
        Actor::honest("echo", Reliability::C),
        Actor { delay: 9, copies: Some((1, 0.9)), ..Actor::honest("copycat", Reliability::C) },
        Actor { delay: 1, ..Actor::honest("earlybird", Reliability::C) },
        Actor {
            truth: LetterRow { if_malicious: honest.if_benign, if_benign: honest.if_malicious },
            ..Actor::honest("liar", Reliability::C)
        },
    ]
}

fn compared(actors: &[Actor], count: usize, labelled: usize, seed: u64) -> SourceComparison {
    let mut statistics = SourceStatistics::default();
    rows(actors, &items(actors, count, seed), labelled, |row| statistics.add(row));
    statistics.finish(&letters())
}

#[test]
fn a_copier_a_liar_and_an_early_bird_are_found_by_name() {
    let actors = world();
    for seed in 1..=3 {
        let mut learning = LearningStatistics::new(day(60));
        let mut statistics = SourceStatistics::default();
        rows(&actors, &items(&actors, 3_000, seed), 300, |row| {
            statistics.add(row);
            learning.add(row);
        });
        let comparison = statistics.finish(&letters());
        assert_eq!(comparison.suggested_families, [["bravo", "copycat"]], "seed {seed}");

        let suggestions = learning.suggestions(&letters());
        let inverted =
            suggestions.iter().filter(|suggestion| suggestion.is_inverted && suggestion.indicator_type.is_none());
        assert_eq!(inverted.map(|suggestion| suggestion.source.as_str()).collect::<Vec<_>>(), ["liar"], "seed {seed}");
        let worst = comparison.sources.iter().min_by(|one, other| {
            let accuracy = |source: &concord::statistics::SourceSummary| {
                source.performance.and_then(|performance| performance.balanced_accuracy).unwrap_or(1.0)
            };
            accuracy(one).total_cmp(&accuracy(other))
        });
        assert_eq!(worst.map(|source| source.name.as_str()), Some("liar"), "seed {seed}");

        let early: Vec<&str> = comparison
            .sources
            .iter()
            .filter(|source| source.lead.is_some_and(|lead| lead.median_days > 0.0))
            .map(|source| source.name.as_str())
            .collect();
        assert_eq!(early, ["earlybird"], "seed {seed}");
        let pair = comparison.pairs.iter().find(|pair| {
            comparison.sources[pair.first].name == "bravo" && comparison.sources[pair.second].name == "copycat"
        });
        let lead = pair.and_then(|pair| pair.lead).map(|lead| lead.median_days);
        assert_eq!(lead, Some(5.0), "the one that is later is the copy");
    }
}

#[test]
fn without_labels_too_the_copier_is_found_and_the_liar_behaves_like_no_letter_of_worth() {
    let actors = world();
    let comparison = compared(&actors, 3_000, 0, 11);
    assert_eq!(comparison.suggested_families, [["bravo", "copycat"]]);
    let suggestions = comparison.suggestions_without_labels(&WeightedRule::built_in());
    let inverted = suggestions.iter().filter(|suggestion| suggestion.is_inverted);
    assert_eq!(inverted.map(|suggestion| suggestion.source.as_str()).collect::<Vec<_>>(), ["liar"]);
    assert!(suggestions.iter().all(|suggestion| suggestion.learned.labels == 0));
}

#[test]
fn independent_sources_are_suggested_as_no_family() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let kinds = [Reliability::A, Reliability::B, Reliability::B, Reliability::C, Reliability::C, Reliability::D];
    let actors: Vec<Actor> =
        names.iter().zip(kinds.iter().cycle()).map(|(name, letter)| Actor::honest(name, *letter)).collect();
    for seed in 1..=5 {
        let none: [[&str; 0]; 0] = [];
        assert_eq!(compared(&actors, 2_500, 0, seed).suggested_families, none, "seed {seed}");
        assert_eq!(compared(&actors, 2_500, 500, seed).suggested_families, none, "seed {seed}");
    }
}

#[test]
fn a_clique_of_mirrors_does_not_explain_itself() {
    let mut actors = vec![Actor::honest("upstream", Reliability::C)];
    for name in ["mirror1", "mirror2", "mirror3"] {
        actors.push(Actor { copies: Some((0, 0.9)), ..Actor::honest(name, Reliability::C) });
    }
    for name in ["other1", "other2", "other3", "other4"] {
        actors.push(Actor::honest(name, Reliability::B));
    }
    for seed in 1..=3 {
        let comparison = compared(&actors, 3_000, 0, seed);
        assert_eq!(comparison.suggested_families, [["mirror1", "mirror2", "mirror3", "upstream"]], "seed {seed}");
    }
    // Once they are declared there is nothing left to suggest.
    actors.iter_mut().take(4).for_each(|actor| actor.family = Some("feed"));
    assert!(compared(&actors, 3_000, 0, 1).suggested_families.is_empty());
}

#[test]
fn counts_of_a_source_are_those_of_its_outcomes() {
    let actors = [Actor::honest("alpha", Reliability::B), Actor::honest("bravo", Reliability::B)];
    let items = items(&actors, 500, 5);
    let mut statistics = SourceStatistics::default();
    let mut decisive = 0;
    rows_with_analysis(&actors, &items, 200, |row| {
        decisive += u64::from(row.reports[0].without.is_some_and(|without| without != row.merged));
        statistics.add(row);
    });
    let comparison = statistics.finish(&letters());
    let source = &comparison.sources[0];
    let said = |claim| items.iter().filter(|item| item.claims[0] == Some(claim)).count() as u64;
    assert_eq!(source.claims.malicious, said(Disposition::Malicious));
    assert_eq!(source.claims.benign, said(Disposition::Benign));
    assert_eq!(source.no_record, items.iter().filter(|item| item.claims[0].is_none()).count() as u64);
    assert_eq!((source.asked(), source.units, source.failed), (500, 500, 0));
    assert_eq!(source.decisive, decisive);
    assert!(decisive > 0);
    assert_eq!(source.units_per_decisive, Some(500.0 / decisive as f64));
    let latency = source.median_latency.expect("the answers are fresh").as_millis();
    assert!((300..=430).contains(&latency), "{latency} ms for 300, to within a step");
    let performance = source.performance.expect("there are labels");
    assert_eq!(performance.counts.total(), 200);
    let joint = items.iter().filter(|item| item.claims.iter().all(Option::is_some)).count() as u64;
    assert_eq!(comparison.pairs[0].joint, joint);
}

#[test]
fn a_pair_with_few_joint_answers_has_its_number_and_no_kappa() {
    let actors = [Actor::honest("alpha", Reliability::B), Actor::honest("bravo", Reliability::B)];
    let few = compared(&actors, 15, 0, 1);
    assert!(few.pairs[0].joint > 0 && few.pairs[0].kappa.is_none() && few.pairs[0].agreement.is_none());
    let many = compared(&actors, 100, 0, 1);
    let kappa = many.pairs[0].kappa.expect("enough joint answers");
    assert!(kappa.low < kappa.value && kappa.value < kappa.high, "{kappa:?}");
}

/// Six sources that say all sides, three block lists, and one that copies the first of them.
pub fn world_of_lists() -> Vec<Actor> {
    let mut actors: Vec<Actor> = world().into_iter().take(5).collect();
    let lists = actors.len();
    actors.push(Actor::block_list("list", Reliability::B, 0.4, 0.01));
    actors.push(Actor {
        copies: Some((lists, 0.9)),
        delay: 9,
        ..Actor::block_list("list-copy", Reliability::B, 0.4, 0.01)
    });
    actors.push(Actor::block_list("list-other", Reliability::B, 0.4, 0.01));
    actors.push(Actor::block_list("list-rare", Reliability::B, 0.1, 0.002));
    actors
}

#[test]
fn a_copied_block_list_is_found_although_neither_ever_says_anything_else() {
    let actors = world_of_lists();
    for (seed, labelled) in [(1, 0), (2, 0), (3, 300), (4, 3_000)] {
        let comparison = compared(&actors, 3_000, labelled, seed);
        assert_eq!(comparison.suggested_families, [["list", "list-copy"]], "seed {seed}");
        let name = |place: usize| comparison.sources[place].name.as_str();
        let pair = |second: &str| {
            comparison.pairs.iter().find(|pair| (name(pair.first), name(pair.second)) == ("list", second)).unwrap()
        };
        let copy = pair("list-copy");
        assert!(copy.kappa.is_none() && copy.jaccard.is_some_and(|jaccard| jaccard > 0.8), "{copy:?}");
        assert!(copy.copying.is_some_and(|copying| copying.correlation > 0.7), "{copy:?}");
        let other = pair("list-other").copying.expect("both answer");
        assert!(other.correlation.abs() < 0.15, "seed {seed}: {other:?}");
    }
}

#[test]
fn block_lists_that_never_speak_have_no_correlation_rather_than_none_beyond_the_truth() {
    let never = |name| Actor::block_list(name, Reliability::B, 0.0, 0.0);
    let comparison = compared(&[never("one"), never("two"), Actor::honest("alpha", Reliability::B)], 500, 0, 1);
    assert!(comparison.pairs.iter().all(|pair| pair.copying.is_none()), "{:?}", comparison.pairs);
}

#[test]
fn copies_are_found_in_a_long_history_of_which_most_is_known_to_nobody() {
    let actors = world();
    let mut items = items(&actors, 40_000, 1);
    for (number, item) in items.iter_mut().enumerate() {
        if !number.is_multiple_of(100) {
            item.claims.fill(None);
        }
    }
    let mut statistics = SourceStatistics::default();
    rows(&actors, &items, 0, |row| statistics.add(row));
    let comparison = statistics.finish(&letters());
    assert_eq!(comparison.suggested_families, [["bravo", "copycat"]]);
    let sampled = comparison.sample.iter().filter(|row| row.answers.iter().any(|answer| answer.outcome < 3)).count();
    assert!(sampled < 60, "a sample of all rows would not tell: {sampled}");
}

#[test]
fn sources_whose_truth_nobody_else_knows_are_suggested_as_no_family() {
    let mut actors = world();
    actors.retain(|actor| actor.copies.is_none() && actor.name != "liar");
    actors.iter_mut().for_each(|actor| actor.coverage = 0.06);
    let none: [[&str; 0]; 0] = [];
    assert_eq!(compared(&actors, 40_000, 0, 1).suggested_families, none);
}

#[test]
fn an_indicator_that_is_looked_up_again_on_the_same_day_counts_once_for_agreement() {
    let actors = world();
    let items = items(&actors, 40, 1);
    let (mut once, mut often) = (SourceStatistics::default(), SourceStatistics::default());
    rows(&actors, &items, 0, |row| once.add(row));
    rows(&actors, &items, 0, |row| (0..50).for_each(|_| often.add(row)));
    let (once, often) = (once.finish(&letters()), often.finish(&letters()));
    assert_eq!(often.pairs, once.pairs);
    assert_eq!((often.pairable, often.verdicts), (once.pairable, 50 * once.verdicts));
    assert_eq!(often.sources[0].units, 50 * once.sources[0].units, "but each look-up has its price");
    assert_eq!(often.sample.len(), once.sample.len());
}

#[test]
fn what_somebody_showed_a_source_once_is_no_day_of_listing() {
    let actors = world();
    let items = items(&actors, 1, 1);
    let mut verdict = verdicts(&actors, &items).remove(0);
    let row = Row::from_verdict(&verdict, 1, None, None);
    let of_kind = row.reports.iter().find(|report| report.since.is_some()).expect("a claim").clone();
    assert!(of_kind.has_listing_date && of_kind.since < Some(day(10)), "{of_kind:?}");
    let source = of_kind.source.to_owned();
    for outcome in &mut verdict.outcomes {
        let changed = Outcome { kind: "virustotal".into(), ..Outcome::clone(outcome) };
        *outcome = changed.into();
    }
    let row = Row::from_verdict(&verdict, 1, None, None);
    let report = row.reports.iter().find(|report| report.source == source).unwrap();
    assert!(!report.has_listing_date && report.since >= Some(day(10)), "{report:?}");
}
