//! The server is killed in every state of a submission: nothing is lost, and nothing is sent twice.

use std::sync::Arc;

use concord::clock::{Clock, ManualClock, SystemClock};
use concord::pb;
use concord::pb::submission_service_client::SubmissionServiceClient;
use concord::pb::submit_file_request::Part;
use tempfile::TempDir;

use super::receiver::{Behaviour, Receiver};
use super::{PAUSE, RULES, as_soar, configuration, ended, get, header, url_request};
use crate::harness::{PATIENCE, TestServer};
use crate::process::Process;

const URL: &str = "https://evil.example.org/a";

/// What is submitted before the server is killed.
enum What {
    File(Vec<u8>),
    Url,
}

async fn in_time(future: impl Future<Output = ()>) {
    let clock: &dyn Clock = &SystemClock;
    clock.timeout(PATIENCE, future).await.expect("in time");
}

/// Submits to a server in a process of its own, kills it once the submission is in this state and `reached` resolves, and
/// starts a server on the same data, whose clock skips all pauses.
async fn killed_in(
    state: pb::SubmissionState,
    what: What,
    receiver: &Receiver,
    reached: impl Future<Output = ()>,
) -> (TestServer, String) {
    let folder = Arc::new(TempDir::new().unwrap());
    let rules = RULES.replace("submitters = [\"local\"]", "submitters = [\"soar\"]");
    let configuration = configuration(receiver, &rules);
    let (process, channel) = Process::start(folder.path(), &configuration).await;
    let mut client = SubmissionServiceClient::new(channel);
    let submission = match what {
        What::File(content) => {
            let pieces = content.chunks(200_000).map(|piece| Part::Content(piece.to_vec()));
            let parts = std::iter::once(Part::Header(header("a.bin"))).chain(pieces);
            let parts = parts.map(|part| pb::SubmitFileRequest { part: Some(part) }).collect::<Vec<_>>();
            client.submit_file(as_soar(tokio_stream::iter(parts))).await.unwrap().into_inner().submission
        }
        What::Url => client.submit_url(as_soar(url_request(URL))).await.unwrap().into_inner().submission,
    };
    let name = submission.unwrap().name;
    let watch = as_soar(pb::WatchSubmissionRequest { name: name.clone() });
    let mut states = client.watch_submission(watch).await.unwrap().into_inner();
    while states.message().await.unwrap().unwrap().submission.unwrap().state() != state {}
    in_time(reached).await;
    process.signal("-KILL");
    assert_eq!(process.end().await.0, None, "killed, not ended");
    receiver.behave(Behaviour::default());
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    clock.skip_sleeps(PAUSE);
    (TestServer::start_on(folder, clock, &configuration).await, name)
}

/// What the spool holds.
fn waiting(server: &TestServer) -> usize {
    std::fs::read_dir(server.folder.path().join("data/spool")).unwrap().count()
}

