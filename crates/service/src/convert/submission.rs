//! `submission.proto`: what is given to sources for analysis.

use std::time::Duration;

use super::{Violations, indicator, read_name, write_timestamp};
use crate::error::{Reason, Violation};
use crate::indicator::Tlp;
use crate::pb;
use crate::source::Visibility;
use crate::store::{
    AnalysisStatus, HoldReason, HoldReasonCode, Submission, SubmissionReview, SubmissionState, SubmissionType,
};

convert_enum!(
    read_state, write_state: SubmissionState <=> SubmissionState {
        Received, Inspecting, Held, Approved, Uploading, Analysing, Done, Rejected, Expired, Failed
    },
    "1 (RECEIVED), 2 (INSPECTING), 3 (HELD), 4 (APPROVED), 5 (UPLOADING), 6 (ANALYSING), 7 (DONE), 8 (REJECTED), 9 (EXPIRED), 10 (FAILED)"
);
convert_enum!(write_type: SubmissionType <=> SubmissionType { File, Url, Rescan });
convert_enum!(write_status: AnalysisStatus <=> AnalysisStatus { Queued, InProgress, Completed });
convert_enum!(write_code: HoldReasonCode <=> HoldReasonCode {
    SensitivityLabel, Marking, SensitiveWord, OwnName, Email, PrivateKey, Credential, EmailAddress, InternalHost, Encrypted,
    Unreadable, Limit, Interrupted
});

/// Bytes of a file's name.
const MAX_FILE_NAME: usize = 255;

/// What is known of a file before its content.
pub struct FileHeader {
    pub source: String,
    pub file_name: String,
    pub tlp: Tlp,
    pub sha256: String,
    pub size: u64,
    pub visibility: Visibility,
    pub validate_only: bool,
}

/// Reads the header of a file, and notes every violation.
pub fn read_header(header: &pb::SubmittedFileHeader, violations: &mut Violations) -> Option<FileHeader> {
    let source = violations.check(read_name(&header.source, "sources", "header.source"));
    let file_name = violations.check(read_file_name(&header.file_name));
    let tlp = violations.check(indicator::read_tlp(header.tlp, "header.tlp"));
    let is_hash = header.sha256.len() == 64 && header.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if header.validate_only && header.sha256.is_empty() {
        let message = "the hash is needed where there is no content to compute it of";
        violations.add(Violation::new("header.sha256", Reason::FieldRequired, message));
    } else if !header.sha256.is_empty() && !is_hash {
        violations.add(Violation::invalid("header.sha256", "64 hexadecimal digits, or nothing"));
    }
    let size = u64::try_from(header.size_bytes);
    let size = violations.check(size.map_err(|_| Violation::invalid("header.size_bytes", "must not be negative")));
    let tlp = tlp?.unwrap_or_default();
    Some(FileHeader {
        source: source?,
        file_name: file_name?,
        tlp,
        sha256: header.sha256.clone(),
        size: size?,
        visibility: read_visibility(header.private_scan),
        validate_only: header.validate_only,
    })
}

pub fn read_visibility(private_scan: bool) -> Visibility {
    if private_scan { Visibility::Private } else { Visibility::Public }
}

fn read_file_name(name: &str) -> Result<String, Violation> {
    const FIELD: &str = "header.file_name";
    if name.is_empty() {
        return Err(Violation::new(FIELD, Reason::FieldRequired, "the file's name is needed, without its path"));
    }
    let is_wrong = |c: char| c.is_control() || matches!(c, '/' | '\\');
    if name.len() > MAX_FILE_NAME || name.chars().any(is_wrong) || matches!(name, "." | "..") {
        let message = "a name without path: at most 255 bytes, without control characters, / and \\";
        return Err(Violation::invalid(FIELD, message));
    }
    Ok(name.to_owned())
}

/// A submission; `expiry` is how long a held one waits for its review.
pub fn write(submission: &Submission, expiry: Duration) -> pb::Submission {
    let name = |collection: &str, id: &str| if id.is_empty() { String::new() } else { format!("{collection}/{id}") };
    let file = submission.file.as_ref();
    let analysis = submission.analysis.as_ref();
    let expires = submission.update_time.checked_add(expiry).filter(|_| submission.state == SubmissionState::Held);
    pb::Submission {
        name: name("submissions", &submission.id),
        r#type: write_type(submission.submission_type).into(),
        state: write_state(submission.state).into(),
        source: name("sources", &submission.source),
        indicator: Some(indicator::write(&submission.indicator)),
        file_name: file.map(|file| file.name.clone()).unwrap_or_default(),
        size_bytes: file.map_or(0, |file| i64::try_from(file.size).unwrap_or(i64::MAX)),
        media_type: file.map(|file| file.media_type.clone()).unwrap_or_default(),
        tlp: indicator::write_tlp(submission.tlp).into(),
        submitter: submission.submitter.clone(),
        create_time: Some(write_timestamp(submission.create_time)),
        update_time: Some(write_timestamp(submission.update_time)),
        hold_reasons: submission.hold_reasons.iter().map(write_reason).collect(),
        review: submission.review.as_ref().map(write_review),
        detail: submission.detail.clone(),
        send_time: submission.send_time.map(write_timestamp),
        recipient: submission.recipient.clone(),
        analysis_id: analysis.map(|analysis| analysis.id.clone()).unwrap_or_default(),
        analysis_status: analysis
            .map_or(pb::AnalysisStatus::Unspecified, |analysis| write_status(analysis.status))
            .into(),
        already_known: submission.is_known,
        verdict: name("verdicts", submission.verdict.as_deref().unwrap_or_default()),
        expire_time: expires.map(write_timestamp),
        private_scan: submission.visibility == Visibility::Private,
    }
}

fn write_reason(reason: &HoldReason) -> pb::HoldReason {
    pb::HoldReason { code: write_code(reason.code).into(), place: reason.place.clone(), detail: reason.detail.clone() }
}

fn write_review(review: &SubmissionReview) -> pb::SubmissionReview {
    pb::SubmissionReview {
        approved: review.is_approved,
        reviewer: review.reviewer.clone(),
        reason: review.reason.clone(),
        time: Some(write_timestamp(review.time)),
    }
}
