//! `concord feedback`.

use std::process::ExitCode;

use super::args::{Client, Feedback, Judgement, ListOutput, Record};
use super::connect::Connection;
use super::enrich::full_name;
use super::history::{all_pages, page_size};
use super::json::print_messages;
use super::{Failure, print, table};
use crate::clock::{Clock, SystemClock};
use crate::convert::write_timestamp;
use crate::pb;

pub(super) async fn run(client: &Client, command: Feedback) -> Result<ExitCode, Failure> {
    let done = Connection::with(client, async |connection| match &command {
        Feedback::Record(record) => record_feedback(connection, record).await,
        Feedback::List { indicator, active, limit, output } => {
            list(connection, indicator.clone(), *active, *limit, *output).await
        }
        Feedback::Retract { name, reason, author } => {
            let request = pb::RetractFeedbackRequest {
                name: full_name(name, "feedback"),
                author: author.clone().unwrap_or_default(),
                reason: reason.clone(),
                validate_only: false,
            };
            let answer = connection.verdicts().retract_feedback(request).await?.into_inner();
            print(&format!("{}\n", table::printable(&retracted(&answer))))
        }
    });
    done.await.map(|()| ExitCode::SUCCESS)
}

async fn record_feedback(connection: &Connection, record: &Record) -> Result<(), Failure> {
    let end = record
        .until
        .map(|until| prost_types::Timestamp { seconds: until.as_second(), nanos: until.subsec_nanosecond() });
    let after = record.for_time.and_then(|time| SystemClock.now().checked_add(time)).map(write_timestamp);
    let request = pb::RecordFeedbackRequest {
        indicator: record.indicator.clone().map(|value| pb::Indicator { r#type: 0, value }),
        verdict: record.verdict.as_ref().map(|name| full_name(name, "verdicts")).unwrap_or_default(),
        judgement: write_judgement(&record.judgement).into(),
        author: record.author.clone().unwrap_or_default(),
        reason: record.reason.clone(),
        pin: record.pin,
        expire_time: end.or(after),
        request_id: String::new(),
        validate_only: record.validate_only,
    };
    let feedback = connection.verdicts().record_feedback(request).await?.into_inner().feedback.unwrap_or_default();
    print_messages(record.output, "Feedback", &[feedback], feedback_table)
}

fn write_judgement(judgement: &Judgement) -> pb::Judgement {
    match (judgement.true_positive, judgement.false_positive, judgement.benign) {
        (true, _, _) => pb::Judgement::TruePositive,
        (false, true, _) => pb::Judgement::FalsePositive,
        (false, false, true) => pb::Judgement::Benign,
        (false, false, false) => pb::Judgement::Unspecified,
    }
}

async fn list(
    connection: &Connection,
    indicator: Option<String>,
    active_only: bool,
    limit: usize,
    output: ListOutput,
) -> Result<(), Failure> {
    let request = pb::ListFeedbackRequest {
        indicator: indicator.map(|value| pb::Indicator { r#type: 0, value }),
        active_only,
        page_size: page_size(limit),
        ..Default::default()
    };
    let feedback = all_pages(limit, async |page_token| {
        let request = pb::ListFeedbackRequest { page_token, ..request.clone() };
        let page = connection.verdicts().list_feedback(request).await?.into_inner();
        Ok((page.feedback, page.next_page_token))
    });
    print_messages(output, "Feedback", &feedback.await?, feedback_table)
}

fn feedback_table(feedback: &[pb::Feedback]) -> String {
    let mut rows = table::plain(&["TIME", "INDICATOR", "JUDGEMENT", "STATE", "BY", "NAME", "WHY"]);
    for entry in feedback {
        rows.add_row(table::row([
            entry.create_time.as_ref().map(table::moment).unwrap_or_default(),
            entry.indicator.as_ref().map(|indicator| table::shortened(&indicator.value)).unwrap_or_default(),
            table::words(entry.judgement().as_str_name(), "JUDGEMENT_"),
            state(entry),
            table::by(&entry.author, &entry.caller),
            entry.name.clone(),
            entry.reason.clone(),
        ]));
    }
    table::fitted(rows, Some(6))
}

fn retracted(answer: &pb::RetractFeedbackResponse) -> String {
    let feedback = answer.feedback.clone().unwrap_or_default();
    match feedback.retraction.filter(|_| answer.was_retracted) {
        Some(pb::FeedbackRetraction { author, reason, time, caller }) => {
            let time = time.as_ref().map(table::moment).unwrap_or_default();
            format!("{} was retracted before, by {} at {time}: {reason}", feedback.name, table::by(&author, &caller))
        }
        None => format!("retracted {}", feedback.name),
    }
}

/// Whether it holds, and until when.
fn state(entry: &pb::Feedback) -> String {
    if let Some(retraction) = &entry.retraction {
        return format!("retracted by {}", table::by(&retraction.author, &retraction.caller));
    }
    let what = if entry.pin { "pinned" } else { "noted" };
    match (&entry.expire_time, entry.active) {
        (None, _) => what.to_owned(),
        (Some(end), true) => format!("{what} until {}", table::moment(end)),
        (Some(end), false) => format!("expired {}", table::moment(end)),
    }
}