async fn done_once(server: TestServer, name: &str, receiver: &Receiver) -> pb::Submission {
    let last = ended(&server, name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert_eq!(receiver.submitted().len(), 1);
    assert_eq!(waiting(&server), 0);
    let request = pb::GetVerdictRequest { name: last.verdict.clone(), view: 0 };
    assert!(server.verdicts().get_verdict(request).await.unwrap().into_inner().verdict.is_some());
    server.stop().await;
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_is_looked_up_it_is_looked_up_again_and_sent_once() {
    let receiver = Receiver::start(Behaviour { hangs_on: "/files/", ..Behaviour::default() }).await;
    let asked = receiver.was_asked("/files/");
    let what = What::File(b"some content".to_vec());
    let (server, name) = killed_in(pb::SubmissionState::Received, what, &receiver, asked).await;
    done_once(server, &name, &receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_is_inspected_it_is_inspected_again_and_sent_once() {
    let receiver = Receiver::start(Behaviour::default()).await;
    // Inspecting so much takes longer than the kill.
    let what = What::File((0..24_u32 << 20).map(|n| (n % 251) as u8).collect());
    let (server, name) = killed_in(pb::SubmissionState::Inspecting, what, &receiver, async {}).await;
    done_once(server, &name, &receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_is_held_it_still_waits_and_is_sent_once_when_it_is_approved() {
    let receiver = Receiver::start(Behaviour::default()).await;
    let what = What::File(b"project FALCON".to_vec());
    let (server, name) = killed_in(pb::SubmissionState::Held, what, &receiver, async {}).await;
    let held = get(&server, &name).await;
    assert_eq!((held.state(), held.hold_reasons.len()), (pb::SubmissionState::Held, 1));
    assert_eq!(waiting(&server), 1);
    assert!(receiver.submitted().is_empty());
    let request = pb::ApproveSubmissionRequest { name: name.clone(), reason: "public already".into() };
    server.submissions().approve_submission(request).await.unwrap();
    let last = done_once(server, &name, &receiver).await;
    assert_eq!(last.review.unwrap().reviewer, "local");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_first_byte_leaves_it_is_sent_once() {
    let receiver = Receiver::start(Behaviour { hangs_on: "/urls/", ..Behaviour::default() }).await;
    let asked = receiver.was_asked("/urls/");
    let (server, name) = killed_in(pb::SubmissionState::Approved, What::Url, &receiver, asked).await;
    done_once(server, &name, &receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_an_upload_it_is_sent_again_only_if_a_person_decides_so() {
    let receiver = Receiver::start(Behaviour { stops_reading: true, ..Behaviour::default() }).await;
    let what = What::File(vec![1; 4 << 20]);
    let (server, name) = killed_in(pb::SubmissionState::Uploading, what, &receiver, receiver.received(1)).await;
    let held = ended(&server, &name).await;
    assert_eq!(held.state(), pb::SubmissionState::Held, "{held:?}");
    assert_eq!(held.hold_reasons[0].code(), pb::HoldReasonCode::Interrupted);
    assert!(held.send_time.is_some(), "{held:?}");
    assert!(receiver.submitted().is_empty(), "nothing came whole, and nothing came again");
    assert_eq!(waiting(&server), 1, "nothing is lost");
    let request = pb::ApproveSubmissionRequest { name: name.clone(), reason: "it did not arrive".into() };
    server.submissions().approve_submission(request).await.unwrap();
    done_once(server, &name, &receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_upload_and_answer_it_is_found_at_the_source() {
    let receiver = Receiver::start(Behaviour { is_silent: true, ..Behaviour::default() }).await;
    let what = What::File(b"some content".to_vec());
    let (server, name) = killed_in(pb::SubmissionState::Uploading, what, &receiver, receiver.received(1)).await;
    let last = done_once(server, &name, &receiver).await;
    assert_eq!(last.analysis_id, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_is_analysed_the_same_analysis_is_followed() {
    let receiver = Receiver::start(Behaviour { never_ends: true, ..Behaviour::default() }).await;
    let what = What::File(b"some content".to_vec());
    let (server, name) = killed_in(pb::SubmissionState::Analysing, what, &receiver, async {}).await;
    let last = done_once(server, &name, &receiver).await;
    assert_eq!(last.analysis_id, "an-1");
    assert!(receiver.asked().contains(&"/analyses/an-1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_file_arrives_nothing_of_it_is_left() {
    let receiver = Receiver::start(Behaviour::default()).await;
    let folder = Arc::new(TempDir::new().unwrap());
    let rules = RULES.replace("submitters = [\"local\"]", "submitters = [\"soar\"]");
    let configuration = configuration(&receiver, &rules);
    let (process, channel) = Process::start(folder.path(), &configuration).await;
    let (sender, parts) = tokio::sync::mpsc::channel(1);
    let mut client = SubmissionServiceClient::new(channel);
    let call = client.submit_file(as_soar(tokio_stream::wrappers::ReceiverStream::new(parts)));
    let send = async {
        sender.send(pb::SubmitFileRequest { part: Some(Part::Header(header("a.bin"))) }).await.unwrap();
        for _ in 0..50 {
            sender.send(pb::SubmitFileRequest { part: Some(Part::Content(vec![1; 200_000])) }).await.unwrap();
        }
        process.signal("-KILL");
    };
    let (answer, ()) = tokio::join!(call, send);
    assert!(answer.is_err());
    assert_eq!(process.end().await.0, None);
    assert_eq!(std::fs::read_dir(folder.path().join("data/spool")).unwrap().count(), 1, "a part was written");
    let server = TestServer::start_on(folder, Arc::new(ManualClock::new(SystemClock.now())), &configuration).await;
    let listed = server.submissions().list_submissions(pb::ListSubmissionsRequest::default()).await.unwrap();
    assert!(listed.into_inner().submissions.is_empty());
    assert_eq!(waiting(&server), 0);
    server.stop().await;
}
