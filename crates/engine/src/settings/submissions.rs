//! The rules for submissions. Only the configuration file has them: who can change a source over the API must not be able
//! to open the way out for files.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Token;
use super::name::check_name;
use super::raw::RawSubmissions;
use crate::error::{ParseEnumError, Violation};
use crate::indicator::Tlp;
use crate::source::{Visibility, parse_duration};

/// Bytes of a word that holds a submission: a shorter one is found in every file.
const WORD_BYTES: RangeInclusive<usize> = 3..=200;
/// Most words of a list, each of which is looked for in every byte.
const MAX_WORDS: usize = 10_000;
/// Within less, nobody could review a submission.
const MIN_EXPIRY: Duration = Duration::from_secs(3600);

/// The rules for what may be given to sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionRules {
    /// Callers who may submit.
    pub submitters: Vec<String>,
    /// Callers who may approve what others submitted.
    pub approvers: Vec<String>,
    /// Largest file in bytes.
    pub max_file_bytes: u64,
    /// Bytes that all waiting files may take together.
    pub spool_bytes: u64,
    /// How long a held submission waits for a review.
    pub expiry: Duration,
    /// Words that hold a submission wherever they are found, ignoring case.
    pub sensitive_words: Vec<String>,
    /// The organisation's own names and domains, which hold a submission too.
    pub own_names: Vec<String>,
    /// The sources that submissions are enabled for.
    pub sources: BTreeMap<String, SourceSubmissions>,
}

/// What may be submitted to one source: the highest TLP label of it; `None`: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSubmissions {
    /// For everybody to see whom the source shows it to.
    pub public: Option<Tlp>,
    /// For a private scan.
    pub private: Option<Tlp>,
}

impl Default for SubmissionRules {
    fn default() -> Self {
        Self {
            submitters: vec!["local".into()],
            approvers: vec!["local".into()],
            max_file_bytes: 650 << 20,
            spool_bytes: 4 << 30,
            expiry: Duration::from_secs(7 * 86_400),
            sensitive_words: Vec::new(),
            own_names: Vec::new(),
            sources: BTreeMap::new(),
        }
    }
}

impl SubmissionRules {
    /// The highest TLP label of what may be submitted to this source; `None`: nothing may.
    pub fn max_tlp(&self, source: &str, visibility: Visibility) -> Option<Tlp> {
        let source = self.sources.get(source)?;
        match visibility {
            Visibility::Public => source.public,
            Visibility::Private => source.private,
        }
    }

    /// Reads what the file says.
    pub(super) fn read(raw: RawSubmissions, tokens: &[Token], violations: &mut Vec<Violation>) -> Self {
        let mut refuse = |field: String, message: String| {
            violations.push(Violation::invalid(format!("submissions.{field}"), message));
        };
        let usual = Self::default();
        let is_distinct = |name: &String| {
            *name == "local" || name.starts_with("certificate:") || tokens.iter().any(|token| token.name == *name)
        };
        for (list, names) in [("submitters", &raw.submitters), ("approvers", &raw.approvers)] {
            for (place, name) in names.iter().flatten().enumerate().filter(|(_, name)| !is_distinct(name)) {
                let message = format!(
                    "{name:?} is no caller that can be distinguished from others; name one of [tokens], local, or \
                     certificate:FINGERPRINT"
                );
                refuse(format!("{list}[{place}]"), message);
            }
        }
        for (list, words) in [("sensitive_words", &raw.sensitive_words), ("own_names", &raw.own_names)] {
            if words.len() > MAX_WORDS {
                refuse(list.to_owned(), format!("at most {MAX_WORDS}"));
            }
            for (place, _) in words.iter().enumerate().filter(|(_, word)| !WORD_BYTES.contains(&word.trim().len())) {
                let (least, most) = (WORD_BYTES.start(), WORD_BYTES.end());
                refuse(format!("{list}[{place}]"), format!("must have {least} to {most} bytes"));
            }
        }
        let mut sources = BTreeMap::new();
        for (name, source) in raw.sources {
            if let Err(message) = check_name("source", &name) {
                refuse(format!("sources.{name}"), message);
            }
            let mut limit = |field: &str, written: Option<&str>, is_enabled: bool| {
                let label = written.map_or(Ok(Tlp::Clear), str::parse);
                let label = label.map_err(|error: ParseEnumError| {
                    refuse(format!("sources.{name}.{field}"), error.to_string());
                });
                label.ok().filter(|_| is_enabled)
            };
            let public = limit("max_tlp", source.max_tlp.as_deref(), source.enabled);
            let private = limit("private_max_tlp", source.private_max_tlp.as_deref(), source.private_enabled);
            if public.is_some() || private.is_some() {
                sources.insert(name, SourceSubmissions { public, private });
            }
        }
        let expiry = raw.expiry.as_deref().map_or(Ok(usual.expiry), parse_duration).unwrap_or_else(|message| {
            refuse("expiry".into(), message);
            usual.expiry
        });
        if expiry < MIN_EXPIRY {
            refuse("expiry".into(), "must be at least 1h, or nobody could review a submission".into());
        }
        let max_file_bytes = raw.max_file_bytes.unwrap_or(usual.max_file_bytes);
        let spool_bytes = raw.spool_bytes.unwrap_or(usual.spool_bytes);
        if !(1..=spool_bytes).contains(&max_file_bytes) {
            refuse("max_file_bytes".into(), "must be from 1 to spool_bytes".into());
        }
        Self {
            submitters: raw.submitters.unwrap_or(usual.submitters),
            approvers: raw.approvers.unwrap_or(usual.approvers),
            max_file_bytes,
            spool_bytes,
            expiry,
            sensitive_words: raw.sensitive_words.iter().map(|word| word.trim().to_owned()).collect(),
            own_names: raw.own_names.iter().map(|word| word.trim().to_owned()).collect(),
            sources,
        }
    }
}
