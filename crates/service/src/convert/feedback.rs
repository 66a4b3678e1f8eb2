//! `feedback.proto`: what analysts say of indicators.

use std::time::{Duration, SystemTime};

use super::indicator::{read as read_indicator, write as write_indicator, write_disposition};
use super::{Violations, read_name, read_timestamp, write_timestamp};
use crate::error::{Reason, Violation};
use crate::indicator::Indicator;
use crate::pb;
use crate::verdict::{AnalystJudgement, AnalystWord, Feedback, Retraction};

const MOST_AUTHOR: usize = 128;
const MOST_REASON_BYTES: usize = 1024;
/// A pin that nobody thinks of any more must end by itself.
const LONGEST_PIN: Duration = Duration::from_secs(366 * 86_400);

convert_enum!(
    read_judgement, write_judgement: Judgement <=> AnalystJudgement { TruePositive, FalsePositive, Benign },
    "1 (TRUE_POSITIVE), 2 (FALSE_POSITIVE), 3 (BENIGN)"
);

/// What is to be recorded. Whether the verdict exists is not known yet.
#[derive(Debug)]
pub struct NewFeedback {
    /// `None` only where there is a verdict, whose indicator is meant.
    pub indicator: Option<Indicator>,
    pub verdict: Option<String>,
    pub judgement: AnalystJudgement,
    pub author: String,
    pub reason: String,
    pub pin: bool,
    pub expire_time: Option<SystemTime>,
}

/// Reads what the request wants to record, and notes every violation.
pub fn read_new(
    request: &pb::RecordFeedbackRequest,
    caller: &str,
    now: SystemTime,
    violations: &mut Violations,
) -> Option<NewFeedback> {
    let verdict = Some(&request.verdict)
        .filter(|name| !name.is_empty())
        .map(|name| violations.check(read_name(name, "verdicts", "verdict")));
    // A verdict stands for its indicator.
    let indicator = match (&request.indicator, &verdict) {
        (None, Some(_)) => Some(None),
        (indicator, _) => read_indicator(indicator.as_ref(), "indicator", violations).map(|read| Some(read.indicator)),
    };
    let judgement = violations.check(read_judgement(request.judgement, "judgement"));
    if judgement == Some(None) {
        let message = "what was found is needed: TRUE_POSITIVE, FALSE_POSITIVE or BENIGN";
        violations.add(Violation::new("judgement", Reason::FieldRequired, message));
    }
    let author = violations.check(read_author(&request.author, caller));
    let reason = violations.check(read_reason(&request.reason));
    let expire_time = read_expire_time(request.expire_time, request.pin, now, violations);
    Some(NewFeedback {
        indicator: indicator?,
        verdict: verdict.map_or(Some(None), |verdict| verdict.map(Some))?,
        judgement: judgement??,
        author: author?,
        reason: reason?,
        pin: request.pin,
        expire_time: expire_time?,
    })
}

/// The author, or the caller where none is named.
pub fn read_author(author: &str, caller: &str) -> Result<String, Violation> {
    let author = if author.trim().is_empty() { caller } else { author.trim() };
    if author.chars().count() > MOST_AUTHOR || author.chars().any(char::is_control) {
        return Err(Violation::invalid("author", "one line of at most 128 characters"));
    }
    Ok(author.to_owned())
}

pub fn read_reason(reason: &str) -> Result<String, Violation> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(Violation::new("reason", Reason::FieldRequired, "a reason is needed: why, in one line"));
    }
    if reason.len() > MOST_REASON_BYTES || reason.chars().any(char::is_control) {
        return Err(Violation::invalid("reason", "one line of at most 1 KiB"));
    }
    Ok(reason.to_owned())
}

/// `None` where the time was refused.
fn read_expire_time(
    time: Option<prost_types::Timestamp>,
    pin: bool,
    now: SystemTime,
    violations: &mut Violations,
) -> Option<Option<SystemTime>> {
    const FIELD: &str = "expire_time";
    let Some(time) = time else {
        if pin {
            let message = "a pin needs an end, at most 366 days from now";
            violations.add(Violation::new(FIELD, Reason::FieldRequired, message));
            return None;
        }
        return Some(None);
    };
    let time = violations.check(read_timestamp(time, FIELD))?;
    if time <= now {
        violations.add(Violation::invalid(FIELD, "must be later than now"));
        return None;
    }
    if pin && time.duration_since(now).is_ok_and(|left| left > LONGEST_PIN) {
        violations.add(Violation::invalid(FIELD, "a pin ends at most 366 days from now"));
        return None;
    }
    Some(Some(time))
}

/// The feedback, as it is at this time.
pub fn write(feedback: &Feedback, now: SystemTime) -> pb::Feedback {
    let name = |collection: &str, id: &str| if id.is_empty() { String::new() } else { format!("{collection}/{id}") };
    pb::Feedback {
        name: name("feedback", &feedback.id),
        indicator: Some(write_indicator(&feedback.indicator)),
        judgement: write_judgement(feedback.judgement).into(),
        disposition: write_disposition(feedback.judgement.disposition()).into(),
        author: feedback.author.clone(),
        reason: feedback.reason.clone(),
        pin: feedback.pin,
        create_time: Some(write_timestamp(feedback.create_time)),
        expire_time: feedback.expire_time.map(write_timestamp),
        verdict: name("verdicts", feedback.verdict.as_deref().unwrap_or_default()),
        caller: feedback.caller.clone(),
        active: feedback.is_active(now),
        retraction: feedback.retraction.as_ref().map(write_retraction),
    }
}

fn write_retraction(retraction: &Retraction) -> pb::FeedbackRetraction {
    pb::FeedbackRetraction {
        author: retraction.author.clone(),
        reason: retraction.reason.clone(),
        time: Some(write_timestamp(retraction.time)),
        caller: retraction.caller.clone(),
    }
}

/// Feedback as a verdict shows it.
pub fn write_word(word: &AnalystWord) -> pb::AnalystWord {
    pb::AnalystWord {
        feedback: format!("feedback/{}", word.feedback),
        judgement: write_judgement(word.judgement).into(),
        author: word.author.clone(),
        reason: word.reason.clone(),
        create_time: Some(write_timestamp(word.create_time)),
        expire_time: word.expire_time.map(write_timestamp),
        caller: word.caller.clone(),
    }
}
