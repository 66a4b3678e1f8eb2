//! What of a submission has no column of its own, as bytes and back.

use prost::Message;

use super::stored::submission_body::{File, HoldReason as StoredReason, Review, SubmittedAnalysis as StoredAnalysis};
use super::{StoreError, required, stored, time, unreadable};
use crate::indicator::Tlp;
use crate::source::Visibility;
use crate::store::submission::{
    AnalysisStatus, HoldReason, HoldReasonCode, Submission, SubmissionReview, SubmissionType, SubmittedAnalysis,
    SubmittedFile,
};

stored_enum!(SubmissionType: File Url Rescan);
stored_enum!(AnalysisStatus: Queued InProgress Completed);
stored_enum!(HoldReasonCode: SensitivityLabel Marking SensitiveWord OwnName Email PrivateKey Credential EmailAddress InternalHost Encrypted Unreadable Limit Interrupted);

fn to_stored(status: AnalysisStatus) -> stored::AnalysisStatus {
    status.into()
}

/// Encodes the body of a submission.
pub(in crate::store) fn encode_submission(submission: &Submission) -> Vec<u8> {
    let reason = |reason: &HoldReason| StoredReason {
        code: stored::HoldReasonCode::from(reason.code).into(),
        place: reason.place.clone(),
        detail: reason.detail.clone(),
    };
    let body = stored::SubmissionBody {
        r#type: stored::SubmissionType::from(submission.submission_type).into(),
        file: submission.file.as_ref().map(|file| File {
            name: file.name.clone(),
            size: file.size,
            media_type: file.media_type.clone(),
            md5: file.md5.clone(),
            sha1: file.sha1.clone(),
        }),
        hold_reasons: submission.hold_reasons.iter().map(reason).collect(),
        review: submission.review.as_ref().map(|review| Review {
            is_approved: review.is_approved,
            reviewer: review.reviewer.clone(),
            reason: review.reason.clone(),
            time: Some(review.time.into()),
        }),
        detail: submission.detail.clone(),
        send_time: submission.send_time.map(Into::into),
        recipient: submission.recipient.clone(),
        analysis: submission
            .analysis
            .as_ref()
            .map(|analysis| StoredAnalysis { id: analysis.id.clone(), status: to_stored(analysis.status).into() }),
        is_known: submission.is_known,
        verdict: submission.verdict.clone(),
        tlp: submission.tlp.as_str().to_owned(),
        is_private: submission.visibility == Visibility::Private,
    };
    body.encode_to_vec()
}

/// Reverses [`encode_submission`]; `columns` has the rest.
pub(in crate::store) fn decode_submission(columns: Submission, bytes: &[u8]) -> Result<Submission, StoreError> {
    let body = stored::SubmissionBody::decode(bytes).map_err(unreadable)?;
    let submission_type = body.r#type().try_into()?;
    let reason = |reason: StoredReason| {
        Ok(HoldReason { code: reason.code().try_into()?, place: reason.place, detail: reason.detail })
    };
    let review = |review: Review| {
        Ok::<_, StoreError>(SubmissionReview {
            is_approved: review.is_approved,
            reviewer: review.reviewer,
            reason: review.reason,
            time: time(required(review.time)?)?,
        })
    };
    let analysis = |analysis: StoredAnalysis| {
        Ok::<_, StoreError>(SubmittedAnalysis { status: analysis.status().try_into()?, id: analysis.id })
    };
    let file = |file: File| {
        let File { name, size, media_type, md5, sha1 } = file;
        SubmittedFile { name, size, media_type, md5, sha1 }
    };
    Ok(Submission {
        submission_type,
        visibility: if body.is_private { Visibility::Private } else { Visibility::Public },
        tlp: body.tlp.parse::<Tlp>().map_err(unreadable)?,
        file: body.file.map(file),
        hold_reasons: body.hold_reasons.into_iter().map(reason).collect::<Result<_, StoreError>>()?,
        review: body.review.map(review).transpose()?,
        detail: body.detail,
        send_time: body.send_time.map(time).transpose()?,
        recipient: body.recipient,
        analysis: body.analysis.map(analysis).transpose()?,
        is_known: body.is_known,
        verdict: body.verdict,
        ..columns
    })
}
