//! What labels teach of the reliability of sources.

use concord::finding::Reliability;
use concord::statistics::{LEAST_LABELS_OF_TYPE, LearningStatistics, ReliabilitySuggestion, SourceStatistics};
use concord::verdict::{LetterRow, SourceRow, WeightedRule};

use super::world::{Actor, balanced_accuracy, day, items, judge, letters, policy, rows};

/// Twelve sources, of which a third is misrated, one as A that behaves like E.
fn misrated() -> Vec<Actor> {
    let kinds = [
        ("s01", Reliability::B, Reliability::B),
        ("s02", Reliability::A, Reliability::E),
        ("s03", Reliability::C, Reliability::C),
        ("s04", Reliability::D, Reliability::B),
        ("s05", Reliability::C, Reliability::C),
        ("s06", Reliability::B, Reliability::D),
        ("s07", Reliability::D, Reliability::D),
        ("s08", Reliability::B, Reliability::B),
        ("s09", Reliability::E, Reliability::C),
        ("s10", Reliability::C, Reliability::C),
        ("s11", Reliability::C, Reliability::C),
        ("s12", Reliability::D, Reliability::D),
    ];
    kinds
        .into_iter()
        .map(|(name, rated, behaves)| Actor { coverage: 0.6, ..Actor::rated(name, rated, behaves) })
        .collect()
}

fn truth(actor: &Actor) -> Reliability {
    concord::statistics::nearest_letter(&letters(), actor.rated, &actor.truth)
}

fn accuracy(rule: &WeightedRule, actors: &[Actor], seed: u64, letter: impl Fn(&Actor) -> Reliability) -> f64 {
    let held_out = items(actors, 6_000, seed + 1_000);
    let log_odds: Vec<f64> = held_out
        .iter()
        .enumerate()
        .map(|(number, item)| judge(rule, actors, number, item, &letter).log_odds_micro.unwrap() as f64 / 1e6)
        .collect();
    // Malicious where more likely than among all.
    balanced_accuracy(&held_out, &log_odds, (0.25_f64 / 0.75).ln())
}

#[test]
fn with_500_labels_learned_letters_and_rows_reach_the_accuracy_of_the_true_letters() {
    let actors = misrated();
    let built_in = WeightedRule::built_in();
    for seed in 1..=3 {
        let mut learning = LearningStatistics::new(day(40));
        rows(&actors, &items(&actors, 500, seed), 500, |row| learning.add(row));
        let suggestions = learning.suggestions(&built_in.letters);
        let of_all = |name: &str| {
            suggestions.iter().find(|each| each.source == name && each.indicator_type.is_none()).expect("a suggestion")
        };
        let with_truth = accuracy(&built_in, &actors, seed, truth);
        let as_rated = accuracy(&built_in, &actors, seed, |actor| actor.rated);
        let with_letters = accuracy(&built_in, &actors, seed, |actor| of_all(actor.name).behaves_like);
        let learned_rows = WeightedRule {
            sources: actors
                .iter()
                .map(|actor| SourceRow {
                    source: actor.name.into(),
                    claims: Some(of_all(actor.name).learned.claims),
                    coverage: None,
                })
                .collect(),
            ..WeightedRule::built_in()
        };
        let with_rows = accuracy(&learned_rows, &actors, seed, |actor| actor.rated);
        let seen =
            format!("seed {seed}: truth {with_truth}, rated {as_rated}, letters {with_letters}, rows {with_rows}");
        assert!(as_rated < with_truth - 0.02, "the ratings cost something: {seen}");
        assert!(with_letters > with_truth - 0.015, "{seen}");
        assert!(with_rows > with_truth - 0.015, "{seen}");
        let false_a = of_all("s02");
        assert!(false_a.behaves_like >= Reliability::D, "{false_a:?}");
        assert!(false_a.best <= false_a.behaves_like && false_a.behaves_like <= false_a.worst, "{false_a:?}");
    }
}

