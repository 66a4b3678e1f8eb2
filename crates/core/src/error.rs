//! Why a call failed. Knows no transport: `rpc/status.rs` maps it to gRPC, `cli` prints it.
//!
//! A source that fails is never an [`Error`] but a `SourceError`, which is part of the response. Texts here are for the
//! caller; what only the operator may see goes to the log under an incident number.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

/// Stable, machine-readable reason of a failure or of one [`Violation`]; travels as `google.rpc.ErrorInfo.reason`.
///
/// A new reason is added only where a client would act differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// The indicator could not be parsed, or its form is refused.
    IndicatorInvalid,
    /// A field holds a value that it does not allow.
    FieldInvalid,
    /// A required field is empty.
    FieldRequired,
    /// More entries than one request may carry.
    TooMany,
    /// An enum field holds a number that this version does not know.
    EnumUnknown,
    /// A field mask names a path that does not exist or may not be written.
    MaskInvalid,
    /// A page token is damaged, or was issued for other parameters.
    PageTokenInvalid,
    /// No source has this name.
    SourceNotFound,
    /// No kind has this name.
    KindUnknown,
    /// No verdict has this name.
    VerdictNotFound,
    /// No policy has this name.
    PolicyNotFound,
    /// The resource already exists and the request did not allow changing it.
    AlreadyExists,
    /// The `etag` is not the current one: the resource was changed in between.
    EtagMismatch,
    /// A new address, proxy or TLS setting would receive a credential that was given for another.
    CredentialRequired,
    /// The resource is built in, or declared in the configuration file or by the environment, and the API cannot do this to
    /// it.
    DeclaredElsewhere,
    /// Something else needs the resource, so that it cannot be deleted.
    InUse,
    /// An address that may not be reached: link-local, cloud metadata, or not allowed over the API.
    EgressForbidden,
    /// The server lacks what the call needs (no store, no key).
    NotReady,
    /// The token is missing or unknown.
    TokenInvalid,
    /// The caller may not do this.
    Forbidden,
    /// A limit of this server is reached.
    Overloaded,
    /// The server is shutting down or a store cannot be reached.
    Unavailable,
    /// The deadline was too near when the request arrived.
    DeadlineTooShort,
    /// A fault of the server; the log has it under the incident number.
    Internal,
    /// No feedback has this name.
    FeedbackNotFound,
    /// No submission has this name.
    SubmissionNotFound,
    /// No never-send rule has this name.
    NeverSendRuleNotFound,
}

impl Reason {
    /// The name on the wire, in SCREAMING_SNAKE_CASE.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A text that is none of an enum's words. The message names the allowed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseEnumError {
    what: &'static str,
    given: String,
    allowed: Vec<&'static str>,
}

impl ParseEnumError {
    /// `given` is no `what`, the field's term for a `T`. At most 40 characters of it are shown.
    pub fn new<T: VariantArray + Copy + Into<&'static str>>(what: &'static str, given: &str) -> Self {
        let allowed = T::VARIANTS.iter().map(|variant| (*variant).into()).collect();
        Self { what, given: given.chars().take(40).collect(), allowed }
    }
}

impl fmt::Display for ParseEnumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no {}; use one of {}", self.given, self.what, self.allowed.join(", "))
    }
}

impl std::error::Error for ParseEnumError {}

/// The variant whose word is `text`, ignoring ASCII case and outer white space.
///
/// # Errors
/// When no variant has that word.
pub fn parse_enum<T: VariantArray + Copy + Into<&'static str>>(
    text: &str,
    what: &'static str,
) -> Result<T, ParseEnumError> {
    let named = |variant: &&T| Into::<&'static str>::into(**variant).eq_ignore_ascii_case(text.trim());
    T::VARIANTS.iter().find(named).copied().ok_or_else(|| ParseEnumError::new::<T>(what, text))
}

/// One mistake in a request or configuration file: where it is, what it is, and how to correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, as in the proto or the configuration file: `source.options.malicious_threshold`.
    pub field: String,
    /// The kind of mistake, for programs.
    pub reason: Reason,
    /// The mistake and what to do instead, for people. Never holds a secret.
    pub message: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, reason: Reason, message: impl Into<String>) -> Self {
        Self { field: field.into(), reason, message: message.into() }
    }

    /// A value that the field does not allow.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(field, Reason::FieldInvalid, message)
    }

    /// The same violation, with `prefix.` before its field path.
    #[must_use]
    pub fn nested_in(mut self, prefix: &str) -> Self {
        self.field = if self.field.is_empty() { prefix.to_owned() } else { format!("{prefix}.{}", self.field) };
        self
    }
}

