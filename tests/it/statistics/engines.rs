//! The engines inside a source: who gives identical labels, who is alone, and which few say what all say, on a generated history
//! whose truth is known.

use std::collections::BTreeMap;

use concord::finding::Disposition;
use concord::statistics::{
    EngineComparison, EngineOpinion, EngineReport, EngineResult, EngineRow, EngineStatistics, EngineSummary,
    LEAST_OF_EACH_SIDE, Label, MOST_ENGINES, MOST_LEARNED, NoSuggestion,
};
use proptest::prelude::*;

use super::world::{Random, day};

/// One indicator, and what each engine calls it: `Some(None)` is silence, `None` that the engine failed.
pub struct EngineItem {
    pub is_malicious: bool,
    pub results: Vec<(String, Option<Option<String>>)>,
}

/// Engines of which at least two of *alpha*, *bravo* and *charlie* hit exactly what is malicious. *mirror-1* and *mirror-2* repeat
/// *alpha* with its labels, *loner* hits only what is harmless and nobody else hits, and so many others see six in ten.
pub fn engine_items(count: usize, others: usize, seed: u64) -> Vec<EngineItem> {
    let mut random = Random::new(seed);
    let mut item = |number: usize| {
        let is_malicious = random.uniform() < 0.25;
        let mut said: BTreeMap<String, Option<Option<String>>> = BTreeMap::new();
        let family = |engine: &str, random: &mut Random| {
            Some(format!("Trojan.{}.{}", engine.to_uppercase(), (random.uniform() * 900.0) as u32))
        };
        let odd = (random.uniform() * 12.0) as usize;
        for (place, engine) in ["alpha", "bravo", "charlie"].into_iter().enumerate() {
            let hits = if is_malicious { place != odd } else { place == odd };
            said.insert(engine.into(), Some(if hits { family(engine, &mut random) } else { None }));
        }
        for mirror in ["mirror-1", "mirror-2"] {
            let repeated = said["alpha"].clone();
            let label = |label: String| if random.uniform() < 0.95 { label } else { format!("{label}.gen") };
            said.insert(mirror.into(), repeated.map(|label_of| label_of.map(label)));
        }
        for other in 0..others {
            let engine = format!("other-{other:02}");
            let hits = random.uniform() < if is_malicious { 0.6 } else { 0.03 };
            // Half of the labels name a class alone, on which all agree.
            let label =
                if random.uniform() < 0.5 { Some("malicious".to_owned()) } else { family(&engine, &mut random) };
            let failed = random.uniform() < 0.05;
            said.insert(engine, if failed { None } else { Some(if hits { label } else { None }) });
        }
        let nobody = said.values().all(|said| !matches!(said, Some(Some(_))));
        let is_lone = nobody && !is_malicious && number.is_multiple_of(2);
        said.insert("loner".into(), Some(is_lone.then(|| "heuristic.suspect".to_owned())));
        EngineItem { is_malicious, results: said.into_iter().collect() }
    };
    (0..count).map(&mut item).collect()
}

fn report(item: &EngineItem, names_silent: bool) -> EngineReport<'_> {
    let results = item.results.iter().filter_map(|(engine, said)| {
        let label = said.as_ref()?.as_deref();
        let opinion = if label.is_some() { EngineOpinion::Malicious } else { EngineOpinion::NoObjection };
        (label.is_some() || names_silent).then_some(EngineResult { engine, opinion, label })
    });
    EngineReport { results: results.collect(), names_silent }
}

fn merged(is_malicious: bool) -> Disposition {
    if is_malicious { Disposition::Malicious } else { Disposition::Unknown }
}

fn collected(items: &[EngineItem], labelled: usize, names_silent: bool) -> EngineStatistics {
    let mut statistics = EngineStatistics::default();
    for (number, item) in items.iter().enumerate() {
        let label = (number < labelled).then(|| Label { is_malicious: item.is_malicious, time: day(0) });
        let (verdict, report) = (format!("{number:05}"), report(item, names_silent));
        let row = EngineRow { verdict: &verdict, number: number as u64, merged: merged(item.is_malicious), report };
        statistics.add(&row, label);
    }
    statistics
}

fn engine<'a>(comparison: &'a EngineComparison, name: &str) -> &'a EngineSummary {
    comparison.engines.iter().find(|engine| engine.name == name).expect("an engine of this name")
}

#[test]
fn engines_that_copy_labels_are_one_group_and_those_that_agree_on_a_class_are_none() {
    for seed in 1..=3 {
        let comparison = collected(&engine_items(1_500, 12, seed), 0, true).comparison();
        let groups: Vec<&[String]> = comparison.same_labels.iter().map(|group| &group.engines[..]).collect();
        assert_eq!(groups, [["alpha", "mirror-1", "mirror-2"]], "seed {seed}");
        let share = comparison.same_labels[0].least_share;
        assert!((0.85..1.0).contains(&share), "{share}");
    }
}

