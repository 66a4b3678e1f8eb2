//! What analysts say: recorded, pinned, listed, retracted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use concord::clock::{Clock, ManualClock};
use concord::pb;
use tempfile::TempDir;
use tonic::Code;

use crate::harness::{Replay, TestServer, indicator, malicious_virustotal, start_time, violated, virustotal_at};
use crate::verdict_diff::concord;

const DAY: Duration = Duration::from_secs(86_400);

async fn started() -> (Replay, TestServer) {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::start(&virustotal_at(virustotal.address)).await;
    (virustotal, server)
}

fn said(value: &str, judgement: pb::Judgement) -> pb::RecordFeedbackRequest {
    pb::RecordFeedbackRequest {
        indicator: Some(indicator(value)),
        judgement: judgement.into(),
        author: "alice".into(),
        reason: "our scanner".into(),
        ..Default::default()
    }
}

fn pinned(value: &str, judgement: pb::Judgement, until: SystemTime) -> pb::RecordFeedbackRequest {
    pb::RecordFeedbackRequest { pin: true, expire_time: Some(until.into()), ..said(value, judgement) }
}

async fn record(server: &TestServer, request: pb::RecordFeedbackRequest) -> pb::Feedback {
    server.verdicts().record_feedback(request).await.unwrap().into_inner().feedback.unwrap()
}

async fn retract(server: &TestServer, name: &str) -> pb::RetractFeedbackResponse {
    let request = pb::RetractFeedbackRequest { name: name.into(), reason: "a mistake".into(), ..Default::default() };
    server.verdicts().retract_feedback(request).await.unwrap().into_inner()
}

async fn listed(server: &TestServer, request: pb::ListFeedbackRequest) -> Vec<pb::Feedback> {
    server.verdicts().list_feedback(request).await.unwrap().into_inner().feedback
}

#[tokio::test]
async fn a_pin_is_the_verdict_until_it_expires_and_a_cached_verdict_never_hides_it() {
    let (_virustotal, server) = started().await;
    let before = server.enrich("198.51.100.7").await.verdict;
    assert_eq!(before.disposition(), pb::Disposition::Malicious);
    assert_eq!(before.sources_disposition(), pb::Disposition::Malicious);
    let until = server.clock.now() + Duration::from_secs(100);
    let feedback = record(&server, pinned("198.51.100.7", pb::Judgement::FalsePositive, until)).await;
    assert_eq!(feedback.disposition(), pb::Disposition::Benign);
    assert!(feedback.active && feedback.name.starts_with("feedback/"));

    let verdict = server.enrich("198.51.100.7").await.verdict;
    assert_eq!(verdict.disposition(), pb::Disposition::Benign);
    assert_eq!(verdict.dbot_score, 1);
    assert_eq!(verdict.sources_disposition(), pb::Disposition::Malicious);
    assert!(verdict.summary.starts_with("benign: pinned by alice (caller local) until "), "{}", verdict.summary);
    assert!(verdict.summary.contains("(\"our scanner\"); the sources say malicious ("), "{}", verdict.summary);
    let pin = verdict.pin.unwrap();
    assert_eq!((pin.feedback.as_str(), pin.judgement()), (feedback.name.as_str(), pb::Judgement::FalsePositive));
    assert_eq!((pin.author.as_str(), pin.caller.as_str()), ("alice", "local"), "an author is anybody's word");
    let other = server.enrich("198.51.100.8").await.verdict;
    assert_eq!((other.disposition(), other.pin), (pb::Disposition::Malicious, None));

    server.clock.advance(Duration::from_secs(99));
    assert_eq!(server.enrich("198.51.100.7").await.verdict.disposition(), pb::Disposition::Benign);
    server.clock.advance(Duration::from_secs(1));
    let after = server.enrich("198.51.100.7").await.verdict;
    assert_eq!((after.disposition(), after.pin), (pb::Disposition::Malicious, None), "the pin has expired");
    server.stop().await;
}

