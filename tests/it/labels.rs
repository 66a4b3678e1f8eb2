//! To which verdicts the labels of analysts belong.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::finding::{Disposition, Family, Finding, NotAsked, NotAskedReason, Outcome, OutcomeBody, Reliability};
use concord::indicator::{Indicator, Tlp};
use concord::pb;
use concord::store::{Store, VerdictRecord};
use concord::verdict::{AnalystJudgement, Feedback, WeightedRule, fuse_without_analysis};

use crate::compare::{compare, serve_filled, suggest};
use crate::harness::TestServer;
use crate::statistics::world::{day, policy};

const ADDRESS: &str = "198.51.100.7";

/// What `alpha` and `bravo` said at a time; `None`: it was not asked.
struct PastVerdict {
    id: &'static str,
    at: SystemTime,
    alpha: Option<Disposition>,
    bravo: Option<Disposition>,
}

fn past_verdict(id: &'static str, at: SystemTime, alpha: Disposition, bravo: Option<Disposition>) -> PastVerdict {
    PastVerdict { id, at, alpha: Some(alpha), bravo }
}

fn hours(number: u64) -> Duration {
    Duration::from_secs(number * 3_600)
}

fn outcome(source: &str, claim: Option<Disposition>, at: SystemTime) -> Outcome {
    let body = match claim {
        Some(claim) => OutcomeBody::Finding(Finding::new(claim, None, "as the test wants it")),
        None => OutcomeBody::NotAsked(NotAsked::new(NotAskedReason::Disabled, "as the test wants it")),
    };
    Outcome {
        source: source.into(),
        kind: "test".into(),
        reliability: Reliability::B,
        family: Family::same_kind(source),
        time: at,
        body,
    }
}

async fn append(store: &dyn Store, id: &str, at: SystemTime, outcomes: Vec<Outcome>) {
    let address = Indicator::parse(ADDRESS).unwrap().indicator;
    let verdict = fuse_without_analysis(&policy(&WeightedRule::built_in()), &address, at, outcomes);
    let record = VerdictRecord {
        id: id.into(),
        create_time: at,
        caller: "soar".into(),
        tlp: Tlp::Amber,
        verdict,
        answers: Vec::new(),
        units: None,
    };
    store.append(Arc::new(record)).await.unwrap();
}

fn word(judgement: AnalystJudgement, at: SystemTime) -> Feedback {
    Feedback {
        id: "f1".into(),
        indicator: Indicator::parse(ADDRESS).unwrap().indicator,
        judgement,
        author: "alice".into(),
        reason: "looked at in a case".into(),
        pin: false,
        create_time: at,
        expire_time: None,
        verdict: None,
        caller: "soar".into(),
        retraction: None,
    }
}

/// A server whose history holds these verdicts on one address, and this word on it.
async fn history(verdicts: &[PastVerdict], word: Feedback) -> TestServer {
    let fill = async |store: &dyn Store| {
        for PastVerdict { id, at, alpha, bravo } in verdicts {
            append(store, id, *at, vec![outcome("alpha", *alpha, *at), outcome("bravo", *bravo, *at)]).await;
        }
        store.record_feedback(word).await.unwrap();
    };
    serve_filled(fill, "", false).await
}

/// True alarms, misses, false alarms and true silence of a source.
fn detected(comparison: &pb::SourceComparison, source: &str) -> Option<[i64; 4]> {
    let name = format!("sources/{source}");
    let source = comparison.sources.iter().find(|each| each.source == name).expect("it is compared");
    let counts = source.performance.as_ref()?;
    Some([counts.true_alarms, counts.missed, counts.false_alarms, counts.true_silence])
}

async fn compare_since(server: &TestServer, from: SystemTime) -> pb::SourceComparison {
    let filter = pb::HistoryFilter { from_time: Some(from.into()), ..Default::default() };
    compare(server, pb::CompareSourcesRequest { filter: Some(filter), ..Default::default() }).await
}

#[tokio::test]
async fn a_label_of_old_says_nothing_of_an_alarm_today() {
    let then = past_verdict("1", day(0), Disposition::Benign, Some(Disposition::Malicious));
    let today = past_verdict("2", day(40), Disposition::Malicious, Some(Disposition::Malicious));
    let server = history(&[then, today], word(AnalystJudgement::Benign, day(1))).await;
    let comparison = compare(&server, pb::CompareSourcesRequest::default()).await;
    assert_eq!((comparison.labelled_malicious, comparison.labelled_benign), (0, 1));
    assert_eq!(detected(&comparison, "alpha"), Some([0, 0, 0, 1]));
    assert_eq!(detected(&comparison, "bravo"), Some([0, 0, 1, 0]));
    let later = compare_since(&server, day(30)).await;
    assert_eq!((later.verdicts, later.labelled_benign), (1, 0));
    assert_eq!(detected(&later, "alpha"), None);
    server.stop().await;
}

