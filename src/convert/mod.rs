//! Protobuf to our types and back, one file per proto file. Reading a request collects every mistake with its field
//! path; writing an answer cannot fail.

use std::time::{Duration, SystemTime};

use crate::engine::Engine;
use crate::error::{Error, Reason, Violation, merge_new};

pub mod enrichment;
pub mod indicator;
pub mod source;
pub mod verdict;
pub mod verdict_read;

/// No name of ours is longer; one that is travels in no error, which must fit into a header.
const LONGEST_NAME: usize = 128;

/// Every mistake found in one request.
#[derive(Debug, Default)]
pub struct Violations(Vec<NotedViolation>);

#[derive(Debug)]
struct NotedViolation {
    violation: Violation,
    /// What the request fails with where this is its only mistake.
    alone: Option<Error>,
}

impl Violations {
    /// Notes a mistake.
    pub fn add(&mut self, violation: Violation) {
        self.0.push(NotedViolation { violation, alone: None });
    }

    /// The value, or `None` with its violations noted.
    pub fn check<T>(&mut self, read: Result<T, Violation>) -> Option<T> {
        read.map_err(|violation| self.add(violation)).ok()
    }

    /// Notes what the field names and what does not exist: as the only mistake it stays [`Error::NotFound`], among others
    /// it is told with its field.
    pub fn resolve<T>(&mut self, field: &str, found: Result<T, Error>) -> Option<T> {
        let missing = |error: Error| {
            let violation = Violation::new(field, error.reason(), error.to_string());
            self.0.push(NotedViolation { violation, alone: Some(error) });
        };
        found.map_err(missing).ok()
    }

    /// What was judged although there were violations, so that all are told at once: those noted, and what it failed with
    /// beside them. `field` is the one that may name what does not exist.
    ///
    /// # Errors
    /// As [`Self::finish`]; without a mistake of its own, what `judged` failed with.
    pub fn merge<T>(mut self, field: &str, judged: Result<T, Error>) -> Result<T, Error> {
        if self.0.is_empty() {
            return judged;
        }
        match judged {
            Err(Error::Invalid(more)) => {
                let mut told = self.0.into_iter().map(|noted| noted.violation).collect();
                merge_new(&mut told, more);
                return Err(Error::Invalid(told));
            }
            Err(missing @ Error::NotFound { .. }) => drop(self.resolve::<T>(field, Err(missing))),
            // What only a change without violations meets is told once it has none.
            Ok(_) | Err(_) => {}
        }
        self.finish().and_then(|()| Err(incomplete()))
    }

    /// Whether there was none so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Succeeds if there was no mistake.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every mistake, or the one failure that [`Self::resolve`] noted.
    pub fn finish(self) -> Result<(), Error> {
        match self.0.as_slice() {
            [] => Ok(()),
            [NotedViolation { alone: Some(error), .. }] => Err(error.clone()),
            _ => Err(Error::Invalid(self.0.into_iter().map(|noted| noted.violation).collect())),
        }
    }
}

/// The failure for a value that conversion lost although no mistake was noted; cannot happen while every reader notes
/// what it refuses, and is an error rather than a panic if it does.
pub(crate) fn incomplete() -> Error {
    Error::Invalid(vec![Violation::new("", Reason::FieldInvalid, "the request could not be read")])
}

/// A moment on the wire.
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(time)
}

/// A duration on the wire.
pub fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

/// Reads a moment.
///
/// # Errors
/// When it is outside the years 1 to 9999.
pub fn read_timestamp(time: prost_types::Timestamp, field: &str) -> Result<SystemTime, Violation> {
    let in_range =
        (-62_135_596_800..=253_402_300_799).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    let outside =
        || Violation::invalid(field, "a time must lie between the years 1 and 9999, nanos between 0 and 999999999");
    if !in_range {
        return Err(outside());
    }
    SystemTime::try_from(time).map_err(|_| outside())
}

