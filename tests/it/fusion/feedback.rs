//! What an analyst's word does to a verdict.

use std::time::{Duration, SystemTime};

use concord::finding::{Disposition, NotAskedReason, Outcome, Reliability};
use concord::indicator::IndicatorType;
use concord::verdict::{
    ActiveFeedback, AnalystJudgement, DispositionCause, Feedback, Retraction, Verdict, compare, comparison_summary,
    fuse, reach_sentence, summary,
};

use super::build::{DAY, claim, failed, indicator, not_asked, now, policy};

fn later(days: u64) -> SystemTime {
    now() + Duration::from_secs(days * DAY)
}

fn said(id: &str, judgement: AnalystJudgement, pin: bool) -> Feedback {
    Feedback {
        id: id.into(),
        indicator: indicator(IndicatorType::Domain),
        judgement,
        author: "alice".into(),
        reason: "our scanner".into(),
        pin,
        create_time: now(),
        expire_time: Some(later(30)),
        verdict: None,
        caller: "soar".into(),
        retraction: None,
    }
}

fn judged(name: &str, feedback: &[Feedback]) -> Verdict {
    let outcomes: Vec<Outcome> =
        vec![claim("a", Reliability::B, Disposition::Malicious), failed("b", Reliability::APlus)];
    let verdict = fuse(&policy(name), &indicator(IndicatorType::Domain), now(), outcomes);
    verdict.with_feedback(ActiveFeedback::new(feedback, now()))
}

#[test]
fn a_pin_is_the_verdict_under_every_policy_with_what_the_sources_say_beside_it() {
    for name in ["weighted", "xsoar", "worst", "majority", "mean"] {
        let free = judged(name, &[]);
        let pinned = judged(name, &[said("f1", AnalystJudgement::Benign, true)]);
        assert_eq!(pinned.disposition, Disposition::Benign, "{name}");
        assert_eq!(pinned.sources_disposition, free.disposition, "{name}");
        assert_eq!(pinned.contributions.len(), free.contributions.len());
        assert_eq!((pinned.log_odds_micro, pinned.probability), (free.log_odds_micro, free.probability));
        let start = "benign: pinned by alice (caller soar) until 2024-11-03 (\"our scanner\"); the sources say ";
        assert_eq!(summary(&pinned), format!("{start}{}", summary(&free)));
    }
}

#[test]
fn nothing_that_sources_say_changes_a_pinned_verdict() {
    let free = judged("weighted", &[]);
    assert!(!free.analysis.flips.is_empty() && free.analysis.reach.can_change);
    let pinned = judged("weighted", &[said("f1", AnalystJudgement::FalsePositive, true)]);
    assert!(pinned.analysis.flips.is_empty() && !pinned.analysis.reach.can_change);
    assert_eq!(reach_sentence(&pinned), "No missing answer can change it: it stays benign.");
    assert_eq!(pinned.analysis.margins, free.analysis.margins, "margins are those of the sources");
    let of_a = |verdict: &Verdict| verdict.contributions[2].agrees;
    assert_eq!((of_a(&free), of_a(&pinned)), (Some(true), Some(false)));
}

#[test]
fn the_summary_says_who_was_not_asked_since_the_verdict_is_pinned() {
    let left_out = |source: &str| not_asked(source, Reliability::A, NotAskedReason::Pinned);
    let summary_of = |outcomes: Vec<Outcome>| {
        let verdict = fuse(&policy("weighted"), &indicator(IndicatorType::Domain), now(), outcomes);
        summary(&verdict.with_feedback(ActiveFeedback::new(&[said("f1", AnalystJudgement::Benign, true)], now())))
    };
    let pin = "benign: pinned by alice (caller soar) until 2024-11-03 (\"our scanner\"); ";
    assert_eq!(
        summary_of(vec![left_out("a"), left_out("b")]),
        format!("{pin}2 sources were not asked since it is pinned: a, b")
    );
    let list = claim("list", Reliability::B, Disposition::Malicious);
    assert_eq!(
        summary_of(vec![left_out("a"), list]),
        format!(
            "{pin}the sources say malicious (84.4 %): 1 of 1 source says malicious: list (B); 1 source was not \
             asked since it is pinned: a"
        )
    );
}

#[test]
fn a_word_that_is_not_pinned_is_shown_and_decides_nothing() {
    let noted = judged("weighted", &[said("f1", AnalystJudgement::Benign, false)]);
    let free = judged("weighted", &[]);
    assert_eq!(noted.feedback.len(), 1);
    assert_eq!(Verdict { feedback: Vec::new(), ..noted }, free);
}

#[test]
fn of_several_pins_the_newest_that_is_active_counts() {
    let older = said("f1", AnalystJudgement::Benign, true);
    let newer =
        Feedback { create_time: now() + Duration::from_secs(1), ..said("f2", AnalystJudgement::TruePositive, true) };
    let both = [older.clone(), newer.clone()];
    let active = ActiveFeedback::new(&both, now());
    assert_eq!(active.ids(), ["f2", "f1"]);
    assert_eq!(active.pin.map(|pin| pin.feedback).as_deref(), Some("f2"));
    let retraction =
        Retraction { author: "bob".into(), caller: "soar".into(), reason: "a mistake".into(), time: now() };
    let retracted = [older, Feedback { retraction: Some(retraction), ..newer }];
    assert_eq!(ActiveFeedback::new(&retracted, now()).ids(), ["f1"]);
    assert_eq!(ActiveFeedback::new(&both, later(30)), ActiveFeedback::default(), "a word ends at its end");
}

#[test]
fn a_verdict_that_was_pinned_meanwhile_differs_by_the_pin() {
    let pinned = judged("weighted", &[said("f1", AnalystJudgement::Benign, true)]);
    let comparison = compare(&judged("weighted", &[]), &pinned);
    assert_eq!(comparison.cause, Some(DispositionCause::Pin));
    assert_eq!(comparison.difference_micro, Some(0));
    assert!(comparison.thresholds.is_empty(), "the thresholds are read from the sources' margins");
    let pin = "benign (pinned; the sources say malicious, 84.4 %)";
    assert_eq!(
        comparison_summary(&comparison),
        format!("It went from malicious (84.4 %) to {pin}, by an analyst's word.")
    );
    assert_eq!(
        comparison_summary(&compare(&pinned, &pinned)),
        format!("It stays {pin}; nothing that matters is different.")
    );
    let doubted = judged("weighted", &[said("f2", AnalystJudgement::TruePositive, true)]);
    let kept = comparison_summary(&compare(&judged("weighted", &[]), &doubted));
    assert!(kept.starts_with("It stays malicious (pinned; the sources say malicious, "), "{kept}");
}
