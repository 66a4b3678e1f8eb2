//! What a person reads, and the few verdicts that everybody should know by heart.

use concord::finding::{Disposition, Family, NotAskedReason, OutcomeBody, Reliability, Strength};
use concord::indicator::IndicatorType;
use concord::verdict::{Calibration, Term, fuse, sentence, summary};
use strum::VariantArray;

use super::build::{
    aged, changed, claim, failed, in_family, indicator, judge, not_asked, now, outcome, policy, strong, term,
};

#[test]
fn a_lone_virustotal_far_over_its_threshold_is_malicious_for_every_type() {
    for &indicator_type in IndicatorType::VARIANTS {
        let strength = Strength::over(60, 10).get();
        let lone = strong(claim("virustotal", Reliability::B, Disposition::Malicious), Some(strength));
        let verdict = judge(indicator_type, vec![lone]);
        assert_eq!(verdict.disposition, Disposition::Malicious, "{indicator_type:?}: {}", summary(&verdict));
    }
}

#[test]
fn two_best_sources_that_contradict_are_suspicious_and_a_person_should_look() {
    let verdict = judge(
        IndicatorType::Domain,
        vec![claim("one", Reliability::A, Disposition::Malicious), claim("two", Reliability::A, Disposition::Benign)],
    );
    assert_eq!(verdict.disposition, Disposition::Suspicious);
    assert!(verdict.conflict.is_some_and(|conflict| conflict.flagged));
    let expected = "suspicious (51.4 %): 1 of 2 sources says malicious: one (A); 1 says benign: two (A); they \
                    contradict each other";
    assert_eq!(summary(&verdict), expected);
}

#[test]
fn the_summary_names_what_the_verdict_rests_on_and_who_is_missing() {
    let verdict = judge(
        IndicatorType::Ip,
        vec![
            claim("a", Reliability::A, Disposition::Malicious),
            claim("b", Reliability::C, Disposition::Malicious),
            outcome("c", Reliability::B, OutcomeBody::NoRecord),
            failed("d", Reliability::B),
            not_asked("e", Reliability::B, NotAskedReason::QuotaSpent),
            not_asked("f", Reliability::B, NotAskedReason::Tlp),
        ],
    );
    let expected = "malicious (98.1 %): 2 of 4 sources say malicious: a (A), b (C); 1 has no record; 1 failed: d; \
                    1 could not be asked in time or quota: e";
    assert_eq!(summary(&verdict), expected);
    assert!(verdict.partial);
    assert_eq!(verdict.coverage, 0.75);
    let terms: Vec<&Term> = verdict.contributions.iter().map(|contribution| &contribution.term).collect();
    let source = |name: &str| Term::Source(name.into());
    assert_eq!(terms, [&Term::Prior, &Term::Calibration, &source("a"), &source("b"), &source("c"), &source("d")]);
}

#[test]
fn when_nobody_was_asked_the_summary_says_so() {
    let verdict = judge(IndicatorType::File, vec![not_asked("a", Reliability::A, NotAskedReason::Tlp)]);
    assert_eq!(summary(&verdict), "unknown: nothing known (prior 25 %): no source was asked");
    assert_eq!(verdict.coverage, 0.0);
    assert!(!verdict.partial);
}

#[test]
fn every_term_is_explained_in_a_sentence() {
    let mirror = |key: &str| Family::declared("mirror", key);
    let verdict = judge(
        IndicatorType::Url,
        vec![
            strong(claim("a", Reliability::B, Disposition::Malicious), Some(0.9)),
            aged(claim("b", Reliability::B, Disposition::Malicious), 28),
            in_family(claim("c", Reliability::C, Disposition::Benign), mirror("list:c")),
            in_family(claim("d", Reliability::D, Disposition::Benign), mirror("list:d")),
            claim("e", Reliability::F, Disposition::Malicious),
            claim("f", Reliability::A, Disposition::Unknown),
            outcome("g", Reliability::A, OutcomeBody::NoRecord),
            failed("h", Reliability::A),
        ],
    );
    let sentences: Vec<String> = verdict.contributions.iter().map(|term| sentence(&verdict, term)).collect();
    let expected = [
        "Before any source is asked, a chance of 25 % of a looked-up URL being malicious is assumed.",
        "The policy is not corrected by feedback.",
        "a (B) says malicious with strength 0.90, affirmed within the last day: +3.219 nats.",
        "b (B) says malicious, affirmed 28 days ago; with age 44.1 % of its evidence still counts: +1.357 nats.",
        "c (C) says benign, affirmed within the last day: -0.941 nats.",
        "d (D) says benign, affirmed within the last day; since it shares data with others of the family mirror, \
         17.6 % of its -0.501 nats is added: -0.088 nats.",
        "e (F) says malicious, affirmed within the last day; a source that cannot be judged weighs nothing.",
        "f (A) knows it and takes no side.",
        "g (A) has no record of it, which speaks neither for nor against it.",
        "h (A) failed (timeout), which says nothing of the indicator.",
    ];
    assert_eq!(sentences, expected);
    let agrees: Vec<Option<bool>> = verdict.contributions.iter().map(|term| term.agrees).collect();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(agrees, [None, None, yes, yes, no, no, yes, None, None, None]);
}