/// Adds violations of fields that have none yet. A malformed value often breaks later rules too, and those violations
/// would only repeat the first.
pub fn merge_new(violations: &mut Vec<Violation>, mut more: Vec<Violation>) {
    let known: HashSet<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    more.retain(|new| !known.contains(new.field.as_str()));
    violations.append(&mut more);
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request is invalid. Lists every mistake at once; never empty.
    Invalid(Vec<Violation>),
    /// Nothing has this name.
    NotFound {
        /// What was not found: a source, a kind, a verdict or a policy.
        reason: Reason,
        /// The name that the caller gave: `sources/vt`.
        name: String,
        /// What to do instead.
        hint: String,
    },
    /// Something already has this name.
    AlreadyExists {
        /// The name that is taken.
        name: String,
    },
    /// The resource was changed in between; the caller must read it again and repeat.
    Conflict {
        /// The resource that changed.
        name: String,
    },
    /// The system or the resource is not in the state that the call needs.
    NotReady {
        /// The precondition that fails.
        reason: Reason,
        /// The resource or setting that is not ready.
        subject: String,
        /// What to do so that it is.
        message: String,
    },
    /// The caller could not be authenticated.
    Unauthenticated {
        /// What is missing. Never repeats what was sent.
        message: String,
    },
    /// The caller may not do this.
    Forbidden {
        /// The precondition that fails.
        reason: Reason,
        /// What would be needed.
        message: String,
    },
    /// A limit of this server is reached.
    Exhausted {
        /// What ran out.
        subject: String,
        /// The limit in words.
        message: String,
        /// Time until trying again can succeed; `None` if unknown.
        retry_after: Option<Duration>,
    },
    /// Something that the call needs is unavailable for now.
    Unavailable {
        /// What is unavailable.
        message: String,
        /// Time until trying again can succeed; `None` if unknown.
        retry_after: Option<Duration>,
    },
    /// The deadline was too near when the request arrived.
    Late {
        /// The least time to the deadline that a request needs.
        needed: Duration,
    },
    /// A fault of the server. The cause is in the log under the incident number, never in the response.
    Internal {
        /// The number under which the operator finds the cause.
        incident: String,
    },
}

impl Error {
    /// A single violation.
    pub fn invalid(field: impl Into<String>, reason: Reason, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, reason, message)])
    }

    /// The machine-readable reason of the whole failure; for [`Error::Invalid`] that of the first violation.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(violations) => violations.first().map_or(Reason::FieldInvalid, |first| first.reason),
            Self::NotFound { reason, .. } | Self::NotReady { reason, .. } | Self::Forbidden { reason, .. } => *reason,
            Self::AlreadyExists { .. } => Reason::AlreadyExists,
            Self::Conflict { .. } => Reason::EtagMismatch,
            Self::Unauthenticated { .. } => Reason::TokenInvalid,
            Self::Exhausted { .. } => Reason::Overloaded,
            Self::Unavailable { .. } => Reason::Unavailable,
            Self::Late { .. } => Reason::DeadlineTooShort,
            Self::Internal { .. } => Reason::Internal,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(violations) => {
                for (i, violation) in violations.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    write!(f, "{separator}{violation}")?;
                }
                Ok(())
            }
            Self::NotFound { name, hint, .. } => write!(f, "{name} not found: {hint}"),
            Self::AlreadyExists { name } => write!(f, "{name} already exists"),
            Self::Conflict { name } => {
                write!(f, "{name} was changed in between: read it again and repeat with its new etag")
            }
            Self::NotReady { subject, message, .. } | Self::Exhausted { subject, message, .. } => {
                write!(f, "{subject}: {message}")
            }
            Self::Unauthenticated { message } | Self::Forbidden { message, .. } | Self::Unavailable { message, .. } => {
                f.write_str(message)
            }
            Self::Late { needed } => {
                write!(f, "the deadline is too near: give at least {} ms", needed.as_millis())
            }
            Self::Internal { incident } => write!(f, "internal error, incident {incident}"),
        }
    }
}

impl std::error::Error for Error {}
