//! `concord submit` and `concord submission`.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio_stream::wrappers::ReceiverStream;

use super::args::{Client, ListOutput, SubmissionCommand, Submit, SubmitArgs};
use super::connect::Connection;
use super::enrich::full_name;
use super::history::{all_pages, page_size};
use super::input::hash;
use super::json::print_messages;
use super::{Failure, print, table};
use crate::convert::indicator::write_tlp;
use crate::convert::submission::write_state;
use crate::indicator::Tlp;
use crate::pb;
use crate::pb::submit_file_request::Part;

/// Bytes of a message.
const PIECE: usize = 256 * 1024;
/// Messages that are read ahead.
const AHEAD: usize = 4;
const SPIN_EVERY: Duration = Duration::from_millis(120);

pub(super) async fn submit(client: &Client, command: Submit) -> Result<ExitCode, Failure> {
    Connection::with(client, async |connection| {
        let how = match &command {
            Submit::File { how, .. } | Submit::Url { how, .. } | Submit::Rescan { how, .. } => how,
        };
        let (source, tlp) = (full_name(&how.to, "sources"), how.tlp.map_or(0, |tlp: Tlp| write_tlp(tlp).into()));
        let submission = match &command {
            Submit::File { path, private, .. } => {
                let header = pb::SubmittedFileHeader {
                    source,
                    tlp,
                    private_scan: *private,
                    ..pb::SubmittedFileHeader::default()
                };
                upload(connection, path, header, how).await?
            }
            Submit::Url { url, private, .. } => {
                let (url, private_scan) = (url.clone(), *private);
                let request = pb::SubmitUrlRequest { source, url, tlp, validate_only: true, private_scan };
                let checked = connection.submissions().submit_url(request.clone()).await?.into_inner();
                confirm_url(&checked.submission.unwrap_or_default(), &checked.audience, how)?;
                let request = pb::SubmitUrlRequest { validate_only: false, ..request };
                connection.submissions().submit_url(request).await?.into_inner().submission.unwrap_or_default()
            }
            Submit::Rescan { indicator, .. } => {
                let indicator = Some(pb::Indicator { r#type: 0, value: indicator.clone() });
                let request = pb::RescanSubmissionRequest { source, indicator, tlp };
                connection.submissions().rescan_submission(request).await?.into_inner().submission.unwrap_or_default()
            }
        };
        match how.no_wait {
            true => show(&submission, how.output).map(|()| code(&submission)),
            false => {
                // Whoever does not wait for the end can ask for it later.
                if std::io::stderr().is_terminal() {
                    eprintln!("{}", table::printable(&submission.name));
                }
                watch(connection, submission.name, how.output).await
            }
        }
    })
    .await
}

pub(super) async fn run(client: &Client, command: SubmissionCommand) -> Result<ExitCode, Failure> {
    Connection::with(client, async |connection| match &command {
        SubmissionCommand::List { state, submitter, indicator, limit, output } => {
            let request = pb::ListSubmissionsRequest {
                state: state.map_or(0, |state| write_state(state).into()),
                submitter: submitter.clone().unwrap_or_default(),
                indicator: indicator.clone().map(|value| pb::Indicator { r#type: 0, value }),
                page_size: page_size(*limit),
                ..Default::default()
            };
            let submissions = all_pages(*limit, async |page_token| {
                let request = pb::ListSubmissionsRequest { page_token, ..request.clone() };
                let page = connection.submissions().list_submissions(request).await?.into_inner();
                Ok((page.submissions, page.next_page_token))
            });
            print_messages(*output, "Submission", &submissions.await?, submission_table)?;
            Ok(ExitCode::SUCCESS)
        }
        SubmissionCommand::Show { name, output } => {
            let request = pb::GetSubmissionRequest { name: full_name(name, "submissions") };
            let submission = connection.submissions().get_submission(request).await?.into_inner().submission;
            show(&submission.unwrap_or_default(), *output).map(|()| ExitCode::SUCCESS)
        }
        SubmissionCommand::Watch { name, output } => watch(connection, full_name(name, "submissions"), *output).await,
        SubmissionCommand::Approve { name, reason } => {
            let (name, reason) = (full_name(name, "submissions"), reason.clone());
            let request = pb::ApproveSubmissionRequest { name, reason };
            let submission = connection.submissions().approve_submission(request).await?.into_inner().submission;
            print(&format!("approved {}\n", table::printable(&submission.unwrap_or_default().name)))?;
            Ok(ExitCode::SUCCESS)
        }
        SubmissionCommand::Reject { name, reason } => {
            let (name, reason) = (full_name(name, "submissions"), reason.clone());
            let request = pb::RejectSubmissionRequest { name, reason };
            let submission = connection.submissions().reject_submission(request).await?.into_inner().submission;
            print(&format!("rejected {}\n", table::printable(&submission.unwrap_or_default().name)))?;
            Ok(ExitCode::SUCCESS)
        }
    })
    .await
}

async fn upload(
    connection: &Connection,
    path: &Path,
    header: pb::SubmittedFileHeader,
    how: &SubmitArgs,
) -> Result<pb::Submission, Failure> {
    let failed = |error: std::io::Error| Failure::io(path.display(), &error);
    let file_name = path.file_name().ok_or_else(|| Failure::new(format!("{}: names no file", path.display())))?;
    // The server shows it to reviewers and sends it to nobody.
    let file_name = file_name.to_string_lossy().into_owned();
    let sha256 = hash(path)?;
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let size_bytes = i64::try_from(size).unwrap_or(i64::MAX);
    let header = pb::SubmittedFileHeader { file_name: file_name.clone(), sha256: sha256.clone(), size_bytes, ..header };
    // What is refused anyway is not asked about.
    let checked = pb::SubmittedFileHeader { validate_only: true, ..header.clone() };
    let checked = tokio_stream::iter([pb::SubmitFileRequest { part: Some(Part::Header(checked)) }]);
    let checked = connection.submissions().submit_file(checked).await?.into_inner();
    let preview = checked.submission.unwrap_or_default();
    let question = format!(
        "{} ({size} bytes)\nSHA-256 {sha256}\n{} To submit it to {}, type its first eight hash digits: ",
        table::printable(&file_name),
        consequence("file", &preview, &checked.audience),
        how.to
    );
    confirm(&preview, &question, sha256.get(..8).unwrap_or_default(), how)?;
    let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
    let progress = bar(size);
    let shown = progress.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut part = Part::Header(header);
        // Sending fails where the server has refused the file; its answer says why.
        while sender.blocking_send(pb::SubmitFileRequest { part: Some(part) }).is_ok() {
            let mut piece = Vec::with_capacity(PIECE);
            (&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
            if piece.is_empty() {
                break;
            }
            shown.inc(piece.len() as u64);
            part = Part::Content(piece);
        }
        Ok::<_, std::io::Error>(())
    });
    let answer = connection.submissions().submit_file(ReceiverStream::new(receiver)).await;
    progress.finish_and_clear();
    let submission = answer?.into_inner().submission.unwrap_or_default();
    reading.await.map_err(|_| Failure::new("the file could not be read"))?.map_err(failed)?;
    Ok(submission)
}

/// Shows the normal form that would be sent, and asks.
fn confirm_url(preview: &pb::Submission, audience: &str, how: &SubmitArgs) -> Result<(), Failure> {
    let url = preview.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
    let reasons = preview.hold_reasons.iter().map(|reason| format!("  it will be held: {}", in_words(reason)));
    let shown: String =
        std::iter::once(url.to_owned()).chain(reasons).map(|line| table::printable(&line) + "\n").collect();
    let consequence = consequence("URL", preview, audience);
    let question = format!("{shown}{consequence} To submit it to {}, type yes: ", how.to);
    confirm(preview, &question, "yes", how)
}

fn consequence(what: &str, preview: &pb::Submission, audience: &str) -> String {
    let audience = table::printable(audience);
    match preview.private_scan {
        true => format!("This gives the {what} away: {audience}."),
        false => format!("This makes the {what} public: {audience}."),
    }
}

/// Asks on a terminal. A machine must say that it means it, and has refusals by a rule recorded.
fn confirm(preview: &pb::Submission, question: &str, expected: &str, how: &SubmitArgs) -> Result<(), Failure> {
    if how.yes {
        return Ok(());
    }
    if preview.state() == pb::SubmissionState::Rejected {
        return Err(Failure::new(format!("it will not be sent: {}", table::printable(&preview.detail))));
    }
    // Who does not see the question cannot answer it.
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::new("submitting gives it away: use --yes where nobody can be asked"));
    }
    let failed = |error| Failure::io("the terminal", &error);
    eprint!("{question}");
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer).map_err(failed)? == 0 {
        // The end of the input leaves the cursor behind the question.
        eprintln!();
    }
    match answer.trim().eq_ignore_ascii_case(expected) {
        true => Ok(()),
        false => Err(Failure::new("nothing was submitted")),
    }
}

