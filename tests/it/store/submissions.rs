//! The part of the contract on submissions.

use std::sync::Arc;

use concord::indicator::{Indicator, Tlp};
use concord::source::Visibility;
use concord::store::{
    AnalysisStatus, Cursor, HoldReason, HoldReasonCode, PageLimit, Store, Submission, SubmissionFilter,
    SubmissionReview, SubmissionState, SubmissionType, SubmittedAnalysis, SubmittedFile, Swap,
};

use super::samples::at;

fn submission(id: &str, seconds: f64, state: SubmissionState) -> Submission {
    Submission {
        id: id.into(),
        revision: 1,
        create_time: at(seconds),
        update_time: at(seconds),
        submitter: "alice".into(),
        source: "virustotal".into(),
        tlp: Tlp::Clear,
        submission_type: SubmissionType::File,
        visibility: Visibility::Private,
        indicator: Indicator::parse(&"ab".repeat(32)).expect("a hash").indicator,
        file: Some(SubmittedFile {
            name: "a.pdf".into(),
            size: 7,
            media_type: "application/pdf".into(),
            md5: "cd".repeat(16),
            sha1: "ef".repeat(20),
        }),
        state,
        hold_reasons: vec![HoldReason {
            code: HoldReasonCode::Marking,
            place: "a.pdf".into(),
            detail: "TLP:AMBER".into(),
        }],
        review: Some(SubmissionReview {
            is_approved: true,
            reviewer: "bob".into(),
            reason: "agreed".into(),
            time: at(3.5),
        }),
        detail: "analysed".into(),
        send_time: Some(at(4.25)),
        recipient: "www.example.com".into(),
        analysis: Some(SubmittedAnalysis { id: "an-1".into(), status: AnalysisStatus::InProgress }),
        is_known: true,
        verdict: Some("v1".into()),
    }
}

async fn put(store: &dyn Store, submission: Submission, expected: u64) -> Swap {
    store.put_submission(submission, expected).await.expect("stored")
}

async fn listed(store: &dyn Store, filter: SubmissionFilter) -> Vec<String> {
    let listed = store.submissions(filter, PageLimit::rows(10), None).await.expect("listed");
    listed.rows.into_iter().map(|row| row.id).collect()
}

pub async fn a_submission_comes_back_exactly_and_changes_by_its_revision(store: Arc<dyn Store>) {
    let first = submission("s1", 1.25, SubmissionState::Held);
    assert_eq!(put(&*store, first.clone(), 0).await, Swap::Done);
    assert_eq!(store.submission("s1").await, Ok(Some(first.clone())));
    assert_eq!(store.submission("s2").await, Ok(None));
    let second = Submission {
        revision: 2,
        update_time: at(9.0),
        state: SubmissionState::Approved,
        file: None,
        review: None,
        analysis: None,
        send_time: None,
        verdict: None,
        ..first.clone()
    };
    assert_eq!(put(&*store, second.clone(), 0).await, Swap::Conflict, "it exists");
    assert_eq!(put(&*store, second.clone(), 1).await, Swap::Done);
    assert_eq!(put(&*store, Submission { revision: 2, ..first }, 1).await, Swap::Conflict, "it was changed");
    assert_eq!(store.submission("s1").await, Ok(Some(second)));
}

pub async fn submissions_are_listed_newest_first_and_the_open_ones_oldest_first(store: Arc<dyn Store>) {
    for (id, seconds, state) in [
        ("s1", 1.0, SubmissionState::Held),
        ("s2", 2.0, SubmissionState::Done),
        ("s3", 3.0, SubmissionState::Uploading),
    ] {
        put(&*store, submission(id, seconds, state), 0).await;
    }
    assert_eq!(listed(&*store, SubmissionFilter::default()).await, ["s3", "s2", "s1"]);
    let held = SubmissionFilter { state: Some(SubmissionState::Held), ..Default::default() };
    assert_eq!(listed(&*store, held).await, ["s1"]);
    let nobodys = SubmissionFilter { submitter: Some("carol".into()), ..Default::default() };
    assert_eq!(listed(&*store, nobodys).await, [""; 0]);
    let of_hash = SubmissionFilter {
        indicator: Some(submission("s", 0.0, SubmissionState::Held).indicator),
        ..Default::default()
    };
    assert_eq!(listed(&*store, of_hash).await.len(), 3);
    let after = Some(Cursor { time: at(3.0), id: "s3".into() });
    let page = store.submissions(SubmissionFilter::default(), PageLimit::rows(1), after).await.expect("listed");
    assert_eq!((page.rows[0].id.as_str(), page.has_more), ("s2", true));
    let open = store.open_submissions().await.expect("read");
    assert_eq!(open.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["s1", "s3"]);
}

pub async fn pruning_leaves_submissions_that_are_open_however_old(store: Arc<dyn Store>) {
    put(&*store, submission("s1", 1.0, SubmissionState::Held), 0).await;
    put(&*store, submission("s2", 2.0, SubmissionState::Rejected), 0).await;
    put(&*store, submission("s3", 9.0, SubmissionState::Failed), 0).await;
    assert_eq!(store.prune_submissions(at(5.0)).await, Ok(1));
    assert_eq!(listed(&*store, SubmissionFilter::default()).await, ["s3", "s1"]);
}