#[tokio::test]
async fn a_label_belongs_to_the_nearest_verdict_in_which_a_source_answered() {
    let both = past_verdict("1", day(10), Disposition::Malicious, Some(Disposition::Malicious));
    let one_alone = past_verdict("2", day(10) + hours(4), Disposition::Benign, None);
    let later = past_verdict("3", day(20), Disposition::Benign, Some(Disposition::Benign));
    let word = word(AnalystJudgement::TruePositive, day(10) + hours(5));
    let server = history(&[both, one_alone, later], word).await;
    let comparison = compare(&server, pb::CompareSourcesRequest::default()).await;
    assert_eq!((comparison.labelled_malicious, comparison.labelled_benign), (1, 0));
    assert_eq!(detected(&comparison, "alpha"), Some([0, 1, 0, 0]));
    assert_eq!(detected(&comparison, "bravo"), Some([1, 0, 0, 0]));
    let suggestions = suggest(&server, pb::SuggestReliabilityRequest::default()).await;
    let labels: Vec<_> = suggestions.suggestions.iter().map(|each| (each.source.as_str(), each.labels)).collect();
    assert_eq!(labels, [("sources/alpha", 1), ("sources/bravo", 1)]);
    assert_eq!(suggestions.labels, 1);
    server.stop().await;
}

/// The labels by which each source is judged where labels are not the only word.
async fn labels_among_the_rest(server: &TestServer) -> Vec<(String, i64)> {
    let request = pb::SuggestReliabilityRequest { without_labels: true, ..Default::default() };
    let suggestions = suggest(server, request).await.suggestions;
    suggestions.into_iter().map(|each| (each.source, each.labels)).collect()
}

#[tokio::test]
async fn without_labels_alone_a_label_counts_for_each_source_where_it_belongs_to_its_answer() {
    let malicious = Disposition::Malicious;
    let both = [("sources/alpha".to_owned(), 1), ("sources/bravo".to_owned(), 1)];
    // Of one source it is in the verdict before, of another day or of the same.
    for before in [day(8), day(10)] {
        let verdicts = [
            past_verdict("1", before, malicious, Some(malicious)),
            past_verdict("2", day(10) + hours(4), malicious, None),
        ];
        let server = history(&verdicts, word(AnalystJudgement::TruePositive, day(10) + hours(5))).await;
        assert_eq!(labels_among_the_rest(&server).await, both);
        server.stop().await;
    }
    // The verdict that it belongs to is not the newest of its day.
    let verdicts =
        [("1", day(10)), ("2", day(10) + hours(4))].map(|(id, at)| past_verdict(id, at, malicious, Some(malicious)));
    let word = Feedback { verdict: Some("1".into()), ..word(AnalystJudgement::TruePositive, day(10)) };
    let server = history(&verdicts, word).await;
    assert_eq!(labels_among_the_rest(&server).await, both);
    server.stop().await;
}

#[tokio::test]
async fn a_label_belongs_to_the_verdict_that_the_analyst_named() {
    let named = past_verdict("1", day(0), Disposition::Benign, None);
    let newer = past_verdict("2", day(39), Disposition::Malicious, None);
    let word = Feedback { verdict: Some("1".into()), ..word(AnalystJudgement::Benign, day(40)) };
    let server = history(&[named, newer], word).await;
    let comparison = compare(&server, pb::CompareSourcesRequest::default()).await;
    assert_eq!(detected(&comparison, "alpha"), Some([0, 0, 0, 1]));
    assert_eq!(detected(&comparison, "bravo"), None);
    server.stop().await;
}

#[tokio::test]
async fn a_label_that_has_expired_says_nothing_of_later_verdicts() {
    let later = past_verdict("1", day(15), Disposition::Malicious, Some(Disposition::Benign));
    let word = Feedback { expire_time: Some(day(12)), ..word(AnalystJudgement::Benign, day(10)) };
    let server = history(&[later], word).await;
    let comparison = compare(&server, pb::CompareSourcesRequest::default()).await;
    assert_eq!((comparison.labelled_malicious, comparison.labelled_benign), (0, 0));
    assert_eq!(detected(&comparison, "alpha"), None);
    server.stop().await;
}

#[tokio::test]
async fn outcomes_of_sources_beyond_the_most_that_are_compared_are_counted() {
    let fill = async |store: &dyn Store| {
        let names = (0..130).map(|number| format!("source-{number}"));
        let outcomes = names.map(|name| outcome(&name, Some(Disposition::Benign), day(10))).collect();
        append(store, "1", day(10), outcomes).await;
    };
    let server = serve_filled(fill, "", false).await;
    let comparison = compare(&server, pb::CompareSourcesRequest::default()).await;
    assert_eq!((comparison.sources.len(), comparison.left_out), (128, 2));
    server.stop().await;
}
