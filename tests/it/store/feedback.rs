//! The part of the contract on what analysts said.

use std::sync::Arc;

use concord::indicator::Indicator;
use concord::store::{Cursor, FeedbackFilter, PageLimit, Store};
use concord::verdict::{AnalystJudgement, Feedback, Retraction};

use super::samples::{at, ip};

pub fn feedback(id: &str, value: &str, seconds: f64, expires: Option<f64>) -> Feedback {
    Feedback {
        id: id.into(),
        indicator: ip(value),
        judgement: AnalystJudgement::FalsePositive,
        author: "alice".into(),
        reason: "our scanner".into(),
        pin: expires.is_some(),
        create_time: at(seconds),
        expire_time: expires.map(at),
        verdict: Some("v1".into()),
        caller: "soar".into(),
        retraction: None,
    }
}

pub fn retraction(reason: &str, seconds: f64) -> Retraction {
    Retraction { author: "bob".into(), caller: "soar".into(), reason: reason.into(), time: at(seconds) }
}

async fn listed(store: &dyn Store, filter: FeedbackFilter) -> Vec<String> {
    let listed = store.list_feedback(filter, PageLimit::rows(10), None).await.expect("listed");
    listed.rows.into_iter().map(|feedback| feedback.id).collect()
}

pub async fn feedback_comes_back_exactly_and_is_recorded_once(store: Arc<dyn Store>) {
    let recorded = feedback("f1", "192.0.2.1", 1.25, Some(9.5));
    store.record_feedback(recorded.clone()).await.expect("recorded");
    assert_eq!(store.feedback("f1").await, Ok(Some(recorded.clone())));
    assert_eq!(store.feedback("f2").await, Ok(None));
    assert!(store.record_feedback(Feedback { reason: "other".into(), ..recorded.clone() }).await.is_err());
    assert_eq!(store.feedback("f1").await, Ok(Some(recorded)));
    let url = Indicator::parse("http://user:secret@example.com/").expect("a URL").indicator;
    store.record_feedback(Feedback { indicator: url.clone(), ..feedback("f3", "192.0.2.1", 2.0, None) }).await.unwrap();
    let kept = store.feedback("f3").await.expect("read").expect("recorded");
    assert!(!kept.indicator.value().contains("secret"));
    let of_url = FeedbackFilter { indicator: Some(url), ..FeedbackFilter::default() };
    assert_eq!(listed(&*store, of_url).await, ["f3"]);
}

pub async fn feedback_is_listed_newest_first_by_indicator_and_by_what_is_active(store: Arc<dyn Store>) {
    for (id, value, seconds, expires) in
        [("f1", "192.0.2.1", 1.0, None), ("f2", "192.0.2.1", 2.0, Some(5.0)), ("f3", "192.0.2.2", 3.0, Some(9.0))]
    {
        store.record_feedback(feedback(id, value, seconds, expires)).await.expect("recorded");
    }
    assert_eq!(listed(&*store, FeedbackFilter::default()).await, ["f3", "f2", "f1"]);
    let of_first = FeedbackFilter { indicator: Some(ip("192.0.2.1")), ..FeedbackFilter::default() };
    assert_eq!(listed(&*store, of_first).await, ["f2", "f1"]);
    let active = |seconds| FeedbackFilter { active_at: Some(at(seconds)), ..FeedbackFilter::default() };
    assert_eq!(listed(&*store, active(4.9)).await, ["f3", "f2", "f1"]);
    assert_eq!(listed(&*store, active(5.0)).await, ["f3", "f1"], "a word ends at its end");
    store.retract_feedback("f1", retraction("a mistake", 6.0)).await.expect("retracted");
    assert_eq!(listed(&*store, active(4.9)).await, ["f3", "f2"]);
    let unretracted = FeedbackFilter { unretracted: true, ..FeedbackFilter::default() };
    assert_eq!(listed(&*store, unretracted).await, ["f3", "f2"], "also what has expired");
    let after = Some(Cursor { time: at(3.0), id: "f3".into() });
    let page = store.list_feedback(FeedbackFilter::default(), PageLimit::rows(1), after).await.expect("page");
    assert_eq!((page.rows[0].id.as_str(), page.has_more), ("f2", true));
}

pub async fn feedback_is_retracted_once_and_stays_on_record(store: Arc<dyn Store>) {
    let recorded = feedback("f1", "192.0.2.1", 1.0, None);
    store.record_feedback(recorded.clone()).await.expect("recorded");
    assert_eq!(store.retract_feedback("f2", retraction("a mistake", 2.0)).await, Ok(None));
    let retracted = Feedback { retraction: Some(retraction("a mistake", 2.0)), ..recorded };
    assert_eq!(store.retract_feedback("f1", retraction("a mistake", 2.0)).await, Ok(Some(retracted.clone())));
    let again = store.retract_feedback("f1", retraction("another", 3.0)).await;
    assert_eq!(again, Ok(Some(retracted.clone())), "the first retraction stays");
    assert_eq!(store.feedback("f1").await, Ok(Some(retracted)));
}

pub async fn pruning_leaves_feedback_that_is_active_however_old(store: Arc<dyn Store>) {
    for (id, expires) in [("f1", None), ("f2", Some(5.0)), ("f3", Some(50.0)), ("f4", None)] {
        store.record_feedback(feedback(id, "192.0.2.1", 1.0, expires)).await.expect("recorded");
    }
    store.retract_feedback("f4", retraction("a mistake", 6.0)).await.expect("retracted");
    assert_eq!(store.prune_feedback(at(5.5)).await, Ok(1));
    assert_eq!(listed(&*store, FeedbackFilter::default()).await, ["f4", "f3", "f1"]);
    assert_eq!(store.prune_feedback(at(7.0)).await, Ok(1));
    assert_eq!(listed(&*store, FeedbackFilter::default()).await, ["f3", "f1"]);
}