#[tokio::test]
async fn a_url_with_a_password_is_not_pinned_since_it_is_stored_masked() {
    let (_virustotal, server) = started().await;
    let until = server.clock.now() + DAY;
    // Masking it leaves what other URLs, with other passwords, leave as well.
    for value in
        ["http://user:secret@www.example.com/", "http://www.example.com/?to=http%3A%2F%2Fu%3Ap%40files.example.com"]
    {
        let refused = server.verdicts().record_feedback(pinned(value, pb::Judgement::Benign, until)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{value}");
        assert!(refused.message().starts_with("pin: "), "{}", refused.message());
        assert!(!refused.message().contains("secret"), "{}", refused.message());
        record(&server, said(value, pb::Judgement::Benign)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn one_indicator_holds_a_hundred_words_and_another_is_taken_once_one_is_retracted() {
    let (_virustotal, server) = started().await;
    let mut first = None;
    for _ in 0..100 {
        let name = record(&server, said("198.51.100.7", pb::Judgement::Benign)).await.name;
        first.get_or_insert(name);
    }
    let mut client = server.verdicts();
    let refused = client.record_feedback(said("198.51.100.7", pb::Judgement::Benign)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    record(&server, said("198.51.100.8", pb::Judgement::Benign)).await;
    retract(&server, &first.unwrap()).await;
    record(&server, said("198.51.100.7", pb::Judgement::Benign)).await;
    server.stop().await;
}

#[tokio::test]
async fn retracted_feedback_ends_at_once_and_stays_on_record() {
    let (_virustotal, server) = started().await;
    let until = server.clock.now() + DAY;
    let feedback = record(&server, pinned("198.51.100.7", pb::Judgement::Benign, until)).await;
    assert_eq!(server.enrich("198.51.100.7").await.verdict.disposition(), pb::Disposition::Benign);
    let answer = retract(&server, &feedback.name).await;
    assert!(!answer.was_retracted);
    let retracted = answer.feedback.unwrap();
    assert!(!retracted.active);
    let retraction = retracted.retraction.clone().unwrap();
    let by = (retraction.author.as_str(), retraction.caller.as_str(), retraction.reason.as_str());
    assert_eq!(by, ("local", "local", "a mistake"));
    server.clock.advance(Duration::from_secs(1));
    let again = pb::RetractFeedbackResponse { feedback: Some(retracted.clone()), was_retracted: true };
    assert_eq!(retract(&server, &feedback.name).await, again, "retracting again changes nothing and says so");
    assert_eq!(server.enrich("198.51.100.7").await.verdict.disposition(), pb::Disposition::Malicious);
    assert_eq!(listed(&server, pb::ListFeedbackRequest::default()).await, [retracted]);
    let active = pb::ListFeedbackRequest { active_only: true, ..Default::default() };
    assert!(listed(&server, active).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn feedback_that_is_not_pinned_is_shown_beside_the_verdict_and_decides_nothing() {
    let (_virustotal, server) = started().await;
    let verdict = server.enrich("198.51.100.7").await.verdict;
    let about = pb::RecordFeedbackRequest {
        indicator: None,
        verdict: verdict.name.clone(),
        author: String::new(),
        ..said("", pb::Judgement::FalsePositive)
    };
    let feedback = record(&server, about).await;
    assert_eq!(feedback.indicator.unwrap().value, "198.51.100.7", "the indicator of the verdict is meant");
    assert_eq!((feedback.verdict, feedback.author.as_str()), (verdict.name, "local"));
    let noted = server.enrich("198.51.100.7").await.verdict;
    assert_eq!((noted.disposition(), noted.pin), (pb::Disposition::Malicious, None));
    assert_eq!(noted.feedback[0].judgement(), pb::Judgement::FalsePositive);
    server.stop().await;
}

#[tokio::test]
async fn a_pin_survives_a_restart() {
    let virustotal = malicious_virustotal().await;
    let (folder, clock) = (Arc::new(TempDir::new().unwrap()), Arc::new(ManualClock::new(start_time())));
    let configuration = virustotal_at(virustotal.address);
    let server = TestServer::start_on(folder.clone(), clock.clone(), &configuration).await;
    record(&server, pinned("198.51.100.7", pb::Judgement::Benign, clock.now() + DAY)).await;
    let given = server.enrich("198.51.100.7").await.verdict;
    server.stop().await;
    let server = TestServer::start_on(folder, clock, &configuration).await;
    let kept = pb::GetVerdictRequest { name: given.name.clone(), view: 0 };
    assert_eq!(server.verdicts().get_verdict(kept).await.unwrap().into_inner().verdict.unwrap(), given);
    assert_eq!(server.enrich("198.51.100.7").await.verdict.disposition(), pb::Disposition::Benign);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_starts_with_its_clock_ahead_forgets_no_pin() {
    let virustotal = malicious_virustotal().await;
    let (folder, clock) = (Arc::new(TempDir::new().unwrap()), Arc::new(ManualClock::new(start_time())));
    let configuration = virustotal_at(virustotal.address);
    let server = TestServer::start_on(folder.clone(), clock.clone(), &configuration).await;
    record(&server, pinned("198.51.100.7", pb::Judgement::Benign, clock.now() + DAY)).await;
    server.stop().await;
    clock.set_wall(start_time() + 2 * DAY);
    let server = TestServer::start_on(folder, clock.clone(), &configuration).await;
    assert_eq!(server.enrich("198.51.100.7").await.verdict.disposition(), pb::Disposition::Malicious);
    clock.set_wall(start_time() + Duration::from_secs(60));
    let verdict = server.enrich("198.51.100.7").await.verdict;
    assert_eq!(verdict.disposition(), pb::Disposition::Benign, "it holds until its end");
    server.stop().await;
}

#[tokio::test]
async fn wrong_feedback_is_refused_with_every_field_that_is_wrong() {
    let (_virustotal, server) = started().await;
    let refused = async |request| server.verdicts().record_feedback(request).await.unwrap_err();
    let now = server.clock.now();
    let everything = pb::RecordFeedbackRequest {
        author: "x".repeat(129),
        reason: "two\nlines".into(),
        request_id: "a b".into(),
        expire_time: Some((now - DAY).into()),
        ..said("no indicator", pb::Judgement::Unspecified)
    };
    let all = refused(everything).await;
    assert_eq!(all.code(), Code::InvalidArgument);
    let mut fields = violated(&all);
    fields.sort();
    assert_eq!(fields, ["author", "expire_time", "indicator.value", "judgement", "reason", "request_id"]);
    let endless = pb::RecordFeedbackRequest { pin: true, ..said("198.51.100.7", pb::Judgement::Benign) };
    assert_eq!(violated(&refused(endless).await), ["expire_time"]);
    let past = pinned("198.51.100.7", pb::Judgement::Benign, now);
    assert_eq!(violated(&refused(past).await), ["expire_time"]);
    let too_long = pinned("198.51.100.7", pb::Judgement::Benign, now + 367 * DAY);
    assert_eq!(violated(&refused(too_long).await), ["expire_time"]);
    let unreasoned = pb::RecordFeedbackRequest { reason: " ".into(), ..said("198.51.100.7", pb::Judgement::Benign) };
    assert_eq!(violated(&refused(unreasoned).await), ["reason"]);
    let verdict = server.enrich("198.51.100.7").await.verdict.name;
    let other = pb::RecordFeedbackRequest { verdict, ..said("198.51.100.8", pb::Judgement::Benign) };
    assert_eq!(violated(&refused(other).await), ["verdict"]);
    let missing =
        pb::RecordFeedbackRequest { verdict: "verdicts/nothing".into(), ..said("198.51.100.8", pb::Judgement::Benign) };
    assert_eq!(refused(missing).await.code(), Code::NotFound);
    let unknown = pb::RetractFeedbackRequest {
        name: "feedback/nothing".into(),
        reason: "a mistake".into(),
        ..Default::default()
    };
    assert_eq!(server.verdicts().retract_feedback(unknown).await.unwrap_err().code(), Code::NotFound);
    assert!(listed(&server, pb::ListFeedbackRequest::default()).await.is_empty(), "nothing was recorded");
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_request_records_once_and_a_checked_one_not_at_all() {
    let (_virustotal, server) = started().await;
    let once = pb::RecordFeedbackRequest { request_id: "r1".into(), ..said("198.51.100.7", pb::Judgement::Benign) };
    let first = record(&server, once.clone()).await;
    assert_eq!(record(&server, once.clone()).await, first);
    let reused = pb::RecordFeedbackRequest { reason: "another".into(), ..once };
    assert_eq!(violated(&server.verdicts().record_feedback(reused).await.unwrap_err()), ["request_id"]);
    let checked =
        pb::RecordFeedbackRequest { validate_only: true, ..said("198.51.100.9", pb::Judgement::TruePositive) };
    let checked = record(&server, checked).await;
    assert_eq!((checked.name.as_str(), checked.disposition()), ("", pb::Disposition::Malicious));
    assert_eq!(listed(&server, pb::ListFeedbackRequest::default()).await, [first]);
    server.stop().await;
}

#[tokio::test]
async fn feedback_is_listed_page_by_page_and_by_indicator() {
    let (_virustotal, server) = started().await;
    for value in ["198.51.100.1", "198.51.100.2", "198.51.100.1"] {
        record(&server, said(value, pb::Judgement::Benign)).await;
        server.clock.advance(Duration::from_secs(1));
    }
    let request = pb::ListFeedbackRequest { page_size: 2, ..Default::default() };
    let page = server.verdicts().list_feedback(request.clone()).await.unwrap().into_inner();
    assert_eq!(page.feedback.len(), 2);
    let rest = listed(&server, pb::ListFeedbackRequest { page_token: page.next_page_token, ..request }).await;
    assert_eq!(rest.len(), 1);
    let of_one = pb::ListFeedbackRequest { indicator: Some(indicator("198.51.100.1")), ..Default::default() };
    assert_eq!(listed(&server, of_one).await.len(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_is_recorded_shown_listed_and_retracted_at_the_command_line() {
    let virustotal = malicious_virustotal().await;
    let server = TestServer::listen(&virustotal_at(virustotal.address)).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let run = async |arguments: &[&str]| {
        let output = concord(&server, arguments).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let until = (server.clock.now() + 30 * DAY).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let until = jiff::Timestamp::from_second(i64::try_from(until).unwrap()).unwrap().to_string();
    let record = ["feedback", "record", "198.51.100.7", "--benign", "--reason", "our scanner", "--author", "alice"];
    let shown = run(&[&record[..], &["--pin", "--until", &until]].concat()).await;
    assert!(shown.contains("198.51.100.7") && shown.contains("pinned until"), "{shown}");
    let shown = run(&["enrich", "198.51.100.7"]).await;
    assert!(shown.starts_with("benign  198.51.100.7\n  pinned by alice (caller local) until "), "{shown}");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&shown).contains("the sources say malicious"), "{shown}");
    let shown = run(&["enrich", "198.51.100.7", "--compare=xsoar"]).await;
    assert!(words(&shown).contains("compared with what the sources say (malicious), not with the pin"), "{shown}");
    let listed = run(&["feedback", "list", "--active", "-o", "json"]).await;
    let documents: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let name = documents[0]["name"].as_str().unwrap();
    assert_eq!(documents[0]["judgement"], "JUDGEMENT_BENIGN");
    let retract = ["feedback", "retract", name, "--reason", "a mistake"];
    assert_eq!(run(&retract).await, format!("retracted {name}\n"));
    server.clock.advance(Duration::from_secs(1));
    let again = run(&retract).await;
    assert!(again.starts_with(&format!("{name} was retracted before, by local at ")), "{again}");
    assert!(run(&["feedback", "list"]).await.contains("alice (caller local)"));
    assert!(run(&["feedback", "list"]).await.contains("retracted by local"));
    let refused = concord(&server, &record[..5]).await;
    assert_eq!(refused.status.code(), Some(2), "a judgement without its reason: {}", text(&refused.stderr));
    server.stop().await;
}
