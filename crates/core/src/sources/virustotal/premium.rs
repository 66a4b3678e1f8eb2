//! The relationship check of a premium key: files that are related to an address, domain or URL may make it worse.
//!
//! One question a relationship, at most three; it stops as soon as no further answer could change the claim.

use super::options::Options;
use super::rating;
use super::report::Report;
use crate::finding::{Disposition, Finding, SourceError, Strength, counted};
use crate::indicator::IndicatorType;
use crate::source::{Answer, Lookup, Question};
use crate::sources::http::{self, Api};
use crate::sources::json::{self, Object};

/// The relationships that are looked at, in this order, each with its words for people. The first is one that a free key is
/// refused, so that a key that is not premium shows it at once; communicating files are given to every key.
pub(super) const RELATIONSHIPS: [(&str, &str); 3] = [
    ("downloaded_files", "downloaded file"),
    ("communicating_files", "communicating file"),
    ("referrer_files", "referrer file"),
];

/// The question by which a key shows whether it is premium.
pub(super) fn first_question(api: &Api, lookup: &Lookup) -> Question {
    super::related(api, lookup, &[RELATIONSHIPS[0].0])
}

/// The check of one look-up.
pub(super) struct Check<'a> {
    pub(super) options: &'a Options,
    pub(super) api: &'a Api,
    pub(super) lookup: &'a Lookup,
}

/// How far the check came.
pub(super) enum Progress {
    /// This is asked next.
    Ask(Question),
    /// It ended after so many answers.
    Done(usize),
}

/// How many files of a relationship are rated how.
#[derive(Default)]
struct Files {
    all: u64,
    malicious: u64,
    /// Suspicious or worse.
    suspicious: u64,
}

impl Check<'_> {
    /// Weighs the answers so far into the finding. Returns the next question, or how many answers the check took.
    pub(super) fn read(&self, finding: &mut Finding, answers: &[Answer]) -> Result<Progress, SourceError> {
        let base = finding.claim;
        for (index, (relationship, noun)) in RELATIONSHIPS.into_iter().enumerate() {
            let Some(answer) = answers.get(index) else {
                return Ok(Progress::Ask(super::related(self.api, self.lookup, &[relationship])));
            };
            if answer.failure().is_some() {
                finding.reasons.push(
                    "its related files were not asked for: VirusTotal refused this key a premium question; test or \
                     change the source to try again"
                        .to_owned(),
                );
                return Ok(Progress::Done(index + 1));
            }
            self.weigh(finding, base, noun, &self.files(answer)?);
            if finding.claim == Disposition::Malicious {
                return Ok(Progress::Done(index + 1));
            }
        }
        Ok(Progress::Done(RELATIONSHIPS.len()))
    }

    /// Rates the files of an answer by the thresholds of files. One without counts says nothing.
    fn files(&self, answer: &Answer) -> Result<Files, SourceError> {
        let document = json::parse(http::success(answer)?)?;
        let record = Object::root(&document)?;
        if record.members().get("data").is_none() {
            return Err(record.missing("data"));
        }
        let mut files = Files::default();
        for item in record.list_or_one("data") {
            files.all += 1;
            let Ok(Some(attributes)) = item.object("attributes") else { continue };
            let Ok(report) = Report::read(&attributes) else { continue };
            let claim = rating::rate(IndicatorType::File, &report, self.options).claim;
            files.malicious += u64::from(claim == Disposition::Malicious);
            files.suspicious += u64::from(claim >= Disposition::Suspicious);
        }
        Ok(files)
    }

    /// What the files of one relationship change. `base` is what the report alone says.
    fn weigh(&self, finding: &mut Finding, base: Disposition, noun: &str, files: &Files) {
        let (malicious, suspicious) = (self.options.relationship_malicious, self.options.relationship_suspicious);
        let of_files = counted(files.all, noun);
        let is = |count: u64| if count == 1 { "is" } else { "are" };
        let (claim, reason) = if files.malicious >= malicious {
            let count = files.malicious;
            (Disposition::Malicious, format!("{count} of {of_files} {} malicious (threshold {malicious})", is(count)))
        } else {
            let worse = if base == Disposition::Suspicious { Disposition::Malicious } else { Disposition::Suspicious };
            let reached = files.suspicious >= suspicious;
            let count = files.suspicious;
            let what = "suspicious or malicious";
            let reason = format!("{count} of {of_files} {} {what} (threshold {suspicious})", is(count));
            (if reached { worse } else { finding.claim }, reason)
        };
        if claim > finding.claim {
            finding.claim = claim;
            finding.strength = Some(Strength::FULL);
            finding.reasons.insert(0, reason);
        } else {
            finding.reasons.push(reason);
        }
    }
}
