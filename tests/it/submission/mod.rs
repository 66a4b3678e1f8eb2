//! Submissions over the API: what is refused, held, approved, sent once and followed to its verdict.

mod evasion;
mod inspection;
mod private;
mod receiver;
mod refusals;
pub mod samples;
mod states;
mod terminal;

use std::time::Duration;

use concord::clock::{Clock, SystemClock};
use concord::indicator::hex;
use concord::pb;
use concord::pb::submit_file_request::Part;
use tonic::{Code, Request};

use self::receiver::{Behaviour, Receiver, file_of};
use crate::harness::{PATIENCE, TestServer, indicator, violated};

/// SHA-256 of `token` and of `other`.
const TOKENS: &str = "[tokens]\nsoar = \"3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0\"\n\
                      lead = \"d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa\"\n";
/// An approver beside `local`, who submits in these tests.
const RULES: &str = "[submissions]\nsubmitters = [\"local\"]\napprovers = [\"local\", \"soar\"]\n\
                     sensitive_words = [\"falcon\"]\n[submissions.sources.virustotal]\nenabled = true\n";

/// The longest pause between two questions of a submission; the timeouts of these tests are longer.
const PAUSE: Duration = Duration::from_secs(240);

/// Contents that a rule names, each by another hash.
const NEVER: [(&[u8], &str); 3] = [
    (b"never leaves", "278c490843c201d671095ce2bf54c0e4eb83e24c018b63554c4a8ee42238a54a"),
    (b"never leaves by its MD5", "1a9ef6f4aab2f67890042b23aba933b3"),
    (b"never leaves by its SHA-1", "65d89407910098c373d4f8a4c0757f539f171006"),
];

fn sha256(content: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content).as_ref())
}

/// Long timeouts: the clock of these tests skips the pauses between questions, which are shorter.
fn configuration(receiver: &Receiver, rules: &str) -> String {
    format!(
        "default_deadline = \"10m\"\nnever_send = [\"never.example.org\", {}]\n{TOKENS}{rules}\
         [sources.virustotal]\nkind = \"virustotal\"\ncredential = \"s3cret-credential\"\ntimeout = \"5m\"\n\
         base_url = \"http://{}\"\nquota = {{ month = 100000 }}\n",
        NEVER.map(|content| format!("{:?}", content.1)).join(", "),
        receiver.address
    )
}

async fn started(behaviour: Behaviour) -> (Receiver, TestServer) {
    let receiver = Receiver::start(behaviour).await;
    let server = TestServer::start(&configuration(&receiver, RULES)).await;
    server.clock.skip_sleeps(PAUSE);
    (receiver, server)
}

fn header(name: &str) -> pb::SubmittedFileHeader {
    pb::SubmittedFileHeader {
        source: "sources/virustotal".into(),
        file_name: name.into(),
        tlp: pb::Tlp::Clear.into(),
        ..Default::default()
    }
}

async fn submit_parts(server: &TestServer, parts: Vec<Part>) -> Result<pb::Submission, tonic::Status> {
    let parts = parts.into_iter().map(|part| pb::SubmitFileRequest { part: Some(part) });
    let answer = server.submissions().submit_file(tokio_stream::iter(parts.collect::<Vec<_>>())).await?;
    Ok(answer.into_inner().submission.unwrap())
}

async fn submit(server: &TestServer, name: &str, content: &[u8]) -> pb::Submission {
    let pieces = content.chunks(100_000).map(|piece| Part::Content(piece.to_vec()));
    let parts = std::iter::once(Part::Header(header(name))).chain(pieces).collect();
    submit_parts(server, parts).await.unwrap()
}

fn url_request(url: &str) -> pb::SubmitUrlRequest {
    pb::SubmitUrlRequest {
        source: "sources/virustotal".into(),
        url: url.into(),
        tlp: pb::Tlp::Clear.into(),
        ..Default::default()
    }
}

async fn submit_url(server: &TestServer, url: &str) -> pb::Submission {
    server.submissions().submit_url(url_request(url)).await.unwrap().into_inner().submission.unwrap()
}

async fn get(server: &TestServer, name: &str) -> pb::Submission {
    let request = pb::GetSubmissionRequest { name: name.into() };
    server.submissions().get_submission(request).await.unwrap().into_inner().submission.unwrap()
}