#[test]
fn an_engine_that_is_wrong_alone_is_seen_by_its_lone_and_its_false_hits() {
    let items = engine_items(1_500, 12, 4);
    let comparison = collected(&items, 800, true).comparison();
    let loner = engine(&comparison, "loner");
    let hits = |items: &[EngineItem]| {
        let is_hit = |item: &&EngineItem| {
            item.results.iter().any(|(name, said)| name == "loner" && matches!(said, Some(Some(_))))
        };
        items.iter().filter(is_hit).count() as u64
    };
    assert!(loner.hits > 50);
    assert_eq!((loner.hits, loner.lone_hits), (hits(&items), hits(&items)));
    assert_eq!((loner.true_hits, loner.false_hits), (0, hits(&items[..800])));
    assert_eq!(loner.precision.map(|precision| precision.value), Some(0.0));
    assert!(loner.kappa.is_some_and(|kappa| kappa.value < 0.0), "{:?}", loner.kappa);
    let least = |of: fn(&EngineSummary) -> f64| {
        comparison.engines.iter().min_by(|one, other| of(one).total_cmp(&of(other))).map(|engine| engine.name.as_str())
    };
    assert_eq!(least(|engine| engine.agreement_with_merged.unwrap_or(1.0)), Some("loner"));
    assert_eq!(comparison.labelled_malicious + comparison.labelled_benign, 800);
}

#[test]
fn silence_counts_only_where_every_engine_is_named_and_hits_count_always() {
    let items = engine_items(400, 3, 5);
    let (all, hits) = (collected(&items, 100, true).comparison(), collected(&items, 100, false).comparison());
    let (named, unnamed) = (engine(&all, "other-00"), engine(&hits, "other-00"));
    assert_eq!((named.hits, named.lone_hits, named.true_hits), (unnamed.hits, unnamed.lone_hits, unnamed.true_hits));
    assert!(named.opinions < 400 && named.opinions > 350, "it failed at times: {}", named.opinions);
    assert_eq!(
        (unnamed.opinions, unnamed.agreement_with_merged, unnamed.kappa, unnamed.performance),
        (0, None, None, None)
    );
    assert!(named.performance.is_some() && named.agreement_with_merged.is_some());
}

#[test]
fn the_known_best_list_is_found_with_its_threshold() {
    for seed in 1..=5 {
        let items = engine_items(1_500, 12, seed);
        let suggestion = collected(&items, 300, true).preferred_vendors().unwrap();
        let names: Vec<&str> = suggestion.vendors.iter().map(|vendor| vendor.name.as_str()).collect();
        // The mirrors hit what alpha does, and the first by name of equals is taken.
        assert_eq!((names, suggestion.threshold), (vec!["alpha", "bravo", "charlie"], 2), "seed {seed}");
        assert_eq!((suggestion.kept, suggestion.learned_from), (1_500, 1_500), "seed {seed}");
        assert_eq!((suggestion.missed.count, suggestion.raised.count), (0, 0));
        let performance = suggestion.performance.expect("there are labels");
        assert_eq!((performance.counts.false_alarms, performance.counts.missed), (0, 0));
    }
}

#[test]
fn a_list_says_what_it_would_change_and_names_the_newest() {
    let mut items = engine_items(1_000, 6, 7);
    // Twelve malicious verdicts that no engine sees, the newest at the places 3, 13, 23 and so on.
    for number in (3..120).step_by(10) {
        items[number].is_malicious = true;
        items[number].results.iter_mut().for_each(|(_, said)| *said = Some(None));
    }
    let suggestion = collected(&items, 0, true).preferred_vendors().unwrap();
    assert_eq!((suggestion.missed.count, suggestion.raised.count), (12, 0));
    let expected: Vec<String> = (3..103).step_by(10).map(|number| format!("{number:05}")).collect();
    assert_eq!(suggestion.missed.examples, expected);
    assert_eq!((suggestion.kept, suggestion.learned_from), (988, 1_000));
    assert!(suggestion.vendors.iter().all(|vendor| vendor.kept_without < suggestion.kept));
    assert!(suggestion.best_single.1 < suggestion.kept);
}

#[test]
fn too_few_verdicts_of_either_side_suggest_nothing_and_say_how_many_there_are() {
    let mut items = engine_items(400, 2, 8);
    let malicious = |items: &[EngineItem]| items.iter().filter(|item| item.is_malicious).count() as u64;
    let mut left = LEAST_OF_EACH_SIDE - 1;
    items.retain(|item| {
        let is_kept = !item.is_malicious || left > 0;
        left -= u64::from(item.is_malicious && is_kept);
        is_kept
    });
    let expected = NoSuggestion::NotEnough { malicious: 29, other: items.len() as u64 - malicious(&items) };
    assert_eq!(collected(&items, 0, true).preferred_vendors(), Err(expected));
    let silent = |is_malicious| EngineItem { is_malicious, results: vec![("alpha".into(), Some(None))] };
    let silent: Vec<EngineItem> = (0..80).map(|number| silent(number % 2 == 0)).collect();
    assert_eq!(collected(&silent, 0, true).preferred_vendors(), Err(NoSuggestion::NothingToLearn));
}

