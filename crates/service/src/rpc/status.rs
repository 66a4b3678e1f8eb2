//! Converts an [`Error`] into a gRPC status with `google.rpc` details. No other file makes a status.
//!
//! Status and details are sent as headers, so the message is limited to 1 KiB and the details to 4 KiB. If not all
//! violations fit, the last one says how many are missing.

use std::any::Any;
use std::borrow::Borrow;
use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::error;

use crate::error::{Error, Violation};
use crate::store::new_incident;

/// The domain of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "concord.v1";

const MAX_MESSAGE: usize = 1024;
const MAX_DETAILS: usize = 3072;
/// Bytes that protobuf adds to one violation.
const PER_VIOLATION: usize = 16;

/// The status of a failed call.
pub(crate) fn of<E: Borrow<Error>>(error: E) -> Status {
    let error = error.borrow();
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason().as_str(), DOMAIN, HashMap::new());
    match error {
        Error::Invalid(violations) => add_violations(&mut details, violations),
        Error::NotFound { name, hint, .. } => {
            details.set_resource_info(collection(name), name.as_str(), "", hint.as_str());
        }
        Error::AlreadyExists { name } => {
            details.set_resource_info(collection(name), name.as_str(), "", "it already exists");
        }
        Error::NotReady { reason, subject, message } => {
            details.add_precondition_failure_violation(reason.as_str(), subject.as_str(), message.as_str());
        }
        Error::Exhausted { subject, message, retry_after } => {
            details.add_quota_failure_violation(subject.as_str(), message.as_str());
            details.set_retry_info(*retry_after);
        }
        Error::Unavailable { retry_after, .. } => {
            details.set_retry_info(*retry_after);
        }
        Error::Conflict { .. }
        | Error::Unauthenticated { .. }
        | Error::Forbidden { .. }
        | Error::Late { .. }
        | Error::Internal { .. } => {}
    }
    Status::with_error_details(code(error), message(error), details)
}

/// The error of a call that panicked. The cause is only logged, under the incident number that the caller receives.
pub(crate) fn panicked(cause: &(dyn Any + Send)) -> Error {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    let incident = new_incident();
    error!(incident, panic = text.unwrap_or("unknown"), "a call panicked");
    Error::Internal { incident }
}

fn code(error: &Error) -> Code {
    match error {
        Error::Invalid(_) => Code::InvalidArgument,
        Error::NotFound { .. } => Code::NotFound,
        Error::AlreadyExists { .. } => Code::AlreadyExists,
        Error::Conflict { .. } => Code::Aborted,
        Error::NotReady { .. } => Code::FailedPrecondition,
        Error::Unauthenticated { .. } => Code::Unauthenticated,
        Error::Forbidden { .. } => Code::PermissionDenied,
        Error::Exhausted { .. } => Code::ResourceExhausted,
        Error::Unavailable { .. } => Code::Unavailable,
        Error::Late { .. } => Code::DeadlineExceeded,
        Error::Internal { .. } => Code::Internal,
    }
}

fn message(error: &Error) -> String {
    let text = error.to_string();
    if text.len() <= MAX_MESSAGE {
        return text;
    }
    let mut end = MAX_MESSAGE - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Adds as many violations as fit; if some do not, the last one says how many more there are.
fn add_violations(details: &mut ErrorDetails, violations: &[Violation]) {
    let mut used = 0;
    for (place, violation) in violations.iter().enumerate() {
        used += violation.field.len() + violation.message.len() + PER_VIOLATION;
        if used > MAX_DETAILS {
            details.add_bad_request_violation("", format!("and {} more", violations.len() - place));
            return;
        }
        details.add_bad_request_violation(violation.field.as_str(), violation.message.as_str());
    }
}

/// The collection of a resource name: `sources` for `sources/vt`.
fn collection(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;
    use crate::store::{StoreError, StoreErrorKind};

    #[test]
    fn every_violation_carries_its_field() {
        let error = Error::Invalid(vec![
            Violation::new("indicator.value", Reason::FieldRequired, "an indicator is needed"),
            Violation::invalid("tlp", "no TLP label"),
        ]);
        let status = of(&error);
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["indicator.value", "tlp"]);
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("FIELD_REQUIRED", DOMAIN));
    }

    #[test]
    fn a_thousand_violations_stay_within_the_header_limit_and_are_counted() {
        let violations = (0..1000).map(|n| Violation::invalid(format!("sources[{n}]"), "no such source")).collect();
        let status = of(Error::Invalid(violations));
        assert!(status.message().len() <= MAX_MESSAGE, "{}", status.message().len());
        assert!(status.details().len() <= 4096, "{}", status.details().len());
        let details = status.get_error_details();
        let listed = details.bad_request().unwrap().field_violations.clone();
        let more: usize = listed.last().unwrap().description.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(listed.len() - 1 + more, 1000);
    }

    #[test]
    fn a_store_that_may_come_back_is_unavailable_and_a_damaged_one_internal() {
        for (kind, code) in [
            (StoreErrorKind::Busy, Code::Unavailable),
            (StoreErrorKind::Full, Code::Unavailable),
            (StoreErrorKind::Corrupt, Code::Internal),
            (StoreErrorKind::Rejected, Code::Internal),
        ] {
            let status = of::<Error>(StoreError::new(kind, "page 7 of /srv/concord.db").into());
            assert_eq!(status.code(), code, "{kind:?}");
            assert!(!status.message().contains("page 7"), "{status}");
        }
    }

    #[test]
    fn a_reached_limit_says_when_to_retry() {
        let wait = std::time::Duration::from_secs(3);
        let error =
            Error::Exhausted { subject: "requests".into(), message: "too many".into(), retry_after: Some(wait) };
        assert_eq!(of(&error).get_error_details().retry_info().unwrap().retry_delay, Some(wait));
    }
}
