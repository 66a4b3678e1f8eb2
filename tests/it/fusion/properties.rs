//! What holds for any outcomes. Cases are random, but always the same ones.

use std::time::Duration;

use concord::finding::{Disposition, Family, Outcome, OutcomeBody, Reliability};
use concord::verdict::{
    Calibration, Decay, LearnedCoverage, Policy, Rule, SourceRow, Thresholds, Verdict, fuse, fuse_without_analysis,
};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;
use strum::VariantArray;

use super::build::{DAY, aged, changed, claim, in_family, indicator, judge, now, outcome, policy, strong, term};
use super::random::{
    BY_HARM, SIDES, any_claim, any_claims, any_letter, any_policy, any_silences, any_type, config, named,
};

fn log_odds(verdict: &Verdict) -> i64 {
    verdict.log_odds_micro.expect("the weighted rule has log-odds")
}

fn with_claim(mut outcome: Outcome, claim: Disposition) -> Outcome {
    if let OutcomeBody::Finding(finding) = &mut outcome.body {
        finding.claim = claim;
    }
    outcome
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_terms_add_up_exactly(
        kind in any_type(), outcomes in any_claims(), shift in -200..200_i32, scale in 1..300_u32,
    ) {
        let calibration = Calibration { shift: f64::from(shift) / 97.0, scale: f64::from(scale) / 101.0 };
        let policy = changed(|rule| rule.calibration = calibration);
        let verdict = fuse(&policy, &indicator(kind), now(), outcomes);
        let sum: i64 = verdict.contributions.iter().map(|contribution| contribution.micro_nats).sum();
        prop_assert_eq!(sum, log_odds(&verdict));
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(
        kind in any_type(), claims in any_claims(), silences in any_silences(), salt in any::<u64>(),
        name in select(&["weighted", "xsoar", "worst", "majority", "mean"][..]), again in any_claims(),
        silent_again in any_silences(),
    ) {
        let mut outcomes = claims;
        outcomes.extend(silences);
        // Several outcomes of one source. Of the silent ones many tie in all but their content.
        outcomes.extend(again);
        outcomes.extend(silent_again);
        let mut shuffled = outcomes.clone();
        let mut state = salt;
        for place in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(place, (state >> 33) as usize % (place + 1));
        }
        let judged = |outcomes| fuse(&policy(name), &indicator(kind), now(), outcomes);
        prop_assert_eq!(judged(outcomes), judged(shuffled));
    }

    #[test]
    fn several_records_of_a_source_are_one_vote(
        policy in any_policy(), kind in any_type(), others in any_claims(), letter in any_letter(),
        records in any_claims(), silences in any_silences(),
    ) {
        let of_one = |outcome| Outcome { source: "one".into(), reliability: letter, ..outcome };
        let records: Vec<Outcome> = records.into_iter().chain(silences).map(of_one).collect();
        let judged = |records: &[Outcome]| {
            fuse_without_analysis(&policy, &indicator(kind), now(), [&others[..], records].concat())
        };
        let together = judged(&records);
        let turned: Vec<Outcome> = records.iter().rev().cloned().collect();
        prop_assert_eq!(&together, &judged(&turned));
        let is_one_of_them = records.iter().any(|record| judged(std::slice::from_ref(record)) == together);
        prop_assert!(records.is_empty() || is_one_of_them);
    }

    #[test]
    fn silence_adds_nothing(kind in any_type(), claims in any_claims(), silences in any_silences()) {
        let before = judge(kind, claims.clone());
        let mut outcomes = claims;
        outcomes.extend(silences);
        let after = judge(kind, outcomes);
        prop_assert_eq!(log_odds(&before), log_odds(&after));
        prop_assert_eq!(before.disposition, after.disposition);
        prop_assert_eq!(before.conflict, after.conflict);
    }

    #[test]
    fn no_evidence_is_unknown_and_never_benign(kind in any_type(), silences in any_silences()) {
        prop_assert_eq!(judge(kind, silences.clone()).disposition, Disposition::Unknown);
        let compatible = fuse(&policy("xsoar"), &indicator(kind), now(), silences);
        prop_assert_eq!(compatible.disposition, Disposition::Unknown);
    }

    #[test]
    fn every_policy_that_passes_its_checks_judges_silence_as_unknown(
        kind in any_type(), silences in any_silences(), prior in 0.0..1.0_f64,
        (malicious, suspicious, benign) in (0.0..1.0_f64, 0.0..1.0_f64, 0.0..1.0_f64),
        shift in -2.0..2.0_f64, scale in 0.0..3.0_f64, minimum_coverage in 0.0..=1.0_f64,
    ) {
        // Sorted, so that some of them pass.
        let mut levels = [malicious, suspicious, benign];
        levels.sort_by(f64::total_cmp);
        let [benign, suspicious, malicious] = levels;
        let of_rule = changed(|rule| {
            rule.thresholds = Thresholds { malicious, suspicious, benign };
            rule.calibration = Calibration { shift, scale };
            for numbers in [&mut rule.ip, &mut rule.domain, &mut rule.url, &mut rule.file] {
                numbers.prior = prior;
            }
        });
        let policy = Policy { minimum_coverage, ..of_rule };
        if policy.violations().is_empty() {
            let verdict = fuse(&policy, &indicator(kind), now(), silences.clone());
            prop_assert_eq!(verdict.disposition, Disposition::Unknown);
        }
        for policy in Policy::built_in() {
            let verdict = fuse(&policy, &indicator(kind), now(), silences.clone());
            prop_assert_eq!(verdict.disposition, Disposition::Unknown);
        }
    }

    #[test]
    fn a_source_rated_f_or_without_a_claim_adds_nothing(
        policy in any_policy(), kind in any_type(), claims in any_claims(), extra in any_claim(), unknown in any::<bool>(),
    ) {
        // Who takes no side has answered, which counts where a policy wants a share of answers.
        let policy = Policy { minimum_coverage: 0.0, ..policy };
        let mut extra = extra;
        extra.source = "x".into();
        // F is the least reliable of all letters where one source decides, and no letter counts in a majority.
        let letters_weigh = matches!(policy.rule, Rule::Weighted(_) | Rule::Mean(_));
        if unknown || !letters_weigh {
            extra = with_claim(extra, Disposition::Unknown);
        } else {
            extra.reliability = Reliability::F;
        }
        let before = fuse_without_analysis(&policy, &indicator(kind), now(), claims.clone());
        let mut outcomes = claims;
        outcomes.push(extra);
        let after = fuse_without_analysis(&policy, &indicator(kind), now(), outcomes);
        prop_assert_eq!(before.log_odds_micro, after.log_odds_micro);
        prop_assert_eq!(before.disposition, after.disposition);
        prop_assert_eq!((before.mean, before.deciding_source), (after.mean, after.deciding_source));
    }

    #[test]
    fn a_worse_claim_never_lowers_the_sum(kind in any_type(), claims in any_claims(), extra in any_claim()) {
        let sums: Vec<i64> = BY_HARM
            .iter()
            .map(|disposition| {
                let mut outcomes = claims.clone();
                outcomes.push(with_claim(Outcome { source: "x".into(), ..extra.clone() }, *disposition));
                log_odds(&judge(kind, outcomes))
            })
            .collect();
        prop_assert!(sums.is_sorted(), "{:?}", sums);
    }

    #[test]
    fn a_better_letter_never_moves_the_sum_against_the_claim(
        kind in any_type(), claims in any_claims(), extra in any_claim(), side in select(&SIDES[..]),
    ) {
        let mut sums: Vec<i64> = Reliability::VARIANTS
            .iter()
            .map(|letter| {
                let renamed = Outcome { source: "x".into(), reliability: *letter, ..extra.clone() };
                let mut outcomes = claims.clone();
                outcomes.push(with_claim(renamed, side));
                log_odds(&judge(kind, outcomes))
            })
            .collect();
        if side != Disposition::Benign {
            sums.reverse();
        }
        prop_assert!(sums.is_sorted(), "{:?}", sums);
    }

    #[test]
    fn a_surer_claim_never_moves_the_sum_against_itself(
        kind in any_type(), letter in any_letter(), side in select(&SIDES[..]), days in 0..200_i64,
        low in 0..=100_u32, high in 0..=100_u32,
    ) {
        let weight = |percent: u32| {
            let outcome = strong(claim("x", letter, side), Some(f64::from(percent) / 100.0));
            term(&judge(kind, vec![aged(outcome, days)]), "x").map(i64::abs)
        };
        prop_assert!(weight(low.min(high)) <= weight(low.max(high)));
    }

    #[test]
    fn an_older_claim_is_never_stronger_in_either_age_mode(
        kind in any_type(), extra in any_claim(), young in -3..300_i64, more in 0..300_i64,
        polynomial in any::<bool>(), lifetime in 1..400_u64, speed in 1..60_u32,
    ) {
        let policy = changed(|rule| {
            if polynomial {
                let lifetime = Duration::from_secs(lifetime * DAY);
                let decay = Some(Decay::Polynomial { lifetime, speed: f64::from(speed) / 10.0 });
                for numbers in [&mut rule.ip, &mut rule.domain, &mut rule.url, &mut rule.file] {
                    numbers.decay = decay;
                }
            }
        });
        let weight = |days| {
            let outcome = aged(Outcome { source: "x".into(), ..extra.clone() }, days);
            term(&fuse(&policy, &indicator(kind), now(), vec![outcome]), "x").map(i64::abs)
        };
        prop_assert!(weight(young + more) <= weight(young));
        if polynomial && young + more >= lifetime.cast_signed() {
            prop_assert_eq!(weight(young + more), Some(0));
        }
    }

    #[test]
    fn silence_never_weighs_more_than_half_of_what_benign_weighs(
        kind in any_type(), letter in any_letter(), if_malicious in 0..100_u32, if_benign in 0..100_u32,
    ) {
        let share = |percent: u32| f64::from(percent.min(99)) / 100.0;
        let coverage = Some(LearnedCoverage { if_malicious: share(if_malicious), if_benign: share(if_benign) });
        let row = SourceRow { source: "x".into(), claims: None, coverage };
        let policy = changed(|rule| rule.sources = vec![row]);
        let weight = |outcome| term(&fuse(&policy, &indicator(kind), now(), vec![outcome]), "x").unwrap_or_default();
        let silence = weight(outcome("x", letter, OutcomeBody::NoRecord));
        prop_assert!(silence.abs() <= weight(claim("x", letter, Disposition::Benign)).abs() / 2);
        // Whoever covers malicious indicators better speaks for harmlessness by having no record.
        prop_assert!(silence.signum() * (if_malicious.cmp(&if_benign) as i64) <= 0);
    }

    #[test]
    fn equal_members_of_a_family_are_worth_more_than_one_and_less_than_independent_ones(
        kind in any_type(), extra in any_claim(), count in 1..12_u32, percent in 0..=100_u32,
    ) {
        let correlation = f64::from(percent) / 100.0;
        let policy = changed(|rule| rule.family_correlation = correlation);
        let member = in_family(extra, Family::declared("mirror", ""));
        let total = |count: u32| {
            let members = named((0..count).map(|_| member.clone()).collect(), "m");
            let verdict = fuse(&policy, &indicator(kind), now(), members);
            verdict.contributions.iter().skip(2).map(|contribution| contribution.micro_nats).sum::<i64>().abs()
        };
        let (one, all) = (total(1), total(count));
        let n = f64::from(count);
        let most = n / (1.0 + (n - 1.0) * correlation) * one as f64;
        prop_assert!(all >= one, "{} members weigh {}, one {}", count, all, one);
        prop_assert!(all as f64 <= most + n, "{} members weigh {}, at most {}", count, all, most);
    }

    #[test]
    fn a_second_key_of_a_kind_adds_nothing_whoever_shares_its_family(
        kind in any_type(), others in any_claims(), extra in any_claim(), weaker in 0..=100_u32,
    ) {
        let key = |name: &str, strength| {
            let outcome = strong(Outcome { source: name.into(), ..extra.clone() }, Some(strength));
            in_family(outcome, Family::same_kind("f"))
        };
        let mut outcomes = others;
        outcomes.push(key("x", 1.0));
        let one = judge(kind, outcomes.clone());
        outcomes.push(key("y", f64::from(weaker) / 100.0));
        prop_assert_eq!(log_odds(&one), log_odds(&judge(kind, outcomes)));
    }

    #[test]
    fn conflict_is_a_share_and_zero_where_one_side_is_empty(kind in any_type(), claims in any_claims()) {
        let verdict = judge(kind, claims);
        let conflict = verdict.conflict.expect("the weighted rule measures conflict");
        prop_assert!((0.0..=1.0).contains(&conflict.mass));
        let terms = || verdict.contributions.iter().skip(2).map(|contribution| contribution.micro_nats);
        if !(terms().any(|term| term > 0) && terms().any(|term| term < 0)) {
            prop_assert_eq!(conflict.mass, 0.0);
            prop_assert!(!conflict.flagged);
        }
    }

    #[test]
    fn probability_and_coverage_are_shares(kind in any_type(), claims in any_claims(), silences in any_silences()) {
        let mut outcomes = claims;
        outcomes.extend(silences);
        let verdict = judge(kind, outcomes);
        prop_assert!((0.0..=1.0).contains(&verdict.coverage));
        prop_assert!(verdict.probability.is_some_and(|probability| (0.0..=1.0).contains(&probability)));
    }

    #[test]
    fn xsoar_is_the_maximum_over_letter_and_claim(kind in any_type(), claims in any_claims()) {
        let mut best = (0, Disposition::Unknown);
        for outcome in &claims {
            let level = 7 - Reliability::VARIANTS.iter().position(|letter| *letter == outcome.reliability).unwrap_or(7);
            if let Some(claim) = outcome.body.claim().filter(|claim| claim.dbot_score() > 0) {
                best = best.max((level, claim));
            }
        }
        let verdict = fuse(&policy("xsoar"), &indicator(kind), now(), claims);
        prop_assert_eq!(verdict.disposition, best.1);
        prop_assert_eq!(verdict.deciding_source.is_some(), best.0 > 0);
    }
}
