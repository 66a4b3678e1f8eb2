//! Protobuf to our types and back, one file per proto file. Reading a request is pure and collects every violation with its
//! field path; whether what a request names exists is for the service to find out. Writing an answer cannot fail.

use std::time::{Duration, SystemTime};

use crate::error::{Error, Reason, Violation, merge_new};

/// Both directions between an enum of the protocol and ours, exhaustive in each. Reading gives `None` for the unspecified
/// value, and a violation that lists the allowed values for an unknown number.
macro_rules! convert_enum {
    // Only towards the protocol.
    ($write:ident: $wire:ident <=> $ours:ident { $($variant:ident),+ $(,)? }) => {
        pub fn $write(value: $ours) -> pb::$wire {
            match value {
                $($ours::$variant => pb::$wire::$variant,)+
            }
        }
    };
    ($read:ident, $write:ident: $wire:ident <=> $ours:ident { $($variant:ident),+ $(,)? }, $allowed:literal) => {
        pub fn $read(number: i32, field: &str) -> Result<Option<$ours>, Violation> {
            match pb::$wire::try_from(number) {
                Ok(pb::$wire::Unspecified) => Ok(None),
                $(Ok(pb::$wire::$variant) => Ok(Some($ours::$variant)),)+
                Err(_) => Err($crate::convert::unknown_enum(number, $allowed, field)),
            }
        }

        convert_enum!($write: $wire <=> $ours { $($variant),+ });
    };
}

pub mod comparison;
pub mod engines;
pub mod enrichment;
pub mod feedback;
pub mod history;
pub mod history_threshold;
pub mod indicator;
pub mod policy;
pub mod source;
pub mod submission;
pub mod verdict;

/// A longer name is not repeated in an error, which must fit into a header.
const MAX_NAME: usize = 128;
/// The most paths of a mask, and the most bytes of one.
const MOST_PATHS: usize = 200;
const LONGEST_PATH: usize = 256;

/// Every violation found in one request.
#[derive(Debug, Default)]
pub struct Violations(Vec<NotedViolation>);

#[derive(Debug)]
struct NotedViolation {
    violation: Violation,
    /// What the request fails with where this is its only violation.
    alone: Option<Error>,
}

impl Violations {
    pub fn add(&mut self, violation: Violation) {
        self.0.push(NotedViolation { violation, alone: None });
    }

    /// Adds the violations of a message that stands in the field `prefix`.
    pub fn add_nested(&mut self, inner: Self, prefix: &str) {
        self.0.extend(inner.0.into_iter().map(|mut noted| {
            noted.violation = noted.violation.nested_in(prefix);
            noted
        }));
    }

    /// The value, or `None` with its violation noted.
    pub fn check<T>(&mut self, read: Result<T, Violation>) -> Option<T> {
        read.map_err(|violation| self.add(violation)).ok()
    }

    /// The resource that the field names, or `None` with its absence noted: as the only violation it stays
    /// [`Error::NotFound`], among others it is a violation of the field.
    pub fn resolve<T>(&mut self, field: &str, found: Result<T, Error>) -> Option<T> {
        let missing = |error: Error| {
            let violation = Violation::new(field, error.reason(), error.to_string());
            self.0.push(NotedViolation { violation, alone: Some(error) });
        };
        found.map_err(missing).ok()
    }