/// Every state that it passes until it is final or held.
async fn watched(server: &TestServer, name: &str) -> Vec<pb::Submission> {
    let request = pb::WatchSubmissionRequest { name: name.into() };
    let mut stream = server.submissions().watch_submission(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        seen.push(message.submission.unwrap());
        if seen.last().is_some_and(|last| last.state() == pb::SubmissionState::Held) {
            break;
        }
    }
    seen
}

async fn ended(server: &TestServer, name: &str) -> pb::Submission {
    watched(server, name).await.pop().unwrap()
}

/// Approves as the caller `soar`, over the network.
fn as_soar<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", "Bearer token".parse().unwrap());
    request
}

fn reasons(submission: &pb::Submission) -> Vec<pb::HoldReasonCode> {
    submission.hold_reasons.iter().map(pb::HoldReason::code).collect()
}

#[tokio::test]
async fn a_clean_file_goes_up_once_under_its_hash_and_ends_with_a_verdict_in_the_history() {
    let (receiver, server) = started(Behaviour::default()).await;
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 250) as u8).collect();
    let submission = submit(&server, "quarterly plan.bin", &content).await;
    let last = ended(&server, &submission.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert!(!last.already_known && last.send_time.is_some());
    assert_eq!((last.analysis_id.as_str(), last.recipient.as_str()), ("an-1", "127.0.0.1"));
    let submitted = receiver.submitted();
    assert_eq!(submitted.len(), 1);
    assert!(file_of(&submitted[0].1) == content, "as it was");
    let form = String::from_utf8_lossy(&submitted[0].1);
    let hash = &last.indicator.as_ref().unwrap().value;
    assert!(form.contains(&format!("filename=\"{hash}\"")) && !form.contains("quarterly"), "its name stays here");
    let request = pb::GetVerdictRequest { name: last.verdict.clone(), view: 0 };
    let verdict = server.verdicts().get_verdict(request).await.unwrap().into_inner().verdict.unwrap();
    assert_eq!(verdict.disposition(), pb::Disposition::Malicious);
    assert_eq!(std::fs::read_dir(server.folder.path().join("data/spool")).unwrap().count(), 0, "the spool is empty");
    let disclosures = server.sources().list_disclosures(pb::ListDisclosuresRequest::default()).await.unwrap();
    let uploads = disclosures.into_inner().disclosures;
    let uploads: Vec<_> = uploads.iter().filter(|entry| entry.submission == submission.name).collect();
    assert_eq!(uploads.len(), 1, "the ledger tells an upload from look-ups");
    server.stop().await;
}