/// Reads the period in which something is listed, `until` itself left out, noting every mistake.
pub fn read_period(
    from: Option<prost_types::Timestamp>,
    until: Option<prost_types::Timestamp>,
    violations: &mut Violations,
) -> (Option<SystemTime>, Option<SystemTime>) {
    let from = from.and_then(|time| violations.check(read_timestamp(time, "from_time")));
    let until = until.and_then(|time| violations.check(read_timestamp(time, "until_time")));
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        violations.add(Violation::invalid("until_time", "must be later than from_time"));
    }
    (from, until)
}

/// Reads a duration, zero or more.
///
/// # Errors
/// When it is negative or not normalised.
pub fn read_duration(duration: prost_types::Duration, field: &str) -> Result<Duration, Violation> {
    match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
        (Ok(seconds), Ok(nanos)) if seconds <= 315_576_000_000 && nanos < 1_000_000_000 => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(Violation::invalid(field, "a duration must not be negative, nor longer than 10,000 years")),
    }
}

/// The part of a resource name behind its collection: `vt` of `sources/vt`.
///
/// # Errors
/// When the name is not of that collection.
pub fn read_name(name: &str, collection: &str, field: &str) -> Result<String, Violation> {
    match name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if !rest.is_empty() && !rest.contains('/') && rest.len() <= LONGEST_NAME => Ok(rest.to_owned()),
        _ if name.is_empty() => {
            Err(Violation::new(field, Reason::FieldRequired, format!("a name is needed: {collection}/NAME")))
        }
        _ => Err(Violation::invalid(field, format!("{:?} is no name of the form {collection}/NAME", shorten(name)))),
    }
}

/// Reads the names of sources in the field `sources`, noting every one that has no right form or that nothing has.
pub fn read_sources(names: &[String], engine: &Engine, violations: &mut Violations) -> Vec<String> {
    let mut read = |(place, name): (usize, &String)| {
        let field = format!("sources[{place}]");
        let name = violations.check(read_name(name, "sources", &field))?;
        violations.resolve(&field, engine.registry().check(&name)).map(|()| name)
    };
    names.iter().enumerate().filter_map(&mut read).collect()
}

/// An enum number that this version does not know.
pub(crate) fn unknown_enum(number: i32, allowed: &str, field: &str) -> Violation {
    let message = format!("{number} is no value of this enum; known are {allowed}");
    Violation::new(field, Reason::EnumUnknown, message)
}

/// At most the first 100 characters, for a message.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_belong_to_its_collection() {
        assert_eq!(read_name("sources/vt", "sources", "name"), Ok("vt".into()));
        let long = format!("sources/{}", "a".repeat(20_000));
        for wrong in ["vt", "sources/", "sources/a/b", "verdicts/vt", &long] {
            let refused = read_name(wrong, "sources", "name").unwrap_err();
            assert!(refused.to_string().contains("sources/NAME"), "{refused}");
        }
        assert_eq!(read_name("", "sources", "name").unwrap_err().reason, Reason::FieldRequired);
    }

    #[test]
    fn what_does_not_exist_is_not_found_by_itself_and_told_with_its_field_beside_other_mistakes() {
        let missing = || Error::NotFound { reason: Reason::SourceNotFound, name: "sources/a".into(), hint: "-".into() };
        let mut violations = Violations::default();
        assert_eq!(violations.resolve::<()>("sources[0]", Err(missing())), None);
        assert_eq!(violations.finish(), Err(missing()));
        let mut violations = Violations::default();
        violations.resolve::<()>("sources[0]", Err(missing()));
        violations.add(Violation::invalid("tlp", "-"));
        let Err(Error::Invalid(told)) = violations.finish() else { panic!("two violations") };
        let told: Vec<_> = told.iter().map(|one| (one.field.as_str(), one.reason)).collect();
        assert_eq!(told, [("sources[0]", Reason::SourceNotFound), ("tlp", Reason::FieldInvalid)]);
    }

    #[test]
    fn durations_and_moments_out_of_range_are_refused_with_their_field() {
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert_eq!(read_duration(negative, "max_age").unwrap_err().field, "max_age");
        let late = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(read_timestamp(late, "from_time").unwrap_err().field, "from_time");
        let odd = prost_types::Timestamp { seconds: 0, nanos: -5 };
        assert!(read_timestamp(odd, "from_time").is_err());
    }
}