#[test]
fn the_summary_says_which_claims_weigh_less_than_they_look() {
    let mirror = |key: &str| Family::declared("mirror", key);
    let verdict = judge(
        IndicatorType::Url,
        vec![
            claim("a", Reliability::B, Disposition::Malicious),
            aged(claim("b", Reliability::B, Disposition::Malicious), 28),
            claim("c", Reliability::F, Disposition::Malicious),
            in_family(claim("d", Reliability::C, Disposition::Malicious), mirror("list:d")),
            in_family(claim("e", Reliability::D, Disposition::Malicious), mirror("list:e")),
        ],
    );
    let expected = "5 of 5 sources say malicious (1 faded, 1 mirrored, 1 of letter F): a (B), d (C), b (B), and 2 more";
    assert!(summary(&verdict).ends_with(expected), "{}", summary(&verdict));
    let weightless = judge(IndicatorType::Url, vec![claim("a", Reliability::F, Disposition::Malicious)]);
    let expected = "unknown: nothing that weighs (prior 25 %): 1 of 1 source says malicious (1 of letter F): a (F)";
    assert_eq!(summary(&weightless), expected);
}

#[test]
fn the_location_of_a_list_is_not_in_a_sentence() {
    let list = || Family::same_kind("list:allow.txt#d48a1b2c");
    let verdict = judge(
        IndicatorType::Ip,
        vec![
            in_family(claim("a", Reliability::B, Disposition::Benign), list()),
            in_family(claim("b", Reliability::B, Disposition::Benign), list()),
        ],
    );
    let shown = sentence(&verdict, &verdict.contributions[2]);
    assert!(shown.contains("since the sources of allow.txt are not independent"), "{shown}");
}

#[test]
fn under_xsoar_the_most_reliable_claim_decides_and_a_tie_goes_to_the_worse() {
    let verdict = fuse(
        &policy("xsoar"),
        &indicator(IndicatorType::Ip),
        now(),
        vec![
            claim("a", Reliability::APlus, Disposition::Unknown),
            claim("b", Reliability::B, Disposition::Benign),
            claim("c", Reliability::B, Disposition::Suspicious),
            claim("d", Reliability::C, Disposition::Malicious),
            failed("e", Reliability::A),
        ],
    );
    assert_eq!(verdict.disposition, Disposition::Suspicious);
    assert_eq!(verdict.deciding_source.as_deref(), Some("c"));
    assert_eq!(verdict.probability, None);
    assert_eq!(verdict.log_odds_micro, None);
    assert_eq!(verdict.conflict, None);
    assert!(verdict.contributions.is_empty());
    let expected = "suspicious: c (B) decides; 1 of 5 sources says suspicious: c (B); 1 says malicious: d (C); 1 says \
                    benign: b (B); 1 takes no side; 1 failed: e";
    assert_eq!(summary(&verdict), expected);
}

#[test]
fn under_xsoar_no_claim_is_unknown_and_a_source_rated_f_decides_when_alone() {
    let xsoar = |outcomes| fuse(&policy("xsoar"), &indicator(IndicatorType::Ip), now(), outcomes);
    let silent = xsoar(vec![outcome("a", Reliability::A, OutcomeBody::NoRecord)]);
    assert_eq!(silent.disposition, Disposition::Unknown);
    assert_eq!(silent.deciding_source, None);
    assert_eq!(summary(&silent), "unknown: 1 of 1 source has no record");
    let lone = xsoar(vec![claim("a", Reliability::F, Disposition::Malicious)]);
    assert_eq!(lone.disposition, Disposition::Malicious);
}

#[test]
fn an_answer_counts_before_a_later_failure_of_the_same_source() {
    let mut later = failed("a", Reliability::B);
    later.time += std::time::Duration::from_secs(60);
    let verdict = judge(IndicatorType::Ip, vec![later, claim("a", Reliability::B, Disposition::Malicious)]);
    assert_eq!(verdict.outcomes.len(), 1);
    assert_eq!(term(&verdict, "a"), Some(3_075_775));
}

#[test]
fn calibration_moves_the_sum_as_platt_does_and_says_so() {
    let outcomes =
        || vec![claim("a", Reliability::B, Disposition::Malicious), claim("b", Reliability::A, Disposition::Benign)];
    let plain = judge(IndicatorType::File, outcomes()).log_odds_micro.unwrap();
    let policy = changed(|rule| rule.calibration = Calibration { shift: -0.25, scale: 0.9 });
    let fitted = fuse(&policy, &indicator(IndicatorType::File), now(), outcomes());
    let off = fitted.log_odds_micro.unwrap() as f64 - (-250_000.0 + 0.9 * plain as f64);
    assert!(off.abs() <= 2.0, "off by {off} micro-nats");
    let shown = sentence(&fitted, &fitted.contributions[1]);
    assert_eq!(shown, "Fitting the policy to feedback moves the sum by -0.140 nats.");
}

#[test]
fn a_strong_side_against_a_much_weaker_one_is_no_flagged_conflict() {
    let verdict = judge(
        IndicatorType::Domain,
        vec![
            claim("one", Reliability::APlus, Disposition::Malicious),
            claim("two", Reliability::B, Disposition::Benign),
        ],
    );
    let conflict = verdict.conflict.unwrap();
    assert!(!conflict.flagged, "1.4 nats are under 0.4 of 5.2");
    assert!(conflict.mass > 0.7, "{}", conflict.mass);
}

#[test]
fn of_two_answers_that_weigh_the_same_the_same_one_is_kept_in_any_order() {
    let answer = |tag: &str| {
        let mut outcome = claim("a", Reliability::B, Disposition::Malicious);
        if let OutcomeBody::Finding(finding) = &mut outcome.body {
            finding.tags.push(tag.to_owned());
        }
        outcome
    };
    let one = judge(IndicatorType::Ip, vec![answer("x"), answer("y")]);
    let other = judge(IndicatorType::Ip, vec![answer("y"), answer("x")]);
    assert_eq!(one, other);
}