#[tokio::test]
async fn a_known_file_is_not_uploaded_and_its_report_is_the_answer() {
    let (receiver, server) = started(Behaviour::default()).await;
    receiver.learn(&sha256(b"project FALCON"));
    let last = ended(&server, &submit(&server, "known.txt", b"project FALCON").await.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done);
    assert!(last.already_known && last.send_time.is_none() && !last.verdict.is_empty());
    assert!(receiver.submitted().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_taken_before_it_is_enabled_nor_above_the_label_nor_from_others() {
    let receiver = Receiver::start(Behaviour::default()).await;
    let cases = [
        ("", pb::Tlp::Clear, Code::FailedPrecondition, "not enabled"),
        (
            "[submissions.sources.virustotal]\nenabled = false\n",
            pb::Tlp::Clear,
            Code::FailedPrecondition,
            "not enabled",
        ),
        (
            "[submissions.sources.virustotal]\nenabled = true\n",
            pb::Tlp::Green,
            Code::InvalidArgument,
            "TLP:GREEN is above",
        ),
        (
            "[submissions.sources.virustotal]\nenabled = true\n",
            pb::Tlp::Unspecified,
            Code::InvalidArgument,
            "TLP:AMBER is above",
        ),
        (
            "[submissions]\nsubmitters = [\"soar\"]\n[submissions.sources.virustotal]\nenabled = true\n",
            pb::Tlp::Clear,
            Code::PermissionDenied,
            "local may not submit",
        ),
    ];
    for (rules, tlp, code, message) in cases {
        let server = TestServer::start(&configuration(&receiver, rules)).await;
        let refused = |refused: tonic::Status| {
            assert_eq!(refused.code(), code, "{rules}");
            assert!(refused.message().contains(message), "{refused}");
        };
        let header = pb::SubmittedFileHeader { tlp: tlp.into(), ..header("a") };
        refused(submit_parts(&server, vec![Part::Header(header), Part::Content(b"x".to_vec())]).await.unwrap_err());
        let request = pb::SubmitUrlRequest { tlp: tlp.into(), ..url_request("https://evil.example.org/") };
        refused(server.submissions().submit_url(request).await.unwrap_err());
        let listed = server.submissions().list_submissions(pb::ListSubmissionsRequest::default()).await.unwrap();
        assert!(listed.into_inner().submissions.is_empty());
        server.stop().await;
    }
    assert!(receiver.submitted().is_empty());
}

#[tokio::test]
async fn what_a_never_send_rule_names_is_rejected_on_record() {
    let (receiver, server) = started(Behaviour::default()).await;
    for url in [
        "https://www.never.example.org/x",
        "http://10.1.2.3/",
        "https://evil.example.org/?u=https://never.example.org/",
    ] {
        let submission = submit_url(&server, url).await;
        assert_eq!(submission.state(), pb::SubmissionState::Rejected, "{url}");
        assert!(!submission.detail.is_empty());
    }
    for (content, hash) in NEVER {
        let file = submit(&server, "a.bin", content).await;
        assert_eq!(file.state(), pb::SubmissionState::Rejected, "{hash}");
        assert!(file.detail.contains(hash), "{file:?}");
    }
    assert_eq!(std::fs::read_dir(server.folder.path().join("data/spool")).unwrap().count(), 0);
    assert!(receiver.submitted().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_url_is_shown_in_normal_form_and_sent_as_it_was_shown() {
    let (receiver, server) = started(Behaviour::default()).await;
    let request = pb::SubmitUrlRequest { validate_only: true, ..url_request("hxxp://Evil[.]example[.]org:80/a") };
    let shown = server.submissions().submit_url(request).await.unwrap().into_inner().submission.unwrap();
    assert_eq!(shown.name, "");
    let normal = shown.indicator.unwrap().value;
    assert_eq!(normal, "http://evil.example.org/a");
    let last = ended(&server, &submit_url(&server, "hxxp://Evil[.]example[.]org:80/a").await.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    let submitted = receiver.submitted();
    assert_eq!(submitted, [("/urls".to_owned(), b"url=http%3A%2F%2Fevil.example.org%2Fa".to_vec())]);
    server.stop().await;
}

#[tokio::test]
async fn a_held_submission_waits_for_another_caller_and_nothing_leaves_meanwhile() {
    let receiver = Receiver::start(Behaviour::default()).await;
    let server =
        TestServer::listen(&configuration(&receiver, &RULES.replace("[\"local\"]\napp", "[\"soar\"]\napp"))).await;
    server.clock.skip_sleeps(PAUSE);
    let request = as_soar(url_request("https://evil.example.org/?token=s3cr3tvalue"));
    let submission = server.submissions().submit_url(request).await.unwrap().into_inner().submission.unwrap();
    let watch = as_soar(pb::WatchSubmissionRequest { name: submission.name.clone() });
    let mut stream = server.submissions().watch_submission(watch).await.unwrap().into_inner();
    let held = loop {
        let seen = stream.message().await.unwrap().unwrap().submission.unwrap();
        if seen.state() == pb::SubmissionState::Held {
            break seen;
        }
    };
    assert_eq!(reasons(&held), [pb::HoldReasonCode::Credential]);
    assert!(held.expire_time.is_some() && !format!("{:?}", held.hold_reasons).contains("s3cr3t"));
    let approve = |reason: &str| pb::ApproveSubmissionRequest { name: held.name.clone(), reason: reason.into() };
    let own = server.submissions().approve_submission(as_soar(approve("mine"))).await.unwrap_err();
    assert_eq!(own.code(), Code::PermissionDenied, "{own}");
    assert!(own.message().contains("another caller"), "{own}");
    let mut stranger = Request::new(approve("mine"));
    stranger.metadata_mut().insert("authorization", "Bearer other".parse().unwrap());
    let stranger = server.submissions().approve_submission(stranger).await.unwrap_err();
    assert!(matches!(stranger.code(), Code::PermissionDenied | Code::Unauthenticated), "{stranger}");
    assert!(receiver.submitted().is_empty() && receiver.asked().is_empty(), "nothing left while it is held");
    // The socket in the data directory is the caller `local`.
    let local = local(&server).await;
    let mut approver = pb::submission_service_client::SubmissionServiceClient::new(local);
    let no_reason = approver.approve_submission(approve(" ")).await.unwrap_err();
    assert_eq!(violated(&no_reason), ["reason"]);
    approver.approve_submission(approve("the token has expired")).await.unwrap();
    let mut last = held;
    while let Some(message) = stream.message().await.unwrap() {
        last = message.submission.unwrap();
    }
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    let review = last.review.unwrap();
    assert_eq!((review.reviewer.as_str(), review.reason.as_str()), ("local", "the token has expired"));
    assert_eq!(receiver.submitted().len(), 1);
    let again = approver.approve_submission(pb::ApproveSubmissionRequest { name: last.name, reason: "x".into() }).await;
    assert_eq!(again.unwrap_err().code(), Code::FailedPrecondition);
    server.stop().await;
}

/// A connection over the socket in the data directory.
async fn local(server: &TestServer) -> tonic::transport::Channel {
    let path = server.folder.path().join("data/concord.sock");
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    tonic::transport::Endpoint::from_static("http://local").connect_with_connector(connector).await.unwrap()
}

#[tokio::test]
async fn its_submitter_may_withdraw_what_is_held_and_its_file_is_removed() {
    let (receiver, server) = started(Behaviour::default()).await;
    let held = ended(&server, &submit(&server, "a.txt", b"project FALCON").await.name).await;
    assert_eq!(held.state(), pb::SubmissionState::Held);
    assert_eq!(reasons(&held), [pb::HoldReasonCode::SensitiveWord]);
    let spool = server.folder.path().join("data/spool");
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 1);
    let request = pb::RejectSubmissionRequest { name: held.name.clone(), reason: "a mistake".into() };
    server.submissions().reject_submission(request).await.unwrap();
    assert_eq!(ended(&server, &held.name).await.state(), pb::SubmissionState::Rejected);
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
    assert!(receiver.submitted().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn what_nobody_reviews_expires_and_its_file_is_removed_also_after_a_restart() {
    let (receiver, server) = started(Behaviour::default()).await;
    let held = ended(&server, &submit(&server, "a.txt", b"project FALCON").await.name).await;
    let (folder, clock) = (server.folder.clone(), server.clock.clone());
    server.stop().await;
    clock.advance(Duration::from_secs(6 * 86_400));
    let server = TestServer::start_on(folder.clone(), clock, &configuration(&receiver, RULES)).await;
    assert_eq!(get(&server, &held.name).await.state(), pb::SubmissionState::Held);
    let watch = pb::WatchSubmissionRequest { name: held.name.clone() };
    let mut stream = server.submissions().watch_submission(watch).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    server.clock.advance(Duration::from_secs(86_400));
    let last = stream.message().await.unwrap().unwrap().submission.unwrap();
    assert_eq!(last.state(), pb::SubmissionState::Expired);
    assert!(stream.message().await.unwrap().is_none(), "the last state ends the stream");
    server.stop().await;
    assert_eq!(std::fs::read_dir(folder.path().join("data/spool")).unwrap().count(), 0);
    assert!(receiver.submitted().is_empty());
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_never_repeated() {
    let (receiver, server) = started(Behaviour { is_silent: true, ..Behaviour::default() }).await;
    let submission = submit(&server, "a.bin", b"some content").await;
    receiver.received(1).await;
    // Longer than an upload may take.
    server.clock.advance(Duration::from_secs(700));
    let last = ended(&server, &submission.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert_eq!(last.analysis_id, "");
    assert_eq!(receiver.submitted().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_ends_a_submission_and_a_spent_quota_only_delays_it() {
    for (status, refusals, state, sent) in [
        (413, 0, pb::SubmissionState::Failed, 0),
        (400, 0, pb::SubmissionState::Failed, 0),
        (429, 1, pb::SubmissionState::Done, 1),
    ] {
        let (receiver, server) = started(Behaviour { refuses: Some(status), refusals, ..Behaviour::default() }).await;
        let submission = submit(&server, "a.bin", b"some content").await;
        let last = ended(&server, &submission.name).await;
        assert_eq!(last.state(), state, "{status}: {last:?}");
        assert!(!last.detail.is_empty(), "{status}");
        assert_eq!(receiver.submitted().len(), sent, "{status}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_large_file_goes_to_the_address_that_the_source_names_but_never_to_another_host() {
    let content = vec![7_u8; 33 * 1024 * 1024];
    let (receiver, server) = started(Behaviour::default()).await;
    let last = ended(&server, &submit(&server, "large.bin", &content).await.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    let submitted = receiver.submitted();
    assert_eq!((submitted.len(), submitted[0].0.as_str()), (1, "/upload/here"));
    assert!(file_of(&submitted[0].1) == content);
    server.stop().await;
    let elsewhere = Behaviour { upload_address: "http://192.0.2.1/upload".into(), ..Behaviour::default() };
    let (receiver, server) = started(elsewhere).await;
    let last = ended(&server, &submit(&server, "large.bin", &content).await.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Failed);
    assert!(last.detail.contains("not the source's own"), "{}", last.detail);
    assert!(receiver.submitted().is_empty() && last.send_time.is_none());
    server.stop().await;
}

#[tokio::test]
async fn an_analysis_that_never_ends_fails_after_a_day() {
    let (_receiver, server) = started(Behaviour { never_ends: true, ..Behaviour::default() }).await;
    let last = ended(&server, &submit(&server, "a.bin", b"some content").await.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Failed);
    assert!(last.detail.contains("tried for a day"), "{}", last.detail);
    server.stop().await;
}

#[tokio::test]
async fn a_rescan_is_only_of_what_the_source_knows() {
    let (receiver, server) = started(Behaviour::default()).await;
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let rescan = async |value: &str| {
        let source = "sources/virustotal".to_owned();
        let request = pb::RescanSubmissionRequest { source, indicator: Some(indicator(value)), tlp: 0 };
        server.submissions().rescan_submission(request).await.map(|answer| answer.into_inner().submission.unwrap())
    };
    let last = ended(&server, &rescan(hash).await.unwrap().name).await;
    assert_eq!(last.state(), pb::SubmissionState::Failed);
    assert!(receiver.submitted().is_empty());
    receiver.learn(hash);
    let last = ended(&server, &rescan(hash).await.unwrap().name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert_eq!(receiver.submitted()[0].0, format!("/files/{hash}/analyse"));
    assert_eq!(violated(&rescan("192.0.2.1").await.unwrap_err()), ["indicator.value"]);
    server.stop().await;
}

#[tokio::test]
async fn every_mistake_of_an_upload_is_refused_and_leaves_nothing_behind() {
    let (receiver, server) = started(Behaviour::default()).await;
    let content = || Part::Content(b"some content".to_vec());
    let with = |change: fn(&mut pb::SubmittedFileHeader)| {
        let mut header = header("a.bin");
        change(&mut header);
        Part::Header(header)
    };
    let cases: Vec<(Vec<Part>, &[&str])> = vec![
        (vec![], &["header"]),
        (vec![content()], &["header"]),
        (vec![with(|_| {}), with(|_| {})], &["header"]),
        (vec![with(|_| {})], &["content"]),
        (vec![with(|header| header.sha256 = "00".repeat(32)), content()], &["header.sha256"]),
        (vec![with(|header| header.sha256 = "no hash".into()), content()], &["header.sha256"]),
        (vec![with(|header| header.size_bytes = 5), content()], &["header.size_bytes"]),
        (vec![with(|header| header.size_bytes = -1), content()], &["header.size_bytes"]),
        (vec![with(|header| header.file_name = "../etc/passwd".into()), content()], &["header.file_name"]),
        (vec![with(|header| header.file_name = "a\u{7}b".into()), content()], &["header.file_name"]),
        (vec![with(|header| header.file_name = "..".into()), content()], &["header.file_name"]),
        (vec![with(|header| header.file_name = "x".repeat(300)), content()], &["header.file_name"]),
        (
            vec![
                with(|header| (header.source, header.tlp, header.file_name) = ("vt".into(), 99, String::new())),
                content(),
            ],
            &["header.source", "header.file_name", "header.tlp"],
        ),
    ];
    for (parts, fields) in cases {
        let shown = format!("{parts:?}");
        let refused = submit_parts(&server, parts).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{shown}");
        assert_eq!(violated(&refused), fields, "{shown}");
    }
    let unknown = vec![with(|header| header.source = "sources/nobody".into()), content()];
    assert_eq!(submit_parts(&server, unknown).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(std::fs::read_dir(server.folder.path().join("data/spool")).unwrap().count(), 0);
    let small = RULES.replace("[submissions]", "[submissions]\nmax_file_bytes = 5");
    let server_of_small_files = TestServer::start(&configuration(&receiver, &small)).await;
    let refused = submit_parts(&server_of_small_files, vec![with(|_| {}), content()]).await.unwrap_err();
    assert_eq!(violated(&refused), ["content"]);
    server_of_small_files.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn the_same_is_not_submitted_twice_at_once() {
    let (_receiver, server) = started(Behaviour::default()).await;
    let held = ended(&server, &submit(&server, "a.txt", b"project FALCON").await.name).await;
    let parts = vec![Part::Header(header("b.txt")), Part::Content(b"project FALCON".to_vec())];
    let refused = submit_parts(&server, parts).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains(&held.name), "{refused}");
    assert_eq!(std::fs::read_dir(server.folder.path().join("data/spool")).unwrap().count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn submissions_are_listed_by_state_submitter_and_indicator_and_page_by_page() {
    let (_receiver, server) = started(Behaviour::default()).await;
    let held = ended(&server, &submit(&server, "a.txt", b"project FALCON").await.name).await;
    let done = ended(&server, &submit_url(&server, "https://evil.example.org/").await.name).await;
    let listed = async |request: pb::ListSubmissionsRequest| {
        let answer = server.submissions().list_submissions(request).await.unwrap().into_inner();
        (answer.submissions.into_iter().map(|submission| submission.name).collect::<Vec<_>>(), answer.next_page_token)
    };
    let all = pb::ListSubmissionsRequest::default();
    assert_eq!(listed(all.clone()).await.0, [done.name.clone(), held.name.clone()]);
    let of = |state: pb::SubmissionState| pb::ListSubmissionsRequest { state: state.into(), ..all.clone() };
    assert_eq!(listed(of(pb::SubmissionState::Held)).await.0, std::slice::from_ref(&held.name));
    assert_eq!(listed(of(pb::SubmissionState::Failed)).await.0, [""; 0]);
    assert_eq!(listed(pb::ListSubmissionsRequest { submitter: "soar".into(), ..all.clone() }).await.0, [""; 0]);
    let of_url = pb::ListSubmissionsRequest { indicator: done.indicator.clone(), ..all.clone() };
    assert_eq!(listed(of_url).await.0, std::slice::from_ref(&done.name));
    let (first, token) = listed(pb::ListSubmissionsRequest { page_size: 1, ..all.clone() }).await;
    let (second, end) = listed(pb::ListSubmissionsRequest { page_size: 1, page_token: token, ..all }).await;
    assert_eq!((first, second, end.as_str()), (vec![done.name], vec![held.name], ""));
    let missing = server.submissions().get_submission(pb::GetSubmissionRequest { name: "submissions/x".into() }).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_stops_leaves_no_file() {
    let (receiver, server) = started(Behaviour::default()).await;
    let (sender, parts) = tokio::sync::mpsc::channel(1);
    let mut client = server.submissions();
    let call = client.submit_file(tokio_stream::wrappers::ReceiverStream::new(parts));
    let folder = server.folder.clone();
    let files = || std::fs::read_dir(folder.path().join("data/spool")).unwrap().count();
    // More than is buffered on the way, so that the server has written a part of it.
    let send = async {
        sender.send(pb::SubmitFileRequest { part: Some(Part::Header(header("a.bin"))) }).await.unwrap();
        for _ in 0..100 {
            sender.send(pb::SubmitFileRequest { part: Some(Part::Content(vec![1; 200_000])) }).await.unwrap();
        }
    };
    tokio::select! {
        answer = call => panic!("the stream has not ended: {answer:?}"),
        () = send => {}
    }
    // The call was dropped with its stream.
    let clock: &dyn Clock = &SystemClock;
    let removed = async {
        while files() > 0 {
            tokio::task::yield_now().await;
        }
    };
    clock.timeout(PATIENCE, removed).await.expect("the file is removed");
    server.stop().await;
    assert!(receiver.submitted().is_empty());
}

#[tokio::test]
async fn a_part_of_a_file_is_not_taken_for_the_whole_when_the_server_stops() {
    let (receiver, server) = started(Behaviour::default()).await;
    let (sender, parts) = tokio::sync::mpsc::channel(1);
    let (folder, clock, mut client) = (server.folder.clone(), server.clock.clone(), server.submissions());
    let call = client.submit_file(tokio_stream::wrappers::ReceiverStream::new(parts));
    let stop = async {
        sender.send(pb::SubmitFileRequest { part: Some(Part::Header(header("a.bin"))) }).await.unwrap();
        for _ in 0..100 {
            sender.send(pb::SubmitFileRequest { part: Some(Part::Content(vec![1; 200_000])) }).await.unwrap();
        }
        server.stop().await;
    };
    let (answer, ()) = tokio::join!(call, stop);
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    drop(sender);
    let server = TestServer::start_on(folder, clock, &configuration(&receiver, RULES)).await;
    let listed = server.submissions().list_submissions(pb::ListSubmissionsRequest::default()).await.unwrap();
    assert!(listed.into_inner().submissions.is_empty());
    server.stop().await;
}
