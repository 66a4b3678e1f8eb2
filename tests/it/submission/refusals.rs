//! What is refused over the API and by the source, and what is held.

use std::sync::{Arc, Mutex};

use concord::pb;
use concord::pb::submit_file_request::Part;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tonic::Code;

use super::receiver::{Behaviour, Receiver, file_of};
use super::samples::{mail, pdf, private_key, word, zip};
use super::{NEVER, PAUSE, RULES, configuration, ended, get, header, reasons, sha256, started, submit, submit_parts};
use crate::harness::{TestServer, indicator, start_time, violated};

/// The bytes of an upload that are read before it is answered.
const READ: usize = 100_000;

/// A source that answers an upload with this status when it has read a part of it, and takes the next one whole.
struct EarlyAnswer {
    address: std::net::SocketAddr,
    /// The uploads that it took whole.
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
    tasks: TaskTracker,
}

impl EarlyAnswer {
    async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, refused, tasks) = (Arc::default(), Arc::new(Mutex::new(false)), TaskTracker::new());
        let (of_listener, connections) = (Arc::clone(&taken), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, status, Arc::clone(&of_listener), Arc::clone(&refused)));
            }
        });
        Self { address, taken, tasks }
    }
}

impl Drop for EarlyAnswer {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

async fn serve(mut stream: TcpStream, status: u16, taken: Arc<Mutex<Vec<Vec<u8>>>>, refused: Arc<Mutex<bool>>) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break String::from_utf8_lossy(&read[..end + 4]).to_ascii_lowercase();
            }
            if stream.read_buf(&mut read).await.unwrap_or_default() == 0 {
                return;
            }
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let whole = head.len() + length.unwrap_or_default();
        let is_upload = head.starts_with("post");
        let is_refused = is_upload && !std::mem::replace(&mut *refused.lock().unwrap(), true);
        let wanted = if is_refused { READ } else { whole };
        while read.len() < wanted {
            if stream.read_buf(&mut read).await.unwrap_or_default() == 0 {
                return;
            }
        }
        let known = taken.lock().unwrap().iter().any(|body| head.contains(&sha256(file_of(body))));
        let (status, body) = match (is_upload, is_refused) {
            (true, true) => (status, r#"{"error":{"code":"TooManyRequestsError"}}"#.to_owned()),
            (true, false) => {
                taken.lock().unwrap().push(read[head.len()..whole].to_vec());
                (200, r#"{"data":{"id":"an-1"}}"#.to_owned())
            }
            (false, _) if head.contains("/analyses/") => {
                (200, r#"{"data":{"attributes":{"status":"completed"}}}"#.to_owned())
            }
            (false, _) if known => (200, crate::harness::report(60, 0).to_string()),
            (false, _) if head.contains("/users/") => (200, r#"{"data":{}}"#.to_owned()),
            (false, _) => (404, r#"{"error":{"code":"NotFoundError"}}"#.to_owned()),
        };
        let answer = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if is_refused {
            // Reads no further, and does not close: the client must see the answer while it sends.
            return std::future::pending().await;
        }
        read.drain(..whole);
    }
}

#[tokio::test]
async fn an_answer_in_the_middle_of_an_upload_is_seen_and_only_a_spent_quota_sends_it_again() {
    let content = vec![7; 8 << 20];
    for (status, state, times) in [
        (413, pb::SubmissionState::Failed, 0),
        (429, pb::SubmissionState::Done, 1),
        // It says that it analyses the same already, but does not know it later.
        (409, pb::SubmissionState::Held, 0),
    ] {
        let source = EarlyAnswer::start(status).await;
        let receiver = Receiver::start(Behaviour::default()).await;
        let text = configuration(&receiver, RULES).replace(&receiver.address.to_string(), &source.address.to_string());
        let server = TestServer::start(&text).await;
        server.clock.skip_sleeps(PAUSE);
        let last = ended(&server, &submit(&server, "a.bin", &content).await.name).await;
        assert_eq!(last.state(), state, "{status}: {last:?}");
        let detail = match status {
            413 => "the source refused it",
            409 => "was analysing the same already, but does not know it",
            _ => "analysed",
        };
        assert!(format!("{last:?}").contains(detail), "{status}: {last:?}");
        let taken = source.taken.lock().unwrap().clone();
        assert_eq!(taken.len(), times, "{status}");
        assert!(taken.iter().all(|body| file_of(body) == content));
        server.stop().await;
    }
}

#[tokio::test]
async fn what_the_source_says_it_analyses_already_ends_with_its_report() {
    let (receiver, server) = started(Behaviour { refuses: Some(409), ..Behaviour::default() }).await;
    let submission = submit(&server, "a.bin", b"some content").await;
    receiver.received(1).await;
    receiver.learn(&sha256(b"some content"));
    let last = ended(&server, &submission.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert!(!last.already_known && !last.verdict.is_empty() && receiver.submitted().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_rescan_that_the_source_is_doing_already_ends_with_its_new_report_and_not_with_the_old_one() {
    let (receiver, server) = started(Behaviour { refuses: Some(409), ..Behaviour::default() }).await;
    let hash = sha256(b"some content");
    receiver.learn(&hash);
    let source = "sources/virustotal".to_owned();
    let request = pb::RescanSubmissionRequest { source, indicator: Some(indicator(&hash)), tlp: 0 };
    let name = server.submissions().rescan_submission(request).await.unwrap().into_inner().submission.unwrap().name;
    receiver.received(1).await;
    // The report of an hour before is shown meanwhile.
    let before = receiver.asked().len();
    receiver.asked_times(before + 3).await;
    assert_eq!(get(&server, &name).await.state(), pb::SubmissionState::Analysing);
    let now = start_time().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    receiver.behave(Behaviour { analysed_at: now, ..Behaviour::default() });
    let last = ended(&server, &name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    let request = pb::GetVerdictRequest { name: last.verdict, view: 0 };
    let verdict = server.verdicts().get_verdict(request).await.unwrap().into_inner().verdict.unwrap();
    let Some(pb::outcome::Result::Finding(finding)) = &verdict.outcomes[0].result else { panic!("{verdict:?}") };
    assert_eq!(finding.observed_time.unwrap().seconds, i64::try_from(now).unwrap());
    server.stop().await;
}

#[tokio::test]
async fn an_analysis_that_the_source_does_not_know_fails_soon() {
    let (receiver, server) = started(Behaviour { forgets: true, ..Behaviour::default() }).await;
    let last = ended(&server, &submit(&server, "a.bin", b"some content").await.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Failed, "{last:?}");
    assert!(last.detail.contains("knows no such analysis"), "{last:?}");
    assert!(receiver.asked().len() < 10, "{:?}", receiver.asked());
    server.stop().await;
}

#[tokio::test]
async fn what_was_sent_cannot_be_withdrawn() {
    let (_receiver, server) = started(Behaviour::default()).await;
    let done = ended(&server, &submit(&server, "a.bin", b"some content").await.name).await;
    let request = pb::RejectSubmissionRequest { name: done.name, reason: "a mistake".into() };
    let refused = server.submissions().reject_submission(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn labelled_documents_mail_and_a_key_within_archives_are_held_over_the_api_with_the_place() {
    let (receiver, server) = started(Behaviour::default()).await;
    let label = "MSIP_Label_4a5b6c7d-1234-5678-9abc-def012345678_Name";
    let inner = zip(&[("keys/id_rsa", &private_key())]);
    let cases = [
        (
            "plan.docx",
            word(&["words"], &[(label, "Confidential")]),
            pb::HoldReasonCode::SensitivityLabel,
            "plan.docx/docProps/custom.xml",
        ),
        ("plan.pdf", pdf(&["words"], &format!("/{label} (Secret)")), pb::HoldReasonCode::SensitivityLabel, "plan.pdf"),
        ("hello.eml", mail("words", b"x"), pb::HoldReasonCode::Email, "hello.eml"),
        ("all.zip", zip(&[("inner.zip", &inner)]), pb::HoldReasonCode::PrivateKey, "all.zip/inner.zip/keys/id_rsa"),
    ];
    for (name, content, code, place) in cases {
        let held = ended(&server, &submit(&server, name, &content).await.name).await;
        assert_eq!(held.state(), pb::SubmissionState::Held, "{held:?}");
        assert!(reasons(&held).contains(&code), "{held:?}");
        assert!(held.hold_reasons.iter().any(|reason| reason.place == place), "{held:?}");
        assert!(!format!("{held:?}").contains("MIIEow"), "never the secret itself");
    }
    assert!(receiver.submitted().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_full_spool_takes_no_more_until_something_leaves_it() {
    let receiver = Receiver::start(Behaviour::default()).await;
    let small = RULES.replace("[submissions]", "[submissions]\nspool_bytes = 100\nmax_file_bytes = 100");
    let server = TestServer::start(&configuration(&receiver, &small)).await;
    let content = |number: u8| format!("project FALCON {number}").repeat(4).into_bytes();
    let held = ended(&server, &submit(&server, "a.txt", &content(1)).await.name).await;
    assert_eq!(held.state(), pb::SubmissionState::Held);
    let parts = || vec![Part::Header(header("b.txt")), Part::Content(content(2))];
    let refused = submit_parts(&server, parts()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let request = pb::RejectSubmissionRequest { name: held.name, reason: "makes room".into() };
    server.submissions().reject_submission(request).await.unwrap();
    submit_parts(&server, parts()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_check_tells_what_would_be_refused_and_who_would_see_it_and_takes_nothing() {
    let (receiver, server) = started(Behaviour::default()).await;
    let check = async |change: fn(&mut pb::SubmittedFileHeader)| {
        let mut header =
            pb::SubmittedFileHeader { validate_only: true, sha256: sha256(b"x"), size_bytes: 1, ..header("a.bin") };
        change(&mut header);
        let parts = [pb::SubmitFileRequest { part: Some(Part::Header(header)) }];
        server.submissions().submit_file(tokio_stream::iter(parts)).await.map(tonic::Response::into_inner)
    };
    let checked = check(|_| {}).await.unwrap();
    let submission = checked.submission.unwrap();
    assert_eq!((submission.name.as_str(), submission.state()), ("", pb::SubmissionState::Received));
    assert!(checked.audience.contains("every customer"), "{}", checked.audience);
    let refused = check(|header| header.sha256 = sha256(NEVER[0].0)).await.unwrap().submission.unwrap();
    assert_eq!(refused.state(), pb::SubmissionState::Rejected);
    assert!(refused.detail.contains("never-send"), "{refused:?}");
    assert_eq!(violated(&check(|header| header.sha256.clear()).await.unwrap_err()), ["header.sha256"]);
    assert_eq!(violated(&check(|header| header.size_bytes = 651 << 20).await.unwrap_err()), ["header.size_bytes"]);
    assert_eq!(violated(&check(|header| header.tlp = 0).await.unwrap_err()), ["tlp"]);
    let listed = server.submissions().list_submissions(pb::ListSubmissionsRequest::default()).await.unwrap();
    assert!(listed.into_inner().submissions.is_empty());
    assert!(receiver.asked().is_empty());
    server.stop().await;
}