#[test]
fn the_order_of_the_history_makes_no_difference_to_the_list() {
    let mut items = engine_items(900, 10, 9);
    let forwards = collected(&items, 0, true).preferred_vendors().unwrap();
    items.reverse();
    let backwards = collected(&items, 0, true).preferred_vendors().unwrap();
    assert_eq!((forwards.vendors, forwards.threshold), (backwards.vendors, backwards.threshold));
}

#[test]
fn memory_is_bounded_in_verdicts_and_in_engines() {
    let mut statistics = EngineStatistics::default();
    let names: Vec<String> = (0..MOST_ENGINES + 2).map(|number| format!("engine-{number:03}")).collect();
    for number in 0..MOST_LEARNED + 500 {
        let is_malicious = number % 4 == 0;
        let named = if number == 0 { &names[..] } else { &names[..1] };
        let opinion = if is_malicious { EngineOpinion::Malicious } else { EngineOpinion::NoObjection };
        let results = named.iter().map(|engine| EngineResult { engine, opinion, label: None }).collect();
        let report = EngineReport { results, names_silent: true };
        let verdict = number.to_string();
        statistics
            .add(&EngineRow { verdict: &verdict, number: number as u64, merged: merged(is_malicious), report }, None);
    }
    let comparison = statistics.comparison();
    assert_eq!((comparison.engines.len(), comparison.left_out), (MOST_ENGINES, 2));
    let suggestion = statistics.preferred_vendors().unwrap();
    let counted = (suggestion.learned_from, suggestion.verdicts, suggestion.kept);
    assert_eq!(counted, (MOST_LEARNED as u64, MOST_LEARNED as u64 + 500, MOST_LEARNED as u64));
}

/// Verdicts on which up to eight engines hit, by bits, and whether each is malicious; enough of either side.
fn random_rows() -> impl Strategy<Value = Vec<(u8, bool)>> {
    let of_side =
        |is_malicious: bool| prop::collection::vec(any::<u8>().prop_map(move |hits| (hits, is_malicious)), 30..120);
    (of_side(true), of_side(false), any::<u8>()).prop_map(|(malicious, other, useful)| {
        // Some engines are of use: they are silent on half of what is harmless.
        let other = other
            .into_iter()
            .enumerate()
            .map(|(place, (hits, side))| (if place % 2 == 0 { hits & !useful } else { hits & (hits >> 1) }, side));
        malicious.into_iter().chain(other).collect()
    })
}

proptest! {
    #[test]
    fn a_suggested_list_never_keeps_fewer_verdicts_than_any_single_engine(rows in random_rows()) {
        let names: Vec<String> = (0..8).map(|bit| format!("engine-{bit}")).collect();
        let mut statistics = EngineStatistics::default();
        for (number, (hits, is_malicious)) in rows.iter().enumerate() {
            let result = |bit: usize| EngineResult {
                engine: &names[bit],
                opinion: if hits >> bit & 1 == 1 { EngineOpinion::Malicious } else { EngineOpinion::NoObjection },
                label: None,
            };
            let report = EngineReport { results: (0..8).map(result).collect(), names_silent: true };
            let verdict = number.to_string();
            let row = EngineRow { verdict: &verdict, number: number as u64, merged: merged(*is_malicious), report };
            statistics.add(&row, None);
        }
        let kept = |list: u8, threshold: u32| {
            let is_kept = |(hits, is_malicious): &&(u8, bool)| ((hits & list).count_ones() >= threshold) == *is_malicious;
            rows.iter().filter(is_kept).count() as u64
        };
        let single = (0..8).map(|bit| kept(1 << bit, 1)).max().unwrap_or_default();
        let never = kept(0, 1);
        match statistics.preferred_vendors() {
            Ok(suggestion) => {
                let bit = |name: &str| names.iter().position(|known| known == name).unwrap();
                let list = suggestion.vendors.iter().fold(0, |list, vendor| list | 1 << bit(&vendor.name));
                prop_assert_eq!(suggestion.kept, kept(list, suggestion.threshold as u32));
                prop_assert!(suggestion.kept >= single && suggestion.kept > never, "{suggestion:?}");
                prop_assert_eq!(suggestion.best_single.1, single);
                let changed = suggestion.missed.count + suggestion.raised.count;
                prop_assert_eq!(suggestion.kept + changed, rows.len() as u64);
                for vendor in &suggestion.vendors {
                    let without = list & !(1 << bit(&vendor.name));
                    prop_assert_eq!(vendor.kept_without, kept(without, suggestion.threshold as u32));
                }
            }
            Err(why) => {
                prop_assert_eq!(why, NoSuggestion::NothingToLearn);
                // An engine more must keep at least one verdict more.
                prop_assert!(single <= never + 1, "{single} against {never}");
            }
        }
    }
}
