//! Private scans: their own paths, their own report, and nothing beside that but the hash of a file.

use concord::pb;
use concord::pb::submit_file_request::Part;
use tonic::Code;

use super::receiver::{Behaviour, Receiver, file_of};
use super::{PAUSE, configuration, ended, header, sha256, submit_parts, url_request};
use crate::harness::TestServer;

const RULES: &str = "[submissions]\nsensitive_words = [\"falcon\"]\n[submissions.sources.virustotal]\nprivate_enabled = true\n\
                     private_max_tlp = \"AMBER\"\n";
const URL: &str = "https://evil.example.org/a";

async fn started(behaviour: Behaviour, rules: &str) -> (Receiver, TestServer) {
    let receiver = Receiver::start(behaviour).await;
    let premium = configuration(&receiver, rules) + "tier = \"premium\"\n";
    let server = TestServer::start(&premium).await;
    server.clock.skip_sleeps(PAUSE);
    (receiver, server)
}

async fn submit(server: &TestServer, content: &[u8], tlp: pb::Tlp) -> Result<pb::Submission, tonic::Status> {
    let header = pb::SubmittedFileHeader { private_scan: true, tlp: tlp.into(), ..header("plan.bin") };
    let pieces = content.chunks(100_000).map(|piece| Part::Content(piece.to_vec()));
    submit_parts(server, std::iter::once(Part::Header(header)).chain(pieces).collect()).await
}

async fn submit_url(server: &TestServer) -> Result<pb::Submission, tonic::Status> {
    let request = pb::SubmitUrlRequest { private_scan: true, tlp: pb::Tlp::Amber.into(), ..url_request(URL) };
    Ok(server.submissions().submit_url(request).await?.into_inner().submission.unwrap())
}

async fn disposition(server: &TestServer, submission: &pb::Submission) -> pb::Disposition {
    let request = pb::GetVerdictRequest { name: submission.verdict.clone(), view: 0 };
    server.verdicts().get_verdict(request).await.unwrap().into_inner().verdict.unwrap().disposition()
}