#[test]
fn without_labels_the_wrong_letters_are_corrected_in_part() {
    let actors = misrated();
    let built_in = WeightedRule::built_in();
    let mut statistics = SourceStatistics::default();
    rows(&actors, &items(&actors, 3_500, 7), 0, |row| statistics.add(row));
    let suggestions = statistics.finish(&letters()).suggestions_without_labels(&built_in);
    let like = |actor: &Actor| suggestions.iter().find(|each| each.source == actor.name).unwrap().behaves_like;
    let as_rated = accuracy(&built_in, &actors, 7, |actor| actor.rated);
    let learned = accuracy(&built_in, &actors, 7, like);
    assert!(learned > as_rated + 0.01, "{learned} and {as_rated} as rated");
}

#[test]
fn without_a_label_a_source_behaves_like_its_letter() {
    let letters = letters();
    let actors = [Actor::honest("alpha", Reliability::B)];
    let mut statistics = SourceStatistics::default();
    rows(&actors, &items(&actors, 1, 1), 0, |row| statistics.add(row));
    for suggestion in statistics.finish(&letters).suggestions_without_labels(&WeightedRule::built_in()) {
        assert_eq!(suggestion.behaves_like, Reliability::B);
        let difference = suggestion.learned.claims.if_malicious.malicious - letters.b.if_malicious.malicious;
        assert!(difference.abs() < 0.01, "{difference}");
    }
}

#[test]
fn a_type_has_a_suggestion_of_its_own_from_fifty_labels_on() {
    let actors = [Actor { coverage: 1.0, ..Actor::honest("alpha", Reliability::B) }];
    let least = LEAST_LABELS_OF_TYPE as usize;
    // Of labels of 90 days ago it takes twice as many.
    for (labels, now, suggested) in [(least - 1, 10, 1), (least, 10, 2), (2 * least - 1, 10 + 30 + 90, 1)] {
        let mut learning = LearningStatistics::new(day(now));
        rows(&actors, &items(&actors, 200, 3), labels, |row| learning.add(row));
        assert_eq!(learning.suggestions(&letters()).len(), suggested);
    }
}

#[test]
fn old_labels_count_less_and_the_uncertainty_grows() {
    let actors = [Actor { coverage: 1.0, ..Actor::rated("alpha", Reliability::A, Reliability::E) }];
    let learned = |now| {
        let mut learning = LearningStatistics::new(now);
        rows(&actors, &items(&actors, 200, 3), 200, |row| learning.add(row));
        learning.suggestions(&letters()).remove(0).learned
    };
    let (fresh, old) = (learned(day(40)), learned(day(40 + 360)));
    assert_eq!(fresh.labels, old.labels);
    assert!(fresh.evidence[2] < old.evidence[2], "{fresh:?} {old:?}");
    assert!(fresh.deviation[2] < old.deviation[2], "{fresh:?} {old:?}");
}

#[test]
fn what_a_liar_teaches_is_no_evidence_in_either_direction_and_fit_for_a_policy() {
    let honest = letters().b;
    let inverted = LetterRow { if_malicious: honest.if_benign, if_benign: honest.if_malicious };
    let actors = [Actor { truth: inverted, coverage: 1.0, ..Actor::honest("liar", Reliability::B) }];
    let mut learning = LearningStatistics::new(day(40));
    rows(&actors, &items(&actors, 500, 3), 500, |row| learning.add(row));
    let suggestion = learning.suggestions(&letters()).remove(0);
    assert!(suggestion.is_inverted);
    assert!(suggestion.learned.evidence.iter().all(|nats| nats.abs() < 1e-9), "{suggestion:?}");
    assert_eq!(suggestion.behaves_like, Reliability::F);
}

/// The suggestion for the block list among so many labelled indicators, of which it lists 40 % of what is malicious and .7 % of
/// what is benign: 95 of 100 of its alarms are right.
fn of_block_list(rated: Reliability, labels: usize) -> ReliabilitySuggestion {
    let actors = [Actor::block_list("list", rated, 0.4, 0.007), Actor::honest("bravo", Reliability::B)];
    let mut learning = LearningStatistics::new(day(10));
    rows(&actors, &items(&actors, labels, 3), labels, |row| learning.add(row));
    let suggestions = learning.suggestions(&letters());
    suggestions.into_iter().find(|each| each.source == "list" && each.indicator_type.is_none()).expect("a suggestion")
}