fn bar(size: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {elapsed}");
    ProgressBar::new(size).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Moves while nothing arrives, since an analysis takes minutes.
fn spinner() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let spinner = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    spinner.enable_steady_tick(SPIN_EVERY);
    spinner
}

/// Follows a submission until it is final, or held, where only another caller can go on.
async fn watch(connection: &Connection, name: String, output: ListOutput) -> Result<ExitCode, Failure> {
    let request = pb::WatchSubmissionRequest { name };
    let mut states = connection.submissions().watch_submission(request).await?.into_inner();
    let spinner = spinner();
    let mut last = pb::Submission::default();
    while let Some(message) = states.message().await? {
        last = message.submission.unwrap_or_default();
        spinner.set_message(state(&last));
        if last.state() == pb::SubmissionState::Held {
            break;
        }
    }
    spinner.finish_and_clear();
    show(&last, output)?;
    Ok(code(&last))
}

/// Failure for what did not and will not reach the source.
fn code(submission: &pb::Submission) -> ExitCode {
    match submission.state() {
        pb::SubmissionState::Rejected | pb::SubmissionState::Expired | pb::SubmissionState::Failed => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn show(submission: &pb::Submission, output: ListOutput) -> Result<(), Failure> {
    print_messages(output, "Submission", std::slice::from_ref(submission), |submissions| {
        submissions.iter().map(text).collect()
    })
}

fn state(submission: &pb::Submission) -> String {
    let state = table::words(submission.state().as_str_name(), "SUBMISSION_STATE_");
    match submission.analysis_status() {
        pb::AnalysisStatus::Queued | pb::AnalysisStatus::InProgress
            if submission.state() == pb::SubmissionState::Analysing =>
        {
            format!("{state} ({})", table::words(submission.analysis_status().as_str_name(), "ANALYSIS_STATUS_"))
        }
        _ => state,
    }
}

fn in_words(reason: &pb::HoldReason) -> String {
    format!("{} ({})", reason.detail, reason.place)
}

/// A submission in words, with each reason for which it is held.
pub(super) fn text(submission: &pb::Submission) -> String {
    let value = submission.indicator.as_ref().map(|indicator| indicator.value.clone()).unwrap_or_default();
    let mut lines = vec![format!("{}  {}", state(submission), value)];
    if !submission.file_name.is_empty() {
        let kind = if submission.media_type.is_empty() { "type not known yet" } else { &submission.media_type };
        lines.push(format!("  {}, {} bytes, {kind}", submission.file_name, submission.size_bytes));
    }
    let from = format!(
        "for {} by {}, TLP:{}{}",
        table::source_id(&submission.source),
        submission.submitter,
        table::tlp(submission.tlp()),
        if submission.private_scan { ", private scan" } else { "" }
    );
    lines.push(format!("  {from}"));
    lines.extend(submission.hold_reasons.iter().map(|reason| format!("  held: {}", in_words(reason))));
    if let Some(end) = &submission.expire_time {
        lines.push(format!("  waits for `concord submission approve` by another caller until {}", table::moment(end)));
    }
    if let Some(review) = &submission.review {
        let what = if review.approved { "approved" } else { "rejected" };
        lines.push(format!("  {what} by {}: {}", review.reviewer, review.reason));
    }
    if let Some(time) = &submission.send_time {
        lines.push(format!("  sent to {} at {}", submission.recipient, table::moment(time)));
    }
    if !submission.detail.is_empty() {
        lines.push(format!("  {}", submission.detail));
    }
    let names: Vec<_> =
        [&submission.name, &submission.verdict].into_iter().filter(|name| !name.is_empty()).cloned().collect();
    lines.push(format!("  {}", names.join(" | ")));
    lines.iter().map(|line| table::printable(line) + "\n").collect()
}

fn submission_table(submissions: &[pb::Submission]) -> String {
    let mut rows = table::plain(&["TIME", "STATE", "WHAT", "FOR", "BY", "NAME", "WHY"]);
    for submission in submissions {
        let value = submission.indicator.as_ref().map(|indicator| indicator.value.as_str()).unwrap_or_default();
        let what = if submission.file_name.is_empty() { value } else { &submission.file_name };
        let why = match submission.hold_reasons.first() {
            Some(reason) if submission.state() == pb::SubmissionState::Held => in_words(reason),
            _ => submission.detail.clone(),
        };
        rows.add_row(table::row([
            submission.create_time.as_ref().map(table::moment).unwrap_or_default(),
            state(submission),
            table::shortened(what),
            table::source_id(&submission.source).to_owned(),
            submission.submitter.clone(),
            submission.name.clone(),
            why,
        ]));
    }
    table::fitted(rows, Some(6))
}