#[tokio::test]
async fn a_file_goes_to_the_private_path_alone_and_its_private_report_makes_the_verdict() {
    let (receiver, server) = started(Behaviour::default(), RULES).await;
    let content = b"some content";
    let last = ended(&server, &submit(&server, content, pb::Tlp::Amber).await.unwrap().name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert!(last.private_scan && !last.already_known);
    let submitted = receiver.submitted();
    assert_eq!((submitted.len(), submitted[0].0.as_str()), (1, "/private/files"));
    assert!(file_of(&submitted[0].1) == content);
    let hash = sha256(content);
    let mut asked = receiver.asked();
    asked.dedup();
    // Of all public paths, only the hash is asked for, before anything is sent.
    let expected = [
        format!("/private/files/{hash}"),
        format!("/files/{hash}"),
        "/private/analyses/an-1".to_owned(),
        format!("/private/files/{hash}"),
    ];
    assert_eq!(asked, expected);
    assert_eq!(disposition(&server, &last).await, pb::Disposition::Suspicious, "what the private report says");
    let disclosures = server.sources().list_disclosures(pb::ListDisclosuresRequest::default()).await.unwrap();
    let disclosures = disclosures.into_inner().disclosures;
    assert_eq!(disclosures.len(), 4, "three look-ups and an upload: {disclosures:?}");
    assert_eq!(disclosures.iter().filter(|entry| entry.submission == last.name).count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_url_is_asked_about_on_no_public_path() {
    let (receiver, server) = started(Behaviour::default(), RULES).await;
    let last = ended(&server, &submit_url(&server).await.unwrap().name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    let submitted = receiver.submitted();
    assert_eq!((submitted.len(), submitted[0].0.as_str()), (1, "/private/urls"));
    let asked = receiver.asked();
    assert!(asked.len() > 2 && asked.iter().all(|path| path.starts_with("/private/")), "{asked:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_large_file_goes_to_an_address_that_is_named_for_private_scans() {
    let (receiver, server) = started(Behaviour::default(), RULES).await;
    let content = vec![7; 33 << 20];
    let last = ended(&server, &submit(&server, &content, pb::Tlp::Clear).await.unwrap().name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert_eq!(receiver.submitted()[0].0, "/upload/private");
    server.stop().await;
}

#[tokio::test]
async fn what_is_known_privately_or_to_everybody_is_not_sent_again() {
    let (receiver, server) = started(Behaviour::default(), RULES).await;
    receiver.learn_privately(&sha256(b"mine"));
    receiver.learn(&sha256(b"everybody's"));
    for (content, expected) in
        [(b"mine".as_slice(), pb::Disposition::Suspicious), (b"everybody's", pb::Disposition::Malicious)]
    {
        let last = ended(&server, &submit(&server, content, pb::Tlp::Clear).await.unwrap().name).await;
        assert!(last.already_known && last.send_time.is_none(), "{last:?}");
        assert_eq!(disposition(&server, &last).await, expected);
    }
    assert!(receiver.submitted().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_label_that_nobody_may_look_up_is_not_looked_up_beside_a_private_scan() {
    let red = RULES.replace("AMBER", "RED");
    let (receiver, server) = started(Behaviour::default(), &red).await;
    let last = ended(&server, &submit(&server, b"some content", pb::Tlp::Red).await.unwrap().name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert!(receiver.asked().iter().all(|path| path.starts_with("/private/")), "{:?}", receiver.asked());
    server.stop().await;
}

#[tokio::test]
async fn it_is_inspected_and_held_as_any_other() {
    let (receiver, server) = started(Behaviour::default(), RULES).await;
    let held = ended(&server, &submit(&server, b"project falcon", pb::Tlp::Clear).await.unwrap().name).await;
    assert_eq!(held.state(), pb::SubmissionState::Held, "{held:?}");
    assert!(receiver.submitted().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn the_answer_to_an_upload_that_is_lost_is_looked_for_in_the_private_report() {
    let (receiver, server) = started(Behaviour { is_silent: true, ..Behaviour::default() }, RULES).await;
    let submission = submit(&server, b"some content", pb::Tlp::Clear).await.unwrap();
    receiver.received(1).await;
    // Longer than an upload may take.
    server.clock.advance(std::time::Duration::from_secs(700));
    let last = ended(&server, &submission.name).await;
    assert_eq!(last.state(), pb::SubmissionState::Done, "{last:?}");
    assert_eq!(receiver.submitted().len(), 1);
    assert!(receiver.asked().last().unwrap().starts_with("/private/files/"));
    server.stop().await;
}

#[tokio::test]
async fn it_is_refused_unless_it_is_enabled_below_its_label_and_offered() {
    let both = "[submissions.sources.virustotal]\nenabled = true\nmax_tlp = \"RED\"\nprivate_enabled = true\n";
    let cases = [
        ("[submissions.sources.virustotal]\nenabled = true\n", Code::FailedPrecondition, "private_enabled"),
        (both, Code::InvalidArgument, "TLP:AMBER is above TLP:CLEAR"),
    ];
    for (rules, code, message) in cases {
        let (receiver, server) = started(Behaviour::default(), rules).await;
        for refused in [submit(&server, b"x", pb::Tlp::Amber).await, submit_url(&server).await] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), code, "{rules}");
            assert!(refused.message().contains(message), "{refused}");
        }
        assert!(receiver.asked().is_empty());
        server.stop().await;
    }
    // Nor does the permission for private scans permit others.
    let (receiver, server) = started(Behaviour::default(), RULES).await;
    let refused = submit_parts(&server, vec![Part::Header(header("a")), Part::Content(b"x".to_vec())]).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    server.stop().await;
    let free = TestServer::start(&configuration(&receiver, RULES)).await;
    let refused = submit(&free, b"x", pb::Tlp::Clear).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("tier premium"), "{refused}");
    free.stop().await;
}