#[test]
fn a_good_block_list_keeps_its_letter_however_many_labels_there_are() {
    let truth = (0.4_f64 / 0.007).ln();
    for labels in [100, 500, 2_000, 10_000, 40_000] {
        let suggestion = of_block_list(Reliability::A, labels);
        assert_eq!(suggestion.behaves_like, Reliability::A, "{labels} labels: {suggestion:?}");
        let (nats, deviation) = (suggestion.learned.evidence[2], suggestion.learned.deviation[2]);
        assert!((nats - truth).abs() < 2.5 * deviation, "{labels} labels: {nats} +- {deviation} for {truth}");
    }
    let (few, many) =
        (of_block_list(Reliability::D, 100).behaves_like, of_block_list(Reliability::D, 10_000).behaves_like);
    assert!(many < few && many == Reliability::A, "a letter too low is found: {few} and {many}");
}

#[test]
fn a_block_list_that_lists_anything_behaves_like_no_letter_of_worth() {
    let actors = [Actor::block_list("list", Reliability::A, 0.3, 0.25), Actor::honest("bravo", Reliability::B)];
    let mut learning = LearningStatistics::new(day(10));
    rows(&actors, &items(&actors, 4_000, 3), 4_000, |row| learning.add(row));
    let suggestion = learning.suggestions(&letters()).into_iter().find(|each| each.source == "list").unwrap();
    assert!(suggestion.behaves_like >= Reliability::E, "{suggestion:?}");
}

#[test]
fn without_labels_a_good_block_list_is_not_marked_down() {
    let mut actors = vec![Actor::block_list("list", Reliability::A, 0.4, 0.007)];
    let names = ["alpha", "bravo", "charlie", "delta"];
    actors.extend(names.map(|name| Actor::honest(name, Reliability::B)));
    let mut statistics = SourceStatistics::default();
    rows(&actors, &items(&actors, 4_000, 5), 0, |row| statistics.add(row));
    let suggestions = statistics.finish(&letters()).suggestions_without_labels(&WeightedRule::built_in());
    let list = suggestions.iter().find(|each| each.source == "list").unwrap();
    assert!(list.best <= Reliability::A && list.worst <= Reliability::B, "{list:?}");
    let truth = (0.4_f64 / 0.007).ln();
    assert!((list.learned.evidence[2] - truth).abs() < 2.5 * list.learned.deviation[2], "{list:?}");
}

#[test]
fn a_learned_row_carries_the_evidence_that_was_learned_and_a_policy_takes_it() {
    let mut rule = WeightedRule::built_in();
    for rated in [Reliability::A, Reliability::D] {
        for labels in [0, 3, 100, 20_000] {
            let actors = [
                Actor::block_list("list", rated, 0.4, 0.007),
                Actor::honest("mixed", rated),
                Actor::block_list("noise", rated, 0.05, 0.3),
            ];
            let mut learning = LearningStatistics::new(day(10));
            rows(&actors, &items(&actors, labels, 3), labels, |row| learning.add(row));
            for suggestion in learning.suggestions(&letters()) {
                let row = suggestion.learned.claims;
                let of = |malicious: f64, benign: f64| (malicious / benign).ln();
                let learned = suggestion.learned.evidence;
                let malicious = of(row.if_malicious.malicious, row.if_benign.malicious);
                assert!((malicious - learned[2]).abs() < 0.02, "{labels} labels: {malicious} in {suggestion:?}");
                rule.sources = vec![SourceRow { source: suggestion.source.clone(), claims: Some(row), coverage: None }];
                let mut policy = policy(&rule);
                policy.name = "learned".into();
                assert_eq!(policy.violations(), Vec::new(), "{suggestion:?}");
            }
        }
    }
}