    /// The result of judging a request in spite of its violations, so that all violations are reported at once: those noted
    /// and those it failed with. `field` is the one that may name what does not exist.
    ///
    /// # Errors
    /// As [`Self::finish`]; without a violation, what `judged` failed with.
    pub fn merge<T>(mut self, field: &str, judged: Result<T, Error>) -> Result<T, Error> {
        if self.0.is_empty() {
            return judged;
        }
        match judged {
            Err(Error::Invalid(more)) => {
                let mut violations = self.0.into_iter().map(|noted| noted.violation).collect();
                merge_new(&mut violations, more);
                return Err(Error::Invalid(violations));
            }
            Err(missing @ Error::NotFound { .. }) => drop(self.resolve::<T>(field, Err(missing))),
            // A failure that only a valid change meets is reported once it is valid.
            Ok(_) | Err(_) => {}
        }
        self.finish(None)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The paths of a mask in this field. One that is too large is noted and left out: each path that is no field is compared with
    /// the names of all fields.
    pub fn mask(&mut self, field: &'static str, mask: Option<prost_types::FieldMask>) -> Option<Vec<String>> {
        let paths = mask?.paths;
        if paths.len() <= MOST_PATHS && paths.iter().all(|path| path.len() <= LONGEST_PATH) {
            return Some(paths);
        }
        let message = format!("takes at most {MOST_PATHS} paths of at most {LONGEST_PATH} bytes");
        self.add(Violation::new(field, Reason::MaskInvalid, message));
        Some(Vec::new())
    }

    /// What was read, if there was no violation.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation, or the one failure that [`Self::resolve`] noted.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, Error> {
        match (self.0.as_slice(), read) {
            ([], Some(read)) => Ok(read),
            // This cannot happen as long as every reader notes what it refuses.
            ([], None) => Err(Error::invalid("", Reason::FieldInvalid, "the request could not be read")),
            ([NotedViolation { alone: Some(error), .. }], _) => Err(error.clone()),
            _ => Err(Error::Invalid(self.0.into_iter().map(|noted| noted.violation).collect())),
        }
    }
}

pub fn write_timestamp(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(time)
}

pub fn write_duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

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

/// Reads the period in which something is listed, `until` itself left out.
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

pub fn read_duration(duration: prost_types::Duration, field: &str) -> Result<Duration, Violation> {
    match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
        (Ok(seconds), Ok(nanos)) if seconds <= 315_576_000_000 && nanos < 1_000_000_000 => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(Violation::invalid(field, "a duration must not be negative, nor longer than 10,000 years")),
    }
}

/// The part of a resource name behind its collection: `vt` of `sources/vt`.
pub fn read_name(name: &str, collection: &str, field: &str) -> Result<String, Violation> {
    match name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if !rest.is_empty() && !rest.contains('/') && rest.len() <= MAX_NAME => Ok(rest.to_owned()),
        _ if name.is_empty() => {
            Err(Violation::new(field, Reason::FieldRequired, format!("a name is needed: {collection}/NAME")))
        }
        _ => Err(Violation::invalid(field, format!("{:?} is no name of the form {collection}/NAME", shorten(name)))),
    }
}

/// A well-formed name, with the path of the field that holds it: whether anything has this name is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedField {
    pub name: String,
    pub field: String,
}

/// Reads the names of sources in the repeated field `field`.
pub fn read_sources(names: &[String], field: &str, violations: &mut Violations) -> Vec<NamedField> {
    let read = |(place, name): (usize, &String)| {
        let field = format!("{field}[{place}]");
        let name = violations.check(read_name(name, "sources", &field))?;
        Some(NamedField { name, field })
    };
    names.iter().enumerate().filter_map(read).collect()
}

/// An enum number that this version does not know.
pub fn unknown_enum(number: i32, allowed: &str, field: &str) -> Violation {
    let message = format!("{number} is no value of this enum; known are {allowed}");
    Violation::new(field, Reason::EnumUnknown, message)
}

/// At most the first 100 characters, for a message.
pub fn shorten(text: &str) -> String {
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
    fn a_missing_resource_is_not_found_alone_and_a_violation_beside_other_violations() {
        let missing = || Error::NotFound { reason: Reason::SourceNotFound, name: "sources/a".into(), hint: "-".into() };
        let mut violations = Violations::default();
        assert_eq!(violations.resolve::<()>("sources[0]", Err(missing())), None);
        assert_eq!(violations.finish(Some(())), Err(missing()));
        let mut violations = Violations::default();
        violations.resolve::<()>("sources[0]", Err(missing()));
        violations.add(Violation::invalid("tlp", "-"));
        let Err(Error::Invalid(violations)) = violations.finish(Some(())) else { panic!("two violations") };
        let fields: Vec<_> = violations.iter().map(|violation| (violation.field.as_str(), violation.reason)).collect();
        assert_eq!(fields, [("sources[0]", Reason::SourceNotFound), ("tlp", Reason::FieldInvalid)]);
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
